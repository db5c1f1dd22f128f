"""Bad input of every kind: a clear message, the right exit code, nothing lost and nothing half-written."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import unittest

from story import ROOT, Story, as_nobody, wait_until

HELLO = """edition = 1
params { n: Int(0..) = 3, name: String = "x" }
job a { run = ["echo", params.name, params.n] output { text: String = trim(stdout()) } }
export { text: String = a.text }
"""


class Files(Story):
    def refused(self, file, *parts, code=2):
        for command in ("check", "plan", "run", "graph", "inputs"):
            done = self.jobc(command, file, code=code)
            self.assertEqual(done.out, "", str(done))
            self.assertSays(done.err, "error: ", file, *parts)
        self.assertNothingBegan()

    def test_a_file_that_does_not_exist(self):
        self.refused("nothing.job", "does not exist")

    def test_a_directory_as_a_file(self):
        (self.at / "dir.job").mkdir()
        self.refused("dir.job", "is a directory")

    def test_a_name_below_a_file(self):
        self.write(HELLO)
        self.refused("a.job/b.job", "ot a directory")

    def test_no_file_at_all(self):
        for command in ("plan", "run"):
            done = self.jobc(command, code=2)
            self.assertEqual(done.out, "")
            self.assertIn("FILE", done.err)

    def test_a_file_that_is_no_text(self):
        self.write(bytes(range(256)) * 40, "noise.job")
        done = self.jobc("run", "noise.job", code=3)
        self.assertSays(done.err, "error[E010]", "noise.job:1:1")
        self.write(HELLO.encode() + b"# \xff\n", "latin.job")
        done = self.jobc("run", "latin.job", code=3)
        self.assertSays(done.err, "latin.job:5:3", "UTF-8")
        self.write("", "empty.job")
        self.assertIn("error[E001]", self.jobc("run", "empty.job", code=3).err)
        self.assertNothingBegan()

    def test_a_file_beyond_the_limit_is_refused_without_being_read(self):
        with open(self.at / "huge.job", "wb") as file:
            file.truncate(65 * 1024 * 1024)
        done = self.jobc("check", "huge.job", code=2)
        self.assertSays(done.err, "error: ", "huge.job", "64 MiB")

    def test_usage(self):
        self.write(HELLO)
        for words, parts in [
            (["run", "a.job", "--no-such"], ["--no-such"]),
            (["run", "a.job", "--max-paralel", "2"], ["--max-paralel", "--max-parallel"]),
            (["run", "a.job", "--max-parallel", "0"], ["--max-parallel", "0"]),
            (["run", "a.job", "--max-parallel", "many"], ["--max-parallel", "many"]),
            (["run", "a.job", "--on-error", "ignore"], ["--on-error", "ignore", "drain"]),
            (["run", "a.job", "b.job"], ["b.job"]),
            (["run", "a.job", "-p", "n"], ["n", "NAME=VALUE"]),
        ]:
            done = self.jobc(*words, code=2)
            self.assertEqual(done.out, "")
            self.assertSays(done.err, "error: ", *parts)
        self.assertNothingBegan()

    def test_an_unknown_profile_is_named_with_those_there_are(self):
        self.write(HELLO + "profile wide { backend = process { max_parallel = 4 } }\n")
        done = self.jobc("run", "a.job", "--profile", "wild", code=None)
        self.assertIn(done.code, (2, 3), str(done))
        self.assertSays(done.err, "wild", "wide")
        self.assertNothingBegan()

    def test_looking_at_runs_that_are_not_there(self):
        for words in (["status"], ["logs"], ["result"]):
            done = self.jobc(*words, code=2)
            self.assertEqual(done.out, "")
            self.assertSays(done.err, "no run", "jobc run")
        self.write(HELLO)
        self.jobc("run", "a.job")
        for words, part in [(["status", "zzz"], "zzz"), (["result", "zzz"], "zzz"), (["logs", "nobody"], "nobody"),
                            (["result", "a.texd"], "texd"), (["result", 'a["k"]'], 'a["k"]')]:
            done = self.jobc(*words, code=2)
            self.assertEqual(done.out, "")
            self.assertSays(done.err, "error: ", part)

    def test_a_journal_that_is_damaged_is_named(self):
        self.write(HELLO)
        self.jobc("run", "a.job")
        [run] = (self.at / ".jobc/runs").iterdir()
        for name in ("journal.db-wal", "journal.db-shm"):
            (run / name).unlink(missing_ok=True)
        (run / "journal.db").write_bytes(b"this is no database, whatever its name says\n" * 200)
        for command in ("status", "result", "resume"):
            done = self.jobc(command, code=None)
            self.assertIn(done.code, (2, 15), str(done))
            self.assertEqual(done.out, "")
            self.assertIn("journal", done.err)
        # Another run is not disturbed by it.
        self.jobc("run", "a.job")
        self.assertEqual(self.result(), {"text": "x 3"})
        self.jobc("list")


@unittest.skipUnless(ROOT, "root reads everything, and everybody else is tested by the rest")
class AnotherUser(Story):
    unprivileged = True

    def test_a_file_that_cannot_be_read(self):
        path = self.write(HELLO, mode=0o000)
        for command in ("check", "plan", "run"):
            done = self.jobc(command, "a.job", code=2)
            self.assertEqual(done.out, "")
            self.assertSays(done.err, "error: ", "a.job", "ermission denied")
        os.chmod(path, 0o644)
        self.assertNothingBegan()

    def test_an_input_that_cannot_be_read(self):
        self.write("secret data", "data.txt", mode=0o000)
        self.write('edition = 1\njob a { input { d: File = "data.txt" } run = ["cat", input.d] }\n')
        done = self.jobc("run", "a.job", code=3)
        self.assertEqual(done.out, "")
        self.assertSays(done.err, "data.txt", "ermission denied", "a.job:2:")
        self.assertNothingBegan()

    def test_a_working_directory_that_is_read_only(self):
        self.write(HELLO)
        os.chmod(self.at, 0o555)
        self.addCleanup(os.chmod, self.at, 0o755)
        done = self.jobc("run", "a.job", code=15)
        self.assertEqual(done.out, "")
        self.assertSays(done.err, "error: ", ".jobc", "ermission denied", "--state")
        self.assertEqual(sorted(os.listdir(self.at)), ["a.job"])
        # What needs no state works, and so does state in another place.
        self.jobc("check", "a.job")
        self.jobc("plan", "a.job")
        self.assertEqual(self.jobc("run", "a.job", env={"JOBC_HOME": str(self.home / "state")}).json, {"text": "x 3"})
        self.assertEqual(self.jobc("run", "a.job", "--state", self.home / "other").json, {"text": "x 3"})


class Parameters(Story):
    def refused(self, *words, says, env=None, code=3):
        self.write(HELLO)
        for command in ("plan", "run"):
            done = self.jobc(command, "a.job", *words, code=code, env=env)
            self.assertEqual(done.out, "", str(done))
            self.assertSays(done.err, "error", *says)
        self.assertNothingBegan()
        return done

    def test_a_value_of_the_wrong_type(self):
        self.refused("-p", "n=abc", says=["`n`", "Int", "abc", "a.job:2:"])
        self.refused("-p", "n=", says=["`n`", "Int"])
        self.refused("-p", "n=1.5", says=["`n`", "Int", "1.5"])
        self.refused("-p", "n=99999999999999999999", says=["`n`", "99999999999999999999"])

    def test_a_value_that_the_type_excludes(self):
        self.refused("-p", "n=-1", says=["`n`", "-1", "0.."])

    def test_an_unknown_name(self):
        self.refused("-p", "nmae=x", says=["E101", "nmae", "`name`"])

    def test_an_unknown_name_in_the_environment_is_a_warning(self):
        self.write(HELLO)
        done = self.jobc("run", "a.job", env={"JOB_PARAM_nmae": "x"})
        self.assertSays(done.err, "warning[W704]", "nmae")
        self.assertEqual(done.json, {"text": "x 3"})

    def test_a_required_one_that_is_missing(self):
        self.write('edition = 1\nparams { day: String, n: Int }\njob a { run = ["echo", params.day, params.n] }\n')
        done = self.jobc("run", "a.job", code=3)
        # All of them at once, and what to type.
        self.assertSays(done.err, "`day`", "`n`", "-p day=")
        self.assertEqual(done.out, "")
        self.assertNothingBegan()

    def test_a_file_of_values_that_is_no_json(self):
        self.write('{"n": 4,\n "name": oops}\n', "values.json")
        self.refused("-p", "@values.json", says=["values.json", "line 2"])
        self.write("[1, 2]", "values.json")
        self.refused("-p", "@values.json", says=["values.json", "object"])
        self.write('{"n": 4, "n": 5}', "values.json")
        self.refused("-p", "@values.json", says=["values.json", '"n"', "twice"])
        self.write('{"n": 4} trailing', "values.json")
        self.refused("-p", "@values.json", says=["values.json"])

    def test_a_file_of_values_with_a_wrong_one(self):
        self.write('{"n": "four"}', "values.json")
        self.refused("-p", "@values.json", says=["values.json", "n", "Int", '"four"'])
        self.write('{"m": 4}', "values.json")
        self.refused("-p", "@values.json", says=["E101", "m"])

    def test_a_file_of_values_that_is_not_there(self):
        self.refused("-p", "@nothing.json", says=["nothing.json", "No such file"])
        (self.at / "dir").mkdir()
        self.refused("-p", "@dir", says=["dir", "directory"])

    def test_all_faults_at_once(self):
        done = self.refused("-p", "n=abc", "-p", "nothing=1", says=["`n`", "nothing"])
        self.assertEqual(done.err.count("error["), 2, str(done))

    def test_a_requirement_that_does_not_hold(self):
        self.write('edition = 1\nparams { n: Int = 1\n require n < 5 else "n is ~{n}, at most 4 make sense" }\njob a { run = ["echo", params.n] }\n')
        done = self.jobc("run", "a.job", "-p", "n=7", code=3)
        self.assertSays(done.err, "n is 7, at most 4 make sense", "a.job:3:")
        self.assertNothingBegan()

    def test_later_sources_win(self):
        self.write(HELLO)
        self.write('{"n": 5, "name": "file"}', "values.json")
        environment = {"JOB_PARAM_n": "6", "JOB_PARAM_name": "env"}
        self.assertEqual(self.jobc("run", "a.job", env=environment).json, {"text": "env 6"})
        self.assertEqual(self.jobc("run", "a.job", "-p", "n=7", "-p", "@values.json", env=environment).json, {"text": "file 7"})
        self.assertEqual(self.jobc("run", "a.job", "-p", "n=7", "-p", "n=8", "-p", "name=a b=$(c)").json, {"text": "a b=$(c) 8"})

    def test_an_input_file_that_does_not_exist(self):
        self.write("x", "reads.txt")
        self.write('edition = 1\njob a { input { d: File = "raeds.txt" } run = ["cat", input.d] }\n')
        done = self.jobc("run", "a.job", code=3)
        self.assertSays(done.err, "error[E703]", "raeds.txt", "`reads.txt`", "a.job:2:")
        self.write('edition = 1\njob a { input { d: File = "." } run = ["cat", input.d] }\n')
        self.assertSays(self.jobc("run", "a.job", code=3).err, "directory")
        self.write('edition = 1\njob a { input { d: Dir = "reads.txt" } run = ["ls", input.d] }\n')
        self.assertSays(self.jobc("run", "a.job", code=3).err, "reads.txt", "Dir")
        self.assertNothingBegan()


class Programs(Story):
    def test_one_that_does_not_exist(self):
        done = self.run_job('job a { run = ["no-such-program", "x"] }', code=10)
        self.assertSays(done.err, "a", "command", "no-such-program", "PATH")
        one = self.instances()["a"]
        self.assertEqual((one["state"], one["kind"], len(one["attempts"])), ("failed", "command", 1))

    def test_one_that_cannot_be_executed(self):
        self.write("#!/bin/sh\n", "plain.sh", mode=0o644)
        done = self.run_job(f'job a {{ run = ["{self.at}/plain.sh"] }}', code=10)
        self.assertSays(done.err, "command", "plain.sh", "chmod +x")
        self.write("#!/no/such/interpreter\n", "lost.sh", mode=0o755)
        done = self.run_job(f'job a {{ run = ["{self.at}/lost.sh"] }}', code=10)
        self.assertSays(done.err, "command", "/no/such/interpreter")
        done = self.run_job('job a { run = ["/tmp"] }', code=10)
        self.assertSays(done.err, "command", "/tmp", "directory")
        self.assertEqual(self.instances()["a"]["kind"], "command")

    def test_126_and_127_of_a_script_are_of_kind_command(self):
        for script in ("exit 127", "exit 126", "no-such-program-at-all"):
            self.run_job(f"job a {{ script = <<~SH\n {script}\n SH\n }}", code=10)
            self.assertEqual(self.instances()["a"]["kind"], "command", script)

    def test_its_end_by_a_signal_is_named(self):
        done = self.run_job("job a { script = <<~SH\n kill -SEGV $$\n SH\n }", code=10)
        self.assertIn("SIGSEGV", done.err)
        self.assertEqual(self.instances()["a"]["kind"], "signal")


class Results(Story):
    """What a job writes to $JOB_RESULT, and what is said where it does not fit."""

    TYPES = "struct Stats { rows: Int(0..), size: Bytes, mode: Mode, note: String? }\nenum Mode { full, part }\n"

    def write_result(self, text, outputs, code=10):
        self.write(text, "result.json")
        done = self.run_job(self.TYPES + f'job a {{ input {{ r: File = "result.json" }}\n script = <<~SH\n cat ~{{input.r}} > "$JOB_RESULT"\n SH\n output {{ {outputs} }} }}', code=code)
        if code == 10:
            one = self.instances()["a"]
            self.assertEqual((one["state"], one["kind"]), ("failed", "schema"))
            # The journal, the report and `status` say the same.
            self.assertIn(one["message"], done.err)
            self.assertEqual(done.out.strip() and done.json, "")
            return one["message"]
        return self.result("a")

    def test_no_json(self):
        for text in ('{"rows": 3', "{'rows': 3}", '{"rows": 3} x', '{"rows": NaN}', "", "\xff\xfe"):
            self.assertIn("JSON", self.write_result(text, "rows: Int"), text)

    def test_a_position_is_named(self):
        message = self.write_result('{\n  "rows": 3,\n  "x": oops\n}', "rows: Int")
        self.assertSays(message, "JOB_RESULT", "line 3")

    def test_bytes_that_are_not_utf8(self):
        self.assertIn("UTF-8", self.write_result(b'{"rows": 3, "x": "\xff"}', "rows: Int"))

    def test_wrong_types(self):
        for text, outputs, parts in [
            ('{"rows": "many"}', "rows: Int", ["/rows", "Int", '"many"']),
            ('{"rows": 1.0}', "rows: Int", ["/rows", "Int", "1.0"]),
            ('{"rows": -2}', "rows: Int(0..)", ["/rows", "-2", "0.."]),
            ('{"rows": 9223372036854775808}', "rows: Int", ["/rows", "Int"]),
            ('{"rows": null}', "rows: Int", ["/rows", "null"]),
            ('{"t": 90}', "t: Duration", ["/t", "Duration", "90"]),
            ('{"l": [1, 2, "x"]}', "l: List<Int>", ["/l/2", "Int", '"x"']),
            ('{"m": {"a/b": true}}', "m: Map<String, Int>", ["/m/a~1b", "Int", "true"]),
            ('{"s": {"rows": 1, "size": 2, "mode": "none"}}', "s: Stats", ["/s/mode", "Mode", "none", "full"]),
            ('{"s": {"rows": 1, "size": 2, "mode": "full", "extra": 3}}', "s: Stats", ["/s/extra", "Stats"]),
            ('{"s": {"rows": 1, "mode": "full"}}', "s: Stats", ["/s", "size"]),
            ("[1]", "rows: Int", ["object"]),
        ]:
            message = self.write_result(text, outputs)
            self.assertSays(message, "JOB_RESULT", *parts)

    def test_a_missing_field(self):
        self.assertSays(self.write_result('{"rwos": 3}', "rows: Int"), "JOB_RESULT", "rows", "Int")

    def test_no_result_at_all(self):
        done = self.run_job('job a { run = ["true"] output { rows: Int } }', code=10)
        one = self.instances()["a"]
        self.assertIn(one["kind"], ("schema", "output_missing"))
        self.assertSays(one["message"], "JOB_RESULT", "rows")
        self.assertIn(one["message"], done.err)

    def test_a_key_twice(self):
        self.assertSays(self.write_result('{"rows": 3, "rows": 4}', "rows: Int"), "rows")

    def test_a_result_that_is_too_large_or_too_deep(self):
        self.assertIn("16 MiB", self.write_result('{"rows": 3, "x": "' + "y" * (17 << 20) + '"}', "rows: Int"))
        self.assertIn("256", self.write_result('{"rows": 3, "x": ' + "[" * 300 + "]" * 300 + "}", "rows: Int"))

    def test_keys_without_an_output_are_kept_and_ignored(self):
        self.assertEqual(self.write_result('{"rows": 3, "more": [1]}', "rows: Int, big: Int = 7", code=0)["rows"], 3)

    def test_a_result_that_nobody_needs_must_be_json_too(self):
        self.assertIn("JSON", self.write_result("oops", 'r: String = "x"'))

    def test_a_result_that_is_a_directory_or_a_pipe(self):
        for make in ('mkdir "$JOB_RESULT"', 'mkfifo "$JOB_RESULT"', 'ln -s /dev/zero "$JOB_RESULT"'):
            self.run_job(f"job a {{ script = <<~SH\n {make}\n SH\n output {{ rows: Int }} }}", code=10)
            self.assertIn("JOB_RESULT", self.instances()["a"]["message"], make)


class Outputs(Story):
    def failed(self, script, outputs, kind, *parts):
        done = self.run_job(f"job a {{ script = <<~SH\n {script}\n SH\n output {{ {outputs} }} }}\njob b {{ after = [a] run = [\"true\"] }}\n"
                            "export { done: Bool = b.ok }", code=10)
        found = self.instances()
        self.assertEqual((found["a"]["state"], found["a"]["kind"]), ("failed", kind), str(done))
        self.assertEqual(found["b"]["state"], "blocked")
        self.assertSays(found["a"]["message"], *parts)
        self.assertIn(found["a"]["message"], done.err)
        # Nothing of a failed attempt is published.
        self.assertEqual([p for p in (self.at / ".jobc").glob("runs/*/outputs/*")], [])

    def test_one_that_is_missing(self):
        self.failed("echo x > tabel.csv", 't: File = "table.csv"', "output_missing", "table.csv", "tabel.csv")
        self.failed("true", 't: Dir = "d"', "output_missing", "`d`")
        self.failed("touch b.txt", 't: List<File> = glob("a*.txt", min = 1)', "output_missing", "a*.txt", "1")

    def test_one_of_the_wrong_kind(self):
        self.failed("mkdir table.csv", 't: File = "table.csv"', "output_missing", "table.csv", "directory")
        self.failed("echo x > d", 't: Dir = "d"', "output_missing", "`d`")
        self.failed("mkfifo t", 't: File = "t"', "output_missing", "`t`")

    def test_more_than_allowed(self):
        self.failed("touch 1.t 2.t 3.t", 't: List<File> = glob("*.t", max = 2)', "output_missing", "*.t", "3", "2")

    def test_a_link_that_leaves_the_directory(self):
        self.failed("ln -s /etc/passwd t", 't: File = "t"', "output_missing", "`t`", "/etc/passwd")
        self.failed("ln -s ../../../a.job t", 't: File = "t"', "output_missing", "`t`")
        self.failed("mkdir d && ln -s / d/root", 't: Dir = "d"', "output_missing", "d/root")
        self.failed("ln -s /etc d", 't: File = "d/passwd"', "output_missing", "d/passwd")
        self.failed("ln -s t t", 't: File = "t"', "output_missing", "`t`")
        self.failed("touch a.t && ln -s /etc/passwd b.t", 't: List<File> = glob("*.t")', "output_missing", "b.t")

    def test_a_link_that_stays_is_captured_as_what_it_points_to(self):
        self.run_job('job a { script = <<~SH\n echo x > real; ln -s real t\n SH\n output { t: File = "t" } }\nexport { t: File = a.t }')
        path = pathlib.Path(self.result()["t"])
        self.assertFalse(path.is_symlink())
        self.assertEqual(path.read_text(), "x\n")

    def test_a_file_in_the_result_that_leaves(self):
        for text in ("/etc/passwd", "../../x", "link"):
            self.run_job("struct F { f: File }\njob a { script = <<~SH\n ln -s /etc/passwd link; printf '{\"x\": {\"f\": \"" + text + "\"}}' > \"$JOB_RESULT\"\n SH\n output { x: F } }", code=10)
            self.assertIn("/x/f", self.instances()["a"]["message"])


class Streams(Story):
    def test_a_gibibyte_of_stdout_is_no_failure(self):
        self.write('edition = 1\njob a { run = ["head", "-c", "1G", "/dev/zero"] }\n')
        process = self.start("run", "a.job", stdout=subprocess.DEVNULL)
        peak = [0]

        def ended():
            try:
                for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        peak[0] = max(peak[0], int(line.split()[1]))
            except OSError:
                pass
            return process.poll() is not None

        wait_until(ended, 60, "the run")
        self.assertEqual(process.returncode, 0, process.stderr.read())
        self.assertGreater(peak[0], 1000)
        self.assertLess(peak[0], 80 * 1024, "KiB of memory")
        kept = sum(p.stat().st_blocks * 512 for p in (self.at / ".jobc").rglob("*") if p.is_file())
        self.assertLess(kept, 80 << 20)
        self.assertGreater(kept, 60 << 20)
        # The log can be read, in part too, and says what is missing.
        out = self.jobc("logs", "a", "--tail", "3").raw_out
        self.assertLess(len(out), 80 << 20)
        log = self.jobc("logs", "a")
        self.assertLess(len(log.raw_out), 70 << 20)
        kept = re.fullmatch(rb"\0+\n\[jobc: (\d+) bytes of stdout were dropped here, above log_limit\]\n\0+", log.raw_out, re.S)
        self.assertIsNotNone(kept, log.raw_out.replace(b"\0", b"")[:200])
        self.assertEqual(int(kept.group(1)) + log.raw_out.count(b"\0"), 1 << 30)

    def test_text_of_a_log_that_was_cut_is_no_output(self):
        done = self.run_job('job a { log_limit = 1MiB\n run = ["head", "-c", "3M", "/dev/zero"] output { t: String = stdout() } }', code=10)
        one = self.instances()["a"]
        self.assertEqual(one["kind"], "schema")
        self.assertSays(one["message"], "stdout()", "`t: String`", "log_limit")
        self.assertIn(one["message"], done.err)

    def test_text_above_16_MiB_is_no_output(self):
        self.run_job('job a { run = ["head", "-c", "17M", "/dev/zero"] output { t: String = stdout() } }', code=10)
        self.assertSays(self.instances()["a"]["message"], "stdout()", "16 MiB")

    def test_lines_that_are_not_utf8(self):
        self.run_job("job a { script = <<~'SH'\n SH\n }".replace("<<~'SH'\n SH", "<<~SH\n printf 'caf\\351\\n\\377\\376\\n'; printf '\\300\\n' >&2\n SH"))
        log = self.jobc("logs", "a", "--stream", "stdout").raw_out
        self.assertIn(b"caf\xe9\n\xff\xfe\n", log)
        self.jobc("logs", "a", "--json")  # whatever the bytes, what is printed is JSON
        for line in self.jobc("logs", "a", "--json").raw_out.decode("utf-8").splitlines():
            json.loads(line)
        done = self.run_job("job a { script = <<~SH\n printf 'caf\\351\\n'\n SH\n output { t: String = stdout() } }", code=10)
        one = self.instances()["a"]
        self.assertEqual(one["kind"], "schema")
        self.assertSays(one["message"], "stdout()", "UTF-8")
        self.assertIn(one["message"], done.err)

    def test_a_failure_report_of_hostile_bytes_is_utf8_without_control_sequences(self):
        done = self.run_job("job a { script = <<~SH\n printf '\\033]0;owned\\007\\377\\033[2J red\\n' >&2; exit 1\n SH\n }", code=10)
        self.assertNotIn("\x1b", done.err)
        done.raw_err.decode("utf-8")
        self.assertIn("red", done.err)

    def test_stdout_that_goes_away_is_no_failure_of_the_run(self):
        self.write(HELLO)
        read, write = os.pipe()
        os.close(read)
        process = self.start("run", "a.job", stdout=write)
        os.close(write)
        self.assertEqual(process.wait(timeout=30), 0)
        self.assertEqual(self.result(), {"text": "x 3"})


class Disks(Story):
    """Each story has a small disk of its own, mounted where nobody else sees it."""

    def on_a_small_disk(self, script, size="4m"):
        """Runs `script` with sh where @DISK@ is a disk of that size; gives its stdout."""
        unshare = ["unshare", "-m"] if ROOT else ["unshare", "-rm"]
        disk = self.base / "disk"
        disk.mkdir(exist_ok=True)
        mount = f'mount -t tmpfs -o size={size},mode=777 tmpfs "{disk}" || exit 77\n'
        done = subprocess.run([*unshare, "sh", "-c", mount + script.replace("@DISK@", str(disk)).replace("@JOBC@", str(self.program))],
                              cwd=self.at, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode == 77 or b"unshare" in done.stderr:
            self.skipTest("no mount for this user here")
        return done

    def test_a_job_whose_own_disk_is_full_has_failed(self):
        self.write('edition = 1\njob a { run = ["dd", "if=/dev/zero", "of=@DISK@/big", "bs=1M", "count=20"] }\n'.replace("@DISK@", str(self.base / "disk")))
        done = self.on_a_small_disk("@JOBC@ run a.job")
        self.assertEqual(done.returncode, 10, done.stderr)
        self.assertIn(b"No space left on device", done.stderr)
        self.assertEqual(self.instances()["a"]["kind"], "exit")

    def test_state_on_a_disk_that_was_full_before(self):
        self.write(HELLO)
        done = self.on_a_small_disk('cat /dev/zero > @DISK@/big 2>/dev/null\n@JOBC@ run a.job --state @DISK@/state; code=$?; find @DISK@/state/runs -type f 2>/dev/null; exit $code')
        self.assertEqual(done.returncode, 15, done.stderr)
        self.assertEqual(done.stdout, b"")
        self.assertSays(done.stderr.decode(), "error: ", "No space left on device", str(self.base / "disk/state"))

    def test_state_on_a_disk_that_fills_up_during_the_run(self):
        # The job fills the disk that jobc writes its journal to, in a place that is not its own, and would go on for ever.
        self.write('edition = 1\njob fill { script = <<~SH\n cat /dev/zero > @DISK@/big || true; echo full > @FLAGS@/full; while :; do echo line; sleep 0.05; done\n SH\n }\n'
                   'job later { after = [fill] run = ["true"] }\n'.replace("@DISK@", str(self.base / "disk")).replace("@FLAGS@", str(self.flags)))
        done = self.on_a_small_disk('@JOBC@ run a.job --state @DISK@/state; code=$?; rm @DISK@/big\n'
                                    '@JOBC@ status --state @DISK@/state --json --instances || exit 99\n'
                                    '@JOBC@ resume --state @DISK@/state >/dev/null 2>&1 & sleep 0.01; kill -9 $! 2>/dev/null; exit $code', size="6m")
        self.assertEqual(done.returncode, 15, done.stderr)
        self.assertSays(done.stderr.decode().replace("the device", "device"), "error: ", "o space left on device")
        status = json.loads(done.stdout)
        self.assertNotEqual(status["status"], "succeeded")
        self.assertEqual(subprocess.run(["pgrep", "-f", str(self.flags)], capture_output=True).stdout, b"", "jobs were ended first")

    def test_publishing_to_a_full_disk_touches_nothing_there(self):
        self.write('edition = 1\njob a { run = ["head", "-c", "3M", "/dev/zero"] script = null\n }\n')
        self.write('edition = 1\njob a { script = <<~SH\n head -c 3M /dev/zero > big; echo new > small\n SH\n output { big: File = "big", small: File = "small" } }\n'
                   'publish "x" { "small" = a.small, "big" = a.big }\n')
        done = self.on_a_small_disk('mkdir @DISK@/out; echo old > @DISK@/out/small\n@JOBC@ run a.job --publish-to @DISK@/out; code=$?; cat @DISK@/out/small; ls -A @DISK@/out; exit $code', size="2m")
        self.assertEqual(done.returncode, 10, done.stderr)
        self.assertSays(done.stderr.decode(), "publish", "No space left on device")
        self.assertEqual(done.stdout, b"old\nsmall\n")


class Together(Story):
    def test_two_runs_at_once_in_one_directory(self):
        # Each waits for the other, so both are alive at the same time.
        self.write(f'''edition = 1
params {{ me: String, you: String }}
job meet {{
  script = <<~SH
    touch "{self.flags}/"~{{params.me}}
    until [ -e "{self.flags}/"~{{params.you}} ]; do sleep 0.02; done
    echo ~{{params.me}} > who
  SH
  output {{ who: File = "who" }}
}}
job read {{ input {{ f: File = meet.who }} run = ["cat", input.f] output {{ t: String = trim(stdout()) }} }}
export {{ t: String = read.t }}
publish "out" {{ "~{{params.me}}.txt" = meet.who }}
''')
        runs = [self.start("run", "a.job", "--name", me, "-p", f"me={me}", "-p", f"you={you}") for me, you in (("x", "y"), ("y", "x"))]
        done = [self.finish(run) for run in runs]
        self.assertEqual([one.json for one in done], [{"t": "x"}, {"t": "y"}])
        self.assertEqual([self.result(name) for name in ("x", "y")], [{"t": "x"}, {"t": "y"}])
        self.assertEqual(len(self.jobc("list", "--json").raw_out.splitlines()) >= 1, True)
        self.assertEqual((self.at / "out/x.txt").read_text() + (self.at / "out/y.txt").read_text(), "x\ny\n")

    def test_going_on_with_a_run_that_is_running(self):
        self.write(f'edition = 1\njob a {{ script = <<~SH\n touch {self.flags}/started; until [ -e {self.flags}/go ]; do sleep 0.02; done\n SH\n }}\n')
        run = self.start("run", "a.job")
        self.wait_for("started")
        self.assertTrue(self.status()["running"])
        for command in ("resume", "retry"):
            done = self.jobc(command, code=15)
            self.assertEqual(done.out, "")
            self.assertSays(done.err, "error: ", str(run.pid))
        self.flag("go").touch()
        self.finish(run)
        self.assertEqual((self.status()["running"], self.states()), (False, {"a": "succeeded"}))

    def test_a_run_that_was_killed_can_be_gone_on_with(self):
        self.write(f'''edition = 1
job first {{ script = <<~SH
  echo once >> {self.flags}/first
SH
}}
job second {{ after = [first] script = <<~SH
  echo again >> {self.flags}/second; touch {self.flags}/started; until [ -e {self.flags}/go ]; do sleep 0.02; done
SH
}}
''')
        run = self.start("run", "a.job")
        self.wait_for("started")
        run.send_signal(signal.SIGKILL)
        run.wait()
        self.assertFalse(self.status()["running"])
        self.assertNotEqual(self.status()["status"], "running")
        self.flag("go").touch()
        self.jobc("resume")
        self.assertEqual(self.flag("first").read_text(), "once\n")
        self.assertEqual(self.flag("second").read_text(), "again\nagain\n")
        self.assertEqual(self.states(), {"first": "succeeded", "second": "succeeded"})


if __name__ == "__main__":
    unittest.main(verbosity=1)
