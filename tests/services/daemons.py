"""Container engines of the tests' own: dockerd and podman's service with private directories and sockets, which touch
nothing of an engine that this machine may have. Everything of one engine lies below one directory, and by that it is found
again and ended, however it died: processes, mounts, control groups, files.

As a library:       with daemons.Docker() as docker: … docker.host …
From the command line, for ctest and for work by hand:
    python3 daemons.py start [--for-parent] FILE    starts what can be had, writes `name=value` lines to FILE
    python3 daemons.py stop FILE                    ends it all
FILE has docker=unix:///… and podman=unix:///…, or docker-missing=REASON; image-busybox=NAME and so on for the images in
both engines. With --for-parent all of it also ends when the process that started this one does, be it by SIGKILL.
"""
import contextlib
import http.client
import json
import os
import pathlib
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import images  # noqa: E402
from world import alive, wait_until  # noqa: E402

ENGINE_PROGRAMS = {"dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "runc", "podman", "conmon", "docker-proxy", "rootlesskit", "exe", "fuse-overlayfs", "catatonit"}
CGROUPS = "/sys/fs/cgroup"


class Missing(Exception):
    """It cannot be had on this machine; the text says why, for the line that tells about skipped tests."""


def free_port():
    """Of loopback; nothing else takes it in the moment until it is used."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def elsewhere(base):
    """Words before a command that let it see an empty /tmp, with nothing but `base`; the mounts are its own and go with it."""
    script = 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/base && mount --bind "$0" /mnt/base && mount -t tmpfs tmpfs /tmp && mkdir "$0" && mount --bind /mnt/base "$0" && cd "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, base]


# ---- what an engine leaves ----


def _processes():
    """pid -> (parent, program, words) of all that live."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                _, name, rest = file.read().decode(errors="replace").replace("(", "\0", 1)[::-1].replace(")", "\0", 1)[::-1].split("\0")
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except (OSError, ValueError):
            continue
        state, parent = rest.split()[:2]
        if state not in ("Z", "X"):
            found[int(entry)] = (int(parent), os.path.basename(words[0].decode(errors="replace")) or name, words)
    return found


def _is_told_of(pid, base):
    """Whether its environment names `base`: what a rootless engine leaves running has no words of its own."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"XDG_RUNTIME_DIR={base}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def processes_of(base):
    """The engine at `base`, its helpers, and the processes in its containers."""
    every = _processes()
    mine = {pid for pid, (_, program, words) in every.items() if program in ENGINE_PROGRAMS and (any(base.encode() in word for word in words) or _is_told_of(pid, base))}
    grown = True
    while grown:
        more = {pid for pid, (parent, _, _) in every.items() if parent in mine} - mine
        mine |= more
        grown = bool(more)
    return mine - {os.getpid()}


def mounts_below(base):
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.split()[4].replace("\\040", " ")
            if path.startswith(base + "/"):
                found.append(path)
    return sorted(found, reverse=True)


def groups_of(token):
    """Control groups, innermost first: those below one whose name has the engine's token."""
    found = []
    for place in (os.path.join(CGROUPS, name) for name in (os.listdir(CGROUPS) if os.path.isdir(CGROUPS) else [])):
        for top, names, _ in os.walk(place):
            found += [os.path.join(top, name) for name in names if token in os.path.relpath(os.path.join(top, name), place)]
    return sorted(found, key=lambda path: -path.count("/"))


def leftovers(base):
    """What a stopped engine must not leave, as words for a person; empty if nothing."""
    token = os.path.basename(base)
    out = [f"process {pid}" for pid in sorted(processes_of(base))] + [f"mount {path}" for path in mounts_below(base)] + [f"control group {path}" for path in groups_of(token)]
    return out + ([f"directory {base}"] if os.path.lexists(base) else [])


def sweep(base):
    """Ends and removes everything of the engine at `base`."""
    if not base.startswith("/tmp/jobc-svc-"):
        raise AssertionError(f"{base} is not a directory of this program")
    token = os.path.basename(base)
    containers = []
    for store in ("root/overlay-containers", "root/vfs-containers"):
        try:
            containers += [name for name in os.listdir(os.path.join(base, store)) if len(name) == 64]
        except OSError:
            pass
    end = time.monotonic() + 20
    while (pids := processes_of(base)) and time.monotonic() < end:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    while mounts := mounts_below(base):
        for path in mounts:
            subprocess.run(["umount", "-l", path], capture_output=True)
        if time.monotonic() > end:
            break
    for name in [token, *containers]:
        for path in groups_of(name):
            # A process that was just killed leaves its group a moment later.
            while time.monotonic() < end:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    pass
                except OSError:
                    time.sleep(0.02)
                    continue
                break
    shutil.rmtree(base, ignore_errors=True)


def when_gone(pid, base):
    """A small process that sweeps `base` when process `pid` has ended, however it did. Returns its pid."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        sweep(base)
        return 0
    child = os.fork()
    if child != 0:
        os.close(watched)
        os.waitpid(child, 0)
        return child
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for fd in range(3, 1024):
            if fd != watched:
                try:
                    os.close(fd)
                except OSError:
                    pass
        os.chdir("/")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        # Looks now and then whether somebody else has done the work.
        while not poll.poll(1000):
            if not os.path.lexists(base):
                os._exit(0)
        sweep(base)
    finally:
        os._exit(0)


# ---- the API, as far as the tests themselves need it ----


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status, body):
        self.status, self.body = status, body

    @property
    def json(self):
        return json.loads(self.body)


class Engine:
    """Common to both. `base` holds everything; `host` is what DOCKER_HOST would be."""

    name = ""
    packages = ""

    def __init__(self, base=None):
        self.base = base or tempfile.mkdtemp(prefix="jobc-svc-" + self.name + "-", dir="/tmp")
        self.token = os.path.basename(self.base)
        self.socket = os.path.join(self.base, "s")
        self.host = "unix://" + self.socket
        self.process = None
        self.watcher = when_gone(os.getpid(), self.base) if base is None else 0

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def api(self, method, path, body=None, timeout=60, headers=None):
        connection = _Connection(self.socket, timeout)
        try:
            headers = dict(headers or {})
            if isinstance(body, dict):
                body, headers["Content-Type"] = json.dumps(body), "application/json"
            connection.request(method, "/v1.41" + path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            connection.close()

    def get(self, path):
        """Of podman's own API, whose paths have its own version."""
        connection = _Connection(self.socket, 60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            connection.close()

    def answers(self):
        try:
            return self.api("GET", "/_ping", timeout=5).status == 200
        except OSError:
            return False

    def describe(self):
        """`podman 4.3.1, rootless`, for a person who wants to know what was tested."""
        version = self.api("GET", "/version").json
        return f"{self.name} {version['Version']} (API {version['ApiVersion']}), {'rootless' if isinstance(self, Rootless) else 'rootful'}"

    def log(self):
        try:
            return pathlib.Path(self.base, "log").read_text(errors="replace")
        except OSError:
            return ""

    def _spawn(self, command, env=None):
        with open(os.path.join(self.base, "log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True, cwd=self.base)

    def _answered(self, seconds=60):
        def ready():
            if self.process.poll() is not None:
                raise Missing(f"{self.name} ended with {self.process.returncode}: " + " | ".join(self.log().strip().splitlines()[-3:])[-600:])
            return self.answers()
        wait_until(ready, seconds, f"{self.name} to answer")

    def kill(self):
        """As a crash or the OOM killer would end it: the daemon alone, containers live on."""
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.start()

    def remove(self):
        """Containers, daemon and files; returns when nothing is left."""
        for pid in self.container_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        every = _processes()
        for pid in [pid for pid in processes_of(self.base) if every.get(pid, (0, ""))[1] == "dockerd"]:
            os.kill(pid, signal.SIGTERM)  # it knows best what it has mounted
            end = time.monotonic() + 20
            while (self.process.poll() is None if self.process else alive(pid)) and time.monotonic() < end:
                time.sleep(0.02)
        sweep(self.base)
        if self.process is not None:
            self.process.wait()

    def load(self, image):
        """Puts an image of images.py into the engine, and returns its name."""
        answer = self.api("POST", "/images/load?quiet=1", image.archive(), headers={"Content-Type": "application/x-tar"})
        if answer.status != 200 or self.api("GET", f"/images/{urllib.parse.quote(image.name, safe='')}/json").status != 200:
            raise AssertionError(f"{self.name} did not take {image.name}: {answer.status} {answer.body[:500]}")
        return image.name

    def containers(self, label="jobc.run"):
        """All with this label, in whatever state, as /containers/json gives them."""
        filters = urllib.parse.quote(json.dumps({"label": [label]}))
        return self.api("GET", f"/containers/json?all=1&filters={filters}").json

    def container_pids(self):
        """Processes in containers that live."""
        every = _processes()
        return [pid for pid in processes_of(self.base) if pid in every and every[pid][1] not in ENGINE_PROGRAMS]

    def _require(self, *programs):
        if os.geteuid() != 0:
            raise Missing(f"an engine of the tests' own needs root ({self.name})")
        for program in programs:
            if not shutil.which(program):
                raise Missing(f"{program} is not installed: apt-get install --no-install-recommends {self.packages}")


class Docker(Engine):
    name = "docker"
    packages = "docker.io iptables busybox-static"
    programs = ("dockerd", "containerd", "runc")
    variables = {}

    def __init__(self, base=None, live_restore=False, disk=None, tls=None, far=False):
        """disk: bytes of a disk of its own for images and containers, in memory. tls: a directory with ca.pem, server.pem and
        server-key.pem, for `tcp` (the tests themselves use the socket). far: it sees an empty /tmp in place of this one, where the
        runs of tests lie, as the engine of another machine would."""
        super().__init__(base)
        self.live_restore, self.disk, self.tls, self.far = live_restore, disk, tls, far
        self.tcp = f"tcp://127.0.0.1:{free_port()}" if tls else ""
        self.drivers = ("overlay2", "vfs")

    def _before(self):
        """What the command of the daemon begins with, and words for its end."""
        return [], ["--cgroup-parent", "/" + self.token, "--group", "root"]

    def start(self):
        self._require(*self.programs)
        data, run = os.path.join(self.base, "data"), os.path.join(self.base, "exec")
        os.makedirs(data, exist_ok=True)
        if self.disk and not os.path.ismount(data):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.disk}", "tmpfs", data], check=True)
        # The containerd of a dockerd that was killed dies with it, a moment later, and is a zombie for a while, which looks alive
        # to the next dockerd: it would wait for it in vain.
        containerd = pathlib.Path(run, "containerd", "containerd.pid")
        with contextlib.suppress(OSError, ValueError):
            pid = int(containerd.read_text())
            wait_until(lambda: not alive(pid), 20, "the old containerd to end")
        for path in (containerd, pathlib.Path(self.base, "pid"), pathlib.Path(self.socket)):
            path.unlink(missing_ok=True)
        pathlib.Path(self.base, "daemon.json").write_text("{}")
        # Without networks of its own it changes nothing in this machine's: no bridge, no rules, no forwarding.
        before, more = self._before()
        command = [*before, "dockerd", "--config-file", os.path.join(self.base, "daemon.json"), "--data-root", data, "--exec-root", run,
                   "--pidfile", os.path.join(self.base, "pid"), "-H", self.host, *more,
                   "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
                   "--shutdown-timeout", "5", "--max-download-attempts", "1"] + (["--live-restore"] if self.live_restore else [])
        if self.tls:
            command += ["-H", self.tcp, "--tlsverify", "--tlscacert", f"{self.tls}/ca.pem", "--tlscert", f"{self.tls}/server.pem", "--tlskey", f"{self.tls}/server-key.pem"]
        for driver in self.drivers:
            self._spawn([*(elsewhere(self.base) if self.far else []), *command, "--storage-driver", driver], self.variables)
            try:
                self._answered()
                self.drivers = (driver,)  # another one would not see what this one keeps
                return
            except Missing:
                if driver == self.drivers[-1] or "overlay" not in self.log():
                    raise


class Podman(Engine):
    name = "podman"
    packages = "podman runc busybox-static"

    def command(self, *words):
        return ["podman", "--root", os.path.join(self.base, "root"), "--runroot", os.path.join(self.base, "run"), "--tmpdir", os.path.join(self.base, "tmp"),
                "--cgroup-manager", "cgroupfs", "--events-backend", "file", *words]

    def environment(self):
        # Its lower limits need no privilege that containers of CI often lack; crun refuses control groups of both versions at
        # once, runc does not; locks in a file leave nothing in /dev/shm.
        conf = pathlib.Path(self.base, "containers.conf")
        conf.write_text('[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[engine]\nruntime = "runc"\nlock_type = "file"\n')
        registries = pathlib.Path(self.base, "registries.conf")
        registries.write_text('unqualified-search-registries = []\n' + "".join(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n' for port in self.registries))
        storage = pathlib.Path(self.base, "storage.conf")
        storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.base}/root"\nrunroot = "{self.base}/run"\n')
        policy = pathlib.Path(self.base, "policy.json")
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        # Whoever asks it what it can do lets it ask dpkg three times which packages its programs are of, half a second of a processor
        # that nobody here wants: it finds no packages.
        packages = pathlib.Path(self.base, "packages")
        packages.mkdir(exist_ok=True)
        return {"DPKG_ADMINDIR": str(packages), "CONTAINERS_CONF": str(conf), "CONTAINERS_REGISTRIES_CONF": str(registries), "CONTAINERS_STORAGE_CONF": str(storage), "HOME": self.base, "XDG_RUNTIME_DIR": self.base}

    def __init__(self, base=None, registries=(), far=False):
        """registries: ports on loopback that speak HTTP without TLS (docker takes all of loopback for such). far: as of Docker."""
        super().__init__(base)
        self.registries, self.far = registries, far

    def start(self):
        self._require("podman", "conmon", "runc")
        try:
            os.unlink(self.socket)
        except OSError:
            pass
        self._spawn([*(elsewhere(self.base) if self.far else []), *self.command("system", "service", "-t", "0", self.host)], self.environment())
        self._answered()

    def remove(self):
        if os.path.isdir(os.path.join(self.base, "root")) and shutil.which("podman"):
            subprocess.run(["timeout", "-k", "1", "30", *self.command("rm", "-af", "-t", "0")], env={**os.environ, **self.environment()}, capture_output=True)
        super().remove()


class Rootless:
    """Before an engine's class: it is the engine of an ordinary user, who gets subordinate ids in a mount namespace of the engine's own,
    so that /etc/subuid of this machine stays as it is."""

    user = 65534
    first, count = 200_000, 65_536

    def _require(self, *programs):
        super()._require(*programs, "newuidmap", "newgidmap", "unshare", "setpriv")

    def _ids(self):
        """Words before a command that has the subordinate ids of this engine."""
        for name in ("subuid", "subgid"):
            pathlib.Path(self.base, name).write_text(f"{pwd.getpwuid(self.user).pw_name}:{self.first}:{self.count}\n")
        binds = "".join(f"touch /etc/{name}; mount --bind {self.base}/{name} /etc/{name}; " for name in ("subuid", "subgid"))
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", binds + 'exec "$@"', "sh"]

    def _own(self):
        """Its directory is the user's. Returns what to put before a command of that user."""
        before = self._ids()
        for place, directories, files in os.walk(self.base):
            for path in (place, *(os.path.join(place, name) for name in directories + files)):
                if os.lstat(path).st_uid == 0:
                    os.lchown(path, self.user, self.user)
        os.chmod(self.base, 0o711)
        return [*before, "setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"]


class RootlessDocker(Rootless, Docker):
    packages = "docker.io rootlesskit uidmap busybox-static"
    programs = ("dockerd", "containerd", "runc", "rootlesskit")

    def _before(self):
        # What Debian's dockerd-rootless.sh does, without a network of its own, for which /dev/net/tun would have to be open to users.
        self.variables = {"HOME": self.base, "XDG_RUNTIME_DIR": self.base}
        kit = ["rootlesskit", "--state-dir", os.path.join(self.base, "kit"), "--net=host", "--copy-up=/etc", "--copy-up=/run", "--propagation=rslave",
               "sh", "-ec", 'rm -f /run/docker /run/containerd /run/xtables.lock; exec "$@"', "sh"]
        return [*self._own(), *kit], ["--rootless"]


class RemappedDocker(Rootless, Docker):
    """Of root, but root in its containers is nobody outside (userns-remap)."""

    packages = "docker.io uidmap busybox-static"
    user = 1  # whose group has the same name, as dockerd wants it

    def _before(self):
        for place in (self.base, os.path.join(self.base, "data")):
            os.chmod(place, 0o711)  # for the users of containers, who are others
        return self._ids(), [*Docker._before(self)[1], "--userns-remap=" + pwd.getpwuid(self.user).pw_name]

    def describe(self):
        return Docker.describe(self).replace("rootless", "rootful with userns-remap")


class RootlessPodman(Rootless, Podman):
    packages = "podman runc uidmap busybox-static"

    def start(self):
        self._require("podman", "conmon", "runc")
        with contextlib.suppress(OSError):
            os.unlink(self.socket)
        environment = self.environment()
        self._spawn([*self._own(), *self.command("system", "service", "-t", "0", self.host)], environment)
        self._answered()

    def remove(self):
        Engine.remove(self)  # `podman rm` would be that of root


KINDS = {"docker": Docker, "podman": Podman, "docker-rootless": RootlessDocker, "docker-remapped": RemappedDocker, "podman-rootless": RootlessPodman}
SHARED = ("docker", "podman")  # started once for all tests; the others by those who need them


def from_file():
    """What `start` wrote, as a map; empty if the tests were started by hand."""
    path = os.environ.get("JOBC_SERVICES")
    if not path or not os.path.exists(path):
        return {}
    return dict(line.split("=", 1) for line in pathlib.Path(path).read_text().splitlines())


class _Shared:
    """An engine that somebody else started and will end."""

    def __init__(self, engine):
        self.engine = engine

    def __enter__(self):
        return self.engine

    def __exit__(self, *_):
        pass


def shared(kind):
    """A context manager: the engine of `start`, with all images, or one of one's own. Raises Missing."""
    known = from_file()
    if kind + "-missing" in known:
        raise Missing(known[kind + "-missing"])
    if kind in known:
        return _Shared(KINDS[kind](os.path.dirname(known[kind].removeprefix("unix://"))))

    class Own:
        def __enter__(self):
            self.engine = KINDS[kind]()
            self.engine.__enter__()
            for make in images.ALL.values():
                self.engine.load(make())
            return self.engine

        def __exit__(self, *_):
            self.engine.remove()
    return Own()


def start(path, for_parent):
    stop(path)
    made = {}
    try:
        made = {name: make() for name, make in images.ALL.items()}
        problem = ""
    except images.Missing as missing:
        problem = str(missing)
    lines = [f"image-{name}={image.name}" for name, image in made.items()]
    started = []
    try:
        for name in SHARED:
            kind = KINDS[name]
            if problem:
                lines.append(f"{name}-missing={problem}")
                continue
            base = tempfile.mkdtemp(prefix=f"jobc-svc-{name}-", dir="/tmp")
            if for_parent:
                when_gone(os.getppid(), base)
            engine = kind(base)
            started.append(engine)
            try:
                engine.start()
                for image in made.values():
                    engine.load(image)
                lines.append(f"{name}={engine.host}")
            except Missing as missing:
                engine.remove()
                lines.append(f"{name}-missing={missing}")
                print(f"skipped: no tests with {name}: {missing}", flush=True)
        file = pathlib.Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(line.replace("\n", " ") + "\n" for line in lines))
    except BaseException:
        for engine in started:
            engine.remove()
        raise


def stop(path):
    """Also of a `start` that was killed half-way. Returns what could not be removed."""
    left = []
    if os.path.exists(path):
        for line in pathlib.Path(path).read_text().splitlines():
            name, value = line.split("=", 1)
            if name in KINDS:
                base = os.path.dirname(value.removeprefix("unix://"))
                if os.path.isdir(base):
                    engine = KINDS[name](base)
                    engine.remove()
                left += leftovers(base)
        os.unlink(path)
    return left


def main():
    words = sys.argv[1:]
    if len(words) >= 2 and words[0] == "start" and set(words[1:-1]) <= {"--for-parent"}:
        start(words[-1], "--for-parent" in words)
        print(pathlib.Path(words[-1]).read_text(), end="")
    elif len(words) == 2 and words[0] == "stop":
        left = stop(words[1])
        if left:
            sys.exit("left behind:\n" + "\n".join(left))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
