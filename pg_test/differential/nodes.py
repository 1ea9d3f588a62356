"""Pieces of SQL that render themselves with literals or parameters, and know smaller versions of themselves."""

from dataclasses import dataclass, field

from .tables import quote


class Render:
    """Collects parameters while a query is rendered. `style`: literal, or param (`$n::type`)."""

    def __init__(self, style="literal"):
        self.style = style
        self.params = []

    def literal(self, lit):
        if self.style == "literal" or not lit.bindable:
            return f"{quote(lit.value)}::{lit.type}"
        self.params.append(lit)
        return f"${len(self.params)}::{lit.type}"


@dataclass
class Lit:
    value: object
    type: str
    # Other values for further executions of a prepared statement.
    others: tuple = ()
    bindable: bool = True

    def sql(self, render):
        return render.literal(self)


@dataclass
class Sql:
    """Text with nodes between, in order."""
    parts: tuple

    def sql(self, render):
        return "".join(p if isinstance(p, str) else p.sql(render) for p in self.parts)

    def smaller(self):
        return ()


def sql(*parts):
    return Sql(parts)


@dataclass
class Bool:
    """AND or OR of children, or NOT of one."""
    op: str
    children: list

    def sql(self, render):
        if self.op == "NOT":
            return f"NOT ({self.children[0].sql(render)})"
        return f" {self.op} ".join(f"({c.sql(render)})" for c in self.children)

    def smaller(self):
        yield from self.children
        if len(self.children) > 2:
            for i in range(len(self.children)):
                yield Bool(self.op, self.children[:i] + self.children[i + 1:])
        for i, child in enumerate(self.children):
            for less in child.smaller():
                yield Bool(self.op, self.children[:i] + [less] + self.children[i + 1:])


@dataclass
class Aggregate:
    """A call with an optional FILTER."""
    call: object
    filter: object = None

    def sql(self, render):
        text = self.call.sql(render)
        return f"{text} FILTER (WHERE {self.filter.sql(render)})" if self.filter else text

    def smaller(self):
        if self.filter:
            yield Aggregate(self.call)
            for less in self.filter.smaller():
                yield Aggregate(self.call, less)


@dataclass
class Item:
    """An output column. `compare`: exact; loose (equal under SQL); approx, approx4 (sums of float8, float4); scaled (numerics
    as far as both show decimals); any."""
    node: object
    compare: str = "exact"


@dataclass
class Order:
    node: object
    direction: str = ""

    def sql(self, render):
        return self.node.sql(render) + self.direction

    def smaller(self):
        if self.direction:
            yield Order(self.node)


@dataclass
class Select:
    items: list
    source: object
    where: object = None
    group: list = field(default_factory=list)
    grouping: str = ""
    having: object = None
    distinct: str = ""
    order: list = field(default_factory=list)
    limit: int = None
    offset: int = None
    # Whether ORDER BY is total, so that rows are compared in order.
    ordered: bool = False
    ctes: list = field(default_factory=list)
    # A set operation: operator and right side (its items line up with these).
    setop: tuple = None
    # Whether the query aggregates one table directly, and so should be pushed whole.
    aggregate: bool = False
    form: str = ""

    def sql(self, render):
        out = []
        if self.ctes:
            out.append("WITH " + ", ".join(f"{name} AS {hint}({query.sql(render)})" for name, hint, query in self.ctes))
        items = ", ".join(f"{i.node.sql(render)} AS o{n}" for n, i in enumerate(self.items))
        out.append(f"SELECT {self.distinct + ' ' if self.distinct else ''}{items}")
        out.append("FROM " + self.source.sql(render))
        if self.where:
            out.append("WHERE " + self.where.sql(render))
        if self.group:
            keys = ", ".join(g.sql(render) for g in self.group)
            out.append("GROUP BY " + (f"{self.grouping} ({keys})" if self.grouping else keys))
        if self.having:
            out.append("HAVING " + self.having.sql(render))
        if self.setop:
            out.append(f"{self.setop[0]} {self.setop[1].sql(render)}")
        if self.order:
            out.append("ORDER BY " + ", ".join(o.sql(render) for o in self.order))
        if self.limit is not None:
            out.append(f"LIMIT {self.limit}")
        if self.offset:
            out.append(f"OFFSET {self.offset}")
        return " ".join(out)

    def but(self, **changes):
        return Select(**{**self.__dict__, **changes})

    def smaller(self):
        """Queries with less in them; some may be invalid, the caller sees to that."""
        if self.setop:
            yield self.but(setop=None)
            yield self.setop[1]
            for less in self.setop[1].smaller():
                yield self.but(setop=(self.setop[0], less))
        if self.where:
            yield self.but(where=None)
            for less in self.where.smaller():
                yield self.but(where=less)
        if self.having:
            yield self.but(having=None)
            for less in self.having.smaller():
                yield self.but(having=less)
        if self.limit is not None:
            yield self.but(limit=None, offset=None)
        if self.order:
            yield self.but(order=[], ordered=False, limit=None, offset=None)
        if self.distinct:
            yield self.but(distinct="")
        if self.grouping:
            yield self.but(grouping="")
        for i in range(len(self.group)):
            yield self.but(group=self.group[:i] + self.group[i + 1:])
        for i in range(len(self.items)):
            if len(self.items) > 1 and not self.setop:
                yield self.but(items=self.items[:i] + self.items[i + 1:])
        for i, item in enumerate(self.items):
            for less in item.node.smaller():
                yield self.but(items=self.items[:i] + [Item(less, item.compare)] + self.items[i + 1:])
        for i, (name, hint, query) in enumerate(self.ctes):
            for less in query.smaller():
                yield self.but(ctes=self.ctes[:i] + [(name, hint, less)] + self.ctes[i + 1:])
        for less in self.source.smaller():
            yield self.but(source=less)
