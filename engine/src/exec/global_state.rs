//! States of the groups of all segments, merged.

use super::floats::{FloatSum, FloatSums};
use super::global::mismatch;
use super::hash::U64Map;
use super::moments::{ProductSums, Sums, Wide};
use super::primitives::{Measure, Primitive};
use super::states::{BitOp, extend};
use super::values::ValueMap;
use crate::plan::{ColumnRef, Host, OrderId};
use crate::types::Physical;
use crate::{Budget, Reservation, Result};

pub(super) enum GlobalState {
    Count(Vec<i64>),
    /// Exact sums of I64 and I128 columns, and whether a NaN is in them.
    Sum {
        sums: Vec<i128>,
        nan: Vec<bool>,
    },
    SumFloat(FloatSums),
    /// I64 values or `exact_key`s of F64.
    Int {
        values: Vec<i64>,
        max: bool,
    },
    Wide {
        values: Vec<i128>,
        max: bool,
    },
    Bytes {
        values: Vec<Option<Box<[u8]>>>,
        max: bool,
        order: Option<OrderId>,
    },
    Distinct {
        values: ValueMap,
        pairs: U64Map,
    },
    Squares(Vec<Wide>),
    Products(ProductSums),
    Bits {
        values: Vec<i64>,
        op: BitOp,
    },
    /// Counts of distinct values of groups that are all from one partial.
    DistinctCounts(Vec<i64>),
}

impl GlobalState {
    pub fn new(primitive: &Primitive, columns: &[ColumnRef], window: i32, budget: &Budget) -> Result<Self> {
        let physical = primitive.column.map(|c| columns[c].ty.physical());
        Ok(match (primitive.measure, physical) {
            (Measure::Count, _) => GlobalState::Count(Vec::new()),
            (Measure::Sum, Some(Physical::F64)) => GlobalState::SumFloat(FloatSums::new(window, budget)?),
            (Measure::Squares | Measure::Products, Some(Physical::F64)) => {
                GlobalState::Products(ProductSums::new(window, budget)?)
            }
            (Measure::Squares, _) => GlobalState::Squares(Vec::new()),
            (measure, _) if let Some(op) = BitOp::of_measure(measure) => GlobalState::Bits { values: Vec::new(), op },
            (Measure::Sum, _) => GlobalState::Sum { sums: Vec::new(), nan: Vec::new() },
            (Measure::Min | Measure::Max, Some(physical)) => {
                let max = primitive.measure == Measure::Max;
                match physical {
                    Physical::I64 | Physical::F64 => GlobalState::Int { values: Vec::new(), max },
                    Physical::I128 => GlobalState::Wide { values: Vec::new(), max },
                    Physical::Bytes => GlobalState::Bytes { values: Vec::new(), max, order: None },
                }
            }
            (Measure::HostMin(order), _) => GlobalState::Bytes { values: Vec::new(), max: false, order: Some(order) },
            (Measure::HostMax(order), _) => GlobalState::Bytes { values: Vec::new(), max: true, order: Some(order) },
            (Measure::Distinct, Some(physical)) => {
                GlobalState::Distinct { values: ValueMap::new(physical, budget)?, pairs: U64Map::new(budget)? }
            }
            _ => return Err(mismatch()),
        })
    }

    pub fn ensure(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        match self {
            GlobalState::Count(counts) | GlobalState::DistinctCounts(counts) => extend(counts, groups, 0, memory),
            GlobalState::Sum { sums, nan } => {
                extend(sums, groups, 0, memory)?;
                extend(nan, groups, false, memory)
            }
            GlobalState::SumFloat(sums) => sums.ensure(groups),
            GlobalState::Int { values, max } => extend(values, groups, if *max { i64::MIN } else { i64::MAX }, memory),
            GlobalState::Wide { values, max } => {
                extend(values, groups, if *max { i128::MIN } else { i128::MAX }, memory)
            }
            GlobalState::Bytes { values, .. } => extend(values, groups, None, memory),
            GlobalState::Squares(sums) => extend(sums, groups, Wide::ZERO, memory),
            GlobalState::Products(sums) => sums.ensure(groups),
            GlobalState::Bits { values, op } => extend(values, groups, op.neutral(), memory),
            GlobalState::Distinct { .. } => Ok(()),
        }
    }
}

impl Sums for Vec<GlobalState> {
    fn float(&self, primitive: usize, group: u32) -> Option<FloatSum> {
        if let GlobalState::SumFloat(sums) = &self[primitive] { Some(sums.get(group)) } else { None }
    }

    fn products(&self, primitive: usize, group: u32) -> Option<Vec<(i32, Wide)>> {
        if let GlobalState::Products(sums) = &self[primitive] { Some(sums.get(group)) } else { None }
    }

    fn integer(&self, primitive: usize, group: u32) -> Option<(i128, bool)> {
        match &self[primitive] {
            GlobalState::Sum { sums, nan } => Some((sums[group as usize], nan[group as usize])),
            _ => None,
        }
    }

    fn squares(&self, primitive: usize, group: u32) -> Option<Wide> {
        if let GlobalState::Squares(sums) = &self[primitive] { Some(sums[group as usize]) } else { None }
    }

    fn is_moderate(&self, primitive: usize) -> bool {
        match &self[primitive] {
            GlobalState::SumFloat(sums) => sums.is_moderate(),
            GlobalState::Products(sums) => sums.is_moderate(),
            _ => true,
        }
    }
}

/// Replaces `best` if `candidate` is better in the host's order.
pub(super) fn improve_by(
    best: &mut Option<Box<[u8]>>,
    candidate: &[u8],
    order: OrderId,
    max: bool,
    memory: &mut Reservation,
    host: &mut dyn Host,
) -> Result<()> {
    let better = match best {
        None => true,
        Some(old) if max => host.compare(order, candidate, old).is_gt(),
        Some(old) => host.compare(order, candidate, old).is_lt(),
    };
    if better {
        let held = best.as_ref().map_or(0, |b| b.len() + 16);
        memory.grow((candidate.len() + 16).saturating_sub(held))?;
        *best = Some(candidate.into());
    }
    Ok(())
}
