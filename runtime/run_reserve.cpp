#include "runtime/run_reserve.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace jobc {
namespace {

std::string PathOf(const std::string& run_dir) { return run_dir + "/reserve"; }

}  // namespace

Result<void> KeepReserve(const std::string& run_dir) {
  const std::string path = PathOf(run_dir);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  int code = fd < 0 ? errno : 0;
  if (fd >= 0) {
    do {
      code = posix_fallocate(fd, 0, kReserveBytes);
    } while (code == EINTR);
    close(fd);
    if (code != 0) {
      unlink(path.c_str());
    }
  }
  if (code == ENOSPC || code == EDQUOT) {
    return Error{fmt::format("the disk is full: there is no room for `{}` ({} KiB, kept to record how the run ends): {}", path, kReserveBytes / 1024, std::strerror(code)), code};
  }
  return {};
}

void FreeReserve(const std::string& run_dir) { unlink(PathOf(run_dir).c_str()); }

}  // namespace jobc
