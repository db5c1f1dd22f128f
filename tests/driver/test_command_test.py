"""`jobc test`: what a test can say, what its failures look like, and that no process is ever started."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

JOBC = os.path.abspath(sys.argv.pop(1))

COUNT = '''edition = 1
params { titles: List<String> = ["a", "b"], limit: Int(1..) = 10 }
secret token = env("A_TOKEN_THAT_NOBODY_SETS")
job count {
  for t in params.titles key t
  input { text: File = "texts/~{t}.txt" }
  env { TOKEN = token }
  timeout { run = 1h }
  retry { max_attempts = 3, on = [network, timeout], on oom { retries = 1 } }
  errors { stderr(re"No space") => data("full", "the disk is full"), exit(3) => success }
  on_error = continue
  run = ["touch", "MARK", input.text, output.table]
  output { table: File = "~{t}.txt", rows: Int(0..), size: Bytes = size(input.text) }
}
check few { require sum([for c in count[*] : c.rows]) <= params.limit else "~{sum([for c in count[*] : c.rows])} rows" }
job report {
  after = [few]
  when = count["a"].rows > 0
  run = ["report", ...count[*].table]
  output { lines: Int = length(lines(stdout())) }
}
finally tell { run = ["mail"] }
export { rows: Int = sum([for c in count[*] : c.rows]), lines: Int? = report.lines }
publish "out" { "tables/" = count[*].table }
'''


class Test(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="jobc-test-")
        self.addCleanup(directory.cleanup)
        self.at = pathlib.Path(directory.name)
        (self.at / "count.job").write_text(COUNT.replace("MARK", str(self.at / "mark")))

    def run_jobc(self, *arguments, code=0):
        env = {**os.environ, "TMPDIR": str(self.at / "tmp"), "NO_COLOR": "1", "COLUMNS": "140"}
        (self.at / "tmp").mkdir(exist_ok=True)
        done = subprocess.run([JOBC, *arguments], cwd=self.at, capture_output=True, text=True, timeout=60, env=env)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertFalse((self.at / "mark").exists(), "a process was started")
        self.assertEqual(list((self.at / "tmp").iterdir()), [], "something was left behind")
        return done

    def write_tests(self, body, code=0, arguments=(), name="count_test.job"):
        (self.at / name).write_text("edition = 1\n" + body)
        return self.run_jobc("test", *arguments, code=code)

    def fails(self, body, *parts):
        """One test that fails with all of these parts in its report."""
        done = self.write_tests('test "x" {' + body + "}", code=10)
        self.assertIn("0 passed, 1 failed", done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)
        return done.stderr

    GOOD = 'mock count { result = { rows = 3 }, files { table = "" } } mock report { stdout = "x\\ny\\n" }'

    def test_all_that_can_be_expected(self):
        done = self.write_tests('test "x" {' + self.GOOD + '''
          expect plan {
            instances = ["report", "count[\\"b\\"]", "count[\\"a\\"]"]
            count count = 2
            argv report = ["report", "a.txt", "b.txt"]
          }
          expect {
            status = succeeded, state count = succeeded, state few = succeeded, state report = succeeded, state tell = succeeded
            export rows = 6, export lines = 2, attempts count["a"] = 1
            outputs count["a"] = { rows = 3, table = "a.txt", size = 0B }
            published = ["out/tables/b.txt", "out/tables/a.txt"]
          } }''')
        self.assertIn("1 passed", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_every_expectation_can_fail(self):
        for body, parts in {
            "expect { status = failed }": ("the run succeeded", "expected failed, found succeeded"),
            "expect { state report = skipped }": ("`report` is succeeded", "expected skipped, found succeeded"),
            "expect { export rows = 7 }": ("the export `rows` is not as expected", "expected 7, found 6"),
            "expect { attempts count[\"a\"] = 2 }": ("had 1 attempt", "expected 2, found 1"),
            "expect { error count[\"a\"] = oom }": ("is succeeded, and nothing says why",),
            "expect { message few = \"x\" }": ("nothing says why",),
            "expect { outputs count[\"a\"] = { rows = 4 } }": ("the outputs of `count[\"a\"]` are not as expected", "at /rows: expected 4, found 3"),
            "expect { published = [\"out/a\"] }": ("missing: [\"out/a\"]", "not expected: [\"out/tables/a.txt\", \"out/tables/b.txt\"]"),
            "expect plan { count count = 3 }": ("has 2 instances", "expected 3, found 2"),
            "expect plan { instances = [] }": ("not expected:",),
            "expect plan { argv report = [\"report\", \"b.txt\"] }": ("word 2: expected \"b.txt\", found \"a.txt\"",),
            "expect plan { error = \"E304\" }": ("there is a plan, without an error E304",),
            "expect { state count[\"z\"] = skipped }": ("`count` has no such instance", "it has count[\"a\"], count[\"b\"]"),
        }.items():
            with self.subTest(body):
                report = self.fails(self.GOOD + body, *parts)
                self.assertIn("--> count_test.job:2:", report)

    def test_retries_and_times_are_those_of_a_run(self):
        self.write_tests('''
          test "a" { params { titles = ["a"] }
            mock count { fail = [network, network], result = { rows = 0 }, files { table = "" } }
            expect { attempts count["a"] = 3, state count = succeeded, state report = skipped, export lines = null } }
          test "b" { params { titles = ["a"] } mock count { fail = oom } expect { attempts count["a"] = 2, error count = oom, state few = blocked } }
          test "c" { params { titles = ["a"] }
            mock count { takes = 2h, result = { rows = 0 }, files { table = "" } }
            expect { attempts count["a"] = 3, error count["a"] = timeout, message count["a"] = "1h", status = failed } }
          test "d" { params { titles = ["a"] }
            mock count { exit = 9, stderr = "x\\nNo space left\\n" } expect { error count["a"] = "full", attempts count["a"] = 1 } }
          test "e" { params { titles = ["a"] } mock count { exit = 9 } expect { error count["a"] = exit, message count["a"] = "9" } }
          test "f" { mock count { result = { rows = 6 }, files { table = "" } } expect { state few = failed, message few = "12 rows", state report = blocked, published = [] } }
          test "g" { mock count["a"] { fail = network } mock count { result = { rows = 1 }, files { table = "" } }
            expect { state count["b"] = succeeded, state count["a"] = failed, export rows = null } }
        ''')

    def test_skipping(self):
        self.write_tests('test "x" { mock count { result = { rows = 3 }, files { table = "" } } mock report { skip } expect { status = succeeded, state report = skipped, export lines = null } }')
        self.assertIn("it has no `when`", self.write_tests('test "x" { mock count { skip } expect { status = failed } }', code=3).stderr)
        (self.at / "s.job").write_text('''edition = 1
          job j { for i in range(3) matrix { m = ["x", "y"] } when = i >= 0 run = ["true"] }
          test "x" { mock j { exit = 0 } mock j[1, "y"] { skip } expect { state j[1, "y"] = skipped, state j[1, "x"] = succeeded, state j[0, "y"] = succeeded } }''')
        self.run_jobc("test", "s.job")

    def test_what_no_mock_says_is_an_error_with_what_to_type(self):
        self.fails('mock count { result = { rows = 3 }, files { table = "" } } expect { status = succeeded }', "nothing says what `report` does", "add:  mock report {")
        self.fails('mock count["z"] { fail = oom } ' + self.GOOD + 'expect { status = succeeded }', "`count` has no such instance")
        report = self.fails('mock count { result = { rows = 3 }, files { "c.txt" = "" } } expect { status = succeeded }', "leaves no outputs as declared", "a.txt")
        self.assertNotIn("error[", report)

    def test_a_mock_that_does_not_fit_is_a_compile_error(self):
        done = self.write_tests('test "x" { mock count { result = { rows = "three" }, files { table = "" } } expect { status = failed } }', code=3)
        self.assertIn("error[E201]: the mock does not fit the output `rows: Int(0..)`", done.stderr)
        check = self.run_jobc("check", code=3)
        self.assertEqual(check.stderr, done.stderr)

    def test_parameters_are_checked_and_the_environment_is_not_looked_at(self):
        os.environ["JOB_PARAM_limit"] = "1"
        self.addCleanup(os.environ.pop, "JOB_PARAM_limit")
        self.write_tests('test "x" {' + self.GOOD + "expect { state few = succeeded } }")
        self.assertIn("E203", self.write_tests('test "x" { params { limit = 0 } expect plan { count count = 2 } }', code=3).stderr)
        self.fails('params { titles = ["a", "a"] } expect plan { count count = 2 }', "there is no plan with these parameters", "because of E304", "error[E304]")
        self.write_tests('test "x" { params { titles = ["a", "a"] } expect plan { error = "E304" } }')
        self.fails('params { titles = ["a", "a"] } expect plan { error = "E203" }', "expected E203, found E304")

    def test_where_tests_are_found(self):
        self.assertIn("there is no test in the .job files", self.run_jobc("test", code=2).stderr)
        self.write_tests('test "one" {' + self.GOOD + 'expect { status = succeeded } } test "two" {' + self.GOOD + "expect { status = succeeded } }")
        self.assertIn("2 passed", self.run_jobc("test", "count.job").stderr)
        self.assertIn("2 passed", self.run_jobc("test", ".").stderr)
        self.assertIn("1 passed", self.run_jobc("test", "--filter", "^tw").stderr)
        self.assertIn("no test has a name that matches `three`", self.run_jobc("test", "--filter", "three", code=2).stderr)
        self.assertIn("no regular expression", self.run_jobc("test", "--filter", "(", code=2).stderr)
        with (self.at / "count.job").open("a") as file:
            file.write('test "inside" {' + self.GOOD + "expect { status = succeeded } }\n")
        self.assertIn("3 passed", self.run_jobc("test", "count.job").stderr.replace("2 passed", ""))
        # The plan of a file does not depend on its tests.
        self.run_jobc("check", "count.job")

    def test_a_test_file_sees_the_names_of_the_file_it_is_about(self):
        (self.at / "m.job").write_text("edition = 1\nenum Mode { fast, slow }\nlet n = 3\nparams { m: Mode = Mode.fast }\njob j { run = [\"x\", params.m] }\n")
        self.write_tests('let own = "slow"\ntest "x" { params { m = Mode.slow } expect plan { argv j = ["x", own] } }', name="m_test.job", arguments=["m_test.job"])
        done = self.write_tests('let n = 4\ntest "x" { expect plan { count j = n } }', name="m_test.job", arguments=["m_test.job"], code=3)
        self.assertIn("`n` is declared twice", done.stderr)
        done = self.write_tests('test "x" { expect plan { count j = 1 } }', name="other_test.job", arguments=["other_test.job"], code=3)
        self.assertIn('cannot import "other.job": there is no such file', done.stderr)

    def test_a_fault_of_the_tested_file_is_told_once(self):
        (self.at / "m.job").write_text("edition = 1\njob j { run = [nothing] }\n")
        (self.at / "m_test.job").write_text('edition = 1\ntest "x" { mock j { exit = 0 } expect { status = succeeded } }\n')
        for command in "check", "test":
            done = self.run_jobc(command, "m.job", "m_test.job", code=3)
            self.assertEqual(done.stderr.count("no value named `nothing`"), 1, done.stderr)

    def test_json_and_junit(self):
        body = 'test "good" {' + self.GOOD + 'expect { status = succeeded } } test "bad <&>" {' + self.GOOD + "expect { status = failed } }"
        done = self.write_tests(body, code=10, arguments=["--json", "--junit", "report.xml"])
        report = json.loads(done.stdout)
        self.assertEqual((report["schema"], report["summary"]), ("jobc.tests/1", {"passed": 1, "failed": 1}))
        self.assertEqual([t["passed"] for t in report["tests"]], [True, False])
        self.assertEqual(report["tests"][1]["failures"][0]["label"], "expected failed, found succeeded")
        suite = xml.parse(self.at / "report.xml").getroot()[0]
        self.assertEqual((suite.get("tests"), suite.get("failures")), ("2", "1"))
        self.assertEqual(suite[1].get("name"), "bad <&>")
        self.assertIn("expected failed", suite[1][0].text)
        self.write_tests(body, code=15, arguments=["--junit", "nowhere/report.xml"])

    def test_modules_and_dynamic_scatters(self):
        (self.at / "part.job").write_text('edition = 1\nparams { n: Int }\njob one { run = ["x", params.n], output { v: Int } }\nexport { v: Int = one.v }\n')
        (self.at / "d.job").write_text('''edition = 1
          import "./part.job" as part
          job list { run = ["x"], output { keys: List<String> } }
          job each { for k in list.keys key k max 3 run = ["x", k], output { n: Int } }
          module m = part { n = sum([for e in each[*] : e.n]) }
          export { v: Int = m.v }
          test "x" {
            mock list { result = { keys = ["p", "q"] } } mock each { result = { n = 2 } } mock m.one { result = { v = 7 } }
            expect plan { count each = 2, argv m.one = ["x", "4"] } expect { export v = 7 }
          }
          test "too many" {
            mock list { result = { keys = ["p", "q", "r", "s"] } }
            expect { status = failed, state each = failed, error each = expression }
          }''')
        self.run_jobc("test", "d.job")


if __name__ == "__main__":
    unittest.main()
