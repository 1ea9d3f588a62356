//! The proleptic Gregorian calendar, in days since 2000-01-01. Eras of 400 years from March on, as in H. Hinnant's "chrono-Compatible
//! Low-Level Date Algorithms".

/// Days from 0000-03-01 to 2000-01-01.
const DAYS_TO_2000: i64 = 730_425;
const DAYS_PER_ERA: i64 = 146_097;
/// Days of an ordinary year before each of its months.
const BEFORE_MONTH: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// Year, month (1 to 12) and day of the month.
pub(crate) fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + DAYS_TO_2000;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let year = year_of_era + era * 400 + i64::from(from_march >= 10);
    (year, (from_march + 2) % 12 + 1, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The first day of a month (1 to 12).
pub(crate) fn first_of_month(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5;
    era * DAYS_PER_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - DAYS_TO_2000
}

/// A day of the years 1 to 9999; `None`: there is none such.
#[inline(always)]
pub fn day(year: u32, month: u32, day: u32) -> Option<i64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=9999).contains(&year) || day == 0 || day > length {
        return None;
    }
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400;
    let of_year = BEFORE_MONTH[month as usize - 1] + u32::from(leap && month > 2) + day - 1;
    Some(i64::from(years + of_year) - 730_119)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_800_years_is_in_the_month_that_counting_gives() {
        let (mut first, mut year, mut month) = (first_of_month(1600, 1), 1600, 1);
        while year < 2400 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
            assert_eq!(first_of_month(year, month), first);
            for of_month in 1..=length {
                let this = first + of_month - 1;
                assert_eq!(civil(this), (year, month, of_month));
                assert_eq!(day(year as u32, month as u32, of_month as u32), Some(this));
            }
            assert_eq!(day(year as u32, month as u32, length as u32 + 1), None);
            first += length;
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        assert_eq!(first_of_month(2000, 1), 0);
        for (year, month, of_month) in [(0, 1, 1), (2000, 0, 1), (2000, 13, 1), (2000, 1, 0), (10_000, 1, 1)] {
            assert_eq!(day(year, month, of_month), None);
        }
    }
}
