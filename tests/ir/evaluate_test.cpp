#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "tests/ir/bench.h"

namespace jobc::ir::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Evaluate : Bench, ::testing::Test {};

constexpr int64_t kMax = INT64_MAX, kMin = INT64_MIN;

TEST_F(Evaluate, IntArithmeticIsExactAndFindsEveryOverflow) {
  struct Row {
    Op op;
    int64_t x, y;
    const char* want;
  };
  const Row rows[] = {
      {Op::Add, 2, 3, "5"},          {Op::Add, kMax, 0, "9223372036854775807"}, {Op::Add, kMax, 1, "Overflow"},
      {Op::Add, kMin, -1, "Overflow"}, {Op::Sub, kMin, 1, "Overflow"},          {Op::Sub, 0, kMin, "Overflow"},
      {Op::Sub, -1, kMin, "9223372036854775807"}, {Op::Mul, kMax, -1, "-9223372036854775807"}, {Op::Mul, kMin, -1, "Overflow"},
      {Op::Mul, 3037000500, 3037000500, "Overflow"}, {Op::Mul, 3037000499, 3037000499, "9223372030926249001"},
      {Op::Div, 7, 2, "3"},          {Op::Div, -7, 2, "-3"},   {Op::Div, 7, -2, "-3"},  {Op::Div, kMin, -1, "Overflow"},
      {Op::Div, 1, 0, "DivisionByZero"}, {Op::Mod, 7, 3, "1"}, {Op::Mod, -7, 3, "-1"},  {Op::Mod, 7, -3, "1"},
      {Op::Mod, kMin, -1, "0"},      {Op::Mod, 1, 0, "DivisionByZero"}};
  for (const Row& row : rows) EXPECT_THAT(Eval(Arith(row.op, I(row.x), I(row.y))), StartsWith(row.want)) << row.x << " " << row.y;
  EXPECT_EQ(Eval(Arith(Op::Add, I(kMax), I(1))), "Overflow: `9223372036854775807 + 1` overflows 64 bits");
  EXPECT_EQ(Eval(Arith(Op::Div, I(5), I(0))), "DivisionByZero: `5 / 0` divides by zero");
  EXPECT_EQ(Eval(Make(Op::Negate, Int(), {I(kMin)})), "Overflow: `--9223372036854775808` overflows 64 bits");
  EXPECT_EQ(Eval(Make(Op::Negate, Int(), {I(5)})), "-5");
}

TEST_F(Evaluate, FloatsStayFinite) {
  EXPECT_EQ(Eval(Arith(Op::Add, F(0.1), F(0.2))), "0.30000000000000004");
  EXPECT_EQ(Eval(Arith(Op::Mul, F(1e308), F(10))), "Overflow: `1e+308 * 10.0` is not a finite number that fits");
  EXPECT_THAT(Eval(Arith(Op::Div, F(1), F(0))), StartsWith("DivisionByZero"));
  EXPECT_THAT(Eval(Arith(Op::Div, F(0), F(-0.0))), StartsWith("DivisionByZero"));
  EXPECT_EQ(Eval(Arith(Op::Mod, F(-7.5), F(2))), "-1.5");
  EXPECT_EQ(Eval(Arith(Op::Add, I(1), F(0.5))), "1.5");
  EXPECT_EQ(Eval(Make(Op::ToFloat, Float(), {I(3)})), "3.0");
}

TEST_F(Evaluate, QuantitiesScaleByNumbersRoundingDown) {
  EXPECT_EQ(Eval(Arith(Op::Mul, D(1000), I(3))), "3s");
  EXPECT_EQ(Eval(Arith(Op::Mul, F(1.5), D(1001))), "1501ms") << "1501.5 ms";
  EXPECT_EQ(Eval(Arith(Op::Mul, F(-1.5), D(1001))), "-1502ms");
  EXPECT_EQ(Eval(Arith(Op::Div, D(7), I(2))), "3ms");
  EXPECT_EQ(Eval(Arith(Op::Div, D(7), F(0.5))), "14ms");
  EXPECT_EQ(Eval(Arith(Op::Div, Y(10), F(3))), "3B");
  EXPECT_EQ(Eval(Arith(Op::Mul, Y(kMax), F(1))), "9223372036854775807B") << "no rounding through a Float";
  EXPECT_EQ(Eval(Arith(Op::Mul, Y(9007199254740993), F(0.5))), "4503599627370496B");
  EXPECT_THAT(Eval(Arith(Op::Mul, Y(kMax), F(1.0000000000000002))), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Arith(Op::Mul, Y(5), F(1e-320))), "0B");
  EXPECT_EQ(Eval(Arith(Op::Mul, Y(-5), F(1e-320))), "-1B");
  EXPECT_THAT(Eval(Arith(Op::Div, Y(1), F(1e-320))), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Arith(Op::Div, Y(5), F(1e300))), "0B");
  EXPECT_THAT(Eval(Arith(Op::Div, Y(5), F(0))), StartsWith("DivisionByZero"));
  EXPECT_THAT(Eval(Arith(Op::Div, Y(5), I(0))), StartsWith("DivisionByZero"));
  EXPECT_THAT(Eval(Arith(Op::Mul, Y(kMax), I(2))), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Arith(Op::Div, D(90'000), D(60'000))), "1.5");
  EXPECT_EQ(Eval(Arith(Op::Add, Y(1024), Y(1))), "1025B");
  EXPECT_EQ(Eval(Arith(Op::Mod, D(90'000), D(60'000))), "30s");
  EXPECT_THAT(Eval(Arith(Op::Mul, D(1), D(1))), StartsWith("BadArgument"));
  EXPECT_THAT(Eval(Arith(Op::Add, Y(1), I(1))), StartsWith("BadArgument"));
}

TEST_F(Evaluate, ComparesLikeWithLike) {
  EXPECT_EQ(Eval(Make(Op::Lt, Bool(), {S("a"), S("b")})), "true");
  EXPECT_EQ(Eval(Make(Op::Ge, Bool(), {I(2), F(1.5)})), "true");
  EXPECT_EQ(Eval(Make(Op::Le, Bool(), {D(5), D(5)})), "true");
  EXPECT_EQ(Eval(Make(Op::Gt, Bool(), {Y(5), Y(6)})), "false");
  EXPECT_EQ(Eval(Make(Op::Eq, Bool(), {Ints({1, 2}), Ints({1, 2})})), "true");
  EXPECT_EQ(Eval(Make(Op::Ne, Bool(), {Null(Int()), I(1)})), "true");
  EXPECT_THAT(Eval(Make(Op::Lt, Bool(), {Null(Int()), I(1)})), StartsWith("Null"));
  EXPECT_THAT(Eval(Make(Op::Lt, Bool(), {S("1"), I(1)})), StartsWith("BadArgument"));
}

TEST_F(Evaluate, FilesAreEqualByContent) {
  EXPECT_EQ(Eval(Make(Op::Eq, Bool(), {File("x/one"), File("x/two")})), "true");
  EXPECT_EQ(Eval(Make(Op::Eq, Bool(), {File("x"), File("y")})), "false");
  EXPECT_EQ(Eval(Make(Op::Eq, Bool(), {File("gs://b/x", FileBase::Uri), File("gs://b/y", FileBase::Uri)})), "false");
}

TEST_F(Evaluate, LogicIsLazy) {
  ExprId fails = Make(Op::Eq, Bool(), {Arith(Op::Div, I(1), I(0)), I(1)});
  EXPECT_EQ(Eval(Make(Op::And, Bool(), {B(false), fails})), "false");
  EXPECT_EQ(Eval(Make(Op::Or, Bool(), {B(true), fails})), "true");
  EXPECT_THAT(Eval(Make(Op::And, Bool(), {B(true), fails})), StartsWith("DivisionByZero"));
  EXPECT_EQ(Eval(Make(Op::If, Int(), {B(true), I(1), Arith(Op::Div, I(1), I(0))})), "1");
  EXPECT_EQ(Eval(Make(Op::Coalesce, Int(), {Null(Int()), I(3), Arith(Op::Div, I(1), I(0))})), "3");
  EXPECT_EQ(Eval(Make(Op::Not, Bool(), {B(true)})), "false");
}

TEST_F(Evaluate, MatchTakesTheFirstEqualArm) {
  EnumId mode = p.types.AddEnum({"Mode", {"full", "incremental"}});
  TypeId type = p.types.Enum(mode);
  ExprId full = p.exprs.Constant(type, Value::Enum(0)), incremental = p.exprs.Constant(type, Value::Enum(1));
  EXPECT_EQ(Eval(Make(Op::Match, Int(), {incremental, full, I(1), incremental, I(2)})), "2");
  EXPECT_EQ(Eval(Make(Op::Match, Int(), {incremental, full, I(1), I(3)})), "3");
  EXPECT_EQ(Eval(Make(Op::Match, Int(), {incremental, full, I(1)})), "BadArgument: no arm of `match` is for Mode.incremental: add it, or `_ => …`");
  EXPECT_EQ(Eval(Make(Op::Concat, String(), {incremental})), "\"incremental\"");
}

TEST_F(Evaluate, IndexingNamesWhatExists) {
  EXPECT_EQ(Eval(Make(Op::Index, Int(), {Ints({7, 8}), I(1)})), "8");
  EXPECT_EQ(Eval(Make(Op::Index, Int(), {Ints({7, 8}), I(2)})), "BadIndex: index 2 of a list with 2 elements: 0 to 1 exist");
  EXPECT_EQ(Eval(Make(Op::Index, Int(), {Ints({}), I(0)})), "BadIndex: index 0 of an empty list");
  EXPECT_EQ(Eval(Make(Op::Index, Int(), {Ints({7}), I(-1)})), "BadIndex: index -1 of a list with 1 elements: 0 to 0 exist");
  ExprId map = Make(Op::Map, p.types.Map(String(), Int()), {S("b"), I(2), S("a"), I(1)});
  EXPECT_EQ(Eval(map), "{\"a\" = 1, \"b\" = 2}");
  EXPECT_EQ(Eval(Make(Op::Index, Int(), {map, S("b")})), "2");
  EXPECT_EQ(Eval(Make(Op::Index, Int(), {map, S("c")})), "BadIndex: no key \"c\" in the map, which has \"a\", \"b\"");
}

TEST_F(Evaluate, JsonAnswersNullForWhatIsNotThere) {
  Value json = Value::MapFrom({{Value::String("rows"), Value::List({Value::Int(4)})}});
  ExprId j = p.exprs.Constant(Json(), json);
  TypeId optional = p.types.Optional(Json());
  uint32_t rows = p.exprs.AddConstant(Value::String("rows")), nope = p.exprs.AddConstant(Value::String("nope"));
  ExprId field = Make(Op::JsonField, optional, {j}, rows);
  EXPECT_EQ(Eval(field), "[4]");
  EXPECT_EQ(Eval(Make(Op::JsonField, optional, {Make(Op::JsonField, optional, {j}, nope)}, rows)), "null");
  EXPECT_EQ(Eval(Make(Op::Index, optional, {field, I(0)})), "4");
  EXPECT_EQ(Eval(Make(Op::Index, optional, {field, I(1)})), "null");
  EXPECT_EQ(Eval(Make(Op::Index, optional, {field, S("x")})), "null");
}

TEST_F(Evaluate, FieldsOfNullAreNullOnlyWhenAsked) {
  StructId s = p.types.AddStruct({.name = "P", .fields = {{.name = "x", .type = Int()}}});
  TypeId type = p.types.Struct(s);
  ExprId value = Make(Op::Struct, type, {I(4)});
  EXPECT_EQ(Eval(Make(Op::Field, Int(), {value}, 0)), "4");
  EXPECT_EQ(Eval(Make(Op::OptField, p.types.Optional(Int()), {Null(type)}, 0)), "null");
  EXPECT_THAT(Eval(Make(Op::Field, Int(), {Null(type)}, 0)), StartsWith("Null"));
  EXPECT_THAT(Eval(Make(Op::Field, Int(), {value}, 9)), StartsWith("BadArgument")) << "a field that does not exist is no crash";
  EXPECT_EQ(Eval(Make(Op::Narrow, Int(), {Null(Int())})), "Null: `null` is null here");
}

TEST_F(Evaluate, InLooksIntoListsMapsAndRanges) {
  ExprId range = Make(Op::Range, Basic(TypeKind::Range), {I(1), I(64)});
  EXPECT_EQ(Eval(Make(Op::In, Bool(), {I(64), range})), "true");
  EXPECT_EQ(Eval(Make(Op::In, Bool(), {I(65), range})), "false");
  EXPECT_EQ(Eval(Make(Op::In, Bool(), {I(2), Ints({1, 2})})), "true");
  EXPECT_EQ(Eval(Make(Op::In, Bool(), {S("a"), Make(Op::Map, p.types.Map(String(), Int()), {S("a"), I(1)})})), "true");
}

TEST_F(Evaluate, ListsTakeSplicesOfListsAndOptionals) {
  TypeId ints = p.types.List(Int());
  auto splice = [&](ExprId id) { return Make(Op::Splice, p.exprs[id].type, {id}); };
  ExprId null_list = Null(ints);
  EXPECT_EQ(Eval(Make(Op::List, ints, {I(1), splice(Ints({2, 3})), splice(Null(Int())), splice(null_list), I(4)})), "[1, 2, 3, 4]");
  EXPECT_EQ(Eval(Call(Builtin::length, {Make(Op::List, ints, {splice(Ints({2, 3}))})})), "2");
}

TEST_F(Evaluate, ComprehensionsRunOverListsMapsAndRanges) {
  TypeId ints = p.types.List(Int());
  ExprId doubled = Arith(Op::Mul, Local(0, Int()), I(2));
  EXPECT_EQ(Eval(Make(Op::ListFor, ints, {Ints({1, 2, 3}), doubled}, 0, 1)), "[2, 4, 6]");
  ExprId odd = Make(Op::Eq, Bool(), {Arith(Op::Mod, Local(0, Int()), I(2)), I(1)});
  EXPECT_EQ(Eval(Make(Op::ListFor, ints, {Make(Op::Range, Basic(TypeKind::Range), {I(1), I(5)}), doubled, odd}, 0, 1)), "[2, 6, 10]");
  ExprId sum = Arith(Op::Add, Local(3, Int()), Local(4, Int()));
  EXPECT_EQ(Eval(Make(Op::ListFor, ints, {Ints({10, 20}), sum}, 3, 2)), "[10, 21]") << "index and value";
  ExprId map = Make(Op::Map, p.types.Map(String(), Int()), {S("b"), I(2), S("a"), I(1)});
  EXPECT_EQ(Eval(Make(Op::ListFor, p.types.List(String()), {map, Local(0, String())}, 0, 2)), "[\"a\", \"b\"]") << "in key order";
  EXPECT_EQ(Eval(Make(Op::MapFor, p.types.Map(Int(), String()), {map, Local(1, Int()), Local(0, String())}, 0, 2)), "{1 = \"a\", 2 = \"b\"}");
  EXPECT_THAT(Eval(Make(Op::ListFor, ints, {Null(ints), doubled}, 0, 1)), StartsWith("Null"));
  // A nested comprehension keeps the outer variable.
  ExprId inner = Make(Op::ListFor, ints, {Ints({1, 2}), Arith(Op::Mul, Local(0, Int()), Local(1, Int()))}, 1, 1);
  EXPECT_EQ(Eval(Make(Op::ListFor, p.types.List(ints), {Ints({3, 4}), inner}, 0, 1)), "[[3, 6], [4, 8]]");
}

TEST_F(Evaluate, FunctionsSeeOnlyTheirParameters) {
  p.fns.push_back({.name = "double", .params = 1, .locals = 1, .body = Arith(Op::Mul, Local(0, Int()), I(2))});
  ExprId inner = Make(Op::Apply, Int(), {Local(0, Int())}, 0);
  EXPECT_EQ(Eval(Make(Op::ListFor, p.types.List(Int()), {Ints({5, 6}), inner}, 0, 1)), "[10, 12]");
  p.fns.push_back({.name = "bad", .params = 0, .locals = 0, .body = Local(0, Int())});
  EXPECT_THAT(Eval(Make(Op::ListFor, p.types.List(Int()), {Ints({5}), Make(Op::Apply, Int(), {}, 1)}, 0, 1)), StartsWith("BadArgument"));
}

TEST_F(Evaluate, LetsAreEvaluatedOnceUnlessTheyDependOnTheInstance) {
  p.lets.push_back({.name = "n", .value = Call(Builtin::size, {File("abc")})});
  ExprId twice = Arith(Op::Add, Make(Op::Let, Basic(TypeKind::Bytes), {}, 0), Make(Op::Let, Basic(TypeKind::Bytes), {}, 0));
  EXPECT_EQ(Eval(twice), "6B");
  EXPECT_EQ(context.size_calls, 1);
  p.lets.push_back({.name = "v", .value = Make(Op::Var, Int(), {}, 0)});
  Evaluator evaluator(p);
  ExprId v = Make(Op::Let, Int(), {}, 1);
  Value out;
  context.vars = {Value::Int(1)};
  ASSERT_TRUE(evaluator.Evaluate(v, context, out));
  context.vars = {Value::Int(2)};
  ASSERT_TRUE(evaluator.Evaluate(v, context, out));
  EXPECT_EQ(out.as_int(), 2);
}

TEST_F(Evaluate, InterpolationUsesTheOneTextForm) {
  ExprId text = Make(Op::Concat, String(), {S("a-"), I(5), S("-"), F(0.5), S("-"), B(true), S("-"), D(90'000), S("-"), Y(1024), S("-"), File("x.csv")});
  EXPECT_EQ(Eval(text), "\"a-5-0.5-true-90s-1024-/in/x.csv\"");
  EXPECT_EQ(Eval(Make(Op::Concat, String(), {p.exprs.Constant(Json(), Value::List({Value::Float(1), Value::String("x")}))})), "\"[1,\\\"x\\\"]\"");
  EXPECT_THAT(Eval(Make(Op::Concat, String(), {Null(Int())})), StartsWith("Null"));
  EXPECT_THAT(Eval(Make(Op::Concat, String(), {Ints({1})})), HasSubstr("List<Int> has no text form"));
  EXPECT_THAT(Eval(Make(Op::Concat, String(), {S(std::string("a\0b", 3))})), StartsWith("NotText"));
}

TEST_F(Evaluate, SecretsBecomeTextOnlyForTheEnvironment) {
  p.secrets.push_back({.name = "token"});
  TypeId secret_type = Basic(TypeKind::Secret);
  ExprId secret = Make(Op::Secret, secret_type, {}, 0);
  ExprId url = Make(Op::Concat, secret_type, {S("Bearer "), secret});
  Evaluator evaluator(p);
  Value out;
  ASSERT_TRUE(evaluator.Evaluate(url, context, out));
  EXPECT_EQ(out.kind(), ValueKind::Secret);
  std::string text = "untouched";
  EXPECT_FALSE(evaluator.ToText(out, secret_type, context, text));
  EXPECT_FALSE(evaluator.ToText(out, String(), context, text)) << "also if the type lies";
  EXPECT_FALSE(evaluator.ToText(out, Json(), context, text));
  EXPECT_EQ(text, "");
  std::vector<std::string> argv;
  EXPECT_FALSE(evaluator.EvaluateArgv(Make(Op::List, p.types.List(String()), {S("x"), url}), context, argv));
  EnvText env;
  ASSERT_TRUE(evaluator.EvaluateEnv(url, context, env));
  EXPECT_TRUE(env.secret);
  EXPECT_EQ(env.text, "Bearer hunter2");
  EXPECT_EQ(Eval(url), "(secret)");
  EXPECT_THAT(Eval(Make(Op::Eq, Bool(), {secret, S("hunter2")})), StartsWith("BadArgument: a secret cannot be compared"));
  EXPECT_THAT(Eval(Make(Op::Call, Int(), {secret}, static_cast<uint32_t>(Builtin::length))), StartsWith("NotText"));
  EXPECT_THAT(Eval(Make(Op::ToJson, Json(), {secret})), StartsWith("NotText"));
}

TEST_F(Evaluate, EnvironmentEntriesMayBeUnset) {
  Evaluator evaluator(p);
  EnvText env;
  ASSERT_TRUE(evaluator.EvaluateEnv(Null(String()), context, env));
  EXPECT_TRUE(env.unset);
  ASSERT_TRUE(evaluator.EvaluateEnv(D(5000), context, env));
  EXPECT_FALSE(env.unset);
  EXPECT_FALSE(env.secret);
  EXPECT_EQ(env.text, "5s");
}

TEST_F(Evaluate, ArgumentsAreTextsWithoutNulls) {
  Evaluator evaluator(p);
  std::vector<std::string> argv;
  TypeId args = Basic(TypeKind::Args);
  ExprId more = Make(Op::TemplateArgs, args, {S("--n"), I(3)});
  p.lets.push_back({.name = "more", .value = more});
  ExprId let = Make(Op::Let, args, {}, 0);
  auto splice = [&](ExprId id) { return Make(Op::Splice, p.exprs[id].type, {id}); };
  ExprId run = Make(Op::List, args, {S("tool"), I(8), F(0.5), File("a.bam"), splice(Strings({"x", "y"})), splice(Null(String())), splice(let)});
  ASSERT_TRUE(evaluator.EvaluateArgv(run, context, argv)) << evaluator.fault().message;
  EXPECT_THAT(argv, ElementsAre("tool", "8", "0.5", "/in/a.bam", "x", "y", "--n", "3"));
  ASSERT_TRUE(evaluator.EvaluateArgv(Strings({"a", "b"}), context, argv));
  EXPECT_THAT(argv, ElementsAre("a", "b"));
  EXPECT_FALSE(evaluator.EvaluateArgv(Make(Op::List, args, {S("tool"), Null(String())}), context, argv));
  EXPECT_THAT(evaluator.fault().message, HasSubstr("splice it"));
  ExprId nulls = p.exprs.Constant(p.types.List(p.types.Optional(String())), Value::List({Value()}));
  EXPECT_FALSE(evaluator.EvaluateArgv(Make(Op::List, args, {splice(nulls)}), context, argv));
  EXPECT_THAT(evaluator.fault().message, HasSubstr("compact"));
}

TEST_F(Evaluate, FileLiteralsAreRelativeToTheirSource) {
  uint32_t lib = p.exprs.AddConstant(Value::String("lib"));
  ExprId file = Make(Op::FileLiteral, Basic(TypeKind::File), {S("./qc.py")}, static_cast<uint32_t>(FileBase::Source), lib);
  EXPECT_EQ(Eval(file), "\"lib/qc.py\"");
  EXPECT_THAT(Eval(Make(Op::FileLiteral, Basic(TypeKind::File), {S("")}, 0, lib)), StartsWith("BadArgument: a path cannot be empty"));
}

TEST_F(Evaluate, GathersOutputsInInstanceOrder) {
  context.instances = {Value::Int(5), Value::Int(6)};
  EXPECT_EQ(Eval(Make(Op::GatherOutput, p.types.List(Int()), {}, 0, 0)), "[5, 6]");
  ExprId each = Make(Op::InstanceOutput, Int(), {Local(0, p.types.Instance(0))}, 0, 0);
  EXPECT_EQ(Eval(Make(Op::ListFor, p.types.List(Int()), {Make(Op::Instances, p.types.List(p.types.Instance(0)), {}, 0), each}, 0, 1)), "[5, 6]");
}

TEST_F(Evaluate, WhatTheContextCannotGiveIsUnavailable) {
  EXPECT_EQ(Eval(Make(Op::Input, Int(), {}, 0)), "Unavailable: `input` is not known here");
  EXPECT_EQ(Eval(Make(Op::Prev, Int(), {}, static_cast<uint32_t>(PrevKind::TimeoutRun))), "Unavailable: `prev.timeout.run` is not known here");
  p.params.push_back({.name = "n", .type = Int()});
  EXPECT_EQ(Eval(Make(Op::Param, Int(), {}, 0)), "Unavailable: `params.n` has no value yet");
}

TEST_F(Evaluate, FaultsPointToTheSmallestExpression) {
  ExprId division = Arith(Op::Div, I(1), I(0));
  ExprId whole = Arith(Op::Add, I(1), division);
  Evaluator evaluator(p);
  Value out;
  EXPECT_FALSE(evaluator.Evaluate(whole, context, out));
  EXPECT_EQ(evaluator.fault().at, division);
}

// ---- Refinements -------------------------------------------------------------------------------------------------------

struct Refine : Evaluate {
  TypeId Range(int64_t low, int64_t high) {
    Refinement r{.kind = RefinementKind::IntRange, .int_low = low, .int_high = high, .text = std::to_string(low) + ".." + std::to_string(high)};
    return p.types.Refined(Int(), p.types.AddRefinement(std::move(r)));
  }
  std::string Check(const Value& value, TypeId type, std::string_view place = "params.n") {
    Evaluator evaluator(p);
    return evaluator.CheckRefinements(value, type, place, context) ? "ok" : evaluator.fault().message;
  }
};

TEST_F(Refine, MessagesNamePlaceValueAndRefinement) {
  TypeId port = Range(1, 64);
  EXPECT_EQ(Check(Value::Int(64), port), "ok");
  EXPECT_EQ(Check(Value::Int(80), port), "`params.n` must be 1..64, but is 80");
  EXPECT_EQ(Check(Value::Int(80), port, ""), "must be 1..64, but is 80");
  TypeId day = p.types.Refined(String(), p.types.AddRefinement({.kind = RefinementKind::Pattern, .pattern = "\\d{4}", .text = "re\"\\d{4}\""}));
  EXPECT_EQ(Check(Value::String("2024"), day), "ok");
  EXPECT_EQ(Check(Value::String("x2024"), day), "`params.n` must match re\"\\d{4}\", but is \"x2024\"") << "the whole text must match";
}

TEST_F(Refine, PartsOfValuesAreCheckedWithTheirPointer) {
  TypeId port = Range(1, 64);
  EXPECT_EQ(Check(Value::List({Value::Int(1), Value::Int(0)}), p.types.List(port)), "`params.n` at `/1` must be 1..64, but is 0");
  StructId s = p.types.AddStruct({.name = "S", .fields = {{.name = "a/b", .type = p.types.Optional(port)}}});
  TypeId map = p.types.Map(String(), p.types.Struct(s));
  Value bad = Value::MapFrom({{Value::String("k"), Value::List({Value::Int(99)})}});
  EXPECT_EQ(Check(bad, map, ""), "/k/a~1b: must be 1..64, but is 99");
  EXPECT_EQ(Check(Value::MapFrom({{Value::String("k"), Value::List({Value()})}}), map), "ok") << "null satisfies T?";
  EXPECT_EQ(Check(Value::List({Value::Int(3), Value::Int(99)}), p.types.Pair(port, port)), "`params.n` at `/second` must be 1..64, but is 99");
}

TEST_F(Refine, PredicatesSeeTheValueAsIt) {
  ExprId predicate = Make(Op::Gt, Bool(), {Call(Builtin::length, {Local(0, String())}), I(0)});
  TypeId text = p.types.Refined(String(), p.types.AddRefinement({.kind = RefinementKind::Predicate, .predicate = predicate, .text = "length(it) > 0"}));
  EXPECT_EQ(Check(Value::String("x"), text), "ok");
  EXPECT_EQ(Check(Value::String(""), text, "params.name"), "`params.name` must satisfy length(it) > 0, but is \"\"");
}

TEST_F(Refine, CheckedStandsAtDeclaredPlaces) {
  uint32_t place = p.exprs.AddConstant(Value::String("shard_name.i"));
  TypeId port = Range(1, 64);
  EXPECT_EQ(Eval(Make(Op::Checked, port, {I(7)}, place)), "7");
  EXPECT_EQ(Eval(Make(Op::Checked, port, {I(0)}, place)), "Refinement: `shard_name.i` must be 1..64, but is 0");
}

// ---- Bounds on work and depth ------------------------------------------------------------------------------------------

TEST_F(Evaluate, ExponentialWorkEndsWithinTheBudget) {
  p.fns.push_back({.name = "f0", .params = 1, .locals = 1, .body = Local(0, Int())});
  for (uint32_t i = 1; i < 60; ++i) {
    ExprId one = Make(Op::Apply, Int(), {Local(0, Int())}, i - 1);
    ExprId two = Make(Op::Apply, Int(), {Local(0, Int())}, i - 1);
    p.fns.push_back({.name = "f" + std::to_string(i), .params = 1, .locals = 1, .body = Arith(Op::Add, one, two)});
  }
  EXPECT_THAT(Eval(Make(Op::Apply, Int(), {I(1)}, 59), 200'000), StartsWith("TooLarge"));
}

TEST_F(Evaluate, ListsAndTextsAreBoundedBeforeTheyAreBuilt) {
  EXPECT_THAT(Eval(Call(Builtin::range, {I(int64_t{1} << 40)})), StartsWith("TooLarge"));
  EXPECT_THAT(Eval(Call(Builtin::range, {I(kMin), I(kMax), I(1)})), StartsWith("TooLarge"));
  ExprId doubled = S("0123456789");
  for (int i = 0; i < 40; ++i) doubled = Make(Op::Concat, String(), {doubled, doubled});
  EXPECT_THAT(Eval(doubled, 10'000'000), StartsWith("TooLarge"));
}

TEST_F(Evaluate, DeepChainsAreAFaultAndNoCrash) {
  ExprId chain = I(0);
  for (int i = 0; i < 100'000; ++i) {
    p.lets.push_back({.name = "l", .value = Make(Op::Add, Int(), {chain, I(1)})});
    chain = Make(Op::Let, Int(), {}, static_cast<uint32_t>(p.lets.size() - 1));
  }
  EXPECT_THAT(Eval(chain), StartsWith("TooLarge"));
  // In order, each one needs only the one before it.
  Evaluator evaluator(p);
  Value out;
  for (uint32_t i = 0; i < 100'000; ++i) ASSERT_TRUE(evaluator.Evaluate(Make(Op::Let, Int(), {}, i), context, out));
  EXPECT_EQ(out.as_int(), 100'000);
}

TEST_F(Evaluate, JsonCannotBeNestedWithoutBound) {
  // f0 wraps once, each further function applies the one before twice: 2^20 levels without this bound.
  p.fns.push_back({.name = "f0", .params = 1, .locals = 1, .body = Call(Builtin::json, {Make(Op::List, p.types.List(Json()), {Local(0, Json())})})});
  for (uint32_t i = 1; i < 20; ++i) {
    p.fns.push_back({.name = "f", .params = 1, .locals = 1, .body = Make(Op::Apply, Json(), {Make(Op::Apply, Json(), {Local(0, Json())}, i - 1)}, i - 1)});
  }
  EXPECT_THAT(Eval(Make(Op::Apply, Json(), {p.exprs.Constant(Json(), Value::Int(1))}, 19)), HasSubstr("nested deeper than 256"));
}

TEST_F(Evaluate, TemplatedStringsAreCheap) {
  ExprId text = Make(Op::Concat, String(), {S("shard-"), Local(0, Int()), S(".csv")});
  ExprId list = Make(Op::ListFor, p.types.List(String()), {Call(Builtin::range, {I(200'000)}), text}, 0, 1);
  Evaluator evaluator(p);
  Value out;
  std::clock_t start = std::clock();  // processor time: other tests may run beside this one
  ASSERT_TRUE(evaluator.Evaluate(list, context, out));
  EXPECT_EQ(out.as_list()[199'999].as_string(), "shard-199999.csv");
  EXPECT_LT(std::clock() - start, 4 * CLOCKS_PER_SEC) << "about 0.03 s with optimisation";
}

TEST_F(Evaluate, DumpsReadLikeTheLanguage) {
  p.params.push_back({.name = "n", .type = Int()});
  ExprId n = Make(Op::Param, Int(), {}, 0);
  EXPECT_EQ(DumpExpr(p, Arith(Op::Mul, Call(Builtin::abs, {n}), I(2))), "(abs(params.n) * 2)");
  EXPECT_EQ(DumpExpr(p, Make(Op::ListFor, p.types.List(Int()), {Ints({1}), Local(0, Int())}, 0, 1)), "[for $0 in [1] : $0]");
  EXPECT_EQ(DumpExpr(p, ExprId{}), "?");
}

}  // namespace
}  // namespace jobc::ir::test
