//! Which closed intervals to hand off, and how their rows are cut into final segments.

use basalt_engine::{TimeInterval, TimeRanges};

/// A fresh or derived segment with visible rows. Times are microseconds since 2000-01-01 UTC.
#[derive(Clone, Debug)]
pub struct Candidate<Id> {
    pub id: Id,
    pub rows: u64,
    /// Smallest and largest time of its rows, both inclusive; `None`: the table has no time column.
    pub time: Option<(i64, i64)>,
    pub visibility: TimeRanges,
    /// When it was published.
    pub created: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct HandoffPolicy {
    /// Rows of a final segment, about.
    pub target_rows: u64,
    /// How long after its rows came an interval is handed off; and how long after its end it closes.
    pub delay: i64,
}

impl Default for HandoffPolicy {
    fn default() -> Self {
        HandoffPolicy { target_rows: 5_000_000, delay: 900_000_000 }
    }
}

/// One final segment to make: the rows of `sources` whose time is in `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final<Id> {
    /// Begins and ends at interval boundaries.
    pub window: TimeInterval,
    pub sources: Vec<Id>,
}

/// One hand-off; after it nothing of `window` is left in its sources.
#[derive(Debug)]
pub struct Handoff<'c, Id> {
    pub window: TimeInterval,
    windows: Vec<TimeInterval>,
    candidates: &'c [Candidate<Id>],
}

impl<Id: Clone> Handoff<'_, Id> {
    /// All finals, in order of time; each looks at all candidates when it is asked for.
    pub fn finals(&self) -> impl Iterator<Item = Final<Id>> {
        self.windows.iter().filter_map(|window| {
            let reaches = |c: &&Candidate<Id>| {
                c.time.is_some_and(|(min, max)| min < window.end && max >= window.start)
                    && visible_span(c, window.end).is_some_and(|(_, high)| high >= window.start)
            };
            let sources: Vec<Id> = self.candidates.iter().filter(reaches).map(|c| c.id.clone()).collect();
            (!sources.is_empty()).then_some(Final { window: *window, sources })
        })
    }
}

impl HandoffPolicy {
    /// `interval_of` gives the interval that holds a time. `None`: nothing is due. Sources of one hand-off must be
    /// of one group (one ingestion, one set of columns); candidates stand in publishing order.
    pub fn choose<'c, Id: Clone>(
        &self,
        candidates: &'c [Candidate<Id>],
        now: i64,
        interval_of: impl Fn(i64) -> TimeInterval,
    ) -> Option<Handoff<'c, Id>> {
        // The interval of `now - delay` is still open; infinity never closes.
        let closed = interval_of(now.saturating_sub(self.delay)).start;
        let spans: Vec<Option<(i64, i64)>> = candidates.iter().map(|c| visible_span(c, closed)).collect();
        let overlapping = || candidates.iter().zip(&spans).filter_map(|(c, span)| span.map(|s| (c, s)));
        let (start, last) = overlapping().fold(None, |all: Option<(i64, i64)>, (_, (low, high))| {
            Some(all.map_or((low, high), |(l, h)| (l.min(low), h.max(high))))
        })?;
        let rows: u64 = overlapping().map(|(c, span)| share(c, span)).sum();
        let oldest = overlapping().map(|(c, _)| c.created).min()?;
        if rows < self.target_rows && oldest > now.saturating_sub(self.delay) {
            return None;
        }
        let window = TimeInterval::new(interval_of(start).start, interval_of(last).end.min(closed));
        let cuts = self.cuts(&overlapping().collect::<Vec<_>>(), rows, window, interval_of);
        let windows = cuts.windows(2).map(|w| TimeInterval::new(w[0], w[1])).collect();
        Some(Handoff { window, windows, candidates })
    }

    /// Boundaries of finals, first and last those of `window`, chosen so that each holds about `target_rows` if rows are
    /// spread evenly within their segments.
    fn cuts<Id>(
        &self,
        sources: &[(&Candidate<Id>, (i64, i64))],
        rows: u64,
        window: TimeInterval,
        interval_of: impl Fn(i64) -> TimeInterval,
    ) -> Vec<i64> {
        // Where the number of rows by time bends, and by how many rows a microsecond.
        let slope = |c: &Candidate<Id>, span: (i64, i64)| {
            rows_before(c, span, i64::MAX) / (span.1.abs_diff(span.0) as f64 + 1.0)
        };
        let mut bends: Vec<(i64, f64)> = sources
            .iter()
            .flat_map(|(c, span)| [(span.0, slope(c, *span)), (span.1.saturating_add(1), -slope(c, *span))])
            .collect();
        bends.sort_by_key(|(time, _)| *time);
        let mut bends = bends.into_iter();
        let (mut at, mut passed, mut slope) = (window.start, 0.0, 0.0);
        let (mut bend, mut change) = bends.next().unwrap_or((window.end, 0.0));
        let mut cuts = vec![window.start];
        let pieces = rows.div_ceil(self.target_rows.max(1));
        for piece in 1..pieces {
            let wanted = rows as f64 * piece as f64 / pieces as f64;
            // The time before which `wanted` rows lie.
            while at < window.end {
                let more = slope * bend.abs_diff(at) as f64;
                if passed + more >= wanted {
                    break;
                }
                passed += more;
                (at, slope) = (bend, slope + change);
                (bend, change) = bends.next().unwrap_or((window.end, 0.0));
            }
            let time = at.saturating_add(((wanted - passed) / slope).ceil() as i64).clamp(at, bend.max(at));
            let cut = interval_of(time).start;
            if cut > *cuts.last().expect("never empty") && cut < window.end {
                cuts.push(cut);
            }
        }
        cuts.push(window.end);
        cuts
    }
}

/// First and last time (inclusive) of a candidate's visible rows before `end`, as far as statistics tell.
fn visible_span<Id>(candidate: &Candidate<Id>, end: i64) -> Option<(i64, i64)> {
    let (min, max) = candidate.time?;
    if min >= end {
        return None;
    }
    let own = TimeInterval::new(min, max.saturating_add(1).min(end));
    let visible = candidate.visibility.intersection(&own);
    let first = visible.intervals().first()?.start;
    Some((first, visible.intervals().last()?.end - 1))
}

/// Rows of a candidate within `span`, estimated.
fn share<Id>(candidate: &Candidate<Id>, span: (i64, i64)) -> u64 {
    rows_before(candidate, span, i64::MAX) as u64
}

fn rows_before<Id>(candidate: &Candidate<Id>, (low, high): (i64, i64), time: i64) -> f64 {
    let Some((min, max)) = candidate.time else { return 0.0 };
    let end = time.min(high.saturating_add(1));
    if end <= low {
        return 0.0;
    }
    let length = (max as f64 - min as f64) + 1.0;
    candidate.rows as f64 * ((end as f64 - low as f64) / length).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn hour(time: i64) -> TimeInterval {
        let start = time.div_euclid(HOUR) * HOUR;
        TimeInterval::new(start, start + HOUR)
    }

    fn segment(id: u32, rows: u64, time: (i64, i64), created: i64) -> Candidate<u32> {
        Candidate { id, rows, time: Some(time), visibility: TimeRanges::all(), created }
    }

    fn policy() -> HandoffPolicy {
        HandoffPolicy { target_rows: 1000, delay: 600 }
    }

    #[test]
    fn open_and_young_intervals_wait() {
        let now = 10 * HOUR;
        // 9:00-10:00 closes at 10:10.
        let open = segment(1, 10, (9 * HOUR, 10 * HOUR - 1), 0);
        assert!(policy().choose(std::slice::from_ref(&open), now, hour).is_none());
        assert!(policy().choose(&[open], now + 600, hour).is_some());
        let young = segment(1, 10, (HOUR, 2 * HOUR), now - 599);
        assert!(policy().choose(std::slice::from_ref(&young), now, hour).is_none());
        assert!(
            policy().choose(&[Candidate { rows: 1000, ..young }], now, hour).is_some(),
            "there is enough for a final"
        );
    }

    #[test]
    fn times_before_2000_are_cut_as_others_are() {
        let segments = [segment(1, 3000, (-90 * HOUR, -1), 0)];
        for shift in 0..50 {
            let rows = 3000 + 37 * shift;
            let moved = [Candidate { rows, time: Some((-90 * HOUR - shift as i64, -1)), ..segments[0].clone() }];
            let handoff = policy().choose(&moved, 10 * HOUR, hour).unwrap();
            let finals: Vec<_> = handoff.finals().collect();
            assert_eq!(finals.len() as u64, rows.div_ceil(1000));
            assert!(finals.windows(2).all(|w| w[0].window.end == w[1].window.start));
        }
    }

    #[test]
    fn a_segment_that_reaches_into_the_open_interval_gives_its_closed_part() {
        let now = 10 * HOUR;
        let segments = [segment(1, 100, (7 * HOUR, 8 * HOUR), 0), segment(2, 100, (8 * HOUR, 10 * HOUR), 0)];
        let handoff = policy().choose(&segments, now, hour).unwrap();
        let window = TimeInterval::new(7 * HOUR, 9 * HOUR);
        assert_eq!(handoff.window, window);
        assert_eq!(handoff.finals().collect::<Vec<_>>(), [Final { window, sources: vec![1, 2] }]);
        // What is left of segment 2 is not handed off again.
        let rest = Candidate { visibility: TimeRanges::all().subtract(&window), ..segments[1].clone() };
        assert!(policy().choose(&[rest], now, hour).is_none());
    }

    #[test]
    fn finals_have_about_the_target_and_align() {
        let segments: Vec<_> =
            (0..20).map(|i| segment(i, 250, (i64::from(i) * HOUR, i64::from(i + 1) * HOUR - 1), 0)).collect();
        let handoff = policy().choose(&segments, 100 * HOUR, hour).unwrap();
        assert_eq!(handoff.window, TimeInterval::new(0, 20 * HOUR));
        assert_eq!(handoff.finals().count(), 5);
        let mut end = 0;
        for piece in handoff.finals() {
            assert_eq!(piece.window.start, end, "finals leave no gap");
            assert_eq!(piece.window.end % HOUR, 0);
            assert!((3..=5).contains(&piece.sources.len()), "{piece:?}");
            end = piece.window.end;
        }
        assert_eq!(end, 20 * HOUR);
    }

    #[test]
    fn tables_without_time_and_infinite_times_stay() {
        let none = Candidate { time: None, ..segment(1, 5000, (0, 0), 0) };
        assert!(policy().choose(&[none], 100 * HOUR, hour).is_none());
        let infinite = segment(1, 5000, (i64::MAX, i64::MAX), 0);
        assert!(policy().choose(&[infinite], 100 * HOUR, hour).is_none());
    }
}
