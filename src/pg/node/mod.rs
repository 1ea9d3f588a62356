//! PostgreSQL's expression trees: looked at and copied, never changed, so that translation needs no `unsafe`.

mod copies;
mod view;

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use pgrx::pg_sys::{self, NodeTag, Oid};
use pgrx::prelude::*;

use super::list::pointers;
use super::{array, lookup};
pub use view::{AggregateView, BoolKind, FuncView, OpView, RowCompareView, VarView, View};

/// An expression of the planner or of a plan. `'p`: its memory lives as long as the planning step or
/// the executor state that it was taken from.
#[derive(Clone, Copy)]
pub struct Node<'p>(NonNull<pg_sys::Node>, PhantomData<&'p pg_sys::Node>);

/// What `walk` does after a node was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    Descend,
    Skip,
    Stop,
}

impl<'p> Node<'p> {
    /// # Safety
    /// `pointer` is null or a well-formed expression that lives for `'p`.
    pub unsafe fn from_ptr<T>(pointer: *mut T) -> Option<Node<'p>> {
        NonNull::new(pointer.cast()).map(|p| Node(p, PhantomData))
    }

    pub fn as_ptr(self) -> *mut pg_sys::Node {
        self.0.as_ptr()
    }

    pub fn tag(self) -> NodeTag {
        // SAFETY: every node begins with its tag.
        unsafe { (*self.as_ptr()).type_ }
    }

    pub fn ty(self) -> Oid {
        // SAFETY: a well-formed expression.
        unsafe { pg_sys::exprType(self.as_ptr()) }
    }

    pub fn typmod(self) -> i32 {
        // SAFETY: as above.
        unsafe { pg_sys::exprTypmod(self.as_ptr()) }
    }

    pub fn collation(self) -> Oid {
        // SAFETY: as above.
        unsafe { pg_sys::exprCollation(self.as_ptr()) }
    }

    /// PostgreSQL's structural equality.
    pub fn equals(self, other: Node<'_>) -> bool {
        // SAFETY: both are well-formed.
        unsafe { pg_sys::equal(self.as_ptr().cast(), other.as_ptr().cast()) }
    }

    pub fn is_volatile(self) -> bool {
        // SAFETY: as above.
        unsafe { pg_sys::contain_volatile_functions(self.as_ptr()) }
    }

    pub fn has_subplan(self) -> bool {
        // SAFETY: as above.
        unsafe { pg_sys::contain_subplans(self.as_ptr()) }
    }

    /// Whether it may be non-NULL although an input is NULL.
    pub fn is_nonstrict(self) -> bool {
        // A search of an empty array is true or false of NULL; PostgreSQL 15.18 takes it for strict, 15.20 does not.
        let mut may_search_nothing = |n: Node<'_>| match n.view() {
            View::ArrayOp { op, .. } => op.args.last().is_none_or(|array| !array.is_surely_filled()),
            _ => false,
        };
        // SAFETY: as above.
        unsafe { pg_sys::contain_nonstrict_functions(self.as_ptr()) || self.any(&mut may_search_nothing) }
    }

    /// Whether an array is known to be NULL or to have elements.
    fn is_surely_filled(self) -> bool {
        match self.view() {
            View::Const { null, value } => {
                null || lookup::element_type(self.ty()).is_some_and(|ty| !array::elements(value, ty).is_empty())
            }
            _ if self.tag() == NodeTag::T_ArrayExpr => {
                // SAFETY: the tag says what it is. Constant ones were folded, so that it has elements.
                unsafe { !(*self.as_ptr().cast::<pg_sys::ArrayExpr>()).multidims }
            }
            _ => false,
        }
    }

    pub fn returns_set(self) -> bool {
        // SAFETY: as above.
        unsafe { pg_sys::expression_returns_set(self.as_ptr()) }
    }

    /// Visits the tree from the root down. Returns whether a visit said `Stop`.
    pub fn walk(self, visit: &mut dyn FnMut(Node<'p>) -> Walk) -> bool {
        let mut visit: &mut dyn FnMut(Node<'p>) -> Walk = visit;
        let context: *mut c_void = (&raw mut visit).cast();
        // SAFETY: the context is what the callback expects, and lives during the call.
        unsafe { walk_step(self.as_ptr(), context) }
    }

    /// Whether `test` holds of any node in the tree.
    pub fn any(self, test: &mut dyn FnMut(Node<'p>) -> bool) -> bool {
        self.walk(&mut |node| if test(node) { Walk::Stop } else { Walk::Descend })
    }

    /// A copy in which `replace` put other nodes in place of those for which it returned one.
    pub fn rewrite(self, replace: &mut dyn FnMut(Node<'p>) -> Option<Node<'p>>) -> Node<'p> {
        let mut replace: &mut dyn FnMut(Node<'p>) -> Option<Node<'p>> = replace;
        let context: *mut c_void = (&raw mut replace).cast();
        // SAFETY: as in `walk`; the mutator returns a non-null copy of a non-null node.
        unsafe { Node::from_ptr(rewrite_step(self.as_ptr(), context)).unwrap_or(self) }
    }

    /// This as SQL, of columns of one table that is number `relation` in it.
    pub fn sql(self, relation: u32, table: Oid, name: &str) -> String {
        let name = std::ffi::CString::new(name).unwrap_or_default();
        // SAFETY: a copy is changed; the context names the one table that there is; the result is a C string.
        unsafe {
            let copy = pg_sys::copyObjectImpl(self.as_ptr().cast()).cast::<pg_sys::Node>();
            pg_sys::ChangeVarNodes(copy, relation as i32, 1, 0);
            let context = pg_sys::deparse_context_for(name.as_ptr(), table);
            lookup::text(pg_sys::deparse_expression(copy, context, false, false)).unwrap_or_default()
        }
    }

    /// This as SQL. `context`: PostgreSQL's, for the query's range table.
    ///
    /// # Safety
    /// `context` is a deparse context.
    pub unsafe fn sql_in(self, context: *mut pg_sys::List) -> String {
        // SAFETY: the caller's contract; the result is a C string.
        unsafe { lookup::text(pg_sys::deparse_expression(self.as_ptr(), context, true, false)).unwrap_or_default() }
    }
}

/// # Safety
/// `list` is null or a pointer list of expressions that live for `'p`.
pub unsafe fn list<'p>(list: *mut pg_sys::List) -> Vec<Node<'p>> {
    // SAFETY: the caller's contract.
    unsafe { pointers::<pg_sys::Node>(list).into_iter().filter_map(|p| Node::from_ptr(p)).collect() }
}

/// A context for [`Node::sql_in`].
///
/// # Safety
/// `entries` is a query's range table, `relations` a set of indexes in it.
pub unsafe fn query_context(entries: *mut pg_sys::List, relations: *mut pg_sys::Bitmapset) -> *mut pg_sys::List {
    // SAFETY: the caller's contract; palloc0 returns zeroed memory of the size asked for, or raises an error.
    unsafe {
        let statement = pg_sys::palloc0(size_of::<pg_sys::PlannedStmt>()).cast::<pg_sys::PlannedStmt>();
        (*statement).type_ = NodeTag::T_PlannedStmt;
        (*statement).rtable = entries;
        let names = pg_sys::select_rtable_names_for_explain(entries, relations);
        pg_sys::deparse_context_for_plan_tree(statement, names)
    }
}

/// A new pointer list.
pub fn make_list<'p>(nodes: impl IntoIterator<Item = Node<'p>>) -> *mut pg_sys::List {
    let mut list = std::ptr::null_mut();
    for node in nodes {
        // SAFETY: appending to a list that only this function holds.
        list = unsafe { pg_sys::lappend(list, node.as_ptr().cast()) };
    }
    list
}

#[pg_guard]
unsafe extern "C-unwind" fn walk_step(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: `context` is the reference that `walk` passed down.
    let visit = unsafe { &mut *context.cast::<&mut dyn FnMut(Node<'_>) -> Walk>() };
    // SAFETY: PostgreSQL walks a well-formed tree.
    let Some(seen) = (unsafe { Node::from_ptr(node) }) else { return false };
    match visit(seen) {
        Walk::Stop => true,
        Walk::Skip => false,
        // SAFETY: PostgreSQL calls the walker with nodes and our context.
        Walk::Descend => unsafe { pg_sys::expression_tree_walker(node, Some(walk_step), context) },
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn rewrite_step(node: *mut pg_sys::Node, context: *mut c_void) -> *mut pg_sys::Node {
    // SAFETY: as in `walk_step`.
    let replace = unsafe { &mut *context.cast::<&mut dyn FnMut(Node<'_>) -> Option<Node<'_>>>() };
    // SAFETY: as in `walk_step`.
    let Some(seen) = (unsafe { Node::from_ptr(node) }) else { return node };
    if let Some(other) = replace(seen) {
        return other.as_ptr();
    }
    // SAFETY: as in `walk_step`.
    unsafe {
        type Step = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;
        type Untyped = unsafe extern "C-unwind" fn() -> *mut pg_sys::Node;
        // PostgreSQL declares the mutator without a prototype.
        let step = std::mem::transmute::<Step, Untyped>(rewrite_step);
        pg_sys::expression_tree_mutator(node, Some(step), context)
    }
}

/// A call of a built-in function.
pub fn call<'p>(function: u32, result: Oid, args: &[Node<'p>]) -> Node<'p> {
    let args = make_list(args.iter().copied());
    // SAFETY: makeFuncExpr allocates a new node or raises an error.
    unsafe {
        let made = pg_sys::makeFuncExpr(
            Oid::from(function),
            result,
            args,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        );
        Node(NonNull::new_unchecked(made.cast()), PhantomData)
    }
}
