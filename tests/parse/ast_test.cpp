// Expressions, types and each declaration as the AST shows them.
#include <fstream>
#include <sstream>

#include "tests/parse/parse_fixture.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string AstOf(std::string text) {
  Parsed parsed(std::move(text));
  EXPECT_THAT(parsed.Faults(), IsEmpty());
  return parsed.Ast();
}

TEST(Expressions, BindAsTheLanguagePageSays) {
  EXPECT_EQ(ExprOf("1 + 2 * 3"), "(+ 1 (* 2 3))");
  EXPECT_EQ(ExprOf("1 - 2 - 3"), "(- (- 1 2) 3)");
  EXPECT_EQ(ExprOf("8 / 4 % 3"), "(% (/ 8 4) 3)");
  EXPECT_EQ(ExprOf("a ?? b ?? c"), "(?? a (?? b c))");
  EXPECT_EQ(ExprOf("a ?? b + c"), "(?? a (+ b c))");
  EXPECT_EQ(ExprOf("a ?? b == c"), "(== (?? a b) c)");
  EXPECT_EQ(ExprOf("x in 1 .. n + 1"), "(in x (.. 1 (+ n 1)))");
  EXPECT_EQ(ExprOf("1..a ?? 2"), "(.. 1 (?? a 2))");
  EXPECT_EQ(ExprOf("a == 1 && b < 2 || c"), "(|| (&& (== a 1) (< b 2)) c)");
  EXPECT_EQ(ExprOf("a || b && c"), "(|| a (&& b c))");
  EXPECT_EQ(ExprOf("!a.ok && -b[0] < 1"), "(&& (! (. a ok)) (< (neg (index b 0)) 1))");
  EXPECT_EQ(ExprOf("!!a"), "(! (! a))");
  EXPECT_EQ(ExprOf("(a + b) * c"), "(* (paren (+ a b)) c)");
  EXPECT_EQ(ExprOf("a != b"), "(!= a b)");
  EXPECT_EQ(ExprOf("a >= b"), "(>= a b)");
}

TEST(Expressions, ComparisonsAndRangesDoNotChain) {
  EXPECT_EQ(FaultOf("a < b < c"), "E010 `<` cannot follow `<` without parentheses");
  EXPECT_EQ(FaultOf("a == b in c"), "E010 `in` cannot follow `==` without parentheses");
  EXPECT_EQ(FaultOf("1..2..3"), "E010 `..` cannot follow `..` without parentheses");
}

TEST(Expressions, IfReachesAsFarRightAsItCan) {
  EXPECT_EQ(ExprOf("if a then 1 else 2 + 3"), "(if a 1 (+ 2 3))");
  EXPECT_EQ(ExprOf("1 + if a then 1 else if b then 2 else 3"), "(+ 1 (if a 1 (if b 2 3)))");
  EXPECT_EQ(ExprOf("[...if a then b else c, d]"), "(list ...(if a b c) d)");
}

TEST(Expressions, PostfixFormsChain) {
  EXPECT_EQ(ExprOf("a.b?.c[0][*].match(x, n = 1, ...ys)"),
            "(call (. (index (index (?. (. a b) c) 0) *) match) x n=1 ...ys)");
  EXPECT_EQ(ExprOf("j[\"s\", 2, *].for"), "(. (index j \"s\" 2 *) for)");
  EXPECT_EQ(ExprOf("f()"), "(call f)");
  EXPECT_EQ(ExprOf("f(if = 1,)"), "(call f if=1)");
}

TEST(Expressions, ListsMapsAndComprehensions) {
  EXPECT_EQ(ExprOf("[1, 2,]"), "(list 1 2)");
  EXPECT_EQ(ExprOf("[]"), "(list)");
  EXPECT_EQ(ExprOf("{}"), "(map)");
  EXPECT_EQ(ExprOf("{k = 1, \"a b\" = 2, [f(x)] = 3, 7 = 4, in = 5}"), R"((map "k"=1 "a b"=2 (call f x)=3 7=4 "in"=5))");
  EXPECT_EQ(ExprOf("[for x in xs if x > 1 : x * 2]"), "(list-for x xs (> x 1) (* x 2))");
  EXPECT_EQ(ExprOf("[for i, x in xs : ...x]"), "(list-for i x xs _ ... x)");
  EXPECT_EQ(ExprOf("{for k, v in m : [k] = v}"), "(map-for k v m _ k v)");
}

TEST(Expressions, ConstructorsNeedNoSeparators) {
  EXPECT_EQ(ExprOf("Sample { id = \"a\" r1 = \"b\"; r2 = c, }"), R"((new Sample id="a" r1="b" r2=c))");
  EXPECT_EQ(ExprOf("cloud_run { project = \"p\" }"), R"((new cloud_run project="p"))");
  EXPECT_EQ(ExprOf("qc.Sample {}"), "(new (. qc Sample))");
  EXPECT_EQ(FaultOf("5m { a = 1 }"), "E010 only a name can stand before `{`, not this");
}

TEST(Expressions, TheSubjectOfAMatchIsNoConstructor) {
  EXPECT_EQ(ExprOf("match m { Mode.full => 1, _ => X { a = 2 } }"), "(match m (. Mode full)=>1 _=>(new X a=2))");
  EXPECT_EQ(ExprOf("match (X { a = 1 }) { y => 2, }"), "(match (paren (new X a=1)) y=>2)");
  EXPECT_EQ(ExprOf("match f(X { a = 1 }) { y => 2 }"), "(match (call f (new X a=1)) y=>2)");
}

TEST(Expressions, TakeTypesAfterFunctionsThatWantThem) {
  EXPECT_EQ(ExprOf("parse_json(s, List<Int(0..)>?)"), "(call parse_json s List<Int((.. 0 _))>?)");
  EXPECT_EQ(ExprOf("read_json(\"p\", Map<String, qc.T>)"), R"((call read_json "p" Map<String, qc.T>))");
  EXPECT_EQ(ExprOf("decode(j.x, Int)"), "(call decode (. j x) Int)");
  EXPECT_EQ(ExprOf("decode + 1"), "(+ decode 1)");
  EXPECT_EQ(FaultOf("decode(j, 1 + 2)"), "E010 expected a type, found `1`");
}

TEST(Expressions, HalfOpenRangesStandInTypesAndExitOnly) {
  EXPECT_EQ(AstOf("x: Int(..64)\n"), "1:1 field x: Int((.. _ 64))\n");
  EXPECT_EQ(AstOf("errors { exit(1..) => oom }\n"), "1:1 block errors\n  1:10 arm (call exit (.. 1 _)) => oom\n");
  EXPECT_EQ(FaultOf("(1..)"), "E010 this range has no end");
  EXPECT_EQ(FaultOf("f(..2)"), "E010 this range has no beginning");
  EXPECT_EQ(FaultOf("..2"), "E010 this range has no beginning");
  EXPECT_EQ(FaultOf("[1..]"), "E010 expected a value after `..`, found `]`");
}

TEST(Expressions, KnowWhereTheyStand) {
  Parsed parsed("x = foo.bar + f( 1 ) # end\n");
  const ast::Expr& sum = parsed.file[parsed.file[*parsed.file.begin(parsed.file.root)].value];
  EXPECT_EQ(parsed.Text(sum.span), "foo.bar + f( 1 )");
  EXPECT_EQ(parsed.Text(sum.op_span), "+");
  EXPECT_EQ(parsed.Text(parsed.file[parsed.file.child(sum, 0)].op_span), "bar");
  EXPECT_EQ(parsed.Text(parsed.file[parsed.file.child(sum, 1)].span), "f( 1 )");
}

TEST(Types, HaveArgumentsRefinementsAndOptionality) {
  EXPECT_EQ(AstOf("x: List<Map<String, qc.T?>>(length(it) > 0)?\n"), "1:1 field x: List<Map<String, qc.T?>>((> (call length it) 0))?\n");
  EXPECT_EQ(AstOf("x: String(re\"[a-z]+\") = \"a\"\n"), "1:1 field x: String((re \"[a-z]+\")) = \"a\"\n");
  EXPECT_EQ(Parsed("x: Int??\n").Faults().size(), 1u);
}

TEST(Items, EachDeclaration) {
  EXPECT_EQ(AstOf(R"(edition = 1
import "./lib/qc.job" as qc
let pi: Float = 3.0
let two = 2
fn add(a: Int, b: List<Int>) -> Int? = a
secret token = env("TOKEN")
enum Mode { full, incremental }
open struct Bag { id: String, n: Int = 1 }
type Id = String(re"x+")
module q = lib.qc { table = merge.table }
require two > 1 else "no"
pool gpu { slots = 2 }
publish "results" { "vcf/" = x }
)"),
            R"(1:1 attr edition = 1
2:1 import qc "./lib/qc.job"
3:1 let pi: Float = 3.0
4:1 let two = 2
5:1 fn add (a: Int, b: List<Int>) -> Int? = a
6:1 secret token = (call env "TOKEN")
7:1 enum Mode
  7:13 case full
  7:19 case incremental
8:1 block open struct Bag
  8:19 field id: String
  8:31 field n: Int = 1
9:1 type Id = String((re "x+"))
10:1 module q = lib.qc
  10:21 attr table = (. merge table)
11:1 require (> two 1) else "no"
12:1 block pool gpu
  12:12 attr slots = 2
13:1 block publish "results"
  13:21 attr "vcf/" = x
)");
}

TEST(Items, LabelsOfBlocks) {
  EXPECT_EQ(AstOf(R"(job j uses py.script { }
hook on failure { }
profile local default { }
mock align["s1", 2] { skip }
template t uses b { }
job somatic { on "bad-input" { } on = [network] }
)"),
            R"(1:1 block job j uses py.script
2:1 block hook on failure
3:1 block profile local default
4:1 block mock align["s1", 2]
  4:23 attr skip = true
5:1 block template t uses b
6:1 block job somatic
  6:15 block on "bad-input"
  6:34 attr on = (list network)
)");
}

TEST(Items, FormsOfTests) {
  EXPECT_EQ(AstOf(R"(test "n" {
  params { day = "x" } profile = p
  mock align["s1"] { fail = oom } mock b { files { bam = "x" } result = { rows = 1 } }
  expect plan { instances = ["a"], argv align["s1"] = ["x"] }
  expect { status = succeeded, export x = 1, state job = failed }
})"),
            R"(1:1 block test "n"
  2:3 block params
    2:12 attr day = "x"
  2:24 attr profile = p
  3:3 block mock align["s1"]
    3:22 attr fail = oom
  3:35 block mock b
    3:44 block files
      3:52 attr bam = "x"
    3:64 attr result = (map "rows"=1)
  4:3 block expect plan
    4:17 attr instances = (list "a")
    4:36 attr argv align["s1"] = (list "x")
  5:3 block expect
    5:12 attr status = succeeded
    5:32 attr export x = 1
    5:46 attr state job = failed
)");
}

TEST(Items, ArmsOfErrors) {
  EXPECT_EQ(AstOf(R"(errors {
  exit(64..78) && !stderr(re"x") => data("n", "t")
  !exit(0) => oom
  signal(SIGSEGV) => algorithm("segfault")
})"),
            R"(1:1 block errors
  2:3 arm (&& (call exit (.. 64 78)) (! (call stderr (re "x")))) => (call data "n" "t")
  3:3 arm (! (call exit 0)) => oom
  4:3 arm (call signal SIGSEGV) => (call algorithm "segfault")
)");
}

TEST(Items, ForWithKeyAndMax) {
  EXPECT_EQ(AstOf("job a { for k, v in m key k max n matrix { } }\n"), "1:1 block job a\n  1:9 for k, v in m key k max n\n  1:35 block matrix\n");
  EXPECT_EQ(AstOf("job a { for k in m\n key = 1 max = 2 }\n"), "1:1 block job a\n  1:9 for k in m\n  2:2 attr key = 1\n  2:10 attr max = 2\n");
}

TEST(Items, WordsAreKeywordsOnlyWhereTheyFit) {
  EXPECT_EQ(AstOf("type = 1 let: Int import = 2 for = 3 if: Bool module = 4 require = 5 fn = 6\n"),
            "1:1 attr type = 1\n1:10 field let: Int\n1:19 attr import = 2\n1:30 attr for = 3\n1:38 field if: Bool\n"
            "1:47 attr module = 4\n1:58 attr require = 5\n1:70 attr fn = 6\n");
  EXPECT_EQ(ExprOf("job.type + secret(key, max) + let"), "(+ (+ (. job type) (call secret key max)) let)");
  EXPECT_THAT(Parsed("key { a = 1 }\n").Faults(), ElementsAre("1:1 E010 a block cannot be named `key`"));
  EXPECT_THAT(Parsed("let then = 1\n").Faults().size(), 1u);
}

TEST(Items, SeparatorsAreOptional) {
  EXPECT_EQ(AstOf("a = 1 b = 2, c = 3; d { } ; ,e = 4\nf\n=\n5"),
            "1:1 attr a = 1\n1:7 attr b = 2\n1:14 attr c = 3\n1:21 block d\n1:30 attr e = 4\n2:1 attr f = 5\n");
}

TEST(Comments, DocCommentsBelongToTheNextItem) {
  Parsed parsed("## A job.\n##   Second line.\n# plain\njob a {\n  x = 1 ## of y\n  y = 2\n  ## of nothing\n}\n");
  ASSERT_THAT(parsed.Faults(), IsEmpty());
  EXPECT_EQ(parsed.Ast(),
            "4:1 block job a  ## \"A job.\\n  Second line.\"\n  5:3 attr x = 1\n  6:3 attr y = 2  ## \"of y\"\n");
  ASSERT_EQ(parsed.file.dangling_docs.size(), 1u);
  EXPECT_EQ(parsed.Text(parsed.file.dangling_docs[0]), "## of nothing");
  ASSERT_EQ(parsed.file.comments.size(), 5u);
  EXPECT_EQ(parsed.Text(parsed.file.comments[2].span), "# plain");
}

TEST(Comments, AreNoCommentsInsideOfTexts) {
  Parsed parsed("x = \"a # b\" y = <<~SH\n  # c\nSH\n");
  EXPECT_TRUE(parsed.file.comments.empty());
}

TEST(Sources, MayBeginWithAByteOrderMarkAndEndLinesWithCrlf) {
  EXPECT_EQ(AstOf("\xEF\xBB\xBF" "a = 1\r\nb = 2 # c\r\n"), "1:2 attr a = 1\n2:1 attr b = 2\n");
  EXPECT_EQ(AstOf(""), "");
}

// The fenced blocks of the language page that are fragments, completed by hand.
TEST(Fragments, OfTheLanguagePageParse) {
  for (const char* text : {R"job(job align {
  ## Aligns one sample.
  for s in params.samples key s.id max 500      # one instance a sample: align["s1"]
  matrix { caller = ["m", "s"], ploidy = [2, 4], exclude = [{ caller = "s", ploidy = 4 }] }
  when = s.tumor && qc[s.id].ok                 # else the instance is skipped and its outputs are null
  after = [prepare, other.done, third.failed]   # order without data; bare = succeeded
  input  { r1: File = s.r1, n: Int = 3 }        # files are staged read-only at $JOB_INPUT/<name>/<basename>
  env    { LANG = "C.UTF-8", TOKEN = token }
  image = "ghcr.io/acme/bwa@sha256:…"
  resources { cpu = 8, memory = 16GiB, disk = 3 * size(input.r1) + 50GiB, gpu = 0, spot = true }
  pools = { aligner = 1 }                       # slots taken while it runs
  priority = 10                                 # -100..100, mapped per backend
  timeout { queue = 12h, run = 6h, total = 2d, idle = 10m }   # idle: no output for so long
  errors  { exit(1) => oom }  retry { max_attempts = 2 }  on_error = drain
  run = ["bwa", "mem", "-t", resources.cpu, input.r1, "-o", output.bam]
  script = <<~BASH
    true
  BASH
                        # or: exactly one of run, script
  prologue = <<~BASH
    true
  BASH
                      # in the job's environment, before it (module load …)
  epilogue = <<~BASH
    true
  BASH
                      # always after it; sees $JOB_EXIT
  cache = false                                 # true: a result with equal keys from any earlier run is reused
  labels { team = "seq" }
  output { bam: File = "~{s.id}.bam", rows: Int(0..) }
}
)job",
                           R"job(errors {                                        # facts -> kind; first match wins; before the built-in mapping
  exit(137)                      => oom
  exit(64..78)                   => data("bad-input", "the input is malformed")     # a named error of class data
  stderr(re"CUDA out of memory") => oom
  signal(SIGSEGV)                => algorithm("segfault")
}
retry {
  max_attempts = 6                              # required, finite, counts the first try
  backoff = exponential(30s, factor = 2.0, max = 10m, jitter = full)   # or constant(d), linear(d, max = d)
  on = [network, preempted]                     # short form: these kinds, names or classes (system, algorithm, data)
  on oom       { retries = 3, resources { memory = min(prev.memory * 2, 96GiB) } }
  on preempted { retries = 5, delay = 0s }
  on timeout   { retries = 1, timeout { run = min(prev.timeout.run * 2, 12h) } }
  never = [data, auth]
}
on_error = drain                                # this job's strategy
)job",
                           R"job(profile local default { backend = process { max_parallel = 4 } }
profile cloud {
  staging = "gs://acme-staging/jobc"
  backend = cloud_run { project = "acme", region = "europe-west1" }
  job train { backend = vertex { machine = "n1-standard-8", accelerator = "NVIDIA_TESLA_T4" }, timeout { run = 4h } }
}
)job"}) {
    Parsed parsed(text);
    EXPECT_THAT(parsed.Faults(), IsEmpty());
    EXPECT_GE(parsed.file.items.size(), 9u);
  }
}

class Samples : public ::testing::TestWithParam<const char*> {};
TEST_P(Samples, ParseWithoutAFault) {
  std::ifstream in(std::string("tests/golden/samples/") + GetParam());
  std::stringstream text;
  text << in.rdbuf();
  ASSERT_FALSE(text.str().empty());
  Parsed parsed(text.str());
  EXPECT_THAT(parsed.Faults(), IsEmpty());
  EXPECT_THAT(parsed.Ast(), ::testing::Not(::testing::HasSubstr("<error>")));
  Diagnostics diags;
  const std::string tree = DumpParseTree(parsed.source, parsed.sources, diags);
  EXPECT_THAT(tree, ::testing::StartsWith("File 1:1\n  Attr 1:1\n    Word 1:1 `edition`\n    Number 1:11 `1`\n"));
  // Line breaks mean nothing outside of strings, heredocs and comments: the CRLF form is the same tree.
  std::string crlf;
  for (char c : text.str()) crlf += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(Parsed(crlf).Ast(), parsed.Ast());
}
INSTANTIATE_TEST_SUITE_P(All, Samples,
                         ::testing::Values("1_hello.job", "2_etl.job", "3_cohort.job", "4_train.job", "5_modules.job", "lib/qc.job"));

}  // namespace
}  // namespace jobc
