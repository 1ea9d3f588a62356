//! Evaluation of a bound filter: first by block headers, then by what is decoded.

use super::ranges::{Overlap, overlap};
use super::{Check, Leaf, Node};
use crate::Result;
use crate::exec::bits::{Bits, Selection};
use crate::exec::columns::{BlockScratch, Kind, SegmentView, float_key};
use crate::exec::kernels;
use crate::exec::like::value;
use crate::segment::BLOCK_ROWS;
use crate::types::Value;
use crate::{Error, plan};

/// What headers and indexes say of a whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exec) enum Verdict {
    No,
    Yes,
    Maybe,
}

/// Judges the scratch's block without decoding it.
pub(in crate::exec) fn quick(node: &Node, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<Verdict> {
    let (decisive, nodes) = match node {
        Node::Const(true) => return Ok(Verdict::Yes),
        Node::Const(false) => return Ok(Verdict::No),
        Node::Leaf(leaf) => return quick_leaf(leaf, view, scratch),
        Node::And(nodes) => (Verdict::No, nodes),
        Node::Or(nodes) => (Verdict::Yes, nodes),
    };
    let mut result = if decisive == Verdict::No { Verdict::Yes } else { Verdict::No };
    for node in nodes {
        match quick(node, view, scratch)? {
            v if v == decisive => return Ok(v),
            Verdict::Maybe => result = Verdict::Maybe,
            _ => {}
        }
    }
    Ok(result)
}

fn quick_leaf(leaf: &Leaf, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<Verdict> {
    let rows = scratch.rows();
    let (block, kind) = (scratch.block(), view.columns.get(leaf.column).map(|c| c.kind));
    let by_count = |count: usize| match count {
        0 => Verdict::No,
        n if n == rows => Verdict::Yes,
        _ => Verdict::Maybe,
    };
    // These need no column.
    match &leaf.check {
        Check::Rows { rows: bitmap, negated } => {
            let first = (block * BLOCK_ROWS) as u32;
            let held = bitmap.range_cardinality(first..first.saturating_add(rows as u32)) as usize;
            return Ok(by_count(if *negated { rows - held } else { held }));
        }
        Check::Blocks(blocks) => {
            return Ok(match blocks.get(block) {
                Some(Selection::All) => Verdict::Yes,
                Some(Selection::Some(_)) => Verdict::Maybe,
                _ => Verdict::No,
            });
        }
        Check::Computed(_) => return Ok(Verdict::Maybe),
        _ => {}
    }
    let header = scratch.header(view, leaf.column)?;
    let nulls = header.nulls as usize;
    match &leaf.check {
        Check::Null(true) => return Ok(by_count(nulls)),
        Check::Null(false) => return Ok(by_count(rows - nulls)),
        _ => {}
    }
    let codes = kind == Some(Kind::Codes);
    if nulls == rows && !codes {
        return Ok(Verdict::No);
    }
    let limits = match (&header.min, &header.max, kind) {
        (Value::I64(min), Value::I64(max), _) => Some((*min, *max)),
        (Value::F64(min), Value::F64(max), _) => Some((float_key(*min), float_key(*max))),
        _ => None,
    };
    let found = match (&leaf.check, limits) {
        (Check::I64(ranges), Some((min, max))) => overlap(ranges, min, max),
        (Check::I128(ranges), None) => match (&header.min, &header.max) {
            (Value::I128(min), Value::I128(max)) => overlap(ranges, *min, *max),
            _ => Overlap::Partial,
        },
        (Check::Codes(ranges), Some((min, max))) => {
            // NULL's own code stands outside of min and max.
            let null = view.columns[leaf.column].dictionary_len()?;
            let with_null = ranges.last().is_some_and(|r| r.1 >= null);
            match (u32::try_from(min), u32::try_from(max)) {
                (Ok(min), Ok(max)) if nulls == 0 || !with_null => overlap(ranges, min, max),
                _ => Overlap::Partial,
            }
        }
        (Check::CodeSet(set), Some((min, max))) if max.saturating_sub(min) < 64 => {
            let on = |code: i64| set.get(code as usize / 64).is_some_and(|w| w >> (code % 64) & 1 == 1);
            let (mut any, mut all) = (false, true);
            for code in min.max(0)..=max.max(0) {
                any |= on(code);
                all &= on(code);
            }
            match (any, all) {
                (false, _) => Overlap::Disjoint,
                (_, true) => Overlap::Covers,
                _ => Overlap::Partial,
            }
        }
        (Check::Bytes(test), _) => match (&header.min, &header.max) {
            (Value::Bytes(min), Value::Bytes(max)) if test.excluded(min, max) => Overlap::Disjoint,
            _ => Overlap::Partial,
        },
        _ => Overlap::Partial,
    };
    Ok(match found {
        Overlap::Disjoint => Verdict::No,
        Overlap::Covers if nulls == 0 => Verdict::Yes,
        _ => Verdict::Maybe,
    })
}

/// The rows of `within` that the filter selects.
pub(in crate::exec) fn evaluate(
    node: &Node,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    within: &Selection,
) -> Result<Selection> {
    if within.is_none() {
        return Ok(Selection::None);
    }
    match quick(node, view, scratch)? {
        Verdict::No => return Ok(Selection::None),
        Verdict::Yes => return Ok(within.clone()),
        Verdict::Maybe => {}
    }
    match node {
        Node::Const(_) => Ok(within.clone()),
        Node::Leaf(leaf) => Ok(evaluate_leaf(leaf, view, scratch, within)?.and(within)),
        Node::And(nodes) => {
            let mut left: Option<Selection> = None;
            for node in nodes {
                let selected = evaluate(node, view, scratch, left.as_ref().unwrap_or(within))?;
                if selected.is_none() {
                    return Ok(Selection::None);
                }
                left = Some(selected);
            }
            Ok(left.unwrap_or_else(|| within.clone()))
        }
        Node::Or(nodes) => {
            let mut selected = Selection::None;
            let rows = scratch.rows();
            for node in nodes {
                let rest = within.clone().and_not(&selected, rows);
                if rest.is_none() {
                    break;
                }
                selected = selected.or(evaluate(node, view, scratch, &rest)?);
            }
            Ok(selected)
        }
    }
}

/// Rows of the block that pass; tests that cost much a row look only at rows of `within`.
fn evaluate_leaf(
    leaf: &Leaf,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    within: &Selection,
) -> Result<Selection> {
    let column = leaf.column;
    match &leaf.check {
        Check::Rows { .. } | Check::Blocks(_) => evaluate_check(&leaf.check, column, false, view, scratch, within),
        Check::Computed(check) => {
            scratch.compute(view, column, within)?;
            let nullable = !scratch.is_null_free(view, column, within)?;
            evaluate_check(check, column, nullable, view, scratch, within)
        }
        check => {
            let nullable = scratch.header(view, column)?.nulls > 0;
            evaluate_check(check, column, nullable, view, scratch, within)
        }
    }
}

/// Those ranges that a value of the scratch's block may be in.
fn within_reach<'r>(
    ranges: &'r [(i64, i64)],
    column: usize,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
) -> Result<&'r [(i64, i64)]> {
    if ranges.len() == 1 || view.columns[column].is_computed() {
        return Ok(ranges);
    }
    let header = scratch.header(view, column)?;
    let (Value::I64(min), Value::I64(max)) = (&header.min, &header.max) else { return Ok(ranges) };
    let first = ranges.partition_point(|range| range.1 < *min);
    let after = ranges.partition_point(|range| range.0 <= *max);
    Ok(ranges.get(first..after).unwrap_or_default())
}

fn evaluate_check(
    check: &Check,
    column: usize,
    nullable: bool,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    within: &Selection,
) -> Result<Selection> {
    let rows = scratch.rows();
    let mut bits = Bits::zeros(rows);
    match check {
        Check::Null(null) => {
            let valid = scratch.validity(view, column)?.clone();
            return Ok(if *null { Selection::All.and_not(&valid, rows) } else { valid });
        }
        Check::Rows { rows: bitmap, negated } => {
            let mut bits = Bits::from_roaring(bitmap, (scratch.block() * BLOCK_ROWS) as u32, rows);
            if *negated {
                bits.invert();
            }
            return Ok(Selection::of(bits));
        }
        Check::Blocks(blocks) => return Ok(blocks.get(scratch.block()).cloned().unwrap_or(Selection::None)),
        Check::Codes(ranges) => {
            ranges_u32(scratch.codes(view, column)?, ranges, &mut bits);
            return Ok(Selection::of(bits));
        }
        Check::CodeSet(set) => {
            kernels::member_u32(scratch.codes(view, column)?, set, bits.words_mut());
            return Ok(Selection::of(bits));
        }
        Check::I64(ranges) => {
            let ranges = within_reach(ranges, column, view, scratch)?;
            let values = match view.columns[column].kind {
                Kind::F64 => scratch.float_keys(view, column)?,
                _ => scratch.ints(view, column)?,
            };
            match ranges {
                [(low, high)] => kernels::range_i64(values, *low, *high, bits.words_mut()),
                few if few.len() <= 4 => {
                    let mut part = Bits::zeros(rows);
                    for (low, high) in few {
                        kernels::range_i64(values, *low, *high, part.words_mut());
                        bits.or(&part);
                    }
                }
                many => kernels::ranges_i64(values, many, bits.words_mut()),
            }
        }
        Check::I128(ranges) if scratch.is_narrow(column) => {
            let (low, high) = (i128::from(i64::MIN), i128::from(i64::MAX));
            let values = scratch.ints(view, column)?;
            let mut part = Bits::zeros(rows);
            for range in ranges.iter().filter(|r| r.0 <= high && r.1 >= low) {
                kernels::range_i64(values, range.0.max(low) as i64, range.1.min(high) as i64, part.words_mut());
                bits.or(&part);
            }
        }
        Check::I128(ranges) => {
            let values = scratch.wide(view, column)?;
            match ranges.as_slice() {
                [(low, high)] => kernels::range_i128(values, *low, *high, bits.words_mut()),
                many => kernels::ranges_i128(values, many, bits.words_mut()),
            }
        }
        Check::Bytes(test) => {
            let values = scratch.bytes(view, column)?;
            match within {
                Selection::Some(few) if few.count() < rows / 8 => few.for_each(|i| {
                    if test.matches(value(values, i)) {
                        bits.set(i);
                    }
                }),
                _ => test.select(values, &mut bits),
            }
        }
        Check::Computed(_) => return Err(Error::invalid("a test of a computed column within another")),
        Check::Host(plan::HostPredicate(number), _) => {
            return Err(Error::invalid(format!("host predicate {number} was not resolved")));
        }
    }
    let selected = Selection::of(bits);
    Ok(if nullable { selected.and(scratch.validity(view, column)?) } else { selected })
}

fn ranges_u32(values: &[u32], ranges: &[(u32, u32)], bits: &mut Bits) {
    match ranges {
        [(low, high)] => kernels::range_u32(values, *low, *high, bits.words_mut()),
        _ => {
            let mut part = Bits::zeros(bits.rows());
            // Each range is one pass of sixteen values an instruction; long lists become sets of codes before.
            for (low, high) in ranges {
                kernels::range_u32(values, *low, *high, part.words_mut());
                bits.or(&part);
            }
        }
    }
}
