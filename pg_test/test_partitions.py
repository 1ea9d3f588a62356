"""Datasources as partitions of a partitioned table: rows are routed, checked and found."""

import pytest

from harness.twins import attempt


@pytest.fixture
def parted(twins):
    """Table p by month: January and February are datasources (February's columns in another order), March a heap table."""
    session = twins.main
    session.ok("CREATE TABLE p (ts timestamptz NOT NULL, city text, n int) PARTITION BY RANGE (ts)")
    january, february, march = [
        f"FROM ('2026-{m:02}-01Z') TO ('2026-{m + 1:02}-01Z')" for m in (1, 2, 3)
    ]
    session.store.execute(f"CREATE FOREIGN TABLE january PARTITION OF p FOR VALUES {january} SERVER basalt OPTIONS (time_column 'ts')")
    session.heap.execute(f"CREATE TABLE january PARTITION OF p FOR VALUES {january}")
    twins.create("gone int, n int, city text, ts timestamptz NOT NULL", name="february")
    session.ok("ALTER TABLE february DROP COLUMN gone")
    session.ok(f"ALTER TABLE p ATTACH PARTITION february FOR VALUES {february}")
    session.ok(f"CREATE TABLE march PARTITION OF p FOR VALUES {march}")
    return twins


ROWS = "SELECT '2026-01-01Z'::timestamptz + i * interval '1 hour', 'c' || i % 10, i FROM generate_series(0, 2100) i"


def test_insert_is_routed(parted):
    session = parted.main
    session.ok(f"INSERT INTO p {ROWS}")
    assert len(session.same("p")) == 2101
    assert [len(session.same(part)) for part in ("january", "february", "march")] == [744, 672, 685]
    session.ok("INSERT INTO p VALUES ('2026-02-03Z', 'x', 1), ('2026-01-03Z', 'y', 2), ('2026-03-03Z', 'z', 3) RETURNING *, tableoid::regclass")
    session.ok("SELECT tableoid::regclass, city, count(*), sum(n) FROM p GROUP BY 1, 2")
    session.ok("SELECT count(*), min(ts) FROM p WHERE ts >= '2026-01-30Z' AND ts < '2026-02-02Z' AND city LIKE 'c%'")
    session.ok("SELECT ts FROM p WHERE n = 1000")
    assert parted.segments("january") == 2


def test_copy_is_routed(parted):
    session = parted.main
    session.copy("COPY p FROM STDIN", "".join(f"2026-0{i % 3 + 1}-{i % 28 + 1:02}Z\tc{i % 5}\t{i}\n" for i in range(3000)))
    assert len(session.same("p")) == 3000
    session.copy("COPY p FROM STDIN", "".join(f"2026-0{i % 4 + 1}-01Z\tc\t{i}\n" for i in range(8)))
    assert len(session.same("p")) == 3000


def test_rows_that_belong_nowhere_or_elsewhere(parted):
    session = parted.main
    session.fails("23514", "INSERT INTO p VALUES ('2026-01-01Z', 'x', 1), ('2026-04-01Z', 'x', 1)")
    session.fails("23514", "INSERT INTO january VALUES ('2026-02-01Z', 'x', 1)")
    session.copy("COPY january FROM STDIN", "2026-01-01Z\tx\t1\n2026-02-01Z\tx\t1\n")
    session.fails("23514", "INSERT INTO p VALUES (NULL, 'x', 1)")
    session.fails("23502", "INSERT INTO january VALUES (NULL, 'x', 1)")
    assert session.same("p") == []


def test_constraints_and_triggers_of_the_parent(parted):
    session = parted.main
    session.ok("ALTER TABLE p ADD CHECK (n < 100)", "ALTER TABLE p ADD extra int DEFAULT 5")
    session.ok("INSERT INTO p VALUES ('2026-01-01Z', 'x', 1, DEFAULT), ('2026-02-01Z', 'x', 1, NULL)")
    session.fails("23514", "INSERT INTO p VALUES ('2026-02-01Z', 'x', 100)")
    assert len(session.same("p")) == 2


def test_detach_truncate_drop(parted):
    session = parted.main
    session.ok(f"INSERT INTO p {ROWS}", "ALTER TABLE p DETACH PARTITION january")
    assert len(session.same("january")) == 744 and len(session.same("p")) == 1357
    session.ok("INSERT INTO january VALUES ('2026-02-01Z', 'now free', 1)", "TRUNCATE p")
    assert session.same("p") == [] and len(session.same("january")) == 745
    session.ok(f"INSERT INTO p {ROWS.replace('0, 2100', '800, 900')}", "DROP TABLE p")
    assert parted.database.value("SELECT count(*) FROM pg_foreign_table t JOIN pg_class c ON c.oid = ftrelid WHERE relname = 'february'") == 0


def test_update_can_not_move_rows_away(parted):
    session = parted.main
    session.ok(f"INSERT INTO p {ROWS}")
    for sql in ("UPDATE p SET ts = '2026-03-05Z' WHERE n = 5", "DELETE FROM p WHERE n = 5"):
        assert attempt(session.store, sql).sqlstate == "0A000"
    session.ok("UPDATE p SET city = 'moved' WHERE ts >= '2026-03-01Z' AND n < 1500")
    assert len(session.same("p")) == 2101


def test_inheritance(twins):
    session = twins.main
    session.ok("CREATE TABLE parent (ts timestamptz NOT NULL, n int)")
    session.store.execute("CREATE FOREIGN TABLE child (extra text) INHERITS (parent) SERVER basalt")
    session.heap.execute("CREATE TABLE child (extra text) INHERITS (parent)")
    session.ok("INSERT INTO parent VALUES ('2026-01-01Z', 1)", "INSERT INTO child VALUES ('2026-01-02Z', 2, 'e'), ('2026-01-03Z', 3, NULL)")
    assert len(session.same("parent")) == 3 and len(session.same("child")) == 2
    session.ok("SELECT tableoid::regclass, sum(n) FROM parent GROUP BY 1", "SELECT p FROM parent p WHERE n > 1")
