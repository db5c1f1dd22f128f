// The published schema against what the writer writes, by an independent validator (python3-jsonschema).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "ir/plan_json.h"
#include "tests/bounds/random_plan.h"
#include "tests/ir/plan_maker.h"

namespace jobc::ir::test {
namespace {

TEST(PlanSchema, FitsWhatIsWrittenAndNothingElse) {
  if (std::system("python3 -c 'import jsonschema' >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3-jsonschema is not installed";
  std::string command = "python3 tests/ir/validate_plans.py docs/schemas/plan-1.schema.json";
  const auto add = [&](const std::string& name, const Plan& plan) {
    const std::string path = ::testing::TempDir() + "jobc_plan_" + name + ".json";
    std::ofstream(path) << WritePlan(plan);
    command += " " + path;
  };
  // All that a plan can hold, and plans as they are executed by the tests of the bounds.
  for (uint64_t seed = 0; seed < 8; ++seed) add(std::to_string(seed), PlanMaker(seed).Make());
  for (uint64_t seed = 0; seed < 24; ++seed) {
    jobc::testing::Random random(seed);
    jobc::testing::RandomPlan plan(random, seed % 2 == 0);
    add("run_" + std::to_string(seed), plan.b.plan);
  }
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace jobc::ir::test
