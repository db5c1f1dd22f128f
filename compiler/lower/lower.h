// Stage 4 of 4: Model to ir::Plan. Chooses the profile, gives the parameters their values, hashes the files that are known
// now, and checks what needs values: `require`, missing files, keys, indices, paths. The only stage that reads files
// other than sources; what it reads is recorded in the plan by content, never by place.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compiler/check/model.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"
#include "ir/plan.h"

namespace jobc {

/// One `-p` of the command line, in order.
struct ParamOption {
  bool is_file = false;     ///< `-p @FILE`
  std::string name;         ///< of `-p NAME=TEXT`
  std::string text;         ///< or the file's path
};

/// What the server of a remote file says of its content.
struct RemoteDescription {
  std::string problem;                ///< why it says nothing; empty: it did
  bool missing = false;               ///< there is no such file
  std::string etag, version;          ///< both empty: it gives the content no name
  std::optional<uint64_t> size;
};

/// An image that a job of the plan runs.
struct PlannedImage {
  std::string image;       ///< as the file names it; empty: `why` says why it is not known
  ir::BackendKind backend = ir::BackendKind::Docker;
  std::string address;     ///< of the job
  std::string why;
};

struct LowerOptions {
  std::string profile;      ///< "": the file's default profile, or none; "none": no profile
  std::vector<ParamOption> params;
  /// JOB_PARAM_x as (x, value).
  std::vector<std::pair<std::string, std::string>> environment;
  bool bounds = false;      ///< the worst case is asked for: say which jobs have none (W505)
  /// Of a test: values by index into Program::params. They have been checked and go before everything else.
  std::vector<std::pair<uint32_t, ir::Value>> values;
  /// Of a test: files that are not there count as empty ones.
  bool missing_files_are_empty = false;
  /// Gets the images of the plan, before the lock beside the root puts digests in place of their tags.
  std::vector<PlannedImage>* images = nullptr;
  /// Asks the servers of remote files, as many answers as addresses. Without it nobody is asked.
  std::function<std::vector<RemoteDescription>(const std::vector<std::string>&)> describe_remote;
  /// Why nothing can be laid down at a place of `staging` that is written well: as the source has it, and absolute. Empty: it
  /// can. Touches no network. Without it nobody is asked.
  std::function<std::string(const std::string& place)> staging_problem;
};

/// Takes the Model apart. Returns nullopt where errors were emitted. Must not be called after Check() found errors.
std::optional<ir::Plan> Lower(Model&& model, const LowerOptions& options, const SourceManager& sources, Diagnostics& diags);

/// Where a file of the plan lies on this machine. `root_directory`: that of the root source.
std::string LocateFile(const ir::FileValue& file, const std::string& root_directory);

/// Size and content hash of what stands at `path`; of a directory, of the sorted list of (relative path, kind, x-bit, hash).
Result<ir::FileRow> DescribeFile(const std::string& path, bool is_dir);

}  // namespace jobc
