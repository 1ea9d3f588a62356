//! What was pushed down, as SQL.

use pgrx::pg_sys;

use crate::catalog::datasource;
use crate::error::OrRaise;
use crate::fdw::scan;
use crate::pg::list::pointers;
use crate::pg::lookup;
use crate::pg::node::{self, Node, View};
use crate::translate::template::{
    ColumnTemplate, DimensionTemplate, FilterTemplate, GroupsTemplate, LeafTest, LookupColumn, PairColumn,
    PlanTemplate, RowTopTemplate, Target, TermTemplate, TopTemplate,
};

/// Expressions as SQL.
pub(super) struct Deparser {
    context: *mut pg_sys::List,
    expressions: Vec<Node<'static>>,
    targets: Vec<Node<'static>>,
    relation: u32,
    table: pg_sys::Oid,
    /// Attribute number of each of the plan's columns; 0: dropped.
    attributes: Vec<i16>,
    /// The SQL of those that are computed.
    computed: Vec<Option<String>>,
    prefix: bool,
}

impl Deparser {
    /// # Safety
    /// PostgreSQL's executor and EXPLAIN structures, which outlive the result.
    pub(super) unsafe fn new(
        node: *mut pg_sys::ForeignScanState,
        plan: *mut pg_sys::ForeignScan,
        state: *mut pg_sys::ExplainState,
        template: &PlanTemplate,
    ) -> Self {
        // SAFETY: PostgreSQL's executor and EXPLAIN structures.
        unsafe {
            // Dimensions are not among the relations that the plan itself is told of, but among its columns.
            let relations = pg_sys::bms_union(
                (*plan).fs_relids,
                pg_sys::pull_varnos(std::ptr::null_mut(), (*plan).fdw_scan_tlist.cast()),
            );
            let names = match template.dimensions.is_empty() || (*plan).scan.scanrelid > 0 {
                true => (*state).deparse_cxt,
                false => node::query_context((*(*node).ss.ps.state).es_range_table, relations),
            };
            let context = pg_sys::set_deparse_context_plan(names, plan.cast(), std::ptr::null_mut());
            let (index, table) = scan::relation_of(node);
            let datasource = datasource::open(table).or_raise();
            let attributes = template
                .columns
                .iter()
                .map(|column| {
                    let ColumnTemplate::Stored(id) = column else { return 0 };
                    let position = datasource.schema.columns.iter().position(|c| c.id.0 == *id);
                    let at = datasource.attributes.iter().position(|a| a.is_some() && *a == position);
                    at.map_or(0, |a| a as i16 + 1)
                })
                .collect();
            let targets = pointers::<pg_sys::TargetEntry>((*plan).fdw_scan_tlist)
                .into_iter()
                .filter_map(|t| Node::from_ptr((*t).expr))
                .collect();
            let rows_of = |dimension: &DimensionTemplate| format!("lookup of {}", dimension.name);
            let computed = |(position, column): (usize, &ColumnTemplate)| match column {
                ColumnTemplate::Computed(computed) if computed.text.is_empty() => {
                    template.dimensions.iter().find(|d| d.lookup == position).map(rows_of)
                }
                ColumnTemplate::Computed(computed) => Some(computed.text.clone()),
                ColumnTemplate::Mapped(mapped) => Some(mapped.text.clone()),
                ColumnTemplate::Attribute(attribute) => Some(attribute.text.clone()),
                ColumnTemplate::Lookup(LookupColumn { dimension, .. })
                | ColumnTemplate::Pair(PairColumn { dimension, .. }) => {
                    template.dimensions.get(*dimension).map(rows_of)
                }
                ColumnTemplate::Stored(_) | ColumnTemplate::Unmatched => None,
            };
            Deparser {
                computed: template.columns.iter().enumerate().map(computed).collect(),
                context,
                expressions: node::list((*plan).fdw_exprs),
                targets,
                relation: index,
                table,
                attributes,
                prefix: (*state).verbose,
            }
        }
    }

    fn sql(&self, node: Node<'_>) -> String {
        // SAFETY: the context is that of the node's plan; the result is a C string.
        unsafe {
            lookup::text(pg_sys::deparse_expression(node.as_ptr(), self.context, self.prefix, false))
                .unwrap_or_default()
        }
    }

    pub(super) fn filter(&self, template: &FilterTemplate, top: bool) -> String {
        let join = |parts: &[FilterTemplate], word: &str| {
            let text = parts.iter().map(|p| self.filter(p, false)).collect::<Vec<_>>().join(word);
            if top || parts.len() < 2 { text } else { format!("({text})") }
        };
        match template {
            FilterTemplate::And(parts) => join(parts, " AND "),
            FilterTemplate::Or(parts) => join(parts, " OR "),
            FilterTemplate::Constant { expression, negated } => {
                let text = self.expressions.get(*expression).map(|e| self.sql(*e)).unwrap_or_default();
                if *negated { format!("(NOT {text})") } else { text }
            }
            FilterTemplate::Leaf(leaf) | FilterTemplate::Pieces { leaf, .. } => {
                let attribute = self.attributes.get(leaf.column).copied().unwrap_or(0);
                let Some(expression) = self.expressions.get(leaf.expression) else { return String::new() };
                let column = |n: Node<'static>| if attribute > 0 { n.with_column(self.relation, attribute) } else { n };
                let text = self.sql(column(*expression));
                let computed = self.computed.get(leaf.column).and_then(Option::as_deref);
                // As PostgreSQL shows the placeholder.
                let text = computed.map_or(text.clone(), |sql| text.replace("CASE_TEST_EXPR", sql));
                match leaf.test {
                    // What is tested says the template; the expression may be its negation.
                    LeafTest::IsNull | LeafTest::Bool { .. } => {
                        let name = computed.map_or_else(|| self.column_name(*expression, attribute), str::to_owned);
                        match leaf.test {
                            LeafTest::IsNull if leaf.negated => format!("({name} IS NOT NULL)"),
                            LeafTest::IsNull => format!("({name} IS NULL)"),
                            LeafTest::Bool { value: true, or_null: false } => name,
                            LeafTest::Bool { value: false, or_null: false } => format!("(NOT {name})"),
                            LeafTest::Bool { value: true, .. } => format!("({name} IS NOT FALSE)"),
                            _ => format!("({name} IS NOT TRUE)"),
                        }
                    }
                    _ if leaf.negated => format!("(NOT {text})"),
                    _ => text,
                }
            }
        }
    }

    /// The name of one of the plan's columns, or what it computes.
    pub(super) fn name(&self, column: usize) -> String {
        if let Some(sql) = self.computed.get(column).and_then(Option::as_ref) {
            return sql.clone();
        }
        let attribute = self.attributes.get(column).copied().unwrap_or(0);
        lookup::attribute_name(self.table, attribute).unwrap_or_default()
    }

    fn column_name(&self, expression: Node<'static>, attribute: i16) -> String {
        let mut found = None;
        expression.any(&mut |n| {
            if matches!(n.view(), View::Placeholder) && attribute > 0 {
                found = Some(self.sql(n.with_column(self.relation, attribute)));
            }
            found.is_some()
        });
        found.unwrap_or_default()
    }

    pub(super) fn order(&self, groups: &GroupsTemplate, top: &TopTemplate) -> Vec<String> {
        let term = |term: &TermTemplate| {
            let at = groups.targets.iter().position(|t| *t == term.target)?;
            let direction = direction(term.descending, term.nulls_first);
            Some(format!("{}{direction}", self.sql(*self.targets.get(at)?)))
        };
        top.terms.iter().filter_map(term).collect()
    }

    pub(super) fn row_order(&self, top: &RowTopTemplate) -> String {
        self.name(top.column) + direction(top.descending, top.nulls_first)
    }

    pub(super) fn limit(&self, limit: usize, offset: Option<usize>) -> String {
        let number = |e: usize| self.expressions.get(e).map(|e| self.sql(*e)).unwrap_or_default();
        let offset = offset.map(|offset| format!(" + {}", number(offset)));
        number(limit) + &offset.unwrap_or_default()
    }

    pub(super) fn sets(&self, groups: &GroupsTemplate) -> Vec<String> {
        let name = |key: &usize| {
            let at = groups.targets.iter().position(|t| *t == Target::Key(*key));
            at.and_then(|at| self.targets.get(at)).map(|node| self.sql(*node)).unwrap_or_default()
        };
        let set = |keys: &Vec<usize>| format!("({})", keys.iter().map(name).collect::<Vec<_>>().join(", "));
        groups.sets.iter().map(set).collect()
    }

    pub(super) fn targets(&self, groups: &GroupsTemplate, wanted: impl Fn(&Target) -> bool) -> Vec<String> {
        let pairs = groups.targets.iter().zip(&self.targets);
        pairs.filter(|(t, _)| wanted(t)).map(|(_, node)| self.sql(*node)).collect()
    }
}

fn direction(descending: bool, nulls_first: bool) -> &'static str {
    match (descending, nulls_first) {
        (false, false) => "",
        (false, true) => " NULLS FIRST",
        (true, true) => " DESC",
        (true, false) => " DESC NULLS LAST",
    }
}
