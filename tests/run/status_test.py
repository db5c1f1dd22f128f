"""`jobc status` as programs read it: the JSON against its published schema, the Prometheus text with a strict parser, NGA
Scale's form, while a run goes on, after it and after a crash of it. The arithmetic is tested in tests/driver."""
import datetime
import json
import os
import re
import time
import unittest

import jsonschema

from story import Story, wait_until

KINDS = r"""
job good { for i in range(3) key "~{i}" run = ["true"] output { n: Int = i } }
job weak { on_error = ignore retry { max_attempts = 3, on = [node_lost] } errors { exit(9) => node_lost } run = ["sh", "-c", "exit 9"] }
job bad { on_error = continue errors { exit(7) => data("bad-input", "it is \"bad\"\\nreally") } run = ["sh", "-c", "exit 7"] }
job slow { on_error = continue timeout { run = 100ms } grace = 1s run = ["sleep", "60"] }
job guarded { when = good["1"].n > 5 run = ["true"] }
job next { after = [bad] run = ["true"] }
check fine { after = [weak.done] require 1 > 0 }
"""


def labels_of(text):
    """`a="b",c="d\\n"` as a dict; strict: anything else is an error."""
    out, at = {}, 0
    while at < len(text):
        match = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)').match(text, at)
        if not match or match[1] in out:
            raise AssertionError(f"bad labels at {at}: {text}")
        out[match[1]] = re.sub(r'\\(.)', lambda found: {"n": "\n"}.get(found[1], found[1]), match[2])
        at = match.end()
    return out


def parse_prometheus(text):
    """The text exposition format 0.0.4, refusing what it does not allow and what scrapers warn about: {name: (type, {labels: value})}."""
    assert text.endswith("\n"), "the last line has no end"
    families, current, helped, seen = {}, None, None, set()
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\]|\\[\\n])*)", line):
            assert match[1] not in families and match[2], line
            helped = match[1]
        elif match := re.fullmatch(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)", line):
            assert match[1] == helped and match[1] not in families, f"TYPE without its HELP, or twice: {line}"
            current = match[1]
            families[current] = (match[2], {})
            assert (match[2] == "counter") == current.endswith("_total"), line
        else:
            match = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf|NaN))", line)
            assert match, f"no sample: {line!r}"
            kind = families[current][0]
            names = [current + suffix for suffix in ("_bucket", "_sum", "_count")] if kind == "histogram" else [current]
            assert match[1] in names, f"{match[1]} stands below {current}"
            key = (match[1], tuple(sorted(labels_of(match[2] or "").items())))
            assert key not in seen, f"twice: {line}"
            seen.add(key)
            families[current][1][key] = float(match[3].replace("Inf", "inf"))
    for name, (kind, samples) in families.items():
        if kind != "histogram":
            continue
        series = {}
        for (sample, labels), value in samples.items():
            labels = dict(labels)
            bound = labels.pop("le", None)
            one = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
            if sample.endswith("_bucket"):
                one["buckets"].append((float(bound.replace("Inf", "inf")), value))
            else:
                one[sample.rpartition("_")[2]] = value
        for labels, one in series.items():
            bounds, counts = zip(*one["buckets"])
            assert list(bounds) == sorted(set(bounds)) and bounds[-1] == float("inf"), (name, labels)
            assert list(counts) == sorted(counts) and counts[-1] == one["count"], (name, labels)
            assert one["sum"] >= 0, (name, labels)
    return families


class Numbers(Story):
    def metrics(self, *words):
        return parse_prometheus(self.jobc("status", *words, "--format", "prometheus").raw_out.decode())

    def value(self, families, name, /, **labels):
        found = [value for (_, with_labels), value in families[name][1].items() if labels.items() <= dict(with_labels).items()]
        self.assertEqual(len(found), 1, (name, labels))
        return found[0]

    def check_schema(self, status):
        validator = jsonschema.Draft202012Validator(self.jobc("schema", "status").json)
        self.assertEqual([f"{error.json_path}: {error.message}" for error in validator.iter_errors(status)], [])
        return validator

    def test_json_fits_its_schema_and_adds_up(self):
        self.run_job(KINDS, code=10)
        for words in ([], ["--instances"]):
            status = self.jobc("status", "--json", *words).json
            validator = self.check_schema(status)
        for name in ("metrics", "jobs", "status", "running"):
            self.assertFalse(validator.is_valid({key: value for key, value in status.items() if key != name}), name)
        self.assertFalse(validator.is_valid({**status, "metrics": {**status["metrics"], "no_such_member": 1}}))
        metrics = status["metrics"]
        by_job = {one["job"]: one for one in metrics["jobs"]}
        attempts = {name: one["attempts"] for name, one in by_job.items()}
        self.assertEqual(attempts["good"], {"cancelled": 0, "completed": 3, "failed": {"total": 0, "system": 0, "algorithm": 0, "data": 0}, "lost": 0, "running": 0, "total": 3})
        self.assertEqual((attempts["weak"]["failed"]["system"], by_job["weak"]["retries"]), (3, 2))
        self.assertEqual(attempts["bad"]["failed"], {"total": 1, "system": 0, "algorithm": 0, "data": 1})
        self.assertEqual(attempts["slow"]["failed"]["algorithm"], 1)
        self.assertEqual([attempts[name]["total"] for name in ("guarded", "next", "fine")], [0, 0, 0])
        self.assertEqual(metrics["attempts"]["total"], 8)
        self.assertEqual(metrics["retries"], 2)
        self.assertEqual(metrics["recent"]["attempts"], metrics["attempts"])
        self.assertEqual(sum(block["completed"] + block["failed"]["total"] for block in metrics["recent"]["blocks"]), 8)
        self.assertEqual([(node["node"], node["backend"]) for node in metrics["nodes"]], [(os.uname().nodename, "process")])
        self.assertEqual([node["node"] for node in metrics["recent"]["nodes"]], [os.uname().nodename])
        self.assertGreaterEqual(by_job["slow"]["duration_ms"]["p50"], 90)
        self.assertEqual(by_job["good"]["queue_wait_ms"]["count"], 3)

    def test_results_that_were_used_again(self):
        self.run_job('job a { for i in range(3) key "~{i}" run = ["true"] }')
        self.jobc("run", "a.job", "--resume")
        status = self.jobc("status", "--json", "--instances").json
        self.check_schema(status)
        self.assertEqual((status["jobs"][0]["reused"], status["metrics"]["attempts"]["total"]), (3, 0), "nothing was started")
        self.assertEqual(self.jobc("report", "--json").json["jobs"][0]["counts"], {"succeeded": 3})

    def test_sizes_of_blocks(self):
        self.run_job('job a { run = ["true"] }')
        recent = self.jobc("status", "--json", "--period", "1h", "--block", "30s").json["metrics"]["recent"]
        self.assertEqual((recent["period_ms"], recent["block_ms"]), (3600_000, 30_000))
        self.assertIn(len(recent["blocks"]), (121, 122))
        self.assertEqual({block["end_ms"] - block["start_ms"] for block in recent["blocks"]}, {30_000})
        self.assertEqual(self.jobc("status", "--json", "--period", "1m").json["metrics"]["recent"]["block_ms"], 60_000)
        for wrong in (["--period", "0s"], ["--block", "0s"], ["--block", "4h"], ["--period", "30d", "--block", "1s"]):
            self.assertSays(self.jobc("status", *wrong, code=2).err, "error: ", "help: ")

    def test_prometheus_text_holds_what_the_json_says(self):
        self.run_job(KINDS, "--name", 'quote " backslash \\ end', code=10)
        status = self.status()
        families = self.metrics()
        self.assertEqual(self.value(families, "jobc_run_info", name='quote " backslash \\ end', status="failed", run=status["id"], source="a.job"), 1)
        self.assertEqual(self.value(families, "jobc_instances", job="good", state="succeeded"), 3)
        self.assertEqual(self.value(families, "jobc_instances", job="next", state="blocked"), 1)
        self.assertEqual(self.value(families, "jobc_attempts_ended_total", job="weak", outcome="failed", **{"class": "system"}), 3)
        self.assertEqual(self.value(families, "jobc_attempts_ended_total", job="good", outcome="succeeded", node="process"), 3)
        self.assertEqual(self.value(families, "jobc_retries_total", job="weak"), 2)
        self.assertEqual(self.value(families, "jobc_run_exit_code"), 10)
        durations = families["jobc_attempt_duration_seconds"][1]
        slow = {key: value for key, value in durations.items() if ("job", "slow") in key[1]}
        self.assertEqual([value for (name, _), value in slow.items() if name.endswith("_count")], [1])
        self.assertGreaterEqual([value for (name, _), value in slow.items() if name.endswith("_sum")][0], 0.09)

    def test_counters_never_fall_while_a_run_goes_on_is_killed_and_resumed(self):
        self.write("""edition = 1
job many { for i in range(40) key "~{i}" retry { max_attempts = 2, on = [exit] } on_error = continue
  script = <<~SH
    if [ ~{i % 4} = 0 ] && [ "$JOB_ATTEMPT" = 1 ]; then exit 3; fi
    if [ ~{i} = 30 ] && [ ! -e @FLAGS@/go ]; then touch @FLAGS@/reached; exec sleep 60; fi
  SH
}
""".replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job", "--max-parallel", "2")
        samples = []

        def scrape():
            families = self.metrics()
            samples.append({key: value for name, (kind, values) in families.items() if kind in ("counter", "histogram") for key, value in values.items()})
            return families

        wait_until(lambda: (self.at / ".jobc" / "runs").exists() and any((self.at / ".jobc" / "runs").glob("*/journal.db")), what="the run")
        while not self.flag("reached").exists():
            scrape()
        live = scrape()
        self.assertEqual(self.value(live, "jobc_run_live"), 1)
        wait_until(lambda: self.value(scrape(), "jobc_attempts_running", job="many") >= 1, what="a running attempt")
        status = self.jobc("status", "--json").json
        self.check_schema(status)
        self.assertEqual((status["status"], status["metrics"]["attempts"]["lost"]), ("running", 0))
        process.kill()
        process.wait()
        crashed = self.jobc("status", "--json").json
        self.check_schema(crashed)
        self.assertEqual((crashed["status"], crashed["metrics"]["attempts"]["running"]), ("crashed", 0))
        self.assertGreaterEqual(crashed["metrics"]["attempts"]["lost"], 1)
        scrape()
        self.flag("go").touch()
        self.jobc("resume")
        scrape()
        for before, after in zip(samples, samples[1:]):
            for key, value in before.items():
                self.assertGreaterEqual(after[key], value, key)
        self.assertEqual(self.value(self.metrics(), "jobc_instances", job="many", state="succeeded"), 40)

    def test_scale_form(self):
        self.run_job(KINDS, code=10)
        status = self.jobc("status", "--format", "scale").json
        node, = status["nodes"]
        types = {one["id"]: one["name"] for one in status["job_types"]}
        executions = node["job_executions"]
        self.assertEqual(list(executions), ["running", "completed", "failed"])
        self.assertEqual({types[one["job_type_id"]]: one["count"] for one in executions["completed"]["by_job_type"]}, {"good": 3})
        self.assertEqual({key: executions["failed"][key]["total"] for key in ("algorithm", "data", "system")}, {"algorithm": 1, "data": 1, "system": 3})
        self.assertEqual(len(status["job_exes"]), 8)
        weak = [one for one in status["job_exes"] if one["job_key"] == "weak"]
        self.assertEqual([one["exe_num"] for one in weak], [1, 2, 3])
        slow, = [one for one in status["job_exes"] if one["job_key"] == "slow"]
        main = slow["task_results"]["tasks"][1]
        self.assertEqual((slow["status"], main["status"], main["was_timed_out"]), ("FAILED", "KILLED", True))
        bad, = [one for one in status["job_exes"] if one["job_key"] == "bad"]
        self.assertEqual((bad["error"]["name"], bad["error"]["category"], bad["task_results"]["tasks"][1]["exit_code"]), ("bad-input", "DATA", 7))

    def cut_off_in_its_midst(self):
        """A run that is killed while its only job runs, and left alone for a while."""
        self.write("""edition = 1
job a { script = <<~SH
  if [ ! -e @FLAGS@/go ]; then touch @FLAGS@/up; exec sleep 60; fi
SH
}
""".replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job")
        self.wait_for("up")
        wait_until(lambda: self.instances()["a"]["attempts"] and "started_ms" in self.instances()["a"]["attempts"][0], what="the start in the journal")
        process.kill()
        process.wait()
        self.flag("go").touch()
        time.sleep(1.5)  # not to wait for anything: it is the time that must not be counted

    def check_no_dead_time(self, attempts):
        durations = self.status()["metrics"]["duration_ms"]
        self.assertEqual(durations["count"], attempts)
        self.assertLess(durations.get("max", 0), 1400)
        families = self.metrics()
        _, values = families["jobc_attempt_duration_seconds"]
        self.assertLess(max(value for key, value in values.items() if "_sum" in str(key)), 1.4)
        first = self.jobc("status", "--format", "scale", "--instances").json["job_exes"][0]
        self.assertIsNone(first["seed_ended"])
        began, ended = (datetime.datetime.fromisoformat(first[key]) for key in ("seed_started", "ended"))
        self.assertLess((ended - began).total_seconds(), 1.4)

    def test_nothing_runs_in_a_run_that_nobody_executes(self):
        self.cut_off_in_its_midst()
        crashed = self.jobc("status", "--json").json
        self.check_schema(crashed)
        self.assertEqual([(one["address"], one["state"]) for one in crashed["instances"]], [("a", "lost")])
        self.assertEqual(crashed["jobs"], [{"job": "a", "expanded": True, "lost": 1}])
        families = self.metrics()
        self.assertEqual([self.value(families, "jobc_instances", state=state) for state in ("running", "lost")], [0, 1])
        self.assertEqual(self.value(families, "jobc_run_live"), 0)
        self.assertEqual((crashed["metrics"]["late_answers"], self.value(families, "jobc_late_answers_total")), (0, 0))
        text = self.jobc("status", "--instances").out
        way = f"jobc resume {crashed['id']}"
        self.assertSays(text, "1 lost", "a: lost, 1 attempt: its jobc ended while it ran", way)
        self.assertNotIn("running", text)
        # The clock stands at the last record: it is the same whenever somebody asks.
        totals = [line for line in text.splitlines() if line.startswith("crashed ")]
        self.assertEqual([line for line in self.jobc("status").out.splitlines() if line.startswith("crashed ")], totals)
        self.assertRegex(totals[0], r" (\d+ms|1\.[0-4]s) ")
        self.assertSays(self.jobc("explain", "run", "a").out, "a: lost")
        self.assertSays(self.jobc("result").err, way)
        self.assertSays(self.jobc("watch", code=15).err, "1 lost", way)
        resumed = self.jobc("resume").err
        self.assertSays(resumed, "a: started, attempt 2\n")
        self.assertNotIn("attempt 2 of", resumed)
        self.assertNotIn("go on:", self.jobc("status").out)
        self.assertEqual(self.value(self.metrics(), "jobc_instances", state="lost"), 0)

    def test_the_time_without_jobc_counts_for_no_attempt(self):
        self.cut_off_in_its_midst()
        self.jobc("resume")
        self.check_no_dead_time(1)
        self.assertEqual(len(self.instances()["a"]["attempts"]), 2)

    def test_the_time_before_a_dead_run_is_cancelled_counts_for_no_attempt(self):
        self.cut_off_in_its_midst()
        self.jobc("cancel")
        self.check_no_dead_time(0)
        self.assertEqual(self.status()["metrics"]["attempts"]["cancelled"], 1)
        self.assertNotRegex(self.jobc("watch", code=130).err, r"a: cancelled.* in ")

    def test_cancelled_attempts_are_counted(self):
        self.write("edition = 1\njob a { run = [\"sh\", \"-c\", \"touch @FLAGS@/up; exec sleep 60\"] }\n".replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job")
        self.wait_for("up")
        self.jobc("cancel", "--wait")
        self.finish(process, code=130)
        self.assertEqual(self.status()["metrics"]["attempts"]["cancelled"], 1)
        self.assertEqual(self.jobc("status", "--format", "scale").json["nodes"][0]["canceled"]["total"], 1)
        self.assertEqual(self.value(self.metrics(), "jobc_attempts_ended_total", outcome="cancelled"), 1)


class StrictParser(unittest.TestCase):
    """The parser above must be able to fail."""

    def test_what_is_wrong_is_refused(self):
        head = "# HELP a_total x\n# TYPE a_total counter\n"
        parse_prometheus(head + 'a_total{l="\\\\ \\" \\n"} 1\n')
        for wrong in ('a_total{l="\\t"} 1\n', 'a_total{l="a"b"} 1\n', 'a_total{l="1",l="2"} 1\n', "a_total 1\na_total 2\n", "b 1\n", "a_total x\n", "a_total 1", "\n"):
            with self.assertRaises(AssertionError, msg=wrong):
                parse_prometheus(head + wrong)
        with self.assertRaises(AssertionError):
            parse_prometheus('# HELP h x\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n')


if __name__ == "__main__":
    unittest.main()
