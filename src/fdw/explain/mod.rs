//! EXPLAIN of a scan.

mod deparse;

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use basalt_engine::exec::{FilterUse, Way};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::plan;
use super::scan::{self, Scan};
use crate::error::OrRaise;
use crate::translate::advice::advice;
use crate::translate::template::{
    AggregateFunction, DimensionTemplate, FilterTemplate, Join, KeyTemplate, Shape, Target,
};
use deparse::Deparser;

#[pg_guard]
pub unsafe extern "C-unwind" fn explain_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
    state: *mut pg_sys::ExplainState,
) {
    // SAFETY: PostgreSQL's executor and EXPLAIN structures.
    unsafe {
        let scan_plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let template = plan::decode((*scan_plan).fdw_private).or_raise();
        let explain = Explain { state };
        let deparser = Deparser::new(node, scan_plan, state, &template);
        if !matches!(&template.filter, FilterTemplate::And(parts) if parts.is_empty()) {
            explain.text(c"Pushed Filter", &deparser.filter(&template.filter, true));
        }
        if let Some(kept) = &template.kept
            && !matches!(&kept.below, FilterTemplate::And(parts) if parts.is_empty())
        {
            explain.text(c"Pushed Join Filter", &deparser.filter(&kept.below, true));
        }
        if !template.dimensions.is_empty() {
            let found = if (*state).analyze { scan::state(node).map(|s| s.inputs.dimensions.rows()) } else { None };
            let of = |(nth, dimension): (usize, &DimensionTemplate)| {
                let rows = found.as_ref().and_then(|f| f.get(nth).copied().flatten());
                describe_dimension(dimension, rows)
            };
            let dimensions: Vec<String> = template.dimensions.iter().enumerate().map(of).collect();
            explain.list(c"Dimensions", &dimensions);
        }
        if let Shape::Groups(groups) = &template.shape {
            let keys = deparser.targets(groups, |t| matches!(t, Target::Key(_)));
            if !keys.is_empty() {
                explain.list(c"Pushed Group Key", &keys);
            }
            if groups.sets.len() > 1 {
                explain.list(c"Pushed Grouping Sets", &deparser.sets(groups));
            }
            let aggregates = deparser.targets(groups, |t| matches!(t, Target::Aggregate(_) | Target::Folded(..)));
            if !aggregates.is_empty() {
                explain.list(c"Pushed Aggregates", &aggregates);
            }
            if let Some(top) = &groups.top {
                explain.list(c"Pushed Order", &deparser.order(groups, top));
                explain.text(c"Pushed Limit", &deparser.limit(top.limit, top.offset));
            }
            if (*state).verbose {
                let how: Vec<String> = groups
                    .keys
                    .iter()
                    .map(describe_key)
                    .chain(groups.aggregates.iter().map(|a| describe_function(a.function)))
                    .chain(groups.folds.iter().map(|f| describe_fold(&f.columns)))
                    .collect();
                explain.list(c"Engine Operations", &how);
            }
        }
        if let Shape::Rows { top: Some(top), .. } = &template.shape {
            explain.list(c"Pushed Order", &[deparser.row_order(top)]);
            explain.text(c"Pushed Limit", &deparser.limit(top.limit, top.offset));
        }
        explain.reasons(&template.reasons);
        let pruned = match scan::state(node) {
            Some(scan) => Some(scan.pruned),
            None => Scan::foresee(node).or_raise(),
        };
        if let Some(pruned) = pruned {
            explain.count(c"Segments Considered", pruned.considered);
            explain.count(c"Segments Pruned by Time", pruned.by_time);
            explain.count(c"Segments Pruned by Statistics", pruned.by_statistics);
        }
        if let (true, Some(scan)) = ((*state).analyze, scan::state(node)) {
            explain.execution(scan, &deparser);
        }
    }
}

/// PostgreSQL's EXPLAIN output.
struct Explain {
    state: *mut pg_sys::ExplainState,
}

impl Explain {
    fn text(&self, label: &'static CStr, value: &str) {
        let value = CString::new(value).unwrap_or_default();
        // SAFETY: both strings live during the call, which copies them.
        unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), value.as_ptr(), self.state) }
    }

    fn list(&self, label: &'static CStr, values: &[String]) {
        let mut list = std::ptr::null_mut();
        for value in values {
            let value = CString::new(value.as_str()).unwrap_or_default();
            // SAFETY: pstrdup copies the string.
            list = unsafe { pg_sys::lappend(list, pg_sys::pstrdup(value.as_ptr()).cast()) };
        }
        // SAFETY: a list of C strings.
        unsafe { pg_sys::ExplainPropertyList(label.as_ptr(), list, self.state) }
    }

    fn count(&self, label: &'static CStr, value: u64) {
        self.number(label, std::ptr::null(), value);
    }

    fn bytes(&self, label: &'static CStr, value: u64) {
        self.number(label, c"bytes".as_ptr(), value);
    }

    fn number(&self, label: &'static CStr, unit: *const c_char, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        // SAFETY: the strings live during the call.
        unsafe { pg_sys::ExplainPropertyInteger(label.as_ptr(), unit, value, self.state) }
    }

    /// In milliseconds, as PostgreSQL shows times.
    fn time(&self, label: &'static CStr, value: Duration) {
        // SAFETY: the strings live during the call.
        unsafe {
            let unit = c"ms".as_ptr();
            pg_sys::ExplainPropertyFloat(label.as_ptr(), unit, value.as_secs_f64() * 1e3, 3, self.state);
        }
    }

    fn is_text(&self) -> bool {
        // SAFETY: PostgreSQL's EXPLAIN structure.
        unsafe { (*self.state).format == pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT }
    }

    /// What is not pushed down, and what to do about it.
    fn reasons(&self, reasons: &[String]) {
        self.lines(c"Not Pushed", reasons);
        let advice: Vec<String> = advice(reasons.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
        self.lines(c"To Push Down", &advice);
    }

    /// Each on a line of its own; one list where labels must differ.
    fn lines(&self, label: &'static CStr, lines: &[String]) {
        if self.is_text() {
            lines.iter().for_each(|line| self.text(label, line));
        } else if !lines.is_empty() {
            self.list(label, lines);
        }
    }

    fn execution(&self, scan: &Scan, deparser: &Deparser) {
        let done = scan.statistics();
        self.count(c"Segments Scanned", done.segments_scanned);
        self.count(c"Blocks", done.blocks_total);
        self.count(c"Blocks Skipped", done.blocks_skipped);
        self.count(c"Blocks Answered from Headers", done.blocks_from_headers);
        self.count(c"Rows Scanned", done.rows_scanned);
        self.count(c"Rows Selected", done.rows_selected);
        self.filters(&done.filters, deparser);
        self.count(c"Threads", done.threads);
        // SAFETY: PostgreSQL's EXPLAIN structure.
        let (buffers, timing) = unsafe { ((*self.state).buffers, (*self.state).timing) };
        if buffers {
            self.bytes(c"Bytes Touched", done.bytes_touched);
        }
        if timing {
            self.time(c"Engine Time", scan.times.engine);
            self.time(c"Merge Time", scan.times.merge);
            self.time(c"Output Time", scan.times.output);
        }
    }

    /// How the tests of each column were decided, and in how many segments.
    fn filters(&self, filters: &[FilterUse], deparser: &Deparser) {
        if filters.is_empty() {
            return;
        }
        let mut filters: Vec<(String, &FilterUse)> = filters.iter().map(|f| (deparser.name(f.column), f)).collect();
        filters.sort_by(|a, b| (&a.0, a.1.way).cmp(&(&b.0, b.1.way)));
        let label = c"Filter Methods";
        if self.is_text() {
            let text = |(name, used): &(String, &FilterUse)| {
                format!("{name} by {} in {} segments", describe_way(used.way), used.segments)
            };
            return self.list(label, &filters.iter().map(text).collect::<Vec<_>>());
        }
        // SAFETY: the strings live during the calls, and every group is closed.
        unsafe {
            pg_sys::ExplainOpenGroup(label.as_ptr(), label.as_ptr(), false, self.state);
            for (name, used) in &filters {
                let group = c"Filter Method".as_ptr();
                pg_sys::ExplainOpenGroup(group, std::ptr::null(), true, self.state);
                self.text(c"Column", name);
                self.text(c"Method", describe_way(used.way));
                self.count(c"Segments", used.segments);
                pg_sys::ExplainCloseGroup(group, std::ptr::null(), true, self.state);
            }
            pg_sys::ExplainCloseGroup(label.as_ptr(), label.as_ptr(), false, self.state);
        }
    }
}

fn describe_way(way: Way) -> &'static str {
    match way {
        Way::Whole => "dictionary",
        Way::Bitmap => "bitmap",
        Way::BlockList => "block list",
        Way::Codes => "scan of codes",
        Way::Values => "scan of values",
        Way::Computed => "computation",
    }
}

fn describe_dimension(dimension: &DimensionTemplate, rows: Option<u64>) -> String {
    let join = match dimension.join {
        Join::Inner => "join",
        Join::Left => "left join",
        Join::Semi => "semi-join",
        Join::Anti => "anti-join",
        Join::Filter => "filter by keys",
        Join::Right => "right join",
        Join::Full => "full join",
    };
    let rows = rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
    format!("{}: {join} on {}{rows}", dimension.name, dimension.condition)
}

fn describe_fold(columns: &[usize]) -> String {
    format!("distinct values of {} columns and their counts, aggregated by PostgreSQL", columns.len())
}

fn describe_key(key: &KeyTemplate) -> String {
    match key {
        KeyTemplate::Class { .. } => "key: classes of equal values".into(),
        KeyTemplate::Column(_) => "key: codes or values of a column".into(),
        KeyTemplate::Buckets { pieces, .. } => {
            let units: Vec<String> = pieces.iter().map(|p| format!("{:?}", p.unit).to_lowercase()).collect();
            format!("key: buckets of time, cut by {}", units.join(", "))
        }
    }
}

fn describe_function(function: AggregateFunction) -> String {
    let text = match function {
        AggregateFunction::CountStar => "count of rows",
        AggregateFunction::Count(_) => "count of values",
        AggregateFunction::CountDistinct(_) => "count of distinct values",
        AggregateFunction::Sum(_) => "sum",
        AggregateFunction::Avg(_) => "sum and count",
        AggregateFunction::Min(_, None) => "minimum",
        AggregateFunction::Max(_, None) => "maximum",
        AggregateFunction::Min(_, Some(_)) => "minimum by collation",
        AggregateFunction::Max(_, Some(_)) => "maximum by collation",
        AggregateFunction::BoolAnd(_) => "conjunction",
        AggregateFunction::BoolOr(_) => "disjunction",
        AggregateFunction::BitAnd(_) => "conjunction of bits",
        AggregateFunction::BitOr(_) => "disjunction of bits",
        AggregateFunction::BitXor(_) => "exclusive disjunction of bits",
        AggregateFunction::Variance { .. } => "sum, sum of squares and count",
        AggregateFunction::Regression { .. } => "sums, sums of products and count of pairs",
        AggregateFunction::CountPairs(..) => "count of pairs",
    };
    text.into()
}
