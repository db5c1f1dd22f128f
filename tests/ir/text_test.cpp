#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "ir/evaluate.h"
#include "ir/file_path.h"
#include "ir/json.h"

namespace jobc::ir {
namespace {

TEST(DurationText, UsesTheLargestUnitThatDivides) {
  EXPECT_EQ(DurationText(0), "0s");
  EXPECT_EQ(DurationText(1), "1ms");
  EXPECT_EQ(DurationText(90'000), "90s");
  EXPECT_EQ(DurationText(7'200'000), "2h");
  EXPECT_EQ(DurationText(86'400'000), "1d");
  EXPECT_EQ(DurationText(5'400'000), "90m");
  EXPECT_EQ(DurationText(-90'000), "-90s");
  EXPECT_EQ(DurationText(std::numeric_limits<int64_t>::min()), "-9223372036854775808ms");
}

int64_t Ms(std::string_view text) {
  int64_t out = -12345;
  return ParseDuration(text, out) ? out : -12345;
}

TEST(ParseDuration, TakesDecimalsThatAreWholeMilliseconds) {
  EXPECT_EQ(Ms("1.5h"), 5'400'000);
  EXPECT_EQ(Ms("0.001s"), 1);
  EXPECT_EQ(Ms("1.50h"), 5'400'000);
  EXPECT_EQ(Ms("1_000ms"), 1000);
  EXPECT_EQ(Ms("-2m"), -120'000);
  EXPECT_EQ(Ms("9223372036854775807ms"), INT64_MAX);
  EXPECT_EQ(Ms("-9223372036854775808ms"), INT64_MIN);
  for (const char* bad : {"", "5", "s", "1.5ms", "0.0001s", "1 s", "1e3s", "1.s", ".5s", "1__0s", "1_s", "5S", "5min", "9223372036854775808ms",
                          "200000000000d", "--5s", "+5s", "99999999999999999999999999999999999999999ms"}) {
    EXPECT_EQ(Ms(bad), -12345) << bad;
  }
}

int64_t Bytes(std::string_view text) {
  int64_t out = -12345;
  return ParseBytes(text, out) ? out : -12345;
}

TEST(ParseBytes, KnowsBinaryAndDecimalUnits) {
  EXPECT_EQ(Bytes("512B"), 512);
  EXPECT_EQ(Bytes("64KiB"), 65536);
  EXPECT_EQ(Bytes("4GiB"), int64_t{4} << 30);
  EXPECT_EQ(Bytes("1TiB"), int64_t{1} << 40);
  EXPECT_EQ(Bytes("10KB"), 10'000);
  EXPECT_EQ(Bytes("10GB"), 10'000'000'000);
  EXPECT_EQ(Bytes("0.5KiB"), 512);
  for (const char* bad : {"4", "4G", "4Gi", "4gib", "1.5B", "0.0001KiB", "16384PiB", "B"}) EXPECT_EQ(Bytes(bad), -12345) << bad;
}

TEST(BytesForPeople, IsExactWhereItCanBeAndRoundedElsewhere) {
  EXPECT_EQ(BytesForPeople(0), "0 B");
  EXPECT_EQ(BytesForPeople(999), "999 B");
  EXPECT_EQ(BytesForPeople(int64_t{16} << 30), "16 GiB");
  EXPECT_EQ(BytesForPeople(1536), "1.5 KiB");
  EXPECT_EQ(BytesForPeople(1'500'000), "1.5 MB");
  EXPECT_EQ(BytesForPeople(1'234'567), "1.2 MB");
  EXPECT_EQ(BytesForPeople(999'960'001), "1 GB");
  EXPECT_EQ(BytesForPeople(-2048), "-2 KiB");
  EXPECT_EQ(BytesForPeople(INT64_MIN), "-8192 PiB");
}

TEST(FloatText, IsThatOfEcmascript) {
  EXPECT_EQ(FloatText(1), "1");
  EXPECT_EQ(FloatText(-0.0), "0");
  EXPECT_EQ(FloatText(0.05), "0.05");
  EXPECT_EQ(FloatText(1e21), "1e+21");
  EXPECT_EQ(FloatText(1e20), "100000000000000000000");
  EXPECT_EQ(FloatText(123456.789), "123456.789");
  EXPECT_EQ(FloatText(1e-6), "0.000001");
  EXPECT_EQ(FloatText(1e-7), "1e-7");
  EXPECT_EQ(FloatText(-1.5e300), "-1.5e+300");
  EXPECT_EQ(FloatText(5e-324), "5e-324");
  EXPECT_EQ(FloatText(0.1 + 0.2), "0.30000000000000004");
}

TEST(FloatText, ReadsBackAsTheSameNumber) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    uint64_t bits = random();
    double value;
    static_assert(sizeof bits == sizeof value);
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(std::strtod(FloatText(value).c_str(), nullptr), value);
  }
}

TEST(Durations, ReadBackAsTheSame) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 20000; ++i) {
    int64_t value = static_cast<int64_t>(random()) >> (random() % 64);
    if (i % 2) value = value / 3'600'000 * 3'600'000;
    EXPECT_EQ(Ms(DurationText(value)), value) << DurationText(value);
  }
}

TEST(Paths, AreNormalisedAndKnowTheirBase) {
  FileValue file;
  std::string why;
  auto path = [&](std::string_view text, std::string_view directory = "") {
    return MakeFile(text, FileBase::Source, directory, false, file, why) ? file.path : "error: " + why;
  };
  EXPECT_EQ(path("a//b/./c"), "a/b/c");
  EXPECT_EQ(path("../x", "lib"), "x");
  EXPECT_EQ(path("../../x", "lib"), "../x");
  EXPECT_EQ(path("x", "."), "x");
  EXPECT_EQ(path("/a/../../b"), "/b");
  EXPECT_EQ(file.base, FileBase::Absolute);
  EXPECT_EQ(path("gs://bucket/a//b"), "gs://bucket/a//b");
  EXPECT_EQ(file.base, FileBase::Uri);
  EXPECT_EQ(path(""), "error: a path cannot be empty");
  EXPECT_EQ(path("a/"), "error: `a/` names a directory, not a file");
  EXPECT_EQ(path(".."), "error: `..` names a directory, not a file");
  EXPECT_EQ(path(std::string_view("a\0b", 3)), "error: a path cannot contain a NUL byte");
  ASSERT_TRUE(MakeFile("a/..", FileBase::Cwd, "", true, file, why));
  EXPECT_EQ(file.path, ".");
  EXPECT_TRUE(LeavesBase("../x"));
  EXPECT_FALSE(LeavesBase("..x"));
}

TEST(Paths, HaveParts) {
  EXPECT_EQ(PathBasename("a/b.tar.gz"), "b.tar.gz");
  EXPECT_EQ(PathBasename("a/b/"), "b");
  EXPECT_EQ(PathDirname("a/b/c"), "a/b");
  EXPECT_EQ(PathDirname("a"), ".");
  EXPECT_EQ(PathDirname("/a"), "/");
  EXPECT_EQ(PathDirname("gs://b/x"), "gs://b");
  EXPECT_EQ(PathBasename("https://h/d/a.txt?X-Signature=a/b#c"), "a.txt");
  EXPECT_EQ(PathDirname("gs://b"), "gs://b");
  EXPECT_EQ(PathBasename("gs://b"), "b");
  EXPECT_EQ(PathStem("a/b.tar.gz"), "b.tar");
  EXPECT_EQ(PathExtension("a/b.tar.gz"), ".gz");
  EXPECT_EQ(PathExtension("a.d/b"), "");
  EXPECT_EQ(PathStem(".bashrc"), ".bashrc");
  EXPECT_EQ(PathExtension("..x"), "");
}

TEST(JsonQuote, EscapesWhatMustBeAndReplacesWhatIsNoText) {
  EXPECT_EQ(JsonQuote("a\"b\\c/ü\n\t\x01"), "\"a\\\"b\\\\c/ü\\n\\t\\u0001\"");
  EXPECT_EQ(JsonQuote("x\xff\x80y"), "\"x\uFFFD\uFFFDy\"");
}

}  // namespace
}  // namespace jobc::ir
