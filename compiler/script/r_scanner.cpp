// The R half: holes may stand where an expression may. Follows R's lexer (R Language Definition 10.3; `?Quotes` for raw
// strings): strings, raw strings, backtick names, `%op%`, comments. There is no interpolation in R's strings.
#include <string_view>

#include "compiler/script/scan.h"

namespace jobc::script {
namespace {

class RScanner {
 public:
  RScanner(const std::vector<std::string>& names, Scan& scan) : scan_(scan), names_(names), units_(Units(scan.source)) {}

  void Run() {
    std::string word;  // the identifier right before, or before blanks
    while (!AtEnd()) {
      uint32_t c = Peek();
      if (IsHole(c)) {
        Expression(HoleOf(c), word);
        word.clear();
      } else if (IsNameChar(c) || c == '.' || c >= 0x80) {
        if ((c == 'r' || c == 'R') && RawString()) {
          word.clear();
          continue;
        }
        word.clear();
        while (!AtEnd() && !IsHole(Peek()) && (IsNameChar(Peek()) || Peek() == '.' || Peek() >= 0x80)) {
          if (word.size() < 32) word += static_cast<char>(Peek());
          ++pos_;
        }
      } else if (c == '"' || c == '\'') {
        Quoted(c, "a string");
        word.clear();
      } else if (c == '`') {
        Quoted(c, "a name in backticks");
        word.clear();
      } else if (c == '%') {
        Operator();
        word.clear();
      } else if (c == '#') {
        Comment();
      } else {
        if (c != ' ' && c != '\t') word.clear();
        ++pos_;
      }
    }
  }

 private:
  bool AtEnd() const { return pos_ >= units_.size(); }
  uint32_t Peek(size_t ahead = 0) const { return pos_ + ahead < units_.size() ? units_[pos_ + ahead].value : kEnd; }
  uint32_t Before(size_t back) const { return pos_ >= back ? units_[pos_ - back].value : kEnd; }
  std::string Written(uint32_t hole) const { return scan_.Written(hole); }
  void Refuse(uint32_t hole, std::string message, std::string label, std::string help) {
    scan_.Report(Code::E403, hole, std::move(message), std::move(label), std::move(help));
  }

  void Expression(uint32_t hole, const std::string& word) {
    uint32_t before = Before(1);
    size_t back = 1;
    while (Before(back) == ' ' || Before(back) == '\t') ++back;
    bool assigned_to = Before(back) == '>' && (Before(back + 1) == '-');
    ++pos_;
    scan_.seen[hole] = true;
    const std::string written = Written(hole);
    const Hole& h = scan_.hole(hole);
    if (h.spliced) {
      scan_.Report(Code::E404, hole, "a list is a vector or list of R here, `...` is for words of a shell",
                   "`" + written + "` has no meaning in R", "~{" + h.source + "}");
      return;
    }
    auto joins = [](uint32_t c) {
      return IsHole(c) || (c != kEnd && (IsNameChar(c) || c >= 0x80 || c == '.' || c == '\'' || c == '"' || c == '`'));
    };
    if (joins(before) || joins(Peek())) {
      Refuse(hole, "a value is an expression of its own and cannot be joined to other text",
             "`" + written + "` touches what stands beside it", "join texts with paste0:  paste0(" + written + ", \"…\")");
      return;
    }
    if (before == '$' || before == '@' || (before == ':' && Before(3) == ':') || word == "for") {
      Refuse(hole, "a value cannot stand where R expects a name", "`" + written + "` is a value",
             "use the value as an index:  x[[" + written + "]]");
      return;
    }
    size_t next = 0;
    while (Peek(next) == ' ' || Peek(next) == '\t') ++next;
    bool arrow = Peek(next) == '<' && (Peek(next + 1) == '-' || (Peek(next + 1) == '<' && Peek(next + 2) == '-'));
    bool equals = Peek(next) == '=' && Peek(next + 1) != '=';
    if (arrow || equals || assigned_to) {
      Refuse(hole, "a value cannot be assigned to", "`" + written + "` is a value, not a variable",
             "give it to a variable first:  value <- " + written);
      return;
    }
    scan_.references[hole] = names_[hole];
  }

  void InString(uint32_t hole, const char* what) {
    Refuse(hole, std::string(what) + " cannot take a value", "`" + Written(hole) + "` stands inside " + what,
           "join the texts:  paste0(\"…\", " + Written(hole) + ", \"…\")");
  }

  void Quoted(uint32_t quote, const char* what) {
    ++pos_;
    while (!AtEnd()) {
      uint32_t c = units_[pos_++].value;
      if (IsHole(c)) InString(HoleOf(c), what);
      if (c == quote) return;
      if (c == '\\' && !AtEnd() && !IsHole(Peek())) ++pos_;
    }
  }

  /// `r"---(…)---"`; false if this is not the beginning of one.
  bool RawString() {
    uint32_t quote = Peek(1);
    if (quote != '"' && quote != '\'') return false;
    size_t dashes = 0;
    while (Peek(2 + dashes) == '-') ++dashes;
    uint32_t open = Peek(2 + dashes);
    uint32_t close = open == '(' ? ')' : open == '[' ? ']' : open == '{' ? '}' : kEnd;
    if (close == kEnd) return false;
    pos_ += 3 + dashes;
    while (!AtEnd()) {
      uint32_t c = units_[pos_++].value;
      if (IsHole(c)) InString(HoleOf(c), "a string");
      if (c != close) continue;
      size_t seen = 0;
      while (seen < dashes && Peek(seen) == '-') ++seen;
      if (seen == dashes && Peek(dashes) == quote) {
        pos_ += dashes + 1;
        return true;
      }
    }
    return true;
  }

  /// `%in%`, `%%`: to the next `%` on the line.
  void Operator() {
    ++pos_;
    while (!AtEnd() && Peek() != '\n') {
      uint32_t c = units_[pos_++].value;
      if (IsHole(c)) InString(HoleOf(c), "an operator's name");
      if (c == '%') return;
    }
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

  Scan& scan_;
  const std::vector<std::string>& names_;
  const std::vector<Unit> units_;
  size_t pos_ = 0;
};

}  // namespace

void ScanR(const std::vector<std::string>& names, Scan& scan) { RScanner(names, scan).Run(); }

}  // namespace jobc::script
