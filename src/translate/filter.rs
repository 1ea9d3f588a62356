//! WHERE clauses into filter templates.

use basalt_engine::plan::{self, Filter};
use basalt_engine::types::LogicalType;
use pgrx::pg_sys::{BoolTestType, Datum, Oid};

use super::bind;
use super::shippable::{self, ColumnSide, Reason};
use super::template::{Comparison, FilterTemplate, Leaf, LeafTest};
use crate::catalog::datasource::Datasource;
use crate::pg::lookup;
use crate::pg::node::{BoolKind, Node, OpView, View};

/// Collects what one plan needs while its clauses are translated.
pub struct Builder<'p, 'd> {
    /// Range table index of the datasource in the expressions.
    pub relation: u32,
    pub datasource: &'d Datasource,
    /// Schema positions of the columns that the plan reads.
    pub columns: Vec<usize>,
    /// Whether PostgreSQL's functions may be evaluated on numbers, too: see [`shippable::host_test`].
    pub numbers: bool,
    /// What goes to `fdw_exprs`.
    pub expressions: Vec<Node<'p>>,
}

impl<'p, 'd> Builder<'p, 'd> {
    pub fn new(relation: u32, datasource: &'d Datasource) -> Self {
        Builder { relation, datasource, columns: Vec::new(), numbers: true, expressions: Vec::new() }
    }

    /// Position in the plan's columns of a table's attribute, and its type.
    pub fn column(&mut self, attribute: i16) -> Result<(usize, LogicalType), Reason> {
        let schema_position = usize::try_from(attribute - 1)
            .ok()
            .and_then(|i| self.datasource.attributes.get(i).copied().flatten())
            .ok_or_else(|| "it uses a system column or the whole row".to_owned())?;
        let ty = self.datasource.schema.columns[schema_position].ty;
        let position = match self.columns.iter().position(|c| *c == schema_position) {
            Some(position) => position,
            None => {
                self.columns.push(schema_position);
                self.columns.len() - 1
            }
        };
        Ok((position, ty))
    }

    /// The declared type of an attribute; `InvalidOid` for what is no column.
    pub fn declared(&self, attribute: i16) -> Oid {
        usize::try_from(attribute - 1)
            .ok()
            .and_then(|i| self.datasource.attributes.get(i).copied().flatten())
            .map_or(pgrx::pg_sys::InvalidOid, |position| self.datasource.types[position].0)
    }

    /// Adds an expression, its column replaced by the placeholder; returns its number.
    pub fn expression(&mut self, node: Node<'p>) -> usize {
        self.expressions.push(node.with_placeholder(self.relation));
        self.expressions.len() - 1
    }

    /// The attribute if `node` uses exactly one column of the datasource and nothing of other relations; `Ok(None)`: no column at all.
    pub fn single_column(&self, node: Node<'p>) -> Result<Option<i16>, Reason> {
        let mut found: Option<i16> = None;
        let mut reason: Option<Reason> = None;
        node.any(&mut |n| {
            if let View::Var(v) = n.view() {
                if v.relation != self.relation || v.levels_up != 0 {
                    reason = Some("it refers to another table".into());
                } else if v.attribute <= 0 {
                    reason = Some("it uses a system column or the whole row".into());
                } else if found.is_some_and(|f| f != v.attribute) {
                    reason = Some("it uses more than one column".into());
                }
                found = Some(v.attribute);
            }
            reason.is_some()
        });
        reason.map_or(Ok(found), Err)
    }

    /// Translates a boolean expression; on failure nothing was added.
    pub fn filter(&mut self, node: Node<'p>) -> Result<FilterTemplate, Reason> {
        let (columns, expressions) = (self.columns.len(), self.expressions.len());
        let result = self.test(node, false);
        if result.is_err() {
            self.columns.truncate(columns);
            self.expressions.truncate(expressions);
        }
        result
    }

    /// `negated`: selects what makes `node` false; NOT thus ends in the leaves and NULL is never selected by mistake.
    fn test(&mut self, node: Node<'p>, negated: bool) -> Result<FilterTemplate, Reason> {
        match node.view() {
            View::Bool(BoolKind::Not, args) => match args.first() {
                Some(arg) => self.test(*arg, !negated),
                None => Err("the expression is malformed".into()),
            },
            View::Bool(kind, args) => {
                let parts = args.into_iter().map(|a| self.test(a, negated)).collect::<Result<Vec<_>, _>>()?;
                Ok(if (kind == BoolKind::And) != negated {
                    FilterTemplate::And(parts)
                } else {
                    FilterTemplate::Or(parts)
                })
            }
            // True only where its argument is (false, for IS FALSE).
            View::BooleanTest { arg, test } if !negated && test == BoolTestType::IS_TRUE => self.test(arg, false),
            View::BooleanTest { arg, test } if !negated && test == BoolTestType::IS_FALSE => self.test(arg, true),
            View::BooleanTest { arg, test } if negated && test == BoolTestType::IS_NOT_TRUE => self.test(arg, false),
            View::BooleanTest { arg, test } if negated && test == BoolTestType::IS_NOT_FALSE => self.test(arg, true),
            _ => {
                let Some(attribute) = self.single_column(node)? else {
                    shippable::evaluable(node)?;
                    return Ok(FilterTemplate::Constant { expression: self.expression(node), negated });
                };
                let (column, ty) = self.column(attribute)?;
                let (test, negated) = match self.native(node, ty, negated) {
                    Some(found) => found,
                    None => {
                        let null_too = shippable::host_test(node, ty, self.numbers)
                            .map_err(|reason| self.describe(node, reason))?;
                        (LeafTest::Host { null_too }, negated)
                    }
                };
                Ok(FilterTemplate::Leaf(Leaf { column, expression: self.expression(node), negated, test }))
            }
        }
    }

    fn describe(&self, node: Node<'p>, reason: Reason) -> Reason {
        match node.view() {
            View::Op(op) | View::Distinct(op) | View::ArrayOp { op, .. } => {
                format!("operator {}: {reason}", lookup::operator_name(op.operator))
            }
            View::Func(f) => format!("function {}: {reason}", lookup::function_name(f.function)),
            _ => reason,
        }
    }

    /// The test that the engine does by itself, if it can, and whether it is to be negated.
    fn native(&self, node: Node<'p>, ty: LogicalType, negated: bool) -> Option<(LeafTest, bool)> {
        let is_column = |n: Node<'p>| shippable::column_side(n, self.relation).is_some();
        match node.view() {
            View::Var(_) | View::Relabel(_) if ty == LogicalType::Bool && is_column(node) => {
                Some((LeafTest::Bool { value: !negated, or_null: false }, false))
            }
            View::NullTest { arg, is_null, row: false } if is_column(arg) => {
                Some((LeafTest::IsNull, negated == is_null))
            }
            View::BooleanTest { arg, test } if ty == LogicalType::Bool && is_column(arg) => {
                let (value, or_null) = match test {
                    BoolTestType::IS_TRUE => (true, false),
                    BoolTestType::IS_FALSE => (false, false),
                    BoolTestType::IS_NOT_TRUE => (false, true),
                    BoolTestType::IS_NOT_FALSE => (true, true),
                    BoolTestType::IS_UNKNOWN => return Some((LeafTest::IsNull, negated)),
                    _ => return Some((LeafTest::IsNull, !negated)),
                };
                // What such a test does not select, its negation does, NULL among it.
                Some((LeafTest::Bool { value: value != negated, or_null: or_null != negated }, false))
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
