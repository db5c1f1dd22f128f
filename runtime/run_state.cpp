#include "runtime/run_state.h"

#include <algorithm>

#include <fmt/format.h>

namespace jobc {
namespace {

const ir::Value kNull;

}  // namespace

std::string_view RunStatusName(RunStatus status) {
  switch (status) {
    case RunStatus::Succeeded: return "succeeded";
    case RunStatus::Failed: return "failed";
    case RunStatus::Interrupted: return "interrupted";
    case RunStatus::TimedOut: return "timed_out";
  }
  JOBC_UNREACHABLE();
}

RunState::RunState(const ir::Plan& plan, std::string run_id)
    : plan_(&plan), run_id_(std::move(run_id)), jobs_(plan.jobs.size()) {}

// -- Domains -----------------------------------------------------------------------------------------------------

Result<void> RunState::ExpandWith(uint32_t job, ir::Evaluator& evaluator, ir::EvalContext& context,
                                  const ir::Value* list) {
  JobState& j = jobs_[job];
  JOBC_CHECK(!j.instances);
  Result<ir::Instances> instances = ir::Instances::Expand(*plan_, job, evaluator, context, list);
  if (!instances) return instances.error();
  if (instances->size() >= kWholeJob) {
    return Error{fmt::format("`{}` would have {} instances, more than a run can hold", plan_->jobs[job].address,
                             instances->size())};
  }
  j.rows.resize(instances->size());
  j.counts = {};
  j.counts[static_cast<size_t>(InstanceState::Waiting)] = j.rows.size();
  j.instances = std::move(*instances);
  return {};
}

Result<void> RunState::Expand(uint32_t job, ir::Evaluator& evaluator, ir::EvalContext& context, const ir::Value* list) {
  JOBC_CHECK(plan_->jobs[job].domain.dynamic == (list != nullptr));
  return ExpandWith(job, evaluator, context, list);
}

std::string RunState::Address(InstanceRef instance) const {
  if (instance.ordinal == kWholeJob || !expanded(instance.job)) return plan_->jobs[instance.job].address;
  return jobs_[instance.job].instances->Address(instance.ordinal);
}

std::optional<InstanceRef> RunState::FindAddress(std::string_view address) const {
  std::string_view name = address.substr(0, address.find('['));
  for (uint32_t job = 0; job < jobs_.size(); ++job) {
    if (plan_->jobs[job].address != name) continue;
    for (uint32_t i = 0; i < size(job); ++i) {
      if (jobs_[job].instances->Address(i) == address) return InstanceRef{job, i};
    }
  }
  return std::nullopt;
}

// -- Instances ---------------------------------------------------------------------------------------------------

InstanceState RunState::state(InstanceRef instance) const {
  const JobState& j = jobs_[instance.job];
  return instance.ordinal == kWholeJob ? j.whole : j.rows[instance.ordinal].state;
}

uint32_t RunState::attempts(InstanceRef instance) const {
  return instance.ordinal == kWholeJob ? 0 : jobs_[instance.job].rows[instance.ordinal].attempts;
}

InstanceTimes RunState::times(InstanceRef instance) const {
  if (instance.ordinal == kWholeJob) return {};
  const Row& row = jobs_[instance.job].rows[instance.ordinal];
  return {row.started_ms, row.ended_ms};
}

std::shared_ptr<const Verdict> RunState::verdict(InstanceRef instance) const {
  const auto& verdicts = jobs_[instance.job].verdicts;
  auto found = verdicts.find(instance.ordinal);
  return found == verdicts.end() ? nullptr : found->second;
}

const ir::Value& RunState::output(InstanceRef instance, uint32_t index) const {
  const JobState& j = jobs_[instance.job];
  if (instance.ordinal == kWholeJob || j.outputs.empty() || j.rows[instance.ordinal].state != InstanceState::Succeeded)
    return kNull;
  return j.outputs[size_t{instance.ordinal} * plan_->jobs[instance.job].outputs.size() + index];
}

const ir::Value& RunState::result(InstanceRef instance) const {
  const JobState& j = jobs_[instance.job];
  if (instance.ordinal == kWholeJob || j.results.empty() || j.rows[instance.ordinal].state != InstanceState::Succeeded)
    return kNull;
  return j.results[instance.ordinal];
}

const RetryHistory* RunState::history(InstanceRef instance) const {
  const auto& histories = jobs_[instance.job].histories;
  auto found = histories.find(instance.ordinal);
  return found == histories.end() ? nullptr : &found->second;
}

bool RunState::all_final(uint32_t job) const {
  const JobState& j = jobs_[job];
  if (IsFinal(j.whole)) return true;
  if (!j.instances) return false;
  uint64_t finals = 0;
  for (int s = static_cast<int>(InstanceState::Succeeded); s < kInstanceStates; ++s)
    finals += j.counts[static_cast<size_t>(s)];
  return finals == j.rows.size();
}

std::vector<std::string> RunState::FailedJobs() const {
  std::vector<std::string> out;
  for (InstanceRef instance : failed_) {
    const bool hook = plan_->jobs[instance.job].kind == ir::JobKind::Hook;  // failures of hooks are warnings
    if (!hook && !jobs_[instance.job].tolerated) out.push_back(Address(instance));
  }
  std::sort(out.begin(), out.end());
  return out;
}

// -- Facts -------------------------------------------------------------------------------------------------------

void RunState::ApplyState(InstanceRef instance, InstanceState to, std::shared_ptr<const Verdict> verdict) {
  JobState& j = jobs_[instance.job];
  Row& row = j.rows[instance.ordinal];
  JOBC_CHECK(IsLegalChange(row.state, to));
  --j.counts[static_cast<size_t>(row.state)];
  ++j.counts[static_cast<size_t>(to)];
  row.state = to;
  if (verdict) {
    j.verdicts[instance.ordinal] = std::move(verdict);
  } else if (IsFinal(to) && !j.verdicts.empty()) {
    j.verdicts.erase(instance.ordinal);
  }
  if (to == InstanceState::Succeeded && !j.histories.empty()) j.histories.erase(instance.ordinal);
  if (to == InstanceState::Failed) failed_.push_back(instance);
}

AttemptId RunState::ApplyAttempt(InstanceRef instance) {
  ++jobs_[instance.job].rows[instance.ordinal].attempts;
  return next_attempt_++;
}

void RunState::RetractAttempt(InstanceRef instance) {
  Row& row = jobs_[instance.job].rows[instance.ordinal];
  JOBC_CHECK(row.attempts > 0);
  --row.attempts;
}

void RunState::ApplyResult(InstanceRef instance, AttemptResult&& result) {
  JobState& j = jobs_[instance.job];
  Row& row = j.rows[instance.ordinal];
  row.started_ms = result.started_ms;
  row.ended_ms = result.ended_ms;
  if (!result.verdict.success) return;
  const size_t outputs = plan_->jobs[instance.job].outputs.size();
  JOBC_CHECK(result.outputs.size() == outputs);
  if (outputs > 0) {
    if (j.outputs.empty()) j.outputs.resize(j.rows.size() * outputs);
    std::move(result.outputs.begin(), result.outputs.end(),
              j.outputs.begin() + static_cast<ptrdiff_t>(instance.ordinal * outputs));
  }
  if (!result.result.is_null()) {
    if (j.results.empty()) j.results.resize(j.rows.size());
    j.results[instance.ordinal] = std::move(result.result);
  }
}

void RunState::ApplyReused(InstanceRef instance, AttemptResult&& result, uint32_t attempts) {
  jobs_[instance.job].rows[instance.ordinal].attempts = attempts;
  ApplyResult(instance, std::move(result));
}

RetryHistory& RunState::MutableHistory(InstanceRef instance) { return jobs_[instance.job].histories[instance.ordinal]; }

void RunState::ApplyWhole(uint32_t job, InstanceState final_state, std::shared_ptr<const Verdict> verdict) {
  JobState& j = jobs_[job];
  JOBC_CHECK(!j.instances && !IsFinal(j.whole) && IsFinal(final_state));
  j.whole = final_state;
  ++j.counts[static_cast<size_t>(final_state)];
  if (verdict) j.verdicts[kWholeJob] = std::move(verdict);
  if (final_state == InstanceState::Failed) failed_.push_back({job, kWholeJob});
}

// -- Resume ------------------------------------------------------------------------------------------------------

Result<void> RunState::RestoreExpansion(uint32_t job, const ir::Value& list, ir::Evaluator& evaluator,
                                        ir::EvalContext& context) {
  if (job >= jobs_.size() || !plan_->jobs[job].domain.dynamic || expanded(job)) {
    return Error{fmt::format("the journal expands job number {}, which the plan does not allow", job)};
  }
  return ExpandWith(job, evaluator, context, &list);
}

Result<void> RunState::Restore(RestoredInstance restored, ir::Evaluator& evaluator, ir::EvalContext& context) {
  const InstanceRef ref = restored.instance;
  if (ref.job >= jobs_.size())
    return Error{fmt::format("the journal names job number {}, the plan has {} jobs", ref.job, jobs_.size())};
  const ir::Job& job = plan_->jobs[ref.job];
  if (job.kind != ir::JobKind::Job) return {};  // checks, finally and hooks run again
  const bool stays = restored.state == InstanceState::Succeeded || restored.state == InstanceState::Failed ||
                     restored.state == InstanceState::Skipped;
  if (ref.ordinal == kWholeJob) {
    if (stays && !expanded(ref.job)) ApplyWhole(ref.job, restored.state, std::move(restored.verdict));
    return {};
  }
  if (!expanded(ref.job)) {
    if (job.domain.dynamic)
      return Error{fmt::format("the journal has instances of `{}` but not its domain", job.address)};
    if (Result<void> done = ExpandWith(ref.job, evaluator, context, nullptr); !done) return done;
  }
  JobState& j = jobs_[ref.job];
  if (ref.ordinal >= j.rows.size()) {
    return Error{
        fmt::format("the journal names instance {} of `{}`, which has {}", ref.ordinal, job.address, j.rows.size())};
  }
  Row& row = j.rows[ref.ordinal];
  if (IsFinal(row.state)) return Error{fmt::format("the journal ends `{}` twice", Address(ref))};
  if (restored.state == InstanceState::Succeeded && restored.outputs.size() != job.outputs.size()) {
    return Error{fmt::format("the journal has {} outputs of `{}`, its job declares {}", restored.outputs.size(),
                             Address(ref), job.outputs.size())};
  }
  row.attempts = restored.attempts;
  if (restored.history) j.histories[ref.ordinal] = std::move(*restored.history);
  if (!stays) return {};
  --j.counts[static_cast<size_t>(row.state)];
  ++j.counts[static_cast<size_t>(restored.state)];
  row.state = restored.state;
  if (restored.verdict && restored.state != InstanceState::Succeeded)
    j.verdicts[ref.ordinal] = std::move(restored.verdict);
  if (restored.state == InstanceState::Failed) failed_.push_back(ref);
  AttemptResult result;
  result.verdict.success = restored.state == InstanceState::Succeeded;
  result.outputs = std::move(restored.outputs);
  result.result = std::move(restored.result);
  result.started_ms = restored.times.started_ms;
  result.ended_ms = restored.times.ended_ms;
  ApplyResult(ref, std::move(result));
  return {};
}

// -- Contexts ----------------------------------------------------------------------------------------------------

namespace {

bool StatusOf(const RunState& state, InstanceRef ref, ir::StatusField field, ir::Value& out, ir::Fault& fault) {
  const InstanceState s = state.state(ref);
  switch (field) {
    case ir::StatusField::Ok: out = ir::Value::Bool(s == InstanceState::Succeeded); return true;
    case ir::StatusField::Done: out = ir::Value::Bool(IsFinal(s)); return true;
    case ir::StatusField::Failed: out = ir::Value::Bool(s == InstanceState::Failed); return true;
    case ir::StatusField::Attempts: out = ir::Value::Int(state.attempts(ref)); return true;
    case ir::StatusField::Duration: {
      InstanceTimes times = state.times(ref);
      out = ir::Value::Duration(times.started_ms > 0 ? std::max<int64_t>(0, times.ended_ms - times.started_ms) : 0);
      return true;
    }
    case ir::StatusField::Result: out = state.result(ref); return true;
    default: break;
  }
  fault.kind = ir::FaultKind::BadArgument;
  fault.message = "a single instance has no `count` and no `ok_ratio`";
  return false;
}

/// The instance with these indices. For a job that ended without instances: kWholeJob.
bool Locate(const RunState& state, uint32_t job, const ir::ListValue& indices, InstanceRef& out, ir::Fault& fault) {
  if (!state.expanded(job)) {
    out = {job, kWholeJob};
    if (IsFinal(state.whole(job))) return true;
    fault.kind = ir::FaultKind::Unavailable;
    fault.message = fmt::format("the instances of `{}` are not known yet", state.plan().jobs[job].address);
    return false;
  }
  if (indices.empty() && state.size(job) == 1) {
    out = {job, 0};
    return true;
  }
  int64_t found = state.instances(job).Find(indices);
  if (found >= 0) {
    out = {job, static_cast<uint32_t>(found)};
    return true;
  }
  std::vector<std::string> keys;
  for (const ir::Value& index : indices) {
    keys.push_back(index.kind() == ir::ValueKind::String ? index.as_string() : fmt::format("{}", index.as_int()));
  }
  fault.kind = ir::FaultKind::BadIndex;
  fault.message = fmt::format("there is no instance `{}`", ir::FormatAddress(state.plan().jobs[job].address, keys));
  return false;
}

InstanceRef RefOf(const ir::Value& instance) {
  return {instance.instance_job(), static_cast<uint32_t>(instance.instance_ordinal())};
}

}  // namespace

bool RunContext::JobOutput(uint32_t job, uint32_t output, const ir::ListValue& indices, ir::Value& out,
                           ir::Fault& fault) {
  InstanceRef ref;
  if (!Locate(state_, job, indices, ref, fault)) return false;
  out = state_.output(ref, output);
  return true;
}

bool RunContext::JobStatus(uint32_t job, ir::StatusField field, const ir::ListValue& indices, ir::Value& out,
                           ir::Fault& fault) {
  InstanceRef ref;
  return Locate(state_, job, indices, ref, fault) && StatusOf(state_, ref, field, out, fault);
}

bool RunContext::ScatterStatus(uint32_t job, ir::StatusField field, ir::Value& out, ir::Fault& fault) {
  const uint64_t count = state_.size(job);
  const uint64_t succeeded = state_.count(job, InstanceState::Succeeded);
  const uint64_t skipped = state_.count(job, InstanceState::Skipped);
  const InstanceState whole = state_.whole(job);
  const bool lost = IsFinal(whole) && whole != InstanceState::Skipped;  // ended without instances
  switch (field) {
    case ir::StatusField::Ok: out = ir::Value::Bool(!lost && succeeded + skipped >= count); return true;
    case ir::StatusField::Done: out = ir::Value::Bool(state_.all_final(job)); return true;
    case ir::StatusField::Failed: out = ir::Value::Bool(state_.count(job, InstanceState::Failed) > 0); return true;
    case ir::StatusField::Count: out = ir::Value::Int(static_cast<int64_t>(count)); return true;
    case ir::StatusField::OkRatio:
      out = ir::Value::Float(lost               ? 0.0
                             : count == skipped ? 1.0
                             : count == 0       ? 1.0
                                          : static_cast<double>(succeeded) / static_cast<double>(count - skipped));
      return true;
    default: break;
  }
  fault.kind = ir::FaultKind::BadArgument;
  fault.message = "this field exists on one instance only";
  return false;
}

bool RunContext::Instances(uint32_t job, const ir::ListValue& indices, ir::Value& out, ir::Fault& fault) {
  ir::ListValue list;
  if (!state_.expanded(job)) {
    if (!IsFinal(state_.whole(job))) {
      fault.kind = ir::FaultKind::Unavailable;
      fault.message = fmt::format("the instances of `{}` are not known yet", state_.plan().jobs[job].address);
      return false;
    }
  } else if (indices.empty()) {
    list.reserve(state_.size(job));
    for (uint32_t i = 0; i < state_.size(job); ++i) list.push_back(ir::Value::Instance(job, i));
  } else {
    for (uint64_t i : state_.instances(job).FindAll(indices)) list.push_back(ir::Value::Instance(job, i));
  }
  out = ir::Value::List(std::move(list));
  return true;
}

bool RunContext::InstanceOutput(const ir::Value& instance, uint32_t output, ir::Value& out, ir::Fault&) {
  out = state_.output(RefOf(instance), output);
  return true;
}

bool RunContext::InstanceStatus(const ir::Value& instance, ir::StatusField field, ir::Value& out, ir::Fault& fault) {
  return StatusOf(state_, RefOf(instance), field, out, fault);
}

bool RunContext::InstanceKey(const ir::Value& instance, ir::Value& out, ir::Fault&) {
  out = ir::Value::String(state_.instances(instance.instance_job()).KeyText(instance.instance_ordinal()));
  return true;
}

bool RunContext::RunField(ir::RunFieldKind kind, ir::Value& out, ir::Fault&) {
  switch (kind) {
    case ir::RunFieldKind::Id: out = ir::Value::String(state_.run_id()); return true;
    case ir::RunFieldKind::Status: out = ir::Value::Enum(static_cast<uint32_t>(state_.status())); return true;
    case ir::RunFieldKind::FailedJobs: {
      ir::ListValue list;
      for (std::string& address : state_.FailedJobs()) list.push_back(ir::Value::String(std::move(address)));
      out = ir::Value::List(std::move(list));
      return true;
    }
  }
  JOBC_UNREACHABLE();
}

bool RunContext::Secret(uint32_t index, ir::Value& out, ir::Fault& fault) {
  return world_ ? world_->Secret(index, out, fault) : EvalContext::Secret(index, out, fault);
}
bool RunContext::FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) {
  return world_ ? world_->FileSize(file, out, fault) : EvalContext::FileSize(file, out, fault);
}
bool RunContext::FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) {
  return world_ ? world_->FileSha256(file, out, fault) : EvalContext::FileSha256(file, out, fault);
}
bool RunContext::FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) {
  return world_ ? world_->FileText(file, out, fault) : EvalContext::FileText(file, out, fault);
}

void InstanceContext::SetInstance(InstanceRef instance) {
  instance_ = instance;
  inputs_.clear();
  resources_ = nullptr;
  attempt_ = 0;
}

bool InstanceContext::Var(uint32_t slot, ir::Value& out, ir::Fault&) {
  out = state_.instances(instance_.job).Var(instance_.ordinal, slot);
  return true;
}

bool InstanceContext::Input(uint32_t index, ir::Value& out, ir::Fault& fault) {
  const std::vector<ir::Input>& declared = state_.plan().jobs[instance_.job].inputs;
  if (index >= inputs_.size() && evaluating_) return EvalContext::Input(index, out, fault);
  while (inputs_.size() <= index) {
    ir::Value value;
    evaluating_ = true;
    bool ok = input_evaluator_.Evaluate(declared[inputs_.size()].value, *this, value);
    evaluating_ = false;
    if (!ok) {
      fault = input_evaluator_.fault();
      fault.message = fmt::format("input `{}`: {}", declared[inputs_.size()].name, fault.message);
      return false;
    }
    inputs_.push_back(std::move(value));
  }
  out = inputs_[index];
  return true;
}

bool InstanceContext::Resource(ir::ResourceKind kind, ir::Value& out, ir::Fault& fault) {
  if (!resources_) return EvalContext::Resource(kind, out, fault);
  out = ResourceValue(*resources_, kind);
  return true;
}

bool InstanceContext::Attempt(ir::Value& out, ir::Fault& fault) {
  if (attempt_ == 0) return EvalContext::Attempt(out, fault);
  out = ir::Value::Int(attempt_);
  return true;
}

}  // namespace jobc
