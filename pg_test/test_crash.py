"""kill -9 at random points of every kind of write: all of a transaction or nothing, and no orphans after a sweep.

Every transaction changes a datasource and a heap table alike, so PostgreSQL itself is the judge of what happened.
BASALT_KILLS gives the number of kills, BASALT_SEED the seed."""

import os
import random
import threading
import time

import psycopg
import pytest

from harness.storage import orphans
from harness.twins import attempt

KILLS = int(os.environ.get("BASALT_KILLS", "50"))
SEED = int(os.environ.get("BASALT_SEED", "1"))
COLUMNS = "ts timestamptz NOT NULL, n int, city text, note text"


class Writer(threading.Thread):
    """Runs transactions in a month of its own until the server goes away."""

    def __init__(self, database, number: int, seed: str):
        super().__init__(daemon=True)
        self.database, self.number, self.dice = database, number, random.Random(seed)
        self.first, self.last = f"2026-{number:02}-01Z", f"2026-{number + 1:02}-01Z"
        self.done = 0
        self.fault = None

    def rows(self, count: int) -> str:
        salt = self.dice.randrange(1 << 30)
        return (f"SELECT '{self.first}'::timestamptz + (i % 40000) * interval '1 minute' AS ts, {salt} % 1000 + i AS n, "
                f"'c' || (i * {salt % 97}) % 300 AS city, md5((i + {salt})::text) AS note FROM generate_series(1, {count}) i")

    def transaction(self, connection) -> None:
        dice = self.dice
        kind = dice.choice(("insert", "insert", "many", "copy", "copy", "replace", "replace", "savepoint", "compact", "merge", "truncate other"))
        connection.execute("BEGIN")
        if kind in ("insert", "copy", "savepoint"):
            connection.execute(f"CREATE TEMP TABLE batch ON COMMIT DROP AS {self.rows(dice.choice((1, 50, 3000, 20000)))}")
        if kind == "insert":
            connection.execute("INSERT INTO t SELECT * FROM batch")
            connection.execute("INSERT INTO h SELECT * FROM batch")
        elif kind == "many":
            for i in range(dice.randrange(1, 30)):
                for table in ("t", "h"):
                    connection.execute(f"INSERT INTO {table} VALUES ('{self.first}', {i}, 'single', NULL)")
        elif kind == "copy":
            data = b"".join(bytes(part) for part in connection.cursor().copy("COPY batch TO STDOUT").__enter__())
            for table in ("t", "h"):
                with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
                    for start in range(0, len(data), 50_000):
                        copy.write(data[start:start + 50_000])
        elif kind == "replace":
            day = f"'{self.first}'::timestamptz + interval '{dice.randrange(25)} days'"
            end = f"{day} + interval '{dice.randrange(1, 10)} days'"
            query = f"SELECT ts, n + 1, city, note FROM {{}} WHERE ts >= {day} AND ts < {end} AND n % {dice.randrange(1, 4)} = 0 AND ts < '{self.last}'"
            limit = f"least({end}, '{self.last}'::timestamptz)"
            connection.execute(f"SELECT basalt.replace('t', {day}, {limit}, $q${query.format('t')}$q$)")
            connection.execute(f"CREATE TEMP TABLE made ON COMMIT DROP AS {query.format('h')}")
            connection.execute(f"DELETE FROM h WHERE ts >= {day} AND ts < {limit}")
            connection.execute("INSERT INTO h SELECT * FROM made")
        elif kind == "savepoint":
            connection.execute("INSERT INTO t SELECT * FROM batch LIMIT 5")
            connection.execute("SAVEPOINT a")
            connection.execute("SELECT count(*) FROM t WHERE n = 3")
            connection.execute("INSERT INTO t SELECT * FROM batch")
            connection.execute("SELECT count(*) FROM t WHERE n = 3")
            connection.execute("ROLLBACK TO a")
            connection.execute("INSERT INTO h SELECT * FROM batch LIMIT 5")
        elif kind in ("compact", "merge"):
            connection.execute("SET LOCAL lock_timeout = '100ms'")
            connection.execute("SELECT basalt.compact('t')")
        else:
            connection.execute(f"TRUNCATE own_{self.number}")
            connection.execute(f"INSERT INTO own_{self.number} {self.rows(200)}")
            connection.execute(f"DELETE FROM heap_{self.number}")
            connection.execute(f"INSERT INTO heap_{self.number} SELECT * FROM own_{self.number}")
        connection.execute("ROLLBACK" if dice.random() < 0.1 else "COMMIT")

    def run(self):
        try:
            with self.database.connect() as connection:
                connection.execute("SET search_path = public")
                while True:
                    try:
                        self.transaction(connection)
                    except (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                        connection.execute("ROLLBACK")
                    self.done += 1
        except psycopg.OperationalError:
            pass
        except Exception as error:
            self.fault = error


DIFFERENT = """SELECT (SELECT count(*) FROM (SELECT * FROM {0} EXCEPT ALL SELECT * FROM {1}) x),
                      (SELECT count(*) FROM (SELECT * FROM {1} EXCEPT ALL SELECT * FROM {0}) x), (SELECT count(*) FROM {1})"""


@pytest.mark.timeout(60 + 20 * KILLS)
def test_kills_at_random_points(new_cluster):
    cluster = new_cluster(autovacuum="off", max_wal_size="8GB")
    database = cluster.create_database()
    database.query(f"CREATE FOREIGN TABLE t ({COLUMNS}) SERVER basalt")
    database.query(f"CREATE TABLE h ({COLUMNS})")
    for number in (1, 2):
        database.query(f"CREATE FOREIGN TABLE own_{number} ({COLUMNS}) SERVER basalt")
        database.query(f"CREATE TABLE heap_{number} ({COLUMNS})")
    dice, done, rows = random.Random(SEED), 0, 0
    for kill in range(KILLS):
        writers = [Writer(database, number, f"{SEED}.{kill}.{number}") for number in (1, 2)]
        for writer in writers:
            writer.start()
        time.sleep(0.05 + dice.random() ** 2 * 0.8)
        cluster.kill(everything=dice.random() < 0.8)
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive() and writer.fault is None, writer.fault
            done += writer.done
        cluster.start()
        for pair in (("t", "h"), ("own_1", "heap_1"), ("own_2", "heap_2")):
            *difference, rows = database.query(DIFFERENT.format(*pair))[0]
            assert difference == [0, 0], f"kill {kill} of seed {SEED}: {pair} differ: {difference}"
        database.query("SELECT basalt.sweep()")
        assert orphans(database) == [], f"kill {kill} of seed {SEED}"
        cluster.check_log()
        if database.value("SELECT count(*) FROM h") > 60_000:
            database.query("TRUNCATE t; TRUNCATE h")
    print(f"{KILLS} kills, {done} transactions, seed {SEED}")
    assert done > KILLS


def test_segments_of_a_killed_transaction_are_swept(new_cluster):
    """The file of a segment whose transaction never ended is an orphan after the kill, and goes."""
    cluster = new_cluster()
    database = cluster.create_database()
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int) SERVER basalt")
    database.query("INSERT INTO t VALUES ('2026-01-01Z', 1)")
    session = database.connect()
    session.execute("BEGIN")
    session.execute("INSERT INTO t SELECT '2026-01-01Z', i FROM generate_series(1, 1000) i")
    session.execute("SELECT count(*) FROM t")
    # While it runs, its file is needed.
    assert database.query("SELECT files FROM basalt.sweep()") == [(0,)]
    assert session.execute("SELECT count(*) FROM t").fetchone() == (1001,)
    cluster.kill()
    cluster.start()
    assert len(orphans(database)) == 1
    assert database.query("SELECT files FROM basalt.sweep()") == [(1,)]
    assert orphans(database) == []
    assert database.query("SELECT n FROM t") == [(1,)]


def test_backend_killed_in_the_middle_of_an_insert(new_cluster):
    cluster = new_cluster()
    database = cluster.create_database()
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int) SERVER basalt")
    database.query("INSERT INTO t SELECT '2026-01-01Z', i FROM generate_series(1, 100) i")
    with cluster.crash_expected():
        session = database.connect()
        session.execute("BEGIN")
        session.execute("INSERT INTO t SELECT '2026-01-01Z', i FROM generate_series(1, 100) i")
        session.execute("SELECT count(*) FROM t")
        cluster.kill_backend(session.info.backend_pid)
        assert attempt(session, "COMMIT").error is not None
    assert database.query("SELECT count(*) FROM t") == [(100,)]
    database.query("SELECT basalt.sweep()")
    assert orphans(database) == []
