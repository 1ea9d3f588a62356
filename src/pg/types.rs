//! PostgreSQL's types to the engine's.

use basalt_engine::types::LogicalType;
use pgrx::pg_sys;

/// How a column of the type is stored. Domains are stored as their base types.
pub fn logical_type(type_oid: pg_sys::Oid, typmod: i32) -> LogicalType {
    let (base, typmod) = base_type(type_oid, typmod);
    match base {
        pg_sys::BOOLOID => LogicalType::Bool,
        pg_sys::INT2OID => LogicalType::Int2,
        pg_sys::INT4OID => LogicalType::Int4,
        pg_sys::INT8OID => LogicalType::Int8,
        pg_sys::FLOAT4OID => LogicalType::Float4,
        pg_sys::FLOAT8OID => LogicalType::Float8,
        pg_sys::NUMERICOID => numeric(typmod),
        pg_sys::DATEOID => LogicalType::Date,
        pg_sys::TIMESTAMPOID => LogicalType::Timestamp,
        pg_sys::TIMESTAMPTZOID => LogicalType::TimestampTz,
        pg_sys::TEXTOID | pg_sys::VARCHAROID => LogicalType::Text,
        pg_sys::BPCHAROID => LogicalType::BpChar,
        pg_sys::UUIDOID => LogicalType::Uuid,
        pg_sys::INETOID => LogicalType::Inet,
        pg_sys::BYTEAOID => LogicalType::Bytea,
        pg_sys::JSONBOID => LogicalType::Jsonb,
        pg_sys::TEXTARRAYOID => LogicalType::TextArray,
        _ => LogicalType::Opaque,
    }
}

/// The type below all domains, with the type modifier that applies.
pub fn base_type(type_oid: pg_sys::Oid, typmod: i32) -> (pg_sys::Oid, i32) {
    let mut typmod = typmod;
    // SAFETY: raises for an unknown type, else only reads the catalog cache.
    let base = unsafe { pg_sys::getBaseTypeAndTypmod(type_oid, &mut typmod) };
    (base, typmod)
}

/// Precision and scale out of numeric's type modifier; `NumericText` unless `numeric(p <= 38, 0 <= s <= p)`.
fn numeric(typmod: i32) -> LogicalType {
    if typmod < 4 {
        return LogicalType::NumericText;
    }
    let packed = typmod - 4;
    let precision = (packed >> 16) & 0xffff;
    // PostgreSQL 15 packs the scale as 11 bits, signed.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    if precision <= 38 && (0..=precision).contains(&scale) {
        LogicalType::Numeric { precision: precision as u8, scale: scale as u8 }
    } else {
        LogicalType::NumericText
    }
}

/// Whether the type is a domain, or over one, with constraints.
pub fn has_domain_constraints(ty: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup by type oid.
    unsafe { pg_sys::DomainHasConstraints(ty) }
}

/// Whether the type is an array.
pub fn is_array(ty: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup by type oid.
    unsafe { pg_sys::get_element_type(ty) != pg_sys::InvalidOid }
}

/// The type as it is declared, with its modifier.
pub fn name(ty: pg_sys::Oid, typmod: i32) -> String {
    // SAFETY: a palloc'ed C string.
    unsafe { std::ffi::CStr::from_ptr(pg_sys::format_type_with_typemod(ty, typmod)) }.to_string_lossy().into_owned()
}
