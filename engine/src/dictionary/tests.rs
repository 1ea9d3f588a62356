//! Dictionaries of any sizes, against a sorted list.

use proptest::collection::btree_set;
use proptest::prelude::*;

use super::{Dictionary, DictionaryMeta, DictionaryWriter, Interner};
use crate::Cancel;
use crate::encoding::cursor::Cursor;
use crate::segment::PartWriter;

/// Writes `values` and hands the dictionary to `test`.
fn with(values: &[Vec<u8>], test: impl FnOnce(Dictionary)) {
    let (mut range, mut directory) = (Vec::new(), Vec::new());
    let mut out = PartWriter::new(&mut range);
    let mut writer = DictionaryWriter::default();
    values.iter().for_each(|value| writer.push(value, &mut out).unwrap());
    assert_eq!(writer.finish(&mut out, &mut directory).unwrap() as usize, values.len());
    let mut input = Cursor::new(&directory);
    let mut at = 0;
    let meta = DictionaryMeta::read(&mut input, &mut at).unwrap();
    assert!(input.end("the directory").is_ok() && at == range.len() as u64);
    test(Dictionary { range: &range, meta: &meta, unchecked: false });
}

fn agrees(values: &[Vec<u8>], probes: &[Vec<u8>]) {
    with(values, |dictionary| {
        assert_eq!(dictionary.len() as usize, values.len());
        let all = dictionary.all().unwrap();
        let mut iter = dictionary.iter();
        for (code, value) in values.iter().enumerate() {
            assert_eq!(all.get(code), value);
            assert!(iter.advance().unwrap());
            assert_eq!(iter.value(), value);
            // Appended to what is there.
            let mut one = b"before ".to_vec();
            dictionary.get(code as u32, &mut one).unwrap();
            assert_eq!(one.strip_prefix(b"before "), Some(value.as_slice()));
        }
        assert!(!iter.advance().unwrap());
        assert!(dictionary.get(values.len() as u32, &mut Vec::new()).is_err());
        for probe in values.iter().chain(probes) {
            let expected = values.binary_search(probe).map(|i| i as u32).map_err(|i| i as u32);
            assert_eq!(dictionary.search(probe).unwrap(), expected);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_are_found(
        values in btree_set(proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..12), 0..200),
        probes in btree_set(proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..12), 0..50),
    ) {
        agrees(&values.into_iter().collect::<Vec<_>>(), &probes.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn groups_and_chunks_end_where_they_should() {
    for count in [0, 1, 15, 16, 17, 1023, 1024, 1025, 5000] {
        let values: Vec<Vec<u8>> = (0..count).map(|i| format!("value {:06}", i * 2).into_bytes()).collect();
        let probes: Vec<Vec<u8>> = (0..count).map(|i| format!("value {:06}", i * 2 + 1).into_bytes()).collect();
        agrees(&values, &probes);
    }
}

#[test]
fn long_values_and_long_prefixes() {
    let values: Vec<Vec<u8>> = (0..40u8).map(|i| [vec![b'x'; 3000], vec![i]].concat()).collect();
    agrees(&values, &[vec![b'x'; 3000], vec![b'x'; 4000], vec![], vec![b'y']]);
}

#[test]
fn interned_values_are_sorted_by_bytes() {
    let mut interner = Interner::default();
    let words: [&[u8]; 8] = [b"basalt", b"", b"basalt2", b"\0", b"\0\0", b"basaltic rock", b"basaltic", b"\xff"];
    for round in 0..2 {
        for (i, word) in words.iter().enumerate() {
            assert_eq!(interner.intern(word) as usize, i, "round {round}");
        }
    }
    let sorted: Vec<&[u8]> = interner.sorted(&Cancel::new()).unwrap().into_iter().map(|id| interner.get(id)).collect();
    let mut expected = words;
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}

proptest! {
    #[test]
    fn any_values_are_sorted_by_bytes(
        values in btree_set(proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 0..40), 0..300),
        prefix in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut interner = Interner::default();
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for value in values.iter().rev().cloned().chain(values.iter().map(|v| [prefix.clone(), v.clone()].concat())) {
            interner.intern(&value);
            expected.push(value);
        }
        expected.sort_unstable();
        expected.dedup();
        let sorted: Vec<Vec<u8>> = interner.sorted(&Cancel::new()).unwrap().into_iter().map(|id| interner.get(id).to_vec()).collect();
        prop_assert_eq!(sorted, expected);
    }
}

/// Sentences of few words, so many that there are several sections, and bytes that are in no symbol.
#[test]
fn values_are_compressed_by_sections() {
    let words = ["carefully", "quickly", "ironic", "deposits", "above", "the", "packages", "sleep"];
    let mut values: Vec<Vec<u8>> = (0..150_000u32)
        .map(|i| {
            let n = i.wrapping_mul(2_654_435_761);
            let mut value = Vec::new();
            for shift in [0, 5, 11, 17, 23] {
                value.extend_from_slice(words[(n >> shift) as usize % 8].as_bytes());
                value.push(b' ');
            }
            value.extend(i.to_string().bytes());
            value.extend((i % 500 == 0).then_some([0, (i >> 8) as u8, 255]).into_iter().flatten());
            value
        })
        .collect();
    values.sort_unstable();
    let raw: usize = values.iter().map(Vec::len).sum();
    with(&values, |dictionary| {
        assert!(dictionary.meta.sections.len() >= 2);
        assert!(dictionary.meta.bytes() * 3 < raw as u64);
        let mut block = crate::segment::BytesBlock::default();
        for (start, end) in [(0, 150_000), (5, 6), (1023, 1026), (65_530, 70_001), (149_999, 150_000), (7, 7)] {
            dictionary.range(start..end, &mut block).unwrap();
            assert!((start..end).enumerate().all(|(i, code)| block.get(i) == values[code as usize]));
            assert_eq!(block.len() as u32, end - start);
        }
    });
    agrees(&values, &[b"carefully carefully".to_vec(), b"the ".to_vec(), vec![255]]);
}

#[test]
fn damaged_symbols_are_noticed() {
    use super::symbols::SymbolTable;
    for bytes in [&b""[..], &[1], &[1, 0], &[1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[0, 0], &[2, 1, 65]] {
        assert!(SymbolTable::read(bytes).is_err(), "{bytes:?}");
    }
    assert!(SymbolTable::read(&[0]).unwrap().is_none());
    let table = SymbolTable::read(&[2, 1, b'a', 8, b'b', b'c', b'd', b'e', b'f', b'g', b'h', b'i']).unwrap().unwrap();
    let decode = |codes: &[u8]| {
        let mut out = b">".to_vec();
        table.decode(codes, &mut out).map(|()| out)
    };
    assert_eq!(decode(&[1, 0, 255, 7, 0, 255, 255]).unwrap(), b">bcdefghia\x07a\xff");
    for codes in [&[2][..], &[255], &[0, 254, 0], &[0, 255]] {
        assert!(decode(codes).is_err(), "{codes:?}");
    }
}
