#!/usr/bin/env python3
"""Misspelt names of every kind get the name that was meant. usage: suggestions_test.py JOBC"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

JOBC = None

# What is misspelt, the file, what the message must propose; files that exist beside it; the command.
CHECK = ["check", "flow.job"]
ROWS = [
    ("a parameter", 'params { reads: Int }\njob a { run = ["x", params.raeds] }', "`reads`", (), CHECK),
    ("a constant", 'let threads = 2\njob a { run = ["x", thraeds] }', "`threads`", (), CHECK),
    ("a function", 'fn shard(i: Int) -> Int = i\njob a { run = ["x", shrad(1)] }', "`shard`", (), CHECK),
    ("a built-in function", 'job a { run = ["x", basenmae("a/b")] }', "`basename`", (), CHECK),
    ("a type", 'struct Sample { id: String }\nparams { s: Sampel }\njob a { run = ["x", params.s.id] }', "`Sample`", (), CHECK),
    ("a field", 'struct Sample { id: String, lane: Int }\nparams { s: Sample }\njob a { run = ["x", params.s.lnae] }', "`lane`", (), CHECK),
    ("a case of an enum", 'enum Mode { full, incremental }\nparams { m: Mode = Mode.incremantal }\njob a { run = ["x", params.m] }', "`incremental`", (), CHECK),
    ("a job", 'job align { run = ["x"] }\njob b { after = [algin], run = ["x"] }', "`align`", (), CHECK),
    ("an output", 'job align { run = ["x"], output { rows: Int } }\njob b { run = ["x", align.rwos] }', "`rows`", (), CHECK),
    ("a status", 'job align { run = ["x"] }\njob b { when = align.faild, run = ["x"] }', "`failed`", (), CHECK),
    ("an input", 'job a { input { reference: Int = 1 } run = ["x", input.refrence] }', "`reference`", (), CHECK),
    ("an axis", 'job a { matrix { caller = ["a"] } run = ["x", matrix.caler] }', "`caller`", (), CHECK),
    ("a pool", 'pool gpus { slots = 1 }\njob a { pools = { gpsu = 1 }, run = ["x"] }', "`gpus`", (), CHECK),
    ("a template", 'template base { priority = 1 }\njob a uses bsae { run = ["x"] }', "`base`", (), CHECK),
    ("a declaration", 'jbo a { run = ["x"] }', "`job`", (), CHECK),
    ("an attribute", 'job a { run = ["x"], prioritty = 3 }', "`priority`", (), CHECK),
    ("an attribute of a block", 'job a { run = ["x"], timeout { totl = 3h } }', "`total`", (), CHECK),
    ("a word of `for`", 'job a {\n  for i in range(3) ky i\n  run = ["x", i]\n}', "`key`", (), CHECK),
    ("a strategy", 'job a { run = ["x"], on_error = contineu }', "`continue`", (), CHECK),
    ("an error kind", 'job a { run = ["x"], retry { max_attempts = 2, on = [netwrok] } }', "`network`", (), CHECK),
    ("a kind in `errors`", 'job a { run = ["x"], errors { exit(3) => invalid_imput } }', "`invalid_input`", (), CHECK),
    ("a named error", 'job a { run = ["x"], errors { exit(3) => data("bad-input") }, retry { max_attempts = 2, on "bad-inptu" { retries = 1 } } }', '"bad-input"', (), CHECK),
    ("a signal", 'job a { run = ["x"], errors { signal(SIGSEV) => oom } }', "`SIGSEGV`", (), CHECK),
    ("a backend", 'job a { run = ["x"], backend = slrum { } }', "`slurm`", (), CHECK),
    ("an option of a backend", 'job a { run = ["x"], backend = slurm { partion = "x" } }', "`partition`", (), CHECK),
    ("a word of an option", 'job a { image = "a@sha256:1111111111111111111111111111111111111111111111111111111111111111", run = ["x"], backend = docker { pull = allways } }', "`always`", (), CHECK),
    ("a job of a profile", 'job align { run = ["x"] }\nprofile p { job algin { priority = 1 } }', "`align`", (), CHECK),
    ("an import's name", 'import "./lib.job" as quality\nmodule q = qualty { }\njob a { run = ["x"] }', "`quality`", ("lib.job",), CHECK),
    ("a file to import", 'import "./librray.job" as l\njob a { run = ["x"] }', "\"./library.job\"", ("library.job",), CHECK),
    ("a standard module", 'import "std/pyhton@1" as py\njob a { run = ["x"] }', "`std/python@1`", (), CHECK),
    ("an input file", 'job a { run = ["cat", file("./samples.cvs")] }', "`samples.csv`", ("samples.csv",), ["plan", "flow.job"]),
    ("a file as parameter", 'params { table: File }\njob a { run = ["cat", params.table] }', "`samples.csv`", ("samples.csv",), ["plan", "flow.job", "-p", "table=samlpes.csv"]),
    ("a parameter given", 'params { reads: Int = 1 }\njob a { run = ["x", params.reads] }', "`reads`", (), ["plan", "flow.job", "-p", "raeds=2"]),
    ("a profile chosen", 'job a { run = ["x"] }\nprofile cluster { priority = 1 }', "`--profile cluster`", (), ["plan", "flow.job", "--profile", "clutser"]),
    ("a case given", 'enum Mode { full, incremental }\nparams { m: Mode }\njob a { run = ["x", params.m] }', "`incremental`", (), ["plan", "flow.job", "-p", "m=incremantal"]),
]


class Suggestions(unittest.TestCase):
    def test_every_kind_of_name(self):
        for what, text, wanted, beside, command in ROWS:
            with self.subTest(what=what), tempfile.TemporaryDirectory() as directory:
                path = pathlib.Path(directory)
                (path / "flow.job").write_text("edition = 1\n" + text + "\n")
                for name in beside:
                    (path / name).write_text("edition = 1\n" if name.endswith(".job") else "a\n")
                done = subprocess.run([JOBC, *command], capture_output=True, text=True, timeout=60, cwd=directory)
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertIn(f"did you mean {wanted}?", done.stderr)

    def test_nothing_is_proposed_for_a_name_like_no_other(self):
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "flow.job").write_text('edition = 1\nparams { reads: Int }\njob a { run = ["x", params.qqqqqq, params.reads] }\n')
            done = subprocess.run([JOBC, "check", "flow.job"], capture_output=True, text=True, timeout=60, cwd=directory)
            self.assertEqual(done.returncode, 3)
            self.assertNotIn("did you mean", done.stderr)

    def test_all_faults_of_all_jobs_under_all_profiles_are_told_at_once(self):
        jobs = "".join(f'job j{i} {{ image = "a@sha256:{i:064}", run = ["x", nothing{i}], resources {{ memory = 64GiB }} }}\n' for i in range(5))
        profiles = "".join(
            f'profile p{k} {{ staging = "gs://a/b", backend = {backend} {{ }}, job j{k} {{ timeout {{ runn = 1h }} }}, unknown{k} = 1 }}\n'
            for k, backend in enumerate(["docker", "cloud_run", "ssh", "slrum"])
        )
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "flow.job").write_text("edition = 1\n" + jobs + profiles)
            done = subprocess.run([JOBC, "check", "flow.job"], capture_output=True, text=True, timeout=60, cwd=directory)
        for i in range(5):
            self.assertIn(f"no value named `nothing{i}`", done.stderr)
        for k in range(4):
            self.assertIn(f"a profile has no `unknown{k}`", done.stderr)
        self.assertEqual(done.stderr.count("`timeout` has no `runn`"), 4)
        self.assertEqual(done.stderr.count("but the backend `cloud_run` gives at most 32GiB"), 5)
        self.assertEqual(done.stderr.count("the backend `ssh` cannot run images"), 5)
        self.assertIn("the backend `ssh` needs `hosts`", done.stderr)
        self.assertIn("did you mean `slurm`?", done.stderr)


if __name__ == "__main__":
    JOBC = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
