#include "runtime/events.h"

#include <fmt/format.h>
#include <string.h>

#include "ir/json.h"

namespace jobc {

std::string_view EventName(RunEventKind kind) {
  switch (kind) {
    case RunEventKind::RunStarted: return "run_started";
    case RunEventKind::Queued: return "queued";
    case RunEventKind::Staging: return "staging";
    case RunEventKind::Submitting: return "submitting";
    case RunEventKind::Submitted: return "submitted";
    case RunEventKind::Polling: return "polling";
    case RunEventKind::Started: return "started";
    case RunEventKind::AttemptEnded: return "attempt_ended";
    case RunEventKind::KillSent: return "kill_sent";
    case RunEventKind::Reaped: return "reaped";
    case RunEventKind::Retrying: return "retrying";
    case RunEventKind::Succeeded: return "succeeded";
    case RunEventKind::Failed: return "failed";
    case RunEventKind::Skipped: return "skipped";
    case RunEventKind::Blocked: return "blocked";
    case RunEventKind::Cancelled: return "cancelled";
    case RunEventKind::Expanded: return "expanded";
    case RunEventKind::ModeChanged: return "mode_changed";
    case RunEventKind::Phase: return "phase";
    case RunEventKind::Note: return "note";
    case RunEventKind::Warning: return "warning";
    case RunEventKind::RunFinished: return "run_finished";
  }
  return "unknown";
}

std::string ReasonText(const Verdict& verdict) {
  std::string what;
  if (verdict.signal) {
    const char* name = sigabbrev_np(*verdict.signal);
    what = name != nullptr ? fmt::format("signal {} (SIG{})", *verdict.signal, name) : fmt::format("signal {}", *verdict.signal);
  } else if (verdict.exit_code && (*verdict.exit_code != 0 || verdict.kind == ir::ErrorKind::Exit)) {
    what = fmt::format("exit {}", *verdict.exit_code);
  }
  if (!verdict.name.empty()) {
    return what.empty() ? verdict.name : fmt::format("{} ({})", verdict.name, what);
  }
  if (verdict.kind == ir::ErrorKind::Exit || verdict.kind == ir::ErrorKind::Signal) {
    return what.empty() ? std::string(ir::KindName(verdict.kind)) : what;
  }
  std::string kind(ir::KindName(verdict.kind));
  if (!verdict.code.empty()) kind += fmt::format(" [{}]", verdict.code);
  return what.empty() ? kind : fmt::format("{} ({})", kind, what);
}

std::string ModeText(ir::Strategy mode) {
  return mode == ir::Strategy::Halt ? "halt: everything that is not finished is cancelled" : "drain: nothing new is started, running jobs finish";
}

std::string StopText(const std::string& who) { return fmt::format("interrupted by {}: cancelling all jobs, then `finally`; again to stop at once", who); }

std::string EventJson(const RunEvent& event) {
  std::string out = "{";
  auto field = [&](std::string_view name, const std::string& json) { out += fmt::format("{}\"{}\":{}", out.size() > 1 ? "," : "", name, json); };
  auto text = [&](std::string_view name, std::string_view value) {
    if (!value.empty()) {
      field(name, ir::JsonQuote(value));
    }
  };
  field("event", ir::JsonQuote(EventName(event.kind)));
  if (event.kind == RunEventKind::RunStarted) {
    field("schema", ir::JsonQuote(kEventSchema));
  }
  field("time_ms", std::to_string(event.time_ms));
  if (event.record != 0) {
    field("record", std::to_string(event.record));
  }
  text("run", event.run);
  text("address", event.address);
  if (event.count != 1) {
    field("count", std::to_string(event.count));
  }
  if (event.attempt != 0) {
    field("attempt", std::to_string(event.attempt));
  }
  if (event.attempt_id != 0) {
    field("attempt_id", std::to_string(event.attempt_id));
  }
  if (event.pid != 0) {
    field("pid", std::to_string(event.pid));
  }
  if (event.duration_ms >= 0) {
    field(event.kind == RunEventKind::Retrying ? "delay_ms" : "duration_ms", std::to_string(event.duration_ms));
  }
  if (event.kind == RunEventKind::Failed) {
    field("tolerated", event.tolerated ? "true" : "false");
  }
  if (event.verdict != nullptr) {
    const Verdict& verdict = *event.verdict;
    field("success", verdict.success ? "true" : "false");
    if (!verdict.success && event.kind != RunEventKind::Blocked && event.kind != RunEventKind::Skipped) {
      text("kind", ir::KindName(verdict.kind));
      text("class", ir::ClassName(verdict.error_class));
      text("code", verdict.code);
      text("name", verdict.name);
      text("title", verdict.title);
    }
    if (!verdict.success) {
      text("message", verdict.message);
    }
    if (verdict.exit_code) {
      field("exit_code", std::to_string(*verdict.exit_code));
    }
    if (verdict.signal) {
      field("signal", std::to_string(*verdict.signal));
    }
  }
  text("reused_from", event.reused_from);
  text("text", event.text);
  if (event.kind == RunEventKind::RunFinished) {
    field("exit_code", std::to_string(event.exit_code));
    text("status", event.status);
  }
  return out + "}";
}

std::optional<ProgressEvent> ToProgressEvent(const RunEvent& event) {
  ProgressEvent out;
  out.at_ms = event.at_ms;
  out.address = event.address;
  out.attempt = event.attempt;
  out.max_attempts = event.max_attempts;
  out.duration_ms = event.duration_ms;
  out.reason = event.text;
  if (event.verdict != nullptr && !event.verdict->success && out.reason.empty()) {
    out.reason = ReasonText(*event.verdict);
  }
  switch (event.kind) {
    case RunEventKind::Started: out.kind = ProgressEvent::Kind::Started; break;
    case RunEventKind::Succeeded:
      out.kind = event.reused_from.empty() ? ProgressEvent::Kind::Succeeded : ProgressEvent::Kind::Reused;
      if (!event.reused_from.empty()) {
        out.reason = "of run " + event.reused_from;
        out.duration_ms = -1;
        out.attempt = 0;
      }
      break;
    case RunEventKind::Failed: out.kind = event.tolerated ? ProgressEvent::Kind::Tolerated : ProgressEvent::Kind::Failed; break;
    case RunEventKind::Retrying: out.kind = ProgressEvent::Kind::Retrying; break;
    case RunEventKind::Skipped: out.kind = ProgressEvent::Kind::Skipped; break;
    case RunEventKind::Blocked: out.kind = ProgressEvent::Kind::Blocked; break;
    case RunEventKind::Cancelled: out.kind = ProgressEvent::Kind::Cancelled; break;
    case RunEventKind::Warning:
      out.kind = ProgressEvent::Kind::Note;
      out.reason = "warning: " + out.reason;
      break;
    case RunEventKind::Note:
    case RunEventKind::ModeChanged: out.kind = ProgressEvent::Kind::Note; break;
    case RunEventKind::Staging:
      out.kind = ProgressEvent::Kind::Note;
      out.reason = "fetching " + out.reason;
      break;
    default: return std::nullopt;
  }
  if (event.count > 1) {
    out.reason += fmt::format("{}and {} more", out.reason.empty() ? "" : "; ", event.count - 1);
  }
  return out;
}

}  // namespace jobc
