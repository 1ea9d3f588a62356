"""Interleaved, warm measurements, and whether the answers agree."""

import datetime
import math
import statistics
import time
from decimal import Decimal

ORDERED = {"Foreign Scan", "Sort", "Incremental Sort", "Limit"}


def normal(value):
    """Values of different drivers that mean the same become the same."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, Decimal)):
        return float(value)
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None)
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def same(left, right):
    if len(left) != len(right):
        return False
    for a, b in zip(left, right):
        if len(a) != len(b):
            return False
        for x, y in zip(map(normal, a), map(normal, b)):
            if isinstance(x, float) and isinstance(y, float):
                if not math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9):
                    return False
            elif x != y:
                return False
    return True


def agree(query, answer, reference, run):
    """Whether the answer is right by the reference's; rows that tie where LIMIT cuts may be others of the same key, if
    `run` (of DuckDB, for its parameters) finds them among the query's rows without LIMIT."""
    if same(answer, reference):
        return True
    if query.rows is None or run is None:
        return False

    def key(row):
        return [normal(row[k]) for k in query.keys]

    if not same([key(r) for r in answer], [key(r) for r in reference]):
        return False
    edges = [key(r) for r in (reference[0], reference[-1])]
    inner = [sorted((r for r in rows if key(r) not in edges), key=lambda r: [str(r[i]) for i in query.identity]) for rows in (answer, reference)]
    if not same(*inner):
        return False
    outer = [r for r in answer if key(r) in edges]
    names = [f"c{i}" for i in range(len(answer[0]))]
    identity = ", ".join(names[i] for i in query.identity)
    wanted = ", ".join("(" + ", ".join("?" for _ in query.identity) + ")" for _ in outer)
    found = run(f"SELECT * FROM ({query.rows}) AS every({', '.join(names)}) WHERE ({identity}) IN ({wanted})", [r[i] for r in outer for i in query.identity])
    for row in outer:
        at = next((i for i, other in enumerate(found) if same([row], [other])), None)
        if at is None:
            return False
        del found[at]
    return True


def measure(systems, queries, repetitions, say):
    """For each query and system the client's times in seconds, and CPU seconds of the process that answers. One repetition runs all systems in turn, so that a slow
    moment of the machine meets them alike; the first runs warm the caches and are compared."""
    results = {}
    for name, query in queries.items():
        sql = query.sql
        answers, times, cpu, errors = {}, {s.name: [] for s in systems}, {s.name: [] for s in systems}, {}
        for system in systems:
            try:
                answers[system.name] = system.run(sql)
            except Exception as error:  # a system that can't answer is reported, the others are measured
                errors[system.name] = str(error).strip().splitlines()[0]
        able = [s for s in systems if s.name in answers]
        for repetition in range(repetitions):
            for system in able:
                # What takes seconds is steady enough after three repetitions.
                if repetition >= 3 and times[system.name][0] > 1.0:
                    continue
                began, used = time.perf_counter(), system.cpu()
                system.run(sql)
                times[system.name].append(time.perf_counter() - began)
                cpu[system.name].append(system.cpu() - used)
        reference = "duckdb" if "duckdb" in answers else able[0].name if able else None
        wrong = [s.name for s in able if not agree(query, answers[s.name], answers[reference], next((d.run for d in able if d.name == "duckdb"), None))]
        for other in wrong:
            say(f"  {name}: {other} answers {answers[other][:2]}, {reference} {answers[reference][:2]}")
        plan, reasons = next((s.plan(sql) for s in able if s.name == "basalt"), ([], []))
        results[name] = {"sql": sql, "plan": plan, "not_pushed": reasons, "rows": len(answers[reference]) if able else 0, "times": {n: t for n, t in times.items() if t}, "errors": errors, "agree": not wrong and not errors,
                         "medians": {n: statistics.median(t) for n, t in times.items() if t}, "cpu": {n: statistics.median(t) for n, t in cpu.items() if t}}
        say(line(name, results[name]))
    return results


def line(name, result):
    medians = result["medians"]
    parts = [f"  {name:22}"]
    for system in ("basalt", "heap", "duckdb"):
        parts.append(f"{system} {medians[system] * 1000:9.2f} ms" if system in medians else f"{system} {'-':>12}")
    if "basalt" in medians and "duckdb" in medians:
        parts.append(f"basalt/duckdb {medians['basalt'] / medians['duckdb']:6.2f} (CPU {result['cpu']['basalt'] / result['cpu']['duckdb']:6.2f})")
    if "basalt" in medians and "heap" in medians:
        parts.append(f"heap/basalt {medians['heap'] / medians['basalt']:7.1f}")
    if result["plan"]:
        parts.append("pushed" if result["plan"] == ["Foreign Scan"] else "/".join(result["plan"]))
    if result["errors"]:
        parts.append("; ".join(f"{n}: {e}" for n, e in result["errors"].items()))
    elif not result["agree"]:
        parts.append("ANSWERS DIFFER")
    return "  ".join(parts)


def geomean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None
