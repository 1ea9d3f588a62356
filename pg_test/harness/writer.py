"""Writers whose every transaction changes a datasource and a heap table alike, so that PostgreSQL itself is the judge of
what happened when they are killed or interrupted."""

import random
import threading

import psycopg

COLUMNS = "ts timestamptz NOT NULL, n int, city text, note text"
# What takes a transaction back and lets its session go on.
TAKES_BACK = (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected,
              psycopg.errors.QueryCanceled, psycopg.errors.OutOfMemory)


def create_tables(database) -> None:
    """t and h for both writers, own_1, own_2 and heap_1, heap_2 for each."""
    for name in ("t", "own_1", "own_2"):
        database.query(f"CREATE FOREIGN TABLE {name} ({COLUMNS}) SERVER basalt")
    for name in ("h", "heap_1", "heap_2"):
        database.query(f"CREATE TABLE {name} ({COLUMNS})")


def differences(database) -> list[str]:
    """Pairs of tables that do not hold the same rows."""
    found = []
    for store, heap in (("t", "h"), ("own_1", "heap_1"), ("own_2", "heap_2")):
        counts = database.query(
            f"SELECT (SELECT count(*) FROM (SELECT * FROM {store} EXCEPT ALL SELECT * FROM {heap}) x), "
            f"(SELECT count(*) FROM (SELECT * FROM {heap} EXCEPT ALL SELECT * FROM {store}) x)")
        if counts != [(0, 0)]:
            found.append(f"{store} and {heap}: {counts}")
    return found


class Writer(threading.Thread):
    """Runs transactions in a month of its own."""

    def __init__(self, database, number: int, seed: str):
        super().__init__(daemon=True)
        self.database, self.number, self.dice = database, number, random.Random(seed)
        self.first, self.last = f"2026-{number:02}-01Z", f"2026-{number + 1:02}-01Z"
        self.done = 0
        self.taken_back = 0
        self.connection = None
        self.pid = None
        self.stop = False
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
        """Until `stop` is set or the session is gone."""
        try:
            with self.database.connect() as self.connection:
                self.pid = self.connection.info.backend_pid
                while not self.stop:
                    try:
                        self.transaction(self.connection)
                        self.done += 1
                    except TAKES_BACK:
                        self.taken_back += 1
                        self.go_on()
        except psycopg.OperationalError:
            pass
        except Exception as error:
            self.fault = error

    def go_on(self) -> None:
        while True:
            try:
                self.connection.execute("ROLLBACK")
                return
            except psycopg.errors.QueryCanceled:
                continue
