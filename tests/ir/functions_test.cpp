#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ir/bench.h"

namespace jobc::ir::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using enum Builtin;

/// Each built-in function by what it gives: expression, wanted text.
struct Functions : Bench, ::testing::Test {
  ExprId Map() { return Make(Op::Map, p.types.Map(String(), Int()), {S("b"), I(2), S("a"), I(1)}); }
};

TEST_F(Functions, Length) {
  EXPECT_EQ(Eval(Call(length, {S("")})), "0");
  EXPECT_EQ(Eval(Call(length, {S("aä😀")})), "3") << "scalar values, not bytes";
  EXPECT_EQ(Eval(Call(length, {Ints({1, 2})})), "2");
  EXPECT_EQ(Eval(Call(length, {Map()})), "2");
}

TEST_F(Functions, JoinAndSplit) {
  EXPECT_EQ(Eval(Call(join, {Strings({"a", "b"}), S(", ")})), "\"a, b\"");
  EXPECT_EQ(Eval(Call(join, {Ints({1, 2}), S("")})), "\"12\"");
  EXPECT_EQ(Eval(Call(join, {Strings({}), S(",")})), "\"\"");
  EXPECT_EQ(Eval(Call(split, {S("a,,b"), S(",")})), "[\"a\", \"\", \"b\"]");
  EXPECT_EQ(Eval(Call(split, {S(""), S(",")})), "[\"\"]");
  EXPECT_THAT(Eval(Call(split, {S("a"), S("")})), StartsWith("BadArgument"));
}

TEST_F(Functions, TrimAndCase) {
  EXPECT_EQ(Eval(Call(trim, {S(" \t\n a b \r\n")})), "\"a b\"");
  EXPECT_EQ(Eval(Call(trim, {S("\u00a0\u2003x\u3000")})), "\"x\"");
  EXPECT_EQ(Eval(Call(trim, {S("  ")})), "\"\"");
  EXPECT_EQ(Eval(Call(lower, {S("AZ[ÄÖ")})), "\"az[ÄÖ\"") << "ASCII only";
  EXPECT_EQ(Eval(Call(upper, {S("az{ä")})), "\"AZ{ä\"");
}

TEST_F(Functions, Replace) {
  EXPECT_EQ(Eval(Call(replace, {S("aaa"), S("aa"), S("b")})), "\"ba\"");
  EXPECT_THAT(Eval(Call(replace, {S("a"), S(""), S("b")})), StartsWith("BadArgument"));
  EXPECT_EQ(Eval(Call(replace, {S("x1y22"), Re("(\\d+)"), S("<\\1>")})), "\"x<1>y<22>\"");
  EXPECT_EQ(Eval(Call(replace, {S("äb"), Re(""), S("-")})), "\"-ä-b-\"") << "empty matches step over characters";
  EXPECT_EQ(Eval(Call(replace, {S("aab"), Re("a*"), S("-")})), "\"-b-\"");
  EXPECT_THAT(Eval(Call(replace, {S("a"), Re("a"), S("\\7")})), StartsWith("BadArgument"));
}

TEST_F(Functions, Matching) {
  EXPECT_EQ(Eval(Call(starts_with, {S("abc"), S("ab")})), "true");
  EXPECT_EQ(Eval(Call(ends_with, {S("abc"), S("abcd")})), "false");
  EXPECT_EQ(Eval(Call(matches, {S("ab1"), Re("[a-z]+")})), "false") << "the whole text";
  EXPECT_EQ(Eval(Call(matches, {S("ab"), Re("[a-z]+")})), "true");
  EXPECT_EQ(Eval(Call(contains, {S("ab1"), Re("[0-9]")})), "true") << "anywhere";
  EXPECT_EQ(Eval(Call(contains, {S("abc"), S("bc")})), "true");
  EXPECT_EQ(Eval(Call(contains, {Ints({1, 2}), I(3)})), "false");
  EXPECT_EQ(Eval(Call(contains, {Map(), S("a")})), "true");
  EXPECT_THAT(Eval(Call(matches, {S("a"), Re("(")})), HasSubstr("is not valid"));
}

TEST_F(Functions, Format) {
  EXPECT_EQ(Eval(Call(format, {S("{}-{}"), I(1), S("x")})), "\"1-x\"");
  EXPECT_EQ(Eval(Call(format, {S("{:5}|{:<5}|{:^5}|{:>5}"), I(1), I(2), I(3), S("x")})), "\"    1|2    |  3  |    x\"");
  EXPECT_EQ(Eval(Call(format, {S("{:5}|"), S("ä")})), "\"ä    |\"");
  EXPECT_EQ(Eval(Call(format, {S("{:05}|{:05}"), I(-42), F(1.5)})), "\"-0042|001.5\"");
  EXPECT_EQ(Eval(Call(format, {S("{:.3} {:.0} {:8.2}"), F(0.0005), F(2.5), I(3)})), "\"0.001 2     3.00\"") << "0.0005 is a little more, 2.5 is even";
  EXPECT_EQ(Eval(Call(format, {S("{{}} {}"), I(1)})), "\"{} 1\"");
  EXPECT_THAT(Eval(Call(format, {S("{} {}"), I(1)})), StartsWith("BadArgument"));
  EXPECT_THAT(Eval(Call(format, {S("x"), I(1)})), HasSubstr("0 `{}` for 1 arguments"));
  EXPECT_THAT(Eval(Call(format, {S("{:x}"), I(1)})), HasSubstr("is not a form"));
  EXPECT_THAT(Eval(Call(format, {S("{:99999999}"), I(1)})), HasSubstr("too large"));
  EXPECT_THAT(Eval(Call(format, {S("}"), I(1)})), HasSubstr("single `}`"));
  EXPECT_THAT(Eval(Call(format, {S("{"), I(1)})), HasSubstr("without `}`"));
}

TEST_F(Functions, Pad) {
  EXPECT_EQ(Eval(Call(pad, {I(7), I(3)})), "\"007\"");
  EXPECT_EQ(Eval(Call(pad, {I(-7), I(3)})), "\"-07\"");
  EXPECT_EQ(Eval(Call(pad, {I(1234), I(3)})), "\"1234\"");
  EXPECT_EQ(Eval(Call(pad, {S("ä"), I(3)})), "\"  ä\"");
  EXPECT_EQ(Eval(Call(pad, {S("x"), I(3), S("é")})), "\"ééx\"");
  EXPECT_THAT(Eval(Call(pad, {S("x"), I(3), S("ab")})), StartsWith("BadArgument"));
  EXPECT_THAT(Eval(Call(pad, {I(1), I(-1)})), StartsWith("BadArgument"));
  EXPECT_THAT(Eval(Call(pad, {I(1), I(1'000'000)})), StartsWith("BadArgument"));
}

TEST_F(Functions, MapsAndRanges) {
  EXPECT_EQ(Eval(Call(keys, {Map()})), "[\"a\", \"b\"]");
  EXPECT_EQ(Eval(Call(values, {Map()})), "[1, 2]");
  EXPECT_EQ(Eval(Call(entries, {Map()})), "[{ first = \"a\", second = 1 }, { first = \"b\", second = 2 }]");
  EXPECT_EQ(Eval(Call(range, {I(3)})), "[0, 1, 2]");
  EXPECT_EQ(Eval(Call(range, {I(-1)})), "[]");
  EXPECT_EQ(Eval(Call(range, {I(2), I(4)})), "[2, 3]");
  EXPECT_EQ(Eval(Call(range, {I(0), I(7), I(3)})), "[0, 3, 6]");
  EXPECT_EQ(Eval(Call(range, {I(5), I(0), I(-2)})), "[5, 3, 1]");
  EXPECT_EQ(Eval(Call(range, {I(0), I(5), I(-1)})), "[]");
  EXPECT_EQ(Eval(Call(range, {I(INT64_MAX - 2), I(INT64_MAX)})), "[9223372036854775805, 9223372036854775806]");
  EXPECT_THAT(Eval(Call(range, {I(0), I(5), I(0)})), StartsWith("BadArgument"));
}

TEST_F(Functions, Lists) {
  EXPECT_EQ(Eval(Call(zip, {Ints({1, 2}), Strings({"a", "b"})})), "[{ first = 1, second = \"a\" }, { first = 2, second = \"b\" }]");
  EXPECT_EQ(Eval(Call(zip, {Ints({1, 2}), Ints({1})})), "BadArgument: `zip` needs lists of equal length, these have 2 and 1 elements");
  EXPECT_EQ(Eval(Call(enumerate, {Strings({"a"})})), "[{ first = 0, second = \"a\" }]");
  TypeId ints = p.types.List(Int());
  EXPECT_EQ(Eval(Call(flatten, {Make(Op::List, p.types.List(ints), {Ints({1}), Ints({}), Ints({2, 3})})})), "[1, 2, 3]");
  ExprId holes = p.exprs.Constant(p.types.List(p.types.Optional(Int())), Value::List({Value::Int(1), Value(), Value::Int(2)}));
  EXPECT_EQ(Eval(Call(compact, {holes})), "[1, 2]");
  EXPECT_EQ(Eval(Call(unique, {Ints({1, 2, 3})})), "true");
  EXPECT_EQ(Eval(Call(unique, {Strings({"a", "b", "a"})})), "false");
  EXPECT_EQ(Eval(Call(sort, {Ints({3, -1, 2})})), "[-1, 2, 3]");
  EXPECT_EQ(Eval(Call(sort, {Strings({"b", "ä", "Z"})})), "[\"Z\", \"b\", \"ä\"]");
  EXPECT_EQ(Eval(Call(reverse, {Ints({1, 2})})), "[2, 1]");
  ExprId bools = p.exprs.Constant(p.types.List(Bool()), Value::List({Value::Bool(true), Value::Bool(false)}));
  ExprId none = p.exprs.Constant(p.types.List(Bool()), Value::List({}));
  EXPECT_EQ(Eval(Call(all, {bools})), "false");
  EXPECT_EQ(Eval(Call(any, {bools})), "true");
  EXPECT_EQ(Eval(Call(all, {none})), "true");
  EXPECT_EQ(Eval(Call(any, {none})), "false");
}

TEST_F(Functions, SumMinMax) {
  EXPECT_EQ(Eval(Call(sum, {Ints({1, 2, 3})})), "6");
  EXPECT_EQ(Eval(Call(sum, {Ints({})})), "0");
  EXPECT_EQ(Eval(Call(sum, {p.exprs.Constant(p.types.List(Basic(TypeKind::Bytes)), Value::List({}))})), "0B") << "zero of the right kind";
  EXPECT_EQ(Eval(Call(sum, {p.exprs.Constant(p.types.List(Basic(TypeKind::Duration)), Value::List({Value::Duration(5), Value::Duration(6)}))})), "11ms");
  EXPECT_THAT(Eval(Call(sum, {Ints({INT64_MAX, 1})})), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Call(min, {Ints({3, 1, 2})})), "1");
  EXPECT_EQ(Eval(Call(max, {S("a"), S("b")})), "\"b\"");
  EXPECT_EQ(Eval(Call(min, {Y(10), Y(2)})), "2B");
  EXPECT_EQ(Eval(Call(min, {Ints({})})), "BadArgument: `min` of an empty list has no value");
}

TEST_F(Functions, Numbers) {
  EXPECT_EQ(Eval(Call(abs, {I(-3)})), "3");
  EXPECT_EQ(Eval(Call(abs, {F(-0.5)})), "0.5");
  EXPECT_THAT(Eval(Call(abs, {I(INT64_MIN)})), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Call(floor, {F(-1.5)})), "-2");
  EXPECT_EQ(Eval(Call(ceil, {F(-1.5)})), "-1");
  EXPECT_EQ(Eval(Call(round, {F(0.5)})), "0");
  EXPECT_EQ(Eval(Call(round, {F(1.5)})), "2");
  EXPECT_EQ(Eval(Call(round, {F(-2.5)})), "-2");
  EXPECT_EQ(Eval(Call(round, {F(2.500001)})), "3");
  EXPECT_EQ(Eval(Call(floor, {I(INT64_MAX)})), "9223372036854775807") << "an Int stays exact";
  EXPECT_THAT(Eval(Call(floor, {F(9223372036854775808.0)})), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Call(floor, {F(-9223372036854775808.0)})), "-9223372036854775808");
}

TEST_F(Functions, PathsAndFiles) {
  EXPECT_EQ(Eval(Call(basename, {File("a/b.txt")})), "\"b.txt\"");
  EXPECT_EQ(Eval(Call(dirname, {S("a/b.txt")})), "\"a\"");
  EXPECT_EQ(Eval(Call(stem, {S("a/b.tar.gz")})), "\"b.tar\"");
  EXPECT_EQ(Eval(Call(extension, {File("a/b.tar.gz")})), "\".gz\"");
  EXPECT_EQ(Eval(Call(size, {File("abcd")})), "4B");
  EXPECT_EQ(Eval(Call(sha256, {S("abc")})), "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
  EXPECT_EQ(Eval(Call(Builtin::file, {S("a/../b")})), "\"b\"");
  EXPECT_EQ(Eval(Call(dir, {S("a/")})), "\"a\"");
}

TEST_F(Functions, Conversions) {
  EXPECT_EQ(Eval(Call(to_string, {F(1)})), "\"1\"");
  EXPECT_EQ(Eval(Call(to_string, {D(7'200'000)})), "\"2h\"");
  EXPECT_EQ(Eval(Call(to_int, {S("-042")})), "-42");
  EXPECT_EQ(Eval(Call(to_int, {F(3)})), "3");
  EXPECT_THAT(Eval(Call(to_int, {F(3.5)})), HasSubstr("use floor, ceil or round"));
  for (const char* bad : {"", "-", "1.0", " 1", "1_000", "0x10", "+1", "1e3"}) EXPECT_THAT(Eval(Call(to_int, {S(bad)})), StartsWith("BadArgument")) << bad;
  EXPECT_THAT(Eval(Call(to_int, {S("9223372036854775808")})), StartsWith("Overflow"));
  EXPECT_EQ(Eval(Call(to_float, {S("1e3")})), "1000.0");
  EXPECT_EQ(Eval(Call(to_float, {I(2)})), "2.0");
  for (const char* bad : {"", "inf", "nan", "1e999", ".5", "5.", "1 "}) EXPECT_THAT(Eval(Call(to_float, {S(bad)})), StartsWith("BadArgument")) << bad;
}

TEST_F(Functions, JsonInAndOut) {
  EXPECT_EQ(Eval(Call(json, {Map()})), "{\"a\" = 1, \"b\" = 2}");
  EXPECT_EQ(Eval(Call(to_string, {Call(json, {Map()})})), "\"{\\\"a\\\":1,\\\"b\\\":2}\"");
  EXPECT_EQ(Eval(Call(to_string, {Call(json, {Call(entries, {Map()})})})),
            "\"[{\\\"first\\\":\\\"a\\\",\\\"second\\\":1},{\\\"first\\\":\\\"b\\\",\\\"second\\\":2}]\"");
  EXPECT_EQ(Eval(Call(json, {Null(Int())})), "null");
  TypeId ints = p.types.List(Int());
  EXPECT_EQ(Eval(Call(parse_json, {S("[1,2]")}, ints)), "[1, 2]");
  EXPECT_EQ(Eval(Call(parse_json, {S("[1,\"x\"]")}, ints)), "BadArgument: `parse_json` to List<Int>: /1: expected Int, found \"x\"");
  EXPECT_THAT(Eval(Call(parse_json, {S("[1,")}, ints)), StartsWith("BadArgument: `parse_json`: line 1, column"));
  EXPECT_EQ(Eval(Call(decode, {p.exprs.Constant(Json(), Value::String("4GiB"))}, Basic(TypeKind::Bytes))), "4294967296B");
  EXPECT_EQ(Eval(Call(lines, {S("a\r\nb\n\nc\n")})), "[\"a\", \"b\", \"\", \"c\"]");
  EXPECT_EQ(Eval(Call(lines, {S("")})), "[]");
}

TEST_F(Functions, WrongArgumentsOfAForeignPlanAreFaults) {
  // What no checker would let through: every function, with arguments of every kind and number.
  std::vector<ExprId> odd = {I(1), S("x"), Ints({1}), Map(), F(0.5), B(true), D(1), File("f"), Null(Int()),
                             p.exprs.Constant(p.types.List(Int()), Value::List({Value::String("x")}))};
  for (uint32_t f = 0; f < kBuiltinCount; ++f) {
    Eval(Make(Op::Call, Int(), {}, f));
    for (ExprId a : odd) {
      Eval(Make(Op::Call, Int(), {a}, f));
      for (ExprId b : odd) {
        Eval(Make(Op::Call, Int(), {a, b}, f));
        Eval(Make(Op::Call, String(), {a, b, a}, f));
        Eval(Make(Op::Call, String(), {a, b, a, b}, f));
      }
    }
  }
  EXPECT_THAT(Eval(Make(Op::Call, Int(), {I(1)}, 9999)), StartsWith("BadArgument"));
}

}  // namespace
}  // namespace jobc::ir::test
