//! Where calendar units begin, on a clock without a zone.

use crate::calendar::{civil, first_of_month};
use crate::types::MICROS_PER_DAY;

/// A way to cut time into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// Pieces of `length` microseconds, one of which begins at `origin`.
    Fixed {
        length: i64,
        origin: i64,
    },
    Month,
    Year,
}

impl CalendarUnit {
    pub const DAY: CalendarUnit = CalendarUnit::Fixed { length: MICROS_PER_DAY, origin: 0 };
    /// From Monday; 2000-01-03 was one.
    pub const WEEK: CalendarUnit = CalendarUnit::Fixed { length: 7 * MICROS_PER_DAY, origin: 2 * MICROS_PER_DAY };

    /// The first beginning of a piece after `time`; `None`: beyond the range of times.
    pub fn next(self, time: i64) -> Option<i64> {
        let months = |count: i64, of: i64| {
            let (year, month, _) = civil(time.div_euclid(MICROS_PER_DAY));
            let next = (year * 12 + month - 1).div_euclid(of) * of + count;
            first_of_month(next.div_euclid(12), next.rem_euclid(12) + 1).checked_mul(MICROS_PER_DAY)
        };
        match self {
            CalendarUnit::Fixed { length, origin } => {
                let inside = (i128::from(time) - i128::from(origin)).rem_euclid(i128::from(length.max(1)));
                i64::try_from(i128::from(time) - inside + i128::from(length.max(1))).ok()
            }
            CalendarUnit::Month => months(1, 1),
            CalendarUnit::Year => months(12, 12),
        }
    }

    /// Roughly how many pieces a span of microseconds is cut into.
    pub fn estimate(self, span: i64) -> i64 {
        let length = match self {
            CalendarUnit::Fixed { length, .. } => length.max(1),
            CalendarUnit::Month => 30 * MICROS_PER_DAY,
            CalendarUnit::Year => 365 * MICROS_PER_DAY,
        };
        span / length + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_years_follow_the_calendar() {
        let day = MICROS_PER_DAY;
        assert_eq!(CalendarUnit::Month.next(0), Some(31 * day));
        assert_eq!(CalendarUnit::Month.next(31 * day - 1), Some(31 * day));
        assert_eq!(CalendarUnit::Month.next(31 * day), Some(60 * day));
        assert_eq!(CalendarUnit::Month.next(-1), Some(0));
        assert_eq!(CalendarUnit::Year.next(0), Some(366 * day));
        assert_eq!(CalendarUnit::Year.next(-1), Some(0));
        assert_eq!(CalendarUnit::Year.next(366 * day), Some(731 * day));
        // 1900 was no leap year: 36524 days before 2000 is 1900-01-01.
        assert_eq!(CalendarUnit::Month.next((-36_524 + 31) * day), Some((-36_524 + 59) * day));
    }

    #[test]
    fn fixed_pieces_count_from_their_origin() {
        let unit = CalendarUnit::Fixed { length: 10, origin: 3 };
        assert_eq!([unit.next(-8), unit.next(-7), unit.next(2), unit.next(3)], [Some(-7), Some(3), Some(3), Some(13)]);
        assert_eq!(CalendarUnit::WEEK.next(0), Some(2 * MICROS_PER_DAY));
        assert_eq!(unit.next(i64::MAX), None);
    }
}
