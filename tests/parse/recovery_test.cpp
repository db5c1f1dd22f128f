// What is said about faults, where, and that parsing goes on.
#include "tests/parse/parse_fixture.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Recovery, ReportsAllFaultsOfAFile) {
  Parsed parsed(R"(edition = 1
params { x: Int = , y: Int = 5x }
job a {
  run = ["x", "y"
  output { z: Int }
  script = <<~BASH
    echo ~{x + } and ~{y)
    echo ~{z}
  BASH
  image =
  cache = true
  t = "never closed
  u = 1
}
)
let q = 'abc'
job b { foo bar = 1 }
}
let ok = 1
)");
  EXPECT_THAT(parsed.Faults(),
              ElementsAre("2:19 E010 expected a value, found `,`", "2:30 E012 `5x` is neither a number nor a quantity",
                          "5:3 E010 expected `,` or `]`, found `output`",
                          "7:16 E010 expected a value after the operator, found `}`",
                          "7:25 E010 expected `}` at the end of `~{`, found `)`", "10:9 E010 a value is missing here",
                          "12:7 E010 this string is never closed",
                          "15:1 E010 expected an item such as `name = value` or `job name { … }`, found `)`",
                          "16:9 E010 expected a value, found `'`", "17:17 E010 expected `{`, found `=`",
                          "18:1 E010 expected an item such as `name = value` or `job name { … }`, found `}`"));
  // What is sound is still there.
  EXPECT_THAT(parsed.Ast(), HasSubstr("2:21 field y: Int = <error>"));
  EXPECT_THAT(parsed.Ast(), HasSubstr("5:12 field z: Int"));
  EXPECT_THAT(parsed.Ast(), HasSubstr("~{z}"));
  EXPECT_THAT(parsed.Ast(), HasSubstr("11:3 attr cache = true"));
  EXPECT_THAT(parsed.Ast(), HasSubstr("13:3 attr u = 1"));
  EXPECT_THAT(parsed.Ast(), HasSubstr("19:1 let ok = 1"));
}

TEST(Recovery, KeepsTheNameOfAFailedItem) {
  Parsed parsed("let broken = \njob b { }\nx = )\n");
  EXPECT_EQ(parsed.Ast(), "1:1 error broken\n2:1 block job b\n3:1 error x\n");
}

TEST(Recovery, NamesTheOpeningOfWhatIsNotClosed) {
  Parsed list("x = [1, 2\ny = 3\n");
  EXPECT_THAT(list.Faults(), ElementsAre("2:1 E010 expected `,` or `]`, found `y`"));
  ASSERT_EQ(list.OnlyFault().secondary.size(), 1u);
  EXPECT_EQ(list.Text(list.OnlyFault().secondary[0].span), "[");
  EXPECT_EQ(list.Ast(), "1:1 error x\n2:1 attr y = 3\n");

  Parsed call("x = f(a, (b)\n");
  EXPECT_THAT(call.Faults(), ElementsAre("2:1 E010 expected `,` or `)`, found the end of the file"));
  EXPECT_EQ(call.OnlyFault().secondary[0].span.begin, 5u);

  Parsed value("x = \"a ~{b + \"\ny = 1\n");
  EXPECT_EQ(value.Ast(), "1:1 attr x = (str \"a \" ~{<error>})\n2:1 attr y = 1\n");
}

TEST(Recovery, TakesTheEndOfTheFileAsTheEndOfABlock) {
  Parsed parsed("job a {\n  x = 1\n  retry {\n    y = 2\n  output { z: Int }\n}\n");
  EXPECT_THAT(parsed.Faults(), ElementsAre("7:1 E010 expected `}`, found the end of the file"));
  const Diagnostic& fault = parsed.OnlyFault();
  ASSERT_EQ(fault.secondary.size(), 2u);
  EXPECT_EQ(fault.secondary[0].span.begin, 6u);
  EXPECT_EQ(fault.secondary[1].label, "by the indentation, the `}` of this one is missing");
  EXPECT_EQ(parsed.sources.Locate(parsed.source, fault.secondary[1].span.begin).line, 3u);
  EXPECT_THAT(parsed.Ast(), HasSubstr("output"));
}

TEST(Recovery, PointsAtTheMissingValueNotAtTheNextLine) {
  for (std::string_view next : {"b = 2", "b: Int", "job b { }", "import \"x\" as y"}) {
    Parsed parsed(fmt::format("a =\n{}\n", next));
    EXPECT_THAT(parsed.Faults(), ElementsAre("1:3 E010 a value is missing here")) << next;
    EXPECT_THAT(parsed.Ast(), HasSubstr("\n2:1 ")) << next;
  }
  EXPECT_THAT(Parsed("a = 1 +\nb = 2\n").Faults(), ElementsAre("1:7 E010 a value is missing here"));
  EXPECT_THAT(Parsed("a:\nb: Int\n").Faults(), ElementsAre("1:2 E010 a type is missing here"));
  EXPECT_THAT(Parsed("a =\n  b == c\n").Faults(), IsEmpty());
}

TEST(Recovery, StaysInsideOfTheStringItHappenedIn) {
  Parsed parsed("x = \"a ~{)} b ~{c} ~{1 2} d\"\n");
  EXPECT_THAT(parsed.Faults(), ElementsAre("1:10 E010 expected a value, found `)`", "1:24 E010 expected `}` at the end of `~{`, found `2`"));
  EXPECT_EQ(parsed.Ast(), "1:1 attr x = (str \"a \" ~{<error>} \" b \" ~{c} \" \" ~{<error>} \" d\")\n");
}

TEST(Recovery, FindsTheRightPlaceInHeredocsAfterDedentAndCrlf) {
  Parsed parsed("x = <<~SH\r\n      caf\xC3\xA9 ~{a} ~{+}\r\n    b ~{c d}\r\nSH\r\ny = )\r\n");
  EXPECT_THAT(parsed.Faults(), ElementsAre("2:19 E010 expected a value, found `+`", "3:11 E010 expected `}` at the end of `~{`, found `d`",
                                           "5:5 E010 expected a value, found `)`"));
}

TEST(Recovery, AnUnclosedTextSaysWhereItStarted) {
  EXPECT_THAT(Parsed("x = \"abc\ny = 2\n").Faults(), ElementsAre("1:5 E010 this string is never closed"));
  EXPECT_THAT(Parsed("x = [re\"abc\ny = 2\n").Faults(), ElementsAre("1:8 E010 this regular expression is never closed"));
  EXPECT_THAT(Parsed("job a {\n  script = <<~BASH\n    echo )\n}\njob b { }\n").Faults(),
              ElementsAre("2:12 E010 this heredoc is never closed"));
  EXPECT_THAT(Parsed("x = \"a ~{b\ny = 2\n").Faults(), ElementsAre("1:11 E010 expected `}` at the end of `~{`, found the end of the line"));
  EXPECT_THAT(Parsed("x = <<~SH\n  a ~{b\nSH\ny = 2\n").Faults(),
              ElementsAre("2:8 E010 expected `}` at the end of `~{`, found the end of the heredoc"));
}

TEST(Recovery, GoesOnAfterAComma) {
  EXPECT_EQ(Parsed("a { x = ), y = 2; z = ], w = 3 }\n").Ast(), "1:1 block a\n  1:5 error x\n  1:12 attr y = 2\n  1:19 error z\n  1:26 attr w = 3\n");
}

TEST(Recovery, OtherLanguagesHabitsGetAHint) {
  auto help = [](const char* text) {
    Parsed parsed(text);
    return parsed.diags.all().empty() || parsed.diags.all()[0].helps.empty() ? std::string() : parsed.diags.all()[0].helps[0].text;
  };
  EXPECT_EQ(help("x = 'a'\n"), "strings are written with double quotes");
  EXPECT_EQ(help("x = $HOME\n"), "a value is inserted with `~{name}`");
  EXPECT_EQ(help("x = a & b\n"), "the operator is `&&`");
  EXPECT_THAT(help("if x { }\n"), HasSubstr("`when = c`"));
}

TEST(Characters, ThatAreNoTextAreReportedOnce) {
  EXPECT_THAT(Parsed(std::string("a = 1\0 b = 2\n", 13)).Faults(), ElementsAre("1:6 E010 a NUL byte cannot stand in a source file"));
  EXPECT_THAT(Parsed("a = \"\xFF\xFE\"\n").Faults(), ElementsAre("1:6 E010 the byte 0xFF, which is not UTF-8, cannot stand in a source file"));
  EXPECT_THAT(Parsed("a = 1 # \x01\n").Faults(), ElementsAre("1:9 E010 the control character U+0001 cannot stand in a source file"));
  EXPECT_THAT(Parsed("a = 1\rb = 2\n").Faults(), ElementsAre("1:6 E010 a carriage return without a line feed cannot stand in a source file"));
  EXPECT_THAT(Parsed("a = \xED\xA0\x80\n").Faults(), ::testing::Contains(HasSubstr("not UTF-8")));
  EXPECT_THAT(Parsed("a = \xC3\xA9\n").Faults(), ElementsAre("1:5 E010 expected a value, found `\xC3\xA9`"));
  EXPECT_THAT(Parsed("a = 1 \xEF\xBB\xBF\n").Faults(), ::testing::Contains(HasSubstr("byte order mark")));
}

TEST(Faults, AreLimited) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "a = )\n";
  Parsed parsed(text);
  EXPECT_EQ(parsed.diags.all().size(), 100u);
  EXPECT_THAT(parsed.diags.all().back().notes, ElementsAre("there are too many syntax errors; the rest of the file was not read"));
}

}  // namespace
}  // namespace jobc
