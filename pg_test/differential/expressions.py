"""Random expressions over numbers, times and strings: aggregate inputs, group keys, comparisons of columns."""

from .nodes import sql

NUMBERS = ("int", "numeric", "float4", "float8")


def columns_of(table, *groups):
    return [c for c in table.columns if c.kind.group in groups]


def number(rng, table, alias="", depth=2, safe=False):
    """SQL of a number and its group: int, numeric or float8. `safe`: no row makes it fail."""
    c = lambda x: alias + x.sql
    ints = [x for x in columns_of(table, "int") if x.kind.name != "domain"]
    numerics = [x for x in columns_of(table, "numeric") if x.kind.name in ("numeric_9_2", "numeric_18_0", "numeric_18_6", "numeric_4_4")]
    floats = columns_of(table, "float8", "float4")
    if depth == 0:
        r = rng.random()
        if numerics and r < 0.35:
            return c(rng.choice(numerics)), "numeric"
        if floats and r < 0.5:
            return f"{c(rng.choice(floats))}::float8", "float8"
        if ints and r < 0.9:
            return (f"{c(rng.choice(ints))}::numeric", "numeric") if safe else (c(rng.choice(ints)), "int")
        return (str(rng.choice([0, 1, 2, 7])), "int") if not safe else (rng.choice(["0", "1", "2.5", "0.10"]) + "::numeric", "numeric")
    left, group = number(rng, table, alias, depth - 1, safe)
    right = one_like(rng, table, alias, group, depth - 1, safe)
    condition = lambda: boolean(rng, table, alias)
    forms = [
        lambda: f"({left} + {right})", lambda: f"({left} - {right})", lambda: f"(- {left})", lambda: f"abs({left})",
        lambda: f"CASE WHEN {condition()} THEN {left} ELSE {right} END", lambda: f"CASE WHEN {condition()} THEN {left} WHEN {condition()} THEN {right} END",
        lambda: f"COALESCE({left}, {right})", lambda: f"NULLIF({left}, {right})",
    ]
    if group != "float8":
        forms += [lambda: f"({left} * {rng.choice(['2', '3', '-1', '10'])})"] * 2
    if group == "int":
        forms += [lambda: f"({left} / {rng.choice([2, 3, 10, -7])})", lambda: f"({left} % {rng.choice([2, 3, 10, -7])})", lambda: f"GREATEST({left}, {right})", lambda: f"LEAST({left}, {right})",
                  lambda: f"({left} / NULLIF({right}, 0))"]
    if group == "numeric":
        forms += [lambda: f"round({left}, {rng.choice([0, 1, 3])})", lambda: f"trunc({left})", lambda: f"floor({left})", lambda: f"ceil({left})", lambda: f"({left} * {rng.choice(['0.5', '1.10'])})"]
    if group == "float8" and not safe:
        forms += [lambda: f"floor({left})", lambda: f"({left} * 0.5::float8)"]
    return rng.choice(forms)(), group


def one_like(rng, table, alias, group, depth, safe):
    """Another number of the same type."""
    for _ in range(8):
        made, of = number(rng, table, alias, depth, safe)
        if of == group:
            return made
    return {"int": "1", "numeric": "1.5::numeric", "float8": "0.5::float8"}[group]


def boolean(rng, table, alias=""):
    """A condition as text, that fails for no row."""
    c = lambda x: alias + x.sql
    texts = [x for x in columns_of(table, "text") if x.kind.name in ("text", "text_c", "varchar")]
    choices = [lambda: f"{alias}k > {rng.randrange(100)}", lambda: f"{alias}k IS NULL", lambda: f"{alias}id % 3 = {rng.randrange(3)}"]
    if texts:
        column = rng.choice(texts)
        choices += [lambda: f"{c(column)} LIKE '{rng.choice(['a', 'A', 'b', ''])}%'", lambda: f"{c(column)} IS NOT NULL", lambda: f"lower({c(column)}) = 'a'"]
    booleans = columns_of(table, "bool")
    if booleans:
        choices.append(lambda: c(rng.choice(booleans)))
    return rng.choice(choices)()


def combined(rng, table, alias=""):
    """SQL of a string of two to four columns, that fails for no row."""
    c = lambda x: alias + x.sql
    shown = lambda x: f"{c(x)}::text"
    texts = [x for x in columns_of(table, "text") if x.kind.name in ("text", "text_c", "varchar")] or [table.column("k")]
    others = [x for x in columns_of(table, "int", "bool", "date", "numeric", "enum", "inet", "jsonb", "text_array") if x.kind.name != "domain"]
    one, other = rng.choice(texts), rng.choice(others)
    made = rng.choice([
        lambda: f"{shown(one)} || {shown(other)}", lambda: f"concat({shown(one)}, '-', {shown(other)}, {alias}k)", lambda: f"{alias}k::text || ':' || {shown(one)}",
        lambda: f"COALESCE({shown(other)}, {shown(one)})", lambda: f"left({shown(one)}, length({shown(other)}) % 3)", lambda: f"replace({shown(one)}, left({shown(other)}, 1), '_')",
        lambda: f"CASE WHEN {shown(one)} LIKE '%a%' THEN {shown(other)} ELSE lower({shown(one)}) END", lambda: f"GREATEST({shown(one)}, {shown(other)})",
        lambda: f"format('%s %s %s', {shown(one)}, {shown(other)}, {alias}k)", lambda: f"NULLIF({shown(one)}, {shown(other)})",
    ])()
    return f"({made}) COLLATE \"C\""


def several(rng, table, alias=""):
    """A condition on several columns that only PostgreSQL knows, and that fails for no row."""
    made = combined(rng, table, alias)
    texts = [x for x in columns_of(table, "text") if x.kind.name in ("text", "text_c", "varchar")] or [table.column("k")]
    one = f"{alias}{rng.choice(texts).sql}::text COLLATE \"C\""
    return sql(rng.choice([
        f"{made} {rng.choice(['<', '>=', '=', '<>'])} {one}", f"starts_with({made}, left({one}, 1))", f"{made} LIKE '%' || left({alias}k::text, 1) || '%'",
        f"strpos({made}, {one}) {rng.choice(['>', '='])} 0", f"length({made}) {rng.choice(['>', '<='])} length({one}) + 2", f"({made} = {one}) IS NOT TRUE",
        f"{made} IN ('a', {one}, '1')", f"({alias}k, {one}) {rng.choice(['<', '>='])} (40, {made})",
    ]))


def aggregate(rng, table, alias=""):
    """An aggregate call of an expression, and how it is compared."""
    if rng.random() < 0.12:
        made = combined(rng, table, alias)
        return sql(rng.choice([f"min({made})", f"max({made})", f"count({made})", f"count(DISTINCT {made})", f"sum(length({made}))", f"string_agg(DISTINCT left({made}, 2), ',')"])), "exact"
    r = rng.random()
    if r < 0.12:
        return sql(f"count({text(rng, table, alias) or alias + 'k'})"), "exact"
    if r < 0.2:
        return sql(f"sum(length({text(rng, table, alias) or alias + 'k::text'}))"), "exact"
    made, group = number(rng, table, alias, rng.choice([1, 1, 2, 3]))
    if r < 0.3:
        return sql(f"count(DISTINCT {made})"), "exact"
    if r < 0.4:
        return sql(f"{rng.choice(['min', 'max'])}({made})"), "exact" if group == "int" else "loose"
    return sql(f"{rng.choice(['sum', 'sum', 'avg'])}({made})"), "approx" if group == "float8" else "exact"


def text(rng, table, alias=""):
    """SQL of a string of one column, under a deterministic collation; `None`: there is no such column."""
    texts = [x for x in columns_of(table, "text") if x.kind.name in ("text", "text_c", "varchar")]
    if not texts:
        return None
    c = alias + rng.choice(texts).sql
    if rng.random() < 0.2:
        return replaced(rng, c)
    return rng.choice([f"lower({c})", f"upper({c})", f"substr({c}, 1, 2)", f"{c} || '!'", f"left({c}, 1)", f"COALESCE({c}, 'none')", f"NULLIF({c}, 'a')", f"replace({c}, 'a', 'b')",
                       f"CASE WHEN {c} LIKE 'a%' THEN 'a' ELSE upper({c}) END", f"CASE WHEN {alias}k > 50 THEN 'high' ELSE {c} END"])


def replaced(rng, c):
    """A string in which what a regular expression matches is replaced: the whole, which the engine knows for the most part, or some of it."""
    atom = lambda: rng.choice(["a", "b", "A", ".", "[ab]", "[^a]", "[a-z]", r"\.", "(?:ab)", "(?:a.?)"]) + rng.choice(["", "*", "+", "?"])
    parts = ["".join(atom() for _ in range(rng.choice([0, 1, 2]))) for _ in range(rng.choice([1, 3, 5]))]
    pattern = "".join(f"({part})" if nth % 2 else part for nth, part in enumerate(parts))
    groups = len(parts) // 2
    shown = "".join(rng.choice([rf"\{n + 1}", rf"<\{n + 1}>", ""]) for n in range(groups)) + rng.choice(["", "!", r"\&"])
    begin, end = rng.choice([("^", "$")] * 4 + [("", ""), ("^", "")])
    return f"regexp_replace({c}, '{begin}{pattern}{end}', '{shown}')"


def key(rng, table, alias=""):
    """A grouping expression, and how it is compared."""
    if rng.random() < 0.15:
        return sql(combined(rng, table, alias)), "exact"
    r = rng.random()
    if r < 0.35:
        made = text(rng, table, alias)
        if made:
            return sql(made), "exact"
    if r < 0.5:
        return sql(boolean(rng, table, alias)), "exact"
    if r < 0.6:
        return sql(f"width_bucket({alias}k, 0, 100, {rng.choice([3, 10])})"), "exact"
    if r < 0.7:
        return sql(f"{alias}k::text"), "exact"
    made, group = number(rng, table, alias, rng.choice([1, 1, 2]))
    return sql(made), "exact" if group == "int" else "loose"


def comparison(rng, table, alias=""):
    """A comparison of two expressions over several columns, that fails for no row."""
    operator = rng.choice(["<", "<=", "=", ">=", ">", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
    left, group = number(rng, table, alias, rng.choice([1, 2]), safe=True)
    if group == "float8":
        left, group = f"{alias}k::numeric", "numeric"
    right = one_like(rng, table, alias, group, 1, True) if rng.random() < 0.7 else rng.choice(["10", "0", "2.5"])
    return sql(f"{left} {operator} {right}")
