// `jobc status` and `jobc list`: what the journals of runs say, also while a run goes on and after a crash of it.
#include <fmt/format.h>

#include <algorithm>

#include "compiler/driver/runs.h"
#include "compiler/driver/status_formats.h"
#include "ir/json.h"
#include "runtime/events.h"
#include "runtime/metrics.h"
#include "runtime/status_printer.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

std::string SummaryJson(const RunSummary& run) {
  std::string out = fmt::format("\"created_ms\":{},\"finished\":{},\"id\":{},\"name\":{},\"running\":{},\"source\":{},\"status\":{}", run.created_ms, run.finished,
                                ir::JsonQuote(run.id), ir::JsonQuote(run.name), run.running, ir::JsonQuote(run.source), ir::JsonQuote(run.status));
  if (run.finished) out += fmt::format(",\"ended_ms\":{},\"exit_code\":{}", run.ended_ms, run.exit_code);
  if (!run.message.empty()) out += ",\"message\":" + ir::JsonQuote(run.message);
  if (run.lost > 0) out += fmt::format(",\"lost_records\":{}", run.lost);
  if (!run.profile.empty()) out += ",\"profile\":" + ir::JsonQuote(run.profile);
  return out;
}

std::string VerdictFields(const Verdict& verdict) {
  std::string out = fmt::format("\"class\":\"{}\",\"kind\":\"{}\",\"message\":{}", ir::ClassName(verdict.error_class), ir::KindName(verdict.kind), ir::JsonQuote(verdict.message));
  if (!verdict.code.empty()) out += ",\"code\":" + ir::JsonQuote(verdict.code);
  if (!verdict.name.empty()) out += ",\"error\":" + ir::JsonQuote(verdict.name);
  if (verdict.exit_code) out += fmt::format(",\"exit_code\":{}", *verdict.exit_code);
  if (verdict.signal) out += fmt::format(",\"signal\":{}", *verdict.signal);
  return out;
}

std::string InstanceJson(const RunReader& run, const InstanceView& view) {
  std::string out = fmt::format("{{\"address\":{},\"state\":\"{}\"", ir::JsonQuote(view.address), run.StateText(view.instance));
  if (view.verdict && !view.verdict->success) {
    // What never had a chance to run has a reason, but no kind of error.
    out += view.state == InstanceState::Blocked || view.state == InstanceState::Skipped ? ",\"message\":" + ir::JsonQuote(view.verdict->message) : "," + VerdictFields(*view.verdict);
  }
  if (view.reused) {
    out += fmt::format(",\"reused\":{{\"address\":{},\"attempts\":{},\"run\":{}}}", ir::JsonQuote(view.reused->address), view.reused->attempts, ir::JsonQuote(view.reused->run));
  }
  out += ",\"attempts\":[";
  for (size_t i = 0; i < view.attempts.size(); ++i) {
    const AttemptView& attempt = view.attempts[i];
    out += fmt::format("{}{{\"number\":{}", i == 0 ? "" : ",", attempt.number);
    if (attempt.ready_ms != 0) out += fmt::format(",\"ready_ms\":{}", attempt.ready_ms);
    if (attempt.started_ms != 0) out += fmt::format(",\"started_ms\":{}", attempt.started_ms);
    if (attempt.exited_ms != 0) out += fmt::format(",\"ended_ms\":{}", attempt.exited_ms);
    if (attempt.pid != 0) out += fmt::format(",\"pid\":{}", attempt.pid);
    if (attempt.cpu_ms >= 0) out += fmt::format(",\"cpu_ms\":{},\"max_memory\":{}", attempt.cpu_ms, attempt.max_memory);
    if (std::string staged = run.StagedAt(view.instance, attempt.number); !staged.empty()) out += ",\"staged\":" + ir::JsonQuote(staged);
    if (attempt.verdict) {
      out += fmt::format(",\"success\":{}", attempt.verdict->success);
      if (!attempt.verdict->success) out += "," + VerdictFields(*attempt.verdict);
    }
    out += "}";
  }
  return out + "]}";
}

/// All instances in plan order; a job whose instances are not known stands for them.
std::vector<InstanceRef> Instances(const RunReader& run) {
  std::vector<InstanceRef> out;
  for (uint32_t job = 0; job < run.plan().jobs.size(); ++job) {
    if (!run.expanded(job)) out.push_back({job, kWholeJob});
    for (uint32_t i = 0; i < run.size(job); ++i) out.push_back({job, i});
  }
  return out;
}

std::string StatusJson(const RunReader& run, const RunMetrics& metrics, bool all) {
  std::string out = "{\"schema\":\"jobc.status/1\"," + SummaryJson(run.summary()) + ",\"jobs\":[";
  bool first = true;
  for (uint32_t job = 0; job < run.plan().jobs.size(); ++job) {
    const ir::Job& declared = run.plan().jobs[job];
    auto counts = run.Counts(job);
    out += fmt::format("{}{{\"job\":{},\"expanded\":{}", first ? "" : ",", ir::JsonQuote(declared.address), run.expanded(job));
    first = false;
    const uint64_t lost = run.LostCount(job);
    counts[static_cast<size_t>(InstanceState::Running)] -= lost;
    for (int state = 0; state < kInstanceStates; ++state) {
      if (counts[static_cast<size_t>(state)] != 0) out += fmt::format(",\"{}\":{}", StateName(static_cast<InstanceState>(state)), counts[static_cast<size_t>(state)]);
    }
    if (lost != 0) out += fmt::format(",\"{}\":{}", kLostState, lost);
    if (const uint64_t reused = run.ReusedCount(job); reused != 0) out += fmt::format(",\"reused\":{}", reused);
    out += "}";
  }
  out += "],\"instances\":[";
  first = true;
  for (InstanceRef instance : Instances(run)) {
    InstanceState state = run.state(instance);
    if (!all && state != InstanceState::Failed && state != InstanceState::Running && state != InstanceState::Backoff) continue;
    out += (first ? "" : ",") + InstanceJson(run, run.View(instance));
    first = false;
  }
  return out + "],\"metrics\":" + MetricsJson(run, metrics) + "}\n";
}

constexpr int64_t kMostBlocks = 10'000;

/// Of `--period` and `--block`; nullopt after the reason was told.
std::optional<MetricsOptions> TimeOptions(const Invocation& invocation, Terminal& terminal) {
  MetricsOptions out;
  out.period_ms = invocation.Milliseconds("--period").value_or(out.period_ms);
  out.block_ms = invocation.Milliseconds("--block").value_or(std::min(out.block_ms, std::max<int64_t>(out.period_ms, 1)));
  if (out.period_ms <= 0 || out.block_ms <= 0 || out.block_ms > out.period_ms) {
    terminal.Err(RenderUsageError({"--period and --block must be above zero, and a block no longer than the period", {"the default is  --period 3h --block 5m"}}, terminal.err_color()));
    return std::nullopt;
  }
  if (out.period_ms / out.block_ms > kMostBlocks) {
    terminal.Err(RenderUsageError({fmt::format("--period holds {} blocks; at most {} are counted", out.period_ms / out.block_ms, kMostBlocks), {"make --block longer"}}, terminal.err_color()));
    return std::nullopt;
  }
  return out;
}

}  // namespace

int RunStatusCommand(const Invocation& invocation, Terminal& terminal) {
  const std::optional<MetricsOptions> time = TimeOptions(invocation, terminal);
  if (!time) return kExitUsage;
  OpenedRun opened = OpenRun(invocation, invocation.arguments().empty() ? "" : invocation.arguments()[0], terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  const RunReader& run = *opened.reader;
  const bool all = invocation.Has("--instances");
  const std::string_view format = invocation.ValueOr("--format", invocation.json() ? "json" : "text");
  if (format != "text") {
    const RunMetrics metrics = CollectMetrics(run, *time);
    if (format == "json") {
      terminal.Out(StatusJson(run, metrics, all));
    } else if (format == "prometheus") {
      terminal.Out(PrometheusText(run, metrics));
    } else {
      WriteScaleStatus(run, metrics, all, [&](std::string_view piece) { terminal.Out(piece); });
    }
    return kExitOk;
  }
  const RunSummary& summary = run.summary();
  terminal.Out(fmt::format("run {}{}: {}{}\n", summary.id, summary.name.empty() ? "" : " (" + summary.name + ")", summary.status,
                           summary.finished ? fmt::format(", exit {}", summary.exit_code) : std::string()));
  terminal.Out(fmt::format("  {}{}, started {}\n", summary.source, summary.profile.empty() ? "" : ", profile " + summary.profile, TimeText(summary.created_ms)));
  if (!summary.message.empty()) terminal.Out(fmt::format("  {}\n", summary.message));
  const int width = terminal.out_is_terminal() && terminal.width() > 0 ? terminal.width() : 120;
  for (const std::string& line : ProgressLines(run.Progress(), width, 1 << 20, {terminal.out_color(), true})) terminal.Out(line + "\n");
  for (InstanceRef instance : Instances(run)) {
    InstanceState state = run.state(instance);
    if (!all && state != InstanceState::Failed) continue;
    InstanceView view = run.View(instance);
    std::string line = fmt::format("{}: {}", view.address, run.StateText(instance));
    if (view.reused) line += ", result of run " + view.reused->run + (view.reused->address != view.address ? " " + view.reused->address : "");
    if (!view.attempts.empty()) line += fmt::format(", {} attempt{}", view.attempts.size(), view.attempts.size() == 1 ? "" : "s");
    if (view.verdict && !view.verdict->success) {
      if (state != InstanceState::Blocked && state != InstanceState::Skipped && state != InstanceState::Cancelled) line += ", " + ReasonText(*view.verdict);
      if (const std::string_view more = MessageBesideEnd(*view.verdict); !more.empty()) line += fmt::format(": {}", more);
    }
    if (run.Lost(instance)) line += ": its jobc ended while it ran";
    terminal.Out(line + "\n");
    if (state == InstanceState::Failed && !view.attempts.empty()) terminal.Out(fmt::format("  jobc logs {} {}\n", summary.id, ShellQuote(view.address)));
  }
  if (std::string way = WayOn(summary, opened.state_dir); !way.empty()) terminal.Out(way + "\n");
  return kExitOk;
}

int RunList(const Invocation& invocation, Terminal& terminal) {
  Result<std::string> state = FindStateDir(WorkingDirectory(), std::string(invocation.ValueOr("--state", "")));
  if (!state.ok()) return FailCommand(terminal, StateExitCode(state.error()), state.error().message);
  Result<std::vector<std::string>> read = ReadRunIds(*state);
  if (!read.ok()) return FailCommand(terminal, StateExitCode(read.error()), read.error().message);
  std::vector<std::string> ids = *std::move(read);
  std::reverse(ids.begin(), ids.end());
  const size_t limit = static_cast<size_t>(invocation.Int("--last").value_or(invocation.json() ? INT64_MAX : 30));
  std::string out;
  bool first = true;
  for (size_t i = 0; i < ids.size() && i < limit; ++i) {
    Result<RunSummary> summary = SummarizeRun(*state, ids[i]);
    RunSummary run = summary.ok() ? *summary : RunSummary{};
    if (!summary.ok()) {
      run.id = ids[i];
      run.status = "unreadable";
      run.message = summary.error().message;
    }
    if (invocation.json()) {
      out += (first ? "{" : ",{") + SummaryJson(run) + "}";
      first = false;
    } else {
      out += fmt::format("{}  {}  {:<11} {:>4}  {}{}\n", run.id, run.created_ms != 0 ? TimeText(run.created_ms) : std::string(19, ' '), run.status,
                         run.finished ? std::to_string(run.exit_code) : "", run.source, run.name.empty() ? "" : "  " + run.name);
    }
  }
  if (invocation.json()) {
    terminal.Out("{\"schema\":\"jobc.list/1\",\"runs\":[" + out + "]}\n");
  } else {
    terminal.Out(out);
    if (ids.size() > limit) terminal.Err(fmt::format("{} older runs are not shown; `jobc list --last {}` lists all\n", ids.size() - limit, ids.size()));
    if (ids.empty()) terminal.Err(fmt::format("there are no runs in `{}`\n", *state));
  }
  return kExitOk;
}

}  // namespace jobc
