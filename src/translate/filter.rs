//! WHERE clauses into filter templates.

use basalt_engine::plan::{self, Filter};
use basalt_engine::types::{LogicalType, Physical};
use pgrx::pg_sys::{BoolTestType, Datum};

use super::bind;
pub use super::builder::Builder;
use super::shippable::{self, ColumnSide, Reason};
use super::template::{Comparison, FilterTemplate, Leaf, LeafTest};
use super::time;
use crate::pg::lookup;
use crate::pg::node::{BoolKind, Node, OpView, RowCompareView, View};

impl<'p> Builder<'p, '_> {
    /// Translates a boolean expression; on failure nothing was added.
    pub fn filter(&mut self, node: Node<'p>) -> Result<FilterTemplate, Reason> {
        let mark = self.mark();
        let result = self.test(node, false);
        if result.is_err() {
            self.reset(mark);
        }
        result
    }

    /// `negated`: selects what makes `node` false; NOT thus ends in the leaves and NULL is never selected by mistake. Of several columns:
    /// where the parts can't be pushed, PostgreSQL evaluates the whole for each combination of values.
    pub fn test(&mut self, node: Node<'p>, negated: bool) -> Result<FilterTemplate, Reason> {
        let mark = self.mark();
        self.test_parts(node, negated).or_else(|reason| {
            self.reset(mark);
            let several = self.columns_of(node).is_ok_and(|columns| columns.len() > 1);
            if several { self.mapped_test(node, negated).map_err(|more| prefer(reason, more)) } else { Err(reason) }
        })
    }

    fn test_parts(&mut self, node: Node<'p>, negated: bool) -> Result<FilterTemplate, Reason> {
        match node.view() {
            View::Bool(BoolKind::Not, args) => match args.first() {
                Some(arg) => self.test(*arg, !negated),
                None => Err("the expression is malformed".into()),
            },
            View::Bool(kind, args) => {
                // All but the first are evaluated in some rows only.
                let mut parts = Vec::with_capacity(args.len());
                for (nth, arg) in args.into_iter().enumerate() {
                    parts.push(match nth {
                        0 => self.test(arg, negated)?,
                        _ => self.conditionally(|b| b.test(arg, negated))?,
                    });
                }
                Ok(if (kind == BoolKind::And) != negated {
                    FilterTemplate::And(parts)
                } else {
                    FilterTemplate::Or(parts)
                })
            }
            View::RowCompare(rows) if self.has_column(node).is_ok_and(|found| found) => {
                self.row_test(&rows, 0, negated)
            }
            // True only where its argument is (false, for IS FALSE).
            View::BooleanTest { arg, test } if !negated && test == BoolTestType::IS_TRUE => self.test(arg, false),
            View::BooleanTest { arg, test } if !negated && test == BoolTestType::IS_FALSE => self.test(arg, true),
            View::BooleanTest { arg, test } if negated && test == BoolTestType::IS_NOT_TRUE => self.test(arg, false),
            View::BooleanTest { arg, test } if negated && test == BoolTestType::IS_NOT_FALSE => self.test(arg, true),
            _ => {
                let attribute = match self.single_column(node) {
                    Ok(Some(attribute)) => attribute,
                    Ok(None) => {
                        shippable::evaluable(node)?;
                        return Ok(FilterTemplate::Constant { expression: self.expression(node), negated });
                    }
                    Err(reason) if self.has_column(node).is_ok() => {
                        return self.computed_test(node, negated).map_err(|_| self.describe(node, reason));
                    }
                    Err(reason) => return Err(reason),
                };
                let (column, ty) = self.column(attribute)?;
                let (test, negated) = match self.native_test(node, ty, negated) {
                    Some(found) => found,
                    None => {
                        if let Some(pieces) = time::test(self, column, node) {
                            let (expression, test) = (self.expression(node), LeafTest::Host { null_too: false });
                            let leaf = Leaf { column, expression, negated, test };
                            return Ok(FilterTemplate::Pieces { leaf, pieces });
                        }
                        if ty.physical() != Physical::Bytes
                            && let Ok(computed) = self.computed_test(node, negated)
                        {
                            return Ok(computed);
                        }
                        let null_too = shippable::host_test(node, ty, self.numbers)
                            .map_err(|reason| self.describe(node, reason))?;
                        (LeafTest::Host { null_too }, negated)
                    }
                };
                Ok(FilterTemplate::Leaf(Leaf { column, expression: self.expression(node), negated, test }))
            }
        }
    }

    /// A comparison of rows from pair `nth` on: decided by the first pair that is not equal.
    fn row_test(&mut self, rows: &RowCompareView<'p>, nth: usize, negated: bool) -> Result<FilterTemplate, Reason> {
        let last = nth + 1 == rows.len();
        let mut pair = |strict: bool, equal: bool| {
            let node = rows.pair(nth, negated, strict, equal).ok_or("its operators are not those of one order")?;
            self.test(node, false)
        };
        if last {
            return pair(false, false);
        }
        let (decided, equal) = (pair(true, false)?, pair(false, true)?);
        Ok(FilterTemplate::Or(vec![decided, FilterTemplate::And(vec![equal, self.row_test(rows, nth + 1, negated)?])]))
    }

    /// A test of a column that the engine computes; on failure nothing was added.
    fn computed_test(&mut self, node: Node<'p>, negated: bool) -> Result<FilterTemplate, Reason> {
        let mark = self.mark();
        let result = match node.view() {
            View::Distinct(op) if matches!(self.computed_side(&op), Ok(None)) => self.distinct_test(node, &op, negated),
            _ => self.computed_leaf(node, negated).map(FilterTemplate::Leaf),
        };
        if result.is_err() {
            self.reset(mark);
        }
        result
    }

    fn computed_leaf(&mut self, node: Node<'p>, negated: bool) -> Result<Leaf, Reason> {
        match node.view() {
            View::Op(op) => {
                if let Some((argument, operand)) = self.computed_side(&op)? {
                    let column = self.computed(argument)?;
                    let (ty, collation) = (op.args[operand].ty(), op.collation);
                    let found = shippable::comparison(column.ty, ColumnSide::PLAIN, op.operator, ty, collation);
                    let (mut comparison, domain) = found.ok_or("its operator is not one of the engine's")?;
                    if operand == 0 {
                        comparison = comparison.commute().ok_or("its operator is not one of the engine's")?;
                    }
                    let expression = self.expression(node.with_placeholder_argument(argument));
                    let test = LeafTest::Compare { op: comparison, operand, domain };
                    return Ok(Leaf { column: column.position, expression, negated, test });
                }
            }
            View::Distinct(op) => {
                let (argument, operand) = self.computed_side(&op)?.ok_or("it compares columns with each other")?;
                let column = self.computed(argument)?;
                let (ty, collation) = (op.args[operand].ty(), op.collation);
                let found = shippable::comparison(column.ty, ColumnSide::PLAIN, op.operator, ty, collation);
                let (Comparison::Eq, domain) = found.ok_or("its operator is not one of the engine's")? else {
                    return Err("its operator is not one of the engine's".into());
                };
                let expression = self.expression(node.with_placeholder_argument(argument));
                let test = LeafTest::Distinct { operand, domain };
                return Ok(Leaf { column: column.position, expression, negated, test });
            }
            View::ArrayOp { op, or } => {
                let [scalar, array] = op.args.as_slice() else { return Err("the expression is malformed".into()) };
                if self.has_column(*array)? {
                    return Err("it searches a column's array".into());
                }
                shippable::evaluable(*array)?;
                let column = self.computed(*scalar)?;
                let element = lookup::element_type(array.ty()).ok_or("the expression is malformed")?;
                let found = shippable::comparison(column.ty, ColumnSide::PLAIN, op.operator, element, op.collation);
                let (comparison, domain) = found.ok_or("its operator is not one of the engine's")?;
                let expression = self.expression(node.with_placeholder_argument(*scalar));
                let test = LeafTest::Array { op: comparison, any: or, domain };
                return Ok(Leaf { column: column.position, expression, negated, test });
            }
            View::NullTest { arg, is_null, row: false } => {
                let column = self.computed(arg)?;
                let expression = self.expression(arg.as_placeholder());
                return Ok(Leaf {
                    column: column.position,
                    expression,
                    negated: negated == is_null,
                    test: LeafTest::IsNull,
                });
            }
            View::BooleanTest { arg, test } => {
                let column = self.computed(arg)?;
                let (test, negated) = boolean_test(test, negated);
                let expression = self.expression(arg.as_placeholder());
                return Ok(Leaf { column: column.position, expression, negated, test });
            }
            View::Case { .. } | View::Coalesce(_) | View::NullIf(_) | View::MinMax { .. } => {}
            _ => return Err("the expression is not one that the engine computes".into()),
        }
        let column = self.computed_boolean(node)?;
        let test = LeafTest::Bool { value: !negated, or_null: false };
        Ok(Leaf { column, expression: self.expression(node.as_placeholder()), negated: false, test })
    }

    /// Of a binary operator the argument with columns, and the position of the other, if that has none.
    fn computed_side(&self, op: &OpView<'p>) -> Result<Option<(Node<'p>, usize)>, Reason> {
        let [left, right] = op.args.as_slice() else { return Err("the expression is malformed".into()) };
        let (argument, operand) = match (self.has_column(*left)?, self.has_column(*right)?) {
            (true, false) => (*left, 1),
            (false, true) => (*right, 0),
            _ => return Ok(None),
        };
        shippable::evaluable(op.args[operand])?;
        Ok(Some((argument, operand)))
    }

    pub fn describe(&self, node: Node<'p>, reason: Reason) -> Reason {
        match node.view() {
            View::Op(op) | View::Distinct(op) | View::ArrayOp { op, .. } => {
                format!("operator {}: {reason}", lookup::operator_name(op.operator))
            }
            View::Func(f) => format!("function {}: {reason}", lookup::function_name(f.function)),
            _ => reason,
        }
    }

    /// The test that the engine does by itself, if it can, and whether it is to be negated.
    fn native_test(&self, node: Node<'p>, ty: LogicalType, negated: bool) -> Option<(LeafTest, bool)> {
        let is_column = |n: Node<'p>| shippable::column_side(n, self.relation).is_some();
        match node.view() {
            View::Var(_) | View::Relabel(_) if ty == LogicalType::Bool && is_column(node) => {
                Some((LeafTest::Bool { value: !negated, or_null: false }, false))
            }
            View::NullTest { arg, is_null, row: false } if is_column(arg) => {
                Some((LeafTest::IsNull, negated == is_null))
            }
            View::BooleanTest { arg, test } if ty == LogicalType::Bool && is_column(arg) => {
                Some(boolean_test(test, negated))
            }
            View::Op(op) => {
                let (side, operand) = self.sides(&op)?;
                let ty_of_operand = op.args[operand].ty();
                let (mut comparison, domain) =
                    shippable::comparison(ty, side, op.operator, ty_of_operand, op.collation)?;
                if operand == 0 {
                    comparison = comparison.commute()?;
                }
                Some((LeafTest::Compare { op: comparison, operand, domain }, negated))
            }
            View::Distinct(op) => {
                let (side, operand) = self.sides(&op)?;
                // The node names the equality operator.
                let (comparison, domain) =
                    shippable::comparison(ty, side, op.operator, op.args[operand].ty(), op.collation)?;
                (comparison == Comparison::Eq).then_some((LeafTest::Distinct { operand, domain }, negated))
            }
            View::ArrayOp { op, or } => {
                let [scalar, array] = op.args.as_slice() else { return None };
                let side = shippable::column_side(*scalar, self.relation)?;
                if self.single_column(*array).ok()?.is_some() || shippable::evaluable(*array).is_err() {
                    return None;
                }
                let element = lookup::element_type(array.ty())?;
                let (comparison, domain) = shippable::comparison(ty, side, op.operator, element, op.collation)?;
                Some((LeafTest::Array { op: comparison, any: or, domain }, negated))
            }
            _ => None,
        }
    }

    /// The column's side of a binary operator, and the position of the other operand, which has no column.
    fn sides(&self, op: &OpView<'p>) -> Option<(ColumnSide, usize)> {
        let [left, right] = op.args.as_slice() else { return None };
        let (side, operand) = match shippable::column_side(*left, self.relation) {
            Some(side) => (side, 1),
            None => (shippable::column_side(*right, self.relation)?, 0),
        };
        let other = op.args[operand];
        let plain = self.single_column(other).ok()?.is_none() && shippable::evaluable(other).is_ok();
        plain.then_some((side, operand))
    }
}

/// Of two reasons the one that says more.
fn prefer(parts: Reason, whole: Reason) -> Reason {
    if parts.ends_with(super::builder::SEVERAL_COLUMNS) { whole } else { parts }
}

/// IS [NOT] TRUE, FALSE, UNKNOWN of a boolean column.
fn boolean_test(test: BoolTestType::Type, negated: bool) -> (LeafTest, bool) {
    let (value, or_null) = match test {
        BoolTestType::IS_TRUE => (true, false),
        BoolTestType::IS_FALSE => (false, false),
        BoolTestType::IS_NOT_TRUE => (false, true),
        BoolTestType::IS_NOT_FALSE => (true, true),
        BoolTestType::IS_UNKNOWN => return (LeafTest::IsNull, negated),
        _ => return (LeafTest::IsNull, !negated),
    };
    // What such a test does not select, its negation does, NULL among it.
    (LeafTest::Bool { value: value != negated, or_null: or_null != negated }, false)
}

/// What a clause says about a column while planning: `column op constant` with an operand that `constant` can tell. The result's column is 0.
pub fn estimate<'p>(
    builder: &Builder<'p, '_>,
    clause: Node<'p>,
    attribute: i16,
    ty: LogicalType,
    constant: &dyn Fn(Node<'p>) -> Option<Datum>,
) -> Filter {
    let known = || {
        let View::Op(op) = clause.view() else { return None };
        let (side, operand) = builder.sides(&op)?;
        let other = op.args[operand];
        let (mut comparison, domain) = shippable::comparison(ty, side, op.operator, other.ty(), op.collation)?;
        if operand == 0 {
            comparison = comparison.commute()?;
        }
        let point = bind::point(ty, domain, constant(other)?, other.ty()).ok()?;
        (side.attribute == attribute).then(|| plan::select(0, comparison, point))
    };
    known().unwrap_or(Filter::Const(true))
}
