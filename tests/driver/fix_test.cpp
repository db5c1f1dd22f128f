// The helps that a tool may apply, over all golden files: each, applied alone, makes its diagnostic go away and keeps the
// file readable. Wrong edits are worse than none.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "compiler/check/check.h"
#include "compiler/driver/fix.h"

namespace jobc {
namespace {

namespace fs = std::filesystem;

struct Seen {
  bool same = false;    ///< a diagnostic of the kind and message that is looked for, at one of the places
  size_t syntax = 0;
};

Seen Look(const std::string& name, const std::string& directory, const std::string& text, const Diagnostic& wanted, const std::vector<uint32_t>& places) {
  SourceManager sources;
  Diagnostics diags;
  Check(sources.Add(name, text, directory), sources, diags);
  diags.Sort();
  Seen seen;
  for (const Diagnostic& each : diags.all()) {
    if (each.kind->name == wanted.kind->name && each.message == wanted.message && std::count(places.begin(), places.end(), each.primary.span.begin) > 0) seen.same = true;
    if (each.kind->code == "E010") ++seen.syntax;
  }
  return seen;
}

TEST(Edits, OfEveryGoldenFileMakeTheirDiagnosticGoAway) {
  size_t applied = 0;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator("tests/golden/check")) {
    if (entry.path().extension() == ".job") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  ASSERT_FALSE(files.empty());
  for (const fs::path& path : files) {
    if (fs::file_size(path) > 200'000) continue;
    std::ifstream file(path, std::ios::binary);
    std::ostringstream read;
    read << file.rdbuf();
    const std::string text = read.str(), directory = path.parent_path().string();
    SourceManager sources;
    Diagnostics diags;
    const SourceId root = sources.Add(path.string(), text, directory);
    Check(root, sources, diags);
    diags.Sort();
    for (const Diagnostic& each : diags.all()) {
      for (const Help& help : each.helps) {
        if (help.edits.empty() || help.edits.front().span.source != root) continue;
        const LineColumn at = sources.Locate(root, each.primary.span.valid() ? each.primary.span.begin : 0);
        SCOPED_TRACE(path.string() + ":" + std::to_string(at.line) + ": " + std::string(each.kind->code) + ": " + help.text);
        // Where the diagnostic stood, and where that is after the edits before it; an insertion may be before or behind it.
        const uint32_t begin = each.primary.span.begin;
        uint32_t before_it = begin, at_it = begin;
        for (const Edit& edit : help.edits) {
          const uint32_t grown = static_cast<uint32_t>(edit.text.size()) - (edit.span.end - edit.span.begin);
          if (edit.span.end <= begin) at_it += grown;
          if (edit.span.end <= begin && edit.span.begin < begin) before_it += grown;
        }
        const Seen before = Look(path.string(), directory, text, each, {begin});
        EXPECT_TRUE(before.same);
        std::string fixed = text;
        ASSERT_TRUE(ApplyEdits(fixed, help.edits));
        const Seen after = Look(path.string(), directory, fixed, each, {before_it, at_it});
        EXPECT_FALSE(after.same);
        EXPECT_LE(after.syntax, before.syntax);
        ++applied;
      }
    }
  }
  EXPECT_GT(applied, 50u);
}

TEST(Edits, AreDoneFromTheEndAndNeverOverlap) {
  const SourceId source{0};
  std::string text = "abcdef";
  EXPECT_TRUE(ApplyEdits(text, {{{source, 4, 5}, "E!"}, {{source, 0, 1}, ""}, {{source, 2, 2}, "-"}}));
  EXPECT_EQ(text, "b-cdE!f");
  EXPECT_FALSE(ApplyEdits(text, {{{source, 0, 3}, "x"}, {{source, 2, 4}, "y"}}));
  EXPECT_FALSE(ApplyEdits(text, {{{source, 0, 99}, "x"}}));
  EXPECT_EQ(text, "b-cdE!f");
}

TEST(Fix, AppliesOverlappingEditsInRounds) {
  // The second `??` can only go once the first one is gone: both stand in one expression.
  const FixedText fixed = FixText("f.job", "", "edition = 1\nlet a: Int = 1 ?? 2 ?? 3\njob j { run = [\"echo\", a] }\n");
  EXPECT_EQ(fixed.text, "edition = 1\nlet a: Int = 1\njob j { run = [\"echo\", a] }\n");
  EXPECT_EQ(fixed.errors_left + fixed.warnings_left, 0u);
}

TEST(Fix, NeverLeavesMoreErrorsThanThereWere) {
  for (const fs::directory_entry& entry : fs::directory_iterator("tests/golden/check")) {
    if (entry.path().extension() != ".job" || fs::file_size(entry.path()) > 20'000) continue;
    SCOPED_TRACE(entry.path().string());
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream read;
    read << file.rdbuf();
    const std::string directory = entry.path().parent_path().string();
    SourceManager sources;
    Diagnostics diags;
    Check(sources.Add(entry.path().string(), read.str(), directory), sources, diags);
    diags.Sort();
    EXPECT_LE(FixText(entry.path().string(), directory, read.str()).errors_left, diags.error_count());
  }
}

}  // namespace
}  // namespace jobc
