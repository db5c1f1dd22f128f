#include "runtime/metrics.h"

#include <algorithm>
#include <numeric>

#include "runtime/process/os.h"

namespace jobc {

void AttemptTally::Add(const AttemptTally& other) {
  running += other.running;
  completed += other.completed;
  for (size_t i = 0; i < failed.size(); ++i) {
    failed[i] += other.failed[i];
  }
  cancelled += other.cancelled;
  lost += other.lost;
}

AttemptTally TallyOf(const AttemptView& attempt, bool run_is_live) {
  AttemptTally out;
  if (!attempt.verdict) {
    ++(run_is_live ? out.running : out.lost);
  } else if (attempt.verdict->success) {
    out.completed = 1;
  } else if (attempt.verdict->error_class == ir::ErrorClass::None) {
    out.cancelled = 1;
  } else {
    out.failed[static_cast<size_t>(attempt.verdict->error_class)] = 1;
  }
  return out;
}

int64_t TimeBlocks::Index(int64_t time_ms) const {
  const int64_t since = time_ms - origin_ms;
  return since >= 0 ? since / block_ms : -((-since + block_ms - 1) / block_ms);
}

int64_t TimeBlocks::First(int64_t when_ms) const {
  // The first block whose end is not below `when - period`; nothing was laid earlier than a period before the origin.
  const int64_t by_rule = Index(when_ms - period_ms - 1);
  const int64_t laid = -((period_ms + block_ms - 1) / block_ms);
  return std::max(by_rule, laid);
}

void Durations::Sort() { std::sort(values_.begin(), values_.end()); }

int64_t Durations::sum() const { return std::accumulate(values_.begin(), values_.end(), int64_t{0}); }

int64_t Durations::Percentile(int percent) const {
  if (values_.empty()) {
    return 0;
  }
  const size_t rank = (values_.size() * static_cast<size_t>(percent) + 99) / 100;
  return values_[std::clamp<size_t>(rank, 1, values_.size()) - 1];
}

uint64_t Durations::AtMost(int64_t ms) const {
  return static_cast<uint64_t>(std::upper_bound(values_.begin(), values_.end(), ms) - values_.begin());
}

std::optional<int64_t> WaitOf(const AttemptView& attempt) {
  const int64_t since = attempt.ready_ms != 0 ? attempt.ready_ms : attempt.intent_ms;
  if (attempt.started_ms == 0 || since == 0) {
    return std::nullopt;
  }
  return std::max<int64_t>(0, attempt.started_ms - since);
}

std::optional<int64_t> RunTimeOf(const AttemptView& attempt) {
  const int64_t end = EndOfProgram(attempt);
  if (attempt.started_ms == 0 || end == 0) {
    return std::nullopt;
  }
  return std::max<int64_t>(0, end - attempt.started_ms);
}

RunMetrics CollectMetrics(const RunReader& run, const MetricsOptions& options) {
  RunMetrics out;
  out.when_ms = options.when_ms != 0 ? options.when_ms : process::WallMillis();
  out.time = {run.header().created_ms, options.period_ms, options.block_ms};
  out.live = run.summary().running;
  out.late_answers = run.late_answers();
  out.jobs.resize(run.plan().jobs.size());
  const int64_t first = out.time.First(out.when_ms);
  for (int64_t index = first; index <= out.time.Last(out.when_ms); ++index) {
    out.blocks.push_back({out.time.Start(index), out.time.End(index), {}});
  }
  std::array<std::optional<NodeMetrics>, ir::kBackendKinds> nodes;
  for (const ir::Job& job : run.plan().jobs) {
    // Hooks run beside jobc, checks nowhere.
    if (job.kind == ir::JobKind::Check) {
      continue;
    }
    const ir::BackendKind kind = job.kind == ir::JobKind::Hook ? ir::BackendKind::Process : job.backend.kind;
    auto& node = nodes[static_cast<size_t>(kind)];
    if (!node) {
      node.emplace();
      node->backend = kind;
      node->name = kind == ir::BackendKind::Process && !run.host().empty() ? run.host() : std::string(ir::BackendName(kind));
    }
  }
  run.ForEachInstance([&](InstanceRef instance, const std::vector<AttemptView>& attempts) {
    const ir::Job& job = run.plan().jobs[instance.job];
    JobMetrics& of_job = out.jobs[instance.job];
    auto& node = nodes[static_cast<size_t>(job.kind == ir::JobKind::Hook ? ir::BackendKind::Process : job.backend.kind)];
    for (size_t i = 0; i < attempts.size(); ++i) {
      const AttemptView& attempt = attempts[i];
      const AttemptTally one = TallyOf(attempt, out.live);
      of_job.attempts.Add(one);
      const bool retry = i > 0;
      of_job.retries += retry ? 1 : 0;
      bool recent = one.running > 0;
      if (one.finished() > 0 && out.time.Keeps(attempt.judged_ms, out.when_ms)) {
        const int64_t index = out.time.Index(attempt.judged_ms) - first;
        if (index < static_cast<int64_t>(out.blocks.size())) {  // the clock was set back since: not yet
          recent = true;
          out.blocks[static_cast<size_t>(index)].ended.Add(one);
        }
      }
      if (recent) {
        out.recent.Add(one);
      }
      if (node) {
        node->attempts.Add(one);
        if (recent) {
          node->recent[instance.job].Add(one);
        }
        if (retry && attempt.intent_ms != 0 && out.time.Keeps(attempt.intent_ms, out.when_ms)) {
          ++node->recent_retries[instance.job];
        }
      }
      if (auto wait = WaitOf(attempt)) {
        of_job.waits.Add(*wait);
      }
      if (auto time = RunTimeOf(attempt)) {
        of_job.runs.Add(*time);
      }
      of_job.cpu_ms += std::max<int64_t>(0, attempt.cpu_ms);
      of_job.max_memory = std::max(of_job.max_memory, attempt.max_memory);
    }
  });
  for (JobMetrics& job : out.jobs) {
    out.attempts.Add(job.attempts);
    out.retries += job.retries;
    out.waits.Add(job.waits);
    out.runs.Add(job.runs);
    job.waits.Sort();
    job.runs.Sort();
  }
  out.waits.Sort();
  out.runs.Sort();
  for (auto& node : nodes) {
    if (node) {
      out.nodes.push_back(*std::move(node));
    }
  }
  return out;
}

}  // namespace jobc
