//! COPY FROM by blocks: behind each row that PostgreSQL has read itself, the plain lines that are in its buffer too.
//!
//! PostgreSQL reads a line, then hands over its row; when that is inserted, the engine's reader takes all whole lines behind it of
//! which it is certain what they mean. The next one, which may be in doubt or go on behind the end of the buffer, is PostgreSQL's
//! again. So there are no errors here that COPY itself does not raise, in its own order and words.

use std::sync::Arc;

use basalt_engine::delimited::{Field, Parser, Reader};
use basalt_engine::rows::RowBuffer;
use basalt_engine::types::{LogicalType, Value};
use pgrx::pg_sys;

use crate::catalog::datasource::Datasource;
use crate::catalog::pending;
use crate::error::Result;
use crate::pg::copy::{self, CopyFrom};
use crate::pg::settings::{self, FixedSettings};
use crate::pg::values::Codec;
use crate::pg::{relation, time, types};

/// How the rows of a statement come.
pub enum Way {
    /// By COPY or another way; the first row will tell.
    Unknown,
    Rows,
    Blocks(Box<Load>),
}

/// Whole blocks of one COPY.
pub struct Load {
    copy: CopyFrom,
    datasource: Arc<Datasource>,
    command: pg_sys::CommandId,
    reader: Reader,
    /// Rows of one block.
    block: RowBuffer,
    /// Rows inserted, PostgreSQL's too.
    count: u64,
    by_blocks: u64,
    /// Blocks in a row of which the first line was in doubt, and how many rows to wait before the next one is tried.
    doubts: u32,
    wait: u32,
}

/// What a table asks of its rows.
pub struct Demands<'a> {
    /// Positions in a row of columns that are NOT NULL.
    pub not_null: &'a [usize],
    /// CHECK or partition constraints.
    pub checks: bool,
    /// Something looks at each row.
    pub row_triggers: bool,
}

impl Way {
    /// Decides after the first row, which `slot` holds.
    ///
    /// # Safety
    /// The row was handed over for insertion into `relation`, which is open; the slot is filled.
    pub unsafe fn decide(
        relation: pg_sys::Relation,
        slot: *mut pg_sys::TupleTableSlot,
        datasource: &Arc<Datasource>,
        command: pg_sys::CommandId,
        demands: &Demands,
    ) -> Result<Way> {
        if demands.checks || demands.row_triggers || pending::is_replaced(datasource) {
            return Ok(Way::Rows);
        }
        // SAFETY: the caller's contract.
        unsafe {
            if relation::has_stored_generated(relation) {
                return Ok(Way::Rows);
            }
            let Some(copy) = CopyFrom::of(relation) else { return Ok(Way::Rows) };
            let Some(reader) = reader(&copy, slot, datasource, demands)? else { return Ok(Way::Rows) };
            Ok(Way::Blocks(Box::new(Load {
                copy,
                datasource: datasource.clone(),
                command,
                reader,
                block: RowBuffer::new(datasource.schema.clone()),
                count: 0,
                by_blocks: 0,
                doubts: 0,
                wait: 0,
            })))
        }
    }
}

/// A reader for the lines of the COPY; `None`: they are not for reading in blocks.
///
/// # Safety
/// The slot holds a row of the datasource.
unsafe fn reader(
    copy: &CopyFrom,
    slot: *mut pg_sys::TupleTableSlot,
    datasource: &Datasource,
    demands: &Demands,
) -> Result<Option<Reader>> {
    let Some(dialect) = copy.dialect().filter(|_| !copy.has_volatile_defaults()) else { return Ok(None) };
    let given = copy.attributes();
    let mut fields = Vec::with_capacity(given.len());
    for attribute in given.iter().map(|number| (number - 1) as usize) {
        let Some(position) = datasource.attributes.get(attribute).copied().flatten() else { return Ok(None) };
        let Some(parser) = parser(datasource.types[position]) else { return Ok(None) };
        // Rows without a time are kept apart from the others.
        let nullable = !demands.not_null.contains(&attribute) && datasource.schema.time != Some(position);
        fields.push(Field { column: position, parser, nullable });
    }
    let mut constants = Vec::new();
    for (attribute, position) in datasource.attributes.iter().enumerate() {
        let Some(position) = position else { continue };
        if given.contains(&(attribute as i32 + 1)) {
            continue;
        }
        let (type_oid, typmod) = datasource.types[*position];
        let mut codec = Codec::new(type_oid, typmod);
        let fixed = codec.needs_fixed_settings().then(FixedSettings::new);
        // SAFETY: the slot has a value for each attribute.
        let value = unsafe { codec.to_value(*(*slot).tts_values.add(attribute), *(*slot).tts_isnull.add(attribute))? };
        drop(fixed);
        if value == Value::Null && datasource.schema.time == Some(*position) {
            return Ok(None);
        }
        constants.push((*position, value));
    }
    Ok((!fields.is_empty()).then(|| Reader::new(dialect, fields, constants)))
}

/// The parser of a column; `None`: PostgreSQL reads all of its values.
fn parser((type_oid, typmod): (pg_sys::Oid, i32)) -> Option<Parser> {
    if types::has_domain_constraints(type_oid) {
        return None;
    }
    let (base, typmod) = types::base_type(type_oid, typmod);
    let ty = types::logical_type(base, typmod);
    let header = pg_sys::VARHDRSZ as i32;
    let length = match ty {
        LogicalType::Text | LogicalType::BpChar => typmod.checked_sub(header).filter(|length| *length >= 0),
        _ => Some(typmod).filter(|typmod| *typmod >= 0),
    };
    // What Z means is the abbreviations' to say: all that PostgreSQL ships agree.
    if ty == LogicalType::TimestampTz && !settings::has_usual_zone_abbreviations() {
        return None;
    }
    Parser::of(ty, length.map(|length| length as u32))
}

impl Load {
    /// A row that PostgreSQL read was inserted: takes lines behind it.
    pub fn proceed(&mut self) -> Result<()> {
        self.count += 1;
        match self.wait {
            0 => self.take_block()?,
            _ => self.wait -= 1,
        }
        self.copy.report(self.count);
        Ok(())
    }

    fn take_block(&mut self) -> Result<()> {
        let input = self.copy.input();
        if input.is_empty() {
            return Ok(());
        }
        let mut zone = |local| match time::timestamp_to_timestamptz(local) {
            (time, 0) => Some(time),
            _ => None,
        };
        let taken = self.reader.read(input, &mut zone, &mut self.block)?;
        self.copy.advance(taken.bytes, taken.lines);
        if taken.bytes == 0 && taken.doubtful {
            self.doubts = (self.doubts + 1).min(10);
            self.wait = (1 << self.doubts) - 2;
            return Ok(());
        }
        self.doubts = 0;
        let rows = self.block.rows() as u64;
        pending::append(&self.datasource, self.command, &self.block)?;
        self.block.truncate(0);
        self.count += rows;
        self.by_blocks += rows;
        Ok(())
    }

    /// The COPY has ended.
    pub fn end(&self) {
        copy::add_to_count(self.count);
        pgrx::debug1!("COPY read {} of {} rows by blocks", self.by_blocks, self.count);
    }
}
