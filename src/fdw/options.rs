//! Options of wrappers, servers, user mappings, tables and columns: what is allowed where.

use basalt_background::kafka;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use crate::catalog::options::{ColumnOptions, TableOptions};
use crate::error::{Error, OrRaise, Result};
use crate::pg;
use crate::pg::function::VERSION_1;

/// The kinds of objects that carry options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Wrapper,
    Server,
    UserMapping,
    Table,
    Column,
}

struct Allowed {
    wrapper: &'static str,
    object: Object,
    names: &'static [&'static str],
}

/// Every option there is.
const ALLOWED: &[Allowed] = &[
    Allowed {
        wrapper: "basalt",
        object: Object::Table,
        names: &[
            "time_column",
            "segment_granularity",
            "query_granularity",
            "rollup",
            "cluster_by",
            "deep_storage",
            "max_segment_rows",
            "datasource_id",
        ],
    },
    Allowed { wrapper: "basalt", object: Object::Column, names: &["index", "aggregate", "column_id", "missing"] },
    Allowed { wrapper: "basalt_kafka", object: Object::Server, names: kafka::SERVER_OPTIONS },
    Allowed { wrapper: "basalt_kafka", object: Object::UserMapping, names: kafka::USER_OPTIONS },
    Allowed {
        wrapper: "basalt_s3",
        object: Object::Server,
        names: &["bucket", "prefix", "region", "endpoint", "force_path_style"],
    },
    Allowed {
        wrapper: "basalt_s3",
        object: Object::UserMapping,
        names: &["access_key_id", "secret_access_key", "session_token"],
    },
];

impl Object {
    fn of(catalog: pg_sys::Oid) -> Self {
        match catalog {
            pg_sys::ForeignServerRelationId => Object::Server,
            pg_sys::UserMappingRelationId => Object::UserMapping,
            pg_sys::ForeignTableRelationId => Object::Table,
            pg_sys::AttributeRelationId => Object::Column,
            _ => Object::Wrapper,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Object::Wrapper => "foreign-data wrapper",
            Object::Server => "server",
            Object::UserMapping => "user mapping",
            Object::Table => "foreign table",
            Object::Column => "column",
        }
    }
}

/// Errors: `FdwInvalidOptionName` for a name that is not allowed there, `InvalidParameterValue` for a bad value.
fn check(wrapper: &str, object: Object, options: &[(String, String)]) -> Result<()> {
    let allowed = ALLOWED
        .iter()
        .filter(|a| a.wrapper == wrapper && a.object == object)
        .flat_map(|a| a.names)
        .copied()
        .collect::<Vec<_>>();
    for (name, _) in options {
        if !allowed.contains(&name.as_str()) {
            let hint = if allowed.is_empty() {
                format!("A {} of wrapper \"{wrapper}\" takes no options.", object.name())
            } else {
                format!("Allowed on a {}: {}.", object.name(), allowed.join(", "))
            };
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
                format!("invalid option \"{name}\""),
            )
            .hint(hint));
        }
    }
    match (wrapper, object) {
        ("basalt", Object::Table) => TableOptions::parse(options).map(drop),
        ("basalt", Object::Column) => ColumnOptions::parse(options).map(drop),
        ("basalt_kafka", _) => options.iter().try_for_each(|(name, value)| check_kafka(name, value)),
        _ => Ok(()),
    }
}

/// Errors: `InvalidParameterValue`; `InsufficientPrivilege` for a file of the server's.
fn check_kafka(name: &str, value: &str) -> Result<()> {
    if let Err(what) = kafka::check_option(name, value) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid value for option \"{name}\""),
        )
        .hint(what));
    }
    // SAFETY: plain permission checks.
    let may_read_files = || unsafe {
        pg_sys::superuser()
            || pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(pg_sys::ROLE_PG_READ_SERVER_FILES))
    };
    if kafka::FILE_OPTIONS.contains(&name) && !may_read_files() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied to set option \"{name}\""),
        )
        .detail("It names a file on the server: only roles with privileges of pg_read_server_files may set it.")
        .hint("Option \"ssl_ca_pem\" takes the certificates themselves."));
    }
    Ok(())
}

/// Body of a validator: `(options text[], catalog oid) -> void`.
///
/// # Safety
/// `call` is PostgreSQL's call of a validator.
unsafe fn validate(call: pg_sys::FunctionCallInfo, wrapper: &str) -> pg_sys::Datum {
    // SAFETY: the function is declared strict with these two arguments.
    unsafe {
        let arguments = (*call).args.as_slice(2);
        let list = pg_sys::untransformRelOptions(arguments[0].value);
        let options = pg::list::options(list);
        let catalog = pg_sys::Oid::from(arguments[1].value.value() as u32);
        check(wrapper, Object::of(catalog), &options).or_raise();
    }
    pg_sys::Datum::from(0usize)
}

macro_rules! validator {
    ($function:ident, $info:ident, $wrapper:literal) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            &VERSION_1
        }

        #[unsafe(no_mangle)]
        #[pg_guard]
        pub unsafe extern "C-unwind" fn $function(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: PostgreSQL calls it as it is declared in sql/fdw.sql.
            unsafe { validate(call, $wrapper) }
        }
    };
}

validator!(basalt_fdw_validator, pg_finfo_basalt_fdw_validator, "basalt");
validator!(basalt_kafka_validator, pg_finfo_basalt_kafka_validator, "basalt_kafka");
validator!(basalt_s3_validator, pg_finfo_basalt_s3_validator, "basalt_s3");
