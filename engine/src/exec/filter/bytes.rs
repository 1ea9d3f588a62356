//! Tests of byte strings that stand in no dictionary.

use crate::Result;
use crate::exec::bits::Bits;
use crate::exec::like::{Like, value};
use crate::plan::{Bound, Test};
use crate::segment::BytesBlock;
use crate::types::{Physical, Value};

use crate::exec::columns::physical_value;

pub(in crate::exec) enum BytesTest {
    Range {
        low: Bound,
        high: Bound,
    },
    /// Ascending.
    In {
        values: Vec<Vec<u8>>,
        negated: bool,
    },
    Like {
        like: Box<Like>,
        negated: bool,
    },
}

fn bytes_of(value: &Value) -> Result<&[u8]> {
    physical_value(value, Physical::Bytes)?;
    Ok(as_bytes(value))
}

fn as_bytes(value: &Value) -> &[u8] {
    if let Value::Bytes(bytes) = value { bytes } else { &[] }
}

impl BytesTest {
    /// `None`: `test` is no test of bytes.
    pub fn new(test: &Test) -> Result<Option<BytesTest>> {
        Ok(Some(match test {
            Test::Range { low, high } => {
                for bound in [low, high] {
                    if let Bound::Included(v) | Bound::Excluded(v) = bound {
                        bytes_of(v)?;
                    }
                }
                BytesTest::Range { low: low.clone(), high: high.clone() }
            }
            Test::In(list) | Test::NotIn(list) => {
                let mut values = list.iter().map(|v| bytes_of(v).map(<[u8]>::to_vec)).collect::<Result<Vec<_>>>()?;
                values.sort_unstable();
                values.dedup();
                BytesTest::In { values, negated: matches!(test, Test::NotIn(_)) }
            }
            Test::Like { pattern, negated } => {
                BytesTest::Like { like: Box::new(Like::new(pattern)?), negated: *negated }
            }
            _ => return Ok(None),
        }))
    }

    pub fn cost(&self) -> u32 {
        match self {
            BytesTest::Range { .. } => 30,
            BytesTest::In { values, .. } => 30 + 4 * values.len().max(1).ilog2(),
            BytesTest::Like { .. } => 60,
        }
    }

    pub fn matches(&self, v: &[u8]) -> bool {
        match self {
            BytesTest::Range { low, high } => {
                let above = match low {
                    Bound::Unbounded => true,
                    Bound::Included(b) => v >= as_bytes(b),
                    Bound::Excluded(b) => v > as_bytes(b),
                };
                above
                    && match high {
                        Bound::Unbounded => true,
                        Bound::Included(b) => v <= as_bytes(b),
                        Bound::Excluded(b) => v < as_bytes(b),
                    }
            }
            BytesTest::In { values, negated } => values.binary_search_by(|x| x.as_slice().cmp(v)).is_ok() != *negated,
            BytesTest::Like { like, negated } => like.matches(v) != *negated,
        }
    }

    /// Whether a block with these extremes (both known) holds no matching value.
    pub fn excluded(&self, min: &[u8], max: &[u8]) -> bool {
        match self {
            BytesTest::Range { low, high } => {
                let below = match low {
                    Bound::Unbounded => false,
                    Bound::Included(b) => max < as_bytes(b),
                    Bound::Excluded(b) => max <= as_bytes(b),
                };
                below
                    || match high {
                        Bound::Unbounded => false,
                        Bound::Included(b) => min > as_bytes(b),
                        Bound::Excluded(b) => min >= as_bytes(b),
                    }
            }
            BytesTest::In { values, negated: false } => {
                let first = values.partition_point(|v| v.as_slice() < min);
                values.get(first).is_none_or(|v| v.as_slice() > max)
            }
            BytesTest::Like { like, negated: false } => {
                let prefix = like.prefix();
                // No value of the block can begin with the prefix.
                !prefix.is_empty() && (max < prefix || (min > prefix && !min.starts_with(prefix)))
            }
            _ => false,
        }
    }

    /// All rows of a block, NULLs aside.
    pub fn select(&self, values: &BytesBlock, out: &mut Bits) {
        match self {
            BytesTest::Like { like, negated } => {
                like.matches_block(values, |i| out.set(i));
                if *negated {
                    out.invert();
                }
            }
            _ => {
                for i in 0..values.ends.len() {
                    if self.matches(value(values, i)) {
                        out.set(i);
                    }
                }
            }
        }
    }
}
