#include "compiler/driver/since.h"

#include <climits>
#include <cstdlib>
#include <fmt/format.h>

#include "compiler/driver/runs.h"
#include "ir/json.h"
#include "runtime/state_dir.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

constexpr size_t kMostRows = 20;

std::string Count(uint64_t count, std::string_view one) { return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s"); }

std::string ForecastJson(const Forecast& forecast, const ir::Plan& plan, const RunReader* earlier, const std::string& root) {
  std::string out = "{\"schema\":\"jobc.forecast/1\"";
  if (earlier != nullptr) out += ",\"since\":" + ir::JsonQuote(earlier->header().id);
  out += fmt::format(",\"work\":{},\"instances\":[", forecast.HasWork());
  bool first = true;
  PartPlaces places;
  for (const ForecastRow& row : forecast.rows) {
    out += fmt::format("{}{{\"address\":{},\"prospect\":\"{}\",\"reason\":{}", first ? "" : ",", ir::JsonQuote(row.address), ProspectName(row.prospect), ir::JsonQuote(row.reason));
    first = false;
    if (!row.differences.empty()) {
      out += ",\"differences\":[";
      for (size_t i = 0; i < row.differences.size(); ++i) out += (i == 0 ? "" : ",") + DifferenceJson(row.differences[i], plan, row.instance.job, root, places);
      out += "]";
    }
    if (!row.needs.empty()) {
      out += ",\"needs\":[";
      for (size_t i = 0; i < row.needs.size(); ++i) out += (i == 0 ? "" : ",") + ir::JsonQuote(row.needs[i]);
      out += "]";
    }
    out += "}";
  }
  return out + "]}\n";
}

}  // namespace

std::string AbsolutePath(const std::string& path) {
  const std::string text = path.empty() ? "." : path;
  char resolved[PATH_MAX];
  if (realpath(text.c_str(), resolved) != nullptr) return resolved;
  return text[0] == '/' ? text : WorkingDirectory() + "/" + text;
}

std::string DifferenceLines(const PartDifference& difference, const ir::Plan& before, uint32_t job_before, const ir::Plan& now, uint32_t job_now, const std::string& root) {
  const DifferenceText text = Describe(difference, before, job_before, now, job_now);
  std::string out = fmt::format("    before: {}\n    now:    {}\n", text.before, text.now);
  const PartPlace place = FindPart(now, job_now, difference.part, root);
  if (!place.file.empty()) out += fmt::format("    {}:{}{}{}\n", place.file, place.line, place.text.empty() ? "" : ": ", place.text);
  return out;
}

std::string DifferenceJson(const PartDifference& difference, const ir::Plan& now, uint32_t job_now, const std::string& root, PartPlaces& places) {
  std::string out = fmt::format("{{\"part\":{},\"cause\":\"{}\"", ir::JsonQuote(difference.part), CauseName(difference.cause));
  if (!difference.cause_name.empty()) out += ",\"cause_name\":" + ir::JsonQuote(difference.cause_name);
  if (!difference.before.empty()) out += ",\"before\":" + difference.before;
  if (!difference.now.empty()) out += ",\"now\":" + difference.now;
  auto [known, added] = places.try_emplace({job_now, difference.part});
  if (added) known->second = FindPart(now, job_now, difference.part, root);
  const PartPlace& place = known->second;
  if (!place.file.empty()) out += fmt::format(",\"at\":{{\"file\":{},\"line\":{},\"text\":{}}}", ir::JsonQuote(place.file), place.line, ir::JsonQuote(place.text));
  return out + "}";
}

int ShowForecast(const Compiled& compiled, const std::string& run, const Invocation& invocation, Terminal& terminal) {
  const ir::Plan& plan = *compiled.plan;
  Roots roots;
  roots.root = AbsolutePath(compiled.root_directory);
  roots.cwd = compiled.from_plan ? roots.root : AbsolutePath("");
  const std::string explicit_state(invocation.ValueOr("--state", ""));
  const std::string state_dir = StateDirForSource(roots.root, explicit_state.empty() ? "" : AbsolutePath(explicit_state));
  std::unique_ptr<EarlierRun> earlier;
  Result<std::string> id = ResolveRun(state_dir, run);
  if (!id.ok() && (!run.empty() || id.error().code != ENOENT)) return FailCommand(terminal, StateExitCode(id.error()), id.error().message);
  if (id.ok()) {
    Result<std::unique_ptr<EarlierRun>> opened = EarlierRun::Open(state_dir, *id);
    if (!opened.ok()) return FailCommand(terminal, kExitEnvironment, opened.error().message);
    earlier = std::move(*opened);
  }
  const Forecast forecast = MakeForecast(plan, roots, earlier.get(), ResultCache::DefaultDir());
  const int code = invocation.Has("--exit-code") && forecast.HasWork() ? kExitPending : kExitOk;
  if (invocation.json()) {
    terminal.Out(ForecastJson(forecast, plan, earlier != nullptr ? &earlier->reader() : nullptr, roots.root));
    return code;
  }
  if (earlier != nullptr) {
    const RunSummary& summary = earlier->reader().summary();
    terminal.Out(fmt::format("since run {} ({}, {})\n", summary.id, summary.status, TimeText(summary.created_ms)));
  } else {
    terminal.Out(fmt::format("there is no run in `{}`: everything runs\n", state_dir));
  }
  std::map<Prospect, uint64_t> counts;
  // Instances of one job with one reason are one entry; the first stands for all.
  struct Group {
    const ForecastRow* row;
    uint64_t count = 0;
  };
  std::vector<Group> groups;
  std::map<std::tuple<uint32_t, Prospect, std::string>, size_t> known;
  for (const ForecastRow& row : forecast.rows) {
    ++counts[row.prospect];
    if (row.prospect == Prospect::Reused) continue;
    auto [it, added] = known.try_emplace({row.instance.job, row.prospect, row.reason}, groups.size());
    if (added) groups.push_back({&row});
    ++groups[it->second].count;
  }
  static constexpr std::pair<Prospect, std::string_view> kTitles[] = {{Prospect::Runs, "runs"}, {Prospect::May, "may run"}, {Prospect::Fails, "fails"}, {Prospect::Skipped, "skipped"}};
  size_t shown = 0;
  for (const auto& [prospect, title] : kTitles) {
    for (const Group& group : groups) {
      if (group.row->prospect != prospect || ++shown > kMostRows) continue;
      terminal.Out(fmt::format("{:<8} {}{}: {}\n", title, group.row->address, group.count > 1 ? fmt::format(" and {} more", group.count - 1) : std::string(), group.row->reason));
      if (group.row->differences.empty()) continue;
      const auto before = earlier->reader().Find(plan.jobs[group.row->instance.job].address);
      if (before.ok() && !before->empty()) {
        terminal.Out(DifferenceLines(group.row->differences.front(), earlier->reader().plan(), before->front().job, plan, group.row->instance.job, roots.root));
      }
      if (group.row->differences.size() > 1) {
        std::string more;
        for (size_t i = 1; i < group.row->differences.size() && i < 6; ++i) more += (more.empty() ? "" : ", ") + group.row->differences[i].part;
        terminal.Out(fmt::format("    also different: {}{}\n", more, group.row->differences.size() > 6 ? ", …" : ""));
      }
    }
  }
  if (shown > kMostRows) terminal.Out(fmt::format("and {} more; `--json` lists all\n", shown - kMostRows));
  std::string sum;
  for (const auto& [prospect, title] : std::initializer_list<std::pair<Prospect, std::string_view>>{
           {Prospect::Reused, "reused"}, {Prospect::Runs, "to run"}, {Prospect::May, "that may run"}, {Prospect::Fails, "that cannot run"}, {Prospect::Skipped, "skipped"}}) {
    if (counts[prospect] != 0) sum += fmt::format("{}{} {}", sum.empty() ? "" : ", ", counts[prospect], title);
  }
  terminal.Out(fmt::format("{}: {}\n", Count(forecast.rows.size(), "instance"), sum.empty() ? "nothing to do" : sum));
  if (earlier != nullptr && forecast.HasWork()) {
    terminal.Err(fmt::format("do it:  jobc run {} --resume {}{}\n", ShellQuote(compiled.root_path), earlier->reader().header().id, explicit_state.empty() ? "" : " --state " + ShellQuote(explicit_state)));
  }
  return code;
}

}  // namespace jobc
