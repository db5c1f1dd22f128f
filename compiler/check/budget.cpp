#include "compiler/check/budget.h"

#include <fmt/format.h>

namespace jobc::check {

uint32_t LargestPart(const bounds::PlanBounds& b, bool instances) {
  uint32_t largest = 0;
  const auto size = [&](uint32_t j) { return instances ? static_cast<int64_t>(b.jobs[j].instances) : b.jobs[j].attempts; };
  for (uint32_t j = 1; j < b.jobs.size(); ++j) {
    if (size(j) > size(largest)) largest = j;
  }
  return largest;
}

void ReportBudget(const ir::Plan& plan, const bounds::PlanBounds& b, const BudgetPlaces& places, Diagnostics& diags, const std::string& why) {
  const auto finish = [&](Diagnostic& d, bool instances) {
    const uint32_t largest = LargestPart(b, instances);
    const bounds::JobBounds& job = b.jobs[largest];
    d.Secondary(places.jobs[largest], instances ? fmt::format("{} instances", job.instances) : fmt::format("up to {} attempts of {} instances", job.attempts, job.instances));
    if (!places.under.empty()) d.Note(places.under);
    if (!why.empty()) d.Note(why);
  };
  if (plan.limits.instances && b.instances > static_cast<uint64_t>(*plan.limits.instances)) {
    auto& d = diags.Emit(places.limits, diag::TooManyInstances, std::to_string(b.instances), std::to_string(*plan.limits.instances)).Label("exceeded");
    finish(d, true);
    d.AddHelp(fmt::format("allow them:  instances = {}", b.instances));
  }
  if (plan.limits.attempts && b.attempts > *plan.limits.attempts) {
    auto& d = diags.Emit(places.limits, diag::TooManyAttempts, std::to_string(b.attempts), std::to_string(*plan.limits.attempts)).Label("exceeded if everything fails that may");
    finish(d, false);
    d.AddHelp(fmt::format("allow them:  attempts = {}, or lower `max_attempts`", b.attempts));
  }
}

void ReportUnbounded(const ir::Plan& plan, const bounds::PlanBounds& b, const BudgetPlaces& places, bool asked, Diagnostics& diags) {
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    if (b.jobs[j].time_ms || b.jobs[j].missing.empty()) continue;
    if (plan.jobs[j].kind == ir::JobKind::Check || (!asked && plan.jobs[j].kind != ir::JobKind::Job)) continue;
    auto& d = diags.Emit(places.jobs[j], diag::NoTimeBound, plan.jobs[j].address, b.jobs[j].unbounded).Label("may take any time");
    if (plan.limits.time_ms) d.Secondary(places.limits, "so this cannot be compared with the worst case");
    if (!places.under.empty()) d.Note(places.under);
    d.AddHelp("add for example:  " + b.jobs[j].missing);
  }
}

}  // namespace jobc::check
