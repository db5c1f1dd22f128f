#include "compiler/format/layout.h"

#include <algorithm>

#include "support/check.h"
#include "support/text_width.h"

namespace jobc {

int Layout::Width(std::string_view text) {
  int width = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = DecodeUtf8(text, at);
    const int columns = c.valid ? DisplayWidth(c.value) : 1;
    width += columns < 0 ? 1 : columns;
    at += c.size;
  }
  return width;
}

void Layout::Text(std::string_view text) { ops_.push_back({.kind = Kind::Text, .number = Width(text), .text = text}); }
void Layout::Space() { ops_.push_back({.kind = Kind::Space, .number = 1}); }
void Layout::Line(bool space, bool blank_line) {
  ops_.push_back({.kind = Kind::Line, .flag = space, .blank = blank_line, .number = space ? 1 : 0});
}
void Layout::HardLine(bool blank_line) {
  Break();
  ops_.push_back({.kind = Kind::HardLine, .blank = blank_line});
}
void Layout::IfFlat(std::string_view text) { ops_.push_back({.kind = Kind::IfFlat, .number = Width(text), .text = text}); }
void Layout::IfBroken(std::string_view text) { ops_.push_back({.kind = Kind::IfBroken, .number = Width(text), .text = text}); }
void Layout::Begin() {
  open_.push_back(ops_.size());
  ops_.push_back({.kind = Kind::Begin});
}
void Layout::End() {
  JOBC_CHECK(!open_.empty());
  ops_[open_.back()].number = static_cast<int>(ops_.size());
  open_.pop_back();
  ops_.push_back({.kind = Kind::End});
}
void Layout::Break() {
  // From the innermost outwards; what is around a broken group is broken already.
  for (size_t i = open_.size(); i-- > 0 && !ops_[open_[i]].flag;) ops_[open_[i]].flag = true;
}
void Layout::Indent(int columns) { ops_.push_back({.kind = Kind::Indent, .number = columns}); }
void Layout::Mark(Align align, int column, bool padded) {
  ops_.push_back({.kind = Kind::Mark, .flag = padded, .align = align, .number = column});
}
void Layout::TrailingComment(std::string_view text, int column, int gap, int indent) {
  Break();
  ops_.push_back({.kind = Kind::Trailing, .number = column, .gap = gap, .indent = indent, .text = text});
}
void Layout::OwnComment(std::string_view text) {
  Break();
  ops_.push_back({.kind = Kind::Own, .text = text});
}
void Layout::Heredoc(std::string_view opening, std::vector<std::string> lines, std::string_view tag) {
  Break();
  ops_.push_back({.kind = Kind::Heredoc, .number = static_cast<int>(heredocs_.size()), .text = opening});
  heredocs_.push_back({std::move(lines), tag});
}

/// Writes instructions whose groups are decided, line by line.
class Layout::Writer {
 public:
  int Column() const { return (fresh_ ? indent_ : line_.width) + (space_ ? 1 : 0); }
  int nest() const { return nest_; }

  void Indent(int columns) { nest_ += columns; }
  void Space() { space_ = !fresh_; }
  void Text(std::string_view text, int width) {
    // Behind a heredoc's tag only these may follow on its line.
    if (after_heredoc_ && !text.empty() && std::string_view(",;})]").find(text.front()) == std::string_view::npos) {
      nest_ += 4;
      NewLine(false);
      nest_ -= 4;
    }
    Settle();
    line_.text += text;
    line_.width += width;
  }
  void NewLine(bool blank_line) {
    if (!fresh_ || started_) {
      lines_.push_back(std::move(line_));
      line_ = {};
    }
    if (blank_line && started_) lines_.push_back({});
    indent_ = nest_;
    fresh_ = true;
    space_ = false;
    after_heredoc_ = false;
  }
  void Mark(const Op& op) {
    if (line_.has_mark || fresh_) return;
    Settle();
    line_.has_mark = true;
    line_.align = op.align;
    line_.padded = op.flag;
    line_.mark_column = op.number;
    line_.mark_byte = line_.text.size();
    line_.mark_width = line_.width;
  }
  void Trailing(const Op& op) {
    space_ = false;
    JOBC_CHECK(line_.comment.empty());
    line_.comment = op.text;
    line_.comment_column = op.number;
    line_.comment_gap = op.gap;
    line_.comment_indent = op.indent;
  }
  void Heredoc(std::string_view opening, const HeredocText& heredoc) {
    Text(opening, Width(opening));
    for (const std::string& each : heredoc.lines) {
      NewLine(false);
      if (each.empty()) continue;
      indent_ = nest_ + 2;
      Text(each, 0);
    }
    NewLine(false);
    Text(heredoc.tag, Width(heredoc.tag));
    after_heredoc_ = true;
  }
  std::vector<OutLine> Take() {
    if (started_) lines_.push_back(std::move(line_));
    return std::move(lines_);
  }

 private:
  /// What the next word needs before it: the indentation, or a blank.
  void Settle() {
    started_ = true;
    if (fresh_) {
      line_.text.assign(static_cast<size_t>(indent_), ' ');
      line_.width = line_.indent = indent_;
      fresh_ = false;
    } else if (space_) {
      line_.text += ' ';
      ++line_.width;
    }
    space_ = false;
  }

  std::vector<OutLine> lines_;
  OutLine line_;
  int nest_ = 0;
  int indent_ = 0;        ///< of the line that begins
  bool fresh_ = true;     ///< nothing stands on the line yet
  bool started_ = false;  ///< something was written at all
  bool space_ = false;
  bool after_heredoc_ = false;
};

std::string Layout::Render(int width) {
  JOBC_CHECK(open_.empty());
  const size_t count = ops_.size();
  // Flat width of everything before an instruction, and what follows it up to the next place where a line may end.
  std::vector<int> flat(count + 1, 0);
  std::vector<int> rest(count + 1, 0);
  for (size_t i = 0; i < count; ++i) {
    const Op& op = ops_[i];
    const bool counts = op.kind == Kind::Text || op.kind == Kind::Space || op.kind == Kind::Line || op.kind == Kind::IfFlat;
    flat[i + 1] = flat[i] + (counts ? op.number : 0);
  }
  for (size_t i = count; i-- > 0;) {
    const Op& op = ops_[i];
    switch (op.kind) {
      case Kind::Line: case Kind::HardLine: case Kind::Trailing: case Kind::Own: rest[i] = 0; break;
      case Kind::Heredoc: rest[i] = Width(op.text); break;
      case Kind::Text: case Kind::Space: case Kind::IfBroken: rest[i] = rest[i + 1] + op.number; break;
      default: rest[i] = rest[i + 1];
    }
  }
  Writer out;
  std::vector<bool> broken = {true};
  for (size_t i = 0; i < count; ++i) {
    const Op& op = ops_[i];
    switch (op.kind) {
      case Kind::Text: out.Text(op.text, op.number); break;
      case Kind::Space: out.Space(); break;
      case Kind::Line:
        if (broken.back()) out.NewLine(op.blank);
        else if (op.flag) out.Space();
        break;
      case Kind::HardLine: out.NewLine(op.blank); break;
      case Kind::IfFlat:
        if (!broken.back()) out.Text(op.text, op.number);
        break;
      case Kind::IfBroken:
        if (broken.back()) out.Text(op.text, op.number);
        break;
      case Kind::Begin: {
        const auto end = static_cast<size_t>(op.number);
        const bool fits = out.Column() + flat[end] - flat[i] + rest[end] <= width;
        broken.push_back(broken.back() && (op.flag || !fits));
        break;
      }
      case Kind::End: broken.pop_back(); break;
      case Kind::Indent: out.Indent(op.number); break;
      case Kind::Mark:
        if (broken.back() == (op.align == Align::Arrow)) out.Mark(op);
        break;
      case Kind::Trailing: out.Trailing(op); break;
      case Kind::Own: out.Text(op.text, 0); break;
      case Kind::Heredoc: out.Heredoc(op.text, heredocs_[static_cast<size_t>(op.number)]); break;
    }
  }
  std::vector<OutLine> lines = out.Take();
  AlignMarks(lines);
  PlaceComments(lines);
  std::string text;
  for (const OutLine& line : lines) {
    text += line.text;
    text += '\n';
  }
  return text;
}

/// Signs that stood below one another, with blanks before one of them at least, do so again.
void Layout::AlignMarks(std::vector<OutLine>& lines) {
  for (size_t begin = 0; begin < lines.size();) {
    size_t end = begin + 1;
    if (lines[begin].has_mark) {
      const OutLine& first = lines[begin];
      while (end < lines.size() && lines[end].has_mark && lines[end].align == first.align && lines[end].indent == first.indent &&
             lines[end].mark_column == first.mark_column) {
        ++end;
      }
      int column = 0;
      bool padded = false;
      for (size_t i = begin; i < end; ++i) {
        column = std::max(column, lines[i].mark_width);
        padded = padded || lines[i].padded;
      }
      for (size_t i = begin; padded && end - begin > 1 && i < end; ++i) {
        const int blanks = column - lines[i].mark_width;
        lines[i].text.insert(lines[i].mark_byte, static_cast<size_t>(blanks), ' ');
        lines[i].width += blanks;
      }
    }
    begin = end;
  }
}

/// Comments at the ends of lines: at their column where they were set off by more than two blanks, else two blanks
/// behind the code; those that stood below one another do so again.
void Layout::PlaceComments(std::vector<OutLine>& lines) {
  for (size_t begin = 0; begin < lines.size();) {
    size_t end = begin + 1;
    if (!lines[begin].comment.empty()) {
      while (end < lines.size() && !lines[end].comment.empty() && lines[end].comment_column == lines[begin].comment_column) ++end;
      int column = 0;
      for (size_t i = begin; i < end; ++i) {
        const OutLine& line = lines[i];
        column = std::max(column, line.width + 2);
        if (line.comment_gap > 2) column = std::max(column, line.comment_column + line.indent - line.comment_indent);
      }
      for (size_t i = begin; i < end; ++i) {
        lines[i].text.append(static_cast<size_t>(column - lines[i].width), ' ');
        lines[i].text += lines[i].comment;
      }
    }
    begin = end;
  }
}

}  // namespace jobc
