//! Long engine work on a thread of its own, so that the backend stays interruptible.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use basalt_engine as engine;
use basalt_engine::Cancel;

use super::interrupts::{self, SignalsBlocked};
use crate::error::Result;

/// Runs `work` on a thread and waits for it. On a cancel or a termination, sets `cancel`, waits for the thread's end, and
/// lets PostgreSQL raise. `work` calls no PostgreSQL function; a panic in it is an error.
pub fn run<T: Send>(cancel: &Cancel, work: impl FnOnce() -> engine::Result<T> + Send) -> Result<T> {
    let outcome = std::thread::scope(|scope| {
        let (done, wait) = channel();
        let blocked = SignalsBlocked::new();
        let spawned = std::thread::Builder::new().name("basalt".into()).spawn_scoped(scope, move || {
            let result = work();
            let _ = done.send(());
            result
        });
        drop(blocked);
        let thread = spawned?;
        while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(Duration::from_millis(10)) {
            if interrupts::stop_requested() {
                cancel.cancel();
            }
        }
        thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| s.to_string()).or(panic.downcast_ref::<String>().cloned());
            Err(engine::Error::Panic(text.unwrap_or_default()))
        })
    });
    if matches!(outcome, Err(engine::Error::Canceled)) {
        interrupts::check();
    }
    Ok(outcome?)
}
