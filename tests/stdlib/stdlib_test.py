"""The modules of the standard library as their users run them: real files, real archives, a real http server that misbehaves."""
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import threading
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "run"))
from story import Story  # noqa: E402
from world import Certificate, truncated  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "stdlib").glob("*.job"))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.server.seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        script = self.server.pages.get(self.path, 404)
        if isinstance(script, list):  # one answer a request, the last one stays
            script = script.pop(0) if len(script) > 1 else script[0]
        if callable(script):
            return script(self)
        status, body = (script, b"") if isinstance(script, int) else (200, script)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def hang_up(handler):
    handler.connection.close()
    handler.close_connection = True


class Stdlib(Story):
    def setUp(self):
        super().setUp()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        self.server.daemon_threads = True
        self.server.pages, self.server.seen = {}, []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def fails(self, kind, text, *parts, attempts=1, job="j"):
        """The job fails with this kind or name after so many attempts, and what it says holds the parts."""
        done = self.run_job(text, code=10)
        one = self.instances()[job]
        verdict = json.dumps(one)
        self.assertIn(f'"{kind}"', verdict)
        self.assertEqual(len(one["attempts"]), attempts, verdict)
        for part in parts:
            self.assertIn(part, done.err)


class Fetch(Stdlib):
    def job(self, digest, more=""):
        return f'''import "std/fetch@1" as fetch
job j uses fetch.file {{ url = "{self.url}/f.bin", sha256 = "{digest}", name = "f.bin" {more} retry {{ backoff = constant(1ms) }} }}
export {{ file: File = j.file, size: Bytes = j.size, sha256: String = j.sha256 }}
'''

    def test_a_file_arrives(self):
        data = os.urandom(3 << 20)
        self.server.pages["/f.bin"] = data
        self.run_job(self.job(sha256(data)))
        result = self.result()
        self.assertEqual(pathlib.Path(result["file"]).read_bytes(), data)
        self.assertEqual((result["size"], result["sha256"]), (len(data), sha256(data)))

    def test_the_network_is_tried_again(self):
        self.server.pages["/f.bin"] = [503, truncated, hang_up, b"data"]
        self.run_job(self.job(sha256(b"data")))
        self.assertEqual(len(self.instances()["j"]["attempts"]), 4)
        self.server.pages["/f.bin"] = 500
        self.fails("network", self.job(sha256(b"data")), "status 500", attempts=5)

    def test_nobody_is_there(self):
        self.server.shutdown()
        self.server.server_close()
        self.fails("network", self.job(sha256(b"")), attempts=5)

    def test_what_stays_wrong_is_not_tried_again(self):
        self.server.pages["/f.bin"] = b"other"
        self.fails("checksum-mismatch", self.job(sha256(b"data")), f"the SHA-256 is {sha256(b'other')}, expected is {sha256(b'data')}")
        self.assertEqual(len(self.server.seen), 1)
        self.fails("too-large", self.job(sha256(b"other"), "limit = 3B"), "more than 3 bytes")
        for status, kind in (404, "not-found"), (410, "not-found"), (401, "auth"), (403, "auth"), (418, "refused"):
            self.server.pages["/f.bin"] = status
            self.fails(kind, self.job(sha256(b"data")), f"status {status}")

    def test_over_https_with_an_authority_that_is_known_and_one_that_is_not(self):
        certificate = Certificate(self.base)
        self.server.socket = certificate.wrap(self.server.socket)
        self.server.pages["/f.bin"] = [503, b"data"]
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.run_job(self.job(sha256(b"data")), env={"SSL_CERT_FILE": str(certificate.path)})
        self.assertEqual(pathlib.Path(self.result()["file"]).read_bytes(), b"data")
        self.assertEqual(len(self.instances()["j"]["attempts"]), 2)
        seen = len(self.server.seen)
        self.fails("certificate", self.job(sha256(b"data")), "CERTIFICATE_VERIFY_FAILED")
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.run_job(self.job(sha256(b"data")), code=10, env={"SSL_CERT_FILE": str(certificate.path)})
        self.assertIn("certificate", json.dumps(self.instances()["j"]), "of another name")
        self.assertEqual(len(self.server.seen), seen, "nothing was asked of a server that is not the right one")

    def test_a_wrong_address_or_checksum_is_a_compile_error(self):
        self.write('edition = 1\nimport "std/fetch@1" as fetch\njob j uses fetch.file { url = "ftp://x/y", sha256 = "abc" }\n')
        done = self.jobc("check", "a.job", code=3)
        self.assertEqual(done.err.count("error[E203]"), 2, done.err)


class Archive(Stdlib):
    UNPACK = '''import "std/archive@1" as archive
params { a: File }
job j uses archive.unpack { input { archive: File = params.a } MORE }
job l uses archive.list { input { archive: File = params.a } }
export { tree: Dir = j.tree, names: List<String> = j.names, entries: Int = j.entries, content: Bytes = j.content, listed: List<String> = l.names }
'''

    def unpack(self, path, more=""):
        self.run_job(self.UNPACK.replace("MORE", more), "-p", f"a={path}")
        result = self.result()
        tree = pathlib.Path(result["tree"])
        self.assertEqual(result["entries"], len(result["names"]))
        return result, {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file()}

    def refused(self, kind, path, *parts, more=""):
        self.write("edition = 1\n" + self.UNPACK.replace("MORE", more).replace("job l uses archive.list { input { archive: File = params.a } }\n", "").replace(", listed: List<String> = l.names", ""))
        done = self.jobc("run", "a.job", "-p", f"a={path}", code=10)
        one = self.instances()["j"]
        self.assertIn(f'"{kind}"', json.dumps(one))
        self.assertEqual(len(one["attempts"]), 1)
        for part in parts:
            self.assertIn(part, done.err)

    def tar(self, entries, name="a.tar.gz"):
        path = self.at / name
        with tarfile.open(path, "w:" + {"gz": "gz", "xz": "xz", "bz2": "bz2"}.get(name.rsplit(".", 1)[-1], "")) as out:
            for entry, content in entries:
                info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
        return path

    @staticmethod
    def special(name, kind, to=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, to
        return info

    def test_packing_is_the_same_every_time_and_unpacks_to_the_same(self):
        packed = {}
        for name, form in ("x.tar.gz", "tar_gz"), ("x.tar", "tar"), ("x.tar.xz", "tar_xz"), ("x.zip", "zip"):
            digests = set()
            for _ in range(2):
                for file, content in ("b.txt", "B"), ("a.txt", "AA" * 5000):
                    self.write(content, file)
                self.run_job(f'''import "std/archive@1" as archive
job p uses archive.pack {{ input {{ files: List<File> = ["b.txt", "a.txt"] }} name = "{name}", format = archive.Format.{form}, prefix = "data" }}
job u uses archive.unpack {{ input {{ archive: File = p.archive }} strip = 1 }}
job l uses archive.list {{ input {{ archive: File = p.archive }} }}
export {{ archive: File = p.archive, entries: Int = p.entries, content: Bytes = p.content, size: Bytes = p.size, sha256: String = p.sha256
  names: List<String> = u.names, listed: List<String> = l.names, tree: Dir = u.tree }}
''')
                result = self.result()
                data = pathlib.Path(result["archive"]).read_bytes()
                self.assertEqual((result["entries"], result["content"], result["size"], result["sha256"]), (2, 10001, len(data), sha256(data)))
                self.assertEqual((result["names"], result["listed"]), (["a.txt", "b.txt"], ["data/a.txt", "data/b.txt"]))
                self.assertEqual((pathlib.Path(result["tree"]) / "a.txt").read_text(), "AA" * 5000)
                digests.add(result["sha256"])
                packed[name] = data
            self.assertEqual(len(digests), 1, f"{name} differs from time to time")
        self.assertIn("data/a.txt", tarfile.open(fileobj=io.BytesIO(packed["x.tar.xz"])).getnames())
        self.assertEqual(zipfile.ZipFile(io.BytesIO(packed["x.zip"])).namelist(), ["data/a.txt", "data/b.txt"])

    def test_two_files_of_one_name(self):
        self.write("1", "x/a.txt")
        self.write("2", "y/a.txt")
        self.fails("same-name", '''import "std/archive@1" as archive
job j uses archive.pack { input { files: List<File> = ["x/a.txt", "y/a.txt"] } }
''', "two files are called a.txt")

    def test_archives_of_others(self):
        entries = [("d/", b""), ("d/x", b"one"), ("d/y", b"two")]
        for name in "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar", "no_suffix":
            result, files = self.unpack(self.tar([(self.special("d", tarfile.DIRTYPE), b""), *entries[1:]], name))
            self.assertEqual((files, result["content"], result["names"]), ({"d/x": b"one", "d/y": b"two"}, 6, ["d/x", "d/y"]))
        with zipfile.ZipFile(self.at / "a.zip", "w") as out:
            for entry, content in entries:
                out.writestr(entry, content)
        result, files = self.unpack(self.at / "a.zip")
        self.assertEqual((files, result["listed"]), ({"d/x": b"one", "d/y": b"two"}, ["d/x", "d/y"]))
        # A link that stays inside is fine; what it leads to is captured as a copy.
        _, files = self.unpack(self.tar([("d/x", b"one"), (self.special("d/l", tarfile.SYMTYPE, "x"), b""), (self.special("h", tarfile.LNKTYPE, "d/x"), b"")]))
        self.assertEqual(files, {"d/x": b"one", "d/l": b"one", "h": b"one"})

    def test_one_gzip_file(self):
        self.write("text", "plain.txt")
        self.run_job('''import "std/archive@1" as archive
job g uses archive.gzip { input { file: File = "plain.txt" } name = "plain.txt.gz" }
job u uses archive.unpack { input { archive: File = g.file } }
export { file: File = g.file, size: Bytes = g.size, sha256: String = g.sha256, names: List<String> = u.names }
''')
        result = self.result()
        data = pathlib.Path(result["file"]).read_bytes()
        self.assertEqual(gzip.decompress(data), b"text")
        self.assertEqual((result["size"], result["sha256"], result["names"]), (len(data), sha256(data), ["plain.txt"]))

    def test_nothing_gets_out(self):
        outside = self.at / "outside.txt"
        for entry in ("../outside.txt", "/" + str(outside).lstrip("/"), "a/../../outside.txt",
                      self.special("l", tarfile.SYMTYPE, "../.."), self.special("l", tarfile.SYMTYPE, "/etc/passwd"),
                      self.special("l", tarfile.LNKTYPE, "../outside.txt"), self.special("f", tarfile.FIFOTYPE), self.special("d", tarfile.CHRTYPE)):
            self.refused("unsafe-archive", self.tar([("x", b"1"), (entry, b"")]), "the archive reaches outside of its directory")
        # Through a link that the archive makes itself, inside or not.
        self.refused("unsafe-archive", self.tar([("d/x", b""), (self.special("l", tarfile.SYMTYPE, "d"), b""), ("l/y", b"2")]), "goes through a link")
        for name in "../outside.txt", "/outside.txt", "..\\outside.txt", "c:x":
            with zipfile.ZipFile(self.at / "a.zip", "w") as out:
                out.writestr(zipfile.ZipInfo(name), b"1")
            self.refused("unsafe-archive", self.at / "a.zip", "leads outside")
        self.assertFalse(outside.exists())

    def test_a_bomb_and_too_many_entries(self):
        self.refused("too-large", self.tar([("x", b"0" * 5000)]), "more than 4000 bytes", more="limit = 4000B")
        self.refused("too-large", self.tar([(str(i), b"") for i in range(5)]), "more than 4 entries", more="max_entries = 4")

    def test_what_is_broken_is_told(self):
        good = self.tar([("x", os.urandom(50000))]).read_bytes()
        for name, data in {"cut.tar.gz": good[:-20000], "bent.tar.gz": good[:3000] + b"X" * 50 + good[3050:], "none.tar.gz": b"no archive", "empty": b"", "cut.zip": b"PK\3\4"}.items():
            with self.subTest(name):
                (self.at / name).write_bytes(data)
                self.refused("corrupt-archive", self.at / name, "the archive cannot be read")
                self.run_job('import "std/archive@1" as archive\njob j uses archive.list { input { archive: File = "%s" } }\n' % name, code=10)
                self.assertIn('"corrupt-archive"', json.dumps(self.instances()["j"]))


class Table(Stdlib):
    def job(self, name, content, more=""):
        self.write(content, name)
        return f'''import "std/table@1" as table
job j uses table.stats {{ input {{ table: File = "{name}" }} {more} }}
export {{ rows: Int = j.rows, columns: List<String> = j.columns, nulls: Map<String, Int> = j.nulls, ratio: Map<String, Float> = j.null_ratio, distinct: Map<String, Int> = j.distinct }}
'''

    CSV = "id,name,price\r\n1,\"a, \"\"b\"\"\nc\",1.5\r\n\r\n2,,-2e3\r\n3,x,\r\n"

    def test_counts_of_all_formats(self):
        expected = {"rows": 3, "columns": ["id", "name", "price"], "nulls": {"id": 0, "name": 1, "price": 1}, "ratio": {"id": 0, "name": 1 / 3, "price": 1 / 3}, "distinct": {"id": 3}}
        rows = [{"id": 1, "name": "a", "price": 1.5}, {"id": 2, "price": -2}, {"id": 3, "name": "x", "price": None}]
        for name, content in {"t.csv": self.CSV, "t.tsv": "id\tname\tprice\n1\ta,b\t1\n2\t\t2\n3\tx\t\n", "t.json": json.dumps(rows),
                              "t.jsonl": "\n".join(map(json.dumps, rows)) + "\n\n", "bom.csv": "\ufeff" + self.CSV}.items():
            with self.subTest(name):
                self.run_job(self.job(name, content, 'distinct = ["id"]'))
                self.assertEqual(self.result(), expected)
        self.run_job(self.job("t.txt", self.CSV.replace(",", ";"), 'delimiter = ";", format = table.Format.csv'))
        self.assertEqual(self.result()["columns"], ["id", "name", "price"])

    def test_empty_tables(self):
        for name, content, columns in ("t.csv", "id,x\n", ["id", "x"]), ("t.json", "[]", []), ("t.jsonl", "", []):
            self.run_job(self.job(name, content))
            self.assertEqual((self.result()["rows"], self.result()["columns"]), (0, columns))

    def test_what_cannot_be_read(self):
        for name, content, where in (("t.csv", "id,x\n1,2\n1,2,3\n", "t.csv:3: 3 fields, the header has 2"), ("t.csv", "", "t.csv:1: the file is empty"),
                                     ("t.csv", "a,a\n1,2\n", "two columns have the same name"), ("t.csv", 'a,b\n1,"x\n', "t.csv:2: "),
                                     ("t.csv", b"a\n\xff\n", "not UTF-8"), ("t.json", "{}", "no list of objects"), ("t.json", '[{"a": 1},\n 2]', "t.json:2: not an object"),
                                     ("t.json", "[\n{]", "t.json:2: "), ("t.jsonl", '{"a": 1}\n{"a": \n', "t.jsonl:2: "), ("t.json", "[" * 100000, "nested too deeply")):
            with self.subTest(where):
                self.fails("bad-table", self.job(name, content), "the table cannot be read", where)

    def test_checks_that_hold(self):
        self.run_job(self.job("t.csv", self.CSV, 'columns = ["id"], types = { id = table.Type.int, price = table.Type.number, name = table.Type.text }, unique_by = ["id"], max_null_ratio = 0.4, min_rows = 3, max_rows = 3'))
        rows = '[{"d": "2024-02-29", "ok": true, "n": 1.5, "i": 3}]'
        self.run_job(self.job("t.json", rows, "types = { d = table.Type.date, ok = table.Type.bool, n = table.Type.number, i = table.Type.int }"))

    def test_checks_that_do_not_hold_are_all_told(self):
        self.fails("invalid-table", self.job("t.csv", "id,d\n1,2024-02-30\n1,\nx,2024-01-01\n",
                   'columns = ["id", "price"], types = { id = table.Type.int, d = table.Type.date }, unique_by = ["id"], max_null_ratio = 0.1, min_rows = 10'),
                   "the table does not hold what is asked", "t.csv:2: `d` is no date: \"2024-02-30\"", "t.csv:4: `id` is no int", "t.csv:3: id as in line 2",
                   "there is no column `price`; there are id, d", "`d` is null in 1 of 3 rows, 0.1 of them may be", "3 rows, expected 10 to")
        self.fails("invalid-table", self.job("t.json", '[{"n": true}, {"n": "1"}, {"n": 2}]', "types = { n = table.Type.int }"), "t.json:1: `n` is no int: true")


class Notify(Stdlib):
    TELL = '''import "std/notify@1" as notify
secret hook = env("HOOK")
job j { run = ["sh", "-c", "exit CODE"], output { x: String = stdout() } }
KIND uses notify.webhook { url = hook, message = "it ~{run.status}: \\"~{join(run.failed_jobs, ",")}\\"", fields = { team = "a" }, patience = 2s, tries = 2 }
'''

    def tell(self, kind, exit_code=0, code=0, path="/hook"):
        return self.run_job(self.TELL.replace("KIND", kind).replace("CODE", str(exit_code)), code=code, env={"HOOK": self.url + path})

    def test_finally_and_hooks_tell_how_it_ended(self):
        self.server.pages["/hook"] = b"ok"
        self.tell("finally tell")
        self.tell("hook on failure", exit_code=3, code=10)
        bodies = [json.loads(body) for _, _, _, body in self.server.seen]
        self.assertEqual(bodies, [{"team": "a", "text": 'it succeeded: ""'}, {"team": "a", "text": 'it failed: "j"'}])
        self.assertEqual(self.server.seen[0][2]["Content-Type"], "application/json")

    def test_a_message_that_cannot_be_delivered_does_not_harm_the_run(self):
        for page in 404, 500, hang_up:
            self.server.pages["/hook"] = page
            self.tell("finally tell")
            self.assertEqual(self.instances()["tell"]["state"], "succeeded")
            logs = self.jobc("logs", "tell").out
            self.assertIn("the message was not delivered", logs)
            self.assertNotIn(self.url, logs)
            self.tell("hook on success")
        result = self.jobc("result", "tell", "--json", code=None)
        self.assertEqual(self.states()["j"], "succeeded")

    def test_it_tries_again_only_where_that_may_help(self):
        self.server.pages["/hook"] = [503, b"ok"]
        self.tell("finally tell")
        self.assertEqual(len(self.server.seen), 2)
        self.server.seen.clear()
        self.server.pages["/hook"] = 400
        self.tell("finally tell")
        self.assertEqual(len(self.server.seen), 1)

    def test_strict(self):
        for page, kind in (400, "not-delivered"), (500, "network"):
            self.server.pages["/hook"] = page
            done = self.run_job('''import "std/notify@1" as notify
secret hook = env("HOOK")
job j uses notify.webhook { url = hook, message = "x", strict = true, tries = 1 }
''', code=10, env={"HOOK": self.url + "/hook"})
            self.assertIn(f'"{kind}"', json.dumps(self.instances()["j"]))
            self.assertNotIn(self.url, done.err)

    def test_a_token_goes_along_and_is_not_seen(self):
        self.server.pages["/hook"] = b"ok"
        self.run_job('''import "std/notify@1" as notify
secret hook = env("HOOK")
secret token = env("TOKEN")
job j uses notify.webhook { url = hook, message = "x", env { NOTIFY_TOKEN = token } }
export { delivered: Bool = j.delivered, status: Int? = j.status, tries: Int = j.tries }
''', env={"HOOK": self.url + "/hook", "TOKEN": "s3cret-token-of-12"})
        self.assertEqual(self.server.seen[0][2]["Authorization"], "Bearer s3cret-token-of-12")
        self.assertEqual(self.result(), {"delivered": True, "status": 200, "tries": 1})
        found = subprocess.run(["grep", "-rla", "-e", "s3cret-token-of-12", "-e", self.url, self.at / ".jobc"], capture_output=True, text=True).stdout
        self.assertEqual(found, "", "a secret was kept")

    def test_a_redirect_is_not_followed(self):
        def away(handler):
            handler.send_response(302)
            handler.send_header("Location", self.url + "/other")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        self.server.pages["/hook"] = away
        self.tell("finally tell")
        self.assertEqual([path for _, path, _, _ in self.server.seen], ["/hook"])


class ShellAndPython(Stdlib):
    def test_scripts(self):
        self.write("printf '{\"n\": %d}' $# > \"$JOB_RESULT\"; printf '%s\\n' \"$@\" > out.txt\n", "s.sh")
        self.write("import json, os, sys\njson.dump({'n': len(sys.argv) - 1}, open(os.environ['JOB_RESULT'], 'w'))\n", "s.py")
        self.run_job('''import "std/shell@1" as shell
import "std/python@1" as py
job a uses shell.script { input { file: File = "s.sh" } args = ["a b", 3, ...["x", "$(id)"]], output { n: Int, out: File = "out.txt" } }
job b uses shell.script { input { file: File = "s.sh" } shell = shell.Shell.sh, output { n: Int } }
job c uses py.script { input { file: File = "s.py" } args = [1, 2], output { n: Int } }
export { n: List<Int> = [a.n, b.n, c.n], out: File = a.out }
''')
        self.assertEqual(self.result()["n"], [4, 0, 2])
        self.assertEqual(pathlib.Path(self.result()["out"]).read_text(), "a b\n3\nx\n$(id)\n")

    def test_the_first_fault_ends_a_script(self):
        self.write("false | true\ntouch went_on\n", "s.sh")
        self.fails("exit", 'import "std/shell@1" as shell\njob j uses shell.script { input { file: File = "s.sh" } }\n')
        self.run_job('import "std/shell@1" as shell\njob j uses shell.script { input { file: File = "s.sh" } shell = shell.Shell.sh }\n')
        self.write("echo $NOT_SET\n", "s.sh")
        self.fails("exit", 'import "std/shell@1" as shell\njob j uses shell.script { input { file: File = "s.sh" } }\n')

    def test_commands(self):
        self.run_job('''import "std/shell@1" as shell
job a uses shell.command { args = ["printf", "%s\\n", "$HOME; *", "y"] }
job b uses shell.command { args = ["false"], errors { exit(1) => success } }
export { text: String = a.text, lines: List<String> = a.lines, code: Int = b.code }
''')
        self.assertEqual(self.result(), {"text": "$HOME; *\ny\n", "lines": ["$HOME; *", "y"], "code": 1})


class Sources(Stdlib):
    def test_modules_are_in_the_one_style_and_documented(self):
        self.assertEqual(MODULES, ["archive", "fetch", "notify", "python", "shell", "table"])
        sources = [str(ROOT / "stdlib" / f"{name}.job") for name in MODULES]
        self.jobc("fmt", "--check", *sources)
        for name, source in zip(MODULES, sources):
            self.jobc("lint", source)
            page = self.jobc("doc", f"std/{name}").out
            self.assertIn(f"std/{name}@1", page)

    def test_the_document_is_made_from_the_modules(self):
        path = ROOT / "docs/stdlib.md"
        text = path.read_text(encoding="utf-8")
        begin, end = "<!-- modules: begin (made from stdlib/ by stdlib_test.py, JOBC_UPDATE=1) -->\n", "<!-- modules: end -->\n"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        made = ""
        for name in MODULES:
            page = self.jobc("doc", f"std/{name}").out.strip()
            made += "\n" + "\n".join("#" + line if line.startswith("#") else line for line in page.splitlines()) + "\n"
        expected = head + begin + made + "\n" + end + tail
        if os.environ.get("JOBC_UPDATE") == "1":
            path.write_text(expected, encoding="utf-8")
        self.assertEqual(path.read_text(encoding="utf-8"), expected, "run with JOBC_UPDATE=1")

    def test_the_examples_in_the_comments_compile(self):
        for name in MODULES:
            comment = []
            for line in (ROOT / "stdlib" / f"{name}.job").read_text(encoding="utf-8").splitlines():
                if line.startswith("##   "):
                    comment.append(line[5:])
                elif comment:
                    break
            self.assertTrue(comment, name)
            job = "\n".join(comment)
            for file in "a.csv", "count.sh", "merge.py", "a.tar":
                self.write("", file)
            # What the example takes from elsewhere.
            if "extract.csv" in job:
                job += '\njob extract { run = ["x", output.csv], output { csv: File = "a.csv" } }'
            if "report[" in job:
                job += '\njob report { for i in range(2) run = ["x", output.page], output { page: File = "page-~{i}" } }'
            if "params.archive" in job:
                job += '\nparams { archive: File = "a.tar" }'
            self.write("edition = 1\n" + job)
            with self.subTest(name):
                self.jobc("check", "a.job")


class Tests(unittest.TestCase):
    """The `test` blocks of the modules, in stdlib/tests: how they retry, what they call their faults, what they start."""

    def test_each_template_has_some_and_they_pass(self):
        for name in MODULES:
            with self.subTest(module=name):
                text = (ROOT / "stdlib" / "tests" / f"{name}_test.job").read_text()
                alias = re.search(rf'import "std/{name}@1" as (\w+)', text)[1]
                templates = re.findall(r"^template (\w+)", (ROOT / "stdlib" / f"{name}.job").read_text(), re.MULTILINE)
                self.assertEqual([one for one in templates if f"uses {alias}.{one}" not in text], [])
                done = subprocess.run([os.environ["JOBC"], "test", ROOT / "stdlib" / "tests" / f"{name}_test.job"], capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertRegex(done.stdout + done.stderr, r"\n[1-9]\d* passed\n")


if __name__ == "__main__":
    unittest.main()
