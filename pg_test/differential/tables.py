"""Tables that exist twice: columns, batches of rows (a transaction each) and changes of the table between them."""

from dataclasses import dataclass, field, replace

from .kinds import KINDS
from .values import seeded

HEAP, BASALT = "heap", "basalt"
GRANULARITIES = ["hour", "day", "week", "month", "year", "all"]

PROLOGUE = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'a b', 'Ünder')",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE COLLATION case_blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
]


def quote(text):
    """A string literal, or NULL."""
    if text is None:
        return "NULL"
    return "'" + text.replace("'", "''") + "'"


def ident(name):
    return name if name.isascii() and name.islower() and name.isidentifier() and name not in ("select", "order") else '"' + name + '"'


@dataclass
class Column:
    name: str
    kind: object
    profile: str
    not_null: bool = False
    pool: list = field(default_factory=list)
    nulls: float = 0.0
    odd: float = 0.0
    # The batch before which the column is added, its default then, and the name it has until a rename.
    added: int = 0
    default: str = None

    @property
    def sql(self):
        return ident(self.name)

    def declare(self):
        parts = [self.sql, self.kind.sql]
        if self.default is not None:
            parts.append(f"DEFAULT {quote(self.default)}")
        if self.not_null:
            parts.append("NOT NULL")
        return " ".join(parts)

    def value(self, rng, local):
        if rng.random() < self.nulls:
            return None
        if self.kind.odd and rng.random() < self.odd:
            return self.kind.odd(rng)
        if self.profile == "unique":
            return (self.kind.unique or self.kind.gen)(rng)
        return rng.choice(local)

    def sample(self, rng):
        """A value that probably occurs, never NULL."""
        if self.pool and rng.random() < 0.85:
            return rng.choice(self.pool)
        if self.kind.odd and rng.random() < 0.4:
            return self.kind.odd(rng)
        return self.kind.gen(rng)


@dataclass
class Batch:
    """Rows that one transaction inserts. `how`: values, singles, copy, savepoint."""
    columns: list
    rows: list
    how: str = "values"


@dataclass
class Alter:
    """`{table}` stands for TABLE or FOREIGN TABLE and the name."""
    sql: str


@dataclass
class Maintain:
    """What changes a datasource's segments and no answer; nothing on the heap."""
    sql: str


@dataclass
class Table:
    name: str
    columns: list
    steps: list
    options: dict
    # Column names as created, where a later rename or drop changes them.
    created: list
    big: bool = False
    # A view for queries that are made of what the engine computes natively.
    plain: bool = False

    @property
    def view(self):
        """A security barrier over the table: conditions above it may not see the rows that it hides."""
        return f"v_{self.name}"

    def natively(self):
        return replace(self, columns=[c for c in self.columns if c.kind.native], plain=True)

    def column(self, name):
        return next(c for c in self.columns if c.name == name)

    @property
    def rows(self):
        return sum(len(s.rows) for s in self.steps if isinstance(s, Batch))

    @property
    def time(self):
        name = self.options.get("time_column")
        return next((c for c in self.columns if c.name == name), None)

    def create(self, side):
        body = ", ".join(self.created)
        if side == HEAP:
            return f"CREATE TABLE {self.name} ({body})"
        options = ", ".join(f"{k} {quote(v)}" for k, v in self.options.items())
        return f"CREATE FOREIGN TABLE {self.name} ({body}) SERVER basalt" + (f" OPTIONS ({options})" if options else "")

    def keyword(self, side):
        return ("TABLE " if side == HEAP else "FOREIGN TABLE ") + self.name

    def statements(self, side):
        """SQL that makes the table, rows as INSERTs: what a printed script holds."""
        yield self.create(side)
        for step in self.steps:
            if isinstance(step, Alter):
                yield step.sql.format(table=self.keyword(side))
            elif isinstance(step, Maintain):
                if side == BASALT:
                    yield step.sql
            elif step.rows:
                yield from transaction(self.name, step)
        yield self.create_view()

    def create_view(self):
        hidden = "k IS DISTINCT FROM 3" if any(c.name == "k" for c in self.columns) else "true"
        return f"CREATE VIEW {self.view} WITH (security_barrier) AS SELECT * FROM {self.name} WHERE {hidden}"

    def load(self, connection, side):
        """Creates and fills the table through an autocommit connection."""
        connection.execute(self.create(side))
        for step in self.steps:
            if isinstance(step, Alter):
                connection.execute(step.sql.format(table=self.keyword(side)))
            elif isinstance(step, Maintain):
                if side == BASALT:
                    connection.execute(step.sql)
            elif not step.rows:
                continue
            elif step.how == "copy":
                copy(connection, self.name, step)
            else:
                connection.execute("; ".join(transaction(self.name, step)))
        connection.execute(self.create_view())


def insert(table, columns, rows):
    names = ", ".join(ident(c) for c in columns)
    return f"INSERT INTO {table} ({names}) VALUES " + ", ".join("(" + ", ".join(map(quote, row)) + ")" for row in rows)


def transaction(table, batch):
    if batch.how == "singles":
        yield "BEGIN"
        for row in batch.rows:
            yield insert(table, batch.columns, [row])
        yield "COMMIT"
    elif batch.how == "savepoint":
        # Rows that are taken back stand between rows that stay.
        half = len(batch.rows) // 2
        yield "BEGIN"
        if half:
            yield insert(table, batch.columns, batch.rows[:half])
        yield "SAVEPOINT s"
        yield insert(table, batch.columns, batch.rows)
        yield "ROLLBACK TO s"
        yield insert(table, batch.columns, batch.rows[half:])
        yield "COMMIT"
    else:
        yield insert(table, batch.columns, batch.rows)


def copy(connection, table, batch):
    names = ", ".join(ident(c) for c in batch.columns)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as out:
        for row in batch.rows:
            out.write_row(row)


PROFILES = ["few", "few", "moderate", "moderate", "clustered", "clustered", "unique", "unique", "constant", "sparse", "empty"]
SPECIAL_NAMES = ["Mixed Case", "select", "größe", "order", 'a"b'.replace('"', "'"), "x_y"]


def make_column(rng, name, kind, profile=None):
    profile = profile or rng.choice(PROFILES)
    size = {"constant": 1, "few": rng.randrange(2, 9), "moderate": 120, "clustered": 200, "unique": 200, "sparse": 20, "empty": 5}[profile]
    pool = [kind.gen(rng) for _ in range(size)]
    nulls = {"sparse": 0.9, "empty": 1.0}.get(profile, rng.choice([0.0, 0.0, 0.1, 0.4]))
    return Column(name, kind, profile, pool=pool, nulls=nulls, odd=0.0 if profile == "constant" else rng.choice([0.0, 0.05, 0.2]))


def make_tables(seed, count, segments):
    """`count` tables of `segments` batches or more; the last of three or more is long and has few batches."""
    rng = seeded(seed, "layout")
    names = list(KINDS)
    rng.shuffle(names)
    tables = []
    normal = count if count < 3 else count - 1
    for i in range(normal):
        own = names[i::normal]
        extra = rng.sample(names, min(8, len(names)))
        tables.append(make_table(seeded(seed, "table", i), f"t{i + 1}", own + [k for k in extra if k not in own], segments, i % 3 == 1))
    if count >= 3:
        tables.append(make_big_table(seeded(seed, "big"), f"t{count}"))
    return tables


def time_column(rng, name):
    kind = KINDS[rng.choice(["timestamptz", "timestamptz", "timestamp", "date"])]
    column = Column(name, kind, "moderate", not_null=rng.random() < 0.6, nulls=0.0, odd=rng.choice([0.0, 0.0, 0.0, 0.01]))
    if not column.not_null:
        column.nulls = 0.03
    column.pool = [kind.gen(rng) for _ in range(300)]
    return column


def make_table(rng, name, kind_names, segments, maintained=False):
    key = Column("id", KINDS["int8"], "unique", not_null=True)
    join = make_column(rng, "k", KINDS["int4"], "moderate")
    join.pool = [str(n) for n in range(150)]
    join.odd = 0.01
    ts = time_column(rng, "ts")
    columns = [key, join, ts]
    for number, kind in enumerate(kind_names):
        label = rng.choice(SPECIAL_NAMES) if rng.random() < 0.08 else f"c_{kind}"
        if any(c.name == label for c in columns):
            label = f"c_{kind}"
        columns.append(make_column(rng, label, KINDS[kind]))
    # `label` holds numbers exactly where `class` says so: a cast guarded by another condition must not fail.
    columns.append(Column("class", KINDS["text"], "few", pool=["number", "word", "date"]))
    columns.append(Column("label", KINDS["text"], "few", pool=["7", "x"]))

    steps = []
    options = {"time_column": "ts", "segment_granularity": rng.choice(GRANULARITIES)}
    if rng.random() < 0.15:
        options = {}
    count = segments + rng.randrange(20)
    maintenance = plan_maintenance(rng, name, segments, options) if maintained else {}
    count += max(maintenance, default=0)
    # Compactions merge segments from before and after the alterations.
    alters = plan_alters(rng, columns, max(maintenance, default=count))
    created = [c.declare() for c in columns if not c.added]
    for _, before, _ in alters.get("renamed", []):
        created = [d.replace(ident(before[1]), ident(before[0]), 1) if d.startswith(ident(before[1]) + " ") else d for d in created]
    if alters.get("dropped"):
        created.insert(rng.randrange(len(created)), "gone text DEFAULT 'old value'")

    next_id = 1
    for number in range(count):
        for at, sql in alters["steps"]:
            if at == number:
                steps.append(Alter(sql))
        if number in maintenance:
            steps.append(Maintain(maintenance[number]))
        present = [c for c in columns if c.added <= number]
        local = {c.name: rng.sample(c.pool, min(4, len(c.pool))) if c.profile == "clustered" else c.pool for c in present}
        if rng.random() < 0.7:
            # Most batches hold a narrow range of time, some replay all of it.
            local["ts"] = rng.sample(ts.pool, 3)
        rows = []
        for _ in range(rng.choice([1, 2, 3, 8, 15, 30]) if rng.random() < 0.94 else rng.choice([64, 129, 300])):
            row = [c.value(rng, local[c.name]) for c in present]
            row[0] = str(next_id)
            next_id += 1
            set_label(rng, present, row)
            rows.append(row)
        names_now = [alters["names"](c.name, number) for c in present]
        steps.append(Batch(names_now, rows, rng.choice(["values", "values", "values", "singles", "copy", "savepoint"])))
    return Table(name, columns, steps, options, created)


def plan_maintenance(rng, name, segments, options):
    """Compactions, and a replacement of a range of time by its own rows; by the number of the batch before which they happen."""
    first = rng.randrange(5, segments // 4 + 6)
    plan = {first: f"SELECT basalt.compact('{name}')"}
    if options:
        low, high = rng.randrange(1, 6), rng.randrange(6, 13)
        start, end = f"2010-{low:02}-01", f"2010-{high:02}-15 12:30"
        plan[first + rng.randrange(5, 40)] = (f"SELECT basalt.replace('{name}', '{start}', '{end}', $$SELECT * FROM {name} "
                                              f"WHERE ts >= '{start}' AND ts < '{end}'$$)")
        plan[first + rng.randrange(41, 80)] = f"SELECT basalt.compact('{name}')"
    return plan


def set_label(rng, columns, row):
    position = {c.name: i for i, c in enumerate(columns)}
    kind = row[position["class"]]
    row[position["label"]] = {"number": str(rng.randrange(-9, 30)), "date": f"2010-{rng.randrange(1, 13):02}-01"}.get(kind, rng.choice(["x", "seven", "", "1x"]))


def plan_alters(rng, columns, count):
    """Some columns come later (NULL or a default in older rows), one is renamed, one dropped and added anew under its name."""
    steps = []
    eligible = [c for c in columns[3:-2] if c.kind.name != "domain"]
    late = rng.sample(eligible, min(3, len(eligible)))
    for column in late[:2]:
        column.added = rng.randrange(count // 4, count * 3 // 4)
        if rng.random() < 0.6:
            column.default = column.sample(rng)
        steps.append((column.added, "ALTER {table} ADD COLUMN " + column.declare().replace("{", "{{").replace("}", "}}")))
    renamed = []
    rename_at = rng.randrange(count // 3, count)
    if late[2:]:
        column = late[2]
        renamed.append((column.name, ("before_rename", column.name), rename_at))
        steps.append((rename_at, f"ALTER {{table}} RENAME COLUMN before_rename TO {column.sql}"))
    drop_at = rng.randrange(1, count)
    steps.append((drop_at, "ALTER {table} DROP COLUMN gone"))
    again = make_column(rng, "gone", KINDS[rng.choice(["text", "int4"])])
    again.added = rng.randrange(drop_at, count)
    columns.append(again)
    steps.append((again.added, "ALTER {table} ADD COLUMN " + again.declare()))
    # The stable sort keeps the drop before the new column of the same name.
    steps.sort(key=lambda s: s[0])

    def names(name, number):
        for final, (before, _), at in renamed:
            if name == final and number < at:
                return before
        return name

    return {"steps": steps, "renamed": renamed, "dropped": True, "names": names}


def make_big_table(rng, name):
    """More than one block (65,536 rows) in a segment, so that block boundaries are crossed."""
    columns = [
        Column("id", KINDS["int8"], "unique", not_null=True),
        make_column(rng, "k", KINDS["int4"], "moderate"),
        time_column(rng, "ts"),
        make_column(rng, "c_text", KINDS["text"], "moderate"),
        make_column(rng, "c_unique", KINDS["text"], "unique"),
        make_column(rng, "c_float8", KINDS["float8"], "moderate"),
        make_column(rng, "c_numeric", KINDS["numeric_9_2"], "few"),
        make_column(rng, "c_free", KINDS["numeric"], "few"),
        make_column(rng, "c_bool", KINDS["bool"], "few"),
        make_column(rng, "c_const", KINDS["int4"], "constant"),
        make_column(rng, "c_int8", KINDS["int8"], "unique"),
        make_column(rng, "c_char", KINDS["char"], "few"),
    ]
    columns[1].pool = [str(n) for n in range(150)]
    pools = {c.name: c.pool for c in columns}
    steps = []
    next_id = 1
    for rows in (70_000, 3, 66_000):
        batch = []
        for _ in range(rows):
            row = [c.value(rng, pools[c.name]) for c in columns]
            row[0] = str(next_id)
            next_id += 1
            batch.append(row)
        steps.append(Batch([c.name for c in columns], batch, "copy"))
    return Table(name, columns, steps, {"time_column": "ts", "segment_granularity": "month"}, [c.declare() for c in columns], big=True)


def reduced(table, keep_columns, steps):
    """The table with some columns and steps only, as created at once (for a minimal script)."""
    columns = [replace(c, added=0, default=None) for c in table.columns if c.name in keep_columns]
    options = {k: v for k, v in table.options.items() if k != "time_column" or v in keep_columns}
    return Table(table.name, columns, steps, options, [c.declare() for c in columns], table.big)
