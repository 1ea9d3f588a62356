//! Options of datasources and their columns, typed.

use basalt_engine::granularity::Granularity;
use pgrx::PgSqlErrorCode;

use crate::error::{Error, Result};

/// Rows of a final segment at most, unless the table says otherwise.
pub const MAX_SEGMENT_ROWS: u64 = 5_000_000;

/// Options of a datasource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// As given; without it, the first column of a date or timestamp type.
    pub time_column: Option<String>,
    /// Length of the intervals that compacted segments align to.
    pub segment_granularity: Granularity,
    /// Columns that order rows before time does.
    pub cluster_by: Vec<String>,
    pub max_segment_rows: u64,
    pub datasource_id: Option<[u8; 16]>,
}

/// Options of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnOptions {
    pub column_id: Option<u32>,
    pub indexed: bool,
    /// Text form of what rows older than the column hold.
    pub missing: Option<String>,
}

impl TableOptions {
    pub fn parse(options: &[(String, String)]) -> Result<Self> {
        let mut parsed = TableOptions {
            time_column: None,
            segment_granularity: Granularity::Day,
            cluster_by: Vec::new(),
            max_segment_rows: MAX_SEGMENT_ROWS,
            datasource_id: None,
        };
        for (name, value) in options {
            match name.as_str() {
                "time_column" => parsed.time_column = Some(value.clone()),
                "segment_granularity" => {
                    parsed.segment_granularity = Granularity::parse(value)
                        .ok_or_else(|| invalid(name, value, "hour, day, week, month, year, all"))?
                }
                "cluster_by" => parsed.cluster_by = names(value),
                "max_segment_rows" => {
                    parsed.max_segment_rows = value
                        .parse()
                        .ok()
                        .filter(|rows| (1_000..=100_000_000).contains(rows))
                        .ok_or_else(|| invalid(name, value, "an integer from 1000 to 100000000"))?
                }
                "datasource_id" => {
                    let id = crate::pg::parse_uuid(value).filter(|_| super::identity::is_canonical(value));
                    parsed.datasource_id = Some(id.ok_or_else(|| invalid(name, value, "a uuid in lower case"))?)
                }
                "rollup" | "query_granularity" | "deep_storage" => unsupported_unless_neutral(name, value)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

impl ColumnOptions {
    pub fn parse(options: &[(String, String)]) -> Result<Self> {
        let mut parsed = ColumnOptions { column_id: None, indexed: true, missing: None };
        for (name, value) in options {
            match name.as_str() {
                "column_id" => {
                    parsed.column_id = Some(
                        value
                            .parse()
                            .ok()
                            .filter(|id| (1..=i32::MAX as u32).contains(id))
                            .ok_or_else(|| invalid(name, value, "a positive integer"))?,
                    )
                }
                "index" => {
                    parsed.indexed = boolean(value).ok_or_else(|| invalid(name, value, "on, off"))?;
                }
                "missing" => parsed.missing = Some(value.clone()),
                "aggregate" => unsupported_unless_neutral(name, value)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// Column names, separated by commas; blanks around them do not count.
pub fn names(value: &str) -> Vec<String> {
    value.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect()
}

/// What PostgreSQL takes for a boolean.
pub fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn invalid(name: &str, value: &str, allowed: &str) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("invalid value for option \"{name}\": \"{value}\""),
    )
    .hint(format!("Allowed: {allowed}."))
}

/// Options whose meaning is reserved: only the value that asks for nothing is accepted.
fn unsupported_unless_neutral(name: &str, value: &str) -> Result<()> {
    let neutral = match name {
        "rollup" => !boolean(value).ok_or_else(|| invalid(name, value, "on, off"))?,
        "query_granularity" => value == "none",
        _ => false,
    };
    if neutral {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, format!("option \"{name}\" is not supported yet"))
        .detail(format!("The value given is \"{value}\".")))
}
