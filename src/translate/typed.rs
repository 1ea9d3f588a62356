//! Translated expressions: what their values are, and what arithmetic makes of it.

use basalt_engine::decimal::power_of_ten;
use basalt_engine::plan::{Expr, Function, Lane, Limits, Number, Operator, Rounding, within};
use basalt_engine::types::LogicalType;
use pgrx::pg_sys;

use super::shippable::Reason;
use super::template::{ConstantTemplate, ExprTemplate};

/// Decimals of numerics that are computed: more would hardly ever fit.
pub(super) const MAX_SCALE: u8 = 30;
/// Digits that 128 bits surely hold.
pub(super) const MAX_DIGITS: u8 = 38;

/// What an expression's values are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    Int(Number),
    Decimal { scale: u8 },
    Float(Number),
    Bool,
    Date,
    Timestamp,
    TimestampTz,
}

/// A translated expression.
pub(super) struct Typed {
    pub(super) expr: ExprTemplate,
    pub(super) kind: Kind,
    /// Of values, decimals as integers.
    pub(super) limits: Limits,
    /// How many decimals PostgreSQL shows, where that differs from row to row.
    pub(super) decimals: Option<ExprTemplate>,
}
impl Kind {
    pub(super) fn of_type(ty: LogicalType) -> Option<Kind> {
        Some(match ty {
            LogicalType::Bool => Kind::Bool,
            LogicalType::Int2 => Kind::Int(Number::Int2),
            LogicalType::Int4 => Kind::Int(Number::Int4),
            LogicalType::Int8 => Kind::Int(Number::Int8),
            LogicalType::Float4 => Kind::Float(Number::Float4),
            LogicalType::Float8 => Kind::Float(Number::Float8),
            LogicalType::Numeric { scale, .. } => Kind::Decimal { scale },
            LogicalType::Date => Kind::Date,
            LogicalType::Timestamp => Kind::Timestamp,
            LogicalType::TimestampTz => Kind::TimestampTz,
            _ => return None,
        })
    }

    pub(super) fn lane(self) -> Lane {
        match self {
            Kind::Decimal { .. } => Lane::Decimal,
            Kind::Float(_) => Lane::Float,
            _ => Lane::Int,
        }
    }

    pub(super) fn scale(self) -> u8 {
        if let Kind::Decimal { scale } = self { scale } else { 0 }
    }

    /// Values that the type has.
    pub(super) fn limits(self) -> Limits {
        match self {
            Kind::Int(number) => number.limits(),
            Kind::Bool => Some((0, 1)),
            Kind::Date => Number::Int4.limits(),
            Kind::Timestamp | Kind::TimestampTz => Number::Int8.limits(),
            Kind::Decimal { .. } | Kind::Float(_) => None,
        }
    }
}

/// Digits of the largest magnitude.
pub(super) fn digits(limits: Limits) -> Option<u8> {
    let (low, high) = limits?;
    let most = low.unsigned_abs().max(high.unsigned_abs());
    (0..=MAX_DIGITS).find(|d| most < power_of_ten(*d) as u128)
}

pub(super) fn malformed() -> Reason {
    "the expression is malformed".into()
}

/// With so many decimals, of which none is lost.
pub(super) fn scaled(typed: Typed, scale: u8) -> Typed {
    let Kind::Decimal { scale: has } = typed.kind else { return typed };
    if scale <= has {
        return typed;
    }
    let function = Function::Scale(scale - has);
    let limits = function.limits(typed.limits);
    let expr = match typed.expr {
        Expr::Null => Expr::Null,
        expr => Expr::Unary { function, argument: Box::new(expr) },
    };
    Typed { expr, kind: Kind::Decimal { scale }, limits, decimals: typed.decimals }
}

/// With so many decimals, shown as such.
pub(super) fn rounded(typed: Typed, scale: u8, rounding: Rounding) -> Typed {
    let has = typed.kind.scale();
    let typed = Typed { decimals: None, ..typed };
    if scale >= has {
        return scaled(typed, scale);
    }
    let function = Function::Round(has - scale, rounding);
    let limits = function.limits(typed.limits);
    let expr = Expr::Unary { function, argument: Box::new(typed.expr) };
    Typed { expr, kind: Kind::Decimal { scale }, limits, decimals: None }
}

/// Two operands in one lane, decimals with one scale.
pub(super) fn aligned(left: Typed, right: Typed) -> Result<(Typed, Typed, Lane), Reason> {
    let lane = match (left.kind.lane(), right.kind.lane()) {
        (a, b) if a == b => a,
        _ => return Err(malformed()),
    };
    if matches!(lane, Lane::Decimal) {
        let scale = left.kind.scale().max(right.kind.scale());
        return Ok((scaled(left, scale), scaled(right, scale), lane));
    }
    // A date is days, a timestamp microseconds.
    if lane == Lane::Int && (left.kind == Kind::Date) != (right.kind == Kind::Date) {
        return Err("dates are not compared with other times".into());
    }
    Ok((left, right, lane))
}

/// What an arithmetic function computes.
pub(super) fn arithmetic(id: u32) -> Option<(Operator, Number)> {
    use Number::*;
    use Operator::*;
    Some(match id {
        pg_sys::F_INT2PL => (Add, Int2),
        pg_sys::F_INT2MI => (Subtract, Int2),
        pg_sys::F_INT2MUL => (Multiply, Int2),
        pg_sys::F_INT2DIV => (Divide, Int2),
        pg_sys::F_INT2MOD | pg_sys::F_MOD_INT2_INT2 => (Remainder, Int2),
        pg_sys::F_INT4PL | pg_sys::F_INT24PL | pg_sys::F_INT42PL => (Add, Int4),
        pg_sys::F_INT4MI | pg_sys::F_INT24MI | pg_sys::F_INT42MI => (Subtract, Int4),
        pg_sys::F_INT4MUL | pg_sys::F_INT24MUL | pg_sys::F_INT42MUL => (Multiply, Int4),
        pg_sys::F_INT4DIV | pg_sys::F_INT24DIV | pg_sys::F_INT42DIV => (Divide, Int4),
        pg_sys::F_INT4MOD | pg_sys::F_MOD_INT4_INT4 => (Remainder, Int4),
        pg_sys::F_INT8PL | pg_sys::F_INT28PL | pg_sys::F_INT82PL | pg_sys::F_INT48PL | pg_sys::F_INT84PL => (Add, Int8),
        pg_sys::F_INT8MI | pg_sys::F_INT28MI | pg_sys::F_INT82MI | pg_sys::F_INT48MI | pg_sys::F_INT84MI => {
            (Subtract, Int8)
        }
        pg_sys::F_INT8MUL | pg_sys::F_INT28MUL | pg_sys::F_INT82MUL | pg_sys::F_INT48MUL | pg_sys::F_INT84MUL => {
            (Multiply, Int8)
        }
        pg_sys::F_INT8DIV | pg_sys::F_INT28DIV | pg_sys::F_INT82DIV | pg_sys::F_INT48DIV | pg_sys::F_INT84DIV => {
            (Divide, Int8)
        }
        pg_sys::F_INT8MOD | pg_sys::F_MOD_INT8_INT8 => (Remainder, Int8),
        pg_sys::F_FLOAT4PL => (Add, Float4),
        pg_sys::F_FLOAT4MI => (Subtract, Float4),
        pg_sys::F_FLOAT4MUL => (Multiply, Float4),
        pg_sys::F_FLOAT4DIV => (Divide, Float4),
        pg_sys::F_FLOAT8PL | pg_sys::F_FLOAT48PL | pg_sys::F_FLOAT84PL => (Add, Float8),
        pg_sys::F_FLOAT8MI | pg_sys::F_FLOAT48MI | pg_sys::F_FLOAT84MI => (Subtract, Float8),
        pg_sys::F_FLOAT8MUL | pg_sys::F_FLOAT48MUL | pg_sys::F_FLOAT84MUL => (Multiply, Float8),
        pg_sys::F_FLOAT8DIV | pg_sys::F_FLOAT48DIV | pg_sys::F_FLOAT84DIV => (Divide, Float8),
        pg_sys::F_NUMERIC_ADD => (Add, Decimal),
        pg_sys::F_NUMERIC_SUB => (Subtract, Decimal),
        pg_sys::F_NUMERIC_MUL => (Multiply, Decimal),
        _ => return None,
    })
}

pub(super) fn binary(operator: Operator, number: Number, left: Typed, right: Typed) -> Result<Typed, Reason> {
    if left.kind.lane() != number.lane() || right.kind.lane() != number.lane() {
        return Err(malformed());
    }
    let shown = |typed: &Typed| match &typed.decimals {
        Some(decimals) => decimals.clone(),
        None => Expr::Constant(ConstantTemplate::Integer(i64::from(typed.kind.scale()))),
    };
    let decimals = (left.decimals.is_some() || right.decimals.is_some()).then(|| match operator {
        Operator::Multiply => Expr::Binary {
            operator: Operator::Add,
            number: Number::Int4,
            left: Box::new(shown(&left)),
            right: Box::new(shown(&right)),
        },
        _ => Expr::Extreme { lane: Lane::Int, greatest: true, arguments: vec![shown(&left), shown(&right)] },
    });
    let (left, right, kind) = match (number.lane(), operator) {
        (Lane::Decimal, Operator::Multiply) => {
            let scale = left.kind.scale() + right.kind.scale();
            (left, right, Kind::Decimal { scale })
        }
        (Lane::Decimal, _) => {
            let (left, right, _) = aligned(left, right)?;
            let scale = left.kind.scale();
            (left, right, Kind::Decimal { scale })
        }
        (Lane::Float, _) => (left, right, Kind::Float(number)),
        (Lane::Int, _) => (left, right, Kind::Int(number)),
    };
    if kind.scale() > MAX_SCALE {
        return Err("its results have too many decimals".into());
    }
    let limits = within(number, operator.limits(left.limits, right.limits));
    if kind.lane() == Lane::Decimal && digits(limits).is_none() {
        return Err("its results may have more than 38 digits".into());
    }
    let expr = Expr::Binary { operator, number, left: Box::new(left.expr), right: Box::new(right.expr) };
    Ok(Typed { expr, kind, limits, decimals })
}
