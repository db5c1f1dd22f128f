// The guardian: a small process that starts, supervises and ends everything that a run executes on this machine. jobc
// forks it once per run, before it grows; it is a session leader with all signals blocked and a child subreaper, so that
// neither Ctrl-C nor a daemonised grandchild gets past it. When jobc ends for any reason, kill -9 included, the guardian
// sees the end of their socket, kills every process tree, removes registered paths and control groups, and exits.
//
// Each slot (a place for one attempt at a time) has a shim: a fork of the guardian that is itself a subreaper, starts the
// slot's attempts and inherits every orphan of theirs. When an attempt's program ends, its shim stops and kills whatever
// descends from itself until nothing is left. Where version 2 control groups are writable, each attempt is moreover born
// (clone3, CLONE_INTO_CGROUP) in a group of its slot, which `cgroup.kill` ends at once and which outlives all
// supervisors. A shim whose guardian is killed ends its tree and exits; of a killed shim the guardian ends the tree.
//
// A record of each live run lies in STATE/live. If jobc and guardian are both killed, CleanUpStale() of the next command
// finds it and ends what is left. `ProcessClient` (process_client.h) is the only user of the socket.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc::process {

struct GuardianOptions {
  /// False leaves the ends of trees to the shims alone. For tests and for machines where control groups misbehave.
  bool use_cgroups = true;
  /// False leaves version 1 groups and version 2 controllers alone: limits are admission only.
  bool use_limits = true;
};

/// A running guardian. Give it to ProcessClient::Create(); if it is dropped instead, the guardian exits.
struct GuardianHandle {
  UniqueFd socket;
  pid_t pid = 0;
};

/// Forks the guardian; about 0.3 ms. Must be called while this process has one thread, and best before it has read
/// anything large: the memory it has now is the least that attempts can show as their peak.
Result<GuardianHandle> LaunchGuardian(const GuardianOptions& options = {});

/// What CleanUpStale() found of one run whose jobc and guardian are both dead.
struct StaleRun {
  std::string run_id;
  uint32_t processes_ended = 0;
  uint32_t paths_removed = 0;
  std::string problem;  ///< what could not be cleaned up and why; empty if all was
};

/// Ends and removes what runs of this machine and boot have left behind whose jobc and guardian are no longer alive.
/// Waits up to 2 s for a guardian that is at it. Costs one failed opendir() when there is nothing. Never touches a live
/// run, another machine's record in a shared directory, this process or its ancestors.
std::vector<StaleRun> CleanUpStale(const std::string& state_dir);

/// The records of live runs, for `jobc doctor` and `jobc list`.
struct LiveRun {
  std::string record_path;
  std::string run_id;
  std::string host;
  std::string boot_id;
  uint64_t pid_namespace = 0;
  pid_t jobc_pid = 0;
  uint64_t jobc_start = 0;
  pid_t guardian_pid = 0;
  uint64_t guardian_start = 0;
  std::vector<std::string> groups;           ///< version 2 groups, whole
  std::vector<std::string> group_prefixes;   ///< version 1 groups whose path begins so
  std::vector<std::string> remove;           ///< registered paths

  bool jobc_alive() const;
  bool guardian_alive() const;
};

std::vector<LiveRun> ReadLiveRuns(const std::string& state_dir);

/// Does the work of a guardian that died, from its record: for jobc itself, which noticed. Waits up to `patience_ms`.
StaleRun CleanUpRecord(const LiveRun& run, int64_t patience_ms);

}  // namespace jobc::process
