// Plays a run on the real scheduler with a virtual clock. A policy says for each attempt when it starts, when and how its
// program ends, and how long its remains take to go; the player sees to it that nothing happens that cannot happen, and
// measures what the bounds speak about.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/scheduler.h"
#include "tests/bounds/random_plan.h"

namespace jobc::testing {

/// Times in milliseconds after the hand-over; -1: never.
struct Script {
  int64_t start = 0;
  int64_t end = -1;          ///< by itself; a success or the failure `verdict`
  Verdict verdict = Succeeded();
  int64_t silent_from = -1;  ///< it writes something all the time until then; -1: to its end
  int64_t lag = 0;           ///< after a cancel until it is reaped; at most the grace
  bool hold = false;         ///< runs until all that are held do
};

struct Measured {
  int64_t attempts = 0, time_ms = 0, work_ms = 0;
};

class Player {
 public:
  using Policy = std::function<Script(const StartAttempt&)>;

  /// `order`: of what happens in the same millisecond; null: the program before the clock.
  Player(const ir::Plan& plan, SchedulerOptions options, std::string run_id, Policy policy, Random* order)
      : plan_(plan), policy_(std::move(policy)), order_(order), state_(plan, std::move(run_id)), scheduler_(plan, state_, options, nullptr),
        at_once(plan.jobs.size(), 0), at_once_most(plan.jobs.size(), 0),
        slots(plan.jobs.size(), std::vector<int64_t>(plan.pools.size(), 0)), slots_most(slots), pool_most(plan.pools.size(), 0), pool_(plan.pools.size(), 0) {}

  size_t hold_until = 0;                          ///< held attempts are let go when so many run
  std::function<void(Scheduler&, int64_t)> meddle;  ///< called now and then, to cancel something

  /// Empty if the run ended as it must.
  std::string Go() {
    scheduler_.Begin(now_);
    Take();
    for (int64_t steps = 0; !scheduler_.finished(); ++steps) {
      if (steps > 200'000) return "the run does not end";
      if (meddle) meddle(scheduler_, now_);
      Take();
      if (scheduler_.finished()) break;
      std::optional<int64_t> next = scheduler_.NextDeadline();
      if (!happens_.empty()) next = std::min(next.value_or(INT64_MAX), happens_.begin()->first);
      if (!next) return "the run is stuck";
      now_ = std::max(now_, *next);
      Chatter();
      const bool clock_first = order_ != nullptr && order_->OneIn(2);
      if (clock_first) Tick();
      while (!happens_.empty() && happens_.begin()->first <= now_) {
        const Event event = happens_.begin()->second;
        happens_.erase(happens_.begin());
        Happen(event);
        Take();
      }
      if (!clock_first) Tick();
    }
    run_ms = now_ - kBegin;
    if (!live_.empty()) return "attempts are alive after the end";
    return "";
  }

  const Measured& Of(InstanceRef ref) { return instances[ref].measured; }
  RunState& state() { return state_; }

 private:
  static constexpr int64_t kBegin = 1000;
  enum class What : uint8_t { Start, Output, End, Reap, Withdraw };
  struct Event {
    What what;
    AttemptId id;
  };
  struct Live {
    StartAttempt start;
    Script script;
    int64_t at = 0;
    bool started = false, ended = false, cancelled = false;
  };
  struct Track {
    Measured measured;
    bool live = false, waits = false;
    int64_t since = 0;
  };

  const ir::Plan& plan_;
  Policy policy_;
  Random* order_;
  RunState state_;
  Scheduler scheduler_;
  std::map<AttemptId, Live> live_;
  std::multimap<int64_t, Event> happens_;
  int64_t now_ = kBegin;
  size_t held_ = 0;

 public:
  std::map<InstanceRef, Track> instances;
  std::vector<int64_t> at_once, at_once_most;             ///< by job
  std::vector<std::vector<int64_t>> slots, slots_most;    ///< by job and pool
  std::vector<int64_t> pool_most;
  int64_t run_ms = 0;
  int exit_code = 0;

 private:
  std::vector<int64_t> pool_;

  void Tick() {
    scheduler_.Tick(now_);
    Take();
  }

  void Chatter() {
    for (const auto& [id, attempt] : live_) {
      if (attempt.started && !attempt.cancelled && (attempt.script.silent_from < 0 || now_ <= attempt.at + attempt.script.silent_from)) scheduler_.AttemptOutput(id, now_);
    }
  }

  void Happen(const Event& event) {
    auto it = live_.find(event.id);
    if (it == live_.end()) return;
    Live& attempt = it->second;
    switch (event.what) {
      case What::Start:
        if (attempt.cancelled) return;
        attempt.started = true;
        scheduler_.AttemptStarted(event.id, now_);
        if (attempt.script.silent_from < 0) scheduler_.AttemptOutput(event.id, now_);
        if (attempt.script.hold && ++held_ == hold_until) {
          for (const auto& [id, other] : live_) {
            if (other.script.hold) happens_.emplace(now_, Event{What::End, id});
          }
        }
        return;
      case What::Output:
        if (attempt.started && !attempt.cancelled) scheduler_.AttemptOutput(event.id, now_);
        return;
      case What::End: {
        if (attempt.cancelled) return;
        attempt.ended = true;
        AttemptResult result;
        result.verdict = attempt.script.verdict;
        if (result.verdict.success) {
          for (size_t i = 0; i < plan_.jobs[attempt.start.instance.job].outputs.size(); ++i) {
            result.outputs.push_back(ir::Value::List({ir::Value::Int(0), ir::Value::Int(1), ir::Value::Int(2)}));
          }
        }
        happens_.emplace(now_, Event{What::Reap, event.id});
        scheduler_.AttemptEnded(event.id, std::move(result), now_);
        return;
      }
      case What::Withdraw:
        if (attempt.started || attempt.ended || attempt.cancelled) return;  // too late
        [[fallthrough]];
      case What::Reap: {
        const InstanceRef ref = attempt.start.instance;
        for (const auto& [pool, n] : attempt.start.pools) {
          slots[ref.job][pool] -= n;
          pool_[pool] -= n;
        }
        --at_once[ref.job];
        Track& track = instances[ref];
        Pass(track);
        track.measured.work_ms += now_ - attempt.at;
        track.live = false;
        live_.erase(it);
        if (event.what == What::Withdraw) scheduler_.AttemptWithdrawn(event.id, now_);
        else scheduler_.AttemptReaped(event.id, now_);
        return;
      }
    }
  }

  /// Time that counts for an instance: while it has an attempt that is not reaped, or waits for its next one.
  void Pass(Track& track) {
    if (track.live || track.waits) track.measured.time_ms += now_ - track.since;
    track.since = now_;
  }

  void Take() {
    for (Action& action : scheduler_.TakeActions()) {
      if (auto* start = std::get_if<StartAttempt>(&action)) OnStart(*start);
      else if (auto* cancel = std::get_if<CancelAttempt>(&action)) OnCancel(*cancel);
      else if (auto* withdraw = std::get_if<WithdrawAttempt>(&action)) happens_.emplace(now_, Event{What::Withdraw, withdraw->id});
      else if (auto* changed = std::get_if<InstanceChanged>(&action)) OnChange(*changed);
      else if (std::get_if<EvaluateExports>(&action)) scheduler_.ExportsDone(std::nullopt, now_);
      else if (std::get_if<PublishOutputs>(&action)) scheduler_.PublishDone(std::nullopt, now_);
      else if (auto* end = std::get_if<RunFinished>(&action)) exit_code = end->exit_code;
    }
  }

  void OnStart(const StartAttempt& start) {
    Track& track = instances[start.instance];
    Pass(track);
    track.live = true;
    ++track.measured.attempts;
    const uint32_t job = start.instance.job;
    at_once_most[job] = std::max(at_once_most[job], ++at_once[job]);
    for (const auto& [pool, n] : start.pools) {
      slots[job][pool] += n;
      pool_[pool] += n;
      slots_most[job][pool] = std::max(slots_most[job][pool], slots[job][pool]);
      pool_most[pool] = std::max(pool_most[pool], pool_[pool]);
    }
    Live attempt;
    attempt.start = start;
    attempt.script = policy_(start);
    attempt.at = now_;
    const Script& script = attempt.script;
    if (script.start >= 0) happens_.emplace(now_ + script.start, Event{What::Start, start.id});
    if (script.silent_from >= 0) happens_.emplace(now_ + script.silent_from, Event{What::Output, start.id});
    if (script.end >= 0) happens_.emplace(now_ + script.end, Event{What::End, start.id});
    live_.emplace(start.id, std::move(attempt));
  }

  void OnCancel(const CancelAttempt& cancel) {
    auto it = live_.find(cancel.id);
    if (it == live_.end()) return;
    Live& attempt = it->second;
    if (attempt.ended) return;  // it is gone anyway
    const int64_t lag = std::min(attempt.script.lag, cancel.grace_ms);
    if (attempt.cancelled && cancel.grace_ms > 0) return;
    attempt.cancelled = true;
    happens_.emplace(now_ + lag, Event{What::Reap, cancel.id});
  }

  void OnChange(const InstanceChanged& changed) {
    for (uint32_t i = 0; i < changed.count && changed.first.ordinal != kWholeJob; ++i) {
      Track& track = instances[{changed.first.job, changed.first.ordinal + i}];
      Pass(track);
      track.waits = changed.to == InstanceState::Backoff;
    }
  }
};

}  // namespace jobc::testing
