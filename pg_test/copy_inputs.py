"""Random inputs of COPY FROM: a table's columns, how rows are written, and rows of which some are odd and some are wrong."""

from dataclasses import dataclass
from random import Random

# Type: values in the plain form, valid ones in other forms, and wrong ones.
KINDS = {
    "int2": (["0", "7", "-12", "32767"], ["+5", " 8", "9 ", "007"], ["32768", "x", "", "1.5", "- 1"]),
    "int4": (["0", "1234567", "-1"], [" 1", "+2"], ["2147483648", "12a", "1e3"]),
    "int8": (["0", "999999999999999999", "-5"], ["9223372036854775807", "-9223372036854775808"], ["9223372036854775808", "--1"]),
    "float4": (["1.5", "-0.25", "3", "1e10", "0"], ["NaN", "Infinity", " 1", ".5", "1e-40", "5.", "0x10"], ["1e39", "1e-60", "abc", "1,5"]),
    "float8": (["0.1", "-2.5e-3", "123456789.123456789", "-0"], ["-inf", "1e-320", "+1", "1E+05 "], ["1e309", "", "1.2.3"]),
    "numeric(10,2)": (["1", "-2.50", "12345678.99", "0.005", "-0.004", "1.23456"], ["NaN", "1e2", " 3 ", ".5", "5.", "+7"], ["123456789", "99999999.995", "1.2.3", "x"]),
    "numeric(30,4)": (["1", "-123456.7891", "0.00005"], ["123456789012345678901234.5", "NaN"], ["1e27", "abc"]),
    "numeric": (["1.10", "0", "-7", "100.00"], ["1e3", "00.5", "-0.0", "NaN", "Infinity"], ["1..2", ""]),
    "bool": (["t", "false", "1"], ["yes", " TRUE ", "off", "n"], ["maybe", "2"]),
    "date": (["2026-01-31", "1999-12-31", "0001-01-01"], ["infinity", "2026-1-5", "Jan 5 2026", "20260131", "2026-01-31 BC", "1/2/2026", "epoch"], ["2026-02-30", "2026-13-01", "0000-01-01", "x"]),
    "timestamp": (["2026-01-31 12:34:56", "2026-01-31T00:00:00.123456", "2026-01-31"], ["2026-01-31 24:00:00", "2026-01-31 12:34", "-infinity", "2026-01-31 23:59:60", "2026-01-31 12:00:00.1234567", "2026-01-31 12:00:00+03"], ["2026-01-31 25:00:00", "2026-02-30 00:00:00", "now!"]),
    "timestamp(1)": (["2026-01-31 12:34:56.7"], ["2026-01-31 12:34:56.78"], ["2026-01-31 12:61:00"]),
    "timestamptz": (["2026-01-31 12:34:56+00", "2026-07-01 00:00:00Z", "2026-07-01 00:00:00", "2026-03-29 02:30:00", "2026-01-31 00:00:00-05:30"],
                    ["2026-01-31 12:34:56 America/St_Johns", "infinity", "2026-01-31 12:00:00 +02", "2026-01-31 12:00:00EST"], ["2026-01-31 12:00:00+99", "nowhere"]),
    "text": (["", "a", "plain text", "ä€😀", "\\N", "NULL", "  blanks  "], ["tab\there", "line\nbreak", "cr\rlf\r\n", 'a "quote"', "comma, semicolon; pipe|", "back\\slash", "\\.", "'"], []),
    "varchar(5)": (["abcde", "äöü", ""], ["abc      "], ["abcdef", "äöüäöü"]),
    "char(3)": (["abc", "ä", ""], ["ab     "], ["abcd"]),
    "uuid": (["00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF"], ["00112233445566778899aabbccddeeff", "{00112233-4455-6677-8899-aabbccddeeff}"], ["00112233-4455-6677-8899-aabbccddeef", "g0112233-4455-6677-8899-aabbccddeeff"]),
    "bytea": (["\\x00ff", "\\xDeadBeef", "\\x"], ["abc", "\\x 00", "\\000"], ["\\x0", "\\xzz"]),
    "inet": (["10.0.0.1", "255.255.255.255"], ["10.0.0.0/8", "::1"], ["10.0.0.256", "1.2.3"]),
    "whole": (["5", "70"], [" 6"], ["x"]),
}
# Types that are always read by PostgreSQL, and a domain that checks.
SLOW = {
    "jsonb": (['{"a": 1}', "[]"], ['{"b":  [1,2]}'], ["{", ""]),
    "mood": (["sad", "happy"], [], ["cross"]),
    "positive": (["5"], [], ["-5"]),
    "int4[]": (["{1,2}", "{}"], ["{NULL}"], ["{1,"]),
}
SETUP = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN whole AS int4; CREATE DOMAIN positive AS int4 CHECK (value > 0)"


@dataclass
class Input:
    """`columns`: the table's; `options`: behind COPY t (given) FROM."""
    columns: str
    given: str
    options: str
    data: bytes


class Maker:
    def __init__(self, seed: int):
        self.random = Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def make(self) -> Input:
        r = self.random
        kinds = dict(KINDS) | (SLOW if self.chance(0.15) else {})
        types = [r.choice(list(kinds)) for _ in range(r.randint(1, 7))]
        constraints = [r.choice(["", "", "", " NOT NULL"]) for _ in types]
        required = r.choice([" NOT NULL", ""])
        columns = ["ts timestamptz" + required] + [f"c{i} {kind}{rule}" for i, (kind, rule) in enumerate(zip(types, constraints))]
        kinds["ts"] = kinds["timestamptz"]
        given = [("ts", "ts", required)] + [(f"c{i}", kind, rule) for i, (kind, rule) in enumerate(zip(types, constraints))]
        if self.chance(0.2):
            columns.append(r.choice(["d1 int DEFAULT 7", "d1 text", "d1 timestamptz DEFAULT '2026-01-01 00:00Z'", "d1 numeric(5,1) DEFAULT 1.25"]))
        if self.chance(0.2):
            r.shuffle(given)
        names = ", ".join(name for name, _, _ in given)
        if self.chance(0.7):
            write, options = self.csv()
        else:
            write, options = self.text()
        end = r.choice([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
        wrong = 0.0 if self.chance(0.5) else 0.002
        odd = r.choice([0.0, 0.01, 0.2])
        lines = [write([self.value(kinds[kind], odd, wrong, rule) for _, kind, rule in given]) for _ in range(r.choice([1, 5, 200, 1500]))]
        if "HEADER" in options:
            lines.insert(0, write([name for name, _, _ in given]))
        if wrong and self.chance(0.5):
            at = r.randrange(len(lines))
            lines[at] = r.choice([lines[at] + b",x\tx", b"", lines[at][: len(lines[at]) // 2], b"\\.", b"\xff\xfe", b"a\rb", b"\x00", b'"' + lines[at]])
        data = end.join(lines) + (end if self.chance(0.8) else b"")
        return Input(", ".join(columns), names, options, data)

    def value(self, kind, odd: float, wrong: float, rule: str):
        plain, other, bad = kind
        r = self.random
        if self.chance(wrong / 3 if rule else 0.03):
            return None
        if bad and self.chance(wrong):
            return r.choice(bad)
        return r.choice(other if other and self.chance(odd) else plain)

    def csv(self):
        r = self.random
        delimiter, quote, null = r.choice([",", ",", ";", "|", "\t"]), r.choice(['"', '"', "'"]), r.choice(["", "", "NULL", "\\N"])
        escape = r.choice([quote, quote, "\\"])
        options = ["FORMAT csv", f"DELIMITER E'{delimiter}'", f"QUOTE E'\\{quote}'", f"ESCAPE E'\\{escape}'", f"NULL E'{null.replace(chr(92), chr(92) * 2)}'"]
        if self.chance(0.2):
            options.append(r.choice(["HEADER", "HEADER match", "FORCE_NULL (ts)", "FORCE_NOT_NULL (ts)"]))
        always = self.chance(0.2)

        def field(value):
            if value is None:
                return null
            special = any(c in value for c in (delimiter, quote, "\n", "\r")) or value in (null, "\\.")
            if not (special or always or self.chance(0.05)):
                return value
            text = value.replace(escape, escape * 2) if escape != quote else value
            return quote + text.replace(quote, escape + quote) + quote

        return (lambda values: delimiter.join(map(field, values)).encode()), ", ".join(options)

    def text(self):
        r = self.random
        delimiter, null = r.choice(["\t", "\t", ",", "|"]), r.choice(["\\N", "\\N", "", "NULL"])
        options = [f"DELIMITER E'{delimiter}'", f"NULL E'{null.replace(chr(92), chr(92) * 2)}'"] + (["HEADER"] if self.chance(0.1) else [])
        escapes = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", delimiter: "\\" + delimiter}

        def field(value):
            if value is None:
                return null
            text = "".join(escapes.get(c, c) for c in value)
            if self.chance(0.01) and value.isascii() and value:
                text = "".join(r.choice([f"\\{ord(c):03o}", f"\\x{ord(c):02x}", c if c not in escapes else escapes[c]]) for c in value)
            return text

        return (lambda values: delimiter.join(map(field, values)).encode()), ", ".join(options)

    def near(self, kind: str) -> str:
        """A value of a kind, or a text that differs from one in a few characters."""
        r = self.random
        text = list(r.choice([value for values in KINDS[kind] for value in values]))
        for _ in range(r.choice([0, 1, 1, 2, 3])):
            at = r.randrange(len(text) + 1)
            text[at:at + r.choice([0, 1])] = r.choice(["", *"0123456789999.:-+eETZ \\\\x/aintfNJBC"])
        return "".join(text)

    def damage(self, data: bytes) -> bytes:
        """The input with a few bytes changed, taken away or put in."""
        r, out = self.random, bytearray(data)
        for _ in range(r.randint(1, 4)):
            at = r.randrange(len(out) + 1)
            byte = r.choice(b'",\n\r\t\\.;|N0\x00\xff\xc3')
            match r.choice(["put", "change", "take", "cut"]):
                case "put":
                    out.insert(at, byte)
                case "change" if at < len(out):
                    out[at] = byte
                case "take":
                    del out[at:at + r.randint(1, 3)]
                case "cut" if self.chance(0.2):
                    del out[at:]
        return bytes(out)

    def pieces(self, data: bytes):
        """The input in messages of random length."""
        size, at = self.random.choice([1 << 20, 8192, 700]), 0
        while at < len(data):
            step = self.random.randint(1, size)
            yield data[at:at + step]
            at += step
