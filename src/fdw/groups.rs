//! Pushed aggregation: computed whole when the first group is asked for.

use basalt_engine::exec::{AggregateExecution, AggregateResult, DerivedKeys, ExecStatistics, Parts};
use basalt_engine::plan::{AggregateCall, AggregateFunction, AggregateQuery, Filter, Host, Key, OrderId};
use basalt_engine::segment::SegmentStatistics;
use basalt_engine::types::{ColumnId, Value};
use pgrx::pg_sys::Datum;

use super::chunk::{CHUNK_ROWS, Chunk, Column};
use super::fold::Folded;
use super::keys;
use super::order;
use super::scan::{Inputs, Start};
use super::sets::{Combined, Layout};
use crate::error::{Error, Result};
use crate::pg::settings::FixedSettings;
use crate::pg::spill::TemporaryFile;
use crate::pg::values::Codec;
use crate::translate::bind;
use crate::translate::finish;
use crate::translate::host::PgHost;
use crate::translate::template::{Finish, Function, GroupsTemplate, KeyTemplate, Target};
use crate::translate::time::BucketValues;

pub struct Groups {
    groups: Combined,
    /// Of groups that did not fit in memory: the other parts.
    spilled: Option<Spilled>,
    folds: Vec<Folded>,
    outputs: Vec<Output>,
    /// Groups to show, and how many were converted.
    count: usize,
    done: usize,
    pub statistics: ExecStatistics,
    /// Statistics of the scanned segments, for what they tell about infinite inputs.
    scanned: Vec<std::sync::Arc<SegmentStatistics>>,
}

/// Groups in a temporary file.
struct Spilled {
    parts: Parts,
    file: TemporaryFile,
    layout: Layout,
    keys: usize,
    derived: DerivedKeys,
}

impl Spilled {
    fn next(&mut self, host: &mut PgHost) -> Result<Option<Combined>> {
        let part = self.parts.next(host);
        self.file.conclude();
        let part = host.conclude(part)?;
        part.map(|part| self.layout.single(self.derived.expand(part), self.keys)).transpose()
    }
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
        let mut bound_keys = Vec::new();
        let mut buckets: Vec<Option<BucketValues>> = Vec::new();
        for key in &groups.keys {
            let (key, values) = keys::bind(key, &start, inputs, host)?;
            bound_keys.push(key);
            buckets.push(values);
        }
        let aggregates = groups
            .aggregates
            .iter()
            .map(|a| {
                let filter = bind::bind(&a.filter, &inputs.bound, &inputs.expressions, host)?;
                Ok(AggregateCall { function: function(a.function), filter })
            })
            .collect::<Result<Vec<_>>>()?;
        let top = order::bind(groups, inputs)?;
        let scanned = start.segments.iter().map(|s| s.statistics.clone()).collect();
        let layout = Layout::new(&groups.sets);
        let counting = AggregateCall { function: AggregateFunction::CountStar, filter: Filter::Const(true) };
        let query = |root: &[usize], columns: &[usize], filter: Filter, aggregates: Vec<AggregateCall>| {
            let keys = root.iter().filter_map(|key| bound_keys.get(*key).cloned());
            let keys = keys.chain(columns.iter().map(|c| Key::Column(*c))).collect();
            AggregateQuery { columns: inputs.columns.clone(), filter, keys, aggregates }
        };
        // Grouping sets and folds need all groups at once.
        let file = (layout.is_single() && groups.folds.is_empty() && !groups.drop_empty).then(|| {
            let _guard = inputs.expressions.evaluator().in_query_context();
            TemporaryFile::new()
        });
        let (mut executions, mut derived) = (Vec::new(), None);
        for root in &layout.roots {
            let mut query = query(root, &[], start.filter.clone(), aggregates.clone());
            executions.push(match &file {
                Some(file) => {
                    let derived = derived.insert(DerivedKeys::new(&mut query));
                    let execution = AggregateExecution::new(query, start.options.clone())?;
                    execution.with_checks(derived.columns()).with_spill(Box::new(file.clone()))
                }
                None => AggregateExecution::new(query, start.options.clone())?,
            });
        }
        for fold in &groups.folds {
            let filter = match &fold.filter {
                Some(filter) => bind::bind(filter, &inputs.bound, &inputs.expressions, host)?,
                None => Filter::Const(true),
            };
            let filter = match filter {
                Filter::Const(true) => start.filter.clone(),
                other => Filter::And(vec![start.filter.clone(), other]),
            };
            for root in &layout.roots {
                let query = query(root, &fold.columns, filter.clone(), vec![counting.clone()]);
                executions.push(AggregateExecution::new(query, start.options.clone())?);
            }
        }
        let done = keys::scan(&mut executions, &start, host);
        file.iter().for_each(TemporaryFile::conclude);
        done?;
        let mut statistics = executions.first().map(AggregateExecution::statistics).cloned().unwrap_or_default();
        // Those of other grouping sets, and for folds, read the same rows.
        for more in executions.iter().skip(1).map(AggregateExecution::statistics) {
            statistics.bytes_touched += more.bytes_touched;
            statistics.merging += more.merging;
        }
        let merging = host.clock();
        let counting = executions.split_off(layout.roots.len());
        let mut counted = Vec::with_capacity(counting.len());
        for execution in counting {
            let result = execution.finish(host);
            counted.push(host.conclude(result)?);
        }
        let keys = groups.keys.len();
        let (combined, spilled) = match (file, executions.pop(), derived) {
            (Some(file), Some(execution), Some(derived)) => {
                let parts = execution.finish_parts(top.map(|top| derived.top(top)), host);
                file.conclude();
                let layout = Layout::new(&groups.sets);
                let mut spilled = Spilled { parts: host.conclude(parts)?, file, layout, keys, derived };
                let combined = spilled.next(host)?.ok_or_else(malformed)?;
                (combined, spilled.parts.is_spilled().then_some(spilled))
            }
            (_, last, _) => {
                executions.extend(last);
                (layout.finish(executions, keys, top.as_ref(), host)?, None)
            }
        };
        statistics.merging += merging.and_then(|begin| host.clock()?.checked_sub(begin)).unwrap_or_default();
        let mut folds = Vec::new();
        let mut counted = counted.into_iter();
        for (number, fold) in groups.folds.iter().enumerate() {
            let of_roots = counted.by_ref().take(layout.roots.len()).collect();
            let budget = &start.options.budget;
            folds.push(Folded::new(number, fold, inputs, groups, of_roots, &combined, budget)?);
        }
        // Classes have their values once all were seen.
        for (key, values) in groups.keys.iter().zip(&mut buckets) {
            if let KeyTemplate::Class { class, .. } = key {
                *values = Some(BucketValues(host.take_class(*class)));
            }
        }
        let outputs = outputs(groups, inputs, buckets)?;
        chunk.set_columns(0..outputs.len());
        let mut count = combined.result.groups;
        if groups.drop_empty && no_rows(&combined.result) {
            count = 0;
        }
        Ok(Groups { groups: combined, spilled, folds, outputs, count, done: 0, statistics, scanned })
    }

    pub fn rewind(&mut self) {
        self.done = 0;
        if let Some(spilled) = &mut self.spilled {
            // The first part comes when it is asked for.
            spilled.parts.rewind();
            self.count = 0;
        }
        self.folds.iter_mut().for_each(Folded::rewind);
    }

    pub fn end(self) {
        self.spilled.iter().for_each(|spilled| spilled.file.close());
        self.folds.into_iter().for_each(Folded::end);
    }

    /// Gets groups to fill a chunk with, if there are any.
    pub fn prepare(&mut self, host: &mut PgHost) -> Result<()> {
        while self.done >= self.count {
            let Some(part) = self.spilled.as_mut().map(|s| s.next(host)).transpose()?.flatten() else {
                break;
            };
            (self.done, self.count) = (0, part.result.groups);
            self.groups = part;
        }
        Ok(())
    }

    /// Fills the chunk with the groups that were prepared; false at the end.
    pub fn fill(&mut self, chunk: &mut Chunk) -> Result<bool> {
        if self.done >= self.count {
            return Ok(false);
        }
        let range = self.done..self.count.min(self.done + CHUNK_ROWS);
        let Groups { groups, folds, outputs, scanned, .. } = self;
        chunk.fill(range.len(), |i, column| {
            let output = outputs.get_mut(i).ok_or_else(malformed)?;
            output.convert(groups, folds, scanned, range.clone(), column)
        })?;
        self.done = range.end;
        Ok(true)
    }
}

/// Whether the aggregate that counts rows, the last one, counted none.
fn no_rows(result: &AggregateResult) -> bool {
    matches!(result.aggregates.last().and_then(|c| c.values.first()), Some(Value::I64(0)) | None)
}

fn function(function: Function) -> AggregateFunction {
    let order = |order: Option<usize>| order.map(|o| OrderId(o as u32));
    match function {
        Function::CountStar => AggregateFunction::CountStar,
        Function::Count(c) => AggregateFunction::Count(c),
        Function::CountDistinct(c) => AggregateFunction::CountDistinct(c),
        Function::Sum(c) => AggregateFunction::Sum(c),
        Function::Avg(c) => AggregateFunction::Avg(c),
        Function::Min(c, o) => AggregateFunction::Min(c, order(o)),
        Function::Max(c, o) => AggregateFunction::Max(c, order(o)),
        Function::BoolAnd(c) => AggregateFunction::BoolAnd(c),
        Function::BoolOr(c) => AggregateFunction::BoolOr(c),
        Function::BitAnd(c) => AggregateFunction::BitAnd(c),
        Function::BitOr(c) => AggregateFunction::BitOr(c),
        Function::BitXor(c) => AggregateFunction::BitXor(c),
        Function::Variance { column, sample, root } => AggregateFunction::Variance { column, sample, root },
        Function::Regression { y, x, statistic } => AggregateFunction::Regression { y, x, statistic },
        Function::CountPairs(y, x) => AggregateFunction::CountPairs(y, x),
    }
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
                    Function::Sum(column) | Function::Avg(column) => inputs.columns.get(column),
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
        groups: &Combined,
        folds: &mut [Folded],
        scanned: &[std::sync::Arc<SegmentStatistics>],
        range: std::ops::Range<usize>,
        column: &mut Column,
    ) -> Result<()> {
        let result = &groups.result;
        match self {
            Output::Grouping { keys } => {
                for group in range {
                    let span = groups.spans.iter().find(|s| group < s.groups.end).ok_or_else(malformed)?;
                    let bits = keys.iter().fold(0i32, |bits, k| bits << 1 | i32::from(!span.set.contains(k)));
                    column.push(Some(Datum::from(bits)));
                }
            }
            Output::Folded { fold, nth } => {
                let fold = folds.get_mut(*fold).ok_or_else(malformed)?;
                fold.results(*nth, range)?.into_iter().for_each(|value| column.push(value));
            }
            Output::Key { position, codec } => {
                let _fixed = codec.needs_fixed_settings().then(FixedSettings::new);
                let values = &result.keys.get(*position).ok_or_else(malformed)?.values;
                for i in range {
                    let (datum, null) = codec.to_datum(values.get(i).ok_or_else(malformed)?)?;
                    column.push((!null).then_some(datum));
                }
            }
            Output::Bucket { position, values } => {
                let numbers = &result.keys.get(*position).ok_or_else(malformed)?.values;
                for i in range {
                    let value = match numbers.get(i) {
                        Some(Value::Null) => None,
                        Some(Value::I64(number)) => {
                            let (datum, null) = *values.get(*number as usize).ok_or_else(malformed)?;
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
                let decimals = decimals.map(|d| result.aggregates.get(d).ok_or_else(malformed)).transpose()?;
                for i in range {
                    let shown = match decimals.map(|d| d.values.get(i)) {
                        Some(Some(Value::I64(shown))) => u8::try_from(*shown).ok(),
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
