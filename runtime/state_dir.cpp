#include "runtime/state_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/journal.h"
#include "runtime/process/os.h"
#include "runtime/process/process_tree.h"

namespace jobc {
namespace {

constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
constexpr size_t kIdLength = 20;
constexpr size_t kTimeDigits = 9;  // lasts until the year 5188

std::string EnvOr(const char* name, std::string fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::string(value) : std::move(fallback);
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string UserStateFile() {
  std::string base = EnvOr("XDG_STATE_HOME", "");
  if (base.empty() || base[0] != '/') {
    std::string home = EnvOr("HOME", "");
    if (home.empty()) {
      return "";
    }
    base = home + "/.local/state";
  }
  return base + "/jobc/last-run";
}

std::optional<LockHolder> ParseHolder(std::string_view text) {
  LockHolder holder;
  char host[300] = {};
  char boot[100] = {};
  long pid = 0;
  unsigned long long ticks = 0;
  std::string copy(text);
  if (std::sscanf(copy.c_str(), "pid %ld\nstart %llu\nhost %299s\nboot %99s", &pid, &ticks, host, boot) < 3) {
    return std::nullopt;
  }
  holder.pid = static_cast<pid_t>(pid);
  holder.start_ticks = ticks;
  holder.host = host;
  holder.boot = boot;
  return holder;
}

}  // namespace

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? std::string(name) : std::string("unknown");
}

std::string NewRunId(int64_t now_ms) {
  std::string id(kIdLength, '0');
  uint64_t time = static_cast<uint64_t>(now_ms);
  for (size_t i = kTimeDigits; i-- > 0;) {
    id[i] = kDigits[time % 36];
    time /= 36;
  }
  // 252 = 7 * 36: bytes above it are drawn again, so that every character is equally likely.
  for (size_t i = kTimeDigits; i < kIdLength;) {
    unsigned char bytes[32];
    ssize_t count = getrandom(bytes, sizeof bytes, 0);
    for (ssize_t k = 0; k < count && i < kIdLength; ++k) {
      if (bytes[k] < 252) {
        id[i++] = kDigits[bytes[k] % 36];
      }
    }
  }
  return id;
}

bool IsRunId(std::string_view text) {
  return text.size() == kIdLength && text.find_first_not_of(kDigits) == std::string_view::npos;
}

std::string ShellQuote(std::string_view word) {
  bool plain = !word.empty();
  for (char c : word) {
    plain = plain && (std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_-./:=@%+,", c) != nullptr) && c != '\0';
  }
  if (plain) {
    return std::string(word);
  }
  std::string quoted = "'";
  for (char c : word) {
    quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return quoted + "'";
}

std::string StateDirForSource(const std::string& source_dir, const std::string& explicit_dir) {
  if (!explicit_dir.empty()) {
    return explicit_dir;
  }
  return EnvOr("JOBC_HOME", source_dir + "/.jobc");
}

Result<std::string> FindStateDir(const std::string& cwd, const std::string& explicit_dir) {
  if (!explicit_dir.empty()) {
    struct stat info;
    if (stat(explicit_dir.c_str(), &info) != 0 && errno != ENOENT) {
      return Error{fmt::format("cannot read the state directory `{}`: {}", explicit_dir, std::strerror(errno)), errno};
    }
    if (!IsDirectory(explicit_dir)) {
      return Error{fmt::format("the state directory `{}` does not exist", explicit_dir), ENOENT};
    }
    return explicit_dir;
  }
  if (std::string home = EnvOr("JOBC_HOME", ""); !home.empty()) {
    return home;
  }
  for (std::string dir = cwd; !dir.empty();) {
    std::string candidate = (dir == "/" ? "" : dir) + "/.jobc";
    if (IsDirectory(candidate)) {
      return candidate;
    }
    if (dir == "/") {
      break;
    }
    size_t slash = dir.rfind('/');
    dir = slash == 0 ? "/" : dir.substr(0, slash);
  }
  std::string message = fmt::format("no run here: there is no `.jobc` in `{}` or a parent of it", cwd);
  if (auto last = LastRunOfUser()) {
    message += fmt::format("; your last run is {}: add `{} --state {}`", last->run_id, last->run_id, ShellQuote(last->state_dir));
  } else {
    message += "; start one with `jobc run FILE`, or name its state directory with `--state DIR`";
  }
  return Error{std::move(message), ENOENT};
}

std::string RunDir(const std::string& state_dir, const std::string& id) { return state_dir + "/runs/" + id; }

Result<std::string> CreateRunDir(const std::string& state_dir, const std::string& id) {
  auto fail = [&](const std::string& path, int code) {
    return Error{fmt::format("cannot create the state directory `{}`: {}; name another with `--state DIR` or JOBC_HOME", path, std::strerror(code)), code};
  };
  std::string run_dir = RunDir(state_dir, id);
  if (mkdir(run_dir.c_str(), 0777) == 0) {
    return run_dir;
  }
  if (errno != ENOENT) {
    return fail(run_dir, errno);
  }
  bool fresh = !IsDirectory(state_dir);
  if (auto made = process::MakeDirectories(state_dir + "/runs"); !made) {
    return fail(state_dir, made.error().code);
  }
  if (fresh) {
    // Nobody wants to commit the state by accident. Not being able to say so is no reason to fail.
    int fd = open((state_dir + "/.gitignore").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      [[maybe_unused]] ssize_t written = write(fd, "*\n", 2);
      close(fd);
    }
  }
  if (mkdir(run_dir.c_str(), 0777) != 0) {
    return fail(run_dir, errno);
  }
  return run_dir;
}

Result<std::vector<std::string>> ReadRunIds(const std::string& state_dir) {
  std::vector<std::string> ids;
  const std::string runs = state_dir + "/runs";
  DIR* dir = opendir(runs.c_str());
  if (dir == nullptr) {
    if (errno == ENOENT) {
      return ids;
    }
    return Error{fmt::format("cannot read the runs in `{}`: {}", runs, std::strerror(errno)), errno};
  }
  while (dirent* entry = readdir(dir)) {
    // Without a journal it is no run: its process was killed before it could begin. What may not be looked into may be one.
    if (IsRunId(entry->d_name) && (faccessat(dirfd(dir), (std::string(entry->d_name) + "/journal.db").c_str(), F_OK, 0) == 0 || errno == EACCES)) {
      ids.emplace_back(entry->d_name);
    }
  }
  closedir(dir);
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::vector<std::string> ListRunIds(const std::string& state_dir) {
  Result<std::vector<std::string>> ids = ReadRunIds(state_dir);
  return ids ? *std::move(ids) : std::vector<std::string>();
}

Result<std::string> ResolveRun(const std::string& state_dir, const std::string& run) {
  Result<std::vector<std::string>> read = ReadRunIds(state_dir);
  if (!read) {
    return read.error();
  }
  const std::vector<std::string>& ids = *read;
  if (ids.empty()) {
    return Error{fmt::format("there are no runs in `{}`; start one with `jobc run FILE`", state_dir), ENOENT};
  }
  if (run.empty()) {
    return ids.back();
  }
  std::vector<std::string> found;
  for (const std::string& id : ids) {
    if (std::string_view(id).substr(0, run.size()) == run) {
      found.push_back(id);
    }
  }
  const bool by_id = !found.empty();
  if (found.empty()) {
    // Not the beginning of an id: a name. Newest first, so that the message lists the newest.
    for (auto id = ids.rbegin(); id != ids.rend(); ++id) {
      auto reader = JournalReader::Open(RunDir(state_dir, *id) + "/journal.db");
      if (reader && reader->header().name == run) {
        found.push_back(*id);
      }
    }
  }
  if (found.size() == 1) {
    return found[0];
  }
  if (found.empty()) {
    return Error{fmt::format("no run `{}` in `{}`; `jobc list` shows all, the last one is {}", run, state_dir, ids.back()), ENOENT};
  }
  std::string some;
  for (size_t i = 0; i < found.size() && i < 4; ++i) {
    some += (i == 0 ? "" : ", ") + found[i];
  }
  const std::string_view more = found.size() > 4 ? ", …" : "";
  return Error{by_id ? fmt::format("`{}` may mean {} runs: {}{}; write more of the id", run, found.size(), some, more)
                     : fmt::format("{} runs have the name `{}`, newest first: {}{}; write the id of one instead of the name", found.size(), run, some, more),
               EINVAL};
}

// --- the lock ---------------------------------------------------------------

RunLock::RunLock(RunLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
RunLock::~RunLock() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

Result<RunLock> RunLock::Take(const std::string& run_dir) {
  std::string path = run_dir + "/lock";
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return Error{fmt::format("cannot create `{}`: {}", path, std::strerror(errno)), errno};
  }
  RunLock lock(fd);
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  // Of this open file, not of the process: a process that looks at its own lock would lose one of the other sort.
  if (fcntl(fd, F_OFD_SETLK, &range) != 0) {
    int code = errno;
    if (code != EACCES && code != EAGAIN) {
      return Error{fmt::format("cannot lock `{}`: {}", path, std::strerror(code)), code};
    }
    auto holder = ParseHolder(process::ReadFile(path).value_or(""));
    std::string id = run_dir.substr(run_dir.rfind('/') + 1);
    return Error{fmt::format("the run {} is being executed by another process{}", id,
                             holder ? fmt::format(" (pid {} on {})", holder->pid, holder->host) : std::string()),
                 EWOULDBLOCK};
  }
  auto self = process::ReadProcess(getpid());
  std::string text = fmt::format("pid {}\nstart {}\nhost {}\nboot {}\n", getpid(), self ? self->start_ticks : 0, HostName(), process::BootId());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return Error{fmt::format("cannot write `{}`: {}", path, std::strerror(errno)), errno};
  }
  return lock;
}

std::optional<LockHolder> RunLock::Holder(const std::string& run_dir) {
  std::string path = run_dir + "/lock";
  process::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return std::nullopt;
  }
  struct flock range = {};
  range.l_type = F_RDLCK;
  range.l_whence = SEEK_SET;
  if (fcntl(fd.get(), F_OFD_GETLK, &range) != 0 || range.l_type == F_UNLCK) {
    return std::nullopt;
  }
  auto holder = ParseHolder(process::ReadFile(path).value_or(""));
  if (!holder) {
    holder.emplace();
    holder->pid = range.l_pid;
  }
  return holder;
}

// --- the user's last run ----------------------------------------------------

void RememberLastRun(const std::string& state_dir, const std::string& run_id) {
  std::string path = UserStateFile();
  if (path.empty()) {
    return;
  }
  std::string temporary = path + "." + run_id;
  int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) {
    if (errno != ENOENT || !process::MakeDirectories(path.substr(0, path.rfind('/'))).ok()) {
      return;
    }
    fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
      return;
    }
  }
  std::string text = run_id + "\n" + state_dir + "\n";
  bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) {
    unlink(temporary.c_str());
  }
}

std::optional<RememberedRun> LastRunOfUser() {
  std::string path = UserStateFile();
  auto text = path.empty() ? std::nullopt : process::ReadFile(path);
  if (!text) {
    return std::nullopt;
  }
  size_t line = text->find('\n');
  if (line == std::string::npos) {
    return std::nullopt;
  }
  RememberedRun run{text->substr(line + 1), text->substr(0, line)};
  while (!run.state_dir.empty() && run.state_dir.back() == '\n') {
    run.state_dir.pop_back();
  }
  if (!IsRunId(run.run_id) || !IsDirectory(RunDir(run.state_dir, run.run_id))) {
    return std::nullopt;
  }
  return run;
}

}  // namespace jobc
