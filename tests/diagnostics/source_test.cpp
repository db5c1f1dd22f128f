#include "compiler/source/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SourceFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "jobc_source_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    for (const std::string& name : written_) unlink(name.c_str());
    rmdir(directory_.c_str());
  }
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    written_.push_back(path);
    return path;
  }

  std::string directory_;
  std::vector<std::string> written_;
};

TEST_F(SourceFiles, LoadKeepsTextAndRemembersWhereRelativePathsStart) {
  SourceManager sources;
  const std::string text("edition = 1\n\0\xFFz", 15);
  const std::string path = Write("a.job", text);
  const Result<SourceId> id = sources.Load(path, "shown/a.job");
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(sources[*id].name, "shown/a.job");
  EXPECT_EQ(sources[*id].path, path);
  EXPECT_EQ(sources[*id].directory, directory_);
  EXPECT_EQ(sources[*id].text, text);
}

TEST_F(SourceFiles, MissingFileAndDirectorySayWhichTheyAre) {
  SourceManager sources;
  const Result<SourceId> missing = sources.Load(directory_ + "/none.job");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_THAT(missing.error().message, HasSubstr("none.job` does not exist"));
  const Result<SourceId> directory = sources.Load(directory_);
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().code, EISDIR);
  EXPECT_THAT(directory.error().message, HasSubstr("is a directory"));
}

TEST_F(SourceFiles, FileAboveTheLimitIsRefusedBeforeItIsRead) {
  SourceManager sources;
  const std::string path = Write("big.job", "");
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(kMaxSourceBytes) + 1), 0);
  const Result<SourceId> id = sources.Load(path);
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(id.error().code, EFBIG);
  EXPECT_THAT(id.error().message, HasSubstr("larger than 64 MiB"));
}

TEST_F(SourceFiles, EndlessDeviceIsRefusedInsteadOfReadForever) {
  SourceManager sources;
  const Result<SourceId> id = sources.Load("/dev/zero");
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(id.error().code, EFBIG);
}

TEST_F(SourceFiles, FilesWithoutAKnownSizeAreReadWhole) {
  SourceManager sources;
  const Result<SourceId> id = sources.Load("/proc/self/status");
  ASSERT_TRUE(id.ok());
  EXPECT_THAT(sources[*id].text, HasSubstr("Threads:"));
}

TEST(SourceLines, ColumnsCountCharactersAndLinesEndBeforeTheirBreak) {
  SourceManager sources;
  const SourceId id = sources.Add("t", "ab\r\ncä日x\n\nend");
  EXPECT_THAT(sources[id].line_starts, ElementsAre(0, 4, 12, 13));
  EXPECT_EQ(sources.Line(id, 1), "ab");
  EXPECT_EQ(sources.Line(id, 2), "cä日x");
  EXPECT_EQ(sources.Line(id, 3), "");
  EXPECT_EQ(sources.Line(id, 4), "end");
  EXPECT_EQ(sources.Line(id, 5), "");
  EXPECT_EQ(sources.Line(id, 0), "");
  const LineColumn x = sources.Locate(id, 10);
  EXPECT_EQ(x.line, 2u);
  EXPECT_EQ(x.column, 4u);
  const LineColumn past = sources.Locate(id, 1000);
  EXPECT_EQ(past.line, 4u);
  EXPECT_EQ(past.column, 4u);
}

TEST(SourceLines, ColumnsOfVeryLongLinesAreExactAndCheap) {
  SourceManager sources;
  std::string text = "first\n";
  for (int i = 0; i < 2'000'000; ++i) text += i % 3 == 0 ? "日" : "a";
  const SourceId id = sources.Add("t", text);
  uint32_t column = 1;
  for (uint32_t at = 6; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
    // Every position near the edges of the blocks, and some others. Counted from the start of the line each time, this
    // would take minutes.
    if (at % kColumnBlock < 4 || at % kColumnBlock > kColumnBlock - 4 || at % 97 == 0) {
      ASSERT_EQ(sources.Locate(id, at).column, column) << at;
    }
    ++column;
  }
  EXPECT_EQ(sources.Locate(id, static_cast<uint32_t>(text.size())).column, column);
}

TEST(SourceLines, EmptyTextHasOneEmptyLine) {
  SourceManager sources;
  const SourceId id = sources.Add("empty", "");
  EXPECT_EQ(sources.Locate(id, 0).line, 1u);
  EXPECT_EQ(sources.Line(id, 1), "");
  EXPECT_EQ(sources.Text({id, 0, 5}), "");
}

TEST(SourceLines, TextOfASpanStaysValidWhileSourcesAreAdded) {
  SourceManager sources;
  const SourceId id = sources.Add("t", "alpha beta");
  const std::string_view beta = sources.Text({id, 6, 10});
  for (int i = 0; i < 100; ++i) sources.Add("more", "x");
  EXPECT_EQ(beta, "beta");
  EXPECT_EQ(sources.Text({}), "");
}

}  // namespace
}  // namespace jobc
