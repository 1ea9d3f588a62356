//! Values out of their plain text forms, those that PostgreSQL reads the same way under every setting.

use super::{LocalTime, Texts};
use crate::calendar;
use crate::decimal::{POWERS_OF_TEN, power_of_ten};
use crate::rows::{ColumnData, ColumnRows};
use crate::types::{LogicalType, MICROS_PER_DAY};
use crate::utf8::characters;
use crate::{Error, Result};

/// What the values of a column look like. Each form is a part of what the type's input function accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    Bool,
    /// Digits, perhaps after a minus sign.
    Integer {
        least: i64,
        greatest: i64,
    },
    /// Decimal notation, perhaps with an exponent.
    Float {
        single: bool,
    },
    /// Digits, perhaps with a point among them, up to 18; more decimals than the scale are rounded.
    Numeric {
        precision: u8,
        scale: u8,
    },
    /// Decimal notation as it is shown.
    NumericText,
    /// `YYYY-MM-DD`.
    Date,
    /// `YYYY-MM-DD[( |T)HH:MM:SS[.digits]]`, with a zone `Z`, `+HH` or `+HH:MM` if `zoned`. More decimals of a second than `digits` are in doubt.
    Time {
        zoned: bool,
        digits: u8,
    },
    /// Up to so many characters.
    Text {
        most: Option<u32>,
    },
    /// Padded with blanks to so many characters.
    Padded {
        characters: u32,
    },
    /// 32 hexadecimal digits in groups of 8, 4, 4, 4, 12.
    Uuid,
    /// `\x` and hexadecimal digits.
    Bytea,
    /// An IPv4 address without a mask.
    Inet,
}

impl Parser {
    /// The parser for a type; `None`: there is none. `length`: most characters of texts (the exact number for `BpChar`), most decimals of
    /// a time's seconds; `None`: no limit.
    pub fn of(ty: LogicalType, length: Option<u32>) -> Option<Parser> {
        use LogicalType::*;
        let integer = |least, greatest| Parser::Integer { least, greatest };
        let digits = length.map_or(6, |digits| digits.min(6) as u8);
        Some(match ty {
            Bool => Parser::Bool,
            Int2 => integer(i64::from(i16::MIN), i64::from(i16::MAX)),
            Int4 => integer(i64::from(i32::MIN), i64::from(i32::MAX)),
            Int8 => integer(i64::MIN, i64::MAX),
            Float4 => Parser::Float { single: true },
            Float8 => Parser::Float { single: false },
            Numeric { precision, scale } => Parser::Numeric { precision, scale },
            NumericText if length.is_none() => Parser::NumericText,
            Date => Parser::Date,
            Timestamp => Parser::Time { zoned: false, digits },
            TimestampTz => Parser::Time { zoned: true, digits },
            Text => Parser::Text { most: length },
            BpChar => length.map_or(Parser::Text { most: None }, |characters| Parser::Padded { characters }),
            Uuid => Parser::Uuid,
            Bytea => Parser::Bytea,
            Inet => Parser::Inet,
            NumericText | Jsonb | TextArray | Opaque => return None,
        })
    }

    /// Appends values of texts to a column, up to the first in doubt; returns how many rows these are. Errors: the column holds another
    /// physical type.
    pub(super) fn fill(
        self,
        texts: &Texts<'_>,
        scratch: &mut Vec<u8>,
        zone: LocalTime<'_>,
        column: &mut ColumnRows,
    ) -> Result<usize> {
        let ColumnRows { data, nulls } = column;
        Ok(match (data, self) {
            (ColumnData::I64(to), Parser::Integer { least, greatest }) => {
                fill(texts, scratch, to, nulls, |text| integer(text).filter(|v| (least..=greatest).contains(v)))
            }
            (ColumnData::I64(to), Parser::Numeric { precision, scale }) => {
                fill(texts, scratch, to, nulls, |text| numeric(text, precision, scale).map(|value| value as i64))
            }
            (ColumnData::I128(to), Parser::Numeric { precision, scale }) => {
                fill(texts, scratch, to, nulls, |text| numeric(text, precision, scale))
            }
            (ColumnData::I64(to), Parser::Date) => fill(texts, scratch, to, nulls, date),
            (ColumnData::I64(to), Parser::Time { zoned, digits }) => {
                fill(texts, scratch, to, nulls, |text| time(text, zoned, digits, zone))
            }
            (ColumnData::I64(to), Parser::Bool) => fill(texts, scratch, to, nulls, boolean),
            (ColumnData::F64(to), Parser::Float { single }) => {
                fill(texts, scratch, to, nulls, |text| float(text, single))
            }
            (ColumnData::Bytes { ends, data }, Parser::Text { most: None }) => {
                fill_bytes(texts, scratch, ends, data, nulls, |text, out| {
                    out.extend_from_slice(text);
                    true
                })
            }
            (ColumnData::Bytes { ends, data }, _) => {
                fill_bytes(texts, scratch, ends, data, nulls, |text, out| self.bytes(text, out))
            }
            _ => return Err(Error::invalid("a parser of another physical type")),
        })
    }

    /// Appends the stored bytes; `false`: in doubt.
    fn bytes(self, text: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Parser::Text { most } if most.is_some_and(|most| characters(text) > most as usize) => return false,
            Parser::NumericText if !is_shown_numeric(text) => return false,
            Parser::Inet if !is_address(text) => return false,
            Parser::Text { .. } | Parser::NumericText | Parser::Inet => out.extend_from_slice(text),
            Parser::Padded { characters: wanted } => {
                let Some(missing) = (wanted as usize).checked_sub(characters(text)) else { return false };
                out.extend_from_slice(text);
                out.resize(out.len() + missing, b' ');
            }
            Parser::Uuid => {
                let dashes = [8, 13, 18, 23];
                return text.len() == 36
                    && dashes.iter().all(|at| text[*at] == b'-')
                    && [0..8, 9..13, 14..18, 19..23, 24..36].into_iter().all(|group| hexadecimal(&text[group], out));
            }
            Parser::Bytea => return text.strip_prefix(b"\\x").is_some_and(|digits| hexadecimal(digits, out)),
            _ => return false,
        }
        true
    }
}

#[inline(always)]
fn fill<T: Default>(
    texts: &Texts<'_>,
    scratch: &mut Vec<u8>,
    to: &mut Vec<T>,
    nulls: &mut Vec<u32>,
    mut parse: impl FnMut(&[u8]) -> Option<T>,
) -> usize {
    to.reserve(texts.rows);
    texts.each(scratch, |text| {
        let value = match text {
            Some(text) => parse(text),
            None => {
                nulls.push(to.len() as u32);
                Some(T::default())
            }
        };
        value.map(|value| to.push(value)).is_some()
    })
}

#[inline(always)]
fn fill_bytes(
    texts: &Texts<'_>,
    scratch: &mut Vec<u8>,
    ends: &mut Vec<u64>,
    data: &mut Vec<u8>,
    nulls: &mut Vec<u32>,
    mut write: impl FnMut(&[u8], &mut Vec<u8>) -> bool,
) -> usize {
    let rows = texts.each(scratch, |text| {
        match text {
            Some(text) if !write(text, data) => return false,
            Some(_) => {}
            None => nulls.push(ends.len() as u32),
        }
        ends.push(data.len() as u64);
        true
    });
    // What a text in doubt may have left.
    data.truncate(ends.last().map_or(0, |end| *end as usize));
    rows
}

fn boolean(text: &[u8]) -> Option<i64> {
    match text {
        b"t" | b"true" | b"1" => Some(1),
        b"f" | b"false" | b"0" => Some(0),
        _ => None,
    }
}

/// Up to 18 digits as a number; `None` if there are none, more, or something else.
#[inline(always)]
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

#[inline(always)]
fn integer(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', rest @ ..] => digits(rest).map(|value| -(value as i64)),
        _ => digits(text).map(|value| value as i64),
    }
}

/// The value times 10^scale, rounded half away from zero; `None` also if that has more digits than the precision.
#[inline(always)]
fn numeric(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // The digits without the point, and how many of them stand behind it.
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let (mut mantissa, mut point) = (0u64, text.len());
    for (at, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if *byte == b'.' && point == text.len() && at > 0 && at + 1 < text.len() {
            point = at;
        } else {
            return None;
        }
    }
    if point == text.len() && text.len() > 18 {
        return None;
    }
    let decimals = text.len().saturating_sub(point + 1);
    let scale = usize::from(scale);
    if scale > decimals + 18 {
        return None;
    }
    // Below 10^36.
    let scaled = if decimals <= scale {
        u128::from(mantissa) * u128::from(POWERS_OF_TEN[scale - decimals])
    } else {
        let unit = POWERS_OF_TEN[decimals - scale];
        u128::from(mantissa / unit + u64::from(mantissa % unit >= unit / 2))
    };
    let fits = match POWERS_OF_TEN.get(usize::from(precision)) {
        Some(limit) => scaled < u128::from(*limit),
        None => scaled < power_of_ten(precision) as u128,
    };
    let scaled = scaled as i128;
    fits.then_some(if negative { -scaled } else { scaled })
}

/// Decimal notation whose text is what the value shows: no needless zeros in front, no negative zero.
fn is_shown_numeric(text: &[u8]) -> bool {
    let plain = text.strip_prefix(b"-").unwrap_or(text);
    let point = plain.iter().position(|byte| *byte == b'.').unwrap_or(plain.len());
    let (whole, decimals) = (&plain[..point], &plain[(point + 1).min(plain.len())..]);
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    text.len() <= 1000
        && !whole.is_empty()
        && (whole[0] != b'0' || whole.len() == 1)
        && all_digits(whole)
        && all_digits(decimals)
        && !plain.ends_with(b".")
        && (plain.len() == text.len() || plain.iter().any(|byte| (b'1'..=b'9').contains(byte)))
}

/// The nearest float, as strtod and strtof find it; `None` also for what overflows or underflows.
fn float(text: &[u8], single: bool) -> Option<f64> {
    let body = text.strip_prefix(b"-").unwrap_or(text);
    let exponent = body.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(body.len());
    let mantissa = &body[..exponent];
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let plain = all_digits(&mantissa[..point])
        && (point == mantissa.len() || all_digits(&mantissa[point + 1..]))
        && (exponent == body.len() || {
            let digits = &body[exponent + 1..];
            all_digits(digits.strip_prefix(b"-").or(digits.strip_prefix(b"+")).unwrap_or(digits))
        });
    if !plain {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let zero = || mantissa.iter().all(|byte| matches!(byte, b'0' | b'.'));
    if single {
        let value: f32 = text.parse().ok()?;
        return (value.is_normal() || value == 0.0 && zero()).then_some(f64::from(value));
    }
    let value: f64 = text.parse().ok()?;
    (value.is_normal() || value == 0.0 && zero()).then_some(value)
}

/// Two digits; more than 99 if they are none.
#[inline(always)]
fn two(text: &[u8; 2]) -> u32 {
    let [tens, ones] = text.map(|byte| u32::from(byte.wrapping_sub(b'0')));
    if tens > 9 || ones > 9 { 255 } else { tens * 10 + ones }
}

/// Days since 2000-01-01 of `YYYY-MM-DD`, years 1 to 9999.
#[inline(always)]
fn date(text: &[u8]) -> Option<i64> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text else { return None };
    let (century, year) = (two(&[y0, y1]), two(&[y2, y3]));
    let (month, day) = (two(&[m0, m1]), two(&[d0, d1]));
    if century > 99 || year > 99 {
        return None;
    }
    calendar::day(century * 100 + year, month, day)
}

/// Microseconds since 2000-01-01 (UTC if `zoned`).
#[inline(always)]
fn time(text: &[u8], zoned: bool, digits: u8, zone: LocalTime<'_>) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let midnight = date(day)? * MICROS_PER_DAY;
    let (local, rest) = match rest {
        [] => (midnight, rest),
        [b' ' | b'T', h0, h1, b':', m0, m1, b':', s0, s1, rest @ ..] => {
            let (hour, minute, second) = (two(&[*h0, *h1]), two(&[*m0, *m1]), two(&[*s0, *s1]));
            if hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            let (fraction, rest) = fraction(rest, digits)?;
            let seconds = i64::from(hour * 3600 + minute * 60 + second);
            (midnight + seconds * 1_000_000 + fraction, rest)
        }
        _ => return None,
    };
    if !zoned {
        return rest.is_empty().then_some(local);
    }
    match rest {
        [] => zone(local),
        b"Z" => Some(local),
        [sign @ (b'+' | b'-'), h0, h1] => offset(*sign, [*h0, *h1], *b"00").map(|east| local - east),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => offset(*sign, [*h0, *h1], [*m0, *m1]).map(|east| local - east),
        _ => None,
    }
}

/// Microseconds of `.digits`, up to so many of them, and what follows.
#[inline(always)]
fn fraction(text: &[u8], most: u8) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = text else { return Some((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || count > usize::from(most) {
        return None;
    }
    let (decimals, rest) = rest.split_at(count);
    Some((digits(decimals)? as i64 * POWERS_OF_TEN[6 - count] as i64, rest))
}

/// Microseconds east of Greenwich.
fn offset(sign: u8, hours: [u8; 2], minutes: [u8; 2]) -> Option<i64> {
    let (hours, minutes) = (two(&hours), two(&minutes));
    if hours > 14 || minutes > 59 {
        return None;
    }
    let micros = i64::from(hours * 60 + minutes) * 60_000_000;
    Some(if sign == b'-' { -micros } else { micros })
}

/// Appends the bytes of pairs of hexadecimal digits; `false`: they are something else.
fn hexadecimal(text: &[u8], out: &mut Vec<u8>) -> bool {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |byte: u8| (byte as char).to_digit(16);
    rest.is_empty()
        && pairs.iter().all(|[high, low]| match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                true
            }
            _ => false,
        })
}

/// Four numbers up to 255 without zeros in front, with points between.
fn is_address(text: &[u8]) -> bool {
    let is_byte = |part: &[u8]| {
        (1..=3).contains(&part.len())
            && (part[0] != b'0' || part.len() == 1)
            && digits(part).is_some_and(|number| number <= 255)
    };
    text.split(|byte| *byte == b'.').count() == 4 && text.split(|byte| *byte == b'.').all(is_byte)
}
