"""regexp_replace() of a column: the forms that the engine knows by itself and those that PostgreSQL is asked about, against a heap table."""

import random

import pytest

from both import stocked

COLUMNS = 'i int NOT NULL, t text, c text COLLATE "C", v varchar(40)'
ROWS = r"""
SELECT i, CASE WHEN i % 50 <> 7 THEN (ARRAY['http://www.', 'https://', 'http://', '', 'ftp://'])[1 + i % 5] || (ARRAY['example.com', 'www.', 'пример.рф', 'a', ''])[1 + i / 5 % 5]
    || (ARRAY['/', '', '/a/b', E'/\n', '/é?q=1'])[1 + i / 25 % 5] END,
  (SELECT string_agg(substr('aab/.é' || E'\n', 1 + (i * 7919 + p * p * 31 + p * i) % 7, 1), '' ORDER BY p) FROM generate_series(1, i % 11) p), repeat('ab', i % 5) || repeat('b', i % 3)
FROM generate_series(0, 999) i
"""

CALLS = [
    r"t, '^https?://(?:www\.)?([^/]+)/.*$', '\1'", r"t, '^https?://(?:www\.)?([^/]+)/.*$', '<\1|\&|\\>'", r"t, '^(.*)(/.*)$', '\2\1'", r"c, '^(a*)(?:ab)?(.*)$', '\1-\2'", "c, '^.+$', 'x'", "c, '^$', 'empty'",
    r"v, '^(?:ab)+(b*)$', '[\1]'", r"c, '^a?(?:ab)?(b*).*$', '[\1]'",
    # PostgreSQL's own.
    r"t, '^https?', ''", r"t, '(.)$', '\1\1'", r"c, '^(a|ab)(.*)$', '\2'", r"c, '^(a)*(b*).*$', '\1\2'", r"c, '^(a*?)(a*)(.*)$', '\1-\2'", r"t, '^(\w+):(.*)$', '\1'", r"c, '^(a)\1(.*)$', '\2'", "c, '^a.*$', 'x', 'n'",
    r"c, '^(a+)(.*)$', '\x\1'", r"c, '^(a+)(.*)$', '\3'", "t, NULL, 'x'",
    # Errors.
    "c, '^(a$', ''", "c, '^[z-a]$', ''", "c, '^*$', ''",
]


@pytest.fixture(scope="module")
def both(session_cluster):
    with stocked(session_cluster, COLUMNS, ROWS, segments=5) as both:
        yield both


@pytest.mark.parametrize("call", CALLS)
def test_calls(both, call):
    made = f"regexp_replace({call})"
    both.same(f"SELECT {made}, count(*), min(t), sum(length(c)) FROM {{t}} GROUP BY 1")
    both.same(f"SELECT {made} AS k, v, count(*) FROM {{t}} WHERE c <> '' GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2 LIMIT 20", ordered=True)
    both.same(f"SELECT i % 3, min({made}), max({made}), count(DISTINCT {made}) FROM {{t}} GROUP BY 1")
    both.same(f"SELECT i, {made} FROM {{t}} WHERE length({made}) > 3")


def sequence(rng, depth=0):
    """A part of an expression whose groups are not remembered."""
    made = ""
    for _ in range(rng.choice([0, 1, 1, 2, 3]) if depth == 0 else rng.choice([1, 2])):
        atom = rng.choice(["a", "b", "/", ".", "[^/]", "[ab]", "[^a-b]", r"\.", "[/.]", "é"][: 10 if rng.random() < 0.1 else 9])
        if depth < 2 and rng.random() < 0.25:
            atom = f"(?:{sequence(rng, depth + 1)})"
        made += atom + rng.choice(["", "", "*", "+", "?"])
    return made


@pytest.mark.parametrize("seed", range(6))
def test_random_patterns(both, seed):
    rng = random.Random(seed)
    for _ in range(60):
        parts = [sequence(rng) for _ in range(rng.choice([1, 3, 5]))]
        pattern = "".join(f"({part})" if nth % 2 else part for nth, part in enumerate(parts))
        groups = len(parts) // 2
        shown = "".join(rf"<\{n + 1}>" for n in range(groups)) + "!"
        both.same(f"SELECT regexp_replace({rng.choice('ct')}, '^{pattern}$', '{shown}') AS k, count(*), max(i) FROM {{t}} GROUP BY 1")


def test_plan(both):
    """It is pushed, however many values there are."""
    both.pushed(r"SELECT regexp_replace(t, '^https?://(?:www\.)?([^/]+)/.*$', '\1') AS k, avg(length(t)), count(*), min(t) FROM {t} WHERE t <> '' GROUP BY 1")
    both.pushed(r"SELECT regexp_replace(t, '^https?', '') AS k, count(*) FROM {t} GROUP BY 1")


def test_rows_by_text(both):
    """Texts that begin alike are told apart."""
    for order in ["c", "c DESC", "c NULLS FIRST, i", "c DESC NULLS LAST, i DESC"]:
        for limit in [0, 1, 10, 300, 5000]:
            both.same(f"SELECT c FROM {{t}} ORDER BY {order} LIMIT {limit}", ordered=True)
            both.same(f"SELECT c FROM {{t}} WHERE c <> '' ORDER BY {order} LIMIT {limit} OFFSET 3", ordered=True)
    both.same("SELECT c FROM {t} WHERE i < 400 ORDER BY c FETCH FIRST 5 ROWS WITH TIES")
