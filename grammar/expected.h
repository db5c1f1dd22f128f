// What a rule that must match wants, in the words of the message: "expected …, found …". A rule without a text here
// does not compile (the static_assert stands in `raise`, compiler/parse/parse_text.cpp).
#pragma once

#include <string_view>

#include "grammar/file.h"

namespace jobc::grammar {

using FailureKind = ParserState::FailureKind;

struct Expectation {
  std::string_view text;
  FailureKind kind = FailureKind::Expected;
};
template <typename Rule>
inline constexpr Expectation expected = {};

/// Rules that match the empty text need no words: they cannot fail.
template <typename Rule>
inline constexpr bool cannot_fail = false;
template <typename... Rules>
inline constexpr bool cannot_fail<p::opt<Rules...>> = true;
template <typename... Rules>
inline constexpr bool cannot_fail<p::star<Rules...>> = true;
template <typename Element, char Close>
inline constexpr bool cannot_fail<elements<Element, Close>> = true;
template <>
inline constexpr bool cannot_fail<typed_elements> = true;

#define JOBC_EXPECT(rule, ...) \
  template <>                  \
  inline constexpr Expectation expected<rule> = {__VA_ARGS__};

JOBC_EXPECT(trivia, "a blank")
JOBC_EXPECT(expr, "a value")
JOBC_EXPECT(value, "a value")
JOBC_EXPECT(value_missing, "a value", FailureKind::MissingValue)
JOBC_EXPECT(type_missing, "a type", FailureKind::MissingValue)
JOBC_EXPECT(element, "a value")
JOBC_EXPECT(argument, "an argument")
JOBC_EXPECT(index_element, "an index or `*`")
JOBC_EXPECT(postfix, "a value after the sign")
JOBC_EXPECT(range_end, "a value after `..`")
JOBC_EXPECT(right_operand, "a value after the operator")
JOBC_EXPECT(match_subject, "the value to match")
JOBC_EXPECT(match_arm, "`pattern => value`")
JOBC_EXPECT(match_arrow, "`=>` after the pattern")
JOBC_EXPECT(match_open, "`{` and the cases of the match")
JOBC_EXPECT(match_close, "`,` or `}`", FailureKind::Closer)
JOBC_EXPECT(kw_then, "`then`")
JOBC_EXPECT(kw_else, "`else` (an `if` always has both branches)")
JOBC_EXPECT(kw_for, "`for`")
JOBC_EXPECT(kw_in, "`in`")
JOBC_EXPECT(kw_as, "`as` and the name to use for the import")
JOBC_EXPECT(loop_head, "a loop variable")
JOBC_EXPECT(loop_variable, "a loop variable")
JOBC_EXPECT(loop_colon, "`:` before the element")
JOBC_EXPECT(map_for_key, "`[key] = value`")
JOBC_EXPECT(map_entry, "an entry `key = value`")
JOBC_EXPECT(map_assign, "`=` after the key")
JOBC_EXPECT(map_close, "`,` or `}`", FailureKind::Closer)
JOBC_EXPECT(constructor_assign, "`=` after the field's name")
JOBC_EXPECT(constructor_close, "`name = value` or `}`", FailureKind::Closer)
JOBC_EXPECT(close_paren, "`,` or `)`", FailureKind::Closer)
JOBC_EXPECT(close_bracket, "`,` or `]`", FailureKind::Closer)
JOBC_EXPECT(close_angle, "`,` or `>`", FailureKind::Closer)
JOBC_EXPECT(close_quote, "string", FailureKind::Closer)
JOBC_EXPECT(regex_end, "regular expression", FailureKind::Closer)
JOBC_EXPECT(interpolation_end, "`}` at the end of `~{`", FailureKind::Closer)
JOBC_EXPECT(heredoc_allowed, "no heredoc inside of `~{ }`", FailureKind::Heredoc)
JOBC_EXPECT(heredoc_start, "a tag such as `BASH` after `<<~`")
JOBC_EXPECT(heredoc_end, "the end of the heredoc")
JOBC_EXPECT(member_name, "a name after the dot")
JOBC_EXPECT(path_name, "a name after the dot")
JOBC_EXPECT(type_argument, "a type")
JOBC_EXPECT(type_parameter, "a type")
JOBC_EXPECT(declared_type, "a type")
JOBC_EXPECT(field_type, "a type")
JOBC_EXPECT(single_optional, "only one `?` (what is optional cannot become optional again)")
JOBC_EXPECT(declared_name, "a name")
JOBC_EXPECT(open_paren, "`(`")
JOBC_EXPECT(parameter, "a parameter `name: Type`")
JOBC_EXPECT(parameter_colon, "`:` and the parameter's type")
JOBC_EXPECT(result_arrow, "`->` and the result's type")
JOBC_EXPECT(let_assign, "`=` and the value")
JOBC_EXPECT(fn_assign, "`=` and the function's value")
JOBC_EXPECT(secret_assign, "`=` and where the secret comes from, such as `env(\"NAME\")`")
JOBC_EXPECT(alias_assign, "`=` and a type")
JOBC_EXPECT(string_assign, "`=` after the key")
JOBC_EXPECT(enum_open, "`{` and the cases")
JOBC_EXPECT(enum_close, "the name of a case or `}`", FailureKind::Closer)
JOBC_EXPECT(string, "a string")
JOBC_EXPECT(module_assign, "`=` and the import to instantiate")
JOBC_EXPECT(module_source, "the name of an import")
JOBC_EXPECT(block_open, "`{`")
JOBC_EXPECT(block_body, "`}`", FailureKind::Closer)
JOBC_EXPECT(arm_arrow, "`=>` and an error kind")
JOBC_EXPECT(item, "an item such as `name = value` or `job name { … }`", FailureKind::Item)
JOBC_EXPECT(item_continuation, "`=`, `:` or `{` after the name", FailureKind::Continuation)

#undef JOBC_EXPECT

}  // namespace jobc::grammar
