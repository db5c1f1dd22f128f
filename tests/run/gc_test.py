"""`jobc gc`: what it removes, what it never touches, and what it says. The container engine is a stand-in on a socket, which
knows lists and removals; real engines are asked in tests/services."""
import http.server
import json
import os
import pathlib
import signal
import socketserver
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from story import Story, wait_until

FAILS = """job bad { run = ["sh", "-c", "head -c 100000 /dev/zero > left; exit 1"] }
"""
OLD = time.time() - 40 * 24 * 3600


class Engine:
    """Containers with labels, on a unix socket."""

    def __init__(self, path):
        self.containers, self.removed, self.filters = [], [], []
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, body=b""):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                engine.filters.append(json.loads(query["filters"][0]))
                wanted = engine.filters[-1]["label"][0].split("=", 1)
                engine.state = wanted[1]
                self.answer(200, json.dumps([{**one, "Labels": {**one["Labels"], "jobc.state": wanted[1]}} for one in engine.containers]).encode())

            def do_DELETE(self):
                name = urllib.parse.urlsplit(self.path).path.rsplit("/", 1)[1]
                engine.removed.append(name)
                known = [one for one in engine.containers if one["Id"] == name]
                engine.containers = [one for one in engine.containers if one["Id"] != name]
                self.answer(204 if known else 404)

            def address_string(self):
                return "socket"

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(str(path), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name, run, status="running", created=OLD, **labels):
        self.containers.append({"Id": name, "State": status, "Created": int(created), "Labels": {"jobc.run": run, "jobc.attempt": f"{run}-1", "jobc.instance": "far", **labels}})


class Gc(Story):
    def setUp(self):
        super().setUp()
        self.socket = self.base / "engine.sock"
        self.env = {"DOCKER_HOST": f"unix://{self.socket}", "CONTAINER_HOST": f"unix://{self.base}/none.sock", "XDG_CACHE_HOME": str(self.base / "cache")}

    def gc(self, *arguments, **options):
        return self.jobc("gc", *arguments, env=self.env, **options)

    def ids(self):
        directory = self.at / ".jobc/runs"
        return sorted(os.listdir(directory)) if directory.exists() else []

    def run_dir(self, run):
        return self.at / ".jobc/runs" / run

    def test_attempts_of_ended_runs_go_when_they_are_old(self):
        self.run_job(FAILS, code=10)
        run, = self.ids()
        kept = list((self.run_dir(run) / "work").iterdir())
        self.assertTrue(kept)
        self.assertEqual(self.gc().out, "nothing to remove\n")  # it ended a moment ago
        said = self.gc("--older-than", "0s", "--dry-run").out
        self.assertIn("would free", said)
        self.assertTrue(kept[0].exists())
        # The whole run, as it is asked for by its age.
        done = self.gc("--older-than", "0s", "--json").json
        self.assertEqual([one["kind"] for one in done["removed"]], ["run"])
        self.assertGreater(done["bytes"], 100000)
        self.assertEqual(self.ids(), [])

    def test_keep_of_the_file_decides_how_long_a_run_stays(self):
        self.run_job("limits { keep = 1s }\n" + FAILS, code=10)
        expired, = self.ids()
        self.run_job(FAILS, code=10)
        forever = next(run for run in self.ids() if run != expired)
        wait_until(lambda: expired in self.gc("--dry-run").out, what="a second to pass")
        said = self.gc().out
        self.assertIn(expired, said)
        self.assertIn("freed", said)
        self.assertEqual(self.ids(), [forever])

    def test_nothing_of_a_live_run_is_touched(self):
        engine = Engine(self.socket)
        self.write(f'edition = 1\njob waits {{ run = ["sh", "-c", "touch {self.flags}/up; while ! [ -e {self.flags}/go ]; do sleep 0.02; done; echo fine > f"]\n output {{ f: File = "f" }} }}\nexport {{ f: File = waits.f }}\n')
        process = self.start("run", "a.job")
        wait_until(lambda: self.flag_path("up").exists(), what="the job")
        run, = self.ids()
        engine.add("aaa", run)
        self.assertEqual(self.gc("--older-than", "0s").out, "nothing to remove\n")
        self.assertEqual(engine.removed, [])
        self.flag_path("go").touch()
        self.finish(process)
        self.assertTrue((self.run_dir(run) / "outputs/waits/f").exists())

    def flag_path(self, name):
        return self.flags / name

    def crash(self):
        self.write(f'edition = 1\njob waits {{ run = ["sh", "-c", "touch {self.flags}/up; sleep 1000"] }}\n')
        process = self.start("run", "a.job")
        wait_until(lambda: self.flag_path("up").exists(), what="the job")
        process.send_signal(signal.SIGKILL)
        process.wait()
        run, = self.ids()
        wait_until(lambda: self.status()["status"] == "crashed", what="the run to look crashed")
        return run

    def test_a_run_that_died_keeps_what_resume_needs(self):
        engine = Engine(self.socket)
        run = self.crash()
        engine.add("aaa", run)
        self.assertEqual(self.gc().out, "nothing to remove\n")  # resume may take it over
        self.assertEqual(engine.removed, [])
        done = self.gc("--older-than", "0s", "--json").json
        self.assertEqual([one["kind"] for one in done["removed"]], ["container"])
        self.assertEqual(engine.removed, ["aaa"])
        self.assertTrue((self.run_dir(run) / "journal.db").exists())
        self.assertEqual(engine.filters[0]["label"][0].split("=")[0], "jobc.state")

    def test_containers_of_runs_that_are_gone(self):
        engine = Engine(self.socket)
        self.run_job(FAILS, code=10)
        secrets = self.base / "jobc-0000gone0000gone0000-1"
        secrets.mkdir()
        engine.add("old", "0000gone0000gone0000", status="exited", **{"jobc.secrets": str(secrets)})
        engine.add("new", "0000gone0000gone0000", created=time.time())  # perhaps of a run that is just being made
        said = self.gc("--dry-run").out
        self.assertIn("docker far (exited)", said)
        self.assertEqual(engine.removed, [])
        self.gc()
        self.assertEqual(engine.removed, ["old"])
        self.assertFalse(secrets.exists())

    def test_an_engine_that_does_not_answer_is_no_fault(self):
        self.run_job(FAILS, code=10)
        done = self.gc()
        self.assertEqual(done.err, "")

    def test_a_damaged_run_is_left_as_it_is(self):
        self.run_job(FAILS, code=10)
        run, = self.ids()
        (self.run_dir(run) / "journal.db").write_bytes(b"no journal at all")
        done = self.gc("--older-than", "0s")
        self.assertIn(run, done.err)
        self.assertEqual(self.ids(), [run])

    def test_cached_results_go_by_their_last_use(self):
        entry = self.base / "cache/jobc/results-1/ab" / ("ab" + "0" * 62)
        entry.mkdir(parents=True)
        (entry / "entry.json").write_text("{}")
        self.run_job(FAILS, code=10)
        self.gc("--cache")
        self.assertTrue(entry.exists())
        os.utime(entry / "entry.json", (OLD, OLD))
        self.gc()
        self.assertTrue(entry.exists())  # only where it is asked for
        self.assertIn("cache", self.gc("--cache").out)
        self.assertFalse(entry.exists())

    def test_fetched_files_go_when_nothing_uses_them(self):
        self.run_job(FAILS, code=10)
        content = self.at / ".jobc/store/content/ab" / ("ab" + "1" * 62)
        content.parent.mkdir(parents=True)
        content.write_bytes(b"x" * 5000)
        self.assertEqual(self.gc("--older-than", "1h").out, "nothing to remove\n")
        removed = self.gc("--older-than", "0s", "--json").json["removed"]
        self.assertEqual([one["kind"] for one in removed], ["run", "store"])
        self.assertFalse(content.exists())

    def test_bad_use(self):
        self.assertIn("error: ", self.jobc("gc", code=2, cwd=self.base, env=self.env).err)
        self.assertEqual(self.jobc("gc", "--older-than", "soon", code=2, env=self.env).code, 2)


if __name__ == "__main__":
    unittest.main()
