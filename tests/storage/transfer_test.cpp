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
  EXPECT_EQ(part->bytes, 11'000u);
  Control("PUT", "/_faults", R"([{"key": "none"}])");
  transfers_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  for (int i = 0; i < 4; ++i) (void)Fetch({"s3://bucket/o", "", *identity, part}).ok();  // the faults that are left
  auto got = Fetch({"s3://bucket/o", "", *identity, part});
  ASSERT_TRUE(got.ok()) << got.failure().message;
  EXPECT_EQ(Text(dir_ + "/got"), Content("o"));
  EXPECT_EQ(Requests("\"range\": null, \"if_match\": \"\\\""), 1u);  // only the first one asked for all
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
