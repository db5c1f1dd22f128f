#!/usr/bin/env python3
"""Validates what jobc takes and writes against the schemas of `jobc schema`, with python3-jsonschema: what the schema
refuses jobc refuses too, and what jobc writes the schema accepts. usage: schema_test.py JOBC
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import jsonschema

JOBC = None
ROOT = pathlib.Path(__file__).resolve().parents[2]

FILE = r"""edition = 1
enum Mode { full, incremental }
struct Sample { id: String(re"[a-z]+"), depth: Int(1..100) = 30, note: String? }
open struct Loose { a: Int }
params {
  ## The day to load.
  day: String(re"\d{4}-\d{2}-\d{2}") = "2026-01-01"
  mode: Mode = Mode.full
  ratio: Float(0.0..1.0) = 0.5
  limit: Int(it > 0 && it <= 10) = 3
  name: String(length(it) > 0 && length(it) <= 8)
  samples: List<Sample>(length(it) <= 2) = []
  wait: Duration = 30s
  memory: Bytes = 4GiB
  counts: Map<Int, Int(0..)> = {}
  by_mode: Map<Mode, Bool> = {}
  file: File?
  loose: Loose = Loose { a = 1 }
  even: Int(it % 2 == 0) = 2
  anything: Json = parse_json("null", Json)
  require ratio < 0.9 else "too much"
}
struct Stats { rows: Int(0..), by: Map<String, Float(0.0..1.0)>, warnings: List<String> = [] }
job count {
  script = <<~PY
    import json, os
    json.dump({"stats": {"rows": 3, "by": {"a": 0.5}}, "more": 1}, open(os.environ["JOB_RESULT"], "w"))
    open(~{output.table}, "w").write(~{params.name})
  PY
  output { stats: Stats, table: File = "t.csv", took: Duration = 90s, size: Bytes = 4KiB, some: Int = 7, none: String? }
}
job each {
  for i in [1, 2] key "k~{i}"
  when = i != 2
  run = ["echo", "x"]
  output { said: String = trim(stdout()) }
}
job fails { on_error = ignore run = ["sh", "-c", "exit 3"] retry { max_attempts = 2, on = [algorithm] } }
export { stats: Stats = count.stats, table: File = count.table, took: Duration = count.took, size: Bytes = count.size, said: List<String?> = each[*].said, mode: Mode = params.mode }
"""


def jobc(*words, **options):
    return subprocess.run([JOBC, *map(str, words)], capture_output=True, text=True, timeout=60, **options)


def schema(*words, **options):
    made = jobc("schema", *words, **options)
    assert made.returncode == 0, made.stderr
    loaded = json.loads(made.stdout)
    jsonschema.Draft202012Validator.check_schema(loaded)
    assert loaded["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    return jsonschema.Draft202012Validator(loaded)


class Schemas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.directory.name)
        (cls.path / "f.job").write_text(FILE)
        (cls.path / "data.txt").write_text("x")

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def accepts(self, params):
        (self.path / "p.json").write_text(json.dumps(params))
        planned = jobc("plan", "f.job", "-p", "@p.json", "-o", "plan.json", cwd=self.path)
        self.assertIn(planned.returncode, (0, 3), planned.stderr)
        return planned.returncode == 0

    def test_parameters_that_the_schema_accepts_are_accepted(self):
        validator = schema("params", "f.job", cwd=self.path)
        for more in ({}, {"day": "2026-12-31", "mode": "incremental", "ratio": 0, "limit": 10}, {"ratio": 0.25, "limit": 1},
                     {"samples": [{"id": "a"}, {"id": "b", "depth": 100, "note": None}]}, {"wait": "1.5h", "memory": "512MiB"}, {"memory": 12},
                     {"counts": {"-3": 0, "7": 2}, "by_mode": {"full": True}}, {"file": "data.txt"}, {"file": None}, {"loose": {"a": 1, "b": 2}},
                     {"anything": [1, {"x": None}]}, {"even": 4}, {"name": "\u00e4" * 8}):
            params = {"name": "x", **more}
            with self.subTest(params=params):
                self.assertEqual([error.message for error in validator.iter_errors(params)], [])
                self.assertTrue(self.accepts(params))

    def test_parameters_that_the_schema_refuses_are_refused(self):
        validator = schema("params", "f.job", cwd=self.path)
        self.assertFalse(validator.is_valid({}))
        self.assertFalse(self.accepts({}))
        for wrong in ({"day": "2026-1-1"}, {"day": "x2026-01-01"}, {"mode": "ful"}, {"ratio": 1.5}, {"limit": 0}, {"limit": 11}, {"limit": 1.5}, {"name": ""},
                      {"name": "123456789"}, {"samples": [{"id": "a"}] * 3}, {"samples": [{"id": "A"}]}, {"samples": [{}]}, {"samples": [{"id": "a", "depth": 0}]},
                      {"samples": [{"id": "a", "extra": 1}]}, {"wait": 30}, {"wait": "30"}, {"memory": "4"}, {"memory": 1.5}, {"counts": {"x": 1}},
                      {"counts": {"1": -1}}, {"by_mode": {"other": True}}, {"file": 3}, {"loose": {}}, {"unknown": 1}):
            params = {"name": "x", **wrong}
            with self.subTest(params=params):
                self.assertFalse(validator.is_valid(params))
                self.assertFalse(self.accepts(params))

    def test_what_the_schema_cannot_say_is_told(self):
        made = schema("params", "f.job", cwd=self.path).schema
        self.assertIn("it % 2 == 0", made["properties"]["even"]["$comment"])
        self.assertIn("ratio < 0.9", made["$comment"])
        self.assertEqual(made["properties"]["day"]["description"], "The day to load.")
        self.assertEqual(made["properties"]["memory"]["default"], 4 << 30)
        self.assertEqual(made["required"], ["name"])

    def test_a_run_fits_the_schemas(self):
        ran = jobc("run", "f.job", "-p", "name=x", "--json", cwd=self.path)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        events = [json.loads(line) for line in ran.stdout.splitlines()]
        self.check_events(events)
        kinds = {event["event"] for event in events}
        self.assertTrue({"run_started", "phase", "started", "attempt_ended", "retrying", "failed", "skipped", "succeeded", "run_finished"} <= kinds, kinds)
        for words, job in ((["result", "f.job"], []), (["result", "f.job", "count"], ["count"]), (["result", "f.job", "each"], ["each"])):
            validator = schema(*words, cwd=self.path)
            result = json.loads(jobc("result", *job, cwd=self.path).stdout)
            with self.subTest(words=words):
                self.assertEqual([error.message for error in validator.iter_errors(result)], [])
                for key in list(result):
                    if words[-1] != "each":
                        self.assertFalse(validator.is_valid({name: value for name, value in result.items() if name != key}))
                    self.assertFalse(validator.is_valid({**result, key: 3.25}))
        self.assertFalse(schema("result", "f.job", cwd=self.path).is_valid({**json.loads(jobc("result", cwd=self.path).stdout), "more": 1}))

    def test_what_a_job_must_write(self):
        validator = schema("job", "f.job", "count", cwd=self.path)
        self.assertTrue(validator.is_valid({"stats": {"rows": 3, "by": {"a": 0.5}}, "more": 1}))
        self.assertTrue(validator.is_valid({"stats": {"rows": 3, "by": {}}, "none": None}))
        for wrong in ({}, {"stats": {"rows": -1, "by": {}}}, {"stats": {"rows": 3, "by": {"a": 2}}}, {"stats": {"rows": 3}}, {"stats": {"rows": 1, "by": {}, "x": 1}}):
            self.assertFalse(validator.is_valid(wrong), wrong)

    def check_events(self, events):
        validator = schema("events")
        for event in events:
            self.assertEqual([error.message for error in validator.iter_errors(event)], [], event)
            for name in event:
                if name not in ("record", "attempt", "attempt_id", "count", "duration_ms", "text", "success", "kind", "class", "message", "exit_code", "signal", "title", "name", "pid"):
                    self.assertFalse(validator.is_valid({key: value for key, value in event.items() if key != name}), (event, name))
            self.assertFalse(validator.is_valid({**event, "no_such_member": 1}))

    def test_a_failed_run_fits_the_schema_of_events(self):
        (self.path / "bad.job").write_text('edition = 1\njob bad { errors { exit(7) => data("bad-input", "it is bad") } run = ["sh", "-c", "exit 7"] }\n'
                                           'job killed { on_error = continue run = ["sh", "-c", "kill -9 $$"] }\njob next { after = [bad] run = ["true"] }\n'
                                           'check c { after = [killed] require 1 > 0 }\n')
        ran = jobc("run", "bad.job", "--json", cwd=self.path)
        self.assertEqual(ran.returncode, 10, ran.stderr)
        events = [json.loads(line) for line in ran.stdout.splitlines()]
        self.check_events(events)
        self.assertIn("bad-input", [event.get("name") for event in events])

    def test_published_schemas_are_the_files_of_the_documentation(self):
        for name in ("plan", "events", "status"):
            self.assertEqual(jobc("schema", name).stdout, (ROOT / f"docs/schemas/{name}-1.schema.json").read_text())
        validator = schema("plan")
        plan = json.loads(jobc("plan", "f.job", "-p", "name=x", "--json", cwd=self.path).stdout)
        self.assertEqual([error.message for error in validator.iter_errors(plan)], [])
        self.assertFalse(validator.is_valid({**plan, "jobs": [{}]}))

    def test_the_examples(self):
        for file in sorted(ROOT.glob("examples/*/*.job")):
            with self.subTest(file=file.name):
                schema("params", file)
                schema("result", file)

    def test_wrong_usage_says_what_to_type(self):
        for words, text in ((["params"], "usage:  jobc schema params FILE"), (["job", "f.job"], "usage:  jobc schema job FILE JOB"), (["plan", "f.job"], "jobc schema plan"),
                            (["result", "f.job", "cuont"], "did you mean `count`?"), (["exports"], "params, result, job, plan, events, status")):
            wrong = jobc("schema", *words, cwd=self.path)
            self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
            self.assertIn(text, wrong.stderr)


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    unittest.main()
