// The only file that includes PEGTL: runs grammar/ with a control that writes the flat tree.
#include "grammar/expected.h"
#include "support/check.h"

namespace jobc {
namespace {

namespace g = grammar;
namespace p = tao::pegtl;

/// The node a rule leaves; None: its children go to the rule around it.
template <typename Rule>
inline constexpr NodeKind kNode = NodeKind::None;
/// Nodes of these rules are left out where they would have one child only.
template <typename Rule>
inline constexpr bool kFolded = false;

#define JOBC_NODE(rule, kind) \
  template <>                 \
  inline constexpr NodeKind kNode<g::rule> = NodeKind::kind;
JOBC_NODE(word, Word)
JOBC_NODE(number_literal, Number)
JOBC_NODE(string_text, Text)
JOBC_NODE(heredoc_text, Text)
JOBC_NODE(binary_operator, Operator)
JOBC_NODE(range_operator, Operator)
JOBC_NODE(unary_operator, UnaryOperator)
JOBC_NODE(splice, Splice)
JOBC_NODE(star_sign, Star)
JOBC_NODE(open_end, OpenEnd)
JOBC_NODE(heredoc_tag, HeredocTag)
JOBC_NODE(optional_sign, Optional)
JOBC_NODE(open_word, OpenWord)
JOBC_NODE(name_expr, Name)
JOBC_NODE(true_literal, True)
JOBC_NODE(false_literal, False)
JOBC_NODE(null_literal, Null)
JOBC_NODE(regex_literal, Regex)
JOBC_NODE(string_literal, String)
JOBC_NODE(heredoc_literal, Heredoc)
JOBC_NODE(interpolation, Interpolation)
JOBC_NODE(expr, Binary)
JOBC_NODE(unary, Unary)
JOBC_NODE(postfix, Postfix)
JOBC_NODE(typed_call, Postfix)
JOBC_NODE(member, Member)
JOBC_NODE(opt_member, OptMember)
JOBC_NODE(index, Index)
JOBC_NODE(call, Call)
JOBC_NODE(typed_arguments, Call)
JOBC_NODE(constructor, Struct)
JOBC_NODE(argument, Argument)
JOBC_NODE(type_argument, Argument)
JOBC_NODE(constructor_entry, StructEntry)
JOBC_NODE(if_expr, If)
JOBC_NODE(match_expr, Match)
JOBC_NODE(match_arm, MatchArm)
JOBC_NODE(list, List)
JOBC_NODE(element, Element)
JOBC_NODE(list_for, ListFor)
JOBC_NODE(filter, Filter)
JOBC_NODE(map, Map)
JOBC_NODE(map_entry, MapEntry)
JOBC_NODE(map_for, MapFor)
JOBC_NODE(group, Paren)
JOBC_NODE(path, Path)
JOBC_NODE(module_source, Path)
JOBC_NODE(type, Type)
JOBC_NODE(declared_type, Type)
JOBC_NODE(type_arguments, TypeArguments)
JOBC_NODE(refinement, Refinement)
JOBC_NODE(label, Label)
JOBC_NODE(field, Field)
JOBC_NODE(parameter, Field)
JOBC_NODE(attr, Attr)
JOBC_NODE(labelled_attr, Attr)
JOBC_NODE(flag, Attr)
JOBC_NODE(import, Import)
JOBC_NODE(let, Let)
JOBC_NODE(fn, Fn)
JOBC_NODE(secret, Secret)
JOBC_NODE(enum_declaration, Enum)
JOBC_NODE(enum_case, Case)
JOBC_NODE(module, Module)
JOBC_NODE(alias, Alias)
JOBC_NODE(require, Require)
JOBC_NODE(for_item, For)
JOBC_NODE(for_key, ForKey)
JOBC_NODE(for_max, ForMax)
JOBC_NODE(misspelt_key, ForKey)
JOBC_NODE(late_key, ForKey)
JOBC_NODE(misspelt_max, ForMax)
JOBC_NODE(block, Block)
JOBC_NODE(arm, Arm)
JOBC_NODE(file, File)
#undef JOBC_NODE
template <>
inline constexpr bool kFolded<g::expr> = true;
template <>
inline constexpr bool kFolded<g::postfix> = true;
template <>
inline constexpr bool kFolded<g::element> = true;

/// Leaves and strings end where the input stands; other nodes end with their last token.
constexpr bool EndsHere(NodeKind kind) {
  return kind < NodeKind::String || kind == NodeKind::String || kind == NodeKind::Heredoc || kind == NodeKind::Interpolation;
}

template <typename Rule>
struct TreeControl {
  static constexpr bool enable = false;

  template <typename ParseInput>
  [[noreturn]] static void raise(const ParseInput& in, ParserState& st) {
    static_assert(g::cannot_fail<Rule> || !g::expected<Rule>.text.empty(), "this rule has no text in grammar/expected.h");
    st.Fail(in.current(), g::expected<Rule>.text, g::expected<Rule>.kind);
  }

  template <p::apply_mode A, p::rewind_mode M, template <typename...> class Action, template <typename...> class Control,
            typename ParseInput>
  [[nodiscard]] static bool match(ParseInput& in, ParserState& st) {
    // Lookaheads (`at`, `not_at`) run without actions: they leave no nodes.
    if constexpr (kNode<Rule> == NodeKind::None || A == p::apply_mode::nothing) {
      return p::match<Rule, A, M, Action, Control>(in, st);
    } else {
      const char* begin = in.current();
      const ParserState::Mark mark = st.Begin();
      if (!p::match<Rule, A, M, Action, Control>(in, st)) {
        st.Undo(mark);
        return false;
      }
      if (kFolded<Rule> && st.RootsSince(mark) == 1) return true;
      st.Finish(mark, kNode<Rule>, st.Offset(begin), EndsHere(kNode<Rule>) ? st.Offset(in.current()) : st.last_end());
      return true;
    }
  }
};

}  // namespace

ParseTree ParseText(SourceId source, const SourceManager& sources, Diagnostics& diags) {
  std::string_view text = sources[source].text;
  if (text.size() > kMaxSourceBytes) {
    diags.Emit({source, 0, 0}, diag::SourceTooLarge, kMaxSourceBytes >> 20);
    text = {};
  }
  ParserState state(source, text, diags);
  text = state.text();
  p::memory_input<p::tracking_mode::lazy, p::eol::lf_crlf, const char*> in(text.data(), text.data() + text.size(), "");
  const bool parsed = p::parse<g::file, p::nothing, TreeControl>(in, state);
  JOBC_CHECK(parsed);  // `file` takes any text: what is no item is skipped by recoverable_item
  return state.TakeTree();
}

}  // namespace jobc
