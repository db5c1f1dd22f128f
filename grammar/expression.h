// The grammar, part 2 of 4: expressions and types. Operators are matched as a flat row of operands; how strongly each
// binds is a table in compiler/ast/build_ast.cpp (one level of rules instead of seven: faster, and a wrong chain such
// as `a < b < c` gets a message of its own).
#pragma once

#include "grammar/lexical.h"

namespace jobc::grammar {

struct type;

/// `a = 1`: the value may not begin on the next line where that line is an item of its own.
struct value_missing {
  using rule_t = value_missing;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) { return st.ValueIsMissing(in.current()); }
};
template <typename Missing, typename Rule>
struct unless_missing : p::sor<p::seq<value_missing, p::raise<Missing>>, Rule> {};
struct value : unless_missing<value_missing, expr> {};

/// ELEMENT, ELEMENT, …: the comma is needed, one more at the end is fine.
template <typename Element, char Close>
struct elements
    : p::sor<p::at<p::one<Close>>,
             p::seq<p::must<Element>, p::star<comma, p::sor<p::at<p::one<Close>>, p::must<Element>>>>> {};

// ---- atoms
struct name_expr : p::seq<p::not_at<reserved>, p::identifier> {};
struct true_literal : TAO_PEGTL_KEYWORD("true") {};
struct false_literal : TAO_PEGTL_KEYWORD("false") {};
struct null_literal : TAO_PEGTL_KEYWORD("null") {};

/// if c then a else b: as far to the right as it can
struct if_expr : p::if_must<kw_if, expr, kw_then, expr, kw_else, expr> {};

/// match e { pattern => value, … }: `e { … }` is no constructor here
struct match_subject {
  using rule_t = match_subject;
  using subs_t = p::type_list<expr>;
  JOBC_STATEFUL_MATCH(in, st) {
    const bool before = st.constructor_allowed();
    st.set_constructor_allowed(false);
    const bool matched = Control<expr>::template match<A, M, Action, Control>(in, st);
    st.set_constructor_allowed(before);
    return matched;
  }
};
struct match_arrow : arrow {};
struct match_arm : p::seq<expr, p::must<match_arrow, expr>> {};
struct match_open : open_brace {};
struct match_close : close_brace {};
struct match_expr : p::if_must<kw_match, match_subject, match_open, elements<match_arm, '}'>, match_close> {};

/// [a, ...b] and [for x in xs if c : e]
struct element : p::sor<p::if_must<splice, expr>, expr> {};
struct loop_variable : name {};
struct loop_head : p::seq<p::must<loop_variable>, p::opt<p::if_must<comma, loop_variable>>, p::must<kw_in, expr>> {};
struct filter : p::if_must<kw_if, expr> {};
struct loop_colon : colon {};
template <char C>
struct loop_ahead
    : p::at<p::one<C>, blanks_ahead, TAO_PEGTL_KEYWORD("for"), blanks_ahead, p::identifier_first> {};
struct list_for : p::if_must<p::seq<loop_ahead<'['>, open_bracket>, kw_for, loop_head, p::opt<filter>, loop_colon,
                             element, close_bracket> {};
struct list : p::if_must<open_bracket, elements<element, ']'>, close_bracket> {};

/// {k = v, "a b" = w, [expr] = x} and {for k, v in m : [k] = e}
struct map_for_key : p::if_must<open_bracket, expr, close_bracket> {};
struct map_assign : assign {};
struct map_for : p::if_must<p::seq<loop_ahead<'{'>, open_brace>, kw_for, loop_head, p::opt<filter>, loop_colon,
                            map_for_key, map_assign, value, match_close> {};
struct map_key : p::sor<p::if_must<open_bracket, expr, close_bracket>, string, number, any_name> {};
struct map_entry : p::if_must<map_key, map_assign, value> {};
struct map_close : close_brace {};
struct map : p::if_must<open_brace, elements<map_entry, '}'>, map_close> {};

struct group : p::if_must<open_paren, expr, close_paren> {};

/// f(a, name = b, ...c)
struct named_argument_ahead : p::at<p::identifier, blanks_ahead, assign_sign> {};
struct argument : p::sor<p::if_must<splice, expr>, p::if_must<p::seq<named_argument_ahead, any_name, assign>, value>, expr> {};
struct call : p::if_must<open_paren, elements<argument, ')'>, close_paren> {};

/// parse_json(text, Type): after the first argument types follow
struct typed_function : p::sor<TAO_PEGTL_KEYWORD("parse_json"), TAO_PEGTL_KEYWORD("read_json"), TAO_PEGTL_KEYWORD("decode")> {};
struct type_argument : p::seq<type> {};
struct typed_elements
    : p::sor<p::at<p::one<')'>>,
             p::seq<p::must<argument>, p::star<comma, p::sor<p::at<p::one<')'>>, p::must<type_argument>>>>> {};
struct typed_arguments : p::if_must<open_paren, typed_elements, close_paren> {};
struct typed_call : p::seq<p::at<typed_function, blanks_ahead, p::one<'('>>, token<name_expr>, typed_arguments> {};

struct plain_atom : token<p::sor<regex_literal, name_expr, true_literal, false_literal, null_literal, number_literal,
                                 string_literal, heredoc_literal>> {};
struct atom : p::sor<typed_call, plain_atom, list_for, list, group, map_for, map, if_expr, match_expr> {};

// ---- what follows an atom
struct member_name : any_name {};
struct opt_member : p::if_must<token<TAO_PEGTL_STRING("?.")>, member_name> {};
struct member : p::if_must<token<p::one<'.'>, p::not_at<p::one<'.'>>>, member_name> {};
struct star_sign : p::one<'*'> {};
struct index_argument : p::sor<token<star_sign>, expr> {};
struct index_element : index_argument {};
struct index : p::if_must<open_bracket, index_element, p::star<comma, p::sor<p::at<p::one<']'>>, p::must<index_element>>>,
                          close_bracket> {};
/// Name { field = value … }; separators are optional
struct separators : p::star<p::sor<comma, symbol<';'>>> {};
struct constructor_allowed {
  using rule_t = constructor_allowed;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) { return st.constructor_allowed(); }
};
struct constructor_assign : assign {};
struct constructor_entry : p::if_must<any_name, constructor_assign, value> {};
struct constructor_close : close_brace {};
struct constructor : p::if_must<p::seq<p::at<p::one<'{'>>, constructor_allowed, open_brace>,
                                p::star<constructor_entry, separators>, constructor_close> {};
struct postfix : p::seq<atom, p::star<p::sor<member, call, index, opt_member, constructor>>> {};

// ---- operators
struct unary_operator : p::sor<p::seq<p::one<'!'>, p::not_at<p::one<'='>>>, p::one<'-'>> {};
struct unary : p::seq<p::plus<token<unary_operator>>, p::must<postfix>> {};
struct operand : p::sor<postfix, unary> {};

struct range_operator : p::seq<TAO_PEGTL_STRING(".."), p::not_at<p::one<'.'>>> {};
struct binary_operator
    : p::sor<p::one<'+', '*', '/', '%'>, p::seq<p::one<'-'>, p::not_at<p::one<'>'>>>, TAO_PEGTL_STRING("=="),
             TAO_PEGTL_STRING("!="), TAO_PEGTL_STRING("<="), TAO_PEGTL_STRING(">="), p::one<'<', '>'>,
             TAO_PEGTL_STRING("&&"), TAO_PEGTL_STRING("||"), TAO_PEGTL_STRING("??"), TAO_PEGTL_KEYWORD("in")> {};
/// Half-open ranges `1..` and `..9`: where they may stand is checked with the AST.
struct open_end : p::success {};
struct right_operand : unless_missing<value_missing, operand> {};
struct range_end : p::sor<p::seq<p::at<p::one<')'>>, open_end>, right_operand> {};
struct expr : nested<p::sor<operand, p::seq<p::at<range_operator>, open_end, token<range_operator>, p::must<right_operand>>>,
                     p::star<p::sor<p::if_must<token<binary_operator>, right_operand>,
                                    p::if_must<token<range_operator>, range_end>>>> {};

// ---- types: qc.Sample, List<T>, Int(1..64), String(re"[a-z]+")?
struct path_name : name {};
struct path : p::seq<name, p::star<p::if_must<token<p::one<'.'>, p::not_at<p::one<'.'>>>, path_name>>> {};
struct type_parameter : p::seq<type> {};
struct close_angle : token<close_raw<'>'>> {};
struct type_arguments : p::if_must<token<open_raw<'<'>>, elements<type_parameter, '>'>, close_angle> {};
struct refinement : p::if_must<open_paren, expr, close_paren> {};
struct optional_sign : p::one<'?'> {};
struct single_optional : p::not_at<p::one<'?'>> {};
struct type : nested<path, p::opt<type_arguments>, p::opt<refinement>,
                     p::opt<p::if_must<token<optional_sign>, single_optional>>> {};

}  // namespace jobc::grammar
