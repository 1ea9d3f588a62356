//! Threads of all sessions, counted in shared memory, and who gives way to whom. Without shared_preload_libraries nothing is counted.
//!
//! Interactive executions never wait: their main thread always runs, further ones only while fewer than `basalt.max_total_threads` do.
//! Reporting executions share what interactive ones leave over, but always a share of all threads that run (`basalt.reporting_share`), in
//! turns: who waits longest is next, and a turn ends after [`TURN`] if somebody waits. A report without a turn stands still, all its threads
//! with it.
//!
//! Every process knows what it holds and returns it when it ends; a process that is killed restarts the server, and the memory with it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use basalt_engine as engine;
use basalt_engine::plan::ThreadPool;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_guard, pg_shmem_init, pg_sys};

use super::{callbacks, interrupts, workers};
use crate::guc::{self, QueryClass};

/// Reports that stand in the queue; further ones take their chance.
const QUEUE: usize = 256;
/// How long a report may run while others wait. Long, as it shares the processors meanwhile: reports that all advance in small steps all end late.
const TURN: Duration = Duration::from_secs(1);
/// Between two queries of a session interactive work counts as going on for so long.
const QUIET_MILLISECONDS: u64 = 20;

#[derive(Default)]
struct Board {
    /// Threads of interactive executions, and how many they would use if there were no others.
    interactive: AtomicU32,
    wanted: AtomicU32,
    /// When an interactive execution ended last, in milliseconds of the system's monotonic clock.
    ended: AtomicU64,
    /// Threads of reporting executions.
    reporting: AtomicU32,
    /// Tickets of those that wait for a turn (0: free), and the last that was drawn.
    queue: Queue,
    tickets: AtomicU64,
    /// How many wait.
    waiting: AtomicU32,
}

struct Queue([AtomicU64; QUEUE]);

impl Default for Queue {
    fn default() -> Self {
        Queue(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

// SAFETY: atomics only.
unsafe impl PGRXSharedMemory for Board {}

// SAFETY: the name is the extension's own.
static BOARD: PgAtomic<Board> = unsafe { PgAtomic::new(c"basalt threads") };

/// Threads that all sessions may use: engine threads must not read settings.
static LIMIT: AtomicU32 = AtomicU32::new(1);
/// Percent of the threads that run which reports have for certain.
static SHARE: AtomicU32 = AtomicU32::new(0);

/// From `_PG_init` while shared_preload_libraries are loaded.
// The macro looks for features of other server versions.
#[allow(unexpected_cfgs)]
pub fn reserve() {
    let processors = || std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok());
    let set = u32::try_from(guc::MAX_TOTAL_THREADS.get()).ok().filter(|limit| *limit > 0);
    LIMIT.store(set.or_else(processors).unwrap_or(1), Relaxed);
    pg_shmem_init!(BOARD = Board::default());
}

fn board() -> &'static Board {
    BOARD.get()
}

/// What this process holds of each of the board's numbers; engine threads change it too.
static INTERACTIVE: AtomicU32 = AtomicU32::new(0);
static WANTED: AtomicU32 = AtomicU32::new(0);
static REPORTING: AtomicU32 = AtomicU32::new(0);
/// Whether the running execution is a report, and whether it stands still.
static IS_REPORT: AtomicBool = AtomicBool::new(false);
static PAUSED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Executions within each other; since when this one has a turn; its place in the queue.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static TURN_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// An execution, as long as it works: between handing out tuples it holds nothing.
pub struct Running(PhantomData<*const ()>);

impl Running {
    /// Does not wait; a report does so in [`wait_for_turn`]. An execution within another is part of that.
    pub fn begin() -> Running {
        let depth = DEPTH.get();
        DEPTH.set(depth + 1);
        if depth == 0 && workers::is_preloaded() {
            callbacks::at_exit(leave);
            SHARE.store(u32::try_from(guc::REPORTING_SHARE.get()).unwrap_or(0), Relaxed);
            let reports = guc::QUERY_CLASS.get() == QueryClass::Reporting;
            IS_REPORT.store(reports, Relaxed);
            if !reports {
                add(&board().interactive, &INTERACTIVE, 1);
                add(&board().wanted, &WANTED, u32::try_from(guc::MAX_THREADS.get()).unwrap_or(1));
            }
        }
        Running(PhantomData)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let depth = DEPTH.get().saturating_sub(1);
        DEPTH.set(depth);
        if depth == 0 && workers::is_preloaded() {
            leave();
        }
    }
}

/// Gives back all that this process holds.
fn leave() {
    let board = board();
    if WANTED.load(Relaxed) > 0 {
        board.ended.store(now(), Relaxed);
    }
    leave_queue();
    TURN_SINCE.set(None);
    for (all, own) in [(&board.interactive, &INTERACTIVE), (&board.wanted, &WANTED), (&board.reporting, &REPORTING)] {
        all.fetch_sub(own.swap(0, Relaxed), Relaxed);
    }
    IS_REPORT.store(false, Relaxed);
    PAUSED.store(false, Relaxed);
}

fn add(all: &AtomicU32, own: &AtomicU32, number: u32) {
    own.fetch_add(number, Relaxed);
    all.fetch_add(number, Relaxed);
}

/// Adds one while there are fewer than `limit`.
fn add_below(all: &AtomicU32, own: &AtomicU32, limit: u32) -> bool {
    let added = all.fetch_update(Relaxed, Relaxed, |number| (number < limit).then(|| number + 1)).is_ok();
    if added {
        own.fetch_add(1, Relaxed);
    }
    added
}

/// Subtracts one while there are more than `limit`, of those that are this process's.
fn subtract_above(all: &AtomicU32, own: &AtomicU32, limit: u32) -> bool {
    let mine = own.fetch_update(Relaxed, Relaxed, |number| number.checked_sub(1)).is_ok();
    let gone = mine && all.fetch_update(Relaxed, Relaxed, |n| (n > limit).then(|| n - 1)).is_ok();
    if mine && !gone {
        own.fetch_add(1, Relaxed);
    }
    gone
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is written to a variable; the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Threads that reports may use together. The system gives each thread that runs as much of the processors as any other, so that their share
/// of the threads is their share of the time.
fn left_for_reports() -> u32 {
    let (board, limit, share) = (board(), LIMIT.load(Relaxed), SHARE.load(Relaxed));
    let wanted = match board.wanted.load(Relaxed) {
        0 if now().saturating_sub(board.ended.load(Relaxed)) < QUIET_MILLISECONDS => limit,
        wanted => wanted,
    };
    let own = (board.interactive.load(Relaxed) * share).div_ceil(100 - share);
    limit.saturating_sub(wanted).max(own).max(1)
}

/// Whether the running execution has to ask for a turn, or to ask again.
pub fn must_wait() -> bool {
    if !IS_REPORT.load(Relaxed) {
        return false;
    }
    let Some(since) = TURN_SINCE.get() else { return true };
    let over = board().waiting.load(Relaxed) > 0 && since.elapsed() > TURN;
    let lost = subtract_above(&board().reporting, &REPORTING, if over { 0 } else { left_for_reports() });
    if lost {
        TURN_SINCE.set(None);
    }
    lost
}

/// Waits until the report has a turn. `Canceled`: the query is to end. Raises nothing but what other interrupts raise.
pub fn wait_for_turn() -> engine::Result<()> {
    /// Who is next looks often.
    const NEXT: i64 = 2;
    const LATER: i64 = 10;
    PAUSED.store(true, Relaxed);
    let board = board();
    // Those behind the queue wait as well, without an order.
    let ticket = board.tickets.fetch_add(1, Relaxed) + 1;
    let free = |place: &AtomicU64| place.compare_exchange(0, ticket, Relaxed, Relaxed).is_ok();
    PLACE.set(board.queue.0.iter().position(free));
    if PLACE.get().is_some() {
        board.waiting.fetch_add(1, Relaxed);
    }
    loop {
        let tickets = || board.queue.0.iter().map(|place| place.load(Relaxed));
        let next = PLACE.get().is_none() || !tickets().any(|other| other != 0 && other < ticket);
        if next && add_below(&board.reporting, &REPORTING, left_for_reports()) {
            leave_queue();
            TURN_SINCE.set(Some(Instant::now()));
            PAUSED.store(false, Relaxed);
            return Ok(());
        }
        let ended = interrupts::wait(if next { NEXT } else { LATER });
        if ended || interrupts::stop_requested() {
            leave_queue();
            return Err(engine::Error::Canceled);
        }
        if interrupts::other_pending() {
            interrupts::check();
        }
    }
}

/// For work of PostgreSQL's within an execution, while no engine thread runs: raises interrupts, and waits where a report has to. `Canceled`:
/// the postmaster is gone.
pub fn pace() -> engine::Result<()> {
    interrupts::check();
    if must_wait() && wait_for_turn().is_err() {
        interrupts::check();
        return Err(engine::Error::Canceled);
    }
    Ok(())
}

fn leave_queue() {
    if let Some(place) = PLACE.take() {
        board().queue.0[place].store(0, Relaxed);
        board().waiting.fetch_sub(1, Relaxed);
    }
}

/// The threads that an execution of this process uses besides its first.
pub struct Pool;

impl ThreadPool for Pool {
    fn take(&self) -> bool {
        let board = board();
        if IS_REPORT.load(Relaxed) {
            !PAUSED.load(Relaxed)
                && board.waiting.load(Relaxed) == 0
                && add_below(&board.reporting, &REPORTING, left_for_reports())
        } else {
            add_below(&board.interactive, &INTERACTIVE, LIMIT.load(Relaxed))
        }
    }

    fn give(&self) {
        let (all, own) = if IS_REPORT.load(Relaxed) {
            (&board().reporting, &REPORTING)
        } else {
            (&board().interactive, &INTERACTIVE)
        };
        subtract_above(all, own, 0);
    }

    fn is_short(&self) -> bool {
        let board = board();
        if IS_REPORT.load(Relaxed) {
            PAUSED.load(Relaxed)
                || board.waiting.load(Relaxed) > 0
                || board.reporting.load(Relaxed) > left_for_reports()
        } else {
            board.interactive.load(Relaxed) > LIMIT.load(Relaxed)
        }
    }

    fn is_paused(&self) -> bool {
        PAUSED.load(Relaxed)
    }
}

/// Threads that may be used, those of interactive and of reporting executions, and reports that wait for a turn. `None`: nothing is counted.
pub fn counts() -> Option<[u32; 4]> {
    if !workers::is_preloaded() {
        return None;
    }
    let board = board();
    Some([
        LIMIT.load(Relaxed),
        board.interactive.load(Relaxed),
        board.reporting.load(Relaxed),
        board.waiting.load(Relaxed),
    ])
}
