"""Reads one day's CSV: valid rows to JSON lines, totals to the job's result."""
import csv
import json
import os
import sys

source, target = sys.argv[1:]
rows, rejected, revenue = 0, 0, {}
with open(source, newline="", encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as out:
    for row in csv.DictReader(lines):
        try:
            amount = int(row["quantity"]) * float(row["price"])
            if amount < 0 or row["currency"] not in ("EUR", "USD", "GBP"):
                raise ValueError("not a sale")
        except (TypeError, ValueError):
            rejected += 1
            continue
        rows += 1
        revenue[row["currency"]] = round(revenue.get(row["currency"], 0) + amount, 2)
        json.dump({"day": os.environ["JOB_KEY"], "amount": amount, "currency": row["currency"]}, out)
        out.write("\n")
with open(os.environ["JOB_RESULT"], "w", encoding="utf-8") as result:
    json.dump({"totals": {"rows": rows, "rejected": rejected, "revenue": revenue}}, result)
