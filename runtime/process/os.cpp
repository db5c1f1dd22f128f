#include "runtime/process/os.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace jobc::process {

Error SystemError(std::string_view what, int code) { return Error{fmt::format("{}: {}", what, strerror(code)), code}; }

std::optional<std::string> ReadFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return std::nullopt;
  }
  std::string text;
  char buffer[4096];
  for (;;) {
    ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return std::nullopt;
    }
    if (n == 0) {
      return text;
    }
    text.append(buffer, static_cast<size_t>(n));
  }
}

std::string_view ReadFd(int fd, char* buffer, size_t size) {
  ssize_t n = pread(fd, buffer, size, 0);
  return n > 0 ? std::string_view(buffer, static_cast<size_t>(n)) : std::string_view();
}

int WriteFile(const std::string& path, std::string_view text) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) {
    return errno;
  }
  ssize_t n = write(fd.get(), text.data(), text.size());
  return n == static_cast<ssize_t>(text.size()) ? 0 : (n < 0 ? errno : EIO);
}

static int64_t Micros(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
}

int64_t WallMicros() { return Micros(CLOCK_REALTIME); }
int64_t MonotonicMicros() { return Micros(CLOCK_MONOTONIC); }
int64_t WallMillis() { return WallMicros() / 1000; }
int64_t MonotonicMillis() { return MonotonicMicros() / 1000; }

namespace {

bool IsDotEntry(const char* name) {
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

constexpr int kDirFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
/// Directories on the way down that stay open; from further below `..` leads back.
constexpr size_t kMostOpen = 16;
/// How often something that came into directories meanwhile is removed as well.
constexpr int kMostRounds = 1000;

/// One directory on the way down.
struct Level {
  std::string name;                ///< below its parent
  UniqueFd dir;                    ///< closed while far below
  bool read = false;
  bool stuck = false;              ///< something in it cannot be removed
  std::vector<std::string> below;  ///< directories in it that are not empty
};

std::string Joined(const std::string& root, const std::vector<Level>& levels, const char* name) {
  std::string path = root;
  for (size_t i = 1; i < levels.size() && path.size() < 4096; ++i) {
    path += '/';
    path += levels[i].name;
  }
  return name ? path + '/' + name : path;
}

}  // namespace

Result<void> RemoveTree(const std::string& root) {
  if (unlink(root.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) {
    return {};
  }
  if (errno != EISDIR && errno != EPERM) {
    return SystemError(fmt::format("cannot remove `{}`", root), errno);
  }
  if (rmdir(root.c_str()) == 0) {
    return {};
  }
  std::vector<Level> levels(1);
  levels[0].dir.Reset(open(root.c_str(), kDirFlags));
  if (!levels[0].dir && errno == EACCES && chmod(root.c_str(), 0700) == 0) {
    levels[0].dir.Reset(open(root.c_str(), kDirFlags));
  }
  if (!levels[0].dir) {
    return SystemError(fmt::format("cannot open `{}`", root), errno);
  }
  std::optional<Error> first;
  auto failed = [&](const char* name, int error) {
    if (!first) {
      first = SystemError(fmt::format("cannot remove `{}`", Joined(root, levels, name)), error);
    }
    levels.back().stuck = true;
  };
  int rounds = 0;
  // Each directory is read once, however many there are in it: what is not empty is kept by name and done afterwards.
  for (;;) {
    Level& level = levels.back();
    const int dir = level.dir.get();
    if (!level.read) {
      level.read = true;
      DIR* stream = fdopendir(dup(dir));
      if (!stream) {
        return SystemError(fmt::format("cannot read `{}`", Joined(root, levels, nullptr)), errno);
      }
      bool opened_up = false;
      while (dirent* entry = readdir(stream)) {
        const char* name = entry->d_name;
        if (IsDotEntry(name)) {
          continue;
        }
        bool is_dir = entry->d_type == DT_DIR;
        int error = 0;
        for (int round = 0; round < 2; ++round) {
          error = unlinkat(dir, name, is_dir ? AT_REMOVEDIR : 0) == 0 ? 0 : errno;
          if (error == EISDIR) {
            is_dir = true;
            error = unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : errno;
          }
          if ((error == EACCES || error == EPERM) && !opened_up) {
            opened_up = true;
            fchmod(dir, 0700);
            continue;
          }
          break;
        }
        if (error == 0 || error == ENOENT) {
          continue;
        }
        if (is_dir && (error == ENOTEMPTY || error == EEXIST)) {
          level.below.emplace_back(name);
        } else {
          failed(name, error);
        }
      }
      closedir(stream);
    }
    if (!level.below.empty()) {
      std::string name = std::move(level.below.back());
      level.below.pop_back();
      UniqueFd child(openat(dir, name.c_str(), kDirFlags));
      if (!child && errno == EACCES && fchmodat(dir, name.c_str(), 0700, 0) == 0) {
        child.Reset(openat(dir, name.c_str(), kDirFlags));
      }
      if (!child) {
        if (errno != ENOENT) {
          failed(name.c_str(), errno);
        }
        continue;
      }
      if (levels.size() >= kMostOpen) {
        level.dir.Reset();
      }
      levels.emplace_back().name = std::move(name);
      levels.back().dir = std::move(child);
      continue;
    }
    Level done = std::move(level);
    levels.pop_back();
    if (levels.empty()) {
      break;
    }
    Level& parent = levels.back();
    if (!parent.dir) {
      parent.dir.Reset(openat(done.dir.get(), "..", kDirFlags));
      if (!parent.dir) {
        return SystemError(fmt::format("cannot return to `{}`", Joined(root, levels, nullptr)), errno);
      }
    }
    if (done.stuck) {
      parent.stuck = true;
    } else if (unlinkat(parent.dir.get(), done.name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
      if ((errno == ENOTEMPTY || errno == EEXIST) && ++rounds < kMostRounds) {
        parent.below.push_back(std::move(done.name));
      } else {
        failed(done.name.c_str(), errno);
      }
    }
  }
  if (!first && rmdir(root.c_str()) != 0 && errno != ENOENT) {
    first = SystemError(fmt::format("cannot remove `{}`", root), errno);
  }
  if (first) {
    return *first;
  }
  return {};
}

Result<std::string> MakeMemoryDirectory(const std::string& name) {
  std::string tried;
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  for (const std::string& place :
       {std::string("/dev/shm"), std::string(runtime ? runtime : ""), "/run/user/" + std::to_string(getuid()), std::string("/run")}) {
    if (place.empty() || place[0] != '/') {
      continue;
    }
    constexpr long kTmpfs = 0x01021994, kRamfs = static_cast<long>(0x858458f6);
    struct statfs info;
    std::string why;
    if (statfs(place.c_str(), &info) != 0) {
      why = strerror(errno);
    } else if (info.f_type != kTmpfs && info.f_type != kRamfs) {
      why = "not in memory";
    } else {
      std::string path = place + "/" + name + "-XXXXXX";
      if (mkdtemp(path.data()) != nullptr) {
        return path;
      }
      why = strerror(errno);
    }
    tried += (tried.empty() ? "" : ", ") + place + " (" + why + ")";
  }
  return Error{tried, ENOENT};
}

Result<void> MakeDirectories(const std::string& path) {
  if (mkdir(path.c_str(), 0777) == 0) {
    return {};
  }
  int error = errno;
  if (error == ENOENT) {
    size_t slash = path.find_last_of('/');
    if (slash != std::string::npos && slash > 0) {
      if (Result<void> parent = MakeDirectories(path.substr(0, slash)); !parent) {
        return parent;
      }
      error = mkdir(path.c_str(), 0777) == 0 ? 0 : errno;
    }
  }
  struct stat info {};
  if (error == 0 || (error == EEXIST && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode))) {
    return {};
  }
  return SystemError(fmt::format("cannot create the directory `{}`", path), error == EEXIST ? ENOTDIR : error);
}

}  // namespace jobc::process
