// Stories of runs, told to the pure core by a fake backend on a virtual clock.
#include "runtime/scheduler.h"

#include <set>

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/fake_backend.h"
#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

using ir::ErrorKind;
using ir::Strategy;
using ::testing::ElementsAre;
using testing::FakeBackend;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::OnKind;
using testing::PlanBuilder;
using ::testing::UnorderedElementsAre;
using S = InstanceState;

// -- Order
// ---------------------------------------------------------------------------------------------------------------

TEST(Scheduler, RunsAJobAndEndsTheRunOnlyWhenItIsReaped) {
  PlanBuilder b;
  b.Job("hello");
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("hello"));
  EXPECT_EQ(backend.Of("hello").start.number, 1u);
  backend.Run("hello");
  backend.End("hello", Succeeded());
  EXPECT_EQ(backend.StateOf("hello"), S::Succeeded);
  EXPECT_THAT(backend.finished, IsEmpty());
  backend.Reap("hello");
  ASSERT_EQ(backend.finished.size(), 1u);
  EXPECT_EQ(backend.finished[0].exit_code, 0);
  EXPECT_EQ(backend.finished[0].status, RunStatus::Succeeded);
}

TEST(Scheduler, UsesAResultThatIsThereWithoutAnAttempt) {
  PlanBuilder b;
  uint32_t fetch = b.Job("fetch"), align = b.Job("align");
  b.Needs(align, fetch);
  SchedulerOptions options;
  options.max_parallel = 1;
  options.look_up = {true, true};
  FakeBackend backend(b.plan, options);
  backend.Begin();
  EXPECT_THAT(backend.started, IsEmpty());
  ASSERT_TRUE(std::holds_alternative<LookUp>(backend.log.back()));
  AttemptResult result;
  result.verdict = Succeeded();
  result.started_ms = 5;
  result.ended_ms = 9;
  backend.scheduler.Reused({fetch, 0}, std::move(result), 3, backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("fetch"), S::Succeeded);
  EXPECT_EQ(backend.state().attempts({fetch, 0}), 3u);
  // What needs it is asked about, too; without a result it waits for its turn.
  EXPECT_EQ(std::get<LookUp>(backend.log.back()).instance, (InstanceRef{align, 0}));
  backend.scheduler.NotReused({align, 0}, backend.now);
  backend.Take();
  EXPECT_THAT(backend.started, ElementsAre("align"));
  backend.Finish("align");
  ASSERT_EQ(backend.finished.size(), 1u);
  EXPECT_EQ(backend.finished[0].exit_code, 0);
  EXPECT_EQ(backend.scheduler.counters().attempts, 1u);
}

TEST(Scheduler, AnAnswerAboutAResultThatComesTooLateChangesNothing) {
  PlanBuilder b;
  uint32_t fetch = b.Job("fetch");
  SchedulerOptions options;
  options.look_up = {true};
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.scheduler.CancelRun(false, "interrupted", backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("fetch"), S::Cancelled);
  backend.scheduler.NotReused({fetch, 0}, backend.now);
  AttemptResult result;
  result.verdict = Succeeded();
  backend.scheduler.Reused({fetch, 0}, std::move(result), 1, backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("fetch"), S::Cancelled);
  EXPECT_EQ(backend.scheduler.counters().late, 2u);
  EXPECT_THAT(backend.started, IsEmpty());
}

TEST(Scheduler, AnEmptyPlanSucceedsAtOnce) {
  PlanBuilder b;
  FakeBackend backend(b.plan);
  backend.Begin();
  ASSERT_EQ(backend.finished.size(), 1u);
  EXPECT_EQ(backend.finished[0].exit_code, 0);
}

TEST(Scheduler, StartsADependentAtTheVerdictOfItsProducer) {
  PlanBuilder b;
  uint32_t fetch = b.Job("fetch"), align = b.Job("align");
  b.Needs(align, fetch);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("fetch");
  EXPECT_FALSE(backend.Started("align"));
  backend.End("fetch", Succeeded());
  EXPECT_TRUE(backend.Started("align"));
}

TEST(Scheduler, KnowsWhatStartsNextHoweverManyHaveStarted) {
  PlanBuilder b;
  b.Scatter("p", 500);
  SchedulerOptions options;
  options.max_parallel = 3;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  for (size_t i = 0; i < 400; ++i) {
    std::vector<InstanceRef> next = backend.scheduler.LikelyNext(20);
    ASSERT_EQ(next.size(), 20u);
    const size_t started = backend.started.size();
    for (size_t k = 0; k < next.size(); ++k) ASSERT_EQ(next[k].ordinal, started + k);
    backend.Finish(std::string(backend.started[i]));
  }
}

TEST(Scheduler, ThePlannedNextTakesOverThePlaceOfTheOneBefore) {
  PlanBuilder b;
  b.Scatter("p", 4);
  SchedulerOptions options;
  options.max_parallel = 1;
  FakeBackend backend(b.plan, options);
  auto any = [](InstanceRef) { return true; };
  backend.Begin();
  const AttemptId first = backend.Of("p[\"0\"]").start.id;
  backend.Run("p[\"0\"]");
  auto next = backend.scheduler.PlanNext(first, any, backend.now);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->start.instance.ordinal, 1u);
  EXPECT_TRUE(next->blocked_by_results) << "a result may be wrong, and then nothing else is to start";
  EXPECT_FALSE(backend.scheduler.PlanNext(first, any, backend.now)) << "one at a time";
  EXPECT_EQ(backend.StateOf("p[\"1\"]"), InstanceState::Ready);
  backend.End("p[\"0\"]", Succeeded());
  EXPECT_THAT(backend.started, ElementsAre("p[\"0\"]"));
  backend.scheduler.AttemptReaped(first, backend.now, next->start.id);
  backend.Take();
  EXPECT_THAT(backend.started, ElementsAre("p[\"0\"]", "p[\"1\"]"));
  EXPECT_TRUE(backend.Of("p[\"1\"]").start.began);
  EXPECT_EQ(backend.Of("p[\"1\"]").start.id, next->start.id);
  // Taken back, it is first again.
  auto again = backend.scheduler.PlanNext(next->start.id, any, backend.now);
  ASSERT_TRUE(again);
  backend.scheduler.NextRevoked(again->start.id, backend.now);
  backend.Take();
  backend.Finish("p[\"1\"]");
  EXPECT_EQ(backend.started.back(), "p[\"2\"]");
  EXPECT_FALSE(backend.Of("p[\"2\"]").start.began);
  EXPECT_EQ(backend.Of("p[\"2\"]").start.number, 1u);
  backend.Finish("p[\"2\"]");
  backend.Finish("p[\"3\"]");
  EXPECT_EQ(backend.scheduler.counters().attempts, 4u);
}

TEST(Scheduler, OneIsPlannedToFollowAnother) {
  PlanBuilder b;
  b.Scatter("p", 4);
  SchedulerOptions options;
  options.max_parallel = 1;
  FakeBackend backend(b.plan, options);
  auto any = [](InstanceRef) { return true; };
  auto plan = [&](AttemptId before) { return backend.scheduler.PlanNext(before, any, backend.now); };
  backend.Begin();
  const AttemptId first = backend.Of("p[\"0\"]").start.id;
  backend.Run("p[\"0\"]");
  const auto second = plan(first);
  const auto third = plan(second->start.id);
  const auto fourth = plan(third->start.id);
  ASSERT_TRUE(third);
  ASSERT_TRUE(fourth);
  EXPECT_EQ(third->start.instance.ordinal, 2u);
  EXPECT_FALSE(plan(second->start.id)) << "one has one that follows";
  EXPECT_FALSE(plan(fourth->start.id)) << "nothing waits";
  backend.End("p[\"0\"]", Succeeded());
  backend.scheduler.AttemptReaped(first, backend.now, second->start.id);
  backend.Take();
  EXPECT_THAT(backend.started, ElementsAre("p[\"0\"]", "p[\"1\"]"));
  // Of those that have not begun, one is taken back: with it goes what is behind it.
  backend.scheduler.NextRevoked(third->start.id, backend.now);
  EXPECT_EQ(backend.scheduler.CheckInvariants(), "");
  const auto again = plan(second->start.id);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->start.instance.ordinal, 2u) << "both wait in their order";
  EXPECT_EQ(again->start.number, 1u);
  EXPECT_EQ(plan(again->start.id)->start.instance.ordinal, 3u);
  // The one before ends otherwise: none of them begins.
  backend.Fail("p[\"1\"]");
  backend.Take();
  EXPECT_EQ(backend.scheduler.CheckInvariants(), "");
  EXPECT_THAT(backend.started, ElementsAre("p[\"0\"]", "p[\"1\"]"));
  EXPECT_EQ(backend.StateOf("p[\"3\"]"), InstanceState::Cancelled);
  EXPECT_EQ(backend.finished.size(), 1u);
}

TEST(Scheduler, WhatIsPlannedIsTakenBackWhenTheRunStops) {
  for (bool faster : {false, true}) {
    PlanBuilder b;
    b.Scatter("p", 4);
    SchedulerOptions options;
    options.max_parallel = 2;
    FakeBackend backend(b.plan, options);
    backend.Begin();
    const AttemptId first = backend.Of("p[\"0\"]").start.id;
    backend.Run("p[\"0\"]");
    auto next = backend.scheduler.PlanNext(first, [](InstanceRef) { return true; }, backend.now);
    ASSERT_TRUE(next);
    backend.Fail("p[\"1\"]");  // drain
    const auto* revoke = [&]() -> const RevokeNext* {
      for (const Action& action : backend.log) {
        if (auto* one = std::get_if<RevokeNext>(&action)) return one;
      }
      return nullptr;
    }();
    ASSERT_TRUE(revoke);
    EXPECT_EQ(revoke->id, next->start.id);
    EXPECT_EQ(backend.StateOf("p[\"3\"]"), InstanceState::Cancelled);
    EXPECT_EQ(backend.StateOf("p[\"2\"]"), InstanceState::Ready) << "not known yet";
    backend.End("p[\"0\"]", Succeeded());
    if (faster) {
      backend.scheduler.AttemptReaped(first, backend.now, next->start.id);
      backend.Take();
      EXPECT_EQ(backend.StateOf("p[\"2\"]"), InstanceState::Running) << "drain lets finish what has begun";
      backend.Finish("p[\"2\"]");
      EXPECT_EQ(backend.StateOf("p[\"2\"]"), InstanceState::Succeeded);
    } else {
      backend.scheduler.NextRevoked(next->start.id, backend.now);
      backend.Take();
      EXPECT_EQ(backend.StateOf("p[\"2\"]"), InstanceState::Cancelled);
      backend.scheduler.AttemptReaped(first, backend.now);
      backend.Take();
    }
    EXPECT_EQ(backend.finished.size(), 1u);
  }
}

TEST(Scheduler, PlansNothingWhereTheEndOfTheOneBeforeDecides) {
  PlanBuilder b;
  uint32_t p = b.Scatter("p", 2), q = b.Scatter("q", 3);
  b.AddOutput(p, "x", b.Type(ir::TypeKind::Int));
  SchedulerOptions options;
  options.max_parallel = 2;
  FakeBackend backend(b.plan, options);
  auto any = [](InstanceRef) { return true; };
  backend.Begin();
  backend.Run("p[\"0\"]");
  backend.Run("p[\"1\"]");
  EXPECT_FALSE(backend.scheduler.PlanNext(backend.Of("p[\"0\"]").start.id, any, backend.now))
      << "an output may be missing, which would stop the run";
  backend.Finish("p[\"0\"]", Succeeded(), {ir::Value::Int(1)});
  (void)q;
  EXPECT_FALSE(backend.scheduler.PlanNext(backend.Of("q[\"0\"]").start.id, [](InstanceRef) { return false; }, backend.now))
      << "the caller does not want it";
  EXPECT_TRUE(backend.scheduler.PlanNext(backend.Of("q[\"0\"]").start.id, any, backend.now));
}

TEST(Scheduler, RetriesAFailedInstanceBeforeItsDependents) {
  PlanBuilder b;
  uint32_t fetch = b.Job("fetch"), align = b.Job("align");
  b.Retry(fetch, 2);
  b.Needs(align, fetch);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("fetch", ErrorKind::NodeLost);
  backend.Sleep(0);
  EXPECT_THAT(backend.started, ElementsAre("fetch", "fetch"));
  EXPECT_EQ(backend.Of("fetch").start.number, 2u);
  backend.Finish("fetch");
  EXPECT_TRUE(backend.Started("align"));
}

TEST(Scheduler, MatchesOneToOneWhereTheConsumerUsesItsOwnKey) {
  PlanBuilder b;
  uint32_t p = b.Scatter("p", 3), c = b.Scatter("c", 3);
  b.Needs(c, p, ir::Mapping::Same);
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("p[\"0\"]", "p[\"1\"]", "p[\"2\"]"));
  backend.Finish("p[\"1\"]");
  EXPECT_TRUE(backend.Started("c[\"1\"]"));
  EXPECT_FALSE(backend.Started("c[\"0\"]"));
  EXPECT_FALSE(backend.Started("c[\"2\"]"));
}

TEST(Scheduler, MatchesByIndexExpression) {
  PlanBuilder b;
  uint32_t p = b.Scatter("p", 4), c = b.Scatter("c", 3);
  b.Needs(c, p, ir::Mapping::Expr, true, {b.Binary(ir::Op::Add, ir::TypeKind::Int, b.Var(), b.Int(1))});
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("p[\"1\"]");
  EXPECT_TRUE(backend.Started("c[\"0\"]"));
  backend.Finish("p[\"3\"]");
  EXPECT_TRUE(backend.Started("c[\"2\"]"));
  EXPECT_FALSE(backend.Started("c[\"1\"]"));
}

TEST(Scheduler, GathersAGroupByItsLeadingIndices) {
  PlanBuilder b;
  uint32_t p = b.Scatter("p", 2);
  ir::Axis axis{"m", b.Ints({7, 8}), b.Type(ir::TypeKind::Int)};
  b[p].domain.axes.push_back(axis);
  uint32_t c = b.Scatter("c", 2);
  b.Needs(c, p, ir::Mapping::All, true, {b.Var()});
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("p[\"0\",\"7\"]");
  backend.Finish("p[\"1\",\"7\"]");
  EXPECT_FALSE(backend.Started("c[\"0\"]"));
  backend.Finish("p[\"1\",\"8\"]");
  EXPECT_FALSE(backend.Started("c[\"0\"]"));
  EXPECT_TRUE(backend.Started("c[\"1\"]"));
}

TEST(Scheduler, WaitsForAllOfAScatter) {
  PlanBuilder b;
  uint32_t p = b.Scatter("p", 3), c = b.Job("c");
  b.Needs(c, p, ir::Mapping::All);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("p[\"2\"]");
  backend.Finish("p[\"0\"]");
  EXPECT_FALSE(backend.Started("c"));
  backend.Finish("p[\"1\"]");
  EXPECT_TRUE(backend.Started("c"));
}

TEST(Scheduler, ADependencyWithAFalseConditionDoesNotExist) {
  PlanBuilder b;
  uint32_t p = b.Job("p"), c = b.Scatter("c", 2);
  b.Needs(c, p);
  b[c].dependencies[0].condition = b.Binary(ir::Op::Eq, ir::TypeKind::Bool, b.Var(), b.Int(1));
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("p", "c[\"0\"]"));
  backend.Finish("p");
  EXPECT_TRUE(backend.Started("c[\"1\"]"));
}

TEST(Scheduler, SeesOutputsOfProducersInWhen) {
  PlanBuilder b;
  uint32_t train = b.Job("train"), evaluate = b.Job("evaluate"), after = b.Job("after");
  uint32_t accuracy = b.AddOutput(train, "accuracy", b.Type(ir::TypeKind::Float));
  b.When(evaluate, b.Binary(ir::Op::Gt, ir::TypeKind::Bool, b.Output(train, accuracy, b.Type(ir::TypeKind::Float)),
                            b.Float(0.8)));
  b.Needs(evaluate, train);
  b.Needs(after, evaluate, ir::Mapping::Single, false);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("train", Succeeded(), {ir::Value::Float(0.7)});
  EXPECT_EQ(backend.StateOf("evaluate"), S::Skipped);
  EXPECT_EQ(backend.WhyOf("evaluate"), "its `when` is false");
  EXPECT_TRUE(backend.Started("after")) << "a weak reference needs only the end";
  backend.Finish("after");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
}

// -- Strong, weak, after
// -----------------------------------------------------------------------------------------------------

TEST(Scheduler, BlocksStrongConsumersOfAFailureAndTheirsToo) {
  PlanBuilder b;
  uint32_t a = b.Job("a"), c = b.Job("c"), d = b.Job("d");
  b.OnError(a, Strategy::Continue);
  b.Needs(c, a);
  b.Needs(d, c);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("a");
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.StateOf("c"), S::Blocked);
  EXPECT_EQ(backend.StateOf("d"), S::Blocked);
  EXPECT_EQ(backend.WhyOf("c"), "it needs `a`, which is failed");
  ASSERT_EQ(backend.finished.size(), 1u);
  EXPECT_EQ(backend.finished[0].exit_code, 10);
  EXPECT_THAT(backend.finished[0].message, HasSubstr("`a` failed: exit: it broke"));
  EXPECT_THAT(backend.state().FailedJobs(), ElementsAre("a"));
}

TEST(Scheduler, OneFailureInAScatterBlocksTheGatherAtOnce) {
  PlanBuilder b;
  uint32_t p = b.Scatter("p", 3), c = b.Job("c");
  b.OnError(p, Strategy::Continue);
  b.Needs(c, p, ir::Mapping::All);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("p[\"1\"]");
  EXPECT_EQ(backend.StateOf("c"), S::Blocked);
  backend.Finish("p[\"0\"]");
  backend.Finish("p[\"2\"]");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST(Scheduler, AfterFailedRunsOnlyIfOneInstanceFailed) {
  for (bool fails : {false, true}) {
    PlanBuilder b;
    uint32_t p = b.Scatter("p", 2), rescue = b.Job("rescue");
    b.OnError(p, Strategy::Continue);
    b.After(rescue, p, ir::AfterKind::Failed);
    FakeBackend backend(b.plan);
    backend.Begin();
    backend.Finish("p[\"0\"]");
    EXPECT_FALSE(backend.Started("rescue"));
    backend.Finish("p[\"1\"]", fails ? Failed(ErrorKind::Exit, "") : Succeeded());
    EXPECT_EQ(backend.Started("rescue"), fails);
    if (!fails) {
      EXPECT_EQ(backend.WhyOf("rescue"), "`after`: `p` did not fail");
    }
  }
}

TEST(Scheduler, ABareAfterOnANullableJobSkips) {
  PlanBuilder b;
  uint32_t a = b.Job("a"), c = b.Job("c"), d = b.Job("d");
  b.OnError(a, Strategy::Ignore);
  b.After(c, a);
  b.After(d, a, ir::AfterKind::Done);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("a");
  EXPECT_EQ(backend.StateOf("c"), S::Skipped);
  EXPECT_TRUE(backend.Started("d"));
  backend.Finish("d");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
  EXPECT_TRUE(backend.finished.at(0).tolerated_failures);
  EXPECT_THAT(backend.state().FailedJobs(), IsEmpty());
}

// -- Strategies
// ----------------------------------------------------------------------------------------------------------------

struct Strategies : ::testing::Test {
  /// bad and slow run side by side; later waits for slow, other is ready but has no place.
  Strategies() {
    bad = b.Job("bad");
    slow = b.Job("slow");
    later = b.Job("later");
    other = b.Job("other");
    dependent = b.Job("dependent");
    b.Needs(later, slow);
    b.Needs(dependent, bad);
    options.max_parallel = 2;
  }
  PlanBuilder b;
  SchedulerOptions options;
  uint32_t bad, slow, later, other, dependent;
};

TEST_F(Strategies, DrainLetsRunningWorkFinishAndStartsNothingNew) {
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Run("slow");
  backend.Fail("bad");
  EXPECT_EQ(backend.StateOf("dependent"), S::Blocked);
  EXPECT_EQ(backend.StateOf("later"), S::Cancelled);
  EXPECT_EQ(backend.StateOf("other"), S::Cancelled);
  EXPECT_EQ(backend.StateOf("slow"), S::Running);
  EXPECT_THAT(backend.finished, IsEmpty());
  backend.End("slow", Succeeded());
  backend.Reap("slow");
  EXPECT_THAT(backend.started, ElementsAre("bad", "slow"));
  EXPECT_EQ(backend.StateOf("slow"), S::Succeeded);
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(Strategies, DrainCancelsAttemptsTheBackendHasNotStarted) {
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("bad");
  EXPECT_THAT(backend.withdrawn, ElementsAre("slow"));
  EXPECT_THAT(backend.cancelled, IsEmpty());
  EXPECT_EQ(backend.StateOf("slow"), S::Running) << "only the backend knows whether it has begun";
  EXPECT_THAT(backend.finished, IsEmpty());
  backend.Withdraw("slow");
  EXPECT_EQ(backend.StateOf("slow"), S::Cancelled);
  EXPECT_EQ(backend.WhyOf("slow"), "`bad` failed and its `on_error` is `drain`");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(Strategies, DrainLetsAnAttemptFinishThatBeganBeforeItCouldBeWithdrawn) {
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("bad");
  EXPECT_THAT(backend.withdrawn, ElementsAre("slow"));
  backend.Run("slow");
  backend.scheduler.AttemptWithdrawn(backend.Of("slow").start.id, backend.now);  // two answers: the first counts
  EXPECT_EQ(backend.scheduler.counters().late, 1u);
  backend.End("slow", Succeeded());
  backend.Reap("slow");
  EXPECT_EQ(backend.StateOf("slow"), S::Succeeded);
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(Strategies, NothingIsWithdrawnUnasked) {
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Withdraw("slow");
  EXPECT_EQ(backend.scheduler.counters().late, 1u);
  EXPECT_EQ(backend.StateOf("slow"), S::Running);
}

TEST_F(Strategies, HaltAfterDrainCancelsWhatWasToBeWithdrawn) {
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("bad");
  backend.scheduler.CancelRun(false, "enough", backend.now);
  backend.Take();
  EXPECT_THAT(backend.cancelled, ElementsAre("slow"));
  EXPECT_EQ(backend.StateOf("slow"), S::Cancelled);
  backend.Withdraw("slow");
  EXPECT_EQ(backend.finished.size(), 1u);
}

TEST_F(Strategies, DrainFailsWhatWaitsForARetry) {
  b.Retry(slow, 3, {OnKind(ErrorKind::Exit)}, 60'000);
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("slow");
  EXPECT_EQ(backend.StateOf("slow"), S::Backoff);
  backend.Run("other");  // took the place of slow
  backend.Fail("bad");
  EXPECT_EQ(backend.StateOf("slow"), S::Failed);
  EXPECT_EQ(backend.StateOf("later"), S::Blocked);
  backend.End("other", Failed(ErrorKind::NodeLost, ""));
  EXPECT_EQ(backend.StateOf("other"), S::Failed) << "no retries while draining";
  backend.Reap("other");
  EXPECT_EQ(backend.finished.size(), 1u);
}

TEST_F(Strategies, HaltCancelsEverything) {
  b.OnError(bad, Strategy::Halt);
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Run("slow");
  backend.Fail("bad");
  EXPECT_THAT(backend.cancelled, ElementsAre("slow"));
  EXPECT_EQ(backend.Of("slow").why, CancelWhy::Halt);
  EXPECT_EQ(backend.Of("slow").grace_ms, 10'000);
  EXPECT_EQ(backend.StateOf("slow"), S::Cancelled);
  EXPECT_EQ(backend.WhyOf("other"), "`bad` failed and its `on_error` is `halt`");
  EXPECT_THAT(backend.finished, IsEmpty());
  backend.Reap("slow");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
  EXPECT_EQ(backend.finished.at(0).status, RunStatus::Failed);
}

TEST_F(Strategies, ContinueGoesOnWithEverythingElse) {
  b.OnError(bad, Strategy::Continue);
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("bad");
  EXPECT_EQ(backend.StateOf("dependent"), S::Blocked);
  backend.Finish("slow");
  backend.Finish("later");
  backend.Finish("other");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(Strategies, TheModeIsTheMaximumAndNeverFalls) {
  b.OnError(slow, Strategy::Halt);
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Run("slow");
  backend.Fail("bad");
  EXPECT_EQ(backend.scheduler.mode(), Strategy::Drain);
  backend.Finish("slow", Failed(ErrorKind::Exit, ""));
  EXPECT_EQ(backend.scheduler.mode(), Strategy::Halt);
}

TEST_F(Strategies, TheCommandLineChangesAllButIgnore) {
  b.OnError(bad, Strategy::Ignore);
  b.OnError(slow, Strategy::Halt);
  options.on_error = Strategy::Continue;
  b.plan.jobs[dependent].dependencies[0].strong = false;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("bad");
  EXPECT_EQ(backend.scheduler.mode(), Strategy::Ignore);
  backend.Fail("slow");
  EXPECT_EQ(backend.scheduler.mode(), Strategy::Continue);
  EXPECT_TRUE(backend.Started("other"));
}

TEST_F(Strategies, TheDefaultOfTheFileIsForJobsThatDoNotSay) {
  b.plan.on_error = Strategy::Continue;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("bad");
  EXPECT_EQ(backend.scheduler.mode(), Strategy::Continue);
}

// -- Retry
// -----------------------------------------------------------------------------------------------------------------------

TEST(Retry, StartsAfterItsDelayAndNotBeforeTheLastAttemptIsReaped) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b.Retry(a, 3, {OnKind(ErrorKind::Exit)}, 5000);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.End("a", Failed(ErrorKind::Exit, ""));
  EXPECT_EQ(backend.scheduler.NextDeadline(), backend.now + 5000);
  backend.Sleep(4999);
  EXPECT_EQ(backend.Starts("a"), 1);
  backend.Sleep(1);
  EXPECT_EQ(backend.Starts("a"), 1) << "still not reaped";
  backend.Reap("a");
  EXPECT_EQ(backend.Starts("a"), 2);
  backend.Fail("a");
  backend.Sleep(4999);
  EXPECT_EQ(backend.Starts("a"), 2);
  backend.Sleep(1);
  EXPECT_EQ(backend.Starts("a"), 3);
  backend.Fail("a");
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_THAT(backend.WhyOf("a"), HasSubstr("all 3 attempts are used up"));
}

TEST(Retry, ABackoffTakesNoSlot) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b.Job("other");
  b.Retry(a, 2, {OnKind(ErrorKind::Exit)}, 5000);
  SchedulerOptions options;
  options.max_parallel = 1;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("a");
  EXPECT_THAT(backend.started, ElementsAre("a", "other"));
  backend.Sleep(5000);
  EXPECT_EQ(backend.StateOf("a"), S::Ready);
  backend.Finish("other");
  EXPECT_EQ(backend.Starts("a"), 2);
}

TEST(Retry, GivesTheNextAttemptItsGrownResources) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b[a].resources.memory = b.Bytes(16 << 20);
  b.Retry(a, 5);
  auto& rule = b.Rule(a, OnKind(ErrorKind::Oom), 3);
  rule.resources.memory = b.Doubled(ir::PrevKind::Memory, ir::TypeKind::Bytes, b.Bytes(64 << 20));
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_EQ(backend.Of("a").start.resources.memory, 16 << 20);
  backend.Fail("a", ErrorKind::Oom);
  backend.Sleep(0);
  EXPECT_EQ(backend.Of("a").start.resources.memory, 32 << 20);
  backend.Fail("a", ErrorKind::NodeLost);
  backend.Sleep(0);
  EXPECT_EQ(backend.Of("a").start.resources.memory, 32 << 20) << "the overlay stays in force";
  backend.Fail("a", ErrorKind::Oom);
  backend.Sleep(0);
  EXPECT_EQ(backend.Of("a").start.resources.memory, 64 << 20);
  backend.Fail("a", ErrorKind::Oom);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_THAT(backend.WhyOf("a"), HasSubstr("cap reached"));
}

TEST(Retry, DoesNotGrowBeyondTheMachine) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b[a].resources.memory = b.Bytes(16 << 20);
  b.Retry(a, 5);
  b.Rule(a, OnKind(ErrorKind::Oom)).resources.memory =
      b.Doubled(ir::PrevKind::Memory, ir::TypeKind::Bytes, b.Bytes(64 << 20));
  SchedulerOptions options;
  options.memory = 20 << 20;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Fail("a", ErrorKind::Oom);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_THAT(backend.WhyOf("a"), HasSubstr("`a` needs 32 MiB of memory, this machine has 20 MiB"));
}

TEST(Retry, ACancelFromOutsideIsNotRetriedAndFailsTheJob) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b.Retry(a, 5, {testing::OnClass(ir::ErrorClass::None), testing::OnClass(ir::ErrorClass::System)});
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("a", ErrorKind::Cancelled);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

// -- Submissions
// --------------------------------------------------------------------------------------------------------------

TEST(Submissions, AreRepeatedAfterExactDelaysAndStayTheSameAttempt) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b[a].submit.max_attempts = 12;
  FakeBackend backend(b.plan);
  backend.Begin();
  const StartAttempt first = backend.Of("a").start;
  int64_t expected = 1000;
  for (int k = 1; k < 12; ++k) {
    ASSERT_TRUE(backend.SubmitFails("a", k % 3 == 0 ? ErrorKind::Quota : k % 3 == 1 ? ErrorKind::Submit : ErrorKind::Network));
    EXPECT_EQ(backend.submit_delays.back(), expected);
    backend.Sleep(expected - 1);
    EXPECT_EQ(backend.submitted_again.size(), static_cast<size_t>(k - 1)) << "not a millisecond early";
    backend.Sleep(1);
    ASSERT_EQ(backend.submitted_again.size(), static_cast<size_t>(k));
    EXPECT_EQ(backend.submitted_again.back(), fmt::format("a {}", k + 1));
    expected = std::min<int64_t>(expected * 2, 300'000);
  }
  EXPECT_EQ(backend.Starts("a"), 1) << "one attempt";
  EXPECT_EQ(backend.Of("a").start.id, first.id);
  EXPECT_EQ(backend.scheduler.counters().resubmissions, 11u);
  backend.Finish("a");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
  EXPECT_EQ(backend.state().attempts({a, 0}), 1u);
}

TEST(Submissions, ThatAreUsedUpAreOneFailedAttempt) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b[a].submit.max_attempts = 2;
  b.Retry(a, 2, {OnKind(ErrorKind::Submit)});
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_TRUE(backend.SubmitFails("a"));
  backend.ToDeadline();
  EXPECT_FALSE(backend.SubmitFails("a"));
  backend.Sleep(0);
  ASSERT_EQ(backend.Starts("a"), 2) << "the next attempt";
  EXPECT_EQ(backend.Of("a").start.number, 2u);
  EXPECT_TRUE(backend.SubmitFails("a")) << "with submissions of its own";
  backend.ToDeadline();
  EXPECT_FALSE(backend.SubmitFails("a"));
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_THAT(backend.WhyOf("a"), HasSubstr("submitted 2 times"));
  EXPECT_THAT(backend.WhyOf("a"), HasSubstr("all 2 attempts"));
}

TEST(Submissions, OfOtherKindsOrNamedByNeverAreNotRepeated) {
  for (int kind = 0; kind < ir::kErrorKinds; ++kind) {
    for (int never = 0; never < 4; ++never) {  // nobody, the kind, its class, another kind
      const ErrorKind failed = static_cast<ErrorKind>(kind);
      if (failed == ErrorKind::Check || failed == ErrorKind::Expression) continue;  // no backend says so
      PlanBuilder b;
      uint32_t a = b.Job("a");
      if (never == 1) b[a].retry.never = {OnKind(failed)};
      if (never == 2) b[a].retry.never = {testing::OnClass(ir::ClassOf(failed))};
      if (never == 3) b[a].retry.never = {OnKind(ErrorKind::Oom)};
      FakeBackend backend(b.plan);
      backend.Begin();
      const bool expected = (failed == ErrorKind::Submit || failed == ErrorKind::Quota || failed == ErrorKind::Network) && never != 1 && never != 2;
      EXPECT_EQ(backend.SubmitFails("a", failed), expected) << ir::KindName(failed) << " " << never;
      EXPECT_EQ(backend.StateOf("a"), expected ? S::Running : S::Failed);
    }
  }
}

TEST(Submissions, HaveASeededJitterOfTheirOwn) {
  auto delays = [](const std::string& run) {
    PlanBuilder b;
    uint32_t a = b.Job("a");
    b[a].submit.max_attempts = 6;
    b[a].submit.backoff.kind = ir::Backoff::Kind::Constant;
    b[a].submit.backoff.base = b.Ms(100'000);
    b[a].submit.backoff.full_jitter = true;
    RunState state(b.plan, run);
    FakeBackend backend(b.plan, {}, &state);
    backend.Begin();
    for (int k = 1; k < 6; ++k) {
      EXPECT_TRUE(backend.SubmitFails("a"));
      backend.ToDeadline();
    }
    return backend.submit_delays;
  };
  const std::vector<int64_t> one = delays("run1");
  EXPECT_EQ(one, delays("run1"));
  EXPECT_NE(one, delays("run2"));
  EXPECT_EQ(std::set<int64_t>(one.begin(), one.end()).size(), 5u) << "a draw for each";
  for (int64_t delay : one) EXPECT_TRUE(delay >= 0 && delay <= 100'000) << delay;
}

TEST(Submissions, ThatArrivedAllTheSameAreNotRepeated) {
  PlanBuilder b;
  b.Job("a");
  FakeBackend backend(b.plan);
  backend.Begin();
  ASSERT_TRUE(backend.SubmitFails("a"));
  backend.Run("a");
  backend.Sleep(1'000'000);
  EXPECT_THAT(backend.submitted_again, IsEmpty());
  backend.End("a", Succeeded());
  backend.Reap("a");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
  EXPECT_EQ(backend.scheduler.counters().late, 0u);
}

TEST(Submissions, ToldTwiceWaitOnce) {
  PlanBuilder b;
  b.Job("a");
  FakeBackend backend(b.plan);
  backend.Begin();
  ASSERT_TRUE(backend.SubmitFails("a"));
  ASSERT_TRUE(backend.SubmitFails("a"));
  EXPECT_EQ(backend.submit_delays.size(), 1u);
  EXPECT_EQ(backend.scheduler.counters().late, 1u);
  backend.Sleep(10'000);
  EXPECT_THAT(backend.submitted_again, ElementsAre("a 2"));
}

TEST(Submissions, ThatWaitCanBeCancelledAndTimedOutAndKeepTheirSlots) {
  PlanBuilder b;
  const uint32_t pool = b.Pool("one", 1);
  uint32_t a = b.Job("a"), next = b.Job("next");
  for (uint32_t job : {a, next}) {
    b[job].pools.emplace_back(pool, b.Int(1));
    b.OnError(job, Strategy::Continue);
  }
  b[next].timeout.queue = b.Ms(1500);
  FakeBackend backend(b.plan);
  backend.Begin();
  ASSERT_TRUE(backend.SubmitFails("a"));
  EXPECT_FALSE(backend.Started("next"));
  backend.scheduler.CancelJob(a, "not needed", backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("a"), S::Cancelled);
  EXPECT_EQ(backend.Of("a").cancels, 1);
  backend.Reap("a");
  ASSERT_TRUE(backend.Started("next"));
  ASSERT_TRUE(backend.SubmitFails("next"));
  backend.Sleep(1000);
  EXPECT_THAT(backend.submitted_again, ElementsAre("next 2"));
  ASSERT_TRUE(backend.SubmitFails("next"));
  backend.Sleep(500);
  EXPECT_EQ(backend.StateOf("next"), S::Failed) << "the time in the queue goes on";
  EXPECT_EQ(backend.Of("next").why, CancelWhy::QueueTimeout);
  backend.Sleep(100'000);
  EXPECT_EQ(backend.submitted_again.size(), 1u);
  backend.Reap("next");
  EXPECT_EQ(backend.finished.size(), 1u);
}

TEST(Submissions, AreNotRepeatedWhenTheRunStartsNothingNew) {
  PlanBuilder b;
  b.Job("a");
  b.Job("bad");
  FakeBackend backend(b.plan);
  backend.Begin();
  ASSERT_TRUE(backend.SubmitFails("a"));
  backend.Fail("bad");
  EXPECT_THAT(backend.withdrawn, ElementsAre("a"));
  backend.Withdraw("a");
  EXPECT_EQ(backend.StateOf("a"), S::Cancelled);
  EXPECT_EQ(backend.finished.size(), 1u);
  EXPECT_THAT(backend.submitted_again, IsEmpty());
}

// -- Starvation
// ---------------------------------------------------------------------------------------------------------------

TEST(Starvation, OfWhatExistsIsReportedAfterMoreThanTenMinutesAndOnce) {
  PlanBuilder b;
  const uint32_t pool = b.Pool("db", 2);
  uint32_t holder = b.Job("holder"), waits = b.Scatter("waits", 1000);
  b[holder].pools.emplace_back(pool, b.Int(2));
  b[waits].pools.emplace_back(pool, b.Int(1));
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("holder");
  backend.Sleep(600'000);
  EXPECT_THAT(backend.starving, IsEmpty()) << "exactly ten minutes are not longer than ten minutes";
  backend.Sleep(1);
  EXPECT_THAT(backend.starving, ElementsAre("`waits[\"0\"]` and 999 more have waited 10m for 1 slot of pool `db`: 2 of 2 are in use by `holder`"));
  backend.Sleep(3'600'000);
  EXPECT_EQ(backend.starving.size(), 1u) << "once";
  backend.End("holder", Succeeded());
  backend.Reap("holder");
  backend.Sleep(600'001);
  EXPECT_EQ(backend.starving.size(), 2u) << "again, as something was started since";
  EXPECT_THAT(backend.starving.back(), HasSubstr("by `waits[\"0\"]`, `waits[\"1\"]`"));
}

TEST(Starvation, AQueueThatMovesIsNone) {
  PlanBuilder b;
  b.Scatter("a", 20);
  SchedulerOptions options;
  options.max_parallel = 1;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  for (int i = 0; i < 20; ++i) {
    const std::string address = fmt::format("a[\"{}\"]", i);
    backend.Run(address);
    backend.Sleep(600'000);
    backend.End(address, Succeeded());
    backend.Reap(address);
  }
  EXPECT_THAT(backend.starving, IsEmpty());
  EXPECT_EQ(backend.finished.size(), 1u);
}

TEST(Starvation, SaysWhatIsMissing) {
  auto story = [](auto claim, SchedulerOptions options) {
    PlanBuilder b;
    for (const char* name : {"first", "second"}) claim(b, b.Job(name));
    FakeBackend backend(b.plan, options);
    backend.Begin();
    backend.Sleep(600'001);
    EXPECT_EQ(backend.starving.size(), 1u);
    return backend.starving.empty() ? std::string() : backend.starving[0];
  };
  SchedulerOptions options;
  options.cpu_milli = 4000;
  options.memory = int64_t{8} << 30;
  options.gpu = 1;
  EXPECT_THAT(story([](PlanBuilder& b, uint32_t job) { b[job].resources.cpu = b.Float(2.5); }, options),
              HasSubstr("for 2.5 cpus: 2.5 of 4 are in use by `first`"));
  EXPECT_THAT(story([](PlanBuilder& b, uint32_t job) { b[job].resources.memory = b.Bytes(int64_t{5} << 30); }, options),
              HasSubstr("for 5 GiB of memory: 5 GiB of 8 GiB are in use by `first`"));
  EXPECT_THAT(story([](PlanBuilder& b, uint32_t job) { b[job].resources.gpu = b.Int(1); }, options), HasSubstr("for 1 gpu: 1 of 1 is in use"));
  options.max_parallel = 1;
  EXPECT_THAT(story([](PlanBuilder&, uint32_t) {}, options), HasSubstr("for 1 place: 1 of 1 is in use by `first`"));
}

// -- Verdict and reaping
// -----------------------------------------------------------------------------------------------------------

TEST(Attempts, TheFirstVerdictWinsAndLaterAnswersAreCounted) {
  PlanBuilder b;
  b.Job("a");
  b.Job("keep");
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.End("a", Succeeded());
  backend.End("a", Failed(ErrorKind::Exit, "late"));
  backend.Run("a");
  EXPECT_EQ(backend.StateOf("a"), S::Succeeded);
  backend.Reap("a");
  backend.Reap("a");
  backend.End("a", Failed(ErrorKind::Exit, "stale"));
  EXPECT_EQ(backend.scheduler.counters().late, 4u);
  EXPECT_THAT(backend.finished, IsEmpty());
}

TEST(Attempts, EveryAnswerAfterTheFirstVerdictIsIgnoredAndCounted) {
  // Whatever decided first (an end, a time limit, a cancel), and whatever comes then, once or twice, before and after the
  // reaping: nothing but the counter changes.
  enum First { kSuccess, kFailure, kTimeLimit, kCancelled };
  for (First first : {kSuccess, kFailure, kTimeLimit, kCancelled}) {
    for (bool reaped : {false, true}) {
      for (int answer = 0; answer < 5; ++answer) {
        PlanBuilder b;
        uint32_t a = b.Job("a");
        b.OnError(a, Strategy::Continue);
        b[a].timeout.run = b.Ms(50);
        uint32_t keep = b.Job("keep");
        b.OnError(keep, Strategy::Continue);
        FakeBackend backend(b.plan);
        backend.Begin();
        backend.Run("a");
        if (first == kSuccess) backend.End("a", Succeeded());
        if (first == kFailure) backend.End("a", Failed(ErrorKind::Exit, "first"));
        if (first == kTimeLimit) backend.Sleep(50);
        if (first == kCancelled) backend.scheduler.CancelJob(a, "not needed", backend.now), backend.Take();
        const S state = backend.StateOf("a");
        const std::string why = backend.WhyOf("a");
        if (reaped) backend.Reap("a");
        const size_t changes = backend.log.size();
        const AttemptId id = backend.Of("a").start.id;
        for (int times = 0; times < 2; ++times) {
          switch (answer) {
            case 0: backend.End("a", Succeeded()); break;
            case 1: backend.End("a", Failed(ErrorKind::NodeLost, "late")); break;
            case 2: backend.Run("a"); break;
            case 3: backend.scheduler.AttemptExited(id, backend.now); break;
            case 4: backend.scheduler.AttemptOutput(id, backend.now); break;
          }
          backend.Take();
        }
        EXPECT_EQ(backend.StateOf("a"), state) << first << reaped << answer;
        EXPECT_EQ(backend.WhyOf("a"), why) << first << reaped << answer;
        EXPECT_EQ(backend.log.size(), changes) << "nothing was to be done";
        EXPECT_EQ(backend.scheduler.counters().late, answer < 3 ? 2u : 0u) << first << reaped << answer;
        EXPECT_EQ(backend.scheduler.live_attempts(), reaped ? 1u : 2u);
      }
    }
  }
}

TEST(Attempts, SlotsComeFreeAtTheReapingWhateverTheVerdict) {
  for (bool by_limit : {false, true}) {
    PlanBuilder b;
    const uint32_t pool = b.Pool("one", 1);
    for (const char* name : {"a", "b"}) {
      uint32_t job = b.Job(name);
      b.OnError(job, Strategy::Continue);
      b[job].pools.emplace_back(pool, b.Int(1));
      b[job].timeout.run = b.Ms(50);
    }
    FakeBackend backend(b.plan);
    backend.Begin();
    backend.Run("a");
    if (by_limit) {
      backend.Sleep(50);
    } else {
      backend.End("a", Failed(ErrorKind::Exit, "it broke"));
    }
    EXPECT_EQ(backend.StateOf("a"), S::Failed);
    backend.Sleep(60'000);
    EXPECT_FALSE(backend.Started("b")) << "its tree may still be alive";
    EXPECT_EQ(backend.scheduler.PoolUsed(pool), 1u);
    backend.Reap("a");
    EXPECT_TRUE(backend.Started("b"));
  }
}

TEST(Attempts, OneThatIsGoneWithoutAnAnswerIsLost) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b.Retry(a, 2);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.Reap("a");
  EXPECT_EQ(backend.StateOf("a"), S::Backoff);
  backend.Sleep(0);
  backend.scheduler.AttemptLost(backend.Of("a").start.id, "the node went away", backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_THAT(backend.WhyOf("a"), HasSubstr("the node went away"));
}

TEST(Attempts, ARefusedStartIsNoAttempt) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b.Retry(a, 5);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.scheduler.StartRefused(backend.Of("a").start.id, Failed(ErrorKind::Expression, "`env`: division by zero"),
                                 backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.state().attempts({a, 0}), 0u);
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

// -- Timeouts
// ------------------------------------------------------------------------------------------------------------------------

struct TimeoutTest : ::testing::Test {
  TimeoutTest() { a = b.Job("a"); }
  PlanBuilder b;
  uint32_t a;
};

TEST_F(TimeoutTest, QueueIsFromSubmissionToStart) {
  b[a].timeout.queue = b.Ms(1000);
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_EQ(backend.scheduler.NextDeadline(), backend.now + 1000);
  backend.Sleep(999);
  EXPECT_THAT(backend.cancelled, IsEmpty());
  backend.Sleep(1);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::QueueTimeout);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.WhyOf("a"), "it was not started within 1s");
}

TEST_F(TimeoutTest, RunIsFromStartToExitWithoutCollectingOutputs) {
  b[a].timeout.run = b.Ms(1000);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Sleep(5000);  // staging its inputs
  backend.Run("a");
  EXPECT_EQ(backend.scheduler.NextDeadline(), backend.now + 1000);
  backend.Sleep(999);
  backend.scheduler.AttemptExited(backend.Of("a").start.id, backend.now);
  EXPECT_EQ(backend.scheduler.NextDeadline(), std::nullopt);
  backend.Sleep(5000);  // collecting its outputs
  EXPECT_EQ(backend.StateOf("a"), S::Running);
  backend.End("a", Succeeded());
  backend.Reap("a");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
}

TEST_F(TimeoutTest, RunIsRetriedWithMoreTimeAfterReaping) {
  b[a].timeout.run = b.Ms(1000);
  b.Retry(a, 3);
  b.Rule(a, OnKind(ErrorKind::Timeout), 1).timeout.run =
      b.Doubled(ir::PrevKind::TimeoutRun, ir::TypeKind::Duration, b.Ms(12'000));
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.Sleep(1000);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::RunTimeout);
  EXPECT_EQ(backend.StateOf("a"), S::Backoff);
  backend.Sleep(100);
  EXPECT_EQ(backend.Starts("a"), 1);
  backend.Reap("a");
  EXPECT_EQ(backend.Starts("a"), 2);
  EXPECT_EQ(backend.Of("a").start.timeouts.run, 2000);
  backend.Run("a");
  backend.Sleep(2000);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
}

TEST_F(TimeoutTest, IdleIsMovedOnByOutput) {
  b[a].timeout.idle = b.Ms(1000);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  for (int i = 0; i < 5; ++i) {
    backend.Sleep(900);
    backend.scheduler.AttemptOutput(backend.Of("a").start.id, backend.now);
  }
  EXPECT_EQ(backend.scheduler.NextDeadline(), backend.now + 1000);
  backend.Sleep(999);
  EXPECT_EQ(backend.StateOf("a"), S::Running);
  backend.Sleep(1);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::IdleTimeout);
}

TEST_F(TimeoutTest, TotalCountsAttemptsAndBackoffButNotWaitingForAPool) {
  uint32_t pool = b.Pool("gpu", 1);
  uint32_t hog = b.Job("hog");
  b[a].pools = {{pool, b.Int(1)}};
  b[hog].pools = {{pool, b.Int(1)}};
  b[a].priority = b.Int(1);
  b[a].timeout.total = b.Ms(1000);
  b.Retry(a, 9, {OnKind(ErrorKind::Exit)}, 200);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.Sleep(300);
  backend.Fail("a");  // 300 used; hog takes the pool
  EXPECT_TRUE(backend.Started("hog"));
  backend.Sleep(200);  // 500 used
  EXPECT_EQ(backend.StateOf("a"), S::Ready);
  backend.Sleep(50'000);  // waiting for the pool does not count
  backend.Finish("hog");
  EXPECT_EQ(backend.Starts("a"), 2);
  EXPECT_EQ(backend.scheduler.NextDeadline(), backend.now + 500);
  backend.Run("a");
  backend.Sleep(350);
  backend.Fail("a");  // 850 used; the backoff would take 200
  backend.Sleep(149);
  EXPECT_EQ(backend.StateOf("a"), S::Backoff);
  backend.Sleep(1);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.WhyOf("a"), "all its attempts together took longer than 1s (last failure: exit)");
}

TEST_F(TimeoutTest, StageCountsOnlyWhileInputsAreBrought) {
  b[a].timeout.queue = b.Ms(100);
  b[a].timeout.stage = b.Ms(1000);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.scheduler.AttemptStaging(backend.Of("a").start.id, "the input `x` is", backend.now);
  backend.Sleep(999);  // the queue has not begun
  EXPECT_EQ(backend.StateOf("a"), S::Running);
  backend.scheduler.AttemptStaged(backend.Of("a").start.id, backend.now);
  backend.Sleep(99);
  EXPECT_EQ(backend.StateOf("a"), S::Running);
  backend.Sleep(1);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::QueueTimeout);
}

TEST_F(TimeoutTest, StageEndsAsStagingAndMayBeRetried) {
  b[a].timeout.stage = b.Ms(1000);
  b.Retry(a, 2, {OnKind(ErrorKind::Staging)});
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.scheduler.AttemptStaging(backend.Of("a").start.id, "the input `x` is", backend.now);
  backend.Sleep(1000);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::StageTimeout);
  backend.Reap("a");
  backend.Sleep(0);
  EXPECT_EQ(backend.Starts("a"), 2);
  backend.scheduler.AttemptStaging(backend.Of("a").start.id, "the input `x` is", backend.now);
  backend.Sleep(1000);
  backend.Reap("a");
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.WhyOf("a"), "the input `x` is not here after 1s; give it longer with `timeout { stage = … }`; all 2 attempts are used up");
}

TEST_F(TimeoutTest, StageAndCollectHaveLimitsWithoutBeingAsked) {
  FakeBackend backend(b.plan);
  backend.Begin();
  const AttemptId id = backend.Of("a").start.id;
  backend.scheduler.AttemptStaging(id, "the input `x` is", backend.now);
  EXPECT_EQ(backend.scheduler.NextDeadline(), backend.now + kDefaultPhaseMs);
  backend.scheduler.AttemptStaged(id, backend.now);
  backend.Run("a");
  backend.scheduler.AttemptExited(id, backend.now);
  backend.scheduler.AttemptCollecting(id, backend.now);
  backend.Sleep(kDefaultPhaseMs);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::CollectTimeout);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.WhyOf("a"), "its outputs were not kept 1h after its end; give it longer with `timeout { collect = … }`");
}

TEST_F(TimeoutTest, CollectIsOverWithTheVerdict) {
  b[a].timeout.collect = b.Ms(1000);
  FakeBackend backend(b.plan);
  backend.Begin();
  const AttemptId id = backend.Of("a").start.id;
  backend.Run("a");
  backend.scheduler.AttemptExited(id, backend.now);
  backend.scheduler.AttemptCollecting(id, backend.now);
  backend.Sleep(999);
  backend.End("a", Succeeded());
  backend.Sleep(10);
  EXPECT_EQ(backend.StateOf("a"), S::Succeeded);
  EXPECT_EQ(backend.Of("a").cancels, 0);
}

TEST_F(TimeoutTest, TotalIsNeverRetried) {
  b[a].timeout.total = b.Ms(1000);
  b.Retry(a, 9, {OnKind(ErrorKind::Timeout)});
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.Sleep(1000);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::TotalTimeout);
}

TEST_F(TimeoutTest, AClockThatGoesBackIsHeld) {
  b[a].timeout.run = b.Ms(1000);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.Sleep(-500);
  backend.Sleep(1499);
  EXPECT_EQ(backend.StateOf("a"), S::Running);
  backend.Sleep(1);
  EXPECT_EQ(backend.StateOf("a"), S::Failed);
}

// -- Limits
// ------------------------------------------------------------------------------------------------------------------------------

TEST(Limits, MaxParallelAndPlanOrder) {
  PlanBuilder b;
  b.Scatter("a", 5);
  SchedulerOptions options;
  options.max_parallel = 2;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("a[\"0\"]", "a[\"1\"]"));
  backend.Run("a[\"0\"]");
  backend.End("a[\"0\"]", Succeeded());
  EXPECT_EQ(backend.started.size(), 2u) << "a slot is freed when the attempt is reaped";
  backend.Reap("a[\"0\"]");
  EXPECT_THAT(backend.started, ElementsAre("a[\"0\"]", "a[\"1\"]", "a[\"2\"]"));
}

TEST(Limits, PriorityGoesBeforePlanOrder) {
  PlanBuilder b;
  b.Job("low");
  uint32_t high = b.Job("high");
  b.Job("last");
  b[high].priority = b.Int(10);
  SchedulerOptions options;
  options.max_parallel = 1;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Finish("high");
  backend.Finish("low");
  EXPECT_THAT(backend.started, ElementsAre("high", "low", "last"));
}

TEST(Limits, ABackendOfOneJobHasPlacesOfItsOwn) {
  PlanBuilder b;
  uint32_t few = b.Scatter("few", 3);
  b.Scatter("many", 3);
  b[few].backend.options.push_back({"max_parallel", b.Int(1)});
  b.plan.max_parallel = b.Int(3);
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("few[\"0\"]", "many[\"0\"]", "many[\"1\"]"));
}

TEST(Limits, AllPoolsAreTakenTogether) {
  PlanBuilder b;
  uint32_t x = b.Pool("x", 2), y = b.Pool("y", 1);
  uint32_t both = b.Job("both"), only = b.Job("only"), two = b.Job("two");
  b[both].pools = {{x, b.Int(1)}, {y, b.Int(1)}};
  b[only].pools = {{y, b.Int(1)}};
  b[two].pools = {{x, b.Int(2)}};
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("both"));
  EXPECT_THAT(backend.Of("both").start.pools, UnorderedElementsAre(std::pair(x, 1u), std::pair(y, 1u)));
  EXPECT_EQ(backend.scheduler.PoolUsed(x), 1u);
  backend.Finish("both");
  EXPECT_THAT(backend.started, ElementsAre("both", "only", "two"));
}

TEST(Limits, OneThatDoesNotFitIsPassedTenTimesAtMost) {
  PlanBuilder b;
  uint32_t pool = b.Pool("slots", 2);
  uint32_t first = b.Job("first"), big = b.Job("big"), small = b.Scatter("small", 30);
  b[first].pools = {{pool, b.Int(1)}};
  b[big].pools = {{pool, b.Int(2)}};
  b[small].pools = {{pool, b.Int(1)}};
  FakeBackend backend(b.plan);
  backend.Begin();
  for (int i = 0; i < 9; ++i) {
    ASSERT_TRUE(backend.Started("small[\"" + std::to_string(i) + "\"]"));
    backend.Finish("small[\"" + std::to_string(i) + "\"]");
  }
  ASSERT_TRUE(backend.Started("small[\"9\"]")) << "the tenth pass";
  backend.Finish("small[\"9\"]");
  EXPECT_FALSE(backend.Started("small[\"10\"]")) << "now its slots are reserved";
  backend.Finish("first");
  EXPECT_TRUE(backend.Started("big"));
  EXPECT_FALSE(backend.Started("small[\"10\"]"));
  backend.Finish("big");
  EXPECT_TRUE(backend.Started("small[\"10\"]"));
}

TEST(Limits, ClaimsOfCpuMemoryAndGpu) {
  PlanBuilder b;
  uint32_t a = b.Scatter("a", 4);
  b[a].resources.cpu = b.Int(2);
  b.Job("free");
  SchedulerOptions options;
  options.cpu_milli = 5000;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("a[\"0\"]", "a[\"1\"]", "free")) << "a job without resources claims no cpu";
}

TEST(Limits, AClaimAboveTheMachineEndsTheRunBeforeItsFirstAttempt) {
  PlanBuilder b;
  b.Job("fine");
  uint32_t big = b.Job("big");
  b.Needs(big, 0);
  b[big].resources.memory = b.Bytes(int64_t{64} << 30);
  SchedulerOptions options;
  options.memory = int64_t{16} << 30;
  FakeBackend backend(b.plan, options);
  backend.Begin();
  EXPECT_THAT(backend.started, IsEmpty());
  ASSERT_EQ(backend.finished.size(), 1u);
  EXPECT_EQ(backend.finished[0].exit_code, 14);
  EXPECT_THAT(backend.finished[0].message, HasSubstr("`big` needs 64 GiB of memory, this machine has 16 GiB"));
  EXPECT_EQ(backend.StateOf("fine"), S::Cancelled);

  options.oversubscribe = true;
  FakeBackend clipped(b.plan, options);
  clipped.Begin();
  clipped.Finish("fine");
  EXPECT_TRUE(clipped.Started("big"));
}

TEST(Limits, TheTimeOfTheRunEndsItAsHaltWithExit13) {
  PlanBuilder b;
  b.Job("a");
  b.Job("clean", ir::JobKind::Finally);
  b.plan.limits.time_ms = 10'000;
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.Sleep(9'999);
  EXPECT_EQ(backend.StateOf("a"), S::Running);
  backend.Sleep(1);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::TimeLimit);
  backend.Reap("a");
  EXPECT_TRUE(backend.Started("clean"));
  EXPECT_EQ(backend.state().status(), RunStatus::TimedOut);
  backend.Finish("clean");
  EXPECT_EQ(backend.finished.at(0).exit_code, 13);
}

// -- Dynamic scatters
// ----------------------------------------------------------------------------------------------------------------------

struct Dynamic : ::testing::Test {
  Dynamic() {
    list = b.types().List(b.Type(ir::TypeKind::Int));
    source = b.Job("source");
    b.AddOutput(source, "xs", list);
    j = b.Scatter("j", b.Output(source, 0, list), true);
    b[j].domain.max = 5;
    b.Needs(j, source);
    gather = b.Job("gather");
    b.Needs(gather, j, ir::Mapping::All);
  }
  static ir::ListValue Xs(std::initializer_list<int64_t> xs) {
    ir::ListValue v;
    for (int64_t x : xs) v.push_back(ir::Value::Int(x));
    return {ir::Value::List(std::move(v))};
  }
  PlanBuilder b;
  ir::TypeId list;
  uint32_t source, j, gather;
};

TEST_F(Dynamic, ExpandsWhenItsListIsKnown) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("source", Succeeded(), Xs({4, 2}));
  EXPECT_TRUE(backend.Started("j[\"4\"]"));
  backend.Finish("j[\"4\"]");
  EXPECT_FALSE(backend.Started("gather"));
  backend.Finish("j[\"2\"]");
  backend.Finish("gather");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
}

TEST_F(Dynamic, ZeroElementsSucceed) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("source", Succeeded(), Xs({}));
  EXPECT_TRUE(backend.Started("gather"));
  backend.Finish("gather");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
}

TEST_F(Dynamic, DuplicateKeysFailTheJobOnceAsItself) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("source", Succeeded(), Xs({3, 3}));
  EXPECT_THAT(backend.started, ElementsAre("source"));
  EXPECT_EQ(backend.StateOf("j"), S::Failed);
  EXPECT_EQ(backend.StateOf("gather"), S::Blocked);
  EXPECT_THAT(backend.state().FailedJobs(), ElementsAre("j"));
  EXPECT_EQ(backend.state().verdict({j, kWholeJob})->kind, ErrorKind::Expression);
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(Dynamic, MoreThanMaxFails) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("source", Succeeded(), Xs({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(backend.StateOf("j"), S::Failed);
}

TEST_F(Dynamic, ABrokenSourceBlocksTheWholeJob) {
  b.OnError(source, Strategy::Continue);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("source");
  EXPECT_EQ(backend.StateOf("j"), S::Blocked);
  EXPECT_EQ(backend.StateOf("gather"), S::Blocked);
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(Dynamic, ConsumersOverItsInstancesExpandWithItNotAfterIt) {
  // for i in range(j.count), needing j[i]: expands when the domain of j is known.
  uint32_t k = b.Scatter(
      "k", b.Call(ir::Builtin::range, list, {b.ScatterStatus(j, ir::StatusField::Count, ir::TypeKind::Int)}), true);
  b.Needs(k, j, ir::Mapping::All, false);
  b.Needs(k, j, ir::Mapping::Expr, true, {b.Var()});
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("source", Succeeded(), Xs({0, 1}));
  backend.Finish("j[\"1\"]");
  EXPECT_TRUE(backend.Started("k[\"1\"]"));
  EXPECT_FALSE(backend.Started("k[\"0\"]"));
}

TEST_F(Dynamic, AnIndexThatDoesNotExistFailsTheInstanceThatUsesIt) {
  uint32_t k = b.Scatter("k", 2);
  b.Needs(k, j, ir::Mapping::Expr, true, {b.Var()});
  b.OnError(k, Strategy::Continue);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("source", Succeeded(), Xs({0}));
  EXPECT_EQ(backend.StateOf("k[\"1\"]"), S::Failed);
  EXPECT_EQ(backend.WhyOf("k[\"1\"]"), "it needs an instance that does not exist: there is no instance `j[\"1\"]`");
  backend.Finish("j[\"0\"]");
  EXPECT_TRUE(backend.Started("k[\"0\"]"));
}

// -- Expressions that fail, checks
// ------------------------------------------------------------------------------------------------------------

TEST(Expressions, AWhenWithoutAValueFailsTheInstanceWithZeroAttempts) {
  PlanBuilder b;
  uint32_t a = b.Scatter("a", 2);
  b.When(a, b.Binary(ir::Op::Eq, ir::TypeKind::Bool, b.Binary(ir::Op::Div, ir::TypeKind::Int, b.Int(1), b.Var()),
                     b.Int(1)));
  b.OnError(a, Strategy::Continue);
  b.Retry(a, 5, {OnKind(ErrorKind::Expression)});
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_EQ(backend.StateOf("a[\"0\"]"), S::Failed);
  EXPECT_THAT(backend.WhyOf("a[\"0\"]"), HasSubstr("`when` has no value: "));
  EXPECT_EQ(backend.state().attempts({a, 0}), 0u);
  EXPECT_TRUE(backend.Started("a[\"1\"]"));
}

TEST(Checks, AreEvaluatedByTheCoreAndFailTheRunWithExit12) {
  for (int64_t rows : {3, 4}) {
    PlanBuilder b;
    uint32_t extract = b.Job("extract");
    ir::TypeId integer = b.Type(ir::TypeKind::Int);
    b.AddOutput(extract, "rows", integer);
    uint32_t quality = b.Check(
        "quality", b.Binary(ir::Op::Eq, ir::TypeKind::Bool, b.Output(extract, 0, integer), b.Int(3)), "rows changed");
    uint32_t load = b.Job("load");
    b.Needs(quality, extract);
    b.After(load, quality);
    FakeBackend backend(b.plan);
    backend.Begin();
    backend.Finish("extract", Succeeded(), {ir::Value::Int(rows)});
    if (rows == 3) {
      EXPECT_EQ(backend.StateOf("quality"), S::Succeeded);
      EXPECT_TRUE(backend.Started("load"));
    } else {
      EXPECT_EQ(backend.StateOf("quality"), S::Failed);
      EXPECT_EQ(backend.WhyOf("quality"), "rows changed");
      EXPECT_EQ(backend.StateOf("load"), S::Blocked);
      EXPECT_EQ(backend.finished.at(0).exit_code, 12);
    }
  }
}

TEST(Checks, SeeTheRatioOfAToleratedScatter) {
  for (int failures : {1, 2}) {
    PlanBuilder b;
    uint32_t align = b.Scatter("align", 10);
    b.OnError(align, Strategy::Ignore);
    uint32_t enough =
        b.Check("enough",
                b.Binary(ir::Op::Ge, ir::TypeKind::Bool,
                         b.ScatterStatus(align, ir::StatusField::OkRatio, ir::TypeKind::Float), b.Float(0.9)),
                "too many failed");
    b.Needs(enough, align, ir::Mapping::All, false);
    FakeBackend backend(b.plan);
    backend.Begin();
    for (int i = 0; i < 10; ++i) {
      backend.Finish("align[\"" + std::to_string(i) + "\"]", i < failures ? Failed(ErrorKind::Exit, "") : Succeeded());
    }
    EXPECT_EQ(backend.finished.at(0).exit_code, failures == 1 ? 0 : 12);
  }
}

TEST(Checks, TheFirstCauseDecidesTheExitCode) {
  PlanBuilder b;
  uint32_t a = b.Job("a");
  b.OnError(a, Strategy::Continue);
  uint32_t check = b.Check("never", b.Bool(false), "no");
  b.Needs(check, a, ir::Mapping::Single, false);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Fail("a");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

// -- The end of a run
// ---------------------------------------------------------------------------------------------------------------------------

struct EndOfRun : ::testing::Test {
  EndOfRun() {
    a = b.Job("a");
    clean = b.Job("clean", ir::JobKind::Finally);
    b.Hook("begin", ir::HookEvent::Start);
    b.Hook("good", ir::HookEvent::Success);
    b.Hook("bad", ir::HookEvent::Failure);
    b.Hook("over", ir::HookEvent::Finish);
    b.plan.exports.push_back({"x", b.Type(ir::TypeKind::Int), b.Int(1), {}});
    b.plan.publishes.emplace_back();
  }
  PlanBuilder b;
  uint32_t a, clean;
};

TEST_F(EndOfRun, GoesThroughItsPhasesInOrder) {
  FakeBackend backend(b.plan);
  backend.Begin();
  EXPECT_THAT(backend.started, ElementsAre("begin")) << "start hooks come first";
  backend.Finish("begin", Failed(ErrorKind::Exit, ""));
  EXPECT_EQ(backend.hook_failures, 1) << "only a warning";
  backend.Run("a");
  backend.End("a", Succeeded());
  EXPECT_EQ(backend.exports, 0) << "jobs end when they are reaped";
  backend.Reap("a");
  EXPECT_EQ(backend.exports, 1);
  EXPECT_EQ(backend.publishes, 0);
  backend.scheduler.ExportsDone(std::nullopt, backend.now);
  backend.Take();
  EXPECT_EQ(backend.publishes, 1);
  backend.scheduler.PublishDone(std::nullopt, backend.now);
  backend.Take();
  EXPECT_EQ(backend.Of("clean").start.timeouts.run, 600'000) << "the default of finally";
  EXPECT_EQ(backend.state().status(), RunStatus::Succeeded);
  backend.Finish("clean");
  EXPECT_EQ(backend.Of("good").start.timeouts.run, 600'000) << "and of hooks";
  backend.Finish("good");
  backend.Finish("over");
  EXPECT_THAT(backend.started, ElementsAre("begin", "a", "clean", "good", "over"));
  EXPECT_EQ(backend.StateOf("bad"), S::Skipped);
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
}

TEST_F(EndOfRun, AFailedRunPublishesNothingAndRunsFinallyAndTheFailureHook) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("begin");
  backend.Fail("a");
  EXPECT_EQ(backend.exports, 1);
  backend.scheduler.ExportsDone(std::nullopt, backend.now);
  backend.Take();
  EXPECT_EQ(backend.publishes, 0);
  EXPECT_EQ(backend.state().status(), RunStatus::Failed);
  backend.Finish("clean");
  backend.Finish("bad");
  backend.Finish("over");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST_F(EndOfRun, AFailingExportPublishOrFinallyFailsTheRun) {
  for (int which = 0; which < 3; ++which) {
    FakeBackend backend(b.plan);
    backend.Begin();
    backend.Finish("begin");
    backend.Finish("a");
    auto failure = [&](int i) {
      return i == which ? std::optional(Failed(ErrorKind::Publish, "disk full")) : std::nullopt;
    };
    backend.scheduler.ExportsDone(failure(0), backend.now);
    backend.Take();
    backend.scheduler.PublishDone(failure(1), backend.now);
    backend.Take();
    EXPECT_EQ(backend.publishes, which == 0 ? 0 : 1);
    backend.Finish("clean", which == 2 ? Failed(ErrorKind::Exit, "") : Succeeded());
    backend.Finish("bad");
    backend.Finish("over");
    EXPECT_EQ(backend.finished.at(0).exit_code, 10) << which;
  }
}

TEST_F(EndOfRun, AnInterruptCancelsJobsRunsFinallyAndExits130) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("begin");
  backend.Run("a");
  backend.scheduler.CancelRun(false, "interrupted", backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("a"), S::Cancelled);
  EXPECT_EQ(backend.Of("a").why, CancelWhy::Interrupt);
  backend.Reap("a");
  backend.scheduler.ExportsDone(std::nullopt, backend.now);
  backend.Take();
  EXPECT_EQ(backend.state().status(), RunStatus::Interrupted);
  backend.Finish("clean");
  backend.Finish("bad");
  backend.Finish("over");
  EXPECT_EQ(backend.finished.at(0).exit_code, 130);
}

TEST_F(EndOfRun, ASecondInterruptEndsEverythingWithoutGrace) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("begin");
  backend.Run("a");
  backend.scheduler.CancelRun(false, "interrupted", backend.now);
  backend.Take();
  EXPECT_EQ(backend.Of("a").grace_ms, 10'000);
  backend.scheduler.CancelRun(true, "interrupted twice", backend.now);
  backend.Take();
  EXPECT_EQ(backend.Of("a").cancels, 2);
  EXPECT_EQ(backend.Of("a").grace_ms, 0);
  backend.Reap("a");
  EXPECT_THAT(backend.started, ElementsAre("begin", "a"));
  EXPECT_EQ(backend.finished.at(0).exit_code, 130);
}

TEST(Interrupted, KeepsItsCauseWhenItsFinallyIsCancelledToo) {
  PlanBuilder b;
  b.Job("a");
  const uint32_t last = b.Job("last", ir::JobKind::Finally);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a");
  backend.scheduler.CancelRun(false, "interrupted by SIGINT", backend.now);
  backend.Take();
  backend.Reap("a");
  backend.Run("last");
  backend.scheduler.CancelInstance({last, 0}, "cancelled by `jobc cancel`", backend.now);
  backend.Take();
  backend.Reap("last");
  EXPECT_EQ(backend.finished.at(0).exit_code, 130);
  EXPECT_EQ(backend.finished.at(0).message, "interrupted by SIGINT");
}

TEST_F(EndOfRun, AStateThatCannotBeWrittenEndsTheJobsFirst) {
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Finish("begin");
  backend.Run("a");
  backend.scheduler.EnvironmentFailed("no space left on device", backend.now);
  backend.Take();
  EXPECT_EQ(backend.Of("a").why, CancelWhy::Environment);
  EXPECT_THAT(backend.finished, IsEmpty());
  backend.Reap("a");
  EXPECT_THAT(backend.started, ElementsAre("begin", "a"));
  EXPECT_EQ(backend.finished.at(0).exit_code, 15);
  EXPECT_EQ(backend.finished.at(0).message, "no space left on device");
}

TEST(Backends, KnownToBeUnavailableStartNothing) {
  PlanBuilder b;
  b.Scatter("a", 2);
  FakeBackend backend(b.plan);
  backend.scheduler.BackendUnavailable("docker does not answer", backend.now);
  backend.Begin();
  EXPECT_THAT(backend.started, IsEmpty());
  ASSERT_EQ(backend.finished.size(), 1u);
  EXPECT_EQ(backend.finished[0].exit_code, 14);
  EXPECT_EQ(backend.finished[0].message, "docker does not answer");
}

TEST(Backends, UnavailableBeforeTheFirstAttemptIsExit14LaterItIsNot) {
  PlanBuilder b;
  b.Scatter("a", 2);
  SchedulerOptions options;
  options.max_parallel = 1;
  {
    FakeBackend backend(b.plan, options);
    backend.Begin();
    backend.scheduler.BackendUnavailable("docker does not answer", backend.now);
    backend.Take();
    backend.Reap("a[\"0\"]");
    EXPECT_EQ(backend.finished.at(0).exit_code, 14);
  }
  FakeBackend backend(b.plan, options);
  backend.Begin();
  backend.Finish("a[\"0\"]");
  backend.scheduler.BackendUnavailable("docker does not answer", backend.now);
  backend.Take();
  EXPECT_EQ(backend.StateOf("a[\"1\"]"), S::Running);
}

TEST(Cancel, OfOneInstanceFailsTheRunByItsStrategy) {
  PlanBuilder b;
  uint32_t a = b.Scatter("a", 2), c = b.Scatter("c", 2);
  b.OnError(a, Strategy::Continue);
  b.Needs(c, a, ir::Mapping::Same);
  FakeBackend backend(b.plan);
  backend.Begin();
  backend.Run("a[\"0\"]");
  backend.scheduler.CancelInstance({a, 0}, "cancelled by `jobc cancel`", backend.now);
  backend.Take();
  EXPECT_EQ(backend.Of("a[\"0\"]").why, CancelWhy::User);
  EXPECT_EQ(backend.StateOf("a[\"0\"]"), S::Cancelled);
  EXPECT_EQ(backend.StateOf("c[\"0\"]"), S::Blocked);
  backend.Reap("a[\"0\"]");
  backend.Finish("a[\"1\"]");
  backend.Finish("c[\"1\"]");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

// -- Resume
// ----------------------------------------------------------------------------------------------------------------------------------------

TEST(Resume, KeepsWhatEndedAndDecidesTheRestAgain) {
  PlanBuilder b;
  uint32_t a = b.Scatter("a", 4), c = b.Scatter("c", 4);
  b.AddOutput(a, "n", b.Type(ir::TypeKind::Int));
  b.OnError(a, Strategy::Continue);
  b.Needs(c, a, ir::Mapping::Same);
  b.Retry(a, 3);
  RunState state(b.plan, "run1");
  ir::Evaluator evaluator(b.plan.program);
  RunContext context(state, nullptr);
  auto restore = [&](uint32_t job, uint32_t ordinal, S s, uint32_t attempts, ir::ListValue outputs = {}) {
    RestoredInstance r;
    r.instance = {job, ordinal};
    r.state = s;
    r.attempts = attempts;
    r.outputs = std::move(outputs);
    if (s == S::Failed) r.verdict = std::make_shared<const Verdict>(Failed(ErrorKind::Exit, "it broke"));
    ASSERT_TRUE(state.Restore(std::move(r), evaluator, context).ok());
  };
  restore(a, 0, S::Succeeded, 1, {ir::Value::Int(7)});
  restore(a, 1, S::Failed, 1);
  restore(a, 2, S::Cancelled, 2);
  restore(a, 3, S::Running, 1);
  restore(c, 1, S::Blocked, 0);
  state.RestoreNextAttempt(9);
  FakeBackend backend(b.plan, {}, &state);
  backend.Begin();
  EXPECT_THAT(backend.started, UnorderedElementsAre("a[\"2\"]", "a[\"3\"]", "c[\"0\"]"));
  EXPECT_EQ(backend.Of("a[\"2\"]").start.number, 3u);
  EXPECT_GE(backend.Of("a[\"2\"]").start.id, 9u);
  EXPECT_EQ(backend.StateOf("c[\"1\"]"), S::Blocked);
  EXPECT_EQ(backend.state().output({a, 0}, 0), ir::Value::Int(7));
  backend.Fail("a[\"2\"]", ErrorKind::NodeLost);
  EXPECT_EQ(backend.StateOf("a[\"2\"]"), S::Failed) << "its three attempts are used up";
  backend.Finish("a[\"3\"]");
  backend.Finish("c[\"0\"]");
  backend.Finish("c[\"3\"]");
  EXPECT_EQ(backend.finished.at(0).exit_code, 10);
}

TEST(Resume, AdoptsLiveAttempts) {
  PlanBuilder b;
  uint32_t a = b.Scatter("a", 2);
  SchedulerOptions options;
  options.max_parallel = 1;
  RunState state(b.plan, "run1");
  ir::Evaluator evaluator(b.plan.program);
  RunContext context(state, nullptr);
  RestoredInstance r;
  r.instance = {a, 1};
  r.state = S::Running;
  r.attempts = 1;
  ASSERT_TRUE(state.Restore(std::move(r), evaluator, context).ok());
  state.RestoreNextAttempt(6);
  FakeBackend backend(b.plan, options, &state);
  backend.scheduler.Adopt(5, {a, 1}, 1, {}, {}, true, backend.now);
  backend.Begin();
  EXPECT_THAT(backend.started, IsEmpty()) << "the adopted attempt holds the only place";
  AttemptResult result;
  result.verdict = Succeeded();
  backend.scheduler.AttemptEnded(5, result, backend.now);
  backend.scheduler.AttemptReaped(5, backend.now);
  backend.Take();
  EXPECT_THAT(backend.started, ElementsAre("a[\"0\"]"));
  backend.Finish("a[\"0\"]");
  EXPECT_EQ(backend.finished.at(0).exit_code, 0);
}

TEST(Resume, RefusesAJournalThatDoesNotFitThePlan) {
  PlanBuilder b;
  uint32_t a = b.Scatter("a", 2);
  b.AddOutput(a, "n", b.Type(ir::TypeKind::Int));
  RunState state(b.plan, "run1");
  ir::Evaluator evaluator(b.plan.program);
  RunContext context(state, nullptr);
  auto restore = [&](InstanceRef ref, S s) {
    RestoredInstance r;
    r.instance = ref;
    r.state = s;
    return state.Restore(std::move(r), evaluator, context).ok();
  };
  EXPECT_FALSE(restore({7, 0}, S::Waiting));
  EXPECT_FALSE(restore({a, 2}, S::Waiting));
  EXPECT_FALSE(restore({a, 0}, S::Succeeded)) << "without its output";
  EXPECT_TRUE(restore({a, 0}, S::Skipped));
  EXPECT_FALSE(restore({a, 0}, S::Failed)) << "it ended already";
}

// -- States
// ----------------------------------------------------------------------------------------------------------------------------------------

TEST(InstanceState, HasNamesAndFinalStatesAreFinal) {
  for (int i = 0; i < kInstanceStates; ++i) {
    S from = static_cast<S>(i);
    EXPECT_EQ(StateFromName(StateName(from)), from);
    for (int k = 0; k < kInstanceStates; ++k) {
      S to = static_cast<S>(k);
      if (IsFinal(from)) {
        EXPECT_FALSE(IsLegalChange(from, to));
      }
      if (from == to) {
        EXPECT_FALSE(IsLegalChange(from, to));
      }
    }
  }
  EXPECT_FALSE(IsLegalChange(S::Waiting, S::Running));
  EXPECT_FALSE(IsLegalChange(S::Ready, S::Blocked));
  EXPECT_TRUE(IsLegalChange(S::Running, S::Backoff));
}

}  // namespace
}  // namespace jobc
