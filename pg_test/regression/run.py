"""Runs scripts on four sides: heap tables, the same in two other orders of rows, and datasources.

What the two other orders change, SQL leaves open (LIMIT through ties, windows over peers, array_agg without an order): such an
answer isn't compared. All others must be the datasource's too, in order if the statement has an outermost ORDER BY."""

import re
from collections import Counter
from dataclasses import dataclass, field

import psycopg

from differential.compare import FLOAT4, FLOAT8, Answer, difference
from harness.twins import text_rows

from . import script

HEAP, ORDERS, STORE = "heap", {"reversed": "ctid DESC", "shuffled": "md5(t::text), ctid"}, "store"
SIDES = [HEAP, *ORDERS, STORE]
SEGMENTS = 3


@dataclass
class Report:
    """`undetermined`: queries whose answers depend on the order of rows. `broken`: statements other than queries that fail at one side alone."""
    compared: Counter = field(default_factory=Counter)
    undetermined: list = field(default_factory=list)
    failed_alike: Counter = field(default_factory=Counter)
    timeouts: list = field(default_factory=list)
    left_out: int = 0
    differences: list = field(default_factory=list)
    broken: list = field(default_factory=list)
    datasources: set = field(default_factory=set)

    def closing(self):
        return (f"{sum(self.compared.values())} queries compared ({', '.join(f'{k} {v}' for k, v in self.compared.items())}), {sum(self.failed_alike.values())} of them failed alike; "
                f"{len(self.undetermined)} undetermined, too slow on the heap: {', '.join(self.timeouts) or 'none'}; {self.left_out} statements left out; {len(self.datasources)} datasources; "
                f"{len(self.differences)} differences, {len(self.broken)} other statements broken")


class Side:
    def __init__(self, database, name):
        self.database, self.name = database, name
        self.connect()

    def connect(self):
        self.connection = self.database.connect(options=f"-c search_path={self.name},public -c statement_timeout=30s -c client_min_messages=error")

    def run(self, text, data=None) -> Answer:
        try:
            cursor = self.connection.cursor()
            if data is not None:
                with cursor.copy(text) as copy:
                    copy.write(data)
                return Answer()
            cursor.execute(text)
            return Answer(text_rows(cursor), [c.type_code for c in cursor.description or []])
        except psycopg.Error as error:
            return Answer(sqlstate=error.sqlstate or "lost", message=str(error), lost=self.connection.closed)

    def rows(self, text):
        answer = self.run(text)
        assert answer.sqlstate is None, f"{text}: {answer.message}"
        return answer.rows

    def reorder(self, table):
        """Store the rows of a table in this side's order."""
        self.rows(f"CREATE TEMP TABLE pg_temp.copied AS SELECT * FROM {table}")
        self.rows(f"TRUNCATE {table}")
        self.rows(f"INSERT INTO {table} SELECT * FROM pg_temp.copied t ORDER BY {ORDERS[self.name]}")
        self.rows("DROP TABLE pg_temp.copied")


class Runner:
    def __init__(self, database, directory):
        self.directory, self.report = directory, Report()
        database.query("; ".join(f"CREATE SCHEMA {name}" for name in SIDES))
        self.sides = [Side(database, name) for name in SIDES]
        self.store = self.sides[-1]
        self.base, self.cursors = set(), {}

    def set_up(self):
        """The tables that all scripts share: as they are, in other orders, and as datasources."""
        for statement in self.read("test_setup"):
            for side in self.sides:
                side.run(statement.text, statement.data)
        self.base = {name for (name,) in self.sides[0].rows(
            f"SELECT c.relname FROM pg_class c WHERE c.relnamespace = '{HEAP}'::regnamespace AND c.relkind = 'r' AND NOT EXISTS "
            "(SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))")}
        for side in self.sides[1:-1]:
            for name in sorted(self.base):
                side.reorder(name)
        for name in sorted(self.base):
            ((columns,),) = self.store.rows(f"SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) FROM pg_attribute "
                                            f"WHERE attrelid = '{name}'::regclass AND attnum > 0")
            self.store.rows(f"ALTER TABLE {name} RENAME TO {name}_heap")
            self.create_datasource(name, columns)
            share = int(self.store.rows(f"SELECT count(*) / {SEGMENTS} + 1 FROM {name}_heap")[0][0])
            for part in range(SEGMENTS):
                self.store.rows(f"INSERT INTO {name} SELECT * FROM {name}_heap LIMIT {share} OFFSET {share * part}")
            self.store.rows(f"DROP TABLE {name}_heap")
        for side in self.sides[:-1]:
            side.rows("ANALYZE " + ", ".join(sorted(self.base)))

    def read(self, name):
        return script.read(self.directory / "sql" / f"{name}.sql", self.directory / "data")

    def create_datasource(self, name, columns):
        self.store.rows(f"CREATE FOREIGN TABLE {STORE}.{name} ({columns}) SERVER basalt")
        self.report.datasources.add(name)

    def run(self, name):
        """One script. Tables that it creates are datasources too, unless it does with them what only a heap table can."""
        statements = self.read(name)
        changed, made = script.changed_tables(statements), set()
        for statement in statements:
            kind, place = script.kind(statement), f"{name}.sql:{statement.line}"
            if kind == "left out" or (kind == "state" and script.target(statement) in self.base):
                self.report.left_out += 1
            elif kind == "query":
                self.query(name, place, statement)
            else:
                self.state(place, statement, changed, made)
        for side in self.sides:
            side.connection.close()
            side.connect()
        for table in made:
            self.store.rows(f"DROP FOREIGN TABLE IF EXISTS {STORE}.{table} CASCADE")

    def state(self, place, statement, changed, made):
        if cursor := re.match(r"declare (\w+)", statement.bare):
            self.cursors[cursor[1]] = has_order(statement.bare)
        answers = [side.run(statement.text, statement.data) for side in self.sides[:-1]]
        new = script.created(statement)
        dropped = re.match(r"drop table (?:if exists )?([\w, ]+?)(?: cascade| restrict)?$", statement.bare)
        if new and new[0] not in changed and not answers[0].sqlstate and self.store.rows(f"SELECT to_regclass('{STORE}.{new[0]}') IS NULL") == [("t",)]:
            self.create_datasource(*new)
            made.add(new[0])
            answers.append(Answer())
        elif dropped and made & set(dropped[1].split(", ")):
            for table in dropped[1].split(", "):
                answers.append(self.store.run(f"DROP {'FOREIGN ' if table in made else ''}TABLE {table} CASCADE"))
                made.discard(table)
        else:
            answers.append(self.store.run(statement.text, statement.data))
        if statement.bare.startswith(("insert", "copy")) and script.target(statement) in made and not any(a.sqlstate for a in answers):
            for side in self.sides[1:-1]:
                side.reorder(script.target(statement))
        self.reconnect()
        if any(a.sqlstate != answers[0].sqlstate for a in answers):
            self.report.broken.append(f"{place}: {statement.text[:200]}\n    " + "; ".join(f"{a.sqlstate}: {a.message.strip()}" for a in answers if a.sqlstate))

    def query(self, name, place, statement):
        heap, *others, store = answers = [side.run(statement.text) for side in self.sides]
        self.reconnect()
        fetched = re.match(r"fetch .*?(\w+)$", statement.bare)
        if fetched and not self.cursors.get(fetched[1]):
            # Which rows come next is open; how many isn't.
            for answer in answers:
                answer.rows, answer.oids = [(str(len(answer.rows)),)], [20]
        compares = ["approx" if oid == FLOAT8 else "approx4" if oid == FLOAT4 else "exact" for oid in heap.oids]
        if heap.sqlstate == "57014":
            self.report.timeouts.append(place)
        elif any(difference(heap, other, compares, False) for other in others) and not (store.sqlstate or heap.sqlstate):
            self.report.undetermined.append(place)
        else:
            ordered = has_order(statement.bare) and all(heap.rows == other.rows for other in others)
            found = difference(heap, store, compares, ordered)
            self.report.compared[name] += 1
            if heap.sqlstate:
                self.report.failed_alike[heap.sqlstate] += not found
            if found:
                self.report.differences.append(f"{place}: {found[:600]}\n    {statement.text}")

    def reconnect(self):
        for side in self.sides:
            if side.connection.closed:
                side.connect()


def has_order(bare):
    """Whether an ORDER BY stands outside of all parentheses."""
    depth, outside = 0, []
    for part in re.split(r"([()])", bare):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if depth == 0:
            outside.append(part)
    return " order by " in " ".join(outside)
