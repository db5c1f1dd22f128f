#include "compiler/lock/lock.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "support/sha256.h"
#include "support/write_file.h"

namespace jobc {
namespace {

namespace fs = std::filesystem;

/// nullopt with errno.
std::optional<std::string> ReadWhole(const std::string& path, uint64_t most) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    errno = EISDIR;
    return std::nullopt;
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    if (errno == 0) errno = EIO;
    return std::nullopt;
  }
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof buffer) || in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > most) {
      errno = EFBIG;
      return std::nullopt;
    }
  }
  return text;
}

bool IsSha256(const std::string& text) { return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos; }

}  // namespace

Result<Lock> ReadLock(const std::string& path) {
  std::optional<std::string> text = ReadWhole(path, uint64_t{64} << 20);
  if (!text) {
    if (errno == ENOENT) return Lock{};
    return Error{fmt::format("`{}` cannot be read: {}", path, std::strerror(errno)), errno};
  }
  auto bad = [&](std::string_view why) { return Error{fmt::format("`{}` is no lock file: {}", path, why)}; };
  const nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object()) return bad("it is not valid JSON (is a merge unfinished?)");
  if (!json.contains("schema") || json["schema"] != "jobc.lock/1") return bad("this jobc knows the schema jobc.lock/1");
  if (!json.contains("imports") || !json["imports"].is_object()) return bad("it has no `imports`");
  Lock lock;
  for (const auto& [url, entry] : json["imports"].items()) {
    if (!entry.is_object() || !entry.contains("sha256") || !entry["sha256"].is_string() || !IsSha256(entry["sha256"].get<std::string>()) ||
        !entry.contains("size") || !entry["size"].is_number_unsigned()) {
      return bad(fmt::format("the entry of \"{}\" has no sha256 and size", url));
    }
    lock.imports[url] = {entry["sha256"].get<std::string>(), entry["size"].get<uint64_t>()};
  }
  if (!json.contains("images")) return lock;
  if (!json["images"].is_object()) return bad("its `images` are no object");
  for (const auto& [image, digest] : json["images"].items()) {
    const std::string text = digest.is_string() ? digest.get<std::string>() : "";
    if (!text.starts_with("sha256:") || !IsSha256(text.substr(7))) return bad(fmt::format("the entry of the image \"{}\" is no digest", image));
    lock.images[image] = text;
  }
  return lock;
}

std::string LockText(const Lock& lock) {
  auto quoted = [](const std::string& word) { return nlohmann::json(word).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); };
  std::string text = "{\n  \"schema\": \"jobc.lock/1\",\n  \"imports\": {";
  bool first = true;
  for (const auto& [url, entry] : lock.imports) {
    text += fmt::format("{}\n    {}: {{\"sha256\": \"{}\", \"size\": {}}}", first ? "" : ",", quoted(url), entry.sha256, entry.size);
    first = false;
  }
  text += first ? "}" : "\n  }";
  if (!lock.images.empty()) {
    text += ",\n  \"images\": {";
    first = true;
    for (const auto& [image, digest] : lock.images) {
      text += fmt::format("{}\n    {}: \"{}\"", first ? "" : ",", quoted(image), digest);
      first = false;
    }
    text += "\n  }";
  }
  return text + "\n}\n";
}

std::string LockPath(const std::string& directory) { return directory.empty() ? std::string(kLockName) : directory + "/" + std::string(kLockName); }

bool IsLockable(std::string_view image) {
  if (image.empty() || image[0] == '/' || image[0] == '.' || image.ends_with(".sif") || image.find('@') != std::string_view::npos) return false;
  if (image.starts_with("sha256:") || IsSha256(std::string(image))) return false;
  return image.find("://") == std::string_view::npos || image.starts_with("docker://");
}

std::string PinnedImage(std::string_view image, std::string_view digest) {
  const size_t colon = image.rfind(':');
  if (colon != std::string_view::npos && image.find('/', colon) == std::string_view::npos) image = image.substr(0, colon);
  return std::string(image) + "@" + std::string(digest);
}

std::string CacheDirectory() {
  if (const char* own = std::getenv("JOBC_CACHE"); own != nullptr && *own != '\0') return own;
  // A relative path in this variable is to be ignored (XDG Base Directory Specification).
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg == '/') return std::string(xdg) + "/jobc";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return std::string(home) + "/.cache/jobc";
  return "";
}

std::string CachedImportPath(std::string_view sha256) { return fmt::format("{}/imports/{}.job", CacheDirectory(), sha256); }

Cached ReadCachedImport(const LockEntry& entry, std::string& text) {
  if (CacheDirectory().empty()) return Cached::Missing;
  std::optional<std::string> found = ReadWhole(CachedImportPath(entry.sha256), kMaxRemoteBytes);
  if (!found) return errno == ENOENT || errno == ENOTDIR ? Cached::Missing : Cached::Damaged;
  if (Sha256Hex(*found) != entry.sha256) return Cached::Damaged;
  text = std::move(*found);
  return Cached::Found;
}

Result<void> WriteCachedImport(const LockEntry& entry, std::string_view text) {
  if (CacheDirectory().empty()) return Error{"there is no cache folder: set JOBC_CACHE, or HOME"};
  const std::string path = CachedImportPath(entry.sha256);
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) return Error{fmt::format("cannot make `{}`: {}", fs::path(path).parent_path().string(), error.message()), error.value()};
  return WriteNamedFile(path, text);
}

bool IsRemote(std::string_view path) { return path.find("://") != std::string_view::npos; }

std::optional<std::string> ResolveRemote(std::string_view base, std::string_view path) {
  std::string address;
  if (IsRemote(path)) {
    address = path;
  } else {
    const size_t host = base.find("://") + 3;
    const size_t slash = base.find('/', host);
    const std::string_view origin = base.substr(0, slash);
    std::string_view directory = slash == std::string_view::npos ? std::string_view("/") : base.substr(slash);
    directory = directory.substr(0, directory.find_first_of("?#"));
    std::vector<std::string> parts;
    const std::string joined = path.starts_with('/') ? std::string(path) : std::string(directory.substr(0, directory.rfind('/') + 1)) + std::string(path);
    for (size_t begin = 1; begin <= joined.size();) {
      const size_t end = std::min(joined.find('/', begin), joined.size());
      const std::string part = joined.substr(begin, end - begin);
      begin = end + 1;
      if (part == "..") {
        if (parts.empty()) return std::nullopt;
        parts.pop_back();
      } else if (part != ".") {
        parts.push_back(part);
      }
    }
    address = origin;
    for (const std::string& part : parts) address += "/" + part;
  }
  if (!address.starts_with("https://") || address.size() == 8 || address.find_first_of(" \t\r\n\"<>#") != std::string::npos) return std::nullopt;
  return address;
}

}  // namespace jobc
