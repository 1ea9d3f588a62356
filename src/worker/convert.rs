//! Values that only PostgreSQL's input functions can read.

use std::collections::HashMap;
use std::sync::Arc;

use basalt_background::ingest::Decoded;
use basalt_engine::types::Value;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::process::{Failure, subtransaction};
use crate::catalog::datasource::Datasource;
use crate::error::{Error, Result};
use crate::pg::memory::Scratch;
use crate::pg::settings::FixedSettings;
use crate::pg::values::{self, Codec};

/// Distinct texts remembered within one batch.
const REMEMBERED: usize = 100_000;

/// Reads the batch's host cells, within a transaction, as `owner`: a type's input function may run code of users. A value that is
/// refused makes its row a dead letter.
pub fn convert(decoded: Decoded, datasource: &Arc<Datasource>, owner: pg_sys::Oid) -> Result<Decoded> {
    let as_owner = AsRole::new(owner);
    let fixed = FixedSettings::new();
    let scratch = Scratch::new();
    let mut codecs: Vec<Codec> = datasource.types.iter().map(|(oid, typmod)| Codec::new(*oid, *typmod)).collect();
    let mut known: HashMap<(usize, Vec<u8>), std::result::Result<Vec<u8>, String>> = HashMap::new();
    let result = decoded.convert(|column, text| {
        if let Some(found) = known.get(&(column, text.to_vec())) {
            return found.clone();
        }
        let (type_oid, typmod) = datasource.types[column];
        let read = subtransaction(|| scratch.run(|| read(&mut codecs[column], type_oid, typmod, text)));
        let made = match read {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(error.to_string()),
            Err(failure) if is_users(&failure) => Err(failure.message),
            Err(failure) => Error::new(failure.code, failure.message).raise(),
        };
        if known.len() < REMEMBERED {
            known.insert((column, text.to_vec()), made.clone());
        }
        made
    });
    drop(fixed);
    drop(as_owner);
    Ok(result?)
}

fn read(codec: &mut Codec, type_oid: pg_sys::Oid, typmod: i32, text: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(text).map_err(|e| basalt_engine::Error::invalid(e.to_string()))?;
    let datum = values::input(type_oid, typmod, text)?;
    match codec.to_value(datum, false)? {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(basalt_engine::Error::invalid("a column that is not stored by its text form").into()),
    }
}

/// Whether the value is to blame, not the server (no memory, a cancel, a crash of the disk).
fn is_users(failure: &Failure) -> bool {
    use PgSqlErrorCode::*;
    !matches!(
        failure.code,
        ERRCODE_QUERY_CANCELED
            | ERRCODE_ADMIN_SHUTDOWN
            | ERRCODE_CRASH_SHUTDOWN
            | ERRCODE_OUT_OF_MEMORY
            | ERRCODE_DISK_FULL
            | ERRCODE_IO_ERROR
            | ERRCODE_INTERNAL_ERROR
    )
}

/// Until dropped, acts as the role, with no way to become another.
struct AsRole {
    user: pg_sys::Oid,
    context: i32,
}

impl AsRole {
    fn new(role: pg_sys::Oid) -> Self {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: out parameters are valid.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let restricted =
                context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32 | pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            pg_sys::SetUserIdAndSecContext(role, restricted);
        }
        AsRole { user, context }
    }
}

impl Drop for AsRole {
    fn drop(&mut self) {
        // SAFETY: restores what `new` found; on the error path PostgreSQL's abort does the same again, harmlessly.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}
