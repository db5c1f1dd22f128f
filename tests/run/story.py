"""What the tests of this folder share: a story writes a .job file into a fresh directory, runs jobc as a person would, and
looks at exit code, stdout, stderr and the journal. JOBC in the environment names the program."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from world import wait_until  # noqa: E402

JOBC = os.environ["JOBC"]
NOBODY = 65534
ROOT = os.geteuid() == 0
SANITIZED = re.search(rb"__[at]san_init", pathlib.Path(JOBC).read_bytes()) is not None


class Done:
    """A finished jobc: exit code and both streams as text (bytes that are not UTF-8 are escaped)."""

    def __init__(self, arguments, code, out, err):
        self.arguments, self.code, self.raw_out, self.raw_err = arguments, code, out, err
        self.out, self.err = out.decode(errors="backslashreplace"), err.decode(errors="backslashreplace")

    @property
    def json(self):
        return json.loads(self.raw_out)

    def __str__(self):
        return f"jobc {' '.join(map(str, self.arguments))}\nexit code {self.code}\n--- stdout\n{self.out[:4000]}\n--- stderr\n{self.err[:8000]}"


def as_nobody(unprivileged):
    """Words before a command that make it run as an ordinary user, where that is asked for and this is root."""
    if unprivileged and ROOT:
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    return []


def below(directory):
    """Everything below a directory. What lives removes there what was listed a moment ago: that is not there, and no error."""
    for place, directories, files in os.walk(directory):
        for name in directories + files:
            yield pathlib.Path(place, name)


class Story(unittest.TestCase):
    maxDiff = None
    unprivileged = False

    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="jobc-run-"))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.addCleanup(self.end_detached)
        self.at = self.base / "work"
        self.home = self.base / "home"
        self.flags = self.base / "flags"  # what jobs leave for the test and for each other
        for directory in (self.at, self.home, self.flags):
            directory.mkdir()
            self.give(directory)
        os.chmod(self.base, 0o755)
        self.program = JOBC
        if self.unprivileged and ROOT and subprocess.run([*as_nobody(True), JOBC, "--version"], capture_output=True).returncode != 0:
            # The build tree is closed to others: they get a copy.
            self.program = shutil.copy(JOBC, self.base / "jobc")
            os.chmod(self.program, 0o755)

    def give(self, path):
        if self.unprivileged and ROOT:
            os.chown(path, NOBODY, NOBODY)

    def write(self, text, name="a.job", mode=None):
        path = self.at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.give(path)
        if mode is not None:
            os.chmod(path, mode)
        return path

    def environment(self, **more):
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **more}

    def start(self, *arguments, cwd=None, env=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE, prefix=()):
        command = [*prefix, *as_nobody(self.unprivileged), str(self.program), *map(str, arguments)]
        process = subprocess.Popen(command, cwd=cwd or self.at, env=self.environment(**(env or {})), stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=stderr, start_new_session=True)
        self.addCleanup(self.end, process)
        return process

    def end_detached(self):
        """A story that failed half-way leaves no detached run behind: whoever works below its directory is ended."""
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd").startswith(f"{self.base}/"):
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue

    def end(self, process):
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def finish(self, process, *arguments, code=0, timeout=60):
        """Waits for a process of start(). A jobc that does not end is a failure with what it had said until then."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail(f"jobc did not end\n{Done(arguments, None, out, err)}")
        done = Done(arguments, process.returncode, out, err)
        if code is not None:
            self.assertEqual(done.code, code, str(done))
        self.assertNotIn("internal error", done.err, str(done))
        return done

    def jobc(self, *arguments, code=0, **options):
        timeout = options.pop("timeout", 60)
        return self.finish(self.start(*arguments, **options), *arguments, code=code, timeout=timeout)

    def run_job(self, text, *arguments, code=0, **options):
        """Writes `text` (without its first line) as a.job and runs it."""
        self.write("edition = 1\n" + text.replace("@FLAGS@", str(self.flags)))
        done = self.jobc("run", "a.job", *arguments, code=code, **options)
        if "--json" not in arguments and code not in (0, 11):
            self.assertIn("error: ", done.err, str(done))
        return done

    def status(self, *run, **options):
        return self.jobc("status", *run, "--json", "--instances", **options).json

    def instances(self, *run, **options):
        """The instances of the last run by address."""
        return {one["address"]: one for one in self.status(*run, **options)["instances"]}

    def states(self, *run):
        return {address: one["state"] for address, one in self.instances(*run).items()}

    def result(self, *words, code=0):
        return self.jobc("result", *words, "--json", code=code).json

    def assertSays(self, text, *parts):
        """All parts are in the text, in any order."""
        for part in parts:
            self.assertIn(part, text)

    def assertNothingBegan(self):
        """No run was made and no file of one was left."""
        runs = self.at / ".jobc" / "runs"
        self.assertEqual(sorted(os.listdir(runs)) if runs.exists() else [], [])

    def flag(self, name):
        return self.flags / name

    def wait_for(self, name, seconds=20):
        wait_until(lambda: self.flag(name).exists(), seconds, f"the job to write {name}")


def processes_with(marker):
    """Pids of living processes (zombies are dead) that have `marker` in their command line."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read()
            with open(f"/proc/{entry}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in words and state not in (b"Z", b"X") and int(entry) != os.getpid():
            found.append(int(entry))
    return found


def kill_all(marker):
    for pid in processes_with(marker):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
