"""Exactly once: numbered events while the worker, the postmaster and the broker are killed at random moments.

Every number must be there once in the end, as a row or as a dead letter. BASALT_KILLS kills of each kind (3 unless set; the nightly form
is 200). BASALT_SEED repeats a run's moments.
"""

import json
import os
import random
import threading
import time

import psycopg
import pytest

from harness import system

KILLS = int(os.environ.get("BASALT_KILLS", "3"))
SEED = int(os.environ.get("BASALT_SEED", str(random.SystemRandom().randrange(1 << 30))))
POISON = 97  # every so many-th event is no JSON
PARTITIONS = 3


class Events:
    """Sends numbered events at a steady pace from a thread until stopped; `sent` numbers were acknowledged."""

    def __init__(self, kafka, topic, rate):
        self.kafka, self.topic, self.rate = kafka, topic, rate
        self.sent = 0
        self.stopping = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.finish()

    def finish(self):
        self.stopping.set()
        self.thread.join(180)
        assert not self.thread.is_alive(), "the producer hangs"
        if self.error is not None:
            raise self.error

    def _run(self):
        try:
            # The producer itself must neither lose nor repeat, however long the broker is away.
            producer = self.kafka.producer(enable_idempotence="true", message_timeout_ms="0", linger_ms="5", reconnect_backoff_max_ms="300")
            failures, number = [], 0
            delivered = lambda error, _: failures.append(error) if error else None
            while not self.stopping.is_set():
                for _ in range(max(1, self.rate // 50) if len(producer) < 100_000 else 0):
                    producer.produce(self.topic, message(number), partition=number % PARTITIONS, on_delivery=delivered)
                    number += 1
                producer.poll(0.02)
            left = producer.flush(170)
            if left or failures:
                raise RuntimeError(f"{left} events left, {failures[:3]}")
            self.sent = number
        except Exception as error:
            self.error = error


def message(n):
    return f"poison {n}" if n % POISON == 0 else json.dumps({"ts": 1767225600000 + n * 10, "n": n, "label": f"l{n % 100}"})


def prepare(cluster, kafka):
    database = cluster.create_database()
    topic = kafka.create_topic(partitions=PARTITIONS)
    database.query(f"CREATE SERVER events FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{kafka.bootstrap}')")
    database.query("CREATE FOREIGN TABLE numbers (ts timestamptz NOT NULL, n bigint NOT NULL, label text) SERVER basalt "
                   "OPTIONS (segment_granularity 'hour')")
    database.query("SELECT basalt.create_ingestion('numbers', server => 'events', topic => %s)", (topic,))
    return database, topic


def progress(database):
    """Rows, distinct numbers, their sum and dead letters; None while the server does not answer."""
    try:
        (row,) = database.query("""SELECT count(*), count(DISTINCT n), coalesce(sum(n), 0),
                                          (SELECT count(*) FROM basalt.dead_letters) FROM numbers""")
        return row
    except psycopg.OperationalError:
        return None


def check_complete(database, sent, timeout=120):
    dead = (sent + POISON - 1) // POISON
    total = sent * (sent - 1) // 2 - POISON * dead * (dead - 1) // 2
    wanted = (sent - dead, sent - dead, total, dead)

    def there():
        now = progress(database)
        # More than was sent is an error at once.
        assert now is None or (now[0] <= wanted[0] and now[0] == now[1] and now[3] <= dead), (now, wanted)
        return now is not None and now[0] + now[3] >= sent

    try:
        system.wait_until(there, timeout, f"{sent} events")
    finally:
        print("events", sent, "found", progress(database), "wanted", wanted, "seed", SEED)
    time.sleep(1)
    assert progress(database) == wanted
    messages = database.query("SELECT convert_from(message, 'UTF8') FROM basalt.dead_letters ORDER BY 1")
    assert sorted(m for (m,) in messages) == sorted(f"poison {n}" for n in range(0, sent, POISON))


def kill_worker(cluster, kafka):
    """The postmaster then restarts every process: recovery, launcher, workers."""
    with cluster.crash_expected():
        pids = cluster.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'basalt ingestion worker'")
        if pids:
            cluster.kill_backend(pids[0][0])
            time.sleep(0.2)


def kill_postmaster(cluster, kafka):
    cluster.kill()
    cluster.start()


def kill_broker(cluster, kafka):
    kafka.kill()
    time.sleep(random.uniform(0, 0.5))
    kafka.start()


@pytest.mark.timeout(300 + 40 * KILLS)
@pytest.mark.parametrize("kill", [kill_worker, kill_postmaster, kill_broker], ids=lambda f: f.__name__)
def test_exactly_once_under_kills(new_cluster, new_kafka, kill):
    moments = random.Random(f"{SEED} {kill.__name__}")
    cluster, kafka = new_cluster(**{"basalt.maintenance": "on"}), new_kafka()
    database, topic = prepare(cluster, kafka)
    with Events(kafka, topic, rate=3000) as events:
        system.wait_until(lambda: progress(database)[0] > 0, 30, "the first rows")
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.05, 1.5))
            kill(cluster, kafka)
        time.sleep(1)
        events.finish()
        check_complete(database, events.sent)


def test_broker_away_for_30_seconds(new_cluster, new_kafka):
    cluster, kafka = new_cluster(**{"basalt.maintenance": "on"}), new_kafka()
    database, topic = prepare(cluster, kafka)
    with Events(kafka, topic, rate=500) as events:
        system.wait_until(lambda: progress(database)[0] > 0, 30, "the first rows")
        kafka.kill()

        def trouble():
            return database.query("SELECT state, last_error FROM basalt.ingestion_status")[0]

        system.wait_until(lambda: trouble()[1] is not None, 30, "an error in ingestion_status")
        time.sleep(28)
        # SQL answers all the while.
        assert progress(database)[0] > 0 and trouble()[0] == "running"
        kafka.start()
        time.sleep(1)
        events.finish()
        check_complete(database, events.sent)
        system.wait_until(lambda: trouble() == ("running", None), 30, "the end of the error")


def test_workers_end_at_once(new_cluster, new_kafka):
    """SIGTERM is obeyed promptly, also while the broker is away; a terminated worker comes back."""
    cluster, kafka = new_cluster(**{"basalt.maintenance": "on"}), new_kafka()
    database, topic = prepare(cluster, kafka)
    kafka.produce(topic, (message(n) for n in range(1, 97)), partition=0)
    system.wait_until(lambda: progress(database)[0] == 96, 30, "rows")

    def worker():
        rows = cluster.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'basalt ingestion worker'")
        return rows[0][0] if rows else None

    before = worker()
    begun = time.monotonic()
    cluster.query("SELECT pg_terminate_backend(%s)", (before,))
    system.wait_until(lambda: worker() != before, 5, "end of the worker")
    assert time.monotonic() - begun < 3
    kafka.produce(topic, (message(n) for n in range(98, 190)), partition=0)
    system.wait_until(lambda: progress(database)[0] == 96 + 92, 30, "rows of the worker's successor")
    kafka.kill()
    time.sleep(1)
    begun = time.monotonic()
    cluster.stop("fast")
    assert time.monotonic() - begun < 10
