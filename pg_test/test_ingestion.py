"""Ingestion through a real Kafka: rows, dead letters, commands, and what happens to a topic meanwhile."""

import json
import time

import psycopg
import pytest

from harness import system

FLIGHTS = """CREATE FOREIGN TABLE flights (date timestamp NOT NULL, delay int, distance int, origin text, destination text)
             SERVER basalt"""
NUMBERS = "CREATE FOREIGN TABLE numbers (ts timestamptz NOT NULL, n bigint NOT NULL, label text) SERVER basalt"


@pytest.fixture
def sink(database, kafka):
    """A database with a server for the run's Kafka and a datasource of numbered events."""
    database.query(f"CREATE SERVER events FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{kafka.bootstrap}')")
    database.query(NUMBERS)
    return database


def event(n, second=None, **more):
    at = f"2026-01-01T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}Z" if second is None else second
    return json.dumps({"ts": at, "n": n, "label": f"label-{n % 7}"} | more)


def numbers(database):
    """Count, distinct count and sum of the numbers that are there."""
    return database.query("SELECT count(*), count(DISTINCT n), coalesce(sum(n), 0) FROM numbers")[0]


def expected(count):
    return (count, count, count * (count - 1) // 2)


def status(database, name="numbers"):
    with database.connect() as connection:
        connection.row_factory = psycopg.rows.dict_row
        return connection.execute("SELECT * FROM basalt.ingestion_status WHERE name = %s", (name,)).fetchone()


def wait_for(database, count, timeout=30):
    def there():
        return numbers(database)[0] >= count

    try:
        system.wait_until(there, timeout, f"{count} rows")
    except Exception:
        print(numbers(database), status(database))
        raise
    assert numbers(database) == expected(count)


def create(database, topic, **options):
    database.query("SELECT basalt.create_ingestion('numbers', server => 'events', topic => %s, options => %s)",
                   (topic, json.dumps(options)))


def test_messages_become_rows(sink, kafka, topic):
    kafka.produce(topic, (event(n) for n in range(1000)))
    create(sink, topic)
    wait_for(sink, 1000)
    kafka.produce(topic, (event(n) for n in range(1000, 1500)))
    wait_for(sink, 1500)
    rows = sink.query("SELECT ts, n, label FROM numbers WHERE n IN (0, 1499) ORDER BY n")
    assert [(str(ts), n, label) for ts, n, label in rows] == [
        ("2026-01-01 00:00:00+00:00", 0, "label-0"), ("2026-01-01 00:24:59+00:00", 1499, "label-1")]
    now = status(sink)
    assert (now["state"], now["messages"], now["lag_messages"], now["dead_letters"]) == ("running", 1500, 0, 0)
    assert now["last_error"] is None and now["next_offsets"] == {"0": 1500}
