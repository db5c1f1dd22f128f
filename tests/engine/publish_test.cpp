// Publishing: whole files only, links replaced, the manifest last.
#include "runtime/publish.h"

#include <fcntl.h>

#include <atomic>
#include <thread>

#include "ir/json.h"
#include "tests/engine/run_fixture_files.h"

namespace jobc {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::Exists;
using testing::ReadAll;

class Publishing : public ::testing::Test {
 protected:
  PublishItem Item(const std::string& path, const std::string& source, bool is_dir = false) { return {path, dir / source, is_dir, "job"}; }
  Result<void> Publish(std::vector<PublishItem> items, bool prune = false) { return PublishFiles(dir / "dest", "run1", std::move(items), prune); }
  testing::TempDir dir;
};

TEST_F(Publishing, CopiesFilesAndTreesAndLeavesNothingElse) {
  dir.Write("a", "A");
  dir.Write("tree/x/y", "Y");
  auto done = Publish({Item("out/a.txt", "a"), Item("tree", "tree", true)});
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(ReadAll(dir / "dest/out/a.txt"), "A");
  EXPECT_EQ(ReadAll(dir / "dest/tree/x/y"), "Y");
  EXPECT_FALSE(Exists(dir / "dest/.jobc-run1"));
  auto manifest = ir::ParseJson(ReadAll(dir / "dest/jobc-manifest.json"));
  ASSERT_TRUE(manifest.ok());
  const auto& files = manifest->Find("files")->as_list();
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].Find("path")->as_string(), "out/a.txt");
  EXPECT_EQ(files[0].Find("sha256")->as_string(), "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd");
  EXPECT_EQ(files[1].Find("path")->as_string(), "tree/x/y");
}

TEST_F(Publishing, ReplacesLinksAndNeverFollowsThem) {
  dir.Write("a", "new");
  dir.Write("precious", "old");
  dir.Write("elsewhere/keep", "keep");
  ASSERT_TRUE(process::MakeDirectories(dir / "dest").ok());
  ASSERT_EQ(symlink((dir / "precious").c_str(), (dir / "dest/a").c_str()), 0);
  ASSERT_EQ(symlink((dir / "elsewhere").c_str(), (dir / "dest/sub").c_str()), 0);
  auto done = Publish({Item("a", "a"), Item("sub/a", "a")});
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(ReadAll(dir / "precious"), "old");
  EXPECT_EQ(ReadAll(dir / "dest/a"), "new");
  EXPECT_EQ(ReadAll(dir / "dest/sub/a"), "new");
  EXPECT_FALSE(Exists(dir / "elsewhere/a"));
}

TEST_F(Publishing, ReplacesADirectoryAsAWhole) {
  dir.Write("dest/tree/stale", "s");
  dir.Write("tree/fresh", "f");
  ASSERT_TRUE(Publish({Item("tree", "tree", true)}).ok());
  EXPECT_FALSE(Exists(dir / "dest/tree/stale"));
  EXPECT_EQ(ReadAll(dir / "dest/tree/fresh"), "f");
}

TEST_F(Publishing, NeverShowsAReaderHalfAFile) {
  dir.Write("old", std::string(1 << 20, 'o'));
  dir.Write("new", std::string(1 << 20, 'n'));
  ASSERT_TRUE(Publish({Item("f", "old")}).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  std::thread reader([&] {
    while (!stop) {
      std::string text = ReadAll(dir / "dest/f");
      if (text.size() != 1u << 20 || text.find_first_not_of(text[0]) != std::string::npos) {
        ++torn;
      }
    }
  });
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Publish({Item("f", i % 2 == 0 ? "new" : "old")}).ok());
  }
  stop = true;
  reader.join();
  EXPECT_EQ(torn, 0);
}

TEST_F(Publishing, PrunesOnlyWhatAnEarlierRunPublished) {
  dir.Write("a", "A");
  dir.Write("b", "B");
  ASSERT_TRUE(Publish({Item("a", "a"), Item("deep/er/b", "b")}).ok());
  dir.Write("dest/mine", "not published");
  ASSERT_TRUE(Publish({Item("a", "a")}).ok());
  EXPECT_TRUE(Exists(dir / "dest/deep/er/b")) << "without prune everything stays";
  ASSERT_TRUE(Publish({Item("a", "a"), Item("deep/er/b", "b")}).ok());
  ASSERT_TRUE(Publish({Item("a", "a")}, true).ok());
  EXPECT_FALSE(Exists(dir / "dest/deep"));
  EXPECT_TRUE(Exists(dir / "dest/mine"));
  EXPECT_TRUE(Exists(dir / "dest/a"));
}

TEST_F(Publishing, DoesNotPruneThroughALinkOrOutOfItsDestination) {
  dir.Write("a", "A");
  dir.Write("outside/victim", "v");
  ASSERT_TRUE(Publish({Item("a", "a")}).ok());
  dir.Write("dest/jobc-manifest.json", R"({"files":[{"path":"../outside/victim"},{"path":"link/victim"},{"path":"/etc/x"}]})");
  ASSERT_EQ(symlink((dir / "outside").c_str(), (dir / "dest/link").c_str()), 0);
  ASSERT_TRUE(Publish({Item("a", "a")}, true).ok());
  EXPECT_TRUE(Exists(dir / "outside/victim"));
}

TEST_F(Publishing, RefusesCollisionsBeforeAnythingIsTouched) {
  dir.Write("a", "A");
  auto same = Publish({Item("x", "a"), Item("x", "a")});
  ASSERT_FALSE(same.ok());
  EXPECT_THAT(same.error().message, HasSubstr("both publish `x`"));
  auto inside = Publish({Item("x", "a"), Item("x/y", "a")});
  ASSERT_FALSE(inside.ok());
  EXPECT_THAT(inside.error().message, HasSubstr("inside `x`"));
  EXPECT_FALSE(Exists(dir / "dest"));
}

TEST_F(Publishing, LeavesTheOldSetWhenASourceIsGone) {
  dir.Write("a", "A");
  ASSERT_TRUE(Publish({Item("a", "a")}).ok());
  std::string manifest = ReadAll(dir / "dest/jobc-manifest.json");
  dir.Write("a", "changed");
  auto done = Publish({Item("a", "a"), Item("b", "missing")});
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message, HasSubstr("missing"));
  EXPECT_EQ(ReadAll(dir / "dest/a"), "A");
  EXPECT_EQ(ReadAll(dir / "dest/jobc-manifest.json"), manifest);
  EXPECT_FALSE(Exists(dir / "dest/.jobc-run1"));
}

TEST(PublishPaths, MustStayBelowTheDestination) {
  for (const char* bad : {"", "/x", "a/../b", "./a", "a//b", "a/", "..", "a\nb", "jobc-manifest.json"}) {
    EXPECT_NE(PublishPathProblem(bad), "") << bad;
  }
  for (const char* good : {"a", "a/b", ".hidden", "ä ö", "...x"}) {
    EXPECT_EQ(PublishPathProblem(good), "") << good;
  }
}

}  // namespace
}  // namespace jobc
