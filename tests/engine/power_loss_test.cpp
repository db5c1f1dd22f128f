// What a power loss, or a disk that loses bytes, makes of the journal of a run: nothing that anybody was told of is missing
// without a word, nothing is read that was not written, and `resume` ends with the results of an undisturbed run.
#include <fcntl.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>

#include "runtime/run_reader.h"
#include "tests/engine/recording_vfs.h"
#include "tests/engine/run_fixture.h"

namespace jobc {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::JournalFiles;
using testing::RecordingVfs;
using Unsynced = RecordingVfs::Unsynced;

/// JOBC_POWER_LOSSES: how many times as many random cases (1).
size_t Scale() {
  const char* text = std::getenv("JOBC_POWER_LOSSES");
  return text != nullptr ? std::max<size_t>(1, std::strtoull(text, nullptr, 10)) : 1;
}

void Put(const std::string& path, const std::optional<std::string>& bytes) {
  unlink(path.c_str());
  if (bytes) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_GE(fd, 0);
    for (size_t done = 0; done < bytes->size();) {
      const ssize_t count = write(fd, bytes->data() + done, bytes->size() - done);
      ASSERT_GT(count, 0);
      done += static_cast<size_t>(count);
    }
    close(fd);
  }
}

/// All that a journal tells.
struct Content {
  std::vector<std::string> records;
  std::map<std::string, std::string> outputs;  ///< of what succeeded
  std::string exports;
  std::string head;
  bool finished = false;
  int64_t lost = 0;
};

std::string Line(const Record& r) {
  return fmt::format("{} {} {} {} {} {} {} {} {}", r.seq, r.time_ms, RecordName(r.type), r.job, r.ordinal, r.attempt, r.a, r.b, r.text);
}

class PowerLoss : public testing::RunTest {
 protected:
  /// Scatters, chains, a domain that a job computes, retries, a tolerated failure, outputs of all kinds, `finally`.
  void MakePlan() {
    const ir::TypeId ints = b.types().List(Int());
    uint32_t first = Sh("first", "echo '{\"n\": 41, \"list\": [3, 1, 2]}' > $JOB_RESULT");
    const uint32_t n = Output(first, "n", Int(), ir::OutputKind::Json);
    const uint32_t list = Output(first, "list", ints, ir::OutputKind::Json);
    uint32_t part = b.Scatter("part", 8);
    b[part].run = Words({"sh", "-c", "echo part $JOB_KEY > f"});
    Output(part, "f", File(), ir::OutputKind::Path, b.Str("f"));
    b.After(part, first);
    uint32_t wide = b.Scatter("wide", b.Output(first, list, ints), true);
    b[wide].run = Words({"sh", "-c", "echo \"{\\\"k\\\": $JOB_KEY}\" > $JOB_RESULT"});
    const uint32_t k = Output(wide, "k", Int(), ir::OutputKind::Json);
    b.Needs(wide, first);
    uint32_t flaky = b.Scatter("flaky", 3);
    b[flaky].run = Words({"sh", "-c", "test $JOB_ATTEMPT -gt 2"});
    b.Retry(flaky, 50, {testing::OnKind(ir::ErrorKind::Exit)}, 5);
    uint32_t bad = Sh("bad", "exit 3");
    b.OnError(bad, ir::Strategy::Ignore);
    uint32_t last = Sh("last", "echo all > f");
    Output(last, "f", File(), ir::OutputKind::Path, b.Str("f"));
    for (uint32_t job : {part, wide, flaky}) {
      b.After(last, job);
    }
    uint32_t free = Sh("free", "echo '{\"anything\": true}' > $JOB_RESULT");  // a result, but no declared output
    b.After(free, first);
    Sh("tidy", ":", ir::JobKind::Finally);
    Export("n", Int(), b.Output(first, n, Int()));
    Export("k", Int(), b.Output(wide, k, Int(), {b.Int(2)}));
    options.max_parallel = 3;
    options.handle_signals = false;
  }

  EngineSetup Configure(const std::string& state) {
    EngineSetup setup;
    setup.plan = &b.plan;
    setup.plan_text = ir::WritePlan(b.plan);
    setup.roots = {dir / "src", dir / "src"};
    setup.state_dir = state;
    setup.options = options;
    setup.backends = [this](ir::BackendKind kind, const BackendHost& host) { return Made(kind, host); };
    setup.observer = &watcher;
    return setup;
  }

  /// Passes everything on and notes when an attempt is handed over.
  class Noting : public Backend {
   public:
    Noting(std::unique_ptr<Backend> real, PowerLoss& test) : real_(std::move(real)), test_(test) {}
    Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override { return real_->Prepare(id, secrets); }
    void Submit(const AttemptLaunch& launch) override {
      if (test_.vfs_recording) {
        test_.submitted.push_back({launch.instance, static_cast<int32_t>(launch.number)});
        test_.vfs.Note(-static_cast<int64_t>(test_.submitted.size()));
      }
      real_->Submit(launch);
    }
    void Cancel(AttemptId id, int64_t grace_ms) override { real_->Cancel(id, grace_ms); }
    bool Withdraw(AttemptId id) override { return real_->Withdraw(id); }
    void Attach(const AttemptLaunch& launch, const std::string& handle) override { real_->Attach(launch, handle); }
    void Release(AttemptId id, bool keep) override { real_->Release(id, keep); }
    void RemoveLater(const std::string& path) override { real_->RemoveLater(path); }
    uint64_t LastOutput(AttemptId id) const override { return real_->LastOutput(id); }
    void Stop() override { real_->Stop(); }

   private:
    std::unique_ptr<Backend> real_;
    PowerLoss& test_;
  };
  Result<std::unique_ptr<Backend>> Made(ir::BackendKind kind, const BackendHost& host) {
    auto made = MakeBackend(kind, host);
    if (!made) {
      return made.error();
    }
    return std::unique_ptr<Backend>(std::make_unique<Noting>(*std::move(made), *this));
  }

  /// A whole run with everything that its journal wrote. Notes are record numbers that somebody was told of; negative ones
  /// say which entry of `submitted` began.
  void RunRecorded() {
    watcher.on_event = [this](const RunEvent& event) {
      if (event.record > 0) {
        vfs.Note(event.record);
      }
    };
    vfs.Start();
    vfs_recording = true;
    StartFailure failure;
    auto run = Engine::Start(Configure(dir / "state"), failure);
    ASSERT_NE(run, nullptr) << failure.message;
    outcome = run->Run();
    run.reset();
    vfs.Stop();
    vfs_recording = false;
    watcher.on_event = {};
    ASSERT_EQ(outcome.exit_code, 0) << outcome.message;
    auto content = Read(dir / "state");
    ASSERT_TRUE(content.ok()) << content.error().message;
    whole = *std::move(content);
    ASSERT_EQ(whole.exports, R"({"n":41,"k":2})");
    // Records by what they are about, to know what an attempt needs.
    auto reader = RunReader::Open(dir / "state", outcome.run_id);
    ASSERT_TRUE(reader.ok());
    auto journal = JournalReader::Open(outcome.run_dir + "/journal.db");
    ASSERT_TRUE(journal.ok());
    ASSERT_TRUE(journal->Scan(0, [&](const Record& record) {
      all.push_back(record);
      return true;
    }).ok());
    CheckLegal();
  }

  /// An attempt begins after an intent (of its own or ahead) of an instance without a running attempt, a verdict is the only one of an
  /// attempt that began, a final state follows the verdict it is made of, and what an instance depends on was final before.
  void CheckLegal() {
    struct One {
      int32_t running = 0, attempts = 0;
      bool final = false, success = false;
    };
    std::map<std::pair<int32_t, int64_t>, One> instances;
    for (const Record& r : all) {
      One& one = instances[{r.job, r.ordinal}];
      const std::string line = Line(r);
      switch (r.type) {
        case RecordType::Intent:
          EXPECT_EQ(one.running, 0) << line;
          EXPECT_EQ(r.attempt, one.attempts + 1) << line;
          EXPECT_FALSE(one.final) << line;
          one.attempts = one.running = r.attempt;
          for (const ir::Dependency& need : b.plan.jobs[static_cast<size_t>(r.job)].dependencies) {
            for (const auto& [key, other] : instances) {
              EXPECT_TRUE(key.first != static_cast<int32_t>(need.job) || key.second < 0 || other.final) << line;
            }
          }
          break;
        case RecordType::Started: EXPECT_EQ(one.running, r.attempt) << line; break;
        case RecordType::Verdict:
          EXPECT_EQ(one.running, r.attempt) << line;
          one.running = 0;
          one.success = r.a < 0;
          break;
        case RecordType::Retry:
          EXPECT_FALSE(one.success) << line;
          EXPECT_EQ(r.attempt, one.attempts + 1) << line;
          break;
        case RecordType::Final:
          if (r.b <= 1 && r.ordinal >= 0) {
            EXPECT_FALSE(one.final) << line;
            EXPECT_EQ(one.running, 0) << line;
            EXPECT_EQ(one.success, static_cast<InstanceState>(r.a) == InstanceState::Succeeded) << line;
            one.final = true;
          }
          break;
        default: break;
      }
    }
  }

  /// The number of the record that must be durable before this attempt begins.
  int64_t Needs(const std::pair<InstanceRef, int32_t>& one) const {
    const auto [instance, attempt] = one;
    int64_t intent = 0, ready = 0;
    for (const Record& r : all) {
      const bool own = r.job == static_cast<int32_t>(instance.job) && r.ordinal == static_cast<int64_t>(instance.ordinal);
      if (r.type == RecordType::Final) {
        for (const ir::Dependency& need : b.plan.jobs[instance.job].dependencies) {
          ready = r.job == static_cast<int32_t>(need.job) ? std::max(ready, r.seq) : ready;
        }
      } else if (own && r.type == RecordType::Retry && r.attempt == attempt) {
        intent = 0;  // what was written ahead before it was for earlier attempts
        ready = r.seq;
      } else if (own && r.type == RecordType::Intent && r.attempt == attempt) {
        intent = intent == 0 ? r.seq : intent;
        break;
      } else if (r.type == RecordType::Ahead && r.job == static_cast<int32_t>(instance.job) && r.ordinal <= static_cast<int64_t>(instance.ordinal) &&
                 static_cast<int64_t>(instance.ordinal) < r.ordinal + r.a && intent == 0) {
        intent = r.seq;
      }
    }
    EXPECT_NE(intent, 0);
    EXPECT_LT(ready, intent) << "it was written ahead before it was ready";
    return intent;
  }

  /// Everything a reader can be told by the journal in `state`.
  Result<Content> Read(const std::string& state) {
    const std::string& id = outcome.run_id;
    auto reader = RunReader::OpenUnread(state, id);
    if (!reader) {
      return reader.error();
    }
    Content out;
    if (auto done = (*reader)->Refresh([&](const Record& record) { out.records.push_back(Line(record)); }); !done) {
      return done.error();
    }
    const RunHeader& h = (*reader)->header();
    out.head = fmt::format("{} {} {} {} {} {} {} {} {} {} {}", h.id, h.name, h.created_ms, h.version, h.plan_digest, h.source, h.root, h.cwd, h.profile, h.options,
                           ir::WritePlan((*reader)->plan()));
    for (uint32_t job = 0; job < b.plan.jobs.size(); ++job) {
      for (uint32_t i = 0; i < (*reader)->size(job); ++i) {
        if ((*reader)->state({job, i}) == InstanceState::Succeeded) {
          auto row = (*reader)->Outputs({job, i});
          if (!row) {
            return row.error();
          }
          out.outputs[(*reader)->Address({job, i})] = *row ? (*row)->outputs + (*row)->result : "none";
        }
      }
    }
    out.finished = (*reader)->summary().finished;
    auto exports = (*reader)->Exports();
    if (!exports) {
      return exports.error();
    }
    out.exports = *std::move(exports);
    out.lost = (*reader)->summary().lost;
    return out;
  }

  /// A state directory with the run and these files as its journal.
  std::string Lay(const JournalFiles& files, bool with_outputs) {
    const std::string state = dir / "after";
    const std::string run = state + "/runs/" + outcome.run_id;
    if (with_outputs) {
      (void)process::RemoveTree(state).ok();
      std::filesystem::create_directories(state + "/runs");
      std::filesystem::copy(outcome.run_dir, run, std::filesystem::copy_options::recursive);
    }
    std::filesystem::create_directories(run);
    Put(run + "/journal.db", files.db);
    Put(run + "/journal.db-wal", files.wal);
    Put(run + "/journal.db-mark", files.mark);
    unlink((run + "/journal.db-shm").c_str());
    return state;
  }

  /// `content` is the run as it was at some moment.
  void ExpectBeginning(const Content& content) {
    EXPECT_EQ(content.head, whole.head);
    ASSERT_LE(content.records.size(), whole.records.size());
    EXPECT_TRUE(std::equal(content.records.begin(), content.records.end(), whole.records.begin()));
    for (const auto& [address, outputs] : content.outputs) {
      EXPECT_EQ(outputs, whole.outputs.at(address)) << address;
    }
    EXPECT_THAT(content.exports, AnyOf("", whole.exports));
    if (content.finished) {
      EXPECT_EQ(content.exports, whole.exports);
    }
  }

  RunOutcome Resume(const std::string& state, const ResumeOptions& resume = {}) {
    StartFailure failure;
    auto run = Engine::Resume(Configure(state), outcome.run_id, resume, failure);
    if (run == nullptr) {
      return {.exit_code = failure.exit_code, .message = failure.message};
    }
    return run->Run();
  }

  /// Goes on and comes to the same end, running nothing again that was finished.
  void ExpectSameEnd(const std::string& state, const Content& before, const ResumeOptions& resume = {}) {
    RunOutcome out = Resume(state, resume);
    ASSERT_EQ(out.exit_code, 0) << out.message;
    EXPECT_EQ(out.exports, whole.exports);
    auto after = Read(state);
    ASSERT_TRUE(after.ok()) << after.error().message;
    EXPECT_EQ(after->outputs, whole.outputs);
    EXPECT_EQ(after->lost, 0);
    auto reader = RunReader::Open(state, outcome.run_id);
    for (const auto& [address, outputs] : before.outputs) {
      if (address != "tidy") {
        auto found = (*reader)->Find(address);
        const std::vector<AttemptView> attempts = (*reader)->View(found->at(0)).attempts;
        EXPECT_LE(attempts.back().intent_ms, all.back().time_ms) << address << " had finished and ran again";
      }
    }
    EXPECT_EQ(testing::ReadAll(out.run_dir + "/outputs/last/f"), "all\n");
  }

  RecordingVfs vfs;
  bool vfs_recording = false;
  std::vector<std::pair<InstanceRef, int32_t>> submitted;
  RunOutcome outcome;
  Content whole;
  std::vector<Record> all;
};

TEST_F(PowerLoss, LosesNothingThatAnybodyWasToldOfAndStartsNothingThatIsNotOnTheDisk) {
  MakePlan();
  RunRecorded();
  if (HasFatalFailure()) return;
  const auto& entries = vfs.entries();
  std::mt19937_64 random(7);
  int64_t promised = 0;
  size_t checked = 0, promises = 0, resumed = 0, torn = 0;
  for (size_t count = 0; count <= entries.size(); ++count) {
    bool interesting = count == 0 || count == entries.size();
    if (count > 0) {
      const RecordingVfs::Entry& entry = entries[count - 1];
      if (entry.what == RecordingVfs::What::Note) {
        const int64_t needs = entry.number > 0 ? entry.number : Needs(submitted[static_cast<size_t>(-entry.number - 1)]);
        interesting = needs > promised;
        promises += needs > promised ? 1 : 0;
        promised = std::max(promised, needs);
      } else {
        // Each wait for the disk, just before its end and just after; and some moments between.
        interesting = entry.what == RecordingVfs::What::SyncEnd || (count < entries.size() && entries[count].what == RecordingVfs::What::SyncEnd) || random() % 8 == 0;
      }
    }
    if (!interesting) {
      continue;
    }
    for (size_t variant = 0; variant < 2 + 2 * Scale(); ++variant) {
      const auto unsynced = variant == 0 ? Unsynced::None : variant == 1 ? Unsynced::All : Unsynced::Some;
      SCOPED_TRACE(fmt::format("power lost after {} of {} operations, variant {}", count, entries.size(), variant));
      // How many moments there are depends on what was committed together; each twelfth is gone on from, however many.
      const bool resume = variant > 1 && torn++ % 12 == 0;
      const std::string state = Lay(vfs.After(count, unsynced, random), resume);
      auto content = Read(state);
      ASSERT_TRUE(content.ok()) << content.error().message;
      ExpectBeginning(*content);
      ASSERT_GE(static_cast<int64_t>(content->records.size()), promised) << "something that was told is gone";
      EXPECT_EQ(content->lost, 0);
      ++checked;
      if (resume) {
        ExpectSameEnd(state, *content);
        ++resumed;
      }
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(promises, 20u);
  EXPECT_GT(checked, 200u);
  EXPECT_GT(resumed, 3u);
  RecordProperty("power_losses", static_cast<int>(checked));
  RecordProperty("resumed", static_cast<int>(resumed));
}

TEST_F(PowerLoss, CostsOnlyTheLastMomentsWhereDurabilityIsNormal) {
  MakePlan();
  options.durability = Durability::Normal;
  RunRecorded();
  if (HasFatalFailure()) return;
  const auto& entries = vfs.entries();
  std::mt19937_64 random(8);
  size_t losses = 0, resumed = 0;
  for (size_t round = 0; round < 150 * Scale(); ++round) {
    const size_t count = random() % (entries.size() + 1);
    const auto unsynced = round % 5 == 0 ? Unsynced::None : round % 5 == 1 ? Unsynced::All : Unsynced::Some;
    SCOPED_TRACE(fmt::format("power lost after {} of {} operations, round {}", count, entries.size(), round));
    const bool resume = round % 15 == 0;
    const std::string state = Lay(vfs.After(count, unsynced, random), resume);
    auto content = Read(state);
    ASSERT_TRUE(content.ok()) << content.error().message;
    ExpectBeginning(*content);
    losses += content->lost > 0 ? 1 : 0;
    if (resume) {
      ExpectSameEnd(state, *content);
      ++resumed;
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(losses, 0u) << "the weaker promise was not put to the test";
}

TEST_F(PowerLoss, SurvivesCheckpointsOfALargeLog) {
  outcome.run_dir = dir.path();
  const std::string path = dir / "journal.db";
  std::vector<int64_t> committed;
  vfs.Start();
  {
    auto made = Journal::Create(path, {.id = "0123456789abcdefghij", .options = "{}"}, "plan", Durability::Full);
    ASSERT_TRUE(made.ok()) << made.error().message;
    Journal journal = *std::move(made);
    // 4,000 pages of 4 KiB bring a checkpoint: one about every 16 records.
    for (int i = 1; i <= 40; ++i) {
      Record record;
      record.type = RecordType::Note;
      record.a = i;
      record.text = std::string(1'000'000 + static_cast<size_t>(i), static_cast<char>('a' + i % 26));
      ASSERT_TRUE(journal.Append(record).ok());
      ASSERT_TRUE(journal.Commit().ok());
      vfs.Note(i);
    }
  }
  vfs.Stop();
  const auto& entries = vfs.entries();
  std::mt19937_64 random(9);
  std::vector<size_t> moments;
  size_t database_syncs = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].what == RecordingVfs::What::SyncEnd && entries[i].file == 0) {
      ++database_syncs;
      // Around checkpoints: while pages are copied, before and after the wait, when the log begins anew.
      for (size_t back : {size_t{3000}, size_t{1000}, size_t{1}, size_t{0}}) {
        moments.push_back(i - std::min(i, back));
      }
      moments.push_back(i + 1);
      moments.push_back(i + 2 + random() % 20);
    }
  }
  EXPECT_GE(database_syncs, 3u);
  for (size_t i = 0; i < 12 * Scale(); ++i) {
    moments.push_back(random() % entries.size());
  }
  const std::string copy = dir / "copy.db";
  for (size_t moment : moments) {
    const size_t count = std::min(moment, entries.size());
    int64_t promised = 0;
    for (size_t i = 0; i < count; ++i) {
      promised = entries[i].what == RecordingVfs::What::Note ? entries[i].number : promised;
    }
    const JournalFiles files = vfs.After(count, random() % 4 == 0 ? Unsynced::None : Unsynced::Some, random);
    Put(copy, files.db);
    Put(copy + "-wal", files.wal);
    Put(copy + "-mark", files.mark);
    unlink((copy + "-shm").c_str());
    auto reader = JournalReader::Open(copy);
    ASSERT_TRUE(reader.ok()) << reader.error().message;
    int64_t seen = 0;
    auto scanned = reader->Scan(0, [&](const Record& record) {
      seen = record.a;
      return record.text.size() == 1'000'000 + static_cast<size_t>(record.a);
    });
    ASSERT_TRUE(scanned.ok()) << scanned.error().message;
    EXPECT_GE(seen, promised) << "after " << count << " of " << entries.size();
    EXPECT_EQ(*reader->Lost(), 0);
  }
}

/// Damages files in every way and looks whether one is taken for good that is not.
class Damage : public PowerLoss {
 protected:
  void Judge(const JournalFiles& files, const Content& good, const std::string& how) {
    SCOPED_TRACE(how);
    ++cases;
    const bool resume = cases % 97 == 0;
    const std::string state = Lay(files, resume);
    auto content = Read(state);
    if (!content) {
      ++refused;
      EXPECT_THAT(content.error().message, HasSubstr("journal.db"));
      EXPECT_THAT(content.error().message, AnyOf(HasSubstr("damaged"), HasSubstr("not a journal"), HasSubstr("jobc (format"), HasSubstr("cannot open"))) << content.error().message;
    } else if (content->lost > 0) {
      ++lossy;
      EXPECT_LT(content->records.size(), good.records.size());
      ExpectBeginning(*content);
    } else {
      EXPECT_TRUE(content->records == good.records) << "a record is not as it was written";
      EXPECT_EQ(content->outputs, good.outputs);
      EXPECT_EQ(content->head, good.head);
      EXPECT_EQ(content->exports, good.exports);
      EXPECT_EQ(content->finished, good.finished);
    }
    // To go on is refused with a reason, or leads to the same end.
    if (resume) {
      RunOutcome out = Resume(state);
      if (out.exit_code == 0) {
        EXPECT_EQ(out.exports, whole.exports);
        EXPECT_TRUE(content.ok() && content->lost == 0);
      } else {
        EXPECT_EQ(out.exit_code, 15) << out.message;
        EXPECT_THAT(out.message, HasSubstr("journal"));
      }
      if (content && content->lost > 0) {
        ExpectSameEnd(Lay(files, true), *content, {.accept_loss = true});
      }
    }
  }

  void JudgeAll(const JournalFiles& good) {
    const std::string state = Lay(good, false);
    auto content = Read(state);
    ASSERT_TRUE(content.ok()) << content.error().message;
    ASSERT_EQ(content->lost, 0);
    std::mt19937_64 random(10);
    for (int which = 0; which < 2; ++which) {
      const char* name = which == 0 ? "journal.db" : "journal.db-wal";
      const std::optional<std::string>& bytes = which == 0 ? good.db : good.wal;
      if (!bytes) {
        continue;
      }
      auto with = [&](std::optional<std::string> changed) {
        JournalFiles files = good;
        (which == 0 ? files.db : files.wal) = std::move(changed);
        return files;
      };
      Judge(with(std::nullopt), *content, fmt::format("without {}", name));
      // The log: 32 bytes, then frames of 24 and a page.
      const size_t head = which == 0 ? 0 : 32, step = which == 0 ? 4096 : 4096 + 24;
      for (size_t begin = 0; begin < bytes->size(); begin += begin < head ? head : step) {
        const size_t size = std::min(begin < head ? head : step, bytes->size() - begin);
        Judge(with(bytes->substr(0, begin)), *content, fmt::format("{} cut off at {}", name, begin));
        Judge(with(bytes->substr(0, begin + random() % size)), *content, fmt::format("{} cut off within the page at {}", name, begin));
        std::string changed = *bytes;
        changed.replace(begin, size, size, '\0');
        Judge(with(changed), *content, fmt::format("{} with zeros at {}", name, begin));
        changed = *bytes;
        for (size_t i = 0; i < size; ++i) {
          changed[begin + i] = static_cast<char>(random());
        }
        Judge(with(changed), *content, fmt::format("{} with noise at {}", name, begin));
        for (size_t i = 0; i < 12 * Scale(); ++i) {
          // One bit; more often where a page has its numbers.
          const size_t at = begin + (i % 3 == 0 ? random() % std::min<size_t>(size, 128) : random() % size);
          changed = *bytes;
          changed[at] = static_cast<char>(changed[at] ^ (1 << random() % 8));
          Judge(with(changed), *content, fmt::format("{} with a bit changed at {}", name, at));
        }
        if (begin + 2 * step <= bytes->size() && begin >= head) {
          changed = *bytes;
          changed.replace(begin, step, *bytes, begin + step, step);
          changed.replace(begin + step, step, *bytes, begin, step);
          Judge(with(changed), *content, fmt::format("{} with two pages exchanged at {}", name, begin));
        }
        if (HasFatalFailure() || ::testing::Test::HasNonfatalFailure()) return;
      }
    }
  }

  size_t cases = 0, refused = 0, lossy = 0;
};

TEST_F(Damage, OfAFinishedRunIsNeverTakenForContent) {
  MakePlan();
  RunRecorded();
  if (HasFatalFailure()) return;
  std::mt19937_64 random(1);
  JudgeAll(vfs.After(vfs.entries().size(), Unsynced::All, random));
  EXPECT_GT(refused, 50u);
}

TEST_F(Damage, OfARunThatWasCutOffIsNeverTakenForContent) {
  MakePlan();
  RunRecorded();
  if (HasFatalFailure()) return;
  std::mt19937_64 random(1);
  // As a kill leaves it: all in the log, which has not been taken into the database.
  const auto& entries = vfs.entries();
  size_t count = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].what == RecordingVfs::What::Note && entries[i].number > 0 && entries[i].number < static_cast<int64_t>(all.size()) * 3 / 4) {
      count = i + 1;
    }
  }
  JudgeAll(vfs.After(count, Unsynced::All, random));
  EXPECT_GT(refused, 20u);
  EXPECT_GT(lossy, 50u) << "a log that is cut off is a loss";
}

}  // namespace
}  // namespace jobc
