//! Grouped aggregation.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ColumnRef, Filter, OrderId};

#[derive(Clone, Debug)]
pub struct AggregateQuery {
    pub columns: Vec<ColumnRef>,
    pub filter: Filter,
    /// Empty: one group, present even when no row is selected.
    pub keys: Vec<Key>,
    pub aggregates: Vec<AggregateCall>,
}

#[derive(Clone, Debug)]
pub enum Key {
    /// Grouped by physical equality (F64: -0 = 0, NaN = NaN); the host asks this only where that is SQL equality.
    Column(usize),
    /// As `Column`, but -0 is not 0.
    Exact(usize),
    /// A function of a time column, piecewise constant; the key is the number of its value.
    Buckets { column: usize, buckets: Arc<Buckets> },
}

impl Key {
    /// Position of the column that is grouped by.
    pub fn column(&self) -> usize {
        let (Key::Column(column) | Key::Exact(column) | Key::Buckets { column, .. }) = self;
        *column
    }
}

/// Piece `i` is `starts[i] .. starts[i+1]` (the last one open) in the column's stored unit (days for dates) and has the value number
/// `values[i]`; different pieces may share a value. `starts` ascends; `starts[0]` is at most every time asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    pub starts: Vec<i64>,
    pub values: Vec<u32>,
    /// The value number that NULL has; `None`: it is a key of its own.
    pub null: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// FILTER (WHERE ...); `Const(true)` without.
    pub filter: Filter,
}

/// Asks for the first groups in an order: all of the first `limit` come, and perhaps more.
#[derive(Clone, Debug)]
pub struct Top {
    pub terms: Vec<Term>,
    pub limit: usize,
    /// The terms are the whole order: of groups that tie in all of them any will do.
    pub complete: bool,
}

/// One term of an order. Values are in physical order: numbers, times and booleans (NaN greatest), bytes.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub by: By,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Not of buckets: the order ends before such a term.
    Key(usize),
    Aggregate(usize),
}

/// Arguments are positions in the plan's columns. NULLs are skipped, as in SQL.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    CountStar,
    Count(usize),
    /// By physical equality, as keys are.
    CountDistinct(usize),
    /// I64, I128: exact, finished as `Value::I128` (scaled as the column is); F64: in a fixed order of reduction, whatever the number
    /// of threads. No row: NULL. NUMERIC NaN: the sentinel of `Physical::I128`.
    Sum(usize),
    /// Finished as the sum, with the count of non-NULL rows beside it: the host divides.
    Avg(usize),
    /// In physical order, or for bytes in the host's order if one is given.
    Min(usize, Option<OrderId>),
    Max(usize, Option<OrderId>),
    BoolAnd(usize),
    BoolOr(usize),
    /// Of I64 columns.
    BitAnd(usize),
    BitOr(usize),
    BitXor(usize),
    /// Of F64 the variance, or its square root if `root`. Of other numbers its numerator `nΣx² - (Σx)²` (scaled as twice the column's scale), as
    /// `Value::I128` or, beyond that, as the `Value::Bytes` of its decimal digits, with the count of non-NULL rows beside it: the host
    /// divides by `n(n-1)` if `sample`, else by `n²`. NULL for fewer than two rows, or none.
    Variance {
        column: usize,
        sample: bool,
        root: bool,
    },
    /// Of the rows in which neither of two F64 columns is NULL.
    Regression {
        y: usize,
        x: usize,
        statistic: Statistic,
    },
    /// How many rows hold no NULL in either column.
    CountPairs(usize, usize),
}

/// SQL's statistics of pairs.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    AverageX,
    AverageY,
    SumXx,
    SumYy,
    SumXy,
    CovariancePopulation,
    CovarianceSample,
    Correlation,
    RSquared,
    Slope,
    Intercept,
}
