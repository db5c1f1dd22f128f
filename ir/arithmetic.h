// Exact arithmetic on scalar values: Int, Duration and Bytes in 64 bits with overflow found, Float always finite.
#pragma once

#include "ir/expr.h"
#include "ir/value.h"

namespace jobc::ir {

enum class ArithmeticError : uint8_t { None, Overflow, DivisionByZero, Operands };

/// Add, Sub, Mul, Div, Mod. Int division truncates and `%` has the sign of the left; quantities by or times numbers are
/// rounded down to whole ms or bytes; like divided by like gives a Float.
ArithmeticError Calculate(Op op, const Value& x, const Value& y, Value& out);
ArithmeticError Negated(const Value& x, Value& out);

}  // namespace jobc::ir
