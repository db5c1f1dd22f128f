// Facts: what is known not to be null, and the keys that name stable paths. A path is named by its resolved form, so that
// `align[s.id].bam` is the same path however it is written.
#include "compiler/check/expression.h"

#include <fmt/format.h>

#include <algorithm>

namespace jobc::check {
namespace {

/// A `let` is stable if no function is called in it.
bool Calls(const ir::Program& program, ir::ExprId id) {
  const ir::Expr& e = program.exprs[id];
  if (e.op == ir::Op::Call || e.op == ir::Op::Apply) return true;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    if (Calls(program, program.exprs.arg(e, i))) return true;
  }
  return false;
}

void AppendKey(const ir::Value& value, std::string& out) {
  switch (value.kind()) {
    case ir::ValueKind::Null: out += "n"; return;
    case ir::ValueKind::Bool: out += value.as_bool() ? "t" : "f"; return;
    case ir::ValueKind::Float: out += fmt::format("F{}", value.as_float()); return;
    case ir::ValueKind::String: out += fmt::format("S{}:", value.as_string().size()) + value.as_string(); return;
    case ir::ValueKind::Int: out += fmt::format("I{}", value.as_int()); return;
    case ir::ValueKind::Duration: out += fmt::format("D{}", value.as_int()); return;
    case ir::ValueKind::Bytes: out += fmt::format("B{}", value.as_int()); return;
    case ir::ValueKind::Enum: out += fmt::format("E{}", value.as_int()); return;
    case ir::ValueKind::List:
      out += "[";
      for (const ir::Value& v : value.as_list()) AppendKey(v, out);
      out += "]";
      return;
    default: out += fmt::format("H{}", value.Hash()); return;
  }
}

}  // namespace

bool Facts::Has(std::string_view key) const { return std::find(known.begin(), known.end(), key) != known.end(); }

void Facts::Add(const Facts& more) {
  for (const std::string& key : more.known) {
    if (!Has(key)) known.push_back(key);
  }
}

bool ExpressionChecker::Known(const std::string& key) const {
  return std::find(facts_.begin(), facts_.end(), key) != facts_.end() || scope_.facts.Has(key);
}

bool ExpressionChecker::StableKey(ir::ExprId id, std::string& out) const {
  const ir::Expr e = exprs_[id];
  switch (e.op) {
    case Op::Narrow: return StableKey(exprs_.arg(e, 0), out);
    case Op::Param: out += fmt::format("p{}", e.a); return true;
    case Op::Local: out += fmt::format("s{}", e.a); return true;
    case Op::Var: out += fmt::format("v{}", e.a); return true;
    case Op::Input: out += fmt::format("i{}", e.a); return true;
    case Op::Let: {
      // The parameter of a module is a `let` of its argument, and a parameter is always stable.
      bool param = std::any_of(c_.params.begin(), c_.params.end(), [&](const ParamInfo& p) {
        return p.bound.valid() && exprs_[p.bound].op == Op::Let && exprs_[p.bound].a == e.a;
      });
      ir::ExprId value = c_.program.lets[e.a].value;
      if (!param && (!value.valid() || Calls(c_.program, value))) return false;
      out += fmt::format("l{}", e.a);
      return true;
    }
    case Op::Field:
    case Op::OptField:
      if (!StableKey(exprs_.arg(e, 0), out)) return false;
      out += fmt::format(".{}", e.a);
      return true;
    case Op::JsonField:
      if (!StableKey(exprs_.arg(e, 0), out)) return false;
      out += ".";
      AppendKey(exprs_.constant(e.a), out);
      return true;
    case Op::JobOutput: {
      llvm::SmallVector<ir::ExprId, 4> indices;
      for (uint32_t i = 0; i < e.args.size; ++i) indices.push_back(exprs_.arg(e, i));
      if (!InstanceKeyOf(e.a, indices, out)) return false;
      out += fmt::format(".o{}", e.b);
      return true;
    }
    case Op::JobStatus: {
      llvm::SmallVector<ir::ExprId, 4> indices;
      for (uint32_t i = 0; i < e.args.size; ++i) indices.push_back(exprs_.arg(e, i));
      if (!InstanceKeyOf(e.a, indices, out)) return false;
      out += fmt::format(".s{}", e.b);
      return true;
    }
    case Op::InstanceOutput:
    case Op::InstanceStatus:
      if (!StableKey(exprs_.arg(e, 0), out)) return false;
      out += fmt::format(".{}{}", e.op == Op::InstanceOutput ? 'o' : 's', e.b);
      return true;
    default: return false;
  }
}

bool ExpressionChecker::NormalKey(ir::ExprId id, std::string& out) const {
  const ir::Expr e = exprs_[id];
  if (e.op == Op::Narrow || e.op == Op::Checked) return NormalKey(exprs_.arg(e, 0), out);
  if (e.op == Op::Error) return false;
  if (e.op == Op::Const) {
    AppendKey(exprs_.ConstValue(id), out);
    return true;
  }
  out += fmt::format("({}", static_cast<int>(e.op));
  switch (e.op) {
    // Immediates that are numbers of constants are compared by value.
    case Op::JsonField: AppendKey(exprs_.constant(e.a), out); break;
    case Op::FileLiteral:
      out += fmt::format(",{},", e.a);
      AppendKey(exprs_.constant(e.b), out);
      break;
    default: out += fmt::format(",{},{}", e.a, e.b); break;
  }
  for (uint32_t i = 0; i < e.args.size; ++i) {
    out += " ";
    if (!NormalKey(exprs_.arg(e, i), out)) return false;
  }
  out += ")";
  return true;
}

bool ExpressionChecker::InstanceKeyOf(uint32_t job, llvm::ArrayRef<ir::ExprId> indices, std::string& out) const {
  out += fmt::format("j{}[", job);
  for (ir::ExprId index : indices) {
    if (!NormalKey(index, out)) return false;
    out += ",";
  }
  out += "]";
  return true;
}

Val ExpressionChecker::Narrow(Val value) const {
  if (value.error || !AnyFacts() || !types_.IsOptional(value.type)) return value;
  std::string key;
  if (!StableKey(value.expr, key) || !Known(key)) return value;
  value.type = types_.NonNull(value.type);
  value.expr = exprs_.Add(Op::Narrow, value.type, {value.expr}, exprs_.place(value.expr));
  return value;
}

Val ExpressionChecker::NarrowOutput(Val value, const std::string& ok_key) const {
  if (!Known(ok_key)) return value;
  value.type = types_.NonNull(value.type);
  value.expr = exprs_.Add(Op::Narrow, value.type, {value.expr}, exprs_.place(value.expr));
  return value;
}

void ExpressionChecker::CollectFacts(ir::ExprId condition, bool truth, std::vector<std::string>& out) const {
  const ir::Expr e = exprs_[condition];
  auto arg = [&](uint32_t i) { return exprs_.arg(e, i); };
  switch (e.op) {
    case Op::And:
    case Op::Or:
      if (truth != (e.op == Op::And)) return;
      CollectFacts(arg(0), truth, out);
      CollectFacts(arg(1), truth, out);
      return;
    case Op::Not: CollectFacts(arg(0), !truth, out); return;
    case Op::Eq:
    case Op::Ne: {
      if (truth != (e.op == Op::Ne)) return;
      auto is_null = [&](ir::ExprId id) { return exprs_.IsConst(id) && exprs_.ConstValue(id).is_null(); };
      ir::ExprId path = is_null(arg(1)) ? arg(0) : is_null(arg(0)) ? arg(1) : ir::ExprId{};
      // `p?.f != null` says it of `p` too.
      while (path.valid()) {
        std::string key;
        if (!StableKey(path, key)) return;
        out.push_back(std::move(key));
        while (exprs_[path].op == Op::Narrow) path = exprs_.arg(path, 0);
        Op op = exprs_[path].op;
        path = op == Op::OptField || op == Op::JsonField ? exprs_.arg(path, 0) : ir::ExprId{};
      }
      return;
    }
    case Op::JobStatus: {
      if (!truth || e.b != static_cast<uint32_t>(ir::StatusField::Ok)) return;
      llvm::SmallVector<ir::ExprId, 4> indices;
      for (uint32_t i = 0; i < e.args.size; ++i) indices.push_back(arg(i));
      std::string key = "ok:";
      if (InstanceKeyOf(e.a, indices, key)) out.push_back(std::move(key));
      return;
    }
    case Op::InstanceStatus: {
      if (!truth || e.b != static_cast<uint32_t>(ir::StatusField::Ok)) return;
      std::string key = "ok:";
      if (StableKey(arg(0), key)) out.push_back(std::move(key));
      return;
    }
    default: return;
  }
}

bool SameExpr(const ir::Program& program, ir::ExprId x, ir::ExprId y) {
  if (x == y) return true;
  if (!x.valid() || !y.valid()) return false;
  const ir::ExprPool& exprs = program.exprs;
  auto bare = [&](ir::ExprId id) {
    while (exprs[id].op == ir::Op::Narrow || exprs[id].op == ir::Op::Checked) id = exprs.arg(id, 0);
    return id;
  };
  x = bare(x);
  y = bare(y);
  const ir::Expr &a = exprs[x], &b = exprs[y];
  if (a.op != b.op || a.op == ir::Op::Error || a.args.size != b.args.size) return false;
  switch (a.op) {
    case ir::Op::Const: {
      const ir::Value &v = exprs.ConstValue(x), &w = exprs.ConstValue(y);
      return v.kind() == w.kind() && v == w;
    }
    case ir::Op::JsonField:
      if (!(exprs.constant(a.a) == exprs.constant(b.a))) return false;
      break;
    case ir::Op::FileLiteral:
      if (a.a != b.a || !(exprs.constant(a.b) == exprs.constant(b.b))) return false;
      break;
    default:
      if (a.a != b.a || a.b != b.b) return false;
  }
  for (uint32_t i = 0; i < a.args.size; ++i) {
    if (!SameExpr(program, exprs.arg(a, i), exprs.arg(b, i))) return false;
  }
  return true;
}

}  // namespace jobc::check
