//! Memory contexts as guards.

use pgrx::pg_sys;

/// Makes a context current until dropped.
pub struct InContext(pg_sys::MemoryContext);

impl InContext {
    /// # Safety
    /// `context` outlives the guard.
    pub unsafe fn new(context: pg_sys::MemoryContext) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = context;
            InContext(before)
        }
    }
}

impl Drop for InContext {
    fn drop(&mut self) {
        // SAFETY: the context that was current when the guard was made is an ancestor of this frame.
        unsafe { pg_sys::CurrentMemoryContext = self.0 }
    }
}

/// A context for short-lived allocations, emptied by hand: conversions leak into it. It goes with its parent.
pub struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    /// A child of the current context; gone with it at the latest.
    pub fn new() -> Self {
        // SAFETY: the name is static.
        unsafe {
            Scratch(pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"basalt conversion".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            ))
        }
    }

    /// Runs `work` with the scratch context current, then empties it: nothing palloc'ed may leave `work`.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the context lives as long as `self` is used, by the owner's promise not to outlive its parent.
        unsafe {
            let guard = InContext::new(self.0);
            let result = work();
            drop(guard);
            // Most conversions allocate nothing, and calls of the server are guarded.
            if !(*self.0).isReset || !(*self.0).firstchild.is_null() {
                pg_sys::MemoryContextReset(self.0);
            }
            result
        }
    }
}
