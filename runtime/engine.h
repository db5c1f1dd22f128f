// The engine of a run on this machine: one event loop (libuv) and thread that feed the pure Scheduler, carry out its
// actions through backends, and write the journal. Everything that outsiders can see, attempts included, happens after
// the records it depends on are durable. Owns the run's directory, lock, journal, log and backends while it lives.
//
//   driver: Engine::Start(setup) -> engine.Run() -> RunOutcome        (signals SIGINT and SIGTERM are handled in Run)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ir/plan.h"
#include "runtime/attempt_context.h"
#include "runtime/backend.h"
#include "runtime/events.h"
#include "runtime/journal.h"
#include "runtime/progress.h"
#include "runtime/remote_files.h"
#include "runtime/scheduler.h"

namespace jobc {

struct RunOptions {
  std::string name;                        ///< `--name`
  uint32_t max_parallel = 0;               ///< `--max-parallel`; 0: the plan's, else the usable cpus
  std::optional<ir::Strategy> on_error;    ///< `--on-error`
  bool strict = false;                     ///< tolerated failures make exit 11 of 0
  Durability durability = Durability::Full;
  std::string publish_to;                  ///< absolute; replaces the destinations of the plan
  std::string version;                     ///< of jobc, for the journal
  std::string source;                      ///< as named on the command line, for people
  std::string reuse_from;                  ///< `run --resume`: id of the run whose results are used again; of state_dir
  std::string cache_dir;                   ///< results of `cache = true`; empty: none are looked for and none are kept
  bool handle_signals = true;
};

/// Told what happens, on the engine's thread. Must not fail and must not block for long.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void OnEvent(const RunEvent& event) {}
  /// An instance failed for good.
  virtual void OnFailure(const FailureReport& report) {}
  /// After what one commit made known.
  virtual void OnBatchEnd() {}
  /// About ten times a second while the run lasts, if `interval_ms` is not 0.
  virtual void OnTick(const RunProgress& progress) {}
  int64_t interval_ms = 0;
};

struct RunOutcome {
  int exit_code = 0;
  RunStatus status = RunStatus::Succeeded;
  std::string run_id;
  std::string run_dir;
  std::string message;    ///< the first cause of a failure
  std::string exports;    ///< JSON object; empty if they were not evaluated
};

/// An attempt of a run whose process is gone, which goes on without it.
struct Adoptable {
  std::string key;                         ///< of its instance
  std::string address;
  AttemptOrigin origin;
  std::string handle;
};

struct EngineSetup {
  const ir::Plan* plan = nullptr;          ///< must outlive the engine
  std::string plan_text;                   ///< as the journal keeps it
  std::string plan_digest;
  Roots roots;
  std::string state_dir;
  RunOptions options;
  BackendFactory backends;
  RemoteFilesFactory remote_files;         ///< empty: remote files cannot be read
  RunObserver* observer = nullptr;         ///< may be null
  /// Each is taken over by the first instance with its key that would start an attempt; of several by the one with its address.
  std::vector<Adoptable> adopt;
  /// Runs whose attempts are taken over, or were by this run: their locks are held as long as the engine lives.
  std::vector<std::string> origins;
  /// Attempts of those runs are about to be told to end by run `run`, whose own journal knows that already: those of the runs that submitted
  /// them must know it too, or somebody who goes on with such a run could take what they end with for their own end. By execution
  /// id; blocks. Empty: nobody is told.
  std::function<Result<void>(const std::string& run, const std::set<std::string>& attempts)> before_ending;
  process::GuardianHandle* guardian = nullptr;  ///< launched early by the driver; null: launched when needed
};

/// How a run that ended, or was killed, goes on.
struct ResumeOptions {
  bool retry_failed = false;               ///< failed instances get fresh attempts
  std::vector<std::string> only;           ///< of these only: jobs or instances, by address; empty: all failed ones
  bool accept_loss = false;                ///< also without records that were durable once and are gone
};

/// Why a run could not be started, with the exit code that says so.
struct StartFailure {
  int exit_code = 15;
  std::string message;
  std::vector<std::string> helps{};  ///< what to do about it, each one line
};

class Engine {
 public:
  /// Makes the run's directory and journal, reads secrets. Nothing is started yet. `setup.plan` must outlive the engine.
  static std::unique_ptr<Engine> Start(EngineSetup setup, StartFailure& failure);
  /// Goes on with run `id` of setup.state_dir, whose plan `setup.plan` is. Succeeded, failed and skipped instances stay as
  /// they are, except succeeded ones whose files are gone; everything else is decided again.
  static std::unique_ptr<Engine> Resume(EngineSetup setup, const std::string& id, const ResumeOptions& resume, StartFailure& failure);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Runs to the end.
  RunOutcome Run();

  const std::string& run_id() const;
  const std::string& run_dir() const;
  RunProgress Progress() const;
  /// Of EngineSetup::adopt those that no instance took over, by execution id. They go on.
  std::vector<std::string> NotAdopted() const;
  /// As the first and the second Ctrl-C; from the engine's thread.
  void Interrupt(const std::string& who);
  const RunState& state() const;
  /// The scheduler's, for tests and `--stats`.
  Scheduler::Counters counters() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// What a machine offers to local attempts.
struct Capacity {
  uint32_t cpus = 1;        ///< usable: affinity and cgroup quota considered
  int64_t memory = 0;       ///< bytes
  int64_t gpus = 0;
};
Capacity MachineCapacity();

/// Files of the plan that are not as they were at plan time (missing, other size or content), and directories that are
/// gone; empty if all are as they were.
std::vector<std::string> ChangedPlanFiles(const ir::Plan& plan, const Roots& roots);

/// The journal's JSON of a verdict, and back.
std::string VerdictJson(const Verdict& verdict);
Verdict VerdictFromRecord(const Record& record);

}  // namespace jobc
