//! What the kernels compute, for every processor.

/// Fills `out` with one bit a value. `out` holds `ceil(values / 64)` words.
#[inline(always)]
pub fn fill<T: Copy>(values: &[T], out: &mut [u64], f: impl Fn(T) -> bool) {
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for (i, v) in chunk.iter().enumerate() {
            w |= u64::from(f(*v)) << i;
        }
        *word = w;
    }
    if !rest.is_empty()
        && let Some(word) = out.get_mut(chunks.len())
    {
        *word = rest.iter().enumerate().fold(0, |w, (i, v)| w | u64::from(f(*v)) << i);
    }
}

pub fn range_i64(values: &[i64], low: i64, high: i64, out: &mut [u64]) {
    let span = high.wrapping_sub(low) as u64;
    fill(values, out, |v| v.wrapping_sub(low) as u64 <= span);
}

pub fn range_u32(values: &[u32], low: u32, high: u32, out: &mut [u64]) {
    let span = high.wrapping_sub(low);
    fill(values, out, |v| v.wrapping_sub(low) <= span);
}

pub fn member_u32(values: &[u32], set: &[u64], out: &mut [u64]) {
    fill(values, out, |v| set.get(v as usize / 64).is_some_and(|w| w >> (v % 64) & 1 == 1));
}

pub fn sum_selected(values: &[i64], words: &[u64]) -> i64 {
    let mut sum = 0i64;
    for (chunk, &word) in values.chunks(64).zip(words) {
        if word == 0 {
            continue;
        }
        for (i, v) in chunk.iter().enumerate() {
            sum = sum.wrapping_add(v & (((word >> i & 1) as i64).wrapping_neg()));
        }
    }
    sum
}

/// Places of the set bits of each byte, and behind them anything.
static PLACES: [[u16; 8]; 256] = {
    let mut places = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                places[byte][n] = bit;
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    places
};

/// At most 1,024 words. `out` is empty.
pub fn indices(words: &[u64], out: &mut Vec<u16>) {
    let total: usize = words.iter().map(|w| w.count_ones() as usize).sum();
    // Eight places are written at a time, of which the next write covers what was too much.
    out.resize(total + 8, 0);
    let mut n = 0;
    for (i, &word) in words.iter().enumerate() {
        if word == 0 {
            continue;
        }
        for (nth, byte) in word.to_le_bytes().into_iter().enumerate() {
            let base = (i * 64 + nth * 8) as u16;
            if let Some(slots) = out.get_mut(n..).and_then(|rest| rest.first_chunk_mut::<8>()) {
                for (slot, place) in slots.iter_mut().zip(&PLACES[usize::from(byte)]) {
                    *slot = base | place;
                }
            }
            n += byte.count_ones() as usize;
        }
    }
    out.truncate(total);
}
