//! Rows like those of TPC-H's lineitem: generated, or read from a CSV file of its sixteen columns.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use basalt_engine::Result;
use basalt_engine::delimited::{Dialect, Field, Format, Parser, Reader};
use basalt_engine::rows::{ColumnData, RowBuffer};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema};

pub const NAMES: [&str; 16] = [
    "orderkey",
    "partkey",
    "suppkey",
    "linenumber",
    "quantity",
    "extendedprice",
    "discount",
    "tax",
    "returnflag",
    "linestatus",
    "shipdate",
    "commitdate",
    "receiptdate",
    "shipinstruct",
    "shipmode",
    "comment",
];

pub fn types() -> [LogicalType; 16] {
    use LogicalType::*;
    let money = Numeric { precision: 15, scale: 2 };
    [Int8, Int8, Int8, Int4, money, money, money, money, Text, Text, Date, Date, Date, Text, Text, Text]
}

/// [`types`], and behind them `extendedprice` as a float.
#[allow(dead_code)] // Not every benchmark asks for it.
pub fn types_and_price() -> Vec<LogicalType> {
    types().into_iter().chain([LogicalType::Float8]).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n
    }
}

const WORDS: [&str; 24] = [
    "special",
    "requests",
    "packages",
    "deposits",
    "accounts",
    "foxes",
    "ideas",
    "theodolites",
    "furiously",
    "carefully",
    "quickly",
    "slyly",
    "blithely",
    "final",
    "regular",
    "express",
    "bold",
    "even",
    "silent",
    "pending",
    "sleep",
    "haggle",
    "nag",
    "cajole",
];

pub fn schema(types: &[LogicalType], indexed: bool) -> Arc<Schema> {
    let columns = types.iter().enumerate();
    let columns = columns.map(|(i, ty)| Column { id: ColumnId(i as u32 + 1), ty: *ty, indexed }).collect();
    Arc::new(Schema { columns, time: types.iter().position(|ty| ty.is_time()), cluster_by: Vec::new() })
}

/// Takes rows.
pub type Give<'a> = &'a mut dyn FnMut(RowBuffer) -> Result<()>;

/// Rows with lineitem's columns and about its distributions.
pub fn generate(schema: &Arc<Schema>, rows: usize, give: Give) -> Result<()> {
    let mut r = Random(42);
    let mut done = 0;
    while done < rows {
        let mut buffer = RowBuffer::new(schema.clone());
        for row in done..rows.min(done + 100_000) {
            let order = row as u64 / 4;
            let part = r.below(200_000) + 1;
            let quantity = r.below(50) + 1;
            let shipped = -2900 + r.below(2500) as i64;
            let numbers = [
                (order * 4) as i64,
                part as i64,
                (r.below(10_000) + 1) as i64,
                row as i64 % 4 + 1,
                quantity as i64 * 100,
                (quantity * (90_000 + part % 20_000 * 5)) as i64,
                r.below(11) as i64,
                r.below(9) as i64,
            ];
            for (c, v) in numbers.iter().enumerate() {
                buffer.push_i64(c, *v)?;
            }
            buffer.push_bytes(8, &b"ANNR"[r.below(4) as usize..][..1])?;
            buffer.push_bytes(9, if shipped > -1700 { b"O" } else { b"F" })?;
            buffer.push_i64(10, shipped)?;
            buffer.push_i64(11, shipped + r.below(60) as i64 - 30)?;
            buffer.push_i64(12, shipped + r.below(30) as i64 + 1)?;
            let instruct: [&[u8]; 4] = [b"DELIVER IN PERSON", b"COLLECT COD", b"NONE", b"TAKE BACK RETURN"];
            buffer.push_bytes(13, instruct[r.below(4) as usize])?;
            let mode: [&[u8]; 7] = [b"REG AIR", b"AIR", b"RAIL", b"SHIP", b"TRUCK", b"MAIL", b"FOB"];
            buffer.push_bytes(14, mode[r.below(7) as usize])?;
            let mut comment = String::new();
            for _ in 0..3 + r.below(3) {
                comment.push_str(WORDS[r.below(24) as usize]);
                comment.push(' ');
            }
            comment.truncate(10 + r.below(33) as usize);
            buffer.push_bytes(15, comment.as_bytes())?;
            if schema.columns.len() > NAMES.len() {
                buffer.push_f64(NAMES.len(), numbers[5] as f64 / 100.0)?;
            }
            buffer.finish_row()?;
        }
        done += buffer.rows();
        give(buffer)?;
    }
    Ok(())
}

#[allow(dead_code)] // Not every benchmark asks for it.
/// Days since 2000-01-01 of 1 January.
pub fn year(y: i64) -> i64 {
    (y - 2000) * 365 + (y - 2000 + 3).div_euclid(4)
}

/// The first `rows` rows of a CSV file with columns of the schema's types. A float at the end is no column of the file: it is the sixth
/// column's number.
pub fn load(path: &str, schema: &Arc<Schema>, rows: usize, give: Give) -> Result<()> {
    let derived = schema.columns.last().is_some_and(|c| c.ty == LogicalType::Float8);
    let columns = schema.columns[..schema.columns.len() - usize::from(derived)].to_vec();
    let stored = Arc::new(Schema { columns, ..Schema::clone(schema) });
    let fields = |(column, c): (usize, &Column)| Field {
        column,
        parser: Parser::of(c.ty, None).expect("a parser for each type"),
        nullable: true,
    };
    let format = Format::Csv { quote: b'"', escape: b'"' };
    let dialect = Dialect { format, delimiter: b',', null: Vec::new(), carriage_return: false };
    let mut reader = Reader::new(dialect, stored.columns.iter().enumerate().map(fields).collect(), Vec::new());
    let (mut file, mut input, mut left) = (File::open(path)?, Vec::new(), rows);
    while left > 0 {
        let read = (&mut file).take(1 << 16).read_to_end(&mut input)?;
        let mut buffer = RowBuffer::new(stored.clone());
        let taken = reader.read(&input, &mut |_| None, &mut buffer)?;
        assert!(!taken.doubtful, "a line of {path} is in doubt");
        input.drain(..taken.bytes);
        buffer.truncate(left);
        left -= buffer.rows();
        give(if derived { with_price(buffer, schema)? } else { buffer })?;
        if read == 0 {
            break;
        }
    }
    Ok(())
}

fn with_price(rows: RowBuffer, schema: &Arc<Schema>) -> Result<RowBuffer> {
    let mut wider = RowBuffer::new(schema.clone());
    for row in 0..rows.rows() {
        for (position, column) in rows.columns().iter().enumerate() {
            match &column.data {
                ColumnData::I64(values) => wider.push_i64(position, values[row])?,
                _ => wider.push_bytes(position, column.bytes(row))?,
            }
            if let (5, ColumnData::I64(values)) = (position, &column.data) {
                wider.push_f64(rows.columns().len(), values[row] as f64 / 100.0)?;
            }
        }
        wider.finish_row()?;
    }
    Ok(wider)
}
