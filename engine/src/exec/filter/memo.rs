//! What the host said of values before: one that stands in many segments is asked about once.

use hashbrown::HashMap;

use crate::exec::values::BytesMap;
use crate::plan::{Attributes, HostFunction, HostPredicate};
use crate::types::{Physical, Value};
use crate::{Budget, Error, Result};

/// Answers to the host's tests and functions, as far as memory allows and values come again: they only save time.
pub(in crate::exec) struct HostMemo {
    tests: Kept,
    results: Kept,
    of_null: HashMap<u32, bool>,
    budget: Budget,
}

/// By test or function; `None`: answers are not worth keeping.
type Kept = HashMap<u32, Option<Answers>>;

impl HostMemo {
    pub fn new(budget: &Budget) -> Self {
        HostMemo { tests: Kept::new(), results: Kept::new(), of_null: HashMap::new(), budget: budget.clone() }
    }

    /// To be called before a segment's values are asked about.
    pub fn begin_segment(&mut self) {
        for kept in self.tests.values_mut().chain(self.results.values_mut()) {
            if kept.as_mut().is_some_and(|answers| !answers.come_again()) {
                *kept = None;
            }
        }
    }

    pub fn test(&mut self, predicate: HostPredicate, value: &[u8]) -> Option<bool> {
        Some(self.tests.get_mut(&predicate.0)?.as_mut()?.get(value)? == Value::I64(1))
    }

    /// Errors: `Canceled`.
    pub fn learn_test(&mut self, predicate: HostPredicate, value: &[u8], answer: bool) -> Result<()> {
        let answer = Value::I64(i64::from(answer));
        learn(&mut self.tests, predicate.0, Physical::I64, value, &answer, &self.budget)
    }

    pub fn result(&mut self, function: HostFunction, value: &[u8]) -> Option<Value> {
        self.results.get_mut(&function.0)?.as_mut()?.get(value)
    }

    /// Keeps what a function of results of type `ty` made of a value. Errors: `Canceled`.
    pub fn learn_result(&mut self, function: HostFunction, ty: Physical, value: &[u8], result: &Value) -> Result<()> {
        learn(&mut self.results, function.0, ty, value, result, &self.budget)
    }

    pub fn test_of_null(&self, predicate: HostPredicate) -> Option<bool> {
        self.of_null.get(&predicate.0).copied()
    }

    pub fn learn_test_of_null(&mut self, predicate: HostPredicate, answer: bool) {
        self.of_null.insert(predicate.0, answer);
    }
}

fn learn(kept: &mut Kept, of: u32, ty: Physical, value: &[u8], answer: &Value, budget: &Budget) -> Result<()> {
    let Some(answers) = kept.entry(of).or_insert_with(|| Answers::new(ty, budget).ok()) else { return Ok(()) };
    if answers.values.len() >= answers.limit {
        return Ok(());
    }
    match answers.put(value, answer) {
        Err(Error::Budget { .. }) => {
            answers.limit = 0;
            Ok(())
        }
        other => other,
    }
}

/// Answers that are kept before it is known whether values come again.
const TRIED: usize = 1 << 16;
/// What is kept is of use if one in so many values of the segments before is found in the next.
const WORTHWHILE: u128 = 8;

/// What the host made of values, by their numbers.
struct Answers {
    values: BytesMap,
    results: Attributes,
    /// At most so many are kept.
    limit: usize,
    /// In this segment: values asked about, and those among them that were known.
    asked: u64,
    known: u64,
    /// Values asked about in segments before.
    before: u64,
}

impl Answers {
    fn new(ty: Physical, budget: &Budget) -> Result<Self> {
        let (values, results) = (BytesMap::new(budget)?, Attributes::new(ty, budget)?);
        Ok(Answers { values, results, limit: TRIED, asked: 0, known: 0, before: 0 })
    }

    fn get(&mut self, value: &[u8]) -> Option<Value> {
        self.asked += 1;
        let number = self.values.find(value)?;
        self.known += 1;
        Some(self.results.get(number as usize))
    }

    /// `value` is not known yet. Errors: `Budget`, and it still is not.
    fn put(&mut self, value: &[u8], answer: &Value) -> Result<()> {
        self.results.set(self.values.len(), answer)?;
        self.values.number(value).map(drop)
    }

    /// Whether that pays, as far as is known; what is kept is a sample of the values before.
    fn come_again(&mut self) -> bool {
        let (kept, asked) = (self.values.len() as u128, u128::from(self.asked));
        let tried = self.before > 0 && asked >= TRIED as u128 / 4;
        let expected = asked * kept / u128::from(self.before).max(kept).max(1);
        let pays = u128::from(self.known) * WORTHWHILE >= expected;
        if tried && pays && self.limit > 0 {
            self.limit = usize::MAX;
        }
        self.before += self.asked - self.known;
        (self.asked, self.known) = (0, 0);
        pays || !tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: HostPredicate = HostPredicate(3);

    /// Asks about the values, learns those that are not known, and returns how many those were.
    fn segment(memo: &mut HostMemo, values: std::ops::Range<u32>) -> u32 {
        memo.begin_segment();
        let mut unknown = 0;
        for value in values {
            match memo.test(TEST, &value.to_le_bytes()) {
                Some(answer) => assert_eq!(answer, value % 3 == 0),
                None => {
                    unknown += 1;
                    memo.learn_test(TEST, &value.to_le_bytes(), value % 3 == 0).unwrap();
                }
            }
        }
        unknown
    }

    #[test]
    fn values_that_come_again_are_all_kept() {
        let budget = Budget::unlimited();
        let mut memo = HostMemo::new(&budget);
        assert_eq!(segment(&mut memo, 0..200_000), 200_000);
        assert_eq!(segment(&mut memo, 0..200_000), 200_000 - TRIED as u32);
        assert_eq!(segment(&mut memo, 0..200_000), 200_000 - TRIED as u32);
        assert_eq!(segment(&mut memo, 0..200_000), 0);
    }

    #[test]
    fn values_that_do_not_are_forgotten() {
        let budget = Budget::unlimited();
        let mut memo = HostMemo::new(&budget);
        segment(&mut memo, 0..200_000);
        segment(&mut memo, 190_000..400_000);
        assert!(budget.used() > TRIED * 4);
        segment(&mut memo, 0..1000);
        assert_eq!(budget.used(), 0);
        assert_eq!(segment(&mut memo, 0..1000), 1000);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn small_segments_are_not_judged() {
        let mut memo = HostMemo::new(&Budget::unlimited());
        for nth in 0..20 {
            segment(&mut memo, nth * 1000..nth * 1000 + 1000);
        }
        assert_eq!(segment(&mut memo, 0..20_000), 0);
    }

    #[test]
    fn without_memory_nothing_is_learned() {
        let budget = Budget::new(100_000);
        let mut memo = HostMemo::new(&budget);
        segment(&mut memo, 0..50_000);
        let unknown = segment(&mut memo, 0..50_000);
        assert!((40_000..50_000).contains(&unknown), "{unknown}");
        assert!(budget.used() <= 100_000);
    }
}
