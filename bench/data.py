"""The data: TPC-H lineitem, 3 million flights and made-up page hits, in order of time, as CSV and as Parquet with zstd."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from harness import flights as real_flights
from harness.system import cache_directory

from . import hits as page_hits


@dataclass
class Dataset:
    """`columns`: name, type in PostgreSQL, type in DuckDB. `key`: what the heap's index is on."""
    name: str
    columns: list
    time: str
    granularity: str
    indexes: list
    csv: Path
    parquet: Path
    rows: int = 0
    null: str = ""  # how NULL is written in the CSV
    dimensions: list = field(default_factory=list)

    def declare(self, dialect):
        return ", ".join(f"{name} {postgres if dialect == 'postgres' else duck}" for name, postgres, duck in self.columns)


@dataclass
class Dimension:
    """A table that the data are joined with: its columns as those of a data set, the first is the key."""
    name: str
    columns: list
    csv: Path
    parquet: Path

    def declare(self, dialect):
        return Dataset.declare(self, dialect) + f", PRIMARY KEY ({self.columns[0][0]})"


LINEITEM = [
    ("l_orderkey", "bigint", "BIGINT"), ("l_partkey", "bigint", "BIGINT"), ("l_suppkey", "bigint", "BIGINT"), ("l_linenumber", "integer", "INTEGER"),
    ("l_quantity", "numeric(15,2)", "DECIMAL(15,2)"), ("l_extendedprice", "numeric(15,2)", "DECIMAL(15,2)"),
    ("l_discount", "numeric(15,2)", "DECIMAL(15,2)"), ("l_tax", "numeric(15,2)", "DECIMAL(15,2)"),
    ("l_returnflag", "text", "VARCHAR"), ("l_linestatus", "text", "VARCHAR"),
    ("l_shipdate", "date", "DATE"), ("l_commitdate", "date", "DATE"), ("l_receiptdate", "date", "DATE"),
    ("l_shipinstruct", "text", "VARCHAR"), ("l_shipmode", "text", "VARCHAR"), ("l_comment", "text", "VARCHAR"),
]
FLIGHTS = [
    ("date", "timestamp", "TIMESTAMP"), ("delay", "integer", "INTEGER"), ("distance", "integer", "INTEGER"), ("origin", "text", "VARCHAR"), ("destination", "text", "VARCHAR"),
]


def directory():
    path = cache_directory() / "data"
    path.mkdir(parents=True, exist_ok=True)
    return path


KEY, TEXT, MONEY = ("bigint", "BIGINT"), ("text", "VARCHAR"), ("numeric(15,2)", "DECIMAL(15,2)")
DIMENSIONS = {
    "supplier": [("s_suppkey", *KEY), ("s_name", *TEXT), ("s_nationkey", *KEY), ("s_acctbal", *MONEY)],
    "nation": [("n_nationkey", *KEY), ("n_name", *TEXT), ("n_regionkey", *KEY)],
    "region": [("r_regionkey", *KEY), ("r_name", *TEXT)],
    "part": [("p_partkey", *KEY), ("p_mfgr", *TEXT), ("p_brand", *TEXT), ("p_type", *TEXT), ("p_size", "integer", "INTEGER"), ("p_container", *TEXT), ("p_retailprice", *MONEY)],
    "orders": [("o_orderkey", *KEY), ("o_custkey", *KEY), ("o_orderstatus", *TEXT), ("o_orderdate", "date", "DATE"), ("o_orderpriority", *TEXT)],
}


def write_once(path, make):
    """Calls `make` with a temporary path, then renames, unless the file is there."""
    if not path.exists():
        temporary = path.with_name("new-" + path.name)
        make(temporary)
        temporary.rename(path)
    return path


def tpch_parquet(table, scale):
    def make(path):
        folder = directory() / f"tpch-{scale:g}"
        program = cache_directory() / "venv" / "bin" / "tpchgen-cli"
        subprocess.run([program, "parquet", "-s", f"{scale:g}", f"--tables={table}", f"--output-dir={folder}"], check=True, stdout=subprocess.DEVNULL)
        (folder / f"{table}.parquet").rename(path)

    return write_once(directory() / f"{table}-{scale:g}.parquet", make)


def write(select, options, before=""):
    """A maker of the file that holds the query's rows."""
    def make(path):
        with duckdb.connect() as connection:
            connection.execute(before)
            connection.execute(f"COPY ({select}) TO '{path}' ({options})")
    return make


CSV, PARQUET = "FORMAT csv, HEADER false", "FORMAT parquet, COMPRESSION zstd"


def derived(name, source, select):
    """CSV and zstd Parquet of the rows that `select` ({source} stands for the file) returns."""
    select = select.format(source=source)
    return write_once(directory() / f"{name}.csv", write(select, CSV)), write_once(directory() / f"{name}-zstd.parquet", write(select, PARQUET))


def lineitem(scale):
    csv, parquet = derived(f"lineitem-{scale:g}-by-time", tpch_parquet("lineitem", scale), "SELECT * FROM '{source}' ORDER BY l_shipdate, l_orderkey, l_linenumber")
    return counted(Dataset("lineitem", LINEITEM, "l_shipdate", "year", ["l_shipdate"], csv, parquet))


def joined(scale):
    """Line items, and the tables that they refer to."""
    dataset = lineitem(scale)
    for name, columns in DIMENSIONS.items():
        names = ", ".join(c[0] for c in columns)
        csv, parquet = derived(f"{name}-{scale:g}", tpch_parquet(name, scale), f"SELECT {names} FROM '{{source}}'")
        dataset.dimensions.append(Dimension(name, columns, csv, parquet))
    return dataset


def flights(scale=1):
    """All flights, or the first `scale` of them if it is less than 1."""
    name, limit = ("flights", "") if scale >= 1 else (f"flights-{scale:g}", f" LIMIT {int(3_000_000 * scale)}")
    csv, parquet = derived(f"{name}-by-time", real_flights.parquet(), "SELECT date, delay, distance, origin, destination FROM '{source}' ORDER BY date" + limit)
    return counted(Dataset("flights", FLIGHTS, "date", "month", ["date"], csv, parquet))


def hits(rows):
    """Page hits in order of time; empty texts are no NULLs, so NULL is written in another way."""
    parquet = write_once(directory() / f"hits-{rows}-zstd.parquet", write(page_hits.select(rows), PARQUET, page_hits.MACROS))
    csv = write_once(directory() / f"hits-{rows}.csv", write(f"SELECT * FROM '{parquet}'", CSV + r", NULLSTR '\N'"))
    return Dataset("hits", page_hits.columns(), "eventtime", "month", ["eventtime"], csv, parquet, rows, r"\N")


def counted(dataset):
    with duckdb.connect() as connection:
        dataset.rows = connection.execute(f"SELECT count(*) FROM '{dataset.parquet}'").fetchone()[0]
    return dataset


def flight_messages(limit=None):
    """Flights as JSON messages, oldest first."""
    with duckdb.connect() as connection:
        cursor = connection.execute(f"SELECT strftime(date, '%Y-%m-%d %H:%M:%S'), delay, distance, origin, destination FROM '{flights().parquet}' "
                                    f"ORDER BY date {f'LIMIT {limit}' if limit else ''}")
        while batch := cursor.fetchmany(100_000):
            for date, delay, distance, origin, destination in batch:
                yield json.dumps({"date": date, "delay": delay, "distance": distance, "origin": origin, "destination": destination}, separators=(",", ":")).encode()
