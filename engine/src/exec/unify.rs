//! One numbering of a dictionary column's values through several segments, so that their rows are grouped alike. Dictionaries are sorted:
//! they are merged by order, and no value is hashed; large ones by several threads, each of which merges the values of a range.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::columns::SegmentColumn;
use super::merge::{Source, merge};
use super::values::BytesMap;
use super::{ExecOptions, panic_message};
use crate::plan::{Host, ThreadPool};
use crate::{Budget, Error, Reservation, Result};

/// The values of several dictionaries, in byte order.
pub(super) struct Unified {
    /// Ranges of values, one after the other, and the number of the first value of each.
    parts: Vec<(u32, BytesMap)>,
    len: usize,
}

/// A segment's codes as numbers of a [`Unified`]; behind the last one stands NULL's, the number of values.
pub(super) struct CodeMap {
    pub numbers: Vec<u32>,
    _memory: Reservation,
}

impl Unified {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, number: u32) -> &[u8] {
        let part = self.parts.partition_point(|(first, _)| *first <= number).max(1) - 1;
        let (first, values) = &self.parts[part];
        values.get(number - first)
    }
}

/// Values of all dictionaries that are worth a thread.
const PART: usize = 1 << 16;
/// Parts a thread: it may leave after each of them.
const PARTS: usize = 4;
/// Values of a dictionary in a part at least, on average: to find where a part begins takes some look-ups in each.
const FEWEST: usize = 256;
/// Values of each dictionary that tell where the others lie.
const SAMPLES: u32 = 16;
/// How often the calling thread looks around while it waits.
const STAND: Duration = Duration::from_millis(1);

/// A thread's place in the host's pool, given back at its end.
struct Place(Option<Arc<dyn ThreadPool>>);

impl Place {
    /// `None`: there is none.
    fn take(pool: &Option<Arc<dyn ThreadPool>>) -> Option<Place> {
        pool.as_ref().is_none_or(|pool| pool.take()).then(|| Place(pool.clone()))
    }

    /// Whether others need it.
    fn is_wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|pool| pool.is_short() || pool.is_paused())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            pool.give();
        }
    }
}

/// Sets the flag at the end, whatever that is.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Merges the dictionaries of one column, whose kind is `Codes` in all. Errors: `Budget`, `Corrupt`, and what the host says.
pub(super) fn unify(
    columns: &[&SegmentColumn<'_>],
    options: &ExecOptions,
    host: &mut dyn Host,
) -> Result<(Unified, Vec<CodeMap>)> {
    let (mut maps, mut all) = (Vec::with_capacity(columns.len()), 0);
    for column in columns {
        let len = column.dictionary_len()? as usize;
        let held = options.budget.reserve((len + 1) * 4)?;
        maps.push(CodeMap { numbers: vec![0; len + 1], _memory: held });
        all += len;
    }
    let threads = options.threads.min(all / PART);
    let count = if threads > 1 { (threads * PARTS).min(all / (columns.len() * FEWEST)).max(1) } else { 1 };
    let bounds = bounds(columns, count, &options.budget, host)?;
    let mut parts: Vec<Vec<Source<'_, '_>>> = (0..count).map(|_| Vec::with_capacity(columns.len())).collect();
    for ((column, map), bounds) in columns.iter().zip(&mut maps).zip(&bounds) {
        let mut rest = map.numbers.as_mut_slice();
        for (part, pair) in parts.iter_mut().zip(bounds.windows(2)) {
            let (numbers, behind) = rest.split_at_mut((pair[1] - pair[0]) as usize);
            rest = behind;
            part.push(Source { column, codes: pair[0]..pair[1], numbers });
        }
    }
    let merged = merge_parts(parts, threads, options, host)?;
    let (mut parts, mut len) = (Vec::with_capacity(count), 0);
    for (nth, values) in merged.into_iter().enumerate() {
        let first = number(len)?;
        len += values.len();
        for (map, bounds) in maps.iter_mut().zip(&bounds).filter(|_| first > 0) {
            map.numbers[bounds[nth] as usize..bounds[nth + 1] as usize].iter_mut().for_each(|number| *number += first);
        }
        parts.push((first, values));
    }
    let null = number(len)?;
    for (map, bounds) in maps.iter_mut().zip(&bounds) {
        map.numbers[bounds[count] as usize] = null;
    }
    Ok((Unified { parts, len }, maps))
}

fn number(values: usize) -> Result<u32> {
    u32::try_from(values).map_err(|_| Error::OutOfRange { what: "number of values".into() })
}

/// Of each column the codes at which `parts` ranges of about equally many values begin and end.
fn bounds(columns: &[&SegmentColumn<'_>], parts: usize, budget: &Budget, host: &mut dyn Host) -> Result<Vec<Vec<u32>>> {
    let lens = columns.iter().map(|column| column.dictionary_len()).collect::<Result<Vec<_>>>()?;
    // Some values of each, and for how many others each stands.
    let mut samples: Vec<(Vec<u8>, f64)> = Vec::new();
    let mut memory = budget.reserve(0)?;
    if parts > 1 {
        for (column, len) in columns.iter().zip(&lens) {
            host.poll()?;
            let count = SAMPLES.min(*len);
            for nth in 0..count {
                let mut value = Vec::new();
                column.dictionary_get(
                    (u64::from(*len) * u64::from(2 * nth + 1) / u64::from(2 * count)) as u32,
                    &mut value,
                )?;
                memory.grow(value.capacity() + size_of::<(Vec<u8>, f64)>())?;
                samples.push((value, f64::from(*len) / f64::from(count)));
            }
        }
        samples.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let all: f64 = samples.iter().map(|sample| sample.1).sum();
    let mut bounds: Vec<Vec<u32>> = lens.iter().map(|_| vec![0]).collect();
    let (mut passed, mut at) = (0.0, samples.iter());
    for part in 1..parts {
        let reached = at.by_ref().find(|sample| {
            passed += sample.1;
            passed >= all * part as f64 / parts as f64
        });
        host.poll()?;
        for ((column, len), bounds) in columns.iter().zip(&lens).zip(&mut bounds) {
            let from = bounds[bounds.len() - 1];
            bounds.push(reached.map_or(Ok(*len), |(value, _)| first_from(column, from..*len, value))?);
        }
    }
    bounds.iter_mut().zip(lens).for_each(|(bounds, len)| bounds.push(len));
    Ok(bounds)
}

/// The first of these codes whose value is not less than `value`, or the end.
fn first_from(column: &SegmentColumn<'_>, codes: Range<u32>, value: &[u8]) -> Result<u32> {
    let (mut low, mut high) = (codes.start, codes.end);
    let mut found = Vec::new();
    while low < high {
        let middle = low + (high - low) / 2;
        found.clear();
        column.dictionary_get(middle, &mut found)?;
        if found.as_slice() < value {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Merges each of the parts on `threads` threads at most; the calling one is among them.
fn merge_parts(
    parts: Vec<Vec<Source<'_, '_>>>,
    threads: usize,
    options: &ExecOptions,
    host: &mut dyn Host,
) -> Result<Vec<BytesMap>> {
    let budget = &options.budget;
    let count = parts.len();
    // Whoever is free takes the next one.
    let parts = Mutex::new(parts.into_iter().enumerate());
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let stop = AtomicBool::new(false);
    let check = || if stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { budget.check() };
    // A thread that others wait for leaves after the part that it is at.
    let help = |place: Place| -> Result<Vec<(usize, BytesMap)>> {
        let mut merged = Vec::new();
        while !place.is_wanted()
            && let Some((nth, mut sources)) = next()
        {
            merged.push((nth, merge(&mut sources, budget, &mut || check())?));
        }
        Ok(merged)
    };
    let (help, stop) = (&help, &stop);
    let mut merged = thread::scope(|scope| {
        let ending = Stop(stop);
        let pool = host.pool();
        let wake = host.before_spawn();
        let mut started = Vec::new();
        for _ in 1..threads.min(count) {
            let Some(place) = Place::take(&pool) else { break };
            let work = move || {
                let result = catch_unwind(AssertUnwindSafe(|| help(place)))
                    .unwrap_or_else(|panic| Err(Error::Panic(panic_message(&*panic))));
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                result
            };
            // Without it there is more to do for the others.
            started.extend(thread::Builder::new().name("basalt merge".into()).spawn_scoped(scope, work));
        }
        drop(wake);
        let mut own = || -> Result<Vec<(usize, BytesMap)>> {
            let mut merged = Vec::new();
            let mut look = || host.poll().and_then(|()| check());
            while let Some((nth, mut sources)) = next() {
                merged.push((nth, merge(&mut sources, budget, &mut look)?));
            }
            while started.iter().any(|thread| !thread.is_finished()) {
                thread::sleep(STAND);
                look()?;
            }
            Ok(merged)
        };
        let mut all = vec![own()];
        drop(ending);
        all.extend(
            started
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| Err(Error::Panic(panic_message(&*panic))))),
        );
        // Those that were stopped don't tell why.
        let failed = all.iter().position(|part| matches!(part, Err(error) if !matches!(error, Error::Canceled)));
        all.swap(0, failed.unwrap_or(0));
        all.into_iter().collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    merged.sort_unstable_by_key(|part| part.0);
    Ok(merged.into_iter().map(|part| part.1).collect())
}
