//! The foreign data wrapper: its callbacks in one table.

mod analyze;
mod barrier;
mod chunk;
mod combinations;
mod copy;
mod dimensions;
mod estimate;
mod explain;
mod fold;
mod grouping;
mod groups;
mod kept;
mod keys;
mod modify;
mod options;
mod order;
mod plan;
mod prune;
mod rows;
mod scan;
mod selection;
mod sets;
mod star;
mod temporary;
mod truncate;
mod upper;

use pgrx::{PgBox, pg_guard, pg_sys};

use crate::pg::function::VERSION_1;

/// Installs hooks of the planner and of utility commands.
pub fn register() {
    barrier::register();
    crate::pg::copy::register();
    estimate::register();
    upper::register();
}

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_basalt_fdw_handler() -> &'static pg_sys::Pg_finfo_record {
    &VERSION_1
}

#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn basalt_fdw_handler(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the tag is FdwRoutine's.
    let mut routine = unsafe { PgBox::<pg_sys::FdwRoutine>::alloc_node(pg_sys::NodeTag::T_FdwRoutine) };

    routine.GetForeignRelSize = Some(plan::get_foreign_rel_size);
    routine.GetForeignPaths = Some(plan::get_foreign_paths);
    routine.GetForeignPlan = Some(plan::get_foreign_plan);
    routine.GetForeignUpperPaths = Some(upper::get_foreign_upper_paths);
    routine.IsForeignScanParallelSafe = Some(plan::is_foreign_scan_parallel_safe);
    routine.BeginForeignScan = Some(scan::begin_foreign_scan);
    routine.IterateForeignScan = Some(scan::iterate_foreign_scan);
    routine.ReScanForeignScan = Some(scan::rescan_foreign_scan);
    routine.EndForeignScan = Some(scan::end_foreign_scan);
    routine.AnalyzeForeignTable = Some(analyze::analyze_foreign_table);
    routine.ExplainForeignScan = Some(explain::explain_foreign_scan);

    routine.PlanForeignModify = Some(modify::plan);
    routine.BeginForeignModify = Some(modify::begin_modify);
    routine.ExecForeignInsert = Some(modify::insert);
    routine.ExecForeignBatchInsert = Some(modify::insert_batch);
    routine.GetForeignModifyBatchSize = Some(modify::batch_size);
    routine.EndForeignModify = Some(modify::end);
    routine.BeginForeignInsert = Some(modify::begin_insert);
    routine.EndForeignInsert = Some(modify::end_insert);
    routine.IsForeignRelUpdatable = Some(modify::updatable);
    routine.ExplainForeignModify = Some(modify::explain);

    routine.ExecForeignTruncate = Some(truncate::truncate);

    routine.into_pg_boxed().into_datum_ptr()
}

trait IntoDatumPointer {
    fn into_datum_ptr(self) -> pg_sys::Datum;
}

impl IntoDatumPointer for PgBox<pg_sys::FdwRoutine> {
    fn into_datum_ptr(self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.into_pg())
    }
}
