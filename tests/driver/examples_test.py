#!/usr/bin/env python3
"""Compiles the examples of the documentation. usage: examples_test.py JOBC

docs/diagnostics.md: the first example of a section must give exactly the section's code, the second one nothing. Of
codes that are found by plan or run, the first one gives nothing either. Codes that jobc does not have yet (they are
not in diagnostics.def) only have their right example compiled.
docs/*.md: every other job block that is a whole file must compile without a finding.
"""
import json
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOBC = None


def codes_of(text):
    """The codes that `jobc check` gives for a file with this text."""
    checked = subprocess.run([JOBC, "check", "--format", "json", "-"], input=text, capture_output=True, text=True, timeout=60)
    if checked.returncode not in (0, 3):
        raise AssertionError(f"exit code {checked.returncode}: {checked.stderr}")
    return sorted({diagnostic["code"] for diagnostic in json.loads(checked.stdout)["diagnostics"]})


def job_blocks(text):
    return re.findall(r"^```job\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Examples(unittest.TestCase):
    def test_sections_of_diagnostics(self):
        declared = set(re.findall(r"^DIAGNOSTIC\((\w+),", (ROOT / "compiler/diagnostics/diagnostics.def").read_text(), re.MULTILINE))
        for section in re.split(r"^## ", (ROOT / "docs/diagnostics.md").read_text(), flags=re.MULTILINE)[1:]:
            code = section.split(":", 1)[0]
            found_by_check = re.search(r"found by `jobc check`", section, re.IGNORECASE) is not None
            wrong, right = job_blocks(section)
            if code in declared:
                with self.subTest(code=code, example="wrong"):
                    # There is no lock beside the one of E801, whose examples import what cannot be had here.
                    nothing = ["E106"] if code == "E801" else []
                    self.assertEqual(codes_of(wrong), [code] if found_by_check else nothing)
            with self.subTest(code=code, example="right"):
                # Its import is a file that is not there.
                self.assertEqual(codes_of(right), ["E106"] if code == "E801" else [])

    def test_whole_files_of_the_other_pages(self):
        for page in sorted((ROOT / "docs").glob("*.md")):
            if page.name in ("diagnostics.md", "messages.md"):  # the latter is for messages_test.py
                continue
            for block in job_blocks(page.read_text()):
                if block.startswith("edition = "):
                    with self.subTest(page=page.name, starts=block.splitlines()[1]):
                        self.assertEqual(codes_of(block), [])


if __name__ == "__main__":
    JOBC = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
