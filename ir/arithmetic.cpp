#include "ir/arithmetic.h"

#include <bit>
#include <cmath>
#include <limits>

namespace jobc::ir {
namespace {

using enum ArithmeticError;
using Wide = __int128;

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

bool IsQuantity(ValueKind kind) { return kind == ValueKind::Duration || kind == ValueKind::Bytes; }
bool IsNumber(ValueKind kind) { return kind == ValueKind::Int || kind == ValueKind::Float; }

Value Make(ValueKind kind, int64_t value) {
  if (kind == ValueKind::Duration) return Value::Duration(value);
  if (kind == ValueKind::Bytes) return Value::Bytes(value);
  return Value::Int(value);
}

ArithmeticError Narrowed(ValueKind kind, Wide value, Value& out) {
  if (value < kMin || value > kMax) return Overflow;
  out = Make(kind, static_cast<int64_t>(value));
  return None;
}

ArithmeticError Finite(double value, Value& out) {
  if (!std::isfinite(value)) return Overflow;
  out = Value::Float(value);
  return None;
}

Wide FloorDivide(Wide x, Wide y) {
  Wide quotient = x / y;
  return (x % y != 0 && (x < 0) != (y < 0)) ? quotient - 1 : quotient;
}

int BitLength(uint64_t x) { return 64 - std::countl_zero(x); }

uint64_t Magnitude(int64_t x) { return x < 0 ? ~static_cast<uint64_t>(x) + 1 : static_cast<uint64_t>(x); }

/// value = mantissa * 2^exponent exactly; the mantissa is odd or 0.
void Decompose(double value, int64_t& mantissa, int& exponent) {
  int e = 0;
  double fraction = std::frexp(value, &e);
  mantissa = static_cast<int64_t>(std::ldexp(fraction, 53));
  exponent = e - 53;
  while (mantissa != 0 && mantissa % 2 == 0) {
    mantissa /= 2;
    ++exponent;
  }
}

/// floor(n * f) without rounding in between, the same on every machine.
ArithmeticError Scale(ValueKind kind, int64_t n, double f, Value& out) {
  int64_t m = 0;
  int e = 0;
  Decompose(f, m, e);
  Wide product = static_cast<Wide>(n) * m;  // at most 63 + 53 bits
  if (product == 0) return Narrowed(kind, 0, out);
  if (e >= 0) {
    if (e >= 64 || BitLength(Magnitude(n)) + BitLength(Magnitude(m)) + e > 66) return Overflow;
    return Narrowed(kind, product << e, out);
  }
  if (-e >= 126) return Narrowed(kind, product < 0 ? -1 : 0, out);
  return Narrowed(kind, FloorDivide(product, static_cast<Wide>(1) << -e), out);
}

/// floor(n / f), exactly.
ArithmeticError Unscale(ValueKind kind, int64_t n, double f, Value& out) {
  int64_t m = 0;
  int e = 0;
  Decompose(f, m, e);
  if (n == 0) return Narrowed(kind, 0, out);
  bool negative = (n < 0) != (m < 0);
  if (e <= 0) {
    if (BitLength(Magnitude(n)) - e > 126) return Overflow;  // the quotient has more than 126 - 53 bits
    return Narrowed(kind, FloorDivide(static_cast<Wide>(n) << -e, m), out);
  }
  if (BitLength(Magnitude(m)) + e > 126) return Narrowed(kind, negative ? -1 : 0, out);
  return Narrowed(kind, FloorDivide(n, static_cast<Wide>(m) << e), out);
}

ArithmeticError Floats(Op op, double x, double y, Value& out) {
  switch (op) {
    case Op::Add: return Finite(x + y, out);
    case Op::Sub: return Finite(x - y, out);
    case Op::Mul: return Finite(x * y, out);
    case Op::Div: return y == 0 ? DivisionByZero : Finite(x / y, out);
    case Op::Mod: return y == 0 ? DivisionByZero : Finite(std::fmod(x, y), out);
    default: return Operands;
  }
}

ArithmeticError Likes(Op op, ValueKind kind, int64_t x, int64_t y, Value& out) {
  int64_t result = 0;
  switch (op) {
    case Op::Add:
      if (__builtin_add_overflow(x, y, &result)) return Overflow;
      break;
    case Op::Sub:
      if (__builtin_sub_overflow(x, y, &result)) return Overflow;
      break;
    case Op::Mul:
      if (kind != ValueKind::Int) return Operands;
      if (__builtin_mul_overflow(x, y, &result)) return Overflow;
      break;
    case Op::Div:
      if (y == 0) return DivisionByZero;
      if (kind != ValueKind::Int) return Finite(static_cast<double>(x) / static_cast<double>(y), out);
      if (x == kMin && y == -1) return Overflow;
      result = x / y;
      break;
    case Op::Mod:
      if (y == 0) return DivisionByZero;
      result = y == -1 ? 0 : x % y;
      break;
    default:
      return Operands;
  }
  out = Make(kind, result);
  return None;
}

}  // namespace

ArithmeticError Calculate(Op op, const Value& x, const Value& y, Value& out) {
  ValueKind kx = x.kind(), ky = y.kind();
  if (kx == ky) {
    if (kx == ValueKind::Int || IsQuantity(kx)) return Likes(op, kx, x.as_int(), y.as_int(), out);
    if (kx == ValueKind::Float) return Floats(op, x.as_float(), y.as_float(), out);
    return Operands;
  }
  if (IsNumber(kx) && IsNumber(ky)) return Floats(op, x.as_float(), y.as_float(), out);
  if (op == Op::Mul && IsNumber(kx) && IsQuantity(ky)) return Calculate(op, y, x, out);
  if (!IsQuantity(kx) || !IsNumber(ky)) return Operands;
  int64_t n = x.as_int();
  if (op == Op::Mul) {
    if (ky == ValueKind::Int) return Narrowed(kx, static_cast<Wide>(n) * y.as_int(), out);
    return Scale(kx, n, y.as_float(), out);
  }
  if (op == Op::Div) {
    if (ky == ValueKind::Int) {
      if (y.as_int() == 0) return DivisionByZero;
      return Narrowed(kx, FloorDivide(n, y.as_int()), out);
    }
    if (y.as_float() == 0) return DivisionByZero;
    return Unscale(kx, n, y.as_float(), out);
  }
  return Operands;
}

ArithmeticError Negated(const Value& x, Value& out) {
  if (x.kind() == ValueKind::Float) return Finite(-x.as_float(), out);
  if (x.kind() != ValueKind::Int && !IsQuantity(x.kind())) return Operands;
  if (x.as_int() == kMin) return Overflow;
  out = Make(x.kind(), -x.as_int());
  return None;
}

}  // namespace jobc::ir
