#include "compiler/driver/run_report.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

#include "compiler/bounds/bounds.h"
#include "compiler/driver/runs.h"
#include "compiler/driver/version.h"
#include "ir/json.h"
#include "runtime/events.h"
#include "runtime/metrics.h"
#include "runtime/process/os.h"
#include "runtime/replay.h"
#include "runtime/status_printer.h"
#include "support/sha256.h"
#include "support/text_width.h"

// run_report/, embedded.
extern const char kReportStyle[];
extern const unsigned long kReportStyleSize;
extern const char kReportScript[];
extern const unsigned long kReportScriptSize;

namespace jobc {
namespace {

std::string_view KindWord(ir::JobKind kind) {
  switch (kind) {
    case ir::JobKind::Job: return "job";
    case ir::JobKind::Check: return "check";
    case ir::JobKind::Finally: return "finally";
    case ir::JobKind::Hook: return "hook";
  }
  return "job";
}

bool Tolerated(const ir::Job& job) {
  return job.kind == ir::JobKind::Hook || (job.on_error == ir::Strategy::Ignore && job.kind == ir::JobKind::Job);
}

/// The words of the page for a state: people need to see at once which failures matter.
std::string_view StateWord(const RunReader& run, uint32_t job, InstanceState state) {
  const bool live = run.summary().running;
  switch (state) {
    case InstanceState::Failed: return Tolerated(run.plan().jobs[job]) ? "ignored" : "failed";
    case InstanceState::Running: return live ? "running" : kLostState;
    case InstanceState::Backoff: return live ? "running" : "waiting";
    case InstanceState::Ready: return "waiting";
    default: return StateName(state);
  }
}

// In the order in which bars show them; the same as in page.js.
constexpr std::array<std::string_view, 9> kStates = {"failed", "ignored", "cancelled", "blocked", "running", "succeeded", "skipped", "waiting", "lost"};
using StateCounts = std::array<uint64_t, kStates.size()>;

StateCounts CountsOf(const RunReader& run, uint32_t job) {
  StateCounts out{};
  const auto counts = run.Counts(job);
  if (!run.expanded(job) && run.state({job, kWholeJob}) == InstanceState::Waiting) return out;  // nobody knows how many
  for (int state = 0; state < kInstanceStates; ++state) {
    const std::string_view word = StateWord(run, job, static_cast<InstanceState>(state));
    out[static_cast<size_t>(std::find(kStates.begin(), kStates.end(), word) - kStates.begin())] += counts[static_cast<size_t>(state)];
  }
  return out;
}

uint64_t Total(const StateCounts& counts) {
  uint64_t sum = 0;
  for (uint64_t count : counts) sum += count;
  return sum;
}

/// What the page says about one declared job, and how long it and its longest instance took.
struct JobFacts {
  StateCounts counts{};
  int64_t first_ms = -1, last_ms = -1;  ///< of its programs, after the start of the run
  int64_t longest_ms = -1;              ///< of an instance: from the hand-over of its first attempt to its last verdict
};

struct Report {
  const RunReader& run;
  RunReportOptions options;
  RunMetrics metrics;
  bounds::PlanBounds bounds;
  std::vector<JobFacts> jobs;
  std::vector<InstanceRef> rows;        ///< those that are shown, by their beginning
  uint64_t instances = 0;
  std::vector<InstanceRef> failures;
  int64_t created_ms = 0;
  int64_t elapsed_ms = 0;
};

int64_t EndOf(const AttemptView& attempt) { return attempt.exited_ms != 0 ? attempt.exited_ms : attempt.judged_ms; }

/// Declared jobs in one list with the hooks, which run in no phase of their own here.
Report Collect(const RunReader& run, const RunReportOptions& options) {
  Report out{run, options, {}, bounds::Bound(run.plan()), {}, {}, 0, run.FailedInstances(), run.header().created_ms, 0};
  MetricsOptions when;
  when.when_ms = options.when_ms;
  out.metrics = CollectMetrics(run, when);
  const RunSummary& summary = run.summary();
  out.jobs.resize(run.plan().jobs.size());
  int64_t last_seen = 0;
  // How late a row begins, and what makes it worth showing where there are too many.
  struct Weight {
    bool urgent = false;
    int64_t begin = INT64_MAX, time = 0;
  };
  std::vector<std::pair<Weight, InstanceRef>> all;
  for (uint32_t job = 0; job < out.jobs.size(); ++job) {
    out.jobs[job].counts = CountsOf(run, job);
    for (uint32_t i = 0; i < run.size(job); ++i) {
      const InstanceState state = run.state({job, i});
      all.push_back({{state == InstanceState::Failed || state == InstanceState::Running || state == InstanceState::Backoff}, {job, i}});
    }
    if (run.size(job) == 0 && IsFinal(run.state({job, kWholeJob}))) all.push_back({{true}, {job, kWholeJob}});
  }
  out.instances = all.size();
  size_t at = 0;
  run.ForEachInstance([&](InstanceRef instance, const std::vector<AttemptView>& attempts) {
    while (at < all.size() && all[at].second != instance) ++at;
    JobFacts& facts = out.jobs[instance.job];
    int64_t begin = INT64_MAX, time = 0;
    for (const AttemptView& attempt : attempts) {
      last_seen = std::max({last_seen, attempt.intent_ms, attempt.judged_ms, attempt.reaped_ms});
      begin = std::min(begin, attempt.ready_ms != 0 ? attempt.ready_ms : attempt.intent_ms);
      if (attempt.started_ms == 0) continue;
      const int64_t start = attempt.started_ms - out.created_ms;
      facts.first_ms = facts.first_ms < 0 ? start : std::min(facts.first_ms, start);
      if (EndOf(attempt) != 0) {
        facts.last_ms = std::max(facts.last_ms, EndOf(attempt) - out.created_ms);
        time += EndOf(attempt) - attempt.started_ms;
      }
    }
    if (!attempts.empty() && attempts.back().judged_ms != 0 && attempts.front().intent_ms != 0) {
      facts.longest_ms = std::max(facts.longest_ms, attempts.back().judged_ms - attempts.front().intent_ms);
    }
    if (at < all.size()) {
      all[at].first.begin = begin;
      all[at].first.time = time;
    }
  });
  const int64_t now = options.when_ms != 0 ? options.when_ms : process::WallMillis();
  const int64_t end = summary.finished ? summary.ended_ms : summary.running ? now : std::max(last_seen, out.created_ms);
  out.elapsed_ms = std::max<int64_t>(0, std::max(end, summary.finished ? last_seen : end) - out.created_ms);
  if (all.size() > options.most_rows) {
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(options.most_rows), all.end(), [](const auto& x, const auto& y) {
      return std::tie(y.first.urgent, y.first.time, x.second) < std::tie(x.first.urgent, x.first.time, y.second);
    });
    all.resize(options.most_rows);
  }
  std::sort(all.begin(), all.end(), [](const auto& x, const auto& y) { return std::tie(x.first.begin, x.second) < std::tie(y.first.begin, y.second); });
  for (const auto& [weight, instance] : all) out.rows.push_back(instance);
  return out;
}

// --- Data ------------------------------------------------------------------------------------------------------------

int64_t After(const Report& report, int64_t wall_ms) { return wall_ms == 0 ? -1 : std::max<int64_t>(0, wall_ms - report.created_ms); }

std::string_view OutcomeWord(const Report& report, const AttemptView& attempt) {
  if (!attempt.verdict) return report.metrics.live ? "running" : "lost";
  if (attempt.verdict->success) return "succeeded";
  return attempt.verdict->kind == ir::ErrorKind::Cancelled ? "cancelled" : "failed";
}

std::string RowJson(const Report& report, InstanceRef instance) {
  const InstanceView view = report.run.View(instance);
  const std::string message = view.verdict && !view.verdict->success ? view.verdict->message : view.reused ? "result of run " + view.reused->run : std::string();
  std::string out = fmt::format("[{},{},\"{}\",{},[", instance.job, ir::JsonQuote(VisibleText(view.address)), StateWord(report.run, instance.job, view.state),
                                ir::JsonQuote(VisibleText(message.substr(0, 300))));
  for (size_t i = 0; i < view.attempts.size(); ++i) {
    const AttemptView& attempt = view.attempts[i];
    const bool failed = attempt.verdict && !attempt.verdict->success;
    const std::string staged = report.run.StagedAt(instance, attempt.number);
    out += fmt::format("{}[{},{},{},{},\"{}\",{},{},{}{}]", i == 0 ? "" : ",", attempt.number, After(report, attempt.ready_ms != 0 ? attempt.ready_ms : attempt.intent_ms), After(report, attempt.started_ms),
                       After(report, EndOf(attempt)), OutcomeWord(report, attempt), ir::JsonQuote(failed ? ReasonText(*attempt.verdict) : ""), attempt.cpu_ms, attempt.max_memory,
                       staged.empty() ? "" : "," + ir::JsonQuote(VisibleText(staged)));
  }
  return out + "]]";
}

std::string DataJson(const Report& report) {
  const ir::Plan& plan = report.run.plan();
  const RunSummary& summary = report.run.summary();
  std::string out = fmt::format("{{\"schema\":\"jobc.report/1\",\"run\":{},\"name\":{},\"status\":{},\"created_ms\":{},\"elapsed\":{},\"instances\":{},\"graph\":{},\"jobs\":[", ir::JsonQuote(summary.id), ir::JsonQuote(summary.name),
                                ir::JsonQuote(summary.status), report.created_ms, report.elapsed_ms, report.instances, plan.jobs.size() <= report.options.most_graph_jobs);
  for (size_t job = 0; job < plan.jobs.size(); ++job) {
    const ir::Job& declared = plan.jobs[job];
    const JobFacts& facts = report.jobs[job];
    std::string counts, needs;
    for (size_t state = 0; state < kStates.size(); ++state) {
      if (facts.counts[state] != 0) counts += fmt::format("{}\"{}\":{}", counts.empty() ? "" : ",", kStates[state], facts.counts[state]);
    }
    std::vector<std::pair<uint32_t, bool>> edges;  // from, weak
    for (const ir::Dependency& dependency : declared.dependencies) {
      if (!edges.empty() && edges.back().first == dependency.job) {
        edges.back().second = edges.back().second && !dependency.strong;
      } else if (dependency.job != job) {
        edges.push_back({dependency.job, !dependency.strong});
      }
    }
    for (const auto& [from, weak] : edges) needs += fmt::format("{}[{},{}]", needs.empty() ? "" : ",", from, weak ? 1 : 0);
    out += fmt::format("{}{{\"name\":{},\"kind\":\"{}\",\"scatter\":{},\"counts\":{{{}}},\"needs\":[{}],\"elapsed\":{},\"attempts\":{}}}", job == 0 ? "" : ",", ir::JsonQuote(VisibleText(declared.address)), KindWord(declared.kind),
                       !declared.domain.single(), counts, needs, facts.last_ms >= 0 ? facts.last_ms - facts.first_ms : -1, report.metrics.jobs[job].attempts.total());
  }
  out += "],\"rows\":[";
  for (size_t i = 0; i < report.rows.size(); ++i) out += (i == 0 ? "" : ",") + RowJson(report, report.rows[i]);
  return out + "]}";
}

// --- Page ------------------------------------------------------------------------------------------------------------

/// Text and attribute values; what is not safe to show is made visible.
std::string Escape(std::string_view text) {
  std::string out;
  for (char c : VisibleText(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string Base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

/// `sha256-…` of a style or script, as a Content-Security-Policy names it.
std::string CspHash(std::string_view text) {
  const std::string hex = Sha256Hex(text);
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return "'sha256-" + Base64(bytes) + "'";
}

std::string BytesText(int64_t n) {
  if (n < 0) return "";
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  double value = static_cast<double>(n);
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return value >= 10 || unit == 0 ? fmt::format("{:.0f} {}", value, kUnits[unit]) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

/// A bar of states; the text beside it says the same.
std::string Bar(const StateCounts& counts, int width, std::string_view css_class) {
  const uint64_t total = Total(counts);
  std::string out = fmt::format("<svg class=\"{}\" viewBox=\"0 0 {} 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">", css_class, width);
  double at = 0;
  for (size_t state = 0; state < kStates.size(); ++state) {
    if (counts[state] == 0) continue;
    const double part = static_cast<double>(width) * static_cast<double>(counts[state]) / static_cast<double>(total);
    out += fmt::format("<rect class=\"fill-{}\" x=\"{:.2f}\" y=\"0\" width=\"{:.2f}\" height=\"10\"/>", kStates[state], at, part);
    at += part;
  }
  return out + "</svg>";
}

std::string CountsText(const StateCounts& counts) {
  std::string out;
  for (size_t state = 0; state < kStates.size(); ++state) {
    if (counts[state] != 0) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", counts[state], kStates[state]);
  }
  return out;
}

std::string Tile(std::string_view name, const std::string& value, const std::string& more) {
  return fmt::format("<div class=\"tile\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n", name, value, more);
}

std::string Failures(const Report& report) {
  std::vector<InstanceRef> failures = report.failures;
  // Those that are not tolerated first.
  std::stable_partition(failures.begin(), failures.end(), [&](InstanceRef instance) { return !Tolerated(report.run.plan().jobs[instance.job]); });
  std::string out = fmt::format("<section id=\"failures\" aria-labelledby=\"h-failures\"><h2 id=\"h-failures\">Failures ({})</h2>\n", failures.size());
  for (size_t i = 0; i < failures.size() && i < report.options.most_failures; ++i) {
    const FailureReport one = ReportOf(report.run, failures[i]);
    const InstanceView view = report.run.View(failures[i]);
    const std::string what = view.verdict ? ReasonText(*view.verdict) : one.kind;
    out += fmt::format("<article class=\"failure{}\"><h3><span class=\"mono\">{}</span>: <span class=\"what\">{}{}</span></h3>\n", one.tolerated ? " ignored" : "", Escape(one.address), Escape(what), one.tolerated ? ", ignored" : "");
    std::string where = one.attempts == 0 ? (one.kind == "check" ? "" : "before anything was started") : one.attempts > one.max_attempts ? fmt::format("attempt {}", one.attempts) : one.max_attempts > 1 ? fmt::format("attempt {} of {}", one.attempts, one.max_attempts) : std::string();
    if (one.elapsed_ms >= 0) where += fmt::format("{}after {}", where.empty() ? "" : ", ", ElapsedText(one.elapsed_ms));
    if (!one.declared_at.empty()) where += fmt::format("{}declared at {}", where.empty() ? "" : ", ", Escape(one.declared_at));
    if (!where.empty()) out += fmt::format("<p class=\"dim\">{}</p>\n", where);
    if (!one.message.empty() && !(one.exit_code && one.message == fmt::format("exit code {}", *one.exit_code))) {
      std::string lines;
      for (std::string_view rest = one.message; !rest.empty();) {
        const size_t end = std::min(rest.find('\n'), rest.size());
        lines += (lines.empty() ? "" : "<br>") + Escape(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
      out += fmt::format("<p>{}</p>\n", lines);
    }
    if (!one.stderr_lines.empty()) {
      out += fmt::format("<pre tabindex=\"0\" aria-label=\"the last lines of stderr of {}\">", Escape(one.address));
      for (const std::string& line : one.stderr_lines) out += Escape(line) + "\n";
      out += "</pre>\n";
    } else if (one.attempts > 0) {
      out += "<p class=\"dim\">stderr is empty</p>\n";
    }
    if (!one.staged.empty()) out += fmt::format("<p class=\"dim\">staged: <code>{}</code></p>\n", Escape(one.staged));
    if (!one.logs_command.empty()) out += fmt::format("<p class=\"dim\">all output: <code>{}</code></p>\n", Escape(one.logs_command));
    out += "</article>\n";
  }
  if (failures.size() > report.options.most_failures) {
    out += fmt::format("<p>{} more failures are in the table of instances; <code>jobc status {}</code> lists all.</p>\n", failures.size() - report.options.most_failures, report.run.summary().id);
  }
  return out + "</section>\n";
}

std::string JobsTable(const Report& report) {
  std::string out =
      "<section id=\"jobs\" aria-labelledby=\"h-jobs\"><h2 id=\"h-jobs\">Jobs: worst case against actual</h2>\n<p class=\"dim\">What is proven before a run starts (<code>jobc plan --bounds</code>) stands in grey below what happened.</p>\n"
      "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Job</th><th scope=\"col\">Instances</th><th scope=\"col\"></th><th scope=\"col\" class=\"num\">Attempts</th><th scope=\"col\" class=\"num\">Longest instance</th>"
      "<th scope=\"col\" class=\"num\">Duration p50 / p95</th><th scope=\"col\" class=\"num\">Wait p50 / p95</th><th scope=\"col\" class=\"num\">CPU time</th><th scope=\"col\" class=\"num\">Peak memory</th></tr></thead>\n<tbody>\n";
  for (size_t job = 0; job < report.jobs.size(); ++job) {
    const ir::Job& declared = report.run.plan().jobs[job];
    const JobFacts& facts = report.jobs[job];
    const JobMetrics& metrics = report.metrics.jobs[job];
    const bounds::JobBounds& bound = report.bounds.jobs[job];
    const bool runs = declared.kind != ir::JobKind::Check;
    auto pair = [](const Durations& values) { return values.count() == 0 ? std::string() : ElapsedText(values.Percentile(50)) + " / " + ElapsedText(values.Percentile(95)); };
    const std::string counts = CountsText(facts.counts);
    out += fmt::format("<tr><th scope=\"row\" class=\"mono\">{}{}</th><td>{}</td><td class=\"bar\">{}</td>", Escape(declared.address), declared.kind == ir::JobKind::Job ? "" : fmt::format(" <span class=\"dim\">{}</span>", KindWord(declared.kind)),
                       counts.empty() ? "<span class=\"dim\">not known</span>" : counts, Total(facts.counts) == 0 ? "" : Bar(facts.counts, 120, "meter"));
    out += fmt::format("<td class=\"num\">{}{}{}</td>", runs ? std::to_string(metrics.attempts.total()) : "", metrics.retries != 0 ? fmt::format(" ({} {})", metrics.retries, metrics.retries == 1 ? "retry" : "retries") : "",
                       runs && bound.known ? fmt::format("<span class=\"bound\">at most {}</span>", bound.attempts) : "");
    out += fmt::format("<td class=\"num\">{}{}</td>", facts.longest_ms >= 0 ? ElapsedText(facts.longest_ms) : "", runs ? fmt::format("<span class=\"bound\">{}</span>", bound.time_ms ? "at most " + ElapsedText(*bound.time_ms) : "no limit") : "");
    out += fmt::format("<td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>\n", pair(metrics.runs), pair(metrics.waits), metrics.runs.count() != 0 ? ElapsedText(metrics.cpu_ms) : "",
                       metrics.max_memory > 0 ? BytesText(metrics.max_memory) : "");
  }
  return out + "</tbody></table></div></section>\n";
}

}  // namespace

std::string RunReportJson(const RunReader& run, const RunReportOptions& options) { return DataJson(Collect(run, options)) + "\n"; }

std::string RunReportHtml(const RunReader& run, const RunReportOptions& options) {
  const Report report = Collect(run, options);
  const RunSummary& summary = run.summary();
  const ir::Plan& plan = run.plan();
  const std::string_view style(kReportStyle, kReportStyleSize), script(kReportScript, kReportScriptSize);
  const std::string title = summary.name.empty() ? summary.id : summary.name;

  StateCounts sum{};
  for (size_t job = 0; job < report.jobs.size(); ++job) {
    if (plan.jobs[job].kind == ir::JobKind::Hook) continue;
    for (size_t state = 0; state < kStates.size(); ++state) sum[state] += report.jobs[job].counts[state];
  }
  const uint64_t total = Total(sum);
  const uint64_t open = sum[4] + sum[7] + sum[8];  // running, waiting, lost
  int64_t cpu_ms = 0, memory = -1;
  for (const JobMetrics& job : report.metrics.jobs) {
    cpu_ms += job.cpu_ms;
    memory = std::max(memory, job.max_memory);
  }

  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out += fmt::format("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'\">\n", CspHash(style), CspHash(script));
  out += fmt::format("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"generator\" content=\"jobc {}\">\n<title>{} · {}</title>\n<style>{}</style>\n</head>\n<body>\n", Version(), Escape(title), Escape(summary.status), style);
  out += fmt::format("<header class=\"top\"><div><h1><span class=\"pill {}\">{}</span>{}</h1>\n<p class=\"dim\">run <code>{}</code> of <code>{}</code>{}, started {}{}{}</p>\n", Escape(summary.status), Escape(summary.status), Escape(title), summary.id,
                     Escape(summary.source), summary.profile.empty() ? "" : fmt::format(" with profile <code>{}</code>", Escape(summary.profile)), TimeText(summary.created_ms),
                     summary.finished ? fmt::format(", exit code {}", summary.exit_code) : "", summary.running ? ", still running when this was written" : "");
  if (!summary.message.empty()) out += fmt::format("<p>{}</p>\n", Escape(summary.message));
  out += "</div><button id=\"theme\" class=\"needs-script\" type=\"button\" hidden>Dark</button></header>\n<main>\n<dl class=\"tiles\">\n";
  out += Tile("Instances", fmt::format("{}{}", total - open, open != 0 ? fmt::format(" of {}", total) : ""), open != 0 ? "have ended" : total == 1 ? "has ended" : "have all ended");
  out += Tile("Time", ElapsedText(report.elapsed_ms), report.bounds.time_ms ? "at most " + ElapsedText(*report.bounds.time_ms) : "some job has no time limit");
  out += Tile("Attempts", std::to_string(report.metrics.attempts.total()), fmt::format("{} {}; at most {} attempts", report.metrics.retries, report.metrics.retries == 1 ? "retry" : "retries", report.bounds.attempts));
  out += Tile("Wait for a start", report.metrics.waits.count() == 0 ? "–" : ElapsedText(report.metrics.waits.Percentile(50)), report.metrics.waits.count() == 0 ? "nothing was started" : fmt::format("median; 95 % at most {}", ElapsedText(report.metrics.waits.Percentile(95))));
  out += Tile("CPU time", ElapsedText(cpu_ms), "of all attempts");
  out += Tile("Peak memory", memory > 0 ? BytesText(memory) : "–", memory > 0 ? "of the largest attempt" : "not known");
  out += "</dl>\n<section aria-labelledby=\"h-states\"><h2 id=\"h-states\">States</h2>\n";
  if (total != 0) out += Bar(sum, 1000, "meter");
  out += "<ul class=\"legend\">";
  for (size_t state = 0; state < kStates.size(); ++state) {
    if (sum[state] != 0) out += fmt::format("<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"fill-{}\" width=\"10\" height=\"10\" rx=\"2\"/></svg>{} {}</li>", kStates[state], sum[state], kStates[state] == "ignored" ? "failed, ignored" : kStates[state]);
  }
  out += "</ul></section>\n";
  if (!report.failures.empty()) out += Failures(report);
  if (plan.jobs.size() <= options.most_graph_jobs) {
    out += "<section class=\"needs-script\" aria-labelledby=\"h-graph\" hidden><h2 id=\"h-graph\">Graph</h2><div id=\"graph\" tabindex=\"0\" role=\"region\" aria-labelledby=\"h-graph\"></div></section>\n";
  } else {
    out += fmt::format("<section aria-labelledby=\"h-graph\"><h2 id=\"h-graph\">Graph</h2><p>{} declared jobs are too many to draw; <code>jobc graph</code> prints them for other tools.</p></section>\n", plan.jobs.size());
  }
  const std::string shown = report.rows.size() < report.instances ? fmt::format("<p>{} of {} instances are shown: failed and running ones, then the longest.</p>", report.rows.size(), report.instances) : "";
  out += fmt::format(
      "<section class=\"needs-script\" aria-labelledby=\"h-timeline\" hidden><h2 id=\"h-timeline\">Timeline</h2>{}\n"
      "<div class=\"tools\"><label>Job <select id=\"timeline-job\"><option value=\"-1\">all</option></select></label><label>Order <select id=\"timeline-order\"><option value=\"begin\">as they began</option><option value=\"job\">by job</option>"
      "<option value=\"long\">longest first</option></select></label><span class=\"grow\"></span>"
      "<button id=\"timeline-out\" type=\"button\" aria-label=\"zoom out\">−</button><button id=\"timeline-in\" type=\"button\" aria-label=\"zoom in\">+</button><button id=\"timeline-fit\" type=\"button\">whole run</button></div>\n"
      "<div id=\"timeline\"></div>\n<p id=\"timeline-help\" class=\"dim\">One line an instance, a bar each attempt; thin: it was ready and waited. Drag or ←→ to move, Ctrl + wheel or + and − to zoom, ↑↓ to read line by line.</p>"
      "<div id=\"timeline-live\" class=\"visually-hidden\" aria-live=\"polite\"></div></section>\n", shown);
  out += JobsTable(report);
  out += fmt::format(
      "<section id=\"instances\" class=\"needs-script\" aria-labelledby=\"h-instances\" hidden><h2 id=\"h-instances\">Instances</h2>{}\n"
      "<div class=\"tools\"><label>Search <input id=\"instances-search\" type=\"search\" placeholder=\"address or message\"></label><label>State <select id=\"instances-state\"><option value=\"\">all</option></select></label>"
      "<span class=\"grow\"></span><span id=\"instances-count\" class=\"dim\" aria-live=\"polite\"></span></div>\n<div id=\"grid\" class=\"grid\" tabindex=\"0\" role=\"region\" aria-labelledby=\"h-instances\"><table><colgroup><col width=\"24%\"><col width=\"100\"><col width=\"80\">"
      "<col width=\"80\"><col width=\"80\"><col width=\"80\"><col width=\"80\"><col width=\"90\"><col></colgroup><thead><tr>", shown);
  for (std::string_view column : {"Instance", "State", "Attempts", "Begins", "Waited", "Ran", "CPU time", "Memory", "Message"}) out += fmt::format("<th scope=\"col\"{}><button type=\"button\">{}</button></th>", column == "Instance" || column == "State" || column == "Message" ? "" : " class=\"num\"", column);
  out += "</tr></thead><tbody></tbody></table></div></section>\n<noscript><p>Graph, timeline and the table of instances need JavaScript.</p></noscript>\n</main>\n";
  out += fmt::format("<footer>Written by jobc {} on {}. All times are those of the machine that ran the jobs.</footer>\n<div id=\"tip\" hidden></div>\n", Version(), TimeText(options.when_ms != 0 ? options.when_ms : process::WallMillis()));
  // No `<` in the data: nothing in it can end the element.
  out += "<script type=\"application/json\" id=\"data\">";
  for (char c : DataJson(report)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  out += fmt::format("</script>\n<script>{}</script>\n</body>\n</html>\n", script);
  return out;
}

}  // namespace jobc
