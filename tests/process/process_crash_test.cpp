// What is left of a run when jobc, its guardian, or both are killed with SIGKILL: nothing, within 2 s or after the next
// command's clean-up. The part of jobc is played by a fork of the test.
#include <grp.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/process/harness.h"

namespace jobc::process {
namespace {

using ::testing::HasSubstr;

/// A jobc with one attempt: a shell that waits, and below it a daemon (own session, reparented, no environment but, if
/// wanted, the run's id).
class Victim {
 public:
  Victim(Mode mode, bool daemon_has_env) : channel_(dir_ / "channel"), state_(dir_ / "state") {
    secret_ = dir_ / "secret dir";
    mkdir(secret_.c_str(), 0700);
    WriteText(secret_ + "/pw", "hidden");
    jobc_ = fork();
    if (jobc_ == 0) {
      Live(mode, daemon_has_env ? "JOB_RUN_ID=" + run_id_ : std::string());
    }
    guardian_ = channel_.Pid();
    daemon_ = channel_.Pid();
    std::optional<ProcessInfo> leader = ReadProcess(channel_.Pid());
    EXPECT_TRUE(leader);
    leader_ = leader->pid;
    supervisor_ = leader->parent;
    for (pid_t pid : {guardian_, daemon_, leader_, supervisor_}) {
      EXPECT_TRUE(IsAlive(pid, 0)) << pid;
    }
  }
  ~Victim() {
    if (jobc_ > 0) {
      ProcessWatch guardian(guardian_);
      KillJobc();
      EXPECT_TRUE(guardian.EndsWithin(5000));
    }
    CleanUp();
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }

  void KillJobc() {
    kill(jobc_, SIGKILL);
    waitpid(jobc_, nullptr, 0);
    jobc_ = 0;
  }
  std::vector<StaleRun> CleanUp() { return CleanUpStale(state_); }
  bool HasRecord() { return !ReadLiveRuns(state_).empty(); }
  bool HasSecret() { return access(secret_.c_str(), F_OK) == 0; }

  pid_t guardian() const { return guardian_; }
  pid_t daemon() const { return daemon_; }
  pid_t leader() const { return leader_; }
  pid_t supervisor() const { return supervisor_; }
  const std::string& run_id() const { return run_id_; }

 private:
  [[noreturn]] void Live(Mode mode, const std::string& daemon_env) {
    GuardianHandle guardian = std::move(LaunchGuardian(OptionsOf(mode)).value());
    WriteTo(std::to_string(guardian.pid));
    uv_loop_t loop;
    uv_loop_init(&loop);
    std::unique_ptr<LogWriter> log = std::move(LogWriter::Open(dir_.path()).value());
    struct Nothing : ProcessEvents {
      void OnStarted(uint64_t, const ProcessStarted&) override {}
      void OnSpawnFailed(uint64_t, const SpawnFailure&) override { _exit(97); }
      void OnExited(uint64_t, const ProcessExit&) override {}
      void OnReaped(uint64_t, const LogWriter::Closed&, uint32_t, uint64_t) override {}
      void OnGuardianLost(const std::vector<uint64_t>&) override {}
    } events;
    auto client = std::move(
        ProcessClient::Create(&loop, std::move(guardian), {run_id_, state_}, log.get(), &events).value());
    client->RemoveOnDeath(secret_);
    ProcessSpec spec;
    spec.argv = {"/bin/sh", "-c",
                 "(setsid env -i " + daemon_env + " /bin/sh -c 'echo $$ >" + channel_.path() +
                     "; exec sleep 1000' &); sleep 0.05; echo $$ >" + channel_.path() + "; trap '' TERM HUP; sleep 1000"};
    spec.env = {"PATH=/usr/bin:/bin", "JOB_RUN_ID=" + run_id_};
    spec.directory = dir_.path();
    client->Start(1, spec);
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
  }
  void WriteTo(const std::string& line) {
    UniqueFd fd(open(channel_.path().c_str(), O_WRONLY | O_CLOEXEC));
    std::string text = line + "\n";
    if (write(fd.get(), text.data(), text.size()) < 0) {
      _exit(96);
    }
  }

  const std::string run_id_ = "victim" + std::to_string(getpid());
  TempDir dir_;
  Channel channel_;
  std::string state_;
  std::string secret_;
  pid_t jobc_ = 0;
  pid_t guardian_ = 0;
  pid_t daemon_ = 0;
  pid_t leader_ = 0;
  pid_t supervisor_ = 0;
};

class Crash : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (LacksGroups(GetParam())) {
      GTEST_SKIP() << "no writable control groups: " << FindCgroupPlaces().why_no_tree;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Trees, Crash, ::testing::Values(Mode::kGroups, Mode::kShims), ModeName);

TEST_P(Crash, EverythingEndsWithinTwoSecondsOfAKilledJobc) {
  Victim victim(GetParam(), false);
  ProcessWatch daemon(victim.daemon());
  ProcessWatch leader(victim.leader());
  ProcessWatch guardian(victim.guardian());
  victim.KillJobc();
  EXPECT_TRUE(daemon.EndsWithin(2000));
  EXPECT_TRUE(leader.EndsWithin(2000));
  EXPECT_TRUE(guardian.EndsWithin(2000));
  EXPECT_FALSE(victim.HasSecret()) << "registered paths are removed";
  EXPECT_FALSE(victim.HasRecord());
  EXPECT_TRUE(victim.CleanUp().empty()) << "nothing is left to do";
}

TEST_P(Crash, TheNextCommandEndsWhatAKilledJobcAndGuardianLeft) {
  Victim victim(GetParam(), false);
  ProcessWatch daemon(victim.daemon());
  ProcessWatch leader(victim.leader());
  kill(victim.guardian(), SIGSTOP);  // so that it sees nothing of jobc's end
  victim.KillJobc();
  ProcessWatch guardian(victim.guardian());
  kill(victim.guardian(), SIGKILL);
  ASSERT_TRUE(guardian.EndsWithin(2000));
  ASSERT_TRUE(victim.HasRecord());
  EXPECT_TRUE(victim.HasSecret());
  std::vector<StaleRun> cleaned = victim.CleanUp();
  EXPECT_TRUE(daemon.EndsWithin(2000));
  EXPECT_TRUE(leader.EndsWithin(2000));
  ASSERT_EQ(cleaned.size(), 1u);
  EXPECT_EQ(cleaned[0].run_id, victim.run_id());
  EXPECT_EQ(cleaned[0].problem, "");
  EXPECT_EQ(cleaned[0].paths_removed, 1u);
  EXPECT_FALSE(victim.HasSecret());
  EXPECT_FALSE(victim.HasRecord());
  EXPECT_TRUE(victim.CleanUp().empty());
}

TEST_P(Crash, ALiveRunIsNotCleanedUp) {
  Victim victim(GetParam(), false);
  EXPECT_TRUE(victim.HasRecord());
  EXPECT_TRUE(victim.CleanUp().empty());
  EXPECT_TRUE(IsAlive(victim.daemon(), 0));
  EXPECT_TRUE(IsAlive(victim.leader(), 0));
  EXPECT_TRUE(victim.HasRecord());
}

TEST_P(Crash, AForeignMachinesRecordIsLeftAlone) {
  TempDir state;
  ASSERT_EQ(mkdir((state / "live").c_str(), 0755), 0);
  WriteText(state / "live/run-1", "jobc live run 1\nrun r\nhost elsewhere\nboot x\npidns 1\njobc 999999 1\nguardian 999998 1\nremove " +
                                      state.path() + "/live\n");
  EXPECT_TRUE(CleanUpStale(state.path()).empty());
  EXPECT_EQ(access((state / "live/run-1").c_str(), F_OK), 0);
}

TEST_P(Crash, ARecordOfAnEarlierBootOnlyRemovesPaths) {
  TempDir state;
  ASSERT_EQ(mkdir((state / "live").c_str(), 0755), 0);
  ASSERT_EQ(mkdir((state / "left").c_str(), 0755), 0);
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  // The pids are alive, but they are other processes now.
  WriteText(state / "live/run-1", std::string("jobc live run 1\nrun r\nhost ") + host + "\nboot earlier\npidns 1\njobc " +
                                      std::to_string(getpid()) + " 1\nguardian " + std::to_string(getpid()) + " 1\nremove " +
                                      (state / "left") + "\nremove " + (state / "kept") + "\nkeep " + (state / "kept") +
                                      "\nremove " + (state / "torn"));
  ASSERT_EQ(mkdir((state / "torn").c_str(), 0755), 0);
  ASSERT_EQ(mkdir((state / "kept").c_str(), 0755), 0);
  std::vector<StaleRun> cleaned = CleanUpStale(state.path());
  ASSERT_EQ(cleaned.size(), 1u);
  EXPECT_EQ(cleaned[0].paths_removed, 1u);
  EXPECT_NE(access((state / "left").c_str(), F_OK), 0);
  EXPECT_EQ(access((state / "kept").c_str(), F_OK), 0);
  EXPECT_EQ(access((state / "torn").c_str(), F_OK), 0);
}

TEST_P(Crash, AKilledGuardianIsNoticedAndItsTreesEnd) {
  Harness run(OptionsOf(GetParam()));
  TempDir outside;
  Channel channel(outside / "channel");
  uint64_t attempt = run.StartShell("(setsid env -i /bin/sh -c 'echo $$ >" + channel.path() + "; exec sleep 1000' &); sleep 1000");
  run.Until([&] { return run.seen[attempt].events == "started "; });
  pid_t daemon = channel.Pid();
  ProcessWatch watch(daemon);
  kill(run.client().guardian_pid(), SIGKILL);
  run.Until([&] { return run.client().lost(); });
  EXPECT_THAT(run.lost, ::testing::ElementsAre(attempt));
  EXPECT_TRUE(watch.EndsWithin(2000));
  EXPECT_EQ(run.client().running(), 0u);
  const Harness::Seen& refused = run.Shell("exit 0");
  EXPECT_EQ(refused.events, "failed ") << "there is nobody who could start it";
}

TEST(CrashOfAll, TheEnvironmentMarkerFindsWhatNobodySupervises) {
  Victim victim(Mode::kShims, true);
  ProcessWatch daemon(victim.daemon());
  ProcessWatch leader(victim.leader());
  ProcessWatch guardian(victim.guardian());
  ProcessWatch shim(victim.supervisor());
  for (pid_t pid : {victim.guardian(), victim.supervisor()}) {
    kill(pid, SIGSTOP);
  }
  victim.KillJobc();
  for (pid_t pid : {victim.supervisor(), victim.guardian()}) {
    kill(pid, SIGKILL);
  }
  ASSERT_TRUE(guardian.EndsWithin(2000));
  ASSERT_TRUE(shim.EndsWithin(2000));
  EXPECT_TRUE(leader.EndsWithin(2000)) << "it dies with its parent";
  EXPECT_TRUE(IsAlive(victim.daemon(), 0)) << "else this test shows nothing";
  std::vector<StaleRun> cleaned = victim.CleanUp();
  EXPECT_TRUE(daemon.EndsWithin(2000));
  ASSERT_EQ(cleaned.size(), 1u);
  EXPECT_GE(cleaned[0].processes_ended, 1u) << "the daemon, and the shell's sleep if that had begun";
}

TEST(CrashUnprivileged, AllStoriesHoldForAnOrdinaryUser) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "they have just been run as one";
  }
  EXPECT_EQ(RunAgainAsOrdinaryUser("--gtest_filter=*ByShims:CrashOfAll.*"), 0);
}

}  // namespace
}  // namespace jobc::process
