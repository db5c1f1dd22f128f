// The journal as a file: what is committed survives, what is damaged is said to be.
#include "runtime/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "runtime/process/os.h"
#include "runtime/state_dir.h"

namespace jobc {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JournalFile : public ::testing::Test {
 protected:
  JournalFile() {
    char name[] = "/tmp/jobc-journal-XXXXXX";
    dir = mkdtemp(name);
    path = dir + "/journal.db";
  }
  ~JournalFile() override { (void)process::RemoveTree(dir).ok(); }

  static RunHeader Header() {
    RunHeader header;
    header.id = "0123456789abcdefghij";
    header.name = "night";
    header.created_ms = 42;
    header.version = "1";
    header.root = "/src";
    header.options = "{}";
    return header;
  }
  Journal Make(Durability durability = Durability::Full) {
    auto made = Journal::Create(path, Header(), "the plan", durability);
    EXPECT_TRUE(made.ok()) << made.error().message;
    return *std::move(made);
  }
  static Record Row(RecordType type, int64_t a) {
    Record record;
    record.type = type;
    record.a = a;
    return record;
  }
  static std::vector<int64_t> Values(const std::string& path) {
    std::vector<int64_t> out;
    auto reader = JournalReader::Open(path);
    if (!reader) {
      ADD_FAILURE() << reader.error().message;
      return out;
    }
    auto scanned = reader->Scan(0, [&](const Record& record) {
      out.push_back(record.a);
      return true;
    });
    EXPECT_TRUE(scanned.ok());
    return out;
  }
  static std::string Slurp(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  static void Spill(const std::string& file, const std::string& text) { std::ofstream(file, std::ios::binary) << text; }

  std::string dir, path;
};

TEST_F(JournalFile, GivesBackWhatWasCommitted) {
  {
    Journal journal = Make();
    Record record = Row(RecordType::Verdict, 7);
    record.job = 3;
    record.ordinal = 1'000'000'000'000;
    record.attempt = 2;
    record.b = -1;
    record.text = std::string("with \0 and \n", 12);
    record.time_ms = 99;
    EXPECT_EQ(*journal.Append(record), 1);
    ASSERT_TRUE(journal.PutOutputs({3, 5, 2, "{\"x\":1}", "{\"x\":1,\"y\":2}"}).ok());
    ASSERT_TRUE(journal.PutOutputs({3, 6, 1, "{}", ""}).ok());
    ASSERT_TRUE(journal.PutExports("{\"e\":1}").ok());
    ASSERT_TRUE(journal.Commit().ok());
    EXPECT_FALSE(journal.dirty());
  }
  auto reader = JournalReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  EXPECT_EQ(reader->header().id, Header().id);
  EXPECT_EQ(reader->header().name, "night");
  EXPECT_EQ(*reader->PlanText(), "the plan");
  auto last = reader->Last(RecordType::Verdict);
  ASSERT_TRUE(last.ok() && last->has_value());
  EXPECT_EQ((*last)->ordinal, 1'000'000'000'000);
  EXPECT_EQ((*last)->text.size(), 12u);
  EXPECT_EQ((*last)->time_ms, 99);
  auto outputs = reader->Outputs(3, 5);
  ASSERT_TRUE(outputs.ok() && outputs->has_value());
  EXPECT_EQ((*outputs)->result, "{\"x\":1,\"y\":2}");
  EXPECT_FALSE(reader->Outputs(3, 7)->has_value());
  EXPECT_EQ(*reader->Exports(), "{\"e\":1}");
}

TEST_F(JournalFile, DropsWhatWasNotCommitted) {
  {
    Journal journal = Make();
    ASSERT_TRUE(journal.Append(Row(RecordType::Note, 1)).ok());
    ASSERT_TRUE(journal.Commit().ok());
    ASSERT_TRUE(journal.Append(Row(RecordType::Note, 2)).ok());
  }
  EXPECT_THAT(Values(path), ElementsAre(1));
}

TEST_F(JournalFile, IsReadByOthersWhileItIsWritten) {
  Journal journal = Make();
  ASSERT_TRUE(journal.Append(Row(RecordType::Note, 1)).ok());
  ASSERT_TRUE(journal.Commit().ok());
  EXPECT_THAT(Values(path), ElementsAre(1));
  ASSERT_TRUE(journal.Append(Row(RecordType::Note, 2)).ok());
  EXPECT_THAT(Values(path), ElementsAre(1));
  ASSERT_TRUE(journal.Commit().ok());
  EXPECT_THAT(Values(path), ElementsAre(1, 2));
}

TEST_F(JournalFile, KeepsEveryCommitWhenItsProcessIsKilled) {
  for (int kill_after : {1, 2, 10}) {
    (void)process::RemoveTree(path).ok();
    (void)process::RemoveTree(path + "-wal").ok();
    (void)process::RemoveTree(path + "-shm").ok();
    pid_t child = fork();
    if (child == 0) {
      Journal journal = Make();
      for (int i = 1; i <= kill_after; ++i) {
        (void)journal.Append(Row(RecordType::Note, i)).ok();
        (void)journal.Commit().ok();
      }
      (void)journal.Append(Row(RecordType::Note, 999)).ok();
      kill(getpid(), SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(Values(path).size(), static_cast<size_t>(kill_after));
    auto again = Journal::Open(path, Durability::Full);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(*again->Append(Row(RecordType::Note, 5)), kill_after + 1);
  }
}

TEST_F(JournalFile, LosesNoWholeCommitToAPowerLossThatCutsTheLogAnywhere) {
  std::string main, wal;
  std::vector<size_t> wal_sizes;
  {
    Journal journal = Make();
    for (int i = 1; i <= 6; ++i) {
      ASSERT_TRUE(journal.Append(Row(RecordType::Note, i)).ok());
      ASSERT_TRUE(journal.Commit().ok());
      wal_sizes.push_back(Slurp(path + "-wal").size());
    }
    main = Slurp(path);
    wal = Slurp(path + "-wal");
  }
  std::string copy = dir + "/copy.db";
  for (size_t cut = 0; cut <= wal.size(); cut += 512) {
    for (bool garbage : {false, true}) {
      Spill(copy, main);
      std::string torn = wal.substr(0, cut);
      if (garbage) {
        torn += std::string(wal.size() - cut, '\x5a');
      }
      Spill(copy + "-wal", torn);
      unlink((copy + "-shm").c_str());
      size_t whole = 0;
      while (whole < wal_sizes.size() && wal_sizes[whole] <= cut) {
        ++whole;
      }
      auto opened = Journal::Open(copy, Durability::Full);
      if (whole == 0) {
        continue;  // the run itself was not recorded yet: an error or empty, never a crash
      }
      ASSERT_TRUE(opened.ok()) << "cut at " << cut << ": " << opened.error().message;
      std::vector<int64_t> expected;
      for (size_t i = 1; i <= whole; ++i) {
        expected.push_back(static_cast<int64_t>(i));
      }
      EXPECT_EQ(Values(copy), expected) << "cut at " << cut;
    }
  }
}

TEST_F(JournalFile, LetsAnotherThreadWaitForTheDisk) {
  Journal::Sync sync;
  {
    Journal journal = Make();
    ASSERT_TRUE(journal.Append(Row(RecordType::Intent, 1)).ok());
    auto behind = journal.CommitBehind();
    ASSERT_TRUE(behind.ok()) << behind.error().message;
    sync = *std::move(behind);
    ASSERT_TRUE(sync);
    EXPECT_FALSE(journal.dirty());
    EXPECT_THAT(Values(path), ElementsAre(1)) << "others see it before the disk has it";
    int code = -1;
    std::thread waiting([&] { code = sync(); });
    ASSERT_TRUE(journal.Append(Row(RecordType::Verdict, 2)).ok());
    waiting.join();
    EXPECT_EQ(code, 0);
    EXPECT_TRUE(journal.dirty()) << "what came later is none of its business";
    ASSERT_TRUE(journal.Commit().ok());
    EXPECT_FALSE(*journal.CommitBehind()) << "nothing is left to do";
  }
  EXPECT_EQ(sync(), 0) << "also when the journal is gone";
  EXPECT_THAT(Values(path), ElementsAre(1, 2));
}

TEST_F(JournalFile, FailsForGoodWhenTheDiskFailedBehindItsBack) {
  Journal journal = Make();
  ASSERT_TRUE(journal.Append(Row(RecordType::Intent, 1)).ok());
  ASSERT_TRUE(*journal.CommitBehind());
  EXPECT_THAT(journal.SyncFailed(ENOSPC).message, HasSubstr("no space left"));
  EXPECT_FALSE(journal.Append(Row(RecordType::Verdict, 2)).ok());
  auto done = journal.Commit();
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, ENOSPC);
}

TEST_F(JournalFile, LeavesNothingToWaitForWhereAPowerLossMayCostTheLastMoments) {
  Journal journal = Make(Durability::Normal);
  ASSERT_TRUE(journal.Append(Row(RecordType::Intent, 1)).ok());
  EXPECT_FALSE(*journal.CommitBehind());
  EXPECT_THAT(Values(path), ElementsAre(1));
}

TEST_F(JournalFile, SaysWhatIsWrongWithFilesThatAreNoJournal) {
  Spill(path, "this is not a database at all, but it is long enough to have a header of a hundred bytes or so, is it not? yes it is");
  auto opened = Journal::Open(path, Durability::Full);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message, AllOf(HasSubstr(path), HasSubstr("not a journal")));
  Spill(path, "");
  auto empty = JournalReader::Open(path);
  ASSERT_FALSE(empty.ok());
  EXPECT_THAT(empty.error().message, HasSubstr("not a journal"));
  auto missing = JournalReader::Open(dir + "/none.db");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ENOENT);
}

TEST_F(JournalFile, RefusesOneOfANewerFormat) {
  { Journal journal = Make(); ASSERT_TRUE(journal.Commit().ok()); }
  std::string bytes = Slurp(path);
  bytes[63] = 99;  // PRAGMA user_version, big-endian at offset 60
  Spill(path, bytes);
  auto opened = Journal::Open(path, Durability::Full);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message, AllOf(HasSubstr("newer jobc"), HasSubstr("99")));
}

TEST_F(JournalFile, NeverCrashesOnADamagedFile) {
  {
    Journal journal = Make();
    for (int i = 0; i < 2000; ++i) {
      Record record = Row(RecordType::Note, i);
      record.text = std::string(100, 'x');
      ASSERT_TRUE(journal.Append(record).ok());
    }
    ASSERT_TRUE(journal.Commit().ok());
  }
  std::string good = Slurp(path);
  ASSERT_GT(good.size(), 100'000u);
  for (size_t page = 0; page < good.size() / 4096; page += 3) {
    std::string bad = good;
    for (size_t i = 0; i < 200; ++i) {
      bad[page * 4096 + (page == 0 ? 100 : 0) + i] = static_cast<char>(i * 37 + page);
    }
    Spill(path, bad);
    unlink((path + "-wal").c_str());
    unlink((path + "-shm").c_str());
    auto reader = JournalReader::Open(path);
    if (reader) {
      auto scanned = reader->Scan(0, [](const Record&) { return true; });
      if (!scanned) {
        EXPECT_THAT(scanned.error().message, HasSubstr("damaged"));
      }
    } else {
      EXPECT_THAT(reader.error().message, HasSubstr("journal"));
    }
  }
}

TEST_F(JournalFile, IsReadFromADirectoryThatCannotBeWritten) {
  if (getuid() == 0) {
    GTEST_SKIP() << "root may write everywhere";
  }
  { Journal journal = Make(); ASSERT_TRUE(journal.Append(Row(RecordType::Note, 1)).ok()); ASSERT_TRUE(journal.Commit().ok()); }
  chmod(dir.c_str(), 0555);
  EXPECT_THAT(Values(path), ElementsAre(1));
  auto writer = Journal::Open(path, Durability::Full);
  EXPECT_FALSE(writer.ok());
  chmod(dir.c_str(), 0755);
}

TEST_F(JournalFile, TellsThatTheDiskIsFullAndStaysReadable) {
  std::string small = dir + "/small";
  mkdir(small.c_str(), 0755);
  if (mount("tmpfs", small.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "cannot mount a small tmpfs here";
  }
  std::string file = small + "/journal.db";
  int64_t committed = 0;
  std::optional<Error> failure;
  {
    auto made = Journal::Create(file, Header(), "plan", Durability::Full);
    ASSERT_TRUE(made.ok()) << made.error().message;
    Journal journal = *std::move(made);
    for (int i = 1; i < 10'000 && !failure; ++i) {
      Record record = Row(RecordType::Note, i);
      record.text = std::string(500, 'x');
      if (auto done = journal.Append(record); !done) {
        failure = done.error();
      } else if (auto saved = journal.Commit(); !saved) {
        failure = saved.error();
      } else {
        committed = i;
      }
    }
    ASSERT_TRUE(failure.has_value());
    EXPECT_EQ(failure->code, ENOSPC);
    EXPECT_THAT(failure->message, AllOf(HasSubstr(file), HasSubstr("no space")));
    EXPECT_FALSE(journal.Commit().ok()) << "a journal that failed stays failed";
    EXPECT_GT(committed, 10);
  }
  std::vector<int64_t> values = Values(file);
  EXPECT_EQ(values.size(), static_cast<size_t>(committed));
  umount(small.c_str());
}

TEST_F(JournalFile, TakesThousandsOfJobsASecond) {
  Journal journal = Make();
  const int64_t begin = process::MonotonicMillis();
  constexpr int kJobs = 3000;
  for (int i = 0; i < kJobs; ++i) {
    for (RecordType type : {RecordType::Intent, RecordType::Started, RecordType::Verdict, RecordType::Final, RecordType::Reaped}) {
      ASSERT_TRUE(journal.Append(Row(type, i)).ok());
    }
    if (i % 50 == 0) {
      ASSERT_TRUE(journal.Commit().ok());
    }
  }
  ASSERT_TRUE(journal.Commit().ok());
  // Generous, for slow disks and unoptimised builds; bench/ has the real figure.
  EXPECT_LT(process::MonotonicMillis() - begin, 5000);
}

TEST(RunIds, SortByTimeAndAreWellFormed) {
  std::string earlier = NewRunId(1'700'000'000'000);
  std::string later = NewRunId(1'700'000'000'001);
  EXPECT_LT(earlier, later);
  EXPECT_TRUE(IsRunId(earlier)) << earlier;
  EXPECT_NE(NewRunId(5), NewRunId(5));
  EXPECT_FALSE(IsRunId("0123456789abcdefghi"));
  EXPECT_FALSE(IsRunId("0123456789abcdefghiJ"));
}

class StateDir : public JournalFile {
 protected:
  std::string MakeRun(int64_t now, const std::string& name = "") {
    std::string id = NewRunId(now);
    auto made = CreateRunDir(dir + "/.jobc", id);
    EXPECT_TRUE(made.ok()) << made.error().message;
    RunHeader header = Header();
    header.id = id;
    header.name = name;
    auto journal = Journal::Create(*made + "/journal.db", header, "", Durability::Normal);
    EXPECT_TRUE(journal.ok() && journal->Commit().ok());
    return id;
  }
};

TEST_F(StateDir, FindsRunsByLastPrefixAndName) {
  EXPECT_THAT(ResolveRun(dir + "/.jobc", "").error().message, HasSubstr("no runs"));
  std::string first = MakeRun(1'000'000'000, "night");
  std::string second = MakeRun(1'700'000'000'000, "night");
  std::string third = MakeRun(1'700'000'000'500, "day");
  std::string state = dir + "/.jobc";
  EXPECT_EQ(*ResolveRun(state, ""), third);
  EXPECT_EQ(*ResolveRun(state, second), second);
  EXPECT_EQ(*ResolveRun(state, first.substr(0, 6)), first);
  EXPECT_EQ(*ResolveRun(state, "day"), third);
  EXPECT_THAT(ResolveRun(state, "night").error().message, HasSubstr("2 runs"));
  EXPECT_THAT(ResolveRun(state, "zzz").error().message, AllOf(HasSubstr("no run `zzz`"), HasSubstr("jobc list")));
  EXPECT_EQ(Slurp(state + "/.gitignore"), "*\n");
}

TEST_F(StateDir, IsFoundFromBelow) {
  unsetenv("JOBC_HOME");
  setenv("XDG_STATE_HOME", (dir + "/user").c_str(), 1);
  EXPECT_THAT(FindStateDir(dir, "").error().message, HasSubstr("jobc run FILE"));
  std::string id = MakeRun(5);
  ASSERT_TRUE(process::MakeDirectories(dir + "/a/b").ok());
  EXPECT_EQ(*FindStateDir(dir + "/a/b", ""), dir + "/.jobc");
  RememberLastRun(dir + "/.jobc", id);
  EXPECT_THAT(FindStateDir("/", "").error().message, AllOf(HasSubstr(id), HasSubstr("--state")));
  EXPECT_FALSE(FindStateDir(dir, dir + "/none").ok());
}

TEST_F(StateDir, LetsOnlyOneProcessExecuteARun) {
  std::string id = MakeRun(5);
  std::string run = RunDir(dir + "/.jobc", id);
  EXPECT_FALSE(RunLock::Holder(run).has_value());
  int ready[2], done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  pid_t child = fork();
  if (child == 0) {
    auto lock = RunLock::Take(run);
    char c = lock.ok() ? 'y' : 'n';
    [[maybe_unused]] ssize_t written = write(ready[1], &c, 1);
    [[maybe_unused]] ssize_t got = read(done[0], &c, 1);
    kill(getpid(), SIGKILL);
  }
  char c = 0;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  EXPECT_EQ(c, 'y');
  auto second = RunLock::Take(run);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, EWOULDBLOCK);
  EXPECT_THAT(second.error().message, AllOf(HasSubstr(id), HasSubstr(std::to_string(child))));
  auto holder = RunLock::Holder(run);
  ASSERT_TRUE(holder.has_value());
  EXPECT_EQ(holder->pid, child);
  ASSERT_EQ(write(done[1], &c, 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_FALSE(RunLock::Holder(run).has_value());
  EXPECT_TRUE(RunLock::Take(run).ok()) << "the lock of a killed process is gone";
}

TEST(ShellQuoting, QuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(ShellQuote("plain/path-1.txt"), "plain/path-1.txt");
  EXPECT_EQ(ShellQuote("align[\"s1\"]"), "'align[\"s1\"]'");
  EXPECT_EQ(ShellQuote("it's"), "'it'\\''s'");
  EXPECT_EQ(ShellQuote(""), "''");
}

}  // namespace
}  // namespace jobc
