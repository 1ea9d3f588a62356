//! Sums of floats and of their products without rounding, some rows at a time.
//!
//! Values are poured down a ladder of accumulators. Each starts at an anchor, so large that what it takes of a value is rounded to a multiple
//! of the anchor's last place; what is left, exactly, goes to the next (S. M. Rump, T. Ogita, S. Oishi, "Accurate Floating-Point Summation",
//! 2008: ExtractVector). A product is its rounded value and the error of that, which a fused multiplication gives exactly. Multiples of one
//! power of two add up without rounding as long as a float has room for the carries.

/// The most rows that are summed at a time: a multiple of 64.
pub const MOST: usize = 1 << ROOM;
const ROOM: i32 = 10;
/// Rows next to each other, whose accumulators do not wait for one another.
const LANES: usize = 32;
/// The same where there are few rows.
const FEW_LANES: usize = 8;
const FEW: usize = 128;
/// Exponents of magnitudes for which neither anchors nor parts leave the range of normal floats.
const EXPONENTS: std::ops::RangeInclusive<i32> = -850..=950;
/// The error of a product is a float if the product is larger.
const TINY: f64 = f64::from_bits(((1023 - 960) as u64) << 52);

/// The accumulators' anchors: one and a half times a power of two each.
#[derive(Clone, Copy)]
pub struct Ladder<const N: usize>([f64; N]);

/// What each accumulator took, and whether something was left below the last.
pub struct Poured<const N: usize> {
    pub sums: [f64; N],
    pub rests: bool,
}

/// The exponent such that every magnitude up to `largest` is below 2^it; `None`: there is none, or it is of no use here.
pub fn top(largest: f64) -> Option<i32> {
    let top = (largest.to_bits() >> 52) as i32 - 1022;
    (largest.is_finite() && EXPONENTS.contains(&top)).then_some(top)
}

impl<const N: usize> Ladder<N> {
    /// For values below 2^top.
    pub fn of_values(top: i32) -> Self {
        Self::new(top, 1)
    }

    /// For products of values below 2^left and 2^right; `None`: too large or too small for it.
    pub fn of_products(left: i32, right: i32) -> Option<Self> {
        EXPONENTS.contains(&(left + right)).then(|| Self::new(left + right, 2))
    }

    /// `each`: so many parts of a row come to all accumulators but the first.
    fn new(top: i32, each: i32) -> Self {
        // In [2^s, 2^(s + 1)), an accumulator takes multiples of 2^(s - 52): 2^ROOM of up to 2^top move it by 2^(s - 1) at most.
        let mut s = top + ROOM + 1;
        Ladder([(); N].map(|()| {
            let anchor = f64::from_bits(((s + 1023) as u64) << 52) * 1.5;
            // What is left of a value is at most half of the last place: 2^(s - 53).
            s += ROOM - 53 + each;
            anchor
        }))
    }
}

/// Adds what an accumulator takes of a value; what is left of it.
#[inline(always)]
fn pour(accumulator: &mut f64, value: f64) -> f64 {
    let sum = *accumulator + value;
    let left = value - (sum - *accumulator);
    *accumulator = sum;
    left
}

/// The values whose bit is set, else 0.
#[inline(always)]
fn kept<const L: usize>(values: &[f64; L], word: u64) -> [f64; L] {
    let mut kept = [0.0; L];
    for (lane, (kept, v)) in kept.iter_mut().zip(values).enumerate() {
        *kept = f64::from_bits(v.to_bits() & 0u64.wrapping_sub(word >> lane & 1));
    }
    kept
}

/// Calls `f` with the values of `L` rows at a time, those that are not selected as 0. `words`: which are selected; `None`: all.
#[inline(always)]
fn each<const L: usize>(left: &[f64], right: &[f64], words: Option<&[u64]>, mut f: impl FnMut(&[f64; L], &[f64; L])) {
    let (lefts, left_tail) = left.as_chunks::<L>();
    let (rights, right_tail) = right.as_chunks::<L>();
    let pairs = lefts.iter().zip(rights);
    match words {
        None => pairs.for_each(|(a, b)| f(a, b)),
        Some(words) => {
            for (nth, (a, b)) in pairs.enumerate() {
                let word = words.get(nth * L / 64).map_or(0, |word| word >> (nth * L % 64));
                if word & (u64::MAX >> (64 - L)) != 0 {
                    f(&kept(a, word), &kept(b, word));
                }
            }
        }
    }
    if !left_tail.is_empty() {
        let (mut a, mut b) = ([0.0; L], [0.0; L]);
        a[..left_tail.len()].copy_from_slice(left_tail);
        b[..right_tail.len()].copy_from_slice(right_tail);
        let nth = lefts.len();
        let word = words.map_or(u64::MAX, |words| words.get(nth * L / 64).map_or(0, |word| word >> (nth * L % 64)));
        f(&kept(&a, word), &kept(&b, word));
    }
}

/// What accumulators took beyond their anchors, all lanes together: multiples of one power of two for which there is room.
#[inline(always)]
fn poured<const N: usize, const L: usize>(ladder: Ladder<N>, sums: [[f64; L]; N], rests: [u64; L]) -> Poured<N> {
    let mut all = [0.0; N];
    for ((all, lanes), anchor) in all.iter_mut().zip(sums).zip(ladder.0) {
        *all = lanes.iter().map(|sum| sum - anchor).sum();
    }
    // Without the sign: a rest of -0 is none.
    Poured { sums: all, rests: rests.iter().fold(0, |all, rest| all | rest) << 1 != 0 }
}

#[inline(always)]
fn sums_in<const N: usize, const L: usize>(values: &[f64], words: Option<&[u64]>, ladder: Ladder<N>) -> Poured<N> {
    let mut sums = ladder.0.map(|anchor| [anchor; L]);
    let mut rests = [0u64; L];
    each::<L>(
        values,
        values,
        words,
        #[inline(always)]
        |values, _| {
            for lane in 0..L {
                let mut left = values[lane];
                for sums in &mut sums {
                    left = pour(&mut sums[lane], left);
                }
                rests[lane] |= left.to_bits();
            }
        },
    );
    poured(ladder, sums, rests)
}

/// The sum of at most [`MOST`] values, the selected ones of which are within the ladder.
#[inline(always)]
pub fn sums<const N: usize>(values: &[f64], words: Option<&[u64]>, ladder: Ladder<N>) -> Poured<N> {
    sums_in::<N, LANES>(values, words, ladder)
}

#[inline(always)]
fn products_in<const N: usize, const L: usize>(
    left: &[f64],
    right: &[f64],
    words: Option<&[u64]>,
    ladder: Ladder<N>,
) -> Poured<N> {
    let mut sums = ladder.0.map(|anchor| [anchor; L]);
    let mut rests = [0u64; L];
    each::<L>(
        left,
        right,
        words,
        #[inline(always)]
        |left, right| {
            for lane in 0..L {
                let (x, y) = (left[lane], right[lane]);
                let product = x * y;
                let error = x.mul_add(y, -product);
                let inexact = (product.abs() < TINY) & (x != 0.0) & (y != 0.0);
                let [first, others @ ..] = sums.as_mut_slice() else { return };
                let mut parts = [pour(&mut first[lane], product), error];
                for sums in others {
                    parts = parts.map(|part| pour(&mut sums[lane], part));
                }
                rests[lane] |= parts[0].to_bits() | parts[1].to_bits() | u64::from(inexact);
            }
        },
    );
    poured(ladder, sums, rests)
}

/// The sum of the products of at most [`MOST`] pairs of values, the selected ones of which are within the ladder. Only where the processor
/// has fused multiplication.
#[inline(always)]
pub fn products<const N: usize>(left: &[f64], right: &[f64], words: Option<&[u64]>, ladder: Ladder<N>) -> Poured<N> {
    if left.len() < FEW {
        products_in::<N, FEW_LANES>(left, right, words, ladder)
    } else {
        products_in::<N, LANES>(left, right, words, ladder)
    }
}

/// The largest magnitude of the selected values as bits, which order as magnitudes do; NaN is beyond infinity.
#[inline(always)]
pub fn magnitude(values: &[f64], words: Option<&[u64]>) -> u64 {
    const SIGNLESS: u64 = u64::MAX >> 1;
    let mut most = [0u64; LANES];
    each::<LANES>(
        values,
        values,
        words,
        #[inline(always)]
        |values, _| {
            for lane in 0..LANES {
                most[lane] = most[lane].max(values[lane].to_bits() & SIGNLESS);
            }
        },
    );
    most.into_iter().max().unwrap_or(0)
}
