// What the grammar's rules share while they run over one text: the growing parse tree, the open brackets, the depth,
// how blanks are to be read here, and the two ways to go on after a fault. Plain C++ without PEGTL, so that everything
// the grammar itself cannot say is in one small place. Lives for one call of ParseText.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/parse/parse_tree.h"

namespace jobc {

/// Nesting of blocks, expressions and types above this is E013.
inline constexpr uint32_t kMaxNesting = 256;
/// A file with more syntax errors than this is not a .job file; the rest is not read.
inline constexpr uint32_t kMaxSyntaxErrors = 100;

/// Thrown when a rule that must match does not; the fault is already reported. Caught in `recoverable` and
/// `interpolated` (grammar/) only.
struct SyntaxError {};

class ParserState {
 public:
  ParserState(SourceId source, std::string_view text, Diagnostics& diags);

  // ---- the tree
  struct Mark {
    size_t nodes = 0;
    uint32_t roots = 0;
    uint32_t last_end = 0;
  };
  Mark Begin() const { return {tree_.nodes.size(), roots_, last_end_}; }
  /// Everything since `mark` becomes children of one node.
  void Finish(const Mark& mark, NodeKind kind, uint32_t begin, uint32_t end) {
    tree_.nodes.push_back({begin, end, kind, roots_ - mark.roots});
    roots_ = mark.roots + 1;
  }
  uint32_t RootsSince(const Mark& mark) const { return roots_ - mark.roots; }
  void Undo(const Mark& mark) {
    tree_.nodes.resize(mark.nodes);
    roots_ = mark.roots;
    last_end_ = mark.last_end;
  }

  uint32_t Offset(const char* at) const { return static_cast<uint32_t>(at - text_.data()); }
  /// Where the last token ended.
  uint32_t last_end() const { return last_end_; }

  // ---- blanks and comments
  /// The next token's first byte. Remembers `at` as the end of the last token, and the comments.
  const char* SkipTrivia(const char* at);
  /// The same without remembering, to look ahead.
  const char* PeekTrivia(const char* at) const { return text_.data() + Skip(Offset(at), nullptr); }

  // ---- brackets, depth, contexts
  void OpenBracket(const char* at);
  void CloseBracket();
  void Enter(const char* at);  ///< one level deeper; E013 and SyntaxError at kMaxNesting
  void Leave() { --depth_; }
  bool constructor_allowed() const { return constructor_allowed_; }
  void set_constructor_allowed(bool allowed) { constructor_allowed_ = allowed; }

  // ---- faults
  enum class FailureKind : uint8_t { Expected, Closer, MissingValue, Heredoc, Item, Continuation };
  /// Reports that `expected` is not what stands at `at`, then throws SyntaxError.
  [[noreturn]] void Fail(const char* at, std::string_view expected, FailureKind kind);
  /// The end of the file inside of a block: reported, and taken as its `}`.
  /// Behind `for x in xs`: a word on the same line that begins no item and stands where `key` (`first` k) or `max` (m) could.
  /// Reports it and returns true; false says nothing.
  bool MisspeltForWord(const char* position, char first);
  /// Behind the `max` of a `for`: reports its `key`, which stands before `max`. True unless parsing has stopped.
  bool KeyAfterMax(const char* position);
  void MissingBlockEnd(const char* at);
  /// A value is missing before the end of the line: the next line starts an item of its own.
  bool ValueIsMissing(const char* at) const;

  /// What must be as it was when parsing goes on after a fault.
  struct Context {
    Mark mark;
    size_t brackets = 0;
    uint32_t depth = 0;
    uint32_t limit = 0;
    uint32_t heredoc_end = 0;
    uint8_t blanks = 0;
    bool constructor_allowed = true;
    bool in_heredoc = false;
  };
  Context Save() const;
  /// The same at the first byte of an item; also watches the indentation, to guess where a missing `}` belongs.
  Context SaveAtItem(const char* item);
  /// Leaves an Error node for the item that began at `item` and returns where the next item may begin.
  const char* RecoverItem(const Context& context, const char* item);

  // ---- strings and heredocs
  /// Inside `~{ … }`: no comments, and in a string no line breaks. `at` is behind the `~{`.
  Context EnterInterpolation(const char* at);
  void LeaveInterpolation(const Context& context);
  /// Leaves an Error node and returns where the text goes on.
  const char* RecoverInterpolation(const Context& context, const char* begin);

  /// Behind the tag: checks the rest of the line, finds the terminator; returns the first byte of the body.
  const char* BeginHeredoc(const char* tag_begin, const char* tag_end);
  /// The next `~{` of the body, or its end. `~~{` is no `~{`.
  const char* HeredocTextEnd(const char* at) const;
  /// Behind the terminator's tag; nullptr while `at` is not at the end of the body.
  const char* EndHeredoc(const char* at);
  bool in_interpolation() const { return blanks_ != Blanks::Code; }

  ParseTree TakeTree() { return std::move(tree_); }
  /// What is to be parsed: the text, or nothing where it turned out to be no text.
  std::string_view text() const { return text_; }

 private:
  enum class Blanks : uint8_t { Code, String, Heredoc };
  struct Bracket {
    uint32_t offset = 0;
    uint32_t indent = 0;  ///< of the item that opened it
    char open = 0;
    bool constructor_allowed = true;
  };

  void CheckCharacters();
  uint32_t Skip(uint32_t at, std::vector<ast::Comment>* comments) const;
  char At(uint32_t offset) const { return offset < size_ ? text_[offset] : '\0'; }
  Span SpanOf(uint32_t begin, uint32_t end) const { return {tree_.source, begin, end}; }
  struct Found {
    uint32_t end;
    std::string text;
  };
  Found FoundAt(uint32_t at) const;
  void CountFault();
  uint32_t LineBegin(uint32_t at) const;
  void AddUnitHelp(Diagnostic& diagnostic, uint32_t unit_begin, uint32_t unit_end);
  bool LooksLikeItem(uint32_t at) const;
  uint32_t WordEnd(uint32_t at) const;
  uint32_t SkipBlanks(uint32_t at) const;
  uint32_t SkipToken(uint32_t at) const;
  uint32_t LineEnd(uint32_t at) const;
  /// The first line behind the one of `at` that ends a heredoc with this tag, or UINT32_MAX.
  uint32_t FindTerminator(uint32_t at, std::string_view tag);
  uint32_t Resync(uint32_t from, uint32_t item, std::string open);

  std::string_view text_;
  uint32_t size_;
  Diagnostics& diags_;
  ParseTree tree_;
  uint32_t roots_ = 0;
  uint32_t last_end_ = 0;
  uint32_t depth_ = 0;
  uint32_t limit_;               ///< blanks are never skipped past this offset (the end of a heredoc's body)
  uint32_t heredoc_end_ = 0;     ///< first byte of the terminator's line
  uint32_t error_at_ = 0;        ///< where the last fault was
  uint32_t resync_from_ = 0;     ///< where to look for the next item after it
  uint32_t faults_ = 0;
  Blanks blanks_ = Blanks::Code;
  bool constructor_allowed_ = true;
  bool in_heredoc_ = false;
  bool stopped_ = false;
  std::vector<Bracket> brackets_;
  std::vector<Span> bad_characters_;                    ///< reported before parsing, in order
  /// Tags without a terminator from an offset on. Every entry cost a walk to the end of the file, so there is a limit
  /// (kMaxSyntaxErrors); above it nothing is searched any more.
  std::vector<std::pair<std::string, uint32_t>> unterminated_;
  /// A block that holds an item indented no more than itself: where a missing `}` belongs, most likely.
  uint32_t suspect_open_ = UINT32_MAX;
  uint32_t indent_ = 0;  ///< of the last item that is the first in its line
};

}  // namespace jobc
