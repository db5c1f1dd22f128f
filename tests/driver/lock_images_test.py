"""`jobc lock` with images: their digests, as a registry of the tests' own says them, well or badly; and `check`, `plan` and `lock` itself
with what is locked, without any network."""
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "services"))
import registry  # noqa: E402

JOBC = os.path.abspath(sys.argv.pop(1))
NO_NETWORK = ["unshare", "-rn"]
CAN_UNSHARE = subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0


class Content:
    """An image as far as its digest goes."""

    def __init__(self, text):
        self.text = text

    def manifest(self):
        return json.dumps({"schemaVersion": 2, "mediaType": registry.MANIFEST, "layers": [{"digest": "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()}]}).encode(), {}


class Images(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="jobc-lock-"))
        self.addCleanup(shutil.rmtree, self.base)
        self.home = self.base / "home"
        self.at = self.base / "work"
        for directory in (self.home, self.at):
            directory.mkdir()

    def registry(self, auth=None):
        return self.enterContext(registry.Registry(auth))

    def log_in(self, store, **how):
        (self.home / ".docker").mkdir(exist_ok=True)
        (self.home / ".docker" / "config.json").write_text(store.docker_config(**how))

    def write(self, text, name="a.job"):
        (self.at / name).write_text("edition = 1\n" + text)

    def jobc(self, *words, code=0, prefix=(), **env):
        done = subprocess.run([*prefix, JOBC, *words], cwd=self.at, env={"PATH": os.environ["PATH"], "HOME": str(self.home), **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertNotIn("internal", done.stderr)
        return done

    def lock(self):
        return json.loads((self.at / "job.lock").read_text())

    def one(self, image, profile="docker"):
        self.write(f'profile box default {{ backend = {profile} {{}}, image = "{image}" }}\njob a {{ run = ["true"] }}\n')

    def plan(self, *words):
        self.jobc("plan", "a.job", "-o", "../plan.json", *words)
        return json.loads((self.base / "plan.json").read_text())

    def fails(self, *parts, image):
        said = self.jobc("lock", code=3).stderr
        for part in (f"`{image}`", "`a`", *parts):
            self.assertIn(part, said)
        self.assertFalse((self.at / "job.lock").exists())
        return said

    def test_a_tag_becomes_the_digest_it_means_now(self):
        store = self.registry()
        digest = store.push("team/tool", "1", Content("one"))
        image = f"{store.host}/team/tool:1"
        self.one(image)
        self.assertIn("W902", self.jobc("check", "a.job").stderr)
        self.assertIn(image, json.dumps(self.plan()))
        self.assertEqual(self.jobc("lock", "--check", code=4).stderr, f"job.lock: missing {image}\njob.lock: not up to date; type:  jobc lock\n")
        self.assertEqual(self.jobc("lock").stderr, f"job.lock: added {image}\n")
        self.assertEqual(self.lock(), {"schema": "jobc.lock/1", "imports": {}, "images": {image: digest}})
        self.assertNotIn("W902", self.jobc("check", "a.job").stderr)
        self.assertIn(f"{store.host}/team/tool@{digest}", json.dumps(self.plan()))
        # Another content under the same tag is another image, and changes nothing as long as nobody says so.
        other = store.push("team/tool", "1", Content("two"))
        asked = len(store.asked)
        self.assertEqual(self.jobc("lock").stderr, "job.lock: up to date\n")
        self.jobc("lock", "--check")
        self.assertEqual(len(store.asked), asked, "what is locked is not asked for")
        self.assertEqual(self.jobc("lock", "--update", image).stderr, f"job.lock: updated {image}\n")
        self.assertEqual(self.lock()["images"][image], other)
        self.assertEqual(self.jobc("lock", "--update", "all").stderr, f"job.lock: unchanged {image}\n")
        self.assertIn("did you mean", self.jobc("lock", "--update", image[:-1] + "2", code=3).stderr)

    @unittest.skipUnless(CAN_UNSHARE, "no namespaces here")
    def test_what_is_locked_needs_no_network(self):
        store = self.registry()
        digest = store.push("team/tool", "1", Content("one"))
        self.one(f"{store.host}/team/tool:1")
        self.jobc("lock")
        for words in (["check", "a.job"], ["plan", "a.job"], ["lock"], ["lock", "--check"]):
            self.jobc(*words, prefix=NO_NETWORK)
        self.assertIn(digest, json.dumps(self.plan()))
        self.one(f"{store.host}/team/other:1")
        self.assertIn("cannot be reached", self.jobc("lock", prefix=NO_NETWORK, code=3).stderr)
        self.assertIn(digest, (self.at / "job.lock").read_text(), "a lock that could not be brought up to date stays as it was")

    def test_all_profiles_parameters_and_constants(self):
        store = self.registry()
        digests = {name: store.push(name, "1", Content(name)) for name in ("one", "two", "three", "four")}
        self.write(f"""params {{ tool: String = "three" }}
let base = "{store.host}"
defaults {{ image = "~{{base}}/one:1" }}
job a {{ run = ["true"] }}
job b {{ image = "~{{base}}/~{{params.tool}}:1" run = ["true"] }}
job c {{ image = "~{{base}}/four@{digests["four"]}" run = ["true"] }}
profile box default {{ backend = docker {{}} }}
profile pod {{ backend = podman {{}}, image = "~{{base}}/two:1" }}
profile here {{ backend = process {{}}, image = null, job b {{ image = null }} job c {{ image = null }} }}
""")
        self.jobc("lock")
        self.assertEqual(self.lock()["images"], {f"{store.host}/{name}:1": digests[name] for name in ("one", "two", "three")})
        for profile, name in (("box", "one"), ("pod", "two")):
            self.assertIn(f"{store.host}/{name}@{digests[name]}", json.dumps(self.plan("--profile", profile)))
        self.assertIn(f"{store.host}/three@{digests['three']}", json.dumps(self.plan("--profile", "box")))
        # Another value of the parameter is another image, which nobody has locked.
        changed = json.dumps(self.plan("--profile", "box", "-p", "tool=nothing"))
        self.assertIn('"nothing"', changed)
        self.assertNotIn("three@", changed)

    def test_what_is_used_no_more_is_removed(self):
        store = self.registry()
        store.push("one", "1", Content("one"))
        digest = store.push("two", "1", Content("two"))
        self.one(f"{store.host}/one:1")
        self.jobc("lock")
        self.one(f"{store.host}/two:1")
        self.jobc("lock", "a.job")
        self.assertEqual(len(self.lock()["images"]), 2, "a file that is named is not all there is")
        self.assertIn("unused", self.jobc("lock", "--check", code=4).stderr)
        changes = json.loads(self.jobc("lock", "--json").stdout)["changes"]
        self.assertEqual(changes, [{"lock": "job.lock", "image": f"{store.host}/one:1", "change": "removed"}])
        self.assertEqual(self.lock()["images"], {f"{store.host}/two:1": digest})

    def test_credentials(self):
        for auth in ("basic", "token"):
            with self.subTest(auth):
                store = self.registry(auth)
                digest = store.push("team/tool", "1", Content("one"))
                image = f"{store.host}/team/tool:1"
                self.one(image)
                self.fails(f"{store.host} does not let this user have it (401", f"docker login {store.host}", image=image)
                self.log_in(store, password="wrong")
                self.fails("401", image=image)
                self.one(image, "podman")
                self.fails(f"podman login {store.host}", image=image)
                self.log_in(store)
                said = self.jobc("lock")
                self.assertEqual(self.lock()["images"], {image: digest})
                self.assertNotIn(registry.PASSWORD, said.stdout + said.stderr + (self.at / "job.lock").read_text())
                (self.at / "job.lock").unlink()
                shutil.rmtree(self.home / ".docker")

    def test_a_helper_that_has_the_credentials(self):
        store = self.registry("token")
        digest = store.push("team/tool", "1", Content("one"))
        helper = self.base / "docker-credential-ours"
        helper.write_text("#!/bin/sh\nread server; [ \"$1 $server\" = \"get " + store.host + "\" ] || exit 1\n" + f"echo '{json.dumps({'ServerURL': store.host, 'Username': registry.USER, 'Secret': registry.PASSWORD})}'\n")
        helper.chmod(0o755)
        (self.home / ".docker").mkdir()
        (self.home / ".docker" / "config.json").write_text(json.dumps({"credHelpers": {store.host: "ours"}}))
        image = f"{store.host}/team/tool:1"
        self.one(image)
        self.jobc("lock", PATH=f"{self.base}:{os.environ['PATH']}")
        self.assertEqual(self.lock()["images"], {image: digest})

    def test_what_a_registry_may_answer(self):
        store = self.registry()
        image = f"{store.host}/team/tool:1"
        self.one(image)
        self.fails(f"{store.host} does not have it (404: manifest unknown)", image=image)
        digest = store.push("team/tool", "1", Content("one"))
        for status, said, tries in ((403, ["does not let this user have it (403", "docker login"], 1), (500, ["out of order (500"], 3), (418, ["refused to answer (418"], 1)):
            with self.subTest(status):
                store.asked.clear()
                store.faults.clear()
                store.fail("manifests", status, message="told so")
                self.fails(*said, "told so", image=image)
                # Each time once more, for the words that HEAD has not.
                self.assertEqual(sum(line.startswith("HEAD") for line in store.asked), tries)
        store.faults.clear()
        store.fail("manifests", 429, message="too much", Retry_After="3600")
        self.fails("does not answer this often (429: too much)", "after 3600 s", "docker login", image=image)
        store.faults.clear()
        store.fail("manifests", 429, times=2, Retry_After="0")
        self.jobc("lock")
        self.assertEqual(self.lock()["images"], {image: digest})

    def test_a_registry_that_says_no_digest(self):
        store = self.registry()
        store.no_digest = True
        digest = store.push("team/tool", "1", Content("one"))
        self.one(f"{store.host}/team/tool:1")
        self.jobc("lock")
        self.assertEqual(list(self.lock()["images"].values()), [digest])

    def test_an_image_for_several_machines_is_locked_for_all(self):
        store = self.registry()
        digest = store.push_index("team/tool", "1", {"amd64": Content("a"), "arm64": Content("b")})
        self.one(f"{store.host}/team/tool:1")
        self.jobc("lock")
        self.assertEqual(list(self.lock()["images"].values()), [digest])

    def test_no_registry_there(self):
        class Other(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.end_headers()

            def do_GET(self):
                self.do_HEAD()

            def log_message(self, *_):
                pass
        with socketserver.TCPServer(("127.0.0.1", 0), Other) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            self.addCleanup(server.shutdown)
            image = f"127.0.0.1:{server.server_address[1]}/team/tool:1"
            self.one(image)
            self.fails("so it is no registry", image=image)
            server.shutdown()
        self.one("127.0.0.1:9/team/tool:1")
        self.fails("127.0.0.1:9 cannot be reached", image="127.0.0.1:9/team/tool:1")
        self.one("localhost/only/here:1")
        self.fails("it is at no registry", image="localhost/only/here:1")
        self.one("127.0.0.1:9/Team/Tool:1")
        self.fails("lower-case", image="127.0.0.1:9/Team/Tool:1")

    def test_a_token_service_that_does_not_work(self):
        store = self.registry("token")
        self.log_in(store)
        store.push("team/tool", "1", Content("one"))
        image = f"{store.host}/team/tool:1"
        self.one(image)
        store.fail("token", 500, message="not today")
        self.fails("401", "not today", image=image)

    def test_what_is_computed_or_in_error_is_said(self):
        store = self.registry()
        store.push("one", "1", Content("one"))
        store.push("two", "1", Content("two"))
        self.write(f"""profile box default {{ backend = docker {{}} }}
job a {{ for name in ["one", "two"] key name image = "{store.host}/~{{name}}:1" run = ["true"] }}
""")
        self.assertIn("the image of `a` is not locked: it is not the same for all instances", self.jobc("lock").stderr)
        self.write(f"""params {{ tool: String }}
profile box default {{ backend = docker {{}} }}
job a {{ image = "{store.host}/~{{params.tool}}:1" run = ["true"] }}
job b {{ image = "{store.host}/two:1" run = ["true"] }}
""")
        said = self.jobc("lock").stderr
        self.assertIn("the image of `a` is not locked: it depends on parameters", said)
        self.assertEqual(list(self.lock()["images"]), [f"{store.host}/two:1"])
        self.write('job a { run = ["true"] whatever = 1 }\n')
        self.assertIn("has errors, so its images are left as they are", self.jobc("lock").stderr)
        self.assertEqual(list(self.lock()["images"]), [f"{store.host}/two:1"])

    def test_a_lock_that_cannot_be_read(self):
        self.one("debian:12")
        (self.at / "job.lock").write_text('{"schema": "jobc.lock/1", "imports": {}, "images": {"debian:12": "sha256:12"}}')
        said = self.jobc("plan", "a.job", code=3).stderr
        self.assertIn("error[E801]: the lock cannot be used: `job.lock` is no lock file: the entry of the image \"debian:12\" is no digest", said)
        self.assertIn("is no digest", self.jobc("lock", code=3).stderr)

    def test_a_cached_result_may_have_a_locked_image(self):
        store = self.registry()
        store.push("one", "1", Content("one"))
        self.write(f'profile box default {{ backend = docker {{}} }}\njob a {{ cache = true image = "{store.host}/one:1" run = ["true"] }}\n')
        self.assertIn("jobc lock", self.jobc("check", "a.job", code=3).stderr)
        (self.at / "job.lock").write_text(json.dumps({"schema": "jobc.lock/1", "imports": {}, "images": {f"{store.host}/one:1": "sha256:" + "a" * 64}}))
        self.jobc("plan", "a.job")


if __name__ == "__main__":
    unittest.main()
