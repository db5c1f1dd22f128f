// The meaning of literals: numbers with units, escapes of strings, lines of heredocs. Used by BuildAst only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/ast/ast.h"
#include "compiler/diagnostics/diagnostics.h"

namespace jobc {

/// Fills kind, int_value, float_value and unit of `expr` from the literal at `span`. After a fault the kind is Error.
/// 2^63 alone is read as INT64_MIN with `needs_minus` set: it is only valid behind a minus sign.
void ReadNumber(std::string_view text, Span span, Diagnostics& diags, ast::Expr& expr, bool& needs_minus);

/// Appends the text of a string's constant run (`raw`, at `offset` of its source) to `part`.
void ReadStringText(std::string_view raw, Span span, Diagnostics& diags, ast::Part& part);

/// The pattern between `re"` and `"`.
std::string ReadRegex(std::string_view raw);

/// How many bytes of blanks are taken from each line of a heredoc.
struct HeredocLayout {
  uint32_t indent = 0;
  uint32_t text_end = 0;  ///< offset in the source behind the last line that is not blank, its line break included
};

/// One constant run or interpolation of a heredoc's body, as offsets of the source.
struct HeredocPiece {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool is_text = true;
};
/// `text` is the whole source; the body is [begin, end).
HeredocLayout MeasureHeredoc(std::string_view text, uint32_t begin, uint32_t end, const std::vector<HeredocPiece>& pieces,
                             SourceId source, Diagnostics& diags);
/// The text of one constant run: dedented, CRLF to LF, `~~{` to `~{`. `line_start`: the run begins a line.
void ReadHeredocText(std::string_view text, const HeredocPiece& piece, const HeredocLayout& layout, bool line_start,
                     ast::Part& part);

}  // namespace jobc
