// What a run looks like on a terminal and in a log file. Pure functions from progress.h to text, and LiveDisplay, which
// remembers what it has drawn so that the next text replaces it in place. Nothing here writes: the caller passes each
// returned string to one write(), so that a redraw never flickers and lines of jobs are never torn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/progress.h"

namespace jobc {

struct PrinterOptions {
  bool color = false;
  bool unicode = true;  ///< false: ASCII marks, for terminals that are not UTF-8
};

/// One line a job, scatters collapsed, closed by a line of totals. At most `height` lines of at most `width` columns.
/// Where there is not room for all jobs, failed ones are shown first, then running, retrying and queued ones; what is
/// left out is counted in a line of its own. Below a failed job stand the last lines of its stderr, while there is room.
std::vector<std::string> ProgressLines(const RunProgress& run, int width, int height, const PrinterOptions& options);

/// The live display. Its lines are always the last ones on the terminal, with the cursor below them.
class LiveDisplay {
 public:
  explicit LiveDisplay(PrinterOptions options) : options_(options) {}

  /// Text to stand above the display from the next Update() on: job output, failure reports. Lines that are not ended
  /// yet are held back until they are, or until End(). What is not safe to print is made visible.
  void PrintAbove(std::string_view text);
  /// As PrintAbove(), for text that was made by jobc and may hold colours; always taken as whole lines.
  void PrintAboveRaw(std::string_view text);
  /// What to write so that the display shows `run` now. The window may have another size each time.
  std::string Update(const RunProgress& run, int width, int height);
  /// As Update(), but leaves the lines where they are and the cursor shown below: nothing will be redrawn after it.
  std::string End(const RunProgress& run, int width, int height);
  /// What to write to take the display away, for instance before a question or a crash message.
  std::string Clear(int width);

 private:
  std::string TakeAbove(bool all);
  /// The rows that the drawn lines take in a window of this width; they are forgotten.
  int TakeDrawnRows(int width);

  PrinterOptions options_;
  std::vector<int> drawn_widths_;  // columns of each line on the screen
  std::string above_;              // whole lines
  std::string partial_;            // of job output
};

/// A line for logs and pipes, ended by a line break: `00:12 align["s1"]: started, attempt 2 of 6`.
std::string EventLine(const ProgressEvent& event, const PrinterOptions& options);

/// The last line of a run: `run 0jf…: succeeded in 12.3s: 12 succeeded (3 reused), 1 skipped`.
std::string ClosingLine(const RunProgress& run, const PrinterOptions& options);

/// What failed, why, where, the last lines of stderr, and the exact command to reproduce it; ended by a line break.
std::string FailureText(const FailureReport& report, const PrinterOptions& options);

/// `120ms`, `3.2s`, `42s`, `3m05s`, `2h03m`, `1d04h`: at most six columns up to 99 days.
std::string ElapsedText(int64_t ms);

}  // namespace jobc
