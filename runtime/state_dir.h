// Where runs keep their state: `$JOBC_HOME`, else `--state DIR`, else `.jobc/` beside the root source. Below it one
// directory a run, named by the run's id, which sorts by time:
//
//   .jobc/runs/<id>/journal.db   the journal (journal.h)
//                   lock         pid, start time, host of the process that executes the run
//                   outputs/     published outputs of finished instances
//                   work/        attempts in progress
//
// Also finds the run a person means: the last one, an id, a unique prefix of one, or a name given with `--name`.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace jobc {

/// 20 characters of [0-9a-z]: milliseconds since 1970 in base 36, then random ones. Sorts by time of creation.
std::string NewRunId(int64_t now_ms);
bool IsRunId(std::string_view text);

/// The state directory for running the source in `source_dir` (absolute). `explicit_dir` is `--state`, may be empty.
/// The directory is not created.
std::string StateDirForSource(const std::string& source_dir, const std::string& explicit_dir);

/// The state directory for commands that name no source: `--state`, `$JOBC_HOME`, else the nearest `.jobc/` in `cwd` or
/// a parent. The error says where was looked, and names the last run of this user elsewhere with the exact command.
Result<std::string> FindStateDir(const std::string& cwd, const std::string& explicit_dir);

/// Makes `<state>/runs/<id>`; creates the state directory on first use. Errors are for exit 15.
Result<std::string> CreateRunDir(const std::string& state_dir, const std::string& id);

/// The name of this machine.
std::string HostName();

/// `<state>/runs/<id>`
std::string RunDir(const std::string& state_dir, const std::string& id);

/// All run ids, oldest first; also of runs that this user may not look into. A state directory that does not exist has
/// none; one that cannot be read is an error with its path and reason.
Result<std::vector<std::string>> ReadRunIds(const std::string& state_dir);
/// The same, for hints: none, too, where the directory cannot be read.
std::vector<std::string> ListRunIds(const std::string& state_dir);

/// What RUN on a command line means; empty: the last one started. The error lists what there is;
/// its code is ENOENT or EINVAL where RUN means none or several, and another where the directory cannot be read.
Result<std::string> ResolveRun(const std::string& state_dir, const std::string& run);

/// Who executes a run.
struct LockHolder {
  pid_t pid = 0;
  uint64_t start_ticks = 0;
  std::string host;
  std::string boot;
};

/// Held while a process executes a run: an fcntl lock on the file `lock`, which the kernel drops when the process ends,
/// however it ends. Never open that file by other means in the process that holds it.
class RunLock {
 public:
  /// Fails with code EWOULDBLOCK and a message that names the holder if another process has it.
  static Result<RunLock> Take(const std::string& run_dir);
  /// The process that executes the run now; nothing if none does.
  static std::optional<LockHolder> Holder(const std::string& run_dir);

  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&& other) noexcept;
  ~RunLock();

 private:
  explicit RunLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

/// Remembers the run in the user's state folder ($XDG_STATE_HOME/jobc/last-run, else ~/.local/state). Failure is no harm.
void RememberLastRun(const std::string& state_dir, const std::string& run_id);
struct RememberedRun {
  std::string state_dir;
  std::string run_id;
};
std::optional<RememberedRun> LastRunOfUser();

/// A word for a shell command line, quoted only where needed.
std::string ShellQuote(std::string_view word);

}  // namespace jobc
