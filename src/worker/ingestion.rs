//! The ingestion worker of a database: steps every ingestion's task on the main thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_background::ingest::Runner;
use pgrx::{pg_guard, pg_sys};

use super::process;
use super::task::{Next, Task};
use crate::catalog::{datasource, ingestion};
use crate::pg::interrupts::SignalsBlocked;
use crate::pg::lock::Mode;
use crate::pg::workers::{self, Kind};

/// How often the catalog is read without being told to.
const RELOAD: Duration = Duration::from_secs(5);
const LOOK_FOR_DATABASE_COMMANDS: Duration = Duration::from_secs(1);
/// How long threads may take to end before the process ends without them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How threads wake the main thread: a byte in a socket that it waits on besides its latch.
pub struct Bell {
    ring: Arc<UnixStream>,
    heard: UnixStream,
}

impl Bell {
    fn new() -> std::io::Result<Self> {
        let (ring, heard) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Bell { ring: Arc::new(ring), heard })
    }

    pub fn ringer(&self) -> Box<dyn Fn() + Send + Sync> {
        let ring = self.ring.clone();
        Box::new(move || {
            // A full socket rings already.
            let _ = (&*ring).write(&[1]);
        })
    }

    fn silence(&self) {
        let mut bytes = [0; 256];
        while matches!((&self.heard).read(&mut bytes), Ok(n) if n > 0) {}
    }
}

thread_local! {
    /// Here, so that the threads are ended on every way out of the process.
    static TASKS: RefCell<Tasks> = RefCell::default();
}

#[derive(Default)]
struct Tasks {
    running: BTreeMap<[u8; 16], Task>,
    /// Threads that were told to end.
    ended: Vec<Runner>,
}

impl Tasks {
    /// Takes the catalog's ingestions over; a changed one starts anew.
    fn reconcile(&mut self, wanted: Vec<ingestion::Ingestion>) {
        let keep =
            |task: &Task| wanted.iter().any(|w| w.id == task.ingestion.id && w.generation == task.ingestion.generation);
        let gone: Vec<[u8; 16]> = self.running.iter().filter(|(_, t)| !keep(t)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(runner) = self.running.remove(&id).and_then(Task::into_runner) {
                runner.cancel();
                self.ended.push(runner);
            }
        }
        for one in wanted {
            self.running.entry(one.id).or_insert_with(|| Task::new(one));
        }
    }

    fn stop(&mut self) {
        for (_, task) in std::mem::take(&mut self.running) {
            self.ended.extend(task.into_runner());
        }
        for runner in &self.ended {
            runner.cancel();
        }
        let until = Instant::now() + PATIENCE;
        for runner in self.ended.drain(..) {
            runner.stop(until.saturating_duration_since(Instant::now()));
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stop_threads(_code: i32, _argument: pg_sys::Datum) {
    TASKS.with(|tasks| {
        if let Ok(mut tasks) = tasks.try_borrow_mut() {
            tasks.stop();
        }
    });
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn basalt_ingestion_worker(slot: pg_sys::Datum) {
    let Some(slot) = process::begin(slot, Kind::Ingestion) else { return };
    process::end_between_steps();
    // SAFETY: runs stop_threads before the process gives its resources back, whatever ends it.
    unsafe { pg_sys::before_shmem_exit(Some(stop_threads), pg_sys::Datum::from(0usize)) };
    match Bell::new() {
        Ok(bell) => work(slot, &bell),
        Err(error) => process::log(format!("basalt ingestion worker: {error}")),
    }
    TASKS.with_borrow_mut(Tasks::stop);
    process::finish(slot, Kind::Ingestion);
}

fn work(slot: usize, bell: &Bell) {
    let mut read_at: Option<Instant> = None;
    let mut looked_at = Instant::now();
    while !process::must_end() {
        if read_at.is_none_or(|at| at.elapsed() >= RELOAD) {
            read_at = Some(Instant::now());
            match wanted() {
                Ok(Some(wanted)) => TASKS.with_borrow_mut(|tasks| tasks.reconcile(wanted)),
                Ok(None) => {
                    workers::want(slot, Kind::Ingestion, false);
                    return;
                }
                Err(failure) => process::warn(&failure, "basalt could not read its ingestions"),
            }
        }
        if looked_at.elapsed() >= LOOK_FOR_DATABASE_COMMANDS {
            looked_at = Instant::now();
            if process::is_database_wanted() {
                return;
            }
        }
        let mut sleep = LOOK_FOR_DATABASE_COMMANDS;
        let mut reload = false;
        bell.silence();
        TASKS.with_borrow_mut(|tasks| {
            let Tasks { running, ended } = tasks;
            for task in running.values_mut() {
                match task.step(bell, ended) {
                    Next::Within(time) => sleep = sleep.min(time),
                    Next::Reload => reload = true,
                }
            }
            reap(ended);
        });
        if reload {
            read_at = None;
        } else if process::wait(sleep, Some(bell.heard.as_raw_fd())) {
            // The latch is set when an ingestion was changed.
            read_at = None;
        }
    }
}

/// Joins threads that have ended.
fn reap(ended: &mut Vec<Runner>) {
    let mut at = 0;
    while at < ended.len() {
        if ended[at].is_finished() {
            let signals = SignalsBlocked::new();
            ended.swap_remove(at).stop(Duration::ZERO);
            drop(signals);
        } else {
            at += 1;
        }
    }
}

/// The ingestions that should run; `None`: there is nothing to do in this database. Those whose table is gone are dropped.
fn wanted() -> Result<Option<Vec<ingestion::Ingestion>>, process::Failure> {
    if !process::has_extension() {
        return Ok(None);
    }
    process::transaction(|| {
        if !ingestion::exist() {
            return Ok(None);
        }
        let (there, gone): (Vec<_>, Vec<_>) =
            ingestion::running().into_iter().partition(|i| datasource::is_datasource(i.relation));
        for one in &gone {
            if !ingestion::try_lock(&one.id, Mode::Commit) {
                continue;
            }
            process::log(format!("basalt ingestion \"{}\" dropped: its table is gone", one.name));
            ingestion::drop_of_datasource(&one.datasource);
        }
        Ok(Some(there))
    })
}
