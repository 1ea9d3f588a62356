"""What a datasource leaves on disk and in the catalog: cache files, segment rows, segment bytes."""

import os
import re
from pathlib import Path

FILE = re.compile(r"^([0-9a-f-]{36})-([0-9a-f]{8})\.segment$")


def cache_root(cluster) -> Path:
    return cluster.data / "pgsql_tmp_basalt"


def cache_files(database) -> list[Path]:
    """Every file below the database's part of the segment cache."""
    oid = database.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    return sorted(Path(folder) / name for folder, _, names in os.walk(cache_root(database.cluster) / str(oid)) for name in names)


def orphans(database) -> list[str]:
    """Files and catalog rows that belong to no segment or no table; run it while nothing else runs."""
    found = []
    segments = {str(i): f"{c:08x}" for i, c in database.query("SELECT id, checksum FROM basalt.segment")}
    for file in cache_files(database):
        match = FILE.match(file.name)
        if not match or segments.get(match[1]) != match[2]:
            found.append(f"file {file.name}")
    for table in ("segment_data", "segment_source", "segment_deletion"):
        found += [f"{table} of {row[0]}" for row in database.query(
            f"SELECT DISTINCT segment FROM basalt.{table} WHERE segment NOT IN (SELECT id FROM basalt.segment)")]
    found += [f"part of {row[0]}" for row in database.query("SELECT derived FROM basalt.segment_part WHERE derived NOT IN (SELECT id FROM basalt.segment)")]
    found += [f"segment {row[0]}" for row in database.query("SELECT id FROM basalt.segment WHERE datasource NOT IN (SELECT id FROM basalt.datasource)")]
    found += [f"datasource {row[0]}" for row in database.query(
        "SELECT id FROM basalt.datasource d WHERE NOT EXISTS (SELECT FROM pg_foreign_table WHERE ftrelid = d.relation)")]
    # A used segment's bytes are stored, or it is derived from segments whose bytes are.
    found += [f"no bytes of {row[0]}" for row in database.query(
        "SELECT id FROM basalt.segment s WHERE used AND kind <> 'derived' AND NOT EXISTS (SELECT FROM basalt.segment_data WHERE segment = s.id)")]
    found += [f"no source of {row[0]}" for row in database.query(
        "SELECT s.id FROM basalt.segment s LEFT JOIN basalt.segment_part p ON p.derived = s.id "
        "WHERE s.used AND s.kind = 'derived' AND NOT EXISTS (SELECT FROM basalt.segment_data WHERE segment = p.source)")]
    return found
