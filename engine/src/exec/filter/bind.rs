//! From a plan's filter to the columns and dictionaries of one segment.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::bytes::BytesTest;
use super::ranges::{Ranges, code_share, complement, normalize, order_f64, order_i64, order_i128, ranges_of};
use super::{Check, Leaf, Node};
use crate::exec::Pulse;
use crate::exec::bits::{Bits, Selection};
use crate::exec::columns::{Kind, SegmentColumn, SegmentView};
use crate::exec::like::Like;
use crate::plan::{ColumnRef, Filter, Test};
use crate::types::{Physical, Value};
use crate::{Error, Reservation, Result};

/// Rejects plans that name columns or operands that do not exist or do not fit.
pub(in crate::exec) fn check(filter: &Filter, columns: &[ColumnRef]) -> Result<()> {
    match filter {
        Filter::Const(_) => Ok(()),
        Filter::And(nodes) | Filter::Or(nodes) => nodes.iter().try_for_each(|n| check(n, columns)),
        Filter::Test(predicate) => {
            let column =
                columns.get(predicate.column).ok_or_else(|| Error::invalid("a filter names no column of the plan"))?;
            let physical = column.ty.physical();
            let bytes_only = match &predicate.test {
                Test::IsNull | Test::IsNotNull => false,
                Test::Like { pattern, .. } => Like::new(pattern).map(|_| true)?,
                Test::Host(_) | Test::HostOfNull(_) => false,
                test => {
                    match physical {
                        Physical::I64 => ranges_of(test, order_i64).map(|_| ())?,
                        Physical::I128 => ranges_of(test, order_i128).map(|_| ())?,
                        Physical::F64 => ranges_of(test, order_f64).map(|_| ())?,
                        Physical::Bytes => BytesTest::new(test).map(|_| ())?,
                    }
                    false
                }
            };
            if bytes_only && physical != Physical::Bytes {
                return Err(Error::invalid("a test of byte strings on another type"));
            }
            Ok(())
        }
    }
}

/// Binds `filter` to the segment; `memory` grows by what the bound form holds. Errors: `Invalid`, `Corrupt`, `Budget`, and what `pulse` says.
pub(in crate::exec) fn bind(
    filter: &Filter,
    view: &SegmentView<'_>,
    memory: &mut Reservation,
    pulse: &mut dyn Pulse,
) -> Result<Node> {
    Ok(match filter {
        Filter::Const(all) => Node::Const(*all),
        Filter::And(nodes) => {
            Node::and(nodes.iter().map(|n| bind(n, view, memory, pulse)).collect::<Result<Vec<_>>>()?)
        }
        Filter::Or(nodes) => Node::or(nodes.iter().map(|n| bind(n, view, memory, pulse)).collect::<Result<Vec<_>>>()?),
        Filter::Test(predicate) => bind_test(predicate.column, &predicate.test, view, memory, pulse)?,
    })
}

fn bind_test(
    position: usize,
    test: &Test,
    view: &SegmentView<'_>,
    memory: &mut Reservation,
    pulse: &mut dyn Pulse,
) -> Result<Node> {
    let column = &view.columns[position];
    if let Some(value) = column.constant()
        && let Some(known) = constant_test(column, value, test)?
    {
        return Ok(Node::Const(known));
    }
    let leaf = |check: Check, selectivity: f32| of_column(position, column, check, selectivity);
    let host = |predicate, of_null| {
        Node::Leaf(Leaf { column: position, check: Check::Host(predicate, of_null), selectivity: 0.5 })
    };
    Ok(match test {
        Test::Host(predicate) if column.is_attribute() => host(*predicate, false),
        Test::HostOfNull(predicate) if column.is_attribute() => host(*predicate, true),
        Test::Host(_) | Test::HostOfNull(_) if column.is_computed() => {
            return Err(Error::invalid("the host tests stored columns and attributes only"));
        }
        Test::IsNull => leaf(Check::Null(true), 0.1),
        Test::IsNotNull => leaf(Check::Null(false), 0.9),
        Test::Host(predicate) => host(*predicate, false),
        Test::HostOfNull(predicate) => host(*predicate, true),
        _ => match column.kind {
            Kind::I64 => int_leaf(leaf, required(ranges_of(test, order_i64)?)?),
            Kind::F64 => int_leaf(leaf, required(ranges_of(test, order_f64)?)?),
            Kind::I128 => {
                let ranges = required(ranges_of(test, order_i128)?)?;
                if ranges.is_empty() { Node::Const(false) } else { leaf(Check::I128(ranges), 0.3) }
            }
            Kind::Codes => match test {
                Test::Like { pattern, negated } => like_leaf(position, pattern, *negated, column, memory, pulse)?,
                _ => codes_leaf(position, code_ranges(test, column)?, column)?,
            },
            Kind::Bytes => leaf(Check::Bytes(required(BytesTest::new(test)?)?), 0.3),
        },
    })
}

/// A test of a column, which must be computed first if it is not stored.
fn of_column(position: usize, column: &SegmentColumn<'_>, check: Check, selectivity: f32) -> Node {
    let check = if column.is_computed() { Check::Computed(Box::new(check)) } else { check };
    Node::Leaf(Leaf { column: position, check, selectivity })
}

fn required<T>(option: Option<T>) -> Result<T> {
    option.ok_or_else(|| Error::invalid("a test does not fit its column"))
}

fn int_leaf(leaf: impl Fn(Check, f32) -> Node, ranges: Ranges<i64>) -> Node {
    let points = ranges.iter().all(|r| r.0 == r.1);
    if ranges.is_empty() { Node::Const(false) } else { leaf(Check::I64(ranges), if points { 0.05 } else { 0.3 }) }
}

/// What a test says of a column's constant value; `None`: only the host knows.
fn constant_test(column: &SegmentColumn<'_>, value: &Value, test: &Test) -> Result<Option<bool>> {
    let holds = |ranges: &[(i64, i64)], v: i64| ranges.iter().any(|r| r.0 <= v && v <= r.1);
    Ok(Some(match (test, value) {
        (Test::IsNull, v) => v.is_null(),
        (Test::IsNotNull, v) => !v.is_null(),
        (Test::HostOfNull(_), _) => return Ok(None),
        (_, Value::Null) => false,
        (Test::Host(_), _) => return Ok(None),
        (test, Value::I64(v)) if column.kind == Kind::I64 => holds(&required(ranges_of(test, order_i64)?)?, *v),
        (test, Value::F64(_)) => holds(&required(ranges_of(test, order_f64)?)?, order_f64(value)?),
        (test, Value::I128(v)) => required(ranges_of(test, order_i128)?)?.iter().any(|r| r.0 <= *v && *v <= r.1),
        (test, Value::Bytes(v)) => required(BytesTest::new(test)?)?.matches(v),
        _ => return Err(Error::invalid("a test does not fit its column")),
    }))
}

/// The codes of `Range`, `In`, `NotIn` by search in the dictionary.
fn code_ranges(test: &Test, column: &SegmentColumn<'_>) -> Result<Ranges<u32>> {
    use crate::plan::Bound;
    let bytes = |value: &Value| -> Result<std::result::Result<u32, u32>> {
        match value {
            Value::Bytes(b) => column.dictionary_search(b),
            _ => Err(Error::invalid("an operand is of another type than its column")),
        }
    };
    let len = column.dictionary_len()?;
    let points = |list: &[Value]| -> Result<Ranges<u32>> {
        let mut found = Vec::new();
        for value in list {
            if let Ok(code) = bytes(value)? {
                found.push((code, code));
            }
        }
        Ok(normalize(found))
    };
    Ok(match test {
        Test::Range { low, high } => {
            let first = match low {
                Bound::Unbounded => 0,
                Bound::Included(v) => bytes(v)?.unwrap_or_else(|at| at),
                Bound::Excluded(v) => bytes(v)?.map_or_else(|at| at, |at| at + 1),
            };
            let after = match high {
                Bound::Unbounded => len,
                Bound::Included(v) => bytes(v)?.map_or_else(|at| at, |at| at + 1),
                Bound::Excluded(v) => bytes(v)?.unwrap_or_else(|at| at),
            };
            if first < after { vec![(first, after - 1)] } else { Vec::new() }
        }
        Test::In(list) => points(list)?,
        Test::NotIn(list) if len == 0 => points(list)?,
        Test::NotIn(list) => complement(&points(list)?, 0, len - 1),
        _ => return Err(Error::invalid("a test does not fit its column")),
    })
}

/// A test by ranges of codes, in the blocks that the column's index leaves.
pub(super) fn codes_leaf(position: usize, ranges: Ranges<u32>, column: &SegmentColumn<'_>) -> Result<Node> {
    if ranges.is_empty() {
        return Ok(Node::Const(false));
    }
    let selectivity = code_share(&ranges, column.dictionary_len()?);
    if let Some((rows, selectivity)) = indexed_rows(&ranges, column)? {
        return Ok(Node::Leaf(Leaf { column: position, check: Check::Rows { rows, negated: false }, selectivity }));
    }
    let blocks = indexed_blocks(position, &ranges, column)?;
    let check = if ranges.len() > 4 {
        // One look at a set beats many comparisons.
        let mut set = vec![0u64; ranges.last().map_or(0, |r| r.1) as usize / 64 + 1];
        ranges.iter().flat_map(|r| r.0..=r.1).for_each(|code| set[code as usize / 64] |= 1 << (code % 64));
        Check::CodeSet(set)
    } else {
        Check::Codes(ranges)
    };
    let leaf = of_column(position, column, check, selectivity);
    Ok(Node::and(blocks.into_iter().chain([leaf]).collect()))
}

/// More bitmaps than this are not joined: scanning codes takes no longer.
const INDEX_BITMAPS: u64 = 16;

/// The rows that hold one of the codes, and their share, if each code has a bitmap.
fn indexed_rows(ranges: &[(u32, u32)], column: &SegmentColumn<'_>) -> Result<Option<(RoaringBitmap, f32)>> {
    let wanted: u64 = ranges.iter().map(|r| u64::from(r.1 - r.0) + 1).sum();
    let Some(reader) = column.stored().filter(|_| wanted <= INDEX_BITMAPS) else { return Ok(None) };
    let rows = reader.rows_of_codes(ranges)?;
    Ok(rows.map(|rows| {
        let share = rows.len() as f32 / reader.rows().max(1) as f32;
        (rows, share)
    }))
}

/// More codes than this are not looked up in an index: they occur nearly everywhere.
const INDEX_CODES: u64 = 4096;

/// The blocks where a row may hold one of the codes, if an index excludes most.
fn indexed_blocks(position: usize, ranges: &[(u32, u32)], column: &SegmentColumn<'_>) -> Result<Option<Node>> {
    let Some(reader) = column.stored() else { return Ok(None) };
    let wanted: u64 = ranges.iter().map(|r| u64::from(r.1 - r.0) + 1).sum();
    if wanted > INDEX_CODES {
        return Ok(None);
    }
    let Some(found) = reader.blocks_of_codes(ranges)? else { return Ok(None) };
    let selectivity = found.iter().filter(|f| **f).count() as f32 / found.len().max(1) as f32;
    let blocks = found.into_iter().map(|found| if found { Selection::All } else { Selection::None }).collect();
    Ok(Some(Node::Leaf(Leaf { column: position, check: Check::Blocks(blocks), selectivity })))
}

/// Values matched between two pulses.
const LIKE_BATCH: u32 = 16_384;

/// LIKE over a dictionary: exact patterns and prefixes by search, others value by value, once a segment.
fn like_leaf(
    position: usize,
    pattern: &[u8],
    negated: bool,
    column: &SegmentColumn<'_>,
    memory: &mut Reservation,
    pulse: &mut dyn Pulse,
) -> Result<Node> {
    let like = Like::new(pattern)?;
    let len = column.dictionary_len()?;
    let first = match like.prefix() {
        [] => 0,
        prefix => column.dictionary_search(prefix)?.unwrap_or_else(|at| at),
    };
    let after = match successor(like.prefix()) {
        Some(next) => column.dictionary_search(&next)?.unwrap_or_else(|at| at),
        None => len,
    };
    let exact = like.exact().map(|value| column.dictionary_search(value)).transpose()?;
    let ranges = match exact {
        Some(found) => found.map_or(Vec::new(), |code| vec![(code, code)]),
        None if like.is_prefix() && first < after => vec![(first, after - 1)],
        None if like.is_prefix() => Vec::new(),
        None => {
            let set = matching_codes(&like, negated, first..after, column, memory, pulse)?;
            return set_leaf(position, set, column);
        }
    };
    let ranges = match (negated, len) {
        (false, _) => ranges,
        (true, 0) => Vec::new(),
        (true, _) => complement(&ranges, 0, len - 1),
    };
    codes_leaf(position, ranges, column)
}

/// Codes whose values match; only those in `within` can.
fn matching_codes(
    like: &Like,
    negated: bool,
    within: Range<u32>,
    column: &SegmentColumn<'_>,
    memory: &mut Reservation,
    pulse: &mut dyn Pulse,
) -> Result<Bits> {
    let len = column.dictionary_len()?;
    memory.grow(len as usize / 8 + 8)?;
    let held = memory.bytes();
    let mut set = Bits::zeros(len as usize);
    let mut start = within.start;
    while start < within.end {
        let values = column.dictionary_range(start..within.end.min(start + LIKE_BATCH))?;
        memory.resize(held + values.data.capacity() + values.ends.capacity() * 4)?;
        like.matches_block(&values, |i| set.set(start as usize + i));
        start += values.ends.len().max(1) as u32;
        pulse.beat()?;
    }
    memory.resize(held)?;
    if negated {
        set.invert();
    }
    Ok(set)
}

/// The smallest byte string above all that begin with `prefix`; `None`: there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut next = prefix[..=keep].to_vec();
    next[keep] += 1;
    Some(next)
}

/// A test by a bit a code (NULL has none), in the blocks that the column's index leaves.
pub(super) fn set_leaf(position: usize, set: Bits, column: &SegmentColumn<'_>) -> Result<Node> {
    let count = set.count();
    let mut blocks = None;
    if count as u64 <= INDEX_CODES {
        let mut ranges: Ranges<u32> = Vec::new();
        set.for_each(|code| match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code as u32 => *last = code as u32,
            _ => ranges.push((code as u32, code as u32)),
        });
        if ranges.len() <= 2 {
            return codes_leaf(position, ranges, column);
        }
        blocks = indexed_blocks(position, &ranges, column)?;
    }
    let selectivity = count as f32 / column.dictionary_len()?.max(1) as f32;
    let leaf = of_column(position, column, Check::CodeSet(set.words().to_vec()), selectivity);
    Ok(Node::and(blocks.into_iter().chain([leaf]).collect()))
}

#[cfg(test)]
mod tests {
    use super::successor;

    #[test]
    fn successors() {
        assert_eq!(successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(successor(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(successor(b"\xff\xff"), None);
        assert_eq!(successor(b""), None);
    }
}
