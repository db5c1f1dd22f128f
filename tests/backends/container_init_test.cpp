// The init program of containers, run for real: as an ordinary process, and as PID 1 of a namespace of its own (as root).
#include "backends/container/init.h"
#include "backends/container/places.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "runtime/process/process_tree.h"
#include "tests/engine/run_fixture_files.h"

namespace jobc::container {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using jobc::testing::Exists;
using jobc::testing::ReadAll;
using jobc::testing::TempDir;
using Clock = std::chrono::steady_clock;

enum class Mode { Ordinary, First };

bool WaitUntil(const std::function<bool()>& condition, int seconds = 20) {
  for (const auto end = Clock::now() + std::chrono::seconds(seconds); Clock::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds(2))) {
    if (condition()) return true;
  }
  return condition();
}

class ContainerInit : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (GetParam() == Mode::First && geteuid() != 0) GTEST_SKIP() << "namespaces of processes need root";
    auto installed = InstallInit(dir.path());
    ASSERT_TRUE(installed.ok()) << installed.error().message;
    init = *installed;
    ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
  }
  ~ContainerInit() override {
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    for (int fd : alive) {
      if (fd >= 0) close(fd);
    }
  }

  /// Everything of it holds the pipe `alive` open.
  void Start(std::vector<std::string> options, std::vector<std::string> program, uid_t user = 0) {
    std::vector<std::string> words{init};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--end", end_path, "--"});
    words.insert(words.end(), program.begin(), program.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    began = Clock::now();
    pid = static_cast<pid_t>(syscall(SYS_clone, (GetParam() == Mode::First ? CLONE_NEWPID : 0) | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    ASSERT_GE(pid, 0) << std::strerror(errno);
    if (pid == 0) {
      fcntl(alive[1], F_SETFD, 0);
      if (chdir(dir.path().c_str()) != 0 || (user != 0 && (setgid(user) != 0 || setuid(user) != 0))) _exit(99);
      execv(argv[0], argv.data());
      _exit(98);
    }
    close(alive[1]);
    alive[1] = -1;
  }
  void Sh(std::vector<std::string> options, const std::string& script) { Start(std::move(options), {"sh", "-c", script}); }

  /// The exit code; -N after signal N.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    pid = 0;
    took = Clock::now() - began;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int64_t Took() const { return std::chrono::duration_cast<std::chrono::milliseconds>(took).count(); }

  /// Whether nothing holds the pipe any more. What was killed may take a moment to be gone.
  bool AllGone() {
    pollfd ask{alive[0], POLLIN, 0};
    return poll(&ask, 1, 10'000) == 1 && (ask.revents & POLLHUP) != 0;
  }
  std::optional<InitEnd> End() { return ParseInitEnd(ReadAll(end_path)); }

  TempDir dir;
  std::string init;
  std::string end_path = dir / "end";
  int alive[2] = {-1, -1};
  pid_t pid = 0;
  Clock::time_point began;
  Clock::duration took{};
};

TEST_P(ContainerInit, TellsHowAProgramEnded) {
  struct Case {
    std::vector<std::string> program;
    int code;
    std::optional<int> exit, signal;
    int start_error;
  };
  dir.Write("no-program", "text");
  dir.Write("no-interpreter", "#!/no/such/interpreter\n");
  dir.Write("not-for-here", "\x7f" "ELF rubbish");
  chmod((dir / "no-interpreter").c_str(), 0755);
  chmod((dir / "not-for-here").c_str(), 0755);
  const Case cases[] = {
      {{"true"}, 0, 0, {}, 0},
      {{"sh", "-c", "exit 3"}, 3, 3, {}, 0},
      {{"sh", "-c", "exit 255"}, 255, 255, {}, 0},
      {{"sh", "-c", "exit 126"}, 126, 126, {}, 0},  // the program's own
      {{"sh", "-c", "exit 127"}, 127, 127, {}, 0},
      {{"sh", "-c", "exit 137"}, 137, 137, {}, 0},
      {{"sh", "-c", "kill -9 $$"}, 137, {}, SIGKILL, 0},
      {{"sh", "-c", "kill -SEGV $$"}, 139, {}, SIGSEGV, 0},
      {{"no-such-program"}, 127, {}, {}, ENOENT},
      {{"./no-such-program"}, 127, {}, {}, ENOENT},
      {{""}, 127, {}, {}, ENOENT},
      {{"./no-interpreter"}, 127, {}, {}, ENOENT},
      {{"./no-program"}, 126, {}, {}, EACCES},
      {{"./not-for-here"}, 126, {}, {}, ENOEXEC},
      {{"/tmp"}, 126, {}, {}, EACCES},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.program.back());
    if (alive[0] >= 0) close(alive[0]);
    ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
    Start({}, one.program);
    EXPECT_EQ(Wait(), one.code);
    auto end = End();
    ASSERT_TRUE(end) << ReadAll(end_path);
    EXPECT_EQ(end->exit.exit_code, one.exit);
    EXPECT_EQ(end->exit.signal, one.signal);
    EXPECT_EQ(end->start_error, one.start_error);
    EXPECT_FALSE(end->limit);
    EXPECT_GE(end->exit.wall_ms, end->started_ms);
    EXPECT_GT(end->started_ms, 1'600'000'000'000);
  }
}

TEST_P(ContainerInit, ReapsOrphansWhileTheProgramRuns) {
  // 1,000 children of children that are gone: each becomes a child of init, and ends at once.
  Sh({}, "i=0; while [ $i -lt 1000 ]; do (true &) ; i=$((i+1)); done; : > made; while ! [ -e go ]; do sleep 0.01; done; exit 4");
  ASSERT_TRUE(WaitUntil([&] { return Exists(dir / "made"); }));
  auto children = [&] {
    std::ifstream file(fmt::format("/proc/{}/task/{}/children", pid, pid));
    int count = 0;
    for (int child; file >> child;) ++count;
    return count;
  };
  EXPECT_TRUE(WaitUntil([&] { return children() == 1; })) << children();
  dir.Write("go", "");
  EXPECT_EQ(Wait(), 4);
}

TEST_P(ContainerInit, KillsWhatTheProgramLeaves) {
  Sh({}, "i=0; while [ $i -lt 1000 ]; do (trap '' TERM; exec sleep 1000) & i=$((i+1)); done; setsid sleep 1000 & exit 7");
  EXPECT_EQ(Wait(), 7);
  EXPECT_TRUE(AllGone());
  EXPECT_EQ(End()->exit.exit_code, 7);
}

TEST_P(ContainerInit, PassesTermToTheWholeTree) {
  // A grandchild in a session of its own hears of it, and the program decides how it ends.
  dir.Write("deep.sh", "trap ': > heard; exit' TERM; : > ready; while :; do sleep 0.01; done\n");
  Sh({"--grace", "20000"}, "trap 'while ! [ -e heard ]; do sleep 0.01; done; exit 5' TERM; (setsid sh deep.sh &); while :; do sleep 0.01; done");
  ASSERT_TRUE(WaitUntil([&] { return Exists(dir / "ready"); }));
  kill(pid, SIGTERM);
  EXPECT_EQ(Wait(), 5);
  EXPECT_TRUE(AllGone());
  EXPECT_FALSE(End()->limit);
}

TEST_P(ContainerInit, KillsWhatIgnoresTermAfterTheGrace) {
  Sh({"--grace", "300"}, "trap '' TERM; (setsid sleep 1000 &); : > ready; while :; do sleep 0.01; done");
  ASSERT_TRUE(WaitUntil([&] { return Exists(dir / "ready"); }));
  const auto asked = Clock::now();
  kill(pid, SIGTERM);
  EXPECT_EQ(Wait(), 137);
  EXPECT_GE(Clock::now() - asked, std::chrono::milliseconds(300));
  EXPECT_EQ(End()->exit.signal, SIGKILL);
  EXPECT_TRUE(AllGone());
}

TEST_P(ContainerInit, TermEndsWhatIsStopped) {
  Sh({"--grace", "20000"}, "(: > ready) ; kill -STOP $$; while :; do sleep 1; done");
  ASSERT_TRUE(WaitUntil([&] { return Exists(dir / "ready"); }));
  kill(pid, SIGTERM);
  EXPECT_EQ(Wait(), 143);
  EXPECT_EQ(End()->exit.signal, SIGTERM);
}

TEST_P(ContainerInit, EndsAProgramAtItsLimit) {
  Sh({"--limit", "400", "--grace", "20000"}, "while :; do sleep 0.01; done");
  EXPECT_EQ(Wait(), 143);
  EXPECT_GE(Took(), 400);
  EXPECT_TRUE(End()->limit);
  EXPECT_EQ(End()->exit.signal, SIGTERM);
  EXPECT_TRUE(AllGone());
}

TEST_P(ContainerInit, EndsAtItsLimitWhatIgnoresTermAndForks) {
  Sh({"--limit", "300", "--grace", "200"}, "trap '' TERM; while :; do (trap '' TERM; sleep 1000) & sleep 0.002; done");
  EXPECT_EQ(Wait(), 137);
  EXPECT_GE(Took(), 500);
  EXPECT_TRUE(End()->limit);
  EXPECT_TRUE(AllGone());
}

TEST_P(ContainerInit, ALimitThatIsNotReachedIsNoMatter) {
  Sh({"--limit", "60000"}, "exit 2");
  EXPECT_EQ(Wait(), 2);
  EXPECT_FALSE(End()->limit);
}

TEST_P(ContainerInit, GivesOtherSignalsToTheProgram) {
  Sh({}, "trap 'exit 6' USR1; : > ready; while :; do sleep 0.01; done");
  ASSERT_TRUE(WaitUntil([&] { return Exists(dir / "ready"); }));
  kill(pid, SIGUSR1);
  EXPECT_EQ(Wait(), 6);
}

TEST_P(ContainerInit, StartsProgramsWithStandardSignals) {
  // Whatever init has blocked for itself: a program that blocked TERM could not be ended in peace.
  Start({}, {"sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status > signals"});
  EXPECT_EQ(Wait(), 0);
  EXPECT_THAT(ReadAll(dir / "signals"), HasSubstr("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000"));
}

TEST_P(ContainerInit, AReportThatCannotBeWrittenChangesNothing) {
  end_path = "/no/such/directory/end";
  Sh({}, "exit 9");
  EXPECT_EQ(Wait(), 9);
}

TEST_P(ContainerInit, NeverWritesThroughALink) {
  dir.Write("precious", "mine");
  Sh({}, "ln -s precious end.new; ln -s precious end");
  EXPECT_EQ(Wait(), 0);
  EXPECT_EQ(ReadAll(dir / "precious"), "mine");
  EXPECT_TRUE(End());
}

TEST_P(ContainerInit, WorksForAnyUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  chmod(dir.path().c_str(), 0777);
  chmod((dir / "bin").c_str(), 0755);
  Start({"--limit", "300", "--grace", "100"}, {"sh", "-c", "id -u > who; trap '' TERM; (setsid sleep 1000 &); while :; do sleep 0.01; done"}, 65534);
  EXPECT_EQ(Wait(), 137);
  EXPECT_EQ(ReadAll(dir / "who"), "65534\n");
  EXPECT_TRUE(End()->limit);
  EXPECT_TRUE(AllGone());
}

TEST_P(ContainerInit, TakesItsEnvironmentFromAFile) {
  const std::string strange = std::string("line\nbreak, comma: $HOME `x` \"quoted\"");
  std::string text;
  for (const std::string& entry : {std::string("NEW=") + strange, std::string("REPLACED=now"), std::string("EMPTY="), std::string("no name"), std::string("NEW2=") + std::string(100'000, 'y')}) text += entry + '\0';
  dir.Write("env", text.substr(0, text.size() - 1));  // the last zero byte may be missing
  setenv("REPLACED", "before", 1);
  setenv("REPLACED_NOT", "stays", 1);
  Sh({"--env", dir / "env"}, "printf '%s|%s|%s|%s' \"$NEW\" \"$REPLACED\" \"$REPLACED_NOT\" \"${EMPTY-unset}\" > seen; printf %s \"$NEW2\" | wc -c > size");
  unsetenv("REPLACED");
  unsetenv("REPLACED_NOT");
  EXPECT_EQ(Wait(), 0);
  EXPECT_EQ(ReadAll(dir / "seen"), strange + "|now|stays|");
  EXPECT_EQ(ReadAll(dir / "size"), "100000\n");
}

TEST_P(ContainerInit, SearchesThePath) {
  dir.Write("a/tool", "text");
  dir.Write("b/tool", "#!/bin/sh\nexit 8\n");
  chmod((dir / "b/tool").c_str(), 0755);
  setenv("PATH", fmt::format("/no/such:{}:{}:/usr/bin:/bin", dir / "a", dir / "b").c_str(), 1);
  Start({}, {"tool"});
  EXPECT_EQ(Wait(), 8) << "what may not be executed is passed over";
  setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
}

INSTANTIATE_TEST_SUITE_P(As, ContainerInit, ::testing::Values(Mode::Ordinary, Mode::First),
                         [](const auto& info) { return info.param == Mode::First ? "First" : "Ordinary"; });

TEST(InitCommandLine, SaysWhatIsWrongWithIt) {
  TempDir dir;
  const std::string init = *InstallInit(dir.path());
  for (const char* words : {"", "--", "--limit x -- true", "--limit -5 -- true", "--grace", "--what 1 -- true", "--env /no/such/file -- true", "true"}) {
    const int status = std::system(fmt::format("{} {} 2>{}/err", init, words, dir.path()).c_str());
    EXPECT_EQ(WEXITSTATUS(status), 125) << words;
    EXPECT_THAT(ReadAll(dir / "err"), HasSubstr("jobc init: ")) << words;
  }
}

TEST(InitCommandLine, IsMadeFromAnAttempt) {
  AttemptLaunch launch;
  launch.places.seen.emplace();
  launch.grace_ms = 5000;
  EXPECT_THAT(InitCommand(launch, {"tool", "--", "x"}), ElementsAre("/jobc/init", "--grace", "5000", "--end", "/jobc/stage/end", "--", "tool", "--", "x"));
  launch.timeouts.run = 60'000;
  launch.grace_ms = -1;
  EXPECT_THAT(InitCommand(launch, {"tool"}), ElementsAre("/jobc/init", "--limit", "62000", "--grace", "0", "--end", "/jobc/stage/end", "--", "tool"));
}

TEST(InitReports, AreTakenOnlyIfTheyAreOnes) {
  auto end = ParseInitEnd("exit 3\nlimit\ntimes 1000 2500\nusage 12 300\n");
  ASSERT_TRUE(end);
  EXPECT_EQ(end->exit.exit_code, 3);
  EXPECT_TRUE(end->limit);
  EXPECT_EQ(end->started_ms, 1000);
  EXPECT_EQ(end->exit.wall_ms, 2500);
  EXPECT_EQ(end->exit.usage.cpu_ms, 12);
  EXPECT_EQ(end->exit.usage.max_memory, 300 * 1024);
  EXPECT_FALSE(end->exit.out_of_memory);
  EXPECT_TRUE(ParseInitEnd("signal 9\noom\ntimes 1 2\n")->exit.out_of_memory);
  EXPECT_TRUE(ParseInitEnd("exit 137\noom\ntimes 1 2\n")->exit.out_of_memory) << "a shell whose child was killed";
  EXPECT_FALSE(ParseInitEnd("exit 0\noom\ntimes 1 2\n")->exit.out_of_memory);
  for (const char* text : {"", "oom\n", "exit 3\noom 1\n", "exit", "exit 3", "exit x\n", "exit 256\n", "exit -1\n", "start 0\n", "limit\n", "times 1 2\n", "what 3\n", "exit 3 4\n", "exit 3\ntimes 1\n"}) {
    EXPECT_FALSE(ParseInitEnd(text)) << text;
  }
  EXPECT_THAT(StartVerdict(ENOENT, "bwa", "the image bio:1").message, HasSubstr("`bwa` was not found in the image bio:1"));
  EXPECT_EQ(StartVerdict(ENOEXEC, "bwa", "the image bio:1").kind, ir::ErrorKind::Command);
}

TEST(ContainerPlaces, AreFoundByALaterProcess) {
  TempDir dir;
  EXPECT_FALSE(FindPlaces(dir.path(), 7));
  auto made = MakePlaces(dir.path(), 7);
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_TRUE(Exists(dir / "attempts/7/out") && Exists(dir / "attempts/7/tmp"));
  EXPECT_EQ(made->SeenOutput(), "/jobc/out");
  EXPECT_EQ(made->inputs, InputStaging::Mount);
  auto found = FindPlaces(dir.path(), 7);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->output_dir, made->output_dir);
  EXPECT_EQ(found->stage_dir, dir / "attempts/7/stage");
  EXPECT_FALSE(MakePlaces(dir.path(), 7).ok()) << "an attempt has its directories for itself";
  EXPECT_FALSE(MakePlaces("/proc/nothing", 1).ok());
  EXPECT_FALSE(FindPlaces(dir.path(), 8));
}

TEST(InitFile, IsThereOnceForEveryoneAndWhole) {
  TempDir dir;
  const mode_t mask = umask(077);
  auto first = InstallInit(dir.path());
  umask(mask);
  ASSERT_TRUE(first.ok());
  struct stat info;
  ASSERT_EQ(stat(first->c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0755u);
  EXPECT_LT(InitProgram().size(), 16u << 10) << "it is started for each attempt and lies in jobc itself";
  const ino_t inode = info.st_ino;
  EXPECT_EQ(*InstallInit(dir.path()), *first);
  ASSERT_EQ(stat(first->c_str(), &info), 0);
  EXPECT_EQ(info.st_ino, inode) << "made once";
  ASSERT_EQ(truncate(first->c_str(), 100), 0);
  ASSERT_TRUE(InstallInit(dir.path()).ok());
  EXPECT_EQ(ReadAll(*first), InitProgram()) << "a damaged one is replaced";
  EXPECT_FALSE(InstallInit("/proc/nothing").ok());
}

}  // namespace
}  // namespace jobc::container
