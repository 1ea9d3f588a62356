"""The differential test within ./test, and a test that it notices a wrong operator.

BASALT_DIFF_QUERIES (2,000) queries in all, over two sets of tables; BASALT_DIFF_SEED the first one's seed. More queries from the
command line: `python -m pg_test.differential --queries 20000 --seed 7 --dsn ...`.
"""

import os

import pytest

from differential.run import run
from differential.session import Session
from differential.tables import HEAP

QUERIES = int(os.environ.get("BASALT_DIFF_QUERIES", "2000"))
SEED = int(os.environ.get("BASALT_DIFF_SEED", "1"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_basalt_answers_as_a_heap_table(database, seed, capsys):
    said = []
    report = run(database.dsn, queries=QUERIES // 2, seed=seed, say=said.append)
    with capsys.disabled():
        print(f"\nseed {seed}: {report.closing()}")
    assert not report.differences, "\n".join(said)
    # A run that compared little proves little.
    assert report.answered > report.queries * 0.9
    assert report.empty < report.answered * 0.5
    assert all(count >= 200 for table, count in report.segments.items() if not table.endswith("t4")), report.segments


WRONG_OPERATOR = """
CREATE FUNCTION public.not_quite(bigint, bigint) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 OPERATOR(pg_catalog.>) $2';
CREATE OPERATOR public.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.not_quite);
"""


def test_a_wrong_operator_is_found_and_shrunk(database, monkeypatch):
    """Heap against heap, the second with a >= on bigint that means >: a kernel that is off at its bound."""
    database.psql(WRONG_OPERATOR)
    connect = Session.connect

    def connect_wrongly(self):
        connect(self)
        if self.side != HEAP:
            self.connection.execute("SET search_path = diff_basalt, diff_types, public, pg_catalog")

    monkeypatch.setattr(Session, "connect", connect_wrongly)
    said = []
    report = run(database.dsn, queries=2000, seed=SEED, tables=2, segments=20, against=HEAP, stop_after=1, say=said.append)
    assert len(report.differences) == 1
    script = report.differences[0][2]
    assert ">=" in script or "BETWEEN" in script
    rows = script.split("SET search_path = diff_heap, diff_types;")[1].count("('")
    assert rows <= 3, script
