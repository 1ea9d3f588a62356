"""A datasource and a heap table that get the same statements: every answer, status and SQLSTATE must be the same.

Schema `store` holds the datasource, schema `heap` the table. A session is two connections, which differ in their
search_path alone, so both run one and the same text.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg


@dataclass
class Outcome:
    """What a statement gave: rows in PostgreSQL's text form (None for NULL), or an error."""

    rows: list[tuple] = field(default_factory=list)
    status: str | None = None
    error: psycopg.Error | None = None

    @property
    def sqlstate(self) -> str | None:
        return self.error.sqlstate if self.error else None

    def value(self):
        ((value,),) = self.rows
        return value

    def key(self, ordered: bool):
        rows = self.rows if ordered else sorted(self.rows, key=lambda row: [(x is None, x or "") for x in row])
        return rows, self.status, self.sqlstate


def text_rows(cursor) -> list[tuple]:
    """The rows of the cursor's result as the server sent them."""
    result = cursor.pgresult
    if result is None or result.nfields == 0:
        return [()] * (result.ntuples if result else 0)

    def value(row, column):
        raw = result.get_value(row, column)
        return None if raw is None else raw.decode()

    return [tuple(value(row, column) for column in range(result.nfields)) for row in range(result.ntuples)]


def attempt(connection, sql: str, parameters=None, prepare: bool | None = None) -> Outcome:
    """Run one statement; an error is part of the outcome."""
    try:
        cursor = connection.execute(sql, parameters, prepare=prepare)
        return Outcome(text_rows(cursor), cursor.statusmessage)
    except psycopg.Error as error:
        return Outcome(error=error)


def attempt_copy(connection, sql: str, data: bytes | str) -> Outcome:
    """COPY FROM STDIN."""
    try:
        with connection.cursor() as cursor:
            with cursor.copy(sql) as copy:
                copy.write(data)
            return Outcome(status=cursor.statusmessage)
    except psycopg.Error as error:
        return Outcome(error=error)


def statement(sql: str, side: str) -> str:
    """`{side}` in a statement is the schema's name, for names that the two connections must not share."""
    return sql.replace("{side}", side)


class Session:
    """Two connections, one at the datasource and one at the heap table."""

    def __init__(self, database, user: str = "postgres"):
        self.store = self._connect(database, user, "store")
        self.heap = self._connect(database, user, "heap")

    @staticmethod
    def _connect(database, user, schema):
        return database.cluster.connect(database.name, user=user, options=f"-c search_path={schema},public -c lock_timeout=60s")

    def run(self, sql: str, parameters=None, ordered: bool = False, prepare: bool | None = None) -> Outcome:
        """Run `sql` at both; rows are compared as a multiset unless `ordered`. Returns the datasource's outcome."""
        got = attempt(self.store, statement(sql, "store"), parameters, prepare)
        expected = attempt(self.heap, statement(sql, "heap"), parameters, prepare)
        return self._compare(sql, got, expected, ordered)

    def copy(self, sql: str, data: bytes | str) -> Outcome:
        return self._compare(sql, attempt_copy(self.store, sql, data), attempt_copy(self.heap, sql, data), True)

    @staticmethod
    def _compare(sql, got: Outcome, expected: Outcome, ordered: bool) -> Outcome:
        assert got.key(ordered) == expected.key(ordered), (
            f"{sql}\n  basalt: {got.key(ordered)} {got.error or ''}\n  heap:   {expected.key(ordered)} {expected.error or ''}"
        )
        return got

    def ok(self, *statements: str, parameters=None) -> Outcome:
        """Statements that must succeed at both; returns the last one's outcome."""
        outcome = Outcome()
        for sql in statements:
            outcome = self.run(sql, parameters)
            if outcome.error:
                raise AssertionError(f"{sql}: {outcome.error}") from outcome.error
        return outcome

    def fails(self, sqlstate: str, sql: str, parameters=None) -> Outcome:
        """A statement that must fail at both with this SQLSTATE."""
        outcome = self.run(sql, parameters)
        assert outcome.sqlstate == sqlstate, f"{sql}: {outcome.sqlstate} instead of {sqlstate}: {outcome.error}"
        return outcome

    def same(self, table: str = "t") -> list[tuple]:
        """Both hold the same rows; returns them, sorted."""
        rows = self.ok(f"SELECT * FROM {table}").rows
        assert self.ok(f"SELECT count(*) FROM {table}").value() == str(len(rows))
        return sorted(rows, key=lambda row: [(x is None, x or "") for x in row])

    def close(self) -> None:
        self.store.close()
        self.heap.close()


class Twins:
    """The two schemas of one database."""

    def __init__(self, database):
        self.database = database
        self.sessions: list[Session] = []
        database.query("CREATE SCHEMA store")
        database.query("CREATE SCHEMA heap")
        self.main = self.session()

    def session(self, user: str = "postgres") -> Session:
        self.sessions.append(Session(self.database, user))
        return self.sessions[-1]

    def create(self, columns: str, options: str = "", name: str = "t", suffix: str = "") -> None:
        """Create the datasource and its twin: `columns` as in CREATE TABLE, `options` as in OPTIONS (...)."""
        options = f"OPTIONS ({options})" if options else ""
        self.main.store.execute(f"CREATE FOREIGN TABLE {name} ({columns}) {suffix} SERVER basalt {options}")
        self.main.heap.execute(f"CREATE TABLE {name} ({columns}) {suffix}")

    def segments(self, table: str = "t") -> int:
        """Used segments of a datasource."""
        return segments(self.database, f"store.{table}")

    def close(self) -> None:
        for session in self.sessions:
            session.close()


def segments(database, relation: str) -> int:
    return database.value(
        "SELECT count(*) FROM basalt.segment s JOIN basalt.datasource d ON s.datasource = d.id "
        "WHERE d.relation = %s::regclass AND s.used", (relation,)
    )


@contextmanager
def twins_of(database):
    twins = Twins(database)
    try:
        yield twins
    finally:
        twins.close()
