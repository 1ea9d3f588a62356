//! COPY FROM while it runs: its state, as commands/copyfrom_internal.h declares it, and the count of its rows.
//!
//! PostgreSQL 15 hands a foreign table one row of a COPY after another. The text behind the row that it read last is in the state's buffer,
//! in the server's encoding and checked: who takes whole lines from there, and moves the state on, leaves everything else (files, programs
//! and the protocol, privileges, encodings, ends of the data, errors and where they are) to PostgreSQL.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

use basalt_engine::delimited::{Dialect, Format};
use pgrx::pg_sys;

use super::list;

/// `CopyFromStateData`.
#[repr(C)]
struct State {
    copy_src: c_int,
    copy_file: *mut c_void,
    fe_msgbuf: pg_sys::StringInfo,
    eol_type: c_int,
    file_encoding: c_int,
    need_transcoding: bool,
    conversion_proc: pg_sys::Oid,
    rel: pg_sys::Relation,
    attnumlist: *mut pg_sys::List,
    filename: *mut c_char,
    is_program: bool,
    data_source_cb: *mut c_void,
    opts: pg_sys::CopyFormatOptions,
    convert_select_flags: *mut bool,
    where_clause: *mut pg_sys::Node,
    cur_relname: *const c_char,
    cur_lineno: u64,
    cur_attname: *const c_char,
    cur_attval: *const c_char,
    copycontext: pg_sys::MemoryContext,
    num_defaults: pg_sys::AttrNumber,
    in_functions: *mut pg_sys::FmgrInfo,
    typioparams: *mut pg_sys::Oid,
    defmap: *mut c_int,
    defexprs: *mut *mut pg_sys::ExprState,
    volatile_defexprs: bool,
    range_table: *mut pg_sys::List,
    qualexpr: *mut pg_sys::ExprState,
    transition_capture: *mut c_void,
    attribute_buf: pg_sys::StringInfoData,
    max_fields: c_int,
    raw_fields: *mut *mut c_char,
    line_buf: pg_sys::StringInfoData,
    line_buf_valid: bool,
    input_buf: *mut c_char,
    input_buf_index: c_int,
    input_buf_len: c_int,
    input_reached_eof: bool,
    input_reached_error: bool,
    raw_buf: *mut c_char,
    raw_buf_index: c_int,
    raw_buf_len: c_int,
    raw_reached_eof: bool,
    bytes_processed: u64,
}

/// `INPUT_BUF_SIZE`.
const BUFFER: c_int = 65_536;
/// `EOL_NL` and `EOL_CRNL` of `EolType`.
const ENDS: [c_int; 2] = [1, 3];

unsafe extern "C-unwind" {
    // The server's own addresses: those of the bindings are functions that guard against its errors.
    #[link_name = "CopyFromErrorCallback"]
    fn error_callback(state: *mut c_void);
    #[link_name = "standard_ProcessUtility"]
    fn standard_utility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// A COPY that is handing over a row.
pub struct CopyFrom(*mut State);

impl CopyFrom {
    /// The COPY into `relation` that is under way; `None`: there is none, or its state is not as expected.
    ///
    /// # Safety
    /// Called while a row of `relation`, which is open, is inserted. The result is used only while rows of the same COPY are.
    pub unsafe fn of(relation: pg_sys::Relation) -> Option<CopyFrom> {
        // SAFETY: the top of the error context stack is valid; COPY's callback has its state as argument. Of the state's fields, those that
        // say whether it is laid out as declared are compared before any of the others is used.
        unsafe {
            let top = pg_sys::error_context_stack;
            if top.is_null() || (*top).callback.map(|f| f as usize) != Some(error_callback as *const () as usize) {
                return None;
            }
            let state = (*top).arg.cast::<State>();
            let name = (&raw const (*(*relation).rd_rel).relname.data).cast();
            let known = (*state).rel == relation
                && std::ptr::eq((*state).cur_relname, name)
                && (0..=(*state).input_buf_len).contains(&(*state).input_buf_index)
                && (*state).input_buf_len <= BUFFER
                && ((*state).need_transcoding || (*state).input_buf == (*state).raw_buf)
                && !(*state).input_buf.is_null();
            known.then_some(CopyFrom(state))
        }
    }

    /// How the text is written; `None`: it isn't, or there are options that a [`Dialect`] does not have.
    pub fn dialect(&self) -> Option<Dialect> {
        // SAFETY: the state is valid by the contract of `of`; the options' strings are C strings, of one byte where one is used.
        unsafe {
            let State { opts, eol_type, where_clause, convert_select_flags, .. } = &*self.0;
            let plain = !opts.binary
                && where_clause.is_null()
                && convert_select_flags.is_null()
                && opts.force_null.is_null()
                && opts.force_notnull.is_null();
            if !plain || !ENDS.contains(eol_type) {
                return None;
            }
            let format = if opts.csv_mode {
                Format::Csv { quote: *opts.quote as u8, escape: *opts.escape as u8 }
            } else {
                Format::Text
            };
            let null = std::slice::from_raw_parts(opts.null_print.cast::<u8>(), opts.null_print_len as usize);
            let carriage_return = *eol_type == ENDS[1];
            Some(Dialect { format, delimiter: *opts.delim as u8, null: null.to_vec(), carriage_return })
        }
    }

    /// The attribute numbers that a line gives, in its order.
    pub fn attributes(&self) -> Vec<i32> {
        // SAFETY: an integer list of the state.
        unsafe { list::integers((*self.0).attnumlist) }
    }

    /// Whether a default of another column may have another value in each row.
    pub fn has_volatile_defaults(&self) -> bool {
        // SAFETY: the state has as many default expressions as it says.
        unsafe {
            (0..(*self.0).num_defaults as usize)
                .any(|i| pg_sys::contain_volatile_functions((*(*(*self.0).defexprs.add(i))).expr.cast()))
        }
    }

    /// The text behind the line that was read last, as far as it is there.
    pub fn input(&self) -> &[u8] {
        // SAFETY: the buffer holds that many bytes, and stays as it is until PostgreSQL reads the next line.
        unsafe {
            let State { input_buf, input_buf_index, input_buf_len, .. } = &*self.0;
            let length = (input_buf_len - input_buf_index).max(0) as usize;
            std::slice::from_raw_parts(input_buf.add(*input_buf_index as usize).cast(), length)
        }
    }

    /// PostgreSQL goes on behind so many bytes of the input, which are so many lines.
    pub fn advance(&mut self, bytes: usize, lines: u64) {
        // SAFETY: the state is valid; the bytes are part of its input.
        unsafe {
            (*self.0).input_buf_index += bytes as c_int;
            (*self.0).cur_lineno += lines;
            // Errors from here on are not about the line that PostgreSQL read.
            (*self.0).line_buf_valid = false;
        }
    }

    /// Shows the number of rows in `pg_stat_progress_copy`.
    pub fn report(&self, rows: u64) {
        // SAFETY: a plain call.
        unsafe { pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_TUPLES_PROCESSED as i32, rows as i64) }
    }
}

thread_local! {
    static PREVIOUS: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    /// Rows of the COPY that ended last, beyond those that PostgreSQL counted.
    static UNCOUNTED: Cell<u64> = const { Cell::new(0) };
}

/// The COPY that is ending took so many rows of which PostgreSQL was told that nothing was inserted; they become part of its result.
pub fn add_to_count(rows: u64) {
    UNCOUNTED.set(rows);
}

/// Installs the hook that completes the counts; once a process.
pub fn register() {
    // SAFETY: hooks are set while the library is loaded, by the only thread there is.
    unsafe {
        PREVIOUS.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

/// Without a guard, which would take the context and the place in the statement away from every error of every command: an error passes over
/// this frame, which has nothing to drop.
#[allow(clippy::too_many_arguments)] // The hook's.
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server's own arguments are passed on; a utility statement is a node. `UNCOUNTED` belongs to the COPY that ends last, and a
    // COPY within another one ends before it.
    unsafe {
        let is_copy = (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_CopyStmt;
        if is_copy {
            UNCOUNTED.set(0);
        }
        let next = PREVIOUS.get().unwrap_or(standard_utility);
        next(statement, text, read_only_tree, context, parameters, environment, destination, completion);
        if is_copy && !completion.is_null() && (*completion).commandTag == pg_sys::CommandTag::CMDTAG_COPY {
            (*completion).nprocessed += UNCOUNTED.take();
        }
    }
}
