// Builds expressions for tests in few words and evaluates them to text: "7", or "Overflow: `…` overflows 64 bits".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/builtins.h"
#include "ir/dump.h"
#include "ir/evaluate.h"
#include "ir/program.h"

namespace jobc::ir::test {

inline std::string_view FaultName(FaultKind kind) {
  constexpr std::string_view kNames[] = {"Overflow",   "DivisionByZero", "BadIndex", "BadArgument", "Refinement",
                                         "Null",       "NotText",        "TooLarge", "Unavailable"};
  return kNames[static_cast<size_t>(kind)];
}

/// Answers what tests need: secrets, a few variables, files by their path.
class FakeContext : public EvalContext {
 public:
  std::vector<Value> vars;
  std::string out_text;
  std::vector<Value> instances;  ///< of every job
  int size_calls = 0;

  bool Var(uint32_t slot, Value& out, Fault& fault) override {
    if (slot >= vars.size()) return EvalContext::Var(slot, out, fault);
    out = vars[slot];
    return true;
  }
  bool Secret(uint32_t, Value& out, Fault&) override {
    out = Value::Secret("hunter2");
    return true;
  }
  bool Stdout(Value& out, Fault&) override {
    out = Value::String(out_text);
    return true;
  }
  bool FileText(const FileValue& file, std::string& out, Fault&) override {
    out = "/in/" + file.path;
    return true;
  }
  bool FileSize(const FileValue& file, Value& out, Fault&) override {
    ++size_calls;
    out = Value::Bytes(static_cast<int64_t>(file.path.size()));
    return true;
  }
  bool FileSha256(const FileValue& file, Value& out, Fault&) override {
    out = Value::String(file.path.substr(0, 1));  // files are equal if their names begin alike
    return true;
  }
  bool Instances(uint32_t job, const ListValue& indices, Value& out, Fault&) override {
    ListValue list;
    for (uint64_t i = 0; i < instances.size(); ++i) list.push_back(Value::Instance(job, i));
    out = Value::List(std::move(list));
    return true;
  }
  bool InstanceOutput(const Value& instance, uint32_t, Value& out, Fault&) override {
    out = instances[instance.instance_ordinal()];
    return true;
  }
};

class Bench {
 public:
  Program p;
  FakeContext context;

  TypeId Basic(TypeKind kind) { return p.types.Basic(kind); }
  TypeId Bool() { return Basic(TypeKind::Bool); }
  TypeId Int() { return Basic(TypeKind::Int); }
  TypeId Float() { return Basic(TypeKind::Float); }
  TypeId String() { return Basic(TypeKind::String); }
  TypeId Json() { return Basic(TypeKind::Json); }

  ExprId I(int64_t v) { return p.exprs.Constant(Int(), Value::Int(v)); }
  ExprId F(double v) { return p.exprs.Constant(Float(), Value::Float(v)); }
  ExprId B(bool v) { return p.exprs.Constant(Bool(), Value::Bool(v)); }
  ExprId S(std::string v) { return p.exprs.Constant(String(), Value::String(std::move(v))); }
  ExprId Re(std::string v) { return p.exprs.Constant(Basic(TypeKind::Regex), Value::String(std::move(v))); }
  ExprId D(int64_t ms) { return p.exprs.Constant(Basic(TypeKind::Duration), Value::Duration(ms)); }
  ExprId Y(int64_t bytes) { return p.exprs.Constant(Basic(TypeKind::Bytes), Value::Bytes(bytes)); }
  ExprId Null(TypeId of) { return p.exprs.Constant(p.types.Optional(of), Value()); }
  ExprId File(std::string path, FileBase base = FileBase::Source) {
    FileValue file;
    file.base = base;
    file.path = std::move(path);
    return p.exprs.Constant(Basic(TypeKind::File), Value::File(std::move(file)));
  }
  ExprId Ints(std::vector<int64_t> values) {
    ListValue list;
    for (int64_t v : values) list.push_back(Value::Int(v));
    return p.exprs.Constant(p.types.List(Int()), Value::List(std::move(list)));
  }
  ExprId Strings(std::vector<std::string> values) {
    ListValue list;
    for (std::string& v : values) list.push_back(Value::String(std::move(v)));
    return p.exprs.Constant(p.types.List(String()), Value::List(std::move(list)));
  }

  ExprId Make(Op op, TypeId type, std::vector<ExprId> args, uint32_t a = 0, uint32_t b = 0) {
    return p.exprs.Add(op, type, a, b, args.data(), args.size());
  }
  ExprId Local(uint32_t slot, TypeId type) { return Make(Op::Local, type, {}, slot); }

  /// Types the result of arithmetic by its operands.
  ExprId Arith(Op op, ExprId x, ExprId y) {
    TypeKind kx = p.types.kind(p.exprs[x].type), ky = p.types.kind(p.exprs[y].type);
    auto number = [](TypeKind k) { return k == TypeKind::Int || k == TypeKind::Float; };
    TypeKind result = kx == ky ? (op == Op::Div && !number(kx) ? TypeKind::Float : kx)
                      : number(kx) && number(ky) ? TypeKind::Float
                      : number(kx)               ? ky
                                                 : kx;
    return Make(op, Basic(result), {x, y});
  }

  /// A call as the checker would make it: resolved by its signature.
  ExprId Call(Builtin f, std::vector<ExprId> args, TypeId type_argument = {}) {
    std::vector<TypeId> types;
    for (ExprId arg : args) types.push_back(p.exprs[arg].type);
    int at = -1;
    if (type_argument.valid()) {
      at = static_cast<int>(types.size());
      types.push_back(type_argument);
    }
    SignatureMatch match = ResolveCall(p.types, f, types, at);
    if (!match.signature) return {};
    return Make(Op::Call, match.result, args, static_cast<uint32_t>(f), type_argument.valid() ? type_argument.index : 0);
  }

  std::string Eval(ExprId id, uint64_t budget = uint64_t{2} << 30) {
    if (!id.valid()) return "no signature";
    Evaluator evaluator(p, budget);
    Value out;
    if (!evaluator.Evaluate(id, context, out)) return std::string(FaultName(evaluator.fault().kind)) + ": " + evaluator.fault().message;
    return ShowValue(p, out, p.exprs[id].type, 2000);
  }
};

}  // namespace jobc::ir::test
