//! Rows out of delimited text, as far as it is plain.
//!
//! The formats are those of PostgreSQL's COPY, `text` and `csv`. A reader takes lines as long as it is certain what they mean, and stops
//! in front of the first one that it is not certain of: an odd number of fields, a value in a form that it does not know, anything that may
//! be an error. What such a line means is for the caller to find out; whatever a reader takes has one meaning only.

mod lines;
#[cfg(test)]
mod tests;
mod values;

use crate::rows::RowBuffer;
use crate::types::Value;
use crate::{Error, Result};

use lines::{Divider, Form, Line, Piece};
pub use values::Parser;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Backslashes escape.
    Text,
    /// Fields may be quoted; within quotes `escape` stands before quotes and itself.
    Csv { quote: u8, escape: u8 },
}

/// How rows are written. The bytes are ASCII, differ from each other (`quote` and `escape` may be equal), and none ends lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub format: Format,
    pub delimiter: u8,
    /// What an unquoted field that is NULL looks like before escapes are resolved.
    pub null: Vec<u8>,
    /// Lines end with carriage return and newline; otherwise with newline.
    pub carriage_return: bool,
}

/// One field of a line, in the order of the fields.
#[derive(Clone, Debug)]
pub struct Field {
    /// Position of its column in the schema.
    pub column: usize,
    pub parser: Parser,
    /// Whether the reader takes lines in which it is NULL.
    pub nullable: bool,
}

/// What was read of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of the lines taken.
    pub bytes: usize,
    /// Ends of lines among them, those within quotes too.
    pub lines: u64,
    /// Whether a whole line was left because it is not certain what it means; otherwise the input ends in a line, or with one.
    pub doubtful: bool,
}

/// Microseconds since 2000-01-01 UTC of a time without a zone; `None`: not known.
pub type LocalTime<'a> = &'a mut dyn FnMut(i64) -> Option<i64>;

/// Reads lines of one dialect into rows.
pub struct Reader {
    divider: Divider,
    format: Format,
    null: Vec<u8>,
    fields: Vec<Field>,
    constants: Vec<(usize, Value)>,
    /// Of the lines that are read together, where each ends and how many ends of lines it has.
    ends: Vec<(usize, u64)>,
    /// A field without its escapes.
    text: Vec<u8>,
}

/// Fields that are read together, column by column: they stay in the processor's cache.
const BATCH: usize = 2048;

impl Reader {
    /// `constants`: columns that lines do not give, by position, and what every row holds there.
    pub fn new(dialect: Dialect, fields: Vec<Field>, constants: Vec<(usize, Value)>) -> Self {
        let (format, null) = (dialect.format, dialect.null.clone());
        let divider = Divider::new(dialect, fields.len());
        Reader { divider, format, null, fields, constants, ends: Vec::new(), text: Vec::new() }
    }

    /// Appends the rows of leading lines of `input`, which begins with a line and is valid UTF-8 without NUL. Errors: `Error::Invalid` if
    /// fields and constants are not the columns of `rows`.
    pub fn read(&mut self, input: &[u8], zone: LocalTime<'_>, rows: &mut RowBuffer) -> Result<Taken> {
        self.divider.begin();
        let mut taken = Taken { bytes: 0, lines: 0, doubtful: false };
        let most = (BATCH / self.fields.len().max(1)).max(1);
        loop {
            self.ends.clear();
            let last = self.divider.divide(input, taken.bytes, most, &mut self.ends);
            let whole = self.parse(input, zone, rows)?;
            for (end, lines) in &self.ends[..whole] {
                taken.bytes = *end;
                taken.lines += lines;
            }
            taken.doubtful = whole < self.ends.len() || matches!(last, Line::Doubtful);
            if taken.doubtful || matches!(last, Line::Part) {
                return Ok(taken);
            }
        }
    }

    /// Appends the rows of the lines that were divided last, up to the first that has a value in doubt; returns how many these are.
    fn parse(&mut self, input: &[u8], zone: LocalTime<'_>, rows: &mut RowBuffer) -> Result<usize> {
        let base = rows.rows();
        let mut whole = self.ends.len();
        for (number, field) in self.fields.iter().enumerate() {
            let texts = Texts {
                input,
                pieces: self.divider.pieces(),
                stride: self.fields.len(),
                number,
                rows: whole,
                format: self.format,
                null: &self.null,
                nullable: field.nullable,
            };
            let column = rows.column_mut(field.column).ok_or_else(|| Error::invalid("a field of no column"))?;
            whole = field.parser.fill(&texts, &mut self.text, zone, column)?;
        }
        for (position, value) in &self.constants {
            for _ in 0..whole {
                match value {
                    Value::Null => rows.push_null(*position),
                    Value::I64(v) => rows.push_i64(*position, *v)?,
                    Value::I128(v) => rows.push_i128(*position, *v)?,
                    Value::F64(v) => rows.push_f64(*position, *v)?,
                    Value::Bytes(v) => rows.push_bytes(*position, v)?,
                }
            }
        }
        rows.settle(base + whole)?;
        Ok(whole)
    }
}

/// The fields of one column in lines that are read together.
struct Texts<'a> {
    input: &'a [u8],
    /// Those of all columns, line by line.
    pieces: &'a [Piece],
    stride: usize,
    number: usize,
    rows: usize,
    format: Format,
    null: &'a [u8],
    nullable: bool,
}

impl Texts<'_> {
    /// Hands each row's text to `take`, `None` for NULL, until that says that it is in doubt; returns how many rows it took.
    #[inline(always)]
    fn each(&self, text: &mut Vec<u8>, mut take: impl FnMut(Option<&[u8]>) -> bool) -> usize {
        for (row, line) in self.pieces.chunks_exact(self.stride).take(self.rows).enumerate() {
            let Piece { start, end, form } = line[self.number];
            let raw = &self.input[start as usize..end as usize];
            let is_null = raw.len() == self.null.len() && raw == self.null;
            let taken = match form {
                Form::Plain | Form::Escaped if is_null => self.nullable && take(None),
                Form::Plain | Form::Quoted => take(Some(raw)),
                Form::Escaped | Form::QuotedEscaped => {
                    text.clear();
                    self.format.resolve(raw, text);
                    take(Some(text))
                }
            };
            if !taken {
                return row;
            }
        }
        self.rows
    }
}
