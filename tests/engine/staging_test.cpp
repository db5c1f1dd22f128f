// The staging phase through the whole engine, with remote files that come when the test says so, or never.
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <utility>

#include "runtime/process/os.h"
#include "runtime/remote_files.h"
#include "runtime/staged.h"
#include "tests/engine/run_fixture.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::RunTest;

/// What the test wants and what it saw; outlives the remote files.
struct Script {
  std::map<std::string, std::string> here;           ///< by URI
  std::map<std::string, std::string> come;           ///< on the next turn of the loop
  std::map<std::string, RemoteFailure> fail;         ///< the first time it is wanted
  std::vector<std::vector<std::string>> wanted;
  std::vector<RemoteFiles::Ticket> dropped;
  std::vector<std::pair<std::string, size_t>> published;
  std::optional<RemoteFailure> publish_fails;
};

class Slow : public RemoteFiles {
 public:
  Slow(Script& script, uv_loop_t* loop) : script_(script) {
    timer_ = new uv_timer_t;
    uv_timer_init(loop, timer_);
    timer_->data = this;
  }
  ~Slow() override {
    uv_close(reinterpret_cast<uv_handle_t*>(timer_), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
  }
  std::string Find(const RemoteFile& file) override {
    auto found = script_.here.find(file.uri);
    return found == script_.here.end() ? "" : found->second;
  }
  Ticket Want(const std::vector<RemoteFile>& files, Done done) override {
    std::vector<std::string>& uris = script_.wanted.emplace_back();
    for (const RemoteFile& file : files) uris.push_back(file.uri);
    waiting_.push_back({++last_, uris, std::move(done)});
    Soon();
    return last_;
  }
  void Drop(Ticket ticket) override {
    script_.dropped.push_back(ticket);
    std::erase_if(waiting_, [&](const Waiting& one) { return one.ticket == ticket; });
  }
  Ticket PublishTo(const std::string& destination, std::vector<PublishItem> items, bool, Done done) override {
    script_.published.emplace_back(destination, items.size());
    publishing_ = std::move(done);
    Soon();
    return ++last_;
  }
  Ticket StageTo(const StagedSet&, Done) override { return ++last_; }

 private:
  struct Waiting {
    Ticket ticket;
    std::vector<std::string> uris;
    Done done;
  };
  void Soon() {
    uv_timer_start(timer_, [](uv_timer_t* timer) { static_cast<Slow*>(timer->data)->Answer(); }, 0, 0);
  }
  void Answer() {
    if (publishing_) std::exchange(publishing_, nullptr)(script_.publish_fails);
    for (Waiting& one : std::exchange(waiting_, {})) {
      std::optional<RemoteFailure> failure;
      bool all = true;
      for (const std::string& uri : one.uris) {
        if (auto fails = script_.fail.find(uri); fails != script_.fail.end()) {
          failure = fails->second;
          script_.fail.erase(fails);
        }
        if (auto comes = script_.come.find(uri); comes != script_.come.end()) {
          script_.here[uri] = comes->second;
        } else {
          all = false;
        }
      }
      if (failure || all) {
        one.done(failure);
      } else {
        waiting_.push_back(std::move(one));
      }
    }
  }
  Script& script_;
  uv_timer_t* timer_;
  Ticket last_ = 0;
  std::vector<Waiting> waiting_;
  Done publishing_;
};

class Staging : public RunTest {
 protected:
  Staging() {
    std::ofstream(dir / "content") << "far away\n";
    remote_files = [this](const RemoteFilesHost& host) -> Result<std::unique_ptr<RemoteFiles>> { return std::unique_ptr<RemoteFiles>(std::make_unique<Slow>(script, host.loop)); };
  }
  /// A job that reads `uri`.
  uint32_t Reader(const std::string& name, const std::string& uri) {
    uint32_t job = Sh(name, "cat $JOB_INPUT/data/*");
    ir::FileValue file;
    file.base = ir::FileBase::Uri;
    file.path = uri;
    b[job].inputs.push_back({"data", File(), b.exprs().Constant(File(), ir::Value::File(file)), false});
    Output(job, "text", String(), ir::OutputKind::Expr, b.exprs().Add(ir::Op::Stdout, String()));
    return job;
  }
  size_t Count(RunEventKind kind) {
    return static_cast<size_t>(std::count_if(watcher.events.begin(), watcher.events.end(), [&](const RunEvent& e) { return e.kind == kind; }));
  }
  Script script;
};

TEST_F(Staging, BringsAnInputBeforeTheAttempt) {
  uint32_t job = Reader("a", "https://h/data.txt");
  Export("text", String(), b.Output(job, 0, String()));
  script.come["https://h/data.txt"] = dir / "content";
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(out.exports, R"({"text":"far away\n"})");
  EXPECT_THAT(script.wanted, ElementsAre(ElementsAre("https://h/data.txt")));
  ASSERT_EQ(Count(RunEventKind::Staging), 1u);
  size_t staging = 0, submitting = 0;
  for (size_t i = 0; i < watcher.events.size(); ++i) {
    if (watcher.events[i].kind == RunEventKind::Staging) staging = i;
    if (watcher.events[i].kind == RunEventKind::Submitting) submitting = i;
  }
  EXPECT_LT(staging, submitting);
  EXPECT_EQ(watcher.events[staging].text, "`https://h/data.txt`");
}

TEST_F(Staging, WaitsForNothingThatIsHere) {
  Reader("a", "https://h/data.txt");
  script.here["https://h/data.txt"] = dir / "content";
  EXPECT_EQ(Run().exit_code, 0);
  EXPECT_THAT(script.wanted, IsEmpty());
  EXPECT_EQ(Count(RunEventKind::Staging), 0u);
}

TEST_F(Staging, HasALimitOfItsOwn) {
  uint32_t job = Reader("a", "https://h/never");
  b[job].timeout.stage = b.Ms(30);
  b[job].timeout.run = b.Ms(3'600'000);
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_THAT(out.message, HasSubstr("the input `https://h/never` is not here after 30ms; give it longer with `timeout { stage = … }`"));
  EXPECT_EQ(script.dropped.size(), 1u);
  ASSERT_NE(engine->state().verdict({0, 0}), nullptr);
  EXPECT_EQ(engine->state().verdict({0, 0})->kind, ir::ErrorKind::Staging);
  EXPECT_EQ(Count(RunEventKind::Started), 0u);
}

TEST_F(Staging, IsEndedByACancel) {
  Reader("a", "https://h/never");
  watcher.on_event = [this](const RunEvent& event) {
    if (event.kind == RunEventKind::Staging) engine->Interrupt("the test");
  };
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 130);
  EXPECT_EQ(engine->state().state({0, 0}), InstanceState::Cancelled);
  EXPECT_EQ(script.dropped.size(), 1u);
}

TEST_F(Staging, IsEndedWhenTheRunStartsNothingNew) {
  Reader("a", "https://h/never");
  Sh("bad", "exit 1");
  options.max_parallel = 2;
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_EQ(engine->state().state({0, 0}), InstanceState::Cancelled);
}

TEST_F(Staging, IsEndedByHalt) {
  Reader("a", "https://h/never");
  uint32_t bad = Sh("bad", "exit 1");
  b[bad].on_error = ir::Strategy::Halt;
  options.max_parallel = 2;
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_EQ(engine->state().state({0, 0}), InstanceState::Cancelled);
}

TEST_F(Staging, HoldsItsPlace) {
  Reader("a", "https://h/data.txt");
  Sh("other", "true");
  options.max_parallel = 1;
  watcher.on_event = [this](const RunEvent& event) {
    if (event.kind == RunEventKind::Staging) {
      EXPECT_EQ(engine->state().count(1, InstanceState::Running), 0u);
    }
  };
  script.come["https://h/data.txt"] = dir / "content";
  EXPECT_EQ(Run().exit_code, 0);
}

TEST_F(Staging, IsTriedAgainWhereThatMayHelp) {
  uint32_t job = Reader("a", "https://h/data.txt");
  b.Retry(job, 3, {testing::OnKind(ir::ErrorKind::Network)});
  script.fail["https://h/data.txt"] = {ir::ErrorKind::Network, "cannot read `https://h/data.txt`: cut", false};
  script.come["https://h/data.txt"] = dir / "content";
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  EXPECT_EQ(engine->state().attempts({0, 0}), 2u);
}

TEST_F(Staging, IsNotTriedAgainWhereOnlyAPersonCanHelp) {
  uint32_t job = Reader("a", "s3://bucket/x");
  b.Retry(job, 3, {testing::OnClass(ir::ErrorClass::System)});
  script.fail["s3://bucket/x"] = {ir::ErrorKind::Auth, "`s3://bucket/x`: the secret key is wrong", true};
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_THAT(out.message, HasSubstr("the secret key is wrong"));
  EXPECT_EQ(engine->state().attempts({0, 0}), 1u);
  EXPECT_EQ(engine->state().verdict({0, 0})->kind, ir::ErrorKind::Auth);
}

TEST_F(Staging, SaysWhereThereIsNone) {
  Reader("a", "https://h/data.txt");
  remote_files = [](const RemoteFilesHost&) -> Result<std::unique_ptr<RemoteFiles>> { return Error{"libcurl is not installed (Debian: apt install libcurl4)"}; };
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_THAT(out.message, HasSubstr("`https://h/data.txt` cannot be fetched: libcurl is not installed"));
}

TEST_F(Staging, PublishesToABucket) {
  uint32_t job = Sh("a", "echo hi > f.txt");
  uint32_t file = Output(job, "f", File(), ir::OutputKind::Path, b.exprs().Constant(String(), ir::Value::String("f.txt")));
  ir::Publish publish;
  publish.destination = "s3://bucket/results";
  publish.entries.push_back({b.exprs().Constant(String(), ir::Value::String("f.txt")), b.Output(job, file, File()), File(), {}});
  b.plan.publishes.push_back(publish);
  EXPECT_EQ(Run().exit_code, 0);
  EXPECT_THAT(script.published, ElementsAre(std::pair(std::string("s3://bucket/results"), size_t{1})));
  script.publish_fails = RemoteFailure{ir::ErrorKind::Publish, "the bucket is gone", false};
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 10);
  EXPECT_THAT(out.message, HasSubstr("publish \"s3://bucket/results\": the bucket is gone"));
}

TEST_F(Staging, LargeOutputsAreKeptBesideTheLoop) {
  uint32_t job = Sh("a", "mkdir d; head -c 3000000 /dev/zero > d/big; ln -s big d/link");
  uint32_t out_dir = Output(job, "d", b.Type(ir::TypeKind::Dir), ir::OutputKind::Path, b.exprs().Constant(String(), ir::Value::String("d")));
  (void)out_dir;
  RunOutcome out = Run();
  EXPECT_EQ(out.exit_code, 0) << out.message;
  struct stat info;
  EXPECT_EQ(stat((out.run_dir + "/outputs/a/d/big").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 3'000'000);
  EXPECT_EQ(lstat((out.run_dir + "/outputs/a/d/link").c_str(), &info), 0);
  EXPECT_TRUE(S_ISREG(info.st_mode));
}

// -- What stays at `staging` --------------------------------------------------------

TEST(Staged, PlacesAreFoldersAndBuckets) {
  EXPECT_EQ(*StagingPlace("kept/", "/root"), "/root/kept");
  EXPECT_EQ(*StagingPlace("./kept", "/root"), "/root/kept");
  EXPECT_EQ(*StagingPlace("/", "/root"), "/");
  EXPECT_EQ(*StagingPlace("s3://bucket", "/root"), "s3://bucket");
  EXPECT_EQ(*StagingPlace("s3://bucket/a/b//", "/root"), "s3://bucket/a/b");
  for (const char* text : {"", "a\nb", "https://x/y", "gs://bucket", "s3://", "s3:///x", "s3://bucket//x", "s3://bucket/./x", "s3://bucket/x/.."}) {
    EXPECT_FALSE(StagingPlace(text, "/root")) << text;
  }
}

TEST(Staged, NamesAreSafeAndTimesAreUtc) {
  EXPECT_EQ(StagingNamespace("examples/train.job"), "train");
  EXPECT_EQ(StagingNamespace(""), "default");
  EXPECT_EQ(StagedBase("s3://b", "train", "prep.align", 1'795'341'127'000, "run-1"), "s3://b/train-prep.align/2026-11-22/0952/run-1");
  EXPECT_EQ(StagedBase("/", "a", "b", 0, "run-1"), "/a-b/1970-01-01/0000/run-1");
  const std::string odd = StagedBase("/k", "my file/../x", std::string(300, 'n'), 0, "run-1");
  EXPECT_EQ(odd.find("/../"), std::string::npos);
  EXPECT_EQ(odd.find(' '), std::string::npos);
  EXPECT_LT(odd.find("/1970"), 210u);
}

TEST(Staged, OnlyItsOwnManifestProvesAnAttempt) {
  StagedSet set;
  set.about = {{"execution_id", "\"run-1\""}};
  EXPECT_TRUE(IsStagedManifest(StagedManifest(set, false), "run-1"));
  EXPECT_TRUE(IsStagedManifest(StagedManifest(set, true), "run-1"));
  EXPECT_FALSE(IsStagedManifest(StagedManifest(set, true), "run-2"));
  for (const char* text : {"", "{}", "[]", "{\"schema\":\"jobc.staged/1\"}", "{\"execution_id\":\"run-1\"}", "{\"schema\":1,\"execution_id\":\"run-1\"}"}) {
    EXPECT_FALSE(IsStagedManifest(text, "run-1")) << text;
  }
}

TEST(Staged, WhatIsThereOfAnybodyElseStays) {
  char name[] = "/tmp/jobc-staged-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  const std::string top = name;
  StagedSet set;
  set.base = top + "/a/b/run-1";
  set.about = {{"execution_id", "\"run-1\""}};
  StagedFile text;
  text.path = "output/stdout.log";
  text.text = "hello";
  text.is_text = true;
  set.files = {text};
  std::atomic<bool> stop{false};
  ASSERT_TRUE(LayDownStaged(set, stop));
  EXPECT_EQ(process::ReadFile(set.base + "/output/stdout.log"), "hello");
  // The same attempt once more, by a jobc that took it over: as if the first one had not been.
  set.files[0].text = "again";
  ASSERT_TRUE(LayDownStaged(set, stop));
  EXPECT_EQ(process::ReadFile(set.base + "/output/stdout.log"), "again");
  // Of somebody else.
  StagedSet other = set;
  other.about = {{"execution_id", "\"run-2\""}};
  ASSERT_TRUE(process::RemoveTree(set.base));
  ASSERT_TRUE(process::MakeDirectories(set.base + "/precious"));
  auto refused = LayDownStaged(set, stop);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("not from jobc"), std::string::npos);
  uint64_t bytes = 0;
  EXPECT_FALSE(RemoveStaged(set.base, "run-1", false, bytes));
  EXPECT_EQ(access((set.base + "/precious").c_str(), F_OK), 0);
  // Given up before it began: an empty folder is left, and is no fault for whoever comes later.
  ASSERT_TRUE(process::RemoveTree(set.base + "/precious"));
  ASSERT_TRUE(LayDownStaged(set, stop));
  stop = true;
  set.base += "0";
  EXPECT_FALSE(LayDownStaged(set, stop));
  EXPECT_TRUE(process::RemoveTree(top));
}

}  // namespace
}  // namespace jobc
