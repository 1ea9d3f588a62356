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
    "ANALYZE d_k, d_region, d_class, d_id, d_many",
]


def star(rng, table, tables):
    """The table as `a`; `d`, `r`, `c`, `e` are dimensions."""
    columns = {c.name for c in table.columns}
    source, used, conditions = [f"{table.name} a"], [], []
    word = lambda: rng.choice(["JOIN", "JOIN", "LEFT JOIN"])
    if rng.random() < 0.7:
        key = rng.choice(["a.k = d.k"] * 4 + ["a.k = d.big", "d.k = a.k", "a.k::numeric = d.exact", "a.id = d.k", "a.k % 20 = d.k", "abs(a.k % 70) = d.k"])
        kind = word()
        more = rng.choice(["", "", f" AND d.level > {rng.randrange(-4, 6)}"]) if kind == "LEFT JOIN" else ""
        source.append(f"{kind} d_k d ON {key}{more}")
        used.append("d")
        if rng.random() < 0.3:
            source.append(f"{word()} d_region r ON r.id = d.region")
            used.append("r")
    if "class" in columns and rng.random() < 0.25:
        source.append(f"{word()} d_class c ON c.class = a.class")
        used.append("c")
    if rng.random() < 0.2:
        source.append(f"{word()} d_id e ON e.id = a.id")
        used.append("e")
    if rng.random() < 0.1:
        source.append(f"{word()} (SELECT k, count(*) AS n, max(worth) AS most FROM d_many GROUP BY k) m ON m.k = a.k")
        used.append("m")
    if not used or rng.random() < 0.3:
        conditions.append(semi(rng, columns))
    if rng.random() < 0.6:
        conditions.append(where(rng, table, "a."))
    for _ in range(rng.choice([0, 1, 1, 2])):
        if used:
            conditions.append(condition(rng, rng.choice(used)))
    keep = Bool("AND", conditions) if len(conditions) > 1 else conditions[0] if conditions else None
    source = sql(" ".join(source))
    form = rng.random()
    if form < 0.12 and used:
        picked = [key_of(rng, rng.choice(used)) for _ in range(rng.choice([1, 2]))]
        return Select([Item(sql(k), c) for k, c in picked], source, keep, distinct="DISTINCT", aggregate=True)
    items = aggregates(rng, table, used)
    if form < 0.3:
        return Select(items, source, keep, aggregate=True)
    keys = [key_of(rng, rng.choice(used)) for _ in range(rng.choice([1, 1, 2]))] if used else []
    if not keys or rng.random() < 0.3:
        column = rng.choice([c for c in table.columns if c.kind.ordered and c.name != "id"])
        keys.append(("a." + column.sql, column.kind.compare))
    select = Select([Item(sql(k), c) for k, c in keys] + items, source, keep, group=[sql(k) for k, _ in keys], aggregate=True)
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
        }[name])
        kept = condition(rng, rng.choice(used)) if rng.random() < 0.2 else None
        items.append(Item(Aggregate(sql(call), kept), compare))
    return items
