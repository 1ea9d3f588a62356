"""COPY FROM by blocks: plain lines are read by the engine, others by PostgreSQL; nobody can tell but by the time it takes."""

import os
import re
import time

import psycopg
import pytest

from copy_inputs import KINDS, SETUP, Maker

TRIALS = int(os.environ.get("BASALT_COPY_TRIALS", 150))


class Notices:
    """What a session says at level DEBUG1 about its copies: (rows by blocks, all rows)."""

    def __init__(self, connection):
        self.said = []
        connection.execute("SET client_min_messages = debug1")
        connection.add_notice_handler(lambda diagnostic: self.said.append(diagnostic.message_primary))

    def copies(self):
        found = [re.fullmatch(r"COPY read (\d+) of (\d+) rows by blocks", text) for text in self.said]
        return [(int(m[1]), int(m[2])) for m in found if m]


def outcome(connection, sql: str, pieces) -> tuple:
    """The command's tag, or all that a user sees of its error."""
    try:
        with connection.cursor() as cursor:
            with cursor.copy(sql) as copy:
                for piece in pieces:
                    copy.write(piece)
            return (cursor.statusmessage,)
    except psycopg.Error as error:
        d = error.diag
        return (error.sqlstate, d.message_primary, d.message_detail, d.message_hint, d.context)


def both(session, sql: str, pieces) -> tuple:
    pieces = list(pieces)
    got, expected = outcome(session.store, sql, pieces), outcome(session.heap, sql, pieces)
    assert got == expected, f"{sql}\n  basalt: {got}\n  heap:   {expected}"
    return got


def lines(count: int) -> bytes:
    return b"".join(b"2026-01-%02d 00:00:00+00,name %d,%d\n" % (i % 28 + 1, i % 50, i) for i in range(count))


@pytest.fixture
def table(twins):
    twins.create("ts timestamptz NOT NULL, name text, n int NOT NULL")
    twins.notices = Notices(twins.main.store)
    return twins


def test_nearly_all_rows_come_by_blocks(table):
    assert both(table.main, "COPY t FROM STDIN (FORMAT csv)", [lines(50_000)]) == ("COPY 50000",)
    ((by_blocks, rows),) = table.notices.copies()
    assert rows == 50_000 and by_blocks > 49_000
    assert len(table.main.same()) == 50_000
    assert table.segments() == 1


@pytest.mark.parametrize("trial", range(8))
def test_random_inputs(twins, trial):
    """Good, odd and wrong inputs, and such with damaged bytes: the same rows or the same error as on a heap table."""
    session = twins.main
    for connection in (session.store, session.heap):
        connection.execute("SET TimeZone = 'Europe/Berlin'")
    twins.database.query(SETUP)
    notices = Notices(session.store)
    for number in range(TRIALS // 8):
        maker = Maker(1000 * trial + number)
        given = maker.make()
        table = f"t{number}"
        twins.create(given.columns, name=table)
        sql = f"COPY {table} ({given.given}) FROM STDIN ({given.options})"
        try:
            both(session, sql, maker.pieces(given.data))
            for _ in range(3):
                both(session, sql, maker.pieces(maker.damage(given.data)))
            session.same(table)
        except AssertionError as difference:
            raise AssertionError(f"seed {1000 * trial + number}: {given.columns}\n{str(difference)[:3000]}") from None
    assert sum(by_blocks for by_blocks, _ in notices.copies()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_texts_near_the_plain_forms(twins, kind):
    """What PostgreSQL takes for a value is the same value by blocks, what it refuses is refused there too."""
    session = twins.main
    for connection in (session.store, session.heap):
        connection.execute("SET TimeZone = 'America/St_Johns'; SET DateStyle = 'SQL, DMY'")
    twins.database.query(SETUP)
    twins.create(f"ts timestamptz, n int, v {kind}")
    notices = Notices(session.store)
    maker = Maker(list(KINDS).index(kind))
    texts = sorted(text for text in {maker.near(kind) for _ in range(TRIALS * 2)} if "now" not in text.lower())
    copy = "COPY t FROM STDIN (FORMAT csv, NULL 'none')"
    good = "2026-01-01 00:00:00Z,0,none\n"

    def line(number):
        return '2026-01-01 00:00:00Z,{},"{}"\n'.format(number, texts[number].replace('"', '""'))

    valid = []
    for number in range(len(texts)):
        fate = outcome(session.heap, copy, [(good + line(number)).encode()])
        if len(fate) == 1:
            valid.append(number)
        else:
            assert fate == outcome(session.store, copy, [(good + line(number)).encode()])
    given = "".join(good + line(number) for number in valid)
    assert outcome(session.store, copy, [given.encode()]) == (f"COPY {2 * len(valid)}",)
    session.same()
    assert valid and notices.copies()[-1][0] > len(valid) // 4


def test_lines_of_every_length(table):
    """Lines around the size of PostgreSQL's buffer, quoted ones with ends of lines in them, in pieces of any size."""
    def line(i):
        text = b"x\ny" * (i * 37 % 50_000) if i % 7 == 0 else b"z" * (i * 977 % 3000)
        return b'2026-01-01 00:00:00Z,"' + text + b'",%d\n' % i
    data = b"".join(line(i) for i in range(300))
    for size in (len(data), 65_536, 8192, 1000):
        assert both(table.main, "COPY t FROM STDIN (FORMAT csv)", [data[i:i + size] for i in range(0, len(data), size)]) == ("COPY 300",)
    assert both(table.main, "COPY t FROM STDIN (FORMAT csv)", [data + b"2026-01-01,x,bad\n"])[0] == "22P02"
    assert len(table.main.same()) == 1200


def test_files_and_programs(table, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(lines(5000) + b"2026-02-30,x,1\n" + lines(5))
    tmp_path.chmod(0o755)
    path.chmod(0o644)
    for parent in path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    session = table.main
    error = session.run(f"COPY t FROM '{path}' (FORMAT csv)").error
    assert error.sqlstate == "22008" and 'COPY t, line 5001, column ts: "2026-02-30"' in error.diag.context
    assert session.ok(f"COPY t FROM PROGRAM 'head -n 5000 {path}' (FORMAT csv)").status == "COPY 5000"
    assert session.fails("38000", f"COPY t FROM PROGRAM 'head -n 5000 {path}; exit 3' (FORMAT csv)")
    assert session.ok("SELECT count(*) FROM t").value() == "5000"
    table.database.query("CREATE ROLE loader LOGIN; GRANT USAGE ON SCHEMA store, heap TO loader; GRANT INSERT, SELECT ON store.t, heap.t TO loader")
    other = table.session("loader")
    other.fails("42501", f"COPY t FROM '{path}' (FORMAT csv)")
    assert both(other, "COPY t FROM STDIN (FORMAT csv)", [lines(3000)]) == ("COPY 3000",)
    table.database.query("REVOKE INSERT ON store.t, heap.t FROM loader; GRANT INSERT (ts, n) ON store.t, heap.t TO loader")
    assert other.copy("COPY t FROM STDIN (FORMAT csv)", lines(3)).sqlstate == "42501"
    assert both(other, "COPY t (ts, n) FROM STDIN (FORMAT csv)", [b"2026-01-01,1\n" * 3000]) == ("COPY 3000",)
    other.ok("BEGIN READ ONLY")
    assert both(other, "COPY t (ts, n) FROM STDIN (FORMAT csv)", [b"2026-01-01,1\n"])[0] == "25006"
    other.ok("ROLLBACK")
    table.database.query("DROP OWNED BY loader; DROP ROLE loader")


def test_counts(table):
    """The command's tag, in functions too, and what pg_stat_progress_copy shows."""
    session = table.main
    session.ok("""CREATE FUNCTION {side}.load() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE rows bigint; BEGIN
        COPY t FROM PROGRAM 'seq -f "2026-01-01,x,%g" 3000' (FORMAT csv); GET DIAGNOSTICS rows = ROW_COUNT; RETURN rows; END $$""")
    assert session.ok("SELECT load()").value() == "3000"
    cursor = session.store.cursor()
    with cursor.copy("COPY t FROM STDIN (FORMAT csv)") as copy:
        copy.write(lines(20_000))
        shown = "SELECT tuples_processed FROM pg_stat_progress_copy WHERE pid = %s AND tuples_processed > 1000"
        end = time.monotonic() + 30
        while not (rows := table.database.query(shown, (session.store.info.backend_pid,))) and time.monotonic() < end:
            time.sleep(0.05)
        assert rows and rows[0][0] <= 20_000
    assert cursor.statusmessage == "COPY 20000"


def test_what_is_left_to_postgresql(twins):
    """Triggers, checks, generated columns, defaults that vary, options: the same rows, none by blocks."""
    session = twins.main
    notices = Notices(session.store)
    session.ok("CREATE SEQUENCE {side}.numbers", """CREATE FUNCTION {side}.longer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.name := new.name || '!'; RETURN new; END $$""")
    columns = "ts timestamptz NOT NULL, name text, n int"
    for extra, given in ((", CHECK (n >= 0)", ""), (", s bigint DEFAULT nextval('numbers')", "(ts, name, n)"), (", m mood", "(ts, name, n, m)")):
        if "mood" in extra:
            twins.database.query("CREATE TYPE mood AS ENUM ('ok')")
        twins.create(columns + extra)
        data = lines(2000) if "mood" not in extra else lines(2000).replace(b"\n", b",ok\n")
        assert both(session, f"COPY t {given} FROM STDIN (FORMAT csv)", [data]) == ("COPY 2000",)
        assert both(session, f"COPY t {given} FROM STDIN (FORMAT csv)", [data + b"2026-01-01,x,-1\n"])[0] in ("23514", "COPY 2001", "22P04")
        session.same()
        session.store.execute("DROP FOREIGN TABLE t")
        session.heap.execute("DROP TABLE t")
    twins.create(columns)
    for options, where in (("FORMAT csv, FORCE_NULL (name)", ""), ("FORMAT csv", "WHERE n % 2 = 0")):
        both(session, f"COPY t FROM STDIN ({options}) {where}", [lines(2000)])
    session.ok("CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION longer()")
    both(session, "COPY t FROM STDIN (FORMAT csv)", [lines(2000)])
    session.same()
    assert notices.copies() == []


def test_statement_triggers_and_defaults(twins):
    session = twins.main
    notices = Notices(session.store)
    twins.create("ts timestamptz NOT NULL DEFAULT now(), name text DEFAULT 'none', n int, t timestamptz DEFAULT current_timestamp, k numeric(5,1) DEFAULT 2.5")
    session.ok("CREATE TABLE {side}.log (n bigint)",
               "CREATE FUNCTION {side}.counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log SELECT count(*) FROM t; RETURN NULL; END $$",
               "CREATE TRIGGER a AFTER INSERT ON t EXECUTE FUNCTION counted()")
    assert both(session, "COPY t (n) FROM STDIN", [b"1\n" * 5000]) == ("COPY 5000",)
    assert session.ok("SELECT name, n, k, ts = t, count(*) FROM t GROUP BY 1, 2, 3, 4").rows == [("none", "1", "2.5", "t", "5000")]
    session.ok("SELECT * FROM log")
    assert notices.copies()[0][0] > 3000


def test_transactions(table):
    session = table.main
    session.ok("BEGIN")
    both(session, "COPY t FROM STDIN (FORMAT csv)", [lines(3000)])
    session.ok("SAVEPOINT a")
    both(session, "COPY t FROM STDIN (FORMAT csv)", [lines(2000)])
    session.ok("SELECT count(*), sum(n) FROM t", "ROLLBACK TO a")
    both(session, "COPY t FROM STDIN (FORMAT csv)", [lines(10)])
    session.ok("SELECT count(*), sum(n) FROM t", "COMMIT")
    assert len(session.same()) == 3010


def test_partitions(twins):
    """A datasource as a partition: rows of a COPY into the parent are routed one by one, those into the partition are checked."""
    session = twins.main
    session.ok("CREATE TABLE {side}.p (ts timestamptz NOT NULL, name text, n int) PARTITION BY RANGE (ts)")
    session.store.execute("CREATE FOREIGN TABLE t PARTITION OF p FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z') SERVER basalt")
    session.heap.execute("CREATE TABLE t PARTITION OF p FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z')")
    for name in ("p", "t"):
        assert both(session, f"COPY {name} FROM STDIN (FORMAT csv)", [lines(1000)]) == ("COPY 1000",)
        assert both(session, f"COPY {name} FROM STDIN (FORMAT csv)", [lines(1000) + b"2026-03-01,x,1\n"])[0] == "23514"
    assert len(session.same()) == 2000


def test_small_segments_and_memory(twins):
    """max_segment_rows and basalt.insert_memory_limit hold for blocks as they do for rows."""
    session = twins.main
    twins.main.store.execute("CREATE FOREIGN TABLE t (ts timestamptz NOT NULL, name text, n int) SERVER basalt OPTIONS (max_segment_rows '1000')")
    twins.main.heap.execute("CREATE TABLE t (ts timestamptz NOT NULL, name text, n int)")
    both(session, "COPY t FROM STDIN (FORMAT csv)", [lines(10_000)])
    assert twins.segments() == 10
    session.store.execute("SET basalt.insert_memory_limit = '1MB'")
    both(session, "COPY t FROM STDIN (FORMAT csv)", [lines(300_000)])
    assert len(session.same()) == 310_000


def test_other_encodings(twins):
    session = twins.main
    twins.create("ts timestamptz NOT NULL, name text, n int")
    notices = Notices(session.store)
    data = lines(3000).replace(b"name", "Größe".encode("latin1"))
    assert both(session, "COPY t FROM STDIN (FORMAT csv, ENCODING 'latin1')", [data]) == ("COPY 3000",)
    assert both(session, "COPY t FROM STDIN (FORMAT csv)", [data])[0] == "22021"
    assert notices.copies()[0][0] > 2000
    assert "Größe 0" in {name for _, name, _ in session.same()}
