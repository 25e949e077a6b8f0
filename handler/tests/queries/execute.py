"""Runs KQL on rows, by way of DuckDB. Standard input: {"table", "columns": [{"name", "type"}],
"rows": path of NDJSON, "requests": rows of AppRequests, "functions": [{"name", "text"}], "queries": [{"name", "text"}]}.
Output: {name: {"rows": [{...}]} or {"error": "..."}}."""

import json
import sys

import duckdb
import duckdb_kql

TYPES = {
    "string": "VARCHAR", "int": "INTEGER", "long": "BIGINT", "real": "DOUBLE",
    "boolean": "BOOLEAN", "dynamic": "JSON", "datetime": "TIMESTAMP",
}


def value(kind, v):
    if kind == "string":
        return v or ""  # KQL knows no null among strings
    return json.dumps(v) if kind == "dynamic" and v is not None else v


def main():
    work = json.load(sys.stdin)
    con = duckdb_kql.connect()
    columns = ", ".join(f'"{c["name"]}" {TYPES[c["type"]]}' for c in work["columns"])
    con.execute(f'CREATE TABLE {work["table"]} ({columns})')
    names = [c["name"] for c in work["columns"]]
    kinds = {c["name"]: c["type"] for c in work["columns"]}
    marks = ", ".join("?" for _ in names)
    with open(work["rows"], encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            values = [value(kinds[n], row.get(n)) for n in names]
            con.execute(f'INSERT INTO {work["table"]} VALUES ({marks})', values)
    con.execute("CREATE TABLE AppRequests (TimeGenerated TIMESTAMP, OperationName VARCHAR)")
    for request in work.get("requests") or []:
        con.execute("INSERT INTO AppRequests VALUES (?, ?)", [request["TimeGenerated"], request["OperationName"]])
    duckdb_kql.set_functions([f'function {f["name"]}() {{ {f["text"]}\n }}' for f in work["functions"]])
    answer = {}
    for q in work["queries"]:
        try:
            result = duckdb_kql.query(con, q["text"])
            head = [d[0] for d in result.description]
            answer[q["name"]] = {"rows": [dict(zip(head, r)) for r in result.fetchall()]}
        except (duckdb_kql.errors.KqlError, duckdb.Error) as e:
            answer[q["name"]] = {"error": f"{type(e).__name__}: {e}"[:600]}
    json.dump(answer, sys.stdout, default=lambda v: float(v) if v.__class__.__name__ == "Decimal" else str(v))


main()
