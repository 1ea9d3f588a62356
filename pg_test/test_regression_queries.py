"""The queries of PostgreSQL's own regression tests have the same answers on datasources and on heap tables.

Scripts and data are taken from Debian's source package at test time; see regression/."""

import pytest

from harness.debian import Unavailable
from regression.run import Runner
from regression.source import regress_directory

# Roughly in the order of PostgreSQL's own schedule: some read what earlier ones leave.
SCRIPTS = """select select_distinct select_distinct_on select_implicit select_having subselect union case join aggregates
    incremental_sort limit with groupingsets window""".split()


@pytest.mark.timeout(900)
def test_regression_queries_answer_alike(database, capsys):
    try:
        directory = regress_directory()
    except Unavailable as reason:
        pytest.skip(f"Debian's source package can't be downloaded: {str(reason).splitlines()[0]}")
    runner = Runner(database, directory)
    runner.set_up()
    for name in SCRIPTS:
        runner.run(name)
    report = runner.report
    with capsys.disabled():
        print(f"\n{report.closing()}")
    assert not report.differences and not report.broken, "\n".join(report.differences + report.broken)
    # A run that compared little proves little.
    assert report.compared.total() > 1200 and len(report.compared) == len(SCRIPTS)
    assert len(report.undetermined) < report.compared.total() * 0.1 and len(report.datasources) >= 40
