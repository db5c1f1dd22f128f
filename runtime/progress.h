// What a person is shown about a run: plain data, filled by the engine (or by `attach` and `watch` from the journal)
// and turned into text by status_printer.h. Names and numbers only, nothing here refers to the run's own structures.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace jobc {

/// The instances of one declared job, counted by where they are. The counts add up to the instances known so far.
struct JobProgress {
  std::string name;
  uint64_t waiting = 0;     ///< for other jobs
  uint64_t queued = 0;      ///< ready, for a slot, a pool or the backend
  uint64_t running = 0;
  uint64_t lost = 0;        ///< were running when the process that executed the run ended; such a run has none that run
  uint64_t retrying = 0;    ///< between two attempts
  uint64_t succeeded = 0;   ///< `cached` ones included
  uint64_t cached = 0;      ///< of those succeeded: reused, nothing was run
  uint64_t failed = 0;
  uint64_t tolerated = 0;   ///< of those failed: `on_error = ignore`
  uint64_t skipped = 0;
  uint64_t blocked = 0;
  uint64_t cancelled = 0;
  bool scatter = false;     ///< shown with its counts, also while it has one instance or none
  bool expanded = true;     ///< false: a dynamic scatter whose instances are not known yet
  int64_t elapsed_ms = -1;  ///< since its first attempt began, until its last ended; -1: none began
  std::string note;         ///< a few words on what it does now: `attempt 2 of 3`, `next try in 12s`
  std::vector<std::string> failing_lines;  ///< the end of stderr of its latest failure that is not tolerated

  uint64_t total() const {
    return waiting + queued + running + lost + retrying + succeeded + failed + skipped + blocked + cancelled;
  }
  uint64_t final() const { return succeeded + failed + skipped + blocked + cancelled; }
};

struct RunProgress {
  std::string name;         ///< `--name`, else the run's id
  std::string state;        ///< `running`, `draining`, `halting`, `publishing`, `finally`, `succeeded`, `failed`, …
  int64_t elapsed_ms = 0;
  std::vector<JobProgress> jobs;  ///< in plan order
};

/// One change of state, for the append-only display. `what` is a word of the language: started succeeded failed
/// retrying skipped blocked cancelled reused.
struct ProgressEvent {
  enum class Kind : uint8_t { Started, Succeeded, Reused, Failed, Tolerated, Retrying, Skipped, Blocked, Cancelled, Note };
  Kind kind = Kind::Note;
  int64_t at_ms = 0;        ///< since the run began
  std::string address;      ///< `align["s1"]`; empty: the whole run
  uint32_t attempt = 0;     ///< the attempt it is about; 0: none
  uint32_t max_attempts = 0;
  int64_t duration_ms = -1; ///< of the attempt that ended; of the wait for Retrying
  std::string reason;       ///< why: `exit 3`, `guard is false`, `needs fetch, which failed`
};

/// Everything a person needs to act on a failed instance.
struct FailureReport {
  std::string address;
  std::string kind;              ///< `exit`, `oom`, `timeout` …
  std::string error_name;        ///< of a named error, such as `bad-input`; may be empty
  std::string code;              ///< "R951", where `jobc explain` says more; may be empty
  std::string message;           ///< what jobc or the `errors` arm says about it; may have several lines
  std::optional<int> exit_code;  ///< where the program ended by itself
  std::optional<int> signal;
  uint32_t attempts = 0;         ///< 0: failed before anything was started
  uint32_t max_attempts = 0;
  int64_t elapsed_ms = -1;       ///< of the last attempt
  bool tolerated = false;
  std::string backend;           ///< `process`, and where: `slurm job 4711`
  std::string declared_at;       ///< `cohort.job:42:5`
  std::vector<std::string> stderr_lines;  ///< its last lines, masked
  uint64_t stderr_total_lines = 0;        ///< how many there were
  std::string stderr_path;       ///< where all of it is
  std::string staged;            ///< where the attempt is laid down; empty: nowhere
  std::string logs_command;      ///< `jobc logs RUN 'align["s1"]'`
  std::string reproduce_command; ///< runs the last attempt again, by hand; secrets as "$NAME"
  std::vector<std::string> helps;
};

}  // namespace jobc
