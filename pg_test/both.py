"""The same rows in a heap table and in a datasource, and the same query over both."""

import math
from decimal import Decimal

import psycopg



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
            assert expected == got, f"{sql}\nheap: {expected}\nbasalt: {got}"
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
