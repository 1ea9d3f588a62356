//! Where a constant stands among a column's stored values, and what a comparison with it selects.

use serde::{Deserialize, Serialize};

use super::{Bound, Filter, Predicate, Test};
use crate::types::Value;

/// How a column is compared with a constant.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    Ne,
    Like,
    NotLike,
}

impl Comparison {
    /// The comparison that is true of non-NULL operands where this one is false.
    pub fn negate(self) -> Self {
        use Comparison::*;
        match self {
            Lt => Ge,
            Le => Gt,
            Eq => Ne,
            Ge => Lt,
            Gt => Le,
            Ne => Eq,
            Like => NotLike,
            NotLike => Like,
        }
    }

    /// The comparison with its operands exchanged.
    pub fn commute(self) -> Option<Self> {
        use Comparison::*;
        match self {
            Lt => Some(Gt),
            Le => Some(Ge),
            Eq => Some(Eq),
            Ge => Some(Le),
            Gt => Some(Lt),
            Ne => Some(Ne),
            Like | NotLike => None,
        }
    }
}

/// A constant's place in the order of the values that a column can hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Exactly(Value),
    /// Greater than the value, less than the next one.
    After(Value),
    BelowAll,
    AboveAll,
}

/// What `column op point` selects: never NULL. LIKE wants `Exactly` the pattern's bytes.
pub fn select(column: usize, op: Comparison, point: Point) -> Filter {
    use Comparison::*;
    use Point::*;
    let test = |test| Filter::Test(Predicate { column, test });
    let range = |low, high| test(Test::Range { low, high });
    let all = || test(Test::IsNotNull);
    match (op, point) {
        (Eq, Exactly(v)) => test(Test::In(vec![v])),
        (Eq, _) => Filter::Const(false),
        (Ne, Exactly(v)) => test(Test::NotIn(vec![v])),
        (Ne, _) => all(),
        (Lt, Exactly(v)) => range(Bound::Unbounded, Bound::Excluded(v)),
        (Le, Exactly(v)) | (Lt | Le, After(v)) => range(Bound::Unbounded, Bound::Included(v)),
        (Gt, Exactly(v)) | (Gt | Ge, After(v)) => range(Bound::Excluded(v), Bound::Unbounded),
        (Ge, Exactly(v)) => range(Bound::Included(v), Bound::Unbounded),
        (Lt | Le, AboveAll) | (Gt | Ge, BelowAll) => all(),
        (Lt | Le, BelowAll) | (Gt | Ge, AboveAll) => Filter::Const(false),
        (Like | NotLike, Exactly(Value::Bytes(pattern))) => test(Test::Like { pattern, negated: op == NotLike }),
        (Like | NotLike, _) => Filter::Const(false),
    }
}

/// A float8 among 64-bit integers.
pub fn float_among_integers(x: f64) -> Point {
    // 2^63 is the first float beyond i64.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if x.is_nan() || x >= END {
        return Point::AboveAll;
    }
    if x < -END {
        return Point::BelowAll;
    }
    let floor = x.floor();
    let value = Value::I64(floor as i64);
    if floor == x { Point::Exactly(value) } else { Point::After(value) }
}

/// A quotient among integers: `n / unit`, rounded down where it is not whole.
pub fn whole_units(n: i64, unit: i64) -> Point {
    let value = Value::I64(n.div_euclid(unit));
    if n.rem_euclid(unit) == 0 { Point::Exactly(value) } else { Point::After(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_among_integers() {
        assert_eq!(float_among_integers(2.5), Point::After(Value::I64(2)));
        assert_eq!(float_among_integers(-2.5), Point::After(Value::I64(-3)));
        assert_eq!(float_among_integers(-0.0), Point::Exactly(Value::I64(0)));
        assert_eq!(float_among_integers(f64::NAN), Point::AboveAll);
        assert_eq!(float_among_integers(f64::NEG_INFINITY), Point::BelowAll);
    }

    fn selected(op: Comparison, point: Point) -> Vec<i64> {
        let holds = |v: i64| match select(0, op, point.clone()) {
            Filter::Const(c) => c,
            Filter::Test(p) => match p.test {
                Test::IsNotNull => true,
                Test::In(list) => list.contains(&Value::I64(v)),
                Test::NotIn(list) => !list.contains(&Value::I64(v)),
                Test::Range { low, high } => {
                    (match low {
                        Bound::Unbounded => true,
                        Bound::Included(Value::I64(b)) => v >= b,
                        Bound::Excluded(Value::I64(b)) => v > b,
                        _ => panic!(),
                    }) && (match high {
                        Bound::Unbounded => true,
                        Bound::Included(Value::I64(b)) => v <= b,
                        Bound::Excluded(Value::I64(b)) => v < b,
                        _ => panic!(),
                    })
                }
                _ => panic!(),
            },
            _ => panic!(),
        };
        (-4..=4).filter(|v| holds(*v)).collect()
    }

    #[test]
    fn comparisons_with_any_float_equal_the_float_comparison() {
        use Comparison::*;
        for x in [-9.0, -2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 3.5, 4.0, 77.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for op in [Lt, Le, Eq, Ge, Gt, Ne] {
                // PostgreSQL's order: NaN is greater than every number.
                let less = |v: f64| v < x || x.is_nan();
                let expected: Vec<i64> = (-4..=4)
                    .filter(|v| {
                        let v = *v as f64;
                        match op {
                            Lt => less(v),
                            Le => less(v) || v == x,
                            Eq => v == x,
                            Ge => !less(v),
                            Gt => !less(v) && v != x,
                            _ => v != x,
                        }
                    })
                    .collect();
                assert_eq!(selected(op, float_among_integers(x)), expected, "{op:?} {x}");
            }
        }
    }

    #[test]
    fn days_of_times() {
        assert_eq!(whole_units(-1, 10), Point::After(Value::I64(-1)));
        assert_eq!(whole_units(20, 10), Point::Exactly(Value::I64(2)));
    }
}
