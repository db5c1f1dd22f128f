#include "compiler/check/uniqueness.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "compiler/check/declarations.h"

namespace jobc::check {

using ir::ExprId;
using ir::Op;
using ir::Value;
using ir::ValueKind;

ExprId Uniqueness::Peel(ExprId id) const {
  for (;;) {
    const ir::Expr& e = c_.exprs[id];
    if (e.op == Op::Let) id = c_.program.lets[e.a].value;
    else if (e.op == Op::Narrow || e.op == Op::Checked || e.op == Op::ToFloat) id = c_.exprs.arg(e, 0);
    else return id;
  }
}

bool Uniqueness::OfKeys(const ir::Domain& domain) {
  domain_ = &domain;
  return Unique(domain, domain.key);
}

void Uniqueness::TakeApart(const Part& text, std::vector<Part>& out) const {
  const ExprId id = Peel(text.expr);
  const ir::Expr& e = c_.exprs[id];
  if (e.op == Op::Concat) {
    for (uint32_t i = 0; i < e.args.size; ++i) TakeApart({c_.exprs.arg(e, i), text.arguments}, out);
  } else if (e.op == Op::Local && e.a < text.arguments.size()) {
    TakeApart({text.arguments[e.a], {}}, out);
  } else if (e.op == Op::Apply && text.arguments.empty()) {
    std::vector<ExprId> inner;
    for (uint32_t i = 0; i < e.args.size; ++i) inner.push_back(c_.exprs.arg(e, i));
    TakeApart({c_.program.fns[e.a].body, std::move(inner)}, out);
  } else {
    out.push_back({id, text.arguments});
  }
}

uint32_t Uniqueness::AxisOf(const Part& part) const {
  const ExprId id = Resolved(part.expr, part.arguments);
  const ir::Expr& e = c_.exprs[id];
  if (e.op == Op::Var) return e.a >= 2 ? e.a - 2 : UINT32_MAX;
  if (e.op != Op::Call) return UINT32_MAX;
  const auto builtin = static_cast<ir::Builtin>(e.a);
  if (builtin == ir::Builtin::to_string) return AxisOf({c_.exprs.arg(e, 0), part.arguments});
  if (builtin == ir::Builtin::pad && e.args.size == 2 && IsInt(c_.exprs.arg(e, 0), part.arguments)) return AxisOf({c_.exprs.arg(e, 0), part.arguments});
  return UINT32_MAX;
}

bool Uniqueness::OfNames(const ir::Job& job, ExprId path) {
  const ir::Domain& domain = job.domain;
  domain_ = &domain;
  if (domain.single()) return true;
  std::vector<Part> parts;
  TakeApart({path, {}}, parts);
  bool element = !domain.list.valid();
  std::vector<bool> axes(domain.axes.size(), false);
  for (size_t a = 0; a < domain.axes.size(); ++a) {
    ir::EvalContext nothing;
    Value values;
    axes[a] = c_.evaluator.Evaluate(domain.axes[a].values, nothing, values) && values.kind() == ValueKind::List && values.as_list().size() <= 1;
  }
  // Only what stands behind the last `/` is the name.
  size_t first = 0;
  std::string separator;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!c_.exprs.IsConst(parts[i].expr) || c_.exprs.ConstValue(parts[i].expr).kind() != ValueKind::String) continue;
    const std::string& text = c_.exprs.ConstValue(parts[i].expr).as_string();
    if (const size_t slash = text.rfind('/'); slash != std::string::npos) {
      first = i + 1;
      separator = text.substr(slash + 1);
    }
  }
  const Part* before = nullptr;
  for (size_t i = first; i < parts.size(); ++i) {
    const Part& part = parts[i];
    if (c_.exprs.IsConst(part.expr)) {
      if (c_.exprs.ConstValue(part.expr).kind() != ValueKind::String) return false;
      separator += c_.exprs.ConstValue(part.expr).as_string();
      continue;
    }
    if (CanHold(part.expr, '/', part.arguments)) return false;
    if (before != nullptr && (separator.empty() || CanHold(before->expr, separator[0], before->arguments))) return false;
    if (const uint32_t axis = AxisOf(part); axis < axes.size()) axes[axis] = true;
    const bool is_key = domain.key.valid() && part.arguments.empty() && SameExpr(c_.program, Peel(part.expr), Peel(domain.key));
    element = element || (domain.list.valid() && (is_key || Unique(domain, part.expr, part.arguments)));
    before = &part;
    separator.clear();
  }
  return element && std::all_of(axes.begin(), axes.end(), [](bool found) { return found; });
}

bool Uniqueness::ValuesCanHold(ExprId list, bool keys, char ch) const {
  ir::EvalContext nothing;
  Value values;
  if (!c_.evaluator.Evaluate(list, nothing, values)) return true;
  const auto holds = [&](const Value& value) { return value.kind() != ValueKind::String || value.as_string().find(ch) != std::string::npos; };
  if (values.kind() == ValueKind::List) return std::any_of(values.as_list().begin(), values.as_list().end(), holds);
  if (values.kind() != ValueKind::Map) return true;
  return std::any_of(values.as_map().begin(), values.as_map().end(), [&](const auto& entry) { return holds(keys ? entry.first : entry.second); });
}

bool Uniqueness::Unique(const ir::Domain& domain, ExprId expr, const std::vector<ExprId>& arguments) const {
  const ExprId id = Peel(expr);
  const ir::Expr& e = c_.exprs[id];
  if (arguments.empty() && Covered(domain, id)) return true;
  switch (e.op) {
    case Op::Local: return e.a < arguments.size() && Unique(domain, arguments[e.a]);
    case Op::Var:
      if (c_.types.kind(e.type) == ir::TypeKind::File || c_.types.kind(e.type) == ir::TypeKind::Dir) return false;  // two may have one text
      if (domain.two_names) return e.a == 0;  // index of a list, key of a map
      return e.a == 0 && Distinct(domain.list);
    case Op::Apply: {
      if (!arguments.empty()) return false;
      std::vector<ExprId> inner;
      for (uint32_t i = 0; i < e.args.size; ++i) inner.push_back(c_.exprs.arg(e, i));
      return Unique(domain, c_.program.fns[e.a].body, inner);
    }
    case Op::Call:
      switch (static_cast<ir::Builtin>(e.a)) {
        case ir::Builtin::to_string: return Unique(domain, c_.exprs.arg(e, 0), arguments);
        case ir::Builtin::pad:
          // Zeros before a number change nothing of it; another filling could.
          return e.args.size == 2 && IsInt(c_.exprs.arg(e, 0), arguments) && Unique(domain, c_.exprs.arg(e, 0), arguments);
        default: return false;
      }
    case Op::Concat: return UniqueTemplate(domain, e, arguments);
    case Op::Add: case Op::Sub: {
      // i + 1
      const ExprId x = c_.exprs.arg(e, 0), y = c_.exprs.arg(e, 1);
      if (c_.exprs.IsConst(y)) return IsInt(x, arguments) && Unique(domain, x, arguments);
      return c_.exprs.IsConst(x) && IsInt(y, arguments) && Unique(domain, y, arguments);
    }
    default: return false;
  }
}

ExprId Uniqueness::Resolved(ExprId expr, const std::vector<ExprId>& arguments) const {
  const ExprId id = Peel(expr);
  const ir::Expr& e = c_.exprs[id];
  return e.op == Op::Local && e.a < arguments.size() ? Peel(arguments[e.a]) : id;
}

bool Uniqueness::IsInt(ExprId expr, const std::vector<ExprId>& arguments) const { return c_.types.kind(c_.exprs[Resolved(expr, arguments)].type) == ir::TypeKind::Int; }

bool Uniqueness::UniqueTemplate(const ir::Domain& domain, const ir::Expr& e, const std::vector<ExprId>& arguments) const {
  bool unique = false;
  ExprId before;
  std::string separator;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    const ExprId part = c_.exprs.arg(e, i);
    if (c_.exprs.IsConst(part)) {
      if (c_.exprs.ConstValue(part).kind() != ValueKind::String) return false;
      separator += c_.exprs.ConstValue(part).as_string();
      continue;
    }
    if (before.valid() && (separator.empty() || CanHold(before, separator[0], arguments))) return false;
    unique = unique || Unique(domain, part, arguments);
    before = part;
    separator.clear();
  }
  return unique;
}

bool Uniqueness::CanHold(ExprId expr, char ch, const std::vector<ExprId>& arguments) const {
  const ExprId id = Resolved(expr, arguments);
  const ir::Expr& e = c_.exprs[id];
  const auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  switch (c_.types.kind(e.type)) {
    case ir::TypeKind::Int: return (ch >= '0' && ch <= '9') || ch == '-';
    case ir::TypeKind::Bool: return ch >= 'a' && ch <= 'z';
    case ir::TypeKind::Enum: return word(ch);
    default: break;
  }
  if (e.op == Op::Call && static_cast<ir::Builtin>(e.a) == ir::Builtin::pad && e.args.size == 2) return CanHold(c_.exprs.arg(e, 0), ch, arguments) || ch == '0' || ch == ' ';
  if (ch == '/' && e.op == Op::Call) {
    const auto builtin = static_cast<ir::Builtin>(e.a);
    if (builtin == ir::Builtin::basename || builtin == ir::Builtin::stem || builtin == ir::Builtin::extension) return false;
  }
  if (e.op == Op::Var && domain_ != nullptr) {
    const ExprId values = e.a >= 2 ? domain_->axes[e.a - 2].values : domain_->list;
    if (values.valid() && (e.a >= 2 || domain_->two_names == (e.a == 1) || c_.types.kind(c_.exprs[domain_->list].type) == ir::TypeKind::Map) &&
        !ValuesCanHold(values, e.a == 0, ch)) {
      return false;
    }
  }
  // A declared pattern such as [A-Za-z0-9_]+ without the character.
  const ir::TypeId declared = DeclaredType(id);
  if (!declared.valid() || !c_.types[declared].refinement.valid()) return true;
  const ir::Refinement& r = c_.types[c_.types[declared].refinement];
  if (r.kind != ir::RefinementKind::Pattern) return true;
  return PatternCanHold(r.pattern, ch);
}

bool Uniqueness::PatternCanHold(const std::string& pattern, char ch) {
  // Flags change what the rest means; bytes are not characters.
  if (pattern.find("(?") != std::string::npos) return true;
  if (std::any_of(pattern.begin(), pattern.end(), [](unsigned char c) { return c >= 0x80; })) return true;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '[') {
      size_t end = pattern.find(']', i + 2);
      if (end == std::string::npos || pattern[i + 1] == '^') return true;
      for (size_t k = i + 1; k < end; ++k) {
        if (pattern[k] == '\\' || pattern[k] == '[') return true;
        if (k + 2 < end && pattern[k + 1] == '-') {
          if (ch >= pattern[k] && ch <= pattern[k + 2]) return true;
          k += 2;
        } else if (pattern[k] == ch) {
          return true;
        }
      }
      i = end;
    } else if (c == '{') {
      i = pattern.find('}', i);
      if (i == std::string::npos) return true;
    } else if (c == '\\') {
      if (i + 1 >= pattern.size()) return true;
      const char next = pattern[++i];
      if (next == 'd') {
        if (ch >= '0' && ch <= '9') return true;
      } else if (std::isalnum(static_cast<unsigned char>(next))) {
        return true;
      } else if (next == ch) {
        return true;
      }
    } else if (c == '.') {
      return true;
    } else if (std::string_view("+*?|()^$").find(c) == std::string_view::npos && c == ch) {
      return true;
    }
  }
  return false;
}

ir::TypeId Uniqueness::DeclaredType(ExprId id) const {
  const ir::Expr& e = c_.exprs[id];
  if (e.op == Op::Param) return c_.program.params[e.a].type;
  if (e.op == Op::Call && e.args.size > 0 && (static_cast<ir::Builtin>(e.a) == ir::Builtin::sort || static_cast<ir::Builtin>(e.a) == ir::Builtin::reverse)) {
    return DeclaredType(Peel(c_.exprs.arg(e, 0)));
  }
  if (e.op == Op::Var && e.a < 2 && domain_ != nullptr && domain_->list.valid()) {
    const ir::TypeId list = DeclaredType(Peel(domain_->list));
    if (!list.valid()) return {};
    if (c_.types.kind(list) == ir::TypeKind::Map) return e.a == 0 ? c_.types[list].a : c_.types[list].b;
    if (c_.types.kind(list) == ir::TypeKind::List && domain_->two_names == (e.a == 1)) return c_.types[list].a;
    return {};
  }
  if (e.op != Op::Field) return {};
  const ir::TypeId base = c_.types.NonNull(c_.types.Bare(c_.exprs[c_.exprs.arg(e, 0)].type));
  if (c_.types.kind(base) != ir::TypeKind::Struct) return {};
  const ir::StructDef& def = c_.types[ir::StructId{c_.types[base].def}];
  return e.a < def.fields.size() ? def.fields[e.a].type : ir::TypeId{};
}

bool Uniqueness::Distinct(ExprId list) const {
  const ir::Expr& e = c_.exprs[Peel(list)];
  if (e.op == Op::Range) return true;
  if (e.op == Op::Call) {
    switch (static_cast<ir::Builtin>(e.a)) {
      case ir::Builtin::range: case ir::Builtin::keys: case ir::Builtin::unique: return c_.types.kind(e.type) == ir::TypeKind::List;
      case ir::Builtin::sort: case ir::Builtin::reverse: return Distinct(c_.exprs.arg(e, 0));
      default: break;
    }
  }
  ir::EvalContext nothing;
  Value value;
  if (c_.evaluator.Evaluate(list, nothing, value) && value.kind() == ValueKind::List) {
    ir::ListValue sorted = value.as_list();
    std::sort(sorted.begin(), sorted.end(), [](const Value& x, const Value& y) { return Value::Compare(x, y) < 0; });
    return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  }
  return RequiredUnique(list, {});
}

bool Uniqueness::Covered(const ir::Domain& domain, ExprId key) const { return !domain.two_names && RequiredUnique(domain.list, key); }

bool Uniqueness::RequiredUnique(ExprId list, ExprId key) const {
  for (const ParamRequire& require : c_.model.requires_) {
    std::vector<ExprId> todo{require.condition};
    while (!todo.empty()) {
      const ExprId id = Peel(todo.back());
      todo.pop_back();
      const ir::Expr& e = c_.exprs[id];
      if (e.op == Op::And) {
        todo.push_back(c_.exprs.arg(e, 0));
        todo.push_back(c_.exprs.arg(e, 1));
        continue;
      }
      if (e.op != Op::Call || static_cast<ir::Builtin>(e.a) != ir::Builtin::unique || e.args.size != 1) continue;
      const ExprId argument = Peel(c_.exprs.arg(e, 0));
      const ir::Expr& a = c_.exprs[argument];
      if (!key.valid() && SameExpr(c_.program, argument, Peel(list))) return true;
      if (a.op != Op::ListFor || a.b != 1 || a.args.size != 2 || !SameExpr(c_.program, Peel(c_.exprs.arg(a, 0)), Peel(list))) continue;
      const ExprId body = Peel(c_.exprs.arg(a, 1));
      if (!key.valid() ? (c_.exprs[body].op == Op::Local && c_.exprs[body].a == a.a) : SameWithVar(key, body, a.a)) return true;
    }
  }
  return false;
}

bool Uniqueness::SameWithVar(ExprId x, ExprId y, uint32_t slot) const {
  x = Peel(x);
  y = Peel(y);
  const ir::Expr& e = c_.exprs[x];
  const ir::Expr& f = c_.exprs[y];
  if (e.op == Op::Var) return e.a == 0 && f.op == Op::Local && f.a == slot;
  if (e.op == Op::Const) return f.op == Op::Const && c_.exprs.ConstValue(x) == c_.exprs.ConstValue(y);
  if (e.op != f.op || e.a != f.a || e.b != f.b || e.args.size != f.args.size) return false;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    if (!SameWithVar(c_.exprs.arg(e, i), c_.exprs.arg(f, i), slot)) return false;
  }
  return true;
}

}  // namespace jobc::check
