// Runs whose jobc is killed at a chosen event and that go on in another: for tests of what a resume finds. The plan, the options and
// the backends are those of RunTest.
#pragma once

#include <signal.h>
#include <sys/wait.h>

#include <memory>
#include <string>

#include "runtime/run_reader.h"
#include "tests/engine/run_fixture.h"

namespace jobc::testing {

class KilledRunTest : public RunTest {
 protected:
  /// In a child process that kills itself when `at` happens for the `nth` time; a resume if there is a run, else `id` is its run's.
  void RunAndKill(RunEventKind at, int nth = 1) {
    const pid_t child = fork();
    if (child == 0) {
      int seen = 0;
      watcher.on_event = [&](const RunEvent& event) {
        if (event.kind == at && ++seen == nth) kill(getpid(), SIGKILL);
      };
      StartFailure failure;
      auto started = id.empty() ? Engine::Start(Configure(), failure) : Engine::Resume(Configure(), id, {}, failure);
      if (started != nullptr) started->Run();
      _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the run ended before it was killed";
    if (id.empty()) FindRun();
  }

  /// The newest run is the one that is resumed and read.
  void FindRun() {
    auto found = ResolveRun(dir / "state", "");
    ASSERT_TRUE(found.ok()) << found.error().message;
    id = *found;
  }

  RunOutcome Resume(const ResumeOptions& resume = {}) {
    StartFailure failure;
    engine = Engine::Resume(Configure(), id, resume, failure);
    if (engine == nullptr) return {.exit_code = failure.exit_code, .message = failure.message};
    RunOutcome out = engine->Run();
    engine.reset();
    return out;
  }

  /// Null, and a failure of the test, if it cannot be read.
  std::unique_ptr<RunReader> Read() {
    auto reader = RunReader::Open(dir / "state", id);
    EXPECT_TRUE(reader.ok()) << reader.error().message;
    return reader ? *std::move(reader) : nullptr;
  }

  std::string id;
};

}  // namespace jobc::testing
