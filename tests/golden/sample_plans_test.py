"""The five samples of the language reference are planned under each of their profiles: without a diagnostic, as a plan that
the published schema accepts, with the same bytes wherever the tree lies and whatever the environment is."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOBC = os.environ["JOBC"]

# File, parameters, profiles, jobs with their number of instances.
SAMPLES = [
    ("1_hello.job", [], [None], {"hello": 1}),
    ("2_etl.job", ["-p", "day=2024-05-01"], [None], {"extract": 1, "transform": 1, "quality": 1, "load": 1, "notify": 1}),
    ("3_cohort.job", ["-p", "@samples.json", "-p", "reference=data/ref.fa"], [None], {"align": 2, "somatic": 6, "enough": 1, "report": 1}),
    ("4_train.job", ["-p", "dataset=data"], ["local", "hpc", "cloud", "none", None], {"prepare": 1, "train": 1, "evaluate": 1}),
    ("5_modules.job", ["-p", "shards=3"], [None], {"fetch": 3, "merge": 1, "quality/count": 1}),
]


class SamplePlans(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="jobc-samples-")
        self.addCleanup(directory.cleanup)
        self.base = pathlib.Path(directory.name)

    def tree(self, name):
        target = self.base / name
        shutil.copytree(ROOT / "tests" / "golden" / "samples", target)
        (target / "data").mkdir()
        for file in ("ref.fa", "a.fq", "b1.fq", "b2.fq"):
            (target / "data" / file).write_text(file)
        samples = [{"id": "a", "r1": "data/a.fq"}, {"id": "b", "r1": "data/b1.fq", "r2": "data/b2.fq", "tumor": True}]
        (target / "samples.json").write_text(json.dumps({"samples": samples}))
        return target

    def plan(self, directory, file, params, profile, **env):
        choice = ["--profile", profile] if profile else []
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.base), **env}
        done = subprocess.run([JOBC, "plan", file, "-o", "plan.json", *params, *choice], cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{file} under {profile}")
        return (directory / "plan.json").read_bytes()

    def test_are_planned_under_every_profile_as_the_schema_says(self):
        directory = self.tree("a")
        schema = json.loads((ROOT / "docs" / "schemas" / "plan-1.schema.json").read_text())
        validator = jsonschema.Draft202012Validator(schema)
        for file, params, profiles, jobs in SAMPLES:
            for profile in profiles:
                with self.subTest(file=file, profile=profile):
                    plan = json.loads(self.plan(directory, file, params, profile))
                    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in validator.iter_errors(plan)]
                    self.assertEqual(errors, [])
                    self.assertEqual({job["address"]: job.get("domain", {}).get("count", 1) for job in plan["jobs"]}, jobs)
                    if profile not in (None, "none"):
                        self.assertEqual(plan.get("profile"), profile)

    def test_give_the_same_bytes_in_another_tree_and_environment(self):
        here, there = self.tree("a"), self.tree("deeper/down/b")
        for file, params, profiles, _ in SAMPLES:
            for profile in profiles:
                with self.subTest(file=file, profile=profile):
                    first = self.plan(here, file, params, profile)
                    second = self.plan(there, file, params, profile, LANG="de_DE.UTF-8", TZ="Asia/Tokyo", USER="somebody")
                    self.assertEqual(first, second)
                    self.assertNotIn(str(self.base).encode(), first)


if __name__ == "__main__":
    unittest.main()
