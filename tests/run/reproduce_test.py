"""The `reproduce:` line of a failure is run, as a person would paste it: it ends as the attempt ended."""
import os
import re
import subprocess
import unittest

from story import Story


class Reproduce(Story):
    def again(self, text, name="a", env=None, more=None):
        done = self.run_job(text, code=10, env=env or {})
        command = re.search(r"reproduce: +(.+)", done.err)[1]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.base), "LANG": "xx_XX", **(env or {}), **(more or {})}
        for _ in range(2):  # the first does not spoil the second
            again = subprocess.run(["sh", "-c", command], cwd=self.base, env=environment, capture_output=True, text=True, timeout=60)
        stderr = [line.split("| ", 1)[1] for line in re.search(r"stderr:\n((?:  +\| .*\n)+)", done.err)[1].splitlines()]
        self.assertEqual(again.stderr.splitlines(), [line.strip() for line in stderr])
        self.assertIn(f"exit {again.returncode}", done.err)
        return done, again

    def test_what_the_attempt_left_is_not_in_the_way(self):
        _, again = self.again('job a { script = <<~SH\n  mkdir sub\n  echo made >&2\n  exit 5\nSH\n }')
        self.assertEqual(again.returncode, 5)

    def test_a_command_that_only_the_caller_has_is_not_found(self):
        tools = self.base / "tools"
        tools.mkdir()
        (tools / "own-tool").write_text("#!/bin/sh\nexit 0\n")
        (tools / "own-tool").chmod(0o755)
        _, again = self.again('job a { script = <<~SH\n  own-tool\nSH\n }', more={"PATH": f"{tools}:{os.environ['PATH']}"})
        self.assertEqual(again.returncode, 127)

    def test_secrets_come_from_the_caller(self):
        text = 'secret t = env("TOKEN")\njob a { env { TOKEN = t } script = <<~SH\n  echo length ${#TOKEN} >&2\n  exit 6\nSH\n }'
        done, again = self.again(text, env={"TOKEN": "s3cr3t-value"})
        self.assertEqual((again.returncode, again.stderr), (6, "length 12\n"))
        script = re.search(r"reproduce: +sh (.+)", done.err)[1]
        with open(script) as file:
            self.assertNotIn("s3cr3t-value", file.read())

    def test_inputs_are_there(self):
        self.write("of the input\n", "in.txt")
        text = 'job a { input { f: File = file("in.txt") } run = ["sh", "-c", "cat $0 >&2; test -w $JOB_OUTPUT/. && test -w $TMPDIR && exit 7", input.f] }'
        _, again = self.again(text)
        self.assertEqual((again.returncode, again.stderr), (7, "of the input\n"))


if __name__ == "__main__":
    unittest.main()
