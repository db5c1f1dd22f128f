"""A canary: two random secrets of 32 characters go through everything that may carry a secret, and then nothing that jobc
shows, stores or hands to a process may hold them: plan, journal, logs, events, live display, results, error reports, the
directory of the run and all of the state directory, the command lines of all processes and the environment of those that
were not given them. What a job itself writes into files of its own is its own affair: these jobs write none."""
import base64
import contextlib
import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import string
import subprocess
import sys
import threading
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from story import ROOT, Done, Story, below, wait_until

MODULE = """edition = 1
params { given: Secret }
job inner { env { GIVEN = params.given } script = <<~SH
  echo "inner $GIVEN" ; touch @FLAGS@/inner ; while [ ! -e @FLAGS@/go ]; do sleep 0.01; done
SH
output { said: List<String> = lines(stdout()) } }
export { said: List<String> = inner.said }
"""

FILE = """edition = 1
import "./module.job" as module_file
secret token = env("CANARY_TOKEN")
secret pw = file("@PW@")
fn url(of: Secret) -> Secret = "https://user:~{of}@host/path"
template carrier { env { FROM_TEMPLATE = "t ~{token}" } }
module m = module_file { given = url(token) }

job shell uses carrier {
  env { TOKEN = token, URL = url(pw) }
  secret_files { "pw" = pw, "token" = token }
  script = <<~SH
    echo "$TOKEN $URL $FROM_TEMPLATE"; cat "$JOB_SECRETS/pw" >&2; echo
    printf '%s' "$TOKEN" | base64; printf '%s' "$TOKEN" | head -c 20; sleep 0.05; printf '%s' "$TOKEN" | tail -c +21; echo
    ls -ld "$JOB_SECRETS" | cut -c1-10; stat -c %a "$JOB_SECRETS/pw"; stat -f -c %T "$JOB_SECRETS"; echo "$JOB_SECRETS"
    touch @FLAGS@/shell; while [ ! -e @FLAGS@/go ]; do sleep 0.01; done
  SH
  output { said: List<String> = lines(stdout()) }
}
job python {
  env { TOKEN = token }
  secret_files { "pw" = pw }
  script = <<~PY
    import json, os, sys, time
    pw = open(os.environ["JOB_SECRETS"] + "/pw").read()
    print(os.environ["TOKEN"], json.dumps({"pw": pw}), flush=True)
    print("to stderr:", os.environ["TOKEN"], pw, file=sys.stderr, flush=True)
    json.dump({"length": len(pw)}, open(os.environ["JOB_RESULT"], "w"))
    open("@FLAGS@/python", "w").close()
    while not os.path.exists("@FLAGS@/go"): time.sleep(0.01)
  PY
  output { length: Int }
}
job retried {
  env { TOKEN = token }
  retry { max_attempts = 2, on = [exit] }
  script = <<~SH
    echo "attempt $JOB_ATTEMPT of $TOKEN" >&2
    touch "@FLAGS@/retried$JOB_ATTEMPT"; while [ ! -e @FLAGS@/go ]; do sleep 0.01; done
    [ "$JOB_ATTEMPT" = 2 ] || exit 9
  SH
}
job bystander { script = <<~SH
  touch @FLAGS@/bystander; while [ ! -e @FLAGS@/go ]; do sleep 0.01; done
  cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' || true
  env
SH
}
job failing {
  on_error = @ON_ERROR@
  env { TOKEN = token, URL = url(token) }
  secret_files { "pw" = pw }
  errors { stderr(re"refused") => data("no-access", "the service refused us") }
  script = <<~SH
    touch @FLAGS@/failing; while [ ! -e @FLAGS@/go ]; do sleep 0.01; done
    echo "refused: $URL" >&2; cat "$JOB_SECRETS/pw" >&2; exit 1
  SH
}
finally clean { env { TOKEN = token } script = <<~SH
  echo "clean $TOKEN"
SH
}
hook on start { env { TOKEN = token } secret_files { "pw" = pw } script = <<~SH
  echo "hook $TOKEN"; cat "$JOB_SECRETS/pw"
SH
}
hook on finish { env { TOKEN = token } script = <<~SH
  echo "hook $TOKEN" >&2; exit 5
SH
}
export { length: Int? = python.length, said: List<String>? = shell.said }
"""

PARALLEL = ["--max-parallel", "20"]  # so that all wait at the same time
WAITING = ["shell", "python", "retried1", "bystander", "failing", "inner"]


class Canary(Story):
    def setUp(self):
        super().setUp()
        letters = random.SystemRandom()
        self.token, self.pw = ("".join(letters.choices(string.ascii_letters + string.digits, k=32)) for _ in range(2))
        self.outside = pathlib.Path(self.base / "outside")
        self.outside.mkdir()
        self.give(self.outside)
        (self.outside / "pw.txt").write_text(self.pw + "\n")
        self.give(self.outside / "pw.txt")

    def environment(self, **more):
        return super().environment(CANARY_TOKEN=self.token, **more)

    def write_file(self, on_error="continue"):
        for text, name in ((MODULE, "module.job"), (FILE, "a.job")):
            self.write(text.replace("@FLAGS@", str(self.flags)).replace("@PW@", str(self.outside / "pw.txt")).replace("@ON_ERROR@", on_error), name)

    def forms(self):
        for secret in (self.token, self.pw):
            plain = secret.encode()
            yield from {plain, base64.b64encode(plain), plain.hex().encode(), urllib.parse.quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}

    def assertClean(self, what, content):
        content = content if isinstance(content, bytes) else content.encode()
        for form in self.forms():
            at = content.find(form)
            self.assertEqual(at, -1, f"the secret is in {what}: …{content[max(0, at - 200):at + 100]!r}…")

    def assertFilesClean(self):
        """Names and contents of everything below the working directory, the home and the flags. A run that is under way may
        remove what was listed before it is read."""
        count = 0
        for root in (self.at, self.home, self.flags):
            for path in below(root):
                self.assertClean(f"the name {path}", str(path))
                with contextlib.suppress(FileNotFoundError):
                    if path.is_symlink():
                        self.assertClean(f"the link {path}", os.readlink(path))
                    elif path.is_file():
                        self.assertClean(path, path.read_bytes())
                        count += 1
        return count

    def secret_places(self):
        return [str(path) for place in ("/dev/shm", "/run", f"/run/user/{os.getuid()}") if os.path.isdir(place) for path in pathlib.Path(place).glob(f"jobc-{self.run_id()}-*")]

    def run_id(self):
        runs = sorted(os.listdir(self.at / ".jobc" / "runs"))
        return runs[-1]

    def assertProcessesClean(self, blind=()):
        """No command line holds a secret, and no environment of `blind` processes and of those that supervise."""
        seen = set()
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read()
                with open(f"/proc/{entry}/comm", "rb") as file:
                    name = file.read().strip().decode()
                with open(f"/proc/{entry}/environ", "rb") as file:
                    environment = file.read()
            except OSError:
                continue
            self.assertClean(f"the command line of {entry} ({name})", words)
            if name in ("job-guardian", "job-shim") or int(entry) in blind:
                self.assertClean(f"the environment of {entry} ({name})", environment)
                seen.add(name)
        return seen

    def everything_said(self):
        """What every command that looks at a run says of it."""
        yield from ((words, self.jobc(*words, code=None)) for words in
                    (["status"], ["status", "--json", "--instances"], ["list"], ["list", "--json"], ["logs", "--all"], ["logs", "--json"], ["logs", "--failed"], ["result"], ["result", "--json"], ["watch"], ["watch", "--json"]))

    def run_beside_a_sampler(self, arguments, look=None, code=10):
        """Runs jobc; while all its jobs wait, and again and again until it has ended, processes are looked at."""
        faults, stop = [], threading.Event()

        def sample():
            while not stop.is_set():
                try:
                    self.assertProcessesClean()
                except AssertionError as fault:
                    faults.append(fault)
                    return

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            process = self.start(*arguments)
            self.all_wait(process)
            self.assertIn("job-shim", self.assertProcessesClean(blind=[process.pid]))
            if look:
                look()
            self.flag("go").touch()
            done = self.finish(process, *arguments, code=code)
        finally:
            stop.set()
            sampler.join()
        if faults:
            raise faults[0]
        self.flag("go").unlink()
        for name in WAITING + ["retried2"]:
            self.flag(name).unlink()
        return done

    def all_wait(self, process=None):
        """Until every job has its secrets and waits."""
        wait_until(lambda: (process and process.poll() is not None) or all(self.flag(name).exists() for name in WAITING), what="all jobs to wait")
        if process and process.poll() is not None:
            self.finish(process, code=-1)

    def test_nothing_that_reads_a_file_says_it(self):
        self.write_file()
        for words in (["check", "a.job"], ["plan", "a.job"], ["plan", "a.job", "--json"], ["plan", "a.job", "--expand"], ["plan", "a.job", "-o", "plan.json"],
                      ["run", "a.job", "--dry-run"], ["graph", "a.job"], ["inputs", "a.job"], ["lint", "a.job"], ["doc", "a.job"], ["schema", "params", "a.job"],
                      ["schema", "result", "a.job"]) + tuple(["plan", "a.job", f"--stop-after={stage}"] for stage in ("parse", "ast", "check")):
            done = self.jobc(*words, code=None)
            self.assertIn(done.code, (0, 4), str(done)) if words[0] == "lint" else self.assertEqual(done.code, 0, str(done))
            self.assertClean(" ".join(words), done.raw_out + done.raw_err)
        self.assertGreater(self.assertFilesClean(), 2)
        self.assertIn("CANARY_TOKEN", (self.at / "plan.json").read_text())

    def test_nothing_of_a_run_says_it(self):
        self.write_file()

        def look():  # everything runs: files are in memory, events and states can be watched
            self.assertEqual(len(self.secret_places()), 1)
            self.assertTrue([path for path in below(self.at / ".jobc") if path.name == "journal.db-wal"])
            self.assertFilesClean()
            for words in (["status"], ["status", "--json", "--instances"], ["logs"], ["logs", "--json"]):
                done = self.jobc(*words)
                self.assertClean(" ".join(words), done.raw_out + done.raw_err)

        done = self.run_beside_a_sampler(["run", "a.job", *PARALLEL], look)
        self.assertClean("the report", done.raw_out + done.raw_err)
        self.assertSays(done.err, "no-access", "refused: https://user:***@host/path")
        script = re.search(r"reproduce: +sh (.+)", done.err)[1]
        self.assertSays(pathlib.Path(script).read_text(), 'TOKEN="$TOKEN"')
        instances = self.instances()
        self.assertEqual({address for address, one in instances.items() if one["state"] == "succeeded"} & {"shell", "python", "retried", "bystander", "m/inner", "clean"},
                         {"shell", "python", "retried", "bystander", "m/inner", "clean"}, instances)
        self.assertEqual(len(instances["retried"]["attempts"]), 2)
        self.assertEqual(instances["failing"]["error"], "no-access")
        self.assertEqual(self.result(code=10)["length"], 32)
        mode, file_mode, place, where = self.result(code=10)["said"][-4:]
        self.assertEqual((mode, file_mode, place), ("drwx------", "600", "tmpfs"))
        self.assertFalse(where.startswith(str(self.at)), "outside of the run's directory")
        self.assertEqual(self.secret_places(), [])
        for words, said in self.everything_said():
            self.assertClean(" ".join(words), said.raw_out + said.raw_err)
        self.assertIn("***", self.jobc("logs", "shell").out)
        self.assertGreater(self.assertFilesClean(), 5)
        names = {path.name for path in below(self.at / ".jobc")}
        self.assertIn("journal.db", names)

    def test_events_do_not_say_it(self):
        self.write_file()
        watched = []

        def look():
            watched.append(self.start("watch", "--json"))

        done = self.run_beside_a_sampler(["run", "a.job", "--json", *PARALLEL], look)
        self.assertClean("the events", done.raw_out + done.raw_err)
        self.assertIn('"retrying"', done.out)
        watcher = self.finish(watched[0], "watch", "--json", code=10)
        self.assertClean("what a watcher sees", watcher.raw_out + watcher.raw_err)
        self.assertIn('"run_finished"', watcher.out)
        self.assertFilesClean()

    def test_a_detached_run_does_not_say_it(self):
        self.write_file()
        done = self.jobc("run", "a.job", "--detach", *PARALLEL)
        self.all_wait()
        self.assertProcessesClean()
        self.assertFilesClean()
        self.flag("go").touch()
        watched = self.jobc("watch", code=10)
        for what, said in (("--detach", done), ("watch", watched)):
            self.assertClean(what, said.raw_out + said.raw_err)
        console = next(path for path in below(self.at / ".jobc") if path.name == "console.log")
        self.assertIn("refused", console.read_text())
        self.assertFilesClean()
        wait_until(lambda: self.secret_places() == [], what="the secret files to go")

    def test_the_live_display_does_not_say_it(self):
        self.write_file(on_error="halt")
        ours, theirs = pty.openpty()
        process = self.start("run", "a.job", *PARALLEL, stdout=theirs, stderr=theirs, env={"TERM": "xterm", "COLUMNS": "200"})
        os.close(theirs)
        shown = bytearray()

        def read():
            while True:
                try:
                    data = os.read(ours, 65536)
                except OSError:
                    return
                if not data:
                    return
                shown.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        self.all_wait(process)
        self.flag("go").touch()
        self.assertEqual(process.wait(60), 10)
        reader.join()
        os.close(ours)
        self.assertIn(b"refused", shown)
        self.assertClean("the live display", bytes(shown))

    def test_a_result_that_holds_it_is_not_kept(self):
        text = """edition = 1
secret token = env("CANARY_TOKEN")
job a { env { TOKEN = token } script = <<~SH
  %s
SH
output { said: String } }
"""
        spelled = "".join(f"\\\\u{ord(c):04x}" for c in self.token)
        for line, kind in (('echo "{\\"said\\": \\"$TOKEN\\"}" > "$JOB_RESULT"', "schema"),
                           (f"printf '{{\"said\": \"{spelled}\"}}' > \"$JOB_RESULT\"", "schema"),
                           ('echo "{\\"said\\": \\"$TOKEN" > "$JOB_RESULT"', "schema"),
                           ('echo "{\\"said\\": \\"$TOKEN\\"}" > smartjob.json', "schema"),
                           ('echo "{\\"said\\": \\"$TOKEN\\"}" > "$JOB_RESULT"; exit 3', "exit")):
            self.write(text % line)
            # The test itself spells one out in the source, which the state keeps nothing of.
            done = self.jobc("run", "a.job", code=10)
            self.assertEqual(self.instances()["a"]["kind"], kind, str(done))
            self.assertClean("the report", done.raw_out + done.raw_err)
            self.write("edition = 1\n")
            self.assertFilesClean()

    def killed(self, *names):
        """Kills what is called so, of the one run there is, after all jobs wait with their secrets."""
        self.write_file()
        process = self.start("run", "a.job", *PARALLEL)
        self.all_wait(process)
        self.assertEqual(len(self.secret_places()), 1)
        for place in self.secret_places():
            self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        pids = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/comm") as file:
                    comm = file.read().strip()
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if comm == "job-guardian" and parent == process.pid:
                guardian = int(entry)
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == guardian and "shim" in names:
                pids.append(int(entry))
        pids = ([process.pid] if "jobc" in names else []) + ([guardian] if "guardian" in names else []) + pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # so that none sees the end of another
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return process

    def secret_files(self):
        return [path for place in self.secret_places() for path in below(place) if path.is_file()]

    def test_the_files_go_when_jobc_is_killed(self):
        self.killed("jobc").wait(20)
        wait_until(lambda: self.secret_places() == [], 2, "the secret files to go")
        self.assertFilesClean()

    def test_the_files_go_when_the_guardian_is_killed(self):
        process = self.killed("guardian")
        wait_until(lambda: self.secret_files() == [], 2, "the secret files to go")
        done = self.finish(process, code=None)
        self.assertClean("the report", done.raw_out + done.raw_err)
        self.assertEqual(self.secret_places(), [])
        self.assertFilesClean()

    def test_the_files_go_when_jobc_and_its_guardian_are_killed(self):
        self.killed("jobc", "guardian").wait(20)
        wait_until(lambda: self.secret_places() == [], 2, "the secret files to go")
        self.assertFilesClean()

    def test_the_next_run_removes_the_files_when_all_that_supervises_is_killed(self):
        self.killed("jobc", "guardian", "shim").wait(20)
        places = self.secret_places()
        self.assertEqual(len(places), 1)
        self.write('edition = 1\njob a { run = ["true"] }', "b.job")
        done = self.jobc("run", "b.job")
        self.assertIn("was killed: ended", done.err)
        self.assertFalse(os.path.exists(places[0]))
        self.assertFilesClean()

    @unittest.skipUnless(ROOT and shutil.which("unshare"), "needs a mount namespace")
    def test_without_memory_for_them_nothing_starts(self):
        self.write_file()
        cover = "for one in /dev/shm /run; do mount --bind %s $one || exit 99; done; exec \"$@\"" % self.outside
        prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", cover, "sh"]
        done = self.finish(self.start("run", "a.job", prefix=prefix), code=14)
        self.assertSays(done.err, "secret files are kept in memory only", "/dev/shm (not in memory)")
        self.assertEqual(os.listdir(self.flags), [])
        self.assertFilesClean()


if __name__ == "__main__":
    unittest.main()
