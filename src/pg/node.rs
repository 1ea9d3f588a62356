//! A read-only view of PostgreSQL's expression trees, so that translation needs no `unsafe`.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use pgrx::pg_sys::{self, Datum, NodeTag, Oid};
use pgrx::prelude::*;

use super::array;
use super::list::pointers;
use super::lookup;

/// An expression of the planner or of a plan. `'p`: its memory lives as long as the planning step or
/// the executor state that it was taken from.
#[derive(Clone, Copy)]
pub struct Node<'p>(NonNull<pg_sys::Node>, PhantomData<&'p pg_sys::Node>);

/// `aggkind` of a plain aggregate (`pg_aggregate.h`).
const AGGKIND_NORMAL: std::ffi::c_char = b'n' as std::ffi::c_char;

/// What `walk` does after a node was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    Descend,
    Skip,
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoolKind {
    And,
    Or,
    Not,
}

/// An operator call; `= ANY (array)` too.
pub struct OpView<'p> {
    pub operator: Oid,
    /// The collation that the operator uses.
    pub collation: Oid,
    pub args: Vec<Node<'p>>,
}

pub struct FuncView<'p> {
    pub function: Oid,
    /// The collation that the function uses.
    pub collation: Oid,
    pub args: Vec<Node<'p>>,
}

#[derive(Clone, Copy)]
pub struct VarView {
    pub relation: u32,
    pub attribute: i16,
    pub levels_up: u32,
}

pub struct AggregateView<'p> {
    pub function: Oid,
    pub collation: Oid,
    /// What is aggregated, and what it is ordered by.
    pub args: Vec<Node<'p>>,
    /// Direct arguments of ordered-set aggregates.
    pub direct: Vec<Node<'p>>,
    pub filter: Option<Node<'p>>,
    pub distinct: bool,
    pub ordered: bool,
    /// The operators that it is ordered by.
    pub order_operators: Vec<Oid>,
    /// Computed whole in one step at this query level.
    pub whole: bool,
    /// A plain aggregate that is.
    pub simple: bool,
}

/// The kinds of nodes that translation knows.
pub enum View<'p> {
    Var(VarView),
    Const {
        null: bool,
        value: Datum,
    },
    Param,
    /// The place of a column in an expression that is evaluated per distinct value.
    Placeholder,
    Relabel(Node<'p>),
    /// A cast by a type's text form.
    IoCast(Node<'p>),
    Op(OpView<'p>),
    Distinct(OpView<'p>),
    ArrayOp {
        op: OpView<'p>,
        or: bool,
    },
    Func(FuncView<'p>),
    Bool(BoolKind, Vec<Node<'p>>),
    NullTest {
        arg: Node<'p>,
        is_null: bool,
        row: bool,
    },
    BooleanTest {
        arg: Node<'p>,
        test: pg_sys::BoolTestType::Type,
    },
    Aggregate(AggregateView<'p>),
    /// CASE; with `arg`, the conditions hold a placeholder for it.
    Case {
        arg: Option<Node<'p>>,
        whens: Vec<(Node<'p>, Node<'p>)>,
        otherwise: Option<Node<'p>>,
    },
    Coalesce(Vec<Node<'p>>),
    /// GREATEST or LEAST.
    MinMax {
        greatest: bool,
        args: Vec<Node<'p>>,
    },
    NullIf(OpView<'p>),
    /// `<`, `<=`, `>=` or `>` of rows.
    RowCompare(RowCompareView<'p>),
    /// `GROUPING()` of grouping columns at this query level, by their sort and group references.
    Grouping(Vec<u32>),
    Other,
}

pub struct RowCompareView<'p> {
    /// A btree strategy.
    strategy: u32,
    operators: Vec<Oid>,
    families: Vec<Oid>,
    collations: Vec<Oid>,
    left: Vec<Node<'p>>,
    right: Vec<Node<'p>>,
}

impl<'p> RowCompareView<'p> {
    pub fn len(&self) -> usize {
        self.operators.len().min(self.left.len()).min(self.right.len())
    }

    /// The comparison of pair `nth` by the rows' operator or, if `equal`, by equality; `strict`: by `<` for `<=`. `negated`: by the
    /// operator that is true where the rows' one is false.
    pub fn pair(&self, nth: usize, negated: bool, strict: bool, equal: bool) -> Option<Node<'p>> {
        let strategy = match (self.strategy, negated) {
            (s, false) => s,
            (1, true) => 4,
            (2, true) => 5,
            (4, true) => 1,
            (_, true) => 2,
        };
        let strategy = match strategy {
            _ if equal => 3,
            2 if strict => 1,
            4 if strict => 5,
            s => s,
        };
        // SAFETY: catalog lookups by the expression's own operators; makeNode allocates or raises an error.
        unsafe {
            let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::op_input_types(*self.operators.get(nth)?, &mut left, &mut right);
            let operator = pg_sys::get_opfamily_member(*self.families.get(nth)?, left, right, strategy as i16);
            if operator == pg_sys::InvalidOid {
                return None;
            }
            let made = pg_sys::make_opclause(
                operator,
                pg_sys::BOOLOID,
                false,
                self.left.get(nth)?.as_ptr().cast(),
                self.right.get(nth)?.as_ptr().cast(),
                pg_sys::InvalidOid,
                *self.collations.get(nth)?,
            );
            pg_sys::set_opfuncid(made.cast());
            Node::from_ptr(made)
        }
    }
}

/// # Safety
/// `list` is null or a list of OIDs.
unsafe fn oids(list: *mut pg_sys::List) -> Vec<Oid> {
    // SAFETY: the caller's contract.
    unsafe {
        match list.as_ref() {
            None => Vec::new(),
            Some(list) => (0..list.length as usize).map(|i| (*list.elements.add(i)).oid_value).collect(),
        }
    }
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

    pub fn view(self) -> View<'p> {
        let node = self.as_ptr();
        // SAFETY: the tag says which struct the node is; its fields are well-formed expressions or lists of them.
        unsafe {
            match self.tag() {
                NodeTag::T_Var => {
                    let v = &*node.cast::<pg_sys::Var>();
                    View::Var(VarView { relation: v.varno as u32, attribute: v.varattno, levels_up: v.varlevelsup })
                }
                NodeTag::T_Const => {
                    let c = &*node.cast::<pg_sys::Const>();
                    View::Const { null: c.constisnull, value: c.constvalue }
                }
                NodeTag::T_Param => View::Param,
                NodeTag::T_CaseTestExpr => View::Placeholder,
                NodeTag::T_RelabelType => match Node::from_ptr((*node.cast::<pg_sys::RelabelType>()).arg) {
                    Some(arg) => View::Relabel(arg),
                    None => View::Other,
                },
                NodeTag::T_CoerceViaIO => match Node::from_ptr((*node.cast::<pg_sys::CoerceViaIO>()).arg) {
                    Some(arg) => View::IoCast(arg),
                    None => View::Other,
                },
                NodeTag::T_OpExpr => View::Op(op_view(node.cast())),
                NodeTag::T_DistinctExpr => View::Distinct(op_view(node.cast())),
                NodeTag::T_ScalarArrayOpExpr => {
                    let s = &*node.cast::<pg_sys::ScalarArrayOpExpr>();
                    let op = OpView { operator: s.opno, collation: s.inputcollid, args: list(s.args) };
                    View::ArrayOp { op, or: s.useOr }
                }
                NodeTag::T_FuncExpr => {
                    let f = &*node.cast::<pg_sys::FuncExpr>();
                    View::Func(FuncView { function: f.funcid, collation: f.inputcollid, args: list(f.args) })
                }
                NodeTag::T_BoolExpr => {
                    let b = &*node.cast::<pg_sys::BoolExpr>();
                    let kind = match b.boolop {
                        pg_sys::BoolExprType::AND_EXPR => BoolKind::And,
                        pg_sys::BoolExprType::OR_EXPR => BoolKind::Or,
                        _ => BoolKind::Not,
                    };
                    View::Bool(kind, list(b.args))
                }
                NodeTag::T_NullTest => {
                    let t = &*node.cast::<pg_sys::NullTest>();
                    match Node::from_ptr(t.arg) {
                        Some(arg) => View::NullTest {
                            arg,
                            is_null: t.nulltesttype == pg_sys::NullTestType::IS_NULL,
                            row: t.argisrow,
                        },
                        None => View::Other,
                    }
                }
                NodeTag::T_BooleanTest => {
                    let t = &*node.cast::<pg_sys::BooleanTest>();
                    match Node::from_ptr(t.arg) {
                        Some(arg) => View::BooleanTest { arg, test: t.booltesttype },
                        None => View::Other,
                    }
                }
                NodeTag::T_Aggref => View::Aggregate(aggregate_view(node.cast())),
                NodeTag::T_CaseExpr => {
                    let c = &*node.cast::<pg_sys::CaseExpr>();
                    let whens = pointers::<pg_sys::CaseWhen>(c.args).into_iter();
                    View::Case {
                        arg: Node::from_ptr(c.arg),
                        whens: whens
                            .filter_map(|w| Node::from_ptr((*w).expr).zip(Node::from_ptr((*w).result)))
                            .collect(),
                        otherwise: Node::from_ptr(c.defresult),
                    }
                }
                NodeTag::T_CoalesceExpr => View::Coalesce(list((*node.cast::<pg_sys::CoalesceExpr>()).args)),
                NodeTag::T_MinMaxExpr => {
                    let m = &*node.cast::<pg_sys::MinMaxExpr>();
                    View::MinMax { greatest: m.op == pg_sys::MinMaxOp::IS_GREATEST, args: list(m.args) }
                }
                NodeTag::T_RowCompareExpr => {
                    let r = &*node.cast::<pg_sys::RowCompareExpr>();
                    View::RowCompare(RowCompareView {
                        strategy: r.rctype,
                        operators: oids(r.opnos),
                        families: oids(r.opfamilies),
                        collations: oids(r.inputcollids),
                        left: list(r.largs),
                        right: list(r.rargs),
                    })
                }
                NodeTag::T_NullIfExpr => View::NullIf(op_view(node.cast())),
                NodeTag::T_GroupingFunc => {
                    let g = &*node.cast::<pg_sys::GroupingFunc>();
                    if g.agglevelsup != 0 {
                        return View::Other;
                    }
                    View::Grouping(super::list::integers(g.refs).into_iter().map(|r| r as u32).collect())
                }
                _ => View::Other,
            }
        }
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

    /// An aggregate call without its FILTER; its other parts are shared.
    pub fn without_filter(self) -> Node<'p> {
        if self.tag() != NodeTag::T_Aggref {
            return self;
        }
        // SAFETY: an Aggref is copied into memory of its size.
        unsafe {
            let copy = pg_sys::palloc0(size_of::<pg_sys::Aggref>()).cast::<pg_sys::Aggref>();
            copy.copy_from_nonoverlapping(self.as_ptr().cast(), 1);
            (*copy).aggfilter = std::ptr::null_mut();
            Node(NonNull::new_unchecked(copy.cast()), PhantomData)
        }
    }

    /// A copy with `value` in place of the placeholder that a CASE with an argument holds in its conditions.
    pub fn with_case_value(self, value: Node<'p>) -> Node<'p> {
        self.rewrite(&mut |node| match node.view() {
            View::Placeholder => Some(value),
            // An inner CASE has placeholders of its own.
            View::Case { arg: Some(_), .. } => Some(node),
            _ => None,
        })
    }

    /// `IS NULL` of this, or `IS NOT NULL`.
    pub fn null_test(self, null: bool) -> Node<'p> {
        // SAFETY: palloc0 returns zeroed memory of the size asked for, or raises an error.
        unsafe {
            let test = pg_sys::palloc0(size_of::<pg_sys::NullTest>()).cast::<pg_sys::NullTest>();
            (*test).xpr.type_ = NodeTag::T_NullTest;
            (*test).arg = self.as_ptr().cast();
            (*test).nulltesttype = if null { pg_sys::NullTestType::IS_NULL } else { pg_sys::NullTestType::IS_NOT_NULL };
            (*test).location = -1;
            Node(NonNull::new_unchecked(test.cast()), PhantomData)
        }
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

    /// A copy of a column that is column `attribute` of `relation`.
    pub fn as_column(self, relation: u32, attribute: i16) -> Node<'p> {
        // SAFETY: makeVar allocates a new node or raises an error.
        unsafe {
            let made = pg_sys::makeVar(relation as _, attribute, self.ty(), self.typmod(), self.collation(), 0);
            Node(NonNull::new_unchecked(made.cast()), PhantomData)
        }
    }

    /// The comparison that a NULLIF makes.
    pub fn nullif_comparison(self) -> Node<'p> {
        // SAFETY: a NullIfExpr is the same struct as an OpExpr; the copy is allocated and filled here.
        unsafe {
            let copy = pg_sys::copyObjectImpl(self.as_ptr().cast()).cast::<pg_sys::OpExpr>();
            (*copy).xpr.type_ = NodeTag::T_OpExpr;
            (*copy).opresulttype = pg_sys::BOOLOID;
            Node(NonNull::new_unchecked(copy.cast()), PhantomData)
        }
    }

    /// A placeholder for values of this.
    pub fn as_placeholder(self) -> Node<'p> {
        placeholder(self)
    }

    /// A copy of an operator, `= ANY` or test in which a placeholder stands for argument `argument`.
    pub fn with_placeholder_argument(self, argument: Node<'p>) -> Node<'p> {
        self.rewrite(&mut |node| (node.as_ptr() == argument.as_ptr()).then(|| placeholder(node)))
    }

    /// A copy with every column of `relation` replaced by the placeholder of `evaluate`'s input.
    pub fn with_placeholder(self, relation: u32) -> Node<'p> {
        self.rewrite(&mut |node| match node.view() {
            View::Var(v) if v.relation == relation && v.levels_up == 0 => Some(placeholder(node)),
            _ => None,
        })
    }

    /// A copy with the columns `attributes` of `relation` replaced by the fields of the placeholder, which stands for a row of them.
    pub fn with_row_placeholder(self, relation: u32, attributes: &[i16]) -> Node<'p> {
        self.rewrite(&mut |node| match node.view() {
            View::Var(v) if v.relation == relation && v.levels_up == 0 => {
                let place = attributes.iter().position(|a| *a == v.attribute)?;
                // SAFETY: palloc0 returns zeroed memory of the sizes asked for, or raises an error.
                unsafe {
                    let field = pg_sys::palloc0(size_of::<pg_sys::FieldSelect>()).cast::<pg_sys::FieldSelect>();
                    (*field).xpr.type_ = NodeTag::T_FieldSelect;
                    (*field).arg = placeholder_of(pg_sys::RECORDOID, -1, pg_sys::InvalidOid).as_ptr().cast();
                    (*field).fieldnum = place as i16 + 1;
                    (*field).resulttype = node.ty();
                    (*field).resulttypmod = node.typmod();
                    (*field).resultcollid = node.collation();
                    Some(Node(NonNull::new_unchecked(field.cast()), PhantomData))
                }
            }
            _ => None,
        })
    }

    /// The reverse, for people to read: column `attribute` of `relation` in place of the placeholder.
    pub fn with_column(self, relation: u32, attribute: i16) -> Node<'p> {
        self.rewrite(&mut |node| match node.view() {
            View::Placeholder => {
                // SAFETY: a placeholder is a CaseTestExpr.
                let p = unsafe { &*node.as_ptr().cast::<pg_sys::CaseTestExpr>() };
                // SAFETY: makeVar allocates a new node or raises an error.
                unsafe {
                    Node::from_ptr(pg_sys::makeVar(relation as _, attribute, p.typeId, p.typeMod, p.collation, 0))
                }
            }
            _ => None,
        })
    }
}

fn placeholder<'p>(var: Node<'p>) -> Node<'p> {
    placeholder_of(var.ty(), var.typmod(), var.collation())
}

fn placeholder_of<'p>(ty: Oid, typmod: i32, collation: Oid) -> Node<'p> {
    // SAFETY: palloc0 returns zeroed memory of the size asked for, or raises an error.
    unsafe {
        let p = pg_sys::palloc0(size_of::<pg_sys::CaseTestExpr>()).cast::<pg_sys::CaseTestExpr>();
        (*p).xpr.type_ = NodeTag::T_CaseTestExpr;
        (*p).typeId = ty;
        (*p).typeMod = typmod;
        (*p).collation = collation;
        Node(NonNull::new_unchecked(p.cast()), PhantomData)
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

/// # Safety
/// `op` is an OpExpr, or of a struct like it, that lives for `'p`.
unsafe fn op_view<'p>(op: *mut pg_sys::OpExpr) -> OpView<'p> {
    // SAFETY: the caller saw the tag of an OpExpr or of a DistinctExpr, which is the same struct.
    unsafe { OpView { operator: (*op).opno, collation: (*op).inputcollid, args: list((*op).args) } }
}

/// # Safety
/// `a` is an Aggref that lives for `'p`.
unsafe fn aggregate_view<'p>(a: *mut pg_sys::Aggref) -> AggregateView<'p> {
    // SAFETY: the caller saw the tag of an Aggref; `args` are TargetEntries.
    unsafe {
        let a = &*a;
        let args =
            pointers::<pg_sys::TargetEntry>(a.args).into_iter().filter_map(|t| Node::from_ptr((*t).expr)).collect();
        let whole = a.agglevelsup == 0 && a.aggsplit == pg_sys::AggSplit::AGGSPLIT_SIMPLE;
        AggregateView {
            function: a.aggfnoid,
            collation: a.inputcollid,
            args,
            filter: Node::from_ptr(a.aggfilter),
            distinct: !a.aggdistinct.is_null(),
            ordered: !a.aggorder.is_null(),
            order_operators: pointers::<pg_sys::SortGroupClause>(a.aggorder).iter().map(|c| (**c).sortop).collect(),
            direct: list(a.aggdirectargs),
            whole,
            simple: whole && a.aggkind == AGGKIND_NORMAL && !a.aggvariadic,
        }
    }
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
