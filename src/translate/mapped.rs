//! Expressions that PostgreSQL evaluates once for each distinct value of one column: into values, or into numbers of classes of equal values.

use basalt_engine::plan::{Expr, Lane};
use basalt_engine::types::{LogicalType, Physical};

use super::builder::{Builder, Mapped};
use super::shippable::{self, Reason};
use super::template::{ConstantTemplate, ExprTemplate, FilterTemplate, Leaf, LeafTest};
use crate::pg::node::{Node, View};
use crate::pg::types;

/// Distinct values of which PostgreSQL makes classes: each is kept.
const MAX_CLASSES: u64 = 2_000_000;

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
        let reason = match self.single_column(node) {
            Ok(_) => match self.mapped(node, Some(class), LogicalType::Int8) {
                Ok(column) => return Ok(Expr::Column(column)),
                Err(reason) => reason,
            },
            Err(reason) => reason,
        };
        match node.view() {
            View::Relabel(arg) => self.class_expr(arg, class),
            View::Case { arg, whens, otherwise } => {
                let mut made = Vec::with_capacity(whens.len());
                for (when, result) in whens {
                    let when = arg.map_or(when, |arg| when.with_case_value(arg));
                    let condition = self.filter(when).map_err(|reason| format!("a condition of CASE: {reason}"))?;
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
            _ => Err(self.describe(node, reason)),
        }
    }

    fn mapped(&mut self, node: Node<'p>, class: Option<usize>, ty: LogicalType) -> Result<usize, Reason> {
        let attribute = self.single_column(node)?.ok_or("it has no column")?;
        shippable::evaluable(node)?;
        let mark = self.mark();
        let (column, of) = self.column(attribute)?;
        let infallible = shippable::never_fails(node);
        let refused = if self.conditional && !infallible {
            Some("it may fail in rows that a condition leaves out")
        } else if of.physical() != Physical::Bytes && !self.numbers {
            Some("the engine does not compute it")
        } else if class.is_some() && self.distinct(column) > MAX_CLASSES {
            Some("its column has too many distinct values")
        } else {
            None
        };
        if let Some(reason) = refused {
            self.reset(mark);
            return Err(reason.into());
        }
        Ok(self.mapped_column(Mapped { column, node, class, ty, of_null: node.is_nonstrict(), infallible }))
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
