"""The run contract as a job sees it: directories, environment, inputs, secrets, results, what is kept and what is published."""
import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import unittest

from story import ROOT, Story


class Places(Story):
    def test_the_working_directory_is_the_output_directory(self):
        self.run_job("""
job a { script = <<~SH
  [ "$(pwd -P)" = "$(cd "$JOB_OUTPUT" && pwd -P)" ]
  [ -z "$(ls -A)" ]
  echo x > here.txt; echo dropped > other.txt
SH
output { f: File = "here.txt" } }
job b { script = <<~SH
  [ "$(ls -A)" = x ] && [ "$(ls -A x)" = y ] && [ -z "$(ls -A x/y)" ]
  echo ~{output.deep} > ~{output.deep}
SH
output { deep: File = "x/y/z.txt" } }
export { f: File = a.f, deep: File = b.deep }
""")
        result = self.result()
        self.assertEqual(pathlib.Path(result["f"]).read_text(), "x\n")
        written = pathlib.Path(result["deep"]).read_text().strip()
        self.assertTrue(written.startswith("/") and written.endswith("/x/y/z.txt"), written)
        kept = [path.name for path in (self.at / ".jobc").rglob("*.txt")]
        self.assertEqual(sorted(kept), ["here.txt", "z.txt"], "what is not declared is dropped")

    def test_everything_else_lies_outside_of_it(self):
        self.run_job("""
job a { script = <<~SH
  for place in "$JOB_INPUT" "$JOB_RESULT" "$TMPDIR"; do
    case "$place" in "$JOB_OUTPUT"|"$JOB_OUTPUT"/*) exit 1;; /*) ;; *) exit 2;; esac
  done
  [ -d "$TMPDIR" ] && [ -w "$TMPDIR" ] && [ ! -e "$JOB_RESULT" ] && [ "$(dirname "$JOB_RESULT")" != "$JOB_OUTPUT" ]
  echo x > "$TMPDIR/scratch"
  echo '{"n": 1}' > "$JOB_RESULT.new" && mv "$JOB_RESULT.new" "$JOB_RESULT"
SH
output { n: Int } }
job b { script = <<~SH
  [ ! -e "$TMPDIR/scratch" ]
SH
after = [a] }""")
        self.assertEqual([path for path in (self.at / ".jobc").rglob("scratch")], [])

    def test_each_attempt_has_fresh_ones(self):
        self.run_job("""
job a { retry { max_attempts = 3, backoff = constant(1ms), on = [exit] } script = <<~SH
  [ ! -e left ] && [ ! -e "$TMPDIR/left" ] && [ ! -e "$JOB_RESULT" ] || { echo "something was left" >&2; exit 99; }
  touch left "$TMPDIR/left"; echo '{"n": 1}' > "$JOB_RESULT"
  echo "$JOB_EXECUTION_ID $JOB_ATTEMPT" >> @FLAGS@/ids
  [ "$JOB_ATTEMPT" = 3 ]
SH
}""")
        ids = [line.split() for line in self.flag("ids").read_text().splitlines()]
        self.assertEqual([number for _, number in ids], ["1", "2", "3"])
        self.assertEqual(len({one for one, _ in ids}), 3, "an execution id for each attempt")


class Environment(Story):
    def environ(self, text, address="a", **env):
        """The environment that job `a` saw, by name."""
        self.run_job(text.replace("@ENV@", 'run = ["env", "-0"] output { e: String = stdout() }'), env=env)
        value = self.result(address)["e"]
        return dict(item.split("=", 1) for item in value.split("\0") if item)

    def test_only_what_is_declared(self):
        found = self.environ('job a { env { GREETING = "a  b\\n$x", N = 3 } @ENV@ }', SECRET_OF_MINE="1", LANG="de_DE.UTF-8", PATH="/usr/bin:/bin:/nowhere", LD_PRELOAD="", USER="someone")
        names = {"PATH", "HOME", "USER", "LANG", "TMPDIR", "JOB_INPUT", "JOB_OUTPUT", "JOB_RESULT", "JOB_NAME", "JOB_KEY", "JOB_ATTEMPT", "JOB_RUN_ID", "JOB_EXECUTION_ID",
                 "INPUT_PATH", "OUTPUT_PATH", "EXECUTION_ID", "GREETING", "N"}
        self.assertEqual(set(found), names)
        self.assertEqual((found["PATH"], found["LANG"], found["GREETING"], found["N"]), ("/usr/local/bin:/usr/bin:/bin", "C.UTF-8", "a  b\n$x", "3"))
        self.assertEqual((found["INPUT_PATH"], found["OUTPUT_PATH"], found["EXECUTION_ID"]), (found["JOB_INPUT"], found["JOB_OUTPUT"], found["JOB_EXECUTION_ID"]))
        self.assertEqual((found["JOB_NAME"], found["JOB_ATTEMPT"], found["JOB_KEY"]), ("a", "1", ""))
        self.assertRegex(found["JOB_RUN_ID"], r"\A[0-9a-z]{20}\Z")
        self.assertEqual(found["JOB_RUN_ID"], self.status()["id"])

    def test_variables_that_are_let_through(self):
        found = self.environ('job a { inherit_env = ["KEPT", "ABSENT"] @ENV@ }', KEPT="some value", OTHER="x")
        self.assertEqual((found.get("KEPT"), "ABSENT" in found, "OTHER" in found), ("some value", False, False))
        plan = self.jobc("plan", "a.job", "--json", env={"KEPT": "some value"}).out
        self.assertIn("KEPT", plan)
        self.assertNotIn("some value", plan)

    def test_keys(self):
        self.run_job("""
job one { for s in ["a b", "ü"] key s run = ["sh", "-c", "echo \\"$JOB_NAME|$JOB_KEY|$JOB_KEY_0\\""] output { t: String = trim(stdout()) } }
job two { for s in ["a\\"b"] key s matrix { n = [1, 2] } run = ["sh", "-c", "echo \\"$JOB_KEY|$JOB_KEY_0|$JOB_KEY_1\\""] output { t: String = trim(stdout()) } }
export { one: List<String> = one[*].t, two: List<String> = two[*].t }
""")
        self.assertEqual(self.result(), {"one": ["one|a b|a b", "one|ü|ü"], "two": ['["a\\"b","1"]|a"b|1', '["a\\"b","2"]|a"b|2']})

    def test_reserved_names_cannot_be_set(self):
        for name in ("JOB_ATTEMPT", "JOB_MINE", "INPUT_PATH", "EXECUTION_ID"):
            self.assertIn("error[E103]", self.run_job(f'job a {{ env {{ {name} = "x" }} run = ["true"] }}', code=3).err)

    def test_null_leaves_a_variable_unset(self):
        found = self.environ('job a { env { LANG = null, X = if 1 > 2 then "x" else null } @ENV@ }')
        self.assertNotIn("X", found)

    def test_stdin_is_empty(self):
        self.run_job('job a { script = <<~SH\n readlink /proc/self/fd/0; wc -c\n SH\n output { t: List<String> = lines(stdout()) } }\nexport { t: List<String> = a.t }')
        self.assertEqual(self.result(), {"t": ["/dev/null", "0"]})

    def test_prologue_and_epilogue(self):
        self.run_job("""
job a { prologue = <<~SH
  X=from_prologue; export X; cd /
SH
run = ["sh", "-c", "echo $X; pwd; exit 3"]
epilogue = <<~SH
  echo "after $JOB_EXIT" > @FLAGS@/after
SH
errors { exit(3) => success } output { t: List<String> = lines(stdout()) } }
export { t: List<String> = a.t }
""")
        self.assertEqual(self.result(), {"t": ["from_prologue", "/"]})
        self.assertEqual(self.flag("after").read_text(), "after 3\n")
        self.run_job('job a { prologue = <<~SH\n exit 5\n SH\n run = ["touch", "@FLAGS@/ran"] }', code=10)
        one = self.instances()["a"]
        self.assertEqual((one["kind"], one["exit_code"], self.flag("ran").exists()), ("exit", 5, False))


class Inputs(Story):
    def test_staged_under_their_names(self):
        self.write("one\n", "data/one.txt")
        self.write("two\n", "data/two words.txt")
        self.run_job("""
struct Sides { left: File, right: File? }
params { n: Int = 3 }
job a {
  input { f: File = "data/one.txt", l: List<File> = ["data/one.txt", "data/two words.txt"], m: Map<String, File> = { "k/1" = "data/one.txt" }, d: Dir = "data",
          n: Int = params.n, t: Duration = 90s, b: Bytes = 4KiB, o: String? = null, p: Sides = Sides { left = "data/one.txt" } }
  script = <<~SH
    cat ~{input.f} "$JOB_INPUT/f/one.txt" "$JOB_INPUT/l/1/two words.txt" "$JOB_INPUT/p/left/one.txt" "$JOB_INPUT/d/data/one.txt" "$JOB_INPUT"/m/*/one.txt
    cp "$JOB_INPUT/inputs.json" inputs.json
  SH
  output { t: String = stdout(), json: Json = read_json("inputs.json", Json) }
}
export { t: String = a.t, json: Json = a.json }
""")
        result = self.result()
        self.assertEqual(result["t"], "one\none\ntwo\none\none\none\n")
        inputs = result["json"]
        self.assertEqual((inputs["n"], inputs["t"], inputs["b"], inputs["o"]), (3, "90s", 4096, None))
        self.assertTrue(inputs["f"].endswith("/f/one.txt") and inputs["l"][1].endswith("/l/1/two words.txt"), inputs)
        self.assertEqual(inputs["p"]["right"], None)

    def test_a_job_cannot_change_them_through_its_view(self):
        self.write("one\n", "one.txt")
        os.chmod(self.at / "one.txt", 0o644)
        self.run_job('job a { input { f: File = "one.txt" } script = <<~SH\n rm ~{input.f} 2>/dev/null || :; touch "$JOB_INPUT/new" 2>/dev/null || :\n SH\n }\njob b { after = [a] input { f: File = "one.txt" } run = ["cat", input.f] }')
        self.assertEqual((self.at / "one.txt").read_text(), "one\n")
        self.assertEqual(self.states()["b"], "succeeded")

    def test_a_file_that_changes_meanwhile_fails_the_attempt(self):
        self.write("one\n", "one.txt")
        done = self.run_job(f'job a {{ retry {{ max_attempts = 3, backoff = constant(1ms) }} input {{ f: File = "one.txt" }} script = <<~SH\n echo more >> {self.at}/one.txt; echo x > f\n SH\n output {{ f: File = "f" }} }}', code=10)
        one = self.instances()["a"]
        self.assertEqual((one["kind"], len(one["attempts"])), ("staging", 1))
        self.assertIn("one.txt", done.err)
        self.assertEqual(list((self.at / ".jobc").glob("runs/*/outputs/*")), [], "its outputs are dropped")

    def test_files_in_argv_are_staged_too(self):
        self.write("one\n", "one.txt")
        self.run_job('params { f: File = "one.txt" }\njob a { run = ["sh", "-c", "echo $0; cat $0", params.f] output { t: List<String> = lines(stdout()) } }\nexport { t: List<String> = a.t }', "-p", "f=one.txt")
        where, text = self.result()["t"]
        self.assertEqual(text, "one")
        self.assertTrue(where.endswith("/_1/one.txt"), where)


class Secrets(Story):
    SECRET = "s3cr3t/of \"mine\" & more"

    def everything_written(self):
        for path in self.base.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != "jobc":
                yield path, path.read_bytes()

    def forms(self):
        plain = self.SECRET.encode()
        return [plain, base64.b64encode(plain), json.dumps(self.SECRET)[1:-1].encode()]

    def test_are_seen_by_the_job_alone(self):
        expected = hashlib.sha256(self.SECRET.encode()).hexdigest()
        text = f"""
secret token = env("MY_TOKEN")
job a {{ env {{ TOKEN = token, URL = "https://x:~{{token}}@host" }} script = <<~SH
  [ "$(printf %s "$TOKEN" | sha256sum | cut -d' ' -f1)" = {expected} ] || exit 77
  echo "out $TOKEN end"; echo "err $URL" >&2; printf %s "$TOKEN" | base64 -w0; echo
  printf %s "$TOKEN" | head -c 9; sleep 0.1; printf %s "$TOKEN" | tail -c +10; echo
  exit 4
SH
}}"""
        done = self.run_job(text, code=10, env={"MY_TOKEN": self.SECRET})
        self.assertEqual(self.instances()["a"]["exit_code"], 4, str(done))
        shown = self.jobc("logs", "a")
        self.assertIn("out ", shown.out)
        events = self.jobc("run", "a.job", "--json", code=10, env={"MY_TOKEN": self.SECRET})
        plan = self.jobc("plan", "a.job", "--json", env={"MY_TOKEN": self.SECRET})
        status = self.jobc("status", "--json", "--instances")
        for what, text in [("report", done.raw_err + done.raw_out), ("logs", shown.raw_out + shown.raw_err), ("events", events.raw_out + events.raw_err), ("plan", plan.raw_out + plan.raw_err), ("status", status.raw_out)]:
            for form in self.forms():
                self.assertNotIn(form, text, what)
        self.assertIn("MY_TOKEN", plan.out)
        for path, content in self.everything_written():
            for form in self.forms():
                self.assertNotIn(form, content, f"the secret is in {path}")
        # The script that reproduces a failure names it instead.
        script = re.search(r'reproduce: +sh (.+)', done.err)[1]
        self.assertRegex(pathlib.Path(script).read_text(), r'TOKEN="?\$\{?(MY_)?TOKEN')

    def test_missing_ones_are_an_error_before_anything_starts(self):
        done = self.run_job('secret token = env("MY_TOKEN")\njob first { run = ["touch", "@FLAGS@/ran"] }\njob a { env { T = token } run = ["true"] }', code=3)
        self.assertSays(done.err, "MY_TOKEN", "token")
        self.assertFalse(self.flag("ran").exists())
        self.assertNothingBegan()

    def test_files_of_secrets(self):
        text = """
secret pw = file("pw.txt")
job a { secret_files { "pw" = pw } script = <<~SH
  stat -c %a "$JOB_SECRETS/pw"; sha256sum < "$JOB_SECRETS/pw"; echo "$JOB_SECRETS" > @FLAGS@/where
SH
output { t: List<String> = lines(stdout()) } }
export { t: List<String> = a.t }
"""
        self.write(self.SECRET, "pw.txt", mode=0o600)
        self.run_job(text)
        mode, digest = self.result()["t"]
        self.assertEqual((mode, digest.split()[0]), ("600", hashlib.sha256(self.SECRET.encode()).hexdigest()))
        self.assertFalse(pathlib.Path(self.flag("where").read_text().strip()).exists(), "removed after the attempt")
        (self.at / "pw.txt").unlink()
        done = self.run_job(text, code=3)
        self.assertIn("pw.txt", done.err)

    def test_never_reach_a_command_line(self):
        for job in ('run = ["echo", token]', 'script = <<~SH\n echo ~{token}\n SH\n', 'run = ["true"] output { f: File = "~{token}" }'):
            done = self.run_job('secret token = env("MY_TOKEN")\njob a { ' + job + " }", code=3, env={"MY_TOKEN": self.SECRET})
            self.assertIn("error[E402]", done.err)

    def test_a_file_name_that_holds_one_fails_the_attempt(self):
        self.run_job('secret token = env("MY_TOKEN")\njob a { env { T = token } script = <<~SH\n echo x > "out-$T.txt"\n SH\n output { l: List<File> = glob("out-*.txt") } }', code=10, env={"MY_TOKEN": "hunter2hunter2"})
        one = self.instances()["a"]
        self.assertEqual(one["kind"], "schema")
        self.assertNotIn("hunter2", json.dumps(one))


class FilesOfTheSource(Story):
    """text_file() and json_file(): content that stands in the source."""

    JOB = """
struct S { id: String, n: Int }
let fixed = text_file("fixed.txt", "always\\n")
job first { run = ["sh", "-c", "echo '{\\"rows\\": 7}' > $JOB_RESULT"] output { rows: Int } }
job a {
  for s in [S { id = "x", n = 1 }, S { id = "y", n = 2 }] key s.id
  input {
    config: File = json_file("~{s.id}.json", { sample = s, ratio = 0.5, at = "2026-01-31T12:00:00Z", wait = 90s, big = 9007199254740993, none = null, many = [1, "ü", { deep = true }] })
    rows: File = text_file("rows.txt", "~{first.rows} @WHAT@\\n")
    both: List<File> = [fixed, text_file("empty", "")]
  }
  env { WHERE = text_file("env.txt", "in the environment\\n") }
  cache_salt = "1"
  cache = true
  script = <<~BASH
    cat ~{input.rows} ~{input.both...} "$WHERE" ~{text_file("in script.txt", "in the script\\n")}
    cp ~{input.config} config.json
    basename ~{input.config}
    [ ! -w "$WHERE" ] || [ "$(id -u)" = 0 ]
  BASH
  output { said: String = stdout(), config: Json = read_json("config.json", Json), n: Bytes = size(fixed) }
}
publish "out" { "fixed.txt" = fixed, "again/" = [text_file("more.txt", "more\\n")] }
export { said: List<String> = a[*].said, config: Json = a["y"].config, fixed: File = fixed, sha: String = sha256(fixed), size: Bytes = a["x"].n }
"""

    def test_are_there_where_a_job_needs_them(self):
        self.run_job(self.JOB.replace("@WHAT@", "rows"))
        result = self.result()
        self.assertEqual(result["said"], [f"7 rows\nalways\nin the environment\nin the script\n{name}.json\n" for name in ("x", "y")])
        self.assertEqual(result["config"], {"sample": {"id": "y", "n": 2}, "ratio": 0.5, "at": "2026-01-31T12:00:00Z", "wait": "90s", "big": 9007199254740993,
                                            "none": None, "many": [1, "ü", {"deep": True}]})
        self.assertEqual((result["sha"], result["size"]), (hashlib.sha256(b"always\n").hexdigest(), 7))
        self.assertEqual(pathlib.Path(result["fixed"]).read_text(), "always\n")
        self.assertEqual((self.at / "out/fixed.txt").read_text(), "always\n")
        self.assertEqual((self.at / "out/again/more.txt").read_text(), "more\n")

    def test_their_content_decides_what_runs_again(self):
        def reused():
            return {address for address, one in self.instances().items() if one.get("reused")}

        self.run_job(self.JOB.replace("@WHAT@", "rows"))
        self.run_job(self.JOB.replace("@WHAT@", "rows"))
        self.assertEqual(reused(), {'a["x"]', 'a["y"]'})
        self.run_job(self.JOB.replace("@WHAT@", "lines"))
        self.assertEqual(reused(), set())
        self.assertIn("rows.txt", self.jobc("explain", "run", 'a["x"]').out)

    def test_a_plan_holds_them(self):
        self.write("edition = 1\n" + self.JOB.replace("@WHAT@", "rows"))
        self.jobc("plan", "a.job", "-o", "plan.json")
        (self.at / "a.job").unlink()
        self.jobc("run", "plan.json")
        self.assertEqual(self.result()["said"][0].splitlines()[0], "7 rows")


class Results(Story):
    def test_what_does_not_fit_has_a_code_to_ask_about(self):
        for text, kind, code in (('job a { run = ["sh", "-c", "echo \'{\\"n\\": 1.5}\' > $JOB_RESULT"] output { n: Int } }', "schema", "R951"),
                                 ('job a { run = ["true"] output { n: Int } }', "output_missing", "R952"),
                                 ('job a { run = ["true"] output { f: File = "f" } }\nexport { f: File = a.f }', "output_missing", "R952"),
                                 ('job a { run = ["sh", "-c", "exit 3"] errors { exit(3) => schema } output { f: File = "f" } }\nexport { f: File = a.f }', "schema", None)):
            with self.subTest(text=text):
                done = self.run_job(text, code=10)
                self.assertEqual((self.instances()["a"]["kind"], self.instances()["a"].get("code")), (kind, code))
                ended = [one for one in map(json.loads, self.jobc("watch", "--json", code=10).out.splitlines()) if one["event"] == "attempt_ended"]
                self.assertEqual([one.get("code") for one in ended], [code])
                if code is None:
                    self.assertNotIn("jobc explain", done.err)
                    continue
                self.assertIn(f"failed: a: {kind} [{code}]", done.err)
                self.assertIn(f"error: `a` failed: {kind} [{code}]: ", done.err)
                self.assertIn(f"jobc explain {code}", done.err)
                self.assertIn(f"{kind} [{code}]", self.jobc("status").out)
                self.assertIn(kind, self.jobc("explain", code).out)

    def test_the_file_of_smartjob(self):
        job = 'job a { script = <<~SH\n @S@\n SH\n output { n: Int } }\nexport { n: Int = a.n }\n'
        self.run_job(job.replace("@S@", "echo '{\"n\": 1}' > \"$OUTPUT_PATH/smartjob.json\""))
        self.assertEqual(self.result(), {"n": 1})
        self.run_job(job.replace("@S@", "echo '{\"n\": 1}' > \"$OUTPUT_PATH/smartjob.json\"; echo '{\"n\": 2}' > \"$JOB_RESULT\""))
        self.assertEqual(self.result(), {"n": 2})
        # What SmartJob warns of and forgets is a failure here: also where no output needs it.
        for content in ("{", "[1]", "{\"n\": NaN}", "{\"n\": 1} x", ""):
            for outputs in ("output { n: Int }", ""):
                with self.subTest(content=content, outputs=outputs):
                    self.run_job(f"job a {{ script = <<~SH\n printf '%s' '{content}' > \"$OUTPUT_PATH/smartjob.json\"\n SH\n {outputs} }}\n", code=10)
                    one = self.instances()["a"]
                    self.assertEqual(one["kind"], "schema")
                    self.assertIn("smartjob.json", one["message"])

    def test_a_result_of_a_failed_attempt_is_not_read(self):
        self.run_job('job a { on_error = ignore script = <<~SH\n echo \'{"n": 1}\' > "$JOB_RESULT"; exit 1\n SH\n output { n: Int } }\nexport { n: Int? = a.n }\n')
        self.assertEqual(self.result(), {"n": None})

    def test_all_of_the_result_is_kept(self):
        self.run_job('job a { script = <<~SH\n echo \'{"n": 1, "more": {"x": [1, 2.5, null, "ü"]}}\' > "$JOB_RESULT"\n SH\n output { n: Int } }\nexport { all: Json? = a.result }\n')
        self.assertEqual(self.result(), {"all": {"n": 1, "more": {"x": [1, 2.5, None, "ü"]}}})

    def test_files_are_typed_through_the_chain(self):
        self.run_job("""
enum Mode { fast, slow }
struct Part { name: String, at: File, took: Duration, mode: Mode }
job a { script = <<~SH
  mkdir d; echo one > d/1.txt
  echo '{"parts": [{"name": "p", "at": "d/1.txt", "took": "1500ms", "mode": "slow"}], "size": "4KiB"}' > "$JOB_RESULT"
SH
output { parts: List<Part>, size: Bytes } }
job b { input { part: Part = a.parts[0] } run = ["cat", input.part.at] output { t: String = trim(stdout()) } }
export { t: String = b.t, parts: List<Part> = a.parts, size: Bytes = a.size, mode: Mode = a.parts[0].mode }
""")
        result = self.result()
        self.assertEqual((result["t"], result["size"], result["mode"], result["parts"][0]["took"]), ("one", 4096, "slow", "1500ms"))
        self.assertEqual(pathlib.Path(result["parts"][0]["at"]).read_text(), "one\n")

    def test_outputs_do_not_change_when_the_next_job_runs(self):
        self.run_job('job a { script = <<~SH\n echo x > f\n SH\n output { f: File = "f" } }\njob b { input { f: File = a.f } script = <<~SH\n echo y >> ~{input.f} || :\n cat ~{input.f}\n SH\n }\nexport { f: File = a.f }\n', code=None)
        path = pathlib.Path(json.loads(self.jobc("result", "a.f", "--json").out))
        if not ROOT:
            self.assertEqual(path.read_text(), "x\n")


class Sizes(Story):
    def test_a_word_above_the_limit_of_the_kernel(self):
        for job, parts in [('run = ["true", params.text]', ["argument", "131"]), ('env { TEXT = params.text } run = ["true"]', ["TEXT", "131"])]:
            self.write(json.dumps({"text": "x" * 200_000}), "values.json")
            done = self.run_job(f'params {{ text: String }}\njob a {{ {job} }}', "-p", "@values.json", code=10)
            one = self.instances()["a"]
            self.assertEqual(one["kind"], "command", str(done))
            self.assertSays(one["message"].replace(",", "").replace("'", ""), "200", "File", *parts)
            self.assertLess(len(done.err), 20_000, "the value itself is not printed")

    def test_a_word_just_below_it(self):
        self.write(json.dumps({"text": "x" * 131_000}), "values.json")
        self.run_job('params { text: String }\njob a { run = ["sh", "-c", "printf %s \\"$0\\" | wc -c", params.text] output { n: Int = to_int(trim(stdout())) } }\nexport { n: Int = a.n }', "-p", "@values.json")
        self.assertEqual(self.result(), {"n": 131_000})

    def test_a_script_takes_what_argv_cannot(self):
        self.write(json.dumps({"text": "x'\"$(touch y)\n" * 30_000}), "values.json")
        self.run_job('params { text: String }\njob a { script = <<~SH\n printf %s ~{params.text} | wc -c\n SH\n output { n: Int = to_int(trim(stdout())) } }\nexport { n: Int = a.n }', "-p", "@values.json")
        self.assertEqual(self.result(), {"n": len("x'\"$(touch y)\n") * 30_000})


class Publishing(Story):
    TEXT = """
params { text: String = "new", more: Bool = false }
job a { script = <<~SH
  mkdir d d/sub; echo ~{params.text} > r.html; echo 1 > d/one; echo 2 > d/sub/two
  [ ~{params.more} = false ]
SH
output { r: File = "r.html", d: Dir = "d" } }
job s { for i in range(3) key i on_error = ignore script = <<~SH
  [ ~{i} != 1 ]; echo ~{i} > s~{i}.vcf
SH
output { f: File = "s~{i}.vcf" } }
publish "results" { "report.html" = a.r, "tree" = a.d, "vcf/" = compact(s[*].f) }
"""

    def test_files_with_a_manifest(self):
        self.run_job(self.TEXT)
        results = self.at / "results"
        found = {str(path.relative_to(results)): path.read_text() for path in results.rglob("*") if path.is_file() and path.name != "jobc-manifest.json"}
        self.assertEqual(found, {"report.html": "new\n", "tree/one": "1\n", "tree/sub/two": "2\n", "vcf/s0.vcf": "0\n", "vcf/s2.vcf": "2\n"})
        manifest = json.loads((results / "jobc-manifest.json").read_text())
        named = {one["path"]: one for one in manifest["files"]}
        for path, content in found.items():
            self.assertEqual(named[path]["sha256"], hashlib.sha256(content.encode()).hexdigest(), path)
        self.assertEqual([path for path in results.iterdir() if path.name.startswith(".jobc")], [], "no staging directory is left")
        # Again, over what is there; a link is replaced, not followed.
        (self.at / "precious").write_text("precious")
        (results / "report.html").unlink()
        (results / "report.html").symlink_to(self.at / "precious")
        (results / "mine.txt").write_text("mine")
        self.run_job(self.TEXT, "-p", "text=newer")
        self.assertEqual(((results / "report.html").read_text(), (results / "report.html").is_symlink(), (self.at / "precious").read_text(), (results / "mine.txt").read_text()),
                         ("newer\n", False, "precious", "mine"))

    def test_a_failed_run_publishes_nothing(self):
        self.run_job(self.TEXT)
        before = (self.at / "results/jobc-manifest.json").read_bytes()
        self.run_job(self.TEXT, "-p", "text=bad", "-p", "more=true", code=10)
        self.assertEqual((self.at / "results/report.html").read_text(), "new\n")
        self.assertEqual((self.at / "results/jobc-manifest.json").read_bytes(), before)

    def test_elsewhere(self):
        self.run_job(self.TEXT, "--publish-to", "../home/there")
        self.assertTrue((self.home / "there/report.html").exists())
        self.assertFalse((self.at / "results").exists())

    def test_where_a_file_is_in_the_way(self):
        self.write("x", "results")
        done = self.run_job(self.TEXT, code=10)
        self.assertSays(done.err, "publish", "results")
        self.assertEqual((self.at / "results").read_text(), "x")
        self.assertEqual(self.status()["status"], "failed")

    def test_two_sources_for_one_path(self):
        done = self.run_job('job a { for i in range(2) key i script = <<~SH\n echo > f\n SH\n output { f: File = "f" } }\npublish "results" { "x/" = a[*].f }\n', code=None)
        self.assertIn(done.code, (3, 10))
        self.assertIn("f", done.err)
        self.assertFalse((self.at / "results").exists(), "before anything is touched")

    def test_paths_that_leave(self):
        for key in ("../x", "/x", "a/../../x", "a//b", "./x"):
            done = self.run_job('job a { script = <<~SH\n echo > f\n SH\n output { f: File = "f" } }\npublish "results" { "' + key + '" = a.f }\n', code=3)
            self.assertIn("error[E702]", done.err, key)


class Plans(Story):
    TEXT = 'edition = 1\nparams { f: File = "in.txt", who: String = "x" }\njob a { input { f: File = params.f } run = ["sh", "-c", "cat $0; echo $1", input.f, params.who] output { t: List<String> = lines(stdout()) } }\nexport { t: List<String> = a.t }\n'

    def test_a_plan_can_be_run(self):
        self.write("one\n", "in.txt")
        self.write(self.TEXT)
        self.jobc("plan", "a.job", "-p", "who=y", "-o", "plan.json")
        self.assertEqual(self.jobc("run", "plan.json").json, {"t": ["one", "y"]})
        # The sources are not read again.
        (self.at / "a.job").unlink()
        self.assertEqual(self.jobc("run", "plan.json").json, {"t": ["one", "y"]})

    def test_a_plan_whose_input_changed_is_refused(self):
        self.write("one\n", "in.txt")
        self.write(self.TEXT)
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.write("other\n", "in.txt")
        done = self.jobc("run", "plan.json", code=3)
        self.assertEqual(done.out, "")
        self.assertSays(done.err, "in.txt", "jobc plan")
        self.assertNothingBegan()
        (self.at / "in.txt").unlink()
        self.assertSays(self.jobc("run", "plan.json", code=3).err, "in.txt")
        self.write("one\n", "in.txt")
        self.jobc("run", "plan.json")

    def test_a_plan_moves_with_its_files(self):
        self.write("one\n", "in.txt")
        self.write(self.TEXT)
        self.jobc("plan", "a.job", "-o", "plan.json")
        shutil.copytree(self.at, self.base / "elsewhere")
        (self.at / "in.txt").unlink()
        self.assertEqual(self.jobc("run", self.base / "elsewhere/plan.json").json, {"t": ["one", "x"]})
        shutil.copy(self.at / "plan.json", self.home / "plan.json")
        self.assertEqual(self.jobc("run", self.home / "plan.json", "--root", self.base / "elsewhere").json, {"t": ["one", "x"]})

    def test_a_plan_that_is_none(self):
        for text in ("{}", "oops", "[]", '{"format": "jobc.plan/2"}', ""):
            self.write(text, "plan.json")
            done = self.jobc("run", "plan.json", code=None)
            self.assertIn(done.code, (2, 3), str(done))
            self.assertSays(done.err, "error", "plan.json")
        self.assertNothingBegan()

    def test_no_absolute_path_no_host_no_time(self):
        self.write("one\n", "in.txt")
        self.write(self.TEXT)
        plan = self.jobc("plan", "a.job", "--json").out
        self.assertNotIn(str(self.base), plan)
        self.assertNotIn(os.uname().nodename + '"', plan)


if __name__ == "__main__":
    unittest.main(verbosity=1)
