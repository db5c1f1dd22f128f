// What a run's journal tells, for `status`, `list`, `logs`, `result` and for resume: records folded into the state of
// every instance and attempt. Works while the run goes on in another process, and after a crash of it. Read-only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/plan.h"
#include "runtime/attempt.h"
#include "runtime/backend.h"
#include "runtime/cache_key.h"
#include "runtime/journal.h"
#include "runtime/process/log_store.h"
#include "runtime/progress.h"
#include "runtime/state_dir.h"
#include "support/result.h"

namespace jobc {

/// One attempt, as far as it is journaled. Times in wall-clock milliseconds, 0: not yet.
struct AttemptView {
  AttemptId id = 0;
  uint32_t number = 1;
  int64_t ready_ms = 0;                     ///< since when it could have started; 0: not known
  int64_t intent_ms = 0;
  int64_t started_ms = 0;
  int64_t judged_ms = 0;                    ///< where it was cut off or judged afterwards: when its process last recorded anything
  int64_t reaped_ms = 0;
  int64_t pid = 0;
  int64_t exited_ms = 0;
  int64_t cpu_ms = -1;
  int64_t max_memory = -1;
  std::string handle;
  int64_t outputs_sum = -1;                 ///< what the row of its outputs must have; -1: it left none
  std::shared_ptr<const Verdict> verdict;   ///< null: none yet
  bool cut_off = false;                     ///< the verdict is not a recorded one: its jobc ended first
  bool afterwards = false;                  ///< the verdict is one that another process recorded when that jobc was gone
  std::shared_ptr<const AttemptOrigin> origin;  ///< another run submitted it, and this one took it over; null: this one did
};

/// When its program ended, wall clock; 0: it has not, or nobody was there to see when.
int64_t EndOfProgram(const AttemptView& attempt);

/// What people and programs are told instead of `running` when nobody executes the run any more; no state of its own, as
/// a resume decides.
inline constexpr std::string_view kLostState = "lost";

/// Where the result of an instance came from that did not run.
struct ReusedView {
  std::string run, address;
  uint32_t attempts = 1;
  int64_t started_ms = 0, ended_ms = 0;
};

struct InstanceView {
  InstanceRef instance;
  std::string address;
  InstanceState state = InstanceState::Waiting;
  std::optional<Verdict> verdict;           ///< of its last attempt, or why it ended without one
  std::vector<AttemptView> attempts;
  int64_t next_attempt_ms = 0;              ///< in Backoff: when
  std::optional<ReusedView> reused;         ///< succeeded without an attempt
};

/// One line of `jobc list`.
struct RunSummary {
  std::string id, name, source, profile;
  int64_t created_ms = 0;
  int64_t ended_ms = 0;
  bool running = false;                     ///< a process executes it now
  bool finished = false;
  int exit_code = -1;
  std::string status;                       ///< running, succeeded, failed, interrupted, timed_out, crashed
  std::string message;
  int64_t lost = 0;                         ///< records that were durable and are gone (JournalReader::Lost)
  int64_t exports_sum = -1;                 ///< what the row of the exports must have; -1: not known
};

/// How far a journal was searched for the end of its run, so that it is not searched again.
struct SummaryPlace {
  int64_t searched = 0;                     ///< number of a record
  std::optional<Record> finished;           ///< the last one up to there
};

/// Reads little, however long the run: header, lock, and of its last records the types.
Result<RunSummary> SummarizeRun(const std::string& state_dir, const std::string& id);

class RunReader {
 public:
  static Result<std::unique_ptr<RunReader>> Open(const std::string& state_dir, const std::string& id);
  /// As before the first record: Refresh() takes in the run from its start.
  static Result<std::unique_ptr<RunReader>> OpenUnread(const std::string& state_dir, const std::string& id);
  ~RunReader();

  const RunHeader& header() const;
  const RunSummary& summary() const { return summary_; }
  /// The machine that executes the run, or did last; empty before it began.
  const std::string& host() const { return host_; }
  const std::string& run_dir() const { return run_dir_; }
  const ir::Plan& plan() const { return *plan_; }

  /// Takes in what was journaled since; shows `visit`, if there is one, each record after it was taken in.
  Result<void> Refresh(const std::function<void(const Record&)>& visit = {});

  /// Instances of a job that are known; a job that is not expanded yet has none.
  uint64_t size(uint32_t job) const;
  InstanceState state(InstanceRef instance) const;
  /// It was running when the process that executed the run ended, and none executes it now.
  bool Lost(InstanceRef instance) const { return !summary_.running && state(instance) == InstanceState::Running; }
  /// The name of its state; `lost` where it is.
  std::string_view StateText(InstanceRef instance) const { return Lost(instance) ? kLostState : StateName(state(instance)); }
  /// How many of a job are.
  uint64_t LostCount(uint32_t job) const { return summary_.running ? 0 : Counts(job)[static_cast<size_t>(InstanceState::Running)]; }
  std::array<uint64_t, kInstanceStates> Counts(uint32_t job) const;
  bool expanded(uint32_t job) const { return jobs_[job].instances.has_value(); }
  InstanceView View(InstanceRef instance) const;
  /// Its last attempt, without what View() copies; null: it has none.
  const AttemptView* LastAttempt(InstanceRef instance) const;
  /// What an address on a command line means: a job's name, or an instance.
  Result<std::vector<InstanceRef>> Find(const std::string& address) const;
  /// Every instance that has attempts, in plan order.
  void ForEachInstance(const std::function<void(InstanceRef, const std::vector<AttemptView>&)>& visit) const;
  /// Where what an attempt was given and left is laid down, by job, instance and number of the attempt; of those that have such a place.
  const std::map<std::array<int64_t, 3>, std::string>& staged() const { return staged_; }
  /// Of one attempt; empty: none.
  std::string StagedAt(InstanceRef instance, uint32_t number) const;
  RunProgress Progress() const;
  /// Of every failed instance, in plan order.
  std::vector<InstanceRef> FailedInstances() const;

  // -- Results -----------------------------------------------------------------------------------------------------
  /// The exports as JSON; empty before they were evaluated.
  Result<std::string> Exports();
  /// An instance's outputs as one JSON object, or one of them (`field`); files as absolute paths. `field` `result`: the
  /// JSON result as the job wrote it. `staged`, where no output has that name: where its last attempt is laid down, or null.
  Result<std::string> ResultJson(InstanceRef instance, const std::string& field);
  Result<std::optional<StoredOutputs>> Outputs(InstanceRef instance);

  // -- Cache keys --------------------------------------------------------------------------------------------------
  /// 64 hex digits; empty where the instance never came to its start, or the journal is of format 1.
  std::string KeyOf(InstanceRef instance) const;
  /// All parts of the key, those that the instances of the job share included.
  Result<std::optional<KeyParts>> KeyPartsOf(InstanceRef instance);
  bool reused(InstanceRef instance) const;
  uint64_t ReusedCount(uint32_t job) const { return jobs_[job].reused; }

  // -- For resume --------------------------------------------------------------------------------------------------
  /// The value of a dynamic `for`, once the job was expanded.
  const std::optional<ir::Value>& domain(uint32_t job) const { return jobs_[job].list; }
  InstanceState whole(uint32_t job) const { return jobs_[job].whole; }
  /// Of the machine when the run was last executed; another one now: it was started anew since, perhaps after a power loss.
  const std::string& boot() const { return boot_; }
  /// JSON of what retries must remember; empty: never retried.
  std::string RetryHistoryJson(InstanceRef instance) const;
  /// Above every attempt that may have been started.
  AttemptId next_attempt() const;

  Result<process::LogReader> OpenLogs() const { return process::LogReader::Open(run_dir_); }
  std::string Address(InstanceRef instance) const;
  /// When a process that executed the run last recorded anything, of what was taken in; wall clock.
  int64_t last_ms() const { return last_ms_; }
  /// Answers of backends that came late, were stale or came twice, and were ignored.
  uint64_t late_answers() const { return late_answers_; }
  /// Number of the last record that was taken in.
  int64_t last_record() const { return last_seq_; }

 private:
  /// What the records of one instance said; compact, as there may be a million of them.
  struct Folded {
    std::vector<AttemptView> attempts;
    std::shared_ptr<const Verdict> verdict;
    int64_t next_attempt_ms = 0;
    std::string history;                    ///< of the last Retry record
    std::string key;                        ///< of the last Intent or Reused record, 32 bytes; its parts stand in the journal
    int64_t key_record = 0;
    std::shared_ptr<const ReusedView> reused;
  };
  struct JobFold {
    std::optional<ir::Instances> instances;
    std::vector<InstanceState> states;
    std::vector<Folded> folded;             ///< by ordinal; empty before the first record
    InstanceState whole = InstanceState::Waiting;
    Folded of_whole;                        ///< of the job that has no instances
    std::optional<ir::Value> list;
    int64_t key_record = 0;                 ///< of the shared parts of its keys
    uint64_t reused = 0;
    int64_t began_ms = 0, ended_ms = 0;     ///< first start and last end of its programs
  };

  RunReader() = default;
  void Fold(const Record& record);
  JobFold& Expanded(uint32_t job);
  /// Whether the row is the one that the attempt which succeeded has left.
  bool Fits(InstanceRef instance, const std::optional<StoredOutputs>& stored) const;
  Folded& Of(const Record& record);
  /// Null: no record spoke of it.
  const Folded* Find(InstanceRef instance) const;

  std::string state_dir_, run_dir_;
  std::optional<JournalReader> journal_;
  std::unique_ptr<ir::Plan> plan_;
  std::unique_ptr<ir::Evaluator> evaluator_;
  RunSummary summary_;
  std::string host_;
  SummaryPlace place_;
  std::vector<JobFold> jobs_;
  Folded stray_;                            ///< of records about instances that the plan does not have
  int64_t last_seq_ = 0;
  int64_t last_ms_ = 0;                     ///< the latest time of a record of a process that executed the run
  std::string boot_;
  AttemptId last_attempt_ = 0;
  uint64_t ahead_ = 0;
  uint64_t late_answers_ = 0;
  std::map<std::array<int64_t, 3>, std::string> staged_;
  std::optional<Error> problem_;
};

/// Splits `align["s1"].bam` into address and field; the field may be empty.
std::pair<std::string, std::string> SplitAddressField(std::string_view text);

}  // namespace jobc
