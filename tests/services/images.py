"""Images made from this machine's own files, without a registry: busybox in several disguises, and a small Debian with
bash, coreutils and Python. An image is a list of layers and a configuration; the same bytes wherever it is made twice, so
that its digests can be relied on. `archive()` is what `docker load` and podman's service take, `Image.blobs` what a registry
serves.

    python3 images.py busybox > busybox.tar
"""
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import stat
import subprocess
import sys
import tarfile

BUSYBOX = "/bin/busybox"
# Both engines know an image by this name as it stands: podman would put `localhost/` before a shorter one.
PREFIX = "localhost/jobc-test/"
ARCHITECTURE = "amd64" if os.uname().machine == "x86_64" else "arm64"
USER = 1234  # of the image whose USER is not root


class Missing(Exception):
    """The files for an image are not on this machine; the text says what to install."""


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    def __init__(self, name, layer, config, architecture=None):
        self.name = PREFIX + name + ":1"
        self.layer = layer
        self.config = json.dumps({
            "architecture": architecture or ARCHITECTURE, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": config, "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]}, "history": [{"created": "2024-01-01T00:00:00Z"}],
        }, sort_keys=True).encode()
        self.id = sha256(self.config)

    def archive(self):
        """As `docker save` writes it."""
        out = io.BytesIO()
        layer = sha256(self.layer).removeprefix("sha256:") + ".tar"
        config = self.id.removeprefix("sha256:") + ".json"
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            _add(tar, layer, self.layer)
            _add(tar, config, self.config)
            _add(tar, "manifest.json", json.dumps([{"Config": config, "RepoTags": [self.name], "Layers": [layer]}]).encode())
        return out.getvalue()

    def manifest(self):
        """(bytes, blobs by digest): what a registry serves of it."""
        packed = gzip.compress(self.layer, compresslevel=1, mtime=0)
        kind = "application/vnd.docker."
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": kind + "distribution.manifest.v2+json",
            "config": {"mediaType": kind + "container.image.v1+json", "size": len(self.config), "digest": self.id},
            "layers": [{"mediaType": kind + "image.rootfs.diff.tar.gzip", "size": len(packed), "digest": sha256(packed)}],
        }, indent=1).encode()
        return manifest, {self.id: self.config, sha256(packed): packed}


def _add(tar, name, data=b"", kind=tarfile.REGTYPE, mode=0o644, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode, info.linkname = len(data), kind, mode, link
    tar.addfile(info, io.BytesIO(data))


def _busybox_layer(extra=()):
    if not os.access(BUSYBOX, os.X_OK):
        raise Missing("busybox-static is not installed")
    if b"/ld-linux" in pathlib.Path(BUSYBOX).read_bytes():
        raise Missing(f"{BUSYBOX} needs shared libraries: install busybox-static")
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755)):
            _add(tar, directory, kind=tarfile.DIRTYPE, mode=mode)
        _add(tar, "bin/busybox", pathlib.Path(BUSYBOX).read_bytes(), mode=0o755)
        for applet in applets:
            if applet != "busybox":  # its list has itself, too
                _add(tar, "bin/" + applet, kind=tarfile.SYMTYPE, mode=0o777, link="busybox")
        _add(tar, "usr/bin/env", kind=tarfile.SYMTYPE, mode=0o777, link="../../bin/busybox")
        _add(tar, "etc/passwd", f"root:x:0:0:root:/root:/bin/sh\nworker:x:{USER}:{USER}:worker:/tmp:/bin/sh\n".encode())
        _add(tar, "etc/group", f"root:x:0:\nworker:x:{USER}:\n".encode())
        for name, data in extra:
            _add(tar, name, data, mode=0o755)
    return out.getvalue()


def _has(program):
    return any(os.access(os.path.join(place, program), os.X_OK) for place in os.environ.get("PATH", "/usr/bin:/bin").split(":"))


def busybox():
    """A shell and the usual tools."""
    return Image("busybox", _busybox_layer(), {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]})


def user():
    """The same, with a USER that is not root."""
    return Image("user", _busybox_layer(), {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"], "User": str(USER), "WorkingDir": "/tmp"})


def entrypoint():
    """The same, with an ENTRYPOINT that says how it was called before it runs its words."""
    script = b'#!/bin/sh\necho "entrypoint: $#" >&2\nexec "$@"\n'
    return Image("entrypoint", _busybox_layer([("bin/entry", script)]), {"Env": ["PATH=/usr/bin:/bin", "FROM_IMAGE=yes"], "Entrypoint": ["/bin/entry"], "Cmd": ["echo", "cmd"]})


def bare():
    """No shell and no tools, only one file: nearly every command is missing here."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, "etc", kind=tarfile.DIRTYPE, mode=0o755)
        _add(tar, "etc/not-a-program", b"text\n")
    return Image("bare", out.getvalue(), {"Env": ["PATH=/bin"], "Cmd": ["/etc/not-a-program"]})


def unlike(text, size=1 << 20):
    """An image with a layer that no other has: bytes that look random and depend on `text`."""
    data = random.Random(text).randbytes(size)
    return Image("unlike-" + hashlib.sha256(text.encode()).hexdigest()[:8], _busybox_layer([("data", data)]), {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]})


# What the examples use; what these packages need comes with them.
DEBIAN = ["bash", "coreutils", "dash", "diffutils", "findutils", "gawk", "mawk", "grep", "gzip", "libc-bin", "python3-minimal", "python3.11", "sed", "tar", "util-linux"]


def _closure(names):
    known = {}
    listing = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}|${Package}|${Pre-Depends}, ${Depends}\n"], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        state, name, needs = line.split("|", 2)
        if state.startswith("ii"):
            known[name] = [word.strip().split(" ")[0].split(":")[0] for group in needs.split(",") for word in group.split("|")[:1] if word.strip()]
    out, todo = [], [name for name in names if name in known]
    while todo:
        name = todo.pop()
        if name in known and name not in out:
            out.append(name)
            todo += known[name]
    return sorted(out)


def debian():
    """Bash, coreutils, awk, sed and Python from the packages of this Debian."""
    if not _has("dpkg-query"):
        raise Missing("this is no Debian system")
    skipped = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/lintian", "/usr/share/bug", "/usr/share/info", "/usr/share/zoneinfo",
               "/usr/lib/python3.11/test", "/usr/lib/python3.11/idlelib", "/usr/lib/python3.11/pydoc_data", "/usr/share/perl", "/usr/share/terminfo", "/var", "/etc/")
    wanted = set()
    packages = _closure(DEBIAN)
    for path in subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True).stdout.splitlines():
        if path.startswith("/") and path != "/." and not path.startswith(skipped) and "/gconv/" not in path and "/ensurepip/" not in path:
            wanted.add(path)
    # Where / was merged into /usr, the package may still say /bin: the place of the file counts.
    places = {}
    for path in wanted:
        parent, name = os.path.split(path)
        real = os.path.join(os.path.realpath(parent), name)
        if os.path.lexists(real):
            places[real] = None
    for link in ("/usr/bin/sh", "/usr/bin/awk", "/usr/bin/python3", "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache"):
        if os.path.lexists(link):
            places[link] = None
    out = io.BytesIO()
    made = set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        def directory(path):
            if path != "/" and path not in made:
                directory(os.path.dirname(path))
                made.add(path)
                _add(tar, path[1:], kind=tarfile.DIRTYPE, mode=0o755)
        for top in ("bin", "sbin", "lib", "lib64"):
            if os.path.islink("/" + top):
                _add(tar, top, kind=tarfile.SYMTYPE, mode=0o777, link=os.readlink("/" + top))
                made.add("/" + top)
        for path in ("/etc", "/usr/lib64"):
            directory(path)
        _add(tar, "tmp", kind=tarfile.DIRTYPE, mode=0o1777)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        for path in sorted(set(places) - made - {"/", "/tmp"}):
            info = os.lstat(path)
            if stat.S_ISDIR(info.st_mode):
                directory(path)
                continue
            directory(os.path.dirname(path))
            if stat.S_ISLNK(info.st_mode):
                link = os.readlink(path)
                # Alternatives lie outside of what is taken: straight to the program.
                if link.startswith("/etc/alternatives/"):
                    link = os.path.realpath(path)
                _add(tar, path[1:], kind=tarfile.SYMTYPE, mode=0o777, link=link)
            elif stat.S_ISREG(info.st_mode):
                _add(tar, path[1:], pathlib.Path(path).read_bytes(), mode=stat.S_IMODE(info.st_mode) & 0o755)
    return Image("debian", out.getvalue(), {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"], "Cmd": ["bash"]})


ALL = {"busybox": busybox, "user": user, "entrypoint": entrypoint, "bare": bare, "debian": debian}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ALL:
        sys.exit(f"usage: images.py {'|'.join(ALL)} > FILE.tar")
    sys.stdout.buffer.write(ALL[sys.argv[1]]().archive())
