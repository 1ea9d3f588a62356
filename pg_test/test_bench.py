"""The benchmarks run and their systems agree, at a hundredth of the size; this measures nothing."""

import json
import os
import subprocess
import sys

import pytest

from harness.system import REPOSITORY


@pytest.mark.timeout(300)
def test_benchmark_answers_agree(prefix, tmp_path):
    report = tmp_path / "result.json"
    command = [sys.executable, "-m", "bench", "--only", "lineitem", "flights", "hits", "joins", "--scale", "0.01", "--hits-rows", "10000", "--repetitions", "1", "--json", str(report)]
    ended = subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"BASALT_PREFIX": str(prefix.directory)}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(report.read_text())
    queries = result["lineitem"]["queries"] | result["flights"]["queries"] | result["hits"]["queries"] | result["joins"]["queries"]
    assert len(result["hits"]["queries"]) == 43 and len(queries) >= 77
    # Thresholds follow the number of rows: few answers are empty.
    assert sum(q["rows"] == 0 for q in queries.values()) <= 3
    assert all(q["agree"] and set(q["medians"]) == {"basalt", "heap", "duckdb"} for q in queries.values())
