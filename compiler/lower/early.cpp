#include "compiler/lower/early.h"

namespace jobc {

using ir::ExprId;
using ir::Op;

const EarlyParts::Facts& EarlyParts::LookAt(ExprId expr) {
  if (auto known = facts_.find(expr.index); known != facts_.end()) return known->second;
  const ir::Expr& e = program_.exprs[expr];
  Facts facts;
  switch (e.op) {
    case Op::Error: case Op::Secret: case Op::Input: case Op::Resource: case Op::OutputPath: case Op::OutputValue: case Op::JobOutput: case Op::JobStatus:
    case Op::ScatterStatus: case Op::GatherOutput: case Op::GatherStatus: case Op::Instances: case Op::InstanceOutput: case Op::InstanceStatus:
    case Op::InstanceKey: case Op::RunField: case Op::Attempt: case Op::Prev: case Op::Stdout: case Op::Stderr: case Op::ExitCode: case Op::ReadText:
    case Op::ReadJson:
      facts.early = false;
      break;
    case Op::Var:
      facts.early = static_domain_ || e.a >= 2;
      facts.instance = true;
      break;
    case Op::Let: facts = LookAt(program_.lets[e.a].value); break;
    case Op::Apply: facts = LookAt(program_.fns[e.a].body); break;
    // Whatever computes may overflow, divide by zero, index too far or break a refinement.
    case Op::Add: case Op::Sub: case Op::Mul: case Op::Div: case Op::Mod: case Op::Negate: case Op::Index: case Op::Call: case Op::Checked: case Op::Narrow:
    case Op::FileLiteral:
      facts.faults = true;
      break;
    default: break;
  }
  // The files that jobs would read are looked at where they stand; a literal that only names one has a value.
  for (uint32_t i = 0; i < e.args.size; ++i) {
    const Facts& inner = LookAt(program_.exprs.arg(e, i));
    facts.early = facts.early && inner.early;
    facts.faults = facts.faults || inner.faults;
    facts.instance = facts.instance || inner.instance;
  }
  return facts_[expr.index] = facts;
}

void EarlyParts::Collect(ExprId expr, std::vector<ExprId>& out) {
  if (!expr.valid() || !collected_.insert(expr.index).second) return;
  const Facts facts = LookAt(expr);
  // `...xs` has no value of its own, only what it splices.
  if (facts.early && program_.exprs[expr].op != Op::Splice) {
    if (facts.faults) out.push_back(expr);
    return;
  }
  const ir::Expr& e = program_.exprs[expr];
  // Only what is evaluated in any case: not the branches, nor what stands behind `&&`, `||` and `??`.
  uint32_t certain = e.args.size;
  switch (e.op) {
    case Op::If: case Op::And: case Op::Or: case Op::Coalesce: case Op::Match: case Op::ListFor: case Op::MapFor: certain = 1; break;
    case Op::Let: Collect(program_.lets[e.a].value, out); break;
    default: break;
  }
  for (uint32_t i = 0; i < certain && i < e.args.size; ++i) Collect(program_.exprs.arg(e, i), out);
}

std::vector<ExprId> EarlyParts::Of(ExprId root) {
  std::vector<ExprId> parts;
  collected_.clear();
  Collect(root, parts);
  return parts;
}

bool EarlyParts::DependsOnInstance(ExprId expr) { return LookAt(expr).instance; }

}  // namespace jobc
