//! PostgreSQL's expressions, compiled and evaluated outside of its own plan nodes.

use std::cell::OnceCell;

use pgrx::pg_sys::{self, Datum, Oid};

use super::memory::InContext;
use super::node::{Node, View};

/// Evaluates expressions of one plan node, with its parameters. Results live in a context of their own until `reset`.
#[derive(Clone, Copy)]
pub struct Evaluator {
    plan_state: *mut pg_sys::PlanState,
    context: *mut pg_sys::ExprContext,
}

/// An expression ready to run.
#[derive(Clone, Copy)]
pub struct Compiled {
    state: *mut pg_sys::ExprState,
    pub ty: Oid,
}

impl Evaluator {
    /// # Safety
    /// `plan_state` is being initialized or executed, and outlives the evaluator and all it compiles.
    pub unsafe fn new(plan_state: *mut pg_sys::PlanState) -> Self {
        // SAFETY: the executor's state is set by then.
        let context = unsafe { pg_sys::CreateExprContext((*plan_state).state) };
        Evaluator { plan_state, context }
    }

    /// Compiles into the query's memory.
    pub fn compile(&self, node: Node<'_>) -> Compiled {
        // SAFETY: the plan state outlives the evaluator; the node is well-formed.
        unsafe {
            let _guard = InContext::new((*(*self.plan_state).state).es_query_cxt);
            Compiled { state: pg_sys::ExecInitExpr(node.as_ptr().cast(), self.plan_state), ty: node.ty() }
        }
    }

    /// The value, `None` for NULL. `input`: what the column's placeholder stands for.
    pub fn evaluate(&self, compiled: Compiled, input: Option<Datum>) -> Option<Datum> {
        let (state, context) = (compiled.state, self.context);
        let mut null = true;
        // SAFETY: state and context belong together and are alive; the guard restores the memory context on return, and pgrx does on an error.
        unsafe {
            (*context).caseValue_datum = input.unwrap_or(Datum::from(0usize));
            (*context).caseValue_isNull = input.is_none();
            let _guard = InContext::new((*context).ecxt_per_tuple_memory);
            let function = (*state).evalfunc?;
            let is_null = &raw mut null;
            let value = pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, context, is_null));
            (!null).then_some(value)
        }
    }

    /// Frees what evaluations returned.
    pub fn reset(&self) {
        // SAFETY: nothing returned by `evaluate` is used after, by this method's contract.
        unsafe { pg_sys::MemoryContextReset((*self.context).ecxt_per_tuple_memory) }
    }

    /// Makes the context that `reset` frees the current one.
    pub fn in_result_context(&self) -> InContext {
        // SAFETY: the context lives as long as the query.
        unsafe { InContext::new((*self.context).ecxt_per_tuple_memory) }
    }

    /// The executor's state of the query.
    pub(super) fn executor_state(&self) -> *mut pg_sys::EState {
        // SAFETY: the plan state outlives the evaluator.
        unsafe { (*self.plan_state).state }
    }

    /// The query's own context.
    pub fn in_query_context(&self) -> InContext {
        // SAFETY: as above.
        unsafe { InContext::new((*(*self.plan_state).state).es_query_cxt) }
    }
}

/// The expressions of a plan (`fdw_exprs`), compiled when first needed.
pub struct Expressions {
    evaluator: Evaluator,
    nodes: Vec<Node<'static>>,
    whole: Vec<OnceCell<Compiled>>,
    operands: Vec<[OnceCell<Compiled>; 2]>,
}

impl Expressions {
    /// # Safety
    /// The nodes belong to the plan that the evaluator's node executes.
    pub unsafe fn new(evaluator: Evaluator, list: *mut pg_sys::List) -> Self {
        // SAFETY: the plan outlives its execution state.
        let nodes = unsafe { super::node::list(list) };
        Expressions {
            evaluator,
            whole: nodes.iter().map(|_| OnceCell::new()).collect(),
            operands: nodes.iter().map(|_| Default::default()).collect(),
            nodes,
        }
    }

    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    pub fn node(&self, expression: usize) -> Option<Node<'static>> {
        self.nodes.get(expression).copied()
    }

    /// The expression itself.
    pub fn whole(&self, expression: usize) -> Option<Compiled> {
        let node = self.node(expression)?;
        Some(*self.whole.get(expression)?.get_or_init(|| self.evaluator.compile(node)))
    }

    /// One of the operands (0 or 1) of the operator that the expression is.
    pub fn operand(&self, expression: usize, operand: usize) -> Option<Compiled> {
        let cell = self.operands.get(expression)?.get(operand)?;
        if let Some(compiled) = cell.get() {
            return Some(*compiled);
        }
        let node = match self.node(expression)?.view() {
            View::Op(op) | View::Distinct(op) | View::ArrayOp { op, .. } => *op.args.get(operand)?,
            _ => return None,
        };
        Some(*cell.get_or_init(|| self.evaluator.compile(node)))
    }
}
