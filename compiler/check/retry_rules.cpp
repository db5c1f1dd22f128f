// What the compiler promises about retries: each one ends, growth has a cap and grows, a rule that can never fire is told,
// and limits of time agree with each other. Everything is looked at as it is under each profile. Values that are not known
// without parameters are looked at again when the run is planned (compiler/lower).
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>

#include "compiler/bounds/retry_chain.h"
#include "compiler/check/declarations.h"

namespace jobc::check {
namespace {

using bounds::Failure;
using bounds::Setting;
using ir::ErrorKind;

/// A job as it is under one profile, or without any.
struct Variant {
  const ir::Job* job = nullptr;
  const Merged* merged = nullptr;
  const Profile* profile = nullptr;
};

constexpr int64_t kYearMs = int64_t{365} * 24 * 3600 * 1000;

/// Kinds that every backend can report, or that jobc decides itself.
bool AlwaysPossible(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Submit: case ErrorKind::Staging: case ErrorKind::Internal: case ErrorKind::Exit: case ErrorKind::Signal: case ErrorKind::Command:
    case ErrorKind::Schema: case ErrorKind::OutputMissing: return true;
    default: return false;
  }
}

bool HasWord(std::string_view words, std::string_view word) {
  for (size_t at = words.find(word); at != std::string_view::npos; at = words.find(word, at + 1)) {
    const bool begins = at == 0 || words[at - 1] == ' ', ends = at + word.size() == words.size() || words[at + word.size()] == ' ';
    if (begins && ends) return true;
  }
  return false;
}

/// All that says how a program ended: 0..255 as exit codes, 1..64 as signals.
constexpr int kSignals = 64;
using Ends = std::set<int>;  // 0..255 exit codes, 256 + s signals

bool PureFact(const ir::Fact& fact) {
  if (fact.kind == ir::Fact::Kind::Stdout || fact.kind == ir::Fact::Kind::Stderr) return false;
  return std::all_of(fact.operands.begin(), fact.operands.end(), PureFact);
}

/// Whether the fact can hold for an end, whatever was written (`optimistic`), or must.
bool CanHold(const ir::Fact& fact, int end, bool optimistic) {
  const bool signal = end >= 256;
  switch (fact.kind) {
    case ir::Fact::Kind::Exit: {
      const int code = signal ? 128 + end - 256 : end;
      return code >= fact.low && code <= fact.high;
    }
    case ir::Fact::Kind::Signal: return signal ? end - 256 == fact.low : end == 128 + fact.low;
    case ir::Fact::Kind::Stdout: case ir::Fact::Kind::Stderr: return optimistic;
    case ir::Fact::Kind::And: return std::all_of(fact.operands.begin(), fact.operands.end(), [&](const ir::Fact& f) { return CanHold(f, end, optimistic); });
    case ir::Fact::Kind::Or: return std::any_of(fact.operands.begin(), fact.operands.end(), [&](const ir::Fact& f) { return CanHold(f, end, optimistic); });
    case ir::Fact::Kind::Not: return fact.operands.empty() || !CanHold(fact.operands[0], end, !optimistic);
  }
  return true;
}

bool NamesExitZero(const ir::Fact& fact) {
  if (fact.kind == ir::Fact::Kind::Exit) return fact.low <= 0;
  return std::any_of(fact.operands.begin(), fact.operands.end(), NamesExitZero);
}

bool SameFact(const ir::Fact& x, const ir::Fact& y) {
  if (x.kind != y.kind || x.low != y.low || x.high != y.high || x.pattern != y.pattern || x.operands.size() != y.operands.size()) return false;
  for (size_t i = 0; i < x.operands.size(); ++i) {
    if (!SameFact(x.operands[i], y.operands[i])) return false;
  }
  return true;
}

Ends EndsOf(const ir::Fact& fact, bool optimistic) {
  Ends ends;
  for (int end = NamesExitZero(fact) ? 0 : 1; end < 256; ++end) {
    if (CanHold(fact, end, optimistic)) ends.insert(end);
  }
  for (int s = 1; s <= kSignals; ++s) {
    if (CanHold(fact, 256 + s, optimistic)) ends.insert(256 + s);
  }
  return ends;
}

class RetryRules {
 public:
  explicit RetryRules(Checker& checker) : c_(checker) {}

  void Run() {
    std::vector<std::map<uint32_t, const ir::Job*>> of_profile(c_.model.profiles.size());
    bool has_default = false;
    for (size_t p = 0; p < c_.model.profiles.size(); ++p) {
      has_default = has_default || c_.model.profiles[p].is_default;
      for (const ProfileJob& job : c_.model.profiles[p].jobs) of_profile[p][job.job] = &job.settings;
    }
    for (uint32_t j = 0; j < c_.jobs.size(); ++j) {
      if (c_.jobs[j].kind == ir::JobKind::Check) continue;
      // Without a default profile, none is what a plain run takes.
      if (!has_default) Look(j, {&c_.model.plan.jobs[j], &c_.declarations->job_decls[j].merged, nullptr});
      for (size_t p = 0; p < of_profile.size(); ++p) {
        auto settings = of_profile[p].find(j);
        auto merged = c_.declarations->merged_of_profile.find({p, j});
        const bool own = settings != of_profile[p].end() && merged != c_.declarations->merged_of_profile.end();
        Look(j, own ? Variant{settings->second, &merged->second, &c_.model.profiles[p]}
                    : Variant{&c_.model.plan.jobs[j], &c_.declarations->job_decls[j].merged, &c_.model.profiles[p]});
      }
    }
    for (const auto& [key, dead] : dead_) {
      if (alive_.count(key) != 0) continue;
      auto& d = dead.arm ? c_.diags.Emit(dead.span, diag::ArmNeverMatches, dead.why) : c_.diags.Emit(dead.span, diag::RuleNeverFires, dead.what, dead.why);
      d.Label(dead.label);
      if (dead.other.valid()) d.Secondary(dead.other, dead.other_label);
      if (!dead.help.empty()) d.AddHelp(dead.help);
    }
  }

 private:
  using Key = std::pair<uint32_t, uint32_t>;  ///< source and offset of what is judged: one text may serve many jobs

  struct Dead {
    Span span;
    bool arm = false;
    std::string what, why, label, help;
    Span other;
    std::string other_label;
  };

  static Key KeyOf(Span span) { return {span.source.index, span.begin}; }

  /// One text stands in several jobs and profiles: told only if it is dead in all of them.
  void Judge(Span span, const std::optional<Dead>& dead) {
    if (!span.valid()) return;
    if (!dead) {
      alive_.insert(KeyOf(span));
    } else {
      Dead copy = *dead;
      copy.span = span;
      dead_.try_emplace(KeyOf(span), std::move(copy));
    }
  }

  Span ValueSpan(const Placed& placed) const { return (*placed.unit()->file)[placed.item->value].span; }

  std::string Under(const Variant& v) const { return v.profile != nullptr ? fmt::format("under the profile `{}`", v.profile->name) : ""; }

  void Look(uint32_t index, const Variant& v) {
    const ir::Job& job = *v.job;
    Arms(v);
    Timeouts(v);
    const MergedBlock* block = v.merged->Block("retry");
    if (block == nullptr) return;
    const Merged retry = Merge(c_, block->layers, kRetry);
    const Placed* max_attempts = retry.Attr("max_attempts");
    if (max_attempts == nullptr) return;
    Waits(v, retry);
    std::vector<const MergedBlock*> rules;
    for (const MergedBlock& rule : retry.blocks) {
      if (rule.name == "on") rules.push_back(&rule);
    }
    if (rules.size() != job.retry.rules.size()) return;  // a rule could not be read
    const std::vector<Failure> failures = Possible(index, v);
    for (size_t r = 0; r < rules.size(); ++r) Rule(v, failures, *rules[r], r, *max_attempts);
    ShortForm(v, retry, failures, *max_attempts);
    Reached(v, failures, *max_attempts);
  }

  // ---- which failures there can be ----

  bool KindPossible(const ir::Job& job, ErrorKind kind, bool with_profile) const {
    for (const ir::ErrorArm& arm : job.errors) {
      if (!arm.success && arm.name.empty() && arm.kind == kind) return true;
    }
    switch (kind) {
      case ErrorKind::InvalidInput: case ErrorKind::Publish: return false;
      case ErrorKind::IdleTimeout: return job.timeout.idle.valid();
      case ErrorKind::Timeout:
        if (job.timeout.run.valid()) return true;
        return !with_profile || bounds::HasQueue(job.backend.kind);  // clusters and clouds have limits of their own
      case ErrorKind::QueueTimeout:
        if (job.timeout.queue.valid()) return true;
        break;
      default: break;
    }
    if (AlwaysPossible(kind)) return true;
    // What may be fetched may be far away, and belong to somebody else.
    if ((kind == ErrorKind::Network || kind == ErrorKind::Auth) && !SchemaOf(job.backend.kind).can.schemes.empty() &&
        std::any_of(job.inputs.begin(), job.inputs.end(), [&](const ir::Input& input) { return c_.types.HasFile(input.type); })) {
      return true;
    }
    // What a backend can report is a reason only where the file says which backends there are.
    return !with_profile || HasWord(SchemaOf(job.backend.kind).can.error_kinds, ir::KindName(kind));
  }

  std::vector<Failure> Possible(uint32_t, const Variant& v) const {
    std::vector<Failure> possible;
    for (Failure& failure : bounds::AllFailures(v.job->errors)) {
      if (!failure.name.empty() || KindPossible(*v.job, failure.kind, !c_.model.profiles.empty())) possible.push_back(std::move(failure));
    }
    return possible;
  }

  /// In a file with profiles, no profile at all is not what the file speaks about.
  bool Counts(const Variant& v) const { return v.profile != nullptr || c_.model.profiles.empty(); }

  std::string WhyImpossible(const Variant& v, const ir::Matcher& matcher) const {
    if (matcher.error_class) return matcher.error_class == ir::ErrorClass::Data ? "no arm of `errors` gives an error of this class" : "no failure of this class is left for it";
    switch (matcher.kind.value_or(ErrorKind::Exit)) {
      case ErrorKind::InvalidInput: return "no arm of `errors` gives this kind";
      case ErrorKind::Publish: return "files are published after all jobs ended";
      case ErrorKind::IdleTimeout: return "the job has no `timeout { idle = … }`";
      case ErrorKind::Timeout: return "the job has no `timeout { run = … }`";
      default: break;
    }
    const bool many = c_.model.profiles.size() > 1;
    return many ? std::string("no backend that the profiles choose for the job can report this kind")
                : fmt::format("the backend `{}` cannot report this kind", ir::BackendName(v.job->backend.kind));
  }

  /// What to type where WhyImpossible() is said.
  std::string HelpImpossible(const ir::Matcher& matcher) const {
    if (matcher.error_class) {
      return matcher.error_class == ir::ErrorClass::Data ? "say which end is one:  errors { exit(65) => data(\"bad-input\", \"the input is malformed\") }, or remove this" : "remove it";
    }
    switch (matcher.kind.value_or(ErrorKind::Exit)) {
      case ErrorKind::InvalidInput: return "say which end is one:  errors { exit(65) => invalid_input }, or remove this";
      case ErrorKind::IdleTimeout: return "add to the job:  timeout { idle = 10m }, or remove this";
      case ErrorKind::Timeout: return "add to the job:  timeout { run = 1h }, or remove this";
      case ErrorKind::Publish: return "remove it";
      default: return "remove it, or say in `errors` which end of the program means it";
    }
  }

  // ---- rules ----

  void Rule(const Variant& v, const std::vector<Failure>& failures, const MergedBlock& block, size_t r, const Placed& max_attempts) {
    const ir::RetryRule& rule = v.job->retry.rules[r];
    const std::vector<ast::Label>& labels = block.first->labels;
    const Span keyword = block.layers.back().span;
    const Merged inner = Merge(c_, block.layers, kRetryOn);
    Growth(v, rule, inner, keyword, labels);
    if (labels.size() != rule.matchers.size() || labels.empty()) return;
    for (size_t m = 0; m < labels.size(); ++m) {
      if (!Counts(v)) break;
      const std::string what = fmt::format("on {}", c_.sources.Text(labels[m].span));
      Judge(labels[m].span, WhyDead(v, failures, rule.matchers[m], static_cast<int>(r), m, what, block, max_attempts));
    }
    if (const Placed* retries = inner.Attr("retries"); retries != nullptr && rule.retries == 0 && Counts(v)) {
      Dead dead;
      dead.what = fmt::format("on {}", c_.sources.Text(labels.front().span));
      dead.why = "it grants no retry";
      dead.label = "no retry at all";
      dead.help = fmt::format("to forbid retries write `never = [{}]`, else give the rule a number above 0", c_.sources.Text(labels.front().span));
      Judge(ValueSpan(*retries), dead);
    } else if (retries != nullptr && Counts(v)) {
      Judge(ValueSpan(*retries), std::nullopt);
    }
  }

  std::optional<Dead> WhyDead(const Variant& v, const std::vector<Failure>& failures, const ir::Matcher& matcher, int rule, size_t at, const std::string& what,
                              const MergedBlock& block, const Placed& max_attempts) const {
    Dead dead;
    dead.what = what;
    dead.label = "never the rule that decides";
    const ir::Retry& retry = v.job->retry;
    if (retry.max_attempts == 1) {
      dead.why = "there is only one attempt";
      dead.other = ValueSpan(max_attempts);
      dead.other_label = "the first try counts";
      dead.help = "give `max_attempts` at least 2";
      return dead;
    }
    std::vector<const Failure*> matched;
    for (const Failure& failure : failures) {
      if (bounds::Specificity(matcher, failure) > 0) matched.push_back(&failure);
    }
    if (matched.empty()) {
      dead.why = WhyImpossible(v, matcher);
      dead.help = HelpImpossible(matcher);
      dead.label = "no failure is of this kind";
      return dead;
    }
    const Failure* shadowed = nullptr;
    int by = -1;
    for (const Failure* failure : matched) {
      const int governs = bounds::GoverningRule(*failure, retry);
      // Inside one rule its most specific word counts; words of one rule do the same.
      if (governs == rule) return std::nullopt;
      if (governs >= 0) {
        shadowed = failure;
        by = governs;
      }
    }
    (void)at;
    if (shadowed == nullptr) {
      dead.why = "`never` names it";
      dead.label = "never retried";
      if (const MergedBlock* all = v.merged->Block("retry")) {
        const Merged merged = Merge(c_, all->layers, kRetry);
        if (const Placed* never = merged.Attr("never")) {
          dead.other = ValueSpan(*never);
          dead.other_label = "wins over all rules";
        }
      }
      dead.help = "remove it from `never`, or remove this rule";
      return dead;
    }
    dead.why = by < static_cast<int>(retry.rules.size()) && by < rule ? "an earlier rule takes all of it" : "more specific rules take all of it";
    dead.help = "remove it, or the other rules for these errors";
    if (const MergedBlock* all = v.merged->Block("retry"); all != nullptr && by < static_cast<int>(retry.rules.size())) {
      const Merged merged = Merge(c_, all->layers, kRetry);
      int i = 0;
      for (const MergedBlock& other : merged.blocks) {
        if (other.name != "on") continue;
        if (i++ == by && !other.first->labels.empty()) {
          dead.other = other.first->labels.front().span;
          dead.other_label = "this rule decides instead";
        }
      }
    }
    (void)block;
    return dead;
  }

  /// `on = [a, b]`: an entry is dead if nothing can be of that kind or `never` names it; rules of their own only refine it.
  void ShortForm(const Variant& v, const Merged& retry, const std::vector<Failure>& failures, const Placed& max_attempts) {
    const Placed* on = retry.Attr("on");
    if (on == nullptr || !Counts(v)) return;
    const ast::File& file = *on->unit()->file;
    const ast::Expr& list = file[on->item->value];
    if (list.kind != ast::ExprKind::List || list.entries.size != v.job->retry.on.size()) return;
    for (uint32_t i = 0; i < list.entries.size; ++i) {
      const Span span = file[file.entries[list.entries.begin + i].value].span;
      const ir::Matcher& matcher = v.job->retry.on[i];
      Dead dead;
      dead.what = std::string(c_.sources.Text(span));
      dead.label = "never retried";
      if (v.job->retry.max_attempts == 1) {
        dead.why = "there is only one attempt";
        dead.other = ValueSpan(max_attempts);
        dead.other_label = "the first try counts";
        dead.help = "give `max_attempts` at least 2";
        Judge(span, dead);
        continue;
      }
      bool any = false, allowed = false;
      for (const Failure& failure : failures) {
        if (bounds::Specificity(matcher, failure) == 0) continue;
        any = true;
        allowed = allowed || bounds::Specificity(v.job->retry.never, failure) == 0;
      }
      if (allowed) {
        Judge(span, std::nullopt);
        continue;
      }
      dead.why = any ? "`never` names it" : WhyImpossible(v, matcher);
      dead.help = any ? "remove it here, or from `never`" : HelpImpossible(matcher);
      if (!any) dead.label = "no failure is of this kind";
      if (const Placed* never = retry.Attr("never"); any && never != nullptr) {
        dead.other = ValueSpan(*never);
        dead.other_label = "wins over all rules";
      }
      Judge(span, dead);
    }
  }

  /// Rules that all have a limit of their own may never come near `max_attempts`.
  void Reached(const Variant& v, const std::vector<Failure>& failures, const Placed& max_attempts) {
    const ir::Retry& retry = v.job->retry;
    if (!Counts(v) || retry.rules.empty()) return;
    std::set<int> used;
    for (const Failure& failure : failures) {
      if (const int rule = bounds::GoverningRule(failure, retry); rule >= 0) used.insert(rule);
    }
    int64_t grants = 0;
    for (int rule : used) {
      if (rule >= static_cast<int>(retry.rules.size()) || !retry.rules[static_cast<size_t>(rule)].retries) return;
      grants = bounds::Plus(grants, *retry.rules[static_cast<size_t>(rule)].retries);
    }
    if (grants == 0 || grants + 1 >= retry.max_attempts) return;
    c_.diags.Emit(ValueSpan(max_attempts), diag::AttemptsNeverReached, std::to_string(retry.max_attempts), fmt::format("{} {}", grants, grants == 1 ? "retry" : "retries"))
        .Label(fmt::format("at most {} attempts happen", grants + 1))
        .AddHelp(fmt::format("write `max_attempts = {}`, or give the rules more `retries`", grants + 1), {{ValueSpan(max_attempts), std::to_string(grants + 1)}});
  }

  // ---- growth ----

  /// What a retry asks for must be within the backend's limits too (E602); the first attempt is looked at in capabilities.cpp.
  bool AboveBackend(const Variant& v, const std::map<size_t, Span>& spans, const bounds::Effective& next, int64_t k) {
    if (!Counts(v)) return false;
    const Capabilities& can = SchemaOf(v.job->backend.kind).can;
    bool above = false;
    for (const auto& [s, span] : spans) {
      const Setting setting = static_cast<Setting>(s);
      if (!next.known(setting)) continue;
      std::optional<ir::Value> most;
      switch (setting) {
        case Setting::Cpu: if (can.max_cpu > 0 && next.value[s].as_float() > can.max_cpu) most = ir::Value::Float(can.max_cpu); break;
        case Setting::Memory: if (can.max_memory > 0 && next.value[s].as_int() > can.max_memory) most = ir::Value::Bytes(can.max_memory); break;
        case Setting::Gpu: if (can.max_gpu > 0 && next.value[s].as_int() > can.max_gpu) most = ir::Value::Int(can.max_gpu); break;
        case Setting::Run: if (can.max_run_ms > 0 && next.value[s].as_int() > can.max_run_ms) most = ir::Value::Duration(can.max_run_ms); break;
        default: break;
      }
      if (!most) continue;
      above = true;
      const std::string shown = bounds::SettingText(setting, *most);
      auto& d = c_.diags.Emit(span, diag::AboveLimit, bounds::SettingName(setting), bounds::SettingText(setting, next.value[s]), ir::BackendName(v.job->backend.kind), shown)
                    .Label(fmt::format("asked for by the retry {}", k));
      if (std::string under = Under(v); !under.empty()) d.Note(under);
      d.AddHelp(fmt::format("lower the cap to {}", shown));
    }
    return above;
  }

  void Growth(const Variant& v, const ir::RetryRule& rule, const Merged& inner, Span keyword, const std::vector<ast::Label>& labels) {
    (void)keyword;
    bool grows = false, sound = true;
    std::map<size_t, Span> spans;
    const MergedBlock* resources = inner.Block("resources");
    const MergedBlock* timeout = inner.Block("timeout");
    std::optional<Merged> r, t;
    if (resources != nullptr) r = Merge(c_, resources->layers, kResourcesBlock);
    if (timeout != nullptr) t = Merge(c_, timeout->layers, kTimeout);
    for (size_t s = 0; s < bounds::kSettings; ++s) {
      const Setting setting = static_cast<Setting>(s);
      const ir::ExprId expr = bounds::SettingOf(rule.resources, rule.timeout, setting);
      if (!expr.valid()) continue;
      if (c_.exprs[expr].op == ir::Op::Error) {
        sound = false;
        continue;
      }
      std::string_view name = bounds::SettingName(setting);
      const bool time = name.substr(0, 8) == "timeout.";
      if (time) name = name.substr(8);
      const Placed* placed = time ? (t ? t->Attr(name) : nullptr) : (r ? r->Attr(name) : nullptr);
      if (placed != nullptr) spans[s] = ValueSpan(*placed);
      if (setting == Setting::Spot) continue;
      grows = grows || bounds::UsesPrev(c_.program, expr);
    }
    if (!sound || !grows) return;
    ir::EvalContext nothing;
    bounds::Effective before = bounds::Declared(*v.job, c_.evaluator, nothing);
    const int64_t steps = std::min(rule.retries.value_or(INT64_MAX), v.job->retry.max_attempts - 1);
    bool shrinks = false;
    for (int64_t k = 1; k <= std::min<int64_t>(steps, 1000); ++k) {
      const bounds::Step step = bounds::Apply(rule, before, k + 1, c_.evaluator, nothing);
      if (step.outcome == bounds::Step::Outcome::Fault) {
        if (labels.empty() || bounds::OthersSet(v.job->retry, rule)) break;
        c_.diags.Emit(spans[static_cast<size_t>(step.at)], diag::RuleNeverFires, fmt::format("on {}", c_.sources.Text(labels.front().span)), step.why)
            .Label("nothing to grow from")
            .AddHelp(fmt::format("give the job `{}`", bounds::SettingName(step.at)));
        break;
      }
      for (const auto& [s, span] : spans) {
        const Setting setting = static_cast<Setting>(s);
        const ir::ExprId expr = bounds::SettingOf(rule.resources, rule.timeout, setting);
        if (setting == Setting::Spot || !bounds::UsesPrev(c_.program, expr) || !before.known(setting) || !step.next.known(setting)) continue;
        const ir::Value& old = before.value[s];
        const ir::Value& now = step.next.value[s];
        if (setting == Setting::Cpu ? now.as_float() >= old.as_float() : now.as_int() >= old.as_int()) continue;
        auto& d = c_.diags.Emit(span, diag::GrowthShrinks, bounds::SettingName(setting), bounds::SettingText(setting, old), bounds::SettingText(setting, now)).Label("less than the attempt that failed had");
        if (std::string under = Under(v); !under.empty()) d.Note(under);
        d.AddHelp(fmt::format("start with at most {}, or raise the cap above {}", bounds::SettingText(setting, now), bounds::SettingText(setting, old)));
        shrinks = true;
      }
      if (shrinks) break;
      if (step.outcome == bounds::Step::Outcome::CapReached) {
        if (bounds::OthersSet(v.job->retry, rule)) break;  // which may have taken some away
        const auto& [s, span] = *spans.begin();
        const Setting setting = static_cast<Setting>(s);
        const Placed* retries = inner.Attr("retries");
        std::string under = Under(v);
        if (k == 1 && !labels.empty()) {
          auto& d = c_.diags.Emit(span, diag::RuleNeverFires, fmt::format("on {}", c_.sources.Text(labels.front().span)),
                                  fmt::format("`{}` is {} from the start and does not grow", bounds::SettingName(setting), bounds::SettingText(setting, before.value[s])))
                        .Label("gives the next attempt no more than the failed one had");
          if (!under.empty()) d.Note(under);
          d.AddHelp("raise the cap, or remove the rule");
        } else if (k > 1 && retries != nullptr && rule.retries && *rule.retries >= k) {
          auto& d = c_.diags.Emit(ValueSpan(*retries), diag::RetriesNeverReached, std::to_string(k - 1), std::to_string(*rule.retries), bounds::SettingName(setting), bounds::SettingText(setting, before.value[s]))
                        .Label(fmt::format("the retry {} would get nothing more", k))
                        .Secondary(span, "does not grow any more then");
          if (!under.empty()) d.Note(under);
          d.AddHelp(fmt::format("write `retries = {}`, or raise the cap", k - 1), {{ValueSpan(*retries), std::to_string(k - 1)}});
        }
        break;
      }
      if (AboveBackend(v, spans, step.next, k)) break;
      if (step.outcome == bounds::Step::Outcome::Unknown) break;
      before = step.next;
    }
    if (shrinks) return;
    for (const auto& [s, span] : spans) {
      const Setting setting = static_cast<Setting>(s);
      const ir::ExprId expr = bounds::SettingOf(rule.resources, rule.timeout, setting);
      if (setting == Setting::Spot || !bounds::UsesPrev(c_.program, expr) || bounds::IsCapped(c_.program, expr)) continue;
      std::string_view name = bounds::SettingName(setting);
      if (name.substr(0, 8) == "timeout.") name = name.substr(8);
      const std::string_view cap = setting == Setting::Memory ? "96GiB" : setting == Setting::Disk ? "500GiB" : setting == Setting::Cpu || setting == Setting::Gpu ? "8" : "12h";
      c_.diags.Emit(span, diag::GrowthUncapped, bounds::SettingName(setting))
          .Label("no limit")
          .AddHelp(fmt::format("give the most it can become:  {} = min({}, {})", name, c_.sources.Text(span), cap));
    }
  }

  // ---- waits ----

  void Waits(const Variant& v, const Merged& retry) {
    const ir::Retry& r = v.job->retry;
    ir::EvalContext nothing;
    const auto wait = [&](const ir::RetryRule* rule, int64_t k, Span span) {
      if (k < 1) return;
      std::optional<int64_t> delay = bounds::LongestDelay(r, rule, k, c_.evaluator, nothing);
      if (!delay || *delay <= kYearMs) return;
      const int64_t years = *delay / kYearMs;
      c_.diags.Emit(span, diag::RetryWaitsTooLong, years > 1'000'000 ? std::string("millions of years") : fmt::format("{} year{}", years, years == 1 ? "" : "s"), std::to_string(k + 1))
          .Label("grows without a limit")
          .AddHelp("give the longest wait:  max = 10m");
    };
    if (const Placed* backoff = retry.Attr("backoff")) wait(nullptr, r.max_attempts - 1, ValueSpan(*backoff));
    size_t i = 0;
    for (const MergedBlock& block : retry.blocks) {
      if (block.name != "on" || i >= r.rules.size()) continue;
      const ir::RetryRule& rule = r.rules[i++];
      const Merged inner = Merge(c_, block.layers, kRetryOn);
      if (const Placed* backoff = inner.Attr("backoff")) wait(&rule, std::min(r.max_attempts - 1, rule.retries.value_or(INT64_MAX)), ValueSpan(*backoff));
    }
  }

  void Timeouts(const Variant& v) {
    const MergedBlock* block = v.merged->Block("timeout");
    if (block == nullptr) return;
    const Merged timeout = Merge(c_, block->layers, kTimeout);
    ir::EvalContext nothing;
    const bounds::Effective declared = bounds::Declared(*v.job, c_.evaluator, nothing);
    const std::optional<int64_t> total = declared.Ms(Setting::Total), run = declared.Ms(Setting::Run), idle = declared.Ms(Setting::Idle);
    if (const Placed* placed = timeout.Attr("idle"); placed != nullptr && idle && run && *idle > *run) {
      c_.diags.Emit(ValueSpan(*placed), diag::IdleTooLong, ir::DurationText(*idle), ir::DurationText(*run)).Label("can never end an attempt").AddHelp("make it shorter than `run`, or leave it out");
    }
    const Placed* placed = timeout.Attr("total");
    if (placed == nullptr || !total || !run) return;
    bounds::Costs costs;
    costs.queue = costs.grace = costs.total = false;
    const bounds::Chain chain = bounds::WorstChain(*v.job, costs, c_.evaluator, nothing);
    if (!chain.time_ms || *chain.time_ms <= *total) return;
    auto& d = c_.diags.Emit(ValueSpan(*placed), diag::TotalTooShort, ir::DurationText(*total), ir::DurationText(*chain.time_ms)).Label("ends before the last attempt can");
    if (const Placed* one = timeout.Attr("run")) d.Secondary(ValueSpan(*one), chain.attempts == 1 ? "one attempt" : fmt::format("{} attempts, and the longest waits between them", chain.attempts));
    if (std::string under = Under(v); !under.empty()) d.Note(under);
    d.AddHelp(fmt::format("write `total = {}`, or shorten `run`", ir::DurationText(*chain.time_ms)), {{ValueSpan(*placed), ir::DurationText(*chain.time_ms)}});
  }

  // ---- errors ----

  void Arms(const Variant& v) {
    const MergedBlock* block = v.merged->Block("errors");
    if (block == nullptr) return;
    const Merged arms = Merge(c_, block->layers, 0);
    if (arms.arms.size() != v.job->errors.size()) return;
    Ends taken;
    for (size_t i = 0; i < arms.arms.size(); ++i) {
      const ir::Fact& fact = v.job->errors[i].fact;
      const Placed& placed = arms.arms[i];
      const Span span = ValueSpan(placed);
      const Ends can = EndsOf(fact, true);
      Dead dead;
      dead.arm = true;
      if (can.empty()) {
        dead.why = "its facts exclude each other";
        dead.label = "no program can end like this";
        Judge(span, dead);
        continue;
      }
      bool covered = std::includes(taken.begin(), taken.end(), can.begin(), can.end());
      size_t by = SIZE_MAX;
      for (size_t e = 0; e < i; ++e) {
        if (SameFact(v.job->errors[e].fact, fact)) {
          covered = true;
          by = e;
        }
      }
      if (covered) {
        for (size_t e = 0; e < i && by == SIZE_MAX; ++e) {
          const Ends other = EndsOf(v.job->errors[e].fact, false);
          if (std::any_of(can.begin(), can.end(), [&](int end) { return other.count(end) != 0; })) by = e;
        }
        dead.why = "earlier arms take all of it";
        dead.label = "the first arm that matches wins";
        if (by != SIZE_MAX) {
          dead.other = ValueSpan(arms.arms[by]);
          dead.other_label = "this arm comes first";
        }
        dead.help = "put the more special arm first";
        Judge(span, dead);
        continue;
      }
      Judge(span, std::nullopt);
      if (!PureFact(fact)) {
        const Ends must = EndsOf(fact, false);
        taken.insert(must.begin(), must.end());
      } else {
        taken.insert(can.begin(), can.end());
      }
    }
  }

  Checker& c_;
  std::map<Key, Dead> dead_;
  std::set<Key> alive_;
};

}  // namespace

void CheckRetryRules(Checker& checker) { RetryRules(checker).Run(); }

}  // namespace jobc::check
