// What every backend must do, one promise of runtime/backend.h a case. A new backend gets a place.h subclass and runs all of
// them; a case that its place cannot have is skipped and says why. The order of events is checked by session.h in every case.
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <set>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/backends/session.h"

namespace jobc::conformance {
namespace {

using process::LogStream;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Exists;
using testing::ReadAll;
using testing::TempDir;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

class Conformance : public ::testing::TestWithParam<PlaceParam> {
 protected:
  void SetUp() override {
    place = GetParam().make();
    if (const std::string why = place->Missing(); !why.empty()) {
      std::printf("skipped: %s\n", why.c_str());
      GTEST_SKIP() << why;
    }
    traits = place->traits();
    static int number = 0;
    run_id = "conformance" + std::to_string(getpid()) + "n" + std::to_string(++number);
    ASSERT_TRUE(process::MakeDirectories(dir / "run").ok());
    chmod(dir.path().c_str(), 0755);
  }

  void TearDown() override {
    session.reset();
    if (place != nullptr && place->Missing().empty()) {
      EXPECT_THAT(place->Remains(run_id), IsEmpty()) << "left when all was over";
    }
  }

  /// The jobc of this case, made at first use: cases that fork do so before.
  Session& S() {
    if (session == nullptr) {
      session = std::make_unique<Session>(*place, dir / "run", run_id, secrets, secret_files, again);
    }
    return *session;
  }

  /// What the engine would hand over; its places are prepared.
  AttemptLaunch Launch(const Program& program, AttemptId id = 0) {
    AttemptLaunch launch;
    launch.id = id != 0 ? id : ++last_id;
    last_id = std::max(last_id, launch.id);
    launch.address = "a[\"k " + std::to_string(launch.id) + "\"]";
    launch.execution_id = run_id + "-" + std::to_string(launch.id);
    launch.grace_ms = 5000;
    auto prepared = S().backend().Prepare(launch.id, secret_files);
    EXPECT_TRUE(prepared.ok()) << prepared.error().message;
    launch.places = *prepared;
    Complete(launch, program);
    return launch;
  }
  void Complete(AttemptLaunch& launch, const Program& program) {
    const AttemptPlaces& at = launch.places;
    EXPECT_TRUE(process::MakeDirectories(at.stage_dir).ok());
    launch.env = {"JOB_RUN_ID=" + run_id, "TMPDIR=" + at.SeenTmp(), "LC_ALL=C"};
    if (!at.seen) {
      launch.env.push_back("PATH=/usr/local/bin:/usr/bin:/bin");
    } else {
      launch.mounts = {{at.output_dir, at.SeenOutput(), false}, {at.tmp_dir, at.SeenTmp(), false}, {at.stage_dir, at.SeenStage(), false}};
      if (!at.secrets_dir.empty()) {
        launch.mounts.push_back({at.secrets_dir, at.SeenSecrets(), true});
      }
    }
    place->Fit(launch, program);
  }

  const AttemptLaunch& Submit(const AttemptLaunch& launch) {
    launches[launch.id] = launch;
    S().Expect(launch.id);
    S().backend().Submit(launch);
    return launches[launch.id];
  }
  const AttemptLaunch& Submit(const Program& program) { return Submit(Launch(program)); }
  /// Submitted, and its program has written `running`.
  const AttemptLaunch& Start(Program program) {
    Program all;
    all.arguments = program.arguments;
    // What it answers to TERM is settled before it says that it runs.
    for (const Step& step : program.steps) {
      if (step.what == Do::IgnoreTerm || step.what == Do::ExitOnTerm) all.Add(step);
    }
    all.Touch("running");
    for (const Step& step : program.steps) {
      if (step.what != Do::IgnoreTerm && step.what != Do::ExitOnTerm) all.Add(step);
    }
    const AttemptLaunch& launch = Submit(all);
    S().Until([&] { return S().seen[launch.id].started && place->Has(launch, "running"); }, "the start of a program");
    return launch;
  }
  const Seen& Run(const Program& program) { return S().Finish(Submit(program).id); }
  std::string TextOf(const Program& program) {
    const Seen& one = Run(program);
    EXPECT_TRUE(one.exit && one.exit->exit_code == 0) << S().Story() << S().Errors(last_id);
    return S().Text(last_id);
  }
  void Touch(const AttemptLaunch& launch, const std::string& name) {
    if (traits.far && S().seen.contains(launch.id)) S().Until([&] { return S().seen[launch.id].started || S().seen[launch.id].ended(); }, "the start");
    place->Put(launch, name);
  }

  void ExpectCode(AttemptId id, int code) {
    const Seen& one = S().Finish(id);
    ASSERT_TRUE(one.exit) << S().Story();
    EXPECT_THAT(one.exit->exit_code, Eq(code));
  }
  void ExpectSignal(AttemptId id, int signal) {
    const Seen& one = S().Finish(id);
    ASSERT_TRUE(one.exit) << S().Story();
    EXPECT_THAT(one.exit->signal, Eq(signal)) << "exit code " << one.exit->exit_code.value_or(-1);
  }

  TempDir dir;
  std::unique_ptr<Place> place;
  Traits traits;
  std::string run_id;
  std::vector<std::string> secrets;
  bool secret_files = false;
  std::vector<AttemptId> again;     ///< attempts of an earlier jobc: their output may come once more
  std::unique_ptr<Session> session;
  AttemptId last_id = 0;
  std::map<AttemptId, AttemptLaunch> launches;
};

#define NEEDS(trait, why) \
  if (!traits.trait) GTEST_SKIP() << why

// ---- how a program ends ----

TEST_P(Conformance, ExitCodesAreThoseOfTheProgram) {
  std::map<AttemptId, int> codes;
  for (int code : traits.costly ? std::vector{0, 1, 126, 127, 137, 255} : std::vector{0, 1, 2, 42, 125, 126, 127, 128, 137, 143, 254, 255}) {
    codes[Submit(Program().Exit(code)).id] = code;
  }
  for (auto [id, code] : codes) {
    ExpectCode(id, code);
  }
}

TEST_P(Conformance, SignalsAreTold) {
  std::map<AttemptId, int> signals;
  for (int signal : {SIGTERM, SIGKILL, SIGSEGV, SIGABRT, SIGUSR1}) {
    signals[Submit(Program().Raise(signal)).id] = signal;
  }
  for (auto [id, signal] : signals) {
    ExpectSignal(id, signal);
  }
}

TEST_P(Conformance, AMissingProgramIsOfKindCommand) {
  Program program;
  program.path = "/no/such/program";
  const Seen& one = Run(program);
  ASSERT_TRUE(one.failure) << S().Story();
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::Command);
  EXPECT_THAT(one.failure->message, HasSubstr("/no/such/program"));
}

TEST_P(Conformance, AFileThatCannotBeExecutedIsOfKindCommand) {
  Program program;
  program.path = "/etc/passwd";
  const Seen& one = Run(program);
  ASSERT_TRUE(one.failure) << S().Story();
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::Command);
  EXPECT_THAT(one.failure->message, HasSubstr("/etc/passwd"));
}

TEST_P(Conformance, TheTimesAreThoseOfTheProgram) {
  const int64_t before = process::WallMillis();
  const AttemptLaunch& launch = Start(Program().Await("go"));
  const int64_t running = process::WallMillis();
  Touch(launch, "go");
  const Seen& one = S().Finish(launch.id);
  ASSERT_TRUE(one.exit);
  EXPECT_GE(one.started_ms, before - 5);
  EXPECT_LE(one.started_ms, running + 5);
  EXPECT_GE(one.exit->wall_ms, running - 5);
  EXPECT_LE(one.exit->wall_ms, process::WallMillis() + 5);
  EXPECT_GE(one.exit->usage.cpu_ms, -1);
  EXPECT_GE(one.exit->usage.max_memory, -1);
}

TEST_P(Conformance, AnAttemptSaysItsFourThingsInOrder) {
  const Seen& one = Run(Program().Out("x"));
  EXPECT_THAT(one.events, AnyOf("submitted started exited reaped", "started exited reaped"));
}

// ---- output ----

TEST_P(Conformance, StdoutAndStderrAreKeptApart) {
  Run(Program().Out("out\n").Err("err\n").Out("more\n"));
  EXPECT_EQ(S().Text(last_id), "out\nmore\n");
  EXPECT_EQ(S().Errors(last_id), "err\n");
}

TEST_P(Conformance, OutputWithoutANewlineIsKept) { EXPECT_EQ(TextOf(Program().Out("no newline")), "no newline"); }

TEST_P(Conformance, NoOutputIsNone) {
  EXPECT_EQ(TextOf(Program().Exit(0)), "");
  EXPECT_EQ(S().Errors(last_id), "");
}

TEST_P(Conformance, EveryByteComesThrough) {
  std::string all;
  for (int round = 0; round < 3; ++round) {
    for (int byte = 0; byte < 256; ++byte) {
      all += static_cast<char>(byte);
    }
  }
  EXPECT_EQ(TextOf(Program().Out(all)), all);
}

TEST_P(Conformance, LastWordsAreThereWhenItIsReaped) {
  // A program that ends right after it has written: the end must not overtake the output.
  std::map<AttemptId, std::string> words;
  for (int i = 0; i < (traits.costly ? 4 : 12); ++i) {
    words[Submit(Program().Out(std::string(static_cast<size_t>(i) * 1500, 'x') + "last words " + std::to_string(i)).Exit(i % 3)).id] = "last words " + std::to_string(i);
  }
  S().on_reaped = [&](AttemptId id) {
    EXPECT_TRUE(S().seen[id].exit) << S().Story();
    EXPECT_THAT(S().Text(id), ::testing::EndsWith(words[id]));
  };
  for (const auto& [id, word] : words) {
    S().Finish(id);
  }
}

TEST_P(Conformance, EachStreamKeepsItsOrder) {
  Run(Program().Numbers(2000));
  std::string odd, even;
  for (int i = 1; i <= 2000; ++i) {
    (i % 2 == 1 ? odd : even) += std::to_string(i) + "\n";
  }
  EXPECT_EQ(S().Text(last_id), odd);
  EXPECT_EQ(S().Errors(last_id), even);
}

TEST_P(Conformance, OutputComesWhileTheProgramRuns) {
  const AttemptLaunch& launch = Start(Program().Out("early\n").Await("go").Out("late\n"));
  S().Until([&] { return S().Text(launch.id) == "early\n"; }, "the first line");
  EXPECT_FALSE(S().seen[launch.id].ended());
  Touch(launch, "go");
  S().Finish(launch.id);
  EXPECT_EQ(S().Text(launch.id), "early\nlate\n");
}

TEST_P(Conformance, LastOutputMovesWithTheOutput) {
  const AttemptLaunch& launch = Start(Program().Await("go").Out("x").Await("end"));
  const uint64_t silent = S().backend().LastOutput(launch.id);
  S().Idle(30);
  EXPECT_EQ(S().backend().LastOutput(launch.id), silent);
  Touch(launch, "go");
  S().Until([&] { return S().Text(launch.id) == "x"; }, "the output");
  EXPECT_GT(S().backend().LastOutput(launch.id), silent);
  EXPECT_LE(S().backend().LastOutput(launch.id), S().now());
  Touch(launch, "end");
  S().Finish(launch.id);
}

TEST_P(Conformance, SecretsAreMasked) {
  secrets = {"correct horse battery staple"};
  EXPECT_EQ(TextOf(Program().Out("the word is correct horse ").Out("battery staple\n")), "the word is ***\n");
}

TEST_P(Conformance, TheLimitOfTheLogIsKept) {
  AttemptLaunch launch = Launch(Program().Fill(3'000'000));
  launch.log_limit = 100'000;
  S().Finish(Submit(launch).id);
  EXPECT_EQ(S().Totals(launch.id).total_bytes, 3'000'000u);
  EXPECT_GE(S().Totals(launch.id).dropped_bytes, 2'800'000u);
  EXPECT_LE(S().Text(launch.id).size(), 200'000u);
}

TEST_P(Conformance, AGibibyteOfOutputNeedsLittleMemory) {
  const int64_t bytes = kSanitized ? int64_t{64} << 20 : int64_t{1} << 30;
  S();
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins anew
  const auto kilobytes = [](const std::string& name) {
    const std::string status = ReadAll("/proc/self/status");
    return std::stoll(status.substr(status.find(name) + name.size()));
  };
  const int64_t before = kilobytes("VmRSS:");
  AttemptLaunch launch = Launch(Program().Fill(bytes));
  launch.log_limit = 1 << 20;
  S().Finish(Submit(launch).id);
  ASSERT_TRUE(S().seen[launch.id].exit) << S().Story();
  EXPECT_EQ(S().Totals(launch.id).total_bytes, static_cast<uint64_t>(bytes));
  if (!kSanitized) {
    EXPECT_LE(kilobytes("VmHWM:") - before, 64 << 10) << "kB more than before";
  }
}

// ---- what a program is given ----

TEST_P(Conformance, TheEnvironmentIsAsGiven) {
  AttemptLaunch launch = Launch(Program().Just(Do::Environment));
  launch.env.insert(launch.env.end(), {"EMPTY=", "SPACES=  a  b  ", "LINES=a\nb\n", "QUOTES='\"`$(x)\\", "EQUALS=a=b", "UTF=\xc3\xbc", "lower_9=1", "LONG=" + std::string(20'000, 'y')});
  const std::set<std::string> wanted(launch.env.begin(), launch.env.end());
  S().Finish(Submit(launch).id);
  std::set<std::string> got;
  const std::string text = S().Text(launch.id);
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\0', at);
    ASSERT_NE(end, std::string::npos) << text;
    got.insert(text.substr(at, end - at));
    at = end + 1;
  }
  for (const std::string& entry : wanted) {
    EXPECT_TRUE(got.contains(entry)) << entry;
  }
  for (const std::string& entry : got) {
    EXPECT_TRUE(wanted.contains(entry) || std::count(traits.adds.begin(), traits.adds.end(), entry.substr(0, entry.find('='))) == 1) << entry << " was not asked for";
  }
}

TEST_P(Conformance, ArgumentsAreAsGiven) {
  Program program;
  program.arguments = {"plain", "", " ", "two words", "--option", "-", "$HOME", "$(touch x)", "`x`", "'", "\"", "\\", "a\nb", "*", "~", "%s", "\xc3\xbc", std::string(50'000, 'z')};
  program.Just(Do::Arguments);
  std::string wanted;
  for (const std::string& word : program.arguments) {
    wanted += "[" + word + "]";
  }
  EXPECT_EQ(TextOf(program), wanted);
}

TEST_P(Conformance, TheWorkingDirectoryIsThatOfTheOutput) {
  const AttemptLaunch& launch = Submit(Program().Just(Do::Directory));
  S().Finish(launch.id);
  EXPECT_EQ(S().Text(launch.id), launch.places.SeenOutput() + "\n");
}

TEST_P(Conformance, StdinIsEmpty) { EXPECT_THAT(TextOf(Program().Just(Do::ReadInput)), HasSubstr("0")); }

TEST_P(Conformance, OutputFilesAreThereAtTheEndAndBelongToTheCaller) {
  const AttemptLaunch& launch = Submit(Program().Write(Where::Output, "result.txt", "content\n"));
  bool looked = false;
  S().on_ended = [&](AttemptId id) {
    struct stat info {};
    EXPECT_EQ(stat((launch.places.output_dir + "/result.txt").c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, geteuid());
    EXPECT_EQ(ReadAll(launch.places.output_dir + "/result.txt"), "content\n");
    looked = true;
  };
  S().Finish(launch.id);
  EXPECT_TRUE(looked);
}

TEST_P(Conformance, TheDirectoriesAreEmptyAndItsOwn) {
  const AttemptLaunch a = Launch(Program().Write(Where::Tmp, "x", "of a").Read(Where::Tmp, "x"));
  const AttemptLaunch b = Launch(Program().Write(Where::Output, "y", "of b").Read(Where::Output, "y"));
  EXPECT_NE(a.places.output_dir, b.places.output_dir);
  EXPECT_NE(a.places.tmp_dir, b.places.tmp_dir);
  for (const AttemptLaunch& one : {a, b}) {
    EXPECT_EQ(rmdir(one.places.output_dir.c_str()), 0) << "it was empty";
    EXPECT_EQ(rmdir(one.places.tmp_dir.c_str()), 0) << "it was empty";
    EXPECT_EQ(mkdir(one.places.output_dir.c_str(), 0755), 0);
    EXPECT_EQ(mkdir(one.places.tmp_dir.c_str(), 0755), 0);
  }
  Submit(a);
  Submit(b);
  S().Finish(a.id);
  S().Finish(b.id);
  EXPECT_EQ(S().Text(a.id), "of a");
  EXPECT_EQ(S().Text(b.id), "of b");
}

TEST_P(Conformance, WhatWasStagedIsSeen) {
  AttemptLaunch launch = Launch(Program().Read(Where::Stage, "in/data.txt").Write(Where::Stage, "result.json", "{}"));
  ASSERT_TRUE(process::MakeDirectories(launch.places.stage_dir + "/in").ok());
  std::ofstream(launch.places.stage_dir + "/in/data.txt") << "staged";
  S().Finish(Submit(launch).id);
  EXPECT_EQ(S().Text(launch.id), "staged");
  EXPECT_EQ(ReadAll(launch.places.stage_dir + "/result.json"), "{}");
}

TEST_P(Conformance, AnInputThatIsMountedCannotBeWritten) {
  AttemptLaunch launch = Launch(Program().Read(Where::Stage, "input").Write(Where::Stage, "input", "changed"));
  if (launch.places.inputs != InputStaging::Mount) GTEST_SKIP() << "inputs are links here";
  dir.Write("original", "as it was");
  std::ofstream(launch.places.stage_dir + "/input") << "";
  launch.mounts.push_back({dir / "original", launch.places.SeenStage() + "/input", true});
  S().Finish(Submit(launch).id);
  EXPECT_EQ(S().Text(launch.id), "as it was");
  EXPECT_EQ(ReadAll(dir / "original"), "as it was");
}

TEST_P(Conformance, SecretFilesAreReadAndGone) {
  NEEDS(secret_files, "this place has no secret files");
  secret_files = true;
  AttemptLaunch launch = Launch(Program().Read(Where::Secrets, "token").Touch("read").Await("go"));
  const std::string file = launch.places.secrets_dir + "/token";
  std::ofstream(file) << "hidden";
  struct stat info {};
  ASSERT_EQ(stat(launch.places.secrets_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0077, 0u) << "of this user alone";
  Submit(launch);
  S().Until([&] { return place->Has(launch, "read"); }, "the program to have read it");
  Touch(launch, "go");
  S().Finish(launch.id);
  EXPECT_EQ(S().Text(launch.id), "hidden");
  EXPECT_FALSE(Exists(file)) << "gone when it was reaped";
}

TEST_P(Conformance, AProgramAboveItsMemoryIsToldAsSuch) {
  NEEDS(limits_memory, "memory limits are not enforced here");
  AttemptLaunch launch = Launch(Program().Allocate(int64_t{256} << 20));
  launch.resources.memory = int64_t{32} << 20;
  S().Finish(Submit(launch).id);
  ASSERT_TRUE(S().seen[launch.id].exit) << S().Story();
  EXPECT_TRUE(S().seen[launch.id].exit->out_of_memory);
}

// ---- cancelling ----

TEST_P(Conformance, CancelRightAfterTheSubmission) {
  const AttemptLaunch& launch = Submit(Program().Forever());
  S().backend().Cancel(launch.id, 5000);
  S().Finish(launch.id);
}

TEST_P(Conformance, CancelWhenItIsSubmitted) {
  bool asked = false;
  S().on_submitted = [&](AttemptId id) {
    asked = true;
    S().backend().Cancel(id, 5000);
  };
  AttemptLaunch launch = Launch(Program().Await("go"));
  Submit(launch);
  // A backend need not say that it was submitted.
  S().Until([&] { return asked || S().seen[launch.id].started; }, "the submission");
  Touch(launch, "go");
  S().Finish(launch.id);
}

TEST_P(Conformance, CancelWhenItStarts) {
  S().on_started = [&](AttemptId id) { S().backend().Cancel(id, 5000); };
  S().Finish(Submit(Program().Forever()).id);
}

TEST_P(Conformance, CancelOfARunningProgramIsTerm) {
  const AttemptLaunch& launch = Start(Program().Forever());
  S().backend().Cancel(launch.id, 30'000);
  const uint64_t asked = S().now();
  ExpectSignal(launch.id, SIGTERM);
  EXPECT_LT(S().now() - asked, 15'000u) << "it did not wait for the grace to end";
}

TEST_P(Conformance, AProgramMayAnswerTerm) {
  const AttemptLaunch& launch = Start(Program().ExitOnTerm(9, "cleaned up\n").Forever());
  S().backend().Cancel(launch.id, 30'000);
  ExpectCode(launch.id, 9);
  EXPECT_EQ(S().Text(launch.id), "cleaned up\n");
}

TEST_P(Conformance, AProgramThatIgnoresTermIsKilledAfterItsGrace) {
  const AttemptLaunch& launch = Start(Program().IgnoreTerm().Forever());
  const uint64_t asked = S().now();
  S().backend().Cancel(launch.id, 400);
  ExpectSignal(launch.id, SIGKILL);
  EXPECT_GE(S().now() - asked, 390u) << "not before";
}

TEST_P(Conformance, WithoutGraceItIsKilledAtOnce) {
  const AttemptLaunch& launch = Start(Program().IgnoreTerm().Forever());
  S().backend().Cancel(launch.id, 0);
  ExpectSignal(launch.id, SIGKILL);
}

TEST_P(Conformance, ASecondCancelMayCutTheGraceShort) {
  const AttemptLaunch& launch = Start(Program().IgnoreTerm().Forever());
  S().backend().Cancel(launch.id, 600'000);
  S().Idle(50);
  EXPECT_FALSE(S().seen[launch.id].ended());
  S().backend().Cancel(launch.id, 0);
  ExpectSignal(launch.id, SIGKILL);
}

TEST_P(Conformance, CancellingTwiceIsCancellingOnce) {
  const AttemptLaunch& launch = Start(Program().Forever());
  S().backend().Cancel(launch.id, 5000);
  S().backend().Cancel(launch.id, 5000);
  ExpectSignal(launch.id, SIGTERM);
}

TEST_P(Conformance, CancelAfterTheEndChangesNothing) {
  S().on_ended = [&](AttemptId id) { S().backend().Cancel(id, 0); };
  ExpectCode(Submit(Program().Out("x").Exit(7)).id, 7);
  EXPECT_EQ(S().Text(last_id), "x");
}

TEST_P(Conformance, CancelAfterItWasReapedChangesNothing) {
  const AttemptId id = Submit(Program().Exit(7)).id;
  ExpectCode(id, 7);
  S().backend().Cancel(id, 0);
  S().backend().Cancel(id, 5000);
  EXPECT_FALSE(S().backend().Withdraw(id));
  ExpectCode(Submit(Program().Exit(3)).id, 3);
}

TEST_P(Conformance, CancelAtAnyMomentGivesOneEnd) {
  // The end and the cancel cross each other at whatever moment; session.h counts the ends.
  std::vector<AttemptId> ids;
  for (uint64_t i = 0; i < (traits.costly ? 8 : 20); ++i) {
    const AttemptId id = Submit(Program().Out("x").Exit(0)).id;
    ids.push_back(id);
    S().Idle(i % 7 * (traits.costly ? 60 : 4));
    S().backend().Cancel(id, i % 3 == 0 ? 0 : 2000);
  }
  for (AttemptId id : ids) {
    S().Finish(id);
  }
}

TEST_P(Conformance, UnknownAttemptsAreNobodysBusiness) {
  const AttemptLaunch& launch = Start(Program().Await("go"));
  for (AttemptId id : {AttemptId{777}, AttemptId{0}, ~AttemptId{0}}) {
    S().backend().Cancel(id, 0);
    S().backend().Revoke(id);
    S().backend().Release(id, false);
    EXPECT_FALSE(S().backend().Withdraw(id));
    EXPECT_FALSE(S().backend().FindPlaces(id, false)) << "nobody has prepared it";
  }
  S().Idle(20);
  Touch(launch, "go");
  ExpectCode(launch.id, 0);
}

TEST_P(Conformance, AWithdrawnAttemptNeverBegins) {
  AttemptLaunch launch = Launch(Program().Write(Where::Output, "began", "x"));
  Submit(launch);
  if (S().backend().Withdraw(launch.id)) {
    S().Forget(launch.id);
    ExpectCode(Submit(Program().Exit(0)).id, 0);
    S().Idle(100);
    EXPECT_FALSE(Exists(launch.places.output_dir + "/began"));
    EXPECT_FALSE(S().backend().Withdraw(launch.id)) << "it is not known any more";
  } else {
    ExpectCode(launch.id, 0);  // it went on as if nothing had been asked
  }
}

TEST_P(Conformance, ARunningAttemptIsNotWithdrawn) {
  const AttemptLaunch& launch = Start(Program().Await("go"));
  EXPECT_FALSE(S().backend().Withdraw(launch.id));
  Touch(launch, "go");
  ExpectCode(launch.id, 0);
}

// ---- what is left of it ----

/// A named pipe in the output directory, held open by the test for reading.
struct Pipe {
  explicit Pipe(const std::string& path) {
    EXPECT_EQ(mkfifo(path.c_str(), 0666), 0);
    chmod(path.c_str(), 0666);
    fd = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  }
  ~Pipe() { close(fd); }
  /// Whether nobody can write to it any more.
  bool Ended() const {
    char byte;
    return read(fd, &byte, 1) == 0;
  }
  int fd;
};

TEST_P(Conformance, AProcessThatStaysBehindEndsWithItsProgram) {
  NEEDS(processes, "there are no processes here");
  AttemptLaunch launch = Launch(Program().Hold("pipe").Await("go"));
  Pipe pipe(launch.places.output_dir + "/pipe");
  Submit(launch);
  // Until somebody has opened it, the pipe reads as ended.
  S().Until([&] { return S().seen[launch.id].started && !pipe.Ended(); }, "the process to hold the pipe");
  S().on_reaped = [&](AttemptId) { EXPECT_TRUE(pipe.Ended()) << "a process was still alive when the attempt was reaped"; };
  Touch(launch, "go");
  ExpectCode(launch.id, 0);
}

TEST_P(Conformance, CancelReachesEveryProcess) {
  NEEDS(processes, "there are no processes here");
  AttemptLaunch launch = Launch(Program().Hold("pipe").Forever());
  Pipe pipe(launch.places.output_dir + "/pipe");
  Submit(launch);
  S().Until([&] { return S().seen[launch.id].started && !pipe.Ended(); }, "the process to hold the pipe");
  S().on_reaped = [&](AttemptId) { EXPECT_TRUE(pipe.Ended()); };
  S().backend().Cancel(launch.id, 300);
  S().Finish(launch.id);
}

TEST_P(Conformance, StopLeavesNothingAliveAndSaysNothing) {
  std::vector<std::unique_ptr<Pipe>> pipes;
  for (int i = 0; i < 3; ++i) {
    AttemptLaunch launch = Launch(Program().IgnoreTerm().Hold("pipe").Touch("running").Forever());
    pipes.push_back(std::make_unique<Pipe>(launch.places.output_dir + "/pipe"));
    Submit(launch);
    S().Until([&] { return S().seen[launch.id].started && place->Has(launch, "running") && (!traits.processes || !pipes.back()->Ended()); }, "the start");
  }
  Submit(Program().Forever());  // this one may not have begun
  S().ForgetAll();
  S().backend().Stop();
  EXPECT_THAT(place->Remains(run_id), IsEmpty());
  for (const auto& pipe : pipes) {
    EXPECT_TRUE(pipe->Ended());
  }
  S().Idle(50);
}

TEST_P(Conformance, ABackendThatGoesAwayTakesItsAttemptsAlong) {
  const AttemptLaunch& launch = Start(Program().IgnoreTerm().Forever());
  (void)launch;
  S().ForgetAll();
  S().Drop();
  EXPECT_THAT(place->Remains(run_id), IsEmpty());
}

TEST_P(Conformance, ReleaseTakesTheDirectories) {
  const AttemptLaunch launch = Launch(Program().Write(Where::Output, "left", "x"));
  S().Finish(Submit(launch).id);
  S().backend().Release(launch.id, false);
  // Nobody may find the files of another attempt in a directory that was used before.
  const AttemptLaunch next = Launch(Program().Exit(0));
  EXPECT_FALSE(Exists(next.places.output_dir + "/left"));
  S().Finish(Submit(next).id);
}

// ---- more than one ----

TEST_P(Conformance, ManyAtOnce) {
  std::map<AttemptId, int> codes;
  for (int i = 0; i < (traits.costly ? 12 : 40); ++i) {
    codes[Submit(Program().Out("I am " + std::to_string(i)).Exit(i % 5)).id] = i;
  }
  for (auto [id, i] : codes) {
    ExpectCode(id, i % 5);
    EXPECT_EQ(S().Text(id), "I am " + std::to_string(i));
  }
}

TEST_P(Conformance, LargeIdsAreAsGoodAsSmallOnes) {
  ExpectCode(Submit(Launch(Program().Exit(4), (AttemptId{1} << 52) + 1)).id, 4);
}

TEST_P(Conformance, AFollowerBeginsAfterAGoodEnd) {
  const AttemptLaunch& first = Start(Program().Await("go"));
  AttemptLaunch second = Launch(Program().Out("second"));
  launches[second.id] = second;
  S().Expect(second.id);
  if (!S().backend().SubmitAfter(second, first.id, {})) {
    S().Forget(second.id);
    Touch(first, "go");
    ExpectCode(first.id, 0);
    S().Idle(30);
    GTEST_SKIP() << "this backend takes no attempts ahead of time";
  }
  Touch(first, "go");
  ExpectCode(first.id, 0);
  EXPECT_EQ(S().seen[first.id].next, second.id);
  ExpectCode(second.id, 0);
  EXPECT_EQ(S().Text(second.id), "second");
}

TEST_P(Conformance, AFollowerOfABadEndNeverBegins) {
  for (bool revoke : {false, true}) {
    const AttemptLaunch& first = Start(Program().Await("go").Exit(revoke ? 0 : 1));
    AttemptLaunch second = Launch(Program().Write(Where::Output, "began", "x"));
    S().Expect(second.id);
    if (!S().backend().SubmitAfter(second, first.id, {})) {
      S().Forget(second.id);
      Touch(first, "go");
      S().Finish(first.id);
      GTEST_SKIP() << "this backend takes no attempts ahead of time";
    }
    if (revoke) {
      S().backend().Revoke(second.id);
    }
    S().on_reaped = [&](AttemptId id) {
      if (id == first.id) {
        EXPECT_TRUE(S().seen[second.id].revoked) << "told before the end of the one it was to follow";
      }
    };
    Touch(first, "go");
    S().Finish(first.id);
    EXPECT_EQ(S().seen[first.id].next, 0u);
    EXPECT_TRUE(S().seen[second.id].revoked);
    EXPECT_FALSE(Exists(second.places.output_dir + "/began"));
    S().on_reaped = nullptr;
  }
}

// ---- the place goes away, or jobc does ----

TEST_P(Conformance, ALostPlaceIsToldOnce) {
  const AttemptLaunch& launch = Start(Program().Out("x").Forever());
  if (!place->Lose(launch.id, S().seen[launch.id].pid, S().seen[launch.id].handle)) {
    S().backend().Cancel(launch.id, 0);
    S().Finish(launch.id);
    GTEST_SKIP() << "this place cannot lose an attempt";
  }
  const Seen& one = S().Finish(launch.id);
  ASSERT_TRUE(one.failure) << S().Story();
  EXPECT_EQ(one.failure->kind, ir::ErrorKind::NodeLost);
  ExpectCode(Submit(Program().Exit(0)).id, 0);  // the others go on
}

TEST_P(Conformance, ASecondSubmissionThatFindsNothingIsAFirst) {
  AttemptLaunch launch = Launch(Program().Out("x"));
  launch.submission = 2;
  ExpectCode(Submit(launch).id, 0);
  EXPECT_EQ(S().Text(launch.id), "x");
}

/// Where an attempt is when the jobc that submitted it dies.
enum class Phase { Submitted, Started, Ended };

/// A jobc dies as by SIGKILL; then another one looks for what it had begun.
class Restart : public Conformance {
 protected:
  struct Left {
    AttemptLaunch launch;
    std::string handle;
  };

  /// As the engine of a resumed run: the directories are found, what was submitted is made again, the place is asked.
  AttachAnswer Find(Left& left, const Program& program) {
    auto places = S().backend().FindPlaces(left.launch.id, secret_files);
    if (!places) {
      return AttachAnswer::Gone;
    }
    EXPECT_EQ(places->output_dir, left.launch.places.output_dir) << "where they were";
    left.launch.places = *places;
    Complete(left.launch, program);
    return S().Attach(left.launch, left.handle);
  }

  /// Submits `program` as a jobc that dies at `phase`. All but the phase `Ended` leave the program at its first Await.
  Left DieAt(Phase phase, const Program& program) {
    // Runs to the phase, and calls `die` there, in the midst of the event: nothing more is heard or said.
    const auto live = [&](const std::function<void(AttemptId)>& die) {
      bool here = false;
      const auto reached = [&](AttemptId id) {
        here = true;
        if (phase != Phase::Started) die(id);
      };
      (phase == Phase::Submitted ? S().on_submitted : phase == Phase::Started ? S().on_started : S().on_ended) = reached;
      // Not every backend says that it has submitted: then the phase is over when it starts.
      if (phase == Phase::Submitted) S().on_started = reached;
      const AttemptLaunch& launch = Submit(program);
      if (phase == Phase::Ended) Touch(launch, "go");
      S().Until([&] { return here; }, "the phase in which to die");
      if (phase == Phase::Started) {
        S().Until([&] { return place->Has(launch, "running"); }, "its first steps");
        die(launch.id);
      }
      return launch.id;
    };
    if (traits.in_process) {
      const AttemptId id = live([&](AttemptId) {
        place->Crash();
        S().ForgetAll();
      });
      Left left{launches[id], S().seen[id].handle};
      again = {id};
      session.reset();
      return left;
    }
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      live([&](AttemptId id) {
        const AttemptPlaces& at = launches[id].places;
        const std::string text = S().seen[id].handle + '\n' + at.output_dir + '\n' + at.tmp_dir + '\n' + at.stage_dir + '\n' + std::to_string(id) + (HasFailure() ? "\nbad\n" : "\ngood\n");
        std::fflush(stdout);
        if (write(ends[1], text.data(), text.size()) < 0) _exit(1);
        kill(getpid(), SIGKILL);
      });
      _exit(1);
    }
    close(ends[1]);
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
    close(ends[0]);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    std::istringstream lines(text);
    Left left;
    std::string id, good;
    std::getline(lines, left.handle);
    std::getline(lines, left.launch.places.output_dir);
    std::getline(lines, left.launch.places.tmp_dir);
    std::getline(lines, left.launch.places.stage_dir);
    std::getline(lines, id);
    std::getline(lines, good);
    EXPECT_EQ(good, "good") << "the jobc that was to die failed before";
    left.launch.id = last_id = id.empty() ? 1 : std::stoull(id);
    again = {left.launch.id};
    left.launch.address = "a";
    left.launch.execution_id = run_id + "-" + std::to_string(left.launch.id);
    return left;
  }

  static Program Talking() { return Program().Out("before\n").Err("errors\n").Touch("running").Await("go").Out("after\n").Exit(5); }
};

TEST_P(Restart, AnAttemptIsFoundAgainAtEachPhase) {
  for (Phase phase : {Phase::Submitted, Phase::Started, Phase::Ended}) {
    SCOPED_TRACE(static_cast<int>(phase));
    Left left = DieAt(phase, Talking());
    if (!traits.survives) {
      EXPECT_EQ(Find(left, Talking()), AttachAnswer::Gone) << "nothing of it is left";
      S().Until([&] { return place->Remains(run_id).empty(); }, "the end of what the dead jobc had started");
      session.reset();
      continue;
    }
    const AttachAnswer answer = Find(left, Talking());
    if (phase == Phase::Submitted && answer == AttachAnswer::Gone) {
      // It had not begun, and now it never does.
      EXPECT_FALSE(Exists(left.launch.places.output_dir + "/running"));
      session.reset();
      EXPECT_THAT(place->Remains(run_id), IsEmpty());
      continue;
    }
    ASSERT_EQ(answer, AttachAnswer::Found) << left.handle;
    Touch(left.launch, "go");
    ExpectCode(left.launch.id, 5);
    EXPECT_EQ(S().Text(left.launch.id), "before\nafter\n") << "nothing lost, nothing twice";
    EXPECT_EQ(S().Errors(left.launch.id), "errors\n");
    session.reset();
  }
}

TEST_P(Restart, WhatEndedWhileNobodyLookedHasItsEnd) {
  NEEDS(survives, "attempts end with their jobc here");
  Left left = DieAt(Phase::Started, Talking());
  Touch(left.launch, "go");
  if (!traits.in_process) {
    // Long enough for a program that only waits for a file; the case holds also if it was not.
    S().Idle(300);
  }
  ASSERT_EQ(Find(left, Talking()), AttachAnswer::Found);
  ExpectCode(left.launch.id, 5);
  EXPECT_EQ(S().Text(left.launch.id), "before\nafter\n");
}

TEST_P(Restart, AnAttachedAttemptCanBeCancelled) {
  NEEDS(survives, "attempts end with their jobc here");
  Left left = DieAt(Phase::Started, Talking());
  ASSERT_EQ(Find(left, Talking()), AttachAnswer::Found);
  S().backend().Cancel(left.launch.id, 30'000);
  ExpectSignal(left.launch.id, SIGTERM);
}

TEST_P(Restart, ASecondSubmissionFindsTheFirst) {
  NEEDS(remembers, "nothing is asked for an execution id here");
  const Program program = Program().Append(Where::Output, "begun", "x").Touch("running").Await("go").Exit(6);
  Left left = DieAt(Phase::Started, program);
  if (auto places = S().backend().FindPlaces(left.launch.id, secret_files)) left.launch.places = *places;
  Complete(left.launch, program);
  left.launch.submission = 2;
  Submit(left.launch);
  Touch(left.launch, "go");
  ExpectCode(left.launch.id, 6);
  EXPECT_EQ(ReadAll(left.launch.places.output_dir + "/begun"), "x") << "its program began once";
}

TEST_P(Restart, WhatIsReapedIsNotFoundAgain) {
  Left left{Submit(Program().Exit(0)), ""};
  S().Finish(left.launch.id);
  left.handle = S().seen[left.launch.id].handle;
  session.reset();
  EXPECT_EQ(Find(left, Program()), AttachAnswer::Gone);
}

}  // namespace

// In the namespace of the cases, for their output to name the place first.
#define JOBC_PLACE(name, make)                                                                                            \
  INSTANTIATE_TEST_SUITE_P(name, Conformance, ::testing::Values(PlaceParam{#name, make}), [](const auto&) { return #name; }); \
  INSTANTIATE_TEST_SUITE_P(name, Restart, ::testing::Values(PlaceParam{#name, make}), [](const auto&) { return #name; })

JOBC_PLACE(Virtual, MakeVirtualPlace);
JOBC_PLACE(Process, MakeProcessPlace);
JOBC_PLACE(Docker, MakeDockerPlace);
JOBC_PLACE(Podman, MakePodmanPlace);

}  // namespace jobc::conformance
