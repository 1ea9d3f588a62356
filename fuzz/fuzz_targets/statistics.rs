//! Decodes any bytes as statistics; what decodes comes back the same.
#![no_main]

use basalt_engine::segment::SegmentStatistics;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = SegmentStatistics::decode(bytes);
    if let Ok(statistics) = SegmentStatistics::decode_unchecked(bytes) {
        let encoded = statistics.encode();
        // As bytes: NaN is not equal to itself.
        assert_eq!(SegmentStatistics::decode(&encoded).unwrap().encode(), encoded);
    }
});
