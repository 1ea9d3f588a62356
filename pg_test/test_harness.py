"""The servers that the other tests stand on: they start, crash, recover, replicate, and a crash is noticed."""

import signal

import psycopg
import pytest
from confluent_kafka import Consumer

from harness.cluster import ServerFault
from harness.system import wait_until


def test_extension_is_installed_from_the_prefix(database, prefix):
    assert database.query("SELECT extname FROM pg_extension WHERE extname = 'basalt'") == [("basalt",)]
    libraries = database.value("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'")
    assert libraries == str(prefix.lib)


def test_extension_loads_without_preload(new_cluster):
    cluster = new_cluster(shared_preload_libraries="")
    database = cluster.create_database()
    assert database.query("SELECT extname FROM pg_extension WHERE extname = 'basalt'") == [("basalt",)]


def test_crash_of_one_backend_is_noticed(new_cluster):
    cluster = new_cluster()
    with cluster.crash_expected():
        victim = cluster.connect()
        cluster.kill_backend(victim.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 1")
        wait_until(lambda: "was terminated by signal 9" in cluster.log_text(), 30, "the postmaster's message")
    victim = cluster.connect()
    cluster.kill_backend(victim.info.backend_pid, signal.SIGSEGV)
    wait_until(lambda: "was terminated by signal 11" in cluster.log_text(), 30, "the postmaster's message")
    with pytest.raises(ServerFault, match="signal 11"):
        cluster.check_log()
    cluster.forgive()


@pytest.mark.parametrize("everything", [True, False])
def test_committed_rows_survive_kill_of_the_postmaster(new_cluster, everything):
    cluster = new_cluster()
    cluster.query("CREATE TABLE kept AS SELECT 1 AS x")
    cluster.kill(everything)
    assert not cluster.is_running()
    cluster.start()
    assert cluster.query("SELECT x FROM kept") == [(1,)]


def test_standby_follows(new_cluster, new_standby):
    primary = new_cluster()
    follower = new_standby(primary)
    primary.query("CREATE TABLE kept AS SELECT 1 AS x")
    primary.wait_for_replay(follower)
    assert follower.query("SELECT x, pg_is_in_recovery() FROM kept") == [(1, True)]


def read_all(kafka, topic, count):
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got = []
    wait_until(lambda: got.extend(m.value() for m in consumer.consume(100, 0.5) if not m.error()) or len(got) >= count, 30, topic)
    consumer.close()
    return got


def test_kafka_keeps_messages_over_a_kill(new_kafka):
    kafka = new_kafka()
    topic = kafka.create_topic()
    assert kafka.produce(topic, [f"{i}" for i in range(10)]) == 10
    kafka.kill()
    kafka.start()
    assert kafka.watermarks(topic) == (0, 10)
    assert read_all(kafka, topic, 10) == [b"%d" % i for i in range(10)]


def test_topics_grow_and_age(kafka, topic):
    kafka.produce(topic, [("k", "v")] * 5)
    kafka.add_partitions(topic, 2)
    kafka.produce(topic, ["x"], partition=1)
    kafka.delete_records(topic, 3)
    assert kafka.watermarks(topic) == (3, 5)
    assert kafka.watermarks(topic, 1) == (0, 1)
