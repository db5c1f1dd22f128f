// Random plans, random ends, random order of events: whatever happens, limits hold, every instance reaches exactly one
// final state, dependencies are respected, nothing starts after drain or halt, slots are freed by reaping alone, and
// the run ends with everything reaped. JOBC_SCHEDULES sets how many schedules are tried (100,000; 20,000
// where nothing is optimized), JOBC_SEED the first seed; a failure names the seed to repeat it with.
#include <cstdlib>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/scheduler.h"
#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

using ir::ErrorKind;
using ir::Mapping;
using ir::Strategy;
using testing::PlanBuilder;
using S = InstanceState;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t Below(uint64_t n) { return engine_() % n; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Pick(const std::vector<T>& from) {
    return from[Below(from.size())];
  }

 private:
  std::mt19937_64 engine_;
};

struct RandomPlan {
  PlanBuilder b;
  SchedulerOptions options;

  explicit RandomPlan(Random& r) {
    const ir::TypeId list = b.types().List(b.Type(ir::TypeKind::Int));
    std::vector<uint32_t> pools;
    std::set<uint32_t> lists;  // whose outputs other jobs are made of
    for (uint64_t i = r.Below(3); i > 0; --i)
      pools.push_back(b.Pool(fmt::format("pool{}", i), 1 + static_cast<int64_t>(r.Below(3))));
    const uint32_t count = 1 + static_cast<uint32_t>(r.Below(6));
    for (uint32_t i = 0; i < count; ++i) {
      const std::string name = fmt::format("j{}", i);
      uint32_t job;
      int source = -1;
      if (i > 0 && r.OneIn(6)) {  // dynamic, over an output of an earlier job
        for (uint32_t p = 0; p < i; ++p) {
          if (b[p].kind == ir::JobKind::Job && b[p].domain.single() && !b[p].nullable) source = static_cast<int>(p);
        }
      }
      if (source >= 0) {
        job = b.Scatter(name, b.Output(static_cast<uint32_t>(source), 0, list), true);
        lists.insert(static_cast<uint32_t>(source));
        b[job].domain.max = 3;
        b.Needs(job, static_cast<uint32_t>(source));
      } else if (r.OneIn(8)) {
        job = b.Check(name, b.Bool(!r.OneIn(3)), "no");
      } else if (r.OneIn(2)) {
        job = b.Scatter(name, static_cast<int64_t>(r.Below(5)));
        if (r.OneIn(3)) b[job].domain.axes.push_back({"m", b.Ints({0, 1}), b.Type(ir::TypeKind::Int)});
      } else {
        job = b.Job(name);
      }
      if (b[job].kind == ir::JobKind::Job) b.AddOutput(job, "xs", list);
      for (uint32_t p = 0; p < i; ++p) {
        if (!r.OneIn(3)) continue;
        AddDependency(r, job, p);
      }
      if (b[job].kind == ir::JobKind::Job && r.OneIn(6)) {
        b.When(job, b[job].domain.single() ? b.Bool(r.OneIn(2))
                                           : b.Binary(ir::Op::Gt, ir::TypeKind::Bool, b.Var(), b.Int(0)));
      }
      if (r.OneIn(2)) {
        const Strategy s = static_cast<Strategy>(r.Below(4));
        if (b[job].kind == ir::JobKind::Job || s != Strategy::Ignore) b.OnError(job, s);
      }
      Attributes(r, job, pools);
    }
    if (r.OneIn(4)) Attributes(r, b.Job("clean", ir::JobKind::Finally), pools);
    if (r.OneIn(8)) b.Hook("start", ir::HookEvent::Start);
    if (r.OneIn(8)) b.Hook("bad", ir::HookEvent::Failure);
    if (r.OneIn(8)) b.Hook("good", ir::HookEvent::Success);
    if (r.OneIn(8)) b.Hook("over", ir::HookEvent::Finish);
    if (r.OneIn(4)) b.plan.exports.push_back({"x", b.Type(ir::TypeKind::Int), b.Int(1), {}});
    if (r.OneIn(4)) b.plan.publishes.emplace_back();
    if (r.OneIn(10)) b.plan.limits.time_ms = 1 + static_cast<int64_t>(r.Below(3000));
    if (r.OneIn(3)) options.max_parallel = 1 + static_cast<uint32_t>(r.Below(4));
    if (r.OneIn(3)) options.cpu_milli = 2000 + 1000 * static_cast<int64_t>(r.Below(3));
    if (r.OneIn(4)) options.on_error = static_cast<Strategy>(1 + r.Below(3));
    if (r.OneIn(2)) {
      // Plans in which attempts can begin by themselves: what is not needed does without outputs and priorities.
      for (uint32_t job = 0; job < b.plan.jobs.size(); ++job) {
        if (!lists.count(job)) b[job].outputs.clear();
        b[job].priority = {};
      }
    }
  }

  void AddDependency(Random& r, uint32_t job, uint32_t p) {
    const bool weak = b[p].nullable || r.OneIn(4);
    if (b[p].domain.single()) {
      if (r.OneIn(3)) return b.After(job, p, static_cast<ir::AfterKind>(r.Below(3)));
      b.Needs(job, p, Mapping::Single, !weak);
      if (r.OneIn(6) && !b[job].domain.single()) {
        b[job].dependencies.back().condition = b.Binary(ir::Op::Gt, ir::TypeKind::Bool, b.Var(), b.Int(0));
      }
      return;
    }
    switch (r.Below(4)) {
      case 0: b.Needs(job, p, Mapping::All, !weak); break;
      case 1: b.After(job, p, static_cast<ir::AfterKind>(r.Below(3))); break;
      case 2:
        if (r.OneIn(2) && !b[job].domain.single()) {
          b.Needs(job, p, Mapping::Same, !weak);
        } else {
          std::vector<ir::ExprId> indices{b[job].domain.single() ? b.Int(static_cast<int64_t>(r.Below(3))) : b.Var()};
          if (!b[p].domain.axes.empty()) indices.push_back(b.Int(static_cast<int64_t>(r.Below(2))));
          b.Needs(job, p, Mapping::Expr, !weak, indices);
        }
        break;
      default: b.Needs(job, p, Mapping::All, !weak, {b.Int(static_cast<int64_t>(r.Below(3)))}); break;
    }
  }

  void Attributes(Random& r, uint32_t job, const std::vector<uint32_t>& pools) {
    if (b[job].kind == ir::JobKind::Check) return;
    for (uint32_t pool : pools) {
      if (r.OneIn(3))
        b[job].pools.emplace_back(
            pool, b.Int(1 + static_cast<int64_t>(r.Below(b.exprs().ConstValue(b.plan.pools[pool].slots).as_int()))));
    }
    if (r.OneIn(3)) b[job].resources.cpu = b.Int(1 + static_cast<int64_t>(r.Below(2)));
    if (r.OneIn(3)) b[job].priority = b[job].domain.single() ? b.Int(static_cast<int64_t>(r.Below(5)) - 2) : b.Var();
    if (r.OneIn(3)) {
      b.Retry(job, 1 + static_cast<int64_t>(r.Below(4)),
              {testing::OnClass(ir::ErrorClass::System), testing::OnKind(ErrorKind::Exit)},
              static_cast<int64_t>(r.Below(3)) * 50);
    }
    if (r.OneIn(3)) b[job].submit.max_attempts = 1 + static_cast<int64_t>(r.Below(4));
    if (r.OneIn(5)) b[job].timeout.run = b.Ms(1 + static_cast<int64_t>(r.Below(300)));
    if (r.OneIn(5)) b[job].timeout.queue = b.Ms(1 + static_cast<int64_t>(r.Below(300)));
    if (r.OneIn(5)) b[job].timeout.idle = b.Ms(1 + static_cast<int64_t>(r.Below(300)));
    if (r.OneIn(5)) b[job].timeout.total = b.Ms(1 + static_cast<int64_t>(r.Below(600)));
  }
};

/// One run, played at random, with a model of its own of what may happen.
class Play {
 public:
  /// `crashes`: how often the process dies on the way, on average, and the run is resumed from what was recorded.
  Play(const RandomPlan& random_plan, Random& r, double crashes)
      : plan_(random_plan.b.plan), options_(random_plan.options), r_(r), crashes_(crashes), evaluator_(plan_.program) {
    // In half of the plays some jobs have results of earlier runs.
    if (r_.OneIn(2)) {
      for (size_t i = 0; i < plan_.jobs.size(); ++i) options_.look_up.push_back(r_.OneIn(2));
    }
    state_ = std::make_unique<RunState>(plan_, "run");
    scheduler_ = std::make_unique<Scheduler>(plan_, *state_, options_, nullptr);
  }

  /// Empty if nothing was wrong.
  std::string Go() {
    scheduler_->Begin(now_);
    Take();
    for (int step = 0; !scheduler_->finished() && wrong_.empty(); ++step) {
      if (step > 3000) return "the run does not end";
      if (crashes_ > 0 && r_.Below(1000) < 1000 * crashes_ / 60) {
        Crash();
      } else {
        Step();
      }
      Take();
    }
    const RunState& state = *state_;
    if (!wrong_.empty()) return wrong_;
    if (finished_ != 1) return fmt::format("RunFinished came {} times", finished_);
    if (!live_.empty()) return "attempts are alive after the end";
    for (uint32_t job = 0; job < plan_.jobs.size(); ++job) {
      if (!state.all_final(job)) return fmt::format("`{}` is not final after the end", plan_.jobs[job].address);
    }
    bool failed = !state.FailedJobs().empty();
    if (failed != (exit_code_ != 0) && !interrupted_ && !odd_end_)
      return fmt::format("failures: {}, exit code {}", failed, exit_code_);
    return "";
  }
  int resumes() const { return resumes_; }
  uint64_t begun() const { return begun_; }
  uint64_t behind_others() const { return behind_others_; }

 private:
  struct Next {
    AttemptId id = 0;
    bool needs_success = false;  ///< of the one before
    bool revoked = false;
  };

  struct Live {
    InstanceRef instance;
    std::vector<std::pair<uint32_t, uint32_t>> pools;
    int64_t cpu = 0;
    Resources resources;
    bool started = false, ended = false, cancelled = false, judged = false, withdrawn = false;
    bool ended_well = false;
    std::vector<Next> next;  ///< what is to begin when it is reaped, and what is to follow that
    uint32_t submissions = 1;
  };

  void Wrong(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  /// All that is left is what a journal has: starts, verdicts with outputs, final states, domains. Live attempts are
  /// found again or are gone.
  void Crash() {
    auto state = std::make_unique<RunState>(plan_, "run");
    RunContext context(*state, nullptr);
    for (const auto& [job, list] : expansions_) {
      if (!state->RestoreExpansion(job, list, evaluator_, context).ok()) Wrong("an expansion could not be restored");
    }
    std::map<InstanceRef, S> finals;
    for (InstanceRef ref : final_) finals[ref] = state_->state(ref);
    for (const auto& [ref, number] : attempts_) finals.try_emplace(ref, S::Running);
    std::set<InstanceRef> kept;
    for (auto [ref, was] : finals) {
      RestoredInstance restored;
      restored.instance = ref;
      restored.state = was;
      auto number = attempts_.find(ref);
      restored.attempts = number == attempts_.end() ? 0 : number->second;
      if (was == S::Succeeded) restored.outputs = outputs_[ref];
      if (was == S::Failed) restored.verdict = state_->verdict(ref);
      if (const RetryHistory* history = state_->history(ref)) restored.history = *history;
      if (Result<void> done = state->Restore(std::move(restored), evaluator_, context); !done)
        Wrong(done.error().message);
      const bool stays = was == S::Succeeded || was == S::Failed || was == S::Skipped;
      if (stays && plan_.jobs[ref.job].kind == ir::JobKind::Job) kept.insert(ref);
    }
    state->RestoreNextAttempt(state_->next_attempt());
    auto scheduler = std::make_unique<Scheduler>(plan_, *state, options_, nullptr);
    for (auto it = live_.begin(); it != live_.end();) {
      Live& attempt = it->second;
      const bool alive = plan_.jobs[attempt.instance.job].kind == ir::JobKind::Job && !attempt.judged && r_.OneIn(2);
      if (!alive) {
        it = live_.erase(it);
        continue;
      }
      attempt.withdrawn = false;  // whoever asked for it is gone
      attempt.submissions = 1;    // counted anew by whoever goes on
      attempt.next.clear();
      scheduler->Adopt(it->first, attempt.instance, attempts_[attempt.instance], attempt.resources, {}, attempt.started,
                       now_);
      ++it;
    }
    final_ = std::move(kept);
    for (auto it = attempts_.begin(); it != attempts_.end();) {
      it = plan_.jobs[it->first.job].kind == ir::JobKind::Job ? std::next(it) : attempts_.erase(it);
    }
    mode_ = Strategy::Ignore;
    looking_.clear();
    awaiting_exports_ = awaiting_publish_ = false;
    scheduler_ = std::move(scheduler);
    state_ = std::move(state);
    scheduler_->Begin(now_);
    ++resumes_;
  }

  void Step() {
    Scheduler& scheduler = *scheduler_;
    RunState& state = *state_;
    if (r_.OneIn(400)) {
      interrupted_ = true;
      scheduler.CancelRun(r_.OneIn(3), "interrupted", now_);
      return;
    }
    if (r_.OneIn(300)) {
      uint32_t job = static_cast<uint32_t>(r_.Below(plan_.jobs.size()));
      odd_end_ = true;
      if (r_.OneIn(2) && state.size(job) > 0) {
        scheduler.CancelInstance({job, static_cast<uint32_t>(r_.Below(state.size(job)))}, "cancelled", now_);
      } else {
        scheduler.CancelJob(job, "cancelled", now_);
      }
      return;
    }
    if (!looking_.empty() && r_.OneIn(3)) {
      const size_t at = r_.Below(looking_.size());
      const InstanceRef ref = looking_[at];
      if (!r_.OneIn(20)) looking_.erase(looking_.begin() + static_cast<ptrdiff_t>(at));  // else it is answered twice
      AttemptResult result = RandomResult(ref);
      const bool waits = state.state(ref) == S::Waiting;
      if (result.verdict.success) {
        if (waits) outputs_[ref] = result.outputs;
        scheduler.Reused(ref, std::move(result), 1 + static_cast<uint32_t>(r_.Below(3)), now_);
        if (waits && state.state(ref) != S::Succeeded) Wrong("a result was not used");
      } else {
        scheduler.NotReused(ref, now_);
        if (state.state(ref) == S::Waiting) Wrong("an instance without a result still waits");
      }
      return;
    }
    if (awaiting_exports_ && r_.OneIn(3)) {
      awaiting_exports_ = false;
      scheduler.ExportsDone(std::nullopt, now_);
      return;
    }
    if (awaiting_publish_ && r_.OneIn(3)) {
      awaiting_publish_ = false;
      scheduler.PublishDone(std::nullopt, now_);
      return;
    }
    if (live_.empty() || r_.OneIn(5)) {
      std::optional<int64_t> next = scheduler.NextDeadline();
      if (next && (live_.empty() || r_.OneIn(2)))
        now_ = std::max(now_, *next);
      else
        now_ += static_cast<int64_t>(r_.Below(40));
      scheduler.Tick(now_);
      return;
    }
    auto it = live_.begin();
    std::advance(it, static_cast<ptrdiff_t>(r_.Below(live_.size())));
    const AttemptId id = it->first;
    Live& attempt = it->second;
    if (attempt.withdrawn && !attempt.started && !attempt.ended && r_.OneIn(2)) {
      live_.erase(it);
      scheduler.AttemptWithdrawn(id, now_);
      return;
    }
    if (attempt.next.size() < 3 && !attempt.ended && r_.OneIn(2)) {
      const AttemptId last = attempt.next.empty() ? id : attempt.next.back().id;
      if (auto next = scheduler.PlanNext(last, [&](InstanceRef) { return !r_.OneIn(4); }, now_)) {
        if (!attempt.next.empty() && attempt.next.back().revoked) Wrong("an attempt was planned after one that is not to begin");
        attempt.next.push_back({next->start.id, next->blocked_by_results});
        ++planned_;
        behind_others_ += attempt.next.size() > 1;
        const auto made = attempts_.find(next->start.instance);  // none is made by asking
        if (next->start.number != (made == attempts_.end() ? 0 : made->second) + 1) Wrong("planned attempts are miscounted");
        if (state.state(next->start.instance) != InstanceState::Ready) Wrong("what is planned is not ready");
        if (mode_ >= Strategy::Drain) Wrong("an attempt was planned after drain or halt");
        return;
      }
    }
    for (size_t i = 0; i < attempt.next.size(); ++i) {
      if (!r_.OneIn(attempt.next[i].revoked ? 3 : 30)) continue;
      // Taken back, by the engine too; and with it what is behind it, sooner or later.
      std::vector<Next> gone(attempt.next.begin() + static_cast<ptrdiff_t>(i), attempt.next.end());
      attempt.next.resize(i);
      if (r_.OneIn(3)) gone.resize(1);
      for (; !gone.empty(); gone.pop_back()) scheduler.NextRevoked(gone.back().id, now_);
      return;
    }
    switch (r_.Below(9)) {
      case 0:
      case 1:
        if (!attempt.started && !attempt.ended) {
          attempt.started = true;
          scheduler.AttemptStarted(id, now_);
        }
        break;
      case 2: scheduler.AttemptOutput(id, now_); break;
      case 3:
        if (attempt.started) scheduler.AttemptExited(id, now_);
        break;
      case 4:
      case 5:
        if (!attempt.ended || r_.OneIn(10)) {  // sometimes a second answer
          attempt.ended = true;
          AttemptResult result = RandomResult(attempt.instance);
          if (result.verdict.success && !attempt.judged) outputs_[attempt.instance] = result.outputs;
          attempt.ended_well = result.verdict.success;
          scheduler.AttemptEnded(id, std::move(result), now_);
        }
        break;
      case 6:
        if (attempt.ended || attempt.cancelled || r_.OneIn(6)) {
          // What jobc says of it may come too late: it may have ended well before that.
          const bool goes_on = !attempt.next.empty() && (attempt.ended ? attempt.ended_well || !attempt.next[0].needs_success
                                                                       : attempt.judged && r_.OneIn(2));
          began_ = goes_on ? attempt.next[0].id : 0;
          behind_.clear();
          if (goes_on) behind_.assign(attempt.next.begin() + 1, attempt.next.end());
          live_.erase(it);
          scheduler.AttemptReaped(id, now_, began_);
          if (r_.OneIn(10)) scheduler.AttemptReaped(id, now_);
        }
        break;
      case 7:
        if (!attempt.started && !attempt.ended && r_.OneIn(3)) {
          static const std::vector<ErrorKind> kinds = {ErrorKind::Submit, ErrorKind::Quota, ErrorKind::Network, ErrorKind::Image};
          const Verdict failed = Failed(r_.Pick(kinds), "not taken");
          if (!scheduler.SubmitFailed(id, failed, now_) && !attempt.judged) {
            attempt.ended = true;
            AttemptResult result;
            result.verdict = failed;
            scheduler.AttemptEnded(id, std::move(result), now_);
          }
        }
        break;
      default:
        if (r_.OneIn(12)) {
          const bool refuse = !attempt.started && r_.OneIn(2);
          live_.erase(it);
          if (refuse)
            scheduler.StartRefused(id, Failed(ErrorKind::Expression, "no value"), now_);
          else
            scheduler.AttemptLost(id, "lost", now_);
        }
        break;
    }
  }

  AttemptResult RandomResult(InstanceRef ref) {
    AttemptResult result;
    if (r_.OneIn(5)) {
      static const std::vector<ErrorKind> kinds = {ErrorKind::Exit, ErrorKind::NodeLost, ErrorKind::Oom,
                                                   ErrorKind::Schema, ErrorKind::Cancelled};
      result.verdict = Failed(r_.Pick(kinds), "it broke");
      return result;
    }
    result.verdict = Succeeded();
    for (size_t i = 0; i < plan_.jobs[ref.job].outputs.size(); ++i) {
      ir::ListValue list;
      for (uint64_t n = r_.Below(4); n > 0; --n)
        list.push_back(ir::Value::Int(static_cast<int64_t>(r_.OneIn(10) ? 1 : n)));
      result.outputs.push_back(ir::Value::List(std::move(list)));
    }
    return result;
  }

  void Take() {
    for (Action& action : scheduler_->TakeActions()) {
      if (auto* start = std::get_if<StartAttempt>(&action))
        OnStart(*start);
      else if (auto* revoke = std::get_if<RevokeNext>(&action))
        OnRevoke(*revoke);
      else if (auto* cancel = std::get_if<CancelAttempt>(&action))
        OnCancel(*cancel);
      else if (auto* withdraw = std::get_if<WithdrawAttempt>(&action))
        OnWithdraw(*withdraw);
      else if (auto* changed = std::get_if<InstanceChanged>(&action))
        OnChange(*changed);
      else if (auto* mode = std::get_if<ModeChanged>(&action))
        OnMode(*mode);
      else if (auto* judged = std::get_if<AttemptJudged>(&action))
        OnJudged(*judged);
      else if (auto* expanded = std::get_if<JobExpanded>(&action))
        expansions_[expanded->job] = expanded->list;
      else if (auto* look = std::get_if<LookUp>(&action))
        OnLookUp(look->instance);
      else if (auto* again = std::get_if<SubmitAgain>(&action))
        OnSubmitAgain(*again);
      else if (std::get_if<EvaluateExports>(&action))
        awaiting_exports_ = true;
      else if (std::get_if<PublishOutputs>(&action))
        awaiting_publish_ = true;
      else if (auto* end = std::get_if<RunFinished>(&action)) {
        ++finished_;
        exit_code_ = end->exit_code;
        if (end->exit_code == 13 || end->exit_code == 14) odd_end_ = true;
      }
    }
    Wrong(scheduler_->CheckInvariants());
  }

  void OnLookUp(InstanceRef ref) {
    if (plan_.jobs[ref.job].kind != ir::JobKind::Job) Wrong("a result of what is no job was asked for");
    if (mode_ >= Strategy::Drain) Wrong("a result was asked for after drain or halt");
    if (attempts_.count(ref) != 0) Wrong("a result was asked for after an attempt");
    if (std::find(looking_.begin(), looking_.end(), ref) != looking_.end()) Wrong("a result was asked for twice");
    for (const ir::Dependency& d : plan_.jobs[ref.job].dependencies) CheckDependency(ref, d);
    looking_.push_back(ref);
  }

  void OnJudged(const AttemptJudged& judged) {
    auto it = live_.find(judged.id);
    if (it == live_.end()) return;  // its place was lost at once
    if (it->second.judged) Wrong("an attempt got a second verdict");
    it->second.judged = true;
  }

  void OnSubmitAgain(const SubmitAgain& again) {
    auto it = live_.find(again.id);
    if (it == live_.end()) return Wrong("an attempt that is gone was submitted again");
    if (it->second.judged || it->second.started) Wrong("an attempt that began or has a verdict was submitted again");
    if (again.submission != ++it->second.submissions) Wrong("submissions are miscounted");
    if (again.submission > std::max<int64_t>(1, plan_.jobs[it->second.instance.job].submit.max_attempts)) Wrong("more submissions than allowed");
  }

  void OnMode(const ModeChanged& changed) {
    if (changed.mode <= mode_) Wrong("the mode fell");
    mode_ = changed.mode;
  }

  void OnRevoke(const RevokeNext& revoke) {
    if (revoke.id == began_) return;  // it was faster
    for (auto& [id, attempt] : live_) {
      for (Next& next : attempt.next) {
        if (next.id != revoke.id) continue;
        if (next.revoked) Wrong("a planned attempt was revoked twice");
        next.revoked = true;
        return;
      }
    }
    for (Next& next : behind_) {  // what it is behind has not been told to us yet
      if (next.id != revoke.id) continue;
      if (next.revoked) Wrong("a planned attempt was revoked twice");
      next.revoked = true;
      return;
    }
    Wrong("an attempt that was not planned was revoked");
  }

  void OnWithdraw(const WithdrawAttempt& withdraw) {
    auto it = live_.find(withdraw.id);
    if (it == live_.end()) return Wrong("an attempt that is gone was withdrawn");
    if (it->second.started) Wrong("an attempt was withdrawn that had started");
    if (it->second.withdrawn) Wrong("an attempt was withdrawn twice");
    it->second.withdrawn = true;
  }

  void OnCancel(const CancelAttempt& cancel) {
    auto it = live_.find(cancel.id);
    if (it == live_.end()) return Wrong("an attempt that is gone was cancelled");
    it->second.cancelled = true;
  }

  void OnChange(const InstanceChanged& changed) {
    RunState& state = *state_;
    for (uint32_t i = 0; i < changed.count; ++i) {
      const InstanceRef ref{changed.first.job,
                            changed.first.ordinal == kWholeJob ? kWholeJob : changed.first.ordinal + i};
      if (IsFinal(changed.to) && !final_.insert(ref).second)
        Wrong(fmt::format("`{}` became final twice", state.Address(ref)));
      if (IsFinal(changed.from)) Wrong(fmt::format("`{}` left a final state", state.Address(ref)));
    }
  }

  /// What the limits allow, computed from what is alive here and not from the scheduler's own books.
  void OnStart(const StartAttempt& start) {
    const ir::Job& job = plan_.jobs[start.instance.job];
    RunState& state = *state_;
    if (start.began != (start.id == began_)) Wrong("an attempt began that was not to");
    begun_ += start.began ? 1 : 0;
    Live attempt{start.instance, start.pools, start.resources.cpu_milli.value_or(0), start.resources};
    if (start.began) attempt.next = std::exchange(behind_, {});
    if (start.number != ++attempts_[start.instance]) Wrong("attempts are miscounted");
    if (!live_.emplace(start.id, attempt).second) Wrong("an attempt id was used twice");
    if (resumes_ == 0 && start.number > std::max<int64_t>(1, job.retry.max_attempts))
      Wrong("more attempts than allowed");
    uint32_t same = 0;
    int64_t cpu = 0;
    std::vector<uint32_t> used(plan_.pools.size(), 0);
    for (const auto& [id, other] : live_) {
      same += other.instance == start.instance;
      cpu += other.cpu;
      for (auto [pool, slots] : other.pools) used[pool] += slots;
    }
    if (same > 1) Wrong(fmt::format("`{}` runs twice at a time", state.Address(start.instance)));
    if (options_.max_parallel > 0 && live_.size() > options_.max_parallel) Wrong("max_parallel exceeded");
    if (options_.cpu_milli > 0 && cpu > options_.cpu_milli) Wrong("cpus exceeded");
    for (size_t p = 0; p < used.size(); ++p) {
      if (used[p] > plan_.program.exprs.ConstValue(plan_.pools[p].slots).as_int()) Wrong("a pool was exceeded");
    }
    if (start.pools.size() != job.pools.size()) Wrong("an attempt did not take all its pools");
    if (job.kind != ir::JobKind::Job) return;
    // One that was planned before may have begun before it could be taken back.
    if (mode_ >= Strategy::Drain && !start.began) Wrong("an attempt started after drain or halt");
    for (const ir::Dependency& d : job.dependencies) CheckDependency(start.instance, d);
  }

  void CheckDependency(InstanceRef ref, const ir::Dependency& d) {
    RunState& state = *state_;
    ir::Evaluator inputs(plan_.program);
    InstanceContext context(state, nullptr, inputs, ref);
    ir::Value value;
    if (d.condition.valid() && (!evaluator_.Evaluate(d.condition, context, value) || !value.as_bool())) return;
    std::vector<uint64_t> producers;
    ir::ListValue indices;
    for (ir::ExprId id : d.indices) {
      if (!evaluator_.Evaluate(id, context, value)) return Wrong("an index has no value");
      indices.push_back(value);
    }
    if (!state.expanded(d.job)) {
      if (!IsFinal(state.whole(d.job))) Wrong("started before the domain of a dependency was known");
      if (d.strong) Wrong("started although a strong dependency has no instances");
      return;
    }
    if (d.mapping == Mapping::Same)
      producers.push_back(ref.ordinal);
    else if (d.mapping == Mapping::Expr)
      producers.push_back(static_cast<uint64_t>(state.instances(d.job).Find(indices)));
    else
      producers = state.instances(d.job).FindAll(indices);
    for (uint64_t p : producers) {
      if (p >= state.size(d.job)) return Wrong("started with an index that does not exist");
      const S s = state.state({d.job, static_cast<uint32_t>(p)});
      if (!IsFinal(s))
        Wrong(fmt::format("`{}` started before `{}` ended", state.Address(ref),
                          state.Address({d.job, static_cast<uint32_t>(p)})));
      if (d.strong && s != S::Succeeded)
        Wrong(fmt::format("`{}` started without a strong dependency", state.Address(ref)));
    }
  }

  const ir::Plan& plan_;
  SchedulerOptions options_;
  std::vector<InstanceRef> looking_;  ///< whose result was asked for
  Random& r_;
  double crashes_;
  int resumes_ = 0;
  ir::Evaluator evaluator_;
  std::unique_ptr<RunState> state_;
  std::unique_ptr<Scheduler> scheduler_;
  // What a journal would have.
  std::map<uint32_t, ir::Value> expansions_;
  std::map<InstanceRef, uint32_t> attempts_;
  std::map<InstanceRef, ir::ListValue> outputs_;
  int64_t now_ = 0;
  std::map<AttemptId, Live> live_;
  std::set<InstanceRef> final_;
  RunMode mode_ = Strategy::Ignore;
  bool awaiting_exports_ = false, awaiting_publish_ = false, interrupted_ = false, odd_end_ = false;
  int finished_ = 0, exit_code_ = -1;
  AttemptId began_ = 0;       ///< what has just begun by itself
  std::vector<Next> behind_;  ///< what is to follow that
  uint64_t planned_ = 0, begun_ = 0, behind_others_ = 0;
  std::string wrong_;
};

#ifdef __OPTIMIZE__
constexpr uint64_t kSchedules = 100'000;
#else
constexpr uint64_t kSchedules = 20'000;
#endif

uint64_t Setting(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : fallback;
}

TEST(Schedules, KeepEveryPromiseWhateverHappens) {
  const uint64_t count = Setting("JOBC_SCHEDULES", kSchedules), first = Setting("JOBC_SEED", 1);
  uint64_t begun = 0, behind_others = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Random r(seed);
    RandomPlan plan(r);
    Play play(plan, r, 0);
    ASSERT_EQ(play.Go(), "") << "repeat with JOBC_SCHEDULES=1 JOBC_SEED=" << seed;
    begun += play.begun();
    behind_others += play.behind_others();
  }
  if (count > 1000) {
    EXPECT_GT(begun, count / 50) << "hardly anything begins by itself: the test has lost its point";
    EXPECT_GT(behind_others, count / 100) << "hardly anything waits behind another: the test has lost its point";
  }
}

TEST(Schedules, CanBeResumedFromWhatWasRecordedAtAnyPoint) {
  const uint64_t count = Setting("JOBC_SCHEDULES", kSchedules) / 5 + 1, first = Setting("JOBC_SEED", 1);
  uint64_t resumes = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Random r(seed);
    RandomPlan plan(r);
    Play play(plan, r, 1.5);
    ASSERT_EQ(play.Go(), "") << "repeat with JOBC_SCHEDULES=1 JOBC_SEED=" << seed;
    resumes += static_cast<uint64_t>(play.resumes());
  }
  if (count > 1000) {
    EXPECT_GT(resumes, count / 2) << "the test has lost its point";
  }
}

TEST(Schedules, AreTheSameForTheSameSeed) {
  // The core has no clock and no randomness of its own: equal events give equal actions.
  auto actions = [](uint64_t seed) {
    Random r(seed);
    RandomPlan plan(r);
    RunState state(plan.b.plan, "run");
    Scheduler scheduler(plan.b.plan, state, plan.options, nullptr);
    std::string out;
    scheduler.Begin(0);
    for (int round = 0; round < 50; ++round) {
      for (Action& action : scheduler.TakeActions()) {
        out += fmt::format("{} ", action.index());
        if (auto* start = std::get_if<StartAttempt>(&action)) {
          out += fmt::format("{}:{}/{} ", start->id, start->instance.job, start->instance.ordinal);
          scheduler.AttemptStarted(start->id, round);
          scheduler.AttemptEnded(start->id, {Failed(ErrorKind::NodeLost, ""), {}, {}, 0, 0, {}}, round);
          scheduler.AttemptReaped(start->id, round);
        }
      }
      scheduler.Tick(round * 100);
    }
    return out;
  };
  for (uint64_t seed = 1; seed <= 200; ++seed) EXPECT_EQ(actions(seed), actions(seed)) << seed;
}

}  // namespace
}  // namespace jobc
