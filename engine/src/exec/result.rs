//! Columns of results.

use crate::types::Value;

/// Values of a column, nearly always of one type but for NULLs. They stand in a few vectors: millions of them are let go as fast as one.
#[derive(Clone, Debug, Default)]
pub struct Values {
    held: Held,
    /// Whether each is not NULL; empty while none is.
    valid: Vec<bool>,
}

#[derive(Clone, Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Ints(Vec<i64>),
    Wide(Vec<i128>),
    Floats(Vec<f64>),
    Bytes {
        ends: Vec<usize>,
        data: Vec<u8>,
    },
    /// Of several types.
    Mixed(Vec<Value>),
    /// So many NULLs.
    Nulls(usize),
}

impl Values {
    /// As many NULLs.
    pub fn nulls(len: usize) -> Values {
        Values { held: Held::Nulls(len), valid: Vec::new() }
    }

    pub fn len(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Ints(v) => v.len(),
            Held::Wide(v) => v.len(),
            Held::Floats(v) => v.len(),
            Held::Bytes { ends, .. } => ends.len(),
            Held::Mixed(v) => v.len(),
            Held::Nulls(len) => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value `at`; `None` past the end.
    pub fn get(&self, at: usize) -> Option<Value> {
        if at >= self.len() {
            return None;
        }
        if self.valid.get(at) == Some(&false) {
            return Some(Value::Null);
        }
        Some(match &self.held {
            Held::Nothing | Held::Nulls(_) => Value::Null,
            Held::Ints(v) => Value::I64(v[at]),
            Held::Wide(v) => Value::I128(v[at]),
            Held::Floats(v) => Value::F64(v[at]),
            Held::Bytes { ends, data } => {
                let start = at.checked_sub(1).map_or(0, |before| ends[before]);
                Value::Bytes(data[start..ends[at]].to_vec())
            }
            Held::Mixed(v) => v[at].clone(),
        })
    }

    /// Byte string `at`, without a copy; `None` where there is none.
    pub fn bytes(&self, at: usize) -> Option<&[u8]> {
        if self.valid.get(at) == Some(&false) {
            return None;
        }
        match &self.held {
            Held::Bytes { ends, data } => {
                let start = at.checked_sub(1).map_or(0, |before| ends[before]);
                data.get(start..*ends.get(at)?)
            }
            Held::Mixed(values) => match values.get(at)? {
                Value::Bytes(bytes) => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value> {
        (0..self.len()).map(|at| self.get(at).unwrap_or(Value::Null))
    }

    /// Bytes that byte strings, and values of several types, take beside a fixed width for each.
    pub(super) fn beside(&self) -> usize {
        match &self.held {
            Held::Bytes { data, .. } => data.capacity(),
            Held::Mixed(values) => values.capacity() * size_of::<Value>(),
            _ => 0,
        }
    }

    /// Adds a value. `all`: how many there will be.
    pub(super) fn push(&mut self, value: Value, all: usize) {
        let len = self.len();
        if let (Held::Nothing | Held::Nulls(_), false) = (&self.held, value.is_null()) {
            let all = all.max(len + 1);
            if len > 0 {
                self.valid = vec![false; len];
            }
            self.held = match &value {
                Value::I64(_) => Held::Ints(filled(len, all)),
                Value::I128(_) => Held::Wide(filled(len, all)),
                Value::F64(_) => Held::Floats(filled(len, all)),
                _ => Held::Bytes { ends: filled(len, all), data: Vec::new() },
            };
        }
        match (&mut self.held, value) {
            (Held::Nothing, _) => self.held = Held::Nulls(1),
            (Held::Nulls(len), _) => *len += 1,
            (_, Value::Null) => {
                self.valid.resize(len, true);
                self.valid.push(false);
                match &mut self.held {
                    Held::Ints(v) => v.push(0),
                    Held::Wide(v) => v.push(0),
                    Held::Floats(v) => v.push(0.0),
                    Held::Bytes { ends, data } => ends.push(data.len()),
                    Held::Mixed(v) => v.push(Value::Null),
                    Held::Nothing | Held::Nulls(_) => {}
                }
                return;
            }
            (Held::Ints(v), Value::I64(value)) => v.push(value),
            (Held::Wide(v), Value::I128(value)) => v.push(value),
            (Held::Floats(v), Value::F64(value)) => v.push(value),
            (Held::Bytes { ends, data }, Value::Bytes(value)) => {
                data.extend_from_slice(&value);
                ends.push(data.len());
            }
            (Held::Mixed(v), value) => v.push(value),
            (_, value) => {
                let mut mixed: Vec<Value> = self.iter().collect();
                mixed.push(value);
                self.held = Held::Mixed(mixed);
            }
        }
        if !self.valid.is_empty() {
            self.valid.push(true);
        }
    }

    /// Adds the values of another column.
    pub fn append(&mut self, more: Values) {
        if self.is_empty() {
            *self = more;
            return;
        }
        let all = self.len() + more.len();
        (0..more.len()).for_each(|at| self.push(more.get(at).unwrap_or(Value::Null), all));
    }

    /// The same with `by` added to integers.
    pub(super) fn shifted(&self, by: i64) -> Values {
        let mut values = self.clone();
        if let Held::Ints(ints) = &mut values.held {
            ints.iter_mut().for_each(|v| *v = v.wrapping_add(by));
        }
        values
    }
}

impl FromIterator<Value> for Values {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        let mut made = Values::default();
        values.into_iter().for_each(|value| made.push(value, 0));
        made
    }
}

/// Room for `all`, the first of them zeros.
fn filled<T: Clone + Default>(len: usize, all: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(all);
    values.resize(len, T::default());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_type_come_back() {
        let (null, text) = (Value::Null, |t: &str| Value::Bytes(t.into()));
        for values in [
            vec![],
            vec![null.clone(), null.clone()],
            vec![Value::I64(3), null.clone(), Value::I64(-1)],
            vec![null.clone(), null.clone(), Value::F64(0.5), Value::F64(f64::INFINITY)],
            vec![null.clone(), text("a"), text(""), null.clone(), text("bc")],
            vec![Value::I128(1 << 90), Value::I128(5)],
            vec![null.clone(), Value::I128(7), text("70000"), null.clone(), Value::I128(8)],
        ] {
            let made: Values = values.iter().cloned().collect();
            assert_eq!(made.iter().collect::<Vec<_>>(), values);
            assert_eq!((made.len(), made.get(values.len())), (values.len(), None));
            let mut twice = made.clone();
            twice.append(made);
            assert_eq!(twice.iter().collect::<Vec<_>>(), [values.clone(), values].concat());
        }
        assert_eq!(Values::nulls(2).iter().collect::<Vec<_>>(), [null.clone(), null.clone()]);
        let ints: Values = [Value::I64(i64::MAX), null.clone()].into_iter().collect();
        assert_eq!(ints.shifted(1).iter().collect::<Vec<_>>(), [Value::I64(i64::MIN), null]);
    }
}
