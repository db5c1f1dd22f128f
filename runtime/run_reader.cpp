#include "runtime/run_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "ir/json.h"
#include "ir/plan_json.h"
#include "runtime/attempt_context.h"
#include "runtime/engine.h"
#include "runtime/process/os.h"
#include "runtime/results.h"
#include "support/text_width.h"

namespace jobc {
namespace {

int64_t IntOf(const ir::Value& json, const char* key, int64_t otherwise) {
  const ir::Value* found = json.kind() == ir::ValueKind::Map ? json.Find(key) : nullptr;
  return found != nullptr && found->kind() == ir::ValueKind::Int ? found->as_int() : otherwise;
}

std::string TextOf(const ir::Value& json, const char* key) {
  const ir::Value* found = json.kind() == ir::ValueKind::Map ? json.Find(key) : nullptr;
  return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
}

std::string PackHex(std::string_view hex) {
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0; };
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
  return out;
}

std::string HexOf(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (unsigned char c : bytes) {
    out += kDigits[c >> 4];
    out += kDigits[c & 15];
  }
  return out;
}

/// A run's Finished record is its last one, but for what its process still had to say; so a longer journal without one among
/// its last records goes on, or was cut off. More than that is never searched.
constexpr int64_t kMostAfterTheEnd = 1000;

/// The last words of a detached process that did not journal its end: from its last `error: ` on, else the last line. Empty
/// where it said nothing, or another process has had the run since.
std::string LastWords(const std::string& run_dir, JournalReader& journal) {
  constexpr int64_t kMostRead = 4096;
  constexpr int64_t kClockTickMs = 50;  // times of files lag behind the clock that records have
  const process::UniqueFd fd(open((run_dir + "/console.log").c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (!fd || fstat(fd.get(), &info) != 0 || info.st_size == 0) {
    return "";
  }
  const auto opened = journal.Last(RecordType::Opened);
  if (!opened || !*opened || info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1'000'000 + kClockTickMs < (*opened)->time_ms) {
    return "";
  }
  std::string text(static_cast<size_t>(std::min<int64_t>(info.st_size, kMostRead)), '\0');
  const ssize_t got = pread(fd.get(), text.data(), text.size(), info.st_size - static_cast<off_t>(text.size()));
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) {
    text.pop_back();
  }
  constexpr std::string_view kError = "error: ";
  const size_t error = text.starts_with(kError) ? 0 : text.rfind("\nerror: ");
  const size_t line = error != std::string::npos ? error : text.rfind('\n');
  text.erase(0, line == std::string::npos ? 0 : text.find_first_not_of('\n', line));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return VisibleText(text);
}

/// A verdict that another process recorded than the one which executed the attempt (dead_run.cpp).
bool IsAfterwards(const Record& record) { return record.type == RecordType::Verdict && record.text.starts_with("{\"afterwards\":"); }

Result<RunSummary> Summarize(JournalReader& journal, const std::string& run_dir, SummaryPlace& place) {
  RunSummary out;
  const RunHeader& header = journal.header();
  out.id = header.id;
  out.name = header.name;
  out.source = header.source;
  out.profile = header.profile;
  out.created_ms = header.created_ms;
  out.running = RunLock::Holder(run_dir).has_value();
  auto number = journal.LastNumber();
  if (!number) {
    return number.error();
  }
  auto newer = journal.Last(RecordType::Finished, std::max(place.searched, *number - kMostAfterTheEnd));
  if (!newer) {
    return newer.error();
  }
  if (*newer) {
    place.finished = *std::move(newer);
  }
  place.searched = std::max(place.searched, *number);
  const std::optional<Record>& last = place.finished;
  // A resumed run has a Finished record of its first life.
  bool went_on = false;
  if (last) {
    auto opened = journal.Last(RecordType::Opened, last->seq);
    if (!opened) {
      return opened.error();
    }
    went_on = opened->has_value();
  }
  auto lost = journal.Lost();
  if (!lost) {
    return lost.error();
  }
  out.lost = *lost;
  if (last && !went_on) {
    out.finished = true;
    out.running = false;
    out.ended_ms = last->time_ms;
    out.exit_code = static_cast<int>(last->a);
    if (auto json = ir::ParseJson(last->text)) {
      out.status = TextOf(*json, "status");
      out.message = TextOf(*json, "message");
      out.exports_sum = IntOf(*json, "exports", -1);
    }
  } else {
    out.status = out.running ? "running" : "crashed";
    if (!out.running) {
      const std::string words = LastWords(run_dir, journal);
      out.message = words.starts_with("error: ") ? "the process that executed it could not record its end" : "the process that executed it ended without a word";
      if (!words.empty()) {
        out.message += fmt::format("; last in `{}/console.log`: {}", run_dir, words);
      }
    }
  }
  return out;
}

}  // namespace

std::pair<std::string, std::string> SplitAddressField(std::string_view text) {
  // A dot inside quotes belongs to a key.
  bool quoted = false;
  size_t dot = std::string_view::npos;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && text[i] == '.') {
      dot = i;
      break;
    }
  }
  if (dot == std::string_view::npos) {
    return {std::string(text), ""};
  }
  return {std::string(text.substr(0, dot)), std::string(text.substr(dot + 1))};
}

Result<RunSummary> SummarizeRun(const std::string& state_dir, const std::string& id) {
  std::string run_dir = RunDir(state_dir, id);
  auto journal = JournalReader::Open(run_dir + "/journal.db");
  if (!journal) {
    return journal.error();
  }
  SummaryPlace place;
  return Summarize(*journal, run_dir, place);
}

int64_t EndOfProgram(const AttemptView& attempt) {
  return attempt.exited_ms != 0 ? attempt.exited_ms : attempt.cut_off || attempt.afterwards ? 0 : attempt.judged_ms;
}

RunReader::~RunReader() = default;

Result<std::unique_ptr<RunReader>> RunReader::Open(const std::string& state_dir, const std::string& id) {
  auto reader = OpenUnread(state_dir, id);
  if (reader) {
    if (auto done = (*reader)->Refresh(); !done) {
      return done.error();
    }
  }
  return reader;
}

Result<std::unique_ptr<RunReader>> RunReader::OpenUnread(const std::string& state_dir, const std::string& id) {
  std::unique_ptr<RunReader> reader(new RunReader());
  reader->state_dir_ = state_dir;
  reader->run_dir_ = RunDir(state_dir, id);
  auto journal = JournalReader::Open(reader->run_dir_ + "/journal.db");
  if (!journal) {
    return journal.error();
  }
  reader->journal_.emplace(*std::move(journal));
  auto text = reader->journal_->PlanText();
  if (!text) {
    return text.error();
  }
  auto plan = ir::ReadPlan(*text);
  if (!plan) {
    return Error{fmt::format("the plan of run {} cannot be read: {}", id, plan.error().message)};
  }
  reader->plan_ = std::make_unique<ir::Plan>(*std::move(plan));
  reader->evaluator_ = std::make_unique<ir::Evaluator>(reader->plan_->program);
  reader->jobs_.resize(reader->plan_->jobs.size());
  auto summary = Summarize(*reader->journal_, reader->run_dir_, reader->place_);
  if (!summary) {
    return summary.error();
  }
  reader->summary_ = *std::move(summary);
  // Static domains are a function of the plan: also what never began is shown.
  for (uint32_t job = 0; job < reader->jobs_.size(); ++job) {
    reader->Expanded(job);
  }
  return reader;
}

const RunHeader& RunReader::header() const { return journal_->header(); }

Result<void> RunReader::Refresh(const std::function<void(const Record&)>& visit) {
  auto summary = Summarize(*journal_, run_dir_, place_);
  if (!summary) {
    return summary.error();
  }
  summary_ = *std::move(summary);
  auto scanned = journal_->Scan(last_seq_, [&](const Record& record) {
    Fold(record);
    last_seq_ = record.seq;
    // Whoever ends what a dead process has left behind is no sign of its life.
    if (!IsAfterwards(record) && (record.type != RecordType::Reaped || !record.text.empty())) {
      last_ms_ = std::max(last_ms_, record.time_ms);
    }
    if (visit) {
      visit(record);
    }
    return true;
  });
  if (!scanned) {
    return scanned;
  }
  return problem_ ? Result<void>(*problem_) : Result<void>();
}

RunReader::JobFold& RunReader::Expanded(uint32_t job) {
  JobFold& fold = jobs_[job];
  if (!fold.instances && !plan_->jobs[job].domain.dynamic) {
    ir::EvalContext context;
    auto instances = ir::Instances::Expand(*plan_, job, *evaluator_, context);
    if (instances) {
      fold.instances = *std::move(instances);
      fold.states.resize(fold.instances->size(), InstanceState::Waiting);
    }
  }
  return fold;
}

RunReader::Folded& RunReader::Of(const Record& record) {
  JobFold& job = Expanded(static_cast<uint32_t>(record.job));
  if (record.ordinal < 0) {
    return job.of_whole;
  }
  if (static_cast<uint64_t>(record.ordinal) >= job.states.size()) {
    stray_ = Folded();
    return stray_;
  }
  if (job.folded.empty()) {
    job.folded.resize(job.states.size());
  }
  return job.folded[static_cast<size_t>(record.ordinal)];
}

const RunReader::Folded* RunReader::Find(InstanceRef instance) const {
  const JobFold& job = jobs_[instance.job];
  if (instance.ordinal == kWholeJob) {
    return &job.of_whole;
  }
  return instance.ordinal < job.folded.size() ? &job.folded[instance.ordinal] : nullptr;
}

namespace {
/// Nearly every attempt ends like this: one object for all of them.
std::shared_ptr<const Verdict> SharedVerdict(const Record& record) {
  static const auto kSuccess = std::make_shared<const Verdict>(VerdictFromRecord({.a = -1, .b = 0}));
  return record.a < 0 && record.b == 0 ? kSuccess : std::make_shared<const Verdict>(VerdictFromRecord(record));
}
}  // namespace

void RunReader::Fold(const Record& record) {
  if (record.job >= static_cast<int32_t>(jobs_.size())) {
    problem_ = Error{fmt::format("the journal names job number {}, its plan has {}", record.job, jobs_.size())};
    return;
  }
  auto set_state = [&](InstanceState state, uint64_t count = 1) {
    JobFold& fold = Expanded(static_cast<uint32_t>(record.job));
    if (record.ordinal < 0) {
      fold.whole = state;
      return;
    }
    for (uint64_t i = 0; i < count && static_cast<uint64_t>(record.ordinal) + i < fold.states.size(); ++i) {
      fold.states[static_cast<size_t>(record.ordinal) + i] = state;
    }
  };
  auto attempt = [&]() -> AttemptView& {
    Folded& folded = Of(record);
    // The latest of this number: `jobc retry` counts anew.
    for (size_t i = folded.attempts.size(); i-- > 0 && record.type != RecordType::Intent;) {
      if (folded.attempts[i].number == static_cast<uint32_t>(record.attempt)) {
        return folded.attempts[i];
      }
    }
    folded.attempts.emplace_back();
    folded.attempts.back().number = static_cast<uint32_t>(record.attempt);
    return folded.attempts.back();
  };
  // `{"key":"…64 digits…","parts":…`: the parts are read again when somebody asks for them.
  auto take_key = [&] {
    constexpr std::string_view kHead = "{\"key\":\"";
    if (record.text.size() > kHead.size() + 64 && record.text.compare(0, kHead.size(), kHead) == 0) {
      Folded& folded = Of(record);
      folded.key = PackHex(std::string_view(record.text).substr(kHead.size(), 64));
      folded.key_record = record.seq;
    }
  };
  switch (record.type) {
    case RecordType::Opened:
      if (auto json = ir::ParseJson(record.text)) {
        boot_ = TextOf(*json, "boot");
        host_ = TextOf(*json, "host");
      }
      // Attempts of an earlier process that have no verdict were lost with it.
      for (JobFold& fold : jobs_) {
        auto lose = [&](Folded& folded) {
          for (AttemptView& view : folded.attempts) {
            if (view.verdict == nullptr) {
              view.verdict = std::make_shared<const Verdict>(Failed(ir::ErrorKind::NodeLost, "jobc ended while it ran"));
              view.judged_ms = std::max({last_ms_, view.intent_ms, view.started_ms});
              view.cut_off = true;
            }
          }
        };
        lose(fold.of_whole);
        std::for_each(fold.folded.begin(), fold.folded.end(), lose);
      }
      for (JobFold& fold : jobs_) {
        for (InstanceState& state : fold.states) {
          if (state == InstanceState::Running || state == InstanceState::Backoff || state == InstanceState::Blocked || state == InstanceState::Cancelled) {
            state = InstanceState::Waiting;
          }
        }
      }
      break;
    case RecordType::Intent: {
      AttemptView& view = attempt();
      view.id = static_cast<AttemptId>(record.a);
      view.intent_ms = record.time_ms;
      view.ready_ms = record.b;
      last_attempt_ = std::max(last_attempt_, view.id);
      set_state(InstanceState::Running);
      if (Folded& folded = Of(record); folded.reused) {
        folded.reused.reset();
        --jobs_[static_cast<size_t>(record.job)].reused;
      }
      take_key();
      break;
    }
    case RecordType::Started: {
      AttemptView& view = attempt();
      view.started_ms = record.b != 0 ? record.b : record.time_ms;
      view.pid = record.a;
      view.handle = record.text;
      JobFold& job = jobs_[static_cast<size_t>(record.job)];
      job.began_ms = job.began_ms == 0 ? view.started_ms : std::min(job.began_ms, view.started_ms);
      break;
    }
    case RecordType::Verdict: {
      AttemptView& view = attempt();
      view.verdict = SharedVerdict(record);
      if (auto json = view.verdict->success && !record.text.empty() ? ir::ParseJson(record.text) : Result<ir::Value>(Error{})) {
        view.outputs_sum = IntOf(*json, "outputs", -1);
      }
      if (view.cut_off) {
        view.afterwards = true;  // judged_ms stays that of the process which executed it
        view.cut_off = false;
      } else if (const auto json = IsAfterwards(record) ? ir::ParseJson(record.text) : Result<ir::Value>(Error{})) {
        view.afterwards = true;
        view.judged_ms = std::max({IntOf(*json, "afterwards", 0), view.intent_ms, view.started_ms});
      } else {
        view.judged_ms = record.time_ms;
      }
      if (view.started_ms != 0) {
        JobFold& job = jobs_[static_cast<size_t>(record.job)];
        job.ended_ms = std::max(job.ended_ms, view.judged_ms);
      }
      break;
    }
    case RecordType::Reaped: {
      AttemptView& view = attempt();
      view.reaped_ms = record.time_ms;
      if (!record.text.empty()) {
        view.cpu_ms = record.a;
        view.max_memory = record.b;
        view.exited_ms = std::strtoll(record.text.c_str(), nullptr, 10);
      }
      break;
    }
    case RecordType::Final:
      set_state(static_cast<InstanceState>(std::clamp<int64_t>(record.a, 0, kInstanceStates - 1)), static_cast<uint64_t>(std::max<int64_t>(record.b, 1)));
      if (record.ordinal >= 0 && record.b <= 1) {
        // It was about to start when an expression of it failed: there was no attempt.
        std::vector<AttemptView>& attempts = Of(record).attempts;
        if (!attempts.empty() && !attempts.back().verdict && attempts.back().started_ms == 0) attempts.pop_back();
      }
      if (!record.text.empty()) {
        Record copy = record;
        copy.a = 0;
        copy.b = -1;
        Verdict verdict = VerdictFromRecord(copy);
        if (auto json = ir::ParseJson(record.text)) {
          if (auto kind = ir::KindFromName(TextOf(*json, "kind"))) {
            verdict.kind = *kind;
          }
        }
        Of(record).verdict = std::make_shared<const Verdict>(std::move(verdict));
      }
      break;
    case RecordType::Expanded: {
      uint32_t job = static_cast<uint32_t>(record.job);
      JobFold& fold = jobs_[job];
      if (fold.instances) {
        break;
      }
      ir::EvalContext context;
      auto json = ir::ParseJson(record.text);
      ir::TypeId type = plan_->program.exprs[plan_->jobs[job].domain.list].type;
      ir::DecodeOptions options;
      options.file_base = ir::FileBase::Job;
      auto list = json ? ir::DecodeJson(*json, type, *evaluator_, context, options) : Result<ir::Value>(json.error());
      if (!list) {
        problem_ = Error{fmt::format("the journal's domain of {} cannot be read: {}", plan_->jobs[job].address, list.error().message)};
        break;
      }
      fold.list = PlaceFiles(*plan_, *list, type, run_dir_);
      auto instances = ir::Instances::Expand(*plan_, job, *evaluator_, context, &*fold.list);
      if (instances) {
        fold.instances = *std::move(instances);
        fold.states.resize(fold.instances->size(), InstanceState::Waiting);
      }
      break;
    }
    case RecordType::Retry: {
      Folded& folded = Of(record);
      folded.next_attempt_ms = record.time_ms + record.a;
      folded.history = record.text;
      set_state(InstanceState::Backoff);
      break;
    }
    case RecordType::Mode:
    case RecordType::Stop:
    case RecordType::Finished: break;
    case RecordType::Note:
      if (record.a == kNoteOfLate) late_answers_ += static_cast<uint64_t>(std::max<int64_t>(record.b, 0));
      if (record.a == kNoteOfStaged && record.job >= 0) staged_[{record.job, record.ordinal, record.attempt}] = record.text;
      break;
    case RecordType::Key: jobs_[static_cast<size_t>(record.job)].key_record = record.seq; break;
    case RecordType::Reused: {
      take_key();
      Folded& folded = Of(record);
      if (folded.reused == nullptr) ++jobs_[static_cast<size_t>(record.job)].reused;
      ReusedView reused{"", "", static_cast<uint32_t>(record.attempt), record.a, record.b};
      if (auto json = ir::ParseJson(record.text)) {
        reused.run = TextOf(*json, "run");
        reused.address = TextOf(*json, "address");
      }
      folded.reused = std::make_shared<const ReusedView>(std::move(reused));
      break;
    }
    case RecordType::Adopted: {
      AttemptView& view = attempt();
      view.afterwards = false;
      if (view.cut_off) {
        view.verdict.reset();
        view.judged_ms = 0;
        view.cut_off = false;
      }
      if (!record.text.empty()) {
        if (auto json = ir::ParseJson(record.text)) {
          const std::string run = TextOf(*json, "run");
          const AttemptOrigin origin{run, RunDir(state_dir_, run), static_cast<AttemptId>(IntOf(*json, "attempt", 0))};
          view.origin = run == header().id ? nullptr : std::make_shared<const AttemptOrigin>(origin);
        }
      }
      set_state(InstanceState::Running);
      break;
    }
    case RecordType::Ahead: ahead_ += static_cast<uint64_t>(std::max<int64_t>(record.a, 0)); break;
  }
}

uint64_t RunReader::size(uint32_t job) const { return jobs_[job].states.size(); }

InstanceState RunReader::state(InstanceRef instance) const {
  const JobFold& fold = jobs_[instance.job];
  return instance.ordinal == kWholeJob || instance.ordinal >= fold.states.size() ? fold.whole : fold.states[instance.ordinal];
}

std::array<uint64_t, kInstanceStates> RunReader::Counts(uint32_t job) const {
  std::array<uint64_t, kInstanceStates> counts{};
  for (InstanceState state : jobs_[job].states) {
    ++counts[static_cast<size_t>(state)];
  }
  if (!jobs_[job].instances) {
    ++counts[static_cast<size_t>(jobs_[job].whole)];
  }
  return counts;
}

std::string RunReader::Address(InstanceRef instance) const {
  const JobFold& fold = jobs_[instance.job];
  return instance.ordinal == kWholeJob || !fold.instances ? plan_->jobs[instance.job].address : fold.instances->Address(instance.ordinal);
}

InstanceView RunReader::View(InstanceRef instance) const {
  InstanceView view;
  view.instance = instance;
  view.address = Address(instance);
  view.state = state(instance);
  if (const Folded* folded = Find(instance)) {
    view.attempts = folded->attempts;
    if (folded->verdict != nullptr) {
      view.verdict = *folded->verdict;
    }
    if (!view.attempts.empty() && view.attempts.back().verdict) {
      const Verdict& last = *view.attempts.back().verdict;
      if (!view.verdict) {
        view.verdict = last;
      } else if (view.verdict->kind == last.kind) {
        view.verdict->exit_code = last.exit_code;  // a final record holds the reason only
      }
    }
    if (view.state == InstanceState::Succeeded && view.attempts.empty() && folded->reused != nullptr) view.reused = *folded->reused;
    view.next_attempt_ms = view.state == InstanceState::Backoff ? folded->next_attempt_ms : 0;
  }
  return view;
}

std::string RunReader::StagedAt(InstanceRef instance, uint32_t number) const {
  auto found = staged_.find({instance.job, instance.ordinal == kWholeJob ? -1 : static_cast<int64_t>(instance.ordinal), number});
  return found == staged_.end() ? std::string() : found->second;
}

std::string RunReader::KeyOf(InstanceRef instance) const {
  const Folded* folded = Find(instance);
  return folded == nullptr ? std::string() : HexOf(folded->key);
}

bool RunReader::reused(InstanceRef instance) const {
  const Folded* folded = Find(instance);
  return folded != nullptr && folded->reused != nullptr && folded->attempts.empty();
}

Result<std::optional<KeyParts>> RunReader::KeyPartsOf(InstanceRef instance) {
  const Folded* folded = Find(instance);
  if (folded == nullptr || folded->key_record == 0) return std::optional<KeyParts>();
  KeyParts parts;
  for (int64_t seq : {jobs_[instance.job].key_record, folded->key_record}) {
    if (seq == 0) continue;
    std::string text;
    auto scanned = journal_->Scan(seq - 1, [&](const Record& record) {
      text = record.text;
      return false;
    });
    if (!scanned) return scanned.error();
    if (auto key = KeyFromJson(text)) {
      for (auto& [name, json] : key->own) parts[name] = std::move(json);
    }
  }
  return std::optional<KeyParts>(std::move(parts));
}

const AttemptView* RunReader::LastAttempt(InstanceRef instance) const {
  const Folded* folded = Find(instance);
  return folded == nullptr || folded->attempts.empty() ? nullptr : &folded->attempts.back();
}

std::string RunReader::RetryHistoryJson(InstanceRef instance) const {
  const Folded* folded = Find(instance);
  return folded == nullptr ? std::string() : folded->history;
}

Result<std::vector<InstanceRef>> RunReader::Find(const std::string& address) const {
  std::string job_name = address.substr(0, address.find('['));
  std::vector<std::string> names;
  for (uint32_t job = 0; job < jobs_.size(); ++job) {
    if (plan_->jobs[job].address != job_name) {
      names.push_back(plan_->jobs[job].address);
      continue;
    }
    std::vector<InstanceRef> out;
    const JobFold& fold = jobs_[job];
    if (address == job_name) {
      if (!fold.instances) {
        out.push_back({job, kWholeJob});
      }
      for (uint32_t i = 0; i < fold.states.size(); ++i) {
        out.push_back({job, i});
      }
      return out;
    }
    for (uint32_t i = 0; i < fold.states.size(); ++i) {
      if (fold.instances->Address(i) == address) {
        return std::vector<InstanceRef>{{job, i}};
      }
    }
    std::string some;
    for (uint32_t i = 0; i < fold.states.size() && i < 3; ++i) {
      some += (i == 0 ? "" : ", ") + fold.instances->Address(i);
    }
    return Error{fmt::format("`{}` has no instance `{}`{}", job_name, address, some.empty() ? "" : "; it has " + some + (fold.states.size() > 3 ? ", …" : "")), ENOENT};
  }
  std::string some;
  for (size_t i = 0; i < names.size() && i < 8; ++i) {
    some += (i == 0 ? "`" : ", `") + names[i] + "`";
  }
  return Error{fmt::format("this run has no job `{}`; it has {}{}", job_name, some, names.size() > 8 ? ", …" : ""), ENOENT};
}

std::vector<InstanceRef> RunReader::FailedInstances() const {
  std::vector<InstanceRef> out;
  for (uint32_t job = 0; job < jobs_.size(); ++job) {
    for (uint32_t i = 0; i < jobs_[job].states.size(); ++i) {
      if (jobs_[job].states[i] == InstanceState::Failed) {
        out.push_back({job, i});
      }
    }
    if (!jobs_[job].instances && jobs_[job].whole == InstanceState::Failed) {
      out.push_back({job, kWholeJob});
    }
  }
  return out;
}

void RunReader::ForEachInstance(const std::function<void(InstanceRef, const std::vector<AttemptView>&)>& visit) const {
  for (uint32_t job = 0; job < jobs_.size(); ++job) {
    if (!jobs_[job].of_whole.attempts.empty()) {
      visit({job, kWholeJob}, jobs_[job].of_whole.attempts);
    }
    for (uint32_t i = 0; i < jobs_[job].folded.size(); ++i) {
      if (!jobs_[job].folded[i].attempts.empty()) {
        visit({job, i}, jobs_[job].folded[i].attempts);
      }
    }
  }
}

RunProgress RunReader::Progress() const {
  RunProgress out;
  out.name = header().name.empty() ? header().id : header().name;
  out.state = summary_.status;
  const int64_t now = summary_.finished ? summary_.ended_ms : summary_.running ? process::WallMillis() : last_ms_;
  out.elapsed_ms = std::max<int64_t>(0, now - header().created_ms);
  for (uint32_t job = 0; job < jobs_.size(); ++job) {
    const ir::Job& declared = plan_->jobs[job];
    if (declared.kind == ir::JobKind::Hook) {
      continue;
    }
    auto counts = Counts(job);
    JobProgress row;
    row.name = declared.address;
    row.scatter = !declared.domain.single();
    row.expanded = jobs_[job].instances.has_value();
    row.waiting = row.expanded || jobs_[job].whole != InstanceState::Waiting ? counts[static_cast<size_t>(InstanceState::Waiting)] : 0;
    row.queued = counts[static_cast<size_t>(InstanceState::Ready)];
    (summary_.running ? row.running : row.lost) = counts[static_cast<size_t>(InstanceState::Running)];
    row.retrying = counts[static_cast<size_t>(InstanceState::Backoff)];
    row.succeeded = counts[static_cast<size_t>(InstanceState::Succeeded)];
    row.cached = std::min(jobs_[job].reused, row.succeeded);
    row.failed = counts[static_cast<size_t>(InstanceState::Failed)];
    row.tolerated = declared.on_error == ir::Strategy::Ignore ? row.failed : 0;
    row.skipped = counts[static_cast<size_t>(InstanceState::Skipped)];
    row.blocked = counts[static_cast<size_t>(InstanceState::Blocked)];
    row.cancelled = counts[static_cast<size_t>(InstanceState::Cancelled)];
    out.jobs.push_back(std::move(row));
  }
  size_t shown = 0;
  for (uint32_t job = 0; job < jobs_.size(); ++job) {
    if (plan_->jobs[job].kind == ir::JobKind::Hook) {
      continue;
    }
    JobProgress& row = out.jobs[shown++];
    if (jobs_[job].began_ms != 0) {
      const int64_t until = row.lost > 0 || (summary_.running && row.running + row.retrying > 0) ? now : jobs_[job].ended_ms;
      row.elapsed_ms = std::max<int64_t>(0, until - jobs_[job].began_ms);
    }
  }
  return out;
}

Result<std::string> RunReader::Exports() {
  auto json = journal_->Exports();
  if (json && summary_.finished && summary_.exports_sum >= 0 && ChecksumOfExports(*json) != summary_.exports_sum) {
    return Error{fmt::format("the journal `{}/journal.db` is damaged (the exports in it are not those of the run's end)", run_dir_), EILSEQ};
  }
  return json;
}

AttemptId RunReader::next_attempt() const {
  // What was lost may have started attempts, each with a record of its own or ahead of it.
  const uint64_t unknown = summary_.lost > 0 ? static_cast<uint64_t>(summary_.lost) + kMostAhead : 0;
  return last_attempt_ + ahead_ + unknown + 1;
}

bool RunReader::Fits(InstanceRef instance, const std::optional<StoredOutputs>& stored) const {
  const Folded* folded = Find(instance);
  if (folded == nullptr || folded->attempts.empty() || state(instance) != InstanceState::Succeeded) {
    return true;
  }
  const AttemptView& last = folded->attempts.back();
  return last.outputs_sum < 0 || (stored && ChecksumOf(*stored) == last.outputs_sum);
}

Result<std::optional<StoredOutputs>> RunReader::Outputs(InstanceRef instance) {
  auto read = [&] { return journal_->Outputs(static_cast<int32_t>(instance.job), instance.ordinal); };
  auto stored = read();
  if (stored && !Fits(instance, *stored)) {
    // The run goes on, and this reader was behind.
    if (auto done = Refresh(); !done) {
      return done.error();
    }
    stored = read();
    if (stored && !Fits(instance, *stored)) {
      return Error{fmt::format("the journal `{}/journal.db` is damaged (the outputs of {} are {})", run_dir_, Address(instance),
                               *stored ? "not those of its last attempt" : "missing"), EILSEQ};
    }
  }
  return stored;
}

Result<std::string> RunReader::ResultJson(InstanceRef instance, const std::string& field) {
  const ir::Job& job = plan_->jobs[instance.job];
  auto stored = Outputs(instance);
  if (!stored) {
    return stored.error();
  }
  const auto declared = [&](std::string_view name) { return std::any_of(job.outputs.begin(), job.outputs.end(), [&](const ir::Output& output) { return output.name == name; }); };
  if (field == "staged" && !declared(field)) {
    const AttemptView* last = LastAttempt(instance);
    const std::string at = last == nullptr ? std::string() : StagedAt(instance, last->number);
    return at.empty() ? std::string("null") : ir::JsonQuote(at);
  }
  if (!field.empty() && field != "result" &&
      std::none_of(job.outputs.begin(), job.outputs.end(), [&](const ir::Output& output) { return output.name == field; })) {
    std::string names;
    for (const ir::Output& output : job.outputs) {
      names += (names.empty() ? "`" : ", `") + output.name + "`";
    }
    return Error{fmt::format("`{}` has no output `{}`; it has {}", job.address, field, names.empty() ? "none" : names), ENOENT};
  }
  if (!*stored || state(instance) != InstanceState::Succeeded) {
    if (job.outputs.empty() && state(instance) == InstanceState::Succeeded) {
      return std::string(field.empty() ? "{}" : "null");
    }
    return Error{fmt::format("`{}` has no result: it is {}", Address(instance), StateName(state(instance))), ENODATA};
  }
  if (field == "result") {
    return (*stored)->result.empty() ? std::string("null") : (*stored)->result;
  }
  ir::EvalContext plain;
  auto values = DecodeOutputs(*plan_, instance.job, (*stored)->outputs, run_dir_, *evaluator_, plain);
  if (!values) {
    return values.error();
  }
  World world(*plan_, {header().root, header().cwd}, {});
  std::string out = "{";
  for (size_t i = 0; i < job.outputs.size(); ++i) {
    std::string text = "null";
    if (!(*values)[i].is_null()) {
      auto encoded = ir::EncodeJson((*values)[i], job.outputs[i].type, plan_->program, world);
      if (!encoded) {
        return encoded.error();
      }
      text = *std::move(encoded);
    }
    if (job.outputs[i].name == field) {
      return text;
    }
    out += (i == 0 ? "" : ",") + ir::JsonQuote(job.outputs[i].name) + ":" + text;
  }
  return out + "}";
}

}  // namespace jobc
