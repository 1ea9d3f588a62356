//! Reading arrays.

use pgrx::pg_sys::{self, Datum, Oid};

/// The elements of an array in storage order; `None`: NULL. By-reference elements point into the (detoasted) array.
pub fn elements(array: Datum, element_type: Oid) -> Vec<Option<Datum>> {
    let (mut length, mut by_value, mut align) = (0i16, false, 0);
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the datum is a non-NULL array of that element type; out parameters are valid; both result arrays have `count` elements.
    unsafe {
        let detoasted = pg_sys::pg_detoast_datum(array.cast_mut_ptr());
        pg_sys::get_typlenbyvalalign(element_type, &mut length, &mut by_value, &mut align);
        pg_sys::deconstruct_array(
            detoasted.cast(),
            element_type,
            i32::from(length),
            by_value,
            align,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize).map(|i| (!*nulls.add(i)).then_some(*values.add(i))).collect()
    }
}
