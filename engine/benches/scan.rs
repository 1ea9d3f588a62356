//! Times queries over columns like TPC-H's lineitem. Builds the segment once and keeps its file:
//! `cargo bench --bench scan -- [--rows N | --csv PATH] [--threads N] [--file PATH] [--only NAME]
//! [--repeat N] [--copies N]`. `--copies`: so many segments, all the same.
//! A CSV file has lineitem's sixteen columns, ordered by `l_shipdate`.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use basalt_engine::exec::{AggregateExecution, ExecOptions, SegmentScan};
use basalt_engine::plan::{
    AggregateCall, AggregateFunction as F, AggregateQuery, Bound, Buckets, ColumnRef, Filter, Host, HostPredicate, Key,
    OrderId, Predicate, Test, Wake,
};
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, BytesBlock, Segment, SegmentBuilder, SegmentBytes};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};
use basalt_engine::{Budget, Cancel, Result, TimeRanges};

const NAMES: [&str; 16] = [
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

fn types() -> [LogicalType; 16] {
    use LogicalType::*;
    let money = Numeric { precision: 15, scale: 2 };
    [Int8, Int8, Int8, Int4, money, money, money, money, Text, Text, Date, Date, Date, Text, Text, Text]
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

struct NoHost;

impl Host for NoHost {
    fn test(&mut self, _: HostPredicate, values: &BytesBlock) -> Result<Vec<bool>> {
        Ok((0..values.len()).map(|i| values.get(i).ends_with(b"e")).collect())
    }
    fn compare(&mut self, _: OrderId, left: &[u8], right: &[u8]) -> std::cmp::Ordering {
        left.cmp(right)
    }
    fn poll(&mut self) -> Result<()> {
        Ok(())
    }
    fn before_spawn(&mut self) -> Wake {
        Box::new(())
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

fn builder() -> (Arc<Schema>, SegmentBuilder) {
    let columns = types().into_iter().enumerate();
    let columns = columns.map(|(i, ty)| Column { id: ColumnId(i as u32 + 1), ty, indexed: true }).collect();
    let schema = Arc::new(Schema { columns, time: Some(10), cluster_by: Vec::new() });
    let options = BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None };
    let builder = SegmentBuilder::new(schema.clone(), options);
    (schema, builder)
}

fn generate(rows: usize, out: &mut dyn Write) -> Result<()> {
    let (schema, mut builder) = builder();
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
            buffer.finish_row()?;
        }
        done += buffer.rows();
        builder.append(buffer)?;
    }
    builder.finish(out).map(drop)
}

fn column(name: &str) -> usize {
    NAMES.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no column {name}"))
}

fn range(name: &str, low: i64, high: i64) -> Filter {
    let test = Test::Range { low: Bound::Included(Value::I64(low)), high: Bound::Excluded(Value::I64(high)) };
    Filter::Test(Predicate { column: column(name), test })
}

fn equal(name: &str, text: &str) -> Filter {
    let test = Test::In(vec![Value::Bytes(text.as_bytes().to_vec())]);
    Filter::Test(Predicate { column: column(name), test })
}

fn like(name: &str, pattern: &str) -> Filter {
    let test = Test::Like { pattern: pattern.as_bytes().to_vec(), negated: false };
    Filter::Test(Predicate { column: column(name), test })
}

fn buckets(days: i64) -> Key {
    let starts: Vec<i64> = std::iter::once(i64::MIN).chain((0..2600 / days + 1).map(|i| -2920 + i * days)).collect();
    let values = (0..starts.len() as u32).collect();
    Key::Buckets { column: column("shipdate"), buckets: Arc::new(Buckets { starts, values }) }
}

fn query(filter: Filter, keys: Vec<Key>, functions: &[F]) -> AggregateQuery {
    let columns = types().into_iter().enumerate();
    let columns = columns.map(|(i, ty)| ColumnRef { id: ColumnId(i as u32 + 1), ty, missing: Value::Null });
    let aggregates = functions.iter().map(|f| AggregateCall { function: *f, filter: Filter::Const(true) }).collect();
    AggregateQuery { columns: columns.collect(), filter, keys, aggregates }
}

/// Days since 2000-01-01 of 1 January.
fn year(y: i64) -> i64 {
    (y - 2000) * 365 + (y - 2000 + 3).div_euclid(4)
}

fn queries() -> Vec<(&'static str, AggregateQuery)> {
    let all = || Filter::Const(true);
    let key = |name: &str| Key::Column(column(name));
    let sum = |name: &str| F::Sum(column(name));
    let avg = |name: &str| F::Avg(column(name));
    let distinct = |name: &str| F::CountDistinct(column(name));
    let in_1996 = || range("shipdate", year(1996), year(1997));
    let is = |name: &str, value: i64| {
        Filter::Test(Predicate { column: column(name), test: Test::In(vec![Value::I64(value)]) })
    };
    let (price, quantity) = (sum("extendedprice"), sum("quantity"));
    let four = [price, sum("discount"), sum("tax"), quantity];
    let (low, high) = (F::Min(column("discount"), None), F::Max(column("discount"), None));
    let details = [quantity, price, low, high];
    let modes = Filter::Or(vec![equal("shipmode", "AIR"), equal("shipmode", "MAIL")]);
    let drill = Filter::And(vec![in_1996(), modes, equal("returnflag", "N")]);
    let numbers = Filter::And(vec![in_1996(), range("discount", 5, 8), range("quantity", 0, 2400)]);
    let flags = || vec![key("returnflag"), key("linestatus")];
    vec![
        ("count_interval", query(range("shipdate", year(1992) + 2, year(1998) + 333), vec![], &[F::CountStar])),
        ("sum_price", query(all(), vec![], &[price])),
        ("sum_all", query(all(), vec![], &four)),
        ("sum_all_year", query(all(), vec![buckets(365)], &four)),
        ("sum_all_like", query(like("shipmode", "%AIR%"), vec![], &four)),
        ("sum_interval", query(in_1996(), vec![], &[price, F::CountStar])),
        ("by_day", query(in_1996(), vec![buckets(1)], &[F::CountStar, quantity])),
        ("by_month_mode", query(all(), vec![buckets(30), key("shipmode")], &[F::CountStar, price])),
        ("top_parts", query(all(), vec![key("partkey")], &[quantity])),
        ("top_parts_details", query(all(), vec![key("partkey")], &details)),
        (
            "top_parts_interval",
            query(range("shipdate", year(1996) + 14, year(1998) + 73), vec![key("partkey")], &details),
        ),
        ("top_commitdates", query(all(), vec![key("commitdate")], &[quantity])),
        ("two_dimensions", query(all(), flags(), &[F::CountStar, quantity, avg("extendedprice"), avg("discount")])),
        ("drill_down", query(drill, vec![buckets(30)], &[F::CountStar, avg("quantity")])),
        ("number_ranges", query(numbers, vec![], &[price, F::CountStar])),
        ("needle", query(is("partkey", 155_190), vec![], &[F::CountStar, price, F::Max(column("receiptdate"), None)])),
        ("comment_like", query(like("comment", "%special%requests%"), vec![], &[F::CountStar])),
        ("distinct_suppliers", query(all(), vec![key("shipmode")], &[distinct("suppkey")])),
        // Beyond the dashboard.
        ("sum_half_unsorted", query(range("commitdate", year(1993), year(1996)), vec![], &[price])),
        ("like_prefix", query(like("comment", "special re%"), vec![], &[price])),
        ("by_comment", query(all(), vec![key("comment")], &[F::CountStar])),
        ("orders_1500k", query(all(), vec![key("orderkey")], &[quantity])),
        ("part_supplier", query(all(), vec![key("partkey"), key("suppkey")], &[F::CountStar])),
        ("supplier_mode_year", query(all(), vec![key("suppkey"), key("shipmode"), buckets(365)], &[price])),
        ("distinct_parts", query(all(), vec![], &[distinct("partkey")])),
    ]
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

fn load(path: &str, out: &mut dyn Write) -> Result<()> {
    let (schema, mut builder) = builder();
    let mut buffer = RowBuffer::new(schema.clone());
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        for (c, (field, ty)) in fields(&line).iter().zip(types()).enumerate() {
            match ty {
                LogicalType::Text => buffer.push_bytes(c, field.as_bytes())?,
                LogicalType::Date => {
                    let part = |r: std::ops::Range<usize>| field[r].parse::<i64>().unwrap();
                    let (y, m, d) = (part(0..4), part(5..7), part(8..10));
                    let days = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][m as usize - 1];
                    buffer.push_i64(c, year(y) + days + i64::from(m > 2 && y % 4 == 0) + d - 1)?;
                }
                _ => buffer.push_i64(c, field.replace('.', "").parse().unwrap())?,
            }
        }
        buffer.finish_row()?;
        if buffer.rows() == 100_000 {
            builder.append(std::mem::replace(&mut buffer, RowBuffer::new(schema.clone())))?;
        }
    }
    builder.append(buffer)?;
    builder.finish(out).map(drop)
}

/// Milliseconds: of this thread on a processor if it works alone and the system tells, else of the clock.
fn milliseconds(threads: usize, since: Instant) -> f64 {
    let on_processor = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_processor = on_processor.and_then(|s| s.split(' ').next()?.parse::<f64>().ok()).filter(|_| threads == 1);
    on_processor.map_or_else(|| since.elapsed().as_secs_f64() * 1e3, |ns| ns / 1e6)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let number = |name: &str, default: usize| option(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (rows, threads, repeat) = (number("--rows", 6_000_000), number("--threads", 1), number("--repeat", 7));
    let default = std::env::temp_dir().join(format!("basalt-bench-scan-{rows}.segment"));
    let path = option("--file").map_or(default, PathBuf::from);
    if !path.exists() {
        let start = Instant::now();
        let partial = path.with_extension("partial");
        let mut out = BufWriter::new(File::create(&partial)?);
        match option("--csv") {
            Some(csv) => load(&csv, &mut out)?,
            None => generate(rows, &mut out)?,
        }
        out.flush()?;
        std::fs::rename(&partial, &path)?;
        println!("built {} rows in {:.1} s", rows, start.elapsed().as_secs_f64());
    }
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    let segment = Arc::new(Segment::open(SegmentBytes::map(&file, length)?)?);
    println!("{} rows, {:.0} MB, {threads} threads", segment.rows(), length as f64 / 1e6);
    let only = option("--only");
    let copies = number("--copies", 1);
    let begin = Instant::now();
    let mut product = 0.0f64;
    let mut count = 0;
    for (name, query) in queries() {
        if only.as_ref().is_some_and(|o| !name.starts_with(o.as_str())) {
            continue;
        }
        let mut times = Vec::new();
        let mut groups = 0;
        for _ in 0..repeat {
            let before = milliseconds(threads, begin);
            let options = ExecOptions { threads, budget: Budget::new(4 << 30), cancel: Cancel::new() };
            let mut execution = AggregateExecution::new(query.clone(), options)?;
            let scan = || SegmentScan { segment: segment.clone(), visibility: TimeRanges::all(), deleted: None };
            execution.scan(&(0..copies).map(|_| scan()).collect::<Vec<_>>(), &mut NoHost)?;
            groups = execution.finish(&mut NoHost)?.groups;
            times.push(milliseconds(threads, begin) - before);
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        product += median.max(0.01).ln();
        count += 1;
        println!(
            "{name:<22} {median:>9.3} ms  {:>8.3} ns/row  {groups:>8} groups",
            median * 1e6 / f64::from(segment.rows())
        );
    }
    println!("geometric mean {:.3} ms", (product / f64::from(count.max(1))).exp());
    Ok(())
}
