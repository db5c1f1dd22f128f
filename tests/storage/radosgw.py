"""Ceph's radosgw on this machine: one monitor, one OSD in memory, one gateway, all below one directory and on free ports of loopback.
A production S3 server, as Debian has it (packages radosgw, ceph-mon, ceph-osd). with Radosgw(directory) as server: …"""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from world import alive  # noqa: E402

ACCESS_KEY, SECRET_KEY = "JOBCKEY", "JobcSecret/with+slash"


class Missing(Exception):
    """It cannot be had here; says why."""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Radosgw:
    def __init__(self, directory, memory=2 << 30):
        missing = [tool for tool in ("radosgw", "ceph-mon", "ceph-osd", "monmaptool", "ceph-authtool", "radosgw-admin") if shutil.which(tool) is None]
        if missing:
            raise Missing(f"{missing[0]} is not installed (Debian: apt install radosgw ceph-mon ceph-osd)")
        if os.geteuid() != 0:
            raise Missing("Ceph's daemons are started by root")
        self.at = pathlib.Path(directory)
        self.port, self.monitor_port = free_port(), free_port()
        for name in ("run", "log", "mon", "osd", "rgw"):
            (self.at / name).mkdir(parents=True)
        self.conf = self.at / "ceph.conf"
        self.conf.write_text(f"""[global]
fsid = {uuid.uuid4()}
mon host = v2:127.0.0.1:{self.monitor_port}
ms bind msgr1 = false
public addr = 127.0.0.1
keyring = {self.at}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {memory}
mon data = {self.at}/mon
osd data = {self.at}/osd
rgw data = {self.at}/rgw
mon data avail warn = 1
mon data avail crit = 1
run dir = {self.at}/run
admin socket = {self.at}/run/$cluster-$name.asok
pid file = {self.at}/run/$name.pid
log file = {self.at}/log/$name.log
crash dir = {self.at}/run
rgw frontends = beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1
rgw run sync thread = false
rgw thread pool size = 64
""")
        self.keyring = self.at / "keyring"

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self):
        return {"JOBC_S3_ENDPOINT": self.endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def run(self, *command, seconds=60, check=True):
        # `auth none` is not enough for radosgw: everything uses one keyring.
        return subprocess.run(command, env={**os.environ, "CEPH_CONF": str(self.conf)}, timeout=seconds, check=check, capture_output=True, text=True)

    def wait(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds} s in vain for {what}; look at {self.at}/log")
            time.sleep(0.1)

    def answers(self):
        try:
            with urllib.request.urlopen(self.endpoint, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def start(self):
        self.run("ceph-authtool", "--create-keyring", str(self.keyring))
        for name, caps in (("mon.", ["mon", "allow *"]), ("client.admin", ["mon", "allow *", "osd", "allow *"]), ("client.rgw", ["mon", "allow *", "osd", "allow *"]),
                           ("osd.0", ["mon", "allow profile osd", "osd", "allow *"])):
            words = []
            for i in range(0, len(caps), 2):
                words += ["--cap", caps[i], caps[i + 1]]
            self.run("ceph-authtool", str(self.keyring), "--gen-key", "-n", name, *words)
        fsid = self.conf.read_text().split("fsid = ")[1].split()[0]
        self.run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{self.monitor_port}]", str(self.at / "monmap"))
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(self.at / "monmap"), "--keyring", str(self.keyring))
        self.run("ceph-mon", "-i", "a")
        self.wait("the monitor", lambda: self.run("ceph", "--connect-timeout", "3", "-s", check=False).returncode == 0)
        osd = str(uuid.uuid4())
        self.run("ceph", "osd", "create", osd, "0")
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.run("ceph-osd", "-i", "0")
        self.run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h1", check=False)
        self.wait("the OSD", lambda: "1 up" in self.run("ceph", "osd", "stat", check=False).stdout)
        self.run("radosgw", "-n", "client.rgw")
        self.wait("the gateway", self.answers)
        self.run("radosgw-admin", "user", "create", "--uid=jobc", "--display-name=jobc", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")

    def curl(self, method, path, *more, sha256="UNSIGNED-PAYLOAD"):
        return subprocess.run(["curl", "-sS", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{ACCESS_KEY}:{SECRET_KEY}", "-X", method,
                               "-H", f"x-amz-content-sha256: {sha256}", *more, self.endpoint + path], check=True, capture_output=True).stdout

    def stop(self):
        pids = []
        for name in ("client.rgw", "osd.0", "mon.a"):
            try:
                pids.append(int((self.at / "run" / f"{name}.pid").read_text()))
            except (OSError, ValueError):
                continue
        for number in (15, 9):
            for pid in pids:
                if alive(pid):
                    os.kill(pid, number)
            end = time.monotonic() + 10
            while any(alive(pid) for pid in pids) and time.monotonic() < end:
                time.sleep(0.05)
        shutil.rmtree(self.at, ignore_errors=True)

    def __exit__(self, *_):
        self.stop()
