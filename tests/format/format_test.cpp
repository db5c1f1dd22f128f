// The style, rule by rule: what docs/format.md says, with a text before and after.
#include <gtest/gtest.h>

#include <string>

#include "compiler/format/format.h"

namespace jobc {
namespace {

std::string Fmt(const std::string& text) {
  SourceManager sources;
  Diagnostics diags;
  return Format(sources.Add("test.job", text), sources, diags).value_or("a syntax error");
}
/// `text` is written in the style already.
void ExpectKept(const std::string& text) { EXPECT_EQ(Fmt(text), text); }

TEST(Format, PutsEachItemOnItsLineAndBlanksAroundSigns) {
  EXPECT_EQ(Fmt("edition=1;params{a:Int( 1 .. 64 )=8\nb :List < File >?}"),
            "edition = 1\nparams {\n  a: Int(1..64) = 8\n  b: List<File>?\n}\n");
  EXPECT_EQ(Fmt("fn f( a:T,b : U )->V=a+b*-c[ 0 ].d ?? ! e\n"), "fn f(a: T, b: U) -> V = a + b * -c[0].d ?? !e\n");
  EXPECT_EQ(Fmt("import \"./a.job\"  as a module q=a{x=1,}\n"), "import \"./a.job\" as a\nmodule q = a { x = 1 }\n");
  EXPECT_EQ(Fmt("for k , v in m key k max 3 * 4"), "for k, v in m key k max 3 * 4\n");
}

TEST(Format, KeepsABlockOnOneLineWhereItWasAndFits) {
  ExpectKept("job a { run = [\"x\"], output { b: File = \"b\" } }\n");
  EXPECT_EQ(Fmt("pool gpu {slots=2;}"), "pool gpu { slots = 2 }\n");
  EXPECT_EQ(Fmt("pool gpu {\n slots = 2 }"), "pool gpu {\n  slots = 2\n}\n");
  EXPECT_EQ(Fmt("enum Mode {\nfull, incremental }"), "enum Mode {\n  full\n  incremental\n}\n");
  EXPECT_EQ(Fmt("profile local { }"), "profile local {}\n");
}

TEST(Format, BreaksABlockThatIsTooLong) {
  EXPECT_EQ(Fmt("job a {\nretry { max_attempts = 3, backoff = exponential(5s, factor = 2.0, max = 2m, jitter = full), on = [preempted, network] }\n}"),
            "job a {\n"
            "  retry {\n"
            "    max_attempts = 3\n"
            "    backoff = exponential(5s, factor = 2.0, max = 2m, jitter = full)\n"
            "    on = [preempted, network]\n"
            "  }\n"
            "}\n");
}

TEST(Format, FillsALineUpToTheWidthAndNotBeyond) {
  const std::string exact = "run = [\"" + std::string(40, 'x') + "\", \"" + std::string(kFormatWidth - 54, 'y') + "\"]\n";
  ASSERT_EQ(exact.size(), kFormatWidth + 1u);
  ExpectKept(exact);
  EXPECT_EQ(Fmt("run = [\"" + std::string(40, 'x') + "\", \"" + std::string(kFormatWidth - 53, 'y') + "\"]\n"),
            "run = [\n  \"" + std::string(40, 'x') + "\",\n  \"" + std::string(kFormatWidth - 53, 'y') + "\",\n]\n");
}

TEST(Format, CountsColumnsAndNotBytes) {
  std::string wide;  // two columns and three bytes each
  for (int i = 0; i < (kFormatWidth - 14) / 2; ++i) wide += "漢";
  ExpectKept("run = [\"" + wide + "\", a]\n");
  EXPECT_EQ(Fmt("run = [\"" + wide + "\", abc]\n"), "run = [\n  \"" + wide + "\",\n  abc,\n]\n");
}

TEST(Format, PutsOneElementOnALineWhereTheAuthorBeganToOrAllDoNotFit) {
  ExpectKept("run = [\n  \"a\",\n  \"b\",\n]\n");
  EXPECT_EQ(Fmt("run = [\"a\",\n  \"b\"]\n"), "run = [\"a\", \"b\"]\n");
  EXPECT_EQ(Fmt("x = { a = 1,\n b = [ ], [c]=d, }"), "x = { a = 1, b = [], [c] = d }\n");
  EXPECT_EQ(Fmt("x = {\n a = 1, b = 2 }"), "x = {\n  a = 1,\n  b = 2,\n}\n");
}

TEST(Format, BreaksLongConditionsBeforeTheirWeakestOperators) {
  EXPECT_EQ(Fmt("when = first_job.ok && second_job.some_output + 1 > params.least_number_of_things || third_job.attempts == 1\n"),
            "when = first_job.ok && second_job.some_output + 1 > params.least_number_of_things\n"
            "    || third_job.attempts == 1\n");
  EXPECT_EQ(Fmt("check q {\n require first_job.ok && second_job.some_output + 1 > params.least_number_of_things else \"something is wrong here\"\n}"),
            "check q {\n"
            "  require first_job.ok && second_job.some_output + 1 > params.least_number_of_things\n"
            "    else \"something is wrong here\"\n"
            "}\n");
  EXPECT_EQ(Fmt("x = if a_condition_that_is_long_enough then \"the first of the values\" else if b_condition then \"the second value\" else c\n"),
            "x = if a_condition_that_is_long_enough\n"
            "    then \"the first of the values\"\n"
            "    else if b_condition\n"
            "    then \"the second value\"\n"
            "    else c\n");
}

TEST(Format, LetsTheOnlyArgumentBreakInPlaceOfTheCall) {
  EXPECT_EQ(Fmt("x = sum([for a_long_name in analyse[*] if a_long_name.counts.errors > params.alarm_threshold : a_long_name.key])\n"),
            "x = sum([\n"
            "  for a_long_name in analyse[*]\n"
            "  if a_long_name.counts.errors > params.alarm_threshold\n"
            "  : a_long_name.key\n"
            "])\n");
}

TEST(Format, WritesTheArmsOfAMatchOnALineEach) {
  ExpectKept("priority = match a.mood { Mood.good => 0, Mood.fair => 5, _ => 10 }\n");
  EXPECT_EQ(Fmt("p = match m {\n Mood.good=>0, _=>10}"), "p = match m {\n  Mood.good => 0,\n  _ => 10,\n}\n");
}

TEST(Format, NeverChangesHowAValueIsWritten) {
  ExpectKept("a = [1_000, 1e6, 0.50, 1.5h, 90s, 4096MiB, \"\\u{41}~{ x+y }\", re\"\\d+\\\"\"]\n");
  ExpectKept("b = (1)\n");
}

TEST(Format, KeepsOneBlankLineAndInventsNone) {
  EXPECT_EQ(Fmt("\n\nedition = 1\n\n\n\nlet a = 1\nlet b = 2\njob c {\n\n\n  x = 1\n\n  \n  y = 2\n\n}\n\n\n"),
            "edition = 1\n\nlet a = 1\nlet b = 2\njob c {\n  x = 1\n\n  y = 2\n}\n");
}

TEST(Format, KeepsCommentsWhereTheyStand) {
  ExpectKept(
      "# At the top.\n"
      "\n"
      "## Of the job.\n"
      "job a {  # behind the bracket\n"
      "  # before an item\n"
      "  x = 1  # behind it\n"
      "\n"
      "  # on its own\n"
      "\n"
      "  y = [\n"
      "    1,  # one\n"
      "    # between\n"
      "    2,\n"
      "    # at the end\n"
      "  ]\n"
      "  # last\n"
      "}  # behind all\n"
      "# The end.\n");
  EXPECT_EQ(Fmt("# only this"), "# only this\n");
  EXPECT_EQ(Fmt("job a {\n# nothing yet\n}"), "job a {\n  # nothing yet\n}\n");
  EXPECT_EQ(Fmt("x = [1 # one\n, 2]"), "x = [\n  1,  # one\n  2,\n]\n");
}

TEST(Format, KeepsCommentsAtOddPlaces) {
  EXPECT_EQ(Fmt("x # of x\n= # of the value\n1"), "x      # of x\n    =  # of the value\n    1\n");
  EXPECT_EQ(Fmt("a = 1 ## no doc comment of b\n, b = 2"), "a = 1  ## no doc comment of b\n    ,\nb = 2\n");
}

TEST(Format, KeepsCommentsAlignedThatWere) {
  ExpectKept(
      "job a {\n"
      "  run = [\"x\"]        # set off\n"
      "  output {\n"
      "    b: File = \"b\"    # one\n"
      "    c: Int           # two\n"
      "  }\n"
      "}\n");
  EXPECT_EQ(Fmt("a=1         # one\nbcd=[ 1,2 ] # two\n"), "a = 1         # one\nbcd = [1, 2]  # two\n");
  EXPECT_EQ(Fmt("a = 1  # one\nbc = 2# two\n"), "a = 1  # one\nbc = 2  # two\n");
  EXPECT_EQ(Fmt("a   =  1 # one\nb = 1    # two\n"), "a = 1    # one\nb = 1    # two\n");
}

TEST(Format, KeepsArrowsAndBracesAlignedThatWere) {
  ExpectKept("errors {\n  exit(137)    => oom\n  exit(64..78) => invalid_input\n}\n");
  ExpectKept("retry {\n  on oom       { retries = 3 }\n  on preempted { retries = 5 }\n}\n");
  EXPECT_EQ(Fmt("errors {\n  exit( 137)  => oom\n  exit(64..78)=> invalid_input\n}\n"),
            "errors {\n  exit(137)    => oom\n  exit(64..78) => invalid_input\n}\n");
  EXPECT_EQ(Fmt("errors {\n  exit(1)   => oom\n}\n"), "errors {\n  exit(1) => oom\n}\n");
}

TEST(Format, IndentsHeredocsWithTheirItemAndKeepsTheirText) {
  EXPECT_EQ(Fmt("job a {\nscript = <<~SH   \n\techo 1\n\n\t  indented  \n\t\n SH\n}\n"),
            "job a {\n  script = <<~SH\n    echo 1\n\n      indented  \n\n  SH\n}\n");
  ExpectKept("x = <<~TXT\n  ~~{a} ~{ b +c }\nTXT\n");
  EXPECT_EQ(Fmt("x = f(<<~TXT\na\nTXT\n)"), "x = f(<<~TXT\n  a\nTXT)\n");
}

TEST(Format, KeepsSeparatorsThatTheLanguageNeeds) {
  EXPECT_EQ(Fmt("mock a {\nskip, x = 1\n}"), "mock a {\n  skip,\n  x = 1\n}\n");
  EXPECT_EQ(Fmt("a = b;\nin = c"), "a = b,\nin = c\n");
}

TEST(Format, MakesLineEndsPlain) {
  EXPECT_EQ(Fmt("\xEF\xBB\xBF" "edition = 1\r\nx = <<~TXT\r\n  a\r\nTXT"), "edition = 1\nx = <<~TXT\n  a\nTXT\n");
  EXPECT_EQ(Fmt(""), "");
  EXPECT_EQ(Fmt(" \n\n"), "");
}

TEST(Format, LeavesATextWithSyntaxErrorsAlone) {
  SourceManager sources;
  Diagnostics diags;
  EXPECT_EQ(Format(sources.Add("test.job", "a = \nb = (\n"), sources, diags), std::nullopt);
  EXPECT_TRUE(diags.has_errors());
}

TEST(SameProgram, SeesEveryDifferenceButTheFormOfTheText) {
  EXPECT_TRUE(SameProgram("a = 1 # c", "a=1\n# c\n"));
  EXPECT_FALSE(SameProgram("a = 1", "a = 2"));
  EXPECT_FALSE(SameProgram("a = 1 # c", "a = 1"));
  EXPECT_FALSE(SameProgram("a = 1 # c", "a = 1 # d"));
  EXPECT_FALSE(SameProgram("x = <<~TXT\n a\nTXT", "x = <<~TXT\n a\n\n b\nTXT"));
  EXPECT_FALSE(SameProgram("## doc\na = 1", "a = 1 ## doc"));
  EXPECT_FALSE(SameProgram("a = ", "a = "));
}

}  // namespace
}  // namespace jobc
