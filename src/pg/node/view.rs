//! What an expression's nodes are.

use pgrx::pg_sys::{self, Datum, NodeTag, Oid};

use super::{Node, list};
use crate::pg::list::{integers, pointers};

/// `aggkind` of a plain aggregate (`pg_aggregate.h`).
const AGGKIND_NORMAL: std::ffi::c_char = b'n' as std::ffi::c_char;
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
                    View::Grouping(integers(g.refs).into_iter().map(|r| r as u32).collect())
                }
                _ => View::Other,
            }
        }
    }
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
