// The numbers of `jobc status` on journals with chosen times: what is counted where, when it is forgotten (the facts of NGA
// Scale's metrics), and its task results.
#include "compiler/driver/status_formats.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <nlohmann/json.hpp>

#include "ir/plan_json.h"
#include "runtime/engine.h"
#include "runtime/journal.h"
#include "runtime/metrics.h"
#include "runtime/state_dir.h"
#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

using nlohmann::json;

constexpr int64_t kStart = 1'700'000'000'000;  // of the run
constexpr int64_t kSecond = 1000, kHour = 3'600'000;
constexpr char kId[] = "0mwr0000000000000000";

// --- Blocks of time --------------------------------------------------------------------------------------------------

TEST(TimeBlocks, WhatEndedInABlockIsForgottenWithTheWholeBlock) {
  const TimeBlocks blocks{kStart, 3 * kHour, 300 * kSecond};
  // {finished, last moment at which it is counted}, seconds after the origin.
  const std::vector<std::pair<int64_t, int64_t>> facts = {{0, 11100}, {1, 11100}, {299, 11100}, {300, 11400}, {599, 11400}, {-1, 10800}, {-300, 10800}};
  for (const auto& [finished, last] : facts) {
    const int64_t at = kStart + finished * kSecond;
    EXPECT_TRUE(blocks.Keeps(at, kStart + last * kSecond)) << finished;
    EXPECT_FALSE(blocks.Keeps(at, kStart + last * kSecond + 1)) << finished;
    EXPECT_FALSE(blocks.Keeps(at, kStart + (last + 1) * kSecond)) << finished;
  }
  for (int64_t at = -2 * kHour; at < 5 * kHour; at += 7777) {
    const int64_t block_end = blocks.End(blocks.Index(kStart + at));
    EXPECT_GT(block_end, kStart + at);
    EXPECT_LE(blocks.Start(blocks.Index(kStart + at)), kStart + at);
    EXPECT_TRUE(blocks.Keeps(kStart + at, kStart + at + 3 * kHour)) << "more than the period";
    EXPECT_FALSE(blocks.Keeps(kStart + at, kStart + at + 3 * kHour + 300 * kSecond + 1)) << "at most the period and a block";
  }
}

TEST(TimeBlocks, AThirdOfADayHasThirtySixBlocksBeforeItsOriginAndOneOrTwoMoreLater) {
  const TimeBlocks blocks{kStart, 3 * kHour, 300 * kSecond};
  auto kept = [&](int64_t when) { return blocks.Last(kStart + when) - blocks.First(kStart + when) + 1; };
  EXPECT_EQ(blocks.Last(kStart - 1) - blocks.First(kStart - 1) + 1, 36) << "laid backwards from the origin";
  EXPECT_EQ(kept(0), 37);
  for (int64_t when = 0; when < 7 * kHour; when += 1111) {
    EXPECT_GE(kept(when), 37);
    EXPECT_LE(kept(when), 38);
    EXPECT_GT(blocks.End(blocks.Last(kStart + when)), kStart + when) << "the last one ends later";
  }
}

TEST(TimeBlocks, APeriodThatIsNoMultipleOfABlockIsCovered) {
  const TimeBlocks blocks{kStart, 1000, 300};
  EXPECT_TRUE(blocks.Keeps(kStart - 1000, kStart));
  EXPECT_TRUE(blocks.Keeps(kStart + 5000, kStart + 6000));
  EXPECT_FALSE(blocks.Keeps(kStart + 5000, kStart + 6301));
}

TEST(Durations, PercentilesAreValuesThatWereMeasured) {
  Durations values;
  for (int64_t v : {50, 10, 40, 20, 30}) values.Add(v);
  values.Sort();
  EXPECT_EQ(values.Percentile(50), 30);
  EXPECT_EQ(values.Percentile(90), 50);
  EXPECT_EQ(values.Percentile(20), 10);
  EXPECT_EQ(values.Percentile(21), 20);
  EXPECT_EQ(values.max(), 50);
  EXPECT_EQ(values.sum(), 150);
  EXPECT_EQ(values.AtMost(9), 0u);
  EXPECT_EQ(values.AtMost(10), 1u);
  EXPECT_EQ(values.AtMost(1000), 5u);
  EXPECT_EQ(Durations().Percentile(50), 0);
}

// --- Runs with chosen times ------------------------------------------------------------------------------------------

class StatusFormats : public ::testing::Test {
 protected:
  StatusFormats() : state_((std::filesystem::temp_directory_path() / ("jobc-status-" + std::to_string(getpid()))).string()) {
    std::filesystem::remove_all(state_);
    std::filesystem::create_directories(RunDir(state_, kId));
    a = b.Scatter("a", 20);
    c = b.Job("c");
    for (uint32_t job : {a, c}) b[job].run = b.exprs().Constant(b.types().List(b.Type(ir::TypeKind::String)), ir::Value::List({ir::Value::String("true")}));
  }
  ~StatusFormats() override { std::filesystem::remove_all(state_); }

  void Begin() {
    RunHeader header;
    header.id = kId;
    header.source = "a \"quoted\"\\file\n.job";
    header.created_ms = kStart;
    auto journal = Journal::Create(RunDir(state_, kId) + "/journal.db", header, ir::WritePlan(b.plan), Durability::Normal);
    ASSERT_TRUE(journal.ok()) << journal.error().message;
    journal_.emplace(*std::move(journal));
    Write({.time_ms = kStart, .type = RecordType::Opened, .a = 1});
  }
  void Write(Record record) { ASSERT_TRUE(journal_->Append(record).ok()); }

  /// An attempt with a verdict at `ended` seconds after the start of the run; it ran for a second and waited for two.
  void Attempt(uint32_t job, int64_t ordinal, int32_t number, int64_t ended, std::optional<ir::ErrorKind> kind = {}) {
    const int64_t end = kStart + ended * kSecond;
    const auto job_number = static_cast<int32_t>(job);
    Write({.time_ms = end - 2 * kSecond, .type = RecordType::Intent, .job = job_number, .ordinal = ordinal, .attempt = number, .a = ++attempt_, .b = end - 3 * kSecond});
    Write({.time_ms = end - kSecond, .type = RecordType::Started, .job = job_number, .ordinal = ordinal, .attempt = number, .a = 99, .b = end - kSecond});
    const Verdict verdict = kind ? Failed(*kind, "why") : Succeeded();
    Write({.time_ms = end, .type = RecordType::Verdict, .job = job_number, .ordinal = ordinal, .attempt = number, .a = kind ? static_cast<int64_t>(*kind) : -1, .b = -1, .text = VerdictJson(verdict)});
    Write({.time_ms = end, .type = RecordType::Reaped, .job = job_number, .ordinal = ordinal, .attempt = number, .a = 250, .b = 4096, .text = std::to_string(end)});
  }
  std::unique_ptr<RunReader> Read() {
    EXPECT_TRUE(journal_->Commit().ok());
    auto reader = RunReader::Open(state_, kId);
    EXPECT_TRUE(reader.ok()) << (reader.ok() ? "" : reader.error().message);
    return *std::move(reader);
  }
  static RunMetrics At(const RunReader& run, int64_t seconds) {
    MetricsOptions options;
    options.when_ms = kStart + seconds * kSecond;
    return CollectMetrics(run, options);
  }
  static json Scale(const RunReader& run, int64_t seconds, bool all = false) {
    std::string text;
    WriteScaleStatus(run, At(run, seconds), all, [&](std::string_view piece) { text += piece; });
    return json::parse(text);
  }
  /// Scale's `job_executions` of the only node.
  static json Executions(const RunReader& run, int64_t seconds) { return Scale(run, seconds)["nodes"][0]["job_executions"]; }

  testing::PlanBuilder b;
  uint32_t a = 0, c = 0;
  std::string state_;
  std::optional<Journal> journal_;
  int64_t attempt_ = 0;
};

TEST_F(StatusFormats, ScaleCountsAnAttemptUntilItsBlockRollsOff) {
  Begin();
  Attempt(a, 0, 1, 3);
  Attempt(a, 1, 1, 299);
  Attempt(a, 2, 1, 300);
  auto run = Read();
  auto completed = [&](int64_t when) { return Executions(*run, when)["completed"]["total"].get<int>(); };
  EXPECT_EQ(completed(400), 3);
  EXPECT_EQ(completed(11100), 3);
  EXPECT_EQ(completed(11101), 1);
  EXPECT_EQ(completed(11400), 1);
  EXPECT_EQ(completed(11401), 0);
  // What is forgotten there is not forgotten in the totals of the run.
  EXPECT_EQ(At(*run, 99999).attempts.completed, 3u);
  EXPECT_EQ(At(*run, 99999).recent.completed, 0u);
}

TEST_F(StatusFormats, ScaleCountsByCategoryAndType) {
  using Kind = ir::ErrorKind;
  Begin();
  for (int i = 0; i < 2; ++i) Attempt(a, i, 1, 10);
  for (int i = 2; i < 5; ++i) Attempt(a, i, 1, 10, Kind::Exit);
  Attempt(a, 5, 1, 10, Kind::InvalidInput);
  for (int i = 6; i < 10; ++i) Attempt(a, i, 1, 10, Kind::NodeLost);
  Attempt(c, 0, 1, 10, Kind::Oom);
  Attempt(c, 0, 2, 20);
  Attempt(a, 10, 1, 10, Kind::Cancelled);
  auto run = Read();
  EXPECT_EQ(Executions(*run, 60), json::parse(R"({
    "running":  {"total":0,"by_job_type":[]},
    "completed":{"total":3,"by_job_type":[{"job_type_id":1,"count":2},{"job_type_id":2,"count":1}]},
    "failed":   {"total":9,
      "algorithm":{"total":4,"by_job_type":[{"job_type_id":1,"count":3},{"job_type_id":2,"count":1}]},
      "data":     {"total":1,"by_job_type":[{"job_type_id":1,"count":1}]},
      "system":   {"total":4,"by_job_type":[{"job_type_id":1,"count":4}]}}})"));
  // Scale counts cancelled executions nowhere: here they stand beside its own keys.
  const json node = Scale(*run, 60)["nodes"][0];
  EXPECT_EQ(node["canceled"], json::parse(R"({"total":1,"by_job_type":[{"job_type_id":1,"count":1}]})"));
  EXPECT_EQ(node["retried"], json::parse(R"({"total":1,"by_job_type":[{"job_type_id":2,"count":1}]})"));
  for (const char* key : {"id", "hostname", "agent_id", "is_active", "state", "errors", "warnings", "node_tasks", "system_tasks", "num_offers", "job_executions"}) EXPECT_TRUE(node.contains(key)) << key;
  const json status = Scale(*run, 60);
  for (const char* key : {"timestamp", "scheduler", "job_types", "nodes"}) EXPECT_TRUE(status.contains(key)) << key;
  EXPECT_EQ(status["job_types"][1]["name"], "c");
  // After three hours, five minutes and a second all is zero, and the keys are still there.
  EXPECT_EQ(Executions(*run, 20 + 3 * 3600 + 300 + 1), json::parse(R"({"running":{"total":0,"by_job_type":[]},"completed":{"total":0,"by_job_type":[]},"failed":{"total":0,
    "algorithm":{"total":0,"by_job_type":[]},"data":{"total":0,"by_job_type":[]},"system":{"total":0,"by_job_type":[]}}})"));
}

TEST_F(StatusFormats, ScaleListsTheTaskResultsOfExecutions) {
  Begin();
  Attempt(c, 0, 1, 100, ir::ErrorKind::NodeLost);
  Attempt(c, 0, 2, 200);
  Attempt(a, 3, 1, 300, ir::ErrorKind::Cancelled);
  auto run = Read();
  const json all = Scale(*run, 400)["job_exes"];
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]["status"], "CANCELED");
  EXPECT_EQ(all[0]["error"], nullptr);
  EXPECT_EQ(all[0]["job_key"], "a[\"3\"]");
  EXPECT_EQ(all[1]["status"], "FAILED");
  EXPECT_EQ(all[1]["error"]["name"], "node_lost");
  EXPECT_EQ(all[1]["error"]["category"], "SYSTEM");
  EXPECT_EQ(all[1]["cluster_id"], "scale_job_0mwr0000000000000000_1x1");
  EXPECT_EQ(all[2]["cluster_id"], "scale_job_0mwr0000000000000000_1x2") << "the same job, its second execution";
  EXPECT_EQ(all[2]["exe_num"], 2);
  EXPECT_EQ(all[2]["status"], "COMPLETED");
  EXPECT_EQ(all[2]["job_type"], 2);
  EXPECT_EQ(all[2]["queued"], "2023-11-14T22:16:37Z");
  EXPECT_EQ(all[2]["ended"], "2023-11-14T22:16:40Z");
  EXPECT_EQ(all[2]["task_results"], json::parse(R"({"version":"1.0","tasks":[
    {"task_id":"scale_job_0mwr0000000000000000_1x2_pre","type":"pre","was_launched":true,"launched":"2023-11-14T22:16:38Z","was_started":true,"started":"2023-11-14T22:16:38Z",
     "was_timed_out":false,"ended":"2023-11-14T22:16:39Z","status":"FINISHED","exit_code":0},
    {"task_id":"scale_job_0mwr0000000000000000_1x2_main","type":"main","was_launched":true,"launched":"2023-11-14T22:16:39Z","was_started":true,"started":"2023-11-14T22:16:39Z",
     "was_timed_out":false,"ended":"2023-11-14T22:16:40Z","status":"FINISHED","exit_code":0},
    {"task_id":"scale_job_0mwr0000000000000000_1x2_post","type":"post","was_launched":true,"launched":"2023-11-14T22:16:40Z","was_started":true,"started":"2023-11-14T22:16:40Z",
     "was_timed_out":false,"ended":"2023-11-14T22:16:40Z","status":"FINISHED","exit_code":0}]})"));
  EXPECT_EQ(Scale(*run, 99999)["job_exes"].size(), 0u) << "rolled off";
  EXPECT_EQ(Scale(*run, 99999, true)["job_exes"].size(), 3u) << "all were asked for";
}

TEST(ScaleTaskResults, FieldsAppearAsATaskGoesOn) {
  AttemptView attempt;
  attempt.intent_ms = 1'704'067'222'000;  // 2024-01-01T00:00:22Z
  auto tasks = [&] { return json::parse(ScaleTaskResults(attempt, "scale_job_1234_7x1"))["tasks"]; };
  auto keys = [](const json& task) {
    std::string out;
    for (const auto& [key, value] : task.items()) out += key + " ";
    return out;
  };
  EXPECT_EQ(keys(tasks()[0]), "launched started task_id type was_launched was_started ");
  EXPECT_EQ(keys(tasks()[1]), "task_id type was_launched ") << "not launched: three fields";
  EXPECT_EQ(tasks()[1]["was_launched"], false);
  attempt.started_ms = 1'704'067'223'000;
  EXPECT_EQ(keys(tasks()[1]), "launched started task_id type was_launched was_started ");
  attempt.exited_ms = 1'704'067'233'000;
  attempt.judged_ms = 1'704'067'233'000;
  auto judge = [&](Verdict verdict, std::optional<int> exit_code = {}, std::optional<int> signal = {}) {
    verdict.exit_code = exit_code;
    verdict.signal = signal;
    attempt.verdict = std::make_shared<const Verdict>(std::move(verdict));
  };
  judge(Failed(ir::ErrorKind::Exit, ""), 7);
  EXPECT_EQ(tasks()[1]["status"], "FAILED");
  EXPECT_EQ(tasks()[1]["exit_code"], 7);
  EXPECT_EQ(keys(tasks()[2]), "task_id type was_launched ") << "what comes after a failure is dropped";
  judge(Failed(ir::ErrorKind::Timeout, ""), {}, 9);
  EXPECT_EQ(tasks()[1]["status"], "KILLED");
  EXPECT_EQ(tasks()[1]["was_timed_out"], true);
  EXPECT_EQ(tasks()[1]["exit_code"], 137);
  judge(Failed(ir::ErrorKind::OutputMissing, ""));
  EXPECT_EQ(tasks()[1]["status"], "FINISHED") << "the program did its part";
  EXPECT_EQ(tasks()[2]["status"], "FAILED");
  judge(Succeeded());
  EXPECT_EQ(tasks()[1], json::parse(R"({"task_id":"scale_job_1234_7x1_main","type":"main","was_launched":true,"launched":"2024-01-01T00:00:23Z","was_started":true,
    "started":"2024-01-01T00:00:23Z","was_timed_out":false,"ended":"2024-01-01T00:00:33Z","status":"FINISHED","exit_code":0})"));
}

TEST(ScaleTime, HasMicrosecondsOnlyWhereThereAreAny) {
  EXPECT_EQ(ScaleTime(1'704'067'222'000), "2024-01-01T00:00:22Z");
  EXPECT_EQ(ScaleTime(1'704'067'222'040), "2024-01-01T00:00:22.040000Z");
}

TEST_F(StatusFormats, TheJsonAddsUp) {
  using Kind = ir::ErrorKind;
  Begin();
  Attempt(a, 0, 1, 10);
  Attempt(a, 1, 1, 400, Kind::Exit);
  Attempt(a, 1, 2, 500);
  Attempt(c, 0, 1, 500, Kind::Cancelled);
  Write({.time_ms = kStart + 600 * kSecond, .type = RecordType::Intent, .job = static_cast<int32_t>(a), .ordinal = 2, .attempt = 1, .a = 77});
  auto run = Read();
  const json metrics = json::parse(MetricsJson(*run, At(*run, 700)));
  EXPECT_EQ(metrics["attempts"], json::parse(R"({"cancelled":1,"completed":2,"failed":{"total":1,"system":0,"algorithm":1,"data":0},"lost":1,"running":0,"total":5})"));
  EXPECT_EQ(metrics["retries"], 1);
  EXPECT_EQ(metrics["queue_wait_ms"], json::parse(R"({"count":4,"max":2000,"mean":2000,"p50":2000,"p90":2000,"p95":2000,"p99":2000})")) << "ready until started";
  EXPECT_EQ(metrics["duration_ms"]["p50"], 1000);
  EXPECT_EQ(metrics["jobs"][0]["job"], "a");
  EXPECT_EQ(metrics["jobs"][0]["cpu_ms"], 750);
  EXPECT_EQ(metrics["jobs"][0]["max_memory"], 4096);
  EXPECT_EQ(metrics["jobs"][1]["attempts"]["cancelled"], 1);
  EXPECT_EQ(metrics["nodes"][0]["node"], "process");
  EXPECT_EQ(metrics["nodes"][0]["attempts"], metrics["attempts"]);
  const json& recent = metrics["recent"];
  EXPECT_EQ(recent["attempts"]["completed"], 2);
  EXPECT_EQ(recent["attempts"]["lost"], 0) << "neither running nor ended";
  uint64_t completed = 0, cancelled = 0;
  int64_t at = recent["blocks"][0]["start_ms"];
  for (const json& block : recent["blocks"]) {
    EXPECT_EQ(block["start_ms"], at);
    at = block["end_ms"];
    EXPECT_EQ(at - block["start_ms"].get<int64_t>(), 300'000);
    completed += block["completed"].get<uint64_t>();
    cancelled += block["cancelled"].get<uint64_t>();
    EXPECT_EQ(block["completed"], block["start_ms"] == kStart || block["start_ms"] == kStart + 300'000 ? 1 : 0);
    EXPECT_EQ(block["failed"]["algorithm"], block["start_ms"] == kStart + 300'000 ? 1 : 0);
  }
  EXPECT_EQ(completed, 2u);
  EXPECT_EQ(cancelled, 1u);
  EXPECT_GT(at, kStart + 700 * kSecond);
}

TEST_F(StatusFormats, AClockThatWasSetBackLosesNothing) {
  Begin();
  Attempt(a, 0, 1, 5000);
  auto run = Read();
  EXPECT_EQ(At(*run, 10).attempts.completed, 1u);
  EXPECT_EQ(At(*run, 10).recent.completed, 0u) << "not yet";
  EXPECT_EQ(At(*run, 5001).recent.completed, 1u);
}

}  // namespace
}  // namespace jobc
