//! Joins of the datasource with dimensions: which columns find their rows. A dimension has at most one row for its keys, so its columns are
//! functions of them (`attribute.rs`).

use basalt_engine::plan::{Comparison, Expr, Lane};
use basalt_engine::types::LogicalType;
use pgrx::pg_sys::Oid;

use super::builder::{Builder, Planned};
use super::shippable::{self, ColumnSide, Reason};
use super::template::{
    AttributeTemplate, DimensionTemplate, Domain, FilterTemplate, Join, KeyPart, Leaf, LeafTest, LookupColumn,
    PairColumn,
};
use crate::pg::lookup;
use crate::pg::node::Node;

/// A relation that is looked up by keys.
pub struct Dimension<'p> {
    /// Range table index; `None`: it is several relations, or none of its columns may be used.
    pub relation: Option<u32>,
    pub name: String,
    pub join: Join,
    pub keys: Vec<Key<'p>>,
    /// The comparisons of keys, and what else a row must fulfil, as in the query.
    condition: Vec<Node<'p>>,
    conditional: bool,
    pub below: bool,
    /// How many rows it may have.
    pub(super) rows: f64,
    /// The column of row numbers, where that is not simply what the keys find.
    pub(super) found: Option<usize>,
    /// Its columns that are used.
    pub attributes: Vec<Node<'p>>,
}

/// What a dimension's rows are found by.
pub struct Key<'p> {
    /// What is looked up, made of the datasource's columns.
    outer: Node<'p>,
    /// The dimension's own expression that is compared with it.
    pub inner: Node<'p>,
    domain: Domain,
}

/// A join to be added.
pub struct NewJoin<'p> {
    pub relation: Option<u32>,
    pub name: String,
    pub join: Join,
    pub below: bool,
    pub keys: Vec<KeyClause<'p>>,
    /// What a row must fulfil besides, of the columns of both sides.
    pub conditions: Vec<Node<'p>>,
    pub rows: f64,
}

/// An equality that joins a relation.
pub struct KeyClause<'p> {
    pub clause: Node<'p>,
    pub operator: Oid,
    pub collation: Oid,
    /// Of relations that were joined before, localized.
    pub outer: Node<'p>,
    /// Of the dimension.
    pub inner: Node<'p>,
}

impl<'p> Builder<'p, '_> {
    /// Adds a dimension. Errors: its keys are not compared as the engine compares them, or its conditions are not known to it; nothing was added.
    pub fn join(&mut self, new: NewJoin<'p>) -> Result<(), Reason> {
        let (mark, attributes) = (self.mark(), self.attributes.len());
        let dimensions = self.dimensions.len();
        let result = self.try_join(new);
        if result.is_err() {
            self.reset(mark);
            self.attributes.truncate(attributes);
            self.dimensions.truncate(dimensions);
        }
        result
    }

    fn try_join(&mut self, new: NewJoin<'p>) -> Result<(), Reason> {
        let NewJoin { relation, name, join, below, keys, conditions, rows } = new;
        let mut condition = Vec::new();
        let mut known = Vec::new();
        for KeyClause { clause, operator, collation, outer, inner } in keys {
            let mark = self.mark();
            let (side, column) = self.key_side(outer)?;
            let ty = self.ty(column).ok_or("its key has no type")?;
            let compared = shippable::comparison(ty, side, operator, inner.ty(), collation);
            self.reset(mark);
            let Some((Comparison::Eq, domain)) = compared else {
                let name = lookup::type_name(outer.ty());
                return Err(format!("the engine does not compare keys of type {name} with the join's operator"));
            };
            condition.push(clause);
            known.push(Key { outer, inner, domain });
        }
        condition.extend(&conditions);
        self.dimensions.push(Dimension {
            relation,
            name,
            join,
            keys: known,
            condition,
            conditional: !conditions.is_empty(),
            below,
            rows,
            found: None,
            attributes: Vec::new(),
        });
        if conditions.is_empty() { Ok(()) } else { self.fulfilling(&conditions) }
    }

    /// Lets the last dimension's row be found only where conditions are true of it.
    fn fulfilling(&mut self, conditions: &[Node<'p>]) -> Result<(), Reason> {
        let dimension = self.dimensions.len() - 1;
        let lookup = self.lookup_column(dimension)?;
        // Where there is no row, they are not asked about.
        let mut tests = vec![self.is_found(dimension, lookup)];
        for condition in conditions {
            let local = self.localize(*condition)?;
            let test = self.conditionally(|b| b.filter(local));
            tests.push(test.map_err(|reason| format!("a condition of a join: {reason}"))?);
        }
        let whens = vec![(FilterTemplate::And(tests), Expr::Column(lookup))];
        let found = Expr::Case { lane: Lane::Int, whens, otherwise: Box::new(Expr::Null) };
        self.dimensions[dimension].found = Some(self.computed_column(found, LogicalType::Int8, None));
        Ok(())
    }

    fn is_found(&mut self, dimension: usize, lookup: usize) -> FilterTemplate {
        let outer = self.dimensions[dimension].keys[0].outer;
        let expression = self.expression(outer);
        FilterTemplate::Leaf(Leaf { column: lookup, expression, negated: true, test: LeafTest::IsNull })
    }

    /// Makes the last dimension's rows show where none of the datasource's matches them. Returns the columns of rows that are
    /// matched and that are not.
    pub fn keep_rows(&mut self) -> Result<(usize, usize), Reason> {
        let dimension = self.dimensions.len() - 1;
        let matched = self.lookup_column(dimension)?;
        self.columns.push(Planned::Unmatched);
        let unmatched = self.columns.len() - 1;
        let arguments = vec![Expr::Column(unmatched), Expr::Column(matched)];
        let found = Expr::Coalesce { lane: Lane::Int, arguments };
        self.dimensions[dimension].found = Some(self.computed_column(found, LogicalType::Int8, None));
        Ok((matched, unmatched))
    }

    /// The column that a key is, or is computed in.
    fn key_side(&mut self, outer: Node<'p>) -> Result<(ColumnSide, usize), Reason> {
        match shippable::column_side(outer, self.relation) {
            Some(side) => Ok((side, self.column(side.attribute)?.0)),
            None => {
                let computed = self.computed(outer).map_err(|reason| format!("a key of a join: {reason}"))?;
                Ok((ColumnSide::PLAIN, computed.position))
            }
        }
    }

    /// Position of the column of a dimension's row numbers, added if need be.
    pub(super) fn lookup_column(&mut self, dimension: usize) -> Result<usize, Reason> {
        if let Some(found) = self.dimensions[dimension].found {
            return Ok(found);
        }
        let keys = self.dimensions[dimension].keys.len();
        let mut left = self.key_lookup(dimension, 0)?;
        for nth in 0..keys - 1 {
            let right = self.key_lookup(dimension, nth + 1)?;
            left = match self.known_lookup(dimension, keys + nth) {
                Some(known) => known,
                None => {
                    self.columns.push(Planned::Pair(PairColumn { dimension, nth, left, right }));
                    let column = self.columns.len() - 1;
                    self.columns.push(Planned::Lookup(LookupColumn { column, dimension, index: keys + nth }));
                    column + 1
                }
            };
        }
        Ok(left)
    }

    fn key_lookup(&mut self, dimension: usize, nth: usize) -> Result<usize, Reason> {
        if let Some(known) = self.known_lookup(dimension, nth) {
            return Ok(known);
        }
        let (_, column) = self.key_side(self.dimensions[dimension].keys[nth].outer)?;
        self.columns.push(Planned::Lookup(LookupColumn { column, dimension, index: nth }));
        Ok(self.columns.len() - 1)
    }

    /// Translated once more, a key could become another column.
    fn known_lookup(&self, dimension: usize, index: usize) -> Option<usize> {
        self.columns
            .iter()
            .position(|c| matches!(c, Planned::Lookup(l) if (l.dimension, l.index) == (dimension, index)))
    }

    /// The plan's dimensions. All of them are looked up, as rows may have to be found.
    pub fn dimension_templates(&mut self, text: &dyn Fn(Node<'p>) -> String) -> Result<Vec<DimensionTemplate>, Reason> {
        let mut templates = Vec::with_capacity(self.dimensions.len());
        for nth in 0..self.dimensions.len() {
            let lookup = self.lookup_column(nth)?;
            let mut keys = Vec::new();
            for key in 0..self.dimensions[nth].keys.len() {
                let at = self.key_lookup(nth, key)?;
                let Some(Planned::Lookup(LookupColumn { column, .. })) = self.columns.get(at) else { continue };
                let (column, domain) = (*column, self.dimensions[nth].keys[key].domain);
                keys.push(KeyPart { column, ty: self.ty(column).ok_or("a key of a join has no type")?, domain });
            }
            let dimension = &self.dimensions[nth];
            let texts: Vec<String> = dimension.condition.iter().map(|c| text(*c)).collect();
            templates.push(DimensionTemplate {
                name: dimension.name.clone(),
                join: dimension.join,
                condition: texts.join(" AND "),
                lookup,
                conditional: dimension.conditional,
                below: dimension.below,
                keys,
                attributes: Vec::new(),
            });
        }
        for (nth, (dimension, at)) in self.attributes.iter().enumerate() {
            let node = self.attribute_node(nth);
            let attributes = &mut templates[*dimension].attributes;
            debug_assert_eq!(attributes.len(), *at);
            attributes.push(AttributeTemplate {
                ty: self.attribute_type(nth),
                declared: node.ty().to_u32(),
                typmod: node.typmod(),
            });
        }
        Ok(templates)
    }
}
