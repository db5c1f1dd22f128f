// `jobc plan`: the plan as canonical JSON for tools, as a table for people, or instance by instance.
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compiler/bounds/bounds.h"
#include "compiler/check/check.h"
#include "compiler/driver/compile.h"
#include "compiler/driver/load.h"
#include "compiler/driver/plan_diff.h"
#include "compiler/driver/plan_text.h"
#include "compiler/driver/report.h"
#include "compiler/driver/since.h"
#include "compiler/ast/dump.h"
#include "compiler/parse/parse.h"
#include "ir/json.h"
#include "ir/plan_json.h"
#include "runtime/process/cgroup.h"
#include "runtime/state_dir.h"
#include "support/exit_code.h"
#include "support/write_file.h"

namespace jobc {
namespace {

int DumpStage(std::string_view stage, const std::string& path, const Invocation& invocation, Terminal& terminal) {
  SourceManager sources;
  LoadedRoot root = LoadRoot(path, sources);
  if (root.error) {
    terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
    return kExitUsage;
  }
  Diagnostics diags;
  if (stage == "parse") {
    terminal.Out(DumpParseTree(*root.source, sources, diags));
  } else if (stage == "ast") {
    ast::File file = Parse(*root.source, sources, diags);
    terminal.Out(DumpAst(file, sources));
  } else {
    Model model = Check(*root.source, sources, diags);
    terminal.Out(DumpModel(model));
  }
  return ReportDiagnostics(invocation, terminal, sources, diags, true);
}

/// What the plan cannot hold, since it depends on the machine: whether claims of local jobs are enforced here.
void NoteEnforcement(const ir::Plan& plan, Terminal& terminal) {
  bool memory = false, cpu = false;
  for (const ir::Job& job : plan.jobs) {
    if (job.backend.kind != ir::BackendKind::Process || job.kind == ir::JobKind::Check) continue;
    memory = memory || job.resources.memory.valid();
    cpu = cpu || job.resources.cpu.valid();
  }
  if (!memory && !cpu) return;
  const process::Enforcement enforcement = process::ProbeEnforcement();
  std::string what;
  if (memory && !enforcement.memory) what = "memory";
  if (cpu && !enforcement.cpu) what += what.empty() ? "cpu" : " and cpu";
  if (what.empty()) return;
  terminal.Err(fmt::format("note: on this machine {} claims decide only what starts together; a job may use more ({})\n", what, enforcement.why_not));
}

/// `--against PLAN`: a plan that somebody signed off, checked again.
int Against(const Compiled& compiled, const std::string& path, const Invocation& invocation, Terminal& terminal) {
  SourceManager sources;
  LoadedRoot root = LoadRoot(path, sources);
  if (root.error) {
    root.error->helps.push_back(fmt::format("make it:  jobc plan {} -o {}", ShellQuote(compiled.root_path), ShellQuote(path)));
    terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
    return kExitUsage;
  }
  Result<ir::Plan> kept = ir::ReadPlan(sources[*root.source].text);
  if (!kept.ok()) {
    terminal.Err(RenderUsageError({fmt::format("`{}` is no plan: {}", path, kept.error().message), {fmt::format("make it again:  jobc plan {} -o {}", ShellQuote(compiled.root_path), ShellQuote(path))}}, terminal.err_color()));
    return kExitDiagnostics;
  }
  const bool same = ir::WritePlan(*compiled.plan) == ir::WritePlan(*kept);
  const std::vector<PlanChange> changes = ComparePlans(*kept, *compiled.plan);
  const int code = invocation.Has("--exit-code") && !same ? kExitPending : kExitOk;
  if (invocation.json()) {
    std::string out = fmt::format("{{\"schema\":\"jobc.diff/1\",\"a\":{},\"b\":{},\"different\":{},\"changes\":[", ir::JsonQuote(path), ir::JsonQuote(compiled.root_path), !same);
    for (size_t i = 0; i < changes.size(); ++i) out += (i == 0 ? "" : ",") + PlanChangeJson(changes[i]);
    terminal.Out(out + "]}\n");
    return code;
  }
  if (same) {
    terminal.Out(fmt::format("{} is up to date\n", path));
    return code;
  }
  terminal.Out(fmt::format("{} is out of date\n{}", path, PlanChangesText(changes)));
  if (changes.empty()) terminal.Out("  nothing that means anything: positions in the source, or another version of jobc\n");
  std::string command = "jobc plan " + ShellQuote(compiled.root_path);
  if (std::string_view profile = invocation.ValueOr("--profile", ""); !profile.empty()) command += " --profile " + ShellQuote(profile);
  for (std::string_view param : invocation.Values("--param")) command += " -p " + ShellQuote(param);
  terminal.Err(fmt::format("accept the new plan:  {} -o {}\n", command, ShellQuote(path)));
  return code;
}

}  // namespace

int RunPlan(const Invocation& invocation, Terminal& terminal) {
  const std::string& path = invocation.arguments().front();
  std::string_view stage = invocation.ValueOr("--stop-after", "plan");
  if (stage != "plan") return DumpStage(stage, path, invocation, terminal);
  Compiled compiled = CompileFile(path, invocation, terminal, invocation.Has("--bounds"));
  if (!compiled.plan) return compiled.exit_code;
  const ir::Plan& plan = *compiled.plan;
  if (std::optional<std::string_view> kept = invocation.Value("--against")) return Against(compiled, std::string(*kept), invocation, terminal);
  if (invocation.Has("--since") || invocation.Has("--exit-code")) return ShowForecast(compiled, std::string(invocation.ValueOr("--since", "")), invocation, terminal);
  if (!invocation.json()) NoteEnforcement(plan, terminal);
  const std::string_view file = invocation.ValueOr("--output", "");
  if (!file.empty()) {
    if (file == "-") {
      terminal.Out(ir::WritePlan(plan));
    } else if (Result<void> written = WriteNamedFile(std::string(file), ir::WritePlan(plan)); !written.ok()) {
      terminal.Err(RenderUsageError({written.error().message, {}}, terminal.err_color()));
      return kExitEnvironment;
    }
    if (!invocation.Has("--bounds")) return kExitOk;
  }
  if (invocation.Has("--bounds")) {
    if (invocation.Has("--expand")) {
      terminal.Out(bounds::InstanceBoundsText(plan, invocation.json()));
    } else {
      const bounds::PlanBounds bounds = bounds::Bound(plan);
      terminal.Out(invocation.json() ? bounds::BoundsJson(plan, bounds) : bounds::BoundsText(plan, bounds));
    }
    return kExitOk;
  }
  if (invocation.Has("--expand")) {
    return ExpandPlan(plan, compiled.root_directory, invocation.json(), terminal);
  }
  if (invocation.Has("--dump")) {
    terminal.Out(ir::WritePlan(plan, 2));
  } else if (invocation.json() || !terminal.out_is_terminal()) {
    terminal.Out(ir::WritePlan(plan));
  } else {
    terminal.Out(PlanTable(plan, path));
  }
  return kExitOk;
}

}  // namespace jobc
