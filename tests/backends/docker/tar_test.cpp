// Archives of the Engine API, both ways: against each other, against tar(1), cut into pieces of every size, and against names
// and links that would lead out of the directory.
#include "backends/docker/tar.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace jobc::docker {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Tar : public testing::Test {
 protected:
  void SetUp() override {
    char made[] = "/tmp/jobc-tar-XXXXXX";
    ASSERT_NE(mkdtemp(made), nullptr);
    base_ = made;
    for (const char* name : {"/from", "/to", "/inputs"}) fs::create_directory(base_ + name);
  }
  void TearDown() override { fs::remove_all(base_); }

  void Write(const std::string& name, const std::string& text, mode_t mode = 0644) {
    fs::create_directories(fs::path(base_ + name).parent_path());
    std::ofstream(base_ + name) << text;
    chmod((base_ + name).c_str(), mode);
  }
  std::string ReadBack(const std::string& name) {
    std::ifstream file(base_ + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static std::string Make(std::vector<TarTree> trees, size_t piece = 4096) {
    TarMaker maker(std::move(trees), 1000, 5'000'000);
    std::string out, part(piece, '\0');
    for (;;) {
      auto count = maker.Read(part.data(), piece);
      if (!count) return "error: " + count.error().message;
      if (*count == 0) return out;
      out.append(part, 0, *count);
    }
  }
  static std::string Take(TarTaker taker, std::string_view archive, size_t piece = 4096) {
    for (; !archive.empty(); archive.remove_prefix(std::min(piece, archive.size()))) {
      if (auto fed = taker.Feed(archive.substr(0, piece)); !fed) return fed.error().message;
    }
    auto ended = taker.End();
    return ended ? "" : ended.error().message;
  }
  std::string Shell(const std::string& command) {
    FILE* pipe = popen(("cd " + base_ + " && " + command + " 2>&1").c_str(), "r");
    std::string out;
    for (int c; (c = fgetc(pipe)) != EOF;) out += static_cast<char>(c);
    pclose(pipe);
    return out;
  }

  std::string base_;
};

TEST_F(Tar, GoesThereAndBackInPiecesOfEverySize) {
  const std::string deep = "/from/" + std::string(90, 'a') + "/" + std::string(90, 'b') + "/" + std::string(120, 'c');
  Write(deep, "deep");
  Write("/from/empty", "");
  Write("/from/run", std::string(5000, 'x'), 0755);
  fs::create_directory(base_ + "/from/none");
  symlink("run", (base_ + "/from/link").c_str());
  symlink(std::string(150, 'l').c_str(), (base_ + "/from/long").c_str());
  mkfifo((base_ + "/from/pipe").c_str(), 0600);
  for (size_t piece : {1, 7, 511, 512, 513, 100'000}) {
    const std::string archive = Make({{base_ + "/from", "out"}}, piece);
    fs::remove_all(base_ + "/to");
    fs::create_directory(base_ + "/to");
    ASSERT_EQ(Take(TarTaker(base_ + "/to"), archive, piece), "");
    EXPECT_EQ(Shell("rm -f from/pipe; diff -r --no-dereference from to"), "");
    EXPECT_EQ(ReadBack("/to" + deep.substr(5)), "deep");
    EXPECT_EQ(access((base_ + "/to/run").c_str(), X_OK), 0);
    EXPECT_NE(access((base_ + "/to/empty").c_str(), X_OK), 0);
  }
}

TEST_F(Tar, IsReadByTar) {
  Write("/from/f", "text");
  Write("/inputs/t", "table", 0600);
  Write("/from/in/x/t", "");  // a place for the input, which stands there instead
  const std::string archive = Make({{base_ + "/from", "stage"}, {base_ + "/inputs/t", "stage/in/x/t", true}, {base_ + "/inputs/t", "init", true, true}});
  std::ofstream(base_ + "/a.tar") << archive;
  const std::string list = Shell("tar --numeric-owner -tvf a.tar | awk '{print $1, $2, $3, $NF}'");
  EXPECT_THAT(list, HasSubstr("-rw-r--r-- 1000/5000000 4 stage/f\n"));
  EXPECT_THAT(list, HasSubstr("-r--r--r-- 0/0 5 stage/in/x/t\n"));
  EXPECT_THAT(list, HasSubstr("-r-xr-xr-x 0/0 5 init\n"));
  EXPECT_THAT(list, testing::Not(HasSubstr(" 0 stage/in/x/t\n")));
}

TEST_F(Tar, ReadsWhatTarWrites) {
  Write("/from/" + std::string(99, 'n') + "/" + std::string(99, 'm'), "long");
  Write("/from/a", "one");
  fs::create_hard_link(base_ + "/from/a", base_ + "/from/b");
  symlink("a", (base_ + "/from/c").c_str());
  for (const char* format : {"gnu", "pax", "posix --sparse"}) {
    Shell(std::string("tar --format=") + format + " -cf a.tar from");
    fs::remove_all(base_ + "/to");
    fs::create_directory(base_ + "/to");
    ASSERT_EQ(Take(TarTaker(base_ + "/to"), ReadBack("/a.tar"), 700), "") << format;
    EXPECT_EQ(Shell("diff -r --no-dereference from to"), "") << format;
    struct stat a, b;
    stat((base_ + "/to/a").c_str(), &a);
    stat((base_ + "/to/b").c_str(), &b);
    EXPECT_EQ(a.st_ino, b.st_ino);
  }
}

TEST_F(Tar, NothingGetsOut) {
  Write("/secret", "untouched");
  Write("/from/x", "evil");
  const std::string outside = base_ + "/secret";
  auto attack = [&](const std::string& how) {
    Shell("rm -rf w to; mkdir w to; cp from/x w/x; " + how);
    return Take(TarTaker(base_ + "/to"), ReadBack("/a.tar"));
  };
  EXPECT_THAT(attack("tar -P -cf a.tar --transform 's,^w/x,out/../../secret,' w/x"), HasSubstr("outside"));
  EXPECT_THAT(attack("tar -P -cf a.tar --transform 's,^w/x," + outside + ",' w/x"), HasSubstr("outside"));
  // A link that leads out, and then a file through it.
  EXPECT_THAT(attack("ln -s " + base_ + " w/l; tar -P -cf a.tar --transform 's,^w,out,;s,^out/x,out/l/secret,' w/l w/x"), HasSubstr("cannot write to"));
  // A file in place of a link.
  EXPECT_THAT(attack("ln -s " + outside + " w/l; tar -P -cf a.tar --transform 's,^w/x,out/l,;s,^w,out,' w/l w/x"), HasSubstr("cannot create"));
  EXPECT_EQ(ReadBack("/secret"), "untouched");
}

TEST_F(Tar, OnlyTheFileThatIsAskedFor) {
  Write("/from/result.json", "{}");
  symlink("/etc/passwd", (base_ + "/from/link").c_str());
  Shell("tar -C from -cf a.tar result.json; tar -C from -cf b.tar link");
  EXPECT_EQ(Take(TarTaker(base_ + "/to", "result.json"), ReadBack("/a.tar")), "");
  EXPECT_EQ(ReadBack("/to/result.json"), "{}");
  EXPECT_EQ(Take(TarTaker(base_ + "/to", "link"), ReadBack("/b.tar")), "");
  EXPECT_FALSE(fs::is_symlink(base_ + "/to/link"));
}

TEST_F(Tar, CutOrNoArchive) {
  Write("/from/f", std::string(2000, 'x'));
  const std::string archive = Make({{base_ + "/from", "out"}});
  EXPECT_THAT(Take(TarTaker(base_ + "/to"), archive.substr(0, 1700)), HasSubstr("ends in the middle"));
  EXPECT_THAT(Take(TarTaker(base_ + "/to"), std::string(1024, 'x')), HasSubstr("no archive"));
  std::string broken = archive;
  broken[3] ^= 1;
  EXPECT_THAT(Take(TarTaker(base_ + "/to"), broken), HasSubstr("no archive"));
}

TEST_F(Tar, SaysWhatCannotBeRead) {
  EXPECT_THAT(Make({{base_ + "/none", "out"}}), HasSubstr("cannot read `" + base_ + "/none`: No such file"));
}

}  // namespace
}  // namespace jobc::docker
