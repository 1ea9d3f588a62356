"""Transactions: savepoints, cursors, isolation levels, prepared transactions. Each script runs on a heap table too."""

import pytest

from harness.concurrent import Running
from harness.twins import attempt


@pytest.fixture
def trips(twins):
    twins.create("ts timestamptz NOT NULL, n int")
    return twins


def put(*numbers: int) -> str:
    return "INSERT INTO t VALUES " + ", ".join(f"('2026-01-01Z'::timestamptz + {n} * interval '1 day', {n})" for n in numbers)


SEE = "SELECT n FROM t"
SUM = "SELECT count(*), sum(n), max(ts) FROM t"

# A script is statements in one session; a number inserts itself, `?` reads.
SAVEPOINTS = {
    "rollback to": "BEGIN; 1; SAVEPOINT a; 2; ROLLBACK TO a; ?; 3; COMMIT",
    "release": "BEGIN; 1; SAVEPOINT a; 2; RELEASE a; ?; COMMIT",
    "release, then the outer rolls back": "BEGIN; SAVEPOINT a; 1; SAVEPOINT b; 2; RELEASE b; 3; ROLLBACK TO a; ?; 4; COMMIT",
    "parent's rows flushed by a scan in a child that aborts": "BEGIN; 1; SAVEPOINT a; ?; 2; ROLLBACK TO a; ?; COMMIT",
    "flushed in the child, then more": "BEGIN; 1; SAVEPOINT a; ?; 2; ?; 3; ROLLBACK TO a; 4; ?; SAVEPOINT a; 5; ?; ROLLBACK TO a; ?; COMMIT",
    "flushed three levels down": "BEGIN; 1; SAVEPOINT a; 2; SAVEPOINT b; 3; SAVEPOINT c; ?; 4; ROLLBACK TO b; ?; 5; ROLLBACK TO a; ?; COMMIT",
    "three levels, middle one": "BEGIN; 1; SAVEPOINT a; 2; SAVEPOINT b; 3; SAVEPOINT c; 4; ?; RELEASE c; ROLLBACK TO b; 5; ?; RELEASE a; COMMIT",
    "same name twice": "BEGIN; 1; SAVEPOINT a; 2; SAVEPOINT a; 3; ROLLBACK TO a; ?; RELEASE a; ROLLBACK TO a; ?; COMMIT",
    "rollback to the same again": "BEGIN; SAVEPOINT a; 1; ROLLBACK TO a; 2; ROLLBACK TO a; 3; ROLLBACK TO a; ?; 4; COMMIT",
    "error inside": "BEGIN; 1; SAVEPOINT a; 2; SELECT 1/0; ROLLBACK TO a; ?; 3; COMMIT",
    "error in the insert itself": "BEGIN; 1; SAVEPOINT a; 2; INSERT INTO t SELECT NULL, 1; ROLLBACK TO a; ?; 3; COMMIT",
    "error half way in the insert": "BEGIN; 1; SAVEPOINT a; INSERT INTO t SELECT '2026-01-01Z', 9 / (3 - i) FROM generate_series(1, 5) i; ROLLBACK TO a; 2; COMMIT",
    "everything rolled back": "BEGIN; 1; SAVEPOINT a; 2; RELEASE a; ?; ROLLBACK",
    "failed transaction": "BEGIN; 1; ?; SELECT 1/0; ?; COMMIT",
    "nothing but savepoints": "BEGIN; SAVEPOINT a; SAVEPOINT b; RELEASE a; ?; COMMIT",
    "child alone writes": "BEGIN; SAVEPOINT a; 1; RELEASE a; SAVEPOINT b; 2; ROLLBACK TO b; COMMIT",
    "truncate inside": "BEGIN; 1; SAVEPOINT a; TRUNCATE t; 2; ?; ROLLBACK TO a; ?; 3; COMMIT",
    "truncate outside": "1; BEGIN; 2; TRUNCATE t; 3; SAVEPOINT a; TRUNCATE t; ROLLBACK TO a; ?; 4; COMMIT",
    "chain": "BEGIN; 1; SAVEPOINT a; 2; ROLLBACK TO a; COMMIT AND CHAIN; 3; ?; ROLLBACK AND CHAIN; 4; COMMIT",
    "column added inside": "BEGIN; 1; SAVEPOINT a; ALTER TABLE t ADD x int DEFAULT 5; 2; SELECT * FROM t; ROLLBACK TO a; 3; SELECT * FROM t; COMMIT",
}


@pytest.mark.parametrize("name", SAVEPOINTS)
def test_savepoints(trips, name):
    session = trips.main
    for part in SAVEPOINTS[name].split("; "):
        if part == "?":
            session.run(SEE)
            session.run(SUM)
        else:
            session.run(put(int(part)) if part.isdigit() else part)
    session.ok("ROLLBACK") if session.store.info.transaction_status else None
    session.same()
    assert trips.session().same() == session.same()


def test_deep_nesting(trips):
    session = trips.main
    session.ok("BEGIN")
    for level in range(1, 80):
        session.ok(f"SAVEPOINT s{level}", put(level))
        if level % 10 == 0:
            session.ok(SUM)
    for level in range(79, 0, -2):
        session.ok(f"ROLLBACK TO s{level}" if level % 3 else f"RELEASE s{level}", SUM)
    session.ok("COMMIT")
    session.same()


def test_cursors_do_not_see_later_rows(trips):
    session = trips.main
    session.ok(put(*range(10)), "BEGIN", put(10), "DECLARE c SCROLL CURSOR FOR SELECT n FROM t ORDER BY n", "FETCH 3 FROM c")
    session.ok(put(11), "FETCH 3 FROM c", "SAVEPOINT a", put(12), "FETCH 2 FROM c", "DECLARE d CURSOR FOR SELECT n FROM t", "ROLLBACK TO a")
    assert len(session.ok("FETCH ALL FROM c").rows) == 3
    session.ok("MOVE BACKWARD ALL IN c", "DECLARE e CURSOR WITH HOLD FOR SELECT n, ts FROM t", put(13))
    assert len(session.ok("FETCH ALL FROM c").rows) == 11
    session.ok("COMMIT")
    assert len(session.ok("FETCH ALL FROM e").rows) == 12
    session.ok("CLOSE e")
    assert len(session.same()) == 13


def test_cursor_stays_open_while_others_write(trips):
    session, other = trips.main, trips.session()
    session.ok("INSERT INTO t SELECT '2026-01-01Z', i FROM generate_series(1, 200000) i")
    session.ok("BEGIN", "DECLARE c NO SCROLL CURSOR FOR SELECT n FROM t")
    seen = sum(len(session.ok("FETCH 1000 FROM c").rows) for _ in range(3))
    other.ok(put(5))
    attempt(other.store, "SELECT basalt.compact('t')")
    while rows := session.run("FETCH 50000 FROM c", ordered=False).rows:
        seen += len(rows)
    assert seen == 200000
    session.ok("COMMIT")


@pytest.mark.parametrize("level, sees", [("READ COMMITTED", "5"), ("REPEATABLE READ", "2"), ("SERIALIZABLE", "2")])
def test_isolation_level(trips, level, sees):
    reader, writer = trips.main, trips.session()
    writer.ok(put(1, 2))
    reader.ok(f"BEGIN ISOLATION LEVEL {level}", "SELECT 1", SUM)
    writer.ok("BEGIN", put(3), SUM)
    assert reader.ok("SELECT count(*) FROM t").value() == "2"
    writer.ok(put(4), "COMMIT", put(5))
    assert reader.ok("SELECT count(*) FROM t").value() == sees
    reader.ok(put(6), SUM, SEE, "COMMIT", SUM)
    assert len(writer.same()) == 6


def test_snapshot_precedes_the_first_look_at_the_table(trips):
    reader, writer = trips.main, trips.session()
    writer.ok(put(1))
    reader.ok("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
    writer.ok(put(2))
    assert reader.ok(SEE).rows == [("1",)]
    reader.ok("COMMIT")


def test_repeatable_read_survives_compaction_and_sweep(trips):
    reader, writer, janitor = trips.main, trips.session(), trips.session().store
    for n in range(8):
        writer.ok(put(n))
    reader.ok("BEGIN ISOLATION LEVEL REPEATABLE READ", SUM)
    trips.database.query("ALTER SYSTEM SET basalt.segment_retention = 0")
    trips.database.query("SELECT pg_reload_conf()")
    try:
        writer.ok(put(100))
        janitor.execute("SELECT basalt.compact('t')")
        janitor.execute("SELECT basalt.sweep()")
        assert reader.ok("SELECT count(*) FROM t").value() == "8"
        # A session that starts its snapshot from the reader's has nothing mapped yet.
        snapshot = attempt(reader.store, "SELECT pg_export_snapshot()").value()
        late = trips.session().store
        late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        late.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        assert late.execute("SELECT count(*), sum(n) FROM t").fetchone() == (8, 28)
        reader.ok("COMMIT", SUM)
        assert len(writer.same()) == 9
    finally:
        trips.database.query("ALTER SYSTEM RESET basalt.segment_retention")
        trips.database.query("SELECT pg_reload_conf()")


def test_writers_do_not_wait_for_each_other(trips):
    first, second = trips.main, trips.session()
    for session in (first, second):
        session.ok("SET lock_timeout = '5s'", "BEGIN", put(1))
    first.ok(put(2)), second.ok(SUM, "COMMIT"), first.ok(SUM, "ROLLBACK")
    assert len(first.same()) == 1


def test_readers_and_writers_of_a_truncate(trips):
    """TRUNCATE of a foreign table locks it; a snapshot that is older still sees the rows (on a heap it would not)."""
    reader, writer = trips.session().store, trips.session().store
    writer.execute(put(1, 2))
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT 1")
    writer.execute("TRUNCATE t")
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (2,)
    truncate = Running(writer, "TRUNCATE t").wait_until_blocked(trips.database)
    reader.execute("COMMIT")
    truncate.ok()
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_ddl_acts_on_rows_that_its_snapshot_does_not_see(trips, level):
    session, other = trips.main, trips.session()
    for ddl in ("TRUNCATE t", "ALTER TABLE t ADD x int DEFAULT 5", "ALTER TABLE t DROP x", "ALTER TABLE t ADD x text DEFAULT 'y'"):
        session.ok(f"BEGIN ISOLATION LEVEL {level}", "SELECT 1")
        other.ok(put(1, 2, 3))
        session.ok(ddl, put(4), "COMMIT", "SELECT * FROM t")
        other.same()
    session.ok(f"BEGIN ISOLATION LEVEL {level}", "SELECT 1")
    other.ok("INSERT INTO t VALUES ('2026-01-01Z', NULL, 'z')")
    session.fails("23502", "ALTER TABLE t ALTER n SET NOT NULL")
    session.ok("ROLLBACK")
    session.store.execute(f"BEGIN ISOLATION LEVEL {level}")
    session.store.execute("SELECT 1")
    other.ok("INSERT INTO t VALUES ('2026-01-01Z', 5, 'z')")
    session.store.execute("DROP FOREIGN TABLE t")
    session.store.execute("COMMIT")
    assert trips.database.value("SELECT count(*) FROM basalt.segment") == trips.database.value("SELECT count(*) FROM basalt.datasource") == 0


def test_prepared_transactions(trips):
    session, other = trips.main, trips.session()
    session.ok("BEGIN", put(1), "SAVEPOINT a", put(2), "ROLLBACK TO a", put(3), "PREPARE TRANSACTION '{side}_a'")
    session.ok("BEGIN", put(4), SUM, "PREPARE TRANSACTION '{side}_b'")
    assert other.same() == []
    session.ok(put(5))
    other.ok("COMMIT PREPARED '{side}_a'")
    assert [row[1] for row in session.same()] == ["1", "3", "5"]
    other.ok("ROLLBACK PREPARED '{side}_b'")
    assert len(session.same()) == 3
    assert trips.segments() == 2


def test_prepared_transaction_survives_a_restart(new_cluster):
    from harness.twins import twins_of

    cluster = new_cluster()
    with twins_of(cluster.create_database()) as twins:
        twins.create("ts timestamptz NOT NULL, n int")
        twins.main.ok("BEGIN", put(1, 2), "PREPARE TRANSACTION '{side}_a'", "BEGIN", put(3), "PREPARE TRANSACTION '{side}_b'")
    cluster.kill()
    cluster.start()
    from harness.twins import Session
    session = Session(twins.database)
    assert session.same() == []
    # The sweeper takes the files of prepared transactions for live.
    session.store.execute("SELECT basalt.sweep()")
    session.ok("COMMIT PREPARED '{side}_a'", "ROLLBACK PREPARED '{side}_b'")
    assert len(session.same()) == 2
    session.store.execute("SELECT basalt.sweep()")
    session.close()


def test_a_statement_does_not_see_its_own_rows(trips):
    session = trips.main
    session.ok(put(1), "BEGIN", put(2), put(3))
    session.ok("WITH made AS (INSERT INTO t SELECT ts, n + 10 FROM t RETURNING n) SELECT (SELECT count(*) FROM made), count(*) FROM t")
    session.ok("INSERT INTO t SELECT ts, (SELECT sum(n) FROM t) FROM t", SEE, "COMMIT")
    assert len(session.same()) == 12


def test_rules_and_functions_in_one_statement(trips):
    """A stable function looks with the statement's snapshot, a volatile one with its own."""
    session = trips.main
    for connection in (session.store, session.heap):
        for kind in ("STABLE", "VOLATILE"):
            connection.execute(f"CREATE FUNCTION rows_{kind}() RETURNS bigint LANGUAGE plpgsql {kind} AS $$ BEGIN RETURN (SELECT count(*) FROM t); END $$")
    session.ok(put(1, 2))
    session.ok("INSERT INTO t SELECT '2026-01-01Z', rows_stable() FROM generate_series(1, 3)")
    assert [row[1] for row in session.same()].count("2") == 4
    session.ok("BEGIN", put(7), "SELECT rows_stable(), rows_volatile(), count(*) FROM t", "ROLLBACK")


def test_temporary_failure_of_commit(trips):
    """A deferred constraint elsewhere fails the commit: nothing of the datasource stays."""
    session = trips.main
    session.ok("CREATE TABLE u (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    session.ok("BEGIN", put(1), "INSERT INTO u VALUES (1), (1)")
    assert session.run("COMMIT").sqlstate == "23505"
    session.ok("BEGIN", put(2), SUM, "INSERT INTO u VALUES (2)", "COMMIT")
    assert [row[1] for row in session.same()] == ["2"]


def test_deferred_trigger_inserts_at_commit(trips):
    session = trips.main
    for connection in (session.store, session.heap):
        connection.execute("CREATE TABLE u (x int)")
        connection.execute("CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES ('2026-01-01Z', NEW.x); RETURN NULL; END $$")
        connection.execute("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON u DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()")
    session.ok("BEGIN", put(1), "INSERT INTO u VALUES (2), (3)", SUM, "COMMIT")
    assert len(session.same()) == 3
    session.ok("BEGIN", "INSERT INTO u VALUES (4)", "PREPARE TRANSACTION '{side}_c'", "COMMIT PREPARED '{side}_c'")
    assert len(session.same()) == 4


def test_procedures_commit_inside(trips):
    session = trips.main
    session.ok("DO $$ BEGIN FOR i IN 1..6 LOOP INSERT INTO t VALUES ('2026-01-01Z', i); "
               "IF i % 3 = 0 THEN ROLLBACK; ELSIF i % 2 = 0 THEN COMMIT; END IF; END LOOP; END $$")
    session.same()


def test_session_ends_with_an_open_transaction(trips):
    other = trips.session()
    other.ok("BEGIN", put(1), SUM, put(2))
    other.close()
    assert trips.main.same() == []


def test_a_session_follows_what_others_do_to_the_catalogs_rows(database):
    """Lists of segments that a session keeps: after appends, clips, compactions and new files of the catalog's table it sees what a new session sees."""
    database.query("CREATE FOREIGN TABLE t (at timestamptz NOT NULL, n int) SERVER basalt OPTIONS (time_column 'at', segment_granularity 'day')")
    ask = "SELECT count(*), sum(n), min(at), max(at), count(*) FILTER (WHERE at < '2026-01-04') FROM t"
    with database.connect() as kept, database.connect() as other, other.cursor() as cursor:
        def insert(first, days):
            cursor.execute("INSERT INTO t SELECT timestamptz '2026-01-01 00:00+00' + i * interval '6 hours', i FROM generate_series(%s::int, %s::int) i", (first * 4, (first + days) * 4 - 1))

        steps = [lambda day=day: insert(day, 1 + day % 3) for day in range(8)]
        steps += [
            lambda: cursor.execute("SELECT basalt.replace('t', '2026-01-02 12:00+00', '2026-01-03 12:00+00', 'SELECT timestamptz ''2026-01-03 00:00+00'', 5')"),
            lambda: cursor.execute("VACUUM FULL basalt.segment"),
            lambda: insert(0, 2),
            lambda: cursor.execute("SELECT basalt.compact('t')"),
            lambda: cursor.execute("VACUUM basalt.segment"),
            lambda: insert(3, 5),
            lambda: cursor.execute("SELECT basalt.replace('t', '2026-01-05 00:00+00', '2026-01-06 00:00+00', 'SELECT timestamptz ''2026-01-05 00:00+00'', 6')"),
            lambda: cursor.execute("CLUSTER basalt.segment USING segment_pkey"),
            lambda: cursor.execute("BEGIN; INSERT INTO t VALUES ('2026-02-01 00:00+00', 1); ROLLBACK"),
            lambda: cursor.execute("TRUNCATE t"),
            lambda: insert(0, 1),
        ]
        for step in steps:
            step()
            for _ in range(2):
                assert kept.execute(ask).fetchone() == database.query(ask)[0]
        # A snapshot that is older than the list that was read last.
        with kept.transaction():
            kept.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            before = kept.execute(ask).fetchone()
            insert(1, 3)
            assert kept.execute(ask).fetchone() == before != database.query(ask)[0]
        assert kept.execute(ask).fetchone() == database.query(ask)[0]
