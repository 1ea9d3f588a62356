//! Where calendar units begin, on a clock without a zone.

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

/// Days from 0000-03-01 to 2000-01-01 in the proleptic Gregorian calendar.
const DAYS_TO_2000: i64 = 730_425;
const DAYS_PER_ERA: i64 = 146_097;

impl CalendarUnit {
    pub const DAY: CalendarUnit = CalendarUnit::Fixed { length: MICROS_PER_DAY, origin: 0 };
    /// From Monday; 2000-01-03 was one.
    pub const WEEK: CalendarUnit = CalendarUnit::Fixed { length: 7 * MICROS_PER_DAY, origin: 2 * MICROS_PER_DAY };

    /// The first beginning of a piece after `time`; `None`: beyond the range of times.
    pub fn next(self, time: i64) -> Option<i64> {
        let months = |count: i64, of: i64| {
            let (year, month) = month_of(time.div_euclid(MICROS_PER_DAY));
            let next = (year * 12 + month).div_euclid(of) * of + count;
            first_day(next.div_euclid(12), next.rem_euclid(12)).checked_mul(MICROS_PER_DAY)
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

/// Year and month (0 to 11) of a day counted from 2000-01-01. Eras of 400 years from March on, as in H. Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms".
fn month_of(day: i64) -> (i64, i64) {
    let shifted = day + DAYS_TO_2000;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let year = year_of_era + era * 400 + i64::from(from_march >= 10);
    (year, (from_march + 2) % 12)
}

/// The first day of a month (0 to 11), counted from 2000-01-01.
fn first_day(year: i64, month: i64) -> i64 {
    let year = if month < 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (month + 10) % 12;
    let of_year = (153 * from_march + 2) / 5;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * DAYS_PER_ERA + of_era - DAYS_TO_2000
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
    fn every_day_of_800_years_is_in_the_month_that_counting_gives() {
        let (mut day, mut year, mut month) = (first_day(1600, 0), 1600, 0);
        while year < 2400 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize];
            assert_eq!(first_day(year, month), day);
            for d in day..day + length {
                assert_eq!(month_of(d), (year, month));
            }
            day += length;
            (year, month) = if month == 11 { (year + 1, 0) } else { (year, month + 1) };
        }
        assert_eq!(first_day(2000, 0), 0);
    }

    #[test]
    fn fixed_pieces_count_from_their_origin() {
        let unit = CalendarUnit::Fixed { length: 10, origin: 3 };
        assert_eq!([unit.next(-8), unit.next(-7), unit.next(2), unit.next(3)], [Some(-7), Some(3), Some(3), Some(13)]);
        assert_eq!(CalendarUnit::WEEK.next(0), Some(2 * MICROS_PER_DAY));
        assert_eq!(unit.next(i64::MAX), None);
    }
}
