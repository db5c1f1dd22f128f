#include "runtime/staged.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "ir/expand.h"
#include "ir/json.h"
#include "ir/mounts.h"
#include "runtime/process/os.h"
#include "support/sha256.h"

namespace jobc {
namespace {

/// Of the parts of a base: with date, time and execution id it stays below what file systems take.
constexpr size_t kLongestName = 100;

Error Cannot(std::string_view doing, const std::string& path, int code) {
  return Error{fmt::format("cannot {} `{}`: {}", doing, path, std::strerror(code)), code};
}

Error Stopped() { return Error{"given up", ECANCELED}; }

/// Finds any of the masker's patterns in a stream.
class SecretSearch {
 public:
  explicit SecretSearch(const Masker& masker) : masker_(masker) {
    for (const std::string& pattern : masker.patterns()) longest_ = std::max(longest_, pattern.size());
  }
  /// True: one was found.
  bool Add(std::string_view bytes) {
    if (masker_.empty()) return false;
    held_.append(bytes);
    if (masker_.Contains(held_)) return true;
    if (held_.size() >= longest_) held_.erase(0, held_.size() - longest_ + 1);
    return false;
  }

 private:
  const Masker& masker_;
  std::string held_;
  size_t longest_ = 1;
};

class Gatherer {
 public:
  Gatherer(const StagingRequest& request, const Masker& masker, const std::atomic<bool>& stop) : request_(request), masker_(masker), stop_(stop) {
    set_.base = request.base;
    set_.about = request.about;
  }

  Result<StagedSet> Run() {
    for (const auto& [path, text] : request_.texts) AddText(path, text);
    if (!request_.scripts_dir.empty()) {
      auto names = NamesIn(request_.scripts_dir);
      if (!names && names.error().code != ENOENT) return names.error();
      for (const std::string& name : names ? *names : std::vector<std::string>()) {
        if (auto text = process::ReadFile(request_.scripts_dir + "/" + name)) AddText("input/script/" + name, *text);
      }
    }
    if (!request_.logs_dir.empty()) {
      if (auto done = Logs(); !done) return done.error();
    }
    for (const StagedSource& source : request_.sources) {
      StagedFile file;
      file.path = source.path;
      file.uri = source.uri;
      file.etag = source.etag;
      file.version = source.version;
      file.sha256 = source.sha256;
      // A content that has a name at its server is not brought there a second time.
      if (!source.etag.empty() || !source.version.empty() || source.source.empty()) {
        set_.files.push_back(std::move(file));
        continue;
      }
      file.source = source.source;
      if (auto done = Add(std::move(file), true); !done) return done.error();
    }
    std::sort(set_.files.begin(), set_.files.end(), [](const StagedFile& a, const StagedFile& b) { return a.path < b.path; });
    return std::move(set_);
  }

 private:
  static Result<std::vector<std::string>> NamesIn(const std::string& path) {
    std::vector<std::string> names;
    DIR* dir = opendir(path.c_str());
    if (dir == nullptr) return Cannot("read", path, errno);
    while (dirent* entry = readdir(dir)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) names.emplace_back(entry->d_name);
    }
    closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
  }

  void AddText(std::string path, std::string_view text) {
    StagedFile file;
    file.path = std::move(path);
    file.text = masker_.empty() ? std::string(text) : masker_.Mask(text);
    file.is_text = true;
    file.size = file.text.size();
    file.sha256 = Sha256Hex(file.text);
    set_.files.push_back(std::move(file));
  }

  /// Each stream by itself: both may be large.
  Result<void> Logs() {
    auto reader = process::LogReader::Open(request_.logs_dir);
    if (!reader) return reader.error();
    if (auto made = process::MakeDirectories(request_.scratch_dir); !made) return made;
    for (process::LogStream stream : {process::LogStream::kStdout, process::LogStream::kStderr}) {
      const std::string name = stream == process::LogStream::kStdout ? "stdout.log" : "stderr.log";
      const std::string path = request_.scratch_dir + "/" + name;
      process::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
      if (!fd) return Cannot("create", path, errno);
      Sha256 hash;
      StagedFile file;
      file.path = "output/" + name;
      file.source = path;
      int problem = 0;
      auto read = reader->ForEach(request_.attempt, stream, 0, [&](const process::LogReader::Chunk& chunk) {
        for (std::string_view rest = chunk.bytes; !rest.empty();) {
          const ssize_t count = write(fd.get(), rest.data(), rest.size());
          if (count < 0 && errno == EINTR) continue;
          if (count < 0) {
            problem = errno;
            return false;
          }
          rest.remove_prefix(static_cast<size_t>(count));
        }
        hash.Update(chunk.bytes);
        file.size += chunk.bytes.size();
        return !stop_.load();
      });
      if (stop_.load()) return Stopped();
      if (problem != 0) return Cannot("write", path, problem);
      if (!read) return read;
      file.sha256 = hash.HexDigest();
      set_.files.push_back(std::move(file));
    }
    return {};
  }

  /// `top`: given or captured by name; links below it are told, never followed.
  Result<void> Add(StagedFile file, bool top) {
    if (stop_.load()) return Stopped();
    struct stat info;
    if ((top ? stat(file.source.c_str(), &info) : lstat(file.source.c_str(), &info)) != 0) return Cannot("read", file.source, errno);
    if (S_ISLNK(info.st_mode)) {
      char target[PATH_MAX];
      const ssize_t size = readlink(file.source.c_str(), target, sizeof target);
      if (size < 0) return Cannot("read", file.source, errno);
      file.link = masker_.Mask(std::string_view(target, static_cast<size_t>(size)));
      file.source.clear();
      set_.files.push_back(std::move(file));
      return {};
    }
    if (S_ISDIR(info.st_mode)) {
      auto names = NamesIn(file.source);
      if (!names) return names.error();
      if (names->empty()) {
        file.is_dir = true;
        file.source.clear();
        set_.files.push_back(std::move(file));
        return {};
      }
      for (const std::string& name : *names) {
        StagedFile below;
        below.path = file.path + "/" + name;
        below.source = file.source + "/" + name;
        if (auto done = Add(std::move(below), false); !done) return done;
      }
      return {};
    }
    if (!S_ISREG(info.st_mode)) {
      file.withheld = "neither a file nor a directory";
      file.source.clear();
      set_.files.push_back(std::move(file));
      return {};
    }
    file.executable = (info.st_mode & S_IXUSR) != 0;
    file.size = static_cast<uint64_t>(info.st_size);
    if (file.sha256.empty() || !masker_.empty()) {
      if (auto read = Read(file); !read) return read;
    }
    set_.files.push_back(std::move(file));
    return {};
  }

  Result<void> Read(StagedFile& file) {
    process::UniqueFd fd(open(file.source.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return Cannot("read", file.source, errno);
    Sha256 hash(file.size);
    SecretSearch search(masker_);
    std::vector<char> buffer(size_t{1} << 18);
    file.size = 0;
    for (;;) {
      const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return Cannot("read", file.source, errno);
      if (count == 0) break;
      if (stop_.load()) return Stopped();
      const std::string_view bytes(buffer.data(), static_cast<size_t>(count));
      if (search.Add(bytes)) {
        file.withheld = "it holds a secret";
        file.source.clear();
        file.sha256.clear();
        file.size = 0;
        return {};
      }
      hash.Update(bytes);
      file.size += bytes.size();
    }
    file.sha256 = hash.HexDigest();
    return {};
  }

  const StagingRequest& request_;
  const Masker& masker_;
  const std::atomic<bool>& stop_;
  StagedSet set_;
};

/// The first `count` bytes of a copy are those of `source`; the kernel shares them where the file system can.
Result<void> CopyFile(const StagedFile& file, const std::string& target, const std::atomic<bool>& stop) {
  process::UniqueFd in(open(file.source.c_str(), O_RDONLY | O_CLOEXEC));
  if (!in) return Cannot("read", file.source, errno);
  process::UniqueFd out(open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!out) return Cannot("create", target, errno);
  bool by_kernel = true;
  std::vector<char> buffer;
  for (;;) {
    if (stop.load()) return Stopped();
    ssize_t count = -1;
    if (by_kernel) {
      count = copy_file_range(in.get(), nullptr, out.get(), nullptr, size_t{64} << 20, 0);
      if (count < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM)) {
        by_kernel = false;
        buffer.resize(size_t{1} << 18);
        continue;
      }
    } else {
      count = read(in.get(), buffer.data(), buffer.size());
      for (ssize_t done = 0; count > 0 && done < count;) {
        const ssize_t written = write(out.get(), buffer.data() + done, static_cast<size_t>(count - done));
        if (written < 0 && errno != EINTR) return Cannot("write", target, errno);
        done += std::max<ssize_t>(written, 0);
      }
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Cannot("copy to", target, errno);
    if (count == 0) break;
  }
  if (fchmod(out.get(), file.executable ? 0555 : 0444) != 0) return Cannot("write", target, errno);
  return {};
}

Result<void> WriteText(const std::string& path, std::string_view text, mode_t mode) {
  process::UniqueFd out(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!out) return Cannot("create", path, errno);
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t count = write(out.get(), rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Cannot("write", path, errno);
    rest.remove_prefix(static_cast<size_t>(count));
  }
  if (fchmod(out.get(), mode) != 0) return Cannot("write", path, errno);
  return {};
}

/// All of them are on the disk then. Writing begins for all before any is waited for: a file system's own journal then takes
/// them together, which is many times faster than one after the other.
Result<void> SyncFiles(const std::vector<std::string>& paths) {
  for (const bool wait : {false, true}) {
    for (const std::string& path : paths) {
      process::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
      if (!fd) return Cannot("read", path, errno);
      if (!wait) {
        (void)sync_file_range(fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
      } else if (fsync(fd.get()) != 0) {
        return Cannot("write", path, errno);
      }
    }
  }
  return {};
}

/// Another name for a content that an earlier attempt of the run laid down.
bool LinkTo(const std::string& from, const StagedFile& file, const std::string& target) {
  struct stat info;
  return lstat(from.c_str(), &info) == 0 && S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) == file.size && ((info.st_mode & S_IXUSR) != 0) == file.executable &&
         (info.st_mode & 0222) == 0 && link(from.c_str(), target.c_str()) == 0;
}

uint64_t SizeBelow(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return 0;
  // A content with several names goes with the last of them.
  uint64_t size = S_ISREG(info.st_mode) && info.st_nlink > 1 ? 0 : static_cast<uint64_t>(info.st_blocks) * 512;
  if (S_ISDIR(info.st_mode)) {
    if (DIR* dir = opendir(path.c_str())) {
      while (dirent* entry = readdir(dir)) {
        if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) size += SizeBelow(path + "/" + entry->d_name);
      }
      closedir(dir);
    }
  }
  return size;
}

}  // namespace

Result<std::string> StagingPlace(std::string_view text, const std::string& root) {
  if (std::string fault = ir::StagingFault(text); !fault.empty()) return Error{fault};
  if (text.starts_with("gs://")) return Error{"this version of jobc cannot write to `gs://`"};
  const bool s3 = text.starts_with("s3://");
  std::string place(text);
  if (!s3 && place[0] != '/') place = root + "/" + (place.starts_with("./") ? place.substr(2) : place);
  while (place.size() > 1 && place.back() == '/') place.pop_back();
  return place;
}

std::string WhyNoStagingFolder(const std::string& place) {
  for (std::string at = place;; at = at.substr(0, at.rfind('/'))) {
    if (at.empty()) at = "/";
    struct stat info;
    if (stat(at.c_str(), &info) == 0) {
      if (!S_ISDIR(info.st_mode)) return fmt::format("`{}` is no folder", at);
      if (access(at.c_str(), W_OK | X_OK) != 0) return fmt::format("nothing can be written to `{}`: {}", at, std::strerror(errno));
      return "";
    }
    if (errno != ENOENT && errno != ENOTDIR) return fmt::format("`{}` cannot be looked at: {}", at, std::strerror(errno));
    if (at == "/") return "";
  }
}

std::string StagingNamespace(std::string_view source) {
  if (size_t slash = source.rfind('/'); slash != std::string_view::npos) source.remove_prefix(slash + 1);
  if (source.ends_with(".job") && source.size() > 4) source.remove_suffix(4);
  return source.empty() ? "default" : std::string(source);
}

std::string StagedBase(const std::string& place, std::string_view name_space, std::string_view name, int64_t wall_ms, const std::string& execution_id) {
  const time_t seconds = static_cast<time_t>(wall_ms / 1000);
  tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{}{}{}-{}/{:04}-{:02}-{:02}/{:02}{:02}/{}", place, place.ends_with('/') ? "" : "/", ir::SafeName(name_space, kLongestName), ir::SafeName(name, kLongestName), parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, execution_id);
}

Result<StagedSet> GatherStaged(const StagingRequest& request, const Masker& masker, const std::atomic<bool>& stop) { return Gatherer(request, masker, stop).Run(); }

std::string StagedManifest(const StagedSet& set, bool complete) {
  std::string out = "{\"schema\":\"jobc.staged/1\"";
  for (const auto& [name, json] : set.about) {
    // What is known only at the end is told only at the end.
    out += fmt::format(",{}:{}", ir::JsonQuote(name), json);
  }
  out += fmt::format(",\"complete\":{},\"files\":[", complete);
  bool first = true;
  for (const StagedFile& file : set.files) {
    if (!complete) break;
    out += fmt::format("{}\n{{\"path\":{}", first ? "" : ",", ir::JsonQuote(file.path));
    first = false;
    if (file.is_dir) out += ",\"empty_dir\":true";
    if (!file.link.empty()) out += ",\"link\":" + ir::JsonQuote(file.link);
    if (!file.withheld.empty()) out += ",\"withheld\":" + ir::JsonQuote(file.withheld);
    if (!file.source.empty() || file.is_text) out += fmt::format(",\"size\":{}", file.size);
    if (!file.sha256.empty()) out += ",\"sha256\":" + ir::JsonQuote(file.sha256);
    if (file.executable) out += ",\"executable\":true";
    if (!file.uri.empty()) out += ",\"uri\":" + ir::JsonQuote(file.uri);
    if (!file.etag.empty()) out += ",\"etag\":" + ir::JsonQuote(file.etag);
    if (!file.version.empty()) out += ",\"version\":" + ir::JsonQuote(file.version);
    if (!file.at.empty()) out += ",\"at\":" + ir::JsonQuote(file.at);
    out += "}";
  }
  return out + "]}\n";
}

Result<void> LayDownStaged(StagedSet& set, const std::atomic<bool>& stop) {
  const std::string manifest = set.base + "/" + kStagedManifest;
  const size_t slash = set.base.rfind('/');
  int problem = ENOENT;
  for (int tries = 0; tries < 10 && problem == ENOENT; ++tries) {  // `jobc gc` may remove an empty folder meanwhile
    if (auto made = process::MakeDirectories(set.base.substr(0, slash)); !made) return made;
    problem = mkdir(set.base.c_str(), 0777) == 0 ? 0 : errno;
    if (problem == EEXIST && rmdir(set.base.c_str()) == 0) problem = ENOENT;
  }
  if (problem != 0) {
    if (problem != EEXIST) return Cannot("create", set.base, problem);
    // Only an earlier jobc that ended meanwhile can have been here: the name is of this attempt alone.
    auto text = process::ReadFile(manifest);
    if (!text || !IsStagedManifest(*text, set.base.substr(slash + 1))) return Error{fmt::format("`{}` is there already, and not from jobc", set.base), EEXIST};
    if (auto removed = process::RemoveTree(set.base); !removed) return removed;
    if (mkdir(set.base.c_str(), 0777) != 0) return Cannot("create", set.base, errno);
  }
  if (auto written = WriteText(manifest, StagedManifest(set, false), 0644); !written) return written;
  std::string made_last;
  std::vector<std::string> written_files;
  for (StagedFile& file : set.files) {
    if (stop.load()) return Stopped();
    const std::string target = set.base + "/" + file.path;
    if (!file.is_text && file.source.empty() && !file.is_dir && file.link.empty()) continue;
    const std::string dir = file.is_dir ? target : target.substr(0, target.rfind('/'));
    if (dir != made_last) {
      if (auto made = process::MakeDirectories(dir); !made) return made;
      made_last = dir;
    }
    if (file.is_dir) continue;
    if (!file.link.empty()) {
      if (symlink(file.link.c_str(), target.c_str()) != 0) return Cannot("create", target, errno);
    } else if (file.is_text) {
      if (auto written = WriteText(target, file.text, 0444); !written) return written;
      if (!file.text.empty()) written_files.push_back(target);
    } else if (file.at.empty() || !LinkTo(file.at, file, target)) {
      if (auto copied = CopyFile(file, target, stop); !copied) return copied;
      written_files.push_back(target);
    }
    file.at.clear();  // it lies here as well
  }
  const std::string last = manifest + ".new";
  if (auto written = WriteText(last, StagedManifest(set, true), 0444); !written) return written;
  written_files.push_back(last);
  if (auto synced = SyncFiles(written_files); !synced) return synced;
  if (rename(last.c_str(), manifest.c_str()) != 0) return Cannot("write", manifest, errno);
  process::UniqueFd dir(open(set.base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir || fsync(dir.get()) != 0) return Cannot("write", set.base, errno);
  return {};
}

bool IsStagedManifest(std::string_view text, std::string_view execution_id) {
  auto json = ir::ParseJson(text);
  if (!json || json->kind() != ir::ValueKind::Map) return false;
  const ir::Value* schema = json->Find("schema");
  const ir::Value* id = json->Find("execution_id");
  return schema != nullptr && schema->kind() == ir::ValueKind::String && schema->as_string() == "jobc.staged/1" && id != nullptr && id->kind() == ir::ValueKind::String &&
         id->as_string() == execution_id;
}

Result<bool> RemoveStaged(const std::string& base, std::string_view execution_id, bool dry, uint64_t& bytes) {
  struct stat info;
  if (lstat(base.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Cannot("look at", base, errno);
  }
  auto text = S_ISDIR(info.st_mode) ? process::ReadFile(base + "/" + kStagedManifest) : std::nullopt;
  if (!text || !IsStagedManifest(*text, execution_id)) return Error{fmt::format("`{}` has no `{}` of this attempt, so nobody knows whose it is; it stays", base, kStagedManifest), EPERM};
  bytes += SizeBelow(base);
  if (dry) return true;
  // The manifest last: whoever is cut off here can go on.
  if (DIR* dir = opendir(base.c_str())) {
    std::vector<std::string> names;
    while (dirent* entry = readdir(dir)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0 && std::strcmp(entry->d_name, kStagedManifest) != 0) names.emplace_back(entry->d_name);
    }
    closedir(dir);
    for (const std::string& name : names) {
      if (auto removed = process::RemoveTree(base + "/" + name); !removed) return removed.error();
    }
  }
  if (auto removed = process::RemoveTree(base); !removed) return removed.error();
  // Time, date, name: those of nobody else.
  std::string above = base;
  for (int i = 0; i < 3; ++i) {
    above = above.substr(0, above.rfind('/'));
    if (rmdir(above.c_str()) != 0) break;
  }
  return true;
}

}  // namespace jobc
