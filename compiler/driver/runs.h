// Finding the run that a command means, shared by status, logs, result and list.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "runtime/run_reader.h"

namespace jobc {

/// An open run, or the exit code after the reason was told.
struct OpenedRun {
  std::string state_dir;
  std::unique_ptr<RunReader> reader;
  int exit_code = 0;
};

/// `run` empty: the last one. `--state` of the invocation is honoured. Says on stderr when the journal is known to lack records,
/// unless the caller does.
OpenedRun OpenRun(const Invocation& invocation, const std::string& run, Terminal& terminal, bool warn_of_loss = true);

/// For commands with `[RUN] [JOB]`: one argument alone may be either. Fills `job` with what is no run.
OpenedRun OpenRunAndJob(const Invocation& invocation, Terminal& terminal, std::string& job);

/// ` --state DIR` where a command in `cwd` would not find the run's state without it, else empty.
std::string StateOption(const std::string& state_dir, const std::string& cwd);

/// `go on: jobc resume RUN` for a run that a process does not execute any more and that has not come to its end: dead, or
/// interrupted. Else empty.
std::string WayOn(const RunSummary& run, const std::string& state_dir);

/// `2026-03-01 12:00:05`, local time.
std::string TimeText(int64_t wall_ms);

/// Absolute.
std::string WorkingDirectory();

int FailCommand(Terminal& terminal, int code, std::string message);
/// Of an error of FindStateDir(), ReadRunIds() or ResolveRun(): wrong words where there is no such thing or several, else the
/// environment's, as for a directory that may not be read.
int StateExitCode(const Error& error);

}  // namespace jobc
