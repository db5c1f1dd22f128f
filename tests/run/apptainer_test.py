"""Runs on the apptainer backend with a stand-in for the tool, which checks how it is called and then does what apptainer
does: a mount namespace with a root of its own, the binds, the image's environment. Where a real apptainer or singularity is
installed and an image of one file is named by JOBC_SIF, the same story runs with that."""
import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from story import Story, processes_with

STAND_IN = r'''#!/usr/bin/env python3
import csv, os, shlex, sys
words = sys.argv[1:]
log = open("@BASE@/called", "a")
log.write(repr((words, dict(os.environ))) + "\n")
log.close()
def fatal(text):
    sys.stderr.write("FATAL:   " + text + "\n")
    sys.exit(255)
if words[:2] != ["--silent", "exec"]: fatal("unknown command")
words = words[2:]
binds, pwd, flags = [], None, set()
while words and words[0].startswith("-"):
    option = words.pop(0)
    if option == "--bind":
        parts = words.pop(0).split(":")
        if len(parts) not in (2, 3): fatal("bad bind")
        binds.append((parts[0], parts[1], parts[2:] == ["ro"]))
    elif option == "--mount":
        fields = next(csv.reader([words.pop(0)]))
        pairs = dict(field.split("=", 1) for field in fields if "=" in field)
        binds.append((pairs["source"], pairs["destination"], "ro" in fields))
    elif option == "--pwd": pwd = words.pop(0)
    elif option in ("--contain", "--cleanenv", "--no-home", "--writable-tmpfs"): flags.add(option)
    else: fatal("unknown flag: " + option)
if not {"--contain", "--cleanenv", "--no-home"} <= flags: fatal("not contained")
image = words.pop(0)
if image == "docker://missing": fatal("Unable to handle docker://missing uri: manifest unknown")
if image == "docker://broken": fatal("container creation failed: mount hook function failure")
if image.startswith("/") and not os.path.exists(image): fatal("could not open image " + image + ": no such file or directory")
q = shlex.quote
root = "/mnt"
script = ["set -e", f"mount -t tmpfs none {root}"]
for name in ("usr", "bin", "sbin", "lib", "lib64", "etc", "dev", "proc"):
    if os.path.islink("/" + name): script.append(f"ln -s {q(os.readlink('/' + name))} {root}/{name}")
    elif os.path.isdir("/" + name): script += [f"mkdir {root}/{name}", f"mount --rbind /{name} {root}/{name}"]
script += [f"mkdir -p {root}/.singularity.d {root}/tmp", f"printf '#!/bin/sh\nexec printf runscript:%%s \"$@\"\n' > {root}/.singularity.d/runscript", f"chmod 755 {root}/.singularity.d/runscript"]
for source, target, read_only in binds:
    if os.path.isdir(source): script.append(f"mkdir -p {q(root + target)}")
    else: script.append(f"mkdir -p {q(os.path.dirname(root + target))}; [ -e {q(root + target)} ] || touch {q(root + target)}")
    script.append(f"mount --bind {q(source)} {q(root + target)}")
    if read_only: script.append(f"mount -o remount,bind,ro {q(root + target)}")
inner = f"cd {q(pwd)} && exec \"$@\""
script.append(f"exec chroot {root} env -i PATH=/usr/bin:/bin FROM_IMAGE=yes HOME=/image sh -c {q(inner)} sh \"$@\"")
os.execvp("unshare", ["unshare", "-rm", "sh", "-c", "\n".join(script), "sh", *words])
'''

HEAD = """edition = 1
profile here default { backend = apptainer { max_parallel = 4 } }
defaults { image = "debian:12" }
"""


def can_unshare():
    return subprocess.run(["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt && chroot / true"], capture_output=True).returncode == 0


@unittest.skipUnless(can_unshare(), "this user may not make mount namespaces")
class Apptainer(Story):
    def setUp(self):
        super().setUp()
        self.tools = self.base / "tools"
        self.tools.mkdir()
        self.install("apptainer")
        self.env = {"PATH": f"{self.tools}:{os.environ['PATH']}", "OUTER": "leaks", "TOKEN": "s3cret-value"}

    def install(self, name):
        path = self.tools / name
        path.write_text(STAND_IN.replace("@BASE@", str(self.base)))
        os.chmod(path, 0o755)

    def go(self, text, *arguments, **options):
        self.write(HEAD + text)
        return self.jobc("run", "a.job", *arguments, env=options.pop("env", self.env), **options)

    def called(self):
        return [eval(line) for line in (self.base / "called").read_text().splitlines()]

    def test_a_job_sees_its_places_and_leaves_typed_results(self):
        self.write("a,b\nc,d\n", "ta:b,le.csv")
        done = self.go('''secret token = env("TOKEN")
job count {
  input { table: File = file("ta:b,le.csv") }
  env { STRANGE = "two\\nlines, \\"quoted\\" $HOME `x`"  TOKEN = token }
  script = <<~SH
    test "$PWD" = /jobc/out -a "$JOB_OUTPUT" = /jobc/out -a "$HOME" = /jobc/tmp -a "$TMPDIR" = /jobc/tmp
    test "$FROM_IMAGE" = yes -a "${OUTER-unset}" = unset
    test "${#TOKEN}" = 12; echo "$TOKEN"
    echo x > "$TMPDIR/y" && test -e /tmp/y
    if echo x >> ~{input.table}; then exit 9; fi 2> /dev/null
    printf %s "$STRANGE" > strange
    printf '{"lines": %d}' "$(wc -l < ~{input.table})" > "$JOB_RESULT"
  SH
  output { lines: Int, strange: File = "strange" }
}
job use { input { s: File = count.strange } run = ["cat", input.s] output { text: String = stdout() } }
export { lines: Int = count.lines, text: String = use.text }
''')
        self.assertEqual(done.json, {"lines": 2, "text": 'two\nlines, "quoted" $HOME `x`'})
        for words, env in self.called():
            self.assertNotIn("s3cret-value", repr(words))
            self.assertNotIn("s3cret-value", repr(env))  # neither the tool nor a shell sees it
            self.assertNotIn("OUTER", env)
            self.assertIn("docker://debian:12", words)
        self.assertEqual(self.jobc("logs", "count").out.strip(), "***")

    def test_how_programs_end(self):
        done = self.go('''job code { run = ["sh", "-c", "exit 143"] }
job signal { run = ["sh", "-c", "kill -TERM $$"] }
job absent { run = ["no-such-program"] }
job own { run = ["sh", "-c", "exit 127"] }
job no_image { image = "missing" run = ["true"] }
job no_file { image = "./no.sif" run = ["true"] }
job broken { image = "broken" run = ["true"] }
''', "--on-error", "continue", code=10)
        said = done.err
        for address, part in (("code", "exit 143"), ("signal", "SIGTERM"), ("own", "exit code 127: the command was not found"), ("absent", "`no-such-program` was not found in the image debian:12"),
                              ("no_image", "cannot run the image `missing`"), ("no_file", f"{self.at}/no.sif"), ("broken", "its last words: FATAL")):
            self.assertIn(part, said, f"{address}\n{done}")
        instances = self.instances()
        for address, kind in (("code", "exit"), ("signal", "signal"), ("absent", "command"), ("own", "command"), ("no_image", "image"), ("no_file", "image"), ("broken", "submit")):
            self.assertIn(f"'{kind}'", repr(instances[address]), address)

    def test_limits_and_what_is_left_behind(self):
        done = self.go('''job slow { timeout { run = 300ms } grace = 200ms run = ["sh", "-c", "trap '' TERM; (setsid sleep 36101 &); sleep 36101"] }
''', code=10)
        self.assertIn("timeout", done.err)
        self.assertEqual(processes_with("36101"), [])

    def test_what_it_was_given_and_left_is_laid_down(self):
        self.write("given\n", "in.txt")
        done = self.go(f'''job one {{
  staging = "{self.base}/staged"
  input {{ data: File = "in.txt" }}
  script = <<~SH
    cat ~{{input.data}}; printf %s "$JOB_STAGING" > where; echo '{{"n": 1}}' > "$JOB_RESULT"
  SH
  output {{ n: Int, where: File = "where" }}
}}
export {{ n: Int = one.n }}
''')
        self.assertEqual(done.json, {"n": 1})
        (manifest,) = (self.base / "staged").glob("*/*/*/*/jobc-staged.json")
        told = json.loads(manifest.read_text())
        self.assertEqual((told["backend"], told["complete"], told["success"]), ("apptainer", True, True))
        read = lambda name: (manifest.parent / name).read_text()
        self.assertEqual((read("input/files/data/in.txt"), read("output/stdout.log"), json.loads(read("output/result.json"))), ("given\n", "given\n", {"n": 1}))
        self.assertEqual(read("output/files/where"), str(manifest.parent))

    def test_image_args_are_for_the_runscript(self):
        done = self.go('''job say { image_args = ["hello"] output { text: String = stdout() } }
export { text: String = say.text }
''')
        self.assertEqual(done.json, {"text": "runscript:hello"})

    def test_the_tool_is_found_or_missed(self):
        done = self.go('job x { backend = apptainer { command = singularity } run = ["true"] }\n', code=10)
        self.assertIn("`singularity` was not found on PATH", done.err)
        self.install("singularity")
        self.go('job x { backend = apptainer { command = singularity } run = ["true"] }\n')
        (self.tools / "apptainer").unlink()
        (self.tools / "singularity").unlink()
        if shutil.which("apptainer") is None and shutil.which("singularity") is None:
            done = self.go('job x { run = ["true"] }\n', code=14)
            self.assertIn("neither `apptainer` nor `singularity` was found", done.err)

    def test_the_tool_itself(self):
        image = os.environ.get("JOBC_SIF")
        if not image or (shutil.which("apptainer") is None and shutil.which("singularity") is None):
            self.skipTest("needs apptainer or singularity, and an image named by JOBC_SIF")
        done = self.go(f'''job x {{ image = "{image}" run = ["sh", "-c", "pwd; echo $HOME"] output {{ text: String = stdout() }} }}
export {{ text: String = x.text }}
''', env={})
        self.assertEqual(done.json, {"text": "/jobc/out\n/jobc/tmp\n"})


if __name__ == "__main__":
    unittest.main()
