"""`jobc lock` against a real https server with its own authority, and `check` without any network."""
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from world import Certificate, truncated  # noqa: E402

JOBC = os.path.abspath(sys.argv.pop(1))
LIBRARY = "edition = 1\nlet limit = 3\nfn twice(i: Int) -> Int = 2 * i\n"
# The namespace without any interface but a loopback that is down: whatever is tried fails at once.
NO_NETWORK = ["unshare", "-rn"]
CAN_UNSHARE = subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.pages.get(self.path)
        if callable(answer):
            return answer(self)
        self.send_response(404 if answer is None else 200)
        body = (answer or "not here").encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def redirect(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    return answer


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # clients that refuse the certificate
        pass


def serve(pages, certificate=None):
    server = Quiet(("127.0.0.1", 0), Handler)
    server.pages, server.asked = pages, []
    if certificate:
        server.socket = certificate.wrap(server.socket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Lock(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.keys = pathlib.Path(tempfile.mkdtemp(prefix="jobc-lock-keys-"))
        cls.addClassCleanup(shutil.rmtree, cls.keys)
        cls.certificate = Certificate(cls.keys)

    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="jobc-lock-"))
        self.addCleanup(shutil.rmtree, self.base)
        self.at = self.base / "work"
        self.at.mkdir()
        self.pages = {"/lib/qc.job": LIBRARY}
        self.server = serve(self.pages, self.certificate)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.base / "home"), "JOBC_CACHE": str(self.base / "cache"), "SSL_CERT_FILE": str(self.certificate.path)}
        self.write(f'import "{self.url}/lib/qc.job" as qc\njob j {{ run = ["echo", qc.twice(qc.limit)] }}\n')

    def write(self, text, name="main.job"):
        (self.at / name).write_text("edition = 1\n" + text)

    def jobc(self, *arguments, code=0, before=(), **env):
        done = subprocess.run([*before, JOBC, *arguments], cwd=self.at, capture_output=True, text=True, timeout=90, env={**self.env, **env})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def lock(self):
        return json.loads((self.at / "job.lock").read_text())["imports"]

    def test_from_nothing_to_a_check_without_network(self):
        done = self.jobc("check", code=3)
        self.assertIn(f'error[E106]: "{self.url}/lib/qc.job" is not pinned in `job.lock`', done.stderr)
        self.assertIn("type:  jobc lock main.job", done.stderr)
        self.assertEqual(self.server.asked, [], "the check used the network")
        self.assertIn(f"job.lock: added {self.url}/lib/qc.job", self.jobc("lock").stderr)
        self.assertEqual(self.lock(), {f"{self.url}/lib/qc.job": {"sha256": hashlib.sha256(LIBRARY.encode()).hexdigest(), "size": len(LIBRARY)}})
        self.assertEqual(self.server.asked, ["/lib/qc.job"])
        self.server.asked.clear()
        dead = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
        self.jobc("check", **dead)
        self.assertIn('["echo","6"]', self.jobc("plan", "main.job", "--expand", "--json", **dead).stdout)
        self.assertIn("up to date", self.jobc("lock", **dead).stderr)
        self.assertEqual(self.server.asked, [])
        if CAN_UNSHARE:
            self.jobc("check", before=NO_NETWORK)

    def test_the_lock_decides_not_the_cache(self):
        self.jobc("lock")
        cached = next((self.base / "cache/imports").iterdir())
        cached.write_text(LIBRARY.replace("3", "4"))
        done = self.jobc("check", code=3)
        self.assertIn(f'error[E801]: "{self.url}/lib/qc.job" is not what `job.lock` pins', done.stderr)
        self.assertIn("its copy in the cache has another hash", done.stderr)
        self.assertIn("fetched", self.jobc("lock").stderr)
        self.jobc("check")
        shutil.rmtree(self.base / "cache")
        done = self.jobc("check", code=3)
        self.assertIn("it is locked, but not in the cache of this machine", done.stderr)
        self.assertIn("type:  jobc lock main.job", done.stderr)
        before = (self.at / "job.lock").read_bytes()
        self.jobc("lock")
        self.assertEqual((self.at / "job.lock").read_bytes(), before)
        self.jobc("check")

    def test_what_has_changed_there_is_not_taken_by_itself(self):
        self.jobc("lock")
        before = (self.at / "job.lock").read_bytes()
        self.pages["/lib/qc.job"] = LIBRARY.replace("3", "4")
        self.assertIn("up to date", self.jobc("lock").stderr)
        shutil.rmtree(self.base / "cache")
        done = self.jobc("lock", code=3)
        self.assertIn(f'error[E801]: "{self.url}/lib/qc.job" is no longer what is locked', done.stderr)
        self.assertIn("`jobc explain E801`", done.stderr)
        self.assertIn("jobc lock --update qc", done.stderr)
        self.assertEqual((self.at / "job.lock").read_bytes(), before)
        self.assertIn("no import and no image is called `cq`; did you mean `qc`?", self.jobc("lock", "--update", "cq", code=3).stderr)
        self.assertIn("updated", self.jobc("lock", "--update", "qc").stderr)
        self.assertIn('["echo","8"]', self.jobc("plan", "main.job", "--expand", "--json").stdout)
        self.assertIn("unchanged", self.jobc("lock", "--update", f"{self.url}/lib/qc.job").stderr)
        self.assertIn("unchanged", self.jobc("lock", "--update", "all").stderr)

    def test_lock_check_writes_and_fetches_nothing(self):
        self.assertIn("missing", self.jobc("lock", "--check", code=4).stderr)
        self.assertEqual((self.server.asked, (self.at / "job.lock").exists()), ([], False))
        self.jobc("lock")
        self.jobc("lock", "--check")
        self.write('job j { run = ["true"] }\n')
        changes = json.loads(self.jobc("lock", "--check", "--json", code=4).stdout)["changes"]
        self.assertEqual([c["change"] for c in changes], ["unused"])
        # With a file named, the entries of others stay.
        self.jobc("lock", "main.job")
        self.assertEqual(len(self.lock()), 1)
        self.assertIn("removed", self.jobc("lock").stderr)
        self.assertEqual(self.lock(), {})

    def test_imports_of_imports(self):
        self.pages["/lib/qc.job"] = 'edition = 1\nimport "./deep/x.job" as x\nlet limit = x.n\nfn twice(i: Int) -> Int = 2 * i\n'
        self.pages["/lib/deep/x.job"] = 'edition = 1\nimport "/top.job" as top\nlet n = top.n\n'
        self.pages["/top.job"] = "edition = 1\nlet n = 5\n"
        (self.at / "local.job").write_text(f'edition = 1\nimport "{self.url}/lib/qc.job" as qc\nlet n = qc.limit\n')
        self.write('import "./local.job" as l\njob j { run = ["echo", l.n] }\n')
        self.jobc("lock", "main.job")
        self.assertEqual(sorted(self.lock()), [self.url + path for path in ("/lib/deep/x.job", "/lib/qc.job", "/top.job")])
        self.assertIn('["echo","5"]', self.jobc("plan", "main.job", "--expand", "--json").stdout)
        # A circle ends, and is told by the check.
        self.pages["/top.job"] = f'edition = 1\nimport "{self.url}/lib/qc.job" as qc\nlet n = 5\n'
        self.jobc("lock", "--update", "all")
        self.assertIn("files import each other in a circle", self.jobc("check", "main.job", code=3).stderr)
        # What comes from the network cannot look at this machine.
        self.pages["/top.job"] = 'edition = 1\nimport "../../etc/x.job" as x\nlet n = 5\n'
        self.assertIn("only https addresses can be locked", self.jobc("lock", "--update", "all", code=3).stderr)

    def refused(self, page, *parts, **env):
        self.pages["/lib/qc.job"] = page
        done = self.jobc("lock", code=3, **env)
        self.assertIn(f"/lib/qc.job\"", done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)
        self.assertFalse((self.at / "job.lock").exists())
        cache = self.base / "cache/imports"
        self.assertEqual(list(cache.iterdir()) if cache.exists() else [], [])

    def test_what_goes_wrong_on_the_way_changes_nothing(self):
        self.refused(None, "status 404 (not found)")
        self.refused(truncated, "the connection ended before all of it had come")
        self.refused("<html>Sign in</html>", "is no .job file: line 1")
        self.refused("edition = 1\n# " + "x" * (5 << 20), "larger than 4 MiB")
        self.refused(redirect(f"{self.url}/lib/qc.job"), "redirects")
        plain = serve({"/qc.job": LIBRARY})
        self.addCleanup(plain.server_close)
        self.addCleanup(plain.shutdown)
        self.refused(redirect(f"http://localhost:{plain.server_address[1]}/qc.job"), "it leads to an address that is not https")
        self.assertEqual(plain.asked, [])
        self.refused(redirect("file:///etc/passwd"), "not https")
        self.refused(LIBRARY, "its certificate is not accepted", "SSL_CERT_FILE", SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt")

    def test_redirects_to_https_are_followed(self):
        self.pages["/moved.job"] = LIBRARY
        self.pages["/lib/qc.job"] = redirect("/moved.job")
        self.jobc("lock", CURL_CA_BUNDLE=str(self.certificate.path), SSL_CERT_FILE="")
        self.jobc("check")

    def test_nobody_there(self):
        self.server.shutdown()
        self.server.server_close()
        self.assertIn("cannot fetch", self.jobc("lock", code=3).stderr)

    def test_http_is_never_imported(self):
        self.write('import "http://localhost/x.job" as x\njob j { run = ["echo", x.n] }\n')
        self.assertIn("only https addresses can be imported", self.jobc("check", code=3).stderr)
        self.assertIn("only https addresses can be locked", self.jobc("lock", code=3).stderr)

    def test_a_damaged_lock_is_told(self):
        (self.at / "job.lock").write_text("<<<<<<< HEAD\n")
        self.assertIn("is no lock file: it is not valid JSON (is a merge unfinished?)", self.jobc("check", code=3).stderr)
        self.assertIn("is no lock file", self.jobc("lock", code=3).stderr)

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_a_cache_that_cannot_be_written(self):
        (self.base / "cache").mkdir(mode=0o500)
        self.assertIn("cannot make", self.jobc("lock", code=15).stderr)

    def test_no_place_for_a_cache(self):
        (self.base / "file").write_text("")
        self.assertIn("cannot make", self.jobc("lock", code=15, JOBC_CACHE=str(self.base / "file")).stderr)
        self.assertFalse((self.at / "job.lock").exists())


if __name__ == "__main__":
    unittest.main()
