// Unified diffs are read by people and by `patch`.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "compiler/format/diff.h"

namespace jobc {
namespace {

TEST(Diff, OfEqualTextsIsEmpty) { EXPECT_EQ(UnifiedDiff("a\nb\n", "a\nb\n", "x", "y"), ""); }

TEST(Diff, ShowsThreeLinesAroundAChange) {
  EXPECT_EQ(UnifiedDiff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n", "before", "after"),
            "--- before\n+++ after\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
}

TEST(Diff, JoinsChangesThatAreNearAndPartsThoseThatAreFar) {
  std::string before, after;
  for (int i = 1; i <= 30; ++i) {
    before += std::to_string(i) + "\n";
    after += (i == 5 || i == 8 || i == 25 ? "x" : "") + std::to_string(i) + "\n";
  }
  const std::string diff = UnifiedDiff(before, after, "a", "b");
  EXPECT_NE(diff.find("@@ -2,10 +2,10 @@\n"), std::string::npos) << diff;
  EXPECT_NE(diff.find("@@ -22,7 +22,7 @@\n"), std::string::npos) << diff;
}

TEST(Diff, SaysWhereTheLastLineHasNoEnd) {
  EXPECT_EQ(UnifiedDiff("a", "a\n", "x", "y"), "--- x\n+++ y\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n");
}

TEST(Diff, OfAnEmptyTextBeginsAtLineZero) { EXPECT_EQ(UnifiedDiff("", "a\n", "x", "y"), "--- x\n+++ y\n@@ -0,0 +1,1 @@\n+a\n"); }

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// What `patch` would make of it.
std::string Applied(const std::string& before, const std::string& diff) {
  const std::vector<std::string> old = Lines(before);
  std::string out;
  size_t next = 0;
  for (const std::string& line : Lines(diff)) {
    if (line.starts_with("---") || line.starts_with("+++")) continue;
    if (line.starts_with("@@")) {
      size_t start = std::stoul(line.substr(4));
      const bool empty = line.substr(0, line.find(" +")).ends_with(",0");
      for (start -= empty ? 0 : 1; next < start; ++next) out += old[next] + "\n";
      continue;
    }
    if (line[0] != '+') {
      EXPECT_EQ(old.at(next++), line.substr(1));
    }
    if (line[0] != '-') out += line.substr(1) + "\n";
  }
  for (; next < old.size(); ++next) out += old[next] + "\n";
  return out;
}

TEST(Diff, AppliedToTheFirstTextGivesTheSecond) {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    std::string before, after;
    for (size_t i = random() % 40; i > 0; --i) {
      const std::string line = std::to_string(random() % 6) + "\n";
      const unsigned what = random() % 8;
      if (what != 0) before += line;
      if (what != 1) after += what == 2 ? "new\n" : line;
    }
    const std::string diff = UnifiedDiff(before, after, "a", "b");
    EXPECT_EQ(Applied(before, diff), after) << diff;
    EXPECT_EQ(diff.empty(), before == after);
  }
}

TEST(Diff, OfTextsThatHaveNothingInCommonIsAReplacement) {
  std::string before, after;
  for (int i = 0; i < 5000; ++i) {
    before += "a" + std::to_string(i) + "\n";
    after += "b" + std::to_string(i) + "\n";
  }
  EXPECT_EQ(Applied(before, UnifiedDiff(before, after, "a", "b")), after);
}

}  // namespace
}  // namespace jobc
