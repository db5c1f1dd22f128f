// A jobc that was killed, attempts that went on without it, and a resume that takes them over.
#include <chrono>
#include <thread>

#include "runtime/dead_run.h"
#include "tests/engine/keeping_backend.h"
#include "tests/engine/killed_run_fixture.h"

namespace jobc {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::Exists;
using testing::KeepingBackend;
using testing::KeepingPlace;
using testing::ReadAll;

class Adoption : public testing::KilledRunTest {
 protected:
  Adoption() {
    place.dir = dir / "place";
    (void)process::MakeDirectories(place.dir).ok();
    backends = [this](ir::BackendKind kind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> {
      if (kind == ir::BackendKind::Process) return MakeBackend(kind, host);
      return std::unique_ptr<Backend>(new KeepingBackend(host, &place));
    };
  }
  ~Adoption() override {
    engine.reset();
    for (int i = 1; i < 200; ++i) {
      const std::string pid = ReadAll(place.At(fmt::format("{}-{}", id, i), "pid"));
      if (!pid.empty()) kill(-std::stoi(pid), SIGKILL);
    }
  }

  /// Says on stdout and in `ran` that it runs, waits for the file `go`, and leaves a result.
  uint32_t Waits(const std::string& name) {
    const uint32_t job = Sh(name, fmt::format(R"(echo "$JOB_NAME $JOB_ATTEMPT" >> {0}/ran; echo before; while ! [ -e {0}/go ]; do sleep 0.01; done; echo after; echo problem >&2
      printf '{{"n": 7}}' > "$JOB_RESULT"; echo text > made)", dir / "src"));
    b[job].backend.kind = ir::BackendKind::Docker;
    Output(job, "n", Int(), ir::OutputKind::Json);
    Output(job, "made", File(), ir::OutputKind::Path, b.Str("made"));
    return job;
  }
  void Go() { dir.Write("src/go", ""); }
  std::string Ran() { return ReadAll(dir / "src/ran"); }

  /// Resumes, and lets the attempts go on when the run has begun.
  RunOutcome ResumeAndGo() {
    watcher.on_event = [this](const RunEvent& event) {
      if (event.kind == RunEventKind::RunStarted) Go();
    };
    return Resume();
  }

  bool WaitFor(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return condition();
  }
  std::string Execution(int attempt) { return fmt::format("{}-{}", id, attempt); }

  std::string Log(AttemptId attempt, process::LogStream stream) {
    auto reader = process::LogReader::Open(RunDir(dir / "state", id));
    process::LogTextProblem problem = process::LogTextProblem::kNone;
    return reader ? *reader->Text(attempt, stream, 1 << 20, &problem) : "no log";
  }
  std::vector<AttemptView> Attempts(const std::string& address) {
    auto reader = Read();
    auto found = reader->Find(address);
    EXPECT_TRUE(found.ok());
    return reader->View(found->front()).attempts;
  }

  /// The next run is a new one that uses the results of the one that died, and is given what goes on of it.
  void UseWhatDied() {
    ASSERT_TRUE(WaitFor([&] { return ReadAll(place.At(Execution(1), "out")) == "before\n"; }));
    old = id;
    for (const OpenAttempt& one : OpenAttempts(*Read())) {
      EXPECT_TRUE(one.wanted);
      adopt.push_back({one.key, one.address, one.origin, one.handle});
    }
    origins = {old};
    options.reuse_from = old;
    id.clear();
  }
  RunOutcome RunAndGo() {
    watcher.on_event = [this](const RunEvent& event) {
      if (event.kind == RunEventKind::RunStarted) Go();
    };
    const RunOutcome out = Run();
    FindRun();
    return out;
  }

  /// The new run starts what it could not take over, is killed, and goes on: with the one that it started.
  void KillTheNewRunAndGoOn() {
    RunAndKill(RunEventKind::Started);
    ASSERT_NE(id, old);
    adopt.clear();
    options.reuse_from.clear();
    EXPECT_EQ(ResumeAndGo().exit_code, 0);
    EXPECT_EQ(Ran(), "far 1\nfar 1\n");
    EXPECT_EQ(Log(1, process::LogStream::kStdout), "before\nafter\n");
    const auto attempts = Attempts("far");
    ASSERT_EQ(attempts.size(), 1u);
    EXPECT_EQ(attempts[0].origin, nullptr);
  }

  KeepingPlace place;
  std::string old;
};

TEST_F(Adoption, AnAttemptThatGoesOnIsTakenOver) {
  const uint32_t job = Waits("far");
  Export("n", Int(), b.Output(job, 0, Int()));
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return ReadAll(place.At(Execution(1), "out")) == "before\n"; }));
  EXPECT_TRUE(place.Alive(Execution(1)));
  const RunOutcome out = ResumeAndGo();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"n":7})");
  EXPECT_EQ(Ran(), "far 1\n") << "it ran once";
  EXPECT_EQ(Log(1, process::LogStream::kStdout), "before\nafter\n");
  EXPECT_EQ(Log(1, process::LogStream::kStderr), "problem\n");
  EXPECT_THAT(watcher.Lines(RunEventKind::Succeeded), ElementsAre("far"));
  const auto attempts = Attempts("far");
  ASSERT_EQ(attempts.size(), 1u);
  EXPECT_TRUE(attempts[0].verdict->success);
  EXPECT_GT(attempts[0].reaped_ms, 0);
  EXPECT_EQ(ReadAll(RunDir(dir / "state", id) + "/outputs/far/made"), "text\n");
  EXPECT_FALSE(Exists(RunDir(dir / "state", id) + "/attempts/1"));
}

TEST_F(Adoption, AnAttemptThatEndedMeanwhileIsReadAsUsual) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  Go();
  ASSERT_TRUE(WaitFor([&] { return Exists(place.At(Execution(1), "exit")); }));
  EXPECT_EQ(Resume().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\n");
  EXPECT_EQ(Log(1, process::LogStream::kStdout), "before\nafter\n");
}

TEST_F(Adoption, AFailureMeanwhileIsAFailure) {
  const uint32_t job = Sh("far", fmt::format("while ! [ -e {}/go ]; do sleep 0.01; done; exit 3", dir / "src"));
  b[job].backend.kind = ir::BackendKind::Docker;
  RunAndKill(RunEventKind::Started);
  Go();
  ASSERT_TRUE(WaitFor([&] { return Exists(place.At(Execution(1), "exit")); }));
  EXPECT_EQ(Resume().exit_code, 10);
  ASSERT_THAT(watcher.failures, SizeIs(1));
  EXPECT_EQ(watcher.failures[0].exit_code, 3);
  EXPECT_EQ(watcher.failures[0].attempts, 1u);
}

TEST_F(Adoption, WhatIsGoneRunsAgain) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  kill(-std::stoi(ReadAll(place.At(Execution(1), "pid"))), SIGKILL);
  ASSERT_TRUE(WaitFor([&] { return !place.Alive(Execution(1)); }));
  ASSERT_TRUE(process::RemoveTree(place.dir + "/" + Execution(1)).ok());
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\nfar 2\n");
  const auto attempts = Attempts("far");
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(attempts[0].verdict->kind, ir::ErrorKind::NodeLost);
}

TEST_F(Adoption, WhatNeverArrivedRunsAgainUnderANewId) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  // As if jobc had died between the record of the intent and the submission.
  kill(-std::stoi(ReadAll(place.At(Execution(1), "pid"))), SIGKILL);
  ASSERT_TRUE(process::RemoveTree(place.dir + "/" + Execution(1)).ok());
  ASSERT_TRUE(process::RemoveTree(RunDir(dir / "state", id) + "/attempts").ok());
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Attempts("far").size(), 2u);
}

TEST_F(Adoption, AResumeThatIsKilledToo) {
  const uint32_t part = b.Scatter("part", 6);
  b[part].run = Words({"sh", "-euc", fmt::format("echo $JOB_KEY >> {0}/ran; while ! [ -e {0}/go ]; do sleep 0.01; done; echo $JOB_KEY", dir / "src")});
  b[part].backend.kind = ir::BackendKind::Docker;
  options.max_parallel = 6;
  RunAndKill(RunEventKind::Started, 4);
  RunAndKill(RunEventKind::RunStarted);
  RunAndKill(RunEventKind::Started, 3);
  RunAndKill(RunEventKind::Note);
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  std::string ran = Ran();
  std::sort(ran.begin(), ran.end());
  std::string wanted = "\n\n\n\n\n\n012345";
  EXPECT_EQ(ran, wanted) << "each of them once";
  for (int i = 1; i <= 6; ++i) EXPECT_THAT(Log(static_cast<AttemptId>(i), process::LogStream::kStdout), SizeIs(2));
}

/// jobc is killed at each event in turn; whatever the phase, nothing runs twice that went on, and the result is the same.
TEST_F(Adoption, AfterEachPhase) {
  const RunEventKind phases[] = {RunEventKind::Submitting, RunEventKind::Submitted, RunEventKind::Started};
  for (RunEventKind phase : phases) {
    SCOPED_TRACE(EventName(phase));
    b.plan = {};
    id.clear();
    const uint32_t job = Waits("far");
    Export("n", Int(), b.Output(job, 0, Int()));
    for (const char* name : {"src/go", "src/ran"}) unlink((dir / name).c_str());
    watcher.on_event = nullptr;
    RunAndKill(phase);
    if (phase != RunEventKind::Submitting) {
      ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
    }
    const bool arrived = Exists(place.dir + "/" + Execution(1));
    const RunOutcome out = ResumeAndGo();
    EXPECT_EQ(out.exit_code, 0) << out.message;
    EXPECT_EQ(out.exports, R"({"n":7})");
    EXPECT_EQ(Ran(), arrived ? "far 1\n" : "far 2\n");
  }
}

TEST_F(Adoption, TheTimeLimitCountsFromTheTrueStart) {
  for (RunEventKind phase : {RunEventKind::Submitted, RunEventKind::Started}) {
    SCOPED_TRACE(EventName(phase));
    b.plan = {};
    id.clear();
    const uint32_t job = Waits("far");
    b[job].timeout.run = b.Ms(60'000);
    b[job].grace = b.Ms(1000);
    for (const char* name : {"src/go", "src/ran"}) unlink((dir / name).c_str());
    place.started_earlier_ms = 0;
    watcher.on_event = nullptr;
    watcher.failures.clear();
    if (phase == RunEventKind::Started) place.started_earlier_ms = 59'000;  // journaled so
    RunAndKill(phase);
    ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
    if (phase == RunEventKind::Submitted) place.started_earlier_ms = 70'000;  // told at the resume
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(Resume().exit_code, 10);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
    ASSERT_THAT(watcher.failures, SizeIs(1));
    EXPECT_EQ(watcher.failures[0].kind, "timeout");
    EXPECT_TRUE(WaitFor([&] { return !place.Alive(Execution(1)); }));
  }
}

TEST_F(Adoption, WhereThePlaceCannotBeAskedNothingIsStarted) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  place.reachable = false;
  for (int i = 0; i < 2; ++i) {
    const RunOutcome out = Resume();
    EXPECT_EQ(out.exit_code, 14);
    EXPECT_THAT(out.message, HasSubstr("may still run"));
    EXPECT_THAT(out.message, HasSubstr("no answer from it"));
    EXPECT_TRUE(place.Alive(Execution(1))) << "and nothing is ended";
  }
  place.reachable = true;
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\n");
  EXPECT_EQ(Attempts("far").size(), 1u);
}

TEST_F(Adoption, WhereOnlySomeCanBeAskedForAllGoOn) {
  Waits("far");
  const uint32_t other = Sh("other", fmt::format("echo other >> {0}/ran; while ! [ -e {0}/go ]; do sleep 0.01; done", dir / "src"));
  b[other].backend.kind = ir::BackendKind::Docker;
  options.max_parallel = 2;
  RunAndKill(RunEventKind::Started, 2);
  ASSERT_TRUE(WaitFor([&] { return Ran().size() == 12; }));
  int asked = 0;
  place.on_attach = [&] { place.reachable = ++asked == 1; };
  EXPECT_EQ(Resume().exit_code, 14);
  EXPECT_EQ(asked, 2);
  EXPECT_TRUE(place.Alive(Execution(1)));
  EXPECT_TRUE(place.Alive(Execution(2)));
  place.on_attach = nullptr;
  place.reachable = true;
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran().size(), 12u);
}

TEST_F(Adoption, WhatHasItsVerdictIsEndedBeforeAnotherTakesItsPlace) {
  // It ignores TERM; jobc is killed between the verdict (timeout) and the KILL. The second attempt looks whether it is alive.
  const uint32_t job = Sh("far", fmt::format(R"(echo "$JOB_ATTEMPT" >> {0}/ran; trap '' TERM
    if [ $JOB_ATTEMPT = 1 ]; then while :; do sleep 0.05; done; fi
    pid=$(cat {1}/${{JOB_RUN_ID}}-1/pid); state=$(cut -d' ' -f3 /proc/$pid/stat 2> /dev/null || echo Z); echo "$state" > {0}/state)", dir / "src", place.dir));
  b[job].backend.kind = ir::BackendKind::Docker;
  b[job].timeout.run = b.Ms(300);
  b[job].grace = b.Ms(600'000);
  b.Retry(job, 2, {testing::OnKind(ir::ErrorKind::Timeout)});
  RunAndKill(RunEventKind::KillSent);
  EXPECT_TRUE(place.Alive(Execution(1)));
  EXPECT_EQ(Resume().exit_code, 0);
  EXPECT_EQ(Ran(), "1\n2\n");
  EXPECT_EQ(ReadAll(dir / "src/state"), "Z\n");
}

TEST_F(Adoption, WhoseInputsAreGoneIsEnded) {
  const uint32_t first = Sh("first", "echo x > f");
  Output(first, "f", File(), ir::OutputKind::Path, b.Str("f"));
  const uint32_t job = Waits("far");
  b[job].inputs.push_back({"f", File(), b.Output(first, 0, File()), false});
  b.Needs(job, first);
  RunAndKill(RunEventKind::Started, 2);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  ASSERT_EQ(unlink((RunDir(dir / "state", id) + "/outputs/first/f").c_str()), 0);
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\nfar 2\n");
  EXPECT_TRUE(WaitFor([&] { return !place.Alive(Execution(2)); }));
}

TEST_F(Adoption, AnInterruptBeforeItIsTakenOverStartsNothingElse) {
  Waits("far");
  const uint32_t other = Sh("other", "echo other >> " + (dir / "src/ran"));
  b[other].backend.kind = ir::BackendKind::Docker;
  b.Pool("one", 1);
  b[0].pools = {{0, b.Int(1)}};
  b[other].pools = {{0, b.Int(1)}};
  b[0].priority = b.Int(1);
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  place.on_attach = [this] { engine->Interrupt("test"); };
  EXPECT_EQ(Resume().exit_code, 130);
  EXPECT_TRUE(WaitFor([&] { return !place.Alive(Execution(1)); }));
  EXPECT_EQ(Ran(), "far 1\n");
}

TEST_F(Adoption, AnInterruptWhileItGoesOnEndsIt) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  watcher.on_event = [this](const RunEvent& event) {
    if (event.kind == RunEventKind::RunStarted) engine->Interrupt("test");
  };
  EXPECT_EQ(Resume().exit_code, 130);
  EXPECT_TRUE(WaitFor([&] { return !place.Alive(Execution(1)); }));
}

// -- Killed once more ------------------------------------------------------------

TEST_F(Adoption, ThatItIsEndedIsRecordedBeforeItIs) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  int ended = 0;
  place.on_cancel = [&] {
    const auto attempts = Attempts("far");
    ASSERT_FALSE(attempts.empty());
    ASSERT_NE(attempts[0].verdict, nullptr);
    EXPECT_FALSE(attempts[0].cut_off) << "a verdict of its own";
    ++ended;
  };
  ResumeOptions retry;
  retry.retry_failed = true;
  retry.only = {"far"};
  watcher.on_event = [this](const RunEvent& event) {
    if (event.kind == RunEventKind::RunStarted) Go();
  };
  EXPECT_EQ(Resume(retry).exit_code, 0);
  EXPECT_GE(ended, 1);
  EXPECT_EQ(Ran().substr(0, 6), "far 1\n");
}

TEST_F(Adoption, WhatSomebodyWasAboutToEndIsNotTakenOver) {
  // Who was killed between the record and the signals, or after them: what is left there ends with something that is not its own end.
  Waits("far");
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  auto reader = Read();
  ASSERT_TRUE(RecordEnding(*reader, OpenAttempts(*reader), "ended by a test").ok());
  const auto open = OpenAttempts(*reader);
  ASSERT_EQ(open.size(), 1u) << "it may be alive";
  EXPECT_FALSE(open[0].wanted);
  reader.reset();
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\nfar 2\n");
  const auto attempts = Attempts("far");
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(attempts[0].verdict->kind, ir::ErrorKind::Cancelled);
  EXPECT_THAT(attempts[0].verdict->message, HasSubstr("ended by a test when its jobc was gone"));
  EXPECT_NE(attempts[0].reaped_ms, 0);
}

TEST_F(Adoption, WhatEndsWhileOthersAreAskedForIsForgotten) {
  Waits("far");
  Waits("wide");
  options.max_parallel = 2;
  RunAndKill(RunEventKind::Started, 2);
  ASSERT_TRUE(WaitFor([&] { return Ran().size() == 13; }));
  Go();
  ASSERT_TRUE(WaitFor([&] { return Exists(place.At(Execution(1), "exit")) && Exists(place.At(Execution(2), "exit")); }));
  place.answers_last = Execution(2);
  ResumeOptions retry;
  retry.retry_failed = true;
  retry.only = {"far", "wide"};
  EXPECT_EQ(Resume(retry).exit_code, 0);
  EXPECT_EQ(Attempts("far").size(), 2u);
  EXPECT_EQ(Attempts("wide").size(), 2u);
}

TEST_F(Adoption, WhatNeverBeganIsRecordedBeforeItIsRemoved) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  place.never_began = Execution(1);
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  const auto attempts = Attempts("far");
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_FALSE(attempts[0].cut_off);
  EXPECT_EQ(attempts[0].verdict->kind, ir::ErrorKind::NodeLost);
}

TEST_F(Adoption, ItsPlaceForgetsItOnceItsEndIsRecorded) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  ASSERT_TRUE(WaitFor([&] { return Ran() == "far 1\n"; }));
  int released = 0;
  place.on_release = [&] {
    const auto attempts = Attempts("far");  // as another process would read it
    ASSERT_EQ(attempts.size(), 1u);
    ASSERT_NE(attempts[0].verdict, nullptr);
    EXPECT_TRUE(attempts[0].verdict->success);
    EXPECT_NE(attempts[0].reaped_ms, 0);
    ++released;
  };
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(released, 1);
}

// -- A new run that uses the results of a dead one --------------------------------

TEST_F(Adoption, ANewRunTakesOverWhatItWouldStart) {
  const uint32_t job = Waits("far");
  Export("n", Int(), b.Output(job, 0, Int()));
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  const RunOutcome out = RunAndGo();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"n":7})");
  EXPECT_EQ(Ran(), "far 1\n") << "it ran once";
  EXPECT_NE(id, old);
  EXPECT_EQ(Log(1, process::LogStream::kStdout), "before\nafter\n") << "all of it, in the new log";
  EXPECT_THAT(engine->NotAdopted(), IsEmpty());
  const auto attempts = Attempts("far");
  ASSERT_EQ(attempts.size(), 1u);
  ASSERT_NE(attempts[0].origin, nullptr);
  EXPECT_EQ(attempts[0].origin->run, old);
  EXPECT_TRUE(attempts[0].verdict->success);
  EXPECT_EQ(ReadAll(RunDir(dir / "state", id) + "/outputs/far/made"), "text\n");
  EXPECT_FALSE(Exists(RunDir(dir / "state", old) + "/attempts/1"));
}

TEST_F(Adoption, ANewRunThatIsKilledAsWellTakesItOverAgain) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  RunAndKill(RunEventKind::Started);
  ASSERT_NE(id, old);
  adopt.clear();
  options.reuse_from.clear();
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\n");
  EXPECT_EQ(Log(1, process::LogStream::kStdout), "before\nafter\n");
}

TEST_F(Adoption, WhatSomebodyElseTookBackRunsAgain) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  RunAndKill(RunEventKind::Started);
  adopt.clear();
  origins.clear();  // the lock of the old run is not to be had
  options.reuse_from.clear();
  EXPECT_EQ(ResumeAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\nfar 2\n");
}

TEST_F(Adoption, WhatIsGoneWhenItsTurnComesIsStarted) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  kill(-std::stoi(ReadAll(place.At(old + "-1", "pid"))), SIGKILL);
  ASSERT_TRUE(process::RemoveTree(place.dir + "/" + old + "-1").ok());
  EXPECT_EQ(RunAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\nfar 1\n");
  EXPECT_EQ(Attempts("far").size(), 1u);
}

TEST_F(Adoption, WhatWasStartedInsteadIsTakenOverUnderItsOwnName) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  kill(-std::stoi(ReadAll(place.At(old + "-1", "pid"))), SIGKILL);
  ASSERT_TRUE(process::RemoveTree(place.dir + "/" + old + "-1").ok());
  KillTheNewRunAndGoOn();
}

TEST_F(Adoption, WhatNeverBeganIsStartedAndTakenOverUnderItsOwnName) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  place.never_began = old + "-1";
  KillTheNewRunAndGoOn();
}

TEST_F(Adoption, WhatCannotBeAskedForIsNotStartedBesideIt) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  place.reachable = false;
  const RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_THAT(out.message, HasSubstr("may go on, and cannot be asked for"));
  EXPECT_EQ(Ran(), "far 1\n");
  EXPECT_THAT(engine->NotAdopted(), ElementsAre(old + "-1"));
  EXPECT_TRUE(place.Alive(old + "-1"));
  kill(-std::stoi(ReadAll(place.At(old + "-1", "pid"))), SIGKILL);
}

TEST_F(Adoption, AnotherKeyIsNotTakenOver) {
  Waits("far");
  RunAndKill(RunEventKind::Started);
  UseWhatDied();
  adopt[0].key[0] = adopt[0].key[0] == '0' ? '1' : '0';
  EXPECT_EQ(RunAndGo().exit_code, 0);
  EXPECT_EQ(Ran(), "far 1\nfar 1\n");
  EXPECT_THAT(engine->NotAdopted(), ElementsAre(old + "-1"));
}

}  // namespace
}  // namespace jobc
