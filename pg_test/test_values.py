"""Values of every type come back as they went in, whatever the session's settings for text were."""

import pytest

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'so-so', 'it''s "fine"', 'happy, really');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS numeric CHECK (value > 0);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TYPE nested AS (p pair, m mood[], t timestamptz);
"""

# Type and literals; NULL is added to each.
VALUES = {
    "bool": ["true", "false"],
    "int2": ["-32768", "32767", "0"],
    "int4": ["-2147483648", "2147483647", "0"],
    "int8": ["-9223372036854775808", "9223372036854775807", "0"],
    "float4": ["NaN", "Infinity", "-Infinity", "-0", "0", "1e-45", "3.4028235e38", "0.1", "1.17549435e-38"],
    "float8": ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1", "0.30000000000000004"],
    "numeric(10,2)": ["NaN", "0", "-0.01", "99999999.99", "1.1"],
    "numeric(18,0)": ["NaN", "999999999999999999", "-999999999999999999"],
    "numeric(38,10)": ["NaN", "9999999999999999999999999999.9999999999", "-0.0000000001", "1"],
    "numeric(3,-2)": ["12345", "-99900", "NaN"],
    "numeric(3,5)": ["0.00123", "-0.00999"],
    "numeric": ["1.10", "1.1", "1", "1.000", "-0.00", "NaN", "Infinity", "-Infinity", "1e-300", "1e300", "123456789012345678901234567890.123"],
    "positive": ["1.50", "0.1"],
    "money": ["$1,234.50", "-$0.01"],
    "date": ["-infinity", "infinity", "4713-01-01 BC", "5874897-12-31", "1999-12-31", "2000-01-01"],
    "time": ["00:00", "24:00", "23:59:59.999999"],
    "timetz": ["00:00+14", "23:59:59.999999-12:30"],
    "timestamp": ["-infinity", "infinity", "4714-11-24 00:00 BC", "294276-12-31 23:59:59.999999", "2000-01-01", "1999-12-31 23:59:59.999999"],
    "timestamp(3)": ["2026-01-01 00:00:00.1236"],
    "timestamptz": ["-infinity", "infinity", "4714-11-24 00:00Z BC", "2010-11-07 00:01:00-02:30", "2026-01-01 12:00+05:45"],
    "interval": ["1 year 2 mons -3 days 04:05:06.789", "-1 day +24:00", "0", "30 days", "1 mon", "-178000000 years", "00:00:00.000001"],
    "text": ["", " ", "a", "a  ", "Ä", "ä́", "\\N", "\\.", "tab\there", "new\nline", "quote ' and \"", "\U0001f600", "x" * 70_000, "NULL", "{}"],
    "varchar(5)": ["", "abc", "abc  ", "äöüß€"],
    "char(4)": ["", "a", "a  ", " a", "abcd", "äö"],
    "char": ["x", ""],
    '"char"': ["x", "\\377", ""],
    "name": ["Name", "", "n" * 63],
    'text COLLATE "C"': ["a", "B", "ä"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "bytea": ["", "\\x00", "\\x5c27000aff", "\\x" + "ab" * 20_000],
    "inet": ["10.1.2.3", "10.1.2.3/8", "::1", "2001:db8::/32", "::ffff:1.2.3.4", "0.0.0.0/0"],
    "cidr": ["10.0.0.0/8", "::/0", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "jsonb": ["null", '"x"', "{}", "[]", '{"b": 1.10, "a": [null, true, {"c": ""}]}', "1.0", "1.00", '{"a":1,"a":2}', '"\\u00e4\\n"', "1e100"],
    "json": ['{"b" :1.10,  "a":1, "a":2}', "null", '"\\u0041"'],
    "text[]": ["{}", '{a,NULL,"NULL","",b}', '{"a b","c,d","e\\"f","g\\\\h","{i}","it\'s"}', "{{a,b},{c,NULL}}", "[2:3]={x,y}", "{ä}"],
    "int4[]": ["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={5,6}"],
    "timestamptz[]": ['{"2026-01-01 00:00Z",infinity,NULL}'],
    "float8[]": ["{NaN,Infinity,-0,0.1,5e-324}"],
    "numeric[]": ["{1.10,NaN,1e-20}"],
    "bytea[]": ['{"\\\\x00ff",NULL}'],
    "mood": ["sad", "so-so", "it's \"fine\"", "happy, really"],
    "mood[]": ['{sad,NULL,"it\'s \\"fine\\""}'],
    "pair": ["(1,x)", '(,"a ""b"", \\\\c")', "(,)"],
    "pair[]": ['{"(1,x)",NULL,"(,\\"a b\\")"}'],
    "nested": ['("(1,x)","{sad,happy\\, really}","2026-01-01 12:00:00+02")'.replace("happy\\, really", 'so-so'), "(,,)"],
    "int4range": ["empty", "[1,5)", "(,)", "[1,1]"],
    "tstzrange": ['["2026-01-01Z","2026-02-01 12:00+02")', "empty", "(,)", "[-infinity,infinity]"],
    "daterange": ["[2026-01-01,2026-02-01]", "[,2026-01-01]"],
    "floats": ["[0.1,0.30000000000000004)", "(-Infinity,NaN]"],
    "int4multirange": ["{}", "{[1,2),[4,9)}"],
    "tstzmultirange": ['{["2026-01-01Z","2026-01-02Z"),[2026-02-01Z,)}'],
    "bit(3)": ["101"],
    "varbit": ["", "1", "0101010101010"],
    "point": ["(0.1,-1e300)"],
    "box": ["(1,2),(3,4)"],
    "tsvector": ["'a':1A 'fat''s':2", ""],
    "xml": ["<a b=\"c\">d</a>"],
    "pg_lsn": ["16/B374D848"],
    "oid": ["0", "4294967295"],
    "regtype": ["integer", "mood"],
}

TEXT_SETTINGS = [
    {"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "extra_float_digits": "0", "bytea_output": "escape", "TimeZone": "America/St_Johns"},
    {"DateStyle": "German", "IntervalStyle": "iso_8601", "extra_float_digits": "-15", "bytea_output": "hex", "TimeZone": "Asia/Kathmandu"},
    {"DateStyle": "Postgres, MDY", "IntervalStyle": "postgres_verbose", "extra_float_digits": "3", "bytea_output": "escape", "TimeZone": "Pacific/Apia", "xmlbinary": "hex"},
]


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@pytest.fixture
def all_types(twins):
    """Table t with a column v0, v1, ... for each type, and `source`, a heap table with the values of both schemas' columns."""
    twins.database.query("; ".join(part for part in SETUP.split(";") if part.strip()))
    columns = ", ".join(f"v{i} {kind}" for i, kind in enumerate(VALUES))
    twins.create(f"ts timestamptz NOT NULL, id int, {columns}")
    rows = max(map(len, VALUES.values())) + 1
    twins.database.query(f"CREATE TABLE source (ts timestamptz NOT NULL, id int, {columns})")
    with twins.database.connect() as connection:
        connection.execute("SET DateStyle = 'ISO, YMD'")
        for row in range(rows):
            items = ", ".join(literal(values[row % (len(values) + 1)]) if row % (len(values) + 1) < len(values) else "NULL"
                              for values in VALUES.values())
            connection.execute(f"INSERT INTO source VALUES ('2026-01-01Z', {row}, {items})")
    return twins


def settle(session, settings: dict) -> None:
    for name, value in settings.items():
        session.ok(f"SET {name} = '{value}'")


def check_columns(session) -> None:
    """Column by column, so that a difference names its type; then the rows as a whole."""
    for i, kind in enumerate(VALUES):
        assert session.run(f"SELECT id, v{i} FROM t").error is None, kind
    assert session.same()
    session.ok("SELECT t FROM t")


def test_round_trip(all_types):
    session = all_types.main
    session.ok("INSERT INTO t SELECT * FROM source")
    check_columns(session)


def test_before_they_are_a_segment(all_types):
    """RETURNING and a scan inside the transaction."""
    session = all_types.main
    session.ok("INSERT INTO t SELECT * FROM source RETURNING *", "BEGIN", "INSERT INTO t SELECT * FROM source", "SELECT * FROM t", "COMMIT")
    session.same()


@pytest.mark.parametrize("settings", TEXT_SETTINGS, ids=lambda s: s["DateStyle"])
def test_settings_of_the_writer_and_the_reader_do_not_matter(all_types, settings):
    session = all_types.main
    settle(session, settings)
    session.ok("INSERT INTO t SELECT * FROM source")
    check_columns(session)
    session.ok("RESET ALL", "SET search_path = {side}, public")
    check_columns(session)
    # And written under plain settings, read under odd ones.
    session.ok("TRUNCATE t", "INSERT INTO t SELECT * FROM source")
    settle(session, settings)
    check_columns(session)


def test_search_path_of_the_reader_does_not_matter(all_types):
    session = all_types.main
    session.ok("INSERT INTO t SELECT * FROM source", "SET search_path = pg_catalog")
    session.ok("INSERT INTO {side}.t SELECT * FROM public.source", "SELECT * FROM {side}.t")


def test_settings_that_the_transaction_changes_between_its_inserts(all_types):
    session = all_types.main
    session.ok("BEGIN")
    for settings in TEXT_SETTINGS:
        settle(session, settings)
        session.ok("INSERT INTO t SELECT * FROM source")
    session.ok("COMMIT")
    check_columns(session)
    # The session's own settings are as the user left them.
    session.ok("SHOW DateStyle"), session.ok("SHOW IntervalStyle"), session.ok("SHOW extra_float_digits")
    session.ok("SHOW bytea_output"), session.ok("SHOW TimeZone")
    assert session.store.execute("SHOW search_path").fetchone() == ("store,public",)


def test_types_keep_their_operators(all_types):
    session = all_types.main
    session.ok("INSERT INTO t SELECT * FROM source")
    columns = {kind: f"v{i}" for i, kind in enumerate(VALUES)}
    for kind, test in [
        ("char(4)", "= 'a'"), ("char(4)", "= 'a  '"), ("numeric", "= 1"), ("numeric", "= 'NaN'"), ("float8", "= 'NaN'"), ("float8", "= 0"),
        ("interval", "= '1 mon'"), ("jsonb", "= '1'"), ("jsonb", "@> '{\"a\": [null]}'"), ("text[]", "@> '{a}'"), ("text[]", "= '{}'"), ("mood", "> 'so-so'"),
        ("int4range", "@> 3"), ("inet", "<<= '10.0.0.0/8'"), ("inet", "= '10.1.2.3/32'"), ("pair", "= ROW(1, 'x')::pair"), ("timestamptz", "> '2020-01-01Z'"),
        ("timestamp", "= 'infinity'"), ("date", "< '1000-01-01'"), ("text", "= 'a'"), ("text", "LIKE '%a%'"), ("varchar(5)", "= 'abc'"), ("bytea", "> '\\x01'"),
        ("uuid", "= 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"), ("money", "> '$0'"), ("numeric(10,2)", "< 'NaN'"), ("numeric(38,10)", "= 1.0"),
    ]:
        session.ok(f"SELECT id, {columns[kind]} FROM t WHERE {columns[kind]} {test}")
        session.ok(f"SELECT count(*), count({columns[kind]}), count(DISTINCT {columns[kind]}) FROM t WHERE NOT {columns[kind]} {test}")
    for kind in VALUES:
        if kind not in ("json", "xml", "point", "box"):  # no default equality, or none that groups
            session.ok(f"SELECT count(*) FROM t GROUP BY {columns[kind]}")


def test_columns_without_rows_and_tables_without_columns(twins):
    twins.create("", name="none")
    session = twins.main
    session.ok("INSERT INTO none DEFAULT VALUES", "INSERT INTO none DEFAULT VALUES")
    session.ok("SELECT count(*) FROM none", "SELECT FROM none")
    session.ok("ALTER TABLE none ADD x int DEFAULT 3", "INSERT INTO none VALUES (4)", "SELECT x FROM none")
    twins.create(", ".join(f"c{i} int" for i in range(1500)), name="wide")
    session.ok("INSERT INTO wide (c0, c1499) VALUES (1, 2)", "INSERT INTO wide (c700) SELECT i FROM generate_series(1, 10) i")
    session.same("wide")
    session.ok("SELECT sum(c1499), sum(c700), count(c3) FROM wide")


@pytest.mark.parametrize("column", ["ts timestamptz", "ts timestamp", "ts date"])
def test_time_columns_with_nulls_and_infinities(twins, column):
    twins.create(f"{column}, n int")
    session = twins.main
    session.ok("INSERT INTO t VALUES (NULL, 1), ('infinity', 2), ('-infinity', 3), ('2026-01-01', 4), ('0001-01-01 BC', 5), ('20000-01-01', 6)")
    session.ok("INSERT INTO t VALUES (NULL, 7)")
    assert len(session.same()) == 7
    for test in ("ts IS NULL", "ts IS NOT NULL", "ts > '2026-01-01'", "ts <= '2026-01-01'", "ts = 'infinity'", "ts < 'infinity'", "ts = '-infinity'", "ts > '-infinity'", "NOT ts > '2026-01-01'"):
        session.ok(f"SELECT n FROM t WHERE {test}")
        session.ok(f"SELECT count(*), sum(n), min(ts), max(ts) FROM t WHERE {test}")


def test_large_values(twins):
    twins.create("ts timestamptz NOT NULL, body text, raw bytea, doc jsonb")
    session = twins.main
    session.ok("INSERT INTO t SELECT '2026-01-01Z', repeat('0123456789', i * 1000000), convert_to(repeat('x', i * 3000000), 'UTF8'), "
               "jsonb_build_object('a', repeat('y', 2000000)) FROM generate_series(1, 3) i")
    session.ok("SELECT length(body), md5(body), md5(raw), md5(doc::text) FROM t", "SELECT body FROM t WHERE length(body) > 25000000")
    session.same()


@pytest.mark.parametrize("value", ["infinity", "-infinity"])
@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date"])
def test_segments_of_infinite_times_only(database, kind, value):
    database.query(f"CREATE FOREIGN TABLE f (ts {kind}, x int) SERVER basalt; INSERT INTO f VALUES ('{value}', 7)")
    assert database.query("SELECT ts::text, x FROM f") == [(value, 7)]
    assert database.query(f"SELECT count(*) FROM f WHERE ts = '{value}'") == [(1,)]
    ((visible,),) = database.query("SELECT visibility::text FROM basalt.segments")
    assert visible.startswith("{") and database.value(f"SELECT visibility IS NOT NULL FROM basalt.segments WHERE visibility::text = '{visible}'")
