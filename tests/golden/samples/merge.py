"""Concatenates CSV tables: merge.py --out OUT TABLE..."""
import argparse
import shutil

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("tables", nargs="*")
arguments = parser.parse_args()
with open(arguments.out, "wb") as out:
    for table in arguments.tables:
        with open(table, "rb") as rows:
            shutil.copyfileobj(rows, out)
