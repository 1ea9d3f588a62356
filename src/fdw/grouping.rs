//! What a pushed aggregation is made of, collected while it is planned.

use crate::catalog::datasource::Datasource;
use crate::catalog::list::SegmentList;
use crate::pg::node::{AggregateView, Node, View, Walk};
use crate::translate::aggregate;
use crate::translate::filter::Builder;
use crate::translate::shippable::{self, Reason};
use crate::translate::template::{
    self, AggregateTemplate, ColumnTemplate, DimensionTemplate, FilterTemplate, FoldTemplate, GroupsTemplate,
    KeptTemplate, KeyTemplate, PlanTemplate, Shape, Target, TopTemplate,
};

/// A column of the pushed scan's tuple.
pub struct Output<'p> {
    pub expression: Node<'p>,
    pub sort_group: u32,
    pub target: Target,
}

/// Keys and aggregates of one query.
pub struct Grouping<'p, 'd> {
    pub builder: Builder<'p, 'd>,
    pub keys: Vec<KeyTemplate>,
    pub aggregates: Vec<AggregateTemplate>,
    orders: Vec<u32>,
    pub outputs: Vec<Output<'p>>,
    /// Grouping expressions without columns.
    constants: Vec<Node<'p>>,
    /// Positions in `keys` of each grouping set, if there are any.
    sets: Option<Vec<Vec<usize>>>,
    groupings: Vec<Vec<usize>>,
    pub folds: Vec<Fold<'p>>,
    /// Folded calls that use dimensions: their positions in `outputs`, and as calls of the datasource's columns.
    pub localized: Vec<(usize, Node<'p>)>,
}

/// What a fold becomes, and its columns as expressions.
pub struct Fold<'p> {
    template: FoldTemplate,
    pub columns: Vec<Node<'p>>,
    calls: usize,
}

impl<'p, 'd> Grouping<'p, 'd> {
    pub fn new(relation: u32, datasource: &'d Datasource, segments: &'d SegmentList) -> Self {
        Grouping {
            builder: Builder::new(relation, datasource, segments),
            keys: Vec::new(),
            aggregates: Vec::new(),
            orders: Vec::new(),
            outputs: Vec::new(),
            constants: Vec::new(),
            sets: None,
            groupings: Vec::new(),
            folds: Vec::new(),
            localized: Vec::new(),
        }
    }

    pub fn key(&mut self, expression: Node<'p>, sort_group: u32) -> Result<(), Reason> {
        let key = self
            .builder
            .localize(expression)
            .and_then(|local| aggregate::key(&mut self.builder, local))
            .map_err(|reason| format!("grouping column: {reason}"))?;
        match key {
            None => self.constants.push(expression),
            Some(key) => {
                self.keys.push(key);
                let target = Target::Key(self.keys.len() - 1);
                self.outputs.push(Output { expression, sort_group, target });
            }
        }
        Ok(())
    }

    /// Grouping sets, as sort and group references of keys: to be said after all keys.
    pub fn set_sets(&mut self, sets: Vec<Vec<u32>>) -> Result<(), Reason> {
        if !self.constants.is_empty() {
            return Err("a constant is in its grouping sets".into());
        }
        let sets = sets.iter().map(|set| {
            let mut keys = self.positions(set)?;
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        });
        self.sets = Some(sets.collect::<Result<Vec<_>, Reason>>()?);
        Ok(())
    }

    fn positions(&self, references: &[u32]) -> Result<Vec<usize>, Reason> {
        let position = |reference: &u32| {
            self.outputs
                .iter()
                .find_map(|o| match o.target {
                    Target::Key(key) if o.sort_group == *reference => Some(key),
                    _ => None,
                })
                .ok_or_else(|| "a grouping column is not among the aggregation's targets".to_owned())
        };
        references.iter().map(position).collect()
    }

    /// Sees to it that an expression above the aggregation can be computed from the scan's tuple.
    pub fn cover(&mut self, expression: Node<'p>) -> Result<(), Reason> {
        let mut failure = None;
        expression.walk(&mut |n| {
            if self.outputs.iter().any(|o| o.expression.equals(n)) || self.constants.iter().any(|c| c.equals(n)) {
                return Walk::Skip;
            }
            let covered = match n.view() {
                View::Aggregate(_) => self.aggregate(n),
                View::Grouping(references) => self.grouping(n, &references),
                // It depends on the key of its table, by which PostgreSQL saw that rows are grouped.
                View::Var(v) if v.relation != self.builder.relation && v.levels_up == 0 && self.sets.is_none() => {
                    self.key(n, 0)
                }
                View::Var(_) => Err("a column stands outside of aggregates and is not grouped by itself".into()),
                View::Other if n.tag() == pgrx::pg_sys::NodeTag::T_PlaceHolderVar => {
                    Err("an expression is not known to the engine".into())
                }
                _ => return Walk::Descend,
            };
            match covered {
                Ok(()) => Walk::Skip,
                Err(reason) => {
                    failure = Some(reason);
                    Walk::Stop
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    fn output(&mut self, expression: Node<'p>, target: Target) {
        self.outputs.push(Output { expression, sort_group: 0, target });
    }

    /// Computed by the engine, or else by PostgreSQL from the values that the engine finds.
    fn aggregate(&mut self, node: Node<'p>) -> Result<(), Reason> {
        let local = self.builder.localize(node)?;
        let View::Aggregate(call) = local.view() else { return Err("it is no aggregate".into()) };
        let mark = self.builder.mark();
        match aggregate::aggregate(&mut self.builder, &call, &mut self.orders) {
            Ok((mut made, decimals)) => {
                if let Some(decimals) = decimals {
                    made.decimals = Some(self.aggregates.len());
                    self.aggregates.push(decimals);
                }
                self.aggregates.push(made);
                self.output(node, Target::Aggregate(self.aggregates.len() - 1));
                Ok(())
            }
            Err(reason) => {
                self.builder.reset(mark);
                self.fold(node, local, &call).map_err(|more| format!("{reason}; nor from distinct values: {more}"))
            }
        }
    }

    fn fold(&mut self, node: Node<'p>, local: Node<'p>, call: &AggregateView<'p>) -> Result<(), Reason> {
        let filter = match call.filter {
            Some(filter) => self.builder.filter(filter).ok(),
            None => Some(FilterTemplate::everything()),
        };
        let attributes = shippable::foldable(local, call, self.builder.relation, filter.is_none())?;
        let mut columns = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            columns.push(self.builder.column(attribute)?.0);
        }
        columns.sort_unstable();
        let template = FoldTemplate { columns, filter, once: shippable::ignores_repetition(call) };
        let at = match self.folds.iter().position(|f| f.template == template) {
            Some(known) => known,
            None => {
                self.folds.push(Fold { template, columns: Vec::new(), calls: 0 });
                self.folds.len() - 1
            }
        };
        let (fold, expressions) = (&mut self.folds[at], &mut self.builder.expressions);
        let read = if fold.template.filter.is_some() { node.without_filter() } else { node };
        read.any(&mut |n| {
            match n.view() {
                View::Var(_) if !fold.columns.iter().any(|c| c.equals(n)) => fold.columns.push(n),
                // PostgreSQL looks for parameters among the plan's expressions.
                View::Param => expressions.push(n),
                _ => {}
            }
            false
        });
        fold.calls += 1;
        let target = Target::Folded(at, fold.calls - 1);
        if !local.equals(node) {
            self.localized.push((self.outputs.len(), local));
        }
        self.output(node, target);
        Ok(())
    }

    fn grouping(&mut self, node: Node<'p>, references: &[u32]) -> Result<(), Reason> {
        let keys = self.positions(references)?;
        self.groupings.push(keys);
        self.output(node, Target::Grouping(self.groupings.len() - 1));
        Ok(())
    }

    /// Positions in `keys` of each grouping set.
    pub fn sets(&self) -> Vec<Vec<usize>> {
        self.sets.clone().unwrap_or_else(|| vec![(0..self.keys.len()).collect()])
    }

    /// The plan, apart from `outputs` and the builder's expressions, which go beside it.
    pub fn template(
        &self,
        columns: Vec<ColumnTemplate>,
        dimensions: Vec<DimensionTemplate>,
        filters: Vec<FilterTemplate>,
        kept: Option<KeptTemplate>,
        drop_empty: bool,
        top: Option<TopTemplate>,
    ) -> PlanTemplate {
        PlanTemplate {
            version: template::VERSION,
            columns,
            classes: self.builder.class_templates(),
            dimensions,
            filter: FilterTemplate::And(filters),
            kept,
            shape: Shape::Groups(GroupsTemplate {
                keys: self.keys.clone(),
                aggregates: self.aggregates.clone(),
                targets: self.outputs.iter().map(|o| o.target).collect(),
                drop_empty,
                orders: self.orders.clone(),
                top,
                sets: self.sets(),
                groupings: self.groupings.clone(),
                folds: self.folds.iter().map(|f| f.template.clone()).collect(),
                localized: self.localized.iter().map(|(at, _)| *at).collect(),
            }),
            reasons: Vec::new(),
        }
    }
}
