#include "ir/expand.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "tests/ir/bench.h"

namespace jobc::ir::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// One job `j` in a plan whose program a Bench builds.
struct Expansion : Bench, ::testing::Test {
  Domain domain;

  Result<Instances> Expand(const Value* list = nullptr) {
    plan_.program = p;
    plan_.jobs.assign(1, Job{.address = "j", .domain = domain});
    evaluator_ = std::make_unique<Evaluator>(plan_.program);
    return Instances::Expand(plan_, 0, *evaluator_, context, list);
  }
  std::vector<std::string> Addresses() {
    Result<Instances> instances = Expand();
    if (!instances) return {"error: " + instances.error().message};
    std::vector<std::string> all;
    for (uint64_t i = 0; i < instances->size(); ++i) {
      all.push_back(instances->Address(i));
      EXPECT_EQ(instances->Find(instances->Indices(i)), static_cast<int64_t>(i)) << all.back();
    }
    return all;
  }
  ExprId Var(uint32_t slot, TypeId type) { return Make(Op::Var, type, {}, slot); }
  void Axis(std::string name, ExprId values) {
    TypeId list = p.exprs[values].type;
    domain.axes.push_back({.name = std::move(name), .values = values, .type = p.types[list].a});
  }

  Plan plan_;
  std::unique_ptr<Evaluator> evaluator_;
};

TEST_F(Expansion, AJobWithoutDomainHasOneInstance) {
  EXPECT_THAT(Addresses(), ElementsAre("j"));
  EXPECT_EQ(Expand()->KeyText(0), "");
}

TEST_F(Expansion, WithoutKeyTheIndexNamesTheInstance) {
  domain.list = Strings({"a", "b"});
  EXPECT_THAT(Addresses(), ElementsAre("j[\"0\"]", "j[\"1\"]"));
  EXPECT_EQ(Expand()->Var(1, 0).as_string(), "b");
}

TEST_F(Expansion, KeysThenAxesLastFastestWithoutExcludedOnes) {
  domain.list = Strings({"s1", "s2"});
  domain.key = Var(0, String());
  domain.key_kind = KeyKind::String;
  Axis("caller", Strings({"m", "s"}));
  Axis("ploidy", Ints({2, 4}));
  domain.excluded = {{{0, S("s")}, {1, I(4)}}};
  EXPECT_THAT(Addresses(), ElementsAre("j[\"s1\",\"m\",\"2\"]", "j[\"s1\",\"m\",\"4\"]", "j[\"s1\",\"s\",\"2\"]",
                                       "j[\"s2\",\"m\",\"2\"]", "j[\"s2\",\"m\",\"4\"]", "j[\"s2\",\"s\",\"2\"]"));
  Result<Instances> instances = Expand();
  EXPECT_EQ(instances->KeyText(2), "[\"s1\",\"s\",\"2\"]");
  EXPECT_EQ(instances->Var(4, 2).as_string(), "m");
  EXPECT_EQ(instances->Var(4, 3).as_int(), 4);
  EXPECT_THAT(instances->FindAll({}), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(instances->FindAll({Value::String("s2")}), ElementsAre(3, 4, 5));
  EXPECT_THAT(instances->FindAll({Value::String("s2"), Value::String("s")}), ElementsAre(5));
  EXPECT_THAT(instances->FindAll({Value::String("s3")}), ElementsAre());
  EXPECT_EQ(instances->Find({Value::String("s2"), Value::String("s"), Value::Int(4)}), -1) << "excluded";
  EXPECT_EQ(instances->Find({Value::String("s2")}), -1) << "too few indices";
  EXPECT_EQ(instances->Find({Value::Int(0), Value::String("s"), Value::Int(2)}), -1) << "another kind of key";
}

TEST_F(Expansion, MatrixAlone) {
  Axis("b", p.exprs.Constant(p.types.List(Bool()), Value::List({Value::Bool(true), Value::Bool(false)})));
  EXPECT_THAT(Addresses(), ElementsAre("j[\"true\"]", "j[\"false\"]"));
  domain.excluded = {{{0, B(true)}}, {{0, B(false)}}};
  EXPECT_THAT(Addresses(), ElementsAre());
  EXPECT_THAT(Expand()->FindAll({}), ElementsAre());
}

TEST_F(Expansion, MapsGiveKeyAndValue) {
  domain.list = Make(Op::Map, p.types.Map(String(), Int()), {S("b"), I(2), S("a"), I(1)});
  domain.two_names = true;
  domain.key = Var(0, String());
  EXPECT_THAT(Addresses(), ElementsAre("j[\"a\"]", "j[\"b\"]"));
  EXPECT_EQ(Expand()->Var(0, 1).as_int(), 1);
}

TEST_F(Expansion, ListsWithTwoNamesGiveIndexAndValue) {
  domain.list = Strings({"x", "y"});
  domain.two_names = true;
  domain.key = Var(1, String());
  EXPECT_THAT(Addresses(), ElementsAre("j[\"x\"]", "j[\"y\"]"));
  EXPECT_EQ(Expand()->Var(1, 0).as_int(), 1);
}

TEST_F(Expansion, ComputedKeysAreFoundByTheirValue) {
  domain.list = Call(Builtin::range, {I(3)});
  domain.key = Make(Op::Concat, String(), {S("shard-"), Call(Builtin::pad, {Var(0, Int()), I(3)})});
  EXPECT_THAT(Addresses(), ElementsAre("j[\"shard-000\"]", "j[\"shard-001\"]", "j[\"shard-002\"]"));
}

TEST_F(Expansion, RangesMayHaveAStepAndAreNotMaterialised) {
  domain.list = Call(Builtin::range, {I(10), I(0), I(-5)});
  domain.key = Var(0, Int());
  EXPECT_THAT(Addresses(), ElementsAre("j[\"10\"]", "j[\"5\"]"));
  domain.list = Make(Op::Range, Basic(TypeKind::Range), {I(1), I(1'000'000'000)});
  Result<Instances> many = Expand();
  ASSERT_TRUE(many.ok());
  EXPECT_EQ(many->size(), 1'000'000'000u);
  EXPECT_EQ(many->Find({Value::Int(1'000'000'000)}), 999'999'999);
  EXPECT_EQ(many->Find({Value::Int(0)}), -1);
  EXPECT_EQ(many->Find({Value::Int(INT64_MIN)}), -1);
}

TEST_F(Expansion, EqualKeysAreNamedWithBothElements) {
  domain.list = Strings({"a", "b", "a"});
  domain.key = Var(0, String());
  EXPECT_THAT(Addresses(), ElementsAre("error: `j`: two instances would be j[\"a\"]: elements 0 and 2 have the same key"));
  domain.key = Call(Builtin::length, {Var(0, String())});
  EXPECT_THAT(Addresses(), ElementsAre("error: `j`: two instances would be j[\"1\"]: elements 0 and 1 have the same key"));
}

TEST_F(Expansion, ImpossibleKeysAreNamed) {
  domain.key = Var(0, String());
  domain.list = Strings({""});
  EXPECT_THAT(Addresses()[0], HasSubstr("it is empty"));
  domain.list = Strings({"a\nb"});
  EXPECT_THAT(Addresses()[0], HasSubstr("control character"));
  domain.list = Strings({std::string(201, 'x')});
  EXPECT_THAT(Addresses()[0], HasSubstr("longer than 200 bytes"));
  domain.key = Arith(Op::Div, I(1), I(0));
  EXPECT_THAT(Addresses()[0], HasSubstr("divides by zero"));
}

TEST_F(Expansion, MoreThanMaxFails) {
  domain.list = Ints({1, 2, 3});
  domain.max = 2;
  EXPECT_THAT(Addresses(), ElementsAre("error: `j` spans 3 elements, but its `max` is 2"));
}

TEST_F(Expansion, ADynamicDomainTakesItsListFromTheRun) {
  domain.list = Make(Op::JobOutput, p.types.List(String()), {}, 0, 0);
  domain.dynamic = true;
  domain.key = Var(0, String());
  Value list = Value::List({Value::String("x"), Value::String("y")});
  Result<Instances> instances = Expand(&list);
  ASSERT_TRUE(instances.ok()) << instances.error().message;
  EXPECT_EQ(instances->Address(1), "j[\"y\"]");
  EXPECT_THAT(Expand().error().message, HasSubstr("not known here"));
  Value none = Value::List({});
  EXPECT_EQ(Expand(&none)->size(), 0u);
}

TEST_F(Expansion, ManyInstancesAreCheapToExpandAndToFind) {
  domain.list = Call(Builtin::range, {I(200'000)});
  domain.key = Make(Op::Concat, String(), {S("k"), Var(0, Int())});
  std::clock_t start = std::clock();  // processor time: other tests may run beside this one
  Result<Instances> instances = Expand();
  ASSERT_TRUE(instances.ok());
  for (int64_t i = 0; i < 200'000; i += 101) ASSERT_EQ(instances->Find({Value::String("k" + std::to_string(i))}), i);
  EXPECT_LT(std::clock() - start, 4 * CLOCKS_PER_SEC) << "about 0.06 s with optimisation";
}

TEST(Addresses, AreNamesWithJsonKeys) {
  EXPECT_EQ(FormatAddress("q/count", {}), "q/count");
  EXPECT_EQ(FormatAddress("j", {"a\"b", "2"}), "j[\"a\\\"b\",\"2\"]");
}

TEST(SafeName, KeepsPlainNamesAndEncodesTheRest) {
  EXPECT_EQ(SafeName("align"), "align");
  EXPECT_EQ(SafeName("j[\"s1\"]"), "j%5B%22s1%22%5D");
  EXPECT_EQ(SafeName(".hidden"), "%2Ehidden");
  EXPECT_EQ(SafeName("a/b"), "a%2Fb");
}

TEST(SafeName, IsUniqueIgnoringCaseAndBounded) {
  std::string lower = SafeName("j[\"a\"]"), upper = SafeName("j[\"A\"]");
  auto fold = [](std::string s) {
    for (char& c : s) c = static_cast<char>(std::tolower(c));
    return s;
  };
  EXPECT_NE(fold(lower), fold(upper));
  for (size_t limit : {11u, 20u, 63u, 200u}) {
    std::string one = SafeName(std::string(300, 'x') + "1", limit), two = SafeName(std::string(300, 'x') + "2", limit);
    EXPECT_LE(one.size(), limit);
    EXPECT_NE(one, two);
    std::string cut = SafeName(std::string(300, '/'), limit);
    EXPECT_LE(cut.size(), limit);
    EXPECT_EQ(cut.find('%', cut.size() < 13 ? cut.size() : cut.size() - 13), std::string::npos) << "no half of an escape: " << cut;
  }
}

}  // namespace
}  // namespace jobc::ir::test
