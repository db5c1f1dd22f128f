// The schema tables: every block and attribute of the language, as data. Checks, did-you-mean, the reference
// (docs/attributes.md) and editors' completion all come from here; the grammar knows none of these names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/check/model.h"

namespace jobc::check {

/// Blocks in which attributes may stand; bits of Attribute::blocks.
enum BlockKind : uint32_t {
  kJob = 1, kCheck = 2, kFinally = 4, kHook = 8, kTemplate = 16, kDefaults = 32, kProfile = 64, kProfileJob = 128,
  kResourcesBlock = 256, kTimeout = 512, kRetry = 1024, kRetryOn = 2048, kSubmit = 4096, kPool = 8192, kPublish = 16384,
  kLimits = 32768, kTest = 65536, kMock = 131072, kExpect = 262144, kExpectPlan = 524288, kMatrix = 1 << 20,
};
/// Blocks shaped like a job.
inline constexpr uint32_t kJobLike = kJob | kFinally | kHook | kTemplate;
inline constexpr uint32_t kSettings = kJobLike | kDefaults | kProfile | kProfileJob;

enum class Shape : uint8_t {
  Attr,    ///< name = expr
  Block,   ///< name { … }
  Items,   ///< `for … in …` and other item forms
};

enum class MergeRule : uint8_t { Replace, ByKey, ByLabel, LaterFirst, Action };

struct Attribute {
  std::string_view name;
  Shape shape;
  std::string_view type;      ///< as written in the reference
  Phase latest;
  uint32_t blocks;            ///< BlockKind bits
  MergeRule merge;
  bool cache_key;             ///< its value is part of the cache key
  std::string_view doc;
};

const std::vector<Attribute>& Attributes();
/// nullptr where `block` has no such attribute.
const Attribute* FindAttribute(std::string_view name, uint32_t block);
/// Names that may stand in `block`, for did-you-mean and completion.
std::vector<std::string_view> AttributeNames(uint32_t block);
/// "a job", "`retry`", …
std::string_view BlockTitle(uint32_t block);

/// Blocks at the top level of a file.
struct TopLevel {
  std::string_view name;
  std::string_view form;      ///< `pool NAME { … }`
  std::string_view doc;
};
const std::vector<TopLevel>& TopLevelBlocks();

// ---- backends ----

struct BackendOption {
  std::string_view name;
  std::string_view type;      ///< `String`, `Int(1..)`, `List<String>`, `Bool`, `Duration`, `Bytes`, `Json`, `String(re"…")`, `Path`, `mounts`
  bool required;
  std::string_view words;     ///< blank-separated allowed words, empty for free values
  std::string_view doc;
};

/// How secrets reach attempts of a backend without standing in a command line or in a document that others can read.
enum class SecretCarriers : uint8_t {
  None,     ///< it has none
  Private,  ///< a file of mode 0600 or the body of the API's request: of `env("…")` and `file("…")`
  Stored,   ///< a reference that the backend resolves itself: of `store("…")`
};

/// What a backend can do: data that the compiler checks files against (E601, E602, E603, W502).
struct Capabilities {
  bool built = false;          ///< this jobc can run on it
  bool cwd = true;             ///< can set a working directory
  bool needs_image = false;
  bool takes_image = true;
  bool image_args = true;      ///< can keep the image's ENTRYPOINT and replace CMD
  SecretCarriers secrets = SecretCarriers::Private;
  bool secret_files = true;    ///< secrets can be files there
  bool inherit_env = false;    ///< attempts can see variables of jobc's own environment
  bool needs_staging = false;  ///< shares no file system with this machine: files go through `staging = "…"`
  std::string_view schemes = {};  ///< blank-separated schemes of URIs it can stage, beside local paths
  bool gpu = true;
  bool spot = false;
  bool disk = true;            ///< can be asked for disk space
  bool grace = true;           ///< the time between TERM and KILL can be set
  std::string_view error_kinds = {};  ///< blank-separated kinds it can report beside those every backend reports
  double max_cpu = 0;          ///< 0: no limit of its own
  int64_t max_memory = 0;      ///< bytes, 0: none
  int64_t max_gpu = 0;         ///< 0: none
  int64_t max_run_ms = 0;      ///< 0: none
};

struct BackendSchema {
  ir::BackendKind kind;
  std::string_view doc;
  Capabilities can;
  std::vector<BackendOption> options;
};

const BackendSchema& SchemaOf(ir::BackendKind kind);
/// Whether `uri` has one of the schemes that a backend can stage. Directories only where buckets are mounted: what is fetched to
/// this machine is fetched file by file.
bool CanStage(const Capabilities& can, std::string_view uri, bool is_dir = false);

/// Whether an image is named by its content: `name@sha256:…`, or by the id that an engine gives it (`sha256:` and 64 hex digits, or
/// these alone).
bool NamesImageContent(std::string_view image);

}  // namespace jobc::check
