//! Filters bound to one segment and evaluated block by block.

mod bind;
mod bytes;
mod evaluate;
mod host;
mod memo;
mod numbers;
mod ranges;

pub(super) use bind::{bind, check};
pub(super) use evaluate::{Verdict, evaluate, quick};
pub(super) use host::{Resolver, divide, has_host, narrow, null_occurs, occurring, resolve};
pub(super) use memo::HostMemo;

use roaring::RoaringBitmap;

use super::bits::Selection;
use crate::plan::HostPredicate;
use bytes::BytesTest;

/// A filter over the columns of one segment. NULL rows are never selected but by `Check::Null`.
pub(super) enum Node {
    Const(bool),
    /// Cheap children first.
    And(Vec<Node>),
    Or(Vec<Node>),
    Leaf(Leaf),
}

pub(super) struct Leaf {
    pub column: usize,
    pub check: Check,
    /// Rough share of rows that pass, for ordering.
    pub selectivity: f32,
}

pub(super) enum Check {
    /// NULL (`true`) or not NULL (`false`).
    Null(bool),
    /// Ascending, disjoint, inclusive ranges of an I64 column, or of an F64 column's keys.
    I64(Vec<(i64, i64)>),
    I128(Vec<(i128, i128)>),
    /// Ascending, disjoint, inclusive ranges of codes; NULL is the code after the last value.
    Codes(Vec<(u32, u32)>),
    /// A bit a code; NULL's too.
    CodeSet(Vec<u64>),
    Bytes(BytesTest),
    /// Rows of the whole segment, from an index; `negated`: all others.
    Rows {
        rows: RoaringBitmap,
        negated: bool,
    },
    /// Rows block by block.
    Blocks(Vec<Selection>),
    /// Of a computed column: evaluated after all else, only in rows that other tests leave.
    Computed(Box<Check>),
    /// Not yet evaluated by the host; `true`: it is asked about NULL, too.
    Host(HostPredicate, bool),
}

impl Check {
    fn cost(&self) -> u32 {
        match self {
            Check::Null(_) | Check::Rows { .. } | Check::Blocks(_) => 1,
            Check::I64(ranges) if ranges.len() <= 2 => 4,
            Check::Codes(ranges) if ranges.len() <= 2 => 4,
            Check::CodeSet(_) => 5,
            Check::Codes(ranges) => 4 + ranges.len().ilog2(),
            Check::I64(ranges) => 4 + 2 * ranges.len().ilog2(),
            Check::I128(_) => 10,
            Check::Bytes(test) => test.cost(),
            Check::Computed(check) => 30 + check.cost(),
            Check::Host(..) => 1000,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Check::I64(ranges) => ranges.capacity() * 16,
            Check::I128(ranges) => ranges.capacity() * 32,
            Check::Codes(ranges) => ranges.capacity() * 8,
            Check::CodeSet(set) => set.capacity() * 8,
            Check::Rows { rows, .. } => rows.serialized_size(),
            Check::Computed(check) => check.bytes(),
            _ => 0,
        }
    }
}

impl Node {
    /// Rough cost of evaluation a row.
    fn cost(&self) -> u32 {
        match self {
            Node::Const(_) => 0,
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().map(Node::cost).sum(),
            Node::Leaf(leaf) => leaf.check.cost(),
        }
    }

    /// Whether its evaluation may fail in rows that other tests leave out.
    fn is_computed(&self) -> bool {
        match self {
            Node::Const(_) => false,
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::is_computed),
            Node::Leaf(leaf) => matches!(leaf.check, Check::Computed(_)),
        }
    }

    /// Whether it stays in its place among others of this kind, so that it fails in no row which those before leave out.
    fn keeps_order(&self) -> bool {
        self.is_computed() || has_host(self)
    }

    /// Bytes held beyond the nodes themselves.
    pub fn bytes(&self) -> usize {
        match self {
            Node::Const(_) => 0,
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().map(|n| n.bytes() + size_of::<Node>()).sum(),
            Node::Leaf(leaf) => leaf.check.bytes(),
        }
    }

    pub fn selectivity(&self) -> f32 {
        match self {
            Node::Const(all) => f32::from(u8::from(*all)),
            Node::And(nodes) => nodes.iter().map(Node::selectivity).product(),
            Node::Or(nodes) => nodes.iter().map(Node::selectivity).sum::<f32>().min(1.0),
            Node::Leaf(leaf) => leaf.selectivity,
        }
    }

    /// Flattens, folds constants, and puts what is cheap and selective first.
    pub fn and(nodes: Vec<Node>) -> Node {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Node::Const(true) => {}
                Node::Const(false) => return Node::Const(false),
                Node::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        let rank = |n: &Node| (n.cost() as f32) / (1.0 - n.selectivity()).max(0.01);
        flat.sort_by(|a, b| match (a.keeps_order(), b.keeps_order()) {
            (false, false) => rank(a).total_cmp(&rank(b)),
            (a, b) => a.cmp(&b),
        });
        match flat.len() {
            0 => Node::Const(true),
            1 => flat.remove(0),
            _ => Node::And(flat),
        }
    }

    pub fn or(nodes: Vec<Node>) -> Node {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Node::Const(false) => {}
                Node::Const(true) => return Node::Const(true),
                Node::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        flat.sort_by_key(|n| if n.keeps_order() { (true, 0) } else { (false, n.cost()) });
        match flat.len() {
            0 => Node::Const(false),
            1 => flat.remove(0),
            _ => Node::Or(flat),
        }
    }
}
