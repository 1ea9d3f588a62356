"""SELECT DISTINCT and GROUP BY inside larger plans, against the same rows in a heap table: what the engine does and what stays PostgreSQL's."""

import pytest

from both import Both


ALONE = """
SELECT DISTINCT v FROM {t}
SELECT DISTINCT v, ok, e FROM {t} WHERE n > 10
SELECT DISTINCT v, v AS again FROM {t}
SELECT DISTINCT 1 FROM {t}
SELECT DISTINCT 1 FROM {t} WHERE n = 123456
SELECT DISTINCT 'x', v FROM {t}
SELECT DISTINCT extract(month FROM ts), s FROM {t}
SELECT DISTINCT date_trunc('day', ts) FROM {t} WHERE ts > '2020-01-01'
SELECT DISTINCT m FROM {t} WHERE v LIKE 'v%'
""".strip().splitlines()


@pytest.mark.parametrize("query", ALONE)
def test_one_scan(both, query):
    both.pushed(query)
    plan = both.plan(query)
    assert plan.count("->") <= 1 and "Unique" not in plan and "Aggregate" not in plan, plan


ABOVE = """
SELECT DISTINCT v FROM {t} ORDER BY v
SELECT DISTINCT v, e FROM {t} ORDER BY e DESC NULLS LAST, v LIMIT 7 OFFSET 2
SELECT DISTINCT s FROM {t} ORDER BY s LIMIT 3
SELECT count(*), min(q.v) FROM (SELECT DISTINCT v, s FROM {t}) q
SELECT v FROM (SELECT DISTINCT v FROM {t}) q WHERE v > 'v3'
SELECT DISTINCT v FROM {t} UNION ALL SELECT DISTINCT x FROM {t}
SELECT i FROM {t} WHERE v IN (SELECT DISTINCT v FROM {t} WHERE n > 400)
WITH d AS MATERIALIZED (SELECT DISTINCT v, ok FROM {t}) SELECT a.v, b.ok FROM d a JOIN d b ON a.v = b.v
""".strip().splitlines()


@pytest.mark.parametrize("query", ABOVE)
def test_below_other_nodes(both, query):
    both.pushed(query, ordered="ORDER BY" in query)
    plan = both.plan(query)
    assert "Unique" not in plan and "Pushed Group Key" in plan, plan


POSTGRESQLS = """
SELECT DISTINCT count(*) FROM {t} GROUP BY v
SELECT DISTINCT row_number() OVER (ORDER BY i) FROM {t}
SELECT DISTINCT ON (v) v, i FROM {t} ORDER BY v, i
SELECT DISTINCT generate_series(1, s) FROM {t} WHERE s < 4
SELECT DISTINCT a.v FROM {t} a JOIN {t} b ON a.i = b.i
""".strip().splitlines()


@pytest.mark.parametrize("query", POSTGRESQLS)
def test_what_postgresql_makes_distinct(both, query):
    both.pushed(query)


def test_refusals_have_reasons(both):
    query = "SELECT DISTINCT concat(v, s, n, e, k) FROM {t}"
    assert "more than 4 columns" in both.reason(query)
    assert "DISTINCT is done by PostgreSQL" in both.plan(query)
    both.same(query)
    both.pushed("SELECT DISTINCT j FROM {t}")
    both.pushed("SELECT DISTINCT c FROM {t}")


def test_parameters(both):
    both.execute("SET plan_cache_mode = force_generic_plan; SET basalt.require_pushdown = on")
    for schema in ("heap", "store"):
        both.execute(f"PREPARE d_{schema}(int) AS SELECT DISTINCT v, $1 FROM {schema}.t WHERE n > $1 ORDER BY v")
    for n in (-1000, 400, 480, 100000):
        assert both.answer("heap", f"EXECUTE d_heap({n})") == both.answer("store", f"EXECUTE d_store({n})")
    both.execute("DEALLOCATE ALL; RESET plan_cache_mode; RESET basalt.require_pushdown")


def test_costs_never_favour_the_rows(database):
    """A scan that is thought to find next to nothing is still aggregated by the engine."""
    both = Both(database, "i int, a text, b text, ts timestamptz")
    both.insert("SELECT i, 'a' || i % 200, 'b' || i % 300, '2020-01-01'::timestamptz + i * interval '1 minute' FROM generate_series(1, 20000) i", segments=2)
    filters = ["", "WHERE a = 'a5' AND b LIKE 'b1%' AND i > 1", "WHERE a = 'none' AND b = 'none'", "WHERE a = 'a1' AND b = 'b1' AND ts = '2020-01-01' AND i = 7"]
    for where in filters:
        for query in [f"SELECT date_trunc('day', ts), b, count(*) FROM {{t}} {where} GROUP BY 1, 2", f"SELECT a, b, count(*) FROM {{t}} {where} GROUP BY 1, 2 ORDER BY 1, 2",
                      f"SELECT i, sum(i) FROM {{t}} {where} GROUP BY i ORDER BY i LIMIT 3", f"SELECT DISTINCT i, ts FROM {{t}} {where} ORDER BY 1, 2", f"SELECT DISTINCT i FROM {{t}} {where} LIMIT 1"]:
            if not query.endswith("LIMIT 1"):
                both.pushed(query)
            plan = both.plan(query)
            assert "Pushed Group Key" in plan, plan


@pytest.mark.parametrize("mixed", [False, True])
def test_partitions_are_aggregated_one_by_one(database, mixed):
    both = Both(database, "ts timestamptz, city text, n int", name="unused")
    for schema, kind, options in (("heap", "TABLE", ""), ("store", "FOREIGN TABLE", " SERVER basalt OPTIONS (time_column 'ts')")):
        both.execute(f"CREATE TABLE {schema}.t (ts timestamptz NOT NULL, city text, n int) PARTITION BY LIST (city)")
        for number, cities in enumerate(["'c0', 'c1', 'c2'", "'c3'", "NULL, 'c4', 'c5', 'c6'"]):
            if mixed and number == 1:
                both.execute(f"CREATE TABLE {schema}.t{number} PARTITION OF {schema}.t FOR VALUES IN ({cities})")
            elif number == 2:
                # Columns in another order than the parent's.
                both.execute(f"CREATE {kind} {schema}.t{number} (gone int, n int, city text, ts timestamptz NOT NULL){options}")
                both.execute(f"ALTER FOREIGN TABLE {schema}.t{number} DROP gone" if schema == "store" else f"ALTER TABLE {schema}.t{number} DROP gone")
                both.execute(f"ALTER TABLE {schema}.t ATTACH PARTITION {schema}.t{number} FOR VALUES IN ({cities})")
            else:
                both.execute(f"CREATE {kind} {schema}.t{number} PARTITION OF {schema}.t FOR VALUES IN ({cities}){options}")
        both.execute(f"INSERT INTO {schema}.t SELECT '2020-01-01'::timestamptz + i * interval '1 hour', CASE WHEN i % 9 > 0 THEN 'c' || i % 7 END, i % 100 FROM generate_series(1, 5000) i")
    both.name = "t"
    both.execute("SET enable_partitionwise_aggregate = on")
    for query in ["SELECT city, count(*), sum(n), avg(n) FROM {t} GROUP BY city", "SELECT city, date_trunc('month', ts), max(n) FROM {t} WHERE n > 5 GROUP BY 1, 2",
                  "SELECT city FROM {t} GROUP BY city HAVING min(n) < 3 AND city > 'c1'", "SELECT count(*), city || 'x', n FROM {t} GROUP BY city, n ORDER BY 1, 2, 3 LIMIT 10"]:
        both.pushed(query, ordered="ORDER BY" in query)
        plan = both.plan(query)
        assert plan.count("Pushed Group Key") == (2 if mixed else 3), plan
        assert plan.count("Aggregate") == plan.count("Pushed Aggregates") + (1 if mixed else 0), plan
    # Without the partition key among the keys, partial aggregation is PostgreSQL's.
    both.same("SELECT n, count(*), sum(n) FROM {t} GROUP BY n")
    both.same("SELECT count(*), sum(n), max(ts) FROM {t}")
    both.same("SELECT DISTINCT city FROM {t}")
