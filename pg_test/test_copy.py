"""COPY into a datasource and out of it: formats, column lists, WHERE, and errors in the middle."""

import pytest

from harness.twins import attempt

COLUMNS = "ts timestamptz NOT NULL, city text, fare numeric(10,2) CHECK (fare >= 0), n int DEFAULT 7"


@pytest.fixture
def trips(twins):
    twins.create(COLUMNS)
    return twins


def lines(count: int, bad: dict[int, str] = {}) -> str:
    """`count` lines in text format; `bad` replaces some, by number from 1."""
    return "".join(
        bad.get(i, f"2026-01-{i % 28 + 1:02} {i % 24:02}:00Z\tcity {i % 50}\t{i}.25\t{i if i % 9 else chr(92) + 'N'}") + "\n"
        for i in range(1, count + 1)
    )


def copy_out(connection, sql: str) -> bytes:
    with connection.cursor() as cursor, cursor.copy(sql) as copy:
        return b"".join(bytes(part) for part in copy)


def test_text(trips):
    session = trips.main
    session.copy("COPY t FROM STDIN", lines(20_000))
    session.copy("COPY t FROM STDIN", "")
    session.copy("COPY t FROM STDIN", "2026-01-01Z\ttab\\tnewline\\nback\\\\slash\t1\t\\N\n2026-01-01Z\t\t0\t1\n2026-01-01Z\t\\N\t\\N\t1\n")
    session.copy("COPY t FROM STDIN (DELIMITER '|', NULL 'none')", "2026-01-01Z|none|1|none\n")
    assert len(session.same()) == 20_004
    assert trips.segments() == 3


def test_csv(trips):
    session = trips.main
    session.copy(
        "COPY t FROM STDIN (FORMAT csv, HEADER, FORCE_NULL (city))",
        'ts,city,fare,n\n2026-01-01Z,"a ""quoted"", city\nof two lines",1.5,\n2026-01-01Z,"",,3\n2026-01-01Z,plain,2,4\n',
    )
    session.copy("COPY t (n, ts) FROM STDIN (FORMAT csv, DELIMITER ';', QUOTE '''')", "5;'2026-01-02Z'\n;2026-01-03Z\n")
    assert len(session.same()) == 5


def test_binary(trips):
    session = trips.main
    session.heap.execute("CREATE TABLE source AS SELECT * FROM t WITH NO DATA")
    with session.heap.cursor().copy("COPY source FROM STDIN") as copy:
        copy.write(lines(500))
    data = copy_out(session.heap, "COPY source TO STDOUT (FORMAT binary)")
    session.copy("COPY t FROM STDIN (FORMAT binary)", data)
    assert len(session.same()) == 500
    session.copy("COPY t FROM STDIN (FORMAT binary)", data[:-5])
    session.copy("COPY t FROM STDIN (FORMAT binary)", data[:100] + b"\xff" + data[101:])
    session.same()


def test_column_list_and_where(trips):
    session = trips.main
    session.copy("COPY t (ts, n) FROM STDIN WHERE n % 2 = 0", "".join(f"2026-01-01Z\t{i}\n" for i in range(100)))
    session.copy("COPY t (city, ts) FROM STDIN", "x\t2026-01-01Z\n")
    assert len(session.same()) == 51
    assert session.copy("COPY t (nothing) FROM STDIN", "").sqlstate == "42703"


@pytest.mark.parametrize("place", [1, 777, 5000])
@pytest.mark.parametrize("bad, state", [
    ("2026-01-01Z\tx\t1\tnot a number", "22P02"),
    ("2026-01-01Z\tx\t1", "22P04"),
    ("2026-01-01Z\tx\t1\t1\t1", "22P04"),
    ("\\N\tx\t1\t1", "23502"),
    ("2026-01-01Z\tx\t-1\t1", "23514"),
    ("2026-13-01Z\tx\t1\t1", "22008"),
])
def test_an_error_in_the_middle_leaves_nothing(trips, place, bad, state):
    session = trips.main
    outcome = session.copy("COPY t FROM STDIN", lines(5000, {place: bad}))
    assert outcome.sqlstate == state
    assert f"line {place}" in outcome.error.diag.context
    assert session.same() == [] and trips.segments() == 0


def test_an_error_in_a_savepoint_keeps_the_earlier_rows(trips):
    session = trips.main
    session.ok("BEGIN", "INSERT INTO t VALUES ('2026-01-01Z', 'first', 1, 1)", "SAVEPOINT a")
    assert session.copy("COPY t FROM STDIN", lines(500, {400: "2026-01-01Z\tx\t1\tbad"})).sqlstate == "22P02"
    session.ok("ROLLBACK TO a")
    session.copy("COPY t FROM STDIN", lines(300))
    session.ok("COMMIT")
    assert len(session.same()) == 301
    assert trips.segments() == 1


def test_client_gives_up(trips):
    """A client that goes away, or fails the copy, leaves nothing."""
    session = trips.main
    for connection in (session.store, session.heap):
        with pytest.raises(ZeroDivisionError):
            with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
                copy.write(lines(2000))
                1 / 0
    other = trips.session()
    cursor = other.store.cursor()
    copy = cursor.copy("COPY t FROM STDIN")
    copy.__enter__().write(lines(2000))
    other.store.close()
    assert session.same() == []


def test_copy_out(trips):
    session = trips.main
    session.copy("COPY t FROM STDIN", lines(1000))
    query = "COPY (SELECT * FROM t ORDER BY n, ts, city) TO STDOUT"
    for form in ("", " (FORMAT csv, HEADER)", " (FORMAT binary)"):
        assert copy_out(session.store, query + form) == copy_out(session.heap, query + form)
    # PostgreSQL itself refuses the short form for foreign tables and names the long one.
    assert "COPY (SELECT" in attempt(session.store, "COPY t TO STDOUT").error.diag.message_hint


def test_copy_and_insert_share_the_transactions_segment(trips):
    session = trips.main
    session.ok("BEGIN", "INSERT INTO t VALUES ('2026-01-01Z', 'x', 1, 1)")
    for _ in range(3):
        session.copy("COPY t FROM STDIN", lines(100))
    session.ok("COMMIT")
    assert len(session.same()) == 301
    assert trips.segments() == 1
