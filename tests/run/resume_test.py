#!/usr/bin/env python3
"""Stories of runs that were cut off and go on: kills, power losses, full disks, files that changed meanwhile."""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import unittest

from story import ROOT, Story, wait_until

# `first` finishes; `second` waits for a word of the test, so that the run can be ended in its midst.
CHAIN = """
job first { for i in range(3) key "k~{i}"
  script = <<~SH
    echo ~{i} >> @FLAGS@/first; echo ~{i} > n
  SH
  output { n: File = "n", v: Int = length(lines(read_text("n"))) }
}
job second { after = [first]
  script = <<~SH
    echo "$JOB_ATTEMPT $JOB_EXECUTION_ID" >> @FLAGS@/second; touch @FLAGS@/started; until [ -e @FLAGS@/go ]; do sleep 0.02; done
    echo "done by $JOB_ATTEMPT"
  SH
  output { said: String = trim(stdout()) }
}
job third { after = [second] script = <<~SH
  echo x >> @FLAGS@/third
SH
}
export { sum: Int = sum(first[*].v), said: String = second.said }
"""


class CutOff(Story):
    def begin(self, *words):
        """Starts the chain and returns when `second` runs."""
        self.write("edition = 1\n" + CHAIN.replace("@FLAGS@", str(self.flags)))
        process = self.start("run", "a.job", *words)
        self.wait_for("started")
        return process

    def killed(self, *words):
        process = self.begin(*words)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return self.run_dir()

    def run_dir(self):
        runs = self.at / ".jobc" / "runs"
        return runs / sorted(os.listdir(runs))[-1]

    def expect_end(self, done, attempt=2, firsts=3):
        self.assertEqual(done.json, {"sum": 3, "said": f"done by {attempt}"})
        self.assertEqual(set(self.states().values()), {"succeeded"})
        self.assertEqual(len(self.flag("first").read_text().split()), firsts)
        self.assertEqual(self.flag("third").read_text(), "x\n")
        executions = [line.split()[1] for line in self.flag("second").read_text().splitlines()]
        self.assertEqual(len(set(executions)), len(executions), "an execution id was given twice")

    def log(self, run):
        """The log of the journal: what a kill leaves beside the file."""
        return run / "journal.db-wal"

    def test_a_kill_costs_the_attempt_that_ran_and_no_more(self):
        for life in range(3):
            # Killed, resumed, killed again: each time an attempt in between, which is counted.
            if life == 0:
                self.killed()
            else:
                self.flag("started").unlink()
                process = self.start("resume")
                self.wait_for("started")
                process.send_signal(signal.SIGKILL)
                process.wait()
            self.assertEqual(self.status()["status"], "crashed")
        self.flag("go").touch()
        self.expect_end(self.jobc("resume"), attempt=4)
        second = self.instances()["second"]
        self.assertEqual([(one["number"], one["success"]) for one in second["attempts"]], [(1, False), (2, False), (3, False), (4, True)])
        self.assertSays(json.dumps(second["attempts"][0]), "node_lost", "jobc ended while it ran")

    def test_a_torn_end_of_the_log_is_what_a_power_loss_leaves(self):
        run = self.killed()
        with open(self.log(run), "r+b") as file:
            data = file.read()
            file.write(data[-4096 - 24:][:3000])  # half a page more, which was on its way
        (run / "journal.db-shm").unlink(missing_ok=True)
        self.flag("go").touch()
        done = self.jobc("resume")
        self.assertNotIn("lacks", done.err)
        self.expect_end(done)

    def test_a_last_page_that_was_safe_and_is_gone_is_told_and_may_be_done_without(self):
        run = self.killed()
        size = self.log(run).stat().st_size
        whole = self.log(run).read_bytes()
        os.truncate(self.log(run), size - 4096)
        (run / "journal.db-shm").unlink(missing_ok=True)
        status = self.jobc("status", "--json")
        self.assertGreater(status.json["lost_records"], 0)
        self.assertSays(status.err, "warning: ", "lacks its last", run.name)
        before = {path.name: path.read_bytes() for path in run.glob("journal.db*") if not path.name.endswith("-shm")}
        done = self.jobc("resume", code=15)
        self.assertSays(done.err, "error: ", "lacks its last", "journal.db-wal", f"jobc resume {run.name} --accept-loss")
        self.assertEqual(done.out, "")
        for name, content in before.items():
            self.assertEqual((run / name).read_bytes(), content, f"{name}: what is refused is not touched")
        # The first advice: the file comes back.
        self.log(run).write_bytes(whole)
        self.assertNotIn("lost_records", self.status())
        # The second one.
        os.truncate(self.log(run), size - 4096)
        (run / "journal.db-shm").unlink(missing_ok=True)
        self.flag("go").touch()
        done = self.jobc("resume", "--accept-loss")
        self.assertSays(done.err, "lacks its last", "may run a second time")
        self.assertEqual(done.json["sum"], 3)
        self.assertEqual(set(self.states().values()), {"succeeded"})
        self.assertNotIn("lost_records", self.status())
        executions = [line.split()[1] for line in self.flag("second").read_text().splitlines()]
        self.assertEqual(len(set(executions)), 2, executions)

    def test_outputs_that_a_power_loss_took_are_made_again(self):
        # The verdict was durable, the file was not: it is empty, or of its old size and full of zeros, and looks as old as it was.
        for content in (b"", b"\0\0"):
            with self.subTest(content=content):
                for flag in self.flags.iterdir():
                    flag.unlink()
                run = self.killed()
                output, = (path for path in (run / "outputs").rglob("n") if path.read_text() == "1\n")
                then = output.stat().st_mtime_ns
                output.write_bytes(content)
                os.utime(output, ns=(then, then))
                self.flag("go").touch()
                done = self.jobc("resume")
                self.assertSays(done.err, 'first["k1"] runs again: its output `n` was changed since')
                self.assertEqual(done.err.count("runs again"), 1, "the other files are whole")
                self.expect_end(done, firsts=4)
                self.assertEqual(output.read_text(), "1\n")

    @unittest.skipUnless(ROOT and shutil.which("unshare"), "needs a mount namespace")
    def test_after_a_reboot_every_output_is_read_however_old_it_looks(self):
        # What lies under an output's name afterwards was made before the attempt ended, and says so: only its content tells.
        for rebooted in (False, True):
            with self.subTest(rebooted=rebooted):
                for flag in self.flags.iterdir():
                    flag.unlink()
                zeros, boot = self.base / "zeros", self.base / "boot_id"
                zeros.write_bytes(b"\0\0")
                boot.write_text("00000000-0000-4000-8000-000000000000\n")
                run = self.killed()
                output, = (path for path in (run / "outputs").rglob("n") if path.read_text() == "1\n")
                script = f'mount --bind "{zeros}" "{output}"; '
                if rebooted:
                    script += f'mount --bind "{boot}" /proc/sys/kernel/random/boot_id; '
                self.flag("go").touch()
                # A file that is mounted cannot be replaced by the one that is made anew.
                done = self.jobc("resume", prefix=("unshare", "--mount", "sh", "-euc", script + 'exec "$@"', "sh"), code=10 if rebooted else 0)
                if rebooted:
                    self.assertSays(done.err, 'first["k1"] runs again: its output `n` was changed since')
                    self.assertEqual(done.err.count("runs again"), 1, "the other files are whole")
                else:
                    self.assertNotIn("runs again", done.err)
                    self.expect_end(done)

    def test_a_log_that_was_left_behind_is_told(self):
        run = self.killed()
        self.log(run).unlink()
        (run / "journal.db-shm").unlink(missing_ok=True)
        self.assertGreater(self.status()["lost_records"], 5)
        self.jobc("resume", code=15)
        self.jobc("retry", code=15)
        self.flag("go").touch()
        self.assertEqual(self.jobc("resume", "--accept-loss").json["sum"], 3)

    def test_normal_durability_goes_on_without_being_told_to(self):
        run = self.killed("--durability", "normal")
        os.truncate(self.log(run), self.log(run).stat().st_size - 4096)
        (run / "journal.db-shm").unlink(missing_ok=True)
        self.flag("go").touch()
        done = self.jobc("resume")
        self.assertSays(done.err, "lacks its last", "--durability normal")
        self.assertEqual(done.json["sum"], 3)

    def test_a_record_that_was_changed_is_named_and_nothing_is_run(self):
        run = self.killed()
        database = sqlite3.connect(run / "journal.db")
        database.execute("update record set a = 0 where type = 4 and job = 0 and ordinal = 1")
        database.commit()
        database.close()
        for command in ("status", "result", "resume", "retry"):
            done = self.jobc(command, code=15)
            self.assertSays(done.err, "error: ", "is damaged (record ", "is not as it was written", str(run))
            self.assertEqual(done.out, "")

    def test_outputs_that_were_changed_in_the_journal_are_no_results(self):
        self.flag("go").touch()
        self.finish(self.begin())
        run = self.run_dir()
        for change in ("update output set outputs = replace(outputs, '1', '7') where job = 1", "delete from output where job = 1"):
            shutil.copy(run / "journal.db", self.base / "kept.db")
            database = sqlite3.connect(run / "journal.db")
            database.execute(change)
            database.commit()
            database.close()
            self.assertSays(self.jobc("result", "second", code=15).err, "is damaged", "outputs")
            for name in ("journal.db-wal", "journal.db-shm"):
                (run / name).unlink(missing_ok=True)
            shutil.copy(self.base / "kept.db", run / "journal.db")
        self.assertEqual(self.result("second"), {"said": "done by 1"})


class Changed(Story):
    def test_an_input_that_changed_is_named_with_what_to_type(self):
        self.write("one\n", "data/in.txt")
        self.write("two\n", "data/other.txt")
        self.write(f"""edition = 1
job a {{ input {{ x: File = "data/in.txt", y: File = "data/other.txt" }}
  script = <<~SH
    touch {self.flags}/started; until [ -e {self.flags}/go ]; do sleep 0.02; done; cat ~{{input.x}} ~{{input.y}}
  SH
  output {{ t: String = stdout() }} }}
export {{ t: String = a.t }}
""")
        process = self.start("run", "a.job")
        self.wait_for("started")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.write("changed\n", "data/in.txt")
        (self.at / "data/other.txt").unlink()
        done = self.jobc("resume", code=3)
        self.assertSays(done.err, "error: ", "data/in.txt", "data/other.txt", "jobc run a.job")
        self.write("one\n", "data/in.txt")
        self.write("two\n", "data/other.txt")
        self.flag("go").touch()
        self.assertEqual(self.jobc("resume").json, {"t": "one\ntwo\n"})

    def test_a_source_that_changed_is_said_and_the_stored_plan_goes_on(self):
        text = f"""edition = 1
job a {{ script = <<~SH
  touch {self.flags}/started; until [ -e {self.flags}/go ]; do sleep 0.02; done; echo old
SH
output {{ t: String = trim(stdout()) }} }}
export {{ t: String = a.t }}
"""
        self.write(text)
        process = self.start("run", "a.job")
        self.wait_for("started")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.write(text.replace("echo old", "echo new"))
        self.flag("go").touch()
        done = self.jobc("resume")
        self.assertEqual(done.json, {"t": "old"})
        self.assertSays(done.err, "note: ", "this source has changed", str(self.at / "a.job"), "jobc run a.job")
        self.assertEqual(self.jobc("run", "a.job").json, {"t": "new"})


class FullDisk(Story):
    def test_what_had_finished_on_a_disk_that_filled_up_stays(self):
        disk = self.base / "disk"
        disk.mkdir()
        self.write(f"""edition = 1
job first {{ script = <<~SH
  echo x >> {self.flags}/first; echo kept > f
SH
output {{ f: File = "f" }} }}
job fill {{ input {{ f: File = first.f }} script = <<~SH
  echo $JOB_ATTEMPT >> {self.flags}/fill; [ -e {self.flags}/free ] || {{ cat /dev/zero > {disk}/big || true; while :; do echo line; sleep 0.05; done; }}
  cat ~{{input.f}}
SH
output {{ t: String = trim(stdout()) }} }}
export {{ t: String = fill.t }}
""")
        script = f"""mount -t tmpfs -o size=6m,mode=777 tmpfs "{disk}" || exit 77
{self.program} run a.job --state {disk}/state; code=$?
{self.program} status --state {disk}/state > {self.flags}/status; {self.program} list --state {disk}/state --json > {self.flags}/list
{self.program} watch --state {disk}/state > {self.flags}/watch 2>&1; echo "watch: $?" >> {self.flags}/watch
{self.program} resume --state {disk}/state; echo "resume while it is full: $?" >&2
rm {disk}/big; touch {self.flags}/free
{self.program} resume --state {disk}/state || exit 98
{self.program} status --state {disk}/state --json --instances || exit 99
exit $code"""
        unshare = ["unshare", "-m"] if ROOT else ["unshare", "-rm"]
        done = subprocess.run([*unshare, "sh", "-c", script], cwd=self.at, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode == 77 or b"unshare" in done.stderr:
            self.skipTest("no mount for this user here")
        said = done.stderr.decode()
        self.assertEqual(done.returncode, 15, said)
        self.assertSays(said, "jobc resume", "resume while it is full: 15")
        # Another process knows why, while the disk is still full.
        self.assertSays(self.flag("status").read_text(), "failed, exit 15", "no space left", "jobc resume")
        [listed] = json.loads(self.flag("list").read_text())["runs"]
        self.assertEqual((listed["status"], listed["exit_code"], listed["finished"]), ("failed", 15, True))
        self.assertRegex(listed["message"].lower(), "no space left")
        self.assertSays(self.flag("watch").read_text(), "jobc resume", "watch: 15")
        self.assertEqual(list(disk.rglob("reserve")), [])
        decoder = json.JSONDecoder()
        exports, end = decoder.raw_decode(done.stdout.decode())
        status = json.loads(done.stdout.decode()[end:])
        self.assertEqual(exports, {"t": "kept"})
        self.assertEqual(status["status"], "succeeded")
        self.assertEqual({one["address"]: one["state"] for one in status["instances"]}, {"first": "succeeded", "fill": "succeeded"})
        self.assertEqual(self.flag("first").read_text(), "x\n", "what had finished ran again")

    def test_a_log_that_cannot_be_written_ends_the_run(self):
        # Nothing is journaled while the only attempt prints: the log alone finds that the disk is full.
        disk = self.base / "disk"
        disk.mkdir()
        self.write(f'''edition = 1
job fill {{ script = <<~SH
  until [ -e {self.flags}/full ]; do sleep 0.02; done
  while :; do echo line; sleep 0.02; done
SH
}}
''')
        script = f'''mount -t tmpfs -o size=6m,mode=777 tmpfs "{disk}" || exit 77
{self.program} run a.job --state {disk}/state & jobc=$!
until {self.program} status --state {disk}/state --json --instances 2>/dev/null | grep -q '"started_ms": *[1-9]'; do sleep 0.05; done
cat /dev/zero > {disk}/big
touch {self.flags}/full
wait $jobc; code=$?
{self.program} list --state {disk}/state --json > {self.flags}/list
exit $code'''
        unshare = ["unshare", "-m"] if ROOT else ["unshare", "-rm"]
        done = subprocess.run([*unshare, "sh", "-c", script], cwd=self.at, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode == 77 or b"unshare" in done.stderr:
            self.skipTest("no mount for this user here")
        self.assertEqual(done.returncode, 15, done.stderr.decode())
        self.assertSays(done.stderr.decode(), "cannot write the log", "No space left on device", "jobc resume")
        listed = json.loads(self.flag("list").read_text())["runs"][0]
        self.assertEqual((listed["status"], listed["exit_code"]), ("failed", 15))
        self.assertSays(listed["message"], "cannot write the log", "No space left on device", "jobc resume")

    def test_a_detached_run_on_a_disk_that_fills_up_says_why(self):
        disk = self.base / "disk"
        disk.mkdir()
        self.write(f"""edition = 1
job fill {{ script = <<~SH
  cat /dev/zero > {disk}/big || true; while :; do echo line; sleep 0.05; done
SH
}}
""")
        script = f"""mount -t tmpfs -o size=3m,mode=777 tmpfs "{disk}" || exit 77
{self.program} run a.job --detach --state {disk}/state || exit 1
{self.program} watch --state {disk}/state; echo "watch: $?" >&2
{self.program} status --state {disk}/state"""
        unshare = ["unshare", "-m"] if ROOT else ["unshare", "-rm"]
        done = subprocess.run([*unshare, "sh", "-c", script], cwd=self.at, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode == 77 or b"unshare" in done.stderr:
            self.skipTest("no mount for this user here")
        self.assertSays(done.stderr.decode(), "watch: 15", "jobc resume")
        self.assertSays(done.stdout.decode(), "failed, exit 15", "jobc resume")
        self.assertRegex(done.stdout.decode().lower(), "no space left")

    def test_the_room_for_the_end_is_there_while_a_run_goes_on_and_after_a_kill(self):
        self.write(f"""edition = 1
job a {{ script = <<~SH
  touch {self.flags}/started; until [ -e {self.flags}/go ]; do sleep 0.02; done
SH
}}
""")
        process = self.start("run", "a.job")
        self.wait_for("started")
        [reserve] = (self.at / ".jobc/runs").glob("*/reserve")
        self.assertGreaterEqual(reserve.stat().st_blocks * 512, 128 * 1024)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertTrue(reserve.exists())
        self.flag("go").touch()
        self.jobc("resume")
        self.assertFalse(reserve.exists())

    def test_the_last_words_of_a_detached_run_that_could_not_record_its_end(self):
        self.write(f"""edition = 1
job a {{ script = <<~SH
  touch {self.flags}/started; until [ -e {self.flags}/go ]; do sleep 0.02; done
SH
}}
""")
        pid = self.jobc("run", "a.job", "--detach", "--json").json["pid"]
        self.wait_for("started")
        console = next((self.at / ".jobc/runs").glob("*/console.log"))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.status()["status"] == "crashed", what="the run to look crashed")
        with console.open("a") as file:
            file.write("00:00 a: started\n")
        self.assertSays(self.jobc("status").out, "ended without a word", str(console), "a: started")
        # As where the journal's file had become read-only.
        with console.open("a") as file:
            file.write("error: cannot write the journal: it is not writable\nresults: jobc result\n")
        for said in (self.jobc("status").out, self.jobc("list", "--json").out, self.jobc("watch", code=15).err):
            self.assertSays(said, "could not record its end", "error: cannot write the journal: it is not writable")
        # Another process has had it since: these words are no longer its last ones.
        os.utime(console, (1, 1))
        self.assertSays(self.jobc("status").out, "ended without a word")
        self.assertNotIn("console.log", self.jobc("status").out)


if __name__ == "__main__":
    unittest.main()
