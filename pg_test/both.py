"""The same rows in a heap table and in a datasource, and the same query over both."""

import math
from contextlib import contextmanager
from decimal import Decimal

import psycopg

# A table with a column of every type, with odd values in each.
EVERY_TYPE = """
  i int NOT NULL, ts timestamptz, d date, tl timestamp, ok bool, s smallint, n int, b bigint, r real, f double precision, m numeric(10,2),
  w numeric(30,4), u numeric, x text COLLATE "C", t text COLLATE "en-x-icu", v varchar(20), c char(4), g uuid, y bytea, j jsonb, a text[], k inet, e mood
"""

EVERY_TYPE_ROWS = """
SELECT i,
  CASE WHEN i % 11 = 0 THEN NULL ELSE '2010-10-30 21:00+00'::timestamptz + i * interval '17 minutes' END,
  CASE WHEN i % 13 = 0 THEN NULL WHEN i = 5 THEN 'infinity' WHEN i = 6 THEN '-infinity' ELSE '2010-01-01'::date + i % 400 END,
  CASE WHEN i % 12 = 0 THEN NULL WHEN i = 7 THEN 'infinity' ELSE '2010-01-01'::timestamp + i % 400 * interval '13 hours' END,
  CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END,
  (i % 100 - 50)::smallint, CASE WHEN i % 7 = 0 THEN NULL ELSE i % 1000 - 500 END, i::bigint * 3000000000 % 7000000000007 - 3500000000000,
  CASE i % 9 WHEN 0 THEN 'NaN'::real WHEN 1 THEN '-0'::real WHEN 2 THEN 0 WHEN 3 THEN NULL WHEN 4 THEN 'Infinity' ELSE i / 7.0 END,
  CASE i % 10 WHEN 0 THEN 'NaN'::float8 WHEN 1 THEN '-0'::float8 WHEN 2 THEN '-Infinity' WHEN 3 THEN NULL ELSE i / 3.0 - 100 END,
  CASE WHEN i % 17 = 0 THEN 'NaN' WHEN i % 5 = 0 THEN NULL ELSE (i % 2000 - 1000) / 8.0 END::numeric(10,2),
  CASE WHEN i % 19 = 0 THEN 'NaN' ELSE (i % 2000 - 1000) * 123456789012345678.4321 END::numeric(30,4),
  CASE i % 6 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 WHEN 2 THEN NULL WHEN 3 THEN 'NaN' WHEN 4 THEN 'Infinity' ELSE i END::numeric,
  CASE WHEN i % 8 = 0 THEN NULL ELSE chr(65 + i % 26) || CASE WHEN i % 2 = 0 THEN 'x_%' ELSE 'é' END || i % 50 END,
  CASE WHEN i % 8 = 1 THEN NULL ELSE (ARRAY['a','A','b','B','ä','z','Z','10','9',''])[1 + i % 10] || i % 3 END,
  'v' || i % 40, (ARRAY['a', 'a ', 'ab', 'B', ''])[1 + i % 5], lpad(to_hex(i % 300), 32, '0')::uuid,
  CASE WHEN i % 4 = 0 THEN NULL ELSE decode(lpad(to_hex(i % 256), 2, '0'), 'hex') || '\\x00ff'::bytea END,
  CASE i % 4 WHEN 0 THEN '{"a": 1}' WHEN 1 THEN '{"a": 1.0}' WHEN 2 THEN NULL ELSE format('{"b": [%s]}', i % 9) END::jsonb,
  CASE WHEN i % 3 = 0 THEN NULL ELSE ARRAY['p' || i % 5, NULL, 'q"' || i % 2] END,
  ('10.0.' || i % 4 || '.' || i % 200)::inet, (ARRAY['sad', 'ok', 'happy'])[1 + i % 3]::mood
FROM generate_series(1, 3000) i
"""


@contextmanager
def stocked(cluster, columns: str, rows: str, segments: int, options: str = "", before: str = ""):
    """A `Both` of these rows in a database of its own."""
    database = cluster.create_database()
    both = Both(database, columns, options, before=before)
    both.insert(rows, segments=segments)
    yield both
    both.connection.close()
    database.drop()


class Both:
    """Two schemas, `heap` and `basalt_side`, whose tables have the same names; `{t}` in a query is the table."""

    def __init__(self, database, columns: str, options: str = "", name: str = "t", before: str = ""):
        self.database = database
        self.connection = database.connect()
        self.name = name
        self.execute(before or "SELECT 1")
        self.execute("CREATE SCHEMA IF NOT EXISTS heap; CREATE SCHEMA IF NOT EXISTS store")
        self.execute(f"CREATE TABLE heap.{name} ({columns})")
        options = f" OPTIONS ({options})" if options else ""
        self.execute(f"CREATE FOREIGN TABLE store.{name} ({columns}) SERVER basalt{options}")

    def execute(self, sql, parameters=None):
        return self.connection.execute(sql, parameters)

    def insert(self, query: str, segments: int = 1, ordinal: str = "i"):
        """Insert the rows of `query` into both, divided over `segments` by the column `ordinal`."""
        self.execute(f"CREATE TEMP TABLE part (LIKE heap.{self.name}); INSERT INTO part {query}")
        for part in range(segments):
            keep = f" WHERE {ordinal} % {segments} = {part}" if segments > 1 else ""
            for schema in ("heap", "store"):
                self.execute(f"INSERT INTO {schema}.{self.name} SELECT * FROM part{keep}")
        self.execute("DROP TABLE part")

    def answer(self, schema, sql, parameters=None):
        """Rows, or the error's SQLSTATE."""
        sql = sql.replace("{t}", f"{schema}.{self.name}")
        try:
            cursor = self.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            return error.sqlstate

    def same(self, sql, parameters=None, ordered=False):
        """Assert that both answer alike; returns the answer."""
        expected, got = self.answer("heap", sql, parameters), self.answer("store", sql, parameters)
        if isinstance(expected, str) or isinstance(got, str):
            assert expected == got, f"{sql}\nheap: {str(expected)[:1000]}\nbasalt: {str(got)[:1000]}"
            return expected
        if not ordered:
            expected, got = sorted(expected, key=order), sorted(got, key=order)
        assert len(expected) == len(got), f"{sql}\nheap: {len(expected)} rows {expected[:5]}\nbasalt: {len(got)} rows {got[:5]}"
        for left, right in zip(expected, got):
            assert all(map(alike, left, right)), f"{sql}\nheap: {left}\nbasalt: {right}"
        return expected

    def pushed(self, sql, parameters=None, ordered=False):
        """`same`, and an error where the aggregation is not pushed down."""
        self.execute("SET basalt.require_pushdown = on")
        try:
            return self.same(sql, parameters, ordered)
        finally:
            self.execute("RESET basalt.require_pushdown")

    def plan(self, sql, options="COSTS OFF"):
        rows = self.execute(f"EXPLAIN ({options}) " + sql.replace("{t}", f"store.{self.name}")).fetchall()
        return "\n".join(row[0] if isinstance(row[0], str) else str(row[0]) for row in rows)

    def reason(self, sql):
        """Why an aggregation is not pushed down."""
        self.execute("SET basalt.require_pushdown = on")
        try:
            self.execute(sql.replace("{t}", f"store.{self.name}"))
        except psycopg.errors.FeatureNotSupported as error:
            return error.diag.message_detail
        finally:
            self.execute("RESET basalt.require_pushdown")
        raise AssertionError(f"pushed down: {sql}")


def order(row):
    # Zero has two signs, either of which may stand for a group.
    values = (value + 0.0 if isinstance(value, float) else value for value in row)
    return tuple((value is None, str(type(value)), str(value)) for value in values)


def alike(left, right):
    """Equal, types and display scale included; floats up to the rounding of another order of summation, of float4 too."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=2e-5, abs_tol=1e-9) or (math.isnan(left) and math.isnan(right)) or left == right
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return str(left) == str(right)
    return type(left) is type(right) and left == right
