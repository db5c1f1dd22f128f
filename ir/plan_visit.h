// Everything a job refers to directly, in one fixed order. Belongs to ir/ only.
#pragma once

#include "ir/plan.h"

namespace jobc::ir {

/// Calls `visit.Expr` and `visit.Type` for everything a job refers to directly, always in the same order.
template <typename Visit>
void VisitJob(const Job& job, Visit& visit) {
  const Domain& domain = job.domain;
  visit.Expr(domain.list);
  visit.Type(domain.type);
  visit.Type(domain.type2);
  visit.Expr(domain.key);
  visit.Type(domain.key_type);
  for (const Axis& axis : domain.axes) {
    visit.Expr(axis.values);
    visit.Type(axis.type);
  }
  for (const auto& row : domain.excluded) {
    for (const auto& [axis, value] : row) visit.Expr(value);
  }
  visit.Expr(job.when);
  for (const After& after : job.after) {
    for (ExprId index : after.indices) visit.Expr(index);
  }
  for (const Dependency& dependency : job.dependencies) {
    for (ExprId index : dependency.indices) visit.Expr(index);
    visit.Expr(dependency.condition);
  }
  for (const Input& input : job.inputs) {
    visit.Type(input.type);
    visit.Expr(input.value);
  }
  for (const EnvEntry& entry : job.env) {
    visit.Expr(entry.value);
    visit.Type(entry.type);
  }
  for (const NamedExpr& entry : job.secret_files) visit.Expr(entry.value);
  visit.Expr(job.image);
  auto resources = [&](const ResourceSpec& spec) {
    for (ExprId id : {spec.cpu, spec.memory, spec.disk, spec.gpu, spec.spot}) visit.Expr(id);
  };
  auto timeouts = [&](const TimeoutSpec& spec) {
    for (ExprId id : {spec.queue, spec.run, spec.total, spec.idle, spec.stage, spec.collect}) visit.Expr(id);
  };
  auto backoff = [&](const Backoff& b) {
    visit.Expr(b.base);
    visit.Expr(b.max);
  };
  resources(job.resources);
  for (const auto& [pool, slots] : job.pools) visit.Expr(slots);
  visit.Expr(job.priority);
  timeouts(job.timeout);
  visit.Expr(job.grace);
  visit.Expr(job.log_limit);
  backoff(job.retry.backoff);
  for (const RetryRule& rule : job.retry.rules) {
    visit.Expr(rule.delay);
    if (rule.backoff) backoff(*rule.backoff);
    resources(rule.resources);
    timeouts(rule.timeout);
  }
  backoff(job.submit.backoff);
  visit.Expr(job.run);
  for (const auto* script : {&job.script, &job.prologue, &job.epilogue}) {
    if (!*script) continue;
    for (const ScriptBinding& binding : (*script)->bindings) {
      visit.Expr(binding.value);
      visit.Type(binding.type);
    }
  }
  for (const Require& require : job.requires_) {
    visit.Expr(require.condition);
    visit.Expr(require.message);
  }
  visit.Expr(job.cache);
  visit.Expr(job.cache_salt);
  for (const NamedExpr& label : job.labels) visit.Expr(label.value);
  for (const Output& output : job.outputs) {
    visit.Type(output.type);
    visit.Expr(output.value);
    visit.Expr(output.fallback);
  }
  for (const NamedExpr& option : job.backend.options) visit.Expr(option.value);
  visit.Expr(job.staging);
}

}  // namespace jobc::ir
