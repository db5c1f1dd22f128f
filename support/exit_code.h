// How a jobc process ends. Scripts depend on these numbers: they never change their meaning.
// The runtime computes the code of a run, the driver that of every command.
#pragma once

namespace jobc {

/// Precedence where several apply: Interrupted always wins, then Environment, else the cause of the first verdict that
/// made the run fail; ToleratedFailures only where it would be Ok.
enum ExitCode : int {
  kExitOk = 0,
  kExitInternal = 1,           ///< a bug in jobc, nothing else
  kExitUsage = 2,              ///< unknown command, option or file
  kExitDiagnostics = 3,        ///< at least one diagnostic of severity error; bad parameters and missing secrets included
  kExitFindings = 4,           ///< `fmt --check` or `lint` found something
  kExitPending = 5,            ///< `plan --exit-code`: there is work; `diff --exit-code`: there is a difference
  kExitJobFailed = 10,         ///< a job, publish, export or finally failed; `result` of a failed run; a failing `test`
  kExitToleratedFailures = 11, ///< `--strict`: the run succeeded, but failures were ignored
  kExitCheckFailed = 12,       ///< a `check` was false
  kExitLimit = 13,             ///< the run's time or budget ended
  kExitBackend = 14,           ///< a backend was unavailable before its first attempt started
  kExitEnvironment = 15,       ///< state directory not writable, disk full, run locked by another process
  kExitInterrupted = 130,      ///< Ctrl-C or TERM: jobs cancelled, state saved
};

}  // namespace jobc
