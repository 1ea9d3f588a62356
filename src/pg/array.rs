//! Reading and making arrays.

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

/// A copy of an array in the current memory context, detoasted.
pub fn copy(array: Datum) -> Datum {
    // SAFETY: the datum is a non-NULL array; the copy is allocated, or an error raised.
    unsafe { Datum::from(pg_sys::pg_detoast_datum_copy(array.cast_mut_ptr())) }
}

/// An array of the dimensions of `shape`, which has as many elements as `values`, in the current memory context. `shape`: as [`copy`] gives it.
pub fn shaped(values: &[Datum], shape: Datum, element_type: Oid) -> Datum {
    let (mut length, mut by_value, mut align) = (0i16, false, 0);
    // SAFETY: dimensions and lower bounds stand behind an array's header, as many as it says; PostgreSQL copies values and bounds.
    unsafe {
        pg_sys::get_typlenbyvalalign(element_type, &mut length, &mut by_value, &mut align);
        let shape = shape.cast_mut_ptr::<pg_sys::ArrayType>();
        let dimensions = shape.add(1).cast::<i32>();
        let array = pg_sys::construct_md_array(
            values.as_ptr().cast_mut(),
            std::ptr::null_mut(),
            (*shape).ndim,
            dimensions,
            dimensions.add((*shape).ndim as usize),
            element_type,
            i32::from(length),
            by_value,
            align,
        );
        Datum::from(array)
    }
}
