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
  std::string_view type;      ///< `String`, `Int(1..)`, `List<String>`, `Map<String, String>`, `Bool`, `Duration`, `Bytes`, `Json`
  bool required;
  std::string_view words;     ///< blank-separated allowed words, empty for free values
  std::string_view doc;
};

/// What a backend can do: data that the compiler checks files against (E601, E602, E603, W502).
struct Capabilities {
  bool built;                 ///< this jobc can run on it
  bool cwd;                   ///< can set a working directory
  bool needs_image;
  bool takes_image;
  bool image_args;            ///< can keep the image's ENTRYPOINT and replace CMD
  bool secret_env;            ///< has a carrier for secrets
  bool local_files;           ///< sees local paths, by itself or by staging them there
  bool needs_staging;         ///< `staging = "…"` is required
  bool gpu, spot;
  std::string_view error_kinds;  ///< blank-separated kinds it can report beside those every backend reports
  double max_cpu;             ///< 0: no limit of its own
  int64_t max_memory;         ///< bytes, 0: none
  int64_t max_run_ms;         ///< 0: none
};

struct BackendSchema {
  ir::BackendKind kind;
  std::string_view doc;
  Capabilities can;
  std::vector<BackendOption> options;
};

const BackendSchema& SchemaOf(ir::BackendKind kind);

}  // namespace jobc::check
