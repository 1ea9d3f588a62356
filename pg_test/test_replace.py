"""basalt.replace: what it changes, refuses and leaves. The heap's twin of it is DELETE of the interval and INSERT."""

import random

import pytest

from harness.twins import attempt

REPLACE = """CREATE FUNCTION put_rows(first timestamptz, last timestamptz, query text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  {} END $$"""
HEAP = """CREATE TEMP TABLE made ON COMMIT DROP AS SELECT * FROM t WITH NO DATA;
  EXECUTE 'INSERT INTO made ' || query;
  DELETE FROM t WHERE ts >= first AND ts < last; INSERT INTO t SELECT * FROM made; DROP TABLE made;"""


def with_replace(twins):
    """`put_rows` in both schemas."""
    twins.main.store.execute(REPLACE.format("PERFORM basalt.replace('t', first, last, query);"))
    twins.main.heap.execute(REPLACE.format(HEAP))
    return twins


@pytest.fixture
def trips(twins):
    """Hourly rows of January 2026 in segments of five days that do not align to days."""
    twins.create("ts timestamptz NOT NULL, n int CHECK (n <> 13), city text DEFAULT 'none'")
    for part in range(0, 744, 124):
        twins.main.ok(f"INSERT INTO t SELECT '2026-01-01Z'::timestamptz + i * interval '1 hour', i + 1000, 'c' || i % 7 FROM generate_series({part}, {part + 123}) i")
    return with_replace(twins)


def replace(first: str, last: str, query: str) -> str:
    return f"SELECT put_rows('{first}', '{last}', $q${query}$q$)"


def hours(first: str, count: int, n: int = 0) -> str:
    return f"SELECT '{first}'::timestamptz + i * interval '1 hour', {n} + 1000 + i, 'new' FROM generate_series(0, {count - 1}) i"


def test_whole_interval(trips):
    session = trips.main
    session.ok(replace("2026-01-01Z", "2026-02-01Z", hours("2026-01-05Z", 10)))
    assert len(session.same()) == 10
    session.ok(replace("2025-01-01Z", "2027-01-01Z", "SELECT * FROM t WHERE false"))
    assert session.same() == []


def test_ends_are_half_open_and_overlaps_are_clipped(trips):
    session = trips.main
    session.ok(replace("2026-01-10Z", "2026-01-11Z", hours("2026-01-10Z", 24, 5000)))
    assert len(session.same()) == 744
    session.ok(replace("2026-01-10 12:30Z", "2026-01-20 00:00:00.000001Z", hours("2026-01-11Z", 3)))
    session.same()
    session.ok("SELECT date_trunc('day', ts, 'UTC'), count(*), sum(n), min(city) FROM t GROUP BY 1")
    session.ok("SELECT count(*) FROM t WHERE ts > '2026-01-10 12:00Z'", "SELECT max(ts) FROM t WHERE ts < '2026-01-11Z'")
    session.ok(replace("2026-01-01Z", "2026-01-01 00:00:01Z", "SELECT '2026-01-01Z'::timestamptz, 1, 'first'"))
    session.same()


@pytest.mark.parametrize("seed", range(3))
def test_random_replaces_and_inserts(trips, seed):
    dice, session = random.Random(seed), trips.main
    for step in range(25):
        start, length = dice.randrange(700), dice.choice((1, 5, 30, 200))
        first = f"2026-01-01Z'::timestamptz + interval '{start} hours"
        last = f"2026-01-01Z'::timestamptz + interval '{start + length} hours"
        rows = f"SELECT '{first}' + i * interval '30 minutes', {step + 1} * 10000 + i, 's{step}' FROM generate_series(0, {length * 2 - 1}) i WHERE i % {dice.randrange(1, 5)} = 0"
        action = dice.random()
        if action < 0.6:
            session.ok(f"SELECT put_rows('{first}', '{last}', $q${rows}$q$)")
        elif action < 0.8:
            session.ok(f"INSERT INTO t {rows}")
        elif action < 0.9:
            session.ok("BEGIN", f"INSERT INTO t {rows}", f"SELECT put_rows('{first}', '{last}', $q$SELECT ts, n + 1, city FROM t WHERE ts >= '{first}' AND ts < '{last}' AND n % 2 = 0$q$)",
                       dice.choice(("COMMIT", "ROLLBACK")))
        else:
            assert attempt(session.store, "SELECT basalt.compact('t')").error is None
        session.same()


def test_query_reads_the_table_itself(trips):
    session = trips.main
    session.ok(replace("2026-01-02Z", "2026-01-09Z", "SELECT ts, -n, upper(city) FROM t WHERE ts >= '2026-01-02Z' AND ts < '2026-01-09Z' AND n % 2 = 0"))
    assert len(session.same()) == 744 - 84
    session.ok(replace("2026-01-01Z", "2026-02-01Z", "SELECT date_trunc('day', ts, 'UTC'), sum(n)::int, min(city) FROM t GROUP BY 1"))
    assert len(session.same()) == 31


def test_rows_outside_are_refused(trips):
    session = trips.main
    before = session.same()
    for outside in ("2025-12-31 23:59:59.999999Z", "2026-01-02Z", "infinity", "-infinity"):
        error = attempt(session.store, replace("2026-01-01Z", "2026-01-02Z", f"SELECT '{outside}'::timestamptz, 1, 'x' UNION ALL SELECT '2026-01-01Z', 2, 'y'")).error
        assert error.sqlstate[:2] in ("22", "23", "44") and error.diag.message_detail, outside
    assert session.same() == before


def test_constraints_hold(trips):
    session = trips.main
    before = session.same()
    session.fails("23514", replace("2026-01-01Z", "2026-01-02Z", "SELECT '2026-01-01Z'::timestamptz, 13, 'x'"))
    assert attempt(session.store, replace("2026-01-01Z", "2026-01-02Z", "SELECT NULL::timestamptz, 1, 'x'")).sqlstate == "23502"
    session.fails("22012", replace("2026-01-01Z", "2026-01-02Z", "SELECT '2026-01-01Z'::timestamptz, 1 / (5 - i), 'x' FROM generate_series(1, 9) i"))
    assert session.same() == before


def test_bad_arguments(trips):
    connection = trips.main.store
    connection.execute("CREATE TABLE plain (ts timestamptz NOT NULL)")
    good = "SELECT ''2026-01-01Z''::timestamptz, 1, ''x''"
    for call, states in [
        (f"'t', '2026-01-02Z', '2026-01-01Z', '{good}'", ("22023", "22000")),
        (f"'t', '2026-01-01Z', '2026-01-01Z', '{good}'", ("22023", "22000")),
        (f"'plain', '2026-01-01Z', '2026-01-02Z', '{good}'", ("42809", "22023")),
        (f"'nothing', '2026-01-01Z', '2026-01-02Z', '{good}'", ("42P01",)),
        (f"'pg_class', '2026-01-01Z', '2026-01-02Z', '{good}'", ("42809", "22023")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'SELECT'", ("42601", "23502")),
        ("'t', '2026-01-01Z', '2026-01-02Z', ''", ("42601", "22023")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'SELEKT 1'", ("42601",)),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'SELECT 1'", ("42601", "42804", "22023")),
        (f"'t', '2026-01-01Z', '2026-01-02Z', '{good}, 4'", ("42601", "42804", "22023")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'SELECT ''2026-01-01Z''::timestamptz, point(1,1), 5'", ("42804", "22023")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'SELECT * FROM t LIMIT $1'", ("42P02",)),
        (f"'t', '2026-01-01Z', '2026-01-02Z', '{good}; DROP TABLE plain'", ("42601", "22023")),
        (f"'t', '2026-01-01Z', '2026-01-02Z', '{good}) SELECT 1; --'", ("42601", "22023")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'TRUNCATE t'", ("42601", "22023", "0A000")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'INSERT INTO plain VALUES (now()) RETURNING *'", ("42601", "22023", "0A000", "42804")),
        ("'t', '2026-01-01Z', '2026-01-02Z', 'WITH w AS (INSERT INTO plain VALUES (now())) SELECT ts, n, city FROM t'", ("0A000", "42601", "22023")),
    ]:
        error = attempt(connection, f"SELECT basalt.replace({call})").error
        assert error is not None and error.sqlstate in states, (call, error and error.sqlstate, error)
    assert connection.execute("SELECT count(*) FROM plain").fetchone() == (0,)
    assert len(trips.main.same()) == 744


def test_columns_by_position_with_assignment_casts(trips):
    session = trips.main
    session.ok(replace("2026-01-01Z", "2026-02-01Z", "SELECT '2026-01-03'::date, 5::bigint, 'x'::varchar(5)"))
    assert session.same() == [("2026-01-03 00:00:00+00", "5", "x")]
    assert attempt(session.store, replace("2026-01-01Z", "2026-02-01Z", "SELECT '2026-01-03Z'::timestamptz, 3000000000, 'x'")).sqlstate == "22003"


def test_rolled_back(trips):
    session = trips.main
    session.ok("BEGIN", replace("2026-01-01Z", "2026-02-01Z", hours("2026-01-05Z", 10)), "SELECT count(*), sum(n) FROM t", "ROLLBACK")
    assert len(session.same()) == 744
    session.ok("BEGIN", "INSERT INTO t VALUES ('2026-01-05 00:30Z', 1)", "SAVEPOINT a", replace("2026-01-01Z", "2026-01-15Z", hours("2026-01-05Z", 10)),
               "SELECT count(*), sum(n) FROM t", "INSERT INTO t VALUES ('2026-01-06Z', 2)", "ROLLBACK TO a", "SELECT count(*), sum(n) FROM t",
               "INSERT INTO t VALUES ('2026-01-07Z', 3)", "COMMIT")
    assert len(session.same()) == 746
    session.ok("DO $$ BEGIN BEGIN PERFORM put_rows('2026-01-01Z', '2026-02-01Z', 'SELECT ''2026-01-05Z''::timestamptz, 5, ''x'''); PERFORM 1 / 0; "
               "EXCEPTION WHEN division_by_zero THEN INSERT INTO t VALUES ('2026-01-08Z', 4); END; END $$")
    assert len(session.same()) == 747


def test_inside_a_transaction_with_inserts(trips):
    session = trips.main
    session.ok("BEGIN", "INSERT INTO t VALUES ('2026-01-05 00:30Z', 1), ('2026-03-01Z', 2)", replace("2026-01-01Z", "2026-01-15Z", hours("2026-01-05Z", 10)),
               "SELECT count(*), sum(n) FROM t", "INSERT INTO t VALUES ('2026-01-05 00:45Z', 3)", replace("2026-01-05Z", "2026-01-05 01:00Z", hours("2026-01-05Z", 1)),
               "SELECT count(*), sum(n) FROM t", "INSERT INTO t VALUES ('2026-01-05 00:50Z', 4)", "COMMIT")
    session.same()


def test_prepared_transaction(trips):
    session = trips.main
    session.ok("BEGIN")
    # A prepared transaction must not have used the twin's temporary table.
    session.store.execute(replace("2026-01-01Z", "2026-01-15Z", hours("2026-01-05Z", 10)))
    session.heap.execute(f"DELETE FROM t WHERE ts < '2026-01-15Z'; INSERT INTO t {hours('2026-01-05Z', 10)}")
    session.ok("PREPARE TRANSACTION '{side}_r'")
    assert len(session.same()) == 744
    session.ok("COMMIT PREPARED '{side}_r'")
    session.same()


def test_version_grows_and_overshadowed_segments_are_kept(trips):
    database = trips.database

    def state():
        return database.query("SELECT s.used, count(*), count(DISTINCT d.segment), max(s.version), bool_and((s.retired_at IS NULL) = s.used) "
                              "FROM basalt.segment s LEFT JOIN basalt.segment_data d ON d.segment = s.id GROUP BY 1 ORDER BY 1")

    first = state()
    assert [row[:3] for row in first] == [(True, 6, 6)]
    trips.main.ok(replace("2026-01-01Z", "2026-02-01Z", hours("2026-01-05Z", 10)))
    hidden, used = state()
    assert hidden[:3] == (False, 6, 6) and used[:3] == (True, 1, 1)
    assert used[3] > first[0][3] and hidden[4] and used[4]
    database.query("SELECT basalt.sweep()")
    assert [row[:3] for row in state()] == [(False, 6, 6), (True, 1, 1)]
    with_retention(database, 0, lambda: database.query("SELECT basalt.sweep()"))
    assert [row[:3] for row in state()] == [(True, 1, 1)]
    assert database.value("SELECT count(*) FROM basalt.segment_data WHERE segment NOT IN (SELECT id FROM basalt.segment)") == 0
    assert len(trips.main.same()) == 10


def with_retention(database, seconds: int, action) -> None:
    """Run `action` under another retention period."""
    database.query(f"ALTER SYSTEM SET basalt.segment_retention = {seconds}")
    database.query("SELECT pg_reload_conf()")
    try:
        action()
    finally:
        database.query("ALTER SYSTEM RESET basalt.segment_retention")
        database.query("SELECT pg_reload_conf()")


def test_privileges(trips):
    database = trips.database
    owner, clerk = f"owner_{database.name}", f"clerk_{database.name}"
    connection = trips.main.store
    for role in (owner, clerk):
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA store TO {role}")
    try:
        connection.execute(f"ALTER FOREIGN TABLE t OWNER TO {owner}")
        connection.execute(f"GRANT ALL ON t TO {clerk}")
        connection.execute("CREATE TABLE secret AS SELECT '2026-01-01Z'::timestamptz AS ts, 1 AS n, 'secret' AS city")
        call = "SELECT basalt.replace('store.t', '2026-01-01Z', '2026-01-02Z', 'SELECT * FROM store.{}')"
        with database.cluster.connect(database.name, user=clerk) as session:
            # Whoever may INSERT may not replace or compact.
            for sql in (call.format("t"), "SELECT basalt.compact('store.t')"):
                assert attempt(session, sql).sqlstate == "42501", sql
        with database.cluster.connect(database.name, user=owner) as session:
            assert attempt(session, call.format("secret")).sqlstate == "42501"
            assert attempt(session, call.format("t") .replace("* FROM store.t", "* FROM store.t WHERE ts < ''2026-01-02Z''")).error is None
            assert attempt(session, "SELECT basalt.compact('store.t')").error is None
            assert session.execute("SELECT count(*) FROM store.t").fetchone() == (744,)
            # The query runs as its caller, not as the catalog's owner.
            assert attempt(session, "SELECT basalt.replace('store.t', '2026-01-01Z', '2026-01-02Z', "
                                    "'SELECT ts, n, current_user::text FROM store.t WHERE ts < ''2026-01-02Z''')").error is None
            assert session.execute("SELECT DISTINCT city FROM store.t WHERE ts < '2026-01-02Z'").fetchall() == [(owner,)]
    finally:
        connection.execute("DROP FOREIGN TABLE t")
        for role in (owner, clerk):
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_other_time_types(twins, kind):
    twins.create(f"ts {kind}, n int")
    session = twins.main
    session.ok("SET TimeZone = 'UTC'", "INSERT INTO t SELECT '2026-01-01'::timestamp + i * interval '1 day', i FROM generate_series(0, 60) i", "INSERT INTO t VALUES (NULL, -1)")
    with_replace(twins)
    session.ok(replace("2026-01-10Z", "2026-02-10Z", "SELECT '2026-01-15'::timestamp, 99"))
    assert len(session.same()) == 32
    session.ok("SELECT count(*) FROM t WHERE ts IS NULL", "SELECT count(*) FROM t WHERE ts >= '2026-02-10'")
