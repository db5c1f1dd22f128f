#!/usr/bin/env python3
"""`jobc fmt` as a process: files, streams, exit codes. usage: fmt_command_test.py JOBC"""
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

JOBC = None
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Fmt(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="jobc-fmt-")
        self.addCleanup(directory.cleanup)
        self.base = pathlib.Path(directory.name)

    def fmt(self, *words, stdin="", cwd=None):
        return subprocess.run([JOBC, "fmt", *words], cwd=cwd or self.base, input=stdin, capture_output=True, text=True, timeout=60)

    def file(self, name, text):
        path = self.base / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(text.encode())
        return path

    def test_the_sources_of_the_project_are_formatted(self):
        done = self.fmt("--check", "examples", "stdlib", cwd=ROOT)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)

    def test_files_are_rewritten_and_keep_their_mode(self):
        path = self.file("a.job", "edition=1\r\n")
        path.chmod(0o640)
        done = self.fmt("a.job")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", "formatted a.job\n"))
        self.assertEqual(path.read_bytes(), b"edition = 1\n")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
        self.assertEqual(os.listdir(self.base), ["a.job"])

    def test_a_file_in_the_style_is_not_written(self):
        path = self.file("a.job", "edition = 1\n")
        before = path.stat()
        self.assertEqual(self.fmt("a.job").stderr, "")
        after = path.stat()
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    def test_through_a_link_the_file_behind_it_is_formatted(self):
        path = self.file("real/a.job", "edition=1")
        (self.base / "link.job").symlink_to(path)
        self.assertEqual(self.fmt("link.job").returncode, 0)
        self.assertTrue((self.base / "link.job").is_symlink())
        self.assertEqual(path.read_text(), "edition = 1\n")

    def test_check_lists_what_would_change_and_changes_nothing(self):
        path = self.file("a.job", "edition=1")
        self.file("b.job", "edition = 1\n")
        done = self.fmt("--check")
        self.assertEqual((done.returncode, done.stdout), (4, "a.job\n"))
        self.assertIn("1 of 2 files", done.stderr)
        self.assertEqual(path.read_text(), "edition=1")
        self.assertEqual(self.fmt("--check", "b.job").returncode, 0)

    def test_diff_shows_what_would_change_and_changes_nothing(self):
        path = self.file("a.job", "edition=1\n")
        done = self.fmt("--diff", "a.job")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "--- a.job\n+++ a.job (formatted)\n@@ -1,1 +1,1 @@\n-edition=1\n+edition = 1\n")
        self.assertEqual(self.fmt("--diff", "--check", "a.job").returncode, 4)
        self.assertEqual(path.read_text(), "edition=1\n")

    def test_a_file_with_syntax_errors_is_left_alone_and_others_are_not(self):
        wrong = self.file("a.job", "edition=1\nx = (\n")
        right = self.file("b.job", "edition=1")
        done = self.fmt("a.job", "b.job")
        self.assertEqual(done.returncode, 3)
        self.assertIn("error[E010]", done.stderr)
        self.assertEqual(wrong.read_text(), "edition=1\nx = (\n")
        self.assertEqual(right.read_text(), "edition = 1\n")

    def test_unknown_names_are_no_reason_not_to_format(self):
        self.file("a.job", "nonsense{x=y}")
        self.assertEqual(self.fmt("a.job").returncode, 0)
        self.assertEqual((self.base / "a.job").read_text(), "nonsense { x = y }\n")

    def test_stdin_goes_to_stdout(self):
        done = self.fmt("-", stdin="edition=1")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "edition = 1\n", ""))
        wrong = self.fmt("-", stdin="x = (")
        self.assertEqual((wrong.returncode, wrong.stdout), (3, ""))

    def test_directories_are_searched(self):
        self.file("d/a.job", "edition=1")
        self.file("d/e/b.job", "edition=1")
        self.file("d/.hidden/c.job", "edition=1")
        self.assertEqual(self.fmt("--check", "d").stdout, "d/a.job\nd/e/b.job\n")

    def test_json_tells_of_every_file(self):
        self.file("a.job", "edition=1")
        self.file("b.job", "x = (")
        done = self.fmt("--json", "--check")
        self.assertEqual(done.returncode, 3)
        self.assertEqual(json.loads(done.stdout), {"schema": "jobc.fmt/1", "files": [
            {"file": "a.job", "state": "different"}, {"file": "b.job", "state": "syntax error"}]})

    def test_a_missing_file_is_reported_before_any_is_changed(self):
        path = self.file("a.job", "edition=1")
        done = self.fmt("a.job", "b.job")
        self.assertEqual(done.returncode, 2)
        self.assertIn("`b.job` does not exist", done.stderr)
        self.assertEqual(path.read_text(), "edition=1")


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    unittest.main()
