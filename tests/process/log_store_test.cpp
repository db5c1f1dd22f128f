// Stories of the log store: what is written comes back, also from the middle of things.
#include "runtime/process/log_store.h"

#include <sys/wait.h>

#include <random>
#include <thread>

#include "tests/process/harness.h"

namespace jobc::process {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

std::unique_ptr<LogWriter> OpenWriter(const TempDir& dir) { return std::move(LogWriter::Open(dir.path()).value()); }
LogReader OpenReader(const TempDir& dir) { return std::move(LogReader::Open(dir.path()).value()); }

std::string All(const LogReader& reader, uint64_t attempt, LogStream stream, uint64_t from = 0) {
  std::string text;
  EXPECT_TRUE(reader.ForEach(attempt, stream, from, [&](const LogReader::Chunk& chunk) {
    text.append(chunk.bytes);
    return true;
  }).ok());
  return text;
}

TEST(LogStore, GivesBackEachStreamOfEachAttempt) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Append(7, LogStream::kStdout, "a");
  writer->Append(9, LogStream::kStdout, "other");
  writer->Append(7, LogStream::kStderr, std::string("e\0\377", 3));
  writer->Append(7, LogStream::kStdout, "bc");
  writer->Flush();
  LogReader reader = OpenReader(dir);
  EXPECT_THAT(reader.Attempts(), ElementsAre(7, 9));
  EXPECT_EQ(All(reader, 7, LogStream::kStdout), "abc");
  EXPECT_EQ(All(reader, 7, LogStream::kStderr), std::string("e\0\377", 3));
  EXPECT_EQ(All(reader, 9, LogStream::kStdout), "other");
  EXPECT_EQ(All(reader, 8, LogStream::kStdout), "");
  EXPECT_EQ(All(reader, 7, LogStream::kStdout, 2), "c");
  std::string order;
  EXPECT_TRUE(reader.ForEachInOrder(7, [&](const LogReader::Chunk& chunk) {
    order += std::string(chunk.stream == LogStream::kStdout ? "o:" : "e:") + std::string(chunk.bytes) + ' ';
    return true;
  }).ok());
  EXPECT_EQ(order, std::string("o:a e:e\0\377 o:bc ", 15));
}

TEST(LogStore, ASilentAttemptCostsNothing) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Flush();
  std::string before = ReadFile(dir / "log.pack").value();
  for (uint64_t attempt = 0; attempt < 100; ++attempt) {
    LogWriter::Closed closed = writer->Close(attempt);
    EXPECT_EQ(closed.out.total_bytes, 0u);
  }
  writer->Flush();
  EXPECT_EQ(ReadFile(dir / "log.pack").value(), before);
}

TEST(LogStore, AReaderFollowsALiveLog) {
  TempDir dir;
  LogReader reader = OpenReader(dir);
  EXPECT_TRUE(reader.Attempts().empty());
  auto writer = OpenWriter(dir);
  std::string seen;
  std::string written;
  for (int i = 0; i < 100; ++i) {
    writer->Append(1, LogStream::kStdout, std::to_string(i) + "\n");
    writer->Flush();
    ASSERT_TRUE(reader.Refresh().ok());
    seen += All(reader, 1, LogStream::kStdout, seen.size());
    written += std::to_string(i) + "\n";
    ASSERT_EQ(seen, written);
  }
}

TEST(LogStore, ATornLastFrameIsIgnoredAndOverwritten) {
  TempDir dir;
  {
    auto writer = OpenWriter(dir);
    writer->Append(1, LogStream::kStdout, "whole\n");
    writer->Flush();
  }
  std::string pack = ReadFile(dir / "log.pack").value();
  size_t frame = pack.size() - 16;
  for (size_t torn = 1; torn < frame; torn += 7) {
    WriteText(dir / "log.pack", pack + pack.substr(16, torn));
    LogReader reader = OpenReader(dir);
    EXPECT_EQ(All(reader, 1, LogStream::kStdout), "whole\n");
    auto writer = OpenWriter(dir);
    writer->Append(2, LogStream::kStdout, "after the crash\n");
    writer->Flush();
    ASSERT_TRUE(reader.Refresh().ok());
    EXPECT_EQ(All(reader, 1, LogStream::kStdout), "whole\n");
    EXPECT_EQ(All(reader, 2, LogStream::kStdout), "after the crash\n");
  }
}

TEST(LogStore, WhatComesOnceMoreFromItsBeginningIsKeptOnce) {
  const std::string text = [] {
    std::string out;
    for (int i = 0; out.size() < 5000; ++i) out += "line " + std::to_string(i) + " secret-word\n";
    return out;
  }();
  for (uint64_t limit : {uint64_t{100'000}, uint64_t{1000}}) {
    for (size_t cut : {size_t{0}, size_t{1}, size_t{403}, size_t{499}, size_t{2500}, text.size()}) {
      TempDir dir;
      TempDir whole;
      auto append = [&](LogWriter& writer, std::string_view bytes) {
        writer.Configure(7, {limit}, MakeMaskingFilter({"secret-word"}), {});
        for (size_t at = 0; at < bytes.size(); at += 37) writer.Append(7, LogStream::kStdout, bytes.substr(at, 37));
        writer.Append(7, LogStream::kStderr, "e");
      };
      {
        auto first = OpenWriter(dir);
        append(*first, std::string_view(text).substr(0, cut));  // its end is never told
        first->Append(9, LogStream::kStdout, "another's");
      }
      auto second = std::move(LogWriter::Open(dir.path(), {7}).value());
      append(*second, text);
      EXPECT_EQ(second->Close(7).err.total_bytes, 1u);
      second->Flush();
      auto reference = OpenWriter(whole);
      append(*reference, text);
      reference->Close(7);
      reference->Flush();
      EXPECT_EQ(All(OpenReader(dir), 7, LogStream::kStdout), All(OpenReader(whole), 7, LogStream::kStdout)) << limit << ' ' << cut;
      EXPECT_EQ(All(OpenReader(dir), 7, LogStream::kStderr), "e");
      EXPECT_EQ(OpenReader(dir).Totals(7, LogStream::kStdout).total_bytes, OpenReader(whole).Totals(7, LogStream::kStdout).total_bytes);
    }
  }
}

TEST(LogStore, RefusesAFileThatIsNoLog) {
  TempDir dir;
  WriteText(dir / "log.pack", "something else entirely");
  EXPECT_FALSE(LogWriter::Open(dir.path()).ok());
  EXPECT_FALSE(LogReader::Open(dir.path()).ok());
}

/// Random writes under random limits: the kept text is always the first half and the last half of what was written.
TEST(LogStore, KeepsFirstAndLastHalfOfWhatExceedsTheLimit) {
  std::mt19937 random(20260101);
  for (int round = 0; round < 200; ++round) {
    TempDir dir;
    auto writer = OpenWriter(dir);
    uint64_t limit = 2 + random() % 300;
    writer->Configure(1, {.limit_bytes = limit}, nullptr, nullptr);
    std::string written;
    for (unsigned piece = random() % 30; piece > 0; --piece) {
      std::string bytes;
      for (unsigned i = random() % 60; i > 0; --i) {
        bytes += static_cast<char>(random());
      }
      writer->Append(1, LogStream::kStdout, bytes);
      written += bytes;
    }
    writer->Flush();
    std::string expected = written;
    uint64_t dropped = 0;
    if (written.size() > limit) {
      dropped = written.size() - limit;
      expected.erase(limit / 2, dropped);
    }
    LogReader reader = OpenReader(dir);
    ASSERT_EQ(All(reader, 1, LogStream::kStdout), expected) << "limit " << limit;
    EXPECT_EQ(reader.Totals(1, LogStream::kStdout).total_bytes, written.size());
    EXPECT_EQ(reader.Totals(1, LogStream::kStdout).dropped_bytes, dropped);
    LogTotals closed = writer->Close(1).out;
    EXPECT_EQ(closed.total_bytes, written.size());
    EXPECT_EQ(closed.dropped_bytes, dropped);
    EXPECT_EQ(All(reader, 1, LogStream::kStdout), expected) << "closing changes nothing";
  }
}

TEST(LogStore, TailGivesTheLastLines) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Append(1, LogStream::kStdout, "one\ntw");
  writer->Append(1, LogStream::kStderr, "noise\n");
  writer->Append(1, LogStream::kStdout, "o\nthree\n");
  writer->Append(2, LogStream::kStdout, "no line break");
  writer->Flush();
  LogReader reader = OpenReader(dir);
  EXPECT_EQ(reader.Tail(1, LogStream::kStdout, 1).value(), "three\n");
  EXPECT_EQ(reader.Tail(1, LogStream::kStdout, 2).value(), "two\nthree\n");
  EXPECT_EQ(reader.Tail(1, LogStream::kStdout, 99).value(), "one\ntwo\nthree\n");
  EXPECT_EQ(reader.Tail(1, LogStream::kStdout, 99, 8).value(), "o\nthree\n");
  EXPECT_EQ(reader.Tail(1, LogStream::kStdout, 0).value(), "");
  EXPECT_EQ(reader.Tail(2, LogStream::kStdout, 1).value(), "no line break");
  EXPECT_EQ(reader.Tail(3, LogStream::kStdout, 1).value(), "");
}

TEST(LogStore, TailIsTheSameAsOfTheWholeText) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    TempDir dir;
    auto writer = OpenWriter(dir);
    writer->Configure(1, {.limit_bytes = 100 + random() % 400}, nullptr, nullptr);
    for (unsigned piece = random() % 40; piece > 0; --piece) {
      std::string bytes;
      for (unsigned i = random() % 20; i > 0; --i) {
        bytes += random() % 5 == 0 ? '\n' : 'x';
      }
      writer->Append(1, LogStream::kStdout, bytes);
    }
    writer->Flush();
    LogReader reader = OpenReader(dir);
    // After a gap only what follows it is the end of anything.
    uint64_t dropped = reader.Totals(1, LogStream::kStdout).dropped_bytes;
    std::string text;
    uint64_t next = 0;
    EXPECT_TRUE(reader.ForEach(1, LogStream::kStdout, 0, [&](const LogReader::Chunk& chunk) {
      if (dropped > 0 && chunk.position != next) {
        text.clear();
      }
      text.append(chunk.bytes);
      next = chunk.position + chunk.bytes.size();
      return true;
    }).ok());
    for (size_t lines : {1, 2, 5}) {
      size_t at = text.size();
      for (size_t found = 0; at > 0; --at) {
        if (text[at - 1] == '\n' && at != text.size() && ++found == lines) {
          break;
        }
      }
      EXPECT_EQ(reader.Tail(1, LogStream::kStdout, lines).value(), text.substr(at)) << lines;
    }
  }
}

TEST(LogStore, WholeTextHasItsConditions) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Configure(2, {.limit_bytes = 4}, nullptr, nullptr);
  writer->Append(1, LogStream::kStdout, "gr\xc3");
  writer->Append(1, LogStream::kStdout, "\xbc\xc3\x9f""e");
  writer->Append(2, LogStream::kStdout, "too long");
  writer->Append(3, LogStream::kStdout, "\xff");
  writer->Flush();
  LogReader reader = OpenReader(dir);
  LogTextProblem problem;
  EXPECT_EQ(reader.Text(1, LogStream::kStdout, 100, &problem).value(), "gr\xc3\xbc\xc3\x9f""e");
  EXPECT_EQ(problem, LogTextProblem::kNone);
  EXPECT_EQ(reader.Text(1, LogStream::kStdout, 6, &problem).value(), "");
  EXPECT_EQ(problem, LogTextProblem::kTooLarge);
  EXPECT_EQ(reader.Text(2, LogStream::kStdout, 100, &problem).value(), "");
  EXPECT_EQ(problem, LogTextProblem::kTruncated);
  EXPECT_EQ(reader.Text(3, LogStream::kStdout, 100, &problem).value(), "");
  EXPECT_EQ(problem, LogTextProblem::kNotUtf8);
  EXPECT_EQ(reader.Text(4, LogStream::kStdout, 100, &problem).value(), "");
  EXPECT_EQ(problem, LogTextProblem::kNone);
}

TEST(LogStore, KnowsUtf8) {
  for (const char* good : {"", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xc3", "\xe2\x82", "\xf5"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(LogStore, RemembersTheLastLine) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  auto last = [&] { return writer->LastLine(1, LogStream::kStdout); };
  EXPECT_EQ(last(), "");
  writer->Append(1, LogStream::kStdout, "one\ntwo");
  EXPECT_EQ(last(), "two");
  writer->Append(1, LogStream::kStdout, " and a half\n");
  EXPECT_EQ(last(), "two and a half");
  writer->Append(1, LogStream::kStdout, "three\r\n");
  EXPECT_EQ(last(), "three");
  writer->Append(1, LogStream::kStdout, std::string(100000, 'x'));
  EXPECT_EQ(last(), std::string(200, 'x'));
}

TEST(LogStore, ConcurrentReadersOfAWrappingLogSeeOnlyWhatWasWritten) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Configure(1, {.limit_bytes = 1 << 16}, nullptr, nullptr);
  writer->Append(1, LogStream::kStdout, "0000000\n");
  writer->Flush();
  std::atomic<bool> stop = false;
  std::thread reading([&] {
    while (!stop) {
      LogReader reader = OpenReader(dir);
      EXPECT_TRUE(reader.ForEach(1, LogStream::kStdout, 0, [&](const LogReader::Chunk& chunk) {
        // Each line is its number: so each byte's right value follows from its position.
        for (size_t i = 0; i < chunk.bytes.size(); ++i) {
          uint64_t at = chunk.position + i;
          char line[32];
          snprintf(line, sizeof line, "%07llu\n", static_cast<unsigned long long>(at / 8));
          if (chunk.bytes[i] != line[at % 8]) {
            ADD_FAILURE() << "wrong byte at " << at;
            return false;
          }
        }
        return true;
      }).ok());
    }
  });
  std::string piece;
  for (int i = 1; i < 600000 && !HasFailure(); ++i) {
    char line[16];
    snprintf(line, sizeof line, "%07d\n", i);
    piece += line;
    if (piece.size() > 3000) {
      writer->Append(1, LogStream::kStdout, piece);
      writer->Flush();
      piece.clear();
    }
  }
  stop = true;
  reading.join();
}

TEST(LogStore, AFullDiskIsTold) {
  UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  if (!full) {
    GTEST_SKIP() << "no /dev/full";
  }
  TempDir dir;
  ASSERT_EQ(symlink("/dev/full", (dir / "log.1.out").c_str()), 0);
  auto writer = OpenWriter(dir);
  writer->Configure(1, {.limit_bytes = 10}, nullptr, nullptr);
  writer->Append(1, LogStream::kStdout, "12345678901234567890");
  writer->Append(1, LogStream::kStdout, "more");
  writer->Flush();
  ASSERT_TRUE(writer->failure());
  EXPECT_THAT(writer->failure()->message, StartsWith("cannot write the log `"));
  LogTotals totals = writer->Close(1).out;
  EXPECT_EQ(totals.total_bytes, 24u) << "counted all the same";
  EXPECT_EQ(totals.dropped_bytes, 19u);
}

// Masking.

std::string Masked(LogFilter filter, const std::string& text, const std::vector<size_t>& cuts) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Configure(1, {}, std::move(filter), nullptr);
  size_t at = 0;
  for (size_t cut : cuts) {
    writer->Append(1, LogStream::kStdout, text.substr(at, cut - at));
    at = cut;
  }
  writer->Append(1, LogStream::kStdout, text.substr(at));
  writer->Close(1);
  writer->Flush();
  return All(OpenReader(dir), 1, LogStream::kStdout);
}

TEST(LogMasking, HidesASecretHoweverItIsCut) {
  std::string text = "key=hunter22, again hunter2hunter22 hunte";
  for (size_t a = 0; a <= text.size(); ++a) {
    for (size_t b = a; b <= text.size(); ++b) {
      ASSERT_EQ(Masked(MakeMaskingFilter({"hunter22", "aga"}), text, {a, b}), "key=***, ***in hunter2*** hunte") << a << ' ' << b;
    }
  }
}

TEST(LogMasking, TheLongestNeedleWins) {
  EXPECT_EQ(Masked(MakeMaskingFilter({"secret", "secret-and-more"}, "#"), "secret-and-more secret-and secret", {8, 20}), "# #-and #");
}

TEST(LogMasking, HoldsBackOnlyWhatMayBecomeASecret) {
  TempDir dir;
  auto writer = OpenWriter(dir);
  writer->Configure(1, {}, MakeMaskingFilter({"password"}), nullptr);
  writer->Append(1, LogStream::kStdout, "progress 50% pas");
  writer->Flush();
  EXPECT_EQ(All(OpenReader(dir), 1, LogStream::kStdout), "progress 50% ");
}

}  // namespace
}  // namespace jobc::process
