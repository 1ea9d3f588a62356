"""Random joins of a table with small tables that have keys, and semi-joins: what the engine looks up."""

from . import expressions
from .filters import where
from .nodes import Aggregate, Bool, Item, Lit, Order, Select, sql

# The same tables for both sides. Some keys are NULL or missing, some match nothing, those of `d_many` repeat.
DIMENSIONS = [
    'CREATE TABLE d_k (k int PRIMARY KEY, big bigint UNIQUE, exact numeric UNIQUE, name text, city text COLLATE "C", code char(4), weight numeric(6,2), size float8,'
    " level smallint, day date, region int, tags text[], free numeric, about jsonb, mood mood)",
    "INSERT INTO d_k SELECT i, i, i, CASE WHEN i % 10 <> 3 THEN 'name ' || i % 60 END, (ARRAY['Rome', 'Oslo', 'Bern', NULL])[1 + abs(i) % 4], 'c' || i % 5,"
    " CASE WHEN i % 7 > 0 THEN i / 3.0 END, CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN '-0' ELSE i / 8.0 END, i % 12 - 4, '2010-01-01'::date + i % 90,"
    " CASE WHEN i % 5 > 0 THEN i % 13 END, CASE WHEN i % 4 > 0 THEN ARRAY['t' || i % 3, NULL] END, CASE i % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 END,"
    " format('{\"a\": %s}', i % 3)::jsonb, (ARRAY['sad', 'ok', 'happy'])[1 + abs(i) % 3]::mood FROM generate_series(-5, 120) i",
    "CREATE TABLE d_region (id int PRIMARY KEY, title text, open boolean, share numeric(5,4))",
    "INSERT INTO d_region SELECT i, 'region ' || i, CASE WHEN i % 4 > 0 THEN i % 2 = 0 END, i / 16.0 FROM generate_series(0, 9) i",
    "CREATE TABLE d_class (class text PRIMARY KEY, kind text, rank int)",
    "INSERT INTO d_class VALUES ('number', 'digits', 1), ('word', NULL, 2), ('nothing', 'none', 3)",
    "CREATE TABLE d_id (id bigint PRIMARY KEY, half int, word text)",
    "INSERT INTO d_id SELECT i, i / 2 - 500, 'w' || i % 100 FROM generate_series(1, 6000, 3) i",
    "CREATE TABLE d_many (k int, id bigint, class text, worth int)",
    "INSERT INTO d_many SELECT CASE WHEN i % 6 > 0 THEN i % 70 END, i * 7, (ARRAY['word', 'date', NULL])[1 + i % 3], i FROM generate_series(1, 300) i",
    # Keys of several columns.
    "CREATE TABLE d_pair (k int, class text, low int, word text, PRIMARY KEY (k, class))",
    "INSERT INTO d_pair SELECT i, c, i % 30 - 10, CASE WHEN i % 5 > 0 THEN c || i % 8 END FROM generate_series(0, 160, 2) i, unnest(ARRAY['word', 'date', 'none']) c WHERE (i + length(c)) % 3 > 0",
    "CREATE TABLE d_three (k int NOT NULL, part bigint, flag boolean, note text, level int, UNIQUE (flag, k, part))",
    "INSERT INTO d_three SELECT i % 50, CASE WHEN i % 11 > 0 THEN i / 50 END, i % 2 = 0, CASE WHEN i % 4 > 0 THEN 'note ' || i % 9 END, i % 10 FROM generate_series(1, 900) i",
    "CREATE VIEW d_view AS SELECT k, count(*) AS n, min(class) AS least FROM d_many WHERE k IS NOT NULL GROUP BY k",
    "ANALYZE d_k, d_region, d_class, d_id, d_many, d_pair, d_three",
]


def star(rng, table, tables):
    """The table as `a`; `d`, `r`, `c`, `e`, `m`, `p`, `t`, `f` are dimensions."""
    if rng.random() < 0.2:
        return preserved(rng, table)
    columns = {c.name for c in table.columns}
    source, used, conditions, ctes = [f"{table.name} a"], [], [], []
    word = lambda: rng.choice(["JOIN", "JOIN", "LEFT JOIN"])
    if rng.random() < 0.6:
        key = rng.choice(["a.k = d.k"] * 4 + ["a.k = d.big", "d.k = a.k", "a.k::numeric = d.exact", "a.id = d.k", "a.k % 20 = d.k", "abs(a.k % 70) = d.k"])
        kind = word()
        more = rng.choice(["", "", f" AND d.level > {rng.randrange(-4, 6)}", across(rng, "d")]) if kind == "LEFT JOIN" else ""
        source.append(f"{kind} d_k d ON {key}{more}")
        used.append("d")
        if rng.random() < 0.3:
            kind = word()
            more = rng.choice(["", " AND r.open", " AND r.share * 8 > a.k % 5", " AND d.level > r.id"]) if kind == "LEFT JOIN" else ""
            source.append(f"{kind} d_region r ON r.id = d.region{more}")
            used.append("r")
        if rng.random() < 0.1:
            source.append(f"{word()} d_k d2 ON d2.k = a.k % 30")
            used.append("d2")
    if "class" in columns and rng.random() < 0.25:
        source.append(f"{word()} d_class c ON c.class = a.class")
        used.append("c")
    if rng.random() < 0.2:
        source.append(f"{word()} d_id e ON e.id = a.id")
        used.append("e")
    if "class" in columns and rng.random() < 0.25:
        kind = word()
        more = rng.choice(["", " AND p.low < a.k"]) if kind == "LEFT JOIN" else ""
        source.append(f"{kind} d_pair p ON p.k = a.k AND p.class = a.class{more}")
        used.append("p")
    if rng.random() < 0.2:
        flag = rng.choice(["a.id % 2 = 0", "a.k > 40"])
        source.append(f"{word()} d_three t ON t.k = a.k AND t.part = a.id % 20 AND t.flag = ({flag})")
        used.append("t")
    if rng.random() < 0.2:
        # With rows of a query's making.
        made = rng.choice([
            "(SELECT k, count(*) AS n, max(worth) AS most FROM d_many GROUP BY k)", "(SELECT DISTINCT k, 2 AS n, 5 AS most FROM d_many)", "w",
            "(SELECT k, n, length(least) AS most FROM d_view)", "(SELECT k, 1 AS n, k * 2 AS most FROM generate_series(1, 60) k)",
            "(VALUES (1, 2, 3), (5, 4, 3), (70, 1, NULL))",
        ])
        if made == "w":
            ctes = [("w", rng.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "]),
                     Select([Item(sql("k")), Item(sql("count(*)")), Item(sql("max(worth)"))], sql("d_many"), group=[sql("k")]))]
        source.append(f"{word()} {made} m(k, n, most) ON m.k = a.k")
        used.append("m")
    if rng.random() < 0.1:
        source.append(f"{word()} generate_series(0, 90, {rng.choice([1, 7])}) f(step) ON f.step = a.k")
        used.append("f")
    if not used or rng.random() < 0.3:
        conditions.append(semi(rng, columns))
    if rng.random() < 0.6:
        conditions.append(where(rng, table, "a."))
    return asked(rng, table, source, used, conditions, ctes)


def preserved(rng, table):
    """Every row of a dimension, with the table's rows or without: the table stands on an outer join's nullable side."""
    columns = {c.name for c in table.columns}
    parts, used, conditions, ctes = [], [], [], []
    way = rng.choice(["LEFT JOIN", "LEFT JOIN", "LEFT JOIN", "FULL JOIN"])
    more = []
    if way == "LEFT JOIN":
        if rng.random() < 0.5:
            condition_ = where(rng, table, "a.")
            more = [" AND (", condition_, ")"]
        elif rng.random() < 0.3:
            more = [across(rng, "d")]
    of = rng.choice(["d", "d", "d", "e", "f", "p"]) if "class" in columns else "d"
    on = {
        "d": ("d_k d", rng.choice(["a.k = d.k", "d.k = a.k % 20", "a.k = d.big"])),
        "e": ("d_id e", "e.id = a.id"),
        "f": (f"generate_series(-3, 100, {rng.choice([1, 4])}) f(step)", "f.step = a.k"),
        "p": ("d_pair p", "p.k = a.k AND a.class = p.class"),
    }[of]
    if of != "d" and more and isinstance(more[0], str) and "d." in more[0]:
        more = []
    used.append(of)
    inner = f"{table.name} a"
    if way == "LEFT JOIN" and "class" in columns and rng.random() < 0.2:
        inner = f"({table.name} a JOIN d_class c ON c.class = a.class)"
        used.append("c")
    sides = [on[0], inner]
    if rng.random() < 0.3:
        way, sides = {"LEFT JOIN": "RIGHT JOIN"}.get(way, way), sides[::-1]
    parts = [f"{sides[0]} {way} {sides[1]} ON {on[1]}", *more]
    if of == "d" and rng.random() < 0.25:
        parts.append(f" {rng.choice(['JOIN', 'LEFT JOIN'])} d_region r ON r.id = d.region")
        used.append("r")
    if rng.random() < 0.2:
        conditions.append(sql(rng.choice(["a.id IS NULL", "a.k IS NULL", "a.k > 30 OR a.k IS NULL", "coalesce(a.k, 5) < 50", "a.id IS NOT NULL"])))
    return asked(rng, table, parts, used, conditions, ctes)


def across(rng, name):
    """A condition of ON over both sides."""
    return f" AND {rng.choice([f'a.k % 12 > {name}.level', f'a.id % 3 = 0', f'{name}.level + a.k > 20', f'{name}.name LIKE chr(48 + a.k % 10) || chr(37)', f'({name}.city = chr(65) OR a.k > 30)'])}"


def asked(rng, table, source, used, conditions, ctes):
    for _ in range(rng.choice([0, 1, 1, 2])):
        if used:
            conditions.append(condition(rng, rng.choice(used)))
    keep = Bool("AND", conditions) if len(conditions) > 1 else conditions[0] if conditions else None
    source = sql(*[x for part in source for x in ((" " if isinstance(part, str) and not part.startswith(" ") else ""), part)][1:])
    form = rng.random()
    if form < 0.12 and used:
        picked = [key_of(rng, rng.choice(used)) for _ in range(rng.choice([1, 2]))]
        return Select([Item(sql(k), c) for k, c in picked], source, keep, distinct="DISTINCT", aggregate=True, ctes=ctes)
    items = aggregates(rng, table, used)
    if form < 0.3:
        return Select(items, source, keep, aggregate=True, ctes=ctes)
    keys = [key_of(rng, rng.choice(used)) for _ in range(rng.choice([1, 1, 2]))] if used else []
    if not keys or rng.random() < 0.3:
        column = rng.choice([c for c in table.columns if c.kind.ordered and c.name != "id"])
        keys.append(("a." + column.sql, column.kind.compare))
    select = Select([Item(sql(k), c) for k, c in keys] + items, source, keep, group=[sql(k) for k, _ in keys], aggregate=True, ctes=ctes)
    if rng.random() < 0.1 and len({k for k, _ in keys}) == len(keys):
        select.grouping = rng.choice(["ROLLUP", "CUBE"])
    elif rng.random() < 0.2 and all(c == "exact" for _, c in keys):
        select.order = [Order(sql("count(*)"), rng.choice(["", " DESC"]))] + [Order(sql(k), rng.choice(["", " DESC", " NULLS FIRST"])) for k, _ in keys]
        select.ordered, select.limit = True, rng.choice([None, 1, 5, 50])
    if rng.random() < 0.1:
        select.having = sql(f"count(*) > {rng.choice([0, 1, 20])}")
    return select


def semi(rng, columns):
    worth = Lit(str(rng.randrange(320)), "int", ("0", "150"))
    inner = sql("worth < ", worth)
    choices = [
        sql("a.k IN (SELECT k FROM d_many WHERE ", inner, ")"),
        sql("a.id IN (SELECT id FROM d_many WHERE ", inner, ")"),
        sql("EXISTS (SELECT FROM d_many m1 WHERE m1.k = a.k AND ", inner, ")"),
        sql("NOT EXISTS (SELECT FROM d_many m1 WHERE m1.k = a.k AND ", inner, ")"),
        sql("a.k IN (SELECT m1.k FROM d_many m1 JOIN d_k n1 ON n1.k = m1.k WHERE ", inner, ")"),
        sql("a.k = ANY (SELECT region FROM d_k)"),
        sql("EXISTS (SELECT FROM d_many m1 WHERE m1.k = a.k AND m1.worth % 20 = a.id % 20 AND ", inner, ")"),
        sql("NOT EXISTS (SELECT FROM d_many m1 WHERE m1.k = a.k AND m1.worth % 20 = a.id % 20 AND ", inner, ")"),
        sql("(a.k, a.id % 20) IN (SELECT k, part FROM d_three)"),
        sql("EXISTS (SELECT FROM d_k n1 WHERE n1.k = a.k AND n1.level < a.id % 9)"),
        sql("NOT EXISTS (SELECT FROM d_k n1 WHERE n1.k = a.k AND n1.level < a.id % 9)"),
    ]
    if "class" in columns:
        choices += [sql("a.class IN (SELECT class FROM d_many WHERE ", inner, ")"), sql("NOT EXISTS (SELECT FROM d_class c1 WHERE c1.class = a.class AND c1.rank = 1)")]
    return rng.choice(choices)


def condition(rng, name):
    n = Lit(str(rng.randrange(-4, 12)), "int", ("0", "3"))
    city = Lit(rng.choice(["Rome", "Oslo", "Nowhere"]), "text", ("Bern",))
    return rng.choice({
        "d": [sql("d.level > ", n), sql("d.city = ", city), sql("d.name LIKE '%1%'"), sql("a.k > d.level"), sql("d.city IS NULL"), sql("d.weight * 2 < a.k"),
              sql("coalesce(d.level, 0) <= ", n), sql("d.city = 'Oslo' OR a.k < ", n), sql("d.size > 3"), sql("d.name ~ '[25]$'"), sql("d.tags[1] = 't1'"),
              sql("d.code = 'c1'"), sql("(d.about ->> 'a')::int = 1"), sql("d.mood = 'ok'"), sql("d.free = 1")],
        "r": [sql("r.open"), sql("r.title > 'region 3'"), sql("r.id <> ", n), sql("r.open IS NOT TRUE"), sql("r.share * a.k > 5")],
        "c": [sql("c.rank < 3"), sql("c.kind IS NOT NULL"), sql("c.kind = 'digits' OR a.k > ", n)],
        "e": [sql("e.half > ", n), sql("e.word LIKE 'w_'"), sql("e.half::bigint + a.k > 0")],
        "m": [sql("m.n > ", n), sql("m.most::bigint - a.k > 100")],
        "d2": [sql("d2.level > d.level"), sql("d2.city = d.city"), sql("d2.level < ", n)],
        "p": [sql("p.low > ", n), sql("p.word LIKE 'w%'"), sql("p.word IS NULL OR a.k < ", n)],
        "t": [sql("t.level > ", n), sql("t.note IS NOT NULL"), sql("t.note > 'note 3'"), sql("NOT t.flag")],
        "f": [sql("f.step > ", n), sql("f.step % 3 = 0")],
    }[name])


def key_of(rng, name):
    return rng.choice({
        "d": [("d.city", "exact"), ("d.name", "exact"), ("d.level", "exact"), ("d.weight", "exact"), ("d.size", "loose"), ("d.code", "exact"), ("d.day", "exact"), ("d.k", "exact"),
              ("upper(d.name)", "exact"), ("d.city || '-' || d.code", "exact"), ("CASE WHEN d.level > 2 THEN 'high' WHEN d.level > 0 THEN 'low' END", "exact"),
              ("date_trunc('month', d.day)", "exact"), ("coalesce(d.city, 'none')", "exact"), ("d.level + 1", "exact"), ("d.mood", "exact"), ("d.tags", "exact"), ("d.city IS NULL", "exact"),
              ("d.level > a.k", "exact"), ("d.about ->> 'a'", "exact")],
        "r": [("r.title", "exact"), ("r.open", "exact"), ("r.share", "exact"), ("left(r.title, 3) || r.title", "exact")],
        "c": [("c.kind", "exact"), ("c.rank", "exact"), ("c.class", "exact")],
        "e": [("e.word", "exact"), ("e.half % 10", "exact"), ("e.id", "exact")],
        "m": [("m.n", "exact"), ("m.most", "exact")],
        "d2": [("d2.city", "exact"), ("d2.level - d.level", "exact"), ("d2.name", "exact")],
        "p": [("p.word", "exact"), ("p.low", "exact"), ("p.class", "exact"), ("p.word || p.class", "exact")],
        "t": [("t.note", "exact"), ("t.level", "exact"), ("t.flag", "exact"), ("t.part", "exact")],
        "f": [("f.step", "exact"), ("f.step / 10", "exact")],
    }[name])


def aggregates(rng, table, used):
    items = []
    for _ in range(rng.choice([1, 2, 3])):
        if not used or rng.random() < 0.3:
            items.append(Item(*rng.choice([(sql("count(*)"), "exact"), (sql("sum(a.id)"), "exact"), expressions.aggregate(rng, table, "a.")])))
            continue
        name = rng.choice(used)
        call, compare = rng.choice({
            "d": [("sum(d.weight)", "exact"), ("avg(d.level)", "exact"), ("count(d.name)", "exact"), ("count(DISTINCT d.city)", "exact"), ("min(d.city)", "exact"), ("max(d.weight)", "exact"),
                  ("sum(d.level * a.k)", "exact"), ("sum(a.k * d.weight)", "exact"), ("avg(d.size)", "approx"), ("max(d.size)", "loose"), ("string_agg(DISTINCT d.name, ',' ORDER BY d.name)", "exact"),
                  ("count(DISTINCT d.name || a.k)", "exact"), ("sum(CASE WHEN d.city = 'Rome' THEN a.k ELSE d.level END)", "exact"), ("min(d.day)", "exact"), ("bool_or(d.level > 4)", "exact"),
                  ("variance(d.level)", "exact"), ("sum(length(d.name))", "exact"), ("max(upper(d.name))", "exact"), ("sum(100 / (d.level - 9))", "exact"), ("count(DISTINCT d.free)", "exact"),
                  ("sum(d.free)", "exact"), ("mode() WITHIN GROUP (ORDER BY d.level)", "exact"), ("corr(d.level, a.k)", "approx"), ("bit_or(d.level)", "exact")],
            "r": [("sum(r.share)", "exact"), ("count(r.title)", "exact"), ("bool_and(r.open)", "exact"), ("sum(a.k * r.share)", "exact"), ("max(r.title)", "exact")],
            "c": [("sum(c.rank)", "exact"), ("count(c.kind)", "exact"), ("array_agg(DISTINCT c.rank)", "exact")],
            "e": [("sum(e.half)", "exact"), ("count(DISTINCT e.word)", "exact"), ("max(e.half - a.k)", "exact"), ("sum(a.id - e.id)", "exact")],
            "m": [("sum(m.n)", "exact"), ("max(m.most)", "exact")],
            "d2": [("sum(d2.level * d.level)", "exact"), ("min(d2.city)", "exact"), ("count(DISTINCT d2.name)", "exact")],
            "p": [("sum(p.low)", "exact"), ("count(p.word)", "exact"), ("max(p.word)", "exact"), ("sum(a.k - p.low)", "exact")],
            "t": [("sum(t.level)", "exact"), ("bool_and(t.flag)", "exact"), ("count(DISTINCT t.note)", "exact"), ("count(a.id)", "exact")],
            "f": [("sum(f.step)", "exact"), ("count(a.k)", "exact"), ("max(f.step - a.k)", "exact")],
        }[name])
        kept = condition(rng, rng.choice(used)) if rng.random() < 0.2 else None
        items.append(Item(Aggregate(sql(call), kept), compare))
    return items
