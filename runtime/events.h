// What happens in a run, as values: for the display, for `run --json` (one JSON object a line, docs/events.md) and for
// watchers. The engine gives each event to its RunObserver after the journal holds what it tells.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "ir/plan.h"
#include "runtime/attempt.h"
#include "runtime/progress.h"

namespace jobc {

inline constexpr std::string_view kEventSchema = "jobc.events/1";

enum class RunEventKind : uint8_t {
  RunStarted, Queued, Staging, Submitting, Submitted, Polling, Started, AttemptEnded, KillSent, Reaped, Retrying,
  Succeeded, Failed, Skipped, Blocked, Cancelled, Expanded, ModeChanged, Phase, Note, Warning, RunFinished,
};
std::string_view EventName(RunEventKind kind);

struct RunEvent {
  RunEventKind kind = RunEventKind::Warning;
  int64_t time_ms = 0;         ///< wall clock
  int64_t at_ms = 0;           ///< since this process began the run
  int64_t record = 0;          ///< number of the journal's record that tells the same; 0: there is none
  std::string run;             ///< RunStarted, RunFinished
  std::string address;         ///< of the instance; empty: the whole run
  uint64_t count = 1;          ///< consecutive instances, `address` is the first
  uint32_t attempt = 0;        ///< number of the attempt; 0: none
  uint32_t max_attempts = 0;
  AttemptId attempt_id = 0;
  int64_t pid = 0;             ///< Started
  int64_t duration_ms = -1;    ///< of the program that ended; of the wait for Retrying
  std::shared_ptr<const Verdict> verdict;
  bool tolerated = false;      ///< Failed: `on_error = ignore`
  std::string text;            ///< reason, phase, mode, message; Submitted: the backend's handle; masked
  std::string reused_from;     ///< Succeeded: the run that made its result; nothing was started
  int exit_code = 0;           ///< RunFinished
  std::string status;          ///< RunFinished: succeeded, failed, interrupted, timed_out
};

/// One line without a line break. The first event of a stream carries the schema's name.
std::string EventJson(const RunEvent& event);

/// What an event says about a record of the journal; `text` of ModeChanged and of the Warning after a stop.
std::string ModeText(ir::Strategy mode);
std::string StopText(const std::string& who);

/// What a person reads of it; nothing for events that only tools want.
std::optional<ProgressEvent> ToProgressEvent(const RunEvent& event);

/// `exit 3`, `signal 11 (SIGSEGV)`, `oom`, `bad-input (exit 65)`: the short reason of a failure.
std::string ReasonText(const Verdict& verdict);

}  // namespace jobc
