// What attempts were given and what they left, laid down at the place that `staging` names, so that people and other programs
// find it without jobc:
//
//   PLACE/{namespace}-{name}/{YYYY-MM-DD}/{HHMM}/{execution id}/   the base
//     jobc-staged.json   what this is; written first, and last with "complete": true
//     input/             inputs.json, script/…, files/INPUT/BASENAME
//     output/            stdout.log, stderr.log, result.json, outputs.json, files/…
//
// The engine says what there is (StagingRequest); a thread looks at it (GatherStaged); a folder is written by that thread too
// (LayDownStaged), a bucket through RemoteFiles::StageTo(). Removed by `jobc gc`, which goes by the manifest.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/masking.h"
#include "runtime/process/log_store.h"
#include "support/result.h"

namespace jobc {

inline constexpr const char* kStagedManifest = "jobc-staged.json";

/// An absolute folder or `s3://BUCKET[/PREFIX]`, without a `/` at its end; relative folders are below `root`. The error says
/// what is wrong with `text`.
Result<std::string> StagingPlace(std::string_view text, const std::string& root);
/// Why nothing can be written to the folder `place`, or to the first one above it that is there; empty: it can.
std::string WhyNoStagingFolder(const std::string& place);

/// Date and time in UTC; names are made safe for files and keys.
std::string StagedBase(const std::string& place, std::string_view name_space, std::string_view name, int64_t wall_ms, const std::string& execution_id);
/// `examples/train.job` gives `train`.
std::string StagingNamespace(std::string_view source);

/// A file or directory of the attempt.
struct StagedSource {
  std::string path;           ///< below the base: `input/files/reads/a.txt`
  std::string source;         ///< absolute; empty: only `uri` is known
  bool is_dir = false;
  std::string sha256;         ///< of a file, if it is known
  std::string uri;            ///< of a remote file, without what may be a password
  std::string etag, version;  ///< its server names its content so: that is kept, and no copy
};

struct StagingRequest {
  std::string base;
  std::vector<std::pair<std::string, std::string>> about;  ///< of the manifest: name and JSON
  std::vector<StagedSource> sources;
  std::vector<std::pair<std::string, std::string>> texts;  ///< path and text
  std::string scripts_dir;    ///< absolute: its files are texts below `input/script`; empty: none
  std::string logs_dir;       ///< where log.pack lies; empty: the logs are among `texts`
  uint64_t attempt = 0;       ///< whose logs
  std::string scratch_dir;    ///< made where large logs need a place before they are sent, and removed by who sent them
};

/// One file of the manifest.
struct StagedFile {
  std::string path;
  std::string source;         ///< absolute, to be copied; empty: `text`, or nothing to copy
  std::string text;
  bool is_text = false, is_dir = false, executable = false;
  uint64_t size = 0;
  std::string sha256;
  std::string link;           ///< a symbolic link in a directory: where it leads. Never followed
  std::string uri, etag, version;
  std::string withheld;       ///< why it is not there
  std::string at;             ///< the same content was laid down there by an earlier attempt of the run
};

struct StagedSet {
  std::string base;
  std::vector<std::pair<std::string, std::string>> about;
  std::vector<StagedFile> files;
};

/// Looks at everything and hashes it. What holds a secret is withheld. Reads all files; ends early, with ECANCELED, once `stop` is set.
Result<StagedSet> GatherStaged(const StagingRequest& request, const Masker& masker, const std::atomic<bool>& stop);

/// Before (`complete` false: only what it is about) and after everything else.
std::string StagedManifest(const StagedSet& set, bool complete);

/// Into a folder: the manifest, the files, the manifest again. A file with `at` becomes another name of that one, where it is
/// still there. An earlier try for the same attempt is replaced; what is there of anybody else is an error.
Result<void> LayDownStaged(StagedSet& set, const std::atomic<bool>& stop);

/// Whether `text` is the manifest of that attempt: what it lies beside was put there by jobc.
bool IsStagedManifest(std::string_view text, std::string_view execution_id);
/// Removes what LayDownStaged() made, and the folders above it, up to the place, that are empty then. False: nothing was
/// there. What has no manifest of `execution_id` is an error, and stays. `bytes`: what it takes. `dry`: only looks.
Result<bool> RemoveStaged(const std::string& base, std::string_view execution_id, bool dry, uint64_t& bytes);

}  // namespace jobc
