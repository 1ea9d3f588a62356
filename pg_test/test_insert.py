"""INSERT and TRUNCATE: what a heap table accepts, computes, refuses and answers, a datasource does too."""

import pytest

from harness.twins import attempt

TRIPS = "ts timestamptz NOT NULL, city text, fare numeric(10,2), n int"


@pytest.fixture
def trips(twins):
    twins.create(TRIPS)
    return twins


def test_single_and_many_rows(trips):
    session = trips.main
    session.ok("INSERT INTO t VALUES ('2026-01-01 10:00Z', 'Oslo', 12.50, 1)")
    session.ok("INSERT INTO t (n, ts) VALUES (2, '2026-01-02Z'), (3, '2026-01-01Z'), (4, '1999-12-31Z')")
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', '', 0, NULL), ('2026-01-01Z', NULL, -0.01, 0)")
    session.ok("INSERT INTO t SELECT '2026-01-01Z'::timestamptz + i * interval '1 hour', 'c' || i % 7, i, i FROM generate_series(1, 5000) i")
    session.ok("INSERT INTO t SELECT '2026-01-01Z', 'none', 0, 0 WHERE false")
    assert len(session.same()) == 5006
    session.ok("SELECT city, count(*), sum(fare), min(ts), max(n) FROM t GROUP BY city")


def test_returning(trips):
    session = trips.main
    insert = "INSERT INTO t VALUES ('2026-01-01Z', 'Oslo', 1.5, 1), ('2025-01-01Z', 'Rome', 2.505, NULL) RETURNING"
    assert session.run(f"{insert} *", ordered=True).rows[1][2] == "2.51"
    session.run(f"{insert} n, upper(city), fare * 2 AS double, t", ordered=True)
    session.run(f"{insert} t.ts AT TIME ZONE 'Asia/Tokyo', n IS NULL", ordered=True)
    session.ok(f"WITH made AS ({insert} *) SELECT sum(fare), count(*) FROM made")
    # The outer query's snapshot is older than the rows.
    assert session.ok(f"WITH made AS ({insert} *) SELECT (SELECT count(*) FROM made), (SELECT count(*) FROM t)").rows == [("2", "8")]
    session.ok("WITH made AS (INSERT INTO t VALUES ('2026-01-01Z', 'x', 1, 1) RETURNING n) INSERT INTO t SELECT '2026-01-02Z', 'y', n, n + 1 FROM made")
    session.ok("INSERT INTO t VALUES ('2026-01-01Z') RETURNING tableoid::regclass, tableoid = 't'::regclass")
    assert len(session.same()) == 13


def test_defaults(twins):
    for schema in ("store", "heap"):
        twins.database.query(f"CREATE SEQUENCE {schema}.s")
    twins.create(
        "ts timestamptz NOT NULL DEFAULT '2026-01-01Z', id int DEFAULT nextval('s'), kind text DEFAULT 'a''b', "
        "j jsonb DEFAULT '{}', low text COLLATE \"C\" DEFAULT lower('ABC')"
    )
    session = twins.main
    session.ok("INSERT INTO t DEFAULT VALUES")
    session.ok("INSERT INTO t (kind) VALUES (DEFAULT), ('x'), (NULL)")
    session.ok("INSERT INTO t (id, ts) VALUES (100, '2026-02-01Z'), (DEFAULT, DEFAULT)")
    session.ok("INSERT INTO t VALUES (DEFAULT, DEFAULT, DEFAULT, NULL) RETURNING *")
    session.copy("COPY t (kind) FROM STDIN", "x\ny\n\\N\n")
    assert [row[1] for row in session.same()].count(None) == 0
    session.ok("ALTER TABLE t ALTER kind SET DEFAULT 'new', ALTER j DROP DEFAULT", "INSERT INTO t DEFAULT VALUES")
    session.same()


def test_generated_columns(twins):
    twins.create(
        "ts timestamptz NOT NULL, a int, b int GENERATED ALWAYS AS (a * 2) STORED, "
        "d date GENERATED ALWAYS AS ((ts AT TIME ZONE 'UTC')::date) STORED, c text"
    )
    session = twins.main
    session.ok("INSERT INTO t (ts, a, c) VALUES ('2026-01-01Z', 1, 'x'), ('2026-01-01 23:30-02', NULL, NULL) RETURNING b, d")
    session.ok("INSERT INTO t VALUES ('2026-01-03Z', 7, DEFAULT, DEFAULT, 'y')")
    session.copy("COPY t (c, ts, a) FROM STDIN", "z\t2026-01-04Z\t5\n")
    session.fails("428C9", "INSERT INTO t (ts, b) VALUES ('2026-01-01Z', 1)")
    session.fails("22003", "INSERT INTO t (ts, a) VALUES ('2026-01-01Z', 2000000000)")
    assert len(session.same()) == 4
    session.ok("SELECT b, d, count(*) FROM t WHERE b > 1 OR b IS NULL GROUP BY b, d")


def test_constraints(twins):
    twins.create("ts timestamptz NOT NULL, n int NOT NULL CHECK (n > 0), m int, CONSTRAINT ordered CHECK (m IS NULL OR m > n)")
    session = twins.main
    good = "('2026-01-01Z', 1, 2)"
    session.ok(f"INSERT INTO t VALUES {good}, ('2026-01-01Z', 5, NULL)")
    error = session.fails("23502", f"INSERT INTO t VALUES {good}, ('2026-01-01Z', NULL, 1)").error
    assert '"n" of relation "t"' in error.diag.message_primary and "Failing row" in error.diag.message_detail
    error = session.fails("23514", f"INSERT INTO t VALUES {good}, ('2026-01-01Z', 3, 3)").error
    assert '"ordered"' in error.diag.message_primary and "Failing row" in error.diag.message_detail
    session.fails("23514", "INSERT INTO t SELECT '2026-01-01Z', 3 - i, NULL FROM generate_series(1, 5) i")
    session.fails("23502", "INSERT INTO t (n) VALUES (1)")
    session.fails("22P02", "INSERT INTO t (ts, n) VALUES ('2026-01-01Z', 'x')")
    assert len(session.same()) == 2
    session.ok("ALTER TABLE t ADD CONSTRAINT small CHECK (n < 10)")
    session.fails("23514", "INSERT INTO t VALUES ('2026-01-01Z', 10, NULL)")
    session.ok("ALTER TABLE t DROP CONSTRAINT small, ALTER n DROP NOT NULL", "INSERT INTO t VALUES ('2026-01-01Z', NULL, NULL), ('2026-01-01Z', 11, 12)")
    session.same()


def test_domain_and_length_constraints(twins):
    twins.database.query("CREATE DOMAIN positive AS int CHECK (value > 0)")
    twins.create("ts timestamptz NOT NULL, p positive, v varchar(3), c char(3), f numeric(4,2), u uuid")
    session = twins.main
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', 1, 'abc', 'a', 99.994, NULL), ('2026-01-01Z', NULL, 'ab   ', 'abc ', 0, NULL)")
    session.fails("23514", "INSERT INTO t (ts, p) VALUES ('2026-01-01Z', 0)")
    session.fails("22001", "INSERT INTO t (ts, v) VALUES ('2026-01-01Z', 'abcd')")
    session.fails("22001", "INSERT INTO t (ts, c) VALUES ('2026-01-01Z', 'abcd')")
    session.fails("22003", "INSERT INTO t (ts, f) VALUES ('2026-01-01Z', 100)")
    session.fails("22P02", "INSERT INTO t (ts, u) VALUES ('2026-01-01Z', 'no')")
    session.same()


def test_triggers(twins):
    session = twins.main
    twins.create("ts timestamptz NOT NULL, n int, city text")
    for connection in (session.store, session.heap):
        connection.execute("CREATE TABLE log (what text, n int)")
        connection.execute(
            "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF TG_LEVEL = 'STATEMENT' THEN INSERT INTO log VALUES (TG_WHEN || ' statement', NULL); RETURN NULL; END IF; "
            "INSERT INTO log VALUES (TG_WHEN, NEW.n); "
            "IF TG_WHEN = 'BEFORE' THEN IF NEW.n < 0 THEN RETURN NULL; END IF; NEW.city := upper(NEW.city); END IF; RETURN NEW; END $$"
        )
        for timing in ("BEFORE", "AFTER"):
            connection.execute(f"CREATE TRIGGER {timing}_row {timing} INSERT ON t FOR EACH ROW EXECUTE FUNCTION watch()")
            connection.execute(f"CREATE TRIGGER {timing}_all {timing} INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION watch()")
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', 1, 'a'), ('2026-01-01Z', -1, 'b'), ('2026-01-01Z', 2, 'c') RETURNING city")
    session.copy("COPY t FROM STDIN", "2026-01-01Z\t3\td\n2026-01-01Z\t-3\te\n")
    assert [row[2] for row in session.same()] == ["A", "C", "D"]
    session.run("SELECT * FROM log", ordered=True)


def test_insert_from_itself(trips):
    session = trips.main
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', 'a', 1, 1), ('2026-01-02Z', NULL, 2, 2)")
    for _ in range(5):
        session.ok("INSERT INTO t SELECT ts + interval '1 day', city || 'x', fare, n + 1 FROM t")
    session.ok("INSERT INTO t SELECT ts, city, fare, (SELECT count(*) FROM t) FROM t")
    assert len(session.same()) == 128


def test_prepared_inserts(trips):
    session = trips.main
    session.ok("PREPARE one (timestamptz, text, numeric, int) AS INSERT INTO t VALUES ($1, $2, $3, $4) RETURNING n")
    for i in range(12):
        session.ok(f"EXECUTE one ('2026-01-01Z', 'city {i}', {i}.{i}, {i if i % 3 else 'NULL'})")
    session.ok("ALTER TABLE t ADD extra text DEFAULT 'late'", "EXECUTE one ('2026-01-01Z', 'after', 1, 1)")
    for i in range(12):
        session.run("INSERT INTO t VALUES (%s, %s, %s, %s)", ("2026-01-01Z", f"c{i}", i, None), prepare=True)
    for connection in (session.store, session.heap):
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s)", [("2026-01-01Z", "many", i, i) for i in range(300)])
    assert len(session.same()) == 325


def test_a_transaction_makes_one_segment_a_table(trips):
    session = trips.main
    trips.create("ts timestamptz NOT NULL, x int", name="other")
    session.ok("BEGIN")
    for i in range(1000):
        session.ok(f"INSERT INTO t (ts, n) VALUES ('2026-01-01Z'::timestamptz + {i} * interval '1 hour', {i})")
        if i % 100 == 0:
            session.ok(f"INSERT INTO other VALUES ('2026-01-01Z', {i})")
    session.ok("COMMIT")
    assert (trips.segments(), trips.segments("other")) == (1, 1)
    session.ok("INSERT INTO t SELECT ts, city, fare, n FROM t")
    assert trips.segments() == 2
    for i in range(5):
        session.ok(f"INSERT INTO other VALUES ('2026-01-01Z', {i})")
    assert trips.segments("other") == 6
    session.ok("INSERT INTO other SELECT ts, n FROM t WHERE false")
    assert trips.segments("other") == 6
    session.same("t"), session.same("other")


def test_rows_beyond_the_memory_limit_become_segments_early(trips):
    session = trips.main
    session.store.execute("SET basalt.insert_memory_limit = '1MB'")
    session.ok("BEGIN", "INSERT INTO t SELECT '2026-01-01Z', repeat(md5(i::text), 10), i, i FROM generate_series(1, 30000) i", "COMMIT")
    assert trips.segments() > 1
    session.ok("SELECT count(*), count(DISTINCT city), sum(n), sum(fare) FROM t")
    session.ok("BEGIN", "INSERT INTO t SELECT '2026-01-01Z', repeat(md5(i::text), 10), i, i FROM generate_series(1, 30000) i", "ROLLBACK")
    session.ok("SELECT count(*), count(DISTINCT city), sum(n), sum(fare) FROM t")


def test_plpgsql_exception_blocks(trips):
    session = trips.main
    session.ok(
        """DO $$ BEGIN
          FOR i IN 1..60 LOOP
            BEGIN
              INSERT INTO t VALUES ('2026-01-01Z', 'before', 0, i);
              IF i % 3 = 0 THEN INSERT INTO t VALUES ('2026-01-01Z', 'inner', 1 / (i - i), i); END IF;
              IF i % 5 = 0 THEN INSERT INTO t VALUES (NULL, 'inner', 0, i); END IF;
            EXCEPTION
              WHEN division_by_zero THEN INSERT INTO t VALUES ('2026-01-02Z', 'divided', 0, (SELECT count(*) FROM t));
              WHEN not_null_violation THEN NULL;
            END;
          END LOOP; END $$"""
    )
    assert len(session.same()) == 32 + 20


def test_functions_that_insert(trips):
    session = trips.main
    for connection in (session.store, session.heap):
        connection.execute("CREATE FUNCTION put(i int) RETURNS int LANGUAGE plpgsql AS "
                           "$$ BEGIN INSERT INTO t VALUES ('2026-01-01Z', 'f', i, i); RETURN (SELECT count(*) FROM t); END $$")
    assert session.ok("SELECT put(i) FROM generate_series(1, 5) i").rows == [(str(i),) for i in range(1, 6)]
    session.fails("22012", "SELECT put(i / (3 - i)) FROM generate_series(1, 5) i")
    # What the function sees of the statement that calls it is not a datasource's promise; what it inserts is.
    session.ok("INSERT INTO t SELECT '2026-01-02Z', 'outer', 0, i FROM generate_series(1, 3) i WHERE put(i) > 0")
    session.same()


def test_what_is_not_supported_says_so(trips):
    session = trips.main
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', 'a', 1, 1)")
    connection = session.store
    for sql, state, words in [
        ("UPDATE t SET n = 2", "0A000", ["UPDATE", "t"]),
        ("UPDATE t SET n = 2 WHERE false", "0A000", ["UPDATE"]),
        ("DELETE FROM t", "0A000", ["DELETE", "t"]),
        ("DELETE FROM t WHERE n = 5 RETURNING *", "0A000", ["DELETE"]),
        ("WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone", "0A000", ["DELETE"]),
        ("INSERT INTO t VALUES ('2026-01-01Z', 'b', 1, 1) ON CONFLICT (n) DO UPDATE SET n = 3", "42P10", ["ON CONFLICT"]),
    ]:
        error = attempt(connection, sql).error
        assert error is not None and error.sqlstate == state, (sql, error)
        assert all(word in error.diag.message_primary for word in words), (sql, error.diag.message_primary)
        if state == "0A000":
            assert error.diag.message_hint or error.diag.message_detail, f"{sql}: no hint or detail"
    for sql in ["CREATE INDEX ON t (n)", "CLUSTER t", "ALTER TABLE t ADD UNIQUE (n)",
                "MERGE INTO t USING (SELECT 1 AS x) s ON n = x WHEN MATCHED THEN DELETE"]:
        assert attempt(connection, sql).sqlstate in ("42809", "0A000"), sql
    # Without a unique constraint there is no conflict, here as on a heap.
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', 'b', 1, 1), ('2026-01-01Z', 'b', 1, 1) ON CONFLICT DO NOTHING RETURNING *")
    assert len(session.same()) == 3


def test_inserting_through_a_view(trips):
    session = trips.main
    for connection in (session.store, session.heap):
        connection.execute("CREATE VIEW big AS SELECT ts, n FROM t WHERE n > 10 WITH CHECK OPTION")
    session.ok("INSERT INTO big VALUES ('2026-01-01Z', 11) RETURNING *")
    session.fails("44000", "INSERT INTO big VALUES ('2026-01-01Z', 10)")
    assert len(session.same()) == 1


def test_truncate(trips):
    session = trips.main
    trips.create("ts timestamptz NOT NULL, x int", name="other")
    fill = "INSERT INTO t SELECT '2026-01-01Z', 'c', i, i FROM generate_series(1, 10) i"
    session.ok("TRUNCATE t", fill, "INSERT INTO other VALUES ('2026-01-01Z', 1)", "TRUNCATE t")
    assert session.same() == [] and trips.segments() == 0
    session.ok(fill, "BEGIN", "TRUNCATE t", "SELECT count(*) FROM t", "INSERT INTO t (ts, n) VALUES ('2026-01-05Z', 5)", "SELECT * FROM t", "ROLLBACK")
    assert len(session.same()) == 10
    session.ok("BEGIN", fill, "SAVEPOINT a", "TRUNCATE t, other", "INSERT INTO t (ts) VALUES ('2026-02-01Z')", "ROLLBACK TO a",
               "SELECT count(*) FROM t", "INSERT INTO t (ts) VALUES ('2026-03-01Z')", "COMMIT")
    assert len(session.same()) == 21 and len(session.same("other")) == 1
    session.ok("BEGIN", fill, "TRUNCATE t", fill, "COMMIT")
    assert len(session.same()) == 10
    session.ok("TRUNCATE t, other RESTART IDENTITY CASCADE")
    assert session.same("t") == session.same("other") == []


def test_privileges(trips):
    database, session = trips.database, trips.main
    session.ok("INSERT INTO t VALUES ('2026-01-01Z', 'a', 1, 1)")
    role = f"clerk_{database.name}"
    database.query(f"CREATE ROLE {role} LOGIN")
    try:
        database.query(f"GRANT USAGE ON SCHEMA store, heap TO {role}")
        clerk = trips.session(role)
        for sql in ("SELECT * FROM t", "INSERT INTO t (ts) VALUES ('2026-01-01Z')", "TRUNCATE t"):
            clerk.fails("42501", sql)
        session.ok(f"GRANT INSERT (ts, n) ON t TO {role}")
        clerk.ok("INSERT INTO t (ts, n) VALUES ('2026-01-01Z', 7)")
        clerk.fails("42501", "INSERT INTO t (ts, city) VALUES ('2026-01-01Z', 'x')")
        clerk.fails("42501", "INSERT INTO t (ts, n) VALUES ('2026-01-01Z', 7) RETURNING n")
        session.ok(f"GRANT SELECT (n) ON t TO {role}")
        clerk.ok("INSERT INTO t (ts, n) VALUES ('2026-01-01Z', 8) RETURNING n", "SELECT n FROM t WHERE n > 1")
        clerk.fails("42501", "SELECT city FROM t")
        session.ok(f"GRANT TRUNCATE ON t TO {role}")
        clerk.ok("TRUNCATE t")
        # Nothing in the catalog is open to a role that owns no datasource.
        for sql in ("DELETE FROM basalt.segment", "UPDATE basalt.datasource SET current_version = 0",
                    "INSERT INTO basalt.segment_data VALUES (gen_random_uuid(), 0, '')", "SELECT * FROM basalt.segment_data"):
            assert attempt(clerk.store, sql).sqlstate == "42501", sql
        clerk.close()
    finally:
        database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert session.same() == []
