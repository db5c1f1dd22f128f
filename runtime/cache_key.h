// What the result of an instance depends on, as data: named parts, each a canonical JSON value, and their digest, the cache
// key. Two instances with equal keys may share a result. Computed before every start from what is known then; the parts are
// journaled, so that `explain run`, `plan --since` and `diff` can say which one made an instance run again.
//
// In it: the command or script with its values, names and values of `env`, inputs by content, declarations of outputs, the
// image, `cache_salt`, and the instance's own key (a job sees it as JOB_KEY). Files stand in it as the place where the job
// sees them, never as a path of this machine. Not in it: names, labels, backend, retries, timeouts, resources that nothing
// refers to, and the values of secrets.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/evaluate.h"
#include "ir/plan.h"
#include "ir/structure.h"
#include "runtime/attempt_context.h"
#include "runtime/run_state.h"
#include "support/result.h"

namespace jobc {

/// Raised whenever the meaning of a part changes: results of other formats are not reused.
inline constexpr int kKeyFormat = 1;

/// Content hashes of files, each read once as long as it stays the same (size, times, inode). One thread.
class FileHashes {
 public:
  /// The digest of what stands at `path` now is known already.
  void Put(const std::string& path, std::string sha256);
  /// Of a directory the digest of its tree, which is trusted once it is known.
  Result<std::string> Of(const std::string& path, bool is_dir);
  /// Of a file, only if it is known and the file is as it was then; else empty. Reads nothing.
  std::string Known(const std::string& path) const;

 private:
  struct Stamp {
    int64_t size = 0, mtime_ns = 0, ctime_ns = 0;
    uint64_t inode = 0, device = 0;
    bool operator==(const Stamp&) const = default;
  };
  struct Row {
    Stamp stamp;
    std::string sha256;
  };
  static std::optional<Stamp> StampOf(const std::string& path);
  std::unordered_map<std::string, Row> known_;
};

/// Name to canonical JSON. Names: `run`, `script`, `script.0` (a value in it), `prologue`, `epilogue`, `env.X`, `input.x`,
/// `output.x`, `image`, `cache_salt`, `inherit_env`, `secret_files`, `instance`.
using KeyParts = std::map<std::string, std::string>;

struct CacheKey {
  std::string sha256;   ///< 64 hex digits
  KeyParts own;         ///< the parts that may differ between the instances of the job
};

/// The digest of all parts.
std::string KeyDigest(const KeyParts& shared, const KeyParts& own);
/// `{"key":"…","parts":{…}}`, canonical; without a key: the parts alone.
std::string KeyJson(const CacheKey& key);
/// Back from KeyJson(); nullopt if it is none.
std::optional<CacheKey> KeyFromJson(std::string_view json);

class KeyMaker {
 public:
  /// All must outlive it. Looks at the files of the plan: what changes from now on is noticed.
  KeyMaker(const ir::Plan& plan, World& world, FileHashes& hashes);
  ~KeyMaker();

  /// Parts that are the same for all instances of the job.
  const KeyParts& Shared(uint32_t job);

  struct Made {
    std::optional<CacheKey> key;
    std::string problem;          ///< if there is none: an expression failed, an input cannot be read
    std::string changed_input;    ///< set: an input is no longer what the plan was made from, in words
  };
  /// Everything the instance depends on must be known. Only for JobKind::Job.
  Made Make(const RunState& state, InstanceRef instance);

 private:
  class Context;
  struct JobParts;
  JobParts& Of(uint32_t job);
  Result<std::string> DigestOf(const ir::FileValue& file, Made& made);
  bool InputPart(const ir::Value& value, ir::TypeId type, const std::string& place, Context& context, ir::Value& seen, std::string& json, Made& made);
  bool ValueJson(const ir::Value& value, ir::TypeId type, Context& context, std::string& json, Made& made);

  const ir::Plan& plan_;
  World& world_;
  FileHashes& hashes_;
  ir::Evaluator evaluator_, inputs_, paths_;
  ir::Structure structure_;
  std::vector<std::unique_ptr<JobParts>> jobs_;
  struct RowStamp {
    int64_t size = 0, mtime_ns = 0, ctime_ns = 0;
    uint64_t inode = 0;
    bool operator==(const RowStamp&) const = default;
  };
  static std::optional<RowStamp> StampOf(const std::string& path);
  std::vector<std::optional<RowStamp>> rows_;  ///< of Plan::files; what is not on this machine has none
  std::unordered_map<std::string, uint32_t> row_of_;  ///< by place on this machine, directories with a trailing `/`
};

}  // namespace jobc
