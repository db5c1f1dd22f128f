// The Python half: which holes stand where an expression may. Follows the lexical analysis chapter of the Python reference
// (3.8 to 3.14): string prefixes, triple quotes, f-strings with nested replacement fields and format specs, comments.
// Everything but the nesting is line noise to it: whether the expression makes sense is for Python to say.
#include <string_view>

#include "compiler/script/scan.h"

namespace jobc::script {
namespace {

using std::string_view;

class PythonScanner {
 public:
  PythonScanner(const std::vector<std::string>& names, Scan& scan) : scan_(scan), names_(names), units_(Units(scan.source)) {}

  void Run() {
    Code(Until::End, 0);
    for (uint32_t i = 0; i < scan_.source.holes.size(); ++i) {
      if (!scan_.seen[i]) Refuse(i, "the place of `" + scan_.Written(i) + "` in the script is not understood", "nested too deeply", Assign(i));
    }
    if (future_end_ != UINT32_MAX) scan_.prelude_offset = future_end_;
  }

 private:
  enum class Until : uint8_t { End, Field };
  struct Quotes {
    char quote = 0;
    bool triple = false;
    bool raw = false;
    bool format = false;
  };

  bool AtEnd() const { return pos_ >= units_.size(); }
  uint32_t Peek(size_t ahead = 0) const { return pos_ + ahead < units_.size() ? units_[pos_ + ahead].value : kEnd; }
  void Refuse(uint32_t hole, std::string message, std::string label, std::string help) {
    scan_.Report(script::Code::E403, hole, std::move(message), std::move(label), std::move(help));
  }
  std::string Assign(uint32_t hole) const { return "give it to a variable on a line of its own:  value = " + scan_.Written(hole); }

  /// Code up to the end of the script, or to the end of a replacement field: `}`, `!r`, `:` at its own level.
  void Code(Until until, int depth) {
    if (depth > kMaxDepth) {
      pos_ = units_.size();
      return;
    }
    int brackets = 0;
    std::string word;       // the last identifier or number
    bool adjacent = false;  // nothing between `word` and here
    bool line_start = true;
    bool future = false;  // on a line that begins with `from __future__`
    bool from = false;
    while (!AtEnd()) {
      uint32_t c = Peek();
      if (IsHole(c)) {
        uint32_t hole = HoleOf(c);
        uint32_t before = pos_ > 0 ? units_[pos_ - 1].value : kEnd;
        ++pos_;
        Expression(hole, before, word, brackets, until);
        word.clear();
        adjacent = false;
        line_start = false;
        continue;
      }
      if (until == Until::Field && brackets == 0) {
        if (c == '}') return;
        if (c == ':') return;
        if (c == '!' && Peek(1) != '=') return;
      }
      if (IsNameChar(c) || c >= 0x80) {
        std::string name;
        while (!AtEnd() && Peek() < kFirstHole && (IsNameChar(Peek()) || Peek() >= 0x80)) {
          if (name.size() < 32) name += static_cast<char>(Peek());
          ++pos_;
        }
        if (depth == 0 && brackets == 0) {
          if (line_start) {
            from = name == "from";
          } else if (from && name == "__future__") {
            future = true;
          }
        }
        line_start = false;
        word = name;
        adjacent = true;
        continue;
      }
      if (c == '\'' || c == '"') {
        String(adjacent ? string_view(word) : string_view(), depth);
        word.clear();
        adjacent = false;
        line_start = false;
        continue;
      }
      ++pos_;
      if (c == '#') {
        --pos_;
        if (future) future_end_ = Offset();
        future = false;
        Comment();
        continue;
      }
      if (c == ' ' || c == '\t' || c == '\f') {
        adjacent = false;
        continue;  // `word` stays: `def ~{x}`
      }
      if (c == '\n' || c == ';') {
        if (brackets == 0 || c == ';') {
          if (future) future_end_ = units_[pos_ - 1].offset;
          future = from = false;
          line_start = true;
          word.clear();
        }
        adjacent = false;
        continue;
      }
      if (c == '\\') {
        if (IsHole(Peek())) {
          Refuse(HoleOf(Peek()), "a backslash cannot stand before a value", "`" + scan_.Written(HoleOf(Peek())) + "` stands behind a backslash",
                 "leave out the backslash:  " + scan_.Written(HoleOf(Peek())));
          ++pos_;
        } else if (!AtEnd()) {
          ++pos_;
        }
        adjacent = false;
        continue;
      }
      if (c == '(' || c == '[' || c == '{') ++brackets;
      if ((c == ')' || c == ']' || c == '}') && brackets > 0) --brackets;
      line_start = false;
      word.clear();
      adjacent = false;
    }
    if (future && until == Until::End) future_end_ = static_cast<uint32_t>(scan_.source.text.size());
  }

  uint32_t Offset() const { return AtEnd() ? static_cast<uint32_t>(scan_.source.text.size()) : units_[pos_].offset; }

  /// A hole in code, behind it already. `before` is the unit right before it, `word` the identifier before it.
  void Expression(uint32_t hole, uint32_t before, const std::string& word, int brackets, Until until) {
    scan_.seen[hole] = true;
    const std::string written = scan_.Written(hole);
    const Hole& h = scan_.hole(hole);
    if (h.spliced) {
      scan_.Report(script::Code::E404, hole, "a list is a Python list here, `...` is for words of a shell", "`" + written + "` has no meaning in Python",
                   "let Python unpack it:  *~{" + h.source + "}");
      return;
    }
    uint32_t after = Peek();
    auto joins = [](uint32_t c) { return IsHole(c) || (c != kEnd && (IsNameChar(c) || c >= 0x80 || c == '\'' || c == '"')); };
    if ((before != kEnd && (joins(before) || before == '.')) || joins(after)) {
      Refuse(hole, "a value is an expression of its own and cannot be joined to other text", "`" + written + "` touches what stands beside it",
             "put an operator between:  str(" + written + ") + \"…\"");
      return;
    }
    for (string_view keyword : {"def", "class", "import", "from", "as", "global", "nonlocal", "del", "for", "lambda"}) {
      if (word == keyword) {
        Refuse(hole, "a value cannot stand where Python expects a name", "`" + word + "` needs a name", Assign(hole));
        return;
      }
    }
    if (until == Until::End || brackets > 0) {
      size_t next = pos_;
      while (next < units_.size() && (units_[next].value == ' ' || units_[next].value == '\t')) ++next;
      auto at = [&](size_t ahead) { return next + ahead < units_.size() ? units_[next + ahead].value : kEnd; };
      bool assigns = (at(0) == '=' && at(1) != '=') || (at(0) == ':' && at(1) == '=');
      for (uint32_t op : {'+', '-', '*', '/', '%', '&', '|', '^', '@', '<', '>'}) {
        if (at(0) != op) continue;
        if (at(1) == '=' && op != '<' && op != '>') assigns = true;
        if (at(1) == op && at(2) == '=') assigns = true;
      }
      if (assigns) {
        Refuse(hole, "a value cannot be assigned to", "`" + written + "` is a value, not a variable", Assign(hole));
        return;
      }
    }
    scan_.references[hole] = names_[hole];
  }

  void Comment() {
    while (!AtEnd() && Peek() != '\n') {
      uint32_t c = units_[pos_++].value;
      // Harmless here, unlike in a shell: the name of the bound value, never its text. A line can be commented out.
      if (IsHole(c)) {
        scan_.seen[HoleOf(c)] = true;
        scan_.references[HoleOf(c)] = names_[HoleOf(c)];
      }
    }
  }

  void InString(uint32_t hole, bool format) {
    const std::string written = scan_.Written(hole);
    if (format) {
      Refuse(hole, "a value in an f-string needs a replacement field", "`" + written + "` stands between the fields",
             "write it in braces:  {" + written + "}");
    } else {
      Refuse(hole, "a string cannot take a value", "`" + written + "` stands inside a string",
             "let Python format it:  f\"{" + written + "}\"");
    }
  }

  /// At the opening quote.
  void String(string_view prefix, int depth) {
    Quotes quotes;
    if (prefix.size() <= 2) {
      for (char c : prefix) {
        if (c == 'r' || c == 'R') quotes.raw = true;
        if (c == 'f' || c == 'F' || c == 't' || c == 'T') quotes.format = true;
      }
    }
    quotes.quote = static_cast<char>(Peek());
    uint32_t q = Peek();
    ++pos_;
    if (Peek() == q && Peek(1) == q) {
      quotes.triple = true;
      pos_ += 2;
    }
    Text(quotes, depth, false);
  }

  bool Closes(const Quotes& quotes) const {
    uint32_t q = static_cast<unsigned char>(quotes.quote);
    if (Peek() != q) return false;
    return !quotes.triple || (Peek(1) == q && Peek(2) == q);
  }

  /// The text of a string behind its opening quote, or of a format spec (`spec`) up to its `}`, which stays.
  void Text(const Quotes& quotes, int depth, bool spec) {
    if (depth > kMaxDepth) {
      pos_ = units_.size();
      return;
    }
    while (!AtEnd()) {
      uint32_t c = Peek();
      if (IsHole(c)) {
        InString(HoleOf(c), quotes.format);
        ++pos_;
        continue;
      }
      if (Closes(quotes)) {
        if (!spec) pos_ += quotes.triple ? 3 : 1;
        return;
      }
      if (c == '\n' && !quotes.triple) return;  // Python's own error; go on at the next line
      ++pos_;
      if (c == '\\') {
        if (quotes.format && !quotes.raw && Peek() == 'N' && Peek(1) == '{') {
          while (!AtEnd() && Peek() != '}' && Peek() != '\n' && !IsHole(Peek()) && !Closes(quotes)) ++pos_;
          if (Peek() == '}') ++pos_;
          continue;
        }
        if (quotes.format && (Peek() == '{' || Peek() == '}')) continue;
        if (!AtEnd() && !IsHole(Peek())) ++pos_;
        continue;
      }
      if (!quotes.format) continue;
      if (c == '{') {
        if (Peek() == '{' && !spec) {
          ++pos_;
        } else {
          Field(quotes, depth + 1);
        }
      } else if (c == '}') {
        if (spec) {
          --pos_;
          return;
        }
        if (Peek() == '}') ++pos_;
      }
    }
  }

  /// A replacement field behind its `{`, to behind its `}`.
  void Field(const Quotes& quotes, int depth) {
    Code(Until::Field, depth);
    if (Peek() == '!') {
      ++pos_;
      while (!AtEnd() && IsNameChar(Peek())) ++pos_;
    }
    if (Peek() == ':') {
      ++pos_;
      Text(quotes, depth, true);
    }
    if (Peek() == '}') ++pos_;
  }

  Scan& scan_;
  const std::vector<std::string>& names_;
  const std::vector<Unit> units_;
  size_t pos_ = 0;
  uint32_t future_end_ = UINT32_MAX;  // behind the last `from __future__ import …`
};

}  // namespace

void ScanPython(const std::vector<std::string>& names, Scan& scan) { PythonScanner(names, scan).Run(); }

}  // namespace jobc::script
