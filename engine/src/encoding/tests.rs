//! One suite that every encoding passes: values come back, all at once and one by one; what is cut off or made
//! up is an error or other values, never a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::cursor::Cursor;
use super::{bitpack, bytes, float, int, tag, validity, wide};
use crate::Result;
use crate::segment::BytesBlock;

/// One encoding under test.
pub(super) trait Subject {
    type Value: Clone + std::fmt::Debug;
    /// The encodings of `values`, with their numbers; none where an encoding cannot hold them.
    fn encode(values: &[Self::Value]) -> Vec<(u8, Vec<u8>)>;
    fn decode(tag: u8, input: &mut Cursor, rows: usize) -> Result<Vec<Self::Value>>;
    fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<Self::Value>;
    fn same(a: &Self::Value, b: &Self::Value) -> bool;
    fn values() -> BoxedStrategy<Vec<Self::Value>>;
}

fn round_trip<S: Subject>(values: &[S::Value]) -> std::result::Result<(), TestCaseError> {
    for (tag, bytes) in S::encode(values) {
        let mut input = Cursor::new(&bytes);
        let decoded = S::decode(tag, &mut input, values.len()).unwrap();
        prop_assert!(input.end("all").is_ok());
        prop_assert_eq!(decoded.len(), values.len());
        for (i, (a, b)) in decoded.iter().zip(values).enumerate() {
            prop_assert!(S::same(a, b), "encoding {tag}, row {i}: {a:?}, not {b:?}");
        }
        let step = values.len() / 40 + 1;
        for i in (0..values.len()).step_by(step).chain([values.len() - 1]) {
            let one = S::get(tag, &mut Cursor::new(&bytes), values.len(), i).unwrap();
            prop_assert!(S::same(&one, &values[i]), "encoding {tag}, row {i}: {one:?}");
        }
        prop_assert!(S::get(tag, &mut Cursor::new(&bytes), values.len(), values.len()).is_err());
        for cut in (0..bytes.len()).step_by(bytes.len() / 20 + 1) {
            let mut input = Cursor::new(&bytes[..cut]);
            // Encodings that go to the end of their input give other values, the rest an error.
            let cut_off = S::decode(tag, &mut input, values.len());
            let to_the_end = matches!(tag, tag::CONSTANT | tag::PLAIN | tag::LZ4);
            prop_assert!(cut_off.is_err() || to_the_end, "encoding {tag} of {cut} bytes");
        }
    }
    Ok(())
}

fn anything<S: Subject>(tag: u8, bytes: &[u8], rows: usize) {
    let _ = S::decode(tag, &mut Cursor::new(bytes), rows);
    let _ = S::get(tag, &mut Cursor::new(bytes), rows, rows / 2);
}

/// Lengths around the sizes of words, groups and blocks.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..200, select(vec![1usize, 31, 32, 33, 1023, 1024, 1025, 2048, 5000])]
}

/// Sequences in which constants, runs, slopes, noise of any width, outliers and few scattered values occur.
fn integers() -> impl Strategy<Value = Vec<i64>> {
    (lengths(), any::<i64>(), 0u32..64, select(vec![1i64, 7, 1000, 60_000_000]), 0u8..8, any::<u64>()).prop_map(
        |(length, base, bits, scale, shape, seed)| {
            let mut state = seed | 1;
            let mut value = base;
            let mut next = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            (0..length)
                .map(|i| match shape {
                    0 => base,
                    1 => (i as i64 / 13).wrapping_mul(base),
                    2 => {
                        value = value.wrapping_add((next() % 5) as i64 * scale);
                        value
                    }
                    3 => base.wrapping_add(((next() >> 1 >> bits) as i64).wrapping_mul(scale)),
                    4 => match next() % 50 {
                        0 => next() as i64,
                        _ => base.wrapping_add((next() % 100) as i64 * scale),
                    },
                    5 => {
                        let jump = next().is_multiple_of(80);
                        let step = if jump { next() as i64 >> 20 } else { (next() % 90) as i64 * scale };
                        value = value.wrapping_add(step);
                        value
                    }
                    6 => (base % 1000).wrapping_add((next() % 12).pow(3) as i64 * scale),
                    _ => [i64::MIN, i64::MAX, 0, next() as i64][next() as usize % 4],
                })
                .collect()
        },
    )
}

pub(super) struct Integers;

impl Subject for Integers {
    type Value = i64;
    fn encode(values: &[i64]) -> Vec<(u8, Vec<u8>)> {
        int::encode_all(values)
    }
    fn decode(tag: u8, input: &mut Cursor, rows: usize) -> Result<Vec<i64>> {
        let mut out = vec![3; 9];
        int::decode(tag, input, rows, &mut out)?;
        Ok(out)
    }
    fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<i64> {
        int::get(tag, input, rows, index)
    }
    fn same(a: &i64, b: &i64) -> bool {
        a == b
    }
    fn values() -> BoxedStrategy<Vec<i64>> {
        integers().boxed()
    }
}

/// Codes: the same bytes, decoded to 32 bits.
pub(super) struct Codes;

impl Subject for Codes {
    type Value = u32;
    fn encode(values: &[u32]) -> Vec<(u8, Vec<u8>)> {
        int::encode_all(&values.iter().map(|v| i64::from(*v)).collect::<Vec<_>>())
    }
    fn decode(tag: u8, input: &mut Cursor, rows: usize) -> Result<Vec<u32>> {
        let mut out = vec![3; 9000];
        int::decode(tag, input, rows, &mut out)?;
        Ok(out)
    }
    fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<u32> {
        Ok(int::get(tag, input, rows, index)? as u32)
    }
    fn same(a: &u32, b: &u32) -> bool {
        a == b
    }
    fn values() -> BoxedStrategy<Vec<u32>> {
        integers().prop_map(|values| values.into_iter().map(|v| v as u32).collect()).boxed()
    }
}

pub(super) struct Wide;

impl Subject for Wide {
    type Value = i128;
    fn encode(values: &[i128]) -> Vec<(u8, Vec<u8>)> {
        let (min, max) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
        let mut forced = Vec::new();
        wide::encode_wide(values, min, max, &mut forced);
        let mut chosen = Vec::new();
        let tag = wide::encode(values, &mut chosen);
        vec![(tag::WIDE, forced), (tag, chosen)]
    }
    fn decode(tag: u8, input: &mut Cursor, rows: usize) -> Result<Vec<i128>> {
        let mut out = vec![3; 9];
        wide::decode(tag, input, rows, &mut out)?;
        Ok(out)
    }
    fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<i128> {
        wide::get(tag, input, rows, index)
    }
    fn same(a: &i128, b: &i128) -> bool {
        a == b
    }
    fn values() -> BoxedStrategy<Vec<i128>> {
        let extremes = select(vec![i128::MIN, i128::MAX, 0, -1, 1 << 64, i128::from(i64::MIN)]);
        prop_oneof![
            (integers(), 0u32..64).prop_map(|(v, shift)| v.into_iter().map(|v| i128::from(v) << shift).collect()),
            vec(prop_oneof![any::<i128>(), extremes], 1..1100),
        ]
        .boxed()
    }
}

pub(super) struct Floats;

impl Subject for Floats {
    type Value = f64;
    fn encode(values: &[f64]) -> Vec<(u8, Vec<u8>)> {
        let mut all = vec![(tag::PLAIN, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())];
        all.push((tag::LZ4, lz4_flex::block::compress(&all[0].1)));
        if values.iter().all(|v| f64::from(*v as f32).to_bits() == v.to_bits()) {
            all.push((tag::SINGLE, values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()));
        }
        let mut decimal = Vec::new();
        if float::encode_decimal(values, &mut decimal).is_some() {
            all.push((tag::DECIMAL, decimal));
        }
        let mut chosen = Vec::new();
        all.push((float::encode(values, &mut chosen), chosen));
        all
    }
    fn decode(tag: u8, input: &mut Cursor, rows: usize) -> Result<Vec<f64>> {
        let mut out = vec![3.0; 9];
        float::decode(tag, input, rows, &mut out)?;
        Ok(out)
    }
    fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<f64> {
        float::get(tag, input, rows, index)
    }
    fn same(a: &f64, b: &f64) -> bool {
        a.to_bits() == b.to_bits()
    }
    fn values() -> BoxedStrategy<Vec<f64>> {
        let odd =
            select(vec![f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE / 2.0]);
        let decimals = || {
            (integers(), 0i32..6).prop_map(|(values, exponent)| {
                values.into_iter().map(|v| (v % 1_000_000_007) as f64 / 10f64.powi(exponent)).collect::<Vec<_>>()
            })
        };
        prop_oneof![
            decimals(),
            (decimals(), any::<f64>(), 0usize..300).prop_map(|(mut values, other, at)| {
                let length = values.len();
                values[at % length] = other;
                values
            }),
            vec(prop_oneof![any::<f64>(), odd], 1..1100),
            vec(any::<f32>().prop_map(f64::from), 1..1100),
            vec(any::<f64>(), 1..1100),
        ]
        .boxed()
    }
}

pub(super) struct Strings;

impl Strings {
    fn block(values: &[Vec<u8>]) -> BytesBlock {
        let mut block = BytesBlock::default();
        for value in values {
            block.data.extend_from_slice(value);
            block.ends.push(block.data.len() as u32);
        }
        block
    }
}

impl Subject for Strings {
    type Value = Vec<u8>;
    fn encode(values: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
        let block = Self::block(values);
        let lengths: Vec<i64> = values.iter().map(|v| v.len() as i64).collect();
        let mut plain = Vec::new();
        int::encode_tagged(&lengths, &mut plain);
        let mut compressed = plain.clone();
        plain.extend_from_slice(&block.data);
        compressed.extend(lz4_flex::block::compress(&block.data));
        let mut chosen = Vec::new();
        let tag = bytes::encode(&block, &mut chosen);
        vec![(tag::PLAIN, plain), (tag::LZ4, compressed), (tag, chosen)]
    }
    fn decode(tag: u8, input: &mut Cursor, rows: usize) -> Result<Vec<Vec<u8>>> {
        let mut out = BytesBlock { ends: vec![1], data: vec![0] };
        bytes::decode(tag, input, rows, &mut out)?;
        Ok((0..out.len()).map(|i| out.get(i).to_vec()).collect())
    }
    fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<Vec<u8>> {
        bytes::get(tag, input, rows, index)
    }
    fn same(a: &Vec<u8>, b: &Vec<u8>) -> bool {
        a == b
    }
    fn values() -> BoxedStrategy<Vec<Vec<u8>>> {
        let repeated = (vec(any::<u8>(), 0..80), lengths()).prop_map(|(value, length)| vec![value; length]);
        let sentences = (lengths(), any::<u8>())
            .prop_map(|(length, k)| (0..length).map(|i| format!("the {i}th of {k} events").into_bytes()).collect());
        prop_oneof![repeated, sentences, vec(vec(any::<u8>(), 0..40), 1..300)].boxed()
    }
}

macro_rules! conformance {
    ($($name:ident: $subject:ty;)*) => {$(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(128))]

                #[test]
                fn values_come_back(values in <$subject>::values()) {
                    round_trip::<$subject>(&values)?;
                }

                #[test]
                fn made_up_bytes_do_no_harm(tag in 0u8..12, bytes in vec(any::<u8>(), 0..300), rows in 1usize..3000) {
                    anything::<$subject>(tag, &bytes, rows);
                }

                #[test]
                fn changed_bytes_do_no_harm(values in <$subject>::values(), at: usize, flip: u8) {
                    for (tag, mut bytes) in <$subject>::encode(&values) {
                        let length = bytes.len();
                        if let Some(byte) = bytes.get_mut(at % length.max(1)) {
                            *byte ^= flip;
                        }
                        anything::<$subject>(tag, &bytes, values.len());
                        anything::<$subject>(tag, &bytes, values.len() + 1);
                    }
                }
            }
        }
    )*};
}

conformance! {
    integers_of_64_bits: Integers;
    codes: Codes;
    integers_of_128_bits: Wide;
    floats: Floats;
    strings: Strings;
}

struct Collect(Vec<u64>);

impl bitpack::Sink for Collect {
    fn narrow(&mut self, values: &[u32]) {
        self.0.extend(values.iter().map(|v| u64::from(*v)));
    }
    fn long(&mut self, values: &[u64]) {
        self.0.extend_from_slice(values);
    }
}

#[test]
fn every_width_packs_and_unpacks() {
    for width in 0..=64u8 {
        for count in [0usize, 1, 63, 64, 1023, 1024, 1025, 3 * 1024 + 17] {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let values: Vec<u64> =
                (0..count as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) & mask).collect();
            let mut bytes = Vec::new();
            bitpack::pack(&values, width, &mut bytes);
            assert_eq!(Some(bytes.len()), bitpack::packed_len(count, width));
            let mut all = Collect(Vec::new());
            bitpack::unpack_with(&bytes, count, width, &mut all).unwrap();
            assert_eq!(all.0, values);
            for index in (0..count).step_by(7) {
                assert_eq!(bitpack::unpack_one(&bytes, count, width, index).unwrap(), values[index]);
            }
            assert!(bitpack::unpack_one(&bytes, count, width, count).is_err());
            assert!(bitpack::unpack_with(&bytes, count + 1024, width, &mut all).is_err() || width == 0);
        }
    }
    assert_eq!(bitpack::packed_len(1, 65), None);
}

proptest! {
    #[test]
    fn validity_comes_back(valid in vec(prop_oneof![9 => Just(true), 1 => Just(false)], 1..700), most: bool) {
        let valid: Vec<bool> = valid.into_iter().map(|v| v == most).collect();
        let nulls: Vec<u16> = (0..valid.len() as u16).filter(|i| !valid[usize::from(*i)]).collect();
        let mut bytes = Vec::new();
        let tag = validity::encode(&nulls, valid.len(), &mut bytes);
        prop_assert_eq!(validity::length(tag, valid.len(), nulls.len()).unwrap(), bytes.len());
        let words = validity::decode(tag, &bytes, valid.len(), nulls.len()).unwrap();
        prop_assert_eq!(words.is_none(), nulls.is_empty());
        for (i, valid) in valid.iter().enumerate() {
            prop_assert_eq!(words.as_ref().is_none_or(|w| w[i / 64] >> (i % 64) & 1 == 1), *valid);
        }
    }

    #[test]
    fn numbers_come_back(small: u64, wide: u128, negative: i64, wide_negative: i128) {
        use super::cursor::{put_varint, put_varint128, put_zigzag, put_zigzag128};
        let mut out = Vec::new();
        put_varint(&mut out, small);
        put_varint128(&mut out, wide);
        put_zigzag(&mut out, negative);
        put_zigzag128(&mut out, wide_negative);
        let mut input = Cursor::new(&out);
        prop_assert_eq!(input.varint().unwrap(), small);
        prop_assert_eq!(input.varint128().unwrap(), wide);
        prop_assert_eq!(input.zigzag().unwrap(), negative);
        prop_assert_eq!(input.zigzag128().unwrap(), wide_negative);
        prop_assert!(input.end("all").is_ok());
    }
}

#[test]
fn numbers_that_overflow_are_refused() {
    for bytes in
        [&[0xff; 10][..], &[0x80; 30], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &[0x80], &[]]
    {
        assert!(Cursor::new(bytes).varint().is_err());
    }
    assert!(Cursor::new(&[0xff; 19]).varint128().is_err());
    let mut most = [0xff; 19];
    most[18] = 3;
    assert_eq!(Cursor::new(&most).varint128().unwrap(), u128::MAX);
}

#[test]
fn multiples_are_told_without_dividing() {
    use super::int::Multiples;
    for number in [1u64, 2, 3, 5, 6, 100, 1 << 40, 60_000_000, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1] {
        let multiples = Multiples::of(number);
        let near = (0..200u64).flat_map(|i| [i, u64::MAX - i, number.wrapping_mul(i), number.wrapping_mul(i) ^ 1]);
        for value in near.chain([1_000_000_007, 123_456_789_012_345_678]) {
            assert_eq!(multiples.contain(value), value % number == 0, "{value} of {number}");
            if value % number == 0 {
                assert_eq!(multiples.quotient(value), value / number, "{value} of {number}");
            }
        }
    }
}
