// Every retry ends: random `retry` blocks are refused (E501, E503), or the real scheduler ends them within their bound,
// whatever fails and however often. A rule that is said to never fire (W502) never does, and any other one can.
// JOBC_BOUND_PLANS and JOBC_SEED as in bounds_property_test.
#include <cstdlib>
#include <set>

#include <gtest/gtest.h>

#include "compiler/bounds/bounds.h"
#include "compiler/bounds/retry_chain.h"
#include "compiler/check/check.h"
#include "compiler/diagnostics/render.h"
#include "compiler/lower/lower.h"
#include "runtime/retry.h"
#include "tests/bounds/player.h"

namespace jobc::testing {
namespace {

using ir::ErrorKind;

int64_t FromEnvironment(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : fallback;
}

/// One job; each rule of its `retry` stands on a line of its own, from kFirstRule on.
constexpr uint32_t kFirstRule = 8;
struct Source {
  std::string text;
  std::vector<std::string> rules;
};

Source RandomSource(Random& r) {
  const auto pick = [&](std::initializer_list<std::string_view> words) { return std::string(*(words.begin() + r.Below(static_cast<int64_t>(words.size())))); };
  const bool named = r.OneIn(3);
  const auto which = [&] {
    if (named && r.OneIn(8)) return std::string("\"bad-luck\"");
    return pick({"oom", "exit", "signal", "node_lost", "timeout", "idle_timeout", "queue_timeout", "network", "invalid_input", "publish", "system", "algorithm", "data"});
  };
  const auto backoff = [&] {
    return pick({"constant(1s)", "exponential(1s, factor = 2.0, max = 1m)", "exponential(30s, factor = 10.0)", "linear(5s, max = 20s)", "exponential(1s, factor = 2.0, max = 1m, jitter = full)"});
  };
  Source source;
  std::string& text = source.text;
  text = "edition = 1\njob j {\n";
  text += r.OneIn(5) ? "\n" : "  resources { memory = " + pick({"1GiB", "4GiB", "16GiB"}) + ", cpu = 1 }\n";
  text += "  timeout { run = " + pick({"10m", "1h"}) + (r.OneIn(3) ? ", queue = 5m" : "") + (r.OneIn(3) ? ", idle = 2m" : "") + (r.OneIn(4) ? ", total = 5h" : "") + " }\n";
  text += named ? "  errors { exit(3) => algorithm(\"bad-luck\", \"bad luck\") }\n" : "\n";
  text += r.OneIn(8) ? "  retry {\n" : fmt::format("  retry {{ max_attempts = {}\n", r.OneIn(6) ? 1 : r.OneIn(6) ? r.Between(10, 40) : r.Between(2, 6));
  text += "    " + (r.OneIn(2) ? "backoff = " + backoff() : std::string()) + "\n";
  std::set<std::string> labels;
  for (int64_t i = r.Below(4); i > 0; --i) {
    const std::string label = which();
    if (!labels.insert(label).second) continue;
    source.rules.push_back(label);
    text += "    on " + label + " {" + (r.OneIn(2) ? fmt::format(" retries = {}", r.Below(4)) : "");
    if (r.OneIn(4)) text += " delay = 5s";
    if (r.OneIn(2)) {
      text += " resources { memory = " + pick({"min(prev.memory * 2, 32GiB)", "min(prev.memory * 2, 4GiB)", "min(prev.memory + 1GiB, 8GiB)", "prev.memory * 2", "min(prev.memory / 2, 8GiB)",
                                               "min(max(prev.memory, 4GiB), 8GiB)", "8GiB", "attempt * 2GiB", "if attempt < 3 then 2GiB else 1GiB", "max(prev.memory, 2GiB)"}) + " }";
    }
    if (r.OneIn(4)) text += " timeout { run = " + pick({"min(prev.timeout.run * 2, 2h)", "prev.timeout.run + 1m", "min(prev.timeout.run, 30m)", "attempt * 10m"}) + " }";
    text += " }\n";
  }
  if (r.OneIn(2)) text += "    on = [" + which() + ", " + which() + "]\n";
  if (r.OneIn(4)) text += "    never = [" + which() + "]\n";
  text += "  }\n  run = [\"x\"]\n}\n";
  return source;
}

/// What can happen to an attempt of the job.
std::vector<Verdict> Failures(const ir::Job& job) {
  std::vector<Verdict> all;
  for (int k = 0; k < ir::kErrorKinds; ++k) {
    const auto kind = static_cast<ErrorKind>(k);
    if (kind == ErrorKind::Check || kind == ErrorKind::Expression || kind == ErrorKind::InvalidInput || kind == ErrorKind::Publish) continue;
    if (kind == ErrorKind::IdleTimeout && !job.timeout.idle.valid()) continue;
    all.push_back(Failed(kind, ""));
  }
  for (const ir::ErrorArm& arm : job.errors) {
    Verdict verdict = Failed(arm.kind, "");
    verdict.name = arm.name;
    verdict.error_class = arm.error_class;
    all.push_back(verdict);
  }
  return all;
}

/// All rules that some order of failures makes grant a retry.
void Granting(const ir::Plan& plan, ir::Evaluator& evaluator, ir::EvalContext& context, const std::vector<Verdict>& failures, const FailedAttempt& at, const GrantedRetries& granted,
              int depth, std::set<uint32_t>& rules) {
  if (depth == 0) return;
  const ir::Retry& retry = plan.jobs[0].retry;
  std::set<int> tried;
  for (const Verdict& verdict : failures) {
    if (!tried.insert(GoverningRule(verdict, retry)).second) continue;
    const Decision decision = Decide(verdict, at, granted, retry, plan.program, evaluator, context, 1);
    if (!decision.retry) continue;
    rules.insert(decision.rule);
    GrantedRetries more = granted;
    if (more.size() <= decision.rule) more.resize(decision.rule + 1);
    ++more[decision.rule];
    Granting(plan, evaluator, context, failures, {at.number + 1, decision.resources, decision.timeouts}, more, depth - 1, rules);
  }
}

TEST(Retries, EndOrAreRefused) {
  const int64_t count = FromEnvironment("JOBC_BOUND_PLANS", 4000) / 2;
  const uint64_t first = static_cast<uint64_t>(FromEnvironment("JOBC_SEED", 1));
  int64_t refused = 0, accepted = 0, dead_rules = 0, live_rules = 0, largest = 0;
  for (uint64_t seed = first; seed < first + static_cast<uint64_t>(count); ++seed) {
    Random r(seed);
    const Source source = RandomSource(r);
    SourceManager sources;
    const SourceId root = sources.Add("test.job", source.text);
    Diagnostics diags;
    Model model = Check(root, sources, diags);
    const std::string repeat = fmt::format("repeat with JOBC_BOUND_PLANS=2 JOBC_SEED={}\n{}{}", seed, source.text, RenderText(diags, sources, {}));
    std::set<uint32_t> dead;
    for (const Diagnostic& d : diags.all()) {
      if (d.kind->severity == Severity::Error) {
        ASSERT_TRUE(d.kind->code == std::string_view("E501") || d.kind->code == std::string_view("E503")) << repeat;
      }
      if (d.kind->name != std::string_view("RuleNeverFires")) continue;
      const uint32_t line = sources.Locate(root, d.primary.span.begin).line;
      if (line >= kFirstRule && line < kFirstRule + source.rules.size()) dead.insert(line - kFirstRule);
    }
    if (diags.has_errors()) {
      ++refused;
      continue;
    }
    ++accepted;
    std::optional<ir::Plan> plan = Lower(std::move(model), {}, sources, diags);
    ASSERT_TRUE(plan.has_value()) << repeat;
    const bounds::PlanBounds bounds = bounds::Bound(*plan);
    ASSERT_LE(bounds.attempts, plan->jobs[0].retry.max_attempts) << repeat;
    ASSERT_TRUE(bounds.time_ms.has_value()) << repeat;
    largest = std::max(largest, bounds.attempts);
    const std::vector<Verdict> failures = Failures(plan->jobs[0]);
    // Rules by what can happen.
    ir::Evaluator evaluator(plan->program);
    ir::EvalContext nothing;
    std::set<uint32_t> granting;
    Result<Resources> resources = EvaluateResources(plan->jobs[0].resources, evaluator, nothing);
    Result<Timeouts> timeouts = EvaluateTimeouts(plan->jobs[0].timeout, evaluator, nothing);
    ASSERT_TRUE(resources.ok() && timeouts.ok()) << repeat;
    Granting(*plan, evaluator, nothing, failures, {1, *resources, *timeouts}, {}, 4, granting);
    for (uint32_t rule = 0; rule < source.rules.size(); ++rule) {
      if (dead.count(rule) != 0) {
        ASSERT_EQ(granting.count(rule), 0u) << "`on " << source.rules[rule] << "` fires although it is said that it cannot; " << repeat;
        ++dead_rules;
      } else if (!bounds::OthersSet(plan->jobs[0].retry, plan->jobs[0].retry.rules[rule])) {
        ASSERT_EQ(granting.count(rule), 1u) << "`on " << source.rules[rule] << "` cannot fire, and nobody said so; " << repeat;
        ++live_rules;
      }
    }
    // The run itself: it always fails again. Limits are the scheduler's own.
    std::vector<Verdict> by_itself = failures;
    std::erase_if(by_itself, [](const Verdict& v) { return v.name.empty() && (v.kind == ErrorKind::Timeout || v.kind == ErrorKind::QueueTimeout || v.kind == ErrorKind::IdleTimeout); });
    for (int play = 0; play < 3; ++play) {
      const Player::Policy policy = [&](const StartAttempt& start) {
        Script script;
        script.end = r.OneIn(3) ? -1 : r.Between(0, start.timeouts.run.value_or(1000));
        if (start.timeouts.queue && r.OneIn(8)) script.start = script.end = -1;
        if (r.OneIn(4)) script.silent_from = script.start;
        script.verdict = r.Pick(by_itself);
        script.lag = r.Between(0, start.grace_ms);
        return script;
      };
      Player player(*plan, {}, fmt::format("run{}", play), policy, &r);
      ASSERT_EQ(player.Go(), "") << repeat;
      ASSERT_LE(player.Of({0, 0}).attempts, bounds.attempts) << repeat;
      ASSERT_LE(player.Of({0, 0}).time_ms, *bounds.jobs[0].time_ms) << repeat;
    }
  }
  fmt::print("{} retries refused, {} end within at most {} attempts; {} rules never fire, {} can\n", refused, accepted, largest, dead_rules, live_rules);
  if (count >= 500) {
    EXPECT_GT(refused, count / 10);
    EXPECT_GT(accepted, count / 4);
    EXPECT_GT(dead_rules, count / 20);
    EXPECT_GT(live_rules, count / 4);
  }
}

}  // namespace
}  // namespace jobc::testing
