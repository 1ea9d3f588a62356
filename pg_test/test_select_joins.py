"""A datasource joined with dimensions: one Foreign Scan, and the answer of the same query over a heap table."""

import psycopg
import pytest

from both import Both

FACT = "i int NOT NULL, ts timestamptz, k int, b bigint, s text, c char(3), day date, n int, m numeric(10,2), x float8"
ROWS = """
SELECT i, '2024-01-01'::timestamptz + i * interval '7 minutes',
  CASE WHEN i % 11 = 0 THEN NULL ELSE i % 60 END, CASE WHEN i % 13 = 0 THEN NULL ELSE (i % 50)::bigint * 4000000000 END,
  CASE WHEN i % 9 = 0 THEN NULL ELSE 's' || i % 70 END, (ARRAY['a', 'ab', 'b'])[1 + i % 3], '2024-01-01'::date + i % 40,
  i % 100 - 50, (i % 1000) / 4.0, i / 3.0
FROM generate_series(1, 4000) i
"""
# Some keys are missing, some match nothing.
DIMENSIONS = """
CREATE TABLE region (id int PRIMARY KEY, title text, open boolean, weight numeric(6,3));
INSERT INTO region SELECT i, 'region ' || i, i % 2 = 0, i / 8.0 FROM generate_series(1, 6) i;
CREATE TABLE shop (k int PRIMARY KEY, name text, city text COLLATE "C", code char(4), region int, factor numeric(6,2), size float8, level smallint,
  big bigint UNIQUE, opened date, tags text[], about jsonb, note varchar(9));
INSERT INTO shop SELECT i, CASE WHEN i % 10 <> 3 THEN 'shop ' || i END, (ARRAY['Rome', 'Oslo', 'Bern'])[1 + i % 3], 'c' || i % 4,
  CASE WHEN i % 5 > 0 THEN i % 8 END, CASE WHEN i % 7 > 0 THEN i / 3.0 END, CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' ELSE i / 7.0 END,
  i % 12 - 4, i::bigint * 4000000000, '2023-01-01'::date + i % 90, CASE WHEN i % 4 > 0 THEN ARRAY['t' || i % 3, NULL] END,
  format('{"a": %s}', i % 3)::jsonb, 'n' || i % 5
FROM generate_series(-3, 45) i;
CREATE TABLE label (s text PRIMARY KEY, kind text, rank int);
INSERT INTO label SELECT 's' || i, 'kind ' || i % 4, i FROM generate_series(0, 90) i WHERE i % 3 > 0;
CREATE TABLE listed (k int, s text, worth int);
INSERT INTO listed SELECT CASE WHEN i % 6 > 0 THEN i % 20 END, 's' || i % 15, i FROM generate_series(1, 100) i;
CREATE TABLE tariff (k int, s text, price numeric(6,2), from_n int, PRIMARY KEY (k, s));
INSERT INTO tariff SELECT k, 's' || i, (k + i) / 4.0, i % 40 - 20 FROM generate_series(0, 58, 2) k, generate_series(0, 69, 3) i WHERE (k + i) % 7 > 0;
CREATE TABLE slot (k int, day date, n int, word text, UNIQUE (day, n, k));
INSERT INTO slot SELECT CASE WHEN i % 13 > 0 THEN i % 60 END, '2024-01-01'::date + i % 40, i % 100 - 50, CASE WHEN i % 4 > 0 THEN 'w' || i % 9 END FROM generate_series(1, 2500) i ON CONFLICT DO NOTHING;
CREATE VIEW shown AS SELECT k, max(worth) AS most, min(s) AS least FROM listed WHERE k IS NOT NULL GROUP BY k;
CREATE TABLE calendar (day date PRIMARY KEY, holiday boolean);
INSERT INTO calendar SELECT '2024-01-01'::date + i, i % 7 = 0 FROM generate_series(0, 30) i;
ANALYZE region, shop, label, listed, calendar, tariff, slot;
"""


@pytest.fixture(scope="module")
def facts(session_cluster):
    database = session_cluster.create_database()
    both = Both(database, FACT, "time_column 'ts', segment_granularity 'day'")
    both.execute(DIMENSIONS)
    both.insert(ROWS, segments=3)
    yield both
    database.drop()


PUSHED = """
SELECT d.name, count(*), sum(f.n), avg(f.m) FROM {t} f JOIN shop d ON f.k = d.k GROUP BY 1
SELECT d.city, sum(f.m), min(f.x), max(f.ts) FROM {t} f, shop d WHERE f.k = d.k AND d.level > 0 GROUP BY d.city
SELECT count(*) FROM {t} f JOIN shop d USING (k)
SELECT count(*), count(d.name), sum(d.level), sum(d.factor), avg(d.factor), min(d.size), max(d.size), sum(d.level * f.n) FROM {t} f JOIN shop d USING (k)
SELECT sum(f.m * d.factor), sum(f.n + d.level), avg(f.x * d.level), max(d.factor - f.m) FROM {t} f JOIN shop d USING (k)
SELECT d.code, d.opened, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1, 2
SELECT d.level, d.factor, d.size, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1, 2, 3
SELECT d.about ->> 'a', count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1
SELECT d.tags, d.note, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1, 2
SELECT upper(d.name), d.city || '!', count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1, 2
SELECT date_trunc('month', d.opened), extract(year FROM d.opened), count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1, 2
SELECT date_trunc('day', f.ts), d.city, sum(f.n) FROM {t} f JOIN shop d USING (k) GROUP BY 1, 2
SELECT d.city, count(DISTINCT d.name), count(DISTINCT f.s), min(d.name COLLATE "C"), max(d.city) FROM {t} f JOIN shop d USING (k) GROUP BY 1
SELECT sum(f.n) FILTER (WHERE d.city = 'Oslo'), count(*) FILTER (WHERE d.name LIKE '%4%'), count(*) FILTER (WHERE d.name ~ '[13]$'), count(*) FILTER (WHERE d.level BETWEEN 1 AND 3 OR f.n < 0) FROM {t} f JOIN shop d USING (k)
SELECT sum(CASE WHEN d.city = 'Rome' THEN f.m ELSE 0 END), sum(CASE d.level WHEN 1 THEN f.n WHEN 2 THEN d.level END) FROM {t} f JOIN shop d USING (k)
SELECT CASE WHEN d.level > 3 THEN 'high' WHEN d.level > 0 THEN 'low' END, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1
SELECT coalesce(d.name, 'none'), count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1
SELECT d.city, count(*) FROM {t} f JOIN shop d USING (k) WHERE f.n > d.level GROUP BY 1
SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE (f.n < 0 AND d.city = 'Bern') OR (f.n > 10 AND d.city = 'Rome')
SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE f.ts >= '2024-01-05' AND f.ts < '2024-01-11 12:00' AND d.name IS NOT NULL
SELECT d.city, sum(f.n) FROM {t} f JOIN shop d USING (k) GROUP BY 1 HAVING sum(f.n) > 0 AND max(d.level) > 2
SELECT d.city, r.title, sum(f.n) FROM {t} f JOIN shop d USING (k) JOIN region r ON d.region = r.id GROUP BY 1, 2
SELECT r.title, sum(f.m * r.weight) FROM {t} f, shop d, region r WHERE f.k = d.k AND d.region = r.id AND r.open GROUP BY 1
SELECT l.kind, d.city, count(*), sum(l.rank * f.n) FROM {t} f JOIN shop d USING (k) JOIN label l USING (s) GROUP BY 1, 2
SELECT l.kind, count(*) FROM {t} f JOIN label l ON l.s = f.s WHERE l.rank % 2 = 0 GROUP BY 1
SELECT d.city, count(*) FROM {t} f JOIN shop d ON f.b = d.big GROUP BY 1
SELECT d.city, count(*) FROM {t} f JOIN shop d ON f.n = d.k GROUP BY 1
SELECT d.city, count(*) FROM {t} f JOIN shop d ON f.n + 1 = d.k GROUP BY 1
SELECT c.holiday, sum(f.n) FROM {t} f JOIN calendar c ON f.ts::date = c.day GROUP BY 1
SELECT c.holiday, sum(f.n) FROM {t} f JOIN calendar c ON f.day = c.day GROUP BY 1
SELECT d.city, count(*), count(d.k) FROM {t} f LEFT JOIN shop d USING (k) GROUP BY 1
SELECT d.name, f.n > 0, sum(d.level) FROM {t} f LEFT JOIN shop d ON f.k = d.k AND d.level > 1 GROUP BY 1, 2
SELECT coalesce(d.city, 'nowhere'), count(*) FROM {t} f LEFT JOIN shop d USING (k) WHERE d.level IS NULL OR d.level < 3 GROUP BY 1
SELECT r.title, count(*) FROM {t} f LEFT JOIN shop d USING (k) LEFT JOIN region r ON r.id = d.region GROUP BY 1
SELECT r.title, count(*) FROM {t} f JOIN shop d USING (k) LEFT JOIN region r ON r.id = d.region AND r.open GROUP BY 1
SELECT l.kind, d.city, count(*) FROM {t} f LEFT JOIN shop d USING (k) LEFT JOIN label l USING (s) GROUP BY 1, 2
SELECT count(*), sum(n) FROM {t} WHERE k IN (SELECT k FROM shop WHERE city = 'Oslo')
SELECT count(*), sum(n) FROM {t} WHERE k IN (SELECT k FROM listed)
SELECT s, count(*) FROM {t} WHERE s IN (SELECT s FROM listed WHERE worth > 50) GROUP BY 1
SELECT count(*) FROM {t} f WHERE EXISTS (SELECT FROM listed l WHERE l.k = f.k AND l.worth % 2 = 0)
SELECT count(*) FROM {t} f WHERE NOT EXISTS (SELECT FROM listed l WHERE l.k = f.k)
SELECT count(*), min(f.k) FROM {t} f LEFT JOIN shop d USING (k) WHERE d.k IS NULL
SELECT d.city, count(*) FROM {t} f JOIN shop d USING (k) WHERE f.s IN (SELECT s FROM label WHERE rank < 40) AND NOT EXISTS (SELECT FROM listed l WHERE l.k = f.k) GROUP BY 1
SELECT count(*) FROM {t} f WHERE k IN (SELECT l.k FROM listed l JOIN shop d ON l.k = d.k WHERE d.level > 0)
SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE d.region IN (SELECT id FROM region WHERE open)
SELECT d.most, count(*), sum(d.most) FROM {t} f JOIN (SELECT k, max(worth) AS most FROM listed GROUP BY k) d USING (k) GROUP BY 1
SELECT count(*) FROM {t} f JOIN (SELECT DISTINCT k FROM listed) d USING (k)
SELECT DISTINCT d.city, d.level FROM {t} f JOIN shop d USING (k)
SELECT DISTINCT d.city, f.c FROM {t} f LEFT JOIN shop d USING (k)
SELECT d.city, f.c, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY ROLLUP (1, 2)
SELECT d.city, d.level, grouping(d.city, d.level), sum(f.m) FROM {t} f JOIN shop d USING (k) GROUP BY GROUPING SETS ((1, 2), (1), ())
SELECT d.city, string_agg(f.s, ',' ORDER BY f.s, f.i) FROM {t} f JOIN shop d USING (k) WHERE f.i < 300 GROUP BY 1
SELECT f.c, string_agg(DISTINCT d.name, ',' ORDER BY d.name) FROM {t} f JOIN shop d USING (k) GROUP BY 1
SELECT f.c, array_agg(d.level + f.n ORDER BY d.level + f.n) FROM {t} f JOIN shop d USING (k) WHERE f.i < 200 GROUP BY 1
SELECT f.c, percentile_cont(0.5) WITHIN GROUP (ORDER BY d.factor), mode() WITHIN GROUP (ORDER BY d.city) FROM {t} f JOIN shop d USING (k) GROUP BY 1
SELECT stddev(f.n), variance(d.level), corr(f.x, d.level) FROM {t} f JOIN shop d USING (k)
SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE f.k = 5
SELECT d.name, count(*) FROM {t} f JOIN shop d USING (k) WHERE d.k = 5 GROUP BY 1
SELECT d.name, count(*) FROM {t} f JOIN shop d USING (k) WHERE d.level > 1000 GROUP BY 1
SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE d.level > 1000
SELECT count(*) FROM {t} f WHERE k NOT IN (3, 4) AND EXISTS (SELECT FROM listed l WHERE l.k = f.k)
SELECT d.city FROM {t} f JOIN shop d USING (k) GROUP BY d.city
SELECT a.city, b.city, count(*) FROM {t} f JOIN shop a ON f.k = a.k JOIN shop b ON f.n = b.k GROUP BY 1, 2
SELECT d.k, d.name, sum(f.n) FROM {t} f JOIN shop d USING (k) GROUP BY d.k
SELECT p.price, count(*), sum(f.n * p.price) FROM {t} f JOIN tariff p ON p.k = f.k AND p.s = f.s GROUP BY 1
SELECT count(*), sum(p.price), max(p.from_n) FROM {t} f JOIN tariff p USING (k, s) WHERE p.from_n < f.n
SELECT p.price, count(*), count(p.k) FROM {t} f LEFT JOIN tariff p USING (k, s) GROUP BY 1
SELECT p.price, count(*), count(p.k) FROM {t} f LEFT JOIN tariff p ON p.k = f.k AND p.s = f.s AND p.from_n < f.n GROUP BY 1
SELECT c.word, count(*), sum(c.k) FROM {t} f JOIN slot c ON c.k = f.k AND c.n = f.n AND c.day = f.day GROUP BY 1
SELECT c.word, count(*), sum(c.k) FROM {t} f LEFT JOIN slot c ON c.k = f.k AND c.n = f.n AND c.day = f.ts::date GROUP BY 1
SELECT c.word, d.city, count(*) FROM {t} f JOIN shop d USING (k) JOIN slot c ON c.k = d.k AND c.n = f.n AND c.day = f.day GROUP BY 1, 2
SELECT p.price, count(*) FROM {t} f JOIN shop d USING (k) LEFT JOIN tariff p ON p.k = d.level AND p.s = f.s GROUP BY 1
SELECT p.price, count(*) FROM {t} f JOIN shop d USING (k) LEFT JOIN label l USING (s) JOIN tariff p ON p.k = d.k AND p.s = l.s GROUP BY 1
SELECT count(*), sum(d.level) FROM {t} f LEFT JOIN shop d ON f.k = d.k AND f.n > 0
SELECT d.city, count(*), sum(d.level) FROM {t} f LEFT JOIN shop d ON f.k = d.k AND d.level > f.n % 5 GROUP BY 1
SELECT d.city, d.level, count(*), string_agg(DISTINCT d.name, ',' ORDER BY d.name), mode() WITHIN GROUP (ORDER BY d.name) FROM {t} f LEFT JOIN shop d ON f.k = d.k AND (d.level < f.n OR d.city = 'Oslo') GROUP BY 1, 2
SELECT r.title, count(*), count(d.k) FROM {t} f LEFT JOIN shop d ON f.k = d.k AND f.n < 20 LEFT JOIN region r ON r.id = d.region AND r.id > d.level GROUP BY 1
SELECT count(*) FROM {t} f LEFT JOIN shop d ON f.k = d.k AND 100 / coalesce(d.level - 4, 1) > f.n WHERE d.k IS NULL
SELECT count(*) FROM {t} f WHERE EXISTS (SELECT FROM shop d WHERE d.k = f.k AND d.level > f.n)
SELECT count(*), sum(n) FROM {t} f WHERE NOT EXISTS (SELECT FROM shop d WHERE d.k = f.k AND d.level > f.n)
SELECT count(*), sum(n) FROM {t} f WHERE NOT EXISTS (SELECT FROM listed l WHERE l.k = f.k AND l.s = f.s)
SELECT count(*), sum(n) FROM {t} f WHERE EXISTS (SELECT FROM listed l WHERE l.k = f.k AND l.s = f.s AND l.worth > 20)
SELECT count(*), sum(n) FROM {t} f WHERE (k, s) IN (SELECT k, s FROM listed)
SELECT max(upper(d.name)), string_agg(DISTINCT d.name, ',' ORDER BY d.name) FROM {t} f JOIN shop d ON d.k = f.k % 20
SELECT v.word, count(*), sum(f.n) FROM {t} f JOIN (VALUES (1, 'one'), (2, 'two'), (NULL, 'none'), (40, NULL)) v(k, word) USING (k) GROUP BY 1
SELECT v.word, count(*) FROM {t} f LEFT JOIN (VALUES ('s1', 1, 'one'), ('s1', 2, 'two'), ('s3', 3, 'three')) v(s, k, word) ON v.s = f.s AND v.k = f.k GROUP BY 1
SELECT g, count(*), sum(f.n) FROM {t} f JOIN generate_series(1, 90, 2) g ON g = f.k GROUP BY 1
SELECT g, count(*) FROM {t} f JOIN generate_series('2024-01-03'::timestamptz, '2024-01-25', '1 day') g ON g = date_trunc('day', f.ts) GROUP BY 1
SELECT d.most, count(*), min(d.least) FROM {t} f JOIN shown d USING (k) GROUP BY 1
WITH w AS MATERIALIZED (SELECT k, count(*) AS c FROM listed GROUP BY k) SELECT w.c, count(*) FROM {t} f JOIN w USING (k) GROUP BY 1
SELECT d.city, (SELECT max(title) FROM region), count(*) FROM {t} f JOIN shop d USING (k) WHERE d.level < (SELECT count(*) FROM region) GROUP BY 1
"""


@pytest.mark.parametrize("query", PUSHED.strip().splitlines())
def test_pushed(facts, query):
    facts.pushed(query)
    plan = facts.plan(query)
    assert plan.count("Foreign Scan") == 1 and "Dimensions" in plan and "Hash Join" not in plan.split("InitPlan")[0], plan


KEPT = """
SELECT d.k, d.name, count(f.i), sum(f.n) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1
SELECT d.city, count(*), count(f.i), sum(f.m), min(f.ts), max(d.level) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1
SELECT count(*), count(f.i), count(d.k), sum(d.factor), sum(f.n) FROM {t} f RIGHT JOIN shop d USING (k)
SELECT d.city, count(*), count(f.i) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.n > 30 AND f.ts < '2024-01-04' GROUP BY 1
SELECT d.k, count(*), count(f.i) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.n > d.level AND d.city = 'Oslo' GROUP BY 1
SELECT d.k, count(*), count(f.i) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND d.level > 3 WHERE d.city <> 'Rome' GROUP BY 1
SELECT d.k, d.name FROM shop d LEFT JOIN {t} f USING (k) WHERE f.i IS NULL GROUP BY 1
SELECT d.city, count(*) FROM shop d LEFT JOIN {t} f USING (k) WHERE f.n IS NULL OR f.n > 10 GROUP BY 1
SELECT d.city, coalesce(f.c, 'none'), count(*) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1, 2
SELECT d.city, upper(f.s), f.c, count(*) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.n = 3 GROUP BY 1, 2, 3
SELECT d.city, date_trunc('day', f.ts), count(f.ts) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.i < 2000 GROUP BY 1, 2
SELECT d.city, extract(hour FROM f.ts), count(*) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1, 2
SELECT r.title, count(*), count(f.i) FROM shop d JOIN region r ON r.id = d.region LEFT JOIN {t} f USING (k) GROUP BY 1
SELECT r.title, l.kind, count(*), count(f.i) FROM shop d LEFT JOIN region r ON r.id = d.region LEFT JOIN {t} f USING (k) LEFT JOIN label l ON l.s = f.s GROUP BY 1, 2
SELECT d.city, l.kind, count(*), count(f.i) FROM shop d LEFT JOIN ({t} f JOIN label l USING (s)) USING (k) GROUP BY 1, 2
SELECT d.k, l.kind, count(*), count(f.i) FROM shop d LEFT JOIN ({t} f LEFT JOIN label l ON l.s = f.s AND l.rank > f.n) USING (k) GROUP BY 1, 2
SELECT d.k, count(f.i), count(DISTINCT f.s), string_agg(f.s, ',' ORDER BY f.s, f.i) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.i < 500 GROUP BY 1
SELECT d.city, count(*), variance(f.n), corr(f.x, d.level), percentile_cont(0.5) WITHIN GROUP (ORDER BY f.n) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1
SELECT d.city, f.c, count(*), count(f.i) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY ROLLUP (1, 2)
SELECT DISTINCT d.city, f.c FROM shop d LEFT JOIN {t} f USING (k)
SELECT g, count(f.i), sum(f.n) FROM generate_series(-5, 70) g LEFT JOIN {t} f ON f.k = g GROUP BY 1
SELECT g::date, count(f.i) FROM generate_series('2023-12-25'::timestamptz, '2024-01-25', '1 day') g LEFT JOIN {t} f ON date_trunc('day', f.ts) = g GROUP BY 1
SELECT c.day, c.holiday, count(f.i) FROM calendar c LEFT JOIN {t} f ON f.ts::date = c.day AND f.n > 0 GROUP BY 1
SELECT p.price, count(*), count(f.i) FROM tariff p LEFT JOIN {t} f USING (k, s) GROUP BY 1
SELECT v.k, count(f.i) FROM (VALUES (1), (100), (NULL)) v(k) LEFT JOIN {t} f USING (k) GROUP BY 1
SELECT d.city, count(*), count(f.i) FROM shop d LEFT JOIN {t} f USING (k) WHERE EXISTS (SELECT FROM listed l WHERE l.k = d.k) GROUP BY 1
SELECT d.city, count(*), count(f.i) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.s IN (SELECT s FROM listed) GROUP BY 1
SELECT d.city, count(*), count(f.i), count(d.k), sum(f.n), sum(d.level) FROM {t} f FULL JOIN shop d USING (k) GROUP BY 1
SELECT coalesce(f.k, d.k), count(*) FROM shop d FULL JOIN {t} f ON f.k = d.k GROUP BY 1
SELECT k, count(*), count(f.i), count(d.level) FROM {t} f FULL JOIN shop d USING (k) GROUP BY 1
SELECT d.city, count(*), count(f.i) FROM {t} f FULL JOIN shop d ON f.k = d.k AND f.n > d.level AND d.city <> 'Bern' AND f.c = 'a' GROUP BY 1
SELECT count(*), count(f.i), count(d.k) FROM {t} f FULL JOIN shop d USING (k) WHERE d.k IS NULL
SELECT count(*), count(f.i), count(d.k) FROM {t} f FULL JOIN shop d USING (k) WHERE f.i IS NULL
SELECT count(*), count(f.i), count(d.k) FROM {t} f FULL JOIN shop d USING (k) WHERE d.level IS NULL OR d.level > 3
SELECT count(*), count(f.i), count(d.k) FROM (SELECT * FROM {t} WHERE n > 10) f FULL JOIN (SELECT * FROM shop WHERE k < 20) d USING (k)
SELECT count(*), count(f.i), count(d.k) FROM (SELECT * FROM {t} WHERE n > 10) f FULL JOIN (SELECT * FROM shop WHERE k = 5) d USING (k)
SELECT count(*), count(f.i) FROM region r LEFT JOIN (shop d LEFT JOIN {t} f USING (k)) ON r.id = f.n
SELECT p.price, count(*), count(f.i) FROM tariff p FULL JOIN {t} f USING (k, s) GROUP BY 1
SELECT r.title, count(*), count(f.i) FROM shop d FULL JOIN {t} f USING (k) LEFT JOIN region r ON r.id = d.region GROUP BY 1
"""


@pytest.mark.parametrize("query", KEPT.strip().splitlines())
def test_every_row_of_a_dimension_shows(facts, query):
    facts.pushed(query)
    assert facts.plan(query).count("Foreign Scan") == 1


def test_kept_rows_with_parameters_rescans_and_spills(facts):
    query = "SELECT d.k, count(f.i), sum(f.n) FROM shop d LEFT JOIN {t} f ON f.k = d.k AND f.n > r.id * 9 WHERE d.level > r.id GROUP BY 1"
    facts.pushed(f"SELECT r.id, x.* FROM region r, LATERAL ({query}) x")
    facts.execute("SET basalt.query_memory_limit = '4MB'")
    try:
        facts.pushed("SELECT d.k, f.i, f.s, count(*) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1, 2, 3")
    finally:
        facts.execute("RESET basalt.query_memory_limit")
    facts.execute("CREATE TABLE none_of_them (k int PRIMARY KEY); ANALYZE none_of_them")
    facts.pushed("SELECT d.k, count(f.i) FROM none_of_them d LEFT JOIN {t} f USING (k) GROUP BY 1")
    facts.pushed("SELECT count(*), count(f.i) FROM none_of_them d LEFT JOIN {t} f USING (k)")
    facts.pushed("SELECT count(*), count(f.i) FROM none_of_them d FULL JOIN {t} f USING (k)")


ORDERED = """
SELECT d.city, sum(f.n) AS total FROM {t} f JOIN shop d USING (k) GROUP BY 1 ORDER BY total DESC, 1 LIMIT 2
SELECT d.name, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1 ORDER BY count(*) DESC, d.name NULLS FIRST LIMIT 7
SELECT d.level, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1 ORDER BY d.level DESC NULLS LAST LIMIT 3 OFFSET 1
SELECT d.city, sum(f.m) FROM {t} f LEFT JOIN shop d USING (k) GROUP BY 1 ORDER BY d.city NULLS FIRST LIMIT 2
SELECT DISTINCT d.city FROM {t} f JOIN shop d USING (k) ORDER BY 1 LIMIT 2
"""


@pytest.mark.parametrize("query", ORDERED.strip().splitlines())
def test_ordered(facts, query):
    facts.pushed(query, ordered=True)


REFUSED = """
are a key|SELECT count(*) FROM {t} f JOIN listed l USING (k)
are a key|SELECT count(*) FROM {t} f LEFT JOIN listed l USING (k)
are a key|SELECT count(*) FROM {t} f FULL JOIN listed l USING (k)
are a key|SELECT count(*) FROM listed l LEFT JOIN {t} f USING (k)
are a key|SELECT count(*) FROM {t} f JOIN tariff p USING (k)
are a key|SELECT count(*) FROM {t} f WHERE EXISTS (SELECT FROM listed l WHERE l.k = f.k AND l.worth > f.n)
are a key|SELECT count(*) FROM {t} f JOIN (VALUES (1, 2), (1, 3)) v(k, x) USING (k)
not by equality|SELECT count(*) FROM {t} f LEFT JOIN shop d ON f.k < d.k
full join of more than two|SELECT count(*) FROM {t} f FULL JOIN (shop d JOIN region r ON d.region = r.id) USING (k)
two outer joins|SELECT count(*) FROM region r LEFT JOIN (shop d LEFT JOIN {t} f USING (k)) ON r.id = d.region
outer join makes NULL|SELECT count(*) FROM shop d LEFT JOIN ({t} f JOIN label l ON l.s = coalesce(f.s, 's1')) ON d.k = f.k
volatile|SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE d.level > random()
does not compare keys of type character|SELECT count(*) FROM {t} f JOIN (SELECT DISTINCT code FROM shop) d ON f.c = d.code
without a key|SELECT count(*) FROM {t} f, region r
other relations' rows|SELECT count(*) FROM {t} f, LATERAL (SELECT max(k) AS top FROM shop WHERE k < f.k) d WHERE d.top = f.n
"""


@pytest.mark.parametrize("case", REFUSED.strip().splitlines())
def test_refused_with_a_reason(facts, case):
    reason, query = case.split("|", 1)
    assert reason in facts.reason(query)
    facts.same(query)
    assert "Not Pushed" in facts.plan(query)


def test_prepared_statements(facts):
    facts.execute("SET basalt.require_pushdown = on; SET plan_cache_mode = force_generic_plan")
    try:
        for schema in ("heap", "store"):
            facts.execute(
                f"PREPARE of_{schema}(int, text) AS SELECT d.city, count(*), sum(f.n) FROM {schema}.t f JOIN shop d USING (k)"
                " WHERE d.level > $1 AND d.city <> $2 AND f.n < $1 GROUP BY 1 ORDER BY 1"
            )
        for arguments in ("1, 'Rome'", "3, 'x'", "100, 'x'", "NULL, 'x'", "-9, 'Oslo'"):
            answers = [facts.execute(f"EXECUTE of_{schema}({arguments})").fetchall() for schema in ("heap", "store")]
            assert answers[0] == answers[1], arguments
        # New rows of a dimension are seen by the same plan.
        facts.execute("BEGIN; UPDATE shop SET level = 99 WHERE k = 7")
        answers = [facts.execute(f"EXECUTE of_{schema}(50, 'x')").fetchall() for schema in ("heap", "store")]
        assert answers[0] == answers[1] and answers[0]
        facts.execute("DO 'BEGIN ALTER TABLE shop ALTER level TYPE int; END'")
        answers = [facts.execute(f"EXECUTE of_{schema}(50, 'x')").fetchall() for schema in ("heap", "store")]
        assert answers[0] == answers[1] and answers[0]
        facts.execute("ROLLBACK; DEALLOCATE ALL")
    finally:
        facts.execute("RESET basalt.require_pushdown; RESET plan_cache_mode")


CORRELATED = """
SELECT r.id, (SELECT sum(f.n) FROM {t} f JOIN shop d USING (k) WHERE d.region = r.id) FROM region r
SELECT r.id, (SELECT count(*) FROM {t} f JOIN shop d USING (k) WHERE f.n > r.id * 5 AND d.level > r.id) FROM region r
SELECT g, (SELECT string_agg(x, ',') FROM (SELECT d.city || count(*) AS x FROM {t} f JOIN shop d USING (k) WHERE f.n = g GROUP BY d.city ORDER BY 1) y) FROM generate_series(-3, 3) g
SELECT r.id, t.c FROM region r LEFT JOIN LATERAL (SELECT count(*) AS c FROM {t} f WHERE k IN (SELECT k FROM listed l WHERE l.worth < r.id * 9)) t ON true
SELECT city, c FROM (SELECT d.city, count(*) AS c FROM {t} f JOIN shop d USING (k) GROUP BY 1) x WHERE c > 10 UNION ALL SELECT 'all', count(*) FROM {t} f JOIN label USING (s)
WITH x AS MATERIALIZED (SELECT d.region, sum(f.n) AS total FROM {t} f JOIN shop d USING (k) GROUP BY 1) SELECT r.title, x.total FROM x JOIN region r ON r.id = x.region
WITH w AS MATERIALIZED (SELECT k FROM listed WHERE worth > 30) SELECT count(*) FROM {t} f WHERE k IN (SELECT k FROM w)
SELECT city, c, rank() OVER (ORDER BY c, city) FROM (SELECT d.city, count(*) AS c FROM {t} f JOIN shop d USING (k) GROUP BY 1) x
"""


@pytest.mark.parametrize("query", CORRELATED.strip().splitlines())
def test_within_other_queries(facts, query):
    facts.pushed(query)


def test_cursors_and_functions(facts):
    query = "SELECT d.k, count(*) FROM store.t f JOIN shop d USING (k) GROUP BY 1 ORDER BY 1"
    everything = facts.execute(query).fetchall()
    facts.execute(f"BEGIN; DECLARE c SCROLL CURSOR FOR {query}")
    assert facts.execute("FETCH 3 FROM c").fetchall() == everything[:3]
    assert facts.execute("FETCH BACKWARD 2 FROM c").fetchall() == everything[1::-1]
    facts.execute("MOVE ABSOLUTE 0 IN c")
    assert facts.execute("FETCH ALL FROM c").fetchall() == everything
    facts.execute("COMMIT")
    facts.execute(
        "CREATE FUNCTION of_city(wanted text) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN"
        " SELECT count(*) INTO n FROM store.t f JOIN shop d USING (k) WHERE d.city = wanted; RETURN n; END $$"
    )
    for _ in range(2):
        found = facts.execute("SELECT city, of_city(city) FROM (SELECT DISTINCT city FROM shop WHERE city > '') c ORDER BY 1").fetchall()
        assert found == facts.execute("SELECT d.city, count(*) FROM heap.t f JOIN shop d USING (k) GROUP BY 1 ORDER BY 1").fetchall()


def test_privileges_and_row_security(facts):
    facts.execute(
        "DROP ROLE IF EXISTS join_reader; CREATE ROLE join_reader; GRANT USAGE ON SCHEMA store, heap TO join_reader;"
        "GRANT SELECT ON store.t, heap.t TO join_reader"
    )
    query = "SELECT d.city, count(*) FROM {t} f JOIN shop d USING (k) GROUP BY 1"
    try:
        facts.execute("SET ROLE join_reader")
        assert facts.same(query) == "42501"
        facts.execute("RESET ROLE; GRANT SELECT (k) ON shop TO join_reader; SET ROLE join_reader")
        assert facts.same(query) == "42501"
        assert facts.same("SELECT count(*) FROM {t} f JOIN shop d USING (k)")[0][0] > 0
        facts.execute("RESET ROLE; GRANT SELECT ON shop TO join_reader; CREATE POLICY low ON shop USING (level < 2)")
        facts.execute("ALTER TABLE shop ENABLE ROW LEVEL SECURITY; SET ROLE join_reader")
        few = facts.pushed(query)
        facts.pushed("SELECT d.city, count(*), count(f.i) FROM shop d LEFT JOIN {t} f USING (k) GROUP BY 1")
        facts.pushed("SELECT count(*) FROM {t} f WHERE EXISTS (SELECT FROM shop d WHERE d.k = f.k AND d.factor > 3)")
        facts.pushed("SELECT count(*), count(d.k) FROM {t} f LEFT JOIN shop d ON d.k = f.k AND d.factor > f.n")
        facts.pushed("SELECT count(*) FROM {t} f JOIN shop d ON d.k = f.n % 20")
        facts.execute("RESET ROLE; ALTER TABLE shop DISABLE ROW LEVEL SECURITY")
        assert sum(row[1] for row in few) < sum(row[1] for row in facts.same(query))
    finally:
        facts.execute("RESET ROLE; ALTER TABLE shop DISABLE ROW LEVEL SECURITY; DROP POLICY IF EXISTS low ON shop")
        facts.execute("REVOKE ALL ON SCHEMA store, heap FROM join_reader; REVOKE ALL ON ALL TABLES IN SCHEMA store, heap, public FROM join_reader; DROP ROLE join_reader")


def test_explain_tells_dimensions(facts):
    plan = facts.plan(
        "SELECT d.city, count(*) FROM {t} f JOIN shop d USING (k) LEFT JOIN label l USING (s) WHERE l.rank IS NULL AND d.level > 0 GROUP BY 1",
        "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF",
    )
    assert "Dimensions: d: join on (f.k = d.k), 26 rows, l: left join on (f.s = l.s), 60 rows" in plan, plan
    assert "Seq Scan on shop d (" in plan and "Seq Scan on label l" in plan and "l_1" not in plan, plan
    assert "lookup of d" in plan, plan
    verbose = facts.plan("SELECT upper(d.city), sum(f.n * d.level) FROM {t} f JOIN shop d USING (k) GROUP BY 1", "VERBOSE, COSTS OFF")
    assert "upper(d.city)" in verbose, verbose


def test_dimensions_beyond_memory(facts):
    facts.execute("CREATE TABLE wide AS SELECT i AS k, repeat('x', 200) || i AS pad FROM generate_series(1, 60000) i")
    facts.execute("CREATE UNIQUE INDEX ON wide (k); ANALYZE wide")
    query = "SELECT w.pad, count(*) FROM store.t f JOIN wide w USING (k) GROUP BY 1"
    try:
        # Where that is known beforehand, PostgreSQL joins.
        facts.execute("SET basalt.query_memory_limit = '4MB'")
        assert "basalt.query_memory_limit" in facts.reason(query)
        assert len(facts.execute(query).fetchall()) == 59
        # Else it is an error.
        facts.execute(f"RESET basalt.query_memory_limit; SET plan_cache_mode = force_generic_plan; PREPARE wide_groups AS {query}")
        assert len(facts.execute("EXECUTE wide_groups").fetchall()) == 59
        facts.execute("SET basalt.query_memory_limit = '4MB'")
        with pytest.raises(psycopg.errors.OutOfMemory):
            facts.execute("EXECUTE wide_groups")
    finally:
        facts.execute("RESET basalt.query_memory_limit; RESET plan_cache_mode; DEALLOCATE wide_groups; DROP TABLE wide")


def test_two_datasources(facts):
    facts.execute("CREATE FOREIGN TABLE small (k int, at timestamptz, v int) SERVER basalt")
    facts.execute("INSERT INTO small SELECT i % 30, now(), i FROM generate_series(1, 90) i")
    for query in (
        "SELECT count(*) FROM {t} f WHERE k IN (SELECT k FROM small WHERE v > 60)",
        "SELECT d.n, count(*) FROM {t} f JOIN (SELECT k, count(*) AS n FROM small GROUP BY k) d USING (k) GROUP BY 1",
    ):
        facts.same(query)
        assert "Dimensions" in facts.plan(query)
    assert "are a key" in facts.reason("SELECT count(*) FROM {t} f JOIN small USING (k)")
    facts.same("SELECT count(*) FROM {t} f JOIN small USING (k)")
    facts.execute("DROP FOREIGN TABLE small")


@pytest.fixture(scope="module")
def many(session_cluster):
    """Rows enough for the planner to think of filtering them by keys."""
    database = session_cluster.create_database()
    both = Both(database, "i int NOT NULL, ts timestamptz, k int, s text", "time_column 'ts'")
    both.execute("CREATE TABLE shop (k int PRIMARY KEY, name text, level int); INSERT INTO shop SELECT i, 'shop ' || i, i % 50 FROM generate_series(1, 900) i")
    both.execute("CREATE TABLE label (s text, rank int); INSERT INTO label SELECT 's' || i % 300, i FROM generate_series(1, 900) i; ANALYZE shop, label")
    both.insert(
        "SELECT i, '2024-01-01'::timestamptz + i * interval '1 minute', CASE WHEN i % 7 > 0 THEN i % 1200 END, CASE WHEN i % 5 > 0 THEN 's' || i % 700 END"
        " FROM generate_series(1, 60000) i", segments=2
    )
    both.execute("ANALYZE heap.t")
    yield both
    database.drop()


FILTERED = """
SELECT f.i, d.name FROM {t} f JOIN shop d USING (k) WHERE d.level = 7
SELECT f.i, d.name FROM {t} f JOIN shop d ON d.k = f.k AND d.level < 2 JOIN label l ON l.s = f.s AND l.rank < 20
SELECT f.i, l.rank FROM {t} f JOIN label l USING (s) WHERE l.rank BETWEEN 10 AND 30
SELECT f.i FROM {t} f WHERE f.s IN (SELECT s FROM label WHERE rank < 9) AND f.i > 5
SELECT f.i, d.name FROM {t} f JOIN shop d USING (k) LEFT JOIN label l ON l.s = f.s AND l.rank < 9 WHERE d.level = 7 AND l.s IS NULL
SELECT sum(f.i), count(l.rank) FROM {t} f JOIN label l USING (s) WHERE l.rank BETWEEN 10 AND 30
SELECT d.name, l.rank, count(*) FROM {t} f JOIN shop d USING (k) JOIN label l USING (s) WHERE d.level = 3 AND l.rank > 850 GROUP BY 1, 2
"""


@pytest.mark.parametrize("query", FILTERED.strip().splitlines())
def test_rows_are_filtered_by_the_keys_of_what_they_are_joined_to(many, query):
    many.same(query)
    plan = many.plan(query)
    assert "filter by keys" in plan, plan
    many.execute("SET basalt.query_memory_limit = '1MB'")
    try:
        many.same(query)
    finally:
        many.execute("RESET basalt.query_memory_limit")


def test_keys_that_an_outer_join_may_make_null(many):
    many.same(
        "SELECT f.i, f.s, t2.i FROM {t} f JOIN shop d LEFT JOIN (SELECT v1.a, v2.c, 11 AS x FROM (VALUES (1, 0)) v1(b, a)"
        " LEFT JOIN (VALUES (3, 1)) v2(c, e) ON v1.b = v2.e) q ON d.level = q.a ON f.k = q.x LEFT JOIN {t} t2 ON q.c = t2.i WHERE f.i < 900"
    )
    many.same("SELECT count(*) FROM {t} f JOIN shop d LEFT JOIN (SELECT level, 11 AS x FROM shop OFFSET 1) q ON d.k = q.x ON f.k = q.x")


def test_outer_rows_are_not_filtered(many):
    for query in (
        "SELECT f.i, d.name FROM {t} f LEFT JOIN shop d ON d.k = f.k AND d.level = 7",
        "SELECT f.i FROM {t} f WHERE NOT EXISTS (SELECT FROM label l WHERE l.s = f.s AND l.rank < 20)",
        "SELECT f.i, l.rank FROM {t} f FULL JOIN label l ON l.s = f.s AND l.rank < 20",
    ):
        many.same(query)
        assert "filter by keys" not in many.plan(query)
