"""Ingestion through real Kafka: speed and cost of a backlog, and the delay until an outside client sees an event."""

import re
import statistics
import threading
import time
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from harness import system
from harness.kafka import Kafka

from . import data
from .systems import cpu_seconds

RATES = [1000, 5000, 20_000, 50_000]
SECONDS = 20  # a rate's measurement, after a warm-up of WARM_UP
WARM_UP = 3
TABLE = "date timestamp NOT NULL, delay integer, distance integer, origin text, destination text"


def run(cluster, options, say):
    kafka = Kafka().init().start()
    result = {}
    try:
        with cluster.connect() as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS basalt")
            connection.execute(f"DROP SERVER IF EXISTS bench_kafka CASCADE")
            connection.execute(f"CREATE SERVER bench_kafka FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{kafka.bootstrap}')")
            connection.execute("DROP SCHEMA IF EXISTS bench_ingestion CASCADE")
            connection.execute("CREATE SCHEMA bench_ingestion")
            connection.execute("SET search_path = bench_ingestion")
            say("\ningestion: flights as JSON through Kafka, one partition")
            messages = list(data.flight_messages(options.events))
            result["full speed"] = full_speed(cluster, connection, kafka, messages, say)
            result["delay"] = [delay(cluster, connection, kafka, rate, messages, say) for rate in options.rates]
    finally:
        kafka.destroy()
    return result


class Meter:
    """CPU seconds of the server's background processes since the meter was made: the extension's workers, and all."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.before = self.read()

    def read(self):
        used = {}
        for pid in system.children(self.cluster.pid):
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if not re.match(r"postgres: postgres ", title):
                    used[pid] = ("basalt" in title, cpu_seconds(pid))
            except OSError:
                continue
        return used

    def since(self):
        """(workers, all background processes). One that ended meanwhile is missing: `gone` tells how many workers did."""
        now = self.read()
        spent = [(worker, seconds - self.before.get(pid, (worker, 0.0))[1]) for pid, (worker, seconds) in now.items()]
        self.gone = sum(worker and pid not in now for pid, (worker, _) in self.before.items())
        return sum(s for worker, s in spent if worker), sum(s for _, s in spent)


def start(connection, name, kafka, topic):
    connection.execute(f"CREATE FOREIGN TABLE {name} ({TABLE}) SERVER basalt OPTIONS (time_column 'date', segment_granularity 'day')")
    connection.execute(f"SELECT basalt.create_ingestion('{name}', server => 'bench_kafka', topic => '{topic}', format => 'json')")


def stop(connection, name):
    connection.execute(f"SELECT basalt.drop_ingestion('{name}')")
    connection.execute(f"DROP FOREIGN TABLE {name}")


def count(connection, name):
    return connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]


def wal(connection):
    return connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()[0]


def full_speed(cluster, connection, kafka, messages, say):
    """A backlog is drained as fast as the worker can."""
    topic = kafka.create_topic("backlog")
    kafka.produce(topic, messages)
    connection.execute("CHECKPOINT")
    wal_before, meter, began = wal(connection), Meter(cluster), time.monotonic()
    start(connection, "backlog", kafka, topic)
    first, seen = None, 0
    while seen < len(messages):
        # Rare enough that the client takes little from the worker.
        time.sleep(0.25)
        seen = count(connection, "backlog")
        if seen and first is None:
            first = time.monotonic()
        if time.monotonic() - began > 600:
            raise TimeoutError(f"{seen} of {len(messages)} events after 600 s")
    seconds, (cpu, all_cpu), wal_bytes = time.monotonic() - began, meter.since(), wal(connection) - wal_before
    segments, stored = connection.execute("SELECT count(*), sum(s.bytes)::bigint FROM basalt.segment s JOIN basalt.datasource d ON d.id = s.datasource "
                                          "WHERE d.relation = 'backlog'::regclass AND s.used").fetchone()
    payload = sum(map(len, messages))
    result = {"events": len(messages), "seconds": seconds, "first visible after": first - began, "cpu seconds": cpu, "cpu seconds of all background processes": all_cpu, "workers that ended": meter.gone, "events/s": len(messages) / seconds,
              "events/CPU s": len(messages) / max(cpu, 0.01), "WAL bytes/event": float(wal_bytes) / len(messages), "segments": segments, "segment bytes": stored,
              "message bytes": payload}
    say(f"  full speed: {len(messages):,} events ({payload / 1e6:.0f} MB) in {seconds:.1f} s: {result['events/s']:,.0f} events/s, "
        f"{result['events/CPU s']:,.0f} events a CPU second of the workers ({cpu:.2f} s; {all_cpu:.2f} s with the server's other background processes), {result['WAL bytes/event']:.1f} WAL bytes an event, {segments} segments of {stored / 1e6:.1f} MB")
    stop(connection, "backlog")
    kafka.delete_topic(topic)
    return result


class Source(threading.Thread):
    """Produces at a steady rate in ticks of 5 ms and notes when each event was given to the producer."""

    def __init__(self, bootstrap, topic, rate, seconds, messages):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0, "queue.buffering.max.messages": 1_000_000})
        self.topic, self.rate, self.total, self.messages = topic, rate, int(rate * seconds), messages
        # (events given up to and including this tick, time)
        self.ticks = []
        self.behind = 0.0

    def run(self):
        began, sent = time.monotonic(), 0
        while sent < self.total:
            due = min(int((time.monotonic() - began) * self.rate) + 1, self.total)
            self.behind = max(self.behind, (due - sent) / self.rate)
            now = time.monotonic()
            while sent < due:
                self.producer.produce(self.topic, self.messages[sent % len(self.messages)])
                sent += 1
            self.ticks.append((sent, now))
            self.producer.poll(0)
            time.sleep(0.005)
        self.producer.flush(30)


def delay(cluster, connection, kafka, rate, messages, say):
    """From the call that gives an event to the Kafka client to the answer of the first query that counts it."""
    name = f"rate_{rate}"
    topic = kafka.create_topic(name.replace("_", "-"))
    start(connection, name, kafka, topic)
    source = Source(kafka.bootstrap, topic, rate, WARM_UP + SECONDS, messages)
    meter, wal_before, began = Meter(cluster), wal(connection), time.monotonic()
    polls, queries = [], []
    with psycopg.connect(cluster.dsn(), autocommit=True) as client:
        client.execute("SET search_path = bench_ingestion")
        source.start()
        seen = 0
        while seen < source.total:
            asked = time.monotonic()
            seen = count(client, name)
            now = time.monotonic()
            polls.append((seen, now))
            queries.append(now - asked)
            if now - began > (WARM_UP + SECONDS) * 3 + 30:
                break
            time.sleep(0.01)
    elapsed, (cpu, _), wal_bytes = time.monotonic() - began, meter.since(), wal(connection) - wal_before
    source.join(60)
    delays = delays_of(source.ticks, polls, rate)
    result = {"events/s": rate, "seen": seen, "of": source.total, "worker CPU share": cpu / elapsed, "WAL bytes/event": float(wal_bytes) / max(seen, 1),
              "producer behind by": source.behind, "count(*) median": statistics.median(queries)}
    if delays:
        result |= {"median": quantile(delays, 0.5), "p99": quantile(delays, 0.99), "worst": delays[-1][0]}
        say(f"  {rate:7,} events/s: visible after {result['median'] * 1000:6.0f} ms (median), {result['p99'] * 1000:6.0f} ms (p99), {result['worst'] * 1000:6.0f} ms (worst); "
            f"workers use {100 * result['worker CPU share']:5.1f} % of a core, {result['WAL bytes/event']:6.1f} WAL bytes an event"
            + ("" if seen >= source.total else f"; ONLY {seen:,} OF {source.total:,} SEEN"))
    stop(connection, name)
    kafka.delete_topic(topic)
    return result


def delays_of(ticks, polls, rate):
    """(delay, events) pairs in ascending order of delay, without the warm-up."""
    skip, at, pairs, done = WARM_UP * rate, 0, [], 0
    for seen, when in polls:
        while at < len(ticks) and done < seen:
            upto = min(ticks[at][0], seen)
            if upto > skip:
                pairs.append((when - ticks[at][1], upto - max(done, skip)))
            done = upto
            if done == ticks[at][0]:
                at += 1
    return sorted(p for p in pairs if p[1] > 0)


def quantile(pairs, share):
    """The delay that `share` of the events do not exceed."""
    total, passed = sum(n for _, n in pairs), 0
    for value, events in pairs:
        passed += events
        if passed >= share * total:
            return value
    return pairs[-1][0]
