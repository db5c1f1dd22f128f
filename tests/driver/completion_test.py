#!/usr/bin/env python3
"""Sources the scripts of `jobc completion` into real shells and presses TAB. usage: completion_test.py JOBC

bash is wanted; zsh and fish are asked where they are installed.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

JOBC = None

FILE = """edition = 1
enum Mode { full, incremental }
params {
  ## The day to load.
  day: String = "2026-01-01"
  mode: Mode = Mode.full
  strict: Bool = false
}
profile local default { backend = process { max_parallel = 2 } }
profile large { backend = process { max_parallel = 8 } }
job load {
  for name in ["a b", "c"] key name
  run = ["echo", params.day, name, params.mode, "~{params.strict}"]
  output { said: String = trim(stdout()) }
}
job after_load { after = [load] run = ["true"] }
"""


def candidates(*words, **options):
    """What `jobc __complete` says, without the descriptions."""
    answered = subprocess.run([JOBC, "__complete", "bash", "--", *words], capture_output=True, text=True, timeout=60, **options)
    assert answered.returncode == 0 and answered.stderr == "", answered
    return [line.split("\t")[0] for line in answered.stdout.splitlines()]


class InADirectory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.directory.name)
        (cls.path / "load.job").write_text(FILE)
        (cls.path / "notes.txt").write_text("")
        (cls.path / "sub dir").mkdir()
        subprocess.run([JOBC, "run", "load.job", "--name", "nightly"], cwd=cls.path, check=True, capture_output=True, timeout=60)
        cls.run_id = os.listdir(cls.path / ".jobc/runs")[0]

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def candidates(self, *words):
        return candidates(*words, cwd=self.path)


class Answers(InADirectory):
    def test_commands_are_those_of_the_help(self):
        helped = subprocess.run([JOBC, "--help"], capture_output=True, text=True, timeout=60).stdout
        listed = [line.split()[0] for line in helped.split("commands:\n")[1].split("\n\n")[0].splitlines() if line[2] != " "]
        self.assertEqual(self.candidates(""), listed)
        self.assertIn("check", listed)
        self.assertNotIn("__complete", listed)
        self.assertEqual(self.candidates("chec"), ["check"])
        self.assertEqual(self.candidates("help", "exp"), ["explain"])

    def test_every_option_of_every_command_is_offered(self):
        for command in self.candidates(""):
            helped = subprocess.run([JOBC, command, "--help"], capture_output=True, text=True, timeout=60).stdout
            shown = set(re.findall(r"^  (?:-\w, |    )(--[\w-]+)", helped.split("\noptions:\n")[1], re.MULTILINE))
            self.assertIn("--json", shown)
            self.assertEqual(set(self.candidates(command, "--")), shown, command)

    def test_values_of_options(self):
        self.assertEqual(self.candidates("check", "--format", ""), ["text", "json", "sarif", "github"])
        self.assertEqual(self.candidates("check", "--format=s"), ["--format=sarif"])
        self.assertEqual(self.candidates("--color", "a"), ["auto", "always"])
        self.assertEqual(self.candidates("plan", "-o", ""), [":files"])
        self.assertEqual(self.candidates("list", "--state", ""), [":directories"])
        self.assertEqual(self.candidates("check", "--json=x"), [])

    def test_what_the_named_file_says(self):
        self.assertEqual(self.candidates("plan", "load.job", "--profile", ""), ["local", "large", "none"])
        self.assertEqual(self.candidates("plan", "load.job", "--profile=l"), ["--profile=local", "--profile=large"])
        self.assertEqual(self.candidates("run", "load.job", "-p", ""), ["day=", "mode=", "strict="])
        self.assertEqual(self.candidates("run", "load.job", "-p", "mode="), ["mode=full", "mode=incremental"])
        self.assertEqual(self.candidates("run", "load.job", "--param", "strict=f"), ["strict=false"])
        self.assertEqual(self.candidates("run", "missing.job", "-p", ""), [])

    def test_files_directories_and_codes(self):
        self.assertEqual(self.candidates("check", ""), [":job-files"])
        self.assertEqual(self.candidates("check", "load.job", ""), [":job-files"])
        self.assertEqual(self.candidates("plan", "load.job", ""), [])
        self.assertIn("E202", self.candidates("explain", "E2"))

    def test_runs_and_jobs(self):
        self.assertEqual(self.candidates("status", ""), ["nightly", self.run_id])
        self.assertEqual(self.candidates("status", self.run_id[:6]), [self.run_id])
        self.assertEqual(self.candidates("logs", ""), ["nightly", self.run_id, "load", "after_load"])
        self.assertEqual(set(self.candidates("logs", "nightly", "a")), {"after_load"})
        self.assertEqual(self.candidates("logs", "nightly", "load["), ['load["a b"]', 'load["c"]'])
        self.assertEqual(candidates("status", "--state", str(self.path / ".jobc"), "", cwd="/"), ["nightly", self.run_id])
        self.assertEqual(candidates("logs", "--state", "/nonexistent", "", cwd="/"), [])

    def test_nothing_is_said_where_nothing_is_known(self):
        self.assertEqual(self.candidates("nonsense", ""), [])
        self.assertEqual(self.candidates("version", ""), [])
        self.assertEqual(self.candidates("check", "--", "--fo"), [":job-files"])

    def test_the_shell_must_be_known(self):
        wrong = subprocess.run([JOBC, "completion", "tcsh"], capture_output=True, text=True, timeout=60)
        self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))
        self.assertIn("bash, zsh, fish", wrong.stderr)


class Bash(InADirectory):
    def press_tab(self, *words):
        """COMP_WORDS as bash splits the line, with the cursor behind the last one."""
        script = """
            eval "$(jobc completion bash)" || exit 9
            complete -p jobc | grep -q -- '-F _jobc jobc' || exit 8
            COMP_WORDS=(jobc "$@"); COMP_CWORD=$#
            _jobc
            printf '%s\\n' "${COMPREPLY[@]}"
        """
        environment = {**os.environ, "PATH": f"{os.path.dirname(JOBC)}:{os.environ['PATH']}"}
        pressed = subprocess.run(["bash", "--norc", "--noprofile", "-c", script, "bash", *words], cwd=self.path, env=environment,
                                 capture_output=True, text=True, timeout=60)
        self.assertEqual((pressed.returncode, pressed.stderr), (0, ""))
        return [line for line in pressed.stdout.splitlines() if line]

    def test_commands_and_options(self):
        self.assertEqual(self.press_tab("chec"), ["check"])
        self.assertEqual(self.press_tab("check", "--for"), ["--format"])
        self.assertEqual(self.press_tab("check", "--format", "j"), ["json"])

    def test_an_option_that_bash_splits_at_the_equals_sign(self):
        self.assertEqual(self.press_tab("check", "--format", "="), ["text", "json", "sarif", "github"])
        self.assertEqual(self.press_tab("check", "--format", "=", "j"), ["json"])
        self.assertEqual(self.press_tab("plan", "load.job", "--profile", "=", "la"), ["large"])

    def test_parameters(self):
        self.assertEqual(self.press_tab("run", "load.job", "-p", "d"), ["day="])
        self.assertEqual(self.press_tab("run", "load.job", "-p", "mode", "=", "f"), ["full"])

    def test_files(self):
        self.assertEqual(sorted(self.press_tab("check", "")), [".jobc", "load.job", "sub dir"])
        self.assertEqual(self.press_tab("check", "no"), ["notes.txt"])
        self.assertEqual(sorted(self.press_tab("list", "--state", "")), [".jobc", "sub dir"])

    def test_runs_and_quoted_jobs(self):
        self.assertEqual(self.press_tab("status", "ni"), ["nightly"])
        self.assertEqual(self.press_tab("logs", "nightly", "load["), ['load\\[\\"a\\ b\\"\\]', 'load\\[\\"c\\"\\]'])
        self.assertEqual(self.press_tab("logs", "nightly", 'load\\[\\"a'), ['load\\[\\"a\\ b\\"\\]'])
        self.assertEqual(self.press_tab("logs", "nightly", "'load[\"c"), ['load["c"]'])

    def test_shellcheck_likes_the_script(self):
        if shutil.which("shellcheck") is None:
            self.skipTest("shellcheck is not installed")
        script = subprocess.run([JOBC, "completion", "bash"], capture_output=True, text=True, timeout=60).stdout
        checked = subprocess.run(["shellcheck", "--shell=bash", "-"], input=script, capture_output=True, text=True, timeout=60)
        self.assertEqual(checked.stdout, "")


@unittest.skipIf(shutil.which("zsh") is None, "zsh is not installed")
class Zsh(InADirectory):
    def press_tab(self, *words):
        """_describe and _files belong to zsh's completion system; here they print what they are given."""
        script = """
            compdef() { [[ "$*" == "_jobc jobc" ]] || exit 8 }
            source <(jobc completion zsh) || exit 9
            _describe() { print -rl -- "${(@P)4}" }
            _alternative() { print -rl -- "$@" }
            _files() { print -rl -- "files $*" }
            words=(jobc "$@"); CURRENT=$#words
            _jobc
        """
        environment = {**os.environ, "PATH": f"{os.path.dirname(JOBC)}:{os.environ['PATH']}"}
        pressed = subprocess.run(["zsh", "-f", "-c", script, "zsh", *words], cwd=self.path, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((pressed.returncode, pressed.stderr), (0, ""))
        return pressed.stdout.splitlines()

    def test_candidates_have_descriptions(self):
        self.assertEqual([line.split(":")[0] for line in self.press_tab("check", "--for")], ["--format"])
        self.assertEqual(self.press_tab("run", "load.job", "-p", "d"), ["day=:The day to load."])
        self.assertEqual(self.press_tab("check", "--format", "j"), ["json"])
        self.assertEqual([line.split(":")[0] for line in self.press_tab("logs", "nightly", "load\\[\\\"c")], ['load["c"]'])

    def test_files(self):
        self.assertEqual(self.press_tab("check", ""), ['job:file:_files -g "*.job"', "other:file:_files"])
        self.assertEqual(self.press_tab("list", "--state", ""), ["files -/"])


@unittest.skipIf(shutil.which("fish") is None, "fish is not installed")
class Fish(InADirectory):
    def press_tab(self, line):
        environment = {**os.environ, "PATH": f"{os.path.dirname(JOBC)}:{os.environ['PATH']}", "HOME": str(self.path)}
        pressed = subprocess.run(["fish", "--no-config", "-c", "jobc completion fish | source; complete -C $argv[1]", line], cwd=self.path,
                                 env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((pressed.returncode, pressed.stderr), (0, ""))
        return [each.split("\t")[0] for each in pressed.stdout.splitlines()]

    def test_candidates(self):
        self.assertEqual(self.press_tab("jobc chec"), ["check"])
        self.assertEqual(self.press_tab("jobc check --for"), ["--format"])
        self.assertEqual(self.press_tab("jobc check --format="), [f"--format={each}" for each in sorted(["text", "json", "sarif", "github"])])
        self.assertEqual(self.press_tab("jobc run load.job -p d"), ["day="])
        self.assertEqual(self.press_tab("jobc status ni"), ["nightly"])

    def test_files(self):
        self.assertIn("load.job", self.press_tab("jobc check "))
        self.assertEqual(self.press_tab("jobc list --state s"), ["sub dir/"])


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    unittest.main()
