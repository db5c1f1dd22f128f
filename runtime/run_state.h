// The state of a run: instances of every job, the state, attempts, outputs and times of each, and the contexts in which
// expressions see them. It is a fold: only Expand, Apply… and Restore… change it, so that a journal of the same facts
// rebuilds it. Owned by the engine, changed by the Scheduler alone once that exists. Compact: about 30 bytes an
// instance, 32 more for each declared output; verdicts and retry history only where there are any.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/plan.h"
#include "runtime/attempt.h"
#include "runtime/retry.h"

namespace jobc {

/// `run.status`, in the order of the language's enum.
enum class RunStatus : uint8_t { Succeeded, Failed, Interrupted, TimedOut };
std::string_view RunStatusName(RunStatus status);

/// What retries must remember of an instance. Kept for instances that were retried or resumed.
struct RetryHistory {
  GrantedRetries granted;
  bool has_next = false;  ///< `resources` and `timeouts` below are those of the next attempt
  Resources resources;
  Timeouts timeouts;
  int64_t total_used_ms = 0;  ///< of timeout.total
};

/// Times in milliseconds of the wall clock; 0: not yet.
struct InstanceTimes {
  int64_t started_ms = 0;  ///< program of the last attempt
  int64_t ended_ms = 0;
};

/// One instance as a journal knows it, for RunState::Restore.
struct RestoredInstance {
  InstanceRef instance;
  InstanceState state = InstanceState::Waiting;  ///< not final, Blocked and Cancelled ones are decided again
  uint32_t attempts = 0;
  InstanceTimes times;
  ir::ListValue outputs;  ///< if succeeded
  ir::Value result;
  std::shared_ptr<const Verdict> verdict;  ///< if failed
  std::optional<RetryHistory> history;
};

class RunState {
 public:
  /// `plan` must outlive the state.
  RunState(const ir::Plan& plan, std::string run_id);

  const ir::Plan& plan() const { return *plan_; }
  const std::string& run_id() const { return run_id_; }

  // -- Domains ---------------------------------------------------------------------------------------------------
  /// Expands a job; a dynamic one needs the value of its `for … in`. Error: duplicate keys or above `max`, see
  /// ir::Instances.
  Result<void> Expand(uint32_t job, ir::Evaluator& evaluator, ir::EvalContext& context,
                      const ir::Value* list = nullptr);
  bool expanded(uint32_t job) const { return jobs_[job].instances.has_value(); }
  /// Must be expanded.
  const ir::Instances& instances(uint32_t job) const { return *jobs_[job].instances; }
  /// Number of instances; 0 while not expanded.
  uint32_t size(uint32_t job) const { return static_cast<uint32_t>(jobs_[job].rows.size()); }
  /// Final state of a job that ended without ever being expanded; Waiting while there is none.
  InstanceState whole(uint32_t job) const { return jobs_[job].whole; }
  /// `align["s1"]`; the job's address for kWholeJob.
  std::string Address(InstanceRef instance) const;
  /// By address as people write it; nullopt: no such (expanded) instance.
  std::optional<InstanceRef> FindAddress(std::string_view address) const;

  // -- Instances -------------------------------------------------------------------------------------------------
  InstanceState state(InstanceRef instance) const;
  uint32_t attempts(InstanceRef instance) const;
  InstanceTimes times(InstanceRef instance) const;
  /// Of Failed instances, and of Cancelled and Skipped ones with a reason; null if there is none.
  std::shared_ptr<const Verdict> verdict(InstanceRef instance) const;
  /// Null where the instance did not succeed.
  const ir::Value& output(InstanceRef instance, uint32_t index) const;
  const ir::Value& result(InstanceRef instance) const;
  /// nullptr: never retried.
  const RetryHistory* history(InstanceRef instance) const;
  /// Instances of `job` in `state`; a whole job counts as one.
  uint64_t count(uint32_t job, InstanceState state) const { return jobs_[job].counts[static_cast<size_t>(state)]; }
  bool all_final(uint32_t job) const;
  /// Failed instances in the order of their failure, those of jobs with `ignore` included.
  const std::vector<InstanceRef>& failed() const { return failed_; }

  AttemptId next_attempt() const { return next_attempt_; }
  RunStatus status() const { return status_; }
  /// Sorted addresses of failed instances that are not tolerated: `run.failed_jobs`.
  std::vector<std::string> FailedJobs() const;

  // -- Facts, applied by the Scheduler ---------------------------------------------------------------------------
  /// `from` must be the current state and the change legal.
  void ApplyState(InstanceRef instance, InstanceState to, std::shared_ptr<const Verdict> verdict = nullptr);
  AttemptId ApplyAttempt(InstanceRef instance);  ///< a new attempt: counts it and gives its id
  void RetractAttempt(InstanceRef instance);     ///< it never began (an expression failed): not counted
  void ApplyResult(InstanceRef instance, AttemptResult&& result);  ///< times, and on success outputs and result
  /// The result of an earlier instance, made by `attempts`.
  void ApplyReused(InstanceRef instance, AttemptResult&& result, uint32_t attempts);
  RetryHistory& MutableHistory(InstanceRef instance);
  void ApplyWhole(uint32_t job, InstanceState final_state, std::shared_ptr<const Verdict> verdict);
  void ApplyStatus(RunStatus status) { status_ = status; }
  void set_tolerated(uint32_t job, bool tolerated) { jobs_[job].tolerated = tolerated; }

  // -- Resume, before the Scheduler begins ------------------------------------------------------------------------
  /// The value of a dynamic `for`, as journaled. Static jobs are expanded by the Scheduler.
  Result<void> RestoreExpansion(uint32_t job, const ir::Value& list, ir::Evaluator& evaluator,
                                ir::EvalContext& context);
  /// A static job is expanded on its first restored instance. Error: there is no such instance in this plan.
  Result<void> Restore(RestoredInstance restored, ir::Evaluator& evaluator, ir::EvalContext& context);
  void RestoreNextAttempt(AttemptId next) { next_attempt_ = next; }

 private:
  struct Row {
    int64_t started_ms = 0;
    int64_t ended_ms = 0;
    uint32_t attempts = 0;
    InstanceState state = InstanceState::Waiting;
  };
  struct JobState {
    std::optional<ir::Instances> instances;
    std::vector<Row> rows;
    std::vector<ir::Value> outputs;  ///< rows * outputs of the job, allocated with the first success
    std::vector<ir::Value> results;  ///< rows, allocated with the first result
    std::unordered_map<uint32_t, std::shared_ptr<const Verdict>> verdicts;
    std::unordered_map<uint32_t, RetryHistory> histories;
    std::array<uint64_t, kInstanceStates> counts{};
    InstanceState whole = InstanceState::Waiting;
    bool tolerated = false;  ///< on_error = ignore
  };

  Result<void> ExpandWith(uint32_t job, ir::Evaluator& evaluator, ir::EvalContext& context, const ir::Value* list);

  const ir::Plan* plan_;
  std::string run_id_;
  std::vector<JobState> jobs_;
  std::vector<InstanceRef> failed_;
  AttemptId next_attempt_ = 1;
  RunStatus status_ = RunStatus::Succeeded;
};

/// What expressions outside any instance see: jobs of the run and `run.*`. Files, secrets and logs are asked from
/// `world` (the engine's context; null: unavailable). Both must outlive it.
class RunContext : public ir::EvalContext {
 public:
  RunContext(const RunState& state, ir::EvalContext* world) : state_(state), world_(world) {}

  bool JobOutput(uint32_t job, uint32_t output, const ir::ListValue& indices, ir::Value& out,
                 ir::Fault& fault) override;
  bool JobStatus(uint32_t job, ir::StatusField field, const ir::ListValue& indices, ir::Value& out,
                 ir::Fault& fault) override;
  bool ScatterStatus(uint32_t job, ir::StatusField field, ir::Value& out, ir::Fault& fault) override;
  bool Instances(uint32_t job, const ir::ListValue& indices, ir::Value& out, ir::Fault& fault) override;
  bool InstanceOutput(const ir::Value& instance, uint32_t output, ir::Value& out, ir::Fault& fault) override;
  bool InstanceStatus(const ir::Value& instance, ir::StatusField field, ir::Value& out, ir::Fault& fault) override;
  bool InstanceKey(const ir::Value& instance, ir::Value& out, ir::Fault& fault) override;
  bool RunField(ir::RunFieldKind kind, ir::Value& out, ir::Fault& fault) override;
  bool Secret(uint32_t index, ir::Value& out, ir::Fault& fault) override;
  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override;
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override;
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) override;

 protected:
  const RunState& state_;
  ir::EvalContext* world_;
};

/// What the expressions of one instance see; the engine derives from it to add staged paths, outputs and logs.
class InstanceContext : public RunContext {
 public:
  /// `inputs` evaluates input expressions; it must not be the Evaluator this context is used with.
  InstanceContext(const RunState& state, ir::EvalContext* world, ir::Evaluator& inputs, InstanceRef instance)
      : RunContext(state, world), instance_(instance), input_evaluator_(inputs) {}

  InstanceRef instance() const { return instance_; }
  void SetInstance(InstanceRef instance);
  void SetResources(const Resources* resources) {
    resources_ = resources;
  }  ///< must outlive the context; null: unknown
  void SetAttempt(uint32_t number) { attempt_ = number; }

  bool Var(uint32_t slot, ir::Value& out, ir::Fault& fault) override;
  bool Input(uint32_t index, ir::Value& out, ir::Fault& fault) override;
  bool Resource(ir::ResourceKind kind, ir::Value& out, ir::Fault& fault) override;
  bool Attempt(ir::Value& out, ir::Fault& fault) override;

 private:
  InstanceRef instance_;
  ir::Evaluator& input_evaluator_;
  const Resources* resources_ = nullptr;
  uint32_t attempt_ = 0;
  ir::ListValue inputs_;     ///< evaluated so far, in declared order
  bool evaluating_ = false;  ///< an input: it may only use earlier ones
};

}  // namespace jobc
