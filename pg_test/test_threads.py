"""Threads of all sessions together: their limit, reports that give way to interactive queries and wait in turns, and that nothing is kept when a session ends."""

import os
import threading
import time
from contextlib import suppress

import psycopg
import pytest
from harness.concurrent import Running
from harness.system import wait_until

ROWS = 400_000
LIMIT = 2
# A scan that stands still in the middle, while another session holds lock 1.
STUCK = "SELECT count(*) FROM events WHERE stands(word)"
HEAVY = "SELECT number, word, count(*), sum(amount), max(moment) FROM events GROUP BY 1, 2 ORDER BY 4 DESC, 1, 2 LIMIT 3"


def make_events(cluster):
    database = cluster.create_database()
    database.query(
        "CREATE FOREIGN TABLE events (moment timestamptz NOT NULL, number int, word text, amount float8) SERVER basalt OPTIONS (time_column 'moment')"
    )
    for part in range(4):
        database.query(
            "INSERT INTO events SELECT '2026-01-01 00:00+00'::timestamptz + i * interval '1 second', (i * 7919::bigint %% 20000)::int, 'w' || i %% 100, i / 8.0 "
            "FROM generate_series(%s::int, %s::int) i", (part * ROWS // 4, (part + 1) * ROWS // 4 - 1),
        )
    database.query("CREATE FUNCTION stands(word text) RETURNS bool LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END $$")
    return database


@pytest.fixture
def events(new_cluster):
    return make_events(new_cluster(**{"basalt.max_total_threads": LIMIT, "max_connections": 100}))


def session(database, report=False, threads=8):
    connection = database.connect()
    connection.execute(f"SET basalt.max_threads = {threads}")
    if report:
        connection.execute("SET basalt.query_class = reporting")
    return connection


def counts(database):
    """(total, interactive, reporting, waiting reports)"""
    return database.query("SELECT * FROM basalt.threads()")[0]


def stuck(database, report):
    connection = session(database, report)
    return Running(connection, STUCK).wait_until_blocked(database)


def waiting(database, report):
    """A report that waits for its turn, as pg_stat_activity shows."""

    def waits():
        assert report.thread.is_alive(), f"it did not wait: {report.outcome}"
        return database.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Extension' AND wait_event = 'Extension'",
                              (report.connection.info.backend_pid,))

    wait_until(waits, 30, "a report waits")
    return report


@pytest.fixture
def lock(events):
    """Holds what `stands` waits for, until released."""
    with events.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        yield connection
        with suppress(psycopg.OperationalError):  # of a server that was killed
            connection.execute("SELECT pg_advisory_unlock_all()")


def test_many_sessions_share_the_threads(events):
    sessions, over, most, wrong = 16, threading.Event(), 0, []
    expected = events.query(HEAVY)
    pids = []

    def client():
        with session(events) as connection:
            pids.append(connection.info.backend_pid)
            for _ in range(4):
                if connection.execute(HEAVY).fetchall() != expected:
                    wrong.append(connection)

    clients = [threading.Thread(target=client) for _ in range(sessions)]
    for thread in clients:
        thread.start()

    def scanning(pid):
        try:
            return len(os.listdir(f"/proc/{pid}/task")) - 1
        except FileNotFoundError:
            return 0

    while any(thread.is_alive() for thread in clients):
        most = max(most, sum(map(scanning, list(pids))))
        time.sleep(0.002)
    for thread in clients:
        thread.join()
    assert not wrong
    # Every session wanted eight. A thread that has given its place back may take a moment to end.
    assert most <= 2 * LIMIT, most
    assert counts(events) == (LIMIT, 0, 0, 0)


def test_a_query_alone_uses_all_threads(events):
    with session(events, threads=4) as connection:
        used, over = set(), threading.Event()

        def watch():
            while not over.is_set():
                used.add(counts(events)[1])

        watcher = threading.Thread(target=watch)
        watcher.start()
        end = time.monotonic() + 30
        while max(used, default=0) < LIMIT and time.monotonic() < end:
            connection.execute(HEAVY)
        over.set()
        watcher.join()
    assert max(used) == LIMIT


def test_reports_take_turns_and_can_be_stopped_while_they_wait(events, lock):
    holders = [stuck(events, report=True) for _ in range(LIMIT)]
    assert counts(events) == (LIMIT, 0, LIMIT, 0)
    canceled, ended, timed = (Running(session(events, report=True), HEAVY) for _ in range(3))
    for report in (canceled, ended, timed):
        waiting(events, report)
    assert counts(events) == (LIMIT, 0, LIMIT, 3)
    events.query("SELECT pg_cancel_backend(%s)", (canceled.connection.info.backend_pid,))
    assert canceled.result(10).error.sqlstate == "57014"
    events.query("SELECT pg_terminate_backend(%s)", (ended.connection.info.backend_pid,))
    assert ended.result(10).error is not None
    wait_until(lambda: counts(events) == (LIMIT, 0, LIMIT, 1), 10, "their places in the queue are free")
    impatient = session(events, report=True)
    impatient.execute("SET statement_timeout = '50ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        impatient.execute(HEAVY)
    # Interactive queries don't wait for anybody.
    expected = Running(session(events), HEAVY).ok().rows
    lock.execute("SELECT pg_advisory_unlock_all()")
    assert timed.ok().rows == expected
    for holder in holders:
        assert holder.ok().rows == [(str(ROWS),)]
    assert counts(events) == (LIMIT, 0, 0, 0)


def test_interactive_queries_leave_reports_one_thread(events, lock):
    interactive = stuck(events, report=False)  # wants all
    assert counts(events)[1] == 1
    first = stuck(events, report=True)
    second = waiting(events, Running(session(events, report=True), HEAVY))
    assert counts(events) == (LIMIT, 1, 1, 1)
    events.query("SELECT pg_cancel_backend(%s)", (interactive.connection.info.backend_pid,))
    assert interactive.result().error.sqlstate == "57014"
    second.ok()  # one thread is left for it
    lock.execute("SELECT pg_advisory_unlock_all()")
    first.ok()
    assert counts(events) == (LIMIT, 0, 0, 0)


def test_a_report_progresses_beside_interactive_queries(events):
    expected, over = Running(session(events), HEAVY).ok().rows, threading.Event()

    def client():
        with session(events) as connection:
            while not over.is_set():
                connection.execute(HEAVY)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    try:
        reports = [Running(session(events, report=True), HEAVY) for _ in range(3)]
        assert [report.ok(120).rows for report in reports] == [expected] * 3
    finally:
        over.set()
        for thread in clients:
            thread.join()
    assert counts(events) == (LIMIT, 0, 0, 0)


def test_errors_and_cursors_keep_nothing(events):
    for report in (False, True):
        with session(events, report) as connection:
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT number, sum(1 / (number - 77)) FROM events GROUP BY 1")
            with connection.transaction():
                connection.execute("DECLARE part CURSOR FOR SELECT * FROM events")
                assert len(connection.execute("FETCH 5 FROM part").fetchall()) == 5
                # An open cursor does not work, and holds no thread.
                assert counts(events) == (LIMIT, 0, 0, 0)
                assert len(connection.execute("FETCH 3000 FROM part").fetchall()) == 3000
    assert counts(events) == (LIMIT, 0, 0, 0)


def test_a_killed_session_leaves_nothing(events, lock):
    cluster = events.cluster
    for report in (False, True):
        holder = stuck(events, report)
        events.query("SELECT pg_terminate_backend(%s)", (holder.connection.info.backend_pid,))
        wait_until(lambda: counts(events) == (LIMIT, 0, 0, 0), 10, "a terminated session's threads are free")
    holder = stuck(events, report=True)
    cluster.kill_backend(holder.connection.info.backend_pid)
    wait_until(lambda: "all server processes terminated" in cluster.log_text(), 30, "the server notices")
    cluster.wait_for_answer()
    cluster.forgive()
    assert counts(events) == (LIMIT, 0, 0, 0)


def test_without_preloading_nothing_is_counted(new_cluster):
    database = make_events(new_cluster(shared_preload_libraries=""))
    expected = database.query(HEAVY)
    with session(database, report=True) as connection:
        assert connection.execute(HEAVY).fetchall() == expected
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        database.query("SELECT * FROM basalt.threads()")
    assert "shared_preload_libraries" in caught.value.diag.message_hint
