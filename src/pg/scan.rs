//! Direct index scans of catalog tables.

use pgrx::pg_sys;

/// A scan of one index by equality on its leading columns, forwards, under a given snapshot.
pub struct IndexScan {
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

/// What a key column is compared with.
pub struct Key {
    pub value: pg_sys::Datum,
    /// `=` of the column's type, such as `F_UUID_EQ`.
    pub equal: u32,
}

impl IndexScan {
    /// Opens table and index (`AccessShareLock`, kept to the end of the transaction) and starts the scan.
    ///
    /// # Safety
    /// `snapshot` outlives the scan, and so does what by-reference keys point to; `keys` match the index's leading columns.
    pub unsafe fn begin(table: pg_sys::Oid, index: pg_sys::Oid, keys: &[Key], snapshot: pg_sys::Snapshot) -> Self {
        let lock = pg_sys::AccessShareLock as i32;
        // SAFETY: as promised by the caller; each call raises on failure, and resource owners release what was opened.
        unsafe {
            let heap = pg_sys::table_open(table, lock);
            let index = pg_sys::index_open(index, lock);
            let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys
                .iter()
                .enumerate()
                .map(|(i, key)| {
                    let mut made = pg_sys::ScanKeyData::default();
                    pg_sys::ScanKeyInit(
                        &mut made,
                        i as i16 + 1,
                        pg_sys::BTEqualStrategyNumber as u16,
                        pg_sys::Oid::from(key.equal),
                        key.value,
                    );
                    made
                })
                .collect();
            let slot = pg_sys::table_slot_create(heap, std::ptr::null_mut());
            let scan = pg_sys::index_beginscan(heap, index, snapshot, scan_keys.len() as i32, 0);
            pg_sys::index_rescan(scan, scan_keys.as_mut_ptr(), scan_keys.len() as i32, std::ptr::null_mut(), 0);
            IndexScan { heap, index, scan, slot }
        }
    }

    /// Moves to the next row; false at the end.
    pub fn advance(&mut self) -> bool {
        // SAFETY: scan and slot are open.
        unsafe { pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) }
    }

    /// Column `attribute` (from 1) of the current row; by-reference datums live until the next `advance`.
    pub fn get(&self, attribute: i16) -> Option<pg_sys::Datum> {
        // SAFETY: the slot holds a row; the table has the attribute.
        unsafe {
            if (*self.slot).tts_nvalid < attribute {
                pg_sys::slot_getsomeattrs_int(self.slot, i32::from(attribute));
            }
            let at = attribute as usize - 1;
            if *(*self.slot).tts_isnull.add(at) { None } else { Some(*(*self.slot).tts_values.add(at)) }
        }
    }

    /// Ends the scan. (When an error unwinds instead, resource owners do.)
    pub fn end(self) {
        let none = pg_sys::NoLock as i32;
        // SAFETY: all were opened by `begin`.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.index, none);
            pg_sys::table_close(self.heap, none);
        }
    }
}
