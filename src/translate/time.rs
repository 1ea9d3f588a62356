//! Functions of a time column: where they may change their value (while planning), and what their values are (at execution).

use std::sync::Arc;

use basalt_engine::plan::{Buckets, CalendarUnit};
use basalt_engine::types::{LogicalType, MICROS_PER_DAY};
use pgrx::pg_sys::{self, Datum};

use super::bind::BoundColumn;
use super::filter::Builder;
use super::shippable::{self, Reason};
use super::template::{Clock, KeyTemplate, Pieces, Unit};
use crate::error::{Error, Result};
use crate::pg::eval::Expressions;
use crate::pg::node::{FuncView, Node, View, Walk};
use crate::pg::time::Zone;
use crate::pg::values::Codec;
use crate::pg::{classes, node, values};

/// Where times are cut into more pieces than this, their values are looked at one by one instead.
const MAX_PIECES: usize = 1_000_000;

/// A grouping expression over one time column, constant between boundaries that are known.
pub fn key<'p>(builder: &mut Builder<'p, '_>, expression: Node<'p>) -> std::result::Result<KeyTemplate, Reason> {
    let attribute = builder.single_column(expression)?.ok_or("it has no column")?;
    let (column, ty) = builder.column(attribute)?;
    if !ty.is_time() {
        return Err("expressions are grouped by only if they are of one time column".into());
    }
    shippable::evaluable(expression)?;
    if expression.is_nonstrict() {
        return Err("it may be non-NULL where its time is NULL".into());
    }
    let mut pieces: Vec<Pieces> = Vec::new();
    let mut reason: Option<Reason> = None;
    expression.walk(&mut |n| match n.view() {
        View::Var(_) => {
            reason = Some("it depends on more of the time than a unit of date_trunc, date_bin or extract".into());
            Walk::Stop
        }
        View::Func(f) => match piece_function(builder, &f, ty) {
            Ok(Some(found)) => {
                if !pieces.contains(&found) {
                    pieces.push(found);
                }
                Walk::Skip
            }
            Ok(None) => Walk::Descend,
            Err(found) => {
                reason = Some(found);
                Walk::Stop
            }
        },
        _ => Walk::Descend,
    });
    match reason {
        Some(reason) => Err(reason),
        None => Ok(KeyTemplate::Buckets { column, expression: builder.expression(expression), pieces }),
    }
}

/// What a time argument is: its type, and the clock that it shows.
#[derive(Clone, Copy)]
struct Time {
    ty: u32,
    clock: Clock,
    /// Made from a date: nothing changes within a day.
    days: bool,
}

/// `Ok(None)`: not a function that is known to be constant within pieces of time.
fn piece_function<'p>(
    builder: &mut Builder<'p, '_>,
    f: &FuncView<'p>,
    column: LogicalType,
) -> std::result::Result<Option<Pieces>, Reason> {
    let (unit, argument, zone) = match (f.function.to_u32(), f.args.as_slice()) {
        (pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMP | pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ, [unit, time]) => {
            (truncation_unit(&unit_name(*unit)?), *time, None)
        }
        (pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT, [unit, time, zone]) => {
            (truncation_unit(&unit_name(*unit)?), *time, Some(*zone))
        }
        (
            pg_sys::F_EXTRACT_TEXT_DATE
            | pg_sys::F_EXTRACT_TEXT_TIMESTAMP
            | pg_sys::F_EXTRACT_TEXT_TIMESTAMPTZ
            | pg_sys::F_DATE_PART_TEXT_DATE
            | pg_sys::F_DATE_PART_TEXT_TIMESTAMP
            | pg_sys::F_DATE_PART_TEXT_TIMESTAMPTZ,
            [field, time],
        ) => (extraction_unit(&unit_name(*field)?), *time, None),
        (pg_sys::F_TO_CHAR_TIMESTAMP_TEXT | pg_sys::F_TO_CHAR_TIMESTAMPTZ_TEXT, [time, format]) => {
            let Ok(format) = unit_name(*format) else { return Ok(None) };
            (format_unit(&format), *time, None)
        }
        (pg_sys::F_DATE_TIMESTAMP | pg_sys::F_DATE_TIMESTAMPTZ, [time]) => (Some(Unit::Day), *time, None),
        (
            pg_sys::F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP | pg_sys::F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ,
            [stride, time, origin],
        ) => {
            let Some(time) = time_argument(builder, *time, column) else { return Ok(None) };
            if builder.single_column(*stride)?.is_some() || builder.single_column(*origin)?.is_some() {
                return Ok(None);
            }
            let unit = Unit::Bin { stride: builder.expression(*stride), origin: builder.expression(*origin) };
            // Of a timestamptz the absolute time counts, not what a clock shows.
            let clock =
                if time.ty == pg_sys::TIMESTAMPTZOID.to_u32() && !time.days { Clock::Stored } else { time.clock };
            let unit = if time.days { Unit::Day } else { unit };
            return Ok(Some(Pieces { unit, clock }));
        }
        _ => return Ok(None),
    };
    let Some(time) = time_argument(builder, argument, column) else { return Ok(None) };
    let Some(unit) = unit else { return Err("its unit is not one that is constant for a while".into()) };
    if time.days {
        // Midnights may be mapped to another day where a zone skipped one: no piece is longer than a day.
        let unit = if time.ty == pg_sys::TIMESTAMPTZOID.to_u32() { Unit::Day } else { unit.max(Unit::Day) };
        return Ok(Some(Pieces { unit, clock: Clock::Stored }));
    }
    let clock = match (zone, time.ty == pg_sys::TIMESTAMPTZOID.to_u32()) {
        (Some(zone), true) => {
            if builder.single_column(zone)?.is_some() {
                return Ok(None);
            }
            local_clock(builder, argument, Some(zone))
        }
        (_, true) => local_clock(builder, argument, None),
        (_, false) => time.clock,
    };
    Ok(Some(Pieces { unit, clock }))
}

/// The clock that shows a timestamptz in a zone, by default the session's.
fn local_clock<'p>(builder: &mut Builder<'p, '_>, time: Node<'p>, zone: Option<Node<'p>>) -> Clock {
    let local = match zone {
        Some(zone) => node::call(pg_sys::F_TIMEZONE_TEXT_TIMESTAMPTZ, pg_sys::TIMESTAMPOID, &[zone, time]),
        None => node::call(pg_sys::F_TIMESTAMP_TIMESTAMPTZ, pg_sys::TIMESTAMPOID, &[time]),
    };
    clock_of(builder, local, zone)
}

fn clock_of<'p>(builder: &mut Builder<'p, '_>, local: Node<'p>, zone: Option<Node<'p>>) -> Clock {
    let local = builder.expression(local);
    match zone {
        Some(zone) => Clock::Zone { local, zone: builder.expression(zone) },
        None => Clock::Session { local },
    }
}

/// The time column, possibly cast or moved to a zone.
fn time_argument<'p>(builder: &mut Builder<'p, '_>, node: Node<'p>, column: LogicalType) -> Option<Time> {
    let stored = |ty: pg_sys::Oid, days| Some(Time { ty: ty.to_u32(), clock: Clock::Stored, days });
    match node.view() {
        View::Var(_) => match column {
            LogicalType::Date => stored(pg_sys::DATEOID, true),
            LogicalType::Timestamp => stored(pg_sys::TIMESTAMPOID, false),
            LogicalType::TimestampTz => stored(pg_sys::TIMESTAMPTZOID, false),
            _ => None,
        },
        View::Relabel(arg) => time_argument(builder, arg, column),
        View::Func(f) => {
            let inner = time_argument(builder, *f.args.last()?, column)?;
            let stored_instant =
                inner.ty == pg_sys::TIMESTAMPTZOID.to_u32() && inner.clock == Clock::Stored && !inner.days;
            match (f.function.to_u32(), f.args.as_slice()) {
                (pg_sys::F_TIMESTAMP_DATE, [_]) if inner.days => stored(pg_sys::TIMESTAMPOID, true),
                (pg_sys::F_TIMESTAMPTZ_DATE, [_]) if inner.days => stored(pg_sys::TIMESTAMPTZOID, true),
                (pg_sys::F_TIMESTAMP_TIMESTAMPTZ, [_]) if stored_instant => {
                    let clock = clock_of(builder, node, None);
                    Some(Time { ty: pg_sys::TIMESTAMPOID.to_u32(), clock, days: false })
                }
                (pg_sys::F_TIMEZONE_TEXT_TIMESTAMPTZ | pg_sys::F_TIMEZONE_INTERVAL_TIMESTAMPTZ, [zone, _])
                    if stored_instant && builder.single_column(*zone).ok()?.is_none() =>
                {
                    let clock = clock_of(builder, node, Some(*zone));
                    Some(Time { ty: pg_sys::TIMESTAMPOID.to_u32(), clock, days: false })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn unit_name(node: Node<'_>) -> std::result::Result<String, Reason> {
    match node.view() {
        View::Const { null: false, value } if node.ty() == pg_sys::TEXTOID => {
            Ok(values::with_varlena(value, |b| String::from_utf8_lossy(b).to_lowercase()))
        }
        View::Relabel(arg) => unit_name(arg),
        _ => Err("its unit is not a constant".into()),
    }
}

fn truncation_unit(name: &str) -> Option<Unit> {
    match name {
        "second" => Some(Unit::Second),
        "minute" => Some(Unit::Minute),
        "hour" => Some(Unit::Hour),
        "day" => Some(Unit::Day),
        "week" => Some(Unit::Week),
        "month" | "quarter" => Some(Unit::Month),
        "year" | "decade" | "century" | "millennium" => Some(Unit::Year),
        _ => None,
    }
}

fn extraction_unit(name: &str) -> Option<Unit> {
    match name {
        "minute" => Some(Unit::Minute),
        "hour" => Some(Unit::Hour),
        "day" | "dow" | "isodow" | "doy" => Some(Unit::Day),
        "week" | "isoyear" => Some(Unit::Week),
        "month" | "quarter" => Some(Unit::Month),
        "year" | "decade" | "century" | "millennium" => Some(Unit::Year),
        "timezone" | "timezone_hour" | "timezone_minute" => Some(Unit::Offset),
        _ => None,
    }
}

/// The longest unit within which `to_char` surely shows the same, by what (lower case) its format contains. Text that is quoted counts,
/// too: at worst the pieces are shorter than they need be.
fn format_unit(format: &str) -> Option<Unit> {
    let has = |parts: &[&str]| parts.iter().any(|part| format.contains(part));
    match () {
        () if has(&["ms", "us", "ff", "tz"]) => None,
        () if has(&["ss"]) => Some(Unit::Second),
        () if has(&["mi"]) => Some(Unit::Minute),
        () if has(&["hh", "am", "pm", "a.m", "p.m"]) => Some(Unit::Hour),
        () if has(&["d", "w", "i", "j"]) => Some(Unit::Day),
        () => Some(Unit::Month),
    }
}

fn calendar_unit(unit: Unit) -> Option<CalendarUnit> {
    let fixed = |length| Some(CalendarUnit::Fixed { length, origin: 0 });
    match unit {
        Unit::Second => fixed(1_000_000),
        Unit::Minute => fixed(60_000_000),
        Unit::Hour => fixed(3_600_000_000),
        Unit::Day => Some(CalendarUnit::DAY),
        Unit::Week => Some(CalendarUnit::WEEK),
        Unit::Month => Some(CalendarUnit::Month),
        Unit::Year => Some(CalendarUnit::Year),
        Unit::Offset | Unit::Bin { .. } => None,
    }
}

/// Roughly how many pieces times from `low` to `high` (microseconds) are cut into, where that is known while planning.
pub fn estimate(pieces: &[Pieces], low: i64, high: i64) -> i64 {
    let span = high.saturating_sub(low);
    pieces.iter().filter_map(|p| calendar_unit(p.unit)).map(|u| u.estimate(span)).fold(1, i64::saturating_add)
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
        classes::Classes::new(compiled.ty, expressions.node(expression).ok_or_else(malformed)?.collation());
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
    Ok((Arc::new(Buckets { starts, values: numbers, null }), BucketValues(classes.into_values())))
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
