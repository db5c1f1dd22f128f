// What the check says about retries and limits of time where all is constant (compiler/check/retry_rules.cpp), said again
// for values that are known only now: parameters, and variables of scatters.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"
#include "ir/evaluate.h"
#include "ir/plan.h"

namespace jobc {

/// Where the checks of one job stand. `stand_at` makes `context` give the variables of an instance.
struct PlannedJob {
  const ir::Plan& plan;
  const ir::Job& job;
  Span name;
  uint64_t instances = 1;                            ///< that `stand_at` and `address` know
  std::function<void(uint64_t ordinal)> stand_at;
  std::function<std::string(uint64_t ordinal)> address;
};

/// E501, E503, W502, W504; the first instance each time.
void CheckRetries(const PlannedJob& job, ir::Evaluator& evaluator, ir::EvalContext& context, Diagnostics& diags);

/// "`cap` is 2GiB (-p)" for each parameter that the expressions use; "" if they use none.
std::string ParamsText(const ir::Plan& plan, const std::vector<ir::ExprId>& exprs, ir::Evaluator& evaluator, ir::EvalContext& context);

}  // namespace jobc
