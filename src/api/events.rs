//! Event trigger functions, and what they do when called by hand.

use super::require_ownership;
use crate::catalog::{datasource, identity};
use crate::pg::ddl;
use crate::pg::function::{function, void};
use crate::pg::workers::{self, Kind};

function!(pg_finfo_basalt_on_ddl_command_end, basalt_on_ddl_command_end, |call| {
    let command = ddl::command(call);
    identity::after_command(&command)?;
    workers::call_at_commit(&[Kind::Maintenance]);
    Ok(void())
});

function!(pg_finfo_basalt_on_sql_drop, basalt_on_sql_drop, |call| {
    ddl::command(call);
    identity::after_drop();
    Ok(void())
});

function!(pg_finfo_basalt_assign_ids, basalt_assign_ids, |call| {
    let relation = call.relation(0)?;
    require_ownership(relation)?;
    if datasource::is_datasource(relation) {
        identity::assign(relation)?;
    }
    datasource::open(relation)?;
    Ok(void())
});
