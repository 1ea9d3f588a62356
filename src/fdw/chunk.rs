//! Tuples on their way to the scan's slot: converted a thousand at a time, column by column.

use pgrx::pg_sys::{self, Datum};

use crate::pg::memory::InContext;

/// Rows converted at once.
pub const CHUNK_ROWS: usize = 1024;

/// Rows of a datasource have no address.
const INVALID_ITEM: pg_sys::ItemPointerData =
    pg_sys::ItemPointerData { ip_blkid: pg_sys::BlockIdData { bi_hi: 0xffff, bi_lo: 0xffff }, ip_posid: 0 };

/// Converted columns of up to [`CHUNK_ROWS`] rows, and the slot that shows one of them.
pub struct Chunk {
    slot: *mut pg_sys::TupleTableSlot,
    /// What by-reference datums live in.
    context: pg_sys::MemoryContext,
    columns: Vec<Column>,
    rows: usize,
    next: usize,
}

/// Values of one column of the slot.
pub struct Column {
    /// Position in the slot.
    attribute: usize,
    pub values: Vec<Datum>,
    pub nulls: Vec<bool>,
}

impl Column {
    pub fn new(attribute: usize) -> Self {
        Column { attribute, values: Vec::new(), nulls: Vec::new() }
    }

    pub fn push(&mut self, value: Option<Datum>) {
        self.values.push(value.unwrap_or(Datum::from(0usize)));
        self.nulls.push(value.is_none());
    }
}

impl Chunk {
    /// # Safety
    /// The slot and the current memory context outlive the chunk.
    pub unsafe fn new(slot: *mut pg_sys::TupleTableSlot) -> Self {
        // SAFETY: the name is static.
        let context = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"basalt tuples".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        Chunk { slot, context, columns: Vec::new(), rows: 0, next: 0 }
    }

    /// Says which columns of the slot will be filled (from 0); the others stay NULL.
    pub fn set_columns(&mut self, attributes: impl IntoIterator<Item = usize>) {
        // SAFETY: the slot has a descriptor and arrays of its width.
        let width = unsafe { (*(*self.slot).tts_tupleDescriptor).natts as usize };
        self.columns = attributes.into_iter().filter(|a| *a < width).map(Column::new).collect();
        self.clear();
    }

    /// Empties the chunk and frees its datums: the slot must not show one of them any more.
    pub fn clear(&mut self) {
        (self.rows, self.next) = (0, 0);
        for column in &mut self.columns {
            column.values.clear();
            column.nulls.clear();
        }
        // SAFETY: nothing points into the context after this.
        unsafe { pg_sys::MemoryContextReset(self.context) }
    }

    /// Fills the empty chunk with `rows` rows: `convert` pushes as many values to each column (whose position in `set_columns` it is given), with
    /// the chunk's memory context current.
    pub fn fill<E>(
        &mut self,
        rows: usize,
        mut convert: impl FnMut(usize, &mut Column) -> Result<(), E>,
    ) -> Result<(), E> {
        self.clear();
        // SAFETY: the context lives as long as the chunk.
        let _guard = unsafe { InContext::new(self.context) };
        for (i, column) in self.columns.iter_mut().enumerate() {
            convert(i, column)?;
            debug_assert_eq!(column.values.len(), rows);
        }
        self.rows = rows;
        Ok(())
    }

    /// Puts the next row into the slot's arrays; false when there is none.
    pub fn emit(&mut self) -> bool {
        if self.next >= self.rows {
            return false;
        }
        // SAFETY: the slot's arrays are as wide as its descriptor, and every column's attribute is below that.
        unsafe {
            let slot = &mut *self.slot;
            let width = (*slot.tts_tupleDescriptor).natts as usize;
            if self.columns.len() < width {
                std::ptr::write_bytes(slot.tts_isnull, 1, width);
            }
            for column in &self.columns {
                *slot.tts_values.add(column.attribute) = column.values[self.next];
                *slot.tts_isnull.add(column.attribute) = column.nulls[self.next];
            }
            slot.tts_tid = INVALID_ITEM;
        }
        self.next += 1;
        true
    }
}
