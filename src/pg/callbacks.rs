//! Callbacks of transactions, of cache invalidation and of a process's end, as safe functions. Each kind but the last has one receiver, registered once a process.

use std::cell::{Cell, RefCell};

use pgrx::{pg_guard, pg_sys};

/// A process, and what runs at its end.
type AtExit = (u32, Vec<fn()>);

thread_local! {
    static TRANSACTION: Cell<Option<fn(pg_sys::XactEvent::Type)>> = const { Cell::new(None) };
    static SUBTRANSACTION: Cell<Option<Subtransaction>> = const { Cell::new(None) };
    static RELATION: Cell<Option<fn(pg_sys::Oid)>> = const { Cell::new(None) };
    /// What runs at the end of a process. A child of the postmaster starts without its parent's callbacks.
    static EXIT: RefCell<AtExit> = const { RefCell::new((0, Vec::new())) };
}

/// Told of an event, the subtransaction and its parent.
pub type Subtransaction = fn(pg_sys::SubXactEvent::Type, pg_sys::SubTransactionId, pg_sys::SubTransactionId);

/// Calls `transaction` and `subtransaction` at their ends.
pub fn at_transactions(transaction: fn(pg_sys::XactEvent::Type), subtransaction: Subtransaction) {
    if TRANSACTION.replace(Some(transaction)).is_none() {
        SUBTRANSACTION.set(Some(subtransaction));
        // SAFETY: the functions are static; registered once.
        unsafe {
            pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
        }
    }
}

/// Calls `receiver` with a relation whose cached description is out of date; with `InvalidOid`: any.
pub fn at_relation_change(receiver: fn(pg_sys::Oid)) {
    if RELATION.replace(Some(receiver)).is_none() {
        // SAFETY: the function is static; registered once.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_relation), pg_sys::Datum::from(0usize)) }
    }
}

/// Calls each `receiver` once when the process ends, also by a FATAL error, which runs no destructors. Main thread only.
pub fn at_exit(receiver: fn()) {
    EXIT.with_borrow_mut(|(process, receivers)| {
        // SAFETY: a plain global of the server; the function is static, and registered once a process.
        unsafe {
            let this = pg_sys::MyProcPid as u32;
            if std::mem::replace(process, this) != this {
                receivers.clear();
                pg_sys::on_proc_exit(Some(on_exit), pg_sys::Datum::from(0usize));
            }
        }
        if !receivers.iter().any(|known| std::ptr::fn_addr_eq(*known, receiver)) {
            receivers.push(receiver);
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
    for receiver in EXIT.take().1 {
        receiver();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    if let Some(receiver) = TRANSACTION.get() {
        receiver(event);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    this: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    if let Some(receiver) = SUBTRANSACTION.get() {
        receiver(event, this, parent);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    if let Some(receiver) = RELATION.get() {
        receiver(relation);
    }
}
