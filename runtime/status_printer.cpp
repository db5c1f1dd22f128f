#include "runtime/status_printer.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

#include "support/text_width.h"

namespace jobc {
namespace {

constexpr std::string_view kRed = "\x1b[1;31m", kGreen = "\x1b[32m", kYellow = "\x1b[33m", kBlue = "\x1b[1;34m",
                           kCyan = "\x1b[36m", kBold = "\x1b[1m", kDim = "\x1b[2m";
constexpr size_t kMostFailingLines = 3;
constexpr size_t kReportedLines = 20;

std::string Paint(std::string_view text, std::string_view style, const PrinterOptions& options) {
  if (!options.color || style.empty() || text.empty()) return std::string(text);
  return fmt::format("{}{}\x1b[0m", style, text);
}

/// A line of at most `width` columns, made of pieces; what does not fit is cut, and colours are always closed.
class Line {
 public:
  Line(int width, const PrinterOptions& options) : width_(width), options_(options) {}

  void Add(std::string_view text, std::string_view style = {}) {
    if (text.find_first_not_of(' ') == std::string_view::npos) return PadTo(used_ + static_cast<int>(text.size()));
    const int room = width_ - used_;
    if (room <= 0) return;
    const std::string visible = VisibleText(text);
    std::string fitted = FitToWidth(visible, room);
    if (!options_.unicode && fitted != visible) {
      // The ellipsis of FitToWidth is no ASCII; where it stands, one column is free.
      fitted = fitted.substr(0, fitted.size() - std::strlen("…")) + ">";
    }
    out_.append(static_cast<size_t>(pending_), ' ');
    pending_ = 0;
    used_ += DisplayWidth(fitted);
    out_ += Paint(fitted, style, options_);
  }
  /// Blanks up to `column`, written when something follows.
  void PadTo(int column) {
    const int missing = std::min(column, width_) - used_;
    if (missing <= 0) return;
    pending_ += missing;
    used_ += missing;
  }
  int used() const { return used_; }
  std::string Take() && { return std::move(out_); }

 private:
  int width_;
  const PrinterOptions& options_;
  std::string out_;
  int used_ = 0;
  int pending_ = 0;
};

enum class Mark { Failed, Lost, Running, Retrying, Queued, Waiting, Succeeded, Tolerated, Skipped, Cancelled };

Mark MarkOf(const JobProgress& job) {
  if (job.failed > job.tolerated) return Mark::Failed;
  if (job.lost > 0) return Mark::Lost;
  if (job.running > 0) return Mark::Running;
  if (job.retrying > 0) return Mark::Retrying;
  if (job.queued > 0) return Mark::Queued;
  if (job.waiting > 0 || !job.expanded) return Mark::Waiting;
  if (job.cancelled > 0 || job.blocked > 0) return Mark::Cancelled;
  if (job.tolerated > 0) return Mark::Tolerated;
  if (job.succeeded == 0 && job.skipped > 0) return Mark::Skipped;
  return Mark::Succeeded;
}

struct Sign {
  std::string_view unicode;
  std::string_view ascii;
  std::string_view style;
};

Sign SignOf(Mark mark) {
  switch (mark) {
    case Mark::Failed: return {"✗", "x", kRed};
    case Mark::Lost: return {"!", "!", kYellow};
    case Mark::Running: return {"▸", ">", kCyan};
    case Mark::Retrying: return {"↻", "~", kYellow};
    case Mark::Queued: return {"◦", "o", {}};
    case Mark::Waiting: return {"·", ".", kDim};
    case Mark::Succeeded: return {"✓", "+", kGreen};
    case Mark::Tolerated: return {"!", "!", kYellow};
    case Mark::Skipped: return {"-", "-", kDim};
    case Mark::Cancelled: return {"-", "-", kYellow};
  }
  return {};
}

/// Lower is shown first where there is not room for all.
int Urgency(Mark mark) {
  switch (mark) {
    case Mark::Failed: return 0;
    case Mark::Lost:
    case Mark::Running: return 1;
    case Mark::Retrying: return 2;
    case Mark::Queued: return 3;
    case Mark::Tolerated: return 4;
    case Mark::Cancelled: return 5;
    case Mark::Waiting: return 6;
    case Mark::Succeeded: return 7;
    case Mark::Skipped: return 8;
  }
  return 9;
}

struct Counted {
  uint64_t count;
  std::string_view word;
  std::string_view style;
};

JobProgress SumOf(const std::vector<JobProgress>& jobs) {
  JobProgress sum;
  for (const JobProgress& job : jobs) {
    sum.waiting += job.waiting;
    sum.queued += job.queued;
    sum.running += job.running;
    sum.lost += job.lost;
    sum.retrying += job.retrying;
    sum.succeeded += job.succeeded;
    sum.cached += job.cached;
    sum.failed += job.failed;
    sum.tolerated += job.tolerated;
    sum.skipped += job.skipped;
    sum.blocked += job.blocked;
    sum.cancelled += job.cancelled;
    if (!job.expanded) sum.expanded = false;
  }
  return sum;
}

/// `1 failed, 2 running, 3 succeeded (1 reused)`: what is not zero, the most urgent first.
std::vector<Counted> CountsOf(const JobProgress& job, bool with_succeeded) {
  std::vector<Counted> counts = {
      {job.failed - std::min(job.tolerated, job.failed), "failed", kRed},
      {job.tolerated, "failed (ignored)", kYellow},
      {job.lost, "lost", kYellow},
      {job.running, "running", kCyan},
      {job.retrying, "retrying", kYellow},
      {job.queued, "queued", {}},
      {job.waiting, "waiting", kDim},
      {with_succeeded ? job.succeeded : 0, "succeeded", kGreen},
      {job.cached, "reused", kDim},
      {job.skipped, "skipped", kDim},
      {job.blocked, "blocked", kYellow},
      {job.cancelled, "cancelled", kYellow},
  };
  std::erase_if(counts, [](const Counted& c) { return c.count == 0; });
  return counts;
}

void AddCounts(Line& line, const JobProgress& job, bool with_succeeded) {
  bool first = true;
  for (const Counted& c : CountsOf(job, with_succeeded)) {
    if (!first) line.Add(", ");
    first = false;
    line.Add(fmt::format("{} {}", c.count, c.word), c.style);
  }
}

std::string JobLine(const JobProgress& job, int name_width, int width, const PrinterOptions& options) {
  const Mark mark = MarkOf(job);
  const Sign sign = SignOf(mark);
  Line line(width, options);
  line.Add(options.unicode ? sign.unicode : sign.ascii, sign.style);
  line.Add(" ");
  line.Add(job.name, mark == Mark::Failed ? kRed : mark == Mark::Waiting || mark == Mark::Skipped ? kDim : std::string_view());
  line.PadTo(2 + name_width + 2);
  if (job.elapsed_ms >= 0) line.Add(fmt::format("{:>6}", ElapsedText(job.elapsed_ms)), kDim);
  line.PadTo(2 + name_width + 2 + 6 + 2);
  if (job.scatter) {
    if (job.expanded) {
      line.Add(fmt::format("{}/{}", job.final(), job.total()));
    } else {
      line.Add("instances not known yet", kDim);
    }
    Line counts(width, options);
    AddCounts(counts, job, false);
    if (counts.used() > 0) {
      line.Add("  ");
      AddCounts(line, job, false);
    }
  } else if (mark != Mark::Succeeded || job.cached > 0) {
    const auto counts = CountsOf(job, true);
    // A single instance is in one state: its word is enough.
    if (!counts.empty()) line.Add(job.cached > 0 ? "reused" : counts.front().word, counts.front().style);
  }
  if (!job.note.empty()) {
    line.Add("  ");
    line.Add(job.note, kDim);
  }
  return std::move(line).Take();
}

std::string TotalsLine(const RunProgress& run, int width, const PrinterOptions& options) {
  const JobProgress sum = SumOf(run.jobs);
  Line line(width, options);
  line.Add(run.state, run.state == "running" || run.state == "succeeded" ? kBold : kYellow);
  line.Add(" ");
  line.Add(run.name);
  line.Add(fmt::format("  {}  {}/{}{}", ElapsedText(run.elapsed_ms), sum.final(), sum.total(), sum.expanded ? "" : "+"));
  if (!CountsOf(sum, false).empty()) line.Add("  ");
  AddCounts(line, sum, false);
  return std::move(line).Take();
}

std::string SignalText(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("signal {}, SIG{}", signal, name);
}

std::string Clock(int64_t ms) {
  const int64_t seconds = std::max<int64_t>(ms, 0) / 1000;
  if (seconds >= 3600) return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  return fmt::format("{:02}:{:02}", seconds / 60, seconds % 60);
}

std::string AttemptText(uint32_t attempt, uint32_t max) {
  // Resumes go on counting, beyond what `retry` grants.
  return max > 0 && attempt <= max ? fmt::format("attempt {} of {}", attempt, max) : fmt::format("attempt {}", attempt);
}

std::string Up(int rows) { return rows > 0 ? fmt::format("\x1b[{}A\r", rows) : "\r"; }

/// Clears this row and the next ones, `rows` in all, and comes back. Row by row: tmux takes "erase to the end of the
/// screen" on its first row for a clear screen and keeps a copy of what was there in its history.
std::string ClearRows(int rows) {
  if (rows <= 0) return {};
  std::string out;
  for (int i = 0; i < rows; ++i) out += "\x1b[K\n";
  return out + Up(rows);
}

std::string WithoutColors(std::string_view line) {
  std::string plain;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b') {
      i = line.find('m', i);
    } else {
      plain += line[i];
    }
  }
  return plain;
}

}  // namespace

std::string ElapsedText(int64_t ms) {
  ms = std::max<int64_t>(ms, 0);
  if (ms < 1000) return fmt::format("{}ms", ms);
  if (ms < 10'000) return fmt::format("{}.{}s", ms / 1000, ms / 100 % 10);
  const int64_t s = ms / 1000;
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

std::vector<std::string> ProgressLines(const RunProgress& run, int width, int height, const PrinterOptions& options) {
  if (height <= 0 || width <= 0) return {};
  int name_width = 0;
  for (const JobProgress& job : run.jobs) name_width = std::max(name_width, DisplayWidth(VisibleText(job.name)));
  name_width = std::min(name_width, std::max(8, width / 3));

  // Which jobs have a line: all, or the most urgent ones, shown in plan order either way.
  const size_t room = static_cast<size_t>(height) - 1;  // above the totals
  std::vector<size_t> shown(run.jobs.size());
  for (size_t i = 0; i < shown.size(); ++i) shown[i] = i;
  std::vector<JobProgress> hidden;
  // A third of the room may go to why jobs failed, at the cost of lines of jobs that did not.
  size_t reasons = 0;
  for (const JobProgress& job : run.jobs) {
    if (MarkOf(job) == Mark::Failed) reasons += std::min(job.failing_lines.size(), kMostFailingLines);
  }
  reasons = std::min(reasons, room / 3);
  if (run.jobs.size() + reasons > room) {
    std::stable_sort(shown.begin(), shown.end(), [&](size_t a, size_t b) {
      return Urgency(MarkOf(run.jobs[a])) < Urgency(MarkOf(run.jobs[b]));
    });
    const size_t kept = room > 0 ? room - 1 - reasons : 0;  // one line counts the others
    for (size_t i = kept; i < shown.size(); ++i) hidden.push_back(run.jobs[shown[i]]);
    shown.resize(kept);
    std::sort(shown.begin(), shown.end());
  }

  size_t free = room - std::min(room, shown.size() + (hidden.empty() || room == 0 ? 0 : 1));
  std::vector<std::string> lines;
  for (const size_t i : shown) {
    const JobProgress& job = run.jobs[i];
    lines.push_back(JobLine(job, name_width, width, options));
    if (MarkOf(job) != Mark::Failed) continue;
    const size_t count = std::min({job.failing_lines.size(), kMostFailingLines, free});
    for (size_t k = job.failing_lines.size() - count; k < job.failing_lines.size(); ++k) {
      Line line(width, options);
      line.Add(options.unicode ? "  │ " : "  | ", kRed);
      line.Add(job.failing_lines[k]);
      lines.push_back(std::move(line).Take());
    }
    free -= count;
  }
  if (!hidden.empty() && room > 0) {
    Line line(width, options);
    const JobProgress sum = SumOf(hidden);
    line.Add(fmt::format("{} {} more {}", options.unicode ? "…" : "...", hidden.size(), hidden.size() == 1 ? "job" : "jobs"), kDim);
    if (!CountsOf(sum, true).empty()) line.Add(": ", kDim);
    AddCounts(line, sum, true);
    lines.push_back(std::move(line).Take());
  }
  lines.push_back(TotalsLine(run, width, options));
  return lines;
}

// ---------------------------------------------------------------------------------------------------------------------

void LiveDisplay::PrintAbove(std::string_view text) {
  partial_ += text;
  const size_t end = partial_.rfind('\n');
  if (end == std::string::npos) return;
  std::string_view whole(partial_.data(), end + 1);
  while (!whole.empty()) {
    const size_t line_end = whole.find('\n');
    std::string_view line = whole.substr(0, line_end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    above_ += VisibleText(line);
    above_ += '\n';
    whole.remove_prefix(line_end + 1);
  }
  partial_.erase(0, end + 1);
}

void LiveDisplay::PrintAboveRaw(std::string_view text) {
  above_ += text;
  if (!text.empty() && !text.ends_with('\n')) above_ += '\n';
}

std::string LiveDisplay::TakeAbove(bool all) {
  if (all && !partial_.empty()) PrintAbove("\n");
  return std::exchange(above_, {});
}

int LiveDisplay::TakeDrawnRows(int width) {
  // A window that has become narrower has wrapped the lines: count the rows they take now.
  int rows = 0;
  for (const int columns : drawn_widths_) rows += width > 0 ? std::max(1, (columns + width - 1) / width) : 1;
  drawn_widths_.clear();
  return rows;
}

std::string LiveDisplay::Update(const RunProgress& run, int width, int height) {
  // One row is the cursor's: a display as tall as the window would scroll with every redraw. One column stays free, as
  // some terminals wrap when the last one is written.
  const std::vector<std::string> lines = ProgressLines(run, width - 1, height - 1, options_);
  const bool first = drawn_widths_.empty();
  const int old_rows = TakeDrawnRows(width);
  const std::string above = TakeAbove(false);
  std::string out = first ? "\x1b[?25l" : Up(old_rows);
  // Text of any width goes where the display was: clear that first, then let it wrap as it likes.
  if (!above.empty()) out += ClearRows(old_rows) + above;
  // Without wrapping: until jobc learns that the window has become narrower, a line is cut there and keeps its one row.
  out += "\x1b[?7l";
  for (const std::string& line : lines) {
    out += line;
    out += "\x1b[K\n";
    drawn_widths_.push_back(DisplayWidth(WithoutColors(line)));
  }
  out += "\x1b[?7h";
  if (above.empty()) out += ClearRows(old_rows - static_cast<int>(lines.size()));
  return out;
}

std::string LiveDisplay::End(const RunProgress& run, int width, int height) {
  if (!partial_.empty()) PrintAbove("\n");
  std::string out = Update(run, width, height);
  drawn_widths_.clear();
  return out + "\x1b[?25h";
}

std::string LiveDisplay::Clear(int width) {
  if (drawn_widths_.empty()) return TakeAbove(true);
  const int rows = TakeDrawnRows(width);
  return Up(rows) + ClearRows(rows) + TakeAbove(true) + "\x1b[?25h";
}

// ---------------------------------------------------------------------------------------------------------------------

std::string EventLine(const ProgressEvent& event, const PrinterOptions& options) {
  using Kind = ProgressEvent::Kind;
  std::string text;
  std::string_view style;
  const std::string took = event.duration_ms >= 0 ? fmt::format(" in {}", ElapsedText(event.duration_ms)) : "";
  std::string_view reason = event.reason;
  const std::string_view job = std::string_view(event.address).substr(0, event.address.find('['));
  if (!job.empty() && reason.starts_with(job) && reason.substr(job.size()).starts_with(": ")) {
    reason.remove_prefix(job.size() + 2);  // the line begins with it
  }
  const std::string why = reason.empty() ? "" : ": " + VisibleText(reason);
  switch (event.kind) {
    case Kind::Started:
      text = event.attempt > 1 ? fmt::format("started, {}", AttemptText(event.attempt, event.max_attempts)) : "started";
      break;
    case Kind::Succeeded: text = "succeeded" + took, style = kGreen; break;
    case Kind::Reused: text = "reused" + why, style = kGreen; break;
    case Kind::Failed:
    case Kind::Tolerated:
      text = "failed" + took + why;
      if (event.attempt > 1) text += fmt::format(" (after {} attempts)", event.attempt);
      if (event.kind == Kind::Tolerated) text += " (ignored)";
      style = event.kind == Kind::Failed ? kRed : kYellow;
      break;
    case Kind::Retrying:
      text = event.duration_ms > 0 ? fmt::format("retrying in {}", ElapsedText(event.duration_ms)) : "retrying";
      if (event.attempt > 0) text += fmt::format(", {}", AttemptText(event.attempt, event.max_attempts));
      text += why;
      style = kYellow;
      break;
    case Kind::Skipped: text = "skipped" + why; break;
    case Kind::Blocked: text = "blocked" + why, style = kYellow; break;
    case Kind::Cancelled: text = "cancelled" + why, style = kYellow; break;
    case Kind::Note: text = VisibleText(event.reason); break;
  }
  const std::string address = event.address.empty() ? "" : VisibleText(event.address) + ": ";
  return fmt::format("{} {}{}\n", Paint(Clock(event.at_ms), kDim, options), address, Paint(text, style, options));
}

std::string ClosingLine(const RunProgress& run, const PrinterOptions& options) {
  const JobProgress sum = SumOf(run.jobs);
  std::string counts;
  for (const Counted& c : CountsOf(sum, true)) {
    counts += fmt::format("{}{} {}", counts.empty() ? ": " : ", ", c.count, c.word);
  }
  const std::string_view style = run.state == "succeeded" ? kGreen : run.state == "failed" ? kRed : kYellow;
  return fmt::format("run {}: {} in {}{}\n", VisibleText(run.name), Paint(run.state, style, options),
                     ElapsedText(run.elapsed_ms), counts);
}

std::string FailureText(const FailureReport& report, const PrinterOptions& options) {
  std::string what = report.error_name.empty() ? report.kind : VisibleText(report.error_name);
  if (!report.code.empty()) what += fmt::format(" [{}]", report.code);
  if (report.exit_code && what == "exit") {
    what += fmt::format(" {}", *report.exit_code);
  } else if (report.exit_code && *report.exit_code != 0) {
    what += fmt::format(" (exit {})", *report.exit_code);
  }
  if (report.signal) what += fmt::format(" ({})", SignalText(*report.signal));
  std::string out = fmt::format("{} {}: {}", Paint(report.tolerated ? "failed, ignored:" : "failed:", report.tolerated ? kYellow : kRed, options),
                                Paint(VisibleText(report.address), kBold, options), what);
  if (report.attempts == 0 && report.kind == "check") {
    // What it looks at has run; a check itself starts nothing.
  } else if (report.attempts == 0) {
    out += ", before anything was started";
  } else if (report.attempts == 1 && report.max_attempts <= 1) {
    if (report.elapsed_ms >= 0) out += fmt::format(", after {}", ElapsedText(report.elapsed_ms));
  } else {
    out += ", " + AttemptText(report.attempts, report.max_attempts);
    if (report.elapsed_ms >= 0) out += fmt::format(" after {}", ElapsedText(report.elapsed_ms));
  }
  out += '\n';
  const auto row = [&](std::string_view lead, std::string_view text) {
    out += fmt::format("  {} {}\n", Paint(lead, kBlue, options), text);
  };
  if (!report.declared_at.empty()) {
    row("-->", VisibleText(report.declared_at) + (report.backend.empty() ? "" : fmt::format(" on {}", VisibleText(report.backend))));
  }
  std::string_view message = report.message;
  if (report.exit_code) {  // the first line says so
    const std::string code = fmt::format("exit code {}", *report.exit_code);
    if (message == code) message = {};
    else if (message.starts_with(code + "; ")) message.remove_prefix(code.size() + 2);
  }
  while (!message.empty()) {
    const size_t end = message.find('\n');
    row(" =", VisibleText(message.substr(0, end)));
    message.remove_prefix(end == std::string_view::npos ? message.size() : end + 1);
  }
  if (!report.stderr_lines.empty()) {
    const size_t count = std::min(report.stderr_lines.size(), kReportedLines);
    const uint64_t total = std::max<uint64_t>(report.stderr_total_lines, report.stderr_lines.size());
    const std::string place = report.stderr_path.empty() ? "" : fmt::format(" ({})", VisibleText(report.stderr_path));
    row(" |", Paint(count < total ? fmt::format("stderr, last {} of {} lines{}:", count, total, place) : fmt::format("stderr{}:", place),
                    kDim, options));
    for (size_t i = report.stderr_lines.size() - count; i < report.stderr_lines.size(); ++i) {
      row(" |", VisibleText(report.stderr_lines[i]));
    }
  } else if (report.attempts > 0) {
    row(" |", Paint("stderr is empty", kDim, options));
  }
  if (!report.code.empty()) row(" =", fmt::format("what it means:  jobc explain {}", report.code));
  for (const std::string& help : report.helps) row(" =", Paint("help", kCyan, options) + ": " + VisibleText(help));
  if (!report.staged.empty()) row(" =", "staged:      " + VisibleText(report.staged));
  if (!report.logs_command.empty()) row(" =", "all output:  " + VisibleText(report.logs_command));
  if (!report.reproduce_command.empty()) {
    // Line breaks and indentation belong to the command (a quoted script): its other lines start at the margin, so that
    // it can be copied as it stands.
    std::string_view command = report.reproduce_command;
    row(" =", "reproduce:   " + VisibleText(command.substr(0, command.find('\n'))));
    for (size_t end = command.find('\n'); end != std::string_view::npos; end = command.find('\n')) {
      command.remove_prefix(end + 1);
      out += VisibleText(command.substr(0, command.find('\n'))) + '\n';
    }
  }
  return out;
}

}  // namespace jobc
