"""Validates plans against docs/schemas/plan-1.schema.json, and shows that the schema has teeth: a plan with a member
removed that the schema requires, or one added that it does not know, must not be valid.

usage: validate_plans.py SCHEMA PLAN...
"""
import copy
import json
import random
import sys

import jsonschema


def objects(node):
    """All objects of the plan except typed values, whose shape the schema leaves open."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key != "value" or (isinstance(value, dict) and ("op" in value or "ref" in value)):
                yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def main():
    schema = json.load(open(sys.argv[1], encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    failures = 0
    for name in sys.argv[2:]:
        plan = json.load(open(name, encoding="utf-8"))
        for error in validator.iter_errors(plan):
            print(f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
            failures += 1
        choose = random.Random(name[-6:])
        for _ in range(6):
            broken = copy.deepcopy(plan)
            target = choose.choice(list(objects(broken)))
            if choose.random() < 0.5 and target.get("op"):
                del target["op"]
            else:
                target["no_such_member"] = 1
            if validator.is_valid(broken):
                print(f"{name}: a broken plan is valid: {json.dumps(target)[:300]}")
                failures += 1
    sys.exit(1 if failures else 0)


main()
