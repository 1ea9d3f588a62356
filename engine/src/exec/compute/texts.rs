//! Functions of texts that the engine knows, of a dictionary's values: no host is asked.

use super::super::columns::Kind;
use super::super::filter::{Resolver, occurring};
use super::mapped::Slots;
use super::numbering::Numbering;
use crate::exec::bits::{Bits, Selection};
use crate::exec::values::BytesMap;
use crate::plan::{AttributeValues, TextFunction};
use crate::segment::BytesBlock;
use crate::types::Physical;
use crate::{Error, Result};

/// Values looked at together: those of a word of bits.
const RUN: usize = 64;
/// Of which so many make decoding all worth while.
const MANY: u32 = 4;
/// Values between two polls.
const STEP: usize = 1 << 12;

/// A value of what rows of `candidates` hold, by code, and as the last NULL. `None`: the column has no dictionary of its own, or the function's results
/// are of another type. Errors: `Budget`, `Corrupt`, those of polls.
pub(super) fn results(
    function: &TextFunction,
    source: usize,
    result: Physical,
    candidates: &[Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<Option<(Slots, AttributeValues)>> {
    let column = &r.view.columns[source];
    let makes = if function.length(&[]).is_some() { Physical::I64 } else { Physical::Bytes };
    if column.kind != Kind::Codes || column.stored().is_none() || makes != result {
        return Ok(None);
    }
    let len = column.dictionary_len()? as usize;
    // No result depends on what other rows hold: where most are asked about, finding out which are not does not pay.
    let selected: usize = candidates.iter().enumerate().map(|(block, c)| c.count(r.view.block_rows(block))).sum();
    let occur = if selected > r.view.rows / 2 { Bits::ones(len) } else { occurring(source, candidates, r)? };
    let mut nulls = false;
    for block in 0..r.view.blocks {
        r.scratch.begin(r.view, block);
        nulls |= r.scratch.header(r.view, source)?.nulls > 0;
    }
    let memory = r.memory.budget().reserve((len + 1) * (size_of::<i64>() + usize::from(nulls)))?;
    let valid = nulls.then(|| (0..=len).map(|slot| slot < len).collect());
    let values = match result {
        Physical::I64 => {
            let mut lengths = vec![0i64; len + 1];
            each(source, &occur, r, |code, text| {
                lengths[code] = function.length(text).unwrap_or(0);
                Ok(())
            })?;
            AttributeValues::of_ints(lengths, valid, memory)
        }
        _ => {
            let mut distinct = BytesMap::new(memory.budget())?;
            let mut numbers = vec![u32::MAX; len + 1];
            let (mut buffer, mut made) = (Vec::new(), Vec::new());
            each(source, &occur, r, |code, text| {
                made.clear();
                function.replace(text, &mut buffer, &mut made);
                numbers[code] = distinct.number(&made)?;
                Ok(())
            })?;
            AttributeValues::of_texts(numbers, distinct, valid, memory)?
        }
    };
    Ok(Some((Slots::One(Numbering::of_codes(source, len as u32)), values)))
}

/// Calls `f(code, text)` for each code of `occur`.
fn each(
    source: usize,
    occur: &Bits,
    r: &mut Resolver<'_, '_>,
    mut f: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let column = &r.view.columns[source];
    let (len, mut run, mut alone) = (occur.rows(), BytesBlock::default(), Vec::new());
    for (nth, word) in occur.words().iter().enumerate() {
        let first = nth * RUN;
        if first.is_multiple_of(STEP) {
            r.host.poll()?;
        }
        let many = word.count_ones() >= MANY;
        if many {
            column.dictionary_range_into(first as u32..len.min(first + RUN) as u32, &mut run)?;
        }
        let mut left = *word;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            if many {
                f(first + at, run.get(at))?;
                continue;
            }
            alone.clear();
            column.dictionary_get((first + at) as u32, &mut alone)?;
            f(first + at, &alone)?;
        }
    }
    if len == 0 || occur.words().len() * RUN >= len { Ok(()) } else { Err(Error::invalid("bits of a dictionary")) }
}
