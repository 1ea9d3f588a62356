//! Settings.

use std::ffi::CString;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// Whose threads give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum QueryClass {
    #[name = c"interactive"]
    Interactive,
    #[name = c"reporting"]
    Reporting,
}

pub static CACHE_DIRECTORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"pgsql_tmp_basalt"));
pub static CACHE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(-1);
pub static CACHE_RESERVE: GucSetting<i32> = GucSetting::<i32>::new(1024);
pub static MAX_THREADS: GucSetting<i32> = GucSetting::<i32>::new(2);
pub static MAX_TOTAL_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static REPORTING_SHARE: GucSetting<i32> = GucSetting::<i32>::new(25);
pub static QUERY_CLASS: GucSetting<QueryClass> = GucSetting::<QueryClass>::new(QueryClass::Interactive);
pub static QUERY_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(1 << 20);
pub static INSERT_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(256 << 10);
pub static REQUIRE_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(false);
pub static PUBLISH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(100);
pub static SEGMENT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(24 * 60 * 60);
pub static MAINTENANCE: GucSetting<bool> = GucSetting::<bool>::new(true);
pub static HANDOFF_DELAY: GucSetting<i32> = GucSetting::<i32>::new(15 * 60);
pub static MAX_OPEN_SEGMENTS: GucSetting<i32> = GucSetting::<i32>::new(4096);

/// `preloading`: the postmaster loads the library.
pub fn define(preloading: bool) {
    if preloading {
        GucRegistry::define_int_guc(
            c"basalt.max_total_threads",
            c"Threads that the queries of all sessions scan segments with.",
            c"Every interactive query has one of its own besides. 0: as many as there are processors.",
            &MAX_TOTAL_THREADS,
            0,
            1024,
            GucContext::Postmaster,
            GucFlags::default(),
        );
    }
    GucRegistry::define_int_guc(
        c"basalt.reporting_share",
        c"Percent of the threads that scan which reports have for certain, however many interactive queries run.",
        c"At least one thread. What interactive queries leave over is theirs besides.",
        &REPORTING_SHARE,
        0,
        90,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"basalt.query_class",
        c"Whether queries are interactive or reports, which give way to interactive ones.",
        c"Reports share the threads that interactive queries leave over, and those of basalt.reporting_share, in turns. Needs basalt in shared_preload_libraries.",
        &QUERY_CLASS,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"basalt.cache_directory",
        c"Directory of the local segment files.",
        c"Relative to the data directory. Every file in it can be removed at any time and is recreated when needed.",
        &CACHE_DIRECTORY,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"basalt.cache_limit",
        c"Size of the segment cache of all databases.",
        c"Beyond it, files that were not used for longest are removed. -1: no limit.",
        &CACHE_LIMIT,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"basalt.cache_reserve",
        c"Disk space that the segment cache leaves free.",
        c"Where less is free, cached files are removed, and nothing is written if that does not help.",
        &CACHE_RESERVE,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"basalt.max_threads",
        c"Threads that one query scans segments with, at most.",
        c"Those besides the first are subject to basalt.max_total_threads.",
        &MAX_THREADS,
        1,
        256,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"basalt.query_memory_limit",
        c"Memory that one scan or aggregation may use.",
        c"Groups that need more go to temporary files; what else needs more ends with an error.",
        &QUERY_MEMORY_LIMIT,
        1024,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"basalt.insert_memory_limit",
        c"Memory for rows that a transaction has inserted but not yet written as a segment.",
        c"A table's rows beyond it become a segment before the transaction ends.",
        &INSERT_MEMORY_LIMIT,
        1024,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_bool_guc(
        c"basalt.require_pushdown",
        c"Makes an aggregate over a datasource that is not pushed down an error.",
        c"Meant for tests.",
        &REQUIRE_PUSHDOWN,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"basalt.publish_interval",
        c"Least time from the beginning of one publish of an ingestion to that of the next.",
        c"",
        &PUBLISH_INTERVAL,
        1,
        60 * 60 * 1000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"basalt.segment_retention",
        c"How long replaced segments stay, so that an earlier version can be restored.",
        c"",
        &SEGMENT_RETENTION,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"basalt.maintenance",
        c"Whether the maintenance worker merges, hands off and sweeps by itself.",
        c"",
        &MAINTENANCE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"basalt.handoff_delay",
        c"How long after its end an interval is closed, and how long rows of a closed one wait to be handed off.",
        c"",
        &HANDOFF_DELAY,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"basalt.max_open_segments",
        c"Segments that one session keeps mapped between queries.",
        c"",
        &MAX_OPEN_SEGMENTS,
        16,
        60_000,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Bytes one query may use.
pub fn query_memory_limit() -> usize {
    kilobytes(QUERY_MEMORY_LIMIT.get())
}

/// Bytes of pending rows that make a table's rows a segment early.
pub fn insert_memory_limit() -> usize {
    kilobytes(INSERT_MEMORY_LIMIT.get())
}

/// Bytes of the segment cache; `None`: unlimited.
pub fn cache_limit() -> Option<u64> {
    u64::try_from(CACHE_LIMIT.get()).ok().map(|megabytes| megabytes << 20)
}

/// Bytes of disk space that the segment cache leaves free.
pub fn cache_reserve() -> u64 {
    u64::try_from(CACHE_RESERVE.get()).unwrap_or(0) << 20
}

fn kilobytes(setting: i32) -> usize {
    usize::try_from(setting).unwrap_or(0) << 10
}
