#include "compiler/parse/parser_state.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "support/check.h"

namespace jobc {
namespace {

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameChar(char c) { return IsNameStart(c) || IsDigit(c); }
bool IsBlank(char c) { return c == ' ' || c == '\t'; }
char CloserOf(char open) { return open == '(' ? ')' : open == '[' ? ']' : open == '{' ? '}' : open == '<' ? '>' : open; }

/// Words that begin an item when a name or string follows.
bool IsItemWord(std::string_view word) {
  static constexpr std::string_view kWords[] = {"import", "let", "fn", "secret", "enum", "struct", "type", "module", "require",
                                                "for", "job", "check", "finally", "template", "pool", "publish", "profile",
                                                "hook", "test", "open"};
  return std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords);
}

/// Length of the well-formed UTF-8 sequence at `at` (Unicode 15, table 3-7), or 0.
size_t SequenceLength(std::string_view text, size_t at) {
  auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u; };
  auto tail = [&](size_t i) { return byte(i) >= 0x80 && byte(i) <= 0xBF; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F)) return 0;
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if ((lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) return 0;
    return 4;
  }
  return 0;
}

}  // namespace

std::string_view NodeKindName(NodeKind kind) {
  static constexpr std::string_view kNames[] = {
      "None",
#define X(name) #name,
      JOBC_NODE_KINDS(X)
#undef X
  };
  return kNames[static_cast<size_t>(kind)];
}

ParserState::ParserState(SourceId source, std::string_view text, Diagnostics& diags)
    : text_(text), size_(static_cast<uint32_t>(text.size())), diags_(diags), limit_(size_) {
  tree_.source = source;
  tree_.nodes.reserve(text.size() / 6);
  CheckCharacters();
}

/// One pass over the bytes: what is no text is reported here, once, and read as blanks later.
void ParserState::CheckCharacters() {
  uint32_t at = 0;
  while (at < size_) {
    uint64_t eight;
    if (at + 8 <= size_ && (std::memcpy(&eight, text_.data() + at, 8), (eight & 0x8080808080808080u) == 0)) {
      // No byte below 0x20 and no 0x7F among the eight: nothing to look at. (Hacker's Delight, 6-1.)
      const uint64_t below = (eight - 0x2020202020202020u) & ~eight & 0x8080808080808080u;
      const uint64_t is_del = eight ^ 0x7F7F7F7F7F7F7F7Fu;
      const uint64_t del = (is_del - 0x0101010101010101u) & ~is_del & 0x8080808080808080u;
      if ((below | del) == 0) {
        at += 8;
        continue;
      }
    }
    const auto byte = static_cast<unsigned char>(text_[at]);
    if (byte == '\t' || byte == '\n' || (byte >= 0x20 && byte < 0x7F) || (byte == '\r' && At(at + 1) == '\n')) {
      ++at;
      continue;
    }
    const size_t length = SequenceLength(text_, at);
    if (byte >= 0x80 && length > 0) {
      at += static_cast<uint32_t>(length);
      continue;
    }
    // A run of the same fault is one fault.
    uint32_t end = at + 1;
    std::string what;
    if (byte >= 0x80) {
      while (end < size_ && static_cast<unsigned char>(text_[end]) >= 0x80 && SequenceLength(text_, end) == 0) ++end;
      what = fmt::format("the byte 0x{:02X}, which is not UTF-8,", byte);
    } else {
      while (end < size_ && text_[end] == text_[at]) ++end;
      what = byte == 0      ? std::string("a NUL byte")
             : byte == '\r' ? std::string("a carriage return without a line feed")
                            : fmt::format("the control character U+{:04X}", byte);
    }
    bad_characters_.push_back(SpanOf(at, end));
    Diagnostic& diagnostic = diags_.Emit(SpanOf(at, end), diag::SyntaxCharacter, what);
    if (byte >= 0x80) diagnostic.AddHelp("save the file as UTF-8");
    else if (byte == '\r') diagnostic.AddHelp("end lines with LF or CRLF");
    else if (byte != 0) diagnostic.AddHelp(fmt::format("in a string write `\\u{{{:X}}}`", byte));
    if (bad_characters_.size() == kMaxSyntaxErrors) {
      diagnostic.Note("there are more; is this a text file?");
      stopped_ = true;  // no text file: nothing in it is worth parsing
      text_ = text_.substr(0, 0);
      size_ = limit_ = 0;
      return;
    }
    at = end;
  }
}

// ---- blanks and comments

uint32_t ParserState::Skip(uint32_t at, std::vector<ast::Comment>* comments) const {
  for (;;) {
    const char c = At(at);
    if (c == ' ' || c == '\t') {
      ++at;
    } else if (c == '\n' || c == '\r') {
      if (blanks_ == Blanks::String || at >= limit_) return at;
      ++at;
    } else if (c == '#') {
      if (blanks_ != Blanks::Code) return at;
      uint32_t end = LineEnd(at);
      if (comments != nullptr && (comments->empty() || comments->back().span.begin < at)) {
        uint32_t trimmed = end;
        while (trimmed > at && IsBlank(text_[trimmed - 1])) --trimmed;
        comments->push_back({SpanOf(at, trimmed), At(at + 1) == '#'});
      }
      at = end;
    } else if (at < size_ && !bad_characters_.empty() && (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F)) {
      auto bad = std::upper_bound(bad_characters_.begin(), bad_characters_.end(), at,
                                  [](uint32_t offset, Span span) { return offset < span.begin; });
      if (bad == bad_characters_.begin() || std::prev(bad)->end <= at) return at;
      at = std::prev(bad)->end;
    } else {
      return at;
    }
  }
}

const char* ParserState::SkipTrivia(const char* at) {
  last_end_ = Offset(at);
  return text_.data() + Skip(last_end_, &tree_.comments);
}

uint32_t ParserState::LineEnd(uint32_t at) const {
  if (at >= size_) return size_;
  const void* newline = std::memchr(text_.data() + at, '\n', size_ - at);
  uint32_t end = newline == nullptr ? size_ : Offset(static_cast<const char*>(newline));
  if (end > at && text_[end - 1] == '\r') --end;
  return end;
}

uint32_t ParserState::WordEnd(uint32_t at) const {
  if (!IsNameStart(At(at))) return at;
  while (IsNameChar(At(at))) ++at;
  return at;
}

uint32_t ParserState::SkipBlanks(uint32_t at) const {
  while (IsBlank(At(at))) ++at;
  return at;
}

// ---- brackets, depth

void ParserState::OpenBracket(const char* at) {
  brackets_.push_back({Offset(at), indent_, *at, constructor_allowed_});
  constructor_allowed_ = true;
}

void ParserState::CloseBracket() {
  JOBC_CHECK(!brackets_.empty());
  constructor_allowed_ = brackets_.back().constructor_allowed;
  brackets_.pop_back();
}

void ParserState::Enter(const char* at) {
  if (++depth_ <= kMaxNesting) return;
  error_at_ = resync_from_ = Offset(at);
  Diagnostic& diagnostic = diags_.Emit(SpanOf(error_at_, FoundAt(error_at_).end), diag::NestingTooDeep, kMaxNesting);
  if (!brackets_.empty()) diagnostic.Secondary(SpanOf(brackets_.back().offset, brackets_.back().offset + 1), "the innermost bracket");
  diagnostic.AddHelp("give inner parts a name with `let`, or split the block");
  CountFault();
  throw SyntaxError{};
}

// ---- faults

ParserState::Found ParserState::FoundAt(uint32_t at) const {
  if (at >= size_) return {size_, "the end of the file"};
  if (in_heredoc_ && at >= limit_) return {at, "the end of the heredoc"};
  const char c = text_[at];
  if (c == '\n' || c == '\r') return {at, "the end of the line"};
  if (c == '#') return {LineEnd(at), "a comment"};
  if (c == '"') {
    if (blanks_ == Blanks::String) return {at + 1, "the end of the string"};
    return {SkipToken(at), "a string"};
  }
  if (IsNameChar(c)) {
    uint32_t end = at;
    while (IsNameChar(At(end))) ++end;
    if (end - at > 40) return {end, fmt::format("`{}…`", text_.substr(at, 40))};
    return {end, fmt::format("`{}`", text_.substr(at, end - at))};
  }
  for (std::string_view sign : {"<<~", "...", "=>", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "..", "->", "~{"}) {
    if (text_.substr(at, sign.size()) == sign) return {at + static_cast<uint32_t>(sign.size()), fmt::format("`{}`", sign)};
  }
  const auto length = static_cast<uint32_t>(std::max<size_t>(1, SequenceLength(text_, at)));
  if (length == 1 && static_cast<unsigned char>(c) >= 0x80) return {at + 1, fmt::format("the byte 0x{:02X}", static_cast<unsigned char>(c))};
  if (text_.substr(at, length) == "\xEF\xBB\xBF") return {at + length, "a byte order mark (U+FEFF)"};
  return {at + length, fmt::format("`{}`", text_.substr(at, length))};
}

void ParserState::CountFault() {
  if (++faults_ < kMaxSyntaxErrors || stopped_) return;
  const_cast<Diagnostic&>(diags_.all().back()).Note("there are too many syntax errors; the rest of the file was not read");
  stopped_ = true;
}

/// `5 m`: a number, blanks and a unit.
void ParserState::AddUnitHelp(Diagnostic& diagnostic, uint32_t begin, uint32_t end) {
  uint32_t number_end = begin;
  while (number_end > 0 && IsBlank(text_[number_end - 1])) --number_end;
  if (number_end == 0 || number_end == begin || !IsDigit(text_[number_end - 1])) return;
  const std::string_view unit = text_.substr(begin, end - begin);
  for (std::string_view known : {"ms", "s", "m", "h", "d", "B", "KB", "MB", "GB", "TB", "PB", "KiB", "MiB", "GiB", "TiB", "PiB"}) {
    if (unit == known) {
      diagnostic.AddHelp("a quantity has no blank between number and unit", {Edit{SpanOf(number_end, begin), ""}});
      return;
    }
  }
}

void ParserState::Fail(const char* position, std::string_view expected, FailureKind kind) {
  const uint32_t at = Offset(position);
  const bool again = faults_ > 0 && error_at_ == at;
  error_at_ = resync_from_ = at;
  if (stopped_) throw SyntaxError{};
  // A byte that is no text is reported already.
  for (const Span& bad : bad_characters_) {
    if (bad.begin <= at && at < bad.end) throw SyntaxError{};
  }
  const Bracket* open = brackets_.empty() ? nullptr : &brackets_.back();
  const Span open_span = open == nullptr ? Span{} : SpanOf(open->offset, open->offset + 1);
  if (open != nullptr && open->open == '"') {
    // A string or regular expression: it ends with its line, and so does whatever it is part of. Where an open `~{`
    // has run to the end of the line, that is said already.
    if (again) throw SyntaxError{};
    if (blanks_ == Blanks::String) {
      // Inside of `"… ~{`: more likely the quote is the end of the outer string, and the `}` was forgotten.
      const uint32_t quote = open->offset;
      uint32_t start = quote;
      for (size_t i = brackets_.size(); i-- > 0;) {
        if (brackets_[i].open != '{' || brackets_[i].offset == 0 || text_[brackets_[i].offset - 1] != '~') continue;
        start = brackets_[i].offset;
        break;
      }
      error_at_ = resync_from_ = quote;
      diags_.Emit(SpanOf(quote, quote + 1), diag::SyntaxUnexpected, "a value or `}` at the end of `~{`", "the end of the string")
          .Secondary(SpanOf(start - 1, start + 1), "this `~{` is still open");
      CountFault();
      throw SyntaxError{};
    }
    Diagnostic& diagnostic = diags_.Emit(SpanOf(open->offset, at), diag::SyntaxUnclosed, expected);
    diagnostic.Label("starts here").AddHelp("close it with `\"` on the same line");
    if (expected == "string") diagnostic.Note("a text of several lines is a heredoc: `<<~TXT`");
    CountFault();
    throw SyntaxError{};
  }
  if (kind == FailureKind::MissingValue) {
    const uint32_t end = last_end_;
    diags_.Emit(SpanOf(end > 0 ? end - 1 : 0, end), diag::SyntaxMissing, expected).Label(fmt::format("{} must follow", expected));
    CountFault();
    throw SyntaxError{};
  }
  if (kind == FailureKind::Continuation) {
    // A word alone: what is missing belongs right behind it, whatever the next line holds.
    uint32_t begin = last_end_;
    while (begin > 0 && IsNameChar(text_[begin - 1])) --begin;
    const bool line_ended = std::memchr(text_.data() + last_end_, '\n', at - last_end_) != nullptr;
    Diagnostic& diagnostic = diags_.Emit(SpanOf(begin, last_end_), diag::SyntaxUnexpected, expected, line_ended ? "the end of the line" : FoundAt(at).text);
    AddUnitHelp(diagnostic, begin, last_end_);
    CountFault();
    throw SyntaxError{};
  }
  const Found found = FoundAt(at);
  Diagnostic& diagnostic = diags_.Emit(SpanOf(at, found.end), diag::SyntaxUnexpected, expected, found.text);
  if (kind == FailureKind::Heredoc) {
    diagnostic.AddHelp("give the text a name with `let` outside and use the name here");
  } else if (open != nullptr && (kind == FailureKind::Closer || at >= size_)) {
    const bool interpolation = open->open == '{' && open->offset > 0 && text_[open->offset - 1] == '~';
    diagnostic.Secondary(interpolation ? SpanOf(open->offset - 1, open->offset + 1) : open_span,
                         fmt::format("this `{}{}` is still open", interpolation ? "~" : "", open->open));
  }
  // What people coming from elsewhere write.
  if (found.text == "`'`") diagnostic.AddHelp("strings are written with double quotes");
  if (found.text == "a comment") diagnostic.AddHelp("comments cannot stand inside of `~{ }`");
  if (found.text == "`&`") diagnostic.AddHelp("the operator is `&&`");
  if (found.text == "`|`") diagnostic.AddHelp("the operator is `||`");
  if (found.text == "`$`") diagnostic.AddHelp("a value is inserted with `~{name}`");
  if (kind == FailureKind::Item && found.text == "`if`") {
    diagnostic.AddHelp("a condition is a value: `name = if c then a else b`; a whole job is guarded by `when = c`");
  }
  AddUnitHelp(diagnostic, at, WordEnd(at));
  CountFault();
  throw SyntaxError{};
}

bool ParserState::KeyAfterMax(const char* position) {
  const uint32_t begin = Offset(position);
  if (stopped_) return false;
  diags_.Emit(SpanOf(begin, begin + 3), diag::SyntaxUnexpected, "the next item", "`key`")
      .Label("`key` comes before `max`")
      .AddHelp("write `for … key … max …`");
  error_at_ = begin;
  CountFault();
  return true;
}

bool ParserState::MisspeltForWord(const char* position, char first) {
  const uint32_t begin = Offset(position);
  uint32_t end = begin;
  while (IsNameChar(At(end))) ++end;
  const std::string_view word = text_.substr(begin, end - begin);
  if (stopped_ || word.empty() || IsDigit(word[0]) || text_.substr(last_end_, begin - last_end_).find('\n') != std::string_view::npos) return false;
  for (std::string_view item : {"for", "key", "max", "if", "else", "then", "in", "match", "require", "let", "fn", "type", "enum", "secret", "import", "module", "open", "skip"}) {
    if (word == item) return false;
  }
  uint32_t next = end;
  while (IsBlank(At(next))) ++next;
  if (next == end) return false;
  const char c = At(next);
  if (!IsNameChar(c) && c != '"' && c != '[' && c != '(') return false;
  // `kind label {` is a block, `a b = …` an item whose first word does not belong to this one.
  uint32_t after = next;
  if (c == '"') {
    ++after;
    while (At(after) != '"' && At(after) != '\n' && after < size_) ++after;
    ++after;
  } else {
    while (IsNameChar(At(after)) || At(after) == '.') ++after;
  }
  while (IsBlank(At(after))) ++after;
  if (At(after) == '{' || (At(after) == '=' && At(after + 1) != '=')) return false;
  const bool is_max = word[0] == 'm' || word[0] == 'M' || word.find("max") != std::string_view::npos || word.find("limit") != std::string_view::npos || (word[0] != 'k' && IsDigit(c));
  if (is_max != (first == 'm')) return false;
  const std::string_view meant = is_max ? "max" : "key";
  diags_.Emit(SpanOf(begin, end), diag::SyntaxUnexpected, "`key`, `max` or the next item", fmt::format("`{}`", word))
      .Label("not a word of `for`")
      .AddHelp(fmt::format("did you mean `{}`?", meant), {Edit{SpanOf(begin, end), std::string(meant)}});
  error_at_ = begin;
  CountFault();
  return true;
}

void ParserState::MissingBlockEnd(const char* position) {
  const uint32_t at = Offset(position);
  const Bracket open = brackets_.back();
  // One report for all that the end of the file leaves open.
  if (!stopped_ && (faults_ == 0 || error_at_ != at)) {
    error_at_ = at;
    Diagnostic& diagnostic = diags_.Emit(SpanOf(at, at), diag::SyntaxUnexpected, "`}`", FoundAt(at).text);
    diagnostic.Secondary(SpanOf(open.offset, open.offset + 1), "this `{` is still open");
    for (size_t i = brackets_.size() - 1, shown = 1; i-- > 0 && shown < 4; ++shown) {
      diagnostic.Secondary(SpanOf(brackets_[i].offset, brackets_[i].offset + 1), "and this one");
    }
    if (suspect_open_ != UINT32_MAX && suspect_open_ >= open.offset) {
      if (suspect_open_ > open.offset) {
        diagnostic.Secondary(SpanOf(suspect_open_, suspect_open_ + 1), "by the indentation, the `}` of this one is missing");
      } else {
        diagnostic.Note("by the indentation, this block was meant to end before the next item");
      }
      suspect_open_ = UINT32_MAX;
    }
    CountFault();
  }
  last_end_ = std::max(last_end_, open.offset + 1);
  CloseBracket();
}

bool ParserState::ValueIsMissing(const char* position) const {
  const uint32_t at = Offset(position);
  if (last_end_ >= at || std::memchr(text_.data() + last_end_, '\n', at - last_end_) == nullptr) return false;
  const uint32_t end = WordEnd(at);
  if (end == at) return false;
  const uint32_t next = SkipBlanks(end);
  if (At(next) == ':') return true;
  if (At(next) == '=') return At(next + 1) != '=' && At(next + 1) != '>';
  return next > end && IsItemWord(text_.substr(at, end - at)) && (IsNameStart(At(next)) || At(next) == '"');
}

ParserState::Context ParserState::Save() const {
  return {Begin(), brackets_.size(), depth_, limit_, heredoc_end_, static_cast<uint8_t>(blanks_), constructor_allowed_, in_heredoc_};
}

ParserState::Context ParserState::SaveAtItem(const char* item) {
  const uint32_t begin = Offset(item);
  uint32_t blanks = begin;
  while (blanks > 0 && IsBlank(text_[blanks - 1])) --blanks;
  if (blanks == 0 || text_[blanks - 1] == '\n') {
    indent_ = begin - blanks;
    if (suspect_open_ == UINT32_MAX && !brackets_.empty() && indent_ <= brackets_.back().indent) suspect_open_ = brackets_.back().offset;
  }
  return Save();
}

uint32_t ParserState::LineBegin(uint32_t at) const {
  const void* newline = at == 0 ? nullptr : memrchr(text_.data(), '\n', at);
  return newline == nullptr ? 0 : Offset(static_cast<const char*>(newline)) + 1;
}

bool ParserState::LooksLikeItem(uint32_t at) const {
  if (At(at) == '"') {
    const uint32_t next = SkipBlanks(SkipToken(at));
    return At(next) == '=' && At(next + 1) != '=' && At(next + 1) != '>';
  }
  const uint32_t end = WordEnd(at);
  if (end == at) return false;
  uint32_t next = SkipBlanks(end);
  if (At(next) == '=') return At(next + 1) != '=' && At(next + 1) != '>';
  if (At(next) == ':' || At(next) == '{') return true;
  if (!IsNameStart(At(next)) && At(next) != '"') return false;
  if (IsItemWord(text_.substr(at, end - at))) return true;
  for (int labels = 0; labels < 4; ++labels) {
    uint32_t label_end = At(next) == '"' ? SkipToken(next) : WordEnd(next);
    while (At(label_end) == '.' && WordEnd(label_end + 1) > label_end + 1) label_end = WordEnd(label_end + 1);
    if (label_end == next) break;
    next = SkipBlanks(label_end);
  }
  return At(next) == '{';
}

uint32_t ParserState::SkipToken(uint32_t at) const {
  const char c = At(at);
  if (c == '"') {
    uint32_t end = at + 1;
    while (end < size_ && text_[end] != '"' && text_[end] != '\n') end += text_[end] == '\\' && end + 1 < size_ && text_[end + 1] != '\n' ? 2 : 1;
    return end < size_ && text_[end] == '"' ? end + 1 : end;
  }
  if (IsNameChar(c)) {
    uint32_t end = at;
    while (IsNameChar(At(end))) ++end;
    return end;
  }
  return at + 1;
}

/// Where the next item may begin after a fault at `from` in the item that began at `item`. `open` holds the brackets
/// that the item has opened there. A line that looks like an item and is indented no more than the failed one ends it
/// even inside of brackets: then it is the closing one that is missing.
uint32_t ParserState::Resync(uint32_t from, uint32_t item, std::string open) {
  const uint32_t item_line = LineBegin(item);
  const uint32_t indent = SkipBlanks(item_line) - item_line;
  uint32_t at = std::max(from, item);
  uint32_t line_begin = LineBegin(at);
  bool first_in_line = SkipBlanks(line_begin) == at;
  bool moved = at > item;
  for (;;) {
    for (;;) {  // blanks and comments
      const char c = At(at);
      if (at < size_ && (IsBlank(c) || c == '\r')) {
        ++at;
      } else if (c == '\n') {
        line_begin = ++at;
        first_in_line = true;
      } else if (c == '#') {
        at = LineEnd(at);
      } else {
        break;
      }
    }
    if (at >= size_) return size_;
    const char c = text_[at];
    if (moved && first_in_line && at - line_begin <= indent && (c == '}' || LooksLikeItem(at))) return at;
    if (open.empty() && moved) {
      if (c == ',' || c == ';' || c == '}') return at;
      if (first_in_line && LooksLikeItem(at)) return at;
    }
    first_in_line = false;
    if (c == '(' || c == '[' || c == '{') {
      open.push_back(c);
      ++at;
    } else if (c == ')' || c == ']' || c == '}') {
      size_t partner = open.size();
      while (partner > 0 && CloserOf(open[partner - 1]) != c) --partner;
      if (partner > 0) open.resize(partner - 1);
      else if (c == '}' && moved) return at;
      ++at;
    } else if (text_.substr(at, 3) == "<<~") {
      const uint32_t tag_end = WordEnd(at + 3);
      const uint32_t terminator = tag_end > at + 3 ? FindTerminator(tag_end, text_.substr(at + 3, tag_end - at - 3)) : UINT32_MAX;
      at = terminator != UINT32_MAX ? WordEnd(SkipBlanks(terminator)) : at + 3;
    } else {
      at = SkipToken(at);
    }
    moved = true;
  }
}

const char* ParserState::RecoverItem(const Context& context, const char* item_begin) {
  const uint32_t item = Offset(item_begin);
  std::string open;
  for (size_t i = context.brackets; i < brackets_.size(); ++i) {
    if (brackets_[i].open != '"' && brackets_[i].open != '<') open.push_back(brackets_[i].open);
  }
  brackets_.resize(context.brackets);
  depth_ = context.depth;
  limit_ = context.limit;
  heredoc_end_ = context.heredoc_end;
  blanks_ = static_cast<Blanks>(context.blanks);
  constructor_allowed_ = context.constructor_allowed;
  in_heredoc_ = context.in_heredoc;
  Undo(context.mark);
  const uint32_t resume = stopped_ ? size_ : Resync(resync_from_, item, std::move(open));
  uint32_t end = resume;
  while (end > item && (IsBlank(text_[end - 1]) || text_[end - 1] == '\n' || text_[end - 1] == '\r')) --end;
  Finish(context.mark, NodeKind::Error, item, end);
  last_end_ = end;
  return text_.data() + resume;
}

// ---- strings and heredocs

ParserState::Context ParserState::EnterInterpolation(const char*) {
  const Context context = Save();
  blanks_ = !brackets_.empty() && brackets_.back().open == '"' ? Blanks::String : Blanks::Heredoc;
  constructor_allowed_ = true;
  return context;
}

void ParserState::LeaveInterpolation(const Context& context) {
  blanks_ = static_cast<Blanks>(context.blanks);
  constructor_allowed_ = context.constructor_allowed;
}

const char* ParserState::RecoverInterpolation(const Context& context, const char* begin_at) {
  const uint32_t begin = Offset(begin_at);
  if (stopped_) throw SyntaxError{};
  const uint32_t error = resync_from_;
  brackets_.resize(context.brackets);
  depth_ = context.depth;
  blanks_ = static_cast<Blanks>(context.blanks);
  constructor_allowed_ = context.constructor_allowed;
  Undo(context.mark);
  const bool in_string = !brackets_.empty() && brackets_.back().open == '"';
  // To the `}` of its line, if there is one; else the text goes on where the fault was, or on the next line.
  const uint32_t line_end = std::min(LineEnd(begin), in_heredoc_ && !in_string ? limit_ : size_);
  uint32_t resume = UINT32_MAX;
  if (error <= line_end) {
    int depth = 0;
    for (uint32_t at = std::max(error, begin + 1); at < line_end; at = SkipToken(at)) {
      const char c = text_[at];
      if (in_string && c == '"') break;
      if (c == '{' || c == '(' || c == '[') ++depth;
      if (c == ')' || c == ']') depth = std::max(0, depth - 1);
      if (c == '}' && depth-- <= 0) {
        resume = at + 1;
        break;
      }
    }
  }
  if (resume == UINT32_MAX) resume = error <= line_end ? std::max(error, begin + 1) : line_end;
  Finish(context.mark, NodeKind::Error, begin, resume);
  return text_.data() + resume;
}

uint32_t ParserState::FindTerminator(uint32_t at, std::string_view tag) {
  if (unterminated_.size() >= kMaxSyntaxErrors) return UINT32_MAX;
  for (const auto& [known, from] : unterminated_) {
    if (known == tag && at >= from) return UINT32_MAX;
  }
  const uint32_t from = at;
  for (;;) {
    const void* newline = at < size_ ? std::memchr(text_.data() + at, '\n', size_ - at) : nullptr;
    if (newline == nullptr) break;
    at = Offset(static_cast<const char*>(newline)) + 1;
    const uint32_t word = SkipBlanks(at);
    const uint32_t word_end = word + static_cast<uint32_t>(tag.size());
    if (text_.substr(word, tag.size()) == tag && !IsNameChar(At(word_end))) {
      const uint32_t next = SkipBlanks(word_end);
      const char c = At(next);
      if (next >= size_ || c == '\n' || (c == '\r' && At(next + 1) == '\n') || (c != '\0' && std::strchr("#,;})]", c) != nullptr)) return at;
    }
  }
  unterminated_.emplace_back(std::string(tag), from);
  return UINT32_MAX;
}

const char* ParserState::BeginHeredoc(const char* tag_begin, const char* tag_end) {
  const uint32_t begin = Offset(tag_begin);
  const uint32_t end = Offset(tag_end);
  const std::string_view tag = text_.substr(begin, end - begin);
  const uint32_t rest = SkipBlanks(end);
  uint32_t line_end = LineEnd(end);
  uint32_t body = line_end;
  if (At(body) == '\r') ++body;
  if (At(body) == '\n') ++body;
  const uint32_t terminator = body > line_end ? FindTerminator(end, tag) : UINT32_MAX;
  if (terminator == UINT32_MAX) {
    error_at_ = begin - 3;
    resync_from_ = line_end;
    if (!stopped_) {
      diags_.Emit(SpanOf(begin - 3, end), diag::SyntaxUnclosed, "heredoc")
          .Label("starts here")
          .AddHelp(fmt::format("end it with a line that holds only `{}`", tag));
      CountFault();
    }
    // Its lines are no items; those that are indented like the item it belongs to may be.
    throw SyntaxError{};
  }
  if (rest < line_end) {
    diags_.Emit(SpanOf(rest, line_end), diag::SyntaxHeredoc, fmt::format("the text of a heredoc starts on the line after `<<~{}`", tag))
        .AddHelp("put the rest of this line behind the closing tag, or on the next line");
    CountFault();
  }
  in_heredoc_ = true;
  heredoc_end_ = terminator;
  limit_ = terminator;
  if (limit_ > body) --limit_;
  if (limit_ > body && text_[limit_ - 1] == '\r') --limit_;
  return text_.data() + body;
}

const char* ParserState::HeredocTextEnd(const char* position) const {
  uint32_t at = Offset(position);
  while (at < heredoc_end_) {
    const void* tilde = std::memchr(text_.data() + at, '~', heredoc_end_ - at);
    if (tilde == nullptr) return text_.data() + heredoc_end_;
    at = Offset(static_cast<const char*>(tilde));
    if (At(at + 1) == '{') return text_.data() + at;
    at += At(at + 1) == '~' && At(at + 2) == '{' ? 3 : 1;
  }
  return text_.data() + heredoc_end_;
}

const char* ParserState::EndHeredoc(const char* position) {
  if (Offset(position) != heredoc_end_) return nullptr;
  in_heredoc_ = false;
  limit_ = size_;
  return text_.data() + WordEnd(SkipBlanks(heredoc_end_));
}

}  // namespace jobc
