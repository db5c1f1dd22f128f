// Globs, masking, and values through the journal's JSON; the capture of outputs is tested by whole runs in engine_test.
#include "runtime/results.h"

#include "runtime/glob.h"
#include "runtime/masking.h"
#include "tests/engine/run_fixture_files.h"
#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::PlanBuilder;
using testing::TempDir;

struct GlobCase {
  const char* pattern;
  const char* path;
  bool matches;
};

TEST(Globs, MatchPaths) {
  const GlobCase cases[] = {
      {"*", "a", true}, {"*", ".a", false}, {".*", ".a", true}, {"*", "a/b", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
      {"?", "ä", true}, {"?", ".", false}, {"*.txt", ".txt", false}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false},
      {"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[!a]x", "bx", true}, {"[^a]x", "ax", false}, {"[]]", "]", true}, {"[a-]", "-", true},
      {"[.]a", ".a", false}, {"{a,b}.txt", "b.txt", true}, {"{a,b}.txt", "c.txt", false}, {"{a,{b,c}d}", "cd", true}, {"x{,y}", "x", true},
      {"**", "a/b/c", true}, {"**/x", "x", true}, {"**/x", "a/b/x", true}, {"**/x", ".a/x", false}, {"a/**/b", "a/b", true},
      {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/y", false}, {"a**b", "axxb", true}, {"a**b", "a/b", false}, {"./a", "a", true},
      {"part-*.parquet", "part-0.parquet", true}, {"*", "", false},
  };
  for (const GlobCase& one : cases) {
    auto glob = Glob::Parse(one.pattern);
    ASSERT_TRUE(glob.ok()) << one.pattern;
    EXPECT_EQ(glob->Matches(one.path), one.matches) << one.pattern << " on " << one.path;
  }
}

TEST(Globs, TakeNoExponentialTime) {
  auto glob = Glob::Parse("*a*a*a*a*a*a*a*a*a*a*a*a*b");
  ASSERT_TRUE(glob.ok());
  EXPECT_FALSE(glob->Matches(std::string(5000, 'a')));
}

TEST(Globs, SayWhatIsWrongWithThem) {
  EXPECT_THAT(Glob::Parse("").error().message, HasSubstr("empty"));
  EXPECT_THAT(Glob::Parse("/etc/*").error().message, HasSubstr("relative"));
  EXPECT_THAT(Glob::Parse("a/../b").error().message, HasSubstr("`..`"));
  EXPECT_THAT(Glob::Parse("a[b").error().message, HasSubstr("not closed"));
  EXPECT_THAT(Glob::Parse("a{b").error().message, HasSubstr("not closed"));
  std::string many;
  for (int i = 0; i < 12; ++i) {
    many += "{a,b}";
  }
  EXPECT_THAT(Glob::Parse(many).error().message, HasSubstr("alternatives"));
}

TEST(Globs, FindFilesInByteOrderAndEachOnce) {
  TempDir dir;
  for (const char* name : {"b.txt", "a.txt", "Z.txt", "ä.txt", ".hidden.txt", "sub/c.txt", "sub/deep/d.txt", ".git/e.txt"}) {
    dir.Write(name, "x");
  }
  ASSERT_EQ(symlink("..", (dir / "sub/loop").c_str()), 0);
  auto find = [&](const char* pattern, bool directories = false) { return *Glob::Parse(pattern)->Find(dir.path(), directories); };
  EXPECT_THAT(find("*.txt"), ElementsAre("Z.txt", "a.txt", "b.txt", "ä.txt"));
  EXPECT_THAT(find("{a,*}.txt"), ElementsAre("Z.txt", "a.txt", "b.txt", "ä.txt"));
  EXPECT_THAT(find("**/*.txt"), ElementsAre("Z.txt", "a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "ä.txt"));
  EXPECT_THAT(find("sub/c.txt"), ElementsAre("sub/c.txt"));
  EXPECT_THAT(find("*", true), ElementsAre("sub"));
  EXPECT_THAT(find("none*"), IsEmpty());
}

TEST(Masking, HidesTheValueItsLinesAndItsEncodedForms) {
  Masker masker({"correct horse/battery", "short"});
  EXPECT_EQ(masker.Mask("x correct horse/battery y"), "x *** y");
  EXPECT_EQ(masker.Mask("correct%20horse%2Fbattery"), "***");
  EXPECT_EQ(masker.Mask("short stays"), "short stays");
  Masker lines({"first line\nsecond line\nab"});
  EXPECT_EQ(lines.Mask("<second line>"), "<***>");
  EXPECT_EQ(lines.Mask("ab"), "ab");
  Masker quoted({"say \"hello\"\\"});
  EXPECT_FALSE(quoted.Contains("say hello"));
  EXPECT_TRUE(quoted.Contains(R"({"x":"say \"hello\"\\"})"));
}

TEST(Masking, LearnsFormerValues) {
  Masker masker({"later-value", "another"});
  auto former = [&](const char* now, const char* then) { return FormerSecrets(masker, now, then); };
  EXPECT_THAT(former("later-value", "former-value"), ElementsAre("former-value"));
  EXPECT_THAT(former("Bearer later-value.", "Bearer former-value."), ElementsAre("former-value"));
  EXPECT_THAT(former("later-value:another", "former-value:another"), ElementsAre("former-value"));
  EXPECT_THAT(former("later-value:another@x", "former-value:once@x"), ElementsAre("former-value", "once"));
  EXPECT_THAT(former("later-value", "later-value"), IsEmpty());
  EXPECT_THAT(former("<later-value>", "of another form"), ElementsAre("of another form"));
  EXPECT_THAT(former("<later-value>", "<"), ElementsAre("<"));
  EXPECT_THAT(former("no secret", "something else"), ElementsAre("something else"));
  EXPECT_EQ(masker.Mask("former-value"), "former-value");
  masker.Add({"former-value"});
  EXPECT_EQ(masker.Mask("former-value later-value"), "*** ***");
  Masker none;
  none.Add({"former-value"});
  EXPECT_EQ(none.Mask("former-value"), "***");
}

TEST(Masking, HidesBase64AtEveryOffset) {
  Masker masker({"secret-token-1"});
  // echo -n 'secret-token-1' | base64, and the same behind one and two other bytes.
  EXPECT_TRUE(masker.Contains("c2VjcmV0LXRva2VuLTE="));
  EXPECT_TRUE(masker.Contains("eHNlY3JldC10b2tlbi0xeQ=="));
  EXPECT_TRUE(masker.Contains("eHlzZWNyZXQtdG9rZW4tMXo="));
}

TEST(StoredOutputs, ComeBackAsTheyWere) {
  TempDir dir;
  dir.Write("outputs/j/a.txt", "12345");
  PlanBuilder b;
  uint32_t job = b.Job("j");
  b.AddOutput(job, "f", b.Type(ir::TypeKind::File));
  b.AddOutput(job, "n", b.Type(ir::TypeKind::Int));
  b.AddOutput(job, "maybe", b.types().Optional(b.Type(ir::TypeKind::String)));
  ir::FileValue file;
  file.base = ir::FileBase::Job;
  file.path = "outputs/j/a.txt";
  file.location = dir / "outputs/j/a.txt";
  auto json = EncodeOutputs(b.plan, job, {ir::Value::File(file), ir::Value::Int(INT64_MAX), ir::Value()});
  ASSERT_TRUE(json.ok()) << json.error().message;
  EXPECT_EQ(*json, R"({"f":"outputs/j/a.txt","n":9223372036854775807,"maybe":null})");
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext context;
  auto back = DecodeOutputs(b.plan, job, *json, dir.path(), evaluator, context);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ((*back)[0].as_file().location, dir / "outputs/j/a.txt");
  EXPECT_EQ((*back)[0].as_file().size, 5u);
  EXPECT_EQ((*back)[1].as_int(), INT64_MAX);
  EXPECT_TRUE((*back)[2].is_null());
  EXPECT_EQ(VerifyOutputs(*back), "");
  unlink((dir / "outputs/j/a.txt").c_str());
  EXPECT_EQ(VerifyOutputs(*back), dir / "outputs/j/a.txt");
}

}  // namespace
}  // namespace jobc
