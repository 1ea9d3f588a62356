//! Blocks shared out to threads. The calling thread works alone while no other is to be had; else it waits in short steps, polls the
//! host, and merges.
//!
//! Threads besides the first are taken from the host's pool, if it has one, and given back as soon as others need them. Such a thread keeps
//! what it has made and stands by until there is a place again or nothing is left to do: merging half-made groups would cost more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::aggregate::{Room, Task, Worker, host_timed};
use super::global::{Global, Partial};
use super::{ExecOptions, ExecStatistics, panic_message};
use crate::plan::{Host, ThreadPool};
use crate::segment::BLOCK_ROWS;
use crate::{Error, Result};

/// The longest that the host is not polled.
const STEP: Duration = Duration::from_millis(5);
/// How often a thread that stands by looks around.
const STAND: Duration = Duration::from_millis(2);
/// Rows of a thread after which one can tell how many groups there will be.
const JUDGED: u64 = 1 << 19;
/// The share of a thread's rows that are groups of their own beyond which merging costs more than the other threads save: each group is
/// looked up, and put into a table, once more by the one that merges.
const UNIQUE: f64 = 2.0 / 3.0;

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
    items: &'t [(u32, u32)],
    next: AtomicUsize,
    stop: AtomicBool,
    options: &'t ExecOptions,
    pool: Option<Arc<dyn ThreadPool>>,
    spills: bool,
    /// Whether a thread without memory asks the others to let something go, how many wait for that, and how often something went.
    asked: AtomicBool,
    waiting: AtomicUsize,
    gone: AtomicUsize,
    /// Threads that take blocks, all but one of which were taken from the pool.
    running: AtomicUsize,
    /// Threads that gave their place back and stand by for another.
    standing: AtomicUsize,
    /// Whether all segments are grouped alike.
    alike: bool,
    /// A thread found that most rows are groups of their own.
    unique: AtomicBool,
}

impl Shared<'_, '_> {
    fn left(&self) -> usize {
        self.items.len().saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// A thread takes no more blocks.
    fn end(&self) {
        let before = self.running.fetch_sub(1, Ordering::Relaxed);
        if let (Some(pool), true) = (&self.pool, before > 1) {
            pool.give();
        }
    }

    /// Gives a thread back that others need, unless it is the last one.
    fn yields(&self) -> bool {
        let Some(pool) = self.pool.as_ref().filter(|pool| pool.is_short()) else { return false };
        let order = Ordering::Relaxed;
        let fewer = self.running.fetch_update(order, order, |running| (running > 1).then(|| running - 1)).is_ok();
        if fewer {
            pool.give();
        }
        fewer
    }

    /// Takes one more thread, if there is one and it has something to do.
    fn grows(&self) -> bool {
        let Some(pool) = &self.pool else { return false };
        if self.left() <= self.running.load(Ordering::Relaxed) || !pool.take() {
            return false;
        }
        let order = Ordering::Relaxed;
        let more = self.running.fetch_update(order, order, |running| (running > 0).then_some(running + 1)).is_ok();
        if !more {
            pool.give();
        }
        more
    }

    fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Canceled);
        }
        self.options.cancel.check()
    }
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

/// Of the calling thread, working alone.
struct OwnRoom<'r, 'a, 'h> {
    global: &'r mut Global,
    task: &'r Task<'a>,
    host: &'h mut dyn Host,
}

impl Room for OwnRoom<'_, '_, '_> {
    fn spill(&mut self, partial: Partial) -> Result<()> {
        self.global.spill(&self.task.rows.view, partial, self.host).map(drop)
    }
    fn is_asked(&self) -> bool {
        false
    }
    fn ask(&mut self) -> Result<bool> {
        self.global.spill_held(self.host)
    }
}

/// Runs all blocks of `tasks`.
pub(super) fn run(
    tasks: &[Task<'_>],
    options: &ExecOptions,
    global: &mut Global,
    host: &mut dyn Host,
    statistics: &mut ExecStatistics,
) -> Result<()> {
    let mut items: Vec<(u32, u32)> = tasks
        .iter()
        .enumerate()
        .flat_map(|(t, task)| task.rows.blocks.iter().map(move |block| (t as u32, *block)))
        .collect();
    let most = options.threads.clamp(1, items.len().max(1));
    if most > 1 && are_alike(tasks) {
        spread(&mut items, most * (JUDGED as usize / BLOCK_ROWS + 1));
    }
    let pool = host.pool();
    let mut threads = 1;
    while threads < most && pool.as_ref().is_none_or(|pool| pool.take()) {
        threads += 1;
    }
    let mut at = 0;
    if threads == 1 {
        let pool = pool.as_ref().filter(|_| most > 1);
        at = alone(tasks, &items, pool, options, global, host, statistics)?;
        threads += 1;
    }
    if at < items.len() && !together(tasks, &items[at..], (threads, most), options, global, host, statistics)? {
        alone(tasks, &items[at..], None, options, global, host, statistics)?;
    }
    Ok(())
}

/// Whether all go into one partial.
fn are_alike(tasks: &[Task<'_>]) -> bool {
    tasks.windows(2).all(|pair| pair[0].grouped_like(&pair[1]))
}

/// Brings items from everywhere to the front, so that the first `count` tell of all: what is near in time is often alike.
fn spread(items: &mut [(u32, u32)], count: usize) {
    let step = items.len() / count.max(1);
    if step > 1 {
        (0..count).for_each(|i| items.swap(i, i * step));
    }
}

/// Works on the calling thread until nothing is left or a thread could be taken from `pool`; returns how many items are done.
fn alone(
    tasks: &[Task<'_>],
    items: &[(u32, u32)],
    pool: Option<&Arc<dyn ThreadPool>>,
    options: &ExecOptions,
    global: &mut Global,
    host: &mut dyn Host,
    statistics: &mut ExecStatistics,
) -> Result<usize> {
    let mut worker = Worker::new(&options.budget, global.spilled.is_some())?;
    let mut done = 0;
    while let Some(&(task, block)) = items.get(done) {
        host.poll()?;
        options.cancel.check()?;
        let task = &tasks[task as usize];
        worker.caught(task, block, &mut OwnRoom { global, task, host })?;
        done += 1;
        // Segments that are grouped alike go into one partial.
        let next = items.get(done).map(|(next, _)| &tasks[*next as usize]);
        let joined = items.len() - done > 1 && pool.is_some_and(|pool| pool.take());
        if joined || next.is_none_or(|next| !task.grouped_like(next)) {
            let added = worker.take().map_or(Ok(Duration::ZERO), |partial| {
                host_timed(host, |host| global.add(task.segment, &task.rows.view, partial, host))
            });
            if let (Err(_), true, Some(pool)) = (&added, joined, pool) {
                pool.give();
            }
            statistics.merging += added?;
        }
        if joined {
            break;
        }
    }
    statistics.threads = statistics.threads.max(u64::from(done > 0));
    statistics.add(&worker.statistics);
    Ok(done)
}

/// Works on threads: `most` at most, and at first one and those that were taken from the pool. `Ok(false)`: none could be started, or one does
/// better; then nothing was done.
fn together(
    tasks: &[Task<'_>],
    items: &[(u32, u32)],
    (threads, most): (usize, usize),
    options: &ExecOptions,
    global: &mut Global,
    host: &mut dyn Host,
    statistics: &mut ExecStatistics,
) -> Result<bool> {
    let shared = Shared {
        tasks,
        items,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        options,
        pool: host.pool(),
        spills: global.spilled.is_some(),
        asked: AtomicBool::new(false),
        waiting: AtomicUsize::new(0),
        gone: AtomicUsize::new(0),
        running: AtomicUsize::new(threads),
        standing: AtomicUsize::new(0),
        alike: are_alike(tasks),
        unique: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(most * 2);
        let mut crew = Crew { scope, shared: &shared, sender, started: Vec::new(), most };
        let wake = host.before_spawn();
        for _ in 0..threads {
            crew.start();
        }
        drop(wake);
        if crew.started.is_empty() {
            return Ok(false);
        }
        let result = collect(&mut crew, receiver, global, host, statistics);
        if !matches!(result, Ok(false)) {
            statistics.threads = statistics.threads.max(crew.started.len() as u64);
        }
        shared.stop.store(true, Ordering::Relaxed);
        // The scope's end would wait for their work only, not for the threads to be gone.
        crew.started.into_iter().for_each(|thread| drop(thread.join()));
        result
    })
}

/// The threads that were started.
struct Crew<'s, 'e, 't, 'a> {
    scope: &'s Scope<'s, 'e>,
    shared: &'s Shared<'t, 'a>,
    sender: SyncSender<Message>,
    started: Vec<ScopedJoinHandle<'s, ()>>,
    most: usize,
}

impl Crew<'_, '_, '_, '_> {
    /// Starts one of the running threads.
    fn start(&mut self) {
        let (sender, shared) = (self.sender.clone(), self.shared);
        let spawned = thread::Builder::new().name("basalt scan".into()).spawn_scoped(self.scope, move || {
            let mut running = true;
            let result = catch_unwind(AssertUnwindSafe(|| work(shared, &sender, &mut running)))
                .unwrap_or_else(|panic| Err(Error::Panic(panic_message(&*panic))));
            if running {
                shared.end();
            }
            let message = match result {
                Ok(statistics) => Message::Done(statistics),
                Err(error) => Message::Failed(error),
            };
            // Nobody listens any more once the calling thread has failed.
            sender.send(message).ok();
        });
        match spawned {
            Ok(thread) => self.started.push(thread),
            Err(_) => self.shared.end(),
        }
    }
}

/// One thread: takes blocks in turn; what it made of a segment is sent when it turns to one that is grouped otherwise. `running`: whether
/// it is among those that take blocks.
fn work(shared: &Shared<'_, '_>, sender: &SyncSender<Message>, running: &mut bool) -> Result<ExecStatistics> {
    let mut worker = Worker::new(&shared.options.budget, shared.spills)?;
    let (mut current, mut blocks, mut judged) = (usize::MAX, 0, false);
    let flush = |worker: &mut Worker, task: usize| match worker.take() {
        Some(partial) => sender.send(Message::Partial(task, Box::new(partial))).map_err(|_| Error::Canceled),
        None => Ok(()),
    };
    loop {
        shared.check()?;
        if shared.yields() {
            *running = false;
            shared.standing.fetch_add(1, Ordering::Relaxed);
            while !*running && shared.left() > 0 {
                thread::sleep(STAND);
                shared.check()?;
                worker.make_room(&mut SharedRoom { shared, sender, task: current })?;
                *running = shared.grows();
            }
            shared.standing.fetch_sub(1, Ordering::Relaxed);
        }
        while shared.pool.as_ref().is_some_and(|pool| pool.is_paused()) {
            thread::sleep(STAND);
            shared.check()?;
        }
        let nth = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(&(task, block)) = shared.items.get(nth) else { break };
        if current != task as usize {
            let alike = shared.tasks.get(current).is_some_and(|c| c.grouped_like(&shared.tasks[task as usize]));
            if !alike {
                flush(&mut worker, current)?;
            }
            current = task as usize;
        }
        worker.caught(&shared.tasks[current], block, &mut SharedRoom { shared, sender, task: current })?;
        blocks += 1;
        if !judged && worker.statistics.rows_selected >= JUDGED {
            judged = true;
            let threads = shared.running.load(Ordering::Relaxed).max(1);
            let scale = shared.items.len() as f64 / (threads * blocks) as f64;
            // Early, so that little is done twice; and where finding rows is not what takes long.
            let dense = worker.statistics.rows_selected * 2 > worker.statistics.rows_scanned;
            if threads > 1
                && scale > 4.0
                && dense
                && shared.alike
                && worker.uniqueness().is_some_and(|share| uniqueness(share, scale) > UNIQUE)
            {
                shared.unique.store(true, Ordering::Relaxed);
            }
        }
    }
    flush(&mut worker, current)?;
    Ok(worker.statistics)
}

/// The share of rows that are groups of their own among `scale` times as many rows, if `share` of these are and all groups are equally likely:
/// n rows out of D then have D (1 - exp(-n / D)) (A. F. Cardenas, "Analysis and performance of inverted data base structures", 1975).
fn uniqueness(share: f64, scale: f64) -> f64 {
    let unique = |x: f64| if x < 1e-9 { 1.0 } else { -(-x).exp_m1() / x };
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if unique(middle) > share { low = middle } else { high = middle }
    }
    unique(low * scale)
}

/// Merges what the threads send until all are done, and starts more when there is a place for them. The receiver is dropped on return,
/// so that no sender stays blocked. `Ok(false)`: one thread does better, from the beginning, and nothing was merged.
fn collect(
    crew: &mut Crew<'_, '_, '_, '_>,
    receiver: Receiver<Message>,
    global: &mut Global,
    host: &mut dyn Host,
    statistics: &mut ExecStatistics,
) -> Result<bool> {
    let shared = crew.shared;
    let mut done = 0;
    while done < crew.started.len() {
        match receiver.recv_timeout(STEP) {
            Ok(Message::Partial(task, partial)) => {
                let task = &shared.tasks[task];
                statistics.merging +=
                    host_timed(host, |host| global.add(task.segment, &task.rows.view, *partial, host))?;
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
                statistics.add(&part);
                done += 1;
            }
            Ok(Message::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Panic("a scan thread vanished".into())),
        }
        host.poll()?;
        shared.options.cancel.check()?;
        let merged = global.has_groups() || global.has_spilled() || done > 0;
        if shared.unique.swap(false, Ordering::Relaxed) && !merged {
            return Ok(false);
        }
        // Those that stand by come back by themselves.
        let short = crew.started.len() < crew.most && shared.standing.load(Ordering::Relaxed) == 0;
        if short && shared.grows() {
            let wake = host.before_spawn();
            crew.start();
            drop(wake);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::uniqueness;

    #[test]
    fn the_share_of_new_groups_falls_with_the_rows() {
        assert!((uniqueness(1.0, 100.0) - 1.0).abs() < 1e-6);
        // A million groups: of half a million rows 79 % are new ones, of ten million 10 %.
        let of = |rows: f64| 1e6 / rows * (1.0 - (-rows / 1e6).exp());
        for rows in [1e6, 3e6, 10e6] {
            assert!((uniqueness(of(0.5e6), rows / 0.5e6) - of(rows)).abs() < 1e-6);
        }
        assert!(uniqueness(0.0, 5.0) < 1e-3);
    }
}
