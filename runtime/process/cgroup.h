// Control groups: where this process may make its own, and what those can do. Version 2 groups (native, delegated, or the
// controller-less `unified` tree of a hybrid machine) end process trees; limits come from version 2 controllers where
// they are delegated, else from version 1 hierarchies. Groups are only ever made below the groups this process is in, or
// below ancestors of them that were delegated to it; foreign groups are never touched. Used by the guardian, by
// ProbeEnforcement() and by the clean-up after crashes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc::process {

/// Directories in which groups can be made; empty where there is none. Found by reading, nothing is created.
struct CgroupPlaces {
  std::string v2;          ///< for groups that end trees (no controller needed)
  std::string v2_limits;   ///< for groups with version 2 limits
  bool v2_limits_needs_move = false;  ///< this process must leave `v2_limits` before controllers can be enabled there
  bool v2_memory = false;  ///< controllers that groups below `v2_limits` can have
  bool v2_cpu = false;
  bool v2_pids = false;
  std::string v1_memory;
  std::string v1_cpu;
  std::string v1_pids;
  std::string why_no_tree;    ///< if `v2` is empty
  std::string why_no_limits;  ///< about the limits that are not possible
};

CgroupPlaces FindCgroupPlaces();

/// What limits an attempt has; 0 is none.
struct CgroupLimits {
  uint64_t memory_bytes = 0;
  uint32_t cpu_milli = 0;
  uint32_t pids = 0;

  bool any() const { return memory_bytes || cpu_milli || pids; }
};

/// The groups of one attempt with limits: made for it and removed after it, so its counters start at zero.
class LimitGroups {
 public:
  /// Makes groups named `name` below `places` (through `v2_base`, which must exist with its controllers enabled, or
  /// empty). Limits that cannot be set are left out of enforced().
  static LimitGroups Make(const CgroupPlaces& places, const std::string& v2_base, const std::string& name,
                          const CgroupLimits& limits);
  LimitGroups() = default;
  LimitGroups(LimitGroups&&) = default;
  LimitGroups& operator=(LimitGroups&&) = default;

  const CgroupLimits& enforced() const { return enforced_; }
  /// The version 2 group to start the attempt in, or empty.
  const std::string& v2_path() const { return v2_; }
  /// Open `cgroup.procs` files that the child writes "0" to before it executes the job.
  const std::vector<UniqueFd>& join() const { return join_; }
  /// How many processes the kernel killed for want of memory.
  uint64_t OomKills() const;
  /// The highest memory use in bytes, 0 if unknown.
  uint64_t PeakMemory() const;
  /// All directories, for the record of what must be removed.
  std::vector<std::string> paths() const;
  /// Removes the directories; the attempt's processes must be gone.
  void Remove();

 private:
  std::string v2_;
  std::string v1_memory_;
  std::vector<std::string> v1_;
  std::vector<UniqueFd> join_;
  CgroupLimits enforced_;
};

/// Enables the controllers for groups below `places.v2_limits`, moves the processes in `ours` out of the way if needed,
/// and makes `base` there.
Result<void> PrepareV2Limits(const CgroupPlaces& places, const std::string& base, const std::vector<pid_t>& ours);

/// Takes PrepareV2Limits() back as far as possible and removes `base`.
void UndoV2Limits(const CgroupPlaces& places, const std::string& base, const std::vector<pid_t>& ours);

/// True if a process is alive in the version 2 group or below it.
bool CgroupPopulated(const std::string& path);
/// Kills all processes in a version 2 group and below it; before Linux 5.14 by freezing and killing each.
void KillCgroup(const std::string& path);
/// Sends `signal` to every process in a version 2 group and below it; returns how many.
size_t SignalCgroup(const std::string& path, int signal);
/// Removes a group and the groups below it. False if a process is still in there.
bool RemoveCgroup(const std::string& path);
/// The groups directly below `path` whose name begins with `prefix`.
std::vector<std::string> GroupsBelow(const std::string& path, const std::string& prefix);
/// The pids in a group's `cgroup.procs`, and in the groups below if `recursive`.
std::vector<pid_t> CgroupProcesses(const std::string& path, bool recursive);

/// What this machine enforces for local attempts, found by trying; for `jobc doctor` and the warnings of a plan.
struct Enforcement {
  bool memory = false;
  bool cpu = false;
  bool pids = false;
  bool tree_kill_by_cgroup = false;  ///< else a subreaper per attempt ends the tree
  std::string how;                   ///< one line: by what the above is done
  std::string why_not;               ///< one line about what is not enforced and what would change that; may be empty
};

Enforcement ProbeEnforcement();

}  // namespace jobc::process
