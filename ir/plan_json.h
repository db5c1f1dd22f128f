// The plan as text: canonical `jobc.plan/1` JSON, byte-identical for equal plans. The published schema is
// docs/schemas/plan-1.schema.json.
#pragma once

#include <string>
#include <string_view>

#include "ir/plan.h"
#include "support/result.h"

namespace jobc::ir {

/// Canonical text, one line with a final newline. `indent` > 0 only for people (`--dump`).
std::string WritePlan(const Plan& plan, int indent = 0);

/// Refuses an unknown major version, a newer functions version and anything the schema does not allow; ignores unknown
/// members of newer minor versions. Never crashes on any text.
Result<Plan> ReadPlan(std::string_view text);

/// SHA-256 of WritePlan(plan).
std::string PlanDigest(const Plan& plan);

}  // namespace jobc::ir
