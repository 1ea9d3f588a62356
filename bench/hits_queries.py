"""ClickBench's 43 questions about page hits, in SQL that PostgreSQL and DuckDB both understand.

Its thresholds are for 100 million rows: HAVING and OFFSET are scaled to the number of rows, and the constants that name a person or
an address are taken from the data."""

from dataclasses import dataclass

import duckdb


@dataclass
class Query:
    """`keys`: positions in the answer of what ORDER BY sorts by; `identity`: positions of the columns that tell rows
    apart; `rows`: the query without LIMIT, of which the answer may hold any rows that tie."""
    sql: str
    keys: tuple = ()
    identity: tuple = ()
    rows: str | None = None


def top(select, order, keys, identity, limit=10, offset=0):
    """A query whose LIMIT may cut through ties."""
    order = f" ORDER BY {order}" if order else ""
    return Query(f"{select}{order} LIMIT {limit}" + (f" OFFSET {offset}" if offset else ""), keys, identity, select)


def constants(parquet):
    """A person of average diligence, and a referer and an address that are common in counter 62."""
    with duckdb.connect() as connection:
        def value(sql):
            return connection.execute(sql.replace("hits", f"'{parquet}'")).fetchone()[0]

        return {
            "person": value("SELECT UserID FROM hits WHERE CounterID = 62 ORDER BY WatchID LIMIT 1"),
            "referer": value("SELECT RefererHash FROM hits WHERE CounterID = 62 AND TraficSourceID IN (-1, 6) GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"),
            "address": value("SELECT URLHash FROM hits WHERE CounterID = 62 GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"),
        }


def queries(dataset):
    known = constants(dataset.parquet)
    many, far = max(10, dataset.rows // 1000), max(2, dataset.rows // 10000)
    sums = ", ".join(f"SUM(ResolutionWidth + {n})" if n else "SUM(ResolutionWidth)" for n in range(90))
    july = "CounterID = 62 AND EventDate >= '2013-07-01' AND EventDate <= '2013-07-31'"
    searched = "FROM hits WHERE SearchPhrase <> ''"
    host = r"REGEXP_REPLACE(Referer, '^https?://(?:www\.)?([^/]+)/.*$', '\1')"
    network = "COUNT(*) AS c, SUM(IsRefresh), AVG(ResolutionWidth)"
    return {f"q{n:02}": q if isinstance(q, Query) else Query(q) for n, q in enumerate([
        "SELECT COUNT(*) FROM hits",
        "SELECT COUNT(*) FROM hits WHERE AdvEngineID <> 0",
        "SELECT SUM(AdvEngineID), COUNT(*), AVG(ResolutionWidth) FROM hits",
        "SELECT AVG(UserID) FROM hits",
        "SELECT COUNT(DISTINCT UserID) FROM hits",
        "SELECT COUNT(DISTINCT SearchPhrase) FROM hits",
        "SELECT MIN(EventDate), MAX(EventDate) FROM hits",
        top("SELECT AdvEngineID, COUNT(*) FROM hits WHERE AdvEngineID <> 0 GROUP BY AdvEngineID", "COUNT(*) DESC", (1,), (0,), limit=1000),
        top("SELECT RegionID, COUNT(DISTINCT UserID) AS u FROM hits GROUP BY RegionID", "u DESC", (1,), (0,)),
        top("SELECT RegionID, SUM(AdvEngineID), COUNT(*) AS c, AVG(ResolutionWidth), COUNT(DISTINCT UserID) FROM hits GROUP BY RegionID", "c DESC", (2,), (0,)),
        top("SELECT MobilePhoneModel, COUNT(DISTINCT UserID) AS u FROM hits WHERE MobilePhoneModel <> '' GROUP BY MobilePhoneModel", "u DESC", (1,), (0,)),
        top("SELECT MobilePhone, MobilePhoneModel, COUNT(DISTINCT UserID) AS u FROM hits WHERE MobilePhoneModel <> '' GROUP BY MobilePhone, MobilePhoneModel", "u DESC", (2,), (0, 1)),
        top(f"SELECT SearchPhrase, COUNT(*) AS c {searched} GROUP BY SearchPhrase", "c DESC", (1,), (0,)),
        top(f"SELECT SearchPhrase, COUNT(DISTINCT UserID) AS u {searched} GROUP BY SearchPhrase", "u DESC", (1,), (0,)),
        top(f"SELECT SearchEngineID, SearchPhrase, COUNT(*) AS c {searched} GROUP BY SearchEngineID, SearchPhrase", "c DESC", (2,), (0, 1)),
        top("SELECT UserID, COUNT(*) FROM hits GROUP BY UserID", "COUNT(*) DESC", (1,), (0,)),
        top("SELECT UserID, SearchPhrase, COUNT(*) FROM hits GROUP BY UserID, SearchPhrase", "COUNT(*) DESC", (2,), (0, 1)),
        top("SELECT UserID, SearchPhrase, COUNT(*) FROM hits GROUP BY UserID, SearchPhrase", None, (), (0, 1)),
        top("SELECT UserID, extract(minute FROM EventTime) AS m, SearchPhrase, COUNT(*) FROM hits GROUP BY UserID, m, SearchPhrase", "COUNT(*) DESC", (3,), (0, 1, 2)),
        f"SELECT UserID FROM hits WHERE UserID = {known['person']}",
        "SELECT COUNT(*) FROM hits WHERE URL LIKE '%google%'",
        top("SELECT SearchPhrase, MIN(URL), COUNT(*) AS c FROM hits WHERE URL LIKE '%google%' AND SearchPhrase <> '' GROUP BY SearchPhrase", "c DESC", (2,), (0,)),
        top("SELECT SearchPhrase, MIN(URL), MIN(Title), COUNT(*) AS c, COUNT(DISTINCT UserID) FROM hits WHERE Title LIKE '%Google%' AND URL NOT LIKE '%.google.%' "
            "AND SearchPhrase <> '' GROUP BY SearchPhrase", "c DESC", (3,), (0,)),
        top("SELECT * FROM hits WHERE URL LIKE '%google%'", "EventTime", (4,), (0,)),
        Query(f"SELECT SearchPhrase {searched} ORDER BY EventTime LIMIT 10", (), (0,),
              f"SELECT SearchPhrase {searched} AND EventTime <= (SELECT EventTime {searched} ORDER BY EventTime LIMIT 1 OFFSET 9)"),
        f"SELECT SearchPhrase {searched} ORDER BY SearchPhrase LIMIT 10",
        f"SELECT SearchPhrase {searched} ORDER BY EventTime, SearchPhrase LIMIT 10",
        top(f"SELECT CounterID, AVG(length(URL)) AS l, COUNT(*) AS c FROM hits WHERE URL <> '' GROUP BY CounterID HAVING COUNT(*) > {many}", "l DESC", (1,), (0,), limit=25),
        top(f"SELECT {host} AS k, AVG(length(Referer)) AS l, COUNT(*) AS c, MIN(Referer) FROM hits WHERE Referer <> '' GROUP BY {host} HAVING COUNT(*) > {many}", "l DESC", (1,), (0,), limit=25),
        f"SELECT {sums} FROM hits",
        top(f"SELECT SearchEngineID, ClientIP, {network} {searched} GROUP BY SearchEngineID, ClientIP", "c DESC", (2,), (0, 1)),
        top(f"SELECT WatchID, ClientIP, {network} {searched} GROUP BY WatchID, ClientIP", "c DESC", (2,), (0, 1)),
        top(f"SELECT WatchID, ClientIP, {network} FROM hits GROUP BY WatchID, ClientIP", "c DESC", (2,), (0, 1)),
        top("SELECT URL, COUNT(*) AS c FROM hits GROUP BY URL", "c DESC", (1,), (0,)),
        top("SELECT 1, URL, COUNT(*) AS c FROM hits GROUP BY 1, URL", "c DESC", (2,), (1,)),
        top("SELECT ClientIP, ClientIP - 1, ClientIP - 2, ClientIP - 3, COUNT(*) AS c FROM hits GROUP BY ClientIP, ClientIP - 1, ClientIP - 2, ClientIP - 3", "c DESC", (4,), (0,)),
        top(f"SELECT URL, COUNT(*) AS PageViews FROM hits WHERE {july} AND DontCountHits = 0 AND IsRefresh = 0 AND URL <> '' GROUP BY URL", "PageViews DESC", (1,), (0,)),
        top(f"SELECT Title, COUNT(*) AS PageViews FROM hits WHERE {july} AND DontCountHits = 0 AND IsRefresh = 0 AND Title <> '' GROUP BY Title", "PageViews DESC", (1,), (0,)),
        top(f"SELECT URL, COUNT(*) AS PageViews FROM hits WHERE {july} AND IsRefresh = 0 AND IsLink <> 0 AND IsDownload = 0 GROUP BY URL", "PageViews DESC", (1,), (0,), offset=far),
        top("SELECT TraficSourceID, SearchEngineID, AdvEngineID, CASE WHEN (SearchEngineID = 0 AND AdvEngineID = 0) THEN Referer ELSE '' END AS Src, URL AS Dst, COUNT(*) AS PageViews "
            f"FROM hits WHERE {july} AND IsRefresh = 0 GROUP BY TraficSourceID, SearchEngineID, AdvEngineID, Src, Dst", "PageViews DESC", (5,), (0, 1, 2, 3, 4), offset=far),
        top(f"SELECT URLHash, EventDate, COUNT(*) AS PageViews FROM hits WHERE {july} AND IsRefresh = 0 AND TraficSourceID IN (-1, 6) AND RefererHash = {known['referer']} "
            "GROUP BY URLHash, EventDate", "PageViews DESC", (2,), (0, 1), offset=far // 10),
        top(f"SELECT WindowClientWidth, WindowClientHeight, COUNT(*) AS PageViews FROM hits WHERE {july} AND IsRefresh = 0 AND DontCountHits = 0 AND URLHash = {known['address']} "
            "GROUP BY WindowClientWidth, WindowClientHeight", "PageViews DESC", (2,), (0, 1), offset=far),
        f"SELECT DATE_TRUNC('minute', EventTime) AS M, COUNT(*) AS PageViews FROM hits WHERE CounterID = 62 AND EventDate >= '2013-07-14' AND EventDate <= '2013-07-15' AND IsRefresh = 0 "
        f"AND DontCountHits = 0 GROUP BY DATE_TRUNC('minute', EventTime) ORDER BY DATE_TRUNC('minute', EventTime) LIMIT 10 OFFSET {far}",
    ])}
