#include "runtime/retry.h"

#include <cmath>
#include <unordered_set>

#include <fmt/format.h>

namespace jobc {
namespace {

using ir::ErrorKind;
using ir::Fact;

bool Holds(const Fact& fact, const AttemptFacts& facts) {
  switch (fact.kind) {
    case Fact::Kind::Exit: {
      int code = facts.exit_code ? *facts.exit_code : facts.signal ? 128 + *facts.signal : -1;
      return code >= fact.low && code <= fact.high;
    }
    case Fact::Kind::Signal:
      return facts.signal ? *facts.signal == fact.low : facts.exit_code && *facts.exit_code == 128 + fact.low;
    case Fact::Kind::Stdout: return facts.logs && facts.logs->Search(LogStream::Stdout, fact.pattern);
    case Fact::Kind::Stderr: return facts.logs && facts.logs->Search(LogStream::Stderr, fact.pattern);
    case Fact::Kind::And:
      for (const Fact& operand : fact.operands) {
        if (!Holds(operand, facts)) return false;
      }
      return true;
    case Fact::Kind::Or:
      for (const Fact& operand : fact.operands) {
        if (Holds(operand, facts)) return true;
      }
      return false;
    case Fact::Kind::Not: return !fact.operands.empty() && !Holds(fact.operands[0], facts);
  }
  JOBC_UNREACHABLE();
}

/// Whether the arm speaks about exit 0 at all.
bool NamesExitZero(const Fact& fact) {
  if (fact.kind == Fact::Kind::Exit) return fact.low <= 0 && fact.high >= 0;
  for (const Fact& operand : fact.operands) {
    if (NamesExitZero(operand)) return true;
  }
  return false;
}

std::string Ended(const AttemptFacts& facts) {
  if (facts.signal) return fmt::format("was ended by signal {}", *facts.signal);
  int code = facts.exit_code.value_or(-1);
  if (code == 126) return "exit code 126: the command was found but could not be executed";
  if (code == 127) return "exit code 127: the command was not found";
  return fmt::format("exit code {}", code);
}

/// 3 name, 2 kind, 1 class, 0 no match.
int Specificity(const ir::Matcher& matcher, const Verdict& verdict) {
  if (!matcher.name.empty()) return matcher.name == verdict.name ? 3 : 0;
  if (matcher.kind) return *matcher.kind == verdict.kind ? 2 : 0;
  if (matcher.error_class) return *matcher.error_class == verdict.error_class ? 1 : 0;
  return 0;
}

int Best(const std::vector<ir::Matcher>& matchers, const Verdict& verdict) {
  int best = 0;
  for (const ir::Matcher& matcher : matchers) best = std::max(best, Specificity(matcher, verdict));
  return best;
}

uint64_t Mix(uint64_t x) {  // splitmix64 (Steele, Lea, Flood 2014)
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Any context, with `attempt` and `prev.*` of a retry.
class OverlayContext : public ir::EvalContext {
 public:
  OverlayContext(ir::EvalContext& base, const FailedAttempt& failed) : base_(base), failed_(failed) {}

  bool Attempt(ir::Value& out, ir::Fault&) override {
    out = ir::Value::Int(int64_t{failed_.number} + 1);
    return true;
  }
  bool Prev(ir::PrevKind kind, ir::Value& out, ir::Fault& fault) override {
    const Timeouts& t = failed_.timeouts;
    const char* name = "";
    auto duration = [&](const std::optional<int64_t>& ms, const char* what) {
      name = what;
      if (ms) out = ir::Value::Duration(*ms);
    };
    auto resource = [&](ir::ResourceKind which, const char* what) {
      name = what;
      out = ResourceValue(failed_.resources, which);
    };
    out = ir::Value();
    switch (kind) {
      case ir::PrevKind::Cpu: resource(ir::ResourceKind::Cpu, "cpu"); break;
      case ir::PrevKind::Memory: resource(ir::ResourceKind::Memory, "memory"); break;
      case ir::PrevKind::Disk: resource(ir::ResourceKind::Disk, "disk"); break;
      case ir::PrevKind::Gpu: resource(ir::ResourceKind::Gpu, "gpu"); break;
      case ir::PrevKind::Spot: resource(ir::ResourceKind::Spot, "spot"); break;
      case ir::PrevKind::TimeoutQueue: duration(t.queue, "timeout.queue"); break;
      case ir::PrevKind::TimeoutRun: duration(t.run, "timeout.run"); break;
      case ir::PrevKind::TimeoutIdle: duration(t.idle, "timeout.idle"); break;
    }
    if (!out.is_null()) return true;
    fault.kind = ir::FaultKind::Null;
    fault.message = fmt::format("`prev.{0}` has no value: the failed attempt had no `{0}`", name);
    return false;
  }

  bool Var(uint32_t slot, ir::Value& out, ir::Fault& fault) override { return base_.Var(slot, out, fault); }
  bool Input(uint32_t index, ir::Value& out, ir::Fault& fault) override { return base_.Input(index, out, fault); }
  bool Resource(ir::ResourceKind kind, ir::Value& out, ir::Fault& fault) override {
    return base_.Resource(kind, out, fault);
  }
  bool JobOutput(uint32_t job, uint32_t output, const ir::ListValue& indices, ir::Value& out,
                 ir::Fault& fault) override {
    return base_.JobOutput(job, output, indices, out, fault);
  }
  bool JobStatus(uint32_t job, ir::StatusField field, const ir::ListValue& indices, ir::Value& out,
                 ir::Fault& fault) override {
    return base_.JobStatus(job, field, indices, out, fault);
  }
  bool ScatterStatus(uint32_t job, ir::StatusField field, ir::Value& out, ir::Fault& fault) override {
    return base_.ScatterStatus(job, field, out, fault);
  }
  bool Instances(uint32_t job, const ir::ListValue& indices, ir::Value& out, ir::Fault& fault) override {
    return base_.Instances(job, indices, out, fault);
  }
  bool InstanceOutput(const ir::Value& instance, uint32_t output, ir::Value& out, ir::Fault& fault) override {
    return base_.InstanceOutput(instance, output, out, fault);
  }
  bool InstanceStatus(const ir::Value& instance, ir::StatusField field, ir::Value& out, ir::Fault& fault) override {
    return base_.InstanceStatus(instance, field, out, fault);
  }
  bool InstanceKey(const ir::Value& instance, ir::Value& out, ir::Fault& fault) override {
    return base_.InstanceKey(instance, out, fault);
  }
  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    return base_.FileSize(file, out, fault);
  }
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    return base_.FileSha256(file, out, fault);
  }
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) override {
    return base_.FileText(file, out, fault);
  }

 private:
  ir::EvalContext& base_;
  const FailedAttempt& failed_;
};

/// Whether the expression uses `prev.*`: then it is a growth step, not a new setting.
bool Grows(const ir::Program& program, ir::ExprId root) {
  std::vector<ir::ExprId> todo{root};
  std::unordered_set<uint32_t> seen;
  while (!todo.empty()) {
    ir::ExprId id = todo.back();
    todo.pop_back();
    if (!id.valid() || !seen.insert(id.index).second) continue;
    const ir::Expr& e = program.exprs[id];
    if (e.op == ir::Op::Prev) return true;
    if (e.op == ir::Op::Let) todo.push_back(program.lets[e.a].value);
    for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(program.exprs.arg(e, i));
  }
  return false;
}

struct Problem {
  std::string text;
};

/// Evaluates `id` if given; null leaves `out` as it is.
template <typename T, typename Convert>
bool EvaluateInto(ir::ExprId id, const char* name, ir::Evaluator& evaluator, ir::EvalContext& context,
                  std::optional<T>& out, Problem& problem, Convert convert) {
  if (!id.valid()) return true;
  ir::Value value;
  if (!evaluator.Evaluate(id, context, value)) {
    problem.text = fmt::format("`{}`: {}", name, evaluator.fault().message);
    return false;
  }
  if (value.is_null()) return true;
  T converted = convert(value);
  if constexpr (!std::is_same_v<T, bool>) {
    bool is_timeout = std::string_view(name).substr(0, 7) == "timeout";
    if (converted < 0 || (is_timeout && converted == 0)) {
      problem.text = fmt::format("`{}` is {}, it must {}", name,
                                 is_timeout ? ir::DurationText(converted) : fmt::format("{}", value.as_float()),
                                 is_timeout ? "be longer than 0s" : "not be negative");
      return false;
    }
  }
  out = converted;
  return true;
}

int64_t AsInt(const ir::Value& value) {
  return value.kind() == ir::ValueKind::Float ? std::llround(value.as_float()) : value.as_int();
}

bool OverlayResources(const ir::ResourceSpec& spec, ir::Evaluator& evaluator, ir::EvalContext& context, Resources& out,
                      Problem& problem) {
  auto milli = [](const ir::Value& v) { return static_cast<int64_t>(std::llround(v.as_float() * 1000)); };
  auto boolean = [](const ir::Value& v) { return v.as_bool(); };
  return EvaluateInto(spec.cpu, "resources.cpu", evaluator, context, out.cpu_milli, problem, milli) &&
         EvaluateInto(spec.memory, "resources.memory", evaluator, context, out.memory, problem, AsInt) &&
         EvaluateInto(spec.disk, "resources.disk", evaluator, context, out.disk, problem, AsInt) &&
         EvaluateInto(spec.gpu, "resources.gpu", evaluator, context, out.gpu, problem, AsInt) &&
         EvaluateInto(spec.spot, "resources.spot", evaluator, context, out.spot, problem, boolean);
}

bool OverlayTimeouts(const ir::TimeoutSpec& spec, ir::Evaluator& evaluator, ir::EvalContext& context, Timeouts& out,
                     Problem& problem) {
  return EvaluateInto(spec.queue, "timeout.queue", evaluator, context, out.queue, problem, AsInt) &&
         EvaluateInto(spec.run, "timeout.run", evaluator, context, out.run, problem, AsInt) &&
         EvaluateInto(spec.total, "timeout.total", evaluator, context, out.total, problem, AsInt) &&
         EvaluateInto(spec.idle, "timeout.idle", evaluator, context, out.idle, problem, AsInt) &&
         EvaluateInto(spec.stage, "timeout.stage", evaluator, context, out.stage, problem, AsInt) &&
         EvaluateInto(spec.collect, "timeout.collect", evaluator, context, out.collect, problem, AsInt);
}

}  // namespace

Verdict Resolve(const AttemptFacts& facts, const std::vector<ir::ErrorArm>& arms) {
  const bool zero = facts.exit_code == 0 && !facts.signal;
  Verdict verdict;
  verdict.exit_code = facts.exit_code;
  verdict.signal = facts.signal;
  for (const ir::ErrorArm& arm : arms) {
    if (zero && !NamesExitZero(arm.fact)) continue;
    if (!Holds(arm.fact, facts)) continue;
    verdict.success = arm.success;
    if (arm.success) return verdict;
    verdict.kind = arm.kind;
    verdict.error_class = arm.error_class;
    verdict.name = arm.name;
    verdict.title = arm.title;
    verdict.message = arm.title.empty() ? Ended(facts) : fmt::format("{} ({})", arm.title, Ended(facts));
    return verdict;
  }
  if (zero) {
    verdict.success = true;
    return verdict;
  }
  verdict.kind = facts.signal                                       ? ErrorKind::Signal
                 : facts.exit_code == 126 || facts.exit_code == 127 ? ErrorKind::Command
                                                                    : ErrorKind::Exit;
  verdict.error_class = ir::ClassOf(verdict.kind);
  verdict.message = Ended(facts);
  return verdict;
}

int GoverningRule(const Verdict& verdict, const ir::Retry& retry) {
  if (verdict.success || verdict.no_retry || verdict.kind == ErrorKind::Cancelled || verdict.kind == ErrorKind::Check ||
      verdict.kind == ErrorKind::Expression) {
    return -1;
  }
  if (Best(retry.never, verdict) > 0) return -1;
  int best = 0, rule = -1;
  for (size_t i = 0; i < retry.rules.size(); ++i) {
    int match = Best(retry.rules[i].matchers, verdict);
    if (match > best) {
      best = match;
      rule = static_cast<int>(i);
    }
  }
  int fallback = retry.has_on ? Best(retry.on, verdict) : verdict.error_class == ir::ErrorClass::System ? 1 : 0;
  if (fallback > best) rule = static_cast<int>(retry.rules.size());
  return rule;
}

/// Why an error that could be retried is not, where the job asks for retries at all; else empty.
static std::string WhyNoRule(const Verdict& verdict, const ir::Retry& retry) {
  if (retry.max_attempts <= 1 || verdict.success || verdict.no_retry || verdict.kind == ErrorKind::Cancelled ||
      verdict.kind == ErrorKind::Check || verdict.kind == ErrorKind::Expression) {
    return "";
  }
  if (Best(retry.never, verdict) > 0) return fmt::format("not retried: `never` names `{}`", ErrorName(verdict));
  if (!retry.has_on && retry.rules.empty()) {
    return fmt::format("not retried: without `on`, `retry` is for errors of class `system`; `on = [{}]` is for this one",
                       ErrorName(verdict));
  }
  return fmt::format("not retried: nothing in its `retry` names `{}`", ErrorName(verdict));
}

uint64_t JitterSeed(std::string_view run_id, std::string_view address, uint32_t attempt) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3; };
  for (char c : run_id) add(static_cast<unsigned char>(c));
  add(0);
  for (char c : address) add(static_cast<unsigned char>(c));
  add(0);
  return Mix(hash ^ attempt);
}

bool BackoffDelay(const ir::Backoff& backoff, uint32_t k, uint64_t seed, ir::Evaluator& evaluator,
                  ir::EvalContext& context, int64_t& delay_ms) {
  delay_ms = 0;
  if (!backoff.base.valid()) return true;
  ir::Value value;
  if (!evaluator.Evaluate(backoff.base, context, value)) return false;
  double delay = static_cast<double>(value.as_int());
  if (backoff.kind == ir::Backoff::Kind::Linear) delay *= k;
  if (backoff.kind == ir::Backoff::Kind::Exponential) delay *= std::pow(backoff.factor, static_cast<double>(k) - 1);
  if (backoff.max.valid()) {
    if (!evaluator.Evaluate(backoff.max, context, value)) return false;
    delay = std::min(delay, static_cast<double>(value.as_int()));
  }
  constexpr double kLongest = 1e15;  // 31,700 years: keeps sums of times inside 64 bits
  delay_ms = static_cast<int64_t>(std::clamp(delay, 0.0, kLongest));
  if (backoff.full_jitter) {
    auto wide = static_cast<unsigned __int128>(Mix(seed)) * static_cast<uint64_t>(delay_ms + 1);
    delay_ms = static_cast<int64_t>(wide >> 64);
  }
  return true;
}

bool MayResubmit(const Verdict& verdict, const ir::Retry& retry) {
  if (verdict.success || verdict.no_retry || Best(retry.never, verdict) > 0) return false;
  return verdict.kind == ErrorKind::Submit || verdict.kind == ErrorKind::Quota || verdict.kind == ErrorKind::Network;
}

bool SubmitDelay(const ir::Submit& submit, uint32_t k, uint64_t seed, ir::Evaluator& evaluator,
                 ir::EvalContext& context, int64_t& delay_ms) {
  if (submit.backoff.base.valid()) return BackoffDelay(submit.backoff, k, seed, evaluator, context, delay_ms);
  constexpr int64_t kBase = 1000, kMax = 300'000;
  delay_ms = k > 9 ? kMax : std::min(kMax, kBase << (std::max(k, 1U) - 1));
  return true;
}

Decision Decide(const Verdict& verdict, const FailedAttempt& failed, const GrantedRetries& granted,
                const ir::Retry& retry, const ir::Program& program, ir::Evaluator& evaluator, ir::EvalContext& context,
                uint64_t seed) {
  Decision decision;
  decision.resources = failed.resources;
  decision.timeouts = failed.timeouts;
  const int rule_index = GoverningRule(verdict, retry);
  if (rule_index < 0) {
    decision.why_not = WhyNoRule(verdict, retry);
    return decision;
  }
  decision.rule = static_cast<uint32_t>(rule_index);
  if (failed.number >= retry.max_attempts) {
    if (retry.max_attempts > 1) decision.why_not = fmt::format("all {} attempts are used up", retry.max_attempts);
    return decision;
  }
  const uint32_t used = decision.rule < granted.size() ? granted[decision.rule] : 0;
  const ir::RetryRule* rule = decision.rule < retry.rules.size() ? &retry.rules[decision.rule] : nullptr;
  if (rule && rule->retries && static_cast<int64_t>(used) >= *rule->retries) {
    decision.why_not = fmt::format("all {} retries of `on {}` are used up", *rule->retries, ErrorName(verdict));
    return decision;
  }
  OverlayContext overlay(context, failed);
  if (rule) {
    const ir::ExprId settings[] = {rule->resources.cpu, rule->resources.memory, rule->resources.disk,
                                   rule->resources.gpu, rule->resources.spot,   rule->timeout.queue,
                                   rule->timeout.run,   rule->timeout.total,    rule->timeout.idle,
                                   rule->timeout.stage, rule->timeout.collect};
    bool has_overlay = false, only_grows = true;
    for (ir::ExprId id : settings) {
      if (!id.valid()) continue;
      has_overlay = true;
      only_grows = only_grows && Grows(program, id);
    }
    Problem problem;
    if (has_overlay && !(OverlayResources(rule->resources, evaluator, overlay, decision.resources, problem) &&
                         OverlayTimeouts(rule->timeout, evaluator, overlay, decision.timeouts, problem))) {
      decision.resources = failed.resources;
      decision.timeouts = failed.timeouts;
      decision.why_not = fmt::format("not retried: {}", problem.text);
      return decision;
    }
    if (has_overlay && only_grows && decision.resources == failed.resources && decision.timeouts == failed.timeouts) {
      decision.cap_reached = true;
      decision.why_not = fmt::format("cap reached: `on {}` can give it nothing more", ErrorName(verdict));
      return decision;
    }
  }
  bool ok = true;
  if (rule && rule->delay.valid()) {
    ir::Value value;
    ok = evaluator.Evaluate(rule->delay, overlay, value);
    if (ok) decision.delay_ms = std::max<int64_t>(0, value.as_int());
  } else {
    ok = BackoffDelay(rule && rule->backoff ? *rule->backoff : retry.backoff, used + 1, seed, evaluator, overlay,
                      decision.delay_ms);
  }
  if (!ok) {
    decision.why_not = fmt::format("not retried: its delay cannot be computed: {}", evaluator.fault().message);
    return decision;
  }
  decision.retry = true;
  return decision;
}

Result<Resources> EvaluateResources(const ir::ResourceSpec& spec, ir::Evaluator& evaluator, ir::EvalContext& context) {
  Resources out;
  Problem problem;
  if (!OverlayResources(spec, evaluator, context, out, problem)) return Error{problem.text};
  return out;
}

Result<Timeouts> EvaluateTimeouts(const ir::TimeoutSpec& spec, ir::Evaluator& evaluator, ir::EvalContext& context) {
  Timeouts out;
  Problem problem;
  if (!OverlayTimeouts(spec, evaluator, context, out, problem)) return Error{problem.text};
  return out;
}

ir::Value ResourceValue(const Resources& resources, ir::ResourceKind kind) {
  auto bytes = [](const std::optional<int64_t>& n) { return n ? ir::Value::Bytes(*n) : ir::Value(); };
  switch (kind) {
    case ir::ResourceKind::Cpu:
      if (!resources.cpu_milli) return ir::Value();
      if (*resources.cpu_milli % 1000 == 0) return ir::Value::Int(*resources.cpu_milli / 1000);
      return ir::Value::Float(static_cast<double>(*resources.cpu_milli) / 1000);
    case ir::ResourceKind::Memory: return bytes(resources.memory);
    case ir::ResourceKind::Disk: return bytes(resources.disk);
    case ir::ResourceKind::Gpu: return resources.gpu ? ir::Value::Int(*resources.gpu) : ir::Value();
    case ir::ResourceKind::Spot: return resources.spot ? ir::Value::Bool(*resources.spot) : ir::Value();
  }
  JOBC_UNREACHABLE();
}

}  // namespace jobc
