"""How long after its timeout, or a client's request, a statement ends: heavy queries over lineitem and maintenance, stopped at random moments."""

import random
import threading
import time
from contextlib import suppress

import psycopg

from . import data, startup
from .systems import Postgres

QUERIES = {
    "group by two keys": "SELECT l_partkey, l_suppkey, count(*), sum(l_extendedprice), avg(l_quantity) FROM lineitem GROUP BY 1, 2",
    "group by order": "SELECT l_orderkey, count(*), sum(l_extendedprice), max(l_shipdate) FROM lineitem GROUP BY 1",
    "group by text": "SELECT l_comment, count(*) FROM lineitem GROUP BY 1",
    "first groups": "SELECT l_orderkey, l_linenumber, sum(l_extendedprice) FROM lineitem GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10",
    "distinct count": "SELECT count(DISTINCT l_comment), count(DISTINCT l_orderkey) FROM lineitem",
    "distinct counts": "SELECT l_suppkey, count(DISTINCT l_orderkey) FROM lineitem GROUP BY 1",
    "spill": "SELECT l_orderkey, l_linenumber, count(*), sum(l_extendedprice) FROM lineitem GROUP BY 1, 2",
    "folded aggregate": "SELECT l_shipmode, percentile_cont(0.5) WITHIN GROUP (ORDER BY l_extendedprice), mode() WITHIN GROUP (ORDER BY l_partkey) FROM lineitem GROUP BY 1",
    "grouping sets": "SELECT l_partkey, l_suppkey, count(*) FROM lineitem GROUP BY CUBE (l_partkey, l_suppkey)",
    "mapped column": "SELECT upper(l_comment), count(*) FROM lineitem GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
    "mapped columns": "SELECT l_suppkey || l_shipmode, count(*) FROM lineitem GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
    "pattern": "SELECT count(*) FROM lineitem WHERE l_comment ~ '(fox|bear).*quick'",
    "dimension": "SELECT n % 1000, count(*) FROM lineitem JOIN (SELECT n, max('name ' || n) AS name FROM generate_series(1, 1000000) n GROUP BY n) d ON n = l_partkey WHERE name <> 'x' GROUP BY 1",
    "rows": "SELECT sum(length(l_comment || l_shipmode || random()::text)) FROM lineitem",
    "first rows": "SELECT * FROM lineitem ORDER BY l_extendedprice DESC LIMIT 10",
    "10,000 segments": "SELECT kind, count(*) FROM startup_10000 GROUP BY 1",
}
# Rolled back, so that each run finds the same.
CHANGES = {
    "insert": "INSERT INTO interrupted SELECT * FROM lineitem",
    "replace": "SELECT basalt.replace('interrupted', '1992-01-01', '2000-01-01', 'SELECT * FROM basalt_data.lineitem WHERE l_linenumber < 3')",
    "compact": "SELECT basalt.compact('interrupted')",
    "truncate": "TRUNCATE startup_10000",
}
SETTINGS = {"spill": {"basalt.query_memory_limit": "'16MB'"}, "folded aggregate": {"basalt.query_memory_limit": "'4GB'"}, "grouping sets": {"basalt.query_memory_limit": "'4GB'"}}


def make(store, dataset):
    """A table of a few segments that overlap."""
    if store.connection.execute("SELECT to_regclass('interrupted') IS NOT NULL").fetchone()[0]:
        return
    store.connection.execute(f"CREATE FOREIGN TABLE interrupted ({dataset.declare('postgres')}) SERVER basalt OPTIONS (time_column '{dataset.time}', segment_granularity '{dataset.granularity}')")
    for line in range(2, 8):
        store.connection.execute(f"INSERT INTO interrupted SELECT * FROM lineitem WHERE l_linenumber = {line}")


def ended(connection, sql):
    """The error that ends a statement, if one does, and when; what it did is undone."""
    error = None
    try:
        if sql in CHANGES.values():
            connection.execute("BEGIN")
        connection.execute(sql)
    except psycopg.Error as caught:
        error = caught
    after = time.perf_counter()
    while connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.errors.QueryCanceled):  # a request that came too late
            connection.execute("ROLLBACK")
    return error, after


def lateness(connection, sql, limit, by_client):
    """Milliseconds from the timeout, or the request to cancel, to the statement's end; `None`: it ended before."""
    sent = []
    timer = threading.Timer(limit / 1000, lambda: (sent.append(time.perf_counter()), connection.cancel()))
    with suppress(psycopg.errors.QueryCanceled):  # the last timeout is this statement's, too
        connection.execute("RESET statement_timeout")
    connection.execute(f"SET statement_timeout = {0 if by_client else limit}")
    before = time.perf_counter()
    if by_client:
        timer.start()
    error, after = ended(connection, sql)
    if by_client:
        timer.cancel()
        timer.join()
        with suppress(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(0.01)")
    if error is None:
        return None
    if not isinstance(error, psycopg.errors.QueryCanceled):
        raise error
    return (after - (sent[0] if by_client else before + limit / 1000)) * 1000


def run(cluster, options, say):
    dataset, threads = data.lineitem(options.scale), max(2, options.threads)
    store = Postgres("basalt", cluster.dsn(), threads)
    if not store.has(dataset):
        store.load(dataset)
    connection = store.connection
    connection.execute("SET basalt.max_open_segments = 60000")
    startup.make(store, 10_000)
    make(store, dataset)
    chance, result = random.Random(4), {}
    say(f"\ninterrupts: {dataset.rows:,} rows, {threads} threads; milliseconds from the timeout, or the client's request, to the statement's end")
    # Rows stay in the server, so that it isn't the client that is waited for.
    statements = {name: f"SELECT count(q) FROM ({sql}) AS q" for name, sql in QUERIES.items()} | CHANGES
    for name, sql in statements.items():
        if options.query and name not in options.query:
            continue
        settings = {"basalt.query_memory_limit": "'2GB'"} | SETTINGS.get(name, {})
        for setting, value in settings.items():
            connection.execute(f"SET {setting} = {value}")
        connection.execute("SET statement_timeout = '60s'")
        before = time.perf_counter()
        error, _ = ended(connection, sql)
        whole, late = time.perf_counter() - before, {"timeout": [], "cancel": []}
        for nth in range(4 * options.repetitions):
            kind = list(late)[nth % 2]
            found = lateness(connection, sql, max(1, int(chance.random() * min(whole, 60) * 1000)), kind == "cancel")
            late[kind] += [] if found is None else [found]
        found = sorted(late["timeout"] + late["cancel"])
        result[name] = {"seconds": whole, "stopped": len(found), "late": late}
        say(f"  {name:20} {whole:7.2f} s ({error.sqlstate if error else 'whole'})   stopped {len(found):3}   median {found[len(found) // 2] if found else 0:7.1f}   "
            + "   ".join(f"{kind} most {max(values, default=0):7.1f}" for kind, values in late.items()))
    store.close()
    return result
