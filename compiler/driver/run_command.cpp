// `jobc run`: a .job file or a plan, compiled, executed on this machine, shown while it runs.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "backends/registry.h"
#include "compiler/driver/compile.h"
#include "compiler/driver/detach.h"
#include "compiler/driver/left_runs.h"
#include "compiler/driver/plan_text.h"
#include "compiler/driver/run_display.h"
#include "compiler/driver/runs.h"
#include "compiler/driver/version.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/plan_json.h"
#include "runtime/engine.h"
#include "runtime/process/guardian.h"
#include "runtime/reuse.h"
#include "runtime/state_dir.h"
#include "storage/remote_store.h"
#include "support/exit_code.h"
#include "support/sha256.h"

namespace jobc {
namespace {

std::string Absolute(const std::string& path) {
  std::string text = path.empty() ? "." : path;
  char resolved[PATH_MAX];
  if (realpath(text.c_str(), resolved) != nullptr) return resolved;
  if (text[0] == '/') return text;
  char* cwd = getcwd(resolved, sizeof resolved);
  return (cwd != nullptr ? std::string(cwd) : std::string()) + "/" + text;
}

int Fail(Terminal& terminal, int code, std::string message, std::vector<std::string> helps = {}, std::vector<std::string> notes = {}) {
  terminal.Err(RenderUsageError({std::move(message), std::move(helps), std::move(notes)}, terminal.err_color()));
  return code;
}

/// Sources that are not as they were when the plan was made, or are gone. Modules of the library belong to jobc.
std::vector<std::string> ChangedSources(const ir::Plan& plan, const Roots& roots) {
  std::vector<std::string> changed;
  for (const ir::SourceRow& row : plan.sources) {
    if (row.sha256.empty() || row.name.starts_with("std/")) continue;
    const std::string path = row.name.starts_with('/') ? row.name : roots.root + "/" + row.name;
    Result<FileDigest> now = Sha256OfFile(path);
    if (!now.ok() || now->sha256 != row.sha256) changed.push_back(path + (now.ok() ? "" : " (it cannot be read)"));
  }
  return changed;
}

std::vector<std::string> FirstTen(std::vector<std::string> texts) {
  if (texts.size() <= 10) return texts;
  std::string more = fmt::format("and {} more", texts.size() - 10);
  texts.resize(10);
  texts.push_back(std::move(more));
  return texts;
}

/// Each on a line of its own below a message; the first ten.
std::string Lines(const std::vector<std::string>& texts) {
  std::string out;
  for (size_t i = 0; i < texts.size() && i < 10; ++i) out += "\n  " + texts[i];
  if (texts.size() > 10) out += fmt::format("\n  and {} more", texts.size() - 10);
  return out;
}

/// Runs to the end, shows it, prints the exports. `run` not empty: that run goes on.
/// `detach`: the side of `--detach` that lives on; null without it. `left`: of dead runs, may be given to this one.
int Execute(EngineSetup setup, const std::string& run, const ResumeOptions& resume, const Invocation& invocation, Terminal& terminal, Detach* detach, LeftRuns& left) {
  if (detach != nullptr) terminal.set_color(ColorChoice::Never);  // it writes to a file
  RunDisplay display(terminal, invocation.json(), terminal.err_is_terminal() && detach == nullptr);
  setup.observer = &display;
  const std::string state_dir = setup.state_dir;
  const std::string cwd = setup.roots.cwd;
  setup.before_ending = [&left](const std::string& heir, const std::set<std::string>& attempts) { return left.BeforeEnding(heir, attempts); };
  StartFailure failure;
  std::unique_ptr<Engine> engine = run.empty() ? Engine::Start(std::move(setup), failure) : Engine::Resume(std::move(setup), run, resume, failure);
  if (engine == nullptr) return Fail(terminal, failure.exit_code, failure.message, std::move(failure.helps));  // what was left goes on
  if (detach != nullptr) {
    if (Result<void> gone = detach->Leave(engine->run_id(), engine->run_dir(), terminal); !gone.ok()) return Fail(terminal, kExitEnvironment, "cannot detach: " + gone.error().message);
  }
  RunOutcome outcome = engine->Run();
  display.End(engine->Progress());
  left.End(*engine, terminal);
  if (!invocation.json()) {
    if (outcome.exit_code != kExitOk && !outcome.message.empty()) terminal.Err(fmt::format("error: {}\n", outcome.message));
    if (!outcome.exports.empty() && outcome.exports != "{}") {
      if (Result<ir::Value> json = ir::ParseJson(outcome.exports); json.ok()) terminal.Out(ir::JsonText(*json, 2) + "\n");
    }
    if (outcome.exit_code == kExitToleratedFailures) terminal.Err("error: the run succeeded, but failures were ignored, and `--strict` is given\n");
    if (outcome.exit_code == kExitInterrupted || outcome.exit_code == kExitLimit) terminal.Err(fmt::format("go on: jobc resume {}{}\n", outcome.run_id, StateOption(state_dir, cwd)));
    terminal.Err(fmt::format("results: jobc result {}{}\n", outcome.run_id, StateOption(state_dir, cwd)));
  }
  return outcome.exit_code;
}

}  // namespace

int RunRun(const Invocation& invocation, Terminal& terminal) {
  std::optional<Detach> detach;
  if (invocation.Has("--detach") && !invocation.Has("--dry-run")) {
    detach.emplace();
    if (std::optional<int> code = detach->Split(invocation.json(), terminal)) return *code;
  }
  // First of all, while this process is small: everything the run starts is supervised by it.
  Result<process::GuardianHandle> guardian = process::LaunchGuardian();
  if (!guardian.ok()) return Fail(terminal, kExitEnvironment, "cannot start the guardian process: " + guardian.error().message);

  const std::string& path = invocation.arguments().front();
  Compiled compiled = CompileFile(path, invocation, terminal);
  if (!compiled.plan) return compiled.exit_code;
  const ir::Plan& plan = *compiled.plan;
  Roots roots;
  roots.root = Absolute(std::string(invocation.ValueOr("--root", compiled.root_directory)));
  roots.cwd = Absolute(".");
  const bool is_source = path.size() > 4 && path.compare(path.size() - 4, 4, ".job") == 0;
  if (!is_source) {
    // A plan: what it was made from must still be as it was.
    roots.cwd = roots.root;
    std::vector<std::string> changed = ChangedPlanFiles(plan, roots);
    std::vector<std::string> remote = storage::ChangedRemoteFiles(plan);
    changed.insert(changed.end(), remote.begin(), remote.end());
    if (!changed.empty()) {
      return Fail(terminal, kExitDiagnostics, "the plan no longer fits its files", {"make it again:  jobc plan FILE -o plan.json", "or name the directory of the source:  --root DIR"}, FirstTen(changed));
    }
  }
  if (invocation.Has("--dry-run")) return ExpandPlan(plan, compiled.root_directory, invocation.json(), terminal);

  EngineSetup setup;
  setup.plan = &plan;
  setup.plan_text = ir::WritePlan(plan);
  setup.plan_digest = Sha256Hex(setup.plan_text);
  setup.roots = roots;
  std::string state(invocation.ValueOr("--state", ""));
  setup.state_dir = StateDirForSource(roots.root, state.empty() ? "" : Absolute(state));
  setup.backends = MakeBackend;
  setup.remote_files = [](const RemoteFilesHost& host) { return storage::MakeRemoteStore(host); };
  setup.guardian = &*guardian;
  RunOptions& options = setup.options;
  options.name = std::string(invocation.ValueOr("--name", ""));
  options.max_parallel = static_cast<uint32_t>(std::min<int64_t>(invocation.Int("--max-parallel").value_or(0), 100'000));
  if (std::string_view strategy = invocation.ValueOr("--on-error", ""); !strategy.empty()) {
    options.on_error = strategy == "halt" ? ir::Strategy::Halt : strategy == "continue" ? ir::Strategy::Continue : ir::Strategy::Drain;
  }
  options.strict = invocation.Has("--strict");
  options.durability = invocation.ValueOr("--durability", "full") == "normal" ? Durability::Normal : Durability::Full;
  if (std::string_view to = invocation.ValueOr("--publish-to", ""); !to.empty()) options.publish_to = ir::IsUri(to) ? std::string(to) : Absolute(std::string(to));
  options.version = std::string(Version());
  options.source = path;
  options.cache_dir = ResultCache::DefaultDir();
  if (invocation.Has("--resume")) {
    Result<std::string> earlier = ResolveRun(setup.state_dir, std::string(invocation.ValueOr("--resume", "")));
    if (!earlier.ok()) return Fail(terminal, StateExitCode(earlier.error()), earlier.error().message);
    options.reuse_from = *earlier;
  }
  // What earlier runs left behind when both they and their guardian were killed.
  for (const process::StaleRun& stale : process::CleanUpStale(setup.state_dir)) {
    if (!invocation.json()) {
      terminal.Err(fmt::format("note: run {} was killed: ended {} of its processes, removed {} of its paths{}\n", stale.run_id, stale.processes_ended,
                               stale.paths_removed, stale.problem.empty() ? "" : "; " + stale.problem));
    }
  }
  LeftRuns left(setup.state_dir);
  StartFailure failure;
  if (!options.reuse_from.empty() && !left.Begin(setup, options.reuse_from, terminal, invocation.json(), failure)) {
    return Fail(terminal, failure.exit_code, failure.message, std::move(failure.helps));
  }
  return Execute(std::move(setup), "", {}, invocation, terminal, detach ? &*detach : nullptr, left);
}

namespace {

/// `resume` and `retry`: goes on with a run as its journal has it.
int GoOn(const Invocation& invocation, Terminal& terminal, ResumeOptions resume) {
  std::optional<Detach> detach;
  if (invocation.Has("--detach")) {
    detach.emplace();
    if (std::optional<int> code = detach->Split(invocation.json(), terminal)) return *code;
  }
  Result<process::GuardianHandle> guardian = process::LaunchGuardian();
  if (!guardian.ok()) return Fail(terminal, kExitEnvironment, "cannot start the guardian process: " + guardian.error().message);
  OpenedRun opened = OpenRun(invocation, invocation.arguments().empty() ? "" : invocation.arguments()[0], terminal, false);
  if (opened.reader == nullptr) return opened.exit_code;
  const std::string id = opened.reader->header().id;
  // A run is over when its end is journaled, which others are told at once; its process needs a moment more.
  for (int tries = 0; tries < 500 && opened.reader->summary().finished && RunLock::Holder(opened.reader->run_dir()); ++tries) usleep(10'000);
  if (std::optional<LockHolder> holder = RunLock::Holder(opened.reader->run_dir())) {
    return Fail(terminal, kExitEnvironment, fmt::format("the run {} is being executed by pid {} on {}", id, holder->pid, holder->host), {"watch it:  jobc watch " + id});
  }
  process::CleanUpStale(opened.state_dir);
  const ir::Plan& plan = opened.reader->plan();
  EngineSetup setup;
  setup.plan = &plan;
  setup.roots = {opened.reader->header().root, opened.reader->header().cwd};
  setup.state_dir = opened.state_dir;
  setup.backends = MakeBackend;
  setup.remote_files = [](const RemoteFilesHost& host) { return storage::MakeRemoteStore(host); };
  setup.guardian = &*guardian;
  setup.options.version = std::string(Version());
  setup.options.cache_dir = ResultCache::DefaultDir();
  setup.options.source = opened.reader->header().source;
  if (Result<ir::Value> stored = ir::ParseJson(opened.reader->header().options); stored.ok() && stored->kind() == ir::ValueKind::Map) {
    auto find = [&](const char* key, ir::ValueKind kind) {
      const ir::Value* value = stored->Find(key);
      return value != nullptr && value->kind() == kind ? value : nullptr;
    };
    if (const ir::Value* value = find("max_parallel", ir::ValueKind::Int)) setup.options.max_parallel = static_cast<uint32_t>(value->as_int());
    if (const ir::Value* value = find("publish_to", ir::ValueKind::String)) setup.options.publish_to = value->as_string();
    if (const ir::Value* value = find("durability", ir::ValueKind::String)) setup.options.durability = value->as_string() == "normal" ? Durability::Normal : Durability::Full;
    if (const ir::Value* value = find("strict", ir::ValueKind::Bool)) setup.options.strict = value->as_bool();
    if (const ir::Value* value = find("on_error", ir::ValueKind::String)) {
      setup.options.on_error = value->as_string() == "halt" ? ir::Strategy::Halt : value->as_string() == "continue" ? ir::Strategy::Continue : ir::Strategy::Drain;
    }
  }
  if (std::optional<int64_t> parallel = invocation.Int("--max-parallel")) setup.options.max_parallel = static_cast<uint32_t>(std::min<int64_t>(*parallel, 100'000));
  std::vector<std::string> changed = ChangedPlanFiles(plan, setup.roots);
  if (!changed.empty()) {
    return Fail(terminal, kExitDiagnostics, "inputs of the run have changed since it was started",
                {"put them back as they were, and type this again", fmt::format("or start a new run, and use again what is still right:  jobc run {} --resume {}{}", ShellQuote(setup.options.source), id, StateOption(opened.state_dir, WorkingDirectory()))}, FirstTen(changed));
  }
  resume.accept_loss = invocation.Has("--accept-loss");
  if (const std::vector<std::string> sources = ChangedSources(plan, setup.roots); !sources.empty() && !invocation.json()) {
    terminal.Err(fmt::format("note: this goes on with the plan that the run was started with; since then {}{}\n  to run what is there now:  jobc run {}\n",
                             sources.size() == 1 ? "this source has changed:" : "these sources have changed:", Lines(sources), ShellQuote(setup.options.source)));
  }
  LeftRuns left(setup.state_dir);
  StartFailure failure;
  if (!left.Resume(setup, *opened.reader, terminal, invocation.json(), failure)) return Fail(terminal, failure.exit_code, failure.message, std::move(failure.helps));
  return Execute(std::move(setup), id, resume, invocation, terminal, detach ? &*detach : nullptr, left);
}

}  // namespace

int RunResume(const Invocation& invocation, Terminal& terminal) { return GoOn(invocation, terminal, {}); }

int RunRetry(const Invocation& invocation, Terminal& terminal) {
  ResumeOptions resume;
  resume.retry_failed = true;
  const std::vector<std::string>& arguments = invocation.arguments();
  if (arguments.size() > 1) resume.only.assign(arguments.begin() + 1, arguments.end());
  return GoOn(invocation, terminal, resume);
}

}  // namespace jobc
