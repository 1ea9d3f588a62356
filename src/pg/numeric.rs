//! PostgreSQL's numeric to scaled integers and back, without going through text.
//!
//! Layout: a 16-bit header, then 16-bit digits in base 10000, most significant first; the first one weighs
//! 10000^weight. A short header packs sign, display scale and weight; a long one is followed by the weight. (The
//! layout is on disk, hence stable; `src/backend/utils/adt/numeric.c` documents it.)

use basalt_engine::decimal::POWERS_OF_TEN;

/// A numeric as an integer of a given scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// Exactly `value * 10^-scale`.
    Exact(i128),
    /// Between `floor` and `floor + 1` (in units of 10^-scale), both exclusive.
    Above {
        floor: i128,
    },
    /// Beyond what an `i128` of this scale holds.
    TooLarge {
        negative: bool,
    },
    Infinity {
        negative: bool,
    },
    NaN,
}

const SIGN_MASK: u16 = 0xc000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xc000;
const NEGATIVE: u16 = 0x4000;
const SHORT_NEGATIVE: u16 = 0x2000;
const NAN: u16 = 0xc000;
const MINUS_INFINITY: u16 = 0xf000;

/// Decimals that the payload of a numeric shows; `None`: it is NaN or infinite.
pub fn display_scale(payload: &[u8]) -> Option<u16> {
    let header = u16::from_ne_bytes(*payload.first_chunk::<2>()?);
    match header & SIGN_MASK {
        SPECIAL => None,
        SHORT => Some(header >> 7 & 0x3f),
        _ => Some(header & 0x3fff),
    }
}

/// Sign, weight of the first digit, and digits. Errors: what a payload without digits is.
#[inline(always)]
fn parts(payload: &[u8]) -> Result<(bool, i32, &[u8]), Scaled> {
    let Some((header, rest)) = payload.split_first_chunk::<2>() else { return Err(Scaled::Exact(0)) };
    let header = u16::from_ne_bytes(*header);
    match header & SIGN_MASK {
        SPECIAL if header == NAN => Err(Scaled::NaN),
        SPECIAL => Err(Scaled::Infinity { negative: header == MINUS_INFINITY }),
        SHORT => {
            let low = i32::from(header & 0x3f);
            let weight = if header & 0x40 != 0 { low - 64 } else { low };
            Ok((header & SHORT_NEGATIVE != 0, weight, rest))
        }
        sign => {
            let Some((weight, digits)) = rest.split_first_chunk::<2>() else { return Err(Scaled::Exact(0)) };
            Ok((sign == NEGATIVE, i32::from(i16::from_ne_bytes(*weight)), digits))
        }
    }
}

/// What [`to_scaled`] gives for a payload of few digits that are an exact number; `None`: ask that.
#[inline]
pub fn to_small(payload: &[u8], scale: u8) -> Option<i64> {
    let (negative, weight, digits) = parts(payload).ok()?;
    let value = small(digits, weight * 4 + i32::from(scale))?;
    Some(if negative { -value } else { value })
}

/// Reads the payload (after the varlena header) of a numeric.
pub fn to_scaled(payload: &[u8], scale: u8) -> Scaled {
    let (negative, weight, digits) = match parts(payload) {
        Ok(parts) => parts,
        Err(special) => return special,
    };
    if let Some(value) = small(digits, weight * 4 + i32::from(scale)) {
        return Scaled::Exact(i128::from(if negative { -value } else { value }));
    }
    let mut value: i128 = 0;
    let mut inexact = false;
    // The power of ten, after scaling, of the digit's last decimal.
    let mut exponent = weight * 4 + i32::from(scale);
    for digit in digits.chunks_exact(2) {
        let digit = i128::from(i16::from_ne_bytes([digit[0], digit[1]]));
        let added = match exponent {
            0.. => power(exponent).and_then(|p| digit.checked_mul(p)).and_then(|d| value.checked_add(d)),
            -3..=-1 => {
                let unit = 10i128.pow(exponent.unsigned_abs());
                inexact |= digit % unit != 0;
                value.checked_add(digit / unit)
            }
            _ => {
                inexact |= digit != 0;
                Some(value)
            }
        };
        let Some(added) = added else {
            if digit == 0 {
                exponent -= 4;
                continue;
            }
            return Scaled::TooLarge { negative };
        };
        value = added;
        exponent -= 4;
    }
    match (negative, inexact) {
        (false, false) => Scaled::Exact(value),
        (false, true) => Scaled::Above { floor: value },
        (true, false) => Scaled::Exact(-value),
        (true, true) => Scaled::Above { floor: -value - 1 },
    }
}

/// Few digits of an exact number, in 64 bits. `exponent`: the power of ten of the first digit's last decimal.
#[inline(always)]
fn small(digits: &[u8], mut exponent: i32) -> Option<i64> {
    // All together are less than 10000 of the first digit's units, hence than 10^18.
    if digits.len() > 8 || !(-3..=14).contains(&exponent) {
        return None;
    }
    let mut value = 0i64;
    for digit in digits.as_chunks::<2>().0 {
        let digit = i16::from_ne_bytes(*digit);
        // Constants are divided by without a division.
        let (whole, rest) = match exponent {
            0.. => (i64::from(digit) * *POWERS_OF_TEN.get(exponent as usize)? as i64, 0),
            -1 => (i64::from(digit / 10), digit % 10),
            -2 => (i64::from(digit / 100), digit % 100),
            -3 => (i64::from(digit / 1000), digit % 1000),
            _ => return None,
        };
        if rest != 0 {
            return None;
        }
        value += whole;
        exponent -= 4;
    }
    Some(value)
}

fn power(exponent: i32) -> Option<i128> {
    u32::try_from(exponent).ok().and_then(|e| 10i128.checked_pow(e))
}

/// The payload of the numeric NaN.
pub const NAN_PAYLOAD: [u8; 2] = NAN.to_ne_bytes();

/// The payload (to follow a varlena header) of `value * 10^-scale`, with display scale `scale` (at most 63). `out` is
/// cleared first.
pub fn from_scaled(value: i128, scale: u8, out: &mut Vec<u8>) {
    debug_assert!(scale <= 63);
    let magnitude = value.unsigned_abs();
    let unit = 10u128.checked_pow(u32::from(scale)).unwrap_or(u128::MAX);
    let (mut whole, mut fraction) = if scale > 38 { (0, magnitude) } else { (magnitude / unit, magnitude % unit) };

    // Base 10000 digits of the whole part, least significant first.
    let mut digits = [0i16; 32];
    let mut count = 0;
    while whole > 0 {
        digits[count] = (whole % 10_000) as i16;
        whole /= 10_000;
        count += 1;
    }
    digits[..count].reverse();
    let mut weight = count as i32 - 1;
    let mut left = u32::from(scale);
    while left > 0 {
        let digit = if left >= 4 {
            let unit = 10u128.checked_pow(left - 4).unwrap_or(u128::MAX);
            let digit = fraction / unit;
            fraction %= unit;
            left -= 4;
            digit
        } else {
            let digit = fraction * 10u128.pow(4 - left);
            left = 0;
            digit
        };
        digits[count] = digit as i16;
        count += 1;
    }
    let mut digits = &digits[..count];
    while let [0, rest @ ..] = digits {
        digits = rest;
        weight -= 1;
    }
    while let [rest @ .., 0] = digits {
        digits = rest;
    }
    if digits.is_empty() {
        weight = 0;
    }
    let sign = if value < 0 { SHORT_NEGATIVE } else { 0 };
    let header = SHORT | sign | u16::from(scale) << 7 | (weight as u16 & 0x7f);
    out.clear();
    out.extend_from_slice(&header.to_ne_bytes());
    for digit in digits {
        out.extend_from_slice(&digit.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(value: i128, scale: u8) -> Scaled {
        let mut payload = Vec::new();
        from_scaled(value, scale, &mut payload);
        to_scaled(&payload, scale)
    }

    #[test]
    fn every_scale_survives() {
        let max = 10i128.pow(38) - 1;
        for scale in 0..=38 {
            for value in [0, 1, -1, 9, 10, 9_999, 10_000, -10_001, 123_456_789, max, -max, max / 7] {
                assert_eq!(round(value, scale), Scaled::Exact(value), "{value} at scale {scale}");
            }
        }
    }

    /// Payloads of few and of many digits mean the same.
    #[test]
    fn short_ways_agree() {
        let mut payload = Vec::new();
        for scale in 0..20 {
            for value in [0, 7, 70, 123, 9_999, 10_001, 55_550_000, 1_234_567_890_123_456, 10i128.pow(17) - 1] {
                for (value, other) in [(value, 0), (-value, 1), (value, 2), (-value, 3), (value, 19)] {
                    from_scaled(value, scale, &mut payload);
                    let wanted = match i32::from(other) - i32::from(scale) {
                        up @ 0.. => Scaled::Exact(value * 10i128.pow(up as u32)),
                        down => {
                            let unit = 10i128.pow(down.unsigned_abs());
                            let floor = value.div_euclid(unit);
                            if value % unit == 0 { Scaled::Exact(floor) } else { Scaled::Above { floor } }
                        }
                    };
                    assert_eq!(to_scaled(&payload, other), wanted, "{value} of scale {scale} at {other}");
                }
            }
        }
    }

    #[test]
    fn other_scales_are_exact_or_say_so() {
        let mut payload = Vec::new();
        from_scaled(-12_345, 3, &mut payload); // -12.345
        assert_eq!(display_scale(&payload), Some(3));
        assert_eq!(display_scale(&NAN_PAYLOAD), None);
        assert_eq!(to_scaled(&payload, 5), Scaled::Exact(-1_234_500));
        assert_eq!(to_scaled(&payload, 2), Scaled::Above { floor: -1_235 });
        assert_eq!(to_scaled(&payload, 0), Scaled::Above { floor: -13 });
        from_scaled(10i128.pow(37), 0, &mut payload);
        assert_eq!(to_scaled(&payload, 38), Scaled::TooLarge { negative: false });
        assert_eq!(to_scaled(&NAN_PAYLOAD, 2), Scaled::NaN);
    }
}
