#include "support/write_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace jobc {
namespace {

Error CannotWrite(const std::string& path, int code) { return Error{fmt::format("cannot write `{}`: {}", path, std::strerror(code)), code}; }

/// 0 or an errno value.
int WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count >= 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

/// Up to and with the last slash; empty: the working directory.
std::string DirectoryOf(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

/// Where a link leads that has no target yet. 0 or an errno value.
int FollowLinks(std::string& path) {
  char text[PATH_MAX];
  for (int links = 0; links < 40; ++links) {
    const ssize_t size = readlink(path.c_str(), text, sizeof text);
    if (size < 0) return errno == EINVAL || errno == ENOENT ? 0 : errno;
    if (static_cast<size_t>(size) == sizeof text) return ENAMETOOLONG;
    const std::string target(text, static_cast<size_t>(size));
    path = target.starts_with('/') ? target : DirectoryOf(path) + target;
  }
  return ELOOP;
}

bool Is(int fd, const struct stat& file) {
  struct stat own;
  return fstat(fd, &own) == 0 && own.st_dev == file.st_dev && own.st_ino == file.st_ino;
}

/// 0 or an errno value. `was`: the file that is replaced, or nullptr.
int Replace(const std::string& target, std::string_view text, const struct stat* was) {
  int fd = -1;
  std::string temporary;
  // Of a name of its own, so that a long name of the target has room; one that a killed process of the same id left is passed by.
  for (int i = 0; fd < 0 && i < 100; ++i) {
    temporary = DirectoryOf(target) + fmt::format(".jobc.{}.{}.tmp", getpid(), i);
    fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) return errno;
  }
  if (fd < 0) return EEXIST;
  int failed = WriteAll(fd, text);
  if (failed == 0 && was != nullptr) {
    if (fchown(fd, was->st_uid, was->st_gid) != 0 && errno != EPERM) failed = errno;
    if (failed == 0 && fchmod(fd, was->st_mode & 07777) != 0) failed = errno;
  }
  if (failed == 0 && fsync(fd) != 0) failed = errno;
  if (close(fd) != 0 && failed == 0) failed = errno;
  if (failed == 0 && rename(temporary.c_str(), target.c_str()) != 0) failed = errno;
  if (failed != 0) unlink(temporary.c_str());
  return failed;
}

}  // namespace

Result<void> WriteNamedFile(const std::string& path, std::string_view text) {
  struct stat info;
  int failed = 0;
  if (stat(path.c_str(), &info) != 0) {
    std::string target = path;
    failed = errno == ENOENT ? FollowLinks(target) : errno;
    if (failed == 0) failed = Replace(target, text, nullptr);
    return failed == 0 ? Result<void>() : Result<void>(CannotWrite(path, failed));
  }
  char real[PATH_MAX];
  if (S_ISREG(info.st_mode) && !Is(STDOUT_FILENO, info) && !Is(STDERR_FILENO, info)) {
    // The rename would replace a file that is protected against writing.
    if (realpath(path.c_str(), real) == nullptr || access(real, W_OK) != 0) return CannotWrite(path, errno);
    failed = Replace(real, text, &info);
    return failed == 0 ? Result<void>() : Result<void>(CannotWrite(path, failed));
  }
  if (S_ISREG(info.st_mode)) {
    failed = WriteAll(Is(STDOUT_FILENO, info) ? STDOUT_FILENO : STDERR_FILENO, text);
  } else {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return CannotWrite(path, errno);
    failed = WriteAll(fd, text);
    if (close(fd) != 0 && failed == 0) failed = errno;
  }
  return failed == 0 ? Result<void>() : Result<void>(CannotWrite(path, failed));
}

}  // namespace jobc
