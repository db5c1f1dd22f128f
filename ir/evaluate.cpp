#include "ir/evaluate.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/arithmetic.h"
#include "ir/builtins.h"
#include "ir/dump.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/machine.h"
#include "ir/op_shape.h"
#include "support/check.h"

namespace jobc::ir {

namespace {

bool Unknown(Fault& fault, std::string_view what) {
  fault.kind = FaultKind::Unavailable;
  fault.message = fmt::format("{} is not known here", what);
  return false;
}

}  // namespace

bool EvalContext::Var(uint32_t, Value&, Fault& fault) { return Unknown(fault, "a loop variable"); }
bool EvalContext::Input(uint32_t, Value&, Fault& fault) { return Unknown(fault, "`input`"); }
bool EvalContext::Resource(ResourceKind kind, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("`resources.{}`", ResourceName(kind)));
}
bool EvalContext::OutputPath(uint32_t, Value&, Fault& fault) { return Unknown(fault, "`output`"); }
bool EvalContext::OutputValue(uint32_t, Value&, Fault& fault) { return Unknown(fault, "`output`"); }
bool EvalContext::JobOutput(uint32_t, uint32_t, const ListValue&, Value&, Fault& fault) {
  return Unknown(fault, "a job's output");
}
bool EvalContext::JobStatus(uint32_t, StatusField field, const ListValue&, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("a job's `.{}`", StatusFieldName(field)));
}
bool EvalContext::ScatterStatus(uint32_t, StatusField field, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("a job's `.{}`", StatusFieldName(field)));
}
bool EvalContext::Instances(uint32_t, const ListValue&, Value&, Fault& fault) {
  return Unknown(fault, "the list of a job's instances");
}
bool EvalContext::InstanceOutput(const Value&, uint32_t, Value&, Fault& fault) { return Unknown(fault, "a job's output"); }
bool EvalContext::InstanceStatus(const Value&, StatusField field, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("a job's `.{}`", StatusFieldName(field)));
}
bool EvalContext::InstanceKey(const Value&, Value&, Fault& fault) { return Unknown(fault, "`.key`"); }
bool EvalContext::RunField(RunFieldKind kind, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("`run.{}`", RunFieldName(kind)));
}
bool EvalContext::Attempt(Value&, Fault& fault) { return Unknown(fault, "`attempt`"); }
bool EvalContext::Prev(PrevKind kind, Value&, Fault& fault) { return Unknown(fault, fmt::format("`prev.{}`", PrevName(kind))); }
bool EvalContext::Secret(uint32_t, Value&, Fault& fault) { return Unknown(fault, "a secret"); }
bool EvalContext::Stdout(Value&, Fault& fault) { return Unknown(fault, "`stdout()`"); }
bool EvalContext::Stderr(Value&, Fault& fault) { return Unknown(fault, "`stderr()`"); }
bool EvalContext::ExitCode(Value&, Fault& fault) { return Unknown(fault, "`exit_code()`"); }
bool EvalContext::ReadText(const std::string& path, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("`read_text({})`", JsonQuote(path)));
}
bool EvalContext::ReadJson(const std::string& path, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("`read_json({})`", JsonQuote(path)));
}
bool EvalContext::FileSize(const FileValue& file, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("the size of `{}`", file.path));
}
bool EvalContext::FileSha256(const FileValue& file, Value&, Fault& fault) {
  return Unknown(fault, fmt::format("the content of `{}`", file.path));
}
bool EvalContext::FileText(const FileValue& file, std::string&, Fault& fault) {
  return Unknown(fault, fmt::format("the path under which a job sees `{}`", file.path));
}

// ---------------------------------------------------------------------------------------------------------------------

bool Machine::Fail(ExprId at, FaultKind kind, std::string message) {
  evaluator_.fault_ = Fault{kind, std::move(message), at};
  return false;
}

bool Machine::Malformed(ExprId at) {
  return Fail(at, FaultKind::BadArgument,
              at.valid() && at.index < exprs_.size()
                  ? fmt::format("`{}` was given a value that does not fit its type", OpName(exprs_[at].op))
                  : std::string("a value does not fit its type"));
}

bool Machine::FromContext(ExprId at, bool ok, Fault& fault) {
  if (ok) return true;
  if (!fault.at.valid()) fault.at = at;
  evaluator_.fault_ = std::move(fault);
  return false;
}

bool Machine::Charge(ExprId at, uint64_t steps) {
  if (steps <= static_cast<uint64_t>(std::max<int64_t>(state_.steps_left, 0))) {
    state_.steps_left -= static_cast<int64_t>(steps);
    return true;
  }
  state_.steps_left = 0;
  return Fail(at, FaultKind::TooLarge, "this takes too much work or memory to evaluate; make the lists or texts smaller");
}

std::string Machine::Show(const Value& value, TypeId type) const { return ShowValue(program_, value, type); }

bool Machine::SetLocal(ExprId at, uint32_t slot, Value value) {
  if (slot >= kMaxSlots) return Malformed(at);
  size_t index = state_.base + slot;
  if (index >= state_.stack.size()) state_.stack.resize(index + 1);
  state_.stack[index] = std::move(value);
  return true;
}

const re2::RE2* Machine::Regex(const std::string& pattern, ExprId at) {
  std::string why;
  const re2::RE2* regex = state_.regexes.Get(pattern, why);
  if (!regex) Fail(at, FaultKind::BadArgument, fmt::format("the regular expression {} is not valid: {}", JsonQuote(pattern), why));
  return regex;
}

const Value* Machine::Peek(ExprId id, Value& temporary) {
  if (id.index < exprs_.size()) {
    const Expr& e = exprs_[id];
    if (e.op == Op::Const) return &exprs_.constant(e.a);
    if (e.op == Op::Param && e.a < program_.params.size() && program_.params[e.a].value) return &*program_.params[e.a].value;
    if (e.op == Op::Let && e.a < state_.let_known.size() && state_.let_known[e.a]) return &state_.let_values[e.a];
  }
  return Eval(id, temporary) ? &temporary : nullptr;
}

bool Machine::EvalBool(ExprId id, bool& out) {
  Value value;
  if (!Eval(id, value)) return false;
  if (value.is_null()) return Fail(id, FaultKind::Null, "a condition is null where true or false is needed");
  if (value.kind() != ValueKind::Bool) return Malformed(id);
  out = value.as_bool();
  return true;
}

bool Machine::Eval(ExprId id, Value& out) {
  if (id.index >= exprs_.size()) return Malformed(id);
  if (--state_.steps_left < 0) return Charge(id, 1);
  const Expr& e = exprs_[id];
  switch (e.op) {
    case Op::Const:
      out = exprs_.constant(e.a);
      return true;
    case Op::Local: {
      size_t index = state_.base + e.a;
      if (index >= state_.stack.size()) return Malformed(id);
      out = state_.stack[index];
      return true;
    }
    default:
      break;
  }
  if (state_.depth >= kMaxEvalDepth) {
    return Fail(id, FaultKind::TooLarge, fmt::format("expressions, lets and calls are nested deeper than {} here", kMaxEvalDepth));
  }
  ++state_.depth;
  bool ok = EvalInner(e, id, out);
  --state_.depth;
  return ok;
}

bool Machine::EvalInner(const Expr& e, ExprId id, Value& out) {
  switch (e.op) {
    case Op::Const: case Op::Local:
      JOBC_UNREACHABLE();
    case Op::Error:
      return Fail(id, FaultKind::Unavailable, "this expression has an error");
    case Op::Param: {
      if (e.a >= program_.params.size()) return Malformed(id);
      const Param& param = program_.params[e.a];
      if (!param.value) return Fail(id, FaultKind::Unavailable, fmt::format("`params.{}` has no value yet", param.name));
      out = *param.value;
      return true;
    }
    case Op::Let:
      return EvalLet(e, id, out);
    case Op::Field: case Op::OptField: case Op::JsonField:
      return EvalField(e, id, out);
    case Op::Index:
      return EvalIndex(e, id, out);
    case Op::Not: {
      bool value = false;
      if (!EvalBool(exprs_.arg(e, 0), value)) return false;
      out = Value::Bool(!value);
      return true;
    }
    case Op::Negate: case Op::Add: case Op::Sub: case Op::Mul: case Op::Div: case Op::Mod:
      return EvalArithmetic(e, id, out);
    case Op::Eq: case Op::Ne:
      return EvalEquality(e, id, out);
    case Op::Lt: case Op::Le: case Op::Gt: case Op::Ge:
      return EvalComparison(e, id, out);
    case Op::In:
      return EvalIn(e, id, out);
    case Op::And: case Op::Or: {
      bool value = false;
      if (!EvalBool(exprs_.arg(e, 0), value)) return false;
      if (value == (e.op == Op::And) && !EvalBool(exprs_.arg(e, 1), value)) return false;
      out = Value::Bool(value);
      return true;
    }
    case Op::Coalesce:
      for (uint32_t i = 0; i < e.args.size; ++i) {
        if (!Eval(exprs_.arg(e, i), out)) return false;
        if (!out.is_null()) return true;
      }
      return true;
    case Op::If: {
      bool value = false;
      if (!EvalBool(exprs_.arg(e, 0), value)) return false;
      return Eval(exprs_.arg(e, value ? 1 : 2), out);
    }
    case Op::Match:
      return EvalMatch(e, id, out);
    case Op::List: case Op::TemplateArgs: case Op::Struct: case Op::Range:
      return EvalList(e, id, out);
    case Op::Splice:
      return Malformed(id);  // only inside lists, calls and argv, which look for it
    case Op::Map:
      return EvalMap(e, id, out);
    case Op::ListFor: case Op::MapFor:
      return EvalFor(e, id, out);
    case Op::Concat:
      return EvalConcat(e, id, out);
    case Op::ToFloat:
      if (!Eval(exprs_.arg(e, 0), out)) return false;
      if (out.kind() == ValueKind::Int) out = Value::Float(static_cast<double>(out.as_int()));
      return out.is_null() || out.kind() == ValueKind::Float || Malformed(id);
    case Op::ToJson:
      return EvalToJson(e, id, out);
    case Op::FileLiteral:
      return EvalFile(e, id, out);
    case Op::Checked:
      return EvalChecked(e, id, out);
    case Op::Narrow:
      if (!Eval(exprs_.arg(e, 0), out)) return false;
      return !out.is_null() || Fail(id, FaultKind::Null, fmt::format("`{}` is null here", DumpExpr(program_, exprs_.arg(e, 0))));
    case Op::Call:
      return EvalCall(e, id, out);
    case Op::Apply:
      return EvalApply(e, id, out);
    case Op::ReadText: case Op::ReadJson:
      return EvalRead(e, id, out);
    default:
      return EvalJob(e, id, out);
  }
}

/// All that the context answers directly.
bool Machine::EvalJob(const Expr& e, ExprId id, Value& out) {
  ++state_.impure;
  Fault fault;
  fault.kind = FaultKind::Unavailable;
  auto answer = [&](bool ok) { return FromContext(id, ok, fault); };
  switch (e.op) {
    case Op::Secret: return answer(context_.Secret(e.a, out, fault));
    case Op::Var: return answer(context_.Var(e.a, out, fault));
    case Op::Input: return answer(context_.Input(e.a, out, fault));
    case Op::Resource: return answer(context_.Resource(static_cast<ResourceKind>(e.a), out, fault));
    case Op::OutputPath: return answer(context_.OutputPath(e.a, out, fault));
    case Op::OutputValue: return answer(context_.OutputValue(e.a, out, fault));
    case Op::ScatterStatus: return answer(context_.ScatterStatus(e.a, static_cast<StatusField>(e.b), out, fault));
    case Op::RunField: return answer(context_.RunField(static_cast<RunFieldKind>(e.a), out, fault));
    case Op::Attempt: return answer(context_.Attempt(out, fault));
    case Op::Prev: return answer(context_.Prev(static_cast<PrevKind>(e.a), out, fault));
    case Op::Stdout: return answer(context_.Stdout(out, fault));
    case Op::Stderr: return answer(context_.Stderr(out, fault));
    case Op::ExitCode: return answer(context_.ExitCode(out, fault));
    case Op::JobOutput: case Op::JobStatus: case Op::Instances: case Op::GatherOutput: case Op::GatherStatus: {
      ListValue indices;
      if (!EvalIndices(e, indices)) return false;
      if (e.op == Op::JobOutput) return answer(context_.JobOutput(e.a, e.b, indices, out, fault));
      if (e.op == Op::JobStatus) return answer(context_.JobStatus(e.a, static_cast<StatusField>(e.b), indices, out, fault));
      Value instances;
      if (!answer(context_.Instances(e.a, indices, instances, fault))) return false;
      if (instances.kind() != ValueKind::List) return Malformed(id);
      if (!Charge(id, instances.as_list().size() * kElementCost)) return false;
      if (e.op == Op::Instances) {
        out = std::move(instances);
        return true;
      }
      ListValue gathered;
      gathered.reserve(instances.as_list().size());
      for (const Value& instance : instances.as_list()) {
        Value value;
        bool ok = e.op == Op::GatherOutput
                      ? context_.InstanceOutput(instance, e.b, value, fault)
                      : context_.InstanceStatus(instance, static_cast<StatusField>(e.b), value, fault);
        if (!answer(ok)) return false;
        gathered.push_back(std::move(value));
      }
      out = Value::List(std::move(gathered));
      return true;
    }
    case Op::InstanceOutput: case Op::InstanceStatus: case Op::InstanceKey: {
      Value instance;
      if (!Eval(exprs_.arg(e, 0), instance)) return false;
      if (instance.kind() != ValueKind::Instance) return Malformed(id);
      if (e.op == Op::InstanceOutput) return answer(context_.InstanceOutput(instance, e.b, out, fault));
      if (e.op == Op::InstanceKey) return answer(context_.InstanceKey(instance, out, fault));
      return answer(context_.InstanceStatus(instance, static_cast<StatusField>(e.b), out, fault));
    }
    default:
      return Malformed(id);
  }
}

bool Machine::EvalIndices(const Expr& e, ListValue& out) {
  out.reserve(e.args.size);
  for (uint32_t i = 0; i < e.args.size; ++i) {
    Value value;
    if (!Eval(exprs_.arg(e, i), value)) return false;
    out.push_back(std::move(value));
  }
  return true;
}

bool Machine::EvalLet(const Expr& e, ExprId id, Value& out) {
  if (e.a >= program_.lets.size()) return Malformed(id);
  const Let& let = program_.lets[e.a];
  if (e.a < state_.let_known.size() && state_.let_known[e.a]) {
    out = state_.let_values[e.a];
    return true;
  }
  // A let sees none of the locals around its use.
  size_t base = state_.base, size = state_.stack.size();
  uint64_t impure = state_.impure;
  state_.base = size;
  bool ok = Eval(let.value, out);
  state_.base = base;
  state_.stack.resize(size);
  if (ok && let.memo && impure == state_.impure) {
    if (state_.let_known.size() <= e.a) {
      state_.let_known.resize(program_.lets.size());
      state_.let_values.resize(program_.lets.size());
    }
    state_.let_known[e.a] = 1;
    state_.let_values[e.a] = out;
  }
  return ok;
}

bool Machine::EvalApply(const Expr& e, ExprId id, Value& out) {
  if (e.a >= program_.fns.size()) return Malformed(id);
  const Fn& fn = program_.fns[e.a];
  if (fn.params != e.args.size || fn.locals > kMaxSlots) return Malformed(id);
  llvm::SmallVector<Value, 4> args(e.args.size);
  for (uint32_t i = 0; i < e.args.size; ++i) {
    if (!Eval(exprs_.arg(e, i), args[i])) return false;
  }
  size_t base = state_.base, size = state_.stack.size();
  state_.stack.resize(size + std::max(fn.locals, fn.params));
  for (uint32_t i = 0; i < args.size(); ++i) state_.stack[size + i] = std::move(args[i]);
  state_.base = size;
  bool ok = Eval(fn.body, out);
  state_.base = base;
  state_.stack.resize(size);
  return ok;
}

bool Machine::Fits(const Value& value, TypeId type) const {
  if (type.index >= types_.size()) return false;
  TypeKind kind = types_.kind(type);
  if (kind == TypeKind::Error) return true;
  if (value.is_null()) return kind == TypeKind::Optional || kind == TypeKind::Null || kind == TypeKind::Json;
  switch (types_.kind(types_.NonNull(type))) {
    case TypeKind::Bool: return value.kind() == ValueKind::Bool;
    case TypeKind::Int: return value.kind() == ValueKind::Int;
    case TypeKind::Float: return value.kind() == ValueKind::Float || value.kind() == ValueKind::Int;
    // Text with a secret in it is a secret.
    case TypeKind::String: case TypeKind::Regex: case TypeKind::Secret:
      return value.kind() == ValueKind::String || value.kind() == ValueKind::Secret;
    case TypeKind::Duration: return value.kind() == ValueKind::Duration;
    case TypeKind::Bytes: return value.kind() == ValueKind::Bytes;
    case TypeKind::File: case TypeKind::Dir: return value.kind() == ValueKind::File;
    case TypeKind::Enum: return value.kind() == ValueKind::Enum;
    case TypeKind::List: case TypeKind::Pair: case TypeKind::Struct: case TypeKind::Args: case TypeKind::Range:
      return value.kind() == ValueKind::List;
    case TypeKind::Map: return value.kind() == ValueKind::Map;
    case TypeKind::Instance: return value.kind() == ValueKind::Instance;
    case TypeKind::Json: case TypeKind::Error: case TypeKind::Null: case TypeKind::Optional: return true;
  }
  return true;
}

bool Machine::WithFrame(ExprId id, ListValue locals, Value& out) {
  size_t base = state_.base, size = state_.stack.size();
  if (locals.size() > kMaxSlots) return Malformed(id);
  state_.stack.insert(state_.stack.end(), std::make_move_iterator(locals.begin()), std::make_move_iterator(locals.end()));
  state_.base = size;
  if (state_.active++ == 0) state_.steps_left = state_.budget;
  bool ok = Eval(id, out) && (state_.active > 1 || Fits(out, exprs_[id].type) || Malformed(id));
  --state_.active;
  state_.base = base;
  state_.stack.resize(size);
  return ok;
}

bool Machine::EvalArithmetic(const Expr& e, ExprId id, Value& out) {
  Value first, second;
  if (!Eval(exprs_.arg(e, 0), first)) return false;
  if (e.op != Op::Negate && !Eval(exprs_.arg(e, 1), second)) return false;
  if (first.is_null() || (e.op != Op::Negate && second.is_null())) {
    return Fail(id, FaultKind::Null, fmt::format("`{}` of null", OpName(e.op)));
  }
  ArithmeticError error = e.op == Op::Negate ? Negated(first, out) : Calculate(e.op, first, second, out);
  if (error == ArithmeticError::None) return true;
  if (error == ArithmeticError::Operands) return Malformed(id);
  std::string text;
  if (e.op == Op::Negate) {
    text = "-" + Show(first, exprs_[exprs_.arg(e, 0)].type);
  } else {
    std::string_view sign = e.op == Op::Add ? "+" : e.op == Op::Sub ? "-" : e.op == Op::Mul ? "*" : e.op == Op::Div ? "/" : "%";
    text = fmt::format("{} {} {}", Show(first, exprs_[exprs_.arg(e, 0)].type), sign, Show(second, exprs_[exprs_.arg(e, 1)].type));
  }
  if (error == ArithmeticError::DivisionByZero) return Fail(id, FaultKind::DivisionByZero, fmt::format("`{}` divides by zero", text));
  return Fail(id, FaultKind::Overflow,
              first.kind() == ValueKind::Float || second.kind() == ValueKind::Float
                  ? fmt::format("`{}` is not a finite number that fits", text)
                  : fmt::format("`{}` overflows 64 bits", text));
}

bool Machine::EvalEquality(const Expr& e, ExprId id, Value& out) {
  Value tx, ty;
  const Value* x = Peek(exprs_.arg(e, 0), tx);
  if (!x) return false;
  if (x != &tx) {
    tx = *x;  // evaluating the right side may move what the left points to
    x = &tx;
  }
  const Value* y = Peek(exprs_.arg(e, 1), ty);
  if (!y) return false;
  if (x->kind() == ValueKind::Secret || y->kind() == ValueKind::Secret) {
    return Fail(id, FaultKind::BadArgument, "a secret cannot be compared");
  }
  bool equal = Value::Compare(*x, *y) == 0;
  if (!equal && x->kind() == ValueKind::File && y->kind() == ValueKind::File) {
    // The same content under two names is one file. URIs are equal only as written.
    const FileValue& f = x->as_file();
    const FileValue& g = y->as_file();
    if (f.base != FileBase::Uri && g.base != FileBase::Uri && f.is_dir == g.is_dir) {
      Fault fault;
      Value hx, hy;
      const auto digest = [&](const FileValue& file, Value& hash) {
        if (file.base == FileBase::Text) {
          hash = Value::String(file.sha256);
          return true;
        }
        return FromContext(id, context_.FileSha256(file, hash, fault), fault);
      };
      if (!digest(f, hx) || !digest(g, hy)) return false;
      equal = Value::Compare(hx, hy) == 0;
    }
  }
  out = Value::Bool(equal == (e.op == Op::Eq));
  return true;
}

bool Machine::EvalComparison(const Expr& e, ExprId id, Value& out) {
  Value x, y;
  if (!Eval(exprs_.arg(e, 0), x) || !Eval(exprs_.arg(e, 1), y)) return false;
  if (x.is_null() || y.is_null()) return Fail(id, FaultKind::Null, "null has no order: compare with `??` and a value for it");
  bool numbers = (x.kind() == ValueKind::Int || x.kind() == ValueKind::Float) &&
                 (y.kind() == ValueKind::Int || y.kind() == ValueKind::Float);
  if ((x.kind() != y.kind() && !numbers) || x.kind() == ValueKind::Secret) return Malformed(id);
  int order = Value::Compare(x, y);
  bool result = e.op == Op::Lt ? order < 0 : e.op == Op::Le ? order <= 0 : e.op == Op::Gt ? order > 0 : order >= 0;
  out = Value::Bool(result);
  return true;
}

bool Machine::EvalIn(const Expr& e, ExprId id, Value& out) {
  Value element, temporary;
  if (!Eval(exprs_.arg(e, 0), element)) return false;
  ExprId container_id = exprs_.arg(e, 1);
  const Value* container = Peek(container_id, temporary);
  if (!container) return false;
  bool found = false;
  if (container->kind() == ValueKind::List) {
    const ListValue& list = container->as_list();
    if (types_.kind(exprs_[container_id].type) == TypeKind::Range) {
      if (list.size() != 2) return Malformed(id);
      found = Value::Compare(element, list[0]) >= 0 && Value::Compare(element, list[1]) <= 0;
    } else {
      if (!Charge(id, list.size())) return false;
      found = std::find(list.begin(), list.end(), element) != list.end();
    }
  } else if (container->kind() == ValueKind::Map) {
    const MapValue& map = container->as_map();
    auto it = std::lower_bound(map.begin(), map.end(), element,
                               [](const auto& entry, const Value& key) { return Value::Compare(entry.first, key) < 0; });
    found = it != map.end() && it->first == element;
  } else if (container->is_null()) {
    return Fail(id, FaultKind::Null, "the right side of `in` is null");
  } else {
    return Malformed(id);
  }
  out = Value::Bool(found);
  return true;
}

bool Machine::EvalField(const Expr& e, ExprId id, Value& out) {
  ExprId of = exprs_.arg(e, 0);
  Value temporary;
  const Value* value = Peek(of, temporary);
  if (!value) return false;
  if (e.op == Op::JsonField) {
    const Value& key = exprs_.constant(e.a);
    if (key.kind() != ValueKind::String) return Malformed(id);
    const Value* found = value->Find(key.as_string());
    Value result = found ? *found : Value();
    out = std::move(result);
    return true;
  }
  if (value->is_null()) {
    if (e.op == Op::OptField) {
      out = Value();
      return true;
    }
    return Fail(id, FaultKind::Null, fmt::format("`{}` is null and has no fields", DumpExpr(program_, of)));
  }
  if (value->kind() != ValueKind::List || e.a >= value->as_list().size()) return Malformed(id);
  Value result = value->as_list()[e.a];
  out = std::move(result);
  return true;
}

bool Machine::EvalIndex(const Expr& e, ExprId id, Value& out) {
  ExprId of = exprs_.arg(e, 0);
  Value index, temporary;
  if (!Eval(exprs_.arg(e, 1), index)) return false;
  const Value* value = Peek(of, temporary);
  if (!value) return false;
  TypeId type = types_.NonNull(exprs_[of].type);
  Value result;
  if (types_.kind(type) == TypeKind::Json) {
    // Json answers null for what is not there.
    if (value->kind() == ValueKind::List && index.kind() == ValueKind::Int) {
      const ListValue& list = value->as_list();
      if (index.as_int() >= 0 && static_cast<uint64_t>(index.as_int()) < list.size()) result = list[static_cast<size_t>(index.as_int())];
    } else if (value->kind() == ValueKind::Map && index.kind() == ValueKind::String) {
      if (const Value* found = value->Find(index.as_string())) result = *found;
    }
    out = std::move(result);
    return true;
  }
  if (value->is_null()) return Fail(id, FaultKind::Null, fmt::format("`{}` is null and cannot be indexed", DumpExpr(program_, of)));
  if (value->kind() == ValueKind::List && index.kind() == ValueKind::Int) {
    const ListValue& list = value->as_list();
    int64_t i = index.as_int();
    if (i < 0 || static_cast<uint64_t>(i) >= list.size()) {
      return Fail(id, FaultKind::BadIndex,
                  list.empty() ? fmt::format("index {} of an empty list", i)
                               : fmt::format("index {} of a list with {} elements: 0 to {} exist", i, list.size(), list.size() - 1));
    }
    result = list[static_cast<size_t>(i)];
  } else if (value->kind() == ValueKind::Map) {
    const MapValue& map = value->as_map();
    auto it = std::lower_bound(map.begin(), map.end(), index,
                               [](const auto& entry, const Value& key) { return Value::Compare(entry.first, key) < 0; });
    if (it == map.end() || !(it->first == index)) {
      TypeId key_type = types_.kind(type) == TypeKind::Map ? types_[type].a : types_.Basic(TypeKind::String);
      std::string known;
      for (size_t i = 0; i < map.size() && i < 8; ++i) known += (i > 0 ? ", " : "") + Show(map[i].first, key_type);
      if (map.size() > 8) known += fmt::format(", and {} more", map.size() - 8);
      return Fail(id, FaultKind::BadIndex,
                  map.empty() ? fmt::format("no key {} in an empty map", Show(index, key_type))
                              : fmt::format("no key {} in the map, which has {}", Show(index, key_type), known));
    }
    result = it->second;
  } else {
    return Malformed(id);
  }
  out = std::move(result);
  return true;
}

bool Machine::EvalMatch(const Expr& e, ExprId id, Value& out) {
  Value subject;
  if (!Eval(exprs_.arg(e, 0), subject)) return false;
  uint32_t i = 1;
  for (; i + 1 < e.args.size; i += 2) {
    Value temporary;
    const Value* pattern = Peek(exprs_.arg(e, i), temporary);
    if (!pattern) return false;
    if (Value::Compare(subject, *pattern) == 0) return Eval(exprs_.arg(e, i + 1), out);
  }
  if (i < e.args.size) return Eval(exprs_.arg(e, i), out);
  return Fail(id, FaultKind::BadArgument,
              fmt::format("no arm of `match` is for {}: add it, or `_ => …`", Show(subject, exprs_[exprs_.arg(e, 0)].type)));
}

bool Machine::AppendElements(ExprId id, ListValue& out, bool texts) {
  if (id.index >= exprs_.size()) return Malformed(id);
  const Expr& e = exprs_[id];
  bool splice = e.op == Op::Splice;
  ExprId inner = splice ? exprs_.arg(e, 0) : id;
  TypeId type = exprs_[inner].type;
  Value value;
  if (!Eval(inner, value)) return false;
  auto add = [&](const Value& element, TypeId element_type) {
    if (!texts) {
      out.push_back(element);
      return true;
    }
    if (element.is_null()) {
      return Fail(inner, FaultKind::Null,
                  splice ? fmt::format("a list spliced into arguments has a null in it: use `...compact(xs)`")
                         : fmt::format("`{}` is null where an argument is needed: splice it, `...x`", DumpExpr(program_, inner)));
    }
    std::string text;
    if (!Text(inner, element, element_type, text)) return false;
    out.push_back(Value::String(std::move(text)));
    return true;
  };
  TypeId plain = types_.NonNull(type);
  TypeKind kind = types_.kind(plain);
  if (!splice) return Charge(id, kElementCost) && add(value, type);
  if (value.is_null()) return true;
  if (kind == TypeKind::Args || kind == TypeKind::List) {
    if (value.kind() != ValueKind::List) return Malformed(id);
    TypeId element = kind == TypeKind::Args ? types_.Basic(TypeKind::String) : types_[plain].a;
    const ListValue& list = value.as_list();
    if (!Charge(id, list.size() * kElementCost)) return false;
    // Not a plain reserve: that would make repeated splices quadratic.
    if (out.capacity() - out.size() < list.size()) out.reserve(std::max(out.size() + list.size(), 2 * out.capacity()));
    for (const Value& item : list) {
      if (!add(item, element)) return false;
    }
    return true;
  }
  return Charge(id, kElementCost) && add(value, plain);
}

bool Machine::EvalList(const Expr& e, ExprId id, Value& out) {
  ListValue list;
  list.reserve(e.args.size);
  if (e.op == Op::Struct || e.op == Op::Range) {
    for (uint32_t i = 0; i < e.args.size; ++i) {
      Value value;
      if (!Eval(exprs_.arg(e, i), value)) return false;
      list.push_back(std::move(value));
    }
    if (!Charge(id, list.size() * kElementCost)) return false;
    if (e.op == Op::Range && (list[0].kind() != ValueKind::Int || list[1].kind() != ValueKind::Int)) return Malformed(id);
  } else {
    bool texts = e.op == Op::TemplateArgs || types_.kind(e.type) == TypeKind::Args;
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (!AppendElements(exprs_.arg(e, i), list, texts)) return false;
    }
  }
  out = Value::List(std::move(list));
  return true;
}

bool Machine::Argv(ExprId id, std::vector<std::string>& out) {
  if (id.index >= exprs_.size()) return Malformed(id);
  ListValue words;
  const Expr& e = exprs_[id];
  if (e.op == Op::List || e.op == Op::TemplateArgs) {
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (!AppendElements(exprs_.arg(e, i), words, true)) return false;
    }
  } else {
    // Some other expression of a list type: its elements, as if spliced.
    Value value;
    if (!Eval(id, value)) return false;
    TypeId type = types_.NonNull(e.type);
    if (value.kind() != ValueKind::List) return Malformed(id);
    TypeId element = types_.kind(type) == TypeKind::List ? types_[type].a : types_.Basic(TypeKind::String);
    for (const Value& item : value.as_list()) {
      if (item.is_null()) return Fail(id, FaultKind::Null, "a list of arguments has a null in it: use `compact`");
      std::string text;
      if (!Text(id, item, element, text)) return false;
      words.push_back(Value::String(std::move(text)));
    }
  }
  out.reserve(words.size());
  for (const Value& word : words) out.push_back(word.as_string());
  return true;
}

bool Machine::EvalMap(const Expr& e, ExprId id, Value& out) {
  if (e.args.size % 2 != 0) return Malformed(id);
  if (!Charge(id, e.args.size * kElementCost)) return false;
  MapValue map;
  map.reserve(e.args.size / 2);
  for (uint32_t i = 0; i < e.args.size; i += 2) {
    Value key, value;
    if (!Eval(exprs_.arg(e, i), key) || !Eval(exprs_.arg(e, i + 1), value)) return false;
    map.emplace_back(std::move(key), std::move(value));
  }
  out = Value::MapFrom(std::move(map));
  return true;
}

bool Machine::EvalRangeCall(ExprId source, int64_t& low, int64_t& count, int64_t& step, bool& is_range) {
  is_range = false;
  if (source.index >= exprs_.size()) return Malformed(source);
  const Expr& e = exprs_[source];
  if (e.op == Op::Call && static_cast<Builtin>(e.a) == Builtin::range) {
    Arguments args;
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (exprs_[exprs_.arg(e, i)].op == Op::Splice) return true;
      args.values.emplace_back();
      if (!Eval(exprs_.arg(e, i), args.values.back())) return false;
    }
    is_range = true;
    return RangeBounds(args, source, low, count, step);
  }
  if (types_.kind(e.type) == TypeKind::Range) {
    Value value;
    if (!Eval(source, value)) return false;
    if (value.kind() != ValueKind::List || value.as_list().size() != 2 || value.as_list()[0].kind() != ValueKind::Int ||
        value.as_list()[1].kind() != ValueKind::Int) {
      return Malformed(source);
    }
    is_range = true;
    low = value.as_list()[0].as_int();
    int64_t high = value.as_list()[1].as_int();
    step = 1;
    if (high < low) {
      count = 0;
    } else if (__builtin_sub_overflow(high, low, &count) || __builtin_add_overflow(count, 1, &count)) {
      return Fail(source, FaultKind::TooLarge, fmt::format("the range {}..{} has too many elements", low, high));
    }
  }
  return true;
}

template <typename Body>
bool Machine::ForEach(ExprId source, bool two_names, ExprId at, Body body) {
  int64_t low = 0, count = 0, step = 1;
  bool is_range = false;
  if (!EvalRangeCall(source, low, count, step, is_range)) return false;
  if (is_range) {
    for (int64_t i = 0; i < count; ++i) {
      Value element = Value::Int(low + i * step);
      if (!(two_names ? body(Value::Int(i), std::move(element)) : body(std::move(element), Value()))) return false;
    }
    return true;
  }
  Value value;
  if (!Eval(source, value)) return false;
  if (value.kind() == ValueKind::List) {
    const ListValue& list = value.as_list();
    const TypeNode& type = types_[types_.NonNull(exprs_[source].type)];
    if (two_names && type.kind == TypeKind::List && types_.kind(type.a) == TypeKind::Pair) {
      for (const Value& pair : list) {
        if (pair.kind() != ValueKind::List || pair.as_list().size() != 2) return Malformed(at);
        if (!body(pair.as_list()[0], pair.as_list()[1])) return false;
      }
      return true;
    }
    for (size_t i = 0; i < list.size(); ++i) {
      if (!(two_names ? body(Value::Int(static_cast<int64_t>(i)), list[i]) : body(list[i], Value()))) return false;
    }
    return true;
  }
  if (value.kind() == ValueKind::Map) {
    for (const auto& [key, item] : value.as_map()) {
      if (!body(key, item)) return false;
    }
    return true;
  }
  if (value.is_null()) return Fail(at, FaultKind::Null, "a comprehension runs over null: give a list for it with `?? []`");
  return Malformed(at);
}

bool Machine::EvalFor(const Expr& e, ExprId id, Value& out) {
  bool is_map = e.op == Op::MapFor;
  uint32_t fixed = is_map ? 3 : 2;
  bool two_names = e.b == 2;
  ExprId condition = e.args.size > fixed ? exprs_.arg(e, fixed) : ExprId{};
  ExprId first_body = exprs_.arg(e, 1);
  bool splices = exprs_[first_body].op == Op::Splice;
  ListValue list;
  MapValue map;
  bool ok = ForEach(exprs_.arg(e, 0), two_names, id, [&](Value first, Value second) {
    if (!SetLocal(id, e.a, std::move(first))) return false;
    if (two_names && !SetLocal(id, e.a + 1, std::move(second))) return false;
    if (condition.valid()) {
      bool keep = false;
      if (!EvalBool(condition, keep)) return false;
      if (!keep) return true;
    }
    if (is_map) {
      Value key, value;
      if (!Charge(id, 2 * kElementCost)) return false;
      if (!Eval(first_body, key) || !Eval(exprs_.arg(e, 2), value)) return false;
      map.emplace_back(std::move(key), std::move(value));
      return true;
    }
    if (splices) return AppendElements(first_body, list, false);
    if (!Charge(id, kElementCost)) return false;
    list.emplace_back();
    return Eval(first_body, list.back());
  });
  if (!ok) return false;
  out = is_map ? Value::MapFrom(std::move(map)) : Value::List(std::move(list));
  return true;
}

bool Machine::EvalConcat(const Expr& e, ExprId id, Value& out) {
  std::string text;
  bool secret = false;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    ExprId part = exprs_.arg(e, i);
    Value temporary;
    const Value* value = Peek(part, temporary);
    if (!value) return false;
    if (value->kind() == ValueKind::Secret) {
      secret = true;
      text += value->as_string();
    } else if (!Text(part, *value, exprs_[part].type, text)) {
      return false;
    }
    if (text.size() > kMaxTextBytes) return Fail(id, FaultKind::TooLarge, "a text of more than 1 GiB");
  }
  if (!Charge(id, text.size())) return false;
  out = secret ? Value::Secret(std::move(text)) : Value::String(std::move(text));
  return true;
}

bool Machine::Text(ExprId at, const Value& value, TypeId type, std::string& out) {
  TypeId plain = type.index < types_.size() ? types_.NonNull(type) : types_.Basic(TypeKind::Error);
  TypeKind kind = types_.kind(plain);
  if (kind == TypeKind::Json && value.kind() != ValueKind::Secret) {
    std::string text = JsonText(value);
    if (!Charge(at, text.size())) return false;
    out += text;
    return true;
  }
  switch (value.kind()) {
    case ValueKind::Null:
      return Fail(at, FaultKind::Null, "null has no text form: give a text for it with `??`");
    case ValueKind::Bool:
      out += value.as_bool() ? "true" : "false";
      return true;
    case ValueKind::Int: case ValueKind::Bytes:
      fmt::format_to(std::back_inserter(out), "{}", value.as_int());
      return true;
    case ValueKind::Float:
      out += FloatText(value.as_float());
      return true;
    case ValueKind::String: {
      const std::string& text = value.as_string();
      if (text.find('\0') != std::string::npos) return Fail(at, FaultKind::NotText, "a text holds a NUL byte, which no argument or variable can");
      out += text;
      return true;
    }
    case ValueKind::Duration:
      out += DurationText(value.as_int());
      return true;
    case ValueKind::File: {
      ++state_.impure;
      Fault fault;
      std::string text;
      if (!FromContext(at, context_.FileText(value.as_file(), text, fault), fault)) return false;
      if (text.find('\0') != std::string::npos) return Fail(at, FaultKind::NotText, "a path holds a NUL byte");
      out += text;
      return true;
    }
    case ValueKind::Enum:
      if (kind != TypeKind::Enum || static_cast<uint64_t>(value.as_int()) >= types_[EnumId{types_[plain].def}].cases.size()) {
        return Malformed(at);
      }
      out += types_[EnumId{types_[plain].def}].cases[static_cast<size_t>(value.as_int())];
      return true;
    case ValueKind::Secret:
      return Fail(at, FaultKind::NotText, "a secret has no text form outside `env` and secret files");
    case ValueKind::List: case ValueKind::Map: case ValueKind::Instance:
      return Fail(at, FaultKind::NotText,
                  fmt::format("a {} has no text form: use `join` for lists, `json` for everything else", types_.Show(plain)));
  }
  JOBC_UNREACHABLE();
}

bool Machine::EvalFile(const Expr& e, ExprId id, Value& out) {
  Value text;
  if (!Eval(exprs_.arg(e, 0), text)) return false;
  if (text.is_null()) {
    out = Value();
    return true;
  }
  const Value& directory = exprs_.constant(e.b);
  if (text.kind() != ValueKind::String || directory.kind() != ValueKind::String || e.a >= kFileBases || static_cast<FileBase>(e.a) == FileBase::Text) return Malformed(id);
  FileValue file;
  std::string why;
  bool is_dir = types_.kind(types_.NonNull(e.type)) == TypeKind::Dir;
  if (!MakeFile(text.as_string(), static_cast<FileBase>(e.a), directory.as_string(), is_dir, file, why)) {
    return Fail(id, FaultKind::BadArgument, why);
  }
  out = Value::File(std::move(file));
  return true;
}

bool Machine::EvalChecked(const Expr& e, ExprId id, Value& out) {
  if (!Eval(exprs_.arg(e, 0), out)) return false;
  const Value& place = exprs_.constant(e.a);
  if (place.kind() != ValueKind::String) return Malformed(id);
  std::string pointer;
  return Refinements(id, out, e.type, place.as_string(), pointer);
}

bool Machine::EvalToJson(const Expr& e, ExprId id, Value& out) {
  ExprId of = exprs_.arg(e, 0);
  Value value;
  if (!Eval(of, value)) return false;
  ++state_.impure;  // file paths inside differ between jobs
  Result<Value> json = ToJsonValue(value, exprs_[of].type, program_, context_);
  if (!json) return Fail(id, FaultKind::NotText, json.error().message);
  out = std::move(*json);
  return true;
}

bool Machine::EvalRead(const Expr& e, ExprId id, Value& out) {
  Value path;
  if (!Eval(exprs_.arg(e, 0), path)) return false;
  if (path.kind() != ValueKind::String) return Malformed(id);
  ++state_.impure;
  Fault fault;
  fault.kind = FaultKind::Unavailable;
  if (e.op == Op::ReadText) return FromContext(id, context_.ReadText(path.as_string(), out, fault), fault);
  Value json;
  if (!FromContext(id, context_.ReadJson(path.as_string(), json, fault), fault)) return false;
  TypeId type{e.b};
  if (type.index >= types_.size()) return Malformed(id);
  Result<Value> decoded = DecodeJson(json, type, evaluator_, context_, {.file_base = FileBase::Job});
  if (!decoded) {
    return Fail(id, FaultKind::BadArgument,
                fmt::format("{} is not a {}: {}", JsonQuote(path.as_string()), types_.Show(type), decoded.error().message));
  }
  out = std::move(*decoded);
  return true;
}

bool Machine::EvalCall(const Expr& e, ExprId id, Value& out) {
  if (e.a >= kBuiltinCount) return Malformed(id);
  Arguments args;
  for (uint32_t i = 0; i < e.args.size; ++i) {
    ExprId arg = exprs_.arg(e, i);
    const Expr& a = exprs_[arg];
    if (a.op == Op::Splice) {
      ListValue spliced;
      if (!AppendElements(arg, spliced, false)) return false;
      TypeId type = types_.NonNull(exprs_[exprs_.arg(a, 0)].type);
      TypeId element = types_.kind(type) == TypeKind::List ? types_[type].a : type;
      for (Value& value : spliced) {
        args.values.push_back(std::move(value));
        args.types.push_back(element);
      }
      continue;
    }
    args.types.push_back(a.type);
    args.values.emplace_back();
    if (!Eval(arg, args.values.back())) return false;
  }
  return Call(static_cast<Builtin>(e.a), args, e, id, out);
}

// ---------------------------------------------------------------------------------------------------------------------

namespace {

/// A range end as people write values of the refined kind.
bool InRange(const Refinement& r, const Value& value) {
  if (r.kind == RefinementKind::IntRange) {
    if (value.kind() != ValueKind::Int && value.kind() != ValueKind::Duration && value.kind() != ValueKind::Bytes) return true;
    int64_t v = value.as_int();
    return (!r.int_low || v >= *r.int_low) && (!r.int_high || v <= *r.int_high);
  }
  if (value.kind() != ValueKind::Float && value.kind() != ValueKind::Int) return true;
  double v = value.as_float();
  return (!r.float_low || v >= *r.float_low) && (!r.float_high || v <= *r.float_high);
}

void AppendPointer(std::string& pointer, std::string_view segment) {
  pointer += '/';
  for (char c : segment) {
    if (c == '~') pointer += "~0";
    else if (c == '/') pointer += "~1";
    else pointer += c;
  }
}

}  // namespace

bool Machine::HasRefinements(TypeId id) {
  if (id.index >= types_.size()) return false;
  const TypeNode& node = types_[id];
  if (node.bare != id) return true;
  if (node.kind != TypeKind::Struct && !node.a.valid()) return false;
  if (state_.refined.size() < types_.size()) state_.refined.resize(types_.size());
  int8_t& known = state_.refined[id.index];
  if (known != 0) return known > 0;
  known = -1;  // while it is being looked at
  bool found = false;
  bool complete = true;
  if (node.kind == TypeKind::Struct) {
    // A struct without fields may still be under declaration.
    const StructDef& def = types_[StructId{node.def}];
    complete = !def.fields.empty();
    for (size_t i = 0; i < def.fields.size() && !found; ++i) found = HasRefinements(def.fields[i].type);
  } else {
    found = HasRefinements(node.a) || HasRefinements(node.b);
  }
  state_.refined[id.index] = found ? 1 : complete ? -1 : 0;
  return found;
}

bool Machine::Refinements(ExprId at, const Value& value, TypeId type, std::string_view place, std::string& pointer) {
  if (value.is_null() || !HasRefinements(type)) return true;
  if (--state_.steps_left < 0) return Charge(at, 1);
  if (state_.depth >= kMaxEvalDepth) return Fail(at, FaultKind::TooLarge, "a value is nested too deeply");
  struct Depth {
    int& depth;
    explicit Depth(int& d) : depth(d) { ++depth; }
    ~Depth() { --depth; }
  } guard(state_.depth);
  const TypeNode node = types_[type];
  if (node.refinement.valid()) {
    if (!Refinements(at, value, node.base, place, pointer)) return false;
    const Refinement& r = types_[node.refinement];
    bool holds = true;
    switch (r.kind) {
      case RefinementKind::IntRange: case RefinementKind::FloatRange:
        holds = InRange(r, value);
        break;
      case RefinementKind::Pattern: {
        if (value.kind() != ValueKind::String) break;
        const re2::RE2* regex = Regex(r.pattern, at);
        if (!regex) return false;
        if (!Charge(at, value.as_string().size())) return false;
        holds = re2::RE2::FullMatch(value.as_string(), *regex);
        break;
      }
      case RefinementKind::Predicate: {
        Value result;
        if (!WithFrame(r.predicate, {value}, result)) return false;
        if (result.kind() != ValueKind::Bool) return Malformed(at);
        holds = result.as_bool();
        break;
      }
    }
    if (holds) return true;
    std::string shown = value.kind() == ValueKind::Secret ? std::string() : fmt::format(", but is {}", Show(value, node.bare));
    std::string where = place.empty() ? (pointer.empty() ? std::string() : pointer + ": ")
                        : pointer.empty() ? fmt::format("`{}` ", place)
                                          : fmt::format("`{}` at `{}` ", place, pointer);
    std::string_view verb = r.kind == RefinementKind::Pattern ? "must match " : r.kind == RefinementKind::Predicate ? "must satisfy " : "must be ";
    return Fail(at, FaultKind::Refinement, fmt::format("{}{}{}{}", where, verb, r.text, shown));
  }
  size_t length = pointer.size();
  auto part = [&](std::string_view segment, const Value& item, TypeId item_type) {
    AppendPointer(pointer, segment);
    if (!Refinements(at, item, item_type, place, pointer)) return false;
    pointer.resize(length);
    return true;
  };
  switch (node.kind) {
    case TypeKind::Optional:
      return Refinements(at, value, node.a, place, pointer);
    case TypeKind::List:
      if (value.kind() != ValueKind::List) return Malformed(at);
      for (size_t i = 0; i < value.as_list().size(); ++i) {
        if (!part(std::to_string(i), value.as_list()[i], node.a)) return false;
      }
      return true;
    case TypeKind::Map:
      if (value.kind() != ValueKind::Map) return Malformed(at);
      for (const auto& [key, item] : value.as_map()) {
        std::string text;
        if (!Text(at, key, node.a, text)) return false;
        AppendPointer(pointer, text);
        if (!Refinements(at, key, node.a, place, pointer) || !Refinements(at, item, node.b, place, pointer)) return false;
        pointer.resize(length);
      }
      return true;
    case TypeKind::Pair:
      if (value.kind() != ValueKind::List || value.as_list().size() != 2) return Malformed(at);
      return part("first", value.as_list()[0], node.a) && part("second", value.as_list()[1], node.b);
    case TypeKind::Struct: {
      const StructDef& def = types_[StructId{node.def}];
      if (value.kind() != ValueKind::List || value.as_list().size() != def.fields.size()) return Malformed(at);
      for (size_t i = 0; i < def.fields.size(); ++i) {
        if (!part(def.fields[i].name, value.as_list()[i], def.fields[i].type)) return false;
      }
      return true;
    }
    default:
      return true;
  }
}

// ---------------------------------------------------------------------------------------------------------------------

Evaluator::Evaluator(const Program& program, uint64_t budget) : program_(program), state_(std::make_unique<State>()) {
  state_->budget = static_cast<int64_t>(std::min<uint64_t>(budget, INT64_MAX));
}

Evaluator::~Evaluator() = default;

bool Evaluator::Evaluate(ExprId expr, EvalContext& context, Value& out) { return EvaluateWithLocals(expr, context, {}, out); }

bool Evaluator::EvaluateWithLocals(ExprId expr, EvalContext& context, ListValue locals, Value& out) {
  return Machine(*this, context).WithFrame(expr, std::move(locals), out);
}

namespace {

/// Gives the outermost call its budget; nested calls (from a context) share it.
struct Session {
  int& active;
  Session(int& a, int64_t& steps, int64_t budget) : active(a) {
    if (active++ == 0) steps = budget;
  }
  ~Session() { --active; }
};

}  // namespace

bool Evaluator::EvaluateArgv(ExprId expr, EvalContext& context, std::vector<std::string>& out) {
  Session session(state_->active, state_->steps_left, state_->budget);
  out.clear();
  return Machine(*this, context).Argv(expr, out);
}

bool Evaluator::EvaluateEnv(ExprId expr, EvalContext& context, EnvText& out) {
  out = EnvText{};
  Value value;
  if (!Evaluate(expr, context, value)) return false;
  if (value.is_null()) {
    out.unset = true;
    return true;
  }
  if (value.kind() == ValueKind::Secret) {
    out.secret = true;
    out.text = value.as_string();
    if (out.text.find('\0') == std::string::npos) return true;
    fault_ = Fault{FaultKind::NotText, "a secret holds a NUL byte", expr};
    return false;
  }
  Session session(state_->active, state_->steps_left, state_->budget);
  return Machine(*this, context).Text(expr, value, program_.exprs[expr].type, out.text);
}

bool Evaluator::CheckRefinements(const Value& value, TypeId type, std::string_view place, EvalContext& context) {
  Session session(state_->active, state_->steps_left, state_->budget);
  std::string pointer;
  return Machine(*this, context).Refinements(ExprId{}, value, type, place, pointer);
}

bool Evaluator::ToText(const Value& value, TypeId type, EvalContext& context, std::string& out) {
  Session session(state_->active, state_->steps_left, state_->budget);
  out.clear();
  return Machine(*this, context).Text(ExprId{}, value, type, out);
}

void Evaluator::Reset() {
  state_->let_known.clear();
  state_->let_values.clear();
  state_->refined.clear();
}

}  // namespace jobc::ir
