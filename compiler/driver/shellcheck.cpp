#include "compiler/driver/shellcheck.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "ir/json.h"

extern char** environ;

namespace jobc {
namespace {

namespace fs = std::filesystem;

/// Files for one process: enough to make its start cheap, few enough to use all processors.
constexpr size_t kMostFilesAtOnce = 64;

/// Findings that would be wrong here:
///   SC1090, SC1091  files that are sourced lie where the job runs
///   SC2148          the interpreter is named by the heredoc's tag
///   SC2154          variables come from `env`, the run contract and the prologue
///   SC2317          the epilogue's and trap's functions look unreachable
constexpr std::string_view kExcluded = "SC1090,SC1091,SC2148,SC2154,SC2317";
/// Beside them, in a prologue or epilogue: what it sets may be used by the script.
constexpr std::string_view kExcludedOutside = ",SC2034";

struct Group {
  bool bash = false;
  bool main = true;
  std::vector<size_t> scripts;
  std::string answer;   ///< path of the file with what it printed
  pid_t pid = -1;
};

/// Byte offset of a 1-based line and column, which counts characters.
std::optional<uint32_t> OffsetOf(const std::string& text, int64_t line, int64_t column) {
  size_t at = 0;
  for (int64_t l = 1; l < line; ++l) {
    at = text.find('\n', at);
    if (at == std::string::npos) return std::nullopt;
    ++at;
  }
  for (int64_t c = 1; c < column; ++c) {
    if (at >= text.size() || text[at] == '\n') return c + 1 == column && at >= text.size() ? std::optional<uint32_t>(static_cast<uint32_t>(at)) : std::nullopt;
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  }
  return static_cast<uint32_t>(at);
}

/// The place in the source, where the byte before or at `offset` was copied from it. `end`: of a range.
std::optional<uint32_t> SourceOffset(const ShellScript& script, uint32_t offset, bool end) {
  const uint32_t looked_at = end && offset > 0 ? offset - 1 : offset;
  auto after = std::upper_bound(script.positions.begin(), script.positions.end(), looked_at, [](uint32_t at, const ShellScript::Anchor& a) { return at < a.text; });
  if (after == script.positions.begin()) return std::nullopt;
  const ShellScript::Anchor& anchor = *std::prev(after);
  if (!anchor.copied) return std::nullopt;
  return anchor.source + (offset - anchor.text);
}

std::optional<int64_t> IntOf(const ir::Value& object, std::string_view name) {
  const ir::Value* value = object.Find(name);
  if (value == nullptr || value->kind() != ir::ValueKind::Int) return std::nullopt;
  return value->as_int();
}

/// The source range of an object with line, column, endLine and endColumn.
std::optional<Span> RangeOf(const ir::Value& object, const ShellScript& script) {
  const auto line = IntOf(object, "line"), column = IntOf(object, "column"), end_line = IntOf(object, "endLine"), end_column = IntOf(object, "endColumn");
  if (!line || !column || !end_line || !end_column) return std::nullopt;
  // The preamble is one line.
  const auto begin = OffsetOf(script.text, *line - 1, *column), end = OffsetOf(script.text, *end_line - 1, *end_column);
  if (!begin || !end || *line < 2) return std::nullopt;
  const auto from = SourceOffset(script, *begin, false), to = SourceOffset(script, *end, *end > *begin);
  if (!from) return std::nullopt;
  // A range that ends in a value jobc put in, or in another line, is shown by its beginning.
  if (!to || *to < *from) return Span{script.source, *from, *from + 1};
  return Span{script.source, *from, *to};
}

void EmitComment(const ir::Value& comment, const ShellScript& script, Diagnostics& diags) {
  const std::optional<int64_t> code = IntOf(comment, "code");
  const ir::Value* text = comment.Find("message");
  const std::optional<Span> span = RangeOf(comment, script);
  if (!code || text == nullptr || text->kind() != ir::ValueKind::String || !span) return;
  std::string message = text->as_string();
  while (!message.empty() && (message.back() == '.' || message.back() == '\n')) message.pop_back();
  auto& d = diags.Emit(*span, diag::ShellFinding, std::to_string(*code), message).Label("found by shellcheck");
  const ir::Value* fix = comment.Find("fix");
  const ir::Value* replacements = fix != nullptr && fix->kind() == ir::ValueKind::Map ? fix->Find("replacements") : nullptr;
  if (replacements != nullptr && replacements->kind() == ir::ValueKind::List) {
    std::vector<Edit> edits;
    bool whole = true;
    for (const ir::Value& each : replacements->as_list()) {
      const ir::Value* put = each.kind() == ir::ValueKind::Map ? each.Find("replacement") : nullptr;
      const std::optional<Span> at = put != nullptr ? RangeOf(each, script) : std::nullopt;
      whole = whole && at && put->kind() == ir::ValueKind::String;
      if (whole) edits.push_back({*at, put->as_string()});
    }
    if (whole && !edits.empty()) d.AddHelp("what shellcheck would write", std::move(edits));
  }
  d.Note(fmt::format("https://www.shellcheck.net/wiki/SC{}", *code));
}

bool InPath(const std::string& program) {
  if (program.find('/') != std::string::npos) return access(program.c_str(), X_OK) == 0;
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (access(((folder.empty() ? "." : folder) + "/" + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

bool Start(Group& group, const std::string& program, const fs::path& directory) {
  std::vector<std::string> words{program, "--norc", "--format=json1", "--severity=info", group.bash ? "--shell=bash" : "--shell=sh",
                                 fmt::format("--exclude={}{}", kExcluded, group.main ? "" : kExcludedOutside)};
  for (size_t i : group.scripts) words.push_back((directory / fmt::format("{}.sh", i)).string());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, group.answer.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  const bool started = posix_spawnp(&group.pid, program.c_str(), &actions, nullptr, argv.data(), environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  if (!started) group.pid = -1;
  return started;
}

}  // namespace

std::string_view Preamble(const ShellScript& script) { return script.bash ? "set -euo pipefail\n" : "set -eu\n"; }

void EmitFindings(std::string_view json, const std::vector<ShellScript>& scripts, const SourceManager&, Diagnostics& diags) {
  const Result<ir::Value> parsed = ir::ParseJson(std::string(json));
  const ir::Value* comments = parsed.ok() && parsed->kind() == ir::ValueKind::Map ? parsed->Find("comments") : nullptr;
  if (comments == nullptr || comments->kind() != ir::ValueKind::List) return;
  for (const ir::Value& comment : comments->as_list()) {
    if (comment.kind() != ir::ValueKind::Map) continue;
    const ir::Value* file = comment.Find("file");
    if (file == nullptr || file->kind() != ir::ValueKind::String) continue;
    const std::string name = fs::path(file->as_string()).stem().string();
    if (name.empty() || name.find_first_not_of("0123456789") != std::string::npos || name.size() > 9) continue;
    const size_t index = std::stoul(name);
    if (index < scripts.size()) EmitComment(comment, scripts[index], diags);
  }
}

void RunShellcheck(const std::vector<ShellScript>& scripts, const SourceManager& sources, Diagnostics& diags, const std::string& program) {
  if (scripts.empty() || !InPath(program)) return;
  std::string pattern = (fs::temp_directory_path() / "jobc-lint-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return;
  const fs::path directory = pattern;
  std::vector<Group> groups;
  const size_t at_once = std::max(1u, std::thread::hardware_concurrency());
  const size_t most = std::clamp(scripts.size() / at_once + 1, size_t{1}, kMostFilesAtOnce);
  for (size_t i = 0; i < scripts.size(); ++i) {
    const ShellScript& script = scripts[i];
    std::ofstream(directory / fmt::format("{}.sh", i), std::ios::binary) << Preamble(script) << script.text;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.bash == script.bash && g.main == script.main && g.scripts.size() < most; });
    if (group == groups.end()) {
      groups.push_back({script.bash, script.main, {}, (directory / fmt::format("answer-{}", groups.size())).string(), -1});
      group = std::prev(groups.end());
    }
    group->scripts.push_back(i);
  }
  for (size_t next = 0, done = 0; done < groups.size(); ++done) {
    while (next < groups.size() && next < done + at_once) Start(groups[next++], program, directory);
    Group& group = groups[done];
    if (group.pid < 0) continue;
    int status = 0;
    while (waitpid(group.pid, &status, 0) < 0 && errno == EINTR) {
    }
    std::ifstream in(group.answer, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    EmitFindings(text.str(), scripts, sources, diags);
  }
  std::error_code ignored;
  fs::remove_all(directory, ignored);
}

}  // namespace jobc
