"""Tells whether two sides' answers to a query agree, asking once more where one side may have stopped before a row that fails."""

import time
from dataclasses import fields, is_dataclass, replace

from .compare import difference
from .nodes import Select, Sql


class Judge:
    """Never spends more than its time on making a difference smaller. `sides`: the heap's session, then Basalt's."""

    def __init__(self, sides, seconds):
        self.sides, self.deadline = sides, time.monotonic() + seconds

    def late(self):
        return time.monotonic() > self.deadline

    def differs(self, query):
        """The difference's sentence, or None; a query that fails alike on both sides doesn't differ."""
        left, right = (side.run(query) for side in self.sides)
        return self.compare(left, right, query)

    def compare(self, left, right, query):
        """As `differs`, of the answers that the two sides gave."""
        compares, ordered = [i.compare for i in query.select.items], query.select.ordered
        if len(left) != len(right):
            return "a different number of answers: " + "; ".join(a.message for a in (*left, *right) if a.sqlstate or a.lost)
        for nth, (a, b) in enumerate(zip(left, right)):
            found = difference(a, b, compares, ordered)
            if found and not self.stopped_early(a, b, query, nth):
                return found
        return None

    def stopped_early(self, left, right, query, nth):
        """Whether one side failed in a row that the other did not come to, as LIMIT or EXISTS let it: then that one fails likewise
        when it has to look at all of them."""
        if left.lost or right.lost or bool(left.sqlstate) == bool(right.sqlstate):
            return False
        side, state = (self.sides[0], right.sqlstate) if right.sqlstate else (self.sides[1], left.sqlstate)
        whole = exhausted(query.select)
        if whole == query.select:
            return False
        answers = side.run(replace(query, select=whole))
        return any(a.sqlstate == state for a in answers[nth:nth + 1] or answers)


def exhausted(node):
    """The same SQL without what may stop it before its last row: LIMIT is left out, EXISTS counts."""
    if isinstance(node, Select):
        node = node.but(limit=None, offset=None)
    if isinstance(node, Sql):
        return Sql(counted([exhausted(part) for part in node.parts]))
    if isinstance(node, (list, tuple)):
        return type(node)(exhausted(part) for part in node)
    if is_dataclass(node) and not isinstance(node, type):
        return replace(node, **{f.name: exhausted(getattr(node, f.name)) for f in fields(node)})
    return node


def counted(parts):
    """`EXISTS (`, a query, `)` as a comparison of its number of rows."""
    parts = list(parts)
    for at, part in enumerate(parts[:-2]):
        if isinstance(part, str) and part.endswith("EXISTS (") and isinstance(parts[at + 1], Select) and isinstance(parts[at + 2], str) and parts[at + 2].startswith(")"):
            parts[at] = part.removesuffix("EXISTS (") + "0 < (SELECT count(*) FROM ("
            parts[at + 2] = ") counted" + parts[at + 2]
    return tuple(parts)
