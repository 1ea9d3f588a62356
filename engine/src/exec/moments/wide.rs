//! Integers of 256 bits in two's complement: sums of products of two integers or mantissas.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::exec) struct Wide {
    low: u128,
    high: i128,
}

impl Wide {
    pub const ZERO: Wide = Wide { low: 0, high: 0 };

    /// The square of a value other than the least.
    pub fn square(value: i128) -> Wide {
        let magnitude = value.unsigned_abs();
        let (high, low) = (magnitude >> 64, magnitude & u128::from(u64::MAX));
        let cross = high * low;
        let (low, carry) = (low * low).overflowing_add(cross << 65);
        Wide { low, high: (high * high + (cross >> 63) + u128::from(carry)) as i128 }
    }

    /// `value * 2^shift`, for a shift below 128.
    #[inline(always)]
    pub fn shifted(value: i128, shift: u32) -> Wide {
        Wide { low: (value as u128) << shift, high: (value >> 1) >> (127 - shift) }
    }

    /// Wrapping: the caller knows that it fits.
    #[inline(always)]
    pub fn add(&mut self, other: Wide) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self.high.wrapping_add(other.high).wrapping_add(i128::from(carry));
    }

    /// The sum of a set that another one is added to, and whether it fits.
    pub fn checked_add(self, other: Wide) -> Option<Wide> {
        let mut sum = self;
        sum.add(other);
        let overflows = (self.high < 0) == (other.high < 0) && (sum.high < 0) != (self.high < 0);
        (!overflows).then_some(sum)
    }

    /// The lowest `bits` (1 to 127) as a positive number, shifted left by `by` (below 128), and what is above them.
    pub fn split(self, bits: u32, by: u32) -> (Wide, Wide) {
        let low = self.low & ((1 << bits) - 1);
        let above = Wide { low: self.low >> bits | (self.high as u128) << (128 - bits), high: self.high >> bits };
        let high = if by == 0 { 0 } else { low >> (128 - by) };
        (Wide { low: low << by, high: high as i128 }, above)
    }

    pub fn words(self) -> [u64; 4] {
        [self.low as u64, (self.low >> 64) as u64, self.high as u64, (self.high >> 64) as u64]
    }

    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.low.to_le_bytes());
        bytes[16..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    pub fn from_le_bytes(low: [u8; 16], high: [u8; 16]) -> Wide {
        Wide { low: u128::from_le_bytes(low), high: i128::from_le_bytes(high) }
    }
}

impl From<i128> for Wide {
    fn from(value: i128) -> Wide {
        Wide { low: value as u128, high: value >> 127 }
    }
}

impl From<u64> for Wide {
    fn from(value: u64) -> Wide {
        Wide { low: u128::from(value), high: 0 }
    }
}
