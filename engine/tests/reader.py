"""An independent reader of segment files, written from docs/segment-format.md alone.

python3 reader.py FILE checks every checksum, decodes every value, compares indexes with values, and prints
a summary as JSON; with a second argument, only the numbers of what the file uses. Standard library only; it is a test of the document, not made for speed.
"""

import json
import struct
import sys


USED = {"encodings": set(), "validities": set(), "indexes": set(), "symbols": set(), "widths": set()}


class Damaged(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damaged(what)


# --- section 1: conventions -------------------------------------------------------------------------


def crc_table():
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


CRC_TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    table = CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class Input:
    def __init__(self, data):
        self.data = bytes(data)
        self.at = 0

    def take(self, length):
        need(self.at + length <= len(self.data), "it ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def u8(self):
        return self.number("B")

    def u32(self):
        return self.number("I")

    def f64_bits(self):
        return self.number("Q")

    def varint(self, bits=64):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            need(value < 1 << bits, "a number overflows")
            if byte < 0x80:
                return value
            shift += 7

    def zigzag(self, bits=64):
        value = self.varint(bits)
        return (value >> 1) ^ -(value & 1)

    def end(self, what):
        need(self.at == len(self.data), what + ": bytes left over")


def signed(value, bits=64):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# --- section 6: blocks ------------------------------------------------------------------------------


def unpack(source, width, count):
    need(width <= 64, "a width")
    USED["widths"].add(width)
    if width == 0:
        return [0] * count
    values = []
    mask = (1 << width) - 1
    for _ in range(count // 1024):
        group = source.take(128 * width)
        word_bits = 32 if width <= 32 else 64
        lanes = 1024 // word_bits
        words = struct.unpack("<%d%s" % (width * lanes, "I" if word_bits == 32 else "Q"), group)
        # A lane is one long number: its words from row 0 up, lowest first.
        lane_bits = []
        for lane in range(lanes):
            number = 0
            for row in range(width):
                number |= words[row * lanes + lane] << (row * word_bits)
            lane_bits.append(number)
        for i in range(1024):
            values.append((lane_bits[i % lanes] >> (width * (i // lanes))) & mask)
    tail = count % 1024
    stream = int.from_bytes(source.take((tail * width + 7) // 8), "little")
    for i in range(tail):
        values.append((stream >> (width * i)) & mask)
    need(stream >> (width * tail) == 0, "bits behind the tail")
    return values


def packed(source, count):
    base, scale, width = source.zigzag(), source.varint(), source.u8()
    need(scale >= 1, "a scale")
    return [signed(base + scale * v) for v in unpack(source, width, count)]


def patched(source, count):
    exceptions = source.varint()
    positions = struct.unpack("<%dH" % exceptions, source.take(2 * exceptions))
    need(all(a < b for a, b in zip(positions, positions[1:])), "positions of exceptions")
    outside = packed(source, exceptions)
    values = packed(source, count)
    for position, value in zip(positions, outside):
        values[position] = value
    return values


def integers(encoding, source, rows):
    if encoding == 1:
        return [source.zigzag()] * rows
    if encoding == 2:
        runs = source.varint()
        lengths = [length + 1 for length in unpack(source, source.u8(), runs)]
        need(sum(lengths) == rows, "runs")
        return [v for value, length in zip(packed(source, runs), lengths) for v in [value] * length]
    if encoding == 3:
        return packed(source, rows)
    if encoding == 10:
        return patched(source, rows)
    if encoding == 12:
        table = packed(source, source.varint())
        need(1 <= len(table) <= 65536 and all(a < b for a, b in zip(table, table[1:])), "a table of values")
        return [table[number] for number in unpack(source, (len(table) - 1).bit_length(), rows)]
    need(encoding in (4, 11), "encoding %d" % encoding)
    values = [source.zigzag()]
    for difference in (packed if encoding == 4 else patched)(source, rows - 1):
        values.append(signed(values[-1] + difference))
    return values


def ints(source, rows):
    encoding = source.u8()
    USED["encodings"].add(encoding)
    return integers(encoding, source, rows)


def wide(encoding, source, rows):
    if encoding == 1:
        return [source.zigzag(128)] * rows
    if encoding != 5:
        return integers(encoding, source, rows)
    base, width = source.zigzag(128), source.u8()
    low = unpack(source, min(width, 64), rows)
    high = unpack(source, max(width - 64, 0), rows)
    return [signed(base + lo + (hi << 64), 128) for lo, hi in zip(low, high)]


def lz4(data, length):
    """The LZ4 block format: sequences of a token, literals, an offset, a match."""
    out = bytearray()
    source = Input(data)

    def extended(first):
        total = first
        while first == 15:
            more = source.u8()
            total += more
            if more != 255:
                break
        return total

    while True:
        token = source.u8()
        out += source.take(extended(token >> 4))
        if source.at == len(source.data):
            break
        offset = source.number("H")
        need(0 < offset <= len(out), "an LZ4 offset")
        for _ in range(extended(token & 15) + 4):
            out.append(out[-offset])
    need(len(out) == length, "an LZ4 block's length")
    return bytes(out)


def float_bits(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def floats(encoding, source, rows):
    """Floats as their bits, so that NaN and -0.0 compare."""
    if encoding == 1:
        return [source.f64_bits()] * rows
    if encoding == 6:
        return list(struct.unpack("<%dQ" % rows, source.take(8 * rows)))
    if encoding == 7:
        return list(struct.unpack("<%dQ" % rows, lz4(source.rest(), 8 * rows)))
    if encoding == 8:
        return [float_bits(v) for v in struct.unpack("<%df" % rows, source.take(4 * rows))]
    need(encoding == 9, "encoding %d" % encoding)
    power = float(10 ** source.u8())
    count = source.varint()
    positions = struct.unpack("<%dH" % count, source.take(2 * count))
    exceptions = struct.unpack("<%dQ" % count, source.take(8 * count))
    values = [float_bits(float(v) / power) for v in ints(source, rows)]
    for position, bits in zip(positions, exceptions):
        values[position] = bits
    return values


def strings(encoding, source, rows):
    if encoding == 1:
        return [source.rest()] * rows
    lengths = ints(source, rows)
    need(encoding in (6, 7), "encoding %d" % encoding)
    data = source.rest() if encoding == 6 else lz4(source.rest(), sum(lengths))
    values, at = [], 0
    for length in lengths:
        values.append(data[at : at + length])
        at += length
    need(at == len(data), "lengths of values")
    return values


def null_rows(validity, source, rows, nulls):
    if validity == 0:
        found = set()
    elif validity == 1:
        found = set(range(rows))
    elif validity == 2:
        words = (rows + 63) // 64
        bits = int.from_bytes(source.take(8 * words), "little")
        need(bits >> rows == 0, "validity bits behind the rows")
        found = {row for row in range(rows) if not bits >> row & 1}
    else:
        need(validity == 3, "validity %d" % validity)
        found = set(struct.unpack("<%dH" % nulls, source.take(2 * nulls)))
    need(len(found) == nulls, "NULLs of a block")
    return found


def roaring(data):
    source = Input(data)
    cookie = source.u32()
    if cookie & 0xFFFF == 12347:
        count = (cookie >> 16) + 1
        flags = int.from_bytes(source.take((count + 7) // 8), "little")
        offsets = count >= 4
    else:
        need(cookie == 12346, "a bitmap's cookie")
        count = source.u32()
        flags, offsets = 0, True
    headers = [(source.number("H"), source.number("H") + 1) for _ in range(count)]
    if offsets:
        source.take(4 * count)
    rows = []
    for i, (key, cardinality) in enumerate(headers):
        high = key << 16
        if flags >> i & 1:
            for _ in range(source.number("H")):
                start, length = source.number("H"), source.number("H")
                rows.extend(range(high + start, high + start + length + 1))
        elif cardinality <= 4096:
            rows.extend(high + low for low in struct.unpack("<%dH" % cardinality, source.take(2 * cardinality)))
        else:
            bits = int.from_bytes(source.take(8192), "little")
            rows.extend(high + low for low, bit in enumerate(bin(bits)[:1:-1]) if bit == "1")
    source.end("a bitmap")
    return rows


# --- sections 2 to 5 and 7: the file ----------------------------------------------------------------


class Parts:
    """The parts of a column's range, one after the other."""

    def __init__(self, data):
        self.source = Input(data)

    def next(self, length, crc, what):
        part = self.source.take(length)
        need(crc32c(part) == crc, what + ": wrong checksum")
        return Input(part)


def read_value(source):
    tag = source.u8()
    if tag == 0:
        return "NULL"
    if tag == 1:
        return str(source.zigzag())
    if tag == 2:
        return str(source.zigzag(128))
    if tag == 3:
        return "%016x" % source.f64_bits()
    need(tag == 4, "a value")
    return source.take(source.varint()).hex()


def statistics(data):
    need(crc32c(data[:-4]) == struct.unpack("<I", data[-4:])[0], "statistics: wrong checksum")
    source = Input(data[:-4])
    need(source.u8() == 1, "statistics' version")
    rows = source.varint()
    time = [source.zigzag(), source.zigzag()] if source.u8() else None
    columns = []
    for _ in range(source.varint()):
        ident, nulls, distinct = source.varint(), source.varint(), source.varint()
        low, high = read_value(source), read_value(source)
        columns.append({"id": ident, "nulls": nulls, "distinct": distinct, "min": low, "max": high})
    source.end("statistics")
    return rows, time, columns


def footer(data):
    need(data[:8] == b"\x89BSLT\r\n\x1a", "not a segment file")
    head = Input(data[8:24])
    major, _minor, features, crc = head.number("H"), head.number("H"), head.number("Q"), head.u32()
    need(crc == crc32c(data[:20]), "the header: wrong checksum")
    need(major == 1 and features == 0, "an unknown version or feature")
    trailer = data[-32:]
    offset, length, crc, file_length, trailer_crc = struct.unpack("<QIIQI", trailer[:28])
    need(trailer[28:] == b"BSLT" and trailer_crc == crc32c(trailer[:24]), "the trailer")
    need(file_length == len(data) and offset + length == len(data) - 32, "the place of the footer")
    body = data[offset : offset + length]
    need(crc == crc32c(body), "the footer: wrong checksum")
    source = Input(body)
    rows = source.varint()
    need(source.u8() == 16, "the size of blocks")
    columns = []
    for _ in range(source.varint()):
        column = {"id": source.varint(), "type": source.u8()}
        column["precision"], column["scale"], flags, column["kind"] = (source.u8() for _ in range(4))
        column["indexed"] = bool(flags & 1)
        for name, read in (("offset", source.varint), ("length", source.varint), ("crc", source.u32)):
            column[name] = read()
        column["meta_length"], column["meta_crc"] = source.varint(), source.u32()
        columns.append(column)
    cluster_by = [source.varint() for _ in range(source.varint())]
    time = source.varint()
    kept = statistics(source.take(source.varint()))
    need(source.varint() == 0, "sections")
    source.end("the footer")
    order = cluster_by + ([time - 1] if time else [])
    return rows, columns, order, kept


def symbols(data):
    """The table of a section: byte strings by code; None: values are not compressed."""
    source = Input(data)
    table = [source.take(source.u8()) for _ in range(source.u8())]
    source.end("a table of symbols")
    need(all(1 <= len(symbol) <= 8 for symbol in table), "a symbol")
    return table or None


def decompressed(codes, table):
    if table is None:
        return codes
    source, out = Input(codes), b""
    while source.at < len(codes):
        code = source.u8()
        need(code == 255 or code < len(table), "a symbol's code")
        out += source.take(1) if code == 255 else table[code]
    return out


def dictionary(meta, parts):
    need(meta.u8() == 1, "the dictionary's layout")
    count = meta.varint()
    values, chunks_left = [], 0
    for first in range(0, count, 1024):
        if chunks_left == 0:
            chunks_left = meta.varint()
            need(chunks_left > 0, "a section")
            table = symbols(parts.next(meta.varint(), meta.u32(), "a table of symbols").data)
            USED["symbols"].add(len(table or []) > 0)
        chunks_left -= 1
        chunk = parts.next(meta.varint(), meta.u32(), "a dictionary").data
        in_chunk = min(count - first, 1024)
        groups = (in_chunk + 15) // 16
        starts = list(struct.unpack("<%dI" % groups, chunk[: 4 * groups])) + [len(chunk)]
        need(starts[0] == 4 * groups, "the first group's place")
        for group in range(groups):
            source, value = Input(chunk[starts[group] : starts[group + 1]]), b""
            for _ in range(min(in_chunk - group * 16, 16)):
                token = source.u8()
                shared = token >> 3 if token >> 3 < 31 else 31 + source.varint()
                rest = token & 7 if token & 7 < 7 else 7 + source.varint()
                need(shared <= len(value), "a shared prefix")
                value = value[:shared] + decompressed(source.take(rest), table)
                values.append(value)
            source.end("a group")
    need(chunks_left == 0, "a section")
    need(all(a < b for a, b in zip(values, values[1:])), "a dictionary out of order")
    return values


def index(meta, parts, values, rows):
    """Blocks by code, None where a code has no list, and rows by code with a bitmap; None: no index."""
    layout = meta.u8()
    USED["indexes"].add(layout)
    if layout == 0:
        return None
    need(layout in (1, 2), "the index's layout")
    blocks = (rows + 65535) // 65536
    width = blocks.bit_length() + 1
    found = []
    for first in range(0, values, 1024):
        codes = min(values - first, 1024)
        entries = meta.varint()
        if entries == 0:
            found += [None] * codes
            continue
        size = entries // 1024 * 128 * width + (entries % 1024 * width + 7) // 8
        chunk, blocks_of_code = [], []
        for entry in unpack(parts.next(size, meta.u32(), "an index"), width, entries):
            blocks_of_code.append(entry >> 1)
            if entry & 1:
                chunk.append(None if blocks_of_code == [blocks] else blocks_of_code)
                blocks_of_code = []
        need(len(chunk) == codes and not blocks_of_code, "lists of a chunk")
        found += chunk
    rows_of_code, code = {}, -1
    for _ in range(meta.varint() if layout == 2 else 0):
        code += 1 + meta.varint()
        count = meta.varint()
        rows_of_code[code] = roaring(parts.next(meta.varint(), meta.u32(), "a bitmap").data)
        need(code < values and len(rows_of_code[code]) == count, "a bitmap's code and count")
    return found, rows_of_code


NUMERIC_NAN = {1: (1 << 63) - 1, 2: (1 << 127) - 1}


def check_block(column, flags, low, high, total, known):
    """The header's bounds and sum against the values that are not NULL."""
    need(bool(flags & 1) or not known or column["kind"] == 5, "a block without bounds")
    if flags & 1:
        if column["kind"] == 3:
            order = lambda bits: bits if bits < 1 << 63 else (1 << 63) - 1 - bits
            known = sorted(known, key=order)
            need((known[0], known[-1]) == (low, high), "bounds of a block")
        else:
            need((min(known), max(known)) == (low, high), "bounds of a block")
    if flags & 2:
        need(sum(known) == total, "the sum of a block")
    elif column["kind"] in (1, 2) and known and column["type"] not in (8, 9, 10):
        nan = column["type"] == 7 and max(known) == NUMERIC_NAN[column["kind"]]
        need(nan or not -(1 << 127) <= sum(known) < 1 << 127, "a block without its sum")


def read_column(data, column, rows):
    """The values of a column: None, integers, floats' bits, or bytes."""
    whole = data[column["offset"] : column["offset"] + column["length"]]
    need(crc32c(whole) == column["crc"], "a column: wrong checksum")
    meta_start = column["length"] - column["meta_length"]
    need(crc32c(whole[meta_start:]) == column["meta_crc"], "metadata: wrong checksum")
    meta, parts = Input(whole[meta_start:]), Parts(whole[:meta_start])
    kind = column["kind"]
    words = dictionary(meta, parts) if kind == 4 else None
    decode = {1: integers, 2: wide, 3: floats, 4: integers, 5: strings}[kind]
    bound = {
        1: meta.zigzag,
        2: lambda: meta.zigzag(128),
        3: meta.f64_bits,
        4: meta.varint,
        5: lambda: meta.take(meta.varint()),
    }[kind]
    values = []
    for first in range(0, rows, 65536):
        block_rows = min(rows - first, 65536)
        encoding, validity, flags, nulls = meta.u8(), meta.u8(), meta.u8(), meta.varint()
        USED["encodings"].add(encoding)
        USED["validities"].add(validity)
        body = parts.next(meta.varint(), meta.u32(), "a block")
        low, high = (bound(), bound()) if flags & 1 else (None, None)
        total = meta.zigzag(128) if flags & 2 else None
        if kind == 4:
            block = [None if code == len(words) else code for code in decode(encoding, body, block_rows)]
            need(block.count(None) == nulls, "NULLs of a block")
        else:
            missing = null_rows(validity, body, block_rows, nulls)
            block = [None] * block_rows
            if encoding != 0:
                block = [None if i in missing else v for i, v in enumerate(decode(encoding, body, block_rows))]
        body.end("a block")
        check_block(column, flags, low, high, total, [v for v in block if v is not None])
        values += block
    if kind == 4:
        by_code = index(meta, parts, len(words), rows)
        if by_code is not None:
            expected = [[] for _ in words]
            for row, code in enumerate(values):
                if code is not None:
                    expected[code].append(row)
            for found, of_code in zip(by_code[0], expected, strict=True):
                need(found is None or found == sorted({row // 65536 for row in of_code}), "an index that differs from the codes")
            for code, found in by_code[1].items():
                need(found == expected[code], "a bitmap that differs from the codes")
        values = [None if code is None else words[code] for code in values]
    meta.end("metadata")
    parts.source.end("a column's parts")
    return values


def line(kind, value):
    if value is None:
        return "NULL"
    if kind == 3:
        return "%016x" % value
    return value.hex() if kind in (4, 5) else str(value)


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    rows, columns, order, (kept_rows, time, kept) = footer(data)
    need(kept_rows == rows, "rows of the statistics")
    all_values, summaries = [], []
    for column, statistic in zip(columns, kept, strict=True):
        values = read_column(data, column, rows)
        need(column["id"] == statistic["id"] and values.count(None) == statistic["nulls"], "statistics of a column")
        lines = [line(column["kind"], value) for value in values]
        crc = crc32c("\n".join(lines).encode())
        summaries.append({**statistic, "kind": column["kind"], "first": lines[:8], "crc": crc})
        all_values.append(values)
    keys = list(zip(*([(v is None, v or 0) for v in all_values[position]] for position in order)))
    need(keys == sorted(keys), "rows out of order")
    if len(sys.argv) > 2:
        json.dump({what: sorted(numbers) for what, numbers in USED.items()}, sys.stdout)
        return
    json.dump({"rows": rows, "time": time, "columns": summaries}, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except Damaged as damage:
        sys.exit("damaged segment: %s" % damage)
