// `jobc schema`: JSON Schemas, of one file's parameters and results (json_schema.h) and of the published formats.
#include <fmt/format.h>

#include "compiler/check/check.h"
#include "compiler/driver/json_schema.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "support/exit_code.h"

// docs/schemas, embedded.
extern const char kPlanSchema[];
extern const unsigned long kPlanSchemaSize;
extern const char kEventsSchema[];
extern const unsigned long kEventsSchemaSize;
extern const char kStatusSchema[];
extern const unsigned long kStatusSchemaSize;

namespace jobc {

namespace {

int Refuse(Terminal& terminal, std::string message, std::vector<std::string> helps) {
  terminal.Err(RenderUsageError({std::move(message), std::move(helps)}, terminal.err_color()));
  return kExitUsage;
}

/// nullopt after the reason was told.
std::optional<uint32_t> FindJob(const Model& model, const std::string& name, Terminal& terminal) {
  std::vector<std::string_view> names;
  for (uint32_t i = 0; i < model.plan.jobs.size(); ++i) {
    if (model.plan.jobs[i].address == name) return i;
    names.push_back(model.plan.jobs[i].address);
  }
  std::vector<std::string> helps;
  const std::string_view similar = DidYouMean(name, names);
  if (!similar.empty()) {
    helps.push_back(fmt::format("did you mean `{}`?", similar));
  } else if (!names.empty()) {
    helps.push_back(fmt::format("the jobs of this file are {}", fmt::join(names, ", ")));
  }
  Refuse(terminal, fmt::format("there is no job `{}`", name), std::move(helps));
  return std::nullopt;
}

}  // namespace

int RunSchema(const Invocation& invocation, Terminal& terminal) {
  const std::vector<std::string>& arguments = invocation.arguments();
  const std::string& what = arguments[0];
  if (what == "plan" || what == "events" || what == "status") {
    if (arguments.size() > 1) return Refuse(terminal, fmt::format("the schema of {} is the same for every file", what), {fmt::format("jobc schema {}", what)});
    terminal.Out(what == "plan"     ? std::string_view(kPlanSchema, kPlanSchemaSize)
                 : what == "events" ? std::string_view(kEventsSchema, kEventsSchemaSize)
                                    : std::string_view(kStatusSchema, kStatusSchemaSize));
    return kExitOk;
  }
  const bool of_job = what == "job";
  if (arguments.size() < 2 || (of_job && arguments.size() < 3)) {
    return Refuse(terminal, arguments.size() < 2 ? "FILE is missing: the .job file" : "JOB is missing: whose $JOB_RESULT is meant",
                  {fmt::format("usage:  jobc schema {} FILE{}", what, of_job ? " JOB" : what == "result" ? " [JOB]" : "")});
  }
  if (what == "params" && arguments.size() > 2) return Refuse(terminal, fmt::format("`{}` is one argument too many", arguments[2]), {"usage:  jobc schema params FILE"});
  SourceManager sources;
  LoadedRoot root = LoadRoot(arguments[1], sources);
  if (root.error) {
    terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
    return kExitUsage;
  }
  Diagnostics diags;
  const Model model = Check(*root.source, sources, diags);
  if (const int code = ReportDiagnostics(invocation, terminal, sources, diags, true); code != kExitOk) return code;
  const std::string& name = sources[*root.source].name;
  if (what == "params") {
    terminal.Out(ParamsSchema(model, name));
  } else if (arguments.size() == 2) {
    terminal.Out(ExportsSchema(model, name));
  } else {
    const std::optional<uint32_t> job = FindJob(model, arguments[2], terminal);
    if (!job) return kExitUsage;
    terminal.Out(of_job ? JobResultSchema(model, *job) : OutputsSchema(model, *job));
  }
  return kExitOk;
}

}  // namespace jobc
