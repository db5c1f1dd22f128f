"""Faults of the world and jobs that misbehave: disks that are full at every phase of a run, places that become read-only,
clocks that jump, jobs that delete their own directory, write their result twice or write results made to break readers.
Whatever happens, jobc ends with a code that says what it was, leaves nothing alive, and what it recorded can be gone on with."""
import glob
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from story import ROOT, SANITIZED, Story, processes_with, wait_until

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)

# Every phase of a run writes: hooks, staging, results, outputs, exports, publishing, finally.
PHASES = """edition = 1
hook on start { run = ["echo", "start"] }
job one { script = <<~SH
  head -c 20000 /dev/zero | tr '\\0' x > big.txt; echo '{"n": 7}' > "$JOB_RESULT"; head -c 3000 /dev/zero | tr '\\0' y
SH
output { n: Int, big: File = "big.txt" } }
job two { for i in range(4) key i input { f: File = one.big } script = <<~SH
  wc -c < "$JOB_INPUT/f/big.txt" > size.txt; head -c 9000 /dev/zero | tr '\\0' z
SH
output { size: File = "size.txt", m: Int = to_int(trim(read_text("size.txt"))) } }
finally clean { run = ["echo", "clean"] }
hook on finish { run = ["echo", "finish"] }
export { n: Int = one.n, m: List<Int> = two[*].m }
publish "@OUT@" { "sizes/" = compact([one.big]) }
"""


@unittest.skipUnless(ROOT and shutil.which("unshare"), "needs a mount namespace")
class FullDisks(Story):
    def test_at_every_phase(self):
        """The state is on a disk with room for less and less; afterwards there is room again, and the run is gone on with."""
        out = self.base / "published"
        self.write(PHASES.replace("@OUT@", str(out)))
        disk = self.base / "disk"
        disk.mkdir()
        # One line for each: room in KiB, code of the run, code of going on, result. `resume` only where there is a run.
        script = """
mount -t tmpfs -o size=64m,mode=777 tmpfs "$1" || exit 77
for room in 0 4 12 24 40 56 64 72 80 88 96 104 112 120 128 144 160 176 192 224 256 320 512; do
  rm -rf "$1"/* "$4"; mkdir "$1/state"
  free=$(df -k --output=avail "$1" | tail -1)
  head -c $(( (free - room) * 1024 )) /dev/zero > "$1/big" 2>/dev/null
  timeout -k 1 50 "$2" run a.job --state "$1/state" > "$3/out.$room" 2> "$3/err.$room"; code=$?
  rm "$1/big"
  if [ "$code" = 0 ]; then again=-; elif [ -n "$(ls "$1/state/runs" 2>/dev/null)" ]; then
    "$2" status --json --instances --state "$1/state" > "$3/status.$room" 2>&1 || echo "status failed" >&2
    timeout -k 1 50 "$2" retry --state "$1/state" > "$3/again.out" 2> "$3/again.$room"; again=$?
  else again=none; fi
  echo "$room $code $again $("$2" result --json --state "$1/state" 2>/dev/null)"
done
"""
        notes = self.base / "notes"
        notes.mkdir()
        done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", disk, self.program, notes, out], cwd=self.at, env=self.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=280, text=True)
        if done.returncode == 77:
            self.skipTest("no mount here")
        self.assertEqual(done.stderr, "")
        codes = []
        for line in done.stdout.splitlines():
            room, code, again, *result = line.split(" ", 3)
            said = (notes / f"err.{room}").read_text()
            self.assertIn(code, ("0", "10", "15"), f"{line}\n{said}")
            self.assertNotIn("internal error", said)
            if code != "0":
                self.assertRegex(said.lower(), "no space left|disk( is|.*) full|not enough space", line)
                self.assertIn(again, ("0", "none"), f"{line}\n{said}\n--- again\n" + ((notes / f"again.{room}").read_text() if (notes / f"again.{room}").exists() else ""))
            if code != "0" and again != "none":
                status = json.loads((notes / f"status.{room}").read_text())
                self.assertEqual((status["status"], status["finished"], status["exit_code"]), ("failed", True, int(code)), f"{line}\n{said}")
                if code == "15":
                    self.assertRegex(status["message"].lower(), "no space left|disk( is|.*) full|not enough space", line)
            if code == "0" or again == "0":
                self.assertEqual(json.loads(result[0]), {"n": 7, "m": [20000] * 4}, line)
            codes.append(code)
        self.assertEqual(len(codes), 23)
        self.assertEqual(codes[-1], "0", "else no disk was large enough")
        self.assertIn("15", codes)
        self.assertEqual(processes_with(str(disk)), [])

    def test_a_directory_of_attempts_that_becomes_read_only(self):
        self.write("""edition = 1
job a { script = <<~SH
  touch @FLAGS@/a; until [ -e @FLAGS@/go ]; do sleep 0.02; done
SH
}
job b { after = [a] for i in range(8) key i input { x: String = "x" } script = <<~SH
  touch @FLAGS@/ran~{i}
SH
}
""".replace("@FLAGS@", str(self.flags)))
        disk = self.base / "disk"
        disk.mkdir()
        # The journal stays writable: where inputs are staged is covered by a read-only mount of itself.
        script = """
mount -t tmpfs -o size=64m,mode=777 tmpfs "$1" || exit 77
"$2" run a.job --max-parallel 1 --state "$1/state" 2> "$3/err" & run=$!
until [ -e "$3/a" ]; do sleep 0.02; done
stage=$(echo "$1"/state/runs/*)/stage
mkdir -p "$stage"; mount --bind "$stage" "$stage" && mount -o remount,bind,ro "$stage" || exit 78
touch "$3/go"
wait $run; echo $?
umount "$stage"
"$2" retry --state "$1/state" > /dev/null 2> "$3/again"; echo $?
"""
        done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", disk, self.program, self.flags], cwd=self.at, env=self.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, text=True)
        if done.returncode == 77:
            self.skipTest("no mount here")
        said = (self.flags / "err").read_text()
        code, again = done.stdout.split()
        self.assertIn(code, ("10", "15"), said + done.stderr)
        self.assertIn("ead-only file system", said)
        self.assertNotIn("internal error", said)
        self.assertEqual(again, "0", (self.flags / "again").read_text())
        self.assertEqual(len(list(self.flags.glob("ran*"))), 8)


class ReadOnlyPlaces(Story):
    unprivileged = True

    def test_a_directory_of_the_run_that_becomes_read_only(self):
        self.write("""edition = 1
job a { script = <<~SH
  chmod a-w "$(dirname "$(dirname "$TMPDIR")")" "$(dirname "$TMPDIR")" @STATE@/runs/*; echo done
SH
}
job b { for i in range(3) key i after = [a] input { x: String = "x" } output { n: Int = 1, f: File? = "f" } script = <<~SH
  echo x > f
SH
}
""".replace("@STATE@", str(self.at / ".jobc")))
        done = self.jobc("run", "a.job", code=None)
        subprocess.run(["chmod", "-R", "u+w", self.at / ".jobc"], check=True)
        self.assertIn(done.code, (10, 15), str(done))
        self.assertIn("ermission denied", done.err)
        if done.code == 15:
            self.assertIn("jobc resume", done.err)

    def test_one_that_makes_its_directory_unreadable(self):
        done = self.run_job('job a { script = <<~SH\n echo x > f; chmod 0 "$JOB_OUTPUT"\nSH\noutput { f: File = "f" } }', code=10)
        self.assertIn("ermission denied", done.err)


class Jobs(Story):
    def test_one_that_deletes_its_own_directory(self):
        for kept, code in (("", 10), ('mkdir -p "$JOB_OUTPUT"; echo back > "$JOB_OUTPUT/f"', 0)):
            done = self.run_job("""
job a { script = <<~SH
  rm -rf "$JOB_OUTPUT" "$TMPDIR" "$(dirname "$JOB_RESULT")"; cd /; %s
SH
output { f: File = "f" } }
job b { run = ["true"] }
""" % kept, "--on-error", "continue", code=code)
            self.assertEqual(self.states()["b"], "succeeded")
            if code:
                self.assertEqual(self.instances()["a"]["kind"], "output_missing", str(done))

    def test_one_that_deletes_its_directory_without_outputs_has_done_nothing_wrong(self):
        self.run_job('job a { run = ["sh", "-c", "rm -rf \\"$JOB_OUTPUT\\""] }\njob b { after = [a] run = ["true"] }')

    def test_one_that_writes_its_result_twice(self):
        # The last one that is whole when it ends counts; what comes later, from a process it left behind, does not.
        for script, expected in (('echo \'{"n": 1}\' > "$JOB_RESULT"; echo \'{"n": 2}\' > "$JOB_RESULT"', 2),
                                 ('echo \'{"n": 1}\' > "$JOB_RESULT"; echo \'{"n": 3}\' > x; mv x "$JOB_RESULT"', 3),
                                 ('echo \'{"n": 4}\' > "$JOB_RESULT"; (setsid sh -c "sleep 0.3; echo broken > \\"$JOB_RESULT\\"" &)', 4)):
            self.run_job("job a { script = <<~SH\n" + script + "\nSH\noutput { n: Int } }\nexport { n: Int = a.n }")
            self.assertEqual(self.result(), {"n": expected})
        done = self.run_job('job a { script = <<~SH\n echo \'{"n": 1}\' > "$JOB_RESULT"; echo \'{"n": 2}\' >> "$JOB_RESULT"\nSH\noutput { n: Int } }', code=10)
        self.assertSays(done.err, "schema", "not valid JSON")

    def test_one_that_writes_ten_megabytes_nested_ten_thousand_deep(self):
        text = ("[" * 10_000 + "1" + "]" * 10_000 + ",\n") * 520
        hostile = {"valid": '{"n": 1, "x": [' + text.rstrip(",\n") + "]}", "unclosed": '{"n": 1, "x": ' + "[" * 10_000_000,
                   "objects": '{"n": 1, "x": ' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}", "flat": '{"n": 1, "x": [' + "1," * 5_000_000 + "1]}"}
        self.assertGreater(len(hostile["valid"]), 10_000_000)
        for name, content in hostile.items():
            (self.at / f"{name}.json").write_text(content)
            done = self.run_job(f'job a {{ script = <<~SH\n cp {self.at}/{name}.json "$JOB_RESULT"\nSH\noutput {{ n: Int }} }}\nexport {{ n: Int = a.n }}', code=0 if name == "flat" else 10, timeout=60)
            if name == "flat":
                self.assertEqual(self.result(), {"n": 1})
            else:
                self.assertSays(done.err, "256")
                self.assertLess(len(done.err), 20_000, "the report stays readable")
                self.assertEqual(self.instances()["a"]["kind"], "schema")

    def test_ends_are_mapped_by_code_signal_and_log(self):
        self.run_job("""
defaults { on_error = continue errors {
  exit(3) => oom, exit(64..78) => invalid_input, signal(10) => data("told-so", "it was told to"), exit(4) => success,
  exit(5) && stderr(re"disk (is )?full") => system("disk-full", "no room on the scratch disk"), stdout(re"^retry me$") => node_lost,
  exit(0) && stderr(re"silent failure") => algorithm("silent", "it failed without saying so")
} }
job oom { run = ["sh", "-c", "exit 3"] }
job low { run = ["sh", "-c", "exit 63"] }
job data_ { run = ["sh", "-c", "exit 70"] }
job told { run = ["sh", "-c", "kill -USR1 $$"] }
job as_code { run = ["sh", "-c", "exit 138"] }
job fine { run = ["sh", "-c", "exit 4"] }
job disk { run = ["sh", "-c", "echo the disk is full >&2; exit 5"] }
job other { run = ["sh", "-c", "echo all is well >&2; exit 5"] }
job said { run = ["sh", "-c", "echo 'retry me'; exit 9"] }
job silent { run = ["sh", "-c", "echo silent failure >&2"] }
job missing { run = ["/not/there"] }
job seg { run = ["sh", "-c", "kill -SEGV $$"] }
""", code=10)
        kinds = {address: (one.get("class"), one.get("kind"), one.get("error")) for address, one in self.instances().items()}
        self.assertEqual(kinds, {
            "as_code": ("data", "invalid_input", "told-so"), "data_": ("data", "invalid_input", None), "disk": ("system", "internal", "disk-full"),
            "fine": (None, None, None), "low": ("algorithm", "exit", None), "missing": ("algorithm", "command", None), "oom": ("algorithm", "oom", None),
            "other": ("algorithm", "exit", None), "said": ("system", "node_lost", None), "seg": ("algorithm", "signal", None),
            "silent": ("algorithm", "exit", "silent"), "told": ("data", "invalid_input", "told-so")})

    def test_a_named_error_shows_its_title_in_the_report(self):
        done = self.run_job("""
job a { errors { exit(65) => data("bad-input", "the header has fewer columns than the rows") } run = ["sh", "-c", "echo row 7 >&2; exit 65"] }
""", code=10)
        self.assertSays(done.err, "bad-input", "the header has fewer columns than the rows", "65", "row 7")
        one = self.instances()["a"]
        self.assertEqual((one["class"], one["error"]), ("data", "bad-input"))
        self.assertIn("the header has fewer columns than the rows", one["message"])


@unittest.skipUnless(FAKETIME, "needs libfaketime (Debian: faketime)")
@unittest.skipIf(SANITIZED, "libfaketime and a sanitizer cannot both come first in a program")
class Clocks(Story):
    """The wall clock of jobc jumps while it runs; time that passes is measured by another clock."""

    def begin(self, text):
        self.write("edition = 1\n" + text.replace("@FLAGS@", str(self.flags)))
        self.clock = self.base / "clock"
        self.clock.write_text("+0\n")
        return self.start("run", "a.job", env={"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1",
                                               "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"})

    def jump(self, by):
        temporary = self.base / "clock.new"
        temporary.write_text(by + "\n")
        os.rename(temporary, self.clock)

    def test_that_jump_forth_and_back_change_nothing(self):
        for by in ("+30d", "-30d"):
            for name in ("a", "go", "retried"):
                self.flag(name).unlink(missing_ok=True)
            process = self.begin("""
limits { time = 2h }
defaults { timeout { run = 10m } }
job a { timeout { run = 10m, total = 20m, idle = 10m } script = <<~SH
  touch @FLAGS@/a; until [ -e @FLAGS@/go ]; do sleep 0.02; done; echo on
SH
}
job b { after = [a] timeout { total = 20m } retry { max_attempts = 2, on = [exit], backoff = constant(300ms) } run = ["sh", "-c", "test -e @FLAGS@/retried || { touch @FLAGS@/retried; exit 1; }"] }
""")
            self.wait_for("a")
            self.jump(by)
            self.flag("go").touch()
            wait_until(lambda: self.flag("retried").exists(), what="the first attempt of b")
            self.jump("+0")
            done = self.finish(process, timeout=30)
            self.assertNotRegex(done.err, r"in -|in [0-9]+ ?(h|d)", "durations are those that passed")
            status = self.status()
            self.assertEqual({one["address"]: one["state"] for one in status["instances"]}, {"a": "succeeded", "b": "succeeded"})
            for one in status["instances"]:
                for attempt in one["attempts"]:
                    self.assertIn("started_ms", attempt)

    def test_who_waits_for_too_long_is_told_for_what(self):
        self.write(f"""edition = 1
pool db {{ slots = 2 }}
job holds {{ for name in ["x", "y"] key name pools = {{ db = 1 }} script = <<~SH
  touch {self.flags}/~{{name}}; until [ -e {self.flags}/go ]; do sleep 0.02; done
SH
}}
job waits {{ for i in range(3) pools = {{ db = 2 }} run = ["true"] }}
""")
        says = '`waits["0"]` and 2 more have waited 10m for 2 slots of pool `db`: 2 of 2 are in use by `holds["x"]`, `holds["y"]`'

        def notes():
            """What anybody can read in the journal meanwhile."""
            [path] = set((self.at / ".jobc" / "runs").glob("*/journal.db")) - earlier
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                return [text for text, in database.execute("select text from record where type = 12 and a is not 1")]

        for words in ((), ("--json",)):
            for name in ("x", "y", "go"):
                self.flag(name).unlink(missing_ok=True)
            earlier = set((self.at / ".jobc" / "runs").glob("*/journal.db"))  # ids tell the time of clocks that ran ahead
            # An hour passes in six seconds.
            process = self.start("run", "a.job", "--max-parallel", "9", *words, env={"LD_PRELOAD": FAKETIME, "FAKETIME": "+0 x600"})
            self.wait_for("x")
            self.wait_for("y")
            wait_until(notes, what="the note in the journal")
            self.flag("go").touch()
            done = self.finish(process)
            self.assertEqual(notes(), [says], "once")
            if words:
                events = [json.loads(line) for line in done.out.splitlines()]
                self.assertEqual([one["text"] for one in events if one["event"] == "warning"], [says])
            else:
                self.assertEqual(done.err.count(says), 1)


if __name__ == "__main__":
    unittest.main()
