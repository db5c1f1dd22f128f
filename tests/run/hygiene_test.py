"""No process that a job started outlives it: whatever the job did to escape, however it ended, whoever ran it."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

from story import ROOT, Story, kill_all, processes_with, wait_until

# A daemon as in the books, and stubborner: forks twice, a session of its own at each step, no environment, no descriptors,
# another directory, TERM and HUP ignored, and a copy of itself every now and then. `@M@` marks its command line.
DAEMON = '''
import os, signal, sys, time
def daemon(deep):
    if os.fork(): return
    os.setsid()
    if os.fork(): os._exit(0)
    os.setsid() if os.getpid() != os.getsid(0) else None
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
    os.closerange(0, 64)
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", "@M@"], {})
for i in range(3): daemon(i)
'''


class Hygiene(Story):
    def setUp(self):
        super().setUp()
        self.marker = "daemon-of-" + self.base.name
        self.addCleanup(kill_all, self.marker)
        self.write(DAEMON.replace("@M@", self.marker), "daemon.py")
        self.write(self.marker + "\n", "marker")
        self.supervisors = []

    def look(self, to):
        """What a job does to see whether a daemon is alive; its own command line does not hold the marker."""
        return f"grep -laf {self.at}/marker /proc/[0-9]*/cmdline > {to} 2>/dev/null || :"

    def job(self, then, more="", before=""):
        """A job that has daemons and then does `then`."""
        return f"""edition = 1
job a {{ {more}
  script = <<~SH
    {before}
    python3 {self.at}/daemon.py
    touch {self.flags}/started
    {then}
  SH
}}
"""

    def begin(self, text):
        self.write(text)
        run = self.start("run", "a.job")
        self.wait_for("started")
        wait_until(lambda: len(processes_with(self.marker)) >= 3, 10, "the daemons")
        self.guardians = self.children(run.pid, "job-guardian")
        self.supervisors = self.guardians + [pid for guardian in self.guardians for pid in self.children(guardian, "job-shim")]
        self.assertEqual((len(self.guardians), len(self.supervisors) >= 2), (1, True), "one guardian a run, and a shim")
        return run

    def gone(self, seconds=2.0, marker=None):
        end = time.monotonic() + seconds
        while left := processes_with(marker or self.marker):
            if time.monotonic() > end:
                self.fail(f"alive after {seconds} s: {left}\n" + subprocess.run(["ps", "-eo", "pid,ppid,pgid,sid,stat,args"], capture_output=True, text=True).stdout)
            time.sleep(0.01)

    def no_supervisors(self):
        """What supervises for jobc is not left behind either."""
        wait_until(lambda: not any(self.stat(pid)[0] in ("job-guardian", "job-shim") for pid in self.supervisors), 5, "guardian and shims to end")

    @staticmethod
    def stat(pid):
        """(name, parent) of a living process."""
        try:
            name, _, rest = pathlib.Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            return ("", 0) if rest.split()[0] in "ZX" else (name, int(rest.split()[1]))
        except OSError:
            return ("", 0)

    def children(self, parent, name):
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and self.stat(entry) == (name, parent)]

    def test_at_the_end_of_an_attempt(self):
        run = self.begin(self.job(f"until [ -e {self.flags}/go ]; do sleep 0.02; done"))
        self.flag("go").touch()
        self.finish(run)
        self.assertEqual(processes_with(self.marker), [], "gone before jobc says that the run ended")
        self.no_supervisors()

    def test_before_the_next_attempt(self):
        # The second attempt looks whether anything of the first is alive.
        self.write(self.job('[ "$JOB_ATTEMPT" = 2 ]', "retry { max_attempts = 2, backoff = constant(1ms), on = [exit] }",
                            before=self.look(f"{self.flags}/alive$JOB_ATTEMPT")))
        self.jobc("run", "a.job")
        self.assertEqual(self.flag("alive2").read_text(), "")

    def test_before_a_slot_is_free(self):
        self.write(self.job(":", "for i in range(3) key i", before=self.look(f"{self.flags}/alive$JOB_KEY")))
        self.jobc("run", "a.job", "--max-parallel", "1")
        for key in ("1", "2"):
            self.assertEqual(self.flag("alive" + key).read_text(), "")

    def test_at_a_time_limit(self):
        started = time.monotonic()
        self.write(self.job("sleep 100", "timeout { run = 700ms } grace = 200ms"))
        self.jobc("run", "a.job", code=10)
        self.assertEqual(processes_with(self.marker), [])
        self.assertTrue(self.flag("started").exists())
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual(self.instances()["a"]["kind"], "timeout")

    def test_at_a_cancel(self):
        run = self.begin(self.job("sleep 100", "grace = 200ms"))
        run.send_signal(signal.SIGINT)
        self.finish(run, code=130, timeout=10)
        self.assertEqual(processes_with(self.marker), [])

    def test_at_a_second_interrupt(self):
        run = self.begin(self.job("trap : TERM; while :; do sleep 0.1 || :; done", "grace = 1h"))
        run.send_signal(signal.SIGINT)
        time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        self.finish(run, code=130, timeout=5)
        self.gone()

    def test_when_another_job_halts_the_run(self):
        self.write(self.job("sleep 100", "grace = 200ms") + f'job b {{ on_error = halt script = <<~SH\n until [ -e {self.flags}/started ]; do sleep 0.02; done; exit 1\n SH\n }}\n')
        self.jobc("run", "a.job", "--max-parallel", "2", code=10)
        self.assertEqual(processes_with(self.marker), [])

    def test_at_kill_9_of_jobc(self):
        run = self.begin(self.job("sleep 100"))
        run.kill()
        self.gone(2.0)
        run.wait()
        self.no_supervisors()
        self.assertEqual(self.status()["status"], "crashed")
        self.assertEqual([name for name in os.listdir(self.at / ".jobc/live")], [], "no record of a live run")

    def test_at_kill_9_of_the_whole_session_of_jobc(self):
        run = self.begin(self.job("sleep 100"))
        os.killpg(run.pid, signal.SIGKILL)
        self.gone(2.0)

    def test_at_kill_9_of_jobc_and_its_guardian(self):
        run = self.begin(self.job("sleep 100"))
        for pid in (run.pid, self.guardians[0]):
            os.kill(pid, signal.SIGKILL)
        run.wait()
        self.gone(2.0)
        # The next command of this state directory removes what is recorded of it.
        self.assertEqual(self.status()["status"], "crashed")
        self.assertEqual(os.listdir(self.at / ".jobc/live"), [])

    def test_stopped_processes_too(self):
        run = self.begin(self.job("sleep 100"))
        for pid in processes_with(self.marker):
            os.kill(pid, signal.SIGSTOP)
        run.kill()
        self.gone(2.0)

    def test_a_job_that_forks_without_end(self):
        # Bounded by nothing but its speed: each child makes the next one and ends.
        self.write(f'edition = 1\njob a {{ timeout {{ run = 600ms }} grace = 100ms script = <<~PY\n import os\n while True:\n   if os.fork(): os._exit(0)\n   os.setsid()\n PY\n }}\n'
                   .replace("import os\n while", "import os, sys\n MARK = '" + self.marker + "'\n while"))
        self.jobc("run", "a.job", code=None, timeout=20)
        self.assertEqual(processes_with(self.marker), [])

    def test_background_jobs_of_a_script_end_with_it(self):
        self.write(f'edition = 1\njob a {{ script = <<~SH\n (exec -a {self.marker} sleep 1000) 2>/dev/null & nohup sh -c "sleep 1000; : {self.marker}" >/dev/null 2>&1 &\n echo done\n SH\n output {{ t: String = trim(stdout()) }} }}\nexport {{ t: String = a.t }}\n')
        started = time.monotonic()
        self.assertEqual(self.jobc("run", "a.job").json, {"t": "done"})
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual(processes_with(self.marker), [])

    def test_a_low_limit_on_descriptors_slows_a_run_and_never_hangs_it(self):
        self.write('edition = 1\njob a { for i in range(60) key i\n  run = ["sleep", "0.01"] }\n')
        for limit in (14, 18, 22, 28, 32, 48):
            started = self.start("run", "a.job", "--max-parallel", "40", prefix=["prlimit", f"--nofile={limit}:{limit}"])
            done = self.finish(started, "run", code=None, timeout=40)
            if limit < 24:
                self.assertEqual(done.code, 15, str(done))
                self.assertIn(f"jobc may have {limit} files open", done.err, str(done))
                self.assertIn("raise the limit (`ulimit -Hn`)", done.err, str(done))
            else:
                self.assertEqual(done.code, 0, str(done))
                self.assertIn("60 succeeded", done.err, str(done))
                self.assertIn(f"instead of 40: jobc may have only {limit} files open", done.err, str(done))

    def test_the_limit_on_descriptors_is_raised_for_jobc_and_not_for_jobs(self):
        self.write('edition = 1\njob a { for i in range(40) key i\n  run = ["sh", "-c", "sleep 0.01; ulimit -Sn"]\n  output { n: String = trim(stdout()) } }\n'
                   'export { all: List<String> = a[*].n }')
        started = self.start("run", "a.job", "--max-parallel", "40", prefix=["prlimit", "--nofile=64:4096"])
        done = self.finish(started, "run", code=0, timeout=40)
        self.assertNotIn("instead of 40", done.err)
        self.assertEqual(self.result()["all"], ["64"] * 40)

    def test_no_descriptors_of_jobc(self):
        self.run_job('job a { run = ["ls", "/proc/self/fd"] output { fds: List<String> = lines(stdout()) } }\nexport { fds: List<String> = a.fds }')
        self.assertEqual(self.result()["fds"], ["0", "1", "2", "3"], "3 is the directory that ls reads")


@unittest.skipUnless(ROOT, "all of it is done as an ordinary user already")
class HygieneOfAnOrdinaryUser(Hygiene):
    """The same without control groups: the supervising processes alone."""
    unprivileged = True

    def test_it_is_an_ordinary_user(self):
        self.run_job('job a { run = ["id", "-u"] output { t: String = trim(stdout()) } }\nexport { t: String = a.t }')
        self.assertEqual(self.result(), {"t": "65534"})


if __name__ == "__main__":
    unittest.main(verbosity=1)
