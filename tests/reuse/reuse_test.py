"""Which instances run again: one thing is changed at a time, and exactly what depends on it must run."""
import os
import shutil
import sqlite3
import struct
import subprocess
import unittest

from pipeline import ALL, ReuseStory, UPPER, wait_until, xxh64


class Resume(ReuseStory):
    def setUp(self):
        super().setUp()
        self.first = self.go()
        self.assertEqual(self.ran(), ALL)

    def outputs(self, run, address):
        return self.jobc("result", run, address, "--json").json

    def test_nothing_changed(self):
        run = self.assertRanAgain([])
        self.assertEqual(set(self.reused(run).values()), {self.first})
        # The new run is whole by itself.
        shutil_free = self.outputs(run, "join")
        self.assertIn(run, shutil_free["all"])
        with open(shutil_free["all"]) as file:
            self.assertEqual(file.read(), "HELLO A\nHELLO B\nHELLO C\n")
        self.assertEqual(self.result(run), {"said": "x", "bytes": self.result(self.first)["bytes"]} | {})

    def test_shown_in_status_and_events(self):
        done = self.jobc("run", "a.job", "--resume", self.first, "--json")
        import json
        events = [json.loads(line) for line in done.out.splitlines()]
        reused = [e for e in events if e.get("reused_from")]
        self.assertEqual({e["event"] for e in reused}, {"succeeded"})
        self.assertEqual(sum(e.get("count", 1) for e in reused), len(ALL))
        self.assertNotIn("started", {e["event"] for e in events})
        self.assertEqual({job["job"]: job.get("reused") for job in self.status()["jobs"]}, {"upper": 3, "join": 1, "long": 1})
        text = self.jobc("run", "a.job", "--resume", self.first).err
        self.assertSays(text, "reused", self.first)
        replay = self.jobc("watch", "--json").out
        self.assertIn(f'"reused_from":"{self.first}"', replay)

    def test_script(self):
        self.pipeline(("tr a-z A-Z", "tr a-y A-Y"))
        self.assertRanAgain(UPPER)  # the same bytes come out of it: join and long are used again

    def test_script_with_another_result(self):
        self.pipeline(("tr a-z A-Z", "tr a-z B-ZA"))
        self.assertRanAgain(ALL)

    def test_env(self):
        self.pipeline(('MODE = "loud"', 'MODE = "quiet"'))
        self.assertRanAgain(UPPER)

    def test_param(self):
        self.assertRanAgain(["join"], "-p", "word=y")
        self.assertEqual(self.result()["said"], "y")

    def test_param_that_only_a_guard_uses(self):
        second = self.assertRanAgain([], "-p", "limit=1")
        self.assertEqual(self.states(self.assertRanAgain([], "-p", "limit=9"))["long"], "skipped")
        # Of a run in which it was skipped there is nothing to use, but the one before that had its result.
        self.assertEqual(self.reused(self.assertRanAgain([]))["long"], second)

    def test_comments_names_and_what_is_not_in_the_key(self):
        self.pipeline(("job join {", "## joins all\njob join {\n  labels { team = \"x\" }\n  timeout { run = 1h }\n  priority = 5\n  retry { max_attempts = 2 }"))
        self.assertRanAgain([])

    def test_renamed_job(self):
        self.pipeline(("job join", "job glue"), ("join.all", "glue.all"), ("join.said", "glue.said"))
        run = self.assertRanAgain([])
        self.assertEqual(self.instances(run)["glue"]["reused"]["address"], "join")

    def test_content_with_the_same_size_and_time(self):
        path = self.at / "in/b.txt"
        was = path.stat()
        path.write_text("hello x\n")
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        self.assertEqual(path.stat().st_mtime_ns, was.st_mtime_ns)
        self.assertRanAgain(['upper["b"]', "join", "long"])

    def test_touched(self):
        os.utime(self.at / "in/b.txt", ns=(1, 1))
        self.assertRanAgain([])

    def test_upstream_ran_but_gave_the_same(self):
        self.write("hello B\n", "in/b.txt")  # the same in upper case
        self.assertRanAgain(['upper["b"]'])

    def test_other_name_of_the_input(self):
        os.rename(self.at / "in/b.txt", self.at / "in/bb.txt")
        self.pipeline(('"in/~{name}.txt"', 'if name == "b" then "in/bb.txt" else "in/~{name}.txt"'))
        self.assertRanAgain(['upper["b"]'])  # the job sees the name

    def test_more_and_fewer_instances(self):
        self.write("hello d\n", "in/d.txt")
        self.pipeline(('["a", "b", "c"]', '["d", "c", "a"]'))
        self.assertRanAgain(['upper["d"]', "join", "long"])

    def test_order_of_instances(self):
        self.pipeline(('["a", "b", "c"]', '["c", "b", "a"]'))
        self.assertRanAgain(["join", "long"])

    def test_secret(self):
        self.assertRanAgain([], env={"TOKEN": "another-secret-of-mine"})
        for path in (self.at / ".jobc").rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                for secret in (b"another-secret-of-mine", b"the-first-secret"):
                    self.assertNotIn(secret, data, path)

    def test_output_deleted(self):
        os.remove(self.outputs(self.first, 'upper["b"]')["up"])
        run = self.assertRanAgain(['upper["b"]'])
        self.assertIn('upper["b"] runs again: its output `b.up` is gone', self.jobc("watch", run).err)

    def test_output_edited(self):
        path = self.outputs(self.first, 'upper["b"]')["up"]
        was = os.stat(path)
        with open(path, "r+") as file:
            file.write("J")
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        run = self.assertRanAgain(['upper["b"]'])
        self.assertIn("was changed since", self.jobc("watch", run).err)

    def test_declared_output(self):
        self.pipeline(("rows: Int =", "rows: Int(0..) ="))
        self.assertRanAgain(UPPER)

    def test_stdout_made_result_is_a_value(self):
        self.pipeline(("said: String = trim(stdout())", 'said: String = "<~{trim(stdout())}>"'))
        self.assertRanAgain(["join"])
        self.assertEqual(self.result()["said"], "<x>")

    def test_chain_of_runs(self):
        second = self.assertRanAgain([])
        third = self.assertRanAgain([], base=second)
        self.assertEqual(set(self.reused(third).values()), {second})
        # The first run may go: the later ones have their files.
        import shutil
        shutil.rmtree(self.at / ".jobc" / "runs" / self.first)
        self.assertRanAgain([], base=third)

    def test_shared_files_are_read_only(self):
        run = self.assertRanAgain([])
        path = self.outputs(run, "join")["all"]
        self.assertTrue(os.path.samefile(path, self.outputs(self.first, "join")["all"]))
        self.assertEqual(os.stat(path).st_mode & 0o222, 0)

    def test_publishing_happens_in_every_run(self):
        self.pipeline(("export {", 'publish "results" { "all.txt" = join.all }\nexport {'))
        self.assertRanAgain([])
        path = self.at / "results/all.txt"
        self.assertEqual(path.read_text(), "HELLO A\nHELLO B\nHELLO C\n")
        self.assertNotEqual(path.stat().st_mode & 0o200, 0)  # the run's own file is read-only, this one is the user's
        path.unlink()
        self.assertRanAgain([])
        self.assertTrue(path.exists())

    def test_checks_and_finally_happen_in_every_run(self):
        self.pipeline(("export {", f'check fine {{ require join.said == params.word else "said ~{{join.said}}" }}\nfinally last {{ run = ["sh", "-c", "echo x >> {self.flag("last")}"] }}\nexport {{'))
        run = self.go("--resume")
        self.assertEqual(self.ran(run), {"last"})
        self.go("--resume")
        self.assertEqual(self.flag("last").read_text(), "x\nx\n")

    def test_no_such_run(self):
        done = self.jobc("run", "a.job", "--resume", "zzzz", code=2)
        self.assertSays(done.err, "zzzz")

    def test_plan_keeps_quiet_about_it(self):
        one = self.jobc("plan", "a.job").out
        self.go("--resume")
        self.assertEqual(self.jobc("plan", "a.job").out, one)


class Failures(ReuseStory):
    def test_only_succeeded_instances(self):
        self.pipeline(("tr a-z A-Z <", '[ ~{name} != b ] || [ -e @GO@ ]; tr a-z A-Z <'.replace("@GO@", str(self.flag("go")))))
        self.go(code=10)
        self.assertEqual(self.states()['upper["b"]'], "failed")
        succeeded = {a for a, s in self.states().items() if s == "succeeded"}
        self.flag("go").touch()
        self.assertRanAgain(ALL - succeeded)

    def test_killed_in_the_middle(self):
        self.pipeline(("tr a-z A-Z <", f'[ ~{{name}} != c ] || [ -e {self.flag("go")} ] || {{ touch {self.flag("here")}; sleep 1000; }}; tr a-z A-Z <'))
        process = self.start("run", "a.job", "--max-parallel", "1")
        self.wait_for("here")
        wait_until(lambda: self.states().get('upper["b"]') == "succeeded", what="b to be recorded")
        process.kill()
        process.wait()
        self.flag("go").touch()
        # Whether the run was the last one started or is named makes no difference.
        run = self.assertRanAgain(['upper["c"]', "join", "long"])
        self.assertEqual(set(self.reused(run)), {'upper["a"]', 'upper["b"]'})

    def kill_before_it_comes_to_the_rest(self):
        """A second run with the results of the first is killed while it runs something new, before it has looked at what comes after that."""
        first = self.go()
        self.pipeline(("tr a-z A-Z <", f'[ -e {self.flag("go")} ] || {{ touch {self.flag("here")}; sleep 1000; }}; tr a-z A-Z <'))
        process = self.start("run", "a.job", "--resume", first)
        self.wait_for("here")
        process.kill()
        process.wait()
        self.flag("go").touch()
        second = self.jobc("list", "--json").json["runs"][0]["id"]
        self.assertNotEqual(second, first)
        return first, second

    def test_killed_again_before_it_came_to_the_rest(self):
        first, second = self.kill_before_it_comes_to_the_rest()
        run = self.assertRanAgain(UPPER, base=second)
        self.assertEqual(self.reused(run), {"join": first, "long": first})

    def test_killed_and_gone_on_with(self):
        first, second = self.kill_before_it_comes_to_the_rest()
        self.jobc("resume", second)
        self.assertEqual(self.ran(second), UPPER)
        self.assertEqual(self.reused(second), {"join": first, "long": first})

    def test_killed_cancelled_and_gone_on_with(self):
        first, second = self.kill_before_it_comes_to_the_rest()
        self.jobc("cancel", second)
        self.assertEqual(set(self.states(second).values()), {"cancelled"})
        self.jobc("resume", second)
        self.assertEqual(self.ran(second), UPPER)
        self.assertEqual(self.reused(second), {"join": first, "long": first})

    def test_killed_and_gone_on_with_when_the_first_is_gone(self):
        first, second = self.kill_before_it_comes_to_the_rest()
        shutil.rmtree(self.at / ".jobc" / "runs" / first)
        done = self.jobc("resume", second)
        self.assertSays(done.err, f"results of the run {first} are not used any more")
        self.assertEqual(self.ran(second), ALL)

    def test_killed_over_and_over(self):
        """Whatever the moment: what a killed run had recorded as succeeded never runs again, and the result is right."""
        log = self.flag("log")
        log.touch()
        self.write(f"""edition = 1
job part {{ for n in range(60) key to_string(n)
  run = ["sh", "-c", "echo $0 >> {log}; echo $0 > $1", to_string(n), output.f]
  output {{ f: File = "f", v: Int = to_int(trim(read_text("f"))) }} }}
job half {{ for n in range(60) key to_string(n)
  input {{ f: File = part[to_string(n)].f }}
  run = ["sh", "-c", "echo half-$0 >> {log}; cat $1", to_string(n), input.f]
  output {{ v: Int = to_int(trim(stdout())) }} }}
export {{ sum: Int = sum([for p in half[*] : p.v]) }}
""")
        done = set()
        kill = 0
        # How much of a run is recorded when it is killed depends on the machine: enough kills for a good part of the jobs.
        while kill < 8 or len(done) <= 20:
            self.assertLess(kill, 60, done)
            lines = len(log.read_text().splitlines())
            process = self.start("run", "a.job", "--max-parallel", "2", *(["--resume"] if kill else []), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: len(log.read_text().splitlines()) >= lines + 11, what="another eleven attempts")
            if kill >= 8:  # a slow disk may have none of eleven quick ones recorded
                wait_until(lambda: {a for a, one in self.instances().items() if one["state"] == "succeeded"} - done, what="another one to be recorded")
            process.kill()
            process.wait()
            instances = self.instances()
            self.assertEqual({a for a, one in instances.items() if one["attempts"]} & done, set())
            done |= {a for a, one in instances.items() if one["state"] == "succeeded"}
            kill += 1
        run = self.go("--resume")
        self.assertEqual(self.ran(run) & done, set())
        self.assertEqual(self.result(run), {"sum": sum(range(60))})

    def test_detached(self):
        first = self.go()
        run = self.jobc("run", "a.job", "--resume", first, "--detach").out.strip()
        self.jobc("watch", run)
        self.assertEqual(self.ran(run), set())
        self.assertEqual(set(self.reused(run)), ALL)

    def test_run_that_still_goes_on(self):
        self.write(f'edition = 1\njob a {{ run = ["sh", "-c", "touch {self.flag("here")}; sleep 1000"] }}\n', "slow.job")
        process = self.start("run", "slow.job")
        self.wait_for("here")
        done = self.jobc("run", "a.job", "--resume", code=15)
        self.assertSays(done.err, "still being executed", "jobc cancel")
        process.kill()
        process.wait()

    def test_input_changed_while_the_run_lasts(self):
        self.pipeline(("tr a-z A-Z <", f'touch {self.flags}/~{{name}}; [ ~{{name}} != a ] || while ! [ -e {self.flag("go")} ]; do sleep 0.01; done; tr a-z A-Z <'))
        process = self.start("run", "a.job", "--max-parallel", "1")
        self.wait_for("a")
        self.write("hello x\n", "in/b.txt")
        self.flag("go").touch()
        done = self.finish(process, code=10)
        self.assertSays(done.err, "in/b.txt", "was changed after the plan was made")
        self.assertFalse(self.flag("b").exists())  # it never began
        self.assertEqual(self.instances()['upper["b"]']["kind"], "staging")


class GoingOn(ReuseStory):
    """`resume` and `retry`: the same run again. What has succeeded stays, as long as its outputs are what they were."""

    def setUp(self):
        super().setUp()
        self.pipeline(("tr a-z A-Z <", f'echo ~{{name}} >> {self.flag("log")}; tr a-z A-Z <'), ("cat \\\"$@", f'[ -e {self.flag("go")} ] || exit 1; cat \\"$@'))
        self.run_id = self.go(code=10)
        self.flag("go").touch()

    def again(self, expected):
        done = self.jobc("retry", self.run_id)
        self.assertEqual(self.result(self.run_id)["said"], "x")
        self.assertEqual(sorted(self.flag("log").read_text().split())[:], sorted(["a", "b", "c", *expected]))
        with open(self.jobc("result", self.run_id, "join.all", "--json").json) as file:
            self.assertEqual(file.read(), "HELLO A\nHELLO B\nHELLO C\n")
        return done.err

    def output(self, name):
        return self.jobc("result", self.run_id, f'upper["{name}"].up', "--json").json

    def test_nothing_touched(self):
        self.again([])

    def test_touched(self):
        os.utime(self.output("a"), ns=(1, 1))
        self.again([])

    def test_edited(self):
        path = self.output("b")
        was = os.stat(path)
        with open(path, "r+") as file:
            file.write("J")
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        self.assertSays(self.again(["b"]), 'upper["b"] runs again: its output `b.up` was changed since')

    def test_gone(self):
        os.remove(self.output("c"))
        self.assertSays(self.again(["c"]), 'upper["c"] runs again')


class Domains(ReuseStory):
    def test_dynamic_scatter(self):
        self.write("1\n2\n3\n", "n.txt")
        self.write("""edition = 1
job list { input { f: File = "n.txt" }  run = ["cat", input.f]  output { ns: List<Int> = [for l in lines(stdout()) : to_int(l)] } }
job each { for n in list.ns key n max 100
  run = ["expr", to_string(n), "*", "2"]
  output { twice: Int = to_int(trim(stdout())) } }
job total { run = ["echo", to_string(sum([for e in each[*] : e.twice]))]  output { all: String = trim(stdout()) } }
export { all: String = total.all }
""")
        self.go()
        self.assertEqual(self.result()["all"], "12")
        self.assertRanAgain([])
        self.write("1\n3\n4\n", "n.txt")
        self.assertRanAgain(["list", "each[\"4\"]", "total"])
        self.assertEqual(self.result()["all"], "16")

    def test_job_key_counts(self):
        # Nothing but JOB_KEY tells these apart.
        self.write("""edition = 1
job k { for n in range(3)  run = ["sh", "-c", "echo $JOB_KEY"]  output { said: String = trim(stdout()) } }
export { all: List<String> = k[*].said }
""")
        self.go()
        self.assertEqual(self.result()["all"], ["0", "1", "2"])
        self.assertRanAgain([])
        self.assertEqual(self.result()["all"], ["0", "1", "2"])

    def test_loop_variable_in_an_output(self):
        text = 'edition = 1\njob k { for n in range(2)  run = ["true"]  output { v: Int = n + @ } }\nexport { all: List<Int> = k[*].v }\n'
        self.write(text.replace("@", "1"))
        self.go()
        self.write(text.replace("@", "5"))
        self.assertRanAgain(["k[0]" if "k[0]" in self.states() else 'k["0"]', 'k["1"]'])
        self.assertEqual(self.result()["all"], [5, 6])

    def test_directories_and_large_files(self):
        self.write("""edition = 1
job d { run = ["sh", "-c", "mkdir -p $0/x; echo one > $0/x/f; head -c 3000000 /dev/zero > big", output.tree]  output { tree: Dir = "tree", big: File = "big" } }
job u { input { tree: Dir = d.tree, big: File = d.big }  run = ["sh", "-c", "cat $0/x/f; wc -c < $1", input.tree, input.big]  output { said: List<String> = lines(stdout()) } }
export { said: List<String> = u.said }
""")
        first = self.go()
        self.assertEqual(self.result()["said"], ["one", "3000000"])
        second = self.assertRanAgain([])
        self.assertEqual(self.result()["said"], ["one", "3000000"])
        inside = self.jobc("result", first, "d", "--json").json["tree"] + "/x/f"
        os.chmod(inside, 0o644)
        with open(inside, "a") as file:
            file.write("two\n")
        # Both runs share the file.
        self.assertRanAgain(["d"], base=second)

    def test_ignored_failures_run_again(self):
        self.write("""edition = 1
job i { for n in ["x", "y"] key n  on_error = ignore  run = ["sh", "-c", "[ $0 = x ] && echo fine", n]  output { said: String = trim(stdout()) } }
job u { run = ["echo", ...compact(i[*].said)]  output { said: String = trim(stdout()) } }
export { said: String = u.said }
""")
        self.go()
        self.assertRanAgain(['i["y"]'])

    def test_retried_instances_report_the_original(self):
        self.write(f"""edition = 1
job r {{ retry {{ max_attempts = 3, on = [exit] }}
  run = ["sh", "-c", "echo x >> {self.flag("tries")}; [ $(wc -l < {self.flag("tries")}) -ge 2 ]"] }}
check twice {{ require r.attempts == 2 else "attempts: ~{{r.attempts}}" }}
""")
        self.go()
        run = self.go("--resume")
        self.assertEqual(self.ran(run), set())
        self.assertEqual(self.instances(run)["r"]["reused"]["attempts"], 2)


class Cache(ReuseStory):
    def setUp(self):
        super().setUp()
        self.cached = [("  env { MODE", '  cache = true\n  cache_salt = "1"\n  env { MODE')]
        self.pipeline(*self.cached)

    def test_used_by_every_later_run(self):
        first = self.go()
        self.assertEqual(self.ran(), ALL)
        second = self.go()
        self.assertEqual(self.ran(second), {"join", "long"})
        self.assertEqual(set(self.reused(second)), UPPER)
        # Also where the runs are gone, and from another directory.
        import shutil
        shutil.rmtree(self.at / ".jobc")
        other = self.base / "elsewhere"
        shutil.copytree(self.at, other)
        self.jobc("run", "a.job", cwd=other)
        self.assertEqual(self.ran(*(["--state", str(other / ".jobc")])), {"join", "long"})
        self.assertNotEqual(first, second)

    def test_salt(self):
        self.go()
        self.pipeline(*self.cached, ('cache_salt = "1"', 'cache_salt = "2"'))
        self.go()
        self.assertEqual(self.ran(), ALL)

    def test_not_asked_for(self):
        self.go()
        self.pipeline(*self.cached, ("cache = true", "cache = false"))
        self.go()
        self.assertEqual(self.ran(), ALL)

    def test_by_instance(self):
        self.pipeline(*self.cached, ("cache = true", 'cache = name != "b"'))
        self.go()
        self.go()
        self.assertEqual(self.ran(), {'upper["b"]', "join", "long"})

    def test_damaged_entry_runs_again_and_is_made_new(self):
        self.go()
        kept = [p for p in (self.base / "cache").rglob("b.up")]
        self.assertEqual(len(kept), 1)
        self.assertEqual(kept[0].stat().st_mode & 0o222, 0)
        os.chmod(kept[0], 0o644)
        kept[0].write_text("HELLO X\n")
        self.go()
        self.assertEqual(self.ran(), {'upper["b"]', "join", "long"})
        self.go()
        self.assertEqual(self.ran(), {"join", "long"})

    def test_entry_that_is_nonsense(self):
        self.go()
        for entry, text in zip((self.base / "cache").rglob("entry.json"), ("", "{", '{"schema":"jobc.cache/9"}')):
            os.chmod(entry, 0o644)
            entry.write_text(text)
        self.go()
        self.assertEqual(self.ran(), ALL)
        self.go()
        self.assertEqual(self.ran(), {"join", "long"})

    def test_at_the_same_time(self):
        processes = [self.start("run", "a.job", "--state", str(self.base / f"state{i}")) for i in range(4)]
        for process in processes:
            self.finish(process)
        self.go()
        self.assertEqual(self.ran(), {"join", "long"})
        self.assertEqual([p for p in (self.base / "cache").rglob(".new-*")], [])

    def test_failures_are_not_kept(self):
        self.pipeline(*self.cached, ("tr a-z A-Z <", f'[ -e {self.flag("go")} ]; tr a-z A-Z <'))
        self.go("--on-error", "continue", code=10)
        self.flag("go").touch()
        self.go()
        self.assertEqual(self.ran(), ALL)

    def test_cache_that_cannot_be_written(self):
        (self.base / "cache").write_text("a file")
        done = self.jobc("run", "a.job")
        self.assertSays(done.err, "cannot be kept for other runs")
        self.assertEqual(done.err.count("cannot be kept"), 1)


class Journals(ReuseStory):
    def test_key_stands_before_the_end_of_each_instance(self):
        run = self.go()
        with sqlite3.connect(self.at / ".jobc/runs" / run / "journal.db") as db:
            self.assertEqual(db.execute("pragma user_version").fetchone()[0], 4)
            keys = db.execute("select job, ordinal, seq, json_extract(text, '$.key') from record where type = 2").fetchall()
            ends = dict(((job, ordinal), seq) for job, ordinal, seq in db.execute("select job, ordinal, seq from record where type = 3"))
        self.assertEqual(len(keys), len(ALL))
        self.assertEqual(len({key for *_, key in keys}), len(ALL))
        for job, ordinal, seq, key in keys:
            self.assertRegex(key, "^[0-9a-f]{64}$")
            self.assertLess(seq, ends[job, ordinal])

    def old(self, run):
        """The journal as it was before keys were kept, with sums that are right."""
        def row_sum(*values):
            data = b"".join(struct.pack("<q", v) if isinstance(v, int) else struct.pack("<q", len(v.encode())) + v.encode() for v in values)
            return xxh64(data) & 0xffffffff

        with sqlite3.connect(self.at / ".jobc/runs" / run / "journal.db") as db:
            db.execute("update record set type = 12, text = 'a note' where type = 14")
            db.execute("update record set text = null where type = 2")
            db.execute("create table o(job INTEGER NOT NULL, ordinal INTEGER NOT NULL, attempt INTEGER NOT NULL, outputs TEXT NOT NULL, result TEXT, sum INTEGER NOT NULL, PRIMARY KEY(job, ordinal)) WITHOUT ROWID")
            for job, ordinal, attempt, outputs, result in db.execute("select job, ordinal, attempt, outputs, result from output").fetchall():
                outputs_sum = row_sum(job, ordinal, attempt, outputs, result or "")
                db.execute("insert into o values(?, ?, ?, ?, ?, ?)", (job, ordinal, attempt, outputs, result, outputs_sum))
                db.execute("update record set text = ? where type = 4 and job = ? and ordinal = ? and text like '%outputs%'", (f'{{"outputs":{outputs_sum}}}', job, ordinal))
            db.execute("drop table output")
            db.execute("alter table o rename to output")
            for row in db.execute("select seq, time_ms, type, job, ordinal, attempt, a, b, coalesce(text, '') from record").fetchall():
                db.execute("update record set sum = ? where seq = ?", (row_sum(*row), row[0]))
            db.execute("pragma user_version = 2")

    def test_older_journal_is_read(self):
        run = self.go()
        self.old(run)
        self.assertEqual(self.states(run), {address: "succeeded" for address in ALL})
        self.assertEqual(self.result(run)["said"], "x")
        self.assertRanAgain(ALL, base=run)  # nothing is known of what its results depend on

    def test_older_journal_is_gone_on_with(self):
        self.pipeline(("wc", str(self.flag("wc"))))
        run = self.go(code=10)
        self.old(run)
        self.flag("wc").write_text("#!/bin/sh\necho fine\n")
        os.chmod(self.flag("wc"), 0o755)
        self.jobc("retry", run)
        self.assertEqual(self.result(run)["bytes"], "fine")
        with sqlite3.connect(self.at / ".jobc/runs" / run / "journal.db") as db:
            self.assertEqual(db.execute("pragma user_version").fetchone()[0], 4)
        # What ran now has a key, what ran before has none.
        self.assertRanAgain(UPPER | {"join"}, base=run)


if __name__ == "__main__":
    unittest.main()
