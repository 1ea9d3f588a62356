"""Runs a query in one of its modes on one side and returns the answers."""

import time

import psycopg

from .compare import Answer
from .nodes import Render
from .queries import PLANNER, READER
from .stars import DIMENSIONS
from .tables import BASALT, HEAP, PROLOGUE, quote

SCHEMAS = {HEAP: "diff_heap", BASALT: "diff_basalt"}
DEFAULTS = {"DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "1", "role": "none",
            **{name: "on" for name in PLANNER}}
TIMEOUT = "30s"
LOST = ("57P01", "57P02", "57P03")


class Session:
    """A connection whose search path is one side's schema."""

    def __init__(self, dsn, side, against=BASALT):
        self.dsn, self.side, self.against = dsn, side, against
        self.settings = {}
        self.connect()

    def connect(self):
        # A server that restarts after a crash refuses connections for a while.
        for attempt in range(120):
            try:
                self.connection = psycopg.connect(self.dsn, autocommit=True)
                break
            except psycopg.OperationalError:
                if attempt == 119:
                    raise
                time.sleep(0.5)
        self.connection.execute(f"SET search_path = {SCHEMAS[self.side]}, diff_types; SET statement_timeout = '{TIMEOUT}'; SET client_min_messages = error")
        if self.side == BASALT and self.against == HEAP:
            self.connection.execute("SET max_parallel_workers_per_gather = 0; SET jit = off")
        self.settings = {}

    @property
    def ddl_side(self):
        """The kind of table to make: heap against heap tests the generator itself."""
        return HEAP if self.against == HEAP else self.side

    def recover(self):
        """After an error in the middle of a transaction."""
        if self.statement("ROLLBACK").lost:
            self.connection.close()
            self.connect()

    def close(self):
        self.connection.close()

    def set(self, settings):
        for name, value in {**DEFAULTS, **settings}.items():
            if self.settings.get(name) == value or name.startswith("basalt.") and self.ddl_side == HEAP:
                continue
            self.connection.execute(f"SET {name} = {quote(value)}" if name != "DateStyle" else f"SET DateStyle = {value}")
            self.settings[name] = value

    def statement(self, text, params=None):
        """One statement's answer; errors are answers too."""
        began = time.monotonic()
        pgconn = self.connection.pgconn
        try:
            if params is None:
                result = pgconn.exec_(text.encode())
            else:
                result = pgconn.exec_params(text.encode(), [None if p is None else p.encode() for p in params])
        except psycopg.Error as error:
            return Answer(message=str(error), lost=True)
        seconds = time.monotonic() - began
        status = result.status
        if status == psycopg.pq.ExecStatus.FATAL_ERROR or status == psycopg.pq.ExecStatus.BAD_RESPONSE:
            state = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
            message = (result.error_message or b"").decode(errors="replace")
            lost = pgconn.status != psycopg.pq.ConnStatus.OK or state in LOST
            return Answer(sqlstate=state or "none", message=message, lost=lost, seconds=seconds)
        columns = result.nfields
        rows = []
        for i in range(result.ntuples):
            rows.append(tuple(v.decode() if (v := result.get_value(i, j)) is not None else None for j in range(columns)))
        return Answer(rows, tuple(result.ftype(j) for j in range(columns)), seconds=seconds)

    def run(self, query, script=None):
        """The answers of all executions. `script`, a list, gets the statements."""
        self.set(query.settings)
        answers = []
        note = script.append if script is not None else lambda s: None

        def keep(text, params=None):
            answer = self.statement(text, params)
            if params is None:
                note(text)
            answers.append(answer)
            return answer

        def quiet(text):
            note(text)
            answer = self.statement(text)
            if answer.sqlstate or answer.lost:
                answers.append(answer)
            return not (answer.sqlstate or answer.lost)

        mode = query.mode
        if mode == "plain":
            keep(query.select.sql(Render()))
        elif mode in ("generic", "custom"):
            render = Render("param")
            text = query.select.sql(render)
            quiet(f"SET plan_cache_mode = force_{mode}_plan")
            if quiet(f"PREPARE q AS {text}"):
                for values in executions(render.params):
                    arguments = ", ".join(quote(v) for v in values)
                    keep(f"EXECUTE q({arguments})" if values else "EXECUTE q")
                quiet("DEALLOCATE q")
            quiet("RESET plan_cache_mode")
        elif mode == "extended":
            render = Render("param")
            text = query.select.sql(render)
            note("-- (the same with parameters of the extended protocol)")
            note(query.select.sql(Render()))
            keep(text, [p.value for p in render.params])
        elif mode == "function":
            self.function(query.select, keep, quiet)
        elif mode in ("cursor", "hold"):
            self.cursor(query.select.sql(Render()), mode, keep, quiet)
        elif mode == "insert":
            self.inserted(query, keep, quiet)
        if any(a.lost for a in answers):
            self.connection.close()
            self.connect()
        return merged(answers) if mode in ("cursor", "hold") else answers

    def cursor(self, text, mode, keep, quiet):
        quiet("BEGIN")
        if quiet(f"DECLARE c {'NO SCROLL ' if mode == 'cursor' else ''}CURSOR {'WITH HOLD ' if mode == 'hold' else ''}FOR {text}"):
            if mode == "hold":
                quiet("COMMIT")
            for size in (1, 7, 100, "ALL"):
                answer = keep(f"FETCH {size} FROM c")
                if answer.sqlstate or answer.lost:
                    break
            if mode == "hold":
                quiet("CLOSE c")
        quiet("ROLLBACK")

    def function(self, select, keep, quiet):
        """A function with parameters, called several times, that opens a cursor for the query."""
        render = Render("param")
        text = select.sql(render)
        # A name has a collation of its own: beside one, texts would be compared by none, which is an error in rows that are reached.
        types = ", ".join({"name": "text", "name[]": "text[]"}.get(p.type, p.type) for p in render.params)
        quiet("BEGIN")
        if quiet(f"CREATE FUNCTION pg_temp.opened({types}) RETURNS refcursor LANGUAGE plpgsql AS $f$ DECLARE found refcursor := 'found'; BEGIN OPEN found FOR {text}; RETURN found; END $f$"):
            for values in executions(render.params):
                if not quiet(f"SELECT pg_temp.opened({', '.join(quote(v) for v in values)})"):
                    break
                answer = keep("FETCH ALL FROM found")
                if answer.sqlstate or answer.lost or not quiet("CLOSE found"):
                    break
        quiet("ROLLBACK")

    def inserted(self, query, keep, quiet):
        """Rows of the table's own, under new ids and with another k, inserted and rolled back around the query."""
        names = [t for t in query.tables if f" {t}" in (text := query.select.sql(Render())) or f" v_{t}" in text]
        quiet("BEGIN")
        for name in names:
            columns = self.columns(name)
            if not quiet(f"INSERT INTO {name} (id, k, ts{', class, label' if 'class' in columns else ''}) "
                         f"SELECT id + 1000000, 7, ts{', class, label' if 'class' in columns else ''} FROM {name} WHERE id < 9"):
                break
        keep(query.select.sql(Render()))
        quiet("ROLLBACK")

    def columns(self, table):
        rows = self.statement(f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0").rows
        return {r[0] for r in rows}

    def explain(self, query):
        """EXPLAIN's lines, or None if it fails."""
        answer = self.statement("EXPLAIN " + query.select.sql(Render()))
        return None if answer.sqlstate or answer.lost else [r[0] for r in answer.rows]

    def explain_failure(self, query):
        """The error of EXPLAIN (ANALYZE, VERBOSE), or None."""
        answer = self.statement("EXPLAIN (ANALYZE, VERBOSE) " + query.select.sql(Render()))
        if answer.lost:
            self.connection.close()
            self.connect()
        return answer.message.strip() if answer.sqlstate or answer.lost else None


def executions(params):
    """Values for each EXECUTE of a statement."""
    yield [p.value for p in params]
    if params:
        for n in range(max(len(p.others) for p in params)):
            yield [p.others[n % len(p.others)] if p.others else p.value for p in params]


def merged(answers):
    """The pieces that a cursor returned, as one answer."""
    for answer in answers:
        if answer.sqlstate or answer.lost:
            return [answer]
    return [Answer([r for a in answers for r in a.rows], answers[0].oids if answers else (), seconds=sum(a.seconds for a in answers))]


def prepare_schemas(dsn, against):
    """Both sides' schemas, empty, and the types they share."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        if against == BASALT:
            connection.execute("CREATE EXTENSION IF NOT EXISTS basalt")
        for schema in (*SCHEMAS.values(), "diff_types"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        for schema in ("diff_types", *SCHEMAS.values()):
            connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute("SET search_path = diff_types")
        for statement in PROLOGUE + DIMENSIONS:
            connection.execute(statement)
        connection.execute(READERS)


# A role from which row security hides rows of some dimensions; the tables are granted to it once they are there.
READERS = f"""
DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN CREATE ROLE {READER}; END IF; END $$;
GRANT USAGE ON SCHEMA diff_types TO {READER};
GRANT SELECT ON ALL TABLES IN SCHEMA diff_types TO {READER};
ALTER TABLE d_k ENABLE ROW LEVEL SECURITY;
CREATE POLICY shown ON d_k TO {READER} USING (k % 7 <> 2 AND (name IS NULL OR length(name) > 6));
ALTER TABLE d_region ENABLE ROW LEVEL SECURITY;
CREATE POLICY shown ON d_region TO {READER} USING (id < 7);
"""


def grant_reading(connection, side):
    """To the role that is not the tables' owner."""
    connection.execute(f"GRANT USAGE ON SCHEMA {SCHEMAS[side]} TO {READER}; GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMAS[side]} TO {READER}")
