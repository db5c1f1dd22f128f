// The commands around a run, as a person types them: the real program, its exit codes, and what goes to which stream.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "ir/json.h"
#include "runtime/process/process_tree.h"
#include "tests/engine/run_fixture_files.h"

namespace jobc {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using testing::Exists;
using testing::ReadAll;

struct Outcome {
  int code = -1;
  std::string out, err;
};

class CommandLine : public ::testing::Test {
 protected:
  CommandLine() {
    unsetenv("JOBC_HOME");
    setenv("XDG_STATE_HOME", (dir / "user").c_str(), 1);
    dir.Write("hello.job", R"job(edition = 1
params { name: String(length(it) > 0) = "world" }
job hello {
  run = ["echo", "hello, ~{params.name}!"]
  output { greeting: String = trim(stdout()) }
}
export { greeting: String = hello.greeting }
)job");
  }

  pid_t Spawn(const std::vector<std::string>& words) {
    pid_t child = fork();
    if (child == 0) {
      if (chdir(dir.path().c_str()) != 0) _exit(99);
      dup2(open((dir / "out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 1);
      dup2(open((dir / "err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 2);
      std::vector<char*> argv{const_cast<char*>(JOBC_BINARY)};
      for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      execv(JOBC_BINARY, argv.data());
      _exit(98);
    }
    return child;
  }
  Outcome Wait(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), ReadAll(dir / "out"), ReadAll(dir / "err")};
  }
  Outcome Jobc(const std::vector<std::string>& words) { return Wait(Spawn(words)); }

  /// Waits until a job has made the file; the job does so as its first act.
  void AwaitFile(const std::string& name) {
    for (int64_t end = process::MonotonicMillis() + 10'000; !Exists(dir / name);) {
      ASSERT_LT(process::MonotonicMillis(), end) << name << " never came";
      usleep(2'000);
    }
  }

  testing::TempDir dir;
};

TEST_F(CommandLine, RunsAFileAndAnswersForItAfterwards) {
  Outcome run = Jobc({"run", "hello.job", "-p", "name=Ada", "--name", "first"});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr(R"("greeting": "hello, Ada!")"));
  EXPECT_THAT(run.err, AllOf(HasSubstr("hello: succeeded"), HasSubstr("results: jobc result ")));
  EXPECT_EQ(Jobc({"result"}).out, "{\"greeting\":\"hello, Ada!\"}\n");
  EXPECT_EQ(Jobc({"result", "first", "hello.greeting"}).out, "\"hello, Ada!\"\n");
  EXPECT_EQ(Jobc({"result", "hello.greeting"}).out, "\"hello, Ada!\"\n");
  EXPECT_EQ(Jobc({"logs", "first", "hello"}).out, "hello, Ada!\n");
  EXPECT_THAT(Jobc({"status"}).out, AllOf(StartsWith("run "), HasSubstr("succeeded, exit 0")));
  Outcome list = Jobc({"list", "--json"});
  auto json = ir::ParseJson(list.out);
  ASSERT_TRUE(json.ok()) << list.out;
  EXPECT_EQ(json->Find("runs")->as_list().at(0).Find("name")->as_string(), "first");
}

TEST_F(CommandLine, WritesOneJsonEventALine) {
  Outcome run = Jobc({"run", "--json", "hello.job"});
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(run.err, "");
  std::vector<std::string> events;
  std::stringstream lines(run.out);
  for (std::string line; std::getline(lines, line);) {
    auto json = ir::ParseJson(line);
    ASSERT_TRUE(json.ok()) << line;
    events.push_back(json->Find("event")->as_string());
    if (events.size() == 1) {
      EXPECT_EQ(json->Find("schema")->as_string(), "jobc.events/1");
    }
  }
  EXPECT_EQ(events.front(), "run_started");
  EXPECT_EQ(events.back(), "run_finished");
  EXPECT_THAT(events, ::testing::IsSupersetOf({"queued", "submitting", "started", "attempt_ended", "succeeded", "reaped"}));
}

TEST_F(CommandLine, TellsWhatIsWrongBeforeAnythingRuns) {
  EXPECT_EQ(Jobc({"run", "hello.job", "-p", "name="}).code, 3);
  EXPECT_EQ(Jobc({"run", "hello.job", "-p", "nam=x"}).code, 3);
  EXPECT_EQ(Jobc({"run", "missing.job"}).code, 2);
  EXPECT_FALSE(Exists(dir / ".jobc"));
  Outcome status = Jobc({"status"});
  EXPECT_EQ(status.code, 2);
  EXPECT_THAT(status.err, HasSubstr("jobc run FILE"));
}

TEST_F(CommandLine, RefusesAPlanWhoseInputsChanged) {
  dir.Write("data", "one");
  dir.Write("read.job", R"job(edition = 1
params { f: File = "data" }
job read { run = ["cat", params.f] output { t: String = stdout() } }
export { t: String = read.t }
)job");
  ASSERT_EQ(Jobc({"plan", "read.job", "-o", "plan.json"}).code, 0);
  Outcome same = Jobc({"run", "plan.json"});
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr(R"("t": "one")"));
  dir.Write("data", "two");
  Outcome changed = Jobc({"run", "plan.json"});
  EXPECT_EQ(changed.code, 3);
  EXPECT_THAT(changed.err, HasSubstr("another content"));
}

TEST_F(CommandLine, EndsTheWholeTreeOnCtrlCAndResumes) {
  dir.Write("slow.job", R"job(edition = 1
job quick { script = <<~SH
  echo x >> "$HERE/log"
SH
  env { HERE = ")job" + dir.path() + R"job(" }
}
job slow {
  after = [quick]
  env { HERE = ")job" + dir.path() + R"job(" }
  script = <<~SH
    if [ -e "$HERE/open" ]; then exit 0; fi
    sleep 1000 &
    echo $! > "$HERE/pid.tmp"
    mv "$HERE/pid.tmp" "$HERE/pid"
    wait
  SH
}
)job");
  for (int signal : {SIGINT, SIGKILL}) {
    unlink((dir / "pid").c_str());
    unlink((dir / "log").c_str());
    pid_t jobc = Spawn({"run", "slow.job"});
    AwaitFile("pid");
    pid_t sleeper = atoi(ReadAll(dir / "pid").c_str());
    ASSERT_TRUE(process::IsAlive(sleeper, 0));
    kill(jobc, signal);
    Outcome out = Wait(jobc);
    EXPECT_EQ(out.code, signal == SIGINT ? 130 : 128 + SIGKILL) << out.err;
    for (int64_t end = process::MonotonicMillis() + 2'000; process::IsAlive(sleeper, 0) && process::MonotonicMillis() < end;) usleep(2'000);
    EXPECT_FALSE(process::IsAlive(sleeper, 0)) << "2 s after the end of jobc";
    EXPECT_THAT(Jobc({"status"}).out, HasSubstr(signal == SIGINT ? "interrupted" : "crashed"));
    dir.Write("open", "");
    Outcome resumed = Jobc({"resume"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(ReadAll(dir / "log"), "x\n") << "`quick` had finished and must not run again";
    unlink((dir / "open").c_str());
  }
}

TEST_F(CommandLine, LetsTwoRunsShareADirectory) {
  pid_t first = Spawn({"run", "hello.job"});
  pid_t second = Spawn({"run", "hello.job"});
  EXPECT_EQ(Wait(first).code, 0);
  EXPECT_EQ(Wait(second).code, 0);
  Outcome list = Jobc({"list", "--json"});
  auto json = ir::ParseJson(list.out);
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->Find("runs")->as_list().size(), 2u);
}

TEST_F(CommandLine, ShowsWhatFailedAndRetriesIt) {
  dir.Write("gate.job", "edition = 1\njob gate { run = [\"sh\", \"-c\", \"echo closed >&2; test -e " + (dir / "open") + "\"] }\n");
  Outcome run = Jobc({"run", "gate.job"});
  EXPECT_EQ(run.code, 10);
  EXPECT_THAT(run.err, AllOf(HasSubstr("failed: gate"), HasSubstr("closed"), HasSubstr("gate.job:2"), HasSubstr("jobc logs")));
  Outcome logs = Jobc({"logs", "--failed", "--stream", "stderr"});
  EXPECT_EQ(logs.out, "closed\n");
  EXPECT_EQ(Jobc({"result"}).code, 10);
  dir.Write("open", "");
  EXPECT_EQ(Jobc({"retry"}).code, 0);
  EXPECT_EQ(Jobc({"result"}).code, 0);
}

}  // namespace
}  // namespace jobc
