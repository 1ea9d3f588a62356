//! Dimensions when a scan starts: their rows are read, and become what the engine looks up.

use std::collections::HashSet;
use std::sync::Arc;

use basalt_engine::plan::{
    Attribute, AttributeValues, Attributes, Bound, Computed, Expr, Filter, KeyIndex, Lookup, Number, Operator, Point,
    Predicate, Test,
};
use basalt_engine::types::{Physical, Value};
use basalt_engine::{Budget, Reservation};
use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::interrupts;
use crate::pg::memory::Scratch;
use crate::pg::settings::FixedSettings;
use crate::pg::subplan::Rows;
use crate::pg::values::Codec;
use crate::translate::bind;
use crate::translate::template::{
    AttributeColumn, ColumnTemplate, DimensionTemplate, Join, LookupColumn, PairColumn, PlanTemplate,
};

/// Rows converted before memory is given back.
const CHUNK: usize = 1024;
/// Up to so many keys are searched for by a filter of the stored column, which prunes segments and blocks.
const FEW_KEYS: usize = 16;
/// As many strings, which are searched for in dictionaries.
const FEW_STRINGS: usize = 4096;

/// The dimensions of a scan; they are read once, and again when their rows may have changed.
pub struct Dimensions {
    state: *mut pg_sys::EState,
    plans: Vec<i32>,
    loaded: Vec<Option<Loaded>>,
    /// Those that only filter, and have more keys than memory holds: nothing is filtered by them.
    skipped: Vec<bool>,
    bytes: usize,
}

struct Loaded {
    plan: Rows,
    rows: u64,
    /// Of one key: rows. Of several: numbers of each key's values, then numbers of the pairs, the last of which are the rows.
    indexes: Vec<Arc<KeyIndex>>,
    /// How many values the second part of each pair has.
    widths: Vec<i64>,
    /// Each key's values, if they are few.
    few: Vec<Option<Vec<Value>>>,
    /// By its rows, or by those of the lookup that `through` names.
    attributes: Vec<Arc<AttributeValues>>,
    through: Option<Through>,
}

impl Loaded {
    /// What finds rows.
    fn index(&self) -> Result<&Arc<KeyIndex>> {
        self.indexes.last().ok_or_else(malformed)
    }
}

/// What the joins of a scan select.
#[derive(Default)]
pub struct Selected {
    /// Of the datasource's rows, below the outer join that keeps the other side's rows.
    pub below: Vec<Filter>,
    pub above: Vec<Filter>,
}

/// A dimension whose key is another one's attribute: its rows are found once for each row of that.
struct Through {
    /// The lookup column of the first dimension.
    lookup: usize,
    rows: Arc<AttributeValues>,
}

impl Dimensions {
    /// # Safety
    /// `state` is that of the query that is executed, which outlives the result.
    pub unsafe fn new(state: *mut pg_sys::EState, plans: Vec<i32>) -> Dimensions {
        let loaded = plans.iter().map(|_| None).collect();
        Dimensions { state, skipped: vec![false; plans.len()], plans, loaded, bytes: 0 }
    }

    /// Bytes that they hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many rows each had, of those that were read.
    pub fn rows(&self) -> Vec<Option<u64>> {
        self.loaded.iter().map(|l| l.as_ref().map(|l| l.rows)).collect()
    }

    /// Whether what the joins select may be different from what was read.
    pub fn have_changed(&self) -> bool {
        self.loaded.iter().flatten().any(|loaded| loaded.plan.has_changed())
    }

    /// Reads what was not read yet or has changed; returns what the joins select. `limit`: bytes that all may hold.
    pub fn load(&mut self, plan: &PlanTemplate, limit: usize) -> Result<Selected> {
        let templates = &plan.dimensions;
        let mut selected = Selected::default();
        let budget = Budget::with_cancel(limit, interrupts::cancel());
        if self.have_changed() {
            // All are read into one budget.
            self.loaded.iter_mut().for_each(|loaded| *loaded = None);
        }
        for (nth, template) in templates.iter().enumerate() {
            let number = *self.plans.get(nth).ok_or_else(malformed)?;
            let slot = self.loaded.get_mut(nth).ok_or_else(malformed)?;
            if slot.is_none() && !self.skipped[nth] {
                // SAFETY: `new`'s contract; the executor has initialized all plans before one is executed.
                let rows = unsafe { Rows::new(self.state, number) }.ok_or_else(malformed)?;
                match read(template, rows, &budget) {
                    Ok(loaded) => {
                        *slot = Some(loaded);
                        if let [key] = template.keys.as_slice()
                            && let Some(ColumnTemplate::Attribute(key)) = plan.columns.get(key.column)
                            && !template.conditional
                        {
                            self.chain(nth, key, templates, &budget)?;
                        }
                    }
                    Err(Error::Engine(basalt_engine::Error::Budget { .. })) if template.join == Join::Filter => {
                        self.skipped[nth] = true;
                    }
                    Err(error) => return Err(error),
                }
                self.bytes = budget.used();
            }
            if let Some(loaded) = &self.loaded[nth] {
                let kept = plan.kept.as_ref().filter(|kept| kept.dimension == nth);
                let lookup = kept.map_or(template.lookup, |kept| kept.matched);
                let place = if template.below || kept.is_some() { &mut selected.below } else { &mut selected.above };
                place.extend(filters(template, lookup, loaded)?);
            }
        }
        Ok(selected)
    }

    /// How many rows dimension `nth` has.
    pub fn rows_of(&self, nth: usize) -> u64 {
        self.loaded.get(nth).and_then(Option::as_ref).map_or(0, |loaded| loaded.rows)
    }

    /// Finds the rows of dimension `nth` for each row of the one whose attribute its key is.
    fn chain(
        &mut self,
        nth: usize,
        key: &AttributeColumn,
        templates: &[DimensionTemplate],
        budget: &Budget,
    ) -> Result<()> {
        let (before, after) = self.loaded.split_at_mut(nth);
        let of = before.get(key.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        let own = after.first_mut().and_then(Option::as_mut).ok_or_else(malformed)?;
        let first = templates.get(key.dimension).ok_or_else(malformed)?;
        // Not where the first one's row is only asked about.
        if first.lookup != key.column {
            return Ok(());
        }
        let lookup = of.through.as_ref().map_or(first.lookup, |through| through.lookup);
        let rows = own.index()?.rows_of(of.attributes.get(key.at).ok_or_else(malformed)?, budget)?;
        for attribute in &mut own.attributes {
            *attribute = Arc::new(attribute.through(&rows, budget)?);
        }
        own.through = Some(Through { lookup, rows: Arc::new(rows) });
        Ok(())
    }

    pub fn lookup(&self, column: &LookupColumn) -> Result<Computed> {
        if self.skipped.get(column.dimension) == Some(&true) {
            return Ok(Computed::Native(Expr::Null));
        }
        let loaded = self.loaded.get(column.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        if let Some(Through { lookup, rows }) = &loaded.through {
            return Ok(Computed::Attribute(Attribute { column: *lookup, values: rows.clone() }));
        }
        let index = loaded.indexes.get(column.index).ok_or_else(malformed)?.clone();
        Ok(Computed::Lookup(Lookup { column: column.column, index }))
    }

    pub fn pair(&self, column: &PairColumn) -> Result<Computed> {
        if self.skipped.get(column.dimension) == Some(&true) {
            return Ok(Computed::Native(Expr::Null));
        }
        let loaded = self.loaded.get(column.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        let width = *loaded.widths.get(column.nth).ok_or_else(malformed)?;
        let binary = |operator, left, right| Expr::Binary {
            operator,
            number: Number::Int8,
            left: Box::new(left),
            right: Box::new(right),
        };
        let first = binary(Operator::Multiply, Expr::Column(column.left), Expr::Constant(Value::I64(width)));
        Ok(Computed::Native(binary(Operator::Add, first, Expr::Column(column.right))))
    }

    pub fn attribute(&self, column: &AttributeColumn) -> Result<Computed> {
        let loaded = self.loaded.get(column.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        let values = loaded.attributes.get(column.at).ok_or_else(malformed)?.clone();
        let lookup = loaded.through.as_ref().map_or(column.column, |through| through.lookup);
        Ok(Computed::Attribute(Attribute { column: lookup, values }))
    }
}

/// Which rows of the datasource a join keeps. `lookup`: the column of the rows that they find.
fn filters(template: &DimensionTemplate, lookup: usize, loaded: &Loaded) -> Result<Vec<Filter>> {
    let test = |column, test| Filter::Test(Predicate { column, test });
    Ok(match template.join {
        Join::Left | Join::Full => Vec::new(),
        Join::Anti => vec![test(lookup, Test::IsNull)],
        Join::Inner | Join::Semi | Join::Filter | Join::Right => {
            if loaded.index()?.is_empty() {
                return Ok(vec![Filter::Const(false)]);
            }
            let mut all = Vec::new();
            let mut decided = false;
            if loaded.through.is_none() {
                for ((key, few), index) in template.keys.iter().zip(&loaded.few).zip(&loaded.indexes) {
                    if let Some(keys) = few {
                        all.push(test(key.column, Test::In(keys.clone())));
                        decided = template.keys.len() == 1 && !template.conditional;
                    } else if let Some((low, high)) = index.range() {
                        let (low, high) = (Bound::Included(Value::I64(low)), Bound::Included(Value::I64(high)));
                        all.push(test(key.column, Test::Range { low, high }));
                    }
                }
            }
            if !decided {
                all.push(test(lookup, Test::IsNotNull));
            }
            all
        }
    })
}

fn read(template: &DimensionTemplate, mut plan: Rows, budget: &Budget) -> Result<Loaded> {
    let types = plan.types();
    let width = template.keys.len();
    if width == 0 || types.len() != template.attributes.len() + width {
        return Err(malformed());
    }
    let mut codecs: Vec<Codec> =
        template.attributes.iter().map(|a| Codec::with_type(a.ty, pg_sys::Oid::from(a.declared), a.typmod)).collect();
    let fixed = codecs.iter().any(Codec::needs_fixed_settings);
    let mut held = budget.reserve(0)?;
    let mut keys: Vec<Vec<Value>> = template.keys.iter().map(|_| Vec::new()).collect();
    let columns = template.attributes.iter().map(|a| Attributes::new(a.ty.physical(), budget));
    let mut columns = columns.collect::<basalt_engine::Result<Vec<_>>>()?;
    let scratch = Scratch::new();
    let mut values = Vec::new();
    let mut more = true;
    let mut rows = 0;
    while more {
        interrupts::check();
        let before = rows;
        scratch.run(|| {
            for _ in 0..CHUNK {
                more = plan.next(&mut values);
                if !more {
                    break;
                }
                // Not while the plan runs, which depends on them.
                let _fixed = fixed.then(FixedSettings::new);
                convert(template, &types, &values, &mut codecs, &mut keys, &mut columns)?;
                rows += 1;
            }
            Ok::<_, Error>(())
        })?;
        grow(&mut held, keys.iter().map(|c| &c[before..]))?;
    }
    let (indexes, widths) = match keys.as_slice() {
        [only] => (vec![KeyIndex::new(template.keys[0].ty.physical(), only, budget)?], Vec::new()),
        several => paired(template, several, budget)?,
    };
    let few = template.keys.iter().zip(&indexes).zip(&keys);
    let few = few.map(|((key, index), values)| few_of(key.ty.physical(), index, values)).collect();
    let attributes = columns.into_iter().map(|column| Ok(Arc::new(column.finish()?)));
    let attributes = attributes.collect::<Result<_>>()?;
    let indexes = indexes.into_iter().map(Arc::new).collect();
    Ok(Loaded { plan, rows: rows as u64, indexes, widths, few, attributes, through: None })
}

/// The different values of a key, if there are few.
fn few_of(physical: Physical, index: &KeyIndex, values: &[Value]) -> Option<Vec<Value>> {
    let most = if physical == Physical::Bytes { FEW_STRINGS } else { FEW_KEYS };
    if index.len() > most {
        return None;
    }
    let (mut few, mut strings) = (Vec::with_capacity(index.len()), HashSet::new());
    for value in values {
        let new = match value {
            Value::Null => false,
            Value::Bytes(bytes) => strings.insert(bytes.as_slice()),
            number => !few.contains(number),
        };
        if new {
            few.push(value.clone());
        }
    }
    Some(few)
}

/// Indexes of several keys: of each by itself, then of pairs of numbers, from the first on; and how many numbers the pairs' second parts have.
fn paired(template: &DimensionTemplate, keys: &[Vec<Value>], budget: &Budget) -> Result<(Vec<KeyIndex>, Vec<i64>)> {
    let (mut indexes, mut numbers) = (Vec::new(), Vec::new());
    for (key, values) in template.keys.iter().zip(keys) {
        let (index, found) = KeyIndex::numbered(key.ty.physical(), values, budget)?;
        indexes.push(index);
        numbers.push(found);
    }
    let mut widths = Vec::new();
    let mut numbers = numbers.into_iter();
    let mut left = numbers.next().ok_or_else(malformed)?;
    for (nth, right) in numbers.enumerate() {
        let width = indexes.get(nth + 1).map_or(0, KeyIndex::len) as i64;
        let pair = |(left, right): (&Option<u32>, &Option<u32>)| match (left, right) {
            (Some(left), Some(right)) => Value::I64(i64::from(*left) * width + i64::from(*right)),
            _ => Value::Null,
        };
        let pairs: Vec<Value> = left.iter().zip(&right).map(pair).collect();
        widths.push(width);
        if nth + 2 == keys.len() {
            indexes.push(KeyIndex::new(Physical::I64, &pairs, budget)?);
        } else {
            let (index, found) = KeyIndex::numbered(Physical::I64, &pairs, budget)?;
            indexes.push(index);
            left = found;
        }
    }
    Ok((indexes, widths))
}

fn convert(
    template: &DimensionTemplate,
    types: &[pg_sys::Oid],
    values: &[Option<pg_sys::Datum>],
    codecs: &mut [Codec],
    keys: &mut [Vec<Value>],
    columns: &mut [Attributes],
) -> Result<()> {
    let width = template.keys.len();
    for (nth, key) in template.keys.iter().enumerate() {
        let value = match values.get(nth).ok_or_else(malformed)? {
            None => Value::Null,
            Some(value) => match bind::point(key.ty, key.domain, *value, types[nth])? {
                Point::Exactly(value) => value,
                // Between the values that the column can hold.
                _ => Value::Null,
            },
        };
        keys[nth].push(value);
    }
    for ((value, codec), column) in values[width..].iter().zip(codecs).zip(columns) {
        let value = match value {
            None => Value::Null,
            Some(datum) => codec.to_value(*datum, false)?,
        };
        column.push(&value)?;
    }
    Ok(())
}

/// Accounts for keys that were added.
fn grow<'v>(held: &mut Reservation, columns: impl Iterator<Item = &'v [Value]>) -> Result<()> {
    let of = |values: &[Value]| -> usize {
        let bytes = |v: &Value| if let Value::Bytes(bytes) = v { bytes.capacity() } else { 0 };
        values.iter().map(|v| size_of::<Value>() + bytes(v)).sum()
    };
    Ok(held.grow(columns.map(of).sum())?)
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its dimensions").into()
}
