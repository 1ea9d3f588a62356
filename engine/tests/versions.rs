//! Files of the future: what may be ignored is, what may not is refused by name.

mod support;

use basalt_engine::segment::{Segment, SegmentBytes};
use basalt_engine::{Error, Result};
use support::{column, everything, values};

const TRAILER: usize = 32;

fn footer_of(bytes: &[u8]) -> std::ops::Range<usize> {
    let trailer = &bytes[bytes.len() - TRAILER..];
    let offset = u64::from_le_bytes(trailer[..8].try_into().unwrap()) as usize;
    offset..offset + u32::from_le_bytes(trailer[8..12].try_into().unwrap()) as usize
}

/// Replaces the footer and makes all checksums right.
fn seal(bytes: &[u8], header: impl FnOnce(&mut [u8]), footer: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let range = footer_of(bytes);
    let mut out = bytes[..range.start].to_vec();
    header(&mut out[..20]);
    let crc = crc32c::crc32c(&out[..20]);
    out[20..24].copy_from_slice(&crc.to_le_bytes());
    let mut changed = bytes[range.clone()].to_vec();
    footer(&mut changed);
    let mut trailer = (range.start as u64).to_le_bytes().to_vec();
    trailer.extend((changed.len() as u32).to_le_bytes());
    trailer.extend(crc32c::crc32c(&changed).to_le_bytes());
    trailer.extend(((range.start + changed.len() + TRAILER) as u64).to_le_bytes());
    trailer.extend(crc32c::crc32c(&trailer).to_le_bytes());
    trailer.extend(b"BSLT");
    out.extend(changed);
    out.extend(trailer);
    out
}

fn open(bytes: Vec<u8>) -> Result<Segment> {
    Segment::open(SegmentBytes::Memory(bytes.into()))
}

#[track_caller]
fn unsupported(bytes: Vec<u8>, what: &str) {
    match open(bytes) {
        Err(Error::Unsupported { what: found }) => assert!(found.contains(what), "{found}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

/// The last byte of a footer without extra sections is their count.
fn with_section(bytes: &[u8], flags: u8) -> Vec<u8> {
    seal(
        bytes,
        |_| {},
        |footer| {
            assert_eq!(footer.pop(), Some(0));
            // One section: kind 77, flags, of the segment, 4 bytes at 24, a checksum.
            footer.extend([1, 77, flags, 0, 24, 4, 1, 2, 3, 4]);
        },
    )
}

#[test]
fn a_newer_minor_version_opens() {
    let bytes = everything(100).build();
    let newer = seal(&bytes, |header| header[10] = 9, |_| {});
    let [old, new] = [bytes, newer].map(|bytes| open(bytes).unwrap());
    new.verify().unwrap();
    let texts = |segment: &Segment, position| {
        let values = values(column(segment, position), segment.blocks()).unwrap();
        values.iter().map(support::line).collect::<Vec<_>>()
    };
    for position in 0..old.columns().len() {
        assert_eq!(texts(&old, position), texts(&new, position));
    }
}

#[test]
fn another_major_version_or_feature_does_not() {
    let bytes = everything(100).build();
    unsupported(seal(&bytes, |header| header[8] = 2, |_| {}), "major version 2");
    unsupported(seal(&bytes, |header| header[13] = 1, |_| {}), "feature bits 0x100");
}

#[test]
fn sections_are_skipped_unless_they_are_required() {
    let bytes = everything(100).build();
    open(with_section(&bytes, 0)).unwrap().verify().unwrap();
    unsupported(with_section(&bytes, 1), "section 77");
}

#[test]
fn unknown_types_kinds_and_block_sizes_are_refused() {
    let bytes = everything(100).build();
    // Rows (1 byte), block size, count of columns; then id, type, precision, scale, flags, kind.
    unsupported(seal(&bytes, |_| {}, |footer| footer[1] = 12), "blocks of 2^12 rows");
    unsupported(seal(&bytes, |_| {}, |footer| footer[4] = 99), "type 99");
    unsupported(seal(&bytes, |_| {}, |footer| footer[7] = 4), "column flags 0x4");
    unsupported(seal(&bytes, |_| {}, |footer| footer[8] = 6), "column kind 6");
    assert!(matches!(open(seal(&bytes, |_| {}, |footer| footer[8] = 3)), Err(Error::Corrupt { .. })));
}
