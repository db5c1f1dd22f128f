// `jobc cancel`: ends a run, jobs or instances of it that another jobc executes; of a run whose jobc is dead what went on without it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "backends/docker/leftovers.h"
#include "compiler/driver/left_runs.h"
#include "compiler/driver/runs.h"
#include "ir/json.h"
#include "runtime/backend.h"
#include "runtime/control.h"
#include "runtime/dead_run.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

/// What the arguments mean. A job's name stands for the job as a whole, whatever its instances are.
Result<CancelRequest> Request(const RunReader& run, const std::vector<std::string>& addresses, bool at_once) {
  CancelRequest out;
  out.run = addresses.empty();
  out.at_once = at_once;
  for (const std::string& address : addresses) {
    Result<std::vector<InstanceRef>> found = run.Find(address);
    if (!found.ok()) return found.error();
    if (found->empty() || address == run.plan().jobs[found->front().job].address) {
      uint32_t job = 0;
      while (run.plan().jobs[job].address != address) ++job;
      out.targets.push_back({job, -1});
    } else {
      for (InstanceRef instance : *found) out.targets.push_back({instance.job, instance.ordinal == kWholeJob ? -1 : static_cast<int64_t>(instance.ordinal)});
    }
  }
  return out;
}

/// Final, and nothing of its attempts is alive: an instance is final as soon as it is cancelled, its grace comes after that.
bool HasEnded(const RunReader& run, InstanceRef instance) {
  if (!IsFinal(run.state(instance))) return false;
  const std::vector<AttemptView> attempts = run.View(instance).attempts;
  return std::none_of(attempts.begin(), attempts.end(), [](const AttemptView& one) { return one.started_ms != 0 && one.reaped_ms == 0; });
}

bool AllEnded(const RunReader& run, const CancelRequest& request) {
  for (const CancelTarget& target : request.targets) {
    if (target.ordinal >= 0) {
      if (!HasEnded(run, {target.job, static_cast<uint32_t>(target.ordinal)})) return false;
      continue;
    }
    if (!run.expanded(target.job) && !IsFinal(run.whole(target.job))) return false;
    for (uint32_t i = 0; i < run.size(target.job); ++i) {
      if (!HasEnded(run, {target.job, i})) return false;
    }
  }
  return true;
}

// -- A run whose process is gone ---------------------------------------------

bool IsWanted(const CancelRequest& request, InstanceRef instance) {
  return request.run || std::any_of(request.targets.begin(), request.targets.end(), [&](const CancelTarget& target) {
    return target.job == instance.job && (target.ordinal < 0 || target.ordinal == static_cast<int64_t>(instance.ordinal));
  });
}

/// Containers that go on are ended and removed, and the journal says so.
int CancelDead(RunReader& run, const std::string& state_dir, const CancelRequest& request, const Invocation& invocation, Terminal& terminal) {
  const std::string id = run.header().id;
  auto lock = RunLock::Take(run.run_dir());
  if (!lock.ok()) return FailCommand(terminal, kExitEnvironment, lock.error().message);
  if (Result<void> again = run.Refresh(); !again.ok()) return FailCommand(terminal, kExitEnvironment, again.error().message);
  const bool finished = run.summary().finished;
  // What it had taken over from a run that somebody else goes on with is no longer its own.
  LeftRuns left(state_dir);
  std::set<std::string> runs = {id}, known;
  std::map<std::string, InstanceRef> alive;  // by execution id
  std::vector<OpenAttempt> open = OpenAttempts(run);
  for (const OpenAttempt& one : open) {
    const std::string execution = one.origin.ExecutionId();
    known.insert(execution);
    if (one.origin.run != id && !left.Lock(one.origin.run)) continue;
    runs.insert(one.origin.run);
    alive.emplace(execution, one.instance);
  }
  const std::set<docker::EngineName> engines = docker::EnginesOf(run.plan());
  std::vector<docker::LeftContainer> containers;
  // Of a run that has ended, and of which nothing is open, something may not have been removed; it needs no engine for that.
  if (!engines.empty()) {
    Result<std::vector<docker::LeftContainer>> found = FindAlsoLate(left.endpoints(), engines, runs, open);
    if (!found.ok() && !alive.empty()) {
      terminal.Err(RenderUsageError({fmt::format("containers of the run {} may still run, and cannot be asked for: {}", id, found.error().message),
                                     {fmt::format("nothing was changed; once the engine answers, type this again:  jobc cancel {}", id)}}, terminal.err_color()));
      return kExitBackend;
    }
    if (found.ok()) containers = *std::move(found);
  }
  std::erase_if(containers, [&](const docker::LeftContainer& one) {
    auto attempt = alive.find(one.container.attempt);
    if (attempt != alive.end()) return !IsWanted(request, attempt->second);
    return !request.run || one.container.run != id;
  });
  if (request.run && !finished) {
    // What it was given of the run whose results it uses, and had not come to, is its own to end.
    std::vector<LeftRuns::Candidate> given;
    StartFailure failure;
    if (!left.Inherited(run, known, given, containers, failure)) {
      terminal.Err(RenderUsageError({failure.message, {fmt::format("nothing was changed; once the engine answers, type this again:  jobc cancel {}", id)}}, terminal.err_color()));
      return kExitBackend;
    }
  }
  const std::set<std::string> executions = ExecutionsOf(containers);
  open = Among(std::move(open), executions);
  std::vector<ToldRun> others = RunsToTell(state_dir, left.Locked(), id, executions);
  // The verdicts first: who is killed here leaves nothing that could be taken for the end of a program.
  const bool lost = run.summary().lost > 0;
  const std::string who = fmt::format("jobc cancel (pid {})", getpid());
  const std::string how = fmt::format("cancelled by {}", who);
  Result<void> told = lost ? Result<void>() : RecordEnding(run, open, how);
  for (ToldRun& one : others) {
    if (told.ok()) told = RecordEnding(*one.run, one.ending, how);
  }
  if (!told.ok()) return FailCommand(terminal, kExitEnvironment, told.error().message);
  if (Result<void> ended = EndContainersOf(run.plan(), containers, request.at_once); !ended.ok()) {
    return FailCommand(terminal, kExitBackend, fmt::format("{}; type it again, or remove it by hand", ended.error().message));
  }
  uint64_t cancelled = 0;
  for (ToldRun& one : others) {
    if (told.ok()) told = RecordEnded(*one.run, one.ending, how);
  }
  if (!told.ok()) return FailCommand(terminal, kExitEnvironment, told.error().message);
  if (!lost && (!finished || !containers.empty())) {
    Result<uint64_t> recorded = RecordCancelled(run, [&](InstanceRef instance) { return IsWanted(request, instance); }, request.run, who);
    if (!recorded.ok()) return FailCommand(terminal, kExitEnvironment, recorded.error().message);
    cancelled = *recorded;
  }
  if (invocation.json()) {
    terminal.Out(fmt::format("{{\"cancelled\":{},\"containers\":{},\"run\":{},\"schema\":\"jobc.cancel/1\",\"stopping\":false}}\n", cancelled, containers.size(), ir::JsonQuote(id)));
    return kExitOk;
  }
  const std::string removed = containers.empty() ? "" : fmt::format("{} container{} ended and removed", containers.size(), containers.size() == 1 ? " was" : "s were");
  if (finished) {
    terminal.Err(fmt::format("nothing to cancel: the run {} has ended ({}){}\n", id, run.summary().status, removed.empty() ? "" : "; of what it left " + removed));
    return kExitOk;
  }
  const bool has_finally = std::any_of(run.plan().jobs.begin(), run.plan().jobs.end(), [](const ir::Job& job) { return job.kind == ir::JobKind::Finally; });
  std::string text = fmt::format("no process executes the run {}", id);
  if (request.run) {
    text += lost ? "; its journal lacks records and is left as it is" : "; it is cancelled";
    text += removed.empty() ? ", nothing of it is alive" : ", " + removed;
    if (has_finally && !lost) text += ", `finally` has not run";
  } else {
    text += removed.empty() ? "; nothing of what you name is alive" : "; " + removed;
  }
  terminal.Err(fmt::format("{}\ngo on with it by  jobc resume {}\n", text, id));
  return kExitOk;
}

}  // namespace

int RunCancel(const Invocation& invocation, Terminal& terminal) {
  std::vector<std::string> words = invocation.arguments();
  std::string name;
  if (!words.empty()) {
    // The first word is a run, or all of them are jobs of the last run.
    Result<std::string> state = FindStateDir(WorkingDirectory(), std::string(invocation.ValueOr("--state", "")));
    Result<std::string> last = state.ok() ? ResolveRun(*state, "") : state;
    if (!state.ok() || ResolveRun(*state, words[0]).ok() || !last.ok()) {
      name = words[0];
      words.erase(words.begin());
    } else if (Result<std::unique_ptr<RunReader>> reader = RunReader::Open(*state, *last); !reader.ok() || !(*reader)->Find(words[0]).ok()) {
      name = words[0];  // neither: OpenRun() says which runs there are
      words.erase(words.begin());
    }
  }
  OpenedRun opened = OpenRun(invocation, name, terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  RunReader& run = *opened.reader;
  const std::string id = run.header().id;
  const bool at_once = invocation.Has("--now");
  if (at_once && !words.empty()) return FailCommand(terminal, kExitUsage, "`--now` is for whole runs: a job always gets its grace period");
  Result<CancelRequest> request = Request(run, words, at_once);
  if (!request.ok()) return FailCommand(terminal, kExitUsage, request.error().message);

  auto tell = [&](std::string_view what, const CancelAnswer& answer) {
    if (invocation.json()) {
      terminal.Out(fmt::format("{{\"cancelled\":{},\"run\":{},\"schema\":\"jobc.cancel/1\",\"stopping\":{}}}\n", answer.cancelled, ir::JsonQuote(id), answer.stopping));
    } else {
      terminal.Err(fmt::format("{}\n", what));
    }
  };
  if (!run.summary().running) return CancelDead(run, opened.state_dir, *request, invocation, terminal);
  CancelAnswer answer;
  Result<ControlClient> client = ControlClient::Connect(run.run_dir());
  // Its process takes the lock first and listens a moment later.
  for (int tries = 0; !client.ok() && (client.error().code == ENOENT || client.error().code == ECONNREFUSED) && tries < 40; ++tries) {
    usleep(50'000);
    client = ControlClient::Connect(run.run_dir());
    if (!client.ok() && (!run.Refresh().ok() || !run.summary().running)) break;
  }
  Result<CancelAnswer> answered = client.ok() ? client->Cancel(*request) : Result<CancelAnswer>(client.error());
  if (!answered.ok()) {
    if (run.Refresh().ok() && !run.summary().running) {
      tell(fmt::format("nothing to cancel: the run {} has ended meanwhile{}", id, run.summary().finished ? " (" + run.summary().status + ")" : ""), {});
      return kExitOk;
    }
    if (answered.error().code == EINVAL) return FailCommand(terminal, kExitUsage, answered.error().message);
    std::string message = fmt::format("cannot reach the process that executes the run {}: {}", id, answered.error().message);
    if (std::optional<LockHolder> holder = RunLock::Holder(run.run_dir())) message += fmt::format("; on {} this has the same effect:  kill {}", holder->host, holder->pid);
    return FailCommand(terminal, kExitEnvironment, message);
  }
  answer = *answered;
  if (invocation.Has("--wait")) {
    while (run.Refresh().ok() && run.summary().running && (request->run || !AllEnded(run, *request))) (void)client->Next(100).ok(), usleep(20'000);
  }
  if (request->run) {
    tell(answer.stopping && !at_once ? fmt::format("the run {} is being cancelled already; to end it at once:  jobc cancel {} --now", id, id)
         : invocation.Has("--wait")  ? fmt::format("the run {} has been cancelled; go on with it by  jobc resume {}", id, id)
                                     : fmt::format("the run {} is being cancelled; see  jobc watch {}", id, id),
         answer);
  } else if (answer.cancelled == 0) {
    tell(fmt::format("nothing to cancel: {} had ended already", request->targets.size() == 1 ? words[0] : "all of them"), answer);
  } else {
    std::string list;
    for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
    tell(fmt::format("cancelled {}", list), answer);
  }
  return kExitOk;
}

}  // namespace jobc
