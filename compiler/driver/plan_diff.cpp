#include "compiler/driver/plan_diff.h"

#include <algorithm>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <set>

#include "ir/dump.h"
#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/json.h"
#include "ir/op_shape.h"
#include "ir/structure.h"
#include "runtime/expr_uses.h"

namespace jobc {
namespace {

using ir::ExprId;

struct Field {
  std::string digest;  ///< equal: the same
  std::string shown;
};

/// Everything a job declares, by name; what is not given is not there.
class JobFields {
 public:
  JobFields(const ir::Plan& plan, uint32_t index, ir::Structure& structure) : plan_(plan), job_(plan.jobs[index]), index_(index), structure_(structure) {
    Add("run", job_.run);
    Script("script", job_.script);
    Script("prologue", job_.prologue);
    Script("epilogue", job_.epilogue);
    for (const ir::Input& input : job_.inputs) Add("input " + input.name, input.value, structure_.Of(input.type), ": " + plan.program.types.Show(input.type) + " = ");
    for (const ir::EnvEntry& entry : job_.env) Add("env " + entry.name, entry.value);
    for (const ir::NamedExpr& file : job_.secret_files) Add("secret file " + file.name, file.value);
    for (const ir::Output& output : job_.outputs) {
      std::string more = fmt::format("{}|{}|{}|{}|{}", static_cast<int>(output.kind), structure_.Of(output.type), output.glob_min.value_or(-1), output.glob_max.value_or(-1),
                                     structure_.Of(output.fallback, index_));
      const std::string type = plan.program.types.Show(output.type);
      if (output.value.valid()) {
        Add("output " + output.name, output.value, more, ": " + type + " = ");
      } else {
        fields["output " + output.name] = {more, type};
      }
    }
    Add("image", job_.image);
    Add("when", job_.when);
    Domain();
    for (const ir::After& after : job_.after) {
      std::string text = fmt::format("{}{}", plan.jobs[after.job].address, after.kind == ir::AfterKind::Done ? ".done" : after.kind == ir::AfterKind::Failed ? ".failed" : "");
      std::string digest = text + std::to_string(static_cast<int>(after.mapping));
      for (ExprId id : after.indices) digest += structure_.Of(id, index_);
      fields["after " + text] = {digest, text};
    }
    Resources("resources.", job_.resources);
    Timeouts("timeout.", job_.timeout);
    Add("priority", job_.priority);
    for (const auto& [pool, slots] : job_.pools) Add("pool " + plan.pools[pool].name, slots);
    Add("grace", job_.grace);
    Add("log_limit", job_.log_limit);
    Errors();
    Retry();
    if (job_.on_error_set) fields["on_error"] = {std::string(ir::StrategyName(job_.on_error)), std::string(ir::StrategyName(job_.on_error))};
    for (const ir::Require& require : job_.requires_) {
      fields["require " + require.text] = {structure_.Of(require.condition, index_) + structure_.Of(require.message, index_), require.text};
    }
    Add("cache", job_.cache);
    Add("cache_salt", job_.cache_salt);
    for (const ir::NamedExpr& label : job_.labels) Add("label " + label.name, label.value);
    for (const std::string& name : job_.inherit_env) fields["inherit_env " + name] = {name, name};
    fields["backend"] = {std::string(ir::BackendName(job_.backend.kind)), std::string(ir::BackendName(job_.backend.kind))};
    for (const ir::NamedExpr& option : job_.backend.options) Add("backend." + option.name, option.value);
    Add("staging", job_.staging);
  }

  std::map<std::string, Field> fields;

 private:
  void Add(const std::string& name, ExprId id, const std::string& more = "", const std::string& lead = "") {
    if (!id.valid()) return;
    fields[name] = {structure_.Of(id, index_) + more, (lead.empty() ? "" : lead.substr(lead.find_first_not_of(": "))) + ir::DumpExpr(plan_, index_, id)};
  }
  void Script(const std::string& name, const std::optional<ir::Script>& script) {
    if (!script) return;
    fields[name] = {fmt::format("{}{}", script->interpreter, script->text), ScriptText(*script)};
    for (const ir::ScriptBinding& binding : script->bindings) Add(fmt::format("value {} of {}", binding.hole + 1, name), binding.value, binding.splice ? "..." : "");
  }
  void Domain() {
    const ir::Domain& domain = job_.domain;
    if (domain.single()) return;
    std::string digest = fmt::format("{}|{}|{}", structure_.Of(domain.list, index_), structure_.Of(domain.key, index_), domain.max.value_or(0));
    std::string shown;
    if (domain.list.valid()) shown = fmt::format("{}{} in {}", domain.name, domain.name2.empty() ? "" : ", " + domain.name2, ir::DumpExpr(plan_, index_, domain.list));
    for (const ir::Axis& axis : domain.axes) {
      digest += "|" + axis.name + structure_.Of(axis.values, index_);
      shown += fmt::format("{}{} = {}", shown.empty() ? "" : "; ", axis.name, ir::DumpExpr(plan_, index_, axis.values));
    }
    for (const auto& row : domain.excluded) {
      for (const auto& [axis, value] : row) digest += fmt::format("|{}{}", axis, structure_.Of(value, index_));
      digest += "/";
    }
    fields["instances"] = {digest, shown};
  }
  void Resources(const std::string& lead, const ir::ResourceSpec& spec) {
    Add(lead + "cpu", spec.cpu);
    Add(lead + "memory", spec.memory);
    Add(lead + "disk", spec.disk);
    Add(lead + "gpu", spec.gpu);
    Add(lead + "spot", spec.spot);
  }
  void Timeouts(const std::string& lead, const ir::TimeoutSpec& spec) {
    Add(lead + "queue", spec.queue);
    Add(lead + "run", spec.run);
    Add(lead + "total", spec.total);
    Add(lead + "idle", spec.idle);
    Add(lead + "stage", spec.stage);
    Add(lead + "collect", spec.collect);
  }
  std::string Backoff(const ir::Backoff& backoff) {
    return fmt::format("{}|{}|{}|{}|{}", static_cast<int>(backoff.kind), structure_.Of(backoff.base, index_), structure_.Of(backoff.max, index_), backoff.factor, backoff.full_jitter);
  }
  static std::string Names(const std::vector<ir::Matcher>& matchers) {
    std::string out;
    for (const ir::Matcher& matcher : matchers) {
      out += out.empty() ? "" : ", ";
      out += matcher.kind ? std::string(ir::KindName(*matcher.kind)) : matcher.error_class ? std::string(ir::ClassName(*matcher.error_class)) : matcher.name;
    }
    return out;
  }
  static std::string FactText(const ir::Fact& fact) {
    std::string out = fmt::format("{}:{}:{}:{}(", static_cast<int>(fact.kind), fact.low, fact.high, fact.pattern);
    for (const ir::Fact& operand : fact.operands) out += FactText(operand);
    return out + ")";
  }
  void Errors() {
    std::string digest;
    for (const ir::ErrorArm& arm : job_.errors) {
      digest += fmt::format("{}{}{}{}{}|", FactText(arm.fact), arm.success, static_cast<int>(arm.kind), arm.name, arm.title);
    }
    if (!digest.empty()) fields["errors"] = {digest, fmt::format("{} arms", job_.errors.size())};
  }
  void Retry() {
    const ir::Retry& retry = job_.retry;
    fields["retry.max_attempts"] = {std::to_string(retry.max_attempts), std::to_string(retry.max_attempts)};
    if (retry.backoff.base.valid()) fields["retry.backoff"] = {Backoff(retry.backoff), "from " + ir::DumpExpr(plan_, index_, retry.backoff.base)};
    if (retry.has_on) fields["retry.on"] = {Names(retry.on), Names(retry.on)};
    if (!retry.never.empty()) fields["retry.never"] = {Names(retry.never), Names(retry.never)};
    for (size_t i = 0; i < retry.rules.size(); ++i) {
      const ir::RetryRule& rule = retry.rules[i];
      std::string digest = fmt::format("{}|{}|{}|{}", i, rule.retries.value_or(-1), structure_.Of(rule.delay, index_), rule.backoff ? Backoff(*rule.backoff) : "");
      for (ExprId id : {rule.resources.cpu, rule.resources.memory, rule.resources.disk, rule.resources.gpu, rule.resources.spot, rule.timeout.queue, rule.timeout.run, rule.timeout.total,
                        rule.timeout.idle, rule.timeout.stage, rule.timeout.collect}) {
        digest += "|" + structure_.Of(id, index_);
      }
      fields["retry.on " + Names(rule.matchers)] = {digest, rule.retries ? fmt::format("{} retries", *rule.retries) : std::string("retries")};
    }
    fields["submit"] = {fmt::format("{}|{}", job_.submit.max_attempts, Backoff(job_.submit.backoff)), fmt::format("{} attempts", job_.submit.max_attempts)};
  }

  const ir::Plan& plan_;
  const ir::Job& job_;
  uint32_t index_;
  ir::Structure& structure_;
};

/// What a profile may set.
bool OfProfile(std::string_view field) {
  for (std::string_view lead : {"backend", "staging", "image", "resources.", "timeout.", "retry", "submit", "errors", "priority", "pool ", "prologue", "epilogue", "label ", "log_limit", "grace",
                                "inherit_env", "env ", "value "}) {
    if (field.starts_with(lead)) return true;
  }
  return false;
}

std::string Short(const std::string& text, size_t limit = 200) {
  std::string out = text;
  for (char& c : out) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  }
  if (out.size() <= limit) return out;
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;
  return out.substr(0, end) + "…";
}

/// The first line that differs, of both.
void FirstLine(std::string& before, std::string& now) {
  size_t begin = 0;
  for (size_t i = 0; i < before.size() && i < now.size() && before[i] == now[i]; ++i) {
    if (before[i] == '\n') begin = i + 1;
  }
  auto line = [&](const std::string& text) { return text.substr(std::min(begin, text.size()), text.find('\n', begin) == std::string::npos ? std::string::npos : text.find('\n', begin) - begin); };
  const std::string x = line(before), y = line(now);
  before = x.empty() ? "(nothing)" : x;
  now = y.empty() ? "(nothing)" : y;
}

std::string FileKey(const ir::FileRow& row) { return fmt::format("{}{}", row.base == ir::FileBase::Source || row.base == ir::FileBase::Absolute || row.base == ir::FileBase::Uri ? "" : "working directory: ", row.path); }

/// Whether the job uses a parameter or file that changed, through any of its expressions.
bool UsesParams(const ir::Plan& plan, uint32_t index, const std::set<std::string>& params) {
  if (params.empty()) return false;
  const ir::Job& job = plan.jobs[index];
  std::vector<ExprId> roots{job.run, job.when, job.image, job.cache_salt, job.domain.list, job.domain.key};
  for (const ir::Axis& axis : job.domain.axes) roots.push_back(axis.values);
  for (const ir::Input& input : job.inputs) roots.push_back(input.value);
  for (const ir::EnvEntry& entry : job.env) roots.push_back(entry.value);
  for (const ir::Output& output : job.outputs) roots.push_back(output.value);
  for (const auto* script : {&job.script, &job.prologue, &job.epilogue}) {
    if (!*script) continue;
    for (const ir::ScriptBinding& binding : (*script)->bindings) roots.push_back(binding.value);
  }
  for (const ir::Require& require : job.requires_) roots.push_back(require.condition);
  for (ExprId root : roots) {
    if (root.valid() && !WalkExpr(plan.program, root, [&](ExprId, const ir::Expr& e) { return e.op != ir::Op::Param || params.count(plan.program.params[e.a].name) == 0; })) return true;
  }
  return false;
}

bool UsesFiles(const ir::Plan& plan, uint32_t index, const std::set<std::string>& files) {
  if (files.empty()) return false;
  ir::EvalContext nothing;
  ir::Evaluator evaluator(plan.program);
  std::function<bool(const ir::Value&)> holds = [&](const ir::Value& value) {
    if (value.kind() == ir::ValueKind::File) return files.count(value.as_file().path) != 0;
    if (value.kind() == ir::ValueKind::List) return std::any_of(value.as_list().begin(), value.as_list().end(), holds);
    if (value.kind() == ir::ValueKind::Map) return std::any_of(value.as_map().begin(), value.as_map().end(), [&](const auto& entry) { return holds(entry.second); });
    return false;
  };
  const ir::Job& job = plan.jobs[index];
  for (const ir::Input& input : job.inputs) {
    ir::Value value;
    if (evaluator.Evaluate(input.value, nothing, value)) {
      if (holds(value)) return true;
      continue;
    }
    if (job.domain.dynamic || job.domain.single()) continue;
    auto instances = ir::Instances::Expand(plan, index, evaluator, nothing);
    if (!instances) continue;
    struct Context : ir::EvalContext {
      const ir::Instances* instances = nullptr;
      uint64_t ordinal = 0;
      bool Var(uint32_t slot, ir::Value& out, ir::Fault&) override {
        out = instances->Var(ordinal, slot);
        return true;
      }
    } context;
    context.instances = &*instances;
    for (; context.ordinal < instances->size(); ++context.ordinal) {
      if (!evaluator.Evaluate(input.value, context, value)) break;
      if (holds(value)) return true;
    }
  }
  return false;
}

}  // namespace

std::vector<PlanChange> ComparePlans(const ir::Plan& before, const ir::Plan& now) {
  std::vector<PlanChange> out;
  auto compare = [&](Cause cause, std::string_view what, const std::map<std::string, std::pair<std::string, std::string>>& x, const std::map<std::string, std::pair<std::string, std::string>>& y,
                     std::set<std::string>* changed = nullptr) {
    std::set<std::string> names;
    for (const auto& [name, value] : x) names.insert(name);
    for (const auto& [name, value] : y) names.insert(name);
    for (const std::string& name : names) {
      auto a = x.find(name), b = y.find(name);
      if (a != x.end() && b != y.end() && a->second.first == b->second.first) continue;
      out.push_back({cause, "", what.empty() ? name : fmt::format("{} `{}`", what, name), a == x.end() ? "" : a->second.second, b == y.end() ? "" : b->second.second});
      if (changed != nullptr) changed->insert(name);
    }
  };
  using Rows = std::map<std::string, std::pair<std::string, std::string>>;
  auto sources = [](const ir::Plan& plan) {
    Rows rows;
    for (const ir::SourceRow& row : plan.sources) rows[row.name] = {row.sha256, "sha256 " + row.sha256.substr(0, 12) + "…"};
    return rows;
  };
  auto params = [](const ir::Plan& plan) {
    Rows rows;
    for (const ir::Param& param : plan.program.params) {
      const std::string text = param.value ? ir::ShowValue(plan.program, *param.value, param.type, 1 << 16) : "?";
      rows[param.name] = {text, fmt::format("{} ({})", Short(text), param.origin)};
    }
    return rows;
  };
  auto files = [](const ir::Plan& plan) {
    Rows rows;
    for (const ir::FileRow& row : plan.files) rows[FileKey(row)] = {row.sha256 + std::to_string(row.is_dir), fmt::format("{} bytes, sha256 {}…", row.size, row.sha256.substr(0, 12))};
    return rows;
  };
  auto secrets = [](const ir::Plan& plan) {
    Rows rows;
    for (const ir::Secret& secret : plan.program.secrets) {
      const std::string text = fmt::format("{}(\"{}\")", secret.carrier == ir::SecretCarrier::Env ? "env" : secret.carrier == ir::SecretCarrier::File ? "file" : "store", secret.source);
      rows[secret.name] = {text, text};
    }
    return rows;
  };
  std::set<std::string> changed_params, changed_files;
  compare(Cause::Source, "source", sources(before), sources(now));
  ir::Structure old_structure(before), structure(now);
  std::map<std::string, uint32_t> old_jobs, jobs;
  for (uint32_t i = 0; i < before.jobs.size(); ++i) old_jobs[before.jobs[i].address] = i;
  for (uint32_t i = 0; i < now.jobs.size(); ++i) jobs[now.jobs[i].address] = i;
  const bool other_profile = before.profile != now.profile;
  std::set<uint32_t> direct;
  for (uint32_t i = 0; i < before.jobs.size(); ++i) {
    if (jobs.count(before.jobs[i].address) == 0) out.push_back({Cause::Source, before.jobs[i].address, "the job is gone", "", ""});
  }
  for (uint32_t i = 0; i < now.jobs.size(); ++i) {
    const std::string& address = now.jobs[i].address;
    auto old = old_jobs.find(address);
    if (old == old_jobs.end()) {
      out.push_back({Cause::Source, address, "the job is new", "", ""});
      direct.insert(i);
      continue;
    }
    const JobFields x(before, old->second, old_structure), y(now, i, structure);
    std::set<std::string> names;
    for (const auto& [name, field] : x.fields) names.insert(name);
    for (const auto& [name, field] : y.fields) names.insert(name);
    for (const std::string& name : names) {
      auto a = x.fields.find(name), b = y.fields.find(name);
      if (a != x.fields.end() && b != y.fields.end() && a->second.digest == b->second.digest) continue;
      PlanChange change{other_profile && OfProfile(name) ? Cause::Environment : Cause::Source, address, name, a == x.fields.end() ? "" : a->second.shown, b == y.fields.end() ? "" : b->second.shown};
      if (name == "script" || name == "prologue" || name == "epilogue") FirstLine(change.before, change.now);
      change.before = Short(change.before);
      change.now = Short(change.now);
      out.push_back(std::move(change));
      direct.insert(i);
    }
  }
  auto named = [&](const ir::Plan& plan, ir::Structure& of) {
    Rows rows;
    for (const ir::Export& one : plan.exports) rows["export " + one.name] = {of.Of(one.value, UINT32_MAX) + of.Of(one.type), Short(ir::DumpExpr(plan, UINT32_MAX, one.value))};
    for (const ir::Pool& pool : plan.pools) rows["pool " + pool.name] = {of.Of(pool.slots, UINT32_MAX), ir::DumpExpr(plan, UINT32_MAX, pool.slots)};
    for (const ir::Publish& publish : plan.publishes) {
      for (const ir::PublishEntry& entry : publish.entries) {
        const std::string path = ir::DumpExpr(plan, UINT32_MAX, entry.path);
        rows[fmt::format("publish {} {}", publish.destination, path)] = {of.Of(entry.value, UINT32_MAX) + std::to_string(publish.prune), Short(ir::DumpExpr(plan, UINT32_MAX, entry.value))};
      }
    }
    auto limit = [&](const char* name, const std::optional<int64_t>& value) {
      if (value) rows[std::string("limits.") + name] = {std::to_string(*value), name == std::string("time") || name == std::string("keep") ? ir::DurationText(*value) : std::to_string(*value)};
    };
    limit("time", plan.limits.time_ms);
    limit("keep", plan.limits.keep_ms);
    limit("attempts", plan.limits.attempts);
    limit("instances", plan.limits.instances);
    if (plan.on_error) rows["defaults.on_error"] = {std::string(ir::StrategyName(*plan.on_error)), std::string(ir::StrategyName(*plan.on_error))};
    return rows;
  };
  compare(Cause::Source, "", named(before, old_structure), named(now, structure));
  compare(Cause::Param, "parameter", params(before), params(now), &changed_params);
  compare(Cause::InputFile, "file", files(before), files(now), &changed_files);
  for (uint32_t i = 0; i < now.jobs.size(); ++i) {
    if (UsesParams(now, i, changed_params) || UsesFiles(now, i, changed_files)) direct.insert(i);
  }
  // What follows from it: jobs that are as they were, but depend on one that is not.
  std::set<uint32_t> affected = direct;
  for (bool more = true; more;) {
    more = false;
    for (uint32_t i = 0; i < now.jobs.size(); ++i) {
      if (affected.count(i) != 0) continue;
      for (const ir::Dependency& dependency : now.jobs[i].dependencies) {
        if (affected.count(dependency.job) == 0) continue;
        affected.insert(i);
        more = true;
        out.push_back({Cause::Upstream, now.jobs[i].address, "needs " + now.jobs[dependency.job].address, "", ""});
        break;
      }
    }
  }
  if (other_profile) out.push_back({Cause::Environment, "", "profile", before.profile.empty() ? "(none)" : before.profile, now.profile.empty() ? "(none)" : now.profile});
  compare(Cause::Environment, "secret", secrets(before), secrets(now));
  std::stable_sort(out.begin(), out.end(), [](const PlanChange& x, const PlanChange& y) { return x.cause < y.cause; });
  return out;
}

std::string PlanChangeJson(const PlanChange& change) {
  std::string out = fmt::format("{{\"cause\":\"{}\"", CauseName(change.cause));
  if (!change.job.empty()) out += ",\"job\":" + ir::JsonQuote(change.job);
  return out + fmt::format(",\"what\":{},\"before\":{},\"now\":{}}}", ir::JsonQuote(change.what), change.before.empty() ? "null" : ir::JsonQuote(change.before),
                           change.now.empty() ? "null" : ir::JsonQuote(change.now));
}

std::string PlanChangesText(const std::vector<PlanChange>& changes) {
  std::string out;
  std::optional<Cause> title;
  for (const PlanChange& change : changes) {
    if (title != change.cause) {
      title = change.cause;
      out += fmt::format("{}\n", CauseTitle(change.cause));
    }
    out += fmt::format("  {}{}{}\n", change.job, change.job.empty() ? "" : ": ", change.what);
    if (!change.before.empty() || !change.now.empty()) {
      out += fmt::format("    before: {}\n    now:    {}\n", change.before.empty() ? "(none)" : change.before, change.now.empty() ? "(none)" : change.now);
    }
  }
  return out;
}

}  // namespace jobc
