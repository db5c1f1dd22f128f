// Golden tests: each .job file holds its expectations in comments,
//
//     # EXPECT @+1:11: error[E101]: no job named `algin`
//     after = [algin]
//
// where `@+1` counts lines from the comment, and `@-` is a diagnostic without a place in this file. A file without EXPECT comments must be free of diagnostics. Files in folders
// called `lib` are only imported. Files below `plan` are also planned, with the arguments of their `# PARAMS` comment.
// `golden_test --update` rewrites the comments; doing it twice changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "compiler/check/check.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/diagnostics/render.h"
#include "compiler/lower/lower.h"
#include "compiler/parse/parse.h"

namespace jobc {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "# EXPECT @";

/// One diagnostic, by the line it stands in; `text` is `11: error[E101]: …`.
struct Expectation {
  size_t line = 0;
  std::string text;
  auto operator<=>(const Expectation&) const = default;
};

std::string Show(const Expectation& e) { return "line " + std::to_string(e.line) + ":" + e.text; }
void PrintTo(const Expectation& e, std::ostream* out) { *out << Show(e); }

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The rest of a line `# PARAMS -p a=b -p @file --profile x JOB_PARAM_k=v`.
LowerOptions OptionsOf(const std::string& text) {
  LowerOptions options;
  for (const std::string& line : Lines(text)) {
    if (line.rfind("# PARAMS", 0) != 0) continue;
    std::istringstream words(line.substr(8));
    constexpr std::string_view kVariable = "JOB_PARAM_";
    for (std::string word; words >> word;) {
      std::string value = word;
      if (word == "-p" || word == "--profile") words >> value;
      const size_t equals = value.find('=');
      if (word == "--profile") {
        options.profile = value;
      } else if (word == "-p" && value[0] == '@') {
        options.params.push_back({true, "", value.substr(1)});
      } else if (word == "-p") {
        options.params.push_back({false, value.substr(0, equals), value.substr(equals + 1)});
      } else {
        options.environment.emplace_back(value.substr(kVariable.size(), equals - kVariable.size()), value.substr(equals + 1));
      }
    }
  }
  return options;
}

struct Checked {
  std::vector<Expectation> found;            ///< sorted
  std::set<std::string_view> kinds;
  std::string rendered;
  std::set<size_t> unbreakable;              ///< lines inside heredocs: no comment can stand above them
};

/// Servers that are not there: the host says what they answer.
std::vector<RemoteDescription> Describe(const std::vector<std::string>& uris) {
  std::vector<RemoteDescription> answers;
  for (const std::string& uri : uris) {
    RemoteDescription answer;
    if (uri.find("//missing.") != std::string::npos) {
      answer.missing = true;
      answer.problem = "there is no " + uri;
    } else if (uri.find("//down.") != std::string::npos) {
      answer.problem = "cannot reach " + uri;
    } else if (uri.find("//unnamed.") == std::string::npos) {
      answer.etag = "\"1\"";
      answer.size = 12;
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}

Checked CheckFile(const fs::path& path) {
  Checked result;
  SourceManager sources;
  Result<SourceId> root = sources.Load(path.string());
  if (!root.ok()) {
    ADD_FAILURE() << path << ": " << root.error().message;
    return result;
  }
  Diagnostics diags;
  Model model = Check(root.value(), sources, diags);
  if (path.parent_path().filename() == "plan" && !diags.has_errors()) {
    LowerOptions options = OptionsOf(ReadFile(path));
    options.describe_remote = Describe;
    Lower(std::move(model), options, sources, diags);
  }
  diags.Sort();
  for (const Diagnostic& d : diags.all()) {
    result.kinds.insert(d.kind->name);
    std::string text;
    size_t line = 0;
    if (d.primary.span.valid()) {
      LineColumn at = sources.Locate(d.primary.span.source, d.primary.span.begin);
      line = at.line;
      text = std::to_string(at.column) + ": ";
      if (d.primary.span.source != root.value()) {
        text = fs::path(sources[d.primary.span.source].name).filename().string() + ":" + std::to_string(at.line) + ":" + text;
        line = 0;
      }
    }
    text += std::string(d.kind->severity == Severity::Error ? "error" : "warning") + "[" + std::string(d.kind->code) + "]: " + d.message;
    result.found.push_back({line, text});
  }
  std::sort(result.found.begin(), result.found.end());
  result.rendered = RenderText(diags, sources, {});
  Diagnostics ignored;
  ast::File file = Parse(root.value(), sources, ignored);
  for (const ast::Expr& e : file.exprs) {
    if (e.kind != ast::ExprKind::Heredoc) continue;
    size_t first = sources.Locate(e.span.source, e.span.begin).line, last = sources.Locate(e.span.source, e.span.end).line;
    for (size_t line = first + 1; line <= last; ++line) result.unbreakable.insert(line);
  }
  return result;
}

std::vector<Expectation> Expected(const fs::path& path) {
  std::vector<Expectation> all;
  std::vector<std::string> lines = Lines(ReadFile(path));
  for (size_t i = 0; i < lines.size(); ++i) {
    size_t at = lines[i].find(kMark);
    if (at == std::string::npos) continue;
    std::string rest = lines[i].substr(at + kMark.size());
    if (rest.rfind("-:", 0) == 0) {
      all.push_back({0, rest.substr(2)});
      continue;
    }
    size_t used = 0;
    long offset = 0;
    try {
      offset = std::stol(rest, &used);
    } catch (const std::exception&) {
      ADD_FAILURE() << path << ":" << i + 1 << ": expected `# EXPECT @+LINES:COLUMN: …`";
      continue;
    }
    all.push_back({static_cast<size_t>(static_cast<long>(i) + 1 + offset), rest.substr(used + 1)});
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// Rewrites the EXPECT comments of one file; returns whether it changed.
bool Update(const fs::path& path) {
  std::string before = ReadFile(path);
  Checked checked = CheckFile(path);
  std::vector<std::string> lines = Lines(before);
  // Positions were found with the old comments in place; group by the line they belong to, above what cannot be broken.
  std::map<size_t, std::vector<Expectation>> above;
  for (const Expectation& e : checked.found) {
    size_t line = std::min(e.line, lines.size() + 1);  // 0: without a place
    while (line > 1 && checked.unbreakable.count(line) != 0) --line;
    above[line].push_back(e);
  }
  auto is_mark = [&](size_t line) { return line >= 1 && line <= lines.size() && lines[line - 1].find(kMark) != std::string::npos; };
  // Old number -> new number of each line that stays.
  std::vector<size_t> number(lines.size() + 2, 0);
  const size_t placeless = above.count(0) != 0 ? above[0].size() : 0;
  size_t next = 1 + placeless;
  for (size_t line = 1; line <= lines.size() + 1; ++line) {
    if (auto it = above.find(line); it != above.end()) next += it->second.size();
    number[line] = next;
    if (!is_mark(line)) ++next;
  }
  std::string after;
  next = 1 + placeless;
  for (size_t i = 0; i < placeless; ++i) after += std::string(kMark) + "-:" + above[0][i].text + "\n";
  for (size_t line = 1; line <= lines.size() + 1; ++line) {
    if (auto it = above.find(line); it != above.end()) {
      std::string indent;
      if (line <= lines.size()) indent = lines[line - 1].substr(0, std::min(lines[line - 1].size(), lines[line - 1].find_first_not_of(' ')));
      for (const Expectation& e : it->second) {
        after += indent + std::string(kMark) + "+" + std::to_string(number[std::min(e.line, lines.size() + 1)] - next) + ":" + e.text + "\n";
        ++next;
      }
    }
    if (line <= lines.size() && !is_mark(line)) {
      after += lines[line - 1] + "\n";
      ++next;
    }
  }
  if (after == before) return false;
  std::ofstream(path, std::ios::binary) << after;
  return true;
}

std::vector<fs::path> GoldenFiles(const char* folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path("tests/golden") / folder)) {
    if (entry.path().extension() == ".job" && entry.path().parent_path().filename() != "lib") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class Golden : public testing::TestWithParam<fs::path> {};

TEST_P(Golden, SaysWhatItsCommentsExpect) {
  Checked checked = CheckFile(GetParam());
  EXPECT_THAT(checked.found, testing::ElementsAreArray(Expected(GetParam()))) << checked.rendered;
}

std::string TestName(const testing::TestParamInfo<fs::path>& info) {
  std::string name = info.param.stem().string();
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

/// What no file of this folder can show, with the test that does.
const std::set<std::string_view> kShownElsewhere = {
    "SourceTooLarge",             // the next test: a file of that size would be too large for the repository
    "LockBroken",                 // tests/driver/lock_images_test.py: needs a damaged lock
    "LockDiffers",                // tests/driver/lock_test.py: needs a cache and an address
    "JobsTooDeep",                // tests/driver/chains_test.py, for the same reason
    "NameStyle", "Undocumented", "ShellFinding",  // tests of `jobc lint`, which alone gives them
};

TEST(GoldenFiles, AreNotNeededForASourceThatIsTooLarge) {
  SourceManager sources;
  SourceId root = sources.Add("large.job", std::string((size_t{64} << 20) + 1, ' '));
  Diagnostics diags;
  Check(root, sources, diags);
  std::set<std::string_view> kinds;
  for (const Diagnostic& d : diags.all()) kinds.insert(d.kind->name);
  EXPECT_THAT(kinds, testing::ElementsAre("SourceTooLarge"));
}

TEST(GoldenFiles, ShowEveryKindOfDiagnostic) {
  std::set<std::string_view> fired = kShownElsewhere;
  for (const char* folder : {"check", "plan"}) {
    for (const fs::path& path : GoldenFiles(folder)) {
      for (std::string_view kind : CheckFile(path).kinds) fired.insert(kind);
    }
  }
  for (const DiagnosticKind* kind : AllDiagnosticKinds()) {
    EXPECT_EQ(fired.count(kind->name), 1u) << kind->code << " " << kind->name << ": add a golden file in which it is given";
  }
}

/// The near misses: for every code there is a file that comes close to it and is free of it. It is called CODE_…_ok.job, or
/// names the codes in a comment `# NEAR MISS: E101 E102`.
TEST(GoldenFiles, ShowForEveryCodeWhereItDoesNotFire) {
  std::set<std::string> near;
  for (const char* folder : {"check", "plan"}) {
    for (const fs::path& path : GoldenFiles(folder)) {
      constexpr std::string_view kNear = "# NEAR MISS:";
      std::string codes;
      for (const std::string& line : Lines(ReadFile(path))) {
        if (line.rfind(kNear, 0) == 0) codes += line.substr(kNear.size()) + " ";
      }
      const std::string name = path.stem().string();
      if (name.size() > 6 && name.compare(name.size() - 3, 3, "_ok") == 0) codes += static_cast<char>(name[0] - 'a' + 'A') + name.substr(1, 3);
      if (codes.empty()) continue;
      const Checked checked = CheckFile(path);
      std::istringstream words(codes);
      for (std::string code; words >> code;) {
        near.insert(code);
        for (const Expectation& e : checked.found) EXPECT_EQ(e.text.find("[" + code + "]"), std::string::npos) << path << ": " << Show(e);
      }
    }
  }
  for (const DiagnosticKind* kind : AllDiagnosticKinds()) {
    if (kShownElsewhere.count(kind->name) != 0) continue;
    EXPECT_EQ(near.count(std::string(kind->code)), 1u) << kind->code << ": say in a golden file that comes close to it  # NEAR MISS: " << kind->code;
  }
}

INSTANTIATE_TEST_SUITE_P(Plan, Golden, testing::ValuesIn(GoldenFiles("plan")), TestName);
INSTANTIATE_TEST_SUITE_P(Check, Golden, testing::ValuesIn(GoldenFiles("check")), TestName);
INSTANTIATE_TEST_SUITE_P(Samples, Golden, testing::ValuesIn(GoldenFiles("samples")), TestName);

}  // namespace
}  // namespace jobc

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "--update") {
    for (const char* folder : {"check", "plan"}) {
      for (const auto& path : jobc::GoldenFiles(folder)) {
        if (jobc::Update(path)) std::printf("updated %s\n", path.c_str());
      }
    }
    return 0;
  }
  if (argc > 1 && std::string_view(argv[1]) == "--show") {
    for (int i = 2; i < argc; ++i) std::fputs(jobc::CheckFile(argv[i]).rendered.c_str(), stdout);
    return 0;
  }
  if (argc > 1 && std::string_view(argv[1]) == "--unfired") {  // kinds of diagnostics that no golden file shows
    std::set<std::string_view> fired;
    for (const char* folder : {"check", "plan"}) {
      for (const auto& path : jobc::GoldenFiles(folder)) {
        for (std::string_view kind : jobc::CheckFile(path).kinds) fired.insert(kind);
      }
    }
    for (const jobc::DiagnosticKind* kind : jobc::AllDiagnosticKinds()) {
      if (fired.count(kind->name) == 0) std::printf("%s %s\n", std::string(kind->code).c_str(), std::string(kind->name).c_str());
    }
    return 0;
  }
  return RUN_ALL_TESTS();
}
