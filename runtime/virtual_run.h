// A run without processes: the Scheduler on a virtual clock, with attempts that end as the caller says. Everything else is
// what a real run does: the one evaluator, `errors`, retries, decoding of results, capture of files. Used by `jobc test`.
// Works in a scratch directory of the caller and touches nothing else; inputs are not staged, so they need not exist.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/plan.h"
#include "runtime/attempt_context.h"
#include "runtime/scheduler.h"

namespace jobc {

/// What the program of one attempt does.
struct VirtualProgram {
  struct File {
    uint32_t output = UINT32_MAX;     ///< a declared output of kind Path; else `path`
    std::string path;                 ///< below $JOB_OUTPUT
    std::string content;
  };
  std::optional<Verdict> failure;     ///< decided by jobc or the backend: `errors` is not asked
  int exit_code = 0;
  std::string stdout_text, stderr_text;
  std::optional<ir::Value> result;    ///< Json, written to $JOB_RESULT
  std::vector<File> files;
  int64_t takes_ms = 0;
  bool outputs_are_free = false;      ///< a success leaves null for every output; for what nothing can refer to
};

struct VirtualSetup {
  const ir::Plan* plan = nullptr;     ///< must outlive the outcome
  Roots roots;
  std::string scratch;                ///< absolute, exists, empty
  /// Asked for every attempt; nullopt: nobody said what this instance does, which fails it.
  std::function<std::optional<VirtualProgram>(const RunState& state, InstanceRef instance, uint32_t number)> program;
  /// Only expands what is known before the run and evaluates the commands of `commands_of`; `program` is not asked.
  bool plan_only = false;
  std::vector<uint32_t> commands_of;
};

struct VirtualExport {
  ir::Value value;                    ///< null where it has none
  std::string problem;                ///< why it has none
};

struct VirtualOutcome {
  RunFinished end;                                 ///< not with VirtualSetup::plan_only
  std::unique_ptr<RunState> state;
  std::vector<VirtualExport> exports;              ///< one for each of Plan::exports
  std::vector<std::string> published;              ///< `destination/path`, sorted
  std::vector<std::string> unanswered;             ///< addresses without a program
  std::map<InstanceRef, std::vector<std::string>> argv;   ///< of the first attempt of each instance; none where it has no value
  std::map<InstanceRef, std::string> misfits;      ///< programs that succeeded, but left no outputs as declared: why
};

VirtualOutcome RunVirtually(const VirtualSetup& setup);

/// Makes instances of a job be skipped: those with `indices`, or all. Before the plan is run. False where the instances of
/// the job cannot be told apart before it is expanded (a dynamic scatter without key).
bool SkipInstances(ir::Plan& plan, uint32_t job, const std::optional<ir::ListValue>& indices);

/// Files as tests and people see them: `$JOB_OUTPUT/x` of the instance itself, else the path as it was declared.
std::string VirtualFileText(const ir::FileValue& file);

}  // namespace jobc
