// The grammar, part 3 of 4: items, the things that stand in files and blocks. Generic on purpose: which blocks and
// attributes exist is known to the schema tables of compiler/check. A word is a keyword only as the first word of an
// item, and only where what follows fits it, so each rule looks before it commits.
#pragma once

#include "grammar/expression.h"

namespace jobc::grammar {

struct item;
template <typename Keyword, typename... Next>
struct starts_with : p::at<Keyword, blanks_ahead, Next...> {};
struct name_ahead : p::seq<p::not_at<reserved>, p::identifier_first> {};
struct declared_name : name {};
struct declared_type : type {};

/// name: Type = default
struct type_missing {};
struct field_type : unless_missing<type_missing, type> {};
struct field : p::if_must<p::seq<any_name, colon>, field_type, p::opt<p::if_must<assign, value>>> {};

/// name = value, "name" = value
struct string_assign : assign {};
struct attr : p::sor<p::if_must<p::seq<any_name, assign>, value>, p::if_must<string, string_assign, value>> {};

/// import "./lib/qc.job" as qc
struct import : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("import"), p::one<'"'>>, token<TAO_PEGTL_KEYWORD("import")>>,
                           string, kw_as, declared_name> {};
/// let x: T = e
struct let_colon : colon {};
struct let_assign : assign {};
struct let : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("let"), name_ahead>, token<TAO_PEGTL_KEYWORD("let")>>,
                        declared_name, p::opt<p::if_must<let_colon, declared_type>>, let_assign, value> {};
/// fn f(a: T) -> U = e
struct parameter_colon : colon {};
struct parameter : p::seq<name, p::must<parameter_colon, declared_type>> {};
struct fn_assign : assign {};
struct fn : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("fn"), name_ahead>, token<TAO_PEGTL_KEYWORD("fn")>>, declared_name,
                       open_paren, elements<parameter, ')'>, close_paren, result_arrow, declared_type, fn_assign, value> {};
/// secret s = env("VAR")
struct secret_assign : assign {};
struct secret : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("secret"), name_ahead>, token<TAO_PEGTL_KEYWORD("secret")>>,
                           declared_name, secret_assign, value> {};
/// type Name = T
struct alias_assign : assign {};
struct alias : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("type"), name_ahead>, token<TAO_PEGTL_KEYWORD("type")>>,
                          declared_name, alias_assign, declared_type> {};
/// enum Mode { full, incremental }
struct enum_open : open_brace {};
struct enum_close : close_brace {};
struct enum_case : name {};
struct enum_declaration
    : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("enum"), name_ahead>, token<TAO_PEGTL_KEYWORD("enum")>>, declared_name,
                 enum_open, p::star<enum_case, separators>, enum_close> {};
/// require e else "message"
struct require
    : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("require"), p::not_at<p::one<'{'>>>, token<TAO_PEGTL_KEYWORD("require")>>, expr,
                 p::opt<p::if_must<kw_else, expr>>> {};
/// for x in xs key x.id max 500
struct for_word_ahead : p::seq<blanks_ahead, p::not_at<p::one<':', '{'>>, p::not_at<assign_sign>> {};
struct for_key : p::if_must<p::seq<p::at<TAO_PEGTL_KEYWORD("key"), for_word_ahead>, token<TAO_PEGTL_KEYWORD("key")>>, expr> {};
struct for_max : p::if_must<p::seq<p::at<TAO_PEGTL_KEYWORD("max"), for_word_ahead>, token<TAO_PEGTL_KEYWORD("max")>>, expr> {};
/// for x in xs ky x.id: another word in the place of `key` or `max` is reported, and what follows is taken as theirs.
template <char First>
struct misspelt_word_ahead {
  using rule_t = misspelt_word_ahead;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) { return st.MisspeltForWord(in.current(), First); }
};
struct misspelt_key : p::if_must<p::seq<misspelt_word_ahead<'k'>, token<p::identifier>>, expr> {};
struct misspelt_max : p::if_must<p::seq<misspelt_word_ahead<'m'>, token<p::identifier>>, expr> {};
/// for x in xs max 500 key x.id: reported, and taken as what was meant.
struct late_key_ahead {
  using rule_t = late_key_ahead;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) { return st.KeyAfterMax(in.current()); }
};
struct late_key : p::if_must<p::seq<p::at<TAO_PEGTL_KEYWORD("key"), for_word_ahead>, late_key_ahead, token<TAO_PEGTL_KEYWORD("key")>>, expr> {};
struct for_item : p::if_must<kw_for, loop_head, p::opt<p::sor<for_key, misspelt_key>>, p::opt<p::sor<for_max, misspelt_max>, p::opt<late_key>>> {};

/// { item… }: the end of the file is taken as the end of the block, so that what was read is not lost.
struct block_open : open_brace {};
struct missing_block_end {
  using rule_t = missing_block_end;
  using subs_t = p::empty_list;
  JOBC_STATEFUL_MATCH(in, st) {
    st.MissingBlockEnd(in.current());
    return true;
  }
};
/// An item, or the place where one failed: what is wrong there is reported, and the next item is tried.
struct recoverable_item {
  using rule_t = recoverable_item;
  using subs_t = p::type_list<item>;
  JOBC_STATEFUL_MATCH(in, st) {
    const char* begin = in.current();
    const auto context = st.SaveAtItem(begin);
    const char* resume = nullptr;
    {
      auto marker = in.template mark<p::rewind_mode::required>();
      try {
        if (marker(Control<p::must<item>>::template match<A, p::rewind_mode::dontcare, Action, Control>(in, st))) return true;
      } catch (const SyntaxError&) {
        resume = st.RecoverItem(context, begin);
      }
    }
    in.bump(static_cast<size_t>(resume - begin));
    return Control<trivia>::template match<A, M, Action, Control>(in, st);
  }
};
struct items : p::star<p::not_at<p::sor<p::one<'}'>, p::eof>>, recoverable_item, separators> {};
struct block_body : p::seq<items, p::sor<close_brace, missing_block_end>> {};

/// module q = qc { table = merge.table }
struct module_assign : assign {};
struct module_source : path {};
struct module : p::if_must<p::seq<starts_with<TAO_PEGTL_KEYWORD("module"), name_ahead>, token<TAO_PEGTL_KEYWORD("module")>>,
                           declared_name, module_assign, module_source, block_open, block_body> {};

/// A label: "text", base, py.script, align["s1"], align("s1")
struct label_arguments : p::sor<p::if_must<open_bracket, elements<expr, ']'>, close_bracket>,
                                p::if_must<open_paren, elements<expr, ')'>, close_paren>> {};
struct label : p::sor<string, p::seq<path, p::opt<label_arguments>>> {};
/// kind label… { item… }
struct open_word : TAO_PEGTL_KEYWORD("open") {};
struct open_struct : p::seq<starts_with<TAO_PEGTL_KEYWORD("open"), TAO_PEGTL_KEYWORD("struct")>, token<open_word>> {};
/// A label on the same line, or labels and `{` on later ones: else a forgotten `=` would swallow the next line.
struct label_ahead : p::seq<p::sor<p::seq<p::not_at<reserved>, p::list<p::identifier, p::one<'.'>>>,
                                   p::seq<p::one<'"'>, p::star<p::not_one<'"', '\n'>>, p::one<'"'>>>, blanks_ahead> {};
struct block_ahead : p::at<p::not_at<reserved>, p::identifier,
                           p::sor<p::seq<p::star<p::blank>, p::sor<p::one<'"'>, name_ahead>>,
                                  p::seq<blanks_ahead, p::rep_opt<4, label_ahead>, p::one<'{'>>>> {};
struct block : nested<p::if_must<p::seq<p::opt<open_struct>, block_ahead, any_name>, p::star<label>, block_open, block_body>> {};

/// argv align["s1"] = […], export x = …, state job = … (in tests)
struct labelled_word : p::sor<TAO_PEGTL_KEYWORD("argv"), TAO_PEGTL_KEYWORD("attempts"), TAO_PEGTL_KEYWORD("count"), TAO_PEGTL_KEYWORD("error"),
                              TAO_PEGTL_KEYWORD("export"), TAO_PEGTL_KEYWORD("message"), TAO_PEGTL_KEYWORD("outputs"), TAO_PEGTL_KEYWORD("state")> {};
struct labelled_attr : p::if_must<p::seq<starts_with<labelled_word, name_ahead>, any_name, label, assign>, value> {};
/// skip, alone (in mocks)
struct flag : p::seq<starts_with<TAO_PEGTL_KEYWORD("skip"), p::one<'}', ',', ';'>>, any_name> {};

/// facts => kind: starts with a name or `!`
struct arm_ahead : p::at<p::sor<p::one<'!'>, p::seq<p::not_at<reserved>, p::identifier, blanks_ahead,
                                                     p::sor<p::one<'(', '.', '['>, TAO_PEGTL_STRING("=>"), TAO_PEGTL_STRING("&&"),
                                                            TAO_PEGTL_STRING("||")>>>> {};
struct arm_arrow : arrow {};
struct arm : p::if_must<arm_ahead, expr, arm_arrow, expr> {};

/// A name and nothing that makes it an item.
struct item_continuation : p::failure {};
struct lonely_name : p::if_must<name, item_continuation> {};

struct item : p::sor<field, attr, for_item, import, let, fn, secret, alias, enum_declaration, require, module, flag,
                     labelled_attr, block, arm, lonely_name> {};

}  // namespace jobc::grammar
