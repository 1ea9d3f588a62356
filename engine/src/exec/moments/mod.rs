//! Variances, covariances and regression from exact sums of values and of their products.
//!
//! With n, Σx and Σxy exact, `Sxy = (nΣxy - ΣxΣy) / n` is rounded once, whatever the order of the rows and the number of threads; what is made
//! of it follows PostgreSQL's float8_var_pop, float8_corr and their like (E. A. Youngs, E. M. Cramer, "Some Results Relevant to Choice of Sum and
//! Sum-of-Product Algorithms", 1971), in what is undefined, infinite or out of range, too.

mod big;
mod products;
mod squares;
mod wide;

pub(super) use big::Big;
pub(super) use products::{Pairs, ProductSums, is_valid, window_for};
pub(super) use squares::{SquareSums, out_of_range};
pub(super) use wide::Wide;

use super::floats::{FloatSum, exp2};
use super::primitives::{Moments, Output};
use crate::plan::{AggregateFunction, Statistic};
use crate::types::{LogicalType, Value};
use crate::{Error, Result};

/// Where a group's sums are looked up, by the number of their primitive.
pub(super) trait Sums {
    fn float(&self, primitive: usize, group: u32) -> Option<FloatSum>;
    fn products(&self, primitive: usize, group: u32) -> Option<Vec<(i32, Wide)>>;
    /// The sum of integers, and whether a NaN is among them.
    fn integer(&self, primitive: usize, group: u32) -> Option<(i128, bool)>;
    fn squares(&self, primitive: usize, group: u32) -> Option<Wide>;
    /// Whether what is made of sums of floats is surely in their range.
    fn is_moderate(&self, primitive: usize) -> bool;
}

/// The value of an aggregate that is made of moments; `None`: `output` is none. Of integers and decimals `nΣx² - (Σx)²` as `I128` or, beyond
/// that, the bytes of its decimal digits. Errors: `OutOfRange`.
pub(super) fn value(sums: &dyn Sums, output: &Output, count: i64, group: u32) -> Result<Option<Value>> {
    let of = Group { sums, group, count, moments: &output.moments };
    Ok(Some(match output.function {
        AggregateFunction::Variance { sample, root, .. } => {
            if count <= i64::from(sample) {
                return Ok(Some(Value::Null));
            }
            let of_integers = of.moments.x.and_then(|x| sums.integer(x, group));
            if let Some((sum, nan)) = of_integers {
                return of.numerator(sum, nan).map(Some);
            }
            of.sum(of.moments.x)?.finish()?;
            let variance = of.deviations(Pair::Xx)? / (count - i64::from(sample)) as f64;
            Value::F64(if root { variance.sqrt() } else { variance })
        }
        AggregateFunction::Regression { statistic, .. } => of.statistic(statistic)?.map_or(Value::Null, Value::F64),
        _ => return Ok(None),
    }))
}

/// What a value of these aggregates is as a float; of numerators nearly that.
pub(super) fn near(function: AggregateFunction, value: &Value, count: i64) -> Option<f64> {
    let numerator = match value {
        Value::F64(v) => return Some(*v),
        Value::I128(LogicalType::NUMERIC_NAN_I128) => return Some(f64::NAN),
        Value::I128(v) => *v as f64,
        Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    };
    let AggregateFunction::Variance { sample, root, .. } = function else { return None };
    let variance = numerator / (count as f64 * (count - i64::from(sample)) as f64);
    Some(if root { variance.sqrt() } else { variance })
}

/// Whether no group's value can be out of range.
pub(super) fn is_moderate(sums: &dyn Sums, output: &Output) -> bool {
    output.moments.all().all(|primitive| sums.is_moderate(primitive))
}

#[derive(Clone, Copy)]
enum Pair {
    Xx,
    Xy,
    Yy,
}

struct Group<'a> {
    sums: &'a dyn Sums,
    group: u32,
    count: i64,
    moments: &'a Moments,
}

impl Group<'_> {
    fn sum(&self, primitive: Option<usize>) -> Result<FloatSum> {
        primitive.and_then(|p| self.sums.float(p, self.group)).ok_or_else(missing)
    }

    fn numerator(&self, sum: i128, nan: bool) -> Result<Value> {
        if nan {
            return Ok(Value::I128(LogicalType::NUMERIC_NAN_I128));
        }
        let squares = self.moments.xx.and_then(|p| self.sums.squares(p, self.group)).ok_or_else(missing)?;
        let (sum, squares) = (Big::from(sum), Big::sum(&[(0, squares)]));
        let numerator = squares.times(&Big::from(i128::from(self.count))).minus(&sum.times(&sum));
        Ok(match numerator.to_i128() {
            Some(v) if v != LogicalType::NUMERIC_NAN_I128 => Value::I128(v),
            _ => Value::Bytes(numerator.to_decimal().into_bytes()),
        })
    }

    /// The sum of products of deviations from the means; NaN where values are not finite. Errors: `OutOfRange`.
    fn deviations(&self, pair: Pair) -> Result<f64> {
        let (left, right, products) = match pair {
            Pair::Xx => (self.moments.x, self.moments.x, self.moments.xx),
            Pair::Xy => (self.moments.x, self.moments.y, self.moments.xy),
            Pair::Yy => (self.moments.y, self.moments.y, self.moments.yy),
        };
        let (left, right) = (self.sum(left)?, self.sum(right)?);
        if !left.is_finite() || !right.is_finite() {
            return Ok(f64::NAN);
        }
        let products = products.and_then(|p| self.sums.products(p, self.group)).ok_or_else(missing)?;
        let count = Big::from(i128::from(self.count));
        let difference = Big::sum(&products).times(&count).minus(&left.exact().times(&right.exact()));
        let (mantissa, exponent) = difference.rounded();
        scale(mantissa / self.count as f64, exponent)
    }

    fn statistic(&self, statistic: Statistic) -> Result<Option<f64>> {
        use Statistic::*;
        let n = self.count as f64;
        if self.count < 1 || (statistic == CovarianceSample && self.count < 2) {
            return Ok(None);
        }
        let moments = self.moments;
        let sx = moments.x.map(|_| self.sum(moments.x)?.finish()).transpose()?.unwrap_or_default();
        let sy = moments.y.map(|_| self.sum(moments.y)?.finish()).transpose()?.unwrap_or_default();
        let deviations = |primitive: Option<usize>, pair| primitive.map(|_| self.deviations(pair)).transpose();
        let sxx = deviations(moments.xx, Pair::Xx)?.unwrap_or_default();
        let syy = deviations(moments.yy, Pair::Yy)?.unwrap_or_default();
        let sxy = deviations(moments.xy, Pair::Xy)?.unwrap_or_default();
        Ok(match statistic {
            AverageX => Some(sx / n),
            AverageY => Some(sy / n),
            SumXx => Some(sxx),
            SumYy => Some(syy),
            SumXy => Some(sxy),
            CovariancePopulation => Some(sxy / n),
            CovarianceSample => Some(sxy / (n - 1.0)),
            Correlation if sxx == 0.0 || syy == 0.0 => None,
            Correlation => Some(sxy / (sxx * syy).sqrt()),
            RSquared if sxx == 0.0 => None,
            RSquared if syy == 0.0 => Some(1.0),
            RSquared => Some(sxy * sxy / (sxx * syy)),
            Slope | Intercept if sxx == 0.0 => None,
            Slope => Some(sxy / sxx),
            Intercept => Some((sy - sx * sxy / sxx) / n),
        })
    }
}

/// `value * 2^exponent`. Errors: `OutOfRange` beyond the largest float.
fn scale(value: f64, exponent: i32) -> Result<f64> {
    let (mut value, mut exponent) = (value, exponent);
    while exponent > 1000 && value.is_finite() && value != 0.0 {
        (value, exponent) = (value * exp2(1000), exponent - 1000);
    }
    while exponent < -1000 && value != 0.0 {
        (value, exponent) = (value * exp2(-1000), exponent + 1000);
    }
    let value = if value == 0.0 { 0.0 } else { value * exp2(exponent.clamp(-1000, 1000)) };
    if value.is_infinite() { Err(Error::OutOfRange { what: "double precision".into() }) } else { Ok(value) }
}

fn missing() -> Error {
    Error::invalid("a moment without its sums")
}
