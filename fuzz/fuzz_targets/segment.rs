//! Opens any bytes, past their checksums, and asks everything of what opens. Seeds: `engine/tests/golden`.
#![no_main]

use basalt_engine::segment::{BytesBlock, ColumnKind, Segment, SegmentBytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let checked = Segment::open(SegmentBytes::Memory(bytes.into())).and_then(|segment| segment.verify());
    let Ok(segment) = Segment::open_unchecked(SegmentBytes::Memory(bytes.into())) else {
        assert!(checked.is_err());
        return;
    };
    let _ = segment.verify();
    for column in segment.columns() {
        let reader = segment.column(column.id).unwrap();
        let (mut i64s, mut i128s, mut f64s, mut codes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut strings = BytesBlock::default();
        for block in 0..segment.blocks().min(3) {
            let decoded = match reader.kind() {
                ColumnKind::I64 => reader.decode_i64(block, &mut i64s),
                ColumnKind::I128 => reader.decode_i128(block, &mut i128s),
                ColumnKind::F64 => reader.decode_f64(block, &mut f64s),
                ColumnKind::Bytes => reader.decode_bytes(block, &mut strings),
                ColumnKind::Dictionary => reader.decode_codes(block, &mut codes),
            };
            if decoded.is_ok() && reader.kind() == ColumnKind::Dictionary {
                let values = reader.dictionary().unwrap().len();
                assert!(codes.iter().all(|code| *code <= values));
            }
            let _ = (reader.block(block), reader.is_constant(block), reader.validity(block));
        }
        let _ = reader.value(segment.rows() / 2);
        if let Ok(dictionary) = reader.dictionary() {
            let _ = (dictionary.all(), dictionary.search(b"basalt"), dictionary.get(0, &mut Vec::new()));
            for code in [0, dictionary.len() / 2, dictionary.len()] {
                if let Ok(Some(blocks)) = reader.blocks_of_codes(&[(code, code)]) {
                    assert_eq!(blocks.len(), segment.blocks());
                }
            }
        }
    }
});
