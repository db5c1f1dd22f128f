// Numbers, quantities, strings, regular expressions, heredocs.
#include "tests/parse/parse_fixture.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Numbers, AreDecimalWithUnderscoresAndExponents) {
  EXPECT_EQ(ExprOf("0"), "0");
  EXPECT_EQ(ExprOf("1_000_000"), "1000000");
  EXPECT_EQ(ExprOf("0.5"), "0.5");
  EXPECT_EQ(ExprOf("1e6"), "1000000.0");
  EXPECT_EQ(ExprOf("2.5e-3"), "0.0025");
  EXPECT_EQ(ExprOf("1e-999"), "0.0");
  EXPECT_EQ(ExprOf("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(ExprOf("-9223372036854775808"), "-9223372036854775808");
}

TEST(Numbers, AboveTheirTypeAreRefused) {
  EXPECT_EQ(FaultOf("9223372036854775808"), "E013 `9223372036854775808` does not fit into 64 bits");
  EXPECT_EQ(FaultOf("-9223372036854775809"), "E013 `9223372036854775809` does not fit into 64 bits");
  EXPECT_EQ(FaultOf("-9223372036854775808.f"), "E013 `9223372036854775808` does not fit into 64 bits");
  EXPECT_EQ(FaultOf("1e999"), "E013 `1e999` does not fit into a Float");
  EXPECT_EQ(FaultOf("300000000000d"), "E013 `300000000000d` does not fit into 64 bits of milliseconds");
}

TEST(Quantities, AreExactInMillisecondsAndBytes) {
  EXPECT_EQ(ExprOf("500ms"), "500ms");
  EXPECT_EQ(ExprOf("30s"), "30000ms");
  EXPECT_EQ(ExprOf("1.5h"), "5400000ms");
  EXPECT_EQ(ExprOf("1d"), "86400000ms");
  EXPECT_EQ(ExprOf("0.001s"), "1ms");
  EXPECT_EQ(ExprOf("512B"), "512B");
  EXPECT_EQ(ExprOf("10KB"), "10000B");
  EXPECT_EQ(ExprOf("64KiB"), "65536B");
  EXPECT_EQ(ExprOf("0.5GiB"), "536870912B");
  EXPECT_EQ(ExprOf("1TB"), "1000000000000B");
  EXPECT_EQ(ExprOf("2PiB"), "2251799813685248B");
  EXPECT_EQ(ExprOf("1_000MiB"), "1048576000B");
}

TEST(Quantities, ThatAreNotWholeOrNotKnownAreRefused) {
  EXPECT_EQ(FaultOf("1.5B"), "E012 `1.5B` is not a whole number of bytes");
  EXPECT_EQ(FaultOf("0.0001s"), "E012 `0.0001s` is not a whole number of milliseconds");
  EXPECT_EQ(FaultOf("5x"), "E012 `5x` is neither a number nor a quantity");
  EXPECT_EQ(FaultOf("0x10"), "E012 `0x10` is neither a number nor a quantity");
  EXPECT_EQ(FaultOf("1_"), "E012 `1_` is neither a number nor a quantity");
  Parsed near("x = 4Gb\n");
  ASSERT_EQ(near.OnlyFault().helps.size(), 1u);
  EXPECT_EQ(near.OnlyFault().helps[0].text, "did you mean `4GB`?");
  EXPECT_EQ(near.OnlyFault().helps[0].edits[0].text, "4GB");
}

TEST(Quantities, TakeNoBlankBeforeTheUnit) {
  Parsed parsed("timeout = 5 m\nx = 1\n");
  EXPECT_EQ(parsed.OnlyFault().helps.front().text, "a quantity has no blank between number and unit");
  EXPECT_EQ(parsed.Text(parsed.OnlyFault().helps.front().edits[0].span), " ");
}

TEST(Strings, HaveEscapesAndInterpolation) {
  EXPECT_EQ(ExprOf(R"("a\n\t\r\"\\b")"), R"("a\n\t\r\"\\b")");
  EXPECT_EQ(ExprOf(R"("\u{1F600}\u{e9}")"), "\"\xF0\x9F\x98\x80\xC3\xA9\"");
  EXPECT_EQ(ExprOf(R"("~{a}-~{b.c}")"), R"((str ~{a} "-" ~{(. b c)}))");
  EXPECT_EQ(ExprOf(R"("~~{a} ~ ~~ $x {{y}}")"), R"("~{a} ~ ~~ $x {{y}}")");
  EXPECT_EQ(ExprOf(R"("~{f("in ~{n}")}")"), R"((str ~{(call f (str "in " ~{n}))}))");
  EXPECT_EQ(ExprOf(R"("~{xs...}")"), R"((str ~{xs...}))");
  EXPECT_EQ(ExprOf(R"("")"), R"("")");
}

TEST(Strings, RefuseUnknownEscapes) {
  EXPECT_EQ(FaultOf(R"("\q")"), "E010 `\\q` is no escape");
  EXPECT_EQ(FaultOf(R"("\u{D800}")"), "E010 `\\u{D800}` is no escape");
  EXPECT_EQ(FaultOf(R"("\u{110000}")"), "E010 `\\u{110000}` is no escape");
  EXPECT_EQ(FaultOf(R"("\u41")"), "E010 `\\u` is no escape");
  Parsed parsed("x = \"ab\\qc\"\n");
  EXPECT_EQ(parsed.Text(parsed.OnlyFault().primary.span), "\\q");
}

TEST(Strings, MapTheirTextToTheSource) {
  Parsed parsed("x = \"a\\nb~~{c\"\n");
  const ast::Part& part = parsed.file.parts.at(0);
  EXPECT_EQ(part.text, "a\nb~{c");
  EXPECT_THAT(part.positions, ElementsAre(std::pair(0u, 5u), std::pair(2u, 8u), std::pair(4u, 11u)));
}

TEST(Regexes, KeepTheirTextButTheQuote) {
  EXPECT_EQ(ExprOf(R"(re"\d{4}~{\"\\")"), R"((re "\\d{4}~{\"\\\\"))");
  EXPECT_EQ(ExprOf(R"(re"")"), R"((re ""))");
}

TEST(Heredocs, AreDedentedByTheCommonBlanks) {
  EXPECT_EQ(ExprOf("<<~SH\n    a\n      b\n\n    c\n  SH"), R"((SH "a\n  b\n\nc\n"))");
  EXPECT_EQ(ExprOf("<<~TXT\n\ta\n\t\tb\n\tTXT"), R"((TXT "a\n\tb\n"))");
  EXPECT_EQ(ExprOf("<<~PY\nPY"), "(PY)");
  EXPECT_EQ(ExprOf("<<~TXT\n  a\n   \n\n  TXT"), R"((TXT "a\n"))");
  EXPECT_EQ(ExprOf("<<~R\n  a ~~{b} ~ \\n\n  R"), R"((R "a ~{b} ~ \\n\n"))");
}

TEST(Heredocs, ReadCrlfAsLf) {
  EXPECT_EQ(ExprOf("<<~SH\r\n  a\r\n    b ~{x}\r\n\r\n  c\r\nSH\r"), R"((SH "a\n  b " ~{x} "\n\nc\n"))");
}

TEST(Heredocs, EndAtTheFirstLineThatIsTheTagAlone) {
  EXPECT_EQ(ExprOf("[<<~SH\n  SHELL\n  SH x\n  SH_2\n  SH, 1]"), R"((list (SH "SHELL\nSH x\nSH_2\n") 1))");
  EXPECT_EQ(ExprOf("f(<<~SH_2\n  SH\n  SH_2)"), R"((call f (SH "SH\n")))");
  Parsed comment("x = <<~SH\n  a\nSH # done\ny = 1\n");
  EXPECT_EQ(comment.Ast(), "1:1 attr x = (SH \"a\\n\")\n4:1 attr y = 1\n");
}

TEST(Heredocs, HoldValuesOverSeveralLines) {
  EXPECT_EQ(ExprOf("<<~SH\n  a ~{join(\n  xs,\n\" \")} b\n  c\nSH"), R"((SH "a " ~{(call join xs " ")} " b\nc\n"))");
  // The lines inside of a value are no lines of the text: they do not count for the indentation.
  EXPECT_EQ(ExprOf("<<~SH\n    a ~{f(\n  x)}\n    b\nSH"), R"((SH "a " ~{(call f x)} "\nb\n"))");
}

TEST(Heredocs, MapTheirTextToTheSource) {
  const std::string text = "x = <<~SH\r\n    one\r\n      two ~{v} three\r\nSH\n";
  Parsed parsed(text);
  ASSERT_THAT(parsed.Faults(), IsEmpty());
  const ast::Expr& heredoc = parsed.file[parsed.file[*parsed.file.begin(parsed.file.root)].value];
  ASSERT_EQ(heredoc.parts.size, 3u);
  for (uint32_t i = 0; i < heredoc.parts.size; ++i) {
    const ast::Part& part = parsed.file.parts[heredoc.parts.begin + i];
    if (part.expr.valid()) {
      EXPECT_EQ(parsed.Text(part.span), "~{v}");
      EXPECT_EQ(parsed.Text(parsed.file[part.expr].span), "v");
      continue;
    }
    // Every byte of the text is found again in the source, line breaks as the LF of a CRLF.
    for (size_t n = 0; n < part.positions.size(); ++n) {
      const uint32_t end = n + 1 < part.positions.size() ? part.positions[n + 1].first : static_cast<uint32_t>(part.text.size());
      for (uint32_t at = part.positions[n].first; at < end; ++at) {
        EXPECT_EQ(part.text[at], text[part.positions[n].second + at - part.positions[n].first]) << i << " " << at;
      }
    }
  }
}

TEST(Heredocs, AreRefusedWhereTheyAreUnclear) {
  EXPECT_EQ(FaultOf("<<~SH\n\ta\n  b\nSH"), "E010 the lines of this heredoc are indented partly by tabs, partly by spaces");
  EXPECT_EQ(FaultOf("<<~PERL\n  a\nPERL"), "E010 `PERL` is no tag of a heredoc");
  EXPECT_EQ(FaultOf("<<~SH a\n  b\nSH"), "E010 the text of a heredoc starts on the line after `<<~SH`");
  EXPECT_EQ(FaultOf("<<~SH\n  a\n"), "E010 this heredoc is never closed");
  EXPECT_EQ(FaultOf("<<~\n  a\n"), "E010 expected a tag such as `BASH` after `<<~`, found the end of the line");
  EXPECT_EQ(FaultOf("\"~{<<~SH}\""), "E010 expected no heredoc inside of `~{ }`, found `SH`");
}

TEST(Interpolations, HoldNoComments) {
  Parsed parsed("x = <<~SH\n  ~{a # no\n  }\nSH\ny = 1\n");
  EXPECT_THAT(parsed.Faults(), ElementsAre(HasSubstr("2:7 E010 expected `}` at the end of `~{`, found a comment")));
}

}  // namespace
}  // namespace jobc
