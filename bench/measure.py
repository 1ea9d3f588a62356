"""Interleaved, warm measurements, and whether the answers agree."""

import datetime
import math
import statistics
import time
from decimal import Decimal


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


def measure(systems, queries, repetitions, say):
    """For each query and system the times in seconds. One repetition runs all systems in turn, so that a slow
    moment of the machine meets them alike; the first runs warm the caches and are compared."""
    results = {}
    for name, sql in queries.items():
        answers, times, errors = {}, {s.name: [] for s in systems}, {}
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
                began = time.perf_counter()
                system.run(sql)
                times[system.name].append(time.perf_counter() - began)
        reference = "duckdb" if "duckdb" in answers else able[0].name if able else None
        wrong = [n for n in answers if not same(answers[n], answers[reference])]
        for other in wrong:
            say(f"  {name}: {other} answers {answers[other][:2]}, {reference} {answers[reference][:2]}")
        results[name] = {"sql": sql, "times": {n: t for n, t in times.items() if t}, "errors": errors, "agree": not wrong and not errors,
                         "medians": {n: statistics.median(t) for n, t in times.items() if t}}
        say(line(name, results[name]))
    return results


def line(name, result):
    medians = result["medians"]
    parts = [f"  {name:22}"]
    for system in ("basalt", "heap", "duckdb"):
        parts.append(f"{system} {medians[system] * 1000:9.2f} ms" if system in medians else f"{system} {'-':>12}")
    if "basalt" in medians and "duckdb" in medians:
        parts.append(f"basalt/duckdb {medians['basalt'] / medians['duckdb']:6.2f}")
    if "basalt" in medians and "heap" in medians:
        parts.append(f"heap/basalt {medians['heap'] / medians['basalt']:7.1f}")
    if result["errors"]:
        parts.append("; ".join(f"{n}: {e}" for n, e in result["errors"].items()))
    elif not result["agree"]:
        parts.append("ANSWERS DIFFER")
    return "  ".join(parts)


def geomean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None
