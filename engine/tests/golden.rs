//! One file of every released version of the format is kept, and must stay readable: by this crate, and by
//! a reader in Python that was written from the specification alone.
//!
//! `BASALT_WRITE_GOLDEN=1 cargo test -p basalt_engine --test golden` writes the files anew. Once a version is
//! released that is an incompatible change.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use basalt_engine::segment::{Segment, SegmentBytes};
use serde_json::{Value as Json, json};
use support::{Sample, blocks, column, everything, line, values};

fn samples() -> [(&'static str, Sample); 3] {
    [("v1-small", everything(40)), ("v1", everything(1300)), ("v1-blocks", blocks(70_000))]
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn reader() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py")
}

fn writing() -> bool {
    std::env::var_os("BASALT_WRITE_GOLDEN").is_some()
}

/// What a reader finds in a segment, short enough to be kept beside it.
fn summary(bytes: &[u8]) -> Json {
    let segment = Segment::open(SegmentBytes::Memory(bytes.into())).unwrap();
    segment.verify().unwrap();
    let statistics = segment.statistics();
    let columns: Vec<Json> = (0..segment.columns().len())
        .map(|position| {
            let reader = column(&segment, position);
            let values = values(reader, segment.blocks()).unwrap();
            let lines: Vec<String> = values.iter().map(line).collect();
            let kept = &statistics.columns[position];
            json!({
                "id": kept.id.0,
                "kind": reader.kind() as u8 + 1,
                "nulls": kept.nulls,
                "distinct": kept.distinct,
                "min": line(&kept.min),
                "max": line(&kept.max),
                "first": lines[..lines.len().min(8)],
                "crc": crc32c::crc32c(lines.join("\n").as_bytes()),
            })
        })
        .collect();
    let time = statistics.time.map(|(min, max)| [min, max]);
    json!({"rows": segment.rows(), "time": time, "columns": columns})
}

#[test]
fn the_writer_gives_the_golden_bytes() {
    for (name, sample) in samples() {
        let bytes = sample.build();
        let (file, expected) = (path(&format!("{name}.segment")), path(&format!("{name}.json")));
        if writing() {
            std::fs::write(&file, &bytes).unwrap();
            std::fs::write(expected, format!("{:#}\n", summary(&bytes))).unwrap();
        }
        assert!(bytes == std::fs::read(&file).unwrap(), "{name}: other bytes than in version 1");
    }
}

fn expected(name: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path(&format!("{name}.json"))).unwrap()).unwrap()
}

#[test]
fn the_reader_understands_the_golden_files() {
    if writing() {
        return;
    }
    for (name, _) in samples() {
        assert_eq!(summary(&std::fs::read(path(&format!("{name}.segment"))).unwrap()), expected(name));
    }
}

#[test]
fn an_independent_reader_understands_the_golden_files() {
    if writing() {
        return;
    }
    for (name, _) in samples() {
        let output = Command::new("python3").arg(reader()).arg(path(&format!("{name}.segment"))).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found, expected(name), "{name}");
    }
}

#[test]
fn the_golden_files_use_the_whole_format() {
    if writing() {
        return;
    }
    let mut used: std::collections::BTreeMap<String, BTreeSet<u64>> = Default::default();
    for (name, _) in samples() {
        let file = path(&format!("{name}.segment"));
        let output = Command::new("python3").arg(reader()).arg(file).arg("used").output().unwrap();
        let found: Json = serde_json::from_slice(&output.stdout).unwrap();
        for (what, numbers) in found.as_object().unwrap() {
            let number = |n: &Json| n.as_u64().or_else(|| n.as_bool().map(u64::from)).unwrap();
            let numbers = numbers.as_array().unwrap().iter().map(number);
            used.entry(what.clone()).or_default().extend(numbers);
        }
    }
    assert!(used["encodings"].iter().eq(&(0..=12).collect::<Vec<_>>()), "{used:?}");
    assert!(used["validities"].iter().eq(&[0, 1, 2, 3]), "{used:?}");
    assert!(used["indexes"].iter().eq(&[0, 1, 2]), "{used:?}");
    assert!(used["symbols"].iter().eq(&[0, 1]), "{used:?}");
    assert!(used["widths"].iter().any(|w| *w > 32), "{used:?}");
}

#[test]
fn the_independent_reader_notices_damage() {
    if writing() {
        return;
    }
    let mut bytes = std::fs::read(path("v1.segment")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    let damaged = std::env::temp_dir().join(format!("basalt-damaged-{}.segment", std::process::id()));
    std::fs::write(&damaged, bytes).unwrap();
    let output = Command::new("python3").arg(reader()).arg(&damaged).output().unwrap();
    std::fs::remove_file(&damaged).unwrap();
    assert!(!output.status.success());
}
