//! What an ingestion's owner chose, and the connection it may use.

use basalt_background::kafka::Options;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::datasource;
use crate::error::{Error, Result};
use crate::pg::{foreign, relation};

/// What the user wants done when the topic is not what it was.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestionOptions {
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub on_offset_out_of_range: Policy,
    #[serde(default)]
    pub on_topic_recreated: Policy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    #[default]
    Stop,
    Earliest,
    Latest,
}

/// Connection options of a server for a role. Errors: `UndefinedObject`, `WrongObjectType`, `InsufficientPrivilege`.
pub fn connection(server: &str, role: pg_sys::Oid) -> Result<Options> {
    let found = foreign::server(server).ok_or_else(|| {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("server \"{server}\" does not exist"))
            .hint("CREATE SERVER ... FOREIGN DATA WRAPPER basalt_kafka OPTIONS (bootstrap_servers 'host:9092');")
    })?;
    if found.wrapper != "basalt_kafka" {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("server \"{server}\" is not of wrapper \"basalt_kafka\""),
        ));
    }
    if !foreign::may_use(found.oid, role) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for foreign server {server}"),
        )
        .hint("GRANT USAGE ON FOREIGN SERVER ... TO ...;"));
    }
    let mut values = found.options;
    values.extend(foreign::user_options(found.oid, role));
    Options::new(values)
        .map_err(|e| Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("server \"{server}\": {e}")))
}

/// Errors unless the role owns the table, or may act as its owner.
pub fn check_owner(relation: pg_sys::Oid, role: pg_sys::Oid) -> Result<()> {
    if relation::is_owner(relation, role) {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("must be owner of foreign table {}", datasource::name(relation)),
    ))
}
