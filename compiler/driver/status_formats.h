// The numbers of a run (runtime/metrics.h) as `jobc status` prints them: the `metrics` of jobc.status/1, the text exposition
// format of Prometheus, and the documents of NGA Scale. Pure functions from values to text. docs/status.md describes them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "runtime/metrics.h"
#include "runtime/run_reader.h"

namespace jobc {

/// A JSON object.
std::string MetricsJson(const RunReader& run, const RunMetrics& metrics);

/// Version 0.0.4 of the text format. Every series carries the run's id; counters of one run never fall, over a resume neither.
std::string PrometheusText(const RunReader& run, const RunMetrics& metrics);

/// Scale's status document, with the task results of the run's executions (one for each attempt) under `job_exes`: those that
/// run or ended within the kept blocks, or all of them. Given to `write` in pieces.
void WriteScaleStatus(const RunReader& run, const RunMetrics& metrics, bool all, const std::function<void(std::string_view)>& write);

/// Scale's form of a time: `2026-01-01T00:00:22Z`, with microseconds only where there are any.
std::string ScaleTime(int64_t wall_ms);

/// `pre`, `main` and `post` of one attempt as Scale's TaskResults 1.0. `cluster_id` without the task's type.
std::string ScaleTaskResults(const AttemptView& attempt, const std::string& cluster_id);

}  // namespace jobc
