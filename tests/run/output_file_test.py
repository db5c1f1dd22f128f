"""Files that a person names with `-o`: regular files are replaced as a whole, everything else stays what it is."""
import os
import socket
import stat
import subprocess
import unittest

from story import Story

PLAN = 'edition = 1\njob a { run = ["true"] timeout { run = 1m } }'


class OutputFiles(Story):
    def setUp(self):
        super().setUp()
        self.write(PLAN)
        self.text = self.jobc("plan", "a.job", "-o", "-").out
        self.assertTrue(self.text.startswith("{"), self.text)

    def kind(self, name):
        return stat.S_IFMT(os.lstat(self.at / name).st_mode)

    def tearDown(self):
        self.assertEqual([name for name in os.listdir(self.at) if name.startswith(".jobc.")], [], "temporary files")

    def through(self, name, *words):
        """What comes out of a FIFO while jobc writes it."""
        reader = subprocess.Popen(["timeout", "60", "cat", name], cwd=self.at, stdout=subprocess.PIPE)
        self.addCleanup(reader.stdout.close)
        self.jobc(*words)
        return reader.communicate(timeout=60)[0].decode()

    def test_a_file_is_replaced_and_keeps_its_mode(self):
        old = self.write("old", "plan.json", 0o640)
        held = open(old)
        self.addCleanup(held.close)
        self.jobc("plan", "a.job", "-o", "plan.json")
        self.assertEqual(old.read_text(), self.text)
        self.assertEqual(stat.S_IMODE(old.stat().st_mode), 0o640)
        self.assertEqual(held.read(), "old", "who has the old one open keeps it whole")
        name = "n" * 255
        self.jobc("plan", "a.job", "-o", name)
        self.assertEqual((self.at / name).read_text(), self.text)

    def test_links_are_followed(self):
        (self.at / "sub").mkdir()
        self.write("old", "sub/real", 0o600)
        os.symlink("sub/real", self.at / "link")
        os.symlink("sub/new", self.at / "again")
        os.symlink("again", self.at / "dangling")
        for link, real in [("link", "real"), ("dangling", "new")]:
            self.jobc("plan", "a.job", "-o", link)
            self.assertEqual(self.kind(link), stat.S_IFLNK)
            self.assertEqual((self.at / "sub" / real).read_text(), self.text)
        self.assertEqual(stat.S_IMODE((self.at / "sub/real").stat().st_mode), 0o600)
        os.symlink("round", self.at / "round")
        self.assertSays(self.jobc("plan", "a.job", "-o", "round", code=15).err, "cannot write `round`: Too many levels of symbolic links")

    def test_a_fifo_and_a_device_stay_what_they_are(self):
        os.mkfifo(self.at / "pipe")
        self.assertEqual(self.through("pipe", "plan", "a.job", "-o", "pipe"), self.text)
        self.jobc("run", "a.job")
        self.assertIn("</html>", self.through("pipe", "report", "-o", "pipe"))
        self.assertEqual(self.kind("pipe"), stat.S_IFIFO)
        os.symlink("pipe", self.at / "link")
        self.assertEqual(self.through("pipe", "plan", "a.job", "-o", "link"), self.text)
        self.assertEqual((self.kind("pipe"), self.kind("link")), (stat.S_IFIFO, stat.S_IFLNK))
        try:
            os.mknod(self.at / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            os.close(os.open(self.at / "null", os.O_WRONLY))
        except OSError:
            return  # not root, or a file system without devices
        for command in ["plan", "a.job"], ["report"]:
            self.jobc(*command, "-o", "null")
            self.assertEqual(self.kind("null"), stat.S_IFCHR)

    def test_standard_output_by_a_link(self):
        # The link of a test's own: a bug must not meet that of the machine.
        os.symlink("/proc/self/fd/1", self.at / "stdout")
        self.assertEqual(self.jobc("plan", "a.job", "-o", "stdout").out, self.text)
        log = self.write("before\n", "log")
        with open(log, "a") as appended:
            done = subprocess.run([self.program, "plan", "a.job", "-o", "stdout"], cwd=self.at, env=self.environment(), stdout=appended, timeout=60)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(log.read_text(), "before\n" + self.text)
        self.assertEqual(self.kind("stdout"), stat.S_IFLNK)

    def test_what_cannot_be_written_is_named_and_untouched(self):
        (self.at / "dir").mkdir()
        self.assertSays(self.jobc("plan", "a.job", "-o", "dir", code=15).err, "cannot write `dir`: Is a directory")
        self.assertSays(self.jobc("plan", "a.job", "-o", "no/x", code=15).err, "cannot write `no/x`: No such file or directory")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(self.at / "socket"))
            self.assertSays(self.jobc("plan", "a.job", "-o", "socket", code=15).err, "cannot write `socket`: No such device or address")
        self.assertEqual(self.kind("socket"), stat.S_IFSOCK)


class ProtectedFiles(Story):
    unprivileged = True

    def test_a_file_that_is_protected_against_writing_stays(self):
        self.write(PLAN)
        kept = self.write("kept", "plan.json", 0o444)
        self.assertSays(self.jobc("plan", "a.job", "-o", "plan.json", code=15).err, "cannot write `plan.json`: Permission denied")
        self.assertEqual(kept.read_text(), "kept")

    def test_a_state_directory_that_may_not_be_read_is_not_empty(self):
        self.write(PLAN)
        self.jobc("run", "a.job")
        for place in [".jobc/runs", ".jobc"]:
            os.chmod(self.at / place, 0)
            for words in ["status"], ["list"], ["logs"], ["result"], ["report", "--json"], ["resume"], ["gc", "--dry-run"]:
                done = self.jobc(*words, code=15)
                self.assertSays(done.err, str(self.at / ".jobc"), "Permission denied")
                self.assertNotIn("no runs", done.err)
            os.chmod(self.at / place, 0o755)
        self.jobc("status")


if __name__ == "__main__":
    unittest.main()
