//! What the system catalogs and the relation cache say about a table.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::list;
use super::lookup;

/// Waits for a lock on a relation, to the end of the transaction: against changes of its definition.
pub fn lock(relation: pg_sys::Oid, level: Level) {
    let level = match level {
        Level::Read => pg_sys::AccessShareLock,
        Level::Write => pg_sys::RowExclusiveLock,
    };
    // SAFETY: plain call; waiting is interruptible.
    unsafe { pg_sys::LockRelationOid(relation, level as i32) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `AccessShareLock`.
    Read,
    /// `RowExclusiveLock`.
    Write,
}

/// A relation by name in a schema; `None`: there is none.
pub fn named(name: &CStr, schema: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a C string; InvalidOid if there is none.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// A schema by name.
pub fn schema_named(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a C string; InvalidOid if there is none.
    let oid = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

pub fn exists(relation: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup; a relation that does not exist has relkind 0.
    unsafe { pg_sys::get_rel_relkind(relation) != 0 }
}

/// Its name; `None`: it is gone.
pub fn name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: a palloc'ed C string, or null.
    unsafe { lookup::text(pg_sys::get_rel_name(relation)) }
}

/// Whether it is a foreign table of this wrapper.
pub fn is_foreign_table_of(relation: pg_sys::Oid, wrapper: &CStr) -> bool {
    // SAFETY: catalog lookups; a relation that does not exist has relkind 0.
    unsafe {
        if pg_sys::get_rel_relkind(relation) as u8 != pg_sys::RELKIND_FOREIGN_TABLE {
            return false;
        }
        let wrapper = pg_sys::get_foreign_data_wrapper_oid(wrapper.as_ptr(), true);
        let server = pg_sys::GetForeignServer(pg_sys::GetForeignServerIdByRelId(relation));
        (*server).fdwid == wrapper
    }
}

/// Whether the role owns it, or may act as its owner.
pub fn is_owner(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a plain permission check.
    unsafe { pg_sys::pg_class_ownercheck(relation, role) }
}

/// A foreign table's options as they are written.
pub fn table_options(relation: pg_sys::Oid) -> Vec<(String, String)> {
    // SAFETY: raises unless the relation is a foreign table; its options are a list of DefElems.
    unsafe { list::options((*pg_sys::GetForeignTable(relation)).options) }
}

pub fn column_options(relation: pg_sys::Oid, attribute: i16) -> Vec<(String, String)> {
    // SAFETY: raises if there is no such attribute, else gives a list of DefElems.
    unsafe { list::options(pg_sys::GetForeignColumnOptions(relation, attribute)) }
}

/// A column that was not dropped.
pub struct Attribute {
    /// From 1.
    pub number: i16,
    pub name: String,
    pub type_oid: pg_sys::Oid,
    pub typmod: i32,
    pub not_null: bool,
    pub generated: bool,
}

/// What a relation's descriptor holds.
pub struct Description {
    pub attributes: Vec<Attribute>,
    /// Attribute numbers in use, those of dropped columns too.
    pub numbers: usize,
    pub has_check: bool,
}

pub fn describe(relation: pg_sys::Oid) -> Description {
    // SAFETY: the relation is open while its descriptor is read.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let descriptor = (*open).rd_att;
        let numbers = (*descriptor).natts as usize;
        let mut attributes = Vec::with_capacity(numbers);
        for i in 0..numbers {
            let attribute = &*(*descriptor).attrs.as_ptr().add(i);
            if !attribute.attisdropped {
                attributes.push(Attribute {
                    number: attribute.attnum,
                    name: CStr::from_ptr(attribute.attname.data.as_ptr()).to_string_lossy().into_owned(),
                    type_oid: attribute.atttypid,
                    typmod: attribute.atttypmod,
                    not_null: attribute.attnotnull,
                    generated: attribute.attgenerated != 0,
                });
            }
        }
        let constraints = (*descriptor).constr;
        let has_check = !constraints.is_null() && (*constraints).num_check > 0;
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        Description { attributes, numbers, has_check }
    }
}

/// Whether columns of an open relation are generated and stored.
///
/// # Safety
/// `relation` is open.
pub unsafe fn has_stored_generated(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open relation has a descriptor.
    unsafe {
        let constraints = (*(*relation).rd_att).constr;
        !constraints.is_null() && (*constraints).has_generated_stored
    }
}

/// Of an open relation: positions (from 0) of columns that are NOT NULL, and whether it has CHECK constraints.
///
/// # Safety
/// `relation` is open.
pub unsafe fn constraints(relation: pg_sys::Relation) -> (Vec<usize>, bool) {
    // SAFETY: an open relation has a descriptor with as many attributes as it says.
    unsafe {
        let descriptor = (*relation).rd_att;
        let attributes = std::slice::from_raw_parts((*descriptor).attrs.as_ptr(), (*descriptor).natts as usize);
        let not_null = |a: &pg_sys::FormData_pg_attribute| a.attnotnull && !a.attisdropped;
        let positions = (0..attributes.len()).filter(|i| not_null(&attributes[*i])).collect();
        let constraints = (*descriptor).constr;
        (positions, !constraints.is_null() && (*constraints).num_check > 0)
    }
}
