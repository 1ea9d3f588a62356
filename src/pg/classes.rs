//! Numbering of values so that those which are equal in SQL share a number.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use basalt_engine::Budget;
use basalt_engine::exec::U64Map;
use pgrx::pg_sys::{self, Datum, Oid};

use super::interrupts;
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
    search: Search,
    equal: *mut pg_sys::FmgrInfo,
    values: Vec<(Datum, bool)>,
    null: Option<u32>,
}

/// How a class is found, by what functions the type has.
enum Search {
    /// Class numbers by a value's hash and, in the upper half, how many other classes had that hash before.
    Hash(*mut pg_sys::FmgrInfo, U64Map),
    Order(*mut pg_sys::FmgrInfo, BTreeMap<Ordered, u32>),
    /// Every value is compared with every other.
    All,
}

/// A non-NULL value in its type's order.
struct Ordered {
    value: Datum,
    compare: *mut pg_sys::FmgrInfo,
    collation: Oid,
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        // SAFETY: both are values of the type whose btree comparison this is.
        let order = unsafe { pg_sys::FunctionCall2Coll(self.compare, self.collation, self.value, other.value) };
        (order.value() as i32).cmp(&0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ordered {}

impl Classes {
    /// Errors: `Canceled`.
    pub fn new(ty: Oid, collation: Oid) -> Result<Self> {
        // The values are copied besides: only the stop of the query counts here.
        let map = U64Map::new(&Budget::with_cancel(usize::MAX, interrupts::cancel()))?;
        let (mut length, mut by_value) = (0, false);
        // SAFETY: raises for unknown types; type cache entries live for ever.
        unsafe {
            pg_sys::get_typlenbyval(ty, &mut length, &mut by_value);
            let flags =
                pg_sys::TYPECACHE_HASH_PROC_FINFO | pg_sys::TYPECACHE_EQ_OPR_FINFO | pg_sys::TYPECACHE_CMP_PROC_FINFO;
            let entry = pg_sys::lookup_type_cache(ty, flags as i32);
            let known = |info: *mut pg_sys::FmgrInfo| ((*info).fn_oid != pg_sys::InvalidOid).then_some(info);
            let hash = known(&raw mut (*entry).hash_proc_finfo).map(|hash| Search::Hash(hash, map));
            let order =
                || known(&raw mut (*entry).cmp_proc_finfo).map(|compare| Search::Order(compare, BTreeMap::new()));
            Ok(Classes {
                collation,
                by_value,
                length,
                search: hash.or_else(order).unwrap_or(Search::All),
                equal: known(&raw mut (*entry).eq_opr_finfo).unwrap_or(std::ptr::null_mut()),
                values: Vec::new(),
                null: None,
            })
        }
    }

    /// The number of a value's class.
    pub fn number(&mut self, value: Option<Datum>) -> Result<u32> {
        let Some(value) = value else {
            if let Some(number) = self.null {
                return Ok(number);
            }
            // Among the hashed numbers, too, which are to be the same.
            if let Search::Hash(_, known) = &mut self.search {
                known.push_unhashed(0)?;
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
        let key = match self.find(value) {
            Ok(number) => return Ok(number),
            Err(key) => key,
        };
        if let Search::Hash(_, known) = &mut self.search {
            known.number(key)?;
        }
        // SAFETY: the datum is of this type.
        let copy =
            unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| datumCopy(value, self.by_value, i32::from(self.length))) };
        let number = self.push(copy, false);
        if let Search::Order(compare, known) = &mut self.search {
            known.insert(Ordered { value: copy, compare: *compare, collation: self.collation }, number);
        }
        Ok(number)
    }

    fn push(&mut self, value: Datum, null: bool) -> u32 {
        self.values.push((value, null));
        (self.values.len() - 1) as u32
    }

    /// The number of a value's class, or the hashed key that a new one gets.
    fn find(&self, value: Datum) -> std::result::Result<u32, u64> {
        let same = |number: &u32| {
            let (known, null) = self.values[*number as usize];
            !null && self.equals(known, value)
        };
        match &self.search {
            Search::Hash(hash, known) => {
                // SAFETY: the type's own hash function.
                let hash = unsafe { pg_sys::FunctionCall1Coll(*hash, self.collation, value).value() as u32 };
                let mut key = u64::from(hash);
                while let Some(number) = known.find(key) {
                    if same(&number) {
                        return Ok(number);
                    }
                    key += 1 << 32;
                }
                Err(key)
            }
            Search::Order(compare, known) => {
                known.get(&Ordered { value, compare: *compare, collation: self.collation }).copied().ok_or(0)
            }
            Search::All => (0..self.values.len() as u32).find(same).ok_or(0),
        }
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

    /// Each class's first value, by number, and whether it is NULL. The classes are forgotten.
    pub fn take_values(&mut self) -> Vec<(Datum, bool)> {
        (self.search, self.null) = (Search::All, None);
        std::mem::take(&mut self.values)
    }
}
