// No input crashes the parser, hangs it, or is taken silently for something it is not.
#include <chrono>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/parse/parse_fixture.h"

namespace jobc {
namespace {

std::string Repeat(std::string_view text, size_t times) {
  std::string out;
  out.reserve(text.size() * times);
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

/// What every File promises, whatever the text was.
void ExpectSound(const Parsed& parsed) {
  bool broken = false;
  for (const ast::Expr& e : parsed.file.exprs) broken |= e.kind == ast::ExprKind::Error;
  for (const ast::Item& i : parsed.file.items) broken |= i.kind == ast::ItemKind::Error;
  EXPECT_TRUE(!broken || parsed.diags.has_errors()) << "Error nodes without a diagnostic";
  const auto size = static_cast<uint32_t>(parsed.sources[parsed.source].text.size());
  auto inside = [&](Span span) { return !span.valid() || (span.begin <= span.end && span.end <= size); };
  for (const ast::Expr& e : parsed.file.exprs) ASSERT_TRUE(inside(e.span) && inside(e.op_span));
  for (const ast::Item& i : parsed.file.items) ASSERT_TRUE(inside(i.span) && inside(i.keyword) && inside(i.name.span));
  for (const ast::Part& p : parsed.file.parts) ASSERT_TRUE(inside(p.span));
  for (const Diagnostic& d : parsed.diags.all()) {
    ASSERT_TRUE(d.primary.span.valid() && inside(d.primary.span)) << d.message;
    for (const Annotation& a : d.secondary) ASSERT_TRUE(inside(a.span));
  }
}

class Deep : public ::testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {};
TEST_P(Deep, NestingIsRefusedNotFollowed) {
  const auto [head, unit, tail] = GetParam();
  for (const char* end : {tail, ""}) {
    Parsed parsed(head + Repeat(unit, 100'000) + end);
    ExpectSound(parsed);
    ASSERT_FALSE(parsed.diags.all().empty());
    bool deep = false;
    for (const Diagnostic& d : parsed.diags.all()) deep |= d.kind->code == "E013";
    // A chain that also breaks off is reported for that alone.
    if (end == tail) {
      EXPECT_TRUE(deep) << parsed.diags.all().front().message;
    }
    DumpAst(parsed.file, parsed.sources);
  }
}
INSTANTIATE_TEST_SUITE_P(
    Bombs, Deep,
    ::testing::Values(std::tuple("a = ", "(", "1"), std::tuple("a = ", "[", ""), std::tuple("a = ", "{ a = ", ""), std::tuple("", "a { ", ""),
                      std::tuple("a = ", "!", "x"), std::tuple("a = ", "- ", "x"), std::tuple("a = ", "if a then b else ", "c"),
                      std::tuple("a = ", "if ", "c"), std::tuple("a = a", ".b", ""), std::tuple("a = f", "(x)", ""),
                      std::tuple("a = f", "[x]", ""), std::tuple("a = ", "f(", "x"), std::tuple("a = ", "\"~{", ""),
                      std::tuple("a = ", "1 + ", "1"), std::tuple("a = ", "x ?? ", "x"), std::tuple("a: ", "List<", "Int"),
                      std::tuple("a: ", "Int(", "1"), std::tuple("a = ", "match x { a => ", "1"), std::tuple("a = ", "X { a = ", "1"),
                      std::tuple("a = ", "[for x in ", "y")));

TEST(Depth, TwoHundredAndFiftyIsFine) {
  Parsed parsed("a = " + Repeat("(", 250) + "1" + Repeat(")", 250) + "\n" + Repeat("b { ", 250) + Repeat("}", 250));
  EXPECT_THAT(parsed.Faults(), ::testing::IsEmpty());
}

/// Twice the text may cost about twice the time; a quadratic parser needs four times.
TEST(Garbage, IsReadInLinearTime) {
  for (const char* unit : {"a = [1,\n", "a = \"x\n", "a = <<~SH\n", ")]}", "foo\n", "a = 1 ) ", "!", "\"", "a { b = (\n", "~{", "a = x.y(z) + 1 ",
                           "<<~A", "mock a[\"x\"] ", "# x\n", "\xFF", "a\xC3\xA9", "'", "=>", "re\"\\"}) {
    const size_t times = 200'000 / std::string_view(unit).size();
    const auto start = std::chrono::steady_clock::now();
    Parsed parsed(Repeat(unit, times));
    const auto took = std::chrono::steady_clock::now() - start;
    ExpectSound(parsed);
    EXPECT_LT(took, std::chrono::seconds(3)) << unit;
  }
}

TEST(Garbage, ManyDifferentHeredocTagsAreNotSearchedForever) {
  std::string text = "a = [";
  for (int i = 0; i < 200'000; ++i) text += fmt::format("<<~SH{} ", i);
  const auto start = std::chrono::steady_clock::now();
  Parsed parsed(text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
  ExpectSound(parsed);
}

TEST(Garbage, TokenSoupNeverBreaksAPromise) {
  static constexpr const char* kTokens[] = {
      "a", "job", "let", "fn", "for", "in", "if", "then", "else", "match", "key", "max", "type", "import", "enum", "module", "secret",
      "require", "uses", "struct", "open", "skip", "argv", "true", "null", "x.y", "(", ")", "[", "]", "{", "}", "<", ">", "=", "=>", "==", "->",
      ":", ",", ";", ".", "..", "...", "?", "??", "?.", "!", "-", "+", "*", "&&", "||", "1", "2.5", "30s", "4GiB", "5x", "\"s\"", "\"~{", "\"",
      "~{", "re\"x\"", "re\"", "<<~SH\n", "\nSH\n", "<<~", "\n", "\r\n", "# c\n", "## d\n", "parse_json(", "Int", "List<", "\\", "'", "$", "\xC3\xA9", "\xFF", "_"};
  std::mt19937 random(20240607);
  for (int round = 0; round < 4000; ++round) {
    std::string text;
    const size_t length = 1 + random() % 60;
    for (size_t i = 0; i < length; ++i) {
      text += kTokens[random() % std::size(kTokens)];
      if (random() % 3 != 0) text += ' ';
    }
    Parsed parsed(text);
    ExpectSound(parsed);
    DumpAst(parsed.file, parsed.sources);
    if (HasFatalFailure() || HasNonfatalFailure()) FAIL() << text;
  }
}

TEST(Garbage, MutatedSamplesNeverBreakAPromise) {
  std::mt19937 random(7);
  for (const char* name : {"1_hello.job", "2_etl.job", "3_cohort.job", "4_train.job", "5_modules.job"}) {
    std::ifstream in(std::string("tests/golden/samples/") + name);
    std::stringstream buffer;
    buffer << in.rdbuf();
    const std::string sample = buffer.str();
    ASSERT_FALSE(sample.empty());
    for (int round = 0; round < 250; ++round) {
      std::string text = sample;
      const size_t edits = 1 + random() % 4;
      for (size_t i = 0; i < edits && !text.empty(); ++i) {
        const size_t at = random() % text.size();
        switch (random() % 5) {
          case 0: text.erase(at, 1 + random() % 8); break;
          case 1: text[at] = static_cast<char>(random()); break;
          case 2: text.insert(at, 1, "(){}[]\"~<>=,:\n#\\"[random() % 16]); break;
          case 3: text.insert(at, text.substr(random() % text.size(), random() % 30)); break;
          default: text.resize(at); break;
        }
      }
      Parsed parsed(text);
      ExpectSound(parsed);
      DumpAst(parsed.file, parsed.sources);
      if (HasFatalFailure() || HasNonfatalFailure()) FAIL() << text;
    }
  }
}

TEST(Garbage, EveryPrefixOfASampleIsHandled) {
  std::ifstream in("tests/golden/samples/3_cohort.job");
  std::stringstream buffer;
  buffer << in.rdbuf();
  const std::string sample = buffer.str();
  for (size_t length = 0; length < sample.size(); length += 2) {
    Parsed parsed(sample.substr(0, length));
    ExpectSound(parsed);
    EXPECT_LE(parsed.diags.all().size(), 2u) << length;  // one fault, and what is open around it
  }
}

}  // namespace
}  // namespace jobc
