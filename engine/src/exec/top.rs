//! The first groups in an order: which ones they are is seen from the states, so that only they become values.
//!
//! Terms are looked at one after the other, each among the groups that tie in those before it: a selection (C. A. R. Hoare, "Algorithm
//! 65: FIND", 1961) by the N-th group splits them into groups before it, ties and groups behind it. A term that ranks groups only
//! nearly (an average, a prefix of a byte string) is the last one: what might tie with the N-th group stays.

use super::columns::{float_key, float_of_key};
use super::moments::{self, Sums};
use super::primitives::Program;
use super::states::reserve;
use crate::plan::{By, Host, Top};
use crate::{Budget, Result};

/// How a rank follows the order of a term's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Exact,
    /// The rank is the `float_key` of a value that is right to a few units in the last place.
    Near,
    /// Different values may have one rank.
    Prefix,
}

/// Groups whose outputs can be ranked before they are made into values.
pub(super) trait Ranked {
    /// `None`: what the term orders by can't be ranked.
    fn order(&self, by: By) -> Option<Order>;
    /// Ascending with the value; `None` for NULL.
    fn rank(&self, by: By, group: u32) -> Result<Option<i128>>;
    /// Of terms that order by a count: the ranks by group.
    fn counts(&self, by: By) -> Option<&[i64]> {
        let _ = by;
        None
    }
}

/// Groups handled between two polls.
const STEP: usize = 1 << 16;
/// Relative distance beyond which two averages surely differ, and in this order, also when PostgreSQL has rounded them to 16 digits.
const NEAR: f64 = 1e-12;

/// Those of `candidates` that are not surely behind the first `top.limit`.
pub(super) fn first(
    mut candidates: Vec<u32>,
    top: &Top,
    ranked: &dyn Ranked,
    budget: &Budget,
    host: &mut dyn Host,
) -> Result<Vec<u32>> {
    let mut need = top.limit;
    // Whether groups that are left tie in the whole order.
    let mut tie = top.complete;
    let mut chosen = Vec::new();
    let mut held = budget.reserve(0)?;
    for (nth, term) in top.terms.iter().enumerate() {
        let Some(order) = ranked.order(term.by).filter(|_| need < candidates.len()) else {
            tie = false;
            break;
        };
        let (mut ranks, mut nulls): (Vec<(i128, u32)>, Vec<u32>) = (Vec::new(), Vec::new());
        let last = |ranks: &mut [(i128, u32)]| ranks.select_nth_unstable_by_key(need - 1, |r| r.0).1.0;
        // Ranks beyond which those that are surely behind are let go.
        let mut most = need.saturating_mul(2).max(STEP / 4);
        // No later one need be looked at.
        let mut surely = i128::MAX;
        let counts = ranked.counts(term.by).filter(|_| order == Order::Exact);
        for chunk in candidates.chunks(STEP) {
            host.poll()?;
            if ranks.len() > most && need > 0 {
                let edge = last(&mut ranks);
                if tie && order == Order::Exact && nth + 1 == top.terms.len() {
                    ranks.truncate(need);
                    surely = edge - 1;
                } else {
                    let edge = if order == Order::Near { around(edge, term.descending).1 } else { edge };
                    ranks.retain(|r| r.0 <= edge);
                    surely = edge;
                }
                most = most.max(ranks.len() * 2);
            }
            if let Some(counts) = counts {
                let surely = surely.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
                let rank = |group: u32| if term.descending { !counts[group as usize] } else { counts[group as usize] };
                let near = || chunk.iter().filter(|group| rank(**group) <= surely);
                let all = ranks.len() + near().count();
                reserve(&mut ranks, all, &mut held)?;
                ranks.extend(near().map(|group| (i128::from(rank(*group)), *group)));
                continue;
            }
            let (all, none) = (ranks.len() + chunk.len(), nulls.len() + chunk.len());
            reserve(&mut ranks, all, &mut held)?;
            reserve(&mut nulls, none, &mut held)?;
            for &group in chunk {
                match ranked.rank(term.by, group)?.map(|rank| if term.descending { !rank } else { rank }) {
                    Some(rank) if rank > surely => {}
                    Some(rank) => ranks.push((rank, group)),
                    None => nulls.push(group),
                }
            }
        }
        if term.nulls_first {
            if need <= nulls.len() {
                candidates = nulls;
                continue;
            }
            need -= nulls.len();
            chosen.append(&mut nulls);
        } else if ranks.len() <= need {
            need -= ranks.len();
            chosen.extend(ranks.iter().map(|r| r.1));
            candidates = nulls;
            continue;
        }
        if need == 0 {
            candidates.clear();
            break;
        }
        let edge = ranks.select_nth_unstable_by_key(need - 1, |r| r.0).1.0;
        let (low, high) = if order == Order::Near { around(edge, term.descending) } else { (edge, edge) };
        candidates.clear();
        for &(rank, group) in &ranks {
            if rank < low {
                chosen.push(group);
                need -= 1;
            } else if rank <= high {
                candidates.push(group);
            }
        }
        if order != Order::Exact {
            tie = false;
            break;
        }
    }
    if need > 0 {
        if tie {
            candidates.truncate(need);
        }
        chosen.append(&mut candidates);
    }
    Ok(chosen)
}

/// The ranks that may stand for the value of rank `edge`.
fn around(edge: i128, descending: bool) -> (i128, i128) {
    let value = float_of_key(if descending { !edge } else { edge } as i64);
    if !value.is_finite() {
        return (edge, edge);
    }
    let margin = value.abs() * NEAR;
    let (low, high) = (i128::from(float_key(value - margin)), i128::from(float_key(value + margin)));
    if descending { (!high, !low) } else { (low, high) }
}

/// Errors: `OutOfRange` if a variance or a regression of one of the groups is. `counts`: of a count primitive.
pub(super) fn check_moments<'c>(
    program: &Program,
    sums: &dyn Sums,
    counts: impl Fn(usize) -> &'c [i64],
    groups: &[u32],
    host: &mut dyn Host,
) -> Result<()> {
    for output in program.outputs.iter().filter(|o| !moments::is_moderate(sums, o)) {
        let counts = counts(output.count);
        for groups in groups.chunks(STEP / 16) {
            host.poll()?;
            groups.iter().try_for_each(|g| moments::value(sums, output, counts[*g as usize], *g).map(drop))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{NoHost, Term};

    /// Two columns of a group's number; the second has few values, and NULL.
    struct Numbers;

    impl Ranked for Numbers {
        fn order(&self, _: By) -> Option<Order> {
            Some(Order::Exact)
        }
        fn rank(&self, by: By, group: u32) -> Result<Option<i128>> {
            let mixed = i128::from(group.wrapping_mul(2_654_435_761));
            Ok(match by {
                By::Key(_) => Some(mixed),
                By::Aggregate(_) => Some(mixed % 5).filter(|v| *v != 3),
            })
        }
    }

    /// More groups than are held together: those that are surely behind are let go on the way.
    #[test]
    fn the_first_of_many_are_found() {
        let groups: Vec<u32> = (0..200_000).collect();
        for (descending, nulls_first) in [(false, true), (true, false)] {
            let few = Term { by: By::Aggregate(0), descending, nulls_first };
            let all = Term { by: By::Key(0), descending, nulls_first };
            for terms in [vec![few], vec![few, all], vec![all], vec![all, few]] {
                for (limit, complete) in [(0, true), (7, false), (1000, true), (70_000, true), (70_000, false)] {
                    let top = Top { terms: terms.clone(), limit, complete };
                    let budget = Budget::new(64 << 20);
                    let mut found = first(groups.clone(), &top, &Numbers, &budget, &mut NoHost).unwrap();
                    assert_eq!(budget.used(), 0);
                    let place = |group: &u32| -> Vec<(u8, i128)> {
                        let place = |term: &Term| match Numbers.rank(term.by, *group).unwrap() {
                            None => (if nulls_first { 0 } else { 2 }, 0),
                            Some(rank) => (1, if descending { -rank } else { rank }),
                        };
                        terms.iter().map(place).collect()
                    };
                    let mut sorted: Vec<_> = groups.iter().map(place).collect();
                    sorted.sort_unstable();
                    assert!(found.len() >= limit && (!complete || found.len() == limit), "{top:?}: {}", found.len());
                    found.sort_unstable();
                    assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
                    let mut places: Vec<_> = found.iter().map(place).collect();
                    places.sort_unstable();
                    assert_eq!(places[..limit], sorted[..limit], "{top:?}");
                }
            }
        }
    }
}
