"""The flights: three million real flights of January to July 2001, from vega-datasets 3.2.1 (scripts/setup.sh fetches it)."""

import time
from pathlib import Path

import duckdb
from confluent_kafka import Producer

from . import system

COLUMNS = "date timestamp NOT NULL, delay int, distance int, origin text, destination text"
ROWS = 3_000_000


def parquet() -> Path:
    return system.cache_directory() / "data" / "flights-3m.parquet"


def connect(threads: int = 1) -> duckdb.DuckDBPyConnection:
    """DuckDB with the file as view `flights`, its integers as narrow as the datasource's."""
    connection = duckdb.connect(config={"threads": threads})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        "CREATE VIEW flights AS SELECT date, delay::int AS delay, distance::int AS distance, origin, destination "
        f"FROM read_parquet('{parquet()}')"
    )
    return connection


def messages(limit: int | None = None, batch: int = 20_000):
    """Lists of JSON messages (str), `batch` long, in the file's order."""
    rows = connect().execute(
        "SELECT to_json({date: strftime(date, '%Y-%m-%d %H:%M:%S'), delay: delay, distance: distance, origin: origin, "
        f"destination: destination}})::text FROM flights {'' if limit is None else f'LIMIT {limit}'}"
    )
    while chunk := rows.fetchmany(batch):
        yield [text for (text,) in chunk]


def produce(bootstrap: str, topic: str, partitions: int, limit: int | None = None) -> tuple[int, float]:
    """Send the flights to the topic's partitions in turn; returns messages acknowledged and seconds."""
    producer = Producer({
        "bootstrap.servers": bootstrap, "linger.ms": 20, "batch.size": 1_000_000, "compression.type": "lz4",
        "queue.buffering.max.messages": 200_000, "acks": "all", "enable.idempotence": "true",
        "log_level": 3,
    })
    began, sent = time.monotonic(), 0
    for turn, texts in enumerate(messages(limit)):
        pending = [{"value": text} for text in texts]
        while pending:
            producer.produce_batch(topic, pending, partition=turn % partitions)
            # What did not fit into the queue comes back marked; it is sent again once there is room.
            pending = [{"value": m["value"]} for m in pending if "_error" in m]
            producer.poll(0.05 if pending else 0)
        sent += len(texts)
    if left := producer.flush(120):
        raise RuntimeError(f"{left} messages were not delivered to {topic}")
    return sent, time.monotonic() - began
