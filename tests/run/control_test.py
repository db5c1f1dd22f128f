"""Talking to a run from other processes: cancel of an instance, a job and a run in each of its states; watch and attach, many
at a time, late, hanging and dying; runs that leave their terminal; logs that are followed."""
import json
import os
import pathlib
import pty
import signal
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from story import Story, processes_with, wait_until

# One instance for each state that a cancel can meet; `other` goes on whatever is cancelled.
STATES = """edition = 1
pool one { slots = 1 }
defaults { on_error = continue }
job obeys { grace = 1h script = <<~SH
  trap 'echo got term >&2; echo term > @FLAGS@/obeyed; exit 0' TERM
  touch @FLAGS@/obeys; while :; do sleep 0.02; done
SH
}
job ignores { grace = 300ms script = <<~SH
  trap '' TERM; (trap '' TERM HUP; setsid sleep 36001) &
  touch @FLAGS@/ignores; while :; do sleep 0.02; done
SH
}
job holds { pools = { one = 1 } priority = 1 script = <<~SH
  touch @FLAGS@/holds; until [ -e @FLAGS@/go ]; do sleep 0.02; done
SH
}
job queued { pools = { one = 1 } run = ["touch", "@FLAGS@/queued-ran"] }
job backoff { retry { max_attempts = 3, backoff = constant(1h), on = [exit] } run = ["sh", "-c", "touch @FLAGS@/backoff; exit 1"] }
job waits { after = [holds] run = ["touch", "@FLAGS@/waits-ran"] }
job many { for i in range(3) key i script = <<~SH
  touch @FLAGS@/many~{i}; until [ -e @FLAGS@/go ]; do sleep 0.02; done
SH
}
job after_many { after = [many] run = ["true"] }
finally tell { run = ["sh", "-c", "echo $0 $1 > @FLAGS@/told", run.status, join(run.failed_jobs, ",")] }
"""


class Control(Story):
    def begin(self, text, *arguments, wait=(), **options):
        self.write(text.replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job", "--max-parallel", "20", *arguments, **options)
        for name in wait:
            wait_until(lambda: process.poll() is not None or self.flag(name).exists(), what=f"the job to write {name}")
            if process.poll() is not None:
                self.finish(process, code=-1)
        return process

    def go(self):
        self.flag("go").touch()

    def wait_for_state(self, address, state):
        wait_until(lambda: self.states().get(address) == state, what=f"{address} to be {state}")

    def run_dir(self):
        runs = self.at / ".jobc" / "runs"
        return runs / sorted(os.listdir(runs))[-1]


class Cancel(Control):
    WAIT = ("obeys", "ignores", "holds", "backoff", "many0", "many1", "many2")

    def begin_states(self):
        process = self.begin(STATES, wait=self.WAIT)
        self.wait_for_state("backoff", "backoff")
        return process

    def test_an_instance_in_each_state(self):
        process = self.begin_states()
        self.assertEqual({name: self.states()[name] for name in ("obeys", "backoff", "waits")},
                         {"obeys": "running", "backoff": "backoff", "waits": "waiting"})
        for name in ("obeys", "ignores", "queued", "backoff", "waits", 'many["1"]'):
            done = self.jobc("cancel", name, "--wait")
            self.assertIn(f"cancelled {name}", done.err)
            self.assertEqual(self.states()[name], "cancelled")
            again = self.jobc("cancel", name)
            self.assertIn("had ended already", again.err)
        self.assertEqual(self.flag("obeyed").read_text(), "term\n")  # a program that ends with 0 at TERM is cancelled all the same
        self.assertEqual(processes_with("sleep 36001"), [], "the daemon of a job that ignored TERM")
        self.assertEqual(self.states()['many["0"]'], "running", "others are not touched")
        self.go()
        done = self.finish(process, code=10)
        states = self.states()
        self.assertEqual({states[name] for name in ("holds", 'many["0"]', 'many["2"]')}, {"succeeded"})
        self.assertEqual(states["after_many"], "blocked")
        self.assertFalse(self.flag("queued-ran").exists() or self.flag("waits-ran").exists())
        self.assertEqual(len(self.instances()["backoff"]["attempts"]), 1, "a cancelled instance is not retried")
        self.assertIn("cancelled by", done.err)

    def test_jobs_of_which_one_is_a_scatter(self):
        process = self.begin_states()
        done = self.jobc("cancel", "many", "obeys", "--wait", "--json").json
        self.assertEqual((done["schema"], done["cancelled"], done["stopping"]), ("jobc.cancel/1", 2, False))
        states = self.states()
        self.assertEqual({states[name] for name in ("obeys", 'many["0"]', 'many["1"]', 'many["2"]')}, {"cancelled"})
        self.assertEqual(states["holds"], "running")
        self.jobc("cancel", "ignores", "backoff")
        self.go()
        self.finish(process, code=10)
        self.assertTrue(self.flag("waits-ran").exists())
        self.assertTrue(self.flag("queued-ran").exists(), "it got the slot")

    def test_a_run_in_all_its_states(self):
        process = self.begin_states()
        started = time.monotonic()
        self.jobc("cancel")
        again = self.jobc("cancel")
        self.assertRegex(again.err, "being cancelled already|has ended")
        self.finish(process, code=130)
        self.assertLess(time.monotonic() - started, 15)
        self.assertEqual(set(self.states().values()) - {"succeeded"}, {"cancelled"})
        self.assertEqual(self.states()["tell"], "succeeded")
        self.assertEqual(self.flag("told").read_text(), "interrupted\n")
        self.assertEqual(processes_with("sleep 36001"), [])
        ended = self.jobc("cancel")
        self.assertIn("nothing to cancel: the run", ended.err)
        # What was cancelled is decided again.
        self.go()
        self.flag("obeys").unlink()
        resumed = self.start("resume")
        self.wait_for("obeys")
        wait_until(lambda: self.states().get("waits") == "succeeded", what="waits to succeed")
        self.jobc("cancel", "--now", "--wait")
        self.finish(resumed, code=130)

    def test_a_run_at_once(self):
        process = self.begin_states()
        started = time.monotonic()
        self.jobc("cancel", "--now", "--wait")
        self.finish(process, code=130)
        self.assertLess(time.monotonic() - started, 5)
        self.assertFalse(self.flag("told").exists(), "no finally")
        self.assertFalse(self.flag("obeyed").exists(), "no grace")
        self.assertEqual(processes_with("sleep 36001"), [])

    def test_mistakes_are_named(self):
        process = self.begin(STATES, wait=("many0",))
        self.assertSays(self.jobc("cancel", "holdz", code=2).err, "holdz")
        self.assertSays(self.jobc("cancel", 'many["7"]', code=2).err, "many")
        self.assertSays(self.jobc("cancel", "many", "--now", code=2).err, "--now")
        elsewhere = self.base / "elsewhere"
        elsewhere.mkdir()
        self.assertEqual(self.jobc("cancel", cwd=elsewhere, code=None).code in (2, 0), True)
        self.jobc("cancel", "--now", "--wait", "--state", self.at / ".jobc", cwd=elsewhere)
        self.finish(process, code=130)

    def test_a_run_whose_process_was_killed(self):
        process = self.begin(STATES, wait=("many0",))
        process.kill()
        process.wait()
        self.assertIn("no process executes the run", self.jobc("cancel").err)


SCATTER = """edition = 1
job a { for i in range(@N@) key i run = ["true"] }
job b { retry { max_attempts = 2, on = [exit] } script = <<~SH
  echo attempt $JOB_ATTEMPT >&2; [ $JOB_ATTEMPT = 2 ]
SH
}
job gate { after = [a] script = <<~SH
  touch @FLAGS@/gate; until [ -e @FLAGS@/go ]; do sleep 0.02; done; echo through the gate >&2; exit 3
SH
}
"""


def recorded(text):
    """The events that the journal has, by the number of their record."""
    events = [json.loads(line) for line in text.splitlines()]
    return {event["record"]: {k: v for k, v in event.items() if k != "time_ms"} for event in events if "record" in event}


class Watch(Control):
    def begin_scatter(self, *arguments, n=20):
        return self.begin(SCATTER.replace("@N@", str(n)), *arguments, wait=("gate",))

    def test_several_at_once_see_the_same_whenever_they_come(self):
        process = self.begin(SCATTER.replace("@N@", "20"), "--json")
        wait_until(lambda: (self.at / ".jobc" / "runs").exists() and os.listdir(self.at / ".jobc" / "runs") and (self.run_dir() / "control").exists(), what="the run to listen")
        early = [self.start("watch", "--json"), self.start("attach", "--json"), self.start("watch"), self.start("attach")]
        self.wait_for("gate")
        late = [self.start("watch", "--json"), self.start("watch")]
        self.go()
        own = recorded(self.finish(process, code=10).out)
        after = [self.start("watch", "--json"), self.start("attach")]
        self.assertGreater(len(own), 80)
        for watcher in early + late + after:
            done = self.finish(watcher, code=10)
            if done.out:
                seen = recorded(done.out)
                self.assertEqual(list(seen), sorted(seen), "in order, and none twice")
                self.assertEqual(seen.keys(), own.keys())
                for number, event in own.items():
                    self.assertEqual(seen[number]["event"], event["event"])
                    self.assertEqual(seen[number].get("address"), event.get("address"))
                self.assertEqual(json.loads(done.out.splitlines()[-1])["event"], "run_finished")
            else:
                self.assertSays(done.err, "gate: failed" if "gate: failed" in done.err else "gate", "through the gate", "jobc result")

    def test_one_that_hangs_or_dies_does_not_hold_the_run_up(self):
        process = self.begin(SCATTER.replace("@N@", "4000"), env={"JOBC_HOME": str(self.base / "state")})
        state = {"env": {"JOBC_HOME": str(self.base / "state")}}
        wait_until(lambda: any((self.base / "state").glob("runs/*/control")), what="the run to listen")
        read_end, write_end = os.pipe()
        hanging = self.start("watch", "--json", stdout=write_end, **state)  # nobody reads
        os.close(write_end)
        stopped = self.start("watch", "--json", **state)
        dying = self.start("watch", "--json", **state)
        wait_until(lambda: stopped.stdout.readline(), what="the first event")
        wait_until(lambda: dying.stdout.readline(), what="the first event")
        stopped.send_signal(signal.SIGSTOP)
        dying.kill()
        self.go()
        self.finish(process, code=10, timeout=120)
        self.assertIsNone(hanging.poll())
        stopped.send_signal(signal.SIGCONT)
        rest = self.finish(stopped, code=10)
        self.assertEqual(json.loads(rest.out.splitlines()[-1])["event"], "run_finished")
        numbers = [json.loads(line)["record"] for line in rest.out.splitlines() if '"record"' in line]
        self.assertEqual(numbers, sorted(set(numbers)), "nothing twice")
        self.assertEqual(sum('"succeeded"' in line for line in rest.out.splitlines() if json.loads(line)["event"] == "succeeded"), 4001)
        os.close(read_end)
        self.assertIn(hanging.wait(20), (0, 10))  # its reader went away

    def test_clients_that_talk_nonsense_do_not_either(self):
        process = self.begin_scatter()
        os.chdir(self.run_dir())  # the path of a socket is short
        clients = []
        for text in (b"", b"\0\xff\n", b"{}\n", b'{"do":"fly"}\n', b'{"do":"cancel"}\n', b'{"do":"cancel","targets":[{"job":99}]}\n', b'{"do":"cancel","targets":[{"job":-1,"ordinal":1e99}]}\n',
                     b"[" * 70000 + b"\n", b"x" * 70000, b'{"do":"watch"}') + (b"",) * 80:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            try:
                client.connect("control")
                client.sendall(text)
            except OSError:
                pass
            clients.append(client)
        answers = []
        for client in clients[1:7]:
            try:
                answers.append(client.recv(65536))
            except OSError:
                answers.append(b"")
        for answer in answers:
            self.assertTrue(answer == b"" or b"error" in answer, answers)
        self.assertEqual(self.states()["gate"], "running")
        for client in clients:
            client.close()
        os.chdir("/")
        wait_until(lambda: self.jobc("cancel", "gate", "--json", code=None).code == 0, what="a cancel to get through")
        self.finish(process, code=10)
        self.assertEqual(self.states()["gate"], "cancelled")

    def test_of_a_run_that_is_killed(self):
        process = self.begin_scatter()
        watchers = [self.start("watch"), self.start("watch", "--json")]
        wait_until(lambda: watchers[1].stdout.readline(), what="the first event")
        process.kill()
        process.wait()
        for watcher in watchers:
            self.assertSays(self.finish(watcher, code=15).err, "ended without a word", "jobc resume")

    def test_ctrl_c_ends_the_watching_only(self):
        process = self.begin_scatter()
        ours, theirs = pty.openpty()
        watcher = self.start("watch", stdout=theirs, stderr=theirs, env={"TERM": "xterm"})
        os.close(theirs)
        seen = b""
        while b"gate" not in seen:
            seen += os.read(ours, 65536)
        watcher.send_signal(signal.SIGINT)
        while b"the run goes on" not in seen:
            seen += os.read(ours, 65536)
        self.assertIn(b"\x1b[?25h", seen, "the cursor is back")
        self.assertEqual(watcher.wait(10), 130)
        os.close(ours)
        self.assertIsNone(process.poll())
        self.go()
        self.finish(process, code=10)

    def test_nobody_can_talk_to_a_run_that_is_not_there(self):
        self.assertEqual(self.jobc("watch", code=None).code, 2)
        self.assertEqual(self.jobc("cancel", code=None).code, 2)


DETACHED = """edition = 1
job a { script = <<~SH
  touch @FLAGS@/started; until [ -e @FLAGS@/go ]; do sleep 0.02; done; echo said by a; echo 7
SH
output { n: Int = to_int(lines(stdout())[1]) } }
export { n: Int = a.n }
"""


class Detach(Control):
    def test_a_run_survives_its_terminal(self):
        self.write(DETACHED.replace("@FLAGS@", str(self.flags)))
        pid, terminal = pty.fork()
        if pid == 0:  # a login shell, say: the leader of a session with a terminal, from which somebody types
            os.chdir(self.at)
            os.execvpe("sh", ["sh", "-c", f"'{self.program}' run a.job --detach; echo typed > {self.flags}/typed; sleep 60"], self.environment())
        seen = b""
        try:
            self.wait_for("typed")
            while b"jobc watch" not in seen:
                seen += os.read(terminal, 65536)
        finally:
            os.close(terminal)  # the window is closed: SIGHUP to its session
        os.waitpid(pid, 0)
        self.wait_for("started")
        self.assertEqual(self.status()["running"], True)
        watcher = self.start("watch")
        self.go()
        self.finish(watcher, code=0)
        self.assertEqual(self.result(), {"n": 7})
        self.assertIn("a: succeeded", (self.run_dir() / "console.log").read_text())
        self.assertNotIn(b"a: succeeded", seen)

    def test_says_where_it_went(self):
        self.write(DETACHED.replace("@FLAGS@", str(self.flags)))
        done = self.jobc("run", "a.job", "--detach", "--json").json
        self.assertEqual(done["schema"], "jobc.detach/1")
        self.assertEqual(os.getsid(done["pid"]), done["pid"], "a session of its own")
        self.wait_for("started")
        self.assertEqual(os.readlink(f"/proc/{done['pid']}/fd/0"), "/dev/null")
        other = self.jobc("run", "a.job", "--detach", "--name", "second")
        self.assertSays(other.err, "jobc watch", "jobc cancel")
        self.go()
        for run in (done["run"], other.out.strip()):
            self.jobc("watch", run)
            self.assertEqual(self.jobc("result", run, "--json").json, {"n": 7})

    def test_what_goes_wrong_before_is_said_there(self):
        self.write("edition = 1\njob a { run = 1 }\n")
        done = self.jobc("run", "a.job", "--detach", code=3)
        self.assertIn("error[", done.err)
        self.assertNothingBegan()
        self.write('edition = 1\nsecret t = env("NOT_SET")\njob a { env { T = t } run = ["true"] }\n')
        self.assertIn("NOT_SET", self.jobc("run", "a.job", "--detach", code=3).err)
        self.assertEqual(self.jobc("run", "b.job", "--detach", code=None).code, 2)

    def test_a_cancelled_one_goes_on_detached(self):
        self.write(DETACHED.replace("@FLAGS@", str(self.flags)))
        run = self.jobc("run", "a.job", "--detach").out.strip()
        self.wait_for("started")
        self.jobc("cancel", run, "--wait")
        self.assertEqual(self.states(), {"a": "cancelled"})
        self.flag("started").unlink()
        self.assertEqual(self.jobc("resume", run, "--detach").out.strip(), run)
        self.assertIn("is being executed by", self.jobc("resume", run, code=15).err)
        self.wait_for("started")
        self.go()
        self.jobc("watch", run)
        self.assertEqual(self.result(), {"n": 7})


class Follow(Control):
    TEXT = """edition = 1
job a { retry { max_attempts = 2, on = [exit] } script = <<~SH
  echo begins $JOB_ATTEMPT; echo to stderr >&2; touch @FLAGS@/wrote$JOB_ATTEMPT
  until [ -e @FLAGS@/go$JOB_ATTEMPT ]; do sleep 0.02; done
  echo ends $JOB_ATTEMPT; [ $JOB_ATTEMPT = 2 ]
SH
}
job b { after = [a] run = ["echo", "said by b"] }
"""

    def read_until(self, stream, text):
        lines = []
        while not lines or text not in lines[-1]:
            line = stream.readline()
            self.assertNotEqual(line, b"", f"the stream ended after {lines}")
            lines.append(line)
        return b"".join(lines)

    def test_lines_come_while_the_job_runs(self):
        process = self.begin(self.TEXT, wait=("wrote1",))
        everything, one, events = self.start("logs", "-f"), self.start("logs", "-f", "a", "--stream", "stdout"), self.start("logs", "-f", "--json")
        first = self.read_until(everything.stdout, b"begins 1")
        self.assertIn(b"==> a, attempt 1 <==", first)
        self.assertFalse(self.flag("go1").exists())
        self.flag("go1").touch()
        self.read_until(everything.stdout, b"begins 2")
        self.flag("go2").touch()
        self.finish(process)
        rest = self.finish(everything)
        self.assertSays(rest.out, "ends 2", "said by b")
        only = self.finish(one)
        self.assertSays(only.out, "begins 1", "ends 1", "begins 2", "ends 2")
        self.assertNotIn("to stderr", only.out)
        self.assertNotIn("said by b", only.out)
        chunks = [json.loads(line) for line in self.finish(events).out.splitlines()]
        self.assertEqual("".join(c["text"] for c in chunks if c["address"] == "a" and c["attempt"] == 1 and c["stream"] == "stdout"), "begins 1\nends 1\n")
        self.assertEqual(only.out.count("begins 1"), 1, "nothing twice")

    def test_of_a_run_that_has_ended_they_end(self):
        for name in ("go1", "go2"):
            self.flag(name).touch()
        self.finish(self.begin(self.TEXT))
        self.assertIn("said by b", self.jobc("logs", "-f").out)

    def test_a_reader_that_goes_away_ends_them(self):
        process = self.begin(self.TEXT, wait=("wrote1",))
        follower = self.start("logs", "-f")
        self.read_until(follower.stdout, b"begins 1")
        follower.stdout.close()
        follower.stdout = None
        self.flag("go1").touch()
        self.wait_for("wrote2")
        follower.wait(20)
        self.flag("go2").touch()
        self.finish(process)


if __name__ == "__main__":
    unittest.main()
