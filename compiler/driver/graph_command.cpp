#include <fmt/format.h>

#include "compiler/bounds/bounds.h"
#include "compiler/driver/compile.h"
#include "compiler/driver/plan_text.h"
#include "support/exit_code.h"

namespace jobc {

int RunGraph(const Invocation& invocation, Terminal& terminal) {
  Compiled compiled = CompileFile(invocation.arguments().front(), invocation, terminal);
  if (!compiled.plan) return compiled.exit_code;
  const ir::Plan& plan = *compiled.plan;
  const bool critical = invocation.Has("--critical");
  terminal.Out(GraphText(plan, invocation.json() ? "json" : invocation.ValueOr("--as", "dot"), critical));
  if (!critical) return kExitOk;
  const bounds::PlanBounds bounds = bounds::Bound(plan);
  for (const uint32_t j : bounds::CriticalPath(plan, bounds)) {
    if (bounds.jobs[j].time_ms) continue;
    terminal.Err(fmt::format("note: the longest path goes through `{}`, which has no worst case: {}\n", plan.jobs[j].address, bounds.jobs[j].unbounded));
    const std::string& missing = bounds.jobs[j].missing;
    if (!missing.empty()) terminal.Err(fmt::format("  write in `{}`, for example:  {}\n", plan.jobs[j].address, missing));
  }
  return kExitOk;
}

}  // namespace jobc
