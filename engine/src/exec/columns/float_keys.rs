//! Integers that order floats as PostgreSQL does.

/// An integer that orders floats as PostgreSQL does: NaN equal to itself and greatest, -0 = 0.
#[inline(always)]
pub fn float_key(value: f64) -> i64 {
    // Adding zero turns -0 into 0; a NaN of either sign becomes the canonical one.
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// [`float_key`] that tells -0 from 0, which follows it.
#[inline(always)]
pub(in crate::exec) fn exact_key(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The [`float_key`] of an [`exact_key`]'s float.
#[inline(always)]
pub(in crate::exec) fn without_sign_of_zero(key: i64) -> i64 {
    if key == NEGATIVE_ZERO { 0 } else { key }
}

/// The [`exact_key`] of -0.
const NEGATIVE_ZERO: i64 = -1;

/// The float of a [`float_key`] or [`exact_key`].
pub(in crate::exec) fn float_of_key(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63) as u64 >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_keys_order_as_postgresql_does() {
        let ascending =
            [f64::NEG_INFINITY, -1e300, -1.5, -f64::MIN_POSITIVE, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
        for pair in ascending.windows(2) {
            assert!(float_key(pair[0]) < float_key(pair[1]), "{pair:?}");
        }
        assert_eq!(float_key(-0.0), float_key(0.0));
        assert_eq!(float_key(-f64::NAN), float_key(f64::NAN));
        for v in ascending {
            assert!(float_of_key(float_key(v)) == v || v.is_nan());
        }
        assert_eq!((exact_key(-0.0), exact_key(0.0)), (NEGATIVE_ZERO, 0));
        assert!(float_of_key(NEGATIVE_ZERO).is_sign_negative() && without_sign_of_zero(NEGATIVE_ZERO) == 0);
        assert!(exact_key(-f64::MIN_POSITIVE) < NEGATIVE_ZERO);
    }
}
