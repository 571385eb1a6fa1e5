"""Loads records into ClickHouse's embedded engine (PyPI `chdb`) with the shipped schema, and runs every shipped query.

Usage: fleet.py SCHEMA QUERIES RECORDS; prints one JSON object a query: {"name", "rows"}.
"""

import json
import re
import sys

from chdb import session


def statements(text):
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";\n") if statement.strip()]


def main(schema, queries, records):
    database = session.Session()
    for statement in statements(open(schema).read() + "\n"):
        database.query(statement)
    lines = open(records).read()
    # Twice, as a receiver sees a batch whose confirmation was lost.
    for _ in range(2):
        database.query("INSERT INTO egresswatch.events (record) FORMAT JSONAsString\n" + lines)
    count = database.query("SELECT count() FROM egresswatch.events FINAL", "CSV").data().strip()
    print(json.dumps({"name": "count", "rows": [{"count": int(count)}]}))
    for block in re.split(r"^-- name: ", open(queries).read(), flags=re.M)[1:]:
        name, text = block.split("\n", 1)
        for statement in statements(text + "\n"):
            answer = database.query(statement, "JSONEachRow").data()
            print(json.dumps({"name": name.strip(), "rows": [json.loads(row) for row in answer.splitlines()]}))


main(*sys.argv[1:])
