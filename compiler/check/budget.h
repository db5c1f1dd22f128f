// What the worst case of a run means for `limits { … }`, in words: E605 and W505. Used twice: by the check for what holds
// for all parameters, and by Lower() when their values are known.
#pragma once

#include <string>
#include <vector>

#include "compiler/bounds/bounds.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"
#include "ir/plan.h"

namespace jobc::check {

struct BudgetPlaces {
  const std::vector<Span>& jobs;  ///< names of Plan::jobs
  Span limits;                    ///< keyword of `limits`, or name of the profile that has them
  std::string under;              ///< "under the profile `x`", or empty
};

/// E605. `instances`, `attempts`: what the run has or may need. `why`: where the largest part comes from, or empty.
void ReportBudget(const ir::Plan& plan, const bounds::PlanBounds& bounds, const BudgetPlaces& places, Diagnostics& diags, const std::string& why = "");

/// The job that adds most to `limits { instances }` or `limits { attempts }`.
uint32_t LargestPart(const bounds::PlanBounds& bounds, bool instances);

/// W505: jobs that have no bound since a limit is missing. `asked`: by --bounds, for finally blocks and hooks too.
void ReportUnbounded(const ir::Plan& plan, const bounds::PlanBounds& bounds, const BudgetPlaces& places, bool asked, Diagnostics& diags);

}  // namespace jobc::check
