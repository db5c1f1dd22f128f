// The grammar, part 1 of 4: blanks, words, numbers, strings, heredocs, brackets. Read it beside GRAMMAR.md.
// Rules are PEGTL rules; a token takes the blanks and comments behind it. What PEG cannot say (comments to keep,
// heredoc ends, depth, going on after a fault) are calls into the ParserState (compiler/parse/parser_state.h).
// Included by compiler/parse/parse_text.cpp only: PEGTL costs seconds to compile.
#pragma once

#include <tao/pegtl.hpp>

#include "compiler/parse/parser_state.h"

namespace jobc::grammar {

namespace p = tao::pegtl;

#define JOBC_STATEFUL_MATCH(in, st)                                                                              \
  template <p::apply_mode A, p::rewind_mode M, template <typename...> class Action,                               \
            template <typename...> class Control, typename ParseInput, typename State>                            \
  [[nodiscard]] static bool match(ParseInput& in, State& st)

/// Blanks and comments. Always matches.
struct trivia {
  using rule_t = trivia;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    in.bump(static_cast<size_t>(st.SkipTrivia(in.current()) - in.current()));
    return true;
  }
};
/// The same in a lookahead: nothing is remembered.
struct blanks_ahead {
  using rule_t = blanks_ahead;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    in.bump(static_cast<size_t>(st.PeekTrivia(in.current()) - in.current()));
    return true;
  }
};
template <typename... Rules>
struct token : p::seq<Rules..., trivia> {};
template <char C>
struct symbol : token<p::one<C>> {};

/// Counts one level of nesting around the rules; too deep is E013.
template <typename... Rules>
struct nested {
  using rule_t = nested;
  using subs_t = p::type_list<p::seq<Rules...>>;
  JOBC_STATEFUL_MATCH(in, st) {
    st.Enter(in.current());
    const bool matched = Control<p::seq<Rules...>>::template match<A, M, Action, Control>(in, st);
    st.Leave();
    return matched;
  }
};

/// An opening bracket or quote is remembered until its partner comes, so that a fault can name it. After it everything
/// must match: there is no way back.
template <char C>
struct open_raw {
  using rule_t = open_raw;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    if (in.empty() || in.peek_char() != C) return false;
    st.OpenBracket(in.current());
    in.bump(1);
    return true;
  }
};
template <char C>
struct close_raw {
  using rule_t = close_raw;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    if (in.empty() || in.peek_char() != C) return false;
    st.CloseBracket();
    in.bump(1);
    return true;
  }
};
struct open_paren : token<open_raw<'('>> {};
struct open_bracket : token<open_raw<'['>> {};
struct open_brace : token<open_raw<'{'>> {};
struct close_paren : token<close_raw<')'>> {};
struct close_bracket : token<close_raw<']'>> {};
struct close_brace : token<close_raw<'}'>> {};

struct comma : symbol<','> {};
struct colon : symbol<':'> {};
struct question : symbol<'?'> {};
/// A single `=`.
struct assign_sign : p::seq<p::one<'='>, p::not_at<p::one<'=', '>'>>> {};
struct assign : token<assign_sign> {};
struct arrow : token<TAO_PEGTL_STRING("=>")> {};
struct result_arrow : token<TAO_PEGTL_STRING("->")> {};

// ---- words
struct word : p::identifier {};
struct reserved : p::sor<TAO_PEGTL_KEYWORD("if"), TAO_PEGTL_KEYWORD("then"), TAO_PEGTL_KEYWORD("else"),
                         TAO_PEGTL_KEYWORD("match"), TAO_PEGTL_KEYWORD("for"), TAO_PEGTL_KEYWORD("in"),
                         TAO_PEGTL_KEYWORD("true"), TAO_PEGTL_KEYWORD("false"), TAO_PEGTL_KEYWORD("null")> {};
/// A name of a value, type or block: not one of the reserved words.
struct name : p::seq<p::not_at<reserved>, word, trivia> {};
/// Where only a name can stand (after `.`, before `:` or `=`): reserved words too.
struct any_name : token<word> {};

struct kw_if : token<TAO_PEGTL_KEYWORD("if")> {};
struct kw_then : token<TAO_PEGTL_KEYWORD("then")> {};
struct kw_else : token<TAO_PEGTL_KEYWORD("else")> {};
struct kw_match : token<TAO_PEGTL_KEYWORD("match")> {};
struct kw_for : token<TAO_PEGTL_KEYWORD("for")> {};
struct kw_in : token<TAO_PEGTL_KEYWORD("in")> {};
struct kw_as : token<TAO_PEGTL_KEYWORD("as")> {};

// ---- numbers and quantities: 42, 1_000, 0.5, 1e6, 500ms, 1.5GiB. Which suffixes are units is the AST's matter.
struct digits : p::seq<p::digit, p::star<p::opt<p::one<'_'>>, p::digit>> {};
struct fraction : p::seq<p::one<'.'>, digits> {};
struct exponent : p::seq<p::one<'e', 'E'>, p::opt<p::one<'+', '-'>>, digits> {};
struct number_literal : p::seq<digits, p::opt<fraction>, p::opt<exponent>, p::star<p::identifier_other>> {};
struct number : token<number_literal> {};

// ---- strings
struct expr;
struct splice : token<TAO_PEGTL_STRING("...")> {};

/// What stands between `~{` and `}`. A fault in there ends with it: the string goes on.
template <typename Rule>
struct interpolated {
  using rule_t = interpolated;
  using subs_t = p::type_list<Rule>;
  JOBC_STATEFUL_MATCH(in, st) {
    const char* begin = in.current();
    const char* resume = nullptr;
    const auto context = st.EnterInterpolation(begin);
    {
      auto marker = in.template mark<p::rewind_mode::required>();
      try {
        if (marker(Control<Rule>::template match<A, p::rewind_mode::dontcare, Action, Control>(in, st))) {
          st.LeaveInterpolation(context);
          return true;
        }
      } catch (const SyntaxError&) {
        resume = st.RecoverInterpolation(context, begin);
      }
    }
    in.bump(static_cast<size_t>(resume - begin));
    return true;
  }
};
struct interpolation_end : close_raw<'}'> {};
struct interpolation_body : p::seq<p::must<trivia, expr>, p::opt<splice>, p::must<interpolation_end>> {};
struct interpolation : p::seq<p::one<'~'>, p::at<p::one<'{'>>, interpolated<p::seq<open_raw<'{'>, interpolation_body>>> {};

struct escape : p::seq<p::one<'\\'>, p::not_one<'\n', '\r'>> {};
struct literal_interpolation : TAO_PEGTL_STRING("~~{") {};
struct string_character : p::not_one<'"', '\\', '~', '\n', '\r'> {};
struct string_text
    : p::plus<p::sor<string_character, escape, literal_interpolation, p::seq<p::one<'~'>, p::not_at<p::one<'{'>>>>> {};
struct close_quote : close_raw<'"'> {};
struct string_literal : p::if_must<open_raw<'"'>, p::star<p::sor<string_text, interpolation>>, close_quote> {};
struct string : token<string_literal> {};

/// re"…": only `\"` is an escape of ours, all else is RE2's.
struct regex_end : close_raw<'"'> {};
struct regex_literal
    : p::if_must<p::seq<p::one<'r'>, p::one<'e'>, open_raw<'"'>>,
                 p::star<p::sor<escape, p::not_one<'"', '\\', '\n', '\r'>>>, regex_end> {};
struct regex : token<regex_literal> {};

// ---- heredocs: <<~TAG, lines, TAG
struct heredoc_tag : p::identifier {};
/// The tag and the rest of its line. Finds the terminator first, so that nothing inside can run past it.
struct heredoc_start {
  using rule_t = heredoc_start;
  using subs_t = p::type_list<heredoc_tag>;
  JOBC_STATEFUL_MATCH(in, st) {
    const char* begin = in.current();
    if (!Control<heredoc_tag>::template match<A, M, Action, Control>(in, st)) return false;
    in.bump(static_cast<size_t>(st.BeginHeredoc(begin, in.current()) - in.current()));
    return true;
  }
};
struct heredoc_text {
  using rule_t = heredoc_text;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    const char* end = st.HeredocTextEnd(in.current());
    if (end == in.current()) return false;
    in.bump(static_cast<size_t>(end - in.current()));
    return true;
  }
};
struct heredoc_end {
  using rule_t = heredoc_end;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    const char* end = st.EndHeredoc(in.current());
    if (end == nullptr) return false;
    in.bump(static_cast<size_t>(end - in.current()));
    return true;
  }
};
struct heredoc_allowed {
  using rule_t = heredoc_allowed;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) { return !st.in_interpolation(); }
};
struct heredoc_literal
    : p::if_must<TAO_PEGTL_STRING("<<~"), heredoc_allowed, heredoc_start,
                 p::star<p::sor<heredoc_text, interpolation>>, heredoc_end> {};
struct heredoc : token<heredoc_literal> {};

}  // namespace jobc::grammar
