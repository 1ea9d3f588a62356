//! Session settings that text forms depend on, fixed while values are converted (as pg_dump and postgres_fdw do).

use std::ffi::CStr;

use pgrx::pg_sys;

/// Sets a setting within the current GUC nest level.
pub(super) fn set(name: &'static CStr, value: &'static CStr) {
    // SAFETY: static C strings; an error is raised, as for SET.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Whether abbreviations of time zones are those of one of the sets that PostgreSQL ships.
pub fn has_usual_zone_abbreviations() -> bool {
    // SAFETY: static C strings; the result is a C string that stays until the setting changes, or null.
    let set = unsafe {
        let set = pg_sys::GetConfigOption(c"timezone_abbreviations".as_ptr(), true, false);
        if set.is_null() {
            return false;
        }
        CStr::from_ptr(set)
    };
    [c"Default", c"Australia", c"India"].contains(&set)
}

/// Until dropped, output functions write and input functions read the stored, session-independent text forms. Must not
/// live while the user's own expressions are evaluated.
pub struct FixedSettings(i32);

impl FixedSettings {
    pub fn new() -> Self {
        // SAFETY: the nest level is closed by Drop, or by transaction abort.
        let nest = unsafe { pg_sys::NewGUCNestLevel() };
        set(c"datestyle", c"ISO, YMD");
        set(c"intervalstyle", c"postgres");
        set(c"extra_float_digits", c"3");
        set(c"bytea_output", c"hex");
        set(c"timezone", c"UTC");
        set(c"lc_monetary", c"C");
        // Names of reg* values are qualified then.
        set(c"search_path", c"pg_catalog");
        FixedSettings(nest)
    }
}

impl Drop for FixedSettings {
    fn drop(&mut self) {
        // SAFETY: closes the level that `new` opened.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) }
    }
}
