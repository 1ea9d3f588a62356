//! `tstzmultirange` to the engine's `TimeRanges` and back. An unbounded end stands for the engine's infinity.

use basalt_engine::{TimeInterval, TimeRanges};
use pgrx::pg_sys;

/// First and one-past-last valid timestamp, in microseconds since 2000-01-01.
const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

// Not among pgrx's declarations.
unsafe extern "C-unwind" {
    fn multirange_deserialize(
        range_type: *mut pg_sys::TypeCacheEntry,
        multirange: *const pg_sys::varlena,
        count: *mut i32,
        ranges: *mut *mut *mut pg_sys::RangeType,
    );
    fn make_multirange(
        multirange_type: pg_sys::Oid,
        range_type: *mut pg_sys::TypeCacheEntry,
        count: i32,
        ranges: *mut *mut pg_sys::RangeType,
    ) -> *mut pg_sys::varlena;
}

fn range_type() -> *mut pg_sys::TypeCacheEntry {
    // SAFETY: a built-in range type; entries of the type cache live as long as the session.
    unsafe { pg_sys::lookup_type_cache(pg_sys::TSTZRANGEOID, pg_sys::TYPECACHE_RANGE_INFO as i32) }
}

/// Reads a non-NULL `tstzmultirange`.
pub fn to_ranges(datum: pg_sys::Datum) -> TimeRanges {
    let given = datum.cast_mut_ptr::<pg_sys::varlena>();
    let mut intervals = Vec::new();
    // SAFETY: the datum is a multirange of timestamptz; what is palloc'ed here is freed below.
    unsafe {
        let plain = pg_sys::pg_detoast_datum(given);
        let cache = range_type();
        let (mut count, mut ranges) = (0, std::ptr::null_mut());
        pg_sys::ffi::pg_guard_ffi_boundary(|| multirange_deserialize(cache, plain, &mut count, &mut ranges));
        for i in 0..count as usize {
            let (mut lower, mut upper) = (pg_sys::RangeBound::default(), pg_sys::RangeBound::default());
            let mut empty = false;
            pg_sys::range_deserialize(cache, *ranges.add(i), &mut lower, &mut upper, &mut empty);
            if empty {
                continue;
            }
            let start = match (lower.infinite, lower.val.value() as i64) {
                (true, _) => i64::MIN,
                (false, time) => time.saturating_add(i64::from(!lower.inclusive)),
            };
            let end = match (upper.infinite, upper.val.value() as i64) {
                (true, _) => i64::MAX,
                (false, time) => time.saturating_add(i64::from(upper.inclusive)),
            };
            intervals.push(TimeInterval::new(start, end));
            pg_sys::pfree((*ranges.add(i)).cast());
        }
        if !ranges.is_null() {
            pg_sys::pfree(ranges.cast());
        }
        if plain != given {
            pg_sys::pfree(plain.cast());
        }
    }
    TimeRanges::new(intervals)
}

/// A `tstzmultirange` datum in the current memory context. Times beyond timestamptz (dates have more) become unbounded.
pub fn from_ranges(ranges: &TimeRanges) -> pg_sys::Datum {
    let cache = range_type();
    let mut made: Vec<*mut pg_sys::RangeType> = ranges
        .intervals()
        .iter()
        .map(|interval| {
            let unbounded = interval.start < MIN_TIMESTAMP;
            let mut lower = bound(interval.start.min(END_TIMESTAMP - 1), unbounded, true);
            let mut upper = bound(interval.end.max(MIN_TIMESTAMP), interval.end >= END_TIMESTAMP, false);
            // SAFETY: the bounds are of the range type's element type, and lower < upper.
            unsafe { pg_sys::range_serialize(cache, &mut lower, &mut upper, false) }
        })
        .collect();
    // SAFETY: `made` holds as many ranges as it says.
    unsafe {
        let multirange = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            make_multirange(pg_sys::TSTZMULTIRANGEOID, cache, made.len() as i32, made.as_mut_ptr())
        });
        pg_sys::Datum::from(multirange)
    }
}

fn bound(time: i64, infinite: bool, lower: bool) -> pg_sys::RangeBound {
    pg_sys::RangeBound {
        val: pg_sys::Datum::from(if infinite { 0 } else { time }),
        infinite,
        inclusive: lower && !infinite,
        lower,
    }
}
