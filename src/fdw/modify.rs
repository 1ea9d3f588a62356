//! INSERT and COPY FROM: rows go to the transaction's pending chunk of their table.

use std::ops::Range;
use std::sync::Arc;

use basalt_engine::rows::RowBuffer;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use super::copy::{Demands, Way};
use crate::catalog::datasource::{self, Datasource};
use crate::catalog::pending;
use crate::error::{Error, OrRaise, Result};
use crate::pg::memory::Scratch;
use crate::pg::relation;
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;

/// One statement's insertion into one table.
struct Insertion {
    datasource: Arc<Datasource>,
    /// One a column of the schema, with its attribute number.
    columns: Vec<(usize, Codec)>,
    /// Position in a slot of the time column.
    time: Option<usize>,
    command: pg_sys::CommandId,
    needs_fixed_settings: bool,
    scratch: Scratch,
    /// Constraints that PostgreSQL leaves to the wrapper: positions in a slot of columns that are NOT NULL, and whether there are others.
    not_null: Vec<usize>,
    check_constraints: bool,
    check_partition: bool,
    way: Way,
}

/// Rows that PostgreSQL hands over at once where a batch has a cost of its own. For others, to make copies of rows that it hands
/// over together costs more than it saves.
const BATCH: i32 = 64;

#[pg_guard]
pub unsafe extern "C-unwind" fn plan(
    _root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    _result_relation: pg_sys::Index,
    _subplan: i32,
) -> *mut pg_sys::List {
    // SAFETY: the planner hands over a ModifyTable node.
    let (operation, on_conflict) = unsafe { ((*plan).operation, (*plan).onConflictAction) };
    match operation {
        pg_sys::CmdType::CMD_UPDATE => unsupported("UPDATE").raise(),
        pg_sys::CmdType::CMD_DELETE => unsupported("DELETE").raise(),
        _ => {}
    }
    if on_conflict == pg_sys::OnConflictAction::ONCONFLICT_UPDATE {
        Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "ON CONFLICT DO UPDATE is not supported on a datasource",
        )
        .hint("A datasource has no unique constraints.")
        .raise();
    }
    std::ptr::null_mut()
}

fn unsupported(command: &str) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, format!("{command} of a datasource is not supported yet"))
        .hint("basalt.replace(table, start, end, query) replaces the rows of a time range atomically; TRUNCATE removes all rows.")
}

#[pg_guard]
pub unsafe extern "C-unwind" fn begin_modify(
    state: *mut pg_sys::ModifyTableState,
    relation: *mut pg_sys::ResultRelInfo,
    _private: *mut pg_sys::List,
    _subplan: i32,
    flags: i32,
) {
    if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
        return;
    }
    // SAFETY: the executor's nodes are valid; its output command id is the statement's.
    unsafe {
        let estate = (*state).ps.state;
        begin(relation, estate, (*estate).es_output_cid, Way::Rows);
    }
}

/// COPY FROM, and rows that a partitioned table routes here.
#[pg_guard]
pub unsafe extern "C-unwind" fn begin_insert(
    state: *mut pg_sys::ModifyTableState,
    relation: *mut pg_sys::ResultRelInfo,
) {
    // SAFETY: the executor's nodes are valid. COPY has no planned statement, hence no output command id of its own.
    unsafe {
        let estate = (*state).ps.state;
        if (*state).operation == pg_sys::CmdType::CMD_UPDATE {
            Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "cannot move rows into a datasource by UPDATE")
                .hint("Insert them instead.")
                .raise();
        }
        let command = if (*estate).es_plannedstmt.is_null() {
            pg_sys::GetCurrentCommandId(true)
        } else {
            (*estate).es_output_cid
        };
        begin(relation, estate, command, Way::Unknown);
    }
}

/// # Safety
/// The executor's structures, alive during the command.
unsafe fn begin(
    relation: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    command: pg_sys::CommandId,
    way: Way,
) {
    // SAFETY: relation and estate are the executor's; the state lives in the query's context and is dropped with it.
    unsafe {
        let rel = (*relation).ri_RelationDesc;
        let datasource = datasource::open((*rel).rd_id).or_raise();
        let context = (*estate).es_query_cxt;
        let in_context = crate::pg::memory::InContext::new(context);
        let mut columns = Vec::new();
        for (attribute, position) in datasource.attributes.iter().enumerate() {
            if let Some(position) = position {
                let (type_oid, typmod) = datasource.types[*position];
                columns.push((attribute, Codec::new(type_oid, typmod)));
            }
        }
        let needs_fixed_settings = columns.iter().any(|(_, codec)| codec.needs_fixed_settings());
        let time = datasource.schema.time.map(|position| columns[position].0);
        let (not_null, check_constraints) = relation::constraints(rel);
        let insertion = Insertion {
            needs_fixed_settings,
            scratch: Scratch::new(),
            not_null,
            check_constraints,
            check_partition: (*(*rel).rd_rel).relispartition && (*relation).ri_RootResultRelInfo.is_null(),
            datasource,
            columns,
            time,
            command,
            way,
        };
        drop(in_context);
        let kept = pgrx::PgMemoryContexts::For(context).leak_and_drop_on_delete(insertion);
        (*relation).ri_FdwState = kept.cast();
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn insert(
    estate: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    _plan_slot: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: `begin` left the state there.
    unsafe {
        insert_rows(estate, relation, &[slot]).or_raise();
        // Rows of a COPY by blocks are counted there: PostgreSQL hears that nothing was inserted.
        if proceed(relation, slot).or_raise() { std::ptr::null_mut() } else { slot }
    }
}

/// Takes what follows an inserted row of a COPY; whether rows come by blocks.
///
/// # Safety
/// As for [`insert_rows`].
unsafe fn proceed(relation: *mut pg_sys::ResultRelInfo, slot: *mut pg_sys::TupleTableSlot) -> Result<bool> {
    // SAFETY: `begin` left the state there; the slot was inserted.
    unsafe {
        let insertion = &mut *(*relation).ri_FdwState.cast::<Insertion>();
        if let Way::Unknown = insertion.way {
            let demands = Demands {
                not_null: &insertion.not_null,
                checks: insertion.check_constraints || insertion.check_partition,
                row_triggers: has_row_triggers(relation),
            };
            let (rel, command) = ((*relation).ri_RelationDesc, insertion.command);
            insertion.way = Way::decide(rel, slot, &insertion.datasource, command, &demands)?;
        }
        let Way::Blocks(load) = &mut insertion.way else { return Ok(false) };
        load.proceed()?;
        Ok(true)
    }
}

/// # Safety
/// The executor's node.
unsafe fn has_row_triggers(relation: *mut pg_sys::ResultRelInfo) -> bool {
    // SAFETY: null or the relation's triggers.
    unsafe {
        let triggers = (*relation).ri_TrigDesc;
        !triggers.is_null() && ((*triggers).trig_insert_before_row || (*triggers).trig_insert_after_row)
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn insert_batch(
    estate: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slots: *mut *mut pg_sys::TupleTableSlot,
    _plan_slots: *mut *mut pg_sys::TupleTableSlot,
    count: *mut i32,
) -> *mut *mut pg_sys::TupleTableSlot {
    // SAFETY: `slots` holds `count` slots.
    unsafe { insert_rows(estate, relation, std::slice::from_raw_parts(slots, *count as usize)).or_raise() }
    slots
}

#[pg_guard]
pub unsafe extern "C-unwind" fn batch_size(relation: *mut pg_sys::ResultRelInfo) -> i32 {
    // SAFETY: the executor's node; `begin` left an Insertion in the relation's state, except for EXPLAIN. One at a time where something
    // looks at each inserted row, or may look at the table.
    unsafe {
        let seen = !(*relation).ri_projectReturning.is_null() || !(*relation).ri_WithCheckOptions.is_null();
        let costly = (*relation).ri_FdwState.cast::<Insertion>().as_ref().is_some_and(|i| i.needs_fixed_settings);
        if costly && !seen && !has_row_triggers(relation) { BATCH } else { 1 }
    }
}

/// # Safety
/// The executor's own structures are given; `begin` has left its state in the relation.
unsafe fn insert_rows(
    estate: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slots: &[*mut pg_sys::TupleTableSlot],
) -> Result<()> {
    // SAFETY: `begin` left an Insertion in the relation's state; the slots are of the table's row type.
    unsafe {
        let insertion = &mut *(*relation).ri_FdwState.cast::<Insertion>();
        let natts = insertion.datasource.attributes.len() as i32;
        for &slot in slots {
            if i32::from((*slot).tts_nvalid) < natts {
                pg_sys::slot_getsomeattrs_int(slot, natts);
            }
            let nulls = (*slot).tts_isnull;
            if insertion.check_constraints || insertion.not_null.iter().any(|attribute| *nulls.add(*attribute)) {
                pg_sys::ExecConstraints(relation, slot, estate);
            }
            if insertion.check_partition {
                pg_sys::ExecPartitionCheck(relation, slot, estate, true);
            }
        }
        let Insertion { datasource, columns, time, command, needs_fixed_settings, scratch, .. } = insertion;
        let timeless = |row: usize| time.is_some_and(|attribute| *(*slots[row]).tts_isnull.add(attribute));
        let mut push = |range: Range<usize>, rows: &mut RowBuffer| -> Result<()> {
            let fixed = needs_fixed_settings.then(FixedSettings::new);
            for slot in &slots[range] {
                let (values, nulls) = ((**slot).tts_values, (**slot).tts_isnull);
                scratch.run(|| {
                    rows.push_row(|position, place| {
                        let (attribute, codec) = &mut columns[position];
                        codec.push(place, *values.add(*attribute), *nulls.add(*attribute))
                    })
                })?;
            }
            drop(fixed);
            Ok(())
        };
        pending::insert(datasource, *command, slots.len(), &timeless, &mut push)
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn end(_estate: *mut pg_sys::EState, _relation: *mut pg_sys::ResultRelInfo) {}

#[pg_guard]
pub unsafe extern "C-unwind" fn end_insert(_estate: *mut pg_sys::EState, relation: *mut pg_sys::ResultRelInfo) {
    // SAFETY: null or what `begin` left.
    if let Some(Insertion { way: Way::Blocks(load), .. }) =
        unsafe { (*relation).ri_FdwState.cast::<Insertion>().as_ref() }
    {
        load.end();
    }
}

/// What information_schema and updatable views are told.
#[pg_guard]
pub unsafe extern "C-unwind" fn updatable(_relation: pg_sys::Relation) -> i32 {
    1 << pg_sys::CmdType::CMD_INSERT as i32
}

#[pg_guard]
pub unsafe extern "C-unwind" fn explain(
    _state: *mut pg_sys::ModifyTableState,
    _relation: *mut pg_sys::ResultRelInfo,
    _private: *mut pg_sys::List,
    _subplan: i32,
    _explain: *mut pg_sys::ExplainState,
) {
}
