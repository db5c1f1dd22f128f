// Results that can be used again: those of an earlier run (`run --resume`) and those of the result cache (`cache = true`).
// Both are found by cache key (cache_key.h); before one is used its files must be there with the content they had. The files
// become hard links in the new run's outputs, or copies on another file system, so that every run is whole by itself.
// The engine looks results up and takes them over; the slow half, TakeFiles(), may run on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/evaluate.h"
#include "ir/plan.h"
#include "runtime/attempt.h"
#include "runtime/run_reader.h"
#include "support/result.h"

namespace jobc {

/// The result of a succeeded instance, and where its files are.
struct StoredResult {
  std::string base_dir;      ///< absolute; the paths in `outputs` and `files` are below it
  std::string outputs;       ///< JSON by name, as in the journal; empty: there are none
  std::string result;        ///< the JSON result; empty: none
  std::string files;         ///< JSON: path to SHA-256, directories with a trailing `/`
  std::string run, address;  ///< what made it
  uint32_t attempts = 1;
  int64_t started_ms = 0, ended_ms = 0;
};

/// Id of the run whose results a run uses (`run --resume`); empty: none.
std::string UsedRun(const RunHeader& header);

/// The succeeded instances of a run by their keys; then those of the run that it used itself, and so on: a run that was cut
/// off before it came to an instance does not lose what there was.
class EarlierRun {
 public:
  /// The error's code is EBUSY where the run is still going on. `held`: this process has its lock.
  static Result<std::unique_ptr<EarlierRun>> Open(const std::string& state_dir, const std::string& id, bool held = false);
  /// Of several with this key the one with the same address.
  std::optional<StoredResult> Find(const std::string& key, const std::string& address);
  RunReader& reader() { return *reader_; }

 private:
  void Index();
  std::unique_ptr<RunReader> reader_;
  std::unordered_multimap<std::string, InstanceRef> by_key_;
  std::unique_ptr<EarlierRun> before_;  ///< the one it used; null: none
};

/// Results by key, in a directory that all runs of a user share:
///   DIR/results-1/ab/abcd…/entry.json      what it is
///                         /outputs/…       its files, read-only
/// An entry appears by rename, whole or not at all. Several processes may use it at the same time.
class ResultCache {
 public:
  explicit ResultCache(std::string dir) : dir_(std::move(dir)) {}
  /// $JOBC_CACHE, else $XDG_CACHE_HOME/jobc, else ~/.cache/jobc.
  static std::string DefaultDir();

  std::optional<StoredResult> Find(const std::string& key) const;
  /// Keeps the result; the files below `stored.base_dir` become read-only. An entry that is there stays.
  Result<void> Put(const std::string& key, const StoredResult& stored) const;
  /// An entry that turned out to be damaged.
  void Remove(const std::string& key) const;

 private:
  std::string Place(const std::string& key) const;
  std::string dir_;
};

/// One file or directory tree of a result.
struct ResultFile {
  std::string source;   ///< absolute
  std::string path;     ///< below the place of the outputs
  std::string sha256;   ///< recorded when it was made
  bool is_dir = false;
  uint64_t size = 0;
};

/// A result on its way into a run.
struct TakenResult {
  ir::ListValue outputs;          ///< with their places in the new run
  ir::Value result;
  std::string outputs_json, files_json;
  std::vector<ResultFile> files;
  std::string target;             ///< absolute: the place of the outputs
  uint64_t size = 0;              ///< of all files
  bool has_dirs = false;
};

/// Reads a stored result as that of `job`, with `place` (`outputs/SAFE-NAME`, below `run_dir`) as the place of its files.
Result<TakenResult> ReadResult(const ir::Plan& plan, uint32_t job, const StoredResult& stored, const std::string& run_dir, const std::string& place,
                               ir::Evaluator& evaluator, ir::EvalContext& context);

/// Compares the files with their digests, and brings them to their place. Empty: done; else why the result cannot be used.
std::string TakeFiles(const std::vector<ResultFile>& files, const std::string& target);
/// Compares only.
std::string VerifyFiles(const std::vector<ResultFile>& files);

/// Of an instance's outputs those that may have been changed since `since_ms`, the wall clock at its verdict (0: all), with their
/// digests from the journal: their inode was changed after that. Files without a digest are left out.
std::vector<ResultFile> DoubtfulFiles(std::vector<ResultFile> files, const std::string& files_json, int64_t since_ms);

/// Hard links where that is possible, copies else; files that are linked become read-only. `target` must not exist.
Result<void> LinkTree(const std::string& source, const std::string& target);

/// The files of outputs that lie in the run itself, each once.
std::vector<ResultFile> FilesOf(const ir::ListValue& outputs);
/// `{"outputs/a/x.txt":"…","outputs/a/dir/":"…"}`; empty where there are none. `files` have their digests.
std::string FilesJson(const std::vector<ResultFile>& files, const std::string& place);

}  // namespace jobc
