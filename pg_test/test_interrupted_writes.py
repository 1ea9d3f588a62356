"""Writes that are cancelled, timed out, terminated or short of memory at random moments: all of a transaction or nothing,
and neither locks nor temporary files are left. BASALT_INTERRUPTS gives the number, BASALT_SEED the seed."""

import os
import random
import time

from harness.storage import FILE, cache_files, orphans
from harness.system import wait_until
from harness.writer import Writer, create_tables, differences

INTERRUPTS = int(os.environ.get("BASALT_INTERRUPTS", "150"))
SEED = int(os.environ.get("BASALT_SEED", "1"))


def test_interrupts_at_random_moments(database):
    create_tables(database)
    cluster, dice = database.cluster, random.Random(SEED)
    started = cluster.query("SELECT pg_postmaster_start_time()")
    writers, ended, taken_back = {}, 0, 0
    for interrupt in range(INTERRUPTS):
        for number in (1, 2):
            if number not in writers or not writers[number].is_alive():
                if number in writers:
                    assert writers[number].fault is None, writers[number].fault
                    taken_back += writers[number].taken_back
                    ended += 1
                writers[number] = Writer(database, number, f"{SEED}.{interrupt}.{number}")
                writers[number].start()
        time.sleep(dice.random() * 0.1)
        victim = writers[dice.choice((1, 2))]
        wait_until(lambda: victim.pid or not victim.is_alive(), 30, "connection")
        function = dice.choice(("pg_cancel_backend", "pg_cancel_backend", "pg_cancel_backend", "pg_terminate_backend"))
        database.query(f"SELECT {function}(%s)", (victim.pid,))
        if interrupt % 30 == 29 and database.value("SELECT count(*) FROM h") > 100_000:
            database.query("BEGIN; TRUNCATE t; TRUNCATE h; COMMIT")
    for writer in writers.values():
        writer.stop = True
        writer.join(60)
        assert writer.fault is None, writer.fault
        taken_back += writer.taken_back
    print(f"{INTERRUPTS} interrupts: {taken_back} transactions taken back, {ended} sessions ended, seed {SEED}")
    assert taken_back > INTERRUPTS // 10 and ended > INTERRUPTS // 20
    assert differences(database) == []
    assert cluster.query("SELECT pg_postmaster_start_time()") == started
    check_nothing_is_left(database)


def check_nothing_is_left(database) -> None:
    """No temporary file, before any sweep; no lock of a session that is gone; no orphan after a sweep."""
    assert [file.name for file in cache_files(database) if not FILE.match(file.name)] == []
    mine = "SELECT count(*) FROM pg_locks WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid() AND locktype <> 'virtualxid'"
    workers = "pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend')"
    wait_until(lambda: database.value(f"{mine} AND NOT {workers}") == 0, 30, "release of locks")
    database.query("SELECT basalt.sweep()")
    assert orphans(database) == []


def test_timeouts_and_memory_limits(database):
    """The same for statement_timeout and for a memory limit that is too small for a merge or an insert."""
    create_tables(database)
    writer = Writer(database, 1, f"{SEED}.timeouts")
    outcomes = set()
    with database.connect() as connection:
        for round in range(60):
            dice = random.Random(f"{SEED}.{round}")
            connection.execute(f"SET statement_timeout = {dice.choice((1, 2, 5, 10, 20, 40, 80, 0))}")
            connection.execute(f"SET basalt.query_memory_limit = '{dice.choice((1, 1, 2, 1000))}MB'")
            connection.execute(f"SET basalt.insert_memory_limit = '{dice.choice((1, 2, 100))}MB'")
            try:
                writer.transaction(connection)
                outcomes.add(None)
            except Exception as error:
                outcomes.add(getattr(error, "sqlstate", str(error)))
                connection.execute("ROLLBACK")
            connection.execute("RESET ALL")
    assert outcomes <= {None, "57014", "53200", "55P03"}, outcomes
    assert {None, "57014"} <= outcomes
    assert differences(database) == []
    check_nothing_is_left(database)
