//! Aggregates that PostgreSQL computes from what the engine counts: each distinct combination of values in each group.

use std::collections::HashMap;

use basalt_engine::exec::AggregateResult;
use basalt_engine::types::Value;
use basalt_engine::{Budget, Reservation};
use pgrx::pg_sys::Datum;

use super::scan::Inputs;
use super::sets::Combined;
use crate::error::{Error, Result};
use crate::pg::fold::{Batch, Call, Feed, FeedColumn, Fold};
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::translate::template::{ColumnTemplate, FoldTemplate, GroupsTemplate, Target};

/// Rows converted at a time.
const BATCH: usize = 1024;

/// A fold's results, group after group.
pub struct Folded {
    fold: Fold,
    /// Results of the groups that are being shown, by call.
    columns: Vec<Vec<Option<Datum>>>,
    shown: std::ops::Range<usize>,
}

impl Folded {
    /// Fold number `number` of the plan, `template`, over the combinations that each root counted.
    pub fn new(
        number: usize,
        template: &FoldTemplate,
        inputs: &Inputs,
        GroupsTemplate { targets, localized, .. }: &GroupsTemplate,
        counted: Vec<AggregateResult>,
        groups: &Combined,
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
        let feed = Combinations::new(counted, groups, template.once, codecs, budget)?;
        let width = calls.len();
        let fold = Fold::new(evaluator, &calls, &columns, &position, Box::new(feed))?;
        Ok(Folded { fold, columns: vec![Vec::new(); width], shown: 0..0 })
    }

    /// Results of call `nth` for `groups`, which follow those asked for before; copied into the current memory context.
    pub fn results(&mut self, nth: usize, groups: std::ops::Range<usize>) -> Result<Vec<Option<Datum>>> {
        if self.shown != groups {
            self.columns.iter_mut().for_each(Vec::clear);
            for _ in groups.clone() {
                if !self.fold.next() {
                    return Err(malformed());
                }
                for (nth, column) in self.columns.iter_mut().enumerate() {
                    column.push(self.fold.value(nth));
                }
            }
            self.shown = groups;
        }
        self.columns.get_mut(nth).map(std::mem::take).ok_or_else(malformed)
    }

    pub fn rewind(&mut self) {
        self.shown = 0..0;
        self.fold.rewind();
    }

    pub fn end(self) {
        self.fold.end();
    }
}

/// The combinations in order of their groups.
struct Combinations {
    /// One a root of grouping sets: its keys, then the values; the aggregate counts rows.
    counted: Vec<AggregateResult>,
    /// Rows of `counted`, group by group; those of group `g` end at `ends[g]`.
    rows: Vec<u32>,
    ends: Vec<usize>,
    /// (first group that is not of it, root, number of its keys), one a grouping set.
    spans: Vec<(usize, usize, usize)>,
    once: bool,
    codecs: Vec<Codec>,
    group: usize,
    /// Position in `rows` of the next; `begun`: the group's own row was given.
    at: usize,
    begun: bool,
    _memory: Reservation,
}

impl Combinations {
    fn new(
        counted: Vec<AggregateResult>,
        groups: &Combined,
        once: bool,
        codecs: Vec<Codec>,
        budget: &Budget,
    ) -> Result<Combinations> {
        let total: usize = groups.spans.iter().map(|s| counted[s.root].groups).sum();
        let mut memory = budget.reserve(total * 8 + groups.result.groups * 8)?;
        let mut of = Vec::with_capacity(total);
        let mut spans = Vec::new();
        for span in &groups.spans {
            let found = &counted[span.root];
            let root_keys = found.keys.len() - codecs.len();
            spans.push((span.groups.end, span.root, root_keys));
            let mut key = Vec::new();
            let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
            let mut held = budget.reserve(0)?;
            for group in span.groups.clone() {
                key.clear();
                span.set.iter().for_each(|k| groups.result.keys[*k].values[group].encode(&mut key));
                held.grow(key.len() + 64)?;
                known.insert(key.clone(), group as u32);
            }
            // Where the set's keys stand among the root's.
            let root = groups.spans.iter().find(|s| s.root == span.root).ok_or_else(malformed)?;
            let places: Vec<usize> = span.set.iter().filter_map(|k| root.set.iter().position(|r| r == k)).collect();
            for row in 0..found.groups {
                key.clear();
                places.iter().for_each(|place| found.keys[*place].values[row].encode(&mut key));
                of.push(*known.get(&key).ok_or_else(malformed)?);
                if row % 65_536 == 65_535 {
                    crate::pg::interrupts::check();
                }
            }
        }
        // Sorted by counting.
        let mut ends = vec![0usize; groups.result.groups];
        of.iter().for_each(|group| ends[*group as usize] += 1);
        let mut start = 0;
        for end in &mut ends {
            (start, *end) = (start + *end, start);
        }
        let mut rows = vec![0u32; total];
        let mut place = 0;
        for span in &groups.spans {
            for row in 0..counted[span.root].groups {
                let end = &mut ends[of[place] as usize];
                rows[*end] = row as u32;
                *end += 1;
                place += 1;
            }
        }
        drop(of);
        memory.resize(total * 4 + ends.len() * 8)?;
        Ok(Combinations { counted, rows, ends, spans, once, codecs, group: 0, at: 0, begun: false, _memory: memory })
    }
}

impl Feed for Combinations {
    fn fill(&mut self, batch: &mut Batch) -> Result<()> {
        let _fixed = self.codecs.iter().any(Codec::needs_fixed_settings).then(FixedSettings::new);
        while batch.len() < BATCH && self.group < self.ends.len() {
            if !self.begun {
                batch.begin_group(self.group as u32);
                self.begun = true;
                continue;
            }
            if self.at >= self.ends[self.group] {
                (self.group, self.begun) = (self.group + 1, false);
                continue;
            }
            let (_, root, keys) =
                self.spans.iter().find(|(end, ..)| self.group < *end).copied().ok_or_else(malformed)?;
            let (found, row) = (&self.counted[root], self.rows[self.at] as usize);
            let count = match found.aggregates.first().and_then(|c| c.values.get(row)) {
                Some(Value::I64(count)) => *count as u64,
                _ => return Err(malformed()),
            };
            self.at += 1;
            // Without keys and columns there is a combination although no row was selected.
            if count == 0 {
                continue;
            }
            batch.begin_row(self.group as u32, if self.once { 1 } else { count });
            for (codec, column) in self.codecs.iter_mut().zip(&found.keys[keys..]) {
                let (datum, null) = codec.to_datum(&column.values[row])?;
                batch.push(datum, null);
            }
        }
        Ok(())
    }

    fn rewind(&mut self) {
        (self.group, self.at, self.begun) = (0, 0, false);
    }
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the values do not fit the groups").into()
}
