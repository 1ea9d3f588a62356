"""Random queries whose answer is determined by the data: rows, aggregates, groups, joins, windows, sets."""

from dataclasses import dataclass, field

from . import expressions
from .filters import UNITS, ZONES, time_range, tree, where
from .nodes import Aggregate, Bool, Item, Lit, Order, Render, Select, sql
from .stars import star
from .values import seeded

TIME_ZONES = ["UTC", "America/St_Johns", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC+3"]


@dataclass
class Query:
    """`mode`: plain, generic, custom (prepared statements), extended (protocol), cursor, hold, function (a cursor that a PL/pgSQL
    function with parameters opens), insert (in a transaction that has just inserted rows)."""
    select: Select
    mode: str
    settings: dict
    seed: str
    tables: list = field(default_factory=list)


def make_query(seed, number, tables, only=None):
    rng = seeded(seed, "query", number)
    form = rng.choices(list(FORMS), weights=[w for w, _ in FORMS_WEIGHTS], k=1)[0]
    form = only or form
    big = [t for t in tables if t.big]
    small = [t for t in tables if not t.big]
    table = rng.choice(big) if big and form in BIG_FORMS and rng.random() < 0.12 else rng.choice(small)
    # Two of three aggregate queries are made of what should be pushed whole.
    source = table.natively() if form in ("global", "grouped", "ranges", "distinct", "star") and rng.random() < 0.67 else table
    select = FORMS[form](rng, source, small)
    select.form = form
    if rng.random() < 0.06:
        select = through_views(select, [table] + small)
    mode = rng.choices(["plain", "generic", "custom", "extended", "cursor", "hold", "function", "insert"], weights=[42, 18, 10, 8, 6, 2, 6, 8], k=1)[0]
    if table.big and mode == "insert":
        mode = "plain"
    settings = {"TimeZone": rng.choice(TIME_ZONES), "basalt.max_threads": str(rng.choice([1, 2, 8]))}
    if rng.random() < 0.1:
        settings["DateStyle"] = rng.choice(["SQL, DMY", "German", "Postgres, MDY"])
    if rng.random() < 0.1 and all(i.compare != "loose" for i in select.items):
        settings["IntervalStyle"] = rng.choice(["iso_8601", "sql_standard"])
    if rng.random() < 0.1:
        settings["extra_float_digits"] = rng.choice(["0", "-3"])
    if form in ("join", "subquery", "window", "sets", "star"):
        for name in PLANNER:
            if rng.random() < 0.15:
                settings[name] = "off"
    if mode != "insert" and rng.random() < (0.3 if form == "star" else 0.05):
        # Of some dimensions this role sees only what a policy shows.
        settings["role"] = READER
    return Query(select, mode, settings, f"{seed}/{number}", [t.name for t in tables])


READER = "diff_reader"
PLANNER = ["enable_hashjoin", "enable_mergejoin", "enable_nestloop", "enable_material", "enable_memoize", "enable_hashagg", "enable_sort"]


def through_views(select, tables):
    """The query over the tables' views."""
    for table in tables:
        if isinstance(select.source.parts[0], str) and (select.source.parts[0] + " ").startswith(table.name + " "):
            source = sql(table.view + select.source.parts[0][len(table.name):], *select.source.parts[1:])
            # A grouped whole row or a primary key is named after its table.
            if not any(f"{table.name}::text" in item.node.sql(Render()) for item in select.items):
                return select.but(source=source)
    return select


def maybe_where(rng, table, alias="", chance=0.85):
    return where(rng, table, alias) if rng.random() < chance else None


def output(rng, table, alias=""):
    """A row's column, or an expression over it."""
    column = rng.choice(table.columns)
    c = alias + column.sql
    group = column.kind.group
    if rng.random() < 0.15:
        made = {
            "text": f"upper({c}::text)", "char": f"length({c})", "int": f"{c}::numeric * 2 + 1", "numeric": f"{c} * 2", "timestamptz": f"{c} AT TIME ZONE 'Europe/Berlin'",
            "timestamp": f"date_trunc('hour', {c})", "date": f"{c} + 1", "float8": f"-{c}", "bool": f"NOT {c}", "enum": f"{c}::text", "text_array": f"{c}[1]",
            "jsonb": f"{c} ->> 'a'", "inet": f"host({c})", "interval": f"{c} * 2", "bytea": f"encode({c}, 'base64')",
        }.get(group)
        if made:
            return Item(sql(made))
    return Item(sql(c))


def rows(rng, table, tables):
    items = [Item(sql("id"))] if rng.random() < 0.7 else []
    items += [output(rng, table) for _ in range(rng.choice([1, 2, 3, 6]))]
    if rng.random() < 0.03:
        items = [Item(sql(f"{table.name}::text"))] if rng.random() < 0.5 else [Item(sql("1"))]
    select = Select(items, sql(table.name), maybe_where(rng, table))
    r = rng.random()
    if r < 0.25:
        select.order, select.ordered = total_order(rng, table), True
        if rng.random() < 0.7:
            select.limit = rng.choice([0, 1, 3, 10, 100])
            select.offset = rng.choice([None, None, 2])
    return select


def total_order(rng, table, alias=""):
    sortable = [c for c in table.columns if c.kind.ordered]
    keys = [table.time] if table.time is not None and rng.random() < 0.5 else rng.sample(sortable, rng.choice([0, 1, 2]))
    directions = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]
    return [Order(sql(alias + k.sql), rng.choice(directions)) for k in keys] + [Order(sql(alias + "id"), rng.choice(["", " DESC"]))]


def limited(rng, table, tables):
    """The first rows by a column; or LIMIT without an order: how many rows come back is determined, which ones is not."""
    if rng.random() < 0.7:
        column = rng.choice([c for c in table.columns if c.kind.ordered])
        collated = ' COLLATE "C"' if column.kind.name in ("text", "text_icu", "varchar") and rng.random() < 0.5 else ""
        order = [Order(sql(column.sql + collated), rng.choice(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])), Order(sql("id"))]
        select = Select([Item(sql("id")), Item(sql(column.sql), column.kind.compare)], sql(table.name), maybe_where(rng, table), order=order, ordered=True)
        select.limit, select.offset = rng.choice([0, 1, 5, 50, 500]), rng.choice([None, None, 3])
        return select
    inner = Select([Item(sql("id"))], sql(table.name), maybe_where(rng, table), limit=rng.choice([0, 1, 5, 50, 5000]), offset=rng.choice([None, 3]))
    return Select([Item(sql("count(*)"))], sql("(", inner, ") q"))


def aggregates(rng, table, alias="", exact=False):
    """Aggregate items. `exact`: none whose result depends on the order of addition, or on a representative."""
    made = []
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        call, compare = aggregate(rng, table, alias)
        if exact and compare != "exact":
            call, compare = sql("count(*)"), "exact"
        condition = tree(rng, table, alias, depth=rng.choice([0, 0, 1])) if rng.random() < 0.2 else None
        made.append(Item(Aggregate(call, condition), compare))
    return made


def aggregate(rng, table, alias):
    r = rng.random()
    if r < 0.2:
        return sql("count(*)"), "exact"
    if rng.random() < 0.25:
        return expressions.aggregate(rng, table, alias)
    if rng.random() < 0.12:
        return statistic(rng, table, alias)
    column = rng.choice(table.columns)
    c, kind = alias + column.sql, column.kind
    if r < 0.3:
        return sql(f"count({c})"), "exact"
    if r < 0.42 and kind.ordered:
        return sql(f"count(DISTINCT {c})"), "exact"
    if r < 0.72:
        summable = [x for x in table.columns if x.kind.group in ("int", "numeric", "float4", "float8", "interval") or x.kind.name == "money"]
        column = rng.choice(summable)
        c, kind = alias + column.sql, column.kind
        function = rng.choice(["sum", "sum", "avg"]) if kind.name != "money" else "sum"
        compare = {"float4": "approx4" if function == "sum" else "approx", "float8": "approx"}.get(kind.group, "exact")
        if rng.random() < 0.06:
            # DISTINCT keeps one of 1.0 and 1.00, which shows in the sum's scale.
            if kind.group == "interval" and function == "avg":
                return sql("count(*)"), "exact"
            of_free = "scaled" if kind.name == "numeric" and function == "avg" else kind.compare
            return sql(f"{function}(DISTINCT {c})"), compare if compare != "exact" else of_free
        if kind.group == "int" and rng.random() < 0.08:
            return sql(f"sum(100 / {c})"), "exact"
        if kind.group == "int" and rng.random() < 0.1:
            return sql(f"{function}({c}::numeric * 2)"), "exact"
        return sql(f"{function}({c})"), compare
    if r < 0.9:
        sortable = [x for x in table.columns if x.kind.minmax]
        if table.plain:
            sortable = [x for x in sortable if x.kind.group != "text" or x.kind.name == "text_c"]
        column = rng.choice(sortable)
        return sql(f"{rng.choice(['min', 'max'])}({alias}{column.sql})"), column.kind.compare
    booleans = [x for x in table.columns if x.kind.group == "bool"]
    if r < 0.95:
        argument = alias + booleans[0].sql if booleans else f"{alias}k > 40"
        return sql(f"{rng.choice(['bool_and', 'bool_or', 'every'])}({argument})"), "exact"
    return collected(rng, table, alias)


VARIANCES = ["stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp"]


def statistic(rng, table, alias):
    """Variances, statistics of pairs, bits: computed by the engine. Cancellation must leave what is compared of floats alone."""
    numbers = [x for x in table.columns if x.kind.group in ("int", "numeric", "float4", "float8")]
    floats = [x for x in numbers if x.kind.group.startswith("float")]
    ints = [x for x in numbers if x.kind.group == "int"]
    x, n = rng.choice(numbers), alias + rng.choice(ints).sql
    made = [
        (sql(f"{rng.choice(VARIANCES)}({alias}{x.sql})"), "approx" if x in floats else "exact"),
        (sql(f"{rng.choice(VARIANCES)}({n})"), "exact"),
        (sql(f"{rng.choice(VARIANCES)}({alias}k::numeric * 2 + 1)"), "exact"),
        (sql(f"{rng.choice(VARIANCES)}(CASE WHEN {alias}k > 40 THEN {alias}k / 8.0 END)"), "exact"),
        (sql(f"{rng.choice(['bit_and', 'bit_or', 'bit_xor'])}({n})"), "exact"),
        (sql(f"{rng.choice(['corr', 'regr_slope', 'regr_r2', 'regr_intercept', 'regr_sxy', 'covar_samp'])}({alias}id, {alias}k)"), "approx"),
        (sql(f"regr_count({alias}k, {alias}{x.sql})"), "exact"),
    ]
    if floats:
        f = alias + rng.choice(floats).sql
        made += [
            (sql(f"{rng.choice(['covar_pop', 'covar_samp', 'regr_avgx', 'regr_avgy'])}({f}, {alias}k % 1000)"), "approx"),
            (sql(f"{rng.choice(['covar_pop', 'regr_avgx'])}({alias}{rng.choice(floats).sql}, {f})"), "approx"),
        ]
    return rng.choice(made)


def collected(rng, table, alias):
    """Statistics, sets, lists: what is made of a group's values rather than of their sum."""
    column = rng.choice(table.columns)
    c, kind = alias + column.sql, column.kind
    ints = [x for x in table.columns if x.kind.group == "int"] or [column]
    numbers = [x for x in table.columns if x.kind.group in ("int", "numeric", "float4", "float8")]
    n, m = alias + rng.choice(ints).sql, alias + rng.choice(ints).sql
    x = rng.choice(numbers)
    approximate = x.kind.group.startswith("float")
    order = rng.choice([f"{alias}id", f"{alias}id DESC"] + ([f"{c}, {alias}id", f"{c} DESC NULLS LAST, {alias}id"] if kind.ordered else []))
    # Lists of every row are for small tables.
    lists = [] if table.big else [
        (sql(f"string_agg({c}::text, ',' ORDER BY {order})"), "exact" if kind.group not in ("float8", "float4", "wild") else "any"),
        (sql(f"array_agg({c}::text ORDER BY {order})"), "exact" if kind.group not in ("float8", "float4", "wild") else "any"),
        (sql(f"json_agg({n} ORDER BY {order})"), "exact"),
        (sql(f"array_agg({alias}id ORDER BY {order})"), "exact"),
    ]
    more = [
        (sql(f"{rng.choice(VARIANCES)}({alias}{x.sql})"), "approx" if approximate else "exact"),
        (sql(f"{rng.choice(['covar_pop', 'covar_samp', 'regr_sxy', 'regr_sxx', 'regr_avgx', 'regr_avgy', 'corr', 'regr_slope', 'regr_r2', 'regr_intercept'])}({alias}k, {alias}id)"), "approx"),
        (sql(f"regr_count({n}, {alias}{x.sql})"), "exact"),
        (sql(f"{rng.choice(['bit_and', 'bit_or', 'bit_xor'])}({n})"), "exact"),
        (sql(f"count(DISTINCT ({n}, {alias}k))"), "exact"),
        (sql(f"count(DISTINCT {n} % 10)"), "exact"),
        (sql(f"sum(DISTINCT {n})"), "exact"),
        (sql(f"sum({n} - {m})"), "exact") if all(y.kind.name != "int8" for y in ints) else (sql(f"sum({n}::numeric - {m})"), "exact"),
        (sql(f"percentile_cont({rng.choice(['0.5', '0', '0.99', '0.123'])}) WITHIN GROUP (ORDER BY {alias}{x.sql}{rng.choice(['', ' DESC'])})"), "approx"),
        (sql(f"percentile_disc(ARRAY{rng.choice(['[0.5]', '[0, 0.25, 1]', '[0.9, NULL, 0.1]', '[[0.1, 0.2], [0.3, 1]]'])}) WITHIN GROUP (ORDER BY {n}{rng.choice(['', ' DESC'])})"), "exact"),
    ]
    if kind.ordered:
        more += [
            (sql(f"percentile_disc({rng.choice(['0.5', '0', '1', '0.3'])}) WITHIN GROUP (ORDER BY {c}{rng.choice(['', ' DESC'])})"), kind.compare),
            (sql(f"mode() WITHIN GROUP (ORDER BY {c}{rng.choice(['', ' DESC'])})"), kind.compare),
            (sql(f"count(DISTINCT {c})"), "exact"),
        ]
    return rng.choice(more + lists)


def global_aggregate(rng, table, tables):
    select = Select(aggregates(rng, table), sql(table.name), maybe_where(rng, table), aggregate=True)
    if rng.random() < 0.06:
        select.having = sql(f"count(*) {rng.choice(['>', '=', '<'])} {rng.choice([0, 1, 100])}")
    return select


def time_key(rng, column, alias="", plain=False):
    c, group = alias + column.sql, column.kind.group
    r = rng.random() * (0.75 if plain else 1.0)
    if r < 0.5:
        if group == "timestamptz" and rng.random() < 0.5:
            return sql(f"date_trunc('{rng.choice(UNITS)}', {c}, '{rng.choice(ZONES)}')")
        return sql(f"date_trunc('{rng.choice(UNITS)}', {c})")
    if r < 0.75:
        fields = ["year", "month", "day", "dow", "isodow", "doy", "week", "quarter"] + ([] if group == "date" else ["hour", "minute"])
        if group == "timestamptz" and rng.random() < 0.3:
            return sql(f"extract({rng.choice(fields)} FROM {c} AT TIME ZONE '{rng.choice(ZONES)}')")
        return sql(f"extract({rng.choice(fields)} FROM {c})")
    if group == "date":
        return sql(c)
    return sql(rng.choice([f"{c}::date", f"date_bin('{rng.choice(['15 minutes', '1 day', '7 hours'])}', {c}, '2001-01-01')", f"to_char({c}, 'YYYY-MM')",
                           f"date_part('year', {c})", c]))


def group_keys(rng, table, alias=""):
    """Keys and how each is compared."""
    keys = []
    sortable = [c for c in table.columns if c.kind.ordered and c.name != "id"]
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        if table.time is not None and rng.random() < 0.35:
            keys.append((time_key(rng, table.time, alias, table.plain), "exact"))
        elif rng.random() < 0.2:
            keys.append(expressions.key(rng, table, alias))
        elif table.plain:
            column = rng.choice(sortable)
            keys.append((sql(alias + column.sql), column.kind.compare))
        elif rng.random() < 0.08:
            stamps = [c for c in table.columns if c.kind.group in ("timestamp", "timestamptz", "date")]
            keys.append((time_key(rng, rng.choice(stamps), alias), "exact") if stamps else (sql(alias + "k"), "exact"))
        elif rng.random() < 0.1:
            keys.append((sql(rng.choice([f"{alias}k % 7", f"lower({alias}class)", f"{alias}k > 40", f"CASE WHEN {alias}k < 50 THEN 'low' ELSE {alias}class END",
                                         f"length({alias}label)", f"{alias}label || {alias}class", "2 + 3"] if not table.big else [f"{alias}k % 7", f"lower({alias}c_text)"])), "exact"))
        else:
            column = rng.choice(sortable)
            keys.append((sql(alias + column.sql), column.kind.compare))
    return keys


def having(rng, table, alias=""):
    ints = [c for c in table.columns if c.kind.group == "int"]
    column = rng.choice(ints)
    c = alias + column.sql
    parts = [rng.choice([
        sql(f"count(*) {rng.choice(['>', '<', '=', '>='])} ", Lit(str(rng.choice([0, 1, 2, 5, 20])), "bigint", ("1", "3"))),
        sql(f"min({c}) < ", Lit(str(rng.randrange(100)), "integer", ("0",))),
        sql(f"sum({c}) > ", Lit(str(rng.randrange(1000)), "numeric", ("0",))),
        sql(f"avg({c}) BETWEEN -10 AND 1000"),
        sql(f"count(DISTINCT {alias}k) > 2"),
        sql(f"max({c}) IS NOT NULL"),
        sql(f"bool_or({alias}k > 100)"),
    ]) for _ in range(rng.choice([1, 1, 2]))]
    return parts[0] if len(parts) == 1 else Bool(rng.choice(["AND", "OR"]), parts)


def grouped(rng, table, tables):
    keys = group_keys(rng, table)
    shown = [Item(node, compare) for node, compare in keys if rng.random() < 0.88]
    items = shown + (aggregates(rng, table) if rng.random() < 0.95 else [])
    if rng.random() < 0.1:
        items.append(Item(sql("count(*) * 2 + 1")))
    rng.shuffle(items)
    if not items:
        items = [Item(sql("count(*)"))]
    select = Select(items, sql(table.name), maybe_where(rng, table, chance=0.7), group=[k for k, _ in keys], aggregate=True)
    if rng.random() < 0.2:
        select.grouping = rng.choice(["ROLLUP", "CUBE", "GROUPING SETS"])
    if rng.random() < 0.2:
        select.having = having(rng, table)
    if rng.random() < 0.4 and not select.grouping:
        directions = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]
        order = [Order(k, rng.choice(directions)) for k, _ in keys]
        for _ in range(rng.choice([0, 1, 1, 2])):
            order.insert(0, Order(top_key(rng, table), rng.choice(directions)))
        # Keys that are equal and look different still stand at one place of the order.
        select.order, select.ordered = order, True
        if rng.random() < 0.6:
            select.limit = rng.choice([0, 1, 3, 10, 100])
            select.offset = rng.choice([None, None, None, 1, 7])
    return select


def top_key(rng, table):
    """An aggregate to order groups by."""
    column = rng.choice([c for c in table.columns if c.kind.ordered])
    calls = ["count(*)", "sum(id)", "max(k)", "avg(k)", "avg(id)", f"min({column.sql})", f"max({column.sql})", f"count(DISTINCT {column.sql})"]
    if column.kind.group in ("int", "numeric"):
        calls += [f"sum({column.sql})", f"avg({column.sql})"] * 2
    call = rng.choice(["count(k)", *calls] if column.kind.group not in ("bool", "enum", "jsonb", "uuid", "bytea", "char", "text_array", "range", "plain") else calls[:5])
    return Aggregate(sql(call), tree(rng, table, "", depth=0) if rng.random() < 0.15 else None)


def distinct(rng, table, tables):
    sortable = [c for c in table.columns if c.kind.ordered]
    if rng.random() < 0.3:
        key = rng.choice(sortable)
        return Select([Item(sql("id")), Item(sql(key.sql)), output(rng, table)], sql(table.name), maybe_where(rng, table), distinct=f"DISTINCT ON ({key.sql})",
                      order=[Order(sql(key.sql)), Order(sql("id"))])
    columns = rng.sample(sortable, rng.choice([1, 1, 2, 3]))
    select = Select([Item(sql(c.sql), c.kind.compare) for c in columns], sql(table.name), maybe_where(rng, table), distinct="DISTINCT")
    if rng.random() < 0.3:
        select.order, select.ordered = [Order(sql(c.sql), rng.choice(["", " DESC", " NULLS FIRST"])) for c in columns], True
        select.limit, select.offset = rng.choice([1, 5, 20]), rng.choice([None, 2])
    return select


def join(rng, table, tables):
    other = rng.choice(tables)
    kind = rng.choice(["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
    r = rng.random()
    if r < 0.35:
        on = "a.id = b.id"
    elif r < 0.6:
        on = "a.k = b.k AND a.id % 50 = b.id % 50"
    elif r < 0.75:
        on = "a.k = b.k AND a.ts::text = b.ts::text"
    else:
        mine = rng.choice([c for c in table.columns if c.kind.ordered])
        match = [c for c in other.columns if c.kind == mine.kind] or [None]
        theirs = rng.choice(match)
        on = f"a.{mine.sql} = b.{theirs.sql} AND a.id = b.id" if theirs else "a.id = b.id"
    source = sql(f"{table.name} a {kind} {other.name} b ON {on}")
    parts = [where(rng, table, "a.")] + ([where(rng, other, "b.")] if rng.random() < 0.4 else [])
    condition = Bool("AND", parts) if len(parts) > 1 else parts[0]
    r = rng.random()
    if r < 0.4:
        items = [Item(sql("a.id")), Item(sql("b.id")), output(rng, table, "a."), output(rng, other, "b.")]
        return Select(items, source, condition)
    if r < 0.7:
        return Select(aggregates(rng, table, "a.") + aggregates(rng, other, "b."), source, condition)
    keys = group_keys(rng, table, "a.")
    return Select([Item(n, c) for n, c in keys] + aggregates(rng, other, "b."), source, condition, group=[k for k, _ in keys])


def subquery(rng, table, tables):
    other = rng.choice(tables)
    t, o = table.name, other.name
    few = sql("a.id BETWEEN ", Lit(str(rng.randrange(1500)), "bigint", ("10",)), " AND ", Lit(str(rng.randrange(1500, 1530)), "bigint", ("40",)))
    r = rng.randrange(11)
    items = [Item(sql("a.id")), output(rng, table, "a.")]
    if r == 0:
        inner = Select([Item(sql("b.k"))], sql(f"{o} b"), where(rng, other, "b."))
        condition = sql(f"a.k {rng.choice(['IN', 'NOT IN'])} (", inner, ")")
    elif r == 1:
        inner = Select([Item(sql("1"))], sql(f"{o} b"), Bool("AND", [sql("b.id = a.id"), where(rng, other, "b.")]))
        condition = sql(f"{rng.choice(['EXISTS', 'NOT EXISTS'])} (", inner, ")")
    elif r == 2:
        inner = Select([Item(sql(f"{rng.choice(['avg', 'min', 'max'])}(b.k)"))], sql(f"{o} b"), maybe_where(rng, other, "b."))
        condition = sql(f"a.k {rng.choice(['>', '<=', '='])} (", inner, ")")
    elif r == 3:
        # Correlated: executed again for each of a few outer rows.
        low = rng.randrange(1500)
        inner = Select([Item(sql(rng.choice(["count(*)", "max(b.id)", "count(DISTINCT b.k)"])))], sql(f"{o} b"), Bool("AND", [sql("b.k = a.k"), where(rng, other, "b.")]))
        return Select([Item(sql("a.id")), Item(sql("(", inner, ")"))], sql(f"{t} a"), sql(f"a.id BETWEEN {low} AND {low + 12}"))
    elif r == 4:
        cte = Select([Item(sql("k")), Item(sql("count(*)"))], sql(o), maybe_where(rng, other), group=[sql("k")])
        return Select([Item(sql("a.id")), Item(sql("q.o1"))], sql(f"{t} a JOIN q ON q.o0 = a.k"), where(rng, table, "a."),
                      ctes=[("q", rng.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "]), cte)])
    elif r == 5:
        inner = Select([Item(sql("id")), Item(sql("k")), Item(sql("class"))], sql(t), where(rng, table))
        return Select([Item(sql("o2")), Item(sql("count(*)")), Item(sql("sum(o1)")), Item(sql("min(o0)"))], sql("(", inner, f"{rng.choice(['', ' OFFSET 0'])}) q"),
                      rng.choice([None, sql("o1 > 20")]), group=[sql("o2")])
    elif r == 6:
        low = rng.randrange(1500)
        inner = Select([Item(sql("b.id"))], sql(f"{o} b"), sql("b.k = a.k"), order=[Order(sql("b.id"))], limit=2)
        return Select([Item(sql("a.id")), Item(sql("l.o0"))], sql(f"{t} a, LATERAL (", inner, ") l"), sql(f"a.id BETWEEN {low} AND {low + 10}"))
    elif r == 7:
        inner = Select([Item(sql("k")), Item(sql("count(*)"))], sql(t), maybe_where(rng, table), group=[sql("k")])
        return Select([Item(sql("max(o1)")), Item(sql("count(*)")), Item(sql("sum(o0)"))], sql("(", inner, ") q"), rng.choice([None, sql("o1 > 3")]))
    elif r == 8:
        # Groups once more for each row of a small side.
        inner = Select([Item(sql("count(*)")), Item(sql("sum(b.k)")), Item(sql("min(b.id)"))], sql(f"{o} b"), Bool("AND", [sql("b.k > s.low"), where(rng, other, "b.")]))
        return Select([Item(sql("s.low")), Item(sql("l.o0")), Item(sql("l.o1")), Item(sql("l.o2"))],
                      sql(f"(VALUES (3), ({rng.randrange(150)}), (NULL), (400)) s(low) CROSS JOIN LATERAL (", inner, ") l")) if rng.random() < 0.5 else Select([Item(sql("s.low")), Item(sql("(", inner.but(items=inner.items[:1]), ")"))], sql("(VALUES (3), (77), (NULL)) s(low)"))
    elif r == 9:
        # One WITH query twice.
        cte = Select([Item(sql("k")), Item(sql("count(*)")), Item(sql("max(id)"))], sql(o), maybe_where(rng, other), group=[sql("k")])
        return Select([Item(sql("x.o0")), Item(sql("x.o1")), Item(sql("y.o2"))], sql("q x JOIN q y ON x.o0 = y.o0"), sql("x.o1 > ", Lit("1", "bigint", ("0", "5"))),
                      ctes=[("q", rng.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "]), cte)])
    else:
        column = rng.choice([c for c in table.columns if c.kind.minmax])
        inner = Select([Item(sql(f"max(b.{column.sql})"))], sql(f"{t} b"), maybe_where(rng, table, "b."))
        condition = sql(f"a.{column.sql} = (", inner, ")")
    return Select(items, sql(f"{t} a"), Bool("AND", [few, condition]) if r == 1 else condition)


def window(rng, table, tables):
    part = rng.choice([c for c in table.columns if c.kind.ordered])
    order = rng.choice([c for c in table.columns if c.kind.ordered])
    over = f"OVER (PARTITION BY {part.sql} ORDER BY id)"
    calls = [
        f"row_number() {over}", f"sum(k) {over}", f"count(*) OVER (PARTITION BY {part.sql})", f"rank() OVER (ORDER BY {order.sql})", f"lag(k, 2) {over}",
        f"dense_rank() OVER (PARTITION BY class ORDER BY {order.sql} DESC)", f"max(id) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING)",
        f"first_value(id) {over}", f"ntile(4) OVER (ORDER BY {order.sql}, id)",
    ]
    if rng.random() < 0.3:
        keys = group_keys(rng, table)[:1]
        return Select([Item(*keys[0]), Item(sql("count(*)")), Item(sql("sum(count(*)) OVER ()"))], sql(table.name), maybe_where(rng, table), group=[keys[0][0]])
    return Select([Item(sql("id"))] + [Item(sql(c)) for c in rng.sample(calls, rng.choice([1, 2]))], sql(table.name), maybe_where(rng, table))


def sets(rng, table, tables):
    other = rng.choice(tables)
    shared = [(c, d) for c in table.columns for d in other.columns if c.kind == d.kind and c.kind.ordered]
    pairs = rng.sample(shared, min(len(shared), rng.choice([1, 2])))
    left = [Item(sql(c.sql), c.kind.compare) for c, _ in pairs]
    right = [Item(sql(d.sql), d.kind.compare) for _, d in pairs]
    op = rng.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"])
    if rng.random() < 0.35:
        # Of groups.
        counted = [Item(sql(rng.choice(["count(*)", "min(k)", "count(DISTINCT k)"])))]
        one, two = (Select([item] + counted, sql(t.name), maybe_where(rng, t), group=[item.node])
                    for item, t in ((left[0], table), (right[0], other)))
        return one.but(setop=(op, two))
    return Select(left, sql(table.name), maybe_where(rng, table), setop=(op, Select(right, sql(other.name), maybe_where(rng, other))))


def ranges_union(rng, table, tables):
    """The dashboard's shape: one aggregate over several ranges of time."""
    if table.time is None:
        return global_aggregate(rng, table, tables)
    select = Select(aggregates(rng, table), sql(table.name), Bool("AND", [time_range(rng, table.time, ""), tree(rng, table)]), aggregate=True)
    return select


FORMS_WEIGHTS = [(17, "rows"), (5, "limited"), (17, "global"), (28, "grouped"), (5, "ranges"), (5, "distinct"), (7, "join"), (10, "subquery"), (4, "window"), (5, "sets"), (10, "star")]
FORMS = dict(zip((n for _, n in FORMS_WEIGHTS), (rows, limited, global_aggregate, grouped, ranges_union, distinct, join, subquery, window, sets, star)))
BIG_FORMS = ("rows", "global", "grouped", "ranges", "distinct", "limited", "star")
