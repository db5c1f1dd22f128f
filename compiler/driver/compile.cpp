#include "compiler/driver/compile.h"

#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>

#include "compiler/check/check.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "ir/plan_json.h"
#include "runtime/staged.h"
#include "runtime/state_dir.h"
#include "storage/identify.h"
#include "storage/s3_settings.h"
#include "support/exit_code.h"

extern char** environ;

namespace jobc {

std::optional<UsageError> ReadLowerOptions(const Invocation& invocation, LowerOptions& options) {
  options.profile = std::string(invocation.ValueOr("--profile", ""));
  for (std::string_view param : invocation.Values("--param")) {
    ParamOption option;
    if (!param.empty() && param[0] == '@') {
      option.is_file = true;
      option.text = std::string(param.substr(1));
    } else {
      size_t equals = param.find('=');
      if (equals == std::string_view::npos || equals == 0) {
        return UsageError{fmt::format("`-p {}` sets nothing", param), {"write `-p name=value` or `-p @file.json`"}};
      }
      option.name = std::string(param.substr(0, equals));
      option.text = std::string(param.substr(equals + 1));
    }
    options.params.push_back(std::move(option));
  }
  constexpr std::string_view kPrefix = "JOB_PARAM_";
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    size_t equals = text.find('=');
    if (text.substr(0, kPrefix.size()) != kPrefix || equals == std::string_view::npos) continue;
    options.environment.emplace_back(std::string(text.substr(kPrefix.size(), equals - kPrefix.size())), std::string(text.substr(equals + 1)));
  }
  return std::nullopt;
}

namespace {

std::vector<RemoteDescription> DescribeRemote(const std::vector<std::string>& uris) {
  std::vector<RemoteDescription> out;
  for (const storage::Outcome<storage::RemoteIdentity>& answer : storage::IdentifyAll(uris)) {
    RemoteDescription& one = out.emplace_back();
    if (answer.ok()) {
      one.etag = answer->etag;
      one.version = answer->version;
      one.size = answer->size;
    } else {
      one.problem = answer.failure().message;
      one.missing = answer.failure().kind == storage::FailureKind::Missing;
    }
  }
  return out;
}

/// Looks at this machine alone: whether a bucket takes it is known when something is sent.
std::string WhyNotStaged(const std::string& text, const std::string& root_directory, const Invocation& invocation) {
  std::string root = std::filesystem::absolute(root_directory.empty() ? "." : root_directory).lexically_normal().string();
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  Result<std::string> place = StagingPlace(text, root);
  if (!place.ok()) return "";  // of another backend, or told by the run: exit code 14
  if (place->starts_with("s3://")) {
    Result<storage::S3Settings> settings = storage::ReadS3Settings(storage::ProcessSurroundings());
    return settings.ok() ? "" : settings.error().message;
  }
  const std::string state(invocation.ValueOr("--state", ""));
  const std::string state_dir = std::filesystem::path(StateDirForSource(root, state.empty() ? "" : std::filesystem::absolute(state).string())).lexically_normal().string();
  if ((std::filesystem::path(*place).lexically_normal().string() + "/").starts_with(state_dir + "/")) return fmt::format("it lies in the state directory `{}`, whose content belongs to jobc", state_dir);
  return WhyNoStagingFolder(*place);
}

bool IsPlanFile(const Source& source) {
  size_t first = source.text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && source.text[first] == '{';
}

}  // namespace

Compiled CompileFile(const std::string& path, const Invocation& invocation, Terminal& terminal, bool bounds) {
  Compiled result;
  result.root_path = path;
  LowerOptions options;
  options.bounds = bounds;
  options.describe_remote = DescribeRemote;
  if (std::optional<UsageError> error = ReadLowerOptions(invocation, options)) {
    terminal.Err(RenderUsageError(*error, terminal.err_color()));
    result.exit_code = kExitUsage;
    return result;
  }
  SourceManager sources;
  LoadedRoot root = LoadRoot(path, sources);
  if (root.error) {
    terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
    result.exit_code = kExitUsage;
    return result;
  }
  result.root_directory = sources[*root.source].directory;
  options.staging_problem = [&](const std::string& text) { return WhyNotStaged(text, result.root_directory, invocation); };
  if (IsPlanFile(sources[*root.source])) {
    if (!options.params.empty() || !options.profile.empty()) {
      terminal.Err(RenderUsageError({"a plan has its parameters and profile already", {"give `-p` and `--profile` to `jobc plan`, where the plan is made"}}, terminal.err_color()));
      result.exit_code = kExitUsage;
      return result;
    }
    Result<ir::Plan> plan = ir::ReadPlan(sources[*root.source].text);
    if (!plan.ok()) {
      terminal.Err(RenderUsageError({fmt::format("`{}` is no plan that can be run: {}", path, plan.error().message), {"make it again:  jobc plan FILE -o plan.json"}}, terminal.err_color()));
      result.exit_code = kExitDiagnostics;
      return result;
    }
    result.plan = std::move(*plan);
    result.from_plan = true;
    return result;
  }
  Diagnostics diags;
  Model model = Check(*root.source, sources, diags);
  if (!diags.has_errors()) result.plan = Lower(std::move(model), options, sources, diags);
  result.exit_code = ReportDiagnostics(invocation, terminal, sources, diags, true);
  if (result.exit_code != kExitOk) result.plan.reset();
  return result;
}

}  // namespace jobc
