//! What the host asks of the engine: plans as data, all operands bound.

mod aggregate;
mod attributes;
mod calendar;
mod expression;
mod filter;
mod host;
mod lookup;
mod point;
mod prune;
mod replacement;

pub use aggregate::{AggregateCall, AggregateFunction, AggregateQuery, Buckets, By, Key, Statistic, Term, Top};
pub use attributes::Attributes;
pub use calendar::CalendarUnit;
pub use expression::{
    Computed, Expr, Failure, Function, HostFunction, Lane, Limits, Mapped, Number, Operator, Rounding, either, within,
};
pub use filter::{Bound, Filter, Predicate, Test};
#[cfg(test)]
pub(crate) use host::NoHost;
pub use host::{Combination, Host, HostPredicate, OrderId, TextFunction, ThreadPool, Wake};
pub use lookup::{Attribute, AttributeValues, KeyIndex, Lookup};
pub(crate) use lookup::{Held, NO_ROW, Rows};
pub use point::{Comparison, Point, float_among_integers, select, whole_units};
pub use prune::{bounds, may_select};
pub use replacement::Replacement;

use std::sync::Arc;

use crate::types::{ColumnId, LogicalType, Value};

/// A column that a plan reads. Plans name columns by their position in the plan's list of these.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnRef {
    pub id: ColumnId,
    pub ty: LogicalType,
    /// What rows of segments older than the column hold: NULL or its default at the time it was added.
    pub missing: Value,
    /// A column that is not stored; then `id` means nothing.
    pub computed: Option<Arc<Computed>>,
}

impl ColumnRef {
    pub fn stored(id: ColumnId, ty: LogicalType, missing: Value) -> Self {
        ColumnRef { id, ty, missing, computed: None }
    }

    pub fn computed(computed: Computed, ty: LogicalType) -> Self {
        ColumnRef { id: ColumnId(u32::MAX), ty, missing: Value::Null, computed: Some(Arc::new(computed)) }
    }
}

/// Asks for the first rows by a column, in physical order: all of the first `limit` come, and perhaps more, in any order.
#[derive(Clone, Copy, Debug)]
pub struct RowTop {
    /// Position in the plan's columns.
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
    pub limit: usize,
}

/// A scan of rows: `filter` selects, `output` (positions in `columns`) is returned.
#[derive(Clone, Debug)]
pub struct RowQuery {
    pub columns: Vec<ColumnRef>,
    pub filter: Filter,
    pub output: Vec<usize>,
}
