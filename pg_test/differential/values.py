"""Random values of each type, as PostgreSQL reads them (text), the odd ones included."""

import random
import string
import uuid

INT_LIMITS = {"int2": 2**15, "int4": 2**31, "int8": 2**63}

# Times (UTC) shortly before and after changes of the clock in zones that the queries use, among them the day in 2010
# on which date_trunc('day') in St. John's is not monotone (the clock went back from 00:01 to 23:01).
TRANSITIONS = [
    "2010-11-07 02:31:00", "2010-03-14 03:31:00", "2011-11-06 04:31:00", "2010-03-28 01:00:00",
    "2010-10-31 01:00:00", "2010-04-03 15:30:00", "2011-12-30 10:00:00", "2010-01-01 00:00:00",
    "2010-12-31 23:59:59.999999", "2010-06-30 12:00:00",
]

WORDS = [
    "a", "A", "b", "ab", "abc", "ABC", "Zürich", "zürich", "straße", "STRASSE", "naïve", "日本語", "🙂", "é", "e\u0301", "Ω",
    "", " ", "  ", "a ", " a", "a  ", "O'Hare", "\\", "a\\b", "100%", "10_0", "a%b", "_", "%", '"q"', "$1", "null", "NULL",
    "tab\there", "line\nbreak", "{a,b}", "0", "1", "01", "1.0", "-1", "x" * 60, "ı", "İ", "ß", "~", "\x01", "a-b", "(x)", "foo.bar",
]


def timestamp(rng, low_year=2009, high_year=2012):
    """A timestamp without zone, most of them in a few years, many around transitions."""
    if rng.random() < 0.3:
        base = rng.choice(TRANSITIONS)
        day, clock = base.split(" ")
        h, m, s = clock.split(":")
        # Steps of 30 minutes up to two hours on either side.
        total = int(h) * 60 + int(m) + rng.randrange(-4, 5) * 30
        total = min(max(total, 0), 1439)
        return f"{day} {total // 60:02}:{total % 60:02}:{s}"
    fraction = rng.choice(["", "", f".{rng.randrange(1_000_000):06}", ".5", ".999999"])
    return (f"{rng.randrange(low_year, high_year + 1)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02} "
            f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}{fraction}")


def odd_timestamp(rng):
    return rng.choice([
        "infinity", "-infinity", "0044-03-15 12:00:00 BC", "0001-01-01 00:00:00", "1969-12-31 23:59:59.999999",
        "1970-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "9999-12-31 23:59:59", "1883-11-18 12:00:00",
    ])


def date(rng):
    return timestamp(rng).split(" ")[0]


def odd_date(rng):
    return rng.choice(["infinity", "-infinity", "0044-03-15 BC", "1970-01-01", "1999-12-31", "2000-01-01", "9999-12-31"])


def text(rng):
    r = rng.random()
    if r < 0.45:
        return rng.choice(WORDS)
    if r < 0.75:
        return "".join(rng.choice("abcABC01 _%é") for _ in range(rng.randrange(1, 6)))
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randrange(3, 12)))


def unique_text(rng):
    return "".join(rng.choice(string.ascii_letters + string.digits + "é_%") for _ in range(rng.randrange(8, 20)))


def integer(kind):
    limit = INT_LIMITS[kind]

    def gen(rng):
        r = rng.random()
        if r < 0.5:
            return str(rng.randrange(-20, 100))
        if r < 0.8:
            return str(rng.randrange(-min(limit, 2_000_000), min(limit, 2_000_000)))
        if r < 0.9:
            return rng.choice(["0", "1", "-1", "127", "128", "255", "256", "-128"])
        return str(rng.randrange(-limit, limit))

    return gen


def odd_integer(kind):
    limit = INT_LIMITS[kind]
    return lambda rng: rng.choice([str(limit - 1), str(-limit), str(-limit + 1), "0", "1", "-1"])


def tame_float(rng):
    """Floats whose sums agree within 1e-9 in any order."""
    r = rng.random()
    if r < 0.3:
        return str(rng.randrange(-50, 50))
    if r < 0.6:
        return str(rng.randrange(-1000, 1000) / 8)
    return repr(rng.uniform(-1e4, 1e4))


def odd_float(rng):
    return rng.choice(["NaN", "Infinity", "-Infinity", "-0", "0", "1e-30", "-1e-30", "0.1"])


def wild_float(rng):
    """Floats that are compared and never summed: their sum depends on the order."""
    return rng.choice(["NaN", "Infinity", "-Infinity", "-0", "0", "5e-324", "1.7976931348623157e308", "-1.7976931348623157e308",
                       "1e30", "16777217", "0.1", "0.30000000000000004", repr(rng.uniform(-1, 1)), str(rng.randrange(-9, 9))])


def numeric(precision, scale):
    def gen(rng):
        digits = precision - scale
        whole = rng.choice([1, 2, digits, rng.randrange(digits + 1)]) if digits else 0
        whole = min(whole, digits)
        sign = rng.choice(["", "", "-"])
        head = str(rng.randrange(10 ** whole)) if whole else "0"
        if not scale:
            return sign + head
        shown = rng.choice([0, 1, scale, scale])
        tail = "".join(rng.choice("0123456789") for _ in range(min(shown, scale)))
        return f"{sign}{head}.{tail}" if tail else sign + head

    return gen


def odd_numeric(precision, scale):
    nines = "9" * (precision - scale) + ("." + "9" * scale if scale else "")
    nines = nines or "0"
    if nines.startswith("."):
        nines = "0" + nines
    return lambda rng: rng.choice(["NaN", "0", "-0.0", nines, "-" + nines, "0." + "0" * max(scale - 1, 0) + "1" if scale else "1"])


def free_numeric(rng):
    r = rng.random()
    if r < 0.5:
        return rng.choice(["1", "1.0", "1.00", "1.000", "0", "0.0", "-0.00", "10", "10.0", "1e1", "2.5", "2.50", "-1", "-1.0", "100", "100.00"])
    if r < 0.8:
        return numeric(12, rng.randrange(5))(rng)
    return numeric(60, rng.randrange(30))(rng)


def odd_free_numeric(rng):
    return rng.choice(["NaN", "Infinity", "-Infinity", "0", "0.000", "1e100", "-1e100", "1e-50", "123456789012345678901234567890.5"])


def uuid4(rng):
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def inet(rng):
    r = rng.random()
    if r < 0.4:
        return f"10.0.{rng.randrange(3)}.{rng.randrange(4)}" + rng.choice(["", "", "/24", "/16", "/32"])
    if r < 0.7:
        return f"192.168.{rng.randrange(256)}.{rng.randrange(256)}"
    return rng.choice(["::1", "fe80::1/64", "2001:db8::", "2001:db8::/32", "::ffff:10.0.0.1", "0.0.0.0/0"])


def cidr(rng):
    return rng.choice(["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24", "10.0.0.1", "::/0", "2001:db8::/32", f"10.{rng.randrange(256)}.0.0/16"])


def bytea(rng):
    return "\\x" + bytes(rng.choice([0, 1, 92, 39, 255, 65, rng.randrange(256)]) for _ in range(rng.randrange(6))).hex()


def jsonb(rng):
    return rng.choice([
        "1", "1.0", "1.00", "null", "true", '"a"', '"1"', "[]", "{}", "[1, 2]", "[1.0, 2]", '{"a": 1}', '{"a": 1.0}', '{"a": null}',
        '{"a": "x", "b": [1, {"c": 2}]}', '{"b": "é\\"q"}', f'{{"a": {rng.randrange(5)}}}', f'{{"a": "{rng.choice("xyz")}"}}', "[[], {}]",
    ])


def array_of(gen, quote=False):
    def element(rng):
        if rng.random() < 0.15:
            return "NULL"
        value = gen(rng)
        if not quote:
            return value
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def make(rng):
        return "{" + ",".join(element(rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))) + "}"

    return make


def interval(rng):
    return rng.choice([
        "1 day", "24 hours", "1 mon", "30 days", "720:00:00", "0", "-1 day", "1 year", "12 mons", "1 mon -30 days", "00:00:01",
        "1.5 secs", f"{rng.randrange(100)} hours", f"{rng.randrange(40)} days", "-00:00:00.000001",
    ])


def time(rng):
    return rng.choice(["00:00:00", "24:00:00", "12:00:00", "12:00:00.000001", f"{rng.randrange(24):02}:{rng.randrange(60):02}:00"])


def timetz(rng):
    return time(rng) + rng.choice(["+00", "+01", "-03:30", "+05:45"])


def macaddr(rng):
    return "08:00:2b:01:02:%02x" % rng.randrange(8 if rng.random() < 0.7 else 256)


def int_range(rng):
    low = rng.randrange(-5, 30)
    return rng.choice(["empty", "(,)", f"[{low},{low + rng.randrange(1, 20)})", f"[{low},)", f"(,{low}]"])


def bits(rng):
    return "".join(rng.choice("01") for _ in range(rng.randrange(7)))


def mood(rng):
    return rng.choice(["sad", "ok", "happy", "a b", "Ünder"])


def boolean(rng):
    return rng.choice(["t", "f"])


def money(rng):
    return f"{rng.randrange(-1000, 1000)}.{rng.randrange(100):02}"


def seeded(*parts):
    """A generator of random numbers that depends on all parts, equal in every run."""
    return random.Random("/".join(str(p) for p in parts))
