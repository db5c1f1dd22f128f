#include "runtime/status_printer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "support/text_width.h"

namespace jobc {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

/// As much of a terminal as the display uses: rows that scroll into a history, wrapping, cursor up, erasing a line.
class ScreenModel {
 public:
  ScreenModel(int width, int height) : width_(width), rows_(static_cast<size_t>(height)) {}

  void Write(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
      if (text[at] == '\x1b') {
        at = Escape(text, at);
        continue;
      }
      const Utf8Char c = DecodeUtf8(text, at);
      const std::string_view bytes = text.substr(at, c.size);
      at += c.size;
      if (c.value == '\r') {
        column_ = 0;
      } else if (c.value == '\n') {
        column_ = 0;
        Down();
      } else {
        const int columns = DisplayWidth(c.value);
        ASSERT_GE(columns, 0) << "a control character reached the terminal";
        if (column_ + columns > width_) {
          if (!wraps_) continue;
          column_ = 0;
          Down();
        }
        Put(bytes, columns);
      }
    }
  }
  /// All rows that were ever written, without blanks at their ends; the last is where the cursor stands.
  std::vector<std::string> Rows() const {
    std::vector<std::string> all = history_;
    for (size_t i = 0; i <= row_; ++i) all.push_back(Text(rows_[i]));
    return all;
  }
  bool cursor_hidden() const { return !shown_; }
  bool wraps() const { return wraps_; }
  size_t scrolled() const { return history_.size(); }

 private:
  using Row = std::vector<std::string>;

  static std::string Text(const Row& row) {
    std::string text;
    for (const std::string& cell : row) text += cell;
    while (text.ends_with(' ')) text.pop_back();
    return text;
  }
  void Put(std::string_view bytes, int columns) {
    Row& row = rows_[row_];
    if (columns == 0) {
      if (column_ > 0) row[static_cast<size_t>(column_) - 1] += bytes;
      return;
    }
    row.resize(std::max(row.size(), static_cast<size_t>(column_ + columns)), " ");
    row[static_cast<size_t>(column_)] = bytes;
    for (int i = 1; i < columns; ++i) row[static_cast<size_t>(column_ + i)] = "";
    column_ += columns;
  }
  void Down() {
    if (row_ + 1 < rows_.size()) {
      ++row_;
      return;
    }
    history_.push_back(Text(rows_.front()));
    rows_.erase(rows_.begin());
    rows_.emplace_back();
  }
  size_t Escape(std::string_view text, size_t at) {
    size_t end = at + 2;
    while (end < text.size() && !((text[end] >= 'A' && text[end] <= 'Z') || (text[end] >= 'a' && text[end] <= 'z'))) ++end;
    const std::string_view argument = text.substr(at + 2, end - at - 2);
    switch (text[end]) {
      case 'A': row_ -= std::min(row_, static_cast<size_t>(std::stoi(std::string(argument)))); break;
      case 'K': rows_[row_].resize(std::min(rows_[row_].size(), static_cast<size_t>(column_))); break;
      case 'l': (argument == "?7" ? wraps_ : shown_) = false; break;
      case 'h': (argument == "?7" ? wraps_ : shown_) = true; break;
      case 'm': break;
      default: ADD_FAILURE() << "unknown escape " << text[end];
    }
    return end + 1;
  }

  int width_;
  std::vector<Row> rows_;
  std::vector<std::string> history_;
  size_t row_ = 0;
  int column_ = 0;
  bool shown_ = true;
  bool wraps_ = true;
};

JobProgress Single(std::string name) {
  JobProgress job;
  job.name = std::move(name);
  return job;
}

RunProgress SomeRun() {
  RunProgress run;
  run.name = "0k3v9";
  run.state = "running";
  run.elapsed_ms = 42'000;
  JobProgress fetch = Single("fetch");
  fetch.succeeded = 1;
  fetch.elapsed_ms = 3'200;
  JobProgress align = Single("align");
  align.scatter = true;
  align.succeeded = 3;
  align.running = 2;
  align.failed = 1;
  align.queued = 6;
  align.elapsed_ms = 38'000;
  align.failing_lines = {"one", "two", "three", "bwa: out of memory"};
  JobProgress report = Single("report");
  report.waiting = 1;
  run.jobs = {fetch, align, report};
  return run;
}

TEST(ProgressLines, OneLineAJobAndScattersCollapsed) {
  EXPECT_THAT(ProgressLines(SomeRun(), 80, 24, {}),
              ElementsAre("✓ fetch     3.2s",
                          "✗ align      38s  4/12  1 failed, 2 running, 6 queued",
                          "  │ two",
                          "  │ three",
                          "  │ bwa: out of memory",
                          "· report          waiting",
                          "running 0k3v9  42s  5/14  1 failed, 2 running, 6 queued, 1 waiting"));
}

TEST(ProgressLines, PlainTerminalsGetAscii) {
  PrinterOptions options;
  options.unicode = false;
  for (const int width : {80, 30, 12}) {
    for (const std::string& line : ProgressLines(SomeRun(), width, 4, options)) {
      for (const char c : line) EXPECT_GE(c, ' ') << line;
      EXPECT_LE(line.size(), static_cast<size_t>(width));
    }
  }
}

TEST(ProgressLines, FailuresStayVisibleWhereThereIsNotRoomForAll) {
  RunProgress run = SomeRun();
  run.jobs.clear();
  for (int i = 0; i < 100; ++i) {
    JobProgress job = Single("job" + std::to_string(i));
    (i == 77 ? job.failed : i == 50 ? job.running : i < 50 ? job.succeeded : job.waiting) = 1;
    if (i == 77) job.failing_lines = {"boom"};
    run.jobs.push_back(job);
  }
  const std::vector<std::string> lines = ProgressLines(run, 80, 6, {});
  EXPECT_THAT(lines, SizeIs(6));
  EXPECT_THAT(lines[0], HasSubstr("job50"));
  EXPECT_THAT(lines[2], HasSubstr("✗ job77"));
  EXPECT_THAT(lines[3], HasSubstr("│ boom"));
  EXPECT_THAT(lines[4], HasSubstr("… 97 more jobs: 47 waiting, 50 succeeded"));
  EXPECT_THAT(lines[5], HasSubstr("1 failed"));
}

TEST(ProgressLines, ASmallWindowShowsTheTotalsAtLeast) {
  EXPECT_THAT(ProgressLines(SomeRun(), 80, 1, {}), ElementsAre(HasSubstr("1 failed")));
  EXPECT_THAT(ProgressLines(SomeRun(), 80, 0, {}), SizeIs(0));
  EXPECT_THAT(ProgressLines(SomeRun(), 80, 2, {}), ElementsAre(HasSubstr("… 3 more jobs: 1 failed"), HasSubstr("running")));
}

TEST(ProgressLines, NeverExceedTheWindowWhateverTheNamesAre) {
  std::mt19937 random(3);
  const std::vector<std::string> parts = {"a", "日本", "\x1b[2J", "\xFF", "e\u0301", " ", "long_name_", "😀"};
  for (int round = 0; round < 300; ++round) {
    RunProgress run;
    run.name = "r";
    run.state = "running";
    for (unsigned i = random() % 12; i > 0; --i) {
      JobProgress job;
      for (unsigned k = random() % 10; k > 0; --k) job.name += parts[random() % parts.size()];
      job.failed = random() % 3;
      job.running = random() % 1000;
      job.scatter = random() % 2;
      job.elapsed_ms = static_cast<int64_t>(random() % 1'000'000);
      job.failing_lines.assign(random() % 5, parts[random() % parts.size()] + std::string(random() % 100, 'x'));
      run.jobs.push_back(job);
    }
    const int width = 1 + static_cast<int>(random() % 60), height = 1 + static_cast<int>(random() % 12);
    PrinterOptions options;
    options.unicode = random() % 2;
    const std::vector<std::string> lines = ProgressLines(run, width, height, options);
    ASSERT_LE(lines.size(), static_cast<size_t>(height));
    for (const std::string& line : lines) ASSERT_LE(DisplayWidth(line), width) << line;
  }
}

TEST(LiveDisplay, RedrawsInPlaceAndLeavesTheLastState) {
  ScreenModel screen(80, 24);
  screen.Write("$ jobc run x.job\n");
  LiveDisplay display({});
  RunProgress run = SomeRun();
  screen.Write(display.Update(run, 80, 24));
  EXPECT_TRUE(screen.cursor_hidden());
  screen.Write(display.Update(run, 80, 24));
  run.jobs[1].failing_lines.clear();
  screen.Write(display.Update(run, 80, 24));
  run.state = "failed";
  screen.Write(display.End(run, 80, 24));
  EXPECT_FALSE(screen.cursor_hidden());
  screen.Write("$ ");
  EXPECT_THAT(screen.Rows(), ElementsAre("$ jobc run x.job", HasSubstr("fetch"), HasSubstr("align"), HasSubstr("report"),
                                         HasSubstr("failed 0k3v9"), "$"));
}

TEST(LiveDisplay, EachUpdateIsOneStringWithoutClearingWhatItRedraws) {
  LiveDisplay display({});
  (void)display.Update(SomeRun(), 80, 24);
  const std::string again = display.Update(SomeRun(), 80, 24);
  // The only erasures are to the end of a line just written: nothing blinks.
  EXPECT_LT(again.find("fetch"), again.find("\x1b[K"));
  EXPECT_THAT(again, Not(HasSubstr("\x1b[2")));
  EXPECT_THAT(again, Not(HasSubstr("\x1b[K\n\x1b[K")));
}

TEST(LiveDisplay, ClearTakesItAway) {
  ScreenModel screen(80, 24);
  LiveDisplay display({});
  screen.Write(display.Update(SomeRun(), 80, 24));
  display.PrintAbove("last words");
  screen.Write(display.Clear(80));
  EXPECT_THAT(screen.Rows(), ElementsAre("last words", ""));
  EXPECT_FALSE(screen.cursor_hidden());
}

TEST(LiveDisplay, OutputThatCouldMoveTheCursorIsMadeVisible) {
  LiveDisplay display({});
  display.PrintAbove("\x1b[2Jgone\rover\n");
  EXPECT_THAT(display.Update(SomeRun(), 80, 24), HasSubstr("␛[2Jgone over\n"));
}

/// Whatever the window, the chunks in which output comes and the states between: each line of output stands above the
/// display once, whole and in order, and the display itself is the last thing on the screen.
TEST(LiveDisplay, NeverTearsJobOutput) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const int width = 20 + static_cast<int>(random() % 80), height = 2 + static_cast<int>(random() % 20);
    ScreenModel screen(width, height);
    LiveDisplay display({});
    std::string output;
    for (int i = 0; i < 30; ++i) output += "line " + std::to_string(i) + std::string(random() % 10, '.') + "\n";
    size_t sent = 0;
    RunProgress run = SomeRun();
    while (sent < output.size()) {
      const size_t size = std::min<size_t>(output.size() - sent, random() % 40);
      display.PrintAbove(std::string_view(output).substr(sent, size));
      sent += size;
      run.jobs.resize(random() % 8);
      for (JobProgress& job : run.jobs) {
        job.name = "j";
        job.running = random() % 3;
        job.failed = random() % 2;
        job.failing_lines.assign(random() % 4, "err");
      }
      screen.Write(display.Update(run, width, height));
    }
    screen.Write(display.End(run, width, height));
    std::vector<std::string> expected_display = ProgressLines(run, width - 1, height - 1, {});
    for (std::string& line : expected_display) {
      while (line.ends_with(' ')) line.pop_back();  // a separator that what followed did not fit behind
    }
    std::vector<std::string> rows = screen.Rows();
    ASSERT_EQ(rows.back(), "");
    rows.pop_back();
    std::string above;
    ASSERT_GE(rows.size(), expected_display.size());
    for (size_t i = 0; i + expected_display.size() < rows.size(); ++i) above += rows[i] + "\n";
    ASSERT_EQ(above, output) << "window " << width << "x" << height;
    rows.erase(rows.begin(), rows.end() - static_cast<std::ptrdiff_t>(expected_display.size()));
    ASSERT_EQ(rows, expected_display);
  }
}

TEST(LiveDisplay, SurvivesAWindowThatBecomesNarrower) {
  LiveDisplay display({});
  RunProgress run = SomeRun();
  (void)display.Update(run, 80, 24);
  // At 30 columns the seven lines take 1+2+1+1+1+1+3 rows.
  EXPECT_THAT(display.Update(run, 30, 24), HasSubstr("\x1b[10A\r"));
}

TEST(LiveDisplay, ALineDrawnForAWiderWindowKeepsItsOneRow) {
  // The window has become narrower and jobc does not know it yet.
  ScreenModel screen(30, 24);
  LiveDisplay display({});
  display.PrintAbove(std::string(70, 'x') + "\n");
  screen.Write(display.Update(SomeRun(), 80, 24));
  EXPECT_TRUE(screen.wraps()) << "what jobs print wraps";
  EXPECT_EQ(screen.Rows().size(), 3 + ProgressLines(SomeRun(), 79, 23, {}).size() + 1);
}

TEST(EventLine, SaysWhatHappenedToWhom) {
  ProgressEvent event;
  event.kind = ProgressEvent::Kind::Started;
  event.at_ms = 12'345;
  event.address = "align[\"s1\"]";
  event.attempt = 1;
  event.max_attempts = 6;
  EXPECT_EQ(EventLine(event, {}), "00:12 align[\"s1\"]: started\n");
  event.attempt = 2;
  EXPECT_EQ(EventLine(event, {}), "00:12 align[\"s1\"]: started, attempt 2 of 6\n");
  event.attempt = 7;
  EXPECT_EQ(EventLine(event, {}), "00:12 align[\"s1\"]: started, attempt 7\n") << "resumed; no seventh of six";
  event.attempt = 2;
  event.kind = ProgressEvent::Kind::Retrying;
  event.duration_ms = 30'000;
  event.reason = "node_lost";
  EXPECT_EQ(EventLine(event, {}), "00:12 align[\"s1\"]: retrying in 30s, attempt 2 of 6: node_lost\n");
  event.kind = ProgressEvent::Kind::Failed;
  event.at_ms = 7'384'000;
  event.reason = "exit 3";
  EXPECT_EQ(EventLine(event, {}), "2:03:04 align[\"s1\"]: failed in 30s: exit 3 (after 2 attempts)\n");
  event.kind = ProgressEvent::Kind::Skipped;
  event.reason = "`when` is false\x1b[0m";
  EXPECT_EQ(EventLine(event, {}), "2:03:04 align[\"s1\"]: skipped: `when` is false␛[0m\n");
  event.kind = ProgressEvent::Kind::Cancelled;
  event.reason = "align: no docker engine";
  EXPECT_EQ(EventLine(event, {}), "2:03:04 align[\"s1\"]: cancelled: no docker engine\n") << "its name once";
  event.reason = "aligned: no docker engine";
  EXPECT_EQ(EventLine(event, {}), "2:03:04 align[\"s1\"]: cancelled: aligned: no docker engine\n") << "another job's stays";
}

TEST(FailureText, DoesNotCallACheckSomethingThatFailedBeforeAnythingWasStarted) {
  FailureReport report;
  report.address = "enough";
  report.kind = "check";
  report.message = "too few reads";
  EXPECT_EQ(FailureText(report, {}).find("before anything"), std::string::npos);
  report.kind = "expression";
  EXPECT_NE(FailureText(report, {}).find("before anything was started"), std::string::npos);
}

TEST(ClosingLine, SumsUpTheRun) {
  RunProgress run = SomeRun();
  run.state = "failed";
  run.jobs[1].cached = 2;
  EXPECT_EQ(ClosingLine(run, {}), "run 0k3v9: failed in 42s: 1 failed, 2 running, 6 queued, 1 waiting, 4 succeeded, 2 reused\n");
}

TEST(FailureText, HoldsAllThatAPersonNeeds) {
  FailureReport report;
  report.address = "align[\"s1\"]";
  report.kind = "exit";
  report.exit_code = 3;
  report.attempts = 2;
  report.max_attempts = 2;
  report.elapsed_ms = 3'200;
  report.backend = "process";
  report.declared_at = "cohort.job:42:5";
  for (int i = 0; i < 25; ++i) report.stderr_lines.push_back("line " + std::to_string(i));
  report.stderr_total_lines = 4000;
  report.stderr_path = ".jobc/runs/x/align/2.stderr";
  report.logs_command = "jobc logs 0k3v9 'align[\"s1\"]'";
  report.reproduce_command = "cd out && bwa mem \"$TOKEN\"";
  report.message = "the input is malformed";
  report.helps = {"raise the limit"};
  const std::string text = FailureText(report, {});
  EXPECT_TRUE(text.starts_with("failed: align[\"s1\"]: exit 3, attempt 2 of 2 after 3.2s\n"
                               "  --> cohort.job:42:5 on process\n"
                               "   = the input is malformed\n"
                               "   | stderr, last 20 of 4000 lines (.jobc/runs/x/align/2.stderr):\n"
                               "   | line 5\n"))
      << text;
  EXPECT_TRUE(text.ends_with("   | line 24\n"
                             "   = help: raise the limit\n"
                             "   = all output:  jobc logs 0k3v9 'align[\"s1\"]'\n"
                             "   = reproduce:   cd out && bwa mem \"$TOKEN\"\n"))
      << text;
}

TEST(FailureText, KeepsTheLinesOfACommandThatCanBeCopied) {
  FailureReport report;
  report.address = "a";
  report.kind = "exit";
  report.exit_code = 3;
  report.message = "exit code 3";
  report.attempts = 1;
  report.reproduce_command = "cd x && python3 -c 'if True:\n    print(1)\n'";
  EXPECT_EQ(FailureText(report, {}),
            "failed: a: exit 3\n"
            "   | stderr is empty\n"
            "   = reproduce:   cd x && python3 -c 'if True:\n    print(1)\n'\n");
}

TEST(FailureText, NamesSignalsAndWhatNeverStarted) {
  FailureReport report;
  report.address = "a";
  report.kind = "signal";
  report.signal = 11;
  report.attempts = 1;
  report.max_attempts = 1;
  EXPECT_EQ(FailureText(report, {}), "failed: a: signal (signal 11, SIGSEGV)\n   | stderr is empty\n");
  report = {};
  report.address = "a";
  report.kind = "expression";
  report.tolerated = true;
  EXPECT_EQ(FailureText(report, {}), "failed, ignored: a: expression, before anything was started\n");
}

TEST(ElapsedText, IsShortAtEverySize) {
  EXPECT_EQ(ElapsedText(0), "0ms");
  EXPECT_EQ(ElapsedText(999), "999ms");
  EXPECT_EQ(ElapsedText(3'250), "3.2s");
  EXPECT_EQ(ElapsedText(59'999), "59s");
  EXPECT_EQ(ElapsedText(185'000), "3m05s");
  EXPECT_EQ(ElapsedText(7'380'000), "2h03m");
  EXPECT_EQ(ElapsedText(100'800'000), "1d04h");
  EXPECT_EQ(ElapsedText(-5), "0ms");
}

}  // namespace
}  // namespace jobc
