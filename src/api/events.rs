//! Event trigger functions, and what they do when called by hand.

use super::{Arguments, function, require_ownership, void};
use crate::catalog::{datasource, identity};
use crate::pg::ddl;

function!(pg_finfo_basalt_on_ddl_command_end, basalt_on_ddl_command_end, |call| {
    // SAFETY: declared as an event trigger function; checked there.
    let command = unsafe { ddl::command(call) };
    identity::after_command(&command)?;
    Ok(void())
});

function!(pg_finfo_basalt_on_sql_drop, basalt_on_sql_drop, |call| {
    // SAFETY: as above.
    unsafe { ddl::command(call) };
    identity::after_drop();
    Ok(void())
});

function!(pg_finfo_basalt_assign_ids, basalt_assign_ids, |call| {
    // SAFETY: declared with one argument.
    let relation = unsafe { Arguments::new(call) }.relation(0)?;
    require_ownership(relation)?;
    if datasource::is_datasource(relation) {
        identity::assign(relation)?;
    }
    datasource::open(relation)?;
    Ok(void())
});
