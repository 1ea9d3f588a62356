//! Plans of their own for some of a query's relations (InitPlans), and running them.

use pgrx::pg_sys::{self, Datum};

use super::node::{self, Node};

unsafe extern "C-unwind" {
    fn SS_make_initplan_output_param(
        root: *mut pg_sys::PlannerInfo,
        ty: pg_sys::Oid,
        typmod: i32,
        collation: pg_sys::Oid,
    ) -> *mut pg_sys::Param;
    fn SS_make_initplan_from_plan(
        root: *mut pg_sys::PlannerInfo,
        subroot: *mut pg_sys::PlannerInfo,
        plan: *mut pg_sys::Plan,
        parameter: *mut pg_sys::Param,
    );
}

/// Why a relation has no plan that gives what is asked for.
pub const NOT_PLANNED: &str = "the planner has no path of a joined relation that gives its columns";

/// A path of `relation` that gives `targets`; `None`: its paths lack some of them.
///
/// # Safety
/// The planner has made the relation's paths.
pub unsafe fn path(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    targets: &[Node<'_>],
) -> Option<*mut pg_sys::Path> {
    // SAFETY: the caller's contract.
    unsafe {
        if (*relation).cheapest_total_path.is_null() {
            return None;
        }
        let given = node::list((*(*relation).reltarget).exprs);
        let lacks = targets.iter().any(|target| {
            target.any(&mut |n| matches!(n.view(), node::View::Var(_)) && !given.iter().any(|g| g.equals(n)))
        });
        let mut path = (*relation).cheapest_total_path;
        if lacks {
            // What no join and no output needs, a plain scan has nonetheless.
            let entry = *(*root).simple_rte_array.add((*relation).relid as usize);
            let base = (*relation).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL;
            let table = base
                && (*relation).rtekind == pg_sys::RTEKind::RTE_RELATION
                && (*entry).relkind as u8 == pg_sys::RELKIND_RELATION
                && !(*entry).inh
                && (*entry).tablesample.is_null();
            if !table {
                return None;
            }
            path = pg_sys::create_seqscan_path(root, relation, std::ptr::null_mut(), 0);
        }
        let target = pg_sys::create_empty_pathtarget();
        for expression in targets {
            pg_sys::add_column_to_pathtarget(target, expression.as_ptr().cast(), 0);
        }
        let target = pg_sys::set_pathtarget_cost_width(root, target);
        Some(pg_sys::create_projection_path(root, relation, path, target).cast())
    }
}

/// Makes an InitPlan of a path: the number of its plan, and the parameter that stands for it. Nobody asks for the
/// parameter's value, but who has it among his expressions is told when its plan would give other rows.
///
/// # Safety
/// `path` is one of `root`'s, without parameters, of which a plan is being made.
pub unsafe fn init_plan(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::Path) -> (i32, Node<'static>) {
    // SAFETY: the copy shares all but what making and finishing a plan changes; PostgreSQL's own functions, whose errors are guarded.
    unsafe {
        let subroot = pg_sys::palloc(size_of::<pg_sys::PlannerInfo>()).cast::<pg_sys::PlannerInfo>();
        subroot.copy_from_nonoverlapping(root, 1);
        let of = &mut *subroot;
        of.plan_params = std::ptr::null_mut();
        // Scans of WITH queries are found among them.
        of.init_plans = pg_sys::list_copy((*root).init_plans);
        let outer = super::list::pointers::<pg_sys::SubPlan>(of.init_plans).len();
        of.processed_tlist = std::ptr::null_mut();
        of.curOuterRels = std::ptr::null_mut();
        of.curOuterParams = std::ptr::null_mut();
        of.append_rel_list = pg_sys::copyObjectImpl((*root).append_rel_list.cast()).cast();
        of.outer_params = pg_sys::bms_copy((*root).outer_params);
        for known in super::list::pointers::<pg_sys::SubPlan>((*root).init_plans) {
            for parameter in super::list::integers((*known).setParam) {
                of.outer_params = pg_sys::bms_add_member(of.outer_params, parameter);
            }
        }
        let plan = pg_sys::create_plan(subroot, path);
        // Those of the query stay with its own plan.
        (*plan).initPlan = pg_sys::list_copy_tail((*subroot).init_plans, outer as i32);
        let parameter = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let parameter = SS_make_initplan_output_param(root, pg_sys::INT4OID, -1, pg_sys::InvalidOid);
            SS_make_initplan_from_plan(root, subroot, plan, parameter);
            parameter
        });
        let number = (*(*(*root).glob).subplans).length;
        (number, Node::from_ptr(parameter).unwrap_or_else(|| unreachable!("a parameter is never null")))
    }
}

/// A running InitPlan.
#[derive(Clone, Copy)]
pub struct Rows {
    state: *mut pg_sys::PlanState,
    /// Rows were asked for, once at all and since the last one.
    begun: bool,
    started: bool,
}

impl Rows {
    /// Plan `number` of the query that `state` executes; `None`: there is none.
    ///
    /// # Safety
    /// The executor has initialized its plans.
    pub unsafe fn new(state: *mut pg_sys::EState, number: i32) -> Option<Rows> {
        // SAFETY: the caller's contract.
        unsafe {
            let states = super::list::pointers::<pg_sys::PlanState>((*state).es_subplanstates);
            let state = states.get(usize::try_from(number - 1).ok()?).copied().filter(|s| !s.is_null())?;
            Some(Rows { state, begun: false, started: false })
        }
    }

    /// Whether it would give other rows than the last time.
    pub fn has_changed(&self) -> bool {
        // SAFETY: the state lives as long as the query.
        unsafe { !(*self.state).chgParam.is_null() }
    }

    /// Calls `work` with the next row's values (NULL: `None`), which live until the next call; false at the end. The first call begins anew.
    pub fn next(&mut self, values: &mut Vec<Option<Datum>>) -> bool {
        // SAFETY: the executor's own structures, used as it does; errors are guarded.
        unsafe {
            if (self.begun && !self.started) || self.has_changed() {
                pg_sys::ExecReScan(self.state);
            }
            (self.begun, self.started) = (true, true);
            let estate = (*self.state).state;
            let _guard = super::memory::InContext::new((*estate).es_query_cxt);
            let direction = std::mem::replace(&mut (*estate).es_direction, pg_sys::ScanDirection::ForwardScanDirection);
            let Some(step) = (*self.state).ExecProcNode else { return false };
            let node = self.state;
            let slot = pg_sys::ffi::pg_guard_ffi_boundary(|| step(node));
            (*estate).es_direction = direction;
            values.clear();
            if slot.is_null() || (*slot).tts_flags as u32 & pg_sys::TTS_FLAG_EMPTY != 0 {
                self.started = false;
                return false;
            }
            let width = (*(*slot).tts_tupleDescriptor).natts;
            if i32::from((*slot).tts_nvalid) < width {
                pg_sys::slot_getsomeattrs_int(slot, width);
            }
            for i in 0..width as usize {
                values.push((!*(*slot).tts_isnull.add(i)).then_some(*(*slot).tts_values.add(i)));
            }
            true
        }
    }

    /// The types of its columns.
    pub fn types(&self) -> Vec<pg_sys::Oid> {
        // SAFETY: an initialized plan has a tuple descriptor.
        unsafe {
            let descriptor = (*self.state).ps_ResultTupleDesc;
            let width = (*descriptor).natts as usize;
            (*descriptor).attrs.as_slice(width).iter().map(|a| a.atttypid).collect()
        }
    }
}
