"""basalt.replace and basalt.compact beside readers, appends and each other."""

import threading

import pytest

from harness.concurrent import Running
from harness.twins import attempt, segments

LEVELS = ["READ COMMITTED", "REPEATABLE READ"]
JANUARY = "'2026-01-01Z', '2026-02-01Z'"
# The new rows; appended rows have n = 7.
REPLACE = f"SELECT basalt.replace('t', {JANUARY}, 'SELECT ''2026-01-10Z''::timestamptz + i * interval ''1 minute'', 1 FROM generate_series(1, 100) i')"
APPEND = "INSERT INTO t VALUES ('2026-01-15Z', 7)"


@pytest.fixture
def trips(database):
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int) SERVER basalt")
    for part in range(3):
        database.query(f"INSERT INTO t SELECT '2026-01-01Z'::timestamptz + i * interval '1 hour', 0 FROM generate_series({part * 200}, {part * 200 + 199}) i")
    return database


def counts(database) -> dict:
    return dict(database.query("SELECT n, count(*) FROM t GROUP BY n"))


@pytest.mark.parametrize("append_level", LEVELS)
@pytest.mark.parametrize("replace_level", LEVELS)
def test_append_begins_first_and_commits_while_the_replace_waits(trips, append_level, replace_level):
    with trips.connect() as appender, trips.connect() as replacer:
        appender.execute(f"BEGIN ISOLATION LEVEL {append_level}")
        appender.execute(APPEND)
        appender.execute("SELECT count(*) FROM t")  # writes the segment, and takes the lock
        replacer.execute(f"BEGIN ISOLATION LEVEL {replace_level}")
        replacing = Running(replacer, REPLACE).wait_until_blocked(trips)
        appender.execute("COMMIT")
        replacing.ok()
        replacer.execute("COMMIT")
    assert counts(trips) == {1: 100, 7: 1}


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("append_level", LEVELS)
def test_append_begins_while_a_replace_is_open(trips, append_level, end):
    with trips.connect() as appender, trips.connect() as replacer:
        appender.execute(f"BEGIN ISOLATION LEVEL {append_level}")
        appender.execute("SELECT count(*) FROM t")
        replacer.execute("BEGIN")
        replacer.execute(REPLACE)
        assert appender.execute("SELECT count(*) FROM t").fetchone() == (600,), "a reader doesn't wait"
        appender.execute(APPEND)
        appending = Running(appender, "COMMIT").wait_until_blocked(trips)
        replacer.execute(end)
        appending.ok()
    assert counts(trips) == ({1: 100, 7: 1} if end == "COMMIT" else {0: 600, 7: 1})


@pytest.mark.parametrize("append_level", LEVELS)
def test_append_with_a_snapshot_older_than_the_replace(trips, append_level):
    with trips.connect() as appender, trips.connect() as replacer:
        appender.execute(f"BEGIN ISOLATION LEVEL {append_level}")
        appender.execute("SELECT count(*) FROM t")
        replacer.execute(REPLACE)
        appender.execute(APPEND)
        expected = 601 if append_level == "REPEATABLE READ" else 101
        assert appender.execute("SELECT count(*) FROM t").fetchone() == (expected,)
        appender.execute("COMMIT")
    assert counts(trips) == {1: 100, 7: 1}


def test_replace_with_a_snapshot_older_than_the_append(trips):
    with trips.connect() as appender, trips.connect() as replacer:
        replacer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        replacer.execute("SELECT count(*) FROM t")
        appender.execute(APPEND)
        replacer.execute(REPLACE)
        assert replacer.execute("SELECT count(*) FROM t").fetchone() == (100,)
        replacer.execute("COMMIT")
    assert counts(trips) == {1: 100, 7: 1}


def test_many_appends_during_replaces(trips):
    """Four appenders and a replacer at full speed: each appended row is there in the end."""
    wanted, faults = 40, []

    def append(number):
        try:
            with trips.connect() as session:
                for i in range(wanted):
                    session.execute(f"INSERT INTO t VALUES ('2026-01-15Z'::timestamptz + interval '{i} hours', {1000 + number})")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    with trips.connect() as session:
        # Keeps the rows that its snapshot sees: what it doesn't see must not go either.
        while any(thread.is_alive() for thread in threads):
            session.execute(f"SELECT basalt.replace('t', {JANUARY}, 'SELECT * FROM t WHERE n >= 1000')")
            attempt(session, "SELECT basalt.compact('t')")
    for thread in threads:
        thread.join()
    assert faults == []
    assert counts(trips) == {1000 + number: wanted for number in range(4)}


def test_readers_see_all_or_nothing(trips):
    """Each version's rows sum to a multiple of 1000; readers never see a mixture, nor go back."""
    stop, faults, seen = threading.Event(), [], set()

    def read(way):
        last = 0
        try:
            with trips.connect() as session:
                while not stop.is_set():
                    if way == "rows":
                        versions = {n for (n,) in session.execute("SELECT n FROM t").fetchall()}
                        total = len(versions) == 1 and session.execute("SELECT count(*) FROM t").fetchone()[0]
                    else:
                        low, high, total = session.execute("SELECT min(n), max(n), count(*) FROM t").fetchone()
                        versions = {low, high}
                    (version,) = versions
                    assert version >= last and total in (600, 1000), (versions, total)
                    last = version
                    seen.add(version)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=read, args=(way,)) for way in ("rows", "aggregate", "aggregate")]
    for thread in threads:
        thread.start()
    with trips.connect() as session:
        for version in range(1, 31):
            session.execute(f"SELECT basalt.replace('t', {JANUARY}, 'SELECT ''2026-01-01Z''::timestamptz + i * interval ''30 minutes'', {version} FROM generate_series(1, 1000) i')")
            if version % 5 == 0:
                session.execute("SELECT basalt.compact('t')")
                session.execute("SELECT basalt.sweep()")
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(seen) > 3 and counts(trips) == {30: 1000}


def replace_with(n: int, interval: str = JANUARY) -> str:
    start = interval.split(",")[0].replace("'", "''")
    return f"SELECT basalt.replace('t', {interval}, 'SELECT {start}::timestamptz + i * interval ''1 minute'', {n} FROM generate_series(1, 50) i')"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("level", LEVELS)
def test_two_replaces_of_one_interval(trips, level, end):
    """One after the other, or the second fails to serialize: never the rows of both."""
    with trips.connect() as first, trips.connect() as second:
        first.execute("BEGIN")
        first.execute(replace_with(1))
        second.execute(f"BEGIN ISOLATION LEVEL {level}")
        waiting = Running(second, replace_with(2)).wait_until_blocked(trips)
        first.execute(end)
        outcome = waiting.result()
        assert outcome.sqlstate in (None, "40001"), outcome.error
        attempt(second, "COMMIT")
    if end == "ROLLBACK":
        assert outcome.error is None
    assert counts(trips) == ({2: 50} if outcome.error is None else {1: 50})


def test_two_replaces_of_one_interval_with_an_old_snapshot(trips):
    with trips.connect() as first, trips.connect() as second:
        second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        second.execute("SELECT count(*) FROM t")
        first.execute(replace_with(1))
        outcome = attempt(second, replace_with(2))
        attempt(second, "COMMIT")
    assert outcome.sqlstate in (None, "40001")
    assert counts(trips) == ({2: 50} if outcome.error is None else {1: 50})


def test_two_replaces_of_different_intervals(trips):
    february = "'2026-02-01Z', '2026-03-01Z'"
    with trips.connect() as first, trips.connect() as second:
        first.execute("BEGIN")
        first.execute(replace_with(1))
        second.execute("BEGIN")
        waiting = Running(second, replace_with(2, february)).wait_until_blocked(trips)
        first.execute("COMMIT")
        waiting.ok()
        second.execute("COMMIT")
    assert counts(trips) == {1: 50, 2: 50}


def test_replace_and_truncate(trips):
    with trips.connect() as first, trips.connect() as second:
        first.execute("BEGIN")
        first.execute(replace_with(1))
        waiting = Running(second, "TRUNCATE t").wait_until_blocked(trips)
        first.execute("COMMIT")
        waiting.ok()
        assert counts(trips) == {}
        first.execute("BEGIN")
        first.execute("TRUNCATE t")
        waiting = Running(second, replace_with(2)).wait_until_blocked(trips)
        first.execute("COMMIT")
        waiting.ok()
    assert counts(trips) == {2: 50}


def test_replace_and_drop(trips):
    with trips.connect() as first, trips.connect() as second:
        first.execute("BEGIN")
        first.execute("DROP FOREIGN TABLE t")
        waiting = Running(second, replace_with(1)).wait_until_blocked(trips)
        first.execute("COMMIT")
        assert waiting.result().sqlstate in ("42P01", "42809")
    assert trips.value("SELECT count(*) FROM basalt.segment") == 0


def test_compaction_is_the_loser(trips):
    """A compaction never makes an append fail; what it can not take it leaves."""
    with trips.connect() as appender, trips.connect() as janitor:
        appender.execute("BEGIN")
        appender.execute(APPEND)
        appender.execute("SELECT count(*) FROM t")
        janitor.execute("SET lock_timeout = '2s'")
        outcome = attempt(janitor, "SELECT basalt.compact('t')")
        assert outcome.sqlstate in (None, "55P03"), outcome.error
        appender.execute("COMMIT")
        assert attempt(janitor, "SELECT basalt.compact('t')").error is None
    assert counts(trips) == {0: 600, 7: 1}


def test_writing_after_a_replace_in_one_transaction_deadlocks_nobody(trips):
    """Two that append and then replace: one may fail with a deadlock, the other goes on, nothing is lost."""
    with trips.connect() as first, trips.connect() as second:
        for session in (first, second):
            session.execute("BEGIN")
            session.execute("INSERT INTO t VALUES ('2026-05-01Z', 9)")
            session.execute("SELECT count(*) FROM t")
        waiting = Running(first, replace_with(1)).wait_until_blocked(trips)
        outcome = attempt(second, replace_with(2))
        states = {waiting.result().sqlstate, outcome.sqlstate}
        for session in (first, second):
            attempt(session, "COMMIT")
    assert states == {None, "40P01"}
    assert counts(trips) in ({1: 50, 9: 1}, {2: 50, 9: 1})
    assert segments(trips, "t") == 2
