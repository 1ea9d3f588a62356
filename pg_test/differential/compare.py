"""Answers as multisets (or lists) of rows of text, equal up to what SQL leaves open."""

import json
import math
from collections import Counter
from decimal import Decimal

NUMERIC, FLOAT4, FLOAT8, BPCHAR, INTERVAL, JSONB = 1700, 700, 701, 1042, 1186, 3802


def normal_json(value):
    if isinstance(value, list):
        return tuple(normal_json(v) for v in value)
    if isinstance(value, dict):
        return tuple(sorted((k, normal_json(v)) for k, v in value.items()))
    return str(value.normalize() + 0) if isinstance(value, Decimal) else repr(value)


def representative(text, oid):
    """One text for all values that are equal to this one."""
    if text is None:
        return None
    if oid == NUMERIC:
        value = Decimal(text)
        return str(value.normalize() + 0) if value.is_finite() else text
    if oid in (FLOAT4, FLOAT8):
        return "0" if text == "-0" else text
    if oid == BPCHAR:
        return text.rstrip(" ")
    if oid == JSONB:
        return repr(normal_json(json.loads(text, parse_int=Decimal, parse_float=Decimal)))
    if oid == INTERVAL:
        return interval_micros(text)
    return text


def interval_micros(text):
    """Only the style `postgres` is told apart; the query runner keeps that style where this is needed."""
    months = days = micros = 0
    words = text.split()
    i = 0
    while i < len(words):
        word = words[i]
        if ":" in word:
            sign = -1 if word.startswith("-") else 1
            h, m, s = word.lstrip("+-").split(":")
            micros += sign * ((int(h) * 60 + int(m)) * 60_000_000 + int(Decimal(s) * 1_000_000))
            i += 1
            continue
        number, unit = int(word), words[i + 1]
        if unit.startswith("year"):
            months += 12 * number
        elif unit.startswith("mon"):
            months += number
        else:
            days += number
        i += 2
    return f"{(months * 30 + days) * 86_400_000_000 + micros} us"


def close(left, right, relative):
    """Two floats as text."""
    if left == right or left is None or right is None:
        return left == right
    a, b = float(left), float(right)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return a == b
    # Values are at most 1e4 apart from infinities; 1e-6 is what cancellation among thousands of them leaves.
    return abs(a - b) <= max(relative * max(abs(a), abs(b)), 1e-6 if relative < 1e-6 else 0.5)


def scaled(left, right):
    """Two numerics as text, equal as far as both show decimals: of 1.0 and 1.00 DISTINCT keeps the first, and as many decimals as that one
    shows has what is divided."""
    if left == right or left is None or right is None:
        return left == right
    a, b = Decimal(left), Decimal(right)
    if not (a.is_finite() and b.is_finite()):
        return False
    # Both were rounded: the one that shows more may be half a unit of the other's last place off, and the other as much.
    return abs(a - b) <= Decimal(1).scaleb(max(a.as_tuple().exponent, b.as_tuple().exponent))


class Answer:
    """Rows as tuples of text or None, with the columns' type OIDs; or an error's SQLSTATE."""

    def __init__(self, rows=(), oids=(), sqlstate=None, message="", lost=False, seconds=0.0):
        self.rows, self.oids, self.sqlstate, self.message, self.lost, self.seconds = list(rows), oids, sqlstate, message, lost, seconds


def difference(left, right, compares, ordered):
    """None if the answers agree, else a sentence."""
    if left.lost or right.lost:
        return f"the server ended the connection: {(left if left.lost else right).message.strip()}"
    # Where two rows fail differently, the order in which they are read says which error is met.
    arithmetic = {left.sqlstate, right.sqlstate} <= {"22003", "22012"}
    if left.sqlstate != right.sqlstate and not arithmetic:
        return f"SQLSTATE {left.sqlstate or '00000'} ({left.message.strip()}) on the heap, {right.sqlstate or '00000'} ({right.message.strip()}) on Basalt"
    if left.sqlstate:
        return None
    if left.oids != right.oids:
        return f"column types {left.oids} on the heap, {right.oids} on Basalt"
    if len(left.rows) != len(right.rows):
        return f"{len(left.rows)} rows on the heap, {len(right.rows)} on Basalt"
    approximate = [i for i, c in enumerate(compares) if c.startswith("approx") or c == "scaled"]
    firm = [i for i, c in enumerate(compares) if c in ("exact", "loose")]

    def key(row):
        return tuple(representative(row[i], left.oids[i]) if compares[i] == "loose" else row[i] for i in firm)

    one, two = [key(r) for r in left.rows], [key(r) for r in right.rows]
    if ordered and one != two:
        at = next(i for i, (a, b) in enumerate(zip(one, two)) if a != b)
        return f"row {at}: {left.rows[at]} on the heap, {right.rows[at]} on Basalt"
    if not ordered and one != two:
        a, b = Counter(one), Counter(two)
        if a != b:
            return f"only on the heap: {list((a - b).items())[:3]}; only on Basalt: {list((b - a).items())[:3]}"
    if not approximate:
        return None

    def rank(pair):
        numbers = [None if pair[1][i] is None else Decimal(pair[1][i]) for i in approximate]
        order = [(n is None, n is not None and n.is_nan(), Decimal(0) if n is None or n.is_nan() else n) for n in numbers]
        return ([(k is None, k or "") for k in pair[0]], order)

    pairs_left, pairs_right = list(zip(one, left.rows)), list(zip(two, right.rows))
    if not ordered:
        pairs_left.sort(key=rank)
        pairs_right.sort(key=rank)
    for (_, a), (_, b) in zip(pairs_left, pairs_right):
        for i in approximate:
            same = scaled(a[i], b[i]) if compares[i] == "scaled" else close(a[i], b[i], 1e-9 if compares[i] == "approx" else 1e-3)
            if not same:
                return f"{a} on the heap, {b} on Basalt"
    return None
