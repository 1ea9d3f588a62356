"""Half a minute of random SQL; `python -m pg_test.sqlsmith MINUTES` runs it longer."""

import os

import pytest

import sqlsmith
from harness import debian


@pytest.mark.timeout(300)
@pytest.mark.internal_errors  # PostgreSQL has some of its own; the report tells them apart
def test_random_sql_meets_no_internal_error(new_cluster, capsys):
    database = new_cluster(**sqlsmith.SETTINGS).create_database()
    sqlsmith.make_schemas(database)
    try:
        report = sqlsmith.run(database, seconds=float(os.environ.get("BASALT_SQLSMITH_SECONDS", "20")), seed=int(os.environ.get("BASALT_SQLSMITH_SEED", "1")))
    except debian.Unavailable as reason:
        pytest.skip(f"sqlsmith can't be downloaded: {str(reason).splitlines()[0]}")
    with capsys.disabled():
        print(f"\n{report.closing()}")
    assert not report.crash, "\n".join(report.crash)
    assert not report.internal, "\n\n".join(f"{error}\n{statement}" for error, statement in report.internal.items())
    assert report.statements > 200
