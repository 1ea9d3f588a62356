//! Plain loops, compiled for the vectors that the processor has: a build for any x86-64 knows of 128 bits only.

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

/// Whether the processor has the parts of AVX-512 that servers have had since 2017.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
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
