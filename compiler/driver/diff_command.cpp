// `jobc diff A B`: two plans, two runs, or a plan and a run, compared by what they mean, grouped by cause.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>
#include <sys/stat.h>

#include "compiler/driver/plan_diff.h"
#include "compiler/driver/runs.h"
#include "compiler/driver/since.h"
#include "ir/dump.h"
#include "ir/json.h"
#include "ir/plan_json.h"
#include "runtime/state_dir.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

/// One of the two sides.
struct Side {
  std::string name;                       ///< for people: a path, or `run ID`
  std::optional<ir::Plan> plan;           ///< of a file
  std::unique_ptr<RunReader> run;
  const ir::Plan& Plan() const { return run != nullptr ? run->plan() : *plan; }
};

/// A file that is there, or what looks like one, is a file; everything else is a run.
bool IsFile(const std::string& word) {
  struct stat info;
  return word.ends_with(".job") || word.ends_with(".json") || word.find('/') != std::string::npos || (stat(word.c_str(), &info) == 0 && S_ISREG(info.st_mode));
}

std::optional<int> Open(const std::string& word, const Invocation& invocation, Terminal& terminal, Side& side) {
  if (IsFile(word)) {
    Compiled compiled = CompileFile(word, invocation, terminal);
    if (!compiled.plan) return compiled.exit_code;
    side.plan = std::move(compiled.plan);
    side.name = word;
    return std::nullopt;
  }
  OpenedRun opened = OpenRun(invocation, word, terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  side.run = std::move(opened.reader);
  side.name = "run " + side.run->header().id;
  return std::nullopt;
}

/// What two runs made of the same address.
struct InstanceChange {
  std::string address;
  Cause cause = Cause::Result;
  std::string cause_name, part, title, before, now;
};

std::vector<InstanceChange> CompareRuns(RunReader& a, RunReader& b) {
  std::vector<InstanceChange> out;
  PlanPair plans(a.plan(), b.plan());
  std::map<std::string, InstanceRef> before;
  for (uint32_t job = 0; job < a.plan().jobs.size(); ++job) {
    if (a.plan().jobs[job].kind != ir::JobKind::Job) continue;
    for (uint32_t i = 0; i < a.size(job); ++i) before[a.Address({job, i})] = {job, i};
  }
  for (uint32_t job = 0; job < b.plan().jobs.size(); ++job) {
    if (b.plan().jobs[job].kind != ir::JobKind::Job) continue;
    for (uint32_t i = 0; i < b.size(job); ++i) {
      const InstanceRef ref{job, i};
      InstanceChange change;
      change.address = b.Address(ref);
      auto found = before.find(change.address);
      if (found == before.end()) {
        change.cause = Cause::Source;
        change.title = "is new";
        out.push_back(std::move(change));
        continue;
      }
      const InstanceRef old = found->second;
      before.erase(found);
      const std::string key_a = a.KeyOf(old), key_b = b.KeyOf(ref);
      if (!key_a.empty() && !key_b.empty() && key_a != key_b) {
        auto parts_a = a.KeyPartsOf(old);
        auto parts_b = b.KeyPartsOf(ref);
        if (parts_a.ok() && parts_b.ok() && *parts_a && *parts_b) {
          std::vector<PartDifference> differences = CompareParts(**parts_a, **parts_b);
          FindCauses(differences, plans, old.job, job);
          if (!differences.empty()) {
            const PartDifference& first = differences.front();
            const DifferenceText text = Describe(first, a.plan(), old.job, b.plan(), job);
            out.push_back({change.address, first.cause, first.cause_name, first.part, text.title, text.before, text.now});
            continue;
          }
        }
      }
      const InstanceState was = a.state(old), is = b.state(ref);
      if (was != is) {
        change.title = "ended differently";
        change.before = StateName(was);
        change.now = StateName(is);
        out.push_back(std::move(change));
        continue;
      }
      if (is != InstanceState::Succeeded) continue;
      auto outputs_a = a.Outputs(old);
      auto outputs_b = b.Outputs(ref);
      if (!outputs_a.ok() || !outputs_b.ok() || !*outputs_a || !*outputs_b) continue;
      if ((*outputs_a)->files != (*outputs_b)->files && !(*outputs_a)->files.empty()) {
        change.title = "gave other files from the same inputs";
      } else if ((*outputs_a)->outputs != (*outputs_b)->outputs) {
        change.title = "gave other values from the same inputs";
        change.before = (*outputs_a)->outputs.substr(0, 200);
        change.now = (*outputs_b)->outputs.substr(0, 200);
      } else {
        continue;
      }
      out.push_back(std::move(change));
    }
  }
  for (const auto& [address, ref] : before) {
    InstanceChange gone;
    gone.address = address;
    gone.cause = Cause::Source;
    gone.title = "is gone";
    out.push_back(std::move(gone));
  }
  return out;
}

std::string Values(const std::string& before, const std::string& now, std::string_view indent) {
  if (before.empty() && now.empty()) return "";
  return fmt::format("{}before: {}\n{}now:    {}\n", indent, before.empty() ? "(none)" : before, indent, now.empty() ? "(none)" : now);
}

}  // namespace

int RunDiff(const Invocation& invocation, Terminal& terminal) {
  Side a, b;
  if (std::optional<int> code = Open(invocation.arguments()[0], invocation, terminal, a)) return *code;
  if (std::optional<int> code = Open(invocation.arguments()[1], invocation, terminal, b)) return *code;
  const std::vector<PlanChange> changes = ComparePlans(a.Plan(), b.Plan());
  std::vector<InstanceChange> instances;
  const bool runs = a.run != nullptr && b.run != nullptr;
  if (runs) instances = CompareRuns(*a.run, *b.run);
  const bool different = !changes.empty() || !instances.empty();
  const int code = invocation.Has("--exit-code") && different ? kExitPending : kExitOk;

  if (invocation.json()) {
    std::string out = fmt::format("{{\"schema\":\"jobc.diff/1\",\"a\":{},\"b\":{},\"different\":{},\"changes\":[", ir::JsonQuote(a.name), ir::JsonQuote(b.name), different);
    for (size_t i = 0; i < changes.size(); ++i) {
      out += (i == 0 ? "" : ",") + PlanChangeJson(changes[i]);
    }
    out += "]";
    if (runs) {
      out += ",\"instances\":[";
      for (size_t i = 0; i < instances.size(); ++i) {
        const InstanceChange& change = instances[i];
        out += fmt::format("{}{{\"address\":{},\"cause\":\"{}\"", i == 0 ? "" : ",", ir::JsonQuote(change.address), CauseName(change.cause));
        if (!change.cause_name.empty()) out += ",\"cause_name\":" + ir::JsonQuote(change.cause_name);
        if (!change.part.empty()) out += ",\"part\":" + ir::JsonQuote(change.part);
        out += fmt::format(",\"what\":{},\"before\":{},\"now\":{}}}", ir::JsonQuote(change.title), change.before.empty() ? "null" : ir::JsonQuote(change.before),
                           change.now.empty() ? "null" : ir::JsonQuote(change.now));
      }
      out += "]";
    }
    terminal.Out(out + "}\n");
    return code;
  }
  if (!different) {
    terminal.Out(fmt::format("{} and {} do not differ\n", a.name, b.name));
    return code;
  }
  terminal.Out(PlanChangesText(changes));
  if (!instances.empty()) {
    for (Cause cause : {Cause::Source, Cause::Param, Cause::InputFile, Cause::Upstream, Cause::Environment, Cause::Result}) {
      // One entry for what instances of a job have in common.
      std::map<std::pair<std::string, std::string>, std::pair<const InstanceChange*, size_t>> groups;
      for (const InstanceChange& change : instances) {
        if (change.cause != cause) continue;
        auto [it, added] = groups.try_emplace({change.address.substr(0, change.address.find('[')), change.title}, &change, 0);
        ++it->second.second;
      }
      if (groups.empty()) continue;
      terminal.Out(fmt::format("instances: {}\n", CauseTitle(cause)));
      for (const auto& [key, group] : groups) {
        const auto& [change, count] = group;
        terminal.Out(fmt::format("  {}{}: {}{}\n", change->address, count > 1 ? fmt::format(" and {} more", count - 1) : std::string(), change->title,
                                 change->cause_name.empty() ? "" : fmt::format(" ({})", change->cause_name)));
        terminal.Out(Values(change->before, change->now, "    "));
      }
    }
  }
  return code;
}

}  // namespace jobc
