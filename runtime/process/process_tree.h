// What /proc says about processes: who is alive, who descends from whom, and how to end all descendants of this process.
// Used by the guardian, its shims and the clean-up after crashes. Zombies (state Z or X) never count as alive.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace jobc::process {

struct ProcessInfo {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = 0;
  uint64_t start_ticks = 0;  ///< since boot, in clock ticks: together with the pid the identity of a process

  bool alive() const { return state != 'Z' && state != 'X' && state != 0; }
};

/// /proc/PID/stat; nothing if there is no such process.
std::optional<ProcessInfo> ReadProcess(pid_t pid);
/// True if the process that had this identity is alive now. `start_ticks` 0 matches any.
bool IsAlive(pid_t pid, uint64_t start_ticks);
/// Every process this user can see.
std::vector<ProcessInfo> AllProcesses();
/// The living descendants of `root`, without `root` and without the processes in `except` and their descendants.
std::vector<pid_t> Descendants(pid_t root, const std::vector<pid_t>& except = {});

/// The identity of the running kernel, for "pid 4711 of the same boot".
std::string BootId();
/// The inode of this process's pid namespace: pids of another one mean nothing here.
uint64_t PidNamespace();

using OnChild = std::function<void(pid_t pid, int status, const rusage& usage)>;

/// wait4() for every child that has ended. Returns false if there are no children left at all.
bool ReapChildren(const OnChild& on_child);

/// Stops, then kills all descendants of this process, which must be a child subreaper, except those below `except`, and
/// reaps them until none is left or `deadline_ms` (MonotonicMillis) has passed. SIGCHLD must be blocked. Stopping first
/// means that nothing can fork away from the kill. Returns how many processes could not be ended.
size_t EndDescendants(const std::vector<pid_t>& except, int64_t deadline_ms, const OnChild& on_child);

}  // namespace jobc::process
