//! Times queries over columns like TPC-H's lineitem. Builds the segments once and keeps their directory:
//! `cargo bench --bench scan -- [--rows N] [--csv PATH] [--segments N] [--directory PATH] [--threads N] [--memory MB]
//! [--only NAME] [--top N] [--repeat N] [--vectors baseline|avx2|avx512]`. `--vectors`: use no wider ones. `--top`: only the first N groups by the first aggregate, as ORDER BY with LIMIT asks for.
//! A CSV file has lineitem's sixteen columns, ordered by `l_shipdate`.

mod host;
mod lineitem;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use basalt_engine::exec::{AggregateExecution, ExecOptions, SegmentScan};
use basalt_engine::pages::LargePages;
use basalt_engine::plan::{
    AggregateCall, AggregateFunction as F, AggregateQuery, Bound, Buckets, By, ColumnRef, Computed, Expr, Filter,
    Function, Key, Lane, Number, Operator, Predicate, Statistic, Term, Test, Top,
};
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, Segment, SegmentBuilder, SegmentBytes};
use basalt_engine::types::{ColumnId, LogicalType, Value};
use basalt_engine::{Budget, Cancel, Result, TimeRanges, Vectors, limit_vectors};
use host::NoServer;
use lineitem::{NAMES, types_and_price, year};

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

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
    Key::Buckets { column: column("shipdate"), buckets: Arc::new(Buckets { starts, values, null: None }) }
}

fn query(filter: Filter, keys: Vec<Key>, functions: &[F]) -> AggregateQuery {
    let columns = types_and_price().into_iter().enumerate();
    let columns = columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), ty, Value::Null));
    let aggregates = functions.iter().map(|f| AggregateCall { function: *f, filter: Filter::Const(true) }).collect();
    AggregateQuery { columns: columns.collect(), filter, keys, aggregates }
}

/// `extendedprice` as a float.
const PRICE: usize = NAMES.len();
/// Positions of the columns that [`with_expressions`] adds.
const DISCOUNTED: usize = PRICE + 1;
const CHARGED: usize = DISCOUNTED + 1;
const REVENUE: usize = DISCOUNTED + 2;
const REMAINDER: usize = DISCOUNTED + 3;
const RETURNED: usize = DISCOUNTED + 4;
/// `quantity` as a float.
const QUANTITY: usize = DISCOUNTED + 5;

fn with_expressions(mut query: AggregateQuery) -> AggregateQuery {
    let of = |name: &str| Expr::Column(column(name));
    let binary =
        |operator, number, left, right| Expr::Binary { operator, number, left: Box::new(left), right: Box::new(right) };
    let decimal = |operator, left, right| binary(operator, Number::Decimal, left, right);
    let one = || Expr::Constant(Value::I64(100));
    let rest = decimal(Operator::Subtract, one(), of("discount"));
    let taxed = decimal(Operator::Add, one(), of("tax"));
    let returned = (equal("returnflag", "R"), of("extendedprice"));
    let zero = Box::new(Expr::Constant(Value::I64(0)));
    let numeric = |scale| LogicalType::Numeric { precision: 28, scale };
    let quantity =
        Expr::Unary { function: Function::ToFloat { scale: 2, single: false }, argument: Box::new(of("quantity")) };
    let bucket = binary(Operator::Remainder, Number::Int8, of("partkey"), Expr::Constant(Value::I64(1000)));
    for (expr, ty) in [
        (decimal(Operator::Multiply, of("extendedprice"), rest), numeric(4)),
        (decimal(Operator::Multiply, Expr::Column(DISCOUNTED), taxed), numeric(6)),
        (decimal(Operator::Multiply, of("extendedprice"), of("discount")), numeric(4)),
        (bucket, LogicalType::Int8),
        (Expr::Case { lane: Lane::Decimal, whens: vec![returned], otherwise: zero }, numeric(2)),
        (quantity, LogicalType::Float8),
    ] {
        query.columns.push(ColumnRef::computed(Computed::Native(expr), ty));
    }
    query
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
    // Of every block.
    let half = || range("partkey", 1, 100_001);
    let flags = || vec![key("returnflag"), key("linestatus")];
    let averages = [avg("quantity"), avg("extendedprice"), avg("discount"), F::CountStar];
    let pricing = [&[quantity, price, F::Sum(DISCOUNTED), F::Sum(CHARGED)], &averages[..]].concat();
    let variance = F::Variance { column: PRICE, sample: true, root: true };
    let correlation = F::Regression { y: PRICE, x: QUANTITY, statistic: Statistic::Correlation };
    let plain = [&[quantity, price, sum("discount"), sum("tax")], &averages[..]].concat();
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
        ("number_ranges", query(numbers.clone(), vec![], &[price, F::CountStar])),
        ("needle", query(is("partkey", 155_190), vec![], &[F::CountStar, price, F::Max(column("receiptdate"), None)])),
        ("comment_like", query(like("comment", "%special%requests%"), vec![], &[F::CountStar])),
        ("distinct_suppliers", query(all(), vec![key("shipmode")], &[distinct("suppkey")])),
        // TPC-H's first and sixth query, and the same over plain columns.
        ("pricing", with_expressions(query(all(), flags(), &pricing))),
        ("pricing_plain", query(all(), flags(), &plain)),
        ("revenue", with_expressions(query(numbers.clone(), vec![], &[F::Sum(REVENUE)]))),
        ("revenue_plain", query(numbers, vec![], &[price])),
        ("revenue_all", with_expressions(query(all(), vec![], &[F::Sum(REVENUE)]))),
        ("by_remainder", with_expressions(query(all(), vec![Key::Column(REMAINDER)], &[F::CountStar]))),
        ("case_by_mode", with_expressions(query(all(), vec![key("shipmode")], &[F::Sum(RETURNED)]))),
        // Beyond the dashboard.
        ("sum_half_unsorted", query(half(), vec![], &[price])),
        ("sum_half_float", query(half(), vec![], &[F::Sum(PRICE)])),
        ("float_by_mode", query(all(), vec![key("shipmode")], &[F::Sum(PRICE)])),
        ("variance_float", query(all(), vec![], &[variance])),
        ("variance_float_by_mode", query(all(), vec![key("shipmode")], &[variance])),
        ("correlation", with_expressions(query(all(), vec![], &[correlation]))),
        ("correlation_by_mode", with_expressions(query(all(), vec![key("shipmode")], &[correlation]))),
        ("correlation_by_day", with_expressions(query(all(), vec![key("commitdate")], &[correlation]))),
        ("correlation_by_supplier", with_expressions(query(all(), vec![key("suppkey")], &[correlation]))),
        ("count_half_unsorted", query(half(), vec![], &[F::CountStar])),
        ("like_prefix", query(like("comment", "special re%"), vec![], &[price])),
        ("by_comment", query(all(), vec![key("comment")], &[F::CountStar])),
        ("orders_1500k", query(all(), vec![key("orderkey")], &[quantity])),
        ("part_supplier", query(all(), vec![key("partkey"), key("suppkey")], &[F::CountStar])),
        ("supplier_mode_year", query(all(), vec![key("suppkey"), key("shipmode"), buckets(365)], &[price])),
        ("distinct_parts", query(all(), vec![], &[distinct("partkey")])),
    ]
}

/// Milliseconds that all threads were on processors, in steps of 10.
fn processors() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which is in parentheses, stand 11 more fields before the times in user and in system mode.
    let fields = stat.rsplit(')').next().unwrap_or("").split(' ');
    fields.skip(12).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// Milliseconds: of this thread on a processor if it works alone and the system tells, else of the clock.
fn milliseconds(threads: usize, since: Instant) -> f64 {
    // Leaving the processor brings the system's account up to date.
    std::thread::yield_now();
    let on_processor = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_processor = on_processor.and_then(|s| s.split(' ').next()?.parse::<f64>().ok()).filter(|_| threads == 1);
    on_processor.map_or_else(|| since.elapsed().as_secs_f64() * 1e3, |ns| ns / 1e6)
}

/// Builds segments of `rows` rows in all, one file each: rows of a CSV file or generated ones, in their order.
fn build(directory: &Path, rows: usize, segments: usize, csv: Option<String>) -> Result<()> {
    let partial = directory.with_extension("partial");
    std::fs::create_dir_all(&partial)?;
    let schema = lineitem::schema(&types_and_price(), true);
    let options = || BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None };
    let mut builder = SegmentBuilder::new(schema.clone(), options());
    let (mut held, mut done) = (0, 0);
    let mut finish = |builder: SegmentBuilder| -> Result<()> {
        let mut out = BufWriter::new(File::create(partial.join(format!("{done}")))?);
        builder.finish(&mut out)?;
        out.flush()?;
        done += 1;
        Ok(())
    };
    let mut give = |buffer: RowBuffer| {
        held += buffer.rows();
        builder.append(buffer)?;
        if held >= rows / segments {
            held = 0;
            finish(std::mem::replace(&mut builder, SegmentBuilder::new(schema.clone(), options())))?;
        }
        Ok(())
    };
    match csv {
        Some(csv) => lineitem::load(&csv, &schema, rows, &mut give)?,
        None => lineitem::generate(&schema, rows, &mut give)?,
    }
    if held > 0 {
        finish(builder)?;
    }
    Ok(std::fs::rename(&partial, directory)?)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let number = |name: &str, default: usize| option(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (rows, threads, repeat) = (number("--rows", 6_000_000), number("--threads", 1), number("--repeat", 7));
    let (parts, budget) = (number("--segments", 6), number("--memory", 4096) << 20);
    let vectors = match option("--vectors").as_deref() {
        Some("baseline") => Vectors::Baseline,
        Some("avx2") => Vectors::Avx2,
        _ => Vectors::Avx512,
    };
    let vectors = limit_vectors(vectors);
    let default = std::env::temp_dir().join(format!("basalt-bench-scan-float-{rows}-{parts}"));
    let directory = option("--directory").map_or(default, PathBuf::from);
    if !directory.exists() {
        let start = Instant::now();
        build(&directory, rows, parts, option("--csv"))?;
        println!("built {rows} rows in {:.1} s", start.elapsed().as_secs_f64());
    }
    let mut segments = Vec::new();
    let mut bytes = 0;
    for part in 0.. {
        let Ok(file) = File::open(directory.join(format!("{part}"))) else { break };
        let length = file.metadata()?.len();
        bytes += length;
        segments.push(Arc::new(Segment::open(SegmentBytes::map(&file, length)?)?));
    }
    let rows: u64 = segments.iter().map(|s| u64::from(s.rows())).sum();
    println!(
        "{rows} rows in {} segments, {:.0} MB, {threads} threads, {vectors:?}",
        segments.len(),
        bytes as f64 / 1e6
    );
    let (only, limit) = (option("--only"), number("--top", 0));
    let begin = Instant::now();
    let mut product = 0.0f64;
    let mut count = 0;
    for (name, query) in queries() {
        if only.as_ref().is_some_and(|o| !name.starts_with(o.as_str())) {
            continue;
        }
        let term = Term { by: By::Aggregate(0), descending: true, nulls_first: false };
        let top = (limit > 0).then(|| Top { terms: vec![term], limit, complete: false });
        let mut times = Vec::new();
        let cpu = processors();
        let mut groups = 0;
        for _ in 0..repeat {
            let before = milliseconds(threads, begin);
            let options = ExecOptions { threads, budget: Budget::new(budget), cancel: Cancel::new() };
            let mut execution = AggregateExecution::new(query.clone(), options)?;
            let scan = |segment: &Arc<Segment>| SegmentScan {
                segment: segment.clone(),
                visibility: TimeRanges::all(),
                deleted: None,
            };
            execution.scan(&segments.iter().map(scan).collect::<Vec<_>>(), &mut NoServer)?;
            groups = execution.finish_top(top.as_ref(), &mut NoServer)?.groups;
            times.push(milliseconds(threads, begin) - before);
        }
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[times.len() / 2]);
        product += least.max(0.001).ln();
        count += 1;
        println!(
            "{name:<22} least {least:>9.3} ms  median {median:>9.3} ms  cpu {:>7.1} ms  {:>8.3} ns/row  {groups:>8} groups",
            (processors() - cpu) / repeat as f64,
            least * 1e6 / rows as f64
        );
    }
    println!("geometric mean of the least {:.3} ms", (product / f64::from(count.max(1))).exp());
    Ok(())
}
