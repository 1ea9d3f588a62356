"""A psql script as a list of statements, and what kind each of them is."""

import re
from dataclasses import dataclass
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)"""
    r"""|(?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"""
    r"""|(?P<meta>^\\[^\n]*)|(?P<open>[(\[])|(?P<close>[)\]])|(?P<end>;)""",
    re.S | re.M,
)


@dataclass
class Statement:
    """`data`: what follows a COPY FROM STDIN. `bare`: the text in lower case without comments and literals."""
    line: int
    text: str
    bare: str
    data: str | None = None


def read(path: Path, data_directory: Path) -> list[Statement]:
    """The file's statements; COPY from one of the data files has become COPY FROM STDIN with that file as data.

    psql's own commands are left out, except \\set, which names the data files."""
    source, found, filename = path.read_text(), [], None
    start = position = depth = 0
    bare = []
    while token := TOKEN.search(source, position):
        bare.append(source[position:token.start()])
        position = token.end()
        if token["meta"] and (words := re.match(r"\\set filename :abs_srcdir '/data/(.*)'", token["meta"])):
            filename = data_directory / words[1]
        if (token["meta"] or token["comment"]) and not "".join(bare).strip():
            start = position
        if token["text"]:
            bare.append(" '' " if token["text"][0] != '"' else token["text"])
        elif token["open"] or token["close"]:
            depth += 1 if token["open"] else -1
            bare.append(token[0])
        elif token["end"] and depth <= 0:
            text = source[start:token.start()].strip()
            statement = Statement(source.count("\n", 0, start + len(source[start:]) - len(source[start:].lstrip())) + 1, text, " ".join("".join(bare).lower().split()))
            if re.match(r"copy .* from stdin", statement.bare):
                begin = source.index("\n", position) + 1
                position = source.index("\n\\.\n", begin - 1) + 4
                statement.data = source[begin:position - 3]
            elif copy := re.match(r"copy (\w+) from :'filename'", text, re.I):
                statement.text, statement.data = f"COPY {copy[1]} FROM STDIN", filename.read_text()
                statement.bare = statement.text.lower()
            # A cursor over a foreign table goes backward only if it is told that it will.
            statement.text = re.sub(r"^(declare \w+) cursor\b", r"\1 scroll cursor", statement.text, flags=re.I)
            if statement.bare:
                found.append(statement)
            start, depth, bare = position, 0, []
    return found


# What depends on the server's state, catalogs, clock or the place of rows, or writes, and so differs for reasons of its own.
SYSTEM = re.compile(r"\b(pg_(?!typeof\b)\w+|information_schema|current_\w+|now|random|clock_timestamp|ctid|xmin|xmax|cmin|cmax|tableoid|regclass|version|nextval|currval|setval|lo_\w+)\b")
WRITES = re.compile(r"\b(into|insert|update|delete|merge)\b|\bfor (no key )?(update|share)\b|\bfor key share\b")


def kind(statement: Statement) -> str:
    """query: to be compared; left out; or state: to be run on every side."""
    word = re.match(r"\(*\s*(\w+)", statement.bare)
    word = word[1] if word else ""
    if word == "explain" or ":'" in statement.text:
        return "left out"
    if word in ("select", "with", "values", "table", "execute", "fetch"):
        return "left out" if SYSTEM.search(statement.bare) or WRITES.search(statement.bare) else "query"
    return "state"


TARGET = re.compile(
    r"^(?:insert into|update(?: only)?|delete from(?: only)?|truncate(?: table)?|alter (?:foreign )?table(?: only)?(?: if exists)?|drop table(?: if exists)?|merge into|analyze|vacuum(?: \w+)*|copy"
    r"|with .*?\b(?:insert into|update|delete from)|create (?:unique )?index .*?\bon|create (?:\w+ )*trigger .*?\bon|create rule .*?\bto|lock(?: table)?) (\w+)"
)


def target(statement: Statement) -> str | None:
    """The table that a statement changes."""
    found = TARGET.match(statement.bare)
    return found[1] if found else None


CREATE = re.compile(r"^create (?:temp |temporary |unlogged )?table (?:if not exists )?(\w+) ?\((.*)\)$", re.S)
NOT_FOREIGN = re.compile(r"\b(primary key|unique|references|inherits|partition|like|generated|exclude|serial|identity|on commit|foreign key|with)\b")


def created(statement: Statement) -> tuple[str, str] | None:
    """Name and column definitions, if the statement creates a table that could as well be a foreign one."""
    found = CREATE.match(statement.bare)
    if not found or NOT_FOREIGN.search(statement.bare):
        return None
    return found[1], statement.text[statement.text.index("(") + 1:statement.text.rindex(")")]


def changed_tables(statements: list[Statement]) -> set[str]:
    """Tables that the script changes in a way that datasources don't allow, or that others inherit from or refer to."""
    names = {target(s) for s in statements if not s.bare.startswith(("insert", "copy", "drop", "analyze", "vacuum"))}
    for statement in statements:
        names |= set(re.findall(r"\b(?:inherits ?\( ?|references |partition of |like )(\w+)", statement.bare))
        if statement.bare.startswith(("create rule", "create function")):  # what they do, they do to a table
            names |= set(re.findall(r"\b(?:update|delete from) (\w+)", statement.bare))
    return names - {None}
