//! PostgreSQL's `List`.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The pointers of a pointer list, copied out; the null list is empty.
///
/// # Safety
/// `list` is null or a valid `T_List`.
pub unsafe fn pointers<T>(list: *const pg_sys::List) -> Vec<*mut T> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a valid List has `length` elements.
    unsafe { (0..(*list).length as usize).map(|i| (*(*list).elements.add(i)).ptr_value.cast()).collect() }
}

/// Name and value of each `DefElem`, in order.
///
/// # Safety
/// `list` is null or a list of `DefElem`s.
pub unsafe fn options(list: *const pg_sys::List) -> Vec<(String, String)> {
    // SAFETY: as promised by the caller; defGetString gives a C string or raises.
    unsafe {
        pointers::<pg_sys::DefElem>(list)
            .into_iter()
            .map(|element| {
                let name = CStr::from_ptr((*element).defname).to_string_lossy().into_owned();
                let value = if (*element).arg.is_null() {
                    String::new()
                } else {
                    CStr::from_ptr(pg_sys::defGetString(element)).to_string_lossy().into_owned()
                };
                (name, value)
            })
            .collect()
    }
}

/// The numbers of an integer list.
///
/// # Safety
/// `list` is null or a valid `T_IntList`.
pub unsafe fn integers(list: *const pg_sys::List) -> Vec<i32> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a valid List has `length` elements.
    unsafe { (0..(*list).length as usize).map(|i| (*(*list).elements.add(i)).int_value).collect() }
}
