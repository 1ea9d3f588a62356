"""basalt.compact: fewer segments, the same answers, and nothing that was hidden comes back."""

import pytest

from harness.twins import attempt
from test_replace import hours, replace, with_replace


@pytest.fixture
def trips(twins):
    twins.create("ts timestamptz, n int, city text", "time_column 'ts', segment_granularity 'day'")
    return with_replace(twins)


def compact(twins) -> None:
    twins.main.store.execute("SELECT basalt.compact('t')")


def many(session, count: int = 40) -> None:
    for i in range(count):
        session.ok(f"INSERT INTO t SELECT '2026-01-01Z'::timestamptz + ({i} % 5 * 24 + j) * interval '1 hour', {i} * 100 + j, 'w' || ({i} * j) % 11 FROM generate_series(0, 9) j")


def test_answers_stay(trips):
    session = trips.main
    many(session)
    before, count = session.same(), trips.segments()
    assert count == 40
    compact(trips)
    assert session.same() == before
    assert trips.segments() <= 6
    session.ok("SELECT city, count(*), sum(n), min(ts), max(ts) FROM t GROUP BY city", "SELECT count(*) FROM t WHERE ts >= '2026-01-03Z' AND city LIKE 'w1%'")
    compact(trips)
    assert session.same() == before
    session.ok("INSERT INTO t VALUES ('2026-01-02Z', -1, 'late')")
    compact(trips)
    assert len(session.same()) == len(before) + 1


def test_of_nothing(trips):
    compact(trips)
    session = trips.main
    session.ok("INSERT INTO t VALUES ('2026-01-02Z', 1, 'only')")
    compact(trips)
    assert len(session.same()) == 1
    session.ok("TRUNCATE t")
    compact(trips)
    assert session.same() == []


def test_hidden_rows_stay_hidden(trips):
    session = trips.main
    many(session)
    session.ok(replace("2026-01-02 03:30Z", "2026-01-03 12:00Z", hours("2026-01-02 04:00Z", 3)))
    session.ok(replace("2026-01-04Z", "2026-01-05Z", "SELECT * FROM t WHERE false"))
    before = session.same()
    compact(trips)
    assert session.same() == before
    session.ok(replace("2026-01-02Z", "2026-01-02 05:30Z", hours("2026-01-02 04:00Z", 1)))
    compact(trips)
    session.same()


def test_rows_without_a_time(trips):
    session = trips.main
    many(session, 6)
    for i in range(4):
        session.ok(f"INSERT INTO t VALUES (NULL, {i}, 'no time'), ('infinity', {i}, 'never'), ('-infinity', {i}, 'ever')")
    before = session.same()
    compact(trips)
    assert session.same() == before
    session.ok(replace("2026-01-01Z", "2026-02-01Z", hours("2026-01-02 04:00Z", 3)))
    compact(trips)
    assert len(session.same()) == 15


def test_columns_that_came_and_went(trips):
    session = trips.main
    many(session, 5)
    session.ok("ALTER TABLE t ADD extra text DEFAULT 'old'", "INSERT INTO t VALUES ('2026-01-02Z', 1, 'x', 'new'), ('2026-01-02Z', 1, 'x', NULL)")
    session.ok("ALTER TABLE t DROP COLUMN city", "ALTER TABLE t ADD city text", "INSERT INTO t (ts, city) VALUES ('2026-01-03Z', 'again')")
    before = session.same()
    compact(trips)
    assert session.same() == before
    session.ok("ALTER TABLE t RENAME extra TO other", "ALTER TABLE t ALTER other SET DEFAULT 'newer'", "INSERT INTO t (ts) VALUES ('2026-01-04Z')")
    compact(trips)
    session.same()


def test_rolled_back(trips):
    session = trips.main
    many(session, 10)
    before = session.same()
    session.store.execute("BEGIN")
    compact(trips)
    assert len(session.store.execute("SELECT * FROM t").fetchall()) == len(before)
    session.store.execute("ROLLBACK")
    assert session.same() == before and trips.segments() == 10


def test_in_a_transaction_that_writes(trips):
    session = trips.main
    many(session, 5)
    session.ok("BEGIN", "INSERT INTO t VALUES ('2026-01-02Z', 1, 'before')")
    compact(trips)
    session.ok("SELECT count(*), sum(n) FROM t", "INSERT INTO t VALUES ('2026-01-02Z', 2, 'after')", "COMMIT")
    assert len(session.same()) == 52


def test_provenance_is_kept(trips):
    """The offsets that the used segments hold are the same before and after, and stay apart by topic and partition."""
    session, database = trips.main, trips.database
    many(session, 12)
    database.query(
        "INSERT INTO basalt.segment_source SELECT id, '11111111-1111-1111-1111-111111111111', 'events', (n % 3)::int, n * 100, n * 100 + 10 "
        "FROM (SELECT id, row_number() OVER (ORDER BY created_at) AS n FROM basalt.segment) s"
    )
    offsets = """SELECT o.topic, o.partition, range_agg(int8range(o.first_offset, o.next_offset)) FROM basalt.segment_source o
                 JOIN basalt.segment s ON s.id = o.segment WHERE s.used GROUP BY 1, 2 ORDER BY 1, 2"""
    before = database.query(offsets)
    assert len(before) == 3
    compact(trips)
    assert trips.segments() < 12
    assert database.query(offsets) == before


def test_a_datasource_without_time(twins):
    twins.create("a int, b text", name="t")
    session = twins.main
    for i in range(10):
        session.ok(f"INSERT INTO t SELECT j, 'v' || j % 3 FROM generate_series({i}, {i + 20}) j")
    before = session.same()
    compact(twins)
    assert session.same() == before and twins.segments() == 1


def test_clustered_and_limited_segments(twins):
    twins.create("ts timestamptz NOT NULL, n int, city text", "cluster_by 'city', max_segment_rows '1000', segment_granularity 'month'")
    session = twins.main
    for i in range(8):
        session.ok(f"INSERT INTO t SELECT '2026-01-01Z'::timestamptz + j * interval '1 minute', j, 'c' || j % 13 FROM generate_series({i * 500}, {i * 500 + 499}) j")
    before = session.same()
    compact(twins)
    assert session.same() == before
    sizes = [rows for (rows,) in twins.database.query("SELECT rows FROM basalt.segment WHERE used")]
    assert sum(sizes) == 4000 and max(sizes) <= 1000 and len(sizes) <= 6


def test_what_it_refuses(trips):
    connection = trips.main.store
    connection.execute("CREATE TABLE plain (ts timestamptz)")
    assert attempt(connection, "SELECT basalt.compact('plain')").sqlstate in ("42809", "22023")
    assert attempt(connection, "SELECT basalt.compact('nothing')").sqlstate == "42P01"
    many(trips.main, 5)
    connection.execute("BEGIN READ ONLY")
    assert attempt(connection, "SELECT basalt.compact('t')").sqlstate == "25006"
    connection.execute("ROLLBACK")


@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month", "year", "all"])
@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date"])
def test_infinite_times_survive(database, kind, granularity):
    database.query(f"CREATE FOREIGN TABLE f (ts {kind}, x int) SERVER basalt OPTIONS (time_column 'ts', segment_granularity '{granularity}')")
    for rows in ("('infinity', 1), ('2010-06-30', 2)", "('-infinity', 4), ('2010-06-30', 8)", "('infinity', 16), ('-infinity', 32)"):
        database.query(f"INSERT INTO f VALUES {rows}")
    before = database.query("SELECT ts::text, x FROM f ORDER BY x")
    database.query("SELECT basalt.compact('f')")
    assert database.query("SELECT ts::text, x FROM f ORDER BY x") == before and len(before) == 6
    assert database.query("SELECT sum(x) FROM f") == [(63,)]
    assert database.query("SELECT sum(x) FROM f WHERE ts = 'infinity'") == [(17,)]
