// `jobc result`: the typed outputs of a run, of a job, or of one instance, as JSON.
#include <cerrno>
#include <fmt/format.h>

#include "compiler/driver/runs.h"
#include "ir/json.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

int Print(Terminal& terminal, const Invocation& invocation, const std::string& json) {
  Result<ir::Value> value = ir::ParseJson(json);
  if (!value.ok()) return FailCommand(terminal, kExitEnvironment, "the stored result is damaged: " + value.error().message);
  terminal.Out(ir::JsonText(*value, invocation.json() || !terminal.out_is_terminal() ? 0 : 2) + "\n");
  return kExitOk;
}

/// What a run that did not succeed answers: what there is, and exit 10.
int CodeOf(const RunSummary& summary) {
  if (!summary.finished) return kExitOk;
  return summary.exit_code == kExitOk || summary.exit_code == kExitToleratedFailures ? kExitOk : kExitJobFailed;
}

/// No result to show, a journal that cannot be read, or a name that is none.
int CodeOf(const Error& error) { return error.code == ENODATA ? kExitJobFailed : error.code == ENOENT ? kExitUsage : kExitEnvironment; }

}  // namespace

int RunResult(const Invocation& invocation, Terminal& terminal) {
  std::string job;
  OpenedRun opened = OpenRunAndJob(invocation, terminal, job);
  if (opened.reader == nullptr) return opened.exit_code;
  RunReader& run = *opened.reader;
  if (job.empty()) {
    Result<std::string> exports = run.Exports();
    if (!exports.ok()) return FailCommand(terminal, kExitEnvironment, exports.error().message);
    if (exports->empty() && run.plan().exports.empty()) {
      if (!invocation.json()) terminal.Err("note: this run has no `export`; name a job to see its outputs:  jobc result RUN JOB\n");
      *exports = "{}";
    }
    const std::string way = WayOn(run.summary(), opened.state_dir);
    if (exports->empty()) {
      return FailCommand(terminal, kExitJobFailed, run.summary().running ? fmt::format("run {} is still running; its exports are known at its end", run.header().id)
                                                                         : fmt::format("run {} has no exports: it {}{}", run.header().id, run.summary().status, way.empty() ? "" : "; " + way));
    }
    if (!way.empty()) terminal.Err(fmt::format("note: run {} {}; {}\n", run.header().id, run.summary().status, way));
    int code = Print(terminal, invocation, *exports);
    return code == kExitOk ? CodeOf(run.summary()) : code;
  }
  auto [address, field] = SplitAddressField(job);
  Result<std::vector<InstanceRef>> found = run.Find(address);
  if (!found.ok()) return FailCommand(terminal, kExitUsage, found.error().message);
  const bool single = found->size() == 1 && (address.find('[') != std::string::npos || run.plan().jobs[found->front().job].domain.single());
  if (single) {
    Result<std::string> json = run.ResultJson(found->front(), field);
    if (!json.ok()) return FailCommand(terminal, CodeOf(json.error()), json.error().message);
    return Print(terminal, invocation, *json);
  }
  // A scatter: one entry an instance, null where there is no result.
  std::string out = "{";
  for (InstanceRef instance : *found) {
    if (instance.ordinal == kWholeJob) continue;
    Result<std::string> json = run.ResultJson(instance, field);
    if (!json.ok() && json.error().code != ENODATA) return FailCommand(terminal, CodeOf(json.error()), json.error().message);
    out += (out.size() > 1 ? "," : "") + ir::JsonQuote(run.Address(instance)) + ":" + (json.ok() ? *json : "null");
  }
  return Print(terminal, invocation, out + "}");
}

}  // namespace jobc
