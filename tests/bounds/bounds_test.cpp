// Worst cases that can be worked out by hand.
#include <gtest/gtest.h>

#include "compiler/bounds/bounds.h"
#include "tests/support/plan_builder.h"

namespace jobc::testing {
namespace {

using bounds::InstanceBounds;
using bounds::PlanBounds;
using ir::ErrorKind;

constexpr int64_t kSecond = 1000, kMinute = 60 * kSecond, kHour = 60 * kMinute;
constexpr int64_t kGrace = 10 * kSecond;

class Bounds : public ::testing::Test {
 protected:
  PlanBuilder b;
  uint32_t job = b.Job("j");

  Bounds() { b[job].timeout.run = b.Ms(kHour); }

  InstanceBounds One() {
    ir::Evaluator evaluator(b.plan.program);
    ir::EvalContext nothing;
    return bounds::BoundInstance(b[job], evaluator, nothing);
  }
};

TEST_F(Bounds, OneAttemptMayRunToItsLimitAndThenTakeTheGrace) {
  EXPECT_EQ(One().attempts, 1);
  EXPECT_EQ(One().time_ms, kHour + kGrace);
  b[job].grace = b.Ms(kMinute);
  EXPECT_EQ(One().time_ms, kHour + kMinute);
}

TEST_F(Bounds, WithoutALimitThereIsNoBoundAndItSaysWhatToWrite) {
  b[job].timeout.run = {};
  EXPECT_EQ(One().time_ms, std::nullopt);
  EXPECT_EQ(One().missing, "timeout { run = 2h }");
  b[job].backend.kind = ir::BackendKind::Slurm;
  EXPECT_EQ(One().missing, "timeout { queue = 12h, run = 2h }");
  b[job].timeout.total = b.Ms(kHour);
  EXPECT_EQ(One().time_ms, kHour + kGrace);
}

TEST_F(Bounds, AProgramThatEndsByItselfLeavesOnlyTheBackoffToWaitFor) {
  b.Retry(job, 3, {OnKind(ErrorKind::Exit)}, kMinute);
  EXPECT_EQ(One().attempts, 3);
  EXPECT_EQ(One().time_ms, 3 * kHour + 2 * kMinute + kGrace);
  EXPECT_EQ(One().work_ms, 3 * kHour + kGrace);
}

TEST_F(Bounds, AfterATimeoutTheGraceOrTheBackoffIsWaitedForWhicheverIsLonger) {
  b.Retry(job, 2, {OnKind(ErrorKind::Timeout)});
  EXPECT_EQ(One().time_ms, kHour + kGrace + kHour + kGrace);
  b.Retry(job, 2, {OnKind(ErrorKind::Timeout)}, kMinute);
  EXPECT_EQ(One().time_ms, kHour + kMinute + kHour + kGrace);
}

TEST_F(Bounds, TotalEndsAllAttemptsTogether) {
  b[job].timeout.total = b.Ms(90 * kMinute);
  b.Retry(job, 3, {OnKind(ErrorKind::Exit)});
  EXPECT_EQ(One().time_ms, 90 * kMinute + kGrace);
  EXPECT_EQ(One().attempts, 3) << "a program may fail at once";
}

TEST_F(Bounds, TotalLeavesNoTimeForMoreTimeouts) {
  b.Retry(job, 4, {OnKind(ErrorKind::Timeout)});
  b[job].timeout.total = b.Ms(2 * kHour);  // the second timeout comes with the end of `total`, which wins
  EXPECT_EQ(One().attempts, 2);
  b[job].timeout.total = b.Ms(2 * kHour + 1);
  EXPECT_EQ(One().attempts, 3);
  // With a fault that comes at once, nothing limits them.
  b.Retry(job, 4, {OnKind(ErrorKind::Timeout), OnKind(ErrorKind::Exit)});
  EXPECT_EQ(One().attempts, 4);
}

TEST_F(Bounds, GrowthIsFollowedUntilItsCap) {
  b.Retry(job, 9, {OnKind(ErrorKind::Oom)});
  b.Rule(job, OnKind(ErrorKind::Timeout)).timeout.run = b.Doubled(ir::PrevKind::TimeoutRun, ir::TypeKind::Duration, b.Ms(3 * kHour));
  b[job].retry.has_on = true;
  b[job].retry.on.clear();
  EXPECT_EQ(One().attempts, 3);  // 1 h, 2 h, 3 h; then it would get no more
  EXPECT_EQ(One().time_ms, 6 * kHour + 3 * kGrace);
}

TEST_F(Bounds, CpusGrowInTheStepsThatTheRuntimeKeeps) {
  b[job].resources.cpu = b.Float(1.0 / 3);
  b.Retry(job, 9, {});
  b.Rule(job, OnKind(ErrorKind::Oom)).resources.cpu = b.Doubled(ir::PrevKind::Cpu, ir::TypeKind::Float, b.Float(2.0 / 3));
  b[job].retry.has_on = true;
  EXPECT_EQ(One().attempts, 3);  // 0.333, 0.666, 0.667
}

TEST_F(Bounds, TheLongestWaitsAreChosenAmongTheRules) {
  b.Retry(job, 3, {});
  b[job].retry.has_on = true;
  b.Rule(job, OnKind(ErrorKind::Exit), 1).delay = b.Ms(10 * kMinute);
  b.Rule(job, OnKind(ErrorKind::Oom), 2).delay = b.Ms(kMinute);
  EXPECT_EQ(One().attempts, 3);
  EXPECT_EQ(One().time_ms, 3 * kHour + 11 * kMinute + kGrace);
  b[job].retry.never.push_back(OnKind(ErrorKind::Exit));
  EXPECT_EQ(One().time_ms, 3 * kHour + 2 * kMinute + kGrace);
}

TEST_F(Bounds, ManyAttemptsAreNotCountedOneByOne) {
  b.Retry(job, 1'000'000'000, {OnKind(ErrorKind::Exit)}, kMinute);
  EXPECT_EQ(One().attempts, 1'000'000'000);
  EXPECT_EQ(One().time_ms, 1'000'000'000 * kHour + 999'999'999 * kMinute + kGrace);
  b[job].timeout.total = b.Ms(100 * kMinute);
  EXPECT_EQ(One().attempts, 101) << "one a minute, and the first";
  EXPECT_EQ(One().time_ms, 100 * kMinute + kGrace);
  b[job].retry.backoff.kind = ir::Backoff::Kind::Linear;  // 1, 2, 3 … minutes
  EXPECT_EQ(One().attempts, 14);                          // 13 * 14 / 2 = 91
}

TEST_F(Bounds, QueuesAndSubmissionsCountBeforeTheStart) {
  b[job].backend.kind = ir::BackendKind::Docker;
  EXPECT_EQ(One().time_ms, (1 + 2 + 4 + 8) * kSecond + kHour + kGrace);
  b[job].submit.max_attempts = 1;
  EXPECT_EQ(One().time_ms, kHour + kGrace);
  b[job].backend.kind = ir::BackendKind::Slurm;
  b[job].timeout.queue = b.Ms(2 * kHour);
  EXPECT_EQ(One().time_ms, 3 * kHour + kGrace);
}

TEST_F(Bounds, KindsThatNothingCanProduceDoNotCount) {
  b.Retry(job, 3, {OnKind(ErrorKind::InvalidInput), OnKind(ErrorKind::IdleTimeout), OnKind(ErrorKind::QueueTimeout)});
  EXPECT_EQ(One().attempts, 1);
  ir::ErrorArm arm;
  arm.kind = ErrorKind::InvalidInput;
  arm.error_class = ir::ErrorClass::Data;
  b[job].errors.push_back(arm);
  EXPECT_EQ(One().attempts, 3);
  b[job].errors.clear();
  b[job].timeout.idle = b.Ms(kMinute);
  EXPECT_EQ(One().attempts, 3);
  b[job].timeout.idle = b.Ms(kHour);  // `run` ends it first
  EXPECT_EQ(One().attempts, 1);
}

TEST(PlanBounds, AJobsInstancesFitIntoAllPoolsTogether) {
  PlanBuilder b;
  const uint32_t left = b.Pool("left", 4), right = b.Pool("right", 4);
  const uint32_t job = b.Scatter("j", 4);  // claims 1, 2, 3, 4 of one and 4, 3, 2, 1 of the other
  b[job].timeout.run = b.Ms(kHour);
  const auto plus = [&](ir::Op op, int64_t n) { return b.Binary(op, ir::TypeKind::Int, op == ir::Op::Add ? b.Var() : b.Int(n), op == ir::Op::Add ? b.Int(n) : b.Var()); };
  b[job].pools = {{left, plus(ir::Op::Add, 1)}, {right, plus(ir::Op::Sub, 4)}};
  const PlanBounds bounds = bounds::Bound(b.plan);
  EXPECT_EQ(bounds.jobs[job].at_once, 1);
  EXPECT_EQ(bounds.jobs[job].slots, (std::vector<std::pair<uint32_t, int64_t>>{{left, 4}, {right, 4}}));
}

TEST(PlanBounds, DynamicScattersCountWithTheirMaximumWithoutWhatIsExcluded) {
  PlanBuilder b;
  const ir::TypeId list = b.types().List(b.Type(ir::TypeKind::Int));
  const uint32_t source = b.Job("source");
  b[source].timeout.run = b.Ms(kHour);
  b.AddOutput(source, "xs", list);
  const uint32_t job = b.Scatter("j", b.Output(source, 0, list), true);
  b[job].domain.max = 10;
  b[job].domain.axes = {{"m", b.Ints({0, 1}), b.Type(ir::TypeKind::Int)}, {"n", b.Ints({0, 1, 2}), b.Type(ir::TypeKind::Int)}};
  b[job].domain.excluded = {{{0, b.Int(1)}, {1, b.Int(2)}}};
  b[job].timeout.run = b.Ms(kHour);
  const uint32_t pool = b.Pool("p", 3);
  b[job].pools = {{pool, b.Binary(ir::Op::Add, ir::TypeKind::Int, b.Var(), b.Int(1))}};  // known when it starts
  b.Needs(job, source);
  const PlanBounds bounds = bounds::Bound(b.plan);
  EXPECT_EQ(bounds.jobs[job].instances, 50u);
  EXPECT_EQ(bounds.jobs[job].attempts, 50);
  EXPECT_EQ(bounds.jobs[job].at_once, 3);
  EXPECT_EQ(bounds.jobs[job].slots[0].second, 3);
}

TEST(PlanBounds, OnePlaceMeansOneAfterTheOther) {
  PlanBuilder b;
  const uint32_t first = b.Scatter("first", 3), second = b.Job("second");
  for (const uint32_t job : {first, second}) b[job].timeout.run = b.Ms(kHour);
  b.Retry(second, 2, {OnKind(ErrorKind::Exit)}, kMinute);
  b.Needs(second, first, ir::Mapping::All);
  const PlanBounds bounds = bounds::Bound(b.plan);
  EXPECT_FALSE(bounds.max_parallel_declared);
  EXPECT_EQ(bounds.time_ms, 3 * (kHour + kGrace) + 2 * kHour + kMinute + kGrace);
}

TEST(PlanBounds, EnoughPlacesForAllLeaveTheLongestPath) {
  PlanBuilder b;
  const uint32_t first = b.Scatter("first", 3), second = b.Job("second");
  for (const uint32_t job : {first, second}) b[job].timeout.run = b.Ms(kHour);
  b.Needs(second, first, ir::Mapping::All);
  b.plan.max_parallel = b.Int(1000);
  const PlanBounds bounds = bounds::Bound(b.plan);
  const int64_t one = kHour + kGrace;
  EXPECT_GE(*bounds.time_ms, 2 * one);
  EXPECT_LE(*bounds.time_ms, 2 * one + one / 100);
  EXPECT_EQ(bounds::CriticalPath(b.plan, bounds), (std::vector<uint32_t>{first, second}));
}

TEST(PlanBounds, TheLimitOfTheRunEndsItAndGraceFinallyAndHooksFollow) {
  PlanBuilder b;
  const uint32_t job = b.Scatter("j", 3);  // without any limit
  b[job].grace = b.Binary(ir::Op::Mul, ir::TypeKind::Duration, b.Ms(kMinute), b.Var());
  b.plan.limits.time_ms = kHour;
  b.Job("clean", ir::JobKind::Finally);
  const uint32_t good = b.Hook("good", ir::HookEvent::Success), bad = b.Hook("bad", ir::HookEvent::Failure);
  b[good].timeout.run = b.Ms(kMinute);
  b[bad].timeout.run = b.Ms(2 * kMinute);
  const PlanBounds bounds = bounds::Bound(b.plan);
  EXPECT_TRUE(bounds.by_limit);
  EXPECT_EQ(bounds.time_ms, kHour + 2 * kMinute + (10 * kMinute + kGrace) + (2 * kMinute + kGrace));
  b[bad].timeout.run = {};  // as for `finally`: 10 minutes
  EXPECT_EQ(bounds::Bound(b.plan).time_ms, kHour + 2 * kMinute + 2 * (10 * kMinute + kGrace));
}

}  // namespace
}  // namespace jobc::testing
