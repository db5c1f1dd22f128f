// From a plan's job and its values to what one attempt is started with: argv, the whole environment, staged inputs,
// private files. The JOB_* contract of docs/run-contract.md stands here. Called by the engine with the places a backend
// has made; files are written below AttemptPlaces::stage_dir only. Whatever the job reads (argv, environment, inputs.json,
// scripts) names places as the job sees them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "compiler/script/script.h"
#include "ir/evaluate.h"
#include "ir/plan.h"
#include "runtime/attempt_context.h"
#include "runtime/backend.h"
#include "runtime/scheduler.h"

namespace jobc {

/// How a staged file looked when it was staged (size, mtime, inode): a difference at the end fails the attempt.
struct InputIdentity {
  std::string path;
  std::string input;
  int64_t size = 0;
  int64_t mtime_ns = 0;
  uint64_t inode = 0;
  uint64_t device = 0;
};

/// A File or Dir that the attempt was given.
struct GivenFile {
  std::string place;      ///< below $JOB_INPUT: `reads/a.txt`
  std::string original;   ///< where it lies on this machine; empty: an earlier process brought it
  bool is_dir = false;
  ir::FileValue file;
};

/// What is the same for all attempts of a run; computed once.
class LaunchBuilder {
 public:
  /// `plan` must outlive it. `run_dir` is absolute.
  LaunchBuilder(const ir::Plan& plan, std::string run_id, std::string run_dir);
  ~LaunchBuilder();

  struct Prepared {
    bool ok = false;
    bool refused = false;             ///< not ok, and nothing was tried: an expression failed
    Verdict failure;                  ///< if not ok
    AttemptLaunch launch;
    std::string result_path;          ///< $JOB_RESULT, on this machine
    bool staged = false;              ///< stage_dir was made
    std::vector<InputIdentity> identities;
    std::vector<GivenFile> given;     ///< of jobs with `staging` only
    std::string scripts_dir;          ///< on this machine; empty: there are none
  };

  /// `context` is the attempt's; staged inputs and the output directory are set in it. `evaluator` must not be the one the
  /// context uses for its inputs. `again`: it was started so by an earlier process, and its directories are left as they are.
  Prepared Build(const StartAttempt& start, const AttemptPlaces& places, ir::Evaluator& evaluator, AttemptContext& context, bool again = false);

  /// `[execution id]`: unique over all attempts of all runs.
  std::string ExecutionId(AttemptId id) const;

 private:
  struct JobScripts;
  const JobScripts& Scripts(uint32_t job);

  const ir::Plan& plan_;
  std::string run_id_;
  std::string run_dir_;
  std::vector<std::string> base_env_;
  std::string no_input_dir_;          ///< made with the first attempt without inputs
  std::vector<std::unique_ptr<JobScripts>> scripts_;
};

/// The first input that is not as it was; nothing if all are.
std::optional<std::string> ChangedInput(const std::vector<InputIdentity>& identities);

/// Reads all secrets of the plan. The error names each that is missing and where it is looked for.
Result<std::vector<std::string>> ReadSecrets(const ir::Plan& plan, const Roots& roots);

}  // namespace jobc
