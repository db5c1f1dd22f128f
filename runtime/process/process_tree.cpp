#include "runtime/process/process_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "runtime/process/os.h"

namespace jobc::process {

std::optional<ProcessInfo> ReadProcess(pid_t pid) {
  char path[32];
  snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return std::nullopt;
  }
  char text[1024];
  ssize_t n = read(fd.get(), text, sizeof text - 1);
  if (n <= 0) {
    return std::nullopt;
  }
  text[n] = 0;
  // The name in parentheses may itself hold spaces and parentheses: fields are counted from the last one.
  const char* p = strrchr(text, ')');
  ProcessInfo info;
  info.pid = pid;
  int parent = 0;
  unsigned long long start = 0;
  if (!p || sscanf(p + 1,
                   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                   &info.state, &parent, &start) != 3) {
    return std::nullopt;
  }
  info.parent = parent;
  info.start_ticks = start;
  return info;
}

bool IsAlive(pid_t pid, uint64_t start_ticks) {
  std::optional<ProcessInfo> info = ReadProcess(pid);
  return info && info->alive() && (start_ticks == 0 || info->start_ticks == start_ticks);
}

std::vector<ProcessInfo> AllProcesses() {
  std::vector<ProcessInfo> all;
  DIR* dir = opendir("/proc");
  if (!dir) {
    return all;
  }
  while (dirent* entry = readdir(dir)) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') {
      continue;
    }
    if (std::optional<ProcessInfo> info = ReadProcess(atoi(entry->d_name))) {
      all.push_back(*info);
    }
  }
  closedir(dir);
  return all;
}

std::vector<pid_t> Descendants(pid_t root, const std::vector<pid_t>& except) {
  std::unordered_map<pid_t, std::vector<const ProcessInfo*>> children;
  std::vector<ProcessInfo> all = AllProcesses();
  for (const ProcessInfo& info : all) {
    children[info.parent].push_back(&info);
  }
  std::vector<pid_t> found;
  std::vector<pid_t> open = {root};
  while (!open.empty()) {
    pid_t parent = open.back();
    open.pop_back();
    auto it = children.find(parent);
    if (it == children.end()) {
      continue;
    }
    for (const ProcessInfo* info : it->second) {
      if (std::find(except.begin(), except.end(), info->pid) != except.end()) {
        continue;
      }
      if (info->alive()) {
        found.push_back(info->pid);
      }
      open.push_back(info->pid);  // a zombie can still be the parent of nothing, but its threads' children are listed
    }
  }
  return found;
}

std::string BootId() {
  std::string id = ReadFile("/proc/sys/kernel/random/boot_id").value_or("unknown");
  while (!id.empty() && id.back() == '\n') {
    id.pop_back();
  }
  return id;
}

uint64_t PidNamespace() {
  struct stat info {};
  return stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

bool ReapChildren(const OnChild& on_child) {
  for (;;) {
    int status = 0;
    rusage usage{};
    pid_t pid = wait4(-1, &status, WNOHANG, &usage);
    if (pid > 0) {
      if (on_child) {
        on_child(pid, status, usage);
      }
      continue;
    }
    if (pid < 0 && errno == EINTR) {
      continue;
    }
    return pid == 0;
  }
}

size_t EndDescendants(const std::vector<pid_t>& except, int64_t deadline_ms, const OnChild& on_child) {
  const pid_t self = getpid();
  for (;;) {
    if (!ReapChildren(on_child)) {
      return 0;
    }
    std::unordered_set<pid_t> seen;
    std::vector<pid_t> alive;
    for (int round = 0; round < 64; ++round) {  // until nobody new appears: whoever forks is stopped by the next round
      alive = Descendants(self, except);
      bool grew = false;
      for (pid_t pid : alive) {
        if (seen.insert(pid).second) {
          grew = true;
          kill(pid, SIGSTOP);
        }
      }
      if (!grew) {
        break;
      }
    }
    if (alive.empty() && except.empty()) {
      // Only zombies whose parent is not us are left; they come to us when that parent ends, which it has.
      if (!ReapChildren(on_child)) {
        return 0;
      }
    } else if (alive.empty()) {
      return 0;
    }
    size_t refused = 0;
    for (pid_t pid : seen) {
      if (kill(pid, SIGKILL) != 0 && errno == EPERM) {
        ++refused;
      }
    }
    if ((refused > 0 && refused == alive.size()) || MonotonicMillis() >= deadline_ms) {
      return alive.size();
    }
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    timespec wait{0, 20 * 1000 * 1000};
    sigtimedwait(&child, nullptr, &wait);
  }
}

}  // namespace jobc::process
