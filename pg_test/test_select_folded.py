"""Aggregates that PostgreSQL computes from the distinct values that the engine counts, and grouping sets, against a heap table."""

import pytest


AGGREGATES = """
string_agg(x, ',' ORDER BY x, i)
string_agg(x, t ORDER BY i)
string_agg(DISTINCT v, '|')
string_agg(v, '|' ORDER BY v) FILTER (WHERE n > 400)
string_agg(y, '\\x00'::bytea ORDER BY i)
array_agg(n ORDER BY i)
array_agg(n ORDER BY n DESC NULLS LAST)
array_agg(DISTINCT s)
array_agg(f ORDER BY i)::text
string_agg(f::text, ',' ORDER BY i) FILTER (WHERE f < 1)
array_agg(r ORDER BY r, i)::text
array_agg(DISTINCT e ORDER BY e DESC)
array_agg(a ORDER BY i) FILTER (WHERE a IS NOT NULL AND k = '10.0.1.1')
array_agg(j ORDER BY i) FILTER (WHERE i < 50)
array_agg(c ORDER BY c, i)
json_agg(v ORDER BY i)
jsonb_object_agg(v, s ORDER BY i)
percentile_cont(0.5) WITHIN GROUP (ORDER BY n)
percentile_cont(ARRAY[0, 0.25, 0.9]) WITHIN GROUP (ORDER BY r) FILTER (WHERE r > 0 AND r < 300)
percentile_cont(0.3) WITHIN GROUP (ORDER BY m)::numeric(20,6)
percentile_disc(0.5) WITHIN GROUP (ORDER BY x)
percentile_disc(ARRAY[0.1, 0.5, 1]) WITHIN GROUP (ORDER BY d)::text
percentile_disc(0.75) WITHIN GROUP (ORDER BY t COLLATE "C" DESC)
mode() WITHIN GROUP (ORDER BY v)
mode() WITHIN GROUP (ORDER BY e DESC)
mode() WITHIN GROUP (ORDER BY k)
rank(5) WITHIN GROUP (ORDER BY n)
dense_rank(0, 'v3') WITHIN GROUP (ORDER BY s, v)
percent_rank(5) WITHIN GROUP (ORDER BY n)
cume_dist(5) WITHIN GROUP (ORDER BY n)
count(DISTINCT (s, v))
count(DISTINCT (s, x)) FILTER (WHERE ok)
count(DISTINCT c)
count(DISTINCT j)
count(DISTINCT u)
count(DISTINCT upper(x))
count(n + 1)
sum(DISTINCT n)
sum(DISTINCT m)
avg(DISTINCT s)
sum(DISTINCT f) FILTER (WHERE f > -1000 AND f < 1000)
sum(u) FILTER (WHERE u < 'Infinity')
avg(u) FILTER (WHERE u < 5)
sum(w)
sum(n + s)
sum(n * m)
avg(CASE WHEN ok THEN n ELSE s END)
sum(length(x))
sum(tl - '2010-01-01')
avg(ts - '2010-01-01')
min(c)
max(u)
min(trim_scale(u))
max(k)
min(k)
min(a)
max(a)
max(e)
min(e)
min(x || t)
max(abs(n))
bit_and(n)
bit_or(s)
bit_xor(b)
bool_and(n > 5)
bool_or(v LIKE 'v1%')
every(ok IS NOT NULL)
stddev(u) FILTER (WHERE u < 100)
regr_count(n, s)
sum(1)
count(DISTINCT 1)
array_agg(1) FILTER (WHERE n > 480)
sum(n) FILTER (WHERE n > s)
count(*) FILTER (WHERE n > s)
max(n) FILTER (WHERE x > t COLLATE "C")
range_agg(int4range(s, s + 2))
xmlagg(xmlelement(name a, v) ORDER BY i)::text
""".strip().splitlines()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates(both, aggregate):
    both.pushed(f"SELECT {aggregate} FROM {{t}}")
    both.pushed(f"SELECT {aggregate}, count(*) FROM {{t}} WHERE n > 100 AND x IS NOT NULL")
    both.pushed(f"SELECT {aggregate} FROM {{t}} WHERE n = 123456")
    both.pushed(f"SELECT s, {aggregate}, sum(n) FROM {{t}} GROUP BY s")
    both.pushed(f"SELECT v, ok, {aggregate} FROM {{t}} WHERE i > 7 GROUP BY v, ok ORDER BY v, ok", ordered=True)
    both.pushed(f"SELECT date_trunc('day', ts), {aggregate} FROM {{t}} GROUP BY 1")
    both.pushed(f"SELECT {aggregate} FROM {{t}} GROUP BY e HAVING count(*) > 900")
    both.pushed(f"SELECT e, s, grouping(e, s), {aggregate}, count(*) FROM {{t}} WHERE n % 5 = 0 GROUP BY CUBE (e, s)")
    plan = both.plan(f"SELECT s, {aggregate} FROM {{t}} GROUP BY s")
    assert plan.startswith("Foreign Scan") and "->" not in plan, plan


def test_many_of_them_at_once(both):
    both.pushed("""SELECT e, count(DISTINCT n), count(DISTINCT (n, s)), sum(DISTINCT n), avg(DISTINCT m), string_agg(DISTINCT v, ',' ORDER BY v), count(DISTINCT x) FILTER (WHERE ok),
        array_agg(DISTINCT n), max(u), array_agg(v ORDER BY i) FILTER (WHERE i < 20), count(*), sum(b), max(x) FROM {t} GROUP BY e""")
    both.pushed("SELECT v, array_agg(i ORDER BY i) FROM {t} GROUP BY v HAVING string_agg(x, ',' ORDER BY i) > 'B' AND count(DISTINCT (s, e)) > 10")
    both.pushed("SELECT count(*) FROM (SELECT i, array_agg(x ORDER BY x), max(t || v) FROM {t} GROUP BY i) q")
    both.pushed("SELECT i, array_agg(x ORDER BY x), max(t || v), string_agg(v, 'z') FROM {t} GROUP BY i")


SETS = """
SELECT v, s, count(*) FROM {t} GROUP BY ROLLUP (v, s)
SELECT v, s, e, grouping(v, s, e), grouping(e), sum(n), avg(m), count(DISTINCT x) FROM {t} GROUP BY CUBE (v, s, e)
SELECT v, s, count(*), min(x), max(t) FROM {t} GROUP BY GROUPING SETS ((v), (s), ())
SELECT v, s, e, sum(f), sum(r) FROM {t} WHERE r < 100 AND f < 100 AND f > -200 GROUP BY GROUPING SETS ((v, s), (s, e), (e))
SELECT v, count(*) FROM {t} WHERE n = 123456 GROUP BY ROLLUP (v)
SELECT v, count(*), sum(n) FROM {t} WHERE n = 123456 GROUP BY GROUPING SETS ((v), (), ())
SELECT count(*) FROM {t} GROUP BY ()
SELECT count(*) FROM {t} GROUP BY GROUPING SETS ((), ())
SELECT v, count(*) FROM {t} GROUP BY GROUPING SETS ((v), (v))
SELECT v, s, count(*) FROM {t} GROUP BY v, ROLLUP (s)
SELECT v, s, count(*) FROM {t} GROUP BY ROLLUP (v), CUBE (s, e)
SELECT v, s, count(*) FROM {t} GROUP BY DISTINCT ROLLUP (v, s), ROLLUP (v, e)
SELECT date_trunc('month', ts), v, sum(n) FROM {t} GROUP BY ROLLUP (date_trunc('month', ts), v)
SELECT coalesce(v, 'total'), sum(n) * 2 FROM {t} GROUP BY ROLLUP (v) HAVING sum(n) IS NOT NULL
SELECT v, sum(n) FROM {t} GROUP BY ROLLUP (v) HAVING v IS NULL
SELECT v, sum(n) FROM {t} GROUP BY ROLLUP (v) HAVING grouping(v) = 0 AND count(*) > 70
SELECT s, max(ts), max(d)::text FROM {t} GROUP BY ROLLUP (s) ORDER BY s NULLS FIRST, 2, 3
SELECT v, s, count(*), sum(count(*)) OVER (PARTITION BY grouping(v)) FROM {t} GROUP BY ROLLUP (v, s)
SELECT sum(c) FROM (SELECT v, e, count(*) c FROM {t} GROUP BY CUBE (v, e)) q
SELECT v FROM {t} GROUP BY ROLLUP (v)
SELECT 'x', v FROM {t} GROUP BY CUBE (v)
SELECT v || s, v, s FROM {t} GROUP BY CUBE (v, s)
SELECT w, m, f, r, b, count(*), sum(w::numeric(28,4)) FROM {t} WHERE abs(w) < 1e20 GROUP BY GROUPING SETS ((w), (m), (f), (r), (b))
SELECT x, t, avg(n), min(x), bool_and(ok), max(t) FROM {t} GROUP BY ROLLUP (x, t)
SELECT DISTINCT s, count(*) FROM {t} GROUP BY ROLLUP (s, v)
SELECT s, string_agg(v, ',' ORDER BY v), array_agg(DISTINCT e) FROM {t} GROUP BY GROUPING SETS ((s), (e), (s, e), ())
""".strip().splitlines()


@pytest.mark.parametrize("query", SETS)
def test_grouping_sets(both, query):
    both.pushed(query, ordered="ORDER BY s" in query)
    assert both.plan(query).count("Foreign Scan") == 1


def test_explain_of_sets(both):
    plan = both.plan("SELECT v, s, count(*), max(u) FROM {t} GROUP BY ROLLUP (v, s)", "VERBOSE, COSTS OFF")
    assert "Pushed Grouping Sets: (t.v, t.s), (t.v), ()" in plan or "Pushed Grouping Sets: (), (t.v), (t.v, t.s)" in plan, plan
    assert "distinct values of 1 columns and their counts" in plan and "Pushed Aggregates: count(*), max(t.u)" in plan, plan


REFUSED = [
    ("SELECT count(DISTINCT q) FROM {t} q", "whole row"),
    ("SELECT sum(n + random()) FROM {t}", "volatile"),
    ("SELECT sum((SELECT max(i) FROM {t} q WHERE q.n = o.n)) FROM {t} o", "subquery"),
    ("SELECT s, percentile_disc((s + 60) / 200.0) WITHIN GROUP (ORDER BY n) FROM {t} GROUP BY s", "direct argument"),
    ("SELECT count(tableoid) FROM {t}", "system column"),
]


@pytest.mark.parametrize("query, reason", REFUSED)
def test_refused_with_a_reason_and_right(both, query, reason):
    if "random" not in query and "tableoid" not in query:
        both.same(query)
    assert reason in both.reason(query)


def test_in_cursors_rescans_and_parameters(both):
    both.pushed("SELECT q, (SELECT string_agg(v, ',' ORDER BY i) FROM {t} WHERE n = q) FROM generate_series(-5, 5) q")
    both.pushed("SELECT q, (SELECT string_agg(v || q, ',' ORDER BY i) FROM {t} WHERE n = 5) FROM generate_series(-5, 5) q")
    both.pushed("SELECT q, l.* FROM generate_series(1, 3) q LEFT JOIN (SELECT e, mode() WITHIN GROUP (ORDER BY n) FROM {t} GROUP BY e) l ON true")
    both.pushed("SELECT percentile_disc((SELECT 0.5)) WITHIN GROUP (ORDER BY n), string_agg(v, (SELECT ';') ORDER BY i) FROM {t}")
    both.execute("SET plan_cache_mode = force_generic_plan")
    for schema in ("heap", "store"):
        both.execute(f"PREPARE f_{schema}(float8, text) AS SELECT s, percentile_cont($1) WITHIN GROUP (ORDER BY n), string_agg(v, $2 ORDER BY i), max(n + length($2)) FROM {schema}.t GROUP BY s ORDER BY s")
    for arguments in ("0.1, ','", "0.9, ''", "NULL, NULL", "0.5, 'and'"):
        assert both.answer("heap", f"EXECUTE f_heap({arguments})") == both.answer("store", f"EXECUTE f_store({arguments})")
    assert both.answer("heap", "EXECUTE f_heap(2, '')") == both.answer("store", "EXECUTE f_store(2, '')") == "22003"
    both.execute("DEALLOCATE ALL; RESET plan_cache_mode")
    for schema in ("heap", "store"):
        both.execute(f"BEGIN; DECLARE c_{schema} SCROLL CURSOR FOR SELECT v, array_agg(n ORDER BY i) FROM {schema}.t GROUP BY v ORDER BY v")
        rows = [both.execute(f"FETCH {step} c_{schema}").fetchall() for step in ("5", "BACKWARD 3", "FORWARD ALL", "FIRST")]
        both.execute("CLOSE ALL; COMMIT")
        expected = rows if schema == "heap" else expected
        assert rows == expected
        if schema == "heap":
            kept = rows
    assert kept == rows


@pytest.mark.parametrize("call", ["min(f)", "max(f)", "min(r)", "max(r)", "min(DISTINCT f)", "(array_agg(DISTINCT f))[1]", "percentile_disc(0.5) WITHIN GROUP (ORDER BY f)"])
def test_zeros_keep_their_sign(both, call):
    both.pushed(f"SELECT ({call})::text FROM {{t}} WHERE i % 10 = 1 AND i % 9 = 1")
    both.pushed(f"SELECT i, ({call})::text FROM {{t}} WHERE f = 0 AND r = 0 GROUP BY i")


def test_errors_are_postgresqls(both):
    assert both.pushed("SELECT sum(100 / n) FROM {t}") == "22012"
    assert both.pushed("SELECT string_agg(x, ',' ORDER BY 1 / n) FROM {t}") == "22012"
    both.pushed("SELECT sum(100 / n) FROM {t} WHERE n <> 0")
    both.pushed("SELECT sum(100 / n) FILTER (WHERE n <> 0) FROM {t}")
    assert both.pushed("SELECT jsonb_object_agg(x, n) FROM {t}") == "22023"
    both.execute("SELECT 1")


def test_a_cancelled_fold_leaves_the_session_usable(both):
    both.execute("SET statement_timeout = 300")
    query = "SELECT max(pg_sleep(i / i * 0.05)::text) FROM {t}"
    assert both.answer("store", query) == "57014"
    assert both.answer("store", "SELECT string_agg(pg_sleep(0.05 * i / i)::text || x, ',' ORDER BY x, i) FROM {t}") == "57014"
    both.execute("RESET statement_timeout")
    both.pushed("SELECT string_agg(x, ',' ORDER BY i) FROM {t}")
