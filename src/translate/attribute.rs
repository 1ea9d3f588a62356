//! Columns of dimensions: translated as if they were columns of the datasource, numbered behind its own.

use basalt_engine::decimal::power_of_ten;
use basalt_engine::plan::Limits;
use basalt_engine::types::LogicalType;
use pgrx::pg_sys;

use super::builder::{Builder, Planned};
use super::infallible::never_fails;
use super::shippable::{self, Reason};
use super::template::Join;
use crate::pg::node::{Node, VarView, View};
use crate::pg::types;

impl<'p> Builder<'p, '_> {
    /// A copy of an expression in which dimensions' columns are columns of the datasource.
    pub fn localize(&mut self, node: Node<'p>) -> Result<Node<'p>, Reason> {
        if self.dimensions.is_empty() {
            return Ok(node);
        }
        let mut reason = None;
        let local = node.rewrite(&mut |n| match n.view() {
            View::Var(v) if v.levels_up == 0 && v.relation != self.relation => match self.column_of(n, v) {
                Ok(column) => Some(column),
                Err(why) => {
                    reason = Some(why);
                    Some(n)
                }
            },
            View::Op(_) | View::Func(_) | View::Case { .. } | View::Coalesce(_) | View::NullIf(_) | View::Bool(..) => {
                let dimension = self.dimension_of(n)?;
                self.attribute(dimension, n).ok()
            }
            View::Other if n.tag() == pg_sys::NodeTag::T_PlaceHolderVar => {
                reason = Some("it uses an expression that an outer join may make NULL".to_owned());
                Some(n)
            }
            _ => None,
        });
        reason.map_or(Ok(local), Err)
    }

    /// The dimension of which alone an expression is, by several columns: its own plan computes it. It must fail for no row, as
    /// rows are among them that are not joined, and be NULL where there is none.
    fn dimension_of(&self, node: Node<'p>) -> Option<usize> {
        let mut columns: Vec<VarView> = Vec::new();
        node.any(&mut |n| {
            if let View::Var(v) = n.view()
                && !columns.iter().any(|c| c.relation == v.relation && c.attribute == v.attribute)
            {
                columns.push(v);
            }
            false
        });
        let (first, others) = columns.split_first()?;
        let alike = |v: &VarView| v.relation == first.relation && v.levels_up == 0 && v.attribute > 0;
        if others.is_empty() || !columns.iter().all(alike) {
            return None;
        }
        let dimension = self.dimensions.iter().position(|d| d.relation == Some(first.relation))?;
        let of = &self.dimensions[dimension];
        let absent = of.below || matches!(of.join, Join::Left | Join::Full);
        let fit = shippable::evaluable(node).is_ok() && never_fails(node) && !(absent && node.is_nonstrict());
        fit.then_some(dimension)
    }

    fn column_of(&mut self, node: Node<'p>, v: VarView) -> Result<Node<'p>, Reason> {
        let dimension = self
            .dimensions
            .iter()
            .position(|d| d.relation == Some(v.relation))
            .ok_or_else(|| "it refers to another table".to_owned())?;
        if v.attribute <= 0 {
            return Err("it uses a system column or the whole row of a joined table".into());
        }
        self.attribute(dimension, node)
    }

    /// A column of the datasource that stands for an expression of a dimension's columns.
    fn attribute(&mut self, dimension: usize, node: Node<'p>) -> Result<Node<'p>, Reason> {
        let attributes = &mut self.dimensions[dimension].attributes;
        let at = attributes.iter().position(|a| a.equals(node)).unwrap_or_else(|| {
            attributes.push(node);
            attributes.len() - 1
        });
        let known = self.attributes.iter().position(|a| *a == (dimension, at));
        let nth = known.unwrap_or_else(|| {
            self.attributes.push((dimension, at));
            self.attributes.len() - 1
        });
        let number = i16::try_from(self.datasource.attributes.len() + nth + 1)
            .map_err(|_| "the joined tables have too many columns".to_owned())?;
        Ok(node.as_column(self.relation, number))
    }

    /// The reverse of [`Builder::localize`], for people to read.
    fn restore(&self, node: Node<'p>) -> Node<'p> {
        if self.dimensions.is_empty() {
            return node;
        }
        node.rewrite(&mut |n| match n.view() {
            View::Var(v) if v.relation == self.relation => self.looked_up(v.attribute),
            _ => None,
        })
    }

    /// An expression as SQL. `text`: of the query's columns.
    pub fn sql(&self, node: Node<'p>, text: &dyn Fn(Node<'p>) -> String) -> String {
        text(self.restore(node))
    }

    /// Which of the dimensions' columns an attribute number stands for.
    pub(super) fn nth_attribute(&self, attribute: i16) -> Option<usize> {
        let nth = usize::try_from(attribute).ok()?.checked_sub(self.datasource.attributes.len() + 1)?;
        (nth < self.attributes.len()).then_some(nth)
    }

    fn looked_up(&self, attribute: i16) -> Option<Node<'p>> {
        self.nth_attribute(attribute).map(|nth| self.attribute_node(nth))
    }

    pub(super) fn attribute_node(&self, nth: usize) -> Node<'p> {
        let (dimension, at) = self.attributes[nth];
        self.dimensions[dimension].attributes[at]
    }

    pub(super) fn attribute_type(&self, nth: usize) -> LogicalType {
        let node = self.attribute_node(nth);
        match types::logical_type(node.ty(), node.typmod()) {
            // As computed decimals, they are held in 128 bits.
            LogicalType::Numeric { precision, scale } => LogicalType::Numeric { precision: precision.max(19), scale },
            ty => ty,
        }
    }

    /// Limits of decimals by their declared precision.
    pub(super) fn attribute_limits(&self, nth: usize) -> Limits {
        let node = self.attribute_node(nth);
        match types::logical_type(node.ty(), node.typmod()) {
            LogicalType::Numeric { precision, .. } => {
                let most = power_of_ten(precision) - 1;
                Some((-most, most))
            }
            _ => None,
        }
    }

    pub(super) fn attribute_rows(&self, nth: usize) -> u64 {
        self.dimensions[self.attributes[nth].0].rows as u64
    }

    /// Position of the column of a dimension's attribute, added if need be.
    pub(super) fn attribute_column(&mut self, nth: usize) -> Result<usize, Reason> {
        let lookup = self.lookup_column(self.attributes[nth].0)?;
        let alike =
            |c: &Planned<'p>| matches!(c, Planned::Attribute { lookup: l, nth: n } if (*l, *n) == (lookup, nth));
        let known = self.columns.iter().position(alike);
        Ok(known.unwrap_or_else(|| {
            self.columns.push(Planned::Attribute { lookup, nth });
            self.columns.len() - 1
        }))
    }
}
