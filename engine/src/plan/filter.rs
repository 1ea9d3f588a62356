//! Filters in negation normal form: a NULL result is never selected, and NOT is inside the leaves.

use super::HostPredicate;
use crate::types::Value;

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Selects all rows, or none.
    Const(bool),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Test(Predicate),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// Position in the plan's columns.
    pub column: usize,
    pub test: Test,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    Unbounded,
    Included(Value),
    Excluded(Value),
}

/// Selects rows by one column's value in physical order: integers by value, F64 in PostgreSQL's order (NaN is
/// equal to NaN and greatest, -0 = 0), bytes by `memcmp`. Every test but `IsNull` and `HostOfNull` is false for NULL.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    IsNull,
    IsNotNull,
    Range {
        low: Bound,
        high: Bound,
    },
    /// Equal to one of the values (no NULLs among them).
    In(Vec<Value>),
    /// Not NULL and equal to none of the values (no NULLs among them).
    NotIn(Vec<Value>),
    /// Of I64 columns: in one of these ranges, ascending, disjoint, both ends inclusive.
    Within(Vec<(i64, i64)>),
    /// SQL LIKE over UTF-8 with `\` as escape; `negated`: NOT LIKE.
    Like {
        pattern: Vec<u8>,
        negated: bool,
    },
    /// Evaluated by the host on distinct values (any negation is the host's).
    Host(HostPredicate),
    /// The same, and on NULL.
    HostOfNull(HostPredicate),
}
