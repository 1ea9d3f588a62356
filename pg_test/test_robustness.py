"""Queries and writes that are cancelled, terminated, timed out and starved of memory at random moments: the postmaster
never restarts, the session goes on where it may, and answers stay right."""

import os
import random
import threading
import time

import psycopg
import pytest

ROUNDS = int(os.environ.get("BASALT_ROBUSTNESS_ROUNDS", "500"))
SEED = int(os.environ.get("BASALT_SEED", "20010101"))
CLIENTS = 3
ROWS = 600_000
LOADS = 6

QUERIES = [
    "SELECT count(*), sum(number), avg(real_number), min(word), max(moment) FROM events",
    "SELECT word, count(*), count(DISTINCT number) FROM events GROUP BY word HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 20",
    "SELECT number, word, count(*), sum(amount) FROM events GROUP BY number, word",
    "SELECT date_trunc('hour', moment, 'America/St_Johns'), count(*), max(word) FROM events GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM events WHERE word LIKE '%7%' AND NOT (number BETWEEN 10 AND 500 OR real_number IS NULL)",
    "SELECT count(*) FROM events WHERE word ~* '(1|2)+.*9$' OR word ILIKE 'W1%'",
    "SELECT * FROM events ORDER BY word, moment LIMIT 50",
    "SELECT count(*) FROM events a JOIN (SELECT number, count(*) AS n FROM events GROUP BY number) b USING (number) WHERE b.n > 3",
    "SELECT unique_word FROM events GROUP BY unique_word ORDER BY unique_word LIMIT 10",
    "SELECT count(DISTINCT unique_word) FROM events",
    "INSERT INTO scratch SELECT moment, number, word FROM events LIMIT 60000",
    "COPY (SELECT * FROM events) TO STDOUT",
]

# What an interrupted statement may say: canceled, terminated, out of memory.
EXPECTED = {"57014", "57P01", "53200"}


@pytest.fixture
def events(database):
    """A datasource of several segments, and an empty one to write to."""
    database.query(
        "CREATE FOREIGN TABLE events (moment timestamptz NOT NULL, number int, word text, unique_word text, "
        "real_number float8, amount numeric(12,2)) SERVER basalt OPTIONS (time_column 'moment', segment_granularity 'day')"
    )
    database.query(
        "CREATE FOREIGN TABLE scratch (moment timestamptz NOT NULL, number int, word text) SERVER basalt OPTIONS (time_column 'moment')"
    )
    for part in range(LOADS):
        database.query(
            "INSERT INTO events SELECT '2026-01-01 00:00+00'::timestamptz + i * interval '1 second', (i * 7919) %% 1000, "
            "'w' || (i * 31) %% 3000, md5(i::text), CASE WHEN i %% 17 = 0 THEN NULL ELSE sqrt(i) END, (i %% 100000) / 100.0 "
            "FROM generate_series(%s::bigint, %s::bigint) i",
            (part * (ROWS // LOADS), (part + 1) * (ROWS // LOADS) - 1),
        )
    return database


def truth(database) -> list[tuple]:
    return database.query("SELECT count(*), count(DISTINCT number), sum(number), sum(amount), max(unique_word) FROM events")


class Client(threading.Thread):
    """Runs its share of the rounds in one session, which it opens again only when it was terminated."""

    def __init__(self, database, number: int, rounds: int, durations: dict[str, float]):
        super().__init__()
        self.database, self.rounds, self.durations = database, rounds, durations
        self.random = random.Random(SEED * 1000 + number)
        self.outcomes: dict[str, int] = {}
        self.fault: str | None = None

    def run(self):
        try:
            connection = self.database.connect()
            for _ in range(self.rounds):
                connection = self.round(connection)
            connection.close()
        except BaseException as error:  # handed to the main thread
            self.fault = f"{type(error).__name__}: {error}"

    def round(self, connection):
        sql = self.random.choice(QUERIES)
        kind = self.random.choice(["cancel", "terminate", "timeout", "memory"])
        moment = self.random.random() ** 2 * self.durations[sql] * 1.2
        timer = None
        settings = {"statement_timeout": "0", "basalt.query_memory_limit": "'1GB'", "basalt.insert_memory_limit": "'256MB'"}
        settings["basalt.max_threads"] = str(self.random.choice([1, 2, 4]))
        settings["basalt.query_class"] = self.random.choice(["interactive", "interactive", "reporting"])
        if kind == "timeout":
            settings["statement_timeout"] = str(max(1, int(moment * 1000)))
        elif kind == "memory":
            settings["basalt.query_memory_limit"] = f"'{self.random.choice([1024, 2048, 5000, 20000])}kB'"
        else:
            function = {"cancel": "pg_cancel_backend", "terminate": "pg_terminate_backend"}[kind]
            pid = connection.info.backend_pid
            timer = threading.Timer(moment, lambda: self.database.query(f"SELECT {function}({pid})"))
        for name, value in settings.items():
            connection.execute(f"SET {name} = {value}")
        if timer:
            timer.start()
        outcome = "done"
        try:
            self.execute(connection, sql)
        except psycopg.Error as error:
            outcome = error.sqlstate or ("57P01" if connection.closed else "?")
            assert outcome in EXPECTED, f"{sql}: {error.sqlstate} {error}"
        if timer:
            timer.join()
        self.outcomes[f"{kind} {outcome}"] = self.outcomes.get(f"{kind} {outcome}", 0) + 1
        return self.go_on(connection)

    def execute(self, connection, sql: str):
        if sql.startswith("COPY"):
            with connection.cursor().copy(sql) as rows:
                for _ in rows:
                    pass
            return
        # Every third read goes through a cursor that is left half read, or a generic plan.
        way = self.random.randrange(3)
        if way == 0 and sql.startswith("SELECT"):
            with connection.transaction():
                cursor = connection.execute(f"DECLARE half CURSOR FOR {sql}")
                cursor.execute("FETCH 5 FROM half")
        elif way == 1 and sql.startswith("SELECT"):
            connection.execute(sql, prepare=True)
        else:
            connection.execute(sql)

    def go_on(self, connection):
        """The same session if it is alive (a late cancel may hit the question, or had hit a ROLLBACK), else a new one."""
        for _ in range(3):
            try:
                connection.rollback()
                if not connection.closed and connection.execute("SELECT 1").fetchone() == (1,):
                    return connection
            except psycopg.errors.QueryCanceled:
                continue
            except psycopg.OperationalError:
                pass
            connection.close()
            connection = self.database.connect()
        raise AssertionError("the session doesn't answer")


def test_interrupts_at_random_moments(events, cluster):
    started = cluster.query("SELECT pg_postmaster_start_time()")
    before = truth(events)
    durations = {}
    for sql in QUERIES:
        began = time.monotonic()
        events.psql(sql + ";")
        durations[sql] = time.monotonic() - began

    clients = [Client(events, i, ROUNDS // CLIENTS + (i < ROUNDS % CLIENTS), durations) for i in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert [c.fault for c in clients if c.fault] == []
    outcomes = {k: sum(c.outcomes.get(k, 0) for c in clients) for c in clients for k in c.outcomes}
    print(f"seed {SEED}: {dict(sorted(outcomes.items()))}")
    assert sum(outcomes.values()) == ROUNDS
    # Interrupts that all came too late would prove nothing.
    assert {"cancel 57014", "terminate 57P01", "timeout 57014", "memory 53200"} <= set(outcomes)
    assert cluster.query("SELECT pg_postmaster_start_time()") == started
    assert truth(events) == before
    # Written whole or not at all: 60,000 rows a statement.
    assert events.value("SELECT count(*) % 60000 FROM scratch") == 0


def test_memory_limit_is_an_error_that_names_the_setting(events):
    with events.connect() as connection:
        connection.execute("SET basalt.query_memory_limit = '1MB'")
        with pytest.raises(psycopg.errors.OutOfMemory) as caught:
            connection.execute("SELECT unique_word, count(*) FROM events GROUP BY 1")
        assert "basalt.query_memory_limit" in (caught.value.diag.message_hint or "")
        connection.execute("RESET basalt.query_memory_limit")
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (ROWS,)


def test_sessions_leak_neither_threads_nor_files(events):
    """After many errors one session holds as many threads and open files as before."""
    with events.connect() as connection:
        connection.execute("SET basalt.query_memory_limit = '1MB'")

        def fail():
            with pytest.raises(psycopg.errors.OutOfMemory):
                connection.execute("SELECT unique_word, count(*) FROM events GROUP BY 1")

        fail()
        process = f"/proc/{connection.info.backend_pid}"
        before = len(os.listdir(f"{process}/task")), len(os.listdir(f"{process}/fd"))
        for _ in range(30):
            fail()
        after = len(os.listdir(f"{process}/task")), len(os.listdir(f"{process}/fd"))
    assert after[0] == before[0] == 1
    assert after[1] <= before[1]
