//! Grouping columns when a scan starts: what times and numbers become under functions that PostgreSQL evaluates.

use basalt_engine::exec::{AggregateExecution, AggregateResult, SegmentScan};
use basalt_engine::plan::{
    self, AggregateCall, AggregateFunction, AggregateQuery, Bound, Filter, Key, Predicate, Test,
};
use basalt_engine::types::Value;

use super::scan::{Inputs, Start};
use crate::catalog::cache;
use crate::catalog::segment::SegmentEntry;
use crate::error::{Error, Result};
use crate::translate::host::PgHost;
use crate::translate::pieces::{self, BucketValues, Stored};
use crate::translate::template::KeyTemplate;

/// Fewer pieces than this are cut, however few rows there are.
const FEW_PIECES: u64 = 10_000;

/// What aggregates the scanned rows.
pub struct Execution {
    pub engine: AggregateExecution,
    /// What selects among the rows of the other side that nothing matches, if they show.
    pub unmatched: Option<Filter>,
}

/// Lets all executions aggregate the segments, opened a number at a time. Each reads all of them before the next begins, so that it can make room,
/// which one that is `alone` to the end of the query need not.
pub fn scan<'e>(
    executions: impl Iterator<Item = &'e mut Execution>,
    start: &Start,
    alone: bool,
    host: &mut PgHost,
) -> Result<()> {
    let waves: Vec<_> = cache::waves(&start.segments).collect();
    let mut opened: Option<Vec<SegmentScan>> = None;
    for Execution { engine: execution, unmatched } in executions {
        for wave in &waves {
            let scans = match opened.take().filter(|_| waves.len() == 1) {
                Some(scans) => scans,
                None => {
                    let scan = |entry: &SegmentEntry| {
                        Ok(SegmentScan {
                            segment: cache::open(entry)?,
                            visibility: entry.visibility.clone(),
                            deleted: entry.deleted.clone(),
                        })
                    };
                    wave.iter().map(scan).collect::<Result<Vec<_>>>()?
                }
            };
            let scan = execution.scan(&scans, host);
            host.conclude(scan)?;
            crate::pg::interrupts::check();
            opened = Some(scans);
        }
        if let (Some(rows), Some(filter)) = (&start.unmatched, unmatched) {
            let scan = execution.scan_selecting(&[rows.scan()], filter.clone(), host);
            host.conclude(scan)?;
        }
        if !alone {
            let rest = execution.rest(host);
            host.conclude(rest)?;
        }
    }
    Ok(())
}

/// The engine's key, and of one that is a function what its numbers stand for.
pub fn bind(
    key: &KeyTemplate,
    start: &Start,
    inputs: &Inputs,
    host: &mut PgHost,
) -> Result<(Key, Option<BucketValues>)> {
    let (column, expression, cuts) = match key {
        KeyTemplate::Column(column) | KeyTemplate::Class { column, .. } => return Ok((Key::Column(*column), None)),
        KeyTemplate::Buckets { column, expression, pieces } => (*column, *expression, pieces),
    };
    let reference = inputs.columns.get(column).ok_or_else(malformed)?;
    let bound = inputs.bound.get(column).ok_or_else(malformed)?;
    let Stored { ranges, rows } = inputs.stored(&start.segments, column);
    let ranges = selected(ranges, column, start, inputs, host)?;
    let most = usize::try_from(rows.max(FEW_PIECES)).unwrap_or(usize::MAX);
    // Where more would be cut than there are rows, each value is a piece of its own. (Functions of time that are cut are strict: NULL
    // stays NULL.)
    let (starts, nulls) = match pieces::cut_all(&inputs.expressions, cuts, reference.ty, &ranges, most)? {
        Some(starts) => (starts, true),
        None => values(column, start, inputs, host)?,
    };
    let (buckets, values) = pieces::evaluate(&inputs.expressions, expression, *bound, starts, nulls)?;
    Ok((Key::Buckets { column, buckets }, Some(values)))
}

/// Those of the stored times that selected rows may hold, as ranges again; infinite ones are ranges of their own.
fn selected(
    mut ranges: Vec<(i64, i64)>,
    column: usize,
    start: &Start,
    inputs: &Inputs,
    host: &mut PgHost,
) -> Result<Vec<(i64, i64)>> {
    let reference = inputs.columns.get(column).ok_or_else(malformed)?;
    // Times that are not selected need no bucket.
    pieces::clamp(&mut ranges, plan::bounds(&start.filter, column));
    let (first, last) = reference.ty.infinities();
    let early = ranges.iter().any(|(low, _)| *low <= first);
    let late = ranges.iter().any(|(_, high)| *high >= last);
    if !pieces::reach_infinity(&ranges, reference.ty) {
        return Ok(ranges);
    }
    // What the finite times of those segments span, the statistics don't tell.
    let finite = Test::Range { low: Bound::Excluded(Value::I64(first)), high: Bound::Excluded(Value::I64(last)) };
    let filter = Filter::Test(Predicate { column, test: finite });
    let call = |function| AggregateCall { function, filter: Filter::Const(true) };
    let extremes = vec![call(AggregateFunction::Min(column, None)), call(AggregateFunction::Max(column, None))];
    let found = run(start, inputs, filter, Vec::new(), extremes, host)?;
    let extreme = |nth: usize| match found.aggregates.get(nth).and_then(|c| c.values.get(0)) {
        Some(Value::I64(v)) => Some(v),
        _ => None,
    };
    pieces::clamp(&mut ranges, extreme(0).zip(extreme(1)));
    if early {
        ranges.insert(0, (first, first));
    }
    if late {
        ranges.push((last, last));
    }
    Ok(ranges)
}

/// The distinct values of an I64 column in the selected rows, ascending, and whether NULL is among them.
fn values(column: usize, start: &Start, inputs: &Inputs, host: &mut PgHost) -> Result<(Vec<i64>, bool)> {
    let found = run(start, inputs, Filter::Const(true), vec![Key::Column(column)], Vec::new(), host)?;
    let found = &found.keys.first().ok_or_else(malformed)?.values;
    let mut values: Vec<i64> =
        found.iter().filter_map(|v| if let Value::I64(v) = v { Some(v) } else { None }).collect();
    let nulls = values.len() < found.len();
    basalt_engine::sort_by(&mut values, i64::cmp, &mut || start.options.cancel.check())?;
    Ok((values, nulls))
}

/// Groups of those of the selected rows that `clause` selects, too.
pub fn run(
    start: &Start,
    inputs: &Inputs,
    clause: Filter,
    keys: Vec<Key>,
    aggregates: Vec<AggregateCall>,
    host: &mut PgHost,
) -> Result<AggregateResult> {
    let narrowed = |filter: &Filter| Filter::And(vec![filter.clone(), clause.clone()]);
    let query = AggregateQuery { columns: inputs.columns.clone(), filter: narrowed(&start.filter), keys, aggregates };
    let engine = AggregateExecution::new(query, start.options.clone())?;
    let mut execution = Execution { engine, unmatched: start.unmatched.as_ref().map(|u| narrowed(&u.filter)) };
    scan([&mut execution].into_iter(), start, true, host)?;
    let result = execution.engine.finish(host);
    host.conclude(result)
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its columns").into()
}
