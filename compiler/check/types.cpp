// Type expressions: names, arguments, refinements, `?`.
#include <fmt/format.h>

#include <algorithm>

#include "compiler/check/declarations.h"
#include "compiler/check/expression.h"

namespace jobc::check {
namespace {

using TK = ir::TypeKind;

constexpr std::pair<std::string_view, TK> kBasic[] = {
    {"Bool", TK::Bool}, {"Int", TK::Int}, {"Float", TK::Float}, {"String", TK::String}, {"Duration", TK::Duration}, {"Bytes", TK::Bytes},
    {"File", TK::File}, {"Dir", TK::Dir}, {"Json", TK::Json}, {"Secret", TK::Secret}};

/// Names of types in other languages, and what they are called here.
constexpr std::pair<std::string_view, std::string_view> kElsewhere[] = {
    {"int", "Int"}, {"integer", "Int"}, {"Integer", "Int"}, {"Long", "Int"}, {"float", "Float"}, {"double", "Float"}, {"Double", "Float"},
    {"Number", "Float"}, {"number", "Float"}, {"str", "String"}, {"string", "String"}, {"Text", "String"}, {"bool", "Bool"}, {"Boolean", "Bool"},
    {"boolean", "Bool"}, {"Array", "List"}, {"array", "List"}, {"list", "List"}, {"Dict", "Map"}, {"dict", "Map"}, {"Object", "Json"},
    {"object", "Json"}, {"Any", "Json"}, {"any", "Json"}, {"Path", "File"}, {"path", "File"}, {"file", "File"}, {"Directory", "Dir"},
    {"Folder", "Dir"}, {"Size", "Bytes"}, {"Time", "Duration"}};

class Resolver {
 public:
  Resolver(Checker& checker, Unit& unit, bool args_allowed) : c_(checker), unit_(unit), file_(*unit.file), args_allowed_(args_allowed) {}

  ir::TypeId Resolve(ast::TypeId id, bool top) {
    if (!id.valid()) return Error();
    const ast::Type& t = file_[id];
    if (t.name.text.empty()) return Error();  // after a syntax error
    ir::TypeId type = Named(t, top);
    if (c_.types.kind(type) == TK::Error) return type;
    if (t.refinement.valid()) type = Refine(t, type);
    if (t.optional && c_.types.kind(type) != TK::Error) {
      if (c_.types.kind(type) == TK::Secret || c_.types.kind(type) == TK::Args) {
        c_.diags.Emit(t.span, diag::NotA, "a type that may be null", fmt::format("`{}`", c_.types.Show(type))).Label("this is never null");
        return Error();
      }
      type = c_.types.Optional(type);
    }
    return type;
  }

 private:
  ir::TypeId Error() const { return c_.types.Basic(TK::Error); }
  ir::TypeId Argument(const ast::Type& t, uint32_t i) { return Resolve(file_.type_lists[t.arguments.begin + i], false); }

  bool Arguments(const ast::Type& t, uint32_t want) {
    if (t.arguments.size == want) return true;
    std::string_view form = t.name.text == "Map" ? "Map<String, Int>" : t.name.text == "Pair" ? "Pair<String, Int>" : "List<String>";
    auto& d = c_.diags.Emit(t.span, diag::ArgumentCount, t.name.text,
                            want == 0 ? std::string("no type arguments") : fmt::format("{} type argument{}", want, want == 1 ? "" : "s"),
                            fmt::format("{}", t.arguments.size));
    d.Label("wrong number of type arguments");
    if (want > 0) d.AddHelp(fmt::format("write it as in `{}`", form));
    for (uint32_t i = 0; i < t.arguments.size; ++i) Argument(t, i);
    return false;
  }

  /// Secrets may not hide inside other values.
  bool Element(ir::TypeId type, Span span) {
    if (c_.types.kind(type) == TK::Secret) {
      c_.diags.Emit(span, diag::SecretLeaks, "a list, map or struct").Label("a `Secret` stands alone");
      return false;
    }
    return true;
  }

  ir::TypeId Named(const ast::Type& t, bool top) {
    std::string_view name = t.name.text;
    Unit* unit = &unit_;
    if (t.module.valid()) {
      auto it = unit_.values.find(llvm::StringRef(t.module.text.data(), t.module.text.size()));
      if (it == unit_.values.end() || it->second.kind != SymbolKind::Import) {
        std::vector<std::string_view> imports;
        for (const auto& entry : unit_.values) {
          if (entry.second.kind == SymbolKind::Import) imports.push_back({entry.first().data(), entry.first().size()});
        }
        auto& d = c_.diags.Emit(t.module.span, diag::UnknownImport, t.module.text).Label("expected the name of an import");
        std::string_view like = DidYouMean(t.module.text, imports);
        if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{t.module.span, std::string(like)}});
        return Error();
      }
      it->second.used = true;
      unit = c_.declarations != nullptr && it->second.index < c_.declarations->imports.size() ? c_.declarations->imports[it->second.index].library : nullptr;
      if (unit == nullptr) return Error();
    } else {
      for (const auto& [text, kind] : kBasic) {
        if (text == name) return Arguments(t, 0) ? c_.types.Basic(kind) : Error();
      }
      if (name == "List") {
        if (!Arguments(t, 1)) return Error();
        ir::TypeId element = Argument(t, 0);
        if (c_.types.kind(element) == TK::Error || !Element(element, file_[file_.type_lists[t.arguments.begin]].span)) return Error();
        return c_.types.List(element);
      }
      if (name == "Map" || name == "Pair") {
        if (!Arguments(t, 2)) return Error();
        ir::TypeId first = Argument(t, 0), second = Argument(t, 1);
        TK kind = c_.types.kind(first);
        if (kind == TK::Error || c_.types.kind(second) == TK::Error) return Error();
        Span first_span = file_[file_.type_lists[t.arguments.begin]].span;
        if (!Element(first, first_span) || !Element(second, file_[file_.type_lists[t.arguments.begin + 1]].span)) return Error();
        if (name == "Pair") return c_.types.Pair(first, second);
        if (kind != TK::String && kind != TK::Int && kind != TK::Enum) {
          c_.diags.Emit(first_span, diag::BadMapKey, c_.types.Show(first)).Label("keys are String, Int or an enum");
          return Error();
        }
        return c_.types.Map(first, second);
      }
      if (name == "Args") {
        if (!Arguments(t, 0)) return Error();
        if (args_allowed_ && top) return c_.types.Basic(TK::Args);
        c_.diags.Emit(t.span, diag::NotHere, "Args", "this type").Label("only a template's parameter is an argv list").AddHelp("use `List<String>`", {{t.span, "List<String>"}});
        return Error();
      }
      if (name == "RunStatus" && unit_.types.count("RunStatus") == 0) return Arguments(t, 0) ? c_.RunStatusType() : Error();
    }
    auto it = unit->types.find(llvm::StringRef(name.data(), name.size()));
    if (it != unit->types.end()) {
      it->second.used = true;
      if (!Arguments(t, 0)) return Error();
      ir::TypeId type = c_.ResolveTypeSymbol(it->second);
      return type.valid() ? type : Error();
    }
    std::string shown = t.module.valid() ? fmt::format("{}.{}", t.module.text, name) : std::string(name);
    auto& d = c_.diags.Emit(t.name.span, diag::UnknownType, shown).Label("not known");
    for (uint32_t i = 0; i < t.arguments.size; ++i) Argument(t, i);
    std::vector<std::string_view> names;
    for (const auto& entry : unit->types) names.push_back({entry.first().data(), entry.first().size()});
    if (!t.module.valid()) {
      for (const auto& [text, kind] : kBasic) names.push_back(text);
      names.insert(names.end(), {"List", "Map", "Pair"});
      for (const auto& [theirs, ours] : kElsewhere) {
        if (theirs == name) {
          d.AddHelp(fmt::format("it is called `{}` here", ours), {{t.name.span, std::string(ours)}});
          return Error();
        }
      }
    }
    std::sort(names.begin(), names.end());
    std::string_view like = DidYouMean(name, names);
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{t.name.span, std::string(like)}});
    return Error();
  }

  ast::ExprId Bare(ast::ExprId id) const {
    while (id.valid() && file_[id].kind == ast::ExprKind::Paren) id = file_.child(file_[id], 0);
    return id;
  }

  Scope ConstantScope() {
    Scope scope;
    scope.unit = &unit_;
    scope.latest = Phase::C;
    scope.place = "a refinement";
    return scope;
  }

  ir::TypeId Refine(const ast::Type& t, ir::TypeId base) {
    ast::ExprId id = Bare(t.refinement);
    if (!id.valid()) return base;
    const ast::Expr& e = file_[id];
    TK kind = c_.types.kind(base);
    if (e.kind == ast::ExprKind::Error) return base;
    ir::Refinement refinement;
    refinement.text = std::string(c_.sources.Text(file_[t.refinement].span));
    auto unfit = [&](std::string_view what, std::string_view help) {
      c_.diags.Emit(e.span, diag::BadRefinement, c_.types.Show(base), what).Label("not for this type").AddHelp(std::string(help));
      return Error();
    };
    if (kind == TK::Secret || kind == TK::Args) return unfit("anything", "leave the refinement out");
    if (e.kind == ast::ExprKind::Binary && e.binary == ast::BinaryOp::Range) {
      if (kind != TK::Int && kind != TK::Float && kind != TK::Duration && kind != TK::Bytes) {
        return unfit("a range", kind == TK::String || kind == TK::List || kind == TK::Map ? "for a length write `(length(it) in 1..64)`" : "ranges are for Int, Float, Duration and Bytes");
      }
      bool faulty = false;
      auto end = [&](uint32_t child) -> std::optional<ir::Value> {
        ast::ExprId at = file_.child(e, child);
        if (!at.valid()) return std::nullopt;
        Scope scope = ConstantScope();
        Typed value = c_.CheckExpr(at, scope, c_.types.Bare(base));
        std::optional<ir::Value> constant = c_.Constant(value, file_[at].span);
        if (!constant) faulty = true;
        return constant;
      };
      std::optional<ir::Value> low = end(0), high = end(1);
      if (faulty) return base;
      bool empty = low && high && ir::Value::Compare(*low, *high) > 0;
      if (kind == TK::Float) {
        refinement.kind = ir::RefinementKind::FloatRange;
        if (low) refinement.float_low = low->as_float();
        if (high) refinement.float_high = high->as_float();
      } else {
        refinement.kind = ir::RefinementKind::IntRange;
        if (low) refinement.int_low = low->as_int();
        if (high) refinement.int_high = high->as_int();
      }
      if (empty) {
        c_.diags.Emit(e.span, diag::EmptyRefinement, refinement.text).Label("the first end is above the last");
        return base;
      }
    } else if (e.kind == ast::ExprKind::Regex) {
      if (kind != TK::String) return unfit("a regular expression", "regular expressions are for String");
      Scope scope = ConstantScope();
      size_t errors = c_.diags.error_count();
      Typed pattern = c_.CheckExpr(id, scope);
      if (c_.diags.error_count() != errors) return base;
      refinement.kind = ir::RefinementKind::Pattern;
      refinement.pattern = c_.exprs.ConstValue(pattern.expr).as_string();
    } else {
      Scope scope = ConstantScope();
      scope.words = kIt;
      scope.it_type = c_.types.Bare(base);
      scope.next_slot = 1;
      Typed predicate = c_.CheckExpr(id, scope, c_.types.Basic(TK::Bool));
      if (c_.exprs[predicate.expr].op == ir::Op::Error) return base;
      refinement.kind = ir::RefinementKind::Predicate;
      refinement.predicate = predicate.expr;
    }
    return c_.types.Refined(base, c_.types.AddRefinement(std::move(refinement)));
  }

  Checker& c_;
  Unit& unit_;
  const ast::File& file_;
  bool args_allowed_;
};

}  // namespace

ir::TypeId Checker::ResolveType(ast::TypeId type, Unit& unit, bool args_allowed) { return Resolver(*this, unit, args_allowed).Resolve(type, true); }

}  // namespace jobc::check
