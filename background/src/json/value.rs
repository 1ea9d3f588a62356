//! Scalars from text, with PostgreSQL's meaning: no integer or numeric goes through a float.

use basalt_engine::decimal::power_of_ten;

/// Why a text is not a value of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Syntax,
    OutOfRange,
    /// Digits would be lost.
    NotAnInteger,
}

/// The text's decimal value times 10^scale, rounded half away from zero; `exact`: `NotAnInteger` instead
/// of rounding. Takes `[+-]digits[.digits][e[+-]digits]`.
pub fn scaled(text: &[u8], scale: u32, exact: bool) -> Result<i128, Bad> {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let whole = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (integer, mut rest) = digits.split_at(whole);
    let mut fraction: &[u8] = &[];
    if rest.first() == Some(&b'.') {
        let count = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        (fraction, rest) = rest[1..].split_at(count);
    }
    if integer.is_empty() && fraction.is_empty() {
        return Err(Bad::Syntax);
    }
    let exponent = match rest.first() {
        None => 0,
        Some(b'e' | b'E') => exponent(&rest[1..])?,
        Some(_) => return Err(Bad::Syntax),
    };
    let mut all = integer.iter().chain(fraction).map(|d| i128::from(d - b'0'));
    // Digits kept: those before the shifted decimal point.
    let mut keep = integer.len() as i64 + exponent + i64::from(scale);
    let mut value: i128 = 0;
    let mut lost = false;
    let mut round_up = false;
    for digit in &mut all {
        if keep > 0 {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(Bad::OutOfRange)?;
        } else {
            round_up |= keep == 0 && digit >= 5;
            lost |= digit != 0;
        }
        keep -= 1;
    }
    while keep > 0 && value != 0 {
        value = value.checked_mul(10).ok_or(Bad::OutOfRange)?;
        keep -= 1;
    }
    if exact && lost {
        return Err(Bad::NotAnInteger);
    }
    value = value.checked_add(i128::from(round_up)).ok_or(Bad::OutOfRange)?;
    Ok(if negative { -value } else { value })
}

fn exponent(text: &[u8]) -> Result<i64, Bad> {
    let (sign, digits) = match text.first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Bad::Syntax);
    }
    // Beyond a million the value is out of range or zero, whatever its digits.
    Ok(sign * digits.iter().fold(0i64, |v, d| (v * 10 + i64::from(d - b'0')).min(1_000_000)))
}

/// An integer within `min..=max`; `1.0` and `1e3` are integers, too.
pub fn integer(text: &[u8], min: i64, max: i64) -> Result<i64, Bad> {
    let value = match short_integer(text) {
        Some(value) => value,
        None => i64::try_from(scaled(text, 0, true)?).map_err(|_| Bad::OutOfRange)?,
    };
    if (min..=max).contains(&value) { Ok(value) } else { Err(Bad::OutOfRange) }
}

/// Up to 18 plain digits, the common case.
fn short_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for d in digits {
        let digit = d.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if digits.len() < text.len() { -value } else { value })
}

/// `numeric(precision, scale)` as its scaled integer.
pub fn numeric(text: &[u8], precision: u8, scale: u8) -> Result<i128, Bad> {
    let value = scaled(text, u32::from(scale), false)?;
    if value.unsigned_abs() < power_of_ten(precision) as u128 { Ok(value) } else { Err(Bad::OutOfRange) }
}

fn is_zero(text: &[u8]) -> bool {
    text.iter().take_while(|b| !matches!(b, b'e' | b'E')).all(|b| !(b'1'..=b'9').contains(b))
}

fn is_finite(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit)
}

/// Overflow and underflow are out of range, as in PostgreSQL.
pub fn float8(text: &[u8]) -> Result<f64, Bad> {
    let value: f64 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(Bad::Syntax)?;
    if is_finite(text) && (value.is_infinite() || (value == 0.0 && !is_zero(text))) {
        return Err(Bad::OutOfRange);
    }
    Ok(value)
}

/// As [`float8`], rounded once to a float4 and widened.
pub fn float4(text: &[u8]) -> Result<f64, Bad> {
    let value: f32 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(Bad::Syntax)?;
    if is_finite(text) && (value.is_infinite() || (value == 0.0 && !is_zero(text))) {
        return Err(Bad::OutOfRange);
    }
    Ok(f64::from(value))
}

/// PostgreSQL's spellings: unique prefixes of true, false, yes, no, on, off; 1 and 0.
pub fn boolean(text: &[u8]) -> Result<bool, Bad> {
    let lower = text.to_ascii_lowercase();
    let starts = |word: &[u8]| !lower.is_empty() && word.starts_with(&lower);
    match lower.as_slice() {
        b"1" | b"on" => Ok(true),
        b"0" | b"of" | b"off" => Ok(false),
        _ if starts(b"true") || starts(b"yes") => Ok(true),
        _ if starts(b"false") || starts(b"no") => Ok(false),
        _ => Err(Bad::Syntax),
    }
}

/// 32 hexadecimal digits, a hyphen allowed after each four, braces around allowed.
pub fn uuid(text: &[u8]) -> Result<[u8; 16], Bad> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut out = [0; 16];
    for (i, byte) in out.iter_mut().enumerate() {
        if i > 0 && i % 2 == 0 && rest.first() == Some(&b'-') {
            rest = &rest[1..];
        }
        let [high, low, tail @ ..] = rest else { return Err(Bad::Syntax) };
        *byte = hex(*high)? << 4 | hex(*low)?;
        rest = tail;
    }
    if rest.is_empty() { Ok(out) } else { Err(Bad::Syntax) }
}

fn hex(digit: u8) -> Result<u8, Bad> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Bad::Syntax),
    }
}

/// PostgreSQL's `\x` hex form (blanks between bytes allowed) or its escape form.
pub fn bytea(text: &[u8]) -> Result<Vec<u8>, Bad> {
    let mut out = Vec::with_capacity(text.len() / 2);
    if let Some(mut rest) = text.strip_prefix(b"\\x") {
        loop {
            match rest {
                [] => return Ok(out),
                [b' ' | b'\n' | b'\t' | b'\r', tail @ ..] => rest = tail,
                [high, low, tail @ ..] => {
                    out.push(hex(*high)? << 4 | hex(*low)?);
                    rest = tail;
                }
                [_] => return Err(Bad::Syntax),
            }
        }
    }
    let mut rest = text;
    loop {
        match rest {
            [] => return Ok(out),
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            [b'\\', ..] => return Err(Bad::Syntax),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Whether PostgreSQL's numeric prints the text exactly as it is.
pub fn is_canonical_numeric(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (integer, fraction) = digits.split_at(whole);
    let integer_ok = integer == b"0" || matches!(integer.first(), Some(b'1'..=b'9'));
    let fraction_ok = match fraction {
        [] => true,
        [b'.', rest @ ..] => !rest.is_empty() && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let negative_zero = text.first() == Some(&b'-') && is_zero(digits);
    integer_ok && fraction_ok && !negative_zero && text.len() < 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(scaled(b"12.345", 2, false), Ok(1235));
        assert_eq!(scaled(b"-12.345", 2, false), Ok(-1235));
        assert_eq!(scaled(b"12.344999999999999999999999999999999999999999", 2, false), Ok(1234));
        assert_eq!(scaled(b"1e3", 0, true), Ok(1000));
        assert_eq!(scaled(b"1500e-3", 1, true), Ok(15));
        assert_eq!(scaled(b"1.5", 0, true), Err(Bad::NotAnInteger));
        assert_eq!(scaled(b"0e999999999999", 5, true), Ok(0));
        assert_eq!(scaled(b"1e999999999999", 0, false), Err(Bad::OutOfRange));
        assert_eq!(scaled(b"9e-999999999999", 2, false), Ok(0));
        assert_eq!(scaled(b"0.05", 1, false), Ok(1));
        assert_eq!(scaled(b"0.049", 1, false), Ok(0));
        for bad in ["", "-", ".", "1e", "1x", "e5", "1.2.3", "--1"] {
            assert_eq!(scaled(bad.as_bytes(), 0, false), Err(Bad::Syntax), "{bad}");
        }
    }

    #[test]
    fn integers_have_bounds() {
        assert_eq!(integer(b"9223372036854775807", i64::MIN, i64::MAX), Ok(i64::MAX));
        assert_eq!(integer(b"-9223372036854775808", i64::MIN, i64::MAX), Ok(i64::MIN));
        assert_eq!(integer(b"9223372036854775808", i64::MIN, i64::MAX), Err(Bad::OutOfRange));
        assert_eq!(integer(b"32768", -32768, 32767), Err(Bad::OutOfRange));
        assert_eq!(integer(b"9007199254740993", i64::MIN, i64::MAX), Ok(9_007_199_254_740_993));
        assert_eq!(numeric(b"999.995", 5, 2), Err(Bad::OutOfRange));
        assert_eq!(numeric(b"999.994", 5, 2), Ok(99_999));
    }

    #[test]
    fn floats_do_not_overflow_silently() {
        assert_eq!(float8(b"1e999"), Err(Bad::OutOfRange));
        assert_eq!(float8(b"1e-999"), Err(Bad::OutOfRange));
        assert_eq!(float8(b"0e-999"), Ok(0.0));
        assert_eq!(float8(b"Infinity"), Ok(f64::INFINITY));
        assert_eq!(float4(b"1e39"), Err(Bad::OutOfRange));
        assert_eq!(float4(b"0.1"), Ok(f64::from(0.1f32)));
        assert_eq!(float8(b"x"), Err(Bad::Syntax));
    }

    #[test]
    fn other_scalars() {
        for (text, value) in [("t", true), ("YES", true), ("on", true), ("1", true), ("fal", false), ("of", false)] {
            assert_eq!(boolean(text.as_bytes()), Ok(value));
        }
        assert!(boolean(b"").is_err() && boolean(b"o").is_err() && boolean(b"2").is_err());
        let id = uuid(b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap();
        assert_eq!(uuid(b"{a0eebc999c0b4ef8bb6d6bb9bd380a11}"), Ok(id));
        assert_eq!(uuid(b"A0EE-BC99-9c0b4ef8-bb6d6bb9-bd380a11"), Ok(id));
        assert!(uuid(b"a0eebc99").is_err() && uuid(b"a-0eebc999c0b4ef8bb6d6bb9bd380a11").is_err());
        assert_eq!(bytea(b"\\x00fF"), Ok(vec![0, 255]));
        assert_eq!(bytea(b"a\\\\\\101"), Ok(b"a\\A".to_vec()));
        assert!(bytea(b"\\xf").is_err() && bytea(b"\\").is_err());
        assert!(is_canonical_numeric(b"1.10") && is_canonical_numeric(b"-0.5"));
        for other in ["-0", "01", "1e3", "1.", ".5", "+1", "NaN", ""] {
            assert!(!is_canonical_numeric(other.as_bytes()), "{other}");
        }
    }
}
