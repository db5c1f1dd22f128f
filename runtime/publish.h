// Puts files where people look: `publish "results" { … }`. Every entry is copied into `.jobc-<run>/` inside the
// destination, synced and renamed over its target, so that a reader never sees a half-written file; the manifest
// `jobc-manifest.json` (path, size, sha256, producer) is renamed last: readers that need the set as a whole read it.
// Existing links are replaced, never followed. Called by the engine after the jobs of a run succeeded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/plan.h"
#include "runtime/attempt_context.h"
#include "support/result.h"

namespace jobc {

struct PublishItem {
  std::string path;      ///< below the destination: relative, normal, no control characters
  std::string source;    ///< absolute, a regular file or a directory
  bool is_dir = false;
  std::string producer;  ///< address of the instance, for the manifest
  std::string sha256 = {};  ///< of a file, if it is known
};

inline constexpr const char* kPublishManifest = "jobc-manifest.json";

/// Empty if `path` may be a target; else why not.
std::string PublishPathProblem(std::string_view path);
/// The first two items that would write the same place (also one inside the other); empty if there are none.
std::string PublishCollision(const std::vector<PublishItem>& items);

/// A regular file of an item.
struct PublishedFile {
  std::string path;      ///< below the destination
  std::string source;
  uint64_t size = 0;
  std::string sha256;
  std::string producer;
};
/// All regular files of the items, with their hashes: reads them all.
Result<std::vector<PublishedFile>> FilesOfItems(const std::vector<PublishItem>& items);
std::string ManifestText(const std::string& run_id, const std::vector<PublishedFile>& files);
/// The paths of a manifest that may be targets; none if it is no manifest.
std::vector<std::string> PathsOfManifest(std::string_view text);

/// What a `publish` block puts where, evaluated and checked; nothing is touched. The error names the block.
Result<std::vector<PublishItem>> ItemsToPublish(const ir::Publish& publish, ir::Evaluator& evaluator, ir::EvalContext& context, const World& world);

/// `destination` is absolute and made if missing. With `prune`, files of the previous manifest that are not among the items
/// are removed. On failure what was not renamed yet is as it was, and the manifest is the old one.
Result<void> PublishFiles(const std::string& destination, const std::string& run_id, std::vector<PublishItem> items, bool prune);

}  // namespace jobc
