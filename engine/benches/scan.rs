//! Times queries over columns like TPC-H's lineitem. Builds the segment once and keeps its file:
//! `cargo bench --bench scan -- [--rows N | --csv PATH] [--threads N] [--file PATH] [--only NAME]
//! [--repeat N] [--copies N]`. `--copies`: so many segments, all the same.
//! A CSV file has lineitem's sixteen columns, ordered by `l_shipdate`.

mod lineitem;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use basalt_engine::exec::{AggregateExecution, ExecOptions, SegmentScan};
use basalt_engine::plan::{
    AggregateCall, AggregateFunction as F, AggregateQuery, Bound, Buckets, ColumnRef, Filter, Host, HostPredicate, Key,
    OrderId, Predicate, Test, Wake,
};
use basalt_engine::segment::{BuildOptions, BytesBlock, Segment, SegmentBuilder, SegmentBytes};
use basalt_engine::types::{ColumnId, Value};
use basalt_engine::{Budget, Cancel, Result, TimeRanges};
use lineitem::{NAMES, types, year};

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
        let schema = lineitem::schema(&types(), true);
        let options = BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None };
        let mut builder = SegmentBuilder::new(schema.clone(), options);
        match option("--csv") {
            Some(csv) => lineitem::load(&csv, &schema, usize::MAX, &mut |buffer| builder.append(buffer))?,
            None => lineitem::generate(&schema, rows, &mut |buffer| builder.append(buffer))?,
        }
        builder.finish(&mut out)?;
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
