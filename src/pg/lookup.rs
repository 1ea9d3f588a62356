//! What the system catalogs say about operators, functions, types and collations.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

/// Strategy number of an operator in a btree family: 1 `<`, 2 `<=`, 3 `=`, 4 `>=`, 5 `>`.
pub fn btree_strategy(operator: Oid, family: Oid) -> Option<u32> {
    // SAFETY: syscache lookup of plain numbers.
    let strategy = unsafe { pg_sys::get_op_opfamily_strategy(operator, family) };
    (strategy > 0).then_some(strategy as u32)
}

pub fn negator(operator: Oid) -> Option<Oid> {
    // SAFETY: as above.
    let negator = unsafe { pg_sys::get_negator(operator) };
    (negator != pg_sys::InvalidOid).then_some(negator)
}

/// The function behind an operator.
pub fn operator_function(operator: Oid) -> Oid {
    // SAFETY: as above.
    unsafe { pg_sys::get_opcode(operator) }
}

/// Whether equal strings are equal bytes under the collation.
pub fn is_deterministic(collation: Oid) -> bool {
    // SAFETY: syscache lookup; raises for an unknown collation.
    collation != pg_sys::InvalidOid && unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// The operator by which values of a type are equal by default.
pub fn equality(ty: Oid) -> Option<Oid> {
    // SAFETY: raises for an unknown type; entries of the type cache live for ever.
    let operator = unsafe { (*pg_sys::lookup_type_cache(ty, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr };
    (operator != pg_sys::InvalidOid).then_some(operator)
}

/// Whether an operator is the equality of an order or of a hash. `ty`: of its left operand.
pub fn is_equality(operator: Oid, ty: Oid) -> bool {
    // SAFETY: syscache lookups; a polymorphic operator's are made for the type.
    unsafe { pg_sys::op_mergejoinable(operator, ty) || pg_sys::op_hashjoinable(operator, ty) }
}

/// Whether an operator is one of an order, or the negation of its equality.
pub fn is_comparison(operator: Oid) -> bool {
    // SAFETY: a list of catalog entries.
    unsafe { !pg_sys::get_op_btree_interpretation(operator).is_null() }
}

/// Whether a type is built in (or an enum, or an array of such), and no row: its values are compared and shown without an error.
pub fn has_text_form(ty: Oid) -> bool {
    // SAFETY: syscache lookups.
    unsafe {
        let base = pg_sys::getBaseType(ty);
        let element = pg_sys::get_base_element_type(base);
        let of = if element == pg_sys::InvalidOid { base } else { element };
        let plain =
            pg_sys::get_typtype(of) as u8 == pg_sys::TYPTYPE_BASE && of.to_u32() < pg_sys::FirstUnpinnedObjectId;
        plain || pg_sys::type_is_enum(of)
    }
}

pub fn is_enum(ty: Oid) -> bool {
    // SAFETY: syscache lookup.
    unsafe { pg_sys::type_is_enum(ty) }
}

/// `name(argument types)` without them: for messages.
pub fn function_name(function: Oid) -> String {
    // SAFETY: the result is null or a palloc'ed C string.
    unsafe { text(pg_sys::get_func_name(function)) }.unwrap_or_else(|| format!("function {}", function.to_u32()))
}

/// Whether a function came with PostgreSQL.
pub fn is_built_in(function: Oid) -> bool {
    function.to_u32() < pg_sys::FirstGenbkiObjectId
}

/// The name of a table's column; `None`: there is no such column.
pub fn attribute_name(table: Oid, attribute: i16) -> Option<String> {
    // SAFETY: syscache lookup; the result is null or a palloc'ed C string.
    unsafe { text(pg_sys::get_attname(table, attribute, true)) }
}

pub fn operator_name(operator: Oid) -> String {
    // SAFETY: as above.
    unsafe { text(pg_sys::get_opname(operator)) }.unwrap_or_else(|| format!("operator {}", operator.to_u32()))
}

pub fn type_name(ty: Oid) -> String {
    // SAFETY: as above.
    unsafe { text(pg_sys::format_type_be(ty)) }.unwrap_or_default()
}

/// # Safety
/// `pointer` is null or a C string.
pub unsafe fn text(pointer: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: the caller's contract.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// The type of an array type's elements.
pub fn element_type(array: Oid) -> Option<Oid> {
    // SAFETY: syscache lookup.
    let element = unsafe { pg_sys::get_base_element_type(array) };
    (element != pg_sys::InvalidOid).then_some(element)
}

/// PostgreSQL's order of two strings under a collation; ties are broken by bytes.
pub fn compare_text(left: &[u8], right: &[u8], collation: Oid) -> std::cmp::Ordering {
    // SAFETY: pointers and lengths are the slices'.
    let order = unsafe {
        pg_sys::varstr_cmp(
            left.as_ptr().cast(),
            left.len() as i32,
            right.as_ptr().cast(),
            right.len() as i32,
            collation,
        )
    };
    order.cmp(&0)
}

/// Whether a function raises no error and tells nothing about its arguments but by its result.
pub fn is_leakproof(function: Oid) -> bool {
    // SAFETY: syscache lookup; raises for an unknown function.
    unsafe { pg_sys::get_func_leakproof(function) }
}
