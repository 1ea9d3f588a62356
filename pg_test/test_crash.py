"""kill -9 at random points of every kind of write: all of a transaction or nothing, and no orphans after a sweep.

BASALT_KILLS gives the number of kills, BASALT_SEED the seed."""

import os
import random
import time

import pytest

from harness.storage import orphans
from harness.twins import attempt
from harness.writer import Writer, create_tables, differences

KILLS = int(os.environ.get("BASALT_KILLS", "50"))
SEED = int(os.environ.get("BASALT_SEED", "1"))


@pytest.mark.timeout(60 + 20 * KILLS)
def test_kills_at_random_points(new_cluster):
    cluster = new_cluster(autovacuum="off", max_wal_size="8GB")
    database = cluster.create_database()
    create_tables(database)
    dice, done = random.Random(SEED), 0
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
        assert differences(database) == [], f"kill {kill} of seed {SEED}"
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
