// `jobc cancel`: ends a run, jobs or instances of it that another jobc executes.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "compiler/driver/runs.h"
#include "ir/json.h"
#include "runtime/backend.h"
#include "runtime/control.h"
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
  if (!run.summary().running) {
    tell(run.summary().finished ? fmt::format("nothing to cancel: the run {} has ended ({})", id, run.summary().status)
                                : fmt::format("nothing to cancel: no process executes the run {}; go on with it by  jobc resume {}{}", id, id,
                                           std::any_of(run.plan().jobs.begin(), run.plan().jobs.end(), [](const ir::Job& job) { return OutlivesJobc(job.backend.kind); })
                                               ? "\nwhat still runs in containers is taken over by that, or removed by  jobc gc --older-than 0s"
                                               : ""),
         {});
    return kExitOk;
  }
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
