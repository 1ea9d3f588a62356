"""Random conditions over columns: every operator that a filter may push, and expressions that it may not."""

from . import expressions
from .nodes import Bool, Lit, sql

COMPARE = ["=", "=", "=", "<>", "<", "<=", ">", ">="]
ZONES = ["America/St_Johns", "Europe/Berlin", "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "America/New_York", "+03:30"]
UNITS = ["year", "quarter", "month", "week", "day", "hour", "minute"]
FIELDS = ["year", "month", "day", "hour", "minute", "second", "dow", "isodow", "doy", "week", "quarter", "epoch", "isoyear", "decade"]


def literal(rng, column, type=None):
    sample = column.sample
    return Lit(sample(rng), type or column.kind.cast, (sample(rng), sample(rng) if rng.random() < 0.8 else None))


def array(rng, column, nulls=0.15):
    def one():
        elements = ["NULL" if rng.random() < nulls else '"' + column.sample(rng).replace("\\", "\\\\").replace('"', '\\"') + '"'
                    for _ in range(rng.choice([0, 1, 2, 3, 12]))]
        return "{" + ",".join(elements) + "}"

    return Lit(one(), column.kind.cast + "[]", (one(), one()))


def text_lit(rng, make):
    return Lit(make(), "text", (make(), make()))


def pattern(rng, column):
    """A LIKE pattern near a value that occurs."""
    value = column.sample(rng)
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    raw = value.replace("\\", "")
    return rng.choice([escaped, escaped + "%", "%" + escaped, f"%{raw[1:3]}%", raw[:1] + "%", raw[:2] + "_" * max(len(raw) - 2, 0), "%", "_%", "", "%%",
                       "%a%b%", raw[:1] + "_" + raw[2:], "\\%%", "%é%", "%\\_%"])


def regex(rng, column):
    value = "".join(c for c in column.sample(rng) if c.isalnum() or c == " ")
    return rng.choice(["^" + value, value + "$", value, "^[a-c]", "[0-9]+", "a|b", "^$", ".", "^.{3}$", "\\s", "é", "^(a|ab)(c|$)", "(?i)ABC"])


def leaf(rng, alias, column, table):
    """One condition on `column`."""
    c = alias + column.sql
    group = column.kind.group
    if rng.random() < 0.1:
        return sql(c, rng.choice([" IS NULL", " IS NOT NULL"]))
    if table.plain:
        return plain(rng, c, column)
    special = SPECIAL.get(group)
    if special and (not column.kind.ordered or rng.random() < 0.4):
        made = special(rng, c, column)
        if made:
            return made
    if not column.kind.ordered:
        return sql(c, rng.choice([" IS NULL", " IS NOT NULL"]))
    return ordered(rng, c, column, table, alias)


def plain(rng, c, column):
    """The operators that every filter of a dashboard is made of."""
    one = lambda: literal(rng, column)
    r = rng.random()
    if column.kind.group == "bool":
        return of_bool(rng, c, column)
    if column.kind.group == "text" and r < 0.4:
        if rng.random() < 0.6:
            return sql(c, rng.choice([" LIKE ", " LIKE ", " NOT LIKE ", " ILIKE "]), text_lit(rng, lambda: pattern(rng, column)))
        return sql(c, rng.choice([" ~ ", " ~* ", " !~ "]), text_lit(rng, lambda: regex(rng, column)))
    if r < 0.65:
        return sql(c, f" {rng.choice(COMPARE)} ", one())
    if r < 0.8:
        return sql(c, rng.choice([" BETWEEN ", " BETWEEN ", " NOT BETWEEN "]), one(), " AND ", one())
    values = [one() if rng.random() < 0.95 else Lit(None, column.kind.cast, (None,)) for _ in range(rng.choice([1, 2, 3, 8]))]
    return sql(c, rng.choice([" IN (", " IN (", " NOT IN ("]), *[x for v in values for x in (", ", v)][1:], ")")


def ordered(rng, c, column, table, alias):
    r = rng.random()
    one = lambda: literal(rng, column)
    if r < 0.42:
        return sql(c, f" {rng.choice(COMPARE)} ", one())
    if r < 0.46:
        return sql(one(), f" {rng.choice(COMPARE)} ", c)
    if r < 0.58:
        word = rng.choice(["BETWEEN", "BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC"])
        return sql(c, f" {word} ", one(), " AND ", one())
    if r < 0.76:
        count = rng.choice([1, 2, 3, 5, 20])
        values = [one() if rng.random() < 0.93 else Lit(None, column.kind.cast, (None,)) for _ in range(count)]
        parts = [x for v in values for x in (", ", v)][1:]
        return sql(c, rng.choice([" IN (", " IN (", " NOT IN ("]), *parts, ")")
    if r < 0.82 and not column.kind.cast.endswith("[]"):
        return sql(c, rng.choice([" = ANY (", " = ANY (", " <> ALL (", " < ANY (", " >= ALL ("]), array(rng, column), ")")
    if r < 0.87:
        return sql(c, rng.choice([" IS DISTINCT FROM ", " IS NOT DISTINCT FROM "]), one())
    if r < 0.89:
        return sql(c, rng.choice([" = ", " <> ", " < "]), Lit(None, column.kind.cast, (column.sample(rng),)))
    if r < 0.91:
        return sql(c, rng.choice([" IN (NULL)", " NOT IN (NULL)"]))
    if r < 0.94:
        return sql("COALESCE(", c, ", ", one(), ") ", rng.choice(COMPARE), " ", one())
    if r < 0.96:
        return sql("CASE WHEN ", c, " = ", one(), " THEN NULL WHEN ", c, " < ", one(), " THEN true ELSE false END")
    if r < 0.98:
        return sql("(", c, f", {alias}id) {rng.choice(['<', '>='])} (", one(), ", ", Lit(str(rng.randrange(3000)), "bigint", ("7", "100")), ")")
    same = [o for o in table.columns if o.kind == column.kind and o is not column]
    return sql(c, f" {rng.choice(COMPARE)} ", alias + (rng.choice(same).sql if same else column.sql))


def of_bool(rng, c, column):
    return sql(rng.choice([c, f"NOT {c}", f"{c} IS TRUE", f"{c} IS NOT TRUE", f"{c} IS FALSE", f"{c} IS NOT FALSE", f"{c} IS UNKNOWN", f"{c} = true", f"{c} <> true"]))


def of_int(rng, c, column):
    n = lambda low=-20, high=100: Lit(str(rng.randrange(low, high)), "integer", ("0", "5"))
    return rng.choice([
        lambda: sql(f"{c} % 7 = {rng.randrange(7)}"),
        lambda: sql(f"{c} / 3 > ", n()),
        lambda: sql(f"{c}::numeric + 1 > ", n()),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["3.5", "3.0", "-0.5", "1e20", "NaN", "100"]), "numeric", ("1.0", "2.5"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["3.5", "3", "1e30", "NaN", "-Infinity"]), "double precision", ("1", "2.5"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["9223372036854775807", "70000", "3000000000", "5"]), "bigint", ("1", "-9223372036854775808"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["5", "-32768", "0"]), "smallint", ("1", "32767"))),
        lambda: sql(f"{c}::text LIKE ", text_lit(rng, lambda: rng.choice(["1%", "%0", "-%", "%12%"]))),
        lambda: sql(f"({c} & 1) = 1"),
    ])()


def of_numeric(rng, c, column):
    return rng.choice([
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(str(rng.randrange(-5, 110)), "integer", ("1", "0"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["1", "0.1", "2.5", "1e30", "NaN", "Infinity"]), "double precision", ("1", "0"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["1.000", "0.00001", "1e40", "NaN", "-Infinity", "2.555555"]), "numeric", ("1", "NaN"))),
        lambda: sql(f"trunc({c}) = ", literal(rng, column)),
        lambda: sql(f"round({c}, 1) {rng.choice(COMPARE)} ", literal(rng, column)),
        lambda: sql(f"scale({c}) = {rng.randrange(4)}"),
        lambda: sql(f"{c}::text LIKE ", text_lit(rng, lambda: rng.choice(["1%", "%.00", "-%", "%0", "NaN"]))),
        lambda: sql(f"abs({c}) > ", literal(rng, column)),
    ])()


def of_float(rng, c, column):
    return rng.choice([
        lambda: sql(f"{c} {rng.choice(COMPARE)} {rng.choice(['0.1', '0', '-0.0', '16777217', '1.5', '1e30'])}"),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["NaN", "-0", "0", "Infinity", "-Infinity", "0.1"]), "double precision", ("NaN", "0"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["NaN", "-0", "0.1", "16777216"]), "real", ("NaN", "0"))),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", Lit(rng.choice(["3", "-1", "0"]), "integer", ("1", "0"))),
        lambda: sql(f"floor({c}) = ", Lit(str(rng.randrange(-5, 5)), "double precision")),
        lambda: sql(f"abs({c}) < ", Lit(str(rng.randrange(1, 5000)), "double precision")),
        lambda: sql(f"{c}::text LIKE '%.%'"),
    ])()


def of_time(rng, c, column):
    kind = column.kind.group
    zone = rng.choice(ZONES)
    stamp = lambda type: Lit(column.sample(rng), type, (column.sample(rng), column.sample(rng)))
    choices = [
        lambda: sql(f"extract({rng.choice(FIELDS[:4] if kind == 'date' else FIELDS)} FROM {c}) {rng.choice(COMPARE)} {rng.choice([0, 1, 2010, 7, 45, 11])}"
                    if kind != "date" else f"extract({rng.choice(['year', 'month', 'day', 'dow', 'doy', 'week', 'quarter'])} FROM {c}) {rng.choice(COMPARE)} {rng.choice([1, 2010, 7])}"),
        lambda: sql(f"date_trunc('{rng.choice(UNITS)}', {c}) {rng.choice(COMPARE)} ", stamp("timestamptz" if kind != "timestamp" else "timestamp")),
        lambda: sql(f"to_char({c}, 'YYYY-MM') = ", text_lit(rng, lambda: f"2010-{rng.randrange(1, 13):02}")),
        lambda: sql(f"{c} + interval '{rng.choice(['1 day', '1 month', '-1 hour'])}' {rng.choice(COMPARE)} ", stamp("timestamptz" if kind == "timestamptz" else "timestamp")),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", stamp("timestamptz")),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", stamp("timestamp")),
        lambda: sql(c, f" {rng.choice(COMPARE)} ", stamp("date")),
        lambda: sql(c, " >= ", stamp(column.kind.cast), " AND ", c, " < ", stamp(column.kind.cast)),
        lambda: sql(f"isfinite({c})"),
    ]
    if kind == "timestamptz":
        choices += [
            lambda: sql(f"date_trunc('{rng.choice(UNITS)}', {c}, '{zone}') {rng.choice(COMPARE)} ", stamp("timestamptz")),
            lambda: sql(f"({c} AT TIME ZONE '{zone}')::date {rng.choice(COMPARE)} ", stamp("date")),
            lambda: sql(f"extract({rng.choice(FIELDS)} FROM {c} AT TIME ZONE '{zone}') {rng.choice(COMPARE)} {rng.choice([0, 1, 2010, 23])}"),
        ]
    if kind != "date":
        choices.append(lambda: sql(f"date_bin('{rng.choice(['15 minutes', '1 day', '7 hours'])}', {c}, '2001-01-01') {rng.choice(COMPARE)} ", stamp(column.kind.cast)))
        choices.append(lambda: sql(f"{c}::date {rng.choice(COMPARE)} ", stamp("date")))
    return rng.choice(choices)()


def of_text(rng, c, column):
    like = lambda: text_lit(rng, lambda: pattern(rng, column))
    word = lambda: text_lit(rng, lambda: column.sample(rng))
    return rng.choice([
        lambda: sql(c, " LIKE ", like()),
        lambda: sql(c, " LIKE ", like()),
        lambda: sql(c, " NOT LIKE ", like()),
        lambda: sql(c, " ILIKE ", like()),
        lambda: sql(c, " NOT ILIKE ", like()),
        lambda: sql(c, rng.choice([" ~ ", " ~ ", " ~* ", " !~ ", " !~* "]), text_lit(rng, lambda: regex(rng, column))),
        lambda: sql(c, " LIKE ", text_lit(rng, lambda: rng.choice(["a#%%", "%#_%", "##%"])), " ESCAPE '#'"),
        lambda: sql(c, " SIMILAR TO '(a|b)%'"),
        lambda: sql(f"lower({c}::text) {rng.choice(COMPARE)} ", text_lit(rng, lambda: column.sample(rng).lower())),
        lambda: sql(f"upper({c}::text) LIKE ", like()),
        lambda: sql(f"length({c}::text) {rng.choice(COMPARE)} {rng.randrange(6)}"),
        lambda: sql(f"substr({c}::text, 1, 2) = ", text_lit(rng, lambda: column.sample(rng)[:2])),
        lambda: sql(f"{c} || 'x' {rng.choice(COMPARE)} ", word()),
        lambda: sql(f"starts_with({c}::text, ", text_lit(rng, lambda: column.sample(rng)[:1]), ")"),
        lambda: sql(f"position('a' in {c}::text) > 1"),
        lambda: sql(f'{c}::text COLLATE "C" {rng.choice(COMPARE)} ', word()),
        lambda: sql(f'{c}::text COLLATE "de-x-icu" {rng.choice(COMPARE)} ', word()),
        lambda: sql(f"NULLIF({c}::text, '') IS NULL"),
        lambda: sql(f"CASE WHEN {c}::text ~ '^[0-9]+$' THEN {c}::text::numeric ELSE -1 END > ", Lit(str(rng.randrange(-2, 3)), "numeric")),
    ])()


def of_blind(rng, c, column):
    return rng.choice([
        lambda: sql(f"length({c}) > {rng.randrange(5)}"),
        lambda: sql(f"{c} = ", text_lit(rng, lambda: column.sample(rng).swapcase())),
        lambda: sql(f"{c}::text COLLATE \"C\" LIKE ", text_lit(rng, lambda: pattern(rng, column))),
    ])()


def of_char(rng, c, column):
    if rng.random() < 0.3:
        pad = lambda: column.sample(rng) + rng.choice(["", " ", "   "])
        return sql(c, f" {rng.choice(COMPARE)} ", Lit(pad(), rng.choice(["bpchar", "text"]), (pad(), pad())))
    if rng.random() < 0.2:
        return sql(f"{rng.choice(['length', 'octet_length'])}({c}) {rng.choice(COMPARE)} {rng.randrange(9)}")
    return of_text(rng, c, column)


def of_inet(rng, c, column):
    return rng.choice([
        lambda: sql(c, rng.choice([" << ", " <<= ", " >> ", " >>= ", " && "]), Lit(rng.choice(["10.0.0.0/16", "10.0.1.0/24", "192.168.0.0/16", "::/0"]), "inet", ("10.0.0.0/8",))),
        lambda: sql(f"family({c}) = {rng.choice([4, 6])}"),
        lambda: sql(f"masklen({c}) > {rng.choice([8, 24, 31])}"),
        lambda: sql(f"host({c}) LIKE '10.%'"),
        lambda: sql(c, " = ", Lit(rng.choice(["10.0.0.1/32", "10.0.1.2", "::ffff:10.0.0.1/128"]), "inet", ("::1",))),
    ])()


def of_bytea(rng, c, column):
    return rng.choice([lambda: sql(f"length({c}) > {rng.randrange(4)}"), lambda: sql(f"encode({c}, 'hex') LIKE '%0%'"), lambda: sql(f"substr({c}, 1, 1) = '\\x00'::bytea")])()


def of_jsonb(rng, c, column):
    return rng.choice([
        lambda: sql(f"{c} @> ", Lit(rng.choice(['{"a": 1}', "1.0", "[1]", '"a"']), "jsonb", ("1",))),
        lambda: sql(f"{c} ->> 'a' = ", text_lit(rng, lambda: rng.choice(["x", "1", "1.0"]))),
        lambda: sql(f"{c} -> 'a' = ", Lit(rng.choice(["1", "1.00", "null"]), "jsonb", ("2",))),
        lambda: sql(f"jsonb_typeof({c}) = ", text_lit(rng, lambda: rng.choice(["number", "object", "null", "array"]))),
        lambda: sql(f"{c} ? 'a'"),
        lambda: sql(f"{c} #>> '{{a,b}}' = ", text_lit(rng, lambda: rng.choice(["x", "1", "2"]))),
        lambda: sql(f"{c} @? '$.a ? (@ > 0)'"),
        lambda: sql(f"jsonb_path_exists({c}, '$.*')"),
        lambda: sql(f"{c}::text LIKE '%.0%'"),
    ])()


def of_text_array(rng, c, column):
    return rng.choice([
        lambda: sql(text_lit(rng, lambda: rng.choice(["a", "A", "", "O'Hare", "ab"])), f" = ANY ({c})"),
        lambda: sql(text_lit(rng, lambda: rng.choice(["a", "b"])), f" <> ALL ({c})"),
        lambda: sql(c, rng.choice([" @> ", " && ", " <@ "]), Lit(rng.choice(['{a}', '{a,b}', '{}', '{"O\'Hare",NULL}']), "text[]", ("{b}",))),
        lambda: sql(f"array_length({c}, 1) {rng.choice(COMPARE)} {rng.randrange(3)}"),
        lambda: sql(f"cardinality({c}) = 0"),
        lambda: sql(f"{c}[1] LIKE 'a%'"),
    ])()


def of_array(rng, c, column):
    return rng.choice([lambda: sql(f"cardinality({c}) > {rng.randrange(3)}"), lambda: sql(f"1 = ANY ({c})"), lambda: sql(f"{c}[1] > 5")])()


def of_enum(rng, c, column):
    return rng.choice([lambda: sql(f"{c}::text LIKE '%a%'"), lambda: sql(c, f" {rng.choice(COMPARE)} ", literal(rng, column)), lambda: sql(f"{c} = 'ok'")])()


def of_interval(rng, c, column):
    return rng.choice([lambda: sql(f"extract(epoch FROM {c}) > {rng.choice([0, 86400, 100000])}"), lambda: sql(f"justify_hours({c}) = ", literal(rng, column)),
                       lambda: sql(f"{c} = interval '1 day'")])()


def of_range(rng, c, column):
    return rng.choice([lambda: sql(f"{c} @> {rng.randrange(20)}"), lambda: sql(f"isempty({c})"), lambda: sql(f"lower({c}) > 3"), lambda: sql(c, " && ", literal(rng, column))])()


SPECIAL = {
    "bool": of_bool, "int": of_int, "numeric": of_numeric, "float4": of_float, "float8": of_float, "wild": of_float, "date": of_time, "timestamp": of_time,
    "timestamptz": of_time, "text": of_text, "text_blind": of_blind, "char": of_char, "inet": of_inet, "bytea": of_bytea, "jsonb": of_jsonb,
    "text_array": of_text_array, "array": of_array, "enum": of_enum, "interval": of_interval, "range": of_range,
}


def guarded(rng, alias):
    """A cast that would fail on rows that the condition before it rejects."""
    return rng.choice([
        sql(f"{alias}class = 'number' AND {alias}label::integer > ", Lit(str(rng.randrange(-9, 30)), "integer", ("0", "5"))),
        sql(f"{alias}class = 'date' AND {alias}label::date < ", Lit(f"2010-{rng.randrange(1, 13):02}-01", "date", ("2010-06-01",))),
    ])


def tree(rng, table, alias="", depth=None):
    """A random AND/OR/NOT tree."""
    depth = rng.choice([0, 1, 1, 2, 2, 3]) if depth is None else depth
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.02:
            return sql(rng.choice(["true", "false", "NULL::boolean", "1 = 0"]))
        if rng.random() < 0.25 and table.time is not None:
            return time_range(rng, table.time, alias)
        if rng.random() < 0.1:
            return expressions.comparison(rng, table, alias)
        if rng.random() < 0.05:
            return expressions.several(rng, table, alias)
        return leaf(rng, alias, rng.choice(table.columns), table)
    op = rng.choice(["AND", "AND", "OR", "OR", "NOT"])
    children = [tree(rng, table, alias, depth - 1) for _ in range(1 if op == "NOT" else rng.choice([2, 2, 3]))]
    return Bool(op, children)


def time_range(rng, column, alias):
    low, high = sorted([column.sample(rng), column.sample(rng)])
    c = alias + column.sql
    return Bool("AND", [sql(f"{c} >= ", Lit(low, column.kind.cast, (high, low))), sql(f"{c} < ", Lit(high, column.kind.cast, ("infinity", high)))])


def where(rng, table, alias=""):
    """A condition for WHERE, often several conjuncts."""
    parts = [tree(rng, table, alias) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if not table.big and not table.plain and rng.random() < 0.04:
        # First, so that PostgreSQL evaluates the guard before it.
        return guarded(rng, alias)
    return parts[0] if len(parts) == 1 else Bool("AND", parts)
