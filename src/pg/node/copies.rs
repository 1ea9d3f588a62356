//! Copies of expressions with something else in a node's place.

use std::marker::PhantomData;
use std::ptr::NonNull;

use pgrx::pg_sys::{self, NodeTag, Oid};

use super::{Node, View};

impl<'p> Node<'p> {
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
