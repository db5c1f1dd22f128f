// The text format. A diagnostic is a header line, one snippet for each source it points into, then helps and notes.
// A snippet is a list of rows; a row is a gutter, one lane for each multi-line span, and text at display columns.
#include <algorithm>
#include <map>
#include <set>

#include "compiler/diagnostics/render.h"
#include "support/text_width.h"

namespace jobc {
namespace {

enum class Style : uint8_t { Plain, Bold, Error, Warning, Blue, Cyan, Green };

std::string_view Ansi(Style style) {
  switch (style) {
    case Style::Plain: return "";
    case Style::Bold: return "\x1b[1m";
    case Style::Error: return "\x1b[1;31m";
    case Style::Warning: return "\x1b[1;33m";
    case Style::Blue: return "\x1b[1;34m";
    case Style::Cyan: return "\x1b[1;36m";
    case Style::Green: return "\x1b[1;32m";
  }
  return "";
}

constexpr int kTabWidth = 4;
constexpr int kNarrowestLine = 40;
/// Of a line longer than this only the bytes near the marks are looked at.
constexpr size_t kLongLineBytes = 4096;
/// Spans of at most this many lines are shown whole, longer ones with their first and last line.
constexpr uint32_t kWholeSpanLines = 6;

/// One row of output under construction. Columns only grow; what would go back is appended where the row stands.
class Row {
 public:
  explicit Row(bool color) : color_(color) {}

  void Put(std::string_view text, Style style) {
    if (text.empty()) return;
    out_.append(static_cast<size_t>(pending_), ' ');
    pending_ = 0;
    const size_t last = text.find_last_not_of(' ');
    const std::string_view inked = last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
    const bool styled = color_ && style != Style::Plain && !inked.empty();
    if (styled) out_ += Ansi(style);
    out_ += inked;
    if (styled) out_ += "\x1b[0m";
    pending_ = static_cast<int>(text.size() - inked.size());  // kept back: rows have no blanks at their end
    column_ += DisplayWidth(text);
  }
  void PutAt(int column, std::string_view text, Style style) {
    if (column > column_) {
      pending_ += column - column_;
      column_ = column;
    }
    Put(text, style);
  }
  /// Column zero is from now on where the row stands.
  void ResetColumn() { column_ = 0; }
  int column() const { return column_; }
  std::string Finish() && { return std::move(out_) + '\n'; }

 private:
  bool color_;
  std::string out_;
  int column_ = 0;
  int pending_ = 0;
};

struct Mark {
  Span span;  // as shown
  std::string_view label;
  bool primary = false;
  uint32_t first_line = 0;
  uint32_t last_line = 0;
  int lane = -1;                // multi-line marks only
  bool starts_at_text = false;  // multi-line, and only blanks stand before it on its first line

  bool multi_line() const { return last_line > first_line; }
};

/// One source line as it is shown: visible, tabs expanded, cut to the width there is.
class LineView {
 public:
  /// `focus` is the byte range of the line that must stay in view.
  LineView(std::string_view line, size_t focus_begin, size_t focus_end, int width) {
    size_t begin = 0;
    size_t end = line.size();
    focus_begin = std::min(focus_begin, line.size());
    focus_end = std::clamp(focus_end, focus_begin, line.size());
    if (line.size() > kLongLineBytes) {
      begin = focus_begin > kLongLineBytes / 4 ? CharBoundary(line, focus_begin - kLongLineBytes / 4) : 0;
      end = CharBoundary(line, std::min(line.size(), begin + kLongLineBytes));
    }
    std::vector<std::string> cells;
    int column = 0;
    for (size_t at = begin; at < end;) {
      const Utf8Char c = DecodeUtf8(line, at);
      std::string shown = c.value == '\t' && c.valid ? std::string(kTabWidth, ' ') : VisibleChar(c, line, at);
      offsets_.push_back(at);
      columns_.push_back(column);
      column += DisplayWidth(shown);
      cells.push_back(std::move(shown));
      at += c.size;
    }
    offsets_.push_back(end);
    columns_.push_back(column);

    const int total = column;
    const int focus_first = RawColumn(focus_begin);
    const int focus_last = RawColumn(focus_end);
    constexpr int kContextBefore = 10, kContextAfter = 20;
    if (total > width) from_ = std::clamp(focus_last + kContextAfter - width, 0, std::max(0, focus_first - kContextBefore));
    to_ = std::min(total, from_ + width);
    const bool cut_left = from_ > 0 || begin > 0;
    const bool cut_right = to_ < total || end < line.size();
    const int text_from = cut_left ? from_ + 3 : from_;
    const int text_to = cut_right ? to_ - 3 : to_;
    if (cut_left) text_ = "...";
    int at_column = text_from;
    for (size_t i = 0; i < cells.size(); ++i) {
      // Wide characters that are cut in half leave a blank.
      if (columns_[i] < text_from || columns_[i + 1] > text_to) continue;
      text_.append(static_cast<size_t>(std::max(0, columns_[i] - at_column)), ' ');
      text_ += cells[i];
      at_column = columns_[i + 1];
    }
    if (cut_right) {
      text_.append(static_cast<size_t>(std::max(0, text_to - at_column)), ' ');
      text_ += "...";
    }
  }

  const std::string& text() const { return text_; }
  /// The display column of a byte of the line; what was cut off is at the nearest edge.
  int Column(size_t offset) const { return std::clamp(RawColumn(offset), from_, to_) - from_; }

 private:
  static size_t CharBoundary(std::string_view line, size_t at) {
    size_t back = 0;
    while (at > 0 && at < line.size() && back < 3 && (static_cast<unsigned char>(line[at]) & 0xC0) == 0x80) {
      --at;
      ++back;
    }
    return at;
  }
  int RawColumn(size_t offset) const {
    const auto found = std::lower_bound(offsets_.begin(), offsets_.end(), offset);
    return found == offsets_.end() ? columns_.back() : columns_[static_cast<size_t>(found - offsets_.begin())];
  }

  std::vector<size_t> offsets_;  // of each character, and of the end
  std::vector<int> columns_;
  std::string text_;
  int from_ = 0;
  int to_ = 0;
};

class TextRenderer {
 public:
  TextRenderer(const SourceManager& sources, const TextOptions& options) : sources_(sources), options_(options) {}

  void Render(const Diagnostic& diagnostic) {
    if (!out_.empty()) out_ += '\n';
    severity_ = diagnostic.kind->severity == Severity::Error ? Style::Error : Style::Warning;
    Row header(options_.color);
    const std::string_view word = diagnostic.kind->severity == Severity::Error ? "error" : "warning";
    const std::string_view code = diagnostic.kind->code;  // empty: what a test found wrong
    header.Put(code.empty() ? std::string(word) : fmt::format("{}[{}]", word, code), severity_);
    header.Put(": ", Style::Bold);
    const std::vector<std::string> message = Lines(diagnostic.message);
    header.Put(message.front(), Style::Bold);
    out_ += std::move(header).Finish();
    for (size_t i = 1; i < message.size(); ++i) PutPlain("    " + message[i], Style::Bold);

    // Marks by source: the primary's first, the others in the order they were added.
    std::vector<SourceId> order;
    std::map<SourceId, std::vector<Mark>> marks;
    const auto add = [&](const Annotation& annotation, bool primary) {
      if (!annotation.span.valid()) return;
      const SourceId source = annotation.span.source;
      if (std::find(order.begin(), order.end(), source) == order.end()) order.push_back(source);
      marks[source].push_back(MarkOf(annotation, primary));
    };
    add(diagnostic.primary, true);
    for (const Annotation& each : diagnostic.secondary) add(each, false);

    uint32_t last_line = 0;
    for (const auto& [source, list] : marks) {
      for (const Mark& mark : list) last_line = std::max(last_line, mark.last_line);
    }
    gutter_ = std::to_string(last_line).size();
    for (const SourceId source : order) PutSnippet(source, marks[source], source == order.front());

    for (const Help& help : diagnostic.helps) PutNote("help", Style::Cyan, help.text);
    for (const std::string& note : diagnostic.notes) PutNote("note", Style::Green, note);
    if (!diagnostic.kind->code.empty() && explained_.insert(diagnostic.kind->code).second) {
      PutNote("note", Style::Green, fmt::format("`jobc explain {}`", diagnostic.kind->code));
    }
  }

  void RenderSummary(size_t errors, size_t warnings, size_t dropped) {
    if (!out_.empty()) out_ += '\n';
    if (dropped > 0) PutPlain(fmt::format("... and {} more that are not shown", dropped), Style::Plain);
    Row row(options_.color);
    row.Put(errors > 0 ? "error" : "warning", errors > 0 ? Style::Error : Style::Warning);
    row.Put(": " + CountText(errors, warnings), Style::Bold);
    out_ += std::move(row).Finish();
  }

  std::string Take() && { return std::move(out_); }

 private:
  static std::vector<std::string> Lines(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    while (true) {
      const size_t end = text.find('\n');
      lines.push_back(VisibleText(text.substr(0, end)));
      if (end == std::string_view::npos) return lines;
      text.remove_prefix(end + 1);
    }
  }

  Mark MarkOf(const Annotation& annotation, bool primary) const {
    Mark mark;
    mark.span = ShownSpan(sources_, annotation.span);
    mark.label = annotation.label;
    mark.primary = primary;
    mark.first_line = sources_.Locate(mark.span.source, mark.span.begin).line;
    // The line of the last byte, so that a span that ends with its line does not reach into the next.
    const uint32_t last_byte = mark.span.end > mark.span.begin ? mark.span.end - 1 : mark.span.begin;
    mark.last_line = std::max(mark.first_line, sources_.Locate(mark.span.source, last_byte).line);
    if (!mark.multi_line()) return mark;
    const std::string_view line = sources_.Line(mark.span.source, mark.first_line);
    const size_t column = mark.span.begin - LineStart(mark.span.source, mark.first_line);
    mark.starts_at_text = line.substr(0, std::min(column, line.size())).find_first_not_of(" \t") == std::string_view::npos;
    return mark;
  }

  uint32_t LineStart(SourceId source, uint32_t line) const { return sources_[source].line_starts[line - 1]; }
  Style StyleOf(const Mark& mark) const { return mark.primary ? severity_ : Style::Blue; }

  void PutPlain(std::string_view text, Style style) {
    Row row(options_.color);
    row.Put(text, style);
    out_ += std::move(row).Finish();
  }

  /// `12 |` or, without a number, `   |`; then one lane a multi-line mark.
  Row Gutter(std::string_view number) const {
    Row row(options_.color);
    row.Put(fmt::format("{:>{}} |", number, gutter_), Style::Blue);
    row.Put(" ", Style::Plain);
    return row;
  }

  void PutNote(std::string_view title, Style style, std::string_view text) {
    const std::vector<std::string> lines = Lines(text);
    for (size_t i = 0; i < lines.size(); ++i) {
      Row row(options_.color);
      if (i == 0) {
        row.PutAt(static_cast<int>(gutter_) + 1, "= ", Style::Blue);
        row.Put(title, style);
        row.Put(": ", Style::Plain);
      }
      row.PutAt(static_cast<int>(gutter_) + 5 + static_cast<int>(title.size()), lines[i], Style::Plain);
      out_ += std::move(row).Finish();
    }
  }

  void PutSnippet(SourceId source, std::vector<Mark>& marks, bool first) {
    const Mark& place = *std::min_element(marks.begin(), marks.end(), [](const Mark& a, const Mark& b) {
      return a.primary != b.primary ? a.primary : a.span.begin < b.span.begin;
    });
    const LineColumn at = sources_.Locate(source, place.span.begin);
    Row header(options_.color);
    header.PutAt(static_cast<int>(gutter_), first ? "--> " : "::: ", Style::Blue);
    header.Put(fmt::format("{}:{}:{}", VisibleText(sources_[source].name), at.line, at.column), Style::Plain);
    out_ += std::move(header).Finish();
    out_ += Gutter("").Finish();

    AssignLanes(marks);
    std::set<uint32_t> lines;
    for (const Mark& mark : marks) {
      lines.insert(mark.first_line);
      lines.insert(mark.last_line);
      if (mark.last_line - mark.first_line < kWholeSpanLines) {
        for (uint32_t line = mark.first_line; line < mark.last_line; ++line) lines.insert(line);
      }
    }
    uint32_t previous = 0;
    for (const uint32_t line : lines) {
      if (previous != 0 && line == previous + 2) PutLine(source, previous + 1, marks);
      if (previous != 0 && line > previous + 2) {
        Row row(options_.color);
        row.Put("...", Style::Blue);
        row.PutAt(static_cast<int>(gutter_) + 3, "", Style::Plain);
        PutLanes(row, marks, [&](const Mark& m) { return m.first_line <= previous && m.last_line > previous ? '|' : ' '; },
                 static_cast<int>(gutter_) + 3);
        out_ += std::move(row).Finish();
      }
      PutLine(source, line, marks);
      previous = line;
    }
  }

  /// Gives each multi-line mark the first lane that is free over all its lines.
  void AssignLanes(std::vector<Mark>& marks) {
    std::vector<Mark*> multi;
    for (Mark& mark : marks) {
      if (mark.multi_line()) multi.push_back(&mark);
    }
    std::stable_sort(multi.begin(), multi.end(), [](const Mark* a, const Mark* b) {
      return a->first_line != b->first_line ? a->first_line < b->first_line : a->last_line > b->last_line;
    });
    std::vector<uint32_t> busy_until;
    for (Mark* mark : multi) {
      size_t lane = 0;
      while (lane < busy_until.size() && busy_until[lane] >= mark->first_line) ++lane;
      if (lane == busy_until.size()) busy_until.push_back(0);
      busy_until[lane] = mark->last_line;
      mark->lane = static_cast<int>(lane);
    }
    lane_count_ = static_cast<int>(busy_until.size());
  }

  /// Puts the lanes, starting at `base`, each filled with the character that `shown` gives for its mark.
  template <typename F>
  void PutLanes(Row& row, const std::vector<Mark>& marks, F shown, int base) const {
    if (lane_count_ == 0) return;
    for (int lane = 0; lane < lane_count_; ++lane) {
      for (const Mark& mark : marks) {
        if (mark.lane != lane) continue;
        const char c = shown(mark);
        if (c != ' ') row.PutAt(base + lane, std::string_view(&c, 1), StyleOf(mark));
      }
    }
    row.PutAt(base + lane_count_ + 1, "", Style::Plain);
  }

  /// A gutter and lanes; afterwards column zero is where the source text starts.
  template <typename F>
  Row Begin(std::string_view number, const std::vector<Mark>& marks, F shown) const {
    Row row = Gutter(number);
    row.ResetColumn();
    PutLanes(row, marks, shown, 0);
    row.ResetColumn();
    return row;
  }

  void PutLine(SourceId source, uint32_t number, const std::vector<Mark>& marks) {
    const std::string_view line = sources_.Line(source, number);
    const uint32_t start = LineStart(source, number);
    std::vector<const Mark*> here;    // wholly on this line
    std::vector<const Mark*> starts;  // multi-line, begin here after other text
    std::vector<const Mark*> ends;
    const Mark* focus = nullptr;
    for (const Mark& mark : marks) {
      const bool touches = mark.first_line == number || mark.last_line == number;
      if (touches && (focus == nullptr || mark.primary)) focus = &mark;
      if (!mark.multi_line()) {
        if (mark.first_line == number) here.push_back(&mark);
        continue;
      }
      if (mark.first_line == number && !mark.starts_at_text) starts.push_back(&mark);
      if (mark.last_line == number) ends.push_back(&mark);
    }
    size_t focus_begin = 0, focus_end = 0;
    if (focus != nullptr) {
      focus_begin = focus->first_line == number ? focus->span.begin - start : focus->span.end - start - 1;
      focus_end = focus->last_line == number ? focus->span.end - start : focus_begin;
    }
    const int width = options_.width - static_cast<int>(gutter_) - 3 - (lane_count_ > 0 ? lane_count_ + 1 : 0);
    const LineView view(line, focus_begin, focus_end, std::max(width, kNarrowestLine));

    Row text = Begin(std::to_string(number), marks, [&](const Mark& m) {
      if (m.first_line == number) return m.starts_at_text ? '/' : ' ';
      return m.first_line < number && number <= m.last_line ? '|' : ' ';
    });
    text.Put(view.text(), Style::Plain);
    out_ += std::move(text).Finish();

    // Rows below the line: lanes run on for marks that are open after `number`, and for those that end here until
    // their own row has been drawn.
    std::set<const Mark*> drawn_start, drawn_end;
    const auto lane = [&](const Mark& m) {
      if (m.first_line == number) return m.starts_at_text || drawn_start.count(&m) ? '|' : ' ';
      if (m.last_line == number) return drawn_end.count(&m) ? ' ' : '|';
      return m.first_line < number && number < m.last_line ? '|' : ' ';
    };
    PutMarks(here, view, start, marks, lane);
    for (const Mark* mark : starts) {
      PutTurn(*mark, view.Column(mark->span.begin - start), false, marks, lane);
      drawn_start.insert(mark);
    }
    for (const Mark* mark : ends) {
      PutTurn(*mark, view.Column(mark->span.end - start - 1), true, marks, lane);
      drawn_end.insert(mark);
    }
  }

  /// The row that leads a multi-line mark from its lane to its first character, or to its last with the label.
  template <typename F>
  void PutTurn(const Mark& turning, int column, bool end, const std::vector<Mark>& marks, F lane) {
    Row row = Gutter("");
    row.ResetColumn();
    for (int i = 0; i <= turning.lane; ++i) {
      for (const Mark& mark : marks) {
        if (mark.lane != i) continue;
        const char c = &mark == &turning ? (end ? '|' : ' ') : lane(mark);
        if (c != ' ') row.PutAt(i, std::string_view(&c, 1), StyleOf(mark));
      }
    }
    const int target = lane_count_ + 1 + column;
    row.PutAt(turning.lane + 1, std::string(static_cast<size_t>(std::max(0, target - turning.lane - 1)), '_'), StyleOf(turning));
    row.Put(turning.primary ? "^" : "-", StyleOf(turning));
    if (end && !turning.label.empty()) row.Put(" " + VisibleText(turning.label), StyleOf(turning));
    out_ += std::move(row).Finish();
  }

  /// The row of carets below a line, the label of its last mark beside it, and the other labels hanging below.
  template <typename F>
  void PutMarks(const std::vector<const Mark*>& here, const LineView& view, uint32_t start, const std::vector<Mark>& marks,
                F lane) {
    if (here.empty()) return;
    struct Placed {
      const Mark* mark;
      int begin;
      int end;
    };
    std::vector<Placed> placed;
    int width = 0;
    for (const Mark* mark : here) {
      const int begin = view.Column(mark->span.begin - start);
      const int end = std::max(begin + 1, view.Column(mark->span.end - start));
      placed.push_back({mark, begin, end});
      width = std::max(width, end);
    }
    // Of marks that overlap, the primary is on top, then the shorter one.
    std::vector<const Mark*> on_top(static_cast<size_t>(width), nullptr);
    std::vector<Placed> painting = placed;
    std::stable_sort(painting.begin(), painting.end(), [](const Placed& a, const Placed& b) {
      if (a.mark->primary != b.mark->primary) return b.mark->primary;
      return a.end - a.begin > b.end - b.begin;
    });
    for (const Placed& p : painting) {
      for (int i = p.begin; i < p.end; ++i) on_top[static_cast<size_t>(i)] = p.mark;
    }
    const Placed* beside = nullptr;
    for (const Placed& p : placed) {
      if (beside == nullptr || p.end > beside->end ||
          (p.end == beside->end && (p.mark->primary > beside->mark->primary ||
                                    (p.mark->primary == beside->mark->primary && p.begin > beside->begin)))) {
        beside = &p;
      }
    }
    Row row = Begin("", marks, lane);
    for (int i = 0; i < width;) {
      const Mark* const mark = on_top[static_cast<size_t>(i)];
      int end = i;
      while (end < width && on_top[static_cast<size_t>(end)] == mark) ++end;
      if (mark != nullptr) row.PutAt(i, std::string(static_cast<size_t>(end - i), mark->primary ? '^' : '-'), StyleOf(*mark));
      i = end;
    }
    if (!beside->mark->label.empty()) row.Put(" " + VisibleText(beside->mark->label), StyleOf(*beside->mark));
    out_ += std::move(row).Finish();

    std::vector<Placed> hanging;
    for (const Placed& p : placed) {
      if (&p != beside && !p.mark->label.empty()) hanging.push_back(p);
    }
    if (hanging.empty()) return;
    std::stable_sort(hanging.begin(), hanging.end(), [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
    const auto put_bars = [&](Row& bars, size_t count, int before) {
      int last = -1;
      for (size_t i = 0; i < count; ++i) {
        if (hanging[i].begin == last || hanging[i].begin >= before) continue;
        bars.PutAt(hanging[i].begin, "|", StyleOf(*hanging[i].mark));
        last = hanging[i].begin;
      }
    };
    Row bars = Begin("", marks, lane);
    put_bars(bars, hanging.size(), INT32_MAX);
    out_ += std::move(bars).Finish();
    for (size_t i = hanging.size(); i-- > 0;) {
      Row label = Begin("", marks, lane);
      put_bars(label, i, hanging[i].begin);
      label.PutAt(hanging[i].begin, VisibleText(hanging[i].mark->label), StyleOf(*hanging[i].mark));
      out_ += std::move(label).Finish();
    }
  }

  const SourceManager& sources_;
  const TextOptions& options_;
  std::string out_;
  std::set<std::string_view> explained_;
  Style severity_ = Style::Error;
  size_t gutter_ = 1;
  int lane_count_ = 0;
};

}  // namespace

std::string RenderText(const Diagnostics& diags, const SourceManager& sources, const TextOptions& options) {
  if (diags.all().empty()) return {};
  TextRenderer renderer(sources, options);
  for (const Diagnostic& each : diags.all()) renderer.Render(each);
  if (options.summary) renderer.RenderSummary(diags.error_count(), diags.warning_count(), diags.dropped());
  return std::move(renderer).Take();
}

std::string CountText(size_t errors, size_t warnings) {
  const auto count = [](size_t n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  if (errors == 0 && warnings == 0) return "no errors";
  if (warnings == 0) return count(errors, "error");
  if (errors == 0) return count(warnings, "warning");
  return count(errors, "error") + ", " + count(warnings, "warning");
}

Span ShownSpan(const SourceManager& sources, Span span) {
  if (!span.valid()) return span;
  const std::string_view text = sources[span.source].text;
  const uint32_t size = static_cast<uint32_t>(text.size());
  span.begin = std::min(span.begin, size);
  span.end = std::clamp(span.end, span.begin, size);
  const auto is_break = [&](uint32_t i) { return text[i] == '\n' || text[i] == '\r'; };
  while (span.end > span.begin && is_break(span.end - 1)) --span.end;
  if (span.begin == size && size > 0 && is_break(size - 1)) {
    const size_t last = text.find_last_not_of(" \t\r\n");
    span.begin = span.end = last == std::string_view::npos ? 0 : static_cast<uint32_t>(last + 1);
  }
  return span;
}

}  // namespace jobc
