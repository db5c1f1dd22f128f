#include "compiler/ast/build_ast.h"

#include <algorithm>
#include <span>
#include <utility>

#include "compiler/ast/literals.h"
#include "support/check.h"

namespace jobc {
namespace {

using namespace ast;

/// A value of the builder's stack: what one subtree of the parse tree became.
struct Value {
  enum class Is : uint8_t { Token, Expr, Type, Item, Entry, Part, Suffix, Path, Label, Types, NoEnd };
  Is is = Is::Token;
  NodeKind kind = NodeKind::None;
  uint32_t begin = 0;
  uint32_t end = 0;
  uint32_t id = UINT32_MAX;  ///< Expr, Type, Item; Entry, Part, Label: index into the builder's own vectors
  Slice<ExprId> indices;     ///< Suffix Index, and the arguments of a label
  uint32_t count = 0;        ///< Call, Struct, Path, Types: how many, from `id` on
};

struct OperatorTraits {
  std::string_view sign;
  BinaryOp op;
  int strength;
  enum Side : uint8_t { kLeft, kRight, kNone } side;
};
/// How strongly operators bind (docs/language.md, "Expressions"), and to which side they associate.
constexpr OperatorTraits kOperators[] = {
    {"*", BinaryOp::Mul, 8, OperatorTraits::kLeft},   {"/", BinaryOp::Div, 8, OperatorTraits::kLeft},
    {"%", BinaryOp::Mod, 8, OperatorTraits::kLeft},   {"+", BinaryOp::Add, 7, OperatorTraits::kLeft},
    {"-", BinaryOp::Sub, 7, OperatorTraits::kLeft},   {"??", BinaryOp::Coalesce, 6, OperatorTraits::kRight},
    {"..", BinaryOp::Range, 5, OperatorTraits::kNone}, {"==", BinaryOp::Eq, 4, OperatorTraits::kNone},
    {"!=", BinaryOp::Ne, 4, OperatorTraits::kNone},   {"<", BinaryOp::Lt, 4, OperatorTraits::kNone},
    {"<=", BinaryOp::Le, 4, OperatorTraits::kNone},   {">", BinaryOp::Gt, 4, OperatorTraits::kNone},
    {">=", BinaryOp::Ge, 4, OperatorTraits::kNone},   {"in", BinaryOp::In, 4, OperatorTraits::kNone},
    {"&&", BinaryOp::And, 3, OperatorTraits::kLeft},  {"||", BinaryOp::Or, 2, OperatorTraits::kLeft},
};

const OperatorTraits& TraitsOf(std::string_view sign) {
  for (const OperatorTraits& traits : kOperators) {
    if (traits.sign == sign) return traits;
  }
  JOBC_UNREACHABLE();
}

/// Words that cannot name a block: their declarations have another shape.
bool IsNoBlockName(std::string_view word) {
  for (std::string_view other : {"import", "enum", "let", "fn", "secret", "module", "type", "require", "key", "max"}) {
    if (word == other) return true;
  }
  return false;
}

class Builder {
 public:
  Builder(ParseTree tree, const SourceManager& sources, Diagnostics& diags)
      : tree_(std::move(tree)), text_(sources[tree_.source].text), diags_(diags) {
    file_.source = tree_.source;
    Reserve();
  }

  File Build() {
    for (const Node& node : tree_.nodes) Reduce(node);
    JOBC_CHECK(stack_.size() == 1);
    for (ExprId id : half_open_) ReportHalfOpen(id);
    AttachComments();
    return std::move(file_);
  }

 private:
  using Values = std::span<const Value>;

  void Reserve() {
    size_t exprs = 0, types = 0, items = 0;
    for (const Node& node : tree_.nodes) {
      switch (node.kind) {
        case NodeKind::Number: case NodeKind::Name: case NodeKind::True: case NodeKind::False: case NodeKind::Null:
        case NodeKind::Regex: case NodeKind::String: case NodeKind::Heredoc: case NodeKind::Operator: case NodeKind::Unary:
        case NodeKind::Member: case NodeKind::OptMember: case NodeKind::Index: case NodeKind::Call: case NodeKind::Struct:
        case NodeKind::If: case NodeKind::Match: case NodeKind::List: case NodeKind::ListFor: case NodeKind::Map:
        case NodeKind::MapFor: case NodeKind::Paren: case NodeKind::Star:
          ++exprs;
          break;
        case NodeKind::Type: ++types; break;
        default: items += node.kind >= NodeKind::Field && node.kind <= NodeKind::Arm; break;
      }
    }
    file_.exprs.reserve(exprs);
    depth_.reserve(exprs);
    file_.types.reserve(types);
    file_.items.reserve(items);
    file_.item_lists.reserve(items);
  }

  // ---- small makers
  Span SpanOf(uint32_t begin, uint32_t end) const { return {file_.source, begin, end}; }
  Span SpanOf(const Value& v) const { return SpanOf(v.begin, v.end); }
  std::string_view TextOf(uint32_t begin, uint32_t end) const { return text_.substr(begin, end - begin); }
  Name NameOf(const Value& v) const { return {TextOf(v.begin, v.end), SpanOf(v)}; }

  unsigned DepthOf(ExprId id) const { return id.valid() ? depth_[id.index] : 0; }
  ExprId ExprOf(const Value& v) const {
    if (v.is == Value::Is::NoEnd) return {};
    JOBC_CHECK(v.is == Value::Is::Expr);
    return {v.id};
  }
  Slice<ExprId> Children(std::initializer_list<ExprId> ids) {
    const Slice<ExprId> slice{static_cast<uint32_t>(file_.expr_lists.size()), static_cast<uint32_t>(ids.size())};
    file_.expr_lists.insert(file_.expr_lists.end(), ids);
    return slice;
  }
  /// Adds an expression. Where it would be too deep an Error takes its place.
  ExprId Add(Expr expr) {
    unsigned depth = 0;
    for (uint32_t i = 0; i < expr.children.size; ++i) depth = std::max(depth, DepthOf(file_.expr_lists[expr.children.begin + i]));
    for (uint32_t i = 0; i < expr.entries.size; ++i) {
      const Entry& entry = file_.entries[expr.entries.begin + i];
      depth = std::max({depth, DepthOf(entry.key), DepthOf(entry.value)});
    }
    for (uint32_t i = 0; i < expr.parts.size; ++i) depth = std::max(depth, DepthOf(file_.parts[expr.parts.begin + i].expr));
    if (++depth > kMaxExprDepth) {
      diags_.Emit(expr.op_span.valid() ? expr.op_span : expr.span, diag::NestingTooDeep, kMaxExprDepth)
          .AddHelp("give parts of the expression a name with `let`");
      Expr error;
      error.span = expr.span;
      expr = error;
      depth = 1;
    }
    file_.exprs.push_back(std::move(expr));
    depth_.push_back(static_cast<uint16_t>(depth));
    return {static_cast<uint32_t>(file_.exprs.size() - 1)};
  }
  bool IsError(ExprId id) const { return file_.exprs[id.index].kind == ExprKind::Error; }
  Expr Make(ExprKind kind, uint32_t begin, uint32_t end) const {
    Expr expr;
    expr.kind = kind;
    expr.span = SpanOf(begin, end);
    return expr;
  }

  void Push(const Node& node, Value::Is is, uint32_t id) {
    Value v;
    v.is = is;
    v.kind = node.kind;
    v.begin = node.begin;
    v.end = node.end;
    v.id = id;
    stack_.push_back(v);
  }
  void PushExpr(const Node& node, ExprId id) { Push(node, Value::Is::Expr, id.index); }

  // ---- one node
  void Reduce(const Node& node) {
    JOBC_CHECK(stack_.size() >= node.children);
    const size_t first = stack_.size() - node.children;
    const Values c(stack_.data() + first, node.children);
    Value result;
    result.kind = node.kind;
    result.begin = node.begin;
    result.end = node.end;
    auto expr = [&](ExprId id) {
      result.is = Value::Is::Expr;
      result.id = id.index;
    };
    switch (node.kind) {
      case NodeKind::None:
        JOBC_UNREACHABLE();
      case NodeKind::Word: case NodeKind::Text: case NodeKind::Operator: case NodeKind::UnaryOperator: case NodeKind::Splice:
      case NodeKind::HeredocTag: case NodeKind::Optional: case NodeKind::OpenWord:
        break;
      case NodeKind::OpenEnd:
        result.is = Value::Is::NoEnd;
        break;
      case NodeKind::Error:
        result.is = Value::Is::Item;  // or an expression: the Interpolation around it decides
        break;
      case NodeKind::Number: expr(Number(node)); break;
      case NodeKind::Star: expr(Add(Make(ExprKind::Star, node.begin, node.end))); break;
      case NodeKind::Name: {
        Expr e = Make(ExprKind::Name, node.begin, node.end);
        e.name = {TextOf(node.begin, node.end), e.span};
        expr(Add(std::move(e)));
        break;
      }
      case NodeKind::True: expr(Add(Make(ExprKind::True, node.begin, node.end))); break;
      case NodeKind::False: expr(Add(Make(ExprKind::False, node.begin, node.end))); break;
      case NodeKind::Null: expr(Add(Make(ExprKind::Null, node.begin, node.end))); break;
      case NodeKind::Regex: {
        Expr e = Make(ExprKind::Regex, node.begin, node.end);
        Part part;
        part.text = ReadRegex(TextOf(node.begin + 3, node.end - 1));
        part.span = SpanOf(node.begin + 3, node.end - 1);
        part.positions.emplace_back(0, node.begin + 3);
        e.parts = {static_cast<uint32_t>(file_.parts.size()), 1};
        file_.parts.push_back(std::move(part));
        expr(Add(std::move(e)));
        break;
      }
      case NodeKind::String: expr(String(node, c)); break;
      case NodeKind::Heredoc: expr(Heredoc(node, c)); break;
      case NodeKind::Interpolation: {
        Part part;
        part.span = SpanOf(node.begin, node.end);
        part.splice = c.back().kind == NodeKind::Splice;
        part.expr = c[0].kind == NodeKind::Error ? Add(Make(ExprKind::Error, c[0].begin, c[0].end)) : ExprOf(c[0]);
        result.is = Value::Is::Part;
        result.id = static_cast<uint32_t>(parts_.size());
        parts_.push_back(std::move(part));
        break;
      }
      case NodeKind::Binary: expr(Binary(c)); break;
      case NodeKind::Unary: expr(Unary(node, c)); break;
      case NodeKind::Postfix: expr(Postfix(node, c)); break;
      case NodeKind::Member: case NodeKind::OptMember:
        result.is = Value::Is::Suffix;
        result.id = c[0].begin;
        result.count = c[0].end;
        break;
      case NodeKind::Index:
        result.is = Value::Is::Suffix;
        result.indices = {static_cast<uint32_t>(file_.expr_lists.size()), static_cast<uint32_t>(c.size())};
        for (const Value& v : c) file_.expr_lists.push_back(ExprOf(v));
        break;
      case NodeKind::Call: case NodeKind::Struct: {
        result.is = Value::Is::Suffix;
        const Slice<Entry> entries = TakeEntries(c);
        result.id = entries.begin;
        result.count = entries.size;
        break;
      }
      case NodeKind::Argument: case NodeKind::Element: case NodeKind::StructEntry: case NodeKind::MatchArm: case NodeKind::MapEntry:
        result.is = Value::Is::Entry;
        result.id = MakeEntry(node, c);
        break;
      case NodeKind::If: {
        Expr e = Make(ExprKind::If, node.begin, node.end);
        e.children = Children({ExprOf(c[0]), ExprOf(c[1]), ExprOf(c[2])});
        expr(Add(std::move(e)));
        break;
      }
      case NodeKind::Match: {
        Expr e = Make(ExprKind::Match, node.begin, node.end);
        e.children = Children({ExprOf(c[0])});
        e.entries = TakeEntries(c.subspan(1));
        expr(Add(std::move(e)));
        break;
      }
      case NodeKind::List: case NodeKind::Map: {
        Expr e = Make(node.kind == NodeKind::List ? ExprKind::List : ExprKind::Map, node.begin, node.end);
        e.entries = TakeEntries(c);
        expr(Add(std::move(e)));
        break;
      }
      case NodeKind::ListFor: case NodeKind::MapFor: expr(Comprehension(node, c)); break;
      case NodeKind::Filter: case NodeKind::ForKey: case NodeKind::ForMax:
        result.is = Value::Is::Expr;
        result.id = ExprOf(c[0]).index;
        break;
      case NodeKind::Refinement:
        result.is = Value::Is::Expr;
        result.id = ExprOf(c[0]).index;
        AllowHalfOpen(ExprOf(c[0]));
        break;
      case NodeKind::Paren: {
        Expr e = Make(ExprKind::Paren, node.begin, node.end);
        e.children = Children({ExprOf(c[0])});
        expr(Add(std::move(e)));
        break;
      }
      case NodeKind::Path:
        result.is = Value::Is::Path;
        result.id = static_cast<uint32_t>(names_.size());
        result.count = static_cast<uint32_t>(c.size());
        for (const Value& v : c) names_.push_back(NameOf(v));
        break;
      case NodeKind::TypeArguments:
        result.is = Value::Is::Types;
        result.id = static_cast<uint32_t>(file_.type_lists.size());
        result.count = static_cast<uint32_t>(c.size());
        for (const Value& v : c) file_.type_lists.push_back({v.id});
        break;
      case NodeKind::Type:
        result.is = Value::Is::Type;
        result.id = MakeType(node, c);
        break;
      case NodeKind::Label:
        result.is = Value::Is::Label;
        result.id = static_cast<uint32_t>(labels_.size());
        labels_.push_back(MakeLabel(node, c));
        break;
      case NodeKind::Field: case NodeKind::Attr: case NodeKind::Import: case NodeKind::Let: case NodeKind::Fn: case NodeKind::Secret:
      case NodeKind::Enum: case NodeKind::Case: case NodeKind::Module: case NodeKind::Alias: case NodeKind::Require:
      case NodeKind::For: case NodeKind::Block: case NodeKind::Arm:
        result.is = Value::Is::Item;
        result.id = MakeItem(node, c);
        break;
      case NodeKind::File:
        file_.root = TakeItems(c);
        break;
    }
    stack_.resize(first);
    stack_.push_back(result);
  }

  ExprId Number(const Node& node) {
    Expr e = Make(ExprKind::Error, node.begin, node.end);
    bool needs_minus = false;
    ReadNumber(TextOf(node.begin, node.end), e.span, diags_, e, needs_minus);
    const ExprId id = Add(std::move(e));
    if (needs_minus) {
      // Valid right behind one minus sign only.
      uint32_t before = node.begin;
      while (before > 0 && (text_[before - 1] == ' ' || text_[before - 1] == '\t')) --before;
      pending_minimum_ = before > 0 && text_[before - 1] == '-' ? id : ExprId{};
      if (!pending_minimum_.valid()) ReportMinimum(id);
    }
    return id;
  }
  void ReportMinimum(ExprId id) {
    Expr& e = file_.exprs[id.index];
    diags_.Emit(e.span, diag::NumberTooLarge, TextOf(e.span.begin, e.span.end), "64 bits").Label("the largest Int is 9223372036854775807");
    e.kind = ExprKind::Error;
  }

  ExprId String(const Node& node, Values c) {
    Expr e = Make(ExprKind::String, node.begin, node.end);
    std::vector<Part> parts;
    for (const Value& v : c) {
      if (v.is == Value::Is::Part) {
        parts.push_back(std::move(parts_[v.id]));
        continue;
      }
      Part part;
      part.span = SpanOf(v);
      ReadStringText(TextOf(v.begin, v.end), part.span, diags_, part);
      if (!part.text.empty()) parts.push_back(std::move(part));
    }
    TakeParts(c, std::move(parts), e);
    return Add(std::move(e));
  }

  ExprId Heredoc(const Node& node, Values c) {
    Expr e = Make(ExprKind::Heredoc, node.begin, node.end);
    const std::string_view tag = TextOf(c[0].begin, c[0].end);
    const std::string_view base = tag.substr(0, tag.find('_'));
    if (base == "SH") e.tag = HeredocTag::Sh;
    else if (base == "BASH") e.tag = HeredocTag::Bash;
    else if (base == "PY") e.tag = HeredocTag::Py;
    else if (base == "R") e.tag = HeredocTag::R;
    else if (base == "TXT") e.tag = HeredocTag::Txt;
    else {
      diags_.Emit(SpanOf(c[0]), diag::SyntaxHeredoc, fmt::format("`{}` is no tag of a heredoc", tag))
          .AddHelp("the tags are `SH`, `BASH`, `PY`, `R` and `TXT`; `SH_2` where the text itself holds a line `SH`");
    }
    // The body: from the line after the tag to the terminator's line.
    uint32_t begin = c[0].end;
    while (begin < text_.size() && text_[begin] != '\n') ++begin;
    if (begin < text_.size()) ++begin;
    uint32_t end = node.end - static_cast<uint32_t>(tag.size());
    while (end > begin && text_[end - 1] != '\n') --end;
    std::vector<HeredocPiece> pieces;
    for (const Value& v : c.subspan(1)) pieces.push_back({v.begin, v.end, v.is != Value::Is::Part});
    const HeredocLayout layout = MeasureHeredoc(text_, begin, end, pieces, file_.source, diags_);
    std::vector<Part> parts;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const Value& v = c[i + 1];
      if (v.is == Value::Is::Part) {
        parts.push_back(std::move(parts_[v.id]));
        continue;
      }
      Part part;
      part.span = SpanOf(v);
      ReadHeredocText(text_, pieces[i], layout, pieces[i].begin == begin || text_[pieces[i].begin - 1] == '\n', part);
      if (!part.text.empty()) parts.push_back(std::move(part));
    }
    TakeParts(c, std::move(parts), e);
    return Add(std::move(e));
  }

  void TakeParts(Values c, std::vector<Part> parts, Expr& e) {
    for (const Value& v : c) {
      if (v.is == Value::Is::Part) {
        parts_.resize(v.id);  // the first of them; those behind it are its siblings
        break;
      }
    }
    e.parts = {static_cast<uint32_t>(file_.parts.size()), static_cast<uint32_t>(parts.size())};
    for (Part& part : parts) file_.parts.push_back(std::move(part));
  }

  uint32_t MakeEntry(const Node& node, Values c) {
    Entry entry;
    entry.span = SpanOf(node.begin, node.end);
    size_t i = 0;
    if (c[i].kind == NodeKind::Splice) {
      entry.splice = true;
      ++i;
    }
    if (node.kind == NodeKind::MapEntry || node.kind == NodeKind::MatchArm) {
      if (c[0].is == Value::Is::Token) {
        entry.name = NameOf(c[0]);
        entry.key = TextExpr(c[0]);
      } else {
        entry.key = ExprOf(c[0]);
        const Expr& pattern = file_.exprs[entry.key.index];
        if (node.kind == NodeKind::MatchArm && pattern.kind == ExprKind::Name && pattern.name.text == "_") entry.key = {};
      }
      ++i;
    } else if (c[i].is == Value::Is::Token) {
      entry.name = NameOf(c[i]);
      ++i;
    }
    if (c[i].is == Value::Is::Type) {
      Expr e = Make(ExprKind::TypeArgument, c[i].begin, c[i].end);
      e.type = {c[i].id};
      entry.value = Add(std::move(e));
    } else {
      entry.value = ExprOf(c[i]);
    }
    entries_.push_back(entry);
    return static_cast<uint32_t>(entries_.size() - 1);
  }
  /// The String that a bare key means.
  ExprId TextExpr(const Value& v) {
    Expr e = Make(ExprKind::String, v.begin, v.end);
    Part part;
    part.text = std::string(TextOf(v.begin, v.end));
    part.span = e.span;
    part.positions.emplace_back(0, v.begin);
    e.parts = {static_cast<uint32_t>(file_.parts.size()), 1};
    file_.parts.push_back(std::move(part));
    return Add(std::move(e));
  }
  /// Entries and plain expressions (elements without `...`) become entries of the file.
  Slice<Entry> TakeEntries(Values c) {
    const Slice<Entry> slice{static_cast<uint32_t>(file_.entries.size()), static_cast<uint32_t>(c.size())};
    size_t first = entries_.size();
    for (const Value& v : c) {
      if (v.is == Value::Is::Entry) {
        first = std::min<size_t>(first, v.id);
        file_.entries.push_back(entries_[v.id]);
      } else {
        Entry entry;
        entry.value = ExprOf(v);
        entry.span = SpanOf(v);
        file_.entries.push_back(entry);
      }
    }
    entries_.resize(first);
    return slice;
  }

  ExprId Comprehension(const Node& node, Values c) {
    const bool is_list = node.kind == NodeKind::ListFor;
    Expr e = Make(is_list ? ExprKind::ListFor : ExprKind::MapFor, node.begin, node.end);
    size_t i = 0;
    e.name = NameOf(c[i++]);
    if (c[i].is == Value::Is::Token) e.name2 = NameOf(c[i++]);
    const ExprId source = ExprOf(c[i++]);
    const ExprId condition = c[i].kind == NodeKind::Filter ? ExprOf(c[i++]) : ExprId{};
    if (is_list) {
      e.entries = TakeEntries(c.subspan(i, 1));
      e.children = Children({source, condition, file_.entries[e.entries.begin].value});
    } else {
      e.children = Children({source, condition, ExprOf(c[i]), ExprOf(c[i + 1])});
    }
    return Add(std::move(e));
  }

  ExprId Unary(const Node& node, Values c) {
    ExprId operand = ExprOf(c.back());
    const Values signs = c.first(c.size() - 1);
    if (signs.size() > 256) {
      diags_.Emit(SpanOf(signs[256]), diag::NestingTooDeep, 256u);
      return Add(Make(ExprKind::Error, node.begin, node.end));
    }
    for (size_t i = signs.size(); i-- > 0;) {
      const bool minus = text_[signs[i].begin] == '-';
      Expr& inner = file_.exprs[operand.index];
      if (minus && pending_minimum_.valid() && pending_minimum_ == operand && inner.kind == ExprKind::Int) {
        inner.span.begin = signs[i].begin;  // -9223372036854775808 is one literal
        pending_minimum_ = {};
        continue;
      }
      Expr e = Make(ExprKind::Unary, signs[i].begin, node.end);
      e.unary = minus ? UnaryOp::Negate : UnaryOp::Not;
      e.op_span = SpanOf(signs[i]);
      e.children = Children({operand});
      operand = Add(std::move(e));
    }
    return operand;
  }

  ExprId Postfix(const Node& node, Values c) {
    ExprId base = ExprOf(c[0]);
    if (c.size() > 257) {
      diags_.Emit(SpanOf(c[257]), diag::NestingTooDeep, 256u).AddHelp("give parts of the expression a name with `let`");
      return Add(Make(ExprKind::Error, node.begin, node.end));
    }
    if (c.size() > 1 && pending_minimum_.valid() && pending_minimum_ == base) {
      ReportMinimum(base);
      pending_minimum_ = {};
    }
    for (const Value& suffix : c.subspan(1)) {
      Expr e = Make(ExprKind::Error, node.begin, suffix.end);
      e.op_span = SpanOf(suffix);
      switch (suffix.kind) {
        case NodeKind::Member: case NodeKind::OptMember:
          e.kind = suffix.kind == NodeKind::Member ? ExprKind::Member : ExprKind::OptMember;
          e.name = {TextOf(suffix.id, suffix.count), SpanOf(suffix.id, suffix.count)};
          e.op_span = e.name.span;
          e.children = Children({base});
          break;
        case NodeKind::Index: {
          e.kind = ExprKind::Index;
          const auto begin = static_cast<uint32_t>(file_.expr_lists.size());
          file_.expr_lists.push_back(base);
          for (uint32_t i = 0; i < suffix.indices.size; ++i) {
            const ExprId index = file_.expr_lists[suffix.indices.begin + i];
            file_.expr_lists.push_back(index);
          }
          e.children = {begin, suffix.indices.size + 1};
          break;
        }
        case NodeKind::Call: {
          e.kind = ExprKind::Call;
          e.entries = {suffix.id, suffix.count};
          const Expr& callee = file_.exprs[base.index];
          if (callee.kind == ExprKind::Name) {
            e.name = callee.name;
            if (e.name.text == "exit") {
              for (uint32_t i = 0; i < suffix.count; ++i) AllowHalfOpen(file_.entries[suffix.id + i].value);
            }
          } else {
            e.children = Children({base});
          }
          break;
        }
        default: {
          e.kind = ExprKind::Struct;
          e.entries = {suffix.id, suffix.count};
          e.children = Children({base});
          if (!IsPath(base)) {
            if (!IsError(base)) {
              diags_.Emit(file_.exprs[base.index].span, diag::SyntaxConstructor)
                  .Label("no name")
                  .AddHelp("values are built as `Sample { id = \"a\" }`; a map stands alone: `{ id = \"a\" }`");
            }
            e.kind = ExprKind::Error;
            e.entries = {};
            e.children = {};
          }
          break;
        }
      }
      base = Add(std::move(e));
    }
    return base;
  }
  bool IsPath(ExprId id) const {
    while (file_.exprs[id.index].kind == ExprKind::Member) id = file_.child(file_.exprs[id.index], 0);
    return file_.exprs[id.index].kind == ExprKind::Name;
  }

  /// Operator precedence over the flat row `operand (operator operand)*` (Dijkstra's shunting yard).
  ExprId Binary(Values c) {
    struct Pending {
      const OperatorTraits* traits;
      const Value* sign;
    };
    std::vector<Value> operands;
    std::vector<Pending> operators;
    bool failed = false;
    auto apply = [&] {
      const Pending top = operators.back();
      operators.pop_back();
      const Value right = operands.back();
      operands.pop_back();
      Value& left = operands.back();
      if (failed) {
        left.end = right.end;
        return;
      }
      Expr e = Make(ExprKind::Binary, left.begin, right.end);
      e.binary = top.traits->op;
      e.op_span = SpanOf(*top.sign);
      e.children = Children({ExprOf(left), ExprOf(right)});
      const bool half_open = left.is == Value::Is::NoEnd || right.is == Value::Is::NoEnd;
      const ExprId id = Add(std::move(e));
      if (IsError(id)) failed = true;
      else if (half_open) half_open_.push_back(id);
      left.is = Value::Is::Expr;
      left.id = id.index;
      left.end = right.end;
    };
    operands.push_back(c[0]);
    for (size_t i = 1; i + 1 < c.size(); i += 2) {
      const OperatorTraits& traits = TraitsOf(TextOf(c[i].begin, c[i].end));
      while (!operators.empty()) {
        const OperatorTraits& top = *operators.back().traits;
        if (top.strength < traits.strength || (top.strength == traits.strength && traits.side == OperatorTraits::kRight)) break;
        if (top.strength == traits.strength && traits.side == OperatorTraits::kNone && !failed) {
          Diagnostic& diagnostic = diags_.Emit(SpanOf(c[i]), diag::SyntaxChain, traits.sign, top.sign);
          diagnostic.Secondary(SpanOf(*operators.back().sign), "the first one");
          if (traits.strength == 4) diagnostic.AddHelp("compare twice: `a < b && b < c`");
          failed = true;
        }
        apply();
      }
      operators.push_back({&traits, &c[i]});
      operands.push_back(c[i + 1]);
    }
    while (!operators.empty()) apply();
    if (failed) return Add(Make(ExprKind::Error, c.front().begin, c.back().end));
    return ExprOf(operands.front());
  }

  void AllowHalfOpen(ExprId id) {
    // The one in question was made last, or nearly so.
    for (size_t i = half_open_.size(); i-- > 0;) {
      if (half_open_[i] == id) {
        half_open_.erase(half_open_.begin() + static_cast<std::ptrdiff_t>(i));
        return;
      }
      if (half_open_[i] < id) return;
    }
  }
  void ReportHalfOpen(ExprId id) {
    Expr& e = file_.exprs[id.index];
    if (e.kind != ExprKind::Binary) return;
    diags_.Emit(e.span, diag::SyntaxHalfOpenRange, file_.child(e, 0).valid() ? "end" : "beginning")
        .AddHelp("half-open ranges stand only in a type, as in `Int(0..)`, or in `exit(1..)`");
    Expr error = Make(ExprKind::Error, e.span.begin, e.span.end);
    e = std::move(error);
  }

  uint32_t MakeType(const Node& node, Values c) {
    Type type;
    type.span = SpanOf(node.begin, node.end);
    for (const Value& v : c) {
      if (v.is == Value::Is::Path) {
        type.name = names_[v.id + v.count - 1];
        if (v.count > 1) type.module = names_[v.id];
        if (v.count > 2) {
          diags_.Emit(SpanOf(v), diag::SyntaxUnexpected, "a type `Name` or `module.Name`", fmt::format("`{}`", TextOf(v.begin, v.end)));
          type.name.text = {};
        }
        names_.resize(v.id);
      } else if (v.is == Value::Is::Types) {
        type.arguments = {v.id, v.count};
      } else if (v.is == Value::Is::Expr) {
        type.refinement = ExprOf(v);
      } else {
        type.optional = true;
      }
    }
    file_.types.push_back(type);
    return static_cast<uint32_t>(file_.types.size() - 1);
  }

  std::vector<Name> TakePath(const Value& v) {
    std::vector<Name> path(names_.begin() + v.id, names_.begin() + v.id + v.count);
    names_.resize(v.id);
    return path;
  }

  Label MakeLabel(const Node& node, Values c) {
    Label label;
    label.span = SpanOf(node.begin, node.end);
    if (c[0].is == Value::Is::Path) {
      label.path = TakePath(c[0]);
    } else {
      label.is_string = true;
      label.text = ConstantText(ExprOf(c[0]));
    }
    for (const Value& v : c.subspan(1)) label.index.push_back(ExprOf(v));
    return label;
  }
  /// A label's string: names are fixed, so it cannot hold values.
  std::string ConstantText(ExprId id) {
    const Expr& e = file_.exprs[id.index];
    std::string text;
    for (uint32_t i = 0; i < e.parts.size; ++i) {
      const Part& part = file_.parts[e.parts.begin + i];
      if (part.expr.valid()) {
        diags_.Emit(part.span, diag::SyntaxUnexpected, "constant text", "a value").AddHelp("a label is part of a name and known before anything is computed");
      }
      text += part.text;
    }
    return text;
  }

  Slice<ItemId> TakeItems(Values c) {
    const Slice<ItemId> slice{static_cast<uint32_t>(file_.item_lists.size()), static_cast<uint32_t>(c.size())};
    for (const Value& v : c) file_.item_lists.push_back(v.kind == NodeKind::Error ? ItemId{ErrorItem(v)} : ItemId{v.id});
    return slice;
  }

  /// Keeps the name that the failed item would have declared, so that later stages do not call it unknown.
  uint32_t ErrorItem(const Value& v) {
    Item item;
    item.span = SpanOf(v);
    auto word = [&](uint32_t at) {
      uint32_t end = at;
      auto is = [&](uint32_t i) { return i < v.end && (std::isalnum(static_cast<unsigned char>(text_[i])) || text_[i] == '_'); };
      if (at < v.end && !std::isdigit(static_cast<unsigned char>(text_[at]))) {
        while (is(end)) ++end;
      }
      return SpanOf(at, end);
    };
    item.keyword = word(v.begin);
    uint32_t next = item.keyword.end;
    while (next < v.end && (text_[next] == ' ' || text_[next] == '\t')) ++next;
    const Span second = word(next);
    const Span declared = second.begin < second.end ? second : item.keyword;
    if (declared.begin < declared.end) item.name = {TextOf(declared.begin, declared.end), declared};
    file_.items.push_back(std::move(item));
    return static_cast<uint32_t>(file_.items.size() - 1);
  }

  uint32_t MakeItem(const Node& node, Values c) {
    Item item;
    item.span = SpanOf(node.begin, node.end);
    uint32_t word_end = node.begin;
    while (word_end < node.end && (std::isalnum(static_cast<unsigned char>(text_[word_end])) || text_[word_end] == '_')) ++word_end;
    item.keyword = SpanOf(node.begin, word_end);
    size_t i = 0;
    auto take_name = [&] { item.name = NameOf(c[i++]); };
    auto take_expr = [&](ExprId& to) {
      if (i < c.size() && c[i].is == Value::Is::Expr) to = ExprOf(c[i++]);
    };
    auto take_type = [&] {
      if (i < c.size() && c[i].is == Value::Is::Type) item.type = {c[i++].id};
    };
    switch (node.kind) {
      case NodeKind::Field:
        item.kind = ItemKind::Field;
        take_name();
        take_type();
        take_expr(item.value);
        break;
      case NodeKind::Attr:
        item.kind = ItemKind::Attr;
        if (c[0].is == Value::Is::Expr) {
          item.name_expr = ExprOf(c[i++]);
        } else {
          take_name();
        }
        TakeLabels(c, i, item);
        take_expr(item.value);
        if (!item.value.valid()) item.value = Add(Make(ExprKind::True, node.begin, node.end));  // a flag
        break;
      case NodeKind::Import:
        item.kind = ItemKind::Import;
        take_expr(item.value);
        take_name();
        break;
      case NodeKind::Let:
        item.kind = ItemKind::Let;
        take_name();
        take_type();
        take_expr(item.value);
        break;
      case NodeKind::Fn: {
        item.kind = ItemKind::Fn;
        take_name();
        const size_t first = i;
        while (c[i].is == Value::Is::Item) ++i;
        item.children = TakeItems(c.subspan(first, i - first));
        take_type();
        take_expr(item.value);
        break;
      }
      case NodeKind::Secret:
        item.kind = ItemKind::Secret;
        take_name();
        take_expr(item.value);
        break;
      case NodeKind::Enum:
        item.kind = ItemKind::Enum;
        take_name();
        item.children = TakeItems(c.subspan(i));
        break;
      case NodeKind::Case:
        item.kind = ItemKind::Case;
        take_name();
        break;
      case NodeKind::Module:
        item.kind = ItemKind::Module;
        take_name();
        item.path = TakePath(c[i++]);
        item.children = TakeItems(c.subspan(i));
        break;
      case NodeKind::Alias:
        item.kind = ItemKind::Alias;
        take_name();
        take_type();
        break;
      case NodeKind::Require:
        item.kind = ItemKind::Require;
        take_expr(item.value);
        take_expr(item.value2);
        break;
      case NodeKind::For:
        item.kind = ItemKind::For;
        take_name();
        if (c[i].is == Value::Is::Token) item.name2 = NameOf(c[i++]);
        take_expr(item.value);
        if (i < c.size() && c[i].kind == NodeKind::ForKey) take_expr(item.value2);
        take_expr(item.value3);
        if (i < c.size() && c[i].kind == NodeKind::ForKey) take_expr(item.value2);  // behind `max`, where it was reported
        break;
      case NodeKind::Block:
        item.kind = ItemKind::Block;
        if (c[i].kind == NodeKind::OpenWord) {
          item.open = true;
          ++i;
        }
        take_name();
        TakeLabels(c, i, item);
        if (IsNoBlockName(item.name.text)) {
          diags_.Emit(item.name.span, diag::SyntaxBlockName, item.name.text).AddHelp(fmt::format("as a name of an attribute it is fine: `{} = …`", item.name.text));
        }
        item.children = TakeItems(c.subspan(i));
        break;
      case NodeKind::Arm:
        item.kind = ItemKind::Arm;
        take_expr(item.value);
        take_expr(item.value2);
        break;
      default:
        JOBC_UNREACHABLE();
    }
    file_.items.push_back(std::move(item));
    return static_cast<uint32_t>(file_.items.size() - 1);
  }
  void TakeLabels(Values c, size_t& i, Item& item) {
    size_t first = labels_.size();
    for (; i < c.size() && c[i].is == Value::Is::Label; ++i) {
      first = std::min<size_t>(first, c[i].id);
      item.labels.push_back(std::move(labels_[c[i].id]));
    }
    labels_.resize(first);
  }

  // ---- comments

  /// A doc comment belongs to the item that begins behind it, with nothing but blanks and comments between.
  void AttachComments() {
    file_.comments = std::move(tree_.comments);
    const std::vector<Comment>& comments = file_.comments;
    if (std::none_of(comments.begin(), comments.end(), [](const Comment& comment) { return comment.is_doc; })) return;
    std::vector<std::pair<uint32_t, uint32_t>> begins;  // offset, item
    for (uint32_t i = 0; i < file_.items.size(); ++i) begins.emplace_back(file_.items[i].span.begin, i);
    std::sort(begins.begin(), begins.end());
    // From the last to the first: what follows each comment.
    std::vector<uint32_t> follows(comments.size());
    for (size_t i = comments.size(); i-- > 0;) {
      uint32_t at = comments[i].span.end;
      while (at < text_.size() && (text_[at] == ' ' || text_[at] == '\t' || text_[at] == '\r' || text_[at] == '\n')) ++at;
      follows[i] = i + 1 < comments.size() && comments[i + 1].span.begin == at ? follows[i + 1] : at;
    }
    for (size_t i = 0; i < comments.size(); ++i) {
      if (!comments[i].is_doc) continue;
      const auto found = std::lower_bound(begins.begin(), begins.end(), std::pair<uint32_t, uint32_t>(follows[i], 0));
      if (found == begins.end() || found->first != follows[i] || file_.items[found->second].kind == ItemKind::Error) {
        if (found == begins.end() || found->first != follows[i]) file_.dangling_docs.push_back(comments[i].span);
        continue;
      }
      std::string_view line = TextOf(comments[i].span.begin + 2, comments[i].span.end);
      if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
      std::string& doc = file_.items[found->second].doc;
      if (i > 0 && comments[i - 1].is_doc && follows[i - 1] == follows[i] && has_doc_) doc += '\n';
      has_doc_ = true;
      doc += line;
    }
  }

  ParseTree tree_;
  std::string_view text_;
  Diagnostics& diags_;
  File file_;
  std::vector<Value> stack_;
  // Things that wait for the node around them.
  std::vector<Entry> entries_;
  std::vector<Part> parts_;
  std::vector<Label> labels_;
  std::vector<Name> names_;
  std::vector<uint16_t> depth_;  ///< of each expression
  std::vector<ExprId> half_open_;
  ExprId pending_minimum_;
  bool has_doc_ = false;
};

}  // namespace

File BuildAst(ParseTree tree, const SourceManager& sources, Diagnostics& diags) {
  return Builder(std::move(tree), sources, diags).Build();
}

}  // namespace jobc
