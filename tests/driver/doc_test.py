#!/usr/bin/env python3
"""`jobc doc` on the examples, the standard library and a file with one of everything, against the pages in documents/.

usage: doc_test.py JOBC [--update]: a page that differs fails, or is written anew.
"""
import json
import os
import pathlib
import subprocess
import sys
import unittest

JOBC = None
UPDATE = False
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def jobc(*words, **options):
    return subprocess.run([JOBC, *words], capture_output=True, text=True, timeout=60, cwd=ROOT, **options)


def documented():
    yield "everything.md", "tests/driver/documents/everything.job"
    for file in sorted(ROOT.glob("examples/*/*.job")):
        if not file.stem.endswith("_test"):  # files of `test` blocks declare nothing to document
            yield file.stem + ".md", str(file.relative_to(ROOT))
    for module in sorted((ROOT / "stdlib").glob("*.job")):
        yield f"std_{module.stem}.md", f"std/{module.stem}"


class Pages(unittest.TestCase):
    maxDiff = None

    def test_pages(self):
        for page, source in documented():
            with self.subTest(source=source):
                made = jobc("doc", source)
                self.assertEqual((made.returncode, made.stderr), (0, ""))
                path = HERE / "documents" / page
                if UPDATE:
                    path.write_text(made.stdout)
                self.assertEqual(made.stdout, path.read_text(), f"{page} is not what `jobc doc {source}` says; run doc_test.py JOBC --update")

    def test_every_public_declaration_of_the_standard_library_is_documented(self):
        for module in sorted((ROOT / "stdlib").glob("*.job")):
            page = jobc("doc", f"std/{module.stem}").stdout
            for section in page.split("\n### ")[1:]:
                with self.subTest(module=module.stem, section=section.splitlines()[0]):
                    # A paragraph of words stands before the tables and lists.
                    text = [line for line in section.splitlines()[1:] if line and not line.startswith(("|", "-", "#", "`"))]
                    self.assertTrue(text, section)

    def test_a_table_has_as_many_cells_in_every_row(self):
        for page, source in documented():
            for table in jobc("doc", source).stdout.split("\n\n"):
                if table.startswith("| "):
                    bars = [line.replace("\\|", "").count("|") for line in table.strip().splitlines()]
                    self.assertEqual(len(set(bars)), 1, table)

    def test_json_holds_the_same_page(self):
        self.assertEqual(json.loads(jobc("doc", "examples/hello/hello.job", "--json").stdout)["markdown"], jobc("doc", "examples/hello/hello.job").stdout)

    def test_a_file_with_an_error_has_no_page(self):
        wrong = jobc("doc", "-", input="edition = 1\nparams { n: Imt }\n")
        self.assertEqual((wrong.returncode, wrong.stdout), (3, ""))
        self.assertIn("Imt", wrong.stderr)
        missing = jobc("doc", "std/pyhton")
        self.assertEqual((missing.returncode, missing.stdout), (2, ""))
        self.assertIn("std", missing.stderr)
        self.assertIn("python", missing.stderr)


if __name__ == "__main__":
    JOBC = os.path.abspath(sys.argv.pop(1))
    UPDATE = "--update" in sys.argv and not sys.argv.remove("--update")
    unittest.main()
