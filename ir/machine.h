// The state behind an Evaluator and the walk over expression trees. Belongs to ir/ only; evaluate.cpp holds the
// operations, functions.cpp the built-in functions.
#pragma once

#include <llvm/ADT/SmallVector.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/evaluate.h"
#include "ir/regex_cache.h"

namespace jobc::ir {

/// Nested evaluations (operators in operators, lets in lets, calls in calls); each costs up to 2 KB of stack.
inline constexpr int kMaxEvalDepth = 2500;
/// Budget steps for one list element produced, so that memory is bounded as work is.
inline constexpr uint64_t kElementCost = 16;
inline constexpr size_t kMaxTextBytes = size_t{1} << 30;

struct Evaluator::State {
  int64_t budget = 0;
  int64_t steps_left = 0;
  int depth = 0;
  int active = 0;           ///< Evaluate calls in progress: contexts may evaluate again
  uint64_t impure = 0;      ///< calls of the context whose answers may differ between two uses of one let
  std::vector<Value> stack; ///< locals of all frames
  size_t base = 0;          ///< start of the current frame
  std::vector<Value> let_values;
  std::vector<uint8_t> let_known;
  std::vector<int8_t> refined;  ///< by type: 1 has refinements inside, -1 has none, 0 not known
  RegexCache regexes;
};

/// One walk: an Evaluator with the context of the current call.
class Machine {
 public:
  Machine(Evaluator& evaluator, EvalContext& context)
      : evaluator_(evaluator),
        state_(*evaluator.state_),
        program_(evaluator.program_),
        exprs_(program_.exprs),
        types_(program_.types),
        context_(context) {}

  bool Eval(ExprId id, Value& out);
  bool Argv(ExprId id, std::vector<std::string>& out);
  bool Text(ExprId at, const Value& value, TypeId type, std::string& out);
  /// Empty `pointer`: the value itself. True also for values that do not have the shape of the type.
  bool Refinements(ExprId at, const Value& value, TypeId type, std::string_view place, std::string& pointer);
  bool WithFrame(ExprId id, ListValue locals, Value& out);

 private:
  bool HasRefinements(TypeId id);
  /// What an evaluation gives to the outside has the kind its type promises, also for plans that no compiler wrote.
  bool Fits(const Value& value, TypeId type) const;
  bool EvalInner(const Expr& e, ExprId id, Value& out);
  bool EvalLet(const Expr& e, ExprId id, Value& out);
  bool EvalConcat(const Expr& e, ExprId id, Value& out);
  bool EvalArithmetic(const Expr& e, ExprId id, Value& out);
  bool EvalComparison(const Expr& e, ExprId id, Value& out);
  bool EvalEquality(const Expr& e, ExprId id, Value& out);
  bool EvalIn(const Expr& e, ExprId id, Value& out);
  bool EvalIndex(const Expr& e, ExprId id, Value& out);
  bool EvalField(const Expr& e, ExprId id, Value& out);
  bool EvalMatch(const Expr& e, ExprId id, Value& out);
  bool EvalList(const Expr& e, ExprId id, Value& out);
  bool EvalMap(const Expr& e, ExprId id, Value& out);
  bool EvalFor(const Expr& e, ExprId id, Value& out);
  bool EvalApply(const Expr& e, ExprId id, Value& out);
  bool EvalChecked(const Expr& e, ExprId id, Value& out);
  bool EvalFile(const Expr& e, ExprId id, Value& out);
  bool EvalJob(const Expr& e, ExprId id, Value& out);
  bool EvalToJson(const Expr& e, ExprId id, Value& out);
  bool EvalRead(const Expr& e, ExprId id, Value& out);
  bool EvalCall(const Expr& e, ExprId id, Value& out);

  struct Arguments {
    llvm::SmallVector<Value, 4> values;
    llvm::SmallVector<TypeId, 4> types;
  };
  bool Call(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out);
  bool CallText(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out);
  bool CallList(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out);
  bool CallOther(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out);
  bool Format(const Arguments& args, ExprId id, Value& out);
  bool ReplaceRegex(const std::string& text, const std::string& pattern, const std::string& rewrite, ExprId id, Value& out);
  bool RangeBounds(const Arguments& args, ExprId id, int64_t& low, int64_t& count, int64_t& step);

  /// A value that needs no copy where the node is a constant, parameter or known let, else `temporary`. The pointer is
  /// good until the next evaluation.
  const Value* Peek(ExprId id, Value& temporary);
  bool EvalBool(ExprId id, bool& out);
  bool EvalIndices(const Expr& e, ListValue& out);
  /// Adds the value of `id`, or the elements of a Splice, with text forms where `texts`.
  bool AppendElements(ExprId id, ListValue& out, bool texts);
  /// Calls `body(first, second)` for each element of `source`; `second` is the value of two-name loops.
  template <typename Body>
  bool ForEach(ExprId source, bool two_names, ExprId at, Body body);
  bool EvalRangeCall(ExprId source, int64_t& low, int64_t& count, int64_t& step, bool& is_range);
  bool SetLocal(ExprId at, uint32_t slot, Value value);
  const re2::RE2* Regex(const std::string& pattern, ExprId at);

  bool Fail(ExprId at, FaultKind kind, std::string message);
  /// A value of another kind than its type promises: only possible for plans that no compiler wrote.
  bool Malformed(ExprId at);
  bool FromContext(ExprId at, bool ok, Fault& fault);
  bool Charge(ExprId at, uint64_t steps);
  std::string Show(const Value& value, TypeId type) const;

  Evaluator& evaluator_;
  Evaluator::State& state_;
  const Program& program_;
  const ExprPool& exprs_;
  const TypeTable& types_;
  EvalContext& context_;
};

/// Of UTF-8 text that is known to be valid.
inline size_t ScalarCount(std::string_view text) {
  size_t count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace jobc::ir
