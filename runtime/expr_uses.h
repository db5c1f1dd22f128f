// What expressions depend on, found by walking their trees: whether all instances of a job share a value, and when the
// list of a dynamic scatter can be evaluated. Pure functions of the plan, used by the scheduler.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "ir/plan.h"

namespace jobc {

/// Calls `visit` once for each node below `root`, through lets and functions. `visit` returns false to stop.
/// Returns false if stopped.
bool WalkExpr(const ir::Program& program, ir::ExprId root,
              const std::function<bool(ir::ExprId, const ir::Expr&)>& visit);

/// Whether the value is the same for all instances and attempts: only literals, params and what is made of them.
bool IsSharedByInstances(const ir::Program& program, ir::ExprId root);

/// Whether it can be evaluated before anything ran: nothing of jobs, attempts or secrets, also not through inputs.
bool IsKnownAtPlan(const ir::Program& program, const ir::Job& job, ir::ExprId root);

/// What must be known of other jobs before an expression can be evaluated.
enum class Needs : uint8_t { Domain, End };
std::map<uint32_t, Needs> JobsNeeded(const ir::Program& program, ir::ExprId root);

/// Whether the dependency of the dynamic scatter `consumer` on all of `producer` comes from the list of its `for`
/// alone, so that instances need not wait for it once they exist.
bool OnlyListNeedsAll(const ir::Plan& plan, const ir::Job& consumer, uint32_t producer);

}  // namespace jobc
