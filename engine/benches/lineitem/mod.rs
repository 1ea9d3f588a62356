//! Rows like those of TPC-H's lineitem: generated, or read from a CSV file of its sixteen columns.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use basalt_engine::Result;
use basalt_engine::rows::RowBuffer;
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

/// Days since 2000-01-01 of 1 January.
pub fn year(y: i64) -> i64 {
    (y - 2000) * 365 + (y - 2000 + 3).div_euclid(4)
}

/// Fields of a line; a field in quotation marks may hold commas.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

/// The first `rows` rows of a CSV file with columns of the schema's types: integers, numerics of one scale, dates, timestamps, text. A float
/// is no column of the file.
pub fn load(path: &str, schema: &Arc<Schema>, rows: usize, give: Give) -> Result<()> {
    let mut buffer = RowBuffer::new(schema.clone());
    for line in BufReader::new(File::open(path)?).lines().take(rows) {
        let line = line?;
        let fields = fields(&line);
        for (c, (field, column)) in fields.iter().zip(&schema.columns).enumerate() {
            match column.ty {
                LogicalType::Text => buffer.push_bytes(c, field.as_bytes())?,
                LogicalType::Date => buffer.push_i64(c, day(field))?,
                LogicalType::Timestamp => {
                    let part = |r: std::ops::Range<usize>| field[r].parse::<i64>().unwrap();
                    let seconds = (part(11..13) * 60 + part(14..16)) * 60 + part(17..19);
                    buffer.push_i64(c, (day(field) * 86_400 + seconds) * 1_000_000)?;
                }
                _ => buffer.push_i64(c, field.replace('.', "").parse().unwrap())?,
            }
        }
        if schema.columns.len() > fields.len() {
            buffer.push_f64(fields.len(), fields[5].parse().unwrap())?;
        }
        buffer.finish_row()?;
        if buffer.rows() == 100_000 {
            give(std::mem::replace(&mut buffer, RowBuffer::new(schema.clone())))?;
        }
    }
    give(buffer)
}

/// Days since 2000-01-01 of a date that begins `field`.
fn day(field: &str) -> i64 {
    let part = |r: std::ops::Range<usize>| field[r].parse::<i64>().unwrap();
    let (y, m, d) = (part(0..4), part(5..7), part(8..10));
    let days = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][m as usize - 1];
    year(y) + days + i64::from(m > 2 && y % 4 == 0) + d - 1
}
