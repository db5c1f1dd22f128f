// Literals, text, operators, control and collections.
#include "compiler/check/expression.h"

#include <fmt/format.h>

#include <algorithm>

#include "compiler/check/declarations.h"
#include "ir/regex.h"

namespace jobc::check {
namespace {

/// Operations inside each other; the parser bounds brackets, this bounds chains such as `a + b + c + …`.
constexpr unsigned kMaxDepth = 400;

std::string_view SymbolOf(ast::BinaryOp op) {
  switch (op) {
    case ast::BinaryOp::Mul: return "*";
    case ast::BinaryOp::Div: return "/";
    case ast::BinaryOp::Mod: return "%";
    case ast::BinaryOp::Add: return "+";
    case ast::BinaryOp::Sub: return "-";
    case ast::BinaryOp::Coalesce: return "??";
    case ast::BinaryOp::Range: return "..";
    case ast::BinaryOp::Eq: return "==";
    case ast::BinaryOp::Ne: return "!=";
    case ast::BinaryOp::Lt: return "<";
    case ast::BinaryOp::Le: return "<=";
    case ast::BinaryOp::Gt: return ">";
    case ast::BinaryOp::Ge: return ">=";
    case ast::BinaryOp::In: return "in";
    case ast::BinaryOp::And: return "&&";
    case ast::BinaryOp::Or: return "||";
  }
  JOBC_UNREACHABLE();
}

ir::Op OpOf(ast::BinaryOp op) {
  switch (op) {
    case ast::BinaryOp::Mul: return ir::Op::Mul;
    case ast::BinaryOp::Div: return ir::Op::Div;
    case ast::BinaryOp::Mod: return ir::Op::Mod;
    case ast::BinaryOp::Add: return ir::Op::Add;
    case ast::BinaryOp::Sub: return ir::Op::Sub;
    case ast::BinaryOp::Coalesce: return ir::Op::Coalesce;
    case ast::BinaryOp::Range: return ir::Op::Range;
    case ast::BinaryOp::Eq: return ir::Op::Eq;
    case ast::BinaryOp::Ne: return ir::Op::Ne;
    case ast::BinaryOp::Lt: return ir::Op::Lt;
    case ast::BinaryOp::Le: return ir::Op::Le;
    case ast::BinaryOp::Gt: return ir::Op::Gt;
    case ast::BinaryOp::Ge: return ir::Op::Ge;
    case ast::BinaryOp::In: return ir::Op::In;
    case ast::BinaryOp::And: return ir::Op::And;
    case ast::BinaryOp::Or: return ir::Op::Or;
  }
  JOBC_UNREACHABLE();
}

}  // namespace

ExpressionChecker::ExpressionChecker(Checker& checker, const Scope& scope)
    : c_(checker), scope_(scope), file_(*scope.unit->file), types_(checker.types), exprs_(checker.exprs),
      next_slot_(scope.next_slot), frame_(scope.next_slot) {}

ExpressionChecker::~ExpressionChecker() = default;

// ---- helpers ----

Val ExpressionChecker::Error(ir::TypeId type) const {
  Val v;
  v.expr = c_.ErrorExpr();
  v.type = type.valid() ? types_.Bare(type) : Basic(TK::Error);
  v.error = true;
  return v;
}

Val ExpressionChecker::ConstantOf(ir::TypeId type, ir::Value value, Span span) {
  Val v;
  v.type = types_.Bare(type);
  v.expr = exprs_.Constant(v.type, std::move(value), c_.PlaceOf(span));
  return v;
}

void ExpressionChecker::Join(Val& into, const Val& from) {
  if (from.phase > into.phase) {
    into.phase = from.phase;
    into.leaf = from.leaf;
  }
  into.low_slot = std::min(into.low_slot, from.low_slot);
  into.error |= from.error;
}

Val ExpressionChecker::Make(Op op, ir::TypeId type, std::initializer_list<const Val*> args, Span span, uint32_t a, uint32_t b) {
  Val v;
  v.type = type;
  llvm::SmallVector<ir::ExprId, 4> ids;
  for (const Val* arg : args) {
    Join(v, *arg);
    ids.push_back(arg->expr);
  }
  if (v.error) {
    v.expr = c_.ErrorExpr();
    return v;
  }
  v.expr = exprs_.Add(op, type, a, b, ids.data(), ids.size(), c_.PlaceOf(span));
  return Fold(v, span);
}

Val ExpressionChecker::Make(Op op, ir::TypeId type, llvm::ArrayRef<Val> args, Span span, uint32_t a, uint32_t b) {
  Val v;
  v.type = type;
  llvm::SmallVector<ir::ExprId, 8> ids;
  for (const Val& arg : args) {
    Join(v, arg);
    ids.push_back(arg.expr);
  }
  if (v.error) {
    v.expr = c_.ErrorExpr();
    return v;
  }
  v.expr = exprs_.Add(op, type, a, b, ids.data(), ids.size(), c_.PlaceOf(span));
  return Fold(v, span);
}

ast::ExprId ExpressionChecker::Bare(ast::ExprId id) const {
  while (id.valid() && file_[id].kind == Kind::Paren) id = file_.child(file_[id], 0);
  return id;
}

std::string ExpressionChecker::TextOf(Span span) const {
  if (!span.valid()) return "";
  std::string_view text = c_.sources.Text(span);
  size_t line = text.find('\n');
  bool cut = line != std::string_view::npos;
  if (cut) text = text.substr(0, line);
  constexpr size_t kLongest = 60;
  if (text.size() > kLongest) {
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
    cut = true;
  }
  while (cut && !text.empty() && (text.back() == ' ' || text.back() == '\r')) text.remove_suffix(1);
  return std::string(text) + (cut ? "…" : "");
}

void ExpressionChecker::Suggest(Diagnostic& d, std::string_view name, std::vector<std::string_view> candidates, Span span) {
  // A file that is wrong everywhere must not cost faults times names.
  constexpr size_t kMostSuggestions = 500;
  if (c_.diags.error_count() > kMostSuggestions) return;
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::string_view like = DidYouMean(name, candidates);
  if (!like.empty()) {
    d.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
    return;
  }
  constexpr size_t kMost = 8;
  if (candidates.empty() || candidates.size() > kMost) return;
  std::string list;
  for (std::string_view c : candidates) list += fmt::format("{}`{}`", list.empty() ? "" : ", ", c);
  d.Note("there is " + list);
}

void ExpressionChecker::PushLocal(const ast::Name& name, ir::TypeId type, uint32_t slot, const Val& from) {
  LocalName local;
  local.name = name;
  local.type = types_.Bare(type);
  local.slot = slot;
  local.phase = from.phase;
  local.leaf = from.leaf;
  locals_.push_back(local);
}

Typed ExpressionChecker::Finish(const Val& value) const {
  c_.frame_size = frame_;
  return {value.error ? c_.ErrorExpr() : value.expr, value.type, value.phase, value.leaf};
}

// ---- dispatch ----

Val ExpressionChecker::Check(ast::ExprId id, ir::TypeId expected, bool secret_ok) {
  if (!id.valid()) return Error(expected);
  const ast::Expr& e = file_[id];
  if (depth_ >= kMaxDepth) {
    if (!too_deep_) c_.diags.Emit(e.span, diag::ExpressionTooDeep, kMaxDepth).Label("too many operations").AddHelp("give parts of it a name with `let`");
    too_deep_ = true;
    return Error(expected);
  }
  ++depth_;
  bool coerced = false;
  Val v = Dispatch(id, e, expected, secret_ok, coerced);
  if (expected.valid() && !coerced) v = Coerce(std::move(v), expected, id);
  --depth_;
  return v;
}

Val ExpressionChecker::Dispatch(ast::ExprId id, const ast::Expr& e, ir::TypeId expected, bool secret_ok, bool& coerced) {
  TK want = expected.valid() ? types_.kind(types_.NonNull(expected)) : TK::Error;
  switch (e.kind) {
    case Kind::Error: return Error(expected);
    case Kind::Null: return ConstantOf(Basic(TK::Null), {}, e.span);
    case Kind::True:
    case Kind::False: return ConstantOf(Basic(TK::Bool), ir::Value::Bool(e.kind == Kind::True), e.span);
    case Kind::Int:
      if (want == TK::Float) return ConstantOf(Basic(TK::Float), ir::Value::Float(static_cast<double>(e.int_value)), e.span);
      return ConstantOf(Basic(TK::Int), ir::Value::Int(e.int_value), e.span);
    case Kind::Float: return ConstantOf(Basic(TK::Float), ir::Value::Float(e.float_value), e.span);
    case Kind::Quantity:
      if (e.unit == ast::Unit::Duration) return ConstantOf(Basic(TK::Duration), ir::Value::Duration(e.int_value), e.span);
      return ConstantOf(Basic(TK::Bytes), ir::Value::Bytes(e.int_value), e.span);
    case Kind::Regex:
    case Kind::String:
    case Kind::Heredoc:
      if (e.kind == Kind::Regex) {
        std::string pattern = e.parts.size > 0 ? file_.parts[e.parts.begin].text : std::string();
        if (!CheckPattern(e)) return Error(Basic(TK::Regex));
        return ConstantOf(Basic(TK::Regex), ir::Value::String(std::move(pattern)), e.span);
      }
      return CheckString(e, secret_ok);
    case Kind::Name: return CheckName(id, e, secret_ok);
    case Kind::Member:
    case Kind::OptMember: return CheckMember(id, e, secret_ok);
    case Kind::Index: return CheckIndex(id, e);
    case Kind::Star: return Error();
    case Kind::Call: return CheckCall(id, e, expected, secret_ok);
    case Kind::Unary: return CheckUnary(e, expected);
    case Kind::Binary:
      return CheckBinary(e, expected);
    case Kind::If:
      coerced = expected.valid();
      return CheckIf(e, expected);
    case Kind::Match:
      coerced = expected.valid();
      return CheckMatch(e, expected);
    case Kind::List:
      if (want == TK::Json) return CheckJson(id);
      // Elements are checked one by one; only a refinement of the list itself is left.
      coerced = want == TK::List && !types_[types_.NonNull(expected)].refinement.valid();
      return CheckList(e, expected);
    case Kind::Map:
      if (want == TK::Json) return CheckJson(id);
      coerced = want == TK::Map && !types_[types_.NonNull(expected)].refinement.valid();
      return CheckMap(e, expected);
    case Kind::ListFor:
    case Kind::MapFor: return CheckComprehension(e, expected);
    case Kind::Struct: return CheckStruct(e, expected);
    case Kind::Paren:
      coerced = expected.valid();
      return Check(file_.child(e, 0), expected, secret_ok);
    case Kind::TypeArgument:
      c_.diags.Emit(e.span, diag::NotAValue, "a type").Label("expected a value");
      return Error();
  }
  JOBC_UNREACHABLE();
}

bool ExpressionChecker::CheckPattern(const ast::Expr& e) {
  std::string_view pattern = e.parts.size > 0 ? std::string_view(file_.parts[e.parts.begin].text) : std::string_view();
  Result<void> result = ir::CheckPattern(pattern);
  if (result.ok()) return true;
  if (result.error().message.find("too large") != std::string::npos) {
    c_.diags.Emit(e.span, diag::RegexTooLarge).Label("compiles to more than 1 MiB").AddHelp("use smaller counts in `{…}`");
  } else {
    c_.diags.Emit(e.span, diag::BadRegex, result.error().message).Label("the syntax is that of RE2");
  }
  return false;
}

// ---- text ----

Val ExpressionChecker::CheckString(const ast::Expr& e, bool secret_ok) {
  if (e.kind == Kind::Heredoc && e.tag != ast::HeredocTag::Txt) {
    c_.diags.Emit(e.span, diag::NotAValue, "a script")
        .Label("a text is expected here")
        .AddHelp("write plain text as `<<~TXT`; scripts stand only in `script`, `prologue` and `epilogue`");
    return Error(Basic(TK::String));
  }
  if (e.parts.size == 0) return ConstantOf(Basic(TK::String), ir::Value::String(std::string()), e.span);
  bool plain = true;
  for (uint32_t i = 0; i < e.parts.size; ++i) {
    const ast::Part& part = file_.parts[e.parts.begin + i];
    if (part.expr.valid()) plain = false;
    else if (e.kind == Kind::String) WarnForeign(part);
  }
  if (plain && e.parts.size == 1) {
    return ConstantOf(Basic(TK::String), ir::Value::String(file_.parts[e.parts.begin].text), e.span);
  }
  llvm::SmallVector<Val, 4> args;
  bool secret = false;
  for (uint32_t i = 0; i < e.parts.size; ++i) {
    const ast::Part& part = file_.parts[e.parts.begin + i];
    if (!part.expr.valid()) {
      args.push_back(ConstantOf(Basic(TK::String), ir::Value::String(part.text), part.span));
      continue;
    }
    Val v = Check(part.expr, {}, secret_ok);
    if (part.splice) {
      if (!v.error) {
        std::string text = TextOf(SpanOf(part.expr));
        auto& d = c_.diags.Emit(part.span, diag::SpliceInText).Label("`...` makes words, and a string is one text");
        if (types_.kind(types_.NonNull(v.type)) == TK::List) {
          d.AddHelp(fmt::format("say what stands between the elements:  ~{{join({}, \", \")}}", text),
                    {{part.span, fmt::format("~{{join({}, \", \")}}", text)}});
        } else {
          d.AddHelp(fmt::format("leave out the dots:  ~{{{}}}", text), {{part.span, fmt::format("~{{{}}}", text)}});
        }
      }
      args.push_back(Error(Basic(TK::String)));
      continue;
    }
    v = AsText(std::move(v), part.expr, TextUse::String, secret_ok);
    secret |= KindOf(v) == TK::Secret;
    args.push_back(std::move(v));
  }
  return Make(Op::Concat, Basic(secret ? TK::Secret : TK::String), args, e.span);
}

Val ExpressionChecker::AsText(Val v, ast::ExprId at, TextUse use, bool secret_ok) {
  if (v.error || KindOf(v) == TK::Error) return v;
  Span span = SpanOf(at);
  if (KindOf(v) == TK::Secret) return secret_ok ? v : SecretFault(span);
  ir::TypeId inner = types_.NonNull(v.type);
  TK kind = types_.kind(inner);
  if (kind == TK::List) {
    std::string text = TextOf(span);
    auto& d = c_.diags.Emit(span, diag::ListAsText).Label(fmt::format("`{}`", Show(v.type)));
    if (use == TextUse::String) {
      d.AddHelp(fmt::format("join its elements:  join({}, \",\")", text), {{span, fmt::format("join({}, \",\")", text)}});
    } else if (use == TextUse::Argv) {
      d.AddHelp(fmt::format("give each element a word of its own:  ...{}", text), {{{span.source, span.begin, span.begin}, "..."}});
    } else {
      d.AddHelp(fmt::format("give each element a word of its own:  ~{{{}...}}", text), {{{span.source, span.end, span.end}, "..."}});
    }
    return Error(v.type);
  }
  if (kind == TK::Null) {
    c_.diags.Emit(span, diag::NullNotAllowed, "a text").Label("`null` has no text").AddHelp("leave it out, or write \"\"");
    return Error();
  }
  if (!types_.HasText(inner)) {
    auto& d = c_.diags.Emit(span, diag::NoTextForm, Show(v.type)).Label("cannot stand in a text");
    if (kind == TK::Struct || kind == TK::Pair) d.AddHelp(fmt::format("name one of its fields:  {}.…", TextOf(span)));
    if (kind == TK::Struct || kind == TK::Pair || kind == TK::Map) {
      d.AddHelp(fmt::format("or write all of it as JSON:  json({})", TextOf(span)), {{span, fmt::format("json({})", TextOf(span))}});
    }
    return Error(v.type);
  }
  if (types_.IsOptional(v.type)) {
    auto& d = c_.diags.Emit(span, diag::MayBeNull).Label(fmt::format("`{}`", Show(v.type)));
    ExplainNull(d, v, at, {});
    if (use == TextUse::Argv) {
      d.AddHelp(fmt::format("to give no word where it is null:  ...{}", TextOf(span)), {{{span.source, span.begin, span.begin}, "..."}});
    } else if (use == TextUse::Script) {
      d.AddHelp(fmt::format("to give no word where it is null:  ~{{{}...}}", TextOf(span)), {{{span.source, span.end, span.end}, "..."}});
    }
    return Error(inner);
  }
  return v;
}

Val ExpressionChecker::AsWords(Val v, ast::ExprId at, Span dots, TextUse use) {
  if (v.error || KindOf(v) == TK::Error) return v;
  Span span = SpanOf(at);
  TK kind = KindOf(v);
  if (kind == TK::Secret) return SecretFault(span);
  if (kind == TK::Args) {
    if (use == TextUse::Argv) return v;
    c_.diags.Emit(span, diag::NotSpliced, "Args").Label("only `run` and `args` take an argv list");
    return Error();
  }
  ir::TypeId inner = types_.NonNull(v.type);
  if (types_.kind(inner) == TK::List) {
    ir::TypeId element = types_[inner].a;
    if (types_.IsOptional(element)) {
      c_.diags.Emit(span, diag::MayBeNull)
          .Label(fmt::format("`{}`: its elements may be null", Show(v.type)))
          .AddHelp(fmt::format("leave the nulls out:  compact({})", TextOf(span)), {{span, fmt::format("compact({})", TextOf(span))}});
      return Error(v.type);
    }
    if (!types_.HasText(element)) {
      c_.diags.Emit(span, diag::NoTextForm, Show(element)).Label(fmt::format("the elements of `{}` cannot be words", Show(v.type)));
      return Error(v.type);
    }
    return v;
  }
  if (types_.HasText(inner) && types_.IsOptional(v.type)) return v;
  auto& d = c_.diags.Emit(span, diag::NotSpliced, Show(v.type)).Label("expected a list, or a value that may be null");
  if (types_.HasText(inner) && dots.valid()) d.AddHelp("leave out the `...`", {{dots, ""}});
  return Error(v.type);
}

void ExpressionChecker::WarnForeign(const ast::Part& part) {
  std::string_view text = part.text;
  for (size_t at = 0; (at = text.find_first_of("${", at)) != std::string_view::npos;) {
    size_t name_at;
    std::string_view closing;
    if (text.substr(at, 2) == "${") {
      name_at = at + 2;
      closing = "}";
    } else if (text.substr(at, 2) == "{{") {
      name_at = at + 2;
      closing = "}}";
    } else {
      ++at;
      continue;
    }
    size_t end = text.find(closing, name_at);
    if (end == std::string_view::npos) return;
    std::string_view inside = text.substr(name_at, end - name_at);
    while (!inside.empty() && inside.front() == ' ') inside.remove_prefix(1);
    while (!inside.empty() && inside.back() == ' ') inside.remove_suffix(1);
    bool path = !inside.empty() && inside.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") == std::string_view::npos;
    std::string_view head = inside.substr(0, inside.find('.'));
    bool dotted = head.size() < inside.size();
    bool in_scope = path && (FindLocal(head) != nullptr || FindValue(head) != nullptr ||
                             (WordOf(head) != WordKind::None && WordOf(head) != WordKind::Env && dotted));
    if (in_scope) {
      // Where the text stands in the source: the last pair of positions at or before it.
      Span span = part.span;
      uint32_t begin = static_cast<uint32_t>(at), stop = static_cast<uint32_t>(end + closing.size());
      uint32_t from = part.span.begin + begin, to = part.span.begin + stop;
      for (const auto& [in_text, in_source] : part.positions) {
        if (in_text <= begin) from = in_source + (begin - in_text);
        if (in_text <= stop) to = in_source + (stop - in_text);
      }
      span.begin = from;
      span.end = std::max(from, std::min(to, part.span.end));
      std::string written(text.substr(at, stop - begin));
      c_.diags.Emit(span, diag::ForeignInterpolation, written)
          .Label("not replaced")
          .AddHelp(fmt::format("write `~{{{}}}` to put the value in", inside), {{span, fmt::format("~{{{}}}", inside)}})
          .Note("if it is meant for another program:  # jobc: allow(W011)");
    }
    at = end + closing.size();
  }
}

// ---- operators ----

Val ExpressionChecker::CheckUnary(const ast::Expr& e, ir::TypeId expected) {
  ast::ExprId child = file_.child(e, 0);
  if (e.unary == ast::UnaryOp::Not) {
    Val v = Check(child, Basic(TK::Bool));
    return Make(Op::Not, Basic(TK::Bool), {&v}, e.span);
  }
  Val v = Check(child);
  if (v.error || KindOf(v) == TK::Error) return Error(v.type);
  if (types_.IsOptional(v.type)) v = NotNull(v, child, types_.NonNull(v.type));
  TK kind = KindOf(v);
  if (!v.error && !IsNumber(kind) && !IsQuantity(kind)) {
    auto& d = c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::OperandUndefined, "-", Show(v.type))
                  .Secondary(SpanOf(child), fmt::format("`{}`", Show(v.type)));
    if (kind == TK::Bool) d.AddHelp(fmt::format("for the opposite write `!{}`", TextOf(SpanOf(child))), {{e.op_span.valid() ? e.op_span : Span{}, "!"}});
    return Error();
  }
  return Make(Op::Negate, v.type, {&v}, e.span);
}

Val ExpressionChecker::CheckBinary(const ast::Expr& e, ir::TypeId expected) {
  switch (e.binary) {
    case ast::BinaryOp::Mul: case ast::BinaryOp::Div: case ast::BinaryOp::Mod: case ast::BinaryOp::Add: case ast::BinaryOp::Sub:
      return CheckArithmetic(e);
    case ast::BinaryOp::Coalesce: return CheckCoalesce(e, expected);
    case ast::BinaryOp::Range: {
      ast::ExprId low = file_.child(e, 0), high = file_.child(e, 1);
      Val x = Check(low, Basic(TK::Int)), y = Check(high, Basic(TK::Int));
      return Make(Op::Range, Basic(TK::Range), {&x, &y}, e.span);
    }
    case ast::BinaryOp::Eq: case ast::BinaryOp::Ne: return CheckEquality(e);
    case ast::BinaryOp::Lt: case ast::BinaryOp::Le: case ast::BinaryOp::Gt: case ast::BinaryOp::Ge: return CheckOrder(e);
    case ast::BinaryOp::In: return CheckIn(e);
    case ast::BinaryOp::And: case ast::BinaryOp::Or: return CheckLogic(e);
  }
  JOBC_UNREACHABLE();
}

Val ExpressionChecker::CheckArithmetic(const ast::Expr& e) {
  ast::ExprId left = file_.child(e, 0), right = file_.child(e, 1);
  Val x = Check(left), y = Check(right);
  if (x.error || y.error || KindOf(x) == TK::Error || KindOf(y) == TK::Error) {
    // The type of what is known helps later checks only where it decides.
    Val error = Error(!x.error && KindOf(x) != TK::Error && types_.Same(x.type, y.type) ? x.type : ir::TypeId{});
    return error;
  }
  if (types_.IsOptional(x.type)) x = NotNull(x, left, types_.NonNull(x.type));
  if (types_.IsOptional(y.type)) y = NotNull(y, right, types_.NonNull(y.type));
  TK kx = KindOf(x), ky = KindOf(y);
  ast::BinaryOp op = e.binary;
  ir::TypeId result;
  if (IsNumber(kx) && IsNumber(ky)) {
    if (op != ast::BinaryOp::Mod || (kx == TK::Int && ky == TK::Int)) {
      if (kx != ky) {
        x = Coerce(x, Basic(TK::Float), left);
        y = Coerce(y, Basic(TK::Float), right);
      }
      result = x.type;
    }
  } else if (op == ast::BinaryOp::Add || op == ast::BinaryOp::Sub) {
    if (kx == ky && IsQuantity(kx)) result = x.type;
  } else if (op == ast::BinaryOp::Mul) {
    if (IsQuantity(kx) && IsNumber(ky)) result = x.type;
    if (IsNumber(kx) && IsQuantity(ky)) result = y.type;
  } else if (op == ast::BinaryOp::Div) {
    if (IsQuantity(kx) && IsNumber(ky)) result = x.type;
    if (IsQuantity(kx) && kx == ky) result = Basic(TK::Float);
  }
  if (result.valid()) return Make(OpOf(op), result, {&x, &y}, e.span);

  if (x.error || y.error) return Error();
  auto& d = c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::OperatorUndefined, SymbolOf(op), Show(x.type), Show(y.type))
                .Label(fmt::format("cannot be done with these"))
                .Secondary(SpanOf(left), fmt::format("`{}`", Show(x.type)))
                .Secondary(SpanOf(right), fmt::format("`{}`", Show(y.type)));
  if (op == ast::BinaryOp::Add && (kx == TK::String || ky == TK::String) && types_.HasText(x.type) && types_.HasText(y.type)) {
    std::string joined;
    for (ast::ExprId side : {left, right}) {
      const ast::Expr& part = Ast(Bare(side));
      std::string_view text = c_.sources.Text(part.span);
      if (part.kind == Kind::String && text.size() >= 2) joined += text.substr(1, text.size() - 2);
      else joined += fmt::format("~{{{}}}", c_.sources.Text(SpanOf(side)));
    }
    std::string fixed = fmt::format("\"{}\"", joined);
    d.AddHelp(fmt::format("texts are put together in a string:  {}", fixed), {{e.span, fixed}});
  } else if (op == ast::BinaryOp::Add && kx == TK::List && ky == TK::List) {
    std::string fixed = fmt::format("[...{}, ...{}]", c_.sources.Text(SpanOf(left)), c_.sources.Text(SpanOf(right)));
    d.AddHelp(fmt::format("lists are put together in a list:  {}", fixed), {{e.span, fixed}});
  } else if (op == ast::BinaryOp::Add && (kx == TK::List || ky == TK::List)) {
    std::string_view l = kx == TK::List ? "..." : "", r = ky == TK::List ? "..." : "";
    std::string fixed = fmt::format("[{}{}, {}{}]", l, c_.sources.Text(SpanOf(left)), r, c_.sources.Text(SpanOf(right)));
    d.AddHelp(fmt::format("write the list with its new element:  {}", fixed), {{e.span, fixed}});
  } else if (IsQuantity(kx) && IsNumber(ky) && (op == ast::BinaryOp::Add || op == ast::BinaryOp::Sub)) {
    d.AddHelp(kx == TK::Bytes ? "give the number a unit, such as `5GiB`" : "give the number a unit, such as `5m`");
  } else if (IsNumber(kx) && IsQuantity(ky) && (op == ast::BinaryOp::Add || op == ast::BinaryOp::Sub)) {
    d.AddHelp(ky == TK::Bytes ? "give the number a unit, such as `5GiB`" : "give the number a unit, such as `5m`");
  } else if (op == ast::BinaryOp::Mod && IsNumber(kx) && IsNumber(ky)) {
    d.AddHelp("`%` is for Int; make one with floor(x) or round(x)");
  } else if (kx == TK::Json || ky == TK::Json) {
    d.AddHelp(fmt::format("give the JSON value a type first:  decode({}, Int)", TextOf(SpanOf(kx == TK::Json ? left : right))));
  } else if (kx == TK::String || ky == TK::String) {
    d.AddHelp(fmt::format("make a number of the text:  to_int({}) or to_float(…)", TextOf(SpanOf(kx == TK::String ? left : right))));
  }
  return Error();
}

Val ExpressionChecker::CheckEquality(const ast::Expr& e) {
  ast::ExprId left = file_.child(e, 0), right = file_.child(e, 1);
  ir::TypeId boolean = Basic(TK::Bool);
  bool left_null = left.valid() && Ast(Bare(left)).kind == Kind::Null;
  bool right_null = right.valid() && Ast(Bare(right)).kind == Kind::Null;
  if (left_null || right_null) {
    ast::ExprId other = left_null ? right : left;
    Val v = Check(other);
    if (v.error || KindOf(v) == TK::Error) return Error(boolean);
    if (!types_.IsOptional(v.type) && KindOf(v) != TK::Json && KindOf(v) != TK::Null && exprs_[v.expr].op != Op::Narrow) {
      c_.diags.Emit(e.span, diag::NeverNull)
          .Label(fmt::format("always {}", e.binary == ast::BinaryOp::Ne ? "true" : "false"))
          .Secondary(SpanOf(other), fmt::format("`{}`", Show(v.type)))
          .AddHelp("leave the comparison out");
    }
    Val null = ConstantOf(types_.IsOptional(v.type) ? v.type : Basic(TK::Null), {}, SpanOf(left_null ? left : right));
    return Make(OpOf(e.binary), boolean, {&v, &null}, e.span);
  }
  Val x = Check(left), y = Check(right);
  if (x.error || y.error || KindOf(x) == TK::Error || KindOf(y) == TK::Error) return Error(boolean);
  ir::TypeId both = Unify(x.type, y.type, true);
  auto comparable = [&](TK kind) { return kind != TK::Regex && kind != TK::Range && kind != TK::Instance && kind != TK::Args && kind != TK::Secret; };
  if (both.valid() && comparable(types_.kind(types_.NonNull(both)))) {
    if (types_.kind(both) == TK::Float) {
      x = Coerce(x, both, left);
      y = Coerce(y, both, right);
    }
    return Make(OpOf(e.binary), boolean, {&x, &y}, e.span);
  }
  auto& d = c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::OperatorUndefined, SymbolOf(e.binary), Show(x.type), Show(y.type))
                .Label("only like can be compared with like")
                .Secondary(SpanOf(left), fmt::format("`{}`", Show(x.type)))
                .Secondary(SpanOf(right), fmt::format("`{}`", Show(y.type)));
  TK kx = types_.kind(types_.NonNull(x.type)), ky = types_.kind(types_.NonNull(y.type));
  auto enum_help = [&](ir::TypeId type, const Val& text, ast::ExprId at) {
    const ir::EnumDef& def = types_[ir::EnumId{types_[types_.NonNull(type)].def}];
    if (exprs_.IsConst(text.expr)) {
      for (const std::string& name : def.cases) {
        if (name == exprs_.ConstValue(text.expr).as_string()) {
          std::string fixed = fmt::format("{}.{}", def.name, name);
          d.AddHelp(fmt::format("write the case:  {}", fixed), {{SpanOf(at), fixed}});
          return;
        }
      }
    }
    d.AddHelp(fmt::format("compare with a case, such as `{}.{}`", def.name, def.cases.front()));
  };
  if (kx == TK::Enum && KindOf(y) == TK::String) enum_help(x.type, y, right);
  else if (ky == TK::Enum && KindOf(x) == TK::String) enum_help(y.type, x, left);
  else if (kx == TK::Json || ky == TK::Json) {
    ast::ExprId json = kx == TK::Json ? left : right;
    d.AddHelp(fmt::format("give the JSON value a type first:  decode({}, {})", TextOf(SpanOf(json)), Show(types_.NonNull(kx == TK::Json ? y.type : x.type))));
  } else if (IsQuantity(kx) && IsNumber(ky)) d.AddHelp(kx == TK::Bytes ? "give the number a unit, such as `5GiB`" : "give the number a unit, such as `5m`");
  else if (IsQuantity(ky) && IsNumber(kx)) d.AddHelp(ky == TK::Bytes ? "give the number a unit, such as `5GiB`" : "give the number a unit, such as `5m`");
  else if ((kx == TK::File || kx == TK::Dir) && ky == TK::String) d.AddHelp(fmt::format("compare paths as texts:  to_string({})", TextOf(SpanOf(left))));
  return Error(boolean);
}

Val ExpressionChecker::CheckOrder(const ast::Expr& e) {
  ast::ExprId left = file_.child(e, 0), right = file_.child(e, 1);
  ir::TypeId boolean = Basic(TK::Bool);
  Val x = Check(left), y = Check(right);
  if (x.error || y.error || KindOf(x) == TK::Error || KindOf(y) == TK::Error) return Error(boolean);
  if (types_.IsOptional(x.type)) x = NotNull(x, left, types_.NonNull(x.type));
  if (types_.IsOptional(y.type)) y = NotNull(y, right, types_.NonNull(y.type));
  if (x.error || y.error) return Error(boolean);
  TK kx = KindOf(x), ky = KindOf(y);
  bool fits = types_.Same(x.type, y.type) && ir::Satisfies(types_, x.type, ir::Constraint::Ord);
  if (IsNumber(kx) && IsNumber(ky)) {
    if (kx != ky) {
      x = Coerce(x, Basic(TK::Float), left);
      y = Coerce(y, Basic(TK::Float), right);
    }
    fits = true;
  }
  if (fits) return Make(OpOf(e.binary), boolean, {&x, &y}, e.span);
  auto& d = c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::OperatorUndefined, SymbolOf(e.binary), Show(x.type), Show(y.type))
                .Label(types_.Same(x.type, y.type) ? "these have no order" : "only like can be compared with like")
                .Secondary(SpanOf(left), fmt::format("`{}`", Show(x.type)))
                .Secondary(SpanOf(right), fmt::format("`{}`", Show(y.type)));
  if (IsQuantity(kx) && IsNumber(ky)) d.AddHelp(kx == TK::Bytes ? "give the number a unit, such as `5GiB`" : "give the number a unit, such as `5m`");
  else if (IsQuantity(ky) && IsNumber(kx)) d.AddHelp(ky == TK::Bytes ? "give the number a unit, such as `5GiB`" : "give the number a unit, such as `5m`");
  else if (kx == TK::String && IsNumber(ky)) d.AddHelp(fmt::format("make a number of the text:  to_int({})", TextOf(SpanOf(left))));
  else if (ky == TK::String && IsNumber(kx)) d.AddHelp(fmt::format("make a number of the text:  to_int({})", TextOf(SpanOf(right))));
  else if (kx == TK::Json || ky == TK::Json) d.AddHelp(fmt::format("give the JSON value a type first:  decode({}, {})", TextOf(SpanOf(kx == TK::Json ? left : right)), Show(kx == TK::Json ? y.type : x.type)));
  return Error(boolean);
}

Val ExpressionChecker::CheckIn(const ast::Expr& e) {
  ast::ExprId left = file_.child(e, 0), right = file_.child(e, 1);
  ir::TypeId boolean = Basic(TK::Bool);
  Val x = Check(left), y = Check(right);
  if (x.error || y.error || KindOf(x) == TK::Error || KindOf(y) == TK::Error) return Error(boolean);
  if (types_.IsOptional(y.type)) y = NotNull(y, right, types_.NonNull(y.type));
  if (y.error) return Error(boolean);
  TK ky = KindOf(y);
  if (ky == TK::List || ky == TK::Map || ky == TK::Range) {
    ir::TypeId element = ky == TK::Range ? Basic(TK::Int) : types_[y.type].a;
    if (types_.kind(element) == TK::Float && KindOf(x) == TK::Int) x = Coerce(x, element, left);
    ir::TypeId both = Unify(x.type, element, false);
    if (both.valid() && (ky == TK::List || !types_.IsOptional(x.type))) return Make(Op::In, boolean, {&x, &y}, e.span);
    if (both.valid()) NotNull(x, left, element);
    else Mismatch(x, element, left);
    return Error(boolean);
  }
  auto& d = c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::OperatorUndefined, "in", Show(x.type), Show(y.type))
                .Label("expected a list, a map or a range on the right")
                .Secondary(SpanOf(right), fmt::format("`{}`", Show(y.type)));
  if (ky == TK::String && KindOf(x) == TK::String) {
    std::string fixed = fmt::format("contains({}, {})", c_.sources.Text(SpanOf(right)), c_.sources.Text(SpanOf(left)));
    d.AddHelp(fmt::format("to look inside a text:  {}", fixed), {{e.span, fixed}});
  }
  return Error(boolean);
}

Val ExpressionChecker::CheckLogic(const ast::Expr& e) {
  ast::ExprId left = file_.child(e, 0), right = file_.child(e, 1);
  ir::TypeId boolean = Basic(TK::Bool);
  Val x = Check(left, boolean);
  size_t mark = PushFacts(x, e.binary == ast::BinaryOp::And);
  ++conditional_;
  Val y = Check(right, boolean);
  --conditional_;
  PopFacts(mark);
  return Make(OpOf(e.binary), boolean, {&x, &y}, e.span);
}

Val ExpressionChecker::CheckCoalesce(const ast::Expr& e, ir::TypeId expected) {
  ast::ExprId left = file_.child(e, 0), right = file_.child(e, 1);
  Val x = Check(left);
  ++conditional_;
  Val y = Check(right);
  --conditional_;
  if (x.error || KindOf(x) == TK::Error) return Error(y.error || KindOf(x) == TK::Error ? ir::TypeId{} : y.type);
  if (KindOf(x) != TK::Null && KindOf(x) != TK::Json && !types_.IsOptional(x.type)) {
    Span rest{e.span.source, SpanOf(left).end, e.span.end};
    c_.diags.Emit(e.span, diag::NeverNull)
        .Label("the right side is never used")
        .Secondary(SpanOf(left), fmt::format("`{}`", Show(x.type)))
        .AddHelp(fmt::format("leave it out:  {}", TextOf(SpanOf(left))), {{rest, ""}});
  }
  if (KindOf(x) == TK::Null) return y;
  ir::TypeId inner = types_.NonNull(x.type);
  if (y.error) return Error(inner);
  ir::TypeId want = types_.IsOptional(y.type) || KindOf(y) == TK::Null ? types_.Optional(inner) : inner;
  if (types_.kind(inner) == TK::Int && types_.kind(types_.NonNull(y.type)) == TK::Float) {
    return Mismatch(y, inner, right);
  }
  y = Coerce(std::move(y), want, right);
  return Make(Op::Coalesce, types_.Bare(want), {&x, &y}, e.span);
}

// ---- control ----

size_t ExpressionChecker::PushFacts(const Val& condition, bool truth) {
  size_t mark = facts_.size();
  if (!condition.error) CollectFacts(condition.expr, truth, facts_);
  return mark;
}

Val ExpressionChecker::CheckIf(const ast::Expr& e, ir::TypeId expected) {
  ast::ExprId then_id = file_.child(e, 1), else_id = file_.child(e, 2);
  Val condition = Check(file_.child(e, 0), Basic(TK::Bool));
  ++conditional_;
  size_t mark = PushFacts(condition, true);
  Val x = Check(then_id, expected);
  PopFacts(mark);
  mark = PushFacts(condition, false);
  Val y = Check(else_id, expected);
  PopFacts(mark);
  --conditional_;
  ir::TypeId type = expected.valid() ? types_.Bare(expected) : ir::TypeId{};
  if (!type.valid()) {
    if (x.error || y.error) return Error(x.error ? y.type : x.type);
    type = Unify(x.type, y.type, true);
    if (!type.valid()) {
      c_.diags.Emit(SpanOf(else_id), diag::TypesDiffer, "the branches of `if`", Show(x.type), Show(y.type))
          .Label(fmt::format("`{}`", Show(y.type)))
          .Secondary(SpanOf(then_id), fmt::format("`{}`", Show(x.type)))
          .AddHelp("make both branches one type");
      return Error();
    }
    x = Coerce(std::move(x), type, then_id);
    y = Coerce(std::move(y), type, else_id);
  }
  return Make(Op::If, type, {&condition, &x, &y}, e.span);
}

Val ExpressionChecker::CheckMatch(const ast::Expr& e, ir::TypeId expected) {
  ast::ExprId subject_id = file_.child(e, 0);
  Val subject = Check(subject_id);
  TK kind = types_.kind(types_.NonNull(subject.type));
  bool known = !subject.error && kind != TK::Error;
  if (known && (kind == TK::Regex || kind == TK::Range || kind == TK::Args || kind == TK::Instance)) {
    c_.diags.Emit(SpanOf(subject_id), diag::NotStored, Show(subject.type)).Label("cannot be matched");
    known = false;
  }
  const ir::EnumDef* def = kind == TK::Enum ? &types_[ir::EnumId{types_[types_.NonNull(subject.type)].def}] : nullptr;
  llvm::SmallVector<Val, 8> args;
  llvm::SmallVector<ast::ExprId, 8> value_ids;
  args.push_back(subject);
  llvm::SmallVector<std::pair<ir::Value, Span>, 8> seen;
  Span catch_all;
  ir::TypeId type = expected.valid() ? types_.Bare(expected) : ir::TypeId{};
  Span first_span;
  bool failed = !known;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& arm = file_.entries[e.entries.begin + i];
    Span arm_span = arm.key.valid() ? SpanOf(arm.key) : arm.span;
    if (catch_all.valid()) {
      c_.diags.Emit(arm_span, diag::ArmNeverReached).Label("never reached").Secondary(catch_all, "this arm takes everything").AddHelp("put it before that arm, or remove it");
      failed = true;
      break;
    }
    if (arm.key.valid()) {
      const ast::Expr& key = Ast(Bare(arm.key));
      bool bare_case = def != nullptr && key.kind == Kind::Name && FindLocal(key.name.text) == nullptr && FindValue(key.name.text) == nullptr &&
                       std::find(def->cases.begin(), def->cases.end(), key.name.text) != def->cases.end();
      Val pattern;
      if (bare_case) {
        std::string fixed = fmt::format("{}.{}", def->name, key.name.text);
        c_.diags.Emit(key.span, diag::UnknownName, key.name.text)
            .Label("a case is written with its enum")
            .AddHelp(fmt::format("write `{}`", fixed), {{key.span, fixed}});
        pattern = Error(subject.type);
      } else {
        pattern = Check(arm.key, known ? subject.type : ir::TypeId{});
        if (known && subject.error) pattern.error = true;
      }
      failed |= pattern.error;
      if (!pattern.error && exprs_.IsConst(pattern.expr)) {
        const ir::Value& value = exprs_.ConstValue(pattern.expr);
        for (const auto& [earlier, span] : seen) {
          if (earlier.kind() == value.kind() && earlier == value) {
            c_.diags.Emit(SpanOf(arm.key), diag::ArmNeverReached).Label("never reached").Secondary(span, "the same value is taken here").AddHelp("remove it, or give it another case");
            failed = true;
            break;
          }
        }
        seen.push_back({value, SpanOf(arm.key)});
      }
      args.push_back(std::move(pattern));
    } else {
      catch_all = arm.span;
    }
    ++conditional_;
    Val value = Check(arm.value, expected);
    --conditional_;
    if (!expected.valid() && !value.error) {
      ir::TypeId both = type.valid() ? Unify(type, value.type, true) : value.type;
      if (!both.valid()) {
        c_.diags.Emit(SpanOf(arm.value), diag::TypesDiffer, "the arms of `match`", Show(type), Show(value.type))
            .Label(fmt::format("`{}`", Show(value.type)))
            .Secondary(first_span, fmt::format("`{}`", Show(type)))
            .AddHelp("make all arms one type");
        failed = true;
      } else {
        if (!type.valid()) first_span = SpanOf(arm.value);
        type = both;
      }
    }
    failed |= value.error;
    value_ids.push_back(arm.value);
    args.push_back(std::move(value));
  }
  if (!type.valid()) type = Basic(TK::Error);

  if (known && !catch_all.valid()) {
    std::vector<std::string> missing;
    auto has = [&](const ir::Value& value) {
      return std::any_of(seen.begin(), seen.end(), [&](const auto& s) { return s.first.kind() == value.kind() && s.first == value; });
    };
    bool finite = true;
    if (def != nullptr) {
      for (uint32_t i = 0; i < def->cases.size(); ++i) {
        if (!has(ir::Value::Enum(i))) missing.push_back(fmt::format("{}.{}", def->name, def->cases[i]));
      }
    } else if (kind == TK::Bool) {
      if (!has(ir::Value::Bool(true))) missing.push_back("true");
      if (!has(ir::Value::Bool(false))) missing.push_back("false");
    } else {
      finite = false;
    }
    if (finite && types_.IsOptional(subject.type) && !has(ir::Value())) missing.push_back("null");
    bool faulty_pattern = std::any_of(args.begin() + 1, args.end(), [](const Val& v) { return v.error; });
    if ((!finite || !missing.empty()) && !faulty_pattern) {
      std::string list, arms;
      // The new arms take the value of the last one: it has the right type, and a person will look at it.
      std::string last = value_ids.empty() ? "…" : std::string(c_.sources.Text(SpanOf(value_ids.back())));
      if (!finite) {
        list = fmt::format("every `{}`", Show(subject.type));
        arms = fmt::format(", _ => {}", last);
      }
      for (size_t i = 0; i < missing.size(); ++i) {
        list += fmt::format("{}`{}`", i == 0 ? "" : i + 1 == missing.size() ? " and " : ", ", missing[i]);
        arms += fmt::format(", {} => {}", missing[i], last);
      }
      auto& d = c_.diags.Emit(SpanOf(subject_id), diag::MatchMissesCases, list).Label(fmt::format("`{}`", Show(subject.type)));
      std::string_view added = std::string_view(arms).substr(2);
      if (e.entries.size > 0) {
        Span end = file_.entries[e.entries.begin + e.entries.size - 1].span;
        d.AddHelp(fmt::format("add:  {}", added), {{{end.source, end.end, end.end}, arms}});
      } else {
        d.AddHelp(fmt::format("add:  {}", added));
      }
      failed = true;
    }
  }
  if (failed) return Error(type);
  if (!expected.valid()) {
    size_t v = 0;
    for (size_t i = 1; i < args.size(); ++i) {
      bool is_value = (i % 2 == 0) || (catch_all.valid() && i + 1 == args.size());
      if (is_value) {
        args[i] = Coerce(args[i], type, value_ids[v]);
        ++v;
      }
    }
  }
  return Make(Op::Match, type, args, e.span);
}

// ---- collections ----

Val ExpressionChecker::CheckList(const ast::Expr& e, ir::TypeId expected) {
  ir::TypeId want;
  if (expected.valid()) {
    ir::TypeId list = types_.NonNull(expected);
    if (types_.kind(list) == TK::List) want = types_[list].a;
  }
  llvm::SmallVector<Val, 8> args;
  ir::TypeId element = want.valid() ? types_.Bare(want) : ir::TypeId{};
  Span first;
  bool failed = false;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    Span span = SpanOf(entry.value);
    Val v = Check(entry.value, entry.splice ? ir::TypeId{} : want);
    ir::TypeId has = v.type;
    if (entry.splice && !v.error && KindOf(v) != TK::Error) {
      ir::TypeId inner = types_.NonNull(v.type);
      TK kind = types_.kind(inner);
      if (kind == TK::List) {
        has = types_[inner].a;
      } else if (types_.IsOptional(v.type)) {
        has = inner;
      } else {
        Span dots{span.source, entry.span.begin, span.begin};
        auto& d = c_.diags.Emit(span, diag::NotSpliced, Show(v.type)).Label("expected a list, or a value that may be null");
        if (kind != TK::Args) d.AddHelp("leave out the `...`", {{dots, ""}});
        v = Error();
      }
      if (!v.error && want.valid() && !Covariant(has, types_.Bare(want))) {
        Mismatch(v, types_.List(types_.Bare(want)), entry.value);
        v.error = true;
      }
      if (!v.error) v = Make(Op::Splice, v.type, {&v}, entry.span);
    } else if (!v.error) {
      TK kind = KindOf(v);
      if (kind == TK::Range || kind == TK::Regex || kind == TK::Args) {
        c_.diags.Emit(span, diag::NotStored, Show(v.type)).Label("cannot be an element of a list");
        v = Error();
      }
    }
    failed |= v.error;
    if (!want.valid() && !v.error) {
      ir::TypeId both = element.valid() ? Unify(element, has, !entry.splice) : has;
      if (!both.valid()) {
        c_.diags.Emit(span, diag::TypesDiffer, "the elements of the list", Show(element), Show(has))
            .Label(fmt::format("`{}`", Show(has)))
            .Secondary(first, fmt::format("`{}`", Show(element)))
            .AddHelp("all elements of a list have one type");
        failed = true;
      } else {
        if (!element.valid()) first = span;
        element = both;
      }
    }
    args.push_back(std::move(v));
  }
  if (!element.valid()) element = Basic(TK::Error);
  ir::TypeId type = types_.List(element);
  if (want.valid()) type = types_.Bare(expected);
  if (failed) return Error(type);
  if (!want.valid()) {
    if (types_.kind(element) == TK::Null) {
      c_.diags.Emit(e.span, diag::TypeUnknown, TextOf(e.span)).Label("a list of what?").AddHelp("say it where the list goes:  let x: List<String?> = …");
      return Error(types_.List(Basic(TK::Error)));
    }
    for (uint32_t i = 0; i < args.size(); ++i) {
      const ast::Entry& entry = file_.entries[e.entries.begin + i];
      if (!entry.splice) args[i] = Coerce(args[i], element, entry.value);
    }
  }
  return Make(Op::List, type, args, e.span);
}

Val ExpressionChecker::CheckMap(const ast::Expr& e, ir::TypeId expected) {
  ir::TypeId want_key, want_value;
  if (expected.valid()) {
    ir::TypeId map = types_.NonNull(expected);
    if (types_.kind(map) == TK::Map) {
      want_key = types_[map].a;
      want_value = types_[map].b;
    }
  }
  llvm::SmallVector<Val, 16> args;
  ir::TypeId key_type = want_key.valid() ? types_.Bare(want_key) : ir::TypeId{};
  ir::TypeId value_type = want_value.valid() ? types_.Bare(want_value) : ir::TypeId{};
  Span first_key, first_value;
  bool failed = false;
  std::vector<std::pair<ir::Value, Span>> constants;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    Val key = Check(entry.key, want_key);
    Val value = Check(entry.value, want_value);
    if (entry.splice && !value.error) {
      c_.diags.Emit(SpanOf(entry.value), diag::NotSpliced, Show(value.type)).Label("maps take no `...`");
      value = Error();
    }
    failed |= key.error || value.error;
    if (!key.error) {
      TK kind = KindOf(key);
      if (kind != TK::String && kind != TK::Int && kind != TK::Enum && kind != TK::Error) {
        c_.diags.Emit(SpanOf(entry.key), diag::BadMapKey, Show(key.type)).Label("keys are String, Int or an enum");
        failed = true;
      } else if (!want_key.valid()) {
        ir::TypeId both = key_type.valid() ? Unify(key_type, key.type, false) : key.type;
        if (!both.valid()) {
          c_.diags.Emit(SpanOf(entry.key), diag::TypesDiffer, "the keys of the map", Show(key_type), Show(key.type))
              .Label(fmt::format("`{}`", Show(key.type))).Secondary(first_key, fmt::format("`{}`", Show(key_type)));
          failed = true;
        } else {
          if (!key_type.valid()) first_key = SpanOf(entry.key);
          key_type = both;
        }
      }
      if (exprs_.IsConst(key.expr)) constants.push_back({exprs_.ConstValue(key.expr), SpanOf(entry.key)});
    }
    if (!value.error) {
      TK kind = KindOf(value);
      if (kind == TK::Range || kind == TK::Regex || kind == TK::Args) {
        c_.diags.Emit(SpanOf(entry.value), diag::NotStored, Show(value.type)).Label("cannot be a value of a map");
        failed = true;
      } else if (!want_value.valid()) {
        ir::TypeId both = value_type.valid() ? Unify(value_type, value.type, true) : value.type;
        if (!both.valid()) {
          c_.diags.Emit(SpanOf(entry.value), diag::TypesDiffer, "the values of the map", Show(value_type), Show(value.type))
              .Label(fmt::format("`{}`", Show(value.type))).Secondary(first_value, fmt::format("`{}`", Show(value_type)))
              .AddHelp("values of different types are the fields of a struct");
          failed = true;
        } else {
          if (!value_type.valid()) first_value = SpanOf(entry.value);
          value_type = both;
        }
      }
    }
    args.push_back(std::move(key));
    args.push_back(std::move(value));
  }
  if (!failed && !DistinctKeys(std::move(constants))) failed = true;
  if (!key_type.valid()) key_type = Basic(TK::Error);
  if (!value_type.valid()) value_type = Basic(TK::Error);
  ir::TypeId type = want_key.valid() ? types_.Bare(expected) : types_.Map(key_type, value_type);
  if (failed) return Error(type);
  if (!want_key.valid()) {
    if (types_.kind(value_type) == TK::Null) {
      c_.diags.Emit(e.span, diag::TypeUnknown, TextOf(e.span)).Label("a map of what?").AddHelp("say it where the map goes:  let x: Map<String, Int?> = …");
      return Error(types_.Map(key_type, Basic(TK::Error)));
    }
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      const ast::Entry& entry = file_.entries[e.entries.begin + i];
      args[2 * i + 1] = Coerce(args[2 * i + 1], value_type, entry.value);
    }
  }
  return Make(Op::Map, type, args, e.span);
}

bool ExpressionChecker::DistinctKeys(std::vector<std::pair<ir::Value, Span>> keys) {
  bool distinct = true;
  std::stable_sort(keys.begin(), keys.end(), [](const auto& x, const auto& y) { return ir::Value::Compare(x.first, y.first) < 0; });
  for (size_t i = 1; i < keys.size(); ++i) {
    if (keys[i].first == keys[i - 1].first) {
      c_.diags.Emit(keys[i].second, diag::GivenTwice, fmt::format("the key `{}`", TextOf(keys[i].second)))
          .Label("second value").Secondary(keys[i - 1].second, "first value").AddHelp("keep one of them");
      distinct = false;
    }
  }
  return distinct;
}

Val ExpressionChecker::CheckJson(ast::ExprId id) {
  const ir::TypeId json = Basic(TK::Json);
  if (!id.valid()) return Error(json);
  const ast::ExprId bare = Bare(id);
  if (!bare.valid()) return Error(json);
  const ast::Expr& e = Ast(bare);
  bool literal = e.kind == Kind::Map || e.kind == Kind::List;
  for (uint32_t i = 0; literal && i < e.entries.size; ++i) literal = !file_.entries[e.entries.begin + i].splice;
  if (!literal) {
    if (e.kind == Kind::Null) return ConstantOf(json, {}, e.span);
    Val value = Check(id);
    if (value.error) return Error(json);
    const TK kind = types_.kind(types_.NonNull(value.type));
    if (KindOf(value) == TK::Json) return value;
    if (kind == TK::Range || kind == TK::Regex || kind == TK::Args || kind == TK::Instance) {
      c_.diags.Emit(e.span, diag::NotA, "a value that has a JSON form", fmt::format("`{}`", Show(value.type))).Label("cannot be written as JSON");
      return Error(json);
    }
    return Make(Op::ToJson, json, {&value}, e.span);
  }
  llvm::SmallVector<Val, 16> args;
  std::vector<std::pair<ir::Value, Span>> constants;
  bool failed = false;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    if (e.kind == Kind::Map) {
      Val key = Check(entry.key, Basic(TK::String));
      if (!key.error && exprs_.IsConst(key.expr)) constants.push_back({exprs_.ConstValue(key.expr), SpanOf(entry.key)});
      failed |= key.error;
      args.push_back(std::move(key));
    }
    Val value = CheckJson(entry.value);
    failed |= value.error;
    args.push_back(std::move(value));
  }
  if (!DistinctKeys(std::move(constants)) || failed) return Error(json);
  Val document = Make(e.kind == Kind::Map ? Op::Map : Op::List, e.kind == Kind::Map ? types_.Map(Basic(TK::String), json) : types_.List(json), args, e.span);
  if (document.error) return Error(json);
  return Make(Op::ToJson, json, {&document}, e.span);
}

Val ExpressionChecker::CheckIteration(ast::ExprId source) {
  ast::ExprId bare = Bare(source);
  JobRef ref;
  if (bare.valid() && ResolveJobRef(bare, ref)) {
    const ast::Expr& e = Ast(bare);
    if (ref.error || ref.job == nullptr) return Error();
    ir::TypeId type = types_.List(types_.Instance(ref.job->index));
    if (ref.job->single() || ref.indices.size() == ref.job->dimensions()) {
      c_.diags.Emit(e.span, diag::NotIterable, "job with one instance")
          .Label(fmt::format("`{}` is one instance", TextOf(e.span)))
          .AddHelp("use its outputs by name, without `for`");
      return Error();
    }
    if (!ref.star && ref.indices.empty()) {
      c_.diags.Emit(e.span, diag::ManyInstances, ref.job->name.text)
          .Label("the job is not a value")
          .AddHelp(fmt::format("go over its instances:  {}[*]", ref.job->name.text), {{{e.span.source, e.span.end, e.span.end}, "[*]"}});
      return Error();
    }
    Val v = Make(Op::Instances, type, ref.indices, e.span, ref.job->index);
    if (v.phase < Phase::S) {
      v.phase = Phase::S;
      v.leaf = e.span;
    }
    if (v.phase > scope_.latest) return Leaf(v.expr, type, v.phase, e.span, v.leaf);
    return v;
  }
  Val v = Check(source);
  if (v.error || KindOf(v) == TK::Error) return Error();
  if (types_.IsOptional(v.type)) v = NotNull(v, source, types_.NonNull(v.type));
  TK kind = KindOf(v);
  if (kind == TK::List || kind == TK::Map || kind == TK::Range || v.error) return v;
  auto& d = c_.diags.Emit(SpanOf(source), diag::NotIterable, Show(v.type)).Label("expected a list, a map or a range");
  if (kind == TK::Int) {
    std::string fixed = fmt::format("range({})", c_.sources.Text(SpanOf(source)));
    d.AddHelp(fmt::format("count from 0:  {}", fixed), {{SpanOf(source), fixed}});
  }
  return Error();
}

Val ExpressionChecker::CheckComprehension(const ast::Expr& e, ir::TypeId expected) {
  bool map = e.kind == Kind::MapFor;
  ast::ExprId source_id = file_.child(e, 0), condition_id = file_.child(e, 1);
  Val source = CheckIteration(source_id);
  bool two = e.name2.valid();
  ir::TypeId error = Basic(TK::Error), first = error, second = error;
  if (!source.error) {
    TK kind = KindOf(source);
    if (kind == TK::Range) {
      first = second = Basic(TK::Int);
    } else if (kind == TK::List) {
      ir::TypeId element = types_[source.type].a;
      if (!two) {
        first = element;
      } else if (types_.kind(element) == TK::Pair) {
        first = types_[element].a;
        second = types_[element].b;
      } else {
        first = Basic(TK::Int);
        second = element;
      }
    } else {
      first = types_[source.type].a;
      second = types_[source.type].b;
      if (!two) {
        std::string text = TextOf(SpanOf(source_id));
        c_.diags.Emit(SpanOf(source_id), diag::NotIterable, Show(source.type))
            .Label("a map is gone over with two names")
            .AddHelp(fmt::format("write `for {}, value in {}`", e.name.text, text), {{{e.name.span.source, e.name.span.end, e.name.span.end}, ", value"}})
            .AddHelp(fmt::format("or go over one side:  keys({}), values({})", text, text));
        source = Error();
        first = second = error;
      }
    }
  }
  uint32_t base = next_slot_;
  uint32_t count = two ? 2 : 1;
  size_t locals = locals_.size();
  next_slot_ += count;
  frame_ = std::max(frame_, next_slot_);
  CheckLocalName(e.name);
  PushLocal(e.name, first, base, source);
  if (two) {
    CheckLocalName(e.name2);
    PushLocal(e.name2, second, base + 1, source);
  }
  ++conditional_;
  Val condition;
  size_t mark = facts_.size();
  if (condition_id.valid()) {
    condition = Check(condition_id, Basic(TK::Bool));
    mark = PushFacts(condition, true);
  }
  ir::TypeId want_element, want_key, want_value;
  if (expected.valid()) {
    ir::TypeId inner = types_.NonNull(expected);
    if (!map && types_.kind(inner) == TK::List) want_element = types_[inner].a;
    if (map && types_.kind(inner) == TK::Map) {
      want_key = types_[inner].a;
      want_value = types_[inner].b;
    }
  }
  llvm::SmallVector<Val, 4> inside;
  ir::TypeId type;
  if (!map) {
    ast::ExprId body_id = file_.child(e, 2);
    Val body = Check(body_id, want_element);
    TK kind = KindOf(body);
    if (!body.error && (kind == TK::Range || kind == TK::Regex || kind == TK::Args || kind == TK::Null)) {
      c_.diags.Emit(SpanOf(body_id), diag::NotStored, Show(body.type)).Label("cannot be an element of a list");
      body = Error();
    }
    type = types_.List(want_element.valid() ? types_.Bare(want_element) : body.type);
    inside.push_back(std::move(body));
  } else {
    ast::ExprId key_id = file_.child(e, 2), value_id = file_.child(e, 3);
    Val key = Check(key_id, want_key), value = Check(value_id, want_value);
    TK kind = KindOf(key);
    if (!key.error && kind != TK::String && kind != TK::Int && kind != TK::Enum && kind != TK::Error) {
      c_.diags.Emit(SpanOf(key_id), diag::BadMapKey, Show(key.type)).Label("keys are String, Int or an enum");
      key = Error();
    }
    TK value_kind = KindOf(value);
    if (!value.error && (value_kind == TK::Range || value_kind == TK::Regex || value_kind == TK::Args || value_kind == TK::Null)) {
      c_.diags.Emit(SpanOf(value_id), diag::NotStored, Show(value.type)).Label("cannot be a value of a map");
      value = Error();
    }
    type = types_.Map(want_key.valid() ? types_.Bare(want_key) : key.type, want_value.valid() ? types_.Bare(want_value) : value.type);
    inside.push_back(std::move(key));
    inside.push_back(std::move(value));
  }
  if (condition_id.valid()) inside.push_back(std::move(condition));
  PopFacts(mark);
  --conditional_;
  locals_.resize(locals);
  next_slot_ = base;
  llvm::SmallVector<Val, 4> args;
  args.push_back(source);
  for (Val& v : inside) {
    if (v.low_slot >= base) v.low_slot = UINT32_MAX;
    args.push_back(std::move(v));
  }
  return Make(map ? Op::MapFor : Op::ListFor, type, args, e.span, base, count);
}

Val ExpressionChecker::CheckIndex(ast::ExprId id, const ast::Expr& e) {
  JobRef ref;
  if (ResolveJobRef(id, ref)) {
    if (ref.error || ref.job == nullptr) return Error();
    auto& d = c_.diags.Emit(e.span, diag::NotAValue, ref.star ? "all instances of a job" : "an instance of a job");
    if (ref.star) {
      d.Label("only a comprehension can go over instances")
          .AddHelp(fmt::format("gather one output:  {}.{}", TextOf(e.span), ref.job->outputs.empty() ? "ok" : ref.job->outputs.front().name))
          .AddHelp(fmt::format("or go over them:  [for i in {} : i.ok]", TextOf(e.span)));
    } else {
      d.Label("name one of its outputs").AddHelp(fmt::format("write `{}.{}`", TextOf(e.span), ref.job->outputs.empty() ? "ok" : ref.job->outputs.front().name));
    }
    return Error();
  }
  ast::ExprId base_id = file_.child(e, 0), index_id = file_.child(e, 1);
  Val base = Check(base_id);
  if (base.error || KindOf(base) == TK::Error) {
    if (index_id.valid() && Ast(index_id).kind != Kind::Star) Check(index_id);
    return Error();
  }
  TK inner = types_.kind(types_.NonNull(base.type));
  if (types_.IsOptional(base.type) && inner != TK::Json) base = NotNull(base, base_id, types_.NonNull(base.type));
  bool star = index_id.valid() && Ast(index_id).kind == Kind::Star;
  if (inner != TK::List && inner != TK::Map && inner != TK::Json) {
    auto& d = c_.diags.Emit(SpanOf(base_id), diag::NotIndexed, Show(base.type)).Label("expected a list, a map or Json");
    if (inner == TK::Pair) d.AddHelp("a pair has `.first` and `.second`");
    return Error();
  }
  if (star) {
    c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::NotIndexed, Show(base.type)).Label("`[*]` is for the instances of a job");
    return Error();
  }
  if (e.children.size > 2) {
    c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::IndexCount, TextOf(SpanOf(base_id)), "one index", fmt::format("{}", e.children.size - 1));
    return Error();
  }
  if (inner == TK::List) {
    Val index = Check(index_id, Basic(TK::Int));
    return Narrow(Make(Op::Index, types_[base.type].a, {&base, &index}, e.span));
  }
  if (inner == TK::Map) {
    Val index = Check(index_id, types_[base.type].a);
    return Narrow(Make(Op::Index, types_[base.type].b, {&base, &index}, e.span));
  }
  Val index = Check(index_id);
  if (!index.error && KindOf(index) != TK::Int && KindOf(index) != TK::String && KindOf(index) != TK::Error) {
    Mismatch(index, Basic(TK::Int), index_id);
    index = Error();
  }
  return Make(Op::Index, types_.Optional(Basic(TK::Json)), {&base, &index}, e.span);
}

// ---- argv, holes, words ----

Val ExpressionChecker::CheckArgv(ast::ExprId id) {
  ast::ExprId bare = Bare(id);
  if (!bare.valid()) return Error(Basic(TK::Args));
  const ast::Expr& e = Ast(bare);
  ir::TypeId argv = Basic(TK::Args);
  if (e.kind == Kind::List) {
    llvm::SmallVector<Val, 16> args;
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      const ast::Entry& entry = file_.entries[e.entries.begin + i];
      Val v = Check(entry.value);
      if (entry.splice) {
        Span span = SpanOf(entry.value);
        v = AsWords(std::move(v), entry.value, {span.source, entry.span.begin, span.begin}, TextUse::Argv);
        v = Make(Op::Splice, v.type, {&v}, entry.span);
      } else {
        v = AsText(std::move(v), entry.value, TextUse::Argv, false);
      }
      args.push_back(std::move(v));
    }
    return Make(Op::List, argv, args, e.span);
  }
  if (e.kind == Kind::If) {
    Val condition = Check(file_.child(e, 0), Basic(TK::Bool));
    ++conditional_;
    size_t mark = PushFacts(condition, true);
    Val x = CheckArgv(file_.child(e, 1));
    PopFacts(mark);
    mark = PushFacts(condition, false);
    Val y = CheckArgv(file_.child(e, 2));
    PopFacts(mark);
    --conditional_;
    return Make(Op::If, argv, {&condition, &x, &y}, e.span);
  }
  Val v = Check(id);
  if (v.error || KindOf(v) == TK::Error || KindOf(v) == TK::Args) return v;
  if (KindOf(v) != TK::List) {
    auto& d = c_.diags.Emit(e.span, diag::TypeMismatch, "List<String>", Show(v.type)).Label("a command is a list of words");
    if (types_.HasText(v.type)) {
      d.AddHelp(fmt::format("write `[{}]`; for shell text use `script = <<~SH`", TextOf(e.span)),
                {{{e.span.source, e.span.begin, e.span.begin}, "["}, {{e.span.source, e.span.end, e.span.end}, "]"}});
    }
    return Error(argv);
  }
  return AsWords(std::move(v), id, {}, TextUse::Argv);
}

Val ExpressionChecker::CheckHole(const ast::Part& part) {
  Val v = Check(part.expr, {}, true);  // the caller says what a script may do with a secret
  if (v.error || KindOf(v) == TK::Error) return v;
  if (part.splice) {
    Span span = SpanOf(part.expr);
    Span dots{span.source, span.end, part.span.end > span.end ? part.span.end - 1 : span.end};
    return AsWords(std::move(v), part.expr, dots, TextUse::Script);
  }
  return AsText(std::move(v), part.expr, TextUse::Script, true);
}

std::optional<size_t> ExpressionChecker::CheckWord(ast::ExprId id, const std::vector<std::string_view>& words, std::string_view what) {
  ast::ExprId bare = Bare(id);
  if (!bare.valid()) return std::nullopt;
  const ast::Expr& e = Ast(bare);
  switch (e.kind) {
    case Kind::Error: return std::nullopt;
    case Kind::Name: {
      auto found = std::find(words.begin(), words.end(), e.name.text);
      if (found != words.end()) return static_cast<size_t>(found - words.begin());
      std::string_view noun = what.substr(0, 3) == "an " ? what.substr(3) : what.substr(0, 2) == "a " ? what.substr(2) : what;
      auto& d = c_.diags.Emit(e.span, diag::UnknownWord, noun, e.name.text).Label(fmt::format("not {}", what));
      Suggest(d, e.name.text, words, e.span);
      return std::nullopt;
    }
    case Kind::If: {
      Val condition = Check(file_.child(e, 0), Basic(TK::Bool));
      std::optional<ir::Value> value = c_.Constant(Finish(condition), SpanOf(file_.child(e, 0)));
      std::optional<size_t> x = CheckWord(file_.child(e, 1), words, what), y = CheckWord(file_.child(e, 2), words, what);
      if (!value || !x || !y) return std::nullopt;
      return value->as_bool() ? x : y;
    }
    case Kind::Match: {
      Val subject = Check(file_.child(e, 0));
      std::optional<ir::Value> value = c_.Constant(Finish(subject), SpanOf(file_.child(e, 0)));
      std::optional<size_t> result;
      bool ok = value.has_value(), taken = false;
      for (uint32_t i = 0; i < e.entries.size; ++i) {
        const ast::Entry& arm = file_.entries[e.entries.begin + i];
        bool hit = !arm.key.valid();
        if (arm.key.valid()) {
          Val pattern = Check(arm.key, subject.error ? ir::TypeId{} : subject.type);
          std::optional<ir::Value> wanted = c_.Constant(Finish(pattern), SpanOf(arm.key));
          ok &= wanted.has_value();
          hit = wanted && value && wanted->kind() == value->kind() && *wanted == *value;
        }
        std::optional<size_t> word = CheckWord(arm.value, words, what);
        ok &= word.has_value();
        if (hit && !taken) {
          taken = true;
          result = word;
        }
      }
      if (ok && !taken) {
        c_.diags.Emit(SpanOf(file_.child(e, 0)), diag::MatchMissesCases, fmt::format("every `{}`", Show(subject.type))).Label("no arm fits").AddHelp("add an arm  _ => …");
      }
      return ok ? result : std::nullopt;
    }
    default: {
      auto& d = c_.diags.Emit(e.span, diag::NotA, what, e.kind == Kind::String ? "a string" : "an expression").Label("write a bare word");
      std::string list;
      for (std::string_view w : words) list += fmt::format("{}`{}`", list.empty() ? "" : ", ", w);
      if (words.size() <= 30) d.Note("there is " + list);
      if (e.kind == Kind::String && e.parts.size == 1) {
        const std::string& text = file_.parts[e.parts.begin].text;
        if (std::find(words.begin(), words.end(), text) != words.end()) d.AddHelp("leave out the quotes", {{e.span, text}});
      }
      return std::nullopt;
    }
  }
}

// ---- the Checker's own members ----

Typed Checker::CheckExpr(ast::ExprId expr, const Scope& scope, ir::TypeId expected) {
  ExpressionChecker checker(*this, scope);
  bool secret_ok = scope.allow_secret || (expected.valid() && types.kind(expected) == ir::TypeKind::Secret);
  return checker.Finish(checker.Check(expr, expected, secret_ok));
}

Typed Checker::CheckArgv(ast::ExprId expr, const Scope& scope) {
  ExpressionChecker checker(*this, scope);
  return checker.Finish(checker.CheckArgv(expr));
}

Typed Checker::CheckJson(ast::ExprId expr, const Scope& scope) {
  ExpressionChecker checker(*this, scope);
  return checker.Finish(checker.CheckJson(expr));
}

Typed Checker::CheckCondition(ast::ExprId expr, const Scope& scope, Facts* when_true, Facts* when_false) {
  ExpressionChecker checker(*this, scope);
  Val v = checker.Check(expr, types.Basic(ir::TypeKind::Bool));
  if (!v.error) {
    if (when_true != nullptr) checker.CollectFacts(v.expr, true, when_true->known);
    if (when_false != nullptr) checker.CollectFacts(v.expr, false, when_false->known);
  }
  return checker.Finish(v);
}

Typed Checker::CheckHole(const ast::Part& part, const Scope& scope) {
  ExpressionChecker checker(*this, scope);
  return checker.Finish(checker.CheckHole(part));
}

std::optional<size_t> Checker::CheckWord(ast::ExprId expr, const Scope& scope, const std::vector<std::string_view>& words, std::string_view what) {
  ExpressionChecker checker(*this, scope);
  return checker.CheckWord(expr, words, what);
}

bool Checker::CheckLocalName(const ast::Name& name, const Scope& scope) {
  ExpressionChecker checker(*this, scope);
  return checker.CheckLocalName(name);
}

}  // namespace jobc::check
