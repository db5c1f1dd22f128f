"""A jobc that is killed while its containers run: they go on, `resume` takes them over, and `gc` removes what nobody took over."""
import pathlib
import shutil
import signal
import sys
import unittest

import services
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "storage"))
import servers  # noqa: E402
from story import Story, below, wait_until, ROOT

SECRET = "s3cr3t-of-thirty-two-characters-!"
IMAGE = "localhost/jobc-test/busybox:1"
# Writes a line, waits, writes another and leaves results; `ran` counts how often each part began.
TEXT = '''edition = 1
profile box default {{ backend = {kind} {{ network = "none", mounts = {{ flags = {{ source = "{flags}", target = "/flags", read_only = false }} }} }} }}
defaults {{ image = "{image}" }}
job far {{ for i in range(3) key i
  timeout {{ run = 5m }}
  script = <<~SH
    echo ~{{i}} >> /flags/ran; echo before; until [ -e /flags/go ]; do sleep 0.05; done; echo after; echo problem >&2
    echo text > made; echo "{{\\"n\\": ~{{i}}}}" > $JOB_RESULT
  SH
  output {{ n: Int, made: File = "made" }}
}}
job sum {{ input {{ files: List<File> = far[*].made }} run = ["cat", ...input.files] output {{ text: String = stdout() }} }}
export {{ n: List<Int> = far[*].n, text: String = sum.text }}
'''

# Told to end, it says so.
TRAPS = TEXT.replace("echo before;", "told() {{ touch /flags/term~{{i}}; exit 3; }}; trap told TERM; echo before;")

# What it is given is fetched, and secret.
GIVEN = '''edition = 1
profile box default {{ backend = {kind} {{ network = "none", mounts = {{ flags = {{ source = "{flags}", target = "/flags", read_only = false }} }} }} }}
secret token = env("TOKEN")
job far {{
  image = "{image}"
  input {{ data: File = "s3://bucket/dir/data.txt" }}
  env {{ TOKEN = token }}
  secret_files {{ "pw" = token }}
  timeout {{ run = 5m }}
  script = <<~SH
    echo far >> /flags/ran; cat ~{{input.data}} "$JOB_SECRETS/pw"; echo " $TOKEN"; until [ -e /flags/go ]; do sleep 0.05; done; cat "$JOB_SECRETS/pw" ~{{input.data}}
  SH
  output {{ text: String = stdout() }}
}}
export {{ text: String = far.text }}
'''


class Killed:
    """A story at an engine, whose jobc is killed while containers run."""
    kind = ""
    more = {}

    def setUp(self):
        super().setUp()
        self.at_engine = self.enterContext(self.engine(self.kind))
        self.addCleanup(self.remove_mine)
        self.write_job(TEXT)

    def environment(self, **more):
        return super().environment(**{self.host_name(): self.at_engine.host, **self.more, **more})

    def host_name(self):
        return "CONTAINER_HOST" if self.kind.startswith("podman") else "DOCKER_HOST"

    def write_job(self, text):
        self.write(text.format(kind=self.kind.split("-")[0], flags=self.flags, image=IMAGE))

    def mine(self):
        return self.containers_of_story(self.at_engine)

    def remove_mine(self):
        for one in self.mine():
            self.at_engine.api("DELETE", f"/containers/{one['Id']}?force=1")

    def ran(self):
        path = self.flag("ran")
        return sorted(path.read_text().split()) if path.exists() else []

    def flag(self, name):
        return self.flags / name

    def kill_in_the_middle(self, *words, count=3):
        process = self.start(*words)
        wait_until(lambda: process.poll() is not None or len(self.ran()) == count, seconds=60, what="the containers to run")
        # A program may say something before its engine says that it runs.
        wait_until(lambda: process.poll() is not None or [one["State"] for one in self.mine()] == ["running"] * count, seconds=60, what="the engine to say that they run")
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGKILL)
        process.wait()

    def last_run(self):
        return max(path.name for path in (self.at / ".jobc" / "runs").iterdir())

    def runs_after(self, before, *addresses):
        """Whether these instances run in another run than `before`. One that was just made may not be there for others yet."""
        run = self.last_run()
        done = self.jobc("status", run, "--json", "--instances", code=None) if run != before else None
        states = {one["address"]: one["state"] for one in done.json["instances"]} if done is not None and done.code == 0 else {}
        return all(states.get(address) == "running" for address in addresses)

    def begin_again(self, text=None, wait=(0, 1, 2), **options):
        """`run --resume` of what was killed, until these instances of `far` run in it."""
        if text is not None:
            self.write_job(text)
        before = self.last_run()
        process = self.start("run", "a.job", "--resume", "--max-parallel", "3", **options)
        wait_until(lambda: process.poll() is not None or self.runs_after(before, *(f'far["{i}"]' for i in wait)), seconds=60, what="the new run to run them")
        self.assertIsNone(process.poll(), process.poll() is not None and process.communicate()[1])
        return process

    def check(self, done):
        self.assertEqual(done.json, {"n": [0, 1, 2], "text": "text\ntext\ntext\n"})
        self.assertEqual(self.ran(), ["0", "1", "2"], "each of them ran once")
        for i in range(3):
            self.assertEqual(self.jobc("logs", f'far["{i}"]', "--stream", "stdout").out, "before\nafter\n")
            self.assertEqual(self.jobc("logs", f'far["{i}"]', "--stream", "stderr").out, "problem\n")
        wait_until(lambda: not self.mine(), what="the containers to be removed")


class Adoption(Killed):
    def test_containers_that_run_are_taken_over(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        before = sorted(one["Id"] for one in self.mine())
        self.assertEqual(len(before), 3)
        # And once more, while they are taken over.
        self.kill_in_the_middle("resume")
        self.assertEqual(sorted(one["Id"] for one in self.mine()), before)
        process = self.start("resume")
        wait_until(lambda: self.jobc("status", "--json").json["status"] == "running", what="the run to go on")
        self.flag("go").touch()
        self.check(self.finish(process))

    def test_containers_that_ended_meanwhile(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        self.flag("go").touch()
        wait_until(lambda: all(one["State"] != "running" for one in self.mine()), what="the containers to end")
        self.check(self.jobc("resume"))

    def test_a_container_that_was_removed_runs_again(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        self.at_engine.api("DELETE", f"/containers/{self.mine()[0]['Id']}?force=1")
        self.flag("go").touch()
        done = self.jobc("resume")
        self.assertEqual(done.json["n"], [0, 1, 2])
        self.assertEqual(len(self.ran()), 4)

    def test_gc_removes_what_nobody_took_over(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        self.assertEqual(self.jobc("gc").out, "nothing to remove\n")  # a resume may come
        self.assertEqual(len(self.mine()), 3)
        self.assertEqual(self.jobc("gc", "--older-than", "0s").out.count("container"), 3)
        wait_until(lambda: not self.mine(), what="the containers to be gone")
        self.flag("go").touch()
        self.assertEqual(self.jobc("resume").json["n"], [0, 1, 2])

    def test_cancel_ends_and_removes_them(self):
        self.write_job(TRAPS)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        # One of them first: the others go on, and so does the run.
        one = self.jobc("cancel", 'far["1"]')
        self.assertSays(one.err, "no process executes the run", "1 container was ended and removed", "jobc resume")
        self.assertEqual(len(self.mine()), 2)
        self.assertTrue(self.flag("term1").exists(), "TERM before KILL")
        self.assertEqual(self.states()['far["1"]'], "cancelled")
        self.assertEqual(self.jobc("status", "--json").json["status"], "crashed")
        # An engine that does not answer: nothing is changed.
        gone = {self.host_name(): f"unix://{self.base}/nobody"}
        away = self.jobc("cancel", code=14, env=gone)
        self.assertSays(away.err, "may still run", "nobody", "jobc cancel")
        self.assertEqual(self.jobc("status", "--json").json["status"], "crashed")
        self.assertEqual(len(self.mine()), 2)
        whole = self.jobc("cancel", "--json")
        self.assertEqual((whole.json["containers"], whole.json["cancelled"]), (2, 3), "far 0, far 2 and sum")
        self.assertEqual(self.mine(), [])
        self.assertEqual(sorted(path.name for path in self.flags.glob("term*")), ["term0", "term1", "term2"])
        status = self.jobc("status", "--json").json
        self.assertEqual(status["status"], "interrupted")
        self.assertEqual(set(self.states().values()), {"cancelled"})
        self.assertSays(self.jobc("cancel", env=gone).err, "nothing to cancel", "has ended")
        # What was cancelled is decided again.
        self.flag("go").touch()
        done = self.jobc("resume")
        self.assertEqual(done.json["n"], [0, 1, 2])
        self.assertEqual(len(self.ran()), 6)

    def test_cancel_at_once(self):
        self.write_job(TRAPS)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        self.assertSays(self.jobc("cancel", "--now").err, "it is cancelled, 3 containers were ended and removed", "jobc resume")
        self.assertEqual(list(self.flags.glob("term*")), [])
        self.assertEqual(self.mine(), [])

    # -- Inputs that were fetched, and secrets -------------------------------------------

    def kill_with_gifts(self):
        self.s3 = servers.S3Server()
        self.addCleanup(self.s3.stop)
        self.more = {**self.s3.environment, "TOKEN": SECRET}
        self.s3.put("dir/data.txt", b"far away\n")
        self.write_job(GIVEN)
        self.kill_in_the_middle("run", "a.job", count=1)

    def check_gifts(self, done, ran=1):
        self.assertEqual(done.json, {"text": "far away\n*** ***\n***far away\n"})
        self.assertEqual(len(self.ran()), ran)
        self.assertEqual(self.jobc("logs", "far").out, "far away\n*** ***\n***far away\n")
        for path in below(self.at / ".jobc"):
            if path.is_file():
                self.assertNotIn(SECRET.encode(), path.read_bytes(), path)
        self.assertEqual([path for path in pathlib.Path("/dev/shm").glob("jobc-*") if any(part in path.name for part in self.runs())], [], "secret files are gone")
        self.assertEqual(self.mine(), [])

    def runs(self):
        return [path.name for path in (self.at / ".jobc" / "runs").iterdir()]

    def test_what_was_fetched_and_what_is_secret(self):
        self.kill_with_gifts()
        process = self.start("resume")
        wait_until(lambda: process.poll() is not None or self.jobc("status", "--json").json["status"] == "running", what="the run to go on")
        self.flag("go").touch()
        self.check_gifts(self.finish(process))
        self.assertEqual(len(self.s3.requests("GET", "dir/data.txt")), 1, "it was fetched once")

    def test_what_was_fetched_and_what_is_secret_in_a_new_run(self):
        self.kill_with_gifts()
        before = self.last_run()
        process = self.start("run", "a.job", "--resume")
        wait_until(lambda: process.poll() is not None or self.runs_after(before, "far"), what="the new run to take it over")
        self.flag("go").touch()
        self.check_gifts(self.finish(process))
        self.assertEqual(len(self.s3.requests("GET", "dir/data.txt")), 1, "it was fetched once")

    def test_what_was_fetched_and_is_no_longer_there(self):
        self.kill_with_gifts()
        shutil.rmtree(self.at / ".jobc" / "store")
        self.flag("go").touch()
        self.check_gifts(self.jobc("resume"))  # the container still has it

    def test_a_secret_that_is_not_set_any_more(self):
        self.kill_with_gifts()
        self.more.pop("TOKEN")
        self.assertSays(self.jobc("resume", code=3).err, "TOKEN", "is not set")
        self.assertEqual(len(self.mine()), 1, "nothing was touched")
        self.assertSays(self.jobc("cancel").err, "1 container was ended and removed")
        self.more["TOKEN"] = SECRET
        self.flag("go").touch()
        self.check_gifts(self.jobc("resume"), ran=2)

    # -- A new run that uses the results of one that was killed --------------------------

    def test_a_new_run_takes_over_what_it_would_start(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        before = {one["Id"] for one in self.mine()}
        old = self.last_run()
        # One of them is no longer wanted, and there is another job.
        process = self.begin_again(TEXT.replace("range(3)", "range(2)") + 'job more {{ run = ["true"] }}\n', wait=(0, 1))
        now = {one["Id"] for one in self.mine() if one["State"] == "running"}
        self.assertTrue(now < before and len(now) == 2, "two go on, one was ended")
        # As long as they are of the new run nobody else can have them.
        self.assertSays(self.jobc("resume", old, code=15).err, "is being executed")
        self.assertEqual(self.jobc("gc", "--older-than", "0s").out, "nothing to remove\n")
        self.flag("go").touch()
        done = self.finish(process)
        self.assertSays(done.err, f"the run {old} had died: 2 containers of it are taken over, 1 container was ended and removed", "an attempt of run")
        self.assertEqual(done.json, {"n": [0, 1], "text": "text\ntext\n"})
        self.assertEqual(self.ran(), ["0", "1", "2"], "each of them ran once")
        for i in range(2):
            self.assertEqual(self.jobc("logs", f'far["{i}"]', "--stream", "stdout").out, "before\nafter\n")
            self.assertEqual(len(self.instances()[f'far["{i}"]']["attempts"]), 1)
        wait_until(lambda: not self.mine(), what="the containers to be removed")
        # The old run knows that the one was ended, and finds nothing of the others.
        self.assertEqual(self.jobc("resume", old).json["n"], [0, 1, 2])
        self.assertEqual(self.ran(), ["0", "0", "1", "1", "2", "2"])

    def test_a_new_run_that_is_killed_as_well(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        before = sorted(one["Id"] for one in self.mine())
        for again in range(2):  # the second takes over what the first had taken over
            process = self.begin_again()
            process.kill()
            process.wait()
            self.assertEqual(sorted(one["Id"] for one in self.mine()), before)
            self.assertEqual(self.jobc("gc", "--older-than", "1h").out, "nothing to remove\n")
        process = self.start("resume")
        wait_until(lambda: process.poll() is not None or self.jobc("status", "--json").json["status"] == "running", what="the run to go on")
        self.flag("go").touch()
        self.check(self.finish(process))

    def kill_when_made(self, *words):
        """A new run that is killed as soon as it has a journal: what it was given it has not come to, or only just."""
        before = self.last_run()
        process = self.start(*words)
        wait_until(lambda: process.poll() is not None or (self.last_run() != before and (self.at / ".jobc" / "runs" / self.last_run() / "journal.db").exists()), what="the journal")
        process.kill()
        process.wait()
        return self.last_run()

    def test_what_a_new_run_did_not_come_to_before_it_was_killed(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        before = sorted(one["Id"] for one in self.mine())
        for _ in range(2):
            self.kill_when_made("run", "a.job", "--resume", "--max-parallel", "3")
            if self.jobc("status", code=None).code != 0:
                shutil.rmtree(self.at / ".jobc" / "runs" / self.last_run())  # killed before it was there for others
            self.assertEqual(sorted(one["Id"] for one in self.mine()), before)
        process = self.start("resume")
        wait_until(lambda: process.poll() is not None or all(state == "running" for address, state in self.states().items() if address.startswith("far")), what="the run to go on")
        self.flag("go").touch()
        self.check(self.finish(process))

    def test_a_new_run_with_other_commands_ends_them_first(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        old = self.last_run()
        self.write_job(TEXT.replace("echo before;", "echo earlier;"))
        gone = {self.host_name(): f"unix://{self.base}/nobody"}
        self.assertSays(self.jobc("run", "a.job", "--resume", code=14, env=gone).err, old, "may still run", "nobody", "--resume")
        self.assertEqual(len(self.mine()), 3)
        self.flag("go").touch()
        done = self.jobc("run", "a.job", "--resume", old)
        self.assertSays(done.err, f"the run {old} had died: 3 containers were ended and removed")
        self.assertEqual(done.json["n"], [0, 1, 2])
        self.assertEqual(self.jobc("logs", 'far["0"]', "--stream", "stdout").out, "earlier\nafter\n")
        self.assertEqual(self.mine(), [])

    def test_cancel_of_a_new_run_that_was_killed(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        process = self.begin_again()
        process.kill()
        process.wait()
        self.assertSays(self.jobc("cancel").err, "3 containers were ended and removed")
        self.assertEqual(self.mine(), [])

    def test_cancel_of_the_last_of_several_that_were_killed(self):
        """Of what the first of them had begun it came to one; the rest was given on from run to run."""
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        for _ in range(2):
            before = self.last_run()
            process = self.start("run", "a.job", "--resume", "--max-parallel", "1")
            wait_until(lambda: any(self.runs_after(before, f'far["{i}"]') for i in range(3)), what="one of them to be taken over")
            process.kill()
            process.wait()
            self.assertEqual(len(self.mine()), 3)
        self.assertSays(self.jobc("cancel").err, "3 containers were ended and removed")
        self.assertEqual(self.mine(), [])

    def test_what_a_new_run_did_not_come_to_is_ended_with_it(self):
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        before = self.last_run()
        process = self.start("run", "a.job", "--resume", "--max-parallel", "1")
        wait_until(lambda: any(self.runs_after(before, f'far["{i}"]') for i in range(3)), what="one of them to be taken over")
        process.send_signal(signal.SIGINT)
        self.finish(process, code=130)
        self.assertEqual(self.mine(), [])


class DockerAdoption(Adoption, Story, services.Case):
    kind = "docker"


class PodmanAdoption(Adoption, Story, services.Case):
    kind = "podman"


@unittest.skipUnless(ROOT, "only root can give another user subordinate ids for the time of a test")
class RootlessAdoption(Adoption, Story, services.Case):
    kind = "podman-rootless"
    unprivileged = True


if __name__ == "__main__":
    services.main()
