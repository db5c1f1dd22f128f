// Stories of whole runs: hand-made plans, real processes.
#include <signal.h>
#include <sys/mount.h>

#include "ir/json.h"
#include "runtime/journal.h"
#include "runtime/metrics.h"
#include "runtime/process/os.h"
#include "runtime/run_reader.h"
#include "runtime/state_dir.h"
#include "tests/engine/run_fixture.h"

namespace jobc {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Exists;
using testing::ReadAll;
using testing::RunTest;

using EngineRun = RunTest;

TEST_F(EngineRun, SaysHelloAndGivesItsOutputAsExport) {
  uint32_t hello = b.Job("hello");
  b[hello].run = Words({"echo", "hello, world!"});
  Output(hello, "greeting", String(), ir::OutputKind::Expr,
         b.Call(ir::Builtin::trim, String(), {b.exprs().Add(ir::Op::Stdout, String())}));
  Export("greeting", String(), b.Output(hello, 0, String()));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"greeting":"hello, world!"})");
}

TEST_F(EngineRun, PassesFilesFromJobToJobAndKeepsOnlyWhatIsDeclared) {
  uint32_t make = Sh("make", "echo content > sub/a.txt; echo junk > junk.txt; echo '{\"rows\": 3}' > \"$JOB_RESULT\"");
  Output(make, "table", File(), ir::OutputKind::Path, b.Str("sub/a.txt"));
  Output(make, "rows", Int(), ir::OutputKind::Json);
  uint32_t use = b.Job("use");
  b.Needs(use, make);
  b[use].inputs.push_back({"table", File(), b.Output(make, 0, File()), false});
  b[use].run = b.exprs().Add(ir::Op::List, b.types().List(String()),
                             {b.Str("cat"), b.exprs().Add(ir::Op::Input, File(), {}, {}, 0)});
  Output(use, "text", String(), ir::OutputKind::Expr, b.exprs().Add(ir::Op::Stdout, String()));
  Export("text", String(), b.Output(use, 0, String()));
  Export("rows", Int(), b.Output(make, 1, Int()));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"text":"content\n","rows":3})");
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/make/sub/a.txt"), "content\n");
  EXPECT_FALSE(Exists(out.run_dir + "/outputs/make/junk.txt"));
}

TEST_F(EngineRun, GivesAJobItsContract) {
  setenv("LEAKS", "no", 1);
  uint32_t job = Sh("look", "env | sort > env.txt; test \"$PWD\" = \"$JOB_OUTPUT\"; cat > stdin.txt; ls -A \"$TMPDIR\" > tmp.txt");
  b[job].env.push_back({"GREETING", b.Str("a b\nc"), String()});
  Output(job, "env", File(), ir::OutputKind::Path, b.Str("env.txt"));
  Output(job, "stdin", File(), ir::OutputKind::Path, b.Str("stdin.txt"));
  Output(job, "tmp", File(), ir::OutputKind::Path, b.Str("tmp.txt"));
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  std::string env = ReadAll(out.run_dir + "/outputs/look/env.txt");
  for (const char* name : {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=", "USER=", "LANG=C.UTF-8", "TMPDIR=/", "JOB_NAME=look", "JOB_ATTEMPT=1",
                           "JOB_INPUT=/", "JOB_OUTPUT=/", "JOB_RESULT=/", "INPUT_PATH=/", "OUTPUT_PATH=/", "GREETING=a b"}) {
    EXPECT_THAT(env, HasSubstr(name));
  }
  EXPECT_THAT(env, HasSubstr("JOB_RUN_ID=" + out.run_id));
  EXPECT_THAT(env, HasSubstr("JOB_EXECUTION_ID=" + out.run_id + "-1"));
  EXPECT_THAT(env, Not(HasSubstr("LEAKS")));
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/look/stdin.txt"), "");
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/look/tmp.txt"), "");
}

TEST_F(EngineRun, StagesInputsAndDescribesThemAsJson) {
  dir.Write("src/data.csv", "1,2\n");
  ir::FileValue file;
  file.path = "data.csv";
  uint32_t job = Sh("read", "cp \"$JOB_INPUT/inputs.json\" i.json; cat \"$JOB_INPUT/table/data.csv\" > t.csv; test -L \"$JOB_INPUT/table/data.csv\"");
  b[job].inputs.push_back({"table", File(), b.exprs().Constant(File(), ir::Value::File(file)), false});
  b[job].inputs.push_back({"n", Int(), b.Int(7), false});
  Output(job, "i", File(), ir::OutputKind::Path, b.Str("i.json"));
  Output(job, "t", File(), ir::OutputKind::Path, b.Str("t.csv"));
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/read/t.csv"), "1,2\n");
  std::string json = ReadAll(out.run_dir + "/outputs/read/i.json");
  EXPECT_THAT(json, HasSubstr("\"n\":7"));
  EXPECT_THAT(json, HasSubstr("/in/table/data.csv\""));
}

TEST_F(EngineRun, ReportsAFailureSoThatAPersonCanAct) {
  Sh("broken", "echo one; echo what went wrong >&2; exit 3");
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  const FailureReport& report = watcher.failures[0];
  EXPECT_EQ(report.address, "broken");
  EXPECT_EQ(report.kind, "exit");
  EXPECT_EQ(report.exit_code, 3);
  EXPECT_THAT(report.stderr_lines, ElementsAre("what went wrong"));
  ASSERT_THAT(report.reproduce_command, ::testing::StartsWith("sh /"));
  EXPECT_THAT(ReadAll(report.reproduce_command.substr(3)), AllOf(HasSubstr("exec env -i"), HasSubstr("sh -eu -c")));
  EXPECT_EQ(report.logs_command, "jobc logs " + out.run_id + " broken");
}

struct BadEnd {
  const char* name;
  const char* script;
  const char* kind;
  const char* message;
};

class BadOutput : public RunTest, public ::testing::WithParamInterface<BadEnd> {};

TEST_P(BadOutput, FailsTheAttemptWithAMessageThatSaysWhere) {
  uint32_t job = Sh("bad", GetParam().script);
  Output(job, "rows", Int(), ir::OutputKind::Json);
  Output(job, "table", File(), ir::OutputKind::Path, b.Str("t.csv"));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, GetParam().kind);
  EXPECT_THAT(watcher.failures[0].message, HasSubstr(GetParam().message));
  EXPECT_FALSE(Exists(out.run_dir + "/outputs/bad"));
}

#define GOOD_RESULT "echo '{\"rows\":1}' > $JOB_RESULT;"
INSTANTIATE_TEST_SUITE_P(
    All, BadOutput,
    ::testing::Values(
        BadEnd{"NoResult", "touch t.csv", "output_missing", "did not write its JSON result to $JOB_RESULT"},
        BadEnd{"NotJson", "touch t.csv; echo '{rows' > $JOB_RESULT", "schema", "is not valid JSON"},
        BadEnd{"NotAnObject", "touch t.csv; echo '[1]' > $JOB_RESULT", "schema", "must be an object, found `[1]`"},
        BadEnd{"WrongType", "touch t.csv; echo '{\"rows\":\"x\"}' > $JOB_RESULT", "schema", "/rows"},
        BadEnd{"MissingKey", "touch t.csv; echo '{\"row\":1}' > $JOB_RESULT", "schema", "it has `row`"},
        BadEnd{"ResultIsADirectory", "touch t.csv; mkdir $JOB_RESULT", "schema", "not a regular file"},
        BadEnd{"DeepJson", "touch t.csv; python3 -c \"print('['*10000)\" > $JOB_RESULT", "schema", "is not valid JSON"},
        BadEnd{"NoFile", GOOD_RESULT "touch other.csv", "output_missing", "the output directory has `other.csv`"},
        BadEnd{"DirectoryForFile", GOOD_RESULT "mkdir t.csv", "output_missing", "should be a file but is a directory"},
        BadEnd{"LinkThatLeaves", GOOD_RESULT "ln -s /etc/passwd t.csv", "output_missing", "outside the output directory"},
        BadEnd{"LinkToNowhere", GOOD_RESULT "ln -s gone t.csv", "output_missing", "leads nowhere"},
        BadEnd{"Pipe", GOOD_RESULT "mkfifo t.csv", "output_missing", "special file"},
        BadEnd{"OwnDirectoryGone", GOOD_RESULT "cd /; rm -rf \"$JOB_OUTPUT\"", "output_missing", "did not write the file `t.csv`"}),
    [](const ::testing::TestParamInfo<BadEnd>& info) { return info.param.name; });

TEST_F(EngineRun, CapturesALinkInsideAsACopy) {
  uint32_t job = Sh("link", "echo x > real; ln -s real t.csv");
  Output(job, "table", File(), ir::OutputKind::Path, b.Str("t.csv"));
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  struct stat info;
  ASSERT_EQ(lstat((out.run_dir + "/outputs/link/t.csv").c_str(), &info), 0);
  EXPECT_TRUE(S_ISREG(info.st_mode));
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/link/t.csv"), "x\n");
}

TEST_F(EngineRun, NamesAProgramThatDoesNotExist) {
  uint32_t job = b.Job("typo");
  b[job].run = Words({"no-such-program-here"});
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, "command");
  EXPECT_THAT(watcher.failures[0].message, HasSubstr("no-such-program-here"));
}

TEST_F(EngineRun, FailsBeforeExecWhenAnArgumentIsTooLarge) {
  uint32_t job = b.Job("large");
  b[job].run = Words({"true", std::string(200'000, 'x')});
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, "command");
}

TEST_F(EngineRun, RetriesUntilItSucceeds) {
  dir.Write("src/count", "");
  uint32_t job = Sh("flaky", "echo x >> " + (dir / "src/count") + "; test \"$JOB_ATTEMPT\" -ge 3");
  b.Retry(job, 5, {testing::OnKind(ir::ErrorKind::Exit)}, 1);
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(ReadAll(dir / "src/count"), "x\nx\nx\n");
  EXPECT_EQ(watcher.Lines(RunEventKind::Retrying).size(), 2u);
}

TEST_F(EngineRun, ReadsStderrForTheKindOfAnError) {
  uint32_t job = Sh("oom", "echo 'fine' >&2; echo 'CUDA out of memory: 12' >&2; exit 1");
  ir::ErrorArm arm;
  arm.fact.kind = ir::Fact::Kind::Stderr;
  arm.fact.pattern = "CUDA out of memory";
  arm.kind = ir::ErrorKind::Oom;
  b[job].errors.push_back(arm);
  Run();
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, "oom");
}

TEST_F(EngineRun, EndsAJobAtItsTimeLimit) {
  uint32_t job = Sh("slow", "sleep 100");
  b[job].timeout.run = b.Ms(150);
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, "timeout");
  int64_t ended = -1;
  int64_t failed = -1;
  for (const RunEvent& event : watcher.events) {
    if (event.kind == RunEventKind::AttemptEnded) ended = event.duration_ms;
    if (event.kind == RunEventKind::Failed) failed = event.duration_ms;
  }
  EXPECT_GE(ended, 100);
  EXPECT_GE(failed, ended) << "the final state says how long it ran, too";
}

TEST_F(EngineRun, EndsASilentJobAtItsIdleLimitButNotATalkingOne) {
  uint32_t silent = Sh("silent", "sleep 100");
  b[silent].timeout.idle = b.Ms(600);
  b.OnError(silent, ir::Strategy::Continue);
  uint32_t talking = Sh("talking", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.15; done");
  b[talking].timeout.idle = b.Ms(600);
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].address, "silent");
  EXPECT_EQ(watcher.failures[0].kind, "idle_timeout");
}

TEST_F(EngineRun, RunsAScatterWithKeysInTheEnvironment) {
  uint32_t job = b.Scatter("part", 3);
  b[job].run = Words({"sh", "-c", "echo $JOB_KEY $JOB_KEY_0"});
  Output(job, "line", String(), ir::OutputKind::Expr, b.exprs().Add(ir::Op::Stdout, String()));
  Export("lines", b.types().List(String()), b.exprs().Add(ir::Op::GatherOutput, b.types().List(String()), {}, {}, job, 0));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"lines":["0 0\n","1 1\n","2 2\n"]})");
}

TEST_F(EngineRun, RunsFinallyAfterAFailure) {
  Sh("bad", "exit 1");
  uint32_t last = Sh("last", "echo $0 done > " + (dir / "src/final"), ir::JobKind::Finally);
  (void)last;
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_TRUE(Exists(dir / "src/final"));
}

TEST_F(EngineRun, CancelsEverythingAtTheFirstInterruptAndStillRunsFinally) {
  Sh("slow", "sleep 100");
  Sh("last", "touch " + (dir / "src/final"), ir::JobKind::Finally);
  watcher.on_event = [&](const RunEvent& event) {
    if (event.kind == RunEventKind::Started && event.address == "slow") {
      kill(getpid(), SIGINT);
    }
  };
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 130);
  EXPECT_EQ(out.status, RunStatus::Interrupted);
  EXPECT_TRUE(Exists(dir / "src/final"));
}

TEST_F(EngineRun, StopsAtOnceAtTheSecondInterrupt) {
  Sh("stubborn", "trap '' TERM; while :; do sleep 0.05; done");
  int sent = 0;
  watcher.on_event = [&](const RunEvent& event) {
    if ((event.kind == RunEventKind::Started || event.kind == RunEventKind::KillSent) && sent++ < 2) {
      kill(getpid(), SIGTERM);
    }
  };
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 130);
  auto reader = JournalReader::Open(out.run_dir + "/journal.db");
  ASSERT_TRUE(reader.ok());
  auto last = reader->Last(RecordType::Finished);
  ASSERT_TRUE(last.ok() && last->has_value());
  EXPECT_EQ((*last)->a, 130);
  EXPECT_EQ(out.message, "ended at once by SIGTERM");
  EXPECT_EQ(engine->Progress().state, "interrupted") << "what the closing line says";
  EXPECT_EQ(watcher.events.back().kind, RunEventKind::RunFinished);
  EXPECT_EQ(watcher.events.back().exit_code, 130);
}

TEST_F(EngineRun, HidesSecretsInLogsAndReports) {
  setenv("JOBC_TEST_SECRET", "s3cr3t-value", 1);
  b.plan.program.secrets.push_back({"token", ir::SecretCarrier::Env, "JOBC_TEST_SECRET"});
  uint32_t job = Sh("leaky", "echo \"the token is $TOKEN\" >&2; exit 1");
  b[job].env.push_back({"TOKEN", b.exprs().Add(ir::Op::Secret, b.Type(ir::TypeKind::Secret), {}, {}, 0), b.Type(ir::TypeKind::Secret)});
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_THAT(watcher.failures[0].stderr_lines, ElementsAre("the token is ***"));
  ASSERT_THAT(watcher.failures[0].reproduce_command, ::testing::StartsWith("sh /"));
  EXPECT_THAT(ReadAll(watcher.failures[0].reproduce_command.substr(3)), AllOf(HasSubstr("TOKEN=\"$TOKEN\""), Not(HasSubstr("s3cr3t"))));
  EXPECT_THAT(ReadAll(out.run_dir + "/log.pack"), Not(HasSubstr("s3cr3t")));
  EXPECT_THAT(ReadAll(out.run_dir + "/journal.db") + ReadAll(out.run_dir + "/journal.db-wal"), Not(HasSubstr("s3cr3t")));
}

TEST_F(EngineRun, RefusesToStartWithoutItsSecrets) {
  unsetenv("JOBC_TEST_ABSENT");
  b.plan.program.secrets.push_back({"token", ir::SecretCarrier::Env, "JOBC_TEST_ABSENT"});
  Sh("never", "true");
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 3);
  EXPECT_THAT(out.message, HasSubstr("JOBC_TEST_ABSENT"));
  EXPECT_FALSE(Exists(dir / "state"));
}

TEST_F(EngineRun, GivesSecretFilesToTheJobAloneAndRemovesThem) {
  setenv("JOBC_TEST_SECRET", "s3cr3t-value", 1);
  b.plan.program.secrets.push_back({"token", ir::SecretCarrier::Env, "JOBC_TEST_SECRET"});
  uint32_t job = Sh("file", "stat -c %a \"$JOB_SECRETS/pw\" > mode; wc -c < \"$JOB_SECRETS/pw\" > size; echo \"$JOB_SECRETS\" > where");
  b[job].secret_files.push_back({"pw", b.exprs().Add(ir::Op::Secret, b.Type(ir::TypeKind::Secret), {}, {}, 0)});
  for (const char* name : {"mode", "size", "where"}) {
    Output(job, name, File(), ir::OutputKind::Path, b.Str(name));
  }
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/file/mode"), "600\n");
  EXPECT_EQ(ReadAll(out.run_dir + "/outputs/file/size"), "12\n");
  std::string where = ReadAll(out.run_dir + "/outputs/file/where");
  where.pop_back();
  EXPECT_FALSE(Exists(where));
}

TEST_F(EngineRun, FailsAnAttemptWhoseInputChangedMeanwhile) {
  dir.Write("src/data", "one");
  ir::FileValue file;
  file.path = "data";
  uint32_t job = Sh("change", "echo two > " + (dir / "src/data") + "; touch out");
  b[job].inputs.push_back({"d", File(), b.exprs().Constant(File(), ir::Value::File(file)), false});
  Output(job, "out", File(), ir::OutputKind::Path, b.Str("out"));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, "staging");
  EXPECT_THAT(watcher.failures[0].message, HasSubstr("was changed while the job ran"));
}

TEST_F(EngineRun, SaysThatABackendIsNotBuiltYet) {
  uint32_t job = Sh("far", "true");
  b[job].backend.kind = ir::BackendKind::Slurm;
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 14);
  EXPECT_THAT(out.message, HasSubstr("slurm"));
}

TEST_F(EngineRun, EndsWith15WhereItsStateCannotBeWritten) {
  dir.Write("state", "a file, not a directory");
  Sh("never", "true");
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 15);
  EXPECT_THAT(out.message, HasSubstr("state directory"));
}

TEST_F(EngineRun, EndsWith15WhenTheDiskOfItsStateFillsUpAndKeepsWhatWasRecorded) {
  ASSERT_TRUE(process::MakeDirectories(dir / "state").ok());
  if (mount("tmpfs", (dir / "state").c_str(), "tmpfs", 0, "size=400k") != 0) {
    GTEST_SKIP() << "cannot mount a small tmpfs here";
  }
  uint32_t fill = Sh("fill", "head -c 10000000 /dev/zero > \"$TMPDIR/../../pad\" || true");
  uint32_t after = b.Scatter("after", 50);
  b[after].run = Words({"true"});
  b.After(after, fill);
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 15);
  EXPECT_THAT(out.message, AllOf(HasSubstr("no space left"), HasSubstr("jobc resume " + out.run_id)));
  engine.reset();
  auto reader = JournalReader::Open(out.run_dir + "/journal.db");
  EXPECT_TRUE(reader.ok()) << reader.error().message;
  auto last = reader->Last(RecordType::Intent);
  EXPECT_TRUE(last.ok() && last->has_value());
  umount2((dir / "state").c_str(), MNT_DETACH);
}

TEST_F(EngineRun, LeavesNothingOfARunThatNeverBegan) {
  ASSERT_TRUE(process::MakeDirectories(dir / "state").ok());
  if (mount("tmpfs", (dir / "state").c_str(), "tmpfs", 0, "size=8k") != 0) {
    GTEST_SKIP() << "cannot mount a small tmpfs here";
  }
  Sh("never", "true");
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 15);
  EXPECT_THAT(ListRunIds(dir / "state"), IsEmpty());
  umount2((dir / "state").c_str(), MNT_DETACH);
}

TEST_F(EngineRun, PublishesFilesWithAManifest) {
  uint32_t job = Sh("make", "echo r > report.html");
  Output(job, "html", File(), ir::OutputKind::Path, b.Str("report.html"));
  ir::Publish publish;
  publish.destination = "results";
  publish.entries.push_back({b.Str("report.html"), b.Output(job, 0, File()), File(), {}});
  publish.entries.push_back({b.Str("all/"), b.Output(job, 0, File()), File(), {}});
  b.plan.publishes.push_back(publish);
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(ReadAll(dir / "src/results/report.html"), "r\n");
  EXPECT_EQ(ReadAll(dir / "src/results/all/report.html"), "r\n");
  std::string manifest = ReadAll(dir / "src/results/jobc-manifest.json");
  auto json = ir::ParseJson(manifest);
  ASSERT_TRUE(json.ok()) << manifest;
  EXPECT_EQ(json->Find("files")->as_list().size(), 2u);
  EXPECT_THAT(manifest, HasSubstr("\"producer\": \"make\""));
}

TEST_F(EngineRun, KeepsEveryStepInTheJournal) {
  uint32_t job = Sh("one", "exit 0");
  (void)job;
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  auto reader = JournalReader::Open(out.run_dir + "/journal.db");
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  std::vector<std::string> names;
  ASSERT_TRUE(reader->Scan(0, [&](const Record& record) {
    names.emplace_back(RecordName(record.type));
    return true;
  }).ok());
  EXPECT_THAT(names, ElementsAre("opened", "key", "intent", "started", "verdict", "final", "reaped", "finished"));
}

TEST_F(EngineRun, LeavesNothingOfItsAttemptsBehind) {
  for (int i = 0; i < 5; ++i) {
    uint32_t job = Sh("job" + std::to_string(i), "touch $TMPDIR/x y; echo '{}' > $JOB_RESULT");
    Output(job, "y", File(), ir::OutputKind::Path, b.Str("y"));
  }
  RunOutcome out = Run();
  ASSERT_EQ(out.exit_code, 0) << out.message;
  engine.reset();
  for (const char* name : {"work", "tmp", "stage"}) {
    std::string path = out.run_dir + "/" + name;
    if (Exists(path)) {
      EXPECT_EQ(rmdir(path.c_str()), 0) << path << " is not empty";
    }
  }
}

TEST_F(EngineRun, KeepsOnlyTheEdgesOfAHugeLogAndCallsStdoutOfItIncomplete) {
  uint32_t job = Sh("talk", "head -c 3000000 /dev/zero | tr '\\0' x");
  b[job].log_limit = b.Bytes(1 << 20);
  Output(job, "text", String(), ir::OutputKind::Expr, b.exprs().Add(ir::Op::Stdout, String()));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].kind, "schema");
  EXPECT_THAT(watcher.failures[0].message, HasSubstr("not complete"));
}

TEST_F(EngineRun, TakesLinesThatAreNotUtf8AsLogButNotAsText) {
  uint32_t fine = Sh("fine", "printf 'a\\377b\\n'");
  (void)fine;
  uint32_t text = Sh("text", "printf 'a\\377b\\n'");
  Output(text, "t", String(), ir::OutputKind::Expr, b.exprs().Add(ir::Op::Stdout, String()));
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  ASSERT_EQ(watcher.failures.size(), 1u);
  EXPECT_EQ(watcher.failures[0].address, "text");
  EXPECT_EQ(watcher.failures[0].kind, "schema");
  EXPECT_THAT(watcher.failures[0].message, HasSubstr("UTF-8"));
}

/// A place far away: it has a name for each attempt, and must be asked how it is.
class PollingBackend : public Backend {
 public:
  explicit PollingBackend(const BackendHost& host) : host_(host) {
    uv_timer_init(host_.loop, &timer_);
    timer_.data = this;
  }
  ~PollingBackend() override {
    uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
    uv_run(host_.loop, UV_RUN_NOWAIT);
  }
  Result<AttemptPlaces> Prepare(AttemptId, bool) override { return AttemptPlaces{host_.run_dir + "/out", host_.run_dir + "/tmp", host_.run_dir + "/stage"}; }
  void Submit(const AttemptLaunch& launch) override {
    id_ = launch.id;
    uv_timer_start(&timer_, [](uv_timer_t* handle) { static_cast<PollingBackend*>(handle->data)->Step(); }, 0, 1);
  }
  void Cancel(AttemptId, int64_t) override {}
  bool Withdraw(AttemptId) override { return false; }
  void Attach(const AttemptLaunch&, const std::string&) override {}
  void Release(AttemptId, bool) override {}
  void RemoveLater(const std::string&) override {}
  uint64_t LastOutput(AttemptId) const override { return 0; }
  void Stop() override {}

 private:
  void Step() {
    switch (step_++) {
      case 0: return host_.events->OnSubmitted(id_, "job 4711");
      case 1:
      case 3: return host_.events->OnPolling(id_);
      case 2: return host_.events->OnStarted(id_, process::WallMillis(), 0, "job 4711");
      default: break;
    }
    uv_timer_stop(&timer_);
    AttemptExit exit;
    exit.exit_code = 0;
    exit.wall_ms = process::WallMillis();
    host_.events->OnExited(id_, exit);
    host_.events->OnReaped(id_);
    host_.events->OnPolling(id_);  // too late: it is gone
    host_.events->OnStarted(id_, process::WallMillis(), 0, "job 4711");
    host_.events->OnExited(id_, exit);
    host_.events->OnReaped(id_);
  }

  BackendHost host_;
  uv_timer_t timer_{};
  AttemptId id_ = 0;
  int step_ = 0;
};

TEST_F(EngineRun, CountsWhatABackendSaysTooLate) {
  backends = [](ir::BackendKind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> { return std::unique_ptr<Backend>(new PollingBackend(host)); };
  Sh("far", "true");
  const RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0);
  auto reader = RunReader::Open(dir / "state", out.run_id);
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  EXPECT_EQ(CollectMetrics(**reader, {}).late_answers, 3u);
  EXPECT_EQ(CollectMetrics(**reader, {}).attempts.completed, 1u);
  for (const RunEvent& event : watcher.events) EXPECT_NE(event.kind, RunEventKind::Warning) << event.text;
}

TEST_F(EngineRun, TellsWhatABackendSaysOfAnAttempt) {
  backends = [](ir::BackendKind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> { return std::unique_ptr<Backend>(new PollingBackend(host)); };
  Sh("far", "true");
  EXPECT_EQ(Run().exit_code, 0);
  std::vector<std::string> told;
  for (const RunEvent& event : watcher.events) {
    if (event.address == "far") told.push_back(std::string(EventName(event.kind)) + (event.text.empty() ? "" : " " + event.text));
  }
  EXPECT_THAT(told, ElementsAre("queued", "submitting", "submitted job 4711", "polling", "started", "polling", "attempt_ended", "succeeded", "reaped"));
}

/// A place where every attempt has ended with the next millisecond.
class QuickBackend : public Backend {
 public:
  explicit QuickBackend(const BackendHost& host) : host_(host) {
    uv_timer_init(host_.loop, &timer_);
    timer_.data = this;
  }
  ~QuickBackend() override {
    uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
    uv_run(host_.loop, UV_RUN_NOWAIT);
  }
  Result<AttemptPlaces> Prepare(AttemptId, bool) override { return AttemptPlaces{host_.run_dir + "/out", host_.run_dir + "/tmp", host_.run_dir + "/stage"}; }
  void Submit(const AttemptLaunch& launch) override {
    submitted_.push_back(launch.id);
    uv_timer_start(&timer_, [](uv_timer_t* handle) { static_cast<QuickBackend*>(handle->data)->EndAll(); }, 1, 0);
  }
  void Cancel(AttemptId, int64_t) override {}
  bool Withdraw(AttemptId) override { return false; }
  void Attach(const AttemptLaunch&, const std::string&) override {}
  void Release(AttemptId, bool) override {}
  void RemoveLater(const std::string&) override {}
  uint64_t LastOutput(AttemptId) const override { return 0; }
  void Stop() override {}

 private:
  void EndAll() {
    for (AttemptId id : std::exchange(submitted_, {})) {
      AttemptExit exit;
      exit.exit_code = 0;
      exit.wall_ms = process::WallMillis();
      host_.events->OnStarted(id, exit.wall_ms, 0, "");
      host_.events->OnExited(id, exit);
      host_.events->OnReaped(id);
    }
  }
  BackendHost host_;
  uv_timer_t timer_{};
  std::vector<AttemptId> submitted_;
};

TEST_F(EngineRun, CommitsLessOftenWhileShortAttemptsEndOneAfterTheOther) {
  backends = [](ir::BackendKind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> { return std::unique_ptr<Backend>(new QuickBackend(host)); };
  uint32_t job = b.Scatter("part", 4000);
  b[job].run = Words({"true"});
  options.max_parallel = 8;
  EXPECT_EQ(Run().exit_code, 0);
  // What a commit lets be told comes in one batch: the longest one tells of the time between two commits.
  int64_t longest_ms = 0;
  size_t from = 0;
  for (size_t to : watcher.batches) {
    int64_t first = INT64_MAX, last = 0;
    for (; from < to; ++from) {
      if (watcher.events[from].kind != RunEventKind::AttemptEnded) continue;
      first = std::min(first, watcher.events[from].time_ms);
      last = std::max(last, watcher.events[from].time_ms);
    }
    longest_ms = std::max(longest_ms, last - std::min(first, last));
  }
  EXPECT_GE(longest_ms, 60);
}

/// Bytes that this process has asked to read so far.
uint64_t BytesRead() {
  const std::string io = process::ReadFile("/proc/self/io").value();
  return std::strtoull(io.c_str() + io.find("rchar:") + 6, nullptr, 10);
}

TEST(RunSummaries, OfLongRunsReadOnlyTheirEnds) {
  jobc::testing::TempDir dir;
  const std::string id = "0mwr879fkt0boscn3lfa";
  ASSERT_TRUE(CreateRunDir(dir.path(), id).ok());
  RunHeader header;
  header.id = id;
  auto journal = Journal::Create(RunDir(dir.path(), id) + "/journal.db", header, "{}", Durability::Normal);
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  auto append = [&](RecordType type, int count, const std::string& text = "") {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(journal->Append({.time_ms = 5, .type = type, .job = 0, .ordinal = i, .a = 3, .text = text}).ok());
    }
    ASSERT_TRUE(journal->Commit().ok());
  };
  auto summary = [&] {
    const uint64_t before = BytesRead();
    auto read = SummarizeRun(dir.path(), id);
    EXPECT_TRUE(read.ok());
    EXPECT_LT(BytesRead() - before, 1u << 20) << "the journal is longer than that";
    return *read;
  };
  append(RecordType::Opened, 1, "{}");
  append(RecordType::Reaped, 60000, std::string(100, 'x'));
  EXPECT_EQ(summary().status, "crashed");
  append(RecordType::Finished, 1, "{\"message\":\"\",\"status\":\"failed\"}");
  append(RecordType::Reaped, 10);
  EXPECT_EQ(summary().status, "failed");
  EXPECT_EQ(summary().exit_code, 3);
  append(RecordType::Opened, 1, "{}");
  EXPECT_EQ(summary().status, "crashed") << "it was resumed";
  append(RecordType::Reaped, 60000, std::string(100, 'x'));
  EXPECT_EQ(summary().status, "crashed");
}

}  // namespace
}  // namespace jobc
