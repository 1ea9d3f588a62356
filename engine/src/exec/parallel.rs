//! Blocks shared out to threads. The calling thread waits in short steps, polls the host, and merges.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::aggregate::{Room, Task, Worker, add_statistics};
use super::global::{Global, Partial};
use super::{ExecOptions, ExecStatistics, panic_message};
use crate::plan::Host;
use crate::{Error, Result};

/// The longest that the host is not polled.
const STEP: Duration = Duration::from_millis(5);

enum Message {
    Partial(usize, Box<Partial>),
    /// One that must go, as memory is short, or what was merged so far; the sender waits until it is told whether something went.
    Spill(Option<(usize, Box<Partial>)>, SyncSender<bool>),
    Done(ExecStatistics),
    Failed(Error),
}

struct Shared<'t, 'a> {
    tasks: &'t [Task<'a>],
    /// (task, block) in order.
    items: Vec<(u32, u32)>,
    next: AtomicUsize,
    stop: AtomicBool,
    options: &'t ExecOptions,
    spills: bool,
    /// Whether a thread without memory asks the others to let something go, how many wait for that, and how often something went.
    asked: AtomicBool,
    waiting: AtomicUsize,
    gone: AtomicUsize,
    /// Threads that take blocks.
    running: AtomicUsize,
}

struct SharedRoom<'s, 't, 'a> {
    shared: &'s Shared<'t, 'a>,
    sender: &'s SyncSender<Message>,
    task: usize,
}

impl SharedRoom<'_, '_, '_> {
    fn send(&self, partial: Option<(usize, Box<Partial>)>) -> Result<bool> {
        let (gone, wait) = sync_channel(1);
        self.sender.send(Message::Spill(partial, gone)).map_err(|_| Error::Canceled)?;
        wait.recv().map_err(|_| Error::Canceled)
    }
}

impl Room for SharedRoom<'_, '_, '_> {
    fn spill(&mut self, partial: Partial) -> Result<()> {
        self.send(Some((self.task, Box::new(partial))))?;
        self.shared.asked.store(false, Ordering::Relaxed);
        self.shared.gone.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_asked(&self) -> bool {
        self.shared.asked.load(Ordering::Relaxed)
    }

    fn ask(&mut self) -> Result<bool> {
        let shared = self.shared;
        let before = shared.gone.load(Ordering::Relaxed);
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let result = loop {
            if shared.stop.load(Ordering::Relaxed) {
                break Err(Error::Canceled);
            }
            if let Err(error) = shared.options.cancel.check() {
                break Err(error);
            }
            if shared.gone.load(Ordering::Relaxed) != before {
                break Ok(true);
            }
            // All others wait as well or are done: what is left to let go was merged.
            let (waiting, running) = (shared.waiting.load(Ordering::Relaxed), shared.running.load(Ordering::Relaxed));
            if waiting >= running {
                if self.send(None)? {
                    break Ok(true);
                }
                // One goes on alone, the others wait until it lets something go.
                let order = Ordering::Relaxed;
                if shared.waiting.compare_exchange(waiting, waiting - 1, order, order).is_ok() {
                    return Ok(true);
                }
            }
            shared.asked.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        };
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

/// Runs all blocks of `tasks`. `Ok(false)`: no thread could be started, and nothing was done.
pub(super) fn run(
    tasks: &[Task<'_>],
    threads: usize,
    options: &ExecOptions,
    global: &mut Global,
    host: &mut dyn Host,
    statistics: &mut ExecStatistics,
) -> Result<bool> {
    let items = tasks
        .iter()
        .enumerate()
        .flat_map(|(t, task)| task.rows.blocks.iter().map(move |block| (t as u32, *block)))
        .collect();
    let spills = global.spilled.is_some();
    let shared = Shared {
        tasks,
        items,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        options,
        spills,
        asked: AtomicBool::new(false),
        waiting: AtomicUsize::new(0),
        gone: AtomicUsize::new(0),
        running: AtomicUsize::new(threads),
    };
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(threads * 2);
        let mut running = 0;
        let wake = host.before_spawn();
        for _ in 0..threads {
            let (sender, shared) = (sender.clone(), &shared);
            let spawned = thread::Builder::new().name("basalt scan".into()).spawn_scoped(scope, move || {
                let result = catch_unwind(AssertUnwindSafe(|| work(shared, &sender)))
                    .unwrap_or_else(|panic| Err(Error::Panic(panic_message(&*panic))));
                shared.running.fetch_sub(1, Ordering::Relaxed);
                let message = match result {
                    Ok(statistics) => Message::Done(statistics),
                    Err(error) => Message::Failed(error),
                };
                // Nobody listens any more once the calling thread has failed.
                sender.send(message).ok();
            });
            running += usize::from(spawned.is_ok());
            if spawned.is_err() {
                shared.running.fetch_sub(1, Ordering::Relaxed);
            }
        }
        drop(wake);
        drop(sender);
        if running == 0 {
            return Ok(false);
        }
        let result = collect(&shared, receiver, running, global, host, statistics);
        shared.stop.store(true, Ordering::Relaxed);
        result.map(|()| true)
    })
}

/// One thread: takes blocks in turn; what it made of a segment is sent when it turns to one that is grouped otherwise.
fn work(shared: &Shared<'_, '_>, sender: &SyncSender<Message>) -> Result<ExecStatistics> {
    let mut worker = Worker::new(&shared.options.budget, shared.spills)?;
    let mut current = usize::MAX;
    let flush = |worker: &mut Worker, task: usize| match worker.take() {
        Some(partial) => sender.send(Message::Partial(task, Box::new(partial))).map_err(|_| Error::Canceled),
        None => Ok(()),
    };
    loop {
        let nth = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(&(task, block)) = shared.items.get(nth) else { break };
        if shared.stop.load(Ordering::Relaxed) {
            return Err(Error::Canceled);
        }
        shared.options.cancel.check()?;
        if current != task as usize {
            let alike = shared.tasks.get(current).is_some_and(|c| c.grouped_like(&shared.tasks[task as usize]));
            if !alike {
                flush(&mut worker, current)?;
            }
            current = task as usize;
        }
        worker.caught(&shared.tasks[current], block, &mut SharedRoom { shared, sender, task: current })?;
    }
    flush(&mut worker, current)?;
    Ok(worker.statistics)
}

/// Merges what the threads send until all are done. The receiver is dropped on return, so that no sender stays blocked.
fn collect(
    shared: &Shared<'_, '_>,
    receiver: Receiver<Message>,
    threads: usize,
    global: &mut Global,
    host: &mut dyn Host,
    statistics: &mut ExecStatistics,
) -> Result<()> {
    let mut done = 0;
    while done < threads {
        match receiver.recv_timeout(STEP) {
            Ok(Message::Partial(task, partial)) => {
                let task = &shared.tasks[task];
                global.add(task.segment, &task.rows.view, *partial, host)?;
            }
            Ok(Message::Spill(None, gone)) => {
                gone.send(global.spill_held(host)?).ok();
            }
            Ok(Message::Spill(Some((task, partial)), gone)) => {
                let task = &shared.tasks[task];
                global.spill(&task.rows.view, *partial, host)?;
                gone.send(true).ok();
            }
            Ok(Message::Done(part)) => {
                add_statistics(statistics, &part);
                done += 1;
            }
            Ok(Message::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Panic("a scan thread vanished".into())),
        }
        host.poll()?;
        shared.options.cancel.check()?;
    }
    Ok(())
}
