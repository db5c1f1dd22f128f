// Lowering, context by context: the exact text, and the code where there is no place for a value.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "compiler/script/script.h"
#include "tests/script/template.h"

namespace jobc::script {
namespace {

using ::testing::HasSubstr;

/// The lowered text without the prelude, or the codes of the findings: `E401 W491`.
std::string Lowering(Interpreter interpreter, std::string_view text) {
  Template source = Parse(interpreter, text);
  Lowered lowered = Lower(source);
  std::string codes;
  for (const Finding& finding : lowered.findings) {
    codes += (codes.empty() ? "" : " ") + std::string(Name(finding.code));
    EXPECT_FALSE(finding.message.empty());
    EXPECT_FALSE(finding.label.empty());
    EXPECT_FALSE(finding.help.empty());
    EXPECT_LT(finding.hole, source.holes.size());
    EXPECT_EQ(finding.offset, source.holes[finding.hole].offset);
  }
  if (lowered.has_errors()) return codes;
  size_t begin = 0;
  for (const Anchor& anchor : lowered.positions) {
    if (anchor.copied) {
      begin = anchor.lowered;
      break;
    }
  }
  // A text that begins with a hole: its reference is what follows the prelude's end.
  if (!source.holes.empty() && source.holes[0].offset == 0) {
    size_t prelude_end = lowered.text.find(IsShell(interpreter) ? "unset jobc_; " : interpreter == Interpreter::R ? ")); " : "\n");
    begin = lowered.text.find(prelude_end == std::string::npos ? "" : lowered.text.substr(prelude_end));
    begin += IsShell(interpreter) ? 13 : interpreter == Interpreter::R ? 4 : 1;
  }
  return lowered.text.substr(begin) + (codes.empty() ? "" : "  # " + codes);
}

struct Case {
  const char* script;
  const char* expected;
};

// `V` stands for JOBC_V0 in what is expected, `W` for JOBC_V1.
std::string Full(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    bool alone = (i == 0 || (!isalnum(text[i - 1]) && text[i - 1] != '_')) && (i + 1 == text.size() || (!isalnum(text[i + 1]) && text[i + 1] != '_'));
    if (!alone || i == 0 || text[i - 1] != '{') continue;
    if (text[i] == 'V') text.replace(i, 1, "JOBC_V0");
    if (text[i] == 'W') text.replace(i, 1, "JOBC_V1");
  }
  return text;
}

void Check(Interpreter interpreter, std::initializer_list<Case> cases) {
  for (const Case& c : cases) EXPECT_EQ(Lowering(interpreter, c.script), Full(c.expected)) << c.script;
}

constexpr Case kBothShells[] = {
    // Words.
    {"echo ~{x}", "echo \"${V}\""},
    {"echo a~{x}b", "echo a\"${V}\"b"},
    {"echo \"a ~{x} b\"", "echo \"a ${V} b\""},
    {"echo 'a ~{x} b'", "echo 'a '\"${V}\"' b'"},
    {"echo '~{x}'", "echo ''\"${V}\"''"},
    {"echo ~{x}~{y}", "echo \"${V}\"\"${W}\""},
    {"echo ~{x} ~{x}", "echo \"${V}\" \"${V}\""},
    {"echo --in=~{x} -o~{y}", "echo --in=\"${V}\" -o\"${W}\""},
    {"echo *~{x}* [~{y}]", "echo *\"${V}\"* [\"${W}\"]"},
    {"echo \\\n  ~{x}", "echo \\\n  \"${V}\""},
    {"echo ~{x}#~{y}", "echo \"${V}\"#\"${W}\""},
    {"echo $a~{x} $$~{y}", "echo $a\"${V}\" $$\"${W}\""},
    {"echo {a,~{x}}", "echo {a,\"${V}\"}"},
    {"echo ~{j} ~{f}", "echo \"${V}\" \"${W}\""},
    // Assignments, redirections, loops.
    {"x=~{x}", "x=\"${V}\""},
    {"x=a:~{x} y=~{y} cmd", "x=a:\"${V}\" y=\"${W}\" cmd"},
    {"export A=~{x}", "export A=\"${V}\""},
    {"cmd <~{x} >~{y}", "cmd <\"${V}\" >\"${W}\""},
    {"cmd 2>~{x} >&2", "cmd 2>\"${V}\" >&2"},
    {"2>~{x} cmd ~{y}", "2>\"${V}\" cmd \"${W}\""},
    {"for f in ~{x} b; do echo ~{y}; done", "for f in \"${V}\" b; do echo \"${W}\"; done"},
    {"while read -r l; do echo ~{x}; done <~{y}", "while read -r l; do echo \"${V}\"; done <\"${W}\""},
    {"if [ ~{x} = a ]; then echo ~{y}; fi", "if [ \"${V}\" = a ]; then echo \"${W}\"; fi"},
    {"case ~{x} in a|b) echo ~{y};; *) :;; esac", "case \"${V}\" in a|b) echo \"${W}\";; *) :;; esac"},
    {"case a in \"~{x}\") echo ~{y};; esac", "case a in \"${V}\") echo \"${W}\";; esac"},
    {"f() { echo ~{x}; }; f ~{y}", "f() { echo \"${V}\"; }; f \"${W}\""},
    {"( cd ~{x} && ls ) | tee ~{y} & wait", "( cd \"${V}\" && ls ) | tee \"${W}\" & wait"},
    // Substitutions.
    {"echo $(cat ~{x})", "echo $(cat \"${V}\")"},
    {"echo \"$(cat \"~{x}\" ~{y})\"", "echo \"$(cat \"${V}\" \"${W}\")\""},
    {"echo `cat ~{x}`", "echo `cat \"${V}\"`"},
    {"echo \"`cat ~{x}`\"", "echo \"`cat \"${V}\"`\""},
    {"echo `echo \\`cat ~{x}\\``", "echo `echo \\`cat \"${V}\"\\``"},
    {"echo ${a:-~{x}} \"${a:-~{y}}\"", "echo ${a:-\"${V}\"} \"${a:-${W}}\""},
    {"echo ${a#~{x}} \"${a%~{y}}\"", "echo ${a#\"${V}\"} \"${a%\"${W}\"}\""},
    {"echo $((~{n} + 1)) $((1-~{n}))", "echo $((${V} + 1)) $((1-(${V})))"},
    {"echo \"$(( $(wc -l < ~{x}) * 2 ))\"", "echo \"$(( $(wc -l < \"${V}\") * 2 ))\""},
    // Here-documents.
    {"cat <<EOF\na ~{x} '~{y}' \"\nEOF\n", "cat <<EOF\na ${V} '${W}' \"\nEOF\n"},
    {"cat <<-EOF\n\ta ~{x}\n\tEOF\necho ~{y}", "cat <<-EOF\n\ta ${V}\n\tEOF\necho \"${W}\""},
    {"cat <<A <<B\n~{x}\nA\n~{y}\nB\n", "cat <<A <<B\n${V}\nA\n${W}\nB\n"},
    {"cat <<EOF | tr a b\n$(echo ~{x}) ${q:-~{y}}\nEOF\n", "cat <<EOF | tr a b\n$(echo \"${V}\") ${q:-${W}}\nEOF\n"},
    {"cat <<'EOF'\n$(\"'\nEOF\necho ~{x}", "cat <<'EOF'\n$(\"'\nEOF\necho \"${V}\""},
    {"x=$(cat <<EOF\n~{x}\nEOF\n)\necho ~{y}", "x=$(cat <<EOF\n${V}\nEOF\n)\necho \"${W}\""},
    {"cat <<EOF\nnot the end\\\nEOF\n~{x}\nEOF\n", "cat <<EOF\nnot the end\\\nEOF\n${V}\nEOF\n"},
    // An optional, spliced: one word or none.
    {"cmd ~{o...} b", "cmd ${V+\"${V}\"} b"},
    // The idioms that E403's help shows.
    {"sh -c 'echo \"$1\"' sh ~{x}", "sh -c 'echo \"$1\"' sh \"${V}\""},
    {"bash -euo pipefail -c 'echo \"$1\"' _ ~{x}", "bash -euo pipefail -c 'echo \"$1\"' _ \"${V}\""},
    {"bash ./s.sh -c ~{x}", "bash ./s.sh -c \"${V}\""},
    {"env A=~{x} cmd ~{y}", "env A=\"${V}\" cmd \"${W}\""},
    {"timeout ~{x} cmd ~{y}", "timeout \"${V}\" cmd \"${W}\""},
    {"xargs -P ~{n} -n 1 cmd ~{y}", "xargs -P \"${V}\" -n 1 cmd \"${W}\""},
    {"command -v ~{x}", "command -v \"${V}\""},
    {"ssh -p 22 ~{x} uptime", "ssh -p 22 \"${V}\" uptime"},
    {"awk -v a=~{x} '{ print a }' ~{y}", "awk -v a=\"${V}\" '{ print a }' \"${W}\""},
    {"jq --arg v ~{x} '.a = $v' ~{y}", "jq --arg v \"${V}\" '.a = $v' \"${W}\""},
    {"sed -n 5p '~{x}'", "sed -n 5p ''\"${V}\"''"},
    {"python3 tool.py '~{x}'", "python3 tool.py ''\"${V}\"''"},
    {"read -r part~{n}", "read -r part\"${V}\""},
    {"printf -v \"v~{n}\" a", "printf -v \"v${V}\" a"},
    {"export v~{n}=~{n}", "export v\"${V}\"=\"${V}\""},
    {"[ -v a~{n} ]", "[ -v a\"${V}\" ]"},
    {"read -r -p ~{x} line", "read -r -p \"${V}\" line"},
    {"echo ok # it's fine\necho ~{x}", "echo ok # it's fine\necho \"${V}\""},
    // The command word.
    {"~{x} --help", "E401"},
    {"\"~{x}\"", "E401"},
    {"~{x}/bin/tool", "E401"},
    {"a | ~{x}", "E401"},
    {"a; ~{x}", "E401"},
    {"a && ~{x} || ~{y}", "E401 E401"},
    {"a & ~{x}", "E401"},
    {"! ~{x}", "E401"},
    {"if ~{x}; then ~{y}; fi", "E401 E401"},
    {"while a; do ~{x}; done", "E401"},
    {"( ~{x} )", "E401"},
    {"{ ~{x}; }", "E401"},
    {"A=1 ~{x}", "E401"},
    {">out ~{x}", "E401"},
    {"echo $(~{x})", "E401"},
    {"echo `~{x}`", "E401"},
    {"env -i A=1 ~{x}", "E401"},
    {"exec ~{x}", "E401"},
    {"nice -n 5 timeout -k 1 10 ~{x}", "E401"},
    {"sudo -u me ~{x}", "E401"},
    {"xargs -n 1 ~{x}", "E401"},
    {"command ~{x}", "E401"},
    {"time -p ~{x}", "E401"},
    {"case a in a) ~{x};; esac", "E401"},
    {"f() { ~{x}; }", "E401"},
    {"${a:-~{x}}", "E401"},
    {"\\\n~{x}", "E401"},
    // Places that take no value.
    {"cat <<'EOF'\n~{x}\nEOF\n", "E403"},
    {"cat <<\\EOF\n~{x}\nEOF\n", "E403"},
    {"echo # ~{x}", "E403"},
    {"# ~{x}\necho", "E403"},
    {"cat <<~{x}\n", "E403"},
    {"echo $((~{x} + 1))", "E403"},
    {"echo $(( ${a:-~{x}} ))", "E403"},
    {"echo $(( \"~{x}\" ))", "E403"},
    {"eval echo ~{x}", "E403"},
    {"eval \"echo '~{x}'\"", "E403"},
    {"trap 'rm ~{x}' EXIT", "E403"},
    {". ~{x}", "E403"},
    {"sh -c 'echo ~{x}'", "E403"},
    {"sh -c \"echo ~{x}\"", "E403"},
    {"bash -lc \"echo ~{x}\"", "E403"},
    {"env A=1 bash -c \"echo ~{x}\"", "E403"},
    {"find . -exec sh -c 'echo ~{x}' \\;", "E403"},
    {"docker run image /bin/sh -ec 'echo ~{x}'", "E403"},
    {"ssh host echo ~{x}", "E403"},
    {"ssh -i key host \"ls ~{x}\"", "E403"},
    {"su -c \"ls ~{x}\" me", "E403"},
    {"su me -c 'ls ~{x}'", "E403"},
    {"bash <<EOF\necho ~{x}\nEOF\n", "E403"},
    {"ssh host <<EOF\necho ~{x}\nEOF\n", "E403"},
    {"cat <<EOF | bash\necho ~{x}\nEOF\n", "E403"},
    {"cat <<EOF |\nbash\necho ~{x}\nEOF\n", "E403"},
    {"sudo -u me bash -s a <<EOF\necho ~{x}\nEOF\n", "E403"},
    {"case a in ~{x}) :;; esac", "E403"},
    {"case a in b|*~{x}) :;; esac", "E403"},
    {"export ~{x}=1", "E403"},
    {"export ~{x}", "E403"},
    {"unset ~{x}", "E403"},
    {"read -r ~{x}", "E403"},
    {"alias ll=~{x}", "E403"},
    {"for ~{x} in a; do :; done", "E403"},
    {"echo ${~{x}}", "E403"},
    {"echo \\~{x}", "E403"},
    {"echo \"\\~{x}\"", "E403"},
    {"echo $~{x}", "E403"},
    {"echo \"$~{x}\"", "E403"},
    {"cat <<EOF\n$~{x} \\~{y}\nEOF\n", "E403 E403"},
    {"echo $'a ~{x}'", "E403"},
    {"[ -v ~{x} ]", "E403"},
    {"printf -v ~{x} a", "E403"},
    {"printf -v~{x} a", "E403"},
    {"env -S ~{x}", "E403"},
    {"echo 'open ~{x}", "E403"},
    {"echo \"open ~{x}", "E403"},
    {"echo $(open ~{x}", "E403"},
    {"cat <<EOF\n~{x}\n", "E403"},
    {"echo ) ~{x}", "E403"},
    {"echo ${a ~{x}}", "E403"},
    // Kinds without words.
    {"echo ~{l}", "E404"},
    {"echo \"~{l}\"", "E404"},
    {"echo ~{m} ~{s}", "E404 E404"},
    {"echo \"~{o...}\"", "E404"},
    {"echo a~{o...}", "E404"},
    {"a=~{o...}", "E404"},
    {"echo > ~{o...}", "E404"},
    {"cat <<EOF\n~{o...}\nEOF\n", "E404"},
    // Another language.
    {"awk '{ print ~{x} }' f", "awk '{ print '\"${V}\"' }' f  # W491"},
    {"awk \"{ print ~{x} }\" f", "awk \"{ print ${V} }\" f  # W491"},
    {"awk -F , -v a=1 '/~{x}/' f", "awk -F , -v a=1 '/'\"${V}\"'/' f  # W491"},
    {"sed 's/a/~{x}/' f", "sed 's/a/'\"${V}\"'/' f  # W491"},
    {"sed -n -e 's/a/~{x}/p' f", "sed -n -e 's/a/'\"${V}\"'/p' f  # W491"},
    {"jq -r '.~{x}' f", "jq -r '.'\"${V}\"'' f  # W491"},
    {"perl -lane 'print ~{x}' f", "perl -lane 'print '\"${V}\"'' f  # W491"},
    {"nice awk '~{x}' f", "nice awk ''\"${V}\"'' f  # W491"},
    {"python3 -c 'print(\"~{x}\")'", "python3 -c 'print(\"'\"${V}\"'\")'  # W491"},
    {"python3 - <<EOF\nprint('~{x}')\nEOF\n", "python3 - <<EOF\nprint('${V}')\nEOF\n  # W491"},
};

TEST(ShellLowering, WritesTheReferenceThatIsRightForItsPlaceInSh) {
  for (const Case& c : kBothShells) EXPECT_EQ(Lowering(Interpreter::Sh, c.script), Full(c.expected)) << c.script;
}

TEST(ShellLowering, WritesTheReferenceThatIsRightForItsPlaceInBash) {
  for (const Case& c : kBothShells) EXPECT_EQ(Lowering(Interpreter::Bash, c.script), Full(c.expected)) << c.script;
}

TEST(ShellLowering, KnowsWhatBashHasBesides) {
  Check(Interpreter::Bash,
        {{"cmd ~{l...} x", "cmd ${V[@]+\"${V[@]}\"} x"},
         {"a=(~{l...} ~{y})", "a=(${V[@]+\"${V[@]}\"} \"${W}\")"},
         {"a+=(\n  ~{x} # note\n)\necho ~{y}", "a+=(\n  \"${V}\" # note\n)\necho \"${W}\""},
         {"declare -a a=(~{x})", "declare -a a=(\"${V}\")"},
         {"for f in ~{l...}; do :; done", "for f in ${V[@]+\"${V[@]}\"}; do :; done"},
         {"set -- ~{l...}", "set -- ${V[@]+\"${V[@]}\"}"},
         {"diff <(sort ~{x}) >(cat > ~{y})", "diff <(sort \"${V}\") >(cat > \"${W}\")"},
         {"cmd --x=<(sort ~{x})", "cmd --x=<(sort \"${V}\")"},
         {"done < <(sort ~{x})", "done < <(sort \"${V}\")"},
         {"cat <<< ~{x}", "cat <<< \"${V}\""},
         {"cat <<<\"a ~{x}\"", "cat <<<\"a ${V}\""},
         {"cmd &> ~{x}", "cmd &> \"${V}\""},
         {"[[ -f ~{x} && ~{y} == a* ]]", "[[ -f \"${V}\" && \"${W}\" == a* ]]"},
         {"[[ a == \"~{x}\" || ( b != '~{y}' ) ]]", "[[ a == \"${V}\" || ( b != ''\"${W}\"'' ) ]]"},
         {"[[ a =~ ^(b|c)$ ]] && echo ~{x}", "[[ a =~ ^(b|c)$ ]] && echo \"${V}\""},
         {"[[ a =~ \"~{x}\"[[:space:]]* ]]", "[[ a =~ \"${V}\"[[:space:]]* ]]"},
         {"[[ ~{n} -gt 3 ]]", "[[ \"${V}\" -gt 3 ]]"},
         {"(( ~{n} > 3 )) && echo ~{y}", "(( ${V} > 3 )) && echo \"${W}\""},
         {"for (( i = 0; i < ~{n}; i++ )); do echo ~{y}; done", "for (( i = 0; i < ${V}; i++ )); do echo \"${W}\"; done"},
         {"let i=~{n}+1", "let i=\"${V}\"+1"},
         {"echo ${a[~{n}]} ${a:~{n}:2}", "echo ${a[${V}]} ${a:${V}:2}"},
         {"a[~{n}]=~{y}", "a[${V}]=\"${W}\""},
         {"local v=~{x}", "local v=\"${V}\""},
         {"declare -r v=~{x}", "declare -r v=\"${V}\""},
         {"declare -i v=~{n}", "declare -i v=\"${V}\""},
         {"function f { echo ~{x}; }", "function f { echo \"${V}\"; }"},
         {"rm -- !(~{x}|b).txt", "rm -- !(\"${V}\"|b).txt"},
         {"cat <<< ~{x} | bash", "E403"},
         {"bash <<< ~{x}", "E403"},
         {"[[ ~{x} -gt 3 ]]", "E403"},
         {"[[ 3 -gt ~{x} ]]", "E403"},
         {"[[ a == ~{x} ]]", "E403"},
         {"[[ a != *~{x}* ]]", "E403"},
         {"[[ a =~ ~{x} ]]", "E403"},
         {"[[ a =~ ^(~{x})$ ]]", "E403"},
         {"[[ -v ~{x} ]]", "E403"},
         {"(( ~{x} > 3 ))", "E403"},
         {"for (( i = 0; i < ~{x}; i++ )); do :; done", "E403"},
         {"let i=~{x}", "E403"},
         {"echo $[ ~{x} ]", "E403"},
         {"echo ${a[~{x}]}", "E403"},
         {"echo ${a:~{x}}", "E403"},
         {"echo ${a/~{x}/b}", "E403"},
         {"echo ${a^~{x}}", "E403"},
         {"a[~{x}]=1", "E403"},
         {"a=([~{x}]=1)", "E403"},
         {"declare ~{x}=1", "E403"},
         {"declare v~{n}=~{x}", "E403"},
         {"declare -a a=~{x}", "E403"},
         {"a=(1 2); declare a=~{x}", "E403"},
         {"f() { local -A m=~{x}; }", "E403"},
         {"declare -i v=~{x}", "E403"},
         {"declare -i v; v=~{x}", "E403"},
         {"declare -n r=~{x}", "E403"},
         {"mapfile -t ~{x}", "E403"},
         {"mapfile -C ~{x} -c 1 a", "E403"},
         {"source ~{x}", "E403"},
         {"echo $\"a ~{x}\"", "E403"},
         {"compgen -W ~{x}", "E403"},
         {"((echo ~{x}) | cat)", "E403"},
         {"echo \"~{l...}\"", "E404"},
         {"echo a~{l...}", "E404"},
         {"a=~{l...}", "E404"},
         {"~{l...}", "E401"},
         {"[[ ~{l...} ]]", "E404"}});
}

TEST(ShellLowering, RefusesAListInSh) {
  Check(Interpreter::Sh, {{"cmd ~{l...}", "E404"}, {"((echo ~{x}) | cat)", "((echo \"${V}\") | cat)"}});
}

TEST(ShellLowering, LowersTheSampleOfTheLanguagePage) {
  EXPECT_EQ(Lowering(Interpreter::Bash,
                     "bwa mem -t ~{n} ~{f1} ~{f2} ~{o...} | samtools sort -o ~{f3} -\n"
                     "samtools flagstat -O json ~{f3} > flagstat.json\n"),
            "bwa mem -t \"${JOBC_V0}\" \"${JOBC_V1}\" \"${JOBC_V2}\" ${JOBC_V3+\"${JOBC_V3}\"} | samtools sort -o \"${JOBC_V4}\" -\n"
            "samtools flagstat -O json \"${JOBC_V4}\" > flagstat.json\n");
}

TEST(ShellLowering, OnlyTheCommandThatIsNotUnderstoodIsRefused) {
  Lowered lowered = Lower(Parse(Interpreter::Bash, "echo ~{a}\necho ~{b} 'open\n~{c}"));
  ASSERT_EQ(lowered.findings.size(), 2u);
  EXPECT_EQ(lowered.findings[0].hole, 1u);
  EXPECT_EQ(lowered.findings[1].hole, 2u);
  EXPECT_THAT(lowered.findings[0].label, HasSubstr("without its end"));
}

TEST(ShellLowering, HelpShowsTheExpressionAsWritten) {
  Lowered lowered = Lower(Parse(Interpreter::Bash, "bash -c \"echo ~{user}\""));
  ASSERT_EQ(lowered.findings.size(), 1u);
  EXPECT_THAT(lowered.findings[0].help, HasSubstr("sh -c '… \"$1\" …' sh ~{user}"));
  lowered = Lower(Parse(Interpreter::Python, "print('a ~{user}')"));
  ASSERT_EQ(lowered.findings.size(), 1u);
  EXPECT_THAT(lowered.findings[0].help, HasSubstr("f\"{~{user}}\""));
}

TEST(PythonLowering, TakesAValueWhereAnExpressionMayStand) {
  Check(Interpreter::Python,
        {{"print(~{x})", "print(_job[0])"},
         {"x = ~{x}", "x = _job[0]"},
         {"x = [~{x}, *~{l}, ~{m}[\"a\"]]", "x = [_job[0], *_job[1], _job[2][\"a\"]]"},
         {"for i in ~{l}: pass", "for i in _job[0]: pass"},
         {"f(a=~{x}, b=~{x} == 1)", "f(a=_job[0], b=_job[0] == 1)"},
         {"if ~{n} <= 3 and -~{n} != 2: pass", "if _job[0] <= 3 and -_job[0] != 2: pass"},
         {"d = {~{x}: 1, 'b': ~{y}}", "d = {_job[0]: 1, 'b': _job[1]}"},
         {"p(~{f}).write_text(\"\\n\".join(r))", "p(_job[0]).write_text(\"\\n\".join(r))"},
         {"r = [f\"{~{i}},{k}\" for k in range(10)]   # it's", "r = [f\"{_job[0]},{k}\" for k in range(10)]   # it's"},
         {"f'{~{x}!r:>{~{n}}} {a[\"b\"]}'", "f'{_job[0]!r:>{_job[1]}} {a[\"b\"]}'"},
         {"f\"\"\"{\n~{x}} \"{~{y}}\" \"\"\"", "f\"\"\"{\n_job[0]} \"{_job[1]}\" \"\"\""},
         {"rf'\\d{~{x}}'", "rf'\\d{_job[0]}'"},
         {"f'{f\"{~{x}}\"}'", "f'{f\"{_job[0]}\"}'"},
         {"f'\\N{BULLET} {~{x}}'", "f'\\N{BULLET} {_job[0]}'"},
         {"a = '\\'' + ~{x}", "a = '\\'' + _job[0]"},
         {"'''it's''' % ~{x}", "'''it's''' % _job[0]"},
         {"r'\\' # ' + '\nprint(~{x})", "r'\\' # ' + '\nprint(_job[0])"},
         {"print('~{x}')", "E403"},
         {"print(\"a ~{x}\")", "E403"},
         {"'''\n~{x}'''", "E403"},
         {"b'~{x}'", "E403"},
         {"f'~{x}'", "E403"},
         {"f'{{~{x}}}'", "E403"},
         {"f'{a:~{x}}'", "E403"},
         {"a~{x}", "E403"},
         {"~{x}~{y}", "E403 E403"},
         {"~{x}'a'", "E403"},
         {"a.~{x}", "E403"},
         {"~{x} = 3", "E403"},
         {"~{x} += 3", "E403"},
         {"~{x} //= 3", "E403"},
         {"f(~{x}=3)", "E403"},
         {"(~{x} := 3)", "E403"},
         {"def ~{x}(): pass", "E403"},
         {"import ~{x}", "E403"},
         {"for ~{x} in y: pass", "E403"},
         {"a = 1 \\~{x}", "E403"},
         {"f(~{l...})", "E404"}});
}

TEST(PythonLowering, KeepsAFutureImportFirst) {
  EXPECT_EQ(Lower(Parse(Interpreter::Python, "\"\"\"doc\"\"\"\nfrom __future__ import (\n  annotations)  # why\nprint(~{x})\n")).text,
            "\"\"\"doc\"\"\"\nfrom __future__ import (\n  annotations)  ; import json as _json, os as _os; _job = "
            "_json.load(open(_os.environ[\"JOBC_VALUES\"], encoding=\"utf-8\"))# why\nprint(_job[0])\n");
  EXPECT_EQ(Lower(Parse(Interpreter::Python, "from __future__ import annotations\nprint(~{x})\n")).line_offset, 0u);
  EXPECT_EQ(Lower(Parse(Interpreter::Python, "print(~{x})\n")).line_offset, 1u);
  EXPECT_EQ(Lower(Parse(Interpreter::Python, "print()\n")).text, "print()\n");
}

TEST(RLowering, TakesAValueWhereAnExpressionMayStand) {
  Check(Interpreter::R,
        {{"print(~{x})", "print(.job[[1]])"},
         {"x <- ~{x}; y = ~{y}", "x <- .job[[1]]; y = .job[[2]]"},
         {"x %in% ~{l}", "x %in% .job[[1]]"},
         {"~{x} == 1 && ~{n} < -1", ".job[[1]] == 1 && .job[[2]] < -1"},
         {"f(a = ~{x}, \"it's\", 'a\\'', r\"(a\" ' )\", r'--[ ]\" ]- ]--')", "f(a = .job[[1]], \"it's\", 'a\\'', r\"(a\" ' )\", r'--[ ]\" ]- ]--')"},
         {"`it's` <- ~{m}$a", "`it's` <- .job[[1]]$a"},
         {"5 %% ~{n} # it's", "5 %% .job[[1]] # it's"},
         {"x %'% ~{x}", "x %'% .job[[1]]"},
         {"y ~ x + ~{n}", "y ~ x + .job[[1]]"},
         {"print(\"~{x}\")", "E403"},
         {"print('~{x}')", "E403"},
         {"print(r\"(~{x})\")", "E403"},
         {"`~{x}`", "E403"},
         {"a~{x}", "E403"},
         {"a$~{x}", "E403"},
         {"a::~{x}", "E403"},
         {"~{x} <- 3", "E403"},
         {"~{x} = 3", "E403"},
         {"3 -> ~{x}", "E403"},
         {"for (i in ~{l}) i", "for (i in .job[[1]]) i"}});
}

TEST(Lowering, TheTextDoesNotDependOnAnythingButTheTemplate) {
  Template source = Parse(Interpreter::Bash, "echo ~{x} ~{l...}\n");
  Lowered lowered = Lower(source);
  EXPECT_EQ(lowered.text, Lower(source).text);
  EXPECT_EQ(lowered.text.find('\n'), lowered.text.size() - 1) << "the prelude shares the first line";
  EXPECT_EQ(lowered.line_offset, 0u);
}

TEST(Lowering, PositionsLeadBackToTheTemplate) {
  for (Interpreter interpreter : {Interpreter::Sh, Interpreter::Bash, Interpreter::Python, Interpreter::R}) {
    Template source = Parse(interpreter, "first(~{x}, 1)\nsecond(a, ~{y})\n");
    if (IsShell(interpreter)) source = Parse(interpreter, "first ~{x} 1\nsecond -a, ~{y}\n");
    Lowered lowered = Lower(source);
    for (std::string_view word : {"first", "second", " 1", "a,"}) {
      EXPECT_EQ(lowered.OriginalOffset(static_cast<uint32_t>(lowered.text.rfind(word))), source.text.find(word)) << word;
    }
    EXPECT_EQ(lowered.OriginalOffset(static_cast<uint32_t>(lowered.text.size())), source.text.size());
  }
}

TEST(Lowering, BindingsSurviveThePlan) {
  Lowered lowered = Lower(Parse(Interpreter::Bash, "echo ~{x} ~{l...} ~{x} ~{o...}"), Part::Prologue);
  Result<Lowered> again = DecodeBindings(Interpreter::Bash, lowered.text, EncodeBindings(lowered));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(EncodeBindings(*again), EncodeBindings(lowered));
  EXPECT_EQ(again->part, Part::Prologue);
  ASSERT_EQ(again->bindings.size(), 4u);
  EXPECT_EQ(again->bindings[2].value, 0u);
  EXPECT_EQ(again->bindings[1].name, "JOBC_P1");
  for (const char* damaged : {"", "[]", "{}", "{\"bindings\":[{}],\"line_offset\":0,\"part\":0}",
                              "{\"bindings\":[],\"line_offset\":7,\"part\":0}"}) {
    EXPECT_FALSE(DecodeBindings(Interpreter::Bash, "", damaged).ok()) << damaged;
  }
}

TEST(Lowering, TagsWithASuffixNameTheSameInterpreter) {
  EXPECT_EQ(InterpreterOfTag("SH"), Interpreter::Sh);
  EXPECT_EQ(InterpreterOfTag("BASH_2"), Interpreter::Bash);
  EXPECT_EQ(InterpreterOfTag("PY_a"), Interpreter::Python);
  EXPECT_EQ(InterpreterOfTag("R"), Interpreter::R);
  EXPECT_EQ(InterpreterOfTag("TXT"), std::nullopt);
  EXPECT_EQ(InterpreterOfTag("SHELL"), std::nullopt);
}

TEST(Lowering, NestingBeyondTheLimitIsRefusedNotFollowed) {
  for (const char* open : {"$(", "\"$(", "${a:-", "$((", "((", "(", "a=(", "case a in a) ", "[[ a == @(", "<(", "if ( "}) {
    std::string deep = "echo ";
    for (int i = 0; i < 20000; ++i) deep += open;
    deep += "~{x}";
    EXPECT_TRUE(Lower(Parse(Interpreter::Bash, deep)).has_errors()) << open;
  }
  std::string fields = "f'";
  for (int i = 0; i < 20000; ++i) fields += "{f'";
  EXPECT_TRUE(Lower(Parse(Interpreter::Python, fields + "{~{x}")).has_errors());
}

TEST(Lowering, RandomTextsNeitherCrashNorHang) {
  static constexpr const char* kPieces[] = {"'", "\"", "`", "$", "(", ")", "((", "))", "{", "}", "[[", "]]", "[", "]", "\\", "\n", " ",
                                            ";", ";;", "&", "|", "<", ">", "<<EOF\n", "EOF\n", "<<-'E'\n", "E\n", "case a in ", "esac",
                                            "for x in ", "do ", "done", "if ", "fi", "a=", "#", "~{x}", "~{n}", "~{l...}", "eval ",
                                            "bash -c ", "f'", "r\"(", "%", "${a:-", "$((", "-eq", "=~", "declare -i ", "awk ", ":", "!"};
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (uint32_t i = random() % 24; i > 0; --i) text += kPieces[random() % std::size(kPieces)];
    auto interpreter = static_cast<Interpreter>(round % 4);
    Template source = Parse(interpreter, text);
    Lowered lowered = Lower(source);
    ASSERT_EQ(lowered.bindings.size(), source.holes.size());
    for (uint32_t i = 0; i < source.holes.size(); ++i) {
      bool found = lowered.text.find(lowered.bindings[i].name) != std::string::npos;
      bool refused = false;
      for (const Finding& f : lowered.findings) refused |= f.hole == i && f.code != Code::W491;
      ASSERT_TRUE(found || refused) << text;
    }
  }
}

TEST(Lowering, ALargeScriptTakesLinearTime) {
  std::string text;
  while (text.size() < (2u << 20)) text += "echo \"$(cat ~{x})\" 'b' ${a:-~{y}} <<E\nq ~{n} `ls`\nE\n";
  EXPECT_FALSE(Lower(Parse(Interpreter::Bash, text)).has_errors());
}

}  // namespace
}  // namespace jobc::script
