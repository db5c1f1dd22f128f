// Expected types: conversions, refinements, constants and their faults, and what to say about nulls.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "compiler/check/expression.h"
#include "ir/file_path.h"

namespace jobc::check {
namespace {

/// Texts above this size stay unfolded, so that a plan does not grow by them.
constexpr size_t kMaxFoldedText = 4096;

bool Foldable(ir::TypeKind kind) {
  switch (kind) {
    case ir::TypeKind::Bool: case ir::TypeKind::Int: case ir::TypeKind::Float: case ir::TypeKind::String:
    case ir::TypeKind::Duration: case ir::TypeKind::Bytes: case ir::TypeKind::Enum:
      return true;
    default: return false;
  }
}

/// Whether the value needs Locals that it does not bind itself.
bool HasFreeLocal(const ir::ExprPool& exprs, ir::ExprId id, std::vector<std::pair<uint32_t, uint32_t>>& bound) {
  const ir::Expr& e = exprs[id];
  if (e.op == ir::Op::Local) {
    return std::none_of(bound.begin(), bound.end(), [&](const auto& b) { return e.a >= b.first && e.a < b.second; });
  }
  bool binds = e.op == ir::Op::ListFor || e.op == ir::Op::MapFor;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    if (binds && i == 1) bound.push_back({e.a, e.a + e.b});
    bool free = HasFreeLocal(exprs, exprs.arg(e, i), bound);
    if (binds && i + 1 == e.args.size) bound.pop_back();
    if (free) return true;
  }
  return false;
}

bool HasError(const ir::ExprPool& exprs, ir::ExprId id) {
  const ir::Expr& e = exprs[id];
  if (e.op == ir::Op::Error) return true;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    if (HasError(exprs, exprs.arg(e, i))) return true;
  }
  return false;
}

/// What cannot be evaluated now is no fault.
bool IsFault(const ir::Fault& fault) { return fault.kind != ir::FaultKind::Unavailable && fault.kind != ir::FaultKind::TooLarge; }

/// The end of a range that lies next to a value outside of it, as it would be written; empty for other refinements.
std::string Nearest(const ir::Refinement& r, const ir::Value& value) {
  const auto show = [&](int64_t n) {
    return value.kind() == ir::ValueKind::Duration ? ir::DurationText(n) : value.kind() == ir::ValueKind::Bytes ? ir::BytesText(n) : std::to_string(n);
  };
  if (r.kind == ir::RefinementKind::IntRange && (value.kind() == ir::ValueKind::Int || value.kind() == ir::ValueKind::Duration || value.kind() == ir::ValueKind::Bytes)) {
    if (r.int_low && value.as_int() < *r.int_low) return show(*r.int_low);
    if (r.int_high && value.as_int() > *r.int_high) return show(*r.int_high);
  }
  if (r.kind == ir::RefinementKind::FloatRange && value.kind() == ir::ValueKind::Float) {
    if (r.float_low && value.as_float() < *r.float_low) return ir::FloatText(*r.float_low);
    if (r.float_high && value.as_float() > *r.float_high) return ir::FloatText(*r.float_high);
  }
  return "";
}

void ReportFault(Checker& c, const ir::Fault& fault, Span span) {
  Span where = span, inner;
  if (fault.at.valid()) {
    ir::Place place = c.exprs.place(fault.at);
    if (place.source != UINT32_MAX) {
      Span at{SourceId{place.source}, place.begin, place.end};
      bool inside = at.source == span.source && at.begin >= span.begin && at.end <= span.end;
      if (inside) where = at;
      else inner = at;
    }
  }
  auto& d = c.diags.Emit(where, diag::ConstantFault, fault.message).Label("this can never have a value");
  d.Secondary(inner, "it fails here");
  if (fault.kind == ir::FaultKind::Overflow) d.Note("an Int has 64 bits; Float has a larger range");
  if (fault.kind == ir::FaultKind::DivisionByZero) d.AddHelp("divide by something else, or ask first:  if d != 0 then n / d else 0");
}

/// Gives empty literals, whose type was not known when they were met, the type they are used as.
void Retype(ir::ExprPool& exprs, const ir::TypeTable& types, ir::ExprId id, ir::TypeId type) {
  const ir::Expr e = exprs[id];
  ir::TypeId inner = types.NonNull(type);
  if (e.op == ir::Op::List && types.kind(inner) == ir::TypeKind::List) {
    exprs.SetType(id, type);
    for (uint32_t i = 0; i < e.args.size; ++i) {
      ir::ExprId arg = exprs.arg(e, i);
      if (exprs[arg].op != ir::Op::Splice) Retype(exprs, types, arg, types[inner].a);
    }
  } else if (e.op == ir::Op::Map && types.kind(inner) == ir::TypeKind::Map) {
    exprs.SetType(id, type);
    for (uint32_t i = 1; i < e.args.size; i += 2) Retype(exprs, types, exprs.arg(e, i), types[inner].b);
  } else if (e.op == ir::Op::If) {
    exprs.SetType(id, type);
    Retype(exprs, types, exprs.arg(e, 1), type);
    Retype(exprs, types, exprs.arg(e, 2), type);
  }
}

}  // namespace

bool ExpressionChecker::HasUnknown(ir::TypeId type) const {
  const ir::TypeNode& node = types_[type];
  if (node.kind == TK::Error) return true;
  return (node.a.valid() && HasUnknown(node.a)) || (node.b.valid() && HasUnknown(node.b));
}

bool ExpressionChecker::Covariant(ir::TypeId from, ir::TypeId to) const {
  if (types_.Same(from, to)) return true;
  ir::TypeNode f = types_[from], t = types_[to];
  if (f.kind == TK::Error || t.kind == TK::Error) return true;
  if (t.kind == TK::Optional) {
    if (f.kind == TK::Null) return true;
    return Covariant(types_.NonNull(from), t.a);
  }
  if (f.kind != t.kind) return false;
  switch (f.kind) {
    case TK::List: return Covariant(f.a, t.a);
    case TK::Map: return Covariant(f.a, t.a) && !types_.IsOptional(t.a) && Covariant(f.b, t.b);
    case TK::Pair: return Covariant(f.a, t.a) && Covariant(f.b, t.b);
    default: return false;
  }
}

bool ExpressionChecker::Convertible(ir::TypeId from, ir::TypeId to) const {
  if (Covariant(from, to)) return true;
  return types_.kind(from) == TK::Int && types_.kind(types_.NonNull(to)) == TK::Float;
}

ir::TypeId ExpressionChecker::Unify(ir::TypeId x, ir::TypeId y, bool direct) {
  if (types_.Same(x, y)) return types_.Bare(x);
  ir::TypeNode a = types_[x], b = types_[y];
  if (a.kind == TK::Error) return types_.Bare(y);
  if (b.kind == TK::Error) return types_.Bare(x);
  if (a.kind == TK::Null) return types_.Optional(types_.Bare(y));
  if (b.kind == TK::Null) return types_.Optional(types_.Bare(x));
  if (a.kind == TK::Optional || b.kind == TK::Optional) {
    ir::TypeId inner = Unify(types_.NonNull(x), types_.NonNull(y), direct);
    return inner.valid() ? types_.Optional(inner) : inner;
  }
  if (direct && IsNumber(a.kind) && IsNumber(b.kind)) return Basic(TK::Float);
  if (a.kind != b.kind) return {};
  if (a.kind == TK::List) {
    ir::TypeId element = Unify(a.a, b.a, false);
    return element.valid() ? types_.List(element) : element;
  }
  if (a.kind == TK::Map || a.kind == TK::Pair) {
    ir::TypeId first = Unify(a.a, b.a, false), second = Unify(a.b, b.b, false);
    if (!first.valid() || !second.valid()) return {};
    return a.kind == TK::Map ? types_.Map(first, second) : types_.Pair(first, second);
  }
  return {};
}

Val ExpressionChecker::Coerce(Val v, ir::TypeId expected, ast::ExprId at) {
  ir::TypeId bare = types_.Bare(expected);
  TK want = types_.kind(bare), has = KindOf(v);
  if (v.error || has == TK::Error || want == TK::Error) {
    bool known = want != TK::Error;
    if (!v.error && has == TK::Error) v = Error();
    if (known) v.type = bare;
    return v;
  }
  Span span = SpanOf(at);
  if (!types_.Same(v.type, bare)) {
    if (want == TK::Optional) {
      ir::TypeId inner = types_.NonNull(expected);
      if (has == TK::Null) {
        if (exprs_.IsConst(v.expr)) return ConstantOf(bare, {}, span);
        v.type = bare;
        return v;
      }
      if (has != TK::Optional) {
        v = Coerce(std::move(v), inner, at);
        v.type = bare;
        return v;
      }
      if (!Covariant(types_.NonNull(v.type), types_.Bare(inner))) return Mismatch(v, expected, at);
    } else if (has == TK::Null) {
      auto& d = c_.diags.Emit(span, diag::NullNotAllowed, fmt::format("`{}`", Show(expected))).Label(fmt::format("expected `{}`", Show(expected)));
      ExplainNull(d, v, at, expected);
      return Error(bare);
    } else if (has == TK::Optional) {
      if (Convertible(types_.NonNull(v.type), bare)) return NotNull(v, at, expected);
      return Mismatch(v, expected, at);
    } else if (has == TK::Int && want == TK::Float) {
      if (exprs_.IsConst(v.expr)) {
        Val constant = ConstantOf(bare, ir::Value::Float(static_cast<double>(exprs_.ConstValue(v.expr).as_int())), span);
        v = constant;
      } else {
        v = Make(Op::ToFloat, bare, {&v}, span);
      }
    } else if ((want == TK::File || want == TK::Dir) && has == TK::String) {
      ast::ExprId literal = Bare(at);
      if (!literal.valid() || Ast(literal).kind != Kind::String || v.phase > Phase::P) return Mismatch(v, expected, at);
      return FileOf(std::move(v), want == TK::Dir, span);
    } else if (has == TK::Secret) {
      return SecretFault(span);  // a text with a secret in it is no String
    } else if (!Covariant(v.type, bare)) {
      return Mismatch(v, expected, at);
    }
    if (HasUnknown(v.type)) Retype(exprs_, types_, v.expr, bare);
    v.type = bare;
  }
  return Refine(std::move(v), expected, span);
}

Val ExpressionChecker::Refine(Val v, ir::TypeId expected, Span span) {
  if (v.error || expected == types_.Bare(expected)) return v;
  std::string_view place = refine_place_.empty() ? Place() : refine_place_;
  if (v.phase == Phase::C && v.low_slot == UINT32_MAX && !HasError(exprs_, v.expr)) {
    ir::EvalContext context;
    ir::Value value;
    if (!c_.evaluator.Evaluate(v.expr, context, value)) {
      ir::Fault fault = c_.evaluator.fault();
      if (IsFault(fault) && conditional_ == 0) {
        ReportFault(c_, fault, span);
        return Error(v.type);
      }
    } else if (value.is_null() || c_.evaluator.CheckRefinements(value, expected, "", context)) {
      return v;
    } else {
      ir::Fault fault = c_.evaluator.fault();
      ir::TypeId inner = types_.NonNull(expected);
      if (fault.kind == ir::FaultKind::Refinement) {
        // The message begins with a pointer where a part of the value is at fault.
        bool whole = types_[inner].refinement.valid() && fault.message.substr(0, 1) != "/";
        if (whole) {
          std::string text;
          bool scalar = Foldable(types_.kind(inner)) && types_.kind(inner) != TK::Bytes;
          if (!scalar || !c_.evaluator.ToText(value, types_.Bare(inner), context, text)) text = TextOf(span);
          else if (types_.kind(inner) == TK::String) text = fmt::format("\"{}\"", text);
          const ir::Refinement& refinement = types_[types_[inner].refinement];
          auto& d = c_.diags.Emit(span, diag::RefinementFails, text, Show(inner)).Label(fmt::format("{} must satisfy `{}`", place, refinement.text));
          const std::string nearest = Nearest(refinement, value);
          if (!nearest.empty()) d.AddHelp(fmt::format("the nearest that does is {}", nearest));
          else if (refinement.kind == ir::RefinementKind::Pattern) d.AddHelp("the whole text must match the pattern, from its first to its last character");
        } else {
          c_.diags.Emit(span, diag::RefinementFailsInside, fault.message).Label(fmt::format("{} must be a `{}`", place, Show(expected)));
        }
        return Error(v.type);
      }
      if (IsFault(fault)) {
        ReportFault(c_, fault, span);
        return Error(v.type);
      }
    }
  }
  // The evaluator quotes the place as a whole.
  std::string quoted(place);
  quoted.erase(std::remove(quoted.begin(), quoted.end(), '`'), quoted.end());
  uint32_t name = exprs_.AddConstant(ir::Value::String(std::move(quoted)));
  v.expr = exprs_.Add(Op::Checked, expected, {v.expr}, c_.PlaceOf(span), name);
  return v;
}

Val ExpressionChecker::FileOf(Val text, bool dir, Span span) {
  if (text.error) return Error(Basic(dir ? TK::Dir : TK::File));
  // The text's first part decides: what comes behind it cannot change where a path starts.
  std::string_view head;
  ir::ExprId first = text.expr;
  while (exprs_[first].op == Op::Concat && exprs_[first].args.size > 0) first = exprs_.arg(first, 0);
  if (exprs_.IsConst(first)) head = exprs_.ConstValue(first).as_string();
  ir::FileBase base = !head.empty() && head.front() == '/' ? ir::FileBase::Absolute : ir::IsUri(head) ? ir::FileBase::Uri : ir::FileBase::Source;
  std::string directory;
  if (base == ir::FileBase::Source && !c_.units.empty() && c_.units.front()->file != &file_) {
    const std::string& own = c_.sources[file_.source].directory;
    const std::string& root = c_.sources[c_.units.front()->file->source].directory;
    if (own != root) {
      directory = std::filesystem::path(own.empty() ? "." : own).lexically_normal().lexically_relative(std::filesystem::path(root.empty() ? "." : root).lexically_normal()).generic_string();
      if (directory == ".") directory.clear();
    }
  }
  if (base != ir::FileBase::Source) directory.clear();
  uint32_t constant = exprs_.AddConstant(ir::Value::String(std::move(directory)));
  Val v = Make(Op::FileLiteral, Basic(dir ? TK::Dir : TK::File), {&text}, span, static_cast<uint32_t>(base), constant);
  if (!v.error && v.phase <= Phase::P && v.low_slot == UINT32_MAX) c_.model.files.push_back({v.expr, span});
  return v;
}

Val ExpressionChecker::Mismatch(const Val& v, ir::TypeId expected, ast::ExprId at) {
  if (v.error) return Error(expected);
  Span span = SpanOf(at);
  ir::TypeId want_type = types_.NonNull(types_.Bare(expected));
  TK want = types_.kind(want_type), has = types_.kind(types_.NonNull(v.type));
  ast::ExprId bare = Bare(at);
  Kind written = bare.valid() ? Ast(bare).kind : Kind::Error;
  std::string text = TextOf(span);
  if (IsQuantity(want) && (written == Kind::Int || written == Kind::Float)) {
    auto& d = c_.diags.Emit(span, diag::NumberWithoutUnit, text).Label(fmt::format("expected `{}`", Show(expected)));
    d.AddHelp(want == TK::Duration ? fmt::format("write `{0}s`, `{0}m` or `{0}h`", text) : fmt::format("write `{0}B`, `{0}MiB` or `{0}GiB`", text));
    return Error(expected);
  }
  auto& d = c_.diags.Emit(span, diag::TypeMismatch, Show(expected), Show(v.type)).Label(fmt::format("`{}`", Show(v.type)));
  if (const ast::Item* field = c_.FieldOf(file_, bare)) {
    d.Secondary(file_[field->type].span, fmt::format("expected `{}` because of this", Show(expected)));
  }
  auto wrap = [&](std::string_view why, std::string before, std::string after) {
    d.AddHelp(fmt::format("{}:  {}{}{}", why, before, text, after), {{{span.source, span.begin, span.begin}, before}, {{span.source, span.end, span.end}, after}});
  };
  bool optional = types_.IsOptional(v.type);
  if (optional) return Error(expected);
  if ((want == TK::File || want == TK::Dir) && has == TK::String) {
    wrap("a computed text becomes a path by a function", want == TK::File ? "file(" : "dir(", ")");
  } else if (want == TK::String && types_.HasText(v.type) && has != TK::Secret) {
    wrap("for its text", "to_string(", ")");
  } else if (want == TK::Int && has == TK::Float) {
    wrap("choose how it becomes whole", "round(", ")");
  } else if (want == TK::Int && has == TK::String) {
    wrap("read the number in the text", "to_int(", ")");
  } else if (want == TK::Float && has == TK::String) {
    wrap("read the number in the text", "to_float(", ")");
  } else if (want == TK::Json && has != TK::Secret && has != TK::Regex && has != TK::Range) {
    wrap("for its JSON form", "json(", ")");
  } else if (has == TK::Json) {
    wrap("give the JSON value a type", "decode(", fmt::format(", {})", Show(want_type)));
  } else if (want == TK::Enum && written == Kind::String) {
    const ir::EnumDef& def = types_[ir::EnumId{types_[want_type].def}];
    std::string name(exprs_.IsConst(v.expr) ? exprs_.ConstValue(v.expr).as_string() : "");
    if (std::find(def.cases.begin(), def.cases.end(), name) != def.cases.end()) {
      d.AddHelp(fmt::format("write the case:  {}.{}", def.name, name), {{span, fmt::format("{}.{}", def.name, name)}});
    } else {
      d.AddHelp(fmt::format("write a case, such as `{}.{}`", def.name, def.cases.front()));
    }
  } else if (want == TK::Struct && (written == Kind::Map || written == Kind::MapFor)) {
    d.AddHelp(fmt::format("a struct is written with its name:  {} {}", Show(want_type), text), {{{span.source, span.begin, span.begin}, Show(want_type) + " "}});
  } else if (want == TK::List && has == TK::Range) {
    if (written == Kind::Binary) {
      d.AddHelp(fmt::format("make a list of it:  [for i in {} : i]", text), {{span, fmt::format("[for i in {} : i]", c_.sources.Text(span))}});
    }
  } else if (want == TK::List && Covariant(v.type, types_[want_type].a)) {
    wrap("a list of one", "[", "]");
  } else if (want == TK::Bool && (has == TK::Int || has == TK::Float)) {
    wrap("compare it", "", " != 0");
  } else if (want == TK::Bool && has == TK::String) {
    wrap("compare it", "", " != \"\"");
  } else if (want == TK::Bool && has == TK::List) {
    wrap("ask for its length", "length(", ") > 0");
  } else if (want == TK::Secret && has == TK::String) {
    d.AddHelp("declare it:  secret name = env(\"VARIABLE\")");
  } else if (IsQuantity(want) && IsNumber(has)) {
    wrap("give it a unit", "", want == TK::Duration ? " * 1s" : " * 1MiB");
  } else if (IsNumber(want) && IsQuantity(has)) {
    wrap("divide by the unit you mean", "", has == TK::Duration ? " / 1s" : " / 1MiB");
  } else if (want == TK::String && has == TK::List) {
    wrap("join its elements", "join(", ", \",\")");
  }
  return Error(expected);
}

Val ExpressionChecker::SecretFault(Span span) {
  auto& d = c_.diags.Emit(span, diag::SecretLeaks, Place()).Label("this is a `Secret`");
  d.AddHelp("give it to the job in a variable:  env { NAME = … }");
  d.AddHelp("or in a file:  secret_files { \"name\" = … }");
  return Error(Basic(TK::Secret));
}

Val ExpressionChecker::NotNull(Val v, ast::ExprId at, ir::TypeId wanted) {
  if (v.error) return v;
  auto& d = c_.diags.Emit(SpanOf(at), diag::MayBeNull).Label(fmt::format("`{}`", Show(v.type)));
  ExplainNull(d, v, at, wanted);
  return Error(types_.NonNull(v.type));
}

std::string ExpressionChecker::Example(ir::TypeId type) const {
  const ir::TypeNode& node = types_[type];
  const ir::Refinement* range = node.refinement.valid() ? &types_[node.refinement] : nullptr;
  switch (node.kind) {
    case TK::Bool: return "false";
    case TK::Int: return range != nullptr && range->int_low && *range->int_low > 1 ? std::to_string(*range->int_low) : range != nullptr && range->int_high && *range->int_high < 1 ? std::to_string(*range->int_high) : "1";
    case TK::Float: return range != nullptr && range->float_low && *range->float_low > 1.0 ? ir::FloatText(*range->float_low) : "1.0";
    case TK::String: return "\"…\"";
    case TK::Duration: return "1m";
    case TK::Bytes: return "1GiB";
    case TK::File: return "\"./FILE\"";
    case TK::Dir: return "\"./DIRECTORY\"";
    case TK::Json: return "json(null)";
    case TK::List: return "[]";
    case TK::Map: return "{}";
    case TK::Enum: {
      const ir::EnumDef& def = types_[ir::EnumId{node.def}];
      return def.cases.empty() ? "…" : def.name + "." + def.cases.front();
    }
    case TK::Optional: return "null";
    default: return "…";
  }
}

void ExpressionChecker::ExplainNull(Diagnostic& d, const Val& v, ast::ExprId at, ir::TypeId wanted) {
  Span span = SpanOf(at);
  std::string text = TextOf(span);
  const ast::Item* field = c_.FieldOf(file_, Bare(at));
  if (field != nullptr && wanted.valid()) d.Secondary(field->name.span, fmt::format("expected `{}`", Show(wanted)));

  // Which job's failure or guard makes it null?
  ir::ExprId origin = v.expr;
  while (origin.valid() && (exprs_[origin].op == Op::Field || exprs_[origin].op == Op::OptField || exprs_[origin].op == Op::Narrow || exprs_[origin].op == Op::Checked)) {
    origin = exprs_.arg(origin, 0);
  }
  const JobInfo* job = nullptr;
  uint32_t output = 0;
  bool instance = false;
  if (origin.valid() && exprs_[origin].op == Op::JobOutput) {
    job = &c_.jobs[exprs_[origin].a];
    output = exprs_[origin].b;
  } else if (origin.valid() && exprs_[origin].op == Op::InstanceOutput) {
    job = &c_.jobs[types_[exprs_[exprs_.arg(origin, 0)].type].def];
    output = exprs_[origin].b;
    instance = true;
  }
  bool helped = false;
  if (job != nullptr) {
    const OutputInfo& info = job->outputs[output];
    bool declared = info.type.valid() && types_.IsOptional(info.type);
    if (declared) {
      d.Secondary(info.type_span.valid() ? info.type_span : info.span, "declared so that it may be missing");
    } else if (job->nullable) {
      d.Secondary(job->nullable_span, job->nullable_label);
    } else if ((scope_.words & kJobsAreNull) != 0) {
      d.Note(fmt::format("in {} every output may be null: the job may have failed or never run", Place()));
    }
    ast::ExprId member = Bare(at);
    while (member.valid() && (Ast(member).kind == Kind::Member || Ast(member).kind == Kind::OptMember) && !declared) {
      ast::ExprId base = file_.child(Ast(member), 0);
      const ast::Expr& b = Ast(base);
      if (instance && b.kind == Kind::Name) {
        d.AddHelp(fmt::format("keep only the instances that succeeded:  [for {0} in … if {0}.ok : …]", b.name.text));
        helped = true;
        break;
      }
      if (!instance && ((b.kind == Kind::Name && FindValue(b.name.text) != nullptr) || b.kind == Kind::Index)) {
        const JobInfo* own = scope_.job;
        bool guardable = own != nullptr && own->kind == ir::JobKind::Job && own->unit != nullptr && own->unit->file == &file_ &&
                         v.low_slot == UINT32_MAX && (scope_.words & (kCapture | kJobsAreNull)) == 0;
        std::string ok = std::string(c_.sources.Text(b.span)) + ".ok";
        if (!guardable) break;
        // An edit that makes or extends the job's `when`.
        const ast::Item& block = file_[own->item];
        std::vector<Edit> edits;
        const ast::Item* when = nullptr;
        const ast::Item* around = nullptr;
        for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
          const ast::Item& child = file_[*id];
          if (child.kind == ast::ItemKind::Attr && child.name.text == "when") when = &child;
          if (child.span.source == span.source && child.span.begin <= span.begin && span.end <= child.span.end) around = &child;
        }
        if (when != nullptr && when == around) break;
        if (when != nullptr && when->value.valid()) {
          const ast::Expr& condition = file_[when->value];
          bool weaker = (condition.kind == Kind::Binary && condition.binary == ast::BinaryOp::Or) || condition.kind == Kind::If || condition.kind == Kind::Match;
          if (weaker) edits.push_back({{condition.span.source, condition.span.begin, condition.span.begin}, "("});
          edits.push_back({{condition.span.source, condition.span.end, condition.span.end}, fmt::format("{} && {}", weaker ? ")" : "", ok)});
        } else if (around != nullptr) {
          LineColumn position = c_.sources.Locate(around->span.source, around->span.begin);
          std::string_view line = c_.sources.Line(around->span.source, position.line);
          std::string_view indent = line.substr(0, std::min(line.size(), line.find_first_not_of(" \t")));
          bool alone = position.column == indent.size() + 1;
          edits.push_back({{around->span.source, around->span.begin, around->span.begin}, alone ? fmt::format("when = {}\n{}", ok, indent) : fmt::format("when = {}, ", ok)});
        }
        d.AddHelp(fmt::format("run this job only where `{}` succeeded:  when = {}", job->name.text, ok), std::move(edits));
        helped = true;
        break;
      }
      member = base;
    }
  } else if (origin.valid() && exprs_[origin].op == Op::Param && exprs_[origin].a < c_.model.param_spans.size() && exprs_[v.expr].op == Op::Param) {
    d.Secondary(c_.model.param_spans[exprs_[v.expr].a], "declared so that it may be null");
  }
  if (field != nullptr && wanted.valid()) {
    Span type = file_[field->type].span;
    d.AddHelp(fmt::format("{}accept that it is missing:  {}: {}? = {}", helped ? "or " : "", field->name.text, c_.sources.Text(type), TextOf(file_[field->value].span)), {{{type.source, type.end, type.end}, "?"}});
    helped = true;
  }
  if (KindOf(v) == TK::Null) return;
  TK kind = types_.kind(types_.NonNull(v.type));
  const std::string instead = kind == TK::String ? "\"\"" : kind == TK::Int ? "0" : Example(types_.NonNull(v.type));
  d.AddHelp(fmt::format("{}say what to use instead of null:  {} ?? {}", helped ? "or " : "", text, instead));
  if (job == nullptr) d.AddHelp(fmt::format("or ask first:  if {} != null then … else …", text));
}

// ---- constants ----

Val ExpressionChecker::Fold(Val v, Span span) {
  if (v.error || v.phase != Phase::C || v.low_slot != UINT32_MAX || exprs_.IsConst(v.expr) || !Foldable(KindOf(v))) return v;
  ir::EvalContext context;
  ir::Value value;
  if (c_.evaluator.Evaluate(v.expr, context, value)) {
    if (value.is_null() || (value.kind() == ir::ValueKind::String && value.as_string().size() > kMaxFoldedText)) return v;
    v.expr = exprs_.Constant(v.type, std::move(value), c_.PlaceOf(span));
    return v;
  }
  ir::Fault fault = c_.evaluator.fault();
  if (!IsFault(fault) || conditional_ > 0) return v;
  ReportFault(c_, fault, span);
  return Error(v.type);
}

Typed Checker::Fold(const Typed& typed, Span span) {
  ir::TypeKind kind = types.kind(typed.type);
  std::vector<std::pair<uint32_t, uint32_t>> bound;
  if (typed.phase != Phase::C || kind == ir::TypeKind::Error || exprs.IsConst(typed.expr) || HasError(exprs, typed.expr) ||
      HasFreeLocal(exprs, typed.expr, bound)) {
    return typed;
  }
  ir::EvalContext context;
  ir::Value value;
  Typed folded = typed;
  if (evaluator.Evaluate(typed.expr, context, value)) {
    folded.expr = exprs.Constant(typed.type, std::move(value), PlaceOf(span));
    return folded;
  }
  ir::Fault fault = evaluator.fault();
  if (!IsFault(fault)) return typed;
  ReportFault(*this, fault, span);
  folded.expr = ErrorExpr();
  return folded;
}

std::optional<ir::Value> Checker::Constant(const Typed& typed, Span span) {
  if (types.kind(typed.type) == ir::TypeKind::Error || HasError(exprs, typed.expr)) return std::nullopt;
  if (exprs.IsConst(typed.expr)) return exprs.ConstValue(typed.expr);
  std::vector<std::pair<uint32_t, uint32_t>> bound;
  if (typed.phase != Phase::C || HasFreeLocal(exprs, typed.expr, bound)) {
    Span where = typed.leaf.valid() ? typed.leaf : span;
    std::string text(sources.Text(where));
    diags.Emit(where, diag::KnownTooLate, text, "a constant").Label("not known when the file is read").Note("a constant is made of literals, `let` and functions over them");
    return std::nullopt;
  }
  ir::EvalContext context;
  ir::Value value;
  if (evaluator.Evaluate(typed.expr, context, value)) return value;
  ir::Fault fault = evaluator.fault();
  if (IsFault(fault)) {
    ReportFault(*this, fault, span);
  } else {
    diags.Emit(span, diag::ConstantFault, fault.message).Label("too large to compute now");
  }
  return std::nullopt;
}

const ast::Item* Checker::FieldOf(const ast::File& file, ast::ExprId value) {
  if (!value.valid()) return nullptr;
  auto [it, fresh] = field_of_value.try_emplace(&file);
  std::vector<uint32_t>& fields = it->second;
  if (fresh) {
    fields.assign(file.exprs.size(), UINT32_MAX);
    for (uint32_t i = 0; i < file.items.size(); ++i) {
      const ast::Item& item = file.items[i];
      if (item.kind != ast::ItemKind::Field || !item.type.valid()) continue;
      ast::ExprId id = item.value;
      while (id.valid() && file[id].kind == ast::ExprKind::Paren) id = file.child(file[id], 0);
      if (id.valid()) fields[id.index] = i;
    }
  }
  return value.index < fields.size() && fields[value.index] != UINT32_MAX ? &file.items[fields[value.index]] : nullptr;
}

bool Checker::RequireStorable(const Typed& typed, Span span) {
  ir::TypeKind kind = types.kind(typed.type);
  if (exprs[typed.expr].op == ir::Op::Error || kind == ir::TypeKind::Error) return false;
  if (kind == ir::TypeKind::Range || kind == ir::TypeKind::Regex || kind == ir::TypeKind::Instance) {
    auto& d = diags.Emit(span, diag::NotStored, types.Show(typed.type)).Label("not a type of values");
    if (kind == ir::TypeKind::Range) d.AddHelp("make a list:  range(from, to), without the end");
    return false;
  }
  std::vector<ir::TypeId> todo{typed.type};
  while (!todo.empty()) {
    const ir::TypeNode& node = types[todo.back()];
    todo.pop_back();
    if (node.kind == ir::TypeKind::Error || node.kind == ir::TypeKind::Null) {
      diags.Emit(span, diag::TypeUnknown, std::string(sources.Text(span))).Label("of what type?").AddHelp("write the type:  let x: List<String> = []");
      return false;
    }
    if (node.a.valid()) todo.push_back(node.a);
    if (node.b.valid()) todo.push_back(node.b);
  }
  return true;
}

}  // namespace jobc::check
