//! Percentiles and modes of one column, from each group's distinct values and how often each occurs: what sorting all rows would find.
//! The formulas are those of PostgreSQL's orderedsetaggs.c.

use basalt_engine::Budget;
use basalt_engine::exec::{AggregateResult, Values, float_key};
use basalt_engine::sort_by;
use basalt_engine::types::{LogicalType, Physical, Value};
use pgrx::pg_sys::{self, Datum, Oid};

use super::combinations::count_of;
use crate::error::{Error, Result};
use crate::pg::array;
use crate::pg::eval::{Compiled, Evaluator};
use crate::pg::interrupts;
use crate::pg::lookup;
use crate::pg::node::{AggregateView, Node, View};
use crate::pg::values::Codec;
use crate::translate::bind::BoundColumn;
use crate::translate::infallible;
use crate::translate::shippable;

/// One call.
pub struct Selection {
    kind: Kind,
    /// Shares of the rows, each in [0, 1].
    fractions: Vec<f64>,
    /// The array that they are from.
    array: Option<Datum>,
    descending: bool,
    /// Values are ordered by this collation, which is not that of their bytes.
    collation: Option<Oid>,
    codec: Codec,
    /// The cast to double precision that is aggregated, with a placeholder for the column. It keeps the order of values.
    cast: Option<Compiled>,
    element: Oid,
    evaluator: Evaluator,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Mode,
    Discrete,
    Continuous,
}

fn kind(function: Oid) -> Option<Kind> {
    Some(match function.to_u32() {
        pg_sys::F_MODE => Kind::Mode,
        pg_sys::F_PERCENTILE_DISC_FLOAT8_ANYELEMENT | pg_sys::F_PERCENTILE_DISC__FLOAT8_ANYELEMENT => Kind::Discrete,
        pg_sys::F_PERCENTILE_CONT_FLOAT8_FLOAT8 | pg_sys::F_PERCENTILE_CONT__FLOAT8_FLOAT8 => Kind::Continuous,
        _ => return None,
    })
}

/// Whether a direct argument is an array.
fn is_array(direct: Node<'_>) -> bool {
    direct.ty() == pg_sys::FLOAT8ARRAYOID
}

/// The fractions in a direct argument's value; `None`: PostgreSQL makes NULL, an empty array or an error of it.
fn fractions(direct: Node<'_>, value: Datum) -> Option<Vec<f64>> {
    let all: Vec<f64> = if is_array(direct) {
        let elements = array::elements(value, pg_sys::FLOAT8OID);
        elements.into_iter().map(|e| e.map(|e| f64::from_bits(e.value() as u64))).collect::<Option<_>>()?
    } else {
        vec![f64::from_bits(value.value() as u64)]
    };
    (!all.is_empty() && all.iter().all(|f| (0.0..=1.0).contains(f))).then_some(all)
}

/// Whether an aggregate that PostgreSQL computes raises no error, whatever the values (but for results beyond a gigabyte).
pub fn never_fails(call: &AggregateView<'_>) -> bool {
    let direct = |node: &Node<'_>| match node.view() {
        View::Const { null: false, value } => fractions(*node, value).is_some(),
        _ => false,
    };
    let known = matches!(
        call.function.to_u32(),
        pg_sys::F_STRING_AGG_TEXT_TEXT
            | pg_sys::F_ARRAY_AGG_ANYNONARRAY
            | pg_sys::F_COUNT_ANY
            | pg_sys::F_SUM_INT2
            | pg_sys::F_SUM_INT4
            | pg_sys::F_SUM_INT8
            | pg_sys::F_AVG_INT2
            | pg_sys::F_AVG_INT4
            | pg_sys::F_AVG_INT8
    );
    (known || kind(call.function).is_some())
        && call.direct.iter().all(direct)
        && call.order_operators.iter().all(|operator| lookup::is_built_in(lookup::operator_function(*operator)))
        && call.args.iter().chain(&call.filter).all(|node| infallible::never_fails(*node) || is_cast(*node))
}

/// Whether an expression is a column as a double, or so but for changes of type that leave values as they are.
fn is_cast(node: Node<'_>) -> bool {
    match node.view() {
        View::Func(f) => {
            let widens = matches!(
                f.function.to_u32(),
                pg_sys::F_FLOAT8_INT2 | pg_sys::F_FLOAT8_INT4 | pg_sys::F_FLOAT8_INT8 | pg_sys::F_FLOAT8_FLOAT4
            );
            let [argument] = f.args.as_slice() else { return false };
            is_column(*argument) && (widens || f.function.to_u32() == pg_sys::F_FLOAT8_NUMERIC && is_short(*argument))
        }
        _ => false,
    }
}

/// Whether a column is of decimals that the engine keeps as integers, all of which are in the range of doubles.
fn is_short(column: Node<'_>) -> bool {
    column.typmod() >= 4 && matches!((column.typmod() - 4) >> 16, 1..=38) && (column.typmod() - 4) & 0x7ff <= 38
}

fn is_column(node: Node<'_>) -> bool {
    match node.view() {
        View::Var(_) => true,
        View::Relabel(of) => is_column(of),
        _ => false,
    }
}

impl Selection {
    /// `None`: the call is another, or of more than a column of numbers, times or strings. `filtered`: whether its FILTER was applied.
    pub fn new(
        call: &AggregateView<'_>,
        filtered: bool,
        column: &BoundColumn,
        evaluator: &Evaluator,
    ) -> Option<Selection> {
        let kind = kind(call.function)?;
        let ([argument], [operator]) = (call.args.as_slice(), call.order_operators.as_slice()) else { return None };
        if call.filter.is_some() && !filtered {
            return None;
        }
        let _guard = evaluator.in_query_context();
        let cast = match argument.view() {
            // Values that are one as doubles would have to be counted together.
            View::Func(f) if is_cast(*argument) && kind != Kind::Mode && column.ty.physical() != Physical::Bytes => {
                Some(evaluator.compile(argument.with_placeholder_argument(*f.args.first()?)))
            }
            _ if is_column(*argument) => None,
            _ => return None,
        };
        let ty = if cast.is_some() { LogicalType::Float8 } else { column.ty };
        let collation = call.collation;
        let (descending, collation) = match shippable::sort_direction(ty, *operator, collation) {
            Some(descending) => (descending, None),
            // Any order finds the most frequent value; only ties are told apart by it.
            None if kind == Kind::Mode && ty == LogicalType::Text && lookup::is_deterministic(collation) => {
                let strategy = lookup::btree_strategy(*operator, pg_sys::TEXT_BTREE_FAM_OID)?;
                (matches!(strategy, 5), matches!(strategy, 1 | 5).then_some(Some(collation))?)
            }
            None => return None,
        };
        let (mut shares, mut array) = (Vec::new(), None);
        match (kind, call.direct.as_slice()) {
            (Kind::Mode, []) => {}
            // Without groups PostgreSQL does not evaluate it.
            (Kind::Discrete | Kind::Continuous, [direct]) if infallible::never_fails(*direct) => {
                let value = evaluator.evaluate(evaluator.compile(*direct), None)?;
                shares = fractions(*direct, value)?;
                array = is_array(*direct).then(|| array::copy(value));
            }
            _ => return None,
        }
        Some(Selection {
            kind,
            fractions: shares,
            array,
            descending,
            collation,
            codec: Codec::with_type(column.ty, column.declared, column.typmod),
            cast,
            element: argument.ty(),
            evaluator: *evaluator,
        })
    }

    pub fn needs_fixed_settings(&self) -> bool {
        self.codec.needs_fixed_settings()
    }

    /// The result for the combinations `rows` of one group, whose values are in the last column of keys. By-reference results are in the
    /// current memory context. Errors: `Budget`.
    pub fn result(&mut self, found: &AggregateResult, rows: &[u32], budget: &Budget) -> Result<Option<Datum>> {
        let values = &found.keys.last().ok_or_else(malformed)?.values;
        let some = rows.iter().find_map(|row| values.get(*row as usize).filter(|v| !v.is_null()));
        match some {
            None => Ok(None),
            Some(Value::Bytes(_)) => self.choose(found, rows, budget, |row| values.bytes(row)),
            Some(Value::I128(_)) => self.choose(found, rows, budget, |row| match values.get(row) {
                Some(Value::I128(v)) => Some(v),
                _ => None,
            }),
            Some(_) => self.choose(found, rows, budget, |row| match values.get(row) {
                Some(Value::I64(v)) => Some(v),
                Some(Value::F64(v)) => Some(float_key(v)),
                _ => None,
            }),
        }
    }

    /// `key`: what orders a row's value; `None`: it is NULL.
    fn choose<K: Ord + Copy>(
        &mut self,
        found: &AggregateResult,
        rows: &[u32],
        budget: &Budget,
        key: impl Fn(usize) -> Option<K>,
    ) -> Result<Option<Datum>> {
        let values = &found.keys.last().ok_or_else(malformed)?.values;
        // Merging takes as much once more.
        let _held = budget.reserve(rows.len() * size_of::<(K, u64, u32)>() * 2)?;
        let mut entries = Vec::with_capacity(rows.len());
        let mut total = 0;
        for (nth, row) in rows.iter().enumerate() {
            if nth % STEP == STEP - 1 {
                interrupts::check();
            }
            let count = count_of(found, *row as usize)?;
            if let Some(key) = key(*row as usize).filter(|_| count > 0) {
                total += count;
                entries.push((key, count, *row));
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        if self.kind == Kind::Mode {
            return self.mode(&mut entries, values);
        }
        let places: Vec<(u64, u64, f64)> = self.fractions.iter().map(|f| places(self.kind, *f, total)).collect();
        let descending = self.descending;
        let place = |place: u64| if descending { total - 1 - place } else { place };
        let mut at: Box<dyn FnMut(u64) -> u32> = if total == entries.len() as u64 {
            Box::new(|wanted| entries.select_nth_unstable_by(place(wanted) as usize, |a, b| a.0.cmp(&b.0)).1.2)
        } else {
            sort(&mut entries)?;
            let mut end = 0;
            for (_, count, _) in &mut entries {
                end += *count;
                *count = end;
            }
            Box::new(|wanted| {
                let at = entries.partition_point(|(_, end, _)| *end <= place(wanted));
                entries[at.min(entries.len() - 1)].2
            })
        };
        let mut results = Vec::with_capacity(places.len());
        for (first, second, proportion) in places {
            let low = self.datum(values, at(first))?;
            results.push(match second == first {
                true => low,
                false => {
                    let of = |datum: Datum| f64::from_bits(datum.value() as u64);
                    let (low, high) = (of(low), of(self.datum(values, at(second))?));
                    Datum::from((low + proportion * (high - low)).to_bits())
                }
            });
        }
        Ok(match self.array {
            Some(shape) => Some(array::shaped(&results, shape, self.element)),
            None => results.first().copied(),
        })
    }

    /// The most frequent value, and of those the first.
    fn mode<K: Ord + Copy>(&mut self, entries: &mut Vec<(K, u64, u32)>, values: &Values) -> Result<Option<Datum>> {
        let bytes = |row: u32| values.bytes(row as usize).unwrap_or_default();
        if self.collation.is_none() {
            sort(entries)?;
        }
        let mut best: Option<(u64, u32)> = None;
        let mut candidate = |count: u64, row: u32| {
            let better = best.is_none_or(|(most, first)| {
                let earlier = || match self.collation {
                    None => self.descending,
                    Some(collation) => {
                        let order = lookup::compare_text(bytes(row), bytes(first), collation);
                        if self.descending { order.is_gt() } else { order.is_lt() }
                    }
                };
                count > most || (count == most && earlier())
            });
            if better {
                best = Some((count, row));
            }
        };
        // Zeros of both signs are equal.
        for equal in entries.chunk_by(|a, b| a.0 == b.0) {
            candidate(equal.iter().map(|e| e.1).sum(), equal[0].2);
        }
        best.map(|(_, row)| self.datum(values, row)).transpose()
    }

    fn datum(&mut self, values: &Values, row: u32) -> Result<Datum> {
        let value = values.get(row as usize).ok_or_else(malformed)?;
        let (datum, _) = self.codec.to_datum(&value)?;
        match self.cast {
            None => Ok(datum),
            Some(cast) => {
                let double = self.evaluator.evaluate(cast, Some(datum)).ok_or_else(malformed)?;
                self.evaluator.reset();
                Ok(double)
            }
        }
    }
}

/// Values between two looks at interrupts.
const STEP: usize = 1 << 16;

/// Sorts by value, equal ones as they came. Errors: `Canceled`.
fn sort<K: Ord + Copy>(entries: &mut Vec<(K, u64, u32)>) -> Result<()> {
    Ok(sort_by(entries, |a, b| a.0.cmp(&b.0).then(a.2.cmp(&b.2)), &mut interrupts::poll)?)
}

/// Which of `total` ordered values a percentile lies between, from 0, and how far from the first.
fn places(kind: Kind, fraction: f64, total: u64) -> (u64, u64, f64) {
    if kind == Kind::Discrete {
        let place = ((fraction * total as f64).ceil() as u64).clamp(1, total) - 1;
        return (place, place, 0.0);
    }
    let place = fraction * (total - 1) as f64;
    (place.floor() as u64, (place.ceil() as u64).min(total - 1), place - place.floor())
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the values do not fit the groups").into()
}
