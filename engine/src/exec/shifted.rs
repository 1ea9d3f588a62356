//! Integer columns that are a stored one and a constant: their sums and groups follow from those of the stored column. What is left of
//! the expression is that it may fail: such columns are computed only in blocks where headers do not exclude that.

use super::AggregateResult;
use crate::plan::{AggregateQuery, By, ColumnRef, Computed, Expr, Key, Lane, Operator, Top};
use crate::types::{LogicalType, Physical, Value};

/// `column + by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shifted {
    pub column: usize,
    pub by: i64,
}

/// What column `column` of a plan is, if it is a stored integer column and a constant.
pub(super) fn shifted(columns: &[ColumnRef], column: usize) -> Option<Shifted> {
    let Computed::Native(Expr::Binary { operator, number, left, right }) = columns.get(column)?.computed.as_deref()?
    else {
        return None;
    };
    let (column, by) = match (&**left, operator, &**right) {
        (Expr::Column(c), Operator::Add, Expr::Constant(Value::I64(by)))
        | (Expr::Constant(Value::I64(by)), Operator::Add, Expr::Column(c)) => (*c, *by),
        (Expr::Column(c), Operator::Subtract, Expr::Constant(Value::I64(by))) => (*c, by.checked_neg()?),
        _ => return None,
    };
    let of = columns.get(column)?;
    let integers = of.ty.physical() == Physical::I64 && !matches!(of.ty, LogicalType::Numeric { .. });
    (of.computed.is_none() && integers && number.lane() == Lane::Int).then_some(Shifted { column, by })
}

/// Keys that are another key and a constant: groups need not tell them apart.
#[derive(Debug)]
pub struct DerivedKeys {
    /// Of each key that was asked for: the position of the key that is left, and what to add.
    keys: Vec<(usize, i64)>,
    /// Columns of keys that were left out: computing them may fail.
    columns: Vec<usize>,
}

impl DerivedKeys {
    /// Leaves derived keys out of the query. [`super::AggregateExecution::with_checks`] is to be told of [`DerivedKeys::columns`].
    pub fn new(query: &mut AggregateQuery) -> Self {
        let plain = |key: &Key| if let Key::Column(c) = key { Some(*c) } else { None };
        let asked = std::mem::take(&mut query.keys);
        let base = |key: &Key| {
            let of = shifted(&query.columns, plain(key)?)?;
            let base = asked.iter().position(|k| plain(k) == Some(of.column))?;
            Some((base, of.by))
        };
        let derived: Vec<Option<(usize, i64)>> = asked.iter().map(base).collect();
        let place = |nth: usize| derived[..nth].iter().filter(|d| d.is_none()).count();
        let keys = derived.iter().enumerate().map(|(nth, of)| of.map_or((place(nth), 0), |(k, by)| (place(k), by)));
        let keys = keys.collect();
        let mut columns = Vec::new();
        for (key, of) in asked.into_iter().zip(&derived) {
            match of {
                Some(_) => columns.extend(plain(&key)),
                None => query.keys.push(key),
            }
        }
        DerivedKeys { keys, columns }
    }

    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The same order of the keys that are left: adding a constant keeps it.
    pub fn top(&self, mut top: Top) -> Top {
        for term in &mut top.terms {
            if let By::Key(key) = &mut term.by {
                *key = self.keys.get(*key).map_or(usize::MAX, |(key, _)| *key);
            }
        }
        top
    }

    /// The groups with all keys that were asked for.
    pub fn expand(&self, mut result: AggregateResult) -> AggregateResult {
        if !self.columns.is_empty() {
            let of = |(key, by): &(usize, i64)| super::ResultColumn {
                values: result.keys[*key].values.shifted(*by),
                counts: Vec::new(),
            };
            result.keys = self.keys.iter().map(of).collect();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Filter, Number, Term};
    use crate::types::ColumnId;

    fn binary(operator: Operator, number: Number, left: Expr, right: Expr) -> Computed {
        Computed::Native(Expr::Binary { operator, number, left: Box::new(left), right: Box::new(right) })
    }

    fn columns() -> Vec<ColumnRef> {
        let stored = |id, ty| ColumnRef::stored(ColumnId(id), ty, Value::Null);
        let money = LogicalType::Numeric { precision: 10, scale: 2 };
        let five = || Expr::Constant(Value::I64(5));
        let mut columns = vec![stored(1, LogicalType::Int4), stored(2, LogicalType::Int8), stored(3, money)];
        for expr in [
            binary(Operator::Add, Number::Int4, Expr::Column(0), five()),
            binary(Operator::Subtract, Number::Int4, Expr::Column(0), five()),
            binary(Operator::Add, Number::Int8, five(), Expr::Column(1)),
            binary(Operator::Subtract, Number::Int4, five(), Expr::Column(0)),
            binary(Operator::Multiply, Number::Int4, Expr::Column(0), five()),
            binary(Operator::Add, Number::Decimal, Expr::Column(2), five()),
            binary(Operator::Add, Number::Int4, Expr::Column(3), five()),
        ] {
            columns.push(ColumnRef::computed(expr, LogicalType::Int8));
        }
        columns
    }

    #[test]
    fn only_integers_and_a_constant_are_shifted() {
        let columns = columns();
        let found: Vec<_> = (0..columns.len()).map(|c| shifted(&columns, c).map(|s| (s.column, s.by))).collect();
        let none = [None; 3];
        assert_eq!(found[..3], none);
        assert_eq!(found[3..6], [Some((0, 5)), Some((0, -5)), Some((1, 5))]);
        assert_eq!(found[6..], [None; 4]);
    }

    #[test]
    fn keys_are_left_out_and_come_back() {
        let keys = [4, 1, 0, 3, 6, 5].map(Key::Column).to_vec();
        let mut query =
            AggregateQuery { columns: columns(), filter: Filter::Const(true), keys, aggregates: Vec::new() };
        let derived = DerivedKeys::new(&mut query);
        let left: Vec<usize> = query.keys.iter().map(|k| if let Key::Column(c) = k { *c } else { 99 }).collect();
        assert_eq!(left, [1, 0, 6]);
        assert_eq!(derived.columns(), [4, 3, 5]);
        let column = |values: Vec<Value>| super::super::ResultColumn {
            values: values.into_iter().collect(),
            counts: Vec::new(),
        };
        let result = AggregateResult {
            groups: 2,
            keys: vec![
                column(vec![Value::I64(100), Value::Null]),
                column(vec![Value::Null, Value::I64(7)]),
                column(vec![Value::I64(1), Value::I64(2)]),
            ],
            aggregates: Vec::new(),
            memory: Vec::new(),
        };
        let keys: Vec<Vec<Value>> =
            derived.expand(result).keys.into_iter().map(|k| k.values.iter().collect()).collect();
        let (v, null) = (Value::I64, || Value::Null);
        assert_eq!(keys[..3], [vec![null(), v(2)], vec![v(100), null()], vec![null(), v(7)]]);
        assert_eq!(keys[3..], [vec![null(), v(12)], vec![v(1), v(2)], vec![v(105), null()]]);
        let term = |by| Term { by, descending: false, nulls_first: false };
        let top = derived.top(Top {
            terms: vec![term(By::Key(5)), term(By::Aggregate(1)), term(By::Key(3))],
            limit: 1,
            complete: false,
        });
        let terms: Vec<By> = top.terms.iter().map(|t| t.by).collect();
        assert_eq!(terms, [By::Key(0), By::Aggregate(1), By::Key(1)]);
    }
}
