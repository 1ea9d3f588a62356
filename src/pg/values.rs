//! Datums to the engine's values and back.

use std::ffi::{CStr, CString};

use basalt_engine::rows::{Place, Pushed};
use basalt_engine::types::{LogicalType, Physical, Value};
use pgrx::pg_sys;
use pgrx::varlena::{set_varsize_4b, varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_any, varsize_any_exhdr};

use super::numeric::{self, Scaled};
use super::types::{base_type, logical_type};
use crate::error::{Error, Result};

/// Converts values of one column, both ways. For types that are stored by their text form, the caller holds a
/// [`super::settings::FixedSettings`] around a batch of conversions ([`Codec::needs_fixed_settings`]).
///
/// Lives no longer than the memory context that was current when it was made.
pub struct Codec {
    ty: LogicalType,
    typmod: i32,
    text: Option<Box<TextForm>>,
    payload: Vec<u8>,
}

/// Output and input functions of a type.
struct TextForm {
    output: pg_sys::FmgrInfo,
    input: pg_sys::FmgrInfo,
    io_parameter: pg_sys::Oid,
}

// Converting needs the codec's buffer.
#[allow(clippy::wrong_self_convention)]
impl Codec {
    /// For a column (or expression) of this type, stored as [`logical_type`] says.
    pub fn new(type_oid: pg_sys::Oid, typmod: i32) -> Self {
        Self::with_type(logical_type(type_oid, typmod), type_oid, typmod)
    }

    /// For a type stored as `ty`.
    pub fn with_type(ty: LogicalType, type_oid: pg_sys::Oid, typmod: i32) -> Self {
        let (base, base_typmod) = base_type(type_oid, typmod);
        let text = by_text(ty).then(|| Box::new(TextForm::new(base)));
        Codec { ty, typmod: base_typmod, text, payload: Vec::new() }
    }

    pub fn ty(&self) -> LogicalType {
        self.ty
    }

    /// Whether conversions depend on session settings that must be fixed meanwhile.
    pub fn needs_fixed_settings(&self) -> bool {
        self.ty == LogicalType::Opaque
    }

    /// Pushes one value to a column of this type. Errors: `NumericValueOutOfRange` for a numeric that the declared
    /// precision cannot hold (PostgreSQL's coercion has refused it before).
    #[inline]
    pub fn push(&mut self, place: Place, datum: pg_sys::Datum, is_null: bool) -> Result<Pushed> {
        if is_null {
            return Ok(place.null());
        }
        Ok(match self.ty.physical() {
            Physical::I64 => place.i64(self.integer(datum)?)?,
            Physical::I128 => place.i128(self.scaled(datum)?)?,
            Physical::F64 => place.f64(self.float(datum))?,
            Physical::Bytes => self.with_bytes(datum, |bytes| place.bytes(bytes))?,
        })
    }

    /// One value in physical form. A numeric that the column's scale does not hold exactly is an error: use
    /// [`numeric_scaled`] for operands of comparisons.
    pub fn to_value(&mut self, datum: pg_sys::Datum, is_null: bool) -> Result<Value> {
        if is_null {
            return Ok(Value::Null);
        }
        Ok(match self.ty.physical() {
            Physical::I64 => Value::I64(self.integer(datum)?),
            Physical::I128 => Value::I128(self.scaled(datum)?),
            Physical::F64 => Value::F64(self.float(datum)),
            Physical::Bytes => Value::Bytes(self.with_bytes(datum, |bytes| bytes.to_vec())),
        })
    }

    /// A value as a datum (allocated in the current memory context) and whether it is NULL.
    pub fn to_datum(&mut self, value: &Value) -> Result<(pg_sys::Datum, bool)> {
        Ok(match value {
            Value::Null => (pg_sys::Datum::from(0usize), true),
            Value::I64(v) => (self.datum_of_i64(*v), false),
            Value::I128(v) => (self.datum_of_i128(*v), false),
            Value::F64(v) => (self.datum_of_f64(*v), false),
            Value::Bytes(v) => (self.datum_of_bytes(v)?, false),
        })
    }

    /// For columns whose physical type is I64.
    pub fn datum_of_i64(&mut self, value: i64) -> pg_sys::Datum {
        match self.ty {
            LogicalType::Bool => pg_sys::Datum::from(value != 0),
            LogicalType::Int2 => pg_sys::Datum::from(value as i16),
            LogicalType::Int4 | LogicalType::Date => pg_sys::Datum::from(value as i32),
            LogicalType::Numeric { scale, .. } if value == LogicalType::NUMERIC_NAN_I64 => {
                let _ = scale;
                varlena_datum(&numeric::NAN_PAYLOAD)
            }
            LogicalType::Numeric { scale, .. } => self.numeric_datum(i128::from(value), scale),
            _ => pg_sys::Datum::from(value),
        }
    }

    /// For columns whose physical type is I128.
    pub fn datum_of_i128(&mut self, value: i128) -> pg_sys::Datum {
        match self.ty {
            _ if value == LogicalType::NUMERIC_NAN_I128 => varlena_datum(&numeric::NAN_PAYLOAD),
            LogicalType::Numeric { scale, .. } => self.numeric_datum(value, scale),
            _ => self.numeric_datum(value, 0),
        }
    }

    /// For columns whose physical type is F64.
    pub fn datum_of_f64(&self, value: f64) -> pg_sys::Datum {
        match self.ty {
            LogicalType::Float4 => pg_sys::Datum::from((value as f32).to_bits()),
            _ => pg_sys::Datum::from(value.to_bits()),
        }
    }

    /// For columns whose physical type is Bytes. Errors: a text form with a NUL byte, or a uuid of another length (the
    /// segment is damaged); PostgreSQL's input function raises its own for text it does not accept.
    pub fn datum_of_bytes(&mut self, value: &[u8]) -> Result<pg_sys::Datum> {
        match (&mut self.text, self.ty) {
            (Some(text), _) => text.input(value, self.typmod),
            (None, LogicalType::Uuid) => {
                if value.len() != 16 {
                    return Err(basalt_engine::Error::corrupt("uuid of another length").into());
                }
                // SAFETY: palloc gives at least 16 bytes or raises.
                unsafe {
                    let to = pg_sys::palloc(16).cast::<u8>();
                    to.copy_from_nonoverlapping(value.as_ptr(), 16);
                    Ok(pg_sys::Datum::from(to))
                }
            }
            _ => Ok(varlena_datum(value)),
        }
    }

    fn numeric_datum(&mut self, value: i128, scale: u8) -> pg_sys::Datum {
        numeric::from_scaled(value, scale, &mut self.payload);
        varlena_datum(&self.payload)
    }

    #[inline]
    fn integer(&mut self, datum: pg_sys::Datum) -> Result<i64> {
        let raw = datum.value();
        Ok(match self.ty {
            LogicalType::Bool => i64::from(raw as u8 != 0),
            LogicalType::Int2 => i64::from(raw as i16),
            LogicalType::Int4 | LogicalType::Date => i64::from(raw as i32),
            LogicalType::Numeric { scale, .. } => {
                if let Some(value) = with_varlena(datum, |payload| numeric::to_small(payload, scale)) {
                    return Ok(value);
                }
                let value = self.scaled(datum)?;
                if value == LogicalType::NUMERIC_NAN_I128 {
                    LogicalType::NUMERIC_NAN_I64
                } else {
                    i64::try_from(value).map_err(|_| numeric_overflow())?
                }
            }
            _ => raw as i64,
        })
    }

    fn scaled(&mut self, datum: pg_sys::Datum) -> Result<i128> {
        let LogicalType::Numeric { scale, .. } = self.ty else {
            return Err(basalt_engine::Error::invalid("not a numeric column").into());
        };
        match numeric_scaled(datum, scale) {
            Scaled::Exact(value) => Ok(value),
            Scaled::NaN => Ok(LogicalType::NUMERIC_NAN_I128),
            _ => Err(numeric_overflow()),
        }
    }

    fn float(&self, datum: pg_sys::Datum) -> f64 {
        match self.ty {
            LogicalType::Float4 => f64::from(f32::from_bits(datum.value() as u32)),
            _ => f64::from_bits(datum.value() as u64),
        }
    }

    fn with_bytes<T>(&mut self, datum: pg_sys::Datum, take: impl FnOnce(&[u8]) -> T) -> T {
        match (&mut self.text, self.ty) {
            (Some(text), _) => text.output(datum, take),
            // SAFETY: a uuid datum points to 16 bytes.
            (None, LogicalType::Uuid) => take(unsafe { std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), 16) }),
            _ => with_varlena(datum, take),
        }
    }
}

impl TextForm {
    fn new(type_oid: pg_sys::Oid) -> Self {
        let (mut output, mut input, mut io_parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid, pg_sys::InvalidOid);
        let mut is_varlena = false;
        let mut form =
            TextForm { output: pg_sys::FmgrInfo::default(), input: pg_sys::FmgrInfo::default(), io_parameter };
        // SAFETY: out parameters are valid; the functions raise for a type without output or input function.
        unsafe {
            pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
            pg_sys::getTypeInputInfo(type_oid, &mut input, &mut io_parameter);
            pg_sys::fmgr_info(output, &mut form.output);
            pg_sys::fmgr_info(input, &mut form.input);
        }
        form.io_parameter = io_parameter;
        form
    }

    fn output<T>(&mut self, datum: pg_sys::Datum, take: impl FnOnce(&[u8]) -> T) -> T {
        // SAFETY: the datum is of the type whose output function this is; the result is a palloc'ed C string.
        unsafe {
            let text = pg_sys::OutputFunctionCall(&mut self.output, datum);
            let result = take(CStr::from_ptr(text).to_bytes());
            pg_sys::pfree(text.cast());
            result
        }
    }

    fn input(&mut self, value: &[u8], typmod: i32) -> Result<pg_sys::Datum> {
        let text = CString::new(value).map_err(|_| basalt_engine::Error::corrupt("NUL byte in a text form"))?;
        // SAFETY: the C string outlives the call; input functions copy what they keep.
        unsafe { Ok(pg_sys::InputFunctionCall(&mut self.input, text.as_ptr().cast_mut(), self.io_parameter, typmod)) }
    }
}

/// A numeric datum as an integer of scale `scale`, or how it fails to be one.
pub fn numeric_scaled(datum: pg_sys::Datum, scale: u8) -> Scaled {
    with_varlena(datum, |payload| numeric::to_scaled(payload, scale))
}

/// Decimals that a numeric datum shows; `None`: it is NaN or infinite.
pub fn numeric_display_scale(datum: pg_sys::Datum) -> Option<u16> {
    with_varlena(datum, numeric::display_scale)
}

/// `value * 10^-scale` as a numeric datum with that display scale.
pub fn scaled_to_numeric(value: i128, scale: u8) -> pg_sys::Datum {
    let mut payload = Vec::new();
    numeric::from_scaled(value, scale, &mut payload);
    varlena_datum(&payload)
}

/// The numeric NaN.
pub fn numeric_nan() -> pg_sys::Datum {
    varlena_datum(&numeric::NAN_PAYLOAD)
}

/// A new varlena (text, bytea, numeric, ...) with these contents, in the current memory context.
pub fn varlena_datum(contents: &[u8]) -> pg_sys::Datum {
    let total = contents.len() + pg_sys::VARHDRSZ;
    // SAFETY: palloc raises when it cannot give `total` bytes (1 GB at most).
    unsafe {
        let to = pg_sys::palloc(total).cast::<u8>();
        set_varsize_4b(to.cast(), total as i32);
        to.add(pg_sys::VARHDRSZ).copy_from_nonoverlapping(contents.as_ptr(), contents.len());
        pg_sys::Datum::from(to)
    }
}

/// The 16 bytes of a uuid datum.
pub fn uuid_bytes(datum: pg_sys::Datum) -> [u8; 16] {
    // SAFETY: a non-NULL uuid datum points to 16 bytes.
    unsafe { *datum.cast_mut_ptr::<[u8; 16]>() }
}

/// Hands the contents of a varlena datum to `take`, detoasted if need be.
#[inline]
pub fn with_varlena<T>(datum: pg_sys::Datum, take: impl FnOnce(&[u8]) -> T) -> T {
    let given = datum.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the datum is a non-NULL varlena; a detoasted copy is freed after use.
    unsafe {
        // Most are neither compressed nor elsewhere: no call of the server, which is guarded against its errors, for these.
        if varatt_is_4b_u(given) || (varatt_is_1b(given) && !varatt_is_1b_e(given)) {
            return take(std::slice::from_raw_parts(vardata_any(given).cast::<u8>(), varsize_any_exhdr(given)));
        }
        let plain = pg_sys::pg_detoast_datum_packed(given);
        let bytes = std::slice::from_raw_parts(vardata_any(plain).cast::<u8>(), varsize_any_exhdr(plain));
        let result = take(bytes);
        if plain != given {
            pg_sys::pfree(plain.cast());
        }
        result
    }
}

fn by_text(ty: LogicalType) -> bool {
    use LogicalType::*;
    matches!(ty, Inet | Jsonb | TextArray | NumericText | Opaque)
}

fn numeric_overflow() -> Error {
    Error::new(pgrx::PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
        .detail("The column's precision and scale cannot hold the value exactly.")
}

/// Reads the text form of a type. PostgreSQL raises its own error for text that it does not accept.
pub fn input(type_oid: pg_sys::Oid, typmod: i32, text: &str) -> Result<pg_sys::Datum> {
    let (base, typmod) = base_type(type_oid, typmod);
    TextForm::new(base).input(text.as_bytes(), typmod)
}

/// The text form of a value.
pub fn output(type_oid: pg_sys::Oid, datum: pg_sys::Datum) -> String {
    TextForm::new(base_type(type_oid, -1).0).output(datum, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A `uuid[]` in the current memory context. The elements are copied.
pub fn uuid_array(ids: &[[u8; 16]]) -> pg_sys::Datum {
    let mut elements: Vec<pg_sys::Datum> = ids.iter().map(|id| pg_sys::Datum::from(id.as_ptr())).collect();
    // SAFETY: as many elements as it says, each a pointer to 16 bytes; uuid is passed by reference, aligned as char.
    unsafe {
        let alignment = pg_sys::TYPALIGN_CHAR as std::ffi::c_char;
        let array = pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::UUIDOID,
            16,
            false,
            alignment,
        );
        pg_sys::Datum::from(array)
    }
}

/// Frees what [`varlena_datum`] made, before its memory context ends.
pub fn free_varlena(datum: pg_sys::Datum) {
    // SAFETY: palloc'ed by varlena_datum, by the function's contract.
    unsafe { pg_sys::pfree(datum.cast_mut_ptr()) }
}
