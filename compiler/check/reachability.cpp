// What can be said about a whole file without running it: guards that are never true or contradict the guard of a job that
// must have succeeded, entries of `after` that change nothing, scatter keys that collide or are not proven to differ, images
// by tag, and budgets that are exceeded whatever the parameters are.
#include <algorithm>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <set>

#include "compiler/bounds/bounds.h"
#include "compiler/check/budget.h"
#include "compiler/check/declarations.h"
#include "compiler/check/uniqueness.h"
#include "ir/expand.h"
#include "ir/file_path.h"

namespace jobc::check {
namespace {

using ir::ExprId;
using ir::Op;
using ir::Value;
using ir::ValueKind;

/// More cases of `||` are not followed: the guard then counts as possible.
constexpr int kMostCases = 256;
/// Jobs before one that are looked at; what lies further back is taken to be possible, so that a long chain costs no square.
constexpr size_t kMostUpstream = 16;
/// Scatters over constants with more instances than this are compared when the run is planned.
constexpr uint64_t kMostConstantInstances = 100'000;

/// Variables of one instance, of constants only.
class InstanceVars : public ir::EvalContext {
 public:
  explicit InstanceVars(const ir::Instances& instances) : instances_(instances) {}
  uint64_t ordinal = 0;
  bool Var(uint32_t slot, Value& out, ir::Fault&) override {
    out = instances_.Var(ordinal, slot);
    return true;
  }

 private:
  const ir::Instances& instances_;
};

class Reachability {
 public:
  explicit Reachability(Checker& checker) : c_(checker) {}

  void Run() {
    dead_.assign(c_.jobs.size(), false);
    for (uint32_t j = 0; j < c_.jobs.size(); ++j) Guard(j);
    for (uint32_t j = 0; j < c_.jobs.size(); ++j) After(j);
    for (uint32_t j = 0; j < c_.jobs.size(); ++j) {
      Keys(j);
      Excluded(j);
    }
    PublishedNames();
    Images();
    Budgets();
  }

 private:
  Span SpanOf(ExprId expr) const {
    const ir::Place place = c_.exprs.place(expr);
    return place.source == UINT32_MAX ? Span{} : Span{SourceId{place.source}, place.begin, place.end};
  }
  const ir::Job& JobOf(uint32_t j) const { return c_.model.plan.jobs[j]; }

  // ---- E302: guards ----

  struct Fact {
    ExprId expr;
    bool positive = true;
  };

  /// A conjunction being tried: what is known to hold, one case at a time.
  struct Case {
    std::vector<Fact> todo;
    std::vector<Fact> truths;                          ///< opaque conditions
    struct Comparison {
      ExprId expr;
      Op op = Op::Eq;
      Value value;
    };
    std::vector<Comparison> comparisons;
  };

  ExprId Peel(ExprId id) const { return Uniqueness(c_).Peel(id); }

  static Op Negated(Op op) {
    switch (op) {
      case Op::Eq: return Op::Ne;
      case Op::Ne: return Op::Eq;
      case Op::Lt: return Op::Ge;
      case Op::Ge: return Op::Lt;
      case Op::Gt: return Op::Le;
      default: return Op::Gt;
    }
  }
  static Op Swapped(Op op) {
    switch (op) {
      case Op::Lt: return Op::Gt;
      case Op::Gt: return Op::Lt;
      case Op::Le: return Op::Ge;
      case Op::Ge: return Op::Le;
      default: return op;
    }
  }

  static int Order(const Value& x, const Value& y) {
    const bool numbers = (x.kind() == ValueKind::Float || x.kind() == ValueKind::Int) && (y.kind() == ValueKind::Float || y.kind() == ValueKind::Int);
    if (numbers && x.kind() != y.kind()) return x.as_float() < y.as_float() ? -1 : x.as_float() > y.as_float() ? 1 : 0;
    return Value::Compare(x, y);
  }

  static bool Holds(const Value& left, Op op, const Value& right) {
    if (left.is_null() || right.is_null()) {
      const bool same = left.is_null() && right.is_null();
      return op == Op::Eq ? same : op == Op::Ne ? !same : true;
    }
    const int order = Order(left, right);
    switch (op) {
      case Op::Eq: return order == 0;
      case Op::Ne: return order != 0;
      case Op::Lt: return order < 0;
      case Op::Le: return order <= 0;
      case Op::Gt: return order > 0;
      default: return order >= 0;
    }
  }

  /// Whether no value satisfies both.
  static bool Exclude(const Case::Comparison& x, const Case::Comparison& y) {
    if (x.op == Op::Eq) return !Holds(x.value, y.op, y.value);
    if (y.op == Op::Eq) return !Holds(y.value, x.op, x.value);
    if (x.value.is_null() || y.value.is_null()) return false;
    const bool x_below = x.op == Op::Lt || x.op == Op::Le, y_below = y.op == Op::Lt || y.op == Op::Le;
    const bool x_above = x.op == Op::Gt || x.op == Op::Ge, y_above = y.op == Op::Gt || y.op == Op::Ge;
    if (!((x_below && y_above) || (x_above && y_below))) return false;
    const Case::Comparison& high = x_below ? x : y;
    const Case::Comparison& low = x_below ? y : x;
    const int order = Order(low.value, high.value);
    if (order > 0) return true;
    const bool strict = low.op == Op::Gt || high.op == Op::Lt;
    if (order == 0) return strict;
    // 3 < n && n < 4
    const bool whole = low.value.kind() == ValueKind::Int && high.value.kind() == ValueKind::Int;
    return whole && low.op == Op::Gt && high.op == Op::Lt && high.value.as_int() - low.value.as_int() == 1;
  }

  bool AddComparison(Case& one, Case::Comparison comparison, uint32_t job) {
    for (const Case::Comparison& known : one.comparisons) {
      if (SameExpr(c_.program, known.expr, comparison.expr) && Exclude(known, comparison)) return false;
    }
    const ir::Expr e = c_.exprs[comparison.expr];
    // What the declaration says of the value, and the cases of a small type.
    ir::TypeId declared = e.op == Op::Param ? c_.program.params[e.a].type : e.op == Op::JobOutput ? JobOf(e.a).outputs[e.b].type : ir::TypeId{};
    if (declared.valid() && c_.types[declared].refinement.valid()) {
      const ir::Refinement& r = c_.types[c_.types[declared].refinement];
      std::vector<Case::Comparison> limits;
      const auto limit = [&](Op op, Value value) { limits.push_back({comparison.expr, op, std::move(value)}); };
      const auto whole = [&](int64_t n) {
        return c_.types.kind(declared) == ir::TypeKind::Duration ? Value::Duration(n) : c_.types.kind(declared) == ir::TypeKind::Bytes ? Value::Bytes(n) : Value::Int(n);
      };
      if (r.int_low) limit(Op::Ge, whole(*r.int_low));
      if (r.int_high) limit(Op::Le, whole(*r.int_high));
      if (r.float_low) limit(Op::Ge, Value::Float(*r.float_low));
      if (r.float_high) limit(Op::Le, Value::Float(*r.float_high));
      for (const Case::Comparison& known : limits) {
        if (Exclude(known, comparison)) return false;
      }
    }
    one.comparisons.push_back(std::move(comparison));
    const ExprId expr = one.comparisons.back().expr;
    std::vector<Value> cases;
    const ir::TypeId type = c_.types.NonNull(c_.exprs[expr].type);
    if (c_.types.kind(type) == ir::TypeKind::Enum) {
      const size_t count = c_.types[ir::EnumId{c_.types[type].def}].cases.size();
      for (uint32_t i = 0; i < count; ++i) cases.push_back(Value::Enum(i));
      if (c_.types.IsOptional(c_.exprs[expr].type)) cases.push_back(Value());
    }
    if (e.op == Op::Var && e.a >= 2 && e.a - 2 < JobOf(job).domain.axes.size()) {
      Value values;
      ir::EvalContext nothing;
      cases.clear();
      if (c_.evaluator.Evaluate(JobOf(job).domain.axes[e.a - 2].values, nothing, values) && values.kind() == ValueKind::List) cases = values.as_list();
    }
    if (cases.empty()) return true;
    return std::any_of(cases.begin(), cases.end(), [&](const Value& value) {
      return std::all_of(one.comparisons.begin(), one.comparisons.end(), [&](const Case::Comparison& known) {
        return !SameExpr(c_.program, known.expr, expr) || Holds(value, known.op, known.value);
      });
    });
  }

  static bool IsStatus(const ir::Expr& e) { return e.op == Op::JobStatus || e.op == Op::ScatterStatus; }

  bool AddTruth(Case& one, Fact fact) {
    const ir::Expr e = c_.exprs[fact.expr];
    for (const Fact& known : one.truths) {
      if (SameExpr(c_.program, known.expr, fact.expr) && known.positive != fact.positive) return false;
      // Succeeded and failed exclude each other.
      const ir::Expr k = c_.exprs[known.expr];
      if (!IsStatus(e) || !IsStatus(k) || e.op != k.op || e.a != k.a || e.args.size != k.args.size || !known.positive || !fact.positive) continue;
      bool same = true;
      for (uint32_t i = 0; same && i < e.args.size; ++i) same = SameExpr(c_.program, c_.exprs.arg(e, i), c_.exprs.arg(k, i));
      const auto x = static_cast<ir::StatusField>(e.b), y = static_cast<ir::StatusField>(k.b);
      using F = ir::StatusField;
      if (same && ((x == F::Ok && y == F::Failed) || (x == F::Failed && y == F::Ok))) return false;
    }
    if (IsStatus(e) && static_cast<ir::StatusField>(e.b) == ir::StatusField::Done && !fact.positive) return false;
    one.truths.push_back(fact);
    return true;
  }

  /// Whether some case of the conjunction may hold. `budget` counts cases.
  bool Possible(Case one, uint32_t job, int& budget) {
    while (!one.todo.empty()) {
      const Fact fact{Peel(one.todo.back().expr), one.todo.back().positive};
      one.todo.pop_back();
      const ir::Expr e = c_.exprs[fact.expr];
      switch (e.op) {
        case Op::Error: return true;
        case Op::Const: {
          const Value& value = c_.exprs.ConstValue(fact.expr);
          if (value.kind() == ValueKind::Bool && value.as_bool() != fact.positive) return false;
          break;
        }
        case Op::Not: one.todo.push_back({c_.exprs.arg(e, 0), !fact.positive}); break;
        case Op::And:
        case Op::Or:
          if ((e.op == Op::And) == fact.positive) {
            one.todo.push_back({c_.exprs.arg(e, 0), fact.positive});
            one.todo.push_back({c_.exprs.arg(e, 1), fact.positive});
            break;
          }
          if (--budget <= 0) return true;
          for (uint32_t i = 0; i < 2; ++i) {
            Case branch = one;
            branch.todo.push_back({c_.exprs.arg(e, i), fact.positive});
            if (Possible(std::move(branch), job, budget)) return true;
          }
          return false;
        case Op::Eq: case Op::Ne: case Op::Lt: case Op::Le: case Op::Gt: case Op::Ge: {
          const ExprId left = Peel(c_.exprs.arg(e, 0)), right = Peel(c_.exprs.arg(e, 1));
          const Op op = fact.positive ? e.op : Negated(e.op);
          if (c_.exprs.IsConst(right) && !c_.exprs.IsConst(left)) {
            if (!AddComparison(one, {left, op, c_.exprs.ConstValue(right)}, job)) return false;
          } else if (c_.exprs.IsConst(left) && !c_.exprs.IsConst(right)) {
            if (!AddComparison(one, {right, Swapped(op), c_.exprs.ConstValue(left)}, job)) return false;
          } else if (SameExpr(c_.program, left, right)) {
            if (op == Op::Ne || op == Op::Lt || op == Op::Gt) return false;
          } else if (!AddTruth(one, fact)) {
            return false;
          }
          break;
        }
        default:
          if (!AddTruth(one, fact)) return false;
      }
    }
    return true;
  }

  /// Jobs that must have succeeded when an instance of `j` starts, with the place that says so.
  std::vector<uint32_t> MustHaveSucceeded(uint32_t j) {
    std::set<uint32_t> jobs;
    const ir::Job& job = JobOf(j);
    const auto aligned = [&](uint32_t other) {
      if (JobOf(other).domain.single()) return true;
      bool same = false;
      for (const ir::Dependency& d : job.dependencies) {
        if (d.job != other) continue;
        if (d.mapping != ir::Mapping::Same) return false;
        same = true;
      }
      return same;
    };
    for (const ir::Dependency& d : job.dependencies) {
      if (d.strong && !d.condition.valid() && aligned(d.job)) jobs.insert(d.job);
    }
    for (const ir::After& after : job.after) {
      if (after.kind == ir::AfterKind::Succeeded && JobOf(after.job).domain.single()) jobs.insert(after.job);
    }
    // `a.ok` as one of the conditions that must all hold.
    std::vector<ExprId> todo;
    if (job.when.valid()) todo.push_back(job.when);
    while (!todo.empty()) {
      const ExprId id = Peel(todo.back());
      todo.pop_back();
      const ir::Expr e = c_.exprs[id];
      if (e.op == Op::And) {
        todo.push_back(c_.exprs.arg(e, 0));
        todo.push_back(c_.exprs.arg(e, 1));
      }
      if (e.op == Op::JobStatus && static_cast<ir::StatusField>(e.b) == ir::StatusField::Ok && aligned(e.a)) jobs.insert(e.a);
    }
    jobs.erase(j);
    return {jobs.begin(), jobs.end()};
  }

  ExprId Status(uint32_t job, ir::StatusField field) {
    return c_.exprs.Add(Op::JobStatus, c_.types.Basic(ir::TypeKind::Bool), {}, {}, job, static_cast<uint32_t>(field));
  }

  /// A guard that is false whatever happens: points at the one condition that is, or at the two that exclude each other.
  void NeverTrue(uint32_t j) {
    const ir::Job& job = JobOf(j);
    std::vector<ExprId> parts, todo{job.when};
    while (!todo.empty()) {
      const ExprId id = todo.back();
      todo.pop_back();
      if (c_.exprs[id].op == Op::And) {
        todo.push_back(c_.exprs.arg(id, 1));
        todo.push_back(c_.exprs.arg(id, 0));
      } else {
        parts.push_back(id);
      }
    }
    const auto possible = [&](std::initializer_list<ExprId> some) {
      Case one;
      for (ExprId part : some) one.todo.push_back({part, true});
      int budget = kMostCases;
      return Possible(one, j, budget);
    };
    for (size_t k = 0; parts.size() > 1 && k < parts.size(); ++k) {
      if (!SpanOf(parts[k]).valid()) break;
      if (!possible({parts[k]})) {
        c_.diags.Emit(SpanOf(parts[k]), diag::GuardNeverTrue, job.address, "its guard is never true").Label("always false").AddHelp("correct this condition, or remove the job");
        return;
      }
      for (size_t i = 0; i < k; ++i) {
        if (possible({parts[i], parts[k]})) continue;
        c_.diags.Emit(SpanOf(parts[k]), diag::GuardNeverTrue, job.address, "its guard is never true")
            .Label("never true together")
            .Secondary(SpanOf(parts[i]), "with this")
            .AddHelp(fmt::format("keep one of them:  when = {}", c_.sources.Text(SpanOf(parts[i]))))
            .AddHelp("or, where one of them is enough, join them by `||`");
        return;
      }
    }
    c_.diags.Emit(SpanOf(job.when), diag::GuardNeverTrue, job.address, "its guard is never true").Label("always false").AddHelp("correct the condition, or remove the job");
  }

  void Guard(uint32_t j) {
    const ir::Job& job = JobOf(j);
    if (job.kind != ir::JobKind::Job || dead_[j]) return;
    Case own;
    if (job.when.valid()) {
      own.todo.push_back({job.when, true});
      int budget = kMostCases;
      if (!Possible(own, j, budget) || FalseForAll(j)) {
        dead_[j] = true;
        NeverTrue(j);
        return;
      }
    }
    bool contradicts = !own.todo.empty();
    for (const ir::After& after : job.after) {
      if (after.kind != ir::AfterKind::Failed || !JobOf(after.job).domain.single()) continue;
      own.todo.push_back({Status(after.job, ir::StatusField::Failed), true});
      contradicts = true;
    }
    if (!contradicts) return;
    int first_budget = kMostCases;
    const bool alone = Possible(own, j, first_budget);
    // Everything that the jobs before needed themselves, nearest first.
    std::vector<uint32_t> todo = MustHaveSucceeded(j);
    std::set<uint32_t> seen(todo.begin(), todo.end());
    Case all = own;
    for (size_t i = 0; i < todo.size() && i < kMostUpstream; ++i) {
      const uint32_t other = todo[i];
      if (dead_[other]) continue;
      if (JobOf(other).domain.single()) all.todo.push_back({Status(other, ir::StatusField::Ok), true});
      if (JobOf(other).when.valid()) all.todo.push_back({JobOf(other).when, true});
      int budget = kMostCases;
      if (!Possible(all, j, budget)) {
        dead_[j] = true;
        const bool guard = JobOf(other).when.valid();
        auto& d = c_.diags.Emit(job.when.valid() ? SpanOf(job.when) : c_.model.job_spans[j], diag::GuardNeverTrue, job.address,
                                guard ? fmt::format("its guard contradicts that of `{}`", JobOf(other).address) : fmt::format("it needs the success of `{}` and its failure", JobOf(other).address))
                      .Label(job.when.valid() ? "never true then" : "waits for both");
        if (guard) d.Secondary(SpanOf(JobOf(other).when), fmt::format("`{}` succeeds only where this holds", JobOf(other).address));
        d.AddHelp(fmt::format("remove what needs `{}`, or correct one of the conditions", JobOf(other).address));
        return;
      }
      // Only of single jobs: the variables of others mean something else there.
      if (!JobOf(other).domain.single()) continue;
      for (uint32_t next : MustHaveSucceeded(other)) {
        if (next != j && JobOf(next).domain.single() && seen.insert(next).second) todo.push_back(next);
      }
    }
    if (!alone) {
      dead_[j] = true;
      c_.diags.Emit(job.when.valid() ? SpanOf(job.when) : c_.model.job_spans[j], diag::GuardNeverTrue, job.address, "its guard contradicts its `after`").Label("never true then").AddHelp("remove one of them");
    }
  }

  /// Guards over the variables of a scatter over constants.
  bool FalseForAll(uint32_t j) {
    const ir::Job& job = JobOf(j);
    if (job.domain.single() || job.domain.dynamic) return false;
    ir::EvalContext nothing;
    Result<ir::Instances> instances = ir::Instances::Expand(c_.model.plan, j, c_.evaluator, nothing);
    if (!instances.ok() || instances->size() == 0 || instances->size() > kMostConstantInstances) return false;
    InstanceVars vars(*instances);
    for (vars.ordinal = 0; vars.ordinal < instances->size(); ++vars.ordinal) {
      Value value;
      if (!c_.evaluator.Evaluate(job.when, vars, value) || value.kind() != ValueKind::Bool || value.as_bool()) return false;
    }
    return true;
  }

  // ---- W303 ----

  /// Whether the success of `from` means that all of `to` succeeded.
  bool Implies(uint32_t from, uint32_t to) const {
    std::vector<uint32_t> todo{from};
    std::set<uint32_t> seen;
    while (!todo.empty()) {
      const uint32_t j = todo.back();
      todo.pop_back();
      if (!seen.insert(j).second) continue;
      if (seen.size() > kMostUpstream) return false;  // not looked for further: nothing is said then
      for (const ir::Dependency& d : JobOf(j).dependencies) {
        const bool whole = d.mapping == ir::Mapping::Single || (d.mapping == ir::Mapping::All && d.indices.empty());
        if (!d.strong || d.condition.valid() || !whole) continue;
        if (d.job == to) return true;
        if (JobOf(d.job).domain.single()) todo.push_back(d.job);
      }
    }
    return false;
  }

  void After(uint32_t j) {
    const Placed* after = c_.declarations->job_decls[j].merged.Attr("after");
    const ir::Job& job = JobOf(j);
    if (after == nullptr || after->layer->kind != LayerKind::Job) return;  // of a template: it serves other jobs too
    const ast::File& file = *after->unit()->file;
    const ast::Expr& list = file[after->item->value];
    if (list.kind != ast::ExprKind::List) return;
    struct Seen {
      uint32_t job;
      bool done;
      Span span;
    };
    std::vector<Seen> seen;
    for (uint32_t i = 0; i < list.entries.size; ++i) {
      const ast::ExprId id = file.entries[list.entries.begin + i].value;
      if (!id.valid()) continue;
      const ast::Expr* e = &file[id];
      bool done = false;
      if (e->kind == ast::ExprKind::Member) {
        if (e->name.text != "done") continue;
        done = true;
        e = &file[file.child(*e, 0)];
      }
      if (e->kind != ast::ExprKind::Name) continue;
      auto found = after->unit()->values.find(llvm::StringRef(e->name.text.data(), e->name.text.size()));
      if (found == after->unit()->values.end() || (found->second.kind != SymbolKind::Job && found->second.kind != SymbolKind::Check)) continue;
      const uint32_t target = found->second.index;
      const Span span = file[id].span;
      // Removes the entry with the comma behind it, or before the last one.
      Span cut = span;
      if (i + 1 < list.entries.size) cut.end = file.entries[list.entries.begin + i + 1].span.begin;
      else if (i > 0) cut.begin = file.entries[list.entries.begin + i - 1].span.end;
      const auto redundant = [&](std::string_view label, Span other, std::string other_label) {
        auto& d = c_.diags.Emit(span, diag::AfterRedundant, job.address, JobOf(target).address).Label(std::string(label));
        d.Secondary(other, std::move(other_label));
        if (list.entries.size > 1) d.AddHelp("remove it", {{cut, ""}});
        else d.AddHelp("remove `after`", {{after->item->span, ""}});
      };
      bool told = false;
      for (const Seen& earlier : seen) {
        if (earlier.job != target || (earlier.done && !done)) continue;
        redundant("named again", earlier.span, "first named here");
        told = true;
        break;
      }
      seen.push_back({target, done, span});
      if (told || (!done && c_.jobs[target].nullable)) continue;  // a bare nullable job also says that this one is skipped with it
      for (const ir::Dependency& d : job.dependencies) {
        const bool whole = d.mapping == ir::Mapping::Single || (d.mapping == ir::Mapping::All && d.indices.empty());
        if (d.condition.valid()) continue;
        if (d.job == target && whole && !d.order_only && (d.strong || done)) {
          // The entry itself makes the dependency strong; the reference must be so without it.
          if (!done && !StrongByReference(j, target)) continue;
          redundant("changes nothing", ReferenceSpan(j, target), "this reference waits for it");
          break;
        }
        if (d.job != target && d.strong && whole && JobOf(d.job).domain.single() && Implies(d.job, target)) {
          redundant("changes nothing", c_.model.job_spans[d.job], fmt::format("`{}` waits for it, and `{}` for this one", JobOf(d.job).address, job.address));
          break;
        }
      }
    }
  }

  std::vector<ExprId> Roots(const ir::Job& job) const {
    std::vector<ExprId> roots{job.when, job.domain.list, job.run, job.image, job.priority, job.resources.cpu, job.resources.memory, job.resources.disk, job.resources.gpu};
    for (const ir::Input& input : job.inputs) roots.push_back(input.value);
    for (const ir::EnvEntry& entry : job.env) roots.push_back(entry.value);
    for (const auto* script : {&job.script, &job.prologue, &job.epilogue}) {
      if (!*script) continue;
      for (const ir::ScriptBinding& binding : (*script)->bindings) roots.push_back(binding.value);
    }
    for (const ir::Require& require : job.requires_) {
      roots.push_back(require.condition);
      roots.push_back(require.message);
    }
    for (const ir::Output& output : job.outputs) roots.push_back(output.value);
    return roots;
  }

  /// The first expression of `j` for which `is` holds, wherever conditions do not decide whether it is looked at.
  ExprId FindIn(uint32_t j, const std::function<bool(const ir::Expr&)>& is) const {
    std::set<uint32_t> seen;
    std::vector<ExprId> todo = Roots(JobOf(j));
    std::reverse(todo.begin(), todo.end());
    while (!todo.empty()) {
      const ExprId id = todo.back();
      todo.pop_back();
      if (!id.valid() || !seen.insert(id.index).second) continue;
      const ir::Expr& e = c_.exprs[id];
      if (is(e)) return id;
      if (e.op == Op::Let) todo.push_back(c_.program.lets[e.a].value);
      if (e.op == Op::Apply) todo.push_back(c_.program.fns[e.a].body);
      for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(c_.exprs.arg(e, i));
    }
    return {};
  }

  bool StrongByReference(uint32_t j, uint32_t target) const {
    return FindIn(j, [&](const ir::Expr& e) { return (e.op == Op::JobOutput || e.op == Op::GatherOutput) && e.a == target; }).valid();
  }

  Span ReferenceSpan(uint32_t j, uint32_t target) const {
    const ExprId id = FindIn(j, [&](const ir::Expr& e) {
      return (e.op == Op::JobOutput || e.op == Op::GatherOutput || e.op == Op::JobStatus || e.op == Op::ScatterStatus || e.op == Op::GatherStatus || e.op == Op::Instances) && e.a == target;
    });
    return id.valid() ? SpanOf(id) : Span{};
  }

  // ---- E304, W304 ----

  void Keys(uint32_t j) {
    const ir::Job& job = JobOf(j);
    const ir::Domain& domain = job.domain;
    if (!domain.list.valid() || domain.dynamic || c_.exprs[domain.list].op == Op::Error) return;
    if (!domain.key.valid() || c_.exprs[domain.key].op == Op::Error) return;  // the index
    ir::EvalContext nothing;
    Value list;
    if (c_.evaluator.Evaluate(domain.list, nothing, list) && !Any(domain.key, [](const ir::Expr& e) { return e.op == Op::Param; })) {
      Result<ir::Instances> instances = ir::Instances::Expand(c_.model.plan, j, c_.evaluator, nothing);
      if (instances.ok()) return;
      // The axes may still depend on parameters: then the keys alone are not refuted.
      for (const ir::Axis& axis : domain.axes) {
        Value values;
        if (!c_.evaluator.Evaluate(axis.values, nothing, values)) return;
      }
      c_.diags.Emit(SpanOf(domain.key), diag::ConstantKeysCollide, instances.error().message).Label("two instances would have one name").AddHelp("make the keys differ, or leave `key` out: then the instances are numbered");
      return;
    }
    if (Uniqueness(c_).OfKeys(domain)) return;
    const Span span = SpanOf(domain.key);
    auto& d = c_.diags.Emit(span, diag::KeysNotProven, job.address).Label("may be the same for two of them");
    const ir::Expr source = c_.exprs[Peel(domain.list)];
    if (!domain.two_names && source.op == Op::Param) {
      const std::string list_text = c_.program.params[source.a].name;
      d.AddHelp(fmt::format("say so in `params`:  require unique([for {0} in {1} : {2}])", domain.name, list_text, c_.sources.Text(span)));
    } else {
      d.AddHelp("leave out `key`: then the instances are numbered");
    }
  }

  /// Files of all instances of a job, published into one directory under their own names.
  void PublishedNames() {
    for (const ir::Publish& publish : c_.model.plan.publishes) {
      for (const ir::PublishEntry& entry : publish.entries) {
        if (!entry.value.valid() || !c_.exprs.IsConst(entry.path) || c_.exprs.ConstValue(entry.path).kind() != ValueKind::String) continue;
        const std::string& folder = c_.exprs.ConstValue(entry.path).as_string();
        if (folder.empty() || folder.back() != '/') continue;
        ExprId value = Peel(entry.value);
        while (c_.exprs[value].op == Op::Call && c_.exprs[value].args.size == 1 &&
               (static_cast<ir::Builtin>(c_.exprs[value].a) == ir::Builtin::compact || static_cast<ir::Builtin>(c_.exprs[value].a) == ir::Builtin::flatten)) {
          value = Peel(c_.exprs.arg(value, 0));
        }
        const ir::Expr& e = c_.exprs[value];
        if (e.op != Op::GatherOutput || e.args.size != 0) continue;
        const ir::Job& job = JobOf(e.a);
        if (e.b >= job.outputs.size()) continue;
        const ir::Output& output = job.outputs[e.b];
        if (output.kind != ir::OutputKind::Path || !output.value.valid() || c_.exprs[output.value].op == Op::Error) continue;
        Named(e.a, output, folder, SpanOf(value).valid() ? SpanOf(value) : SpanOf(entry.path));
      }
    }
  }

  /// Whether the path of the first instance, and with it that of all, can be had now.
  bool CanCompute(ExprId path, const ir::Instances& instances) {
    if (instances.size() == 0) return true;
    InstanceVars vars(instances);
    Value value;
    return c_.evaluator.Evaluate(path, vars, value) && value.kind() == ValueKind::String;
  }

  void Named(uint32_t j, const ir::Output& output, const std::string& folder, Span span) {
    const ir::Job& job = JobOf(j);
    ir::EvalContext nothing;
    // What constants alone decide is simply computed.
    const auto constant = [&](ExprId expr) { return !expr.valid() || !Any(expr, [](const ir::Expr& e) { return e.op == Op::Param; }); };
    bool known = !job.domain.dynamic && constant(job.domain.key) && constant(output.value);
    Value value;
    for (const ir::Axis& axis : job.domain.axes) known = known && c_.evaluator.Evaluate(axis.values, nothing, value);
    if (known && job.domain.list.valid()) known = c_.evaluator.Evaluate(job.domain.list, nothing, value);
    std::optional<Result<ir::Instances>> expanded;
    if (known) {
      expanded.emplace(ir::Instances::Expand(c_.model.plan, j, c_.evaluator, nothing));
      if (!expanded->ok() || (*expanded)->size() > kMostConstantInstances) return;  // told, or compared by the plan
      known = CanCompute(output.value, **expanded);
    }
    if (known) {
      const Result<ir::Instances>& instances = *expanded;
      std::map<std::string, uint64_t> first;
      InstanceVars vars(*instances);
      for (vars.ordinal = 0; vars.ordinal < instances->size(); ++vars.ordinal) {
        if (job.when.valid() && c_.evaluator.Evaluate(job.when, vars, value) && !value.as_bool()) continue;
        if (!c_.evaluator.Evaluate(output.value, vars, value)) return;
        const std::string name = folder + std::string(ir::PathBasename(value.as_string()));
        const auto [earlier, fresh] = first.try_emplace(name, vars.ordinal);
        if (fresh) continue;
        if (job.when.valid() && !constant(job.when)) continue;  // perhaps only one of them runs
        c_.diags.Emit(span, diag::PublishedTwice, name)
            .Label(fmt::format("of {} and of {}", instances->Address(earlier->second), instances->Address(vars.ordinal)))
            .Secondary(SpanOf(output.value), "their path")
            .AddHelp("put what tells the instances apart into the name of the file");
        return;
      }
      return;
    }
    if (Uniqueness(c_).OfNames(job, output.value)) return;
    c_.diags.Emit(span, diag::NamesNotProven, folder)
        .Label(fmt::format("two instances of `{}` may leave files of one name", job.address))
        .Secondary(SpanOf(output.value), "the last part of this path is the name")
        .AddHelp("put what tells the instances apart into the name, with a character between that cannot be part of it")
        .Note("a String can hold anything: `String(re\"[A-Za-z0-9_]+\")` says what it may be");
  }

  /// A row matches nothing exactly where one of its values is not a value of its axis.
  void Excluded(uint32_t j) {
    const ir::Domain& domain = JobOf(j).domain;
    ir::EvalContext nothing;
    for (const auto& row : domain.excluded) {
      for (const auto& [axis, expr] : row) {
        Value value, values;
        if (!c_.evaluator.Evaluate(expr, nothing, value) || !c_.evaluator.Evaluate(domain.axes[axis].values, nothing, values) || values.kind() != ValueKind::List) continue;
        const ir::ListValue& list = values.as_list();
        if (std::find(list.begin(), list.end(), value) != list.end()) continue;
        c_.diags.Emit(SpanOf(expr), diag::ExcludesNothing)
            .Label(fmt::format("`{}` never has this value", domain.axes[axis].name))
            .Secondary(SpanOf(domain.axes[axis].values), "its values")
            .AddHelp("correct the value, or remove the row");
        break;
      }
    }
  }

  template <typename Found>
  bool Any(ExprId root, Found found) const {
    std::vector<ExprId> todo{root};
    std::set<uint32_t> seen;
    while (!todo.empty()) {
      const ExprId id = todo.back();
      todo.pop_back();
      if (!id.valid() || !seen.insert(id.index).second) continue;
      const ir::Expr& e = c_.exprs[id];
      if (found(e)) return true;
      if (e.op == Op::Let) todo.push_back(c_.program.lets[e.a].value);
      if (e.op == Op::Apply) todo.push_back(c_.program.fns[e.a].body);
      for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(c_.exprs.arg(e, i));
    }
    return false;
  }

  // ---- W902 ----

  void Image(const ir::Job& job) {
    if (!job.image.valid() || !c_.exprs.IsConst(job.image) || c_.exprs.ConstValue(job.image).kind() != ValueKind::String) return;
    const std::string& image = c_.exprs.ConstValue(job.image).as_string();
    if (const size_t at = image.find("@sha256:"); at != std::string::npos) {
      const std::string digest = image.substr(at + 8);
      if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos) {
        c_.diags.Emit(SpanOf(job.image), diag::NotA, "a digest of 64 hex digits", fmt::format("{} characters", digest.size()))
            .Label(digest.size() == 64 ? "not all of them are 0-9 or a-f" : "cut off?")
            .AddHelp("take it whole from `docker image inspect` or from the registry's page");
      }
      return;
    }
    if (image.empty() || image[0] == '/' || image[0] == '.' || image.ends_with(".sif") || NamesImageContent(image)) return;  // a file for apptainer
    if (c_.declarations->Locks(c_, image)) return;
    const size_t name = image.rfind('/') + 1;
    auto& d = c_.diags.Emit(SpanOf(job.image), diag::ImageByTag, image).Label("may be another image tomorrow");
    d.AddHelp(fmt::format("name its content:  image = \"{}@sha256:…\"", image.substr(0, image.find(':', name))));
    if (IsLockable(image)) d.AddHelp("or let job.lock pin what the tag means now:  jobc lock");
  }

  void Images() {
    for (const ir::Job& job : c_.model.plan.jobs) Image(job);
    for (const Profile& profile : c_.model.profiles) {
      for (const ProfileJob& job : profile.jobs) Image(job.settings);
    }
  }

  // ---- W505, E605 ----

  void Budgets() {
    const auto& blocks = c_.declarations->unit_blocks[0].limits;
    if (!blocks.empty()) c_.model.limits_span = (*c_.units.front()->file)[blocks.front()].keyword;
    if (c_.diags.has_errors()) return;
    const auto given = [](const ir::Limits& l) { return l.time_ms || l.attempts || l.instances; };
    bool has_default = false;
    for (const Profile& profile : c_.model.profiles) has_default = has_default || profile.is_default;
    if (!has_default && given(c_.model.plan.limits)) Budget(c_.model.plan, nullptr);
    for (const Profile& profile : c_.model.profiles) {
      if (!given(c_.model.plan.limits) && !given(profile.limits)) continue;
      ir::Plan plan = c_.model.plan;
      for (const ProfileJob& job : profile.jobs) plan.jobs[job.job] = job.settings;
      if (!profile.pools.empty()) plan.pools = profile.pools;
      if (profile.limits.time_ms) plan.limits.time_ms = profile.limits.time_ms;
      if (profile.limits.attempts) plan.limits.attempts = profile.limits.attempts;
      if (profile.limits.instances) plan.limits.instances = profile.limits.instances;
      Budget(plan, &profile);
    }
  }

  /// Only what holds for all parameters; the rest is compared when the run is planned.
  void Budget(const ir::Plan& plan, const Profile* profile) {
    bounds::PlanBounds b = bounds::Bound(plan);
    const Span span = c_.model.limits_span.valid() ? c_.model.limits_span : profile != nullptr ? profile->span : Span{};
    const BudgetPlaces places{c_.model.job_spans, span, profile != nullptr ? fmt::format("under the profile `{}`", profile->name) : ""};
    if (plan.limits.time_ms) ReportUnbounded(plan, b, places, false, c_.diags);
    b.attempts = 0;
    for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
      if (!b.jobs[j].certain) b.jobs[j].attempts = 0;
      if (plan.jobs[j].kind == ir::JobKind::Job) b.attempts = bounds::Plus(b.attempts, b.jobs[j].attempts);
    }
    ReportBudget(plan, b, places, c_.diags);
  }

  Checker& c_;
  std::vector<bool> dead_;
};

}  // namespace

void CheckReachability(Checker& checker) { Reachability(checker).Run(); }

}  // namespace jobc::check
