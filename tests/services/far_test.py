"""Engines that do not see this machine's files, as those of other machines: a dockerd and a podman of the tests' own with another
/tmp. Files go in and come back by the engine's API, and everything else is as it is at home."""
import hashlib
import io
import os
import pathlib
import random
import re
import signal
import stat
import tarfile
import threading
import time

import daemons
import images
import proxy
import services
from story import NOBODY, ROOT, SANITIZED, Story, wait_until

IMAGE = images.PREFIX + "busybox:1"


class Far(Story, services.Case):
    kind = ""
    text = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not cls.kind:
            return
        try:
            cls.at_engine = daemons.KINDS[cls.kind](far=True).__enter__()
        except daemons.Missing as missing:
            raise services.unittest.SkipTest(str(missing))
        cls.addClassCleanup(cls.at_engine.remove)
        for make in (images.busybox, images.user, images.entrypoint):
            cls.at_engine.load(make())

    def setUp(self):
        if not self.kind:
            self.skip("only what follows from it is tested")
        super().setUp()
        self.addCleanup(self.leaves_nothing)

    def leaves_nothing(self):
        if self.at_engine.answers():
            left = self.at_engine.containers()
            for one in left:
                self.at_engine.api("DELETE", f"/containers/{one['Id']}?force=1&v=1")
            self.assertEqual(left, [], "containers were left")
            self.assertEqual(self.at_engine.api("GET", "/volumes").json["Volumes"] or [], [], "volumes were left")

    def environment(self, **more):
        name = "CONTAINER_HOST" if self.kind == "podman" else "DOCKER_HOST"
        return super().environment(**{name: self.between.host if self.between else self.at_engine.host, **more})

    between = None

    def disturb(self, **how):
        """From now on jobc reaches the engine through a proxy, which disturbs what copies outputs back after half of them."""
        self.between = self.enterContext(proxy.Proxy(self.base / "between.sock", self.at_engine.socket))
        self.between.disturb("/archive?path=%2Fjobc%2Fout", 2_000_000, **how)

    COPIED = '''
job a { grace = 5s script = <<~SH
    head -c 4000000 /dev/zero | tr '\\0' x > large; echo small > small; echo "{\\"n\\": 1}" > $JOB_RESULT
  SH
  output { large: File = "large", n: Int } }
export { large: File = a.large, n: Int = a.n }
'''

    def left_of_outputs(self):
        return [str(path) for path in self.at.rglob("*") if path.name in ("large", "small")]

    def profile(self, image=IMAGE, backend=""):
        return f'profile box default {{ backend = {self.kind} {{ network = "none" {backend} }} }}\ndefaults {{ image = "{image}" }}\n'

    def job(self, text, *arguments, image=IMAGE, backend="", code=0, **options):
        return self.run_job(self.profile(image, backend) + text, *arguments, code=code, **options)

    def start_job(self, text, *arguments):
        self.write("edition = 1\n" + self.profile() + text)
        return self.start("run", "a.job", *arguments)

    def logs(self, *words):
        return self.jobc("logs", *words).out

    def wait_for_log(self, address, text, seconds=30):
        wait_until(lambda: text in self.jobc("logs", address, code=None).out, seconds, f"{address} to say {text}")

    def touch(self, name):
        """A file in the output directory of all containers: nothing else can be seen from both sides."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        for one in self.at_engine.containers():
            answer = self.at_engine.api("PUT", f"/containers/{one['Id']}/archive?path=/jobc/out", out.getvalue(), headers={"Content-Type": "application/x-tar"})
            self.assertEqual(answer.status, 200, answer.body)


class Common:
    def test_outputs_go_from_container_to_container(self):
        self.write("hello\n", "in.txt")
        done = self.job('''
job one { input { f: File = "in.txt" } script = <<~SH
    pwd; cat ~{input.f} ~{input.f} > ~{output.out}; echo "{\\"lines\\": 2}" > $JOB_RESULT; echo in the way > left-over
  SH
  output { out: File = "sub/out.txt", lines: Int } }
job two { input { f: File = one.out } run = ["wc", "-c", input.f] output { n: Int = to_int(split(trim(stdout()), " ")[0]) } }
export { n: Int = two.n, lines: Int = one.lines, out: File = one.out }
''')
        self.assertEqual({key: done.json[key] for key in ("n", "lines")}, {"n": 12, "lines": 2})
        self.assertEqual(pathlib.Path(done.json["out"]).read_text(), "hello\nhello\n")
        self.assertEqual(self.logs("one"), "/jobc/out\n")
        self.assertIn("does not see this machine's files", done.err)

    def test_trees_come_and_go_whole(self):
        tree = self.at / "tree"
        long = "n" * 90
        for name, mode in (("a", 0o644), ("run", 0o755), (f"{long}/{long}/{long}", 0o600), ("empty", 0o640), ("päth with space\n", 0o644)):
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"" if name == "empty" else name.encode())
            path.chmod(mode)
        (tree / "none").mkdir()
        (tree / "link").symlink_to("a")
        (tree / "far-link").symlink_to("/" + "x" * 150)
        done = self.job('''
job copy { input { d: Dir = "tree", l: List<File> = ["tree/a", "tree/run"] } script = <<~SH
    cp -a ~{input.d} ~{output.d}; ln ~{output.d}/a ~{output.d}/hard; rm ~{output.d}/far-link; test -x ~{input.l[1]} && echo "it runs"
    for i in $(seq 300); do echo $i > ~{output.d}/none/$i; done
    touch ~{input.d}/new 2>/dev/null && test $(id -u) -ne 0 && echo "inputs can be written"
    ls -l ~{input.d}/a | cut -c1-10
  SH
  output { d: Dir = "copied" } }
export { d: Dir = copy.d }
''')
        copied = pathlib.Path(done.json["d"])
        for path in tree.rglob("*"):
            if path.name == "far-link" or path.is_dir():
                continue
            self.assertEqual((copied / path.relative_to(tree)).read_bytes(), path.read_bytes())
        self.assertEqual((copied / "hard").read_bytes(), b"a")
        self.assertTrue(os.stat(copied / "run").st_mode & stat.S_IXUSR)
        self.assertEqual(len(list((copied / "none").iterdir())), 300)
        self.assertEqual(os.stat(copied / "a").st_uid, os.geteuid())
        self.assertSays(self.logs("copy"), "it runs\n", "-r--r--r--")
        self.assertNotIn("inputs can be written", self.logs("copy"))

    def test_large_files_take_little_memory(self):
        path = self.at / "large"
        chunk = random.Random(1).randbytes(1 << 20)
        with open(path, "wb") as file:
            for i in range(200):
                file.write(i.to_bytes(4, "big") + chunk[4:])
        process = self.start_job('''
job a { input { f: File = "large" } script = <<~SH
    cp ~{input.f} ~{output.f}
  SH
  output { f: File = "copy" } }
export { f: File = a.f }
''')
        peak = [0]

        def watch():
            while process.poll() is None:
                try:
                    peak[0] = max(peak[0], int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1]))
                except (OSError, TypeError):
                    return
                threading.Event().wait(0.05)
        watcher = threading.Thread(target=watch)
        watcher.start()
        done = self.finish(process, timeout=200)
        watcher.join()
        self.assertLess(peak[0], 200_000 if SANITIZED else 100_000, "kB of memory; a sanitizer keeps what was freed for a while")
        digests = []
        for one in (path, done.json["f"]):
            with open(one, "rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        self.assertEqual(*digests)

    def test_ends(self):
        self.job('''
job code { run = ["sh", "-c", "exit 3"] }
job killed { script = <<~SH
    kill -9 $$
  SH
}
job missing { run = ["no-such-program"] }
job no_file { run = ["true"] output { f: File = "none" } }
job bad_result { run = ["sh", "-c", "echo oops > $JOB_RESULT"] output { n: Int } }
job kept { run = ["sh", "-c", "rm -rf /jobc/out; echo gone"] }
''', "--on-error", "continue", code=10)
        kinds = {address: one.get("kind") for address, one in self.instances().items()}
        self.assertEqual(kinds, {"code": "exit", "killed": "signal", "missing": "command", "no_file": "output_missing", "bad_result": "schema", "kept": None})

    def test_a_user_of_the_image(self):
        done = self.job('''
job a { script = <<~SH
    id -u; umask 077; mkdir ~{output.d}; echo x > ~{output.d}/f; echo "{\\"v\\": 1}" > $JOB_RESULT; touch $TMPDIR/t
  SH
  output { d: Dir = "d", v: Int } }
export { d: Dir = a.d }
''', image=images.PREFIX + "user:1")
        self.assertEqual(self.logs("a"), f"{images.USER}\n")
        self.assertEqual(pathlib.Path(done.json["d"], "f").read_text(), "x\n")
        self.job('job a { script = <<~SH\n    id -u; echo x > $JOB_OUTPUT/x\n  SH\n}\n', backend=', user = "4711:4712"')
        self.assertEqual(self.logs("a"), "4711\n")

    def test_links_and_pipes_lead_nowhere(self):
        self.job('''
job out { run = ["ln", "-s", "/etc/passwd", "out"] output { f: File = "out" } }
job pipe { run = ["mkfifo", "out"] output { f: File = "out" } }
job result { script = <<~SH
    ln -s /etc/passwd $JOB_RESULT
  SH
  output { n: Int } }
''', "--on-error", "continue", code=10)
        self.assertEqual({address: one["kind"] for address, one in self.instances().items()}, {"out": "output_missing", "pipe": "output_missing", "result": "output_missing"})

    def test_many(self):
        done = self.job('job a { for i in range(12) run = ["sh", "-c", "echo ~{i} > o"] output { o: File = "o" } }\njob b { input { all: List<File> = a[*].o } run = ["cat", ...input.all] output { o: String = stdout() } }\nexport { all: String = b.o }\n',
                        "--max-parallel", "6")
        self.assertEqual(done.json["all"].split(), [str(i) for i in range(12)])

    def test_mounts_are_of_the_other_machine(self):
        there = pathlib.Path(self.at_engine.base, "seen")
        there.mkdir(exist_ok=True)
        (there / "f").write_text("over there\n")
        self.job('job a { run = ["cat", "/mnt/data/f"] }\n', backend=f', mounts = {{ data = "{there}" }}')
        self.assertEqual(self.logs("a"), "over there\n")
        if self.kind == "podman":
            return  # it makes what is not there
        done = self.job('job a { run = ["true"] }\n', backend=f', mounts = {{ data = "{self.flags}" }}', code=10)
        self.assertEqual(self.instances()["a"]["kind"], "staging", str(done))
        self.assertSays(done.err, str(self.flags), "the sources of `mounts` are its own", "as inputs")

    def test_secrets(self):
        done = self.job('secret t = env("TOKEN")\njob a { secret_files { t = t } run = ["true"] }\n', env={"TOKEN": "correct-horse-battery"}, code=10)
        self.assertSays(done.err, "secret files are never copied", "`env`")
        self.job('secret t = env("TOKEN")\njob a { env { T = t } run = ["sh", "-c", "echo $T"] }\n', env={"TOKEN": "correct-horse-battery"})
        self.assertEqual(self.logs("a"), "***\n")

    def test_a_timeout(self):
        self.job('job a { timeout { run = 1s } grace = 200ms script = <<~SH\n    echo x > kept; trap "" TERM; sleep 600\n  SH\n}\n', code=10)
        self.assertEqual(self.instances()["a"]["kind"], "timeout")

    def test_a_connection_is_cut_while_outputs_are_copied(self):
        self.disturb(times=2)
        done = self.job(self.COPIED)
        self.assertEqual(self.between.disturbed, 2)
        self.assertEqual(pathlib.Path(done.json["large"]).read_bytes(), b"x" * 4_000_000)
        self.assertEqual(len(self.instances()["a"]["attempts"]), 1)

    def test_the_connection_is_cut_each_time(self):
        self.disturb()
        done = self.job(self.COPIED, code=10)
        self.assertEqual(self.between.disturbed, 5)
        self.assertEqual(self.instances()["a"]["kind"], "network", str(done))
        self.assertSays(done.err, "/jobc/out", "cannot be copied from")
        self.assertEqual(self.left_of_outputs(), [], "nobody takes half of them for all")

    def cancelled_while_copied(self, cancel):
        self.disturb(hold=True)
        process = self.start_job(self.COPIED)
        self.assertTrue(self.between.happened.wait(60))
        begin = time.monotonic()
        cancel(process)
        self.finish(process, code=None)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertEqual(self.instances()["a"]["state"], "cancelled")
        self.assertEqual(self.left_of_outputs(), [], "nobody takes half of them for all")

    def test_cancelled_while_outputs_are_copied(self):
        self.cancelled_while_copied(lambda process: self.jobc("cancel", "a"))

    def test_interrupted_while_outputs_are_copied(self):
        self.cancelled_while_copied(lambda process: process.send_signal(signal.SIGINT))

    def test_an_interrupt_lets_the_program_end_itself(self):
        process = self.start_job('job a { grace = 20s script = <<~SH\n    trap \'echo tidied; exit 0\' TERM; echo up; while :; do sleep 0.05; done\n  SH\n}\n')
        self.wait_for_log("a", "up")
        process.send_signal(signal.SIGINT)
        self.finish(process, code=130)
        self.assertIn("tidied", self.logs("a"))

    def kill_in_the_middle(self, *words):
        process = self.start(*words)
        for i in range(2):
            wait_until(lambda: process.poll() is not None or "before" in self.jobc("logs", f'a["{i}"]', code=None).out, 60, "the containers to run")
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGKILL)
        process.wait()

    ADOPTED = '''
job a { for i in range(2) key i
  timeout { run = 5m }
  script = <<~SH
    echo before; until [ -e go ]; do sleep 0.05; done; echo after; echo text > made; echo "{\\"n\\": ~{i}}" > $JOB_RESULT
  SH
  output { n: Int, made: File = "made" } }
job sum { input { files: List<File> = a[*].made } run = ["cat", ...input.files] output { text: String = stdout() } }
export { n: List<Int> = a[*].n, text: String = sum.text }
'''

    def adopted(self, meanwhile):
        self.write("edition = 1\n" + self.profile() + self.ADOPTED)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "2")
        before = sorted(one["Id"] for one in self.at_engine.containers())
        self.assertEqual(len(before), 2)
        meanwhile()
        process = self.start("resume")
        if meanwhile == self.nothing:
            wait_until(lambda: self.jobc("status", "--json").json["status"] == "running", 60, "the run to go on")
            self.assertEqual(sorted(one["Id"] for one in self.at_engine.containers()), before)
            self.touch("go")
        self.assertEqual(self.finish(process).json, {"n": [0, 1], "text": "text\ntext\n"})
        for i in range(2):
            self.assertEqual(self.logs(f'a["{i}"]'), "before\nafter\n")

    def nothing(self):
        pass

    def test_containers_that_run_are_taken_over(self):
        self.adopted(self.nothing)

    def test_containers_that_ended_meanwhile(self):
        def end():
            self.touch("go")
            wait_until(lambda: all(one["State"] != "running" for one in self.at_engine.containers()), 30, "the containers to end")
        self.adopted(end)

    def test_gc_removes_what_nobody_took_over(self):
        self.write("edition = 1\n" + self.profile() + self.ADOPTED)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "2")
        self.assertEqual(self.jobc("gc", "--older-than", "0s").out.count("container"), 2)


class Docker(Common, Far):
    kind = "docker"


class Podman(Common, Far):
    kind = "podman"


class OrdinaryUser(Far):
    kind = "docker"
    unprivileged = True

    def test_files_belong_to_the_caller(self):
        if not ROOT:
            self.skip("the socket is given to another user by root")
        os.chmod(self.at_engine.socket, 0o666)
        os.chmod(self.at_engine.base, 0o711)
        self.write("hello\n", "in.txt")
        done = self.job('job a { input { f: File = "in.txt" } script = <<~SH\n    id -u; cat ~{input.f} > ~{output.o}; chmod 400 ~{output.o}\n  SH\n  output { o: File = "o" } }\nexport { o: File = a.o }\n')
        self.assertEqual(self.logs("a"), f"{NOBODY}\n")
        self.assertEqual(os.stat(done.json["o"]).st_uid, NOBODY)
        self.assertEqual(pathlib.Path(done.json["o"]).read_text(), "hello\n")


if __name__ == "__main__":
    services.main()
