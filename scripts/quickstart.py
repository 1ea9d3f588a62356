"""The work of ./quickstart, which see: run PREFIX | produce BOOTSTRAP TOPIC PARTITIONS | dsn | stop."""

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pg_test"))

import psycopg  # noqa: E402

from harness import flights, system  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.kafka import Kafka  # noqa: E402
from harness.prefix import Prefix  # noqa: E402

DATABASE = "flights"
TOPIC = "flights"
PARTITIONS = 4
TIMEOUT = 900  # seconds until all flights must be queryable
STATE = system.cache_directory() / "quickstart.json"

QUERIES = [
    ("How many flights?", "SELECT count(*) FROM flights"),
    (
        "By month",
        "SELECT date_trunc('month', date) AS month, count(*) AS flights, round(avg(delay), 2) AS avg_delay,\n"
        "       count(*) FILTER (WHERE delay > 60) AS over_an_hour\n"
        "FROM flights GROUP BY 1 ORDER BY 1",
    ),
    (
        "The busiest origins",
        "SELECT origin, count(*) AS flights, sum(distance) AS miles, count(DISTINCT destination) AS destinations\n"
        "FROM flights GROUP BY origin ORDER BY flights DESC, origin LIMIT 10",
    ),
    (
        "The worst delays",
        "SELECT date, origin, destination, delay FROM flights WHERE delay > 1200\n"
        "ORDER BY delay DESC, date, origin, destination LIMIT 10",
    ),
    (
        "Connections of more than 1,000 flights that are 12 minutes late on average",
        "SELECT origin, destination, count(*) AS flights, round(avg(delay), 2) AS avg_delay FROM flights\n"
        "GROUP BY origin, destination HAVING count(*) > 1000 AND avg(delay) > 12\n"
        "ORDER BY 4 DESC, 1, 2 LIMIT 10",
    ),
    (
        "Mornings and evenings from cities that begin with S, in March",
        "SELECT extract(hour FROM date)::int AS hour, count(*) AS flights, round(avg(delay), 2) AS avg_delay FROM flights\n"
        "WHERE origin LIKE 'S%' AND date >= '2001-03-01' AND date < '2001-04-01'\n"
        "GROUP BY 1 HAVING count(*) > 500 ORDER BY avg_delay DESC, 1 LIMIT 8",
    ),
]


# The servers: the state file tells later runs where they are.


def read_state() -> dict:
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def write_state(state: dict) -> None:
    STATE.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(STATE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(state, file)


def start_postgresql(prefix: Prefix, state: dict) -> Cluster:
    directory = Path(state["postgresql"]) if "postgresql" in state else system.make_directory("quickstart")
    config = {
        "fsync": "on", "max_connections": 100, "password_encryption": "scram-sha-256", "shared_buffers": "256MB",
        "max_wal_size": "4GB", "log_line_prefix": "%m [%p] ", "max_prepared_transactions": 0,
    }
    cluster = Cluster(prefix, directory, config, port=state.get("port"))
    if not (cluster.data / "PG_VERSION").exists():
        directory.chmod(0o700)  # the socket asks for no password
        state |= {"postgresql": str(directory), "port": cluster.port, "password": secrets.token_urlsafe(12)}
        cluster.init()
        hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (cluster.data / "pg_hba.conf").write_text(hba)
    else:
        cluster.configure()
    cluster.start()
    cluster.query(psycopg.sql.SQL("ALTER ROLE postgres PASSWORD {}").format(state["password"]))
    return cluster


def start_kafka(state: dict) -> Kafka:
    if "kafka" not in state:
        kafka = Kafka(system.make_directory("quickstart-kafka"))
        kafka.init().start()
        state |= {"kafka": str(kafka.directory), "kafka_ports": [kafka.port, kafka.controller_port]}
    else:
        kafka = Kafka(Path(state["kafka"]))
        kafka.port, kafka.controller_port = state["kafka_ports"]
        kafka.start()
    state["kafka_pid"] = kafka.process.pid
    return kafka


def stop() -> None:
    """End what an earlier run started; the data stay."""
    state = read_state()
    if "postgresql" in state:
        Cluster(Prefix(state["prefix"]), Path(state["postgresql"]), port=state["port"]).stop()
    pid = state.get("kafka_pid")
    if pid and system.is_alive(pid) and state["kafka"] in Path(f"/proc/{pid}/cmdline").read_text():
        system.send_signal(pid, 15)
        system.wait_for_exit([pid], 60, "end of Kafka")
    if state:
        write_state({k: v for k, v in state.items() if k != "kafka_pid"})
    print("stopped")


def dsn(state: dict) -> str:
    return f"postgresql://postgres:{state['password']}@127.0.0.1:{state['port']}/{DATABASE}"


def print_dsn() -> None:
    state = read_state()
    try:
        with psycopg.connect(dsn(state), connect_timeout=5):
            print(dsn(state))
    except (KeyError, psycopg.OperationalError):
        sys.exit("PostgreSQL doesn't run: start it with ./quickstart")


# What is shown


def show_statement(sql: str) -> None:
    print("\n".join("  " + line for line in sql.splitlines()))


def show_table(names: list[str], rows: list[tuple]) -> None:
    numeric = [bool(rows) and all(isinstance(v, (int, float)) or hasattr(v, "as_tuple") for v in c) for c in zip(*rows)]
    numeric += [False] * (len(names) - len(numeric))
    cells = [["" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    for line in [names, ["-" * w for w in widths], *cells]:
        print("    " + "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric)).rstrip())


def create_datasource(connection, bootstrap: str) -> None:
    statements = [
        "CREATE EXTENSION basalt",
        f"CREATE FOREIGN TABLE flights (\n  {flights.COLUMNS}\n) SERVER basalt OPTIONS (time_column 'date', segment_granularity 'month')",
        f"CREATE SERVER events FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers '{bootstrap}')",
        f"SELECT basalt.create_ingestion('flights', server => 'events', topic => '{TOPIC}', format => 'json')",
    ]
    for statement in statements:
        show_statement(statement + ";")
        connection.execute(statement)


def watch(connection, producer: subprocess.Popen) -> float:
    """Query while the flights stream in; returns the seconds until the last one was counted."""
    print("    seconds       flights  lag (messages)  query (ms)   SELECT count(*), avg(delay) FROM flights")
    began = shown = time.monotonic()
    while True:
        asked = time.monotonic()
        count, delay = connection.execute("SELECT count(*), avg(delay) FROM flights").fetchone()
        now = time.monotonic()
        if now - shown >= 1 or count >= flights.ROWS:
            lag, error = connection.execute("SELECT sum(lag_messages), max(last_error) FROM basalt.ingestion_status").fetchone()
            average = "" if delay is None else f"avg delay {delay:.2f}"
            print(f"    {now - began:7.1f}  {count:12,}  {int(lag or 0):14,}  {(now - asked) * 1000:10.1f}   {average}", flush=True)
            shown = now
            if error:
                sys.exit(f"the ingestion reports: {error}")
        if count >= flights.ROWS:
            break
        if producer.poll() not in (None, 0):
            sys.exit("the producer failed")
        if now - began > TIMEOUT:
            sys.exit(f"only {count:,} of {flights.ROWS:,} flights after {TIMEOUT} s; see basalt.ingestion_status")
        time.sleep(0.05)
    producer.wait(60)
    return time.monotonic() - began


def normalize(value):
    """What PostgreSQL and DuckDB return for the same value, made comparable."""
    return float(value) if hasattr(value, "as_tuple") else value


def agree(left: list[tuple], right: list[tuple]) -> bool:
    def same(a, b):
        a, b = normalize(a), normalize(b)
        # avg rounds a numeric in PostgreSQL and a double in DuckDB: a tie may fall on either side.
        return abs(a - b) <= 0.0100001 if isinstance(a, float) and isinstance(b, float) else a == b

    return len(left) == len(right) and all(
        len(l) == len(r) and all(same(a, b) for a, b in zip(l, r)) for l, r in zip(left, right)
    )


def ask(connection, duck) -> int:
    """Run and show the queries; returns how many differ from DuckDB."""
    different = 0
    for title, sql in QUERIES:
        print(f"\n{title}\n")
        show_statement(sql + ";")
        print()
        best = min(timed(lambda: connection.execute(sql).fetchall()) for _ in range(3))
        cursor = connection.execute(sql)
        rows = cursor.fetchall()
        same = agree(rows, duck.execute(sql).fetchall())
        different += not same
        show_table([column.name for column in cursor.description], rows)
        print(f"    {best * 1000:.1f} ms; DuckDB on the Parquet file {'says the same' if same else 'DIFFERS'}")
    return different


def timed(work) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def run(prefix: str) -> None:
    state = read_state()
    state["prefix"] = prefix
    system_began = time.monotonic()
    print("== PostgreSQL and Kafka")
    cluster = start_postgresql(Prefix(prefix), state)
    write_state(state)
    kafka = start_kafka(state)
    write_state(state)
    print(f"    started in {time.monotonic() - system_began:.1f} s")

    # Everything is made anew in a database of its own; other databases of this server are left alone.
    cluster.query(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    if TOPIC in kafka.admin().list_topics(timeout=10).topics:
        kafka.delete_topic(TOPIC)
    kafka.create_topic(TOPIC, PARTITIONS)
    cluster.query(f"CREATE DATABASE {DATABASE} TEMPLATE template0")

    print("\n== A datasource and its ingestion\n")
    with cluster.connect(DATABASE) as connection:
        create_datasource(connection, kafka.bootstrap)
        print("\n== Three million flights through the topic, queried as they come in\n")
        producer = subprocess.Popen([sys.executable, __file__, "produce", kafka.bootstrap, TOPIC, str(PARTITIONS)])
        try:
            seconds = watch(connection, producer)
        finally:
            if producer.poll() is None:
                producer.terminate()
        print(f"    all {flights.ROWS:,} in {seconds:.1f} s: {flights.ROWS / seconds:,.0f} flights a second, produced, ingested and queried on this machine")
        print("\n== Answers")
        different = ask(connection, flights.connect())
        print("\nWhat PostgreSQL leaves to Basalt\n")
        explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + QUERIES[4][1]
        show_statement(explain + ";")
        print()
        print("\n".join("    " + line for (line,) in connection.execute(explain).fetchall()))
    print(f"\n== {len(QUERIES) - different} of {len(QUERIES)} answers equal DuckDB's from the Parquet file")
    print(f"""
Connect with

    psql "$(./quickstart dsn)"

and try \\d flights, SELECT * FROM basalt.ingestion_status, SELECT * FROM basalt.segments. Both servers go on running;
./quickstart stop ends them.""")
    sys.exit(1 if different else 0)


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "run":
        run(*arguments)
    elif command == "produce":
        bootstrap, topic, partitions = arguments
        flights.produce(bootstrap, topic, int(partitions))
    elif command == "dsn":
        print_dsn()
    elif command == "stop":
        stop()


if __name__ == "__main__":
    main()
