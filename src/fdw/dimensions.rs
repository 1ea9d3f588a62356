//! Dimensions when a scan starts: their rows are read, and become what the engine looks up.

use std::sync::Arc;

use basalt_engine::plan::{
    Attribute, AttributeValues, Bound, Computed, Expr, Filter, KeyIndex, Lookup, Point, Predicate, Test,
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
    AttributeColumn, ColumnTemplate, DimensionTemplate, Join, LookupColumn, PlanTemplate,
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
    index: Arc<KeyIndex>,
    /// The keys, if they are few.
    few: Option<Vec<Value>>,
    /// By its rows, or by those of the lookup that `through` names.
    attributes: Vec<Arc<AttributeValues>>,
    through: Option<Through>,
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
    pub fn load(&mut self, plan: &PlanTemplate, limit: usize) -> Result<Vec<Filter>> {
        let templates = &plan.dimensions;
        let mut filters = Vec::new();
        let budget = Budget::new(limit);
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
                        if let Some(ColumnTemplate::Attribute(key)) = plan.columns.get(template.key) {
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
                filters.extend(selected(template, loaded));
            }
        }
        Ok(filters)
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
        let lookup = templates.get(key.dimension).ok_or_else(malformed)?.lookup;
        let lookup = of.through.as_ref().map_or(lookup, |through| through.lookup);
        let rows = own.index.rows_of(of.attributes.get(key.at).ok_or_else(malformed)?, budget)?;
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
        Ok(Computed::Lookup(Lookup { column: column.column, index: loaded.index.clone() }))
    }

    pub fn attribute(&self, column: &AttributeColumn) -> Result<Computed> {
        let loaded = self.loaded.get(column.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        let values = loaded.attributes.get(column.at).ok_or_else(malformed)?.clone();
        let lookup = loaded.through.as_ref().map_or(column.column, |through| through.lookup);
        Ok(Computed::Attribute(Attribute { column: lookup, values }))
    }
}

/// Of which rows of the datasource a join keeps.
fn selected(template: &DimensionTemplate, loaded: &Loaded) -> Vec<Filter> {
    let test = |column, test| Filter::Test(Predicate { column, test });
    match template.join {
        Join::Left => Vec::new(),
        Join::Anti => vec![test(template.lookup, Test::IsNull)],
        Join::Inner | Join::Semi | Join::Filter => {
            if loaded.index.is_empty() {
                return vec![Filter::Const(false)];
            }
            if loaded.through.is_some() {
                return vec![test(template.lookup, Test::IsNotNull)];
            }
            if let Some(keys) = &loaded.few {
                return vec![test(template.key, Test::In(keys.clone()))];
            }
            let within = loaded.index.range().map(|(low, high)| {
                let (low, high) = (Bound::Included(Value::I64(low)), Bound::Included(Value::I64(high)));
                test(template.key, Test::Range { low, high })
            });
            within.into_iter().chain([test(template.lookup, Test::IsNotNull)]).collect()
        }
    }
}

fn read(template: &DimensionTemplate, mut plan: Rows, budget: &Budget) -> Result<Loaded> {
    let types = plan.types();
    let (Some(key_type), true) = (types.first().copied(), types.len() == template.attributes.len() + 1) else {
        return Err(malformed());
    };
    let physical = template.key_type.physical();
    let mut codecs: Vec<Codec> =
        template.attributes.iter().map(|a| Codec::with_type(a.ty, pg_sys::Oid::from(a.declared), a.typmod)).collect();
    let fixed = codecs.iter().any(Codec::needs_fixed_settings);
    let mut held = budget.reserve(0)?;
    let mut keys: Vec<Value> = Vec::new();
    let mut columns: Vec<Vec<Value>> = codecs.iter().map(|_| Vec::new()).collect();
    let scratch = Scratch::new();
    let mut values = Vec::new();
    let mut more = true;
    while more {
        interrupts::check();
        let before = keys.len();
        scratch.run(|| {
            for _ in 0..CHUNK {
                more = plan.next(&mut values);
                if !more {
                    break;
                }
                // Not while the plan runs, which depends on them.
                let _fixed = fixed.then(FixedSettings::new);
                convert(template, key_type, &values, &mut codecs, &mut keys, &mut columns)?;
            }
            Ok::<_, Error>(())
        })?;
        grow(&mut held, &keys[before..], columns.iter().map(|c| &c[before..]))?;
    }
    let index = KeyIndex::new(physical, &keys, budget)?;
    let most = if physical == Physical::Bytes { FEW_STRINGS } else { FEW_KEYS };
    let few = (index.len() <= most).then(|| keys.iter().filter(|k| !k.is_null()).cloned().collect());
    // No thread of the engine runs yet.
    let mut look = || {
        crate::pg::interrupts::check();
        Ok(())
    };
    let attributes = template
        .attributes
        .iter()
        .zip(&columns)
        .map(|(a, values)| Ok(Arc::new(AttributeValues::new(a.ty.physical(), values, budget, &mut look)?)))
        .collect::<Result<_>>()?;
    Ok(Loaded { plan, rows: keys.len() as u64, index: Arc::new(index), few, attributes, through: None })
}

fn convert(
    template: &DimensionTemplate,
    key_type: pg_sys::Oid,
    values: &[Option<pg_sys::Datum>],
    codecs: &mut [Codec],
    keys: &mut Vec<Value>,
    columns: &mut [Vec<Value>],
) -> Result<()> {
    let Some((key, attributes)) = values.split_first() else { return Err(malformed()) };
    let key = match key {
        None => Value::Null,
        Some(key) => match bind::point(template.key_type, template.domain, *key, key_type)? {
            Point::Exactly(value) => value,
            // Between the values that the column can hold.
            _ => Value::Null,
        },
    };
    keys.push(key);
    for ((value, codec), column) in attributes.iter().zip(codecs).zip(columns) {
        let value = match value {
            None => Value::Null,
            Some(datum) => codec.to_value(*datum, false)?,
        };
        column.push(value);
    }
    Ok(())
}

/// Accounts for values that were added.
fn grow<'v>(held: &mut Reservation, keys: &[Value], columns: impl Iterator<Item = &'v [Value]>) -> Result<()> {
    let of = |values: &[Value]| -> usize {
        let bytes = |v: &Value| if let Value::Bytes(bytes) = v { bytes.capacity() } else { 0 };
        values.iter().map(|v| size_of::<Value>() + bytes(v)).sum()
    };
    let added = of(keys) + columns.map(of).sum::<usize>();
    Ok(held.grow(added)?)
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its dimensions").into()
}
