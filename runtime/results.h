// From what an attempt left behind to typed outputs: the JSON result decoded, declared files and globs captured,
// `= expr` outputs evaluated; then the captured files are published by rename, so that readers never see a half-written
// output. Runs in the engine after a program has ended with success. Works on the attempt's own directories only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ir/plan.h"
#include "runtime/attempt.h"
#include "runtime/attempt_context.h"
#include "runtime/masking.h"
#include "support/result.h"

namespace jobc {

/// A file or directory to be published.
struct CapturedFile {
  std::string path;    ///< where it belongs, relative to the instance's output directory
  std::string source;  ///< absolute; inside the attempt's $JOB_OUTPUT
  bool is_dir = false;
  bool copy = false;   ///< reached through a link: copied, not moved
};

struct CollectRequest {
  std::string output_dir;   ///< absolute, the attempt's $JOB_OUTPUT
  std::string seen_dir;     ///< the same as the job sees it; empty: no other
  std::string result_path;  ///< absolute, the attempt's $JOB_RESULT
  bool no_result = false;   ///< it is known that neither that nor smartjob.json was written
  std::string run_dir;      ///< absolute, the run's directory
  std::string place;        ///< of the published outputs, relative to run_dir: `outputs/align%5B%22s1%22%5D`
};

struct Collected {
  Verdict verdict;               ///< success, or `schema` / `output_missing` with a message
  ir::ListValue outputs;         ///< one for each declared output, on success
  ir::Value result;              ///< the JSON result, null if there is none
  std::vector<CapturedFile> files;
  std::vector<std::string> notes;
  bool holds_secret = false;     ///< (R953) what the attempt left must not be kept
};

/// `context` is the attempt's, with SetEnded() done. Values of files already name their published place.
Collected CollectOutputs(const ir::Plan& plan, uint32_t job, const CollectRequest& request, ir::Evaluator& evaluator,
                         AttemptContext& context, const Masker& masker);

/// Moves the captured files to run_dir/place; what was there from an unfinished publication is replaced. Everything else
/// in the output directory stays there and is dropped with it.
Result<void> PublishCaptured(const Collected& collected, const CollectRequest& request);

/// Outputs as the journal keeps them: one JSON object; files as paths relative to the run's directory.
Result<std::string> EncodeOutputs(const ir::Plan& plan, uint32_t job, const ir::ListValue& outputs);
/// Back to values, with absolute places below `run_dir`.
Result<ir::ListValue> DecodeOutputs(const ir::Plan& plan, uint32_t job, std::string_view json, const std::string& run_dir,
                                    ir::Evaluator& evaluator, ir::EvalContext& context);
/// Gives the files of jobs in `value` (a decoded FileBase::Job path below `run_dir`) their absolute places.
ir::Value PlaceFiles(const ir::Plan& plan, const ir::Value& value, ir::TypeId type, const std::string& run_dir);
/// `value` with every File in it changed.
ir::Value MapOutputFiles(const ir::Plan& plan, const ir::Value& value, ir::TypeId type, const std::function<void(ir::FileValue&)>& change);
/// The first published file of `outputs` that is no longer there; empty if all are.
std::string VerifyOutputs(const ir::ListValue& outputs);

/// Copies a file, or a tree without links and special files in it; keeps modes, and lets the owner write if `writable` (a
/// result that runs share is read-only, a copy of it need not be). `target` must not exist.
Result<void> CopyTree(const std::string& source, const std::string& target, bool sync, bool writable = false);

}  // namespace jobc
