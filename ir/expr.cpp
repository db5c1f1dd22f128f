#include "ir/expr.h"

#include "support/check.h"

namespace jobc::ir {
namespace {

constexpr std::string_view kOpNames[] = {
#define OP(name, json) json,
    JOBC_IR_OPS(OP)
#undef OP
};

constexpr std::string_view kBuiltinNames[] = {
#define BUILTIN(name, ...) #name,
#include "ir/builtins.def"
#undef BUILTIN
};

}  // namespace

ExprId ExprPool::Add(Op op, TypeId type, uint32_t a, uint32_t b, const ExprId* args, size_t count, Place place) {
  Expr node{.op = op, .type = type, .a = a, .b = b};
  node.args.begin = static_cast<uint32_t>(lists_.size());
  node.args.size = static_cast<uint32_t>(count);
  for (size_t i = 0; i < count; ++i) {
    JOBC_CHECK(args[i].index < nodes_.size());  // children first: this is what makes the pool acyclic
    lists_.push_back(args[i]);
  }
  nodes_.push_back(node);
  if (place.source != UINT32_MAX || !places_.empty()) {
    places_.resize(nodes_.size());
    places_.back() = place;
  }
  return ExprId{static_cast<uint32_t>(nodes_.size() - 1)};
}

ExprId ExprPool::Constant(TypeId type, Value value, Place place) {
  return Add(Op::Const, type, {}, place, AddConstant(std::move(value)));
}

uint32_t ExprPool::AddConstant(Value value) {
  constants_.push_back(std::move(value));
  return static_cast<uint32_t>(constants_.size() - 1);
}

std::string_view OpName(Op op) { return kOpNames[static_cast<size_t>(op)]; }
std::string_view BuiltinName(Builtin builtin) { return kBuiltinNames[static_cast<size_t>(builtin)]; }

}  // namespace jobc::ir
