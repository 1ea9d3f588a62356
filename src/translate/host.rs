//! What the engine asks of PostgreSQL during a scan. Errors of PostgreSQL must not unwind through the engine's frames, where threads are
//! waiting: they are kept here, the engine is told to stop, and they go on once it has returned.

use std::any::Any;
use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine as engine;
use basalt_engine::plan::{
    Combination, Host, HostFunction, HostPredicate, OrderId, Replacement, TextFunction, ThreadPool, Wake,
};
use basalt_engine::segment::BytesBlock;
use basalt_engine::types::{LogicalType, Physical, Value};
use pgrx::pg_sys::{
    Datum, F_CHAR_LENGTH_TEXT, F_CHARACTER_LENGTH_TEXT, F_LENGTH_TEXT, F_OCTET_LENGTH_TEXT,
    F_REGEXP_REPLACE_TEXT_TEXT_TEXT, Oid, TEXTOID,
};

use super::bind::BoundColumn;
use super::template::ClassTemplate;
use crate::error::{Error, Result};
use crate::pg::classes::Classes;
use crate::pg::eval::{Compiled, Evaluator};
use crate::pg::interrupts::{self, SignalsBlocked};
use crate::pg::node::{Node, View};
use crate::pg::row::RowForm;
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::pg::{lookup, slots, workers};

/// Values converted and evaluated before memory is given back.
const CHUNK: usize = 1024;

pub struct PgHost {
    evaluator: Evaluator,
    predicates: Vec<HostedTest>,
    functions: Vec<HostedFunction>,
    classes: Vec<Classes>,
    orders: Vec<Oid>,
    /// When the scan began, if it is timed.
    begun: Option<Instant>,
    failure: Option<Box<dyn Any + Send>>,
}

/// What a function's results become.
pub enum Made {
    /// Numbers of a class.
    Class(usize),
    /// Values of such a column.
    Value(BoundColumn),
}

struct HostedFunction {
    function: Compiled,
    known: Option<TextFunction>,
    input: FunctionInput,
    result: FunctionResult,
}

enum FunctionInput {
    Value(Codec),
    /// Columns of a row.
    Row(Vec<Codec>, RowForm),
}

enum FunctionResult {
    Class(usize),
    Value(Box<Codec>),
}

struct HostedTest {
    test: Compiled,
    negated: bool,
    codec: Codec,
}

impl PgHost {
    /// `orders`: the collations that `OrderId`s count through.
    pub fn new(evaluator: Evaluator, orders: Vec<Oid>, timed: bool) -> Self {
        PgHost {
            evaluator,
            predicates: Vec::new(),
            functions: Vec::new(),
            classes: Vec::new(),
            orders,
            begun: timed.then(Instant::now),
            failure: None,
        }
    }

    /// Forgets predicates and functions, before plans are bound anew. Errors: `Canceled`.
    pub fn clear(&mut self, classes: &[ClassTemplate]) -> Result<()> {
        self.predicates.clear();
        self.functions.clear();
        let class = |c: &ClassTemplate| Classes::new(Oid::from(c.ty), Oid::from(c.collation));
        self.classes = classes.iter().map(class).collect::<Result<_>>()?;
        Ok(())
    }

    /// Does something, and adds what it took to `total`.
    pub fn timed<T>(&mut self, total: &mut Duration, work: impl FnOnce(&mut Self) -> T) -> T {
        let begin = self.clock();
        let result = work(self);
        let took = begin.and_then(|begin| self.clock()?.checked_sub(begin));
        *total += took.unwrap_or_default();
        result
    }

    /// Registers a function over the placeholder of a column, or of several: then of a row.
    /// `node` is its expression.
    pub fn add_function(
        &mut self,
        function: Compiled,
        node: Node<'_>,
        columns: &[BoundColumn],
        made: Made,
    ) -> HostFunction {
        let _guard = self.evaluator.in_query_context();
        let codec = |of: BoundColumn| Codec::with_type(of.ty, of.declared, of.typmod);
        let result = match made {
            Made::Class(class) => FunctionResult::Class(class),
            Made::Value(of) => FunctionResult::Value(Box::new(codec(of))),
        };
        let input = match columns {
            [column] => FunctionInput::Value(codec(*column)),
            _ => {
                let types: Vec<(Oid, i32)> = columns.iter().map(|c| (c.declared, c.typmod)).collect();
                FunctionInput::Row(columns.iter().map(|c| codec(*c)).collect(), RowForm::new(&types))
            }
        };
        let known = match (&input, &result) {
            (FunctionInput::Value(of), FunctionResult::Value(_)) if of.ty() == LogicalType::Text => known(node),
            _ => None,
        };
        self.functions.push(HostedFunction { function, known, input, result });
        HostFunction((self.functions.len() - 1) as u32)
    }

    /// The number of a value's class.
    pub fn class_of(&mut self, class: usize, value: Datum) -> Result<Value> {
        let _guard = self.evaluator.in_query_context();
        let classes = self.classes.get_mut(class).ok_or_else(|| engine::Error::invalid("unknown class"))?;
        Ok(Value::I64(i64::from(classes.number(Some(value))?)))
    }

    /// A value of each of a class's numbers.
    pub fn take_class(&mut self, class: usize) -> Vec<(Datum, bool)> {
        self.classes.get_mut(class).map(Classes::take_values).unwrap_or_default()
    }

    /// Registers a boolean expression over the placeholder of a column.
    pub fn add_predicate(&mut self, test: Compiled, negated: bool, column: BoundColumn) -> HostPredicate {
        let _guard = self.evaluator.in_query_context();
        let codec = Codec::with_type(column.ty, column.declared, column.typmod);
        self.predicates.push(HostedTest { test, negated, codec });
        HostPredicate((self.predicates.len() - 1) as u32)
    }

    /// To be called with what the engine returned, once no thread of it runs: lets a kept error go on, and a cancel be raised.
    pub fn conclude<T>(&mut self, result: engine::Result<T>) -> Result<T> {
        if let Some(payload) = self.failure.take() {
            resume_unwind(payload);
        }
        if matches!(result, Err(engine::Error::Canceled)) {
            interrupts::check();
        }
        Ok(result?)
    }

    /// Runs PostgreSQL's code; an error is kept for `conclude`.
    fn guarded<T>(failure: &mut Option<Box<dyn Any + Send>>, work: impl FnOnce() -> T) -> engine::Result<T> {
        if failure.is_some() {
            return Err(engine::Error::Canceled);
        }
        catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
            *failure = Some(payload);
            engine::Error::Canceled
        })
    }
}

impl Host for PgHost {
    fn test(&mut self, predicate: HostPredicate, values: &BytesBlock) -> engine::Result<Vec<bool>> {
        let evaluator = self.evaluator;
        let hosted = self
            .predicates
            .get_mut(predicate.0 as usize)
            .ok_or_else(|| engine::Error::invalid("unknown host predicate"))?;
        let mut selected = Vec::with_capacity(values.ends.len());
        let mut start = 0usize;
        for ends in values.ends.chunks(CHUNK) {
            let chunk = Self::guarded(&mut self.failure, || {
                hosted.chunk(evaluator, &values.data, &mut start, ends, &mut selected)
            })?;
            chunk?;
        }
        Ok(selected)
    }

    fn test_null(&mut self, predicate: HostPredicate) -> engine::Result<bool> {
        let evaluator = self.evaluator;
        let unknown = || engine::Error::invalid("unknown host predicate");
        let hosted = self.predicates.get(predicate.0 as usize).ok_or_else(unknown)?;
        Self::guarded(&mut self.failure, || {
            let value = evaluator.evaluate(hosted.test, None);
            evaluator.reset();
            value.is_some_and(|v| (v.value() as u8 != 0) != hosted.negated)
        })
    }

    fn map(&mut self, function: HostFunction, values: &BytesBlock) -> engine::Result<Vec<Value>> {
        let (evaluator, classes) = (self.evaluator, &mut self.classes);
        let unknown = || engine::Error::invalid("unknown host function");
        let hosted = self.functions.get_mut(function.0 as usize).ok_or_else(unknown)?;
        let mut results = Vec::with_capacity(values.ends.len());
        let mut start = 0usize;
        for ends in values.ends.chunks(CHUNK) {
            let chunk = Self::guarded(&mut self.failure, || {
                hosted.chunk(evaluator, classes, &values.data, &mut start, ends, &mut results)
            })?;
            chunk?;
        }
        Ok(results)
    }

    fn known(&self, function: HostFunction) -> Option<TextFunction> {
        self.functions.get(function.0 as usize).and_then(|hosted| hosted.known.clone())
    }

    fn map_null(&mut self, function: HostFunction) -> engine::Result<Value> {
        let (evaluator, classes) = (self.evaluator, &mut self.classes);
        let unknown = || engine::Error::invalid("unknown host function");
        let hosted = self.functions.get_mut(function.0 as usize).ok_or_else(unknown)?;
        Self::guarded(&mut self.failure, || {
            let value = evaluator.evaluate(hosted.function, None);
            let result = hosted.result.value(evaluator, classes, value);
            evaluator.reset();
            result
        })?
    }

    fn compare(&mut self, order: OrderId, left: &[u8], right: &[u8]) -> Ordering {
        let collation = self.orders.get(order.0 as usize).copied().unwrap_or(pgrx::pg_sys::InvalidOid);
        Self::guarded(&mut self.failure, || lookup::compare_text(left, right, collation)).unwrap_or(Ordering::Equal)
    }

    fn poll(&mut self) -> engine::Result<()> {
        if self.failure.is_some() {
            return Err(engine::Error::Canceled);
        }
        interrupts::poll()?;
        if interrupts::other_pending() {
            Self::guarded(&mut self.failure, interrupts::check)?;
        }
        if slots::must_wait() {
            Self::guarded(&mut self.failure, slots::wait_for_turn)??;
        }
        Ok(())
    }

    fn pool(&self) -> Option<Arc<dyn ThreadPool>> {
        workers::is_preloaded().then(|| Arc::new(slots::Pool) as _)
    }

    fn clock(&mut self) -> Option<Duration> {
        self.begun.map(|begun| begun.elapsed())
    }

    fn before_spawn(&mut self) -> Wake {
        Box::new(SignalsBlocked::new())
    }
}

impl HostedTest {
    fn chunk(
        &mut self,
        evaluator: Evaluator,
        data: &[u8],
        start: &mut usize,
        ends: &[u32],
        selected: &mut Vec<bool>,
    ) -> engine::Result<()> {
        let context = evaluator.in_result_context();
        let datums = datums(&mut self.codec, data, start, ends)?;
        for datum in datums {
            // One value may take long.
            interrupts::poll()?;
            let value = evaluator.evaluate(self.test, Some(datum));
            selected.push(value.is_some_and(|v| (v.value() as u8 != 0) != self.negated));
        }
        drop(context);
        evaluator.reset();
        Ok(())
    }
}

impl HostedFunction {
    fn chunk(
        &mut self,
        evaluator: Evaluator,
        classes: &mut [Classes],
        data: &[u8],
        start: &mut usize,
        ends: &[u32],
        results: &mut Vec<Value>,
    ) -> engine::Result<()> {
        let context = evaluator.in_result_context();
        let datums = match &mut self.input {
            FunctionInput::Value(codec) => datums(codec, data, start, ends)?,
            FunctionInput::Row(codecs, form) => rows(codecs, form, data, start, ends)?,
        };
        for datum in datums {
            interrupts::poll()?;
            let value = evaluator.evaluate(self.function, Some(datum));
            results.push(self.result.value(evaluator, classes, value)?);
        }
        drop(context);
        evaluator.reset();
        Ok(())
    }
}

impl FunctionResult {
    fn value(&mut self, evaluator: Evaluator, classes: &mut [Classes], value: Option<Datum>) -> engine::Result<Value> {
        let Some(datum) = value else { return Ok(Value::Null) };
        match self {
            FunctionResult::Class(class) => {
                let _guard = evaluator.in_query_context();
                let class = classes.get_mut(*class).ok_or_else(|| engine::Error::invalid("unknown class"))?;
                Ok(Value::I64(i64::from(class.number(Some(datum)).map_err(to_engine)?)))
            }
            FunctionResult::Value(codec) => {
                let _fixed = codec.needs_fixed_settings().then(FixedSettings::new);
                codec.to_value(datum, false).map_err(to_engine)
            }
        }
    }
}

/// The bytes of a constant text; `None`: it is none, or NULL.
fn text(node: Node<'_>) -> Option<Vec<u8>> {
    let View::Const { null: false, value } = node.view() else { return None };
    let mut codec = (node.ty() == TEXTOID).then(|| Codec::with_type(LogicalType::Text, TEXTOID, -1))?;
    match codec.to_value(value, false) {
        Ok(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// What a function of a text column, or of the placeholder for it, is, if the engine knows it too. Databases are in UTF-8.
pub fn known(node: Node<'_>) -> Option<TextFunction> {
    let View::Func(call) = node.view() else { return None };
    let [argument, constants @ ..] = call.args.as_slice() else { return None };
    let plain = match argument.view() {
        View::Relabel(inner) => matches!(inner.view(), View::Placeholder | View::Var(_)),
        other => matches!(other, View::Placeholder | View::Var(_)),
    };
    match call.function.to_u32() {
        F_REGEXP_REPLACE_TEXT_TEXT_TEXT if plain && lookup::is_deterministic(call.collation) => {
            let [pattern, replacement] = constants else { return None };
            Replacement::new(&text(*pattern)?, &text(*replacement)?).map(|of| TextFunction::Replace(Arc::new(of)))
        }
        F_LENGTH_TEXT | F_CHAR_LENGTH_TEXT | F_CHARACTER_LENGTH_TEXT if plain => Some(TextFunction::Characters),
        F_OCTET_LENGTH_TEXT if plain => Some(TextFunction::Bytes),
        _ => None,
    }
}

/// Values as the engine shows them, in the current memory context.
fn datums(codec: &mut Codec, data: &[u8], start: &mut usize, ends: &[u32]) -> engine::Result<Vec<Datum>> {
    let _fixed = codec.needs_fixed_settings().then(FixedSettings::new);
    let mut datums = Vec::with_capacity(ends.len());
    for end in ends {
        let end = *end as usize;
        let bytes = data.get(*start..end).ok_or_else(|| engine::Error::corrupt("offsets of byte strings"))?;
        *start = end;
        datums.push(datum(codec, bytes)?);
    }
    Ok(datums)
}

/// Rows of the combinations that the engine shows, in the current memory context.
fn rows(
    codecs: &mut [Codec],
    form: &mut RowForm,
    data: &[u8],
    start: &mut usize,
    ends: &[u32],
) -> engine::Result<Vec<Datum>> {
    let _fixed = codecs.iter().any(Codec::needs_fixed_settings).then(FixedSettings::new);
    let mut rows = Vec::with_capacity(ends.len());
    for end in ends {
        let end = *end as usize;
        let bytes = data.get(*start..end).ok_or_else(|| engine::Error::corrupt("offsets of byte strings"))?;
        *start = end;
        let mut values = Combination::new(bytes);
        for (at, codec) in codecs.iter_mut().enumerate() {
            let value = values.next().ok_or_else(|| engine::Error::invalid("a combination of too few values"))?;
            form.set(at, value.map(|v| datum(codec, v)).transpose()?);
        }
        rows.push(form.row());
    }
    Ok(rows)
}

fn datum(codec: &mut Codec, bytes: &[u8]) -> engine::Result<Datum> {
    let short = || engine::Error::invalid("a number of another width");
    Ok(match codec.ty().physical() {
        Physical::I64 => codec.datum_of_i64(i64::from_le_bytes(bytes.try_into().map_err(|_| short())?)),
        Physical::I128 => codec.datum_of_i128(i128::from_le_bytes(bytes.try_into().map_err(|_| short())?)),
        Physical::F64 => codec.datum_of_f64(f64::from_le_bytes(bytes.try_into().map_err(|_| short())?)),
        Physical::Bytes => codec.datum_of_bytes(bytes).map_err(to_engine)?,
    })
}

fn to_engine(error: Error) -> engine::Error {
    match error {
        Error::Engine(error) => error,
        other => engine::Error::invalid(other.to_string()),
    }
}
