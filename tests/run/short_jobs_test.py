"""Stories of many short jobs, whose attempts are handed over ahead of time: nobody may be able to tell but by the clock."""
import signal
import sqlite3
import unittest

from story import Story, wait_until

INTENT, STARTED, VERDICT, REAPED, FINAL = 2, 3, 4, 5, 6


class ShortJobs(Story):
    def records(self):
        """(type, ordinal, attempt id or a) of the last run, in order."""
        path = sorted((self.at / ".jobc" / "runs").iterdir())[-1] / "journal.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT type, ordinal, a FROM record ORDER BY seq").fetchall()

    def begun(self):
        return [ordinal for kind, ordinal, _ in self.records() if kind == STARTED]

    def check_order(self, at_once):
        """Every attempt is told in order, never more at once than allowed, and each takes a place that is free."""
        alive, seen = set(), {}
        for kind, ordinal, _ in self.records():
            if kind in (INTENT, STARTED, VERDICT, REAPED):
                self.assertEqual(seen.get(ordinal, 1), kind - 1, f"instance {ordinal}: record {kind} after {seen.get(ordinal)}")
                seen[ordinal] = kind
            if kind == STARTED:
                alive.add(ordinal)
                self.assertLessEqual(len(alive), at_once)
            elif kind == REAPED:
                alive.discard(ordinal)
        self.assertEqual(alive, set())
        return seen

    def test_one_place_runs_them_in_order_one_after_the_other(self):
        self.run_job('job a { for i in range(300) key i\n  run = ["sh", "-c", "mkdir @FLAGS@/on || : >@FLAGS@/two; rmdir @FLAGS@/on"] }', "--max-parallel", "1")
        self.assertEqual(self.begun(), list(range(300)))
        self.assertEqual(len(self.check_order(1)), 300)
        self.assertFalse((self.flags / "two").exists(), "two ran at once in one place")

    def test_what_they_write_is_never_mixed(self):
        self.run_job('job a { for i in range(200) key i\n  run = ["sh", "-c", "echo out $JOB_KEY; echo err $JOB_KEY >&2"] }', "--max-parallel", "2")
        self.check_order(2)
        for key in range(0, 200, 23):
            log = self.jobc("logs", f'a["{key}"]').out
            self.assertEqual(sorted(log.split("\n")), sorted([f"out {key}", f"err {key}", ""]), log)

    def test_nothing_begins_after_a_failure_that_stops_the_run(self):
        for how in ("exit 3", "kill -9 $$", "echo '{' >$JOB_RESULT", "echo '{' >smartjob.json"):
            with self.subTest(how=how):
                self.run_job(f'job a {{ for i in range(300) key i\n  run = ["sh", "-c", "test $JOB_KEY != 150 || {how}"] }}', "--max-parallel", "1", code=10)
                self.assertEqual(self.begun(), list(range(151)))
                self.check_order(1)

    def test_everything_goes_on_after_a_failure_that_does_not(self):
        self.run_job('job a { on_error = continue\n for i in range(200) key i\n  run = ["sh", "-c", "test $((JOB_KEY % 7)) != 0"] }', "--max-parallel", "2", code=10)
        self.assertEqual(sorted(self.begun()), list(range(200)))
        self.check_order(2)

    def test_retries_are_counted_as_always(self):
        self.run_job('job a { retry { max_attempts = 2, on = [exit], backoff = constant(0s) }\n for i in range(120) key i\n'
                     '  run = ["sh", "-c", "test $JOB_ATTEMPT = 2 || test $((JOB_KEY % 5)) != 0"] }', "--max-parallel", "2")
        self.assertEqual(len(self.begun()), 120 + 24)
        self.assertEqual({len(one["attempts"]) for one in self.instances().values()}, {1, 2})

    def test_a_long_one_holds_up_nobody(self):
        # One is long among short ones: what was to follow it runs elsewhere, before it ends.
        self.write('edition = 1\njob a { for i in range(60) key i\n  run = ["sh", "-c", "test $JOB_KEY != 30 || while ! test -e '
                   + str(self.flags / "go") + '; do sleep 0.02; done"] }')
        started = self.start("run", "a.job", "--max-parallel", "2")
        wait_until(lambda: (self.at / ".jobc").exists() and len([r for r in self.safe_records() if r[0] == FINAL and r[2] >= 0]) >= 59,
                   what="all others to end")
        (self.flags / "go").touch()
        self.finish(started, "run")
        self.check_order(2)

    def test_one_that_waits_behind_another_can_be_cancelled(self):
        # The first forty are short, so that several wait behind the one that is not; those are asked for by name, and the run goes on.
        self.write('edition = 1\njob a { on_error = continue\n for i in range(60) key i\n  run = ["sh", "-c", "test $JOB_KEY != 40 || { touch ' + str(self.flags / "up")
                   + '; while ! test -e ' + str(self.flags / "go") + '; do sleep 0.02; done; }; touch ' + str(self.flags) + '/$JOB_KEY"] }')
        started = self.start("run", "a.job", "--max-parallel", "1")
        self.wait_for("up")
        for key in (41, 43, 50):
            self.assertIn("cancelled", self.jobc("cancel", f'a["{key}"]', "--wait").err)
        (self.flags / "go").touch()
        self.finish(started, "run", code=10)
        cancelled = {key for key in range(60) if self.instances()[f'a["{key}"]']["state"] == "cancelled"}
        self.assertEqual(cancelled, {41, 43, 50})
        self.assertEqual({key for key in range(60) if not (self.flags / str(key)).exists()}, cancelled, "they never began, the others did")
        self.assertEqual(self.begun(), [key for key in range(60) if key not in cancelled], "in their order")

    def safe_records(self):
        try:
            return self.records()
        except (sqlite3.Error, IndexError, FileNotFoundError):
            return []

    def test_an_interrupt_ends_it_and_resume_runs_what_is_left_once(self):
        self.write('edition = 1\njob a { for i in range(1500) key i\n  run = ["sh", "-c", "echo x >>' + str(self.flags) + '/$JOB_KEY"] }')
        for how in (signal.SIGINT, signal.SIGKILL):
            for file in self.flags.iterdir():
                file.unlink()
            started = self.start("run", "a.job", "--max-parallel", "2")
            wait_until(lambda: len(list(self.flags.iterdir())) > 200, what="some to have run")
            started.send_signal(how)
            self.finish(started, "run", code=130 if how == signal.SIGINT else -signal.SIGKILL)
            final = {r[1] for r in self.records() if r[0] == VERDICT and r[2] == -1}
            self.jobc("resume", code=0)
            counts = {int(file.name): file.read_text().count("x") for file in self.flags.iterdir()}
            self.assertEqual(set(counts), set(range(1500)))
            self.assertEqual({k for k in final if counts[k] != 1}, set(), "what had its verdict ran again")


if __name__ == "__main__":
    unittest.main()
