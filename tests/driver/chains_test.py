"""Declarations that build on each other in long chains: jobc follows them, or says where it stops; it never crashes."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

JOBC = sys.argv.pop(1)
LONG = 30_000

CHAINS = {
    "constants": lambda n: ["let a0 = params.n"] + [f"let a{i} = a{i - 1} + 1" for i in range(1, n)],
    "constants, the last one first": lambda n: [f"let a{i} = a{i + 1} + 1" for i in range(n)] + [f"let a{n} = params.n"],
    "functions": lambda n: ["fn f0(x: Int) -> Int = x"] + [f"fn f{i}(x: Int) -> Int = f{i - 1}(x) + 1" for i in range(1, n)],
    "functions, the last one first": lambda n: [f"fn f{i}(x: Int) -> Int = f{i + 1}(x) + 1" for i in range(n)] + [f"fn f{n}(x: Int) -> Int = x"],
    "types": lambda n: [f"type T{i} = T{i + 1}" for i in range(n)] + [f"type T{n} = Int"],
    "structs": lambda n: [f"struct T{i} {{ x: T{i + 1} }}" for i in range(n)] + [f"struct T{n} {{ x: Int }}"],
    "templates": lambda n: [f"template t{i} uses t{i + 1} {{ }}" for i in range(n)] + [f'template t{n} {{ run = ["true"] }}', "job j uses t0 { }"],
}


def jobs(n):
    return [f'job j{i} {{ after = [j{i + 1}] run = ["true"] }}' for i in range(n)] + [f'job j{n} {{ run = ["true"] }}']


class Chains(unittest.TestCase):
    def jobc(self, *words, lines):
        with tempfile.TemporaryDirectory() as at:
            file = pathlib.Path(at) / "a.job"
            file.write_text("edition = 1\nparams { n: Int = 1 }\n" + "\n".join(lines) + "\n")
            return subprocess.run([JOBC, *words, str(file)], capture_output=True, text=True, timeout=120)

    def test_of_declarations_end_with_a_diagnostic(self):
        for what, chain in CHAINS.items():
            with self.subTest(what):
                for command in ("check", "plan"):
                    done = self.jobc(command, lines=chain(LONG))
                    self.assertEqual(done.returncode, 3, (what, done.returncode, done.stderr[-2000:]))
                    self.assertIn("error[E013]: declarations build on each other more than 400 deep", done.stderr)

    def test_that_people_write_are_fine(self):
        for what, chain in CHAINS.items():
            with self.subTest(what):
                lines = chain(200)
                done = self.jobc("check", lines=lines)
                self.assertNotIn("error", done.stderr.lower(), what)

    def test_of_jobs_may_be_long_in_any_order(self):
        for lines in (jobs(10_000), jobs(10_000)[::-1]):
            self.assertEqual(self.jobc("check", lines=lines).returncode, 0)
        self.assertEqual(self.jobc("check", lines=jobs(LONG)[::-1]).returncode, 0)

    def test_of_jobs_against_the_order_of_the_file_end_somewhere(self):
        done = self.jobc("check", lines=jobs(LONG))
        self.assertEqual(done.returncode, 3, done.stderr[-2000:])
        self.assertIn("error[E013]: more than 20000 jobs are each declared above the one they need", done.stderr)


if __name__ == "__main__":
    unittest.main()
