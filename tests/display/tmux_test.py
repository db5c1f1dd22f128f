"""The live display in a real terminal (tmux): never taller than the window, right after the window was resized, whole when jobs
print, when lines are wider than the window and when they hold escapes or wide characters. usage: tmux_test.py JOBC"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from world import wait_until  # noqa: E402

JOBC = None
MARKS = "✗▸↻◦·✓!-"


class Terminal(unittest.TestCase):
    def setUp(self):
        self.at = pathlib.Path(tempfile.mkdtemp(prefix="jobc-tmux-"))
        self.addCleanup(shutil.rmtree, self.at, ignore_errors=True)
        self.socket = str(self.at / "socket")
        self.addCleanup(self.tmux, "kill-server", check=False)

    def tmux(self, *words, check=True):
        done = subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", *words], capture_output=True, text=True, timeout=30,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"})
        if check and done.returncode != 0:
            raise AssertionError(f"tmux {' '.join(words)}: {done.stderr}")
        return done.stdout

    def open(self, width, height, *words):
        """A shell in a window of that size that runs jobc and then says how it ended."""
        (self.at / "go.sh").write_text("cd '%s'\ntrap : INT\n'%s' %s\necho \"EXIT $?\"\nexec cat\n" % (self.at, JOBC, " ".join(words)))
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), f"env -u NO_COLOR LC_ALL=C.UTF-8 HOME='{self.at}' sh '{self.at}/go.sh'")
        self.tmux("set-option", "-g", "status", "off")
        self.tmux("set-option", "-g", "window-size", "manual")
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def resize(self, width, height):
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, history=False):
        text = self.tmux("capture-pane", "-p", *(["-S", "-"] if history else []))
        return [line.rstrip() for line in text.rstrip("\n").split("\n")]

    def settle(self, condition, what):
        """The first screen on which the condition holds."""
        last = []

        def look():
            nonlocal last
            last = self.screen()
            return condition(last)

        try:
            wait_until(look, what=what)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; the screen:\n" + "\n".join(last)) from None
        return last

    def flag(self, name):
        return self.at / name

    def write(self, text):
        (self.at / "a.job").write_text("edition = 1\n" + text.replace("@AT@", str(self.at)))

    def totals(self, screen):
        return [line for line in screen if line.startswith("running ")]

    def end(self, screen_of=()):
        for name in screen_of:
            self.flag(name).touch()
        self.settle(lambda screen: any(line.startswith("EXIT") for line in screen), "the end of jobc")
        return self.screen(history=True)


GATED = """job {name} {{ on_error = continue script = <<~SH
  touch @AT@/{name}.up
  {before}
  while [ ! -e @AT@/{name}.go ]; do sleep 0.05; done
  {after}
SH
}}
"""


def gated(name, before=":", after=":"):
    return GATED.format(name=name, before=before, after=after)


class Live(Terminal):
    def test_one_line_a_job_and_scatters_collapsed(self):
        self.write(gated("first") + 'job many { for i in range(50) key "~{i}" after = [first] run = ["true"] }\njob last { after = [many] run = ["true"] }\n')
        self.open(80, 24, "run", "a.job", "--max-parallel", "4")
        screen = self.settle(lambda s: self.totals(s) and self.flag("first.up").exists() and re.match(r"▸ first +\d", s[0]), "the first job")
        self.assertEqual(len(screen), 4, screen)
        self.assertRegex(screen[0], r"^▸ first +\d+(ms|\.\ds|s)  running$")
        self.assertRegex(screen[1], r"^· many +0/50  50 waiting$")
        self.assertRegex(screen[2], r"^· last +waiting$")
        self.assertRegex(screen[3], r"^running [0-9a-z]{20}  \S+  0/52  1 running, 51 waiting$")
        whole = self.end(["first.go"])
        self.assertEqual(sum("many" in line for line in whole), 1, "\n".join(whole))
        self.assertRegex("\n".join(whole), r"✓ many +\S+s  50/50\n")
        self.assertIn("EXIT 0", whole)
        self.assertEqual(self.tmux("display-message", "-p", "#{cursor_flag}").strip(), "1", "the cursor is shown again")

    def test_never_taller_than_the_window(self):
        self.write("".join(gated(f"job{i:02}") for i in range(30)) + gated("worst", after="echo it broke >&2; exit 3"))
        self.open(60, 10, "run", "a.job", "--max-parallel", "31")
        screen = self.settle(lambda s: self.totals(s) and all(self.flag(f"job{i:02}.up").exists() for i in range(30)) and "31 running" in s[-1], "all to run")
        self.assertLessEqual(len(screen), 9, "a line of the window stays free")
        self.assertRegex(screen[-2], r"^… 24 more jobs: 24 running")
        self.flag("worst.go").touch()
        screen = self.settle(lambda s: any(line.startswith("✗ worst") for line in s), "the failure, which is always visible")
        self.assertLessEqual(len(screen), 10)
        self.assertTrue(any("it broke" in line for line in screen), screen)
        self.resize(60, 6)
        screen = self.settle(lambda s: len(s) <= 6 and any(line.startswith("✗ worst") for line in s) and self.totals(s), "the smaller window")
        self.assertEqual(len(self.totals(screen)), 1, screen)
        whole = self.end([f"job{i:02}.go" for i in range(30)])
        self.assertIn("EXIT 10", whole)

    def test_resized_while_it_is_drawn(self):
        names = ["a_job_with_a_rather_long_name", "short", "another_one"]
        self.write("".join(gated(name) for name in names))
        self.open(100, 20, "run", "a.job", "--max-parallel", "3")
        self.settle(lambda s: self.totals(s) and "3 running" in s[-1], "all to run")
        for width, height in ((40, 20), (25, 8), (120, 30), (33, 12), (100, 5), (80, 24)):
            self.resize(width, height)
            # Rows that the terminal itself moved into its history when it wrapped them may come back above; the display is whole.
            self.settle(lambda s: len(s) < height and len(self.totals(s)) == 1 and max(map(len, s)) < width and (width < 60 or "3 running" in s[-1]) and
                        [line[:3] for line in s[-4:]] == ["▸ a", "▸ s", "▸ a", "run"], f"{width} x {height}")
        whole = self.end([f"{name}.go" for name in names])
        self.assertEqual(sum(line.startswith("succeeded ") for line in whole), 1, "\n".join(whole))
        self.assertIn("EXIT 0", whole)

    def test_what_a_failed_job_wrote_cannot_hurt_the_screen(self):
        wide = "x" * 300
        self.write(gated("other") + gated("loud", after=r"printf '\033[2J\033[1;1Hcleared\033]0;title\007\rback\n日本語の出力 🎉 wide\n%s\nno end' """ + wide + " >&2; exit 4"))
        self.open(70, 30, "run", "a.job", "--max-parallel", "2")
        self.settle(lambda s: self.totals(s) and "2 running" in s[-1], "both to run")
        self.flag("loud.go").touch()
        screen = self.settle(lambda s: any(line.startswith("✗ loud") for line in s) and any(line.startswith("▸ other") for line in s), "the failure")
        wait_until(lambda: "failed: loud" in "\n".join(self.screen(history=True)), what="the report above the display")
        text = "\n".join(self.screen(history=True))
        self.assertIn("␛[2J␛[1;1Hcleared", text, "escapes are shown, not obeyed")
        self.assertIn("日本語の出力 🎉 wide", text)
        self.assertIn("no end", text)
        self.assertEqual(len(self.totals(screen)), 1, text)
        self.assertNotEqual(self.tmux("display-message", "-p", "#{pane_title}").strip(), "title")
        whole = "\n".join(self.end(["other.go"]))
        self.assertEqual(whole.count("failed: loud"), 1, whole)
        self.assertIn(wide, whole.replace("\n", ""), "the whole line")
        self.assertIn("EXIT 10", whole)

    def test_an_interrupt_leaves_a_clean_screen(self):
        self.write(gated("waits"))
        self.open(80, 24, "run", "a.job")
        self.settle(lambda s: self.totals(s) and "1 running" in s[-1], "the job")
        self.tmux("send-keys", "C-c")
        whole = self.end()
        self.assertIn("EXIT 130", whole)
        self.assertTrue(any("interrupted by SIGINT" in line for line in whole), whole)
        self.assertEqual(self.tmux("display-message", "-p", "#{cursor_flag}").strip(), "1")

    def test_the_same_from_another_terminal(self):
        self.write(gated("one") + 'job two { after = [one] run = ["true"] }\n')
        run = subprocess.Popen([JOBC, "run", "a.job"], cwd=self.at, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(self.at)})
        self.addCleanup(lambda: (run.kill(), run.wait()))
        wait_until(lambda: self.flag("one.up").exists(), what="the job to run")
        self.open(80, 24, "attach")
        screen = self.settle(lambda s: self.totals(s) and "▸ one" in s[0], "the display")
        self.assertEqual(len(screen), 3)
        self.resize(50, 10)
        self.settle(lambda s: len(self.totals(s)) == 1 and "▸ one" in "\n".join(s), "the smaller window")
        self.assertIn("EXIT 0", self.end(["one.go"]))
        self.assertEqual(run.wait(timeout=30), 0)


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    if shutil.which("tmux") is None:
        print("tmux_test: there is no tmux here; ./dev test installs it", file=sys.stderr)
        sys.exit(1)
    unittest.main()
