//! Tables, their division into segments, and queries, from a seed.

use std::sync::Arc;

use basalt_engine::exec::{ExecOptions, SegmentScan};
use basalt_engine::plan::{
    AggregateCall, AggregateFunction, AggregateQuery, Bound, Buckets, ColumnRef, Filter, HostPredicate, Key, OrderId,
    Predicate, Statistic, Test,
};
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, Segment, SegmentBuilder, SegmentBytes};
use basalt_engine::types::{Column, ColumnId, LogicalType, Physical, Schema, Value};
use basalt_engine::{Budget, Cancel, TimeInterval, TimeRanges};

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub const TIME: usize = 0;
pub const MISSING_NULL: usize = 12;
pub const MISSING_DEFAULT: usize = 13;
pub const MISSING_TEXT: usize = 14;
pub const MISSING_FLOAT: usize = 15;

pub fn types(date: bool) -> Vec<LogicalType> {
    use LogicalType::*;
    vec![
        if date { Date } else { TimestampTz },
        Int4,
        Int8,
        Float8,
        Numeric { precision: 10, scale: 2 },
        Numeric { precision: 30, scale: 5 },
        Text,
        Text,
        Bool,
        Uuid,
        Text,
        Float8,
        Int4,
        Int8,
        Text,
        Float8,
    ]
}

fn missing(column: usize) -> Value {
    match column {
        MISSING_DEFAULT => Value::I64(77),
        MISSING_TEXT => Value::Bytes(b"default".to_vec()),
        MISSING_FLOAT => Value::F64(2.5),
        _ => Value::Null,
    }
}

pub fn columns(date: bool) -> Vec<ColumnRef> {
    let types = types(date).into_iter().enumerate();
    types.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), ty, missing(i))).collect()
}

fn value(column: usize, date: bool, nulls: usize, base: i64, r: &mut Random) -> Value {
    if column != TIME && nulls > 0 && r.one_in(nulls) {
        return Value::Null;
    }
    let text = |s: String| Value::Bytes(s.into_bytes());
    match column {
        TIME if date => Value::I64(base + r.below(40) as i64),
        TIME => Value::I64((base + r.below(40) as i64) * 3_600_000_000 + r.below(3) as i64),
        1 => Value::I64(r.below(9) as i64 - 4),
        2 => match r.below(12) {
            0 => Value::I64(i64::MAX),
            1 => Value::I64(i64::MIN),
            2 => Value::I64(r.next() as i64),
            _ => Value::I64(r.below(50) as i64 * 1_000_000_007),
        },
        // Sums of these are exact in any order.
        3 => match r.below(40) {
            0 => Value::F64(f64::NAN),
            1 => Value::F64(-0.0),
            2 => Value::F64(f64::INFINITY),
            _ => Value::F64(r.below(64) as f64 * 0.25 - 8.0),
        },
        4 => match r.below(60) {
            0 => Value::I64(LogicalType::NUMERIC_NAN_I64),
            _ => Value::I64(r.below(100_000) as i64 - 50_000),
        },
        5 => match r.below(60) {
            0 => Value::I128(LogicalType::NUMERIC_NAN_I128),
            1 => Value::I128(10i128.pow(30) - 1),
            _ => Value::I128((r.below(5) as i128 - 2) * 10i128.pow(20)),
        },
        6 => text(["", "alpha", "Beta", "beta", "gamma", "été", "a_b", "100%"][r.below(8)].to_string()),
        7 => text(format!("{}-{:x}", ["ab", "éa", "zz"][r.below(3)], r.below(1 << 20))),
        8 => Value::I64(r.below(2) as i64),
        9 => Value::Bytes((0..16).map(|_| r.below(3) as u8).collect()),
        10 => text("x".repeat(r.below(40))),
        // Anything at all: only compared between runs.
        11 => {
            let f = f64::from_bits(r.next());
            Value::F64(if r.one_in(3) && f.is_finite() { f } else { r.next() as f64 / 1e3 })
        }
        12 | 13 => Value::I64(r.below(5) as i64),
        MISSING_FLOAT => Value::F64(r.below(30) as f64 * 0.5),
        _ => text(format!("t{}", r.below(4))),
    }
}

/// A table in segments, and its visible rows.
pub struct Table {
    pub date: bool,
    pub scans: Vec<SegmentScan>,
    pub rows: Vec<Vec<Value>>,
}

pub fn push(buffer: &mut RowBuffer, values: &[Value]) {
    for (c, value) in values.iter().enumerate() {
        match value {
            Value::Null => buffer.push_null(c),
            Value::I64(v) => buffer.push_i64(c, *v).unwrap(),
            Value::I128(v) => buffer.push_i128(c, *v).unwrap(),
            Value::F64(v) => buffer.push_f64(c, *v).unwrap(),
            Value::Bytes(v) => buffer.push_bytes(c, v).unwrap(),
        }
    }
    buffer.finish_row().unwrap();
}

/// A segment of the first `width` of `types`, ordered by column 0.
pub fn build(types: &[LogicalType], rows: &[Vec<Value>], indexed: bool) -> Arc<Segment> {
    let columns =
        types.iter().enumerate().map(|(i, ty)| Column { id: ColumnId(i as u32 + 1), ty: *ty, indexed }).collect();
    let schema = Arc::new(Schema { columns, time: Some(TIME), cluster_by: Vec::new() });
    let mut buffer = RowBuffer::new(schema);
    for row in rows {
        push(&mut buffer, &row[..types.len()]);
    }
    segment_of(buffer)
}

/// A segment in memory.
pub fn segment_of(buffer: RowBuffer) -> Arc<Segment> {
    let options = BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None };
    let mut builder = SegmentBuilder::new(buffer.schema().clone(), options);
    builder.append(buffer).unwrap();
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    Arc::new(Segment::open(SegmentBytes::Memory(bytes.into())).unwrap())
}

impl Table {
    pub fn new(segments: usize, rows_each: usize, r: &mut Random) -> Table {
        let date = r.one_in(2);
        let types = types(date);
        let mut table = Table { date, scans: Vec::new(), rows: Vec::new() };
        for _ in 0..segments {
            let base = r.below(100) as i64 - 50;
            let nulls = [0, 0, 2, 5, 20][r.below(5)];
            let count = if r.one_in(6) { 0 } else { r.below(rows_each + 1) };
            let constant = r.one_in(5).then(|| r.below(types.len()));
            let width = if r.one_in(3) { MISSING_NULL } else { types.len() };
            let mut rows: Vec<Vec<Value>> =
                (0..count).map(|_| (0..types.len()).map(|c| value(c, date, nulls, base, r)).collect()).collect();
            if let (Some(column), Some(first)) = (constant, rows.first().cloned()) {
                rows.iter_mut().for_each(|row| row[column] = first[column].clone());
            }
            rows.sort_by(|a, b| compare_times(a, b));
            let segment = build(&types[..width], &rows, r.one_in(2));
            let mut visibility = TimeRanges::all();
            if r.one_in(3) {
                let unit = if date { 86_400_000_000 } else { 3_600_000_000 };
                let cut = |r: &mut Random| (base + r.below(50) as i64 - 5) * unit + r.below(2) as i64;
                let (a, b) = (cut(r), cut(r));
                visibility = match r.below(3) {
                    0 => visibility.subtract(&TimeInterval::new(a.min(b), a.max(b))),
                    1 => visibility.intersection(&TimeInterval::new(a.min(b), a.max(b))),
                    _ => visibility.intersection(&TimeInterval::new(a, i64::MAX)),
                };
            }
            let deleted =
                r.one_in(3).then(|| (0..count as u32).filter(|_| r.one_in(4)).collect::<roaring::RoaringBitmap>());
            for (i, mut row) in rows.into_iter().enumerate() {
                let Value::I64(time) = row[TIME] else { panic!() };
                let gone = deleted.as_ref().is_some_and(|d| d.contains(i as u32));
                if gone || !visibility.contains(types[TIME].to_micros(time)) {
                    continue;
                }
                (width..types.len()).for_each(|c| row[c] = missing(c));
                table.rows.push(row);
            }
            table.scans.push(SegmentScan { segment, visibility, deleted });
        }
        table
    }
}

fn compare_times(a: &[Value], b: &[Value]) -> std::cmp::Ordering {
    match (&a[TIME], &b[TIME]) {
        (Value::I64(a), Value::I64(b)) => a.cmp(b),
        _ => panic!(),
    }
}

pub fn options(threads: usize) -> ExecOptions {
    ExecOptions { threads, budget: Budget::new(1 << 30), cancel: Cancel::new() }
}

fn operand(column: usize, table: &Table, r: &mut Random) -> Value {
    if !table.rows.is_empty() && !r.one_in(4) {
        let row = &table.rows[r.below(table.rows.len())];
        if !row[column].is_null() {
            return row[column].clone();
        }
    }
    value(column, table.date, 0, 0, r)
}

fn test(column: usize, ty: LogicalType, table: &Table, r: &mut Random) -> Test {
    let bytes = ty.physical() == Physical::Bytes;
    let bound = |r: &mut Random| match r.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(operand(column, table, r)),
        _ => Bound::Excluded(operand(column, table, r)),
    };
    let list = |r: &mut Random| {
        let n = [0, 1, 1, 2, 5, 30][r.below(6)];
        (0..n).map(|_| operand(column, table, r)).collect::<Vec<_>>()
    };
    match r.below(if bytes { 9 } else { 7 }) {
        0 => Test::IsNull,
        1 => Test::IsNotNull,
        2 | 3 => Test::Range { low: bound(r), high: bound(r) },
        4 => Test::In(list(r)),
        5 if ty.physical() == Physical::I64 && r.one_in(2) => {
            let mut limits: Vec<i64> =
                list(r).into_iter().filter_map(|v| if let Value::I64(v) = v { Some(v) } else { None }).collect();
            limits.sort_unstable();
            limits.dedup();
            // Some of one number, some next to each other.
            let apart = 1 + r.below(2);
            Test::Within(limits.chunks(apart).map(|c| (c[0], c[c.len() - 1])).collect())
        }
        5 => Test::NotIn(list(r)),
        6 if r.one_in(2) => Test::HostOfNull(HostPredicate(r.below(3) as u32)),
        6 => Test::Host(HostPredicate(r.below(3) as u32)),
        // Patterns are UTF-8, values of uuid are not.
        _ if ty == LogicalType::Uuid => Test::IsNotNull,
        _ => {
            let mut pattern = String::new();
            let Value::Bytes(sample) = operand(column, table, r) else { panic!() };
            let sample = String::from_utf8(sample).unwrap();
            for c in sample.chars().take(6) {
                match r.below(5) {
                    0 => pattern.push('_'),
                    1 => pattern.push('%'),
                    _ if c == '%' || c == '_' => pattern.extend(['\\', c]),
                    _ => pattern.push(c),
                }
            }
            if r.one_in(2) {
                pattern.push('%');
            }
            Test::Like { pattern: pattern.into_bytes(), negated: r.one_in(3) }
        }
    }
}

pub fn filter(depth: usize, table: &Table, r: &mut Random) -> Filter {
    match r.below(if depth == 0 { 5 } else { 9 }) {
        0 if r.one_in(4) => Filter::Const(r.one_in(2)),
        0 => Filter::Const(true),
        n @ 5..=8 => {
            let nodes = (0..r.below(4)).map(|_| filter(depth - 1, table, r)).collect();
            if n < 7 { Filter::And(nodes) } else { Filter::Or(nodes) }
        }
        _ => {
            let types = types(table.date);
            let column = r.below(types.len());
            Filter::Test(Predicate { column, test: test(column, types[column], table, r) })
        }
    }
}

fn buckets(table: &Table, r: &mut Random) -> Buckets {
    let unit = if table.date { 1 } else { 3_600_000_000 };
    let mut starts = vec![i64::MIN];
    let mut at = -60;
    let width = 1 + r.below(30) as i64;
    while at < 150 {
        starts.push(at * unit);
        at += 1 + r.below(width as usize) as i64;
    }
    let values = starts.iter().map(|_| r.below(6) as u32 + 10).collect();
    // Half the time NULL shares a number with some pieces, or has one of its own.
    let null = r.one_in(2).then(|| r.below(8) as u32 + 8);
    Buckets { starts, values, null }
}

const STATISTICS: [Statistic; 11] = [
    Statistic::AverageX,
    Statistic::AverageY,
    Statistic::SumXx,
    Statistic::SumYy,
    Statistic::SumXy,
    Statistic::CovariancePopulation,
    Statistic::CovarianceSample,
    Statistic::Correlation,
    Statistic::RSquared,
    Statistic::Slope,
    Statistic::Intercept,
];

/// `exact`: no sums of arbitrary floats, whose last digits the oracle does not know.
pub fn query(table: &Table, exact: bool, r: &mut Random) -> AggregateQuery {
    let types = types(table.date);
    let column = |r: &mut Random| r.below(types.len());
    let keys = (0..[0, 0, 1, 1, 2, 3, 5][r.below(7)])
        .map(|_| match r.below(4) {
            0 => Key::Buckets { column: TIME, buckets: Arc::new(buckets(table, r)) },
            _ => Key::Column(column(r)),
        })
        .collect();
    let aggregates = (0..1 + r.below(5))
        .map(|_| {
            let mut c = column(r);
            let bytes = types[c].physical() == Physical::Bytes;
            let order = (r.one_in(2) && bytes).then(|| OrderId(r.below(2) as u32));
            let function = match r.below(14) {
                0 => AggregateFunction::CountStar,
                1 => AggregateFunction::Count(c),
                2 => AggregateFunction::CountDistinct(c),
                3 => AggregateFunction::Min(c, order),
                4 => AggregateFunction::Max(c, order),
                5 => AggregateFunction::BoolAnd(8),
                6 => AggregateFunction::BoolOr(8),
                10 => {
                    let c = [1, 2, 12, 13][r.below(4)];
                    [AggregateFunction::BitAnd, AggregateFunction::BitOr, AggregateFunction::BitXor][r.below(3)](c)
                }
                11 => {
                    let columns = if exact { &[3, MISSING_FLOAT][..] } else { &[3, MISSING_FLOAT, 11] };
                    let (y, x) = (columns[r.below(columns.len())], columns[r.below(columns.len())]);
                    AggregateFunction::Regression { y, x, statistic: STATISTICS[r.below(STATISTICS.len())] }
                }
                12 if r.one_in(3) => AggregateFunction::CountPairs(c, column(r)),
                n => {
                    while types[c].physical() == Physical::Bytes || (exact && c == 11) {
                        c = column(r);
                    }
                    match n {
                        7 => AggregateFunction::Avg(c),
                        12.. => AggregateFunction::Variance { column: c, sample: r.one_in(2), root: r.one_in(2) },
                        _ => AggregateFunction::Sum(c),
                    }
                }
            };
            let filter = if r.one_in(3) { filter(1, table, r) } else { Filter::Const(true) };
            AggregateCall { function, filter }
        })
        .collect();
    AggregateQuery { columns: columns(table.date), filter: filter(2, table, r), keys, aggregates }
}
