//! Pushed aggregation: computed whole when the first group is asked for.

use std::rc::Rc;

use basalt_engine::Budget;
use basalt_engine::exec::{AggregateExecution, AggregateResult, DerivedKeys, ExecStatistics, SpillHash};
use basalt_engine::plan::{self, AggregateCall, AggregateFunction, AggregateQuery, Filter, Host, Key, Top};
use basalt_engine::segment::SegmentStatistics;
use basalt_engine::types::{ColumnId, Value};
use pgrx::pg_sys::Datum;

use super::chunk::{CHUNK_ROWS, Chunk, Column};
use super::combinations;
use super::fold::Folded;
use super::keys::{self, Execution};
use super::order;
use super::scan::{Inputs, Start};
use super::sets::{Layout, Part, Sets};
use super::temporary::Files;
use crate::error::{Error, Result};
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::translate::bind;
use crate::translate::finish;
use crate::translate::host::PgHost;
use crate::translate::pieces::BucketValues;
use crate::translate::template::{Finish, GroupsTemplate, KeyTemplate, Target};

pub struct Groups {
    sets: Sets,
    /// The groups that are being shown.
    part: Option<Rc<Part>>,
    folds: Vec<Folded>,
    /// Aggregates that count the distinct values which a part's further executions found.
    counted: Vec<Counted>,
    outputs: Vec<Output>,
    /// Groups of the part to show, and how many were converted.
    count: usize,
    done: usize,
    drop_empty: bool,
    budget: Budget,
    pub statistics: ExecStatistics,
    /// Statistics of the scanned segments, for what they tell about infinite inputs.
    scanned: Vec<std::sync::Arc<SegmentStatistics>>,
}

/// A `count(DISTINCT)` of which memory does not hold all values.
struct Counted {
    aggregate: usize,
    /// Which of a part's further executions has the values.
    other: usize,
    /// Of the groups that are being shown.
    counts: Vec<i64>,
}

/// What a float sum is of.
#[derive(Clone, Copy)]
enum Input {
    Stored(ColumnId),
    /// Nothing is known of its values.
    Computed,
}

/// How a column of the tuple is made.
enum Output {
    Key {
        position: usize,
        codec: Codec,
    },
    Bucket {
        position: usize,
        values: Vec<(Datum, bool)>,
    },
    Aggregate {
        position: usize,
        finish: Finish,
        codec: Option<Codec>,
        input: Input,
        decimals: Option<usize>,
    },
    /// Positions in the query's keys.
    Grouping {
        keys: Vec<usize>,
    },
    Folded {
        fold: usize,
        nth: usize,
    },
}

impl Groups {
    pub fn compute(
        start: Start,
        groups: &GroupsTemplate,
        inputs: &Inputs,
        chunk: &mut Chunk,
        host: &mut PgHost,
    ) -> Result<Groups> {
        let mut bound = Bound { keys: Vec::new(), aggregates: Vec::new(), folds: Vec::new(), top: None };
        let mut buckets: Vec<Option<BucketValues>> = Vec::new();
        for key in &groups.keys {
            let (key, values) = keys::bind(key, &start, inputs, host)?;
            bound.keys.push(key);
            buckets.push(values);
        }
        let stored = |column| inputs.stored(&start.segments, column);
        let scope = inputs.scope(&stored);
        let selected = |column| plan::bounds(&start.filter, column);
        for aggregate in &groups.aggregates {
            let filter = bind::bind_within(&aggregate.filter, scope, &selected, host)?;
            bound.aggregates.push(AggregateCall { function: aggregate.function, filter });
        }
        for fold in &groups.folds {
            let filter = match &fold.filter {
                Some(filter) => bind::bind_within(filter, scope, &selected, host)?,
                None => Filter::Const(true),
            };
            bound.folds.push(filter);
        }
        bound.top = order::bind(groups, inputs)?;
        let scanned = start.segments.iter().map(|s| s.statistics.clone()).collect();
        let (sets, counted, statistics) = match bound.run(&start, groups, inputs, false, host)? {
            Some(done) => done,
            // Sets of distinct values that memory does not hold are divided as groups are.
            None => bound.run(&start, groups, inputs, true, host)?.ok_or_else(malformed)?,
        };
        let budget = start.options.budget.clone();
        let folds = groups.folds.iter().enumerate();
        let folds = folds.map(|(number, fold)| Folded::new(number, fold, inputs, groups, &budget));
        let folds = folds.collect::<Result<Vec<_>>>()?;
        // Classes have their values once all were seen.
        for (key, values) in groups.keys.iter().zip(&mut buckets) {
            if let KeyTemplate::Class { class, .. } = key {
                *values = Some(BucketValues(host.take_class(*class)));
            }
        }
        let outputs = outputs(groups, inputs, buckets)?;
        chunk.set_columns(0..outputs.len());
        let drop_empty = groups.drop_empty;
        let (part, count, done) = (None, 0, 0);
        Ok(Groups { sets, part, folds, counted, outputs, count, done, drop_empty, budget, statistics, scanned })
    }

    pub fn rewind(&mut self) {
        self.sets.rewind();
        (self.part, self.count, self.done) = (None, 0, 0);
    }

    pub fn end(self) {
        self.folds.into_iter().for_each(Folded::end);
        self.sets.end();
    }

    /// Turns to the next part; false at the end.
    fn advance(&mut self, host: &mut PgHost) -> Result<bool> {
        // Memory for the next one.
        self.part = None;
        self.folds.iter_mut().for_each(Folded::release);
        let Some(part) = self.sets.next(host)? else { return Ok(false) };
        for counted in &mut self.counted {
            counted.counts = combinations::count_values(&part, counted.other, &self.budget, host)?;
        }
        self.folds.iter_mut().try_for_each(|fold| fold.begin(&part))?;
        self.done = 0;
        self.count = if self.drop_empty && no_rows(&part.result) { 0 } else { part.result.groups };
        self.part = Some(part);
        Ok(true)
    }

    /// Gets groups to fill a chunk with, if there are any.
    pub fn prepare(&mut self, host: &mut PgHost) -> Result<()> {
        while self.done >= self.count {
            if !self.advance(host)? {
                break;
            }
        }
        Ok(())
    }

    /// Fills the chunk with the groups that were prepared; false at the end.
    pub fn fill(&mut self, chunk: &mut Chunk) -> Result<bool> {
        if self.done >= self.count {
            return Ok(false);
        }
        let range = self.done..self.count.min(self.done + CHUNK_ROWS);
        let Groups { part, folds, counted, outputs, scanned, .. } = self;
        let part = part.as_ref().ok_or_else(malformed)?;
        chunk.fill(range.len(), |i, column| {
            let output = outputs.get_mut(i).ok_or_else(malformed)?;
            output.convert(part, folds, counted, scanned, range.clone(), column)
        })?;
        self.done = range.end;
        Ok(true)
    }
}

/// What is asked of the engine.
struct Bound {
    keys: Vec<Key>,
    aggregates: Vec<AggregateCall>,
    /// FILTERs of the folds.
    folds: Vec<Filter>,
    top: Option<Top>,
}

impl Bound {
    /// Scans and finishes. `apart`: distinct values are counted from groups of their own. `None`: they have to be.
    #[allow(clippy::type_complexity)]
    fn run(
        &self,
        start: &Start,
        groups: &GroupsTemplate,
        inputs: &Inputs,
        apart: bool,
        host: &mut PgHost,
    ) -> Result<Option<(Sets, Vec<Counted>, ExecStatistics)>> {
        let counting = AggregateCall { function: AggregateFunction::CountStar, filter: Filter::Const(true) };
        let narrowed = |filter: &Filter, clause: &Filter| match clause {
            Filter::Const(true) => filter.clone(),
            clause => Filter::And(vec![filter.clone(), clause.clone()]),
        };
        // Columns, further filter and aggregates of each execution over the keys of a set.
        let mut aggregates = self.aggregates.clone();
        let mut further: Vec<(Vec<Key>, Filter)> = Vec::new();
        for (fold, filter) in groups.folds.iter().zip(&self.folds) {
            further.push((fold.columns.iter().map(|c| Key::Exact(*c)).collect(), filter.clone()));
        }
        let mut counted = Vec::new();
        let distinct = |call: &AggregateCall| match call.function {
            AggregateFunction::CountDistinct(column) => Some(column),
            _ => None,
        };
        let divisible = self.aggregates.iter().any(|call| distinct(call).is_some());
        if apart {
            for (aggregate, call) in aggregates.iter_mut().enumerate() {
                let Some(column) = distinct(call) else { continue };
                call.function = AggregateFunction::Count(column);
                counted.push(Counted { aggregate, other: further.len(), counts: Vec::new() });
                further.push((vec![Key::Column(column)], call.filter.clone()));
            }
        }
        let hash = SpillHash::default();
        let mut files = Files::new(*inputs.expressions.evaluator());
        let layout = Layout::new(&groups.sets);
        let mut roots = Vec::with_capacity(layout.roots.len());
        let (mut derived, simple) = (None, layout.is_single() && further.is_empty());
        for root in &layout.roots {
            let keys: Vec<Key> = root.iter().filter_map(|key| self.keys.get(*key).cloned()).collect();
            let mut add = |own: &[Key], clause: &Filter, aggregates: Vec<AggregateCall>| {
                let keys: Vec<Key> = keys.iter().chain(own).cloned().collect();
                let (columns, filter) = (inputs.columns.clone(), narrowed(&start.filter, clause));
                let unmatched = start.unmatched.as_ref().map(|unmatched| narrowed(&unmatched.filter, clause));
                let mut query = AggregateQuery { columns, filter, keys, aggregates };
                let derived = simple.then(|| &*derived.insert(DerivedKeys::new(&mut query)));
                let (leading, checks) =
                    (root.len().min(query.keys.len()), derived.map_or(&[][..], DerivedKeys::columns));
                let execution = AggregateExecution::new(query, start.options.clone())?.with_checks(checks);
                Ok::<_, Error>(Execution { engine: execution.with_spill(files.add(), leading, &hash), unmatched })
            };
            let mut executions = vec![add(&[], &Filter::Const(true), aggregates.clone())?];
            for (own, filter) in &further {
                executions.push(add(own, filter, vec![counting.clone()])?);
            }
            roots.push(executions);
        }
        let done = keys::scan(roots.iter_mut().flatten(), start, simple, host);
        let roots: Vec<Vec<AggregateExecution>> =
            roots.into_iter().map(|root| root.into_iter().map(|execution| execution.engine).collect()).collect();
        files.conclude();
        let short = matches!(done, Err(Error::Engine(basalt_engine::Error::Budget { .. })));
        let spilled = roots.iter().any(|root| root.first().is_some_and(AggregateExecution::has_spilled));
        if divisible && !apart && (short || spilled) {
            files.close();
            return Ok(None);
        }
        done?;
        let mut all = roots.iter().flatten().map(AggregateExecution::statistics);
        let mut statistics = all.next().cloned().unwrap_or_default();
        // Those of other grouping sets, and for folds, read the same rows.
        for more in all {
            statistics.bytes_touched += more.bytes_touched;
            statistics.merging += more.merging;
        }
        let merging = host.clock();
        // An order by counts that are not known yet needs all groups.
        let top = self.top.clone().filter(|_| !apart);
        let top = top.map(|top| derived.as_ref().map_or_else(|| top.clone(), |derived| derived.top(top.clone())));
        let sets = layout.finish(roots, self.keys.len(), top, derived, files, host)?;
        statistics.merging += merging.and_then(|begin| host.clock()?.checked_sub(begin)).unwrap_or_default();
        Ok(Some((sets, counted, statistics)))
    }
}

/// Whether the aggregate that counts rows, the last one, counted none.
fn no_rows(result: &AggregateResult) -> bool {
    matches!(result.aggregates.last().and_then(|c| c.values.get(0)), Some(Value::I64(0)) | None)
}

fn outputs(groups: &GroupsTemplate, inputs: &Inputs, mut buckets: Vec<Option<BucketValues>>) -> Result<Vec<Output>> {
    let _guard = inputs.expressions.evaluator().in_query_context();
    let codec = |column: usize| {
        let column = inputs.bound.get(column).ok_or_else(malformed)?;
        Ok::<_, Error>(Codec::with_type(column.ty, column.declared, column.typmod))
    };
    groups
        .targets
        .iter()
        .map(|target| match *target {
            Target::Key(position) => {
                match (groups.keys.get(position), buckets.get_mut(position).and_then(Option::take)) {
                    (Some(KeyTemplate::Column(column)), _) => Ok(Output::Key { position, codec: codec(*column)? }),
                    (_, Some(values)) => Ok(Output::Bucket { position, values: values.0 }),
                    _ => Err(malformed()),
                }
            }
            Target::Grouping(position) => {
                Ok(Output::Grouping { keys: groups.groupings.get(position).ok_or_else(malformed)?.clone() })
            }
            Target::Folded(fold, nth) => Ok(Output::Folded { fold, nth }),
            Target::Aggregate(position) => {
                let template = groups.aggregates.get(position).ok_or_else(malformed)?;
                let codec = match template.result {
                    Finish::Column(column) => Some(codec(column)?),
                    _ => None,
                };
                let input = match template.function {
                    AggregateFunction::Sum(column) | AggregateFunction::Avg(column) => inputs.columns.get(column),
                    _ => None,
                };
                let stored = input.filter(|c| c.computed.is_none());
                let input = stored.map_or(Input::Computed, |c| Input::Stored(c.id));
                Ok(Output::Aggregate { position, finish: template.result, codec, input, decimals: template.decimals })
            }
        })
        .collect()
}

impl Output {
    fn convert(
        &mut self,
        part: &Part,
        folds: &mut [Folded],
        counted: &[Counted],
        scanned: &[std::sync::Arc<SegmentStatistics>],
        range: std::ops::Range<usize>,
        column: &mut Column,
    ) -> Result<()> {
        let result = &part.result;
        match self {
            Output::Grouping { keys } => {
                let bits = keys.iter().fold(0i32, |bits, k| bits << 1 | i32::from(!part.set.contains(k)));
                range.for_each(|_| column.push(Some(Datum::from(bits))));
            }
            Output::Folded { fold, nth } => {
                let fold = folds.get_mut(*fold).ok_or_else(malformed)?;
                fold.results(*nth, range)?.into_iter().for_each(|value| column.push(value));
            }
            Output::Key { position, codec } => {
                let _fixed = codec.needs_fixed_settings().then(FixedSettings::new);
                let values = &result.keys.get(*position).ok_or_else(malformed)?.values;
                for i in range {
                    let (datum, null) = codec.to_datum(&values.get(i).ok_or_else(malformed)?)?;
                    column.push((!null).then_some(datum));
                }
            }
            Output::Bucket { position, values } => {
                let numbers = &result.keys.get(*position).ok_or_else(malformed)?.values;
                for i in range {
                    let value = match numbers.get(i) {
                        Some(Value::Null) => None,
                        Some(Value::I64(number)) => {
                            let (datum, null) = *values.get(number as usize).ok_or_else(malformed)?;
                            (!null).then_some(datum)
                        }
                        _ => return Err(malformed()),
                    };
                    column.push(value);
                }
            }
            Output::Aggregate { position, finish, codec, input, decimals } => {
                let _fixed = codec.as_ref().is_some_and(Codec::needs_fixed_settings).then(FixedSettings::new);
                let values = result.aggregates.get(*position).ok_or_else(malformed)?;
                if let Some(counted) = counted.iter().find(|c| c.aggregate == *position) {
                    let counts = counted.counts.get(range).ok_or_else(malformed)?;
                    counts.iter().for_each(|count| column.push(Some(Datum::from(*count))));
                    return Ok(());
                }
                let decimals = decimals.map(|d| result.aggregates.get(d).ok_or_else(malformed)).transpose()?;
                for i in range {
                    let shown = match decimals.map(|d| d.values.get(i)) {
                        Some(Some(Value::I64(shown))) => u8::try_from(shown).ok(),
                        _ => None,
                    };
                    let mut finite = || all_finite(scanned, *input);
                    let value = finish::aggregate(values, i, *finish, shown, codec.as_mut(), &mut finite)?;
                    column.push(value);
                }
            }
        }
        Ok(())
    }
}

/// Whether the column is known to hold no infinities and no NaN.
fn all_finite(scanned: &[std::sync::Arc<SegmentStatistics>], input: Input) -> bool {
    let Input::Stored(id) = input else { return false };
    let finite = |value: &Value| match value {
        Value::F64(v) => v.is_finite(),
        _ => true,
    };
    scanned.iter().flat_map(|s| s.columns.iter()).filter(|c| c.id == id).all(|c| finite(&c.min) && finite(&c.max))
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the result does not fit the plan").into()
}
