"""Random SQL of Debian's sqlsmith over datasources, heap tables and the extension's functions: no crash, no internal error.

    python -m pg_test.sqlsmith 30 --seed 7        # minutes; against BASALT_PREFIX or this work tree's build

Errors of SQLSTATE XX000 are told apart by running the statement again over heap tables of the same names and rows in
another schema: where PostgreSQL fails alike, the error is its own."""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import psycopg

from harness import debian, prefix as prefixes
from harness.cluster import CRASH, INTERNAL, Cluster

ROLE, SCHEMA, TWIN = "smith", "smith", "smith_heap"
SETTINGS = {"log_error_verbosity": "verbose", "basalt.query_memory_limit": "64MB", "max_parallel_workers": 2}

EVERYTHING = """ts timestamptz, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(12,2), un numeric, t text, vc varchar(10), ch char(5), nm name, d date, tm timestamp,
  ti time, tz timetz, iv interval, id uuid, ip inet, net cidr, jb jsonb, js json, by bytea, ta text[], ia int4[], e mood, p point, r int4range, bits varbit(8), mo money, tv tsvector"""
ROWS = """SELECT '2021-01-01'::timestamptz + g * interval '7 hours', g % 3 = 0, g % 100, g * 37 % 1000, g::int8 << 33, g / 7.0, g / 11.0, g % 500 / 4.0, g * 1.10, 'text ' || g % 50,
  left(md5((g % 20)::text), 10), chr(97 + g % 26), 'name' || g % 9, '2021-01-01'::date + g % 40, '2021-01-01'::timestamp + g * interval '1 minute', '00:00'::time + g * interval '1 second',
  ('00:00+0' || g % 9)::timetz, g * interval '1 hour', md5((g % 100)::text)::uuid, '10.0.0.0'::inet + g % 256, ('10.' || g % 256 || '.0.0/16')::cidr,
  jsonb_build_object('a', g % 7, 'b', jsonb_build_array(g, 'x')), json_build_object('k', g % 5), decode(md5(g::text), 'hex'), ARRAY['x' || g % 4, 'y'], ARRAY[g, g % 3],
  (ARRAY['sad', 'ok', 'happy'])[1 + g % 3]::mood, point(g, -g), int4range(g % 10, g % 10 + g % 5), (g % 256)::bit(8)::varbit, (g % 900)::numeric::money, to_tsvector('simple', 'word' || g % 12 || ' and more')"""

# {store} options of a datasource are added where the schema is that of datasources.
TABLES = {
    "everything": (EVERYTHING, ROWS + " FROM generate_series({0}, {0} + 399) g", 4),
    "events": ("ts timestamptz NOT NULL, site text, visitor int8, duration float8, price numeric(10,2), ok bool",
               "SELECT '2022-01-01'::timestamptz + g * interval '1 minute', 'site' || g % 30, nullif(g % 700, 3), g % 100 / 3.0, nullif(g % 90, 7) / 4.0, g % 5 > 0 FROM generate_series({0}, {0} + 2999) g", 5),
    "nothing": ("ts date, a int4, b text", "", 0),
}
HEAPS = """
CREATE TABLE {0}.sites (site text PRIMARY KEY, owner int4, region text); INSERT INTO {0}.sites SELECT 'site' || g, g % 4, 'r' || g % 6 FROM generate_series(0, 40) g;
CREATE TABLE {0}.people (visitor int8 PRIMARY KEY, born date, nick varchar(10)); INSERT INTO {0}.people SELECT g, '1980-01-01'::date + g, 'nick' || g % 90 FROM generate_series(0, 600) g;
CREATE VIEW {0}.daily AS SELECT date_trunc('day', ts) AS day, site, count(*) AS n, sum(price) AS price FROM {0}.events GROUP BY 1, 2;
CREATE VIEW {0}.mine WITH (security_barrier) AS SELECT * FROM {0}.events WHERE visitor < 300;
CREATE MATERIALIZED VIEW {0}.cities AS SELECT site, count(*) AS n FROM {0}.events GROUP BY 1;
"""


def make_schemas(database):
    """The schema that sqlsmith sees, owned by a role without privileges, and its twin."""
    database.query(f"CREATE ROLE {ROLE} LOGIN; GRANT USAGE ON FOREIGN SERVER basalt TO {ROLE}; CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy'); GRANT ALL ON SCHEMA public TO {ROLE}")
    for schema, foreign in ((SCHEMA, "FOREIGN "), (TWIN, "")):
        database.query(f"CREATE SCHEMA {schema} AUTHORIZATION {ROLE}")
        with database.cluster.connect(database.name, user=ROLE) as connection:
            for name, (columns, rows, parts) in TABLES.items():
                connection.execute(f"CREATE {foreign}TABLE {schema}.{name} ({columns}){' SERVER basalt' if foreign else ''}")
                for part in range(parts):
                    connection.execute(f"INSERT INTO {schema}.{name} " + rows.format(part * 1000))
            connection.execute(f"CREATE TABLE {schema}.log (ts timestamptz, level text, n int4) PARTITION BY RANGE (ts)")
            for year in (2021, 2022, 2023):
                connection.execute(f"CREATE {foreign}TABLE {schema}.log_{year} PARTITION OF {schema}.log FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')"
                                   + (" SERVER basalt" if foreign else ""))
            connection.execute(f"INSERT INTO {schema}.log SELECT '2021-01-01'::timestamptz + g * interval '9 hours', 'level' || g % 4, g FROM generate_series(1, 2900) g")
            for statement in HEAPS.format(schema).split(";\n"):
                connection.execute(statement)
    database.query(f"ANALYZE {SCHEMA}.sites, {SCHEMA}.people")
    database.query(f"REVOKE ALL ON SCHEMA {TWIN} FROM PUBLIC; ALTER SCHEMA {TWIN} OWNER TO postgres; ALTER ROLE {ROLE} SET statement_timeout = '2s'; ALTER ROLE {ROLE} SET work_mem = '16MB'")


@dataclass
class Report:
    """`internal`: errors of SQLSTATE XX000 that only datasources raise, with their statements."""
    statements: int = 0
    crash: list = field(default_factory=list)
    internal: dict = field(default_factory=dict)
    own: int = 0

    def closing(self):
        return f"{self.statements} statements, {len(self.crash)} crashes, {len(self.internal)} internal errors, {self.own} of PostgreSQL's own"


LINE = re.compile(r"^\S+ \S+ \S+ \[(\d+)\] ")


def messages(text):
    """(process id, first line, following lines) of each message of the log."""
    message = None
    for line in text.splitlines():
        if found := LINE.match(line):
            if message:
                yield message
            message = (found[1], line, [])
        elif message:
            message[2].append(line.removeprefix("\t"))
    if message:
        yield message


def internal_errors(text):
    """(error, statement) of each XX000 in the log."""
    waiting = {}
    for pid, line, rest in messages(text):
        if INTERNAL.search(line):
            waiting[pid] = line.split(" XX000 ", 1)[1]
        elif " XX000 LOCATION: " in line and pid in waiting:
            waiting[pid] += " at " + line.split("LOCATION:", 1)[1].strip()
        elif " XX000 STATEMENT: " in line and pid in waiting:
            yield waiting.pop(pid), "\n".join([line.split("STATEMENT:", 1)[1].strip(), *rest])


def fails_on_heap(database, statement):
    """Whether the statement raises an internal error over the heap twins too."""
    try:
        with database.connect(options="-c statement_timeout=20s") as connection, connection.transaction(force_rollback=True):
            connection.execute(re.sub(rf"\b{SCHEMA}\.", f"{TWIN}.", statement))
    except psycopg.Error as error:
        return error.sqlstate == "XX000"
    return False


def run(database, seconds, seed=1, say=print) -> Report:
    """Runs sqlsmith as the role `smith` for so long, or until the server crashes. Debian's package is unpacked into the cache."""
    root = debian.unpacked("sqlsmith", "sqlsmith", "libpqxx-6.4")
    cluster, report = database.cluster, Report()
    start = len(cluster.log_text().encode(errors="replace"))
    count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    before = database.value(count)
    libraries = ":".join(str(p) for p in root.glob("usr/lib/*-linux-gnu"))
    end, began = time.monotonic() + seconds, 0
    with open(cluster.directory / "sqlsmith.log", "wb") as out:
        process = None
        try:
            while time.monotonic() < end and not report.crash:
                if process is None or process.poll() is not None:
                    if process and time.monotonic() - began < 5:
                        raise RuntimeError(f"sqlsmith ended with {process.returncode}:\n" + (cluster.directory / "sqlsmith.log").read_text()[-3000:])
                    # It ends by itself at rare occasions; a new seed goes on.
                    seed, began = seed + (process is not None), time.monotonic()
                    process = subprocess.Popen([root / "usr/bin/sqlsmith", f"--target={cluster.dsn(database.name, ROLE)}", "--exclude-catalog", f"--seed={seed}"],
                                               stdout=out, stderr=out, env=os.environ | {"LD_LIBRARY_PATH": libraries})
                time.sleep(1)
                text = cluster.log_text(start)
                report.crash = [line for line in text.splitlines() if CRASH.search(line)]
        finally:
            if process and process.poll() is None:
                process.terminate()
                process.wait(30)
    cluster.wait_for_answer()
    report.statements = database.value(count) - before
    text = cluster.log_text(start)
    if report.crash:
        report.crash.append(text[max(0, text.find(report.crash[0]) - 500):][:6000])
    for error, statement in internal_errors(text):
        if error in report.internal:
            continue
        if fails_on_heap(database, statement):
            report.own += 1
        else:
            report.internal[error] = statement
            say(f"INTERNAL ERROR {error}\n{statement}\n")
    return report


def main():
    parser = argparse.ArgumentParser(prog="python -m pg_test.sqlsmith", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cluster = Cluster(prefixes.for_tests(), config={"basalt.maintenance": "off"} | SETTINGS)
    try:
        database = cluster.init().start().create_database()
        make_schemas(database)
        report = run(database, options.minutes * 60, options.seed)
        print("\n".join(report.crash))
        print(report.closing())
    finally:
        cluster.destroy()
    sys.exit(1 if report.crash or report.internal else 0)


if __name__ == "__main__":
    main()
