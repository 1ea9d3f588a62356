//! Plain loops, compiled for the vectors that the processor has: a build for any x86-64 knows of 128 bits only.

use std::sync::atomic::{AtomicU8, Ordering};

/// Sets of vector instructions, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Vectors {
    /// What every processor of the architecture has.
    Baseline = 1,
    /// AVX2 and, as all but a few processors with that have, fused multiplication.
    Avx2,
    /// The parts of AVX-512 that servers have had since 2017.
    Avx512,
}

/// What is used, as a number; 0: not known yet.
static USED: AtomicU8 = AtomicU8::new(0);

fn detected() -> Vectors {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return if wide { Vectors::Avx512 } else { Vectors::Avx2 };
    }
    Vectors::Baseline
}

/// Lets the engine use no more than `most`, to compare them; what is used from now on. Results are the same with all.
pub fn limit_vectors(most: Vectors) -> Vectors {
    let used = detected().min(most);
    USED.store(used as u8, Ordering::Relaxed);
    used
}

#[inline(always)]
fn has(vectors: Vectors) -> bool {
    let used = match USED.load(Ordering::Relaxed) {
        0 => limit_vectors(Vectors::Avx512) as u8,
        known => known,
    };
    used >= vectors as u8
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_avx512() -> bool {
    has(Vectors::Avx512)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_avx2() -> bool {
    has(Vectors::Avx2)
}

/// Whether `mul_add` in what [`widest`] runs is one instruction, and not a call.
#[inline(always)]
pub(crate) fn is_fused() -> bool {
    cfg!(target_arch = "aarch64") || has(Vectors::Avx2)
}

/// Runs `work`, which is compiled once more for each set of vector instructions if it and what it calls are `#[inline(always)]`.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_avx512() {
            // SAFETY: the features were detected.
            return unsafe { avx512(work) };
        }
        if is_avx2() {
            // SAFETY: the features were detected.
            return unsafe { avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Asks the caches for an element; nothing happens if there is none.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = values.get(at) {
        // SAFETY: prefetching has no effect on the program's state; the address is an element's.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>((&raw const *value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// Which of 64 bytes are among `wanted`: bit `i` stands for byte `i`.
#[inline(always)]
pub(crate) fn any_of(block: &[u8; 64], wanted: [u8; 4]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        let mut bits = 0;
        for (part, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: every x86-64 has SSE2; there are 16 readable bytes, and the load needs no alignment.
            let equal = unsafe {
                let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
                let [a, b, c, d] = wanted.map(|byte| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8)));
                _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)))
            };
            bits |= u64::from(equal as u16) << (part * 16);
        }
        bits
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let hit = |byte: &u8| wanted.contains(byte);
        block.iter().enumerate().fold(0, |bits, (at, byte)| bits | (u64::from(hit(byte)) << at))
    }
}
