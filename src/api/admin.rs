//! Administration of datasources: replace, compact, restore, sweep.

use basalt_background::handoff::HandoffPolicy;
use basalt_engine::TimeInterval;
use basalt_engine::types::LogicalType;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::require_ownership;
use crate::catalog::handoff::{self, Step};
use crate::catalog::{compact, datasource, replace, restore, sweep};
use crate::error::{Error, Result};
use crate::pg::function::{Arguments, function};
use crate::pg::session::require_writes;
use crate::pg::{cast, slots, types};

function!(pg_finfo_basalt_replace, basalt_replace, |arguments| {
    require_writes(c"basalt.replace()");
    let relation = arguments.relation(0)?;
    require_ownership(relation)?;
    let opened = datasource::open(relation)?;
    let query = arguments
        .text(3)
        .ok_or_else(|| Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "the query must not be NULL"))?;
    let mut within = TimeInterval::ALL;
    if let Some(position) = opened.schema.time {
        let (type_oid, typmod) = opened.types[position];
        let base = types::base_type(type_oid, typmod).0;
        let ty = opened.schema.columns[position].ty;
        if let Some(start) = bound(arguments, 1, base, ty)? {
            within.start = start;
        }
        if let Some(end) = bound(arguments, 2, base, ty)? {
            within.end = end;
        }
    } else if arguments.get(1).is_some() || arguments.get(2).is_some() {
        // Any range will do: it is refused, with the table's name.
        within = TimeInterval::new(0, 1);
    }
    Ok(pg_sys::Datum::from(replace::replace(relation, within, &query)? as i64))
});

/// An end of the range in microseconds: the argument, cast to the time column's type.
fn bound(arguments: &Arguments, at: usize, time_type: pg_sys::Oid, ty: LogicalType) -> Result<Option<i64>> {
    let Some(given) = arguments.get(at) else { return Ok(None) };
    let value = cast::cast(given, arguments.type_of(at), time_type)?;
    let stored = crate::pg::values::Codec::with_type(ty, time_type, -1).to_value(value, false)?;
    match stored {
        basalt_engine::types::Value::I64(time) => Ok(Some(ty.to_micros(time))),
        _ => Err(basalt_engine::Error::invalid("time of another type").into()),
    }
}

function!(pg_finfo_basalt_compact, basalt_compact, |arguments| {
    require_writes(c"basalt.compact()");
    let relation = arguments.relation(0)?;
    require_ownership(relation)?;
    Ok(pg_sys::Datum::from(compact::compact(relation)? as i64))
});

function!(pg_finfo_basalt_handoff, basalt_handoff, |arguments| {
    require_writes(c"basalt.handoff()");
    let relation = arguments.relation(0)?;
    require_ownership(relation)?;
    datasource::open(relation)?;
    let policy = HandoffPolicy { delay: 0, ..HandoffPolicy::default() };
    let mut finals = 0i64;
    while let Step::HandedOff { rows, .. } = handoff::step(relation, &policy, None, true)? {
        finals += i64::from(rows > 0);
    }
    Ok(pg_sys::Datum::from(finals))
});

function!(pg_finfo_basalt_restore_version, basalt_restore_version, |arguments| {
    require_writes(c"basalt.restore_version()");
    let relation = arguments.relation(0)?;
    require_ownership(relation)?;
    let version = arguments
        .i64(1)
        .ok_or_else(|| Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "the version must not be NULL"))?;
    Ok(pg_sys::Datum::from(restore::restore(relation, version)?))
});

// Returns `{limit, interactive, reporting, waiting}`.
function!(pg_finfo_basalt_thread_counts, basalt_thread_counts, |_arguments| {
    let counts = slots::counts().ok_or_else(|| {
        Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "threads are not counted")
            .detail("The library basalt was not loaded when the server started.")
            .hint("Add basalt to shared_preload_libraries and restart the server.")
    })?;
    Ok(cast::int8_array(&counts.map(i64::from)))
});

// Returns `{segments, datasources, files}`.
function!(pg_finfo_basalt_sweep, basalt_sweep, |_arguments| {
    let swept = sweep::sweep()?;
    Ok(cast::int8_array(&[swept.segments as i64, swept.datasources as i64, swept.files as i64]))
});
