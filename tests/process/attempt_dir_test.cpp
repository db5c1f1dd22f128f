// Stories of attempt directories and of the removal of trees.
#include "runtime/process/attempt_dir.h"

#include <sys/wait.h>

#include "tests/process/harness.h"

namespace jobc::process {
namespace {

std::unique_ptr<AttemptDirs> OpenDirs(const TempDir& dir) { return std::move(AttemptDirs::Open(dir / "run").value()); }

TEST(AttemptDirs, UntouchedDirectoriesGoToTheNextAttempt) {
  TempDir dir;
  auto dirs = OpenDirs(dir);
  for (int i = 0; i < 100; ++i) {
    AttemptDirs::Pair pair = dirs->Take().value();
    EXPECT_EQ(dirs->GiveBack(pair, true), AttemptDirs::Fate::kReused);
  }
  EXPECT_EQ(dirs->made(), 2u);
}

TEST(AttemptDirs, TwoAttemptsNeverShareADirectory) {
  TempDir dir;
  auto dirs = OpenDirs(dir);
  AttemptDirs::Pair a = dirs->Take().value();
  AttemptDirs::Pair b = dirs->Take().value();
  EXPECT_NE(a.work.path, b.work.path);
  EXPECT_NE(a.tmp.path, b.tmp.path);
  EXPECT_NE(a.work.path, a.tmp.path);
}

TEST(AttemptDirs, AnythingThatAnAttemptDidToItsDirectoryEndsTheReuse) {
  struct Case {
    const char* what;
    std::function<void(const std::string&)> touch;
    AttemptDirs::Fate fate;
  };
  const Case cases[] = {
      {"left a file at once", [](const std::string& p) { WriteText(p + "/x", "x"); }, AttemptDirs::Fate::kKept},
      {"removed its file again", [](const std::string& p) { WriteText(p + "/x", "x"); unlink((p + "/x").c_str()); },
       AttemptDirs::Fate::kRemoved},
      {"changed the mode", [](const std::string& p) { chmod(p.c_str(), 0700); }, AttemptDirs::Fate::kRemoved},
      {"removed it", [](const std::string& p) { rmdir(p.c_str()); }, AttemptDirs::Fate::kRemoved},
      {"replaced it", [](const std::string& p) { rmdir(p.c_str()); mkdir(p.c_str(), 0755); }, AttemptDirs::Fate::kRemoved},
      {"left a file and set the time back",
       [](const std::string& p) {
         WriteText(p + "/x", "x");
         timespec times[2] = {{1, 0}, {1, 0}};
         utimensat(AT_FDCWD, p.c_str(), times, 0);
       },
       AttemptDirs::Fate::kKept},
  };
  for (const Case& c : cases) {
    TempDir dir;
    auto dirs = OpenDirs(dir);
    AttemptDirs::Pair pair = dirs->Take().value();
    c.touch(pair.work.path);
    EXPECT_EQ(dirs->GiveBack(pair, true), c.fate) << c.what;
    EXPECT_NE(dirs->Take().value().work.path, pair.work.path) << c.what;
  }
}

TEST(AttemptDirs, WhatIsNotKeptIsRemoved) {
  TempDir dir;
  std::string work;
  std::string tmp;
  {
    auto dirs = OpenDirs(dir);
    AttemptDirs::Pair pair = dirs->Take().value();
    work = pair.work.path;
    tmp = pair.tmp.path;
    WriteText(work + "/out", "x");
    WriteText(tmp + "/scratch", "x");
    EXPECT_EQ(dirs->GiveBack(pair, false), AttemptDirs::Fate::kRemoved);
  }
  EXPECT_NE(access(work.c_str(), F_OK), 0);
  EXPECT_NE(access(tmp.c_str(), F_OK), 0);
  EXPECT_NE(access((dir / "run/work").c_str(), F_OK), 0) << "empty parents go too";
}

TEST(AttemptDirs, TemporaryFilesNeverStay) {
  TempDir dir;
  std::string kept;
  {
    auto dirs = OpenDirs(dir);
    AttemptDirs::Pair pair = dirs->Take().value();
    kept = pair.work.path + "/out";
    WriteText(kept, "x");
    WriteText(pair.tmp.path + "/scratch", "x");
    EXPECT_EQ(dirs->GiveBack(pair, true), AttemptDirs::Fate::kKept);
  }
  EXPECT_EQ(access(kept.c_str(), F_OK), 0);
  EXPECT_NE(access((dir / "run/tmp").c_str(), F_OK), 0);
}

TEST(AttemptDirs, ALaterProcessOfTheSameRunTakesNewOnes) {
  TempDir dir;
  std::string kept;
  {
    auto dirs = OpenDirs(dir);
    AttemptDirs::Pair pair = dirs->Take().value();
    kept = pair.work.path;
    WriteText(kept + "/out", "x");
    dirs->GiveBack(pair, true);
  }
  auto dirs = OpenDirs(dir);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(dirs->Take().value().work.path, kept);
  }
}

TEST(AttemptDirs, SaysWhereNothingCanBeMade) {
  TempDir dir;
  WriteText(dir / "run", "a file");
  Result<std::unique_ptr<AttemptDirs>> dirs = AttemptDirs::Open(dir / "run");
  ASSERT_FALSE(dirs.ok());
  EXPECT_THAT(dirs.error().message, ::testing::HasSubstr("run/work`: Not a directory"));
}

TEST(RemoveTree, NothingIsSuccessAndAFileIsRemoved) {
  TempDir dir;
  EXPECT_TRUE(RemoveTree(dir / "none").ok());
  WriteText(dir / "file", "x");
  EXPECT_TRUE(RemoveTree(dir / "file").ok());
  EXPECT_NE(access((dir / "file").c_str(), F_OK), 0);
}

TEST(RemoveTree, DoesNotFollowLinks) {
  TempDir dir;
  WriteText(dir / "precious", "x");
  mkdir((dir / "kept").c_str(), 0755);
  WriteText(dir / "kept/precious", "x");
  mkdir((dir / "tree").c_str(), 0755);
  ASSERT_EQ(symlink("../precious", (dir / "tree/file").c_str()), 0);
  ASSERT_EQ(symlink("../kept", (dir / "tree/dir").c_str()), 0);
  ASSERT_EQ(symlink("kept", (dir / "link").c_str()), 0);
  EXPECT_TRUE(RemoveTree(dir / "tree").ok());
  EXPECT_TRUE(RemoveTree(dir / "link").ok());
  EXPECT_EQ(access((dir / "precious").c_str(), F_OK), 0);
  EXPECT_EQ(access((dir / "kept/precious").c_str(), F_OK), 0);
}

TEST(RemoveTree, OpensUpDirectoriesWithoutPermissions) {
  // As an ordinary user, since root may do everything anyway.
  TempDir dir;
  chmod(dir.path().c_str(), 0777);
  pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) {
      _exit(2);
    }
    std::string tree = dir / "tree";
    for (const char* sub : {"", "/a", "/a/b"}) {
      mkdir((tree + sub).c_str(), 0755);
    }
    WriteText(tree + "/a/b/file", "x", 0400);
    WriteText(tree + "/a/file", "x", 0400);
    chmod((tree + "/a/b").c_str(), 0);
    chmod((tree + "/a").c_str(), 0500);
    chmod(tree.c_str(), 0555);
    _exit(RemoveTree(tree).ok() && access(tree.c_str(), F_OK) != 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(RemoveTree, HandlesAnyDepthAndWidth) {
  TempDir dir;
  std::string tree = dir / "tree";
  mkdir(tree.c_str(), 0755);
  UniqueFd at(open(tree.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string name(100, 'd');
  for (int depth = 0; depth < 3000; ++depth) {  // 300 kB of path
    ASSERT_EQ(mkdirat(at.get(), name.c_str(), 0755), 0);
    at.Reset(openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at);
  }
  for (int i = 0; i < 2000; ++i) {
    UniqueFd file(openat(at.get(), std::to_string(i).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    if (i % 20 == 0) {
      const std::string below = "dir" + std::to_string(i);
      mkdirat(at.get(), below.c_str(), 0755);
      ASSERT_EQ(symlinkat("nothing", at.get(), (below + "/link").c_str()), 0);
    }
  }
  at.Reset();
  Result<void> removed = RemoveTree(tree);
  EXPECT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_NE(access(tree.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace jobc::process
