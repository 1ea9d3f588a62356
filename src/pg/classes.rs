//! Numbering of values so that those which are equal in SQL share a number.

use std::collections::HashMap;

use pgrx::pg_sys::{self, Datum, Oid};

use crate::error::Result;

unsafe extern "C-unwind" {
    fn datumCopy(value: Datum, by_value: bool, length: std::ffi::c_int) -> Datum;
    fn datumIsEqual(a: Datum, b: Datum, by_value: bool, length: std::ffi::c_int) -> bool;
}

/// Equivalence classes of one type's values under its default equality. Values are copied into the memory context that is current when
/// they are added.
pub struct Classes {
    collation: Oid,
    by_value: bool,
    length: i16,
    /// Null where the type has no hash function; then every value is compared with every other.
    hash: *mut pg_sys::FmgrInfo,
    equal: *mut pg_sys::FmgrInfo,
    values: Vec<(Datum, bool)>,
    by_hash: HashMap<u32, Vec<u32>>,
    null: Option<u32>,
}

impl Classes {
    pub fn new(ty: Oid, collation: Oid) -> Self {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: raises for unknown types; type cache entries live for ever.
        unsafe {
            pg_sys::get_typlenbyval(ty, &mut length, &mut by_value);
            let flags = pg_sys::TYPECACHE_HASH_PROC_FINFO | pg_sys::TYPECACHE_EQ_OPR_FINFO;
            let entry = pg_sys::lookup_type_cache(ty, flags as i32);
            let known = |info: *mut pg_sys::FmgrInfo| {
                if (*info).fn_oid == pg_sys::InvalidOid { std::ptr::null_mut() } else { info }
            };
            Classes {
                collation,
                by_value,
                length,
                hash: known(&raw mut (*entry).hash_proc_finfo),
                equal: known(&raw mut (*entry).eq_opr_finfo),
                values: Vec::new(),
                by_hash: HashMap::new(),
                null: None,
            }
        }
    }

    /// The number of a value's class.
    pub fn number(&mut self, value: Option<Datum>) -> Result<u32> {
        let Some(value) = value else {
            if let Some(number) = self.null {
                return Ok(number);
            }
            let number = self.push(Datum::from(0usize), true);
            self.null = Some(number);
            return Ok(number);
        };
        // The common case: a run of equal values.
        if let Some((last, false)) = self.values.last()
            && self.equals(*last, value)
        {
            return Ok((self.values.len() - 1) as u32);
        }
        let hash = self.hash(value);
        if let Some(candidates) = self.by_hash.get(&hash) {
            for number in candidates {
                if self.equals(self.values[*number as usize].0, value) {
                    return Ok(*number);
                }
            }
        }
        // SAFETY: the datum is of this type.
        let copy =
            unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| datumCopy(value, self.by_value, i32::from(self.length))) };
        let number = self.push(copy, false);
        self.by_hash.entry(hash).or_default().push(number);
        Ok(number)
    }

    fn push(&mut self, value: Datum, null: bool) -> u32 {
        self.values.push((value, null));
        (self.values.len() - 1) as u32
    }

    fn hash(&self, value: Datum) -> u32 {
        if self.hash.is_null() {
            return 0;
        }
        // SAFETY: the type's own hash function.
        unsafe { pg_sys::FunctionCall1Coll(self.hash, self.collation, value).value() as u32 }
    }

    fn equals(&self, a: Datum, b: Datum) -> bool {
        // SAFETY: both are non-NULL values of the type; the function is its equality.
        unsafe {
            if self.equal.is_null() {
                return pg_sys::ffi::pg_guard_ffi_boundary(|| {
                    datumIsEqual(a, b, self.by_value, i32::from(self.length))
                });
            }
            pg_sys::FunctionCall2Coll(self.equal, self.collation, a, b).value() as u8 != 0
        }
    }

    /// Each class's first value, by number, and whether it is NULL.
    pub fn into_values(self) -> Vec<(Datum, bool)> {
        self.values
    }
}
