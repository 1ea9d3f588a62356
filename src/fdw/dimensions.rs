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
use crate::translate::template::{AttributeColumn, DimensionTemplate, Join, LookupColumn};

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
    attributes: Vec<Arc<AttributeValues>>,
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

    /// Reads what was not read yet or has changed; returns what the joins select. `limit`: bytes that all may hold.
    pub fn load(&mut self, templates: &[DimensionTemplate], limit: usize) -> Result<Vec<Filter>> {
        let mut filters = Vec::new();
        let budget = Budget::new(limit);
        if self.loaded.iter().flatten().any(|loaded| loaded.plan.has_changed()) {
            // All are read into one budget.
            self.loaded.iter_mut().for_each(|loaded| *loaded = None);
        }
        for (nth, template) in templates.iter().enumerate() {
            let number = *self.plans.get(nth).ok_or_else(malformed)?;
            let slot = self.loaded.get_mut(nth).ok_or_else(malformed)?;
            if slot.is_none() && !self.skipped[nth] {
                // SAFETY: `new`'s contract; the executor has initialized all plans before one is executed.
                let plan = unsafe { Rows::new(self.state, number) }.ok_or_else(malformed)?;
                match read(template, plan, &budget) {
                    Ok(loaded) => *slot = Some(loaded),
                    Err(Error::Engine(basalt_engine::Error::Budget { .. })) if template.join == Join::Filter => {
                        self.skipped[nth] = true;
                    }
                    Err(error) => return Err(error),
                }
                self.bytes = budget.used();
            }
            if let Some(loaded) = slot {
                filters.extend(selected(template, loaded));
            }
        }
        Ok(filters)
    }

    pub fn lookup(&self, column: &LookupColumn) -> Result<Computed> {
        if self.skipped.get(column.dimension) == Some(&true) {
            return Ok(Computed::Native(Expr::Null));
        }
        let loaded = self.loaded.get(column.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        Ok(Computed::Lookup(Lookup { column: column.column, index: loaded.index.clone() }))
    }

    pub fn attribute(&self, column: &AttributeColumn) -> Result<Computed> {
        let loaded = self.loaded.get(column.dimension).and_then(Option::as_ref).ok_or_else(malformed)?;
        let values = loaded.attributes.get(column.at).ok_or_else(malformed)?.clone();
        Ok(Computed::Attribute(Attribute { column: column.column, values }))
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
        for _ in 0..CHUNK {
            more = plan.next(&mut values);
            if !more {
                break;
            }
            scratch.run(|| {
                let _fixed = fixed.then(FixedSettings::new);
                convert(template, key_type, &values, &mut codecs, &mut keys, &mut columns)
            })?;
        }
        grow(&mut held, &keys[before..], columns.iter().map(|c| &c[before..]))?;
    }
    let index = KeyIndex::new(physical, &keys, budget)?;
    let most = if physical == Physical::Bytes { FEW_STRINGS } else { FEW_KEYS };
    let few = (index.len() <= most).then(|| keys.iter().filter(|k| !k.is_null()).cloned().collect());
    let attributes = template
        .attributes
        .iter()
        .zip(&columns)
        .map(|(a, values)| Ok(Arc::new(AttributeValues::new(a.ty.physical(), values, budget)?)))
        .collect::<Result<_>>()?;
    Ok(Loaded { plan, rows: keys.len() as u64, index: Arc::new(index), few, attributes })
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
