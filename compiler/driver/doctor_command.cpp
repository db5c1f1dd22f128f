// `jobc doctor`: what works on this machine, what does not, and what would change that.
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backends/registry.h"
#include "compiler/check/schema.h"
#include "compiler/driver/command_line.h"
#include "compiler/driver/doctor_backends.h"
#include "compiler/driver/runs.h"
#include "compiler/driver/terminal.h"
#include "ir/evaluate.h"
#include "ir/json.h"
#include "runtime/process/cgroup.h"
#include "runtime/process/guardian.h"
#include "runtime/state_dir.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

/// Where attempts look: their PATH, not jobc's own.
std::string FindInterpreter(const std::string& name) {
  for (const char* directory : {"/usr/local/bin/", "/usr/bin/", "/bin/"}) {
    std::string path = directory + name;
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

int64_t MemoryBytes() { return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE); }

void ProcessFindings(std::vector<Finding>& out) {
  process::Enforcement enforcement = process::ProbeEnforcement();
  out.push_back({"process", "whole-tree kill", true, true, enforcement.tree_kill_by_cgroup ? "by control groups" : "by a subreaper for each attempt", ""});
  const std::string limits = "limits are admission only: a job may use more than it claims";
  out.push_back({"process", "memory limit", enforcement.memory, false, enforcement.memory ? "enforced, `oom` is detected" : limits, enforcement.memory ? "" : enforcement.why_not});
  out.push_back({"process", "cpu limit", enforcement.cpu, false, enforcement.cpu ? "enforced" : limits, enforcement.cpu ? "" : enforcement.why_not});
  out.push_back({"process", "process limit", enforcement.pids, false, enforcement.pids ? "enforced" : "not enforced", enforcement.pids ? "" : enforcement.why_not});
  if (!enforcement.how.empty()) out.push_back({"process", "how", true, true, enforcement.how, ""});
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  int count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  out.push_back({"process", "capacity", true, true, fmt::format("{} cpu{}, {} of memory", count, count == 1 ? "" : "s", ir::BytesForPeople(MemoryBytes())), ""});
  for (auto [program, tag, package] : {std::tuple{"sh", "SH", "dash"}, {"bash", "BASH", "bash"}, {"python3", "PY", "python3"}, {"Rscript", "R", "r-base-core"}}) {
    std::string path = FindInterpreter(program);
    out.push_back({"process", fmt::format("scripts <<~{}", tag), !path.empty(), false, path.empty() ? fmt::format("`{}` is not installed", program) : path,
                   path.empty() ? fmt::format("install the package {}", package) : ""});
  }
}

void StateFindings(const Invocation& invocation, std::vector<Finding>& out, bool clean) {
  std::string directory;
  Result<std::string> found = FindStateDir(WorkingDirectory(), std::string(invocation.ValueOr("--state", "")));
  if (!found.ok()) {
    out.push_back({"state", "directory", true, false, "no run was made here yet", ""});
    return;
  }
  directory = *found;
  struct statvfs disk;
  if (access(directory.c_str(), W_OK) != 0) {
    out.push_back({"state", directory, false, true, fmt::format("cannot be written: {}", std::strerror(errno)), "use another one:  --state DIR, or JOBC_HOME"});
  } else if (statvfs(directory.c_str(), &disk) == 0) {
    const auto available = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
    const bool enough = available > (int64_t{64} << 20);
    out.push_back({"state", directory, enough, true, fmt::format("{} free, {} runs", ir::BytesForPeople(available), ListRunIds(directory).size()), enough ? "" : "free some space: the journal needs it"});
  }
  if (!clean) return;
  for (const process::StaleRun& stale : process::CleanUpStale(directory)) {
    out.push_back({"state", "left behind by run " + stale.run_id, stale.problem.empty(), true,
                   fmt::format("ended {} process{}, removed {} path{}{}", stale.processes_ended, stale.processes_ended == 1 ? "" : "es", stale.paths_removed, stale.paths_removed == 1 ? "" : "s",
                               stale.problem.empty() ? "" : "; " + stale.problem),
                   ""});
  }
}

}  // namespace

int RunDoctor(const Invocation& invocation, Terminal& terminal) {
  std::optional<ir::BackendKind> wanted;
  if (!invocation.arguments().empty()) {
    wanted = ir::BackendFromName(invocation.arguments().front());
    if (!wanted) {
      std::string all;
      for (int i = 0; i < ir::kBackendKinds; ++i) all += (i > 0 ? ", " : "") + std::string(ir::BackendName(static_cast<ir::BackendKind>(i)));
      terminal.Err(RenderUsageError({fmt::format("there is no backend `{}`", invocation.arguments().front()), {"the backends are " + all}}, terminal.err_color()));
      return kExitUsage;
    }
  }
  std::vector<Finding> findings;
  if (!wanted || *wanted == ir::BackendKind::Process) ProcessFindings(findings);
  if (!wanted) StateFindings(invocation, findings, true);
  std::vector<BackendReport> reports;
  for (int i = 0; i < ir::kBackendKinds; ++i) {
    const auto kind = static_cast<ir::BackendKind>(i);
    if (wanted && kind != *wanted) continue;
    if (kind == ir::BackendKind::Process) {
      reports.push_back({.kind = kind, .built = true, .usable = true, .summary = "on this machine"});
      continue;
    }
    reports.push_back(ExamineBackend(kind));
    BackendReport& report = reports.back();
    if (wanted) {
      findings.insert(findings.end(), report.details.begin(), report.details.end());
    } else {
      findings.push_back({"backends", std::string(ir::BackendName(kind)), report.usable, false, report.summary, report.help});
    }
  }
  const bool missing = wanted && !reports.front().usable;
  if (invocation.json()) {
    std::string text = "{\"findings\":[";
    for (size_t i = 0; i < findings.size(); ++i) {
      const Finding& f = findings[i];
      text += fmt::format("{}{{\"area\":{},\"help\":{},\"name\":{},\"ok\":{},\"text\":{}}}", i > 0 ? "," : "", ir::JsonQuote(f.area), ir::JsonQuote(f.help), ir::JsonQuote(f.name), f.ok, ir::JsonQuote(f.text));
    }
    text += "],\"backends\":[";
    for (size_t i = 0; i < reports.size(); ++i) {
      const BackendReport& r = reports[i];
      text += fmt::format("{}{{\"built\":{},\"help\":{},\"name\":{},\"summary\":{},\"usable\":{},\"version\":{}}}", i > 0 ? "," : "", r.built, ir::JsonQuote(r.help), ir::JsonQuote(ir::BackendName(r.kind)),
                          ir::JsonQuote(r.summary), r.usable, r.version.empty() ? "null" : ir::JsonQuote(r.version));
    }
    terminal.Out(text + "],\"schema\":\"jobc.doctor/1\"}\n");
    return missing ? kExitBackend : kExitOk;
  }
  size_t width = 0;
  for (const Finding& f : findings) width = std::max(width, f.name.size());
  std::string area;
  for (const Finding& f : findings) {
    if (f.area != area) {
      terminal.Out((area.empty() ? "" : "\n") + f.area + "\n");
      area = f.area;
    }
    std::string_view mark = f.ok ? "ok" : f.matters ? "!!" : "--";
    terminal.Out(fmt::format("  {}  {:<{}}  {}\n", mark, f.name, width, f.text));
    if (!f.help.empty()) terminal.Out(fmt::format("      {:<{}}  {}\n", "", width, f.help));
  }
  return missing ? kExitBackend : kExitOk;
}

}  // namespace jobc
