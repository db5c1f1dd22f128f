#!/usr/bin/env python3
"""What the jobc process does with its streams and exit codes, seen from outside. usage: process_test.py JOBC"""
import json
import os
import subprocess
import sys
import unittest

JOBC = None


def jobc(*words, env=None, **options):
    environment = {"PATH": os.environ["PATH"], **(env or {})}
    return subprocess.run([JOBC, *words], env=environment, capture_output=True, text=True, timeout=60, **options)


class Streams(unittest.TestCase):
    def test_help_is_data_and_usage_errors_are_not(self):
        helped = jobc("--help")
        self.assertEqual((helped.returncode, helped.stderr), (0, ""))
        self.assertIn("usage: jobc COMMAND", helped.stdout)
        wrong = jobc("explian")
        self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
        self.assertIn("did you mean `jobc explain`?", wrong.stderr)

    def test_version_is_one_line(self):
        self.assertRegex(jobc("--version").stdout, r"\Ajobc \d+\.\d+\.\d+\n\Z")
        self.assertRegex(json.loads(jobc("--version", "--json").stdout)["version"], r"\A\d+\.\d+\.\d+\Z")

    def test_a_reader_that_goes_away_is_no_failure(self):
        read, write = os.pipe()
        os.close(read)
        process = subprocess.run([JOBC, "explain", "E001"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
        os.close(write)
        self.assertEqual((process.returncode, process.stderr), (0, ""))

    def test_a_full_disk_behind_stdout_is_a_failure(self):
        with open("/dev/full", "w") as full:
            process = subprocess.run([JOBC, "explain", "E001"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(process.returncode, 15)
        self.assertIn("cannot write to stdout: No space left on device", process.stderr)

    def test_closed_standard_streams_are_survived(self):
        script = '"$0" explain E001 <&- >&- 2>&-'
        self.assertEqual(subprocess.run(["sh", "-c", script, JOBC], timeout=60).returncode, 0)

    def test_no_colour_outside_a_terminal_unless_asked_for(self):
        self.assertNotIn("\x1b", jobc("explian").stderr)
        self.assertNotIn("\x1b", jobc("explian", env={"TERM": "xterm"}).stderr)

    def test_explain_prints_the_section_of_the_document(self):
        text = jobc("explain", "e001").stdout
        self.assertTrue(text.startswith("## E001: "), text)
        with open(os.path.join(os.path.dirname(__file__), "../../docs/diagnostics.md"), encoding="utf-8") as document:
            self.assertIn("\n" + text, document.read())
        self.assertEqual(json.loads(jobc("explain", "E001", "--json").stdout)["text"], text)
        unknown = jobc("explain", "E000")
        self.assertEqual((unknown.returncode, unknown.stdout), (2, ""))


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    unittest.main()
