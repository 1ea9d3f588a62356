"""The differential test as a function: loads, asks, compares, shrinks."""

import re
import time
from collections import Counter
from dataclasses import dataclass, field

from .compare import difference
from .judge import Judge
from .nodes import Render
from .queries import make_query
from .session import SCHEMAS, Session, grant_reading, prepare_schemas
from .shrink import reload, script, shrink_data, shrink_query
from .tables import BASALT, HEAP, make_tables


@dataclass
class Report:
    queries: int = 0
    answered: int = 0
    failed_alike: int = 0
    timeouts: int = 0
    aggregates: int = 0
    pushed: int = 0
    states: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)
    empty: int = 0
    reasons: Counter = field(default_factory=Counter)
    # (seed/number, sentence, script)
    differences: list = field(default_factory=list)
    seconds: dict = field(default_factory=lambda: {"heap": 0.0, "basalt": 0.0, "load heap": 0.0, "load basalt": 0.0})
    segments: dict = field(default_factory=dict)

    def closing(self):
        share = f"{100 * self.pushed / self.aggregates:.1f} %" if self.aggregates else "none"
        return (f"{self.queries} queries ({self.answered} answered, {self.empty} of them without rows, {self.failed_alike} failed alike: {dict(self.states)}, {self.timeouts} timed out on the heap), "
                f"{len(self.differences)} differences; {self.pushed} of {self.aggregates} aggregate queries pushed ({share}); "
                + ", ".join(f"{k} {v:.1f} s" for k, v in self.seconds.items()))


NODES = re.compile(r"^(\s*->\s+)?(Finalize |Partial |Mixed)?(HashAggregate|GroupAggregate|Aggregate|Group|Unique|WindowAgg)\b")


def is_pushed(plan):
    """One foreign scan answers the aggregates: no aggregating node stands in the plan."""
    return any("Foreign Scan" in line for line in plan) and not any(NODES.match(line) for line in plan)


def run(dsn, queries=2000, seed=1, tables=4, segments=200, against=BASALT, stop_after=5, shrink_seconds=60, first=0, only=None, say=print):
    report = Report()
    prepare_schemas(dsn, against)
    sides = [Session(dsn, side, against) for side in (HEAP, BASALT)]
    layout = make_tables(seed, tables, segments)
    for side in sides:
        began = time.monotonic()
        for table in layout:
            table.load(side.connection, side.ddl_side)
        grant_reading(side.connection, side.side)
        report.seconds["load " + side.side] = time.monotonic() - began
    analyze(sides[0], layout)
    if against == BASALT:
        counts = sides[1].connection.execute("SELECT d.relation::regclass::text, count(*) FROM basalt.datasource d JOIN basalt.segment s ON s.datasource = d.id "
                                             "WHERE s.used GROUP BY 1").fetchall()
        report.segments = dict(counts)
    say(f"seed {seed}: {len(layout)} tables, " + ", ".join(f"{t.name} {t.rows} rows in {sum(hasattr(s, 'rows') for s in t.steps)} transactions" for t in layout)
        + (f"; segments {report.segments}" if report.segments else ""))
    for number in range(first, first + queries):
        query = make_query(seed, number, layout, only)
        report.queries += 1
        left = sides[0].run(query)
        if any(a.sqlstate == "57014" for a in left):
            report.timeouts += 1
            continue
        judge = Judge(sides, shrink_seconds)
        right = sides[1].run(query)
        report.seconds["heap"] += sum(a.seconds for a in left)
        report.seconds["basalt"] += sum(a.seconds for a in right)
        found = judge.compare(left, right, query)
        for a in left:
            if a.sqlstate:
                report.failed_alike += 1
                report.states[a.sqlstate] += 1
                report.examples.setdefault(a.sqlstate, f"{query.seed}: {a.message.strip()}")
            else:
                report.answered += 1
                report.empty += not a.rows
        if query.select.aggregate and not found:
            plan = sides[1].explain(query)
            # Where PostgreSQL proves that no row is selected, there is nothing to push down.
            if plan is not None and any("Foreign Scan" in line for line in plan):
                report.aggregates += 1
                report.pushed += is_pushed(plan)
                report.reasons.update(reason(plan))
        if against == BASALT and query.select.aggregate and number % 5 == 0 and not found and not any(a.sqlstate for a in right):
            differs = threads_differ(sides[1], query)
            if differs:
                report.differences.append((query.seed, differs, query.select.sql(Render())))
                say(f"\nDIFFERENCE in query {query.seed} by threads: {differs}\n{query.select.sql(Render())}")
        if number % 10 == 0 and not found and not any(a.sqlstate for a in left):
            # What EXPLAIN adds runs too and may fail on its own.
            failed = sides[1].explain_failure(query)
            if failed:
                report.differences.append((query.seed, failed, query.select.sql(Render())))
                say(f"\nDIFFERENCE in query {query.seed}: EXPLAIN (ANALYZE, VERBOSE): {failed}\n{query.select.sql(Render())}")
        if found:
            say(f"\nDIFFERENCE in query {query.seed} ({query.select.form}, {query.mode}): {found[:500]}")
            text = reproduce(judge, query, layout, say)
            report.differences.append((query.seed, found, text))
            if len(report.differences) >= stop_after:
                break
            # The shrinker replaced the tables.
            reload(judge, layout)
            analyze(sides[0], layout)
    for side in sides:
        side.close()
    return report


def threads_differ(side, query):
    """None if 1, 2 and 8 threads give the same answer, floats to the last bit; else a sentence."""
    answers = []
    for threads in (1, 2, 8):
        side.statement(f"SET basalt.max_threads = {threads}")
        answers.append(side.statement(query.select.sql(Render())))
    side.statement(f"SET basalt.max_threads = {query.settings['basalt.max_threads']}")
    compares = ["exact" if i.compare.startswith("approx") else i.compare for i in query.select.items]
    return next(filter(None, (difference(answers[0], other, compares, query.select.ordered) for other in answers[1:])), None)


def reason(plan):
    return [line.strip() for line in plan if "not pushed" in line.lower()]


def analyze(side, layout):
    side.connection.execute("ANALYZE " + ", ".join(t.name for t in layout))


def reproduce(judge, query, layout, say):
    if not judge.differs(query):
        say("(it does not happen again with the same data: depends on what ran before)")
    small = shrink_query(judge, query)
    tables = shrink_data(judge, small, layout)
    if tables is not layout:
        small = shrink_query(judge, small)
    text = script(judge, small, tables) if sum(t.rows for t in tables) < 300 else "-- not shrunk in time; the query:\n" + small.select.sql(Render())
    say(text)
    return text
