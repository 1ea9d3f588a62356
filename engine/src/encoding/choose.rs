//! Writing integers: which encoding, from one pass over the values and a sample of them.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::bitpack;
use super::cursor::{put_varint, put_zigzag};
use super::int::{Frame, Int, Multiples, bounds};
use super::tag;
use crate::simd::widest;

/// What the choice of an encoding depends on, from one pass over the values.
struct Shape {
    first: i64,
    min: i64,
    max: i64,
    runs: usize,
    min_delta: i64,
    max_delta: i64,
    /// Greatest common divisor of the differences.
    divisor: u64,
}

impl Shape {
    fn of(values: &[i64]) -> Shape {
        let first = values.first().copied().unwrap_or(0);
        let (min, max) = bounds(values);
        let rest = values.get(1..).unwrap_or_default();
        let (changes, min_delta, max_delta) = widest(
            #[inline(always)]
            || {
                values.iter().zip(rest).fold(
                    (0usize, i64::MAX, i64::MIN),
                    |(changes, least, greatest), (last, value)| {
                        let delta = value.wrapping_sub(*last);
                        (changes + usize::from(delta != 0), least.min(delta), greatest.max(delta))
                    },
                )
            },
        );
        // Up to a byte, a divisor saves too little to be looked for.
        let divisor = if max.wrapping_sub(min).cast_unsigned() < 256 { 1 } else { common_divisor(values, rest) };
        Shape { first, min, max, runs: 1 + changes, min_delta, max_delta, divisor }
    }
}

/// Greatest common divisor of the differences between `values` and the `rest` of them without the first; 1 if there is none.
fn common_divisor(values: &[i64], rest: &[i64]) -> u64 {
    const CHUNK: usize = 256;
    let mut divisor = 0;
    for (values, rest) in values.chunks(CHUNK).zip(rest.chunks(CHUNK)) {
        let differences = || values.iter().zip(rest).map(|(last, value)| value.abs_diff(*last));
        if divisor > 0 {
            let multiples = Multiples::of(divisor);
            let all = widest(
                #[inline(always)]
                || differences().fold(true, |all, difference| all & multiples.contain(difference)),
            );
            if all {
                continue;
            }
        }
        for difference in differences() {
            divisor = gcd(divisor, difference);
            if divisor == 1 {
                return 1;
            }
        }
    }
    divisor.max(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    if a != 0 && b.is_multiple_of(a) {
        return a;
    }
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Appends `values` in the encoding that is smallest, where decoding costs count as size; returns its
/// tag. `values` must not be empty.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) -> u8 {
    let shape = Shape::of(values);
    let rows = values.len();
    if shape.min == shape.max {
        put_zigzag(out, shape.min);
        return tag::CONSTANT;
    }
    let range = shape.max.wrapping_sub(shape.min).cast_unsigned();
    let frame = Frame { base: shape.min, scale: shape.divisor, width: bitpack::width(range / shape.divisor) };
    let packed_bits = rows * usize::from(frame.width);
    let mut sample = sample(values);
    sample.sort_unstable();
    let patched = Patched::find(values, &sample, shape.divisor, packed_bits / 10 * 9);
    let mut limit = patched.as_ref().map_or(packed_bits, |p| p.bits);
    // Looking values up costs more than adding a base.
    let table = table(values, frame, &sample, limit / 8 * 7);
    limit = table.as_ref().map_or(limit, |t| t.bits);
    // Differences that overflow are no use.
    let delta_range = shape.max_delta.wrapping_sub(shape.min_delta).cast_unsigned() / shape.divisor;
    let delta = Frame { base: shape.min_delta, scale: shape.divisor, width: bitpack::width(delta_range) };
    let no_overflow = range <= i64::MAX.cast_unsigned();
    let delta_bits = if no_overflow { rows * usize::from(delta.width) } else { usize::MAX };
    let run_bits = shape.runs * (usize::from(frame.width) + 16);
    // Prefix sums are a serial chain, short runs branch: both must save a quarter to be worth it.
    limit = limit / 4 * 3;
    if shape.runs * 4 <= rows && run_bits < limit.min(delta_bits) {
        encode_runs(values, frame, out);
        return tag::RUN_LENGTH;
    }
    if no_overflow && let Some((deltas, patched)) = patched_delta(values, shape.divisor, limit.min(delta_bits / 8 * 7))
    {
        put_zigzag(out, shape.first);
        patched.write(&deltas, out);
        tag::PATCHED_DELTA
    } else if delta_bits < limit {
        encode_delta(values, delta, out);
        tag::DELTA
    } else if let Some(table) = table {
        table.write(values, frame, out);
        tag::TABLE
    } else if let Some(patched) = patched {
        patched.write(values, out);
        tag::PATCHED
    } else {
        frame.write(out);
        pack_frame(values, frame, out);
        tag::PACKED
    }
}

/// Values of a sample: what is tried on all values is first tried on these.
const SAMPLE: usize = 512;
/// With fewer values no choice but between the plain encodings pays.
const MIN_ROWS: usize = 1024;

/// Some values, evenly spread; none of a short sequence.
fn sample(values: &[i64]) -> Vec<i64> {
    if values.len() < MIN_ROWS {
        return Vec::new();
    }
    values.iter().step_by(values.len() / SAMPLE).take(SAMPLE).copied().collect()
}

/// A frame that holds all values but a few (Zukowski et al., *Super-Scalar RAM-CPU Cache Compression*, ICDE 2006).
struct Patched {
    frame: Frame,
    exceptions: Vec<(u16, i64)>,
    bits: usize,
}

impl Patched {
    /// The best for a sorted sample, if it then takes fewer than `limit` bits for all values.
    fn find(values: &[i64], sample: &[i64], scale: u64, limit: usize) -> Option<Patched> {
        let count = sample.len();
        // Of a sample, few of whose values are exceptions.
        let most = count / 16;
        let mut best: Option<(usize, Frame)> = None;
        for low in 0..most {
            for high in 0..most - low {
                let (Some(min), Some(max)) = (sample.get(low), sample.get(count - 1 - high)) else { continue };
                let range = max.wrapping_sub(*min).cast_unsigned() / scale;
                let width = bitpack::width(range);
                // An exception has its position and, most often, many bits.
                let bits = usize::from(width) * count + (low + high) * 40;
                if best.as_ref().is_none_or(|b| bits < b.0) {
                    best = Some((bits, Frame { base: *min, scale, width }));
                }
            }
        }
        let (bits, frame) = best?;
        if bits.saturating_mul(values.len()) / count >= limit {
            return None;
        }
        // The greatest value in the frame.
        let most = u64::MAX.checked_shr(64 - u32::from(frame.width)).unwrap_or(0).saturating_mul(scale);
        let top = i64::try_from(i128::from(frame.base) + i128::from(most)).unwrap_or(i64::MAX);
        let fits = |value: &i64| *value >= frame.base && *value <= top;
        let count = widest(
            #[inline(always)]
            || values.iter().map(|value| usize::from(!fits(value))).sum::<usize>(),
        );
        if count > values.len() / 8 + 1 {
            return None;
        }
        let mut exceptions = Vec::with_capacity(count);
        if count > 0 {
            for (position, value) in values.iter().enumerate().filter(|(_, value)| !fits(value)) {
                exceptions.push((u16::try_from(position).ok()?, *value));
            }
        }
        let wide = usize::from(exception_frame(&exceptions).width);
        let bits = values.len() * usize::from(frame.width) + exceptions.len() * (16 + wide);
        (bits < limit).then_some(Patched { frame, exceptions, bits })
    }

    fn write(&self, values: &[i64], out: &mut Vec<u8>) {
        put_varint(out, self.exceptions.len() as u64);
        out.extend(self.exceptions.iter().flat_map(|(position, _)| position.to_le_bytes()));
        let outside: Vec<i64> = self.exceptions.iter().map(|(_, value)| *value).collect();
        let frame = exception_frame(&self.exceptions);
        frame.write(out);
        pack_frame(&outside, frame, out);
        let mut inside = values.to_vec();
        for (position, _) in &self.exceptions {
            if let Some(slot) = inside.get_mut(usize::from(*position)) {
                *slot = self.frame.base;
            }
        }
        self.frame.write(out);
        pack_frame(&inside, self.frame, out);
    }
}

fn exception_frame(exceptions: &[(u16, i64)]) -> Frame {
    let min = exceptions.iter().map(|(_, v)| *v).min().unwrap_or(0);
    let max = exceptions.iter().map(|(_, v)| *v).max().unwrap_or(0);
    Frame { base: min, scale: 1, width: bitpack::width(max.wrapping_sub(min).cast_unsigned()) }
}

/// Differences as values with exceptions, if they take fewer than `limit` bits.
fn patched_delta(values: &[i64], scale: u64, limit: usize) -> Option<(Vec<i64>, Patched)> {
    let pairs = || values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    if values.len() < MIN_ROWS {
        return None;
    }
    let mut sample: Vec<i64> = pairs().step_by(values.len() / SAMPLE).take(SAMPLE).collect();
    sample.sort_unstable();
    // Half of the differences in the frame say whether it is worth looking at all.
    let (low, high) = (sample.get(sample.len() / 16)?, sample.get(sample.len() / 16 * 15)?);
    if values.len() * usize::from(bitpack::width(high.wrapping_sub(*low).cast_unsigned() / scale)) >= limit {
        return None;
    }
    let deltas: Vec<i64> = pairs().collect();
    let patched = Patched::find(&deltas, &sample, scale, limit)?;
    Some((deltas, patched))
}

/// The distinct values of a block that spreads few over a wide range.
struct Table {
    /// By packed value: its number among those that occur, from 0.
    numbers: Vec<u16>,
    distinct: Vec<i64>,
    bits: usize,
}

/// Greatest packed value for which distinct values are counted.
const TABLE_RANGE: u64 = 1 << 16;

fn table(values: &[i64], frame: Frame, sample: &[i64], limit: usize) -> Option<Table> {
    let range = 1u64.checked_shl(u32::from(frame.width)).filter(|range| *range <= TABLE_RANGE)?;
    let seen = sample.chunk_by(|a, b| a == b).count();
    if sample.is_empty() || frame.width < 3 || seen as u64 * 2 > range {
        return None;
    }
    let packed = frame.packer();
    let index = |value: i64| usize::try_from(packed(value)).unwrap_or(0);
    let mut numbers = vec![u16::MAX; usize::try_from(range).ok()?];
    for value in values {
        *numbers.get_mut(index(*value))? = 0;
    }
    let mut distinct = Vec::new();
    for (packed, number) in numbers.iter_mut().enumerate().filter(|(_, number)| **number == 0) {
        *number = u16::try_from(distinct.len()).ok()?;
        distinct.push(i64::long(frame.base, frame.scale.cast_signed(), packed as u64));
    }
    let width = usize::from(bitpack::width(distinct.len() as u64 - 1));
    let bits = values.len() * width + distinct.len() * usize::from(frame.width);
    (bits < limit).then_some(Table { numbers, distinct, bits })
}

impl Table {
    fn write(&self, values: &[i64], frame: Frame, out: &mut Vec<u8>) {
        put_varint(out, self.distinct.len() as u64);
        frame.write(out);
        pack_frame(&self.distinct, frame, out);
        let packed = frame.packer();
        let number = |value: &i64| {
            let packed = usize::try_from(packed(*value)).unwrap_or(0);
            self.numbers.get(packed).map_or(0, |number| u64::from(*number))
        };
        let numbers: Vec<u64> = values.iter().map(number).collect();
        bitpack::pack(&numbers, bitpack::width(self.distinct.len() as u64 - 1), out);
    }
}

/// Appends `ints(values.len())`: the tag, then the values.
pub(crate) fn encode_tagged(values: &[i64], out: &mut Vec<u8>) {
    let at = out.len();
    out.push(0);
    let tag = encode(values, out);
    if let Some(slot) = out.get_mut(at) {
        *slot = tag;
    }
}

fn pack_frame(values: &[i64], frame: Frame, out: &mut Vec<u8>) {
    let packer = frame.packer();
    let mut packed = [0; bitpack::GROUP];
    for group in values.chunks(bitpack::GROUP) {
        let packed = packed.get_mut(..group.len()).unwrap_or_default();
        widest(
            #[inline(always)]
            || packed.iter_mut().zip(group).for_each(|(packed, value)| *packed = packer(*value)),
        );
        bitpack::pack(packed, frame.width, out);
    }
}

fn encode_delta(values: &[i64], frame: Frame, out: &mut Vec<u8>) {
    put_zigzag(out, values.first().copied().unwrap_or(0));
    frame.write(out);
    let deltas: Vec<i64> = values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect();
    pack_frame(&deltas, frame, out);
}

fn encode_runs(values: &[i64], frame: Frame, out: &mut Vec<u8>) {
    let mut lengths = Vec::new();
    let mut heads = Vec::new();
    for run in values.chunk_by(|a, b| a == b) {
        lengths.push(run.len() as u64 - 1);
        heads.extend(run.first());
    }
    let width = bitpack::width(lengths.iter().copied().max().unwrap_or(0));
    put_varint(out, lengths.len() as u64);
    out.push(width);
    bitpack::pack(&lengths, width, out);
    frame.write(out);
    pack_frame(&heads, frame, out);
}

/// Every encoding of `values` that can hold them, for tests: tag and bytes.
#[cfg(test)]
pub(crate) fn encode_all(values: &[i64]) -> Vec<(u8, Vec<u8>)> {
    let shape = Shape::of(values);
    let range = shape.max.wrapping_sub(shape.min).cast_unsigned();
    let frame = Frame { base: shape.min, scale: shape.divisor, width: bitpack::width(range / shape.divisor) };
    let unscaled = Frame { scale: 1, width: bitpack::width(range), ..frame };
    let mut all = Vec::new();
    for frame in [frame, unscaled] {
        let mut out = Vec::new();
        frame.write(&mut out);
        pack_frame(values, frame, &mut out);
        all.push((tag::PACKED, out));
        let mut out = Vec::new();
        encode_runs(values, frame, &mut out);
        all.push((tag::RUN_LENGTH, out));
    }
    let width = if values.len() < 2 { 0 } else { 64 };
    let mut out = Vec::new();
    encode_delta(values, Frame { base: shape.min_delta, scale: 1, width }, &mut out);
    all.push((tag::DELTA, out));
    let mut out = Vec::new();
    all.push((encode(values, &mut out), out));
    // Every third value is an exception.
    let positions = (0..values.len().min(60_000)).step_by(3);
    let exceptions = positions.map(|i| (u16::try_from(i).unwrap_or(0), values.get(i).copied().unwrap_or(0))).collect();
    let patched = Patched { frame: unscaled, exceptions, bits: 0 };
    let mut out = Vec::new();
    patched.write(values, &mut out);
    all.push((tag::PATCHED, out));
    let deltas: Vec<i64> = values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect();
    let exceptions = deltas.iter().enumerate().skip(1).step_by(5).take(9000);
    let exceptions = exceptions.map(|(i, v)| (u16::try_from(i).unwrap_or(0), *v)).collect();
    let patched = Patched { frame: Frame { base: shape.min_delta, scale: 1, width }, exceptions, bits: 0 };
    let mut out = Vec::new();
    put_zigzag(&mut out, shape.first);
    patched.write(&deltas, &mut out);
    all.push((tag::PATCHED_DELTA, out));
    if let Some(table) = table(values, frame, &[shape.min], usize::MAX) {
        let mut out = Vec::new();
        table.write(values, frame, &mut out);
        all.push((tag::TABLE, out));
    }
    all
}
