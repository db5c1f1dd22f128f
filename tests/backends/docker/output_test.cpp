// What becomes of a container's output where an engine does not give all of it to who is attached, or speaks in the program's
// stead: it is read from the engine's log, neither lost nor mixed with what the engine said. With an engine that does so when it is told to
// (fake_engine.h); podman does it when the machine is busy, one time in thousands.
#include "tests/backends/docker/fake_place.h"

namespace jobc::conformance {
namespace {

using ::testing::IsEmpty;

constexpr char kOwn[] = "Error: read unixpacket @->/proc/self/fd/13/attach: read: connection reset by peer\n";

class Output : public FakeEngineTest {
 protected:
  Output() { kind = ir::BackendKind::Podman; }
  std::string Errors(AttemptId id) { return session->Text(id, process::LogStream::kStderr); }
};

std::string Frame(char stream, const std::string& text) { return std::string{stream, 0, 0, 0, 0, 0, 0, static_cast<char>(text.size())} + text; }

TEST_F(Output, ThatPodmanCouldNotReadComesFromItsLog) {
  engine.AttachSays(Frame(2, kOwn));
  Open();
  const AttemptId id = Start();
  engine.End(0, "all of it\n");
  ExpectExit(id, 0, "all of it\n");
  EXPECT_EQ(Errors(id), "") << "what podman said is not the program's";
  EXPECT_THAT(session->warnings, IsEmpty());
}

TEST_F(Output, IsNotTakenTwiceWhereSomeOfItHadCome) {
  engine.AttachSays(Frame(1, "all ") + Frame(2, kOwn));
  Open();
  const AttemptId id = Start();
  engine.End(0, "all of it\n");
  ExpectExit(id, 0, "all of it\n");
  EXPECT_EQ(Errors(id), "");
}

TEST_F(Output, OfAProgramThatSaysTheSameIsKept) {
  engine.AttachSays(Frame(2, kOwn) + Frame(1, "all of it\n"));
  Open();
  const AttemptId id = Start();
  engine.End(0);
  ExpectExit(id, 0, "all of it\n");
  EXPECT_EQ(Errors(id), kOwn);
}

TEST_F(Output, ThatBeginsInTheSameWayIsKept) {
  engine.AttachSays(Frame(2, "Error: read"));
  Open();
  const AttemptId id = Start();
  engine.End(0);
  ExpectExit(id, 0, "");
  EXPECT_EQ(Errors(id), "Error: read");
}

TEST_F(Output, OfDockerIsTheProgramsWhateverItSays) {
  kind = ir::BackendKind::Docker;
  engine.AttachSays(Frame(2, kOwn));
  Open();
  const AttemptId id = Start();
  engine.End(0);
  ExpectExit(id, 0, "");
  EXPECT_EQ(Errors(id), kOwn);
}

TEST_F(Output, WithoutFramesComesFromTheLog) {
  engine.AttachSays("what is this\n");
  Open();
  const AttemptId id = Start();
  engine.End(0, "all of it\n");
  ExpectExit(id, 0, "all of it\n");
  EXPECT_EQ(Errors(id), "");
}

}  // namespace
}  // namespace jobc::conformance
