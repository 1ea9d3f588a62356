//! Loops over a run of values, written so that the compiler vectorizes them.

use crate::simd::widest;

/// Values of a run, or one for all its rows.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a, T> {
    Each(&'a [T]),
    One(T),
}

impl<T: Copy> Operand<'_, T> {
    #[inline(always)]
    pub fn get(&self, i: usize) -> T {
        match self {
            Operand::Each(values) => values[i],
            Operand::One(value) => *value,
        }
    }
}

#[inline(always)]
pub(super) fn map<A: Copy, R>(a: Operand<'_, A>, out: &mut [R], f: impl Fn(A) -> R) {
    widest(
        #[inline(always)]
        || match a {
            Operand::Each(a) => out.iter_mut().zip(a).for_each(|(r, a)| *r = f(*a)),
            Operand::One(a) => out.iter_mut().for_each(|r| *r = f(a)),
        },
    )
}

/// [`map`]; whether `f` said so of any value.
#[inline(always)]
pub(super) fn map_checked<A: Copy, R>(a: Operand<'_, A>, out: &mut [R], f: impl Fn(A) -> (R, bool)) -> bool {
    widest(
        #[inline(always)]
        || {
            let mut any = false;
            let mut put = |r: &mut R, a: A| {
                let (value, bad) = f(a);
                *r = value;
                any |= bad;
            };
            match a {
                Operand::Each(a) => out.iter_mut().zip(a).for_each(|(r, a)| put(r, *a)),
                Operand::One(a) => out.iter_mut().for_each(|r| put(r, a)),
            }
            any
        },
    )
}

#[inline(always)]
pub(super) fn zip<A: Copy, B: Copy, R>(a: Operand<'_, A>, b: Operand<'_, B>, out: &mut [R], f: impl Fn(A, B) -> R) {
    zip_checked(a, b, out, |a, b| (f(a, b), false));
}

/// [`zip`]; whether `f` said so of any pair.
#[inline(always)]
pub(super) fn zip_checked<A: Copy, B: Copy, R>(
    a: Operand<'_, A>,
    b: Operand<'_, B>,
    out: &mut [R],
    f: impl Fn(A, B) -> (R, bool),
) -> bool {
    widest(
        #[inline(always)]
        || {
            let mut any = false;
            let mut put = |r: &mut R, a: A, b: B| {
                let (value, bad) = f(a, b);
                *r = value;
                any |= bad;
            };
            match (a, b) {
                (Operand::Each(a), Operand::Each(b)) => {
                    out.iter_mut().zip(a.iter().zip(b)).for_each(|(r, (a, b))| put(r, *a, *b))
                }
                (Operand::Each(a), Operand::One(b)) => out.iter_mut().zip(a).for_each(|(r, a)| put(r, *a, b)),
                (Operand::One(a), Operand::Each(b)) => out.iter_mut().zip(b).for_each(|(r, b)| put(r, a, *b)),
                (Operand::One(a), Operand::One(b)) => out.iter_mut().for_each(|r| put(r, a, b)),
            }
            any
        },
    )
}

/// Takes the values of `from` where the bit is set.
#[inline(always)]
pub(super) fn blend<T: Copy>(from: Operand<'_, T>, words: &[u64], out: &mut [T]) {
    for (nth, (run, &word)) in out.chunks_mut(64).zip(words).enumerate() {
        if word == 0 {
            continue;
        }
        match from {
            Operand::Each(values) => {
                for (i, (slot, value)) in run.iter_mut().zip(&values[nth * 64..]).enumerate() {
                    *slot = if word >> i & 1 == 1 { *value } else { *slot };
                }
            }
            Operand::One(value) => {
                for (i, slot) in run.iter_mut().enumerate() {
                    *slot = if word >> i & 1 == 1 { value } else { *slot };
                }
            }
        }
    }
}
