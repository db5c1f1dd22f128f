#include "runtime/dead_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "ir/json.h"
#include "runtime/engine.h"
#include "runtime/journal.h"
#include "runtime/process/os.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

/// Records of one purpose, committed together.
class Writer {
 public:
  Writer(const RunReader& run, std::string why) : verdict_(Failed(ir::ErrorKind::Cancelled, std::move(why))), text_(VerdictJson(verdict_)),
                                                    judged_(fmt::format("{{\"afterwards\":{},{}", run.last_ms(), text_.substr(1))) {
    if (auto opened = Journal::Open(run.run_dir() + "/journal.db", Durability::Full)) {
      journal_.emplace(*std::move(opened));
    } else {
      done_ = opened.error();
    }
  }

  void Write(Record record) {
    if (!done_) return;
    record.time_ms = process::WallMillis();
    if (auto written = journal_->Append(record); !written) done_ = written.error();
  }

  /// Its verdict, if it has none of its own.
  void Judge(InstanceRef instance, const AttemptView& attempt) {
    if (attempt.reaped_ms != 0 || (attempt.verdict != nullptr && !attempt.cut_off)) return;
    Record judged = About(RecordType::Verdict, instance, attempt);
    judged.a = static_cast<int64_t>(verdict_.kind);
    judged.b = -1;
    judged.text = judged_;
    Write(std::move(judged));
  }

  void End(InstanceRef instance, const AttemptView& attempt) {
    Judge(instance, attempt);
    if (attempt.reaped_ms == 0) Write(About(RecordType::Reaped, instance, attempt));
  }

  Result<void> Commit() { return done_ ? journal_->Commit() : done_; }
  const std::string& text() const { return text_; }
  const Verdict& verdict() const { return verdict_; }

 private:
  static Record About(RecordType type, InstanceRef instance, const AttemptView& attempt) {
    return {.type = type, .job = static_cast<int32_t>(instance.job), .ordinal = instance.ordinal == kWholeJob ? -1 : static_cast<int64_t>(instance.ordinal),
            .attempt = static_cast<int32_t>(attempt.number)};
  }

  Verdict verdict_;
  std::string text_;
  std::string judged_;  ///< with the last moment of the process that executed the run: nobody knows when the program ended
  std::optional<Journal> journal_;
  Result<void> done_;
};

}  // namespace

std::vector<OpenAttempt> OpenAttempts(const RunReader& run) {
  std::vector<OpenAttempt> out;
  run.ForEachInstance([&](InstanceRef instance, const std::vector<AttemptView>& attempts) {
    const ir::Job& job = run.plan().jobs[instance.job];
    if (job.kind == ir::JobKind::Hook || !OutlivesJobc(job.backend.kind)) return;
    for (const AttemptView& attempt : attempts) {
      if (attempt.reaped_ms != 0 || attempt.id == 0) continue;
      OpenAttempt one;
      one.instance = instance;
      one.address = run.Address(instance);
      one.number = attempt.number;
      one.id = attempt.id;
      one.origin = attempt.origin != nullptr ? *attempt.origin : AttemptOrigin{run.header().id, run.run_dir(), attempt.id};
      one.handle = attempt.handle;
      one.intent_ms = attempt.intent_ms;
      one.started = attempt.started_ms != 0;
      one.wanted = &attempt == &attempts.back() && (attempt.verdict == nullptr || attempt.cut_off) && job.kind == ir::JobKind::Job && instance.ordinal != kWholeJob &&
                   !IsFinal(run.state(instance));
      if (one.wanted) one.key = run.KeyOf(instance);
      out.push_back(std::move(one));
    }
  });
  return out;
}

Result<uint64_t> RecordCancelled(RunReader& run, const std::function<bool(InstanceRef)>& wanted, bool whole_run, const std::string& who) {
  const bool finished = run.summary().finished;
  Writer writer(run, fmt::format("cancelled by {} when its jobc was gone", who));
  if (whole_run && !finished) writer.Write({.type = RecordType::Stop, .a = 2, .text = who});
  run.ForEachInstance([&](InstanceRef instance, const std::vector<AttemptView>& attempts) {
    if (!wanted(instance)) return;
    for (const AttemptView& attempt : attempts) writer.End(instance, attempt);
  });
  uint64_t cancelled = 0;
  for (uint32_t job = 0; job < run.plan().jobs.size() && !finished; ++job) {
    if (run.plan().jobs[job].kind == ir::JobKind::Hook) continue;
    const Record about{.type = RecordType::Final, .job = static_cast<int32_t>(job), .a = static_cast<int64_t>(InstanceState::Cancelled), .b = 1, .text = writer.text()};
    if (!run.expanded(job)) {
      if (!wanted({job, kWholeJob}) || IsFinal(run.whole(job))) continue;
      ++cancelled;
      writer.Write(about);
      continue;
    }
    const auto open = [&](uint64_t ordinal) {
      const InstanceRef instance{job, static_cast<uint32_t>(ordinal)};
      return wanted(instance) && !IsFinal(run.state(instance));
    };
    for (uint64_t first = 0, size = run.size(job); first < size;) {
      uint64_t end = first;
      while (end < size && open(end)) ++end;
      if (end > first) {
        Record record = about;
        record.ordinal = static_cast<int64_t>(first);
        record.b = static_cast<int64_t>(end - first);
        writer.Write(std::move(record));
        cancelled += end - first;
      }
      first = std::max(end, first + 1);
    }
  }
  if (whole_run && !finished) {
    writer.Write({.type = RecordType::Finished, .a = kExitInterrupted, .text = fmt::format("{{\"message\":{},\"status\":\"interrupted\"}}", ir::JsonQuote(writer.verdict().message))});
  }
  if (auto done = writer.Commit(); !done) return done.error();
  return cancelled;
}

namespace {

Result<void> RecordOf(RunReader& run, const std::vector<OpenAttempt>& attempts, const std::string& how, void (Writer::*what)(InstanceRef, const AttemptView&)) {
  if (attempts.empty()) return {};
  Writer writer(run, how + " when its jobc was gone");
  for (const OpenAttempt& one : attempts) {
    for (const AttemptView& attempt : run.View(one.instance).attempts) {
      if (attempt.id == one.id) (writer.*what)(one.instance, attempt);
    }
  }
  if (auto done = writer.Commit(); !done) return done;
  return run.Refresh();
}

}  // namespace

Result<void> RecordEnding(RunReader& run, const std::vector<OpenAttempt>& ending, const std::string& how) { return RecordOf(run, ending, how, &Writer::Judge); }

Result<void> RecordEnded(RunReader& run, const std::vector<OpenAttempt>& ended, const std::string& how) { return RecordOf(run, ended, how, &Writer::End); }

}  // namespace jobc
