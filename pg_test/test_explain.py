"""What EXPLAIN tells of a scan's execution, in each of its formats."""

import json
import xml.etree.ElementTree as xml

import psycopg
import pytest

from both import stocked

COUNTS = ["Segments Considered", "Segments Pruned by Time", "Segments Pruned by Statistics", "Segments Scanned", "Blocks", "Blocks Skipped",
          "Blocks Answered from Headers", "Rows Scanned", "Rows Selected", "Threads"]
TIMES = ["Engine Time", "Merge Time", "Output Time"]
ROWS = """SELECT i, timestamptz '2024-01-01' + i * interval '1 minute', 'city' || i % 5, CASE WHEN i / 2 % 1500 = 7 THEN 'rare' ELSE 'often' || i % 3 END, 'note' || i, i % 100, i / 4.0
          FROM generate_series(0, 199999) i"""


@pytest.fixture(scope="module")
def both(session_cluster):
    columns = "i int, ts timestamptz, city text, rare text, note text, n int, f float8"
    with stocked(session_cluster, columns, ROWS, segments=2, options="time_column 'ts'") as both:
        yield both


def node(both, query, options="ANALYZE, BUFFERS, VERBOSE"):
    ((found,),) = both.execute(f"EXPLAIN ({options}, FORMAT JSON) " + query.replace("{t}", "store.t")).fetchall()
    waiting = [(json.loads(found) if isinstance(found, str) else found)[0]["Plan"]]
    while waiting:
        plan = waiting.pop()
        if plan["Node Type"] == "Foreign Scan":
            return plan
        waiting.extend(plan.get("Plans", []))
    raise AssertionError(f"no scan: {found}")


@pytest.mark.parametrize("query", ["SELECT city, sum(n) FROM {t} WHERE n < 50 GROUP BY city", "SELECT * FROM {t} WHERE n < 50"])
def test_counts_and_times_are_numbers(both, query):
    plan = node(both, query)
    assert all(type(plan[count]) is int for count in COUNTS), plan
    assert all(type(plan[time]) is float and plan[time] >= 0 for time in TIMES), plan
    assert plan["Rows Selected"] == 100_000 and plan["Rows Scanned"] == 200_000 and plan["Blocks"] == 4 and plan["Segments Scanned"] == 2
    assert plan["Engine Time"] > 0 and plan["Output Time"] > 0
    assert plan["Engine Time"] + plan["Merge Time"] + plan["Output Time"] <= plan["Actual Total Time"] + 0.1
    assert plan["Filter Methods"] == [{"Column": "n", "Method": "scan of values", "Segments": 2}]


def test_what_options_leave_out(both):
    query = "SELECT city, sum(n) FROM {t} GROUP BY city"
    plan = node(both, query, "ANALYZE, TIMING OFF")
    assert not any(time in plan for time in TIMES) and "Bytes Touched" not in plan and plan["Rows Selected"] == 200_000
    assert not any(key in node(both, query, "VERBOSE") for key in [*TIMES, "Bytes Touched", "Threads", "Filter Methods", "Rows Selected"])


def test_bytes_are_those_of_the_columns_that_are_read(both):
    few, more = (node(both, query)["Bytes Touched"] for query in ("SELECT sum(n) FROM {t} WHERE n <> 5", "SELECT sum(n), min(f + n), max(note) FROM {t} WHERE n <> 5"))
    assert 0 < few < more < 20_000_000
    assert node(both, "SELECT count(*), min(i), max(i) FROM {t}")["Bytes Touched"] == 0
    # One interval of many blocks.
    part = node(both, "SELECT sum(n) FROM {t} WHERE n <> 5 AND ts < '2024-01-02'")
    assert 0 < part["Bytes Touched"] < few and part["Blocks Skipped"] == 2


METHODS = {
    "SELECT count(*) FROM {t} WHERE rare = 'rare'": ("rare", {"bitmap"}),
    "SELECT count(*) FROM {t} WHERE city = 'city1'": ("city", {"scan of codes"}),
    "SELECT count(*) FROM {t} WHERE city = 'nowhere' OR i < 10": ("city", {"dictionary"}),
    "SELECT count(*) FROM {t} WHERE note = 'note70000'": ("note", {"block list", "dictionary", "bitmap"}),
    "SELECT count(*) FROM {t} WHERE f > 100": ("f", {"scan of values"}),
    "SELECT count(*) FROM {t} WHERE i * n > 100": ("(i * n)", {"computation"}),
    "SELECT count(*) FROM {t} WHERE upper(city) = 'CITY1'": ("city", {"scan of codes"}),
}


@pytest.mark.parametrize("query", METHODS)
def test_how_filters_are_decided(both, query):
    column, ways = METHODS[query]
    found = [m for m in node(both, query)["Filter Methods"] if m["Column"] == column]
    assert found and {m["Method"] for m in found} <= ways and sum(m["Segments"] for m in found) >= 2, found
    assert both.same(query)
    text = both.plan(query, "ANALYZE, COSTS OFF")
    assert f"Filter Methods: {column} by" in text or f", {column} by" in text, text


def test_reasons_are_one_list(both):
    query = "SELECT city, count(*) FROM {t} WHERE n + random() > 2 GROUP BY city"
    plan = node(both, query, "VERBOSE")
    reasons = plan["Not Pushed"]
    assert plan["To Push Down"] == ["call volatile functions in a query around this one"]
    assert type(reasons) is list and any("volatile" in reason for reason in reasons), reasons
    text = both.plan(query)
    assert all(f"Not Pushed: {reason}" in text for reason in reasons) and "To Push Down: call volatile functions" in text, text
    both.execute("SET basalt.require_pushdown = on")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as raised:
        both.execute(query.replace("{t}", "store.t"))
    assert raised.value.diag.message_hint.startswith("To push it down, call volatile functions in a query around this one. ")
    both.execute("RESET basalt.require_pushdown")


def test_every_format(both):
    query = "SELECT city, count(*) FROM store.t WHERE i > 7 AND n + random() > 2 GROUP BY city"
    for form in ("TEXT", "JSON", "YAML", "XML"):
        rows = [row[0] for row in both.execute(f"EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT {form}) " + query).fetchall()]
        if form == "XML":
            assert xml.fromstring(rows[0]).find(".//{*}Filter-Method/{*}Column").text == "i"
        if form == "YAML":
            assert "Threads: 1" in rows[0] and 'Column: "i"' in rows[0]


def test_rescans_add_up(both):
    plan = node(both, "SELECT (SELECT count(*) FROM {t} WHERE n = q) FROM generate_series(1, 3) q")
    assert plan["Segments Scanned"] == 6 and plan["Rows Selected"] == 6000
