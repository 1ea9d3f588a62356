//! Aggregate calls taken apart into the accumulators they share: sum(x), avg(x) and count(x) need two, not four.

use super::shifted::shifted;
use super::{compute, filter};
use crate::plan::{AggregateFunction, AggregateQuery, Filter, Key, OrderId, Statistic};
use crate::types::{LogicalType, Physical};
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Rows, or non-NULL values of the column.
    Count,
    Sum,
    Min,
    Max,
    Distinct,
    /// Extremes in an order that only the host knows.
    HostMin(OrderId),
    HostMax(OrderId),
    BitAnd,
    BitOr,
    BitXor,
    /// Sum of squares.
    Squares,
    /// Sum of products of the column with the primitive's other one.
    Products,
}

/// One accumulator array. Its groups' values mean nothing where the count of the same column and filter is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Primitive {
    pub measure: Measure,
    /// `None`: rows.
    pub column: Option<usize>,
    /// Another column: only rows count in which it is not NULL either.
    pub other: Option<usize>,
    /// Number of the FILTER; 0 is none.
    pub filter: usize,
}

/// How an aggregate call is finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub function: AggregateFunction,
    pub value: usize,
    pub count: usize,
    /// What each value that was summed lacks.
    pub shift: i64,
    pub moments: Moments,
}

/// Sums that variances and regressions are made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub x: Option<usize>,
    pub y: Option<usize>,
    pub xx: Option<usize>,
    pub yy: Option<usize>,
    pub xy: Option<usize>,
}

impl Moments {
    pub fn all(&self) -> impl Iterator<Item = usize> {
        [self.x, self.y, self.xx, self.yy, self.xy].into_iter().flatten()
    }
}

pub(super) struct Program {
    /// The first counts the rows of each group.
    pub primitives: Vec<Primitive>,
    /// Distinct FILTERs; the first is none.
    pub filters: Vec<Filter>,
    pub outputs: Vec<Output>,
    /// Columns, with numbers of FILTERs, that no primitive reads although computing them may fail.
    pub checks: Vec<(usize, usize)>,
    /// Whether sums of a column and a constant are made from those of the column.
    pub shifts: bool,
}

impl Program {
    /// Checks the whole query. `shifts`: see [`Program::shifts`]. Errors: `Invalid`.
    pub fn new(query: &AggregateQuery, shifts: bool) -> Result<Program> {
        compute::check(&query.columns)?;
        filter::check(&query.filter, &query.columns)?;
        for key in &query.keys {
            let ty = type_of(query, key.column())?;
            if let Key::Buckets { buckets, .. } = key {
                let ok = !buckets.starts.is_empty()
                    && buckets.starts.len() == buckets.values.len()
                    && buckets.starts.is_sorted();
                if !ok || ty.physical() != Physical::I64 {
                    return Err(Error::invalid("bucket keys need a time column and ascending starts"));
                }
            }
        }
        let rows = Primitive { measure: Measure::Count, column: None, other: None, filter: 0 };
        let mut program = Program {
            primitives: vec![rows],
            filters: vec![Filter::Const(true)],
            outputs: Vec::new(),
            checks: Vec::new(),
            shifts,
        };
        for call in &query.aggregates {
            filter::check(&call.filter, &query.columns)?;
            let filter = match program.filters.iter().position(|f| *f == call.filter) {
                Some(known) => known,
                None => {
                    program.filters.push(call.filter.clone());
                    program.filters.len() - 1
                }
            };
            if let Some(output) = program.moments(query, call.function, filter)? {
                program.outputs.push(output);
                continue;
            }
            let (measure, mut column) = measure(query, call.function)?;
            let mut shift = 0;
            if let (Measure::Sum, Some(c), true) = (measure, column, shifts)
                && let Some(of) = shifted(&query.columns, c)
            {
                program.checks.push((c, filter));
                (column, shift) = (Some(of.column), of.by);
            }
            let count = program.add(Primitive { measure: Measure::Count, column, other: None, filter });
            let value = program.add(Primitive { measure, column, other: None, filter });
            program.outputs.push(Output { function: call.function, value, count, shift, moments: Moments::default() });
        }
        Ok(program)
    }

    /// The sums that a variance or a regression needs; `None`: the function is neither.
    fn moments(
        &mut self,
        query: &AggregateQuery,
        function: AggregateFunction,
        filter: usize,
    ) -> Result<Option<Output>> {
        use Statistic::*;
        let (x, y) = match function {
            AggregateFunction::Variance { column, .. } => (column, column),
            AggregateFunction::Regression { y, x, .. } | AggregateFunction::CountPairs(y, x) => (x, y),
            _ => return Ok(None),
        };
        for column in [x, y] {
            let physical = type_of(query, column)?.physical();
            let regression = matches!(function, AggregateFunction::Regression { .. });
            if physical == Physical::Bytes && !matches!(function, AggregateFunction::CountPairs(..))
                || regression && physical != Physical::F64
            {
                return Err(Error::invalid("moments of what are not numbers"));
            }
        }
        let mut of = |measure: Measure, column: usize, other: usize| {
            let other = (other != column).then_some(other);
            self.add(Primitive { measure, column: Some(column), other, filter })
        };
        let count = of(Measure::Count, x.min(y), x.max(y));
        let mut moments = Moments::default();
        if !matches!(function, AggregateFunction::CountPairs(..)) {
            let statistic =
                if let AggregateFunction::Regression { statistic, .. } = function { statistic } else { SumXx };
            if !matches!(statistic, AverageY | SumYy) {
                moments.x = Some(of(Measure::Sum, x, y));
            }
            if !matches!(statistic, AverageX | SumXx) {
                moments.y = Some(of(Measure::Sum, y, x));
            }
            if matches!(statistic, SumXx | Correlation | RSquared | Slope | Intercept) {
                moments.xx = Some(of(Measure::Squares, x, y));
            }
            if matches!(statistic, SumYy | Correlation | RSquared) {
                moments.yy = Some(of(Measure::Squares, y, x));
            }
            if !matches!(statistic, AverageX | AverageY | SumXx | SumYy) {
                moments.xy = Some(of(Measure::Products, x.min(y), x.max(y)));
            }
        }
        Ok(Some(Output { function, value: count, count, shift: 0, moments }))
    }

    fn add(&mut self, primitive: Primitive) -> usize {
        match self.primitives.iter().position(|p| *p == primitive) {
            Some(known) => known,
            None => {
                self.primitives.push(primitive);
                self.primitives.len() - 1
            }
        }
    }
}

fn type_of(query: &AggregateQuery, column: usize) -> Result<LogicalType> {
    query.columns.get(column).map(|c| c.ty).ok_or_else(|| Error::invalid("an expression names no column of the plan"))
}

fn measure(query: &AggregateQuery, function: AggregateFunction) -> Result<(Measure, Option<usize>)> {
    use AggregateFunction::*;
    let number = |column: usize| match type_of(query, column)?.physical() {
        Physical::Bytes => Err(Error::invalid("a sum of byte strings")),
        _ => Ok(()),
    };
    let boolean = |column: usize| match type_of(query, column)? {
        LogicalType::Bool => Ok(()),
        _ => Err(Error::invalid("bool_and and bool_or need booleans")),
    };
    let bits = |column: usize| match type_of(query, column)? {
        LogicalType::Int2 | LogicalType::Int4 | LogicalType::Int8 => Ok(()),
        _ => Err(Error::invalid("bits of what are not integers")),
    };
    let ordered = |column: usize, order: Option<OrderId>| -> Result<Option<OrderId>> {
        let bytes = type_of(query, column)?.physical() == Physical::Bytes;
        Ok(order.filter(|_| bytes))
    };
    Ok(match function {
        CountStar => (Measure::Count, None),
        Count(c) => (type_of(query, c).map(|_| Measure::Count)?, Some(c)),
        CountDistinct(c) => (type_of(query, c).map(|_| Measure::Distinct)?, Some(c)),
        Sum(c) | Avg(c) => (number(c).map(|()| Measure::Sum)?, Some(c)),
        Min(c, order) => (ordered(c, order)?.map_or(Measure::Min, Measure::HostMin), Some(c)),
        Max(c, order) => (ordered(c, order)?.map_or(Measure::Max, Measure::HostMax), Some(c)),
        BoolAnd(c) => (boolean(c).map(|()| Measure::Min)?, Some(c)),
        BoolOr(c) => (boolean(c).map(|()| Measure::Max)?, Some(c)),
        BitAnd(c) => (bits(c).map(|()| Measure::BitAnd)?, Some(c)),
        BitOr(c) => (bits(c).map(|()| Measure::BitOr)?, Some(c)),
        BitXor(c) => (bits(c).map(|()| Measure::BitXor)?, Some(c)),
        Variance { .. } | Regression { .. } | CountPairs(..) => return Err(Error::invalid("not a single measure")),
    })
}
