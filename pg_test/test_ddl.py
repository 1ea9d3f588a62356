"""DDL: columns and tables change names, come, go and come back; values never move to where they don't belong."""

import pytest

from harness.storage import cache_files, orphans
from harness.twins import attempt


@pytest.fixture
def trips(twins):
    twins.create("ts timestamptz NOT NULL, n int, city text", "time_column 'ts'")
    twins.main.ok("INSERT INTO t SELECT '2026-01-01Z'::timestamptz + i * interval '1 hour', i, 'c' || i % 7 FROM generate_series(1, 200) i")
    return twins


MORE = "INSERT INTO t SELECT '2026-02-01Z'::timestamptz + i * interval '1 hour' FROM generate_series(1, 20) i"


def test_rename_column(trips):
    session = trips.main
    session.ok("ALTER TABLE t RENAME city TO town", "INSERT INTO t VALUES ('2026-02-01Z', 1, 'new')")
    session.ok("SELECT town, count(*) FROM t GROUP BY town", "SELECT count(*) FROM t WHERE town = 'c3'")
    # Two columns swap their names.
    session.ok("ALTER TABLE t ADD other text DEFAULT 'other'", MORE, "ALTER TABLE t RENAME town TO x", "ALTER TABLE t RENAME other TO town", "ALTER TABLE t RENAME x TO other", MORE)
    session.ok("SELECT town, other, count(*) FROM t GROUP BY 1, 2")
    session.same()


def test_rename_time_column(trips):
    session = trips.main
    session.ok("ALTER TABLE t RENAME ts TO moment", "INSERT INTO t VALUES ('2026-02-01Z', 1, 'new')", "SELECT count(*) FROM t WHERE moment > '2026-01-05Z'")
    session.same()
    options = trips.database.value("SELECT ftoptions::text FROM pg_foreign_table WHERE ftrelid = 'store.t'::regclass")
    assert "time_column=moment" in options


def test_rename_table_and_schema(trips):
    session = trips.main
    session.ok("ALTER TABLE t RENAME TO trips", "INSERT INTO trips VALUES ('2026-02-01Z', 1, 'new')")
    assert len(session.same("trips")) == 201
    for side in (session.store, session.heap):
        side.execute("CREATE SCHEMA IF NOT EXISTS elsewhere")
    session.store.execute("ALTER FOREIGN TABLE trips SET SCHEMA elsewhere")
    assert session.store.execute("SELECT count(*) FROM elsewhere.trips").fetchone() == (201,)
    session.store.execute("ALTER SCHEMA elsewhere RENAME TO \"else Where\"")
    session.store.execute("INSERT INTO \"else Where\".trips VALUES ('2026-02-01Z', 1, 'new')")
    assert session.store.execute("SELECT count(*) FROM \"else Where\".trips").fetchone() == (202,)


@pytest.mark.parametrize("column", [
    "x int", "x int DEFAULT 5", "x text DEFAULT 'a''b'", "x int NOT NULL DEFAULT 7", "x numeric(10,2) DEFAULT 1.5", "x float8 DEFAULT 'NaN'",
    "x timestamptz DEFAULT '2026-01-01 00:00+01'", "x jsonb DEFAULT '{\"a\": [1]}'", "x text[] DEFAULT '{a,NULL,\"b c\"}'", "x bool DEFAULT true", "x date DEFAULT 'infinity'",
    "x uuid DEFAULT '11111111-1111-1111-1111-111111111111'", "x bytea DEFAULT '\\x00ff'", "x char(3) DEFAULT 'a'", "x interval DEFAULT '1 month'",
    "x int4range DEFAULT '[1,5)'", "x numeric DEFAULT 1.10", "x text DEFAULT upper('abc') || length('x')", "x int DEFAULT NULL", "x int[] DEFAULT ARRAY[1,2]",
])
def test_add_column(trips, column):
    session = trips.main
    session.ok(f"ALTER TABLE t ADD {column}", MORE, "INSERT INTO t (ts, x) VALUES ('2026-03-01Z', DEFAULT)")
    session.same()
    session.ok("SELECT x, count(*), count(x), min(n) FROM t GROUP BY x", "SELECT count(*) FROM t WHERE x IS NULL", "SELECT count(*) FROM t WHERE x IS NOT NULL AND n > 5")
    session.ok("SELECT count(*), count(x), count(DISTINCT x) FROM t")
    # The default of new rows changes; what old rows hold doesn't.
    session.ok("ALTER TABLE t ALTER x DROP DEFAULT")
    if "NOT NULL" not in column:
        session.ok(MORE)
    session.same()


def test_add_column_that_can_not_be(trips):
    session = trips.main
    session.fails("23502", "ALTER TABLE t ADD x int NOT NULL")
    for column in ("x float8 DEFAULT random()", "x int GENERATED ALWAYS AS (n * 2) STORED"):
        error = attempt(session.store, f"ALTER TABLE t ADD {column}").error
        assert error.sqlstate == "0A000" and error.diag.message_hint, column
    session.same()
    trips.create("ts timestamptz NOT NULL", name="empty")
    session.ok("ALTER TABLE empty ADD x float8 NOT NULL DEFAULT random()", "ALTER TABLE empty ADD g int GENERATED ALWAYS AS (5) STORED",
               "INSERT INTO empty (ts, x) VALUES ('2026-01-01Z', 1)", "SELECT * FROM empty")


def test_drop_and_add_the_same_name(trips):
    session = trips.main
    session.ok("ALTER TABLE t DROP city", "SELECT * FROM t WHERE n < 5", "ALTER TABLE t ADD city text", MORE, "SELECT count(city) FROM t")
    assert all(row[2] is None for row in session.same())
    session.ok("INSERT INTO t (ts, city) VALUES ('2026-02-05Z', 'back')", "ALTER TABLE t DROP city, ADD city int DEFAULT 3", MORE)
    session.ok("SELECT city, count(*) FROM t GROUP BY city", "ALTER TABLE t DROP n, ADD n text")
    session.same()
    session.ok("ALTER TABLE t DROP n, DROP city", "SELECT count(*) FROM t", MORE)
    session.same()


def test_rolled_back_alterations(trips):
    session = trips.main
    session.ok("BEGIN", "ALTER TABLE t DROP city", "ALTER TABLE t ADD city int DEFAULT 1", MORE, "SELECT city, count(*) FROM t GROUP BY 1", "ROLLBACK")
    session.same()
    session.ok("BEGIN", MORE, "SAVEPOINT a", "ALTER TABLE t RENAME city TO c", "ALTER TABLE t ADD d int DEFAULT 9", MORE, "SELECT c, d, count(*) FROM t GROUP BY 1, 2",
               "ROLLBACK TO a", MORE, "ALTER TABLE t ADD d text DEFAULT 'kept'", MORE, "COMMIT")
    assert len(session.same()) == 260
    session.ok("SELECT d, count(*) FROM t GROUP BY d")


def test_alterations_between_inserts_of_one_transaction(trips):
    session = trips.main
    session.ok("BEGIN", MORE, "ALTER TABLE t ADD x int DEFAULT 4", MORE, "ALTER TABLE t ALTER x SET DEFAULT 5", MORE, "ALTER TABLE t DROP city", MORE,
               "ALTER TABLE t ADD city text DEFAULT 'again'", MORE, "SELECT x, city, count(*) FROM t GROUP BY 1, 2", "COMMIT")
    session.same()
    session.ok("SELECT x, city, count(*) FROM t GROUP BY 1, 2")


def test_change_of_type(trips):
    session = trips.main
    session.ok("ALTER TABLE t ADD v varchar(5) DEFAULT 'abc'", "ALTER TABLE t ALTER v TYPE varchar(20)", "INSERT INTO t (ts, v) VALUES ('2026-02-01Z', 'longer than 5')",
               "ALTER TABLE t ALTER v TYPE text", "SELECT v, count(*) FROM t GROUP BY v")
    session.same()
    for change in ("n TYPE bigint", "n TYPE text", "city TYPE varchar(1)", "ts TYPE date", "v TYPE varchar(3)"):
        error = attempt(session.store, f"ALTER TABLE t ALTER {change}").error
        assert error is not None and error.sqlstate == "0A000" and error.diag.message_hint, change
    session.same()
    trips.create("ts timestamptz NOT NULL, n int", name="empty")
    session.ok("ALTER TABLE empty ALTER n TYPE text", "INSERT INTO empty VALUES ('2026-01-01Z', 'x')", "SELECT * FROM empty")


def test_types_whose_values_are_stored_are_not_reshaped(database):
    """Enums and composites are stored by their text: what it means must not change under it."""
    with database.connect() as session:
        session.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b mood); CREATE TYPE other AS ENUM ('x')")
        session.execute("CREATE DOMAIN moods AS mood[]; CREATE FOREIGN TABLE t (ts timestamptz, p pair, m moods) SERVER basalt")
        session.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TYPE pair ADD ATTRIBUTE c int")
        session.execute("INSERT INTO t VALUES ('2026-01-01Z', (1, 'blue', 2), '{glad,blue}')")
        for change in ("ALTER TYPE mood RENAME VALUE 'glad' TO 'gay'", "ALTER TYPE pair DROP ATTRIBUTE c", "ALTER TYPE pair ADD ATTRIBUTE d int"):
            error = attempt(session, change)
            assert error.sqlstate == "0A000" , (change, error)
        session.execute("ALTER TYPE mood ADD VALUE 'angry'; ALTER TYPE mood RENAME TO feeling; ALTER TYPE other RENAME VALUE 'x' TO 'y'")
        assert session.execute("SELECT p::text, m::text FROM t").fetchall() == [("(1,blue,2)", "{glad,blue}")]


def test_not_null_of_an_old_column(trips):
    session = trips.main
    session.ok("ALTER TABLE t ALTER n SET NOT NULL", "ALTER TABLE t ALTER n DROP NOT NULL", "INSERT INTO t VALUES ('2026-02-01Z', NULL, 'x')")
    session.fails("23502", "ALTER TABLE t ALTER n SET NOT NULL")
    session.same()


def test_alter_of_a_parent(twins):
    session = twins.main
    session.ok("CREATE TABLE p (ts timestamptz NOT NULL, n int, city text) PARTITION BY RANGE (ts)")
    for side, kind, tail in ((session.store, "FOREIGN TABLE", "SERVER basalt"), (session.heap, "TABLE", "")):
        side.execute(f"CREATE {kind} a PARTITION OF p FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z') {tail}")
    session.ok("INSERT INTO p SELECT '2026-01-01Z', i, 'c' || i FROM generate_series(1, 20) i", "ALTER TABLE p RENAME city TO town", "ALTER TABLE p ADD x int DEFAULT 4",
               "INSERT INTO p VALUES ('2026-01-02Z', 1, 'new', DEFAULT)", "ALTER TABLE p DROP n", "ALTER TABLE p ADD n text", "INSERT INTO p VALUES ('2026-01-03Z', 'y', 5, 'z')")
    session.same("p"), session.same("a")


def test_ids_can_not_be_stolen_or_changed(trips):
    connection = trips.main.store
    (stolen,) = connection.execute("SELECT id FROM basalt.datasource").fetchone()
    for given in ("ts timestamptz NOT NULL, n int, city text", "ts timestamptz OPTIONS (column_id '1') NOT NULL, n int OPTIONS (column_id '2'), city text OPTIONS (column_id '3')"):
        connection.execute(f"CREATE FOREIGN TABLE thief ({given}) SERVER basalt OPTIONS (datasource_id '{stolen}')")
        if attempt(connection, "SELECT count(*) FROM thief").error:
            connection.execute("SELECT basalt.assign_ids('thief')")
        assert connection.execute("SELECT count(*) FROM thief").fetchone() == (0,)
        connection.execute("INSERT INTO thief VALUES ('2026-01-01Z', 1, 'x')")
        connection.execute("TRUNCATE thief")
        connection.execute("DROP FOREIGN TABLE thief")
    assert len(trips.main.same()) == 200
    for sql in (f"ALTER FOREIGN TABLE t OPTIONS (SET datasource_id '{stolen}')", "ALTER FOREIGN TABLE t OPTIONS (DROP datasource_id)",
                "ALTER FOREIGN TABLE t ALTER n OPTIONS (SET column_id '3')", "ALTER FOREIGN TABLE t ALTER n OPTIONS (DROP column_id)"):
        assert attempt(connection, sql).sqlstate in ("HV00D", "42501"), sql
    assert len(trips.main.same()) == 200


DROPS = {
    "table": ["DROP FOREIGN TABLE t"],
    "schema": ["DROP SCHEMA store CASCADE"],
    "owned": ["CREATE ROLE {role}", "ALTER FOREIGN TABLE t OWNER TO {role}", "DROP OWNED BY {role}", "DROP ROLE {role}"],
    "in a transaction": ["BEGIN", MORE, "SELECT count(*) FROM t", "DROP FOREIGN TABLE t", "COMMIT"],
    "made and dropped": ["BEGIN", "CREATE FOREIGN TABLE u (ts timestamptz NOT NULL) SERVER basalt", "INSERT INTO u VALUES ('2026-01-01Z')", "SELECT count(*) FROM u",
                         "DROP FOREIGN TABLE u, t", "COMMIT"],
    "under replica": ["SET session_replication_role = replica", "DROP FOREIGN TABLE t"],
}


@pytest.mark.parametrize("how", DROPS)
def test_drop_leaves_nothing(trips, how):
    connection = trips.session().store
    connection.execute("SELECT count(*) FROM t")
    connection.execute("SELECT basalt.compact('t')")
    for sql in DROPS[how]:
        connection.execute(sql.replace("{role}", f"owner_{trips.database.name}"))
    trips.database.query("SELECT basalt.sweep()")
    assert orphans(trips.database) == [] and cache_files(trips.database) == []
    for table in ("datasource", "segment", "segment_data", "segment_part", "job"):
        assert trips.database.value(f"SELECT count(*) FROM basalt.{table}") == 0, table


def test_rolled_back_drop(trips):
    session = trips.main
    session.store.execute("BEGIN")
    session.store.execute("DROP FOREIGN TABLE t")
    session.store.execute("ROLLBACK")
    assert len(session.same()) == 200
    for sql in ("BEGIN", MORE, "SAVEPOINT a", "DROP FOREIGN TABLE t", "ROLLBACK TO a", MORE, "COMMIT"):
        session.store.execute(sql)
    assert session.store.execute("SELECT count(*) FROM t").fetchone() == (240,)


def test_failed_or_rolled_back_create_leaves_nothing(database):
    with database.connect() as session:
        for sql in ("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL) SERVER basalt OPTIONS (time_column 'nothing')",
                    "CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, x int CHECK (nothing > 1)) SERVER basalt",
                    "CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, a int OPTIONS (column_id '3'), b int OPTIONS (column_id '3')) SERVER basalt"):
            assert attempt(session, sql).error is not None, sql
        session.execute("BEGIN")
        session.execute("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL) SERVER basalt")
        session.execute("INSERT INTO t VALUES ('2026-01-01Z')")
        assert session.execute("SELECT count(*) FROM t").fetchone() == (1,)
        session.execute("ROLLBACK")
    assert database.value("SELECT count(*) FROM basalt.datasource") == 0
    database.query("SELECT basalt.sweep()")
    assert orphans(database) == [] and cache_files(database) == []


def test_drop_extension(trips):
    database = trips.database
    for session in trips.sessions:
        session.close()
    assert attempt(database.connect(), "DROP EXTENSION basalt").sqlstate == "2BP01"
    database.query("DROP EXTENSION basalt CASCADE")
    assert database.value("SELECT count(*) FROM pg_class WHERE relname = 't' AND relkind = 'f'") == 0
    for catalog, schema in (("pg_class", "relnamespace"), ("pg_proc", "pronamespace"), ("pg_type", "typnamespace")):
        assert database.value(f"SELECT count(*) FROM {catalog} WHERE {schema} = (SELECT oid FROM pg_namespace WHERE nspname = 'basalt')") == 0
    assert database.value("SELECT count(*) FROM pg_event_trigger") == 0
    database.query("CREATE EXTENSION basalt")
    database.query("SELECT basalt.sweep()")
    assert cache_files(database) == []
    database.query("CREATE FOREIGN TABLE store.t (ts timestamptz NOT NULL) SERVER basalt; INSERT INTO store.t VALUES ('2026-01-01Z')")
    assert database.value("SELECT count(*) FROM store.t") == 1


def test_replication_role_without_event_triggers(trips):
    """Where nothing assigned ids, nothing is written, and the error names the way out."""
    session = trips.session().store
    session.execute("SET session_replication_role = replica")
    session.execute("ALTER FOREIGN TABLE t ADD x int")
    session.execute("CREATE FOREIGN TABLE u (ts timestamptz NOT NULL, n int) SERVER basalt")
    session.execute("RESET session_replication_role")
    for table in ("t", "u"):
        error = attempt(session, f"INSERT INTO {table} (ts) VALUES ('2026-01-01Z')").error
        assert error is not None and error.sqlstate == "55000" and "assign_ids" in error.diag.message_hint, error
        session.execute(f"SELECT basalt.assign_ids('{table}')")
        session.execute(f"INSERT INTO {table} (ts) VALUES ('2026-01-01Z')")
    assert session.execute("SELECT count(*), count(x) FROM t").fetchone() == (201, 0)
    assert session.execute("SELECT count(*) FROM u").fetchone() == (1,)


def test_owner_without_superuser(trips):
    database, role = trips.database, f"analyst_{trips.database.name}"
    database.query(f"CREATE ROLE {role} LOGIN")
    database.query(f"CREATE SCHEMA own AUTHORIZATION {role}")
    try:
        with database.cluster.connect(database.name, user=role, options="-c search_path=own") as session:
            session.execute("CREATE FOREIGN TABLE mine (ts timestamptz NOT NULL, n int) SERVER basalt OPTIONS (segment_granularity 'month')")
            session.execute("INSERT INTO mine SELECT '2026-01-01Z', i FROM generate_series(1, 100) i")
            session.execute("ALTER FOREIGN TABLE mine ADD x text DEFAULT 'd'")
            session.execute("ALTER FOREIGN TABLE mine RENAME n TO number")
            session.execute("SELECT basalt.replace('mine', '2026-01-01Z', '2026-01-02Z', 'SELECT ts, number + 1, x FROM mine')")
            session.execute("SELECT basalt.compact('mine')")
            assert session.execute("SELECT count(*), sum(number), max(x) FROM mine").fetchone() == (100, 5150, "d")
            assert session.execute("SELECT DISTINCT datasource::text FROM basalt.segments").fetchall() == [("mine",)]
            assert attempt(session, "SELECT count(*) FROM store.t").sqlstate == "42501"
            assert attempt(session, "SELECT basalt.sweep()").sqlstate == "42501"
            session.execute("TRUNCATE mine")
            session.execute("DROP FOREIGN TABLE mine")
    finally:
        database.query(f"DROP OWNED BY {role}")
        database.query(f"DROP ROLE {role}")


def test_search_path_can_not_be_used_against_the_catalog(trips):
    """A schema ahead in the path that shadows what the extension's statements use."""
    session = trips.session().store
    session.execute("CREATE SCHEMA evil")
    session.execute("CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'")
    session.execute("CREATE TABLE evil.pg_class (oid oid, relname text)")
    session.execute("CREATE TYPE evil.uuid AS (x int)")
    session.execute("CREATE FUNCTION evil.equal(uuid, uuid) RETURNS bool LANGUAGE sql AS 'SELECT false'")
    session.execute("CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = pg_catalog.uuid, RIGHTARG = pg_catalog.uuid)")
    session.execute("SET search_path = evil, pg_catalog, store")
    session.execute(MORE)
    session.execute("ALTER FOREIGN TABLE t ADD x int DEFAULT 1")
    session.execute("SELECT basalt.compact('t')")
    assert session.execute("SELECT count(*), sum(x) FROM t").fetchone() == (220, 220)


def test_options_are_validated(database):
    base = "CREATE FOREIGN TABLE o (ts timestamptz NOT NULL, n int, d date {column}) SERVER basalt OPTIONS ({table})"
    with database.connect() as session:
        for table, column, words in [
            ("time_column 'n'", "", ["timestamp"]), ("time_column 'nothing'", "", ["nothing"]), ("time_colum 'ts'", "", ["time_column", "segment_granularity"]),
            ("segment_granularity 'fortnight'", "", ["hour", "day", "week", "month", "year", "all"]), ("max_segment_rows '0'", "", ["1000"]), ("max_segment_rows 'many'", "", ["1000"]),
            ("cluster_by 'nothing'", "", ["nothing"]), ("datasource_id 'x'", "", ["uuid"]), ("time_column 'ts'", " OPTIONS (index 'maybe')", ["on", "off"]),
            ("time_column 'ts'", " OPTIONS (indexed 'off')", ["index"]), ("time_column 'ts'", " OPTIONS (column_id '0')", ["positive"]), ("user 'x'", "", ["time_column"]),
        ]:
            error = attempt(session, base.format(table=table, column=column)).error
            assert error is not None and error.sqlstate in ("HV00D", "22023", "42703", "HV00C", "HV007", "42804"), (table, column, error and error.sqlstate)
            text = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)))
            assert all(word in text for word in words), (table, column, text)
        session.execute(base.format(table="time_column 'd', segment_granularity 'week', cluster_by 'n', max_segment_rows '5000'", column=" OPTIONS (index 'off')"))
        session.execute("INSERT INTO o VALUES ('2026-01-01Z', 1, '2026-01-01')")
        assert attempt(session, "ALTER FOREIGN TABLE o OPTIONS (SET time_column 'ts')").sqlstate == "0A000"
        session.execute("ALTER FOREIGN TABLE o OPTIONS (SET segment_granularity 'hour', DROP cluster_by)")
        assert session.execute("SELECT count(*) FROM o WHERE d = '2026-01-01'").fetchone() == (1,)


def test_database_of_another_encoding(cluster):
    cluster.query("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with cluster.connect("latin") as session:
            error = attempt(session, "CREATE EXTENSION basalt").error
            assert error.sqlstate == "0A000" and "UTF8" in error.diag.message_primary and "LATIN1" in error.diag.message_detail and error.diag.message_hint
            assert session.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'basalt'").fetchone() == (0,)
    finally:
        cluster.query("DROP DATABASE latin WITH (FORCE)")


def test_copy_of_a_database(trips):
    """CREATE DATABASE ... TEMPLATE: both go on, and neither touches the other."""
    database, session = trips.database, trips.main
    rows = session.same()
    for each in trips.sessions:
        each.close()
    copy = database.cluster.create_database(extension=False, template=database.name)
    try:
        answer = "SELECT count(*), sum(n), count(DISTINCT city) FROM store.t"
        assert copy.query(answer) == database.query(answer)
        copy.query("INSERT INTO store.t VALUES ('2026-02-01Z', 1000, 'copy')")
        database.query("INSERT INTO store.t VALUES ('2026-02-01Z', 5000, 'original'), ('2026-02-01Z', 5000, 'original')")
        assert (copy.value("SELECT count(*) FROM store.t"), database.value("SELECT count(*) FROM store.t")) == (201, 202)
        copy.query("SELECT basalt.compact('store.t')")
        copy.query("SELECT basalt.sweep()")
        copy.query("DROP FOREIGN TABLE store.t")
        copy.query("SELECT basalt.sweep()")
        assert len(database.query("SELECT * FROM store.t")) == len(rows) + 2
    finally:
        copy.drop()
    database.query("SELECT basalt.sweep()")
    assert len(database.query("SELECT * FROM store.t")) == len(rows) + 2 and orphans(database) == []


def test_views_rules_and_dependent_objects(trips):
    session = trips.main
    for side in (session.store, session.heap):
        side.execute("CREATE VIEW v AS SELECT city, sum(n) AS n FROM t GROUP BY city")
        side.execute("CREATE MATERIALIZED VIEW m AS SELECT * FROM v")
    session.fails("2BP01", "ALTER TABLE t DROP city")
    session.ok("INSERT INTO t VALUES ('2026-02-01Z', 1000, 'new')", "SELECT * FROM v", "SELECT * FROM m", "REFRESH MATERIALIZED VIEW m", "SELECT * FROM m",
               "ALTER TABLE t RENAME city TO town", "SELECT * FROM v", "ALTER TABLE t DROP town CASCADE", "SELECT count(*) FROM t")
