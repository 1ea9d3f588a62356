//! SQL against the catalog, with plans kept for the session.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::pg_sys;

use super::owner::AsOwner;
use super::snapshot::Registered;
use crate::error::{Error, Result};

thread_local! {
    /// By the address of the static SQL text. Plans are PostgreSQL's, kept in its cache memory for the session.
    static PLANS: RefCell<HashMap<usize, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
}

/// One argument of a statement: its datum, or NULL.
pub type Argument = Option<pg_sys::Datum>;

/// A statement on the catalog. Executed as the extension's owner.
pub struct Statement {
    pub sql: &'static str,
    pub types: &'static [pg_sys::Oid],
}

/// Rows that a statement returned, while its SPI connection lives.
pub struct Rows {
    table: *mut pg_sys::SPITupleTable,
    pub processed: u64,
}

impl Rows {
    pub fn len(&self) -> usize {
        if self.table.is_null() {
            return 0;
        }
        // SAFETY: the tuple table lives as long as the SPI connection, within which `Rows` is lent out.
        unsafe { (*self.table).numvals as usize }
    }

    /// Column `column` (from 0) of row `row`: its datum, or `None` for NULL or out of bounds. By-reference datums live as
    /// long as the rows.
    pub fn get(&self, row: usize, column: usize) -> Option<pg_sys::Datum> {
        if row >= self.len() {
            return None;
        }
        let mut is_null = false;
        // SAFETY: `row` is in bounds; SPI_getbinval checks the column number.
        let datum = unsafe {
            let tuple = *(*self.table).vals.add(row);
            pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, column as i32 + 1, &mut is_null)
        };
        (!is_null).then_some(datum)
    }

    pub fn i64(&self, row: usize, column: usize) -> Option<i64> {
        self.get(row, column).map(|d| d.value() as i64)
    }

    pub fn i32(&self, row: usize, column: usize) -> Option<i32> {
        self.get(row, column).map(|d| d.value() as i32)
    }

    pub fn oid(&self, row: usize, column: usize) -> Option<pg_sys::Oid> {
        self.get(row, column).map(|d| pg_sys::Oid::from(d.value() as u32))
    }

    pub fn uuid(&self, row: usize, column: usize) -> Option<[u8; 16]> {
        // SAFETY: callers ask this of uuid columns; such a datum points to 16 bytes.
        self.get(row, column).map(|d| unsafe { *d.cast_mut_ptr::<[u8; 16]>() })
    }

    /// Contents of a text or bytea column.
    pub fn bytes(&self, row: usize, column: usize) -> Option<Vec<u8>> {
        self.get(row, column).map(|d| super::values::with_varlena(d, <[u8]>::to_vec))
    }

    pub fn text(&self, row: usize, column: usize) -> Option<String> {
        self.bytes(row, column).map(|b| String::from_utf8_lossy(&b).into_owned())
    }
}

/// Which snapshot a statement runs under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Transaction,
    Active,
    Latest,
}

impl Statement {
    /// Runs the statement with its arguments and lends its rows to `read`. Inside, PostgreSQL's errors are raised. A
    /// statement that writes counts as a command of the transaction and sees what the ones before it did.
    pub fn run<T>(&self, arguments: &[Argument], read: impl FnOnce(&Rows) -> T) -> T {
        self.run_under(Seen::Transaction, arguments, read)
    }

    /// As [`Statement::run`], for a statement that reads, under the active snapshot as it is: what a query's own segments
    /// are made of may be gone for newer ones.
    pub fn read<T>(&self, arguments: &[Argument], read: impl FnOnce(&Rows) -> T) -> T {
        self.run_under(Seen::Active, arguments, read)
    }

    /// As [`Statement::run`], with a snapshot that sees everything committed by now, whatever the isolation level: for
    /// what has to act on all that a table is, as DDL does.
    pub fn run_latest<T>(&self, arguments: &[Argument], read: impl FnOnce(&Rows) -> T) -> T {
        self.run_under(Seen::Latest, arguments, read)
    }

    fn run_under<T>(&self, seen: Seen, arguments: &[Argument], read: impl FnOnce(&Rows) -> T) -> T {
        debug_assert_eq!(arguments.len(), self.types.len());
        let _owner = AsOwner::new();
        let connection = Connection::open();
        let plan = self.plan();
        let mut values: Vec<pg_sys::Datum> =
            arguments.iter().map(|a| a.unwrap_or(pg_sys::Datum::from(0usize))).collect();
        let nulls: Vec<std::ffi::c_char> =
            arguments.iter().map(|a| if a.is_some() { b' ' } else { b'n' } as std::ffi::c_char).collect();
        // SAFETY: as many values and null flags as the plan has parameters, which is what it was prepared with.
        let rows = unsafe {
            // SPI copies the snapshot at once. Without one a reader takes the active snapshot, a writer the transaction's.
            let snapshot = if seen == Seen::Latest { pg_sys::GetLatestSnapshot() } else { std::ptr::null_mut() };
            let code = pg_sys::SPI_execute_snapshot(
                plan,
                values.as_mut_ptr(),
                nulls.as_ptr(),
                snapshot,
                std::ptr::null_mut(),
                seen == Seen::Active,
                true,
                0,
            );
            if code < 0 {
                internal("SPI_execute_snapshot", code).raise();
            }
            Rows { table: pg_sys::SPI_tuptable, processed: pg_sys::SPI_processed }
        };
        let result = read(&rows);
        connection.close();
        result
    }

    /// Runs the statement; how many rows it processed.
    pub fn execute(&self, arguments: &[Argument]) -> u64 {
        self.run(arguments, |rows| rows.processed)
    }

    /// [`Statement::run_latest`]; how many rows it processed.
    pub fn execute_latest(&self, arguments: &[Argument]) -> u64 {
        self.run_latest(arguments, |rows| rows.processed)
    }

    fn plan(&self) -> pg_sys::SPIPlanPtr {
        let key = self.sql.as_ptr() as usize;
        if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).copied()) {
            return plan;
        }
        let sql = CString::new(self.sql).unwrap_or_default();
        let mut types = self.types.to_vec();
        // SAFETY: inside an SPI connection; the kept plan lives in PostgreSQL's cache memory until the session ends.
        let plan = unsafe {
            let plan = pg_sys::SPI_prepare(sql.as_ptr(), types.len() as i32, types.as_mut_ptr());
            if plan.is_null() {
                internal("SPI_prepare", pg_sys::SPI_result).raise();
            }
            let code = pg_sys::SPI_keepplan(plan);
            if code != 0 {
                internal("SPI_keepplan", code).raise();
            }
            plan
        };
        PLANS.with_borrow_mut(|plans| plans.insert(key, plan));
        plan
    }
}

/// Runs SQL text once, as the current user if `as_owner` is false. For DDL and users' queries.
pub fn execute_text(sql: &str, as_owner: bool) {
    let _owner = as_owner.then(AsOwner::new);
    let connection = Connection::open();
    let text = CString::new(sql).unwrap_or_default();
    // SAFETY: inside an SPI connection.
    let code = unsafe { pg_sys::SPI_execute(text.as_ptr(), false, 0) };
    if code < 0 {
        internal("SPI_execute", code).raise();
    }
    connection.close();
}

/// Runs a statement of the user's, as the user, under `snapshot` (with the commands counted that the transaction ran
/// since). Returns the rows processed. Errors: more or less than one statement in the text.
pub fn execute_under(sql: &str, snapshot: &Registered) -> Result<u64> {
    let connection = Connection::open();
    let text = CString::new(sql)
        .map_err(|_| Error::new(pgrx::PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "NUL byte in the query"))?;
    // SAFETY: inside an SPI connection, which frees the plan; the snapshot is registered while the plan runs.
    let processed = unsafe {
        let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
        if plan.is_null() {
            internal("SPI_prepare", pg_sys::SPI_result).raise();
        }
        if (*pg_sys::SPI_plan_get_plan_sources(plan)).length != 1 {
            Error::new(pgrx::PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "the query must be a single statement").raise();
        }
        let code = pg_sys::SPI_execute_snapshot(
            plan,
            std::ptr::null_mut(),
            std::ptr::null(),
            snapshot.as_ptr(),
            std::ptr::null_mut(),
            false,
            true,
            0,
        );
        if code < 0 {
            internal("SPI_execute_snapshot", code).raise();
        }
        pg_sys::SPI_processed
    };
    connection.close();
    Ok(processed)
}

/// An SPI connection. When an error unwinds, PostgreSQL's abort processing closes it.
pub struct Connection(());

impl Connection {
    pub fn open() -> Self {
        // SAFETY: inside a transaction.
        let code = unsafe { pg_sys::SPI_connect() };
        if code != pg_sys::SPI_OK_CONNECT as i32 {
            internal("SPI_connect", code).raise();
        }
        Connection(())
    }

    /// Ends the connection: memory of its results is freed.
    pub fn close(self) {
        // SAFETY: the innermost open connection is this one.
        unsafe { pg_sys::SPI_finish() };
    }
}

fn internal(call: &str, code: i32) -> Error {
    Error::new(pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("{call} failed with code {code}"))
}

pub fn text(value: &str) -> Argument {
    Some(super::values::varlena_datum(value.as_bytes()))
}

/// The uuid must live until the statement has run.
pub fn uuid(value: &[u8; 16]) -> Argument {
    Some(pg_sys::Datum::from(value.as_ptr()))
}

/// A `uuid[]`.
pub fn uuid_array(values: &[[u8; 16]]) -> Argument {
    let mut elements: Vec<pg_sys::Datum> = values.iter().map(|v| pg_sys::Datum::from(v.as_ptr())).collect();
    // SAFETY: each datum points to a uuid (16 bytes, by reference, alignment char); the array copies them.
    let array = unsafe {
        pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::UUIDOID,
            16,
            false,
            pg_sys::TYPALIGN_CHAR as std::ffi::c_char,
        )
    };
    Some(pg_sys::Datum::from(array))
}
