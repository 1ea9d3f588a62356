//! A segment made ready for a query: the filter bound and resolved, blocks pruned. Runs on the calling thread.

use std::sync::Arc;

use super::bits::Selection;
use super::columns::{BlockScratch, Bound, Kind, SegmentView};
use super::compute::{AttributeTable, LookupTable, MapTable, Program};
use super::filter::{self, Check, HostMemo, Leaf, Node, Resolver, Verdict};
use super::{ExecStatistics, HostPulse, SegmentScan};
use crate::interval::TimeInterval;
use crate::plan::{self, ColumnRef, Computed, Expr, Filter, Host, Lookup, Mapped, Predicate, Test};
use crate::types::{LogicalType, MICROS_PER_DAY, Physical, Value};
use crate::{Budget, Error, Reservation, Result};

/// The rows of one segment that a query selects.
pub(super) struct SelectedRows<'a> {
    pub view: SegmentView<'a>,
    pub filter: Node,
    /// Blocks of which headers do not exclude every row, ascending.
    pub blocks: Vec<u32>,
    /// The columns of `view`: the plan's, and perhaps the time column.
    pub columns: Vec<ColumnRef>,
    pub memory: Reservation,
}

impl<'a> SelectedRows<'a> {
    /// At most so many rows are selected.
    pub fn limit(&self) -> usize {
        self.blocks.iter().map(|b| self.view.block_rows(*b as usize)).sum()
    }

    /// Binds `query_filter`, visibility and deletions to the segment. `optional`: computed columns that not every selected row needs.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        scan: &'a SegmentScan,
        columns: &[ColumnRef],
        query_filter: &Filter,
        optional: &[usize],
        budget: &Budget,
        scratch: &mut BlockScratch,
        memo: &mut HostMemo,
        host: &mut dyn Host,
        statistics: &mut ExecStatistics,
    ) -> Result<Self> {
        memo.begin_segment();
        let (columns, visible) = visibility(scan, columns)?;
        let mut view = SegmentView::new(&scan.segment, &columns)?;
        let mut memory = budget.reserve(0)?;
        let mut unresolved = bind_computed(&columns, &mut view, &mut memory, host)?;
        let (ordered, plain): (Vec<&Filter>, Vec<&Filter>) =
            conjuncts_of(query_filter).into_iter().partition(|p| keeps_order(p, &columns));
        let mut conjuncts = Vec::new();
        for filter in plain {
            let node = filter::bind(filter, &view, &mut memory, &mut HostPulse(host))?;
            statistics.note(&node, &tested(filter));
            conjuncts.push(node);
        }
        conjuncts.push(filter::bind(&visible, &view, &mut memory, &mut HostPulse(host))?);
        if let Some(deleted) = scan.deleted.as_ref().filter(|d| !d.is_empty()) {
            let check = Check::Rows { rows: deleted.clone(), negated: true };
            conjuncts.push(Node::Leaf(Leaf { column: usize::MAX, check, selectivity: 0.95 }));
        }
        let mut nodes = vec![Node::and(conjuncts)];
        let mut resolution = Resolution { optional, scratch, memo, host, memory: &mut memory };
        // What the host decides must not see rows that the tests before leave out: those that the first `known` nodes select.
        let (mut candidates, mut known) = (Vec::new(), 0);
        for part in ordered {
            let asks = asks_host(part) || waits(part, &columns, &unresolved);
            if asks {
                resolution.candidates(&view, &nodes[known..], &mut candidates)?;
                known = nodes.len();
                resolution.finish(&mut view, &mut unresolved, &candidates, &|c| uses(part, &columns, c))?;
            }
            let mut node = filter::bind(part, &view, resolution.memory, &mut HostPulse(resolution.host))?;
            if asks {
                node = filter::resolve(node, &candidates, &mut resolution.resolver(&view))?;
            }
            statistics.note(&node, &tested(part));
            nodes.push(node);
        }
        if !unresolved.is_empty() {
            resolution.candidates(&view, &nodes[known..], &mut candidates)?;
            resolution.finish(&mut view, &mut unresolved, &candidates, &|_| true)?;
        }
        let filter = Node::and(nodes);
        memory.grow(filter.bytes())?;
        let mut blocks = Vec::with_capacity(view.blocks);
        for block in 0..view.blocks {
            scratch.begin(&view, block);
            if filter::quick(&filter, &view, scratch)? != Verdict::No {
                blocks.push(block as u32);
            }
        }
        statistics.segments_scanned += 1;
        statistics.blocks_total += view.blocks as u64;
        statistics.blocks_skipped += (view.blocks - blocks.len()) as u64;
        Ok(SelectedRows { view, filter, blocks, columns, memory })
    }

    /// Binds a FILTER clause, whose host predicates see only rows that the query selects.
    pub fn bind(
        &self,
        clause: &Filter,
        scratch: &mut BlockScratch,
        memo: &mut HostMemo,
        host: &mut dyn Host,
        memory: &mut Reservation,
    ) -> Result<Node> {
        let node = filter::bind(clause, &self.view, memory, &mut HostPulse(host))?;
        if !filter::has_host(&node) {
            return Ok(node);
        }
        let view = &self.view;
        let mut candidates = vec![Selection::None; view.blocks];
        for &block in &self.blocks {
            candidates[block as usize] = Selection::All;
        }
        memory.grow(view.rows / 8)?;
        let mut resolver = Resolver { view, scratch, host, memo, memory, lenient: false };
        filter::narrow(&self.filter, &mut candidates, &mut resolver)?;
        filter::resolve(node, &candidates, &mut resolver)
    }
}

/// Computed columns whose conditions ask the host what it was not asked yet.
type Unresolved = Vec<(usize, Pending)>;

enum Pending {
    Native(Program),
    /// And whether its sources can be had of every row.
    Mapped(Mapped, Physical, bool),
    Lookup(Lookup),
}

fn bind_computed(
    columns: &[ColumnRef],
    view: &mut SegmentView<'_>,
    memory: &mut Reservation,
    host: &mut dyn Host,
) -> Result<Unresolved> {
    let mut unresolved: Unresolved = Vec::new();
    for (position, column) in columns.iter().enumerate() {
        let expr = match column.computed.as_deref() {
            None => continue,
            Some(Computed::Native(expr)) => expr,
            Some(Computed::Mapped(mapped)) => {
                let sure = mapped.columns.iter().all(|c| never_fails(*c, columns));
                unresolved.push((position, Pending::Mapped(mapped.clone(), column.ty.physical(), sure)));
                continue;
            }
            Some(Computed::Lookup(lookup)) => {
                if unresolved.iter().any(|(other, _)| column_uses(lookup.column, columns, *other)) {
                    unresolved.push((position, Pending::Lookup(lookup.clone())));
                } else {
                    let table = LookupTable::new(lookup, view, memory)?;
                    view.bind(position, Arc::new(Bound::Lookup(table)));
                }
                continue;
            }
            Some(Computed::Attribute(attribute)) => {
                let rows = columns.get(attribute.column).and_then(|c| c.computed.as_deref());
                let table = AttributeTable::new(attribute, matches!(rows, Some(Computed::Lookup(_))));
                view.bind(position, Arc::new(Bound::Attribute(table)));
                continue;
            }
        };
        let program = Program::new(expr, view, memory, &mut HostPulse(host))?;
        if program.has_host() || unresolved.iter().any(|(other, _)| expr_uses(expr, columns, *other)) {
            unresolved.push((position, Pending::Native(program)));
        } else {
            view.bind(position, Arc::new(Bound::Native(program)));
        }
    }
    Ok(unresolved)
}

/// Whether a filter tests a column that is not resolved yet.
fn waits(filter: &Filter, columns: &[ColumnRef], unresolved: &Unresolved) -> bool {
    unresolved.iter().any(|(column, _)| uses(filter, columns, *column))
}

/// The columns that a filter tests.
fn tested(filter: &Filter) -> Vec<usize> {
    match filter {
        Filter::Const(_) => Vec::new(),
        Filter::And(parts) | Filter::Or(parts) => parts.iter().flat_map(tested).collect(),
        Filter::Test(p) => vec![p.column],
    }
}

/// Whether a column is stored, or looked up by what is.
fn never_fails(column: usize, columns: &[ColumnRef]) -> bool {
    match columns.get(column).map(|c| c.computed.as_deref()) {
        Some(None) => true,
        Some(Some(looked_up @ (Computed::Lookup(_) | Computed::Attribute(_)))) => {
            looked_up.sources().iter().all(|source| never_fails(*source, columns))
        }
        _ => false,
    }
}

/// The filters that all must select, in their order.
fn conjuncts_of(filter: &Filter) -> Vec<&Filter> {
    match filter {
        Filter::And(parts) => parts.iter().flat_map(conjuncts_of).collect(),
        one => vec![one],
    }
}

/// Whether a filter may fail in rows that others leave out.
fn keeps_order(filter: &Filter, columns: &[ColumnRef]) -> bool {
    match filter {
        Filter::Const(_) => false,
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(|p| keeps_order(p, columns)),
        Filter::Test(p) => asks_host(filter) || columns.get(p.column).is_some_and(|c| c.computed.is_some()),
    }
}

/// Whether the host decides a test of a filter.
fn asks_host(filter: &Filter) -> bool {
    match filter {
        Filter::Const(_) => false,
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(asks_host),
        Filter::Test(p) => matches!(p.test, Test::Host(_) | Test::HostOfNull(_)),
    }
}

/// Whether a filter tests `column`, by itself or within other computed columns.
pub(super) fn uses(filter: &Filter, columns: &[ColumnRef], column: usize) -> bool {
    match filter {
        Filter::Const(_) => false,
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(|p| uses(p, columns, column)),
        Filter::Test(p) => column_uses(p.column, columns, column),
    }
}

/// Whether a column is `column` or computed from it.
pub(super) fn column_uses(of: usize, columns: &[ColumnRef], column: usize) -> bool {
    of == column
        || columns.get(of).and_then(|c| c.computed.as_deref()).is_some_and(|c| match c {
            Computed::Native(expr) => expr_uses(expr, columns, column),
            other => other.sources().iter().any(|source| column_uses(*source, columns, column)),
        })
}

fn expr_uses(expr: &Expr, columns: &[ColumnRef], column: usize) -> bool {
    let (mut plain, mut tested) = (false, false);
    expr.visit(&mut |c| plain |= column_uses(c, columns, column), &mut |f| tested |= uses(f, columns, column));
    plain || tested
}

/// What asking the host takes, besides the segment.
struct Resolution<'r> {
    optional: &'r [usize],
    scratch: &'r mut BlockScratch,
    memo: &'r mut HostMemo,
    host: &'r mut dyn Host,
    memory: &'r mut Reservation,
}

impl Resolution<'_> {
    fn resolver<'a>(&'a mut self, view: &'a SegmentView<'a>) -> Resolver<'a, 'a> {
        Resolver { view, scratch: self.scratch, host: self.host, memo: self.memo, memory: self.memory, lenient: false }
    }

    /// Narrows candidates, block by block, to the rows that resolved nodes select. None yet: all rows are.
    fn candidates(&mut self, view: &SegmentView<'_>, nodes: &[Node], candidates: &mut Vec<Selection>) -> Result<()> {
        if candidates.is_empty() {
            self.memory.grow(view.rows / 8)?;
            candidates.resize(view.blocks, Selection::All);
        }
        nodes.iter().try_for_each(|node| filter::narrow(node, candidates, &mut self.resolver(view)))
    }

    /// Resolves those columns that are needed, and what comes before them.
    fn finish(
        &mut self,
        view: &mut SegmentView<'_>,
        unresolved: &mut Unresolved,
        candidates: &[Selection],
        needed: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        let Some(last) = unresolved.iter().rposition(|(c, _)| needed(*c)) else { return Ok(()) };
        for (position, pending) in unresolved.drain(..=last) {
            let bound = match pending {
                Pending::Native(mut program) => {
                    program.resolve(candidates, self.optional.contains(&position), &mut self.resolver(view))?;
                    Bound::Native(program)
                }
                Pending::Mapped(mapped, result, sure) => {
                    // Fewer values than rows: asking about all is cheaper than finding out which occur.
                    let few = match mapped.columns.as_slice() {
                        [c] if view.columns[*c].kind == Kind::Codes => {
                            view.columns[*c].dictionary_len()? as usize <= view.rows / 16
                        }
                        _ => false,
                    };
                    let everything = vec![Selection::All; view.blocks];
                    let candidates = if mapped.infallible && sure && few { &everything } else { candidates };
                    let table = MapTable::new(&mapped, result, candidates, &mut self.resolver(view))?;
                    Bound::Mapped(Box::new(table))
                }
                Pending::Lookup(lookup) => Bound::Lookup(LookupTable::new(&lookup, view, self.memory)?),
            };
            view.bind(position, Arc::new(bound));
        }
        Ok(())
    }
}

/// The plan's columns, with the time column behind them if rows must be tested for visibility; and the test.
fn visibility(scan: &SegmentScan, columns: &[ColumnRef]) -> Result<(Vec<ColumnRef>, Filter)> {
    let mut wanted = columns.to_vec();
    let everything = scan.visibility.covers(i64::MIN, i64::MAX);
    let span = if everything { None } else { scan.segment.statistics().time };
    if everything || span.is_some_and(|(min, max)| scan.visibility.covers(min, max)) {
        return Ok((wanted, Filter::Const(true)));
    }
    let time = scan.segment.time_column().ok_or_else(|| Error::invalid("visibility of a segment without time"))?;
    let (id, ty) = (time.id(), time.ty());
    let place = match wanted.iter().position(|c| c.id == id && c.computed.is_none()) {
        Some(place) => place,
        None => {
            wanted.push(ColumnRef::stored(id, ty, Value::Null));
            wanted.len() - 1
        }
    };
    let intervals = scan.visibility.intervals();
    // Rows without a time are in no interval that could be hidden.
    let timeless = Filter::Test(Predicate { column: place, test: Test::IsNull });
    let tests = intervals.iter().map(|i| time_test(place, ty, i)).chain([timeless]);
    let filter = Filter::Or(tests.collect());
    Ok((wanted, filter))
}

/// What headers say of a column in the blocks that a query reads.
#[derive(Clone, Copy, Default)]
pub(super) struct Extent {
    limits: Option<(i64, i64)>,
    unknown: bool,
    pub nulls: bool,
}

impl Extent {
    pub fn new(rows: &SelectedRows<'_>, scratch: &mut BlockScratch, column: usize) -> Result<Extent> {
        let SelectedRows { view, blocks, .. } = rows;
        let mut extent = Extent::default();
        for &block in blocks {
            scratch.begin(view, block as usize);
            if let Some(bound) = view.bound(column)? {
                extent.add_computed(bound, view, scratch)?;
                continue;
            }
            let rows = scratch.rows() as u32;
            let header = scratch.header(view, column)?;
            extent.nulls |= header.nulls > 0;
            if header.nulls == rows {
                continue;
            }
            match (&header.min, &header.max) {
                (Value::I64(min), Value::I64(max)) if min <= max => {
                    let (low, high) = extent.limits.unwrap_or((*min, *max));
                    extent.limits = Some((low.min(*min), high.max(*max)));
                }
                _ => extent.unknown = true,
            }
        }
        Ok(extent)
    }

    fn add_computed(&mut self, bound: &Bound, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<()> {
        self.nulls = true;
        match bound.limits(view, scratch)? {
            (Some((low, high)), false) if i64::try_from(low).is_ok() && i64::try_from(high).is_ok() => {
                let (low, high) = (low as i64, high as i64);
                let (least, greatest) = self.limits.unwrap_or((low, high));
                self.limits = Some((low.min(least), high.max(greatest)));
            }
            _ => self.unknown = true,
        }
        Ok(())
    }

    /// Of this column's blocks and another segment's.
    pub fn union(&self, other: &Extent) -> Extent {
        let limits = match (self.limits, other.limits) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        Extent { limits, unknown: self.unknown || other.unknown, nulls: self.nulls || other.nulls }
    }

    /// Smallest and largest value of an integer column (anything if all is NULL); `None`: unknown.
    pub fn ints(&self) -> Option<(i64, i64)> {
        if self.unknown { None } else { Some(self.limits.unwrap_or((0, 0))) }
    }
}

/// `interval` as a test of a stored time.
fn time_test(column: usize, ty: LogicalType, interval: &TimeInterval) -> Filter {
    // Microseconds; for dates the first day that begins at or after the bound.
    let stored = |micros: i64| match ty {
        LogicalType::Date => micros.div_euclid(MICROS_PER_DAY) + i64::from(micros.rem_euclid(MICROS_PER_DAY) != 0),
        _ => micros,
    };
    let low = match interval.start {
        i64::MIN => plan::Bound::Unbounded,
        // Infinity alone.
        i64::MAX if ty == LogicalType::Date => plan::Bound::Included(Value::I64(i64::from(i32::MAX))),
        start => plan::Bound::Included(Value::I64(stored(start))),
    };
    let high = match interval.end {
        i64::MAX => plan::Bound::Unbounded,
        i64::MIN => return Filter::Const(false),
        end => plan::Bound::Excluded(Value::I64(stored(end))),
    };
    // A date's infinities lie outside of what microseconds of days reach.
    Filter::Test(Predicate { column, test: Test::Range { low, high } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_become_tests_of_stored_times() {
        let holds = |ty: LogicalType, interval: TimeInterval, stored: i64| match time_test(0, ty, &interval) {
            Filter::Test(p) => match p.test {
                Test::Range { low, high } => {
                    let above = match low {
                        plan::Bound::Included(Value::I64(b)) => stored >= b,
                        plan::Bound::Unbounded => true,
                        _ => panic!(),
                    };
                    above
                        && match high {
                            plan::Bound::Excluded(Value::I64(b)) => stored < b,
                            plan::Bound::Unbounded => true,
                            _ => panic!(),
                        }
                }
                _ => panic!(),
            },
            Filter::Const(c) => c,
            _ => panic!(),
        };
        let edges = [i64::MIN, -3 * MICROS_PER_DAY, -1, 0, 1, MICROS_PER_DAY, 5 * MICROS_PER_DAY + 7, i64::MAX];
        let days = [i64::from(i32::MIN), -3, -1, 0, 1, 2, 5, 6, i64::from(i32::MAX)];
        for start in edges {
            for end in edges {
                let interval = TimeInterval::new(start, end);
                if interval.is_empty() {
                    continue;
                }
                for day in days {
                    let want = interval.contains(LogicalType::Date.to_micros(day));
                    assert_eq!(holds(LogicalType::Date, interval, day), want, "{interval:?} {day}");
                }
                for time in edges {
                    assert_eq!(holds(LogicalType::TimestampTz, interval, time), interval.contains(time));
                }
            }
        }
    }
}
