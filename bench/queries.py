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
    if dataset.name == "hits":
        return hits_queries.queries(dataset)
    return {name: Query(sql) for name, sql in (LINEITEM if dataset.name == "lineitem" else FLIGHTS).items()}
