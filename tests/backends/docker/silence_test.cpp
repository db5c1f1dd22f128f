// An engine that says nothing: what is asked of it then, what people are told, and that nothing is lost. With one that plays dead
// (fake_engine.h) and short times; tests/services does the same with a real one that is stopped.
#include "tests/backends/docker/fake_place.h"

namespace jobc::conformance {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Matches;
using testing::FakeEngine;
using testing::TempDir;

class Silence : public FakeEngineTest {
 protected:
  // Whoever is asked has seconds to answer where that is to come; the others do not come at all.
  Silence() { times = {.request_ms = 20'000, .silence_ms = 30, .ping_ms = 150, .silent_ms = 60'000, .stream_ms = 60'000, .patience_ms = 60'000}; }

  void UntilTold() {
    session->Until([&] { return !session->warnings.empty(); }, "a warning");
    EXPECT_THAT(session->warnings, ElementsAre(AllOf(HasSubstr(engine.host()), HasSubstr("has not answered"), HasSubstr("jobc waits"), HasSubstr("`jobc cancel`"))));
  }
};

TEST_F(Silence, OfAnEngineThatAnswersIsNoMatter) {
  times.ping_ms = 20'000;
  Open();
  session->Idle(100);
  EXPECT_EQ(engine.Asked("/_ping"), 0u) << "nothing is there that it could be asked for";
  const AttemptId id = Start();
  session->Until([&] { return engine.Asked("/_ping") > 2; }, "three questions");
  EXPECT_EQ(engine.Asked("/events"), 1u);
  engine.End(3, "out\n");
  ExpectExit(id, 3, "out\n");
  EXPECT_THAT(session->warnings, IsEmpty());
}

TEST_F(Silence, IsToldAndWaitedFor) {
  Open();
  const AttemptId id = Start();
  engine.Silence(true);
  UntilTold();
  session->Idle(100);
  EXPECT_EQ(session->warnings.size(), 1u) << "once";
  EXPECT_FALSE(session->seen[id].ended());
  engine.Silence(false);
  session->Until([&] { return Matches(Contains(HasSubstr("answers again")))(session->notes); }, "a note");
  engine.End(0, "out\n");
  ExpectExit(id, 0, "out\n");
}

TEST_F(Silence, OfAStreamThatWasForgottenIsFoundOutWhenTheEngineAnswersAgain) {
  Open();
  const AttemptId id = Start();
  engine.Silence(true);
  engine.ForgetStreams();
  UntilTold();
  engine.End(4, "out\n");
  engine.Silence(false);
  ExpectExit(id, 4, "out\n");
}

TEST_F(Silence, ThatLastsLeadsToNewConnectionsAndLosesNothing) {
  times.silent_ms = 600;
  times.stream_ms = 50;
  times.patience_ms = 100;
  Open();
  const AttemptId id = Start();
  engine.Silence(true);
  engine.ForgetStreams();
  session->Until([&] { return engine.Asked("/events") > 3; }, "new connections");
  EXPECT_FALSE(session->seen[id].ended()) << session->Story();
  EXPECT_EQ(session->warnings.size(), 1u);
  engine.End(0, "out\n");
  engine.Silence(false);
  ExpectExit(id, 0, "out\n");
  EXPECT_THAT(session->notes, Contains(HasSubstr("answers again")));
}

TEST_F(Silence, FollowedByARestartIsOne) {
  times.silent_ms = 600;
  times.stream_ms = 50;
  times.patience_ms = 2'000;
  Open();
  const AttemptId id = Start();
  engine.Silence(true);
  session->Until([&] { return engine.Asked("/events") > 2; }, "new connections");
  session->Idle(2'000);
  // Nobody is there for a moment only, whatever was before.
  engine.Gone(true);
  session->Idle(200);
  engine.End(0, "out\n");
  engine.Silence(false);
  engine.Gone(false);
  ExpectExit(id, 0, "out\n");
}

TEST_F(Silence, DoesNotHoldUpWhatIsCancelled) {
  times.patience_ms = 100;
  Open();
  const AttemptId id = Start(), other = Start();
  engine.Silence(true);
  UntilTold();
  session->backend().Cancel(id, 0);
  const Seen& one = session->Finish(id);
  ASSERT_TRUE(one.failure) << session->Story();
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::NodeLost);
  EXPECT_THAT(session->warnings, Contains(AllOf(HasSubstr("may still be at docker at " + engine.host()), HasSubstr("`jobc gc`"))));
  EXPECT_FALSE(session->seen[other].ended());
  engine.Silence(false);
  session->Until([&] { return engine.containers() == 1; }, "the removal of the one");
  engine.End(0, "out\n");
  ExpectExit(other, 0, "out\n");
}

TEST_F(Silence, AfterTheRequestToStartIsFoundOut) {
  times.request_ms = 300;
  Open();
  engine.Swallow("/start");
  const AttemptId id = Submit();
  session->Until([&] { return session->seen[id].started; }, "the start");
  engine.End(0, "out\n");
  ExpectExit(id, 0, "out\n");
}

TEST_F(Silence, OfNobodyAtAllIsTheEndOfItsAttempts) {
  times.patience_ms = 300;
  Open();
  const AttemptId id = Start();
  engine.Gone(true);
  const Seen& one = session->Finish(id);
  ASSERT_TRUE(one.failure) << session->Story();
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::NodeLost);
  engine.Gone(false);
  session->Until([&] { return engine.containers() == 0; }, "the removal");
}

constexpr const char* kLayer = R"({"status":"Pulling fs layer","id":"aa"})";
constexpr const char* kHalf = R"({"status":"Downloading","progressDetail":{"current":52428800,"total":104857600},"id":"aa"})";
constexpr const char* kHere = R"({"status":"Download complete","id":"aa"})";

TEST_F(Silence, OfARegistryEndsThePull) {
  times.pull_ms = 200;
  times.ping_ms = 20'000;
  Open();
  engine.Pulls({kLayer, kHalf}, false);
  const Seen& one = session->Finish(Submit());
  ASSERT_TRUE(one.failure) << session->Story();
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::Network);
  EXPECT_FALSE(one.failure->no_retry);
  EXPECT_THAT(one.failure->message, AllOf(HasSubstr("`x:1`"), HasSubstr("for 0.2 s"), HasSubstr("50 MiB of 100 MiB"), HasSubstr("registry hangs")));
  // Whoever comes next asks anew.
  engine.Pulls({kLayer, kHere}, true);
  const AttemptId id = Start();
  EXPECT_EQ(engine.Asked("/images/create"), 2u);
  engine.End(0, "out\n");
  ExpectExit(id, 0, "out\n");
}

TEST_F(Silence, WhileAnImageIsUnpackedIsWaitedForLonger) {
  times.pull_ms = 50;
  times.unpack_ms = 500;
  times.ping_ms = 20'000;
  Open();
  engine.Pulls({kLayer, kHalf, kHere}, false);
  const int64_t begin = process::MonotonicMillis();
  const Seen& one = session->Finish(Submit());
  ASSERT_TRUE(one.failure) << session->Story();
  EXPECT_GE(process::MonotonicMillis() - begin, 500);
  EXPECT_THAT(one.failure->message, AllOf(HasSubstr("for 0.5 s"), HasSubstr("unpacks")));
}

TEST_F(Silence, OfTheEngineIsNotThatOfARegistry) {
  times.pull_ms = 1'000;
  Open();
  engine.Pulls({kLayer, kHalf}, false);
  const AttemptId id = Submit();
  session->Until([&] { return engine.Asked("/images/create") == 1; }, "the pull");
  engine.Silence(true);
  const Seen& one = session->Finish(id);
  ASSERT_TRUE(one.failure) << session->Story();
  EXPECT_THAT(one.failure->message, AllOf(HasSubstr(engine.host()), HasSubstr("did not answer")));
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::Network);
}

}  // namespace
}  // namespace jobc::conformance
