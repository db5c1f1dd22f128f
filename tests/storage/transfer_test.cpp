// Transfers against the S3 server of the tests (servers.py), which checks every signature and breaks what it is told to. Small
// parts and short waits, so that what happens to gigabytes happens to kilobytes.
#include "storage/transfer.h"
#include "storage/tree.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/http_client.h"
#include "storage/identify.h"
#include "support/sha256.h"

extern char** environ;

namespace jobc::storage {
namespace {

using ::testing::HasSubstr;

class TransferTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/jobc-transfer-XXXXXX";
    dir_ = mkdtemp(name);
    int in[2], out[2];
    ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    const char* argv[] = {"python3", "-B", JOBC_SERVERS, "s3", nullptr};
    ASSERT_EQ(posix_spawnp(&server_, "python3", &actions, nullptr, const_cast<char**>(argv), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    stdin_ = in[1];
    FILE* port = fdopen(out[0], "r");
    ASSERT_EQ(fscanf(port, "%d", &port_), 1);
    fclose(port);
    ASSERT_EQ(uv_loop_init(&loop_), 0);
    options_.retry.base_ms = 1;
    options_.part_bytes = 10'000;
    options_.split_above = 30'000;
    options_.surroundings.variable = [this](const std::string& name) -> std::optional<std::string> {
      auto found = variables_.find(name);
      return found == variables_.end() ? std::nullopt : std::optional<std::string>(found->second);
    };
    options_.surroundings.file = [](const std::string&) { return std::nullopt; };
    variables_ = {{"JOBC_S3_ENDPOINT", "http://127.0.0.1:" + std::to_string(port_)}, {"AWS_ACCESS_KEY_ID", "TESTKEY"}, {"AWS_SECRET_ACCESS_KEY", "test/secret+key"}};
  }

  void TearDown() override {
    transfers_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
    close(stdin_);
    waitpid(server_, nullptr, 0);
    std::filesystem::remove_all(dir_);
  }

  Transfers& transfers() {
    if (transfers_ == nullptr) {
      auto made = Transfers::Create(&loop_, options_);
      EXPECT_TRUE(made.ok());
      transfers_ = *std::move(made);
    }
    return *transfers_;
  }

  std::string Control(const std::string& method, const std::string& path, const std::string& body = "") {
    HttpRequest request;
    request.method = method;
    request.url = "http://127.0.0.1:" + std::to_string(port_) + path;
    request.body = body;
    auto answer = FetchNow(std::move(request), 64 << 20);
    EXPECT_TRUE(answer.ok());
    return answer.ok() ? answer->body : "";
  }
  void Object(const std::string& key, size_t size) { Control("PUT", "/_object/" + key + "?size=" + std::to_string(size)); }
  std::string Content(const std::string& key) { return Control("GET", "/_object/" + key); }
  void Faults(const std::string& json) { Control("PUT", "/_faults", json); }
  size_t Requests(const std::string& what) {
    const std::string log = Control("GET", "/_log");
    size_t count = 0;
    for (size_t at = log.find(what); at != std::string::npos; at = log.find(what, at + 1)) ++count;
    return count;
  }

  template <typename T, typename Begin>
  Outcome<T> Wait(Begin begin) {
    std::optional<Outcome<T>> got;
    begin([&](Outcome<T> one) { got.emplace(std::move(one)); });
    while (!got) uv_run(&loop_, UV_RUN_ONCE);
    return *std::move(got);
  }
  Outcome<RemoteIdentity> Head(const std::string& uri) {
    return Wait<RemoteIdentity>([&](auto done) { transfers().Head(uri, done); });
  }
  Outcome<Fetched> Fetch(FetchSpec spec) {
    if (spec.path.empty()) spec.path = dir_ + "/got";
    return Wait<Fetched>([&](auto done) { transfers().Fetch(spec, done); });
  }
  Outcome<RemoteIdentity> Put(PutSpec spec) {
    return Wait<RemoteIdentity>([&](auto done) { transfers().Put(spec, done); });
  }
  static std::string Text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string Write(const std::string& text) {
    std::ofstream(dir_ + "/source", std::ios::binary) << text;
    return dir_ + "/source";
  }
  static std::string Bytes(size_t size) {
    std::string out;
    for (size_t i = 0; i < size; ++i) out += static_cast<char>(i * 7 + i / 251);
    return out;
  }

  std::string dir_;
  pid_t server_ = 0;
  int stdin_ = -1;
  int port_ = 0;
  uv_loop_t loop_{};
  TransferOptions options_;
  std::map<std::string, std::string> variables_;
  std::unique_ptr<Transfers> transfers_;
};

TEST_F(TransferTest, SaysWhatAnObjectIs) {
  Object("a%20b", 1234);
  auto head = Head("s3://bucket/a b");
  ASSERT_TRUE(head.ok()) << head.failure().message;
  EXPECT_EQ(head->size, 1234u);
  EXPECT_EQ(head->etag.size(), 34u);
}

TEST_F(TransferTest, FetchesASmallAndALargeObject) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{29'999}, size_t{30'001}, size_t{1'000'003}}) {
    Object("o", size);
    auto identity = Head("s3://bucket/o");
    ASSERT_TRUE(identity.ok());
    for (bool expected : {false, true}) {
      auto got = Fetch({"s3://bucket/o", dir_ + "/got" + std::to_string(size), expected ? std::optional(*identity) : std::nullopt, nullptr});
      ASSERT_TRUE(got.ok()) << got.failure().message;
      const std::string text = Text(dir_ + "/got" + std::to_string(size));
      EXPECT_EQ(text.size(), size);
      EXPECT_EQ(text, Content("o"));
      EXPECT_EQ(got->sha256, Sha256Hex(text));
      EXPECT_EQ(got->identity, *identity);
    }
  }
  EXPECT_GT(Requests("\"range\": \"bytes=10000-19999\""), 0u);
}

TEST_F(TransferTest, GoesOnWhereItWasCut) {
  Object("o", 25'000);
  Faults(R"([{"key": "o", "do": "cut", "after": 9000}, {"key": "o", "do": "cut", "after": 5000}])");
  auto got = Fetch({"s3://bucket/o", "", std::nullopt, nullptr});
  ASSERT_TRUE(got.ok()) << got.failure().message;
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
  EXPECT_EQ(got->sha256, Sha256Hex(Content("o")));
  EXPECT_EQ(Requests("\"range\": \"bytes=9000-24999\""), 1u);
  EXPECT_EQ(Requests("\"range\": \"bytes=14000-24999\""), 1u);
}

TEST_F(TransferTest, GoesOnInEveryPart) {
  Object("o", 200'000);
  auto identity = Head("s3://bucket/o");
  Faults(R"([{"key": "o", "do": "cut", "after": 4321, "times": 40}])");
  auto got = Fetch({"s3://bucket/o", "", *identity, nullptr});
  ASSERT_TRUE(got.ok()) << got.failure().message;
  EXPECT_EQ(got->sha256, Sha256Hex(Content("o")));
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
}

TEST_F(TransferTest, BeginsAnewWhereTheServerKnowsNoRanges) {
  Object("o", 90'000);
  auto identity = Head("s3://bucket/o");
  Faults(R"([{"key": "o", "do": "whole", "times": 100}])");
  auto got = Fetch({"s3://bucket/o", "", *identity, nullptr});
  ASSERT_TRUE(got.ok()) << got.failure().message;
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
  EXPECT_EQ(got->sha256, Sha256Hex(Content("o")));
}

TEST_F(TransferTest, ALaterFetchGoesOnWithWhatIsThere) {
  Object("o", 25'000);
  auto identity = Head("s3://bucket/o");
  auto part = std::make_shared<FetchedPart>();
  Faults(R"([{"key": "o", "do": "cut", "after": 11000}, {"key": "o", "do": "status", "status": 503, "times": 20}])");
  auto first = Fetch({"s3://bucket/o", "", *identity, part});
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.failure().kind, FailureKind::Busy);
  EXPECT_THAT(first.failure().message, HasSubstr("(503 SlowDown); try again later (tried"));
  EXPECT_EQ(part->bytes.First(), 11'000u);
  Control("PUT", "/_faults", R"([{"key": "none"}])");
  transfers_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  for (int i = 0; i < 4; ++i) (void)Fetch({"s3://bucket/o", "", *identity, part}).ok();  // the faults that are left
  auto got = Fetch({"s3://bucket/o", "", *identity, part});
  ASSERT_TRUE(got.ok()) << got.failure().message;
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
  EXPECT_EQ(Requests("\"range\": null, \"if_match\": \"\\\""), 1u);  // only the first one asked for all
}

TEST(ByteRanges, JoinsWhatTouches) {
  ByteRanges ranges;
  EXPECT_EQ(ranges.First(), 0u);
  ranges.Add(10, 20);
  ranges.Add(30, 40);
  ranges.Add(50, 50);
  EXPECT_EQ(ranges.First(), 0u);
  EXPECT_EQ(ranges.Sum(), 20u);
  ranges.Add(20, 25);
  ranges.Add(0, 10);
  EXPECT_EQ(ranges.First(), 25u);
  ranges.Add(24, 35);
  EXPECT_EQ(ranges.all(), (std::map<uint64_t, uint64_t>{{0, 40}}));
  ranges.Add(5, 6);
  ranges.Add(60, 70);
  ranges.Add(41, 100);
  EXPECT_EQ(ranges.all(), (std::map<uint64_t, uint64_t>{{0, 40}, {41, 100}}));
  EXPECT_EQ(ranges.End(), 100u);
}

TEST_F(TransferTest, ARecordSaysWhatIsThereAndNoMore) {
  const std::string path = dir_ + "/record";
  FetchedPart part{{"\"e\"", "v", 1000}, {}};
  part.bytes.Add(0, 10);
  {
    FetchRecord record;
    ASSERT_TRUE(record.Begin(path, part).ok());
    record.Add(500, 600);
  }
  part.bytes.Add(500, 600);
  auto read = FetchRecord::Read(path);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->identity, part.identity);
  EXPECT_EQ(read->bytes, part.bytes);
  const std::string text = Text(path);
  for (size_t size = 0; size <= text.size(); ++size) {  // killed while it was written
    std::ofstream(path, std::ios::binary) << text.substr(0, size);
    auto some = FetchRecord::Read(path);
    EXPECT_EQ(some.has_value(), size > text.find('\n'));
    EXPECT_LE(some.value_or(FetchedPart()).bytes.Sum(), 110u);
  }
  for (const char* line : {"600 500\n", "0 1001\n", "0 x\n", "0  5\n", "-1 5\n", "1000\n"}) {
    std::ofstream(path, std::ios::binary) << text << line;
    EXPECT_EQ(FetchRecord::Read(path)->bytes, part.bytes) << line;
  }
  std::string other = text;
  other.replace(other.find("\"boot\":\"") + 8, 4, "0000");  // before the machine was started anew
  std::ofstream(path, std::ios::binary) << other;
  EXPECT_FALSE(FetchRecord::Read(path));
}

TEST_F(TransferTest, AnotherProcessGoesOnWithWhatWasThere) {
  constexpr size_t kSize = 200'000;
  Object("o", kSize);
  auto identity = Head("s3://bucket/o");
  options_.record_above = 1000;
  options_.record_bytes = 1;
  const FetchSpec spec{"s3://bucket/o", dir_ + "/got", *identity, nullptr, dir_ + "/record"};
  options_.parts_at_once = 1;
  size_t rounds = 0;
  for (; rounds < 200; ++rounds) {
    Faults(R"([{"key": "o", "do": "cut", "after": 4321}, {"key": "o", "do": "status", "status": 403, "code": "AccessDenied"}])");
    transfers_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    auto got = Fetch(spec);
    if (got.ok()) {
      EXPECT_EQ(got->sha256, Sha256Hex(Content("o")));
      break;
    }
  }
  EXPECT_GT(rounds, 40u);
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
  EXPECT_EQ(Control("GET", "/_sent"), std::to_string(kSize));  // no byte twice
}

TEST_F(TransferTest, FetchesOnlyTheGaps) {
  options_.record_above = 1000;
  Object("o", 200'000);
  auto identity = Head("s3://bucket/o");
  const std::string content = Content("o");
  std::string there(200'000, 'x');
  FetchedPart part{*identity, {}};
  for (auto [from, to] : {std::pair(0, 5'000), std::pair(30'000, 61'234), std::pair(150'000, 199'999)}) {
    there.replace(static_cast<size_t>(from), static_cast<size_t>(to - from), content, static_cast<size_t>(from), static_cast<size_t>(to - from));
    part.bytes.Add(static_cast<uint64_t>(from), static_cast<uint64_t>(to));
  }
  ASSERT_TRUE(FetchRecord().Begin(dir_ + "/record", part).ok());
  std::ofstream(dir_ + "/got", std::ios::binary) << there;
  auto got = Fetch({"s3://bucket/o", dir_ + "/got", *identity, nullptr, dir_ + "/record"});
  ASSERT_TRUE(got.ok()) << got.failure().message;
  EXPECT_EQ(Text(dir_ + "/got"), content);
  EXPECT_EQ(got->sha256, Sha256Hex(content));
  EXPECT_EQ(Control("GET", "/_sent"), std::to_string(200'000 - part.bytes.Sum()));
}

TEST_F(TransferTest, ARecordOfAnotherContentCountsForNothing) {
  options_.record_above = 1000;
  Object("o", 25'000);
  auto identity = Head("s3://bucket/o");
  FetchedPart part{{"\"another\"", "", 25'000}, {}};
  part.bytes.Add(0, 20'000);
  ASSERT_TRUE(FetchRecord().Begin(dir_ + "/record", part).ok());
  std::ofstream(dir_ + "/got", std::ios::binary) << std::string(25'000, 'x');
  auto got = Fetch({"s3://bucket/o", dir_ + "/got", *identity, nullptr, dir_ + "/record"});
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
  // Nor does one whose bytes are not there.
  part.identity = *identity;
  ASSERT_TRUE(FetchRecord().Begin(dir_ + "/record", part).ok());
  std::filesystem::resize_file(dir_ + "/got", 19'999);
  ASSERT_TRUE(Fetch({"s3://bucket/o", dir_ + "/got", *identity, nullptr, dir_ + "/record"}).ok());
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
}

TEST_F(TransferTest, TakesNoMoreThanWasAskedFor) {
  Object("o", 25'000);
  auto identity = Head("s3://bucket/o");
  Faults(R"([{"key": "o", "do": "more"}])");
  auto got = Fetch({"s3://bucket/o", dir_ + "/got", *identity, nullptr, ""});
  ASSERT_FALSE(got.ok());
  EXPECT_THAT(got.failure().message, HasSubstr("it had 25000 bytes and has 25004 now"));
  Faults(R"([{"key": "o", "do": "cut", "after": 9000}, {"key": "o", "do": "more"}])");
  got = Fetch({"s3://bucket/o", dir_ + "/got", *identity, nullptr, ""});
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.failure().kind, FailureKind::Refused);
  EXPECT_THAT(got.failure().message, HasSubstr("the server sent more bytes than it said"));
}

/// Time passes only when nobody would do anything else.
class CountedTimers : public Timers {
 public:
  void After(int64_t ms, std::function<void()> then) override {
    waits.push_back(ms);
    due.push_back(std::move(then));
  }
  bool Step() {
    if (due.empty()) return false;
    auto then = std::move(due.front());
    due.erase(due.begin());
    then();
    return true;
  }
  std::vector<int64_t> waits;
  std::vector<std::function<void()>> due;
};

class BackOffTest : public TransferTest {
 protected:
  void SetUp() override {
    TransferTest::SetUp();
    options_.retry = RetryPolicy();
    options_.timers = timers_;
  }
  std::vector<int64_t> WaitsOf(const std::string& faults) {
    Faults(faults);
    timers_->waits.clear();
    transfers_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    std::optional<Outcome<Fetched>> got;
    transfers().Fetch({"s3://bucket/o", dir_ + "/got", std::nullopt, nullptr, ""}, [&](Outcome<Fetched> one) { got.emplace(std::move(one)); });
    while (!got) {
      if (!timers_->Step()) uv_run(&loop_, UV_RUN_ONCE);
    }
    ok_ = got->ok();
    return timers_->waits;
  }
  std::shared_ptr<CountedTimers> timers_ = std::make_shared<CountedTimers>();
  bool ok_ = false;
};

TEST_F(BackOffTest, DoublesEachTimeAndIsHalfAtRandom) {
  Object("o", 100);
  options_.retry.tries = 12;
  const std::string busy = R"([{"key": "o", "do": "status", "status": 503, "times": 11}])";
  const std::vector<int64_t> waits = WaitsOf(busy);
  EXPECT_TRUE(ok_);
  const std::vector<int64_t> most{250, 500, 1000, 2000, 4000, 8000, 16'000, 20'000, 20'000, 20'000, 20'000};
  ASSERT_EQ(waits.size(), most.size());
  for (size_t i = 0; i < most.size(); ++i) {
    EXPECT_GE(waits[i], most[i] / 2);
    EXPECT_LE(waits[i], most[i]);
  }
  EXPECT_EQ(WaitsOf(busy), waits);  // the same seed
}

TEST_F(BackOffTest, GivesUpAfterSixTries) {
  Object("o", 100);
  EXPECT_EQ(WaitsOf(R"([{"key": "o", "do": "status", "status": 503, "times": 6}])").size(), 5u);
  EXPECT_FALSE(ok_);
}

TEST_F(BackOffTest, DoesAsTheServerAsks) {
  Object("o", 100);
  EXPECT_EQ(WaitsOf(R"([{"key": "o", "do": "status", "status": 503, "retry_after": 7}])"), (std::vector<int64_t>{7000}));
  EXPECT_EQ(WaitsOf(R"([{"key": "o", "do": "status", "status": 429, "retry_after": 3600}])"), (std::vector<int64_t>{60'000}));  // no longer than a minute
}

TEST_F(BackOffTest, BeginsAnewWhenBytesCame) {
  Object("o", 10'000);
  const std::vector<int64_t> waits = WaitsOf(R"([{"key": "o", "do": "cut", "after": 1000, "times": 9}])");
  EXPECT_TRUE(ok_);
  ASSERT_EQ(waits.size(), 9u);
  for (int64_t wait : waits) EXPECT_LE(wait, 250);
}

TEST_F(TransferTest, NeverMixesTwoContents) {
  Object("o", 25'000);
  Faults(R"([{"key": "o", "do": "cut", "after": 9000}, {"key": "o", "do": "change", "text": "new"}])");
  auto got = Fetch({"s3://bucket/o", "", std::nullopt, nullptr});
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.failure().kind, FailureKind::Changed);
  EXPECT_THAT(got.failure().message, HasSubstr("`s3://bucket/o` was changed since it was looked at"));
}

TEST_F(TransferTest, SaysThatItVanished) {
  Object("o", 25'000);
  Faults(R"([{"key": "o", "do": "cut", "after": 9000}, {"key": "o", "do": "forget"}])");
  auto got = Fetch({"s3://bucket/o", "", std::nullopt, nullptr});
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.failure().kind, FailureKind::Missing);
  EXPECT_THAT(got.failure().message, HasSubstr("`s3://bucket/o` is not there (404 NoSuchKey"));
}

TEST_F(TransferTest, WaitsForABusyServer) {
  Object("o", 100);
  Faults(R"([{"key": "o", "do": "status", "status": 503, "times": 3}, {"key": "o", "do": "status", "status": 500, "code": "InternalError", "times": 2}])");
  auto got = Fetch({"s3://bucket/o", "", std::nullopt, nullptr});
  EXPECT_TRUE(got.ok());
}

TEST_F(TransferTest, NamesWhatIsWrongWithCredentials) {
  Object("o", 100);
  variables_["AWS_SECRET_ACCESS_KEY"] = "wrong";
  auto wrong = Fetch({"s3://bucket/o", "", std::nullopt, nullptr});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.failure().kind, FailureKind::Auth);
  EXPECT_THAT(wrong.failure().message, HasSubstr("the secret key for `TESTKEY` (from AWS_ACCESS_KEY_ID) is wrong; set AWS_SECRET_ACCESS_KEY"));
  EXPECT_THAT(wrong.failure().message, testing::Not(HasSubstr("wrong`")));
  transfers_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  variables_["AWS_ACCESS_KEY_ID"] = "OTHER";
  EXPECT_THAT(Fetch({"s3://bucket/o", "", std::nullopt, nullptr}).failure().message, HasSubstr("does not know the access key `OTHER`"));
  transfers_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  variables_.erase("AWS_ACCESS_KEY_ID");
  variables_.erase("AWS_SECRET_ACCESS_KEY");
  EXPECT_THAT(Fetch({"s3://bucket/o", "", std::nullopt, nullptr}).failure().message, HasSubstr("there are no credentials for S3"));
}

TEST_F(TransferTest, NamesTheRightRegionAndBucket) {
  variables_["AWS_REGION"] = "eu-west-1";
  EXPECT_THAT(Fetch({"s3://bucket/o", "", std::nullopt, nullptr}).failure().message, HasSubstr("is not in the region `eu-west-1`"));
  transfers_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  variables_.erase("AWS_REGION");
  EXPECT_THAT(Fetch({"s3://other/o", "", std::nullopt, nullptr}).failure().message, HasSubstr("has no bucket `other`"));
}

TEST_F(TransferTest, SaysThatNobodyListens) {
  variables_["JOBC_S3_ENDPOINT"] = "http://127.0.0.1:1";
  auto got = Fetch({"s3://bucket/o", "", std::nullopt, nullptr});
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.failure().kind, FailureKind::Network);
  EXPECT_THAT(got.failure().message, HasSubstr("look at the endpoint (JOBC_S3_ENDPOINT"));
}

TEST_F(TransferTest, PutsSmallAndLargeFiles) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{30'000}, size_t{30'001}, size_t{123'456}}) {
    const std::string text = Bytes(size);
    auto put = Put({Write(text), "", "s3://bucket/dir/a+b é", "", false});
    ASSERT_TRUE(put.ok()) << put.failure().message;
    EXPECT_EQ(Content("dir/a%2Bb%20%C3%A9"), text);
    EXPECT_EQ(*Head("s3://bucket/dir/a+b é")->size, size);
  }
  EXPECT_EQ(Requests("uploads="), 2u);
}

TEST_F(TransferTest, PutsWhatWasCutAgain) {
  const std::string text = Bytes(123'456);
  Faults(R"([{"method": "PUT", "key": "o", "do": "cut", "times": 3}, {"method": "PUT", "key": "o", "do": "lose_answer", "times": 2},
             {"method": "POST", "key": "o", "do": "status", "status": 503, "times": 2}])");
  auto put = Put({Write(text), "", "s3://bucket/o", Sha256Hex(text), false});
  ASSERT_TRUE(put.ok()) << put.failure().message;
  EXPECT_EQ(Content("o"), text);
}

TEST_F(TransferTest, KnowsItsOwnUploadWhoseLastAnswerWasLost) {
  const std::string text = Bytes(123'456);
  Faults(R"([{"method": "POST", "key": "o", "do": "lose_answer", "query": "uploadId"}])");
  auto put = Put({Write(text), "", "s3://bucket/o", Sha256Hex(text), false});
  ASSERT_TRUE(put.ok()) << put.failure().message;
  EXPECT_EQ(Content("o"), text);
}

TEST_F(TransferTest, RemovesTheUploadThatItGivesUp) {
  const std::string text = Bytes(123'456);
  Faults(R"([{"method": "PUT", "key": "o", "do": "status", "status": 403, "code": "AccessDenied", "query": "partNumber=3"}])");
  auto put = Put({Write(text), "", "s3://bucket/o", "", false});
  ASSERT_FALSE(put.ok());
  EXPECT_EQ(put.failure().kind, FailureKind::Auth);
  while (Requests("\"method\": \"DELETE\"") == 0) uv_run(&loop_, UV_RUN_ONCE);
  EXPECT_EQ(Content("o"), "");
}

// What a killed process left: the parts that are there are not sent again.
TEST_F(TransferTest, GoesOnWithAnUploadThatWasLeft) {
  const std::string text = Bytes(123'456);
  const PutSpec spec{Write(text), "", "s3://bucket/o", Sha256Hex(text), false, dir_ + "/upload/record"};
  Faults(R"([{"method": "PUT", "key": "o", "do": "hang", "query": "partNumber=3&"}])");
  transfers().Put(spec, [](Outcome<RemoteIdentity>) {});
  while (Requests("partNumber=13&") == 0 || !std::filesystem::exists(spec.record)) uv_run(&loop_, UV_RUN_ONCE);
  for (int i = 0; i < 200 && Requests("partNumber=12&") == 0; ++i) uv_run(&loop_, UV_RUN_ONCE);
  transfers_.reset();  // with no time left to tell the server
  uv_run(&loop_, UV_RUN_DEFAULT);
  ASSERT_TRUE(std::filesystem::exists(spec.record));
  Control("PUT", "/_set", R"({"page": 5})");
  const size_t sent = Requests("\"method\": \"PUT\"");
  auto put = Put(spec);
  ASSERT_TRUE(put.ok()) << put.failure().message;
  EXPECT_EQ(Content("o"), text);
  EXPECT_LE(Requests("\"method\": \"PUT\"") - sent, 4u);  // those that were on their way
  EXPECT_EQ(Requests("\"query\": \"uploads="), 1u);
  EXPECT_FALSE(std::filesystem::exists(spec.record));
}

TEST_F(TransferTest, RemovesALeftUploadOfAnotherContent) {
  PutSpec spec{Write(Bytes(50'000)), "", "s3://bucket/o", Sha256Hex(Bytes(50'000)), false, dir_ + "/upload/record"};
  Faults(R"([{"method": "PUT", "key": "o", "do": "hang", "query": "partNumber=3&"}])");
  transfers().Put(spec, [](Outcome<RemoteIdentity>) {});
  while (Requests("partNumber=3&") == 0) uv_run(&loop_, UV_RUN_ONCE);
  transfers_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  const std::string other = Bytes(60'001);
  spec.path = Write(other);
  spec.sha256 = Sha256Hex(other);
  ASSERT_TRUE(Put(spec).ok());
  EXPECT_EQ(Content("o"), other);
  while (Requests("\"method\": \"DELETE\"") == 0) uv_run(&loop_, UV_RUN_ONCE);
}

TEST_F(TransferTest, BeginsAnewWhereTheServerForgotTheUpload) {
  const std::string text = Bytes(50'000);
  const PutSpec spec{Write(text), "", "s3://bucket/o", Sha256Hex(text), false, dir_ + "/record"};
  std::ofstream(spec.record) << R"({"uri":"s3://bucket/o","upload":"gone","sha256":")" << spec.sha256 << R"(","part_bytes":10000})";
  ASSERT_TRUE(Put(spec).ok());
  EXPECT_EQ(Content("o"), text);
}

TEST_F(TransferTest, MakesAnObjectOnlyOnce) {
  const std::string text = Bytes(1000);
  ASSERT_TRUE(Put({Write(text), "", "s3://bucket/o", Sha256Hex(text), true}).ok());
  EXPECT_TRUE(Put({Write(text), "", "s3://bucket/o", Sha256Hex(text), true}).ok());  // it is there
  const std::string other = Bytes(1001);
  auto put = Put({Write(other), "", "s3://bucket/o", Sha256Hex(other), true});
  ASSERT_FALSE(put.ok());
  EXPECT_EQ(put.failure().kind, FailureKind::Exists);
  EXPECT_EQ(Content("o"), text);
  Faults(R"([{"method": "PUT", "key": "p", "do": "lose_answer"}])");
  EXPECT_TRUE(Put({Write(text), "", "s3://bucket/p", Sha256Hex(text), true}).ok());
}

TEST_F(TransferTest, ReadsAndDeletes) {
  ASSERT_TRUE(Put({"", "{\"a\":1}", "s3://bucket/m.json", "", false}).ok());
  auto read = Wait<std::string>([&](auto done) { transfers().Read("s3://bucket/m.json", 100, done); });
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, "{\"a\":1}");
  EXPECT_FALSE((Wait<std::string>([&](auto done) { transfers().Read("s3://bucket/m.json", 3, done); })).ok());
  EXPECT_TRUE((Wait<bool>([&](auto done) { transfers().Delete("s3://bucket/m.json", done); })).ok());
  EXPECT_TRUE((Wait<bool>([&](auto done) { transfers().Delete("s3://bucket/m.json", done); })).ok());
  EXPECT_EQ(Head("s3://bucket/m.json").failure().kind, FailureKind::Missing);
}

TEST_F(TransferTest, CallsNobodyAfterACancel) {
  Object("o", 100'000);
  auto identity = Head("s3://bucket/o");
  Faults(R"([{"key": "o", "do": "hang", "times": 100}])");
  bool called = false;
  const auto id = transfers().Fetch({"s3://bucket/o", dir_ + "/got", *identity, nullptr}, [&](Outcome<Fetched>) { called = true; });
  for (int i = 0; i < 20; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
  transfers().Cancel(id);
  EXPECT_TRUE(Head("s3://bucket/o").ok());
  EXPECT_FALSE(called);
}

TEST_F(TransferTest, ListsWhatABucketHolds) {
  Object("a", 1);
  Object("d/b%20c%2B%C3%A9", 2);
  Object("d/z", 3);
  Object("e", 4);
  auto list = [&](const std::string& uri, const std::string& after) {
    return Wait<ListPage>([&](auto done) { transfers().List(uri, after, done); });
  };
  auto page = list("s3://bucket/d/", "");
  ASSERT_TRUE(page.ok()) << page.failure().message;
  ASSERT_EQ(page->objects.size(), 2u);
  EXPECT_EQ(page->objects[0].key, "d/b c+é");
  EXPECT_EQ(page->objects[0].identity, *Head("s3://bucket/d/b c+é"));
  EXPECT_FALSE(page->more);
  Control("PUT", "/_set", R"({"page": 2})");
  page = list("s3://bucket", "a");
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->objects[1].key, "d/z");
  EXPECT_TRUE(page->more);
  EXPECT_THAT(list("s3://other", "").failure().message, HasSubstr("has no bucket `other`"));
}

// What lists say must be what each object says of itself, however the keys lie and whatever the server is like.
class IdentifyTest : public TransferTest {
 protected:
  std::vector<Outcome<RemoteIdentity>> All(const std::vector<std::string>& uris) {
    IdentifyOptions options;
    options.transfer = options_;
    options.worth_listing = 10;
    options.worth_a_page = 3;
    return IdentifyAll(uris, std::move(options));
  }
  /// As many requests as expected, and what each of them says is right.
  void Check(const std::vector<std::string>& uris, size_t heads, size_t lists) {
    const size_t heads_before = Requests("\"HEAD\""), lists_before = Requests("list-type=2");
    auto all = All(uris);
    EXPECT_EQ(Requests("\"HEAD\"") - heads_before, heads);
    EXPECT_EQ(Requests("list-type=2") - lists_before, lists);
    ASSERT_EQ(all.size(), uris.size());
    for (size_t i = 0; i < uris.size(); ++i) {
      auto one = Head(uris[i]);
      ASSERT_EQ(all[i].ok(), one.ok()) << uris[i];
      if (one.ok()) {
        EXPECT_EQ(*all[i], *one) << uris[i];
      } else {
        EXPECT_EQ(all[i].failure().message, one.failure().message);
      }
    }
  }
  std::vector<std::string> Make(const std::string& prefix, int count) {
    std::vector<std::string> uris;
    for (int i = 0; i < count; ++i) {
      Object(prefix + std::to_string(i), static_cast<size_t>(100 + i));
      uris.push_back("s3://bucket/" + prefix + std::to_string(i));
    }
    return uris;
  }
};

TEST_F(IdentifyTest, ReadsListsWhereThereAreMany) {
  auto uris = Make("d/", 25);
  std::reverse(uris.begin(), uris.end());
  uris.push_back(uris[3]);  // named twice
  Check(uris, 1, 1);
  Control("PUT", "/_set", R"({"page": 10})");
  Check(uris, 1, 3);
}

TEST_F(IdentifyTest, AsksForFewOnesThemselves) { Check(Make("d/", 9), 9, 0); }

TEST_F(IdentifyTest, AsksForWhatNoListNames) {
  auto uris = Make("d/", 12);
  uris.push_back("s3://bucket/d/0none");
  uris.push_back("s3://bucket/d/zzz");
  Check(uris, 3, 1);
}

TEST_F(IdentifyTest, GivesUpListsThatNameTooLittle) {
  auto uris = Make("d/", 40);
  Control("PUT", "/_set", R"({"page": 4})");
  // Every fourth of them: a page names one.
  std::vector<std::string> few;
  std::sort(uris.begin(), uris.end());
  for (size_t i = 0; i < uris.size(); i += 4) few.push_back(uris[i]);
  Check(few, 10, 1);
}

TEST_F(IdentifyTest, PassesOverWhatLiesBetween) {
  auto uris = Make("a/", 8);
  Make("m/", 50);
  for (const std::string& one : Make("z/", 8)) uris.push_back(one);
  Control("PUT", "/_set", R"({"page": 8})");
  Check(uris, 1, 2);
}

TEST_F(IdentifyTest, AsksForEachWhereListsAreNotAllowed) {
  auto uris = Make("d/", 12);
  Control("PUT", "/_set", R"({"lists": false})");
  Check(uris, 12, 1);
}

TEST_F(IdentifyTest, AsksForEachWhereABucketKeepsVersions) {
  auto uris = Make("d/", 12);
  for (const std::string& uri : uris) Faults("[{\"method\": \"HEAD\", \"key\": \"" + uri.substr(12) + "\", \"do\": \"version\", \"text\": \"v1\"}]");
  auto all = All(uris);
  for (const auto& one : all) EXPECT_EQ(one->version, "v1");
  EXPECT_EQ(Requests("list-type=2"), 0u);
}

TEST_F(TransferTest, MovesManyAtATime) {
  size_t left = 300;
  for (size_t i = 0; i < 300; ++i) {
    transfers().Put({"", "text " + std::to_string(i), "s3://bucket/n/" + std::to_string(i), "", false}, [&](Outcome<RemoteIdentity> one) {
      EXPECT_TRUE(one.ok());
      --left;
    });
  }
  while (left > 0) uv_run(&loop_, UV_RUN_ONCE);
  EXPECT_EQ(Content("n/299"), "text 299");
}

// -- Directories in buckets --------------------------------------------------------

std::string TreeProblem(const std::vector<std::string>& keys) {
  std::vector<ListPage::Object> objects;
  for (const std::string& key : keys) objects.push_back({key, {"\"e\"", "", key.ends_with('/') ? 0u : 1u}});
  auto tree = ReadTree("s3://bucket/dir/", objects);
  return tree ? "" : tree.failure().message;
}

TEST(Tree, IsNamedByPathsEtagsAndSizes) {
  auto one = ReadTree("s3://bucket/dir/", {{"dir/b", {"\"2\"", "", 2}}, {"dir/a/x", {"\"1\"", "", 1}}, {"dir/", {"\"0\"", "", 0}}, {"dir/empty/", {"\"0\"", "", 0}}});
  ASSERT_TRUE(one) << one.failure().message;
  ASSERT_EQ(one->files.size(), 2u);
  EXPECT_EQ(one->files[0].path, "a/x");
  EXPECT_EQ(one->files[1].uri, "s3://bucket/dir/b");
  EXPECT_EQ(one->dirs, std::vector<std::string>{"empty"});
  EXPECT_EQ(one->identity.size, 3u);
  // Elsewhere and in another order it is the same; with another etag, size or path it is not.
  auto same = ReadTree("s3://other/", {{"a/x", {"\"1\"", "", 1}}, {"b", {"\"2\"", "", 2}}, {"empty/", {"\"0\"", "", 0}}});
  ASSERT_TRUE(same);
  EXPECT_EQ(same->identity, one->identity);
  for (const std::vector<ListPage::Object>& entries : std::vector<std::vector<ListPage::Object>>{{{"a/x", {"\"1\"", "", 1}}, {"b", {"\"3\"", "", 2}}, {"empty/", {"\"0\"", "", 0}}},
                                                                               {{"a/x", {"\"1\"", "", 1}}, {"b", {"\"2\"", "", 3}}, {"empty/", {"\"0\"", "", 0}}},
                                                                               {{"a/x", {"\"1\"", "", 1}}, {"c", {"\"2\"", "", 2}}, {"empty/", {"\"0\"", "", 0}}},
                                                                               {{"a/x", {"\"1\"", "", 1}}, {"b", {"\"2\"", "", 2}}}}) {
    auto other = ReadTree("s3://other/", entries);
    ASSERT_TRUE(other);
    EXPECT_NE(other->identity.etag, one->identity.etag);
  }
}

TEST(Tree, TakesNoKeysThatNoFileSystemHolds) {
  EXPECT_EQ(TreeProblem({"dir/a", "dir/a.b", "dir/a b/c"}), "");
  EXPECT_THAT(TreeProblem({}), testing::HasSubstr("there is nothing below `s3://bucket/dir/`"));
  EXPECT_THAT(TreeProblem({"dir/"}), testing::HasSubstr("there is nothing below"));
  EXPECT_THAT(TreeProblem({"dir/a/../b"}), testing::HasSubstr("the object `dir/a/../b`: `..` in it would lead somewhere else"));
  EXPECT_THAT(TreeProblem({"dir/./b"}), testing::HasSubstr("would lead somewhere else"));
  EXPECT_THAT(TreeProblem({"dir//b"}), testing::HasSubstr("a part without a name"));
  EXPECT_THAT(TreeProblem({"dir/a//b"}), testing::HasSubstr("a part without a name"));
  EXPECT_THAT(TreeProblem({"dir/a\nb"}), testing::HasSubstr("a control character"));
  EXPECT_THAT(TreeProblem({"dir/" + std::string(256, 'x')}), testing::HasSubstr("too long"));
  EXPECT_THAT(TreeProblem({"dir/a", "dir/a/b"}), testing::HasSubstr("`dir/a` is an object too"));
  EXPECT_THAT(TreeProblem({"dir/a", "dir/a-b", "dir/a/b/c"}), testing::HasSubstr("`dir/a` is an object too"));
  EXPECT_THAT(TreeProblem({"dir/a", "dir/a/"}), testing::HasSubstr("`dir/a` is an object too"));
  auto folder_with_content = ReadTree("s3://bucket/dir/", {{"dir/a/", {"\"e\"", "", 5}}});
  ASSERT_FALSE(folder_with_content);
  EXPECT_THAT(folder_with_content.failure().message, testing::HasSubstr("has content"));
  auto without_etag = ReadTree("s3://bucket/dir/", {{"dir/a", {"", "", 5}}});
  ASSERT_FALSE(without_etag);
  EXPECT_THAT(without_etag.failure().message, testing::HasSubstr("gives it no etag"));
}

}  // namespace
}  // namespace jobc::storage
