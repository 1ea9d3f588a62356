//! Every form of a kernel does what a naive loop does.

use super::*;
use crate::Budget;
use crate::exec::floats::FloatSums;
use crate::exec::moments::Big;
use proptest::prelude::*;

fn expected<T: Copy>(values: &[T], f: impl Fn(T) -> bool) -> Vec<u64> {
    let mut words = vec![0; values.len().div_ceil(64)];
    for (i, v) in values.iter().enumerate() {
        words[i / 64] |= u64::from(f(*v)) << (i % 64);
    }
    words
}

type Products = fn(&[f64], &[f64], Option<&[u64]>, Ladder<4>) -> Poured<4>;
type Range<T> = fn(&[T], T, T, &mut [u64]);

/// All forms of a kernel that this processor has.
macro_rules! forms {
    ($form:ty, $name:ident($($argument:ident),*)) => {{
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "there is one form"))]
        let mut forms: Vec<$form> = vec![scalar::$name];
        #[cfg(target_arch = "x86_64")]
        {
            if simd::is_avx2() {
                // SAFETY: the features were detected.
                forms.push(|$($argument),*| unsafe { avx2::$name($($argument),*) });
            }
            if simd::is_avx512() {
                // SAFETY: the features were detected.
                forms.push(|$($argument),*| unsafe { avx512::$name($($argument),*) });
            }
        }
        forms
    }};
}

proptest! {
    #[test]
    fn ranges_agree_with_the_naive_loop(
        values in prop::collection::vec(prop_oneof![any::<i64>(), -5..5i64, Just(i64::MIN), Just(i64::MAX)], 0..300),
        a in prop_oneof![any::<i64>(), -5..5i64, Just(i64::MIN)],
        b in prop_oneof![any::<i64>(), -5..5i64, Just(i64::MAX)],
    ) {
        let (low, high) = (a.min(b), a.max(b));
        let want = expected(&values, |v| v >= low && v <= high);
        let mut out = vec![0; want.len()];
        let forms = forms!(Range<i64>, range_i64(values, low, high, out));
        for form in forms {
            form(&values, low, high, &mut out);
            prop_assert_eq!(&out, &want);
        }
        ranges_i64(&values, &[(low, high)], &mut out);
        prop_assert_eq!(&out, &want);
        let wide: Vec<i128> = values.iter().map(|v| i128::from(*v)).collect();
        range_i128(&wide, low.into(), high.into(), &mut out);
        prop_assert_eq!(&out, &want);
        prop_assert_eq!(sum_all(&values), values.iter().fold(0i64, |x, y| x.wrapping_add(*y)));
        let selected: Vec<i64> = values.iter().copied().filter(|&v| v >= low && v <= high).collect();
        let sum = selected.iter().fold(0i64, |x, y| x.wrapping_add(*y));
        let forms = forms!(fn(&[i64], &[u64]) -> i64, sum_selected(values, words));
        for form in forms {
            prop_assert_eq!(form(&values, &want), sum);
        }
        let both = selected.iter().min().copied().zip(selected.iter().max().copied());
        prop_assert_eq!(min_max_selected(&values, &want), both);
    }

    #[test]
    fn codes_agree_with_the_naive_loop(
        values in prop::collection::vec(prop_oneof![0..200u32, any::<u32>()], 0..300),
        set in prop::collection::vec(any::<u64>(), 0..4),
        a in 0..200u32, b in prop_oneof![0..200u32, Just(u32::MAX)],
    ) {
        let want = expected(&values, |v| set.get(v as usize / 64).is_some_and(|w| w >> (v % 64) & 1 == 1));
        let mut out = vec![0; want.len()];
        member_u32(&values, &set, &mut out);
        prop_assert_eq!(&out, &want);
        if !set.is_empty() {
            let forms = forms!(fn(&[u32], &[u64], &mut [u64]), member_u32(values, set, out));
            for form in forms {
                form(&values, &set, &mut out);
                prop_assert_eq!(&out, &want);
            }
        }
        let (low, high) = (a.min(b), a.max(b));
        let want = expected(&values, |v| v >= low && v <= high);
        let forms = forms!(Range<u32>, range_u32(values, low, high, out));
        for form in forms {
            form(&values, low, high, &mut out);
            prop_assert_eq!(&out, &want);
        }
    }

    #[test]
    fn groups_agree_with_the_naive_loop(
        rows in prop::collection::vec((0..100u32, any::<i64>(), any::<bool>()), 0..200),
        most in 1..100u32, run in prop_oneof![Just(1usize), Just(40)],
    ) {
        let groups: Vec<u32> = (0..rows.len()).map(|i| rows[i / run * run].0 % most).collect();
        let values: Vec<i64> = rows.iter().map(|r| r.1).collect();
        let list: Vec<u16> = (0..rows.len()).filter(|i| rows[*i].2).map(|i| i as u16).collect();
        for list in [None, Some(list.as_slice())] {
            let (mut sums, mut counts) = (vec![7i64; most as usize], vec![1i64; most as usize]);
            let (mut wanted, mut counted) = (sums.clone(), counts.clone());
            add_by_group(&mut sums, &groups, &values, list);
            count_by_group(&mut counts, &groups, list);
            for i in (0..rows.len()).filter(|i| list.is_none() || rows[*i].2) {
                let sum = &mut wanted[groups[i] as usize];
                *sum = sum.wrapping_add(values[i]);
                counted[groups[i] as usize] += 1;
            }
            prop_assert_eq!((sums, counts), (wanted, counted));
        }
    }

    #[test]
    fn indices_are_the_set_bits(words in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 0..40)) {
        let want: Vec<u16> =
            (0..words.len() * 64).filter(|i| words[i / 64] >> (i % 64) & 1 == 1).map(|i| i as u16).collect();
        let mut out = Vec::new();
        indices(&words, &mut out);
        prop_assert_eq!(&out, &want);
        out.clear();
        scalar::indices(&words, &mut out);
        prop_assert_eq!(&out, &want);
    }

    #[test]
    fn sums_of_floats_are_exact(values in floats(), step in 1..5usize, all in any::<bool>()) {
        let (words, chosen) = choose(&values, step, all);
        let words = words.as_deref();
        let largest = chosen.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        prop_assert_eq!(largest_magnitude(&values, words), largest.to_bits());
        let Some(top) = top(largest) else { return Ok(()) };
        for form in [floats::sums::<2>, float_sums] {
            let found = form(&values, words, Ladder::of_values(top));
            prop_assert!(found.rests || exact(&found.sums).minus(&exact(&chosen)).is_zero());
            let narrow = chosen.iter().all(|v| *v == 0.0 || v.abs() > largest * 1e-6);
            prop_assert!(!(found.rests && narrow));
        }
        let found = float_sums(&values, words, Ladder::<3>::of_values(top));
        prop_assert!(!found.rests && exact(&found.sums).minus(&exact(&chosen)).is_zero());
    }

    #[test]
    fn sums_of_products_are_exact(
        (left, right) in (floats(), floats()), tiny in 0..20usize, step in 1..5usize, all in any::<bool>()
    ) {
        let rows = left.len().min(right.len());
        let (mut left, right) = (left[..rows].to_vec(), &right[..rows]);
        // Whose products are no floats.
        left.iter_mut().skip(1).take(tiny / 19).for_each(|v| *v = 1e-300);
        let ((words, xs), (_, ys)) = (choose(&left, step, all), choose(right, step, all));
        let words = words.as_deref();
        let [a, b] = [&xs, &ys].map(|of| top(of.iter().fold(0.0f64, |most, v| most.max(v.abs()))));
        let Some(ladder) = a.zip(b).and_then(|(a, b)| Ladder::<4>::of_products(a, b)) else { return Ok(()) };
        let product = |(x, y): (&f64, &f64)| exact(&[*x]).times(&exact(&[*y]));
        let minus = |v: Big| exact(&[]).minus(&v);
        let want = xs.iter().zip(&ys).map(product).fold(exact(&[]), |sum, product| sum.minus(&minus(product)));
        let mut forms: Vec<Products> = vec![floats::products];
        if is_fused() {
            forms.push(product_sums);
        }
        for form in forms {
            let found = form(&left, right, words, ladder);
            prop_assert!(found.rests || exact(&found.sums).minus(&want).is_zero());
        }
    }
}

fn floats() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![-1e6..1e6f64, -1.0..1.0f64, Just(-0.0), (1u64 << 52..1 << 53).prop_map(|v| v as f64)];
    prop::collection::vec(value, 0..300)
}

/// The words of every `step`th value, or of all, and these values.
fn choose(values: &[f64], step: usize, all: bool) -> (Option<Vec<u64>>, Vec<f64>) {
    let words: Vec<u64> = expected(&(0..values.len()).collect::<Vec<_>>(), |i| i % step == 0);
    let chosen = values.iter().enumerate().filter(|(i, _)| all || i % step == 0).map(|(_, v)| *v).collect();
    ((!all).then_some(words), chosen)
}

fn exact(values: &[f64]) -> Big {
    let mut sums = FloatSums::new(0, &Budget::unlimited()).unwrap();
    sums.ensure(1).unwrap();
    values.iter().for_each(|v| sums.add(0, *v).unwrap());
    sums.get(0).exact()
}
