"""The three systems behind one interface: load a data set, run a query, tell the bytes on disk."""

import re
import time
from pathlib import Path

import duckdb
import psycopg

CHUNK = 1 << 20


def cpu_seconds(pid):
    """User and system time of a process with all its threads, those that have ended too, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid() of Linux


class Postgres:
    """Heap tables, or datasources, in a schema of their own."""

    def __init__(self, name, dsn, threads):
        self.name, self.threads = name, threads
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.pid = self.connection.info.backend_pid
        self.connection.execute("SET client_min_messages = warning")
        if name == "basalt":
            self.connection.execute("CREATE EXTENSION IF NOT EXISTS basalt")
            self.connection.execute(f"SET basalt.max_threads = {threads}")
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}_data")
        self.connection.execute(f"SET search_path = {name}_data")
        self.connection.execute(f"SET max_parallel_workers_per_gather = {threads - 1}")

    def has(self, dataset):
        return self.connection.execute("SELECT to_regclass(%s) IS NOT NULL", (dataset.name,)).fetchone()[0]

    def load_dimensions(self, dataset):
        for dimension in dataset.dimensions:
            if self.has(dimension):
                continue
            self.connection.execute(f"CREATE TABLE {dimension.name} ({dimension.declare('postgres')})")
            with self.connection.cursor() as cursor, cursor.copy(f"COPY {dimension.name} FROM STDIN (FORMAT csv)") as out, open(dimension.csv, "rb") as source:
                while chunk := source.read(CHUNK):
                    out.write(chunk)
            self.connection.execute(f"VACUUM ANALYZE {dimension.name}")

    def load(self, dataset):
        """Rows through COPY of CSV; returns wall and CPU seconds of the server process, and of index building."""
        name = dataset.name
        if self.name == "basalt":
            self.connection.execute(f"CREATE FOREIGN TABLE {name} ({dataset.declare('postgres')}) SERVER basalt "
                                    f"OPTIONS (time_column '{dataset.time}', segment_granularity '{dataset.granularity}')")
        else:
            self.connection.execute(f"CREATE TABLE {name} ({dataset.declare('postgres')})")
        wall, cpu = time.perf_counter(), self.cpu()
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv, NULL '{dataset.null}')") as out, open(dataset.csv, "rb") as source:
            while chunk := source.read(CHUNK):
                out.write(chunk)
        done = {"seconds": time.perf_counter() - wall, "cpu_seconds": self.cpu() - cpu}
        if self.name == "heap":
            for column in dataset.indexes:
                self.connection.execute(f"CREATE INDEX ON {name} ({column})")
            self.connection.execute(f"VACUUM ANALYZE {name}")
        return done

    def cpu(self):
        return cpu_seconds(self.pid)

    def run(self, sql):
        with self.connection.cursor() as cursor:
            return cursor.execute(sql).fetchall()

    def bytes(self, dataset):
        if self.name == "heap":
            table, indexes = self.connection.execute("SELECT pg_table_size(%s::regclass), pg_indexes_size(%s::regclass)", (dataset.name,) * 2).fetchone()
            return {"heap": table, "heap indexes": indexes}
        segments, count = self.connection.execute("SELECT sum(bytes)::bigint, count(*) FROM basalt.segment s JOIN basalt.datasource d ON d.id = s.datasource "
                                                  "WHERE d.relation = %s::regclass AND s.used", (dataset.name,)).fetchone()
        return {f"basalt segments ({count})": segments}

    def plan(self, sql):
        """The kinds of the plan's nodes from the top to the scan, a node with several inputs followed by each; and
        what the extension says about aggregates that it left to PostgreSQL."""
        ((document,),) = self.connection.execute("EXPLAIN (FORMAT JSON) " + sql)
        nodes, reasons, waiting = [], [], [document[0]["Plan"]]
        while waiting:
            node = waiting.pop()
            nodes.append(node["Node Type"])
            reasons += [node[k] for k in node if k == "Not Pushed"]
            waiting += reversed(node.get("Plans", []))
        return nodes, reasons

    def close(self):
        self.connection.close()


class DuckDB:
    """A database file for each data set."""

    name = "duckdb"

    def __init__(self, directory, threads):
        self.directory, self.threads = Path(directory), threads
        self.directory.mkdir(parents=True, exist_ok=True)
        self.connections = {}

    def path(self, dataset):
        return self.directory / f"{dataset.name}-{dataset.rows}.duckdb"

    def open(self, dataset):
        connection = duckdb.connect(str(self.path(dataset)))
        connection.execute(f"SET threads = {self.threads}; SET TimeZone = 'UTC'")
        self.connections[dataset.name] = connection
        return connection

    def has(self, dataset):
        return self.path(dataset).exists() and bool(self.open(dataset))

    def load(self, dataset):
        connection = self.open(dataset)
        wall, cpu = time.perf_counter(), self.cpu()
        connection.execute(f"CREATE TABLE {dataset.name} ({dataset.declare('duckdb')})")
        connection.execute(f"COPY {dataset.name} FROM '{dataset.csv}' (FORMAT csv, HEADER false, NULLSTR '{dataset.null}')")
        connection.execute("CHECKPOINT")
        done = {"seconds": time.perf_counter() - wall, "cpu_seconds": self.cpu() - cpu}
        # Queries read the file as another session would find it.
        connection.close()
        self.open(dataset)
        return done

    def load_dimensions(self, dataset):
        connection = self.connections[dataset.name]
        for dimension in dataset.dimensions:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {dimension.name} ({dimension.declare('duckdb')})")
            if connection.execute(f"SELECT count(*) FROM {dimension.name}").fetchone()[0] == 0:
                connection.execute(f"INSERT INTO {dimension.name} SELECT * FROM '{dimension.parquet}'")
        connection.execute("CHECKPOINT")

    def cpu(self):
        return time.process_time()

    def run(self, sql, parameters=()):
        name = next(n for n in self.connections if re.search(rf"\bFROM {n}\b", sql))
        return self.connections[name].execute(sql, parameters).fetchall()

    def bytes(self, dataset):
        return {"duckdb file": self.path(dataset).stat().st_size}

    def close(self):
        for connection in self.connections.values():
            connection.close()
