// The worst case of a plan, proven before anything runs: attempts, time and slots of an instance, a job and the whole
// run. Pure over ir::Plan; belongs to the compiler, which compares the result with `limits` and prints it.
// docs/bounds.md says what is counted, which formula is used and what is assumed. jobc's own overhead (staging, collecting
// outputs, starting processes) is outside every bound.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compiler/bounds/retry_chain.h"
#include "ir/evaluate.h"
#include "ir/plan.h"

namespace jobc::bounds {

/// Of one instance, from the hand-over of its first attempt to the end of its last one. Waits for pools and dependencies
/// are not part of it.
struct InstanceBounds {
  int64_t attempts = 0;
  std::optional<int64_t> time_ms;   ///< with the waits between attempts; nullopt: without bound
  std::optional<int64_t> work_ms;   ///< attempts alone: how long its slots are taken
  std::string unbounded;            ///< why there is no bound
  std::string missing;              ///< see Chain
  std::vector<std::pair<uint32_t, int64_t>> slots;  ///< Plan::pools, while it runs; kUnknownSlots: any number
};
inline constexpr int64_t kUnknownSlots = -1;

struct JobBounds {
  bool known = true;                ///< false: the number of its instances is not known yet
  bool certain = true;              ///< false: there may be fewer attempts, by parameters that have no value yet
  uint64_t instances = 0;           ///< of a dynamic scatter: at most
  int64_t attempts = 0;             ///< of all instances
  int64_t attempts_of_one = 0;      ///< of the instance with the most
  std::optional<int64_t> time_ms;   ///< of its longest instance
  std::optional<int64_t> work_ms;   ///< of all instances
  std::string unbounded;
  std::string missing;
  int64_t at_once = 0;              ///< instances at the same time
  std::vector<std::pair<uint32_t, int64_t>> slots;  ///< taken at the same time, by pool
};

/// One limit that attempts may have to wait for: the work that goes through it, divided by how many slots are taken at
/// least while somebody waits.
struct Contention {
  std::string name;                 ///< "max_parallel", "pool `gpu`"
  int64_t work_ms = 0;              ///< slots times time, of all attempts
  int64_t divisor = 1;
};

struct PlanBounds {
  std::vector<JobBounds> jobs;      ///< same order as Plan::jobs
  uint64_t instances = 0;           ///< jobs and checks
  int64_t attempts = 0;             ///< of jobs
  std::optional<int64_t> time_ms;   ///< nullopt: some job has no bound
  int64_t max_parallel = 1;
  bool max_parallel_declared = false;
  std::vector<std::pair<uint32_t, int64_t>> slots;
  // How time_ms came about.
  std::optional<int64_t> jobs_ms;   ///< without `finally`, hooks and `limits`
  std::vector<uint32_t> path;       ///< jobs on the longest path
  int64_t path_ms = 0;              ///< what they add to the waiting
  std::vector<Contention> contentions;
  bool one_after_the_other = false; ///< all work in a row gives the smaller bound
  int64_t finally_ms = 0, hooks_ms = 0;
  bool by_limit = false;            ///< `limits { time = … }` is the smaller bound, or the only one
  int64_t limit_grace_ms = 0;       ///< what its cancelled attempts may take to end
};

/// Of one instance. `context` gives its loop variables and what else is known.
InstanceBounds BoundInstance(const ir::Job& job, ir::Evaluator& evaluator, ir::EvalContext& context);

/// Also for plans whose parameters have no values yet: what is not known then is said to be without bound.
PlanBounds Bound(const ir::Plan& plan);

/// Writes them into the plan.
void Record(const PlanBounds& bounds, ir::Plan& plan);

/// The longest chain of jobs that wait for each other, by the time of their longest instances; those without a bound count
/// as longer than all others. Empty if there are no jobs.
std::vector<uint32_t> CriticalPath(const ir::Plan& plan, const PlanBounds& bounds);

/// For `jobc plan --bounds`: a table with the formula, or a JSON document.
std::string BoundsText(const ir::Plan& plan, const PlanBounds& bounds);
std::string BoundsJson(const ir::Plan& plan, const PlanBounds& bounds);
/// For `jobc plan --bounds --expand`: a line for each instance, or a JSON object a line.
std::string InstanceBoundsText(const ir::Plan& plan, bool json);

/// For people: two units are enough. "unbounded" for nullopt.
std::string TimeText(const std::optional<int64_t>& ms);

}  // namespace jobc::bounds
