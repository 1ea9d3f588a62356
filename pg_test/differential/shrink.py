"""Makes a failing query, then its data, as small as they get and prints a SQL script."""

from dataclasses import replace

import psycopg

from .nodes import Render
from .session import DEFAULTS, READERS, SCHEMAS, grant_reading
from .stars import DIMENSIONS
from .tables import BASALT, HEAP, PROLOGUE, Alter, Batch, Maintain, reduced


def shrink_query(judge, query):
    if query.mode != "plain" and judge.differs(replace(query, mode="plain")):
        query = replace(query, mode="plain")
    for name in list(query.settings):
        less = replace(query, settings={k: v for k, v in query.settings.items() if k != name})
        if judge.differs(less):
            query = less
    progress = True
    while progress and not judge.late():
        progress = False
        for less in query.select.smaller():
            candidate = replace(query, select=less)
            try:
                if judge.differs(candidate):
                    query, progress = candidate, True
                    break
            except (IndexError, AttributeError):
                continue
            if judge.late():
                break
    return query


def names_in(query, tables):
    text = " " + query.select.sql(Render()) + " "
    return [t for t in tables if any(f"{a}{t.name}{b}" in text for a in (" ", "(", "v_") for b in " ).,")]


def reload(judge, tables):
    for side in judge.sides:
        # Not in the role of the last query.
        side.set({})
        side.connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMAS[side.side]} CASCADE; CREATE SCHEMA {SCHEMAS[side.side]}")
        for table in tables:
            table.load(side.connection, side.ddl_side)
        grant_reading(side.connection, side.side)


def still(judge, query, tables):
    try:
        reload(judge, tables)
        return judge.differs(query)
    except psycopg.Error:  # a reduction that can't be loaded is no reduction
        for side in judge.sides:
            side.recover()
        return None


def minimise(items, keeps):
    """Delta debugging: a small sublist for which `keeps` holds."""
    size = max(len(items) // 2, 1)
    while items:
        at, shrunk = 0, False
        while at < len(items):
            less = items[:at] + items[at + size:]
            answer = keeps(less)
            if answer is None:
                return items
            if answer:
                items, shrunk = less, True
            else:
                at += size
        if size == 1 and not shrunk:
            break
        size = max(size // 2, 1) if not shrunk or size > 1 else 1
    return items


def shrink_data(judge, query, tables):
    """Fewer batches, then rows, then columns. The tables of both sides are replaced."""
    used = names_in(query, tables) or tables
    if not still(judge, query, used):
        return tables
    tables = used
    flat = [flattened(t) for t in tables]
    if still(judge, query, flat):
        tables = flat

    def put(i, table):
        return tables[:i] + [table] + tables[i + 1:]

    def attempt(i, table):
        if judge.late():
            return None
        return bool(still(judge, query, put(i, table)))

    for i, table in enumerate(tables):
        steps = minimise(table.steps, lambda s: attempt(i, replace(table, steps=s)))
        tables = put(i, replace(table, steps=steps))
    for i, table in enumerate(tables):
        for j, step in enumerate(table.steps):
            if isinstance(step, Batch) and len(step.rows) > 1:
                def with_rows(rows):
                    return replace(tables[i], steps=tables[i].steps[:j] + [replace(step, rows=rows, how="values" if len(rows) < 1000 else step.how)] + tables[i].steps[j + 1:])
                rows = minimise(step.rows, lambda r: attempt(i, with_rows(r)))
                tables = put(i, with_rows(rows))
    for i, table in enumerate(tables):
        if any(isinstance(s, Alter) for s in table.steps):
            continue
        for column in list(table.columns):
            kept = [c.name for c in tables[i].columns if c is not column and c.name != column.name]
            if judge.late() or not kept:
                break
            less = without(tables[i], kept)
            if attempt(i, less):
                tables = put(i, less)
    still(judge, query, tables)
    return tables


def flattened(table):
    """The table without its alterations: all columns from the beginning, defaults as values."""
    order = [c.name for c in table.columns]
    steps = []
    for step in table.steps:
        if isinstance(step, Batch):
            rows = []
            for row in step.rows:
                known = dict(zip(step.columns, row))
                rows.append([known[c.name] if c.name in known else known.get("before_rename") if c.added == 0 else c.default for c in table.columns])
            steps.append(Batch(order, rows, step.how))
        elif isinstance(step, Maintain):
            steps.append(step)
    return reduced(table, order, steps)


def without(table, kept):
    steps = []
    for step in table.steps:
        if isinstance(step, Maintain):
            steps.append(step)
            continue
        positions = [i for i, c in enumerate(step.columns) if c in kept]
        steps.append(Batch([step.columns[i] for i in positions], [[row[i] for i in positions] for row in step.rows], step.how))
    return reduced(table, kept, steps)


def script(judge, query, tables):
    """SQL for psql that shows the difference."""
    out = ["CREATE EXTENSION IF NOT EXISTS basalt;", "DROP SCHEMA IF EXISTS diff_heap, diff_basalt, diff_types CASCADE;",
           "CREATE SCHEMA diff_types; CREATE SCHEMA diff_heap; CREATE SCHEMA diff_basalt;", "SET search_path = diff_types;"]
    out += [s + ";" for s in PROLOGUE + DIMENSIONS] + [READERS]
    for side in (HEAP, BASALT):
        out.append(f"SET search_path = {SCHEMAS[side]}, diff_types;")
        for table in tables:
            out += [s + ";" for s in table.statements(side)]
    out += [f"SET {k} = {v if k == 'DateStyle' else repr(v)};" for k, v in query.settings.items() if DEFAULTS.get(k) != v]
    for side in judge.sides:
        statements = []
        answers = side.run(query, statements)
        out.append(f"SET search_path = {SCHEMAS[side.side]}, diff_types;")
        out += [s + ";" if not s.startswith("--") else s for s in statements]
        for answer in answers:
            shown = f"{answer.sqlstate} {answer.message.strip()}" if answer.sqlstate or answer.lost else f"{len(answer.rows)} rows {answer.rows[:5]}"
            out.append("-- " + shown.replace("\n", "\n-- "))
    return "\n".join(out)
