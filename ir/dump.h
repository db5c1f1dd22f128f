// Expressions and values as text for people: dumps, tests, messages. Nothing reads it back.
#pragma once

#include <string>

#include "ir/plan.h"

namespace jobc::ir {

/// `params.n * 2 + size(input0)`: close to the source language, one line. Ids that point nowhere are shown as `#7`.
std::string DumpExpr(const Program& program, ExprId id);
/// The same with the names that stand in the source: `s.tumor && align[s.id].ok`, in an expression of `job`.
std::string DumpExpr(const Plan& plan, uint32_t job, ExprId id);

/// A value as a message shows it: `"x"`, `90s`, `Mode.full`, `[1, 2, …]`; cut after about `limit` bytes. Never a secret.
std::string ShowValue(const Program& program, const Value& value, TypeId type, size_t limit = 80);

}  // namespace jobc::ir
