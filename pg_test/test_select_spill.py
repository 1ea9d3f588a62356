"""Grouping by more keys than `basalt.query_memory_limit` holds: groups go to temporary files, answers stay the same."""

import pytest

from both import Both

COLUMNS = "i bigint, k bigint, x text COLLATE \"C\", n int, m numeric(12,2), f float8"
ROWS = """
SELECT i, (i * 7919 % {keys}) * 1000003, 'key ' || i * 31 % {keys}, (i % 1000)::int, (i % 977) / 4.0, i % 64 / 8.0
FROM generate_series(1::bigint, {rows}) i
"""


def make(session_cluster, keys, rows):
    database = session_cluster.create_database()
    both = Both(database, COLUMNS)
    both.insert(ROWS.format(keys=keys, rows=rows), segments=3)
    both.execute("ANALYZE heap.t")
    return database, both


@pytest.fixture(scope="module")
def both(session_cluster):
    database, both = make(session_cluster, 150_000, 240_000)
    yield both
    both.connection.close()
    database.drop()


# Folded aggregates, grouping sets, sets of distinct values; the last ones of few groups, or one, whose values are many.
DIVIDED = [
    "SELECT k, string_agg(x, ',' ORDER BY i), array_agg(n ORDER BY i), percentile_disc(0.5) WITHIN GROUP (ORDER BY m) FROM {t} GROUP BY k",
    "SELECT k, n % 3, count(*), mode() WITHIN GROUP (ORDER BY n) FROM {t} WHERE i % 2 = 0 GROUP BY ROLLUP (k, 2)",
    "SELECT k, n, count(*), sum(m), stddev(f), corr(f, n) FROM {t} GROUP BY CUBE (k, n)",
    "SELECT k, m, grouping(k, m), count(*), count(DISTINCT i) FROM {t} WHERE i < 100000 GROUP BY GROUPING SETS ((k), (m), ())",
    "SELECT count(DISTINCT k), count(DISTINCT i), sum(n) FROM {t}",
    "SELECT count(DISTINCT i) FILTER (WHERE n > 10), count(*), count(DISTINCT n) FROM {t}",
    "SELECT n % 4, count(DISTINCT k), count(DISTINCT i) FILTER (WHERE i % 3 = 0), avg(m) FROM {t} GROUP BY 1",
    "SELECT n % 4 AS r, count(DISTINCT i) FROM {t} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 2",
    "SELECT md5(string_agg(i::text, ',' ORDER BY i)), percentile_cont(0.3) WITHIN GROUP (ORDER BY k) FROM {t}",
    "SELECT n % 3, md5(string_agg(i::text, ',' ORDER BY i)), percentile_disc(0.9) WITHIN GROUP (ORDER BY i) FROM {t} GROUP BY 1",
    "SELECT n % 3, m, percentile_disc(0.9) WITHIN GROUP (ORDER BY i) FROM {t} GROUP BY ROLLUP (1, 2)",
    "SELECT (SELECT count(*) FROM (SELECT k, mode() WITHIN GROUP (ORDER BY n) FROM {t} WHERE n > v.n GROUP BY k) g) FROM (VALUES (1), (300), (900)) v (n)",
]

QUERIES = [
    "SELECT k, count(*), sum(m), min(n), max(i), avg(n), sum(f) FROM {t} GROUP BY k",
    "SELECT x, n % 2, count(*) FROM {t} GROUP BY 1, 2",
    "SELECT x, count(*), count(DISTINCT n) FROM {t} WHERE i % 3 <> 0 GROUP BY x",
    "SELECT k, sum(m) FROM {t} GROUP BY k HAVING count(*) > 1",
    "SELECT x, sum(m) FROM {t} GROUP BY x ORDER BY 2 DESC, 1 LIMIT 50",
    "SELECT count(*), sum(c), min(k), max(s) FROM (SELECT k, count(*) AS c, sum(m) AS s FROM {t} GROUP BY k) g",
    "SELECT n, (SELECT count(*) FROM (SELECT k FROM {t} WHERE n > v.n GROUP BY k) g) FROM (VALUES (1), (300), (900)) v (n)",
]


def spilled(both):
    return both.execute("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()").fetchone()[0]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("query", QUERIES)
def test_answers_are_the_same(both, query, threads):
    both.execute(f"SET basalt.query_memory_limit = '8MB'; SET basalt.max_threads = {threads}")
    both.same(query, ordered="ORDER BY" in query)
    both.execute("RESET ALL")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("query", DIVIDED)
def test_folds_and_sets_are_divided_too(both, query, threads):
    both.execute(f"SET basalt.query_memory_limit = '8MB'; SET basalt.max_threads = {threads}")
    both.pushed(query, ordered="ORDER BY 2" in query)
    both.execute("RESET ALL")


def test_files_are_counted_and_limited(both):
    query = "SELECT count(*) FROM (SELECT k, sum(m) FROM store.t GROUP BY k) g"
    both.execute("SET basalt.query_memory_limit = '8MB'; SET temp_file_limit = '1MB'")
    with pytest.raises(Exception, match="temporary file size exceeds temp_file_limit"):
        both.execute(query)
    both.execute("SET temp_file_limit = '1GB'; SET log_temp_files = 0; SET client_min_messages = log")
    said = []
    handler = lambda message: said.append(message.message_primary)
    both.connection.add_notice_handler(handler)
    assert both.execute(query).fetchone() == (150_000,)
    both.connection.remove_notice_handler(handler)
    both.execute("RESET ALL")
    assert any("temporary file" in message for message in said), said


def test_groups_that_fit_write_nothing(both):
    """More than half of the limit is in use, and the first groups are few."""
    query = "SELECT k, sum(m) FROM store.t GROUP BY k ORDER BY 2 DESC, 1 LIMIT 50"
    for limit, spills in (("8MB", True), ("18MB", False)):
        both.execute(f"SET basalt.query_memory_limit = '{limit}'; SET basalt.max_threads = 1")
        plan = both.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}").fetchone()[0][0]["Plan"]
        assert (plan["Temp Written Blocks"] > 0) == spills, limit
        both.same(query.replace("store.t", "{t}"), ordered=True)
    both.execute("RESET ALL")


def test_a_cursor_ends_early(both):
    both.execute("SET basalt.query_memory_limit = '8MB'")
    with both.connection.transaction():
        both.execute("DECLARE c CURSOR FOR SELECT k, sum(m) FROM store.t GROUP BY k")
        assert len(both.execute("FETCH 1000 FROM c").fetchall()) == 1000
        both.execute("CLOSE c")
    both.execute("RESET ALL")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_ten_million_keys(session_cluster):
    database, both = make(session_cluster, 10_000_000, 10_000_000)
    for threads in (1, 2):
        both.execute(f"SET basalt.query_memory_limit = '8MB'; SET basalt.max_threads = {threads}")
        both.same("SELECT count(*), sum(c), min(k), max(s) FROM (SELECT k, count(*) AS c, sum(m) AS s FROM {t} GROUP BY k) g")
        both.same("SELECT count(DISTINCT k) FROM {t}")
        both.same("SELECT count(*), min(k), max(k), sum(k) FROM (SELECT DISTINCT k FROM {t}) d")
    both.connection.close()
    database.drop()
