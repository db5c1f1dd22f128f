// Submissions that fail, through the whole engine: a backend that refuses attempts a few times before it hands them to the one
// for processes.
#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/engine/run_fixture.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::RunTest;

/// What the test wants and what it saw; outlives the backend.
struct Plan {
  uint32_t refusals = 0;                          ///< of each attempt
  ir::ErrorKind kind = ir::ErrorKind::Submit;
  std::vector<std::pair<AttemptId, uint32_t>> submitted;  ///< (attempt, number of the submission)
  std::set<std::string> execution_ids;
  std::vector<AttemptId> cancelled;
};

class Unreliable : public Backend {
 public:
  Unreliable(Plan& plan, const BackendHost& host, std::unique_ptr<Backend> inner) : plan_(plan), host_(host), inner_(std::move(inner)) {
    timer_ = new uv_timer_t;
    uv_timer_init(host.loop, timer_);
    timer_->data = this;
  }
  ~Unreliable() override {
    uv_close(reinterpret_cast<uv_handle_t*>(timer_), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
  }
  Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override { return inner_->Prepare(id, secrets); }
  void Submit(const AttemptLaunch& launch) override {
    plan_.submitted.emplace_back(launch.id, launch.submission);
    plan_.execution_ids.insert(launch.execution_id);
    if (launch.submission > plan_.refusals) return inner_->Submit(launch);
    refused_.push_back(launch.id);
    uv_timer_start(timer_, [](uv_timer_t* timer) { static_cast<Unreliable*>(timer->data)->Refuse(); }, 0, 0);
  }
  void Cancel(AttemptId id, int64_t grace_ms) override {
    plan_.cancelled.push_back(id);
    inner_->Cancel(id, grace_ms);
  }
  bool Withdraw(AttemptId id) override { return inner_->Withdraw(id); }
  void Attach(const AttemptLaunch& launch, const std::string& handle) override { inner_->Attach(launch, handle); }
  void Release(AttemptId id, bool keep) override { inner_->Release(id, keep); }
  void RemoveLater(const std::string& path) override { inner_->RemoveLater(path); }
  uint64_t LastOutput(AttemptId id) const override { return inner_->LastOutput(id); }
  void Stop() override { inner_->Stop(); }

 private:
  void Refuse() {
    for (AttemptId id : std::exchange(refused_, {})) {
      host_.events->OnNote(ir::BackendKind::Process, "asking the queue");
      host_.events->OnWarning(ir::BackendKind::Process, "its limits are not enforced");
      host_.events->OnFailed(id, Failed(plan_.kind, "the queue is full"));
      host_.events->OnReaped(id);
    }
  }
  Plan& plan_;
  BackendHost host_;
  std::unique_ptr<Backend> inner_;
  uv_timer_t* timer_;
  std::deque<AttemptId> refused_;
};

class Submission : public RunTest {
 protected:
  Submission() {
    backends = [this](ir::BackendKind kind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> {
      auto inner = MakeBackend(kind, host);
      if (!inner) return inner.error();
      return std::unique_ptr<Backend>(std::make_unique<Unreliable>(plan, host, *std::move(inner)));
    };
  }
  uint32_t Job(const std::string& script, int64_t delay_ms = 1) {
    uint32_t job = Sh("a", script);
    b[job].submit.max_attempts = 3;
    b[job].submit.backoff.kind = ir::Backoff::Kind::Constant;
    b[job].submit.backoff.base = b.Ms(delay_ms);
    return job;
  }
  Plan plan;
};

TEST_F(Submission, IsRepeatedAsTheSameAttempt) {
  plan.refusals = 2;
  uint32_t job = Job("echo $JOB_ATTEMPT");
  Output(job, "n", String(), ir::OutputKind::Expr, b.exprs().Add(ir::Op::Stdout, String()));
  Export("n", String(), b.Output(job, 0, String()));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"n":"1\n"})");
  EXPECT_THAT(plan.submitted, ElementsAre(std::pair(AttemptId{1}, 1u), std::pair(AttemptId{1}, 2u), std::pair(AttemptId{1}, 3u)));
  EXPECT_EQ(plan.execution_ids.size(), 1u);
  EXPECT_EQ(std::count_if(watcher.events.begin(), watcher.events.end(), [](const RunEvent& e) { return e.kind == RunEventKind::Warning && e.text.find("could not be submitted: the queue is full; submission ") != std::string::npos; }), 2);
  const auto note = std::find_if(watcher.events.begin(), watcher.events.end(), [](const RunEvent& e) { return e.kind == RunEventKind::Note; });
  ASSERT_NE(note, watcher.events.end());
  EXPECT_EQ(note->text, "process: asking the queue");
  EXPECT_EQ(ToProgressEvent(*note)->reason, note->text) << "no warning";
  EXPECT_TRUE(std::any_of(watcher.events.begin(), watcher.events.end(), [](const RunEvent& e) { return e.kind == RunEventKind::Warning && e.text == "process: its limits are not enforced"; }));
}

TEST_F(Submission, ThatIsUsedUpFailsTheAttempt) {
  plan.refusals = 100;
  plan.kind = ir::ErrorKind::Quota;
  uint32_t job = Job("exit 0");
  b.Retry(job, 2, {testing::OnKind(ir::ErrorKind::Quota)});
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_THAT(out.message, HasSubstr("quota"));
  EXPECT_THAT(out.message, HasSubstr("submitted 3 times"));
  EXPECT_EQ(plan.submitted.size(), 6u) << "three for each of two attempts";
}

TEST_F(Submission, OfAnotherKindIsNotRepeated) {
  plan.refusals = 1;
  plan.kind = ir::ErrorKind::Auth;
  Job("exit 0");
  EXPECT_EQ(Run().exit_code, 10);
  EXPECT_EQ(plan.submitted.size(), 1u);
}

TEST_F(Submission, ThatWaitsIsEndedByACancelWithoutAskingTheBackend) {
  plan.refusals = 100;
  Job("exit 0", 3'600'000);
  watcher.on_event = [this](const RunEvent& event) {
    if (event.kind == RunEventKind::Warning && event.text.find("could not be submitted") != std::string::npos) engine->Interrupt("the test");
  };
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 130);
  EXPECT_EQ(engine->state().state({0, 0}), InstanceState::Cancelled);
  EXPECT_TRUE(plan.cancelled.empty());
  EXPECT_EQ(plan.submitted.size(), 1u);
}

TEST_F(Submission, ThatWaitsIsEndedWhenTheRunStartsNothingNew) {
  plan.refusals = 1;
  Job("exit 0", 3'600'000);
  uint32_t bad = Sh("bad", "exit 1");
  b[bad].submit.max_attempts = 2;
  b[bad].submit.backoff.base = b.Ms(1);
  options.max_parallel = 2;
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_EQ(engine->state().state({0, 0}), InstanceState::Cancelled);
}

}  // namespace
}  // namespace jobc
