"""What a query costs before and besides its scan: planning and execution over datasources of many small segments, where all but one are left out by
statistics, by time, or none is; as a plain and as a prepared statement, and after another session has changed something."""

import statistics
import time

from .systems import Postgres

ROWS = 100  # of a segment
STATEMENTS = {
    "by statistics": ("SELECT count(*) FROM {table} WHERE name = {value}", "'n' || lpad('{segment}', 6, '0')", "text"),
    "by time": ("SELECT count(*) FROM {table} WHERE at >= {value} AND at < {value} + interval '1 hour'", "timestamptz '2020-01-01 00:00+00' + {segment} * interval '1 hour'", "timestamptz"),
    "no segment left out": ("SELECT count(*) FROM {table} WHERE kind = {value}", "'k{segment}'", "text"),
}


def make(store, segments):
    """A datasource whose segments hold an hour each."""
    name = f"startup_{segments}"
    if store.connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()[0]:
        return name
    store.connection.execute(f"CREATE FOREIGN TABLE {name} (at timestamptz NOT NULL, name text, kind text, number int, amount float8) SERVER basalt "
                             "OPTIONS (time_column 'at', segment_granularity 'hour')")
    # One transaction: rows become a segment when a scan of the table begins, as this one does that returns nothing.
    store.connection.execute(f"""DO $$ BEGIN FOR s IN 0..{segments - 1} LOOP
        INSERT INTO {name} SELECT timestamptz '2020-01-01 00:00+00' + s * interval '1 hour' + i * interval '30 seconds', 'n' || lpad(s::text, 6, '0'), 'k' || i % 50, s, i / 7.0
        FROM generate_series(0, {ROWS - 1}) i;
        PERFORM FROM {name} LIMIT 0;
    END LOOP; END $$""")
    ((made,),) = store.connection.execute("SELECT segments FROM basalt.datasources WHERE datasource = %s::regclass", (name,)).fetchall()
    assert made == segments, (made, segments)
    return name


def explained(connection, sql):
    """Planning and execution, in milliseconds."""
    ((document,),) = connection.execute("EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) " + sql).fetchall()
    return document[0]["Planning Time"], document[0]["Execution Time"]


def measure(store, other, table, statement, repetitions):
    """Medians in milliseconds: planning and execution, both when the segments have to be read anew, and whole round trips."""
    template, value, kind = statement
    connection = store.connection
    plain = template.format(table=table, value=value.format(segment=7))
    found, times = {}, []
    explained(connection, plain)
    warm = [explained(connection, plain) for _ in range(repetitions)]
    fresh = []
    for _ in range(repetitions):
        other.execute("SELECT pg_current_xact_id()")  # a transaction ends: snapshots differ
        fresh.append(explained(connection, plain))
    for label, runs in (("", warm), (" anew", fresh)):
        found["planning" + label], found["execution" + label] = (statistics.median(run[i] for run in runs) for i in (0, 1))
    connection.execute(f"PREPARE startup ({kind}) AS " + template.format(table=table, value="$1"))
    connection.execute("SET plan_cache_mode = force_generic_plan")
    execute = f"EXECUTE startup({value.format(segment=7)})"
    for label, sql in (("round trip", plain), ("prepared", execute)):
        connection.execute(sql)
        times.clear()
        for _ in range(repetitions):
            before = time.perf_counter()
            connection.execute(sql)
            times.append(time.perf_counter() - before)
        found[label] = statistics.median(times) * 1000
    connection.execute("RESET plan_cache_mode")
    connection.execute("DEALLOCATE startup")
    return found


def run(cluster, options, say):
    store, other = Postgres("basalt", cluster.dsn(), options.threads), Postgres("basalt", cluster.dsn(), 1)
    store.connection.execute("SET basalt.max_open_segments = 60000")
    result = {}
    for segments in (1, 100, 10_000):
        table = make(store, segments)
        say(f"\nstart-up: {segments:,} segments of {ROWS} rows, milliseconds")
        for label, statement in STATEMENTS.items():
            result[f"{segments} {label}"] = found = measure(store, other.connection, table, statement, 4 * options.repetitions)
            say(f"  {label:20} " + "  ".join(f"{name} {value:8.2f}" for name, value in found.items()))
    for session in (store, other):
        session.close()
    return result
