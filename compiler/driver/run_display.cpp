#include "compiler/driver/run_display.h"

#include <algorithm>
#include <optional>

namespace jobc {

RunDisplay::RunDisplay(Terminal& terminal, bool json, bool live)
    : terminal_(terminal), json_(json), live_(live && !json), options_{terminal.err_color(), terminal.unicode()}, display_(options_) {
  interval_ms = live_ ? 100 : 0;
}

void RunDisplay::OnEvent(const RunEvent& event) {
  if (json_) {
    terminal_.Out(EventJson(event) + "\n");
    return;
  }
  std::optional<ProgressEvent> progress = ToProgressEvent(event);
  if (!progress) return;
  if (live_) {
    if (progress->kind == ProgressEvent::Kind::Note) display_.PrintAboveRaw(EventLine(*progress, options_));
  } else {
    lines_ += EventLine(*progress, options_);
  }
}

void RunDisplay::OnFailure(const FailureReport& report) {
  if (json_ || report.tolerated) return;
  if (live_) {
    display_.PrintAboveRaw(FailureText(report, options_));
  } else {
    lines_ += FailureText(report, options_);
  }
}

void RunDisplay::OnBatchEnd() {
  terminal_.Flush();
  if (!lines_.empty()) {
    terminal_.Err(lines_);
    lines_.clear();
  }
}

void RunDisplay::OnTick(const RunProgress& progress) {
  terminal_.Err(display_.Update(progress, std::max(terminal_.width(), 20), std::max(terminal_.height(), 4)));
}

void RunDisplay::End(const RunProgress& progress) {
  if (json_) return;
  if (live_) terminal_.Err(display_.End(progress, std::max(terminal_.width(), 20), std::max(terminal_.height(), 4)));
  terminal_.Err(ClosingLine(progress, options_));
}

}  // namespace jobc
