"""Plans that are kept: refused when an input changed, compared in CI, read by later versions, the same everywhere."""
import json
import os
import shutil
import subprocess
import unittest

from pipeline import JOBC, ReuseStory, ROOT, as_nobody


class Kept(ReuseStory):
    def setUp(self):
        super().setUp()
        self.jobc("plan", "a.job", "-o", "plan.json")

    def plan(self):
        return json.loads((self.at / "plan.json").read_text())

    def test_runs(self):
        self.go_plan = self.jobc("run", "plan.json")
        self.assertEqual(self.go_plan.json["said"], "x")

    def test_refused_when_an_input_changed(self):
        self.write("hello x\n", "in/b.txt")  # the same size
        done = self.jobc("run", "plan.json", code=3)
        self.assertSays(done.err, "the plan no longer fits its files\n  = note: ", "in/b.txt", "has another content", "make it again:  jobc plan")
        self.assertNotIn("in/a.txt", done.err)
        self.assertNothingBegan()
        os.remove(self.at / "in/c.txt")
        self.assertSays(self.jobc("run", "plan.json", code=3).err, "in/b.txt", "in/c.txt", "cannot be read")
        self.write("hello b\n", "in/b.txt")
        self.write("hello c\n", "in/c.txt")
        os.utime(self.at / "in/c.txt", ns=(1, 1))
        self.jobc("run", "plan.json")

    def test_directories(self):
        self.write("one\n", "d/x/f")
        self.write('edition = 1\njob a { input { d: Dir = "d" }  run = ["true"] }\n', "d.job")
        self.jobc("plan", "d.job", "-o", "d.json")
        self.jobc("run", "d.json")
        self.write("two\n", "d/x/f")
        self.assertSays(self.jobc("run", "d.json", code=3).err, "the directory", "another content")
        self.write("one\n", "d/x/f")
        self.jobc("run", "d.json")
        os.chmod(self.at / "d/x/f", 0o755)
        self.assertSays(self.jobc("run", "d.json", code=3).err, "the directory")

    def test_in_a_scatter_a_missing_file_is_told_before_anything_runs(self):
        os.remove(self.at / "in/b.txt")
        done = self.jobc("run", "a.job", code=3)
        self.assertSays(done.err, "E703", "in/b.txt")
        self.assertNothingBegan()

    def test_files_that_a_guard_keeps_away_are_not_needed(self):
        self.write("""edition = 1
job a { for n in ["a", "none"] key n  when = n != "none"  input { t: File = "in/~{n}.txt" }  run = ["cat", input.t] }
""", "g.job")
        self.jobc("run", "g.job")
        self.assertEqual([row["path"] for row in self.jobc("plan", "g.job", "--json").json["files"]], ["in/a.txt"])

    def test_against(self):
        self.assertSays(self.jobc("plan", "a.job", "--against", "plan.json", "--exit-code").out, "up to date")
        done = self.jobc("plan", "a.job", "-p", "word=it's", "--against", "plan.json", "--exit-code", code=5)
        self.assertSays(done.out, "plan.json is out of date", "a parameter changed", "`word`", '"x"', "it's", "something upstream changed")
        self.assertSays(done.err, "accept the new plan:  jobc plan a.job -p 'word=it'\\''s' -o plan.json")
        kept = (self.at / "plan.json").read_bytes()
        self.jobc("plan", "a.job", "-p", "word=y", "--against", "plan.json")  # without --exit-code: 0
        self.assertEqual((self.at / "plan.json").read_bytes(), kept)
        data = self.jobc("plan", "a.job", "-p", "word=y", "--against", "plan.json", "--json").json
        self.assertTrue(data["different"])
        self.assertEqual([c["cause"] for c in data["changes"]], ["param", "upstream"])
        # A comment moves positions: not the same bytes, but nothing that means anything.
        self.pipeline(("job upper", "# a comment\njob upper"))
        done = self.jobc("plan", "a.job", "--against", "plan.json", "--exit-code", code=5)
        self.assertSays(done.out, "source `a.job`")
        self.assertSays(self.jobc("plan", "a.job", "--against", "none.json", code=2).err, "none.json", "jobc plan a.job -o none.json")
        self.write("{}", "bad.json")
        self.assertSays(self.jobc("plan", "a.job", "--against", "bad.json", code=3).err, "bad.json", "jobc plan a.job -o bad.json")
        self.write("job {", "wrong.job")
        self.jobc("plan", "wrong.job", "--against", "plan.json", "--exit-code", code=3)  # an error is no difference

    def changed(self, **members):
        plan = self.plan()
        for name, value in members.items():
            if value is None:
                del plan[name]
            else:
                plan[name] = value
        self.write(json.dumps(plan), "other.json")
        return "other.json"

    def test_reader_rules(self):
        # The same minor version: everything is known, so what is not is a mistake.
        done = self.jobc("run", self.changed(colour="blue"), code=3)
        self.assertSays(done.err, "unknown member \"colour\"")
        # A later minor version may say more, also inside.
        plan = self.plan()
        plan["minor"] = 99
        plan["colour"] = "blue"
        plan["jobs"][0]["shade"] = {"of": ["blue"]}
        self.write(json.dumps(plan), "other.json")
        self.assertEqual(self.jobc("run", "other.json").json["said"], "x")
        # Another major version is another language.
        done = self.jobc("run", self.changed(format="jobc.plan/2"), code=3)
        self.assertSays(done.err, "jobc.plan/2", "jobc.plan/1")
        for wrong in (self.changed(format=None), self.changed(minor="1"), self.changed(functions=99)):
            done = self.jobc("run", wrong, code=3)
            self.assertSays(done.err, "other.json", "make it again")
        self.assertNotIn("Traceback", done.err)

    def test_formatted_by_somebody_else(self):
        self.write(json.dumps(self.plan(), indent=4), "other.json")
        self.assertEqual(self.jobc("run", "other.json").json["said"], "x")
        self.assertSays(self.jobc("plan", "a.job", "--against", "other.json", "--exit-code").out, "up to date")


class Reproducible(ReuseStory):
    def test_same_bytes(self):
        """Another directory, locale, time zone, home, user and time; links on the way; files touched."""
        first = self.jobc("plan", "a.job", "--json").raw_out
        other = self.base / "another place é"
        shutil.copytree(self.at, other)
        os.symlink(other, self.base / "link")
        for path in other.rglob("*"):
            os.utime(path, ns=(10**18, 10**18))
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
        os.chmod(other, 0o755)
        program = self.program
        if ROOT:
            program = shutil.copy(JOBC, self.base / "jobc")
            os.chmod(program, 0o755)
        surroundings = [
            (other, "a.job", {}),
            (self.base, "another place é/a.job", {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati"}),
            (self.base / "link", "a.job", {"LC_ALL": "tr_TR.UTF-8", "TZ": "America/Caracas", "COLUMNS": "7", "JOBC_HOME": "/nonexistent"}),
            ("/", str(other / "a.job"), {"LC_ALL": "C", "HOME": "/nonexistent", "USER": "somebody"}),
        ]
        for cwd, path, more in surroundings:
            for prefix in ([], as_nobody(True)):
                env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **more}
                done = subprocess.run([*prefix, program, "plan", path, "--json"], cwd=cwd, env=env, capture_output=True, timeout=60)
                self.assertEqual((done.returncode, done.stderr), (0, b""), (cwd, path, prefix))
                self.assertEqual(done.stdout, first, (cwd, path, prefix))
        for word in (str(self.base), os.uname().nodename, "the-first-secret"):
            self.assertNotIn(word.encode(), first)


class Diff(ReuseStory):
    def diff(self, *arguments, code=0):
        data = self.jobc("diff", *arguments, "--json", code=code).json
        self.assertEqual(data["schema"], "jobc.diff/1")
        return data

    def changes(self, *arguments):
        return {(c["cause"], c.get("job"), c["what"]) for c in self.diff(*arguments)["changes"]}

    def setUp(self):
        super().setUp()
        self.jobc("plan", "a.job", "-o", "plan.json")

    def test_nothing(self):
        self.assertSays(self.jobc("diff", "plan.json", "a.job", "--exit-code").out, "do not differ")
        self.assertEqual(self.diff("a.job", "a.job")["different"], False)

    def test_source(self):
        self.pipeline(("tr a-z A-Z", "tr a-y A-Y"))
        self.assertEqual(self.changes("plan.json", "a.job"), {("source", None, "source `a.job`"), ("source", "upper", "script"), ("upstream", "join", "needs upper"), ("upstream", "long", "needs upper")})
        text = self.jobc("diff", "plan.json", "a.job", "--exit-code", code=5).out
        self.assertSays(text, "the source changed", "upper: script", "tr a-z", "tr a-y", "something upstream changed")

    def test_settings(self):
        self.pipeline(('MODE = "loud"', 'MODE = "quiet"'), ("run = [\"wc\"", "timeout { run = 5m }\n  resources { cpu = 2 }\n  retry { max_attempts = 3 }\n  on_error = continue\n  run = [\"wc\""))
        found = self.changes("plan.json", "a.job")
        for job, what in (("upper", "env MODE"), ("long", "timeout.run"), ("long", "resources.cpu"), ("long", "retry.max_attempts"), ("long", "on_error")):
            self.assertIn(("source", job, what), found)

    def test_jobs_and_order(self):
        self.pipeline(("job long {", "job other { run = [\"true\"] }\njob long {"))
        self.assertEqual(self.changes("plan.json", "a.job"), {("source", None, "source `a.job`"), ("source", "other", "the job is new")})
        self.assertIn(("source", "other", "the job is gone"), self.changes("a.job", "plan.json"))

    def test_file_and_profile(self):
        self.write("hello x\n", "in/b.txt")
        self.assertEqual(self.changes("plan.json", "a.job"), {("input_file", None, "file `in/b.txt`"), ("upstream", "join", "needs upper"), ("upstream", "long", "needs upper")})
        self.write("hello b\n", "in/b.txt")
        self.pipeline(("export {", "profile p { job long { timeout { run = 9m } } }\nexport {"))
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.jobc("plan", "a.job", "--profile", "p", "-o", "p.json")
        self.assertEqual(self.changes("plan.json", "p.json"), {("environment", "long", "timeout.run"), ("environment", None, "profile")})

    def test_runs(self):
        first = self.go()
        self.write("hello x\n", "in/b.txt")
        second = self.go("--resume", "-p", "word=y")
        data = self.diff(first, second)
        self.assertEqual({(i["address"], i["cause"], i.get("cause_name")) for i in data["instances"]},
                         {('upper["b"]', "input_file", "b.txt"), ("join", "upstream", "upper"), ("long", "upstream", "join")})
        self.assertEqual({c["cause"] for c in data["changes"]}, {"param", "input_file", "upstream"})
        self.jobc("diff", first, second, "--exit-code", code=5)
        self.assertSays(self.jobc("diff", first, second).out, "a parameter changed", "instances: an input file changed", 'upper["b"]')
        # A plan and a run.
        self.assertIn(("param", None, "parameter `word`"), self.changes("plan.json", second))
        self.assertEqual(self.changes("plan.json", first), set())
        self.assertSays(self.jobc("diff", "plan.json", "zzz", code=2).err, "zzz")

    def test_same_inputs_other_results(self):
        self.write('edition = 1\njob r { run = ["sh", "-c", "cat /proc/sys/kernel/random/uuid | tee f"]  output { f: File = "f", said: String = stdout() } }\njob s { run = ["true"] }\n')
        first, second = self.go(), self.go()
        data = self.diff(first, second)
        self.assertEqual(data["changes"], [])
        self.assertEqual([(i["address"], i["cause"]) for i in data["instances"]], [("r", "result")])
        self.assertSays(self.jobc("diff", first, second).out, "from the same inputs")


if __name__ == "__main__":
    unittest.main()
