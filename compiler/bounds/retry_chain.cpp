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

/// Thousandths of a cpu are all that the runtime keeps.
ir::Value Kept(Setting setting, ir::Value value) {
  if (setting != Setting::Cpu) return value;
  const int64_t milli = std::llround(value.as_float() * 1000);
  return milli % 1000 == 0 ? ir::Value::Int(milli / 1000) : ir::Value::Float(static_cast<double>(milli) / 1000);
}

/// What no attempt may have; the runtime does not retry with it.
bool IsRefused(Setting setting, const ir::Value& value) {
  if (setting == Setting::Spot) return false;
  if (setting == Setting::Cpu) return value.as_float() < 0;
  return value.as_int() < (setting >= Setting::Queue ? 1 : 0);
}

constexpr int64_t kForever = INT64_MAX;

/// One way in which a failed attempt can come to be answered by a rule. `Free`: it ended by itself, at any moment. The
/// others were ended by jobc when a limit was over, which takes at least that long, and `grace` until all of it is gone.
enum class Way : uint8_t { Free, Run, Idle, Queue };

/// A rule that can grant retries.
struct RuleUse {
  const ir::RetryRule* rule = nullptr;  ///< nullptr: the short form
  int64_t most = 0;                     ///< retries it may grant
  bool overlay = false;
  bool jitter = false;                  ///< its waits may be shorter, down to none
  bool counted = false;                 ///< it matters how many it has granted
  std::vector<Way> ways;
  std::vector<std::optional<int64_t>> delays;  ///< longest, by k - 1, as far as they were asked for
};

/// Follows all chains of attempts at once. What is remembered of those with equal settings is from when to when, counted
/// from the hand-over of the first attempt, their next attempt can be handed over. Only `timeout.total` makes the earliest
/// moment matter: it ends an instance, so that what it leaves no time for cannot happen.
class Search {
 public:
  Search(const ir::Job& job, const Costs& costs, ir::Evaluator& evaluator, ir::EvalContext& context)
      : job_(job), costs_(costs), evaluator_(evaluator), context_(context) {}

  Chain Run() {
    Chain chain;
    Effective first = Declared(job_, evaluator_, context_);
    if ((job_.kind == ir::JobKind::Finally || job_.kind == ir::JobKind::Hook) && first.state[static_cast<size_t>(Setting::Run)] == Effective::State::None) {
      first.state[static_cast<size_t>(Setting::Run)] = Effective::State::Known;
      first.value[static_cast<size_t>(Setting::Run)] = ir::Value::Duration(kFinallyRunMs);
    }
    if (costs_.grace) {
      grace_ = kDefaultGraceMs;
      ir::Value value;
      if (job_.grace.valid() && evaluator_.Evaluate(job_.grace, context_, value)) {
        grace_ = value.as_int();
      } else if (job_.grace.valid()) {
        grace_ = kForever;
        Unbounded("`grace` is not known before the run");
      }
    }
    grants_ = std::max<int64_t>(0, job_.retry.max_attempts - 1);
    CollectRules();
    bool overlays = false;
    int64_t all = 0;
    for (const RuleUse& use : uses_) {
      overlays = overlays || use.overlay;
      all = Plus(all, use.most);
    }
    grants_ = std::min(grants_, all);
    if (!overlays && (uses_.size() <= 1 || grants_ <= kLongestChain)) {
      WithoutOverlays(first, chain);
    } else if (grants_ > kLongestChain || !Follow(first, chain)) {
      Coarse(first, chain);
    }
    if (finish_ == kForever && !why_.empty()) {
      chain.unbounded = why_;
    } else if (finish_ == kForever && (no_queue_ || no_run_)) {
      const std::string limits = no_queue_ && no_run_ ? "queue = …, run = …" : no_queue_ ? "queue = …" : "run = …";
      chain.unbounded = fmt::format("it may {}{}{} without limit: no `timeout {{ {} }}`", no_queue_ ? fmt::format("wait in the queue of {}", ir::BackendName(job_.backend.kind)) : "",
                                    no_queue_ && no_run_ ? " and " : "", no_run_ ? "run" : "", limits);
      chain.missing = fmt::format("timeout {{ {}{}{} }}", no_queue_ ? "queue = 12h" : "", no_queue_ && no_run_ ? ", " : "", no_run_ ? "run = 2h" : "");
    } else {
      chain.time_ms = finish_;
    }
    return chain;
  }

 private:
  void Unbounded(std::string why) {
    if (why_.empty()) why_ = std::move(why);
  }

  /// Whether an arm of `errors` can make the kind of a program that ended by itself, or the backend says it on its own.
  bool EndsByItself(ErrorKind kind) const {
    for (const ir::ErrorArm& arm : job_.errors) {
      if (!arm.success && arm.name.empty() && arm.kind == kind) return true;
    }
    switch (kind) {
      case ErrorKind::InvalidInput: case ErrorKind::Publish: case ErrorKind::IdleTimeout: return false;
      // Clusters and clouds have limits of their own.
      case ErrorKind::Timeout: case ErrorKind::QueueTimeout: return job_.kind != ir::JobKind::Hook && HasQueue(job_.backend.kind);
      default: return true;
    }
  }

  void CollectRules() {
    if (grants_ == 0) return;
    const size_t count = job_.retry.rules.size();
    std::vector<std::array<bool, 4>> ways(count + 1, std::array<bool, 4>{});
    for (const Failure& failure : AllFailures(job_.errors)) {
      const int rule = GoverningRule(failure, job_.retry);
      if (rule < 0) continue;
      auto& of = ways[static_cast<size_t>(rule)];
      if (!failure.name.empty() || EndsByItself(failure.kind)) of[static_cast<size_t>(Way::Free)] = true;
      if (!failure.name.empty()) continue;
      if (failure.kind == ErrorKind::Timeout) of[static_cast<size_t>(Way::Run)] = true;
      if (failure.kind == ErrorKind::IdleTimeout) of[static_cast<size_t>(Way::Idle)] = true;
      if (failure.kind == ErrorKind::QueueTimeout) of[static_cast<size_t>(Way::Queue)] = true;
    }
    for (size_t i = 0; i <= count; ++i) {
      RuleUse use;
      for (size_t way = 0; way < ways[i].size(); ++way) {
        if (ways[i][way]) use.ways.push_back(static_cast<Way>(way));
      }
      if (use.ways.empty()) continue;
      use.rule = i < count ? &job_.retry.rules[i] : nullptr;
      use.most = use.rule != nullptr && use.rule->retries ? std::min(grants_, *use.rule->retries) : grants_;
      if (use.most <= 0) continue;
      for (size_t s = 0; use.rule != nullptr && s < kSettings; ++s) {
        use.overlay = use.overlay || SettingOf(use.rule->resources, use.rule->timeout, static_cast<Setting>(s)).valid();
      }
      const bool fixed = use.rule != nullptr && use.rule->delay.valid();
      const ir::Backoff& backoff = use.rule != nullptr && use.rule->backoff ? *use.rule->backoff : job_.retry.backoff;
      use.jitter = !fixed && backoff.full_jitter;
      use.counted = use.most < grants_ || (!fixed && backoff.base.valid() && backoff.kind != ir::Backoff::Kind::Constant);
      uses_.push_back(std::move(use));
    }
  }

  /// From the hand-over of an attempt to its start, at most.
  int64_t Wait(const Effective& e) {
    if (!costs_.queue) return 0;
    const size_t q = static_cast<size_t>(Setting::Queue);
    if (e.state[q] == Effective::State::Known) return e.value[q].as_int();
    if (e.state[q] == Effective::State::Unknown) {
      Unbounded("`timeout.queue` is not known before the run");
      return kForever;
    }
    if (job_.kind == ir::JobKind::Hook || job_.backend.kind == ir::BackendKind::Process) return 0;
    if (HasQueue(job_.backend.kind)) {
      no_queue_ = true;
      return kForever;
    }
    return Submissions();
  }

  /// The waits of a submission that is sent again.
  int64_t Submissions() {
    if (submissions_) return *submissions_;
    int64_t sum = 0;
    ir::Retry retry;
    retry.backoff = job_.submit.backoff;
    for (int64_t k = 1; k < std::min(job_.submit.max_attempts, kLongestChain); ++k) {
      const std::optional<int64_t> delay = retry.backoff.base.valid() ? LongestDelay(retry, nullptr, k, evaluator_, context_)
                                                                      : std::min<int64_t>(300'000, int64_t{1000} << std::min<int64_t>(k - 1, 20));
      if (!delay) Unbounded("the wait before a submission is sent again is not known before the run");
      sum = Plus(sum, delay.value_or(kForever));
    }
    submissions_ = sum;
    return sum;
  }

  /// From its start to its verdict, at most.
  int64_t RunLimit(const Effective& e) {
    const size_t r = static_cast<size_t>(Setting::Run);
    if (e.state[r] == Effective::State::Known) return e.value[r].as_int();
    if (e.state[r] == Effective::State::Unknown) Unbounded("`timeout.run` is not known before the run");
    else no_run_ = true;
    return kForever;
  }

  int64_t Total(const Effective& e) const { return costs_.total ? e.Ms(Setting::Total).value_or(kForever) : kForever; }

  int64_t Delay(RuleUse& use, int64_t k) {
    if (!costs_.delays) return 0;
    const size_t at = static_cast<size_t>(k - 1);
    if (at >= use.delays.size()) use.delays.resize(at + 1);
    if (!use.delays[at]) {
      const std::optional<int64_t> delay = LongestDelay(job_.retry, use.rule, k, evaluator_, context_);
      if (!delay) Unbounded("the wait before a retry is not known before the run");
      use.delays[at] = delay.value_or(kForever);
    }
    return *use.delays[at];
  }
  int64_t ShortestDelay(RuleUse& use, int64_t k) {
    const int64_t delay = Delay(use, k);
    return use.jitter || delay == kForever ? 0 : delay;
  }

  /// How soon and how late after its hand-over an attempt can fail in this way; nullopt: it cannot.
  struct Range {
    int64_t soonest = 0, latest = 0;
    int64_t lag = 0;       ///< until it is reaped, at most
    bool before_total = false;  ///< at the same moment `timeout.total` would win
  };
  std::optional<Range> RangeOf(Way way, const Effective& e) {
    const int64_t wait = Wait(e), run = RunLimit(e), latest = Plus(wait, run);
    const auto none = [&](Setting s) { return e.state[static_cast<size_t>(s)] == Effective::State::None; };
    switch (way) {
      case Way::Free: return Range{0, latest, 0, false};
      case Way::Run:
        if (none(Setting::Run)) return std::nullopt;
        return Range{e.Ms(Setting::Run).value_or(0), latest, grace_, true};
      case Way::Idle: {
        if (none(Setting::Idle)) return std::nullopt;
        const int64_t idle = e.Ms(Setting::Idle).value_or(0);
        if (idle >= run && run != kForever) return std::nullopt;
        return Range{idle, latest == kForever ? latest : latest - 1, grace_, true};
      }
      case Way::Queue:
        if (none(Setting::Queue)) return std::nullopt;
        return Range{costs_.queue ? e.Ms(Setting::Queue).value_or(0) : 0, wait, grace_, false};
    }
    return std::nullopt;
  }

  void Finish(int64_t at) { finish_ = std::max(finish_, at); }
  /// The last attempt was handed over at most at `from`: `timeout.total` or `run` ends it.
  void Last(const Effective& e, int64_t from, int64_t total) {
    Finish(Plus(std::min(Plus(from, Plus(Wait(e), RunLimit(e))), std::max(total, from)), grace_));
  }

  /// Nothing changes from attempt to attempt: only how often each rule is used matters, and the waits of one rule never get
  /// shorter, so the latest and the earliest use of n retries are found rule by rule.
  void WithoutOverlays(const Effective& e, Chain& chain) {
    const int64_t total = Total(e);
    Last(e, 0, total);
    if (uses_.empty()) return;
    bool all_before = true;  // every way gives way to `total` at the same moment
    const auto step = [&](RuleUse& use, int64_t k) -> std::optional<std::pair<int64_t, int64_t>> {
      std::optional<std::pair<int64_t, int64_t>> best;
      for (const Way way : use.ways) {
        const std::optional<Range> range = RangeOf(way, e);
        if (!range) continue;
        const int64_t soon = Plus(range->soonest, ShortestDelay(use, k)), late = Plus(range->latest, std::max(Delay(use, k), range->lag));
        if (!range->before_total || ShortestDelay(use, k) > 0) all_before = false;
        best = best ? std::pair(std::min(best->first, soon), std::max(best->second, late)) : std::pair(soon, late);
      }
      return best;
    };
    /// Whether n retries, of these sums, can come about.
    const auto reach = [&](int64_t n, int64_t soon, int64_t late) {
      if (late >= total && total != kForever) Finish(total);  // ended while it waits
      if (soon > total || (soon == total && all_before)) return false;
      chain.attempts = n + 1;
      Last(e, std::min(late, total), total);
      return true;
    };
    if (uses_.size() == 1) {
      RuleUse& use = uses_[0];
      constexpr int64_t kOneByOne = 10'000;
      int64_t soon = 0, late = 0;
      for (int64_t k = 1; k <= grants_; ++k) {
        const auto next = step(use, k);
        if (!next) return;
        if (k > 64 && (Delay(use, k) == Delay(use, k - 1) || k > kOneByOne)) {
          // Constant from here on, or taken as the largest.
          const int64_t rest = grants_ - k + 1;
          int64_t longest = Delay(use, k);
          if (std::optional<int64_t> last = costs_.delays ? LongestDelay(job_.retry, use.rule, grants_, evaluator_, context_) : longest; last && *last > longest) {
            longest = *last;
            chain.exact = false;
          }
          int64_t fit = rest;
          if (total != kForever && next->first > 0) {
            fit = std::min(rest, std::max<int64_t>(0, total - soon) / next->first);
            if (fit < rest) Finish(total);
            if (fit > 0 && all_before && Plus(soon, Times(next->first, fit)) == total) --fit;
          }
          if (fit > 0) reach(k - 1 + fit, Plus(soon, Times(next->first, fit)), Plus(late, Times(Plus(next->second, longest - Delay(use, k)), fit)));
          return;
        }
        soon = Plus(soon, next->first);
        late = Plus(late, next->second);
        if (!reach(k, soon, late)) return;
      }
      return;
    }
    const size_t count = static_cast<size_t>(grants_) + 1;
    std::vector<int64_t> soonest(count, kForever), latest(count, -1);
    soonest[0] = latest[0] = 0;
    for (RuleUse& use : uses_) {
      std::vector<std::pair<int64_t, int64_t>> sums{{0, 0}};
      for (int64_t k = 1; k <= use.most; ++k) {
        const auto next = step(use, k);
        if (!next) break;
        sums.emplace_back(Plus(sums.back().first, next->first), Plus(sums.back().second, next->second));
      }
      std::vector<int64_t> soon = soonest, late = latest;
      for (size_t n = 1; n < count; ++n) {
        for (size_t k = 1; k < sums.size() && k <= n; ++k) {
          if (latest[n - k] < 0) continue;
          soon[n] = std::min(soon[n], Plus(soonest[n - k], sums[k].first));
          late[n] = std::max(late[n], Plus(latest[n - k], sums[k].second));
        }
      }
      soonest = std::move(soon);
      latest = std::move(late);
    }
    for (size_t n = 1; n < count; ++n) {
      if (latest[n] < 0 || !reach(static_cast<int64_t>(n), soonest[n], latest[n])) break;
    }
  }

  /// Chains whose next attempt has the same settings.
  struct Chains {
    Effective e;
    std::vector<int64_t> counts;
    int64_t soonest = 0, latest = 0;  ///< hand-over of that attempt
  };

  std::string KeyOf(const Effective& e, const std::vector<int64_t>& counts) const {
    std::string key;
    for (size_t s = 0; s < kSettings; ++s) {
      key += static_cast<char>('0' + static_cast<int>(e.state[s]));
      if (e.state[s] != Effective::State::Known) continue;
      key += e.value[s].kind() == ir::ValueKind::Bool ? std::to_string(e.value[s].as_bool()) : e.value[s].kind() == ir::ValueKind::Float ? ir::FloatText(e.value[s].as_float()) : std::to_string(e.value[s].as_int());
      key += ',';
    }
    for (size_t i = 0; i < counts.size(); ++i) {
      if (uses_[i].counted) key += fmt::format("/{}", counts[i]);
    }
    return key;
  }

  /// Retry by retry. False: there are too many different settings.
  bool Follow(const Effective& first, Chain& chain) {
    std::map<std::string, Chains> layer;
    layer.emplace("", Chains{first, std::vector<int64_t>(uses_.size(), 0), 0, 0});
    size_t states = 1;
    int64_t longest = 1;
    for (int64_t number = 1; !layer.empty(); ++number) {
      longest = number;
      std::map<std::string, Chains> next;
      for (auto& [key, at] : layer) {
        const int64_t total = Total(at.e);
        Last(at.e, at.latest, total);
        for (size_t i = 0; i < uses_.size() && number <= grants_; ++i) {
          RuleUse& use = uses_[i];
          if (at.counts[i] >= use.most) continue;
          Step step;
          step.next = at.e;
          if (use.rule != nullptr) step = Apply(*use.rule, at.e, number + 1, evaluator_, context_);
          if (step.outcome == Step::Outcome::CapReached || step.outcome == Step::Outcome::Fault) continue;
          const int64_t k = at.counts[i] + 1, after = Total(step.next);
          for (const Way way : use.ways) {
            const std::optional<Range> range = RangeOf(way, at.e);
            if (!range) continue;
            const int64_t limit = range->before_total && total != kForever ? total - 1 : total;
            int64_t soon = Plus(at.soonest, range->soonest);
            if (soon > limit && range->soonest > 0) continue;
            int64_t late = std::max(soon, std::min(Plus(at.latest, range->latest), std::max(limit, at.latest)));
            const int64_t wait = std::max(Delay(use, k), range->lag);
            if (after != kForever && Plus(late, wait) >= after) Finish(std::max(late, after));  // ended while it waits
            const int64_t soon_end = std::max(soon, after), late_end = std::max(late, after);
            soon = Plus(soon, ShortestDelay(use, k));
            if (soon > soon_end) continue;
            late = std::max(soon, std::min(Plus(late, wait), late_end));
            std::vector<int64_t> counts = at.counts;
            ++counts[i];
            auto [it, fresh] = next.try_emplace(KeyOf(step.next, counts), Chains{step.next, counts, soon, late});
            if (!fresh) {
              it->second.soonest = std::min(it->second.soonest, soon);
              it->second.latest = std::max(it->second.latest, late);
            } else if (++states > kMostStates) {
              finish_ = 0;
              return false;
            }
          }
        }
      }
      layer = std::move(next);
    }
    chain.attempts = longest;
    return true;
  }

  /// Every attempt as long as the longest of all that the rules can make, every wait as the longest.
  void Coarse(const Effective& first, Chain& chain) {
    chain.attempts = 1 + grants_;
    chain.exact = false;
    bool by_attempt = false;
    for (const RuleUse& use : uses_) {
      for (size_t s = 0; use.rule != nullptr && s < kSettings; ++s) {
        by_attempt = by_attempt || UsesAttempt(evaluator_.program(), SettingOf(use.rule->resources, use.rule->timeout, static_cast<Setting>(s)));
      }
    }
    if (by_attempt && grants_ > kLongestChain) {
      Unbounded(fmt::format("its settings depend on `attempt`, and there are more than {} retries", kLongestChain));
      finish_ = kForever;
      return;
    }
    std::vector<Effective> todo{first};
    std::unordered_set<std::string> seen{KeyOf(first, {})};
    int64_t longest = 0, gap = 0, total = 0;
    while (!todo.empty()) {
      const Effective e = todo.back();
      todo.pop_back();
      longest = std::max(longest, Plus(Wait(e), RunLimit(e)));
      total = std::max(total, Total(e));
      for (RuleUse& use : uses_) {
        const std::optional<int64_t> delay = costs_.delays ? LongestDelay(job_.retry, use.rule, use.most, evaluator_, context_) : 0;
        if (!delay) Unbounded("the wait before a retry is not known before the run");
        gap = std::max({gap, grace_, delay.value_or(kForever)});
        if (use.rule == nullptr) continue;
        for (int64_t attempt = 2; attempt <= (by_attempt ? grants_ + 1 : 2); ++attempt) {
          Step step = Apply(*use.rule, e, attempt, evaluator_, context_);
          if (step.outcome == Step::Outcome::CapReached || step.outcome == Step::Outcome::Fault) continue;
          if (seen.size() > kMostStates) {
            Unbounded("its retries can change its settings in too many ways");
            finish_ = kForever;
            return;
          }
          if (seen.insert(KeyOf(step.next, {})).second) todo.push_back(step.next);
        }
      }
    }
    finish_ = Plus(Plus(Times(longest, grants_ + 1), Times(gap, grants_)), grace_);
    finish_ = std::min(finish_, Plus(total, grace_));
  }

  const ir::Job& job_;
  const Costs& costs_;
  ir::Evaluator& evaluator_;
  ir::EvalContext& context_;
  std::vector<RuleUse> uses_;
  std::optional<int64_t> submissions_;
  std::string why_;
  int64_t grants_ = 0, grace_ = 0, finish_ = 0;
  bool no_queue_ = false, no_run_ = false;
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

std::string SettingText(Setting setting, const ir::Value& value) {
  switch (setting) {
    case Setting::Memory: case Setting::Disk: return ir::BytesText(value.as_int());
    case Setting::Cpu: return ir::FloatText(value.as_float());
    case Setting::Gpu: return std::to_string(value.as_int());
    case Setting::Spot: return value.as_bool() ? "true" : "false";
    default: return ir::DurationText(value.as_int());
  }
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
      e.value[s] = Kept(static_cast<Setting>(s), std::move(value));
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

bool OthersSet(const ir::Retry& retry, const ir::RetryRule& rule) {
  for (size_t s = 0; s < kSettings; ++s) {
    if (!SettingOf(rule.resources, rule.timeout, static_cast<Setting>(s)).valid()) continue;
    for (const ir::RetryRule& other : retry.rules) {
      if (&other != &rule && other.retries != 0 && SettingOf(other.resources, other.timeout, static_cast<Setting>(s)).valid()) return true;
    }
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
      value = Kept(static_cast<Setting>(s), std::move(value));
      if (IsRefused(static_cast<Setting>(s), value)) {
        step.outcome = Step::Outcome::Fault;
        step.at = static_cast<Setting>(s);
        step.why = fmt::format("`{}` would be less than an attempt may have", SettingName(step.at));
        return step;
      }
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
