"""How runs go: strategies, states, retries, time limits, interrupts, the end of a run, scatters, pools and claims. Each test
is a story that is told by a .job file, the exit code, and what `status` and `result` say afterwards."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

from story import ROOT, Story, wait_until

# `bad` fails when `slow` runs; `slow` ends a while after that, if it is let. @A@ stands for what `bad` says on errors.
FOUR = """
job bad { @A@ script = <<~SH
  until [ -e @FLAGS@/slow ]; do sleep 0.01; done
  echo "it is bad" >&2; exit 9
SH
output { x: String = "never" } }
job slow { script = <<~SH
  touch @FLAGS@/slow; sleep 0.4; echo done > slow.txt
SH
output { f: File = "slow.txt" } }
job later { after = [slow] run = ["true"] }
job needs { after = [bad.done] @W@ run = ["true"] }
"""


class Strategies(Story):
    def four(self, on_error, *arguments, code, weak=""):
        text = FOUR.replace("@A@", f"on_error = {on_error}" if on_error else "").replace("@W@", weak)
        done = self.run_job(text + "job strong { after = [bad] run = [\"true\"] }\nexport { f: File = slow.f }\n", "--max-parallel", "4", *arguments, code=code)
        return done, self.states()

    def test_two_names_over_pairs_are_their_halves(self):
        self.run_job("""
let xs = ["a", "b"]
job a {
  for i, text in enumerate(xs) key i
  input { all: List<String> = [for j, t in zip(xs, ["x", "y"]) : "~{j}~{t}"] }
  run = ["echo", i, text, ...input.all]
  output { o: String = trim(stdout()) }
}
export { o: List<String> = a[*].o }
""")
        self.assertEqual(self.jobc("result", "--json").json, {"o": ["0 a ax by", "1 b ax by"]})

    def test_drain_lets_what_runs_end_and_starts_nothing_new(self):
        for on_error, words in [("drain", []), (None, []), ("continue", ["--on-error", "drain"])]:
            self.flag("slow").unlink(missing_ok=True)
            done, states = self.four(on_error, *words, code=10)
            self.assertEqual(states, {"bad": "failed", "slow": "succeeded", "later": "cancelled", "needs": "cancelled", "strong": "blocked"}, on_error)
            # The report names the failure: what, how, and how to see more.
            self.assertSays(done.err, "failed: bad: exit 9", "it is bad", "jobc logs", "reproduce")

    def test_drain_never_ends_a_program_that_began(self):
        # `bad` ends about when the others begin: whichever comes first, a program that ran is not called cancelled.
        others = "".join(f'job j{n} {{ run = ["sh", "-c", "echo began"] }}\n' for n in range(6))
        for _ in range(10):
            self.run_job('job bad { run = ["false"] }\n' + others, "--max-parallel", "7", code=10)
            states = self.states()
            for n in range(6):
                began = "began" in self.jobc("logs", f"j{n}", code=None).out
                self.assertEqual(states[f"j{n}"], "succeeded" if began else "cancelled")

    def test_halt_cancels_everything(self):
        started = time.monotonic()
        _, states = self.four("halt", code=10)
        self.assertEqual(states, {"bad": "failed", "slow": "cancelled", "later": "cancelled", "needs": "cancelled", "strong": "blocked"})
        self.assertLess(time.monotonic() - started, 8)

    def test_continue_goes_on_with_everything_else(self):
        _, states = self.four("continue", code=10)
        self.assertEqual(states, {"bad": "failed", "slow": "succeeded", "later": "succeeded", "needs": "succeeded", "strong": "blocked"})

    def test_ignore_is_a_success_without_outputs(self):
        text = FOUR.replace("@A@", "on_error = ignore").replace("@W@", "") + "export { x: String? = bad.x, f: File = slow.f }\njob strong { after = [bad] run = [\"true\"] }\n"
        done = self.run_job(text, code=0)
        self.assertIsNone(done.json["x"])
        self.assertEqual(self.states(), {"bad": "failed", "slow": "succeeded", "later": "succeeded", "needs": "succeeded", "strong": "skipped"})
        self.assertEqual(self.status()["status"], "succeeded")
        # That it was tolerated is still said.
        self.assertSays(done.err, "bad", "ignore")

    def test_strict_makes_ignored_failures_count(self):
        done = self.run_job('job bad { on_error = ignore run = ["false"] }\njob ok { run = ["true"] }\n', "--strict", code=11)
        self.assertSays(done.err, "error: ", "ignored", "--strict")
        self.assertEqual(self.run_job('job ok { on_error = ignore run = ["true"] }\n', "--strict").code, 0)

    def test_the_command_line_does_not_touch_ignore(self):
        self.run_job('job bad { on_error = ignore run = ["false"] }\njob ok { after = [bad.done] run = ["true"] }\n', "--on-error", "halt")
        self.assertEqual(self.states(), {"bad": "failed", "ok": "succeeded"})

    def test_modes_only_grow(self):
        # First `continue` fails, then `drain`: from then on nothing starts.
        self.run_job("""
job first { on_error = continue run = ["false"] }
job second { after = [first.done] on_error = drain run = ["false"] }
job third { after = [second.done] on_error = continue run = ["true"] }
""", code=10)
        self.assertEqual(self.states(), {"first": "failed", "second": "failed", "third": "cancelled"})

    def test_drain_ends_a_backoff_with_the_last_kind(self):
        started = time.monotonic()
        self.run_job("""
job again { retry { max_attempts = 5, backoff = constant(1h), on = [exit] } script = <<~SH
  touch @FLAGS@/tried; exit 4
SH
}
job bad { script = <<~SH
  until [ -e @FLAGS@/tried ]; do sleep 0.01; done; sleep 0.3; exit 9
SH
}
""", "--max-parallel", "2", code=10)
        again = self.instances()["again"]
        self.assertEqual((again["state"], again["kind"], again["exit_code"], len(again["attempts"])), ("failed", "exit", 4, 1))
        self.assertLess(time.monotonic() - started, 20)


class Conditions(Story):
    def test_a_check_that_is_false_ends_the_run_with_12(self):
        done = self.run_job("""
job count { run = ["echo", "41"] output { n: Int = to_int(trim(stdout())) } }
check enough { require count.n >= 42 else "only ~{count.n} of 42" }
job next { after = [enough] run = ["true"] }
""", code=12)
        self.assertSays(done.err, "enough", "only 41 of 42")
        found = self.instances()
        self.assertEqual({a: o["state"] for a, o in found.items()}, {"count": "succeeded", "enough": "failed", "next": "blocked"})
        self.assertEqual(found["enough"]["kind"], "check")
        self.assertEqual(found["enough"].get("attempts", []), [])

    def test_the_first_failure_decides_the_code(self):
        bad = 'job bad { on_error = continue run = ["false"] }\n'
        self.run_job(bad + 'check never { after = [bad.done] on_error = continue require bad.ok else "no" }\n', code=10)
        self.run_job('check never { on_error = continue require 1 > 2 else "no" }\njob bad { after = [never.done] on_error = continue run = ["false"] }\n', code=12)

    def test_a_check_cannot_be_ignored(self):
        self.run_job('check never { on_error = ignore require 1 > 2 else "no" }\n', code=3)

    def test_skipped_and_blocked(self):
        self.run_job("""
params { go: Bool = false }
job maybe { when = params.go run = ["echo", "x"] output { t: String = stdout() } }
job with_it { after = [maybe] run = ["true"] }
job without { input { t: String? = maybe.t } run = ["echo", input.t ?? "none"] output { t: String = trim(stdout()) } }
job bad { on_error = continue run = ["false"] output { t: String = stdout() } }
job needs { input { t: String = bad.t } run = ["echo", input.t] }
job deeper { after = [needs] run = ["true"] }
job asks { after = [bad.done] run = ["echo", "~{bad.ok} ~{bad.failed} ~{bad.done}"] output { t: String = trim(stdout()) } }
export { without: String = without.t, asks: String = asks.t, needs: Bool = needs.done }
""", code=10)
        self.assertEqual(self.states(), {"maybe": "skipped", "with_it": "skipped", "without": "succeeded", "bad": "failed", "needs": "blocked", "deeper": "blocked", "asks": "succeeded"})
        self.assertEqual(self.result(code=10), {"without": "none", "asks": "false true true", "needs": True})
        for address in ("needs", "deeper"):
            self.assertNotIn("cancelled", json.dumps(self.instances()[address]), "blocked is not cancelled")
        self.assertIn("bad", self.instances()["needs"]["message"])

    def test_a_job_for_when_another_failed(self):
        text = 'job bad { on_error = continue run = ["@P@"] }\njob repair { after = [bad.failed] run = ["true"] }\n'
        self.run_job(text.replace("@P@", "false"), code=10)
        self.assertEqual(self.states(), {"bad": "failed", "repair": "succeeded"})
        self.run_job(text.replace("@P@", "true"))
        self.assertEqual(self.states(), {"bad": "succeeded", "repair": "skipped"})

    def test_failed_of_a_scatter_is_at_least_one(self):
        text = 'job some { for i in range(3) key i on_error = continue script = <<~SH\n test ~{i} -lt @N@\n SH\n }\njob repair { after = [some.failed] run = ["true"] }\n'
        self.run_job(text.replace("@N@", "2"), code=10)
        self.assertEqual(self.states(), {'some["0"]': "succeeded", 'some["1"]': "succeeded", 'some["2"]': "failed", "repair": "succeeded"})
        self.run_job(text.replace("@N@", "3"))
        self.assertEqual(self.states()["repair"], "skipped")

    def test_failed_of_a_job_that_drains_can_never_be(self):
        done = self.run_job('job bad { run = ["false"] }\njob repair { after = [bad.failed] run = ["true"] }\n', code=3)
        self.assertIn("error[E302]", done.err)

    def test_a_value_that_fails_is_no_attempt(self):
        done = self.run_job("""
job list { run = ["echo", "a b"] output { words: List<String> = split(trim(stdout()), " ") } }
job third { input { w: String = list.words[2] } run = ["echo", input.w] }
""", code=10)
        third = self.instances()["third"]
        self.assertEqual((third["state"], third["kind"], third.get("attempts", [])), ("failed", "expression", []))
        self.assertSays(done.err, "third", "input `w`", "2", "list")

    def test_one_to_one_waits_for_its_own_only(self):
        # use["0"] runs while make["1"] still waits for it.
        self.run_job("""
job make { for i in range(2) key i script = <<~SH
  if [ ~{i} = 1 ]; then until [ -e @FLAGS@/used0 ]; do sleep 0.01; done; fi
  echo ~{i} > f
SH
output { f: File = "f" } }
job use { for i in range(2) key i input { f: File = make[i].f } script = <<~SH
  touch @FLAGS@/used~{i}
SH
}
""", "--max-parallel", "2")
        self.assertEqual(set(self.states().values()), {"succeeded"})


class Retries(Story):
    def attempts(self, text, code=10, address="a"):
        done = self.run_job(text, code=code)
        one = self.instances()[address]
        return done, one, len(one["attempts"])

    def test_no_retry_is_one_attempt(self):
        self.assertEqual(self.attempts('job a { run = ["false"] }')[2], 1)

    def test_only_kinds_that_are_named(self):
        retry = "retry { max_attempts = 3, backoff = constant(1ms), on = [%s] }"
        self.assertEqual(self.attempts(f'job a {{ {retry % "exit"} run = ["false"] }}')[2], 3)
        self.assertEqual(self.attempts(f'job a {{ {retry % "timeout, network"} run = ["false"] }}')[2], 1)
        self.assertEqual(self.attempts(f'job a {{ {retry % "algorithm"} run = ["false"] }}')[2], 3)
        self.assertEqual(self.attempts('job a { retry { max_attempts = 3, backoff = constant(1ms) } run = ["false"] }')[2], 1)

    def test_each_rule_has_its_own_count(self):
        text = """
job a {{
  errors {{ exit(75) => system("busy", "the shop is busy") exit(65) => data("bad-input", "the input is malformed") }}
  retry {{ max_attempts = 9, backoff = constant(1ms), on = [signal] on "busy" {{ retries = 2 }} on exit {{ retries = 1 }} never = [data] }}
  script = <<~SH
    n=$JOB_ATTEMPT
    {0}
  SH
}}"""
        _, one, count = self.attempts(text.format("exit 75"))
        self.assertEqual((one["error"], one["class"], count), ("busy", "system", 3))
        self.assertIn("the shop is busy", json.dumps(one))
        _, one, count = self.attempts(text.format("exit 65"))
        self.assertEqual((one["class"], count), ("data", 1))
        _, one, count = self.attempts(text.format("exit 3"))
        self.assertEqual((one["kind"], count), ("exit", 2))
        # busy, exit, busy, then exit again, whose one retry is used up.
        _, one, count = self.attempts(text.format('case $n in 1|3) exit 75;; *) exit 3;; esac'))
        self.assertEqual((one["exit_code"], count), (3, 4))
        self.assertEqual([each.get("exit_code") for each in one["attempts"]], [75, 3, 75, 3])
        _, one, count = self.attempts(text.format('kill -KILL $$'))
        self.assertEqual((one["kind"], count), ("signal", 9))
        _, one, count = self.attempts(text.format('[ "$n" = 3 ] || exit 75'), code=0)
        self.assertEqual((one["state"], count), ("succeeded", 3))

    def test_resources_grow_up_to_their_cap(self):
        done, one, count = self.attempts("""
job a {
  errors { exit(137) => oom }
  resources { memory = 20MiB }
  retry { max_attempts = 9, backoff = constant(1ms) on oom { retries = 8, resources { memory = min(prev.memory * 2, 70MiB) } } }
  env { MEM = resources.memory }
  script = <<~SH
    echo "$JOB_ATTEMPT $MEM" >> @FLAGS@/mem; exit 137
  SH
}""")
        mib = 1 << 20
        self.assertEqual(self.flag("mem").read_text().split("\n")[:-1], [f"1 {20 * mib}", f"2 {40 * mib}", f"3 {70 * mib}"])
        self.assertEqual((one["kind"], count), ("oom", 3))
        self.assertIn("cap", done.err)

    def test_a_pattern_in_stderr_decides_the_kind(self):
        _, one, count = self.attempts("""
job a { errors { stderr(re"CUDA out of mem.ry") => oom } retry { max_attempts = 2, backoff = constant(1ms), on = [oom] }
  script = <<~SH
    echo "RuntimeError: CUDA out of memory (2 GiB)" >&2; exit 1
  SH
}""")
        self.assertEqual((one["kind"], count), ("oom", 2))

    def test_an_exit_code_can_be_a_success(self):
        self.run_job('job a { errors { exit(1) => success } run = ["grep", "x", "/dev/null"] output { code: Int = exit_code() } }\nexport { code: Int = a.code }')
        self.assertEqual(self.result(), {"code": 1})
        self.run_job('job a { errors { exit(0) => data("empty", "nothing was found") } run = ["true"] }', code=10)
        self.assertIn("nothing was found", json.dumps(self.instances()["a"]))

    def test_kinds_that_jobc_decides_are_not_remapped(self):
        _, one, _ = self.attempts('job a { errors { exit(0..255) => data("mine", "x") } timeout { run = 200ms } grace = 100ms run = ["sleep", "30"] }')
        self.assertEqual(one["kind"], "timeout")

    def test_a_fresh_directory_for_each_attempt(self):
        self.run_job("""
job a { retry { max_attempts = 3, backoff = constant(1ms), on = [exit] }
  script = <<~SH
    ls -A | wc -l >> @FLAGS@/seen; touch left; mkdir -p d/e; echo x > d/e/f; chmod 0 d/e; pwd >> @FLAGS@/where; [ "$JOB_ATTEMPT" = 3 ]
  SH
}""")
        self.assertEqual(self.flag("seen").read_text().split(), ["0", "0", "0"])

    def test_backoff_is_waited_for(self):
        self.run_job('job a { retry { max_attempts = 3, backoff = exponential(200ms, factor = 2.0, max = 1s, jitter = none), on = [exit] }\n script = <<~SH\n date +%s%N >> @FLAGS@/at; exit 1\n SH\n }', code=10)
        first, second, third = [int(line) / 1e6 for line in self.flag("at").read_text().split()]
        self.assertGreaterEqual(second - first, 195)
        self.assertGreaterEqual(third - second, 390)

    def test_retry_of_the_command_line_gives_fresh_attempts(self):
        self.run_job("""
job a { retry { max_attempts = 2, backoff = constant(1ms), on = [exit] } script = <<~SH
  echo x >> @FLAGS@/n; [ -e @FLAGS@/good ]
SH
}
job b { after = [a] run = ["true"] }""", code=10)
        self.assertEqual(self.states(), {"a": "failed", "b": "blocked"})
        self.jobc("resume", code=10)
        self.assertEqual(len(self.flag("n").read_text().split()), 2, "resume leaves what failed")
        self.flag("good").touch()
        self.jobc("retry")
        self.assertEqual(len(self.flag("n").read_text().split()), 3)
        self.assertEqual(self.states(), {"a": "succeeded", "b": "succeeded"})


class TimeLimits(Story):
    def test_run_gives_term_then_kill(self):
        started = time.monotonic()
        done = self.run_job("""
job a { timeout { run = 300ms } grace = 300ms script = <<~SH
  trap 'echo asked > @FLAGS@/term' TERM
  while :; do sleep 0.05; done
SH
}""", code=10)
        self.assertLess(time.monotonic() - started, 9)
        self.assertTrue(self.flag("term").exists(), "TERM comes first")
        self.assertEqual(self.instances()["a"]["kind"], "timeout")
        self.assertSays(done.err, "timeout", "300ms")

    def test_a_program_that_ends_well_at_term_has_still_timed_out(self):
        self.run_job("job a { timeout { run = 200ms } script = <<~SH\n trap 'exit 0' TERM\n while :; do sleep 0.02; done\n SH\n }", code=10)
        self.assertEqual(self.instances()["a"]["kind"], "timeout")

    def test_idle_is_no_byte_for_so_long(self):
        self.run_job('job a { timeout { idle = 300ms } grace = 100ms run = ["sleep", "30"] }', code=10)
        self.assertEqual(self.instances()["a"]["kind"], "idle_timeout")
        self.run_job("job a { timeout { idle = 600ms } script = <<~SH\n for i in 1 2 3 4 5 6 7 8; do sleep 0.15; echo . >&2; done\n SH\n }")

    def test_total_counts_over_all_attempts_and_is_not_retried(self):
        done = self.run_job('job a { timeout { total = 900ms } retry { max_attempts = 50, backoff = constant(200ms), on = [exit] } run = ["false"] }', code=10)
        one = self.instances()["a"]
        self.assertEqual(one["kind"], "timeout", str(done))
        self.assertTrue(2 <= len(one["attempts"]) <= 5, one)
        self.assertIn("all its attempts together took longer than 900ms", one["message"])
        self.assertIn(one["message"], done.err)

    def test_waiting_for_a_slot_is_not_queueing(self):
        self.run_job("""
pool one { slots = 1 }
defaults { pools = { one = 1 } timeout { queue = 300ms, total = 900ms } }
job a { run = ["sleep", "0.5"] }
job b { run = ["sleep", "0.5"] }
job c { run = ["sleep", "0.5"] }""", "--max-parallel", "3")
        self.assertEqual(set(self.states().values()), {"succeeded"})

    def test_the_time_of_a_run_ends_it_with_13(self):
        done = self.run_job("""
limits { time = 700ms }
job quick { run = ["true"] }
job a { grace = 100ms run = ["sleep", "30"] }
job b { after = [a] run = ["true"] }
finally tell { run = ["sh", "-c", "echo $0 > @FLAGS@/told", run.status] }
""", code=13)
        self.assertSays(done.err, "700ms", "limits", "go on: jobc resume")
        self.assertEqual(self.flag("told").read_text(), "timed_out\n")
        states = self.states()
        self.assertEqual((states["quick"], states["a"], states["b"]), ("succeeded", "cancelled", "cancelled"))

    def test_a_limit_of_nothing_is_refused(self):
        self.assertIn("E203", self.run_job('job a { timeout { run = 0s } run = ["true"] }', code=3).err)


class Interrupts(Story):
    TEXT = """
job a { grace = 500ms script = <<~SH
  trap 'echo term >> @FLAGS@/term' TERM
  touch @FLAGS@/started
  while :; do sleep 0.05 || :; done
SH
}
job b { after = [a] run = ["true"] }
finally tell { script = <<~SH
  echo ~{run.status} ~{join(run.failed_jobs, ",")} > @FLAGS@/told; @F@
SH
}
"""

    def begin(self, text=None, last=":"):
        self.write("edition = 1\n" + (text or self.TEXT).replace("@FLAGS@", str(self.flags)).replace("@F@", last))
        run = self.start("run", "a.job")
        self.wait_for("started")
        return run

    def test_once_asks_then_kills_then_runs_finally(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            for name in ("started", "term", "told"):
                self.flag(name).unlink(missing_ok=True)
            run = self.begin()
            os.killpg(run.pid, number)  # as a terminal does, to all of its processes
            done = self.finish(run, code=130)
            self.assertEqual(self.flag("term").read_text(), "term\n")
            self.assertEqual(self.flag("told").read_text(), "interrupted \n")
            self.assertEqual(self.states(), {"a": "cancelled", "b": "cancelled", "tell": "succeeded"})
            status = self.status()
            self.assertEqual((status["status"], status["exit_code"], status["running"]), ("interrupted", 130, False))
            self.assertSays(done.err, "interrupt", "jobc resume")

    def test_exports_of_what_was_cancelled_are_null_and_no_news(self):
        self.write(f'''edition = 1
job a {{ for i in range(3) key i run = ["sh", "-c", "touch {self.flags}/started; sleep 100"] output {{ t: String = stdout() }} }}
export {{ all: List<String> = a[*].t }}
''')
        run = self.start("run", "a.job")
        self.wait_for("started")
        run.send_signal(signal.SIGINT)
        done = self.finish(run, code=130)
        self.assertEqual(done.json, {"all": None})
        self.assertNotIn("no value", done.err)

    def test_twice_ends_at_once(self):
        run = self.begin(self.TEXT.replace("500ms", "1h"))
        run.send_signal(signal.SIGINT)
        self.wait_for("term")
        started = time.monotonic()
        run.send_signal(signal.SIGINT)
        self.finish(run, code=130)
        self.assertLess(time.monotonic() - started, 3)
        self.assertFalse(self.flag("told").exists(), "no time for finally")
        self.assertEqual(self.status()["running"], False)

    def test_a_second_one_during_finally(self):
        run = self.begin(last="touch @FLAGS@/finally; sleep 60".replace("@FLAGS@", str(self.flags)))
        run.send_signal(signal.SIGINT)
        self.wait_for("finally")
        run.send_signal(signal.SIGINT)
        started = time.monotonic()
        self.finish(run, code=130)
        self.assertLess(time.monotonic() - started, 3)

    def test_before_anything_fails_wins_over_what_fails_later(self):
        run = self.begin("""
job a { script = <<~SH
  trap 'exit 7' TERM; touch @FLAGS@/started; while :; do sleep 0.02; done
SH
}""")
        run.send_signal(signal.SIGINT)
        self.finish(run, code=130)
        self.assertEqual(self.states(), {"a": "cancelled"})

    def test_an_interrupted_run_can_be_gone_on_with(self):
        run = self.begin("""
job a { script = <<~SH
  touch @FLAGS@/started; until [ -e @FLAGS@/go ]; do sleep 0.02; done; echo $JOB_ATTEMPT
SH
output { t: String = trim(stdout()) } }
job b { after = [a] run = ["true"] }
export { t: String = a.t }
""")
        run.send_signal(signal.SIGINT)
        self.finish(run, code=130)
        self.flag("go").touch()
        self.assertEqual(self.jobc("resume").json, {"t": "2"})
        self.assertEqual(self.states(), {"a": "succeeded", "b": "succeeded"})


class Ends(Story):
    def test_finally_knows_how_it_went(self):
        tell = 'finally tell { run = ["sh", "-c", "echo $0 $1 > @FLAGS@/told", run.status, join(run.failed_jobs, ",")] }\n'
        self.run_job('job z { on_error = continue run = ["false"] }\njob b { for i in range(2) key i on_error = continue run = ["false"] }\njob t { on_error = ignore run = ["false"] }\n' + tell, code=10)
        self.assertEqual(self.flag("told").read_text(), 'failed b["0"],b["1"],z\n')
        self.run_job('job t { on_error = ignore run = ["false"] }\n' + tell)
        self.assertEqual(self.flag("told").read_text(), "succeeded\n")

    def test_finally_reads_outputs_that_may_be_missing(self):
        self.run_job('job a { run = ["echo", "x"] output { t: String = trim(stdout()) } }\njob b { on_error = halt run = ["false"] output { t: String = stdout() } }\n'
                     'finally tell { run = ["sh", "-c", "echo $0 $1 > @FLAGS@/told", a.t ?? "none", b.t ?? "none"] }\n', "--max-parallel", "1", code=10)
        self.assertEqual(self.flag("told").read_text(), "x none\n")

    def test_a_finally_that_fails_fails_the_run(self):
        done = self.run_job('job a { run = ["true"] }\nfinally tell { run = ["false"] }\nfinally other { run = ["touch", "@FLAGS@/other"] }\n', code=10)
        self.assertIn("tell", done.err)
        self.assertTrue(self.flag("other").exists())
        self.assertEqual(self.states()["tell"], "failed")
        # It never hides an earlier cause.
        self.run_job('check no { require 1 > 2 else "no" }\nfinally tell { run = ["false"] }\n', code=12)

    def test_hooks(self):
        hooks = "".join(f'hook on {event} {{ run = ["sh", "-c", "echo {event} $0 >> @FLAGS@/hooks", run.status] }}\n' for event in ("success", "failure", "finish"))
        hooks += 'hook on start { run = ["sh", "-c", "echo start >> @FLAGS@/hooks"] }\n'
        order = 'job a { run = ["sh", "-c", "echo job >> @FLAGS@/hooks; exit @C@"] }\nfinally f { run = ["sh", "-c", "echo finally >> @FLAGS@/hooks"] }\n'
        self.run_job(hooks + order.replace("@C@", "0"))
        self.assertEqual(self.flag("hooks").read_text().splitlines(), ["start", "job", "finally", "success succeeded", "finish succeeded"])
        self.flag("hooks").unlink()
        self.run_job(hooks + order.replace("@C@", "1"), code=10)
        self.assertEqual(self.flag("hooks").read_text().splitlines(), ["start", "job", "finally", "failure failed", "finish failed"])

    def test_a_hook_that_fails_is_a_warning(self):
        done = self.run_job('job a { run = ["true"] }\nhook on success { run = ["no-such-program"] }\n')
        self.assertSays(done.err, "warning: hook/success", "no-such-program")

    def test_each_end_is_told_once_in_a_line(self):
        for how, reason, error in (("exit 9", "exit 9", "exit code 9"), ("exit 127", "command (exit 127): the command was not found", "command: exit code 127: the command was not found"),
                                   ("kill -9 $$", "signal 9 (SIGKILL)", "was ended by signal 9")):
            done = self.run_job(f'job a {{ run = ["sh", "-c", "{how}"] }}\nhook on failure {{ run = ["sh", "-c", "{how}"] }}\n', code=10)
            self.assertSays(done.err, f"warning: hook/failure failed, which the run does not mind: {reason}\n", f"error: `a` failed: {error}\n")
            self.assertIn(f"\na: failed, 1 attempt, {reason}\n", self.jobc("status").out)

    def test_logs_of_a_run_that_started_nothing_say_why(self):
        self.run_job('job a { resources { memory = 900TiB } run = ["true"] }\n', code=14)
        self.assertSays(self.jobc("logs").err, "has started nothing", "has ended (failed)", "`a` needs 900 TiB of memory")

    def test_exports_of_a_failed_run(self):
        done = self.run_job('job a { on_error = continue run = ["echo", "x"] output { t: String = trim(stdout()) } }\njob b { on_error = continue run = ["false"] output { t: String = stdout() } }\n'
                            'export { a: String = a.t, b: String = b.t, both: String = "~{a.t}~{b.t}" }\n', code=10)
        self.assertEqual(done.json, {"a": "x", "b": None, "both": None})
        self.assertEqual(self.result(code=10), {"a": "x", "b": None, "both": None})
        self.assertEqual(self.result("a.t"), "x")

    def test_an_export_that_fails_fails_the_run(self):
        done = self.run_job('job a { run = ["echo", "x"] output { l: List<String> = split(trim(stdout()), ",") } }\nexport { second: String = a.l[1], first: String = a.l[0] }\n', code=10)
        self.assertSays(done.err, "second", "1")
        self.assertEqual(self.result(code=10)["first"], "x")

    def test_events_are_json_lines_with_a_schema(self):
        self.write('edition = 1\njob a { on_error = ignore run = ["false"] }\njob b { run = ["echo", "x"] output { t: String = trim(stdout()) } }\nexport { t: String = b.t }\n')
        done = self.jobc("run", "a.job", "--json")
        events = [json.loads(line) for line in done.out.splitlines()]
        self.assertEqual((events[0]["event"], events[0]["schema"]), ("run_started", "jobc.events/1"))
        self.assertEqual((events[-1]["event"], events[-1]["exit_code"], events[-1]["status"]), ("run_finished", 0, "succeeded"))
        times = [event["time_ms"] for event in events]
        self.assertEqual(len({event["run"] for event in events if "run" in event}), 1)
        self.assertLess(max(times) - min(times), 30_000)
        names = [event["event"] for event in events if event.get("address") == "b"]
        self.assertEqual([n for n in names if n in ("queued", "submitting", "started", "attempt_ended", "succeeded")], ["queued", "submitting", "started", "attempt_ended", "succeeded"])
        self.assertNotIn("\x1b", done.out)

    def test_dry_run_starts_nothing(self):
        self.write(f'edition = 1\njob a {{ run = ["touch", "{self.flags}/ran"] }}\n')
        done = self.jobc("run", "a.job", "--dry-run")
        self.assertIn("a", done.out + done.err)
        self.assertFalse(self.flag("ran").exists())
        self.assertNothingBegan()


class Scatters(Story):
    DYNAMIC = """
job list { run = ["printf", "%s", "@L@"] output { names: List<String> = parse_json(stdout(), List<String>) } }
job each { for name in list.names key name max 3 run = ["sh", "-c", "echo $0 >> @FLAGS@/ran; echo $0", name] output { t: String = trim(stdout()) } }
job all { input { ts: List<String> = each[*].t } run = ["echo", ...input.ts] output { t: String = trim(stdout()) } }
export { t: String = all.t, n: Int = each.count, ok: Bool = each.ok, ratio: Float = each.ok_ratio, ts: List<String> = each[*].t }
"""

    def dynamic(self, names, code=0, *arguments):
        return self.run_job(self.DYNAMIC.replace("@L@", json.dumps(names, ensure_ascii=False).replace("\\", "\\\\").replace('"', '\\"')), code=code, *arguments)

    def test_a_dynamic_one(self):
        done = self.dynamic(["b", "a", "ü x"])
        self.assertEqual(done.json, {"t": "b a ü x", "n": 3, "ok": True, "ratio": 1, "ts": ["b", "a", "ü x"]})
        self.assertEqual(self.result('each["a"].t'), "a")
        self.assertEqual(self.result("each[\"ü x\"]"), {"t": "ü x"})

    def test_of_nothing(self):
        done = self.dynamic([])
        self.assertEqual(done.json, {"t": "", "n": 0, "ok": True, "ratio": 1, "ts": []})
        self.assertFalse(self.flag("ran").exists())

    def test_with_a_key_twice(self):
        done = self.dynamic(["a", "b", "a"], 10)
        one = self.instances()["each"]
        self.assertEqual((one["state"], one["kind"]), ("failed", "expression"))
        self.assertSays(one["message"], '"a"')
        self.assertIn(one["message"], done.err)
        self.assertFalse(self.flag("ran").exists(), "nothing started")
        self.assertEqual(self.states()["all"], "blocked")

    def test_of_more_than_its_maximum(self):
        self.dynamic(["a", "b", "c", "d"], 10)
        one = self.instances()["each"]
        self.assertEqual((one["state"], one["kind"]), ("failed", "expression"))
        self.assertSays(one["message"], "4", "3")
        self.assertFalse(self.flag("ran").exists())

    def test_with_a_key_that_cannot_be_one(self):
        self.dynamic(["a", ""], 10)
        self.assertEqual(self.instances()["each"]["kind"], "expression")
        self.dynamic(["a", "b\nc"], 10)
        self.assertEqual(self.instances()["each"]["kind"], "expression")

    def test_matrix_order_and_addresses(self):
        self.run_job("""
enum Mode { s, f }
job m { for c in ["x", "y"] key c
  matrix { mode = [Mode.s, Mode.f], n = [2, 4], exclude = [{ mode = Mode.f, n = 4 }] }
  run = ["echo", "~{c}-~{matrix.mode}-~{matrix.n}"] output { t: String = trim(stdout()) } }
export { all: List<String> = m[*].t, some: List<String> = m["y"].t }
""", "--max-parallel", "4")
        self.assertEqual(self.result(), {"all": ["x-s-2", "x-s-4", "x-f-2", "y-s-2", "y-s-4", "y-f-2"], "some": ["y-s-2", "y-s-4", "y-f-2"]})
        self.assertEqual(list(self.states()), [f'm["{c}","{m}","{n}"]' for c in "xy" for m, n in (("s", 2), ("s", 4), ("f", 2))])
        self.assertEqual(self.result('m["y","f","2"].t'), "y-f-2")

    def test_ten_thousand_instances_with_one_that_fails(self):
        # Not the speed but that nothing is lost on the way.
        self.run_job('job many { for i in range(400) key i on_error = continue script = <<~SH\n test ~{i} -ne 123 || exit 5\n SH\n }\nexport { ratio: Float = many.ok_ratio }\n', code=10)
        status = self.status()
        self.assertEqual(status["jobs"], [{"job": "many", "expanded": True, "succeeded": 399, "failed": 1}])
        self.assertEqual(self.result(code=10), {"ratio": 399 / 400})


class Limits(Story):
    def intervals(self):
        """[(begin, end, name)] as the jobs of `noting` wrote them."""
        begun, done = {}, []
        for line in self.flag("log").read_text().splitlines():
            what, name, at = line.split()
            if what == "begin":
                begun[name] = int(at)
            else:
                done.append((begun.pop(name), int(at), name))
        self.assertEqual(begun, {})
        return done

    def most_at_once(self, names=None):
        edges = sorted(edge for begin, end, name in self.intervals() if names is None or re.match(names, name) for edge in ((begin, 1), (end, -1)))
        now = most = 0
        for _, step in edges:
            now += step
            most = max(most, now)
        return most

    def noting(self, name, more, seconds="0.15"):
        key = '"' + name + '"'
        return (f"job {name} {{ {more}\n script = <<~SH\n me={key}$JOB_KEY; echo \"begin $me $(date +%s%N)\" >> @FLAGS@/log; sleep {seconds}; echo \"end $me $(date +%s%N)\" >> @FLAGS@/log\n SH\n }}\n")

    def test_pools_are_never_exceeded(self):
        self.run_job("pool p { slots = 3 }\n" + self.noting("a", "for i in range(6) key i pools = { p = 1 }") + self.noting("b", "for i in range(3) key i pools = { p = 2 }")
                     + self.noting("free", "for i in range(2) key i"), "--max-parallel", "8")
        slots = {"a": 1, "b": 2, "f": 0}
        edges = sorted(edge for begin, end, name in self.intervals() for edge in ((begin, slots[name[0]]), (end, -slots[name[0]])))
        now = most = 0
        for _, step in edges:
            now += step
            most = max(most, now)
        self.assertEqual(most, 3)  # used fully, never beyond
        self.assertEqual(set(self.states().values()), {"succeeded"})

    def test_max_parallel(self):
        self.run_job(self.noting("a", "for i in range(6) key i"), "--max-parallel", "2")
        self.assertEqual(self.most_at_once(), 2)
        self.flag("log").unlink()
        self.run_job("profile p default { backend = process { max_parallel = 3 } }\n" + self.noting("a", "for i in range(6) key i"))
        self.assertEqual(self.most_at_once(), 3)

    def test_priorities_then_plan_order(self):
        self.run_job(self.noting("a", "priority = -5", "0") + self.noting("b", "", "0") + self.noting("c", "for i in range(2) key i priority = 7", "0") + self.noting("d", "priority = 100", "0")
                     + self.noting("e", "", "0"), "--max-parallel", "1")
        self.assertEqual([name for _, _, name in self.intervals()], ["d", "c0", "c1", "b", "e", "a"])
        self.assertEqual(self.most_at_once(), 1)

    def capacity(self):
        report = self.jobc("doctor", "process", "--json").json
        text = json.dumps(report)
        cpus = re.search(r'(\d+) cpus?', text)
        return int(cpus.group(1)) if cpus else len(os.sched_getaffinity(0))

    def test_claims_of_cpus(self):
        cpus = self.capacity()
        self.run_job(self.noting("a", f"for i in range(3) key i resources {{ cpu = {cpus} }}"), "--max-parallel", "4")
        self.assertEqual(self.most_at_once(), 1)
        self.flag("log").unlink()
        self.run_job(self.noting("a", "for i in range(4) key i"), "--max-parallel", "4")
        self.assertEqual(self.most_at_once(), 4, "without claims only max_parallel counts")

    def test_claims_of_memory(self):
        total = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) * 1024
        self.run_job(self.noting("a", f"for i in range(3) key i resources {{ memory = {total * 2 // 5}B }}"), "--max-parallel", "4")
        self.assertEqual(self.most_at_once(), 2)

    def test_a_claim_above_the_machine(self):
        for claim, parts in [("cpu = 100000", ["cpu", "100000"]), ("memory = 900TiB", ["memory", "900 TiB"])]:
            done = self.run_job(f'job small {{ run = ["touch", "@FLAGS@/ran"] }}\njob big {{ after = [small] resources {{ {claim} }} run = ["true"] }}\n', code=14)
            self.assertEqual(done.out, "")
            self.assertSays(done.err, "`big`", parts[0], "oversubscribe")
            self.assertRegex(done.err.replace(",", "").replace(" ", ""), parts[1].replace(" ", "") + "|" + parts[1].split()[0])
            self.assertFalse(self.flag("ran").exists(), "before its first attempt")
            self.run_job(f'profile p default {{ backend = process {{ oversubscribe = true }} }}\njob big {{ resources {{ {claim} }} run = ["true"] }}\n')

    def test_a_backend_that_is_not_built_yet(self):
        for kind in ("slurm", "ssh { host = \"a\" }", "cloud_run { project = \"p\", region = \"r\" }"):
            name = kind.split()[0]
            image = ', image = "i@sha256:' + "0" * 64 + '"' if name == "cloud_run" else ""
            done = self.run_job(f'profile p {{ backend = {kind}{image} }}\njob a {{ run = ["touch", "@FLAGS@/ran"] }}\n', "--profile", "p", code=None)
            if done.code == 3:
                continue  # its options are wrong in this test; the checker has tests of its own
            self.assertEqual(done.code, 14, str(done))
            self.assertEqual(done.out, "")
            self.assertSays(done.err, name, "process")
            self.assertFalse(self.flag("ran").exists())
        done = self.run_job('profile p { backend = slurm }\njob a { run = ["true"] }\n', "--profile", "p", code=14)
        self.run_job('profile p { backend = slurm }\njob a { run = ["true"] }\n')

    @unittest.skipUnless(ROOT, "limits need writable control groups")
    def test_memory_above_the_limit_is_oom(self):
        report = json.dumps(self.jobc("doctor", "process", "--json").json)
        if "oom" not in report or "enforced" not in report:
            self.skipTest("no memory limits here")
        self.run_job('job a { resources { memory = 60MiB } retry { max_attempts = 3, backoff = constant(1ms) on oom { retries = 2, resources { memory = min(prev.memory * 4, 1GiB) } } }\n'
                     'script = <<~PY\n x = bytearray(150 << 20)\n print(len(x))\n PY\n }')
        one = self.instances()["a"]
        self.assertEqual([each.get("kind") for each in one["attempts"]], ["oom", None])


if __name__ == "__main__":
    unittest.main(verbosity=1)
