#include "ir/plan_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <random>

#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/json.h"
#include "tests/ir/plan_maker.h"

namespace jobc::ir::test {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text) {
  Result<Plan> plan = ReadPlan(text);
  return plan ? "ok" : plan.error().message;
}

std::string Replaced(std::string text, std::string_view what, std::string_view with) {
  size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  if (at != std::string::npos) text.replace(at, what.size(), with);
  return text;
}

TEST(PlanJson, AnEmptyPlanIsShort) {
  EXPECT_EQ(WritePlan(Plan{}),
            "{\"enums\":[],\"exports\":[],\"files\":[],\"fns\":[],\"format\":\"jobc.plan/1\",\"functions\":1,\"jobs\":[],\"lets\":[],\"limits\":{},"
            "\"minor\":1,\"params\":[],\"pools\":[],\"profile\":\"\",\"publish\":[],\"secrets\":[],\"shared\":[],\"sources\":[],\"structs\":[],"
            "\"types\":[]}\n");
}

TEST(PlanJson, WritingReadingAndWritingGivesTheSameBytes) {
  for (uint64_t seed = 0; seed < 80; ++seed) {
    std::string text = WritePlan(PlanMaker(seed).Make());
    Result<Plan> plan = ReadPlan(text);
    ASSERT_TRUE(plan.ok()) << seed << ": " << plan.error().message << "\n" << text;
    EXPECT_EQ(WritePlan(*plan), text) << seed;
    EXPECT_EQ(PlanDigest(*plan).size(), 64u);
  }
}

TEST(PlanJson, TheTextIsCanonicalJson) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::string text = WritePlan(PlanMaker(seed).Make());
    Result<Value> parsed = ParseJson(text);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    EXPECT_EQ(JsonText(*parsed) + "\n", text) << seed;
  }
}

TEST(PlanJson, OnlyWhatIsReachedIsWritten) {
  std::string text = WritePlan(PlanMaker(1).Make());
  EXPECT_EQ(text.find("unused"), std::string::npos);
  EXPECT_EQ(text.find("Unused"), std::string::npos);
}

TEST(PlanJson, ReadPlansEvaluateToTheSameValues) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Plan plan = PlanMaker(seed).Make();
    Result<Plan> back = ReadPlan(WritePlan(plan));
    ASSERT_TRUE(back.ok());
    EvalContext nothing;
    Evaluator before(plan.program, 1'000'000), after(back->program, 1'000'000);
    Value x, y;
    bool ok = before.Evaluate(plan.exports[0].value, nothing, x);
    EXPECT_EQ(after.Evaluate(back->exports[0].value, nothing, y), ok) << seed;
    if (ok) {
      EXPECT_EQ(Value::Compare(x, y), 0) << seed;
    }
  }
}

TEST(PlanJson, VersionsAreChecked) {
  std::string text = WritePlan(Plan{});
  EXPECT_THAT(ErrorOf(Replaced(text, "jobc.plan/1", "jobc.plan/2")), HasSubstr("the plan has the format jobc.plan/2, this jobc reads jobc.plan/1"));
  EXPECT_THAT(ErrorOf(Replaced(text, "\"functions\":1", "\"functions\":99")), HasSubstr("version 99 of the built-in functions"));
  EXPECT_THAT(ErrorOf(Replaced(text, "\"lets\"", "\"extra\":1,\"lets\"")), HasSubstr("unknown member \"extra\""));
  std::string newer = Replaced(Replaced(text, "\"minor\":1", "\"minor\":7"), "\"lets\"", "\"extra\":1,\"lets\"");
  EXPECT_EQ(ErrorOf(newer), "ok") << "a newer minor version may have more members";
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("this is not a plan"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty"));
  EXPECT_THAT(ErrorOf("[1]"), HasSubstr("a plan is a JSON object"));
}

TEST(PlanJson, ErrorsSayWhere) {
  std::string text = WritePlan(PlanMaker(3).Make());
  EXPECT_THAT(ErrorOf(Replaced(text, "\"kind\":\"slurm\"", "\"kind\":\"slrum\"")), HasSubstr("/jobs/0/backend: \"kind\" cannot be \"slrum\""));
  EXPECT_THAT(ErrorOf(Replaced(text, "\"address\":\"q/job0\",", "")), HasSubstr("/jobs/0: the member \"address\" is missing"));
}

/// A plan with these lets, functions and types.
std::string PlanWith(std::string_view member, std::string_view json) {
  return Replaced(WritePlan(Plan{}), "\"" + std::string(member) + "\":[]", "\"" + std::string(member) + "\":" + std::string(json));
}

TEST(PlanJson, WhatCouldMisleadTheEvaluatorIsRefused) {
  EXPECT_THAT(ErrorOf(PlanWith("lets", R"([{"memo":true,"name":"a","value":{"let":0,"op":"let","type":"Int"}}])")), HasSubstr("uses itself"));
  EXPECT_THAT(ErrorOf(PlanWith("lets", R"([{"memo":true,"name":"a","value":{"let":1,"op":"let","type":"Int"}}])")), HasSubstr("whole number from 0 to 0"));
  EXPECT_THAT(ErrorOf(PlanWith("lets", R"([{"memo":true,"name":"a","value":{"input":0,"op":"input","type":"Int"}}])")), HasSubstr("outside of jobs"));
  EXPECT_THAT(ErrorOf(PlanWith("fns", R"([{"body":{"args":[{"op":"local","slot":0,"type":"Int"}],"fn":0,"op":"apply","type":"Int"},"locals":1,"name":"f","params":1}])")),
              HasSubstr("uses itself"));
  EXPECT_THAT(ErrorOf(PlanWith("fns", R"([{"body":{"op":"const","type":"Int","value":1},"locals":1,"name":"f","params":2}])")), HasSubstr("\"params\""));
  EXPECT_THAT(ErrorOf(PlanWith("shared", R"([{"args":[{"ref":0}],"op":"not","type":"Bool"}])")), HasSubstr("earlier row"));
  EXPECT_THAT(ErrorOf(PlanWith("shared", R"([{"op":"not","type":"Bool"}])")), HasSubstr("cannot have 0 arguments"));
  EXPECT_THAT(ErrorOf(PlanWith("shared", R"([{"op":"const","type":"Int","value":"x"}])")), HasSubstr("/shared/0/value: this is not the text of a Int"));
  EXPECT_THAT(ErrorOf(PlanWith("shared", R"([{"op":"const","type":"Secret","value":"x"}])")), HasSubstr("holds no values of type Secret"));
  EXPECT_THAT(ErrorOf(PlanWith("shared", R"([{"op":"error","type":"Int"}])")), HasSubstr("cannot be \"error\""));
  EXPECT_THAT(ErrorOf(PlanWith("shared", R"([{"op":"local","slot":1000000,"type":"Int"}])")), HasSubstr("\"slot\""));
  EXPECT_THAT(ErrorOf(PlanWith("types", R"([{"list":0}])")), HasSubstr("no type with this number"));
  EXPECT_THAT(ErrorOf(PlanWith("types", R"([{"struct":0}])")), HasSubstr("does not exist"));
  EXPECT_THAT(ErrorOf(PlanWith("types", R"([{"map":["Bool","Int"]}])")), HasSubstr("keys of a map"));
  std::string recursive = Replaced(PlanWith("types", R"([{"struct":0}])"), "\"structs\":[]", R"("structs":[{"fields":[{"name":"x","type":0}],"name":"S"}])");
  EXPECT_THAT(ErrorOf(recursive), HasSubstr("a struct contains itself"));
  std::string deep = R"({"op":"const","type":"Bool","value":true})";
  for (int i = 0; i < 590; ++i) deep = R"({"args":[)" + deep + R"(],"op":"not","type":"Bool"})";
  EXPECT_EQ(ErrorOf(PlanWith("shared", "[" + deep + "]")), "ok");
  std::string rows = deep;
  for (int i = 0; i < 1000; ++i) rows += R"(,{"args":[{"ref":)" + std::to_string(i) + R"(}],"op":"not","type":"Bool"})";
  EXPECT_THAT(ErrorOf(PlanWith("shared", "[" + rows + "]")), HasSubstr("nested too deeply"));
}

TEST(PlanJson, JobsCannotWaitForEachOther) {
  Plan plan;
  plan.jobs.resize(2);
  plan.jobs[0].address = "a";
  plan.jobs[1].address = "b";
  plan.jobs[0].dependencies = {{.job = 1}};
  EXPECT_EQ(ErrorOf(WritePlan(plan)), "ok");
  plan.jobs[1].dependencies = {{.job = 0}};
  EXPECT_THAT(ErrorOf(WritePlan(plan)), HasSubstr("form a cycle"));
}

TEST(PlanJson, JobsUseOnlyWhatTheyHave) {
  Plan plan;
  plan.jobs.resize(1);
  Job& job = plan.jobs[0];
  TypeId integer = plan.program.types.Basic(TypeKind::Int);
  job.priority = plan.program.exprs.Add(Op::Input, integer, {}, {}, 0);
  EXPECT_THAT(ErrorOf(WritePlan(plan)), HasSubstr("that it does not have"));
  job.priority = plan.program.exprs.Add(Op::Var, integer, {}, {}, 2);
  EXPECT_THAT(ErrorOf(WritePlan(plan)), HasSubstr("that it does not have"));
  job.priority = plan.program.exprs.Constant(plan.program.types.Basic(TypeKind::String), Value::String("x"));
  EXPECT_THAT(ErrorOf(WritePlan(plan)), HasSubstr("/jobs/0/priority: an expression of type String cannot stand here"));
}

/// Reads a text; whatever can be read is also expanded, evaluated and written again.
void Exercise(const std::string& text) {
  Result<Plan> plan = ReadPlan(text);
  if (!plan) return;
  EvalContext nothing;
  Evaluator evaluator(plan->program, 20'000);
  for (uint32_t i = 0; i < plan->program.exprs.size(); ++i) {
    Value out;
    static_cast<void>(evaluator.Evaluate(ExprId{i}, nothing, out));
  }
  for (uint32_t i = 0; i < plan->jobs.size(); ++i) static_cast<void>(Instances::Expand(*plan, i, evaluator, nothing).ok());
  std::string again = WritePlan(*plan);
  EXPECT_TRUE(ReadPlan(again).ok()) << again;
}

TEST(PlanJson, MutatedPlansNeverCrash) {
  std::mt19937_64 random(11);
  std::vector<std::string> seeds;
  for (uint64_t seed = 0; seed < 8; ++seed) seeds.push_back(WritePlan(PlanMaker(seed).Make()));
  int read = 0;
  for (int i = 0; i < 300; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (uint64_t n = 1 + random() % 3; n-- > 0;) {
      size_t at = random() % text.size();
      switch (random() % 5) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text[at] = "0123456789[]{},:\"-"[random() % 18]; break;
        case 2: text.erase(at, random() % 8); break;
        case 3: text.insert(at, text.substr(random() % text.size(), random() % 40)); break;
        default: {
          // Another number where a number stands: what a forger would try.
          size_t digit = text.find_first_of("0123456789", at);
          if (digit != std::string::npos) text.replace(digit, 1, std::to_string(random() % 20));
        }
      }
    }
    read += ReadPlan(text).ok();
    Exercise(text);
  }
  EXPECT_GT(read, 5) << "some mutations stay plans, so that what follows is tested too";
}

TEST(PlanJson, ALargeParameterIsStoredOnce) {
  Plan plan;
  TypeId list_type = plan.program.types.List(plan.program.types.Basic(TypeKind::String));
  ListValue list;
  size_t plain = 2;
  for (int i = 0; i < 100'000; ++i) {
    list.push_back(Value::String("sample-" + std::to_string(i)));
    plain += list.back().as_string().size() + 3;
  }
  plan.program.params.push_back({.name = "samples", .type = list_type, .value = Value::List(std::move(list))});
  Job job{.address = "align"};
  job.domain.list = plan.program.exprs.Add(Op::Param, list_type, {});
  job.domain.key = plan.program.exprs.Add(Op::Var, plan.program.types.Basic(TypeKind::String), {});
  job.domain.key_kind = KeyKind::String;
  plan.jobs.push_back(std::move(job));
  std::string text = WritePlan(plan);
  EXPECT_LT(text.size(), plain + 10'000);
  ASSERT_TRUE(ReadPlan(text).ok());
}

TEST(PlanJson, ManyJobsAreWrittenQuickly) {
  Plan plan;
  TypeId args = plan.program.types.Basic(TypeKind::Args), string = plan.program.types.Basic(TypeKind::String);
  for (uint32_t i = 0; i < 5'000; ++i) {
    Job job{.address = "job" + std::to_string(i)};
    job.action = ActionKind::Run;
    ExprId words[] = {plan.program.exprs.Constant(string, Value::String("echo")), plan.program.exprs.Constant(string, Value::String(std::to_string(i)))};
    job.run = plan.program.exprs.Add(Op::List, args, 0, 0, words, 2);
    if (i > 0) job.dependencies = {{.job = i - 1}};
    plan.jobs.push_back(std::move(job));
  }
  std::clock_t start = std::clock();
  std::string text = WritePlan(plan);
  EXPECT_LT(std::clock() - start, 3 * CLOCKS_PER_SEC) << "about 10 ms with optimisation";
  EXPECT_TRUE(ReadPlan(text).ok());
}

}  // namespace
}  // namespace jobc::ir::test
