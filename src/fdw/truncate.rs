//! TRUNCATE: the table's segments leave the catalog in this transaction.

use pgrx::{pg_guard, pg_sys};

use crate::catalog::{datasource, retire};
use crate::error::OrRaise;

#[pg_guard]
pub unsafe extern "C-unwind" fn truncate(
    relations: *mut pg_sys::List,
    _behavior: pg_sys::DropBehavior::Type,
    _restart_sequences: bool,
) {
    // SAFETY: a list of open relations that are locked exclusively.
    let relations = unsafe { crate::pg::list::pointers::<pg_sys::RelationData>(relations) };
    for relation in relations {
        // SAFETY: as above.
        let opened = datasource::open(unsafe { (*relation).rd_id }).or_raise();
        retire::delete_all(&opened.id);
    }
}
