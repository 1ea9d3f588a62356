"""Copies of a whole cluster: a physical standby, its promotion, a base backup that is started by itself."""

import pytest

from harness.cluster import Cluster
from harness.storage import cache_files, cache_root, orphans
from harness.system import give_to_server, make_directory, wait_until
from harness.twins import Session, attempt, twins_of

ANSWERS = ["SELECT * FROM t", "SELECT count(*), sum(n), count(DISTINCT city) FROM t", "SELECT city, count(*), max(ts) FROM t WHERE ts > '2026-01-02Z' GROUP BY city"]


def fill(twins, first: int, count: int = 100) -> None:
    twins.main.ok(f"INSERT INTO t SELECT '2026-01-01Z'::timestamptz + i * interval '1 hour', i, 'c' || i % 7 FROM generate_series({first}, {first + count - 1}) i")


@pytest.fixture
def primary(new_cluster):
    cluster = new_cluster()
    with twins_of(cluster.create_database()) as twins:
        twins.create("ts timestamptz NOT NULL, n int, city text")
        for first in range(0, 500, 100):
            fill(twins, first)
        yield twins


def database_of(cluster, twins):
    """The same database in another cluster."""
    return type(twins.database)(cluster, twins.database.name)


def agree(database) -> list[tuple]:
    session = Session(database)
    try:
        session.ok(*ANSWERS)
        return session.same()
    finally:
        session.close()


def test_standby_answers_with_an_empty_cache(primary, new_standby):
    follower = new_standby(primary.database.cluster)
    there = database_of(follower, primary)
    primary.database.cluster.wait_for_replay(follower)
    assert not cache_root(follower).exists() or cache_files(there) == [], "base backups skip the cache"
    assert agree(there) == primary.main.same()
    assert len(cache_files(there)) == 5

    # New segments, replaced and merged ones, and DDL arrive.
    fill(primary, 500)
    primary.main.store.execute("SELECT basalt.compact('t')")
    primary.main.ok("ALTER TABLE t ADD extra int DEFAULT 6", "ALTER TABLE t RENAME city TO town", "ALTER TABLE t RENAME town TO city")
    fill(primary, 600)
    primary.main.store.execute("SELECT basalt.replace('t', '2026-01-01Z', '2026-01-02Z', 'SELECT ts, n, city, extra FROM t WHERE ts < ''2026-01-02Z''')")
    primary.database.cluster.wait_for_replay(follower)
    assert agree(there) == primary.main.same()

    # A cursor on the standby keeps its snapshot.
    session = Session(there)
    session.ok("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM t")
    fill(primary, 700)
    primary.database.cluster.wait_for_replay(follower)
    assert session.ok("SELECT count(*) FROM t").value() == "700"
    session.ok("COMMIT")
    assert session.ok("SELECT count(*) FROM t").value() == "800"

    for sql in ("INSERT INTO t (ts) VALUES ('2026-01-01Z')", "TRUNCATE t", "DROP FOREIGN TABLE t",
                "SELECT basalt.compact('t')", "SELECT basalt.replace('t', '2026-01-01Z', '2026-01-02Z', 'SELECT * FROM t')"):
        assert attempt(session.store, sql).sqlstate == "25006", sql
    session.close()


def test_standby_drops_what_the_primary_drops(primary, new_standby):
    follower = new_standby(primary.database.cluster)
    there = database_of(follower, primary)
    primary.database.cluster.wait_for_replay(follower)
    agree(there)
    primary.main.store.execute("SELECT basalt.replace('t', '2026-01-01Z', '2027-01-01Z', 'SELECT * FROM t WHERE n < 10')")
    primary.main.heap.execute("DELETE FROM t WHERE n >= 10")
    primary.database.query("SELECT basalt.sweep()")
    primary.database.cluster.wait_for_replay(follower)
    assert len(agree(there)) == 10
    # Its cache is swept where it is.
    there.query("SELECT basalt.sweep()")
    assert len(cache_files(there)) == 1


def test_promotion(primary, new_standby):
    follower = new_standby(primary.database.cluster)
    there = database_of(follower, primary)
    primary.main.ok("BEGIN", "INSERT INTO t VALUES ('2026-02-01Z', 1, 'prepared')", "PREPARE TRANSACTION '{side}_p'")
    fill(primary, 500)
    primary.database.cluster.wait_for_replay(follower)
    reader = there.connect()
    assert reader.execute("SELECT count(*) FROM store.t").fetchone() == (600,)
    primary.database.cluster.kill()
    follower.query("SELECT pg_promote()")
    wait_until(lambda: follower.query("SELECT NOT pg_is_in_recovery()")[0][0], 60, "promotion")
    assert reader.execute("SELECT count(*) FROM store.t").fetchone() == (600,), "a session goes on over the promotion"
    session = Session(there)
    session.ok("COMMIT PREPARED '{side}_p'", "INSERT INTO t VALUES ('2026-02-01Z', 2, 'after')")
    assert len(session.same()) == 602
    session.store.execute("SELECT basalt.compact('t')")
    session.store.execute("SELECT basalt.sweep()")
    session.ok("ALTER TABLE t ADD extra int DEFAULT 6", *ANSWERS)
    assert len(session.same()) == 602
    assert orphans(there) == []
    reader.close(), session.close()


def test_standby_killed_and_restarted(primary, new_standby):
    follower = new_standby(primary.database.cluster)
    there = database_of(follower, primary)
    for first in range(500, 800, 100):
        fill(primary, first)
        agree_if_there(there)
        follower.kill()
        follower.start()
    primary.database.cluster.wait_for_replay(follower)
    assert agree(there) == primary.main.same()


def agree_if_there(database) -> None:
    """Ask while it replays: any answer will do, an error won't."""
    session = Session(database)
    assert attempt(session.store, "SELECT count(*), sum(n) FROM t").error is None
    session.close()


def test_base_backup_started_by_itself(primary, new_cluster):
    source = primary.database.cluster
    clone = Cluster(source.prefix, make_directory("clone"), config={**source.config, "port": None})
    clone.config |= {"port": clone.port, "unix_socket_directories": clone.socket}
    new_cluster.made.append(clone)
    source.run("pg_basebackup", "-D", clone.data, "--checkpoint=fast", "--wal-method=stream", "--no-sync")
    assert not cache_root(clone).exists()
    clone.configure()
    give_to_server(clone.data)
    clone.start()
    there = database_of(clone, primary)
    assert agree(there) == primary.main.same()
    there.query("INSERT INTO store.t VALUES ('2026-03-01Z', 1, 'clone')")
    there.query("SELECT basalt.sweep()")
    fill(primary, 500)
    assert len(primary.main.same()) == 600
    assert there.value("SELECT count(*) FROM store.t") == 501
