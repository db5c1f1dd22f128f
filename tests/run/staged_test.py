"""`staging` on this machine's backends: what attempts were given and what they left, laid down in a folder or a bucket, and removed
again by `jobc gc`."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "storage"))
import servers  # noqa: E402
from story import ROOT, Story, wait_until  # noqa: E402

MAKE = """
job make {
  input { data: File = "d.txt", more: Dir = "in" }
  staging = "@PLACE@"
  script = <<~SH
    cat ~{input.data} ~{input.more}/a
    echo to-stderr >&2
    mkdir -p d/empty; echo x > d/x; cp /bin/true d/tool
    echo "$JOB_STAGING" > where.txt
    echo '{"n": 3, "extra": true}' > $JOB_RESULT
    SH
  output { where: File = "where.txt", tree: Dir = "d", n: Int }
}
export { n: Int = make.n }
"""


class Folder:
    """What lies below a staging place that is a folder."""

    def __init__(self, at):
        self.at = at

    def files(self):
        return {str(path.relative_to(self.at)): path.read_bytes() for path in self.at.rglob("*") if path.is_file() and not path.is_symlink()} if self.at.exists() else {}


class Bucket:
    """The same of a prefix of the tests' own server."""

    def __init__(self, s3, prefix):
        self.s3, self.prefix = s3, prefix

    def files(self):
        with self.s3.lock:
            return {key.removeprefix(self.prefix): one["content"] for key, one in self.s3.objects.items() if key.startswith(self.prefix)}


class Stages(Story):
    place_text = "kept/here"

    def setUp(self):
        super().setUp()
        self.more = {}
        self.write("data\n", "d.txt")
        self.write("in a dir\n", "in/a")
        self.place = Folder(self.at / "kept/here")

    def environment(self, **more):
        return super().environment(**{**self.more, **more})

    def run_staged(self, text, *arguments, **options):
        return self.run_job(text.replace("@PLACE@", self.place_text), *arguments, **options)

    def manifests(self):
        """By address and attempt; each with its base and its files by path."""
        out = {}
        for path, content in self.place.files().items():
            if path.endswith("/jobc-staged.json"):
                one = json.loads(content)
                one["base"] = path.removesuffix("jobc-staged.json")
                one["rows"] = {row["path"]: row for row in one["files"]}
                out[one["address"], one["attempt"]] = one
        return out

    def content(self, one, path):
        """Of a file as the manifest of an attempt tells it, wherever it lies."""
        row = one["rows"][path]
        content = self.at_uri(row["at"]) if "at" in row else self.place.files()[one["base"] + path]
        self.assertEqual((len(content), hashlib.sha256(content).hexdigest()), (row["size"], row["sha256"]), path)
        return content

    def at_uri(self, uri):
        return pathlib.Path(uri).read_bytes()


class Common:
    """Of folders and buckets alike."""

    def test_everything_of_an_attempt_lies_there(self):
        self.assertEqual(self.run_staged(MAKE).json, {"n": 3})
        (one,) = self.manifests().values()
        self.assertRegex(one["base"], r"^a-make/20\d\d-\d\d-\d\d/\d\d\d\d/[0-9a-z]{20}-1/$")
        self.assertEqual(one["base"].split("/")[1:3], [one["started"][:10], one["started"][11:16].replace(":", "")])
        self.assertEqual((one["schema"], one["complete"], one["success"], one["exit_code"], one["backend"]), ("jobc.staged/1", True, True, 0, "process"))
        self.assertEqual(one["execution_id"], one["base"].split("/")[3])
        given = json.loads(self.content(one, "input/inputs.json"))
        self.assertEqual(os.path.basename(given["data"]), "d.txt")
        self.assertEqual(self.content(one, "input/files/data/d.txt"), b"data\n")
        self.assertEqual(self.content(one, "input/files/more/in/a"), b"in a dir\n")
        self.assertIn("to-stderr", " ".join(one["command"]))
        self.assertEqual(self.content(one, "output/stdout.log"), b"data\nin a dir\n")
        self.assertEqual(self.content(one, "output/stderr.log"), b"to-stderr\n")
        self.assertEqual(json.loads(self.content(one, "output/result.json")), {"n": 3, "extra": True})
        outputs = json.loads(self.content(one, "output/outputs.json"))
        self.assertEqual((outputs["n"], outputs["where"], outputs["tree"].rstrip("/")), (3, "files/where.txt", "files/d"))
        self.assertEqual(self.content(one, "output/files/d/x"), b"x\n")
        self.assertTrue(one["rows"]["output/files/d/tool"]["executable"])
        self.assertTrue(one["rows"]["output/files/d/empty"]["empty_dir"])
        # The job was told, and so are people.
        told = self.content(one, "output/files/where.txt").decode().strip()
        self.assertTrue(told.endswith("/" + one["base"].rstrip("/")), told)
        self.assertEqual(self.result("make.staged"), told)
        self.assertEqual(self.instances()["make"]["attempts"][0]["staged"], told)
        (row,) = [row for row in self.jobc("report", "--json").json["rows"] if row[1] == "make"]
        self.assertEqual(row[4][0][8:], [told], "the page shows it with the attempt")

    def test_a_failed_attempt_leaves_its_logs_and_inputs(self):
        done = self.run_staged("""
job bad {
  input { data: File = "d.txt" }
  staging = "@PLACE@"
  run = ["sh", "-c", "cat $0; echo why >&2; echo '{}' > $JOB_RESULT; exit 3", input.data]
  retry { max_attempts = 2, on = [exit], backoff = constant(1ms) }
}
""", code=10)
        self.assertIn("staged:", done.err)
        found = self.manifests()
        self.assertEqual(sorted(found), [("bad", 1), ("bad", 2)])
        for one in found.values():
            self.assertEqual((one["success"], one["kind"], one["exit_code"]), (False, "exit", 3))
            self.assertEqual(self.content(one, "output/stdout.log"), b"data\n")
            self.assertEqual(self.content(one, "output/stderr.log"), b"why\n")
            self.assertEqual(self.content(one, "input/files/data/d.txt"), b"data\n")
        self.assertNotEqual(found["bad", 1]["base"], found["bad", 2]["base"])

    def test_scripts_that_need_files(self):
        self.run_staged("""
job a {
  staging = "@PLACE@"
  prologue = <<~SH
    echo before
  SH
  script = <<~PY
    print("in python")
  PY
}
""")
        one = self.manifests()["a", 1]
        self.assertEqual(self.content(one, "output/stdout.log"), b"before\nin python\n")
        scripts = [self.content(one, path) for path in one["rows"] if path.startswith("input/script/")]
        self.assertTrue(any(b'print("in python")' in text for text in scripts), scripts)

    def test_an_attempt_that_was_too_slow(self):
        self.run_staged('job slow { staging = "@PLACE@" run = ["sh", "-c", "echo so far; sleep 60"] timeout { run = 300ms } grace = 1s }', code=10)
        one = self.manifests()["slow", 1]
        self.assertEqual(one["kind"], "timeout")
        self.assertEqual(self.content(one, "output/stdout.log"), b"so far\n")

    def test_large_logs(self):
        self.run_staged('job loud { staging = "@PLACE@" run = ["sh", "-c", "seq 1 400000"] }')
        one = self.manifests()["loud", 1]
        self.assertEqual(self.content(one, "output/stdout.log"), b"".join(b"%d\n" % i for i in range(1, 400001)))
        self.assertEqual(list((self.at / ".jobc").glob("runs/*/laying/*")), [])

    def test_a_content_is_laid_down_once_in_a_run(self):
        self.write(b"same" * 1000, "d.txt")
        self.run_staged("""
job each {
  for i in range(3) key i
  input { data: File = "d.txt" }
  staging = "@PLACE@"
  run = ["cp", input.data, "copy.txt"]
  output { copy: File = "copy.txt" }
}
""", "--max-parallel", "1")
        found = self.manifests()
        self.assertEqual(len(found), 3)
        for one in found.values():
            self.assertEqual(self.content(one, "input/files/data/d.txt"), b"same" * 1000)
            self.assertEqual(self.content(one, "output/files/copy.txt"), b"same" * 1000)
        self.once(found)

    def test_secrets_stay_away(self):
        self.more["TOKEN"] = "sesame-open-now"
        done = self.run_staged("""
secret token = env("TOKEN")
job leak {
  staging = "@PLACE@"
  env { T = token }
  run = ["sh", "-c", "echo $T; echo $T > leaked.txt; echo fine > fine.txt"]
  output { leaked: File = "leaked.txt", fine: File = "fine.txt" }
}
""")
        self.assertIn("`output/files/leaked.txt` is not staged: it holds a secret", done.err)
        one = self.manifests()["leak", 1]
        self.assertEqual(one["rows"]["output/files/leaked.txt"]["withheld"], "it holds a secret")
        self.assertEqual(self.content(one, "output/files/fine.txt"), b"fine\n")
        for path, content in self.place.files().items():
            self.assertNotIn(b"sesame-open-now", content, path)

    def test_gc_takes_it_away_with_its_run(self):
        self.run_staged("limits { keep = 7d }" + MAKE)
        self.run_staged(MAKE)
        self.assertEqual(len(self.place.files()) > 10, True)
        self.assertIn("nothing to remove", self.jobc("gc").out)
        planned = self.jobc("gc", "--older-than", "0s", "--dry-run").out
        self.assertIn("staged", planned)
        self.assertEqual(len([path for path in self.place.files() if path.endswith("jobc-staged.json")]), 2)
        done = self.jobc("gc", "--older-than", "0s", "--json").json
        self.assertEqual(sorted(one["kind"] for one in done["removed"]), ["run", "run", "staged", "staged"])
        self.assertEqual(self.place.files(), {})
        self.assertEqual(list((self.at / ".jobc/runs").iterdir()), [])


class InAFolder(Common, Stages):
    def once(self, found):
        inodes = {os.stat(self.place.at / one["base"] / path).st_ino for one in found.values() for path in ("input/files/data/d.txt", "output/files/copy.txt")}
        self.assertLessEqual(len(inodes), 2)  # the first attempt has both
        self.assertNotIn(os.stat(self.at / "d.txt").st_ino, inodes)
        self.assertEqual({os.stat(self.place.at / one["base"] / "input/files/data/d.txt").st_mode & 0o777 for one in found.values()}, {0o444})

    def test_what_is_not_jobcs_stays(self):
        self.run_staged(MAKE)
        (one,) = self.manifests().values()
        (self.place.at / one["base"] / "jobc-staged.json").unlink()
        done = self.jobc("gc", "--older-than", "0s", code=15)
        self.assertSays(done.err, "nobody knows whose it is; it stays", "so the run stays")
        self.assertEqual((self.place.at / one["base"] / "output/stdout.log").read_bytes(), b"data\nin a dir\n")
        self.assertEqual(len(list((self.at / ".jobc/runs").iterdir())), 1)
        # Whoever removes it by hand can go on.
        shutil.rmtree(self.place.at / one["base"])
        (self.place.at / "a-make/mine.txt").write_text("of somebody else")
        self.jobc("gc", "--older-than", "0s")
        self.assertEqual(self.place.files(), {"a-make/mine.txt": b"of somebody else"})

    def test_places_that_cannot_be(self):
        def refused(place, *parts, more=""):
            done = self.run_job(more + f'job a {{ staging = "{place}" run = ["true"] }}', code=3)
            self.assertSays(done.err, "error[E604]: nothing can be staged at", *parts)
        self.write("x", "file")
        refused("file/below", "is no folder")
        refused(".jobc/kept", "it lies in the state directory")
        refused("in/kept", "it lies in the directory `in`, which the run reads", more='job b { run = ["ls", dir("in")] } ' if False else 'job b { input { d: Dir = "in" } run = ["ls", input.d] } ')
        refused("https://example.org/x", "neither a folder nor a bucket")
        refused("s3://", "it names no bucket")
        refused("s3://bucket/../x", "is no folder of a bucket")
        refused("s3://bucket/x", "there are no credentials for S3")
        self.assertNothingBegan()
        done = self.run_job('job a { staging = "gs://bucket/x" run = ["true"] }', code=14)
        self.assertIn("this version of jobc cannot write to `gs://`", done.err)

    def test_a_full_or_broken_place_fails_the_attempt(self):
        # It is a folder when the run is planned, and none any more when the attempt ends.
        done = self.run_staged("""
job breaks {
  staging = "@PLACE@"
  run = ["sh", "-c", "echo x > x.txt; echo in the way > %s/kept"]
  output { x: File = "x.txt" }
}
""" % self.at, code=10)
        self.assertSays(done.err, "the outputs could not be kept", "Not a directory")
        self.assertEqual(self.instances()["breaks"]["kind"], "staging")

    def test_a_failed_attempt_keeps_its_own_reason(self):
        done = self.run_staged("""
job breaks {
  staging = "@PLACE@"
  run = ["sh", "-c", "echo in the way > %s/kept; exit 3"]
}
""" % self.at, code=10)
        self.assertSays(done.err, "warning: breaks: what it left is not at its `staging`", "Not a directory")
        self.assertEqual(self.instances()["breaks"]["kind"], "exit")

    def test_finally_and_retries_of_other_runs_do_not_meet(self):
        text = 'job a { staging = "@PLACE@" run = ["true"] }\nfinally clean { staging = "@PLACE@" run = ["echo", "bye"] }'
        self.run_staged(text)
        self.run_staged(text)
        bases = [path for path in self.place.files() if path.endswith("jobc-staged.json")]
        self.assertEqual(len(bases), 4)
        self.assertEqual(len([path for path in bases if path.startswith("a-clean/")]), 2)

    def test_killed_while_the_attempt_runs(self):
        self.write(f'edition = 1\njob long {{ staging = "kept/here" run = ["sh", "-c", "echo on; if [ -e {self.flags}/begun ]; then exit 0; fi; touch {self.flags}/begun; sleep 60"] }}')
        process = self.start("run", "a.job")
        self.wait_for("begun")
        process.kill()
        process.wait()
        self.assertEqual(self.place.files(), {})
        self.jobc("resume")
        self.assertEqual(len(self.manifests()), 1)
        # The first attempt was told where it would lie, and nothing is there: no fault.
        self.jobc("gc", "--older-than", "0s")
        self.assertEqual(self.place.files(), {})


@unittest.skipUnless(ROOT, "permissions of another user are needed")
class AsNobody(Story):
    unprivileged = True

    def test_a_folder_that_cannot_be_written(self):
        closed = self.at / "closed"
        closed.mkdir(mode=0o755)
        os.chmod(closed, 0o555)
        done = self.run_job('job a { staging = "closed/x" run = ["true"] }', code=3)
        self.assertSays(done.err, "error[E604]", "nothing can be written to", "Permission denied")


class InABucket(Common, Stages):
    place_text = "s3://bucket/kept/here"

    def setUp(self):
        super().setUp()
        self.s3 = servers.S3Server()
        self.addCleanup(self.s3.stop)
        self.place = Bucket(self.s3, "kept/here/")
        self.more.update(self.s3.environment)

    def at_uri(self, uri):
        with self.s3.lock:
            return self.s3.objects[uri.removeprefix("s3://bucket/")]["content"]

    def once(self, found):
        sent = [one["key"] for one in self.s3.requests("PUT") if one["key"].endswith(("d.txt", "copy.txt"))]
        self.assertLessEqual(len(sent), 2)

    def test_remote_inputs_are_named_and_not_sent_again(self):
        self.s3.put("far.txt", b"far away\n")
        self.run_staged("""
job read {
  input { data: File = "s3://bucket/far.txt" }
  staging = "@PLACE@"
  run = ["cat", input.data]
}
""")
        one = self.manifests()["read", 1]
        self.assertEqual(one["rows"]["input/files/data/far.txt"], {"path": "input/files/data/far.txt", "uri": "s3://bucket/far.txt", "etag": servers.etag(b"far away\n")})
        self.assertEqual(self.content(one, "output/stdout.log"), b"far away\n")
        self.assertNotIn(one["base"] + "input/files/data/far.txt", self.place.files())

    def test_the_manifest_comes_first_and_last(self):
        self.run_staged(MAKE)
        keys = [one["key"] for one in self.s3.requests("PUT")]
        self.assertTrue(keys[0].endswith("jobc-staged.json"))
        self.assertTrue(keys[-1].endswith("jobc-staged.json"))
        self.assertGreater(len(keys), 8)

    def test_a_busy_server_is_waited_for(self):
        self.s3.fault(method="PUT", key="*", do="status", status=503, times=3)
        self.run_staged(MAKE)
        self.assertTrue(self.manifests()["make", 1]["complete"])

    def test_kinds_of_failures(self):
        text = """
job a {
  staging = "@PLACE@"
  run = ["sh", "-c", "echo x > x.txt"]
  output { x: File = "x.txt" }
}
"""
        self.s3.fault(method="PUT", key="*", do="status", status=403, code="AccessDenied")
        self.assertIn("does not let `TESTKEY`", self.run_staged(text, code=10).err)
        self.assertEqual(self.instances()["a"]["kind"], "auth")
        self.place_text = "s3://other/kept"
        self.assertIn("has no bucket `other`", self.run_staged(text, code=10).err)
        self.assertEqual(self.instances()["a"]["kind"], "staging")

    def test_timeout_collect_ends_it(self):
        self.s3.fault(method="PUT", key="*", do="hang", times=1000)
        done = self.run_staged("""
job a {
  staging = "@PLACE@"
  run = ["sh", "-c", "echo x > x.txt"]
  output { x: File = "x.txt" }
  timeout { collect = 500ms }
}
""", code=10)
        self.assertSays(done.err, "its outputs were not kept 500ms after its end")
        self.assertEqual(self.instances()["a"]["kind"], "staging")
        done = self.run_staged('job a { staging = "@PLACE@" run = ["false"] timeout { collect = 500ms } }', code=10)
        self.assertSays(done.err, "warning: a: what it left is not at its `staging`: it was not done after 500ms")
        self.assertEqual(self.instances()["a"]["kind"], "exit")

    def test_ctrl_c_does_not_wait_for_a_server(self):
        self.s3.fault(method="PUT", key="*", do="hang", times=1000)
        self.write('edition = 1\njob a { staging = "s3://bucket/kept/here" run = ["true"] }')
        process = self.start("run", "a.job")
        wait_until(lambda: self.s3.requests("PUT"), what="the upload")
        process.send_signal(signal.SIGINT)
        self.finish(process, code=130, timeout=20)

    def test_killed_while_it_is_laid_down(self):
        self.s3.fault(method="PUT", key="*", do="hang", times=1000)
        self.write('edition = 1\njob a { staging = "s3://bucket/kept/here" run = ["echo", "x"] }')
        process = self.start("run", "a.job")
        wait_until(lambda: self.s3.requests("PUT"), what="the upload")
        process.kill()
        process.wait()
        with self.s3.lock:
            self.s3.faults.clear()
        self.jobc("resume")
        # The verdict was not committed, so it ran again, and lies there as another attempt.
        self.assertEqual(self.instances()["a"]["state"], "succeeded")
        (one,) = self.manifests().values()
        self.assertTrue(one["complete"])
        self.jobc("gc", "--older-than", "0s")
        self.assertEqual(self.place.files(), {})

    def test_gc_without_the_server_keeps_the_run(self):
        self.run_staged(MAKE)
        self.more["JOBC_S3_ENDPOINT"] = "http://127.0.0.1:1"
        done = self.jobc("gc", "--older-than", "0s", code=15)
        self.assertSays(done.err, "so the run stays")
        self.more.update(self.s3.environment)
        self.s3.put("kept/here/a-make/mine.txt", b"of somebody else")
        self.jobc("gc", "--older-than", "0s")
        self.assertEqual(self.place.files(), {"a-make/mine.txt": b"of somebody else"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
