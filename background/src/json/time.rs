//! ISO 8601 dates and times, as PostgreSQL reads them: proleptic Gregorian calendar, microseconds
//! since 2000-01-01.

use basalt_engine::calendar;

/// Milliseconds from 1970-01-01 to 2000-01-01, times 1,000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// PostgreSQL's first timestamp (4714-11-24 BC) and the one after its last (294277-01-01).
const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

/// A parsed date and time: `local` counts microseconds as written, `zone` is seconds east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub local: i64,
    pub zone: Option<i32>,
}

/// Microseconds since 2000 of microseconds since 1970; `None` outside PostgreSQL's range.
pub fn from_epoch_micros(micros: i128) -> Option<i64> {
    let shifted = i64::try_from(micros - i128::from(EPOCH_MICROS)).ok()?;
    (MIN_TIMESTAMP..END_TIMESTAMP).contains(&shifted).then_some(shifted)
}

fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0;
    for d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(d - b'0');
    }
    Some(value)
}

/// `YYYY-MM-DD`, optionally followed by `T` or a blank, `HH:MM[:SS[.fraction]]` and `Z` or
/// `+HH[[:]MM[[:]SS]]`. Fractions are rounded to microseconds.
pub fn parse(text: &[u8]) -> Option<Parsed> {
    let date = text.get(..10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let part = |digits| number(digits).and_then(|n| u32::try_from(n).ok());
    let day = calendar::day(part(&date[..4])?, part(&date[5..7])?, part(&date[8..])?)?;
    let midnight = day * MICROS_PER_DAY;
    let rest = &text[10..];
    if rest.is_empty() {
        return Some(Parsed { local: midnight, zone: None });
    }
    if !matches!(rest[0], b'T' | b't' | b' ') {
        return None;
    }
    let (of_day, rest) = time_of_day(&rest[1..])?;
    Some(Parsed { local: midnight + of_day, zone: zone(rest)? })
}

fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    if text.get(2) != Some(&b':') {
        return None;
    }
    let (hour, minute) = (number(&text[..2])?, number(text.get(3..5)?)?);
    let mut rest = &text[5..];
    let (mut second, mut fraction) = (0, 0);
    if rest.first() == Some(&b':') {
        second = number(rest.get(1..3)?)?;
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let count = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            fraction = micros(&rest[1..1 + count]);
            rest = &rest[1 + count..];
        }
    }
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let of_day = ((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + fraction;
    (of_day <= MICROS_PER_DAY).then_some((of_day, rest))
}

fn micros(digits: &[u8]) -> i64 {
    let mut value = 0;
    for i in 0..6 {
        value = value * 10 + digits.get(i).map_or(0, |d| i64::from(d - b'0'));
    }
    value + i64::from(digits.get(6).is_some_and(|d| *d >= b'5'))
}

/// Outer `None`: not a zone. Inner `None`: no zone is given.
fn zone(text: &[u8]) -> Option<Option<i32>> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    match text.first() {
        None => return Some(None),
        Some(b'Z' | b'z') => return (text.len() == 1).then_some(Some(0)),
        Some(b'+' | b'-') => {}
        Some(_) => return None,
    }
    let mut parts = [0i64; 3];
    let mut rest = &text[1..];
    for (i, part) in parts.iter_mut().enumerate() {
        if rest.is_empty() && i > 0 {
            break;
        }
        if i > 0 {
            rest = rest.strip_prefix(b":").unwrap_or(rest);
        }
        *part = number(rest.get(..2)?)?;
        rest = &rest[2..];
    }
    let [hours, minutes, seconds] = parts;
    // PostgreSQL's own limit is just below 16 hours.
    if !rest.is_empty() || hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    let east = (hours * 60 + minutes) * 60 + seconds;
    Some(Some(if text[0] == b'-' { -east } else { east } as i32))
}

impl Parsed {
    /// As `timestamp with time zone`; no zone is UTC.
    pub fn utc(&self) -> i64 {
        self.local - i64::from(self.zone.unwrap_or(0)) * MICROS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<i64> {
        parse(text.as_bytes()).map(|p| p.utc())
    }

    #[test]
    fn known_dates() {
        assert_eq!(utc("2000-01-01"), Some(0));
        assert_eq!(utc("2000-03-01"), Some(60 * MICROS_PER_DAY));
        assert_eq!(utc("1999-12-31 23:59:59.999999"), Some(-1));
        assert_eq!(utc("2001-01-01T00:00:00Z"), Some(366 * MICROS_PER_DAY));
        assert_eq!(utc("2000-01-01T02:30:00+02:30"), Some(0));
        assert_eq!(utc("1999-12-31T16:00:00-0800"), Some(0));
        assert_eq!(utc("2000-01-01 00:00"), Some(0));
        assert_eq!(utc("2000-01-01 24:00:00"), Some(MICROS_PER_DAY));
        assert_eq!(utc("2000-01-01 00:00:00.0000005"), Some(1));
        assert_eq!(utc("0001-01-01"), Some(-730_119 * MICROS_PER_DAY));
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "2000",
            "2000-1-1",
            "2000-02-30",
            "1900-02-29",
            "2000-13-01",
            "0000-01-01",
            "2000-01-01T",
            "2000-01-01T1:00",
            "2000-01-01T25:00",
            "2000-01-01T24:00:01",
            "2000-01-01T00:60",
            "2000-01-01T00:00:61",
            "2000-01-01T00:00:00.",
            "2000-01-01T00:00+16",
            "2000-01-01T00:00+1",
            "2000-01-01T00:00Zx",
            "2000-01-01x",
            "2000-01-01 00:00:00 BC",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
        assert!(utc("2000-02-29").is_some() && utc("2004-02-29").is_some());
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = -730_119;
        for year in 1..=2400 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(found) = calendar::day(year, month, day) {
                        assert_eq!(found, expected, "{year}-{month}-{day}");
                        expected += 1;
                    }
                }
            }
        }
    }
}
