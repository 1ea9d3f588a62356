//! Predicates that only the host knows, evaluated on the calling thread before a segment's threads start.
//!
//! A value is shown to the host only if it occurs in a row that the other conjuncts select, so that no error and
//! no side effect comes from a row that the query does not reach.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::bind::set_leaf;
use super::evaluate::evaluate;
use super::numbers::resolve_numbers;
use super::{Check, HostMemo, Leaf, Node};
use crate::exec::Pulse;
use crate::exec::bits::{Bits, Selection};
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::like::value;
use crate::plan::{Host, HostFunction, HostPredicate};
use crate::segment::BytesBlock;
use crate::types::Value;
use crate::{Error, Reservation, Result};

/// Values shown to the host at once.
const BATCH: usize = 1024;
/// Values of a dictionary between two looks at the host.
const STEP: usize = 4096;

pub(in crate::exec) fn has_host(node: &Node) -> bool {
    match node {
        Node::Const(_) => false,
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(has_host),
        Node::Leaf(leaf) => matches!(leaf.check, Check::Host(..)),
    }
}

/// What resolving needs besides the filter.
pub(in crate::exec) struct Resolver<'a, 'h> {
    pub view: &'a SegmentView<'a>,
    pub scratch: &'a mut BlockScratch,
    pub host: &'h mut dyn Host,
    pub memo: &'a mut HostMemo,
    pub memory: &'a mut Reservation,
    /// Whether rows are looked at that may not be needed, so that failing there is no error.
    pub lenient: bool,
}

impl Resolver<'_, '_> {
    pub fn poll(&mut self) -> Result<()> {
        self.host.poll()
    }

    fn test_null(&mut self, predicate: HostPredicate) -> Result<bool> {
        if let Some(known) = self.memo.test_of_null(predicate) {
            return Ok(known);
        }
        let answer = self.host.test_null(predicate)?;
        self.memo.learn_test_of_null(predicate, answer);
        Ok(answer)
    }

    pub fn map_null(&mut self, function: HostFunction) -> Result<Value> {
        self.host.map_null(function)
    }
}

impl Pulse for Resolver<'_, '_> {
    fn beat(&mut self) -> Result<()> {
        self.host.poll()
    }
}

/// Replaces every host predicate by what the host says of the values in rows of `candidates` that reach it.
pub(in crate::exec) fn resolve(node: Node, candidates: &[Selection], r: &mut Resolver<'_, '_>) -> Result<Node> {
    if !has_host(&node) {
        return Ok(node);
    }
    match node {
        Node::And(nodes) => Ok(Node::and(resolve_all(nodes, narrow, candidates, r)?)),
        Node::Or(nodes) => Ok(Node::or(resolve_all(nodes, exclude, candidates, r)?)),
        Node::Leaf(Leaf { column, check: Check::Host(predicate, of_null), .. }) => {
            let node = resolve_leaf(column, predicate, candidates, r)?;
            if !of_null || !null_occurs(column, candidates, r)? || !r.test_null(predicate)? {
                return Ok(node);
            }
            let null = Leaf { column, check: Check::Null(true), selectivity: 0.1 };
            Ok(Node::or(vec![node, Node::Leaf(null)]))
        }
        other => Ok(other),
    }
}

/// Leaves to a later node the rows on which a resolved one does not decide.
type Pass = fn(&Node, &mut [Selection], &mut Resolver<'_, '_>) -> Result<()>;

/// Resolves parts of a conjunction or disjunction. The host is shown what the parts leave that can't fail, and of the others those before.
fn resolve_all(nodes: Vec<Node>, pass: Pass, candidates: &[Selection], r: &mut Resolver<'_, '_>) -> Result<Vec<Node>> {
    let (ordered, mut done): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(Node::keeps_order);
    let last = ordered.iter().rposition(has_host).unwrap_or(0);
    let mut reach = candidates.to_vec();
    for node in &done {
        pass(node, &mut reach, r)?;
    }
    for (nth, node) in ordered.into_iter().enumerate() {
        let node = resolve(node, &reach, r)?;
        if nth < last {
            pass(&node, &mut reach, r)?;
        }
        done.push(node);
    }
    Ok(done)
}

/// Rows of `candidates` that the (resolved) filter selects.
pub(in crate::exec) fn narrow(node: &Node, candidates: &mut [Selection], r: &mut Resolver<'_, '_>) -> Result<()> {
    for (block, candidate) in candidates.iter_mut().enumerate() {
        if let Some(selected) = selected(node, block, candidate, r)? {
            *candidate = selected;
        }
    }
    Ok(())
}

fn exclude(node: &Node, candidates: &mut [Selection], r: &mut Resolver<'_, '_>) -> Result<()> {
    divide(node, candidates, r).map(drop)
}

/// Takes from `candidates` the rows that the (resolved) filter selects, which are returned. Those of blocks in which it fails are in both.
pub(in crate::exec) fn divide(
    node: &Node,
    candidates: &mut [Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<Vec<Selection>> {
    let mut taken = Vec::with_capacity(candidates.len());
    for (block, candidate) in candidates.iter_mut().enumerate() {
        taken.push(match selected(node, block, candidate, r)? {
            Some(selected) => {
                let all = std::mem::replace(candidate, Selection::None);
                *candidate = all.and_not(&selected, r.view.block_rows(block));
                selected
            }
            None => candidate.clone(),
        });
    }
    Ok(taken)
}

/// Rows of a block's candidates that a filter selects; `None`: it fails in one of them, which is no error yet.
fn selected(node: &Node, block: usize, candidates: &Selection, r: &mut Resolver<'_, '_>) -> Result<Option<Selection>> {
    if candidates.is_none() {
        return Ok(Some(Selection::None));
    }
    r.scratch.begin(r.view, block);
    let found = match evaluate(node, r.view, r.scratch, candidates) {
        Err(Error::Arithmetic(_)) if r.lenient => None,
        found => Some(found?),
    };
    r.host.poll()?;
    Ok(found)
}

fn resolve_leaf(
    column: usize,
    predicate: HostPredicate,
    candidates: &[Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<Node> {
    match r.view.columns[column].kind {
        Kind::Codes => resolve_codes(column, predicate, candidates, r),
        Kind::Bytes => resolve_plain(column, predicate, candidates, r),
        _ => resolve_numbers(column, predicate, candidates, r),
    }
}

/// Whether a row of `candidates` is NULL.
pub(in crate::exec) fn null_occurs(source: usize, candidates: &[Selection], r: &mut Resolver<'_, '_>) -> Result<bool> {
    for (block, candidate) in candidates.iter().enumerate() {
        if candidate.is_none() {
            continue;
        }
        r.poll()?;
        r.scratch.begin(r.view, block);
        r.scratch.compute(r.view, source, candidate)?;
        if !r.scratch.is_null_free(r.view, source, candidate)? {
            let rows = r.scratch.rows();
            let null = candidate.clone().and_not(r.scratch.validity(r.view, source)?, rows);
            if !null.is_none() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Codes that occur in `candidates`, without NULL's.
pub(in crate::exec) fn occurring(column: usize, candidates: &[Selection], r: &mut Resolver<'_, '_>) -> Result<Bits> {
    let of = &r.view.columns[column];
    let len = of.dictionary_len()? as usize;
    r.memory.grow(len / 4 + 16)?;
    if of.stored().is_some() && candidates.iter().all(|c| *c == Selection::All) {
        // A dictionary holds nothing that does not occur.
        return Ok(Bits::ones(len));
    }
    let mut seen = Bits::zeros(len);
    for (block, candidate) in candidates.iter().enumerate() {
        if candidate.is_none() {
            continue;
        }
        r.scratch.begin(r.view, block);
        r.scratch.compute(r.view, column, candidate)?;
        let rows = r.scratch.rows();
        if r.scratch.validity(r.view, column)?.is_none() {
            continue;
        }
        let codes = r.scratch.codes(r.view, column)?;
        candidate.for_each(rows, |i| {
            if (codes[i] as usize) < len {
                seen.set(codes[i] as usize);
            }
        });
        r.host.poll()?;
    }
    Ok(seen)
}

fn resolve_codes(
    column: usize,
    predicate: HostPredicate,
    candidates: &[Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<Node> {
    let seen = occurring(column, candidates, r)?;
    let of = &r.view.columns[column];
    let mut selected = Bits::zeros(seen.rows());
    let mut asked = Batch::default();
    let mut codes = Vec::new();
    seen.for_each(|code| codes.push(code as u32));
    let mut buffer = Vec::new();
    for (nth, code) in codes.into_iter().enumerate() {
        if nth % STEP == 0 {
            r.poll()?;
        }
        buffer.clear();
        of.dictionary_get(code, &mut buffer)?;
        match r.memo.test(predicate, &buffer) {
            Some(true) => selected.set(code as usize),
            Some(false) => {}
            None => {
                asked.push(code, &buffer);
                if asked.ready() {
                    asked.ask(predicate, r, |code| selected.set(code as usize))?;
                }
            }
        }
    }
    asked.ask(predicate, r, |code| selected.set(code as usize))?;
    if of.constant().is_some() {
        // Every row holds the one value.
        return Ok(Node::Const(selected.count() > 0));
    }
    set_leaf(column, selected, of)
}

/// Plain byte strings: every distinct value of the rows that reach the test is asked once.
fn resolve_plain(
    column: usize,
    predicate: HostPredicate,
    candidates: &[Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<Node> {
    let mut blocks = Vec::with_capacity(candidates.len());
    for (block, candidate) in candidates.iter().enumerate() {
        if candidate.is_none() {
            blocks.push(Selection::None);
            continue;
        }
        r.scratch.begin(r.view, block);
        let rows = r.scratch.rows();
        let reach = candidate.clone().and(r.scratch.validity(r.view, column)?);
        let mut selected = Bits::zeros(rows);
        // Decoded apart: the host is asked while the values are borrowed.
        let mut values = BytesBlock::default();
        if let (false, Some(reader)) = (reach.is_none(), r.view.columns[column].stored()) {
            reader.decode_bytes(block, &mut values)?;
        }
        let mut distinct: HashSet<&[u8]> = HashSet::new();
        let mut answers: HashMap<&[u8], bool> = HashMap::new();
        let mut order = Vec::new();
        reach.for_each(rows, |i| {
            let v = value(&values, i);
            if distinct.insert(v) {
                order.push(i as u32);
            }
        });
        let mut asked = Batch::default();
        let mut yes: BTreeMap<u32, bool> = BTreeMap::new();
        for i in order {
            let v = value(&values, i as usize);
            match r.memo.test(predicate, v) {
                Some(answer) => {
                    answers.insert(v, answer);
                }
                None => {
                    asked.push(i, v);
                    yes.insert(i, false);
                    if asked.ready() {
                        asked.ask(predicate, r, |i| {
                            yes.insert(i, true);
                        })?;
                    }
                }
            }
        }
        asked.ask(predicate, r, |i| {
            yes.insert(i, true);
        })?;
        answers.extend(yes.iter().map(|(i, answer)| (value(&values, *i as usize), *answer)));
        reach.for_each(rows, |i| {
            if answers.get(value(&values, i)) == Some(&true) {
                selected.set(i);
            }
        });
        r.memory.grow(rows / 8)?;
        r.host.poll()?;
        blocks.push(Selection::of(selected));
    }
    Ok(Node::Leaf(Leaf { column, check: Check::Blocks(blocks), selectivity: 0.3 }))
}

/// Values to be shown to the host, each with a mark of the caller's.
#[derive(Default)]
struct Batch {
    values: BytesBlock,
    marks: Vec<u32>,
}

impl Batch {
    fn push(&mut self, mark: u32, value: &[u8]) {
        self.values.data.extend_from_slice(value);
        self.values.ends.push(self.values.data.len() as u32);
        self.marks.push(mark);
    }

    fn ready(&self) -> bool {
        self.marks.len() >= BATCH || self.values.data.len() > 1 << 20
    }

    /// Calls `selected` with the marks of values of which the predicate is true; the batch is empty after.
    fn ask(&mut self, predicate: HostPredicate, r: &mut Resolver<'_, '_>, mut selected: impl FnMut(u32)) -> Result<()> {
        if self.marks.is_empty() {
            return Ok(());
        }
        let answers = r.host.test(predicate, &self.values)?;
        if answers.len() != self.marks.len() {
            return Err(Error::invalid("the host answered another number of values than it was asked"));
        }
        for (i, (mark, answer)) in self.marks.iter().zip(&answers).enumerate() {
            r.memo.learn_test(predicate, value(&self.values, i), *answer)?;
            if *answer {
                selected(*mark);
            }
        }
        self.marks.clear();
        self.values.data.clear();
        self.values.ends.clear();
        r.host.poll()
    }
}
