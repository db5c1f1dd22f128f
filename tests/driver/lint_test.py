#!/usr/bin/env python3
"""`jobc lint`, `jobc fix` and `jobc init` with the real program. usage: lint_test.py JOBC"""
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

JOBC = None
ROOT = pathlib.Path(__file__).resolve().parents[2]

MESSY = """edition = 1
struct tableStats { rows: Int(0..) }
params {
  maxRows: Int = 3
}
job readRows {
  run = ["echo", params.maxRows]
  output { theStats: tableStats }
}
export { allRows: Int = readRows.theStats.rows }
"""


class InADirectory(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.directory.name)

    def tearDown(self):
        self.directory.cleanup()

    def write(self, name, text):
        (self.path / name).write_text(text)

    def jobc(self, *words):
        return subprocess.run([JOBC, *words], capture_output=True, text=True, timeout=60, cwd=self.path)

    def findings(self, *words):
        found = self.jobc("lint", "--format", "json", *words)
        return found.returncode, [(each["code"], each["message"]) for each in json.loads(found.stdout)["diagnostics"]]


class Lint(InADirectory):
    def test_style_is_found_with_the_name_to_use(self):
        self.write("f.job", MESSY)
        code, found = self.findings("f.job")
        self.assertEqual(code, 4)
        self.assertEqual([message.split("`")[1] for kind, message in found if kind == "W711"], ["tableStats", "maxRows", "readRows", "theStats", "allRows"])
        self.assertEqual([message.split("`")[1] for kind, message in found if kind == "W712"], ["maxRows"])
        text = self.jobc("lint", "f.job").stderr
        for name in ("TableStats", "max_rows", "read_rows", "the_stats", "all_rows"):
            self.assertIn(f"rename it to `{name}`", text)

    def test_a_clean_file_and_the_examples_of_the_documentation(self):
        sections = re.split(r"^## ", (ROOT / "docs/diagnostics.md").read_text(), flags=re.MULTILINE)
        for code in ("W711", "W712"):
            section = next(each for each in sections if each.startswith(code + ":"))
            wrong, right = re.findall(r"^```job\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
            self.write("wrong.job", wrong)
            self.write("right.job", right)
            exit_code, found = self.findings("wrong.job")
            self.assertEqual((exit_code, {kind for kind, _ in found}), (4, {code}))
            self.assertEqual(self.findings("right.job"), (0, []))

    def test_warnings_of_check_are_findings_and_errors_come_first(self):
        self.write("unused.job", 'edition = 1\nlet unused: Int = 1\njob a { run = ["echo", "${x}"] }\n')
        checked = self.jobc("check", "unused.job", "--format", "json")
        warned = [(each["code"], each["message"]) for each in json.loads(checked.stdout)["diagnostics"]]
        self.assertEqual((checked.returncode, self.findings("unused.job")), (0, (4 if warned else 0, warned)))
        self.write("wrong.job", "edition = 1\njob a { run = [1 }\n")
        self.assertEqual(self.jobc("lint", "wrong.job").returncode, 3)

    def test_a_comment_allows_a_finding(self):
        self.write("f.job", "edition = 1\nlet aB: Int = 1   # jobc: allow(W711, W704)\n")
        self.assertEqual(self.findings("f.job"), (0, []))

    def test_a_baseline_holds_what_is_known_wherever_it_moves(self):
        self.write("f.job", MESSY)
        written = self.jobc("lint", "f.job", "--baseline", "lint.json", "--write-baseline")
        self.assertEqual((written.returncode, written.stdout), (0, ""))
        self.assertEqual(self.findings("f.job", "--baseline", "lint.json"), (0, []))
        self.write("f.job", MESSY.replace("edition = 1\n", "edition = 1\n\n\n"))
        self.assertEqual(self.findings("f.job", "--baseline", "lint.json"), (0, []))
        self.write("f.job", MESSY + "fn newFn(i: Int) -> Int = i   # jobc: allow(W704)\n")
        code, found = self.findings("f.job", "--baseline", "lint.json")
        self.assertEqual((code, [message.split("`")[1] for _, message in found]), (4, ["newFn"]))
        self.write("f.job", MESSY.replace("allRows", "all_rows"))
        gone = self.jobc("lint", "f.job", "--baseline", "lint.json")
        self.assertEqual(gone.returncode, 0)
        self.assertIn("1 finding of the baseline is gone", gone.stderr)

    def test_a_second_finding_like_a_known_one_is_new(self):
        self.write("f.job", "edition = 1\njob a { run = [\"x\"] output { aB: Int } }\n")
        self.jobc("lint", "f.job", "--baseline", "b.json", "--write-baseline")
        self.write("f.job", "edition = 1\njob a { run = [\"x\"] output { aB: Int } }\njob b { run = [\"x\"] output { aB: Int } }\n")
        code, found = self.findings("f.job", "--baseline", "b.json")
        self.assertEqual((code, len(found)), (4, 1))

    def test_a_baseline_that_is_none_is_refused(self):
        self.write("f.job", MESSY)
        for text in (None, "{", "[]", '{"schema": "jobc.baseline/2", "findings": []}', '{"schema": "jobc.baseline/1", "findings": [{"code": "W711"}]}'):
            if text is not None:
                self.write("b.json", text)
            wrong = self.jobc("lint", "f.job", "--baseline", "b.json")
            self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
            self.assertIn("--write-baseline", wrong.stderr)
        self.assertEqual(self.jobc("lint", "f.job", "--write-baseline").returncode, 2)

    def test_the_projects_own_files_have_no_finding_of_names(self):
        for file in sorted(ROOT.glob("examples/*/*.job")) + sorted(ROOT.glob("stdlib/*.job")):
            with self.subTest(file=file.name):
                self.assertNotIn("W711", [kind for kind, _ in self.findings(str(file))[1]])


UNUSED = """edition = 1
import "std/python@1" as py   # once it was used
# A comment about nothing in particular.

## What a limit is.
## In two lines.
let limit = 10
fn twice(x: Int) -> Int = x * limit
struct Row { id: Int }; enum Mode { full, quick }, type Name = String
params { rows: Int = 1 }
secret token = env("TOKEN")   # jobc: allow(W704)
template bare {
  priority = 1
}
pool gpu { slots = 1 }
job one {
  input { unused: Int = 1 }
  run = ["x"]
}
"""

USED = """edition = 1
# A comment about nothing in particular.


params { rows: Int = 1 }
secret token = env("TOKEN")   # jobc: allow(W704)
job one {
  input { unused: Int = 1 }
  run = ["x"]
}
"""

SCRIPTS = """edition = 1
params { name: String = "x", words: List<String> = ["a"] }
job one {
  env { DIR = "d" }
  script = <<~SH
    echo "é ~{params.name}" $DIR   # an accent and a value before it
    \tif [ -n ~{params.name} ]; then ls $DIR/*; fi
    printf '%s\\n' ~{params.name} "~{params.name}"
  SH
}
job two {
  env { DIR = "d" }
  prologue = <<~BASH
    made=1
  BASH
  script = <<~BASH
    cd "$DIR"
    echo "$made" ~{params.words...} ~{length(params.words)}
      echo ~{params.name}$DIR
  BASH
}
"""

CLEAN = """edition = 1
params { name: String = "x", words: List<String> = ["a"], count: Int = 1, maybe: String? = null }
job one {
  script = <<~BASH
    cd "$JOB_INPUT"
    echo ~{params.name} "in ~{params.name} quotes" 'in ~{params.name} single'
    echo ~{params.words...} ~{params.maybe...}
    if [ ~{params.count} -gt 1 ] && [[ ~{params.name} == x ]]; then echo $(( ~{params.count} + 1 )); fi
    # shellcheck disable=SC2086
    echo $OPTIONS
    cat <<EOF
    ~{params.name}
    EOF
    lower=1; echo "$lower $undeclared_but_from_env"
  BASH
}
job two {
  env { OPTIONS = "-a -b" }
  script = <<~SH
    # jobc: allow(W490)
    ls $OPTIONS
  SH
}
"""


@unittest.skipIf(shutil.which("shellcheck") is None, "shellcheck is not installed")
class Shellcheck(InADirectory):
    def places(self, text):
        """(line, column, text under the carets) of each W490, by place."""
        self.write("f.job", text)
        found = json.loads(self.jobc("lint", "--format", "json", "f.job").stdout)["diagnostics"]
        lines = text.splitlines()
        out = []
        for each in found:
            if each["code"] != "W490":
                continue
            start, end = each["range"]["start"], each["range"]["end"]
            under = text.encode()[each["range"]["start"]["offset"] : each["range"]["end"]["offset"]].decode()
            self.assertEqual(start["line"], end["line"])
            out.append((each["message"].split(":")[0], lines[start["line"] - 1].strip().split()[0], under))
        return sorted(out)

    def test_findings_stand_where_the_source_has_them(self):
        self.assertEqual(self.places(SCRIPTS), [
            ("SC2086", "echo", "$DIR"),
            ("SC2086", "echo", "$DIR"),
            ("SC2086", "if", "$DIR"),
        ])

    def test_values_that_jobc_puts_in_are_no_findings(self):
        self.assertEqual(self.places(CLEAN), [])

    def test_the_same_without_and_with_many_scripts(self):
        jobs = "".join(f'job j{i} {{\n  env {{ X = "~{{{i}}}" }}\n  script = <<~SH\n    echo {i} $X\n  SH\n}}\n' for i in range(150))
        self.write("f.job", "edition = 1\n" + jobs)
        code, found = self.findings("f.job")
        self.assertEqual(code, 4)
        self.assertEqual(len([kind for kind, _ in found if kind == "W490"]), 150)

    def test_a_machine_without_it_says_nothing(self):
        self.write("f.job", SCRIPTS)
        empty = self.path / "bin"
        empty.mkdir()
        without = subprocess.run([JOBC, "lint", "--format", "json", "f.job"], capture_output=True, text=True, timeout=60, cwd=self.path, env={"PATH": str(empty)})
        self.assertEqual([each["code"] for each in json.loads(without.stdout)["diagnostics"] if each["code"] == "W490"], [])
        self.assertNotIn("shellcheck", without.stderr)

    def test_its_fixes_are_edits_of_the_source(self):
        self.write("f.job", SCRIPTS)
        found = json.loads(self.jobc("lint", "--format", "json", "f.job").stdout)["diagnostics"]
        helps = [help for each in found if each["code"] == "W490" for help in each["helps"] if help["edits"]]
        self.assertEqual(len(helps), 3)
        for help in helps:
            self.assertEqual([edit["text"] for edit in help["edits"]], ['"', '"'])

    def test_nothing_is_left_in_the_temporary_directory(self):
        self.write("f.job", SCRIPTS)
        temporary = self.path / "tmp"
        temporary.mkdir()
        subprocess.run([JOBC, "lint", "f.job"], capture_output=True, timeout=60, cwd=self.path, env={**os.environ, "TMPDIR": str(temporary)})
        self.assertEqual(list(temporary.iterdir()), [])


class Fix(InADirectory):
    WRONG = 'edition = 1\nparams { xs: List<String> = ["a"], n: Int = 1 }\njob a { run = ["echo", ...params.xs, params.nn] }\njob b { run = ["echo", params.n ?? 2] }\n'

    def test_only_certain_helps_are_applied(self):
        self.write("f.job", self.WRONG)
        fixed = self.jobc("fix", "f.job")
        text = (self.path / "f.job").read_text()
        self.assertIn('["echo", params.n]', text)
        # An unknown name has none, or a guess: it needs a decision.
        self.assertIn("params.nn]", text)
        self.assertEqual(fixed.returncode, 3)
        self.assertEqual(fixed.stdout.count("W201"), 1)
        self.assertIn("1 fix applied; 1 left", fixed.stderr)
        again = self.jobc("fix", "f.job")
        self.assertEqual((again.stdout, (self.path / "f.job").read_text()), ("", text))

    def test_what_nothing_refers_to_is_removed_where_that_is_safe(self):
        self.write("f.job", UNUSED)
        fixed = self.jobc("fix", "f.job")
        self.assertEqual((self.path / "f.job").read_text(), USED, fixed.stderr)
        self.assertEqual([kind for kind, _ in self.findings("f.job")[1]].count("W704"), 2)

    def test_a_guess_is_not_applied(self):
        text = 'edition = 1\nparams { name: String = "x" }\njob a { run = ["echo", params.nmae, params.name] }\n'
        self.write("f.job", text)
        self.assertEqual(self.jobc("fix", "f.job").returncode, 3)
        self.assertEqual((self.path / "f.job").read_text(), text)

    def test_dry_run_changes_nothing_and_says_the_same(self):
        self.write("f.job", self.WRONG)
        dry = self.jobc("fix", "f.job", "--dry-run", "--json")
        self.assertEqual((self.path / "f.job").read_text(), self.WRONG)
        self.assertEqual(json.loads(dry.stdout), json.loads(self.jobc("fix", "f.job", "--json").stdout))
        self.assertEqual([each["line"] for each in json.loads(dry.stdout)["fixes"]], [4])

    def test_mode_and_links_of_the_file_stay(self):
        self.write("real.job", self.WRONG)
        os.chmod(self.path / "real.job", 0o640)
        os.symlink("real.job", self.path / "f.job")
        self.jobc("fix", "f.job")
        self.assertTrue((self.path / "f.job").is_symlink())
        self.assertEqual(stat.S_IMODE(os.stat(self.path / "real.job").st_mode), 0o640)
        self.assertNotIn("??", (self.path / "real.job").read_text())
        self.assertEqual(sorted(os.listdir(self.path)), ["f.job", "real.job"])

    def test_a_file_without_fixes_is_not_written(self):
        self.write("f.job", 'edition = 1\njob a { run = ["true"] }\n')
        before = os.stat(self.path / "f.job")
        self.assertEqual(self.jobc("fix").returncode, 0)
        after = os.stat(self.path / "f.job")
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))
        self.assertEqual(self.jobc("fix", "-").returncode, 2)


class Init(InADirectory):
    def test_what_it_says_to_type_works(self):
        made = self.jobc("init", "words")
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        commands = [line.strip() for line in made.stdout.splitlines()[1:]]
        self.assertEqual(len(commands), 4)
        environment = {**os.environ, "PATH": f"{os.path.dirname(JOBC)}:{os.environ['PATH']}"}
        for command in commands:
            ran = subprocess.run(["sh", "-c", command], cwd=self.path, env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual(ran.returncode, 0, (command, ran.stderr))
        self.assertEqual(json.loads(self.jobc("result").stdout), {"line": "1 texts have 3 words"})
        self.assertEqual(self.findings("words.job"), (0, []))

    def test_nothing_is_overwritten(self):
        self.assertEqual(self.jobc("init").returncode, 0)
        self.write("main.job", "mine")
        again = self.jobc("init", "main.job")
        self.assertEqual((again.returncode, again.stdout, (self.path / "main.job").read_text()), (2, "", "mine"))
        self.assertIn("jobc init NAME", again.stderr)
        os.symlink("nowhere", self.path / "link.job")
        self.assertEqual(self.jobc("init", "link").returncode, 2)
        self.assertEqual(self.jobc("init", "no/such/dir").returncode, 2)


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    unittest.main()
