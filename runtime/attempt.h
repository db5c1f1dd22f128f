// The nouns of a run: instance, attempt, facts, verdict. Shared by the pure core (scheduler, retry, run state), the
// engine around it and the backends. Plain values, no behaviour beyond names.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "ir/plan.h"
#include "ir/value.h"

namespace jobc {

/// Stands for the job itself where it never got instances (a dynamic scatter that could not be expanded).
inline constexpr uint32_t kWholeJob = UINT32_MAX;

/// One expansion of a declared job: Plan::jobs[job], instance `ordinal` of its ir::Instances.
struct InstanceRef {
  uint32_t job = 0;
  uint32_t ordinal = 0;
  auto operator<=>(const InstanceRef&) const = default;
};

/// One try of an instance. Dense within a run, starting at 1, continued by a resumed run; 0 is no attempt.
using AttemptId = uint64_t;

// Legal changes; every other one is a bug (JOBC_CHECK):
//   Waiting -> Ready | Skipped | Blocked | Cancelled | Failed (an expression failed) | Succeeded (a check held)
//   Ready   -> Running | Cancelled | Failed (an expression failed, or it can never be admitted)
//   Running -> Succeeded | Failed | Cancelled | Backoff
//   Backoff -> Ready | Failed (drained, or `timeout.total` ended) | Cancelled
// Succeeded, Failed, Skipped, Blocked and Cancelled are final. A resumed run starts Blocked and Cancelled ones anew as
// Waiting. An instance is final at its verdict, which may be before its last attempt is reaped.
enum class InstanceState : uint8_t { Waiting, Ready, Running, Backoff, Succeeded, Failed, Skipped, Blocked, Cancelled };
inline constexpr int kInstanceStates = 9;

constexpr bool IsFinal(InstanceState state) { return state >= InstanceState::Succeeded; }
/// "waiting", "succeeded", …
std::string_view StateName(InstanceState state);
std::optional<InstanceState> StateFromName(std::string_view name);
/// Whether `from` -> `to` stands in the table above.
bool IsLegalChange(InstanceState from, InstanceState to);

enum class LogStream : uint8_t { Stdout, Stderr };

/// Searches what the log kept of an attempt, line by line, for an RE2 pattern. Asked only when an `errors` arm needs
/// it.
class LogSearcher {
 public:
  virtual ~LogSearcher() = default;
  virtual bool Search(LogStream stream, const std::string& pattern) = 0;
};

/// How a program ended by itself. Exactly one of `exit_code` and `signal` is set.
struct AttemptFacts {
  std::optional<int> exit_code;
  std::optional<int> signal;
  LogSearcher* logs = nullptr;  ///< null: nothing is ever found
};

/// How an attempt, or an instance without one, ended, and why.
struct Verdict {
  bool success = false;
  bool no_retry = false;  ///< no rule may retry it: `timeout.total` ended, inputs changed meanwhile
  ir::ErrorKind kind = ir::ErrorKind::Internal;         ///< only if not a success
  ir::ErrorClass error_class = ir::ErrorClass::System;  ///< of the kind, or of the named error
  std::optional<int> exit_code, signal;
  std::string name;     ///< of a named error, else empty
  std::string title;    ///< its text in the source
  std::string message;  ///< what happened and what can be done, lower case, no final period
  std::string code;     ///< "R951", where `jobc explain` says more; else empty
};

Verdict Succeeded();
/// A failure of `kind` with its own class.
Verdict Failed(ir::ErrorKind kind, std::string message);
/// The name of a named error, else of its kind: what people put after `on`.
std::string_view ErrorName(const Verdict& verdict);
/// Its message without the exit code or signal at its beginning, for lines that tell that already; of `exit code 9` nothing is left.
std::string_view MessageBesideEnd(const Verdict& verdict);

/// Effective resources of an attempt; nullopt: not given.
struct Resources {
  std::optional<int64_t> cpu_milli;  ///< thousandths of a cpu
  std::optional<int64_t> memory;     ///< bytes
  std::optional<int64_t> disk;       ///< bytes
  std::optional<int64_t> gpu;
  std::optional<bool> spot;
  bool operator==(const Resources&) const = default;
};

/// The limit of the phases `stage` and `collect` where a job sets none: long enough for what a person waits for, short enough that a
/// server which gives a byte a minute does not hold a run for ever.
inline constexpr int64_t kDefaultPhaseMs = 3'600'000;

/// Effective limits of an attempt in milliseconds; nullopt: none. `total` is over all attempts.
struct Timeouts {
  std::optional<int64_t> queue, run, total, idle;
  std::optional<int64_t> stage, collect;  ///< nullopt: kDefaultPhaseMs
  bool operator==(const Timeouts&) const = default;
};

/// What an attempt used, as far as its backend can tell; -1: not known.
struct Usage {
  int64_t cpu_ms = -1;
  int64_t max_memory = -1;  ///< bytes
};

/// The one answer for an attempt.
struct AttemptResult {
  Verdict verdict;
  ir::ListValue outputs;  ///< on success: one value for each output of the job, in declared order; else empty
  ir::Value result;       ///< the whole JSON result, null if there is none
  int64_t started_ms =
      0;  ///< wall clock of the program's start and end, 0: it never started. For people and `.duration`
  int64_t ended_ms = 0;
  Usage usage;
};

}  // namespace jobc
