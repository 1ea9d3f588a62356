//! The order of a segment's rows.

use std::cmp::Ordering;

use super::held::{Held, HeldColumn, SortedValues};
use crate::sort::{sort_by, sort_in_place_by};
use crate::types::Schema;
use crate::{Cancel, Result};

/// How the rows of a segment follow from the rows held.
pub(crate) enum Order {
    /// As they came.
    Arrival,
    /// Row `i` of the segment is row `[i]` of those held.
    Permuted(Vec<u32>),
}

/// One key column, NULLs last, as integers that compare as its values do.
enum Key<'a> {
    I64 { values: &'a [i64], nulls: Option<Vec<u64>> },
    I128 { values: &'a [i128], nulls: Option<Vec<u64>> },
    F64 { values: &'a [f64], nulls: Option<Vec<u64>> },
    Bytes { ids: &'a [u32], ranks: &'a [u32] },
}

fn is_null(nulls: &Option<Vec<u64>>, row: u32) -> bool {
    nulls.as_ref().is_some_and(|words| words[row as usize / 64] >> (row % 64) & 1 == 1)
}

fn nulls_last(nulls: &Option<Vec<u64>>, a: u32, b: u32, compare: impl FnOnce(usize, usize) -> Ordering) -> Ordering {
    match (is_null(nulls, a), is_null(nulls, b)) {
        (false, false) => compare(a as usize, b as usize),
        (a_null, b_null) => a_null.cmp(&b_null),
    }
}

impl Key<'_> {
    fn compare(&self, a: u32, b: u32) -> Ordering {
        match self {
            Key::I64 { values, nulls } => nulls_last(nulls, a, b, |a, b| values[a].cmp(&values[b])),
            Key::I128 { values, nulls } => nulls_last(nulls, a, b, |a, b| values[a].cmp(&values[b])),
            Key::F64 { values, nulls } => nulls_last(nulls, a, b, |a, b| values[a].total_cmp(&values[b])),
            Key::Bytes { ids, ranks } => {
                let rank = |row: u32| ranks.get(ids[row as usize] as usize).copied().unwrap_or(u32::MAX);
                rank(a).cmp(&rank(b))
            }
        }
    }
}

/// The stable order of `rows` rows by the cluster columns, then time. Errors: `Canceled`.
pub(crate) fn order(
    schema: &Schema,
    columns: &[HeldColumn],
    sorted: &[Option<SortedValues>],
    rows: usize,
    cancel: &Cancel,
) -> Result<Order> {
    let keys: Vec<Key> = schema
        .cluster_by
        .iter()
        .chain(&schema.time)
        .map(|position| {
            let held = &columns[*position];
            match (&held.data, &sorted[*position]) {
                (Held::I64(values), _) => Key::I64 { values, nulls: held.null_words(rows) },
                (Held::I128(values), _) => Key::I128 { values, nulls: held.null_words(rows) },
                (Held::F64(values), _) => Key::F64 { values, nulls: held.null_words(rows) },
                (Held::Bytes { ids, .. }, sorted) => {
                    Key::Bytes { ids, ranks: sorted.as_ref().map_or(&[], |s| &s.ranks) }
                }
            }
        })
        .collect();
    let compare = |a: u32, b: u32| keys.iter().map(|k| k.compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
    let rows = rows as u32;
    if (1..rows).all(|row| compare(row - 1, row).is_le()) {
        return Ok(Order::Arrival);
    }
    if let [Key::I64 { values, nulls: None }] = keys.as_slice() {
        let mut pairs: Vec<(i64, u32)> = values.iter().copied().zip(0..).collect();
        sort_in_place_by(&mut pairs, &Ord::cmp, &mut || cancel.check())?;
        return Ok(Order::Permuted(pairs.into_iter().map(|(_, row)| row).collect()));
    }
    let mut order: Vec<u32> = (0..rows).collect();
    let stable = |a: &u32, b: &u32| compare(*a, *b).then(a.cmp(b));
    sort_by(&mut order, stable, &mut || cancel.check())?;
    Ok(Order::Permuted(order))
}
