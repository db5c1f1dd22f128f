"""`jobc plan --bounds` and `jobc graph --critical`, as a person and a tool use them."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

JOBC = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]

COHORT = """edition = 1
params { samples: List<String> = ["a", "b", "c"], tumor: Bool = false, require unique(samples) else "unique" }
pool aligner { slots = 8 }
job prepare { run = ["prep"], timeout { run = 10m } }
job align {
  for s in params.samples key s
  after = [prepare]
  pools = { aligner = 3 }
  retry { max_attempts = 3, backoff = constant(1m), on = [exit] }
  timeout { run = 1h }
  run = ["align", s]
}
job extra { when = params.tumor, timeout { run = 1d }, run = ["extra"] }
job side { timeout { run = 5m }, run = ["side"] }
check fine { require align.count > 0 }
job report { after = [align, fine], timeout { run = 5m }, run = ["report"] }
finally tell { timeout { run = 1m }, run = ["tell", run.status] }
profile local default { backend = process { max_parallel = 4 } }
"""
MINUTE = 60_000
GRACE = 10_000


def jobc(*arguments, **options):
    return subprocess.run([JOBC, *arguments], capture_output=True, text=True, timeout=60, **options)


class Cohort(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "cohort.job"
        self.file.write_text(COHORT)


class Bounds(Cohort):
    def plan(self, *arguments):
        done = jobc("plan", str(self.file), "--bounds", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_json_says_what_each_job_and_the_run_can_come_to(self):
        bounds = json.loads(self.plan("--json").stdout)
        self.assertEqual(bounds["schema"], "jobc.bounds/1")
        jobs = {job["job"]: job for job in bounds["jobs"]}
        one = 3 * 60 * MINUTE + 2 * MINUTE + GRACE  # three attempts, two waits; `exit` leaves nothing to wait for but the last
        align = jobs["align"]
        self.assertEqual((align["instances"], align["attempts_of_one"], align["attempts"]), (3, 3, 9))
        self.assertEqual(align["time_ms"], one)
        self.assertEqual(align["work_ms"], 3 * (one - 2 * MINUTE))
        self.assertEqual((align["at_once"], align["slots"]), (2, {"aligner": 6}))
        self.assertEqual(jobs["extra"]["attempts"], 0, "its guard is false")
        self.assertEqual(bounds["attempts"], 9 + 3)
        self.assertEqual(bounds["instances"], 3 + 5)
        self.assertEqual(bounds["finally_ms"], MINUTE + GRACE)
        self.assertEqual(bounds["time_ms"], bounds["jobs_ms"] + bounds["finally_ms"])
        self.assertTrue(bounds["max_parallel_declared"])
        self.assertEqual({wait["limit"] for wait in bounds["waits"]}, {"max_parallel", "pool `aligner`"})

    def test_parameters_decide(self):
        bounds = json.loads(self.plan("--json", "-p", "tumor=true", "-p", 'samples=["a"]').stdout)
        jobs = {job["job"]: job for job in bounds["jobs"]}
        self.assertEqual(jobs["extra"]["attempts"], 1)
        self.assertEqual(jobs["align"]["attempts"], 3)

    def test_the_plan_holds_them(self):
        plan = json.loads(jobc("plan", str(self.file), "--json").stdout)
        bounds = json.loads(self.plan("--json").stdout)
        self.assertEqual(plan["bounds"]["attempts"], bounds["attempts"])
        self.assertEqual(plan["bounds"]["time_ms"], bounds["time_ms"])
        align = next(job for job in plan["jobs"] if job["address"] == "align")
        self.assertEqual(align["bounds"]["slots"], [{"pool": 0, "slots": 6}])
        # From a plan that was written before they are the same.
        written = self.folder / "plan.json"
        printed = self.plan("-o", str(written), "--json").stdout
        self.assertEqual(jobc("plan", str(written), "--bounds", "--json").stdout, printed)

    def test_text_shows_the_formula(self):
        text = self.plan().stdout
        self.assertRegex(text, r"\n  align +3 +3 +9 +3h 3m +9h 1m +2 +aligner 6\n")
        self.assertIn("the run: at most 12 attempts of 8 instances, in at most ", text)
        self.assertRegex(text, r"time = .* / 4 \(max_parallel\) \+ .* / 6 \(pool `aligner`\) \+ .* \(path .*\) \+ 1m 10s \(finally\)")

    def test_every_instance(self):
        lines = self.plan("--expand").stdout.splitlines()
        self.assertIn('align["b"]  3 attempts, 3h 3m, aligner 3', lines)
        self.assertIn("extra  is skipped: its `when` is false", lines)
        rows = [json.loads(line) for line in self.plan("--expand", "--json").stdout.splitlines()]
        self.assertEqual(sum(row["attempts"] for row in rows), 13)  # `finally` too

    def test_without_a_timeout_it_says_where_to_write_one(self):
        self.file.write_text(COHORT.replace("job side { timeout { run = 5m },", "job side {"))
        done = self.plan()
        self.assertIn("without a bound on its time", done.stdout)
        self.assertIn("`side` has no bound: it may run without limit", done.stdout)
        line = next(i for i, text in enumerate(self.file.read_text().splitlines(), 1) if text.startswith("job side"))
        help_ = re.search(r"write in `side` at cohort\.job:(\d+), for example:  (.*)", done.stdout)
        self.assertEqual(int(help_[1]), line)
        self.assertIn("warning[W505]", done.stderr)
        # What it says can be typed.
        self.file.write_text(self.file.read_text().replace("job side {", "job side { " + help_[2] + ","))
        self.assertIn("in at most", self.plan().stdout)

    def test_without_max_parallel_one_at_a_time_is_assumed(self):
        self.file.write_text(COHORT.replace("{ max_parallel = 4 }", "{}"))
        text = self.plan().stdout
        self.assertIn("assuming one attempt at a time", text)
        self.assertIn("(one after the other)", text)

    def test_a_limit_on_the_time_is_a_bound_of_its_own(self):
        self.file.write_text(COHORT + "limits { time = 1h }\njob open { run = [\"open\"] }\n")
        bounds = json.loads(self.plan("--json").stdout)
        self.assertTrue(bounds["by_limit"])
        self.assertEqual(bounds["time_ms"], 60 * MINUTE + GRACE + MINUTE + GRACE)
        self.assertIn("time = 1h (limits) + 10s (grace) + 1m 10s (finally)", self.plan().stdout)


class Critical(Cohort):
    def graph(self, form):
        done = jobc("graph", str(self.file), "--critical", "--as", form)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_json(self):
        graph = json.loads(self.graph("json").stdout)
        self.assertEqual(graph["critical"]["path"], ["prepare", "align", "report"])
        marked = [(edge["from"], edge["to"]) for edge in graph["edges"] if edge["critical"]]
        self.assertEqual(marked, [("prepare", "align"), ("align", "report")])
        self.assertEqual({node["job"] for node in graph["nodes"] if node["critical"]}, {"prepare", "align", "report"})
        times = {node["job"]: node["time_ms"] for node in graph["nodes"]}
        self.assertEqual(graph["critical"]["time_ms"], times["prepare"] + times["align"] + times["report"])

    def test_dot_and_mermaid_mark_the_same(self):
        dot = self.graph("dot").stdout
        self.assertEqual(dot.count("penwidth=2"), 5)  # three jobs, two arrows
        self.assertIn('[label="align × 3\\n≤ 3h 3m", color="#cc0000", penwidth=2]', dot)
        mermaid = self.graph("mermaid").stdout
        self.assertRegex(mermaid, r"class n\d,n\d,n\d critical\n")
        self.assertRegex(mermaid, r"linkStyle \d,\d stroke")
        self.assertIn("align × 3<br/>≤ 3h 3m", mermaid)

    def test_without_the_option_nothing_is_marked(self):
        for form in ("dot", "mermaid", "json"):
            self.assertNotRegex(jobc("graph", str(self.file), "--as", form).stdout, "critical|penwidth|≤")

    def test_a_job_without_bound_is_named(self):
        self.file.write_text(COHORT.replace("job side { timeout { run = 5m },", "job side {"))
        done = self.graph("json")
        self.assertEqual(json.loads(done.stdout)["critical"], {"path": ["side"], "time_ms": None})
        self.assertIn("goes through `side`, which has no worst case", done.stderr)
        self.assertIn("timeout { run = 2h }", done.stderr)


if __name__ == "__main__":
    unittest.main()
