// `jobc logs`: what attempts wrote to stdout and stderr.
#include <fmt/format.h>
#include <unistd.h>

#include <map>

#include "compiler/driver/runs.h"
#include "ir/json.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

using process::LogReader;
using Stream = process::LogStream;

struct Shown {
  std::string address;
  AttemptId id;
  uint32_t number;
};

std::string_view StreamName(Stream stream) { return stream == Stream::kStdout ? "stdout" : "stderr"; }

std::string ChunkJson(const Shown& shown, Stream stream, std::string_view text) {
  return fmt::format("{{\"address\":{},\"attempt\":{},\"stream\":\"{}\",\"text\":{}}}\n", ir::JsonQuote(shown.address), shown.number, StreamName(stream), ir::JsonQuote(text));
}

/// Attempts to show, in the order of their instances.
std::vector<Shown> Select(const RunReader& run, const std::vector<InstanceRef>& instances, std::optional<int64_t> number, bool all) {
  std::vector<Shown> out;
  for (InstanceRef instance : instances) {
    InstanceView view = run.View(instance);
    for (size_t i = 0; i < view.attempts.size(); ++i) {
      const AttemptView& attempt = view.attempts[i];
      if (number ? attempt.number == *number : all || i + 1 == view.attempts.size()) out.push_back({view.address, attempt.id, attempt.number});
    }
  }
  return out;
}

}  // namespace

int RunLogs(const Invocation& invocation, Terminal& terminal) {
  std::string job;
  OpenedRun opened = OpenRunAndJob(invocation, terminal, job);
  if (opened.reader == nullptr) return opened.exit_code;
  RunReader& run = *opened.reader;
  auto choose = [&](std::vector<InstanceRef>& instances) -> std::string {
    instances.clear();
    if (!job.empty()) {
      Result<std::vector<InstanceRef>> found = run.Find(job);
      if (!found.ok()) return found.error().message;
      instances = *found;
    } else {
      for (uint32_t j = 0; j < run.plan().jobs.size(); ++j) {
        for (uint32_t i = 0; i < run.size(j); ++i) instances.push_back({j, i});
      }
    }
    if (invocation.Has("--failed")) {
      std::erase_if(instances, [&](InstanceRef instance) { return run.state(instance) != InstanceState::Failed; });
    }
    return "";
  };
  std::vector<InstanceRef> instances;
  if (std::string problem = choose(instances); !problem.empty()) return FailCommand(terminal, kExitUsage, problem);
  const std::optional<int64_t> number = invocation.Int("--attempt");
  const bool follow = invocation.Has("--follow");
  const std::string_view only = invocation.ValueOr("--stream", "both");
  const auto wanted = [&](Stream stream) { return only == "both" || only == StreamName(stream); };
  const std::optional<int64_t> tail = invocation.Int("--tail");

  Result<LogReader> logs = run.OpenLogs();
  if (!logs.ok()) return FailCommand(terminal, kExitEnvironment, logs.error().message);
  std::vector<Shown> shown = Select(run, instances, number, invocation.Has("--all"));
  if (number && shown.empty()) return FailCommand(terminal, kExitUsage, fmt::format("there is no attempt {} of {}", *number, job.empty() ? "any job" : job));
  bool headers = shown.size() > 1 || follow;
  AttemptId last_header = 0;
  auto header = [&](const Shown& one) {
    if (headers && !invocation.json() && last_header != one.id) terminal.Out(fmt::format("==> {}, attempt {} <==\n", one.address, one.number));
    last_header = one.id;
  };
  std::map<std::pair<AttemptId, int>, uint64_t> positions;
  auto show = [&](const Shown& one) {
    (void)logs->ForEachInOrder(one.id, [&](const LogReader::Chunk& chunk) {
      uint64_t& position = positions[{one.id, static_cast<int>(chunk.stream)}];
      if (chunk.position + chunk.bytes.size() <= position || !wanted(chunk.stream)) return true;
      if (chunk.position > position) {
        const uint64_t dropped = chunk.position - position;
        header(one);
        terminal.Out(invocation.json()
                         ? fmt::format("{{\"address\":{},\"attempt\":{},\"stream\":\"{}\",\"dropped\":{}}}\n", ir::JsonQuote(one.address), one.number, StreamName(chunk.stream), dropped)
                         : fmt::format("\n[jobc: {} bytes of {} were dropped here, above log_limit]\n", dropped, StreamName(chunk.stream)));
      }
      std::string_view bytes = chunk.position < position ? chunk.bytes.substr(position - chunk.position) : chunk.bytes;
      position = chunk.position + chunk.bytes.size();
      header(one);
      terminal.Out(invocation.json() ? ChunkJson(one, chunk.stream, bytes) : std::string(bytes));
      return terminal.out_open();
    }).ok();
  };
  for (const Shown& one : shown) {
    if (!tail) {
      show(one);
      continue;
    }
    for (Stream stream : {Stream::kStdout, Stream::kStderr}) {
      if (!wanted(stream)) continue;
      Result<std::string> text = logs->Tail(one.id, stream, static_cast<size_t>(*tail));
      if (text.ok() && !text->empty()) {
        header(one);
        terminal.Out(invocation.json() ? ChunkJson(one, stream, *text) : *text);
      }
      positions[{one.id, static_cast<int>(stream)}] = logs->Totals(one.id, stream).total_bytes;
    }
  }
  terminal.Flush();
  while (follow && run.summary().running && terminal.out_open()) {
    usleep(200'000);
    if (!run.Refresh().ok() || !logs->Refresh().ok()) break;
    if (!choose(instances).empty()) break;
    for (const Shown& one : Select(run, instances, number, true)) show(one);
    terminal.Flush();
  }
  if (shown.empty() && !follow && !invocation.json()) {
    const std::string who = job.empty() ? "run " + run.header().id : job;
    const RunSummary& summary = run.summary();
    if (summary.running) {
      terminal.Err(fmt::format("{} has not started anything yet\n", who));
    } else {
      terminal.Err(fmt::format("{} has started nothing; {} ({}){}\n", who, summary.finished ? "the run has ended" : "nobody executes the run", summary.status,
                               summary.message.empty() ? "" : ": " + summary.message));
    }
  }
  return kExitOk;
}

}  // namespace jobc
