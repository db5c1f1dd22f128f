#include "compiler/diagnostics/allow.h"

#include <gtest/gtest.h>

#include <string>

namespace jobc {
namespace {

constexpr TypedKind<> kDollar{{"W011", "Dollar", Severity::Warning, "warning"}};
constexpr TypedKind<> kNull{{"E202", "Null", Severity::Error, "error"}};

/// How many of a warning and an error at the first `x` of the text remain.
size_t Remaining(const std::string& text) {
  SourceManager sources;
  const SourceId id = sources.Add("t", text);
  const uint32_t at = static_cast<uint32_t>(text.find('x'));
  Diagnostics diags;
  diags.Emit({id, at, at + 1}, kDollar);
  diags.Emit({id, at, at + 1}, kNull);
  DropAllowed(diags, sources);
  EXPECT_TRUE(diags.has_errors());
  return diags.all().size();
}

TEST(Allow, SilencesAWarningOnItsLineOrTheLineBefore) {
  EXPECT_EQ(Remaining("a = x  # jobc: allow(W011)\n"), 1u);
  EXPECT_EQ(Remaining("  #  jobc: allow(W704, W011)\na = x\n"), 1u);
  EXPECT_EQ(Remaining("# first line: x # jobc: allow(W011)"), 1u);
}

TEST(Allow, SilencesNothingElse) {
  EXPECT_EQ(Remaining("a = x\n"), 2u);
  EXPECT_EQ(Remaining("a = x  # jobc: allow(W704)\n"), 2u);
  EXPECT_EQ(Remaining("a = x  # jobc: allow(W0111)\n"), 2u);
  EXPECT_EQ(Remaining("a = x  # jobc: allow(E202)\n"), 2u) << "errors stay";
  EXPECT_EQ(Remaining("b = 1  # jobc: allow(W011)\na = x\n"), 2u) << "the comment belongs to its own line";
  EXPECT_EQ(Remaining("# jobc: allow(W011)\n\na = x\n"), 2u);
  EXPECT_EQ(Remaining("a = \"jobc: allow(W011)\" + x\n"), 2u) << "no comment";
}

}  // namespace
}  // namespace jobc
