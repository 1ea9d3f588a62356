"""Many clients at once: each refreshes a dashboard of twenty queries over lineitem, alone among themselves and with long reports beside them."""

import statistics
import threading
import time

from . import data
from .systems import DuckDB, Postgres

MODES = ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"]
REPORT = "SELECT l_partkey, l_suppkey, count(*), sum(l_extendedprice), avg(l_quantity) FROM lineitem GROUP BY 1, 2 ORDER BY 4 DESC, 1, 2 LIMIT 100"


def dashboard(client):
    """Twenty queries of one client: its own year, half year, mode and supplier, in the shapes that charts, tables and filters have."""
    year, mode, other = 1993 + client % 5, MODES[client % 7], MODES[(client + 3) % 7]
    whole = f"l_shipdate >= DATE '{year}-01-01' AND l_shipdate < DATE '{year + 1}-01-01'"
    half = f"l_shipdate >= DATE '{year}-04-01' AND l_shipdate < DATE '{year}-10-01'"
    return [
        f"SELECT count(*) FROM lineitem WHERE {whole}",
        f"SELECT sum(l_extendedprice), sum(l_quantity) FROM lineitem WHERE {whole}",
        f"SELECT min(l_shipdate), max(l_shipdate) FROM lineitem WHERE l_shipmode = '{mode}'",
        f"SELECT date_trunc('month', l_shipdate) AS m, count(*), sum(l_extendedprice) FROM lineitem WHERE {whole} GROUP BY 1 ORDER BY 1",
        f"SELECT date_trunc('week', l_shipdate) AS w, sum(l_quantity) FROM lineitem WHERE {half} AND l_shipmode = '{mode}' GROUP BY 1 ORDER BY 1",
        f"SELECT date_trunc('day', l_shipdate) AS d, count(*) FROM lineitem WHERE {half} GROUP BY 1 ORDER BY 1",
        f"SELECT l_shipmode, count(*), sum(l_extendedprice) FROM lineitem WHERE {whole} GROUP BY 1 ORDER BY 1",
        f"SELECT l_returnflag, l_linestatus, count(*), avg(l_discount) FROM lineitem WHERE {half} GROUP BY 1, 2 ORDER BY 1, 2",
        f"SELECT l_shipinstruct, l_shipmode, sum(l_quantity) FROM lineitem WHERE {half} GROUP BY 1, 2 ORDER BY 1, 2",
        f"SELECT l_suppkey, sum(l_extendedprice) AS s FROM lineitem WHERE {half} AND l_shipmode = '{mode}' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
        f"SELECT l_partkey, sum(l_quantity) AS q FROM lineitem WHERE l_shipdate >= DATE '{year}-05-01' AND l_shipdate < DATE '{year}-06-01' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
        f"SELECT l_linenumber, avg(l_extendedprice), max(l_extendedprice) FROM lineitem WHERE {whole} AND l_shipmode IN ('{mode}', '{other}') GROUP BY 1 ORDER BY 1",
        f"SELECT count(DISTINCT l_suppkey) FROM lineitem WHERE {half} AND l_shipmode = '{mode}'",
        f"SELECT count(*), sum(l_tax) FROM lineitem WHERE {whole} AND l_discount BETWEEN 0.02 AND 0.04 AND l_quantity < {10 + client}",
        f"SELECT count(*) FROM lineitem WHERE {half} AND l_shipinstruct LIKE '%PERSON%'",
        f"SELECT count(*), max(l_receiptdate) FROM lineitem WHERE l_partkey = {1000 + 7919 * client}",
        f"SELECT l_shipdate, l_quantity, l_extendedprice FROM lineitem WHERE l_partkey = {2000 + 7907 * client} ORDER BY l_shipdate, l_extendedprice LIMIT 20",
        f"SELECT l_returnflag, count(*) FILTER (WHERE l_quantity > 25) AS big, count(*) FROM lineitem WHERE {whole} GROUP BY 1 ORDER BY 1",
        f"SELECT extract(month FROM l_shipdate) AS m, count(*) FROM lineitem WHERE l_shipmode = '{other}' GROUP BY 1 ORDER BY 1",
        f"SELECT l_shipmode, sum(l_extendedprice) AS s FROM lineitem WHERE {whole} AND l_returnflag = 'R' GROUP BY 1 HAVING count(*) > 10 ORDER BY 2 DESC, 1",
    ]


class PostgresSessions:
    """A connection for each client; reports are of the class that gives way, where the extension has one."""

    name = "basalt"

    def __init__(self, dsn, threads):
        self.dsn, self.threads = dsn, threads

    def session(self, report):
        system = Postgres("basalt", self.dsn, self.threads)
        if report and system.connection.execute("SELECT count(*) FROM pg_settings WHERE name = 'basalt.query_class'").fetchone()[0]:
            system.connection.execute("SET basalt.query_class = 'reporting'")
        return system.run, system.close


class DuckSessions:
    """Connections of one process to one database, whose threads they share."""

    name = "duckdb"

    def __init__(self, system, dataset):
        self.connection = system.connections[dataset.name]

    def session(self, report):
        cursor = self.connection.cursor()
        return lambda sql: cursor.execute(sql).fetchall(), cursor.close


def load(sessions, clients, rounds, reports):
    """Seconds of each query, and of each dashboard, while `reports` long reports run; and how many reports ended a minute."""
    ready, over = threading.Barrier(clients + reports), threading.Event()
    queries, dashboards, ended, failures = [], [], [], []

    def in_session(work, report):
        try:
            run, close = sessions.session(report)
            try:
                ready.wait(120)
                work(run)
            finally:
                close()
        except Exception as error:
            failures.append(error)
            over.set()
            ready.abort()

    def client(number, run):
        for _ in range(rounds):
            began = time.perf_counter()
            for sql in dashboard(number):
                before = time.perf_counter()
                run(sql)
                queries.append(time.perf_counter() - before)
            dashboards.append(time.perf_counter() - began)

    def report(run):
        while not over.is_set():
            run(REPORT)
            ended.append(time.perf_counter())

    interactive = [threading.Thread(target=in_session, args=(lambda run, n=n: client(n, run), False)) for n in range(clients)]
    background = [threading.Thread(target=in_session, args=(report, True)) for _ in range(reports)]
    began = time.perf_counter()
    for thread in (*background, *interactive):
        thread.start()
    for thread in interactive:
        thread.join()
    seconds = time.perf_counter() - began
    over.set()
    for thread in background:
        thread.join()
    if failures:
        raise failures[0]
    return {"query p50": statistics.median(queries), "query p95": percentile(queries, 0.95), "query max": max(queries), "dashboard p95": percentile(dashboards, 0.95),
            "queries a second": len(queries) / seconds, "reports a minute": 60 * sum(e <= began + seconds for e in ended) / seconds}


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run(cluster, folder, options, say):
    dataset = data.lineitem(options.scale)
    threads = max(2, options.threads)
    store, duck = Postgres("basalt", cluster.dsn(), threads), DuckDB(folder / "duckdb", threads)
    for system in (store, duck):
        if not system.has(dataset):
            system.load(dataset)
    for number in range(options.clients):  # warm, and the same on both sides
        for sql in dashboard(number):
            assert len(store.run(sql)) == len(duck.run(sql)), sql
    say(f"\ntenancy: {options.clients} clients with a dashboard of {len(dashboard(0))} queries, {options.rounds} times; {dataset.rows:,} rows, {threads} threads")
    result = {}
    for sessions in (PostgresSessions(cluster.dsn(), threads), DuckSessions(duck, dataset)):
        for reports in (0, options.reports):
            label = f"{sessions.name}, {reports} reports" if reports else sessions.name
            result[label] = figures = load(sessions, options.clients, options.rounds, reports)
            say(f"  {label:20} "
                + "  ".join(f"{name} {value:7.1f}" if " a " in name else f"{name} {value * 1000:9.1f} ms" for name, value in figures.items()))
    for system in (store, duck):
        system.close()
    ratio = {"p95 basalt/duckdb": result["basalt"]["query p95"] / result["duckdb"]["query p95"],
             "p95 basalt/duckdb with reports": result[f"basalt, {options.reports} reports"]["query p95"] / result[f"duckdb, {options.reports} reports"]["query p95"],
             "p95 basalt with reports/without": result[f"basalt, {options.reports} reports"]["query p95"] / result["basalt"]["query p95"]}
    for name, value in ratio.items():
        say(f"  {name:34} {value:6.2f}")
    return result | ratio
