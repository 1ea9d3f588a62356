//! Sums of floats without rounding, a block at a time.
//!
//! Every value is cut at two fixed places into a high part, a low part and, seldom, a rest. Adding and taking away a large anchor rounds a
//! value to a multiple of the anchor's last place, exactly; parts that are multiples of one power of two add up without rounding as long
//! as a float has room for the carries (S. M. Rump, T. Ogita, S. Oishi, "Accurate Floating-Point Summation", 2008: ExtractVector).

/// Lanes summed apart: one for each row of a word of a selection.
pub const LANES: usize = 64;
/// log2 of the values that one lane of a block may get.
const ROOM: i32 = 10;
/// Exponents of magnitudes for which neither anchors nor parts leave the range of normal floats.
const EXPONENTS: std::ops::RangeInclusive<i32> = -850..=950;

/// Where values are cut: one and a half times a power of two each.
#[derive(Clone, Copy)]
pub struct Scale {
    high: f64,
    low: f64,
}

/// The parts' sums, and where rests are left.
pub struct Parts {
    pub high: [f64; LANES],
    pub low: [f64; LANES],
    /// Whether some value has more bits than both parts take.
    pub rests: bool,
}

impl Scale {
    /// For finite values up to the magnitude `largest`; `None`: too large or too small for it.
    pub fn new(largest: f64) -> Option<Scale> {
        // Every magnitude is below 2^top.
        let top = (largest.to_bits() >> 52) as i32 - 1022;
        if !largest.is_finite() || !EXPONENTS.contains(&top) {
            return None;
        }
        // Multiples of 2^(s - 52), up to 2^top each: 2^ROOM of them stay below 2^(s + 1).
        let anchor = |s: i32| f64::from_bits(((s + 1023) as u64) << 52) * 1.5;
        let high = top + ROOM - 1;
        // What is left is at most half of the last place: 2^(high - 53).
        let low = high - 53 + ROOM - 1;
        Some(Scale { high: anchor(high), low: anchor(low) })
    }

    /// High part, low part, rest: their sum is the value.
    #[inline(always)]
    pub fn cut(self, value: f64) -> [f64; 3] {
        let high = (value + self.high) - self.high;
        let left = value - high;
        let low = (left + self.low) - self.low;
        [high, low, left - low]
    }
}

/// The values whose bit is set, else 0.
#[inline(always)]
fn kept(values: &[f64; LANES], word: u64) -> [f64; LANES] {
    let mut kept = [0.0; LANES];
    for (lane, (kept, v)) in kept.iter_mut().zip(values).enumerate() {
        *kept = f64::from_bits(v.to_bits() & 0u64.wrapping_sub(word >> lane & 1));
    }
    kept
}

/// Calls `f` with 64 values at a time, those that are not selected as 0. `words`: which are selected; `None`: all.
#[inline(always)]
fn each(values: &[f64], words: Option<&[u64]>, mut f: impl FnMut(&[f64; LANES])) {
    let (chunks, tail) = values.as_chunks::<LANES>();
    match words {
        None => chunks.iter().for_each(&mut f),
        Some(words) => {
            for (chunk, &word) in chunks.iter().zip(words) {
                if word != 0 {
                    f(&kept(chunk, word));
                }
            }
        }
    }
    if !tail.is_empty() {
        let mut padded = [0.0; LANES];
        padded[..tail.len()].copy_from_slice(tail);
        f(&kept(&padded, words.and_then(|w| w.get(chunks.len()).copied()).unwrap_or(u64::MAX)));
    }
}

/// At most 2^16 values, all selected ones within the scale.
#[inline(always)]
pub fn parts(values: &[f64], words: Option<&[u64]>, scale: Scale) -> Parts {
    let (mut high, mut low, mut rests) = ([0.0; LANES], [0.0; LANES], [0u64; LANES]);
    each(
        values,
        words,
        #[inline(always)]
        |values| {
            for lane in 0..LANES {
                let [h, l, rest] = scale.cut(values[lane]);
                high[lane] += h;
                low[lane] += l;
                // Without the sign: a rest of -0 is none.
                rests[lane] |= rest.to_bits() << 1;
            }
        },
    );
    Parts { high, low, rests: rests.iter().any(|r| *r != 0) }
}

/// The largest magnitude of the selected values as bits, which order as magnitudes do; NaN is beyond infinity.
#[inline(always)]
pub fn magnitude(values: &[f64], words: Option<&[u64]>) -> u64 {
    const SIGNLESS: u64 = u64::MAX >> 1;
    let mut most = [0u64; LANES];
    each(
        values,
        words,
        #[inline(always)]
        |values| {
            for lane in 0..LANES {
                most[lane] = most[lane].max(values[lane].to_bits() & SIGNLESS);
            }
        },
    );
    most.into_iter().max().unwrap_or(0)
}
