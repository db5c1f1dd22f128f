// Small system-call helpers of the process layer: owned descriptors, whole-file reads of /proc and cgroup files,
// robust removal of directory trees. Used on both sides of the guardian's socket; keeps no state.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "support/result.h"

namespace jobc::process {

/// A descriptor closed by its destructor; -1 is none.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset(std::exchange(other.fd_, -1));
    }
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) {
      close(fd_);
    }
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// An Error of the form "WHAT: strerror(code)".
Error SystemError(std::string_view what, int code);

/// The whole of a small (pseudo) file; nothing if it cannot be read.
std::optional<std::string> ReadFile(const std::string& path);
/// Reads a kept-open pseudo file from its start into `buffer`; returns the text read, empty on failure.
std::string_view ReadFd(int fd, char* buffer, size_t size);
/// One write() to an existing (pseudo) file; returns 0 or an errno value.
int WriteFile(const std::string& path, std::string_view text);

/// Wall clock, since 1970.
int64_t WallMicros();
int64_t WallMillis();
/// Monotonic clock.
int64_t MonotonicMicros();
int64_t MonotonicMillis();

/// Removes a file or a directory tree and does not follow links. Directories without permissions are opened up first;
/// any depth is handled with a constant number of descriptors. What can be removed is removed also when something
/// cannot; the error names the first such entry. A path that does not exist is success.
Result<void> RemoveTree(const std::string& path);

/// A new directory `NAME-XXXXXX` with mode 0700 on a file system in memory (tmpfs): below /dev/shm, $XDG_RUNTIME_DIR,
/// /run/user/UID or /run. The error names the places that were tried.
Result<std::string> MakeMemoryDirectory(const std::string& name);

/// mkdir -p with mode 0777 & ~umask for every missing part.
Result<void> MakeDirectories(const std::string& path);

}  // namespace jobc::process
