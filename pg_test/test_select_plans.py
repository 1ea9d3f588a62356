"""Scans inside larger plans: joins, subplans, cursors, functions, partitions, privileges; EXPLAIN and estimates."""

import json

import psycopg
import pytest

from both import Both

COLUMNS = "i int, ts timestamptz, city text, n int, fare numeric(10,2)"
ROWS = """SELECT i, '2020-01-01'::timestamptz + i * interval '1 hour', CASE WHEN i % 9 = 0 THEN NULL ELSE 'c' || i % 20 END, i % 100,
  (i % 1000) / 4.0 FROM generate_series(1, 5000) i"""


@pytest.fixture
def both(database):
    both = Both(database, COLUMNS)
    both.insert(ROWS, segments=4)
    yield both
    both.connection.close()


QUERIES = """
SELECT a.i, b.n FROM {t} a JOIN {t} b ON a.i = b.i + 1 WHERE a.city = 'c3' AND b.n < 50
SELECT a.city, count(*) FROM {t} a LEFT JOIN {t} b ON a.n = b.n AND b.city = 'c1' GROUP BY a.city
SELECT a.i FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE b.n = a.i AND b.city > a.city)
SELECT a.i, (SELECT count(*) FROM {t} b WHERE b.n = a.n AND b.i < a.i) FROM {t} a WHERE a.i < 40
SELECT a.i, l.s FROM {t} a, LATERAL (SELECT sum(b.n) s FROM {t} b WHERE b.city = a.city AND b.i < a.i) l WHERE a.i BETWEEN 100 AND 120
SELECT a.i, l.i FROM {t} a, LATERAL (SELECT b.i FROM {t} b WHERE b.city = a.city ORDER BY b.i LIMIT 2) l WHERE a.i BETWEEN 100 AND 120
SELECT v, (SELECT max(i) FROM {t} WHERE n = v) FROM generate_series(0, 20) v
SELECT v, (SELECT count(*) FROM {t} WHERE n = ANY (ARRAY[v, v + 1]) AND city IS NOT NULL) FROM generate_series(0, 5) v
SELECT i, city, row_number() OVER (PARTITION BY city ORDER BY i) FROM {t} WHERE n = 7
SELECT city FROM {t} WHERE n = 1 UNION SELECT city FROM {t} WHERE n = 2
WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT t.i FROM {t} t JOIN r ON t.i = r.i * 2) SELECT * FROM r
SELECT DISTINCT ON (city) city, i FROM {t} ORDER BY city, i DESC
SELECT count(*) FROM {t} a JOIN {t} b USING (n) WHERE a.i < 200 AND b.i < 200
SELECT x FROM {t} x WHERE i < 5
SELECT x.*, x IS NOT NULL FROM {t} x WHERE i BETWEEN 5 AND 12
SELECT (x).city, row_to_json(x)::text FROM {t} x WHERE i < 12
SELECT count(x), count(x.*) FROM {t} x
SELECT i FROM {t} WHERE random() >= 0 AND i < 9
SELECT i FROM {t} ORDER BY ts DESC LIMIT 3
SELECT i FROM {t} WHERE i < 30 ORDER BY ts OFFSET 3
SELECT city, array_agg(i ORDER BY i) FROM {t} WHERE n < 3 GROUP BY city
SELECT i FROM {t} WHERE (n, i) IN (VALUES (1, 101), (2, 202))
SELECT i FROM {t} WHERE ts > (SELECT max(ts) - interval '5 hours' FROM {t})
SELECT q.c, count(*) FROM (SELECT count(*) c FROM {t} GROUP BY city) q GROUP BY q.c
SELECT CASE WHEN n > 50 THEN 'high' ELSE 'low' END, count(*) FROM {t} GROUP BY 1
SELECT sum(n) OVER (), count(*) FROM {t} GROUP BY n
""".strip().splitlines()


@pytest.mark.parametrize("settings", [
    "",
    "enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off",
    "enable_hashagg = off; SET enable_nestloop = off",
    "force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
    "jit = on; SET jit_above_cost = 0",
    "basalt.max_threads = 1; SET cursor_tuple_fraction = 0",
    "geqo_threshold = 2; SET from_collapse_limit = 1",
])
def test_in_any_plan(both, settings):
    if settings:
        both.execute(f"SET {settings}")
    for query in QUERIES:
        both.same(query, ordered="ORDER BY ts" in query)


def test_system_columns(both):
    ids = both.execute("SELECT DISTINCT tableoid::regclass::text FROM store.t").fetchall()
    assert ids == [("store.t",)]
    both.same("SELECT tableoid = '{t}'::regclass, i FROM {t} WHERE tableoid <> 0 AND i < 4")
    assert both.execute("SELECT count(*) FROM store.t WHERE tableoid = 'store.t'::regclass").fetchone() == (5000,)
    for column in ("xmin", "cmax"):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            both.execute(f"SELECT {column} FROM store.t")


def test_columns_come_and_go(both):
    for schema, kind in (("heap", ""), ("store", "FOREIGN ")):
        both.execute(f"PREPARE p_{schema} AS SELECT * FROM {schema}.t WHERE i < 5 ORDER BY i")
        both.execute(f"PREPARE g_{schema} AS SELECT city, count(*), sum(n) FROM {schema}.t GROUP BY city")
        for _ in range(7):
            both.execute(f"EXECUTE g_{schema}")
        both.execute(f"ALTER {kind}TABLE {schema}.t DROP COLUMN fare")
        both.execute(f"ALTER {kind}TABLE {schema}.t ADD COLUMN extra int, ADD COLUMN ready text DEFAULT 'yes'")
    both.insert("SELECT i, now(), 'new', i, i, CASE WHEN i % 2 = 0 THEN 'no' END FROM generate_series(1, 50) i")
    both.same("SELECT * FROM {t}")
    both.same("SELECT x FROM {t} x WHERE i < 10")
    both.pushed("SELECT ready, count(*), sum(extra), count(extra), min(ready) FROM {t} GROUP BY ready")
    both.pushed("SELECT extra, count(*) FROM {t} WHERE extra IS NULL OR extra > 40 GROUP BY extra")
    both.pushed("SELECT count(*) FROM {t} WHERE ready LIKE 'y%' AND ready = 'yes' AND extra IS NULL")
    both.pushed("SELECT count(*) FROM {t} WHERE ready <> 'yes' OR ready IS NULL")
    assert both.answer("heap", "EXECUTE g_heap") and sorted(both.answer("heap", "EXECUTE g_heap"), key=str) == sorted(both.answer("store", "EXECUTE g_store"), key=str)
    both.same("SELECT i, city, n, extra, ready FROM {t} WHERE NOT (n > 3)")


def test_no_columns(database):
    both = Both(database, "a int")
    both.insert("SELECT i FROM generate_series(1, 5) i", ordinal="a")
    for schema, kind in (("heap", ""), ("store", "FOREIGN ")):
        both.execute(f"ALTER {kind}TABLE {schema}.t DROP COLUMN a")
    both.same("SELECT * FROM {t}")
    both.same("SELECT count(*) FROM {t}")
    both.same("SELECT 1 FROM {t}")


def test_empty_table(database):
    both = Both(database, COLUMNS)
    both.same("SELECT * FROM {t}")
    both.pushed("SELECT count(*), sum(n), min(city), avg(fare) FROM {t}")
    both.pushed("SELECT city, count(*) FROM {t} GROUP BY city")
    both.pushed("SELECT date_trunc('day', ts), count(*) FROM {t} WHERE ts > '2020-01-01' GROUP BY 1")


def test_cursors_and_rows_of_the_transaction(both):
    with both.database.connect(autocommit=False) as connection:
        connection.execute("DECLARE c SCROLL CURSOR FOR SELECT i, city FROM store.t ORDER BY i")
        connection.execute("DECLARE d NO SCROLL CURSOR FOR SELECT i FROM store.t WHERE n < 50")
        connection.execute("DECLARE a CURSOR WITH HOLD FOR SELECT city, count(*) FROM store.t GROUP BY city ORDER BY city")
        assert connection.execute("FETCH 3 FROM c").fetchall() == [(1, "c1"), (2, "c2"), (3, "c3")]
        first = connection.execute("FETCH 100 FROM d").fetchall()
        connection.execute("INSERT INTO store.t (i, n, ts) VALUES (100000, 1, now())")
        assert connection.execute("SELECT count(*) FROM store.t").fetchone() == (5001,)
        rest = connection.execute("FETCH ALL FROM d").fetchall()
        assert len(first) + len(rest) == 2500 and (100000,) not in rest
        assert connection.execute("FETCH BACKWARD 2 FROM c").fetchall() == [(2, "c2"), (1, "c1")]
        assert len(connection.execute("FETCH ALL FROM c").fetchall()) == 4999
        connection.execute("SAVEPOINT s")
        connection.execute("INSERT INTO store.t (i, n, ts) SELECT 100001, 1, now() FROM generate_series(1, 7)")
        assert connection.execute("SELECT count(*) FROM store.t WHERE i > 99999").fetchone() == (8,)
        connection.execute("ROLLBACK TO s")
        assert connection.execute("SELECT count(*) FROM store.t WHERE i > 99999").fetchone() == (1,)
        connection.execute("COMMIT")
        assert len(connection.execute("FETCH ALL FROM a").fetchall()) == 21


def test_a_statement_does_not_see_its_own_rows(both):
    for schema in ("heap", "store"):
        both.execute(f"INSERT INTO {schema}.t SELECT i + 10000, ts, city, n, fare FROM {schema}.t WHERE i < 100")
        both.execute(f"WITH w AS (INSERT INTO {schema}.t (i, n) SELECT 20000, count(*) FROM {schema}.t RETURNING n) SELECT n, (SELECT count(*) FROM {schema}.t) FROM w")
    both.same("SELECT count(*), max(i) FROM {t}")


def test_plpgsql_and_prepared_plans(both):
    for schema in ("heap", "store"):
        both.execute(f"""
            CREATE FUNCTION {schema}.total(low int, which text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
            DECLARE s bigint := 0; r record; BEGIN
              FOR r IN SELECT * FROM {schema}.t WHERE n >= low AND city = which LOOP s := s + r.n; END LOOP;
              IF s <> coalesce((SELECT sum(n) FROM {schema}.t WHERE n >= low AND city = which), 0) THEN RAISE 'not the sum'; END IF;
              RETURN s;
            END $$;
            CREATE FUNCTION {schema}.add(x int) RETURNS bigint LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO {schema}.t (i, n) VALUES (x, x); RETURN (SELECT count(*) FROM {schema}.t); END $$""")
    both.same("SELECT v, c, " + "{s}.total(v, c) FROM generate_series(0, 90, 10) v, (VALUES ('c1'), ('c2'), (NULL)) q(c)".replace("{s}", "heap"))
    for query in ("SELECT v, {s}.total(v, 'c' || v % 7) FROM generate_series(0, 90, 10) v", "SELECT {s}.add(v) FROM generate_series(1, 5) v",
                  "DO $$ BEGIN FOR k IN 1..8 LOOP PERFORM {s}.total(k, 'c1'); END LOOP; END $$", "SELECT count(*) FROM {s}.t"):
        assert both.answer("heap", query.replace("{s}", "heap")) == both.answer("store", query.replace("{s}", "store")), query


def test_a_partition_of_a_partitioned_table(database):
    connection = database.connect()
    connection.execute("""
        CREATE TABLE whole (ts timestamptz NOT NULL, city text, n int) PARTITION BY RANGE (ts);
        CREATE FOREIGN TABLE old PARTITION OF whole FOR VALUES FROM (MINVALUE) TO ('2020-01-01') SERVER basalt;
        CREATE FOREIGN TABLE older (n int, gone int, city text, ts timestamptz NOT NULL) SERVER basalt;
        ALTER FOREIGN TABLE older DROP COLUMN gone;
        ALTER TABLE whole ATTACH PARTITION older FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
        CREATE TABLE recent PARTITION OF whole FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
        CREATE TABLE heap (ts timestamptz NOT NULL, city text, n int);
        INSERT INTO heap SELECT '2019-06-01'::timestamptz + i * interval '5 hours', 'c' || i % 7, i FROM generate_series(1, 4000) i;
        INSERT INTO whole SELECT * FROM heap""")
    for wise in ("off", "on"):
        connection.execute(f"SET enable_partitionwise_aggregate = {wise}")
        for query in ("SELECT tableoid::regclass::text <> '', count(*), sum(n) FROM {t} GROUP BY 1", "SELECT city, count(*), sum(n), max(ts), avg(n) FROM {t} WHERE n % 2 = 0 OR city > 'c3' GROUP BY city",
                      "SELECT * FROM {t} WHERE ts > '2019-12-30' AND ts < '2020-01-02'", "SELECT count(DISTINCT city) FROM {t}", "SELECT ts, count(*) FROM {t} WHERE n < 30 GROUP BY ts",
                      "SELECT x FROM {t} x WHERE n BETWEEN 1 AND 4 OR n BETWEEN 3500 AND 3510", "SELECT ts, city, count(*), min(n) FROM {t} WHERE city = 'c2' GROUP BY ts, city HAVING count(*) = 1"):
            answers = [sorted(connection.execute(query.replace("{t}", table)).fetchall(), key=str) for table in ("heap", "whole")]
            assert answers[0] == answers[1], query
    connection.execute("SET enable_partitionwise_aggregate = on")
    plan = "\n".join(r[0] for r in connection.execute("EXPLAIN SELECT ts, count(*) FROM whole GROUP BY ts"))
    assert "Pushed Group Key: whole.ts" in plan or "Pushed Group Key: old.ts" in plan or "Pushed Group Key" in plan, plan


def test_privileges(both):
    both.execute("""
        CREATE ROLE select_reader; CREATE ROLE select_stranger; GRANT USAGE ON SCHEMA store TO select_reader, select_stranger;
        GRANT SELECT (i, city) ON store.t TO select_reader;
        CREATE VIEW store.shown AS SELECT city, n FROM store.t WHERE n < 10; GRANT SELECT ON store.shown TO select_stranger;
        CREATE FUNCTION store.secured() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT sum(n) FROM store.t';
        CREATE FUNCTION store.unsecured() RETURNS bigint LANGUAGE sql AS 'SELECT sum(n) FROM store.t'""")
    total, few = both.execute("SELECT sum(n) FROM heap.t").fetchone(), both.execute("SELECT count(*) FROM heap.t WHERE n < 10").fetchone()
    try:
        both.execute("SET ROLE select_reader")
        assert both.execute("SELECT count(*), max(city) FROM store.t").fetchone() == both_answer(both, "SELECT count(*), max(city) FROM heap.t")
        assert both.execute("SELECT city FROM store.t WHERE i = 5").fetchone() == ("c5",)
        for query in ("SELECT * FROM store.t", "SELECT sum(n) FROM store.t", "SELECT city FROM store.t WHERE n = 1", "SELECT city, count(*) FROM store.t GROUP BY city HAVING max(n) > 1",
                      "SELECT count(*) FROM store.shown", "SELECT store.unsecured()", "SELECT * FROM basalt.segment"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                both.execute(query)
        both.execute("SET ROLE select_stranger")
        assert both.execute("SELECT count(*) FROM store.shown").fetchone() == few
        assert both.execute("SELECT store.secured()").fetchone() == total
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            both.execute("SELECT count(*) FROM store.t")
    finally:
        both.execute("RESET ROLE; DROP OWNED BY select_reader, select_stranger; DROP ROLE select_reader; DROP ROLE select_stranger")


def both_answer(both, query):
    role = both.execute("SELECT current_user").fetchone()[0]
    both.execute("RESET ROLE")
    answer = both.execute(query).fetchone()
    both.execute(f"SET ROLE {role}")
    return answer


def test_explain(both):
    plan = both.plan("SELECT i, city FROM {t} WHERE city LIKE 'c1%' AND NOT (n > 5 OR i IS NULL) AND city || i < 'c9'")
    assert "Pushed Filter" in plan and "city ~~ 'c1%'::text" in plan and "Filter: ((city ||" in plan and "Not Pushed" in plan
    plan = both.plan("SELECT date_trunc('day', ts), count(*) FROM {t} WHERE ts < '2020-02-01' GROUP BY 1", "ANALYZE, VERBOSE, TIMING OFF, SUMMARY OFF")
    assert "Pushed Group Key: date_trunc('day'::text, t.ts)" in plan and "Segments Considered: 4" in plan and "Rows Selected: 743" in plan, plan
    ((found,),) = both.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT city, sum(n) FROM store.t WHERE ts >= '2030-01-01' GROUP BY city").fetchall()
    node = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    assert node["Pushed Group Key"] == ["city"] and node["Pushed Aggregates"] == ["sum(n)"] and node["Segments Pruned by Time"] == 4 and node["Segments Scanned"] == 0
    ((found,),) = both.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM store.t WHERE i > 1000000").fetchall()
    node = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    assert node["Segments Pruned by Statistics"] == 4
    both.execute("PREPARE p(int, timestamptz) AS SELECT count(*) FROM store.t WHERE n = $1 AND ts > $2; SET plan_cache_mode = force_generic_plan")
    plan = "\n".join(r[0] for r in both.execute("EXPLAIN (ANALYZE, COSTS OFF) EXECUTE p(5, '2030-01-01')"))
    assert "(n = $1)" in plan and "Segments Pruned by Time: 4" in plan, plan


def rows_of(both, query):
    ((found,),) = both.execute("EXPLAIN (FORMAT JSON) " + query.replace("{t}", "store.t")).fetchall()
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]["Plan Rows"]


def test_estimates_without_analyze(both):
    assert rows_of(both, "SELECT * FROM {t}") == 5000
    assert 200 <= rows_of(both, "SELECT * FROM {t} WHERE city = 'c3'") <= 600
    assert 20 <= rows_of(both, "SELECT * FROM {t} WHERE n = 3") <= 250
    assert 400 <= rows_of(both, "SELECT * FROM {t} WHERE city IS NULL") <= 700
    assert 800 <= rows_of(both, "SELECT * FROM {t} WHERE i < 1000") <= 1200
    assert 800 <= rows_of(both, "SELECT * FROM {t} WHERE ts < '2020-02-11 15:00'") <= 1200
    assert 6 <= rows_of(both, "SELECT city, count(*) FROM {t} GROUP BY city") <= 30
    assert rows_of(both, "SELECT date_trunc('day', ts), count(*) FROM {t} GROUP BY 1") <= 1000
    assert rows_of(both, "SELECT date_trunc('day', ts), count(*) FROM {t} WHERE ts < '2020-01-05' GROUP BY 1") <= 20
    assert 2000 <= rows_of(both, "SELECT * FROM {t} a JOIN {t} b ON a.i = b.i") <= 9000
    assert 100000 <= rows_of(both, "SELECT * FROM {t} a JOIN {t} b ON a.n = b.n") <= 500000
    assert rows_of(both, "SELECT * FROM {t} WHERE city LIKE '%1%'") > 1


def test_explain_without_analyze_tells_what_is_pruned(both):
    pruned = both.plan("SELECT count(*) FROM {t} WHERE ts < '2019-06-01'")
    assert "Segments Considered: 4" in pruned and "Segments Pruned by Time: 4" in pruned and "Blocks" not in pruned
    assert "Segments Pruned by Statistics: 4" in both.plan("SELECT * FROM {t} WHERE n = 100 + 7")
    # Where it depends on a value that is not known, nothing is said.
    both.execute("SET plan_cache_mode = force_generic_plan; PREPARE later AS SELECT count(*) FROM store.t WHERE ts < $1")
    assert "Considered" not in both.plan("EXECUTE later('2019-06-01')")
    assert "Considered" not in both.plan("SELECT count(*) FROM {t} WHERE ts < now()")
    both.execute("RESET plan_cache_mode; DEALLOCATE later")
    # Nor is anything written.
    both.execute("BEGIN; INSERT INTO store.t VALUES (0, '2020-01-01', 'x', 1, 1)")
    assert "Segments Considered: 4" in both.plan("SELECT count(*) FROM {t}")
    both.execute("ROLLBACK")


@pytest.mark.parametrize("together", [True, False])
def test_estimates_with_far_values(database, together):
    """A few rows at impossible times must not make ordinary ranges look empty."""
    with database.connect() as connection:
        connection.execute("CREATE FOREIGN TABLE f (ts timestamptz, x int) SERVER basalt OPTIONS (time_column 'ts')")
        ordinary = "SELECT timestamptz '2010-01-01' + i * interval '1 hour', i FROM generate_series(1, 10000) i"
        far = "VALUES (timestamptz '0044-03-15 12:00 BC', 0), (timestamptz '9999-12-31', 0)"
        if together:
            connection.execute(f"INSERT INTO f {ordinary} UNION ALL {far}")
        else:
            connection.execute(f"INSERT INTO f {ordinary}")
            connection.execute(f"INSERT INTO f {far}")

        def estimate(condition):
            return connection.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM f WHERE {condition}").fetchone()[0][0]["Plan"]["Plan Rows"]

        most = "ts >= '2010-01-01' AND ts < '2011-02-01'"
        assert estimate(most) >= (50 if together else 5000)
        assert estimate(f"{most} AND x = 3") < 10
        if not together:
            assert 1000 < estimate("ts >= '2010-03-01' AND ts < '2010-05-01'") < 2000


def test_for_update_and_inheritance_of_plans(both):
    assert len(both.execute("SELECT i FROM store.t WHERE i < 4 FOR SHARE").fetchall()) == 3
    both.execute("CREATE TABLE other (i int PRIMARY KEY, v text); INSERT INTO other SELECT i, 'x' FROM generate_series(1, 10) i")
    both.execute("UPDATE other SET v = s.city FROM store.t s WHERE s.i = other.i")
    assert both.execute("SELECT count(*) FROM other WHERE v LIKE 'c%'").fetchone() == (9,)
    both.execute("DELETE FROM other USING store.t s WHERE s.i = other.i AND s.n < 5")
    assert both.execute("SELECT count(*) FROM other").fetchone() == (6,)


def test_two_sessions_see_their_snapshots(both):
    with both.database.connect(autocommit=False) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert old.execute("SELECT count(*) FROM store.t").fetchone() == (5000,)
        both.execute("INSERT INTO store.t (i) VALUES (1)")
        assert both.execute("SELECT count(*) FROM store.t").fetchone() == (5001,)
        assert old.execute("SELECT count(*), count(i) FROM store.t").fetchone() == (5000, 5000)
        old.execute("ROLLBACK")
        assert old.execute("SELECT count(*) FROM store.t").fetchone() == (5001,)
        old.execute("ROLLBACK")
        old.execute("INSERT INTO store.t (i) VALUES (2)")
        assert old.execute("SELECT count(*) FROM store.t").fetchone() == (5002,)
        assert both.execute("SELECT count(*) FROM store.t").fetchone() == (5001,)
        old.execute("ROLLBACK")
        assert old.execute("SELECT count(*) FROM store.t").fetchone() == (5001,)


def test_analyze(both):
    both.execute("ANALYZE store.t; ANALYZE heap.t")
    for column in ("null_frac", "most_common_vals::text LIKE '{c%'"):
        query = f"SELECT {column} FROM pg_stats WHERE schemaname = %s AND tablename = 't' AND attname = 'city'"
        answers = [both.execute(query.replace("%'", "%%'"), (schema,)).fetchone() for schema in ("heap", "store")]
        assert answers[0] is not None and answers[0] == answers[1]
    assert both.execute("SELECT reltuples FROM pg_class WHERE oid = 'store.t'::regclass").fetchone() == (5000,)
    assert 200 <= rows_of(both, "SELECT * FROM {t} WHERE n < 5") <= 300


def test_a_repeated_scan_reads_segments_once(both):
    """Of rows and of groups: what filters ask PostgreSQL about is asked once, however often the scan is repeated."""
    connection = both.connection
    connection.execute("CREATE SEQUENCE IF NOT EXISTS seen")
    connection.execute("CREATE FUNCTION pg_temp.noted(value text) RETURNS bool LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN PERFORM nextval('seen'); RETURN true; END $$")
    for setting in ("material", "hashjoin", "mergejoin", "memoize"):
        connection.execute(f"SET enable_{setting} = off")
    try:
        for inner in ("SELECT n AS value FROM store.t WHERE pg_temp.noted(city)", "SELECT n AS value, count(*) FROM store.t WHERE pg_temp.noted(city) GROUP BY 1"):
            asked, answers = [], []
            for times in (1, 7):
                connection.execute("SELECT setval('seen', 1)")
                sql = f"SELECT count(*), sum(value) FROM generate_series(1, {times}) AS g LEFT JOIN ({inner} OFFSET 0) AS s ON s.value <> g * 1000000"
                answers.append(connection.execute(sql).fetchone())
                asked.append(connection.execute("SELECT last_value FROM seen").fetchone()[0])
            assert asked[0] > 1 and asked[1] == asked[0], inner
            assert answers[1] == tuple(value * 7 for value in answers[0])
    finally:
        connection.execute("RESET ALL")


def test_comparisons_with_infinite_times_are_planned(database):
    """Estimates ask PostgreSQL's operators about bounds of the segments, which raise errors for times between the last and the infinite one."""
    both = Both(database, "tl timestamp, ts timestamptz, d date")
    both.insert("VALUES ('-infinity'::timestamp, 'infinity'::timestamptz, '-infinity'::date), ('2010-09-23 22:20', '2010-09-23 22:20', '2010-09-23')")
    both.insert("VALUES ('infinity'::timestamp, '-infinity'::timestamptz, 'infinity'::date), ('2010-09-24 22:20', '2010-09-24 22:20', '2010-09-24')")
    for column in ("tl", "ts", "d"):
        for other in ("timestamp '2010-09-01 01:00'", "timestamptz '2010-09-01 01:00+02'", "date '2010-09-01'", "timestamptz '2010-09-24 01:00+02'"):
            for operator in ("<", ">="):
                both.same(f"SELECT count(*) FROM {{t}} WHERE {column} {operator} {other}")
    both.connection.close()
