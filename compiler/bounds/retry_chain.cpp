#include "compiler/bounds/retry_chain.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_set>

#include <fmt/format.h>

namespace jobc::bounds {
namespace {

using ir::ErrorKind;
using ir::ExprId;
using ir::Op;

/// More states than this are not told apart; the bound is then an upper one.
constexpr size_t kMostStates = 50'000;
/// Longer chains are not followed retry by retry.
constexpr int64_t kLongestChain = 512;
constexpr int64_t kLongestDelayMs = 1'000'000'000'000'000;

template <typename Found>
bool Any(const ir::Program& program, ExprId root, Found found) {
  std::vector<ExprId> todo{root};
  std::unordered_set<uint32_t> seen;
  while (!todo.empty()) {
    const ExprId id = todo.back();
    todo.pop_back();
    if (!id.valid() || !seen.insert(id.index).second) continue;
    const ir::Expr& e = program.exprs[id];
    if (found(e)) return true;
    if (e.op == Op::Let) todo.push_back(program.lets[e.a].value);
    if (e.op == Op::Apply) todo.push_back(program.fns[e.a].body);
    for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(program.exprs.arg(e, i));
  }
  return false;
}

/// Any context, with `attempt` and `prev` of the retry being prepared.
class OverlayContext : public ir::EvalContext {
 public:
  OverlayContext(ir::EvalContext& base, const Effective& before, int64_t attempt) : base_(base), before_(before), attempt_(attempt) {}

  bool Attempt(ir::Value& out, ir::Fault&) override {
    out = ir::Value::Int(attempt_);
    return true;
  }
  bool Prev(ir::PrevKind kind, ir::Value& out, ir::Fault& fault) override {
    static constexpr Setting kOf[] = {Setting::Cpu, Setting::Memory, Setting::Disk, Setting::Gpu, Setting::Spot, Setting::Queue, Setting::Run, Setting::Idle};
    const size_t at = static_cast<size_t>(kOf[static_cast<size_t>(kind)]);
    switch (before_.state[at]) {
      case Effective::State::Known: out = before_.value[at]; return true;
      case Effective::State::Unknown: fault.kind = ir::FaultKind::Unavailable; return false;
      case Effective::State::None: break;
    }
    fault.kind = ir::FaultKind::Null;
    fault.message = fmt::format("`prev.{0}` has no value: the job has no `{0}`", SettingName(static_cast<Setting>(at)));
    return false;
  }
  bool Var(uint32_t slot, ir::Value& out, ir::Fault& fault) override { return base_.Var(slot, out, fault); }
  bool Input(uint32_t index, ir::Value& out, ir::Fault& fault) override { return base_.Input(index, out, fault); }
  bool Resource(ir::ResourceKind kind, ir::Value& out, ir::Fault& fault) override { return base_.Resource(kind, out, fault); }
  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override { return base_.FileSize(file, out, fault); }
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override { return base_.FileSha256(file, out, fault); }
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) override { return base_.FileText(file, out, fault); }

 private:
  ir::EvalContext& base_;
  const Effective& before_;
  int64_t attempt_;
};

bool IsUnknown(const ir::Fault& fault) { return fault.kind == ir::FaultKind::Unavailable; }

/// What one retry by a rule can add, apart from how long attempts may run.
struct RuleUse {
  const ir::RetryRule* rule = nullptr;  ///< nullptr: the short form
  int64_t most = 0;                     ///< retries it may grant
  bool overlay = false;
  bool after_run_timeout = false;       ///< it answers attempts that jobc ended itself, which takes the grace too
  bool after_queue_timeout = false;
};

class Search {
 public:
  Search(const ir::Job& job, const Costs& costs, ir::Evaluator& evaluator, ir::EvalContext& context)
      : job_(job), costs_(costs), evaluator_(evaluator), context_(context) {}

  Chain Run() {
    Chain chain;
    Effective first = Declared(job_, evaluator_, context_);
    if (job_.kind == ir::JobKind::Finally && first.state[static_cast<size_t>(Setting::Run)] == Effective::State::None) {
      first.state[static_cast<size_t>(Setting::Run)] = Effective::State::Known;
      first.value[static_cast<size_t>(Setting::Run)] = ir::Value::Duration(kFinallyRunMs);
    }
    grace_ = kDefaultGraceMs;
    if (job_.grace.valid()) {
      ir::Value value;
      if (evaluator_.Evaluate(job_.grace, context_, value)) {
        grace_ = value.as_int();
      } else {
        grace_unknown_ = true;
        Unbounded("`grace` is not known before the run");
      }
    }
    if (!costs_.grace) grace_ = 0;
    const int64_t most = std::max<int64_t>(0, job_.retry.max_attempts - 1);
    CollectRules(most, first);
    bool overlays = false;
    for (const RuleUse& use : uses_) overlays = overlays || use.overlay;
    int64_t grants = 0;
    for (const RuleUse& use : uses_) grants = std::min(most, Plus(grants, use.most));
    if (!overlays) {
      chain.attempts = 1 + grants;
      chain.time_ms = WithoutOverlays(first, grants, chain.exact);
    } else if (grants <= kLongestChain) {
      std::vector<int64_t> counts(uses_.size(), 0);
      const Best best = Follow(first, counts, 1, grants);
      if (!overflow_) {
        chain.attempts = best.attempts;
        chain.time_ms = best.time;
      }
    }
    if (overlays && (grants > kLongestChain || overflow_)) {
      chain.attempts = 1 + grants;
      chain.exact = false;
      chain.time_ms = Coarse(first, grants);
    }
    if (costs_.total) {
      // It may change with a retry: the largest counts.
      if (total_ && !no_total_ && !grace_unknown_) {
        const int64_t end = Plus(*total_, grace_);
        if (!chain.time_ms || !why_.empty() || *chain.time_ms > end) {
          chain.time_ms = end;
          why_.clear();
        }
      }
    }
    if (!why_.empty()) {
      chain.time_ms.reset();
      chain.unbounded = why_;
      chain.limit_missing = limit_missing_;
    }
    return chain;
  }

 private:
  struct Best {
    int64_t attempts = 1;
    int64_t time = 0;
  };

  void Unbounded(std::string why, bool limit_missing = false) {
    if (!why_.empty()) return;
    why_ = std::move(why);
    limit_missing_ = limit_missing;
  }

  void CollectRules(int64_t most, const Effective& first) {
    if (most == 0) return;
    const size_t count = job_.retry.rules.size();
    std::vector<bool> used(count + 1, false), run(count + 1, false), queue(count + 1, false);
    for (const Failure& failure : AllFailures(job_.errors)) {
      const int rule = GoverningRule(failure, job_.retry);
      if (rule < 0) continue;
      used[static_cast<size_t>(rule)] = true;
      if (!failure.name.empty()) continue;
      if (failure.kind == ErrorKind::Timeout || failure.kind == ErrorKind::IdleTimeout) run[static_cast<size_t>(rule)] = true;
      if (failure.kind == ErrorKind::QueueTimeout) queue[static_cast<size_t>(rule)] = true;
    }
    const auto given = [&](Setting s) { return first.state[static_cast<size_t>(s)] != Effective::State::None; };
    for (size_t i = 0; i <= count; ++i) {
      if (!used[i]) continue;
      RuleUse use;
      use.rule = i < count ? &job_.retry.rules[i] : nullptr;
      use.most = use.rule != nullptr && use.rule->retries ? std::min(most, *use.rule->retries) : most;
      if (use.most == 0) continue;
      for (size_t s = 0; use.rule != nullptr && s < kSettings; ++s) {
        use.overlay = use.overlay || SettingOf(use.rule->resources, use.rule->timeout, static_cast<Setting>(s)).valid();
      }
      use.after_run_timeout = run[i];
      use.after_queue_timeout = queue[i] && given(Setting::Queue);
      uses_.push_back(use);
    }
  }

  /// From the hand-over of an attempt to its verdict, at most.
  int64_t Length(const Effective& e) {
    int64_t length = 0;
    if (costs_.queue) {
      const size_t q = static_cast<size_t>(Setting::Queue);
      if (e.state[q] == Effective::State::Known) length = Plus(length, e.value[q].as_int());
      else if (e.state[q] == Effective::State::Unknown) Unbounded("`timeout.queue` is not known before the run");
      else if (HasQueue(job_.backend.kind)) Unbounded(fmt::format("it may wait in the queue of {} without limit: no `timeout {{ queue = … }}`", ir::BackendName(job_.backend.kind)), true);
    }
    const size_t r = static_cast<size_t>(Setting::Run);
    if (e.state[r] == Effective::State::Known) length = Plus(length, e.value[r].as_int());
    else if (e.state[r] == Effective::State::Unknown) Unbounded("`timeout.run` is not known before the run");
    else Unbounded("it may run without limit: no `timeout { run = … }`", true);
    const size_t t = static_cast<size_t>(Setting::Total);
    if (e.state[t] == Effective::State::Known) {
      total_ = std::max(total_.value_or(0), e.value[t].as_int());
    } else {
      no_total_ = true;
    }
    return length;
  }

  /// What a retry by `use` adds before its attempt begins, beyond the verdict of the failed one; and the failed one's own
  /// length where only its queue ran out.
  int64_t Gap(const RuleUse& use, int64_t delay, const Effective& failed) const {
    if (!costs_.delays) delay = 0;
    const auto given = [&](Setting s) { return failed.state[static_cast<size_t>(s)] != Effective::State::None; };
    const bool cancelled = use.after_run_timeout && (given(Setting::Run) || given(Setting::Idle));
    int64_t gap = cancelled ? std::max(delay, grace_) : delay;
    // Not started in time: shorter by the run, longer by the grace.
    if (use.after_queue_timeout && costs_.queue && !cancelled) {
      const int64_t run = failed.Ms(Setting::Run).value_or(0);
      gap = std::max(gap, std::max(delay, grace_) - run);
    }
    return gap;
  }

  int64_t Delay(const RuleUse& use, int64_t k) {
    if (!costs_.delays) return 0;
    std::optional<int64_t> delay = LongestDelay(job_.retry, use.rule, k, evaluator_, context_);
    if (!delay) Unbounded("the wait before a retry is not known before the run");
    return delay.value_or(0);
  }

  /// Nothing changes from attempt to attempt: only how often each rule is used matters. The waits of one rule never get
  /// shorter, so the best use of n retries is found rule by rule.
  int64_t WithoutOverlays(const Effective& e, int64_t grants, bool& exact) {
    const int64_t length = Length(e);
    const int64_t attempts = Times(length, grants + 1);
    int64_t between = 0;
    if (grants > 0 && uses_.size() == 1) {
      int64_t last = -1;
      for (int64_t k = 1; k <= grants; ++k) {
        const int64_t gap = Gap(uses_[0], Delay(uses_[0], k), e);
        if (gap == last && k > 64) {  // the largest wait is reached, or it was constant all along
          const int64_t final_gap = Gap(uses_[0], Delay(uses_[0], grants), e);
          if (final_gap == gap) {
            between = Plus(between, Times(gap, grants - k + 1));
            break;
          }
        }
        last = gap;
        between = Plus(between, gap);
      }
    } else if (grants > 0 && grants <= kLongestChain) {
      std::vector<int64_t> best(static_cast<size_t>(grants) + 1, -1);
      best[0] = 0;
      for (const RuleUse& use : uses_) {
        std::vector<int64_t> sums{0};
        for (int64_t k = 1; k <= std::min(use.most, grants); ++k) sums.push_back(Plus(sums.back(), Gap(use, Delay(use, k), e)));
        std::vector<int64_t> next = best;
        for (size_t n = 0; n <= static_cast<size_t>(grants); ++n) {
          for (size_t k = 1; k < sums.size() && k <= n; ++k) {
            if (best[n - k] >= 0) next[n] = std::max(next[n], Plus(best[n - k], sums[k]));
          }
        }
        best = std::move(next);
      }
      between = best.back();
    } else if (grants > 0) {
      exact = false;
      for (const RuleUse& use : uses_) between = std::max(between, Gap(use, Delay(use, std::min(use.most, grants)), e));
      between = Times(between, grants);
    }
    return Plus(Plus(attempts, between), grace_);
  }

  static std::string KeyOf(const Effective& e, const std::vector<int64_t>& counts) {
    std::string key;
    for (size_t s = 0; s < kSettings; ++s) {
      key += static_cast<char>('0' + static_cast<int>(e.state[s]));
      if (e.state[s] != Effective::State::Known) continue;
      key += e.value[s].kind() == ir::ValueKind::Bool ? std::to_string(e.value[s].as_bool()) : e.value[s].kind() == ir::ValueKind::Float ? ir::FloatText(e.value[s].as_float()) : std::to_string(e.value[s].as_int());
      key += ',';
    }
    for (int64_t n : counts) key += fmt::format("/{}", n);
    return key;
  }

  /// The attempt `number` with `e`, and what can follow it.
  Best Follow(const Effective& e, std::vector<int64_t>& counts, int64_t number, int64_t grants) {
    const std::string key = KeyOf(e, counts);
    if (auto it = known_.find(key); it != known_.end()) return it->second;
    if (known_.size() >= kMostStates) {
      overflow_ = true;
      return {};
    }
    const int64_t length = Length(e);
    Best best{number, Plus(length, grace_)};
    for (size_t i = 0; i < uses_.size() && number <= grants; ++i) {
      if (counts[i] >= uses_[i].most) continue;
      Step step;
      step.next = e;
      if (uses_[i].rule != nullptr) step = Apply(*uses_[i].rule, e, number + 1, evaluator_, context_);
      if (step.outcome == Step::Outcome::CapReached || step.outcome == Step::Outcome::Fault) continue;
      ++counts[i];
      const int64_t gap = Gap(uses_[i], Delay(uses_[i], counts[i]), e);
      const Best rest = Follow(step.next, counts, number + 1, grants);
      --counts[i];
      best.attempts = std::max(best.attempts, rest.attempts);
      best.time = std::max(best.time, Plus(Plus(length, gap), rest.time));
    }
    known_[key] = best;
    return best;
  }

  /// Every attempt as long as the longest of all that the rules can make.
  int64_t Coarse(const Effective& first, int64_t grants) {
    bool by_attempt = false;
    for (const RuleUse& use : uses_) {
      for (size_t s = 0; use.rule != nullptr && s < kSettings; ++s) {
        by_attempt = by_attempt || UsesAttempt(evaluator_.program(), SettingOf(use.rule->resources, use.rule->timeout, static_cast<Setting>(s)));
      }
    }
    if (by_attempt && grants > kLongestChain) {
      Unbounded(fmt::format("its settings depend on `attempt`, and there are more than {} retries", kLongestChain));
      return 0;
    }
    std::vector<Effective> todo{first};
    std::unordered_set<std::string> seen{KeyOf(first, {})};
    int64_t longest = 0, gap = 0;
    while (!todo.empty()) {
      const Effective e = todo.back();
      todo.pop_back();
      longest = std::max(longest, Length(e));
      for (const RuleUse& use : uses_) {
        gap = std::max(gap, Gap(use, Delay(use, std::min(use.most, grants)), e));
        if (use.rule == nullptr) continue;
        for (int64_t attempt = 2; attempt <= (by_attempt ? grants + 1 : 2); ++attempt) {
          Step step = Apply(*use.rule, e, attempt, evaluator_, context_);
          if (step.outcome == Step::Outcome::CapReached || step.outcome == Step::Outcome::Fault) continue;
          if (seen.size() > kMostStates) {
            Unbounded("its retries can change its settings in too many ways");
            return 0;
          }
          if (seen.insert(KeyOf(step.next, {})).second) todo.push_back(step.next);
        }
      }
    }
    return Plus(Plus(Times(longest, grants + 1), Times(gap, grants)), grace_);
  }

  const ir::Job& job_;
  const Costs& costs_;
  ir::Evaluator& evaluator_;
  ir::EvalContext& context_;
  std::vector<RuleUse> uses_;
  std::map<std::string, Best> known_;
  std::string why_;
  std::optional<int64_t> total_;
  int64_t grace_ = 0;
  bool overflow_ = false, limit_missing_ = false, grace_unknown_ = false, no_total_ = false;
};

}  // namespace

int64_t Plus(int64_t x, int64_t y) {
  int64_t out;
  return __builtin_add_overflow(x, y, &out) ? INT64_MAX : out;
}

int64_t Times(int64_t x, int64_t y) {
  int64_t out;
  return __builtin_mul_overflow(x, y, &out) ? INT64_MAX : out;
}

std::vector<Failure> AllFailures(const std::vector<ir::ErrorArm>& arms) {
  std::vector<Failure> all;
  for (int i = 0; i < ir::kErrorKinds; ++i) {
    const ErrorKind kind = static_cast<ErrorKind>(i);
    if (kind == ErrorKind::Cancelled || kind == ErrorKind::Check || kind == ErrorKind::Expression) continue;
    all.push_back({kind, ir::ClassOf(kind), ""});
  }
  for (const ir::ErrorArm& arm : arms) {
    if (!arm.success && !arm.name.empty()) all.push_back({arm.kind, arm.error_class, arm.name});
  }
  return all;
}

int Specificity(const ir::Matcher& matcher, const Failure& failure) {
  if (!matcher.name.empty()) return matcher.name == failure.name ? 3 : 0;
  if (matcher.kind) return *matcher.kind == failure.kind ? 2 : 0;
  if (matcher.error_class) return *matcher.error_class == failure.error_class ? 1 : 0;
  return 0;
}

int Specificity(const std::vector<ir::Matcher>& matchers, const Failure& failure) {
  int best = 0;
  for (const ir::Matcher& matcher : matchers) best = std::max(best, Specificity(matcher, failure));
  return best;
}

int GoverningRule(const Failure& failure, const ir::Retry& retry) {
  if (Specificity(retry.never, failure) > 0) return -1;
  int best = 0, rule = -1;
  for (size_t i = 0; i < retry.rules.size(); ++i) {
    const int match = Specificity(retry.rules[i].matchers, failure);
    if (match > best) {
      best = match;
      rule = static_cast<int>(i);
    }
  }
  const int fallback = retry.has_on ? Specificity(retry.on, failure) : failure.error_class == ir::ErrorClass::System ? 1 : 0;
  return fallback > best ? static_cast<int>(retry.rules.size()) : rule;
}

std::string_view SettingName(Setting setting) {
  static constexpr std::string_view kNames[] = {"cpu", "memory", "disk", "gpu", "spot", "timeout.queue", "timeout.run", "timeout.total", "timeout.idle"};
  return kNames[static_cast<size_t>(setting)];
}

ExprId SettingOf(const ir::ResourceSpec& resources, const ir::TimeoutSpec& timeout, Setting setting) {
  switch (setting) {
    case Setting::Cpu: return resources.cpu;
    case Setting::Memory: return resources.memory;
    case Setting::Disk: return resources.disk;
    case Setting::Gpu: return resources.gpu;
    case Setting::Spot: return resources.spot;
    case Setting::Queue: return timeout.queue;
    case Setting::Run: return timeout.run;
    case Setting::Total: return timeout.total;
    case Setting::Idle: return timeout.idle;
  }
  return {};
}

std::optional<int64_t> Effective::Ms(Setting s) const {
  if (!known(s)) return std::nullopt;
  return value[static_cast<size_t>(s)].as_int();
}

Effective Declared(const ir::Job& job, ir::Evaluator& evaluator, ir::EvalContext& context) {
  Effective e;
  for (size_t s = 0; s < kSettings; ++s) {
    const ExprId expr = SettingOf(job.resources, job.timeout, static_cast<Setting>(s));
    if (!expr.valid()) continue;
    ir::Value value;
    if (!evaluator.Evaluate(expr, context, value)) {
      e.state[s] = Effective::State::Unknown;
    } else if (!value.is_null()) {
      e.state[s] = Effective::State::Known;
      e.value[s] = std::move(value);
    }
  }
  return e;
}

bool UsesPrev(const ir::Program& program, ExprId expr) {
  return Any(program, expr, [](const ir::Expr& e) { return e.op == Op::Prev; });
}

bool UsesAttempt(const ir::Program& program, ExprId expr) {
  return Any(program, expr, [](const ir::Expr& e) { return e.op == Op::Attempt; });
}

bool IsCapped(const ir::Program& program, ExprId expr) {
  if (!UsesPrev(program, expr) && !UsesAttempt(program, expr)) return true;
  const ir::Expr& e = program.exprs[expr];
  if (e.op == Op::Let) return IsCapped(program, program.lets[e.a].value);
  if (e.op == Op::If) return IsCapped(program, program.exprs.arg(e, 1)) && IsCapped(program, program.exprs.arg(e, 2));
  if (e.op == Op::Checked || e.op == Op::ToFloat || e.op == Op::Narrow) return IsCapped(program, program.exprs.arg(e, 0));
  if (e.op != Op::Call || static_cast<ir::Builtin>(e.a) != ir::Builtin::min) return false;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    if (IsCapped(program, program.exprs.arg(e, i))) return true;
  }
  const ir::Expr& list = program.exprs[program.exprs.arg(e, 0)];
  for (uint32_t i = 0; e.args.size == 1 && list.op == Op::List && i < list.args.size; ++i) {
    if (IsCapped(program, program.exprs.arg(list, i))) return true;
  }
  return false;
}

Step Apply(const ir::RetryRule& rule, const Effective& before, int64_t attempt, ir::Evaluator& evaluator, ir::EvalContext& context) {
  Step step;
  step.next = before;
  OverlayContext overlay(context, before, attempt);
  bool any = false, only_grows = true, unknown = false;
  for (size_t s = 0; s < kSettings; ++s) {
    const ExprId expr = SettingOf(rule.resources, rule.timeout, static_cast<Setting>(s));
    if (!expr.valid()) continue;
    any = true;
    only_grows = only_grows && UsesPrev(evaluator.program(), expr);
    ir::Value value;
    if (evaluator.Evaluate(expr, overlay, value)) {
      if (value.is_null()) continue;
      step.next.state[s] = Effective::State::Known;
      step.next.value[s] = std::move(value);
      continue;
    }
    if (!IsUnknown(evaluator.fault())) {
      step.outcome = Step::Outcome::Fault;
      step.at = static_cast<Setting>(s);
      step.why = evaluator.fault().message;
      return step;
    }
    unknown = true;
    step.next.state[s] = Effective::State::Unknown;
  }
  if (unknown) {
    step.outcome = Step::Outcome::Unknown;
  } else if (any && only_grows && step.next == before) {
    step.outcome = Step::Outcome::CapReached;
  }
  return step;
}

std::optional<int64_t> LongestDelay(const ir::Retry& retry, const ir::RetryRule* rule, int64_t k, ir::Evaluator& evaluator, ir::EvalContext& context) {
  ir::Value value;
  if (rule != nullptr && rule->delay.valid()) {
    if (!evaluator.Evaluate(rule->delay, context, value)) return std::nullopt;
    return std::max<int64_t>(0, value.as_int());
  }
  const ir::Backoff& backoff = rule != nullptr && rule->backoff ? *rule->backoff : retry.backoff;
  if (!backoff.base.valid()) return 0;
  if (!evaluator.Evaluate(backoff.base, context, value)) return std::nullopt;
  double delay = static_cast<double>(value.as_int());
  if (backoff.kind == ir::Backoff::Kind::Linear) delay *= static_cast<double>(k);
  if (backoff.kind == ir::Backoff::Kind::Exponential) delay *= std::pow(backoff.factor, static_cast<double>(k) - 1);
  if (backoff.max.valid()) {
    if (!evaluator.Evaluate(backoff.max, context, value)) return std::nullopt;
    delay = std::min(delay, static_cast<double>(value.as_int()));
  }
  return static_cast<int64_t>(std::clamp(delay, 0.0, static_cast<double>(kLongestDelayMs)));
}

Chain WorstChain(const ir::Job& job, const Costs& costs, ir::Evaluator& evaluator, ir::EvalContext& context) {
  if (job.kind == ir::JobKind::Check) {
    Chain none;
    none.attempts = 0;
    none.time_ms = 0;
    return none;
  }
  return Search(job, costs, evaluator, context).Run();
}

bool HasQueue(ir::BackendKind kind) {
  switch (kind) {
    case ir::BackendKind::Process: case ir::BackendKind::Docker: case ir::BackendKind::Podman: case ir::BackendKind::Apptainer: case ir::BackendKind::Ssh: return false;
    default: return true;
  }
}

}  // namespace jobc::bounds
