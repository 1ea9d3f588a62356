//! What functions of a time column are between the boundaries at which they may change: keys by numbers, tests as ranges of times.

use std::sync::Arc;

use basalt_engine::plan::{Buckets, CalendarUnit};
use basalt_engine::types::{LogicalType, MICROS_PER_DAY};
use pgrx::pg_sys::{self, Datum};

use super::bind::BoundColumn;
use super::template::{Clock, Pieces, Unit};
use super::time::calendar_unit;
use crate::error::{Error, Result};
use crate::pg::eval::Expressions;
use crate::pg::time::Zone;
use crate::pg::values::Codec;
use crate::pg::{classes, values};

/// Where times are cut into more pieces than this, their values are looked at one by one instead.
const MAX_PIECES: usize = 1_000_000;

/// What a stored I64 column may hold in some segments.
pub struct Stored {
    /// Ascending and disjoint, both ends inclusive.
    pub ranges: Vec<(i64, i64)>,
    /// The segments' rows.
    pub rows: u64,
}

/// Leaves what is within `limits`, both inclusive; `None`: nothing.
pub fn clamp(ranges: &mut Vec<(i64, i64)>, limits: Option<(i64, i64)>) {
    ranges.retain_mut(|(low, high)| {
        limits.is_some_and(|(least, greatest)| {
            (*low, *high) = ((*low).max(least), (*high).min(greatest));
            low <= high
        })
    });
}

/// Whether an infinite time is among the ranges, or all times up to it are, which is what a test that leaves out infinity alone leaves.
pub fn reach_infinity(ranges: &[(i64, i64)], column: LogicalType) -> bool {
    let (first, last) = column.infinities();
    ranges.iter().any(|(low, high)| *low <= first + 1 || *high >= last - 1)
}

/// What a bucket's number stands for.
pub struct BucketValues(pub Vec<(Datum, bool)>);

/// Starts of the pieces of the times in `ranges` (stored, ascending, both ends inclusive); `None`: there are more than `most`.
/// `column`: type of the time column.
pub fn cut_all(
    expressions: &Expressions,
    pieces: &[Pieces],
    column: LogicalType,
    ranges: &[(i64, i64)],
    most: usize,
) -> Result<Option<Vec<i64>>> {
    let most = most.min(MAX_PIECES);
    let mut starts = Vec::new();
    for (low, high) in ranges {
        starts.push(*low);
        // Of one time there is one piece; an infinite one has no clock that could be asked.
        if low == high {
            continue;
        }
        for p in pieces {
            if !cut(expressions, p, column, *low, *high, most, &mut starts)? {
                return Ok(None);
            }
        }
    }
    starts.sort_unstable();
    starts.dedup();
    Ok(Some(starts))
}

/// Evaluates a key's expression at the `starts` of pieces, which ascend, of an I64 column, and of NULL if `nulls`.
pub fn evaluate(
    expressions: &Expressions,
    expression: usize,
    column: BoundColumn,
    mut starts: Vec<i64>,
    nulls: bool,
) -> Result<(Arc<Buckets>, BucketValues)> {
    let compiled = expressions.whole(expression).ok_or_else(malformed)?;
    let evaluator = expressions.evaluator();
    let mut codec = Codec::with_type(column.ty, column.declared, column.typmod);
    let mut classes =
        classes::Classes::new(compiled.ty, expressions.node(expression).ok_or_else(malformed)?.collation())?;
    let mut numbers = Vec::with_capacity(starts.len() + 1);
    let inputs = starts.iter().copied().map(Some).chain(nulls.then_some(None));
    for (i, input) in inputs.enumerate() {
        let guard = evaluator.in_result_context();
        let input = input.map(|value| codec.datum_of_i64(value));
        drop(guard);
        let value = evaluator.evaluate(compiled, input);
        let _guard = evaluator.in_query_context();
        numbers.push(classes.number(value)?);
        if i % 1024 == 1023 {
            evaluator.reset();
            crate::pg::interrupts::check();
        }
    }
    evaluator.reset();
    let null = if nulls { numbers.pop() } else { None };
    if starts.is_empty() {
        // No row has a value: any piece will do.
        starts.push(0);
        numbers.push(null.unwrap_or(0));
    }
    Ok((Arc::new(Buckets { starts, values: numbers, null }), BucketValues(classes.take_values())))
}

/// The times among `ranges` (as [`cut_all`] takes them) at which a test is true, or false if `negated`: ascending, disjoint, both ends inclusive.
/// `None`: that would be more than `most` questions.
pub fn passing(
    expressions: &Expressions,
    (expression, negated): (usize, bool),
    pieces: &[Pieces],
    column: BoundColumn,
    ranges: &[(i64, i64)],
    most: usize,
) -> Result<Option<Vec<(i64, i64)>>> {
    let Some(starts) = cut_all(expressions, pieces, column.ty, ranges, most)? else { return Ok(None) };
    let compiled = expressions.whole(expression).ok_or_else(malformed)?;
    let evaluator = expressions.evaluator();
    let mut codec = Codec::with_type(column.ty, column.declared, column.typmod);
    let mut passing: Vec<(i64, i64)> = Vec::new();
    let mut rest = ranges.iter().copied().peekable();
    for (i, start) in starts.iter().enumerate() {
        while rest.next_if(|range| range.1 < *start).is_some() {}
        let end = rest.peek().map_or(*start, |range| range.1);
        let last = starts.get(i + 1).map_or(end, |next| end.min(next - 1));
        let value = evaluator.evaluate(compiled, Some(codec.datum_of_i64(*start)));
        if value.is_some_and(|v| (v.value() as u8 != 0) != negated) {
            match passing.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(*start) => before.1 = last,
                _ => passing.push((*start, last)),
            }
        }
        if i % 1024 == 1023 {
            evaluator.reset();
            crate::pg::interrupts::check();
        }
    }
    evaluator.reset();
    Ok(Some(passing))
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its expressions").into()
}

/// Appends the boundaries in `low ..= high` of one piece function; false: there are more than `most`.
fn cut(
    expressions: &Expressions,
    pieces: &Pieces,
    column: LogicalType,
    low: i64,
    high: i64,
    most: usize,
    starts: &mut Vec<i64>,
) -> Result<bool> {
    let unit = match pieces.unit {
        Unit::Bin { stride, origin } => Some(bin_unit(expressions, stride, origin)?),
        unit => calendar_unit(unit),
    };
    let days = column == LogicalType::Date;
    let scale = if days { MICROS_PER_DAY } else { 1 };
    let Some(spans) = spans(expressions, pieces.clock, low, high)? else { return Ok(false) };
    for span in spans {
        starts.push(span.start);
        let Some(unit) = unit else { continue };
        let mut at = span.start;
        loop {
            let next = at.checked_mul(scale).and_then(|t| t.checked_add(span.offset)).and_then(|t| unit.next(t));
            let Some(next) = next.and_then(|t| t.checked_sub(span.offset)) else { break };
            at = if days { next.div_euclid(MICROS_PER_DAY) } else { next };
            if at > span.last {
                break;
            }
            starts.push(at);
            if starts.len() > most {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// `date_bin`'s stride and origin; what it refuses, PostgreSQL's own function reports when the pieces are evaluated.
fn bin_unit(expressions: &Expressions, stride: usize, origin: usize) -> Result<CalendarUnit> {
    let value = |e: usize| -> Result<Option<Datum>> {
        Ok(expressions.evaluator().evaluate(expressions.whole(e).ok_or_else(malformed)?, None))
    };
    let length = value(stride)?.and_then(crate::pg::time::interval_micros).filter(|l| *l > 0);
    let origin = value(origin)?.map(|d| d.value() as i64);
    Ok(match (length, origin) {
        (Some(length), Some(origin)) => CalendarUnit::Fixed { length, origin },
        _ => CalendarUnit::Year,
    })
}

/// Stored times from `start` to `last` in which local time is stored time plus `offset` microseconds.
struct Span {
    start: i64,
    last: i64,
    offset: i64,
}

/// `None`: too many.
fn spans(expressions: &Expressions, clock: Clock, low: i64, high: i64) -> Result<Option<Vec<Span>>> {
    let (local, zone) = match clock {
        Clock::Stored => return Ok(Some(vec![Span { start: low, last: high, offset: 0 }])),
        Clock::Session { local } => (local, Zone::session()),
        Clock::Zone { local, zone } => (local, named_zone(expressions, zone)?),
    };
    let compiled = expressions.whole(local).ok_or_else(malformed)?;
    let evaluator = expressions.evaluator();
    let offset = |time: i64| -> Result<i64> {
        let shown = evaluator.evaluate(compiled, Some(Datum::from(time))).map_or(time, |d| d.value() as i64);
        evaluator.reset();
        Ok(shown.wrapping_sub(time))
    };
    let mut found: Vec<Span> = Vec::new();
    let mut start = low;
    loop {
        let next = zone.and_then(|z| z.next_transition(start)).filter(|t| *t > start && *t <= high);
        let last = next.map_or(high, |t| t - 1);
        uniform(&offset, start, last, &mut found)?;
        match next {
            Some(next) => start = next,
            None => return Ok(Some(found)),
        }
        if found.len() > MAX_PIECES {
            return Ok(None);
        }
    }
}

/// Splits `start ..= last` until the offset is the same at both ends of every part: the zone's name may be an abbreviation
/// whose meaning changed, of which the zone database shows no transitions.
fn uniform(offset: &dyn Fn(i64) -> Result<i64>, start: i64, last: i64, found: &mut Vec<Span>) -> Result<()> {
    let (first, end) = (offset(start)?, offset(last)?);
    if first == end {
        found.push(Span { start, last, offset: first });
        return Ok(());
    }
    let (mut same, mut other) = (start, last);
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        if offset(middle)? == first { same = middle } else { other = middle }
    }
    found.push(Span { start, last: same, offset: first });
    uniform(offset, other, last, found)
}

fn named_zone(expressions: &Expressions, zone: usize) -> Result<Option<Zone>> {
    let compiled = expressions.whole(zone).ok_or_else(malformed)?;
    if compiled.ty != pg_sys::TEXTOID {
        return Ok(None);
    }
    let name = expressions.evaluator().evaluate(compiled, None);
    Ok(name.and_then(|name| values::with_varlena(name, Zone::named)))
}
