"""How long after a statement's timeout it ends: heavy queries over lineitem, stopped at random moments."""

import random
import time

import psycopg

from . import data
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
    "pattern": "SELECT count(*) FROM lineitem WHERE l_comment ~ '(fox|bear).*quick'",
    "rows": "SELECT sum(length(l_comment || l_shipmode || random()::text)) FROM lineitem",
    "first rows": "SELECT * FROM lineitem ORDER BY l_extendedprice DESC LIMIT 10",
}
SETTINGS = {"spill": {"basalt.query_memory_limit": "'16MB'"}, "folded aggregate": {"basalt.query_memory_limit": "'4GB'"}, "grouping sets": {"basalt.query_memory_limit": "'4GB'"}}


def run(cluster, options, say):
    dataset, threads = data.lineitem(options.scale), max(2, options.threads)
    store = Postgres("basalt", cluster.dsn(), threads)
    if not store.has(dataset):
        store.load(dataset)
    chance, result = random.Random(4), {}
    say(f"\ninterrupts: {dataset.rows:,} rows, {threads} threads; milliseconds from the timeout to the statement's end")
    for name, sql in QUERIES.items():
        if options.query and name not in options.query:
            continue
        settings = {"basalt.query_memory_limit": "'2GB'"} | SETTINGS.get(name, {})
        for setting, value in settings.items():
            store.connection.execute(f"SET {setting} = {value}")
        before = time.perf_counter()
        ended = "whole"
        try:
            store.connection.execute("SET statement_timeout = '60s'")
            # Rows stay in the server, so that it isn't the client that is waited for.
            store.connection.execute(f"SELECT count(q) FROM ({sql}) AS q")
        except psycopg.Error as error:
            ended = error.sqlstate
        whole, late = time.perf_counter() - before, []
        for _ in range(4 * options.repetitions):
            limit = max(1, int(chance.random() * min(whole, 60) * 1000))
            store.connection.execute(f"SET statement_timeout = {limit}")
            before = time.perf_counter()
            try:
                store.connection.execute(f"SELECT count(q) FROM ({sql}) AS q")
            except psycopg.errors.QueryCanceled:
                late.append((time.perf_counter() - before) * 1000 - limit)
        late.sort()
        result[name] = {"seconds": whole, "stopped": len(late), "late": late}
        say(f"  {name:20} {whole:7.2f} s ({ended})   stopped {len(late):3}   median {late[len(late) // 2] if late else 0:7.1f}   most {late[-1] if late else 0:7.1f}")
    store.close()
    return result
