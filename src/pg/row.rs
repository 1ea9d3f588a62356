//! Rows made of single values.

use pgrx::pg_sys::{self, Datum, Oid};

/// Makes rows of given types. Lives as long as the memory context that is current when it is made.
pub struct RowForm {
    descriptor: pg_sys::TupleDesc,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl RowForm {
    /// `columns`: types and modifiers.
    pub fn new(columns: &[(Oid, i32)]) -> Self {
        // SAFETY: the descriptor is this form's own; attributes are numbered from 1. Once blessed it is found by its number.
        let descriptor = unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
            for (nth, (ty, typmod)) in columns.iter().enumerate() {
                pg_sys::TupleDescInitEntry(descriptor, nth as i16 + 1, std::ptr::null(), *ty, *typmod, 0);
            }
            pg_sys::BlessTupleDesc(descriptor)
        };
        RowForm { descriptor, values: vec![Datum::from(0usize); columns.len()], nulls: vec![true; columns.len()] }
    }

    /// Sets column `at` of the rows to come.
    pub fn set(&mut self, at: usize, value: Option<Datum>) {
        if let (Some(to), Some(null)) = (self.values.get_mut(at), self.nulls.get_mut(at)) {
            *to = value.unwrap_or(Datum::from(0usize));
            *null = value.is_none();
        }
    }

    /// The row, in the current memory context.
    pub fn row(&mut self) -> Datum {
        // SAFETY: values and NULLs are as many as the descriptor's columns, and of their types.
        unsafe {
            let tuple = pg_sys::heap_form_tuple(self.descriptor, self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
            Datum::from((*tuple).t_data)
        }
    }
}
