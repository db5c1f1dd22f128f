// Builds ir::Plan values by hand, for tests of the runtime that must not depend on the compiler.
//
//   PlanBuilder b;
//   uint32_t fetch = b.Job("fetch");
//   uint32_t align = b.Scatter("align", 3);
//   b.After(align, fetch);
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ir/plan.h"

namespace jobc::testing {

class PlanBuilder {
 public:
  ir::Plan plan;

  ir::Job& operator[](uint32_t job) { return plan.jobs[job]; }
  ir::TypeTable& types() { return plan.program.types; }
  ir::ExprPool& exprs() { return plan.program.exprs; }
  ir::TypeId Type(ir::TypeKind kind) { return types().Basic(kind); }

  // -- Expressions ---------------------------------------------------------------------------------------------------
  ir::ExprId Int(int64_t v) { return exprs().Constant(Type(ir::TypeKind::Int), ir::Value::Int(v)); }
  ir::ExprId Float(double v) { return exprs().Constant(Type(ir::TypeKind::Float), ir::Value::Float(v)); }
  ir::ExprId Bool(bool v) { return exprs().Constant(Type(ir::TypeKind::Bool), ir::Value::Bool(v)); }
  ir::ExprId Bytes(int64_t v) { return exprs().Constant(Type(ir::TypeKind::Bytes), ir::Value::Bytes(v)); }
  ir::ExprId Ms(int64_t v) { return exprs().Constant(Type(ir::TypeKind::Duration), ir::Value::Duration(v)); }
  ir::ExprId Str(std::string v) {
    return exprs().Constant(Type(ir::TypeKind::String), ir::Value::String(std::move(v)));
  }
  ir::ExprId Ints(const std::vector<int64_t>& values) {
    ir::ListValue list;
    for (int64_t v : values) list.push_back(ir::Value::Int(v));
    return exprs().Constant(types().List(Type(ir::TypeKind::Int)), ir::Value::List(std::move(list)));
  }
  ir::ExprId Var(uint32_t slot = 0) { return exprs().Add(ir::Op::Var, Type(ir::TypeKind::Int), {}, {}, slot); }
  ir::ExprId Range(int64_t n) {
    return exprs().Add(ir::Op::Call, types().List(Type(ir::TypeKind::Int)), {Int(n)}, {},
                       static_cast<uint32_t>(ir::Builtin::range));
  }
  ir::ExprId Binary(ir::Op op, ir::TypeKind type, ir::ExprId x, ir::ExprId y) {
    return exprs().Add(op, Type(type), {x, y});
  }
  ir::ExprId Call(ir::Builtin builtin, ir::TypeId type, std::initializer_list<ir::ExprId> args) {
    return exprs().Add(ir::Op::Call, type, args, {}, static_cast<uint32_t>(builtin));
  }
  ir::ExprId Prev(ir::PrevKind kind, ir::TypeKind type) {
    return exprs().Add(ir::Op::Prev, Type(type), {}, {}, static_cast<uint32_t>(kind));
  }
  /// min(prev * 2, cap)
  ir::ExprId Doubled(ir::PrevKind kind, ir::TypeKind type, ir::ExprId cap) {
    return Call(ir::Builtin::min, Type(type), {Binary(ir::Op::Mul, type, Prev(kind, type), Int(2)), cap});
  }
  ir::ExprId Output(uint32_t job, uint32_t output, ir::TypeId type, std::initializer_list<ir::ExprId> indices = {}) {
    return exprs().Add(ir::Op::JobOutput, type, indices, {}, job, output);
  }
  ir::ExprId Status(uint32_t job, ir::StatusField field, ir::TypeKind type,
                    std::initializer_list<ir::ExprId> indices = {}) {
    return exprs().Add(ir::Op::JobStatus, Type(type), indices, {}, job, static_cast<uint32_t>(field));
  }
  ir::ExprId ScatterStatus(uint32_t job, ir::StatusField field, ir::TypeKind type) {
    return exprs().Add(ir::Op::ScatterStatus, Type(type), {}, {}, job, static_cast<uint32_t>(field));
  }

  // -- Jobs ----------------------------------------------------------------------------------------------------------
  uint32_t Job(std::string name, ir::JobKind kind = ir::JobKind::Job) {
    ir::Job job;
    job.address = std::move(name);
    job.kind = kind;
    job.action = kind == ir::JobKind::Check ? ir::ActionKind::None : ir::ActionKind::Run;
    plan.jobs.push_back(std::move(job));
    return static_cast<uint32_t>(plan.jobs.size() - 1);
  }
  /// Instances name["0"] … name["n-1"].
  uint32_t Scatter(std::string name, int64_t n) { return Scatter(std::move(name), Range(n), false); }
  uint32_t Scatter(std::string name, ir::ExprId list, bool dynamic) {
    uint32_t index = Job(std::move(name));
    ir::Domain& domain = plan.jobs[index].domain;
    domain.list = list;
    domain.dynamic = dynamic;
    domain.name = "i";
    domain.type = Type(ir::TypeKind::Int);
    domain.key = Var();
    domain.key_kind = ir::KeyKind::Int;
    domain.key_type = Type(ir::TypeKind::Int);
    return index;
  }
  uint32_t Check(std::string name, ir::ExprId condition, std::string message) {
    uint32_t index = Job(std::move(name), ir::JobKind::Check);
    plan.jobs[index].requires_.push_back({condition, Str(std::move(message)), "condition", {}});
    return index;
  }
  uint32_t Hook(std::string name, ir::HookEvent event) {
    uint32_t index = Job(std::move(name), ir::JobKind::Hook);
    plan.jobs[index].hook_event = event;
    return index;
  }

  /// `consumer` needs `producer` by a reference.
  void Needs(uint32_t consumer, uint32_t producer, ir::Mapping mapping = ir::Mapping::Single, bool strong = true,
             std::vector<ir::ExprId> indices = {}) {
    ir::Dependency d;
    d.job = producer;
    d.mapping = mapping;
    d.strong = strong;
    d.indices = std::move(indices);
    plan.jobs[consumer].dependencies.push_back(std::move(d));
  }
  /// `after = [producer]`, `.done` or `.failed`; the mapping is by the domains unless given.
  void After(uint32_t consumer, uint32_t producer, ir::AfterKind kind = ir::AfterKind::Succeeded) {
    const bool single = plan.jobs[producer].domain.single();
    const ir::Mapping mapping = single ? ir::Mapping::Single : ir::Mapping::All;
    plan.jobs[consumer].after.push_back({producer, kind, mapping, {}});
    Needs(consumer, producer, mapping, kind == ir::AfterKind::Succeeded && !plan.jobs[producer].nullable);
    plan.jobs[consumer].dependencies.back().order_only = true;
    if (kind == ir::AfterKind::Failed || (kind == ir::AfterKind::Succeeded && plan.jobs[producer].nullable))
      plan.jobs[consumer].nullable = true;
  }
  void When(uint32_t job, ir::ExprId condition) {
    plan.jobs[job].when = condition;
    plan.jobs[job].nullable = true;
  }
  void OnError(uint32_t job, ir::Strategy strategy) {
    plan.jobs[job].on_error = strategy;
    plan.jobs[job].on_error_set = true;
    if (strategy == ir::Strategy::Ignore) plan.jobs[job].nullable = true;
  }
  /// `x: T` of the JSON result.
  uint32_t AddOutput(uint32_t job, std::string name, ir::TypeId type) {
    ir::Output output;
    output.name = std::move(name);
    output.type = type;
    plan.jobs[job].outputs.push_back(std::move(output));
    return static_cast<uint32_t>(plan.jobs[job].outputs.size() - 1);
  }
  void Retry(uint32_t job, int64_t max_attempts, std::vector<ir::Matcher> on = {}, int64_t delay_ms = 0) {
    ir::Retry& retry = plan.jobs[job].retry;
    retry.max_attempts = max_attempts;
    retry.has_on = !on.empty();
    retry.on = std::move(on);
    if (delay_ms > 0) {
      retry.backoff.kind = ir::Backoff::Kind::Constant;
      retry.backoff.base = Ms(delay_ms);
    }
  }
  ir::RetryRule& Rule(uint32_t job, ir::Matcher matcher, std::optional<int64_t> retries = std::nullopt) {
    ir::RetryRule rule;
    rule.matchers.push_back(std::move(matcher));
    rule.retries = retries;
    plan.jobs[job].retry.rules.push_back(std::move(rule));
    return plan.jobs[job].retry.rules.back();
  }
  uint32_t Pool(std::string name, int64_t slots) {
    plan.pools.push_back({std::move(name), Int(slots)});
    return static_cast<uint32_t>(plan.pools.size() - 1);
  }
};

inline ir::Matcher OnKind(ir::ErrorKind kind) { return {kind, std::nullopt, ""}; }
inline ir::Matcher OnClass(ir::ErrorClass c) { return {std::nullopt, c, ""}; }
inline ir::Matcher OnName(std::string name) { return {std::nullopt, std::nullopt, std::move(name)}; }

}  // namespace jobc::testing
