//! Lengths of the intervals that a datasource's time is divided into, in UTC.

use serde::{Deserialize, Serialize};

use crate::TimeInterval;
use crate::calendar::{civil, first_of_month};
use crate::types::MICROS_PER_DAY;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Granularity {
    Hour,
    Day,
    /// Begins on Monday.
    Week,
    Month,
    Year,
    /// One interval, all of time.
    All,
}

const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// Days are counted no further than this, in either direction; intervals beyond are one unbounded interval.
const LAST_DAY: i64 = i64::MAX / MICROS_PER_DAY - 400;

impl Granularity {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "hour" => Granularity::Hour,
            "day" => Granularity::Day,
            "week" => Granularity::Week,
            "month" => Granularity::Month,
            "year" => Granularity::Year,
            "all" => Granularity::All,
            _ => return None,
        })
    }

    /// The interval that holds `time` (microseconds since 2000-01-01 UTC). Infinities, and times within about a year of
    /// what an `i64` holds, fall into an interval that is unbounded on their side.
    pub fn interval(self, time: i64) -> TimeInterval {
        if self == Granularity::All {
            return TimeInterval::ALL;
        }
        let (first, last) = (self.start_of(-LAST_DAY), self.start_of(LAST_DAY));
        if time >= last {
            return TimeInterval::new(last, i64::MAX);
        }
        if time < first {
            return TimeInterval::new(i64::MIN, first);
        }
        let day = time.div_euclid(MICROS_PER_DAY);
        if self == Granularity::Hour {
            let start = time.div_euclid(MICROS_PER_HOUR) * MICROS_PER_HOUR;
            return TimeInterval::new(start, start + MICROS_PER_HOUR);
        }
        let start = self.start_of(day);
        let next = match self {
            Granularity::Day | Granularity::Hour => start + MICROS_PER_DAY,
            Granularity::Week => start + 7 * MICROS_PER_DAY,
            // The first of a month plus 31 days is in the next month; of a year plus 366, in the next year.
            Granularity::Month => self.start_of(start / MICROS_PER_DAY + 31),
            _ => self.start_of(start / MICROS_PER_DAY + 366),
        };
        TimeInterval::new(start, next)
    }

    /// Start, in microseconds, of the interval (of a day or more) that holds `day`.
    fn start_of(self, day: i64) -> i64 {
        let first = match self {
            // 2000-01-03 was a Monday.
            Granularity::Week => day - (day - 2).rem_euclid(7),
            Granularity::Month => {
                let (year, month, _) = civil(day);
                first_of_month(year, month)
            }
            Granularity::Year => first_of_month(civil(day).0, 1),
            _ => day,
        };
        first * MICROS_PER_DAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_tile_time() {
        for granularity in
            [Granularity::Hour, Granularity::Day, Granularity::Week, Granularity::Month, Granularity::Year]
        {
            let mut time = -5 * 366 * MICROS_PER_DAY + 12_345;
            let mut last = granularity.interval(time);
            while time < 10 * 366 * MICROS_PER_DAY {
                let interval = granularity.interval(time);
                assert!(interval.contains(time), "{granularity:?} {time}");
                assert!(interval == last || interval.start == last.end || granularity == Granularity::Hour);
                assert_eq!(granularity.interval(interval.start), interval);
                assert_eq!(granularity.interval(interval.end - 1), interval);
                last = interval;
                time += 5 * MICROS_PER_HOUR;
            }
        }
    }

    #[test]
    fn known_intervals() {
        let day = |d: i64| d * MICROS_PER_DAY;
        // 2000-02-29 is day 59.
        assert_eq!(Granularity::Month.interval(day(59)), TimeInterval::new(day(31), day(60)));
        assert_eq!(Granularity::Year.interval(day(59)), TimeInterval::new(day(0), day(366)));
        assert_eq!(Granularity::Week.interval(day(0)), TimeInterval::new(day(-5), day(2)));
        assert_eq!(Granularity::Year.interval(-1), TimeInterval::new(day(-365), 0));
    }

    #[test]
    fn the_ends_of_time_are_in_an_interval() {
        for granularity in
            [Granularity::Hour, Granularity::Day, Granularity::Week, Granularity::Month, Granularity::Year]
        {
            for time in [
                i64::MIN,
                i64::MIN + 1,
                -(LAST_DAY * MICROS_PER_DAY),
                LAST_DAY * MICROS_PER_DAY,
                i64::MAX - 1,
                i64::MAX,
            ] {
                let interval = granularity.interval(time);
                assert!(interval.contains(time), "{granularity:?} {time}");
                assert_eq!(granularity.interval(interval.start), interval, "{granularity:?} {time}");
            }
        }
    }
}
