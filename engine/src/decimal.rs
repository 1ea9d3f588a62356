//! Powers of ten.

/// `10^n` for each `n` of which 64 bits with a sign hold it.
pub const POWERS_OF_TEN: [u64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// `10^digits`, up to 10^38.
pub fn power_of_ten(digits: u8) -> i128 {
    10i128.pow(u32::from(digits.min(38)))
}
