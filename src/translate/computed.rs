//! Expressions over numbers and times into columns that the engine computes.

use basalt_engine::decimal::power_of_ten;
use basalt_engine::plan::{Expr, Function, Lane, Limits, Number, Operator, Rounding, either, within};
use basalt_engine::types::{LogicalType, Physical};
use pgrx::pg_sys::{self, Oid};

use super::builder::{Builder, SEVERAL_COLUMNS};
use super::shippable::{self, Reason};
use super::template::{ConstantTemplate, ExprTemplate, FilterTemplate, Leaf, LeafTest};
use super::typed::{Kind, MAX_SCALE, Typed, aligned, arithmetic, binary, digits, malformed, rounded, scaled};
use crate::pg::node::{FuncView, Node, OpView, View};
use crate::pg::{lookup, types, values};

/// A computed column of a plan.
pub struct Column {
    pub position: usize,
    pub ty: LogicalType,
    /// The column that holds how many decimals its values show, if they differ.
    pub decimals: Option<usize>,
}

impl<'p> Builder<'p, '_> {
    /// A column of the plan that holds the values of `node`. On failure nothing was added.
    pub fn computed(&mut self, node: Node<'p>) -> Result<Column, Reason> {
        let mark = self.mark();
        let result = self.native(node).and_then(|typed| self.add_computed(node, typed));
        if result.is_err() {
            self.reset(mark);
        }
        result
    }

    /// A column of the plan that holds a boolean of several columns.
    pub fn computed_boolean(&mut self, node: Node<'p>) -> Result<usize, Reason> {
        let typed = match node.view() {
            View::Op(op) => self.comparison(&op)?.ok_or(SEVERAL_COLUMNS)?,
            _ => self.native(node)?,
        };
        self.add_computed(node, typed).map(|column| column.position)
    }

    fn add_computed(&mut self, node: Node<'p>, typed: Typed) -> Result<Column, Reason> {
        let ty = match typed.kind {
            Kind::Bool => LogicalType::Bool,
            Kind::Int(Number::Int2) => LogicalType::Int2,
            Kind::Int(Number::Int4) => LogicalType::Int4,
            Kind::Int(_) => LogicalType::Int8,
            Kind::Float(Number::Float4) => LogicalType::Float4,
            Kind::Float(_) => LogicalType::Float8,
            Kind::Date => LogicalType::Date,
            Kind::Timestamp => LogicalType::Timestamp,
            Kind::TimestampTz => LogicalType::TimestampTz,
            Kind::Decimal { scale } => {
                let precision = digits(typed.limits).ok_or("its values may have more than 38 digits")?;
                LogicalType::Numeric { precision: precision.max(19).max(scale), scale }
            }
        };
        let position = self.computed_column(typed.expr, ty, Some(node));
        let decimals = typed.decimals.map(|decimals| {
            let not_null = FilterTemplate::Leaf(Leaf {
                column: position,
                expression: self.expression(node),
                negated: true,
                test: LeafTest::IsNull,
            });
            let expr =
                Expr::Case { lane: Lane::Int, whens: vec![(not_null, decimals)], otherwise: Box::new(Expr::Null) };
            self.computed_column(expr, LogicalType::Int4, None)
        });
        Ok(Column { position, ty, decimals })
    }

    fn native(&mut self, node: Node<'p>) -> Result<Typed, Reason> {
        let single = match node.view() {
            View::Var(_) => None,
            _ => self.single_column(node).ok().flatten(),
        };
        let Some(attribute) = single else {
            let mark = self.mark();
            let made = self.operation(node);
            return match made {
                Err(reason) if self.single_column(node).is_err() => {
                    self.reset(mark);
                    self.mapped_number(node).map_err(|_| reason)
                }
                made => made,
            };
        };
        // Fewer distinct values than rows: PostgreSQL's own function.
        if self.column(attribute)?.1.physical() == Physical::Bytes {
            return self.mapped_number(node);
        }
        let mark = self.mark();
        self.operation(node).or_else(|reason| {
            self.reset(mark);
            self.mapped_number(node).map_err(|_| reason)
        })
    }

    /// What PostgreSQL makes of each distinct value of the one column.
    fn mapped_number(&mut self, node: Node<'p>) -> Result<Typed, Reason> {
        let (column, ty) = self.mapped_value(node)?;
        let kind = Kind::of_type(ty).ok_or_else(|| not_computed(node.ty()))?;
        let limits = match ty {
            LogicalType::Numeric { precision, .. } => {
                let most = power_of_ten(precision) - 1;
                Some((-most, most))
            }
            _ => kind.limits(),
        };
        Ok(Typed { expr: Expr::Column(column), kind, limits, decimals: None })
    }

    fn operation(&mut self, node: Node<'p>) -> Result<Typed, Reason> {
        let typed = match node.view() {
            _ if !self.has_column(node)? => return self.constant(node),
            View::Var(v) => {
                let (column, ty) = self.column(v.attribute)?;
                let kind = Kind::of_type(ty).ok_or_else(|| not_computed(node.ty()))?;
                let limits = if kind.lane() == Lane::Float { None } else { self.limits(column).or(kind.limits()) };
                Typed { expr: Expr::Column(column), kind, limits, decimals: None }
            }
            View::Relabel(arg) => self.native(arg)?,
            View::Op(op) => match self.comparison(&op)? {
                Some(compared) => compared,
                None if node.ty() == pg_sys::BOOLOID => self.truth(node)?,
                None => {
                    let function = lookup::operator_function(op.operator);
                    let call = FuncView { function, collation: op.collation, args: op.args };
                    let name = lookup::operator_name(op.operator);
                    self.function(&call).map_err(|reason| format!("operator {name}: {reason}"))?
                }
            },
            View::Func(call) if node.ty() != pg_sys::BOOLOID => {
                let name = lookup::function_name(call.function);
                self.function(&call).map_err(|reason| format!("function {name}: {reason}"))?
            }
            View::Case { arg, whens, otherwise } => self.case(arg, whens, otherwise)?,
            View::Coalesce(args) => {
                let (arguments, kind, limits, decimals) = self.alike(&args, 1)?;
                let decimals = match decimals {
                    None => None,
                    Some(scales) => {
                        // As many decimals as the first that is not NULL shows.
                        let mut whens = Vec::new();
                        for (arg, scale) in args.iter().zip(scales) {
                            whens.push((self.null_filter(*arg, false)?, scale));
                        }
                        Some(Expr::Case { lane: Lane::Int, whens, otherwise: Box::new(Expr::Null) })
                    }
                };
                Typed { expr: Expr::Coalesce { lane: kind.lane(), arguments }, kind, limits, decimals }
            }
            View::MinMax { greatest, args } => {
                let (arguments, kind, limits, decimals) = self.alike(&args, args.len())?;
                if decimals.is_some() {
                    return Err("its arguments have different numbers of decimals".into());
                }
                Typed { expr: Expr::Extreme { lane: kind.lane(), greatest, arguments }, kind, limits, decimals: None }
            }
            View::NullIf(op) => {
                let Some(first) = op.args.first() else { return Err(malformed()) };
                let value = self.native(*first)?;
                let equal = self.filter(node.nullif_comparison())?;
                let whens = vec![(equal, Expr::Null)];
                let lane = value.kind.lane();
                Typed { expr: Expr::Case { lane, whens, otherwise: Box::new(value.expr) }, ..value }
            }
            _ if node.ty() == pg_sys::BOOLOID => self.truth(node)?,
            _ => return Err("the expression is not one that the engine computes".into()),
        };
        Ok(self.shared(typed))
    }

    /// In place of an expression, the computed column that is the same.
    fn shared(&self, typed: Typed) -> Typed {
        match self.find_computed(&typed.expr) {
            Some(column) => Typed { expr: Expr::Column(column), ..typed },
            None => typed,
        }
    }

    /// What has no column of the table: one value for the whole query.
    fn constant(&mut self, node: Node<'p>) -> Result<Typed, Reason> {
        shippable::evaluable(node)?;
        let kind = match types::base_type(node.ty(), -1).0 {
            pg_sys::NUMERICOID => match node.view() {
                View::Const { null: true, .. } => Kind::Decimal { scale: 0 },
                View::Const { null: false, value } => {
                    let scale = values::numeric_display_scale(value).and_then(|s| u8::try_from(s).ok());
                    let scale = scale.filter(|s| *s <= MAX_SCALE).ok_or("a constant has too many decimals")?;
                    Kind::Decimal { scale }
                }
                _ => return Err("how many decimals a numeric parameter has is not known while planning".into()),
            },
            _ => Kind::of_type(types::logical_type(node.ty(), node.typmod())).ok_or_else(|| not_computed(node.ty()))?,
        };
        if let View::Const { null: true, .. } = node.view() {
            return Ok(Typed { expr: Expr::Null, kind, limits: Some((0, 0)), decimals: None });
        }
        let limits = match (node.view(), kind) {
            (View::Const { value, .. }, Kind::Decimal { scale }) => match values::numeric_scaled(value, scale) {
                crate::pg::numeric::Scaled::Exact(v) => Some((v, v)),
                _ => return Err("a constant is too large".into()),
            },
            (View::Const { value, .. }, Kind::Int(_)) => {
                let value =
                    super::bind::integer(value, types::base_type(node.ty(), -1).0).map_err(|e| e.to_string())?;
                Some((i128::from(value), i128::from(value)))
            }
            _ => kind.limits(),
        };
        let expression = self.expression(node);
        let constant = match kind {
            Kind::Decimal { scale } => ConstantTemplate::Decimal { expression, scale },
            Kind::Float(_) => ConstantTemplate::Float { expression },
            _ => ConstantTemplate::Ordinal { expression },
        };
        Ok(Typed { expr: Expr::Constant(constant), kind, limits, decimals: None })
    }

    /// A boolean of conditions that are filters.
    fn truth(&mut self, node: Node<'p>) -> Result<Typed, Reason> {
        let (yes, no) = (self.test(node, false)?, self.test(node, true)?);
        Ok(Typed { expr: Expr::Truth { yes, no }, kind: Kind::Bool, limits: Some((0, 1)), decimals: None })
    }

    /// IS DISTINCT FROM, or not, between two numbers or times with columns.
    pub fn distinct_test(&mut self, node: Node<'p>, op: &OpView<'p>, negated: bool) -> Result<FilterTemplate, Reason> {
        let [left, right] = op.args.as_slice() else { return Err(malformed()) };
        let equal = self.comparison(op)?.ok_or(SEVERAL_COLUMNS)?;
        let column = self.add_computed(node, equal)?.position;
        let expression = self.expression(node.as_placeholder());
        let test = LeafTest::Bool { value: negated, or_null: false };
        let mut parts = vec![FilterTemplate::Leaf(Leaf { column, expression, negated: false, test })];
        let nulls: &[(bool, bool)] = if negated { &[(true, true)] } else { &[(true, false), (false, true)] };
        for (a, b) in nulls {
            parts.push(FilterTemplate::And(vec![self.null_filter(*left, *a)?, self.null_filter(*right, *b)?]));
        }
        Ok(FilterTemplate::Or(parts))
    }

    /// A comparison of two numbers or times, each of them with columns.
    fn comparison(&mut self, op: &OpView<'p>) -> Result<Option<Typed>, Reason> {
        let [left, right] = op.args.as_slice() else { return Ok(None) };
        let Some(comparison) = shippable::number_comparison(op.operator, left.ty(), right.ty()) else {
            return self.class_comparison(op);
        };
        let (left, right) = (self.native(*left)?, self.native(*right)?);
        let (left, right, lane) = aligned(left, right)?;
        let expr = Expr::Compare { comparison, lane, left: Box::new(left.expr), right: Box::new(right.expr) };
        Ok(Some(Typed { expr, kind: Kind::Bool, limits: Some((0, 1)), decimals: None }))
    }

    /// Equality of any type, by classes.
    fn class_comparison(&mut self, op: &OpView<'p>) -> Result<Option<Typed>, Reason> {
        let [left, right] = op.args.as_slice() else { return Ok(None) };
        let Some(comparison) = shippable::equality_operator(op.operator, left.ty(), right.ty()) else {
            return Ok(None);
        };
        if !self.has_column(*left)?
            || !self.has_column(*right)?
            || self.single_column(*left) == self.single_column(*right)
        {
            return Ok(None);
        }
        let class = self.add_class(left.ty(), op.collation);
        let (left, right) = (self.class_expr(*left, class)?, self.class_expr(*right, class)?);
        let expr = Expr::Compare { comparison, lane: Lane::Int, left: Box::new(left), right: Box::new(right) };
        Ok(Some(Typed { expr, kind: Kind::Bool, limits: Some((0, 1)), decimals: None }))
    }

    /// Condition `nth` of a CASE, which is evaluated where those before it are not true.
    pub fn case_condition(
        &mut self,
        nth: usize,
        arg: Option<Node<'p>>,
        when: Node<'p>,
    ) -> Result<FilterTemplate, Reason> {
        let when = arg.map_or(when, |arg| when.with_case_value(arg));
        let condition = if nth == 0 { self.filter(when) } else { self.conditionally(|b| b.filter(when)) };
        condition.map_err(|reason| format!("a condition of CASE: {reason}"))
    }

    fn case(
        &mut self,
        arg: Option<Node<'p>>,
        whens: Vec<(Node<'p>, Node<'p>)>,
        otherwise: Option<Node<'p>>,
    ) -> Result<Typed, Reason> {
        let mut conditions = Vec::with_capacity(whens.len());
        for (nth, (when, _)) in whens.iter().enumerate() {
            conditions.push(self.case_condition(nth, arg, *when)?);
        }
        let mut results: Vec<Node<'p>> = whens.iter().map(|(_, result)| *result).collect();
        results.extend(otherwise);
        let (mut arguments, kind, limits, decimals) = self.alike(&results, 0)?;
        let otherwise = if otherwise.is_some() { arguments.pop().ok_or_else(malformed)? } else { Expr::Null };
        let decimals = decimals.map(|mut scales| {
            let last = if scales.len() > conditions.len() { scales.pop() } else { None };
            let whens = conditions.iter().cloned().zip(scales).collect();
            Expr::Case { lane: Lane::Int, whens, otherwise: Box::new(last.unwrap_or(Expr::Null)) }
        });
        let whens = conditions.into_iter().zip(arguments).collect();
        Ok(Typed {
            expr: Expr::Case { lane: kind.lane(), whens, otherwise: Box::new(otherwise) },
            kind,
            limits,
            decimals,
        })
    }

    /// Expressions of one type, decimals with equally many digits behind the point. The scales that they show, if not all show the same.
    /// The first `always` of them are evaluated in every row.
    #[allow(clippy::type_complexity)]
    fn alike(
        &mut self,
        nodes: &[Node<'p>],
        always: usize,
    ) -> Result<(Vec<ExprTemplate>, Kind, Limits, Option<Vec<ExprTemplate>>), Reason> {
        let mut all = Vec::with_capacity(nodes.len());
        for (nth, node) in nodes.iter().enumerate() {
            all.push(if nth < always { self.native(*node)? } else { self.conditionally(|b| b.native(*node))? });
        }
        let shown = |typed: &Typed| match (&typed.decimals, &typed.expr) {
            (Some(decimals), _) => decimals.clone(),
            (None, Expr::Null) => Expr::Null,
            _ => Expr::Constant(ConstantTemplate::Integer(i64::from(typed.kind.scale()))),
        };
        let scales: Vec<ExprTemplate> = all.iter().map(shown).collect();
        let mut distinct: Vec<&ExprTemplate> = scales.iter().filter(|s| **s != Expr::Null).collect();
        distinct.dedup();
        let varying = distinct.len() > 1 || all.iter().any(|t| t.decimals.is_some());
        let first = all.iter().find(|t| t.expr != Expr::Null).or(all.first()).ok_or_else(malformed)?.kind;
        let kind = match first {
            Kind::Decimal { .. } => Kind::Decimal { scale: all.iter().map(|t| t.kind.scale()).max().unwrap_or(0) },
            other => other,
        };
        let mut limits = None;
        let mut exprs = Vec::with_capacity(all.len());
        for (nth, typed) in all.drain(..).enumerate() {
            if typed.kind.lane() != kind.lane() {
                return Err(malformed());
            }
            let typed = scaled(typed, kind.scale());
            limits = if nth == 0 { typed.limits } else { either(limits, typed.limits) };
            exprs.push(typed.expr);
        }
        Ok((exprs, kind, limits, varying.then_some(scales)))
    }

    fn function(&mut self, call: &FuncView<'p>) -> Result<Typed, Reason> {
        let id = call.function.to_u32();
        if let ([left, right], Some((operator, number))) = (call.args.as_slice(), arithmetic(id)) {
            let (left, right) = (self.native(*left)?, self.native(*right)?);
            return binary(operator, number, left, right);
        }
        if let (pg_sys::F_DATE_MI, [left, right]) = (id, call.args.as_slice()) {
            let (left, right) = (self.native(*left)?, self.native(*right)?);
            let finite = |typed: Typed| {
                let argument = Box::new(typed.expr);
                Typed { expr: Expr::Unary { function: Function::FiniteDate, argument }, ..typed }
            };
            return binary(Operator::Subtract, Number::Int4, finite(left), finite(right));
        }
        let Some(first) = call.args.first() else { return Err(unknown()) };
        let argument = self.native(*first)?;
        let kind = argument.kind;
        let unary = |function: Function, kind: Kind, argument: Typed| {
            let limits = match kind {
                Kind::Int(number) => within(number, function.limits(argument.limits)),
                _ => function.limits(argument.limits),
            };
            let expr = Expr::Unary { function, argument: Box::new(argument.expr) };
            Typed { expr, kind, limits, decimals: argument.decimals }
        };
        let number = match kind {
            Kind::Int(number) | Kind::Float(number) => number,
            Kind::Decimal { .. } => Number::Decimal,
            _ => return Err(unknown()),
        };
        // Decimals by a constant, 0 without.
        let count = |args: &[Node<'p>]| -> Result<i64, Reason> {
            match args.get(1).map(|n| n.view()) {
                None => Ok(0),
                Some(View::Const { null: false, value }) => Ok(i64::from(value.value() as i32)),
                _ => Err("its second argument is not a constant".into()),
            }
        };
        Ok(match id {
            pg_sys::F_INT2UM
            | pg_sys::F_INT4UM
            | pg_sys::F_INT8UM
            | pg_sys::F_FLOAT4UM
            | pg_sys::F_FLOAT8UM
            | pg_sys::F_NUMERIC_UMINUS => unary(Function::Negate(number), kind, argument),
            pg_sys::F_INT2UP
            | pg_sys::F_INT4UP
            | pg_sys::F_INT8UP
            | pg_sys::F_FLOAT4UP
            | pg_sys::F_FLOAT8UP
            | pg_sys::F_NUMERIC_UPLUS => argument,
            pg_sys::F_INT2ABS
            | pg_sys::F_INT4ABS
            | pg_sys::F_INT8ABS
            | pg_sys::F_FLOAT4ABS
            | pg_sys::F_FLOAT8ABS
            | pg_sys::F_NUMERIC_ABS
            | pg_sys::F_ABS_INT2
            | pg_sys::F_ABS_INT4
            | pg_sys::F_ABS_INT8
            | pg_sys::F_ABS_FLOAT4
            | pg_sys::F_ABS_FLOAT8
            | pg_sys::F_ABS_NUMERIC => unary(Function::Absolute(number), kind, argument),
            pg_sys::F_INT4_INT2 | pg_sys::F_INT8_INT2 | pg_sys::F_INT8_INT4 => {
                let to = if id == pg_sys::F_INT4_INT2 { Number::Int4 } else { Number::Int8 };
                Typed { kind: Kind::Int(to), ..argument }
            }
            pg_sys::F_INT2_INT4 | pg_sys::F_INT2_INT8 | pg_sys::F_INT2_FLOAT4 | pg_sys::F_INT2_FLOAT8 => {
                unary(Function::ToInt(Number::Int2), Kind::Int(Number::Int2), argument)
            }
            pg_sys::F_INT4_INT8 | pg_sys::F_INT4_FLOAT4 | pg_sys::F_INT4_FLOAT8 => {
                unary(Function::ToInt(Number::Int4), Kind::Int(Number::Int4), argument)
            }
            pg_sys::F_INT8_FLOAT4 | pg_sys::F_INT8_FLOAT8 => {
                unary(Function::ToInt(Number::Int8), Kind::Int(Number::Int8), argument)
            }
            pg_sys::F_INT2_NUMERIC | pg_sys::F_INT4_NUMERIC | pg_sys::F_INT8_NUMERIC => {
                let to = match id {
                    pg_sys::F_INT2_NUMERIC => Number::Int2,
                    pg_sys::F_INT4_NUMERIC => Number::Int4,
                    _ => Number::Int8,
                };
                let rounded = rounded(argument, 0, Rounding::Nearest);
                Typed { decimals: None, ..unary(Function::DecimalToInt(to), Kind::Int(to), rounded) }
            }
            pg_sys::F_NUMERIC_INT2 | pg_sys::F_NUMERIC_INT4 | pg_sys::F_NUMERIC_INT8 => {
                unary(Function::Scale(0), Kind::Decimal { scale: 0 }, argument)
            }
            pg_sys::F_FLOAT8_INT2 | pg_sys::F_FLOAT8_INT4 | pg_sys::F_FLOAT8_INT8 | pg_sys::F_FLOAT8_NUMERIC => {
                let function = Function::ToFloat { scale: kind.scale(), single: false };
                Typed { decimals: None, ..unary(function, Kind::Float(Number::Float8), argument) }
            }
            pg_sys::F_FLOAT4_INT2 | pg_sys::F_FLOAT4_INT4 | pg_sys::F_FLOAT4_INT8 | pg_sys::F_FLOAT4_NUMERIC => {
                let function = Function::ToFloat { scale: kind.scale(), single: true };
                Typed { decimals: None, ..unary(function, Kind::Float(Number::Float4), argument) }
            }
            pg_sys::F_FLOAT8_FLOAT4 => Typed { kind: Kind::Float(Number::Float8), ..argument },
            pg_sys::F_FLOAT4_FLOAT8 => unary(Function::ToSingle, Kind::Float(Number::Float4), argument),
            pg_sys::F_ROUND_FLOAT8 => unary(Function::RoundFloat(Rounding::Nearest), kind, argument),
            pg_sys::F_FLOOR_FLOAT8 => unary(Function::RoundFloat(Rounding::Down), kind, argument),
            pg_sys::F_CEIL_FLOAT8 | pg_sys::F_CEILING_FLOAT8 => {
                unary(Function::RoundFloat(Rounding::Up), kind, argument)
            }
            pg_sys::F_TRUNC_FLOAT8 => unary(Function::RoundFloat(Rounding::TowardsZero), kind, argument),
            pg_sys::F_FLOOR_NUMERIC => rounded(argument, 0, Rounding::Down),
            pg_sys::F_CEIL_NUMERIC | pg_sys::F_CEILING_NUMERIC => rounded(argument, 0, Rounding::Up),
            pg_sys::F_ROUND_NUMERIC
            | pg_sys::F_ROUND_NUMERIC_INT4
            | pg_sys::F_TRUNC_NUMERIC
            | pg_sys::F_TRUNC_NUMERIC_INT4 => {
                let decimals = count(&call.args)?;
                let decimals = u8::try_from(decimals).ok().filter(|d| *d <= MAX_SCALE);
                let decimals = decimals.ok_or("its second argument is out of what the engine computes")?;
                let nearest = matches!(id, pg_sys::F_ROUND_NUMERIC | pg_sys::F_ROUND_NUMERIC_INT4);
                rounded(argument, decimals, if nearest { Rounding::Nearest } else { Rounding::TowardsZero })
            }
            pg_sys::F_NUMERIC_NUMERIC_INT4 => {
                let typmod = i32::try_from(count(&call.args)?).map_err(|_| malformed())?;
                let LogicalType::Numeric { precision, scale } = types::logical_type(pg_sys::NUMERICOID, typmod) else {
                    return if typmod < 4 {
                        Ok(argument)
                    } else {
                        Err("its precision or scale is out of the engine's".into())
                    };
                };
                let argument = rounded(argument, scale, Rounding::Nearest);
                unary(Function::Precision(precision), Kind::Decimal { scale }, argument)
            }
            _ => return Err(unknown()),
        })
    }
}

fn unknown() -> Reason {
    "it is not one that the engine computes".into()
}

fn not_computed(ty: Oid) -> Reason {
    format!("the engine does not compute with type {}", lookup::type_name(ty))
}
