#include "compiler/ast/literals.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

namespace jobc {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsBlank(char c) { return c == ' ' || c == '\t'; }

struct UnitEntry {
  std::string_view name;
  ast::Unit unit;
  int64_t factor;
};
constexpr UnitEntry kUnits[] = {
    {"ms", ast::Unit::Duration, 1},
    {"s", ast::Unit::Duration, 1000},
    {"m", ast::Unit::Duration, 60'000},
    {"h", ast::Unit::Duration, 3'600'000},
    {"d", ast::Unit::Duration, 86'400'000},
    {"B", ast::Unit::Bytes, 1},
    {"KB", ast::Unit::Bytes, 1000},
    {"MB", ast::Unit::Bytes, 1'000'000},
    {"GB", ast::Unit::Bytes, 1'000'000'000},
    {"TB", ast::Unit::Bytes, 1'000'000'000'000},
    {"PB", ast::Unit::Bytes, 1'000'000'000'000'000},
    {"KiB", ast::Unit::Bytes, int64_t{1} << 10},
    {"MiB", ast::Unit::Bytes, int64_t{1} << 20},
    {"GiB", ast::Unit::Bytes, int64_t{1} << 30},
    {"TiB", ast::Unit::Bytes, int64_t{1} << 40},
    {"PiB", ast::Unit::Bytes, int64_t{1} << 50},
};

/// What was probably meant by a suffix that is no unit.
std::string_view LikelyUnit(std::string_view suffix) {
  std::string lower;
  for (char c : suffix) lower.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  static constexpr std::pair<std::string_view, std::string_view> kOther[] = {
      {"sec", "s"},  {"secs", "s"},  {"second", "s"}, {"seconds", "s"}, {"min", "m"},    {"mins", "m"},   {"minute", "m"},
      {"minutes", "m"}, {"hr", "h"}, {"hrs", "h"},    {"hour", "h"},    {"hours", "h"},  {"day", "d"},    {"days", "d"},
      {"msec", "ms"},   {"millis", "ms"}, {"byte", "B"}, {"bytes", "B"}, {"k", "KiB"},   {"ki", "KiB"},   {"mi", "MiB"},
      {"g", "GiB"},     {"gi", "GiB"}, {"t", "TiB"},   {"ti", "TiB"},    {"p", "PiB"},    {"pi", "PiB"}};
  for (const UnitEntry& entry : kUnits) {
    std::string known;
    for (char c : entry.name) known.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    if (known == lower) return entry.name;
  }
  for (const auto& [other, unit] : kOther) {
    if (other == lower) return unit;
  }
  return {};
}

/// digits × 10^exponent, exactly.
struct Decimal {
  unsigned __int128 digits = 0;
  int exponent = 0;
  bool overflow = false;
};

Decimal ReadDecimal(std::string_view integer, std::string_view fraction, std::string_view exponent) {
  Decimal value;
  auto append = [&](std::string_view text, bool is_fraction) {
    for (char c : text) {
      if (!IsDigit(c)) continue;
      if (value.digits > (~static_cast<unsigned __int128>(0) - 9) / 10) {
        value.overflow = true;
        return;
      }
      value.digits = value.digits * 10 + static_cast<unsigned>(c - '0');
      if (is_fraction) --value.exponent;
    }
  };
  append(integer, false);
  // Zeros at the end of a fraction say nothing.
  while (!fraction.empty() && (fraction.back() == '0' || fraction.back() == '_')) fraction.remove_suffix(1);
  append(fraction, true);
  int written = 0;
  bool negative = false;
  for (char c : exponent) {
    if (c == '-') negative = true;
    if (IsDigit(c)) written = std::min(written * 10 + (c - '0'), 100'000);
  }
  value.exponent += negative ? -written : written;
  return value;
}

/// value × factor as a whole number, if it is one and fits.
enum class Exact : uint8_t { Ok, Fractional, TooLarge };
Exact Scale(Decimal value, int64_t factor, int64_t& result) {
  if (value.overflow) return Exact::TooLarge;
  const unsigned __int128 limit = static_cast<unsigned __int128>(INT64_MAX);
  if (value.digits == 0) {
    result = 0;
    return Exact::Ok;
  }
  // Trailing zeros first, so that 1.50 and 15e-1 are the same.
  while (value.exponent < 0 && value.digits % 10 == 0) {
    value.digits /= 10;
    ++value.exponent;
  }
  unsigned __int128 scaled = value.digits;
  auto multiply = [&](unsigned __int128 by) {
    if (scaled > ~static_cast<unsigned __int128>(0) / by) return false;
    scaled *= by;
    return true;
  };
  if (!multiply(static_cast<unsigned __int128>(factor))) return Exact::TooLarge;
  for (; value.exponent < 0; ++value.exponent) {
    if (scaled % 10 != 0) return Exact::Fractional;
    scaled /= 10;
  }
  for (; value.exponent > 0; --value.exponent) {
    if (scaled > limit || !multiply(10)) return Exact::TooLarge;
  }
  if (scaled > limit) return Exact::TooLarge;
  result = static_cast<int64_t>(scaled);
  return Exact::Ok;
}

void AppendUtf8(uint32_t scalar, std::string& out) {
  if (scalar < 0x80) {
    out.push_back(static_cast<char>(scalar));
  } else if (scalar < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (scalar >> 6)));
    out.push_back(static_cast<char>(0x80 | (scalar & 0x3F)));
  } else if (scalar < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (scalar >> 12)));
    out.push_back(static_cast<char>(0x80 | ((scalar >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (scalar & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | (scalar >> 18)));
    out.push_back(static_cast<char>(0x80 | ((scalar >> 12) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | ((scalar >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (scalar & 0x3F)));
  }
}

void MarkPosition(ast::Part& part, uint32_t source_offset) {
  const auto at = static_cast<uint32_t>(part.text.size());
  if (!part.positions.empty() && part.positions.back().first == at) {
    part.positions.back().second = source_offset;
  } else {
    part.positions.emplace_back(at, source_offset);
  }
}

}  // namespace

void ReadNumber(std::string_view text, Span span, Diagnostics& diags, ast::Expr& expr, bool& needs_minus) {
  expr.kind = ast::ExprKind::Error;
  size_t at = 0;
  auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && (IsDigit(text[at]) || (text[at] == '_' && at + 1 < text.size() && IsDigit(text[at + 1])))) ++at;
    return text.substr(begin, at - begin);
  };
  const std::string_view integer = digits();
  std::string_view fraction;
  std::string_view exponent;
  bool is_float = false;
  if (at + 1 < text.size() && text[at] == '.' && IsDigit(text[at + 1])) {
    ++at;
    fraction = digits();
    is_float = true;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    size_t next = at + 1;
    if (next < text.size() && (text[next] == '+' || text[next] == '-')) ++next;
    if (next < text.size() && IsDigit(text[next])) {
      const size_t begin = at + 1;
      at = next;
      digits();
      exponent = text.substr(begin, at - begin);
      is_float = true;
    }
  }
  const std::string_view suffix = text.substr(at);
  const Decimal value = ReadDecimal(integer, fraction, exponent);
  if (suffix.empty() && !is_float) {
    if (!value.overflow && value.digits == static_cast<unsigned __int128>(1) << 63) {
      needs_minus = true;
      expr.kind = ast::ExprKind::Int;
      expr.int_value = INT64_MIN;
      return;
    }
    if (Scale(value, 1, expr.int_value) != Exact::Ok) {
      diags.Emit(span, diag::NumberTooLarge, text, "64 bits").Label("the largest Int is 9223372036854775807");
      return;
    }
    expr.kind = ast::ExprKind::Int;
    return;
  }
  if (suffix.empty()) {
    std::string plain;
    for (char c : text) {
      if (c != '_') plain.push_back(c);
    }
    const auto parsed = std::from_chars(plain.data(), plain.data() + plain.size(), expr.float_value);
    // Below the smallest double from_chars reports a range error too: that is zero, as everywhere.
    if (parsed.ec == std::errc::result_out_of_range) {
      if (value.exponent < 0 && !value.overflow) {
        expr.float_value = 0;
      } else {
        diags.Emit(span, diag::NumberTooLarge, text, "a Float").Label("the largest Float is about 1.8e308");
        return;
      }
    }
    expr.kind = ast::ExprKind::Float;
    return;
  }
  for (const UnitEntry& entry : kUnits) {
    if (entry.name != suffix) continue;
    const bool duration = entry.unit == ast::Unit::Duration;
    switch (Scale(value, entry.factor, expr.int_value)) {
      case Exact::Ok:
        expr.kind = ast::ExprKind::Quantity;
        expr.unit = entry.unit;
        return;
      case Exact::Fractional:
        diags.Emit(span, diag::FractionalQuantity, text, duration ? "milliseconds" : "bytes")
            .AddHelp(duration ? "the smallest unit is `ms`" : "the smallest unit is `B`");
        return;
      case Exact::TooLarge:
        diags.Emit(span, diag::NumberTooLarge, text, duration ? "64 bits of milliseconds" : "64 bits of bytes");
        return;
    }
  }
  Diagnostic& diagnostic = diags.Emit(span, diag::MalformedNumber, text);
  if (integer == "0" && suffix.size() > 1 && (suffix[0] == 'x' || suffix[0] == 'b' || suffix[0] == 'o')) {
    diagnostic.AddHelp("numbers are written in decimal");
    return;
  }
  const std::string_view number = text.substr(0, at);
  if (const std::string_view likely = LikelyUnit(suffix); !likely.empty()) {
    diagnostic.Label(fmt::format("`{}` is no unit", suffix));
    diagnostic.AddHelp(fmt::format("did you mean `{}{}`?", number, likely), {Edit{span, fmt::format("{}{}", number, likely)}});
  } else if (suffix[0] == '_') {
    diagnostic.AddHelp("`_` stands between digits, as in `1_000`");
  } else {
    diagnostic.Label(fmt::format("`{}` is no unit", suffix));
    diagnostic.Note("durations: `ms s m h d`; sizes: `B KB MB GB TB PB KiB MiB GiB TiB PiB`");
  }
}

void ReadStringText(std::string_view raw, Span span, Diagnostics& diags, ast::Part& part) {
  auto source_at = [&](size_t i) { return span.begin + static_cast<uint32_t>(i); };
  part.text.reserve(raw.size());
  MarkPosition(part, span.begin);
  for (size_t i = 0; i < raw.size();) {
    if (raw[i] == '~' && raw.substr(i, 3) == "~~{") {
      part.text += '~';
      MarkPosition(part, source_at(i + 2));
      part.text += '{';
      i += 3;
      continue;
    }
    if (raw[i] != '\\') {
      part.text += raw[i++];
      continue;
    }
    const size_t begin = i++;
    const char c = i < raw.size() ? raw[i] : '\0';
    ++i;
    std::string_view plain = "ntr\"\\";
    if (const size_t known = plain.find(c); c != '\0' && known != std::string_view::npos) {
      part.text += "\n\t\r\"\\"[known];
    } else if (c == 'u' && i < raw.size() && raw[i] == '{') {
      const size_t close = raw.find('}', i);
      uint32_t scalar = 0;
      bool valid = close != std::string_view::npos && close > i + 1 && close - i - 1 <= 6;
      if (valid) {
        const auto parsed = std::from_chars(raw.data() + i + 1, raw.data() + close, scalar, 16);
        valid = parsed.ec == std::errc() && parsed.ptr == raw.data() + close;
      }
      valid = valid && scalar <= 0x10FFFF && !(scalar >= 0xD800 && scalar <= 0xDFFF);
      const size_t end = close != std::string_view::npos ? close + 1 : i + 1;
      if (valid) {
        AppendUtf8(scalar, part.text);
      } else {
        diags.Emit({span.source, source_at(begin), source_at(end)}, diag::SyntaxEscape, raw.substr(begin, std::min<size_t>(end - begin, 20)))
            .AddHelp("a character is written `\\u{1F600}`: one to six hexadecimal digits, at most 10FFFF, no surrogate");
      }
      i = end;
    } else {
      // Keep a multi-byte character whole.
      while (i < raw.size() && (static_cast<unsigned char>(raw[i]) & 0xC0) == 0x80) ++i;
      diags.Emit({span.source, source_at(begin), source_at(i)}, diag::SyntaxEscape, raw.substr(begin, i - begin))
          .AddHelp("the escapes are `\\n \\t \\r \\\" \\\\ \\u{…}`; a backslash itself is `\\\\`");
    }
    MarkPosition(part, source_at(i));
  }
}

std::string ReadRegex(std::string_view raw) {
  std::string pattern;
  pattern.reserve(raw.size());
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == '\\' && i + 1 < raw.size()) {
      if (raw[i + 1] != '"') pattern += '\\';
      ++i;
    }
    pattern += raw[i];
  }
  return pattern;
}

HeredocLayout MeasureHeredoc(std::string_view text, uint32_t begin, uint32_t end, const std::vector<HeredocPiece>& pieces,
                             SourceId source, Diagnostics& diags) {
  HeredocLayout layout;
  layout.text_end = begin;
  std::optional<std::string_view> common;
  uint32_t first_line = begin;
  size_t piece = 0;
  for (uint32_t line = begin; line < end;) {
    uint32_t next = line;
    while (next < end && text[next] != '\n') ++next;
    if (next < end) ++next;
    // A line that begins inside of a value is no line of the text.
    while (piece < pieces.size() && pieces[piece].end <= line) ++piece;
    const bool inside = piece < pieces.size() && !pieces[piece].is_text && pieces[piece].begin < line;
    uint32_t blanks = line;
    while (blanks < next && IsBlank(text[blanks])) ++blanks;
    const bool blank = blanks == next || text[blanks] == '\n' || (text[blanks] == '\r' && blanks + 1 < next);
    if (!blank || inside) layout.text_end = next;
    if (!blank && !inside) {
      const std::string_view prefix = text.substr(line, blanks - line);
      if (!common) {
        common = prefix;
        first_line = line;
      } else {
        size_t same = 0;
        while (same < common->size() && same < prefix.size() && (*common)[same] == prefix[same]) ++same;
        if (same < common->size() && same < prefix.size()) {
          diags.Emit({source, line, blanks}, diag::SyntaxHeredoc, "the lines of this heredoc are indented partly by tabs, partly by spaces")
              .Secondary({source, first_line, first_line + static_cast<uint32_t>(common->size())}, "indented differently")
              .AddHelp("indent all of its lines alike");
          common = common->substr(0, same);
          layout.indent = static_cast<uint32_t>(same);
          // One report says it all.
          layout.text_end = end;
          return layout;
        }
        common = common->substr(0, same);
      }
    }
    line = next;
  }
  if (common) layout.indent = static_cast<uint32_t>(common->size());
  return layout;
}

void ReadHeredocText(std::string_view text, const HeredocPiece& piece, const HeredocLayout& layout, bool line_start,
                     ast::Part& part) {
  const uint32_t end = std::min(piece.end, layout.text_end);
  uint32_t at = piece.begin;
  part.text.reserve(end > at ? end - at : 0);
  bool fresh = line_start;
  if (!fresh) MarkPosition(part, at);
  while (at < end) {
    if (fresh) {
      uint32_t skipped = 0;
      while (skipped < layout.indent && at < end && IsBlank(text[at])) {
        ++at;
        ++skipped;
      }
      // A blank line is empty, however long its blanks are.
      uint32_t blanks = at;
      while (blanks < end && IsBlank(text[blanks])) ++blanks;
      if (skipped < layout.indent && blanks < end && (text[blanks] == '\n' || text[blanks] == '\r')) at = blanks;
      MarkPosition(part, at);
      fresh = false;
      continue;
    }
    const char c = text[at];
    if (c == '\r' && at + 1 < text.size() && text[at + 1] == '\n') {
      ++at;
      MarkPosition(part, at);
    } else if (c == '\n') {
      part.text += '\n';
      ++at;
      fresh = true;
    } else if (c == '~' && text.substr(at, 3) == "~~{") {
      part.text += '~';
      MarkPosition(part, at + 2);
      part.text += '{';
      at += 3;
    } else {
      part.text += c;
      ++at;
    }
  }
  if (part.positions.empty()) MarkPosition(part, at);
}

}  // namespace jobc
