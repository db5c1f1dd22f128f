// Drives a Scheduler without processes: keeps what was started, answers when the test says so, on a virtual clock, and
// checks the scheduler's invariants after every event.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/scheduler.h"

namespace jobc::testing {

class FakeBackend {
 public:
  FakeBackend(const ir::Plan& plan, SchedulerOptions options = {}, RunState* restored = nullptr)
      : plan_(plan),
        own_(plan, "run1"),
        state_(restored ? *restored : own_),
        scheduler(plan, state_, options, nullptr) {}

  struct Attempt {
    StartAttempt start;
    std::string address;
    bool ended = false, reaped = false;
    int cancels = 0;
    CancelWhy why = CancelWhy::Halt;
    int64_t grace_ms = 0;
  };

  RunState& state() { return state_; }

  void Begin() {
    scheduler.Begin(now);
    Take();
  }

  /// The newest attempt of the instance.
  Attempt& Of(const std::string& address) {
    for (auto it = attempts.rbegin(); it != attempts.rend(); ++it) {
      if (it->second.address == address) return it->second;
    }
    ADD_FAILURE() << "`" << address << "` was never started";
    static Attempt none;
    return none;
  }
  bool Started(const std::string& address) const {
    return std::find(started.begin(), started.end(), address) != started.end();
  }
  int Starts(const std::string& address) const {
    return static_cast<int>(std::count(started.begin(), started.end(), address));
  }

  void Run(const std::string& address) {
    scheduler.AttemptStarted(Of(address).start.id, now);
    Take();
  }
  void End(const std::string& address, Verdict verdict, ir::ListValue outputs = {}) {
    Attempt& attempt = Of(address);
    AttemptResult result;
    result.verdict = std::move(verdict);
    if (result.verdict.success) {
      outputs.resize(plan_.jobs[attempt.start.instance.job].outputs.size());
      result.outputs = std::move(outputs);
    }
    result.started_ms = now;
    result.ended_ms = now + 5;
    attempt.ended = true;
    scheduler.AttemptEnded(attempt.start.id, std::move(result), now);
    Take();
  }
  void Reap(const std::string& address) {
    Attempt& attempt = Of(address);
    attempt.reaped = true;
    scheduler.AttemptReaped(attempt.start.id, now);
    Take();
  }
  /// Runs, ends and is gone.
  void Finish(const std::string& address, Verdict verdict = Succeeded(), ir::ListValue outputs = {}) {
    AttemptId id = Of(address).start.id;
    Run(address);
    End(address, std::move(verdict), std::move(outputs));
    attempts[id].reaped = true;
    scheduler.AttemptReaped(id, now);
    Take();
  }
  /// The answer to a withdrawal: it never began.
  void Withdraw(const std::string& address) {
    Attempt& attempt = Of(address);
    attempt.reaped = true;
    scheduler.AttemptWithdrawn(attempt.start.id, now);
    Take();
  }
  /// The backend did not take it: as an engine does, AttemptEnded and AttemptReaped where it is not submitted again.
  bool SubmitFails(const std::string& address, ir::ErrorKind kind = ir::ErrorKind::Submit) {
    const AttemptId id = Of(address).start.id;
    const bool again = scheduler.SubmitFailed(id, Failed(kind, "not taken"), now);
    Take();
    if (again) return true;
    End(address, Failed(kind, "not taken"));
    attempts[id].reaped = true;
    scheduler.AttemptReaped(id, now);
    Take();
    return false;
  }
  void Fail(const std::string& address, ir::ErrorKind kind = ir::ErrorKind::Exit) {
    Finish(address, Failed(kind, "it broke"));
  }

  void Sleep(int64_t ms) {
    now += ms;
    scheduler.Tick(now);
    Take();
  }
  /// Advances exactly to the next deadline.
  void ToDeadline() {
    std::optional<int64_t> at = scheduler.NextDeadline();
    ASSERT_TRUE(at.has_value());
    Sleep(std::max<int64_t>(0, *at - now));
  }

  InstanceState StateOf(const std::string& address) {
    std::optional<InstanceRef> ref = state_.FindAddress(address);
    if (!ref) {
      for (uint32_t job = 0; job < plan_.jobs.size(); ++job) {
        if (plan_.jobs[job].address == address) return state_.whole(job);
      }
      ADD_FAILURE() << "no instance `" << address << "`";
      return InstanceState::Waiting;
    }
    return state_.state(*ref);
  }
  std::string WhyOf(const std::string& address) {
    std::optional<InstanceRef> ref = state_.FindAddress(address);
    for (uint32_t job = 0; job < plan_.jobs.size() && !ref; ++job) {
      if (plan_.jobs[job].address == address) ref = InstanceRef{job, kWholeJob};
    }
    auto verdict = ref ? state_.verdict(*ref) : nullptr;
    return verdict ? verdict->message : "";
  }

  void Take() {
    for (Action& action : scheduler.TakeActions()) {
      if (auto* start = std::get_if<StartAttempt>(&action)) {
        std::string address = state_.Address(start->instance);
        started.push_back(address);
        attempts[start->id] = {*start, address};
      } else if (auto* cancel = std::get_if<CancelAttempt>(&action)) {
        Attempt& attempt = attempts[cancel->id];
        ++attempt.cancels;
        attempt.why = cancel->why;
        attempt.grace_ms = cancel->grace_ms;
        cancelled.push_back(attempt.address);
      } else if (auto* wait = std::get_if<SubmissionRetry>(&action)) {
        submit_delays.push_back(wait->delay_ms);
      } else if (auto* again = std::get_if<SubmitAgain>(&action)) {
        submitted_again.push_back(fmt::format("{} {}", attempts[again->id].address, again->submission));
      } else if (auto* hungry = std::get_if<Starving>(&action)) {
        starving.push_back(hungry->text);
      } else if (auto* withdraw = std::get_if<WithdrawAttempt>(&action)) {
        withdrawn.push_back(attempts[withdraw->id].address);
      } else if (auto* end = std::get_if<RunFinished>(&action)) {
        finished.push_back(*end);
      } else if (auto* retry = std::get_if<RetryScheduled>(&action)) {
        delays.push_back(retry->delay_ms);
      } else if (std::get_if<HookFailed>(&action)) {
        ++hook_failures;
      } else if (std::get_if<EvaluateExports>(&action)) {
        ++exports;
      } else if (std::get_if<PublishOutputs>(&action)) {
        ++publishes;
      }
      log.push_back(std::move(action));
    }
    std::string broken = scheduler.CheckInvariants();
    EXPECT_EQ(broken, "");
  }

  int64_t now = 1000;
  std::vector<std::string> started, cancelled, withdrawn, submitted_again, starving;
  std::vector<int64_t> submit_delays;
  std::map<AttemptId, Attempt> attempts;
  std::vector<RunFinished> finished;
  std::vector<int64_t> delays;
  std::vector<Action> log;
  int hook_failures = 0, exports = 0, publishes = 0;

 private:
  const ir::Plan& plan_;
  RunState own_;
  RunState& state_;

 public:
  Scheduler scheduler;
};

}  // namespace jobc::testing
