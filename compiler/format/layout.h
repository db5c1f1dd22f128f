// How formatted code is broken into lines: a row of instructions (words, places where a line may break, groups that
// stay on one line if they fit) and the pass that decides. The method is that of Oppen and Wadler: a group is written
// flat if it fits, otherwise all of its own breaks are taken. Knows nothing about the language but how comments and
// heredocs behave. Made and used by Format(); texts are views into the source, which must outlive the Layout.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace jobc {

class Layout {
 public:
  /// What a column is kept for that the author aligned over consecutive lines.
  enum class Align : uint8_t {
    Arrow,  ///< the `=>` of arms, one a line
    Brace,  ///< the `{` of blocks written on one line
  };

  /// A word or sign. It is never broken.
  void Text(std::string_view text);
  /// One blank, dropped at the end of a line.
  void Space();
  /// Where the innermost group may break; a blank (or nothing) otherwise. `blank_line`: leave one out if it does break.
  void Line(bool space, bool blank_line = false);
  /// Where the line always ends.
  void HardLine(bool blank_line = false);
  /// Text only where the innermost group is flat, or only where it is broken.
  void IfFlat(std::string_view text);
  void IfBroken(std::string_view text);
  void Begin();
  void End();
  /// The innermost group, and with it all around it, is broken.
  void Break();
  /// Columns by which the lines that begin from here on are indented more (or less).
  void Indent(int columns);
  /// Before a sign that the author may have aligned with those of the lines above and below. `column`: where it stood;
  /// `padded`: with more blanks before it than the style asks for.
  void Mark(Align align, int column, bool padded);

  /// A comment at the end of the line. `column` is where it stood, `gap` how many blanks before it, `indent` how far
  /// its line was indented. A line end must follow.
  void TrailingComment(std::string_view text, int column, int gap, int indent);
  /// A comment on a line of its own. A line end must follow.
  void OwnComment(std::string_view text);
  /// `<<~TAG`, its lines without the common indentation, and the tag that ends it.
  void Heredoc(std::string_view opening, std::vector<std::string> lines, std::string_view tag);

  /// Decides, and returns the text. `width`: columns to stay within; comments do not count.
  std::string Render(int width);

  /// Columns of a text without line breaks; what cannot be shown, and tabs, count as one.
  static int Width(std::string_view text);

 private:
  enum class Kind : uint8_t { Text, Space, Line, HardLine, IfFlat, IfBroken, Begin, End, Indent, Mark, Trailing, Own, Heredoc };
  struct Op {
    Kind kind;
    bool flag = false;     ///< Line: a blank if flat; Begin: must break; Mark: padded
    bool blank = false;    ///< Line, HardLine: a blank line before the next one
    Align align = Align::Arrow;
    int number = 0;        ///< Text: width; Indent: columns; Mark, Trailing: column; Begin: index of its End; Heredoc: index
    int gap = 0;
    int indent = 0;
    std::string_view text = {};
  };
  struct HeredocText {
    std::vector<std::string> lines;
    std::string_view tag;
  };
  struct OutLine {
    std::string text;
    int width = 0;
    int indent = 0;
    bool has_mark = false;
    bool padded = false;
    Align align = Align::Arrow;
    size_t mark_byte = 0;
    int mark_width = 0;    ///< columns before the mark
    int mark_column = 0;   ///< where it stood
    std::string_view comment = {};
    int comment_column = 0;
    int comment_gap = 0;
    int comment_indent = 0;
  };
  class Writer;

  static void AlignMarks(std::vector<OutLine>& lines);
  static void PlaceComments(std::vector<OutLine>& lines);

  std::vector<Op> ops_;
  std::vector<HeredocText> heredocs_;
  std::vector<size_t> open_;  ///< the Begins without an End
};

}  // namespace jobc
