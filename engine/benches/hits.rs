//! Times grouped queries over segments of ClickBench-like hits, as `bench/run --only hits` loads them:
//! `cargo bench --bench hits -- --directory PATH [--threads N] [--memory MB] [--only NAME] [--repeat N]`. PATH: the files of one datasource in the
//! segment cache.

mod host;

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use basalt_engine::exec::{AggregateExecution, ExecOptions, SegmentScan};
use basalt_engine::pages::LargePages;
use basalt_engine::plan::{
    AggregateCall, AggregateFunction as F, AggregateQuery, Bound, By, ColumnRef, Computed, Filter, HostFunction, Key,
    Mapped, Predicate, Term, Test, Top,
};
use basalt_engine::segment::{Segment, SegmentBytes};
use basalt_engine::types::{ColumnId, LogicalType, Value};
use basalt_engine::{Budget, Cancel, Result, TimeRanges};
use host::NoServer;

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

/// Name and position in ClickBench's schema.
const NAMES: [(&str, u32); 14] = [
    ("watch", 1),
    ("title", 3),
    ("time", 5),
    ("counter", 7),
    ("ip", 8),
    ("region", 9),
    ("user", 10),
    ("url", 14),
    ("referer", 15),
    ("refresh", 16),
    ("width", 21),
    ("engine", 39),
    ("phrase", 40),
    ("advert", 41),
];

fn column(name: &str) -> usize {
    NAMES.iter().position(|n| n.0 == name).unwrap_or_else(|| panic!("no column {name}"))
}

fn query(types: &[LogicalType], filter: Filter, keys: &[&str], functions: &[F]) -> AggregateQuery {
    let columns = NAMES.iter().zip(types).map(|((_, id), ty)| ColumnRef::stored(ColumnId(*id), *ty, Value::Null));
    let aggregates = functions.iter().map(|f| AggregateCall { function: *f, filter: Filter::Const(true) }).collect();
    let keys = keys.iter().map(|k| Key::Column(column(k))).collect();
    AggregateQuery { columns: columns.collect(), filter, keys, aggregates }
}

fn filled(name: &str) -> Filter {
    let test = Test::Range { low: Bound::Excluded(Value::Bytes(Vec::new())), high: Bound::Unbounded };
    Filter::Test(Predicate { column: column(name), test })
}

fn milliseconds() -> f64 {
    // Leaving the processor brings the system's account up to date.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let number = |name: &str, default: usize| option(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (threads, repeat, budget) = (number("--threads", 1), number("--repeat", 3), number("--memory", 1024) << 20);
    let Some(directory) = option("--directory") else { return Ok(()) };
    let mut files: Vec<_> = std::fs::read_dir(directory)?.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    let mut segments = Vec::new();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "segment")) {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        segments.push(Arc::new(Segment::open(SegmentBytes::map(&file, length)?)?));
    }
    let of = |id: u32| segments[0].columns().iter().find(|c| c.id == ColumnId(id)).map(|c| c.ty);
    let types: Vec<LogicalType> = NAMES.iter().map(|(name, id)| of(*id).unwrap_or_else(|| panic!("{name}"))).collect();
    println!("{} rows in {} segments", segments.iter().map(|s| u64::from(s.rows())).sum::<u64>(), segments.len());
    let all = || Filter::Const(true);
    let distinct = |name: &str| F::CountDistinct(column(name));
    let network = [F::CountStar, F::Sum(column("refresh")), F::Avg(column("width"))];
    let mut length = query(&types, filled("url"), &["counter"], &[F::CountStar]);
    length.columns.push(ColumnRef::computed(
        Computed::Mapped(Mapped {
            function: HostFunction(0),
            columns: vec![column("url")],
            of_null: false,
            infallible: true,
        }),
        LogicalType::Int4,
    ));
    length.aggregates.push(AggregateCall { function: F::Avg(NAMES.len()), filter: Filter::Const(true) });
    let queries = [
        ("q04", query(&types, all(), &[], &[distinct("user")])),
        ("q05", query(&types, all(), &[], &[distinct("phrase")])),
        ("q08", query(&types, all(), &["region"], &[distinct("user"), F::CountStar])),
        ("q12", query(&types, filled("phrase"), &["phrase"], &[F::CountStar])),
        ("q13", query(&types, filled("phrase"), &["phrase"], &[distinct("user"), F::CountStar])),
        ("q14", query(&types, filled("phrase"), &["engine", "phrase"], &[F::CountStar])),
        ("q15", query(&types, all(), &["user"], &[F::CountStar])),
        ("q16", query(&types, all(), &["user", "phrase"], &[F::CountStar])),
        ("q18", query(&types, all(), &["user", "refresh", "region", "phrase"], &[F::CountStar])),
        ("q27", length),
        ("q30", query(&types, filled("phrase"), &["engine", "ip"], &network)),
        ("q31", query(&types, filled("phrase"), &["watch", "ip"], &network)),
        ("q32", query(&types, all(), &["watch", "ip"], &network)),
        ("q33", query(&types, all(), &["url"], &[F::CountStar])),
        ("q35", query(&types, all(), &["ip"], &[F::CountStar])),
    ];
    let only = option("--only");
    for (name, query) in queries {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| o == name)) {
            continue;
        }
        let term = Term { by: By::Aggregate(0), descending: true, nulls_first: false };
        let top = Top { terms: vec![term], limit: 10, complete: true };
        let (mut least, mut wall, mut groups) = (f64::MAX, f64::MAX, 0);
        for _ in 0..repeat {
            let (before, clock) = (milliseconds(), Instant::now());
            let options = ExecOptions { threads, budget: Budget::new(budget), cancel: Cancel::new() };
            let used = options.budget.clone();
            let mut execution = AggregateExecution::new(query.clone(), options)?;
            let scan = |segment: &Arc<Segment>| SegmentScan {
                segment: segment.clone(),
                visibility: TimeRanges::all(),
                deleted: None,
            };
            execution.scan(&segments.iter().map(scan).collect::<Vec<_>>(), &mut NoServer)?;
            let held = used.used() >> 20;
            let scanned = milliseconds() - before;
            let _ = execution.finish_top(Some(&top), &mut NoServer)?;
            groups = held;
            let all = milliseconds() - before;
            if all < least {
                println!("   scan {scanned:.1} finish {:.1}", all - scanned);
            }
            least = least.min(all);
            wall = wall.min(clock.elapsed().as_secs_f64() * 1e3);
        }
        println!("{name}  main thread {least:>9.1} ms  wall {wall:>9.1} ms  {groups} MB held");
    }
    Ok(())
}
