// `jobc explain run|skip|value`: why an instance ran, why one did not, where a value comes from.
#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "compiler/driver/explain.h"
#include "compiler/driver/runs.h"
#include "compiler/driver/since.h"
#include "ir/dump.h"
#include "ir/evaluate.h"
#include "ir/json.h"
#include "runtime/attempt_context.h"
#include "runtime/events.h"
#include "runtime/restored_run.h"
#include "runtime/state_dir.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

int Fail(Terminal& terminal, std::string message, std::vector<std::string> helps = {}) {
  terminal.Err(RenderUsageError({std::move(message), std::move(helps)}, terminal.err_color()));
  return kExitUsage;
}

/// The instances that an address names, or the exit code after the reason was told.
std::optional<int> FindInstances(const OpenedRun& opened, const std::string& address, Terminal& terminal, std::vector<InstanceRef>& out) {
  Result<std::vector<InstanceRef>> found = opened.reader->Find(address);
  if (!found.ok()) return Fail(terminal, found.error().message);
  out = *found;
  return std::nullopt;
}

std::string PlaceText(const ir::Plan& plan, uint32_t job) {
  const ir::Position& at = plan.jobs[job].at;
  return at.source < plan.sources.size() ? fmt::format("{}:{}", plan.sources[at.source].name, at.line) : std::string();
}

/// The run that `--resume` named, else the latest earlier one that knows the address.
std::unique_ptr<RunReader> BaseOf(const OpenedRun& opened, const std::string& address, const std::string& wanted, std::string& problem) {
  std::string id = wanted;
  if (id.empty()) {
    if (Result<ir::Value> options = ir::ParseJson(opened.reader->header().options); options.ok() && options->kind() == ir::ValueKind::Map) {
      if (const ir::Value* resume = options->Find("resume"); resume != nullptr && resume->kind() == ir::ValueKind::String) id = resume->as_string();
    }
  } else if (Result<std::string> resolved = ResolveRun(opened.state_dir, wanted); resolved.ok()) {
    id = *resolved;
  } else {
    problem = resolved.error().message;
    return nullptr;
  }
  if (!id.empty()) {
    Result<std::unique_ptr<RunReader>> reader = RunReader::Open(opened.state_dir, id);
    if (!reader.ok()) {
      problem = reader.error().message;
      return nullptr;
    }
    return std::move(*reader);
  }
  std::vector<std::string> ids = ListRunIds(opened.state_dir);
  constexpr size_t kMostLookedAt = 30;
  size_t looked = 0;
  for (size_t i = ids.size(); i-- > 0 && looked < kMostLookedAt;) {
    if (ids[i] >= opened.reader->header().id) continue;
    ++looked;
    Result<std::unique_ptr<RunReader>> reader = RunReader::Open(opened.state_dir, ids[i]);
    if (reader.ok() && (*reader)->Find(address).ok()) return std::move(*reader);
  }
  return nullptr;
}

struct RunExplanation {
  std::string address, state, reason;
  std::string reused_from, reused_address;
  std::string base, base_state;
  std::vector<PartDifference> differences;
  uint32_t job = 0, job_before = 0;
};

RunExplanation ExplainInstance(RunReader& run, InstanceRef ref, RunReader* base) {
  RunExplanation out;
  const InstanceView view = run.View(ref);
  out.address = view.address;
  out.state = run.StateText(ref);
  out.job = ref.job;
  if (view.reused) {
    out.reused_from = view.reused->run;
    out.reused_address = view.reused->address;
    out.reason = "nothing it depends on had changed, and its files were there";
    return out;
  }
  if (ref.ordinal == kWholeJob || (view.attempts.empty() && !IsFinal(view.state))) {
    out.reason = "it has not come to its start";
    return out;
  }
  if (view.attempts.empty()) {
    out.reason = fmt::format("it did not run: `jobc explain skip {}` says why", ShellQuote(view.address));
    return out;
  }
  if (base == nullptr) {
    out.reason = "no earlier run knows it";
    return out;
  }
  out.base = base->header().id;
  Result<std::vector<InstanceRef>> before = base->Find(view.address);
  if (!before.ok() || before->empty()) {
    out.reason = "it is new: that run has no such instance";
    return out;
  }
  const InstanceRef old = before->front();
  out.job_before = old.job;
  out.base_state = StateName(base->state(old));
  auto parts_before = base->KeyPartsOf(old);
  auto parts = run.KeyPartsOf(ref);
  if (!parts_before.ok() || !parts.ok() || !*parts_before || !*parts) {
    out.reason = "one of the two runs did not record what it depends on";
    if (base->state(old) != InstanceState::Succeeded) out.reason = fmt::format("there was no result to use: it {} there", out.base_state == "failed" ? "failed" : "was " + out.base_state);
    return out;
  }
  out.differences = CompareParts(**parts_before, **parts);
  PlanPair plans(base->plan(), run.plan());
  FindCauses(out.differences, plans, old.job, ref.job);
  if (!out.differences.empty()) {
    out.reason = Describe(out.differences.front(), base->plan(), old.job, run.plan(), ref.job).title;
  } else if (base->state(old) != InstanceState::Succeeded) {
    out.reason = fmt::format("there was no result to use: it {} there", out.base_state == "failed" ? "failed" : "was " + out.base_state);
  } else {
    // Equal keys: was it asked for, and were the files there?
    bool asked = false;
    if (Result<ir::Value> options = ir::ParseJson(run.header().options); options.ok() && options->kind() == ir::ValueKind::Map) asked = options->Find("resume") != nullptr;
    out.reason = asked ? "nothing it depends on has changed, but its files were gone or changed then" : "nothing it depends on has changed, but nobody asked for the earlier result";
  }
  return out;
}

int ExplainRun(const Invocation& invocation, Terminal& terminal) {
  const std::vector<std::string>& words = invocation.arguments();
  if (words.size() < 2) return Fail(terminal, "an instance is missing", {"for example:  jobc explain run 'align[\"s1\"]'"});
  OpenedRun opened = OpenRun(invocation, words.size() > 2 ? words[2] : "", terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  RunReader& run = *opened.reader;
  std::vector<InstanceRef> instances;
  if (std::optional<int> code = FindInstances(opened, words[1], terminal, instances)) return *code;
  std::string problem;
  const std::unique_ptr<RunReader> base = BaseOf(opened, words[1], std::string(invocation.ValueOr("--since", "")), problem);
  if (base == nullptr && !problem.empty()) return Fail(terminal, problem);
  const std::string& root = run.header().root;
  std::string json = fmt::format("{{\"schema\":\"jobc.explain_run/1\",\"run\":\"{}\"{},\"instances\":[", run.header().id, base != nullptr ? fmt::format(",\"since\":\"{}\"", base->header().id) : "");
  constexpr size_t kMostShown = 20;
  PartPlaces places;
  for (size_t i = 0; i < instances.size(); ++i) {
    const RunExplanation one = ExplainInstance(run, instances[i], base.get());
    if (invocation.json()) {
      json += fmt::format("{}{{\"address\":{},\"state\":\"{}\",\"reason\":{}", i == 0 ? "" : ",", ir::JsonQuote(one.address), one.state, ir::JsonQuote(one.reason));
      if (!one.reused_from.empty()) json += fmt::format(",\"reused\":{{\"address\":{},\"run\":{}}}", ir::JsonQuote(one.reused_address), ir::JsonQuote(one.reused_from));
      if (!one.base_state.empty()) json += fmt::format(",\"state_before\":\"{}\"", one.base_state);
      json += ",\"differences\":[";
      for (size_t k = 0; k < one.differences.size(); ++k) json += (k == 0 ? "" : ",") + DifferenceJson(one.differences[k], run.plan(), one.job, root, places);
      json += "]}";
      continue;
    }
    if (i >= kMostShown) continue;
    if (!one.reused_from.empty()) {
      terminal.Out(fmt::format("{} did not run: its result is that of run {}{}\n  {}\n", one.address, one.reused_from,
                               one.reused_address == one.address ? "" : " " + one.reused_address, one.reason));
      continue;
    }
    terminal.Out(fmt::format("{}: {}\n  {}{}\n", one.address, one.state, one.base.empty() ? "" : fmt::format("compared with run {}: ", one.base), one.reason));
    if (!one.differences.empty()) {
      const PartDifference& first = one.differences.front();
      terminal.Out(DifferenceLines(first, base->plan(), one.job_before, run.plan(), one.job, root));
      terminal.Out(fmt::format("    cause: {}{}\n", CauseTitle(first.cause), first.cause_name.empty() ? "" : fmt::format(": {}", first.cause_name)));
      if (one.differences.size() > 1) {
        std::string more;
        for (size_t k = 1; k < one.differences.size(); ++k) more += (more.empty() ? "" : ", ") + one.differences[k].part;
        terminal.Out(fmt::format("    also different: {}\n", more));
      }
    } else if (one.reason.find("nobody asked") != std::string::npos) {
      terminal.Out(fmt::format("    to use it:  jobc run {} --resume {}\n", ShellQuote(run.header().source), one.base));
    }
  }
  if (invocation.json()) {
    terminal.Out(json + "]}\n");
  } else if (instances.size() > kMostShown) {
    terminal.Out(fmt::format("and {} more; name one, or use `--json`\n", instances.size() - kMostShown));
  }
  return kExitOk;
}

// --- Why it did not run -----------------------------------------------------

/// The parts of a condition whose values decide it: everything that is no operator, with its value.
void Leaves(const ir::Plan& plan, uint32_t job, ir::ExprId root, ir::Evaluator& evaluator, ir::EvalContext& context, std::vector<std::pair<std::string, std::string>>& out) {
  const ir::Program& program = plan.program;
  const ir::Expr& e = program.exprs[root];
  switch (e.op) {
    case ir::Op::Const: return;
    case ir::Op::Not: case ir::Op::Negate: case ir::Op::Add: case ir::Op::Sub: case ir::Op::Mul: case ir::Op::Div: case ir::Op::Mod:
    case ir::Op::Eq: case ir::Op::Ne: case ir::Op::Lt: case ir::Op::Le: case ir::Op::Gt: case ir::Op::Ge: case ir::Op::In:
    case ir::Op::And: case ir::Op::Or: case ir::Op::Coalesce: case ir::Op::If: case ir::Op::ToFloat: case ir::Op::Narrow: case ir::Op::Checked:
      for (uint32_t i = 0; i < e.args.size; ++i) Leaves(plan, job, program.exprs.arg(e, i), evaluator, context, out);
      return;
    default: break;
  }
  ir::Value value;
  const std::string text = ir::DumpExpr(plan, job, root);
  const std::string shown = program.types.HasSecret(e.type) ? "(secret)" : evaluator.Evaluate(root, context, value) ? ir::ShowValue(program, value, e.type) : "no value: " + evaluator.fault().message;
  if (std::none_of(out.begin(), out.end(), [&](const auto& known) { return known.first == text; })) out.emplace_back(text, shown);
}

struct SkipStep {
  std::string address, state, why;
  std::string guard, place;
  std::vector<std::pair<std::string, std::string>> values;
  std::string command;  ///< to look further
};

/// The instance and, one after the other, what upstream caused its state.
std::vector<SkipStep> SkipChain(RunReader& run, const RestoredRun& restored, InstanceRef ref) {
  std::vector<SkipStep> out;
  std::set<InstanceRef> seen;
  const ir::Plan& plan = run.plan();
  ir::Evaluator evaluator(plan.program), inputs(plan.program);
  std::optional<InstanceRef> next = ref;
  while (next && seen.insert(*next).second && out.size() < 50) {
    const InstanceRef at = *next;
    next.reset();
    const ir::Job& job = plan.jobs[at.job];
    const InstanceView view = run.View(at);
    SkipStep step;
    step.address = view.address;
    step.state = run.StateText(at);
    step.why = view.verdict ? view.verdict->message : "";
    step.place = PlaceText(plan, at.job);
    if (view.state == InstanceState::Failed) {
      if (view.verdict) step.why = ReasonText(*view.verdict) + (MessageBesideEnd(*view.verdict).empty() ? "" : fmt::format(": {}", MessageBesideEnd(*view.verdict)));
      if (!view.attempts.empty()) step.command = fmt::format("jobc logs {} {}", run.header().id, ShellQuote(view.address));
      out.push_back(std::move(step));
      break;
    }
    const bool guard_false = view.state == InstanceState::Skipped && job.when.valid() && at.ordinal != kWholeJob && step.why.find("`when`") != std::string::npos;
    if (guard_false) {
      step.guard = ir::DumpExpr(plan, at.job, job.when);
      InstanceContext context(*restored.state, restored.world.get(), inputs, at);
      Leaves(plan, at.job, job.when, evaluator, context, step.values);
      out.push_back(std::move(step));
      break;
    }
    if (view.state == InstanceState::Skipped || view.state == InstanceState::Blocked) {
      // The upstream instance that is to blame: failed before blocked before skipped before cancelled.
      const InstanceState order[] = {InstanceState::Failed, InstanceState::Blocked, InstanceState::Skipped, InstanceState::Cancelled};
      for (InstanceState wanted : order) {
        for (const ir::Dependency& dependency : job.dependencies) {
          if (next) break;
          if (!run.expanded(dependency.job)) {
            if (run.whole(dependency.job) == wanted) next = InstanceRef{dependency.job, kWholeJob};
            continue;
          }
          if (dependency.mapping == ir::Mapping::Same && at.ordinal != kWholeJob) {
            if (at.ordinal < run.size(dependency.job) && run.state({dependency.job, at.ordinal}) == wanted) next = InstanceRef{dependency.job, at.ordinal};
            continue;
          }
          std::optional<std::vector<uint64_t>> ordinals;
          if (dependency.mapping == ir::Mapping::Expr && at.ordinal != kWholeJob && restored.state->expanded(dependency.job)) {
            InstanceContext context(*restored.state, restored.world.get(), inputs, at);
            ir::ListValue indices;
            bool known = true;
            for (ir::ExprId id : dependency.indices) {
              ir::Value value;
              known = known && evaluator.Evaluate(id, context, value);
              indices.push_back(std::move(value));
            }
            if (known) ordinals = restored.state->instances(dependency.job).FindAll(indices);
          }
          for (uint32_t k = 0; k < run.size(dependency.job) && !next; ++k) {
            if (ordinals && std::find(ordinals->begin(), ordinals->end(), k) == ordinals->end()) continue;
            if (run.state({dependency.job, k}) == wanted) next = InstanceRef{dependency.job, k};
          }
        }
        if (next) break;
      }
    }
    out.push_back(std::move(step));
  }
  return out;
}

int ExplainSkip(const Invocation& invocation, Terminal& terminal) {
  const std::vector<std::string>& words = invocation.arguments();
  if (words.size() < 2) return Fail(terminal, "a job or an instance is missing", {"for example:  jobc explain skip report"});
  OpenedRun opened = OpenRun(invocation, words.size() > 2 ? words[2] : "", terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  RunReader& run = *opened.reader;
  std::vector<InstanceRef> instances;
  if (std::optional<int> code = FindInstances(opened, words[1], terminal, instances)) return *code;
  Result<std::unique_ptr<RestoredRun>> restored = RestoredRun::Of(run);
  if (!restored.ok()) return FailCommand(terminal, kExitEnvironment, restored.error().message);
  std::string json = fmt::format("{{\"schema\":\"jobc.explain_skip/1\",\"run\":\"{}\",\"instances\":[", run.header().id);
  bool first = true;
  size_t shown = 0;
  uint64_t others = 0;
  constexpr size_t kMostShown = 20;
  for (InstanceRef ref : instances) {
    const InstanceState state = run.state(ref);
    const bool did_not_run = state == InstanceState::Skipped || state == InstanceState::Blocked || state == InstanceState::Cancelled;
    if (!did_not_run && instances.size() > 1) {
      ++others;
      continue;
    }
    const std::vector<SkipStep> chain = did_not_run ? SkipChain(run, **restored, ref) : std::vector<SkipStep>();
    if (invocation.json()) {
      json += fmt::format("{}{{\"address\":{},\"state\":\"{}\",\"chain\":[", first ? "" : ",", ir::JsonQuote(run.Address(ref)), run.StateText(ref));
      first = false;
      for (size_t i = 0; i < chain.size(); ++i) {
        const SkipStep& step = chain[i];
        json += fmt::format("{}{{\"address\":{},\"state\":\"{}\",\"why\":{},\"at\":{}", i == 0 ? "" : ",", ir::JsonQuote(step.address), step.state, ir::JsonQuote(step.why), ir::JsonQuote(step.place));
        if (!step.guard.empty()) {
          json += ",\"guard\":" + ir::JsonQuote(step.guard) + ",\"values\":[";
          for (size_t k = 0; k < step.values.size(); ++k) {
            json += fmt::format("{}{{\"expression\":{},\"value\":{}}}", k == 0 ? "" : ",", ir::JsonQuote(step.values[k].first), ir::JsonQuote(step.values[k].second));
          }
          json += "]";
        }
        json += "}";
      }
      json += "]}";
      continue;
    }
    if (++shown > kMostShown) continue;
    if (!did_not_run) {
      terminal.Out(fmt::format("{} was not skipped: it is {}\n", run.Address(ref), run.StateText(ref)));
      continue;
    }
    for (size_t i = 0; i < chain.size(); ++i) {
      const SkipStep& step = chain[i];
      terminal.Out(fmt::format("{}{} {}{}{}{}\n", i == 0 ? "" : "  because ", step.address, step.state == "failed" ? "" : "was ", step.state, step.why.empty() ? "" : ": " + step.why,
                               step.place.empty() ? "" : fmt::format("  ({})", step.place)));
      if (!step.guard.empty()) {
        terminal.Out(fmt::format("    when = {}\n", step.guard));
        for (const auto& [text, value] : step.values) terminal.Out(fmt::format("    {} is {}\n", text, value));
      }
      if (!step.command.empty()) terminal.Out(fmt::format("    see:  {}\n", step.command));
    }
  }
  if (invocation.json()) {
    terminal.Out(json + "]}\n");
    return kExitOk;
  }
  if (shown > kMostShown) terminal.Out(fmt::format("and {} more; name one, or use `--json`\n", shown - kMostShown));
  if (shown == 0) terminal.Out(fmt::format("none of the {} instances of {} was skipped\n", others, words[1]));
  return kExitOk;
}

// --- Where a value comes from -----------------------------------------------

struct ValueExplanation {
  std::string name, type, value, origin, expression, place;
};

int Print(const ValueExplanation& one, const Invocation& invocation, Terminal& terminal) {
  if (invocation.json()) {
    std::string out = fmt::format("{{\"schema\":\"jobc.explain_value/1\",\"name\":{},\"type\":{},\"value\":{},\"origin\":{}", ir::JsonQuote(one.name), ir::JsonQuote(one.type), ir::JsonQuote(one.value), ir::JsonQuote(one.origin));
    if (!one.expression.empty()) out += ",\"expression\":" + ir::JsonQuote(one.expression);
    if (!one.place.empty()) out += ",\"at\":" + ir::JsonQuote(one.place);
    terminal.Out(out + "}\n");
  } else {
    terminal.Out(fmt::format("{}{} = {}\n  {}\n", one.name, one.type.empty() ? "" : ": " + one.type, one.value, one.origin));
    if (!one.expression.empty() && one.expression != one.value) terminal.Out(fmt::format("  made by: {}\n", one.expression));
    if (!one.place.empty()) terminal.Out(fmt::format("  {}\n", one.place));
  }
  return kExitOk;
}

/// A setting of a job by its path: `timeout.run`, `resources.memory`, `env.X`, `input.x`, `image` …
ir::ExprId SettingOf(const ir::Job& job, const std::string& path, std::vector<std::string>& names) {
  std::vector<std::pair<std::string, ir::ExprId>> all{
      {"run", job.run}, {"image", job.image}, {"when", job.when}, {"priority", job.priority}, {"grace", job.grace}, {"log_limit", job.log_limit}, {"cache", job.cache}, {"cache_salt", job.cache_salt},
      {"resources.cpu", job.resources.cpu}, {"resources.memory", job.resources.memory}, {"resources.disk", job.resources.disk}, {"resources.gpu", job.resources.gpu}, {"resources.spot", job.resources.spot},
      {"timeout.queue", job.timeout.queue}, {"timeout.run", job.timeout.run}, {"timeout.total", job.timeout.total}, {"timeout.idle", job.timeout.idle}, {"timeout.stage", job.timeout.stage}, {"timeout.collect", job.timeout.collect}, {"for", job.domain.list}};
  for (const ir::Input& input : job.inputs) all.emplace_back("input." + input.name, input.value);
  for (const ir::EnvEntry& entry : job.env) all.emplace_back("env." + entry.name, entry.value);
  for (const ir::NamedExpr& label : job.labels) all.emplace_back("labels." + label.name, label.value);
  for (const ir::NamedExpr& option : job.backend.options) all.emplace_back("backend." + option.name, option.value);
  for (const auto& [name, id] : all) {
    if (id.valid()) names.push_back(name);
    if (name == path) return id;
  }
  return {};
}

int ExplainValue(const Invocation& invocation, Terminal& terminal) {
  const std::vector<std::string>& words = invocation.arguments();
  if (words.size() < 2) return Fail(terminal, "a name is missing", {"for example:  jobc explain value params.day", "or of a job:  jobc explain value align.timeout.run"});
  OpenedRun opened = OpenRun(invocation, words.size() > 2 ? words[2] : "", terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  RunReader& run = *opened.reader;
  const ir::Plan& plan = run.plan();
  const ir::Program& program = plan.program;
  Result<std::unique_ptr<RestoredRun>> restored = RestoredRun::Of(run);
  if (!restored.ok()) return FailCommand(terminal, kExitEnvironment, restored.error().message);
  ir::Evaluator evaluator(program), inputs(program);
  const std::string path = words[1];
  ValueExplanation out;
  out.name = path;
  std::vector<std::string> names;

  const std::string bare = path.starts_with("params.") ? path.substr(7) : path;
  for (const ir::Param& param : program.params) {
    names.push_back("params." + param.name);
    if (param.name != bare) continue;
    out.name = "params." + param.name;
    out.type = program.types.Show(param.type);
    out.value = param.value ? ir::ShowValue(program, *param.value, param.type, 4000) : "(none)";
    out.origin = param.origin == "default" ? "the default of the source" : "given by " + (param.origin.ends_with(".json") ? "the file " + param.origin : param.origin == "-p" ? "-p " + param.name + "=…" : param.origin);
    if (param.fallback.valid()) out.expression = ir::DumpExpr(plan, UINT32_MAX, param.fallback);
    if (param.origin != "default" && !out.expression.empty()) {
      out.origin += ", instead of the default " + out.expression;
      out.expression.clear();
    }
    return Print(out, invocation, terminal);
  }
  for (const ir::Secret& secret : program.secrets) {
    names.push_back(secret.name);
    if (secret.name != path) continue;
    out.type = "Secret";
    out.value = "(secret)";
    out.origin = fmt::format("read at the start of a run from {} {}", secret.carrier == ir::SecretCarrier::Env ? "the environment variable" : secret.carrier == ir::SecretCarrier::File ? "the file" : "the store", secret.source);
    return Print(out, invocation, terminal);
  }
  RunContext context(*(*restored)->state, (*restored)->world.get());
  for (const ir::Let& let : program.lets) {
    names.push_back(let.name);
    if (let.name != path) continue;
    ir::Value value;
    const ir::TypeId type = program.exprs[let.value].type;
    out.type = program.types.Show(type);
    out.value = program.types.HasSecret(type) ? "(secret)" : evaluator.Evaluate(let.value, context, value) ? ir::ShowValue(program, value, type, 4000) : "(known only where it is used)";
    out.expression = ir::DumpExpr(plan, UINT32_MAX, let.value);
    out.origin = "`let` of the source";
    return Print(out, invocation, terminal);
  }
  for (const ir::Export& one : plan.exports) {
    names.push_back(one.name);
    if (one.name != path) continue;
    out.type = program.types.Show(one.type);
    Result<std::string> exports = run.Exports();
    Result<ir::Value> json = ir::ParseJson(exports.ok() && !exports->empty() ? *exports : "{}");
    const ir::Value* value = json.ok() ? json->Find(one.name) : nullptr;
    out.value = value != nullptr ? ir::JsonText(*value) : "(not evaluated)";
    out.expression = ir::DumpExpr(plan, UINT32_MAX, one.value);
    out.origin = "`export` of the source";
    if (one.at.source < plan.sources.size()) out.place = fmt::format("{}:{}", plan.sources[one.at.source].name, one.at.line);
    return Print(out, invocation, terminal);
  }
  const auto [address, field] = SplitAddressField(path);
  Result<std::vector<InstanceRef>> found = run.Find(address);
  if (!found.ok()) {
    for (const ir::Job& job : plan.jobs) names.push_back(job.address);
    std::vector<std::string_view> views(names.begin(), names.end());
    const std::string_view similar = DidYouMean(path, views);
    return Fail(terminal, fmt::format("there is no parameter, constant, secret, export or job `{}` in run {}", path, run.header().id),
                similar.empty() ? std::vector<std::string>() : std::vector<std::string>{fmt::format("did you mean `{}`?", similar)});
  }
  const InstanceRef ref = found->front();
  const ir::Job& job = plan.jobs[ref.job];
  const std::string output_name = field.starts_with("output.") ? field.substr(7) : field;
  for (const ir::Output& output : job.outputs) {
    if (output.name != output_name) continue;
    if (found->size() > 1) return Fail(terminal, fmt::format("`{}` has {} instances, each with its own `{}`", address, found->size(), output.name), {"name one:  " + run.Address(ref) + "." + output.name});
    out.type = program.types.Show(output.type);
    Result<std::string> value = run.ResultJson(ref, output.name);
    if (!value.ok()) return Fail(terminal, value.error().message);
    out.value = *value;
    const InstanceView view = run.View(ref);
    out.origin = view.reused ? fmt::format("made by {} in run {}, used again here", view.reused->address, view.reused->run)
                 : view.attempts.empty() ? fmt::format("{} is {}", view.address, run.StateText(ref))
                                         : fmt::format("made by attempt {} of {}, {}", view.attempts.back().number, view.address, TimeText(view.attempts.back().started_ms));
    if (output.value.valid()) out.expression = ir::DumpExpr(plan, ref.job, output.value);
    const PartPlace place = FindPart(plan, ref.job, "output." + output.name, run.header().root);
    if (!place.file.empty()) out.place = fmt::format("{}:{}{}{}", place.file, place.line, place.text.empty() ? "" : ": ", place.text);
    return Print(out, invocation, terminal);
  }
  std::vector<std::string> settings;
  const ir::ExprId id = SettingOf(job, field, settings);
  if (!id.valid()) {
    for (const ir::Output& output : job.outputs) settings.push_back(output.name);
    std::string some;
    for (const std::string& name : settings) some += (some.empty() ? "`" : ", `") + name + "`";
    return Fail(terminal, field.empty() ? fmt::format("`{}` is a job, not a value", address) : fmt::format("`{}` sets no `{}`", job.address, field), {"it has " + (some.empty() ? "nothing" : some)});
  }
  const ir::TypeId type = program.exprs[id].type;
  out.type = program.types.Show(type);
  out.expression = ir::DumpExpr(plan, ref.job, id);
  ir::Value value;
  InstanceContext instance(*(*restored)->state, (*restored)->world.get(), inputs, ref);
  const bool one_instance = found->size() == 1 && ref.ordinal != kWholeJob;
  const bool has = one_instance ? evaluator.Evaluate(id, instance, value) : evaluator.Evaluate(id, context, value);
  out.value = program.types.HasSecret(type) ? "(secret)" : has ? ir::ShowValue(program, value, type, 4000) : one_instance ? "(no value: " + evaluator.fault().message + ")" : "(its own for each instance)";
  const PartPlace place = FindPart(plan, ref.job, field.starts_with("resources.") || field.starts_with("timeout.") || field.starts_with("labels.") ? "env." + field.substr(field.find('.') + 1) : field, run.header().root);
  const bool in_job = !place.text.empty() && place.line != job.at.line;
  out.origin = in_job ? fmt::format("set by `{}`", job.address) : fmt::format("not set by `{}` itself: by a template, `defaults` or a profile{}, or the language's default", job.address, plan.profile.empty() ? "" : " (" + plan.profile + ")");
  if (!place.file.empty()) out.place = fmt::format("{}:{}{}{}", place.file, place.line, place.text.empty() ? "" : ": ", place.text);
  return Print(out, invocation, terminal);
}

}  // namespace

std::optional<int> ExplainOfRun(const Invocation& invocation, Terminal& terminal) {
  const std::string& what = invocation.arguments().front();
  if (what == "run") return ExplainRun(invocation, terminal);
  if (what == "skip") return ExplainSkip(invocation, terminal);
  if (what == "value") return ExplainValue(invocation, terminal);
  return std::nullopt;
}

}  // namespace jobc
