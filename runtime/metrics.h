// Numbers about a run, counted from its journal: attempts by how they ended, by declared job and by the place they ran in,
// over time, and how long they waited and ran. Pure over a RunReader; `jobc status` (JSON, Prometheus text, NGA Scale's
// form) and the report print them. docs/status.md says what each number means.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/plan.h"
#include "runtime/run_reader.h"

namespace jobc {

/// What attempts of some group came to. A cancelled attempt is neither completed nor failed, but counted.
struct AttemptTally {
  uint64_t running = 0;
  uint64_t completed = 0;
  std::array<uint64_t, 3> failed{};  ///< by ir::ErrorClass: system, algorithm, data
  uint64_t cancelled = 0;
  uint64_t lost = 0;                 ///< without a verdict, and the process that executed the run is gone

  uint64_t all_failed() const { return failed[0] + failed[1] + failed[2]; }
  uint64_t finished() const { return completed + all_failed() + cancelled; }
  uint64_t total() const { return running + finished() + lost; }
  void Add(const AttemptTally& other);
};

/// The tally in which this attempt alone is counted.
AttemptTally TallyOf(const AttemptView& attempt, bool run_is_live);

/// Blocks of time with a rule of what is forgotten: half-open blocks `[start, end)` of one length, laid from `origin` in
/// both directions; at a moment `when` those with `end < when - period` are dropped, whole. What ended in a block is thus
/// counted for more than `period` and at most `period + block`. Milliseconds; `block` and `period` are above zero.
struct TimeBlocks {
  int64_t origin_ms = 0;
  int64_t period_ms = 3 * 3'600'000;
  int64_t block_ms = 5 * 60'000;

  int64_t Index(int64_t time_ms) const;
  int64_t Start(int64_t index) const { return origin_ms + index * block_ms; }
  int64_t End(int64_t index) const { return Start(index) + block_ms; }
  /// The first and the last block that are kept at `when`; the last one ends after it.
  int64_t First(int64_t when_ms) const;
  int64_t Last(int64_t when_ms) const { return Index(when_ms); }
  bool Keeps(int64_t time_ms, int64_t when_ms) const { return Index(time_ms) >= First(when_ms); }
};

/// Durations in milliseconds, sorted by Sort().
class Durations {
 public:
  void Add(int64_t ms) { values_.push_back(ms); }
  void Add(const Durations& other) { values_.insert(values_.end(), other.values_.begin(), other.values_.end()); }
  void Sort();
  uint64_t count() const { return values_.size(); }
  int64_t sum() const;
  /// The smallest value that at least `percent` of all do not exceed (nearest rank); 0 where there is none.
  int64_t Percentile(int percent) const;
  int64_t max() const { return values_.empty() ? 0 : values_.back(); }
  /// How many do not exceed `ms`.
  uint64_t AtMost(int64_t ms) const;

 private:
  std::vector<int64_t> values_;
};

struct JobMetrics {
  AttemptTally attempts;      ///< of the whole run
  uint64_t retries = 0;       ///< attempts that followed one that failed
  Durations waits;            ///< of started attempts: ready until the program started
  Durations runs;             ///< of ended programs: start until end; without those that were cut off
  int64_t cpu_ms = 0;         ///< of all attempts, as far as it is known
  int64_t max_memory = -1;    ///< bytes, of the largest attempt; -1: not known
};

/// A place that attempts run in: today one for each backend of the plan.
struct NodeMetrics {
  ir::BackendKind backend = ir::BackendKind::Process;
  std::string name;                             ///< of `process` the machine that executes the run, else the backend's
  AttemptTally attempts;                        ///< of the whole run
  std::map<uint32_t, AttemptTally> recent;      ///< by job: running now, or ended within the kept blocks
  std::map<uint32_t, uint64_t> recent_retries;  ///< by job: granted within them
};

struct BlockMetrics {
  int64_t start_ms = 0, end_ms = 0;
  AttemptTally ended;
};

struct RunMetrics {
  int64_t when_ms = 0;
  TimeBlocks time;
  bool live = false;                 ///< a process executes the run
  AttemptTally attempts;             ///< of the whole run
  AttemptTally recent;               ///< running now, or ended within the kept blocks
  uint64_t retries = 0;
  uint64_t late_answers = 0;         ///< of backends: late, stale or double, ignored
  Durations waits, runs;
  std::vector<JobMetrics> jobs;      ///< same order as Plan::jobs
  std::vector<NodeMetrics> nodes;    ///< in the order of ir::BackendKind
  std::vector<BlockMetrics> blocks;  ///< the kept ones, oldest first; empty ones included
};

struct MetricsOptions {
  int64_t period_ms = 3 * 3'600'000;
  int64_t block_ms = 5 * 60'000;
  int64_t when_ms = 0;               ///< wall clock; 0: now
};

RunMetrics CollectMetrics(const RunReader& run, const MetricsOptions& options);

/// From the moment it could have started until its program did; nullopt: it did not start.
std::optional<int64_t> WaitOf(const AttemptView& attempt);
/// From the start of its program to its end; nullopt: it has not ended, never started, or nobody saw when it ended.
std::optional<int64_t> RunTimeOf(const AttemptView& attempt);

}  // namespace jobc
