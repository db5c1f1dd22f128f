#include "ir/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/ir/bench.h"

namespace jobc::ir::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Parsed(std::string_view text) {
  Result<Value> value = ParseJson(text);
  return value ? JsonText(*value) : "error: " + value.error().message;
}

TEST(ParseJson, GivesCanonicalText) {
  EXPECT_EQ(Parsed(" {\"b\": [1, 2.50, -0, true, null], \"a\": \"\\u00e4\\n\"} "), "{\"a\":\"ä\\n\",\"b\":[1,2.5,0,true,null]}");
  EXPECT_EQ(Parsed("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(Parsed("-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(Parsed("1e2"), "100");
  EXPECT_EQ(ParseJson("1.0")->kind(), ValueKind::Float) << "1.0 is no Int";
  EXPECT_EQ(ParseJson("9223372036854775808")->kind(), ValueKind::Float);
}

TEST(ParseJson, RefusesWhatJsonLeavesOpen) {
  EXPECT_EQ(Parsed("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}"), "error: line 3, column 4: the key \"a\" is given twice in one object");
  for (const char* bad : {"", "NaN", "[1,]", "{\"a\":1,}", "[1] 2", "1 x", "Infinity", "-", "01", "'a'", "[1 2]", "\"\\x\"", "{a:1}", "// c\n1",
                          "1e400", "\"\\ud800\"", "tru", "\"\t\""}) {
    EXPECT_THAT(Parsed(bad), StartsWith("error: line 1, column ")) << bad;
  }
  EXPECT_THAT(Parsed("\"\xff\""), StartsWith("error: line 1"));
  EXPECT_THAT(Parsed("\"\xc0\x80\""), StartsWith("error: line 1"));
  EXPECT_THAT(Parsed("[\n\n  nope]"), StartsWith("error: line 3, column "));
}

TEST(ParseJson, BoundsDepthWithoutRecursion) {
  EXPECT_EQ(Parsed(std::string(256, '[') + std::string(256, ']')), std::string(256, '[') + std::string(256, ']'));
  EXPECT_EQ(Parsed(std::string(257, '[') + std::string(257, ']')), "error: line 1, column 257: nested deeper than 256");
  EXPECT_THAT(Parsed(std::string(1'000'000, '[')), HasSubstr("nested deeper"));
}

TEST(JsonText, CanBeIndentedForPeople) {
  EXPECT_EQ(JsonText(*ParseJson("{\"b\":[1,2],\"a\":{},\"c\":[]}"), 2), "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": []\n}");
}

struct Decode : Bench, ::testing::Test {
  TypeId stats, mode;
  Decode() {
    mode = p.types.Enum(p.types.AddEnum({"Mode", {"full", "incremental"}}));
    Refinement at_least_0{.kind = RefinementKind::IntRange, .int_low = 0, .text = "0.."};
    TypeId count = p.types.Refined(Int(), p.types.AddRefinement(at_least_0));
    ExprId none = p.exprs.Constant(p.types.List(String()), Value::List({}));
    stats = p.types.Struct(p.types.AddStruct({.name = "Stats",
                                              .fields = {{.name = "rows", .type = count},
                                                         {.name = "size", .type = Basic(TypeKind::Bytes)},
                                                         {.name = "warnings", .type = p.types.List(String()), .fallback = none},
                                                         {.name = "note", .type = p.types.Optional(String())}}}));
  }
  std::string From(std::string_view json, TypeId type, DecodeOptions options = {}) {
    Evaluator evaluator(p);
    Result<Value> parsed = ParseJson(json);
    if (!parsed) return parsed.error().message;
    Result<Value> value = DecodeJson(*parsed, type, evaluator, context, options);
    return value ? ShowValue(p, *value, type, 1000) : value.error().message;
  }
  std::string Param(std::string_view text, TypeId type) {
    Evaluator evaluator(p);
    Result<Value> value = DecodeParamText(text, type, evaluator, context);
    return value ? ShowValue(p, *value, type, 1000) : "error: " + value.error().message;
  }
};

TEST_F(Decode, Scalars) {
  EXPECT_EQ(From("1", Int()), "1");
  EXPECT_EQ(From("1.0", Int()), "expected Int, found 1.0");
  EXPECT_EQ(From("1e3", Int()), "expected Int, found 1000.0");
  EXPECT_EQ(From("1", Float()), "1.0");
  EXPECT_EQ(From("true", Bool()), "true");
  EXPECT_EQ(From("\"x\"", String()), "\"x\"");
  EXPECT_EQ(From("null", String()), "expected String, found null");
  EXPECT_EQ(From("null", p.types.Optional(String())), "null");
  EXPECT_EQ(From("\"90s\"", Basic(TypeKind::Duration)), "90s");
  EXPECT_EQ(From("90", Basic(TypeKind::Duration)), "expected a Duration such as \"90s\" or \"1.5h\", found 90");
  EXPECT_EQ(From("4096", Basic(TypeKind::Bytes)), "4096B");
  EXPECT_EQ(From("\"4KiB\"", Basic(TypeKind::Bytes)), "4096B");
  EXPECT_THAT(From("1.5", Basic(TypeKind::Bytes)), StartsWith("expected Bytes"));
  EXPECT_EQ(From("\"full\"", mode), "Mode.full");
  EXPECT_EQ(From("\"ful\"", mode), "expected Mode: one of \"full\", \"incremental\"; found \"ful\"");
  EXPECT_EQ(From("{\"a\":[1]}", Json()), "{\"a\" = [1]}");
  EXPECT_EQ(From("\"x\"", Basic(TypeKind::Secret)), "a Secret cannot come from JSON");
  EXPECT_THAT(From("\"x\"", Basic(TypeKind::Regex)), HasSubstr("cannot come from JSON"));
}

TEST_F(Decode, ErrorsBeginWithTheirPointer) {
  TypeId rows = p.types.Map(String(), p.types.List(stats));
  EXPECT_EQ(From("{\"rows\":[{\"rows\":1,\"size\":1},{\"rows\":2,\"size\":\"x\"}]}", rows),
            "/rows/1/size: expected Bytes: a whole number, or a text such as \"4GiB\"; found \"x\"");
  EXPECT_EQ(From("{\"a/b~\":[7]}", rows), "/a~1b~0/0: expected Stats, found 7");
  EXPECT_EQ(From("{\"k\":[{\"rows\":-1,\"size\":1}]}", rows), "/k/0/rows: must be 0.., but is -1");
  EXPECT_EQ(From("[1,\"x\"]", p.types.List(Int())), "/1: expected Int, found \"x\"");
}

TEST_F(Decode, StructsAreStrict) {
  EXPECT_EQ(From("{\"rows\":1,\"size\":2}", stats), "Stats { rows = 1, size = 2B, warnings = [], note = null }");
  EXPECT_EQ(From("{\"rows\":1}", stats), "missing field `size` of Stats (a Bytes)");
  EXPECT_EQ(From("{\"rows\":1,\"sise\":3,\"size\":2}", stats), "/sise: unknown field (did you mean `size`?) of Stats, which is not declared `open struct`");
  EXPECT_EQ(From("{\"rows\":1,\"size\":2,\"extra\":3}", stats, {.root_is_open = true}), "Stats { rows = 1, size = 2B, warnings = [], note = null }");
  TypeId outer = p.types.Struct(p.types.AddStruct({.name = "Outer", .fields = {{.name = "s", .type = stats}}}));
  EXPECT_THAT(From("{\"s\":{\"rows\":1,\"size\":2,\"x\":1},\"y\":1}", outer, {.root_is_open = true}), StartsWith("/s/x: unknown field")) << "only the root is open";
  TypeId open = p.types.Struct(p.types.AddStruct({.name = "Open", .fields = {{.name = "a", .type = Int()}}, .open = true}));
  EXPECT_EQ(From("{\"a\":1,\"b\":2}", open), "Open { a = 1 }");
  EXPECT_EQ(From("{\"rows\":1,\"size\":2,\"warnings\":null}", stats), "/warnings: expected List<String>, found null") << "a default is no optional";
}

TEST_F(Decode, MapsHaveTypedKeys) {
  EXPECT_EQ(From("{\"10\":1,\"9\":2}", p.types.Map(Int(), Int())), "{9 = 2, 10 = 1}") << "in key order";
  EXPECT_EQ(From("{\"01\":1}", p.types.Map(Int(), Int())), "/01: expected a key that is an Int, found \"01\"");
  EXPECT_EQ(From("{\"incremental\":1,\"full\":2}", p.types.Map(mode, Int())), "{Mode.full = 2, Mode.incremental = 1}");
  EXPECT_EQ(From("{\"first\":1,\"second\":\"x\"}", p.types.Pair(Int(), String())), "{ first = 1, second = \"x\" }");
  EXPECT_THAT(From("{\"first\":1}", p.types.Pair(Int(), String())), StartsWith("missing field `second`"));
}

TEST_F(Decode, FilesStayInsideTheJobsDirectory) {
  TypeId file = Basic(TypeKind::File);
  EXPECT_EQ(From("\"a/../b.txt\"", file, {.file_base = FileBase::Job}), "\"b.txt\"");
  EXPECT_EQ(From("[\"../x\"]", p.types.List(file), {.file_base = FileBase::Job}), "/0: the path \"../x\" leaves the job's output directory");
  EXPECT_EQ(From("\"\"", file), "a path cannot be empty");
  EXPECT_EQ(From("\"../x\"", file), "\"../x\"") << "a parameter may lie anywhere";
}

TEST_F(Decode, ParameterTextsAreLiterals) {
  EXPECT_EQ(Param("1_000", Int()), "1000");
  EXPECT_EQ(Param("-5", Int()), "-5");
  for (const char* bad : {"", "1.0", "1e3", "x", "1__0", "_1", "1_", " 1", "0x1", "--1"}) EXPECT_THAT(Param(bad, Int()), StartsWith("error: expected Int")) << bad;
  EXPECT_THAT(Param("9223372036854775808", Int()), HasSubstr("64 bits"));
  EXPECT_EQ(Param("1e6", Float()), "1000000.0");
  EXPECT_EQ(Param("true", Bool()), "true");
  EXPECT_EQ(Param("yes", Bool()), "error: expected Bool: true or false, found \"yes\"");
  EXPECT_EQ(Param("\"quoted\"", String()), "\"\\\"quoted\\\"\"") << "taken as it is";
  EXPECT_EQ(Param("", String()), "\"\"");
  EXPECT_EQ(Param("full", mode), "Mode.full");
  EXPECT_EQ(Param("1.5h", Basic(TypeKind::Duration)), "90m");
  EXPECT_THAT(Param("5", Basic(TypeKind::Duration)), HasSubstr("a number with its unit"));
  EXPECT_EQ(Param("4GiB", Basic(TypeKind::Bytes)), "4294967296B");
  EXPECT_THAT(Param("4096", Basic(TypeKind::Bytes)), StartsWith("error: expected Bytes")) << "a bare number is a mistake";
  EXPECT_EQ(Param("[1,2]", p.types.List(Int())), "[1, 2]");
  EXPECT_THAT(Param("[1", p.types.List(Int())), StartsWith("error: expected List<Int> as JSON: line 1"));
  EXPECT_EQ(Param("data/x.csv", Basic(TypeKind::File)), "\"data/x.csv\"");
  EXPECT_EQ(Param("5", p.types.Optional(Int())), "5");
  EXPECT_EQ(Param("\xff", String()), "error: the text is not valid UTF-8");
}

TEST_F(Decode, EncodingIsCanonical) {
  auto encoded = [&](const Value& value, TypeId type) {
    Result<std::string> text = EncodeJson(value, type, p, context);
    return text ? *text : "error: " + text.error().message;
  };
  Value v = Value::List({Value::Int(1), Value::Bytes(4096), Value::List({Value::String("w")}), Value()});
  EXPECT_EQ(encoded(v, stats), "{\"note\":null,\"rows\":1,\"size\":4096,\"warnings\":[\"w\"]}");
  EXPECT_EQ(encoded(Value::MapFrom({{Value::Int(9), Value::Bool(true)}, {Value::Int(10), Value::Bool(false)}}), p.types.Map(Int(), Bool())),
            "{\"10\":false,\"9\":true}")
      << "keys by their bytes";
  EXPECT_EQ(encoded(Value::Duration(90'000), Basic(TypeKind::Duration)), "\"90s\"");
  EXPECT_EQ(encoded(Value::Float(1), Float()), "1");
  EXPECT_EQ(encoded(Value::Enum(1), mode), "\"incremental\"");
  FileValue f;
  f.path = "a.txt";
  EXPECT_EQ(encoded(Value::File(f), Basic(TypeKind::File)), "\"/in/a.txt\"");
  EXPECT_THAT(encoded(Value::Secret("x"), Basic(TypeKind::Secret)), StartsWith("error: a secret"));
  EXPECT_THAT(encoded(Value::List({Value::Secret("x")}), p.types.List(String())), StartsWith("error: a secret"));
  EXPECT_THAT(encoded(Value::Int(1), String()), StartsWith("error:"));
}

// ---- Properties over random types and values ---------------------------------------------------------------------------

class Random {
 public:
  Random(Bench& bench, uint64_t seed) : bench_(bench), random_(seed) {}

  uint64_t Below(uint64_t n) { return random_() % n; }

  TypeId Type(int depth) {
    TypeTable& types = bench_.p.types;
    constexpr TypeKind kScalars[] = {TypeKind::Bool, TypeKind::Int, TypeKind::Float, TypeKind::String, TypeKind::Duration, TypeKind::Bytes, TypeKind::Json};
    switch (depth == 0 ? 0 : Below(8)) {
      case 1: return types.List(Type(depth - 1));
      case 2: return types.Map(types.Basic(Below(2) ? TypeKind::String : TypeKind::Int), Type(depth - 1));
      case 3: {
        TypeId base = Type(depth - 1);
        return types.kind(base) == TypeKind::Json ? base : types.Optional(base);
      }
      case 4: {
        TypeId first = Type(depth - 1);
        return types.Pair(first, Type(depth - 1));
      }
      case 5: {
        StructDef def{.name = "S" + std::to_string(types.structs().size())};
        for (uint64_t i = 0, n = 1 + Below(3); i < n; ++i) def.fields.push_back({.name = std::string(1, static_cast<char>('c' - i)), .type = Type(depth - 1)});
        return types.Struct(types.AddStruct(std::move(def)));
      }
      case 6: return types.Enum(types.AddEnum({"E", {"z", "a", "m"}}));
      default: return types.Basic(kScalars[Below(std::size(kScalars))]);
    }
  }

  int64_t Int() { return static_cast<int64_t>(random_()) >> Below(64); }

  double Float() {
    double value = static_cast<double>(Int()) / static_cast<double>(1 + Below(1000));
    return value;
  }

  std::string Text() {
    static const char* const kPieces[] = {"a", "Z", "\"", "\\", "ä", "😀", "\n", "\x01", "/", "~", " ", "0", "key"};
    std::string text;
    for (uint64_t i = 0, n = Below(6); i < n; ++i) text += kPieces[Below(std::size(kPieces))];
    return text;
  }

  Value Json(int depth) {
    switch (Below(depth > 0 ? 7 : 5)) {
      case 0: return Value();
      case 1: return Value::Bool(Below(2));
      case 2: return Value::Int(Int());
      // Not above 2^53: the canonical text of a large whole Float reads as an Int that is only near to it.
      case 3: return Value::Float(std::fmod(Float(), 9007199254740992.0));
      case 4: return Value::String(Text());
      case 5: {
        ListValue list;
        for (uint64_t i = 0, n = Below(4); i < n; ++i) list.push_back(Json(depth - 1));
        return Value::List(std::move(list));
      }
      default: {
        MapValue map;
        for (uint64_t i = 0, n = Below(4); i < n; ++i) map.emplace_back(Value::String(Text()), Json(depth - 1));
        return Value::MapFrom(std::move(map));
      }
    }
  }

  Value Of(TypeId type) {
    const TypeNode node = bench_.p.types[type];
    switch (node.kind) {
      case TypeKind::Bool: return Value::Bool(Below(2));
      case TypeKind::Int: return Value::Int(Int());
      case TypeKind::Float: return Value::Float(Float());
      case TypeKind::String: return Value::String(Text());
      case TypeKind::Duration: return Value::Duration(Int());
      case TypeKind::Bytes: return Value::Bytes(Int());
      case TypeKind::Json: return Json(3);
      case TypeKind::Enum: return Value::Enum(static_cast<uint32_t>(Below(3)));
      case TypeKind::Optional: return Below(3) ? Of(node.a) : Value();
      case TypeKind::List: {
        ListValue list;
        for (uint64_t i = 0, n = Below(5); i < n; ++i) list.push_back(Of(node.a));
        return Value::List(std::move(list));
      }
      case TypeKind::Map: {
        MapValue map;
        for (uint64_t i = 0, n = Below(5); i < n; ++i) {
          Value key = Of(node.a);
          map.emplace_back(std::move(key), Of(node.b));
        }
        return Value::MapFrom(std::move(map));
      }
      case TypeKind::Pair: {
        Value first = Of(node.a);
        return Value::List({first, Of(node.b)});
      }
      case TypeKind::Struct: {
        ListValue fields;
        for (const Field& field : bench_.p.types[StructId{node.def}].fields) fields.push_back(Of(field.type));
        return Value::List(std::move(fields));
      }
      default: return Value();
    }
  }

 private:
  Bench& bench_;
  std::mt19937_64 random_;
};

TEST(Properties, DecodingWhatWasEncodedGivesTheSameValue) {
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    Bench bench;
    Random random(bench, seed);
    TypeId type = random.Type(3);
    Value value = random.Of(type);
    Result<std::string> text = EncodeJson(value, type, bench.p, bench.context);
    ASSERT_TRUE(text.ok()) << seed << ": " << text.error().message;
    Result<Value> parsed = ParseJson(*text);
    ASSERT_TRUE(parsed.ok()) << seed << ": " << *text << ": " << parsed.error().message;
    EXPECT_EQ(JsonText(*parsed), *text) << "canonical";
    Evaluator evaluator(bench.p);
    Result<Value> back = DecodeJson(*parsed, type, evaluator, bench.context);
    ASSERT_TRUE(back.ok()) << seed << ": " << *text << ": " << back.error().message;
    EXPECT_EQ(Value::Compare(*back, value), 0) << seed << ": " << *text;
    EXPECT_EQ(back->Hash(), value.Hash()) << seed;
  }
}

TEST(Properties, CompareIsATotalOrder) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Bench bench;
    Random random(bench, seed);
    TypeId type = random.Type(2);
    std::vector<Value> values;
    for (int i = 0; i < 8; ++i) values.push_back(random.Of(type));
    for (const Value& x : values) {
      EXPECT_EQ(Value::Compare(x, x), 0);
      for (const Value& y : values) {
        EXPECT_EQ(Value::Compare(x, y), -Value::Compare(y, x));
        if (Value::Compare(x, y) == 0) {
          EXPECT_EQ(x.Hash(), y.Hash());
        }
        for (const Value& z : values) {
          if (Value::Compare(x, y) <= 0 && Value::Compare(y, z) <= 0) {
            EXPECT_LE(Value::Compare(x, z), 0);
          }
        }
      }
    }
  }
}

TEST(Properties, ParsersTakeAnyBytes) {
  std::mt19937_64 random(3);
  const std::string seed_text = "{\"rows\":[1,2.5e3,\"\\u00e4x\",null,true],\"k\":{\"a\":-1}}";
  Bench bench;
  TypeId type = bench.p.types.Map(bench.String(), bench.Json());
  Evaluator evaluator(bench.p);
  for (int i = 0; i < 20000; ++i) {
    std::string text = seed_text;
    for (uint64_t n = random() % 4; n-- > 0;) text[random() % text.size()] = static_cast<char>(random());
    if (random() % 4 == 0) text.resize(random() % text.size());
    Result<Value> parsed = ParseJson(text);
    if (!parsed) continue;
    Result<Value> decoded = DecodeJson(*parsed, type, evaluator, bench.context);
    if (decoded) {
      EXPECT_TRUE(ParseJson(JsonText(*parsed)).ok());
    }
  }
}

}  // namespace
}  // namespace jobc::ir::test
