#include "compiler/format/format.h"

#include <algorithm>
#include <cctype>
#include <span>
#include <utility>
#include <vector>

#include "compiler/ast/build_ast.h"
#include "compiler/ast/dump.h"
#include "compiler/ast/literals.h"
#include "compiler/format/layout.h"
#include "compiler/parse/parse.h"
#include "compiler/parse/parse_tree.h"
#include "support/check.h"

namespace jobc {
namespace {

using NodeIndex = uint32_t;
using Nodes = std::span<const NodeIndex>;

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

/// How strongly a binary operator binds (the table of grammar/GRAMMAR.md): a chain is broken before its weakest ones.
int StrengthOf(std::string_view sign) {
  if (sign == "*" || sign == "/" || sign == "%") return 8;
  if (sign == "+" || sign == "-") return 7;
  if (sign == "??") return 6;
  if (sign == "..") return 5;
  if (sign == "&&") return 3;
  if (sign == "||") return 2;
  return 4;
}

/// The children of each node, found in one pass over the post-order.
class Children {
 public:
  explicit Children(const std::vector<Node>& nodes) : first_(nodes.size()), nodes_(nodes) {
    list_.reserve(nodes.size());
    std::vector<NodeIndex> roots;
    for (NodeIndex i = 0; i < nodes.size(); ++i) {
      first_[i] = static_cast<uint32_t>(list_.size());
      list_.insert(list_.end(), roots.end() - nodes[i].children, roots.end());
      roots.resize(roots.size() - nodes[i].children);
      roots.push_back(i);
    }
  }
  Nodes Of(NodeIndex i) const { return Nodes(list_).subspan(first_[i], nodes_[i].children); }

 private:
  std::vector<uint32_t> first_;
  std::vector<NodeIndex> list_;
  const std::vector<Node>& nodes_;
};

/// Walks the tree and the text side by side: every word of the text is written once, in order, and the comments before
/// it with it. Recursion is bounded by kMaxNesting. Needs a tree without Error nodes.
class Formatter {
 public:
  Formatter(const ParseTree& tree, std::string_view text) : tree_(tree), text_(text), children_(tree.nodes) {}

  std::string Format() {
    const Nodes items = children_.Of(static_cast<NodeIndex>(tree_.nodes.size() - 1));
    Items(items, true);
    Comments(static_cast<uint32_t>(text_.size()), !at_start_);
    JOBC_CHECK(next_comment_ == tree_.comments.size());
    return layout_.Render(kFormatWidth);
  }

 private:
  const Node& At(NodeIndex i) const { return tree_.nodes[i]; }
  NodeKind KindOf(NodeIndex i) const { return tree_.nodes[i].kind; }
  std::string_view Slice(uint32_t begin, uint32_t end) const { return text_.substr(begin, end - begin); }
  std::string_view TextOf(NodeIndex i) const { return Slice(At(i).begin, At(i).end); }

  // ---- the text between words

  /// Where the next word begins; with `separators`, behind commas and semicolons too.
  uint32_t Next(bool separators = false) const {
    uint32_t at = position_;
    while (at < text_.size()) {
      const char c = text_[at];
      if (c == '#') {
        while (at < text_.size() && text_[at] != '\n') ++at;
      } else if (IsBlank(c) || c == '\n' || (separators && (c == ',' || c == ';'))) {
        ++at;
      } else {
        break;
      }
    }
    return at;
  }
  /// The last separator before the next word, or UINT32_MAX.
  uint32_t LastSeparator() const {
    uint32_t found = UINT32_MAX;
    for (uint32_t at = position_, end = Next(true); at < end; ++at) {
      if (text_[at] == '#') {
        while (at < end && text_[at] != '\n') ++at;
      } else if (text_[at] == ',' || text_[at] == ';') {
        found = at;
      }
    }
    return found;
  }
  bool HasLineBreak(uint32_t begin, uint32_t end) const { return Slice(begin, end).find('\n') != std::string_view::npos; }
  /// Whether a line between holds nothing at all.
  bool HasBlankLine(uint32_t begin, uint32_t end) const {
    bool fresh = false;
    for (uint32_t at = begin; at < end; ++at) {
      if (text_[at] == '\n') {
        if (fresh) return true;
        fresh = true;
      } else if (!IsBlank(text_[at])) {
        fresh = false;
      }
    }
    return false;
  }
  uint32_t LineBegin(uint32_t at) const {
    while (at > 0 && text_[at - 1] != '\n') --at;
    return at;
  }
  uint32_t LineIndent(uint32_t at) const {
    const uint32_t begin = LineBegin(at);
    uint32_t end = begin;
    while (end < text_.size() && IsBlank(text_[end])) ++end;
    return end - begin;
  }
  int Column(uint32_t at) const { return Layout::Width(Slice(LineBegin(at), at)); }
  int BlanksBefore(uint32_t at) const {
    uint32_t begin = at;
    while (begin > 0 && IsBlank(text_[begin - 1])) --begin;
    return static_cast<int>(at - begin);
  }

  // ---- comments and line ends

  /// Writes the comments before `end`: that of the last word at the end of its line, the others on lines of their own.
  /// True if there was one: then a line end must follow.
  bool Comments(uint32_t end, bool blank_lines) {
    bool any = false;
    while (next_comment_ < tree_.comments.size() && tree_.comments[next_comment_].span.begin < end) {
      const Span span = tree_.comments[next_comment_++].span;
      const std::string_view comment = Slice(span.begin, span.end);
      if (!any && !at_start_ && last_end_ == word_end_ && !HasLineBreak(word_end_, span.begin)) {
        layout_.TrailingComment(comment, Column(span.begin), BlanksBefore(span.begin), static_cast<int>(LineIndent(span.begin)));
      } else {
        layout_.HardLine(blank_lines && HasBlankLine(last_end_, span.begin));
        layout_.OwnComment(comment);
        blank_lines = true;
      }
      any = true;
      at_start_ = false;
      last_end_ = span.end;
    }
    return any;
  }
  /// A place where a line may end, before the next word. A blank line of the author's is kept where `blank_lines`.
  void Line(bool space, bool blank_lines, bool separators = false) {
    const uint32_t next = Next(separators);
    const bool commented = Comments(next, blank_lines);
    layout_.Line(space, (blank_lines || (commented && last_end_ != word_end_)) && HasBlankLine(last_end_, next));
    if (separators) position_ = next;
  }
  /// The same before a closing bracket: comments belong to what is inside, one blank line less.
  void CloseLine(bool space) {
    const uint32_t next = Next(true);
    Comments(next, last_end_ != opened_);
    layout_.Indent(-2);
    layout_.Line(space);
    position_ = next;
  }

  // ---- words

  void Word(uint32_t begin, uint32_t end) {
    if (Comments(begin, false)) {
      // Where no line end belongs, after a comment that stands at an odd place.
      layout_.Indent(4);
      layout_.HardLine();
      layout_.Indent(-4);
    }
    layout_.Text(Slice(begin, end));
    Passed(end);
  }
  void Passed(uint32_t end) {
    position_ = word_end_ = last_end_ = end;
    at_start_ = false;
  }
  /// A keyword or sign, which has no node.
  void Literal(std::string_view literal) {
    const uint32_t begin = Next();
    JOBC_CHECK(text_.substr(begin, literal.size()) == literal);
    Word(begin, begin + static_cast<uint32_t>(literal.size()));
  }
  void Open(std::string_view bracket) {
    Literal(bracket);
    opened_ = word_end_;
  }
  void Leaf(NodeIndex i) {
    JOBC_CHECK(Next() == At(i).begin);
    Word(At(i).begin, At(i).end);
  }
  void SpacedLiteral(std::string_view literal) {
    layout_.Space();
    Literal(literal);
    layout_.Space();
  }
  void SkipComma() {
    const uint32_t next = Next();
    if (next < text_.size() && text_[next] == ',') position_ = next + 1;
  }

  // ---- rows of things

  /// ELEMENT, ELEMENT, … in brackets: on one line, or each on its own with a comma behind the last one too.
  template <typename Print>
  void Elements(std::string_view open, std::string_view close, Nodes elements, bool spaces, bool keep_broken, Print&& print) {
    layout_.Begin();
    Open(open);
    const uint32_t first = Next();
    if (elements.empty()) {
      layout_.Indent(2);
      if (Comments(first, false)) {
        CloseLine(false);
      } else {
        layout_.Indent(-2);
      }
    } else {
      if (keep_broken && HasLineBreak(word_end_, first)) layout_.Break();
      layout_.Indent(2);
      Line(spaces, false);
      for (size_t i = 0; i < elements.size(); ++i) {
        print(elements[i]);
        if (i + 1 == elements.size()) {
          if (!EndsOpen(elements[i])) layout_.IfBroken(",");
        } else if (KindOf(elements[i]) == NodeKind::Field && Documented(Next())) {
          Literal(",");
        } else {
          layout_.Text(",");
        }
        SkipComma();
        if (i + 1 < elements.size()) Line(true, true);
      }
      CloseLine(spaces);
    }
    Literal(close);
    layout_.End();
  }

  /// Whether an argument is a range without an end, which only the `)` may follow.
  bool EndsOpen(NodeIndex element) const {
    if (KindOf(element) != NodeKind::Argument) return false;
    const NodeIndex value = children_.Of(element).back();
    return KindOf(value) == NodeKind::Binary && KindOf(children_.Of(value).back()) == NodeKind::OpenEnd;
  }

  /// Items on a line each, or with commas between.
  void Items(Nodes items, bool top_level) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i == 0) {
        Line(!top_level, false);
      } else {
        Separate(items[i - 1], items[i]);
      }
      Item(items[i]);
    }
  }

  /// Between two items. Separators are left out where lines separate, except where the language needs one.
  void Separate(NodeIndex before, NodeIndex after) {
    const uint32_t separator = LastSeparator();
    if (separator != UINT32_MAX) {
      const std::string_view word = FirstWord(At(after).begin);
      const bool flag = KindOf(before) == NodeKind::Attr && At(before).children == 1;
      if (Documented(separator)) {
        Word(separator, separator + 1);
      } else if (flag || word == "in" || word == "else" || word == "key" || word == "max") {
        layout_.Text(",");
      } else {
        layout_.IfFlat(",");
      }
    } else {
      layout_.IfFlat(",");
    }
    Line(true, true, true);
  }
  bool CommentBefore(uint32_t end) const {
    return next_comment_ < tree_.comments.size() && tree_.comments[next_comment_].span.begin < end;
  }
  /// Whether a doc comment comes before the separator: moved behind it, it would belong to the next item.
  bool Documented(uint32_t separator) const {
    for (size_t i = next_comment_; i < tree_.comments.size() && tree_.comments[i].span.begin < separator; ++i) {
      if (tree_.comments[i].is_doc) return true;
    }
    return false;
  }
  std::string_view FirstWord(uint32_t begin) const {
    uint32_t end = begin;
    while (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) || text_[end] == '_')) ++end;
    return Slice(begin, end);
  }

  /// { item… }: on one line where it was written so and fits.
  void Body(Nodes items, uint32_t end, bool is_block) {
    layout_.Space();
    const uint32_t open = Next();
    layout_.Begin();
    if (!items.empty() && HasLineBreak(open, end)) layout_.Break();
    if (is_block && !items.empty()) layout_.Mark(Layout::Align::Brace, Column(open), BlanksBefore(open) > 1);
    Open("{");
    layout_.Indent(2);
    if (items.empty()) {
      if (Comments(Next(), false)) {
        CloseLine(false);
      } else {
        layout_.Indent(-2);
      }
    } else {
      Items(items, false);
      CloseLine(true);
    }
    Literal("}");
    layout_.End();
  }

  // ---- items

  void Item(NodeIndex i) {
    const Nodes c = children_.Of(i);
    const uint32_t end = At(i).end;
    switch (KindOf(i)) {
      case NodeKind::Field:
        Leaf(c[0]);
        Literal(":");
        layout_.Space();
        if (CommentBefore(At(c[1]).begin) && c.size() > 2) {
          // On a line that begins so, `Type =` would be an item of its own.
          Type(c[1]);
          if (!CommentBefore(Next())) {
            layout_.Indent(4);
            layout_.HardLine();
            layout_.Indent(-4);
          }
          Literal("=");
          layout_.Space();
          Expr(c[2]);
        } else {
          Type(c[1]);
          if (c.size() > 2) Value(c[2]);
        }
        break;
      case NodeKind::Attr: {
        Leaf(c[0]);
        size_t at = 1;
        for (; at < c.size() && KindOf(c[at]) == NodeKind::Label; ++at) {
          layout_.Space();
          Label(c[at]);
        }
        if (at < c.size()) Value(c[at]);
        break;
      }
      case NodeKind::Import:
        Literal("import");
        layout_.Space();
        Leaf(c[0]);
        SpacedLiteral("as");
        Leaf(c[1]);
        break;
      case NodeKind::Let:
        Keyword("let", c[0]);
        if (c.size() > 2) {
          Literal(":");
          layout_.Space();
          Type(c[1]);
        }
        Value(c.back());
        break;
      case NodeKind::Fn:
        Keyword("fn", c[0]);
        Elements("(", ")", c.subspan(1, c.size() - 3), false, false, [&](NodeIndex parameter) { Item(parameter); });
        SpacedLiteral("->");
        Type(c[c.size() - 2]);
        Value(c.back());
        break;
      case NodeKind::Secret:
        Keyword("secret", c[0]);
        Value(c[1]);
        break;
      case NodeKind::Alias:
        Keyword("type", c[0]);
        SpacedLiteral("=");
        Type(c[1]);
        break;
      case NodeKind::Enum:
        Keyword("enum", c[0]);
        Body(c.subspan(1), end, true);
        break;
      case NodeKind::Case: Leaf(c[0]); break;
      case NodeKind::Module:
        Keyword("module", c[0]);
        SpacedLiteral("=");
        Path(c[1]);
        Body(c.subspan(2), end, true);
        break;
      case NodeKind::Require:
        layout_.Begin();
        Literal("require");
        layout_.Space();
        Expr(c[0]);
        if (c.size() > 1) {
          Clause("else", c[1], 2);
        }
        layout_.End();
        break;
      case NodeKind::For:
        layout_.Begin();
        Literal("for");
        layout_.Space();
        LoopHead(c);
        for (const NodeIndex each : c) {
          if (KindOf(each) == NodeKind::ForKey) Clause("key", children_.Of(each)[0], 4);
          if (KindOf(each) == NodeKind::ForMax) Clause("max", children_.Of(each)[0], 4);
        }
        layout_.End();
        break;
      case NodeKind::Block: {
        size_t at = 0;
        if (KindOf(c[at]) == NodeKind::OpenWord) {
          Leaf(c[at++]);
          layout_.Space();
        }
        Leaf(c[at++]);
        for (; at < c.size() && KindOf(c[at]) == NodeKind::Label; ++at) {
          layout_.Space();
          Label(c[at]);
        }
        Body(c.subspan(at), end, true);
        break;
      }
      case NodeKind::Arm:
      case NodeKind::MatchArm: {
        Expr(c[0]);
        layout_.Space();
        const uint32_t arrow = Next();
        layout_.Mark(Layout::Align::Arrow, Column(arrow), BlanksBefore(arrow) > 1);
        Literal("=>");
        layout_.Space();
        Expr(c[1]);
        break;
      }
      case NodeKind::StructEntry:
        Leaf(c[0]);
        Value(c[1]);
        break;
      default: JOBC_UNREACHABLE();
    }
  }
  void Keyword(std::string_view keyword, NodeIndex name) {
    Literal(keyword);
    layout_.Space();
    Leaf(name);
  }
  void Value(NodeIndex value) {
    SpacedLiteral("=");
    Expr(value);
  }
  /// A part of something longer that has a line of its own where not all fits on one.
  void Clause(std::string_view keyword, NodeIndex value, int indent) {
    layout_.Indent(indent);
    Line(true, false);
    Literal(keyword);
    layout_.Space();
    Expr(value);
    layout_.Indent(-indent);
  }
  /// Word Word? expr of a loop, behind the `for`.
  void LoopHead(Nodes c) {
    Leaf(c[0]);
    const bool two = KindOf(c[1]) == NodeKind::Word;
    if (two) {
      Literal(",");
      layout_.Space();
      Leaf(c[1]);
    }
    SpacedLiteral("in");
    Expr(c[two ? 2 : 1]);
  }
  void Label(NodeIndex i) {
    const Nodes c = children_.Of(i);
    if (KindOf(c[0]) == NodeKind::String) return Leaf(c[0]);
    Path(c[0]);
    const uint32_t next = Next();
    if (next >= At(i).end) return;
    const bool square = text_[next] == '[';
    Literal(square ? "[" : "(");
    Row(c.subspan(1));
    Literal(square ? "]" : ")");
  }
  /// ELEMENT, ELEMENT, … that stay on the line.
  void Row(Nodes elements) {
    for (size_t i = 0; i < elements.size(); ++i) {
      if (i > 0) {
        layout_.Text(",");
        layout_.Space();
      }
      if (KindOf(elements[i]) == NodeKind::Type) {
        Type(elements[i]);
      } else {
        Expr(elements[i]);
      }
      SkipComma();
    }
  }

  // ---- types

  void Path(NodeIndex i) {
    const Nodes words = children_.Of(i);
    for (size_t w = 0; w < words.size(); ++w) {
      if (w > 0) Literal(".");
      Leaf(words[w]);
    }
  }
  void Type(NodeIndex i) {
    for (const NodeIndex part : children_.Of(i)) {
      switch (KindOf(part)) {
        case NodeKind::Path: Path(part); break;
        case NodeKind::TypeArguments:
          Literal("<");
          Row(children_.Of(part));
          Literal(">");
          break;
        case NodeKind::Refinement:
          Literal("(");
          Expr(children_.Of(part)[0]);
          Literal(")");
          break;
        case NodeKind::Optional: Leaf(part); break;
        default: JOBC_UNREACHABLE();
      }
    }
  }

  // ---- expressions

  void Expr(NodeIndex i) {
    const Nodes c = children_.Of(i);
    switch (KindOf(i)) {
      case NodeKind::OpenEnd: break;
      case NodeKind::Splice: Literal("..."); break;  // its node holds the blanks behind it too
      case NodeKind::Heredoc: Heredoc(i); break;
      case NodeKind::Binary: Binary(c, 0, c.size()); break;
      case NodeKind::Unary:
        for (const NodeIndex each : c) Expr(each);
        break;
      case NodeKind::Postfix: Postfix(c); break;
      case NodeKind::If:
        layout_.Begin();
        If(c);
        layout_.End();
        break;
      case NodeKind::Match:
        Literal("match");
        layout_.Space();
        Expr(c[0]);
        layout_.Space();
        Elements("{", "}", c.subspan(1), true, true, [&](NodeIndex arm) { Item(arm); });
        break;
      case NodeKind::List:
        Elements("[", "]", c, false, true, [&](NodeIndex element) { Element(element); });
        break;
      case NodeKind::Map:
        Elements("{", "}", c, true, true, [&](NodeIndex entry) { MapEntry(entry); });
        break;
      case NodeKind::ListFor: case NodeKind::MapFor: Comprehension(i, c); break;
      case NodeKind::Paren:
        layout_.Begin();
        Open("(");
        layout_.Indent(2);
        Line(false, false);
        Expr(c[0]);
        CloseLine(false);
        Literal(")");
        layout_.End();
        break;
      default: Leaf(i);  // names, numbers, strings, words and signs
    }
  }
  void Element(NodeIndex i) {
    if (KindOf(i) != NodeKind::Element) return Expr(i);
    for (const NodeIndex part : children_.Of(i)) Expr(part);
  }
  void MapEntry(NodeIndex i) {
    const Nodes c = children_.Of(i);
    if (text_[Next()] == '[') {
      Literal("[");
      Expr(c[0]);
      Literal("]");
    } else {
      Leaf(c[0]);
    }
    Value(c[1]);
  }
  /// Behind the `if`s of a chain stand `then` and `else`, each on a line of its own if not all fits on one.
  void If(Nodes c) {
    Literal("if");
    layout_.Space();
    Expr(c[0]);
    Clause("then", c[1], 4);
    if (KindOf(c[2]) != NodeKind::If) return Clause("else", c[2], 4);
    layout_.Indent(4);
    Line(true, false);
    layout_.Indent(-4);
    Literal("else");
    layout_.Space();
    If(children_.Of(c[2]));
  }
  void Comprehension(NodeIndex i, Nodes c) {
    const bool map = KindOf(i) == NodeKind::MapFor;
    layout_.Begin();
    Open(map ? "{" : "[");
    if (HasLineBreak(word_end_, Next())) layout_.Break();
    layout_.Indent(2);
    Line(map, false);
    Literal("for");
    layout_.Space();
    LoopHead(c);
    size_t at = KindOf(c[1]) == NodeKind::Word ? 3 : 2;
    if (KindOf(c[at]) == NodeKind::Filter) Clause("if", children_.Of(c[at++])[0], 0);
    Line(true, false);
    Literal(":");
    layout_.Space();
    if (map) {
      Literal("[");
      Expr(c[at]);
      Literal("]");
      Value(c[at + 1]);
    } else {
      Element(c[at]);
    }
    CloseLine(map);
    Literal(map ? "}" : "]");
    layout_.End();
  }
  void Postfix(Nodes c) {
    Expr(c[0]);
    for (const NodeIndex suffix : c.subspan(1)) {
      const Nodes parts = children_.Of(suffix);
      switch (KindOf(suffix)) {
        case NodeKind::Member:
          Literal(".");
          Leaf(parts[0]);
          break;
        case NodeKind::OptMember:
          Literal("?.");
          Leaf(parts[0]);
          break;
        case NodeKind::Index:
          Literal("[");
          Row(parts);
          Literal("]");
          break;
        case NodeKind::Call: Call(parts); break;
        case NodeKind::Struct: Body(parts, At(suffix).end, false); break;
        default: JOBC_UNREACHABLE();
      }
    }
  }
  void Call(Nodes arguments) {
    if (arguments.size() == 1 && BreaksInside(arguments[0])) {
      // `sum([` … `])`: the brackets of the only argument do for the call too.
      Literal("(");
      Argument(arguments[0]);
      SkipComma();
      Literal(")");
      return;
    }
    Elements("(", ")", arguments, false, false, [&](NodeIndex argument) { Argument(argument); });
  }
  bool BreaksInside(NodeIndex argument) const {
    const Nodes c = children_.Of(argument);
    if (c.size() != 1) return false;
    switch (KindOf(c[0])) {
      case NodeKind::List: case NodeKind::ListFor: case NodeKind::Map: case NodeKind::MapFor: case NodeKind::Heredoc: return true;
      default: return false;
    }
  }
  void Argument(NodeIndex i) {
    const Nodes c = children_.Of(i);
    if (KindOf(c[0]) == NodeKind::Type) return Type(c[0]);
    if (c.size() == 2 && KindOf(c[0]) == NodeKind::Word) {
      Leaf(c[0]);
      return Value(c[1]);
    }
    for (const NodeIndex part : c) Expr(part);
  }

  /// The operands and operators `row[begin, end)`; a break comes before each of the weakest operators.
  void Binary(Nodes row, size_t begin, size_t end) {
    if (end - begin == 1) return Expr(row[begin]);
    int weakest = 100;
    for (size_t i = begin + 1; i < end; i += 2) weakest = std::min(weakest, StrengthOf(TextOf(row[i])));
    layout_.Begin();
    size_t operand = begin;
    bool first = true;
    for (size_t i = begin + 1; i <= end; i += 2) {
      if (i < end && StrengthOf(TextOf(row[i])) != weakest) continue;
      if (first) {
        Binary(row, operand, i);
      } else if (weakest == StrengthOf("..")) {
        const bool tight = end - begin == 3;
        const bool open = KindOf(row[operand]) == NodeKind::OpenEnd || KindOf(row[operand - 2]) == NodeKind::OpenEnd;
        if (!tight && !open) layout_.Space();
        Leaf(row[operand - 1]);
        if (!tight && !open) layout_.Space();
        Binary(row, operand, i);
      } else {
        layout_.Indent(4);
        Line(true, false);
        Leaf(row[operand - 1]);
        layout_.Space();
        Binary(row, operand, i);
        layout_.Indent(-4);
      }
      first = false;
      operand = i + 1;
    }
    layout_.End();
  }

  /// The lines of a heredoc keep what they have beyond the indentation that is common to them.
  void Heredoc(NodeIndex i) {
    const Nodes c = children_.Of(i);
    const Node& node = At(i);
    const std::string_view tag = TextOf(c[0]);
    const auto body = static_cast<uint32_t>(text_.find('\n', At(c[0]).end) + 1);
    const uint32_t end = LineBegin(node.end);
    std::vector<HeredocPiece> pieces;
    for (const NodeIndex part : c.subspan(1)) pieces.push_back({At(part).begin, At(part).end, KindOf(part) == NodeKind::Text});
    Diagnostics ignored;
    const HeredocLayout measured = MeasureHeredoc(text_, body, end, pieces, tree_.source, ignored);
    std::vector<std::string> lines;
    for (uint32_t line = body; line < end;) {
      uint32_t next = line;
      while (next < end && text_[next] != '\n') ++next;
      uint32_t begin = line;
      while (begin < next && begin - line < measured.indent && IsBlank(text_[begin])) ++begin;
      std::string_view rest = Slice(begin, next);
      const bool blank = rest.find_first_not_of(" \t") == std::string_view::npos;
      // A blank line is text only where it is longer than the common indentation, and not at the end.
      if (blank && (begin - line < measured.indent || line >= measured.text_end)) rest = {};
      lines.emplace_back(rest);
      line = next + 1;
    }
    if (Comments(node.begin, false)) {
      layout_.Indent(4);
      layout_.HardLine();
      layout_.Indent(-4);
    }
    layout_.Heredoc(Slice(node.begin, At(c[0]).end), std::move(lines), tag);
    Passed(node.end);
  }

  const ParseTree& tree_;
  std::string_view text_;
  Children children_;
  Layout layout_;
  uint32_t position_ = 0;   ///< the next word is looked for from here
  uint32_t word_end_ = 0;   ///< of the last word written
  uint32_t last_end_ = 0;   ///< of the last word or comment written
  uint32_t opened_ = UINT32_MAX;  ///< end of the last opening bracket
  size_t next_comment_ = 0;
  bool at_start_ = true;    ///< nothing is written yet
};

/// Without the byte order mark, and with LF alone.
std::string PlainText(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string plain;
  plain.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r' || i + 1 == text.size() || text[i + 1] != '\n') plain += text[i];
  }
  return plain;
}

/// What SameProgram compares; nullopt where there are syntax errors.
struct Meaning {
  std::string tree;
  std::vector<std::string> comments;
  bool operator==(const Meaning&) const = default;
};
std::optional<Meaning> MeaningOf(std::string_view text) {
  SourceManager sources;
  Diagnostics diags;
  const SourceId source = sources.Add("text", std::string(text));
  const ast::File file = Parse(source, sources, diags);
  if (diags.has_errors()) return std::nullopt;
  Meaning meaning{DumpAst(file, sources, false), {}};
  for (const ast::Comment& comment : file.comments) meaning.comments.emplace_back(sources.Text(comment.span));
  return meaning;
}

}  // namespace

std::optional<std::string> Format(SourceId source, const SourceManager& sources, Diagnostics& diags) {
  Diagnostics found;
  Parse(source, sources, found);
  if (found.has_errors()) {
    Parse(source, sources, diags);
    return std::nullopt;
  }
  SourceManager plain;
  const SourceId id = plain.Add(sources[source].name, PlainText(sources[source].text));
  const ParseTree tree = ParseText(id, plain, found);
  JOBC_CHECK(!found.has_errors());
  return Formatter(tree, plain[id].text).Format();
}

bool SameProgram(std::string_view a, std::string_view b) {
  const std::optional<Meaning> first = MeaningOf(a), second = MeaningOf(b);
  return first && second && *first == *second;
}

}  // namespace jobc
