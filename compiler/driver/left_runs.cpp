#include "compiler/driver/left_runs.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "backends/container/places.h"
#include "backends/docker/engine_api.h"
#include "ir/evaluate.h"
#include "ir/expand.h"
#include "runtime/process/os.h"
#include "runtime/why.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

constexpr char kByHeir[] = "ended by a run that uses its results";

std::string Count(size_t count) { return fmt::format("{} container{}", count, count == 1 ? "" : "s"); }

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

/// The engine where a job of the plan would run; empty: it cannot be found.
std::string EngineText(const ir::Plan& plan, uint32_t job) {
  const docker::EngineName name = docker::EngineOf(plan, plan.jobs[job]);
  auto endpoint = docker::FindEndpoint(name.kind, name.host, name.context, docker::Surroundings::Real());
  return endpoint.ok() ? endpoint->text : "";
}

}  // namespace

std::map<std::string, int64_t> Graces(const ir::Plan& plan) {
  constexpr int64_t kDefaultGraceMs = 10'000;
  std::map<std::string, int64_t> out;
  for (const ir::Job& job : plan.jobs) {
    ir::EvalContext context;
    ir::Evaluator evaluator(plan.program);
    ir::Value value;
    const bool known = job.grace.valid() && plan.program.exprs.IsConst(job.grace) && evaluator.Evaluate(job.grace, context, value);
    out[job.address] = known ? value.as_int() : kDefaultGraceMs;
  }
  return out;
}

Result<void> EndContainersOf(const ir::Plan& plan, const std::vector<docker::LeftContainer>& containers, bool at_once) {
  const std::map<std::string, int64_t> graces = at_once ? std::map<std::string, int64_t>() : Graces(plan);
  return docker::EndContainers(containers, [&](const docker::Leftover& one) {
    auto grace = graces.find(one.instance.substr(0, one.instance.find('[')));
    return grace == graces.end() ? int64_t{0} : grace->second;
  });
}

std::set<std::string> ExecutionsOf(const std::vector<docker::LeftContainer>& containers) {
  std::set<std::string> out;
  for (const docker::LeftContainer& one : containers) out.insert(one.container.attempt);
  return out;
}

std::vector<OpenAttempt> Among(std::vector<OpenAttempt> attempts, const std::set<std::string>& executions) {
  std::erase_if(attempts, [&](const OpenAttempt& one) { return executions.count(one.origin.ExecutionId()) == 0; });
  return attempts;
}

Result<std::vector<docker::LeftContainer>> FindAlsoLate(docker::Endpoints& endpoints, const std::set<docker::EngineName>& engines, const std::set<std::string>& runs, const std::vector<OpenAttempt>& open) {
  constexpr int64_t kLateMs = 5'000, kLookMs = 100;
  for (;;) {
    auto found = docker::FindContainers(endpoints, engines, runs);
    if (!found.ok()) return found;
    const int64_t now = process::WallMillis();
    const std::set<std::string> there = ExecutionsOf(*found);
    const bool may_come = std::any_of(open.begin(), open.end(), [&](const OpenAttempt& one) {
      // A clock that was set back is no reason to wait for long.
      return !one.started && one.intent_ms <= now && now - one.intent_ms < kLateMs && there.count(one.origin.ExecutionId()) == 0;
    });
    if (!may_come) return found;
    usleep(kLookMs * 1000);
  }
}

std::vector<ToldRun> RunsToTell(const std::string& state_dir, const std::set<std::string>& runs, const std::string& except, const std::set<std::string>& executions) {
  std::vector<ToldRun> out;
  for (const std::string& run : runs) {
    if (run == except) continue;
    auto reader = RunReader::Open(state_dir, run);
    if (!reader.ok() || (*reader)->summary().lost > 0) continue;
    ToldRun one{*std::move(reader), {}};
    one.ending = Among(OpenAttempts(*one.run), executions);
    if (!one.ending.empty()) out.push_back(std::move(one));
  }
  return out;
}

bool LeftRuns::Lock(const std::string& run) {
  if (locks_.count(run) != 0) return true;
  auto taken = RunLock::Take(RunDir(state_dir_, run));
  if (!taken.ok()) return false;
  locks_.emplace(run, *std::move(taken));
  return true;
}

std::set<std::string> LeftRuns::Locked() const {
  std::set<std::string> out;
  for (const auto& [run, lock] : locks_) out.insert(run);
  return out;
}

Result<void> LeftRuns::BeforeEnding(const std::string& heir, const std::set<std::string>& executions) {
  for (ToldRun& one : RunsToTell(state_dir_, Locked(), heir, executions)) {
    if (auto told = RecordEnding(*one.run, one.ending, fmt::format("ended by run {}, which had taken it over,", heir)); !told.ok()) return told;
  }
  return {};
}

bool LeftRuns::Rest(RunReader& run, const std::vector<docker::LeftContainer>& containers, const std::vector<OpenAttempt>& open, const std::string& how, StartFailure& failure) {
  const std::set<std::string> executions = ExecutionsOf(containers);
  std::vector<OpenAttempt> gone = Among(open, executions);
  if (run.summary().lost > 0) gone.clear();  // its journal is left as it is
  std::vector<ToldRun> others = RunsToTell(state_dir_, Locked(), run.header().id, executions);
  auto told = [&](const Result<void>& recorded) {
    if (!recorded.ok()) failure = {kExitEnvironment, recorded.error().message};
    return recorded.ok();
  };
  if (!told(RecordEnding(run, gone, how))) return false;
  for (ToldRun& one : others) {
    if (!told(RecordEnding(*one.run, one.ending, how))) return false;
  }
  if (Result<void> ended = EndContainersOf(run.plan(), containers, false); !ended.ok()) {
    failure = {kExitBackend, ended.error().message, {"remove it by hand, and type this again"}};
    return false;
  }
  for (ToldRun& one : others) {
    if (!told(RecordEnded(*one.run, one.ending, how))) return false;
  }
  return told(RecordEnded(run, gone, how));
}

bool LeftRuns::Inherited(const RunReader& run, std::set<std::string> taken, std::vector<Candidate>& attempts, std::vector<docker::LeftContainer>& containers, StartFailure& failure) {
  constexpr int kMostBefore = 8;
  std::unique_ptr<RunReader> child;  // null: `run`
  for (int i = 0; i < kMostBefore; ++i) {
    const RunReader& heir = child != nullptr ? *child : run;
    const std::string from = UsedRun(heir.header());
    // One that came to its end has ended what it was given.
    if (from.empty() || heir.summary().finished || !Lock(from)) return true;
    Result<std::unique_ptr<RunReader>> earlier = RunReader::Open(state_dir_, from);
    if (!earlier.ok()) return true;
    std::vector<OpenAttempt> theirs = OpenAttempts(**earlier);
    std::erase_if(theirs, [&](const OpenAttempt& one) {
      const std::string execution = one.origin.ExecutionId();
      // What began later was begun by a resume of that run, and is not this one's.
      if (one.intent_ms > heir.header().created_ms) taken.insert(execution);
      return taken.count(execution) != 0 || !Lock(one.origin.run);
    });
    std::set<std::string> runs = {from};
    for (const OpenAttempt& one : theirs) runs.insert(one.origin.run);
    auto found = docker::FindContainers(endpoints_, docker::EnginesOf((*earlier)->plan()), runs);
    if (!found.ok() && !theirs.empty()) {
      failure = {kExitBackend, fmt::format("containers of the run {}, whose results are used, may still run, and cannot be asked for: {}", from, found.error().message),
                 {"nothing was started and nothing was ended; type this again once the engine answers"}};
      return false;
    }
    std::set<std::string> known;
    for (const OpenAttempt& one : theirs) known.insert(one.origin.ExecutionId());
    for (docker::LeftContainer& one : found.ok() ? *found : std::vector<docker::LeftContainer>()) {
      // Of `from` also what its journal knows to be gone: it died before it had removed it.
      if (taken.count(one.container.attempt) == 0 && (one.container.run == from || known.count(one.container.attempt) != 0)) containers.push_back(std::move(one));
    }
    taken.merge(ExecutionsOf(containers));
    for (OpenAttempt& one : theirs) attempts.push_back({std::move(one), (*earlier)->run_dir()});
    child = *std::move(earlier);
  }
  return true;
}

std::vector<docker::LeftContainer> LeftRuns::Divide(EngineSetup& setup, const std::vector<Candidate>& attempts, std::vector<docker::LeftContainer> containers, EarlierRun* used,
                                                    const std::function<bool(InstanceRef)>& may_start) {
  // What the run would start at once, by key.
  std::multimap<std::string, const ForecastRow*> starts;
  Forecast forecast;
  if (used != nullptr) {
    forecast = MakeForecast(*setup.plan, setup.roots, used, setup.options.cache_dir);
    for (const ForecastRow& row : forecast.rows) {
      if (row.prospect == Prospect::Runs && !row.key.empty() && may_start(row.instance)) starts.emplace(row.key, &row);
    }
  }
  const std::string label = docker::StateLabel(state_dir_);
  std::vector<docker::LeftContainer> rest;
  for (docker::LeftContainer& one : containers) {
    auto found = std::find_if(attempts.begin(), attempts.end(), [&](const Candidate& each) { return each.attempt.origin.ExecutionId() == one.container.attempt; });
    const OpenAttempt* attempt = found == attempts.end() ? nullptr : &found->attempt;
    auto best = starts.end();
    if (attempt != nullptr && attempt->wanted && !attempt->key.empty() && one.container.state == label && docker::HasBegun(one.container) &&
        container::FindPlaces(attempt->origin.run_dir, attempt->origin.id) && !Exists(found->run_dir + "/outputs/" + ir::SafeName(attempt->address))) {
      auto [first, last] = starts.equal_range(attempt->key);
      for (auto it = first; it != last; ++it) {
        const uint32_t job = it->second->instance.job;
        // Told at its start where it is laid down, which is a place of the old run.
        if (setup.plan->jobs[job].staging.valid()) continue;
        if (setup.plan->jobs[job].backend.kind == one.kind && EngineText(*setup.plan, job) == one.endpoint.text && (best == starts.end() || it->second->address == attempt->address)) best = it;
      }
    }
    if (best == starts.end()) {
      rest.push_back(std::move(one));
      continue;
    }
    setup.adopt.push_back({attempt->key, best->second->address, attempt->origin, attempt->handle});
    starts.erase(best);
    given_.emplace(attempt->origin.ExecutionId(), std::move(one));
  }
  return rest;
}

void LeftRuns::Tell(const std::string& what, size_t rest, Terminal& terminal) const {
  std::string text = fmt::format("note: the run {} had died:", what);
  if (!given_.empty()) text += fmt::format(" {} of it {} taken over{}", Count(given_.size()), given_.size() == 1 ? "is" : "are", rest == 0 ? "" : ",");
  if (rest > 0) text += fmt::format(" {}{} ended and removed", Count(rest), rest == 1 ? " was" : " were");
  terminal.Err(text + "\n");
}

bool LeftRuns::Begin(EngineSetup& setup, const std::string& earlier, Terminal& terminal, bool quiet, StartFailure& failure) {
  // What cannot be read, or is executed by somebody, is told by the engine.
  if (RunLock::Holder(RunDir(state_dir_, earlier))) return true;
  Result<std::unique_ptr<RunReader>> opened = RunReader::Open(state_dir_, earlier);
  if (!opened.ok()) return true;
  const std::set<docker::EngineName> engines = docker::EnginesOf((*opened)->plan());
  if (engines.empty() || !Lock(earlier)) return true;
  earlier_ = std::move(*opened);
  if (Result<void> again = earlier_->Refresh(); !again.ok()) {
    failure = {kExitEnvironment, again.error().message};
    return false;
  }
  std::vector<OpenAttempt> open = OpenAttempts(*earlier_);
  std::set<std::string> theirs;
  for (const OpenAttempt& one : open) theirs.insert(one.origin.ExecutionId());
  std::vector<Candidate> attempts;
  std::vector<docker::LeftContainer> containers;
  if (!Inherited(*earlier_, theirs, attempts, containers, failure)) return false;
  // What it had taken over itself from a run that somebody else goes on with is no longer its own.
  std::erase_if(open, [&](const OpenAttempt& one) { return !Lock(one.origin.run); });
  std::set<std::string> runs = {earlier};
  for (const OpenAttempt& one : open) runs.insert(one.origin.run);
  auto found = docker::FindContainers(endpoints_, engines, runs);
  if (!found.ok() && open.empty() && containers.empty()) {
    // Nothing goes on; of what it had ended something may not be removed yet, and `gc` finds it.
    locks_.clear();
    return true;
  }
  if (!found.ok()) {
    failure = {kExitBackend, fmt::format("containers of the run {} may still run, and cannot be asked for: {}", earlier, found.error().message),
               {"nothing was started and nothing was ended; type this again once the engine answers", "or begin without the results of that run: leave out `--resume`"}};
    return false;
  }
  std::set<std::string> known;
  for (const OpenAttempt& one : open) known.insert(one.origin.ExecutionId());
  std::erase_if(*found, [&](const docker::LeftContainer& one) { return one.container.run != earlier && known.count(one.container.attempt) == 0; });
  const std::set<std::string> there = ExecutionsOf(*found);
  for (const OpenAttempt& one : open) {
    if (!one.started && there.count(one.origin.ExecutionId()) == 0) not_there_.insert(one.origin.ExecutionId());
    attempts.push_back({one, earlier_->run_dir()});
  }
  for (docker::LeftContainer& one : *found) {
    if (std::none_of(containers.begin(), containers.end(), [&](const docker::LeftContainer& each) { return each.container.id == one.container.id; })) containers.push_back(std::move(one));
  }
  if (containers.empty()) {
    locks_.clear();
    return true;
  }
  auto used = EarlierRun::Open(state_dir_, earlier, true);
  const std::vector<docker::LeftContainer> rest = Divide(setup, attempts, std::move(containers), used.ok() ? used->get() : nullptr, [](InstanceRef) { return true; });
  if (!Rest(*earlier_, rest, open, kByHeir, failure)) return false;
  if (!quiet) Tell(earlier, rest.size(), terminal);
  if (given_.empty()) {
    locks_.clear();
    return true;
  }
  for (const auto& [run, lock] : locks_) setup.origins.push_back(run);
  return true;
}

/// Containers whose end the journal has, and which its process could not remove any more. Where nobody answers the engine says so.
void LeftRuns::RemoveEnded(RunReader& run) {
  const std::string id = run.header().id;
  const std::set<docker::EngineName> engines = docker::EnginesOf(run.plan());
  if (engines.empty() || !Lock(id)) return;
  if (auto found = run.Refresh().ok() ? docker::FindContainers(endpoints_, engines, {id}) : Result<std::vector<docker::LeftContainer>>(Error{}); found.ok()) {
    const std::vector<OpenAttempt> open = OpenAttempts(run);
    std::erase_if(*found, [&](const docker::LeftContainer& one) {
      return std::any_of(open.begin(), open.end(), [&](const OpenAttempt& each) { return each.origin.ExecutionId() == one.container.attempt; });
    });
    (void)EndContainersOf(run.plan(), *found, true).ok();
  }
  locks_.erase(id);  // the engine takes it
}

bool LeftRuns::Resume(EngineSetup& setup, RunReader& run, Terminal& terminal, bool quiet, StartFailure& failure) {
  RemoveEnded(run);
  const std::vector<OpenAttempt> open = OpenAttempts(run);
  std::set<std::string> taken, needed;  // execution ids; runs
  for (const OpenAttempt& one : open) {
    if (one.origin.run == run.header().id || !Lock(one.origin.run)) continue;
    taken.insert(one.origin.ExecutionId());
    needed.insert(one.origin.run);
  }
  // What it had been given and had not come to when it died: given again.
  std::vector<Candidate> attempts;
  std::vector<docker::LeftContainer> containers;
  if (!Inherited(run, taken, attempts, containers, failure)) return false;
  if (!containers.empty()) {
    const std::string from = UsedRun(run.header());
    auto earlier = RunReader::Open(state_dir_, from);
    if (!earlier.ok()) return true;
    earlier_ = *std::move(earlier);
    auto used = EarlierRun::Open(state_dir_, run.header().id, true);
    const std::vector<docker::LeftContainer> rest = Divide(setup, attempts, std::move(containers), used.ok() ? used->get() : nullptr, [&](InstanceRef instance) {
      // What has ended stays, and what goes on as its own attempt needs no other.
      return !IsFinal(run.state(instance)) && std::none_of(open.begin(), open.end(), [&](const OpenAttempt& each) { return each.wanted && each.instance == instance; });
    });
    if (!Rest(*earlier_, rest, OpenAttempts(*earlier_), kByHeir, failure)) return false;
    if (!quiet) Tell(from, rest.size(), terminal);
    if (!given_.empty()) {
      for (const auto& [id, lock] : locks_) needed.insert(id);
    }
  }
  std::erase_if(locks_, [&](const auto& lock) { return needed.count(lock.first) == 0; });
  setup.origins.assign(needed.begin(), needed.end());
  return true;
}

void LeftRuns::End(const Engine& engine, Terminal& terminal) {
  if (!not_there_.empty() && Lock(earlier_->header().id)) {
    auto found = docker::FindContainers(endpoints_, docker::EnginesOf(earlier_->plan()), {earlier_->header().id});
    if (found.ok()) {
      std::erase_if(*found, [&](const docker::LeftContainer& one) { return docker::HasBegun(one.container) || not_there_.count(one.container.attempt) == 0; });
      (void)EndContainersOf(earlier_->plan(), *found, true).ok();
    }
  }
  std::vector<docker::LeftContainer> rest;
  for (const std::string& execution : engine.NotAdopted()) {
    if (auto found = given_.find(execution); found != given_.end()) rest.push_back(found->second);
  }
  // Nothing of those that were taken over is alive either: nobody needs to ask for them again.
  const std::set<std::string> resting = ExecutionsOf(rest);
  std::set<std::string> over;
  for (const auto& [execution, one] : given_) {
    if (resting.count(execution) == 0) over.insert(execution);
  }
  for (ToldRun& one : RunsToTell(state_dir_, Locked(), "", over)) (void)RecordEnded(*one.run, one.ending, fmt::format("ended with run {}, which took it over,", engine.run_id())).ok();
  if (earlier_ != nullptr && !rest.empty()) (void)earlier_->Refresh().ok();
  StartFailure failure;
  if (!rest.empty() && !Rest(*earlier_, rest, OpenAttempts(*earlier_), kByHeir, failure)) {
    terminal.Err(fmt::format("warning: {}; `jobc cancel {}` tries again\n", failure.message, earlier_->header().id));
  }
  locks_.clear();
}

}  // namespace jobc
