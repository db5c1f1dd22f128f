// Nothing that can happen takes longer, tries more often or takes more slots than the bounds say, and for each instance
// and job something can happen that comes within 1 % of them. Random plans are executed by the real scheduler on a virtual
// clock. JOBC_BOUND_PLANS sets how many (default 4,000), JOBC_SEED the first seed; a failure
// names the seed to repeat it with.
#include <cstdlib>
#include <set>

#include <gtest/gtest.h>

#include "compiler/bounds/bounds.h"
#include "runtime/retry.h"
#include "tests/bounds/player.h"

namespace jobc::testing {
namespace {

using bounds::InstanceBounds;
using bounds::PlanBounds;
using ir::ErrorKind;

int64_t FromEnvironment(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : fallback;
}
int64_t Plans() { return FromEnvironment("JOBC_BOUND_PLANS", 4000); }
uint64_t FirstSeed() { return static_cast<uint64_t>(FromEnvironment("JOBC_SEED", 1)); }
std::string Repeat(uint64_t seed) { return fmt::format("repeat with JOBC_BOUND_PLANS=1 JOBC_SEED={}", seed); }

class VarContext : public ir::EvalContext {
 public:
  VarContext(const ir::Instances& instances, uint64_t ordinal) : instances_(instances), ordinal_(ordinal) {}
  bool Var(uint32_t slot, ir::Value& out, ir::Fault&) override {
    out = instances_.Var(ordinal_, slot);
    return true;
  }

 private:
  const ir::Instances& instances_;
  uint64_t ordinal_;
};

/// The bounds of a plan, and of its instances where they are known before the run.
struct Claimed {
  PlanBounds plan;
  std::map<InstanceRef, InstanceBounds> instances;
  std::vector<std::optional<ir::Instances>> expanded;

  explicit Claimed(const ir::Plan& p) : plan(bounds::Bound(p)) {
    ir::Evaluator evaluator(p.program);
    for (uint32_t j = 0; j < p.jobs.size(); ++j) {
      expanded.emplace_back();
      if (p.jobs[j].domain.dynamic) continue;
      ir::EvalContext nothing;
      Result<ir::Instances> all = ir::Instances::Expand(p, j, evaluator, nothing);
      if (!all.ok()) continue;
      expanded.back() = std::move(*all);
      for (uint32_t i = 0; i < expanded.back()->size(); ++i) {
        VarContext context(*expanded.back(), i);
        instances[{j, i}] = bounds::BoundInstance(p.jobs[j], evaluator, context);
      }
    }
  }
};

std::string Above(const std::string& what, int64_t measured, int64_t bound) {
  return measured > bound ? fmt::format("{}: {} is above the bound of {}", what, measured, bound) : "";
}

/// What a run did, against the bounds. Empty: all held.
std::string Violation(const ir::Plan& plan, Player& run, const Claimed& claimed, bool with_plan_time) {
  std::string wrong;
  const auto check = [&](const std::string& what, int64_t measured, const std::optional<int64_t>& bound) {
    if (wrong.empty() && bound) wrong = Above(what, measured, *bound);
  };
  std::vector<Measured> jobs(plan.jobs.size());
  int64_t attempts = 0;
  for (auto& [ref, track] : run.instances) {
    const Measured& m = track.measured;
    jobs[ref.job].attempts += m.attempts;
    jobs[ref.job].work_ms += m.work_ms;
    jobs[ref.job].time_ms = std::max(jobs[ref.job].time_ms, m.time_ms);
    check(fmt::format("attempts of {}/{}", ref.job, ref.ordinal), m.attempts, claimed.plan.jobs[ref.job].attempts_of_one);
    auto bound = claimed.instances.find(ref);
    if (bound == claimed.instances.end()) continue;
    check(fmt::format("attempts of {}/{}", ref.job, ref.ordinal), m.attempts, bound->second.attempts);
    check(fmt::format("time of {}/{}", ref.job, ref.ordinal), m.time_ms, bound->second.time_ms);
    check(fmt::format("work of {}/{}", ref.job, ref.ordinal), m.work_ms, bound->second.work_ms);
  }
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const bounds::JobBounds& b = claimed.plan.jobs[j];
    const std::string& name = plan.jobs[j].address;
    if (plan.jobs[j].kind == ir::JobKind::Job) attempts += jobs[j].attempts;
    check("attempts of " + name, jobs[j].attempts, b.attempts);
    check("time of " + name, jobs[j].time_ms, b.time_ms);
    check("work of " + name, jobs[j].work_ms, b.work_ms);
    check("instances at once of " + name, run.at_once_most[j], b.at_once);
    for (const auto& [pool, slots] : b.slots) check("slots of " + name, run.slots_most[j][pool], slots);
  }
  check("attempts of the run", attempts, claimed.plan.attempts);
  for (const auto& [pool, slots] : claimed.plan.slots) check(fmt::format("slots of pool {}", pool), run.pool_most[pool], slots);
  if (with_plan_time) check("time of the run", run.run_ms, claimed.plan.time_ms);
  return wrong;
}

/// Failures that a program or a backend can come to by itself; those of limits are jobc's own.
std::vector<Verdict> ByThemselves(const ir::Job& job) {
  std::vector<Verdict> all;
  for (int k = 0; k < ir::kErrorKinds; ++k) {
    const auto kind = static_cast<ErrorKind>(k);
    bool can = kind != ErrorKind::Check && kind != ErrorKind::Expression && kind != ErrorKind::InvalidInput && kind != ErrorKind::Publish && kind != ErrorKind::IdleTimeout;
    if (kind == ErrorKind::Timeout || kind == ErrorKind::QueueTimeout) can = job.kind != ir::JobKind::Hook && bounds::HasQueue(job.backend.kind);
    if (can) all.push_back(Failed(kind, ""));
  }
  for (const ir::ErrorArm& arm : job.errors) {
    Verdict verdict = Failed(arm.kind, "");
    verdict.name = arm.name;
    verdict.error_class = arm.error_class;
    all.push_back(verdict);
  }
  return all;
}

/// How long after the hand-over an attempt may start, at most.
int64_t LongestStart(const ir::Plan& plan, const ir::Job& job, const Timeouts& timeouts) {
  if (timeouts.queue) return *timeouts.queue;
  if (job.kind == ir::JobKind::Hook || job.backend.kind == ir::BackendKind::Process) return 0;
  int64_t sum = 0;
  for (int64_t k = 1; k < job.submit.max_attempts; ++k) {
    const ir::ExprId base = job.submit.backoff.base;
    sum += base.valid() ? plan.program.exprs.ConstValue(base).as_int() : 1000 << (k - 1);
  }
  return sum;
}

SchedulerOptions Options(const RandomPlan& plan, Random& r) {
  SchedulerOptions options;
  if (!plan.max_parallel_declared) options.max_parallel = static_cast<uint32_t>(r.Below(4));  // any is allowed, 0 is no limit
  return options;
}

// -- No execution exceeds a bound -------------------------------------------------------------------------------------

TEST(Bounds, AreNeverExceeded) {
  const int64_t count = Plans();
  double best = 0, sum = 0;
  int64_t bounded = 0;
  std::vector<double> ratios;
  std::string best_formula;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + static_cast<uint64_t>(count); ++seed) {
    Random r(seed);
    RandomPlan random(r, false);
    const ir::Plan& plan = random.b.plan;
    const Claimed claimed(plan);
    double worst = 0;
    for (int play = 0; play < 2; ++play) {
      // 0: everything as late as it may be; else by chance, more or less of it.
      const int64_t hurry = play == 0 ? 0 : r.Between(1, 3);
      const auto late = [&](int64_t most) { return hurry == 0 || r.OneIn(hurry + 1) ? most : r.OneIn(2) ? 0 : r.Between(0, most); };
      std::map<uint32_t, std::vector<Verdict>> failures;
      for (uint32_t j = 0; j < plan.jobs.size(); ++j) failures[j] = ByThemselves(plan.jobs[j]);
      Player::Policy policy = [&](const StartAttempt& start) {
        const ir::Job& job = plan.jobs[start.instance.job];
        Script script;
        script.start = late(LongestStart(plan, job, start.timeouts));
        if (start.timeouts.queue && r.OneIn(6)) script.start = -1;
        script.lag = late(start.grace_ms);
        const int64_t run = start.timeouts.run.value_or(start.timeouts.total ? *start.timeouts.total + 1 : 2000);
        const bool endless = start.timeouts.run || start.timeouts.total;
        if (script.start >= 0 && (!endless || !r.OneIn(4))) script.end = script.start + late(run);
        if (r.OneIn(4)) script.silent_from = r.Between(0, run);
        if (!r.OneIn(4)) script.verdict = r.Pick(failures[start.instance.job]);
        if (script.verdict.kind == ErrorKind::Cancelled && !script.verdict.success && !r.OneIn(4)) script.verdict = Succeeded();
        return script;
      };
      Player player(plan, Options(random, r), fmt::format("run{}", r.Below(1000)), policy, &r);
      if (r.OneIn(10)) {
        player.meddle = [&](Scheduler& scheduler, int64_t now) {
          if (!r.OneIn(60)) return;
          if (r.OneIn(2)) scheduler.CancelRun(r.OneIn(3), "interrupted", now);
          else scheduler.CancelJob(static_cast<uint32_t>(r.Below(static_cast<int64_t>(plan.jobs.size()))), "cancelled", now);
        };
      }
      ASSERT_EQ(player.Go(), "") << Repeat(seed);
      ASSERT_EQ(Violation(plan, player, claimed, true), "") << Repeat(seed) << "\n" << bounds::BoundsText(plan, claimed.plan);
      if (claimed.plan.time_ms && *claimed.plan.time_ms > 0) worst = std::max(worst, static_cast<double>(player.run_ms) / static_cast<double>(*claimed.plan.time_ms));
    }
    if (!claimed.plan.time_ms || *claimed.plan.time_ms == 0) continue;
    ++bounded;
    sum += worst;
    ratios.push_back(worst);
    if (worst > best && !claimed.plan.by_limit && claimed.plan.contentions.size() > 1) {
      best = worst;
      const std::string text = bounds::BoundsText(plan, claimed.plan);
      best_formula = text.substr(text.find("\nthe run") + 1);
    }
  }
  if (ratios.empty()) return;
  std::sort(ratios.begin(), ratios.end());
  fmt::print("worst schedule found / bound of the run: median {:.2f}, mean {:.2f}, largest {:.3f}, over {} plans with a bound\n", ratios[ratios.size() / 2], sum / static_cast<double>(bounded),
             ratios.back(), bounded);
  if (!best_formula.empty()) fmt::print("closest with several limits, {:.3f}: {}", best, best_formula);
  if (count >= 1000) {
    EXPECT_GT(bounded, count / 2) << "the test has lost its point";
    EXPECT_GT(ratios.back(), 0.99);
  }
}

// -- Bounds of instances and jobs are reached -------------------------------------------------------------------------

/// A way to the worst, found by trying everything with the functions that decide in the real run.
class Adversary {
 public:
  std::vector<Script> best;
  int64_t value = -1;
  std::vector<int64_t> jittered;  ///< attempts after which the wait is drawn, for the best

  Adversary(const ir::Plan& plan, uint32_t job, ir::EvalContext& context, bool attempts, const std::string& run_id)
      : plan_(plan), job_(plan.jobs[job]), evaluator_(plan.program), context_(context), attempts_(attempts), run_id_(run_id), retry_(job_.retry) {
    // The longest wait is drawn later, by the choice of the run's id.
    retry_.backoff.full_jitter = false;
    for (ir::RetryRule& rule : retry_.rules) {
      if (rule.backoff) rule.backoff->full_jitter = false;
    }
    if (job_.grace.valid()) {
      ir::Value value;
      evaluator_.Evaluate(job_.grace, context_, value);
      grace_ = value.as_int();
    }
    std::set<std::pair<int, int>> seen;
    const auto add = [&](Verdict verdict, Way way) {
      const int rule = GoverningRule(verdict, job_.retry);
      if (rule >= 0 && seen.insert({rule, static_cast<int>(way)}).second) choices_.push_back({std::move(verdict), way});
    };
    for (Verdict& verdict : ByThemselves(job_)) add(std::move(verdict), Way::Free);
    add(Failed(ErrorKind::Timeout, ""), Way::Run);
    add(Failed(ErrorKind::IdleTimeout, ""), Way::Idle);
    add(Failed(ErrorKind::QueueTimeout, ""), Way::Queue);
    Result<Resources> resources = EvaluateResources(job_.resources, evaluator_, context_);
    Result<Timeouts> timeouts = EvaluateTimeouts(job_.timeout, evaluator_, context_);
    if (!resources || !timeouts) return;
    if (job_.kind != ir::JobKind::Job && !timeouts->run) timeouts->run = 600'000;
    Try({1, *resources, *timeouts}, {}, 0);
  }

 private:
  enum class Way : uint8_t { Free, Run, Idle, Queue };
  struct Choice {
    Verdict verdict;
    Way way;
  };

  void Done(int64_t reached, Script last) {
    if (reached <= value) return;
    value = reached;
    best = path_;
    best.push_back(std::move(last));
    jittered = drawn_;
  }

  void Try(const FailedAttempt& at, const GrantedRetries& granted, int64_t used) {
    const int64_t wait = LongestStart(plan_, job_, at.timeouts);
    constexpr int64_t kForever = INT64_MAX / 4;
    const int64_t run = at.timeouts.run.value_or(kForever), total = std::max(at.timeouts.total.value_or(kForever), used);
    // The last one: as long as it may be, or over at once.
    Script last;
    if (attempts_) {
      last.end = 0;
      Done(at.number, last);
    } else {
      if (run == kForever && total == kForever) return;  // no bound
      last.start = wait;
      last.lag = grace_;
      Done(std::min(used + wait + run, total) + grace_, last);
    }
    for (const Choice& choice : choices_) {
      int64_t soon = 0, late = wait + run;
      bool before_total = false;
      const int64_t lag = choice.way == Way::Free ? 0 : grace_;
      if (choice.way == Way::Run) {
        if (!at.timeouts.run) continue;
        soon = run;
        before_total = true;
      } else if (choice.way == Way::Idle) {
        if (!at.timeouts.idle || *at.timeouts.idle >= run) continue;
        soon = *at.timeouts.idle;
        late = wait + run - 1;
        before_total = true;
      } else if (choice.way == Way::Queue) {
        if (!at.timeouts.queue) continue;
        soon = late = wait;
      }
      late = std::min(late, (before_total ? total - 1 : total) - used);
      if (late < soon) continue;
      const Decision decision = Decide(choice.verdict, at, granted, retry_, plan_.program, evaluator_, context_, JitterSeed(run_id_, "", at.number));
      if (!decision.retry) continue;
      const int64_t after = decision.timeouts.total ? *decision.timeouts.total - used : kForever;
      // Where there is a `total`, an attempt that is over soon may leave the time that another one needs to begin; it then
      // ends at `total` and has its grace beyond that.
      Follow(at, granted, used, choice, decision, {soon, attempts_ ? soon : late, wait, lag, after});
      if (!attempts_ && soon < late && decision.timeouts.total) Follow(at, granted, used, choice, decision, {soon, soon, wait, lag, after});
    }
  }

  struct Span {
    int64_t soon, late, wait, lag, after;  ///< since the hand-over, but `wait` and `lag`
  };

  /// The attempt ends in that way within the span, and another one follows.
  void Follow(const FailedAttempt& at, const GrantedRetries& granted, int64_t used, const Choice& choice, const Decision& decision, const Span& span) {
    const auto [soon, late, wait, lag, after] = span;
    int64_t took = late, gap = attempts_ ? decision.delay_ms : std::max(decision.delay_ms, lag);
    if (took + gap > std::max(after, took)) {
      if (!attempts_) {
        // `total` may end it while it waits.
        path_.push_back(Ends(choice, at.timeouts, took, wait, lag));
        Done(used + std::max(after, took), Script{});
        path_.pop_back();
      }
      took = std::max(soon, std::min(late, after - decision.delay_ms));
      gap = std::max(decision.delay_ms, std::min(gap, after - took));
      if (took + gap > std::max(after, took)) return;
    }
    const bool drawn = !attempts_ && Jitters(choice.verdict);
    if (drawn) drawn_.push_back(at.number);
    path_.push_back(Ends(choice, at.timeouts, took, wait, std::min(lag, gap)));
    GrantedRetries more = granted;
    if (more.size() <= decision.rule) more.resize(decision.rule + 1);
    ++more[decision.rule];
    Try({at.number + 1, decision.resources, decision.timeouts}, more, used + took + gap);
    path_.pop_back();
    if (drawn) drawn_.pop_back();
  }

  bool Jitters(const Verdict& verdict) const {
    const int rule = GoverningRule(verdict, job_.retry);
    if (rule < static_cast<int>(job_.retry.rules.size())) {
      const ir::RetryRule& r = job_.retry.rules[static_cast<size_t>(rule)];
      if (r.delay.valid()) return false;
      if (r.backoff) return r.backoff->full_jitter;
    }
    return job_.retry.backoff.full_jitter;
  }

  /// An attempt that fails in that way `took` after its hand-over.
  static Script Ends(const Choice& choice, const Timeouts& timeouts, int64_t took, int64_t wait, int64_t lag) {
    Script script;
    script.lag = lag;
    script.verdict = choice.verdict;
    switch (choice.way) {
      case Way::Free:
        script.start = std::min(wait, took);
        script.end = took;
        break;
      case Way::Run: script.start = took - *timeouts.run; break;
      case Way::Idle:
        script.silent_from = took - *timeouts.idle;
        script.start = std::min(wait, script.silent_from);
        break;
      case Way::Queue: script.start = -1; break;
    }
    return script;
  }

  const ir::Plan& plan_;
  const ir::Job& job_;
  ir::Evaluator evaluator_;
  ir::EvalContext& context_;
  bool attempts_;
  std::string run_id_;
  ir::Retry retry_;
  int64_t grace_ = 10'000;
  std::vector<Choice> choices_;
  std::vector<Script> path_;
  std::vector<int64_t> drawn_;
};

/// A run id for which the waits drawn after these attempts are nearly as long as they can be.
std::string RunId(const std::string& address, const std::vector<int64_t>& jittered) {
  if (jittered.empty()) return "run";
  PlanBuilder b;
  const ir::Backoff backoff{ir::Backoff::Kind::Constant, b.Ms(1'000'000), {}, 2.0, true};
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext nothing;
  std::string best;
  int64_t most = -1;
  for (int i = 0; i < 40'000 && most < 993'000; ++i) {
    const std::string id = fmt::format("run{}", i);
    int64_t least = INT64_MAX;
    for (const int64_t attempt : jittered) {
      int64_t delay = 0;
      BackoffDelay(backoff, 1, JitterSeed(id, address, static_cast<uint32_t>(attempt)), evaluator, nothing, delay);
      least = std::min(least, delay);
      if (least <= most) break;
    }
    if (least <= most) continue;
    most = least;
    best = id;
  }
  return best;
}

/// Which instances can run at the same time, by trying all sets: the most of them, and the most slots of each pool.
struct Sets {
  std::vector<InstanceRef> most;
  std::map<uint32_t, std::pair<int64_t, std::vector<InstanceRef>>> slots;
};

Sets TrySets(const ir::Plan& plan, uint32_t job, const std::vector<InstanceRef>& running, const Claimed& claimed, bool declared) {
  const auto constant = [&](ir::ExprId id) { return plan.program.exprs.ConstValue(id).as_int(); };
  int64_t places = INT64_MAX;
  if (declared) places = constant(plan.max_parallel);
  for (const ir::NamedExpr& option : plan.jobs[job].backend.options) places = std::min(places, constant(option.value));
  Sets out;
  for (uint32_t set = 0; set < (1u << running.size()); ++set) {
    std::vector<InstanceRef> members;
    std::map<uint32_t, int64_t> taken;
    for (size_t i = 0; i < running.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      members.push_back(running[i]);
      for (const auto& [pool, n] : claimed.instances.at(running[i]).slots) taken[pool] += n;
    }
    bool fits = static_cast<int64_t>(members.size()) <= places;
    for (const auto& [pool, n] : taken) fits = fits && n <= constant(plan.pools[pool].slots);
    if (!fits) continue;
    if (members.size() > out.most.size()) out.most = members;
    for (const auto& [pool, n] : taken) {
      auto& best = out.slots[pool];
      if (n > best.first) best = {n, members};
    }
  }
  return out;
}

TEST(Bounds, AreReachedByInstancesAndJobs) {
  const int64_t count = std::max<int64_t>(1, Plans() / 6);
  int64_t times = 0, attempts = 0, slots = 0, caught = 0, exact = 0;
  double least = 1;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + static_cast<uint64_t>(count); ++seed) {
    Random r(seed);
    RandomPlan random(r, true);
    const ir::Plan& plan = random.b.plan;
    const Claimed claimed(plan);
    const auto play = [&](const std::string& run_id, const Player::Policy& policy, size_t hold) {
      auto player = std::make_unique<Player>(plan, SchedulerOptions{}, run_id, policy, nullptr);
      player->hold_until = hold;
      EXPECT_EQ(player->Go(), "") << Repeat(seed);
      EXPECT_EQ(Violation(plan, *player, claimed, true), "") << Repeat(seed);
      return player;
    };
    Script at_once;
    at_once.end = 0;
    for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
      const ir::Job& job = plan.jobs[j];
      if (job.kind == ir::JobKind::Check) continue;
      const bounds::JobBounds& b = claimed.plan.jobs[j];
      ir::EvalContext nothing;
      ir::Evaluator evaluator(plan.program);
      std::vector<InstanceRef> running;
      std::map<InstanceRef, std::vector<Script>> tries;
      for (uint32_t i = 0; i < b.instances; ++i) {
        std::optional<VarContext> vars;
        if (claimed.expanded[j]) vars.emplace(*claimed.expanded[j], i);
        ir::EvalContext& context = vars ? static_cast<ir::EvalContext&>(*vars) : nothing;
        ir::Value guard;
        if (job.when.valid() && (!evaluator.Evaluate(job.when, context, guard) || !guard.as_bool())) continue;
        const InstanceRef ref{j, i};
        running.push_back(ref);
        InstanceBounds one;
        if (vars) {
          one = claimed.instances.at(ref);
        } else {
          one.attempts = b.attempts_of_one;
          one.time_ms = b.time_ms;
        }
        // Attempts.
        Adversary often(plan, j, context, true, "run");
        ASSERT_EQ(often.value, one.attempts) << "attempts of " << job.address << " " << i << ", " << Repeat(seed);
        tries[ref] = often.best;
        // Time.
        if (!one.time_ms) continue;
        Adversary slow(plan, j, context, false, "run");
        const std::string address = vars ? claimed.expanded[j]->Address(i) : ir::FormatAddress(job.address, {std::to_string(i)});
        auto player = play(RunId(address, slow.jittered), [&](const StartAttempt& start) {
          if (start.instance != ref) return at_once;
          return start.number <= slow.best.size() ? slow.best[start.number - 1] : Script{};
        }, 0);
        if (HasFailure()) return;
        const int64_t measured = player->Of(ref).time_ms;
        ASSERT_GE(measured, *one.time_ms - *one.time_ms / 100 - 1) << "time of " << job.address << " " << i << ", " << slow.best.size() << " attempts, " << Repeat(seed);
        ++times;
        exact += measured == *one.time_ms;
        if (*one.time_ms > 0) least = std::min(least, static_cast<double>(measured) / static_cast<double>(*one.time_ms));
        // A bound that is 2 % too small is seen.
        if (*one.time_ms >= 200) {
          ASSERT_NE(Above("", measured, *one.time_ms - *one.time_ms / 50), "") << Repeat(seed);
          Claimed wrong = claimed;
          if (vars) wrong.instances[ref].time_ms = *one.time_ms - *one.time_ms / 50;
          else wrong.plan.jobs[j].time_ms = *one.time_ms - *one.time_ms / 50;
          ASSERT_NE(Violation(plan, *player, wrong, true), "") << Repeat(seed);
          ++caught;
        }
      }
      if (running.empty()) {
        ASSERT_EQ(b.attempts, 0) << Repeat(seed);
        continue;
      }
      // All instances of the job together.
      auto all = play("run", [&](const StartAttempt& start) {
        auto mine = tries.find(start.instance);
        return mine != tries.end() && start.number <= mine->second.size() ? mine->second[start.number - 1] : at_once;
      }, 0);
      if (HasFailure()) return;
      int64_t sum = 0;
      for (const InstanceRef ref : running) sum += all->Of(ref).attempts;
      ASSERT_EQ(sum, b.attempts) << "attempts of all of " << job.address << ", " << Repeat(seed);
      ++attempts;
      Claimed fewer = claimed;
      --fewer.plan.jobs[j].attempts;
      ASSERT_NE(Violation(plan, *all, fewer, true), "") << Repeat(seed);
      // Slots.
      if (!claimed.expanded[j] || job.kind != ir::JobKind::Job) continue;
      const Sets sets = TrySets(plan, j, running, claimed, random.max_parallel_declared);
      const auto together = [&](const std::vector<InstanceRef>& members) {
        return play("run", [&](const StartAttempt& start) {
          Script script = at_once;
          if (std::find(members.begin(), members.end(), start.instance) == members.end()) return script;
          script.hold = true;
          script.end = -1;
          return script;
        }, members.size());
      };
      ASSERT_EQ(together(sets.most)->at_once_most[j], b.at_once) << "at once of " << job.address << ", " << Repeat(seed);
      for (const auto& [pool, bound] : b.slots) {
        auto best = sets.slots.find(pool);
        auto player = together(best == sets.slots.end() ? std::vector<InstanceRef>{} : best->second.second);
        if (HasFailure()) return;
        ASSERT_EQ(player->slots_most[j][pool], bound) << "slots of " << job.address << ", " << Repeat(seed);
        ++slots;
        if (bound == 0) continue;
        Claimed wrong = claimed;
        for (auto& [p, n] : wrong.plan.jobs[j].slots) n -= p == pool ? 1 : 0;
        ASSERT_NE(Violation(plan, *player, wrong, true), "") << Repeat(seed);
      }
    }
  }
  fmt::print("reached: {} bounds on time (least {:.4f}, {} to the millisecond), {} on attempts, {} on slots; {} bounds made 2 % smaller were all seen\n", times, least, exact, attempts, slots, caught);
  if (count >= 300) {
    EXPECT_GT(times, count);
    EXPECT_GT(slots, count / 2);
  }
}

}  // namespace
}  // namespace jobc::testing
