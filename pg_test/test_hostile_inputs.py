"""Hostile arguments to every SQL function, and hostile values of every option and setting: errors, never a crash, never
an internal error."""

import itertools
import random

import psycopg
import pytest

TEXTS = [
    None, "", " ", "'", "''; DROP TABLE x; --", "\"", "\\", "%s", "ä€😀", "a" * 100_000, "0", "-1", "9" * 400, "NaN", "{}", "[]",
    "{\"0\": -5}", "{\"0\": 99999999999999999999}", "null", "public.events", "basalt.segment", "pg_class", "nothing", "SELECT 1",
    "SELECT", "SELECT now(); SELECT 1", "infinity", "2026-01-01", "4714-11-24 BC", "events", "earliest", "\t\n\r\x01",
]
VALUES = {
    "text": TEXTS,
    "name": [None, "", "events", "x" * 63, "pg_class"],
    "regclass": [None, "events", "pg_class", "basalt.segment", "plain", "events_view", "parted", 0, 4294967295, 99999999],
    "timestamp with time zone": [None, "infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31", "2026-01-01", "epoch"],
    "timestamp without time zone": [None, "infinity", "-infinity", "2026-01-01"],
    "interval": [None, "0", "-1 day", "178000000 years", "1 month -30 days"],
    "bigint": [None, 0, -1, 1, 2**63 - 1, -(2**63)],
    "integer": [None, 0, -1, 1, 2**31 - 1, -(2**31)],
    "smallint": [None, 0, -1, 32767],
    "boolean": [None, True, False],
    "uuid": [None, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "json": [None, "{}", "[]", "0", "{\"a\": {\"a\": " * 500 + "1" + "}}" * 500],
    "jsonb": [None, "{}", "[]", "0", "\"x\"", "{\"0\": 1e400}", "{\"0\": -1}"],
    "bytea": [None, b"", b"\x00", b"\xff" * 1000],
    "oid": [None, 0, 4294967295],
    "text[]": [None, "{}", "{NULL}", "{a=b}", "{{a,b},{c,d}}", "{=}"],
    "double precision": [None, "NaN", "Infinity", -1, 0],
    "numeric": [None, "NaN", "1e1000", -1],
    "anyelement": [None],
}
CALLS_A_FUNCTION = 120
INTERNAL = {"XX000", "XX001", "XX002"}


@pytest.fixture
def tables(database):
    """Things that a regclass may name, wanted or not."""
    database.psql("""
        CREATE FOREIGN TABLE events (moment timestamptz NOT NULL, number int) SERVER basalt OPTIONS (time_column 'moment');
        INSERT INTO events VALUES ('2026-01-01', 1), ('2026-02-01', 2);
        CREATE TABLE plain (moment timestamptz);
        CREATE TABLE parted (moment timestamptz) PARTITION BY RANGE (moment);
        CREATE VIEW events_view AS SELECT * FROM events;
        CREATE SERVER broker FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
    """)
    return database


def functions(database) -> list[tuple]:
    """(name, argument types) of every function that SQL can call."""
    return database.query("""
        SELECT p.oid::regproc::text, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) t)
        FROM pg_proc p
        WHERE p.pronamespace = 'basalt'::regnamespace AND p.prokind = 'f'
            AND p.prorettype NOT IN ('event_trigger'::regtype, 'trigger'::regtype, 'fdw_handler'::regtype, 'internal'::regtype)
        ORDER BY 1, 2
    """)


def combinations(types: list[str], generator: random.Random) -> list[tuple]:
    pools = [VALUES.get(t, [None, ""]) for t in types]
    every = 1
    for pool in pools:
        every *= len(pool)
    if every <= CALLS_A_FUNCTION:
        return list(itertools.product(*pools))
    return [tuple(generator.choice(pool) for pool in pools) for _ in range(CALLS_A_FUNCTION)]


def attempt(connection, sql: str, parameters=None) -> str | None:
    """Run and roll back; returns the SQLSTATE of its error, if any, and fails on an internal error."""
    try:
        connection.execute("BEGIN")
        connection.execute("SET LOCAL statement_timeout = '20s'")
        connection.execute(sql, parameters)
    except psycopg.Error as error:
        assert error.sqlstate not in INTERNAL, f"{sql[:300]} {str(parameters)[:300]}: {error}"
        assert error.sqlstate not in ("57014", None), f"{sql[:300]} {str(parameters)[:300]}: {error}"
        return error.sqlstate
    finally:
        connection.execute("ROLLBACK")
    return None


def test_functions(tables):
    generator = random.Random(7)
    names = functions(tables)
    assert names, "the extension has functions"
    with tables.connect() as connection:
        connection.execute("SET client_min_messages = error")
        for name, types in names:
            holders = ", ".join(f"%s::{t}" if t in VALUES and t != "anyelement" else "%s" for t in types)
            for arguments in combinations(types, generator):
                attempt(connection, f"SELECT * FROM {name}({holders})", [str(a) if isinstance(a, int) else a for a in arguments])
        assert connection.execute("SELECT count(*), sum(number) FROM events").fetchone() == (2, 3)


def test_functions_under_an_ordinary_role(tables):
    """Nobody without rights changes anything by calling functions."""
    generator = random.Random(8)
    with tables.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute("DROP ROLE IF EXISTS basalt_nobody")
        connection.execute("CREATE ROLE basalt_nobody")
        try:
            for name, types in functions(tables):
                holders = ", ".join(f"%s::{t}" if t in VALUES and t != "anyelement" else "%s" for t in types)
                for arguments in combinations(types, generator)[:40]:
                    connection.execute("SET ROLE basalt_nobody")
                    text = [str(a) if isinstance(a, int) else a for a in arguments]
                    attempt(connection, f"SELECT * FROM {name}({holders})", text)
                    connection.execute("RESET ROLE")
            assert connection.execute("SELECT count(*), sum(number) FROM events").fetchone() == (2, 3)
            writable = connection.execute("""
                SELECT c.oid::regclass::text FROM pg_class c
                WHERE c.relnamespace = 'basalt'::regnamespace AND c.relkind IN ('r', 'v', 'S')
                    AND has_table_privilege('basalt_nobody', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            """).fetchall()
            assert writable == []
            secret = connection.execute("SELECT has_table_privilege('basalt_nobody', 'basalt.segment_data', 'SELECT')").fetchone()
            assert secret == (False,), "segment bytes would show the rows of every table"
        finally:
            connection.execute("RESET ROLE")
            connection.execute("DROP OWNED BY basalt_nobody")
            connection.execute("DROP ROLE basalt_nobody")


OPTION_VALUES = [
    "", " ", "x", "0", "-1", "1.5", "9" * 60, "NaN", "on", "off", "true", "day", "DAY", "moment", "number", "moment,number", "nothing",
    "'", "ä€", "a" * 50_000, "2147483648", "{}", "00000000-0000-0000-0000-000000000000", "sum", "count", "archive",
]
TABLE_OPTIONS = [
    "time_column", "segment_granularity", "query_granularity", "rollup", "cluster_by", "deep_storage", "max_segment_rows",
    "datasource_id", "nonsense", "Time_Column",
]
COLUMN_OPTIONS = ["index", "aggregate", "column_id", "nonsense"]
SERVER_OPTIONS = ["bootstrap_servers", "security_protocol", "plugin.library.paths", "sasl.kerberos.kinit.cmd", "ssl.ca.location", "nonsense"]


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def test_table_and_column_options(tables):
    with tables.connect() as connection:
        connection.execute("SET client_min_messages = error")
        for option, value in itertools.product(TABLE_OPTIONS, OPTION_VALUES):
            given = f"\"{option}\" {literal(value)}"
            attempt(connection, f"CREATE FOREIGN TABLE t (moment timestamptz NOT NULL, number int) SERVER basalt OPTIONS ({given})")
            attempt(connection, f"ALTER FOREIGN TABLE events OPTIONS (ADD {given})")
            attempt(connection, f"ALTER FOREIGN TABLE events OPTIONS (SET {given})")
        for option, value in itertools.product(COLUMN_OPTIONS, OPTION_VALUES):
            given = f"\"{option}\" {literal(value)}"
            attempt(connection, f"CREATE FOREIGN TABLE t (moment timestamptz NOT NULL, number int OPTIONS ({given})) SERVER basalt")
            attempt(connection, f"ALTER FOREIGN TABLE events ALTER COLUMN number OPTIONS (ADD {given})")
        assert connection.execute("SELECT count(*), sum(number) FROM events").fetchone() == (2, 3)


def test_unknown_options_name_the_allowed_ones(tables):
    with tables.connect() as connection:
        for sql in [
            "CREATE FOREIGN TABLE t (moment timestamptz NOT NULL) SERVER basalt OPTIONS (nonsense 'x')",
            "CREATE FOREIGN TABLE t (moment timestamptz OPTIONS (nonsense 'x') NOT NULL) SERVER basalt",
            "CREATE SERVER s FOREIGN DATA WRAPPER basalt_kafka OPTIONS (nonsense 'x')",
        ]:
            with pytest.raises(psycopg.errors.FdwInvalidOptionName) as caught:
                connection.execute(sql)
            assert caught.value.diag.message_hint, sql
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("CREATE FOREIGN TABLE t (moment timestamptz NOT NULL) SERVER basalt OPTIONS (segment_granularity 'fortnight')")
        text = f"{caught.value.diag.message_detail} {caught.value.diag.message_hint}"
        assert "month" in text and "hour" in text


def test_server_and_mapping_options(tables):
    with tables.connect() as connection:
        connection.execute("SET client_min_messages = error")
        for wrapper in ("basalt_kafka", "basalt_s3", "basalt"):
            for option, value in itertools.product(SERVER_OPTIONS, OPTION_VALUES):
                given = f"\"{option}\" {literal(value)}"
                attempt(connection, f"CREATE SERVER s FOREIGN DATA WRAPPER {wrapper} OPTIONS ({given})")
        for option, value in itertools.product(["sasl_username", "sasl_password", "ssl.key.location", "nonsense"], OPTION_VALUES):
            attempt(connection, f"CREATE USER MAPPING FOR CURRENT_USER SERVER broker OPTIONS (\"{option}\" {literal(value)})")


def test_librdkafka_cannot_be_told_to_load_code(tables):
    with tables.connect() as connection:
        for option in ("plugin.library.paths", "sasl.kerberos.kinit.cmd"):
            sql = f"CREATE SERVER s FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers 'x:1', \"{option}\" '/tmp/x')"
            assert attempt(connection, sql) == "HV00D"


def test_settings(tables):
    with tables.connect() as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM pg_settings WHERE name LIKE 'basalt.%'").fetchall()]
        assert names
        for name, value in itertools.product(names, OPTION_VALUES):
            attempt(connection, f"SET {name} = {literal(value)}")


def test_statements_that_are_not_supported(tables):
    """UPDATE, DELETE and their like end with feature_not_supported, whatever the way in."""
    with tables.connect() as connection:
        for sql in [
            "UPDATE events SET number = 5",
            "DELETE FROM events",
            "INSERT INTO events VALUES ('2026-01-01', 1) ON CONFLICT DO NOTHING",
            "MERGE INTO events USING plain ON true WHEN MATCHED THEN DELETE",
            "SELECT * FROM events FOR UPDATE",
            "UPDATE events_view SET number = 5",
            "ALTER FOREIGN TABLE events ADD COLUMN g int GENERATED ALWAYS AS (number + 1) STORED",
            "CREATE INDEX ON events (number)",
            "SELECT ctid, xmin, cmax FROM events",
            "SELECT tableoid::regclass, events FROM events",
            "TRUNCATE events RESTART IDENTITY CASCADE",
            "LOCK TABLE events",
            "ANALYZE events",
            "VACUUM events",
            "CLUSTER events",
            "SELECT * FROM events TABLESAMPLE SYSTEM (10)",
            "SELECT * FROM events WHERE CURRENT OF c",
            "INSERT INTO events VALUES ('infinity', 1), ('-infinity', 1), ('294276-12-31', 1), ('4714-11-24 00:00:00+00 BC', 1)",
            "INSERT INTO events VALUES (NULL, 1)",
            "INSERT INTO events SELECT * FROM events",
            "INSERT INTO events DEFAULT VALUES",
        ]:
            attempt(connection, sql)
        for sql in ["UPDATE events SET number = 5", "DELETE FROM events"]:
            assert attempt(connection, sql) == "0A000", sql
        assert connection.execute("SELECT count(*), sum(number) FROM events").fetchone() == (2, 3)
