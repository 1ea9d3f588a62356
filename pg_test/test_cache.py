"""The segment cache: its files may vanish or rot at any time, and answers stay right."""

import os
import shutil

import pytest

from harness.storage import cache_files, cache_root, orphans
from harness.system import wait_until
from harness.twins import attempt

ANSWER = "SELECT count(*), sum(n), count(DISTINCT city), max(ts), sum(x) FROM t"


@pytest.fixture
def stored(database):
    """A database with a datasource of four segments; and the right answer."""
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int, city text, x float8) SERVER basalt")
    for part in range(4):
        database.query("INSERT INTO t SELECT '2026-01-01Z'::timestamptz + i * interval '1 minute', i, 'c' || (i * 7919) % 5000, sqrt(i) "
                       f"FROM generate_series({part * 5000 + 1}, {part * 5000 + 5000}) i")
    return database, database.query(ANSWER)


def test_files_removed_under_a_running_server(stored):
    database, answer = stored
    with database.connect() as session:
        assert session.execute(ANSWER).fetchall() == answer
        files = cache_files(database)
        assert len(files) == 4
        for file in files:
            file.unlink()
        # The session still has them mapped; another one makes them again.
        assert session.execute(ANSWER).fetchall() == answer
    assert database.query(ANSWER) == answer
    assert cache_files(database) == files
    database.query("SELECT basalt.compact('t')")
    for file in cache_files(database):
        file.unlink()
    assert database.query(ANSWER) == answer
    assert orphans(database) == []


@pytest.mark.parametrize("what", ["root", "database"])
def test_whole_directory_removed(stored, what):
    database, answer = stored
    root = cache_root(database.cluster)
    shutil.rmtree(root if what == "root" else next(root.iterdir()))
    assert database.query(ANSWER) == answer
    shutil.rmtree(root)
    database.query("INSERT INTO t VALUES ('2026-05-01Z', 0, 'c0', 0)")
    assert database.query("SELECT count(*), sum(n) FROM t") == [(answer[0][0] + 1, answer[0][1])]
    with database.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO t VALUES ('2026-05-01Z', 0, 'c0', 0)")
        session.execute("SELECT count(*) FROM t")
        shutil.rmtree(root)
        session.execute("INSERT INTO t VALUES ('2026-05-01Z', 0, 'c0', 0)")
        session.execute("COMMIT")
    assert database.query("SELECT count(*), sum(n) FROM t") == [(answer[0][0] + 3, answer[0][1])]


@pytest.mark.parametrize("length", [0, 1, 7, 100, -1, -100])
def test_truncated_or_longer_files(stored, length):
    """Cut to `length` bytes, or by as many from the end; one is made longer."""
    database, answer = stored
    for file in cache_files(database):
        size = file.stat().st_size
        os.truncate(file, length if length >= 0 else size + length)
    with open(cache_files(database)[0], "ab") as file:
        file.write(b"x" * 10_000_000)
    assert database.query(ANSWER) == answer
    assert database.query(ANSWER) == answer


def test_empty_links_and_directories_in_their_place(stored):
    database, answer = stored
    first, second, third, _ = cache_files(database)
    first.unlink(), second.unlink(), third.unlink()
    first.symlink_to("/dev/zero"), second.symlink_to("/nonexistent"), third.mkdir()
    outcome = attempt(database.connect(), ANSWER)
    # What only an administrator could have put there may be an error, never a wrong answer.
    assert outcome.error is None or outcome.sqlstate in ("58030", "58P01", "42501", "XX001", "42809")


@pytest.mark.parametrize("place", range(8))
def test_rotten_bytes_are_noticed_and_made_again(stored, place):
    """One byte of each file is flipped: the right answer, or an error and then the right answer."""
    database, answer = stored
    for file in cache_files(database):
        content = bytearray(file.read_bytes())
        content[(len(content) - 1) * place // 7] ^= 0x20
        file.write_bytes(content)
    # The second one reads columns that the first leaves alone.
    for query in (ANSWER, "SELECT * FROM t WHERE n = 77"):
        for _ in range(9):
            outcome = attempt(database.connect(), query)
            if outcome.error is None:
                break
            assert outcome.sqlstate == "XX001" and outcome.error.diag.message_hint, outcome.error
    assert database.query(ANSWER) == answer
    assert database.query("SELECT * FROM t WHERE n = 77") == database.query("SELECT * FROM t WHERE n < 78 AND n > 76")


def test_files_of_an_earlier_boot_are_verified(stored):
    """After an operating system's crash a file may have the right length and the wrong contents."""
    database, answer = stored
    files = cache_files(database)
    boot = files[0].parent
    earlier = boot.with_name("11111111-2222-3333-4444-555555555555")
    boot.rename(earlier)
    good, bad = earlier / files[0].name, earlier / files[1].name
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    inode = good.stat().st_ino
    assert database.query(ANSWER) == answer
    assert files[0].stat().st_ino == inode, "a good file is taken over"
    database.query("SELECT basalt.sweep()")
    assert [file.parent for file in cache_files(database)] == [boot] * 4


@pytest.fixture
def cache_directory(stored):
    """Sets basalt.cache_directory until the test ends."""
    cluster = stored[0].cluster

    def change(value):
        cluster.query(f"ALTER SYSTEM SET basalt.cache_directory = '{value}'")
        cluster.reload()
        wait_until(lambda: cluster.query("SHOW basalt.cache_directory") == [(str(value),)], 30, "reload")

    yield change
    cluster.query("ALTER SYSTEM RESET basalt.cache_directory")
    cluster.reload()
    wait_until(lambda: cluster.query("SHOW basalt.cache_directory") == [("pgsql_tmp_basalt",)], 30, "reload")


def test_a_directory_that_can_not_be_written(stored, cache_directory):
    database, _ = stored
    cache_directory("/proc/nowhere")
    with database.connect() as session:
        for sql in (ANSWER, "INSERT INTO t VALUES ('2026-01-01Z', 1, 'x', 1)"):
            error = attempt(session, sql).error
            assert error is not None and error.sqlstate in ("58030", "42501", "58P01"), error
            assert "/proc/nowhere" in error.diag.message_primary


def test_another_directory(stored, cache_directory):
    database, answer = stored
    elsewhere = database.cluster.directory / "elsewhere"
    cache_directory(elsewhere)
    assert database.query(ANSWER) == answer
    assert len([name for _, _, names in os.walk(elsewhere) for name in names]) == 4
    assert elsewhere.stat().st_mode & 0o077 == 0


def test_damage_in_the_catalog_is_an_error(stored):
    """Bytes that rotted in the segments' home are never used."""
    database, answer = stored
    with database.connect() as session:
        session.execute("UPDATE basalt.segment_data SET bytes = set_byte(bytes, 500, get_byte(bytes, 500) # 1)")
    assert database.query(ANSWER) == answer, "the cache still has them"
    shutil.rmtree(cache_root(database.cluster))
    assert attempt(database.connect(), ANSWER).sqlstate == "XX001"
    database.query("DELETE FROM basalt.segment_data")
    assert attempt(database.connect(), ANSWER).sqlstate == "XX001"


def test_cache_files_are_the_servers_alone(stored):
    database, _ = stored
    for file in cache_files(database):
        assert file.parent.stat().st_mode & 0o077 == 0


EXACT = "SELECT count(*), sum(n), count(DISTINCT city), max(ts), max(x) FROM t"
ROWS = "SELECT '2026-01-01Z'::timestamptz + i * interval '1 minute', i, md5(i::text), sqrt(i) FROM generate_series({0} * 5000 + 1, {0} * 5000 + 5000) i"


def test_size_limit(new_cluster):
    """A table several times as large as the cache: right answers, and the files that are left fit."""
    cluster = new_cluster(**{"basalt.cache_limit": "1MB", "basalt.maintenance": "off"})
    database = cluster.create_database()
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int, city text, x float8) SERVER basalt; CREATE TABLE h (LIKE t)")
    for part in range(24):
        database.query(f"INSERT INTO t {ROWS.format(part)}")
        database.query(f"INSERT INTO h {ROWS.format(part)}")
    stored = database.value("SELECT sum(bytes) FROM basalt.segments")
    assert stored > 2 << 20
    for _ in range(2):
        with database.connect() as session:
            for threads in (1, 2):
                session.execute(f"SET basalt.max_threads = {threads}")
                for query in (EXACT, "SELECT n, city FROM t WHERE n % 1000 = 7 ORDER BY n", "SELECT min(city) FROM t WHERE n > 118000"):
                    assert session.execute(query).fetchall() == session.execute(query.replace("FROM t", "FROM h")).fetchall()
            assert sum(f.stat().st_size for f in cache_files(database)) <= 1 << 20
    database.query("SELECT basalt.compact('t')")
    assert database.query(EXACT) == database.query(EXACT.replace("FROM t", "FROM h"))
    assert orphans(database) == []


def test_least_recently_used_files_go_first(new_cluster):
    cluster = new_cluster(**{"basalt.cache_limit": "1MB", "basalt.maintenance": "off"})
    database = cluster.create_database()
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int, city text, x float8) SERVER basalt")
    made, parts = [], 0
    while sum(f.stat().st_size for f in made) < 800_000:
        database.query(f"INSERT INTO t {ROWS.format(parts)}")
        made += [f for f in cache_files(database) if f not in made]
        parts += 1
    for hours, file in zip(range(parts, 0, -1), made):
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - hours * 3600))
    # A use counts, in another session than the one that wrote it.
    with database.connect() as other:
        assert other.execute("SELECT count(*) FROM t WHERE n <= 5000 AND city <> ''").fetchone() == (5000,)
    while made[1].exists() and parts < 30:
        database.query(f"INSERT INTO t {ROWS.format(parts)}")
        parts += 1
    assert made[0].exists() and not made[1].exists() and made[-1].exists()
    assert database.value("SELECT count(*) FROM t") == 5000 * parts


def test_reserve_of_disk_space(new_cluster):
    """Nothing is written where too little would be left free, what can be removed is, and what is mapped stays readable."""
    cluster = new_cluster(**{"basalt.maintenance": "off"})
    database = cluster.create_database()
    database.query("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, n int, city text, x float8) SERVER basalt")
    database.query(f"INSERT INTO t {ROWS.format(0)}")
    with database.connect() as session:
        assert session.execute("SELECT count(*), sum(n) FROM t").fetchone() == (5000, 12502500)
        cluster.query("ALTER SYSTEM SET basalt.cache_reserve = '1000TB'")
        cluster.reload()
        wait_until(lambda: session.execute("SHOW basalt.cache_reserve").fetchone() == ("1000TB",), 10, "new setting")
        error = attempt(session, "INSERT INTO t VALUES (now(), 1, 'x', 1)")
        assert error.sqlstate == "53100" and "basalt.cache_reserve" in str(error)
        assert cache_files(database) == []
        assert session.execute("SELECT count(*), sum(n) FROM t").fetchone() == (5000, 12502500)
        with database.connect() as other:
            assert attempt(other, "SELECT sum(n) FROM t").sqlstate == "53100"
        cluster.query("ALTER SYSTEM RESET basalt.cache_reserve")
        cluster.reload()
        wait_until(lambda: session.execute("SHOW basalt.cache_reserve").fetchone() == ("1GB",), 10, "old setting")
        session.execute("INSERT INTO t VALUES ('2026-06-01Z', 1, 'x', 1)")
    assert database.query("SELECT count(*), sum(n) FROM t") == [(5001, 12502501)]
