#include "compiler/driver/runs.h"

#include <climits>
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/process/guardian.h"
#include "support/exit_code.h"

namespace jobc {

std::string WorkingDirectory() {
  char path[PATH_MAX];
  return getcwd(path, sizeof path) != nullptr ? std::string(path) : std::string("/");
}

int FailCommand(Terminal& terminal, int code, std::string message) {
  terminal.Err(RenderUsageError({std::move(message), {}}, terminal.err_color()));
  return code;
}

int StateExitCode(const Error& error) { return error.code == ENOENT || error.code == EINVAL ? kExitUsage : kExitEnvironment; }

OpenedRun OpenRun(const Invocation& invocation, const std::string& run, Terminal& terminal, bool warn_of_loss) {
  OpenedRun out;
  Result<std::string> state = FindStateDir(WorkingDirectory(), std::string(invocation.ValueOr("--state", "")));
  if (!state.ok()) {
    out.exit_code = FailCommand(terminal, StateExitCode(state.error()), state.error().message);
    return out;
  }
  out.state_dir = *state;
  // Ends what a run left behind whose jobc and guardian were both killed; costs nothing where there is nothing.
  process::CleanUpStale(out.state_dir);
  Result<std::string> id = ResolveRun(out.state_dir, run);
  if (!id.ok()) {
    out.exit_code = FailCommand(terminal, StateExitCode(id.error()), id.error().message);
    return out;
  }
  Result<std::unique_ptr<RunReader>> reader = RunReader::Open(out.state_dir, *id);
  if (!reader.ok()) {
    out.exit_code = FailCommand(terminal, kExitEnvironment, reader.error().message);
    return out;
  }
  out.reader = std::move(*reader);
  if (const int64_t lost = out.reader->summary().lost; lost > 0 && warn_of_loss) {
    terminal.Err(fmt::format("warning: the journal of run {} lacks its last {} of {} records; what follows is from before them\n", *id, lost, out.reader->last_record() + lost));
  }
  return out;
}

OpenedRun OpenRunAndJob(const Invocation& invocation, Terminal& terminal, std::string& job) {
  const std::vector<std::string>& arguments = invocation.arguments();
  if (arguments.size() >= 2) {
    job = arguments[1];
    return OpenRun(invocation, arguments[0], terminal);
  }
  if (arguments.size() == 1) {
    Result<std::string> state = FindStateDir(WorkingDirectory(), std::string(invocation.ValueOr("--state", "")));
    if (state.ok() && !ResolveRun(*state, arguments[0]).ok()) {
      // No run of this name: a job of the last run, if it has one.
      Result<std::string> last = ResolveRun(*state, "");
      if (last.ok()) {
        Result<std::unique_ptr<RunReader>> reader = RunReader::Open(*state, *last);
        if (reader.ok() && (*reader)->Find(SplitAddressField(arguments[0]).first).ok()) {
          job = arguments[0];
          return {*state, std::move(*reader), 0};
        }
      }
    }
  }
  return OpenRun(invocation, arguments.empty() ? "" : arguments[0], terminal);
}

std::string StateOption(const std::string& state_dir, const std::string& cwd) {
  Result<std::string> found = FindStateDir(cwd, "");
  return found.ok() && *found == state_dir ? "" : " --state " + ShellQuote(state_dir);
}

std::string WayOn(const RunSummary& run, const std::string& state_dir) {
  if (run.running || (run.finished && run.exit_code != kExitInterrupted)) return "";
  return fmt::format("go on: jobc resume {}{}", run.id, StateOption(state_dir, WorkingDirectory()));
}

std::string TimeText(int64_t wall_ms) {
  time_t seconds = static_cast<time_t>(wall_ms / 1000);
  tm parts{};
  localtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

}  // namespace jobc
