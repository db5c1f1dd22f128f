// Types of expressions, by tables: every operator with every pair of types, every built-in function, narrowing, phases,
// constants, helps that can be applied.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "ir/builtins.h"
#include "tests/check/fixture.h"

namespace jobc {
namespace {

using testing::HasSubstr;

struct Row {
  std::string_view expression;
  std::string_view outcome;   ///< a type, or codes
};

template <size_t N>
void ExpectAll(const Row (&rows)[N], std::string_view before = "") {
  for (const Row& row : rows) {
    Outcome outcome = CheckLet(row.expression, before);
    EXPECT_EQ(outcome.codes.empty() ? outcome.TypeOfLet("x") : outcome.Codes(), row.outcome) << row.expression << "\n" << outcome.rendered;
  }
}

// ---- operators ----

const std::vector<std::pair<std::string, std::string>>& Operands() {
  static const std::vector<std::pair<std::string, std::string>> operands = {
      {"b", "Bool"}, {"i", "Int"}, {"f", "Float"}, {"s", "String"}, {"d", "Duration"}, {"y", "Bytes"}, {"e", "Mode"}, {"file", "File"},
      {"dir", "Dir"}, {"j", "Json"}, {"li", "List<Int>"}, {"m", "Map<String, Int>"}, {"st", "Sample"}, {"p", "Pair<String, Int>"}, {"oi", "Int?"}};
  return operands;
}

bool Number(const std::string& t) { return t == "Int" || t == "Float"; }
bool Quantity(const std::string& t) { return t == "Duration" || t == "Bytes"; }

/// The language reference as a function: the type of `x op y`, or a code.
std::string Arithmetic(const std::string& op, const std::string& x, const std::string& y) {
  // The value below a `?` decides whether the operation exists at all.
  if (x == "Int?" || y == "Int?") return "E202";
  if (Number(x) && Number(y)) {
    if (op == "%") return x == "Int" && y == "Int" ? "Int" : "E201";
    return x == "Int" && y == "Int" ? "Int" : "Float";
  }
  if ((op == "+" || op == "-") && x == y && Quantity(x)) return x;
  if (op == "*" && Quantity(x) && Number(y)) return x;
  if (op == "*" && Number(x) && Quantity(y)) return y;
  if (op == "/" && Quantity(x) && Number(y)) return x;
  if (op == "/" && Quantity(x) && x == y) return "Float";
  return "E201";
}

TEST(Operators, DoArithmeticExactlyOnTheTypesTheReferenceNames) {
  for (const std::string op : {"+", "-", "*", "/", "%"}) {
    for (const auto& [x, tx] : Operands()) {
      for (const auto& [y, ty] : Operands()) {
        std::string expression = "params." + x + " " + op + " params." + y;
        std::string expected = Arithmetic(op, tx, ty);
        std::string found = TypeOrCodes(expression);
        if (expected == "E202") {
          EXPECT_THAT(found, HasSubstr("E202")) << expression;
        } else {
          EXPECT_EQ(found, expected) << expression;
        }
      }
    }
  }
}

TEST(Operators, CompareOnlyLikeWithLike) {
  for (const std::string op : {"==", "!=", "<", "<=", ">", ">="}) {
    bool order = op[0] == '<' || op[0] == '>';
    for (const auto& [x, tx] : Operands()) {
      for (const auto& [y, ty] : Operands()) {
        std::string expression = "params." + x + " " + op + " params." + y;
        bool like = tx == ty || (Number(tx) && Number(ty));
        std::string expected;
        if (!order) {
          bool optional = (tx == "Int?" && ty == "Int") || (tx == "Int" && ty == "Int?");
          // A Float and an `Int?` agree in no type: an Int widens only as a direct value.
          bool mixed = (tx == "Int?" && ty == "Float") || (tx == "Float" && ty == "Int?");
          expected = like || optional || mixed ? "Bool" : "E201";
        } else if (tx == "Int?" || ty == "Int?") {
          expected = "E202";
        } else {
          bool ordered = Number(tx) || Quantity(tx) || tx == "String" || tx == "Mode" || tx == "Bool";
          expected = like && ordered ? "Bool" : "E201";
        }
        std::string found = TypeOrCodes(expression);
        if (expected == "E202") EXPECT_THAT(found, HasSubstr("E202")) << expression;
        else EXPECT_EQ(found, expected) << expression;
      }
    }
  }
}

TEST(Operators, TakeBoolsWhereTheyDecide) {
  for (const std::string op : {"&&", "||"}) {
    for (const auto& [x, tx] : Operands()) {
      std::string expected = tx == "Bool" ? "Bool" : "E201";
      EXPECT_EQ(TypeOrCodes("params.b " + op + " params." + x), expected) << op << tx;
      EXPECT_EQ(TypeOrCodes("params." + x + " " + op + " params.b"), expected) << op << tx;
    }
  }
  EXPECT_EQ(TypeOrCodes("params.b && params.ob"), "E202");
  for (const auto& [x, tx] : Operands()) {
    EXPECT_EQ(TypeOrCodes("!params." + x), tx == "Bool" ? "Bool" : "E201") << tx;
    std::string negated = Number(tx) || Quantity(tx) ? tx : tx == "Int?" ? "E202" : "E201";
    EXPECT_EQ(TypeOrCodes("-params." + x), negated) << tx;
  }
}

TEST(Operators, LookIntoListsMapsAndRanges) {
  constexpr Row kRows[] = {
      {"params.i in params.li", "Bool"}, {"params.i in params.lf", "Bool"}, {"params.s in params.li", "E201"}, {"params.s in params.m", "Bool"},
      {"params.e in params.me", "Bool"}, {"params.i in params.m", "E201"}, {"params.i in 1..10", "Bool"}, {"params.f in 1..10", "E201"},
      {"params.s in params.s", "E201"}, {"params.i in params.i", "E201"}, {"params.oi in params.lo", "Bool"}, {"params.i in params.ol", "E202"},
      {"params.oi in 1..2", "E202"}};
  ExpectAll(kRows);
}

TEST(Operators, ReplaceNullsOnlyWhereThereCanBeOne) {
  constexpr Row kRows[] = {
      {"params.oi ?? 1", "Int"}, {"params.oi ?? params.oi", "Int?"}, {"params.of ?? 1", "Float"}, {"params.i ?? 1", "W201"},
      {"params.oi ?? \"a\"", "E201"}, {"params.oi ?? 1.5", "E201"}, {"params.ol ?? []", "List<Int>"}, {"params.oi ?? params.oi ?? 3", "Int"},
      {"params.os ?? \"a\" == \"b\"", "Bool"}, {"params.oi ?? 1 + 2", "Int"}, {"params.ofile ?? \"a.txt\"", "File"},
      {"coalesce(params.oi, 1)", "Int"}, {"coalesce(params.oi, params.oi)", "Int?"}, {"coalesce(params.i, 1)", "W201"}, {"coalesce(params.oi)", "E207"}};
  ExpectAll(kRows);
}

// ---- control and collections ----

TEST(Expressions, UnifyBranchesElementsAndArms) {
  constexpr Row kRows[] = {
      {"if params.b then 1 else 2", "Int"}, {"if params.b then 1 else 2.5", "Float"}, {"if params.b then 1 else null", "Int?"},
      {"if params.b then null else params.s", "String?"}, {"if params.b then 1 else \"a\"", "E201"}, {"if params.i then 1 else 2", "E201"},
      {"if params.b then [] else params.li", "List<Int>"}, {"if params.b then params.li else params.lo", "List<Int?>"},
      {"[1, 2.5]", "List<Float>"}, {"[1, null]", "List<Int?>"}, {"[1, \"a\"]", "E201"}, {"[[], [1]]", "List<List<Int>>"}, {"[params.oi, 2]", "List<Int?>"},
      {"[...params.li, 4]", "List<Int>"}, {"[...params.li, ...params.lf]", "E201"}, {"[...params.ol, 1]", "List<Int>"}, {"[...params.oi]", "List<Int>"}, {"[...params.i]", "E201"},
      {"[1..3]", "E201"}, {"[null]", "E201"},
      {"{a = 1, b = 2}", "Map<String, Int>"}, {"{a = 1, b = 2.5}", "Map<String, Float>"}, {"{a = 1, b = \"x\"}", "E201"}, {"{a = 1, a = 2}", "E103"},
      {"{1 = \"x\"}", "Map<Int, String>"}, {"{[params.e] = 1}", "Map<Mode, Int>"}, {"{[params.f] = 1}", "E201"}, {"{[params.s] = null}", "E201"},
      {"match params.e { Mode.full => 1, Mode.incremental => 2 }", "Int"}, {"match params.e { Mode.full => 1 }", "E204"}, {"match params.e { Mode.full => 1, _ => 2.5 }", "Float"},
      {"match params.e { full => 1, _ => 2 }", "E101"}, {"match params.e { Other.full => 1, _ => 2 }", "E201"}, {"match params.i { 1 => 2 }", "E204"}, {"match params.i { 1 => 2, 1 => 3, _ => 4 }", "E204"},
      {"match params.i { _ => 4, 1 => 3 }", "E204"}, {"match params.b { true => 1, false => 2 }", "Int"}, {"match params.b { true => 1 }", "E204"}, {"match params.oi { null => 1, _ => 2 }", "Int"},
      {"match params.ob { true => 1, false => 2 }", "E204"}, {"match params.ob { true => 1, false => 2, null => 3 }", "Int"}, {"match params.e { Mode.full => 1, _ => \"a\" }", "E201"},
      {"[for x_ in params.li : x_ * 2]", "List<Int>"}, {"[for a, b_ in params.li : a + b_]", "List<Int>"}, {"[for k, v in params.m : k]", "List<String>"}, {"[for k in params.m : k]", "E201"},
      {"[for a, b_ in zip(params.li, params.ls) : b_]", "List<String>"}, {"[for n in 1..3 : n]", "List<Int>"}, {"[for n in params.i : n]", "E201"}, {"[for n in params.li if n > 1 : n]", "List<Int>"},
      {"[for n in params.li if n : n]", "E201"}, {"[for n in params.ol : n]", "E202"}, {"[for n in params.li : m_]", "E101"}, {"{for k, v in params.m : [k] = v * 2}", "Map<String, Int>"},
      {"{for n in params.li : [n] = n}", "Map<Int, Int>"}, {"{for n in params.lf : [n] = n}", "E201"}, {"[for params in params.li : 1]", "E103"}, {"[for n in params.li : [for n in params.li : n]]", "E103"},
      {"[for _ in params.li : 1]", "List<Int>"}, {"[for x in params.li : x]", "E103"}};
  ExpectAll(kRows);
}

TEST(Expressions, TakeFieldsAndElements) {
  constexpr Row kRows[] = {
      {"params.st.id", "String"}, {"params.st.n", "Int?"}, {"params.st.idd", "E101"}, {"params.ost.id", "E202"}, {"params.ost?.id", "String?"}, {"params.ost?.n", "Int?"}, {"params.st?.id", "E201"},
      {"params.p.first", "String"}, {"params.p.third", "E101"}, {"params.j.a", "Json?"}, {"params.j.a.b", "Json?"}, {"params.j[0]", "Json?"}, {"params.j[\"a\"]", "Json?"}, {"params.j[1.5]", "E201"},
      {"params.li[0]", "Int"}, {"params.lo[0]", "Int?"}, {"params.li[\"a\"]", "E201"}, {"params.m[\"a\"]", "Int"}, {"params.m[1]", "E201"}, {"params.m.a", "E201"}, {"params.s[0]", "E201"}, {"params.ol[0]", "E202"},
      {"params.li[0, 1]", "E207"}, {"params.li[*]", "E201"}, {"params.s.length", "E201"}, {"params.nope", "E101"}, {"params", "E201"}, {"Mode.full", "Mode"}, {"Mode.fulll", "E101"}, {"Mode", "E101"},
      {"Sample { id = \"a\" }", "Sample"}, {"Sample { id = \"a\", n = 1, next = json(2) }", "Sample"}, {"Sample { n = 1 }", "E206"}, {"Sample { id = \"a\", m = 1 }", "E206"}, {"Sample { id = 1 }", "E201"},
      {"Sample { id = \"a\", id = \"b\" }", "E103"}, {"Sampel { id = \"a\" }", "E101"}, {"Mode { a = 1 }", "E201"}, {"Pair { first = 1, second = \"a\" }", "Pair<Int, String>"}, {"Pair { first = 1 }", "E206"}};
  ExpectAll(kRows);
}

TEST(Expressions, GiveTextOnlyToWhatHasOne) {
  const std::map<std::string, std::string> kExpected = {
      {"b", "String"}, {"i", "String"}, {"f", "String"}, {"s", "String"}, {"d", "String"}, {"y", "String"}, {"e", "String"}, {"file", "String"}, {"dir", "String"}, {"j", "String"},
      {"li", "E404"}, {"ol", "E404"}, {"m", "E201"}, {"st", "E201"}, {"p", "E201"}, {"oi", "E202"}, {"os", "E202"}};
  for (const auto& [name, expected] : kExpected) EXPECT_EQ(TypeOrCodes("\"<~{params." + name + "}>\""), expected) << name;
  EXPECT_EQ(TypeOrCodes("\"~{params.ls...}\""), "E404");
}

TEST(Expressions, WarnAboutTheInterpolationOfOtherLanguagesOnlyForNamesInScope) {
  constexpr Row kRows[] = {{"\"${params.s}\"", "W011"}, {"\"{{ params.s }}\"", "W011"}, {"\"${HOME}\"", "String"}, {"\"{{ name }}\"", "String"}, {"\"${params\"", "String"}};
  ExpectAll(kRows);
}

// ---- functions ----

constexpr Row kFunctions[] = {
      {"length(params.s)", "Int"}, {"length(params.li)", "Int"}, {"length(params.m)", "Int"}, {"length(params.i)", "E201"}, {"length()", "E207"}, {"length(params.ol)", "E202"},
      {"join(params.ls, \",\")", "String"}, {"join(params.li, \",\")", "String"}, {"join(params.ll, \",\")", "E201"}, {"join(params.lo, \",\")", "E201"}, {"split(params.s, \",\")", "List<String>"}, {"split(params.s)", "E207"},
      {"trim(params.s)", "String"}, {"lower(params.s)", "String"}, {"upper(params.i)", "E201"}, {"replace(params.s, \"a\", \"b\")", "String"}, {"replace(params.s, re\"a\", \"b\")", "String"}, {"replace(params.s, 1, \"b\")", "E201"},
      {"starts_with(params.s, \"a\")", "Bool"}, {"ends_with(params.s, \"a\")", "Bool"}, {"matches(params.s, re\"a\")", "Bool"}, {"matches(params.s, \"a\")", "E201"}, {"matches(params.s, re\"a(\")", "E010"},
      {"format(\"{} {}\", params.i, params.s)", "String"}, {"format(\"{}\")", "E207"}, {"format(\"{}\", params.li)", "E201"}, {"format(\"{} {}\", ...params.ls)", "String"},
      {"pad(params.i, 3)", "String"}, {"pad(params.s, 3)", "String"}, {"pad(params.s, 3, \"-\")", "String"}, {"pad(params.f, 3)", "E201"},
      {"contains(params.s, \"a\")", "Bool"}, {"contains(params.s, re\"a\")", "Bool"}, {"contains(params.li, 1)", "Bool"}, {"contains(params.li, \"a\")", "E201"}, {"contains(params.m, \"a\")", "Bool"}, {"contains([], params.i)", "Bool"},
      {"keys(params.m)", "List<String>"}, {"values(params.me)", "List<Float>"}, {"entries(params.m)", "List<Pair<String, Int>>"}, {"range(3)", "List<Int>"}, {"range(1, 3)", "List<Int>"}, {"range(1, 9, 2)", "List<Int>"}, {"range()", "E207"}, {"range(1.5)", "E201"},
      {"zip(params.li, params.ls)", "List<Pair<Int, String>>"}, {"enumerate(params.ls)", "List<Pair<Int, String>>"}, {"flatten(params.ll)", "List<Int>"}, {"flatten(params.li)", "E201"}, {"compact(params.lo)", "List<Int>"}, {"compact(params.li)", "List<Int>"},
      {"unique(params.li)", "Bool"}, {"sort(params.ls)", "List<String>"}, {"sort(params.ll)", "E201"}, {"reverse(params.ll)", "List<List<Int>>"}, {"sum(params.li)", "Int"}, {"sum(params.lf)", "Float"}, {"sum([params.y])", "Bytes"}, {"sum(params.ls)", "E201"}, {"sum([])", "Int"},
      {"min(params.li)", "Int"}, {"min(params.y, 96GiB)", "Bytes"}, {"min(1, 2.5)", "Float"}, {"min(params.i, params.s)", "E201"}, {"max(params.e, Mode.full)", "Mode"}, {"max(...params.li, 3)", "Int"}, {"max(params.oi, 1)", "E202"},
      {"abs(params.i)", "Int"}, {"abs(params.f)", "Float"}, {"floor(params.f)", "Int"}, {"ceil(params.i)", "Int"}, {"round(params.s)", "E201"}, {"all(params.lb)", "Bool"}, {"any([])", "Bool"}, {"all(params.li)", "E201"},
      {"basename(params.file)", "String"}, {"dirname(params.dir)", "String"}, {"stem(params.s)", "String"}, {"extension(params.i)", "E201"}, {"to_string(params.d)", "String"}, {"to_string(params.li)", "E201"}, {"to_int(params.s)", "Int"}, {"to_float(params.i)", "Float"},
      {"json(params.st)", "Json"}, {"json(params.oi)", "Json"}, {"parse_json(params.s, List<Int>)", "List<Int>"}, {"parse_json(params.s, Int(1..3))", "Int"}, {"parse_json(params.s, Nope)", "E101"}, {"decode(params.j, Sample)", "Sample"}, {"decode(params.s, Sample)", "E201"},
      {"sha256(params.s)", "String"}, {"sha256(params.file)", "String"}, {"sha256(params.dir)", "E201"}, {"size(params.file)", "Bytes"}, {"size(params.dir)", "Bytes"}, {"size(\"a.txt\")", "Bytes"}, {"size(params.s)", "E201"}, {"lines(params.s)", "List<String>"},
      {"text_file(\"a.txt\", params.s)", "File"}, {"text_file(params.s, \"\")", "File"}, {"text_file(\"a/b\", \"\")", "E201"}, {"text_file(\"a\", 1)", "E201"}, {"text_file(\"a\")", "E207"}, {"text_file(\"a\", \"~{params.file}\")", "E208"},
      {"text_file(\"a\", basename(params.file))", "File"}, {"json_file(\"a\", params.st)", "File"}, {"json_file(\"a\", { a = 1, b = [\"x\", params.oi, null, 2.5] })", "File"}, {"json_file(\"a\", [params.dir])", "E208"}, {"json_file(\"a\", 1..3)", "E201"}, {"json_file(\"a\", params.j)", "File"},
      {"file(params.s)", "File"}, {"dir(params.s)", "Dir"}, {"file()", "E207"}, {"file(1)", "E201"}, {"lenght(params.s)", "E101"}, {"params.s(1)", "E201"}, {"length(x = params.s)", "E207"}, {"glob(\"a\")", "E201"}, {"env(\"A\")", "E201"}, {"stdout()", "E208"}, {"read_text(\"a\")", "E208"}};

TEST(Functions, FollowTheirSignatures) { ExpectAll(kFunctions); }

TEST(Functions, AreAllInTheTable) {
  for (size_t i = 0; i < ir::kBuiltinCount; ++i) {
    std::string call = std::string(ir::InfoOf(static_cast<ir::Builtin>(i)).name) + "(";
    bool found = false;
    for (const Row& row : kFunctions) found |= row.expression.substr(0, call.size()) == call;
    EXPECT_TRUE(found) << call << " has no row";
  }
}

TEST(Functions, OfTheFileAreCalledByPositionOrName) {
  constexpr std::string_view kBefore = "fn f(a: Int, b_: String(re\"[a-z]+\")) -> String = \"~{a}~{b_}\"\nfn half(v: Float) -> Float = v / 2\n";
  constexpr Row kRows[] = {
      {"f(1, \"x\")", "String"}, {"f(b_ = \"x\", a = 1)", "String"}, {"f(1)", "E207"}, {"f(1, \"x\", 3)", "E207"}, {"f(1, c = \"x\")", "E207"}, {"f(1, a = 1, b_ = \"x\")", "E103"},
      {"f(\"x\", \"x\")", "E201"}, {"f(1, \"X\")", "E203"}, {"f(params.oi, \"x\")", "E202"}, {"half(1)", "Float"}, {"half(params.i)", "Float"}, {"f(...params.ls)", "E201"}};
  ExpectAll(kRows, kBefore);
}

// ---- constants ----

TEST(Constants, FailWhereTheyAreWritten) {
  constexpr Row kRows[] = {
      {"9223372036854775807 + 1", "E205"}, {"1 / 0", "E205"}, {"5 % 0", "E205"}, {"[1, 2][2]", "E205"}, {"{a = 1}[\"b\"]", "E205"}, {"to_int(\"x\")", "E205"}, {"min([])", "E205"},
      {"if params.b then 1 / 0 else 2", "Int"}, {"if true then 1 / 0 else 2", "E205"}, {"if false then 1 / 0 else 2", "Int"}, {"true || 1 / 0 == 1", "Bool"}, {"[for n in params.li : 1 / 0]", "List<Int>"},
      {"params.i / 0", "Int"}, {"f(0)", "E205"}, {"f(2)", "Int"}};
  ExpectAll(kRows, "fn f(a: Int) -> Int = 10 / a\n");
}

TEST(Constants, AreFoldedToTheirValue) {
  EXPECT_EQ(CheckLet("1 + 2 * 3").ValueOfLet("x")->as_int(), 7);
  EXPECT_EQ(CheckLet("\"a~{1 + 1}b\"").ValueOfLet("x")->as_string(), "a2b");
  EXPECT_EQ(CheckLet("2 * 4GiB").ValueOfLet("x")->as_int(), int64_t{8} << 30);
  EXPECT_EQ(CheckLet("1h / 1s").ValueOfLet("x")->as_float(), 3600.0);
  EXPECT_EQ(CheckLet("length([for n in range(10) if n % 2 == 0 : n])").ValueOfLet("x")->as_int(), 5);
  EXPECT_EQ(CheckLet("match Mode.full { Mode.full => 1, _ => 2 }").ValueOfLet("x")->as_int(), 1);
  EXPECT_EQ(CheckLet("params.i + 1").ValueOfLet("x"), nullptr);
}

TEST(Constants, OfManyElementsStaySymbolic) {
  Outcome outcome = CheckLet("range(1000000)");
  EXPECT_TRUE(outcome.codes.empty()) << outcome.rendered;
  EXPECT_EQ(outcome.ValueOfLet("x"), nullptr);
}

TEST(Refinements, AreCheckedAtOnceWhereTheValueIsKnown) {
  struct Typed {
    std::string_view type, value, codes;
  };
  constexpr Typed kRows[] = {
      {"Int(1..64)", "64", ""}, {"Int(1..64)", "65", "E203"}, {"Int(1..)", "0", "E203"}, {"Int(..3)", "4", "E203"}, {"Float(0.0..1.0)", "1.5", "E203"}, {"Float(0.0..1.0)", "1", ""},
      {"String(re\"[a-z]+\")", "\"abc\"", ""}, {"String(re\"[a-z]+\")", "\"abc1\"", "E203"}, {"String(length(it) > 0)", "\"\"", "E203"}, {"List<Int(1..9)>", "[1, 10]", "E203"},
      {"List<Int>(length(it) < 3)", "[1, 2, 3]", "E203"}, {"List<Int>(length(it) < 3)", "[1, 2]", ""}, {"Int(1..3)?", "null", ""}, {"Int(1..3)?", "4", "E203"}, {"Duration(1s..1h)", "2h", "E203"},
      {"Bytes(1GiB..2GiB)", "512MiB", "E203"}, {"Map<String, Int(0..)>", "{a = -1}", "E203"}, {"Int(1..64)", "params.i", ""}, {"Int(5..1)", "3", "E203"}, {"String(1..3)", "\"a\"", "E201"}, {"Int(re\"a\")", "1", "E201"},
      {"Int(it)", "1", "E201"}, {"Int(params.i > 1)", "1", "E208"}, {"Int(1..params.i)", "1", "E208"}, {"Strng", "\"a\"", "E101"}, {"List", "[]", "E207"}, {"Map<Float, Int>", "{}", "E201"}, {"List<Secret>", "[]", "E402"},
      {"string", "\"a\"", "E101"}, {"Int<String>", "1", "E207"}, {"Duration", "30", "E012"}, {"Bytes", "30", "E012"}, {"Bytes", "params.i", "E201"}, {"Float", "params.i", ""}, {"List<Float>", "params.li", "E201"},
      {"List<Int?>", "params.li", ""}, {"Float?", "3", ""}, {"File", "\"a.txt\"", ""}, {"File", "\"~{params.s}.txt\"", ""}, {"File", "params.s", "E201"}, {"Dir?", "\"a\"", ""}, {"List<File>", "[\"a\", \"b\"]", ""},
      {"String", "null", "E202"}, {"String", "params.os", "E202"}, {"Json", "1", "E201"}, {"Int", "params.j", "E201"}, {"Mode", "\"full\"", "E201"}, {"Sample", "{id = \"a\"}", "E201"}, {"List<String>", "\"a\"", "E201"},
      {"Bool", "params.i", "E201"}, {"Map<String, Int>", "{}", ""}, {"List<Int>", "1..3", "E201"}};
  for (const Typed& row : kRows) {
    Outcome outcome = CheckText(std::string(kPrelude) + "let x: " + std::string(row.type) + " = " + std::string(row.value) + "\n");
    std::string codes;
    for (const std::string& code : outcome.codes) {
      if (code != "W704") codes += (codes.empty() ? "" : " ") + code;
    }
    EXPECT_EQ(codes, row.codes) << row.type << " = " << row.value << "\n" << outcome.rendered;
  }
}

// ---- narrowing ----

TEST(Narrowing, HoldsForStablePathsWhereTheConditionDecides) {
  constexpr Row kRows[] = {
      {"if params.oi != null then params.oi else 0", "Int"}, {"if params.oi == null then 0 else params.oi", "Int"}, {"if !(params.oi == null) then params.oi else 0", "Int"}, {"if null != params.oi then params.oi + 1 else 0", "Int"},
      {"params.oi != null && params.oi > 1", "Bool"}, {"params.oi == null || params.oi > 1", "Bool"}, {"params.oi != null || params.oi > 1", "E202"}, {"params.oi == null && params.oi > 1", "E202"},
      {"if params.oi != null && params.b then params.oi + 1 else 0", "Int"}, {"if params.oi != null || params.b then params.oi + 1 else 0", "E202"}, {"if params.oi == null || params.b then 0 else params.oi + 1", "Int"},
      {"if params.oi == null then params.oi + 1 else 0", "E202"}, {"if params.st.n != null then params.st.n + 1 else 0", "Int"}, {"if params.ost?.n != null then params.ost.n + 1 else 0", "Int"}, {"if params.ost != null then params.ost.id else \"\"", "String"},
      {"if params.ost?.id != null then length(params.ost.id) else 0", "Int"}, {"[for o in params.lo if o != null : o + 1]", "List<Int>"}, {"[for o in params.lo : o + 1]", "E202"}, {"[for o in params.lo if params.b || o != null : o + 1]", "E202"},
      {"if params.lo[0] != null then params.lo[0] + 1 else 0", "E202"}, {"if contains(params.lo, null) then params.oi + 1 else 0", "E202"}, {"match params.oi != null { true => params.oi + 1, false => 0 }", "E202"}, {"if y_ != null then y_ + 1 else 0", "Int"},
      {"if z_ != null then z_ + 1 else 0", "E202"}, {"if params.j.a != null then decode(params.j.a, Int) else 0", "Int"}, {"decode(params.j.a, Int)", "E202"}, {"if params.oi != null then (if params.b then params.oi + 1 else 0) else 0", "Int"}, {"(if params.oi != null then 1 else 0) + params.oi", "E202"},
      {"if params.oi != null then params.oi ?? 3 else 0", "W201"}, {"if params.ost != null then params.ost?.id else null", "W201"}};
  ExpectAll(kRows, "let y_ = params.oi\nlet z_ = same(params.oi)\nfn same(a: Int?) -> Int? = a\n");
}

// ---- helps ----

TEST(Helps, ThatCanBeAppliedMakeTheFileRight) {
  struct Fix {
    std::string_view wrong, code, right;
  };
  constexpr Fix kFixes[] = {
      {"parms.i", "E101", "params.i"}, {"lenght(params.s)", "E101", "length(params.s)"}, {"Mode.fulll", "E101", "Mode.full"}, {"params.st.idd", "E101", "params.st.id"}, {"i", "E101", "params.i"},
      {"\"a\" + params.s", "E201", "\"a~{params.s}\""}, {"params.li + params.li", "E201", "[...params.li, ...params.li]"}, {"params.i ?? 1", "W201", "params.i"}, {"\"~{params.ls}\"", "E404", "\"~{join(params.ls, \",\")}\""},
      {"\"~{params.ls...}\"", "E404", "\"~{join(params.ls, \", \")}\""}, {"params.m.a", "E201", "params.m[\"a\"]"}, {"params.s.length", "E201", "length(params.s)"}, {"params.ost.id", "E202", "params.ost?.id"}, {"params.st?.id", "E201", "params.st.id"},
      {"params.e == \"full\"", "E201", "params.e == Mode.full"}, {"match params.e { full => 1, _ => 2 }", "E101", "match params.e { Mode.full => 1, _ => 2 }"}, {"match params.e { Mode.full => 1 }", "E204", "match params.e { Mode.full => 1, Mode.incremental => 1 }"},
      {"params.s in params.s", "E201", "contains(params.s, params.s)"}, {"matches(params.s, \"a\")", "E201", "matches(params.s, re\"a\")"}, {"[for n in params.i : n]", "E201", "[for n in range(params.i) : n]"}, {"[for k in params.m : k]", "E201", "[for k, value in params.m : k]"},
      {"trim(params.i)", "E201", "trim(to_string(params.i))"}, {"Sample { idd = \"a\" }", "E206", "Sample { id = \"a\" }"}, {"\"${params.s}\"", "W011", "\"~{params.s}\""}};
  for (const Fix& fix : kFixes) {
    Outcome outcome = CheckLet(fix.wrong);
    ASSERT_FALSE(outcome.codes.empty()) << fix.wrong;
    EXPECT_EQ(outcome.codes[0], fix.code) << fix.wrong << outcome.rendered;
    std::string fixed = outcome.Fixed();
    EXPECT_THAT(fixed, HasSubstr("let x = " + std::string(fix.right) + "\n")) << fix.wrong << outcome.rendered;
    Outcome again = CheckText(fixed);
    for (const std::string& code : again.codes) EXPECT_EQ(code, "W704") << fixed << again.rendered;
  }
}

TEST(Faults, DoNotCascade) {
  constexpr Row kRows[] = {
      {"nope + 1 * 2", "E101"}, {"length(nope)", "E101"}, {"[nope, 1, \"a\"]", "E101 E201"}, {"if nope then 1 else 2", "E101"}, {"nope.a.b[0](1)", "E201"}, {"\"~{nope}\"", "E101"}, {"[for n in nope : n + 1]", "E101"}, {"Sample { id = nope }", "E101"},
      {"match nope { 1 => 2 }", "E101"}, {"nope ?? 1", "E101"}, {"nope(1)", "E101"}, {"nope(other)", "E101 E101"}, {"{a = nope}", "E101"}};
  ExpectAll(kRows);
}

TEST(Chains, TooLongForTheStackAreRefused) {
  std::string chain = "1";
  for (int i = 0; i < 5000; ++i) chain += " + 1";
  EXPECT_EQ(TypeOrCodes(chain), "E013");
}

}  // namespace
}  // namespace jobc
