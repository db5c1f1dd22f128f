#include "compiler/driver/status_formats.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "ir/json.h"

namespace jobc {
namespace {

constexpr std::array kClasses = {ir::ErrorClass::System, ir::ErrorClass::Algorithm, ir::ErrorClass::Data};

uint64_t FailedOf(const AttemptTally& tally, ir::ErrorClass which) { return tally.failed[static_cast<size_t>(which)]; }

/// Joins what each() gives with commas.
template <typename List, typename Each>
std::string Joined(const List& list, Each each) {
  std::string out;
  for (const auto& one : list) {
    if (!out.empty()) out += ",";
    out += each(one);
  }
  return out;
}

std::string EndedFields(const AttemptTally& tally) {
  return fmt::format("\"cancelled\":{},\"completed\":{},\"failed\":{{\"total\":{},{}}}", tally.cancelled, tally.completed, tally.all_failed(),
                     Joined(kClasses, [&](ir::ErrorClass c) { return fmt::format("\"{}\":{}", ir::ClassName(c), FailedOf(tally, c)); }));
}

std::string TallyJson(const AttemptTally& tally) {
  return fmt::format("{{{},\"lost\":{},\"running\":{},\"total\":{}}}", EndedFields(tally), tally.lost, tally.running, tally.total());
}

std::string DurationsJson(const Durations& values) {
  std::string out = fmt::format("{{\"count\":{}", values.count());
  if (values.count() > 0) {
    out += fmt::format(",\"max\":{},\"mean\":{}", values.max(), values.sum() / static_cast<int64_t>(values.count()));
    for (int percent : {50, 90, 95, 99}) out += fmt::format(",\"p{}\":{}", percent, values.Percentile(percent));
  }
  return out + "}";
}

std::string JobFields(const JobMetrics& job) {
  std::string out = fmt::format("\"attempts\":{},\"cpu_ms\":{},\"duration_ms\":{}", TallyJson(job.attempts), job.cpu_ms, DurationsJson(job.runs));
  if (job.max_memory >= 0) out += fmt::format(",\"max_memory\":{}", job.max_memory);
  return out + fmt::format(",\"queue_wait_ms\":{},\"retries\":{}", DurationsJson(job.waits), job.retries);
}

}  // namespace

std::string MetricsJson(const RunReader& run, const RunMetrics& metrics) {
  std::string out = fmt::format("{{\"attempts\":{},\"duration_ms\":{},\"late_answers\":{},\"queue_wait_ms\":{},\"retries\":{}", TallyJson(metrics.attempts), DurationsJson(metrics.runs),
                                metrics.late_answers, DurationsJson(metrics.waits), metrics.retries);
  out += ",\"jobs\":[";
  for (size_t job = 0; job < metrics.jobs.size(); ++job) {
    out += fmt::format("{}{{\"job\":{},{}}}", job == 0 ? "" : ",", ir::JsonQuote(run.plan().jobs[job].address), JobFields(metrics.jobs[job]));
  }
  out += "],\"nodes\":[" + Joined(metrics.nodes, [](const NodeMetrics& node) {
    return fmt::format("{{\"attempts\":{},\"backend\":\"{}\",\"node\":{}}}", TallyJson(node.attempts), ir::BackendName(node.backend), ir::JsonQuote(node.name));
  });
  out += fmt::format("],\"recent\":{{\"block_ms\":{},\"blocks\":[", metrics.time.block_ms);
  out += Joined(metrics.blocks, [](const BlockMetrics& block) {
    return fmt::format("{{{},\"end_ms\":{},\"start_ms\":{}}}", EndedFields(block.ended), block.end_ms, block.start_ms);
  });
  out += fmt::format("],\"nodes\":[{}]", Joined(metrics.nodes, [](const NodeMetrics& node) {
    AttemptTally sum;
    for (const auto& [job, tally] : node.recent) sum.Add(tally);
    return fmt::format("{{\"attempts\":{},\"backend\":\"{}\",\"node\":{}}}", TallyJson(sum), ir::BackendName(node.backend), ir::JsonQuote(node.name));
  }));
  out += fmt::format(",\"attempts\":{},\"period_ms\":{},\"when_ms\":{}}}", TallyJson(metrics.recent), metrics.time.period_ms, metrics.when_ms);
  return out + "}";
}

// --- Prometheus ------------------------------------------------------------------------------------------------------

namespace {

/// Upper bounds of histogram buckets, in milliseconds: what people ask about, from a blink to a day.
constexpr std::array<int64_t, 15> kBuckets = {10, 50, 100, 500, 1'000, 5'000, 10'000, 30'000, 60'000, 300'000, 900'000, 3'600'000, 14'400'000, 43'200'000, 86'400'000};

/// A label's value: backslash, quote and line break are escaped.
std::string Label(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string Seconds(int64_t ms) {
  std::string out = fmt::format("{}.{:03}", ms / 1000, ms % 1000);
  while (out.back() == '0') out.pop_back();
  if (out.back() == '.') out.pop_back();
  return out;
}

class PrometheusWriter {
 public:
  explicit PrometheusWriter(const std::string& run) : run_("run=" + Label(run)) {}

  void Family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    out_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  /// `labels` as `,name="value"…`
  void Sample(std::string_view labels, std::string_view value, std::string_view suffix = "") { out_ += fmt::format("{}{}{{{}{}}} {}\n", name_, suffix, run_, labels, value); }
  void Sample(std::string_view labels, uint64_t value) { Sample(labels, std::to_string(value)); }
  void Histogram(const std::string& labels, const Durations& values) {
    for (int64_t bound : kBuckets) Sample(labels + ",le=\"" + Seconds(bound) + "\"", std::to_string(values.AtMost(bound)), "_bucket");
    Sample(labels + ",le=\"+Inf\"", std::to_string(values.count()), "_bucket");
    Sample(labels, Seconds(values.sum()), "_sum");
    Sample(labels, std::to_string(values.count()), "_count");
  }
  std::string Take() && { return std::move(out_); }

 private:
  std::string run_, name_, out_;
};

}  // namespace

std::string PrometheusText(const RunReader& run, const RunMetrics& metrics) {
  const RunSummary& summary = run.summary();
  PrometheusWriter writer(summary.id);
  writer.Family("jobc_run_info", "gauge", "The run; its value is always 1.");
  writer.Sample(fmt::format(",name={},profile={},source={},status={}", Label(summary.name), Label(summary.profile), Label(summary.source), Label(summary.status)), 1);
  writer.Family("jobc_run_start_time_seconds", "gauge", "When the run was created, in seconds since 1970.");
  writer.Sample("", Seconds(summary.created_ms));
  if (summary.finished) {
    writer.Family("jobc_run_end_time_seconds", "gauge", "When the run ended, in seconds since 1970.");
    writer.Sample("", Seconds(summary.ended_ms));
    writer.Family("jobc_run_exit_code", "gauge", "Exit code of the run.");
    writer.Sample("", std::to_string(summary.exit_code));
  }
  writer.Family("jobc_run_live", "gauge", "1 while a process executes the run.");
  writer.Sample("", metrics.live ? 1 : 0);

  auto job_label = [&](size_t job) { return ",job=" + Label(run.plan().jobs[job].address); };
  writer.Family("jobc_instances", "gauge", "Instances of a declared job, by state.");
  for (uint32_t job = 0; job < metrics.jobs.size(); ++job) {
    auto counts = run.Counts(job);
    const uint64_t lost = run.LostCount(job);
    counts[static_cast<size_t>(InstanceState::Running)] -= lost;
    for (int state = 0; state < kInstanceStates; ++state) {
      writer.Sample(fmt::format("{},state=\"{}\"", job_label(job), StateName(static_cast<InstanceState>(state))), counts[static_cast<size_t>(state)]);
    }
    writer.Sample(fmt::format("{},state=\"{}\"", job_label(job), kLostState), lost);
  }
  // Checks have instances, but no attempts.
  std::vector<size_t> jobs;
  for (size_t job = 0; job < metrics.jobs.size(); ++job) {
    if (run.plan().jobs[job].kind != ir::JobKind::Check) jobs.push_back(job);
  }
  auto each = [&](std::string_view name, std::string_view type, std::string_view help, auto&& sample) {
    writer.Family(name, type, help);
    for (size_t job : jobs) sample(job_label(job), metrics.jobs[job]);
  };
  auto node_label = [&](size_t job) {
    const ir::Job& declared = run.plan().jobs[job];
    return fmt::format(",node=\"{}\"", ir::BackendName(declared.kind == ir::JobKind::Hook ? ir::BackendKind::Process : declared.backend.kind));
  };
  writer.Family("jobc_attempts_running", "gauge", "Attempts that were started and have no verdict yet.");
  for (size_t job : jobs) writer.Sample(job_label(job) + node_label(job), metrics.jobs[job].attempts.running);
  writer.Family("jobc_attempts_ended_total", "counter", "Attempts that have a verdict, by outcome and by class of error.");
  for (size_t job : jobs) {
    const AttemptTally& tally = metrics.jobs[job].attempts;
    const std::string labels = job_label(job) + node_label(job);
    writer.Sample(labels + ",outcome=\"succeeded\",class=\"\"", tally.completed);
    for (ir::ErrorClass c : kClasses) writer.Sample(fmt::format("{},outcome=\"failed\",class=\"{}\"", labels, ir::ClassName(c)), FailedOf(tally, c));
    writer.Sample(labels + ",outcome=\"cancelled\",class=\"\"", tally.cancelled);
  }
  each("jobc_retries_total", "counter", "Attempts that followed a failed one.", [&](const std::string& labels, const JobMetrics& job) { writer.Sample(labels, job.retries); });
  writer.Family("jobc_late_answers_total", "counter", "Answers of backends that came late, were stale or came twice, and were ignored.");
  writer.Sample("", metrics.late_answers);
  each("jobc_queue_wait_seconds", "histogram", "From the moment an attempt could have started until its program did.", [&](const std::string& labels, const JobMetrics& job) { writer.Histogram(labels, job.waits); });
  each("jobc_attempt_duration_seconds", "histogram", "From the start of a program to its end.", [&](const std::string& labels, const JobMetrics& job) { writer.Histogram(labels, job.runs); });
  each("jobc_cpu_seconds_total", "counter", "Processor time of ended attempts, as far as it is known.", [&](const std::string& labels, const JobMetrics& job) { writer.Sample(labels, Seconds(job.cpu_ms)); });
  writer.Family("jobc_max_memory_bytes", "gauge", "Peak memory of the largest attempt, where it is known.");
  for (size_t job : jobs) {
    if (metrics.jobs[job].max_memory >= 0) writer.Sample(job_label(job), static_cast<uint64_t>(metrics.jobs[job].max_memory));
  }
  return std::move(writer).Take();
}

// --- NGA Scale -------------------------------------------------------------------------------------------------------

std::string ScaleTime(int64_t wall_ms) {
  const time_t seconds = static_cast<time_t>(wall_ms / 1000);
  tm parts{};
  gmtime_r(&seconds, &parts);
  std::string out = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
  if (wall_ms % 1000 != 0) out += fmt::format(".{:06}", wall_ms % 1000 * 1000);
  return out + "Z";
}

namespace {

struct ScaleTask {
  int64_t launched_ms = 0;  ///< 0: not launched
  int64_t started_ms = 0;   ///< 0: not started
  int64_t ended_ms = 0;     ///< 0: not ended
  bool timed_out = false;
  std::string_view status;  ///< FINISHED, FAILED or KILLED, once it has ended
  std::optional<int> exit_code;
};

std::string TaskJson(const std::string& cluster_id, std::string_view type, const ScaleTask& task) {
  std::string out = fmt::format("{{\"task_id\":{},\"type\":\"{}\",\"was_launched\":{}", ir::JsonQuote(fmt::format("{}_{}", cluster_id, type)), type, task.launched_ms != 0);
  if (task.launched_ms != 0) {
    out += fmt::format(",\"launched\":\"{}\",\"was_started\":{}", ScaleTime(task.launched_ms), task.started_ms != 0);
    if (task.started_ms != 0) out += fmt::format(",\"started\":\"{}\"", ScaleTime(task.started_ms));
    // Scale tells the end of a task also where it never started.
    if (task.ended_ms != 0) {
      if (task.started_ms != 0) out += fmt::format(",\"was_timed_out\":{}", task.timed_out);
      out += fmt::format(",\"ended\":\"{}\",\"status\":\"{}\"", ScaleTime(task.ended_ms), task.status);
      if (task.exit_code) out += fmt::format(",\"exit_code\":{}", *task.exit_code);
    }
  }
  return out + "}";
}

}  // namespace

std::string ScaleTaskResults(const AttemptView& attempt, const std::string& cluster_id) {
  ScaleTask pre, main, post;
  const Verdict* verdict = attempt.verdict ? &*attempt.verdict : nullptr;
  using Kind = ir::ErrorKind;
  const bool failed = verdict != nullptr && !verdict->success;
  const bool killed = failed && (verdict->kind == Kind::Cancelled || verdict->kind == Kind::Timeout || verdict->kind == Kind::IdleTimeout || verdict->kind == Kind::QueueTimeout);
  // pre: directories and inputs, from the hand-over until the program starts.
  pre.launched_ms = pre.started_ms = attempt.intent_ms;
  if (attempt.started_ms != 0) {
    pre.ended_ms = attempt.started_ms;
    pre.status = "FINISHED";
    pre.exit_code = 0;
    main.launched_ms = main.started_ms = attempt.started_ms;
  } else if (verdict != nullptr) {
    pre.ended_ms = attempt.judged_ms;
    pre.status = killed ? "KILLED" : "FAILED";
    pre.timed_out = failed && verdict->kind == Kind::QueueTimeout;
  }
  const bool post_failed = failed && (verdict->kind == Kind::OutputMissing || verdict->kind == Kind::Schema);
  if (main.started_ms != 0 && (attempt.exited_ms != 0 || verdict != nullptr)) {
    main.ended_ms = attempt.exited_ms != 0 ? attempt.exited_ms : attempt.judged_ms;
    main.status = killed ? "KILLED" : failed && !post_failed ? "FAILED" : "FINISHED";
    main.timed_out = failed && (verdict->kind == Kind::Timeout || verdict->kind == Kind::IdleTimeout);
    if (verdict != nullptr && verdict->exit_code) {
      main.exit_code = verdict->exit_code;
    } else if (verdict != nullptr && verdict->signal) {
      main.exit_code = 128 + *verdict->signal;
    } else if (main.status == "FINISHED") {
      main.exit_code = 0;
    }
  }
  // post: outputs are looked at and decoded, from the program's end until the verdict.
  if (main.ended_ms != 0 && verdict != nullptr && (verdict->success || post_failed)) {
    post.launched_ms = post.started_ms = main.ended_ms;
    post.ended_ms = std::max(attempt.judged_ms, main.ended_ms);
    post.status = verdict->success ? "FINISHED" : "FAILED";
    if (verdict->success) post.exit_code = 0;
  }
  return fmt::format("{{\"version\":\"1.0\",\"tasks\":[{},{},{}]}}", TaskJson(cluster_id, "pre", pre), TaskJson(cluster_id, "main", main), TaskJson(cluster_id, "post", post));
}

namespace {

std::string ByType(const std::map<uint32_t, AttemptTally>& jobs, const std::function<uint64_t(const AttemptTally&)>& count) {
  uint64_t total = 0;
  std::string rows;
  for (const auto& [job, tally] : jobs) {
    const uint64_t one = count(tally);
    total += one;
    if (one != 0) rows += fmt::format("{}{{\"job_type_id\":{},\"count\":{}}}", rows.empty() ? "" : ",", job + 1, one);
  }
  return fmt::format("{{\"total\":{},\"by_job_type\":[{}]}}", total, rows);
}

std::string ScaleExecutions(const NodeMetrics& node) {
  uint64_t failed = 0;
  for (const auto& [job, tally] : node.recent) failed += tally.all_failed();
  auto of_class = [&](ir::ErrorClass c) { return ByType(node.recent, [c](const AttemptTally& tally) { return FailedOf(tally, c); }); };
  return fmt::format("{{\"running\":{},\"completed\":{},\"failed\":{{\"total\":{},\"algorithm\":{},\"data\":{},\"system\":{}}}}}",
                     ByType(node.recent, [](const AttemptTally& tally) { return tally.running; }), ByType(node.recent, [](const AttemptTally& tally) { return tally.completed; }), failed,
                     of_class(ir::ErrorClass::Algorithm), of_class(ir::ErrorClass::Data), of_class(ir::ErrorClass::System));
}

std::string_view ScaleStatus(const AttemptView& attempt) {
  if (!attempt.verdict) return "RUNNING";
  if (attempt.verdict->success) return "COMPLETED";
  return attempt.verdict->error_class == ir::ErrorClass::None ? "CANCELED" : "FAILED";
}

std::string ScaleCategory(ir::ErrorClass c) {
  std::string out(ir::ClassName(c));
  std::transform(out.begin(), out.end(), out.begin(), [](char ch) { return ch >= 'a' && ch <= 'z' ? static_cast<char>(ch - 'a' + 'A') : ch; });
  return out;
}

std::string TimeOrNull(int64_t ms) { return ms == 0 ? std::string("null") : "\"" + ScaleTime(ms) + "\""; }

}  // namespace

void WriteScaleStatus(const RunReader& run, const RunMetrics& metrics, bool all, const std::function<void(std::string_view)>& write) {
  const ir::Plan& plan = run.plan();
  const RunSummary& summary = run.summary();
  auto node_id = [&](uint32_t job) {
    const ir::BackendKind kind = plan.jobs[job].kind == ir::JobKind::Hook ? ir::BackendKind::Process : plan.jobs[job].backend.kind;
    const auto found = std::find_if(metrics.nodes.begin(), metrics.nodes.end(), [&](const NodeMetrics& node) { return node.backend == kind; });
    return found - metrics.nodes.begin() + 1;
  };
  write(fmt::format("{{\"timestamp\":\"{}\",\"scheduler\":{{\"hostname\":{},\"state\":{{\"name\":{},\"title\":{},\"description\":{}}},\"warnings\":[]}}", ScaleTime(metrics.when_ms), ir::JsonQuote(run.host()),
                    metrics.live ? "\"READY\"" : "\"STOPPED\"", metrics.live ? "\"Running\"" : "\"Ended\"", ir::JsonQuote(fmt::format("run {}: {}", summary.id, summary.status))));
  write(",\"job_types\":[");
  for (size_t job = 0; job < plan.jobs.size(); ++job) {
    write(fmt::format("{}{{\"id\":{},\"name\":{},\"version\":\"1.0\",\"title\":{},\"description\":{},\"is_system\":{},\"icon_code\":null}}", job == 0 ? "" : ",", job + 1, ir::JsonQuote(plan.jobs[job].address),
                      ir::JsonQuote(plan.jobs[job].address), ir::JsonQuote(plan.jobs[job].doc), plan.jobs[job].kind != ir::JobKind::Job));
  }
  write("],\"nodes\":[");
  for (size_t i = 0; i < metrics.nodes.size(); ++i) {
    const NodeMetrics& node = metrics.nodes[i];
    const std::string_view name = ir::BackendName(node.backend);
    std::string retried;
    uint64_t retries = 0;
    for (const auto& [job, count] : node.recent_retries) {
      retries += count;
      retried += fmt::format("{}{{\"job_type_id\":{},\"count\":{}}}", retried.empty() ? "" : ",", job + 1, count);
    }
    // Scale counts cancelled executions nowhere: they and the retries stand beside its own keys, which stay as they are.
    write(fmt::format("{}{{\"id\":{},\"hostname\":{},\"agent_id\":\"{}\",\"is_active\":{},\"state\":{{\"name\":\"READY\",\"title\":\"Ready\",\"description\":\"\"}},\"errors\":[],\"warnings\":[],\"node_tasks\":[],\"system_tasks\":[],"
                      "\"num_offers\":0,\"job_executions\":{},\"canceled\":{},\"retried\":{{\"total\":{},\"by_job_type\":[{}]}}}}",
                      i == 0 ? "" : ",", i + 1, ir::JsonQuote(node.name), name, metrics.live, ScaleExecutions(node),
                      ByType(node.recent, [](const AttemptTally& tally) { return tally.cancelled; }), retries, retried));
  }
  write("],\"job_exes\":[");
  bool first = true;
  run.ForEachInstance([&](InstanceRef instance, const std::vector<AttemptView>& attempts) {
    if (attempts.empty()) return;
    // Scale's number of a job: here that of the instance's first attempt, which no other instance has.
    const AttemptId job = attempts.front().id;
    for (size_t i = 0; i < attempts.size(); ++i) {
      const AttemptView& attempt = attempts[i];
      if (!attempt.verdict && !metrics.live) continue;
      if (!all && attempt.verdict && !metrics.time.Keeps(attempt.judged_ms, metrics.when_ms)) continue;
      const std::string cluster_id = fmt::format("scale_job_{}_{}x{}", summary.id, job, i + 1);
      std::string error = "null";
      if (attempt.verdict && !attempt.verdict->success && attempt.verdict->error_class != ir::ErrorClass::None) {
        const Verdict& verdict = *attempt.verdict;
        error = fmt::format("{{\"name\":{},\"title\":{},\"description\":{},\"category\":\"{}\"}}", ir::JsonQuote(ErrorName(verdict)), ir::JsonQuote(verdict.title.empty() ? ErrorName(verdict) : verdict.title),
                            ir::JsonQuote(verdict.message), ScaleCategory(verdict.error_class));
      }
      const int64_t seed_ended = attempt.started_ms == 0 ? 0 : EndOfProgram(attempt);
      write(fmt::format("{}{{\"job_exe\":{},\"cluster_id\":\"{}\",\"job\":{},\"job_key\":{},\"job_type\":{},\"exe_num\":{},\"status\":\"{}\",\"error\":{},\"node\":{},\"queued\":{},\"started\":{},\"seed_started\":{},"
                        "\"seed_ended\":{},\"ended\":{},\"task_results\":{}}}",
                        first ? "" : ",", attempt.id, cluster_id, job, ir::JsonQuote(run.Address(instance)), instance.job + 1, i + 1, ScaleStatus(attempt), error, node_id(instance.job),
                        TimeOrNull(attempt.ready_ms), TimeOrNull(attempt.intent_ms), TimeOrNull(attempt.started_ms), TimeOrNull(seed_ended), TimeOrNull(attempt.judged_ms), ScaleTaskResults(attempt, cluster_id)));
      first = false;
    }
  });
  write("]}\n");
}

}  // namespace jobc
