// What each job waits for, read off its expressions: references are dependencies. Also hoists files that reach argv,
// scripts or env without being declared into inputs of their own, and finds circles.
#include <algorithm>
#include <fmt/format.h>
#include <unordered_set>

#include "compiler/check/declarations.h"

namespace jobc::check {
namespace {

using ir::ExprId;
using ir::Mapping;
using ir::Op;

class Collector {
 public:
  Collector(Checker& checker, uint32_t job, ir::Job& out) : c_(checker), job_(job), out_(out) {}

  void Run() {
    out_.dependencies.clear();
    Root(out_.when);
    Root(out_.domain.list);
    for (const ir::Input& input : out_.inputs) Root(input.value);
    for (const ir::EnvEntry& entry : out_.env) Root(entry.value);
    for (ExprId e : {out_.run, out_.image, out_.priority, out_.resources.cpu, out_.resources.memory, out_.resources.disk, out_.resources.gpu, out_.resources.spot,
                     out_.cache, out_.cache_salt, out_.staging, out_.log_limit, out_.grace}) {
      Root(e);
    }
    for (const std::optional<ir::Script>* script : {&out_.script, &out_.prologue, &out_.epilogue}) {
      if (!*script) continue;
      for (const ir::ScriptBinding& binding : (*script)->bindings) Root(binding.value);
    }
    for (const ir::Require& require : out_.requires_) {
      Root(require.condition);
      Root(require.message);
    }
    for (const ir::Output& output : out_.outputs) Root(output.value);
    for (const ir::After& after : out_.after) {
      ir::Dependency dependency;
      dependency.job = after.job;
      dependency.mapping = after.mapping;
      dependency.indices = after.indices;
      dependency.strong = after.kind == ir::AfterKind::Succeeded && !c_.jobs[after.job].nullable;
      dependency.order_only = true;
      if (dependency.mapping == Mapping::Expr && IsOwn(after.job, dependency.indices)) {
        dependency.mapping = Mapping::Same;
        dependency.indices.clear();
      } else if (dependency.mapping == Mapping::Expr && !AllStatic(dependency.indices)) {
        dependency.mapping = Mapping::All;
        dependency.indices.clear();
      }
      Add(std::move(dependency));
    }
    std::stable_sort(out_.dependencies.begin(), out_.dependencies.end(), [](const ir::Dependency& x, const ir::Dependency& y) { return x.job < y.job; });
  }

 private:
  void Root(ExprId expr) {
    if (!expr.valid()) return;
    seen_.clear();
    condition_ = {};
    Walk(expr);
  }

  void Walk(ExprId id) {
    if (!seen_.insert((uint64_t{id.index} << 32) | condition_.index).second) return;
    const ir::Expr e = c_.exprs[id];
    switch (e.op) {
      case Op::Let: Walk(c_.program.lets[e.a].value); break;
      case Op::Apply: Walk(c_.program.fns[e.a].body); break;
      case Op::JobOutput:
      case Op::GatherOutput: Reference(e, !Nullable(e.a)); break;
      case Op::JobStatus:
      case Op::GatherStatus:
      case Op::ScatterStatus: Reference(e, false); break;
      case Op::Instances: Reference(e, instances_strong_); break;
      case Op::ListFor:
      case Op::MapFor: {
        // The outputs used of the variable decide whether the instances must have succeeded.
        bool outer = instances_strong_;
        instances_strong_ = UsesOutputs(id);
        Walk(c_.exprs.arg(e, 0));
        instances_strong_ = outer;
        for (uint32_t i = 1; i < e.args.size; ++i) Walk(c_.exprs.arg(e, i));
        return;
      }
      case Op::If: {
        Walk(c_.exprs.arg(e, 0));
        // A branch that parameters decide against depends on nothing.
        if (!condition_.valid() && Static(c_.exprs.arg(e, 0))) {
          ExprId condition = c_.exprs.arg(e, 0);
          condition_ = condition;
          Walk(c_.exprs.arg(e, 1));
          condition_ = c_.exprs.Add(Op::Not, c_.types.Basic(ir::TypeKind::Bool), {condition});
          Walk(c_.exprs.arg(e, 2));
          condition_ = {};
          return;
        }
        Walk(c_.exprs.arg(e, 1));
        Walk(c_.exprs.arg(e, 2));
        return;
      }
      default: break;
    }
    for (uint32_t i = 0; i < e.args.size; ++i) Walk(c_.exprs.arg(e, i));
  }

  bool Nullable(uint32_t job) const { return c_.jobs[job].nullable || out_.kind == ir::JobKind::Finally || out_.kind == ir::JobKind::Hook; }

  bool UsesOutputs(ExprId id) {
    const ir::Expr e = c_.exprs[id];
    if (e.op == Op::InstanceOutput) {
      const ir::Expr& source = c_.exprs[c_.exprs.arg(e, 0)];
      uint32_t job = c_.types.kind(source.type) == ir::TypeKind::Instance ? c_.types[source.type].def : UINT32_MAX;
      if (job != UINT32_MAX && !Nullable(job)) return true;
    }
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (UsesOutputs(c_.exprs.arg(e, i))) return true;
    }
    return false;
  }

  /// Known before the run: no job, no run-time leaf.
  bool Static(ExprId id) {
    const ir::Expr e = c_.exprs[id];
    switch (e.op) {
      case Op::JobOutput: case Op::JobStatus: case Op::ScatterStatus: case Op::GatherOutput: case Op::GatherStatus: case Op::Instances:
      case Op::InstanceOutput: case Op::InstanceStatus: case Op::InstanceKey: case Op::RunField: case Op::Attempt: case Op::Prev: case Op::Stdout:
      case Op::Stderr: case Op::ExitCode: case Op::ReadText: case Op::ReadJson: case Op::Input: case Op::Resource: case Op::OutputValue: case Op::Local:
        return false;
      case Op::Let: return Static(c_.program.lets[e.a].value);
      default: break;
    }
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (!Static(c_.exprs.arg(e, i))) return false;
    }
    return true;
  }

  bool AllStatic(const std::vector<ExprId>& indices) {
    return std::all_of(indices.begin(), indices.end(), [&](ExprId e) { return Static(e); });
  }

  /// Whether `indices` are this job's own key and axes over the same domain as `target`.
  bool IsOwn(uint32_t target, const std::vector<ExprId>& indices) {
    const ir::Domain& own = out_.domain;
    const ir::Domain& other = c_.model.plan.jobs[target].domain;
    if (own.single() || target == job_ || own.list.valid() != other.list.valid() || own.axes.size() != other.axes.size()) return false;
    if (own.list.valid()) {
      if (!SameExpr(c_.program, own.list, other.list) || own.two_names != other.two_names) return false;
      if (own.key.valid() != other.key.valid()) return false;
      if (own.key.valid() && !SameExpr(c_.program, own.key, other.key)) return false;
    }
    size_t k = 0;
    if (own.list.valid()) {
      if (own.key.valid()) {
        if (!SameExpr(c_.program, indices[k], own.key)) return false;
      } else {
        const ir::Expr& e = c_.exprs[indices[k]];
        if (!own.two_names || e.op != Op::Var || e.a != 0) return false;
      }
      ++k;
    }
    if (own.excluded.size() != other.excluded.size()) return false;
    for (size_t i = 0; i < own.excluded.size(); ++i) {
      if (own.excluded[i].size() != other.excluded[i].size()) return false;
      for (size_t j = 0; j < own.excluded[i].size(); ++j) {
        if (own.excluded[i][j].first != other.excluded[i][j].first || !SameExpr(c_.program, own.excluded[i][j].second, other.excluded[i][j].second)) return false;
      }
    }
    for (size_t a = 0; a < own.axes.size(); ++a, ++k) {
      if (own.axes[a].name != other.axes[a].name || !SameExpr(c_.program, own.axes[a].values, other.axes[a].values)) return false;
      const ir::Expr& e = c_.exprs[indices[k]];
      if (e.op != Op::Var || e.a != 2 + a) return false;
    }
    return true;
  }

  void Reference(const ir::Expr& e, bool strong) {
    ir::Dependency dependency;
    dependency.job = e.a;
    dependency.strong = strong;
    dependency.condition = condition_;
    for (uint32_t i = 0; i < e.args.size; ++i) dependency.indices.push_back(c_.exprs.arg(e, i));
    const JobInfo& target = c_.jobs[e.a];
    const bool whole = e.op == Op::ScatterStatus || e.op == Op::GatherOutput || e.op == Op::GatherStatus || e.op == Op::Instances;
    if (target.single()) {
      dependency.mapping = Mapping::Single;
      dependency.indices.clear();
    } else if (whole || dependency.indices.size() < target.dimensions()) {
      dependency.mapping = Mapping::All;
      if (!AllStatic(dependency.indices)) dependency.indices.clear();
    } else if (IsOwn(e.a, dependency.indices)) {
      dependency.mapping = Mapping::Same;
      dependency.indices.clear();
    } else if (AllStatic(dependency.indices)) {
      dependency.mapping = Mapping::Expr;
    } else {
      dependency.mapping = Mapping::All;
      dependency.indices.clear();
    }
    Add(std::move(dependency));
  }

  void Add(ir::Dependency dependency) {
    for (ir::Dependency& known : out_.dependencies) {
      if (known.job != dependency.job || known.mapping != dependency.mapping || known.indices.size() != dependency.indices.size()) continue;
      if (known.condition.valid() != dependency.condition.valid()) continue;
      if (known.condition.valid() && !SameExpr(c_.program, known.condition, dependency.condition)) continue;
      bool same = true;
      for (size_t i = 0; same && i < known.indices.size(); ++i) same = SameExpr(c_.program, known.indices[i], dependency.indices[i]);
      if (!same) continue;
      known.strong = known.strong || dependency.strong;
      known.order_only = known.order_only && dependency.order_only;
      return;
    }
    out_.dependencies.push_back(std::move(dependency));
  }

  Checker& c_;
  uint32_t job_;
  ir::Job& out_;
  ExprId condition_;
  bool instances_strong_ = false;
  std::unordered_set<uint64_t> seen_;
};

/// Rewrites an expression of argv, a script or env so that files come through inputs.
class Hoister {
 public:
  Hoister(Checker& checker, ir::Job& job) : c_(checker), job_(job) {}

  ExprId Hoist(ExprId id) {
    const ir::Expr e = c_.exprs[id];
    switch (e.op) {
      case Op::Input: case Op::OutputPath: case Op::Const: case Op::Error: return id;
      case Op::Call:
        switch (static_cast<ir::Builtin>(e.a)) {
          // Only the name or the identity of the file is used, never the file.
          case ir::Builtin::basename: case ir::Builtin::dirname: case ir::Builtin::stem: case ir::Builtin::extension: case ir::Builtin::size: case ir::Builtin::sha256: return id;
          default: break;
        }
        break;
      default: break;
    }
    if (c_.types.HasFile(e.type) && !Transparent(e.op) && !FromInput(id) && Closed(id)) return Add(id, e.type);
    std::vector<ExprId> args;
    bool changed = false;
    for (uint32_t i = 0; i < e.args.size; ++i) {
      ExprId arg = c_.exprs.arg(e, i);
      args.push_back(Hoist(arg));
      changed = changed || args.back() != arg;
    }
    return changed ? c_.exprs.Add(e.op, e.type, e.a, e.b, args.data(), args.size(), c_.exprs.place(id)) : id;
  }

 private:
  /// Made of parts that are looked at one by one: the part that is an input stays one.
  static bool Transparent(Op op) {
    return op == Op::If || op == Op::Coalesce || op == Op::List || op == Op::Splice || op == Op::Match || op == Op::TemplateArgs || op == Op::Narrow || op == Op::Checked;
  }

  bool FromInput(ExprId id) {
    const ir::Expr e = c_.exprs[id];
    switch (e.op) {
      case Op::Input: case Op::OutputPath: return true;
      case Op::Field: case Op::OptField: case Op::Index: case Op::Narrow: case Op::Checked: return FromInput(c_.exprs.arg(e, 0));
      default: return false;
    }
  }

  bool Closed(ExprId id) { return !UsesLocalBelow(id, UINT32_MAX); }

  /// A Local whose binder lies outside `id`.
  bool UsesLocalBelow(ExprId id, uint32_t bound) {
    const ir::Expr e = c_.exprs[id];
    if (e.op == Op::Local) return e.a < bound;
    uint32_t inner = bound;
    if (e.op == Op::ListFor || e.op == Op::MapFor) inner = std::min(bound, e.a);
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (UsesLocalBelow(c_.exprs.arg(e, i), i == 0 ? bound : inner)) return true;
    }
    return false;
  }

  ExprId Add(ExprId id, ir::TypeId type) {
    uint32_t implicit = 0;
    for (uint32_t i = 0; i < job_.inputs.size(); ++i) {
      if (!job_.inputs[i].implicit) continue;
      ++implicit;
      if (SameExpr(c_.program, job_.inputs[i].value, id)) return c_.exprs.Add(Op::Input, type, i, 0, nullptr, 0, c_.exprs.place(id));
    }
    ir::Input input;
    input.name = fmt::format("_{}", implicit + 1);
    input.type = type;
    input.value = id;
    input.implicit = true;
    job_.inputs.push_back(std::move(input));
    return c_.exprs.Add(Op::Input, type, static_cast<uint32_t>(job_.inputs.size() - 1), 0, nullptr, 0, c_.exprs.place(id));
  }

  Checker& c_;
  ir::Job& job_;
};

}  // namespace

void CollectDependencies(Checker& checker, uint32_t job, ir::Job& out) { Collector(checker, job, out).Run(); }

ExprId HoistFiles(Checker& checker, ir::Job& job, ExprId expr) {
  if (!expr.valid() || job.kind == ir::JobKind::Check) return expr;
  return Hoister(checker, job).Hoist(expr);
}

void FindCycles(Checker& checker) {
  const std::vector<ir::Job>& jobs = checker.model.plan.jobs;
  // Iterative depth-first search; a circle is told once, at its first job.
  enum class Color : uint8_t { White, Grey, Black };
  std::vector<Color> color(jobs.size(), Color::White);
  struct Frame {
    uint32_t job;
    size_t next;
  };
  for (uint32_t start = 0; start < jobs.size(); ++start) {
    if (color[start] != Color::White) continue;
    std::vector<Frame> stack{{start, 0}};
    color[start] = Color::Grey;
    while (!stack.empty()) {
      Frame& frame = stack.back();
      const std::vector<ir::Dependency>& dependencies = jobs[frame.job].dependencies;
      if (frame.next == dependencies.size()) {
        color[frame.job] = Color::Black;
        stack.pop_back();
        continue;
      }
      uint32_t to = dependencies[frame.next++].job;
      // A job that refers to its own instances has been told where it does so.
      if (color[to] == Color::White) {
        color[to] = Color::Grey;
        stack.push_back({to, 0});
      } else if (color[to] == Color::Grey && to != frame.job) {
        std::string path;
        size_t from = 0;
        while (stack[from].job != to) ++from;
        auto& d = checker.diags.Emit(checker.jobs[to].name.span, diag::JobCycle, [&] {
          for (size_t i = from; i < stack.size(); ++i) path += checker.jobs[stack[i].job].address + " -> ";
          return path + checker.jobs[to].address;
        }());
        d.Label("waits for itself");
        for (size_t i = from + 1; i < stack.size(); ++i) {
          d.Secondary(checker.jobs[stack[i].job].name.span, fmt::format("`{}` waits for `{}`", checker.jobs[stack[i - 1].job].name.text, checker.jobs[stack[i].job].name.text));
        }
        d.AddHelp("remove one of these references, or move the shared part into a job of its own");
      } else if (to == frame.job && jobs[frame.job].dependencies[frame.next - 1].order_only) {
        checker.diags.Emit(checker.jobs[to].name.span, diag::JobCycle, fmt::format("{0} -> {0}", checker.jobs[to].address)).Label("waits for itself");
      }
    }
  }
}

}  // namespace jobc::check
