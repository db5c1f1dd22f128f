// The pure core of a run: events in, actions out. No file descriptors, threads or clock; `now` is a monotonic clock in
// milliseconds given with every event. Decides which instances run when, under which limits, what a failure means for
// the rest, and when the run has ended. The engine (event loop) feeds it and carries out what TakeActions() gives, in
// order.
//
//   for each event:  scheduler.AttemptEnded(id, std::move(result), now);
//                    for (Action& action : scheduler.TakeActions()) …;
//                    arm one timer at scheduler.NextDeadline(), on which Tick(now) is called
//
// Contract with the engine, for every StartAttempt: AttemptStarted at most once, AttemptExited at most once,
// AttemptEnded or StartRefused exactly once or not at all after a CancelAttempt, AttemptReaped exactly once
// (StartRefused, AttemptWithdrawn and AttemptLost imply it). The first verdict wins; what comes later is ignored and counted in
// Counters::late.
//
// A backend may begin an attempt by itself when one before it has ended well and is reaped, if PlanNext() gave it: it takes
// over exactly the claims of the one before, so no limit can be passed, and it is the first that waits, so no order is
// broken. Until then it is ready. One may be planned to follow one that is planned itself. For each, one answer:
// AttemptReaped(before, now, next), or NextRevoked(next), which comes before the AttemptReaped of the one before. What is to
// follow a revoked one is revoked with it. Cost per event does not depend on the number of instances (mode changes look at each instance once).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ir/plan.h"
#include "runtime/attempt.h"
#include "runtime/run_state.h"

namespace jobc {

struct SchedulerOptions {
  uint32_t max_parallel = 0;             ///< attempts at a time in this run; 0: no limit
  uint32_t local_parallel = 0;           ///< attempts at a time on backends of this machine; 0: no limit
  int64_t cpu_milli = 0;                 ///< what this machine has, for local backends; 0: unlimited
  int64_t memory = 0;                    ///< bytes; 0: unlimited
  int64_t gpu = -1;                      ///< -1: unlimited
  bool oversubscribe = false;            ///< claims above capacity are clipped instead of refused
  std::optional<ir::Strategy> on_error;  ///< of the command line; never changes a job with `ignore`
  /// By job: before an instance waits for its turn the engine is asked for a result that can be used again (LookUp).
  std::vector<bool> look_up;
};

/// Phases in order; those with nothing to do are passed at once.
enum class RunPhase : uint8_t { New, StartHooks, Jobs, Exports, Publish, Finally, ResultHooks, FinishHooks, Ended };
std::string_view PhaseName(RunPhase phase);

/// `ignore < continue < drain < halt`, of the failures so far.
using RunMode = ir::Strategy;

/// What made the run fail first; decides its exit code.
enum class RunCause : uint8_t { None, Job, Check, Limit, Backend, Environment, Interrupt };

enum class CancelWhy : uint8_t {
  Halt,
  Drain,
  User,
  Interrupt,
  TimeLimit,
  QueueTimeout,
  RunTimeout,
  TotalTimeout,
  IdleTimeout,
  StageTimeout,
  CollectTimeout,
  Environment
};
std::string_view CancelWhyText(CancelWhy why);

struct StartAttempt {
  AttemptId id = 0;
  InstanceRef instance;
  uint32_t number = 1;  ///< JOB_ATTEMPT
  int64_t grace_ms = 10'000;
  Resources resources;                               ///< effective
  Timeouts timeouts;                                 ///< effective; also given to remote backends
  std::vector<std::pair<uint32_t, uint32_t>> pools;  ///< Plan::pools, slots taken
  bool began = false;  ///< PlanNext() gave it, and it has begun already
};

/// What PlanNext() gave shall not begin: NextRevoked() is to follow, unless it begins first.
struct RevokeNext {
  AttemptId id = 0;
};

/// TERM, after `grace_ms` KILL. The attempt has its verdict already; its reaping is awaited.
struct CancelAttempt {
  AttemptId id = 0;
  CancelWhy why = CancelWhy::Halt;
  int64_t grace_ms = 10'000;
};

/// End it unless its program has begun: it has no verdict yet. Answered by AttemptWithdrawn, or by what comes anyway
/// (AttemptStarted, AttemptEnded …) when it is too late; a backend that starts at once need not answer.
struct WithdrawAttempt {
  AttemptId id = 0;
};

/// `count` consecutive instances of one job, from `first` on, went from `from` to `to`; more than one only for changes
/// without an attempt. For kWholeJob the job ended without instances.
struct InstanceChanged {
  InstanceRef first;
  uint32_t count = 1;
  InstanceState from = InstanceState::Waiting;
  InstanceState to = InstanceState::Waiting;
  AttemptId attempt = 0;                   ///< the one that caused it, if any
  std::shared_ptr<const Verdict> verdict;  ///< why, for failed, skipped, blocked, cancelled and backoff
};

/// The verdict of one attempt, first and only. Comes before the InstanceChanged it causes. Must be durable before
/// actions after it are carried out.
struct AttemptJudged {
  AttemptId id = 0;
  InstanceRef instance;
  uint32_t number = 1;
  std::shared_ptr<const Verdict> verdict;
  bool from_backend = true;  ///< false: decided here (timeout, cancel)
};

struct RetryScheduled {
  InstanceRef instance;
  AttemptId failed = 0;
  uint32_t next_number = 2;
  uint32_t rule = 0;
  int64_t delay_ms = 0;
};

/// The backend did not take an attempt; it is submitted again after `delay_ms`, see SubmitAgain. The attempt stays what it
/// was: its number, its id and its slots.
struct SubmissionRetry {
  AttemptId id = 0;
  InstanceRef instance;
  uint32_t submission = 2;  ///< number of the next one
  int64_t delay_ms = 0;
  Verdict verdict;          ///< of the submission that failed
};

/// Now. The attempt may have reached the backend before: it must be looked for there, by its execution id, and only be
/// sent if it is not found. Only for attempts without a verdict.
struct SubmitAgain {
  AttemptId id = 0;
  uint32_t submission = 2;
};

/// Nothing of this sort was started for kStarvation although instances are ready and what they claim exists.
struct Starving {
  InstanceRef instance;   ///< whose turn is next
  uint64_t count = 1;     ///< of the same job with the same claims that wait
  int64_t waited_ms = 0;
  std::string text;       ///< what it waits for, and who has it
};

struct JobExpanded {
  uint32_t job = 0;
  uint32_t count = 0;
  ir::Value list;  ///< value of a dynamic `for`, to be journaled; null for static domains
};

struct ModeChanged {
  RunMode mode = RunMode::Drain;
  InstanceRef cause;  ///< of the failure; job UINT32_MAX: not an instance
};

/// Evaluate Plan::exports (for failed runs: what exists, others null), then call ExportsDone().
struct EvaluateExports {};
/// Carry out Plan::publishes, then call PublishDone().
struct PublishOutputs {};

struct PhaseChanged {
  RunPhase phase = RunPhase::Jobs;
};

/// Is there a result of this instance already? Answered by Reused() or NotReused(), in any order and at any time.
struct LookUp {
  InstanceRef instance;
};

/// A hook failed: a warning only.
struct HookFailed {
  InstanceRef hook;
  std::shared_ptr<const Verdict> verdict;
};

struct RunFinished {
  RunStatus status = RunStatus::Succeeded;
  RunCause cause = RunCause::None;
  int exit_code = 0;                ///< 0, 10, 12, 13, 14, 15 or 130; `--strict` may make 11 of 0
  bool tolerated_failures = false;  ///< some instance with `ignore` failed
  std::string message;              ///< the first cause in words; empty on success
};

using Action = std::variant<StartAttempt, RevokeNext, CancelAttempt, WithdrawAttempt, InstanceChanged, AttemptJudged, RetryScheduled, SubmissionRetry,
                            SubmitAgain, Starving, JobExpanded,
                            ModeChanged, EvaluateExports, PublishOutputs, PhaseChanged, HookFailed, LookUp, RunFinished>;

class Scheduler {
 public:
  /// Ready instances that were passed so often by later ones have their slots reserved.
  static constexpr uint32_t kMaxPasses = 10;
  /// At most so many different claims that do not fit are looked at before an admission round ends.
  static constexpr uint32_t kMaxLookahead = 256;

  /// Whoever is ready waits longer than this, in milliseconds, is reported.
  static constexpr int64_t kStarvation = 10 * 60'000;

  struct Counters {
    uint64_t late = 0;      ///< late, stale and duplicate answers that were ignored
    uint64_t attempts = 0;  ///< started in this process
    uint64_t retries = 0;
    uint64_t resubmissions = 0;
  };

  /// `plan`, `state` and `world` must outlive it. `world` answers for files and secrets, see RunContext.
  Scheduler(const ir::Plan& plan, RunState& state, SchedulerOptions options, ir::EvalContext* world);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // -- Events ----------------------------------------------------------------------------------------------------
  /// A live attempt of an earlier process that was found again; before Begin(). Its instance must not be final. `ran_ms`: how
  /// long its program runs already; its limits count from there, but for `idle`.
  void Adopt(AttemptId id, InstanceRef instance, uint32_t number, Resources resources, Timeouts timeouts, bool started,
             int64_t now, int64_t ran_ms = 0);
  /// How an attempt of an earlier process was started, computed again from the plan and the history of its instance; before
  /// Begin(). nullopt: an expression has no value any more.
  std::optional<StartAttempt> Again(AttemptId id, InstanceRef instance, uint32_t number);
  /// `interrupted`: not empty if the run was interrupted before it began (as by CancelRun()): nothing is started.
  void Begin(int64_t now, std::string interrupted = "");
  /// Its inputs are being brought here: `timeout.stage` counts instead of `timeout.queue`. `what`: which inputs, for the message.
  void AttemptStaging(AttemptId id, std::string what, int64_t now);
  /// They are here: it is submitted now, and `timeout.queue` begins.
  void AttemptStaged(AttemptId id, int64_t now);
  /// Its outputs take a while, which `timeout.collect` bounds; after AttemptExited.
  void AttemptCollecting(AttemptId id, int64_t now);
  /// Its inputs are staged and the program runs: the run and idle clocks start.
  void AttemptStarted(AttemptId id, int64_t now, int64_t ran_ms = 0);
  /// Something was written to stdout or stderr.
  void AttemptOutput(AttemptId id, int64_t now);
  /// The program ended; outputs are being collected: the run and idle clocks stop.
  void AttemptExited(AttemptId id, int64_t now);
  void AttemptEnded(AttemptId id, AttemptResult result, int64_t now);
  /// `next`: what PlanNext() gave for it has begun; a StartAttempt with `began` follows.
  void AttemptReaped(AttemptId id, int64_t now, AttemptId next = 0);
  /// The attempt that may begin when `before` has ended with exit code 0, has left none of `blocked_by_results` where
  /// that is set, and is reaped: nothing else that can still happen to `before` decides whether it is to begin.
  struct Next {
    StartAttempt start;
    bool blocked_by_results = false;  ///< not if `before` wrote a result: that may be wrong, and would stop the run
  };
  /// `before` is alive or planned. nullopt: there is none. `may` is asked about the instance.
  std::optional<Next> PlanNext(AttemptId before, const std::function<bool(InstanceRef)>& may, int64_t now);
  /// What PlanNext() gave has not begun and never will; the attempt never was.
  void NextRevoked(AttemptId id, int64_t now);
  /// Nothing of it can be found any more: node_lost, and reaped.
  void AttemptLost(AttemptId id, std::string message, int64_t now);
  /// The backend could not take it: nothing of it is known to exist. True: it waits; SubmitAgain follows, unless it is
  /// cancelled or withdrawn first, which the engine then answers itself. False: nothing happened, AttemptEnded and
  /// AttemptReaped must follow. An answer to a submission that only seemed to fail counts like any other.
  bool SubmitFailed(AttemptId id, const Verdict& verdict, int64_t now);
  /// An expression of its inputs, env or argv failed: the instance fails with `expression`; the attempt never was.
  void StartRefused(AttemptId id, Verdict verdict, int64_t now);
  /// The answer to a WithdrawAttempt: its program never began and never will. The instance is cancelled.
  void AttemptWithdrawn(AttemptId id, int64_t now);
  /// A backend of the plan cannot run attempts. Best called before Begin(), which then ends the run with exit 14 and
  /// starts nothing; the same until the first attempt has started. Later: ignored, attempts fail by themselves.
  void BackendUnavailable(std::string message, int64_t now);
  /// The engine cannot write its state: everything is cancelled, nothing else runs, exit 15.
  void EnvironmentFailed(std::string message, int64_t now);
  /// Answers to a LookUp. The result must be a success; `attempts` are those of the original.
  void Reused(InstanceRef instance, AttemptResult result, uint32_t attempts, int64_t now);
  void NotReused(InstanceRef instance, int64_t now);
  void ExportsDone(std::optional<Verdict> failure, int64_t now);
  void PublishDone(std::optional<Verdict> failure, int64_t now);
  void Tick(int64_t now);

  void CancelInstance(InstanceRef instance, std::string reason, int64_t now);
  void CancelJob(uint32_t job, std::string reason, int64_t now);
  /// First: cancel all jobs, then `finally`, exit 130. `at_once`: cancel those too without grace, and end.
  void CancelRun(bool at_once, std::string reason, int64_t now);

  // -- What to do ------------------------------------------------------------------------------------------------
  std::vector<Action> TakeActions();
  /// When Tick() must be called; nullopt: only events can change anything.
  std::optional<int64_t> NextDeadline();

  // -- To look at ------------------------------------------------------------------------------------------------
  RunPhase phase() const;
  RunMode mode() const;
  bool finished() const { return phase() == RunPhase::Ended; }
  const Counters& counters() const;
  uint32_t live_attempts() const;  ///< started and not yet reaped
  /// Ready instances that will likely start next (Admission::Peek): a guess that may be wrong.
  std::vector<InstanceRef> LikelyNext(size_t limit) const;
  uint32_t PoolUsed(uint32_t pool) const;
  uint32_t PoolSlots(uint32_t pool) const;
  /// The instance of a live attempt.
  std::optional<InstanceRef> InstanceOf(AttemptId id) const;
  /// Empty if sound, else the first broken invariant. Looks at everything; for tests.
  std::string CheckInvariants() const;

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

}  // namespace jobc
