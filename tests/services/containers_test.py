"""Attempts as containers of real engines, as a person would run them: Docker's engine and Podman's service."""
import json
import os
import pathlib
import re
import signal
import unittest

import services
import daemons
import servers
import registry
import images
from world import alive
from story import Story, wait_until, ROOT, NOBODY

IMAGE = "localhost/jobc-test/busybox:1"


class Containers(Story, services.Case):
    kind = ""     # of daemons.KINDS
    name = property(lambda self: self.kind.split("-")[0], doc="of the backend")

    def setUp(self):
        if type(self).kind == "":
            self.skip("only what follows from it is tested")
        super().setUp()
        self.use(self.enterContext(self.engine(self.kind)))

    def use(self, engine):
        self.at_engine = engine
        self.addCleanup(self.leaves_nothing, engine)

    def leaves_nothing(self, engine):
        if engine.answers():
            self.assertEqual(self.containers_of_story(engine), [], "containers were left")

    def environment(self, **more):
        name = "CONTAINER_HOST" if self.name == "podman" else "DOCKER_HOST"
        return super().environment(**{name: self.at_engine.host, **more})

    def job(self, text, *arguments, image=IMAGE, backend="", code=0, **options):
        profile = (f'profile box default {{ backend = {self.name} {{ network = "none", mounts = {{ flags = {{ source = "@FLAGS@", target = "/flags", read_only = false }} }} {backend} }} }}\n'
                   f'defaults {{ image = "{image}" }}\n')
        return self.run_job(profile + text, *arguments, code=code, **options)

    def failure(self, address):
        return self.instances()[address]

    def logs(self, *words):
        return self.jobc("logs", *words)


class Common:
    def test_outputs_go_from_container_to_container(self):
        self.write("hello\n", "in.txt")
        done = self.job('''
job one { input { f: File = "in.txt" } script = <<~SH
    pwd; cat ~{input.f} ~{input.f} > ~{output.out}; echo "{\\"lines\\": 2}" > $JOB_RESULT
  SH
  output { out: File = "out.txt", lines: Int } }
job two { input { f: File = one.out } run = ["wc", "-c", input.f] output { n: Int = to_int(split(trim(stdout()), " ")[0]) } }
export { n: Int = two.n, lines: Int = one.lines }
''')
        self.assertEqual(done.json, {"n": 12, "lines": 2})
        self.assertEqual(self.logs("one").out, "/jobc/out\n")

    def test_a_directory_of_a_bucket_comes_and_the_attempt_is_laid_down_there(self):
        s3 = servers.S3Server()
        self.addCleanup(s3.stop)
        s3.put("dir/a", b"A\n")
        s3.put("dir/sub/b", b"B\n")
        done = self.job('''
job read {
  input { data: Dir = "s3://bucket/dir/" }
  staging = "s3://bucket/kept"
  script = <<~SH
    cat ~{input.data}/a ~{input.data}/sub/b > both.txt; touch ~{input.data}/new 2>/dev/null && echo written; echo "$JOB_STAGING"; echo "$JOB_INPUT"
  SH
  output { both: File = "both.txt" }
}
export { both: File = read.both }
''', env=s3.environment)
        self.assertEqual(pathlib.Path(done.json["both"]).read_bytes(), b"A\nB\n")
        base = self.result("read.staged").removeprefix("s3://bucket/")
        with s3.lock:
            kept = {key.removeprefix(base + "/"): one["content"] for key, one in s3.objects.items() if key.startswith(base)}
        self.assertEqual(kept["output/files/both.txt"], b"A\nB\n")
        self.assertEqual(kept["output/stdout.log"].decode(), f"s3://bucket/{base}\n/jobc/stage/in\n")
        manifest = json.loads(kept["jobc-staged.json"])
        self.assertEqual((manifest["complete"], manifest["backend"], manifest["image"]), (True, self.name, IMAGE))
        self.assertEqual(json.loads(kept["input/inputs.json"]), {"data": "/jobc/stage/in/data/dir"})

    def test_output_arrives_byte_by_byte(self):
        self.job(r'''
job a { script = <<~SH
    printf 'no end'; printf 'e\377\000\n' >&2; head -c 70000 /dev/zero | tr '\0' q; echo; printf 'last without a line break'
  SH
}
''')
        self.assertEqual(self.jobc("logs", "a", "--stream", "stdout").raw_out, b"no end" + b"q" * 70000 + b"\nlast without a line break")
        self.assertEqual(self.jobc("logs", "a", "--stream", "stderr").raw_out, b"e\xff\x00\n")

    def test_ends(self):
        done = self.job('''
job code { run = ["sh", "-c", "exit 3"] }
job like_a_signal { run = ["sh", "-c", "exit 137"] }
job killed { script = <<~SH
    kill -9 $$
  SH
}
job missing { run = ["no-such-program"] }
job not_a_program { run = ["/etc/passwd"] }
''', "--on-error", "continue", code=10)
        found = self.instances()
        kinds = {address: one["kind"] for address, one in found.items()}
        self.assertEqual(kinds, {"code": "exit", "like_a_signal": "exit", "killed": "signal", "missing": "command", "not_a_program": "command"}, str(done))
        self.assertSays(done.err, "exit 3", "exit 137", "signal 9", "no-such-program", IMAGE)

    def test_limits_hold(self):
        self.job('''
job a { resources { cpu = 0.5, memory = 64MiB } script = <<~SH
    cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true
    cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true
    cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null || true
  SH
}
''', backend=", pids = 77")
        self.assertRegex(self.logs("a").out, r"(?s)\A64000000\d*|67108864")
        self.assertSays(self.logs("a").out, "77\n", "50000")

    def test_disk_is_told_not_to_be_enforced(self):
        done = self.job('job a { resources { disk = 1GiB } run = ["true"] }\n')
        self.assertIn("`resources.disk` is not enforced", done.err)

    def test_images(self):
        done = self.job('job a { run = ["true"] }\n', image="localhost/jobc-test/none:1", backend=', pull = never', code=10)
        self.assertEqual(self.instances()["a"]["kind"], "image", str(done))
        self.assertIn('`pull = never` forbids', done.err)
        done = self.job('job a { image_args = ["echo", "args"] }\njob b { image_args = [] }\njob c { run = ["echo", "run"] }\n', image="localhost/jobc-test/entrypoint:1")
        self.assertEqual([self.logs(name, "--stream", "stdout").out for name in "abc"], ["args\n", "cmd\n", "run\n"])
        self.assertEqual(self.jobc("logs", "a", "--stream", "stderr").out, "entrypoint: 2\n")

    def test_an_image_with_a_user_can_write_and_the_files_are_ours(self):
        done = self.job('''
job a { script = <<~SH
    id -u; umask 077; mkdir ~{output.d}; echo x > ~{output.d}/f; echo "{\\"v\\": 1}" > $JOB_RESULT; touch $TMPDIR/t
  SH
  output { d: Dir = "d", v: Int } }
export { d: Dir = a.d }
''', image="localhost/jobc-test/user:1")
        self.assertEqual(self.logs("a").out, f"{images.USER}\n")
        found = os.stat(pathlib.Path(done.json["d"], "f"))
        self.assertEqual((found.st_uid, found.st_gid), (os.geteuid(), os.getegid()))

    def test_the_option_user(self):
        self.job('job a { script = <<~SH\n    id -u; id -g; echo x > $JOB_OUTPUT/x\n  SH\n}\n', backend=', user = "4711:4712"')
        self.assertEqual(self.logs("a").out, "4711\n4712\n")

    def test_secrets(self):
        done = self.job('''
secret token = env("TOKEN")
job a { env { T = token } secret_files { t = token } script = <<~SH
    echo "env $T"; cat $JOB_SECRETS/t; ls -l $JOB_SECRETS/t | cut -c1-10
  SH
}
''', env={"TOKEN": "correct-horse-battery"})
        self.assertNotIn("correct-horse", done.err)
        self.assertNotIn("correct-horse", self.logs("a").out)
        self.assertSays(self.logs("a").out, "env ***", "-rw-------")

    def test_an_interrupt_lets_the_program_end_itself(self):
        process = self.start_job('''
job a { grace = 20s script = <<~SH
    trap 'echo tidied > /flags/tidied; exit 0' TERM
    touch /flags/up; while :; do sleep 0.05; done
  SH
}
''')
        self.wait_for("up")
        process.send_signal(signal.SIGINT)
        self.finish(process, code=130)
        self.assertEqual(self.flag("tidied").read_text(), "tidied\n")

    def test_what_does_not_end_is_killed(self):
        process = self.start_job('job a { timeout { run = 1s } grace = 200ms script = <<~SH\n    trap "" TERM; touch /flags/up; sleep 600\n  SH\n}\n')
        done = self.finish(process, code=10)
        self.assertEqual(self.instances()["a"]["kind"], "timeout", str(done))

    def test_a_second_interrupt_ends_everything_at_once(self):
        process = self.start_job('job a { grace = 10m script = <<~SH\n    trap "" TERM; touch /flags/up; sleep 600\n  SH\n}\n')
        self.wait_for("up")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # the same twice at once would be one
        self.finish(process, code=130)

    def start_job(self, text, *arguments):
        profile = f'profile box default {{ backend = {self.name} {{ network = "none", mounts = {{ flags = {{ source = "@FLAGS@", target = "/flags", read_only = false }} }} }} }}\ndefaults {{ image = "{IMAGE}" }}\n'
        self.write("edition = 1\n" + (profile + text).replace("@FLAGS@", str(self.flags)))
        return self.start("run", "a.job", *arguments)

    def test_much_output_takes_little_memory(self):
        process = self.start_job('job a { log_limit = 1MiB script = <<~SH\n    head -c 200000000 /dev/zero | tr "\\0" x; echo; echo end; touch /flags/done; while [ ! -e /flags/seen ]; do sleep 0.05; done\n  SH\n}\n')
        self.wait_for("done", seconds=60)
        peak = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1])
        self.flag("seen").touch()
        self.finish(process)
        self.assertLess(peak, 250_000)
        self.assertTrue(self.logs("a").out.endswith("\nend\n"))

    def test_many(self):
        done = self.job('job a { for i in range(20) run = ["sh", "-c", "echo ~{i}"] output { o: Int = to_int(trim(stdout())) } }\nexport { all: List<Int> = a[*].o }\n', "--max-parallel", "8")
        self.assertEqual(done.json, {"all": list(range(20))})

    def test_an_engine_that_cannot_be_used(self):
        name = "CONTAINER_HOST" if self.name == "podman" else "DOCKER_HOST"
        for host in (f"unix://{self.base}/none.sock", "tcp://127.0.0.1:9"):
            done = self.job('job a { run = ["touch", "/flags/ran"] }\n', env={name: host}, code=14)
            self.assertSays(done.err, host, name)
            self.assertFalse(self.flag("ran").exists())


class Docker(Common, Containers):
    kind = "docker"

    def test_memory(self):
        done = self.job('job a { resources { memory = 20MiB } script = <<~SH\n    tail /dev/zero\n  SH\n}\n', code=10)
        self.assertEqual(self.instances()["a"]["kind"], "oom", str(done))

    def test_a_container_removed_from_outside(self):
        process = self.start_job('job a { script = <<~SH\n    touch /flags/up; sleep 600\n  SH\n}\n')
        self.wait_for("up")
        mine = [one["Id"] for one in self.containers_of_story(self.at_engine)]
        self.at_engine.api("DELETE", f"/containers/{mine[0]}?force=1")
        done = self.finish(process, code=10)
        self.assertIn(self.instances()["a"]["kind"], ("node_lost", "signal"), str(done))


class Podman(Common, Containers):
    kind = "podman"


@unittest.skipUnless(ROOT, "the socket is given to another user by root")
class OrdinaryUser(Containers):
    kind = "docker"
    unprivileged = True

    def test_files_belong_to_the_caller(self):
        socket = self.at_engine.socket
        before = os.stat(socket).st_mode & 0o777, os.stat(self.at_engine.base).st_mode & 0o777
        os.chmod(socket, 0o666)
        os.chmod(self.at_engine.base, 0o711)
        self.addCleanup(os.chmod, socket, before[0])
        self.addCleanup(os.chmod, self.at_engine.base, before[1])
        for image in (IMAGE, "localhost/jobc-test/user:1"):
            done = self.job('job a { script = <<~SH\n    id -u; echo x > ~{output.o}\n  SH\n  output { o: File = "o" } }\nexport { o: File = a.o }\n', image=image)
            self.assertEqual(self.logs("a").out, f"{NOBODY}\n")
            self.assertEqual(os.stat(done.json["o"]).st_uid, NOBODY)

    def test_a_socket_that_is_forbidden(self):
        os.chmod(self.at_engine.base, 0o711)
        self.addCleanup(os.chmod, self.at_engine.base, 0o700)
        done = self.job('job a { run = ["true"] }\n', code=14)
        self.assertSays(done.err, "permission denied", "usermod -aG docker")


class EngineGoesAway(Containers):
    kind = "docker"

    def start_long(self, retry=""):
        self.write(f'edition = 1\nprofile box default {{ backend = docker {{ network = "none", mounts = {{ flags = {{ source = "{self.flags}", target = "/flags", read_only = false }} }} }} }}\n'
                   f'defaults {{ image = "{IMAGE}" }}\n' + 'job a { ' + retry + ''' script = <<~SH
    i=0; lines() { for n in 1 2 3 4 5 6 7 8 9 10; do i=$((i+1)); echo "line $i of attempt $JOB_ATTEMPT"; done; }
    lines; touch /flags/up$JOB_ATTEMPT; while [ ! -e /flags/go ]; do sleep 0.02; done; lines; echo last $i
  SH
}
''')
        process = self.start("run", "a.job", "--json")
        self.wait_for("up1")
        # A program can run before its engine has said so: an engine that goes away in that moment is another story.
        wait_until(lambda: [one for one in self.instances()["a"]["attempts"] if "started_ms" in one], 20, "the attempt to have started")
        return process

    def test_with_live_restore_the_attempt_goes_on(self):
        engine = self.own_engine(lambda: daemons.Docker(live_restore=True))
        engine.load(images.busybox())
        self.use(engine)
        process = self.start_long()
        # What an engine has read and not yet passed on when it is killed is lost with it: that is not what is tested.
        wait_until(lambda: "line 10 " in self.jobc("logs", "a", code=None).out, 20, "the first lines")
        engine.kill()
        engine.restart()
        self.flag("go").touch()
        self.finish(process)
        lines = self.logs("a", "--stream", "stdout").out.splitlines()
        self.assertEqual(lines, [f"line {i} of attempt 1" for i in range(1, 21)] + ["last 20"], "nothing is lost, and nothing is there twice")

    def test_it_ends_while_the_engine_is_away(self):
        engine = self.own_engine(lambda: daemons.Docker(live_restore=True))
        engine.load(images.busybox())
        self.use(engine)
        process = self.start_long()
        pids = engine.container_pids()
        engine.kill()
        self.flag("go").touch()
        wait_until(lambda: not [pid for pid in pids if alive(pid)], 20, "the container to end")
        engine.restart()
        self.finish(process)

    def test_without_it_the_attempt_is_lost_and_retried(self):
        engine = self.own_engine(daemons.Docker)
        engine.load(images.busybox())
        self.use(engine)
        process = self.start_long("retry { max_attempts = 2, on = [node_lost] }")
        engine.kill()
        engine.restart()
        self.wait_for("up2", seconds=40)
        self.flag("go").touch()
        done = self.finish(process)
        self.assertIn('"node_lost"', done.out)


class Pulls(Containers):
    kind = "docker"

    def pull(self, r, name="team/tool:1", code=0, config=None, backend="", kind="docker"):
        if config is not None:
            (self.home / ".docker").mkdir(exist_ok=True)
            (self.home / ".docker" / "config.json").write_text(config)
        return self.job('job a { run = ["echo", "pulled"] }\n', image=f"{r.host}/{name}", code=code, backend=backend)

    def setUp(self):
        super().setUp()
        self.reg = self.enterContext(registry.Registry())

    def test_an_image_that_is_not_here_is_pulled(self):
        digest = self.reg.push("team/tool", "1", images.busybox())
        done = self.pull(self.reg)
        self.assertSays(done.err, f"pulling the image `{self.reg.host}/team/tool:1`", "pulled the image")
        asked = len(self.reg.asked)
        self.assertNotIn("pulling", self.pull(self.reg).err)
        self.assertEqual(len(self.reg.asked), asked, "a second run needs no registry")
        self.pull(self.reg, backend=', pull = always')
        self.assertGreater(len(self.reg.asked), asked)

    def test_what_the_registry_does_not_have(self):
        done = self.pull(self.reg, "team/none:1", code=10)
        self.assertEqual(self.instances()["a"]["kind"], "image", str(done))

    def test_a_wrong_digest(self):
        self.reg.push("team/bad", "1", images.Image("bad", images._busybox_layer([("bin/bad", self.id().encode())]), {"Cmd": ["sh"]}), wrong_layer=True)
        done = self.pull(self.reg, "team/bad:1", code=10)
        self.assertEqual(self.instances()["a"]["kind"], "image", str(done))
        self.assertNotIn("submission 2", done.err)

    def test_credentials(self):
        with registry.Registry(auth="basic") as closed:
            closed.push("team/tool", "1", images.busybox())
            done = self.pull(closed, code=10)
            self.assertEqual(self.instances()["a"]["kind"], "auth", str(done))
            self.assertIn("docker login", done.err)
            done = self.pull(closed, code=10, config=closed.docker_config(password="wrong"))
            self.assertEqual(self.instances()["a"]["kind"], "auth", str(done))
            self.pull(closed, config=closed.docker_config())


if __name__ == "__main__":
    services.main()
