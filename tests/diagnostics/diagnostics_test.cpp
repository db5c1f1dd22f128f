#include "compiler/diagnostics/diagnostics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>
#include <vector>

namespace jobc {
namespace {

using ::testing::ElementsAre;

constexpr TypedKind<std::string_view> kUnknown{{"E101", "Unknown", Severity::Error, "no `{}` here"}};
constexpr TypedKind<> kOdd{{"W201", "Odd", Severity::Warning, "odd"}};

std::vector<std::string> Messages(const Diagnostics& diags) {
  std::vector<std::string> messages;
  for (const Diagnostic& each : diags.all()) messages.push_back(each.message);
  return messages;
}

TEST(Diagnostics, SortOrdersByPlaceAndKeepsEqualOnesOnce) {
  SourceManager sources;
  const SourceId a = sources.Add("a", "0123456789");
  const SourceId b = sources.Add("b", "0123456789");
  Diagnostics diags;
  diags.Emit({b, 0, 1}, kUnknown, "b0");
  diags.Emit({a, 5, 6}, kUnknown, "a5");
  diags.Emit({a, 5, 6}, kUnknown, "a5 other");
  diags.Emit({a, 5, 6}, kUnknown, "a5");
  diags.Emit({a, 2, 6}, kOdd);
  diags.Emit({}, kUnknown, "no place");
  diags.Sort();
  EXPECT_THAT(Messages(diags), ElementsAre("no `no place` here", "odd", "no `a5` here", "no `a5 other` here", "no `b0` here"));
  EXPECT_EQ(diags.error_count(), 4u);
  EXPECT_EQ(diags.warning_count(), 1u);
}

TEST(Diagnostics, FilterDropsWarningsButNeverErrors) {
  Diagnostics diags;
  diags.Emit({}, kUnknown, "x");
  diags.Emit({}, kOdd);
  diags.Filter([](const Diagnostic&, void*) { return true; }, nullptr);
  EXPECT_THAT(Messages(diags), ElementsAre("no `x` here"));
  EXPECT_TRUE(diags.has_errors());
  diags.Clear();
  EXPECT_FALSE(diags.has_errors());
}

TEST(Diagnostics, AHostileFileCannotFillTheMemoryWithFaults) {
  Diagnostics diags;
  for (size_t i = 0; i < kMostDiagnostics + 5; ++i) diags.Emit({}, kUnknown, std::to_string(i)).Label("x");
  diags.Emit({}, kOdd);
  EXPECT_EQ(diags.all().size(), kMostDiagnostics);
  EXPECT_EQ(diags.dropped(), 6u);
  EXPECT_EQ(diags.error_count(), kMostDiagnostics + 5);
  EXPECT_EQ(diags.warning_count(), 1u);
  diags.Clear();
  EXPECT_EQ(diags.dropped(), 0u);
}

TEST(Diagnostics, EveryDeclaredKindFollowsTheRulesForMessages) {
  std::set<std::string_view> names;
  std::string_view previous_code;
  for (const DiagnosticKind* kind : AllDiagnosticKinds()) {
    SCOPED_TRACE(std::string(kind->code) + " " + std::string(kind->name));
    EXPECT_TRUE(std::regex_match(std::string(kind->code), std::regex("[EWR][0-9]{3}")));
    EXPECT_TRUE(names.insert(kind->name).second) << "the name is used twice";
    EXPECT_EQ(kind->severity == Severity::Warning, kind->code[0] == 'W');
    EXPECT_FALSE(kind->format.empty());
    EXPECT_NE(kind->format.back(), '.');
    EXPECT_FALSE(kind->format[0] >= 'A' && kind->format[0] <= 'Z' && kind->format.size() > 1 && kind->format[1] >= 'a' &&
                 kind->format[1] <= 'z')
        << "messages start in lower case";
    EXPECT_LE(previous_code.empty() ? "" : previous_code.substr(1), kind->code.substr(1)) << "not sorted by number";
    previous_code = kind->code;
  }
}

TEST(DidYouMean, FindsTyposAndStaysQuietOtherwise) {
  const std::vector<std::string_view> jobs = {"align", "extract", "report", "somatic"};
  EXPECT_EQ(DidYouMean("algin", jobs), "align");    // a transposition is one edit
  EXPECT_EQ(DidYouMean("Extract", jobs), "extract");
  EXPECT_EQ(DidYouMean("reprot", jobs), "report");
  EXPECT_EQ(DidYouMean("publish", jobs), "");
  EXPECT_EQ(DidYouMean("", jobs), "");
  EXPECT_EQ(DidYouMean("x", {"y", "z"}), "");
  EXPECT_EQ(DidYouMean("retries", {"retry", "retires"}), "retires");
}

TEST(DidYouMean, DoesNotDependOnTheOrderOfTheCandidates) {
  EXPECT_EQ(DidYouMean("cat", {"cart", "bat", "cab"}), "bat");
  EXPECT_EQ(DidYouMean("cat", {"cab", "cart", "bat"}), "bat");
}

}  // namespace
}  // namespace jobc
