//! Aggregates that PostgreSQL computes from what the engine counts: each distinct combination of values in each group.

use std::cell::RefCell;
use std::rc::Rc;

use basalt_engine::Budget;
use pgrx::pg_sys::Datum;

use super::combinations::Combinations;
use super::scan::Inputs;
use super::selection::Selection;
use super::sets::Part;
use crate::error::{Error, Result};
use crate::pg::fold::{Batch, Call, Feed, FeedColumn, Fold};
use crate::pg::node::View;
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::translate::template::{ColumnTemplate, FoldTemplate, GroupsTemplate, Target};

/// A fold's results, group after group.
pub struct Folded {
    fold: Fold,
    feed: Rc<RefCell<Combinations>>,
    /// One a call, if all of them need no sorting of rows.
    selections: Option<Vec<Selection>>,
    budget: Budget,
    /// Which of a part's further executions is read.
    number: usize,
    begun: bool,
    /// Groups of the part that the fold went past.
    passed: usize,
    /// Results of the groups that are being shown, by call.
    columns: Vec<Vec<Option<Datum>>>,
    shown: std::ops::Range<usize>,
}

impl Folded {
    /// Fold number `number` of the plan, `template`.
    pub fn new(
        number: usize,
        template: &FoldTemplate,
        inputs: &Inputs,
        GroupsTemplate { targets, localized, .. }: &GroupsTemplate,
        budget: &Budget,
    ) -> Result<Folded> {
        let evaluator = inputs.expressions.evaluator();
        let mut calls: Vec<(usize, Call<'_>)> = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            if let Target::Folded(fold, nth) = target
                && *fold == number
            {
                let behind = localized.iter().position(|l| *l == at).map(|nth| targets.len() + nth);
                let node = inputs.targets.get(behind.unwrap_or(at)).ok_or_else(malformed)?;
                calls.push((*nth, Call { aggregate: *node, filtered: template.filter.is_some() }));
            }
        }
        calls.sort_by_key(|(nth, _)| *nth);
        let calls: Vec<Call<'_>> = calls.into_iter().map(|(_, call)| call).collect();
        let mut columns = Vec::new();
        let mut codecs = Vec::new();
        let guard = evaluator.in_query_context();
        for column in &template.columns {
            let bound = inputs.bound.get(*column).ok_or_else(malformed)?;
            columns.push(FeedColumn { ty: bound.declared, typmod: bound.typmod });
            codecs.push(Codec::with_type(bound.ty, bound.declared, bound.typmod));
        }
        drop(guard);
        let position = |attribute: i16| {
            let looked_up = |c: &ColumnTemplate| matches!(c, ColumnTemplate::Attribute(a) if a.number == attribute);
            if let Some(column) = inputs.template.columns.iter().position(looked_up) {
                return template.columns.iter().position(|c| *c == column);
            }
            let schema = &inputs.datasource.schema;
            let of =
                usize::try_from(attribute - 1).ok().and_then(|a| inputs.datasource.attributes.get(a).copied())??;
            let column = inputs.columns.iter().position(|c| c.id == schema.columns[of].id)?;
            template.columns.iter().position(|c| *c == column)
        };
        let feed = Rc::new(RefCell::new(Combinations::new(codecs, template.once, budget, *evaluator)));
        let width = calls.len();
        let selection = |call: &Call<'_>| match (call.aggregate.view(), template.columns.as_slice()) {
            (View::Aggregate(of), [column]) => {
                Selection::new(&of, call.filtered, inputs.bound.get(*column)?, evaluator)
            }
            _ => None,
        };
        let selections = calls.iter().map(selection).collect();
        let fold = Fold::new(evaluator, &calls, &columns, &position, Box::new(Shared(feed.clone())))?;
        let (columns, budget) = (vec![Vec::new(); width], budget.clone());
        Ok(Folded { fold, feed, selections, budget, number, begun: false, passed: 0, columns, shown: 0..0 })
    }

    /// Lets go of the part.
    pub fn release(&mut self) {
        self.feed.borrow_mut().release();
    }

    /// Turns to the groups of a part.
    pub fn begin(&mut self, part: &Rc<Part>) -> Result<()> {
        (self.shown, self.passed) = (0..0, 0);
        self.feed.borrow_mut().begin(part.clone(), self.number)?;
        if std::mem::replace(&mut self.begun, true) {
            self.fold.rewind();
        }
        Ok(())
    }

    /// Results of call `nth` for `groups`, which follow those asked for before; copied into the current memory context.
    pub fn results(&mut self, nth: usize, groups: std::ops::Range<usize>) -> Result<Vec<Option<Datum>>> {
        if let Some(selection) = self.selections.as_mut().and_then(|all| all.get_mut(nth)) {
            let _fixed = selection.needs_fixed_settings().then(FixedSettings::new);
            let feed = self.feed.borrow();
            let results = groups.clone().map(|group| {
                crate::pg::slots::pace()?;
                feed.of_group(group, |found, rows| selection.result(found, rows, &self.budget)).transpose()
            });
            match results.collect::<Result<Option<Vec<_>>>>() {
                Ok(Some(results)) => return Ok(results),
                // PostgreSQL sorts in files.
                Ok(None) | Err(Error::Engine(basalt_engine::Error::Budget { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        if self.shown != groups {
            self.columns.iter_mut().for_each(Vec::clear);
            while self.passed < groups.end {
                if !self.fold.next() {
                    return Err(malformed());
                }
                self.passed += 1;
                // Those before were found without the fold.
                if self.passed <= groups.start {
                    continue;
                }
                for (nth, column) in self.columns.iter_mut().enumerate() {
                    column.push(self.fold.value(nth));
                }
            }
            self.shown = groups;
        }
        self.columns.get_mut(nth).map(std::mem::take).ok_or_else(malformed)
    }

    pub fn end(self) {
        self.fold.end();
    }
}

/// What the fold's node reads.
struct Shared(Rc<RefCell<Combinations>>);

impl Feed for Shared {
    fn fill(&mut self, batch: &mut Batch) -> Result<()> {
        crate::pg::slots::pace()?;
        self.0.borrow_mut().fill(batch)
    }

    fn rewind(&mut self) {
        self.0.borrow_mut().rewind();
    }
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the values do not fit the groups").into()
}
