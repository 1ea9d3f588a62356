"""A table of page hits with the public schema of ClickBench (105 columns), made up: each value is a function of the row's number.

The proportions are those that its documentation and queries tell of: 13 % of the hits come from a search, 0.6 % from an
advertisement, 6 % from a phone; people, sites, pages and phrases are skewed, and a person has one place, device and age.
Rows are in order of time, by day more than by night."""

# Numbers in [0, 1) that depend on whatever they are given; a skewed rank below n; words of a made-up language. The hash of
# two values is an exclusive or: hashed once more, so that columns don't depend on each other.
MACROS = r"""
CREATE MACRO h(a, b) AS hash(hash(a, b));
CREATE MACRO u(a, b) AS (h(a, b) >> 11)::DOUBLE / 9007199254740992;
CREATE MACRO upto(n, a, b) AS floor(n * u(a, b))::BIGINT;
CREATE MACRO skewed(n, power, a, b) AS floor(n * pow(u(a, b), power))::BIGINT;
CREATE MACRO latin(k) AS ['ma','ve','to','ri','na','les','kor','di','pa','san','ul','tem','go','ba','ni','ster','ol','fi','re','dom'][1 + (k % 20)::INT]
    || ['vik','ta','ren','mo','li','sha','por','net','zen','ka','lo','tur','mir','es','an','do','gal','us','bi','ro'][1 + (k // 20 % 20)::INT]
    || CASE WHEN k >= 400 THEN ['n','sk','ra','ty','ve','lin','x','ka','or','is'][1 + (k // 400 % 10)::INT] ELSE '' END;
CREATE MACRO word(k) AS ['по','ка','ро','во','не','сто','ли','ма','де','при','ко','та','ви','но','пе','гра','са','ло','би','ту'][1 + (k % 20)::INT]
    || ['ра','ти','на','ска','ле','вод','ни','ро','мо','ки','ста','го','лы','ре','зи','да','чен','ша','ну','тор'][1 + (k // 20 % 20)::INT]
    || CASE WHEN k >= 400 THEN ['ль','ка','ние','ный','ть','сть','ов','ая','ки','м'][1 + (k // 400 % 10)::INT] ELSE '' END;
CREATE MACRO common(a, b) AS word(skewed(4000, 2, a, b));
CREATE MACRO phrase(k) AS common(k, 'p1') || ' ' || common(k, 'p2') || CASE WHEN k % 3 > 0 THEN ' ' || common(k, 'p3') ELSE '' END
    || CASE WHEN k % 4 = 0 THEN ' ' || common(k, 'p4') || ' ' || (k % 97)::VARCHAR ELSE '' END;
CREATE MACRO host(site) AS latin(site % 4000) || CASE WHEN site >= 4000 THEN '-' || latin(site // 7) ELSE '' END || ['.ru','.ru','.com','.net','.ua'][1 + (site % 5)::INT];
CREATE MACRO address(site, page) AS CASE WHEN site % 4 = 0 THEN 'http://www.' ELSE 'http://' END || host(site) || '/'
    || ['catalog','news','forum','search','item','user','photo'][1 + ((site + page) % 7)::INT] || '/'
    || CASE WHEN page = 0 THEN 'index' ELSE latin(page % 3989) || CASE WHEN page % 2 = 0 THEN '-' || latin(page % 2003) ELSE '' END || '/' || (page * 7919 % 9999991)::VARCHAR END
    || CASE WHEN page % 1013 = 11 THEN '?from=google&q=' || latin(page % 301) WHEN page % 5 < 2 THEN '?id=' || h(site, page)::VARCHAR || '&from=' || host(page % 6500) WHEN page % 3 = 1 THEN '?page=' || (page % 40)::VARCHAR || '&sort=' || latin(page % 17) ELSE '.html' END;
"""

# Who, where and what; {rows} is the number of rows. A site's share of the hits follows from the power in `site`.
EVENTS = """
SELECT *, floor((1 + {rows} * 0.4 * (pow(site + 1, 1 / 3.5) - pow(site, 1 / 3.5)) / pow(6500, 1 / 3.5)) * pow(u(i, 'page'), 2.5))::BIGINT AS page,
    CASE WHEN u(i, 'source') < 0.22 THEN 0 WHEN u(i, 'source') < 0.35 THEN 2 WHEN u(i, 'source') < 0.7 THEN 1 WHEN u(i, 'source') < 0.9 THEN -1 ELSE 6 END AS source,
    u(person, 'mobile') < 0.06 AS mobile
FROM (SELECT *, skewed(6500, 3.5, person, 'site' || upto(4, i, 'favourite')::VARCHAR) AS site
FROM (SELECT range AS i, (range + 0.5) / {rows} AS share, skewed(greatest(100, {rows} // 4), 1.5, range, 'person') AS person FROM range({rows})))
"""

DETAILS = """
SELECT *, TIMESTAMP '2013-07-02' + to_seconds(floor(2592000 * (share + 0.6 * sin(60 * pi() * share) / (60 * pi())))) AS moment, address(site, page) AS url,
    CASE source WHEN 0 THEN '' WHEN 2 THEN CASE WHEN u(i, 'engine') < 0.7 THEN 'http://yandex.ru/yandsearch?text=' ELSE 'http://www.google.ru/search?q=' END
        || latin(skewed(4000, 2, i, 'asked')) || '+' || latin(skewed(4000, 2, i, 'asked too'))
        WHEN 1 THEN address(site, skewed(1 + page, 2, i, 'before')) ELSE address(skewed(6500, 6, i, 'other site'), skewed(300, 9, i, 'other page')) END AS referer,
    CASE WHEN source = 2 THEN phrase(skewed(1 + {rows} // 7, 2, i, 'phrase')) ELSE '' END AS phrase
FROM ({events})
"""

# Name, PostgreSQL's type, and the value. Zeros and empty texts are what most rows have in columns of rare features.
COLUMNS = [
    ("WatchID", "bigint", "(h(i, 'watch') >> 1)::BIGINT"), ("JavaEnable", "smallint", "(u(person, 'java') < 0.8)::INT"),
    ("Title", "text", "CASE WHEN u(site, page // 2) < 0.06 THEN '' ELSE common(site, page // 2) || ' ' || common(page // 2, site) || ' ' || common(page // 2, 't3') || ' ' || common(page // 2, 't4')"
     " || CASE WHEN page % 3 = 0 THEN ', ' || common(page // 2, 't5') || ' ' || (page // 2)::VARCHAR ELSE '' END || CASE WHEN page // 2 % 509 = 3 THEN ' | Google' ELSE ' - ' || host(site) END END"),
    ("GoodEvent", "smallint", "1"), ("EventTime", "timestamp", "moment"), ("EventDate", "date", "moment::DATE"),
    ("CounterID", "integer", "CASE site WHEN 5 THEN 62 ELSE 100 + h(site, 'counter') % 250000 END"), ("ClientIP", "integer", "(h(person, 'ip' || (i % 2)::VARCHAR) % 4294967296)::BIGINT - 2147483648"),
    ("RegionID", "integer", "CASE WHEN u(person, 'region') < 0.18 THEN 229 ELSE 1 + skewed(9000, 3, person, 'place') END"), ("UserID", "bigint", "(h(person, 'user') >> 1)::BIGINT"),
    ("CounterClass", "smallint", "(u(site, 'class') < 0.2)::INT - (u(site, 'class') > 0.9)::INT"), ("OS", "smallint", "skewed(90, 3, person, 'os')"), ("UserAgent", "smallint", "skewed(80, 3, person, 'agent')"),
    ("URL", "text", "url"), ("Referer", "text", "referer"), ("IsRefresh", "smallint", "(u(i, 'refresh') < 0.14)::INT"),
    ("RefererCategoryID", "smallint", "CASE WHEN source = 0 THEN 0 ELSE skewed(600, 4, referer, 'category') END"), ("RefererRegionID", "integer", "CASE WHEN source = 0 THEN 0 ELSE skewed(5000, 4, referer, 'region') END"),
    ("URLCategoryID", "smallint", "skewed(600, 4, site, 'category')"), ("URLRegionID", "integer", "skewed(5000, 4, site, 'region')"),
    ("ResolutionWidth", "smallint", "CASE WHEN mobile THEN [320, 480, 640, 768][1 + upto(4, person, 'width')] ELSE [1366, 1280, 1920, 1024, 1440, 1600, 1680, 1920, 1638][1 + upto(9, person, 'width')] END"),
    ("ResolutionHeight", "smallint", "CASE WHEN mobile THEN [480, 800, 960, 1024][1 + upto(4, person, 'width')] ELSE [768, 1024, 1080, 768, 900, 900, 1050, 1200, 1022][1 + upto(9, person, 'width')] END"),
    ("ResolutionDepth", "smallint", "[24, 32, 32, 24, 16][1 + upto(5, person, 'depth')]"), ("FlashMajor", "smallint", "CASE WHEN mobile THEN 0 ELSE [11, 11, 11, 10, 9, 0][1 + upto(6, person, 'flash')] END"),
    ("FlashMinor", "smallint", "skewed(9, 2, person, 'flash minor')"), ("FlashMinor2", "text", "CASE WHEN u(person, 'flash2') < 0.5 THEN '' ELSE (skewed(400, 3, person, 'flash text'))::VARCHAR || '.00' END"),
    ("NetMajor", "smallint", "skewed(4, 3, person, 'net')"), ("NetMinor", "smallint", "skewed(6, 3, person, 'net minor')"), ("UserAgentMajor", "smallint", "upto(30, person, 'agent major')"),
    ("UserAgentMinor", "varchar(255)", "CASE WHEN u(person, 'minor') < 0.7 THEN upto(20, person, 'agent minor')::VARCHAR ELSE latin(upto(50, person, 'agent text')) END"),
    ("CookieEnable", "smallint", "(u(person, 'cookie') < 0.98)::INT"), ("JavascriptEnable", "smallint", "(u(person, 'script') < 0.97)::INT"), ("IsMobile", "smallint", "mobile::INT"),
    ("MobilePhone", "smallint", "CASE WHEN mobile THEN 1 + skewed(166, 2, person, 'phone') // 5 ELSE 0 END"),
    ("MobilePhoneModel", "text", "CASE WHEN mobile AND u(person, 'named') < 0.93 THEN upper(latin(skewed(166, 2, person, 'phone'))) || '-' || (skewed(166, 2, person, 'phone') * 37 % 1000)::VARCHAR ELSE '' END"),
    ("Params", "text", "CASE WHEN u(i, 'params') < 0.02 THEN '{\"' || latin(upto(60, i, 'param')) || '\":\"' || upto(5000, i, 'value')::VARCHAR || '\"}' ELSE '' END"),
    ("IPNetworkID", "integer", "skewed(4000000, 2, person, 'network')"), ("TraficSourceID", "smallint", "CASE source WHEN 1 THEN 1 ELSE source END"),
    ("SearchEngineID", "smallint", "CASE WHEN source = 2 THEN CASE WHEN u(i, 'engine') < 0.7 THEN 2 ELSE 3 + skewed(80, 3, i, 'which') END ELSE 0 END"), ("SearchPhrase", "text", "phrase"),
    ("AdvEngineID", "smallint", "CASE WHEN u(i, 'advert') < 0.0063 THEN [2, 2, 2, 2, 27, 27, 13, 45, 44, 3, 62, 52, 50, 28, 53, 25, 61, 21][1 + skewed(18, 1.5, i, 'adverts')] ELSE 0 END"),
    ("IsArtifical", "smallint", "(u(i, 'artificial') < 0.03)::INT"), ("WindowClientWidth", "smallint", "CASE WHEN mobile THEN 320 ELSE 800 + upto(40, person, 'window') * 29 END + 3 * skewed(20, 4, i, 'window')"),
    ("WindowClientHeight", "smallint", "CASE WHEN mobile THEN 400 ELSE 500 + upto(50, person, 'height') * 11 END + 7 * skewed(20, 4, i, 'height')"),
    ("ClientTimeZone", "smallint", "[240, 240, 240, 180, 360, 300, 420, 120][1 + upto(8, person, 'zone')]"), ("ClientEventTime", "timestamp", "moment + to_seconds(upto(7200, person, 'clock') - 3600 + upto(3, i, 'clock'))"),
    ("SilverlightVersion1", "smallint", "[0, 0, 4, 5][1 + upto(4, person, 'silver')]"), ("SilverlightVersion2", "smallint", "(u(person, 'silver') > 0.75)::INT"),
    ("SilverlightVersion3", "integer", "CASE WHEN u(person, 'silver') < 0.5 THEN 0 ELSE [50401, 20913, 60531, 60310, 10411][1 + upto(5, person, 'silver3')] END"), ("SilverlightVersion4", "smallint", "0"),
    ("PageCharset", "text", "['windows-1251', 'utf-8', 'utf-8', 'windows-1251;charset', '', 'koi8-r'][1 + skewed(6, 1.6, site, 'charset')]"), ("CodeVersion", "integer", "[291, 1550, 1599, 1601, 1602][1 + skewed(5, 2, site, 'code')]"),
    ("IsLink", "smallint", "(u(i, 'link') < 0.12)::INT"), ("IsDownload", "smallint", "(u(i, 'link') < 0.006)::INT"), ("IsNotBounce", "smallint", "(u(i, 'bounce') < 0.3)::INT"),
    ("FUniqID", "bigint", "CASE WHEN u(person, 'unique') < 0.6 THEN 0 ELSE (h(person, 'unique id') >> 1)::BIGINT END"), ("OriginalURL", "text", "CASE WHEN u(i, 'original') < 0.15 THEN url || '#' || latin(upto(200, i, 'anchor')) ELSE '' END"),
    ("HID", "integer", "upto(1073741824, i, 'hid')"), ("IsOldCounter", "smallint", "0"), ("IsEvent", "smallint", "(u(i, 'event') < 0.02)::INT"), ("IsParameter", "smallint", "(u(i, 'parameter') < 0.02)::INT"),
    ("DontCountHits", "smallint", "(u(i, 'count') < 0.07)::INT"), ("WithHash", "smallint", "(u(i, 'hash') < 0.03)::INT"), ("HitColor", "char(1)", "['5', 'D', 'g', 'B', 'E', 'Y'][1 + skewed(6, 3, i, 'colour')]"),
    ("LocalEventTime", "timestamp", "moment + to_seconds(upto(3, i, 'clock'))"), ("Age", "smallint", "CASE WHEN u(person, 'known') < 0.6 THEN 0 ELSE [16, 22, 26, 31, 39, 50, 55][1 + upto(7, person, 'age')] END"),
    ("Sex", "smallint", "CASE WHEN u(person, 'known') < 0.6 THEN 0 ELSE 1 + upto(2, person, 'sex') END"), ("Income", "smallint", "CASE WHEN u(person, 'known') < 0.6 THEN 0 ELSE upto(4, person, 'income') END"),
    ("Interests", "smallint", "CASE WHEN u(person, 'known') < 0.5 THEN 0 ELSE upto(16384, person, 'interests') END"), ("Robotness", "smallint", "skewed(15, 6, person, 'robot')"),
    ("RemoteIP", "integer", "(h(person, 'remote ip') % 4294967296)::BIGINT - 2147483648"), ("WindowName", "integer", "CASE WHEN u(i, 'name') < 0.8 THEN -1 ELSE upto(4000, i, 'window name') END"), ("OpenerName", "integer", "CASE WHEN u(i, 'name') < 0.8 THEN -1 ELSE upto(4000, i, 'opener') END"),
    ("HistoryLength", "smallint", "skewed(50, 3, i, 'history') - 1"), ("BrowserLanguage", "text", "['ru', 'ru', 'ru', 'uk', 'en', 'tr', 'kk'][1 + upto(7, person, 'language')]"),
    ("BrowserCountry", "text", "['RU', 'RU', 'UA', 'US', 'TR', 'KZ', ''][1 + upto(7, person, 'country')]"), ("SocialNetwork", "text", "CASE WHEN u(i, 'social') < 0.001 THEN ['Vkontakte', 'Facebook', 'Twitter'][1 + upto(3, i, 'network')] ELSE '' END"),
    ("SocialAction", "text", "CASE WHEN u(i, 'social') < 0.001 THEN ['like', 'share', 'comment'][1 + upto(3, i, 'action')] ELSE '' END"), ("HTTPError", "smallint", "CASE WHEN u(i, 'http') < 0.002 THEN 404 ELSE 0 END"),
    ("SendTiming", "integer", "CASE WHEN u(i, 'timed') < 0.9 THEN -1 ELSE skewed(60000, 5, i, 'send') END"), ("DNSTiming", "integer", "CASE WHEN u(i, 'timed') < 0.9 THEN -1 ELSE skewed(20000, 6, i, 'dns') END"),
    ("ConnectTiming", "integer", "CASE WHEN u(i, 'timed') < 0.9 THEN -1 ELSE skewed(20000, 5, i, 'connect') END"), ("ResponseStartTiming", "integer", "CASE WHEN u(i, 'timed') < 0.9 THEN -1 ELSE skewed(60000, 4, i, 'response') END"),
    ("ResponseEndTiming", "integer", "CASE WHEN u(i, 'timed') < 0.9 THEN -1 ELSE skewed(60000, 4, i, 'end') END"), ("FetchTiming", "integer", "CASE WHEN u(i, 'timed') < 0.85 THEN -1 ELSE skewed(60000, 4, i, 'fetch') END"),
    ("SocialSourceNetworkID", "smallint", "CASE WHEN u(i, 'social source') < 0.01 THEN 1 + upto(4, i, 'social id') ELSE 0 END"), ("SocialSourcePage", "text", "CASE WHEN u(i, 'social source') < 0.01 THEN 'http://vk.com/' || latin(skewed(4000, 2, i, 'social page')) ELSE '' END"),
    ("ParamPrice", "bigint", "CASE WHEN u(i, 'order') < 0.002 THEN 100 * skewed(9000, 3, i, 'price') ELSE 0 END"), ("ParamOrderID", "text", "CASE WHEN u(i, 'order') < 0.002 THEN upto(1000000000, i, 'order id')::VARCHAR ELSE '' END"),
    ("ParamCurrency", "text", "CASE WHEN u(i, 'order') < 0.002 THEN ['RUR', 'USD', 'UAH'][1 + upto(3, i, 'currency')] ELSE '' END"), ("ParamCurrencyID", "smallint", "CASE WHEN u(i, 'order') < 0.002 THEN 1 + upto(3, i, 'currency') ELSE 0 END"),
    ("OpenstatServiceName", "text", "CASE WHEN u(i, 'openstat') < 0.005 THEN latin(upto(10, i, 'service')) || '.com' ELSE '' END"), ("OpenstatCampaignID", "text", "CASE WHEN u(i, 'openstat') < 0.005 THEN upto(900, i, 'campaign')::VARCHAR ELSE '' END"),
    ("OpenstatAdID", "text", "CASE WHEN u(i, 'openstat') < 0.005 THEN upto(90000, i, 'ad')::VARCHAR ELSE '' END"), ("OpenstatSourceID", "text", "CASE WHEN u(i, 'openstat') < 0.005 THEN host(skewed(6500, 3, i, 'openstat source')) ELSE '' END"),
    ("UTMSource", "text", "CASE WHEN u(i, 'utm') < 0.015 THEN latin(upto(30, i, 'utm source')) ELSE '' END"), ("UTMMedium", "text", "CASE WHEN u(i, 'utm') < 0.015 THEN ['cpc', 'banner', 'email'][1 + upto(3, i, 'medium')] ELSE '' END"),
    ("UTMCampaign", "text", "CASE WHEN u(i, 'utm') < 0.015 THEN upto(3000, i, 'utm campaign')::VARCHAR || '_' || latin(upto(90, i, 'utm name')) ELSE '' END"), ("UTMContent", "text", "CASE WHEN u(i, 'utm') < 0.01 THEN upto(200000, i, 'content')::VARCHAR ELSE '' END"),
    ("UTMTerm", "text", "CASE WHEN u(i, 'utm') < 0.01 THEN common(i, 'term') ELSE '' END"), ("FromTag", "text", "CASE WHEN u(i, 'from') < 0.004 THEN latin(upto(300, i, 'tag')) ELSE '' END"), ("HasGCLID", "smallint", "(u(i, 'gclid') < 0.003)::INT"),
    ("RefererHash", "bigint", "(h(referer, 'referer') >> 1)::BIGINT"), ("URLHash", "bigint", "(h(url, 'url') >> 1)::BIGINT"), ("CLID", "integer", "CASE WHEN u(i, 'clid') < 0.01 THEN upto(100000, i, 'clid value') ELSE 0 END"),
]
DUCKDB_TYPES = {"bigint": "BIGINT", "integer": "INTEGER", "smallint": "SMALLINT", "timestamp": "TIMESTAMP", "date": "DATE"}


def columns():
    """Name, type in PostgreSQL, type in DuckDB. No column has NULLs."""
    return [(name, f"{kind} NOT NULL", DUCKDB_TYPES.get(kind, "VARCHAR") + " NOT NULL") for name, kind, _ in COLUMNS]


def select(rows):
    """The query that makes the rows; MACROS must have been run."""
    values = ", ".join(f"({value})::{DUCKDB_TYPES.get(kind, 'VARCHAR')} AS {name}" for name, kind, value in COLUMNS)
    return f"SELECT {values} FROM ({DETAILS.format(rows=rows, events=EVENTS.format(rows=rows))})"
