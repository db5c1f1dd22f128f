// Any bytes as a plan: the reader must refuse or read them, and what it read must evaluate, expand and be written again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/plan_json.h"
#include "support/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jobc::ir;
  jobc::Result<Plan> plan = ReadPlan(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!plan) return 0;
  EvalContext nothing;
  Evaluator evaluator(plan->program, 20'000);
  for (uint32_t i = 0; i < plan->program.exprs.size(); ++i) {
    Value out;
    static_cast<void>(evaluator.Evaluate(ExprId{i}, nothing, out));
  }
  for (uint32_t i = 0; i < plan->jobs.size(); ++i) static_cast<void>(Instances::Expand(*plan, i, evaluator, nothing).ok());
  JOBC_CHECK(ReadPlan(WritePlan(*plan)).ok());
  return 0;
}
