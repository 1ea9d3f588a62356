"""ORDER BY with LIMIT over a pushed aggregation: the engine gives the first groups only."""

import re

import pytest


# Bounded: what the engine may leave out.
BOUNDED = """
SELECT n, count(*) FROM {t} GROUP BY n ORDER BY 2 DESC, 1 LIMIT 5
SELECT n, sum(b), avg(m), min(f) FROM {t} GROUP BY n ORDER BY 2 DESC NULLS LAST, 1 LIMIT 7 OFFSET 3
SELECT n, avg(m) AS a FROM {t} GROUP BY n ORDER BY a, n NULLS FIRST LIMIT 10
SELECT n, v, max(ts) FROM {t} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 FETCH FIRST 4 ROWS ONLY
SELECT n, count(DISTINCT x) FROM {t} GROUP BY n ORDER BY 2 DESC, n DESC LIMIT 3
SELECT m, count(*) FILTER (WHERE ok) FROM {t} GROUP BY m ORDER BY 2 DESC NULLS LAST, 1 NULLS FIRST LIMIT 12
SELECT n, count(*) FROM {t} GROUP BY n ORDER BY count(*) DESC FETCH FIRST 2 ROWS WITH TIES
SELECT n, round(avg(m), 1) FROM {t} GROUP BY n ORDER BY sum(s), n LIMIT 9
SELECT n FROM {t} GROUP BY n ORDER BY n DESC NULLS LAST LIMIT 1
SELECT DISTINCT n FROM {t} ORDER BY n LIMIT 6
SELECT DISTINCT v, n FROM {t} ORDER BY n DESC, v LIMIT 6 OFFSET 2
SELECT f, count(*) FROM {t} GROUP BY f ORDER BY f DESC LIMIT 8
SELECT n, count(*) FROM {t} GROUP BY n ORDER BY 1 LIMIT 0
SELECT n, count(*) FROM {t} GROUP BY n ORDER BY 1 LIMIT (SELECT 3)
SELECT x, count(*) FROM {t} GROUP BY x ORDER BY x COLLATE "C" LIMIT 3
SELECT * FROM (SELECT n, sum(b) AS q FROM {t} GROUP BY n ORDER BY q DESC, n LIMIT 4) s JOIN (SELECT 1 AS one) o ON true
"""
# Rows: the first by a column of numbers or times.
BOUNDED_ROWS = """
SELECT i, n, x FROM {t} ORDER BY n DESC NULLS LAST, i LIMIT 5
SELECT i, ts FROM {t} ORDER BY ts, i LIMIT 7 OFFSET 3
SELECT i, ts, x FROM {t} WHERE x LIKE 'A%' ORDER BY ts DESC, i DESC LIMIT 4
SELECT i, f FROM {t} ORDER BY f DESC, i LIMIT 9
SELECT i, m FROM {t} WHERE n > 10 ORDER BY m NULLS FIRST, i FETCH FIRST 5 ROWS ONLY
SELECT n FROM {t} ORDER BY n FETCH FIRST 2 ROWS WITH TIES
SELECT i, round(m, 1), t FROM {t} ORDER BY d DESC NULLS LAST, i LIMIT 3
SELECT i FROM {t} ORDER BY b LIMIT 0
SELECT count(*), sum(i) FROM (SELECT i FROM {t} ORDER BY i DESC LIMIT 25) s
SELECT i FROM {t} WHERE 1 = (SELECT 1) ORDER BY i LIMIT 3
SELECT i, x FROM {t} ORDER BY x, i LIMIT 5
SELECT i, x FROM {t} ORDER BY x DESC NULLS LAST, i LIMIT 50 OFFSET 5
SELECT i, x FROM {t} WHERE n > 5 ORDER BY x NULLS FIRST, i LIMIT 400
SELECT i, t FROM {t} ORDER BY t COLLATE "C" DESC, i LIMIT 7
SELECT i, v, x FROM {t} WHERE x > 'B' ORDER BY v COLLATE "C", x, i LIMIT 20
SELECT i, g FROM {t} ORDER BY g DESC, i LIMIT 9
SELECT i, y FROM {t} WHERE s > 0 ORDER BY y DESC NULLS LAST, i LIMIT 3
SELECT i, x, t, v FROM {t} WHERE x LIKE 'A%' ORDER BY x, i LIMIT 12
"""
# All rows are needed, or the order is not the engine's.
WHOLE_ROWS = """
SELECT i, t FROM {t} ORDER BY t, i LIMIT 5
SELECT i, c FROM {t} ORDER BY c, i LIMIT 5
SELECT i, 100 / (n - 1000000) FROM {t} ORDER BY i LIMIT 2
SELECT i FROM {t} WHERE i + n > 300 AND t ~ 'a' AND md5(x || t) <> '' ORDER BY i LIMIT 2
SELECT DISTINCT ON (n) n, i FROM {t} ORDER BY n, i LIMIT 4
SELECT i, row_number() OVER (ORDER BY i DESC) FROM {t} ORDER BY i LIMIT 4
SELECT a.i FROM {t} a JOIN {t} b ON a.i = b.i ORDER BY a.i LIMIT 4
SELECT i FROM {t} ORDER BY i + 1 LIMIT 4
SELECT i FROM {t} UNION ALL SELECT i FROM {t} ORDER BY i LIMIT 4
"""
# All groups are needed, or the order is not the engine's.
WHOLE = """
SELECT n, count(*) FROM {t} GROUP BY n HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 5
SELECT n, rank() OVER (ORDER BY count(*) DESC, n) FROM {t} GROUP BY n ORDER BY n LIMIT 5
SELECT DISTINCT count(*) FROM {t} GROUP BY n ORDER BY 1 LIMIT 5
SELECT n, 100 / (count(*) - 1000000) FROM {t} GROUP BY n ORDER BY n LIMIT 2
SELECT e, count(*) FROM {t} GROUP BY e ORDER BY e LIMIT 2
SELECT x COLLATE "en-x-icu", count(*) FROM {t} GROUP BY 1 ORDER BY 1 LIMIT 3
SELECT n, count(*) FROM {t} GROUP BY n ORDER BY n LIMIT ALL
SELECT n, generate_series(1, 2) FROM {t} GROUP BY n ORDER BY n, 2 LIMIT 3
"""


def is_bounded(both, query):
    return "Pushed Limit" in both.plan(query)


@pytest.mark.parametrize("query", (BOUNDED + BOUNDED_ROWS[1:]).strip().splitlines())
def test_bounded(both, query):
    both.same(query, ordered="WITH TIES" not in query)
    if "COLLATE" not in query or query in BOUNDED_ROWS:
        assert is_bounded(both, query), both.plan(query)


@pytest.mark.parametrize("query", (WHOLE + WHOLE_ROWS[1:]).strip().splitlines())
def test_whole(both, query):
    both.same(query, ordered=True)
    assert not is_bounded(both, query) or "LIMIT ALL" in query, both.plan(query)


def test_only_the_first_groups_become_tuples(both):
    plan = both.plan("SELECT n, count(*) FROM {t} GROUP BY n ORDER BY n LIMIT 3", "ANALYZE, TIMING OFF, COSTS OFF")
    [scan] = [line for line in plan.splitlines() if "Foreign Scan" in line]
    assert "rows=3 " in scan, plan


def test_parameters(both):
    for limit, offset in [(3, 0), (None, 2), (0, 0), (2, 1)]:
        rows = []
        for table in ("heap.t", "store.t"):
            with both.connection.transaction(force_rollback=True):
                both.connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                both.connection.execute(f"PREPARE q(bigint, bigint) AS SELECT n, sum(b) FROM {table} GROUP BY n ORDER BY 2 DESC NULLS LAST, 1 LIMIT $1 OFFSET $2")
                values = ", ".join("NULL" if v is None else str(v) for v in (limit, offset))
                rows.append(both.connection.execute(f"EXECUTE q({values})").fetchall())
                both.connection.execute("DEALLOCATE q")
        assert rows[0] == rows[1]
    for table in ("heap.t", "store.t"):
        with pytest.raises(Exception, match="LIMIT must not be negative"):
            with both.connection.transaction():
                both.connection.execute(f"SELECT n FROM {table} GROUP BY n ORDER BY n LIMIT -1")


def test_only_the_first_rows_become_tuples(both):
    plan = both.plan("SELECT * FROM {t} ORDER BY i DESC LIMIT 3", "ANALYZE, TIMING OFF, COSTS OFF")
    [rows] = re.findall(r"Foreign Scan.*rows=(\d+) ", plan)
    # A segment gives no more than three, and only while they beat what came before.
    assert 3 <= int(rows) <= 3 * 7, plan


# Any groups will do: how many come is determined, and each of them is one of all.
@pytest.mark.parametrize("query, limit", [
    ("SELECT n, count(*) FROM {t} GROUP BY n", 7),
    ("SELECT n, x, sum(b) FROM {t} GROUP BY n, x", 40),
    ("SELECT DISTINCT v, n FROM {t}", 9),
    # All tie.
    ("SELECT i, count(*) AS c FROM {t} GROUP BY i ORDER BY c DESC", 12),
    ("SELECT i, n, count(*) AS c, min(m) FROM {t} GROUP BY i, n ORDER BY c", 3),
])
def test_groups_that_tie(both, query, limit):
    everything = both.answer("heap", query)
    both.execute("SET basalt.require_pushdown = on")
    some = both.answer("store", f"{query} LIMIT {limit}")
    both.execute("RESET basalt.require_pushdown")
    assert len(some) == limit and len({repr(row) for row in some}) == limit
    assert {repr(row) for row in some} <= {repr(row) for row in everything}
    plan = both.plan(f"{query} LIMIT {limit}", "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF")
    [scan] = [line for line in plan.splitlines() if "Foreign Scan" in line]
    assert f"rows={limit} " in scan, plan
