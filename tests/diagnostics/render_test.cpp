#include "compiler/diagnostics/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "support/text_width.h"

namespace jobc {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr TypedKind<> kNull{{"E202", "MaybeNull", Severity::Error, "this value may be null"}};
constexpr TypedKind<> kUnclosed{{"E010", "Unclosed", Severity::Error, "`{{` is never closed"}};
constexpr TypedKind<std::string_view> kUnknown{{"E101", "Unknown", Severity::Error, "no job named `{}`"}};
constexpr TypedKind<> kDollar{{"W011", "Dollar", Severity::Warning, "`${{x}}` is not interpolated"}};

/// A source whose spans are found by their text.
class Snippets : public ::testing::Test {
 protected:
  SourceId Add(std::string name, std::string text) {
    const SourceId id = sources_.Add(std::move(name), std::move(text));
    source_ = id;
    return id;
  }
  /// The span of the `nth` occurrence of `needle` in the source added last.
  Span At(std::string_view needle, int nth = 0) const {
    const std::string& text = sources_[source_].text;
    size_t at = text.find(needle);
    while (at != std::string::npos && nth-- > 0) at = text.find(needle, at + 1);
    EXPECT_NE(at, std::string::npos) << needle;
    return {source_, static_cast<uint32_t>(at), static_cast<uint32_t>(at + needle.size())};
  }
  Span From(std::string_view first, std::string_view last) const { return {source_, At(first).begin, At(last).end}; }
  std::string Text(int width = 140) {
    TextOptions options;
    options.width = width;
    return RenderText(diags_, sources_, options);
  }
  /// As Text(), without the closing summary.
  std::string Body(int width = 140) {
    std::string text = Text(width);
    const size_t summary = text.rfind("\n\n");
    return text.substr(0, summary + 1);
  }

  SourceManager sources_;
  SourceId source_;
  Diagnostics diags_;
};

TEST_F(Snippets, MarksAreOnOneLineAndLabelsHangBelow) {
  std::string text;
  for (int i = 1; i <= 30; ++i) text += "#\n";
  text += "  on_error = ignore\n";
  for (int i = 32; i <= 41; ++i) text += "#\n";
  text += "  input { bam: File = align[s.id].bam }\n";
  Add("cohort.job", text);
  diags_.Emit(At("align[s.id].bam"), kNull)
      .Label("`File?`")
      .Secondary(At("File"), "expected `File`")
      .Secondary(At("on_error = ignore"), "because of this, a failed `align` leaves its outputs null")
      .AddHelp("run this job only for samples that were aligned:  when = align[s.id].ok")
      .AddHelp("or accept a missing file:  bam: File? = align[s.id].bam");
  EXPECT_EQ(Text(), R"(error[E202]: this value may be null
  --> cohort.job:42:23
   |
31 |   on_error = ignore
   |   ----------------- because of this, a failed `align` leaves its outputs null
...
42 |   input { bam: File = align[s.id].bam }
   |                ----   ^^^^^^^^^^^^^^^ `File?`
   |                |
   |                expected `File`
   = help: run this job only for samples that were aligned:  when = align[s.id].ok
   = help: or accept a missing file:  bam: File? = align[s.id].bam
   = note: `jobc explain E202`

error: 1 error
)");
}

TEST_F(Snippets, SeveralLabelsHangFromRightToLeft) {
  Add("a.job", "run = [aa, bb, cc]\n");
  diags_.Emit(At("bb"), kNull).Label("this").Secondary(At("aa"), "first").Secondary(At("cc"), "third").Secondary(At("run"), "here");
  EXPECT_EQ(Body(), R"(error[E202]: this value may be null
 --> a.job:1:12
  |
1 | run = [aa, bb, cc]
  | ---    --  ^^  -- third
  | |      |   |
  | |      |   this
  | |      first
  | here
  = note: `jobc explain E202`
)");
}

TEST_F(Snippets, NestedMarksKeepThePrimaryOnTop) {
  Add("a.job", "x = f(a + b)\n");
  diags_.Emit(At("a + b"), kNull).Label("inner").Secondary(At("f(a + b)"), "outer");
  EXPECT_EQ(Body(), R"(error[E202]: this value may be null
 --> a.job:1:7
  |
1 | x = f(a + b)
  |     --^^^^^- outer
  |       |
  |       inner
  = note: `jobc explain E202`
)");
}

TEST_F(Snippets, TabsWideAndCombiningCharactersLineUp) {
  Add("a.job", "\tname = \"日本e\u0301😀\" + oops\n");
  diags_.Emit(At("oops"), kNull).Label("here");
  EXPECT_EQ(Body(),
            "error[E202]: this value may be null\n"
            " --> a.job:1:19\n"
            "  |\n"
            "1 |     name = \"日本e\u0301😀\" + oops\n"
            "  |                        ^^^^ here\n"
            "  = note: `jobc explain E202`\n");
}

TEST_F(Snippets, ControlCharactersAndInvalidBytesAreShownNotSent) {
  Add("a\x1b.job", "x = \"\x1b[2J\xFF\u202E\" + y\n");
  diags_.Emit(At("y"), kUnknown, "\x1b]0;title\x07").Label("\x1b[31m").Note("first\nsecond\x08");
  EXPECT_EQ(Body(),
            "error[E101]: no job named `␛]0;title␇`\n"
            " --> a␛.job:1:16\n"
            "  |\n"
            "1 | x = \"␛[2J<FF><U+202E>\" + y\n"
            "  |                          ^ ␛[31m\n"
            "  = note: first\n"
            "          second␈\n"
            "  = note: `jobc explain E101`\n");
}

TEST_F(Snippets, SpansOfSeveralLinesAreDrawnInTheMargin) {
  Add("a.job", "job a {\n  run = [\n    \"x\",\n  ]\n}\njob b {}\n");
  diags_.Emit(From("job a", "\n}"), kNull).Label("this job");
  EXPECT_EQ(Body(), R"(error[E202]: this value may be null
 --> a.job:1:1
  |
1 | / job a {
2 | |   run = [
3 | |     "x",
4 | |   ]
5 | | }
  | |_^ this job
  = note: `jobc explain E202`
)");
}

TEST_F(Snippets, LongMultiLineSpansShowTheirEndsAndStartAfterText) {
  std::string text = "x = [\n";
  for (int i = 0; i < 20; ++i) text += "  1,\n";
  text += "]  # end\n";
  Add("a.job", text);
  diags_.Emit(From("[", "]"), kNull).Label("this list").Secondary(At("1", 0), "an element");
  EXPECT_EQ(Body(), R"(error[E202]: this value may be null
  --> a.job:1:5
   |
 1 |   x = [
   |  _____^
 2 | |   1,
   | |   - an element
...  |
22 | | ]  # end
   | |_^ this list
   = note: `jobc explain E202`
)");
}

TEST_F(Snippets, OverlappingMultiLineSpansHaveLanesOfTheirOwn) {
  Add("a.job", "a {\n  b {\n    c\n  }\n}\n");
  diags_.Emit(From("b {", "  }"), kNull).Label("inner").Secondary(From("a {", "\n}"), "outer");
  EXPECT_EQ(Body(), R"(error[E202]: this value may be null
 --> a.job:2:3
  |
1 | /  a {
2 | |/   b {
3 | ||     c
4 | ||   }
  | ||___^ inner
5 | |  }
  | |__- outer
  = note: `jobc explain E202`
)");
}

TEST_F(Snippets, TheEndOfTheFileIsShownAfterItsLastText) {
  Add("a.job", "job a {\n  x = 1\n\n\n");
  const uint32_t end = static_cast<uint32_t>(sources_[source_].text.size());
  diags_.Emit({source_, end, end}, kUnclosed).Label("the file ends here").Secondary(At("{"), "opened here");
  EXPECT_EQ(Body(), R"(error[E010]: `{` is never closed
 --> a.job:2:8
  |
1 | job a {
  |       - opened here
2 |   x = 1
  |        ^ the file ends here
  = note: `jobc explain E010`
)");
}

TEST_F(Snippets, AnEmptyFileAndAMissingPlaceAreNoProblem) {
  Add("empty.job", "");
  diags_.Emit({source_, 0, 0}, kNull);
  diags_.Emit({}, kUnknown, "x").AddHelp("type `jobc inputs a.job` to see them");
  EXPECT_EQ(Text(), R"(error[E202]: this value may be null
 --> empty.job:1:1
  |
1 |
  | ^
  = note: `jobc explain E202`

error[E101]: no job named `x`
  = help: type `jobc inputs a.job` to see them
  = note: `jobc explain E101`

error: 2 errors
)");
}

TEST_F(Snippets, OneLineGapsAreFilledAndLongerOnesMarked) {
  Add("a.job", "one\ntwo\nthree\nfour\nfive\nsix\n");
  diags_.Emit(At("one"), kNull).Secondary(At("three"), "").Secondary(At("six"), "");
  EXPECT_EQ(Body(), R"(error[E202]: this value may be null
 --> a.job:1:1
  |
1 | one
  | ^^^
2 | two
3 | three
  | -----
...
6 | six
  | ---
  = note: `jobc explain E202`
)");
}

TEST_F(Snippets, OtherFilesAreShownAfterTheFirst) {
  const SourceId lib = Add("lib/qc.job", "params { table: File }\n");
  const Span declared = At("table");
  Add("main.job", "module q = qc { tabel = 1 }\n");
  diags_.Emit(At("tabel"), kUnknown, "tabel").Label("not a parameter").Secondary(declared, "similar");
  EXPECT_EQ(lib.index, 0u);
  EXPECT_EQ(Body(), R"(error[E101]: no job named `tabel`
 --> main.job:1:17
  |
1 | module q = qc { tabel = 1 }
  |                 ^^^^^ not a parameter
 ::: lib/qc.job:1:10
  |
1 | params { table: File }
  |          ----- similar
  = note: `jobc explain E101`
)");
}

TEST_F(Snippets, LongLinesAreCutAroundTheMark) {
  Add("a.job", "x = \"" + std::string(300, 'a') + "\" + oops + \"" + std::string(300, 'b') + "\"\n");
  diags_.Emit(At("oops"), kNull).Label("here");
  const std::string text = Body(60);
  EXPECT_EQ(text,
            "error[E202]: this value may be null\n"
            " --> a.job:1:310\n"
            "  |\n"
            "1 | ...aaaaaaaaaaaaaaaaaaaaaaaaa\" + oops + \"bbbbbbbbbbbbb...\n"
            "  |                                 ^^^^ here\n"
            "  = note: `jobc explain E202`\n");
}

TEST_F(Snippets, ALineOfMegabytesCostsNoMoreThanItsWindow) {
  const std::string before(5 << 20, ' ');
  Add("a.job", before + "oops" + before);
  for (int i = 0; i < 20; ++i) diags_.Emit(At("oops"), kUnknown, std::to_string(i)).Label("here");
  const std::string text = Text(80);
  EXPECT_LT(text.size(), 20u * 400u);
  EXPECT_THAT(text, HasSubstr("oops"));
  EXPECT_THAT(text, HasSubstr("^^^^ here"));
}

TEST_F(Snippets, ExplainIsSuggestedOnceForEachCode) {
  Add("a.job", "a b c\n");
  diags_.Emit(At("a"), kNull);
  diags_.Emit(At("b"), kNull);
  diags_.Emit(At("c"), kDollar);
  const std::string text = Text();
  size_t count = 0;
  for (size_t at = text.find("jobc explain E202"); at != std::string::npos; at = text.find("jobc explain E202", at + 1)) ++count;
  EXPECT_EQ(count, 1u);
  EXPECT_THAT(text, HasSubstr("jobc explain W011"));
  EXPECT_THAT(text, HasSubstr("\nerror: 2 errors, 1 warning\n"));
}

TEST_F(Snippets, WarningsAloneAreSummedUpAsAWarning) {
  Add("a.job", "a\n");
  diags_.Emit(At("a"), kDollar);
  EXPECT_THAT(Text(), HasSubstr("\n\nwarning: 1 warning\n"));
  EXPECT_EQ(RenderText(Diagnostics(), sources_, {}), "");
}

TEST_F(Snippets, ColourOnlyAddsEscapes) {
  Add("a.job", "job a {\n  run = [\n    \"x\",\n  ]\n}\nx = [aa, bb]\n");
  diags_.Emit(From("job a", "\n}"), kNull).Label("this job").Secondary(At("aa"), "one").Secondary(At("bb"), "two").AddHelp("help");
  diags_.Emit(At("aa"), kDollar).Note("a note");
  TextOptions options;
  options.color = true;
  const std::string colored = RenderText(diags_, sources_, options);
  std::string stripped;
  for (size_t i = 0; i < colored.size(); ++i) {
    if (colored[i] == '\x1b') {
      i = colored.find('m', i);
    } else {
      stripped += colored[i];
    }
  }
  EXPECT_EQ(stripped, Text());
  EXPECT_THAT(colored, HasSubstr("\x1b[1;31merror["));
  EXPECT_THAT(colored, HasSubstr("\x1b[1;33mwarning["));
}

/// For random lines and random marks: the carets stand exactly below the characters they mark.
TEST_F(Snippets, CaretsStandBelowWhatTheyMarkWhateverTheLineHolds) {
  const std::vector<std::string> alphabet = {"a", " ", "\t", "日", "e\u0301", "😀", "\x1b", "\xFE", "ß", "\u202E"};
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    SourceManager sources;
    std::vector<std::string> chars(1 + random() % 200);
    for (std::string& c : chars) c = alphabet[random() % alphabet.size()];
    const size_t first = random() % chars.size();
    const size_t last = first + random() % std::min<size_t>(6, chars.size() - first);
    std::string line;
    uint32_t begin = 0, end = 0;
    std::string marked;
    for (size_t i = 0; i < chars.size(); ++i) {
      if (i == first) begin = static_cast<uint32_t>(line.size());
      line += chars[i];
      if (i == last) end = static_cast<uint32_t>(line.size());
    }
    for (size_t i = first; i <= last; ++i) {
      marked += chars[i] == "\t" ? "    " : VisibleText(chars[i]);
    }
    Diagnostics diags;
    diags.Emit({sources.Add("t", line + "\n"), begin, end}, kNull);
    TextOptions options;
    options.width = 60 + static_cast<int>(random() % 100);
    std::istringstream rows(RenderText(diags, sources, options));
    std::string row, text, carets;
    while (std::getline(rows, row)) {
      if (row.starts_with("1 |")) text = row;
      if (row.starts_with("  |") && row.size() > 3) carets = row;
    }
    const size_t caret_column = carets.find('^');
    ASSERT_NE(caret_column, std::string::npos);
    // Walk the text row up to the caret's column; there the marked text must start.
    size_t at = 0;
    int column = 0;
    while (at < text.size() && column < static_cast<int>(caret_column)) {
      const Utf8Char c = DecodeUtf8(text, at);
      column += DisplayWidth(c.value);
      at += c.size;
    }
    // A combining mark at the column belongs to the character before it.
    while (at < text.size() && DisplayWidth(DecodeUtf8(text, at).value) == 0 && !text.substr(at).starts_with(marked)) {
      at += DecodeUtf8(text, at).size;
    }
    std::string expected = marked;
    while (!expected.empty() && expected.back() == ' ' && at + expected.size() > text.size()) expected.pop_back();
    ASSERT_EQ(text.substr(std::min(at, text.size()), expected.size()), expected) << text << "\n" << carets;
    const size_t count = carets.size() - caret_column;
    ASSERT_EQ(count, static_cast<size_t>(std::max(1, DisplayWidth(marked)))) << text << "\n" << carets;
    ASSERT_LE(DisplayWidth(text), options.width);
  }
}

TEST_F(Snippets, JsonHoldsPlacesNotesAndEdits) {
  Add("a.job", "after = [algin]\n");
  diags_.Emit(At("algin"), kUnknown, "algin")
      .Label("not declared")
      .Secondary(At("after"), "here")
      .Note("n")
      .AddHelp("did you mean `align`?", {{At("algin"), "align"}});
  diags_.Emit({}, kDollar);
  const Json json = Json::parse(RenderJson(diags_, sources_));
  EXPECT_EQ(json["schema"], "jobc.diagnostics/1");
  EXPECT_EQ(json["summary"], (Json{{"errors", 1}, {"warnings", 1}}));
  const Json& first = json["diagnostics"][0];
  EXPECT_EQ(first["code"], "E101");
  EXPECT_EQ(first["severity"], "error");
  EXPECT_EQ(first["message"], "no job named `algin`");
  EXPECT_EQ(first["file"], "a.job");
  EXPECT_EQ(first["range"]["start"], (Json{{"line", 1}, {"column", 10}, {"offset", 9}}));
  EXPECT_EQ(first["range"]["end"], (Json{{"line", 1}, {"column", 15}, {"offset", 14}}));
  EXPECT_EQ(first["secondary"][0]["label"], "here");
  EXPECT_EQ(first["helps"][0]["edits"][0]["text"], "align");
  EXPECT_TRUE(json["diagnostics"][1]["file"].is_null());
}

TEST_F(Snippets, JsonOfNothingIsStillADocument) {
  const Json json = Json::parse(RenderJson(diags_, sources_));
  EXPECT_EQ(json["diagnostics"], Json::array());
}

TEST_F(Snippets, SarifPointsAtRulesPlacesAndFixes) {
  Add("my dir/a.job", "after = [algin]\n");
  diags_.Emit(At("algin"), kUnknown, "algin").Secondary(At("after"), "here").AddHelp("use `align`", {{At("algin"), "align"}});
  diags_.Emit(At("after"), kDollar);
  const Json log = Json::parse(RenderSarif(diags_, sources_, "0.1.0"));
  EXPECT_EQ(log["version"], "2.1.0");
  const Json& run = log["runs"][0];
  EXPECT_EQ(run["columnKind"], "unicodeCodePoints");
  EXPECT_EQ(run["tool"]["driver"]["rules"].size(), 2u);
  const Json& result = run["results"][0];
  EXPECT_EQ(result["ruleId"], run["tool"]["driver"]["rules"][result["ruleIndex"].get<size_t>()]["id"]);
  EXPECT_EQ(result["level"], "error");
  const Json& place = result["locations"][0]["physicalLocation"];
  EXPECT_EQ(place["artifactLocation"]["uri"], "my%20dir/a.job");
  EXPECT_EQ(place["region"], (Json{{"startLine", 1}, {"startColumn", 10}, {"endLine", 1}, {"endColumn", 15}}));
  EXPECT_EQ(result["relatedLocations"][0]["message"]["text"], "here");
  EXPECT_EQ(result["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"], "align");
  EXPECT_EQ(run["results"][1]["level"], "warning");
}

TEST_F(Snippets, GithubAnnotationsEscapeWhatTheCommandSyntaxUses) {
  Add("a,b:c.job", "after = [algin]\nx = {\n}\n");
  diags_.Emit(At("algin"), kUnknown, "100%\n::error::").Note("n");
  diags_.Emit(From("{", "}"), kDollar);
  EXPECT_EQ(RenderGithub(diags_, sources_),
            "::error file=a%2Cb%3Ac.job,line=1,endLine=1,col=10,endColumn=14,title=E101::"
            "no job named `100%25%0A::error::`%0Anote: n\n"
            "::warning file=a%2Cb%3Ac.job,line=2,endLine=3,title=W011::`${x}` is not interpolated\n");
}

}  // namespace
}  // namespace jobc
