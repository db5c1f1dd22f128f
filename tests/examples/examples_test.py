"""Every example, as its reader would run it: the plan is the golden one wherever it is made, the run gives the expected
results. `--update` rewrites the golden plans (examples/NAME/NAME.plan.json) and results (examples/NAME/expected.json)."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOBC = os.environ["JOBC"]
UPDATE = os.environ.get("JOBC_UPDATE") == "1"

# Directory, file, parameters.
EXAMPLES = [
    ("hello", "hello.job", []),
    ("sales_etl", "sales.job", []),
    ("word_counts", "word_counts.job", []),
    ("log_analysis", "log_analysis.job", []),
    ("contact_sheet", "contact_sheet.job", ["-p", "pictures=4"]),
    ("survey", "survey.job", ["-p", "@answers.json"]),
    ("deliveries", "deliveries.job", []),
]


def jobc(*arguments, cwd, env=None, check=True):
    done = subprocess.run([JOBC, *arguments], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    if check and done.returncode != 0:
        raise AssertionError(f"jobc {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return done


def portable(value):
    """Results without what differs from run to run: paths become their last part."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, str) and value.startswith("/"):
        return ".../" + value.rsplit("/", 1)[1]
    return value


class Examples(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="jobc-examples-")
        self.addCleanup(self.directory.cleanup)
        self.base = pathlib.Path(self.directory.name)

    def copy(self, name, to="a"):
        target = self.base / to / name
        shutil.copytree(ROOT / "examples" / name, target, ignore=shutil.ignore_patterns(".jobc", "results", "__pycache__"))
        return target

    def environment(self, **more):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.base), **more}
        names = list(env)
        random.shuffle(names)
        return {name: env[name] for name in names}

    def plan(self, name, file, params):
        golden = ROOT / "examples" / name / (file.removesuffix(".job") + ".plan.json")
        first = jobc("plan", file, *params, "--json", cwd=self.copy(name), env=self.environment(LC_ALL="C", TZ="UTC")).stdout
        other = self.copy(name, "somewhere/else")
        second = jobc("plan", file, *params, "--json", cwd=other,
                      env=self.environment(LC_ALL="C.UTF-8", LANG="de_DE.UTF-8", TZ="Asia/Tokyo", X="1", COLUMNS="40")).stdout
        self.assertEqual(first, second, "the plan differs between two directories, locales, time zones or environments")
        # From another working directory only files of the command line are found elsewhere.
        if not any(p.startswith("@") for p in params):
            third = jobc("plan", str(other / file), *params, "--json", cwd="/", env=self.environment()).stdout
            self.assertEqual(first, third, "the plan depends on the working directory")
        if UPDATE:
            golden.write_bytes(first)
        self.assertEqual(json.loads(first), json.loads(golden.read_bytes()), f"run with JOBC_UPDATE=1 if the change of {golden} is meant")
        self.assertEqual(first, golden.read_bytes())

    def run_it(self, name, file, params):
        where = self.copy(name)
        env = self.environment()
        jobc("run", file, *params, cwd=where, env=env)
        result = portable(json.loads(jobc("result", "--json", cwd=where, env=env).stdout))
        golden = ROOT / "examples" / name / "expected.json"
        if UPDATE:
            golden.write_text(json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        self.assertEqual(result, json.loads(golden.read_text(encoding="utf-8")))
        # The instances of the run are those that the plan announces; of a dynamic scatter only their number is bounded.
        planned = [json.loads(line) for line in jobc("plan", file, *params, "--expand", "--json", cwd=where, env=env).stdout.splitlines()]
        status = json.loads(jobc("status", "--json", "--instances", cwd=where, env=env).stdout)
        bounds = {line["job"]: line["at_most"] for line in planned if "at_most" in line}
        ran = [instance["address"] for instance in status["instances"]]
        for job, bound in bounds.items():
            below = [address for address in ran if address.startswith(job + "[")]
            self.assertTrue(0 < len(below) <= bound, job)
        self.assertEqual([a for a in ran if a.split("[")[0] not in bounds], [line["address"] for line in planned if "address" in line])

    def check(self, name, file, params):
        done = jobc("check", file, cwd=self.copy(name, "checked"), env=self.environment())
        self.assertEqual(done.stderr, b"", "an example has a diagnostic")

    def test_the_tests_of_the_examples_pass(self):
        tested = sorted(path.parent.name for path in (ROOT / "examples").glob("*/*_test.job"))
        self.assertGreaterEqual(len(tested), 3)
        for name in tested:
            done = jobc("test", ".", cwd=self.copy(name, "tested"), env=self.environment())
            self.assertIn(b" passed", done.stderr)

    def test_published_files_are_there(self):
        where = self.copy("contact_sheet")
        jobc("run", "contact_sheet.job", "-p", "pictures=4", cwd=where, env=self.environment())
        sheet = (where / "results" / "sheet.png").read_bytes()
        self.assertEqual(sheet[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(len(list((where / "results" / "thumbnails").iterdir())), 4)
        manifest = json.loads((where / "results" / "jobc-manifest.json").read_text())
        self.assertEqual(len(manifest["files"]), 5)


for example in EXAMPLES:
    for kind in ("check", "plan", "run_it"):
        setattr(Examples, f"test_{example[0]}_{kind.removesuffix('_it')}",
                lambda self, kind=kind, example=example: getattr(self, kind)(*example) and None)

if __name__ == "__main__":
    unittest.main(verbosity=1)
