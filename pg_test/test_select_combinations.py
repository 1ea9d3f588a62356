"""What PostgreSQL evaluates once for each combination of a few columns' values, and keys of any type, against a heap table."""

import pytest

# Each is of two to four columns, and none that the engine computes by itself.
TEXTS = """
x || t COLLATE "C"
v || ':' || s
coalesce(x, t) COLLATE "C"
concat(v, '-', n, e)
format('%s/%s', v, s)
CASE WHEN length(x) > 3 THEN x || v ELSE v END
replace(v, s::text, 'x')
left(x, abs(s))
a || v::text
j || jsonb_build_object('s', s)
k + s::bigint
ts + s * interval '1 hour'
make_date(2000 + abs(s), 1, 1 + abs(s) % 28)
trim_scale(n / nullif(m, 0))
power(s::float8, 2) + length(v)
greatest(v, x)
int4range(s, s + length(v))
(v, s)::text
"""

CONDITIONS = """
x < t COLLATE "C"
x = t
starts_with(v, left(x, 1))
v LIKE '%' || s::text || '%'
x || v > 'M'
length(x) + s > length(t)
n / nullif(m, 0) > 2
a && ARRAY[v, 'p1']
v = ANY (a)
k <<= set_masklen(k, 8 + abs(s) % 20)
(x = t) IS NOT TRUE
x IS DISTINCT FROM t
NOT (x < t COLLATE "C" OR v > x)
coalesce(j ->> 'a', v) = '1'
ts > tl AT TIME ZONE 'America/New_York'
date_trunc('day', ts) = d
(v, s) < ('v2', 3)
(s, n) >= (0, 5) AND (x, v) <> ('B', 'v1')
"""


def lines(text):
    return [line for line in text.strip().splitlines()]


@pytest.mark.parametrize("text", lines(TEXTS))
def test_keys_and_inputs(both, text):
    both.pushed(f"SELECT {text}, count(*), sum(n) FROM {{t}} GROUP BY 1")
    both.pushed(f"SELECT count({text}), count(DISTINCT {text}) FROM {{t}} WHERE n > 0")
    both.pushed(f"SELECT e, count(DISTINCT {text}) FILTER (WHERE s > 0) FROM {{t}} GROUP BY e")
    both.pushed(f"SELECT DISTINCT {text} FROM {{t}} WHERE s < 10")
    both.pushed(f"SELECT s, {text}, count(*) FROM {{t}} GROUP BY ROLLUP (s, {text})")
    plan = both.plan(f"SELECT {text}, count(*) FROM {{t}} GROUP BY 1")
    assert plan.startswith("Foreign Scan") and "->" not in plan, plan


@pytest.mark.parametrize("condition", lines(CONDITIONS))
def test_conditions(both, condition):
    both.pushed(f"SELECT count(*), sum(i) FROM {{t}} WHERE {condition}")
    both.pushed(f"SELECT count(*), sum(i) FROM {{t}} WHERE NOT ({condition})")
    both.pushed(f"SELECT count(*), sum(i) FROM {{t}} WHERE ({condition}) IS NULL OR n > 400")
    both.pushed(f"SELECT e, count(*) FILTER (WHERE {condition}) FROM {{t}} WHERE n <> 5 GROUP BY e")
    both.pushed(f"SELECT sum(CASE WHEN {condition} THEN n ELSE -1 END) FROM {{t}}")
    both.same(f"SELECT i FROM {{t}} WHERE {condition}")


KEYS = "u j a c k y g e t".split() + ["ARRAY[s, n]", "ARRAY[f]", "s::bit(9)::varbit", "s::money", "justify_days(s * interval '1 day')", "k::cidr", "int4range(s, s + 3)", "(s % 3)::numeric / 3"]


@pytest.mark.parametrize("key", [k if k != "k::cidr" else "network(k)" for k in KEYS])
def test_keys_of_every_type(both, key):
    # What stands for a group of equal values that look different is not defined.
    both.pushed(f"SELECT ({key}) = ({key}), count(*), sum(n), min(i) FROM {{t}} GROUP BY {key}")
    both.pushed(f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM {{t}} WHERE n > 0) q")


def test_nondeterministic_collations_group_what_is_equal(both):
    both.execute("CREATE COLLATION IF NOT EXISTS blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    both.pushed('SELECT lower(min(t COLLATE "C")), count(*) FROM {t} GROUP BY t COLLATE blind')
    both.pushed("SELECT count(DISTINCT t COLLATE blind) FROM {t}")


# Where PostgreSQL raises no error, none may come from a row that an earlier test leaves out.
GUARDED = """
count(*) FROM {t} WHERE n > 0 AND sqrt(n) > 5
count(*) FROM {t} WHERE n < 0 OR sqrt(n) > 5
count(*) FROM {t} WHERE n IS NULL OR n < 0 OR sqrt(n) > 5 OR v = 'v1'
count(*) FROM {t} WHERE s <> 0 AND 100 / s > 3
count(*) FROM {t} WHERE s = 0 OR 100 / s > 3
count(*) FROM {t} WHERE s + s <> 0 AND 100 / (s + s) > 3
count(*) FROM {t} WHERE s * n <> 0 AND m / (s * n) > 0.001
count(*) FROM {t} WHERE s <= 0 OR substr(v, 1, 100 / s) = 'v'
count(*) FROM {t} WHERE s > 0 AND repeat(v, s) > 'v2' AND substr(x, s, s) IS NOT NULL
sum(CASE WHEN n < 0 THEN 0 WHEN sqrt(n) > 5 THEN 1 END) FROM {t}
sum(CASE WHEN n < 0 THEN 0 WHEN substr(v, 1, n) = 'v' THEN 1 END) FROM {t}
count(*) FILTER (WHERE n >= 0 AND left(v, n) || repeat(x, n % 3) > 'v' AND sqrt(n) < 20) FROM {t}
count(*) FROM {t} WHERE length(v) = 2 AND substr(v, 2)::int + s > 5
count(*) FROM {t} WHERE (s > 0 AND substr(v, 1, s) > 'v1') OR (s < 0 AND ln(-s) > 2)
max(CASE WHEN s > 0 THEN substr(v, 1, s) || x END) FROM {t}
count(DISTINCT CASE WHEN s <> 0 THEN m / s END) FROM {t}
"""


@pytest.mark.parametrize("query", lines(GUARDED))
def test_no_error_of_a_row_that_is_left_out(both, query):
    answer = both.pushed("SELECT " + query)
    assert not isinstance(answer, str)


ERRORS = {
    "SELECT count(*) FROM {t} WHERE sqrt(n) > 5 OR n < 0": "2201F",
    "SELECT trim_scale(m / (s - 1)), count(*) FROM {t} GROUP BY 1": "22012",
    "SELECT count(DISTINCT substr(v, 1, n)) FROM {t}": "22011",
    "SELECT count(*) FROM {t} WHERE substr(v, 1, n) || x = 'v'": "22011",
    "SELECT count(*) FROM {t} WHERE (v || s)::int > 5": "22P02",
    "SELECT count(*) FROM {t} WHERE coalesce(x, (1 / (length(v) - length(v)))::text) = 'a'": "22012",
}


@pytest.mark.parametrize("query", ERRORS)
def test_errors_of_selected_rows(both, query):
    assert both.same(query) == ERRORS[query]


def test_null_is_shown_only_where_it_occurs(both):
    # x is NULL where i % 8 = 0: rows that the first test leaves out.
    both.pushed("SELECT count(*) FROM {t} WHERE i % 8 > 0 AND coalesce(x, (i / (i - i))::text) <> 'a'")
    both.pushed("SELECT count(*) FROM {t} WHERE x IS NOT NULL AND coalesce(x, (1 / length(x))::text) <> 'a'")
    both.pushed("SELECT count(*), sum(n) FROM {t} WHERE coalesce(x, 'none') || '!' = 'none!'")
    # A segment of NULLs alone is not pruned.
    both.execute("CREATE TABLE heap.nulls (a text, i int); CREATE FOREIGN TABLE store.nulls (a text, i int) SERVER basalt")
    both.execute("INSERT INTO heap.nulls VALUES (NULL, 1); INSERT INTO store.nulls VALUES (NULL, 1)")
    for schema in ("heap", "store"):
        assert both.execute(f"SELECT count(*) FROM {schema}.nulls WHERE coalesce(a, '1')::int > 0").fetchone() == (1,)
    both.pushed("SELECT count(*) FROM {t} WHERE (CASE WHEN x IS NULL THEN 'none' ELSE upper(x) END) < 'O'")


def test_parameters_and_rescans(both):
    both.execute("SET plan_cache_mode = force_generic_plan")
    for schema in ("heap", "store"):
        both.execute(f"PREPARE c_{schema}(text, int) AS SELECT v || $1, count(*) FROM {schema}.t WHERE x || v > $1 AND left(t, $2) <> v GROUP BY 1")
    for arguments in ("'B', 2", "'', 0", "'M', -1", "NULL, 3"):
        answers = [sorted(both.answer(schema, f"EXECUTE c_{schema}({arguments})")) for schema in ("heap", "store")]
        assert answers[0] == answers[1]
    both.execute("DEALLOCATE ALL; RESET plan_cache_mode")
    both.pushed("SELECT q, (SELECT count(DISTINCT v || s) FROM {t} WHERE x || v > q::text) FROM generate_series(1, 3) q")


def test_too_many_combinations_stay_with_a_reason(both):
    both.same("SELECT count(*) FROM {t} WHERE concat(v, s, n, x, t) > 'v2'")
    assert "more than 4 columns" in both.reason('SELECT concat(v, s, n, x, t) COLLATE "C", count(*) FROM {t} GROUP BY 1')


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_any_number_of_threads(both, threads):
    both.execute(f"SET basalt.max_threads = {threads}")
    try:
        both.pushed("SELECT v || s, min(x || t), count(DISTINCT concat(x, n)), sum(length(v || x)) FROM {t} WHERE x < t COLLATE \"C\" GROUP BY 1")
    finally:
        both.execute("RESET basalt.max_threads")
