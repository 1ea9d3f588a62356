use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::rows::{ColumnData, ColumnRows};
use crate::types::{Column, ColumnId, LogicalType, Schema};

fn rows_of(types: &[LogicalType]) -> RowBuffer {
    let column = |(i, ty): (usize, &LogicalType)| Column { id: ColumnId(i as u32 + 1), ty: *ty, indexed: true };
    let columns = types.iter().enumerate().map(column).collect();
    RowBuffer::new(Arc::new(Schema { columns, time: None, cluster_by: Vec::new() }))
}

fn text_fields(count: usize) -> Vec<Field> {
    (0..count).map(|column| Field { column, parser: Parser::Text { most: None }, nullable: true }).collect()
}

fn csv(null: &[u8], carriage_return: bool) -> Dialect {
    Dialect { format: Format::Csv { quote: b'"', escape: b'"' }, delimiter: b',', null: null.to_vec(), carriage_return }
}

fn text() -> Dialect {
    Dialect { format: Format::Text, delimiter: b'\t', null: b"\\N".to_vec(), carriage_return: false }
}

fn value(column: &ColumnRows, row: usize) -> Value {
    if column.nulls.contains(&(row as u32)) {
        return Value::Null;
    }
    match &column.data {
        ColumnData::I64(v) => Value::I64(v[row]),
        ColumnData::I128(v) => Value::I128(v[row]),
        ColumnData::F64(v) => Value::F64(v[row]),
        ColumnData::Bytes { .. } => Value::Bytes(column.bytes(row).to_vec()),
    }
}

fn values(rows: &RowBuffer) -> Vec<Vec<Value>> {
    (0..rows.rows()).map(|row| rows.columns().iter().map(|column| value(column, row)).collect()).collect()
}

/// Rows of two text columns and what was taken.
fn read(dialect: Dialect, input: &[u8]) -> (Vec<Vec<Value>>, Taken) {
    let mut rows = rows_of(&[LogicalType::Text; 2]);
    let taken = Reader::new(dialect, text_fields(2), Vec::new()).read(input, &mut |_| None, &mut rows).unwrap();
    (values(&rows), taken)
}

/// The value of one text; `None`: in doubt. A time without a zone is two hours east.
fn parse(ty: LogicalType, length: Option<u32>, text: &str) -> Option<Value> {
    let mut rows = rows_of(&[ty]);
    let parser = Parser::of(ty, length).unwrap();
    let field = Field { column: 0, parser, nullable: true };
    let mut reader = Reader::new(csv(b"", false), vec![field], Vec::new());
    let zone = &mut |local| Some(local - 7_200_000_000);
    let taken = reader.read(format!("\"{text}\"\n").as_bytes(), zone, &mut rows).unwrap();
    assert_eq!(taken.doubtful, rows.is_empty());
    values(&rows).pop().map(|mut row| row.remove(0))
}

#[test]
fn csv_fields() {
    let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    let input = b"a,b\n,\"\"\n\"x,\"\"y\"\"\nz\",\"\\.\"\nlast,line";
    let (rows, taken) = read(csv(b"", false), input);
    let expected = [[bytes("a"), bytes("b")], [Value::Null, bytes("")], [bytes("x,\"y\"\nz"), bytes("\\.")]];
    assert_eq!(rows, expected);
    assert_eq!(taken, Taken { bytes: input.len() - 9, lines: 4, doubtful: false });
    let (rows, _) = read(csv(b"none", true), b"none,\"none\"\r\n\"a\r\nb\",c\r\n");
    assert_eq!(rows, [[Value::Null, bytes("none")], [bytes("a\r\nb"), bytes("c")]]);
}

#[test]
fn text_fields_with_escapes() {
    let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    let (rows, taken) = read(text(), b"\\N\t\\\\N\na\\\tb\\n\\q\\\\\t\xc3\xa4\\b\n");
    assert_eq!(rows, [[Value::Null, bytes("\\N")], [bytes("a\tb\nq\\"), bytes("\u{e4}\u{8}")]]);
    assert!(!taken.doubtful);
}

#[test]
fn lines_in_doubt_are_left() {
    let good = "a,b\n";
    for bad in ["a\n", "a,b,c\n", "\\.\n", "a\"x\",b\n", "\"a\"x,b\n", "a,b\r\n", "a\r,b\n", "\n"] {
        let (rows, taken) = read(csv(b"", false), format!("{good}{bad}{good}").as_bytes());
        assert_eq!((rows.len(), taken), (1, Taken { bytes: 4, lines: 1, doubtful: true }), "{bad:?}");
    }
    for bad in ["a,b\n", "a,\"b\"\n", "a,b\rc\r\n", "a,b\n\r\n"] {
        assert!(read(csv(b"", true), bad.as_bytes()).1.doubtful, "{bad:?}");
    }
    let backslash = Dialect { format: Format::Csv { quote: b'"', escape: b'\\' }, ..csv(b"", false) };
    for bad in ["\"a\\\"\",b\n", "\"a\\\\\",b\n", "\"a\"\"b\",b\n"] {
        assert!(read(backslash.clone(), bad.as_bytes()).1.doubtful, "{bad:?}");
    }
    assert_eq!(read(backslash, b"\\x,\"b\"\na\\,\"b\"\n").1.bytes, 0);
    for bad in ["a\\.\tb\n", "\\101\tb\n", "\\x41\tb\n", "a\\\nb\tc\n", "a\tb\rc\n", "a\n", "a\tb\tc\n"] {
        assert!(read(text(), bad.as_bytes()).1.doubtful, "{bad:?}");
    }
}

#[test]
fn nulls_may_be_left() {
    let mut fields = text_fields(2);
    fields[1].nullable = false;
    let mut rows = rows_of(&[LogicalType::Text, LogicalType::Text, LogicalType::Int4]);
    let mut reader = Reader::new(csv(b"", false), fields, vec![(2, Value::I64(7))]);
    let taken = reader.read(b",b\na,\n", &mut |_| None, &mut rows).unwrap();
    assert_eq!(taken, Taken { bytes: 3, lines: 1, doubtful: true });
    assert_eq!(values(&rows), [[Value::Null, Value::Bytes(b"b".to_vec()), Value::I64(7)]]);
}

#[test]
fn numbers() {
    use LogicalType::*;
    let integer = |ty, text: &str| parse(ty, None, text);
    assert_eq!(integer(Int2, "-32768"), Some(Value::I64(-32768)));
    assert_eq!(integer(Int4, "0007"), Some(Value::I64(7)));
    assert_eq!(integer(Int8, "-999999999999999999"), Some(Value::I64(-999_999_999_999_999_999)));
    for (ty, text) in
        [(Int2, "32768"), (Int4, "2147483648"), (Int4, "+1"), (Int4, " 1"), (Int4, "-"), (Int8, "1.0"), (Int8, "")]
    {
        assert_eq!(integer(ty, text), None, "{text}");
    }
    let numeric = |precision, scale, text: &str| parse(Numeric { precision, scale }, None, text);
    for (text, scaled) in
        [("1", 100), ("-0.00", 0), ("12.345", 1235), ("-12.345", -1235), ("12.3449999", 1234), ("99.994", 9999)]
    {
        assert_eq!(numeric(4, 2, text), Some(Value::I64(scaled)), "{text}");
        assert_eq!(numeric(38, 2, text), Some(Value::I128(i128::from(scaled))), "{text}");
    }
    for text in ["99.995", "100", "1e2", ".5", "5.", "NaN", "1.2.3", "", "-", "1234567890123456789"] {
        assert_eq!(numeric(4, 2, text), None, "{text}");
    }
    assert_eq!(numeric(18, 0, "999999999999999999"), Some(Value::I64(999_999_999_999_999_999)));
    assert_eq!(numeric(38, 19, "12.5"), Some(Value::I128(125 * 10i128.pow(18))));
    assert_eq!((numeric(38, 19, "12"), numeric(38, 30, "123456789.123456789123")), (None, None));
    for shown in ["0", "-1.10", "0.00", "100"] {
        assert_eq!(parse(NumericText, None, shown), Some(Value::Bytes(shown.as_bytes().to_vec())));
    }
    for other in ["00", "-0.0", "1.", ".1", "1e5", "+1", "-", ""] {
        assert_eq!(parse(NumericText, None, other), None, "{other}");
    }
}

#[test]
fn times() {
    use LogicalType::*;
    let day = 86_400_000_000;
    for (text, days) in
        [("2000-01-01", 0), ("1999-12-31", -1), ("2000-02-29", 59), ("0001-01-01", -730_119), ("9999-12-31", 2_921_939)]
    {
        assert_eq!(parse(Date, None, text), Some(Value::I64(days)), "{text}");
        assert_eq!(parse(Timestamp, None, text), Some(Value::I64(days * day)), "{text}");
    }
    for text in [
        "1900-02-29",
        "2000-13-01",
        "2000-00-01",
        "2000-01-00",
        "2000-04-31",
        "0000-01-01",
        "2000-1-01",
        "99-01-01",
        "infinity",
        "2000-01-01 BC",
    ] {
        assert_eq!(parse(Date, None, text), None, "{text}");
        assert_eq!(parse(Timestamp, None, text), None, "{text}");
    }
    let time = |text: &str| parse(Timestamp, None, text);
    assert_eq!(time("2000-01-02 03:04:05.25"), Some(Value::I64(day + 11_045_250_000)));
    assert_eq!(time("2000-01-01T00:00:00.000001"), Some(Value::I64(1)));
    for text in [
        "2000-01-01 24:00:00",
        "2000-01-01 00:60:00",
        "2000-01-01 00:00:60",
        "2000-01-01 00:00",
        "2000-01-01 00:00:00Z",
        "2000-01-01 00:00:00.1234567",
        "2000-01-01 00:00:00.",
        "2000-01-01 ",
    ] {
        assert_eq!(time(text), None, "{text}");
    }
    assert_eq!(parse(Timestamp, Some(2), "2000-01-01 00:00:00.123"), None);
    let zoned = |text: &str| parse(TimestampTz, None, text);
    assert_eq!(zoned("2000-01-01"), Some(Value::I64(-7_200_000_000)));
    assert_eq!(zoned("2000-01-01 02:00:00"), Some(Value::I64(0)));
    assert_eq!(zoned("2000-01-01 00:00:00Z"), Some(Value::I64(0)));
    assert_eq!(zoned("2000-01-01 00:00:00.5-05:30"), Some(Value::I64(19_800_500_000)));
    assert_eq!(zoned("2000-01-01 00:00:00+02"), Some(Value::I64(-7_200_000_000)));
    for text in [
        "2000-01-01 00:00:00+15:00",
        "2000-01-01 00:00:00 +02",
        "2000-01-01 00:00:00 UTC",
        "2000-01-01 00:00:00+02:60",
        "2000-01-01 00:00:00+0200",
    ] {
        assert_eq!(zoned(text), None, "{text}");
    }
}

#[test]
fn bytes() {
    use LogicalType::*;
    let some = |bytes: &[u8]| Some(Value::Bytes(bytes.to_vec()));
    assert_eq!(parse(Text, Some(2), "\u{e4}\u{e4}"), some("\u{e4}\u{e4}".as_bytes()));
    assert_eq!(parse(Text, Some(2), "abc"), None);
    assert_eq!(parse(BpChar, Some(3), "\u{e4}"), some("\u{e4}  ".as_bytes()));
    assert_eq!(parse(BpChar, Some(3), "abcd"), None);
    assert_eq!(
        parse(Uuid, None, "00112233-4455-6677-8899-aabbccddeeFF"),
        some(&[0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff])
    );
    assert_eq!(parse(Uuid, None, "00112233445566778899aabbccddeeff"), None);
    assert_eq!(parse(Uuid, None, "00112233-4455-6677-8899-aabbccddee-f"), None);
    assert_eq!(parse(Bytea, None, "\\x00fF"), some(&[0, 255]));
    assert_eq!(parse(Bytea, None, "\\x0"), None);
    assert_eq!(parse(Inet, None, "10.0.255.1"), some(b"10.0.255.1"));
    for text in ["10.0.0.256", "10.0.0", "10.0.0.01", "10.0.0.1/8", "::1", "1.2.3.4.5", "1..2.3"] {
        assert_eq!(parse(Inet, None, text), None, "{text}");
    }
    assert_eq!((parse(Bool, None, "t"), parse(Bool, None, "0")), (Some(Value::I64(1)), Some(Value::I64(0))));
    assert_eq!(parse(Bool, None, "yes"), None);
}

/// What a line means, byte by byte: its fields, `None` for NULL, and where the next line begins. `None`: an error, or no whole line.
type Divided = (Vec<Option<Vec<u8>>>, usize);

fn divide_slowly(dialect: &Dialect, input: &[u8]) -> Option<Divided> {
    let (mut fields, mut field, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let (mut quoted, mut ever_quoted, mut at) = (false, false, 0);
    let csv = matches!(dialect.format, Format::Csv { .. });
    loop {
        let byte = *input.get(at)?;
        at += 1;
        let ends = !quoted && byte == b'\n';
        if !quoted && (ends || byte == dialect.delimiter) {
            let null = !ever_quoted && raw == dialect.null;
            fields.push((!null).then(|| std::mem::take(&mut field)));
            (field, raw, ever_quoted) = (Vec::new(), Vec::new(), false);
            if ends {
                return Some((fields, at));
            }
            continue;
        }
        if !quoted && byte == b'\r' {
            return None;
        }
        raw.push(byte);
        if csv && byte == b'"' {
            if quoted && input.get(at) == Some(&b'"') {
                field.push(b'"');
                at += 1;
            } else {
                quoted = !quoted;
                ever_quoted = true;
            }
        } else if !csv && byte == b'\\' {
            let next = *input.get(at)?;
            at += 1;
            raw.push(next);
            match next {
                b'.' | b'0'..=b'7' | b'x' => return None,
                b'n' => field.push(b'\n'),
                b't' => field.push(b'\t'),
                b'b' => field.push(8),
                other => field.push(other),
            }
        } else {
            field.push(byte);
        }
    }
}

fn alphabet(csv: bool) -> impl Strategy<Value = Vec<u8>> {
    let common = if csv { b",,,\n\"\"\"abN\\\r.".to_vec() } else { b"\t\t\t\n\n\\\\abNnt\r.1".to_vec() };
    let byte = proptest::sample::select(common);
    proptest::collection::vec(prop_oneof![8 => byte, 2 => Just(b'q')], 0..300)
}

fn agrees(dialect: Dialect, input: &[u8]) {
    let (rows, taken) = read(dialect.clone(), input);
    let mut at = 0;
    for row in &rows {
        let (fields, next) = divide_slowly(&dialect, &input[at..]).expect("a line that was taken");
        let meant: Vec<Value> = fields.into_iter().map(|f| f.map_or(Value::Null, Value::Bytes)).collect();
        assert_eq!(*row, meant);
        at += next;
    }
    assert_eq!(at, taken.bytes);
    assert_eq!(taken.lines, input[..at].iter().filter(|byte| **byte == b'\n').count() as u64);
    if !taken.doubtful {
        // Nothing whole is left, whatever it means.
        assert!(divide_slowly(&dialect, &input[at..]).is_none());
    }
}

proptest! {
    #[test]
    fn csv_is_divided_as_byte_by_byte(input in alphabet(true)) {
        agrees(csv(b"", false), &input);
    }

    #[test]
    fn text_is_divided_as_byte_by_byte(input in alphabet(false)) {
        agrees(text(), &input);
    }

    /// Rows do not depend on where the input is cut.
    #[test]
    fn pieces_of_an_input(lines in proptest::collection::vec(("[a-z]{0,90}", "(\"([a-z,\n]|\"\"){0,80}\")?"), 1..200), step in 1usize..6000) {
        let input: String = lines.iter().map(|(a, b)| format!("{a},{b}\n")).collect();
        let (whole, _) = read(csv(b"", false), input.as_bytes());
        prop_assert_eq!(whole.len(), lines.len());
        let mut rows = rows_of(&[LogicalType::Text; 2]);
        let mut reader = Reader::new(csv(b"", false), text_fields(2), Vec::new());
        let (mut start, mut end) = (0, 0);
        while end < input.len() {
            end = input.len().min(end + step);
            let taken = reader.read(&input.as_bytes()[start..end], &mut |_| None, &mut rows).unwrap();
            prop_assert!(!taken.doubtful);
            start += taken.bytes;
        }
        prop_assert_eq!(values(&rows), whole);
    }

    /// Floats are those of strtod and strtof, to the bit.
    #[test]
    fn floats(text in "-?[0-9]{1,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let c = std::ffi::CString::new(text.clone()).unwrap();
        // SAFETY: C strings; the second argument may be null.
        let (double, single) = unsafe { (libc::strtod(c.as_ptr(), std::ptr::null_mut()), libc::strtof(c.as_ptr(), std::ptr::null_mut())) };
        for (ty, expected) in [(LogicalType::Float8, double), (LogicalType::Float4, f64::from(single))] {
            match parse(ty, None, &text) {
                Some(Value::F64(value)) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
                other => {
                    prop_assert_eq!(other, None);
                    prop_assert!(!expected.is_finite() || expected.abs() < f64::from(f32::MIN_POSITIVE), "{} is in doubt", text);
                }
            }
        }
    }

    /// Any text has a value or is in doubt.
    #[test]
    fn texts_of_any_kind(text in "[0-9.:+eETZ x\\\\abnN/\u{e4}-]{0,40}", length in proptest::option::of(0u32..7)) {
        use LogicalType::*;
        let numeric = |precision, scale| Numeric { precision, scale };
        let numerics = [numeric(1, 0), numeric(1, 1), numeric(18, 18), numeric(19, 0), numeric(38, 38), numeric(38, 0)];
        let others = [Bool, Int2, Int4, Int8, Float4, Float8, Date, Timestamp, TimestampTz, Text, BpChar, Uuid, Inet, Bytea];
        for ty in numerics.into_iter().chain(others) {
            parse(ty, length, &text);
        }
        parse(NumericText, None, &text);
    }

    #[test]
    fn dates(day in -730_119i64..2_921_939) {
        let (y, m, d) = crate::calendar::civil(day);
        prop_assert_eq!(parse(LogicalType::Date, None, &format!("{y:04}-{m:02}-{d:02}")), Some(Value::I64(day)));
    }
}
