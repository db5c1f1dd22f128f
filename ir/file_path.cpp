#include "ir/file_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "support/sha256.h"

namespace jobc::ir {
namespace {

/// Length of `gs://bucket` or of a leading `/`: what dirname must not cut.
size_t RootLength(std::string_view path) {
  if (IsUri(path)) {
    size_t authority = path.find("://") + 3;
    size_t slash = path.find('/', authority);
    return slash == std::string_view::npos ? path.size() : slash;
  }
  return !path.empty() && path.front() == '/' ? 1 : 0;
}

std::string_view WithoutTrailingSlashes(std::string_view path) {
  size_t root = RootLength(path);
  while (path.size() > root && path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return path;
}

}  // namespace

bool IsUri(std::string_view text) {
  for (std::string_view scheme : {"gs://", "s3://", "http://", "https://"}) {
    if (text.substr(0, scheme.size()) == scheme) return true;
  }
  return false;
}

bool MakeFile(std::string_view text, FileBase base, std::string_view directory, bool is_dir, FileValue& out, std::string& why) {
  if (text.empty()) {
    why = "a path cannot be empty";
    return false;
  }
  if (text.find('\0') != std::string_view::npos) {
    why = "a path cannot contain a NUL byte";
    return false;
  }
  out = FileValue{};
  out.is_dir = is_dir;
  if (IsUri(text)) {
    if (text.find("://") + 3 == text.size()) {
      why = "a URI needs a name after `" + std::string(text) + "`";
      return false;
    }
    out.base = FileBase::Uri;
    out.path = std::string(text);
    // A directory of a bucket is known by the `/` at its end, a file by its absence.
    if (text.starts_with("s3://")) {
      if (!is_dir && text.back() == '/') {
        why = "`" + out.path + "` is a directory: its type is Dir";
        return false;
      }
      while (is_dir && out.path.back() == '/') out.path.pop_back();
      if (is_dir) out.path += '/';
    }
    return true;
  }
  bool absolute = text.front() == '/';
  out.base = absolute ? FileBase::Absolute : base;
  std::vector<std::string_view> parts;
  auto add = [&](std::string_view path) {
    while (!path.empty()) {
      size_t slash = path.find('/');
      std::string_view part = path.substr(0, slash);
      path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
      if (part.empty() || part == ".") continue;
      if (part == ".." && !parts.empty() && parts.back() != "..") {
        parts.pop_back();
      } else if (part != ".." || !absolute) {
        parts.push_back(part);
      }
    }
  };
  if (!absolute) add(directory);
  add(text);
  if (absolute) out.path = "/";
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out.path += '/';
    out.path += parts[i];
  }
  if (out.path.empty()) out.path = ".";
  if (!is_dir && (out.path == "." || out.path == "/" || parts.back() == ".." || text.back() == '/')) {
    why = "`" + std::string(text) + "` names a directory, not a file";
    return false;
  }
  return true;
}

std::string FileNameFault(std::string_view name) {
  if (name.empty()) return "a file needs a name";
  if (name.find('/') != std::string_view::npos) return "the name of a file has no `/`";
  if (name == "." || name == "..") return fmt::format("`{}` is the name of a directory", name);
  constexpr size_t kLongestName = 255;
  if (name.size() > kLongestName) return fmt::format("a name is at most {} bytes long", kLongestName);
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return "a name has no control characters";
  }
  return "";
}

bool MakeTextFile(std::string name, std::string text, FileValue& out, std::string& why) {
  why = FileNameFault(name);
  if (!why.empty()) return false;
  out = FileValue{};
  out.base = FileBase::Text;
  out.path = std::move(name);
  out.size = text.size();
  out.sha256 = Sha256Hex(text);
  out.text = std::make_shared<const std::string>(std::move(text));
  return true;
}

std::string NormalPath(std::string_view path) {
  FileValue file;
  std::string why;
  return MakeFile(path, FileBase::Output, "", true, file, why) ? file.path : std::string(path);
}

bool IsInside(std::string_view path, std::string_view directory) {
  if (directory == ".") return path != ".";
  return path.size() > directory.size() + 1 && path.substr(0, directory.size()) == directory && path[directory.size()] == '/';
}

bool LeavesBase(std::string_view path) { return path == ".." || path.substr(0, 3) == "../"; }

std::string_view PathBasename(std::string_view path) {
  // What follows a question mark is not part of the name; it may be a signature.
  if (path.starts_with("https://") || path.starts_with("http://")) path = path.substr(0, std::min(path.find_first_of("?#"), path.size()));
  path = WithoutTrailingSlashes(path);
  size_t root = RootLength(path);
  if (path.size() <= root) return IsUri(path) ? path.substr(path.rfind('/') + 1) : path;
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string PathDirname(std::string_view path) {
  path = WithoutTrailingSlashes(path);
  size_t root = RootLength(path);
  if (path.size() <= root) return std::string(path);
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(WithoutTrailingSlashes(path.substr(0, slash < root ? root : slash)));
}

std::string_view PathStem(std::string_view path) {
  std::string_view name = PathBasename(path);
  return name.substr(0, name.size() - PathExtension(path).size());
}

std::string_view PathExtension(std::string_view path) {
  std::string_view name = PathBasename(path);
  size_t dot = name.rfind('.');
  // A leading dot hides a file, it does not start an extension; so do the dots of `.` and `..`.
  if (dot == std::string_view::npos || name.find_first_not_of('.') >= dot) return {};
  return name.substr(dot);
}

}  // namespace jobc::ir
