//! The engine's results as PostgreSQL's datums.

use basalt_engine::exec::ResultColumn;
use basalt_engine::types::{LogicalType, Value};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::Datum;

use super::template::Finish;
use crate::error::{Error, Result};
use crate::pg::numeric_division;
use crate::pg::values::{self, Codec};

/// The result of one aggregate for group `group`; `None` for NULL. By-reference results are in the current memory context. `codec`: of the
/// column that `Finish::Column` names. `shown`: decimals that a numeric shows, where that is fewer than its scale. `finite`: all values that a float sum added up were finite, so that infinity is an overflow.
pub fn aggregate(
    result: &ResultColumn,
    group: usize,
    finish: Finish,
    shown: Option<u8>,
    codec: Option<&mut Codec>,
    finite: &mut dyn FnMut() -> bool,
) -> Result<Option<Datum>> {
    let value = &result.values.get(group).ok_or_else(mismatch)?;
    if value.is_null() {
        return Ok(None);
    }
    let count = || result.counts.get(group).copied().ok_or_else(mismatch);
    Ok(match finish {
        Finish::Int8 => Some(Datum::from(i64::try_from(integer(value)?).map_err(|_| out_of_range("bigint"))?)),
        Finish::Bool => Some(Datum::from(integer(value)? != 0)),
        Finish::Float4 => {
            let sum = float(value)?;
            let narrow = sum as f32;
            if narrow.is_infinite() && (sum.is_finite() || finite()) {
                return Err(overflow());
            }
            Some(Datum::from(narrow.to_bits()))
        }
        Finish::Float8 => {
            let sum = float(value)?;
            if sum.is_infinite() && finite() {
                return Err(overflow());
            }
            Some(Datum::from(sum.to_bits()))
        }
        Finish::FloatAverage => match count()? {
            0 => None,
            n => {
                let sum = float(value)?;
                if sum.is_infinite() && finite() {
                    return Err(overflow());
                }
                Some(Datum::from((sum / n as f64).to_bits()))
            }
        },
        Finish::Float => Some(Datum::from(float(value)?.to_bits())),
        Finish::NumericVariance { scale, sample, root } => Some(variance(value, count()?, scale, shown, sample, root)?),
        Finish::Numeric { scale } => Some(sum(integer(value)?, scale, shown)),
        Finish::NumericAverage { scale } => match count()? {
            0 => None,
            n => Some(numeric_division::divide(sum(integer(value)?, scale, shown), numeric(i128::from(n), 0))),
        },
        Finish::Column(_) => {
            let (datum, null) = codec.ok_or_else(mismatch)?.to_datum(value)?;
            (!null).then_some(datum)
        }
    })
}

fn numeric(value: i128, scale: u8) -> Datum {
    if value == LogicalType::NUMERIC_NAN_I128 { values::numeric_nan() } else { values::scaled_to_numeric(value, scale) }
}

/// A sum whose rows showed at most `shown` decimals: what is behind them is zeros.
fn sum(value: i128, scale: u8, shown: Option<u8>) -> Datum {
    match shown {
        Some(shown) if shown < scale && value != LogicalType::NUMERIC_NAN_I128 => {
            numeric(value / basalt_engine::decimal::power_of_ten(scale - shown), shown)
        }
        _ => numeric(value, scale),
    }
}

/// A variance, or its square root, from its numerator, which has twice `scale` decimals.
fn variance(value: &Value, count: i64, scale: u8, shown: Option<u8>, sample: bool, root: bool) -> Result<Datum> {
    let numerator = match value {
        Value::I128(LogicalType::NUMERIC_NAN_I128) => return Ok(values::numeric_nan()),
        Value::I128(0) => return Ok(numeric(0, 0)),
        Value::I128(v) => sum(*v, scale * 2, shown.map(|shown| shown * 2)),
        Value::Bytes(digits) => {
            // Decimals that no row shows are zeros.
            let shown = usize::from(shown.unwrap_or(scale).min(scale)) * 2;
            let digits = std::str::from_utf8(digits).map_err(|_| mismatch())?;
            let digits = format!("{digits:0>width$}", width = usize::from(scale) * 2 + 1);
            let digits = digits.get(..digits.len() - (usize::from(scale) * 2 - shown)).ok_or_else(mismatch)?;
            let (whole, decimals) = digits.split_at_checked(digits.len() - shown).ok_or_else(mismatch)?;
            numeric_division::parse(&format!("{whole}.{decimals}"))?
        }
        _ => return Err(mismatch()),
    };
    let count = i128::from(count);
    let variance = numeric_division::divide(numerator, numeric(count * (count - i128::from(sample)), 0));
    Ok(if root { numeric_division::square_root(variance) } else { variance })
}

fn integer(value: &Value) -> Result<i128> {
    match value {
        Value::I64(v) => Ok(i128::from(*v)),
        Value::I128(v) => Ok(*v),
        _ => Err(mismatch()),
    }
}

fn float(value: &Value) -> Result<f64> {
    match value {
        Value::F64(v) => Ok(*v),
        _ => Err(mismatch()),
    }
}

fn mismatch() -> Error {
    basalt_engine::Error::invalid("the result does not fit the plan").into()
}

fn out_of_range(what: &'static str) -> Error {
    basalt_engine::Error::OutOfRange { what: what.into() }.into()
}

fn overflow() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}
