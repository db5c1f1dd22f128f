#!/usr/bin/env python3
"""Adds up what `./dev test` ran and prints the closing line `N passed, N failed`.

usage: count_tests.py REPORTS...

Each REPORTS holds the JUnit files that ctest wrote, and in gtest/ the XML file of each GoogleTest binary. A binary counts
with each of its cases, any other test as one. A binary that failed without saying which case (a crash, a sanitizer's
finding at exit) adds one failure to what it reported. Exits with 1 if anything failed or nothing ran.
"""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def gtest_counts(path):
    """(passed, failed, skipped) of one GoogleTest report; None if it is missing or was not written to its end."""
    try:
        suites = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    passed = failed = skipped = 0
    for case in suites.iter("testcase"):
        if case.get("status") == "notrun" or case.get("result") in ("skipped", "suppressed"):
            skipped += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    return passed, failed, skipped


def main():
    passed = failed = skipped = 0
    failures = []
    for junit in sorted(file for reports in sys.argv[1:] for file in pathlib.Path(reports).glob("*.xml")):
        reports = junit.parent
        for entry in ElementTree.parse(junit).getroot().iter("testcase"):
            name = entry.get("name")
            ok = entry.get("status") == "run"
            if entry.get("status") in ("disabled", "notrun") and entry.find("failure") is None:
                skipped += 1
                continue
            counts = gtest_counts(reports / "gtest" / (name + ".xml"))
            if counts is None:
                counts = (1, 0, 0) if ok else (0, 1, 0)
            elif not ok and counts[1] == 0:
                counts = (counts[0], 1, counts[2])
            passed, failed, skipped = (total + n for total, n in zip((passed, failed, skipped), counts))
            if not ok or counts[1]:
                failures.append(f"{reports.parent.name}:{name}" if len(sys.argv) > 2 else name)
    if failures:
        print("failed: " + " ".join(failures))
    if skipped:
        print(f"{skipped} skipped")
    if passed + failed == 0:
        print("no tests were run")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
