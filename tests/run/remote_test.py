"""Remote inputs and publishing to a bucket, against servers of the tests' own that fail when they are told to."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "storage"))
import servers  # noqa: E402
from story import SANITIZED, Story, wait_until  # noqa: E402

READ = """
job read {
  input { data: File = "@URI@" }
  run = ["cat", input.data]
  output { text: String = stdout() }
}
export { text: String = read.text }
"""


class Remote(Story):
    def setUp(self):
        super().setUp()
        self.s3 = servers.S3Server()
        self.addCleanup(self.s3.stop)
        self.more = {}

    def environment(self, **more):
        return super().environment(**{**self.s3.environment, **self.more, **more})

    def read(self, uri="s3://bucket/dir/data.txt", *arguments, text=READ, **options):
        return self.run_job(text.replace("@URI@", uri), *arguments, **options)

    def gets(self, key="dir/data.txt"):
        return len(self.s3.requests("GET", key))

    def failure(self):
        """Kind and message of the failed instance `read`."""
        one = self.instances()["read"]
        return one["kind"], one["message"]


class Inputs(Remote):
    def test_an_object_is_fetched_once_and_used_by_all(self):
        self.s3.put("dir/data.txt", b"far away\n")
        done = self.run_job("""
job read {
  for i in range(8) key i
  input { data: File = "s3://bucket/dir/data.txt" }
  run = ["cat", input.data]
  output { text: String = stdout() }
}
export { texts: List<String> = read[*].text }
""")
        self.assertEqual(done.json, {"texts": ["far away\n"] * 8})
        self.assertEqual(self.gets(), 1)

    def test_a_later_run_does_not_fetch_it_again(self):
        self.s3.put("dir/data.txt", b"one\n")
        self.assertEqual(self.read().json, {"text": "one\n"})
        self.assertEqual(self.read().json, {"text": "one\n"})
        self.assertEqual(self.gets(), 1)
        self.s3.put("dir/data.txt", b"two\n")
        self.assertEqual(self.read().json, {"text": "two\n"})
        self.assertEqual(self.gets(), 2)

    def test_resume_uses_results_of_an_unchanged_object(self):
        self.s3.put("dir/data.txt", b"one\n")
        self.read()
        self.assertIn("1 reused", self.read("s3://bucket/dir/data.txt", "--resume").err)
        self.s3.put("dir/data.txt", b"two\n")
        self.assertEqual(self.read("s3://bucket/dir/data.txt", "--resume").json, {"text": "two\n"})

    def test_a_content_that_was_changed_in_the_store_is_not_used(self):
        self.s3.put("dir/data.txt", b"right\n")
        self.read()
        (content,) = (self.at / ".jobc" / "store" / "content").glob("*/*")
        content.chmod(0o644)
        content.write_bytes(b"wrong\n")
        self.assertEqual(self.read().json, {"text": "right\n"})

    def test_a_cut_connection_goes_on(self):
        content = servers.pattern(300_000).hex().encode()
        self.s3.put("dir/data.txt", content)
        self.s3.fault(key="dir/data.txt", do="cut", after=100_000)
        self.assertEqual(self.run_job(READ.replace("@URI@", "s3://bucket/dir/data.txt").replace("stdout()", 'sha256(input.data)')).json,
                         {"text": servers.hashlib.sha256(content).hexdigest()})
        ranges = [one["range"] for one in self.s3.requests("GET", "dir/data.txt")]
        self.assertEqual(ranges[0], None)
        self.assertRegex(ranges[1], r"^bytes=100000-")

    def test_an_object_that_vanishes(self):
        self.s3.put("dir/data.txt", b"x")
        self.s3.fault(method="GET", key="dir/data.txt", do="forget")
        done = self.read(code=10)
        self.assertSays(done.err, "`s3://bucket/dir/data.txt` is not there (404 NoSuchKey")
        self.assertEqual(self.failure()[0], "staging")
        self.assertEqual(self.gets(), 1)

    def test_an_object_that_changes_under_the_run(self):
        self.s3.put("dir/data.txt", b"old\n")
        self.s3.fault(method="GET", key="dir/data.txt", do="change", text="new\n")
        done = self.read(code=10)
        self.assertSays(done.err, "was changed since it was looked at", "run `jobc plan` or `jobc run` again")

    def test_a_plan_whose_object_was_changed_is_refused(self):
        self.s3.put("dir/data.txt", b"old\n")
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt"))
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.assertEqual(self.jobc("run", "plan.json").json, {"text": "old\n"})
        self.s3.put("dir/data.txt", b"newer\n")
        done = self.jobc("run", "plan.json", code=3)
        self.assertSays(done.err, "the plan no longer fits its files", "it had 4 bytes and has 6 now", "jobc plan FILE -o plan.json")

    def test_what_cannot_be_had_is_said_before_anything_runs(self):
        done = self.read(code=3)
        self.assertSays(done.err, "error[E703]: the file `s3://bucket/dir/data.txt` does not exist", "a.job:4:24", "needed before anything runs")
        self.assertNothingBegan()
        self.more = {"AWS_ACCESS_KEY_ID": "OTHER"}
        self.assertSays(self.read(code=3).err, "error[E703]: the file `s3://bucket/dir/data.txt` cannot be asked for", "does not know the access key `OTHER` (from AWS_ACCESS_KEY_ID)", "set AWS_ACCESS_KEY_ID")
        self.more = {"JOBC_S3_ENDPOINT": "http://127.0.0.1:1"}
        self.assertSays(self.read(code=3).err, "error[E703]", "look at the endpoint")

    def test_what_is_wrong_is_said_before_anything_runs(self):
        self.s3.put("dir/data.txt", b"x")
        self.assertSays(self.read("s3://nobody/data.txt", code=3).err, "has no bucket `nobody` (404 NoSuchBucket); look at its name, and at the server")
        self.more = {"AWS_REGION": "eu-west-1"}
        self.assertSays(self.read(code=3).err, "is not in the region `eu-west-1` (400 AuthorizationHeaderMalformed); set AWS_REGION")
        self.more = {}
        for method in ("HEAD", "GET"):
            self.s3.fault(method=method, key="dir/data.txt", do="status", status=301, code="PermanentRedirect", region="eu-central-1")
        self.assertSays(self.read(code=3).err, "is not in the region `us-east-1` (301 PermanentRedirect); set AWS_REGION=eu-central-1")
        self.assertNothingBegan()

    def test_a_clock_that_is_wrong(self):
        self.s3.put("dir/data.txt", b"x")
        self.s3.clock = 20 * 60
        self.assertSays(self.read(code=3).err, "the clock of this machine is 20 minutes behind that of the server", "timedatectl set-ntp true")
        self.s3.clock = -3 * 3600
        self.assertSays(self.read(code=3).err, "the clock of this machine is 180 minutes ahead of that of the server")

    def test_check_asks_nobody(self):
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt"))
        self.jobc("check", "a.job")
        self.assertEqual(self.s3.requests(), [])

    def test_wrong_credentials(self):
        self.s3.put("dir/data.txt", b"x")
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt"))
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.more = {"AWS_SECRET_ACCESS_KEY": "topsecretwrong"}
        done = self.jobc("run", "plan.json", code=3)
        self.assertSays(done.err, "s3://bucket/dir/data.txt", "the secret key for `TESTKEY` (from AWS_ACCESS_KEY_ID) is wrong; set AWS_SECRET_ACCESS_KEY")
        self.assertNotIn("topsecretwrong", done.err)
        self.more = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        done = self.jobc("run", "plan.json", code=3)
        self.assertSays(done.err, "there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")

    def test_credentials_that_end_before_the_fetch(self):
        self.s3.put("dir/data.txt", b"x")
        self.s3.fault(method="GET", key="dir/data.txt", do="status", status=403, code="ExpiredToken")
        done = self.read(code=10)
        self.assertSays(done.err, "the session token is no longer good")
        self.assertEqual(self.failure()[0], "auth")

    def test_a_busy_server_is_waited_for(self):
        self.s3.put("dir/data.txt", b"x\n")
        self.s3.fault(method="GET", key="dir/data.txt", do="status", status=503, times=2)
        self.assertEqual(self.read().json, {"text": "x\n"})
        self.assertEqual(self.gets(), 3)

    def test_a_server_that_never_answers_ends_with_timeout_stage(self):
        self.s3.put("dir/data.txt", b"x")
        self.s3.fault(method="GET", key="dir/data.txt", do="hang")
        done = self.read(text=READ.replace("run =", "timeout { stage = 300ms, run = 1h }\n  run ="), code=10)
        self.assertSays(done.err, "the input `s3://bucket/dir/data.txt` is not here after 300ms", "timeout { stage = … }")
        self.assertEqual(self.failure()[0], "staging")

    def test_a_run_that_stages_can_be_cancelled(self):
        self.s3.put("dir/data.txt", b"x")
        self.s3.fault(method="GET", key="dir/data.txt", do="hang")
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt"))
        process = self.start("run", "a.job", "--json")
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "staging":
                self.assertEqual(event["text"], "`s3://bucket/dir/data.txt`")
                break
        self.jobc("cancel")
        self.finish(process, "run", code=130)
        self.assertEqual(self.states(), {"read": "cancelled"})

    def test_a_run_that_is_killed_while_it_stages_goes_on(self):
        self.s3.put("dir/data.txt", b"in the end\n")
        self.s3.fault(method="GET", key="dir/data.txt", do="hang")
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt"))
        process = self.start("run", "a.job", "--json")
        for line in process.stdout:
            if json.loads(line)["event"] == "staging":
                break
        wait_until(lambda: self.gets() == 1, what="the fetch that hangs")
        process.kill()
        process.wait()
        self.assertEqual(self.jobc("resume").json, {"text": "in the end\n"})

    BIG = 'sha256(input.data)'

    def cut_by_a_kill(self, size, after):
        """A run that is killed when `after` bytes of a large object are there; the sha256 of the object."""
        content = servers.pattern(size)
        self.s3.put("dir/data.txt", content)
        self.s3.fault(key="dir/data.txt", do="stall", after=after)
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt").replace("stdout()", self.BIG).replace('"cat"', '"test", "-e"'))
        process = self.start("run", "a.job")
        parts = self.at / ".jobc" / "store" / "part"
        wait_until(lambda: any(path.stat().st_size >= after for path in parts.glob("*") if not path.name.endswith(".had")), what="the bytes before the cut")
        process.kill()
        process.wait()
        return servers.hashlib.sha256(content).hexdigest()

    def test_what_a_killed_run_had_is_not_fetched_again(self):
        sha256 = self.cut_by_a_kill(3_000_000, 2_000_000)
        self.assertEqual(self.jobc("resume").json, {"text": sha256})
        self.assertLess(self.s3.sent, 3_000_000 + 300_000)
        self.assertEqual(list((self.at / ".jobc" / "store" / "part").iterdir()), [])

    def test_another_run_goes_on_with_it(self):
        sha256 = self.cut_by_a_kill(3_000_000, 2_000_000)
        self.assertEqual(self.jobc("run", "a.job").json, {"text": sha256})
        self.assertLess(self.s3.sent, 3_000_000 + 300_000)

    def test_no_run_goes_on_with_what_changed_meanwhile(self):
        self.cut_by_a_kill(3_000_000, 2_000_000)
        content = b"x" * 3_000_000
        self.s3.put("dir/data.txt", content)
        self.assertEqual(self.jobc("run", "a.job").json, {"text": servers.hashlib.sha256(content).hexdigest()})

    def test_a_failed_run_leaves_what_it_has(self):
        content = servers.pattern(3_000_000)
        self.s3.put("dir/data.txt", content)
        self.s3.fault(key="dir/data.txt", do="cut", after=2_000_000)
        self.s3.fault(key="dir/data.txt", do="status", status=403, code="ExpiredToken")
        text = READ.replace("stdout()", self.BIG).replace('"cat"', '"test", "-e"')
        self.read(text=text, code=10)
        self.assertEqual(self.read(text=text).json, {"text": servers.hashlib.sha256(content).hexdigest()})
        self.assertEqual(self.s3.sent, 3_000_000)

    def test_memory_does_not_grow_with_sizes(self):
        size = 160 << 20
        most = size if SANITIZED else 64 << 20  # a sanitizer keeps what was freed for a while
        self.s3.put("dir/data.txt", servers.pattern(size))
        self.write(f'''edition = 1
job copy {{
  input {{ data: File = "s3://bucket/dir/data.txt" }}
  script = <<~SH
    cp ~{{input.data}} copy
    touch {self.flags}/here
    until [ -e {self.flags}/go ]; do sleep 0.02; done
  SH
  output {{ copy: File = "copy" }}
}}
publish "s3://bucket/out" {{ "copy" = copy.copy }}
''')
        self.s3.fault(method="PUT", key="out/jobc-manifest.json", do="hang")
        process = self.start("run", "a.job")

        def peak():
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) << 10

        self.wait_for("here", 60)
        self.assertLess(peak(), most)
        self.flag("go").touch()
        wait_until(lambda: self.s3.requests("PUT", "out/jobc-manifest.json"), what="the whole object", seconds=60)
        self.assertLess(peak(), most)
        self.assertEqual(len(self.s3.objects["out/copy"]["content"]), size)
        self.jobc("cancel")
        process.communicate()

    def test_a_full_disk_below_the_store(self):
        self.s3.put("dir/data.txt", servers.pattern(4_000_000))
        self.write("edition = 1\n" + READ.replace("@URI@", "s3://bucket/dir/data.txt").replace('"cat"', '"test", "-e"'))
        disk = self.base / "disk"
        disk.mkdir()
        script = f'mount -t tmpfs -o size=2m,mode=777 tmpfs "{disk}" || exit 77; mkdir .jobc; ln -s "{disk}" .jobc/store; "{self.program}" run a.job; code=$?; du -s "{disk}" >&2; exit $code'
        done = subprocess.run(["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script], cwd=self.at, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode == 77 or "unshare" in done.stderr:
            self.skipTest("no mount for this user here")
        self.assertEqual(done.returncode, 10, done.stderr)
        self.assertSays(done.stderr, "cannot write `", "No space left on device; make room, or name another state directory with `--state DIR`")
        self.assertEqual(self.failure()[0], "staging")
        self.assertLess(int(done.stderr.strip().splitlines()[-1].split()[0]), 100, "the disk is as free as it was")

    def test_its_size_is_known_before_it_is_here(self):
        self.s3.put("dir/data.txt", b"x" * 5000)
        done = self.read(text=READ.replace("run =", 'resources { memory = 64MiB + 2 * size(input.data) }\n  run =').replace('["cat", input.data]', '["echo", "~{resources.memory}"]'))
        self.assertEqual(done.json, {"text": f"{(64 << 20) + 10000}\n"})

    def test_an_object_whose_name_a_job_gives(self):
        self.s3.put("dir/data.txt", b"found\n")
        done = self.run_job("""
job find {
  run = ["sh", "-c", "printf '{\\"uri\\":\\"s3://bucket/dir/data.txt\\"}' > $JOB_RESULT"]
  output { uri: File }
}
job read {
  input { data: File = find.uri }
  run = ["cat", input.data]
  output { text: String = stdout() }
}
export { text: String = read.text }
""")
        self.assertEqual(done.json, {"text": "found\n"})


LIST = """
job list {
  input { data: Dir = "s3://bucket/dir/" }
  run = ["sh", "-c", "cd $0 && find . -type f | sort | xargs -n 1 sh -c 'echo $0; cat $0'", input.data]
  output { text: String = stdout() }
}
export { text: String = list.text }
"""


class Directories(Remote):
    TEXT = "./a.txt\nA\n./sub/b.txt\nB\n"

    def fill_two(self):
        self.s3.put("dir/a.txt", b"A\n")
        self.s3.put("dir/sub/b.txt", b"B\n")

    def test_it_is_a_tree_of_files(self):
        self.fill_two()
        self.s3.put("dirt", b"no part of it")
        self.assertEqual(self.run_job(LIST).json, {"text": self.TEXT})
        listed = [one for one in self.s3.requests("GET", "")]
        self.assertEqual(len(listed), 2)  # for the plan, and for the run

    def test_a_slash_at_the_end_may_be_left_out(self):
        self.fill_two()
        self.assertEqual(self.run_job(LIST.replace("s3://bucket/dir/", "s3://bucket/dir")).json, {"text": self.TEXT})

    def test_many_pages(self):
        self.s3.page = 7
        for i in range(100):
            self.s3.put(f"dir/{i % 10}/a b+&é{i}", b"%d\n" % i)
        text = LIST.replace("xargs -n 1 sh -c 'echo $0; cat $0'", "wc -l")
        self.assertEqual(self.run_job(text).json["text"].strip(), "100")

    def test_a_later_run_fetches_only_what_is_new(self):
        self.fill_two()
        self.run_job(LIST)
        self.run_job(LIST)
        self.assertEqual((self.gets("dir/a.txt"), self.gets("dir/sub/b.txt")), (1, 1))
        self.s3.put("dir/sub/b.txt", b"new\n")
        self.assertEqual(self.run_job(LIST).json, {"text": self.TEXT.replace("B\n", "new\n")})
        self.assertEqual((self.gets("dir/a.txt"), self.gets("dir/sub/b.txt")), (1, 2))

    def test_results_are_used_again_while_nothing_changed(self):
        self.fill_two()
        self.run_job(LIST)
        self.assertIn("1 reused", self.run_job(LIST, "--resume").err)
        self.s3.put("dir/more.txt", b"more\n")
        self.assertEqual(self.run_job(LIST, "--resume").json, {"text": "./a.txt\nA\n./more.txt\nmore\n./sub/b.txt\nB\n"})

    def test_many_attempts_share_it(self):
        self.fill_two()
        self.run_job(LIST.replace("job list {", "job list {\n  for i in range(5) key i").replace("String = list.text", "List<String> = list[*].text"))
        self.assertEqual(self.gets("dir/a.txt"), 1)

    def test_a_tree_that_was_changed_in_the_store_is_not_used(self):
        self.fill_two()
        self.run_job(LIST)
        (tree,) = (self.at / ".jobc/store/tree").glob("*/dir")
        self.assertEqual(tree.stat().st_mode & 0o777, 0o555)
        os.chmod(tree, 0o755)
        (tree / "a.txt").unlink()
        self.assertEqual(self.run_job(LIST).json, {"text": self.TEXT})

    def test_a_plan_whose_directory_was_changed_is_refused(self):
        self.fill_two()
        self.write("edition = 1\n" + LIST)
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.assertEqual(self.jobc("run", "plan.json").json, {"text": self.TEXT})
        self.s3.put("dir/c", b"one more")
        self.assertSays(self.jobc("run", "plan.json", code=3).err, "the plan no longer fits its files", "`s3://bucket/dir/` is not what it was when the plan was made: other objects lie there now")

    def test_a_directory_that_changes_under_the_run(self):
        self.fill_two()
        self.s3.fault(method="GET", key="dir/a.txt", do="change", text="later\n")
        self.assertSays(self.run_job(LIST, code=10).err, "`s3://bucket/dir/a.txt` was changed since it was looked at")
        self.assertEqual(self.instances()["list"]["kind"], "staging")

    def test_what_cannot_be_a_directory(self):
        done = self.run_job(LIST, code=3)
        self.assertSays(done.err, "error[E703]: the directory `s3://bucket/dir/` does not exist")
        for key, why in (("dir/a/../b", "would lead somewhere else"), ("dir//b", "a part without a name"), ("dir/x", "is an object too")):
            self.s3.objects.clear()
            self.s3.put(key, b"x")
            self.s3.put("dir/x/y", b"x")
            done = self.run_job(LIST, code=3)
            self.assertSays(done.err, "error[E703]", "cannot be a directory here", f"`{key if key != 'dir/x' else 'dir/x/y'}`", why)
        self.assertSays(self.run_job(LIST.replace("s3://bucket/dir/", "https://example.org/dir/"), code=3).err, "error[E603]", "do not say what one holds", "s3://BUCKET/FOLDER/")
        self.assertSays(self.run_job(READ.replace("@URI@", "s3://bucket/dir/"), code=3).err, "is a directory: its type is Dir")
        self.assertNothingBegan()

    def test_a_published_directory_comes_back(self):
        self.run_job(Publishing.MAKE.replace("@TO@", "s3://bucket/out"))
        self.assertEqual(self.run_job(LIST.replace("s3://bucket/dir/", "s3://bucket/out/all/")).json, {"text": "./0.txt\n0\n./more.txt\nmore\n"})

    def test_gc_removes_it(self):
        self.fill_two()
        self.run_job(LIST)
        self.jobc("gc", "--older-than", "0s")
        store = self.at / ".jobc/store"
        self.assertEqual([path for path in store.rglob("*") if path.is_file()], [])
        self.assertEqual(self.run_job(LIST).json, {"text": self.TEXT})

    def test_staging_names_it(self):
        self.fill_two()
        self.run_job(LIST.replace("run =", 'staging = "kept"\n  run ='))
        (manifest,) = (self.at / "kept").rglob("jobc-staged.json")
        rows = {row["path"]: row for row in json.loads(manifest.read_text())["files"]}
        self.assertEqual(rows["input/files/data/dir"]["uri"], "s3://bucket/dir/")
        self.assertTrue(rows["input/files/data/dir"]["etag"].startswith('"tree-'))


class Https(Remote):
    def setUp(self):
        super().setUp()
        self.https = servers.HttpsServer(self.base)
        self.addCleanup(self.https.stop)
        self.more = self.https.environment
        self.https.files["data.txt"] = b"by https\n"

    def test_an_input(self):
        self.assertEqual(self.read(self.https.url("data.txt")).json, {"text": "by https\n"})
        self.assertEqual(self.read(self.https.url("data.txt")).json, {"text": "by https\n"})
        self.assertEqual(len(self.https.requests("GET", "data.txt")), 1)

    def test_a_server_without_etags_is_asked_in_each_run(self):
        self.https.etags = False
        done = self.read(self.https.url("data.txt"))
        self.assertEqual(done.json, {"text": "by https\n"})
        self.assertSays(done.err, "warning[W903]", "a.job:4:24", "fetched anew in each run")
        self.https.files["data.txt"] = b"other\n"
        self.assertEqual(self.read(self.https.url("data.txt")).json, {"text": "other\n"})

        self.jobc("plan", "a.job", "-o", "plan.json")
        self.assertSays(self.jobc("run", "plan.json", code=3).err, "has no etag in the plan", "run the source instead of the plan")

    def test_a_signed_address_is_not_shown(self):
        done = self.read(self.https.url("data.txt?X-Amz-Signature=geheim"), "--json")
        self.assertIn('"event":"staging"', done.out)
        self.assertNotIn("geheim", done.out)
        self.https.fault(key="data.txt", do="status", status=403)
        self.https.files["data.txt"] = b"again\n"
        self.assertNotIn("geheim", self.read(self.https.url("data.txt?X-Amz-Signature=geheim"), code=10).err.replace("a.job", ""))

    def test_an_etag_is_enough(self):
        self.assertNotIn("W903", self.read(self.https.url("data.txt")).err)

    def test_a_server_that_does_not_know_head(self):
        self.https.heads = False
        self.assertEqual(self.read(self.https.url("data.txt")).json, {"text": "by https\n"})

    def test_a_cut_without_etag_begins_anew(self):
        self.https.etags = False
        self.https.fault(key="data.txt", do="cut", after=3)
        self.assertEqual(self.read(self.https.url("data.txt")).json, {"text": "by https\n"})

    def test_a_certificate_that_nobody_knows(self):
        self.write("edition = 1\n" + READ.replace("@URI@", self.https.url("data.txt")))
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.more = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
        self.assertSays(self.jobc("run", "plan.json", code=3).err, "an own authority is given in SSL_CERT_FILE")


class Publishing(Remote):
    MAKE = """
job make { for i in range(3) key i
  run = ["sh", "-c", "mkdir d; echo ~{i} | tee ~{i}.txt > d/~{i}.txt; echo more > d/more.txt"]
  output { dir: Dir = "d", file: File = "~{i}.txt" } }
publish "@TO@" { prune = true
  "files/" = make[*].file, "all" = make[0].dir }
"""

    def manifest(self, key="out/jobc-manifest.json"):
        return json.loads(self.s3.objects[key]["content"])

    def test_objects_and_then_the_manifest(self):
        self.run_job(self.MAKE.replace("@TO@", "s3://bucket/out"))
        self.assertEqual({key: one["content"] for key, one in self.s3.objects.items() if not key.endswith(".json")},
                         {"out/files/0.txt": b"0\n", "out/files/1.txt": b"1\n", "out/files/2.txt": b"2\n", "out/all/0.txt": b"0\n", "out/all/more.txt": b"more\n"})
        self.assertEqual(self.s3.requests("PUT")[-1]["key"], "out/jobc-manifest.json")
        for row in self.manifest()["files"]:
            content = self.s3.objects["out/" + row["path"]]["content"]
            self.assertEqual((row["size"], row["sha256"]), (len(content), servers.hashlib.sha256(content).hexdigest()))

    def test_what_is_no_longer_made_is_removed(self):
        self.run_job(self.MAKE.replace("@TO@", "s3://bucket/out"))
        self.s3.put("out/mine.txt", b"not of the manifest")
        self.run_job(self.MAKE.replace("@TO@", "s3://bucket/out").replace("range(3)", "range(2)"))
        self.assertNotIn("out/files/2.txt", self.s3.objects)
        self.assertIn("out/mine.txt", self.s3.objects)

    def test_the_command_line_names_another_place(self):
        self.run_job(self.MAKE.replace("@TO@", "results"), "--publish-to", "s3://bucket/elsewhere/")
        self.assertIn("elsewhere/jobc-manifest.json", self.s3.objects)
        self.assertFalse((self.at / "results").exists())

    def test_a_publication_that_fails_leaves_the_manifest(self):
        self.run_job(self.MAKE.replace("@TO@", "s3://bucket/out"))
        before = self.manifest()
        self.s3.fault(method="PUT", key="out/files/1.txt", do="status", status=403, code="AccessDenied")
        done = self.run_job(self.MAKE.replace("@TO@", "s3://bucket/out"), code=10)
        self.assertSays(done.err, 'publish "s3://bucket/out"', "s3://bucket/out/files/1.txt", "the manifest there is still the old one")
        self.assertEqual(self.manifest(), before)

    def test_an_interrupt_ends_it(self):
        self.s3.fault(method="PUT", key="out/files/1.txt", do="hang")
        self.write("edition = 1\n" + self.MAKE.replace("@TO@", "s3://bucket/out"))
        process = self.start("run", "a.job", "--json")
        wait_until(lambda: any(one["key"] == "out/files/1.txt" for one in self.s3.requests("PUT")), what="the object that hangs")
        self.jobc("cancel")
        self.assertSays(self.finish(process, "run", code=130).out, "interrupted")
        self.assertNotIn("out/jobc-manifest.json", self.s3.objects)

    def test_an_upload_that_was_killed_goes_on(self):
        size = (64 << 20) + 1
        self.s3.fault(method="PUT", key="out/big", do="hang", query="partNumber=3&")
        self.write(f'''edition = 1
job make {{ run = ["truncate", "-s", "{size}", "big"] output {{ big: File = "big" }} }}
publish "s3://bucket/out" {{ "big" = make.big }}
''')
        process = self.start("run", "a.job")
        wait_until(lambda: any(len(upload["parts"]) == 4 for upload in self.s3.uploads.values()), what="all parts but one", seconds=60)
        process.kill()
        process.wait()
        self.jobc("resume", timeout=120)
        self.assertEqual(len(self.s3.objects["out/big"]["content"]), size)
        sent = sorted(one["query"].split("&")[0] for one in self.s3.requests("PUT", "out/big"))
        self.assertLessEqual(len(sent), 7, sent)
        self.assertEqual(sent.count("partNumber=1"), 1)
        self.assertEqual(self.s3.begun, 1)
        self.assertEqual(self.s3.uploads, {})
        self.assertEqual(list((self.at / ".jobc" / "store" / "upload").iterdir()), [])

    def test_no_such_bucket(self):
        self.assertSays(self.run_job(self.MAKE.replace("@TO@", "s3://nobody/out"), code=10).err, "has no bucket `nobody`")


if __name__ == "__main__":
    unittest.main()
