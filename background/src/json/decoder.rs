//! One JSON object a message, one row an object.

use std::collections::HashMap;

use basalt_engine::rows::RowBuffer;
use basalt_engine::types::{LogicalType, Value};

use super::array::to_array_literal;
use super::scan::{Kind, Token, object, unescape};
use super::time;
use super::value::{self, Bad};

/// How a column's values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    Bool,
    /// Bounds are inclusive.
    Int {
        min: i64,
        max: i64,
    },
    Float4,
    Float8,
    Numeric {
        precision: u8,
        scale: u8,
    },
    Date,
    Timestamp,
    TimestampTz,
    /// At most so many characters; blanks beyond are cut, as PostgreSQL does.
    Text {
        max_characters: Option<u32>,
    },
    /// Blank-padded to so many characters.
    BpChar {
        characters: u32,
    },
    Uuid,
    Bytea,
    NumericText,
    /// Only the host's input function knows; `array`: JSON arrays become array literals first.
    Host {
        array: bool,
    },
}

impl Parse {
    /// The usual way for a type without further modifiers.
    pub fn of(ty: LogicalType) -> Parse {
        match ty {
            LogicalType::Bool => Parse::Bool,
            LogicalType::Int2 => Parse::Int { min: i64::from(i16::MIN), max: i64::from(i16::MAX) },
            LogicalType::Int4 => Parse::Int { min: i64::from(i32::MIN), max: i64::from(i32::MAX) },
            LogicalType::Int8 => Parse::Int { min: i64::MIN, max: i64::MAX },
            LogicalType::Float4 => Parse::Float4,
            LogicalType::Float8 => Parse::Float8,
            LogicalType::Numeric { precision, scale } => Parse::Numeric { precision, scale },
            LogicalType::Date => Parse::Date,
            LogicalType::Timestamp => Parse::Timestamp,
            LogicalType::TimestampTz => Parse::TimestampTz,
            LogicalType::Text => Parse::Text { max_characters: None },
            LogicalType::Uuid => Parse::Uuid,
            LogicalType::Bytea => Parse::Bytea,
            LogicalType::NumericText => Parse::NumericText,
            LogicalType::TextArray => Parse::Host { array: true },
            LogicalType::BpChar | LogicalType::Inet | LogicalType::Jsonb | LogicalType::Opaque => {
                Parse::Host { array: false }
            }
        }
    }
}

/// One column to fill; fields stand in the order of the schema's columns.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// As messages about a bad value call it, such as `integer`.
    pub type_name: String,
    pub parse: Parse,
    pub not_null: bool,
    /// For messages without the key (an explicit null stays NULL).
    pub default: Value,
}

/// A cell that holds text which the host's input function has yet to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCell {
    pub row: u32,
    pub column: u32,
}

/// Decodes messages into the columns of a [`RowBuffer`] whose schema its fields follow.
pub struct Decoder {
    fields: Vec<Field>,
    by_name: HashMap<Vec<u8>, usize>,
    /// The keys of the message before, in order, and their fields: producers rarely change the order.
    order: Vec<(Box<[u8]>, Option<usize>)>,
    slots: Vec<Option<Token>>,
    scratch: Vec<u8>,
}

impl Decoder {
    pub fn new(fields: Vec<Field>) -> Self {
        let by_name = fields.iter().enumerate().map(|(i, f)| (f.name.clone().into_bytes(), i)).collect();
        let slots = vec![None; fields.len()];
        Decoder { fields, by_name, order: Vec::new(), slots, scratch: Vec::new() }
    }

    /// Appends the message as one row, and to `host` its cells that the host must finish. Errors: why it
    /// is no row; `rows` and `host` are as before then.
    pub fn decode(&mut self, message: &[u8], rows: &mut RowBuffer, host: &mut Vec<HostCell>) -> Result<(), String> {
        if message.len() >= u32::MAX as usize {
            return Err("message of 4 GB or more".into());
        }
        if std::str::from_utf8(message).is_err() {
            return Err("invalid JSON: not UTF-8".into());
        }
        self.scan(message)?;
        let before = host.len();
        for column in 0..self.fields.len() {
            if let Err(reason) = self.push(column, message, rows, host) {
                rows.abandon_row();
                host.truncate(before);
                return Err(reason);
            }
        }
        rows.finish_row().map_err(|e| e.to_string())
    }

    fn scan(&mut self, message: &[u8]) -> Result<(), String> {
        self.slots.fill(None);
        let Decoder { by_name, order, slots, scratch, .. } = self;
        let mut position = 0;
        let scanned = object(message, |key, token| {
            let raw = key.bytes(message);
            let predicted = match order.get(position) {
                Some((name, field)) if key.kind == Kind::Plain && name.as_ref() == raw => *field,
                _ => {
                    scratch.clear();
                    // A key that cannot be unescaped names no column.
                    let known = unescape(raw, scratch).is_ok();
                    let field = if known { by_name.get(scratch.as_slice()).copied() } else { None };
                    order.truncate(position);
                    // Keys beyond what any table has columns are not worth remembering.
                    if order.len() < 4096 {
                        order.push((raw.into(), field));
                    }
                    field
                }
            };
            position += 1;
            if let Some(field) = predicted {
                slots[field] = Some(token);
            }
        });
        scanned.map_err(|e| format!("invalid JSON: {} at byte {}", e.what, e.at + 1))
    }

    fn push(
        &mut self,
        column: usize,
        message: &[u8],
        rows: &mut RowBuffer,
        host: &mut Vec<HostCell>,
    ) -> Result<(), String> {
        let field = &self.fields[column];
        let token = match self.slots[column] {
            Some(token) if token.kind != Kind::Null => token,
            slot => {
                let value = if slot.is_none() { &field.default } else { &Value::Null };
                if value.is_null() && field.not_null {
                    let how = if slot.is_none() { "missing" } else { "null" };
                    return Err(format!("column \"{}\" may not be null and is {how}", field.name));
                }
                return push_value(rows, column, value).map_err(|e| e.to_string());
            }
        };
        self.scratch.clear();
        let text = match token.kind {
            Kind::Escaped => {
                unescape(token.bytes(message), &mut self.scratch)
                    .map_err(|e| format!("column \"{}\": {e}", field.name))?;
                self.scratch.as_slice()
            }
            _ => token.bytes(message),
        };
        let result = push_text(field, column, token.kind, text, rows, host);
        result.map_err(|bad| describe(field, bad, text))
    }
}

/// Pushes a value that is already in physical form.
fn push_value(rows: &mut RowBuffer, column: usize, value: &Value) -> basalt_engine::Result<()> {
    match value {
        Value::Null => {
            rows.push_null(column);
            Ok(())
        }
        Value::I64(v) => rows.push_i64(column, *v),
        Value::I128(v) => rows.push_i128(column, *v),
        Value::F64(v) => rows.push_f64(column, *v),
        Value::Bytes(v) => rows.push_bytes(column, v),
    }
}

enum Refused {
    Bad(Bad),
    TooLong(u32),
    NulCharacter,
    Engine(basalt_engine::Error),
}

impl From<Bad> for Refused {
    fn from(bad: Bad) -> Self {
        Refused::Bad(bad)
    }
}

impl From<basalt_engine::Error> for Refused {
    fn from(error: basalt_engine::Error) -> Self {
        Refused::Engine(error)
    }
}

fn describe(field: &Field, refused: Refused, text: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(text).chars().take(64).collect();
    let Field { name, type_name, .. } = field;
    match refused {
        Refused::Bad(Bad::Syntax) => format!("column \"{name}\": \"{shown}\" is not a value of type {type_name}"),
        Refused::Bad(Bad::OutOfRange) => format!("column \"{name}\": {shown} is out of range for type {type_name}"),
        Refused::Bad(Bad::NotAnInteger) => format!("column \"{name}\": {shown} is not an integer"),
        Refused::TooLong(limit) => {
            format!("column \"{name}\": value too long for type {type_name} ({limit} characters)")
        }
        Refused::NulCharacter => format!("column \"{name}\": text may not hold the character \\u0000"),
        Refused::Engine(error) => format!("column \"{name}\": {error}"),
    }
}

/// Strings are trimmed where PostgreSQL's input function ignores blanks around the value.
fn trimmed(kind: Kind, text: &[u8]) -> &[u8] {
    if matches!(kind, Kind::Plain | Kind::Escaped) { text.trim_ascii() } else { text }
}

fn is_string(kind: Kind) -> bool {
    matches!(kind, Kind::Plain | Kind::Escaped)
}

fn word_is(text: &[u8], words: &[&str]) -> bool {
    words.iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes()))
}

fn push_text(
    field: &Field,
    column: usize,
    kind: Kind,
    text: &[u8],
    rows: &mut RowBuffer,
    host: &mut Vec<HostCell>,
) -> Result<(), Refused> {
    match field.parse {
        Parse::Bool => {
            let value = match kind {
                Kind::True => true,
                Kind::False => false,
                _ => value::boolean(trimmed(kind, text))?,
            };
            rows.push_i64(column, i64::from(value))?;
        }
        Parse::Int { min, max } => rows.push_i64(column, value::integer(trimmed(kind, text), min, max)?)?,
        Parse::Float8 => rows.push_f64(column, value::float8(trimmed(kind, text))?)?,
        Parse::Float4 => rows.push_f64(column, value::float4(trimmed(kind, text))?)?,
        Parse::Numeric { precision, scale } => push_numeric(column, trimmed(kind, text), precision, scale, rows)?,
        Parse::Date => {
            let days = match time_of(kind, text)? {
                Time::Infinite(true) => i64::from(i32::MIN),
                Time::Infinite(false) => i64::from(i32::MAX),
                Time::Parsed(p) => p.local.div_euclid(86_400_000_000),
            };
            rows.push_i64(column, days)?;
        }
        Parse::Timestamp | Parse::TimestampTz => {
            let micros = match time_of(kind, text)? {
                Time::Infinite(true) => i64::MIN,
                Time::Infinite(false) => i64::MAX,
                Time::Parsed(p) if field.parse == Parse::TimestampTz => p.utc(),
                Time::Parsed(p) => p.local,
            };
            rows.push_i64(column, micros)?;
        }
        Parse::Text { max_characters } => {
            let text = shorten(text, max_characters)?;
            no_nul(kind, text)?;
            rows.push_bytes(column, text)?;
        }
        Parse::BpChar { characters } => {
            let text = shorten(text, Some(characters))?;
            no_nul(kind, text)?;
            let missing = characters as usize - characters_of(text);
            if missing == 0 {
                rows.push_bytes(column, text)?;
            } else {
                let mut padded = text.to_vec();
                padded.resize(text.len() + missing, b' ');
                rows.push_bytes(column, &padded)?;
            }
        }
        Parse::Uuid => rows.push_bytes(column, &value::uuid(text)?)?,
        Parse::Bytea => rows.push_bytes(column, &value::bytea(text)?)?,
        Parse::NumericText => {
            let text = trimmed(kind, text);
            if !value::is_canonical_numeric(text) {
                host.push(HostCell { row: rows.rows() as u32, column: column as u32 });
            }
            rows.push_bytes(column, text)?;
        }
        Parse::Host { array } => {
            no_nul(kind, text)?;
            host.push(HostCell { row: rows.rows() as u32, column: column as u32 });
            let literal = if array && kind == Kind::Nested { to_array_literal(text) } else { None };
            rows.push_bytes(column, literal.as_deref().unwrap_or(text))?;
        }
    }
    Ok(())
}

fn push_numeric(column: usize, text: &[u8], precision: u8, scale: u8, rows: &mut RowBuffer) -> Result<(), Refused> {
    let wide = precision > 18;
    if word_is(text, &["nan"]) {
        if wide {
            rows.push_i128(column, LogicalType::NUMERIC_NAN_I128)?;
        } else {
            rows.push_i64(column, LogicalType::NUMERIC_NAN_I64)?;
        }
        return Ok(());
    }
    if word_is(text, &["infinity", "-infinity", "+infinity", "inf", "-inf", "+inf"]) {
        return Err(Bad::OutOfRange.into());
    }
    let value = value::numeric(text, precision, scale)?;
    if wide {
        rows.push_i128(column, value)?;
    } else {
        rows.push_i64(column, i64::try_from(value).map_err(|_| Bad::OutOfRange)?)?;
    }
    Ok(())
}

enum Time {
    /// Whether it is the negative one.
    Infinite(bool),
    Parsed(time::Parsed),
}

/// Strings are ISO 8601 or infinity; numbers are milliseconds since 1970.
fn time_of(kind: Kind, text: &[u8]) -> Result<Time, Bad> {
    if is_string(kind) {
        let text = text.trim_ascii();
        if let Some(parsed) = time::parse(text) {
            return Ok(Time::Parsed(parsed));
        }
        return match text {
            _ if word_is(text, &["infinity"]) => Ok(Time::Infinite(false)),
            _ if word_is(text, &["-infinity"]) => Ok(Time::Infinite(true)),
            _ => Err(Bad::Syntax),
        };
    }
    if kind != Kind::Number {
        return Err(Bad::Syntax);
    }
    let micros = value::scaled(text, 3, false)?;
    let local = time::from_epoch_micros(micros).ok_or(Bad::OutOfRange)?;
    Ok(Time::Parsed(time::Parsed { local, zone: Some(0) }))
}

fn characters_of(text: &[u8]) -> usize {
    text.iter().filter(|b| (**b as i8) >= -0x40).count()
}

/// Cuts blanks beyond the limit; anything else beyond it is an error.
fn shorten(text: &[u8], limit: Option<u32>) -> Result<&[u8], Refused> {
    let Some(limit) = limit else { return Ok(text) };
    if text.len() <= limit as usize || characters_of(text) <= limit as usize {
        return Ok(text);
    }
    let mut starts = text.iter().enumerate().filter(|(_, b)| (**b as i8) >= -0x40).map(|(i, _)| i);
    let cut = starts.nth(limit as usize).unwrap_or(text.len());
    let (kept, beyond) = text.split_at(cut);
    if beyond.iter().all(|b| *b == b' ') { Ok(kept) } else { Err(Refused::TooLong(limit)) }
}

fn no_nul(kind: Kind, text: &[u8]) -> Result<(), Refused> {
    if kind == Kind::Escaped && text.contains(&0) { Err(Refused::NulCharacter) } else { Ok(()) }
}
