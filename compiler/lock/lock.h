// What a file takes from the network: `job.lock`, which pins each import by its hash and each image by its digest, and the cache that
// holds the texts of imports by hash. The
// check only reads both; only `jobc lock` writes them (and only it uses the network). Everything read from the cache is
// hashed again, so a lock that is kept under version control decides what is compiled, whatever lies in the cache.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "support/result.h"

namespace jobc {

inline constexpr std::string_view kLockName = "job.lock";
/// A source from the network that is larger is refused.
inline constexpr uint64_t kMaxRemoteBytes = uint64_t{4} << 20;

struct LockEntry {
  std::string sha256;   ///< 64 lower-case hex digits
  uint64_t size = 0;
};

struct Lock {
  std::map<std::string, LockEntry> imports;    ///< by address, as it is imported
  std::map<std::string, std::string> images;   ///< `sha256:…` of the manifest by name, as the file has it
};

/// An absent file is an empty lock; the error says what is wrong with one that cannot be read.
Result<Lock> ReadLock(const std::string& path);
/// The file's text: sorted, an entry a line, so that a change is a line of a diff.
std::string LockText(const Lock& lock);
/// Of the sources in `directory`; empty: the working directory.
std::string LockPath(const std::string& directory);

/// Whether what `image` means is for a registry to say, so that it can be locked: no file, and no name of a content.
bool IsLockable(std::string_view image);
/// `name@sha256:…` for `name` and `name:tag`; `docker://` before it stays.
std::string PinnedImage(std::string_view image, std::string_view digest);

/// `$JOBC_CACHE`, else `jobc` in the user's cache folder; empty where neither is known.
std::string CacheDirectory();
/// Where the text with this hash lies in the cache.
std::string CachedImportPath(std::string_view sha256);

enum class Cached : uint8_t { Found, Missing, Damaged };
/// The text of a locked import. Damaged: another text lies in its place.
Cached ReadCachedImport(const LockEntry& entry, std::string& text);
Result<void> WriteCachedImport(const LockEntry& entry, std::string_view text);

/// Whether an import's path is an address of the network.
bool IsRemote(std::string_view path);
/// `path` as it is meant in a source that lies at the address `base`: `./x.job`, `/x.job` or an address. Without query
/// resolution: nullopt where the result would leave the host or is no https address.
std::optional<std::string> ResolveRemote(std::string_view base, std::string_view path);

}  // namespace jobc
