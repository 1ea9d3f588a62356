//! What an execution tells of itself, for EXPLAIN ANALYZE.

use std::time::Duration;

use super::filter::{Check, Node};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecStatistics {
    pub segments_scanned: u64,
    pub blocks_total: u64,
    /// Not touched, because block statistics or bitmaps exclude every row.
    pub blocks_skipped: u64,
    /// Answered from block headers alone.
    pub blocks_from_headers: u64,
    pub rows_scanned: u64,
    pub rows_selected: u64,
    /// Encoded bytes of the columns' blocks that were decoded, while segments were made ready and after.
    pub bytes_touched: u64,
    /// The most that worked at once.
    pub threads: u64,
    /// What the calling thread took to merge what threads made, if the host has a clock.
    pub merging: Duration,
    /// How the filter's tests were decided, by column and way.
    pub filters: Vec<FilterUse>,
}

/// In how many segments tests of a column were decided in a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterUse {
    /// Position in the plan's columns.
    pub column: usize,
    pub way: Way,
    pub segments: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By a segment's dictionary or constant alone.
    Whole,
    /// By the index's bitmaps of rows.
    Bitmap,
    /// By the codes of those blocks that the index lists.
    BlockList,
    /// By the codes of every block that headers leave.
    Codes,
    /// By the values of every block that headers leave.
    Values,
    /// By computing the column.
    Computed,
}

impl ExecStatistics {
    pub fn add(&mut self, part: &ExecStatistics) {
        self.segments_scanned += part.segments_scanned;
        self.blocks_total += part.blocks_total;
        self.blocks_skipped += part.blocks_skipped;
        self.blocks_from_headers += part.blocks_from_headers;
        self.rows_scanned += part.rows_scanned;
        self.rows_selected += part.rows_selected;
        self.bytes_touched += part.bytes_touched;
        self.threads = self.threads.max(part.threads);
        self.merging += part.merging;
        part.filters.iter().for_each(|f| self.count(f.column, f.way, f.segments));
    }

    fn count(&mut self, column: usize, way: Way, segments: u64) {
        match self.filters.iter_mut().find(|f| f.column == column && f.way == way) {
            Some(known) => known.segments += segments,
            None => self.filters.push(FilterUse { column, way, segments }),
        }
    }

    /// Notes how one conjunct of a segment's filter is decided. `columns`: those that it tests.
    pub(super) fn note(&mut self, node: &Node, columns: &[usize]) {
        let mut found: Vec<(usize, Way)> = Vec::new();
        ways(node, &mut found);
        for column in columns {
            if !found.iter().any(|(c, _)| c == column) {
                found.push((*column, Way::Whole));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().for_each(|(column, way)| self.count(column, way, 1));
    }
}

fn ways(node: &Node, found: &mut Vec<(usize, Way)>) {
    match node {
        Node::Const(_) => {}
        Node::Or(nodes) => nodes.iter().for_each(|n| ways(n, found)),
        Node::And(nodes) => {
            let start = found.len();
            nodes.iter().for_each(|n| ways(n, found));
            // Beside a list of blocks their codes are tested.
            let listed: Vec<usize> = nodes.iter().filter_map(listed).collect();
            let mut at = 0;
            found.retain(|(column, way)| {
                at += 1;
                at <= start || !(*way == Way::Codes && listed.contains(column))
            });
        }
        Node::Leaf(leaf) => found.push((
            leaf.column,
            match &leaf.check {
                Check::Rows { .. } => Way::Bitmap,
                Check::Blocks(blocks) if blocks.iter().all(|b| b.is_whole()) => Way::BlockList,
                Check::Codes(_) | Check::CodeSet(_) => Way::Codes,
                Check::Null(_) | Check::I64(_) | Check::I128(_) | Check::Bytes(_) => Way::Values,
                Check::Blocks(_) | Check::Host(..) => Way::Values,
                Check::Computed(_) => Way::Computed,
            },
        )),
    }
}

/// The column of a list of blocks.
fn listed(node: &Node) -> Option<usize> {
    match node {
        Node::Leaf(leaf) => match &leaf.check {
            Check::Blocks(blocks) if blocks.iter().all(|b| b.is_whole()) => Some(leaf.column),
            _ => None,
        },
        _ => None,
    }
}
