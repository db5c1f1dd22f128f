#include "runtime/restored_run.h"

#include "ir/json.h"
#include "runtime/results.h"

namespace jobc {

Result<std::unique_ptr<RestoredRun>> RestoredRun::Of(RunReader& reader) {
  const ir::Plan& plan = reader.plan();
  auto out = std::make_unique<RestoredRun>();
  out->world = std::make_unique<World>(plan, Roots{reader.header().root, reader.header().cwd}, std::vector<std::string>(plan.program.secrets.size()));
  out->state = std::make_unique<RunState>(plan, reader.header().id);
  ir::Evaluator evaluator(plan.program);
  RunContext context(*out->state, out->world.get());
  for (uint32_t job = 0; job < plan.jobs.size(); ++job) {
    if (reader.domain(job)) {
      if (auto done = out->state->RestoreExpansion(job, *reader.domain(job), evaluator, context); !done) return done.error();
    } else if (!plan.jobs[job].domain.dynamic) {
      if (auto done = out->state->Expand(job, evaluator, context); !done) continue;  // it failed in the run, too
    }
    if (plan.jobs[job].kind != ir::JobKind::Job) continue;
    for (uint32_t ordinal = 0; ordinal < reader.size(job); ++ordinal) {
      const InstanceView view = reader.View({job, ordinal});
      RestoredInstance one;
      one.instance = {job, ordinal};
      one.state = view.state;
      if (view.reused) {
        one.attempts = view.reused->attempts;
        one.times = {view.reused->started_ms, view.reused->ended_ms};
      } else if (!view.attempts.empty()) {
        const AttemptView& last = view.attempts.back();
        one.attempts = last.number;
        one.times = {last.started_ms, last.exited_ms != 0 ? last.exited_ms : last.judged_ms};
      }
      if (view.state == InstanceState::Failed && view.verdict) one.verdict = std::make_shared<const Verdict>(*view.verdict);
      if (view.state == InstanceState::Succeeded) {
        one.outputs.resize(plan.jobs[job].outputs.size());
        auto stored = reader.Outputs(one.instance);
        if (!stored) return stored.error();
        if (*stored) {
          auto outputs = DecodeOutputs(plan, job, (*stored)->outputs, reader.run_dir(), evaluator, context);
          if (!outputs) return outputs.error();
          one.outputs = *std::move(outputs);
          if (!(*stored)->result.empty()) {
            if (auto json = ir::ParseJson((*stored)->result)) one.result = *std::move(json);
          }
        }
      }
      if (auto done = out->state->Restore(std::move(one), evaluator, context); !done) return done.error();
    }
    if (reader.size(job) == 0 && IsFinal(reader.whole(job))) {
      RestoredInstance one;
      one.instance = {job, kWholeJob};
      one.state = reader.whole(job);
      if (auto done = out->state->Restore(std::move(one), evaluator, context); !done) return done.error();
    }
  }
  return out;
}

}  // namespace jobc
