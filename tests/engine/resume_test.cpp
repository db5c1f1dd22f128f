// Runs that are cut off and go on, and what readers see of them.
#include "tests/engine/killed_run_fixture.h"

namespace jobc {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Exists;
using testing::ReadAll;

class ResumedRun : public testing::KilledRunTest {};

TEST_F(ResumedRun, GoesOnAfterAKillAndRunsNothingTwiceThatHadFinished) {
  uint32_t part = b.Scatter("part", 40);
  b[part].run = Words({"sh", "-c", "echo $JOB_KEY >> " + (dir / "src/log") + "; echo $JOB_KEY > f"});
  Output(part, "f", File(), ir::OutputKind::Path, b.Str("f"));
  options.max_parallel = 1;
  RunAndKill(RunEventKind::Succeeded, 3);
  auto crashed = Read();
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
  RunOutcome out = Resume();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  std::string after = "\n" + ReadAll(dir / "src/log").substr(before.size());
  for (const std::string& key : finished) {
    EXPECT_EQ(after.find("\n" + key + "\n"), std::string::npos) << "instance " << key << " ran again";
  }
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(ReadAll(out.run_dir + "/outputs/part%5B%22" + std::to_string(i) + "%22%5D/f"), std::to_string(i) + "\n");
  }
  auto done = Read();
  EXPECT_EQ(done->summary().status, "succeeded");
}

TEST_F(ResumedRun, RunsAgainWhatLostItsFiles) {
  uint32_t make = Sh("make", "echo x >> " + (dir / "src/log") + "; echo content > f");
  Output(make, "f", File(), ir::OutputKind::Path, b.Str("f"));
  RunAndKill(RunEventKind::Succeeded, 1);
  ASSERT_EQ(unlink((dir / "state/runs/" + id + "/outputs/make/f").c_str()), 0);
  RunOutcome out = Resume();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/make/f"), "content\n");
}

TEST_F(ResumedRun, GivesFailuresFreshAttemptsOnlyWhenRetried) {
  Sh("gate", "test -e " + (dir / "src/open"));
  options.name = "gated";
  EXPECT_EQ(Run().exit_code, 10);
  engine.reset();
  FindRun();
  dir.Write("src/open", "");
  const RunOutcome kept = Resume();
  EXPECT_EQ(kept.exit_code, 10) << "resume keeps failures";
  EXPECT_THAT(kept.message, ::testing::StartsWith("`gate` failed: exit")) << "and says as much of them as the first run did";
  EXPECT_EQ(Resume({.retry_failed = true, .only = {"nosuch"}}).exit_code, 2);
  EXPECT_EQ(Resume({.retry_failed = true}).exit_code, 0);
  auto reader = Read();
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
  FindRun();
  RunOutcome out = Resume();
  EXPECT_EQ(out.exit_code, 15);
  EXPECT_THAT(out.message, AllOf(HasSubstr(id), HasSubstr(std::to_string(child))));
  auto reader = Read();
  EXPECT_EQ(reader->summary().status, "running");
  EXPECT_EQ(reader->state({0, 0}), InstanceState::Running);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(Read()->summary().status, "crashed");
}

TEST_F(ResumedRun, AnswersForOneJobOneInstanceAndOneField) {
  uint32_t part = b.Scatter("part", 2);
  b[part].run = Words({"sh", "-c", "echo \"{\\\"n\\\": $JOB_KEY, \\\"extra\\\": true}\" > $JOB_RESULT; echo x > f"});
  Output(part, "n", Int(), ir::OutputKind::Json);
  Output(part, "f", File(), ir::OutputKind::Path, b.Str("f"));
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  FindRun();
  auto reader = Read();
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
