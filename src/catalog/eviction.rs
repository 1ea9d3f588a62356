//! Keeps the segment cache within `basalt.cache_limit`, and `basalt.cache_reserve` of its file system free: files that were not used for
//! longest go first. Those that some session has mapped stay readable for it; all can be made again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use pgrx::PgSqlErrorCode;

use super::cache;
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::disk;

/// What this process believes to be in the cache. Other processes write, too: it is counted again now and then.
struct Known {
    bytes: u64,
    counted: Instant,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// For how long a count is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Use is noted no finer than this.
pub const GRAIN: Duration = Duration::from_secs(60);

/// A segment file of any database.
struct Cached {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

/// Before a file is written below `directory`. Errors: `disk_full`.
pub fn check_reserve(directory: &Path) -> Result<()> {
    let reserve = guc::cache_reserve();
    let free = || disk::free_bytes(directory).unwrap_or(u64::MAX);
    let before = free();
    if before >= reserve {
        return Ok(());
    }
    let mut wanted = reserve - before;
    for file in oldest_first() {
        if wanted == 0 {
            break;
        }
        if fs::remove_file(&file.path).is_ok() {
            wanted = wanted.saturating_sub(file.bytes);
        }
    }
    let after = free();
    if after >= reserve {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_DISK_FULL, "the segment cache would use the disk space that is kept free")
        .detail(format!(
            "{} MB are free at \"{}\"; basalt.cache_reserve is {} MB.",
            after >> 20,
            directory.display(),
            reserve >> 20
        ))
        .hint("Free disk space, move basalt.cache_directory to a larger disk, or lower basalt.cache_reserve."))
}

/// After a file of `bytes` was written, which has no name yet.
pub fn note_written(bytes: u64) {
    let Some(limit) = guc::cache_limit() else { return };
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(known) = known.as_mut().filter(|k| k.counted.elapsed() < BELIEVED) {
        known.bytes += bytes;
        if known.bytes <= limit {
            return;
        }
    }
    let files = oldest_first();
    let mut total = bytes + files.iter().map(|f| f.bytes).sum::<u64>();
    if total > limit {
        // Some more, so that not every file costs a count.
        let target = limit - limit / 10;
        for file in files {
            if total <= target {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                total -= file.bytes;
            }
        }
    }
    *known = Some(Known { bytes: total, counted: Instant::now() });
}

/// Notes that a file is used.
pub fn note_use(file: &File) {
    let now = SystemTime::now();
    let used = file.metadata().and_then(|m| m.modified());
    if used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > GRAIN)) {
        let _ = file.set_modified(now);
    }
}

fn oldest_first() -> Vec<Cached> {
    let mut files = Vec::new();
    for database in cache::directories(&cache::root()) {
        for boot in cache::directories(&database) {
            for path in cache::files(&boot) {
                if path.extension().is_some_and(|e| e == cache::SEGMENT)
                    && let Ok(metadata) = path.metadata()
                {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.push(Cached { used, bytes: metadata.len(), path });
                }
            }
        }
    }
    files.sort_by_key(|file| file.used);
    files
}
