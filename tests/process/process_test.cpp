// Stories of attempts, with real processes, for both ways in which trees are ended.
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>

#include <fmt/format.h>

#include "runtime/process/protocol.h"
#include "tests/process/harness.h"

namespace jobc::process {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Process : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (LacksGroups(GetParam())) {
      GTEST_SKIP() << "no writable control groups: " << FindCgroupPlaces().why_no_tree;
    }
  }
  GuardianOptions options() const { return OptionsOf(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Trees, Process, ::testing::Values(Mode::kGroups, Mode::kShims), ModeName);

TEST_P(Process, TellsStartExitAndReapInThisOrder) {
  Harness run(options());
  const Harness::Seen& seen = run.Shell("exit 7");
  EXPECT_EQ(seen.events, "started exited reaped ");
  EXPECT_GT(seen.started.pid, 1);
  EXPECT_EQ(seen.exit.exit_code, 7);
  EXPECT_EQ(seen.exit.signal, 0);
  EXPECT_GT(seen.exit.max_rss_bytes, 100u * 1024);
  EXPECT_GE(seen.exit.wall_ms, seen.started.wall_ms);
  EXPECT_EQ(run.client().by_cgroup(), GetParam() == Mode::kGroups);
}

TEST_P(Process, TellsTheSignalThatEndedIt) {
  Harness run(options());
  const Harness::Seen& seen = run.Shell("kill -SEGV $$");
  EXPECT_EQ(seen.exit.signal, SIGSEGV);
  EXPECT_FALSE(seen.exit.out_of_memory);
}

TEST_P(Process, KeepsStdoutAndStderrApartAndAsTheyCame) {
  Harness run(options());
  const Harness::Seen& seen = run.Shell(R"(printf 'out\377\376\n'; printf 'err\0!' >&2)");
  EXPECT_EQ(run.Text(run.last()), "out\377\376\n");
  EXPECT_EQ(run.Text(run.last(), LogStream::kStderr), std::string("err\0!", 5));
  EXPECT_EQ(seen.output.out.total_bytes, 6u);
  EXPECT_EQ(seen.output.err.total_bytes, 5u);
}

TEST_P(Process, GivesAProgramExactlyWhatWasDeclared) {
  Harness run(options());
  ProcessSpec spec;
  spec.argv = {"sh", "-c", R"(env | sort; pwd; readlink /proc/$$/fd/0; printf '%s\n' "$@")",
               "sh", "", "two words", "line\nbreak"};
  spec.env = {"PATH=/usr/bin:/bin", "A=", "B=x=y"};
  spec.directory = run.dir().path();
  run.Finish(run.Start(spec));
  EXPECT_EQ(run.LastText(), "A=\nB=x=y\nPATH=/usr/bin:/bin\nPWD=" + run.dir().path() + "\n" + run.dir().path() +
                                "\n/dev/null\n\ntwo words\nline\nbreak\n");
  run.Run({"ls", "/proc/self/fd"});
  EXPECT_EQ(run.LastText(), "0\n1\n2\n3\n") << "3 is the directory itself";
}

TEST_P(Process, StartsWithDefaultSignalsInASessionOfItsOwn) {
  struct sigaction before {};
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  Harness run(options());
  sigaction(SIGPIPE, &before, nullptr);
  run.Run({"sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat; echo $$"});
  std::string text = run.LastText();
  EXPECT_THAT(text, StartsWith("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
  std::string pid = std::to_string(run.seen[run.last()].started.pid);
  EXPECT_THAT(text, EndsWith("\n" + pid + "\n" + pid + "\n")) << "session id, then process id";
}

TEST_P(Process, ReusesAPlaceWithoutMixingOutput) {
  Harness run(options());
  for (int i = 0; i < 20; ++i) {
    run.Shell("echo " + std::to_string(i));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(run.Text(static_cast<uint64_t>(i) + 1), std::to_string(i) + "\n");
  }
}

TEST_P(Process, DoesNotHandDownPipeFlagsOfTheAttemptBefore) {
  Harness run(options());
  run.Run({"python3", "-c", "import os; os.set_blocking(1, False); os.set_blocking(2, False)"});
  run.Run({"grep", "flags", "/proc/self/fdinfo/1", "/proc/self/fdinfo/2"});
  EXPECT_EQ(run.LastText(), "/proc/self/fdinfo/1:flags:\t01\n/proc/self/fdinfo/2:flags:\t01\n");
}

TEST_P(Process, RunsManyAtOnce) {
  Harness run(options());
  std::vector<uint64_t> attempts;
  for (int i = 0; i < 40; ++i) {
    attempts.push_back(run.StartShell("echo " + std::to_string(i) + "; exit " + std::to_string(i)));
  }
  for (size_t i = 0; i < attempts.size(); ++i) {
    EXPECT_EQ(run.Finish(attempts[i]).exit.exit_code, static_cast<int>(i));
    EXPECT_EQ(run.Text(attempts[i]), std::to_string(i) + "\n");
  }
  EXPECT_EQ(run.client().running(), 0u);
}

// Programs that cannot be started.

TEST_P(Process, SaysThatNoSuchProgramIsInThePath) {
  Harness run(options());
  const Harness::Seen& seen = run.Run({"no-such-program"});
  EXPECT_EQ(seen.events, "failed ");
  EXPECT_EQ(seen.failure->stage, SpawnStage::kNotFound);
  EXPECT_EQ(seen.failure->Message(), "no program `no-such-program` in any directory of PATH (`/usr/local/bin:/usr/bin:/bin`)");
  EXPECT_EQ(run.Shell("exit 0").events, "started exited reaped ") << "the place is free again";
}

TEST_P(Process, SaysThatTheInterpreterIsMissingAndNotTheScript) {
  Harness run(options());
  WriteText(run.dir() / "script", "#! /opt/no/interpreter -x\necho hi\n", 0755);
  const Harness::Seen& seen = run.Run({run.dir() / "script"});
  EXPECT_EQ(seen.failure->stage, SpawnStage::kInterpreter);
  EXPECT_EQ(seen.failure->Message(),
            "`" + (run.dir() / "script") + "` is there, but its interpreter is missing: `/opt/no/interpreter`");
}

TEST_P(Process, SaysWhyAFileCannotBeExecuted) {
  Harness run(options());
  WriteText(run.dir() / "data", "#!/bin/sh\n", 0644);
  WriteText(run.dir() / "text", "echo hi\n", 0755);
  std::string data = run.dir() / "data";
  EXPECT_EQ(run.Run({data}).failure->Message(), "`" + data + "` may not be executed (mode 0644): try `chmod +x " + data + "`");
  EXPECT_EQ(run.Run({"/tmp"}).failure->Message(), "`/tmp` is a directory, not a program");
  EXPECT_THAT(run.Run({run.dir() / "text"}).failure->Message(), HasSubstr("nor a script that begins with `#!`"));
  EXPECT_EQ(run.Run({run.dir() / "none"}).failure->Message(), "no such program: `" + (run.dir() / "none") + "`");
  EXPECT_EQ(run.Run({""}).failure->Message(), "the command is empty");
}

TEST_P(Process, SaysThatTheWorkingDirectoryIsMissing) {
  Harness run(options());
  ProcessSpec spec;
  spec.argv = {"true"};
  spec.directory = run.dir() / "gone";
  EXPECT_EQ(run.Finish(run.Start(spec)).failure->Message(),
            "cannot enter the working directory `" + (run.dir() / "gone") + "`: No such file or directory");
}

TEST_P(Process, NamesAnArgumentThatIsTooLong) {
  Harness run(options());
  const Harness::Seen& fits = run.Run({"true", std::string(kMaxArgBytes, 'x')});
  EXPECT_EQ(fits.events, "started exited reaped ");
  const Harness::Seen& argument = run.Run({"true", "a", std::string(kMaxArgBytes + 1, 'x')});
  EXPECT_EQ(argument.failure->Message(),
            "argument 2 is 131072 bytes long, above the 131071 bytes that the kernel takes in one argument: pass the value as "
            "a File");
  ProcessSpec spec;
  spec.argv = {"true"};
  spec.env = {"PATH=/bin", "BIG=" + std::string(200000, 'x')};
  EXPECT_THAT(run.Finish(run.Start(spec)).failure->Message(), HasSubstr("environment variable `BIG`"));
}

TEST_P(Process, SaysHowLargeAllArgumentsAreTogether) {
  Harness run(options());
  std::vector<std::string> argv(100, std::string(100000, 'x'));
  argv[0] = "/bin/true";
  const Harness::Seen& seen = run.Run(argv);
  ASSERT_TRUE(seen.failure);
  EXPECT_EQ(seen.failure->stage, SpawnStage::kTotal);
  EXPECT_GT(seen.failure->bytes, 9'900'000u);
  EXPECT_LT(seen.failure->limit, seen.failure->bytes);
}

// Ends of trees.

/// Leaves behind a process that is in a session of its own, reparented, and has an empty environment, and prints its pid.
const char kDaemon[] =
    "mkfifo f; (setsid env -i /bin/sh -c 'echo $$ >f; exec /bin/sleep 1000' &); read pid <f; echo $pid";

TEST_P(Process, EndsADaemonisedGrandchildWithItsAttempt) {
  Harness run(options());
  const Harness::Seen& seen = run.Shell(kDaemon);
  EXPECT_EQ(seen.exit.exit_code, 0);
  pid_t daemon = atoi(run.LastText().c_str());
  ASSERT_GT(daemon, 1);
  EXPECT_FALSE(IsAlive(daemon, 0));
}

TEST_P(Process, LetsTheNextAttemptInTheSamePlaceLive) {
  Harness run(options());
  run.Shell(kDaemon);
  EXPECT_EQ(run.Shell("sleep 0.05; echo fine").exit.exit_code, 0);
  EXPECT_EQ(run.LastText(), "fine\n");
}

TEST_P(Process, SignalsTheWholeTree) {
  Harness run(options());
  uint64_t attempt = run.StartShell(
      "trap 'wait; exit 3' TERM; "
      "setsid sh -c 'trap \"echo grandchild; exit\" TERM; echo up; while :; do sleep 0.02; done' & "
      "while :; do wait; done");
  run.Until([&] { return run.log().LastLine(attempt, LogStream::kStdout) == "up"; });
  run.client().Signal(attempt, SIGTERM);
  const Harness::Seen& seen = run.Finish(attempt);
  EXPECT_EQ(seen.exit.exit_code, 3);
  EXPECT_EQ(run.LastText(), "up\ngrandchild\n");
}

TEST_P(Process, KillsWhatIgnoresTermination) {
  Harness run(options());
  uint64_t attempt = run.StartShell("trap '' TERM; (setsid sleep 1000 &); echo ready; while :; do sleep 1000; done");
  run.Until([&] { return run.log().LastLine(attempt, LogStream::kStdout) == "ready"; });
  run.client().Signal(attempt, SIGTERM);
  run.client().KillTree(attempt);
  const Harness::Seen& seen = run.Finish(attempt);
  EXPECT_EQ(seen.exit.signal, SIGKILL);
  EXPECT_EQ(seen.events, "started exited reaped ");
}

TEST_P(Process, KillsAStoppedTree) {
  Harness run(options());
  uint64_t attempt = run.StartShell("(echo ready; kill -STOP $$) & wait; sleep 1000");
  run.Until([&] { return run.log().LastLine(attempt, LogStream::kStdout) == "ready"; });
  run.client().KillTree(attempt);
  EXPECT_EQ(run.Finish(attempt).exit.signal, SIGKILL);
}

TEST_P(Process, EndsFiftyChildrenInSessionsOfTheirOwn) {
  Harness run(options());
  TempDir outside;
  Channel ready(outside / "ready");
  // All of them hold the write end of a second pipe: its end of file means that the last one is gone.
  ASSERT_EQ(mkfifo((outside / "held").c_str(), 0666), 0);
  UniqueFd held(open((outside / "held").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  uint64_t attempt = run.StartShell("exec 9>" + (outside / "held") +
                                    "; i=0; while [ $i -lt 50 ]; do setsid sleep 1000 & i=$((i+1)); done; echo ok >" +
                                    ready.path());
  EXPECT_EQ(run.Finish(attempt).exit.exit_code, 0);
  EXPECT_EQ(ready.Line(), "ok");
  char byte;
  EXPECT_EQ(read(held.get(), &byte, 1), 0) << "somebody still holds the pipe";
}

TEST_P(Process, EndsProcessesThatKeepForking) {
  Harness run(options());
  TempDir outside;
  ASSERT_EQ(mkfifo((outside / "held").c_str(), 0666), 0);
  UniqueFd held(open((outside / "held").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  // Four chains in which every process starts its successor and ends.
  uint64_t attempt = run.StartShell("exec 9>" + (outside / "held") +
                                    "; printf '%s\\n' '#!/bin/sh' '\"$0\" &' >chain; chmod +x chain; "
                                    "for i in 1 2 3 4; do ./chain; done; echo up; sleep 1000");
  run.Until([&] { return run.log().LastLine(attempt, LogStream::kStdout) == "up"; });
  run.client().KillTree(attempt);
  run.Finish(attempt);
  char byte;
  EXPECT_EQ(read(held.get(), &byte, 1), 0) << "a chain goes on";
}

TEST_P(Process, EndsEverythingWhenStopped) {
  TempDir outside;
  Channel channel(outside / "channel");
  pid_t daemon = 0;
  std::string secret = outside / "secret";
  ASSERT_EQ(mkdir(secret.c_str(), 0700), 0);
  {
    Harness run(options());
    run.client().RemoveOnDeath(secret);
    run.StartShell("(setsid env -i /bin/sh -c 'echo $$ >" + channel.path() + "; exec sleep 1000' &); sleep 1000");
    run.Until([&] { return run.client().running() == 1 && !run.seen.empty(); });
    daemon = channel.Pid();
    ASSERT_TRUE(IsAlive(daemon, 0));
  }
  EXPECT_FALSE(IsAlive(daemon, 0));
  EXPECT_NE(access(secret.c_str(), F_OK), 0);
}

TEST_P(Process, LeavesNoControlGroupsBehind) {
  std::string group;
  {
    Harness run(options());
    run.Shell("cat /proc/self/cgroup");
    group = std::to_string(run.client().guardian_pid());
  }
  CgroupPlaces places = FindCgroupPlaces();
  for (const std::string& place : {places.v2, places.v1_memory, places.v1_cpu, places.v1_pids}) {
    std::string listing;
    if (!place.empty()) {
      FILE* ls = popen(("ls " + place).c_str(), "r");
      char buffer[4096];
      while (size_t n = fread(buffer, 1, sizeof buffer, ls)) {
        listing.append(buffer, n);
      }
      pclose(ls);
    }
    EXPECT_THAT(listing, ::testing::Not(HasSubstr("jobc-" + group + "-"))) << place;
  }
}

// Limits.

TEST_P(Process, SaysThatTheMemoryLimitEndedIt) {
  if (Enforcement probe = ProbeEnforcement(); !probe.memory) {
    GTEST_SKIP() << "memory is not limited here: " << probe.why_not;
  }
  Harness run(options());
  const Harness::Seen& seen = run.Shell("tail /dev/zero", {.memory_bytes = 48 << 20});
  EXPECT_EQ(seen.started.enforced.memory_bytes, 48u << 20);
  EXPECT_TRUE(seen.exit.out_of_memory);
  EXPECT_GT(seen.exit.peak_memory_bytes, 40u << 20);
  const Harness::Seen& next = run.Shell("exit 1", {.memory_bytes = 48 << 20});
  EXPECT_FALSE(next.exit.out_of_memory) << "the counters begin anew";
  EXPECT_EQ(next.exit.exit_code, 1);
}

TEST_P(Process, LimitsProcessesAndCpu) {
  if (Enforcement probe = ProbeEnforcement(); !probe.pids || !probe.cpu) {
    GTEST_SKIP() << "not limited here: " << probe.why_not;
  }
  Harness run(options());
  const Harness::Seen& seen = run.Shell("for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done; wait", {.cpu_milli = 500, .pids = 4});
  EXPECT_EQ(seen.started.enforced.pids, 4u);
  EXPECT_EQ(seen.started.enforced.cpu_milli, 500u);
  EXPECT_THAT(run.Text(run.last(), LogStream::kStderr), HasSubstr("fork"));
}

TEST_P(Process, StartsWithoutLimitsWhereNoneCanBeEnforced) {
  GuardianOptions none = options();
  none.use_limits = false;
  Harness run(none);
  const Harness::Seen& seen = run.Shell("exit 0", {.memory_bytes = 48 << 20});
  EXPECT_EQ(seen.started.enforced.memory_bytes, 0u);
  EXPECT_EQ(seen.exit.exit_code, 0);
}

// Output.

uint64_t PeakKib() {
  std::string status = ReadFile("/proc/self/status").value();
  return strtoull(status.c_str() + status.find("VmHWM:") + 6, nullptr, 10);
}

TEST_P(Process, KeepsBothEndsOfAFloodInConstantMemory) {
  Harness run(options());
  run.log().Configure(1, {.limit_bytes = 8 << 20}, nullptr, nullptr);
  WriteFile("/proc/self/clear_refs", "5");
  uint64_t before = PeakKib();
  const Harness::Seen& seen = run.Run({"seq", "1", "30000000"});  // 259 MB
  EXPECT_LT(PeakKib() - before, 16u * 1024);
  EXPECT_EQ(seen.output.out.total_bytes, 258888897u);
  EXPECT_EQ(seen.output.out.dropped_bytes, 258888897u - (8 << 20));
  std::string text = run.LastText();
  EXPECT_EQ(text.size(), 8u << 20);
  EXPECT_THAT(text, StartsWith("1\n2\n3\n"));
  EXPECT_THAT(text, EndsWith("\n29999999\n30000000\n"));
  LogReader reader = std::move(LogReader::Open(run.dir().path()).value());
  EXPECT_EQ(reader.Totals(1, LogStream::kStdout).dropped_bytes, seen.output.out.dropped_bytes);
  EXPECT_EQ(reader.Tail(1, LogStream::kStdout, 2).value(), "29999999\n30000000\n");
}

TEST_P(Process, KnowsWhenOutputCameLast) {
  Harness run(options());
  TempDir outside;
  Channel go(outside / "go");
  uint64_t attempt = run.StartShell("echo one; read x <" + go.path() + "; echo two; read x <" + go.path());
  run.Until([&] { return run.log().LastLine(attempt, LogStream::kStdout) == "one"; });
  uint64_t first = run.client().LastOutput(attempt);
  UniqueFd writer(open(go.path().c_str(), O_WRONLY | O_CLOEXEC));
  while (uv_now(run.loop()) <= first + 5) {
    uv_update_time(run.loop());
  }
  ASSERT_EQ(write(writer.get(), "x\n", 2), 2);
  run.Until([&] { return run.log().LastLine(attempt, LogStream::kStdout) == "two"; });
  EXPECT_GT(run.client().LastOutput(attempt), first);
  run.client().KillTree(attempt);
  run.Finish(attempt);
}

TEST_P(Process, StartsTheNextFromWithinACallback) {
  Harness run(options());
  int left = 50;
  run.on_reaped = [&](uint64_t) {
    if (left-- > 0) {
      run.StartShell("exit 0");
    }
  };
  run.StartShell("exit 0");
  run.Until([&] { return run.seen.size() == 51 && run.client().running() == 0; });
  EXPECT_EQ(uv_run(run.loop(), UV_RUN_NOWAIT), 0) << "an idle client does not keep its loop alive";
}

// Attempts that are handed over ahead of time.

TEST_P(Process, BeginsTheNextAloneWhenTheOneBeforeHasEndedWell) {
  Harness run(options());
  ASSERT_EQ(mkfifo((run.dir() / "gate").c_str(), 0600), 0);
  uint64_t first = run.StartShell("cat gate; echo first; echo to stderr >&2");
  run.Until([&] { return run.seen[first].started.pid != 0; });
  uint64_t second = run.StartShellAfter("echo second", first);
  ASSERT_NE(second, 0u);
  EXPECT_EQ(run.StartShellAfter("echo third", first), 0u) << "one at a time";
  run.client().Flush();
  WriteText(run.dir() / "gate", "");
  EXPECT_EQ(run.Finish(first).next, second);
  EXPECT_EQ(run.Finish(second).events, "started exited reaped ");
  EXPECT_GE(run.seen[second].started.wall_ms, run.seen[first].exit.wall_ms);
  EXPECT_EQ(run.Text(first), "first\n");
  EXPECT_EQ(run.Text(first, LogStream::kStderr), "to stderr\n");
  EXPECT_EQ(run.Text(second), "second\n");
  EXPECT_EQ(run.Text(second, LogStream::kStderr), "");
  EXPECT_EQ(run.seen[second].next, 0u);
}

TEST_P(Process, NeverBeginsTheNextAfterAnythingElse) {
  struct Case {
    const char* script;
    bool signal;
    bool blocked;
  };
  for (const Case& one : {Case{"cat gate; exit 1", false, false}, Case{"cat gate; kill -9 $$", false, false},
                          // (A child between fork and exec could lose the signal and keep the shell waiting, so there is none.)
                          Case{"trap 'exit 0' TERM; while :; do :; done", true, false}, Case{"cat gate; touch there", false, true}}) {
    Harness run(options());
    ASSERT_EQ(mkfifo((run.dir() / "gate").c_str(), 0600), 0);
    uint64_t first = run.StartShell(one.script);
    run.Until([&] { return run.seen[first].started.pid != 0; });
    std::vector<std::string> unless;
    if (one.blocked) {
      unless = {run.dir() / "not there", run.dir() / "there"};
    }
    uint64_t second = run.StartShellAfter("echo second", first, unless);
    ASSERT_NE(second, 0u);
    run.client().Flush();
    if (one.signal) {
      run.client().Signal(first, SIGTERM);
    } else {
      WriteText(run.dir() / "gate", "");
    }
    EXPECT_EQ(run.Finish(second).events, "revoked ") << one.script;
    EXPECT_EQ(run.Finish(first).next, 0u);
    EXPECT_EQ(run.client().running(), 0u);
    run.Shell("echo third");
    EXPECT_EQ(run.LastText(), "third\n");
  }
}

TEST_P(Process, TakesBackWhatHasNotBegun) {
  Harness run(options());
  ASSERT_EQ(mkfifo((run.dir() / "gate").c_str(), 0600), 0);
  uint64_t first = run.StartShell("cat gate");
  run.Until([&] { return run.seen[first].started.pid != 0; });
  uint64_t second = run.StartShellAfter("echo second", first);
  ASSERT_NE(second, 0u);
  run.client().Revoke(second);
  EXPECT_EQ(run.Finish(second).events, "revoked ");
  EXPECT_FALSE(run.seen[first].over());
  uint64_t third = run.StartShellAfter("echo third", first);
  ASSERT_NE(third, 0u) << "another may wait now";
  run.client().Flush();
  WriteText(run.dir() / "gate", "");
  EXPECT_EQ(run.Finish(first).next, third);
  run.Finish(third);
  EXPECT_EQ(run.LastText(), "third\n");
}

TEST_P(Process, ATakenBackStartAndAnEndThatCrossHaveOneAnswer) {
  Harness run(options());
  size_t begun = 0, revoked = 0;
  for (int i = 0; i < 200; ++i) {
    uint64_t first = run.StartShell(fmt::format("exec sleep 0.00{}", i % 7));
    run.Until([&] { return run.seen[first].started.pid != 0; });
    uint64_t second = run.StartShellAfter("echo second", first);
    if (second == 0) {
      run.Finish(first);
      continue;  // it has ended already
    }
    if (i % 3 == 0) {
      run.client().Flush();
      if (i % 2 == 0) {
        ProcessWatch(run.seen[first].started.pid).EndsWithin(1000);
      }
    }
    if (i % 3 < 2) {
      run.client().Revoke(second);
    }
    run.Finish(first);
    const std::string& events = run.Finish(second).events;
    EXPECT_TRUE(events == "revoked " || events == "started exited reaped ") << events;
    EXPECT_EQ(run.seen[first].next, events == "revoked " ? 0 : second);
    (events == "revoked " ? revoked : begun) += 1;
    EXPECT_EQ(run.client().running(), 0u);
  }
  EXPECT_GT(begun, 0u);
  EXPECT_GT(revoked, 0u);
}

TEST_P(Process, BeginsOneAfterTheOther) {
  Harness run(options());
  ASSERT_EQ(mkfifo((run.dir() / "gate").c_str(), 0600), 0);
  for (int round = 0; round < 3; ++round) {
    std::vector<uint64_t> chain = {run.StartShell("cat gate; echo text 0; echo error 0 >&2")};
    run.Until([&] { return run.seen[chain[0]].started.pid != 0; });
    for (uint32_t i = 1; i < kMostPairs; ++i) {
      chain.push_back(run.StartShellAfter(fmt::format("echo text {}; echo error {} >&2", i, i), chain.back()));
      ASSERT_NE(chain.back(), 0u) << i;
    }
    EXPECT_EQ(run.StartShellAfter("echo more", chain.back()), 0u) << "each has pipes of its own";
    EXPECT_EQ(run.StartShellAfter("echo more", chain[1]), 0u) << "one follows it already";
    run.client().Flush();
    WriteText(run.dir() / "gate", "");
    for (size_t i = 0; i < chain.size(); ++i) {
      EXPECT_EQ(run.Finish(chain[i]).events, "started exited reaped ");
      EXPECT_EQ(run.seen[chain[i]].next, i + 1 < chain.size() ? chain[i + 1] : 0);
      EXPECT_EQ(run.Text(chain[i]), fmt::format("text {}\n", i));
      EXPECT_EQ(run.Text(chain[i], LogStream::kStderr), fmt::format("error {}\n", i));
    }
  }
}

TEST_P(Process, WhatWaitsBehindOneThatDoesNotBeginDoesNotEither) {
  Harness run(options());
  ASSERT_EQ(mkfifo((run.dir() / "gate").c_str(), 0600), 0);
  // The second one fails, cannot be started, or is taken back.
  for (const std::string second_is : {"echo second; exit 3", "missing", "taken back"}) {
    uint64_t first = run.StartShell("cat gate");
    run.Until([&] { return run.seen[first].started.pid != 0; });
    uint64_t second = 0;
    if (second_is == "missing") {
      second = run.StartAfter({"/no/such/program"}, first);
    } else {
      second = run.StartShellAfter(second_is, first);
    }
    uint64_t third = run.StartShellAfter("echo third", second);
    uint64_t fourth = run.StartShellAfter("echo fourth", third);
    ASSERT_NE(fourth, 0u);
    run.client().Flush();
    if (second_is == "taken back") {
      run.client().Revoke(second);
      // Said before that was answered: it can follow nothing any more.
      run.Finish(second);
      EXPECT_EQ(run.seen[third].events, "revoked ");
      EXPECT_EQ(run.StartShellAfter("echo late", third), 0u);
      fourth = run.StartShellAfter("echo instead", first);
      ASSERT_NE(fourth, 0u) << "another may follow the first one now";
      run.client().Flush();
    }
    WriteText(run.dir() / "gate", "");
    EXPECT_EQ(run.Finish(third).events, "revoked ");
    run.Finish(first);
    EXPECT_EQ(run.Finish(fourth).events, second_is == "taken back" ? "started exited reaped " : "revoked ") << second_is;
    EXPECT_EQ(run.Finish(second).events, second_is == "taken back" ? "revoked " : second_is == "missing" ? "failed " : "started exited reaped ");
    EXPECT_EQ(run.client().running(), 0u);
    run.Shell("echo fifth");
    EXPECT_EQ(run.LastText(), "fifth\n");
  }
}

TEST_P(Process, AStartBehindOneThatIsBeingTakenBackNeverBegins) {
  Harness run(options());
  ASSERT_EQ(mkfifo((run.dir() / "gate").c_str(), 0600), 0);
  uint64_t first = run.StartShell("cat gate");
  run.Until([&] { return run.seen[first].started.pid != 0; });
  uint64_t second = run.StartShellAfter("echo second", first);
  run.client().Revoke(second);
  uint64_t third = run.StartShellAfter("echo third", second);  // the shim hears of it after that
  ASSERT_NE(third, 0u);
  EXPECT_EQ(run.Finish(third).events, "revoked ");
  EXPECT_EQ(run.Finish(second).events, "revoked ");
  WriteText(run.dir() / "gate", "");
  EXPECT_EQ(run.Finish(first).next, 0u);
  run.Shell("echo fourth");
  EXPECT_EQ(run.LastText(), "fourth\n");
  EXPECT_EQ(run.Text(third), "");
}

TEST_P(Process, TheNextEndsWithItsShim) {
  Harness run(options());
  uint64_t first = run.StartShell("echo $PPID > shim; echo written; while :; do sleep 1; done");
  // Each output turns the loop once more.
  run.Until([&] { return run.seen[first].started.pid != 0 && ReadFile(run.dir() / "shim").value_or("").size() > 1; });
  uint64_t second = run.StartShellAfter("echo second", first);
  ASSERT_NE(second, 0u);
  kill(atoi(ReadFile(run.dir() / "shim").value().c_str()), SIGKILL);
  EXPECT_EQ(run.Finish(second).events, "revoked ");
  EXPECT_TRUE(run.Finish(first).exit.supervisor_lost);
  run.Shell("echo third");
  EXPECT_EQ(run.LastText(), "third\n");
}

/// Starts attempts in a shortage and checks that each has exactly one answer; returns how many could not be started.
size_t CountRefusals(Harness& run, int attempts) {
  std::vector<uint64_t> started;
  for (int i = 0; i < attempts; ++i) {
    started.push_back(run.StartShell("sleep 0.01; echo done"));
  }
  size_t refused = 0;
  for (uint64_t attempt : started) {
    const Harness::Seen& seen = run.Finish(attempt);
    if (seen.failure) {
      ++refused;
      EXPECT_EQ(seen.events, "failed ");
      EXPECT_TRUE(seen.failure->of_system()) << seen.failure->Message();
      EXPECT_THAT(seen.failure->Message(), HasSubstr("Too many open files"));
    } else {
      EXPECT_EQ(seen.events, "started exited reaped ");
      EXPECT_EQ(run.Text(attempt), "done\n");
    }
  }
  EXPECT_EQ(run.client().running(), 0u);
  EXPECT_TRUE(run.lost.empty());
  return refused;
}

TEST_P(Process, AShortageOfDescriptorsInTheGuardianFailsOnlyWhatItIsFor) {
  size_t refused = 0;
  for (rlim_t limit = 6; limit <= 30; ++limit) {
    Harness run(options());
    run.Shell("true");
    const rlimit low{limit, limit};
    ASSERT_EQ(prlimit(run.client().guardian_pid(), RLIMIT_NOFILE, &low, nullptr), 0);
    refused += CountRefusals(run, 16);
    CountRefusals(run, 1);  // there is a supervisor left for one at a time
    EXPECT_FALSE(run.seen[run.last()].failure);
  }
  EXPECT_GT(refused, 0u);
}

TEST_P(Process, AShortageOfDescriptorsInJobcFailsOnlyWhatItIsFor) {
  size_t refused = 0;
  for (rlim_t more = 1; more <= 24; ++more) {
    Harness run(options());
    run.Shell("true");
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    // The number that a new descriptor gets is the least that is free; what is open below does not count.
    UniqueFd next(dup(0));
    const rlimit low{static_cast<rlim_t>(next.get()) + more, before.rlim_max};
    next.Reset();
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 8; ++i) {
      run.StartShell("sleep 0.01");
    }
    const uint64_t last = run.last();
    run.Until([&] {
      size_t over = 0;
      for (uint64_t attempt = last - 7; attempt <= last; ++attempt) {
        over += run.seen[attempt].over();
      }
      return over == 8;
    });
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (uint64_t attempt = last - 7; attempt <= last; ++attempt) {
      const Harness::Seen& seen = run.seen[attempt];
      refused += seen.failure ? 1 : 0;
      EXPECT_EQ(seen.events, seen.failure ? "failed " : "started exited reaped ");
      EXPECT_TRUE(!seen.failure || seen.failure->of_system());
    }
    EXPECT_EQ(CountRefusals(run, 8), 0u);
  }
  EXPECT_GT(refused, 0u);
}

TEST(ProcessSupervision, EndsATreeWhoseSupervisorWasKilled) {
  Harness run(OptionsOf(Mode::kShims));
  uint64_t attempt = run.StartShell(std::string(kDaemon) + "; sleep 1000");
  run.Until([&] { return run.seen[attempt].started.pid && !run.log().LastLine(attempt, LogStream::kStdout).empty(); });
  pid_t daemon = atoi(run.log().LastLine(attempt, LogStream::kStdout).c_str());
  ASSERT_TRUE(IsAlive(daemon, 0));
  pid_t shim = ReadProcess(run.seen[attempt].started.pid)->parent;
  ASSERT_NE(shim, run.client().guardian_pid());
  ASSERT_EQ(kill(shim, SIGKILL), 0);
  const Harness::Seen& seen = run.Finish(attempt);
  EXPECT_EQ(seen.events, "started exited reaped ");
  EXPECT_TRUE(seen.exit.supervisor_lost);
  EXPECT_FALSE(IsAlive(daemon, 0));
  EXPECT_EQ(run.Shell("exit 4").exit.exit_code, 4) << "the place has a new supervisor";
}

/// Runs the stories of this binary again as another user, by executing it anew.
TEST(ProcessUnprivileged, AllStoriesHoldForAnOrdinaryUser) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "they have just been run as one";
  }
  EXPECT_EQ(RunAgainAsOrdinaryUser("--gtest_filter=*ByShims:ProcessSupervision.*"), 0);
}

}  // namespace
}  // namespace jobc::process
