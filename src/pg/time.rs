//! PostgreSQL's conversions between times, and its time zones.

use std::ffi::CString;

use pgrx::pg_sys;

/// Seconds from 1970-01-01 to 2000-01-01.
const EPOCH_SHIFT: i64 = 946_684_800;
const MICROS: i64 = 1_000_000;

/// Midnight of a date in the session's zone, in microseconds; the second number is positive (negative) when that is later
/// (earlier) than every finite timestamp.
pub fn date_to_timestamptz(date: i32) -> (i64, i32) {
    let mut overflow = 0;
    // SAFETY: the out parameter is valid.
    let micros = unsafe { pg_sys::date2timestamptz_opt_overflow(date, &mut overflow) };
    (micros, overflow)
}

/// A time of the session's zone, with overflow as in [`date_to_timestamptz`].
pub fn timestamp_to_timestamptz(timestamp: i64) -> (i64, i32) {
    let mut overflow = 0;
    // SAFETY: the out parameter is valid.
    let micros = unsafe { pg_sys::timestamp2timestamptz_opt_overflow(timestamp, &mut overflow) };
    (micros, overflow)
}

/// A time zone of PostgreSQL's database; lives as long as the process.
#[derive(Clone, Copy)]
pub struct Zone(*mut pg_sys::pg_tz);

impl Zone {
    /// The session's TimeZone.
    pub fn session() -> Option<Zone> {
        // SAFETY: a pointer that is set at start and only ever changed to another zone.
        let zone = unsafe { pg_sys::session_timezone };
        (!zone.is_null()).then_some(Zone(zone))
    }

    /// A zone by its full name or POSIX form; abbreviations are unknown here.
    pub fn named(name: &[u8]) -> Option<Zone> {
        let name = CString::new(name).ok()?;
        // SAFETY: the C string is valid during the call; zones are cached for ever.
        let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
        (!zone.is_null()).then_some(Zone(zone))
    }

    /// The first change of the zone's offset after `after`; both in microseconds since 2000.
    pub fn next_transition(self, after: i64) -> Option<i64> {
        let time: pg_sys::pg_time_t = after.div_euclid(MICROS) + EPOCH_SHIFT;
        let (mut before_offset, mut before_dst, mut boundary) = (0, 0, 0);
        let (mut after_offset, mut after_dst) = (0, 0);
        // SAFETY: all pointers are valid; the zone lives for ever.
        let found = unsafe {
            pg_sys::pg_next_dst_boundary(
                &time,
                &mut before_offset,
                &mut before_dst,
                &mut boundary,
                &mut after_offset,
                &mut after_dst,
                self.0,
            )
        };
        (found == 1).then(|| (boundary - EPOCH_SHIFT).checked_mul(MICROS)).flatten()
    }
}

/// The length of an interval without months; `None`: it has months, or is too long.
pub fn interval_micros(interval: pg_sys::Datum) -> Option<i64> {
    // SAFETY: the datum is a non-NULL interval.
    let interval = unsafe { &*interval.cast_mut_ptr::<pg_sys::Interval>() };
    if interval.month != 0 {
        return None;
    }
    i64::from(interval.day).checked_mul(86_400 * MICROS)?.checked_add(interval.time)
}
