//! Temporary files: PostgreSQL's own, which `temp_file_limit` counts and the end of the transaction removes.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use basalt_engine::exec::Spill;
use basalt_engine::{Error, Result};
use pgrx::pg_sys;

use super::memory::InContext;

/// Bytes in one of the files that PostgreSQL makes of a temporary file (`MAX_PHYSICAL_FILESIZE`).
const FILE_BYTES: u64 = 1 << 30;

struct State {
    /// Null until something is written, and once it is closed.
    file: *mut pg_sys::BufFile,
    context: pg_sys::MemoryContext,
    /// An error of PostgreSQL, kept while the engine's frames are left.
    failure: Option<Box<dyn Any + Send>>,
}

/// A file that a query's execution writes and reads again. Clones are the same file.
#[derive(Clone)]
pub struct TemporaryFile(Rc<RefCell<State>>);

impl TemporaryFile {
    /// Made in the current memory context, which outlives it, when something is written.
    pub fn new() -> Self {
        // SAFETY: PostgreSQL's own variable.
        let context = unsafe { pg_sys::CurrentMemoryContext };
        TemporaryFile(Rc::new(RefCell::new(State { file: std::ptr::null_mut(), context, failure: None })))
    }

    /// Lets a kept error go on.
    pub fn conclude(&self) {
        let failure = self.0.borrow_mut().failure.take();
        if let Some(payload) = failure {
            resume_unwind(payload);
        }
    }

    /// Removes the file. Not to be called after an error: the transaction's end has removed it then.
    pub fn close(&self) {
        let file = std::mem::replace(&mut self.0.borrow_mut().file, std::ptr::null_mut());
        if !file.is_null() {
            // SAFETY: the file is open.
            unsafe { pg_sys::BufFileClose(file) }
        }
    }

    /// Runs PostgreSQL's code; an error is kept for `conclude`.
    fn guarded<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let state = &mut *self.0.borrow_mut();
        if state.failure.is_some() {
            return Err(Error::Canceled);
        }
        catch_unwind(AssertUnwindSafe(|| work(state))).unwrap_or_else(|payload| {
            state.failure = Some(payload);
            Err(Error::Canceled)
        })
    }
}

/// Goes to a place of the file, which is there.
///
/// # Safety
/// `file` is open.
unsafe fn seek(file: *mut pg_sys::BufFile, at: u64) -> Result<()> {
    // SAFETY: the caller's file is open; numbers are in range, as files have less than 2^31 pieces.
    let failed = unsafe {
        pg_sys::BufFileSeek(file, (at / FILE_BYTES) as i32, (at % FILE_BYTES) as pg_sys::off_t, libc::SEEK_SET) != 0
    };
    if failed { Err(Error::invalid("a place past the end of a temporary file")) } else { Ok(()) }
}

impl Spill for TemporaryFile {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.guarded(|state| {
            // SAFETY: the context lives as long as the query, whose resource owner is the current one. The bytes are only read.
            unsafe {
                if state.file.is_null() {
                    let _guard = InContext::new(state.context);
                    pg_sys::PrepareTempTablespaces();
                    state.file = pg_sys::BufFileCreateTemp(false);
                }
                seek(state.file, at)?;
                pg_sys::BufFileWrite(state.file, bytes.as_ptr().cast_mut().cast(), bytes.len());
            }
            Ok(())
        })
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.guarded(|state| {
            if state.file.is_null() {
                return Err(Error::invalid("a temporary file without bytes"));
            }
            // SAFETY: the file is open; `out` has room for as many bytes.
            let read = unsafe {
                seek(state.file, at)?;
                pg_sys::BufFileRead(state.file, out.as_mut_ptr().cast(), out.len())
            };
            if read == out.len() { Ok(()) } else { Err(Error::invalid("a temporary file is too short")) }
        })
    }
}
