// Starting one process: what it is given, how it is started without copying this process's memory, and why it could not
// be started. Used by the guardian and its shims; the failure texts are made on jobc's side.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace jobc::process {

/// The longest single argument or NAME=value string that execve() takes, without its NUL (MAX_ARG_STRLEN, 32 pages).
inline constexpr size_t kMaxArgBytes = 32 * 4096 - 1;

/// At what an attempt failed before its program ran. Whose fault it is: see SpawnFailure::of_system().
enum class SpawnStage : uint32_t {
  kArgument,     ///< one argument is longer than kMaxArgBytes; `index` says which
  kEnvironment,  ///< one environment string is too long; `detail` is its name
  kTotal,        ///< arguments and environment together are too long for the kernel
  kFork,         ///< no process could be made
  kDirectory,    ///< the working directory cannot be entered
  kNotFound,     ///< no such program; `path` is the name as given, `detail` the PATH that was searched, if any
  kInterpreter,  ///< the program is there, the interpreter of its first line (`detail`) is not
  kExec,         ///< any other failure of execve() on `path`
  kSupervisor,   ///< jobc has no supervisor for it: descriptors or processes ran out, or it was killed (`error` is 0)
};

struct SpawnFailure {
  SpawnStage stage = SpawnStage::kExec;
  int error = 0;       ///< errno
  std::string path;    ///< the program or directory
  std::string detail;  ///< by stage, see above
  uint64_t index = 0;  ///< kArgument: which one, 0 is the program
  uint64_t bytes = 0;  ///< the size that was too large
  uint64_t limit = 0;  ///< the largest possible size

  /// True if the machine or jobc had no means to start it, whatever the command is: another try may succeed.
  bool of_system() const { return stage == SpawnStage::kFork || stage == SpawnStage::kSupervisor; }
  /// One line for a person: lower case, no final period, with what to do where that is known.
  std::string Message() const;
};

/// Everything a process is started with. All pointers must stay valid during Spawn() only.
struct SpawnRequest {
  char* const* argv = nullptr;  ///< ends with a null pointer
  char* const* envp = nullptr;
  const char* directory = nullptr;  ///< absolute
  int stdout_fd = -1;
  int stderr_fd = -1;
  int cgroup_fd = -1;                   ///< a version 2 group to be born in, or -1
  const std::vector<int>* join = nullptr;  ///< open cgroup.procs files (version 1) to write "0" to
  uint64_t file_limit = 0;              ///< RLIMIT_NOFILE (soft) to restore, 0 to leave
  bool die_with_parent = false;         ///< SIGKILL when the parent ends
};

struct SpawnOutcome {
  pid_t pid = 0;  ///< 0: it failed
  SpawnFailure failure;
  bool cgroup_refused = false;  ///< the kernel cannot start into `cgroup_fd`; nothing was started
};

/// Starts a process as the leader of a session of its own, all signals at their defaults and unblocked, standard input
/// as this process's (which is /dev/null in a guardian). Returns after the program has begun to run or has failed to.
/// The program is looked up in the PATH of `envp`. All signals must be blocked in this process.
SpawnOutcome Spawn(const SpawnRequest& request);

/// True if a process started into this version 2 group lives to its end. About 0.1 ms.
bool CanBeBornIn(int cgroup_fd);

/// Checks the sizes that the kernel limits. True if they are all right.
bool CheckSizes(const std::vector<std::string>& argv, const std::vector<std::string>& env, SpawnFailure* failure);

}  // namespace jobc::process
