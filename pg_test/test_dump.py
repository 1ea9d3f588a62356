"""pg_dump and restore: into another database and another cluster; right answers, then independent lives."""

import pytest

from harness.storage import orphans
from harness.twins import Session, twins_of

VALUES = "'2026-01-01Z'::timestamptz + i * interval '1 hour', i, (i / 3.0)::numeric(10,2), 'c' || i % 7, NULLIF(ARRAY['a', NULL, i::text], ARRAY['a', NULL, '5']), CASE WHEN i % 2 = 0 THEN 'sad' END::mood"


@pytest.fixture
def source(database):
    """Schema `store` with a datasource that had a life: columns gone and added, replaced rows, merged segments."""
    database.query("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    with twins_of(database) as twins:
        session = twins.main
        twins.create("ts timestamptz NOT NULL, gone int, n int, f numeric(10,2), city text, tags text[], m mood", "time_column 'ts', segment_granularity 'month'")
        session.ok("INSERT INTO t (ts, gone, n) VALUES ('2026-01-01Z', 5, 5)", "ALTER TABLE t DROP gone")
        for part in range(6):
            session.ok(f"INSERT INTO t SELECT {VALUES} FROM generate_series({part * 100 + 1}, {part * 100 + 100}) i")
        session.ok("ALTER TABLE t RENAME city TO town", "ALTER TABLE t ADD extra text DEFAULT 'old'", "INSERT INTO t (ts, n, extra) VALUES ('2026-02-01Z', 1000, 'new')")
        session.store.execute("SELECT basalt.compact('t')")
        session.store.execute("SELECT basalt.replace('t', '2026-01-03Z', '2026-01-05Z', 'SELECT ts, n + 1, f, town, tags, m, extra FROM t WHERE ts >= ''2026-01-03Z'' AND ts < ''2026-01-05Z'' AND n % 2 = 0')")
        session.ok("BEGIN")
        session.heap.execute("CREATE TEMP TABLE kept AS SELECT * FROM t WHERE ts >= '2026-01-03Z' AND ts < '2026-01-05Z' AND n % 2 = 0")
        session.heap.execute("DELETE FROM t WHERE ts >= '2026-01-03Z' AND ts < '2026-01-05Z'")
        session.heap.execute("INSERT INTO t SELECT ts, n + 1, f, town, tags, m, extra FROM kept")
        session.ok("COMMIT")
        session.store.execute("CREATE FOREIGN TABLE \"Other Table\" (\"The Time\" timestamp, \"a'b\" text) SERVER basalt OPTIONS (time_column 'The Time', cluster_by 'a''b')")
        session.store.execute("INSERT INTO \"Other Table\" VALUES ('2026-01-01', 'x'), (NULL, 'y')")
        assert len(session.same()) > 500
    return database


def restore(source, target_cluster, form: str, *flags):
    """A new database of `target_cluster` with what pg_dump wrote of `source`."""
    place = source.cluster.directory / f"dump_{form}_{source.name}"
    options = ["-j", "2"] if form == "directory" else []
    source.cluster.run("pg_dump", "-F", form, *options, *flags, "-f", place, source.name)
    target = target_cluster.create_database(extension=False)
    if form == "plain":
        target_cluster.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", target.name, "-f", place)
    else:
        target_cluster.run("pg_restore", "--exit-on-error", *options, "-d", target.name, place)
    return target


def check_copy(copy) -> None:
    """The copy answers as the heap table that came along, and goes on working."""
    session = Session(copy)
    rows = session.same()
    session.ok("SELECT town, extra, count(*), sum(n), sum(f), count(DISTINCT tags), max(m) FROM t GROUP BY town, extra", "SELECT count(*) FROM t WHERE ts < '2026-01-04Z' AND town LIKE 'c%'")
    assert session.store.execute("SELECT * FROM \"Other Table\" ORDER BY 2").fetchall()[1] == (None, "y")
    session.ok("INSERT INTO t (ts, n, town) VALUES ('2026-03-01Z', 2000, 'copy')", "ALTER TABLE t ADD late int DEFAULT 8", "INSERT INTO t (ts) VALUES ('2026-03-02Z')",
               "ALTER TABLE t DROP town", "ALTER TABLE t ADD town int")
    assert len(session.same()) == len(rows) + 2
    session.store.execute("SELECT basalt.compact('t')")
    session.same()
    session.store.execute("SELECT basalt.sweep()")
    session.store.execute("INSERT INTO \"Other Table\" VALUES ('2027-01-01', 'z')")
    assert orphans(copy) == []
    session.same()
    session.close()


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
def test_into_another_database(source, form):
    before = Session(source)
    rows = before.same()
    copy = restore(source, source.cluster, form)
    try:
        check_copy(copy)
        assert before.same() == rows
        before.ok("INSERT INTO t (ts, n) VALUES ('2026-04-01Z', 3000)")
        before.store.execute("SELECT basalt.sweep()")
        before.same(), Session(copy).same()
        copy.query("DROP SCHEMA store CASCADE")
        copy.query("SELECT basalt.sweep()")
        before.same()
        before.close()
    finally:
        copy.drop()


def test_into_another_cluster_and_back(source, new_cluster):
    other = new_cluster()
    there = restore(source, other, "custom")
    check_copy(there)
    back = restore(there, source.cluster, "plain")
    try:
        assert len(Session(back).same()) == len(Session(there).same())
    finally:
        back.drop()


def test_without_large_transactions_or_privileges(source):
    """Statements as INSERTs, in one transaction, without owners."""
    copy = restore(source, source.cluster, "plain", "--inserts", "--no-owner", "--no-privileges", "--disable-triggers")
    try:
        check_copy(copy)
    finally:
        copy.drop()


def test_schema_only(source):
    copy = restore(source, source.cluster, "plain", "--schema-only")
    try:
        session = copy.connect()
        session.execute("SET search_path = store, public")
        assert session.execute("SELECT count(*) FROM t").fetchone() == (0,)
        session.execute("INSERT INTO t (ts, n, town) VALUES ('2026-01-01Z', 1, 'x')")
        session.execute("ALTER FOREIGN TABLE t ADD another int DEFAULT 2")
        session.execute("INSERT INTO t (ts, n, town) VALUES ('2026-01-01Z', 2, 'x')")
        session.execute("ALTER FOREIGN TABLE t DROP town, ADD town text")
        assert session.execute("SELECT count(*), sum(another), count(town) FROM t").fetchone() == (2, 4, 0)
        session.execute("SELECT basalt.compact('t')")
        session.execute("SELECT basalt.sweep()")
        assert session.execute("SELECT count(*), sum(n) FROM t").fetchone() == (2, 3)
        assert orphans(copy) == []
        session.close()
    finally:
        copy.drop()


def test_one_table(source):
    """pg_dump -t takes the table and not the extension's rows: it is restored empty, and works."""
    place = source.cluster.directory / f"one_{source.name}"
    source.cluster.run("pg_dump", "-t", "store.t", "-f", place, source.name)
    copy = source.cluster.create_database()
    try:
        copy.query("CREATE SCHEMA store; CREATE TYPE mood AS ENUM ('happy', 'sad')")
        source.cluster.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", copy.name, "-f", place)
        assert copy.value("SELECT count(*) FROM store.t") == 0
        copy.query("INSERT INTO store.t (ts, n) VALUES ('2026-01-01Z', 1)")
        assert copy.query("SELECT n, extra FROM store.t") == [(1, "old")]
    finally:
        copy.drop()


def test_dump_of_all(source, new_cluster):
    other = new_cluster()
    text = source.cluster.run("pg_dumpall", "--exclude-database=postgres", "--exclude-database=template*").stdout
    assert f"CREATE DATABASE {source.name}" in text
    other.run("psql", "-X", "-q", "-d", "postgres", stdin=text)
    with other.connect(source.name) as session:
        assert session.execute("SELECT count(*), sum(n) FROM store.t").fetchone() == session.execute("SELECT count(*), sum(n) FROM heap.t").fetchone()
