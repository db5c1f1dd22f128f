#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ir/builtins.h"
#include "ir/plan.h"
#include "tests/ir/bench.h"

namespace jobc::ir::test {
namespace {

using ::testing::ElementsAre;

TEST(Types, EqualTypesHaveEqualIds) {
  TypeTable types;
  TypeId a = types.List(types.Basic(TypeKind::Int));
  EXPECT_EQ(a, types.List(types.Basic(TypeKind::Int)));
  EXPECT_NE(a, types.List(types.Basic(TypeKind::String)));
  EXPECT_EQ(types.Optional(types.Optional(a)), types.Optional(a));
  EXPECT_EQ(types.NonNull(types.Optional(a)), a);
}

TEST(Types, ARefinementIsNotPartOfIdentityAtAnyDepth) {
  TypeTable types;
  TypeId integer = types.Basic(TypeKind::Int);
  TypeId port = types.Refined(integer, types.AddRefinement({.kind = RefinementKind::IntRange, .int_low = 1, .int_high = 64, .text = "1..64"}));
  EXPECT_EQ(types.kind(port), TypeKind::Int);
  EXPECT_TRUE(types.Same(port, integer));
  EXPECT_TRUE(types.Same(types.List(port), types.List(integer)));
  EXPECT_TRUE(types.Same(types.Map(types.Basic(TypeKind::String), types.Optional(port)), types.Map(types.Basic(TypeKind::String), types.Optional(integer))));
  EXPECT_NE(types.List(port), types.List(integer));
  TypeId short_list = types.Refined(types.List(port), types.AddRefinement({.text = "length(it) < 3"}));
  EXPECT_EQ(types[short_list].a, port) << "a refined list keeps its element type";
  EXPECT_EQ(types.Bare(short_list), types.List(integer));
}

TEST(Types, AreShownAsPeopleWriteThem) {
  TypeTable types;
  TypeId integer = types.Basic(TypeKind::Int);
  TypeId port = types.Refined(integer, types.AddRefinement({.text = "1..64"}));
  EXPECT_EQ(types.Show(types.List(types.Optional(port))), "List<Int(1..64)?>");
  EXPECT_EQ(types.Show(types.Map(types.Basic(TypeKind::String), types.Pair(integer, types.Basic(TypeKind::File)))), "Map<String, Pair<Int, File>>");
  EXPECT_EQ(types.Show(types.Struct(types.AddStruct({.name = "Sample"}))), "Sample");
}

TEST(Types, ACopyOfATableCanGrowOnItsOwn) {
  TypeTable types;
  TypeTable copy = types;
  TypeId in_copy = copy.List(copy.Basic(TypeKind::Int));
  TypeId in_original = types.List(types.Basic(TypeKind::String));
  EXPECT_EQ(copy.kind(copy[in_copy].a), TypeKind::Int);
  EXPECT_EQ(types.kind(types[in_original].a), TypeKind::String);
}

TEST(Types, ASecretIsFoundInsideStructs) {
  TypeTable types;
  StructId inner = types.AddStruct({.name = "A", .fields = {{.name = "s", .type = types.Basic(TypeKind::Secret)}}});
  StructId outer = types.AddStruct({.name = "B", .fields = {{.name = "a", .type = types.List(types.Struct(inner))}}});
  EXPECT_TRUE(types.HasSecret(types.Optional(types.Struct(outer))));
  EXPECT_FALSE(types.HasSecret(types.List(types.Basic(TypeKind::String))));
}

TEST(Values, MapsAreSortedAndTheLastOfEqualKeysStays) {
  Value map = Value::MapFrom({{Value::Int(3), Value::Bool(true)}, {Value::Int(-1), Value::Bool(true)}, {Value::Int(3), Value::Bool(false)}});
  ASSERT_EQ(map.as_map().size(), 2u);
  EXPECT_EQ(map.as_map()[0].first.as_int(), -1);
  EXPECT_FALSE(map.as_map()[1].second.as_bool());
}

TEST(Values, TextsCompareByTheirBytesAndNumbersExactly) {
  EXPECT_LT(Value::Compare(Value::String("Z"), Value::String("a")), 0);
  EXPECT_LT(Value::Compare(Value::String("z"), Value::String("ä")), 0);
  EXPECT_LT(Value::Compare(Value::Int(9007199254740993), Value::Float(9007199254740994.0)), 0);
  EXPECT_GT(Value::Compare(Value::Int(9007199254740993), Value::Float(9007199254740992.0)), 0);
  EXPECT_EQ(Value::Compare(Value::Int(2), Value::Float(2.0)), 0);
  EXPECT_EQ(Value::Int(2).Hash(), Value::Float(2.0).Hash());
  EXPECT_LT(Value::Compare(Value::Int(INT64_MAX), Value::Float(9223372036854775808.0)), 0);
  EXPECT_LT(Value::Compare(Value::Int(-3), Value::Float(-2.5)), 0);
}

TEST(Kinds, HaveTheClassesOfTheLanguage) {
  EXPECT_EQ(ClassOf(ErrorKind::Internal), ErrorClass::System);
  EXPECT_EQ(ClassOf(ErrorKind::Exit), ErrorClass::Algorithm);
  EXPECT_EQ(ClassOf(ErrorKind::Expression), ErrorClass::Algorithm);
  EXPECT_EQ(ClassOf(ErrorKind::InvalidInput), ErrorClass::Data);
  EXPECT_EQ(ClassOf(ErrorKind::Check), ErrorClass::None);
  for (int i = 0; i < kErrorKinds; ++i) EXPECT_EQ(KindFromName(KindName(static_cast<ErrorKind>(i))), static_cast<ErrorKind>(i));
  EXPECT_EQ(ClassFromName("none"), std::nullopt);
  EXPECT_EQ(BackendFromName("cloud_run"), BackendKind::CloudRun);
}

// ---- Signatures --------------------------------------------------------------------------------------------------------

TEST(Signatures, AreParsedFromTheTable) {
  const BuiltinInfo& zip = InfoOf(Builtin::zip);
  ASSERT_EQ(zip.signatures.size(), 1u);
  EXPECT_EQ(zip.signatures[0].text, "(List<T>, List<U>) -> List<Pair<T, U>>");
  EXPECT_EQ(zip.signatures[0].variables.size(), 2u);
  EXPECT_EQ(InfoOf(Builtin::contains).signatures.size(), 4u);
  EXPECT_TRUE(InfoOf(Builtin::format).signatures[0].variadic);
  for (size_t i = 0; i < kBuiltinCount; ++i) {
    const BuiltinInfo& info = InfoOf(static_cast<Builtin>(i));
    EXPECT_FALSE(info.signatures.empty()) << info.name;
    EXPECT_FALSE(info.doc.empty()) << info.name;
    EXPECT_EQ(BuiltinFromName(info.name), static_cast<Builtin>(i));
  }
}

struct Resolve : Bench, ::testing::Test {
  std::string Of(Builtin f, std::vector<TypeId> args, int type_argument = -1) {
    SignatureMatch match = ResolveCall(p.types, f, args, type_argument);
    return match.signature ? p.types.Show(match.result) : "none";
  }
};

TEST_F(Resolve, BindsVariablesAcrossArguments) {
  TypeId ints = p.types.List(Int()), strings = p.types.List(String());
  EXPECT_EQ(Of(Builtin::zip, {ints, strings}), "List<Pair<Int, String>>");
  EXPECT_EQ(Of(Builtin::contains, {ints, Int()}), "Bool");
  EXPECT_EQ(Of(Builtin::contains, {ints, String()}), "none");
  EXPECT_EQ(Of(Builtin::compact, {p.types.List(p.types.Optional(Int()))}), "List<Int>");
  EXPECT_EQ(Of(Builtin::flatten, {p.types.List(ints)}), "List<Int>");
  EXPECT_EQ(Of(Builtin::flatten, {ints}), "none");
}

TEST_F(Resolve, PrefersExactFitsAndWidensIntsOnlyThen) {
  EXPECT_EQ(Of(Builtin::abs, {Int()}), "Int");
  EXPECT_EQ(Of(Builtin::floor, {Int()}), "Int");
  EXPECT_EQ(Of(Builtin::max, {Int(), Float()}), "Float");
  SignatureMatch match = ResolveCall(p.types, Builtin::max, {Int(), Float()});
  EXPECT_THAT(match.expected, ElementsAre(Float(), TypeId{}));
  EXPECT_EQ(Of(Builtin::max, {Int(), String()}), "none");
  EXPECT_EQ(Of(Builtin::sum, {p.types.List(Basic(TypeKind::Bytes))}), "Bytes");
  EXPECT_EQ(Of(Builtin::sum, {p.types.List(String())}), "none");
}

TEST_F(Resolve, TakesTextsOfDifferentTypesAndNoOptionalOnes) {
  EXPECT_EQ(Of(Builtin::format, {String(), Int(), Basic(TypeKind::File), Bool()}), "String");
  EXPECT_EQ(Of(Builtin::format, {String(), p.types.Optional(Int())}), "none");
  EXPECT_EQ(Of(Builtin::to_string, {p.types.List(Int())}), "none");
  EXPECT_EQ(Of(Builtin::join, {p.types.List(Basic(TypeKind::File)), String()}), "String");
}

TEST_F(Resolve, TypeArgumentsGiveTheResult) {
  TypeId ints = p.types.List(Int());
  EXPECT_EQ(Of(Builtin::parse_json, {String(), ints}, 1), "List<Int>");
  EXPECT_EQ(Of(Builtin::decode, {Json(), Basic(TypeKind::Bytes)}, 1), "Bytes");
  EXPECT_EQ(Of(Builtin::parse_json, {String(), String()}), "none");
}

TEST_F(Resolve, SecretsFitNothing) {
  EXPECT_EQ(Of(Builtin::to_string, {Basic(TypeKind::Secret)}), "none");
  EXPECT_EQ(Of(Builtin::json, {Basic(TypeKind::Secret)}), "none");
  EXPECT_EQ(Of(Builtin::length, {Basic(TypeKind::Secret)}), "none");
}

TEST_F(Resolve, RefinedArgumentsAreLikeBareOnes) {
  TypeId port = p.types.Refined(Int(), p.types.AddRefinement({.text = "1..64"}));
  EXPECT_EQ(Of(Builtin::range, {port}), "List<Int>");
  EXPECT_EQ(Of(Builtin::reverse, {p.types.List(port)}), "List<Int>");
  EXPECT_THAT(ResolveCall(p.types, Builtin::range, {port}).expected, ElementsAre(TypeId{}));
}

}  // namespace
}  // namespace jobc::ir::test
