// Two plans compared by what they mean: independent of row numbers, of the order of declarations, of positions in the source.
#pragma once

#include <string>
#include <vector>

#include "ir/plan.h"
#include "runtime/why.h"

namespace jobc {

struct PlanChange {
  Cause cause = Cause::Source;
  std::string job;          ///< address; empty: of the plan as a whole
  std::string what;         ///< "parameter `day`", "`run`", "input `r1`"
  std::string before, now;  ///< for people; empty: there is none
};

/// By cause, then in the order of the plans. Jobs that change only because of what is upstream come as Cause::Upstream.
std::vector<PlanChange> ComparePlans(const ir::Plan& before, const ir::Plan& now);

/// One JSON object.
std::string PlanChangeJson(const PlanChange& change);

/// Under a title for each cause.
std::string PlanChangesText(const std::vector<PlanChange>& changes);

}  // namespace jobc
