"""Command line of the differential test."""

import argparse
import os
import sys

from .run import run
from .tables import BASALT, HEAP


def main():
    parser = argparse.ArgumentParser(prog="python -m pg_test.differential", description=__doc__)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first query (to run one again: --first N --queries 1)")
    parser.add_argument("--tables", type=int, default=4, help="the last of three or more is long and in few segments")
    parser.add_argument("--segments", type=int, default=200, help="transactions a table is filled in, at least")
    parser.add_argument("--dsn", default=os.environ.get("BASALT_DSN", "host=/tmp user=postgres dbname=postgres"), help="superuser's connection; schemas diff_* are replaced")
    parser.add_argument("--against", choices=[BASALT, HEAP], default=BASALT, help="heap: tests the generator itself")
    parser.add_argument("--only", help="queries of one form, such as star")
    parser.add_argument("--stop-after", type=int, default=5, help="differences")
    parser.add_argument("--shrink-seconds", type=int, default=60)
    options = vars(parser.parse_args())
    report = run(**options)
    for state, message in report.examples.items():
        print(f"failed alike, for example: {state} {message.splitlines()[0]}")
    for line, count in report.reasons.most_common(40):
        print(f"{count:6} {line}")
    print(report.closing())
    sys.exit(1 if report.differences else 0)


if __name__ == "__main__":
    main()
