//! What may be pushed into the engine, and why not: every rule about operators, types and collations is here.

use basalt_engine::types::{LogicalType, Physical};
use pgrx::pg_sys::{self, Oid};

use super::template::{Comparison, Domain};
use crate::pg::collation::is_byte_order;
use crate::pg::node::{AggregateView, Node, View};
use crate::pg::{lookup, types};

/// Why something stays with PostgreSQL, in words for EXPLAIN.
pub type Reason = String;

/// Operator families that have no symbol in PostgreSQL's headers (`pg_opfamily.dat`).
const NUMERIC_BTREE_FAMILY: Oid = Oid::from_u32(1988);
const FLOAT_BTREE_FAMILY: Oid = Oid::from_u32(1970);
const DATETIME_BTREE_FAMILY: Oid = Oid::from_u32(434);
const UUID_BTREE_FAMILY: Oid = Oid::from_u32(2968);

/// Digits beyond which a sum over a table of any size might not fit 128 bits.
const MAX_SUM_PRECISION: u8 = 28;

/// A column, with the exact casts around it that keep its order and equality.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColumnSide {
    pub attribute: i16,
    cast: Cast,
}

impl ColumnSide {
    /// A column that is computed as it is compared.
    pub const PLAIN: ColumnSide = ColumnSide { attribute: 0, cast: Cast::Plain };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cast {
    /// None, or to a type of the same values and order.
    Plain,
    IntegerToNumeric,
    /// From int2 or int4.
    IntegerToFloat8,
}

/// The column of `relation` that an operand is.
pub fn column_side(node: Node<'_>, relation: u32) -> Option<ColumnSide> {
    match node.view() {
        View::Var(v) if v.relation == relation && v.levels_up == 0 && v.attribute > 0 => {
            Some(ColumnSide { attribute: v.attribute, cast: Cast::Plain })
        }
        View::Relabel(arg) => column_side(arg, relation),
        View::Func(f) if f.args.len() == 1 => {
            let cast = match f.function.to_u32() {
                pg_sys::F_NUMERIC_INT2 | pg_sys::F_NUMERIC_INT4 | pg_sys::F_NUMERIC_INT8 => Cast::IntegerToNumeric,
                pg_sys::F_FLOAT8_INT2 | pg_sys::F_FLOAT8_INT4 => Cast::IntegerToFloat8,
                pg_sys::F_INT4_INT2 | pg_sys::F_INT8_INT2 | pg_sys::F_INT8_INT4 | pg_sys::F_FLOAT8_FLOAT4 => {
                    Cast::Plain
                }
                _ => return None,
            };
            let inner = column_side(f.args[0], relation)?;
            // A cast of a cast: only widening ones may stand inside.
            (inner.cast == Cast::Plain).then_some(ColumnSide { cast, ..inner })
        }
        _ => None,
    }
}

/// What comparing a column natively means, if the engine's order or equality is the operator's. `operand`: type of the other side.
pub fn comparison(
    ty: LogicalType,
    side: ColumnSide,
    operator: Oid,
    operand: Oid,
    collation: Oid,
) -> Option<(Comparison, Domain)> {
    if ty == LogicalType::Text && side.cast == Cast::Plain {
        let like = match lookup::operator_function(operator).to_u32() {
            pg_sys::F_TEXTLIKE => Some(Comparison::Like),
            pg_sys::F_TEXTNLIKE => Some(Comparison::NotLike),
            _ => None,
        };
        if let Some(like) = like {
            return lookup::is_deterministic(collation).then_some((like, Domain::Bytes));
        }
    }
    let (family, domain) = native_family(ty, side.cast, operand)?;
    let op = family_comparison(operator, family)?;
    if ty == LogicalType::Text {
        let equality = matches!(op, Comparison::Eq | Comparison::Ne);
        if !(if equality { lookup::is_deterministic(collation) } else { is_byte_order(collation) }) {
            return None;
        }
    }
    Some((op, domain))
}

/// What comparing two numbers, or two times of one type, with each other means.
pub fn number_comparison(operator: Oid, left: Oid, right: Oid) -> Option<Comparison> {
    let (left, right) = (types::base_type(left, -1).0, types::base_type(right, -1).0);
    let family = |ty| match ty {
        pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Some(pg_sys::INTEGER_BTREE_FAM_OID),
        pg_sys::NUMERICOID => Some(NUMERIC_BTREE_FAMILY),
        pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => Some(FLOAT_BTREE_FAMILY),
        pg_sys::BOOLOID => Some(pg_sys::BOOL_BTREE_FAM_OID),
        pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID if left == right => Some(DATETIME_BTREE_FAMILY),
        _ => None,
    };
    let of = family(left)?;
    if family(right)? == of { family_comparison(operator, of) } else { None }
}

/// Equality or inequality, if the operator is that of the operands' one type.
pub fn equality_operator(operator: Oid, left: Oid, right: Oid) -> Option<Comparison> {
    let equality = lookup::equality(left).filter(|_| left == right)?;
    match () {
        () if operator == equality => Some(Comparison::Eq),
        () if lookup::negator(operator) == Some(equality) => Some(Comparison::Ne),
        () => None,
    }
}

/// The operator family whose order is the stored values' order, given the type of the other operand.
fn native_family(ty: LogicalType, cast: Cast, operand: Oid) -> Option<(Oid, Domain)> {
    use LogicalType::*;
    let integer = matches!(operand, pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID);
    let float = matches!(operand, pg_sys::FLOAT4OID | pg_sys::FLOAT8OID);
    let (family, domain) = match (ty, cast) {
        (Int2 | Int4 | Int8, Cast::Plain) if integer => (pg_sys::INTEGER_BTREE_FAM_OID, Domain::Integer),
        (Int2 | Int4 | Int8, Cast::IntegerToNumeric) if operand == pg_sys::NUMERICOID => {
            (NUMERIC_BTREE_FAMILY, Domain::Decimal { scale: 0, nan: false })
        }
        (Int2 | Int4, Cast::IntegerToFloat8) if operand == pg_sys::FLOAT8OID => {
            (FLOAT_BTREE_FAMILY, Domain::IntegerAsFloat)
        }
        (Float4 | Float8, Cast::Plain) if float => (FLOAT_BTREE_FAMILY, Domain::Float),
        (Numeric { scale, .. }, Cast::Plain) if operand == pg_sys::NUMERICOID => {
            (NUMERIC_BTREE_FAMILY, Domain::Decimal { scale, nan: true })
        }
        (Bool, Cast::Plain) if operand == pg_sys::BOOLOID => (pg_sys::BOOL_BTREE_FAM_OID, Domain::Integer),
        (Date, Cast::Plain) if matches!(operand, pg_sys::DATEOID | pg_sys::TIMESTAMPOID) => {
            (DATETIME_BTREE_FAMILY, Domain::Time)
        }
        (Timestamp, Cast::Plain) if matches!(operand, pg_sys::TIMESTAMPOID | pg_sys::DATEOID) => {
            (DATETIME_BTREE_FAMILY, Domain::Time)
        }
        (TimestampTz, Cast::Plain)
            if matches!(operand, pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID | pg_sys::DATEOID) =>
        {
            (DATETIME_BTREE_FAMILY, Domain::Time)
        }
        (Text, Cast::Plain) if matches!(operand, pg_sys::TEXTOID | pg_sys::VARCHAROID) => {
            (pg_sys::TEXT_BTREE_FAM_OID, Domain::Bytes)
        }
        (Uuid, Cast::Plain) if operand == pg_sys::UUIDOID => (UUID_BTREE_FAMILY, Domain::Bytes),
        (Bytea, Cast::Plain) if operand == pg_sys::BYTEAOID => (pg_sys::BYTEA_BTREE_FAM_OID, Domain::Bytes),
        _ => return None,
    };
    Some((family, domain))
}

/// The direction in which an ORDER BY term goes through the stored order of a type; `None`: its operator has another order.
pub fn sort_direction(ty: LogicalType, operator: Oid, collation: Oid) -> Option<bool> {
    use LogicalType::*;
    let operand = match ty {
        Bool => pg_sys::BOOLOID,
        Int2 | Int4 | Int8 => pg_sys::INT8OID,
        Float4 | Float8 => pg_sys::FLOAT8OID,
        Numeric { .. } => pg_sys::NUMERICOID,
        Date => pg_sys::DATEOID,
        Timestamp => pg_sys::TIMESTAMPOID,
        TimestampTz => pg_sys::TIMESTAMPTZOID,
        Text if is_byte_order(collation) => pg_sys::TEXTOID,
        Uuid => pg_sys::UUIDOID,
        Bytea => pg_sys::BYTEAOID,
        _ => return None,
    };
    let (family, _) = native_family(ty, Cast::Plain, operand)?;
    match lookup::btree_strategy(operator, family)? {
        1 => Some(false),
        5 => Some(true),
        _ => None,
    }
}

fn family_comparison(operator: Oid, family: Oid) -> Option<Comparison> {
    use Comparison::*;
    let of = |strategy| match strategy {
        1 => Some(Lt),
        2 => Some(Le),
        3 => Some(Eq),
        4 => Some(Ge),
        5 => Some(Gt),
        _ => None,
    };
    if let Some(strategy) = lookup::btree_strategy(operator, family) {
        return of(strategy);
    }
    let negated = lookup::btree_strategy(lookup::negator(operator)?, family)?;
    of(negated).map(Comparison::negate)
}

/// Whether a test of one column may be evaluated by PostgreSQL on the column's distinct values. `Ok(null_too)`. `numbers`: also where
/// values hardly repeat, which pays only if no row has to be handed out.
pub fn host_test(node: Node<'_>, ty: LogicalType, numbers: bool) -> Result<bool, Reason> {
    if ty.physical() != Physical::Bytes && !numbers {
        return Err("the operator is not native to the column's type".into());
    }
    evaluable(node)?;
    Ok(node.is_nonstrict())
}

/// Whether an expression may be evaluated apart from the row that it belongs to.
pub fn evaluable(node: Node<'_>) -> Result<(), Reason> {
    if node.is_volatile() {
        return Err("it is volatile".into());
    }
    if node.has_subplan() {
        return Err("it contains a subquery".into());
    }
    if node.returns_set() {
        return Err("it returns a set".into());
    }
    let unfit = node.any(&mut |n| match n.view() {
        View::Placeholder | View::Aggregate(_) => true,
        View::Var(v) => v.levels_up != 0 || v.attribute <= 0,
        _ => matches!(
            n.tag(),
            pg_sys::NodeTag::T_WindowFunc
                | pg_sys::NodeTag::T_PlaceHolderVar
                | pg_sys::NodeTag::T_GroupingFunc
                | pg_sys::NodeTag::T_CurrentOfExpr
        ),
    });
    if unfit { Err("the expression is not one that can be evaluated on its own".into()) } else { Ok(()) }
}

/// Attributes of `relation` that an aggregate call reads (those of its FILTER only if `filter`), where PostgreSQL can compute it from the
/// distinct combinations of their values.
pub fn foldable(node: Node<'_>, call: &AggregateView<'_>, relation: u32, filter: bool) -> Result<Vec<i16>, Reason> {
    if !call.whole {
        return Err("it is not computed in one step".into());
    }
    if node.is_volatile() {
        return Err("it is volatile".into());
    }
    let mut attributes = Vec::new();
    for part in call.args.iter().chain(call.filter.iter().filter(|_| filter)) {
        let mut reason = None;
        part.any(&mut |n| {
            if let View::Var(v) = n.view() {
                if v.relation != relation || v.levels_up != 0 {
                    reason = Some("it refers to another table");
                } else if v.attribute <= 0 {
                    reason = Some("it uses a system column or the whole row");
                }
                attributes.push(v.attribute);
            }
            false
        });
        if let Some(reason) = reason {
            return Err(reason.into());
        }
        evaluable(*part)?;
    }
    for part in &call.direct {
        evaluable(*part)?;
        if part.any(&mut |n| matches!(n.view(), View::Var(_))) {
            return Err("its direct argument is a grouping column".into());
        }
    }
    attributes.sort_unstable();
    attributes.dedup();
    Ok(attributes)
}

/// Whether an aggregate's result is the same however often a value occurs.
pub fn ignores_repetition(call: &AggregateView<'_>) -> bool {
    call.distinct
        || matches!(
            lookup::function_name(call.function).as_str(),
            "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or"
        ) && lookup::is_built_in(call.function)
}

/// Whether equal bytes (or stored numbers) are SQL equality, so that rows may be grouped or told apart by them.
pub fn equality(ty: LogicalType, declared: Oid, collation: Oid) -> Result<(), Reason> {
    use LogicalType::*;
    match ty {
        Bool
        | Int2
        | Int4
        | Int8
        | Float4
        | Float8
        | Numeric { .. }
        | Date
        | Timestamp
        | TimestampTz
        | Uuid
        | Inet
        | Bytea => Ok(()),
        Text | TextArray if lookup::is_deterministic(collation) => Ok(()),
        Text | TextArray => Err("its collation is not deterministic".into()),
        BpChar => Err("equality of type character ignores trailing blanks".into()),
        Jsonb => Err("equal jsonb values may differ in their text".into()),
        NumericText => {
            Err("equal numeric values may differ in their display scale; declare precision and scale".into())
        }
        Opaque if lookup::is_enum(declared) => Ok(()),
        Opaque => Err(format!("type {} is not known to the engine", lookup::type_name(declared))),
    }
}

/// How min and max compare: `None`: as stored, else by the collation.
pub fn extremum_order(ty: LogicalType, declared: Oid, collation: Oid) -> Result<Option<Oid>, Reason> {
    use LogicalType::*;
    match ty {
        Int2 | Int4 | Int8 | Float4 | Float8 | Numeric { .. } | Date | Timestamp | TimestampTz => Ok(None),
        Text if is_byte_order(collation) => Ok(None),
        Text if lookup::is_deterministic(collation) => Ok(Some(collation)),
        Text => Err("its collation is not deterministic".into()),
        _ => Err(format!("the order of type {} is not known to the engine", lookup::type_name(declared))),
    }
}

/// Scale of a sum over the column, if it cannot outgrow 128 bits.
pub fn sum_scale(ty: LogicalType) -> Result<u8, Reason> {
    match ty {
        LogicalType::Int2 | LogicalType::Int4 | LogicalType::Int8 => Ok(0),
        LogicalType::Numeric { precision, scale } if precision <= MAX_SUM_PRECISION => Ok(scale),
        LogicalType::Numeric { precision, .. } => Err(format!(
            "sums of numeric({precision}, ...) may exceed 128 bits; up to {MAX_SUM_PRECISION} digits are pushed"
        )),
        LogicalType::NumericText => Err("numeric without precision and scale is stored as text".into()),
        _ => Err("the column's type is not summed by the engine".into()),
    }
}
