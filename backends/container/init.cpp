#include "backends/container/init.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "runtime/process/os.h"
#include "support/sha256.h"

extern const char kContainerInit[];
extern const unsigned long kContainerInitSize;

namespace jobc::container {

std::string_view InitProgram() { return {kContainerInit, kContainerInitSize}; }

Result<std::string> InstallInit(const std::string& state_dir) {
  const std::string_view program = InitProgram();
  const std::string dir = state_dir + "/bin";
  const std::string path = dir + "/init-" + Sha256Hex(program).substr(0, 16);
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) == program.size() && (info.st_mode & 0111) == 0111) {
    return path;
  }
  if (auto made = process::MakeDirectories(dir); !made) {
    return made.error();
  }
  const std::string temporary = fmt::format("{}.{}", path, getpid());
  unlink(temporary.c_str());
  process::UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755));
  auto failed = [&](const char* what) {
    Error error = process::SystemError(fmt::format("cannot {} `{}`", what, temporary), errno);
    unlink(temporary.c_str());
    return error;
  };
  if (!fd) {
    return failed("create");
  }
  for (size_t done = 0; done < program.size();) {
    const ssize_t count = write(fd.get(), program.data() + done, program.size() - done);
    if (count < 0 && errno != EINTR) {
      return failed("write");
    }
    done += count > 0 ? static_cast<size_t>(count) : 0;
  }
  // The name says that the content is whole: also after a power loss. And whatever the umask: containers have users of their own.
  if (fchmod(fd.get(), 0755) != 0 || fsync(fd.get()) != 0) {
    return failed("write");
  }
  fd.Reset();
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return failed("rename");
  }
  return path;
}

std::vector<std::string> InitCommand(const AttemptLaunch& launch, const std::vector<std::string>& argv) {
  std::vector<std::string> out{std::string(kInitTarget)};
  if (launch.timeouts.run) {
    out.insert(out.end(), {"--limit", std::to_string(*launch.timeouts.run + kLimitSlackMs)});
  }
  out.insert(out.end(), {"--grace", std::to_string(std::max<int64_t>(launch.grace_ms, 0)), "--end", fmt::format("{}/{}", launch.places.SeenStage(), kEndName), "--"});
  out.insert(out.end(), argv.begin(), argv.end());
  return out;
}

std::optional<InitEnd> ParseInitEnd(std::string_view text) {
  InitEnd out;
  bool how = false, oom = false;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const size_t blank = line.find(' ');
    const std::string_view word = line.substr(0, blank);
    int64_t numbers[2] = {-1, -1};
    size_t count = 0;
    for (std::string_view rest = blank == std::string_view::npos ? std::string_view() : line.substr(blank + 1); !rest.empty() && count < 2; ++count) {
      const auto [after, error] = std::from_chars(rest.data(), rest.data() + rest.size(), numbers[count]);
      if (error != std::errc()) {
        return std::nullopt;
      }
      rest.remove_prefix(static_cast<size_t>(after - rest.data()));
      rest.remove_prefix(rest.starts_with(' ') ? 1 : 0);
    }
    const bool one = count == 1 && numbers[0] >= 0 && numbers[0] <= 255;
    if (word == "exit" && one) {
      out.exit.exit_code = static_cast<int>(numbers[0]);
    } else if (word == "signal" && one) {
      out.exit.signal = static_cast<int>(numbers[0]);
    } else if (word == "start" && one && numbers[0] > 0) {
      out.start_error = static_cast<int>(numbers[0]);
    } else if (word == "limit" && count == 0) {
      out.limit = true;
    } else if (word == "oom" && count == 0) {
      oom = true;
    } else if (word == "times" && count == 2) {
      out.started_ms = numbers[0];
      out.exit.wall_ms = numbers[1];
    } else if (word == "usage" && count == 2) {
      out.exit.usage.cpu_ms = numbers[0];
      out.exit.usage.max_memory = numbers[1] * 1024;
    } else {
      return std::nullopt;
    }
    how = how || word == "exit" || word == "signal" || word == "start";
  }
  // A program that went on without what was killed, and ended well, had memory enough.
  out.exit.out_of_memory = oom && out.exit.exit_code != 0;
  return how ? std::optional(out) : std::nullopt;
}

std::optional<InitEnd> ReadInitEnd(const AttemptPlaces& places) {
  const std::string path = fmt::format("{}/{}", places.stage_dir, kEndName);
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > 4096) {
    return std::nullopt;
  }
  auto text = process::ReadFile(path);
  return text ? ParseInitEnd(*text) : std::nullopt;
}

Verdict StartVerdict(int start_error, const std::string& program, const std::string& where) {
  std::string why;
  switch (start_error) {
    case ENOENT: why = fmt::format("`{}` was not found in {}; if it is there, the interpreter or loader that it names is not", program, where); break;
    case EACCES: why = fmt::format("`{}` in {} may not be executed: it is no program, or not for this user", program, where); break;
    case ENOEXEC: why = fmt::format("`{}` in {} is no program for this machine: a script without `#!`, or made for another processor", program, where); break;
    case E2BIG: why = fmt::format("`{}` cannot be started: its arguments and environment are larger than the kernel takes; put large values into files", program); break;
    default: why = fmt::format("`{}` in {} cannot be started: {}", program, where, std::strerror(start_error)); break;
  }
  return Failed(ir::ErrorKind::Command, std::move(why));
}

}  // namespace jobc::container
