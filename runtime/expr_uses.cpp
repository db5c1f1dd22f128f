#include "runtime/expr_uses.h"

#include <unordered_set>
#include <vector>

namespace jobc {
namespace {

using ir::Op;

bool IsOfJobs(Op op) {
  switch (op) {
    case Op::JobOutput:
    case Op::JobStatus:
    case Op::ScatterStatus:
    case Op::GatherOutput:
    case Op::GatherStatus:
    case Op::Instances:
    case Op::InstanceOutput:
    case Op::InstanceStatus:
    case Op::InstanceKey: return true;
    default: return false;
  }
}

bool IsOfAttempt(Op op) {
  switch (op) {
    case Op::Attempt:
    case Op::Prev:
    case Op::Secret:
    case Op::RunField:
    case Op::Resource:
    case Op::OutputPath:
    case Op::OutputValue:
    case Op::Stdout:
    case Op::Stderr:
    case Op::ExitCode:
    case Op::ReadText:
    case Op::ReadJson: return true;
    default: return false;
  }
}

/// All expressions of the job except the list of its `for`.
std::vector<ir::ExprId> Body(const ir::Job& job) {
  std::vector<ir::ExprId> out{
      job.when,           job.image,         job.priority,       job.run,           job.grace,
      job.log_limit,      job.cache,         job.cache_salt,     job.resources.cpu, job.resources.memory,
      job.resources.disk, job.resources.gpu, job.resources.spot, job.timeout.queue, job.timeout.run,
      job.timeout.total,  job.timeout.idle,  job.timeout.stage, job.timeout.collect, job.staging};
  for (const ir::Input& input : job.inputs) out.push_back(input.value);
  for (const ir::EnvEntry& entry : job.env) out.push_back(entry.value);
  for (const ir::NamedExpr& file : job.secret_files) out.push_back(file.value);
  for (const ir::NamedExpr& label : job.labels) out.push_back(label.value);
  for (const auto& [pool, slots] : job.pools) out.push_back(slots);
  for (const auto* script : {&job.script, &job.prologue, &job.epilogue}) {
    if (!*script) continue;
    for (const ir::ScriptBinding& binding : (*script)->bindings) out.push_back(binding.value);
  }
  for (const ir::Require& require : job.requires_) {
    out.push_back(require.condition);
    out.push_back(require.message);
  }
  for (const ir::Output& output : job.outputs) out.push_back(output.value);
  return out;
}

}  // namespace

bool WalkExpr(const ir::Program& program, ir::ExprId root,
              const std::function<bool(ir::ExprId, const ir::Expr&)>& visit) {
  std::vector<ir::ExprId> todo{root};
  std::unordered_set<uint32_t> seen;
  while (!todo.empty()) {
    const ir::ExprId id = todo.back();
    todo.pop_back();
    if (!id.valid() || !seen.insert(id.index).second) continue;
    const ir::Expr& e = program.exprs[id];
    if (!visit(id, e)) return false;
    if (e.op == Op::Let) todo.push_back(program.lets[e.a].value);
    if (e.op == Op::Apply) todo.push_back(program.fns[e.a].body);
    for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(program.exprs.arg(e, i));
  }
  return true;
}

bool IsSharedByInstances(const ir::Program& program, ir::ExprId root) {
  return WalkExpr(program, root, [](ir::ExprId, const ir::Expr& e) {
    return e.op != Op::Var && e.op != Op::Input && !IsOfJobs(e.op) && !IsOfAttempt(e.op);
  });
}

bool IsKnownAtPlan(const ir::Program& program, const ir::Job& job, ir::ExprId root) {
  std::vector<bool> visited(job.inputs.size());
  std::vector<ir::ExprId> roots{root};
  while (!roots.empty()) {
    const ir::ExprId next = roots.back();
    roots.pop_back();
    const bool known = WalkExpr(program, next, [&](ir::ExprId, const ir::Expr& e) {
      if (e.op == Op::Input && !visited[e.a]) {
        visited[e.a] = true;
        roots.push_back(job.inputs[e.a].value);
      }
      return !IsOfJobs(e.op) && !IsOfAttempt(e.op);
    });
    if (!known) return false;
  }
  return true;
}

std::map<uint32_t, Needs> JobsNeeded(const ir::Program& program, ir::ExprId root) {
  std::map<uint32_t, Needs> out;
  auto add = [&](uint32_t job, Needs needs) {
    auto [it, added] = out.try_emplace(job, needs);
    if (needs == Needs::End) it->second = needs;
  };
  WalkExpr(program, root, [&](ir::ExprId, const ir::Expr& e) {
    switch (e.op) {
      case Op::JobOutput:
      case Op::JobStatus:
      case Op::GatherOutput:
      case Op::GatherStatus: add(e.a, Needs::End); break;
      case Op::ScatterStatus:
        add(e.a, static_cast<ir::StatusField>(e.b) == ir::StatusField::Count ? Needs::Domain : Needs::End);
        break;
      case Op::Instances: add(e.a, Needs::Domain); break;
      case Op::InstanceOutput:
      case Op::InstanceStatus: {
        const ir::TypeNode& type = program.types[program.exprs[program.exprs.arg(e, 0)].type];
        if (type.kind == ir::TypeKind::Instance) add(type.def, Needs::End);
        break;
      }
      default: break;
    }
    return true;
  });
  return out;
}

bool OnlyListNeedsAll(const ir::Plan& plan, const ir::Job& consumer, uint32_t producer) {
  const ir::Program& program = plan.program;
  std::map<uint32_t, Needs> list = JobsNeeded(program, consumer.domain.list);
  if (!list.count(producer)) return false;
  for (const ir::After& after : consumer.after) {
    if (after.job == producer && after.mapping == ir::Mapping::All) return false;
  }
  bool indexed = false;
  for (const ir::Dependency& d : consumer.dependencies) {
    indexed = indexed || (d.job == producer && (d.mapping == ir::Mapping::Expr || d.mapping == ir::Mapping::Same));
  }
  for (ir::ExprId root : Body(consumer)) {
    const bool fine = WalkExpr(program, root, [&](ir::ExprId, const ir::Expr& e) {
      switch (e.op) {
        case Op::GatherOutput:
        case Op::GatherStatus:
        case Op::ScatterStatus:
        case Op::Instances: return e.a != producer;
        case Op::JobOutput:
        case Op::JobStatus:
          if (e.a != producer) return true;
          if (!indexed) return false;
          for (uint32_t i = 0; i < e.args.size; ++i) {
            if (!IsKnownAtPlan(program, consumer, program.exprs.arg(e, i)))
              return false;  // such an index is mapped to all
          }
          return true;
        default: return true;
      }
    });
    if (!fine) return false;
  }
  return true;
}

}  // namespace jobc
