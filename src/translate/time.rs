//! Functions of a time column: where they may change their value. What they are there, `pieces` finds out at execution.

use basalt_engine::plan::CalendarUnit;
use basalt_engine::types::LogicalType;
use pgrx::pg_sys;

use super::filter::Builder;
use super::infallible;
use super::shippable::{self, Reason};
use super::template::{Clock, KeyTemplate, Pieces, Unit};
use crate::pg::node::{self, FuncView, Node, View, Walk};
use crate::pg::values;

/// A grouping expression over one time column, constant between boundaries that are known.
pub fn key<'p>(builder: &mut Builder<'p, '_>, expression: Node<'p>) -> Result<KeyTemplate, Reason> {
    let attribute = builder.single_column(expression)?.ok_or("it has no column")?;
    let (column, ty) = builder.column(attribute)?;
    if !ty.is_time() {
        return Err("expressions are grouped by only if they are of one time column".into());
    }
    let pieces = pieces(builder, expression, ty, &mut Vec::new())?;
    Ok(KeyTemplate::Buckets { column, expression: builder.expression(expression), pieces })
}

/// Where a test of one stored time column may change its value, if it raises an error for no time.
pub fn test<'p>(builder: &mut Builder<'p, '_>, column: usize, expression: Node<'p>) -> Option<Vec<Pieces>> {
    let ty = builder.ty(column).filter(|ty| ty.is_time())?;
    builder.stored(column)?;
    let mark = builder.mark();
    let mut calls = Vec::new();
    let found = pieces(builder, expression, ty, &mut calls).ok();
    let is_call = |n: Node<'p>| calls.contains(&n.as_ptr());
    // Parts of a time are small numbers.
    let narrowed = |n: Node<'p>| match n.view() {
        View::Func(f) => {
            let casts = matches!(f.function.to_u32(), pg_sys::F_INT4_NUMERIC | pg_sys::F_INT4_FLOAT8);
            casts && f.args.first().is_some_and(|a| is_call(*a) && a.ty() != pg_sys::TEXTOID)
        }
        _ => false,
    };
    // What has no column may fail, whatever the rows are.
    let settled = |n: Node<'p>| builder.has_column(n) == Ok(false);
    let sound =
        found.is_some() && infallible::never_fails_beyond(expression, &mut |n| is_call(n) || narrowed(n) || settled(n));
    if !sound {
        builder.reset(mark);
    }
    found.filter(|_| sound)
}

/// The functions of time that an expression of one time column consists of: it is constant where they are. `calls`: those.
fn pieces<'p>(
    builder: &mut Builder<'p, '_>,
    expression: Node<'p>,
    ty: LogicalType,
    calls: &mut Vec<*mut pg_sys::Node>,
) -> Result<Vec<Pieces>, Reason> {
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
                calls.push(n.as_ptr());
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
        None => Ok(pieces),
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
) -> Result<Option<Pieces>, Reason> {
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

fn unit_name(node: Node<'_>) -> Result<String, Reason> {
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

pub(super) fn calendar_unit(unit: Unit) -> Option<CalendarUnit> {
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
