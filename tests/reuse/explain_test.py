"""What is said about runs: why an instance ran again, why one did not run, where a value comes from; before a run and after it."""
import os
import unittest

from pipeline import ALL, ReuseStory, UPPER


class Since(ReuseStory):
    """`plan --since` and `explain run` must agree with what `run --resume` does."""

    def setUp(self):
        super().setUp()
        self.first = self.go()

    def forecast(self, *arguments, code=0, **options):
        data = self.jobc("plan", "a.job", "--since", self.first, "--json", *arguments, code=code, **options).json
        self.assertEqual(data["schema"], "jobc.forecast/1")
        return {one["address"]: one for one in data["instances"]}

    def assertForecast(self, runs, may, *arguments, part=None, cause=None, name=None, shown=(), **options):
        """`runs` for certain, `may` perhaps; `part` is the first difference of each in `runs`. Then it is done, and explained."""
        rows = self.forecast(*arguments, **options)
        by = lambda prospect: {address for address, one in rows.items() if one["prospect"] == prospect}
        self.assertEqual((by("runs"), by("may_run")), (set(runs), set(may)), rows)
        text = self.jobc("plan", "a.job", "--since", self.first, *arguments, **options).out
        self.assertSays(text, *shown)
        run = self.go("--resume", self.first, *arguments, **options)
        ran = self.ran(run)
        self.assertTrue(set(runs) <= ran <= set(runs) | set(may), ran)
        for address in runs:
            explained = self.jobc("explain", "run", address, "--json").json
            one = explained["instances"][0]
            self.assertEqual((explained["run"], explained["since"]), (run, self.first))
            if part:
                for found in (one["differences"][0], rows[address]["differences"][0]):
                    self.assertEqual((found["part"], found["cause"], found.get("cause_name")), (part, cause, name), found)
            self.assertSays(self.jobc("explain", "run", address).out, *shown)
        return run

    def test_nothing(self):
        rows = self.forecast("--exit-code")
        self.assertEqual({one["prospect"] for one in rows.values()}, {"reused"})
        self.assertEqual(set(rows), ALL)
        self.assertSays(self.jobc("plan", "a.job", "--exit-code").out, "5 reused")
        run = self.go("--resume")
        self.assertSays(self.jobc("explain", "run", "join").out, "did not run", self.first)
        one = self.jobc("explain", "run", "join", run, "--json").json["instances"][0]
        self.assertEqual(one["reused"], {"run": self.first, "address": "join"})

    def test_script(self):
        self.pipeline(("tr a-z A-Z", "tr a-y A-Y"))
        self.assertForecast(UPPER, ["join", "long"], part="script", cause="source",
                            shown=["`script` has another text", "before: tr a-z", "now:    tr a-y", "a.job:8: script"])

    def test_env(self):
        self.pipeline(('MODE = "loud"', 'MODE = "quiet"'))
        self.assertForecast(UPPER, ["join", "long"], part="env.MODE", cause="source", shown=['"loud"', '"quiet"', "a.job:7: env"])

    def test_param(self):
        self.assertForecast(["join"], ["long"], "-p", "word=y", part="run", cause="param", name="word", shown=["in word 4", 'before: "x"', 'now:    "y"'])

    def test_content(self):
        self.write("hello x\n", "in/b.txt")
        self.assertForecast(['upper["b"]'], ["join", "long"], part="input.text", cause="input_file", name="b.txt",
                            shown=["input `text` has another content", "b.txt, sha256"])

    def test_upstream(self):
        self.write("hello x\n", "in/b.txt")
        self.go("--resume")
        one = self.jobc("explain", "run", "join", "--json").json["instances"][0]["differences"][0]
        self.assertEqual((one["part"], one["cause"], one["cause_name"]), ("input.parts", "upstream", "upper"))
        self.assertSays(self.jobc("explain", "run", "join").out, "input `parts[1]` has another content", "something upstream changed: upper")

    def test_touched(self):
        os.utime(self.at / "in/b.txt", ns=(1, 1))
        self.assertForecast([], [])

    def test_output_gone_and_edited(self):
        paths = {name: self.jobc("result", self.first, f'upper["{name}"].up', "--json").json for name in "ab"}
        os.remove(paths["a"])
        with open(paths["b"], "r+") as file:
            file.write("J")
        rows = self.forecast()
        self.assertEqual(rows['upper["a"]']["reason"], "its output `a.up` is gone")
        self.assertEqual(rows['upper["b"]']["reason"], "its output `b.up` was changed since")
        self.assertForecast(['upper["a"]', 'upper["b"]'], ["join", "long"])
        self.assertSays(self.jobc("explain", "run", 'upper["a"]').out, "nothing it depends on has changed, but its files were gone or changed")

    def test_secret(self):
        self.assertForecast([], [], env={"TOKEN": "another-secret-of-mine"})
        # Not the plan's, and not needed for it.
        self.assertEqual({one["prospect"] for one in self.forecast(env={"TOKEN": ""}).values()}, {"reused"})

    def test_env_that_becomes_a_secret(self):
        self.pipeline(('MODE = "loud"', "MODE = token"))
        for text in (self.jobc("plan", "a.job", "--since", self.first).out, (self.go("--resume"), self.jobc("explain", "run", 'upper["a"]').out)[1]):
            self.assertSays(text, "`MODE`", '"loud"', "a secret; its value is not part of the key")
            self.assertNotIn("the-first-secret", text)

    def test_new_instance_and_failed_one(self):
        self.write("hello d\n", "in/d.txt")
        self.pipeline(('"c"]', '"c", "d"]'))
        rows = self.forecast("--exit-code", code=5)
        self.assertEqual((rows['upper["d"]']["prospect"], rows['upper["d"]']["reason"]), ("runs", "it is new"))
        self.pipeline(("cat \\\"$@\\\" > all.txt;", f'cat \\"$@\\" > all.txt; [ -e {self.flag("go")} ] || exit 1;'))
        failed = self.go("--resume", self.first, code=10)
        rows = {one["address"]: one for one in self.jobc("plan", "a.job", "--since", failed, "--json").json["instances"]}
        self.assertEqual(rows["join"]["reason"], "it failed in that run")
        self.assertEqual(rows["long"]["prospect"], "may_run")
        self.assertEqual(rows["long"]["needs"], ["join"])

    def test_guards(self):
        rows = self.forecast("-p", "limit=9")
        self.assertEqual((rows["long"]["prospect"], rows["long"]["reason"]), ("skipped", "its `when` is false"))

    def test_no_run_yet(self):
        import shutil
        shutil.rmtree(self.at / ".jobc")
        rows = {one["address"]: one["prospect"] for one in self.jobc("plan", "a.job", "--exit-code", "--json", code=5).json["instances"]}
        self.assertEqual(rows, {**{a: "runs" for a in UPPER}, "join": "may_run", "long": "may_run"})
        self.assertSays(self.jobc("plan", "a.job", "--since", "nothing", code=2).err, "no runs")

    def test_nothing_is_made(self):
        before = sorted(str(p) for p in self.base.rglob("*") if not p.name.startswith("journal.db-"))
        self.forecast("-p", "word=z")
        self.assertEqual(sorted(str(p) for p in self.base.rglob("*") if not p.name.startswith("journal.db-")), before)

    def test_a_run_that_nobody_asked_to_reuse(self):
        self.go()
        self.assertSays(self.jobc("explain", "run", "join").out, "nobody asked for the earlier result", f"jobc run a.job --resume {self.first}")
        self.assertSays(self.jobc("explain", "run", "join", "--since", "zzz", code=2).err, "zzz")
        self.assertSays(self.jobc("explain", "run", "joint", code=2).err, "no job `joint`")
        self.assertSays(self.jobc("explain", "run", code=2).err, "an instance is missing")


class Skip(ReuseStory):
    def test_guard_with_its_values(self):
        self.go("-p", "limit=7")
        text = self.jobc("explain", "skip", "long").out
        self.assertSays(text, "long was skipped: its `when` is false", "params.limit is 7", "is 3", "(a.job:18)")
        chain = self.jobc("explain", "skip", "long", "--json").json["instances"][0]["chain"]
        self.assertEqual(len(chain), 1)
        self.assertIn({"expression": "params.limit", "value": "7"}, chain[0]["values"])
        self.assertSays(self.jobc("explain", "run", "long").out, "explain skip long")

    def test_upstream_failed(self):
        self.pipeline(("tr a-z A-Z <", "[ ~{name} != b ] && tr a-z A-Z <"))
        self.go(code=10)
        text = self.jobc("explain", "skip", "long").out
        self.assertSays(text, "long was blocked", 'because upper["b"] failed: exit 1', "jobc logs")
        self.assertSays(self.jobc("explain", "skip", "join").out, "join was blocked", 'because upper["b"] failed')
        chain = self.jobc("explain", "skip", "long", "--json").json["instances"][0]["chain"]
        self.assertEqual([step["address"] for step in chain][0], "long")
        self.assertEqual((chain[-1]["address"], chain[-1]["state"]), ('upper["b"]', "failed"))

    def test_skipped_by_a_skipped_one(self):
        self.write("""edition = 1
params { go: Bool = false }
job a { when = params.go  run = ["true"] }
job b { after = [a]  run = ["true"] }
job c { for n in ["x", "y"] key n  when = n != "x" || params.go  run = ["true"] }
""")
        self.go()
        chain = self.jobc("explain", "skip", "b", "--json").json["instances"][0]["chain"]
        self.assertEqual([step["address"] for step in chain], ["b", "a"])
        self.assertEqual(chain[1]["values"], [{"expression": "params.go", "value": "false"}])
        one = self.jobc("explain", "skip", "c", "--json").json["instances"]
        self.assertEqual([i["address"] for i in one], ['c["x"]'])
        self.assertIn({"expression": "n", "value": '"x"'}, one[0]["chain"][0]["values"])
        self.assertSays(self.jobc("explain", "skip", 'c["y"]').out, "was not skipped: it is succeeded")


class Value(ReuseStory):
    def test_where_values_come_from(self):
        run = self.go("-p", "word=y")
        say = lambda name: self.jobc("explain", "value", name).out
        self.assertSays(say("params.word"), 'params.word: String = "y"', "given by -p word=…", 'instead of the default "x"')
        self.assertSays(say("limit"), "params.limit: Int = 2", "the default of the source")
        self.assertSays(say("token"), "(secret)", "the environment variable TOKEN")
        self.assertNotIn("the-first-secret", say("token"))
        self.assertSays(say("join.said"), '"y"', "made by attempt 1 of join", "trim(stdout())", "a.job:16")
        self.assertSays(say('upper["b"].rows'), "1", 'upper["b"]')
        self.assertSays(say("upper.env.MODE"), '"loud"', "set by `upper`", "a.job:7")
        self.assertNotIn("the-first-secret", say("upper.env.TOKEN"))
        self.assertSays(say("said"), '"y"', "`export` of the source")
        self.go("--resume", run, "-p", "word=y")
        self.assertSays(say("join.said"), f"made by join in run {run}, used again here")
        self.assertEqual(self.jobc("explain", "value", "word", "--json").json["value"], '"y"')

    def test_names_that_are_not_there(self):
        self.go()
        self.assertSays(self.jobc("explain", "value", "params.wort", code=2).err, "did you mean `params.word`")
        self.assertSays(self.jobc("explain", "value", "upper.rows", code=2).err, "3 instances", 'upper["a"].rows')
        self.assertSays(self.jobc("explain", "value", "join.nothing", code=2).err, "sets no `nothing`", "`run`", "`said`")
        self.assertSays(self.jobc("explain", "value", code=2).err, "a name is missing")


if __name__ == "__main__":
    unittest.main()
