#!/usr/bin/env python3
"""Compiles docs/messages.md. usage: messages_test.py JOBC

Each section has a wrong file, the message that jobc must print for it, to the letter, and the file with the message's advice
taken, which must be free of findings. What was typed must stand in the message.
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOBC = None


def checked(text):
    with tempfile.TemporaryDirectory() as directory:
        (pathlib.Path(directory) / "flow.job").write_text(text)
        return subprocess.run([JOBC, "check", "flow.job"], capture_output=True, text=True, timeout=60, cwd=directory)


def snippets(message):
    """What the helps of a message tell to type."""
    found = []
    for help in re.findall(r"= help: (.*)", message):
        found += re.findall(r"`([^`]+)`", help) + [part for part in help.split("  ")[1:] if part]
    return found


class Messages(unittest.TestCase):
    def test_every_section(self):
        sections = re.split(r"^## ", (ROOT / "docs/messages.md").read_text(), flags=re.MULTILINE)[1:]
        self.assertGreaterEqual(len(sections), 10)
        for section in sections:
            title = section.splitlines()[0]
            blocks = re.findall(r"^```(job|text)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
            self.assertEqual([kind for kind, _ in blocks], ["job", "text", "job"], title)
            wrong, message, right = [text for _, text in blocks]
            with self.subTest(section=title, what="the message"):
                self.assertEqual(checked(wrong).stderr, message)
            with self.subTest(section=title, what="the corrected file"):
                after = checked(right)
                self.assertEqual((after.returncode, after.stderr), (0, ""))
            with self.subTest(section=title, what="the line to type"):
                typed = [text for text in snippets(message) if right.count(text) > wrong.count(text) or text + "\n" in right and text + "\n" not in wrong]
                removed = "help: remove it" in message and len(right) < len(wrong)
                self.assertTrue(typed or removed, f"none of {snippets(message)} is what was typed")
            with self.subTest(section=title, what="rustc"):
                self.assertRegex(section, r"\*rustc\* ")


if __name__ == "__main__":
    JOBC = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
