// What an attempt is started with where the job sees its directories at other paths than jobc: argv, environment,
// inputs.json, scripts, mounts; and the way back, from paths a job reports to files of this machine. A whole run goes
// through mounts in a namespace of its own.
#include <fmt/format.h>

#include <cstdlib>

#include "compiler/script/script.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/mounts.h"
#include "runtime/environment.h"
#include "runtime/reproduce.h"
#include "runtime/results.h"
#include "tests/engine/run_fixture.h"

namespace jobc {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using testing::Exists;
using testing::PlanBuilder;
using testing::ReadAll;
using testing::TempDir;

class Places : public ::testing::Test {
 protected:
  Places() {
    for (const char* name : {"run", "a/out", "a/tmp", "secrets/1", "src"}) {
      (void)process::MakeDirectories(dir / name).ok();
    }
    dir.Write("src/table.csv", "x,y\n");
    dir.Write("src/ref/chr1.fa", "ACGT");
    JOBC_CHECK(symlink("table.csv", (dir / "src/link.csv").c_str()) == 0);
    job = b.Job("align");
    places = {dir / "a/out", dir / "a/tmp", dir / "a/stage", dir / "secrets/1"};
  }

  ir::TypeId File() { return b.Type(ir::TypeKind::File); }
  ir::ExprId SourceFile(const std::string& path, bool is_dir = false) {
    ir::FileValue file;
    file.base = ir::FileBase::Source;
    file.path = path;
    file.is_dir = is_dir;
    return b.exprs().Constant(b.Type(is_dir ? ir::TypeKind::Dir : ir::TypeKind::File), ir::Value::File(file));
  }
  ir::ExprId InputRef(uint32_t index, ir::TypeId type) { return b.exprs().Add(ir::Op::Input, type, {}, {}, index); }
  ir::ExprId OutputRef(uint32_t index, ir::TypeId type) { return b.exprs().Add(ir::Op::OutputPath, type, {}, {}, index); }
  void RunWords(std::initializer_list<ir::ExprId> words) {
    b[job].run = b.exprs().Add(ir::Op::List, b.types().List(b.Type(ir::TypeKind::String)), words);
  }

  void InImage() {
    places.seen.emplace();
    places.inputs = InputStaging::Mount;
    b[job].backend.kind = ir::BackendKind::Docker;
    b[job].image = b.Str("debian:12");
  }

  LaunchBuilder::Prepared Build() {
    state = std::make_unique<RunState>(b.plan, "r1");
    world = std::make_unique<World>(b.plan, Roots{dir / "src", dir / "src"}, std::vector<std::string>{"hunter2"});
    world->SetTextsDir(dir / "run/texts");
    evaluators.clear();
    for (int i = 0; i < 3; ++i) evaluators.push_back(std::make_unique<ir::Evaluator>(b.plan.program));
    context = std::make_unique<AttemptContext>(*state, *world, *evaluators[1], InstanceRef{job, 0});
    context->SetPathEvaluator(evaluators[2].get());
    builder = std::make_unique<LaunchBuilder>(b.plan, "r1", dir / "run");
    StartAttempt start;
    start.id = 7;
    start.instance = {job, 0};
    return builder->Build(start, places, *evaluators[0], *context);
  }

  static std::string Env(const LaunchBuilder::Prepared& prepared, const std::string& name) {
    for (const std::string& entry : prepared.launch.env) {
      if (entry.compare(0, name.size() + 1, name + "=") == 0) return entry.substr(name.size() + 1);
    }
    return "(unset)";
  }

  TempDir dir;
  PlanBuilder b;
  uint32_t job = 0;
  AttemptPlaces places;
  std::unique_ptr<RunState> state;
  std::unique_ptr<World> world;
  std::vector<std::unique_ptr<ir::Evaluator>> evaluators;
  std::unique_ptr<AttemptContext> context;
  std::unique_ptr<LaunchBuilder> builder;
};

TEST_F(Places, InAnImageEverythingTheJobReadsNamesWhatItSees) {
  InImage();
  b[job].inputs.push_back({"table", File(), SourceFile("link.csv"), false});
  b[job].inputs.push_back({"ref", b.Type(ir::TypeKind::Dir), SourceFile("ref", true), false});
  b.AddOutput(job, "bam", File());
  b[job].outputs[0].kind = ir::OutputKind::Path;
  b[job].outputs[0].value = b.Str("deep/x.bam");
  b[job].env.push_back({"TABLE", InputRef(0, File()), File()});
  RunWords({b.Str("tool"), InputRef(0, File()), InputRef(1, b.Type(ir::TypeKind::Dir)), OutputRef(0, File())});
  const auto prepared = Build();
  ASSERT_TRUE(prepared.ok) << prepared.failure.message;
  const AttemptLaunch& launch = prepared.launch;
  EXPECT_THAT(launch.argv, ElementsAre("tool", "/jobc/stage/in/table/link.csv", "/jobc/stage/in/ref/ref", "/jobc/out/deep/x.bam"));
  EXPECT_EQ(Env(prepared, "TABLE"), "/jobc/stage/in/table/link.csv");
  EXPECT_EQ(Env(prepared, "JOB_INPUT"), "/jobc/stage/in");
  EXPECT_EQ(Env(prepared, "INPUT_PATH"), "/jobc/stage/in");
  EXPECT_EQ(Env(prepared, "JOB_OUTPUT"), "/jobc/out");
  EXPECT_EQ(Env(prepared, "OUTPUT_PATH"), "/jobc/out");
  EXPECT_EQ(Env(prepared, "JOB_RESULT"), "/jobc/stage/result.json");
  EXPECT_EQ(Env(prepared, "TMPDIR"), "/jobc/tmp");
  EXPECT_EQ(Env(prepared, "HOME"), "/jobc/tmp");
  EXPECT_EQ(launch.image, "debian:12");
  EXPECT_EQ(ReadAll(dir / "a/stage/in/inputs.json"), "{\"table\":\"/jobc/stage/in/table/link.csv\",\"ref\":\"/jobc/stage/in/ref/ref\"}\n");
  // The placeholders are there, empty; the sources are free of links.
  struct stat info;
  ASSERT_EQ(lstat((dir / "a/stage/in/table/link.csv").c_str(), &info), 0);
  EXPECT_TRUE(S_ISREG(info.st_mode) && info.st_size == 0);
  ASSERT_EQ(lstat((dir / "a/stage/in/ref/ref").c_str(), &info), 0);
  EXPECT_TRUE(S_ISDIR(info.st_mode));
  EXPECT_TRUE(Exists(dir / "a/out/deep"));
  EXPECT_THAT(launch.mounts, ElementsAre(Mount{dir / "a/out", "/jobc/out", false}, Mount{dir / "a/tmp", "/jobc/tmp", false}, Mount{dir / "a/stage", "/jobc/stage", false},
                                         Mount{dir / "secrets/1", "/jobc/secrets", true}, Mount{dir / "a/stage/in", "/jobc/stage/in", true},
                                         Mount{dir / "src/table.csv", "/jobc/stage/in/table/link.csv", true}, Mount{dir / "src/ref", "/jobc/stage/in/ref/ref", true}));
  EXPECT_EQ(prepared.result_path, dir / "a/stage/result.json");
  ASSERT_EQ(prepared.identities.size(), 2u);
  EXPECT_EQ(prepared.identities[0].path, dir / "src/link.csv");
}

TEST_F(Places, AnImagesOwnProgramFindsFilesByTheirNames) {
  InImage();
  b[job].action = ir::ActionKind::ImageArgs;
  b[job].inputs.push_back({"table", File(), SourceFile("table.csv"), false});
  b[job].inputs.push_back({"ref", b.Type(ir::TypeKind::Dir), SourceFile("ref", true), false});
  ir::FileValue text;
  std::string why;
  ASSERT_TRUE(ir::MakeTextFile("config.json", "{}\n", text, why));
  b[job].inputs.push_back({"config", File(), b.exprs().Constant(File(), ir::Value::File(text)), false});
  RunWords({b.Str("--all")});
  auto prepared = Build();
  ASSERT_TRUE(prepared.ok) << prepared.failure.message;
  const auto link = [&](const std::string& name) {
    char target[256];
    const ssize_t size = readlink((dir / ("a/stage/in/" + name)).c_str(), target, sizeof target);
    return std::string(target, size < 0 ? 0 : static_cast<size_t>(size));
  };
  EXPECT_EQ(link("table.csv"), "table/table.csv");
  EXPECT_EQ(link("config.json"), "config/config.json");
  EXPECT_FALSE(Exists(dir / "a/stage/in/ref/chr1.fa"));
  // Made once, by its content, for all attempts.
  const std::string made = dir / ("run/texts/" + text.sha256.substr(0, 32) + "/config.json");
  EXPECT_EQ(ReadAll(made), "{}\n");
  EXPECT_THAT(prepared.launch.mounts, Contains(Mount{made, "/jobc/stage/in/config/config.json", true}));
  EXPECT_EQ(ReadAll(dir / "a/stage/in/inputs.json"),
            "{\"table\":\"/jobc/stage/in/table/table.csv\",\"ref\":\"/jobc/stage/in/ref/ref\",\"config\":\"/jobc/stage/in/config/config.json\"}\n");
}

TEST_F(Places, TwoFilesOfOneNameCannotBothBeSeen) {
  InImage();
  b[job].action = ir::ActionKind::ImageArgs;
  b[job].inputs.push_back({"one", File(), SourceFile("table.csv"), false});
  b[job].inputs.push_back({"two", File(), SourceFile("table.csv"), false});
  RunWords({b.Str("--all")});
  const auto prepared = Build();
  ASSERT_FALSE(prepared.ok);
  EXPECT_EQ(prepared.failure.kind, ir::ErrorKind::Staging);
  EXPECT_TRUE(prepared.failure.no_retry);
  EXPECT_THAT(prepared.failure.message, HasSubstr("`table.csv` in $INPUT_PATH"));
}

TEST_F(Places, MountsAreToldByName) {
  InImage();
  const auto option = ir::ParseJson(R"({"data":{"read_only":true,"source":"/srv","target":"/data","type":"bind"},"pip":{"read_only":false,"source":"cache","target":"/c","type":"volume"}})");
  b[job].backend.options.push_back({"mounts", b.exprs().Constant(b.types().Map(b.Type(ir::TypeKind::String), b.Type(ir::TypeKind::Json)), *option)});
  RunWords({b.Str("tool")});
  const auto prepared = Build();
  ASSERT_TRUE(prepared.ok);
  EXPECT_EQ(Env(prepared, "JOB_MOUNT_data"), "/data");
  EXPECT_EQ(Env(prepared, "JOB_MOUNT_pip"), "/c");
  const auto mounts = ir::MountsOf(b[job], *evaluators[0], *context);
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].source, "/srv");
  EXPECT_TRUE(mounts[0].read_only && !mounts[0].volume);
  EXPECT_TRUE(!mounts[1].read_only && mounts[1].volume);
}

TEST_F(Places, OnThisMachineEverythingIsAsItLies) {
  b[job].inputs.push_back({"table", File(), SourceFile("table.csv"), false});
  RunWords({b.Str("tool"), InputRef(0, File())});
  const auto prepared = Build();
  ASSERT_TRUE(prepared.ok) << prepared.failure.message;
  EXPECT_THAT(prepared.launch.argv, ElementsAre("tool", dir / "a/stage/in/table/table.csv"));
  EXPECT_EQ(Env(prepared, "JOB_OUTPUT"), dir / "a/out");
  EXPECT_EQ(Env(prepared, "PATH"), "/usr/local/bin:/usr/bin:/bin");
  EXPECT_EQ(Env(prepared, "LANG"), "C.UTF-8");
  EXPECT_EQ(Env(prepared, "TMPDIR"), dir / "a/tmp");
  EXPECT_THAT(prepared.launch.mounts, IsEmpty());
  EXPECT_EQ(prepared.launch.image, "");
  EXPECT_EQ(ReadAll(dir / "a/stage/in/table/table.csv"), "x,y\n");
}

TEST_F(Places, AnImageKeepsItsEnvironment) {
  InImage();
  RunWords({b.Str("tool")});
  auto prepared = Build();
  ASSERT_TRUE(prepared.ok);
  std::vector<std::string> names;
  for (const std::string& entry : prepared.launch.env) names.push_back(entry.substr(0, entry.find('=')));
  EXPECT_THAT(names, ElementsAre("HOME", "TMPDIR", "JOB_NAME", "JOB_ATTEMPT", "JOB_RUN_ID", "JOB_EXECUTION_ID", "JOB_INPUT", "JOB_OUTPUT", "JOB_RESULT", "INPUT_PATH",
                                 "OUTPUT_PATH", "EXECUTION_ID", "JOB_KEY"));
  EXPECT_EQ(ReadAll(dir / "a/stage/in/inputs.json"), "{}\n");
  // What is declared wins, and is there once.
  (void)process::RemoveTree(dir / "a/stage").ok();
  b[job].env.push_back({"HOME", b.Str("/root"), b.Type(ir::TypeKind::String)});
  b[job].env.push_back({"PATH", b.Str("/opt/bin"), b.Type(ir::TypeKind::String)});
  prepared = Build();
  EXPECT_EQ(Env(prepared, "HOME"), "/root");
  EXPECT_EQ(Env(prepared, "PATH"), "/opt/bin");
  EXPECT_THAT(prepared.launch.env, Not(Contains("HOME=/jobc/tmp")));
}

TEST_F(Places, ScriptsAndSecretsLieWhereTheJobSeesThem) {
  InImage();
  script::Template source;
  source.text = "echo \n";
  source.holes.push_back({script::HoleKind::Text, false, false, 5, "params.name"});
  const script::Lowered lowered = script::Lower(source);
  ir::Script script;
  script.interpreter = static_cast<uint8_t>(script::Interpreter::Sh);
  script.text = lowered.text;
  script.lowered = script::EncodeBindings(lowered);
  script.bindings.push_back({b.Str(std::string(70'000, 'x')), b.Type(ir::TypeKind::String), false, 0});
  b[job].script = script;
  b[job].action = ir::ActionKind::Script;
  b.plan.program.secrets.push_back({"pw", ir::SecretCarrier::Env, "PW"});
  b[job].secret_files.push_back({"pw", b.exprs().Add(ir::Op::Secret, b.Type(ir::TypeKind::Secret), {}, {}, 0)});
  const auto prepared = Build();
  ASSERT_TRUE(prepared.ok) << prepared.failure.message;
  EXPECT_EQ(Env(prepared, "JOB_SECRETS"), "/jobc/secrets");
  EXPECT_EQ(ReadAll(dir / "secrets/1/pw"), "hunter2");
  bool named = false;
  auto look = [&](const std::string& text) {
    EXPECT_THAT(text, Not(HasSubstr(dir.path())));
    named = named || text.find("/jobc/stage/private/") != std::string::npos;
  };
  for (const std::string& word : prepared.launch.argv) look(word);
  for (const std::string& entry : prepared.launch.env) look(entry);
  EXPECT_TRUE(named) << "a value of that size is read from a private file";
  EXPECT_TRUE(Exists(dir / "a/stage/private"));
}

TEST_F(Places, ImageArgsNeedNoCommandAndOptionsAreValues) {
  InImage();
  b[job].action = ir::ActionKind::ImageArgs;
  b[job].run = b.exprs().Constant(b.types().List(b.Type(ir::TypeKind::String)), ir::Value::List({}));
  b[job].backend.options = {{"network", b.Str("none")}, {"user", b.exprs().Constant(b.types().Optional(b.Type(ir::TypeKind::String)), ir::Value())}};
  const auto prepared = Build();
  ASSERT_TRUE(prepared.ok) << prepared.failure.message;
  EXPECT_TRUE(prepared.launch.image_args);
  EXPECT_THAT(prepared.launch.argv, IsEmpty());
  ASSERT_EQ(prepared.launch.options.size(), 1u);
  EXPECT_EQ(prepared.launch.options[0].first, "network");
  EXPECT_EQ(prepared.launch.options[0].second.as_string(), "none");
}

TEST_F(Places, AFailedAttemptCanBeRunAgainByHand) {
  InImage();
  b[job].inputs.push_back({"table", File(), SourceFile("table.csv"), false});
  RunWords({b.Str("tool"), InputRef(0, File()), b.Str("a b")});
  const auto prepared = Build();
  ASSERT_TRUE(prepared.ok);
  const std::string script = ReproduceScript(prepared.launch, b[job], b.types(), Masker());
  EXPECT_THAT(script, HasSubstr("exec docker run --rm -i $terminal"));
  EXPECT_THAT(script, HasSubstr("-w /jobc/out"));
  EXPECT_THAT(script, HasSubstr("-v " + dir / "a/out:/jobc/out"));
  EXPECT_THAT(script, HasSubstr("-v " + dir / "src/table.csv:/jobc/stage/in/table/table.csv:ro"));
  EXPECT_THAT(script, HasSubstr("-e JOB_OUTPUT=/jobc/out"));
  EXPECT_THAT(script, HasSubstr("--entrypoint tool \\\n  debian:12 /jobc/stage/in/table/table.csv 'a b'"));
  EXPECT_THAT(script, HasSubstr("--entrypoint \"$program\" debian:12 \"$@\"")) << "another command in the same container";
  EXPECT_THAT(script, Not(HasSubstr("jobc/secrets")));
  b[job].backend.kind = ir::BackendKind::Podman;
  EXPECT_THAT(ReproduceScript(prepared.launch, b[job], b.types(), Masker()), HasSubstr("exec podman run --rm"));
  b[job].backend.kind = ir::BackendKind::Apptainer;
  const std::string by_tool = ReproduceScript(prepared.launch, b[job], b.types(), Masker());
  EXPECT_THAT(by_tool, HasSubstr("\"$tool\" exec --contain --cleanenv --no-home"));
  EXPECT_THAT(by_tool, HasSubstr("\"$p\"JOB_OUTPUT=/jobc/out"));
  EXPECT_THAT(by_tool, HasSubstr("docker://debian:12 \\\n  tool /jobc/stage/in/table/table.csv 'a b'"));
  // Scripts that a shell takes.
  dir.Write("again.sh", by_tool);
  EXPECT_EQ(std::system(("sh -n " + dir / "again.sh").c_str()), 0);
  dir.Write("again.sh", script);
  EXPECT_EQ(std::system(("sh -n " + dir / "again.sh").c_str()), 0);
}

TEST_F(Places, PathsThatTheJobReportsAreFoundOnThisMachine) {
  InImage();
  b[job].inputs.push_back({"table", File(), SourceFile("table.csv"), false});
  b.AddOutput(job, "made", File());
  b.AddOutput(job, "relative", File());
  b.AddOutput(job, "size", b.Type(ir::TypeKind::Bytes));
  b[job].outputs[2].kind = ir::OutputKind::Expr;
  b[job].outputs[2].value = b.Call(ir::Builtin::size, b.Type(ir::TypeKind::Bytes), {InputRef(0, File())});
  b.AddOutput(job, "passed_on", File());
  b[job].outputs[3].kind = ir::OutputKind::Expr;
  b[job].outputs[3].value = InputRef(0, File());
  RunWords({b.Str("tool")});
  auto prepared = Build();
  ASSERT_TRUE(prepared.ok) << prepared.failure.message;
  dir.Write("a/out/sub/x.txt", "made");
  dir.Write("a/stage/result.json", R"({"made": "/jobc/out/sub/x.txt", "relative": "sub/x.txt"})");
  class NoLogs : public LogSource {
    Result<LogText> ReadAll(LogStream) override { return LogText{}; }
  } logs;
  context->SetEnded(&logs, 0);
  CollectRequest request{places.output_dir, "/jobc/out", prepared.result_path, false, dir / "run", "outputs/align"};
  auto collected = CollectOutputs(b.plan, job, request, *evaluators[0], *context, Masker());
  ASSERT_TRUE(collected.verdict.success) << collected.verdict.message;
  EXPECT_EQ(collected.outputs[0].as_file().path, "outputs/align/sub/x.txt");
  EXPECT_EQ(collected.outputs[1].as_file().path, "outputs/align/sub/x.txt");
  EXPECT_EQ(collected.outputs[2].as_int(), 4);
  EXPECT_EQ(collected.outputs[3].as_file().location, dir / "src/table.csv");
  // What only looks like the output directory is outside of it.
  dir.Write("a/stage/result.json", R"({"made": "/jobc/output/x.txt", "relative": "sub/x.txt"})");
  collected = CollectOutputs(b.plan, job, request, *evaluators[0], *context, Masker());
  EXPECT_FALSE(collected.verdict.success);
  EXPECT_THAT(collected.verdict.message, HasSubstr("outside the output directory"));
}

/// The process backend, but each attempt sees its directories elsewhere: in a mount namespace of its own.
class NamespaceBackend : public Backend {
 public:
  NamespaceBackend(std::unique_ptr<Backend> inner, std::string root) : inner_(std::move(inner)), root_(std::move(root)) {}
  Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override {
    auto places = inner_->Prepare(id, secrets);
    if (places) {
      places->seen = SeenPlaces{root_ + "/out", root_ + "/tmp", root_ + "/stage", root_ + "/secrets"};
      places->inputs = InputStaging::Mount;
    }
    return places;
  }
  void Submit(const AttemptLaunch& launch) override {
    AttemptLaunch changed = launch;
    std::string script;
    for (const Mount& mount : launch.mounts) {
      script += fmt::format("mount --bind '{}' '{}' && ", mount.source, mount.target);
      if (mount.read_only) script += fmt::format("mount -o remount,bind,ro '{}' && ", mount.target);
    }
    script += fmt::format("cd '{}/out' && exec \"$@\"", root_);
    changed.argv = {"unshare", "-rm", "sh", "-ec", script, "sh"};
    changed.argv.insert(changed.argv.end(), launch.argv.begin(), launch.argv.end());
    changed.env.push_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
    inner_->Submit(changed);
  }
  void Cancel(AttemptId id, int64_t grace_ms) override { inner_->Cancel(id, grace_ms); }
  bool Withdraw(AttemptId id) override { return inner_->Withdraw(id); }
  void Attach(const AttemptLaunch&, const std::string&) override {}
  void Release(AttemptId id, bool keep) override { inner_->Release(id, keep); }
  void RemoveLater(const std::string& path) override { inner_->RemoveLater(path); }
  uint64_t LastOutput(AttemptId id) const override { return inner_->LastOutput(id); }
  void Stop() override { inner_->Stop(); }

 private:
  std::unique_ptr<Backend> inner_;
  std::string root_;
};

class PlacesRun : public testing::RunTest {};

TEST_F(PlacesRun, AWholeRunGoesThroughMounts) {
  if (std::system("unshare -rm sh -c 'mount -t tmpfs x /mnt' 2>/dev/null") != 0) {
    GTEST_SKIP() << "this user may not make mount namespaces";
  }
  for (const char* name : {"seen/out", "seen/tmp", "seen/stage", "seen/secrets"}) {
    ASSERT_TRUE(process::MakeDirectories(dir / name).ok());
  }
  dir.Write("src/table.csv", "one\ntwo\n");
  const std::string root = dir / "seen";
  backends = [root](ir::BackendKind kind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> {
    auto inner = MakeBackend(kind, host);
    if (!inner) return inner.error();
    return std::unique_ptr<Backend>(new NamespaceBackend(*std::move(inner), root));
  };
  ir::FileValue file;
  file.base = ir::FileBase::Source;
  file.path = "table.csv";
  const uint32_t count = Sh("count", R"SH(
    test "$PWD" = "$JOB_OUTPUT" && test "$TMPDIR" = "$(dirname "$PWD")/tmp"
    if echo x >> "$JOB_INPUT/table/table.csv"; then exit 9; fi 2> /dev/null
    mkdir sub && wc -l < "$JOB_INPUT/table/table.csv" > sub/lines
    printf '{"n": %d, "file": "%s/sub/lines"}' "$(cat sub/lines)" "$PWD" > "$JOB_RESULT")SH");
  b[count].inputs.push_back({"table", File(), b.exprs().Constant(File(), ir::Value::File(file)), false});
  Output(count, "n", Int(), ir::OutputKind::Json);
  Output(count, "file", File(), ir::OutputKind::Json);
  const uint32_t use = Sh("use", R"SH(cp "$JOB_INPUT/lines/lines" copy; printf '{"text": "%s"}' "$(cat copy)" > "$OUTPUT_PATH/smartjob.json")SH");
  b[use].inputs.push_back({"lines", File(), b.Output(count, 1, File()), false});
  Output(use, "text", String(), ir::OutputKind::Json);
  b.Needs(use, count);
  Export("n", Int(), b.Output(count, 0, Int()));
  Export("text", String(), b.Output(use, 0, String()));
  const RunOutcome out = Run();
  for (const FailureReport& failure : watcher.failures) ADD_FAILURE() << failure.address << ": " << failure.message << ::testing::PrintToString(failure.stderr_lines);
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"n":2,"text":"2"})");
  EXPECT_EQ(ReadAll(dir / "src/table.csv"), "one\ntwo\n");
}

}  // namespace
}  // namespace jobc
