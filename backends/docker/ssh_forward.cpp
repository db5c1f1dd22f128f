#include "backends/docker/ssh_forward.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

namespace jobc::docker {
namespace {

constexpr int64_t kOpenMs = 30'000;
constexpr const char* kName = "jobc-ssh";

/// Whether somebody listens there; asks nothing.
bool Listens(const std::string& socket_path) {
  process::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (!fd || socket_path.size() >= sizeof address.sun_path) return false;
  memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  return connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) == 0;
}

process::UniqueFd LockOf(const std::string& dir) {
  process::UniqueFd fd(open((dir + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd || flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return {};
  return fd;
}

/// What a jobc that was killed left: its directories beside `dir` are nobody's any more. ssh has ended with it.
void RemoveAbandoned(const std::string& dir) {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(dir).parent_path();
  for (std::filesystem::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    struct stat info;
    if (!entry->path().filename().string().starts_with(std::string(kName) + "-") || lstat(entry->path().c_str(), &info) != 0) continue;
    // A young one may be just being made.
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || process::WallMillis() / 1000 - info.st_mtime < 60) continue;
    if (process::UniqueFd lock = LockOf(entry->path())) (void)process::RemoveTree(entry->path()).ok();
  }
}

bool IsHostText(std::string_view text) {
  return !text.empty() && text.front() != '-' && std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > ' ' && c != 0x7f && strchr("'\"\\`$;&|<>()*?!#%", c) == nullptr; });
}

}  // namespace

Result<SshTarget> ParseSshTarget(const std::string& text, const std::string& usual_socket) {
  SshTarget out;
  const size_t slash = text.find('/');
  std::string authority = text.substr(0, slash);
  out.remote_socket = slash == std::string::npos || slash + 1 == text.size() ? usual_socket : text.substr(slash);
  std::string user;
  if (const size_t at = authority.rfind('@'); at != std::string::npos) {
    user = authority.substr(0, at);
    authority = authority.substr(at + 1);
    if (user.find(':') != std::string::npos) return Error{"which has a password: ssh takes a key or an agent"};
    if (!IsHostText(user)) return Error{"whose user is no name"};
  }
  if (authority.starts_with("[")) {
    const size_t end = authority.find(']');
    if (end == std::string::npos) return Error{"whose `[` is not closed"};
    out.port = authority.substr(end + 1);
    authority = authority.substr(1, end - 1);
    if (!out.port.empty() && !out.port.starts_with(":")) return Error{"whose port does not begin with `:`"};
    if (!out.port.empty()) out.port.erase(0, 1);
  } else if (const size_t colon = authority.find(':'); colon != std::string::npos) {
    out.port = authority.substr(colon + 1);
    authority.resize(colon);
  }
  if (authority.empty()) return Error{"which has no host"};
  if (!IsHostText(authority)) return Error{"whose host is no name"};
  if (!out.port.empty() && (out.port.size() > 5 || out.port.find_first_not_of("0123456789") != std::string::npos || std::stoi(out.port) < 1 || std::stoi(out.port) > 65535)) {
    return Error{"whose port is not a number from 1 to 65535"};
  }
  if (out.remote_socket.empty()) return Error{"which does not say where the service listens there, as in ssh://HOST/run/user/1000/podman/podman.sock"};
  if (out.remote_socket.find(':') != std::string::npos || out.remote_socket.size() > 107) return Error{"whose socket has a `:` in its path, or more than 107 bytes"};
  out.destination = user.empty() ? authority : user + "@" + authority;
  return out;
}

Result<std::shared_ptr<SshForward>> SshForward::Open(const SshTarget& target) {
  std::shared_ptr<SshForward> out(new SshForward(target));
  if (auto made = out->MakeDir(); !made) return made.error();
  if (auto there = out->Renew(); !there) return there.error();
  return out;
}

Result<void> SshForward::Renew() {
  if (Alive()) return {};
  if (auto started = Start(); !started) return started;
  return Await();
}

Result<void> SshForward::Await() {
  const int64_t until = process::MonotonicMillis() + kOpenMs;
  while (!Listens(socket())) {
    const bool alive = Alive();
    if (alive && process::MonotonicMillis() < until) {
      usleep(5000);
      continue;
    }
    const std::string words = LastWords();
    const std::string port = target_.port.empty() ? "" : " -p " + target_.port;
    return Error{fmt::format("ssh does not reach it: {}. See what  ssh -o BatchMode=yes{} {} true  says: it has to work without a password and without a question",
                             !words.empty() ? words : alive ? fmt::format("no answer for {} s", kOpenMs / 1000) : "it ended without a word", port, target_.destination)};
  }
  return {};
}

SshForward::~SshForward() {
  End();
  if (!dir_.empty()) (void)process::RemoveTree(dir_).ok();
}

Result<void> SshForward::MakeDir() {
  auto made = process::MakeMemoryDirectory(kName);
  if (!made) return made.error();
  dir_ = *std::move(made);
  lock_ = LockOf(dir_);
  if (!lock_) return process::SystemError(dir_ + "/lock", errno);
  RemoveAbandoned(dir_);
  return {};
}

Result<void> SshForward::Start() {
  (void)unlink(socket().c_str());
  // Its own connection: a shared one would keep the forwarding when jobc has gone.
  std::vector<std::string> words = {"ssh", "-nNT", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
                                    "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "StreamLocalBindMask=0177", "-o", "LogLevel=INFO"};
  if (!target_.port.empty()) words.insert(words.end(), {"-p", target_.port});
  if (!target_.identity.empty()) words.insert(words.end(), {"-i", target_.identity});
  words.insert(words.end(), {"-L", socket() + ":" + target_.remote_socket, "--", target_.destination});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  process::UniqueFd none(open("/dev/null", O_RDWR | O_CLOEXEC));
  process::UniqueFd says(open((dir_ + "/says").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!none || !says) return process::SystemError(!none ? "/dev/null" : dir_ + "/says", errno);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return process::SystemError("ssh cannot be started", errno);
  if (child == 0) {
    // Not the terminal's: neither its Ctrl-C nor a question for a password. And not longer than jobc, also where that is killed.
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    sigset_t nothing;
    sigemptyset(&nothing);
    sigprocmask(SIG_SETMASK, &nothing, nullptr);
    dup2(none.get(), STDIN_FILENO);
    dup2(none.get(), STDOUT_FILENO);
    dup2(says.get(), STDERR_FILENO);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    execvp(argv[0], argv.data());
    const char* why = errno == ENOENT ? "there is no program `ssh` here (Debian: apt-get install openssh-client)\n" : "the program `ssh` cannot be run\n";
    if (write(STDERR_FILENO, why, strlen(why)) < 0) _exit(126);
    _exit(127);
  }
  pid_ = child;
  return {};
}

bool SshForward::Alive() {
  if (pid_ < 0) return false;
  const pid_t ended = waitpid(pid_, nullptr, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return true;
  pid_ = -1;
  return false;
}

void SshForward::Revive() {
  if (!Alive()) (void)Start().ok();
}

void SshForward::End() {
  if (pid_ < 0) return;
  kill(pid_, SIGTERM);
  const int64_t until = process::MonotonicMillis() + 2000;
  while (Alive()) {
    if (process::MonotonicMillis() >= until) {
      kill(pid_, SIGKILL);
      while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
      }
      pid_ = -1;
      return;
    }
    usleep(1000);
  }
}

std::string SshForward::LastWords() const {
  std::string text = process::ReadFile(dir_ + "/says").value_or("");
  std::string last;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    while (!line.empty() && (line.back() == '\r' || line.back() == '.' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) last = std::move(line);
    at = end + 1;
  }
  if (last.starts_with("ssh: ")) last.erase(0, 5);
  return last.substr(0, 300);
}

}  // namespace jobc::docker
