"""Dashboard queries, in SQL that PostgreSQL and DuckDB both understand. Those with ORDER BY have one right order."""

from . import hits_queries
from .hits_queries import Query

YEAR = "l_shipdate >= DATE '1996-01-01' AND l_shipdate < DATE '1997-01-01'"

LINEITEM = {
    "count_interval": "SELECT count(*) FROM lineitem WHERE l_shipdate >= DATE '1992-01-03' AND l_shipdate < DATE '1998-11-30'",
    "sum_price": "SELECT sum(l_extendedprice) FROM lineitem",
    "sum_all": "SELECT sum(l_extendedprice), sum(l_discount), sum(l_tax), sum(l_quantity) FROM lineitem",
    "sum_all_year": "SELECT date_trunc('year', l_shipdate) AS y, sum(l_extendedprice), sum(l_discount), sum(l_tax), sum(l_quantity) FROM lineitem GROUP BY 1 ORDER BY 1",
    "sum_all_like": "SELECT sum(l_extendedprice), sum(l_discount), sum(l_tax), sum(l_quantity) FROM lineitem WHERE l_shipmode LIKE '%AIR%'",
    "sum_interval": f"SELECT sum(l_extendedprice), count(*) FROM lineitem WHERE {YEAR}",
    "by_day": f"SELECT date_trunc('day', l_shipdate) AS d, count(*), sum(l_quantity) FROM lineitem WHERE {YEAR} GROUP BY 1 ORDER BY 1",
    "by_month_mode": "SELECT date_trunc('month', l_shipdate) AS m, l_shipmode, count(*), sum(l_extendedprice) FROM lineitem GROUP BY 1, 2 ORDER BY 1, 2",
    "top_parts": "SELECT l_partkey, sum(l_quantity) AS q FROM lineitem GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100",
    "top_parts_details": "SELECT l_partkey, sum(l_quantity) AS q, sum(l_extendedprice), min(l_discount), max(l_discount) FROM lineitem GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100",
    "top_parts_interval": "SELECT l_partkey, sum(l_quantity) AS q, sum(l_extendedprice), min(l_discount), max(l_discount) FROM lineitem "
                          "WHERE l_shipdate >= DATE '1996-01-15' AND l_shipdate < DATE '1998-03-15' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100",
    "top_commitdates": "SELECT l_commitdate, sum(l_quantity) AS q FROM lineitem GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100",
    "two_dimensions": "SELECT l_returnflag, l_linestatus, count(*), sum(l_quantity), avg(l_extendedprice), avg(l_discount) FROM lineitem GROUP BY 1, 2 ORDER BY 1, 2",
    "drill_down": f"SELECT date_trunc('month', l_shipdate) AS m, count(*), avg(l_quantity) FROM lineitem WHERE {YEAR} AND l_shipmode IN ('AIR', 'MAIL') AND l_returnflag = 'N' "
                  "GROUP BY 1 ORDER BY 1",
    "number_ranges": f"SELECT sum(l_extendedprice), count(*) FROM lineitem WHERE {YEAR} AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24",
    "needle": "SELECT count(*), sum(l_extendedprice), max(l_receiptdate) FROM lineitem WHERE l_partkey = 155190",
    "comment_like": "SELECT count(*) FROM lineitem WHERE l_comment LIKE '%special%requests%'",
    "distinct_suppliers": "SELECT l_shipmode, count(DISTINCT l_suppkey) FROM lineitem GROUP BY 1 ORDER BY 1",
}

REVENUE = "sum(l_extendedprice * (1 - l_discount))"
JOINS = {
    "nations": f"SELECT n_name, {REVENUE} FROM lineitem JOIN supplier ON l_suppkey = s_suppkey JOIN nation ON s_nationkey = n_nationkey GROUP BY 1 ORDER BY 1",
    "region_by_month": f"SELECT date_trunc('month', l_shipdate) AS m, n_name, {REVENUE} FROM lineitem JOIN supplier ON l_suppkey = s_suppkey JOIN nation ON s_nationkey = n_nationkey "
                       f"JOIN region ON n_regionkey = r_regionkey WHERE r_name = 'EUROPE' AND {YEAR} GROUP BY 1, 2 ORDER BY 1, 2",
    "brands": "SELECT p_brand, count(*), sum(l_quantity), avg(l_extendedprice) FROM lineitem JOIN part ON l_partkey = p_partkey GROUP BY 1 ORDER BY 1",
    "types_of_year": f"SELECT p_type, count(*), sum(l_quantity) FROM lineitem JOIN part ON l_partkey = p_partkey WHERE {YEAR} GROUP BY 1 ORDER BY 1",
    "few_parts": "SELECT l_shipmode, count(*), sum(l_quantity) FROM lineitem JOIN part ON l_partkey = p_partkey WHERE p_brand = 'Brand#23' AND p_container = 'MED BOX' GROUP BY 1 ORDER BY 1",
    "promotions": "SELECT sum(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END), sum(l_extendedprice * (1 - l_discount)) FROM lineitem "
                  "JOIN part ON l_partkey = p_partkey WHERE l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-10-01'",
    "nation_brands": "SELECT n_name, p_mfgr, count(*) FROM lineitem JOIN supplier ON l_suppkey = s_suppkey JOIN nation ON s_nationkey = n_nationkey "
                     "JOIN part ON l_partkey = p_partkey GROUP BY 1, 2 ORDER BY 1, 2",
    "prices": "SELECT p_size, sum(l_extendedprice - p_retailprice * l_quantity) FROM lineitem JOIN part ON l_partkey = p_partkey GROUP BY 1 ORDER BY 1",
    "small_parts": "SELECT l_returnflag, count(*) FROM lineitem WHERE l_partkey IN (SELECT p_partkey FROM part WHERE p_size < 5) GROUP BY 1 ORDER BY 1",
    "not_indebted": "SELECT l_returnflag, count(*) FROM lineitem WHERE NOT EXISTS (SELECT 1 FROM supplier WHERE s_suppkey = l_suppkey AND s_acctbal < 0) GROUP BY 1 ORDER BY 1",
    "rich_or_not": "SELECT coalesce(s_name, 'other') AS s, count(*) FROM lineitem LEFT JOIN supplier ON l_suppkey = s_suppkey AND s_acctbal > 9900 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
    "top_suppliers": f"SELECT s_name, {REVENUE} AS r FROM lineitem JOIN supplier ON l_suppkey = s_suppkey WHERE {YEAR} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
    "order_priorities": "SELECT o_orderpriority, count(*) FROM lineitem JOIN orders ON l_orderkey = o_orderkey WHERE o_orderdate >= DATE '1996-01-01' AND o_orderdate < DATE '1996-04-01' "
                        "AND l_commitdate < l_receiptdate GROUP BY 1 ORDER BY 1",
    "all_orders": "SELECT o_orderstatus, count(*) FROM lineitem JOIN orders ON l_orderkey = o_orderkey GROUP BY 1 ORDER BY 1",
}

FLIGHTS = {
    "flights_count": "SELECT count(*), avg(delay) FROM flights WHERE date >= TIMESTAMP '2001-02-01' AND date < TIMESTAMP '2001-05-01'",
    "flights_by_origin": "SELECT origin, count(*) AS n, avg(delay), max(delay) FROM flights GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
    "flights_by_day": "SELECT date_trunc('day', date) AS d, count(*), sum(delay) FROM flights GROUP BY 1 ORDER BY 1",
    "flights_by_hour": "SELECT extract(hour FROM date) AS h, count(*), avg(delay) FROM flights GROUP BY 1 ORDER BY 1",
    "flights_late": "SELECT origin, count(*) FILTER (WHERE delay > 60) AS late, count(*) AS n FROM flights WHERE date >= TIMESTAMP '2001-03-01' AND date < TIMESTAMP '2001-04-01' "
                    "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
    "flights_routes": "SELECT origin, destination, count(*) AS n, sum(distance) FROM flights GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50",
    "flights_drill_down": "SELECT date_trunc('day', date) AS d, destination, count(*), avg(delay) FROM flights WHERE origin = 'ORD' AND destination LIKE 'S%' "
                          "AND date >= TIMESTAMP '2001-06-01' AND date < TIMESTAMP '2001-06-15' GROUP BY 1, 2 ORDER BY 1, 2",
    "flights_needle": "SELECT count(*), min(delay), max(delay) FROM flights WHERE origin = 'SEA' AND destination = 'SFO' AND date >= TIMESTAMP '2001-04-05' AND date < TIMESTAMP '2001-04-06'",
    "flights_distinct": "SELECT origin, count(DISTINCT destination) AS n FROM flights GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
}


def of(dataset):
    """Names and queries for a data set."""
    if dataset.dimensions:
        return {name: Query(sql) for name, sql in JOINS.items()}
    if dataset.name == "hits":
        return hits_queries.queries(dataset)
    return {name: Query(sql) for name, sql in (LINEITEM if dataset.name == "lineitem" else FLIGHTS).items()}
