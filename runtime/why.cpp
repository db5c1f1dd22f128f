#include "runtime/why.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <set>
#include <sstream>

#include "compiler/script/script.h"
#include "ir/dump.h"
#include "ir/json.h"
#include "ir/structure.h"
#include "runtime/attempt_context.h"
#include "runtime/expr_uses.h"
#include "runtime/results.h"
#include "runtime/scheduler.h"
#include "support/sha256.h"

namespace jobc {
namespace {

using ir::Op;

/// `script.0` belongs to `script`, `input.x` to `input`.
std::pair<std::string_view, std::string_view> Split(std::string_view part) {
  const size_t dot = part.find('.');
  return dot == std::string_view::npos ? std::pair{part, std::string_view()} : std::pair{part.substr(0, dot), part.substr(dot + 1)};
}

int Rank(std::string_view part) {
  static constexpr std::string_view kOrder[] = {"script", "prologue", "epilogue", "image", "cache_salt", "inherit_env", "secret_files", "input", "env"};
  const auto [head, tail] = Split(part);
  const bool value_of_script = !tail.empty() && (head == "script" || head == "prologue" || head == "epilogue");
  if (!value_of_script) {
    for (size_t i = 0; i < std::size(kOrder); ++i) {
      if (head == kOrder[i]) return static_cast<int>(i);
    }
  }
  if (head == "run" || head == "image_args") return 20;
  if (value_of_script) return 21;
  if (head == "output") return 22;
  if (head == "instance") return 40;
  return 30;
}

uint32_t Number(std::string_view text) {
  uint32_t out = 0;
  for (char c : text) {
    if (c < '0' || c > '9' || out > 100'000'000) return UINT32_MAX;
    out = out * 10 + static_cast<uint32_t>(c - '0');
  }
  return text.empty() ? UINT32_MAX : out;
}

const std::optional<ir::Script>* ScriptOf(const ir::Job& job, std::string_view head) {
  if (head == "script") return &job.script;
  if (head == "prologue") return &job.prologue;
  if (head == "epilogue") return &job.epilogue;
  return nullptr;
}

/// The expression that a part is made of; invalid where there is none.
ir::ExprId ExprOf(const ir::Job& job, std::string_view part) {
  const auto [head, tail] = Split(part);
  if (head == "run" || head == "image_args") return job.run;
  if (head == "image") return job.image;
  if (head == "cache_salt") return job.cache_salt;
  if (head == "instance") return job.domain.list;
  if (head == "input") {
    for (const ir::Input& input : job.inputs) {
      if (input.name == tail) return input.value;
    }
  }
  if (head == "env") {
    for (const ir::EnvEntry& entry : job.env) {
      if (entry.name == tail) return entry.value;
    }
  }
  if (head == "output" || head == "output_path" || head == "output_values") {
    for (const ir::Output& output : job.outputs) {
      if (output.name == tail) return output.value;
    }
  }
  if (const auto* script = ScriptOf(job, head); script != nullptr && *script && !tail.empty()) {
    for (const ir::ScriptBinding& binding : (*script)->bindings) {
      if (binding.hole == Number(tail)) return binding.value;
    }
  }
  return {};
}

std::string ParamText(const ir::Plan& plan, const ir::Param& param) {
  return param.value ? ir::ShowValue(plan.program, *param.value, param.type, 1 << 16) : std::string("?");
}

/// Everything an expression uses, inputs of the job and the list of its `for` included.
void Uses(const ir::Plan& plan, const ir::Job& job, ir::ExprId root, std::set<uint32_t>& params, std::set<uint32_t>& jobs) {
  std::vector<ir::ExprId> roots{root};
  std::set<uint32_t> inputs;
  bool domain = false;
  while (!roots.empty()) {
    const ir::ExprId next = roots.back();
    roots.pop_back();
    if (!next.valid()) continue;
    WalkExpr(plan.program, next, [&](ir::ExprId, const ir::Expr& e) {
      switch (e.op) {
        case Op::Param: params.insert(e.a); break;
        case Op::Input:
          if (inputs.insert(e.a).second && e.a < job.inputs.size()) roots.push_back(job.inputs[e.a].value);
          break;
        case Op::Var:
          if (!domain) {
            domain = true;
            roots.push_back(job.domain.list);
            for (const ir::Axis& axis : job.domain.axes) roots.push_back(axis.values);
          }
          break;
        case Op::Resource:
          for (ir::ExprId id : {job.resources.cpu, job.resources.memory, job.resources.disk, job.resources.gpu, job.resources.spot}) roots.push_back(id);
          break;
        case Op::JobOutput:
        case Op::JobStatus:
        case Op::ScatterStatus:
        case Op::GatherOutput:
        case Op::GatherStatus:
        case Op::Instances: jobs.insert(e.a); break;
        default: break;
      }
      return true;
    });
  }
}

/// Values in parts as people read them: places of the attempt begin with `$`.
std::string Shown(std::string_view json) {
  std::string out(json);
  constexpr std::string_view kPlace = "\\u0001";
  for (size_t at = out.find(kPlace); at != std::string::npos; at = out.find(kPlace, at)) out.replace(at, kPlace.size(), "$");
  for (char& c : out) {
    if (c == '\x01') c = '$';
  }
  if (out == "{\"secret\":true}") return "(a secret; its value is not part of the key)";
  constexpr size_t kLongest = 400;
  if (out.size() > kLongest) {
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;
    out = out.substr(0, end) + "…";
  }
  return out;
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::string Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return std::string(text);
}

/// The first element that differs of two JSON lists; nothing where one of them is no list.
struct Element {
  size_t index = 0;
  std::string before, now;
};
std::optional<Element> FirstElement(const std::string& before, const std::string& now) {
  auto x = ir::ParseJson(before);
  auto y = ir::ParseJson(now);
  if (!x || !y || x->kind() != ir::ValueKind::List || y->kind() != ir::ValueKind::List) return std::nullopt;
  const ir::ListValue& a = x->as_list();
  const ir::ListValue& b = y->as_list();
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string left = i < a.size() ? ir::JsonText(a[i]) : std::string();
    const std::string right = i < b.size() ? ir::JsonText(b[i]) : std::string();
    if (left != right) return Element{i, left, right};
  }
  return std::nullopt;
}

/// `a.txt, sha256 1234567890ab…` of the JSON of a file in a part; else the JSON.
std::string FileText(const std::string& json) {
  auto parsed = ir::ParseJson(json);
  if (!parsed || parsed->kind() != ir::ValueKind::Map) return Shown(json);
  const ir::Value* name = parsed->Find("name");
  const ir::Value* sha256 = parsed->Find("sha256");
  if (sha256 == nullptr) sha256 = parsed->Find("tree");
  if (name == nullptr || sha256 == nullptr || name->kind() != ir::ValueKind::String || sha256->kind() != ir::ValueKind::String) return Shown(json);
  return fmt::format("{}, sha256 {}…", name->as_string(), sha256->as_string().substr(0, 12));
}

bool IsFile(const std::string& json) { return json.rfind("{\"name\":", 0) == 0 || json.rfind("{\"tree\":", 0) == 0; }

std::string NameOfFile(const std::string& json) {
  auto parsed = ir::ParseJson(json);
  const ir::Value* name = parsed && parsed->kind() == ir::ValueKind::Map ? parsed->Find("name") : nullptr;
  return name != nullptr && name->kind() == ir::ValueKind::String ? name->as_string() : std::string();
}

}  // namespace

std::string_view CauseName(Cause cause) {
  switch (cause) {
    case Cause::Source: return "source";
    case Cause::Param: return "param";
    case Cause::InputFile: return "input_file";
    case Cause::Upstream: return "upstream";
    case Cause::Environment: return "environment";
    case Cause::Result: return "result";
  }
  return "environment";
}

std::string_view CauseTitle(Cause cause) {
  switch (cause) {
    case Cause::Source: return "the source changed";
    case Cause::Param: return "a parameter changed";
    case Cause::InputFile: return "an input file changed";
    case Cause::Upstream: return "something upstream changed";
    case Cause::Environment: return "the environment changed";
    case Cause::Result: return "the result is different or gone";
  }
  return "";
}

std::string_view ProspectName(Prospect prospect) {
  switch (prospect) {
    case Prospect::Reused: return "reused";
    case Prospect::Runs: return "runs";
    case Prospect::May: return "may_run";
    case Prospect::Skipped: return "skipped";
    case Prospect::Fails: return "fails";
  }
  return "runs";
}

std::vector<PartDifference> CompareParts(const KeyParts& before, const KeyParts& now) {
  std::vector<PartDifference> out;
  auto x = before.begin();
  auto y = now.begin();
  while (x != before.end() || y != now.end()) {
    if (y == now.end() || (x != before.end() && x->first < y->first)) {
      out.push_back({x->first, x->second, ""});
      ++x;
    } else if (x == before.end() || y->first < x->first) {
      out.push_back({y->first, "", y->second});
      ++y;
    } else {
      if (x->second != y->second) out.push_back({x->first, x->second, y->second});
      ++x;
      ++y;
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const PartDifference& a, const PartDifference& b) { return Rank(a.part) < Rank(b.part); });
  return out;
}

void FindCauses(std::vector<PartDifference>& differences, PlanPair& plans, uint32_t job_before, uint32_t job_now) {
  const ir::Plan& before = plans.before;
  const ir::Plan& now = plans.now;
  const ir::Job& old_job = before.jobs[job_before];
  const ir::Job& job = now.jobs[job_now];
  for (PartDifference& one : differences) {
    const auto [head, tail] = Split(one.part);
    const ir::ExprId was = ExprOf(old_job, one.part);
    const ir::ExprId is = ExprOf(job, one.part);
    const bool text = ScriptOf(job, head) != nullptr && tail.empty();
    if (text || head == "inherit_env" || head == "secret_files" || head == "output" || one.before.empty() || one.now.empty() ||
        was.valid() != is.valid() || plans.before_structure.Of(was, job_before) != plans.now_structure.Of(is, job_now)) {
      one.cause = Cause::Source;
      continue;
    }
    std::set<uint32_t> params, jobs;
    Uses(now, job, is, params, jobs);
    for (uint32_t index : params) {
      const ir::Param& param = now.program.params[index];
      auto old = std::find_if(before.program.params.begin(), before.program.params.end(), [&](const ir::Param& p) { return p.name == param.name; });
      if (old == before.program.params.end() || ParamText(before, *old) != ParamText(now, param)) {
        one.cause = Cause::Param;
        one.cause_name = param.name;
        break;
      }
    }
    if (!one.cause_name.empty()) continue;
    if (!jobs.empty()) {
      one.cause = Cause::Upstream;
      for (uint32_t index : jobs) one.cause_name += (one.cause_name.empty() ? "" : ", ") + now.jobs[index].address;
      continue;
    }
    if (head == "input") {
      one.cause = Cause::InputFile;
      std::string before_json = one.before, now_json = one.now;
      if (auto element = FirstElement(one.before, one.now)) {
        before_json = element->before;
        now_json = element->now;
      }
      one.cause_name = NameOfFile(now_json.empty() ? before_json : now_json);
      if (!one.cause_name.empty()) continue;
    }
    // The same expression over something else: a file that was read at plan time, a loop over other elements.
    one.cause = head == "instance" ? Cause::Source : Cause::Environment;
  }
}

std::string ScriptText(const ir::Script& script) {
  std::string text = script.text;
  auto lowered = script::DecodeBindings(static_cast<script::Interpreter>(script.interpreter), script.text, script.lowered);
  if (!lowered) return text;
  const size_t line_end = std::min(text.find('\n'), text.size());
  if (lowered->line_offset > 0) {
    text.erase(0, std::min(line_end + 1, text.size()));
  } else if (!lowered->bindings.empty()) {
    // Shells: the prelude stands before the first line, so that line numbers stay right.
    constexpr std::string_view kEnd = "unset jobc_; ";
    if (const size_t end = text.rfind(kEnd, line_end); end != std::string::npos) text.erase(0, end + kEnd.size());
  }
  for (const script::Binding& binding : lowered->bindings) {
    if (binding.name.empty()) continue;
    const std::string shown = "~{" + binding.source + "}";
    for (const std::string& used : {"\"${" + binding.name + "}\"", "${" + binding.name + "}", lowered->line_offset > 0 ? binding.name : std::string()}) {
      for (size_t at = used.empty() ? std::string::npos : text.find(used); at != std::string::npos; at = text.find(used, at + shown.size())) text.replace(at, used.size(), shown);
    }
  }
  return text;
}

DifferenceText Describe(const PartDifference& one, const ir::Plan& before, uint32_t job_before, const ir::Plan& now, uint32_t job_now) {
  DifferenceText out;
  const auto [head, tail] = Split(one.part);
  out.before = one.before.empty() ? "(none)" : Shown(one.before);
  out.now = one.now.empty() ? "(none)" : Shown(one.now);
  const std::string name = fmt::format("`{}`", tail);
  if (const auto* script = ScriptOf(now.jobs[job_now], head); script != nullptr && tail.empty()) {
    const auto* old = ScriptOf(before.jobs[job_before], head);
    if (*script && *old) {
      const std::string old_text = ScriptText(**old), text = ScriptText(**script);
      const std::vector<std::string_view> x = Lines(old_text), y = Lines(text);
      size_t i = 0;
      while (i < x.size() && i < y.size() && x[i] == y[i]) ++i;
      out.title = (*script)->interpreter != (*old)->interpreter ? fmt::format("`{}` has another interpreter", head) : fmt::format("`{}` has another text, from its line {} on", head, i + 1);
      out.before = i < x.size() ? Trimmed(x[i]) : "(its end)";
      out.now = i < y.size() ? Trimmed(y[i]) : "(its end)";
    } else {
      out.title = *script ? fmt::format("there was no `{}`", head) : fmt::format("there is no `{}` any more", head);
      out.before = *old ? "(a script)" : "(none)";
      out.now = *script ? "(a script)" : "(none)";
    }
    return out;
  }
  if (const auto* script = ScriptOf(now.jobs[job_now], head); script != nullptr) {
    const ir::ExprId id = ExprOf(now.jobs[job_now], one.part);
    out.title = id.valid() ? fmt::format("a value in `{}` is different: `{}`", head, ir::DumpExpr(now, job_now, id)) : fmt::format("a value in `{}` is gone", head);
    return out;
  }
  if (head == "run" || head == "image_args") {
    if (auto element = FirstElement(one.before, one.now)) {
      out.title = fmt::format("`{}` is different, in word {}", head, element->index + 1);
      out.before = element->before.empty() ? "(its end)" : Shown(element->before);
      out.now = element->now.empty() ? "(its end)" : Shown(element->now);
    } else {
      out.title = fmt::format("`{}` is different", head);
    }
    return out;
  }
  if (head == "input") {
    std::string x = one.before, y = one.now, element_text;
    if (auto element = FirstElement(x, y)) {
      x = element->before;
      y = element->now;
      element_text = fmt::format("[{}]", element->index);
    }
    const std::string input = tail.starts_with('_') ? fmt::format("the file `{}`", NameOfFile(y.empty() ? x : y)) : fmt::format("input `{}{}`", tail, element_text);
    if (IsFile(x) && IsFile(y)) {
      out.title = NameOfFile(x) == NameOfFile(y) ? fmt::format("{} has another content", input) : fmt::format("{} is another file", input);
    } else {
      out.title = x.empty() ? fmt::format("{} is new", input) : y.empty() ? fmt::format("{} is gone", input) : fmt::format("{} has another value", input);
    }
    out.before = x.empty() ? "(none)" : FileText(x);
    out.now = y.empty() ? "(none)" : FileText(y);
    return out;
  }
  if (head == "env") {
    out.title = one.before.empty() ? fmt::format("the variable {} is new", name) : one.now.empty() ? fmt::format("the variable {} is gone", name) : fmt::format("the variable {} has another value", name);
    return out;
  }
  if (head == "output") {
    out.title = one.before.empty() ? fmt::format("output {} is new", name) : one.now.empty() ? fmt::format("output {} is gone", name) : fmt::format("output {} is declared differently", name);
    auto declared = [](const std::string& json) {
      auto parsed = ir::ParseJson(json);
      const ir::Value* type = parsed && parsed->kind() == ir::ValueKind::Map ? parsed->Find("declared") : nullptr;
      return type != nullptr && type->kind() == ir::ValueKind::String ? type->as_string() : std::string("(none)");
    };
    auto expression = [&](const ir::Plan& plan, uint32_t job) {
      for (const ir::Output& output : plan.jobs[job].outputs) {
        if (output.name == tail && output.value.valid()) return " = " + ir::DumpExpr(plan, job, output.value);
      }
      return std::string();
    };
    out.before = declared(one.before);
    out.now = declared(one.now);
    if (out.before == out.now) {
      out.before += expression(before, job_before);
      out.now += expression(now, job_now);
    }
    return out;
  }
  if (head == "output_path") {
    out.title = fmt::format("the path of output {} is different", name);
  } else if (head == "output_values") {
    out.title = fmt::format("a value that output {} uses is different", name);
  } else if (head == "instance") {
    out.title = "it has another key";
  } else {
    out.title = fmt::format("`{}` is different", one.part);
  }
  return out;
}

PartPlace FindPart(const ir::Plan& plan, uint32_t job, const std::string& part, const std::string& root) {
  PartPlace out;
  const ir::Position& at = plan.jobs[job].at;
  if (at.source >= plan.sources.size()) return out;
  const ir::SourceRow& source = plan.sources[at.source];
  out.file = source.name;
  out.line = at.line;
  std::ifstream file(root + "/" + source.name, std::ios::binary);
  std::stringstream all;
  all << file.rdbuf();
  const std::string text = all.str();
  if (!file || Sha256Hex(text) != source.sha256) return out;
  const std::vector<std::string_view> lines = Lines(text);
  if (at.line == 0 || at.line > lines.size()) return out;
  out.text = Trimmed(lines[at.line - 1]);

  // The first line of the job that sets the name; the job itself where it comes from elsewhere, such as a template.
  const auto [head, tail] = Split(part);
  std::string word(head);
  bool named = false;
  if ((head == "input" || head == "env" || head == "output" || head == "output_path" || head == "output_values") && !tail.starts_with('_')) {
    word = tail;
    named = true;
  } else if (head == "instance") {
    word = "for";
  }
  auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  int depth = 0;
  bool opened = false;
  for (size_t i = at.line - 1; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    for (size_t found = line.find(word); found != std::string_view::npos; found = line.find(word, found + 1)) {
      if (found > 0 && is_name(line[found - 1])) continue;
      size_t end = found + word.size();
      if (end < line.size() && is_name(line[end])) continue;
      while (end < line.size() && (line[end] == ' ' || line[end] == '"')) ++end;
      const bool sets = end < line.size() && (line[end] == '=' || (named && line[end] == ':'));
      if (sets || head == "instance") {
        out.line = static_cast<uint32_t>(i + 1);
        out.text = Trimmed(line);
        return out;
      }
    }
    for (char c : line) {
      depth += c == '{' ? 1 : c == '}' ? -1 : 0;
      opened = opened || c == '{';
    }
    if (opened && depth <= 0) break;
  }
  return out;
}

// --- What a run would do ----------------------------------------------------

bool Forecast::HasWork() const {
  return std::any_of(rows.begin(), rows.end(), [](const ForecastRow& row) { return row.prospect == Prospect::Runs || row.prospect == Prospect::May || row.prospect == Prospect::Fails; });
}

Forecast MakeForecast(const ir::Plan& plan, const Roots& roots, EarlierRun* earlier, const std::string& cache_dir) {
  RunState state(plan, "forecast");
  World world(plan, roots, std::vector<std::string>(plan.program.secrets.size()));
  FileHashes hashes;
  KeyMaker keys(plan, world, hashes);
  ir::Evaluator evaluator(plan.program), inputs(plan.program);
  SchedulerOptions options;
  options.look_up.assign(plan.jobs.size(), true);
  Scheduler scheduler(plan, state, options, &world);

  std::optional<PlanPair> plans;
  if (earlier != nullptr) plans.emplace(earlier->reader().plan(), plan);
  std::map<InstanceRef, ForecastRow> rows;
  std::map<InstanceRef, std::shared_ptr<const Verdict>> reasons;
  std::map<uint32_t, uint32_t> job_before;  // job of `plan` to that of the earlier plan, by address
  if (earlier != nullptr) {
    for (uint32_t i = 0; i < plan.jobs.size(); ++i) {
      for (uint32_t k = 0; k < earlier->reader().plan().jobs.size(); ++k) {
        if (earlier->reader().plan().jobs[k].address == plan.jobs[i].address) job_before[i] = k;
      }
    }
  }
  // Addresses of the earlier run's instances, by job, made when first asked for.
  std::map<uint32_t, std::map<std::string, uint32_t>> ordinals;
  auto find_before = [&](uint32_t job, const std::string& address) -> std::optional<InstanceRef> {
    auto before = job_before.find(job);
    if (before == job_before.end()) return std::nullopt;
    auto [it, added] = ordinals.try_emplace(before->second);
    if (added) {
      for (uint32_t i = 0; i < earlier->reader().size(before->second); ++i) it->second.emplace(earlier->reader().Address({before->second, i}), i);
    }
    auto ordinal = it->second.find(address);
    if (ordinal == it->second.end()) return std::nullopt;
    return InstanceRef{before->second, ordinal->second};
  };

  auto look_up = [&](InstanceRef ref) {
    ForecastRow row;
    row.instance = ref;
    row.address = state.Address(ref);
    KeyMaker::Made made = keys.Make(state, ref);
    if (!made.key) {
      row.prospect = Prospect::Fails;
      row.reason = made.problem;
      rows[ref] = std::move(row);
      return;
    }
    row.key = made.key->sha256;
    std::optional<StoredResult> stored = earlier != nullptr ? earlier->Find(made.key->sha256, row.address) : std::nullopt;
    bool cached = false;
    if (!stored && plan.jobs[ref.job].cache.valid() && !cache_dir.empty()) {
      InstanceContext context(state, &world, inputs, ref);
      ir::Value value;
      if (evaluator.Evaluate(plan.jobs[ref.job].cache, context, value) && value.kind() == ir::ValueKind::Bool && value.as_bool()) {
        stored = ResultCache(cache_dir).Find(made.key->sha256);
        cached = stored.has_value();
      }
    }
    if (stored) {
      // Nothing is moved: its files stay where they are.
      RunContext context(state, &world);
      std::string problem;
      auto taken = ReadResult(plan, ref.job, *stored, stored->base_dir, "outputs/" + ir::SafeName(stored->address), evaluator, context);
      if (!taken) {
        problem = taken.error().message;
      } else {
        problem = VerifyFiles(taken->files);
      }
      if (problem.empty()) {
        for (const ResultFile& file : taken->files) hashes.Put(file.source, file.sha256);
        row.prospect = Prospect::Reused;
        row.reason = cached ? "of the result cache" : fmt::format("of run {}", stored->run);
        AttemptResult result;
        result.verdict = Succeeded();
        result.outputs = std::move(taken->outputs);
        result.result = std::move(taken->result);
        result.started_ms = stored->started_ms;
        result.ended_ms = stored->ended_ms;
        rows[ref] = std::move(row);
        scheduler.Reused(ref, std::move(result), stored->attempts, 0);
        return;
      }
      row.reason = problem;
      rows[ref] = std::move(row);
      return;
    }
    const std::optional<InstanceRef> before = find_before(ref.job, row.address);
    if (earlier == nullptr) {
      row.reason = "there is no earlier run";
    } else if (!before) {
      row.reason = "it is new";
    } else {
      auto parts = earlier->reader().KeyPartsOf(*before);
      KeyParts now = keys.Shared(ref.job);
      for (const auto& [name, json] : made.key->own) now[name] = json;
      const InstanceState was = earlier->reader().state(*before);
      if (was != InstanceState::Succeeded) {
        row.reason = IsFinal(was) ? fmt::format("it {} in that run", was == InstanceState::Failed ? "failed" : was == InstanceState::Cancelled ? "was cancelled" : was == InstanceState::Skipped ? "was skipped" : "was blocked")
                                  : "it did not end in that run";
      } else if (!parts || !*parts) {
        row.reason = "nothing was recorded of what it depends on";
      } else {
        row.differences = CompareParts(**parts, now);
        FindCauses(row.differences, *plans, before->job, ref.job);
        row.reason = row.differences.empty() ? "its key was made by another version of jobc" : Describe(row.differences.front(), earlier->reader().plan(), before->job, plan, ref.job).title;
      }
    }
    rows[ref] = std::move(row);
  };

  scheduler.Begin(0);
  for (bool going = true; going;) {
    std::vector<Action> actions = scheduler.TakeActions();
    if (actions.empty()) break;
    for (Action& action : actions) {
      if (auto* look = std::get_if<LookUp>(&action)) {
        look_up(look->instance);
      } else if (auto* start = std::get_if<StartAttempt>(&action)) {
        // Only hooks at the start: what they do is not asked.
        AttemptResult result;
        result.verdict = Succeeded();
        result.outputs.resize(plan.jobs[start->instance.job].outputs.size());
        scheduler.AttemptStarted(start->id, 0);
        scheduler.AttemptEnded(start->id, std::move(result), 0);
        scheduler.AttemptReaped(start->id, 0);
      } else if (auto* change = std::get_if<InstanceChanged>(&action)) {
        if (change->verdict != nullptr) {
          for (uint32_t i = 0; i < change->count; ++i) reasons[{change->first.job, change->first.ordinal == kWholeJob ? kWholeJob : change->first.ordinal + i}] = change->verdict;
        }
      } else if (std::holds_alternative<EvaluateExports>(action)) {
        going = false;  // all jobs have ended
      }
    }
  }

  std::set<InstanceRef> running;
  for (const auto& [ref, row] : rows) {
    if (row.prospect == Prospect::Runs) running.insert(ref);
  }
  Forecast out;
  bool certain = false;  // the first of the needs runs whatever happens
  auto instance = [&](InstanceRef ref) {
    if (auto known = rows.find(ref); known != rows.end()) {
      out.rows.push_back(std::move(known->second));
      return;
    }
    ForecastRow row;
    row.instance = ref;
    row.address = state.Address(ref);
    const InstanceState now = state.state(ref);
    auto reason = reasons.find(ref);
    if (reason != reasons.end()) row.reason = reason->second->message;
    switch (now) {
      case InstanceState::Skipped: row.prospect = Prospect::Skipped; break;
      case InstanceState::Failed:
      case InstanceState::Blocked:
      case InstanceState::Cancelled: row.prospect = Prospect::Fails; break;
      case InstanceState::Succeeded: row.prospect = Prospect::Reused; break;  // a scatter over nothing
      default: {
        row.prospect = Prospect::May;
        certain = false;
        const ir::Job& job = plan.jobs[ref.job];
        // What it waits for: of each job upstream the first instance that has not ended; checks are looked through.
        std::vector<uint32_t> upstream;
        std::set<uint32_t> seen;
        for (const ir::Dependency& dependency : job.dependencies) upstream.push_back(dependency.job);
        for (size_t i = 0; i < upstream.size(); ++i) {
          const uint32_t other = upstream[i];
          if (!seen.insert(other).second || state.all_final(other)) continue;
          if (plan.jobs[other].kind == ir::JobKind::Check) {
            for (const ir::Dependency& dependency : plan.jobs[other].dependencies) upstream.push_back(dependency.job);
            continue;
          }
          if (!state.expanded(other)) {
            row.needs.push_back(plan.jobs[other].address);
            continue;
          }
          // The one with the same place in the same domain, if that is what is waited for.
          bool same = false;
          for (const ir::Dependency& dependency : job.dependencies) same = same || (dependency.job == other && dependency.mapping == ir::Mapping::Same);
          for (uint32_t k = 0; k < state.size(other); ++k) {
            const uint32_t ordinal = same && ref.ordinal != kWholeJob ? ref.ordinal : k;
            if (ordinal < state.size(other) && !IsFinal(state.state({other, ordinal}))) {
              if (row.needs.empty()) certain = running.count({other, ordinal}) != 0;
              row.needs.push_back(state.Address({other, ordinal}));
              break;
            }
            if (same) break;
          }
        }
        row.reason = row.needs.empty() ? "it needs something that runs" : fmt::format("it needs {}, which {}", row.needs.front(), certain ? "runs" : "may run");
        break;
      }
    }
    out.rows.push_back(std::move(row));
  };
  for (uint32_t job = 0; job < plan.jobs.size(); ++job) {
    if (plan.jobs[job].kind != ir::JobKind::Job) continue;
    if (!state.expanded(job)) {
      instance({job, kWholeJob});
      continue;
    }
    for (uint32_t ordinal = 0; ordinal < state.size(job); ++ordinal) instance({job, ordinal});
  }
  return out;
}

}  // namespace jobc
