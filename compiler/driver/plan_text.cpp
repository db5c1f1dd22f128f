#include "compiler/driver/plan_text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fmt/format.h>

#include "compiler/bounds/bounds.h"
#include "ir/dump.h"
#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/json.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

using ir::ExprId;

/// What is known of one instance before the run: its variables, its inputs as far as they are, paths as variables.
class ExpandContext : public ir::EvalContext {
 public:
  ExpandContext(const ir::Plan& plan, ir::Evaluator& evaluator) : plan_(plan), evaluator_(evaluator) {}

  const ir::Job* job = nullptr;
  const ir::Instances* instances = nullptr;
  uint64_t ordinal = 0;

  bool Var(uint32_t slot, ir::Value& out, ir::Fault& fault) override {
    if (instances == nullptr) return EvalContext::Var(slot, out, fault);
    out = instances->Var(ordinal, slot);
    return true;
  }
  bool Input(uint32_t index, ir::Value& out, ir::Fault& fault) override {
    const ir::Input& input = job->inputs[index];
    ir::Evaluator inner(plan_.program);
    if (!inner.Evaluate(input.value, *this, out)) {
      fault = inner.fault();
      fault.kind = ir::FaultKind::Unavailable;
      return false;
    }
    return true;
  }
  bool Resource(ir::ResourceKind kind, ir::Value& out, ir::Fault& fault) override {
    const ir::ResourceSpec& r = job->resources;
    ExprId expr = kind == ir::ResourceKind::Cpu ? r.cpu : kind == ir::ResourceKind::Memory ? r.memory : kind == ir::ResourceKind::Disk ? r.disk
                  : kind == ir::ResourceKind::Gpu ? r.gpu : r.spot;
    ir::Evaluator inner(plan_.program);
    if (!expr.valid() || !inner.Evaluate(expr, *this, out)) {
      fault.kind = ir::FaultKind::Unavailable;
      return false;
    }
    return true;
  }
  bool OutputPath(uint32_t output, ir::Value& out, ir::Fault& fault) override {
    ir::Value path;
    ir::Evaluator inner(plan_.program);
    if (!inner.Evaluate(job->outputs[output].value, *this, path)) {
      fault = inner.fault();
      return false;
    }
    ir::FileValue file;
    file.base = ir::FileBase::Output;
    file.path = path.as_string();
    out = ir::Value::File(std::move(file));
    return true;
  }
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    out = file.base == ir::FileBase::Output ? "$JOB_OUTPUT/" + file.path : file.path;
    return true;
  }

 private:
  const ir::Plan& plan_;
  ir::Evaluator& evaluator_;
};

std::string Quoted(const std::string& word) {
  bool plain = !word.empty() && word.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./-_$") == std::string::npos;
  if (plain) return word;
  std::string out = "'";
  for (char ch : word) {
    if (ch == '\'') out += "'\\''";
    else out += ch;
  }
  return out + "'";
}

std::string_view InterpreterName(uint8_t interpreter) {
  static constexpr std::string_view kNames[] = {"sh", "bash", "python3", "Rscript"};
  return interpreter < 4 ? kNames[interpreter] : "?";
}

/// An expression whose value only the run knows, with the names that the job gives to its inputs and outputs.
std::string Unknown(const ir::Plan& plan, const ir::Job& job, ExprId expr) {
  std::string dump = ir::DumpExpr(plan.program, expr);
  std::string text;
  for (size_t i = 0; i < dump.size();) {
    bool replaced = false;
    for (std::string_view word : {"input", "output"}) {
      const size_t digits = i + word.size();
      const bool starts = i == 0 || (std::isalnum(static_cast<unsigned char>(dump[i - 1])) == 0 && dump[i - 1] != '_' && dump[i - 1] != '"');
      if (!starts || dump.compare(i, word.size(), word) != 0 || digits >= dump.size() || std::isdigit(static_cast<unsigned char>(dump[digits])) == 0) continue;
      size_t end = digits;
      size_t index = 0;
      while (end < dump.size() && std::isdigit(static_cast<unsigned char>(dump[end])) != 0) index = index * 10 + static_cast<size_t>(dump[end++] - '0');
      const bool is_input = word == "input";
      if (index >= (is_input ? job.inputs.size() : job.outputs.size())) continue;
      text += fmt::format("{}.{}", word, is_input ? job.inputs[index].name : job.outputs[index].name);
      i = end;
      replaced = true;
      break;
    }
    if (!replaced) text += dump[i++];
  }
  return text;
}

/// The words of a command; what only the run knows stands as `<expression>`.
std::vector<std::string> Words(const ir::Plan& plan, const ir::Job& job, ir::Evaluator& evaluator, ir::EvalContext& context) {
  std::vector<std::string> words;
  if (!job.run.valid()) return words;
  const ir::Expr& list = plan.program.exprs[job.run];
  for (uint32_t i = 0; i < list.args.size; ++i) {
    ExprId element = plan.program.exprs.arg(list, i);
    const ir::Expr& e = plan.program.exprs[element];
    ir::Value value;
    std::string text;
    if (e.op == ir::Op::Splice) {
      ExprId spliced = plan.program.exprs.arg(e, 0);
      if (evaluator.Evaluate(spliced, context, value)) {
        ir::TypeId type = plan.program.types.NonNull(plan.program.exprs[spliced].type);
        if (value.is_null()) continue;
        if (value.kind() == ir::ValueKind::List && plan.program.types.kind(type) == ir::TypeKind::List) {
          for (const ir::Value& v : value.as_list()) {
            words.push_back(evaluator.ToText(v, plan.program.types[type].a, context, text) ? text : "<?>");
          }
          continue;
        }
        if (evaluator.ToText(value, type, context, text)) {
          words.push_back(text);
          continue;
        }
      }
      words.push_back("<" + Unknown(plan, job, spliced) + "...>");
      continue;
    }
    if (evaluator.Evaluate(element, context, value) && evaluator.ToText(value, e.type, context, text)) {
      words.push_back(text);
    } else {
      words.push_back("<" + Unknown(plan, job, element) + ">");
    }
  }
  return words;
}

std::string_view KindWord(ir::JobKind kind) {
  switch (kind) {
    case ir::JobKind::Job: return "job";
    case ir::JobKind::Check: return "check";
    case ir::JobKind::Finally: return "finally";
    case ir::JobKind::Hook: return "hook";
  }
  return "";
}

std::string CountText(const ir::Job& job) {
  if (job.domain.single()) return "1";
  if (job.domain.dynamic) return job.domain.max ? fmt::format("<= {}", *job.domain.max) : "?";
  return job.domain.count ? std::to_string(*job.domain.count) : "?";
}

std::string WaitsFor(const ir::Plan& plan, const ir::Job& job) {
  std::string text;
  uint32_t last = UINT32_MAX;
  for (const ir::Dependency& dependency : job.dependencies) {
    if (dependency.job == last) continue;
    last = dependency.job;
    text += (text.empty() ? "" : ", ") + plan.jobs[dependency.job].address;
    if (dependency.mapping == ir::Mapping::Same) text += " (same)";
    if (dependency.mapping == ir::Mapping::All && !plan.jobs[dependency.job].domain.single()) text += " (all)";
  }
  return text;
}

}  // namespace

std::string PlanTable(const ir::Plan& plan, const std::string& name) {
  ir::Evaluator evaluator(plan.program);
  ExpandContext context(plan, evaluator);
  uint64_t instances = 0;
  bool bounded = false;
  std::vector<std::array<std::string, 5>> rows;
  std::array<size_t, 5> width{};
  for (const ir::Job& job : plan.jobs) {
    if (job.domain.single()) ++instances;
    else if (job.domain.count) instances += *job.domain.count;
    else if (job.domain.max) {
      instances += *job.domain.max;
      bounded = true;
    }
    context.job = &job;
    std::string does;
    if (job.kind == ir::JobKind::Check) {
      does = fmt::format("{} condition{}", job.requires_.size(), job.requires_.size() == 1 ? "" : "s");
    } else if (job.script) {
      does = fmt::format("script ({})", InterpreterName(job.script->interpreter));
    } else {
      for (const std::string& word : Words(plan, job, evaluator, context)) does += (does.empty() ? "" : " ") + Quoted(word);
      if (does.size() > 60) does = does.substr(0, 57) + "...";
    }
    std::string title = job.kind == ir::JobKind::Job ? job.address : fmt::format("{} {}", KindWord(job.kind), job.address);
    std::string where = job.kind == ir::JobKind::Check ? "jobc" : std::string(ir::BackendName(job.backend.kind));
    rows.push_back({title, CountText(job), where, WaitsFor(plan, job), does});
    for (size_t i = 0; i < 5; ++i) width[i] = std::max(width[i], rows.back()[i].size());
  }
  static constexpr std::string_view kHeads[] = {"JOB", "INSTANCES", "BACKEND", "WAITS FOR", "RUNS"};
  std::string text = fmt::format("{}: {} job{}, {}{} instance{}{}\n\n", name, plan.jobs.size(), plan.jobs.size() == 1 ? "" : "s", bounded ? "at most " : "", instances,
                                 instances == 1 ? "" : "s", plan.profile.empty() ? "" : ", profile " + plan.profile);
  for (size_t i = 0; i < 5; ++i) width[i] = std::max(width[i], kHeads[i].size());
  auto line = [&](auto&& cell) {
    std::string out = "  ";
    for (size_t i = 0; i < 5; ++i) out += fmt::format("{:<{}}  ", cell(i), width[i]);
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + "\n";
  };
  line([&](size_t i) { return kHeads[i]; });
  for (const auto& row : rows) line([&](size_t i) -> const std::string& { return row[i]; });
  return text;
}

int ExpandPlan(const ir::Plan& plan, const std::string& root_directory, bool json, Terminal& terminal) {
  ir::Evaluator evaluator(plan.program);
  ExpandContext context(plan, evaluator);
  std::vector<std::optional<ir::Instances>> all(plan.jobs.size());
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    if (plan.jobs[j].domain.dynamic) continue;
    context.instances = nullptr;
    Result<ir::Instances> expanded = ir::Instances::Expand(plan, j, evaluator, context);
    if (!expanded.ok()) {
      terminal.Err(fmt::format("error: {}\n", expanded.error().message));
      return kExitDiagnostics;
    }
    all[j] = std::move(*expanded);
  }
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const ir::Job& job = plan.jobs[j];
    if (!all[j]) {
      std::string bound = job.domain.max ? std::to_string(*job.domain.max) : "?";
      terminal.Out(json ? fmt::format("{{\"at_most\":{},\"job\":{}}}\n", job.domain.max.value_or(0), ir::JsonQuote(job.address))
                        : fmt::format("{}[…]  at most {} instances, known when {} ended\n", job.address, bound, WaitsFor(plan, job)));
      continue;
    }
    for (uint64_t i = 0; i < all[j]->size(); ++i) {
      context.job = &job;
      context.instances = &*all[j];
      context.ordinal = i;
      std::vector<std::string> needs;
      for (const ir::Dependency& dependency : job.dependencies) {
        const ir::Job& other = plan.jobs[dependency.job];
        ir::Value condition;
        if (dependency.condition.valid() && evaluator.Evaluate(dependency.condition, context, condition) && !condition.as_bool()) continue;
        if (!all[dependency.job]) {
          needs.push_back(other.address + "[*]");
        } else if (dependency.mapping == ir::Mapping::Same) {
          needs.push_back(all[dependency.job]->Address(i));
        } else if (dependency.mapping == ir::Mapping::Expr) {
          ir::ListValue indices;
          for (ExprId index : dependency.indices) {
            ir::Value value;
            if (evaluator.Evaluate(index, context, value)) indices.push_back(std::move(value));
          }
          int64_t found = all[dependency.job]->Find(indices);
          if (found >= 0) needs.push_back(all[dependency.job]->Address(static_cast<uint64_t>(found)));
        } else if (other.domain.single()) {
          needs.push_back(other.address);
        } else {
          needs.push_back(other.address + "[*]");
        }
      }
      needs.erase(std::unique(needs.begin(), needs.end()), needs.end());
      std::vector<std::string> words = Words(plan, job, evaluator, context);
      if (json) {
        std::string line = fmt::format("{{\"address\":{},\"kind\":\"{}\",\"needs\":[", ir::JsonQuote(all[j]->Address(i)), KindWord(job.kind));
        for (size_t k = 0; k < needs.size(); ++k) line += (k > 0 ? "," : "") + ir::JsonQuote(needs[k]);
        line += "]";
        if (job.run.valid()) {
          line += ",\"run\":[";
          for (size_t k = 0; k < words.size(); ++k) line += (k > 0 ? "," : "") + ir::JsonQuote(words[k]);
          line += "]";
        } else if (job.script) {
          line += fmt::format(",\"script\":{{\"interpreter\":\"{}\",\"sha256\":\"{}\"}}", InterpreterName(job.script->interpreter), job.script->sha256);
        }
        terminal.Out(line + "}\n");
        continue;
      }
      std::string line = all[j]->Address(i);
      if (!needs.empty()) {
        line += "  after ";
        for (size_t k = 0; k < needs.size(); ++k) line += (k > 0 ? ", " : "") + needs[k];
      }
      line += "\n";
      if (job.run.valid()) {
        line += "    ";
        for (size_t k = 0; k < words.size(); ++k) line += (k > 0 ? " " : "") + Quoted(words[k]);
        line += "\n";
      } else if (job.script) {
        line += fmt::format("    {} script, sha256 {}\n", InterpreterName(job.script->interpreter), job.script->sha256.substr(0, 12));
      }
      terminal.Out(line);
    }
  }
  return kExitOk;
}

std::string DumpModel(const Model& model) {
  const ir::Program& program = model.plan.program;
  std::string text;
  for (const ir::Param& param : program.params) {
    text += fmt::format("param {}: {}", param.name, program.types.Show(param.type));
    if (param.fallback.valid()) text += " = " + ir::DumpExpr(program, param.fallback);
    text += "\n";
  }
  for (const ir::Let& let : program.lets) text += fmt::format("let {} = {}\n", let.name, let.value.valid() ? ir::DumpExpr(program, let.value) : "?");
  for (const ir::Fn& fn : program.fns) text += fmt::format("fn {}/{} = {}\n", fn.name, fn.params, fn.body.valid() ? ir::DumpExpr(program, fn.body) : "?");
  for (const ir::Job& job : model.plan.jobs) {
    text += fmt::format("{} {}{}\n", KindWord(job.kind), job.address, job.nullable ? " (outputs may be null)" : "");
    auto show = [&](std::string_view name, ExprId expr) {
      if (expr.valid()) text += fmt::format("  {} = {}\n", name, ir::DumpExpr(program, expr));
    };
    show("for", job.domain.list);
    show("key", job.domain.key);
    for (const ir::Axis& axis : job.domain.axes) show("matrix " + axis.name, axis.values);
    show("when", job.when);
    for (const ir::Dependency& dependency : job.dependencies) {
      static constexpr std::string_view kMappings[] = {"single", "same", "expr", "all"};
      text += fmt::format("  needs {} {} {}\n", model.plan.jobs[dependency.job].address, kMappings[static_cast<size_t>(dependency.mapping)], dependency.strong ? "success" : "end");
    }
    for (const ir::Input& input : job.inputs) text += fmt::format("  input {}: {} = {}\n", input.name, program.types.Show(input.type), ir::DumpExpr(program, input.value));
    for (const ir::EnvEntry& entry : job.env) show("env " + entry.name, entry.value);
    show("run", job.run);
    if (job.script) text += fmt::format("  script {} {}\n", InterpreterName(job.script->interpreter), job.script->sha256);
    for (const ir::Require& require : job.requires_) show("require", require.condition);
    for (const ir::Output& output : job.outputs) {
      static constexpr std::string_view kKinds[] = {"path", "glob", "json", "expr"};
      text += fmt::format("  output {}: {} {}", output.name, program.types.Show(output.type), kKinds[static_cast<size_t>(output.kind)]);
      if (output.value.valid()) text += " = " + ir::DumpExpr(program, output.value);
      text += "\n";
    }
  }
  for (const ir::Export& entry : model.plan.exports) text += fmt::format("export {}: {} = {}\n", entry.name, program.types.Show(entry.type), ir::DumpExpr(program, entry.value));
  for (const Profile& profile : model.profiles) text += fmt::format("profile {}{}: {} jobs differ\n", profile.name, profile.is_default ? " (default)" : "", profile.jobs.size());
  return text;
}

std::string GraphText(const ir::Plan& plan, std::string_view format, bool critical) {
  std::optional<bounds::PlanBounds> bounds;
  std::vector<uint32_t> path;
  if (critical) {
    bounds = bounds::Bound(plan);
    path = bounds::CriticalPath(plan, *bounds);
  }
  const auto on_path = [&](uint32_t j) { return std::find(path.begin(), path.end(), j) != path.end(); };
  const auto step = [&](uint32_t from, uint32_t to) {
    const auto at = std::find(path.begin(), path.end(), from);
    return at != path.end() && at + 1 != path.end() && *(at + 1) == to;
  };
  struct Edge {
    uint32_t from, to;
    std::string label;
    bool weak;
  };
  std::vector<Edge> edges;
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    for (const ir::Dependency& dependency : plan.jobs[j].dependencies) {
      if (!edges.empty() && edges.back().from == dependency.job && edges.back().to == j) {
        edges.back().weak = edges.back().weak && !dependency.strong;
        continue;
      }
      std::string label = dependency.mapping == ir::Mapping::Same ? "same" : dependency.mapping == ir::Mapping::All && !plan.jobs[dependency.job].domain.single() ? "all" : "";
      edges.push_back({dependency.job, j, label, !dependency.strong});
    }
  }
  std::string text;
  if (format == "json") {
    text = "{";
    if (critical) {
      std::optional<int64_t> sum = 0;
      text += "\"critical\":{\"path\":[";
      for (size_t i = 0; i < path.size(); ++i) {
        text += (i > 0 ? "," : "") + ir::JsonQuote(plan.jobs[path[i]].address);
        const std::optional<int64_t>& time = bounds->jobs[path[i]].time_ms;
        sum = sum && time ? std::optional(bounds::Plus(*sum, *time)) : std::nullopt;
      }
      text += fmt::format("],\"time_ms\":{}}},", sum ? std::to_string(*sum) : "null");
    }
    text += "\"edges\":[";
    for (size_t i = 0; i < edges.size(); ++i) {
      const std::string marked = critical ? fmt::format("\"critical\":{},", step(edges[i].from, edges[i].to)) : "";
      text += fmt::format("{}{{{}\"from\":{},\"mapping\":\"{}\",\"needs\":\"{}\",\"to\":{}}}", i > 0 ? "," : "", marked, ir::JsonQuote(plan.jobs[edges[i].from].address),
                          edges[i].label.empty() ? "one" : edges[i].label, edges[i].weak ? "end" : "success", ir::JsonQuote(plan.jobs[edges[i].to].address));
    }
    text += "],\"nodes\":[";
    for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
      const std::string marked = critical ? fmt::format("\"critical\":{},", on_path(j)) : "";
      const std::string time = critical ? fmt::format(",\"time_ms\":{}", bounds->jobs[j].time_ms ? std::to_string(*bounds->jobs[j].time_ms) : "null") : "";
      text += fmt::format("{}{{{}\"instances\":{},\"job\":{},\"kind\":\"{}\"{}}}", j > 0 ? "," : "", marked, ir::JsonQuote(CountText(plan.jobs[j])), ir::JsonQuote(plan.jobs[j].address),
                          KindWord(plan.jobs[j].kind), time);
    }
    return text + "]}\n";
  }
  const auto title = [&](uint32_t j, std::string_view line) {
    const ir::Job& job = plan.jobs[j];
    std::string text = job.domain.single() ? job.address : fmt::format("{} × {}", job.address, CountText(job));
    if (critical && job.kind != ir::JobKind::Check) text += fmt::format("{}{}{}", line, bounds->jobs[j].time_ms ? "≤ " : "", bounds::TimeText(bounds->jobs[j].time_ms));
    return text;
  };
  if (format == "mermaid") {
    text = "flowchart TD\n";
    for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
      const ir::Job& job = plan.jobs[j];
      const bool check = job.kind == ir::JobKind::Check;
      text += fmt::format("  n{}{}\"{}\"{}\n", j, check ? "{" : "[", title(j, "<br/>"), check ? "}" : "]");
    }
    for (const Edge& edge : edges) text += fmt::format("  n{} {}{} n{}\n", edge.from, edge.weak ? "-.->" : "-->", edge.label.empty() ? "" : "|" + edge.label + "|", edge.to);
    if (path.empty()) return text;
    std::string nodes, links;
    for (uint32_t j : path) nodes += fmt::format("{}n{}", nodes.empty() ? "" : ",", j);
    for (size_t i = 0; i < edges.size(); ++i) {
      if (step(edges[i].from, edges[i].to)) links += fmt::format("{}{}", links.empty() ? "" : ",", i);
    }
    text += "  classDef critical stroke:#c00,stroke-width:3px\n  class " + nodes + " critical\n";
    if (!links.empty()) text += "  linkStyle " + links + " stroke:#c00,stroke-width:3px\n";
    return text;
  }
  text = "digraph jobs {\n  rankdir=TB;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n";
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const ir::Job& job = plan.jobs[j];
    text += fmt::format("  n{} [label={}{}{}];\n", j, ir::JsonQuote(title(j, "\n")), on_path(j) ? ", color=\"#cc0000\", penwidth=2" : "", job.kind == ir::JobKind::Check ? ", shape=diamond" : job.kind == ir::JobKind::Finally ? ", style=\"rounded,dashed\"" : "");
  }
  for (const Edge& edge : edges) {
    std::string attributes = edge.label.empty() ? "" : fmt::format("label=\"{}\"", edge.label);
    if (edge.weak) attributes += std::string(attributes.empty() ? "" : ", ") + "style=dashed";
    if (step(edge.from, edge.to)) attributes += std::string(attributes.empty() ? "" : ", ") + "color=\"#cc0000\", penwidth=2";
    text += fmt::format("  n{} -> n{}{};\n", edge.from, edge.to, attributes.empty() ? "" : " [" + attributes + "]");
  }
  return text + "}\n";
}

std::string InputsText(const Model& model, bool json) {
  const ir::Program& program = model.plan.program;
  ir::Evaluator evaluator(program);
  ir::EvalContext nothing;
  std::string text;
  if (json) text = "[";
  size_t width = 0;
  for (const ir::Param& param : program.params) width = std::max(width, param.name.size() + program.types.Show(param.type).size());
  bool first = true;
  for (const ir::Param& param : program.params) {
    std::string type = program.types.Show(param.type);
    std::string fallback;
    ir::Value value;
    bool constant = param.fallback.valid() && evaluator.Evaluate(param.fallback, nothing, value);
    if (constant) {
      Result<std::string> encoded = ir::EncodeJson(value, program.types.Bare(param.type), program, nothing);
      if (encoded.ok()) {
        fallback = *encoded;
      } else if (!json) {
        // Files are relative to their source: for people to read, not to be given back.
        class Paths : public ir::EvalContext {
          bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
            out = file.base == ir::FileBase::Text ? fmt::format("text of `{}`", file.path) : file.path;
            return true;
          }
        } paths;
        Result<std::string> shown = ir::EncodeJson(value, program.types.Bare(param.type), program, paths);
        if (shown.ok()) fallback = *shown;
      }
    } else if (param.fallback.valid()) {
      fallback = ir::DumpExpr(program, param.fallback);
    }
    if (json) {
      text += fmt::format("{}{{", first ? "" : ",");
      if (param.fallback.valid() && constant && !fallback.empty()) text += fmt::format("\"default\":{},", fallback);
      if (!param.doc.empty()) text += fmt::format("\"doc\":{},", ir::JsonQuote(param.doc));
      text += fmt::format("\"name\":{},\"required\":{},\"type\":{}}}", ir::JsonQuote(param.name), param.fallback.valid() || program.types.IsOptional(param.type) ? "false" : "true", ir::JsonQuote(type));
    } else {
      std::string left = param.name + ": " + type;
      text += fmt::format("{:<{}}  {}\n", left, width + 2, param.fallback.valid() ? "= " + fallback : program.types.IsOptional(param.type) ? "= null" : "(required)");
      if (!param.doc.empty()) {
        std::string doc = "    " + param.doc;
        for (size_t at = 0; (at = doc.find('\n', at)) != std::string::npos; at += 5) doc.insert(at + 1, "    ");
        text += doc + "\n";
      }
    }
    first = false;
  }
  if (json) text += "]\n";
  return text;
}

}  // namespace jobc
