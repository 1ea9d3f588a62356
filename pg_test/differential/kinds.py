"""The column types of the test and what SQL can do with each."""

from dataclasses import dataclass
from typing import Callable, Optional

from . import values as v


@dataclass(frozen=True)
class Kind:
    """`name` is unique; `sql` the declared type; `group` selects the operators that fit."""
    name: str
    sql: str
    group: str
    gen: Callable
    odd: Optional[Callable] = None
    unique: Optional[Callable] = None
    # Has a default btree order, which gives =, <, GROUP BY, DISTINCT, ORDER BY.
    ordered: bool = True
    minmax: bool = True
    # Values that are equal may look different (1.0 and 1.00): any of them may represent its group.
    loose: bool = False
    # Type to cast literals to, where it isn't `sql`.
    literal: Optional[str] = None
    # Where a representative can't be normalised by the test, it isn't compared.
    opaque_class: bool = False

    @property
    def native(self):
        return self.name in NATIVE

    @property
    def compare(self):
        """How a representative of a group of this type is compared."""
        return "any" if self.opaque_class else "loose" if self.loose else "exact"

    @property
    def cast(self):
        return self.literal or self.sql


# Types whose equality, order and sums the engine knows.
NATIVE = {"bool", "int2", "int4", "int8", "float4", "float8", "numeric_9_2", "numeric_18_0", "numeric_18_6", "numeric_38_10", "numeric_4_4", "date", "timestamp",
          "timestamp_0", "timestamptz", "text", "text_c", "varchar", "uuid"}


def kinds():
    n = v.numeric
    on = v.odd_numeric
    return [
        Kind("bool", "boolean", "bool", v.boolean, minmax=False),
        Kind("int2", "smallint", "int", v.integer("int2"), v.odd_integer("int2")),
        Kind("int4", "integer", "int", v.integer("int4"), v.odd_integer("int4")),
        Kind("int8", "bigint", "int", v.integer("int8"), v.odd_integer("int8")),
        Kind("float4", "real", "float4", v.tame_float, v.odd_float, loose=True),
        Kind("float8", "double precision", "float8", v.tame_float, v.odd_float, loose=True),
        Kind("float8_wild", "double precision", "wild", v.wild_float, loose=True),
        Kind("numeric_9_2", "numeric(9,2)", "numeric", n(9, 2), on(9, 2), literal="numeric"),
        Kind("numeric_18_0", "numeric(18,0)", "numeric", n(18, 0), on(18, 0), literal="numeric"),
        Kind("numeric_18_6", "numeric(18,6)", "numeric", n(18, 6), on(18, 6), literal="numeric"),
        Kind("numeric_38_10", "numeric(38,10)", "numeric", n(38, 10), on(38, 10), literal="numeric"),
        Kind("numeric_4_4", "numeric(4,4)", "numeric", n(4, 4), on(4, 4), literal="numeric"),
        Kind("numeric_50_20", "numeric(50,20)", "numeric", n(50, 20), on(50, 20), literal="numeric"),
        Kind("numeric_3_m2", "numeric(3,-2)", "numeric", n(4, 0), None, literal="numeric"),
        Kind("numeric", "numeric", "numeric", v.free_numeric, v.odd_free_numeric, loose=True),
        Kind("date", "date", "date", v.date, v.odd_date),
        Kind("timestamp", "timestamp", "timestamp", v.timestamp, v.odd_timestamp),
        Kind("timestamp_0", "timestamp(0)", "timestamp", v.timestamp, v.odd_timestamp, literal="timestamp"),
        Kind("timestamptz", "timestamptz", "timestamptz", lambda r: utc(v.timestamp(r)), lambda r: utc(v.odd_timestamp(r))),
        Kind("text", "text", "text", v.text, None, v.unique_text),
        Kind("text_c", 'text COLLATE "C"', "text", v.text, None, v.unique_text, literal="text"),
        Kind("text_icu", 'text COLLATE "de-x-icu"', "text", v.text, None, v.unique_text, literal="text"),
        Kind("text_ci", "text COLLATE case_blind", "text_blind", v.text, None, v.unique_text, loose=True, literal="text", opaque_class=True),
        Kind("varchar", "varchar(80)", "text", v.text, None, v.unique_text, literal="varchar"),
        Kind("name", "name", "text", v.text, None, v.unique_text, minmax=False),
        Kind("char", "char(8)", "char", lambda r: v.text(r)[:8], None, lambda r: v.unique_text(r)[:8], loose=True, literal="bpchar"),
        Kind("bpchar", "bpchar", "char", v.text, None, v.unique_text, loose=True),
        Kind("uuid", "uuid", "uuid", v.uuid4, lambda r: "00000000-0000-0000-0000-00000000000%d" % r.randrange(3), v.uuid4, minmax=False),
        Kind("inet", "inet", "inet", v.inet),
        Kind("cidr", "cidr", "inet", v.cidr, literal="cidr"),
        Kind("bytea", "bytea", "bytea", v.bytea, minmax=False),
        Kind("jsonb", "jsonb", "jsonb", v.jsonb, minmax=False, loose=True),
        Kind("json", "json", "opaque", v.jsonb, ordered=False, minmax=False),
        Kind("text_array", "text[]", "text_array", v.array_of(v.text, quote=True)),
        Kind("int_array", "integer[]", "array", v.array_of(v.integer("int4"))),
        Kind("float_array", "double precision[]", "array", v.array_of(v.tame_float), v.array_of(v.odd_float), loose=True, opaque_class=True),
        Kind("enum", "mood", "enum", v.mood),
        Kind("interval", "interval", "interval", v.interval, loose=True),
        Kind("time", "time", "time", v.time),
        Kind("timetz", "timetz", "time", v.timetz, minmax=True),
        Kind("macaddr", "macaddr", "plain", v.macaddr, minmax=False),
        Kind("int4range", "int4range", "range", v.int_range, minmax=False),
        Kind("varbit", "bit varying(8)", "plain", v.bits, minmax=False, literal="varbit"),
        Kind("money", "money", "plain", v.money),
        Kind("domain", "positive", "int", lambda r: str(r.randrange(1, 50)), literal="integer"),
        Kind("point", "point", "opaque", lambda r: f"({r.randrange(3)},{r.randrange(3)})", ordered=False, minmax=False),
    ]


def utc(text):
    if "infinity" in text:
        return text
    if text.endswith(" BC"):
        return text[:-3] + "+00 BC"
    return text + "+00"


# Kinds that every set of tables holds at least once come first when tables are laid out.
KINDS = {k.name: k for k in kinds()}
