// What dead runs left going on in containers, for commands that go on with them or with their results: found by label at the engines
// that their jobs name, taken over by the run that is about to begin, or ended. Holds the locks of those runs while it lives.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backends/docker/leftovers.h"
#include "compiler/driver/terminal.h"
#include "runtime/dead_run.h"
#include "runtime/engine.h"
#include "runtime/reuse.h"
#include "runtime/run_reader.h"
#include "runtime/state_dir.h"

namespace jobc {

/// `grace` of the jobs, by address; what is no constant counts as the default. Milliseconds.
std::map<std::string, int64_t> Graces(const ir::Plan& plan);
/// The journal of a run whose lock is held, and those of its open attempts whose containers are ended.
struct ToldRun {
  std::unique_ptr<RunReader> run;
  std::vector<OpenAttempt> ending;
};
/// An attempt that was taken over is open in the journals of several runs: all of them are told. `executions`: what is ended. `except` is
/// left out, and what cannot be read or has lost records.
std::vector<ToldRun> RunsToTell(const std::string& state_dir, const std::set<std::string>& runs, const std::string& except, const std::set<std::string>& executions);
/// Of the attempts to which these containers belong: their execution ids.
std::set<std::string> ExecutionsOf(const std::vector<docker::LeftContainer>& containers);
/// Those of the attempts that are among these, by execution id.
std::vector<OpenAttempt> Among(std::vector<OpenAttempt> attempts, const std::set<std::string>& executions);
/// FindContainers(), and again for a moment while one of the attempts that are open has none: its jobc was killed just now, and the
/// engine may still be making it.
Result<std::vector<docker::LeftContainer>> FindAlsoLate(docker::Endpoints& endpoints, const std::set<docker::EngineName>& engines, const std::set<std::string>& runs, const std::vector<OpenAttempt>& open);
/// Ends and removes them, each after the grace of its job; `at_once`: without.
Result<void> EndContainersOf(const ir::Plan& plan, const std::vector<docker::LeftContainer>& containers, bool at_once);

class LeftRuns {
 public:
  explicit LeftRuns(std::string state_dir) : state_dir_(std::move(state_dir)) {}

  /// `run F --resume EARLIER`, before anything of the new run is made. What goes on of the dead run, and what the new run would start
  /// just so, is given to it by `setup`; the rest is ended and removed. False: `failure` says why the run cannot begin.
  bool Begin(EngineSetup& setup, const std::string& earlier, Terminal& terminal, bool quiet, StartFailure& failure);
  /// `resume` and `retry` of a run that had used results of a dead one: what it took over is asked for, what it did not is ended.
  bool Resume(EngineSetup& setup, RunReader& run, Terminal& terminal, bool quiet, StartFailure& failure);
  /// For EngineSetup::before_ending.
  Result<void> BeforeEnding(const std::string& heir, const std::set<std::string>& executions);
  /// After the run: what was meant for it and was not taken over is ended and removed.
  void End(const Engine& engine, Terminal& terminal);

  /// Takes the lock of a run for as long as this lives; false: somebody has it.
  bool Lock(const std::string& run);
  /// The runs whose locks are held.
  std::set<std::string> Locked() const;
  docker::Endpoints& endpoints() { return endpoints_; }
  /// An attempt that may be taken over, and the directory of the run in whose journal it is open.
  struct Candidate {
    OpenAttempt attempt;
    std::string run_dir;
  };
  /// What a dead run had been given of the one whose results it used, and had not come to; of that one the same, and so on. `taken`: what
  /// it had, by execution id. False: `failure` says why that cannot be known.
  bool Inherited(const RunReader& run, std::set<std::string> taken, std::vector<Candidate>& attempts, std::vector<docker::LeftContainer>& containers, StartFailure& failure);

 private:
  /// Gives to the run what it would start just so; returns the rest. `used`: whose results it uses. `may_start`: of its instances.
  std::vector<docker::LeftContainer> Divide(EngineSetup& setup, const std::vector<Candidate>& attempts, std::vector<docker::LeftContainer> containers, EarlierRun* used,
                                            const std::function<bool(InstanceRef)>& may_start);
  void Tell(const std::string& what, size_t rest, Terminal& terminal) const;
  void RemoveEnded(RunReader& run);
  bool Rest(RunReader& run, const std::vector<docker::LeftContainer>& containers, const std::vector<OpenAttempt>& open, const std::string& how, StartFailure& failure);

  std::string state_dir_;
  docker::Endpoints endpoints_;
  std::map<std::string, class RunLock> locks_;
  std::unique_ptr<RunReader> earlier_;
  std::map<std::string, docker::LeftContainer> given_;  ///< by execution id
  std::set<std::string> not_there_;  ///< open attempts of `earlier_` that had no container, by execution id: it may come
};

}  // namespace jobc
