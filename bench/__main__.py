"""Command line of the benchmarks."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pg_test"))

from harness import prefix as prefixes  # noqa: E402
from harness.cluster import Cluster  # noqa: E402

from . import data, ingestion, interrupts, measure, queries, startup, tenancy  # noqa: E402
from .systems import DuckDB, Postgres  # noqa: E402

TABLES = ["lineitem", "flights", "hits", "joins"]
PARTS = [*TABLES, "tenancy", "startup", "interrupts", "ingestion"]
SERVER = {
    "fsync": "on", "shared_buffers": "4GB", "work_mem": "256MB", "maintenance_work_mem": "512MB", "max_wal_size": "8GB", "random_page_cost": "1.1",
    "effective_cache_size": "12GB", "checkpoint_timeout": "30min", "autovacuum": "on", "basalt.maintenance": "off",
}


def say(text=""):
    print(text, flush=True)


def open_cluster(options):
    """The private server, in a directory that is kept if it was named."""
    if "BASALT_PREFIX" in os.environ or "BASALT_LIBRARY_DIR" in os.environ:
        prefix = prefixes.for_tests()
    else:
        prefix = prefixes.build_and_install(prefixes.default_directory().with_name(prefixes.default_directory().name + "-release"), "release")
    config = dict(SERVER)
    if "basalt" not in options.systems and not set(options.only) - set(TABLES):
        config["shared_preload_libraries"] = ""
    directory = options.directory
    if directory is None:
        return Cluster(prefix, config=config).init(), True
    from harness.system import give_to_server

    fresh = not (directory / "data").exists()
    directory.mkdir(parents=True, exist_ok=True)
    give_to_server(directory)
    cluster = Cluster(prefix, directory=directory, config=config)
    return (cluster.init() if fresh else cluster.configure()), False


def compare_systems(options, cluster, folder, result):
    systems = []
    for name in options.systems:
        systems.append(DuckDB(folder / "duckdb", options.threads) if name == "duckdb" else Postgres(name, cluster.dsn(), options.threads))
    makers = {"lineitem": lambda: data.lineitem(options.scale), "flights": lambda: data.flights(options.scale), "hits": lambda: data.hits(options.hits_rows), "joins": lambda: data.joined(options.scale)}
    for part in TABLES:
        if part not in options.only:
            continue
        dataset = makers[part]()
        say(f"\n{part}: {dataset.rows:,} rows")
        loads, sizes = {}, {"parquet zstd": dataset.parquet.stat().st_size}
        for system in systems:
            if not system.has(dataset):
                loads[system.name] = done = system.load(dataset)
                say(f"  loaded into {system.name:7} in {done['seconds']:7.1f} s, {dataset.rows / done['cpu_seconds']:12,.0f} rows a CPU second")
            sizes |= system.bytes(dataset)
            system.load_dimensions(dataset)
        for name, size in sizes.items():
            say(f"  {name:24} {size / 1e6:10.1f} MB  {size / sizes['parquet zstd']:6.2f} of parquet")
        chosen = {n: q for n, q in queries.of(dataset).items() if not options.query or n in options.query}
        measured = measure.measure(systems, chosen, options.repetitions, say)
        result[part] = {"rows": dataset.rows, "load": loads, "bytes": sizes, "queries": measured}
    for system in systems:
        system.close()


def summary(options, result):
    say(f"\nThreads: {options.threads}. Geometric means of the ratios of medians:")
    result["geomean"] = {}
    everything = [q for p in TABLES if p in result for q in result[p]["queries"].values()]
    for label, queries in [(p, list(result[p]["queries"].values())) for p in TABLES if p in result] + [("all", everything)]:
        for other in ("duckdb", "heap"):
            both = [q["medians"]["basalt"] / q["medians"][other] for q in queries if "basalt" in q["medians"] and other in q["medians"]]
            if both:
                result["geomean"][f"{label} basalt/{other}"] = measure.geomean(both)
                cpu = measure.geomean(q["cpu"]["basalt"] / q["cpu"][other] for q in queries if "basalt" in q["cpu"] and other in q["cpu"])
                result["geomean"][f"{label} basalt/{other} cpu"] = cpu
                say(f"  {label:9} basalt/{other:7} {measure.geomean(both):8.3f}, of CPU seconds {cpu:8.3f}  ({len(both)} of {len(queries)} queries)")
    for part in TABLES:
        if any(q["plan"] for q in result.get(part, {}).get("queries", {}).values()):
            measured = result[part]["queries"].values()
            say(f"  {part:9} {sum(q['plan'] == ['Foreign Scan'] for q in measured)} of {len(measured)} queries are one Foreign Scan, "
                f"{sum(set(q['plan']) <= measure.ORDERED for q in measured)} with at most Sort and Limit above")
    wrong = [n for p in TABLES if p in result for n, q in result[p]["queries"].items() if not q["agree"]]
    say(f"  answers agree in {len(everything) - len(wrong)} of {len(everything)} queries" + (f"; not in: {', '.join(wrong)}" if wrong else ""))
    return not wrong


def main():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1, help="TPC-H scale factor; below 1 that share of the flights too")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--hits-rows", type=int, default=1_000_000, help="rows of the table of page hits")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--query", nargs="+", help="only the queries of these names")
    parser.add_argument("--systems", nargs="+", choices=["basalt", "heap", "duckdb"], default=["basalt", "heap", "duckdb"])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--clients", type=int, default=20, help="dashboards at once")
    parser.add_argument("--reports", type=int, default=10, help="long reports beside them")
    parser.add_argument("--rounds", type=int, default=3, help="times that each dashboard is run")
    parser.add_argument("--directory", type=Path, help="keep server and DuckDB files here; loaded tables are used again")
    parser.add_argument("--rates", nargs="+", type=int, default=ingestion.RATES, help="events a second of the delay measurements")
    parser.add_argument("--events", type=int, default=3_000_000, help="events of the full speed measurement")
    options = parser.parse_args()
    result = {"threads": options.threads, "scale": options.scale}
    cluster, temporary = open_cluster(options)
    folder = options.directory or Path(tempfile.mkdtemp(prefix="basalt-bench-"))
    good = True
    try:
        cluster.start()
        if set(TABLES) & set(options.only):
            compare_systems(options, cluster, folder, result)
            good = summary(options, result)
        if "tenancy" in options.only:
            result["tenancy"] = tenancy.run(cluster, folder, options, say)
        if "startup" in options.only:
            result["startup"] = startup.run(cluster, options, say)
        if "interrupts" in options.only:
            result["interrupts"] = interrupts.run(cluster, options, say)
        if "ingestion" in options.only:
            result["ingestion"] = ingestion.run(cluster, options, say)
    finally:
        cluster.destroy() if temporary else cluster.stop()
        if not options.directory:
            shutil.rmtree(folder, ignore_errors=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
