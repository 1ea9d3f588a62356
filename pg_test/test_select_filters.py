"""WHERE clauses: every kind, on every type, against the same rows in a heap table."""

import pytest

# Pushed down whole: a count over them is computed by the engine.
PUSHED = """
n = 5 | n <> 5 | n < -480 | n <= -480 | n > 480 | n >= 480 | n BETWEEN 3 AND 9 | n NOT BETWEEN 3 AND 400 | 5 = n | 5 < n
n IN (1, 2, 3, 777777) | n NOT IN (1, 2, 3) | n IN (1, NULL) | n NOT IN (1, NULL) | n = NULL::int | n IS NULL | n IS NOT NULL
n = ANY ('{}') | n <> ALL ('{}') | NOT n = ANY ('{}') | n = ANY (NULL::int[]) | NOT n = ANY ('{1,2}') | NOT n <> ALL ('{1,2,NULL}')
n < ANY ('{-490,-480}') | n < ALL ('{-490,-480}') | n >= ANY ('{499,NULL}') | NOT n < ANY ('{400,450}') | n > ALL ('{400,NULL}')
n = 5::bigint | n < 3000000000 | s = 40000 | s < 7::bigint | b > 5::smallint | b = 3000000000::bigint | b IN (-3491000000000, 5)
n > 2.5 | n >= -2.5 | n = 2.5 | n <> 2.5 | n = 2.0 | n < 'NaN'::numeric | n > 1e20 | n < 'Infinity'::numeric | b < 1e30 | b >= -12345.000000001
n > 2.5::float8 | s < 'NaN'::float8 | n = 4::float8 | n < '-Infinity'::float8 | n IN (1.0, 2.5)
n IS DISTINCT FROM 5 | n IS NOT DISTINCT FROM 5 | n IS DISTINCT FROM NULL | n IS NOT DISTINCT FROM NULL
m = 1.5 | m = 1.500 | m = 1.501 | m > 1.501 | m <= 1.501 | m < -20.125 | m >= 'NaN' | m = 'NaN' | m < 'NaN' | m > 'Infinity' | m < 'Infinity' | m >= '-Infinity' | m > 1e25 | m > -1e25 | m IN (1.5, 'NaN', 7.123)
w > 0 | w = 123456789012345678.4321 | w < -1e23 | w > 123456789012345678.43205 | w = 'NaN' | w < 'NaN' | w > 1e37 | w <> 0
u = 1 | u = 1.0 | u > 5 | u = 'NaN' | u IN (1, 2999) | u < 'Infinity' | u NOT IN (1) | u IS NULL | u BETWEEN 1 AND 100
r = 0 | r = '-0' | r > 100 | r = 'NaN' | r <> 'NaN' | r < 'NaN' | r >= 'Infinity' | r < 3::float8 | r IN (0, 'NaN') | r NOT IN (0, 'NaN') | r IS NULL
f = 0 | f > 100.5 | f = 'NaN' | f < '-99' | f <= '-Infinity' | f <> 0 | f > 'Infinity' | f IS DISTINCT FROM 'NaN' | f < 5::real
ok | NOT ok | ok IS TRUE | ok IS NOT TRUE | ok IS FALSE | ok IS NOT FALSE | ok IS UNKNOWN | ok IS NOT UNKNOWN | ok IS NULL | ok = true | ok <> false | NOT (ok IS NOT TRUE) | NOT (ok IS NULL) | ok = (1 = 1)
ts >= '2010-11-07 03:00+00' | ts < '2010-11-01' | ts BETWEEN '2010-11-01' AND '2010-11-02' | ts = '2010-10-30 21:17+00' | ts IS NULL | ts > '2010-11-05'::date | ts < '2010-11-05 12:00'::timestamp | ts <> '2010-10-30 21:17+00' | ts > 'infinity' | ts < 'infinity' | ts < '294277-01-01'::date
d = '2010-02-01' | d < '2010-01-05' | d > '2010-12-31 12:00'::timestamp | d >= '2010-12-31 00:00'::timestamp | d = 'infinity' | d > '2011-01-30' | d < 'infinity' | d <= '-infinity' | d = '2010-02-01 00:00:01'::timestamp | d < '-infinity'::timestamp | d < '2010-11-05 12:00+02'::timestamptz | tl >= '2010-11-05 12:00+02'::timestamptz | d IN ('2010-02-01', '2010-02-02', 'infinity')
tl >= '2010-05-01'::date | tl < '2010-01-03 05:00' | tl = 'infinity' | tl > '290000-01-01'::date | tl <= '2010-01-03' | tl < '5874897-12-31'::date
x = 'Aé13' | x <> 'Aé13' | x < 'C' | x >= 'Y' | x LIKE 'A%' | x LIKE '%1_' | x NOT LIKE 'B%' | x LIKE '%\\_\\%%' | x LIKE '_é%' | x LIKE '' | x LIKE NULL | x ILIKE 'aÉ%' | x NOT ILIKE 'a%' | x ~ '^[A-C]' | x ~* '^a' | x !~ '5$' | x !~* 'É' | x LIKE ANY (ARRAY['A%', '%9']) | x LIKE ALL (ARRAY['A%', '%9']) | x NOT LIKE ALL (ARRAY['A%', NULL]) | x IN ('Aé13', 'Bx_%40', 'nothing') | x NOT IN ('Aé13') | x IS NULL | x LIKE 'A!%%' ESCAPE '!' | x SIMILAR TO '(A|B)%' | x BETWEEN 'C' AND 'E' | x > 'Z' | x ^@ 'Aé' | lower(x) = 'aé13' | length(x) > 4 | x || 'y' = 'Aé13y' | x IS DISTINCT FROM 'Aé13' | x IS NOT DISTINCT FROM NULL | x COLLATE "en-x-icu" < 'b'
t = 'a0' | t < 'b' | t >= 'B1' | t < 'b' COLLATE "C" | t IN ('A1', 'ä2') | t LIKE 'a%' | t BETWEEN 'a' AND 'b' | t > 'z' COLLATE "C" | t NOT IN ('a0', 'A0') | t = '' | upper(t) = 'A1' | t ~* 'ä'
v = 'v7' | v LIKE 'v1%' | v IN ('v1', 'v2') | v <> 'v3' | v > 'v33' COLLATE "C" | v::text = 'v9'
c = 'a' | c = 'a   ' | c <> 'a' | c < 'ab' | c LIKE 'a%' | c LIKE 'a' | c IN ('a', 'B') | c = 'a'::text | c IS NULL | length(c) = 2 | c = ''
g = '00000000-0000-0000-0000-0000000000ff' | g > '00000000-0000-0000-0000-0000000000f0' | g IN ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-00000000012b')
y = '\\x0500ff' | y > '\\xf0' | y < '\\x05' | y IS NULL | y IN ('\\x0500ff', '\\x06') | length(y) = 3 | y LIKE '\\x05%'::bytea
j = '{"a": 1}' | j @> '{"a": 1}' | j ? 'b' | (j->>'a') = '1.0' | j IS NULL | j <> '{"a": 1}' | (j->'b'->>0)::int > 5
'p3' = ANY (a) | a @> ARRAY['p1'] | a && ARRAY['p1', 'p2'] | a[1] = 'p4' | a IS NULL | a = ARRAY['p1', NULL, 'q"1'] | cardinality(a) = 3 | a IS NOT NULL
k = '10.0.1.5' | k << '10.0.2.0/24' | k < '10.0.1.0' | k IN ('10.0.1.5', '10.0.0.0/8') | host(k) LIKE '10.0.3.%'
e = 'ok' | e > 'sad' | e IN ('sad', 'happy') | e <> 'ok' | e::text LIKE 'h%' | e IS NULL | e BETWEEN 'sad' AND 'ok'
NOT (n > 5 AND x LIKE 'A%') | NOT (n > 5 OR x IS NULL) | (n > 5 AND ok) OR (n < -5 AND NOT ok) | NOT (ok AND n IN (1,2) OR t = 'a0') | NOT NOT n = 5 | (n = 1 OR n = NULL) | (n = 1 AND NULL) | NOT (n = 1 AND NULL::bool) | n = 1 OR 1 = 1
coalesce(x, 'none') = 'none' | x IS NULL OR x = 'Aé13' | coalesce(t, 'q') <> 'a0'
"""

# Evaluated by PostgreSQL on numbers, block by block; pushed where rows are counted, not where they are fetched.
NUMBERS = """
n + 0 > 5 | abs(n) = 5 | n % 2 = 0 | m::float8 > 2 | f * 2 > 100 | r::text LIKE '1%'
b::text LIKE '%7' | isfinite(d) | tl > '2010-05-01 00:00+02'::timestamptz | coalesce(n, 5) = 5 | w / 3 > 1e20 | f IS NOT NULL AND sqrt(abs(f)) < 3
CASE WHEN n = 0 THEN false ELSE 100 / n > 3 END | n <> 0 AND 100 / n > 3
"""

# Constant for a while: PostgreSQL is asked once for each piece of time (or, where there are infinite times, for each value).
TIMES = """
ts::date = '2010-11-03' | NOT ts::date = '2010-11-03' | ts::date IN ('2010-11-03', '2010-11-07') | ts::date <> ALL ('{2010-11-03}') | ts::date > '2010-11-06' | ts::date IS DISTINCT FROM '2010-11-03'
extract(hour FROM ts) = 1 | extract(hour FROM ts) BETWEEN 8 AND 17 AND extract(dow FROM ts) IN (1, 2, 3) | extract(hour FROM ts)::int = 1 | date_part('minute', ts)::int = 17 | extract(second FROM ts) = 0 | NOT (extract(hour FROM ts) > 5)
date_trunc('week', ts) = '2010-11-01' | date_trunc('hour', ts) = '2010-11-07 01:00' | date_trunc('day', ts, 'America/St_Johns') = '2010-11-07 02:30+00' | date_trunc('month', ts) = date_trunc('month', timestamptz '2010-11-05') | date_trunc('day', ts) = date_trunc('day', now())
date_trunc('day', ts) = '2010-11-02' OR extract(hour FROM ts) = 3 AND x LIKE 'A%' | ts > '2010-11-02' AND extract(hour FROM ts) < 2 | ts < '2010-11-02' AND ts > '2010-11-05' AND extract(hour FROM ts) < 2 | extract(hour FROM ts) = 25
to_char(ts, 'YYYY-MM-DD') = '2010-11-03' | to_char(ts, 'HH24') = '03' | (ts AT TIME ZONE 'America/St_Johns')::date = '2010-11-07' | extract(hour FROM ts AT TIME ZONE 'America/St_Johns') = 1 | date_bin('90 minutes', ts, '2010-01-01') = '2010-11-03 00:00+00'
extract(dow FROM d) = 1 | date_trunc('month', d) = '2010-03-01' | extract(year FROM d) = 2010 AND d < '2010-06-01' | date_trunc('day', tl) = '2010-05-05' | extract(month FROM tl) IN (1, 2) AND isfinite(tl) | tl::date < '2010-02-02' AND tl > '2010-01-01' AND tl < '2011-01-01'
date_trunc('month', d) = '2010-03-01' AND d < 'infinity' | extract(month FROM d) = 3 AND d > '-infinity' | date_trunc('month', tl) = '2010-03-01' AND tl < 'infinity' | tl::date > '2010-02-02' AND tl < '294276-12-31'
"""

# Right, though PostgreSQL evaluates them.
LOCAL = """
(n > 5) IS TRUE | CASE x WHEN 'Aé13' THEN true ELSE x > 'X' END | n > s | (n > 5) IS NOT TRUE | x = t COLLATE "C" | x || t > 'B' | random() < 2 | n = (SELECT 5) | n IN (SELECT 5)
t IS NULL OR n > s | (n, s) < (5, 6) | ts > d | e <> ALL ('{}') | e = ANY ('{}') | t < ANY ('{}') | t < ALL ('{}') | e > ALL ('{}'::mood[])
i IN (SELECT n FROM {t} WHERE x LIKE 'A%') | EXISTS (SELECT 1 FROM {t} q WHERE q.n = {t}.i) | n > ALL (SELECT 400 UNION SELECT 450) | coalesce(lower(x), 'none') = 'none'
"""


def cases(text):
    return [part.strip() for line in text.strip().splitlines() for part in line.split(" | ")]


@pytest.mark.parametrize("condition", cases(PUSHED))
def test_pushed(both, condition):
    both.pushed(f"SELECT count(*), min(i), max(i) FROM {{t}} WHERE {condition}")
    both.same(f"SELECT i, x, c FROM {{t}} WHERE {condition}")
    both.pushed(f"SELECT count(*) FROM {{t}} WHERE NOT ({condition})")
    both.pushed(f"SELECT count(*) FILTER (WHERE {condition}), count(*) FROM {{t}} WHERE i > 100")


@pytest.mark.parametrize("condition", cases(NUMBERS))
def test_numbers(both, condition):
    check = both.same if "coalesce(n" in condition or condition.startswith("CASE") else both.pushed
    check(f"SELECT count(*), min(i), max(i) FROM {{t}} WHERE {condition}")
    check(f"SELECT v, count(*) FILTER (WHERE {condition}) FROM {{t}} WHERE x IS NOT NULL GROUP BY v")
    both.same(f"SELECT i FROM {{t}} WHERE {condition}")
    both.same(f"SELECT count(*) FROM {{t}} WHERE NOT ({condition}) OR x < 'B'")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("condition", cases(TIMES))
def test_times(both, condition, zone):
    both.execute("SELECT set_config('timezone', %s, false)", [zone])
    try:
        both.pushed(f"SELECT count(*), min(i), max(i), count(*) FILTER (WHERE {condition}) FROM {{t}} WHERE {condition} OR n = 5")
        both.same(f"SELECT i, x, c FROM {{t}} WHERE {condition}")
        both.same(f"SELECT sum(CASE WHEN {condition} THEN n END) FROM {{t}}")
    finally:
        both.execute("RESET timezone")


@pytest.mark.parametrize("condition", cases(LOCAL))
def test_local(both, condition):
    both.same(f"SELECT count(*), min(i), max(i) FROM {{t}} WHERE {condition}")
    both.same(f"SELECT i FROM {{t}} WHERE NOT ({condition}) AND n > 100")


# Statement, type of the parameter, values.
PREPARED = [
    ("n = $1", "int", [5, None, -500]),
    ("n = ANY ($1)", "int[]", [[1, 2, 3], [], [None], [7, None], None]),
    ("n <> ALL ($1)", "int[]", [[1, 2, 3], [], [None, 4], None]),
    ("j >= ALL ($1)", "jsonb[]", [[], None]),
    ("e <> ALL ($1)", "mood[]", [[], None]),
    ("NOT (n < $1)", "int", [490, None]),
    ("n < $1", "numeric", ["2.5", "NaN", None]),
    ("m >= $1", "numeric", ["1.501", "NaN", "Infinity", None]),
    ("ts < $1", "timestamptz", ["2010-11-01", "infinity", None]),
    ("d < $1", "timestamp", ["2010-02-01 12:00", None]),
    ("x LIKE $1", "text", ["A%", "%", None, "A\\\\%", "bad\\"]),
    ("x NOT LIKE $1", "text", ["A%", None]),
    ("t < $1", "text", ["b", None]),
    ("x = $1 OR n > 490", "text", ["Aé13", None]),
    ("ok = $1", "bool", [True, False, None]),
    ("f = $1", "float8", ["NaN", "-0", None]),
    ("c = $1", "bpchar", ["a ", None]),
    ("$1 IS NULL OR n = $1", "int", [5, None]),
]


@pytest.mark.parametrize("condition, kind, values", PREPARED)
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_parameters(both, condition, kind, values, mode):
    both.execute(f"SET plan_cache_mode = {mode}")
    try:
        for schema in ("heap", "store"):
            both.execute(f"PREPARE q_{schema}({kind}) AS SELECT count(*), min(i) FROM {schema}.t WHERE {condition}")
            both.execute(f"PREPARE r_{schema}({kind}) AS SELECT i FROM {schema}.t WHERE {condition} ORDER BY i")
        for value in values:
            literal = both.execute(f"SELECT quote_nullable(%s::{kind}::text)", (value,)).fetchone()[0]
            for statement in ("q", "r"):
                answers = [both.answer(s, f"EXECUTE {statement}_{s}({literal})") for s in ("heap", "store")]
                assert answers[0] == answers[1], (condition, value, mode)
    finally:
        both.execute("DEALLOCATE ALL; RESET plan_cache_mode")


def test_a_value_that_no_selected_row_holds_raises_no_error(both):
    assert both.pushed("SELECT count(*) FROM {t} WHERE x LIKE 'A%' AND (substr(x, 3) || '0')::int >= 0 AND x ~ '^.é[0-9]+$'") != "22P02"
    assert both.same("SELECT count(*) FROM {t} WHERE (x || 'x')::int > 0") == "22P02"


def test_an_error_of_a_function_during_the_scan_is_an_error(both):
    assert both.same("SELECT count(*) FROM {t} WHERE 1 / (length(x) - length(x)) = 0") == "22012"
    assert both.same("SELECT i FROM {t} WHERE x LIKE 'A\\'") == "22025"
    assert both.same("SELECT count(*) FROM {t} WHERE n > 5") != "22012"


def test_security_barrier(both):
    """A function that tells what it sees must not see rows that the view hides."""
    both.execute("""
        CREATE FUNCTION leak(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$;
        CREATE VIEW store.barrier WITH (security_barrier) AS SELECT * FROM store.t WHERE n + 0 > 490;
        CREATE VIEW store.barrier_pushed WITH (security_barrier) AS SELECT * FROM store.t WHERE n > 490;
        CREATE VIEW heap.barrier WITH (security_barrier) AS SELECT * FROM heap.t WHERE n + 0 > 490
    """)
    seen = []
    both.connection.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    hidden = {f"saw {x}" for (x,) in both.execute("SELECT DISTINCT x FROM heap.t WHERE x NOT IN (SELECT x FROM heap.t WHERE n > 490 AND x IS NOT NULL)")}
    for view in ("barrier", "barrier_pushed"):
        expected = both.execute("SELECT count(*) FROM heap.barrier").fetchone()
        assert both.execute(f"SELECT count(*) FROM store.{view} WHERE leak(x)").fetchone() == expected
        assert seen and not hidden & set(seen)
        seen.clear()
