#include "runtime/replay.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/json.h"
#include "runtime/state_dir.h"

namespace jobc {
namespace {

constexpr size_t kStderrLines = 20;

bool Tolerated(const ir::Job& job) {
  return job.kind == ir::JobKind::Hook || (job.on_error == ir::Strategy::Ignore && job.kind == ir::JobKind::Job);
}

std::optional<RunEventKind> FinalKind(int64_t state) {
  switch (static_cast<InstanceState>(state)) {
    case InstanceState::Succeeded: return RunEventKind::Succeeded;
    case InstanceState::Failed: return RunEventKind::Failed;
    case InstanceState::Skipped: return RunEventKind::Skipped;
    case InstanceState::Blocked: return RunEventKind::Blocked;
    case InstanceState::Cancelled: return RunEventKind::Cancelled;
    default: return std::nullopt;
  }
}

int64_t Duration(const AttemptView& attempt) {
  const int64_t end = EndOfProgram(attempt);
  return attempt.started_ms != 0 && end >= attempt.started_ms ? end - attempt.started_ms : -1;
}

std::string JsonText(const ir::Value& json, const char* key) {
  const ir::Value* found = json.kind() == ir::ValueKind::Map ? json.Find(key) : nullptr;
  return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
}

}  // namespace

std::optional<RunEvent> EventOf(const RunReader& run, const Record& record) {
  RunEvent event;
  event.record = record.seq;
  event.time_ms = record.time_ms;
  event.at_ms = std::max<int64_t>(0, record.time_ms - run.header().created_ms);
  std::optional<InstanceView> view;
  if (record.job >= 0) {
    const InstanceRef instance{static_cast<uint32_t>(record.job), record.ordinal < 0 ? kWholeJob : static_cast<uint32_t>(record.ordinal)};
    view = run.View(instance);
    event.address = view->address;
    event.max_attempts = static_cast<uint32_t>(run.plan().jobs[instance.job].retry.max_attempts);
  }
  const AttemptView* attempt = nullptr;
  if (view && record.attempt > 0) {
    // The latest of this number: `jobc retry` counts anew.
    for (const AttemptView& one : view->attempts) {
      attempt = one.number == static_cast<uint32_t>(record.attempt) ? &one : attempt;
    }
    event.attempt = static_cast<uint32_t>(record.attempt);
    event.attempt_id = attempt != nullptr ? attempt->id : 0;
  }
  switch (record.type) {
    case RecordType::Opened:
      event.kind = RunEventKind::RunStarted;
      event.run = run.header().id;
      return event;
    case RecordType::Intent:
      event.kind = RunEventKind::Submitting;
      return event;
    case RecordType::Started:
      event.kind = RunEventKind::Started;
      event.pid = record.a;
      return event;
    case RecordType::Adopted:
      if (!record.text.empty()) {
        return std::nullopt;  // of another run; its start is told as any
      }
      event.kind = RunEventKind::Started;
      event.pid = attempt != nullptr ? attempt->pid : 0;
      return event;
    case RecordType::Verdict:
      event.kind = RunEventKind::AttemptEnded;
      if (attempt != nullptr) {
        event.duration_ms = Duration(*attempt);
        event.verdict = attempt->verdict ? std::make_shared<const Verdict>(*attempt->verdict) : nullptr;
      }
      return event;
    case RecordType::Reaped:
      event.kind = RunEventKind::Reaped;
      return event;
    case RecordType::Final: {
      const std::optional<RunEventKind> kind = FinalKind(record.a);
      if (!kind || !view) {
        return std::nullopt;
      }
      event.kind = *kind;
      event.count = static_cast<uint64_t>(std::max<int64_t>(record.b, 1));
      event.tolerated = *kind == RunEventKind::Failed && Tolerated(run.plan().jobs[static_cast<size_t>(record.job)]);
      event.verdict = view->verdict ? std::make_shared<const Verdict>(*view->verdict) : nullptr;
      if (*kind == RunEventKind::Succeeded && view->reused) {
        event.reused_from = view->reused->run;
        if (event.count == 1) {
          event.attempt = view->reused->attempts;
        }
      }
      if (event.count == 1 && !view->attempts.empty()) {
        event.attempt = view->attempts.back().number;
        event.attempt_id = view->attempts.back().id;
        event.duration_ms = Duration(view->attempts.back());
      }
      if (event.verdict != nullptr && !event.verdict->success && *kind != RunEventKind::Failed) {
        event.text = event.verdict->message;
      }
      return event;
    }
    case RecordType::Expanded:
      event.kind = RunEventKind::Expanded;
      event.count = static_cast<uint64_t>(std::max<int64_t>(record.a, 0));
      return event;
    case RecordType::Retry:
      event.kind = RunEventKind::Retrying;
      event.attempt_id = 0;
      event.duration_ms = record.a;
      return event;
    case RecordType::Mode: {
      const auto mode = static_cast<ir::Strategy>(record.a);
      if (mode < ir::Strategy::Drain) {
        return std::nullopt;
      }
      event.kind = RunEventKind::ModeChanged;
      event.text = ModeText(mode);
      return event;
    }
    case RecordType::Stop:
      if (record.a != 1) {
        return std::nullopt;
      }
      event.kind = RunEventKind::Warning;
      event.text = StopText(record.text);
      return event;
    case RecordType::Finished: {
      event.kind = RunEventKind::RunFinished;
      event.run = run.header().id;
      event.exit_code = static_cast<int>(record.a);
      if (auto json = ir::ParseJson(record.text)) {
        event.status = JsonText(*json, "status");
        event.text = JsonText(*json, "message");
      }
      return event;
    }
    case RecordType::Note:
      if (record.a == kNoteOfStaged || record.a == kNoteOfLate) {
        return std::nullopt;
      }
      event.kind = record.a == kNoteOfProgress ? RunEventKind::Note : RunEventKind::Warning;
      event.text = record.text;
      event.address.clear();
      return event;
    case RecordType::Ahead:
    case RecordType::Key:
    case RecordType::Reused: return std::nullopt;
  }
  return std::nullopt;
}

FailureReport ReportOf(const RunReader& run, InstanceRef instance) {
  const ir::Job& job = run.plan().jobs[instance.job];
  const InstanceView view = run.View(instance);
  FailureReport report;
  report.address = view.address;
  report.tolerated = Tolerated(job);
  report.max_attempts = static_cast<uint32_t>(job.retry.max_attempts);
  report.backend = job.kind == ir::JobKind::Check ? "" : std::string(ir::BackendName(job.backend.kind));
  if (job.at.source < run.plan().sources.size()) {
    report.declared_at = fmt::format("{}:{}:{}", run.plan().sources[job.at.source].name, job.at.line, job.at.column);
  }
  if (view.verdict) {
    const Verdict& verdict = *view.verdict;
    report.kind = ir::KindName(verdict.kind);
    report.error_name = verdict.name;
    report.code = verdict.code;
    report.message = verdict.title.empty() || verdict.message.starts_with(verdict.title) ? verdict.message
                     : verdict.message.empty()                                           ? verdict.title
                                                                                         : verdict.title + "\n" + verdict.message;
    report.exit_code = verdict.exit_code;
    report.signal = verdict.signal;
  }
  if (view.attempts.empty()) {
    return report;
  }
  const AttemptView& last = view.attempts.back();
  report.attempts = last.number;
  report.elapsed_ms = Duration(last);
  if (!view.attempts.empty()) {
    report.staged = run.StagedAt(instance, view.attempts.back().number);
  }
  report.logs_command = fmt::format("jobc logs {} {}", run.header().id, ShellQuote(view.address));
  if (auto logs = run.OpenLogs()) {
    auto tail = logs->Tail(last.id, process::LogStream::kStderr, kStderrLines, 64 << 10);
    std::string_view text = tail ? std::string_view(*tail) : std::string_view();
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      report.stderr_lines.emplace_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    report.stderr_total_lines = report.stderr_lines.size();
  }
  return report;
}

}  // namespace jobc
