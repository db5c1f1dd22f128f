"""Engines that are reached as `ssh://…`: a real sshd on loopback with keys of its own in front of a real dockerd. `ssh` is the real
one as well; in PATH stands a script before it that gives it a configuration of the tests, since it reads no other home directory."""
import hashlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import daemons
import services
from story import Story, wait_until, ROOT

IMAGE = "localhost/jobc-test/busybox:1"
JOB = f"""edition = 1
profile box default {{ backend = docker {{ network = "none", mounts = {{ flags = {{ source = "@FLAGS@", target = "/flags", read_only = false }} }} }} }}
defaults {{ image = "{IMAGE}" }}
job a {{
  timeout {{ run = 5m }}
  script = <<~SH
    echo ran >> /flags/ran; echo before; until [ -e /flags/go ]; do sleep 0.05; done; echo after; printf '{{"n": 7}}' > $JOB_RESULT; echo text > made
  SH
  output {{ n: Int, made: File = "made" }}
}}
job b {{ input {{ file: File = a.made }} run = ["cat", input.file] output {{ text: String = stdout() }} }}
export {{ n: Int = a.n, text: String = b.text }}
"""
DIRECTORIES = "/dev/shm"


class Sshd:
    """An sshd that lets the bearer of a key in as this user, and the way to it."""

    def __init__(self, base):
        self.base, self.port = base, daemons.free_port()
        for name in ("host", "key", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{base}/{name}"], check=True)
        shutil.copy(f"{base}/key.pub", f"{base}/authorized")
        self.pid_file = f"{base}/sshd.pid"
        # Without SHLVL bash takes itself for one that sshd started and reads the user's .bashrc.
        pathlib.Path(base, "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {base}/host\nAuthorizedKeysFile {base}/authorized\nPidFile {self.pid_file}\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxSessions 200\nSetEnv SHLVL=5\n")
        host_key = pathlib.Path(base, "host.pub").read_text().split()
        pathlib.Path(base, "known").write_text(f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n")
        self.use("key")
        os.mkdir(f"{base}/bin")
        script = pathlib.Path(base, "bin", "ssh")
        script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {base}/ssh_config "$@"\n')
        script.chmod(0o755)
        self.user = pwd.getpwuid(os.geteuid()).pw_name

    def use(self, key):
        pathlib.Path(self.base, "ssh_config").write_text(f"IdentityFile {self.base}/{key}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {self.base}/known\nStrictHostKeyChecking yes\n")

    def start(self):
        os.makedirs("/run/sshd", exist_ok=True)  # where it locks its unprivileged part in
        self.process = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", f"{self.base}/sshd_config", "-E", f"{self.base}/sshd.log"], start_new_session=True)
        wait_until(self._answers, 20, "sshd to answer")

    def _answers(self):
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def sessions(self):
        """Processes of connections, each of which sshd made."""
        return children_of(self.process.pid)

    def cut(self):
        for pid in self.sessions():
            for child in [*children_of(pid), pid]:
                kill(child)

    def stop(self):
        self.cut()
        self.process.kill()
        self.process.wait()


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stat(pid):
    """State and parent; nothing: it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return fields[0], int(fields[1])
    except OSError:
        return None


def children_of(parent):
    found = [(int(entry), stat(entry)) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid, state in found if state is not None and state[1] == parent and state[0] != "Z"]


class Ssh(Story, services.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not (shutil.which("sshd") or os.path.exists("/usr/sbin/sshd")) or not shutil.which("ssh-keygen"):
            raise unittest.SkipTest("sshd is not installed (Debian: openssh-server)")
        if not ROOT:
            raise unittest.SkipTest("an sshd of the tests' own needs root")
        base = tempfile.mkdtemp(prefix="jobc-ssh-test-")
        cls.addClassCleanup(shutil.rmtree, base)
        cls.sshd = Sshd(base)
        cls.sshd.start()
        cls.addClassCleanup(cls.sshd.stop)

    def setUp(self):
        super().setUp()
        self.docker = self.enterContext(self.engine("docker"))
        self.address = f"ssh://{self.sshd.user}@127.0.0.1:{self.sshd.port}{self.docker.socket}"
        self.env = {"DOCKER_HOST": self.address, "PATH": f"{self.sshd.base}/bin:{os.environ['PATH']}"}
        self.write(JOB.replace("@FLAGS@", str(self.flags)))
        self.addCleanup(self.sshd.use, "key")

    def directories(self):
        return [name for name in os.listdir(DIRECTORIES) if name.startswith("jobc-ssh-") and not name.startswith("jobc-ssh-test-")]

    def ssh_of(self, process):
        """The ssh that a jobc has for its engine."""
        return [pid for pid in children_of(process.pid) if b"-nNT" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]

    def connections(self):
        """How many there have been."""
        return pathlib.Path(self.sshd.base, "sshd.log").read_text().count("Accepted publickey")

    def ran(self):
        return (self.flags / "ran").read_text().split()

    def begin(self):
        run = self.start("run", "a.job", env=self.env)
        self.wait_for("ran")
        return run

    def test_a_run_by_one_connection(self):
        before = self.connections()
        (self.flags / "go").touch()
        done = self.jobc("run", "a.job", env=self.env)
        self.assertEqual(done.json, {"n": 7, "text": "text\n"})
        self.assertEqual(self.jobc("logs", "a").out, "before\nafter\n")
        self.assertEqual(self.directories(), [])
        self.assertEqual(self.connections() - before, 1, "one connection for all")

    def test_as_a_context_and_in_doctor(self):
        config = self.home / ".docker"
        meta = config / "contexts" / "meta" / hashlib.sha256(b"lab").hexdigest()
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Name": "lab", "Metadata": {}, "Endpoints": {"docker": {"Host": self.address, "SkipTLSVerify": False}}}))
        (config / "config.json").write_text(json.dumps({"currentContext": "lab"}))
        path = {"PATH": self.env["PATH"]}
        told = self.jobc("doctor", "docker", env=path)
        self.assertIn(self.address, told.out)
        self.assertIn("the context `lab`", told.out)
        (self.flags / "go").touch()
        self.assertEqual(self.jobc("run", "a.job", env=path).json["n"], 7)
        self.assertEqual(self.directories(), [])

    def test_podman_with_a_key_of_its_own(self):
        with self.engine("podman") as podman:
            self.write(JOB.replace("@FLAGS@", str(self.flags)).replace("docker {", "podman {"))
            self.sshd.use("other")
            (self.flags / "go").touch()
            done = self.jobc("run", "a.job", env={"PATH": self.env["PATH"], "CONTAINER_SSHKEY": f"{self.sshd.base}/key",
                                                  "CONTAINER_HOST": self.address.replace(self.docker.socket, podman.socket)})
            self.assertEqual(done.json, {"n": 7, "text": "text\n"})

    def test_a_cut_connection_is_made_anew_and_nothing_runs_twice(self):
        run = self.begin()
        (old,) = self.ssh_of(run)
        self.sshd.cut()
        wait_until(lambda: stat(old) is None or stat(old)[0] == "Z", 20, "the ssh whose connection was cut to end")
        wait_until(lambda: self.ssh_of(run) not in ([], [old]), 30, "another ssh")
        (self.flags / "go").touch()
        self.assertEqual(self.finish(run, "run").json, {"n": 7, "text": "text\n"})
        self.assertEqual(self.ran(), ["ran"])
        self.assertEqual(self.jobc("logs", "a").out, "before\nafter\n")
        self.assertEqual(len(self.instances()["a"]["attempts"]), 1)

    def test_interrupts_of_the_terminal_are_not_for_ssh(self):
        run = self.begin()
        (ssh,) = self.ssh_of(run)
        self.assertNotEqual(os.getpgid(ssh), os.getpgid(run.pid))
        run.send_signal(signal.SIGINT)
        self.finish(run, "run", code=130)
        self.assertEqual(self.directories(), [])

    def test_killed_and_resumed(self):
        run = self.begin()
        (ssh,) = self.ssh_of(run)
        wait_until(lambda: [one for one in self.instances()["a"]["attempts"] if "started_ms" in one], 20, "the journal to say that it runs")
        run.kill()
        run.wait()
        wait_until(lambda: stat(ssh) is None or stat(ssh)[0] == "Z", 20, "ssh to end with jobc")
        (left,) = self.directories()
        (self.flags / "go").touch()
        self.assertEqual(self.jobc("resume", env=self.env).json, {"n": 7, "text": "text\n"})
        self.assertEqual(self.ran(), ["ran"], "it was taken over")
        # What is left of the killed one is taken away by whoever comes later, but not while it could be new.
        self.assertEqual(self.directories(), [left])
        past = time.time() - 120
        os.utime(f"{DIRECTORIES}/{left}", (past, past))
        self.jobc("doctor", "docker", env=self.env)
        self.assertEqual(self.directories(), [])

    def test_killed_and_cancelled(self):
        # The same engine by two names.
        self.write((self.at / "a.job").read_text() + f'job c {{ after = [a] backend = docker {{ network = "none", host = "{self.address}" }} run = ["true"] }}\n')
        run = self.begin()
        wait_until(lambda: [one for one in self.instances()["a"]["attempts"] if "started_ms" in one], 20, "the journal to say that it runs")
        run.kill()
        run.wait()
        left = self.directories()
        for one in left:
            self.addCleanup(shutil.rmtree, f"{DIRECTORIES}/{one}")
        before = self.connections()
        # However often the engine is asked: whether it lives, whether it has ended, whether it is gone.
        self.assertEqual(json.loads(self.jobc("cancel", "--json", env=self.env).out)["containers"], 1)
        self.assertEqual(self.connections() - before, 1)
        self.assertEqual(self.containers_of_story(self.docker), [])
        self.assertEqual(self.states()["a"], "cancelled")
        self.assertEqual(self.directories(), left)

    def refused(self, *parts, address=None, env=None):
        env = {**self.env, **({"DOCKER_HOST": address} if address else {}), **(env or {})}
        done = self.jobc("run", "a.job", code=14, env=env)
        self.assertSays(done.err, env["DOCKER_HOST"], "`DOCKER_HOST`", *parts)
        told = self.jobc("doctor", "docker", env=env, code=None)
        self.assertNotEqual(told.code, 0)
        self.assertEqual(self.directories(), [])

    def test_a_key_that_is_not_known_there(self):
        self.sshd.use("other")
        self.refused("Permission denied (publickey)", f"ssh -o BatchMode=yes -p {self.sshd.port} {self.sshd.user}@127.0.0.1 true")

    def test_a_host_that_is_not_known_here(self):
        self.refused("Host key verification failed", address=self.address.replace("127.0.0.1", "localhost"))

    def test_nobody_there(self):
        port = daemons.free_port()
        self.refused("Connection refused", address=f"ssh://{self.sshd.user}@127.0.0.1:{port}/var/run/docker.sock")

    def test_no_engine_there(self):
        self.refused("nobody answers at /nowhere.sock there", "open failed", "docker version", address=f"ssh://{self.sshd.user}@127.0.0.1:{self.sshd.port}/nowhere.sock")

    def test_no_ssh_here(self):
        empty = self.base / "empty"
        empty.mkdir()
        self.refused("there is no program `ssh` here", "openssh-client", env={"PATH": str(empty)})


if __name__ == "__main__":
    services.main()
