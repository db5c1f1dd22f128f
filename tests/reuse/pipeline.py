"""What the tests of this folder share: a pipeline of scatter, join and guard in which one thing at a time is changed."""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "run"))
from story import *  # noqa: E402,F403

PIPELINE = """edition = 1
params { word: String = "x", limit: Int = 2 }
secret token = env("TOKEN")
job upper {
  for name in ["a", "b", "c"] key name
  input { text: File = "in/~{name}.txt" }
  env { MODE = "loud", TOKEN = token }
  script = <<~SH
    tr a-z A-Z < ~{input.text} > ~{output.up}
  SH
  output { up: File = "~{name}.up", rows: Int = length(lines(read_text("~{name}.up"))) }
}
job join {
  input { parts: List<File> = upper[*].up }
  run = ["sh", "-c", "cat \\"$@\\" > all.txt; echo $0", params.word, ...input.parts]
  output { all: File = "all.txt", said: String = trim(stdout()) }
}
job long {
  when = sum([for u in upper[*] : u.rows]) > params.limit
  input { all: File = join.all }
  run = ["wc", "-c", input.all]
  output { bytes: String = trim(stdout()) }
}
export { said: String = join.said, bytes: String? = long.bytes }
"""
UPPER = {f'upper["{name}"]' for name in "abc"}
ALL = UPPER | {"join", "long"}


def xxh64(data):
    """xxHash64 with seed 0, as it is specified: the checksum of a journal's rows."""
    mask = (1 << 64) - 1
    p1, p2, p3, p4, p5 = 11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261
    rotate = lambda value, bits: (value << bits | value >> (64 - bits)) & mask
    mix = lambda acc, lane: rotate((acc + lane * p2) & mask, 31) * p1 & mask
    at = 0
    if len(data) >= 32:
        lanes = [(p1 + p2) & mask, p2, 0, -p1 & mask]
        while at + 32 <= len(data):
            lanes = [mix(lane, int.from_bytes(data[at + 8 * i:at + 8 * i + 8], "little")) for i, lane in enumerate(lanes)]
            at += 32
        acc = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & mask
        for lane in lanes:
            acc = ((acc ^ mix(0, lane)) * p1 + p4) & mask
    else:
        acc = p5
    acc = (acc + len(data)) & mask
    while at + 8 <= len(data):
        acc = (rotate(acc ^ mix(0, int.from_bytes(data[at:at + 8], "little")), 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= len(data):
        acc = (rotate(acc ^ int.from_bytes(data[at:at + 4], "little") * p1 & mask, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        acc = rotate(acc ^ byte * p5 & mask, 11) * p1 & mask
    for shift, prime in ((33, p2), (29, p3), (32, 1)):
        acc = (acc ^ acc >> shift) * prime & mask
    return acc


class ReuseStory(Story):  # noqa: F405
    def setUp(self):
        super().setUp()
        for name in "abc":
            self.write(f"hello {name}\n", f"in/{name}.txt")
        self.pipeline()

    def environment(self, **more):
        return super().environment(**{"TOKEN": "the-first-secret", "JOBC_CACHE": str(self.base / "cache"), **more})

    def pipeline(self, *replacements):
        text = PIPELINE
        for old, new in replacements:
            self.assertIn(old, text)
            text = text.replace(old, new)
        self.write(text)

    def go(self, *arguments, code=0, **options):
        """Runs, and gives the id of the run."""
        self.jobc("run", "a.job", *arguments, code=code, **options)
        return self.jobc("list", "--json").json["runs"][0]["id"]

    def ran(self, *run):
        """The instances that had an attempt."""
        return {address for address, one in self.instances(*run).items() if one["attempts"]}

    def reused(self, *run):
        return {address: one["reused"]["run"] for address, one in self.instances(*run).items() if "reused" in one}

    def assertRanAgain(self, expected, *arguments, base=None, **options):
        """`run --resume` runs exactly these; everything else that succeeded is the result of the base."""
        run = self.go("--resume", *([base] if base else []), *arguments, **options)
        self.assertEqual(self.ran(run), set(expected), self.jobc("status", run, "--instances").out)
        states = self.states(run)
        self.assertEqual(set(self.reused(run)), {a for a, state in states.items() if state == "succeeded"} - set(expected))
        return run
