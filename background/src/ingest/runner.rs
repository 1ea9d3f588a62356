//! The two threads of an ingestion. Everything between them is bounded: one batch being filled, one being built,
//! one waiting to be published, besides the client's own queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use basalt_engine::Cancel;
use basalt_engine::types::Schema;

use super::assemble::Limits;
use super::batch::{Decoded, Prepared};
use super::build::Builder;
use super::fetch::Fetcher;
use crate::checkpoint::Checkpoint;
use crate::json::Field;
use crate::source::{Describe, Source};
use crate::{Error, Result};

/// How often an idle ingestion asks for new partitions and the topic's id.
const IDLE_CHECK: Duration = Duration::from_secs(2);
const QUESTION: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);

/// Everything an ingestion needs to know to start.
pub struct Spec {
    pub topic: String,
    pub topic_id: Option<[u8; 16]>,
    pub schema: Arc<Schema>,
    pub fields: Vec<Field>,
    pub checkpoint: Checkpoint,
    pub publish_interval: Duration,
    pub limits: Limits,
    /// Bytes of memory that building one segment may take.
    pub build_memory: usize,
    pub spill_directory: Option<std::path::PathBuf>,
}

/// What the threads have for the main thread.
pub enum Output {
    /// Publish it.
    Batch(Box<Prepared>),
    /// Read the host cells ([`Decoded::convert`]) and give it back ([`Runner::converted`]).
    Convert(Box<Decoded>),
    /// The ingestion has ended with an error.
    Failed(Error),
}

/// How an ingestion is doing right now.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The newest error that goes away by itself; `None` once something worked again.
    pub trouble: Option<String>,
    /// Partition, position, and the offset after its last message where known.
    pub ends: Vec<(i32, i64, Option<i64>)>,
}

struct Shared {
    cancel: Cancel,
    partitions: AtomicI32,
    /// Whether the builder waits for work; only the fetcher takes it back.
    idle: AtomicBool,
    status: Mutex<Status>,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, error: Option<String>) {
        let mut status = self.status();
        if status.trouble != error {
            status.trouble = error;
            drop(status);
            (self.notify)();
        }
    }

    /// Sleeps in short steps; false: the ingestion is to end.
    fn pause(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            if self.cancel.is_canceled() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        !self.cancel.is_canceled()
    }
}

enum Work {
    Batch(Box<Decoded>),
    /// Nothing to publish: look at the topic.
    Check,
}

/// A running ingestion. The caller blocks all signals around [`Runner::start`], so that the threads never take any.
pub struct Runner {
    outputs: Receiver<Output>,
    converted: SyncSender<Decoded>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Runner {
    /// `connect` makes the source on the fetching thread; `notify` is called whenever the main thread should look.
    /// Errors: a thread cannot be started.
    pub fn start(
        spec: Spec,
        connect: impl FnOnce() -> Result<Box<dyn Source>> + Send + 'static,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Runner> {
        let shared = Arc::new(Shared {
            cancel: Cancel::new(),
            partitions: AtomicI32::new(0),
            idle: AtomicBool::new(false),
            status: Mutex::default(),
            notify,
        });
        let (work, work_in) = sync_channel::<Work>(1);
        let (describers, describers_in) = sync_channel::<Box<dyn Describe>>(1);
        let (output, outputs) = sync_channel::<Output>(1);
        let (converted, converted_in) = sync_channel::<Decoded>(1);
        let builder = Builder {
            schema: spec.schema.clone(),
            topic: spec.topic.clone(),
            topic_id: spec.topic_id,
            memory: spec.build_memory,
            spill_directory: spec.spill_directory.clone(),
            cancel: shared.cancel.clone(),
        };
        let mut runner = Runner { outputs, converted, shared: shared.clone(), threads: Vec::new() };
        let (for_fetch, for_build) = (shared.clone(), shared.clone());
        let failures = output.clone();
        runner.spawn("basalt fetch", failures, move || fetch(spec, connect, &for_fetch, &work, &describers))?;
        runner.spawn("basalt build", output.clone(), move || {
            let link = Link { work: work_in, output, converted: converted_in };
            build(builder, &for_build, &describers_in, &link)
        })?;
        Ok(runner)
    }

    fn spawn(
        &mut self,
        name: &str,
        output: SyncSender<Output>,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                Err(Error::Panic(text.unwrap_or_else(|| "unknown".into())))
            });
            if let Err(error) = result {
                // The receiver is gone only when the ingestion ends anyway.
                send(&shared, &output, Output::Failed(error));
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// What is ready, without waiting.
    pub fn next(&self) -> Option<Output> {
        self.outputs.try_recv().ok()
    }

    /// Gives back what [`Output::Convert`] handed out.
    pub fn converted(&self, decoded: Decoded) {
        // Only a builder that has ended does not take it.
        let _ = self.converted.try_send(decoded);
    }

    pub fn status(&self) -> Status {
        self.shared.status().clone()
    }

    /// Asks the threads to end.
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
    }

    /// Whether the threads have ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends the threads, waiting for them up to `timeout`; false: one is still busy (a name look-up, say) and ends later
    /// by itself.
    pub fn stop(mut self, timeout: Duration) -> bool {
        self.cancel();
        let until = Instant::now() + timeout;
        while !self.is_finished() {
            if Instant::now() >= until {
                return false;
            }
            // Makes room for a thread that waits to hand something over.
            let _ = self.outputs.try_recv();
            std::thread::sleep(Duration::from_millis(2));
        }
        for thread in self.threads.drain(..) {
            // A panic was caught inside and reported.
            let _ = thread.join();
        }
        true
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

/// Waits until `value` is taken; false: the ingestion ends first.
fn send<T>(shared: &Shared, to: &SyncSender<T>, value: T) -> bool {
    let mut value = value;
    loop {
        match to.try_send(value) {
            Ok(()) => {
                (shared.notify)();
                return true;
            }
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => value = back,
        }
        if shared.cancel.is_canceled() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn fetch(
    spec: Spec,
    connect: impl FnOnce() -> Result<Box<dyn Source>>,
    shared: &Shared,
    work: &SyncSender<Work>,
    describers: &SyncSender<Box<dyn Describe>>,
) -> Result<()> {
    let source = connect()?;
    if describers.try_send(source.describer()).is_err() {
        return Ok(());
    }
    let Spec { schema, fields, checkpoint, publish_interval, limits, .. } = spec;
    let mut fetcher = Fetcher::new(source, schema, fields, limits, publish_interval, &checkpoint);
    let mut checked = Instant::now();
    let mut told = Instant::now();
    // The builder tells how many partitions there are, once it has seen that the topic is the right one.
    while !shared.cancel.is_canceled() {
        let now = Instant::now();
        if let Err(error) = fetcher.assign(shared.partitions.load(Ordering::Acquire)) {
            shared.trouble(Some(error.to_string()));
            if !shared.pause(RETRY) {
                break;
            }
        }
        if !fetcher.is_full() {
            match fetcher.poll(fetcher.patience(now)) {
                Ok(()) => {}
                Err(error) if error.stops() => return Err(error),
                Err(error) => shared.trouble(Some(error.to_string())),
            }
        }
        let now = Instant::now();
        // While the builder is busy the batch stays open and grows.
        if fetcher.is_due(now) && shared.idle.swap(false, Ordering::AcqRel) {
            checked = now;
            let next = fetcher.seal(now).map_or(Work::Check, |d| Work::Batch(Box::new(d)));
            if work.try_send(next).is_err() {
                break;
            }
        } else if now.duration_since(checked) >= IDLE_CHECK && shared.idle.swap(false, Ordering::AcqRel) {
            checked = now;
            if work.try_send(Work::Check).is_err() {
                break;
            }
        }
        if fetcher.is_full() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if now.duration_since(told) >= Duration::from_millis(200) {
            shared.status().ends = fetcher.ends();
            told = now;
        }
    }
    Ok(())
}

struct Link {
    work: Receiver<Work>,
    output: SyncSender<Output>,
    converted: Receiver<Decoded>,
}

fn build(mut builder: Builder, shared: &Shared, describers: &Receiver<Box<dyn Describe>>, link: &Link) -> Result<()> {
    let Some(mut describe) = wait_for(shared, describers) else { return Ok(()) };
    if !confirm(&mut builder, shared, describe.as_mut())? {
        return Ok(());
    }
    loop {
        shared.idle.store(true, Ordering::Release);
        let Some(work) = wait_for(shared, &link.work) else { break };
        let Work::Batch(mut decoded) = work else {
            if !confirm(&mut builder, shared, describe.as_mut())? {
                break;
            }
            continue;
        };
        if !decoded.host.is_empty() {
            if !send(shared, &link.output, Output::Convert(decoded)) {
                break;
            }
            match wait_for(shared, &link.converted) {
                Some(back) => decoded = Box::new(back),
                None => break,
            }
        }
        let mut prepared = builder.build(*decoded)?;
        // After the last message was fetched, before it is published.
        if !confirm(&mut builder, shared, describe.as_mut())? {
            break;
        }
        prepared.topic_id = builder.topic_id;
        if !send(shared, &link.output, Output::Batch(Box::new(prepared))) {
            break;
        }
    }
    Ok(())
}

/// The next value; `None`: the ingestion ends.
fn wait_for<T>(shared: &Shared, from: &Receiver<T>) -> Option<T> {
    loop {
        match from.recv_timeout(Duration::from_millis(50)) {
            Ok(value) => return Some(value),
            Err(RecvTimeoutError::Timeout) if !shared.cancel.is_canceled() => {}
            Err(_) => return None,
        }
    }
}

/// Repeats the question until there is an answer. False: the ingestion ends. Errors: those that stop it.
fn confirm(builder: &mut Builder, shared: &Shared, describe: &mut dyn Describe) -> Result<bool> {
    loop {
        match builder.confirm(describe, QUESTION) {
            Ok(description) => {
                shared.partitions.fetch_max(description.partitions, Ordering::AcqRel);
                shared.trouble(None);
                return Ok(true);
            }
            Err(error) if error.stops() => return Err(error),
            Err(error) => shared.trouble(Some(error.to_string())),
        }
        if !shared.pause(RETRY) {
            return Ok(false);
        }
    }
}
