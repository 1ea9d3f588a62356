//! Host predicates over numbers: block by block, every distinct value of the rows that reach the test is asked once.
//!
//! Unlike answers about strings these are not remembered: numbers repeat less, and are cheap to ask about again.

use hashbrown::HashMap;

use super::host::Resolver;
use super::{Check, Leaf, Node};
use crate::exec::bits::{Bits, Selection};
use crate::exec::columns::Kind;
use crate::plan::HostPredicate;
use crate::segment::BytesBlock;
use crate::{Error, Result};

pub(super) fn resolve_numbers(
    column: usize,
    predicate: HostPredicate,
    candidates: &[Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<Node> {
    let kind = r.view.columns[column].kind;
    let mut blocks = Vec::with_capacity(candidates.len());
    for (block, candidate) in candidates.iter().enumerate() {
        if candidate.is_none() {
            blocks.push(Selection::None);
            continue;
        }
        r.scratch.begin(r.view, block);
        r.scratch.compute(r.view, column, candidate)?;
        let rows = r.scratch.rows();
        let reach = candidate.clone().and(r.scratch.validity(r.view, column)?);
        if reach.is_none() {
            blocks.push(Selection::None);
            continue;
        }
        // Values as 128 bits, then the distinct ones twice, then the answers; given back before the next block.
        let memory = r.memory.bytes();
        r.memory.grow(rows * 16 * 4)?;
        let (values, width) = numbers(kind, column, r)?;
        let mut ordinals: HashMap<i128, u32> = HashMap::new();
        let mut asked = BytesBlock::default();
        reach.for_each(rows, |i| {
            let next = ordinals.len() as u32;
            ordinals.entry(values[i]).or_insert_with(|| {
                asked.data.extend_from_slice(&values[i].to_le_bytes()[..width]);
                asked.ends.push(asked.data.len() as u32);
                next
            });
        });
        let answers = r.host.test(predicate, &asked)?;
        if answers.len() != ordinals.len() {
            return Err(Error::invalid("the host answered another number of values than it was asked"));
        }
        let mut selected = Bits::zeros(rows);
        reach.for_each(rows, |i| {
            if ordinals.get(&values[i]).is_some_and(|ordinal| answers[*ordinal as usize]) {
                selected.set(i);
            }
        });
        r.memory.resize(memory + rows / 8)?;
        r.host.poll()?;
        blocks.push(Selection::of(selected));
    }
    Ok(Node::Leaf(Leaf { column, check: Check::Blocks(blocks), selectivity: 0.3 }))
}

/// The block's numbers, and how many of their lowest bytes are the physical value.
fn numbers(kind: Kind, column: usize, r: &mut Resolver<'_, '_>) -> Result<(Vec<i128>, usize)> {
    Ok(match kind {
        Kind::I64 => (r.scratch.ints(r.view, column)?.iter().map(|v| i128::from(*v)).collect(), 8),
        Kind::F64 => (r.scratch.floats(r.view, column)?.iter().map(|v| i128::from(v.to_bits())).collect(), 8),
        Kind::I128 => (r.scratch.wide(r.view, column)?.to_vec(), 16),
        Kind::Codes | Kind::Bytes => return Err(Error::invalid("strings are not numbers")),
    })
}
