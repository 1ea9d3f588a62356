"""Percentiles and modes, found by counting, and the first groups of queries with aggregates that PostgreSQL computes."""

import pytest

# -0 and 0 are equal: which of them is shown, an unstable sort decides.
COLUMNS = ["i", "s", "n", "b", "m", "w", "d", "tl", "ts", "g", "y", "x", "ok"]
KEYS = ["", "GROUP BY e ORDER BY e", "GROUP BY v, ok ORDER BY v, ok", "GROUP BY i / 4 ORDER BY i / 4"]


def grouped(key: str) -> str:
    return key.removeprefix("GROUP BY ").split(" ORDER")[0] + ", " if key else ""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("direction", ["", " DESC", " DESC NULLS LAST"])
def test_of_every_type(both, key, direction):
    for column in COLUMNS:
        calls = [f"percentile_disc({fraction}) WITHIN GROUP (ORDER BY {column}{direction})" for fraction in ("0", "0.5", "1", "0.3333", "'{{0.9,0.1},{0,1}}'::float8[]")]
        calls.append(f"mode() WITHIN GROUP (ORDER BY {column}{direction})")
        both.pushed(f"SELECT {grouped(key)} {', '.join(f'({call})::text' for call in calls)} FROM {{t}} {key}")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("column", ["s", "n", "b", "m", "w", "f", "r"])
def test_between_values(both, key, column):
    finite = "" if column not in "fr" else f"WHERE {column} <> 0 AND abs({column}) < 1e6"
    calls = [f"percentile_cont({fraction}) WITHIN GROUP (ORDER BY {column}{direction})"
             for fraction in ("0", "0.5", "1", "0.3333", "'{0.9,0.1,0.77}'::float8[]", "1e-300", "ARRAY[0.5, NULL]") for direction in ("", " DESC")]
    shown = ", ".join(f"({call})::text" for call in calls)
    both.pushed(f"SELECT {grouped(key)} {shown} FROM {{t}} {finite} {key}")
    both.pushed(f"SELECT {grouped(key)} {', '.join(f'({call} FILTER (WHERE n > 100))::text' for call in calls)} FROM {{t}} {finite} {key}")
    both.pushed(f"SELECT {grouped(key)} count(*), {shown} FROM {{t}} WHERE i < 0 {key}")


@pytest.mark.parametrize("column", ["f", "r"])
def test_of_floats_that_are_not_finite(both, column):
    both.pushed(f"SELECT e, percentile_disc(ARRAY[0, 0.2, 0.9, 1]) WITHIN GROUP (ORDER BY {column})::text, mode() WITHIN GROUP (ORDER BY {column} DESC) FROM {{t}} WHERE {column} <> 0 GROUP BY e")
    both.pushed(f"SELECT e, (mode() WITHIN GROUP (ORDER BY {column})) = 0 FROM {{t}} WHERE {column} IS NOT NULL AND {column} = 0 GROUP BY e")
    both.pushed(f"SELECT e, percentile_cont(ARRAY[0, 0.2, 0.9, 1]) WITHIN GROUP (ORDER BY {column})::text FROM {{t}} WHERE {column} <> 0 GROUP BY e")


@pytest.mark.parametrize("direction", ["", " DESC"])
def test_of_numbers_that_are_kept_as_text(both, direction):
    for key in KEYS:
        calls = [f"percentile_cont({fraction}) WITHIN GROUP (ORDER BY u{direction})" for fraction in ("0", "0.3", "0.5", "ARRAY[0.2, 0.9]")]
        both.pushed(f"SELECT {grouped(key)} {', '.join(f'({call})::text' for call in calls)} FROM {{t}} WHERE u < 'Infinity' {key}")
        both.pushed(f"SELECT {grouped(key)} percentile_disc(0.4) WITHIN GROUP (ORDER BY u::float8{direction}) FROM {{t}} {key}")


@pytest.mark.parametrize("column", ["b", "w", "m", "s", "u"])
def test_of_numbers_as_doubles(both, column):
    both.pushed(f"SELECT e, mode() WITHIN GROUP (ORDER BY {column}::float8), percentile_disc(0.7) WITHIN GROUP (ORDER BY {column}::float8 DESC) FROM {{t}} GROUP BY e")


def test_fractions_from_outside(both):
    both.same("SELECT q, p FROM (VALUES (0.1::float8), (0.9), (NULL), (0.5)) o(q), LATERAL (SELECT percentile_disc(o.q) WITHIN GROUP (ORDER BY n) p FROM {t}) l")
    both.same("SELECT q, p FROM (VALUES ('{0.1,0.3}'::float8[]), ('{{1},{0}}')) o(q), LATERAL (SELECT percentile_cont(o.q) WITHIN GROUP (ORDER BY n) p FROM {t} GROUP BY ok) l")
    both.pushed("SELECT v, percentile_disc((SELECT 0.25::float8)) WITHIN GROUP (ORDER BY n) FROM {t} GROUP BY v")
    both.pushed("SELECT v, percentile_disc(1 / (SELECT 0)::float8) WITHIN GROUP (ORDER BY n) FROM {t} WHERE n > 100000 GROUP BY v")


@pytest.mark.parametrize("column", ["t", "v", "x", "t COLLATE \"C\"", "c", "e", "k", "u", "j"])
@pytest.mark.parametrize("direction", ["", " DESC"])
def test_ties_of_modes_are_told_apart_by_order(both, column, direction):
    # Of equal numbers that look different any is right.
    cast = {"u": "::float8", "j": ""}.get(column, "::text")
    both.pushed(f"SELECT n % 11, (mode() WITHIN GROUP (ORDER BY {column}{direction})){cast} FROM {{t}} GROUP BY 1")
    both.pushed(f"SELECT i, (mode() WITHIN GROUP (ORDER BY {column}{direction})){cast} FROM {{t}} WHERE i < 50 GROUP BY 1")


@pytest.mark.parametrize("fraction", ["-0.1", "1.1", "'NaN'", "NULL", "ARRAY[0.5, 2]", "'{}'::float8[]", "NULL::float8[]"])
def test_what_is_no_fraction(both, fraction):
    for call in ("percentile_disc", "percentile_cont"):
        both.pushed(f"SELECT ok, {call}({fraction}) WITHIN GROUP (ORDER BY s) FROM {{t}} GROUP BY ok")
        both.pushed(f"SELECT ok, {call}({fraction}) WITHIN GROUP (ORDER BY s) FROM {{t}} WHERE i < 0 GROUP BY ok")


FIRST = """
SELECT v, count(*), string_agg(x, ',' ORDER BY i) FROM {t} GROUP BY v ORDER BY count(*) DESC, v LIMIT 3
SELECT v, sum(n), percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM {t} GROUP BY v ORDER BY sum(n) DESC NULLS LAST, v LIMIT 3 OFFSET 2
SELECT i, array_agg(n ORDER BY n), mode() WITHIN GROUP (ORDER BY s) FROM {t} GROUP BY i ORDER BY i DESC LIMIT 5
SELECT s, v, max(n), string_agg(v, '' ORDER BY i) FILTER (WHERE n > 5), avg(DISTINCT n) FROM {t} GROUP BY s, v ORDER BY max(n), s, v LIMIT 4
SELECT s, string_agg(upper(x), ',' ORDER BY i) FROM {t} WHERE i % 10 = 3 GROUP BY s ORDER BY s LIMIT 0
"""


@pytest.mark.parametrize("query", FIRST.strip().split("\n"))
def test_first_groups_before_folds(both, query):
    both.pushed(query, ordered=True)
    assert "Pushed Limit" in both.plan(query)


def test_what_may_fail_needs_all_groups(both):
    for call in ("string_agg((100 / n)::text, ',')", "percentile_disc(1.5) WITHIN GROUP (ORDER BY n)", "jsonb_object_agg(x, n)"):
        query = f"SELECT n, count(*), {call} FROM {{t}} GROUP BY n ORDER BY n DESC LIMIT 1"
        assert both.pushed(query) in ("22012", "22003", "22023")
        assert "Pushed Limit" not in both.plan(query)
