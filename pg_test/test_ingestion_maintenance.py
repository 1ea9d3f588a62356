"""Merges before hand-off, hand-off of closed intervals, rewinds of what they made, and what a client sees meanwhile."""

import json
import threading
import time

import psycopg
import pytest

from harness import system

START = 1767225600000  # 2026-01-01, a closed interval


@pytest.fixture
def quick(new_cluster, kafka):
    """A cluster that publishes small segments often and hands off as soon as it can."""

    def make(**config):
        cluster = new_cluster(**({"basalt.maintenance": "on", "basalt.publish_interval": "20ms", "basalt.handoff_delay": "1000000"} | config))
        database = cluster.create_database()
        database.query(f"CREATE SERVER events FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{kafka.bootstrap}')")
        database.query("CREATE FOREIGN TABLE numbers (ts timestamptz NOT NULL, n bigint NOT NULL, label text) SERVER basalt "
                       "OPTIONS (segment_granularity 'hour')")
        return database

    return make


def message(n):
    # Ten hours, interleaved.
    return json.dumps({"ts": START + n % 36000 * 1000, "n": n, "label": f"l{n % 100}"})


def trickle(kafka, topic, first, count, pause=0.03, block=50):
    producer = kafka.producer()
    for begin in range(first, first + count, block):
        for n in range(begin, min(begin + block, first + count)):
            producer.produce(topic, message(n))
        producer.flush(30)
        time.sleep(pause)


def numbers(database):
    return database.query("SELECT count(*), count(DISTINCT n), coalesce(sum(n), 0) FROM numbers")[0]


def expected(count):
    return (count, count, count * (count - 1) // 2)


def kinds(database):
    return dict(database.query("SELECT kind, count(*) FROM basalt.segments WHERE used GROUP BY kind"))


def create(database, topic):
    database.query("SELECT basalt.create_ingestion('numbers', server => 'events', topic => %s)", (topic,))


def arrived(database, count):
    system.wait_until(lambda: numbers(database)[0] >= count, 30, f"{count} rows")
    assert numbers(database) == expected(count)


def test_small_segments_are_merged_and_rebuilt(quick, kafka, topic):
    database = quick(**{"basalt.segment_retention": "0"})
    create(database, topic)
    trickle(kafka, topic, 0, 5000)
    arrived(database, 5000)
    system.wait_until(lambda: sum(kinds(database).values()) < 20 and "derived" in kinds(database), 30, "merges")
    assert numbers(database) == expected(5000)
    # A derived segment's bytes are not in the catalog.
    stored = database.query("""SELECT count(*) FROM basalt.segment s WHERE kind = 'derived' AND EXISTS (
                               SELECT FROM basalt.segment_data d WHERE d.segment = s.id)""")
    assert stored == [(0,)]
    # Its sources outlive every retention period.
    database.query("SELECT basalt.sweep()")
    # Without its file it is merged anew, to the same bytes: its checksum is verified.
    cluster = database.cluster
    database.query("SELECT basalt.pause_ingestion('numbers')")
    for file in (cluster.data / "pgsql_tmp_basalt").rglob("*.segment"):
        file.unlink()
    assert numbers(database) == expected(5000)
    assert database.query("SELECT label, count(*) FROM numbers GROUP BY 1 ORDER BY 1 LIMIT 1") == [("l0", 50)]


def test_handoff_by_itself_and_late_rows(quick, kafka, topic):
    database = quick(**{"basalt.handoff_delay": "1s"})
    create(database, topic)
    trickle(kafka, topic, 0, 2000)
    arrived(database, 2000)
    system.wait_until(lambda: set(kinds(database)) == {"final"}, 30, "hand-off")
    assert numbers(database) == expected(2000)
    # What the finals were made of is gone, also from the catalog's bytes.
    assert database.query("SELECT count(DISTINCT segment) = (SELECT count(*) FROM basalt.segment) FROM basalt.segment_data") == [(True,)]
    # Late rows are new segments of their old intervals, handed off in their turn.
    trickle(kafka, topic, 2000, 500)
    arrived(database, 2500)
    system.wait_until(lambda: set(kinds(database)) == {"final"}, 30, "hand-off of late rows")
    assert numbers(database) == expected(2500)
    jobs = database.query("SELECT kind, state FROM basalt.jobs")
    assert ("handoff", "done") in jobs
    # Rows of an open interval stay where they are.
    now = int(time.time() * 1000)
    kafka.produce(topic, [json.dumps({"ts": now, "n": 2500})])
    arrived(database, 2501)
    time.sleep(4)
    assert kinds(database).get("fresh", 0) + kinds(database).get("derived", 0) == 1


def test_handoff_on_request_clips_what_reaches_into_an_open_interval(quick, kafka, topic):
    database = quick()
    create(database, topic)
    now = int(time.time() * 1000)
    kafka.produce(topic, [message(n) if n % 2 else json.dumps({"ts": now, "n": n}) for n in range(100)])
    arrived(database, 100)
    assert database.value("SELECT basalt.handoff('numbers')") >= 1
    assert numbers(database) == expected(100)
    assert kinds(database)["final"] >= 1 and kinds(database)["fresh"] >= 1
    assert database.value("SELECT basalt.handoff('numbers')") == 0
    # A rewind retires both halves of the split segment.
    database.query("SELECT basalt.reset_ingestion('numbers', 'earliest')")
    arrived(database, 100)


def test_rewinds_over_merges_and_finals(quick, kafka, topic):
    database = quick()
    create(database, topic)
    trickle(kafka, topic, 0, 3000)
    arrived(database, 3000)
    system.wait_until(lambda: "derived" in kinds(database), 30, "merges")
    for wish in ['{"0": 2500}', '{"0": 10}', "earliest"]:
        database.query("SELECT basalt.reset_ingestion('numbers', %s)", (wish,))
        arrived(database, 3000)
        database.query("SELECT basalt.handoff('numbers')")
        assert numbers(database) == expected(3000)
        database.query("SELECT basalt.reset_ingestion('numbers', %s)", (wish,))
        arrived(database, 3000)
    # Rows that were inserted are never merged with those of an ingestion, and survive its rewinds.
    database.query("INSERT INTO numbers SELECT '2026-01-01', 3000 + i FROM generate_series(0, 9) i")
    arrived(database, 3010)
    database.query("SELECT basalt.compact('numbers')")
    database.query("SELECT basalt.reset_ingestion('numbers', 'earliest')")
    arrived(database, 3010)


def test_rewinds_and_restored_versions(quick, kafka, topic):
    """What a replace hid does not come back beside the same messages, read again."""
    database = quick()
    create(database, topic)
    trickle(kafka, topic, 0, 500)
    arrived(database, 500)
    before = database.value("SELECT current_version FROM basalt.datasources")
    database.query("SELECT basalt.replace('numbers', NULL::timestamptz, NULL::timestamptz, $$SELECT ts, n + 1000, label FROM numbers$$)")
    assert numbers(database)[:2] == (500, 500)
    database.query("SELECT basalt.reset_ingestion('numbers', 'earliest')")
    system.wait_until(lambda: numbers(database)[0] >= 1000, 30, "both")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot be undone"):
        database.query("SELECT basalt.restore_version('numbers', %s)", (before,))
    assert numbers(database)[:2] == (1000, 1000)


class Reader(threading.Thread):
    """Sums in a loop. What a snapshot sees must be 0..k-1 for some k that never falls: no row twice, none missing."""

    def __init__(self, database, stop):
        super().__init__(daemon=True)
        self.database, self.stop, self.errors, self.reads = database, stop, [], 0

    def run(self):
        last = 0
        try:
            with self.database.connect() as connection:
                while not self.stop.is_set():
                    count, distinct, total = connection.execute("SELECT count(*), count(DISTINCT n), coalesce(sum(n), 0) FROM numbers").fetchone()
                    if (count, distinct, total) != expected(count) or count < last:
                        self.errors.append((last, count, distinct, total))
                        return
                    last = count
                    self.reads += 1
        except psycopg.Error as error:
            self.errors.append(error)


def test_a_client_that_sums_sees_every_row_once(quick, kafka, topic):
    """During publishes, merges, hand-offs, compactions and replaces."""
    database = quick()
    create(database, topic)
    stop = threading.Event()
    readers = [Reader(database, stop) for _ in range(2)]
    producer = threading.Thread(target=trickle, args=(kafka, topic, 0, 15000, 0.02, 40))
    arrived(database, 0)
    producer.start()
    for reader in readers:
        reader.start()
    replaced = handed = 0
    with database.connect() as connection:
        while producer.is_alive():
            time.sleep(0.4)
            handed += connection.execute("SELECT basalt.handoff('numbers')").fetchone()[0]
            # Rows of an hour by themselves: what a session that repairs data does.
            connection.execute("""SELECT basalt.replace('numbers', '2026-01-01 03:00+00'::timestamptz, '2026-01-01 04:00+00',
                $$SELECT * FROM numbers WHERE ts >= '2026-01-01 03:00+00' AND ts < '2026-01-01 04:00+00'$$)""")
            replaced += 1
            connection.execute("SELECT basalt.compact('numbers')")
    system.wait_until(lambda: numbers(database)[0] >= 15000, 30, "all rows")
    stop.set()
    for reader in readers:
        reader.join(30)
        assert not reader.errors, reader.errors
        assert reader.reads > 20
    assert numbers(database) == expected(15000)
    assert replaced > 3 and handed > 3
