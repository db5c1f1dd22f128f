// The published schema against what the writer writes, by an independent validator (python3-jsonschema).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "ir/plan_json.h"
#include "tests/ir/plan_maker.h"

namespace jobc::ir::test {
namespace {

TEST(PlanSchema, FitsWhatIsWrittenAndNothingElse) {
  if (std::system("python3 -c 'import jsonschema' >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3-jsonschema is not installed";
  std::string command = "python3 tests/ir/validate_plans.py docs/schemas/plan-1.schema.json";
  for (uint64_t seed = 0; seed < 4; ++seed) {
    std::string name = ::testing::TempDir() + "jobc_plan_" + std::to_string(seed) + ".json";
    std::ofstream(name) << WritePlan(PlanMaker(seed).Make());
    command += " " + name;
  }
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace jobc::ir::test
