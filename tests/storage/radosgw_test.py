"""The same against a server that nobody wrote for these tests: Ceph's radosgw, where it is installed."""
import hashlib
import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "run"))
import radosgw  # noqa: E402
from story import Story  # noqa: E402

_server = None


def setUpModule():
    global _server
    try:
        _server = radosgw.Radosgw(tempfile.mkdtemp(prefix="jobc-rgw-"))
    except radosgw.Missing as missing:
        raise unittest.SkipTest(str(missing))
    unittest.addModuleCleanup(_server.stop)
    _server.start()
    _server.curl("PUT", "/bucket")


class Gateway(Story):
    def environment(self, **more):
        return super().environment(**{**_server.environment, **more})

    def put(self, key, content):
        path = self.base / "content"
        path.write_bytes(content)
        _server.curl("PUT", f"/bucket/{key}", "-H", "Content-Type: application/octet-stream", "--data-binary", f"@{path}")

    def test_there_and_back(self):
        """200 MiB in parts up, in parts down, and what comes is what went."""
        size = 200 << 20
        self.run_job(f"""
job make {{ run = ["sh", "-c", "head -c {size} /dev/urandom > big; sha256sum < big | cut -c1-64"]
  output {{ big: File = "big", sha: String = trim(stdout()) }} }}
publish "s3://bucket/there" {{ "big file+é.bin" = make.big }}
export {{ sha: String = make.sha }}
""")
        manifest = json.loads(_server.curl("GET", "/bucket/there/jobc-manifest.json"))
        self.assertEqual([row["size"] for row in manifest["files"]], [size])
        done = self.run_job("""
job read { input { big: File = "s3://bucket/there/big file+é.bin" }
  run = ["sh", "-c", "cat \\"$JOB_INPUT/big/\\"* | sha256sum | cut -c1-64"]
  output { sha: String = trim(stdout()) } }
export { sha: String = read.sha }
""")
        self.assertEqual(done.json["sha"], manifest["files"][0]["sha256"])

    def test_many_small_ones(self):
        self.run_job("""
job make { run = ["sh", "-c", "mkdir d; for i in $(seq 500); do echo $i > d/$i; done"] output { dir: Dir = "d" } }
publish "s3://bucket/small" { "all" = make.dir }
""")
        uris = ", ".join(f'"s3://bucket/small/all/{i}"' for i in range(1, 501))
        done = self.run_job(f"""
job sum {{ input {{ files: List<File> = [{uris}] }}
  run = ["sh", "-c", "cat $JOB_INPUT/files/*/* | awk '{{s+=$1}} END {{print s}}'"]
  output {{ sum: String = trim(stdout()) }} }}
export {{ sum: String = sum.sum }}
""")
        self.assertEqual(done.json["sum"], str(500 * 501 // 2))

    def test_a_directory_comes_and_an_attempt_stays(self):
        """More objects than a page of a list has, names that have to be encoded, and all of it gone at the end."""
        self.run_job("""
job make { run = ["sh", "-c", "mkdir d d/sub; for i in $(seq 1200); do echo $i > \\"d/sub/a b+é$i\\"; done; echo last > d/z"] output { dir: Dir = "d" } }
publish "s3://bucket/tree" { "all" = make.dir }
""")
        text = """
job sum { input { data: Dir = "s3://bucket/tree/all" }
  staging = "s3://bucket/kept"
  run = ["sh", "-c", "cat $JOB_INPUT/data/all/sub/* | awk '{s+=$1} END {print s}'; cat $JOB_INPUT/data/all/z > z"]
  output { sum: String = trim(stdout()), z: File = "z" } }
export { sum: String = sum.sum }
"""
        self.assertEqual(self.run_job(text).json["sum"], str(1200 * 1201 // 2))
        base = self.result("sum.staged").removeprefix("s3:/")
        manifest = json.loads(_server.curl("GET", f"{base}/jobc-staged.json"))
        self.assertTrue(manifest["complete"])
        self.assertEqual(_server.curl("GET", f"{base}/output/files/z"), b"last\n")
        self.put("tree/all/more", b"x")
        self.assertEqual(self.run_job(text).json["sum"], str(1200 * 1201 // 2))
        removed = self.jobc("gc", "--older-than", "0s", "--json").json["removed"]
        self.assertEqual(sorted(one["kind"] for one in removed if one["kind"] in ("run", "staged")), ["run"] * 3 + ["staged"] * 2)
        self.write('edition = 1\njob a { input { kept: Dir = "s3://bucket/kept" } run = ["ls", input.kept] }\n')
        self.assertSays(self.jobc("plan", "a.job", code=3).err, "the directory `s3://bucket/kept/` does not exist")

    def test_a_changed_object(self):
        self.put("changing", b"old\n")
        self.write('edition = 1\njob read { input { data: File = "s3://bucket/changing" } run = ["cat", input.data] output { text: String = stdout() } }\n')
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.put("changing", b"newer\n")
        self.assertSays(self.jobc("run", "plan.json", code=3).err, "it had 4 bytes and has 6 now")

    def test_what_is_not_there_or_not_allowed(self):
        self.write('edition = 1\njob read { input { data: File = "s3://bucket/none" } run = ["cat", input.data] }\n')
        self.assertSays(self.jobc("run", "a.job", code=3).err, "the file `s3://bucket/none` does not exist")
        self.put("there", b"x")
        self.write('edition = 1\njob read { input { data: File = "s3://bucket/there" } run = ["cat", input.data] }\n')
        self.assertSays(self.jobc("run", "a.job", code=3, env={"AWS_SECRET_ACCESS_KEY": "wrong"}).err, "the secret key for `JOBCKEY` (from AWS_ACCESS_KEY_ID) is wrong; set AWS_SECRET_ACCESS_KEY")


if __name__ == "__main__":
    unittest.main()
