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


def dead_letters(database):
    return database.query('SELECT "offset", convert_from(message, \'UTF8\'), error FROM basalt.dead_letters ORDER BY "offset"')


def test_bad_messages_become_dead_letters(sink, kafka, topic):
    """Poison among good messages: each is kept with a reason, none stops the others."""
    bad = {
        3: ("no JSON at all", "invalid JSON"),
        5: ('{"n": 5}', 'column "ts" may not be null and is missing'),
        7: ('{"ts": "2026-01-01", "n": null}', 'column "n" may not be null and is null'),
        9: ('{"ts": "2026-01-01", "n": "nine"}', "not a value of type bigint"),
        11: ('{"ts": "2026-01-01", "n": 9223372036854775808}', "out of range"),
        13: ('{"ts": "2026-13-01", "n": 13}', "not a value of type timestamp with time zone"),
        15: (None, "tombstone"),
        17: ('{"ts": "2026-01-01", "n": 17, "label": "\\u0000"}', "u0000"),
        19: ('{"ts": "2026-01-01", "n": 19', "invalid JSON"),
        21: ("[1, 2]", "expected a JSON object"),
    }
    kafka.produce(topic, (bad[n][0] if n in bad else event(n) for n in range(100)))
    create(sink, topic)
    good = [n for n in range(100) if n not in bad]
    system.wait_until(lambda: numbers(sink)[0] >= len(good), 30, "good rows")
    assert numbers(sink) == (len(good), len(good), sum(good))
    letters = dead_letters(sink)
    assert [n for n, *_ in letters] == sorted(bad)
    for n, message, error in letters:
        assert message == bad[n][0] and bad[n][1] in error, (n, error)
    assert status(sink)["dead_letters"] == len(bad)


def test_messages_that_are_no_utf8(sink, kafka, topic):
    kafka.produce(topic, [b"\xff\xfe", b"", b"{", event(0), b'{"n":' + b"[" * 100_000])
    create(sink, topic)
    wait_for(sink, 1)
    system.wait_until(lambda: status(sink)["dead_letters"] == 4, 10, "dead letters")


def test_pause_resume_drop(sink, kafka, topic):
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    sink.query("SELECT basalt.pause_ingestion('numbers')")
    kafka.produce(topic, (event(n) for n in range(100, 200)))
    time.sleep(1)
    assert numbers(sink) == expected(100) and status(sink)["state"] == "paused"
    sink.query("SELECT basalt.resume_ingestion('numbers')")
    wait_for(sink, 200)
    sink.query("SELECT basalt.drop_ingestion('numbers')")
    kafka.produce(topic, (event(n) for n in range(200, 300)))
    time.sleep(1)
    assert numbers(sink) == expected(200) and status(sink) is None
    with pytest.raises(psycopg.errors.UndefinedObject, match="does not exist"):
        sink.query("SELECT basalt.resume_ingestion('numbers')")


def test_start_latest(sink, kafka, topic):
    kafka.produce(topic, (event(n) for n in range(100)))
    create(sink, topic, start="latest")
    kafka.produce(topic, (event(n) for n in range(50)))
    wait_for(sink, 50)


def test_rewound_twice_nothing_doubles(sink, kafka):
    topic = kafka.create_topic(partitions=3)
    kafka.produce(topic, (event(n) for n in range(600)), partition=0)
    create(sink, topic)
    wait_for(sink, 600)
    kafka.produce(topic, (event(n) if n % 10 else "poison" for n in range(600, 1000)), partition=1)
    good = [n for n in range(1000) if n < 600 or n % 10]
    everything = (len(good), len(good), sum(good))

    def check():
        system.wait_until(lambda: numbers(sink)[0] >= len(good) and status(sink)["dead_letters"] >= 40, 30, "all rows")
        time.sleep(0.5)
        assert numbers(sink) == everything and status(sink)["dead_letters"] == 40

    check()
    for _ in range(2):
        sink.query("""SELECT basalt.reset_ingestion('numbers', '{"0": 300, "1": 17}')""")
        check()
    sink.query("SELECT basalt.reset_ingestion('numbers', 'earliest')")
    check()
    sink.query("SELECT basalt.reset_ingestion('numbers', '2020-01-01')")
    check()
    sink.query("SELECT basalt.reset_ingestion('numbers', 'latest')")
    check()
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no partition 7"):
        sink.query("""SELECT basalt.reset_ingestion('numbers', '{"7": 0}')""")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="out of range"):
        sink.query("""SELECT basalt.reset_ingestion('numbers', '{"0": 100000}')""")


def test_partition_added(sink, kafka, topic):
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    kafka.add_partitions(topic, 3)
    kafka.produce(topic, (event(n) for n in range(100, 200)), partition=2)
    wait_for(sink, 200)


def test_aborted_transactions_are_not_seen(sink, kafka, topic):
    create(sink, topic)
    producer = kafka.producer(transactional_id="t1")
    producer.init_transactions()
    for block in range(10):
        producer.begin_transaction()
        for n in range(block * 10, block * 10 + 10):
            producer.produce(topic, event(n) if block % 2 == 0 else event(n + 1000))
        if block % 2 == 0:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    good = [n for block in range(0, 10, 2) for n in range(block * 10, block * 10 + 10)]
    system.wait_until(lambda: numbers(sink)[0] >= 50, 30, "committed rows")
    # Markers move the next offset, too: there is no lag in the end.
    low, high = kafka.watermarks(topic)
    system.wait_until(lambda: status(sink)["next_offsets"] == {"0": high}, 15, f"offset {high}")
    assert numbers(sink) == (50, 50, sum(good)) and status(sink)["lag_messages"] == 0


def test_compacted_topic(sink, kafka):
    topic = kafka.create_topic(config={"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
                                       "delete.retention.ms": "100"})
    for _ in range(5):
        kafka.produce(topic, ((str(n % 10), event(n)) for n in range(1000)))
        time.sleep(0.3)
    time.sleep(3)
    create(sink, topic)
    low, high = kafka.watermarks(topic)
    system.wait_until(lambda: (status(sink)["next_offsets"] or {}).get("0") == high, 30, f"offset {high}")
    count, distinct, _ = numbers(sink)
    assert 10 <= count <= 5000 and distinct >= 10
    # The newest value of each key is there in any case.
    assert sink.query("SELECT count(DISTINCT n) FROM numbers WHERE n >= 990")[0][0] == 10
    assert status(sink)["state"] == "running"


def test_offsets_aged_out_stop_the_ingestion(sink, kafka, topic):
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    sink.query("SELECT basalt.pause_ingestion('numbers')")
    kafka.produce(topic, (event(n) for n in range(100, 300)))
    kafka.delete_records(topic, 200)
    sink.query("SELECT basalt.resume_ingestion('numbers')")
    system.wait_until(lambda: status(sink)["state"] == "failed", 30, "failure")
    now = status(sink)
    assert "offset 100 of partition 0 is out of range" in now["last_error"] and "reset_ingestion" in now["hint"]
    assert numbers(sink) == expected(100)
    sink.query("SELECT basalt.reset_ingestion('numbers', 'earliest')")
    system.wait_until(lambda: numbers(sink)[0] >= 200, 30, "rows after the gap")
    assert numbers(sink)[:2] == (200, 200) and status(sink)["state"] == "running"


def test_offsets_aged_out_with_a_policy(sink, kafka, topic):
    create(sink, topic, on_offset_out_of_range="earliest")
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    sink.query("SELECT basalt.pause_ingestion('numbers')")
    kafka.produce(topic, (event(n) for n in range(100, 300)))
    kafka.delete_records(topic, 200)
    sink.query("SELECT basalt.resume_ingestion('numbers')")
    system.wait_until(lambda: numbers(sink)[0] >= 200, 30, "rows after the gap")
    assert numbers(sink)[:2] == (200, 200)


@pytest.mark.parametrize("policy", ["stop", "earliest"])
def test_topic_recreated_longer(sink, kafka, policy):
    topic = kafka.create_topic()
    create(sink, topic, on_topic_recreated=policy)
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    kafka.delete_topic(topic)
    kafka.create_topic(topic)
    kafka.produce(topic, (event(n) for n in range(100, 400)))
    if policy == "stop":
        system.wait_until(lambda: status(sink)["state"] == "failed", 60, "failure")
        assert "deleted and recreated" in status(sink)["last_error"] and numbers(sink) == expected(100)
        sink.query("SELECT basalt.reset_ingestion('numbers', 'earliest')")
    wait_for(sink, 400, timeout=60)
    assert status(sink)["next_offsets"] == {"0": 300}


def test_types_that_only_postgresql_reads(database, kafka, topic):
    database.query(f"CREATE SERVER events FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{kafka.bootstrap}')")
    database.query("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    columns = "ts timestamptz, j jsonb, a text[], i inet, x numeric, m mood, v int[], iv interval, c char(3), d int DEFAULT 7"
    database.query(f"CREATE FOREIGN TABLE numbers ({columns}) SERVER basalt")
    database.query(f"CREATE TABLE heap ({columns})")
    good = {"ts": "2026-01-01T00:00:00+02:00", "j": {"b": 1, "a": [1.50, None, "x"]}, "a": ["p q", None, 'r"s'], "i": "10.0.0.1/8",
            "x": 1.10, "m": "ok", "v": [1, 2], "iv": "1 day 2 hours", "c": "a"}
    kafka.produce(topic, [json.dumps(good), json.dumps(good | {"m": "happy"}), json.dumps(good | {"ts": None, "d": None}),
                          json.dumps({"x": "1e3", "a": "{u,v}"})])
    create(database, topic)
    system.wait_until(lambda: database.query("SELECT count(*) FROM numbers")[0][0] >= 3, 30, "rows")
    database.query("""INSERT INTO heap VALUES
        ('2026-01-01T00:00:00+02:00', '{"b": 1, "a": [1.5, null, "x"]}', ARRAY['p q', NULL, 'r"s'], '10.0.0.1/8', 1.1, 'ok', '{1,2}', '1 day 2 hours', 'a', 7),
        (NULL, '{"b": 1, "a": [1.5, null, "x"]}', ARRAY['p q', NULL, 'r"s'], '10.0.0.1/8', 1.1, 'ok', '{1,2}', '1 day 2 hours', 'a', NULL),
        (NULL, NULL, '{u,v}', NULL, 1000, NULL, NULL, NULL, NULL, 7)""")
    rows = "SELECT r::text FROM {} r ORDER BY 1"
    assert database.query(rows.format("numbers")) == database.query(rows.format("heap"))
    (offset, _, error), = dead_letters(database)
    assert offset == 1 and 'invalid input value for enum public.mood: "happy"' in error


def test_privileges_and_options(sink, kafka, topic):
    create(sink, topic)
    sink.query("CREATE ROLE clerk LOGIN")
    try:
        with sink.connect(user="clerk") as clerk:
            for call in ["basalt.pause_ingestion('numbers')", "basalt.reset_ingestion('numbers', 'earliest')",
                         "basalt.create_ingestion('numbers', 'events', 't', name => 'other')", "basalt.drop_ingestion('numbers')"]:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
                    clerk.execute(f"SELECT {call}")
            assert clerk.execute("SELECT count(*) FROM basalt.ingestion_status").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                clerk.execute("SELECT * FROM basalt.dead_letter")
        sink.query("ALTER FOREIGN TABLE numbers OWNER TO clerk")
        with sink.connect(user="clerk") as clerk:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="foreign server"):
                clerk.execute("SELECT basalt.create_ingestion('numbers', 'events', 't', name => 'other')")
    finally:
        sink.query("ALTER FOREIGN TABLE numbers OWNER TO postgres")
        sink.query("DROP OWNED BY clerk")
        sink.query("DROP ROLE clerk")
    for options, error in [("plugin_library_paths 'x'", "FdwInvalidOptionName"), ("security_protocol 'telnet'", "InvalidParameterValue"),
                           ("group_id 'x'", "FdwInvalidOptionName")]:
        with pytest.raises(getattr(psycopg.errors, error)):
            sink.query(f"CREATE SERVER s FOREIGN DATA WRAPPER basalt_kafka OPTIONS ({options})")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="unknown field"):
        create(sink, topic, offset="x")
    with pytest.raises(psycopg.errors.DuplicateObject, match="already exists"):
        create(sink, topic)


def test_dropped_table_ends_its_ingestion(sink, kafka, topic):
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(10)))
    wait_for(sink, 10)
    sink.query("DROP FOREIGN TABLE numbers")
    system.wait_until(lambda: sink.query("SELECT count(*) FROM basalt.ingestion") == [(0,)], 15, "end of the ingestion")
    assert sink.query("SELECT (SELECT count(*) FROM basalt.ingestion_offset), (SELECT count(*) FROM basalt.segment)") == [(0, 0)]


def test_column_added_while_running(sink, kafka, topic):
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    sink.query("ALTER FOREIGN TABLE numbers ADD COLUMN extra int")
    kafka.produce(topic, (event(n, extra=n) for n in range(100, 200)))
    wait_for(sink, 200)
    assert sink.query("SELECT count(extra), sum(extra) FROM numbers") == [(100, sum(range(100, 200)))]


def test_without_preloading(new_cluster, kafka):
    cluster = new_cluster(shared_preload_libraries="")
    database = cluster.create_database()
    database.query(f"CREATE SERVER events FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{kafka.bootstrap}')")
    database.query(NUMBERS)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as error:
        create(database, "t")
    assert "shared_preload_libraries" in error.value.diag.message_hint


def test_a_locked_table_delays_only_its_own_ingestion(sink, kafka, topic):
    """...and what waits for it takes a bounded amount of memory."""
    other = kafka.create_topic()
    sink.query("CREATE FOREIGN TABLE others (ts timestamptz NOT NULL, n bigint NOT NULL, label text) SERVER basalt")
    sink.query("SELECT basalt.create_ingestion('others', 'events', %s)", (other,))
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(10)))
    kafka.produce(other, (event(n) for n in range(10)))
    wait_for(sink, 10)
    system.wait_until(lambda: sink.value("SELECT count(*) FROM others") == 10, 10, "the others")
    (pid,), = sink.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'basalt ingestion worker' AND datname = current_database()")

    def resident():
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

    before = resident()
    with sink.connect(autocommit=False) as connection:
        connection.execute("ALTER FOREIGN TABLE numbers ADD COLUMN later int")
        # 150 MB of messages for a table that cannot be written.
        kafka.produce(topic, (event(n, padding="x" * 10_000) for n in range(10, 15_010)))
        begun = time.monotonic()
        kafka.produce(other, (event(n) for n in range(10, 20)))
        system.wait_until(lambda: sink.value("SELECT count(*) FROM others") == 20, 10, "the others while one is locked")
        assert time.monotonic() - begun < 5
        system.wait_until(lambda: "lock" in (status(sink, "numbers")["last_error"] or ""), 10, "the reason in ingestion_status")
        time.sleep(2)
        assert resident() - before < 150_000, (before, resident())
        assert status(sink, "others")["lag_messages"] == 0
        connection.commit()
    wait_for(sink, 15_010, timeout=60)
    system.wait_until(lambda: status(sink, "numbers")["last_error"] is None, 10, "the end of the error")


def test_a_flood_of_poison(sink, kafka, topic):
    create(sink, topic)
    kafka.produce(topic, (b"poison" if n % 10 else event(n // 10) for n in range(50_000)))
    wait_for(sink, 5_000, timeout=60)
    system.wait_until(lambda: status(sink)["dead_letters"] == 45_000, 60, "dead letters")


def test_database_as_template(sink, kafka, topic):
    """The workers step aside for CREATE DATABASE ... TEMPLATE and come back."""
    create(sink, topic)
    kafka.produce(topic, (event(n) for n in range(100)))
    wait_for(sink, 100)
    sink.cluster.query(f"CREATE DATABASE copied TEMPLATE {sink.name}")
    try:
        kafka.produce(topic, (event(n) for n in range(100, 200)))
        wait_for(sink, 200)
        # The copy is a database of its own, with an ingestion of its own that goes on from its own offsets.
        system.wait_until(lambda: sink.cluster.query("SELECT count(*) FROM numbers", database="copied") == [(100,)], 10, "copy")
    finally:
        sink.cluster.query("DROP DATABASE copied WITH (FORCE)")
