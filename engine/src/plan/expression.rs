//! Columns that a plan computes: arithmetic over numbers, comparisons, CASE and their like, evaluated a block at a time.

use serde::{Deserialize, Serialize};

use super::{Comparison, Filter};
use crate::decimal::power_of_ten;
use crate::types::Value;

/// How a column that no segment stores is made. It names only columns that stand before it in the plan.
// A plan has few of them, each behind a pointer.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Computed {
    Native(Expr),
    Mapped(Mapped),
    Lookup(super::Lookup),
    Attribute(super::Attribute),
}

impl Computed {
    /// The columns that it is made of directly, conditions aside.
    pub(crate) fn sources(&self) -> &[usize] {
        match self {
            Computed::Native(_) => &[],
            Computed::Mapped(mapped) => &mapped.columns,
            Computed::Lookup(lookup) => std::slice::from_ref(&lookup.column),
            Computed::Attribute(attribute) => std::slice::from_ref(&attribute.column),
        }
    }
}

/// The host's function of stored columns or attributes, called once for each distinct value, or combination of values, that selected rows hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// Of several, the host is shown [`crate::plan::Combination`]s.
    pub columns: Vec<usize>,
    pub function: HostFunction,
    /// Of one column: called for NULL, too; else NULL stays NULL.
    pub of_null: bool,
    /// Whether it fails for no value, so that it may be asked about any.
    pub infallible: bool,
}

/// Number of a function that only the host can evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostFunction(pub u32);

/// The arithmetic of a type: what its results may be, and what failing is called.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Int2,
    Int4,
    /// Also booleans, dates and times.
    Int8,
    /// Integers that stand for decimals; who builds the plan keeps account of scales. The largest value stands for NaN.
    Decimal,
    /// Computed in single precision.
    Float4,
    Float8,
}

/// What values of an expression are held in.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Int,
    Decimal,
    Float,
}

impl Number {
    pub fn lane(self) -> Lane {
        match self {
            Number::Int2 | Number::Int4 | Number::Int8 => Lane::Int,
            Number::Decimal => Lane::Decimal,
            Number::Float4 | Number::Float8 => Lane::Float,
        }
    }

    /// The values that an integer type has.
    pub fn limits(self) -> Option<(i128, i128)> {
        match self {
            Number::Int2 => Some((i128::from(i16::MIN), i128::from(i16::MAX))),
            Number::Int4 => Some((i128::from(i32::MIN), i128::from(i32::MAX))),
            Number::Int8 => Some((i128::from(i64::MIN), i128::from(i64::MAX))),
            Number::Decimal | Number::Float4 | Number::Float8 => None,
        }
    }

    /// What a result is that the type does not have.
    pub fn overflow(self) -> Failure {
        match self {
            Number::Int2 => Failure::OutOfRange("smallint"),
            Number::Int4 => Failure::OutOfRange("integer"),
            Number::Int8 => Failure::OutOfRange("bigint"),
            Number::Decimal => Failure::TooManyDigits,
            Number::Float4 | Number::Float8 => Failure::Overflow,
        }
    }
}

/// Why a value cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    DivisionByZero,
    /// Names an integer type.
    OutOfRange(&'static str),
    /// Of floats.
    Overflow,
    Underflow,
    /// A decimal beyond the precision that it is cast to.
    FieldOverflow,
    /// A decimal beyond what 128 bits hold.
    TooManyDigits,
    /// Names an integer type.
    NanTo(&'static str),
    InfiniteDate,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::DivisionByZero => f.write_str("division by zero"),
            Failure::OutOfRange(ty) => write!(f, "{ty} out of range"),
            Failure::Overflow => f.write_str("value out of range: overflow"),
            Failure::Underflow => f.write_str("value out of range: underflow"),
            Failure::FieldOverflow => f.write_str("numeric field overflow"),
            Failure::TooManyDigits => f.write_str("a numeric expression has more than 38 digits"),
            Failure::InfiniteDate => f.write_str("cannot subtract infinite dates"),
            Failure::NanTo(ty) => write!(f, "cannot convert NaN to {ty}"),
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    /// Integers towards zero; not of decimals.
    Divide,
    /// With the dividend's sign; not of decimals nor floats. Within the type of its operands, which is not tested again.
    Remainder,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest: ties of decimals away from zero, of floats to even.
    Nearest,
    Down,
    Up,
    TowardsZero,
}

/// Functions of one argument. Each is NULL of NULL.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Negate(Number),
    Absolute(Number),
    /// An integer, or a decimal of this scale, to a float.
    ToFloat {
        scale: u8,
        single: bool,
    },
    /// A double to single precision.
    ToSingle,
    /// A float or an integer to an integer type.
    ToInt(Number),
    /// A decimal, rounded before, to an integer type.
    DecimalToInt(Number),
    /// An integer as a decimal, or a decimal with this many digits more behind the point.
    Scale(u8),
    /// A decimal with this many digits less.
    Round(u8, Rounding),
    RoundFloat(Rounding),
    /// A decimal whose magnitude is below `10^digits`.
    Precision(u8),
    /// A date that is not infinite.
    FiniteDate,
}

/// Without NULLs but where it says so. `C`: constants, `F`: conditions (a plan that is not bound yet has its own).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Expr<C = Value, F = Filter> {
    Column(usize),
    /// `I64`, `I128` (decimals), `F64` or NULL.
    Constant(C),
    Null,
    Binary {
        operator: Operator,
        number: Number,
        left: Box<Expr<C, F>>,
        right: Box<Expr<C, F>>,
    },
    Unary {
        function: Function,
        argument: Box<Expr<C, F>>,
    },
    /// 1 or 0. Operands of one lane; decimals of one scale.
    Compare {
        comparison: Comparison,
        lane: Lane,
        left: Box<Expr<C, F>>,
        right: Box<Expr<C, F>>,
    },
    /// 1 where `yes` selects, 0 where `no` does, else NULL.
    Truth {
        yes: F,
        no: F,
    },
    /// The first result whose condition selects. A result is computed only where it is taken.
    Case {
        lane: Lane,
        whens: Vec<(F, Expr<C, F>)>,
        otherwise: Box<Expr<C, F>>,
    },
    /// The first that is not NULL.
    Coalesce {
        lane: Lane,
        arguments: Vec<Expr<C, F>>,
    },
    /// Of those that are not NULL.
    Extreme {
        lane: Lane,
        greatest: bool,
        arguments: Vec<Expr<C, F>>,
    },
}

impl<C, F> Expr<C, F> {
    /// The same expression with its constants and conditions replaced.
    pub fn bind<D, G, E>(
        &self,
        constant: &mut dyn FnMut(&C) -> Result<D, E>,
        condition: &mut dyn FnMut(&F) -> Result<G, E>,
    ) -> Result<Expr<D, G>, E> {
        macro_rules! bound {
            ($e:expr) => {
                Box::new($e.bind(constant, condition)?)
            };
        }
        Ok(match self {
            Expr::Column(column) => Expr::Column(*column),
            Expr::Constant(value) => Expr::Constant(constant(value)?),
            Expr::Null => Expr::Null,
            Expr::Binary { operator, number, left, right } => {
                Expr::Binary { operator: *operator, number: *number, left: bound!(left), right: bound!(right) }
            }
            Expr::Unary { function, argument } => Expr::Unary { function: *function, argument: bound!(argument) },
            Expr::Compare { comparison, lane, left, right } => {
                Expr::Compare { comparison: *comparison, lane: *lane, left: bound!(left), right: bound!(right) }
            }
            Expr::Truth { yes, no } => Expr::Truth { yes: condition(yes)?, no: condition(no)? },
            Expr::Case { lane, whens, otherwise } => {
                let mut made = Vec::with_capacity(whens.len());
                for (when, result) in whens {
                    made.push((condition(when)?, result.bind(constant, condition)?));
                }
                Expr::Case { lane: *lane, whens: made, otherwise: bound!(otherwise) }
            }
            Expr::Coalesce { lane, arguments } => {
                let arguments = arguments.iter().map(|a| a.bind(constant, condition)).collect::<Result<_, E>>()?;
                Expr::Coalesce { lane: *lane, arguments }
            }
            Expr::Extreme { lane, greatest, arguments } => {
                let arguments = arguments.iter().map(|a| a.bind(constant, condition)).collect::<Result<_, E>>()?;
                Expr::Extreme { lane: *lane, greatest: *greatest, arguments }
            }
        })
    }

    /// Calls `column` with every column outside of conditions, `condition` with every condition.
    pub fn visit(&self, column: &mut dyn FnMut(usize), condition: &mut dyn FnMut(&F)) {
        match self {
            Expr::Column(c) => column(*c),
            Expr::Constant(_) | Expr::Null => {}
            Expr::Binary { left, right, .. } | Expr::Compare { left, right, .. } => {
                left.visit(column, condition);
                right.visit(column, condition);
            }
            Expr::Unary { argument, .. } => argument.visit(column, condition),
            Expr::Truth { yes, no } => {
                condition(yes);
                condition(no);
            }
            Expr::Case { whens, otherwise, .. } => {
                for (when, result) in whens {
                    condition(when);
                    result.visit(column, condition);
                }
                otherwise.visit(column, condition);
            }
            Expr::Coalesce { arguments, .. } | Expr::Extreme { arguments, .. } => {
                arguments.iter().for_each(|a| a.visit(column, condition));
            }
        }
    }
}

/// Smallest and largest value that there may be, NaN aside; `None`: unknown.
pub type Limits = Option<(i128, i128)>;

/// Of values of either.
pub fn either(a: Limits, b: Limits) -> Limits {
    let ((a, b), (c, d)) = (a?, b?);
    Some((a.min(c), b.max(d)))
}

fn corners(a: (i128, i128), b: (i128, i128), f: impl Fn(i128, i128) -> Option<i128>) -> Limits {
    let corners = [f(a.0, b.0)?, f(a.0, b.1)?, f(a.1, b.0)?, f(a.1, b.1)?];
    Some((*corners.iter().min()?, *corners.iter().max()?))
}

impl Operator {
    /// Of exact results, whether or not a type has them.
    pub fn limits(self, left: Limits, right: Limits) -> Limits {
        if self == Operator::Remainder {
            // Of the dividend's sign, and smaller than the divisor.
            let sign = |low: i128, high: i128| (low.min(0), high.max(0));
            return match (left, right) {
                (Some(a), Some(b)) => {
                    let most = b.0.unsigned_abs().max(b.1.unsigned_abs()).saturating_sub(1).min(i128::MAX as u128);
                    let (low, high) = sign(a.0, a.1);
                    Some((low.max(-(most as i128)), high.min(most as i128)))
                }
                (Some(a), None) => Some(sign(a.0, a.1)),
                _ => None,
            };
        }
        let (a, b) = (left?, right?);
        match self {
            Operator::Add => a.0.checked_add(b.0).zip(a.1.checked_add(b.1)),
            Operator::Subtract => a.0.checked_sub(b.1).zip(a.1.checked_sub(b.0)),
            Operator::Multiply => corners(a, b, i128::checked_mul),
            // Nothing grows, but for the least number by -1.
            Operator::Divide if b.0 > 0 || b.1 < 0 => corners(a, b, i128::checked_div),
            _ => {
                let most = a.0.checked_abs()?.max(a.1.checked_abs()?);
                Some((-most, most))
            }
        }
    }
}

impl Rounding {
    /// `value / unit`, rounded. `unit` is positive.
    #[inline(always)]
    pub fn divide(self, value: i128, unit: i128) -> i128 {
        match self {
            Rounding::TowardsZero => value / unit,
            Rounding::Down => value.div_euclid(unit),
            Rounding::Up => value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0),
            Rounding::Nearest => {
                let (quotient, rest) = (value / unit, value % unit);
                quotient + if rest.unsigned_abs() >= unit.unsigned_abs().div_ceil(2) { value.signum() } else { 0 }
            }
        }
    }
}

impl Function {
    /// As [`Operator::limits`]. Of floats nothing is known.
    pub fn limits(self, argument: Limits) -> Limits {
        match self {
            Function::Negate(_) => argument.and_then(|(low, high)| high.checked_neg().zip(low.checked_neg())),
            Function::Absolute(_) => {
                let (low, high) = argument?;
                let most = low.checked_abs()?.max(high.checked_abs()?);
                let least = if low <= 0 && high >= 0 { 0 } else { low.checked_abs()?.min(high.checked_abs()?) };
                Some((least, most))
            }
            Function::ToInt(_) | Function::DecimalToInt(_) | Function::FiniteDate => argument,
            Function::Scale(digits) => {
                let (low, high) = argument?;
                low.checked_mul(power_of_ten(digits)).zip(high.checked_mul(power_of_ten(digits)))
            }
            Function::Round(digits, rounding) => {
                let (low, high) = argument?;
                let unit = power_of_ten(digits);
                Some((rounding.divide(low, unit), rounding.divide(high, unit)))
            }
            Function::Precision(digits) => {
                let most = power_of_ten(digits) - 1;
                Some(argument.map_or((-most, most), |(low, high)| (low.clamp(-most, most), high.clamp(-most, most))))
            }
            Function::ToFloat { .. } | Function::ToSingle | Function::RoundFloat(_) => None,
        }
    }

    /// The lane of its results.
    pub fn lane(self) -> Lane {
        match self {
            Function::Negate(number) | Function::Absolute(number) => number.lane(),
            Function::ToFloat { .. } | Function::ToSingle | Function::RoundFloat(_) => Lane::Float,
            Function::ToInt(_) | Function::DecimalToInt(_) | Function::FiniteDate => Lane::Int,
            Function::Scale(_) | Function::Round(..) | Function::Precision(_) => Lane::Decimal,
        }
    }
}

/// What a type's results may be, given the exact ones: those beyond are errors.
pub fn within(number: Number, exact: Limits) -> Limits {
    match (number.limits(), exact) {
        (Some(of), Some(exact)) => Some((exact.0.clamp(of.0, of.1), exact.1.clamp(of.0, of.1))),
        (Some(of), None) => Some(of),
        (None, exact) => exact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span() -> impl Strategy<Value = (i128, i128)> {
        (-40..40i128, 0..30i128).prop_map(|(low, length)| (low, low + length))
    }

    proptest! {
        #[test]
        fn limits_hold_every_result(a in span(), b in span(), x in 0..30i128, y in 0..30i128) {
            let (x, y) = ((a.0 + x).min(a.1), (b.0 + y).min(b.1));
            use Operator::*;
            let inside = |limits: Limits, v: i128| limits.is_none_or(|(low, high)| low <= v && v <= high);
            for (operator, value) in [(Add, Some(x + y)), (Subtract, Some(x - y)), (Multiply, Some(x * y)),
                (Divide, x.checked_div(y)), (Remainder, x.checked_rem(y))] {
                if let Some(value) = value {
                    prop_assert!(inside(operator.limits(Some(a), Some(b)), value), "{:?} {} {}", operator, x, y);
                }
            }
            prop_assert!(inside(Function::Negate(Number::Int8).limits(Some(a)), -x));
            prop_assert!(inside(Function::Absolute(Number::Int8).limits(Some(a)), x.abs()));
            for rounding in [Rounding::Nearest, Rounding::Down, Rounding::Up, Rounding::TowardsZero] {
                prop_assert!(inside(Function::Round(1, rounding).limits(Some(a)), rounding.divide(x, 10)));
            }
        }
    }

    #[test]
    fn rounding_to_nearest_takes_ties_away_from_zero() {
        let round = |v| Rounding::Nearest.divide(v, 10);
        assert_eq!([round(14), round(15), round(-15), round(-14), round(0)], [1, 2, -2, -1, 0]);
        assert_eq!(
            [Rounding::Down.divide(-11, 10), Rounding::Up.divide(-11, 10), Rounding::Up.divide(11, 10)],
            [-2, -1, 2]
        );
    }
}
