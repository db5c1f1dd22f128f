// Words of other systems: each line that is offered instead compiles, and is offered.
#include "compiler/check/synonyms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/check/fixture.h"

namespace jobc {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kBefore =
    "edition = 1\nparams { wanted: Bool = true }\npool licence { slots = 1 }\n"
    "job other {\n  run = [\"make\"]\n  output { table: File = \"t.csv\" }\n}\n";

std::string JobWith(std::string_view line) {
  std::string text(kBefore);
  text += "job mine {\n  " + std::string(line);
  if (line.find("<<~SH") != line.npos) text += "\n    true\n  SH";
  if (line.find("<<~PY") != line.npos) text += "\n    pass\n  PY";
  text += '\n';
  if (!line.starts_with("run =") && !line.starts_with("script =")) text += "  run = [\"true\"]\n";
  return text + "}\n";
}

bool HasError(const Outcome& outcome) {
  for (const Diagnostic& d : outcome.diagnostics) {
    if (d.kind->severity == Severity::Error) return true;
  }
  return false;
}

TEST(Synonyms, EveryLineOfferedForAnAttributeCompiles) {
  for (const Synonym& synonym : AttributeSynonyms()) {
    // `process` runs no images.
    const bool image = synonym.here.rfind("image", 0) == 0;
    Outcome outcome = CheckText(JobWith(image ? std::string(synonym.here) + "\n  backend = docker { }" : std::string(synonym.here)));
    EXPECT_FALSE(HasError(outcome)) << synonym.word << "\n" << outcome.rendered;
  }
}

TEST(Synonyms, EveryWordIsAnsweredByItsLine) {
  std::set<std::string_view> seen;
  for (const Synonym& synonym : AttributeSynonyms()) {
    EXPECT_TRUE(seen.insert(synonym.word).second) << synonym.word << " is there twice";
    Outcome outcome = CheckText(std::string(kBefore) + "job mine {\n  " + std::string(synonym.word) + " = 1\n}\n");
    EXPECT_THAT(outcome.codes, testing::Contains("E102")) << synonym.word;
    EXPECT_THAT(outcome.rendered, testing::AnyOf(HasSubstr("here that is:  " + std::string(synonym.here)), HasSubstr("did you mean"), HasSubstr("it belongs into a block")))
        << synonym.word << "\n" << outcome.rendered;
  }
}

TEST(Synonyms, ACommandUnderAnotherNameIsOneError) {
  Outcome outcome = CheckText("edition = 1\njob mine { command = [\"x\"] }\n");
  EXPECT_EQ(outcome.Codes(), "E102") << outcome.rendered;
  Outcome other = CheckText("edition = 1\njob mine { dependsOn = [\"x\"] }\n");
  EXPECT_EQ(other.Codes(), "E104 E102") << other.rendered;
  EXPECT_THAT(other.rendered, HasSubstr("here that is:  after = [other]"));
}

TEST(Synonyms, FunctionsAreAnsweredByOnesThatExist) {
  for (const Synonym& synonym : FunctionSynonyms()) {
    Outcome outcome = CheckText("edition = 1\nlet x = " + std::string(synonym.word) + "(\"a\")\n");
    EXPECT_THAT(outcome.rendered, HasSubstr(synonym.here)) << synonym.word;
    if (synonym.here.starts_with('[')) {
      Outcome fixed = CheckText("edition = 1\nlet x = " + std::string(synonym.here) + "\n");
      EXPECT_FALSE(HasError(fixed)) << fixed.rendered;
    } else {
      EXPECT_THAT(CheckText(outcome.Fixed()).rendered, Not(HasSubstr("no function named"))) << synonym.word;
    }
  }
}

TEST(Synonyms, ASpellingSlipOfAnExistingNameComesFirst) {
  EXPECT_THAT(CheckText("edition = 1\njob mine { rn = [\"x\"] }\n").rendered, HasSubstr("did you mean `run`?"));
}

}  // namespace
}  // namespace jobc
