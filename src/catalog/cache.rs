//! The segment cache: local files that queries map, recreated from the catalog when they are missing.
//!
//! `<basalt.cache_directory>/<database oid>/<boot id>/<segment id>-<checksum>.segment`. Files are written under a
//! temporary name, renamed, and never truncated or rewritten. Nothing is synced to disk: after a crash of the operating
//! system (another boot id) a file is verified before it is used again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use basalt_engine::segment::{Segment, SegmentBytes};

use super::segment::{SegmentEntry, SegmentKind};
use super::{derived, eviction, pending, tables};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::lru::Lru;
use crate::pg::scan::{IndexScan, Under};
use crate::pg::values::with_varlena;
use crate::pg::{callbacks, interrupts, session, uuid_text};

/// A segment that this session has mapped.
struct Mapped {
    checksum: u32,
    bytes: u64,
    segment: Arc<Segment>,
    /// Where the file is, and when its use was noted last.
    path: PathBuf,
    noted: Instant,
}

impl Mapped {
    fn take(&mut self) -> Arc<Segment> {
        if self.noted.elapsed() > eviction::GRAIN {
            self.noted = Instant::now();
            if let Ok(file) = File::open(&self.path) {
                eviction::note_use(&file);
            }
        }
        self.segment.clone()
    }
}

thread_local! {
    /// By segment id; kept between queries.
    static OPEN: RefCell<Lru<[u8; 16], Mapped>> = RefCell::new(Lru::new());
}

/// Maps a segment that the active snapshot sees, recreating its file first if it is missing or damaged. Errors: `Corrupt`
/// if the catalog's own bytes are not what they were, and errors of the file system.
pub fn open(entry: &SegmentEntry) -> Result<Arc<Segment>> {
    if let Some(known) = OPEN.with_borrow_mut(|open| open.get_mut(&entry.id).map(Mapped::take)) {
        return Ok(known);
    }
    let path = current_directory().join(file_name(&entry.id, entry.checksum));
    let segment = match pending::bytes_of(&entry.id) {
        Some(bytes) => Segment::open(bytes)?,
        None => open_file(entry, &path)?,
    };
    let segment = Arc::new(segment);
    let limit = usize::try_from(guc::MAX_OPEN_SEGMENTS.get()).unwrap_or(16);
    OPEN.with_borrow_mut(|open| {
        let (checksum, bytes) = (entry.checksum, entry.bytes);
        let mapped = Mapped { checksum, bytes, segment: segment.clone(), path, noted: Instant::now() };
        open.insert(entry.id, mapped, limit);
        if let Some(limit) = guc::cache_limit() {
            // What is mapped takes disk space even after its file was evicted.
            let mut total: u64 = open.iter().map(|(_, m)| m.bytes).sum();
            while total > limit {
                total -= open.pop().map_or(total, |m| m.bytes);
            }
        }
    });
    Ok(segment)
}

/// Divides segments into runs that one query has mapped at the same time.
pub fn waves(segments: &[SegmentEntry]) -> impl Iterator<Item = &[SegmentEntry]> {
    /// Segments mapped and scanned at a time.
    const WAVE: usize = 256;
    let most = guc::cache_limit().map_or(u64::MAX, |limit| limit / 2);
    let mut rest = segments;
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let fitting = rest.iter().take(WAVE).take_while(|entry| {
            bytes += entry.bytes;
            bytes <= most
        });
        let count = fitting.count().max(1).min(rest.len());
        let (wave, others) = rest.split_at(count);
        rest = others;
        (!wave.is_empty()).then_some(wave)
    })
}

/// Unmaps a segment as soon as no query uses it.
pub fn forget(id: &[u8; 16]) {
    OPEN.with_borrow_mut(|open| open.remove(id));
}

fn open_file(entry: &SegmentEntry, path: &Path) -> Result<Segment> {
    interrupts::check();
    if let Ok(segment) = map(path, entry.bytes).and_then(|bytes| Ok(Segment::open(bytes)?)) {
        return Ok(segment);
    }
    // Missing, of another length, or damaged: whatever it is, the home has the bytes.
    Ok(Segment::open(recreate(entry, &directory()?)?)?)
}

/// After damage was found in a segment: verifies those that this session has mapped, and removes the files of damaged
/// ones, so that the next query makes them again from their home.
pub fn drop_damaged() {
    let Ok(directory) = directory() else { return };
    let open: Vec<_> =
        OPEN.with_borrow(|open| open.iter().map(|(id, m)| (*id, m.checksum, m.segment.clone())).collect());
    for (id, checksum, segment) in open {
        if interrupts::stop_requested() {
            return;
        }
        if segment.verify().is_err() {
            let _ = fs::remove_file(directory.join(file_name(&id, checksum)));
            forget(&id);
        }
    }
}

/// Brings the file of a segment back and maps it.
fn recreate(entry: &SegmentEntry, directory: &Path) -> Result<SegmentBytes> {
    if adopt_from_earlier_boot(entry, directory) {
        return map(&directory.join(file_name(&entry.id, entry.checksum)), entry.bytes);
    }
    let mut file = NewFile::create(directory)?;
    match entry.kind {
        SegmentKind::Derived => derived::rebuild(entry, &mut file)?,
        SegmentKind::Fresh | SegmentKind::Final => copy_from_catalog(&entry.id, &mut file)?,
    }
    let written = file.finish()?;
    if written.length != entry.bytes || written.checksum != entry.checksum {
        return Err(Error::from(basalt_engine::Error::corrupt(format!("segment {}", uuid_text(&entry.id)))).detail(
            format!(
                "Recreated {} bytes with checksum {:08x}; the catalog says {} bytes with checksum {:08x}.",
                written.length, written.checksum, entry.bytes, entry.checksum
            ),
        ));
    }
    written.persist(&entry.id)?;
    // Not mapped by its name again: a sweep may have removed the file of a retired segment meanwhile.
    Ok(written.bytes.clone())
}

/// Reads the chunks of `basalt.segment_data` in order.
fn copy_from_catalog(id: &[u8; 16], out: &mut NewFile) -> Result<()> {
    // The active snapshot does not see what this very command wrote.
    if copy_chunks(id, out, Under::Active)? || copy_chunks(id, out, Under::Own)? {
        return Ok(());
    }
    Err(basalt_engine::Error::corrupt(format!("no bytes of segment {} in the catalog", uuid_text(id))).into())
}

/// Whether there was a chunk.
fn copy_chunks(id: &[u8; 16], out: &mut NewFile, under: Under) -> Result<bool> {
    let (table, index) = (tables::relation(c"segment_data"), tables::relation(c"segment_data_pkey"));
    let mut scan = IndexScan::by_uuid(table, index, id, under);
    let mut expected = 0;
    while scan.advance() {
        interrupts::check();
        let (Some(chunk), Some(bytes)) = (scan.get(2), scan.get(3)) else { break };
        if chunk.value() as i32 != expected {
            break;
        }
        expected += 1;
        with_varlena(bytes, |bytes| out.write_all(bytes)).map_err(|e| Error::io(&e, "write a segment file"))?;
    }
    scan.end();
    Ok(expected > 0)
}

/// After a reboot: takes the file over if it has the right contents. False if there is none.
fn adopt_from_earlier_boot(entry: &SegmentEntry, directory: &Path) -> bool {
    let name = file_name(&entry.id, entry.checksum);
    let Some(database) = directory.parent() else { return false };
    let Ok(boots) = fs::read_dir(database) else { return false };
    for boot in boots.flatten() {
        let path = boot.path().join(&name);
        if boot.path() == directory || !path.is_file() {
            continue;
        }
        match checksum_of(&path) {
            Ok((length, checksum)) if length == entry.bytes && checksum == entry.checksum => {
                if fs::rename(&path, directory.join(&name)).is_ok() {
                    return true;
                }
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
    false
}

fn checksum_of(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (mut length, mut checksum) = (0u64, 0u32);
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, checksum));
        }
        length += read as u64;
        checksum = crc32c::crc32c_append(checksum, &buffer[..read]);
    }
}

fn map(path: &Path, length: u64) -> Result<SegmentBytes> {
    let file = File::open(path).map_err(|e| Error::io(&e, format_args!("open segment file \"{}\"", path.display())))?;
    eviction::note_use(&file);
    Ok(SegmentBytes::map(&file, length)?)
}

pub fn file_name(id: &[u8; 16], checksum: u32) -> String {
    format!("{}-{checksum:08x}.{SEGMENT}", uuid_text(id))
}

/// Directory of every database's files.
pub fn root() -> PathBuf {
    let configured = guc::CACHE_DIRECTORY.get();
    let configured = configured.as_ref().and_then(|c| c.to_str().ok()).filter(|c| !c.is_empty());
    let configured = Path::new(configured.unwrap_or("pgsql_tmp_basalt"));
    if configured.is_absolute() {
        return configured.to_owned();
    }
    session::data_directory().join(configured)
}

/// Directory of this database's files.
pub fn database_directory() -> PathBuf {
    root().join(u32::from(session::database()).to_string())
}

/// Directory of this database's files under this boot of the operating system, which may be missing.
fn current_directory() -> PathBuf {
    database_directory().join(boot_id())
}

/// The same; made if it is missing.
pub fn directory() -> Result<PathBuf> {
    let directory = current_directory();
    if !directory.is_dir() {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|e| Error::io(&e, format_args!("create the segment cache \"{}\"", directory.display())))?;
    }
    Ok(directory)
}

/// Directories in a directory; none if it can't be read.
pub fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir() && !p.is_symlink()).collect()
}

/// Files in a directory; none if it can't be read.
pub fn files(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_file()).collect()
}

fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id: String = id.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        if id.is_empty() { "unknown".to_owned() } else { id }
    })
}

/// A segment file in the making, under a temporary name; removed unless persisted. Usable from any thread.
pub struct NewFile {
    directory: PathBuf,
    path: PathBuf,
    out: BufWriter<File>,
    length: u64,
    checksum: u32,
    keep: bool,
}

/// Name extension of complete files.
pub const SEGMENT: &str = "segment";
/// Name extension of files in the making.
pub const TEMPORARY: &str = "tmp";

/// Temporary files of this process. A FATAL error drops no [`NewFile`].
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn remove_unfinished(path: &Path) {
    let _ = fs::remove_file(path);
    unfinished().remove(path);
}

fn remove_all_unfinished() {
    for path in std::mem::take(&mut *unfinished()) {
        let _ = fs::remove_file(path);
    }
}

impl NewFile {
    /// `directory` is [`directory`]'s. Called on the main thread. Errors: `disk_full` if too little would be left free.
    pub fn create(directory: &Path) -> Result<Self> {
        eviction::check_reserve(directory)?;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{}-{number}.{TEMPORARY}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|e| Error::io(&e, format_args!("create segment file \"{}\"", path.display())))?;
        callbacks::at_exit(remove_all_unfinished);
        unfinished().insert(path.clone());
        Ok(NewFile {
            directory: directory.to_owned(),
            path,
            out: BufWriter::with_capacity(1 << 18, file),
            length: 0,
            checksum: 0,
            keep: false,
        })
    }

    /// Ends writing and maps the file.
    pub fn finish(mut self) -> Result<WrittenFile> {
        self.out.flush().map_err(|e| Error::io(&e, format_args!("write segment file \"{}\"", self.path.display())))?;
        let bytes = SegmentBytes::map(self.out.get_ref(), self.length)?;
        eviction::note_written(self.length);
        self.keep = true;
        Ok(WrittenFile {
            directory: self.directory.clone(),
            path: self.path.clone(),
            length: self.length,
            checksum: self.checksum,
            bytes,
        })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.length += written as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.keep {
            remove_unfinished(&self.path);
        }
    }
}

/// A complete segment file, still under its temporary name unless persisted.
pub struct WrittenFile {
    directory: PathBuf,
    path: PathBuf,
    pub length: u64,
    /// CRC32C of all bytes.
    pub checksum: u32,
    pub bytes: SegmentBytes,
}

impl WrittenFile {
    /// Gives the file its final name. The segment's row is inserted before, so that the sweeper never takes the file for
    /// an orphan.
    pub fn persist(&self, id: &[u8; 16]) -> Result<()> {
        let to = self.directory.join(file_name(id, self.checksum));
        match fs::rename(&self.path, &to) {
            Ok(()) => Ok(()),
            // Persisted before, or swept: the catalog has the bytes.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(&e, format_args!("rename segment file to \"{}\"", to.display()))),
        }
    }
}

impl Drop for WrittenFile {
    fn drop(&mut self) {
        // Gone already if it was persisted.
        remove_unfinished(&self.path);
    }
}
