"""GROUP BY and aggregates, pushed down and not, against the same rows in a heap table."""

import pytest

from both import Both


AGGREGATES = [
    "count(*)", "count(1)", "count(n)", "count(x)", "count(ok)", "count(DISTINCT n)", "count(DISTINCT x)", "count(DISTINCT t)",
    "count(DISTINCT f)", "count(DISTINCT r)", "count(DISTINCT m)", "count(DISTINCT w)", "count(DISTINCT ok)", "count(DISTINCT g)",
    "count(DISTINCT y)", "count(DISTINCT k)", "count(DISTINCT e)", "count(DISTINCT a)", "count(DISTINCT d)", "count(DISTINCT ts)",
    "sum(s)", "sum(n)", "sum(b)", "sum(m)", "avg(s)", "avg(n)", "avg(b)", "avg(m)", "sum(r) FILTER (WHERE r > 0 AND r < 1000)",
    "sum(f)", "avg(f)", "avg(r)", "sum(f) FILTER (WHERE f BETWEEN -1000 AND 5000)", "avg(f) FILTER (WHERE f > 0 AND f < 'NaN')",
    "min(s)", "max(n)", "min(b)", "max(b)", "min(r)", "max(r)", "min(f)", "max(f)", "min(m)", "max(m)", "min(w)", "max(w)",
    "min(ts)", "max(ts)", "min(d)::text", "max(d)::text", "min(tl)::text", "max(tl)::text", "min(x)", "max(x)", "min(t)", "max(t)", "min(v)", "max(v)",
    "bool_and(ok)", "bool_or(ok)", "every(ok)", "bool_or(ok) FILTER (WHERE n > 490)", "min(x COLLATE \"en-x-icu\")", "max(t COLLATE \"C\")",
    "count(*) FILTER (WHERE x LIKE 'A%')", "sum(n) FILTER (WHERE ok AND t IN ('a1', 'b0'))", "min(DISTINCT n)", "max(DISTINCT x)",
    "sum(n) + count(*) * 2", "coalesce(sum(n), 0)", "round(avg(n), 2)", "max(x) || min(t)", "sum(n)::float8 / count(*)",
]
KEYS = ["c", "ok", "s", "x", "t", "v", "m", "f", "r", "g", "k", "e", "y", "d::text", "a", "w", "b"]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates(both, aggregate):
    both.pushed(f"SELECT {aggregate} FROM {{t}}")
    both.pushed(f"SELECT {aggregate} FROM {{t}} WHERE n > 100 AND x IS NOT NULL")
    both.pushed(f"SELECT {aggregate} FROM {{t}} WHERE n = 123456")
    both.pushed(f"SELECT s, {aggregate} FROM {{t}} GROUP BY s")
    both.pushed(f"SELECT v, ok, {aggregate} FROM {{t}} WHERE i > 7 GROUP BY v, ok")
    both.pushed(f"SELECT {aggregate} FROM {{t}} GROUP BY e HAVING count(*) > 900")


@pytest.mark.parametrize("key", KEYS)
def test_keys(both, key):
    column = key.removesuffix("::text")
    both.pushed(f"SELECT {key}, count(*), sum(n), min(i) FROM {{t}} GROUP BY {column}")
    both.pushed(f"SELECT count(*) FROM {{t}} GROUP BY {column}")
    both.pushed(f"SELECT {key}, e, count(*) FROM {{t}} WHERE n < 0 GROUP BY {column}, e")
    both.pushed(f"SELECT DISTINCT {key} FROM {{t}}") if key == column else both.same(f"SELECT DISTINCT {key} FROM {{t}}")
    both.pushed(f"SELECT {key}, count(*) FROM {{t}} WHERE n > 485 GROUP BY ROLLUP ({column})")


SHAPES = """
SELECT count(*) FROM {t} GROUP BY v, v
SELECT 1 FROM {t} GROUP BY v
SELECT v, v, count(*), count(*) FROM {t} GROUP BY v
SELECT 'x', count(*) FROM {t} GROUP BY 1
SELECT 'x', count(*) FROM {t} WHERE n = 123456 GROUP BY 1
SELECT count(*) FROM {t} WHERE n = 123456 GROUP BY 'x'::text
SELECT 1 FROM {t} HAVING true
SELECT v, count(*) FROM {t} GROUP BY v HAVING v > 'v3' AND sum(n) > 5 AND max(x) IS NOT NULL
SELECT v, sum(n) FROM {t} GROUP BY v HAVING min(n) < -490 OR avg(b) > 0 ORDER BY sum(n) DESC, v
SELECT count(*) FROM {t} HAVING count(*) > 5
SELECT count(*) FROM {t} HAVING count(*) < 5
SELECT v, count(*) c FROM {t} GROUP BY v ORDER BY c DESC, v LIMIT 5
SELECT e, v, count(*) FROM {t} GROUP BY e, v ORDER BY e, v OFFSET 3 LIMIT 7
SELECT v || 'z', count(*) + 1 FROM {t} GROUP BY v
SELECT upper(v), s + 1, sum(n + 0 * 1) FILTER (WHERE false) FROM {t} GROUP BY v, s HAVING false
SELECT sum(c), avg(c) FROM (SELECT v, count(*) c FROM {t} GROUP BY v) q
SELECT v, (SELECT max(n) FROM {t} i WHERE i.v = o.v) FROM {t} o GROUP BY v
SELECT o.v, (SELECT count(*) FROM {t} i WHERE i.s = o.s) FROM {t} o WHERE o.n > 490
SELECT count(*), row_number() OVER (ORDER BY v), v FROM {t} GROUP BY v
SELECT count(*) FROM {t} WHERE n = (SELECT max(n) FROM {t})
SELECT v, count(*) FROM {t} WHERE n > (SELECT avg(n) FROM {t}) GROUP BY v HAVING count(*) > (SELECT 2)
WITH q AS (SELECT v, count(*) c FROM {t} GROUP BY v) SELECT a.v, b.c FROM q a JOIN q b ON a.v = b.v
SELECT v FROM {t} GROUP BY v EXCEPT SELECT 'v1'
SELECT max(n), (SELECT min(n) FROM {t}) FROM {t}
SELECT count(*) FROM {t} WHERE false
SELECT count(*), sum(n) FROM {t} WHERE NULL
SELECT v, count(*) FROM {t} WHERE 1 = 2 GROUP BY v
SELECT 1, v FROM {t} GROUP BY 1, 2
SELECT CASE WHEN count(*) > 70 THEN 'many' ELSE v END FROM {t} GROUP BY v
""".strip().splitlines()


@pytest.mark.parametrize("query", SHAPES)
def test_shapes(both, query):
    ordered = "ORDER BY" in query and "OVER" not in query
    if "(SELECT max(n) FROM {t} i" in query or "avg(c)" in query or "a JOIN q b" in query:
        both.same(query, ordered=ordered)
    else:
        both.pushed(query, ordered=ordered)


REFUSED = [
    ("SELECT concat(v, x, s, n, e) COLLATE \"C\", count(*) FROM {t} GROUP BY 1", "function concat: it uses more than 4 columns"),
    ("SELECT count(*) FROM {t} WHERE v || n < x || s || e", "operator <: it uses more than 4 columns"),
    ("SELECT q.v, count(*) FROM {t} q JOIN {t} p USING (i) GROUP BY q.v", "join"),
]


@pytest.mark.parametrize("query, reason", REFUSED)
def test_refused_with_a_reason_and_right(both, query, reason):
    both.same(query)
    assert reason in both.reason(query)
    if "JOIN" not in query:
        plan = both.plan(query)
        assert "Not Pushed" in plan and reason in plan, plan


def test_sums_beyond_a_type_are_errors_of_postgresql(database):
    both = Both(database, "i int, b bigint, f float8, r real")
    both.insert("SELECT i, 9223372036854775807 - i, 1.7e308, 3e38::real FROM generate_series(1, 20) i", segments=3)
    both.pushed("SELECT sum(b), avg(b) FROM {t}")
    assert both.pushed("SELECT sum(f) FROM {t}") == "22003"
    assert both.pushed("SELECT sum(r) FROM {t}") == "22003"
    both.insert("SELECT 100, 1, 'Infinity'::float8, 'Infinity'::real")
    both.pushed("SELECT sum(f), sum(r) FROM {t} WHERE i > 19")
    both.pushed("SELECT i, sum(f) FROM {t} GROUP BY i")


TIME_COLUMNS = "i int, ts timestamptz, tl timestamp, d date, n int"
# Around changes of offset: St. John's at one minute past midnight, Lord Howe by half an hour, Apia without a 30 December, London.
TIME_ROWS = """
SELECT i, t, t AT TIME ZONE 'UTC', (t AT TIME ZONE 'UTC')::date, i % 10
FROM (SELECT i, CASE WHEN i % 50 = 0 THEN NULL ELSE base + i % 700 * interval '13 minutes 7.3 seconds' END t
      FROM generate_series(1, 4200) i, LATERAL (SELECT (ARRAY['2010-11-05 12:00+00', '2011-03-12 12:00+00', '2011-12-28 22:00+00', '2012-03-31 05:00+00',
        '2012-10-26 20:00+00', '1969-12-30 00:00+00'])[1 + i / 701]::timestamptz base) b) q
"""
ZONES = ["UTC", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Europe/London", "Asia/Kathmandu", "EST", "<+05:30>-05:30"]
UNITS = ["minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century", "millennium"]
FIELDS = ["minute", "hour", "day", "dow", "isodow", "doy", "week", "month", "quarter", "year", "isoyear", "decade", "century", "millennium",
          "timezone", "timezone_hour", "timezone_minute"]


@pytest.fixture(scope="module")
def times(session_cluster):
    database = session_cluster.create_database()
    both = Both(database, TIME_COLUMNS)
    both.insert(TIME_ROWS, segments=6, ordinal="(i / 701)")
    yield both
    both.connection.close()
    database.drop()


def test_buckets_of_times_that_a_filter_keeps_from_infinity(both):
    both.pushed("SELECT date_trunc('week', tl), count(*) FROM {t} WHERE tl < 'infinity' GROUP BY 1")
    both.pushed("SELECT date_trunc('day', d), count(*) FROM {t} WHERE d > '-infinity' AND d < 'infinity' GROUP BY 1")


@pytest.mark.parametrize("zone", ZONES)
def test_buckets_of_time_in_any_zone(times, zone):
    times.execute(f"SET timezone = '{zone}'")
    times.pushed("SELECT date_trunc('second', ts), count(*) FROM {t} WHERE ts BETWEEN '2010-11-07 03:00+00' AND now() - '5000 days'::interval AND ts < '2010-11-08 01:00+00' GROUP BY 1")
    for unit in UNITS:
        times.pushed(f"SELECT date_trunc('{unit}', ts), count(*), sum(n) FROM {{t}} GROUP BY 1")
        if not zone.startswith("<"):
            times.pushed(f"SELECT date_trunc('{unit}', ts, 'America/St_Johns'), count(*) FROM {{t}} GROUP BY 1")
            times.pushed(f"SELECT date_trunc('{unit}', ts AT TIME ZONE '{zone}'), count(*) FROM {{t}} GROUP BY 1")
        if unit not in ("minute", "hour"):
            times.pushed(f"SELECT date_trunc('{unit}', d), count(*) FROM {{t}} GROUP BY 1")
        times.pushed(f"SELECT date_trunc('{unit}', tl), count(*) FROM {{t}} GROUP BY 1")
    for field in FIELDS:
        times.pushed(f"SELECT extract({field} FROM ts), count(*) FROM {{t}} GROUP BY 1")
        times.pushed(f"SELECT date_part('{field}', ts), count(*) FROM {{t}} GROUP BY 1")
        if not field.startswith("timezone"):
            times.pushed(f"SELECT extract({field} FROM tl), count(*) FROM {{t}} GROUP BY 1")
            if field not in ("hour", "minute"):
                times.pushed(f"SELECT extract({field} FROM d), count(*) FROM {{t}} GROUP BY 1")
    times.execute("RESET timezone")


EXPRESSIONS = [
    "ts::date", "tl::date", "date_bin('15 minutes', ts, '2001-01-01')", "date_bin('7 hours', tl, '2001-01-01 03:00')", "date_bin('1 day', ts AT TIME ZONE 'Europe/London', '2000-01-01')",
    "extract(year FROM ts) * 100 + extract(month FROM ts)", "to_char(date_trunc('month', ts), 'YYYY-MM')", "date_trunc('day', ts)::date",
    "extract(hour FROM ts AT TIME ZONE 'Asia/Kathmandu')", "date_trunc('month', ts AT TIME ZONE interval '5 hours 30 minutes')", "date_trunc('day', ts::timestamp)",
    "date_trunc('quarter', d::timestamp)", "extract(dow FROM d)", "mod(extract(doy FROM tl), 2)", "date_trunc('hour', ts) + interval '1 hour'", "ts::date - date '2000-01-01'",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_of_time(times, expression):
    for zone in ("UTC", "America/St_Johns"):
        times.execute(f"SET timezone = '{zone}'")
        times.pushed(f"SELECT {expression}, count(*), min(n), max(ts) FROM {{t}} GROUP BY 1")
        times.pushed(f"SELECT {expression} AS k, n, count(*) FROM {{t}} WHERE ts >= '2010-11-06' AND ts < '2011-03-13' GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2", ordered=True)
    times.execute("RESET timezone")


@pytest.mark.parametrize("expression", ["extract(epoch FROM ts)", "extract(second FROM ts)", "date_trunc('milliseconds', ts)", "ts + interval '1 day'", "to_char(ts, 'HH24')",
                                        "timezone('UTC', tl)", "to_char(n, '000')", "n::text || 'x'", "to_char(d, 'Dy')", "coalesce(date_trunc('day', ts), '2000-01-01')", "CASE WHEN n < 3 THEN NULL ELSE to_char(n, '0') END", "nullif(d, '2010-11-06')::text", "age(ts, '2000-01-01')", "power(n, 2)"])
def test_expressions_of_each_value(times, expression):
    times.pushed(f"SELECT {expression}, count(*) FROM {{t}} GROUP BY 1")
    times.pushed(f"SELECT {expression}, d, min(n) FROM {{t}} WHERE ts > '2010-11-06' GROUP BY 1, 2")


def test_an_error_of_a_value_that_is_not_selected_is_none(times):
    query = "SELECT to_char(100 / (n - 5), '000'), count(*) FROM {t} GROUP BY 1"
    assert times.pushed(query) == "22012"
    times.pushed(query.replace("GROUP", "WHERE n <> 5 GROUP"))


def test_expressions_of_time_and_another_column(times):
    times.pushed("SELECT coalesce(date_trunc('day', ts)::text, n::text), count(*) FROM {t} GROUP BY 1")


def test_the_zone_of_execution_counts(times):
    times.execute("SET plan_cache_mode = force_generic_plan")
    for schema in ("heap", "store"):
        times.execute(f"PREPARE z_{schema} AS SELECT date_trunc('day', ts), count(*) FROM {schema}.t GROUP BY 1 ORDER BY 1")
        times.execute(f"PREPARE y_{schema}(text) AS SELECT date_trunc('day', ts, $1), count(*) FROM {schema}.t GROUP BY 1 ORDER BY 1")
    for zone in ZONES[:6]:
        times.execute(f"SET timezone = '{zone}'")
        assert times.answer("heap", "EXECUTE z_heap") == times.answer("store", "EXECUTE z_store")
        assert times.answer("heap", f"EXECUTE y_heap('{zone}')") == times.answer("store", f"EXECUTE y_store('{zone}')")
    assert times.answer("heap", "EXECUTE y_heap('nowhere')") == times.answer("store", "EXECUTE y_store('nowhere')") == "22023"
    times.execute("DEALLOCATE ALL; RESET timezone; RESET plan_cache_mode")


INFINITE = ["extract(hour FROM ts)", "extract(year FROM d)", "date_trunc('day', ts)", "date_trunc('month', tl)", "date_trunc('week', ts, 'America/St_Johns')", "ts::date", "d::timestamptz",
            "extract(year FROM ts AT TIME ZONE 'Europe/London')", "to_char(ts, 'YYYY')", "date_bin('1 day', ts, '2000-01-01')", "date_trunc('day', d)", "extract(epoch FROM tl)"]


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
def test_infinite_times_have_buckets_of_their_own(database, zone):
    both = Both(database, TIME_COLUMNS)
    both.insert(TIME_ROWS, segments=2)
    both.execute(f"SET timezone = '{zone}'; SET plan_cache_mode = force_generic_plan")
    for schema in ("heap", "store"):
        for nth, expression in enumerate(INFINITE):
            both.execute(f"PREPARE p{nth}_{schema} AS SELECT ({expression})::text, count(*), sum(n) FROM {schema}.t GROUP BY ({expression})")
    steps = ["SELECT 1, 'infinity'::timestamptz, '-infinity'::timestamp, 'infinity'::date, 1", "SELECT 2, '-infinity', 'infinity', '-infinity', 2",
             "SELECT 3, '4000-01-01', '0004-01-01 BC', '0004-01-01 BC', 3"]
    for step in steps:
        both.insert(step)
        for nth, expression in enumerate(INFINITE):
            both.pushed(f"SELECT ({expression})::text, count(*), sum(n) FROM {{t}} GROUP BY ({expression})")
            both.pushed(f"SELECT count(*), sum(n) FROM {{t}} WHERE isfinite(ts) AND isfinite(d) AND isfinite(tl) GROUP BY {expression}")
            answers = [both.answer(schema, f"EXECUTE p{nth}_{schema}") for schema in ("heap", "store")]
            assert answers[0] == answers[1] or sorted(map(str, answers[0])) == sorted(map(str, answers[1])), expression
    both.pushed("SELECT date_trunc('minute', ts)::text, date_trunc('second', tl)::text, count(*) FROM {t} GROUP BY date_trunc('minute', ts), date_trunc('second', tl)")
    both.pushed("SELECT ts::text, tl::text, d::text, count(*) FROM {t} GROUP BY ts, tl, d")
    both.execute("DELETE FROM heap.t")
    both.execute("TRUNCATE store.t")
    both.insert(steps[0])
    for expression in INFINITE:
        both.pushed(f"SELECT ({expression})::text, count(*) FROM {{t}} GROUP BY ({expression})")
