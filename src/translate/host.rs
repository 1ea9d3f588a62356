//! What the engine asks of PostgreSQL during a scan. Errors of PostgreSQL must not unwind through the engine's frames, where threads are
//! waiting: they are kept here, the engine is told to stop, and they go on once it has returned.

use std::any::Any;
use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use basalt_engine as engine;
use basalt_engine::plan::{Host, HostPredicate, OrderId, Wake};
use basalt_engine::segment::BytesBlock;
use basalt_engine::types::Physical;
use pgrx::pg_sys::{Datum, Oid};

use super::bind::BoundColumn;
use crate::error::{Error, Result};
use crate::pg::eval::{Compiled, Evaluator};
use crate::pg::interrupts::{self, SignalsBlocked};
use crate::pg::lookup;
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;

/// Values converted and evaluated before memory is given back.
const CHUNK: usize = 1024;

pub struct PgHost {
    evaluator: Evaluator,
    predicates: Vec<HostedTest>,
    orders: Vec<Oid>,
    failure: Option<Box<dyn Any + Send>>,
}

struct HostedTest {
    test: Compiled,
    negated: bool,
    codec: Codec,
}

impl PgHost {
    /// `orders`: the collations that `OrderId`s count through.
    pub fn new(evaluator: Evaluator, orders: Vec<Oid>) -> Self {
        PgHost { evaluator, predicates: Vec::new(), orders, failure: None }
    }

    /// Forgets predicates, before filters are bound anew.
    pub fn clear(&mut self) {
        self.predicates.clear();
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
            if interrupts::stop_requested() {
                return Err(engine::Error::Canceled);
            }
            let chunk = Self::guarded(&mut self.failure, || {
                hosted.chunk(evaluator, &values.data, &mut start, ends, &mut selected)
            })?;
            chunk?;
        }
        Ok(selected)
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
        Ok(())
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
        let fixed = self.codec.needs_fixed_settings().then(FixedSettings::new);
        let mut datums = Vec::with_capacity(ends.len());
        for end in ends {
            let end = *end as usize;
            let bytes = data.get(*start..end).ok_or_else(|| engine::Error::corrupt("offsets of byte strings"))?;
            *start = end;
            datums.push(self.datum(bytes)?);
        }
        drop(fixed);
        for datum in datums {
            let value = evaluator.evaluate(self.test, Some(datum));
            selected.push(value.is_some_and(|v| (v.value() as u8 != 0) != self.negated));
        }
        drop(context);
        evaluator.reset();
        Ok(())
    }
}

impl HostedTest {
    fn datum(&mut self, bytes: &[u8]) -> engine::Result<Datum> {
        let short = || engine::Error::invalid("a number of another width");
        Ok(match self.codec.ty().physical() {
            Physical::I64 => self.codec.datum_of_i64(i64::from_le_bytes(bytes.try_into().map_err(|_| short())?)),
            Physical::I128 => self.codec.datum_of_i128(i128::from_le_bytes(bytes.try_into().map_err(|_| short())?)),
            Physical::F64 => self.codec.datum_of_f64(f64::from_le_bytes(bytes.try_into().map_err(|_| short())?)),
            Physical::Bytes => self.codec.datum_of_bytes(bytes).map_err(to_engine)?,
        })
    }
}

fn to_engine(error: Error) -> engine::Error {
    match error {
        Error::Engine(error) => error,
        other => engine::Error::invalid(other.to_string()),
    }
}
