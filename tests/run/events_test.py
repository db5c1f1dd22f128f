"""`run --json`: every change that happens in a run is told, in an order that makes sense, in the published form; and what listens
to a run (hooks, watchers, a reader of the events) can neither hold it up nor change how it ends. `polling` comes only from
backends that have to ask; tests/engine shows it with one."""
import json
import os
import signal
import subprocess
import time
import unittest

import jsonschema

from story import Story, processes_with, wait_until

ALL = r"""
params { full: Bool = false }
job good { for i in range(2) key "~{i}" run = ["true"] output { n: Int = i } }
job again { on_error = continue retry { max_attempts = 3, on = [node_lost], backoff = constant(20ms) } errors { exit(9) => node_lost }
  script = <<~SH
    if [ "$JOB_ATTEMPT" = 1 ]; then exit 9; fi
  SH
}
job weak { on_error = ignore run = ["sh", "-c", "exit 4"] }
job bad { on_error = continue errors { exit(7) => data("bad-input", "it is bad") } run = ["sh", "-c", "exit 7"] }
job slow { on_error = continue timeout { run = 100ms } grace = 1s run = ["sleep", "60"] }
job guarded { when = params.full run = ["true"] }
job next { after = [bad] run = ["true"] }
job names { run = ["sh", "-c", "echo one two"] output { list: List<String> = split(trim(stdout()), " ") } }
job each { for name in names.list key name max 4 run = ["true"] }
job held { after = [slow.done] on_error = halt run = ["sh", "-c", "while [ ! -e @FLAGS@/up ]; do sleep 0.02; done; exit 1"] }
job waits { on_error = continue run = ["sh", "-c", "touch @FLAGS@/up; exec sleep 60"] after = [slow.done] }
job never { after = [held] run = ["true"] }
check fine { after = [weak.done] require 1 > 0 }
finally tidy { run = ["true"] }
hook on start { run = ["true"] }
hook on finish { run = ["false"] }
"""
FINAL = {"succeeded", "failed", "skipped", "blocked", "cancelled"}


class Events(Story):
    def events_of(self, done):
        events = [json.loads(line) for line in done.raw_out.decode().splitlines()]
        validator = jsonschema.Draft202012Validator(self.jobc("schema", "events").json)
        for event in events:
            self.assertEqual([error.message for error in validator.iter_errors(event)], [], event)
        return events

    def test_every_change_is_told(self):
        events = self.events_of(self.run_job(ALL, "--json", "--max-parallel", "20", code=10))
        names = [event["event"] for event in events]
        self.assertEqual(set(names), {"run_started", "phase", "queued", "submitting", "submitted", "started", "attempt_ended", "kill_sent", "reaped", "retrying", "succeeded", "failed", "skipped",
                                      "blocked", "cancelled", "expanded", "mode_changed", "warning", "run_finished"})
        self.assertEqual((names[0], names[-1]), ("run_started", "run_finished"))
        self.assertEqual([names.count(name) for name in ("run_started", "run_finished")], [1, 1])

        final = {}
        for event in events:
            if event["event"] in FINAL:
                self.assertNotIn(event["address"], final, "an instance is final once")
                final[event["address"]] = event["event"]
        self.assertEqual(final, self.states())
        self.assertEqual(final["again"], "succeeded")
        self.assertEqual([final[name] for name in ("weak", "bad", "slow", "guarded", "next", "waits", "held")], ["failed", "failed", "failed", "skipped", "blocked", "cancelled", "failed"])

        # Each attempt: handed over, taken, started, ended, gone; killed ones between. Nothing after it is gone.
        order = ["submitting", "submitted", "started", "attempt_ended", "reaped"]
        attempts = {}
        for event in events:
            if "attempt_id" in event and event["event"] not in FINAL | {"queued"}:
                attempts.setdefault(event["attempt_id"], []).append(event)
        for attempt in attempts.values():
            told = [event["event"] for event in attempt]
            self.assertEqual([name for name in told if name in order], order, told)
            for event in attempt:
                if event["event"] == "attempt_ended":
                    self.assertGreaterEqual(event["duration_ms"], 0)
            self.assertEqual(len({(event["address"], event["attempt"]) for event in attempt}), 1)
            if "kill_sent" in told:
                self.assertLess(told.index("started"), told.index("kill_sent"))
                self.assertLess(told.index("kill_sent"), told.index("reaped"))
        of = lambda address: [event for event in events if event.get("address") == address]
        self.assertEqual([event["event"] for event in of("again") if event["event"] not in ("retrying", "reaped")], ["queued", *order[:4], *order[:4], "succeeded"])
        retrying, = [event for event in of("again") if event["event"] == "retrying"]
        self.assertEqual((retrying["attempt"], retrying["delay_ms"]), (2, 20))
        self.assertEqual(len([event for event in of("slow") if event["event"] == "kill_sent"]), 1)
        bad, = [event for event in of("bad") if event["event"] == "failed"]
        self.assertEqual((bad["name"], bad["class"], bad["exit_code"], bad["tolerated"]), ("bad-input", "data", 7, False))
        self.assertTrue([event for event in of("weak") if event["event"] == "failed"][0]["tolerated"])
        self.assertEqual([event["count"] for event in of("each") if event["event"] == "expanded"], [2])
        phases = [event["text"] for event in events if event["event"] == "phase"]
        self.assertEqual([phase for phase in phases if phase not in ("exports", "publish")], ["start hooks", "jobs", "finally", "finish hooks", "ended"], "those with nothing to do are passed")
        # The journal tells the same again to who comes late, but for what it does not hold.
        late = self.events_of(self.jobc("watch", "--json", code=10))
        live_only = {"queued", "submitted", "kill_sent", "phase"}
        key = lambda event: (event["record"], event["event"], event.get("address"))
        self.assertEqual([key(event) for event in late], sorted(key(event) for event in events if event["event"] not in live_only))

    def test_a_reader_that_does_not_read_or_goes_away_does_not_hold_up_the_run(self):
        self.write("edition = 1\njob many { for i in range(400) key \"~{i}\" run = [\"true\"] }\n")
        read, write = os.pipe()
        process = self.start("run", "a.job", "--json", stdout=write, stderr=subprocess.DEVNULL)
        os.close(write)
        os.read(read, 10)
        os.close(read)
        self.assertEqual(process.wait(timeout=60), 0)
        self.assertEqual(self.status()["metrics"]["attempts"]["completed"], 400)

    def test_watchers_that_hang_or_die_do_not_harm_the_run(self):
        self.write("edition = 1\njob first { run = [\"sh\", \"-c\", \"touch @FLAGS@/up; while [ ! -e @FLAGS@/go ]; do sleep 0.02; done\"] }\n"
                   "job many { after = [first] for i in range(600) key \"~{i}\" run = [\"true\"] }\n".replace("@FLAGS@", str(self.flags)))
        run = self.start("run", "a.job")
        self.wait_for("up")
        watchers = []
        for _ in range(4):
            watcher = self.start("watch", "--json")
            watcher.stdout.readline()
            watchers.append(watcher)
        os.kill(watchers[0].pid, signal.SIGSTOP)  # hangs
        self.addCleanup(lambda: watchers[0].poll() is None and os.kill(watchers[0].pid, signal.SIGCONT))
        watchers[1].kill()                        # dies
        self.flag("go").touch()                   # the third reads nothing: its pipe is soon full
        self.finish(run, code=0)
        done = self.finish(watchers[3], code=0)   # the last one reads everything
        events = [json.loads(line) for line in done.raw_out.decode().splitlines()]
        self.assertEqual(sum(event["event"] == "succeeded" for event in events), 601)
        self.assertEqual(events[-1]["event"], "run_finished")
        for watcher in watchers[:3]:
            watcher.kill()


class Hooks(Story):
    def test_hooks_that_fail_cannot_start_or_write_nonsense_do_no_harm(self):
        for event in ("start", "success", "finish"):
            for run in ('["false"]', '["no-such-program"]', '["sh", "-c", "kill -9 $$"]', '["sh", "-c", "printf \'\\\\377\\\\033[2J\' >&2; echo x > $JOB_RESULT; exit 77"]'):
                with self.subTest(event=event, run=run):
                    done = self.run_job(f'job a {{ run = ["echo", "x"] output {{ t: String = trim(stdout()) }} }}\nexport {{ t: String = a.t }}\nhook on {event} {{ run = {run} }}\n')
                    self.assertEqual(json.loads(done.out), {"t": "x"})
                    self.assertSays(done.err, f"warning: hook/{event}")
                    self.assertNotIn("\x1b[2J", done.err)
                    self.assertEqual(self.status()["exit_code"], 0)

    def test_a_hook_that_hangs_ends_at_its_limit(self):
        for event in ("start", "success", "finish"):
            with self.subTest(event=event):
                begin = time.monotonic()
                done = self.run_job(f'job a {{ run = ["touch", "@FLAGS@/{event}"] }}\nhook on {event} {{ timeout {{ run = 300ms }} grace = 100ms run = ["sh", "-c", "trap : TERM; sleep 4711; sleep 4711"] }}\n')
                self.assertSays(done.err, f"warning: hook/{event}")
                self.assertTrue(self.flag(event).exists())
                self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(processes_with("sleep\x004711"), [])

    def test_an_interrupt_ends_a_hook(self):
        self.write('edition = 1\njob a { run = ["true"] }\nhook on finish { run = ["sh", "-c", "touch @FLAGS@/up; exec sleep 4712"] }\n'.replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job")
        self.wait_for("up")
        process.send_signal(signal.SIGINT)
        while b"interrupted by SIGINT" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        self.finish(process, code=130)
        wait_until(lambda: processes_with("sleep\x004712") == [], what="the hook to end")


class PrologueAndEpilogue(Story):
    JOB = """
job a {{ on_error = ignore env {{ MINE = "mine" }} timeout {{ run = {limit} }} grace = 5s
prologue = <<~SH
  {prologue}
SH
{run}
epilogue = <<~SH
  echo "$MINE $JOB_NAME ${{JOB_EXIT-none}} $(pwd)" >> @FLAGS@/epilogue
  {epilogue}
SH
output {{ t: String? = "t" }} }}
"""

    def go(self, run='run = ["touch", "t"]', prologue=":", epilogue=":", limit="1m"):
        self.flag("epilogue").unlink(missing_ok=True)
        self.run_job(self.JOB.format(run=run, prologue=prologue, epilogue=epilogue, limit=limit).replace("String?", "File?"))
        one = self.instances()["a"]
        return one, self.flag("epilogue").read_text().split() if self.flag("epilogue").exists() else None

    def test_in_the_environment_of_the_job(self):
        one, said = self.go()
        self.assertEqual((one["state"], said[:3]), ("succeeded", ["mine", "a", "0"]))

    def test_the_epilogue_runs_however_the_job_ends(self):
        for run, code in (('run = ["sh", "-c", "exit 3"]', "3"), ('run = ["no-such-program"]', "127"), ('run = ["sh", "-c", "kill -9 $$"]', "137"), ("script = <<~SH\n exit 4\nSH", "4"), ("script = <<~SH\n set -e; false; true\nSH", "1")):
            with self.subTest(run=run):
                one, said = self.go(run)
                self.assertEqual((one["state"], said and said[:3]), ("failed", ["mine", "a", code]))

    def test_the_epilogue_runs_after_a_prologue_that_fails(self):
        one, said = self.go(prologue="exit 5")
        self.assertEqual((one["state"], one["exit_code"]), ("failed", 5))
        self.assertEqual(said[:3], ["mine", "a", "5"])

    def test_the_epilogue_runs_when_the_job_is_told_to_end(self):
        one, said = self.go('run = ["sleep", "60"]', limit="300ms")
        self.assertEqual(one["kind"], "timeout")
        self.assertEqual(said and said[:2], ["mine", "a"])
        one, said = self.go("script = <<~SH\n sleep 60\nSH", limit="300ms")
        self.assertEqual(one["kind"], "timeout")
        self.assertEqual(said and said[:2], ["mine", "a"])

    def test_an_epilogue_that_fails(self):
        one, said = self.go(epilogue="exit 9")
        self.assertEqual((said[:3], one["state"]), (["mine", "a", "0"], "succeeded"), "the job has done its part")
        one, said = self.go('run = ["sh", "-c", "exit 3"]', epilogue="exit 9")
        self.assertEqual((one["state"], one["exit_code"]), ("failed", 3), "the reason stays that of the job")


if __name__ == "__main__":
    unittest.main()
