//! Expressions that PostgreSQL evaluates once for each distinct value of a column, or combination of values of a few: into values, or into
//! numbers of classes of equal values.

use basalt_engine::exec::MAX_SOURCES;
use basalt_engine::plan::{Expr, Lane};
use basalt_engine::types::{LogicalType, Physical};

use super::builder::{Builder, Mapped, SEVERAL_COLUMNS};
use super::infallible::never_fails;
use super::shippable::{self, Reason};
use super::template::{ConstantTemplate, ExprTemplate, FilterTemplate, Leaf, LeafTest};
use crate::pg::node::{Node, View};
use crate::pg::types;

/// Distinct values of which PostgreSQL makes classes: each is kept.
const MAX_CLASSES: u64 = 2_000_000;
/// Combinations of several columns' values: with more of them, evaluating each row is as good.
const MAX_COMBINATIONS: u64 = 2_000_000;

impl<'p> Builder<'p, '_> {
    /// A column of the values that an expression of one column has, and their type.
    pub fn mapped_value(&mut self, node: Node<'p>) -> Result<(usize, LogicalType), Reason> {
        let ty = match types::logical_type(node.ty(), node.typmod()) {
            // Computed decimals are held in 128 bits.
            LogicalType::Numeric { precision, scale } => LogicalType::Numeric { precision: precision.max(19), scale },
            LogicalType::NumericText => return Err("how many decimals its values show differs".into()),
            ty => ty,
        };
        self.mapped(node, None, ty).map(|column| (column, ty))
    }

    /// A column of numbers that are equal where the values of `node` are, and the number of their class. On failure nothing was added.
    pub fn class(&mut self, node: Node<'p>) -> Result<(usize, usize), Reason> {
        let mark = self.mark();
        let class = self.add_class(node.ty(), node.collation());
        let made = self.class_expr(node, class);
        if made.is_err() {
            self.reset(mark);
        }
        let column = match made? {
            Expr::Column(column) => column,
            expr => self.computed_column(expr, LogicalType::Int8, Some(node)),
        };
        Ok((column, class))
    }

    pub fn class_expr(&mut self, node: Node<'p>, class: usize) -> Result<ExprTemplate, Reason> {
        if !self.has_column(node)? {
            shippable::evaluable(node)?;
            if let View::Const { null: true, .. } = node.view() {
                return Ok(Expr::Null);
            }
            return Ok(Expr::Constant(ConstantTemplate::Class { expression: self.expression(node), class }));
        }
        if self.single_column(node).is_ok() {
            return match self.mapped(node, Some(class), LogicalType::Int8) {
                Ok(column) => Ok(Expr::Column(column)),
                Err(reason) => self.class_parts(node, class).unwrap_or(Err(reason)),
            };
        }
        let mark = self.mark();
        if let Some(Ok(expr)) = self.class_parts(node, class) {
            return Ok(expr);
        }
        self.reset(mark);
        self.mapped(node, Some(class), LogicalType::Int8).map(Expr::Column)
    }

    /// The class of what one of several parts is. `None`: it is no such expression.
    fn class_parts(&mut self, node: Node<'p>, class: usize) -> Option<Result<ExprTemplate, Reason>> {
        match node.view() {
            View::Relabel(_) | View::Case { .. } | View::Coalesce(_) | View::NullIf(_) => {
                Some(self.class_of_parts(node, class))
            }
            _ => None,
        }
    }

    fn class_of_parts(&mut self, node: Node<'p>, class: usize) -> Result<ExprTemplate, Reason> {
        match node.view() {
            View::Relabel(arg) => self.class_expr(arg, class),
            View::Case { arg, whens, otherwise } => {
                let mut made = Vec::with_capacity(whens.len());
                for (nth, (when, result)) in whens.into_iter().enumerate() {
                    let condition = self.case_condition(nth, arg, when)?;
                    made.push((condition, self.conditionally(|b| b.class_expr(result, class))?));
                }
                let otherwise = match otherwise {
                    Some(result) => self.conditionally(|b| b.class_expr(result, class))?,
                    None => Expr::Null,
                };
                Ok(Expr::Case { lane: Lane::Int, whens: made, otherwise: Box::new(otherwise) })
            }
            View::Coalesce(args) => {
                let mut arguments = Vec::with_capacity(args.len());
                for (nth, arg) in args.into_iter().enumerate() {
                    arguments.push(match nth {
                        0 => self.class_expr(arg, class)?,
                        _ => self.conditionally(|b| b.class_expr(arg, class))?,
                    });
                }
                Ok(Expr::Coalesce { lane: Lane::Int, arguments })
            }
            View::NullIf(op) => {
                let Some(first) = op.args.first() else { return Err("the expression is malformed".into()) };
                let value = self.class_expr(*first, class)?;
                let whens = vec![(self.filter(node.nullif_comparison())?, Expr::Null)];
                Ok(Expr::Case { lane: Lane::Int, whens, otherwise: Box::new(value) })
            }
            _ => Err("the expression is malformed".into()),
        }
    }

    /// A column of what PostgreSQL makes of the columns' values. On failure nothing was added.
    fn mapped(&mut self, node: Node<'p>, class: Option<usize>, ty: LogicalType) -> Result<usize, Reason> {
        let mark = self.mark();
        let result = self.mapped_of(node, class, ty);
        if result.is_err() {
            self.reset(mark);
        }
        result.map_err(|reason| self.describe(node, reason))
    }

    fn mapped_of(&mut self, node: Node<'p>, class: Option<usize>, ty: LogicalType) -> Result<usize, Reason> {
        let attributes = self.columns_of(node)?;
        shippable::evaluable(node)?;
        let infallible = never_fails(node);
        if self.conditional && !infallible {
            return Err("it may fail in rows that a condition leaves out".into());
        }
        let mut columns = Vec::with_capacity(attributes.len());
        let mut numbers = false;
        for attribute in attributes {
            let (column, of) = self.column(attribute)?;
            numbers |= of.physical() != Physical::Bytes;
            columns.push(column);
        }
        match columns.as_slice() {
            [] => return Err("it has no column".into()),
            [_] if numbers && !self.numbers => return Err("the engine does not compute it".into()),
            [column] if class.is_some() && self.distinct(*column) > MAX_CLASSES => {
                return Err("its column has too many distinct values".into());
            }
            [_] => {}
            _ if !self.numbers => return Err(SEVERAL_COLUMNS.into()),
            several if several.len() > MAX_SOURCES => {
                return Err(format!("it uses more than {MAX_SOURCES} columns"));
            }
            several => {
                let rows = self.rows();
                let combinations = several.iter().fold(1u64, |all, c| all.saturating_mul(self.distinct(*c) + 1));
                if combinations.min(rows) > MAX_COMBINATIONS {
                    return Err(format!(
                        "it uses several columns, whose values have too many combinations (about {})",
                        combinations.min(rows)
                    ));
                }
            }
        }
        Ok(self.mapped_column(Mapped { columns, node, class, ty, of_null: node.is_nonstrict(), infallible }))
    }

    /// A test of several columns that PostgreSQL evaluates for each combination of their values.
    pub fn mapped_test(&mut self, node: Node<'p>, negated: bool) -> Result<FilterTemplate, Reason> {
        let column = self.mapped(node, None, LogicalType::Bool)?;
        let test = LeafTest::Bool { value: !negated, or_null: false };
        let expression = self.expression(node.as_placeholder());
        Ok(FilterTemplate::Leaf(Leaf { column, expression, negated: false, test }))
    }

    /// Runs `work` for what is evaluated in some of the selected rows only.
    pub fn conditionally<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.conditional, true);
        let result = work(self);
        self.conditional = before;
        result
    }

    /// Selects where `node` is not NULL (NULL if `null`).
    pub fn null_filter(&mut self, node: Node<'p>, null: bool) -> Result<FilterTemplate, Reason> {
        let (column, expression) = match node.view() {
            _ if !self.has_column(node)? => {
                let test = node.null_test(null);
                return Ok(FilterTemplate::Constant { expression: self.expression(test), negated: false });
            }
            View::Var(v) => (self.column(v.attribute)?.0, self.expression(node)),
            _ => (self.computed(node)?.position, self.expression(node)),
        };
        Ok(FilterTemplate::Leaf(Leaf { column, expression, negated: !null, test: LeafTest::IsNull }))
    }
}
