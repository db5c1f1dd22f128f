#include "compiler/lower/retries.h"

#include <algorithm>
#include <set>
#include <unordered_set>

#include <fmt/format.h>

#include "compiler/bounds/retry_chain.h"
#include "ir/json.h"

namespace jobc {
namespace {

using bounds::Effective;
using bounds::Setting;
using bounds::Step;
using ir::ExprId;
using ir::Op;

constexpr int64_t kYearMs = int64_t{365} * 24 * 3600 * 1000;
/// More instances than this are not looked at one by one.
constexpr uint64_t kMostInstances = 2'000;

template <typename Visit>
void Each(const ir::Program& program, std::vector<ExprId> todo, Visit visit) {
  std::unordered_set<uint32_t> seen;
  while (!todo.empty()) {
    const ExprId id = todo.back();
    todo.pop_back();
    if (!id.valid() || !seen.insert(id.index).second) continue;
    const ir::Expr& e = program.exprs[id];
    visit(e);
    if (e.op == Op::Let) todo.push_back(program.lets[e.a].value);
    if (e.op == Op::Apply) todo.push_back(program.fns[e.a].body);
    for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(program.exprs.arg(e, i));
  }
}

/// Whether the check could not know its value.
bool OnlyNow(const ir::Program& program, const std::vector<ExprId>& exprs) {
  bool now = false;
  Each(program, exprs, [&](const ir::Expr& e) { now = now || e.op == Op::Param || e.op == Op::Var || e.op == Op::Input || e.op == Op::FileLiteral; });
  return now;
}

std::string RuleText(const ir::RetryRule& rule) {
  std::string text = "on ";
  for (size_t i = 0; i < rule.matchers.size(); ++i) {
    const ir::Matcher& m = rule.matchers[i];
    if (i > 0) text += ", ";
    if (!m.name.empty()) text += "\"" + m.name + "\"";
    else if (m.kind) text += ir::KindName(*m.kind);
    else if (m.error_class) text += ir::ClassName(*m.error_class);
  }
  return text;
}

class Retries {
 public:
  Retries(const PlannedJob& job, ir::Evaluator& evaluator, ir::EvalContext& context, Diagnostics& diags)
      : p_(job), program_(job.plan.program), evaluator_(evaluator), context_(context), diags_(diags) {}

  void Run() {
    const ir::Job& job = p_.job;
    std::vector<ExprId> waits, times{job.timeout.run, job.timeout.total, job.timeout.idle};
    const auto backoff = [&](const ir::Backoff& b) {
      waits.push_back(b.base);
      waits.push_back(b.max);
    };
    backoff(job.retry.backoff);
    for (const ir::RetryRule& rule : job.retry.rules) {
      if (rule.backoff) backoff(*rule.backoff);
      waits.push_back(rule.delay);
      for (size_t s = 0; s < bounds::kSettings; ++s) times.push_back(bounds::SettingOf(rule.resources, rule.timeout, static_cast<Setting>(s)));
    }
    times.insert(times.end(), waits.begin(), waits.end());
    for (size_t r = 0; r < job.retry.rules.size(); ++r) {
      std::vector<ExprId> exprs;
      for (size_t s = 0; s < bounds::kSettings; ++s) {
        const ExprId overlay = bounds::SettingOf(job.retry.rules[r].resources, job.retry.rules[r].timeout, static_cast<Setting>(s));
        if (!overlay.valid() || !bounds::UsesPrev(program_, overlay)) continue;
        exprs.push_back(overlay);
        exprs.push_back(bounds::SettingOf(job.resources, job.timeout, static_cast<Setting>(s)));
      }
      ForInstances(exprs, [&] { return Growth(job.retry.rules[r], exprs); });
    }
    ForInstances(waits, [&] { return Waits(waits); });
    ForInstances(times, [&] { return Timeouts(times); });
  }

 private:
  /// Until one is faulty.
  template <typename Check>
  void ForInstances(const std::vector<ExprId>& exprs, Check check) {
    if (!OnlyNow(program_, exprs)) return;
    for (at_ = 0; at_ < std::min(p_.instances, kMostInstances); ++at_) {
      p_.stand_at(at_);
      if (check()) return;
    }
  }

  Span PlaceOf(ExprId expr) const {
    if (!expr.valid()) return p_.name;
    const ir::Place place = program_.exprs.place(expr);
    return place.source == UINT32_MAX ? p_.name : Span{SourceId{place.source}, place.begin, place.end};
  }

  void Note(Diagnostic& d, const std::vector<ExprId>& exprs) {
    if (p_.instances > 1) d.Note("seen for " + p_.address(at_));
    const std::string params = ParamsText(p_.plan, exprs, evaluator_, context_);
    if (!params.empty()) d.Note(params);
  }

  bool Growth(const ir::RetryRule& rule, const std::vector<ExprId>& exprs) {
    Effective before = bounds::Declared(p_.job, evaluator_, context_);
    const int64_t steps = std::min(rule.retries.value_or(INT64_MAX), p_.job.retry.max_attempts - 1);
    for (int64_t k = 1; k <= std::min<int64_t>(steps, 1000); ++k) {
      const Step step = bounds::Apply(rule, before, k + 1, evaluator_, context_);
      if (step.outcome == Step::Outcome::Unknown) return false;
      // What another rule sets too may have changed before this one answers.
      if (step.outcome != Step::Outcome::Changed && bounds::OthersSet(p_.job.retry, rule)) return false;
      if (step.outcome == Step::Outcome::Fault) {
        auto& d = diags_.Emit(PlaceOf(bounds::SettingOf(rule.resources, rule.timeout, step.at)), diag::RuleNeverFires, RuleText(rule), step.why).Label("has no value for the next attempt");
        Note(d, exprs);
        return true;
      }
      for (size_t s = 0; s < bounds::kSettings; ++s) {
        const auto setting = static_cast<Setting>(s);
        const ExprId expr = bounds::SettingOf(rule.resources, rule.timeout, setting);
        if (!expr.valid() || setting == Setting::Spot || !bounds::UsesPrev(program_, expr) || !before.known(setting) || !step.next.known(setting)) continue;
        const ir::Value &old = before.value[s], &now = step.next.value[s];
        if (setting == Setting::Cpu ? now.as_float() >= old.as_float() : now.as_int() >= old.as_int()) continue;
        auto& d = diags_.Emit(PlaceOf(expr), diag::GrowthShrinks, bounds::SettingName(setting), bounds::SettingText(setting, old), bounds::SettingText(setting, now)).Label("less than the attempt that failed had");
        Note(d, exprs);
        d.AddHelp(fmt::format("start with at most {}, or raise the cap above {}", bounds::SettingText(setting, now), bounds::SettingText(setting, old)));
        return true;
      }
      if (step.outcome == Step::Outcome::CapReached) {
        size_t s = 0;
        while (s < bounds::kSettings && !bounds::SettingOf(rule.resources, rule.timeout, static_cast<Setting>(s)).valid()) ++s;
        const auto setting = static_cast<Setting>(s);
        const Span span = PlaceOf(bounds::SettingOf(rule.resources, rule.timeout, setting));
        if (k == 1) {
          auto& d = diags_.Emit(span, diag::RuleNeverFires, RuleText(rule), fmt::format("`{}` is {} from the start and does not grow", bounds::SettingName(setting), bounds::SettingText(setting, before.value[s])))
                        .Label("gives the next attempt no more than the failed one had");
          Note(d, exprs);
          d.AddHelp("raise the cap, or start with less");
          return true;
        }
        if (rule.retries && *rule.retries >= k) {
          auto& d = diags_.Emit(span, diag::RetriesNeverReached, std::to_string(k - 1), std::to_string(*rule.retries), bounds::SettingName(setting), bounds::SettingText(setting, before.value[s]))
                        .Label(fmt::format("the retry {} would get nothing more", k));
          Note(d, exprs);
          d.AddHelp(fmt::format("write `retries = {}`, or raise the cap", k - 1));
          return true;
        }
        return false;
      }
      before = step.next;
    }
    return false;
  }

  bool Waits(const std::vector<ExprId>& exprs) {
    const ir::Retry& retry = p_.job.retry;
    const auto wait = [&](const ir::RetryRule* rule, ExprId base, int64_t k) {
      if (k < 1 || !base.valid()) return false;
      const std::optional<int64_t> delay = bounds::LongestDelay(retry, rule, k, evaluator_, context_);
      if (!delay || *delay <= kYearMs) return false;
      const int64_t years = *delay / kYearMs;
      auto& d = diags_.Emit(PlaceOf(base), diag::RetryWaitsTooLong, years > 1'000'000 ? std::string("millions of years") : fmt::format("{} year{}", years, years == 1 ? "" : "s"), std::to_string(k + 1))
                    .Label("grows without a limit");
      Note(d, exprs);
      d.AddHelp("give the longest wait:  max = 10m");
      return true;
    };
    if (wait(nullptr, retry.backoff.base, retry.max_attempts - 1)) return true;
    for (const ir::RetryRule& rule : retry.rules) {
      if (rule.backoff && wait(&rule, rule.backoff->base, std::min(retry.max_attempts - 1, rule.retries.value_or(INT64_MAX)))) return true;
    }
    return false;
  }

  bool Timeouts(const std::vector<ExprId>& exprs) {
    const Effective declared = bounds::Declared(p_.job, evaluator_, context_);
    const std::optional<int64_t> total = declared.Ms(Setting::Total), run = declared.Ms(Setting::Run), idle = declared.Ms(Setting::Idle);
    bool any = false;
    if (idle && run && *idle > *run && OnlyNow(program_, {p_.job.timeout.idle, p_.job.timeout.run})) {
      auto& d = diags_.Emit(PlaceOf(p_.job.timeout.idle), diag::IdleTooLong, ir::DurationText(*idle), ir::DurationText(*run)).Label("can never end an attempt");
      Note(d, {p_.job.timeout.idle, p_.job.timeout.run});
      d.AddHelp("make it shorter than `run`, or leave it out");
      any = true;
    }
    if (!total || !run) return any;
    bounds::Costs costs;
    costs.queue = costs.grace = costs.total = false;
    const bounds::Chain chain = bounds::WorstChain(p_.job, costs, evaluator_, context_);
    if (!chain.time_ms || *chain.time_ms <= *total) return any;
    auto& d = diags_.Emit(PlaceOf(p_.job.timeout.total), diag::TotalTooShort, ir::DurationText(*total), ir::DurationText(*chain.time_ms)).Label("ends before the last attempt can");
    d.Secondary(PlaceOf(p_.job.timeout.run), chain.attempts == 1 ? "one attempt" : fmt::format("{} attempts, and the longest waits between them", chain.attempts));
    Note(d, exprs);
    d.AddHelp(fmt::format("make `total` at least {}, or `run` shorter", ir::DurationText(*chain.time_ms)));
    return true;
  }

  const PlannedJob& p_;
  const ir::Program& program_;
  ir::Evaluator& evaluator_;
  ir::EvalContext& context_;
  Diagnostics& diags_;
  uint64_t at_ = 0;
};

}  // namespace

void CheckRetries(const PlannedJob& job, ir::Evaluator& evaluator, ir::EvalContext& context, Diagnostics& diags) { Retries(job, evaluator, context, diags).Run(); }

std::string ParamsText(const ir::Plan& plan, const std::vector<ExprId>& exprs, ir::Evaluator& evaluator, ir::EvalContext& context) {
  std::set<uint32_t> used;
  Each(plan.program, exprs, [&](const ir::Expr& e) {
    if (e.op == Op::Param) used.insert(e.a);
  });
  std::string out;
  for (const uint32_t i : used) {
    const ir::Param& param = plan.program.params[i];
    if (!param.value) continue;
    std::string text;
    const ir::TypeId type = plan.program.types.NonNull(plan.program.types.Bare(param.type));
    if (param.value->is_null()) {
      text = "null";
    } else if (param.value->kind() == ir::ValueKind::List) {
      text = fmt::format("a list of {}", param.value->as_list().size());
    } else if (!evaluator.ToText(*param.value, type, context, text)) {
      Result<std::string> json = ir::EncodeJson(*param.value, type, plan.program, context);
      text = json.ok() ? *json : "?";
    }
    if (plan.program.types.kind(type) == ir::TypeKind::Bytes && !param.value->is_null()) text = bounds::SettingText(Setting::Memory, *param.value);
    if (text.size() > 60) text = text.substr(0, 57) + "…";
    out += fmt::format("{}`{}` is {} ({})", out.empty() ? "" : ", ", param.name, text, param.origin);
  }
  return out;
}

}  // namespace jobc
