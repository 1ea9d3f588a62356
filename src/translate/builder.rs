//! What one plan collects while its expressions are translated: columns and expressions.

use basalt_engine::plan::Limits;
use basalt_engine::types::{LogicalType, Value};
use pgrx::pg_sys::Oid;

use super::dimension::Dimension;
use super::shippable::Reason;
use super::template::{
    AttributeColumn, ClassTemplate, ColumnTemplate, ComputedTemplate, ExprTemplate, LookupColumn, MappedTemplate,
    PairColumn,
};
use crate::catalog::datasource::Datasource;
use crate::catalog::list::SegmentList;
use crate::catalog::segment::SegmentEntry;
use crate::pg::node::{Node, View};

pub struct Builder<'p, 'd> {
    /// Range table index of the datasource in the expressions.
    pub relation: u32,
    pub datasource: &'d Datasource,
    /// What is there now: it tells how large numbers are.
    segments: &'d SegmentList,
    pub(super) columns: Vec<Planned<'p>>,
    /// Relations that are looked up, each by a key of the datasource or of one before it.
    pub dimensions: Vec<Dimension<'p>>,
    /// Their columns in use, which are numbered behind the datasource's own: positions in `dimensions` and in its attributes.
    pub(super) attributes: Vec<(usize, usize)>,
    /// Whether PostgreSQL's functions may be evaluated on numbers, too: see [`super::shippable::host_test`].
    pub numbers: bool,
    /// What is translated is evaluated in some of the selected rows only.
    pub conditional: bool,
    /// Types and collations of the plan's classes.
    classes: Vec<(Oid, Oid)>,
    /// What goes to `fdw_exprs`.
    pub expressions: Vec<Node<'p>>,
}

/// Why an expression is not one of a single column.
pub const SEVERAL_COLUMNS: &str = "it uses more than one column";

/// A column that the plan reads or computes.
pub(super) enum Planned<'p> {
    /// Position in the schema.
    Stored(usize),
    Computed {
        expr: ExprTemplate,
        ty: LogicalType,
        node: Option<Node<'p>>,
    },
    /// With the number of its expression.
    Mapped(Mapped<'p>, usize),
    Lookup(LookupColumn),
    Pair(PairColumn),
    /// What these rows hold.
    Attribute {
        lookup: usize,
        nth: usize,
    },
    /// The numbers of rows that no row of the datasource matches.
    Unmatched,
}

/// The most distinct values that a segment has of a column.
struct MostDistinct(u64);

/// Between which numbers a column's values are.
struct ValuesNow(Limits);

/// A column that PostgreSQL makes of other ones' distinct values.
#[derive(Clone)]
pub struct Mapped<'p> {
    pub columns: Vec<usize>,
    pub node: Node<'p>,
    pub class: Option<usize>,
    pub ty: LogicalType,
    pub of_null: bool,
    pub infallible: bool,
}

impl<'p, 'd> Builder<'p, 'd> {
    pub fn new(relation: u32, datasource: &'d Datasource, segments: &'d SegmentList) -> Self {
        Builder {
            relation,
            datasource,
            segments,
            columns: Vec::new(),
            dimensions: Vec::new(),
            attributes: Vec::new(),
            numbers: true,
            conditional: false,
            classes: Vec::new(),
            expressions: Vec::new(),
        }
    }

    /// For [`Builder::reset`].
    pub fn mark(&self) -> (usize, usize, usize) {
        (self.columns.len(), self.expressions.len(), self.classes.len())
    }

    /// Forgets what was added since `mark`.
    pub fn reset(&mut self, (columns, expressions, classes): (usize, usize, usize)) {
        self.columns.truncate(columns);
        self.classes.truncate(classes);
        self.expressions.truncate(expressions);
    }

    /// The schema position of one of the plan's columns; `None`: it is computed.
    pub fn stored(&self, column: usize) -> Option<usize> {
        match self.columns.get(column) {
            Some(Planned::Stored(position)) => Some(*position),
            _ => None,
        }
    }

    /// The type of one of the plan's columns.
    pub fn ty(&self, column: usize) -> Option<LogicalType> {
        match self.columns.get(column)? {
            Planned::Stored(position) => Some(self.datasource.schema.columns[*position].ty),
            Planned::Computed { ty, .. } | Planned::Mapped(Mapped { ty, .. }, _) => Some(*ty),
            Planned::Lookup(_) | Planned::Pair(_) | Planned::Unmatched => Some(LogicalType::Int8),
            Planned::Attribute { nth, .. } => Some(self.attribute_type(*nth)),
        }
    }

    /// Position in the plan's columns of a table's attribute, and its type.
    pub fn column(&mut self, attribute: i16) -> Result<(usize, LogicalType), Reason> {
        if let Some(nth) = self.nth_attribute(attribute) {
            return Ok((self.attribute_column(nth)?, self.attribute_type(nth)));
        }
        let schema_position = usize::try_from(attribute - 1)
            .ok()
            .and_then(|i| self.datasource.attributes.get(i).copied().flatten())
            .ok_or_else(|| "it uses a system column or the whole row".to_owned())?;
        let ty = self.datasource.schema.columns[schema_position].ty;
        let known = self.columns.iter().position(|c| matches!(c, Planned::Stored(p) if *p == schema_position));
        let position = known.unwrap_or_else(|| {
            self.columns.push(Planned::Stored(schema_position));
            self.columns.len() - 1
        });
        Ok((position, ty))
    }

    /// Position of a computed column, added if there is none like it. `node`: what it computes, if PostgreSQL knows it.
    pub fn computed_column(&mut self, expr: ExprTemplate, ty: LogicalType, node: Option<Node<'p>>) -> usize {
        if let Some(known) = self.columns.iter().position(
            |c| matches!(c, Planned::Computed { expr: e, ty: t, node: n } if *e == expr && *t == ty && n.is_some() == node.is_some()),
        ) {
            return known;
        }
        self.columns.push(Planned::Computed { expr, ty, node });
        self.columns.len() - 1
    }

    /// Position of a mapped column, added if there is none like it.
    pub fn mapped_column(&mut self, mapped: Mapped<'p>) -> usize {
        let alike = |c: &Planned<'p>| match c {
            Planned::Mapped(m, _) => m.class == mapped.class && m.ty == mapped.ty && m.node.equals(mapped.node),
            _ => false,
        };
        if let Some(known) = self.columns.iter().position(alike) {
            return known;
        }
        let expression = match self.columns_of(mapped.node) {
            Ok(attributes) if mapped.columns.len() > 1 => {
                self.expressions.push(mapped.node.with_row_placeholder(self.relation, &attributes));
                self.expressions.len() - 1
            }
            _ => self.expression(mapped.node),
        };
        self.columns.push(Planned::Mapped(mapped, expression));
        self.columns.len() - 1
    }

    pub fn add_class(&mut self, ty: Oid, collation: Oid) -> usize {
        self.classes.push((ty, collation));
        self.classes.len() - 1
    }

    pub fn class_templates(&self) -> Vec<ClassTemplate> {
        let of = |(ty, collation): &(Oid, Oid)| ClassTemplate { ty: ty.to_u32(), collation: collation.to_u32() };
        self.classes.iter().map(of).collect()
    }

    /// How many rows there are now.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|s| s.rows).sum()
    }

    /// How many distinct values a stored column may have in a segment.
    pub fn distinct(&self, column: usize) -> u64 {
        if let Some(Planned::Attribute { nth, .. }) = self.columns.get(column) {
            return self.attribute_rows(*nth);
        }
        let Some(position) = self.stored(column) else { return u64::MAX };
        let id = self.datasource.schema.columns[position].id;
        let of = |s: &SegmentEntry| s.statistics.columns.iter().find(|c| c.id == id).map_or(1, |c| c.distinct);
        self.segments.facts(id, |segments| MostDistinct(segments.iter().map(of).max().unwrap_or(0))).0
    }

    pub fn find_computed(&self, expr: &ExprTemplate) -> Option<usize> {
        self.columns.iter().position(|c| matches!(c, Planned::Computed { expr: e, .. } if e == expr))
    }

    /// The declared type of an attribute; `InvalidOid` for what is no column.
    pub fn declared(&self, attribute: i16) -> Oid {
        if let Some(nth) = self.nth_attribute(attribute) {
            return self.attribute_node(nth).ty();
        }
        usize::try_from(attribute - 1)
            .ok()
            .and_then(|i| self.datasource.attributes.get(i).copied().flatten())
            .map_or(pgrx::pg_sys::InvalidOid, |position| self.datasource.types[position].0)
    }

    /// The values that a stored column of integers or decimals has now; `None`: nothing is known.
    pub fn limits(&self, column: usize) -> Limits {
        if let Some(Planned::Attribute { nth, .. }) = self.columns.get(column) {
            return self.attribute_limits(*nth);
        }
        let position = self.stored(column)?;
        let id = self.datasource.schema.columns[position].id;
        self.segments.facts(id, |segments| ValuesNow(self.find_limits(position, segments))).0
    }

    fn find_limits(&self, position: usize, segments: &[SegmentEntry]) -> Limits {
        let of = &self.datasource.schema.columns[position];
        let wide = |v: &Value| match v {
            Value::I64(LogicalType::NUMERIC_NAN_I64) if matches!(of.ty, LogicalType::Numeric { .. }) => None,
            Value::I64(v) => Some(i128::from(*v)),
            Value::I128(LogicalType::NUMERIC_NAN_I128) => None,
            Value::I128(v) => Some(*v),
            _ => None,
        };
        let declared = match of.ty {
            LogicalType::Numeric { precision, .. } => {
                let most = basalt_engine::decimal::power_of_ten(precision) - 1;
                Some((-most, most))
            }
            _ => None,
        };
        let mut found: Limits = Some((0, 0));
        for segment in segments {
            let known = segment.statistics.columns.iter().find(|c| c.id == of.id);
            let (min, max) = match known {
                Some(c) if c.nulls >= segment.rows => continue,
                Some(c) => (&c.min, &c.max),
                None if self.datasource.missing[position].is_null() => continue,
                None => (&self.datasource.missing[position], &self.datasource.missing[position]),
            };
            found = basalt_engine::plan::either(found, wide(min).zip(wide(max)));
        }
        found.or(declared)
    }

    /// Adds an expression, its column replaced by the placeholder; returns its number.
    pub fn expression(&mut self, node: Node<'p>) -> usize {
        self.expressions.push(node.with_placeholder(self.relation));
        self.expressions.len() - 1
    }

    /// The attribute if `node` uses exactly one column of the datasource and nothing of other relations; `Ok(None)`: no column at all.
    pub fn single_column(&self, node: Node<'p>) -> Result<Option<i16>, Reason> {
        match self.columns_of(node)?.as_slice() {
            [] => Ok(None),
            [attribute] => Ok(Some(*attribute)),
            _ => Err(SEVERAL_COLUMNS.into()),
        }
    }

    /// Whether `node` uses columns of the datasource; none of other relations.
    pub fn has_column(&self, node: Node<'p>) -> Result<bool, Reason> {
        self.columns_of(node).map(|found| !found.is_empty())
    }

    /// The attributes that `node` uses.
    pub fn columns_of(&self, node: Node<'p>) -> Result<Vec<i16>, Reason> {
        let mut found: Vec<i16> = Vec::new();
        let mut reason: Option<Reason> = None;
        node.any(&mut |n| {
            if let View::Var(v) = n.view() {
                if v.relation != self.relation || v.levels_up != 0 {
                    reason = Some("it refers to another table".into());
                } else if v.attribute <= 0 {
                    reason = Some("it uses a system column or the whole row".into());
                } else if !found.contains(&v.attribute) {
                    found.push(v.attribute);
                }
            }
            reason.is_some()
        });
        reason.map_or(Ok(found), Err)
    }

    /// The plan's columns for its template. `text`: of the query's columns.
    pub fn templates(&self, text: &dyn Fn(Node<'p>) -> String) -> Vec<ColumnTemplate> {
        let of = |planned: &Planned<'p>| match planned {
            Planned::Stored(position) => ColumnTemplate::Stored(self.datasource.schema.columns[*position].id.0),
            Planned::Computed { expr, ty, node } => {
                let text = node.map(|n| self.sql(n, text)).unwrap_or_default();
                let (declared, typmod) = node.map_or((pgrx::pg_sys::INT4OID, -1), |n| (n.ty(), n.typmod()));
                ColumnTemplate::Computed(ComputedTemplate {
                    expr: expr.clone(),
                    ty: *ty,
                    declared: declared.to_u32(),
                    typmod,
                    text,
                })
            }
            Planned::Mapped(mapped, expression) => ColumnTemplate::Mapped(MappedTemplate {
                columns: mapped.columns.clone(),
                expression: *expression,
                class: mapped.class,
                ty: mapped.ty,
                declared: mapped.node.ty().to_u32(),
                typmod: mapped.node.typmod(),
                of_null: mapped.of_null,
                infallible: mapped.infallible,
                text: self.sql(mapped.node, text),
            }),
            Planned::Lookup(lookup) => ColumnTemplate::Lookup(lookup.clone()),
            Planned::Pair(pair) => ColumnTemplate::Pair(pair.clone()),
            Planned::Unmatched => ColumnTemplate::Unmatched,
            Planned::Attribute { lookup, nth } => {
                let (node, (dimension, at)) = (self.attribute_node(*nth), self.attributes[*nth]);
                let found = self.dimensions[dimension].found.is_none_or(|found| found == *lookup);
                let number = if found { (self.datasource.attributes.len() + nth + 1) as i16 } else { 0 };
                ColumnTemplate::Attribute(AttributeColumn {
                    column: *lookup,
                    dimension,
                    at,
                    number,
                    ty: self.attribute_type(*nth),
                    declared: node.ty().to_u32(),
                    typmod: node.typmod(),
                    text: text(node),
                })
            }
        };
        self.columns.iter().map(of).collect()
    }
}
