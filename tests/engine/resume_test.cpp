// Runs that are cut off and go on, and what readers see of them.
#include <signal.h>
#include <sys/wait.h>

#include "runtime/run_reader.h"
#include "tests/engine/run_fixture.h"

#ifdef __SANITIZE_THREAD__
/// The tests fork a jobc that is to die, and it starts threads of its own.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace jobc {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Exists;
using testing::ReadAll;

class ResumedRun : public testing::RunTest {
 protected:
  EngineSetup Configure() {
    EngineSetup setup;
    setup.plan = &b.plan;
    setup.plan_text = ir::WritePlan(b.plan);
    setup.roots = {dir / "src", dir / "src"};
    setup.state_dir = dir / "state";
    setup.options = options;
    setup.backends = MakeBackend;
    setup.observer = &watcher;
    return setup;
  }

  /// Runs in a child process that kills itself when `at` happens for the `nth` time. Gives the run's id.
  std::string RunAndKill(RunEventKind at, int nth) {
    pid_t child = fork();
    if (child == 0) {
      int seen = 0;
      watcher.on_event = [&](const RunEvent& event) {
        if (event.kind == at && ++seen == nth) {
          kill(getpid(), SIGKILL);
        }
      };
      StartFailure failure;
      auto started = Engine::Start(Configure(), failure);
      if (started != nullptr) {
        started->Run();
      }
      _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the run ended before it was killed";
    auto id = ResolveRun(dir / "state", "");
    return id ? *id : std::string();
  }

  RunOutcome Resume(const std::string& id, const ResumeOptions& resume = {}) {
    StartFailure failure;
    engine = Engine::Resume(Configure(), id, resume, failure);
    if (engine == nullptr) {
      return {.exit_code = failure.exit_code, .message = failure.message};
    }
    return engine->Run();
  }

  std::unique_ptr<RunReader> Read(const std::string& id) {
    auto reader = RunReader::Open(dir / "state", id);
    EXPECT_TRUE(reader.ok()) << reader.error().message;
    return reader ? *std::move(reader) : nullptr;
  }
};

TEST_F(ResumedRun, GoesOnAfterAKillAndRunsNothingTwiceThatHadFinished) {
  uint32_t part = b.Scatter("part", 40);
  b[part].run = Words({"sh", "-c", "echo $JOB_KEY >> " + (dir / "src/log") + "; echo $JOB_KEY > f"});
  Output(part, "f", File(), ir::OutputKind::Path, b.Str("f"));
  options.max_parallel = 1;
  std::string id = RunAndKill(RunEventKind::Succeeded, 3);
  auto crashed = Read(id);
  ASSERT_NE(crashed, nullptr);
  EXPECT_EQ(crashed->summary().status, "crashed");
  std::vector<std::string> finished;
  for (uint32_t i = 0; i < crashed->size(part); ++i) {
    if (crashed->state({part, i}) == InstanceState::Succeeded) {
      finished.push_back(std::to_string(i));
    }
  }
  EXPECT_GE(finished.size(), 3u);
  crashed.reset();
  std::string before = ReadAll(dir / "src/log");
  RunOutcome out = Resume(id);
  EXPECT_EQ(out.exit_code, 0) << out.message;
  std::string after = "\n" + ReadAll(dir / "src/log").substr(before.size());
  for (const std::string& key : finished) {
    EXPECT_EQ(after.find("\n" + key + "\n"), std::string::npos) << "instance " << key << " ran again";
  }
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(ReadAll(out.run_dir + "/outputs/part%5B%22" + std::to_string(i) + "%22%5D/f"), std::to_string(i) + "\n");
  }
  auto done = Read(id);
  EXPECT_EQ(done->summary().status, "succeeded");
}

TEST_F(ResumedRun, RunsAgainWhatLostItsFiles) {
  uint32_t make = Sh("make", "echo x >> " + (dir / "src/log") + "; echo content > f");
  Output(make, "f", File(), ir::OutputKind::Path, b.Str("f"));
  std::string id = RunAndKill(RunEventKind::Succeeded, 1);
  ASSERT_EQ(unlink((dir / "state/runs/" + id + "/outputs/make/f").c_str()), 0);
  RunOutcome out = Resume(id);
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/make/f"), "content\n");
}

TEST_F(ResumedRun, GivesFailuresFreshAttemptsOnlyWhenRetried) {
  Sh("gate", "test -e " + (dir / "src/open"));
  options.name = "gated";
  StartFailure failure;
  auto started = Engine::Start(Configure(), failure);
  ASSERT_NE(started, nullptr) << failure.message;
  RunOutcome first = started->Run();
  started.reset();
  EXPECT_EQ(first.exit_code, 10);
  dir.Write("src/open", "");
  EXPECT_EQ(Resume(first.run_id).exit_code, 10) << "resume keeps failures";
  engine.reset();
  EXPECT_EQ(Resume(first.run_id, {.retry_failed = true, .only = {"nosuch"}}).exit_code, 2);
  EXPECT_EQ(Resume(first.run_id, {.retry_failed = true}).exit_code, 0);
  auto reader = Read(first.run_id);
  InstanceView view = reader->View({0, 0});
  EXPECT_EQ(view.state, InstanceState::Succeeded);
  EXPECT_EQ(view.attempts.size(), 2u);
  EXPECT_EQ(reader->header().name, "gated");
}

TEST_F(ResumedRun, RefusesARunThatAnotherProcessExecutes) {
  Sh("slow", "sleep 100");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    watcher.on_event = [&](const RunEvent& event) {
      if (event.kind == RunEventKind::Started) {
        [[maybe_unused]] ssize_t written = write(ready[1], "x", 1);
      }
    };
    StartFailure failure;
    auto started = Engine::Start(Configure(), failure);
    started->Run();
    _exit(0);
  }
  char c;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  std::string id = *ResolveRun(dir / "state", "");
  RunOutcome out = Resume(id);
  EXPECT_EQ(out.exit_code, 15);
  EXPECT_THAT(out.message, AllOf(HasSubstr(id), HasSubstr(std::to_string(child))));
  auto reader = Read(id);
  EXPECT_EQ(reader->summary().status, "running");
  EXPECT_EQ(reader->state({0, 0}), InstanceState::Running);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(Read(id)->summary().status, "crashed");
}

TEST_F(ResumedRun, AnswersForOneJobOneInstanceAndOneField) {
  uint32_t part = b.Scatter("part", 2);
  b[part].run = Words({"sh", "-c", "echo \"{\\\"n\\\": $JOB_KEY, \\\"extra\\\": true}\" > $JOB_RESULT; echo x > f"});
  Output(part, "n", Int(), ir::OutputKind::Json);
  Output(part, "f", File(), ir::OutputKind::Path, b.Str("f"));
  StartFailure failure;
  engine = Engine::Start(Configure(), failure);
  ASSERT_NE(engine, nullptr);
  RunOutcome out = engine->Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  auto reader = Read(out.run_id);
  EXPECT_THAT(*reader->Find("part"), ElementsAre(InstanceRef{0, 0}, InstanceRef{0, 1}));
  EXPECT_THAT(*reader->Find("part[\"1\"]"), ElementsAre(InstanceRef{0, 1}));
  EXPECT_THAT(reader->Find("part[\"7\"]").error().message, HasSubstr("it has part[\"0\"], part[\"1\"]"));
  EXPECT_THAT(reader->Find("prat").error().message, HasSubstr("`part`"));
  EXPECT_EQ(*reader->ResultJson({0, 1}, "n"), "1");
  EXPECT_EQ(*reader->ResultJson({0, 1}, "result"), R"({"extra":true,"n":1})");
  EXPECT_THAT(*reader->ResultJson({0, 0}, ""), AllOf(HasSubstr(R"("n":0)"), HasSubstr(out.run_dir)));
  EXPECT_THAT(reader->ResultJson({0, 0}, "rows").error().message, HasSubstr("`n`, `f`"));
}

TEST(Addresses, AreSplitFromTheFieldBehindThem) {
  EXPECT_EQ(SplitAddressField("a"), std::make_pair(std::string("a"), std::string()));
  EXPECT_EQ(SplitAddressField("a.f"), std::make_pair(std::string("a"), std::string("f")));
  EXPECT_EQ(SplitAddressField(R"(a["x.y"].f)"), std::make_pair(std::string(R"(a["x.y"])"), std::string("f")));
  EXPECT_EQ(SplitAddressField(R"(a["x\".y"])"), std::make_pair(std::string(R"(a["x\".y"])"), std::string()));
}

}  // namespace
}  // namespace jobc
