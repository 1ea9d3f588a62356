//! Direct index scans of catalog tables.

use std::marker::PhantomData;

use pgrx::pg_sys;

/// Which rows a scan sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// The active snapshot, which there must be.
    Active,
    /// Everything that is committed now, and what earlier commands of this transaction did.
    Latest,
    /// Also what the running command did.
    Own,
    /// Also what transactions in progress, or prepared, did.
    Dirty,
}

/// Which version of which row of a table's file: its place, and the transaction that wrote it. Equal ones are the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowVersion {
    block: u32,
    offset: u16,
    writer: u32,
}

/// A scan of one index, whose leading column is a uuid, by equality on it, forwards.
pub struct IndexScan<'a> {
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    /// Held by the scan, unless it is static or not kept by anyone.
    registered: Option<pg_sys::Snapshot>,
    _dirty: Option<Box<pg_sys::SnapshotData>>,
    _key: PhantomData<&'a [u8; 16]>,
}

impl<'a> IndexScan<'a> {
    /// Opens table and index (`AccessShareLock`, kept to the end of the transaction) and starts the scan for `id`.
    pub fn by_uuid(table: pg_sys::Oid, index: pg_sys::Oid, id: &'a [u8; 16], under: Under) -> Self {
        let lock = pg_sys::AccessShareLock as i32;
        let keys = [(pg_sys::Datum::from(id.as_ptr()), pg_sys::F_UUID_EQ)];
        // SAFETY: the key outlives the scan, and so does the snapshot: it is registered, static, or on the heap. A dirty snapshot needs no
        // more than its type. Each call raises on failure, and resource owners release what was opened.
        unsafe {
            let (mut registered, mut dirty) = (None, None);
            let snapshot = match under {
                Under::Active => *registered.insert(pg_sys::RegisterSnapshot(pg_sys::GetActiveSnapshot())),
                Under::Latest => *registered.insert(pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())),
                Under::Own => std::ptr::addr_of_mut!(pg_sys::SnapshotSelfData),
                Under::Dirty => {
                    let kind = pg_sys::SnapshotType::SNAPSHOT_DIRTY;
                    let made = Box::new(pg_sys::SnapshotData { snapshot_type: kind, ..Default::default() });
                    std::ptr::from_mut(dirty.insert(made).as_mut())
                }
            };
            let heap = pg_sys::table_open(table, lock);
            let index = pg_sys::index_open(index, lock);
            let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys
                .iter()
                .enumerate()
                .map(|(i, (value, equal))| {
                    let mut made = pg_sys::ScanKeyData::default();
                    pg_sys::ScanKeyInit(
                        &mut made,
                        i as i16 + 1,
                        pg_sys::BTEqualStrategyNumber as u16,
                        pg_sys::Oid::from(*equal),
                        *value,
                    );
                    made
                })
                .collect();
            let slot = pg_sys::table_slot_create(heap, std::ptr::null_mut());
            let scan = pg_sys::index_beginscan(heap, index, snapshot, scan_keys.len() as i32, 0);
            pg_sys::index_rescan(scan, scan_keys.as_mut_ptr(), scan_keys.len() as i32, std::ptr::null_mut(), 0);
            IndexScan { heap, index, scan, slot, registered, _dirty: dirty, _key: PhantomData }
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

    /// The table's file, which is another one after VACUUM FULL and the like.
    pub fn file(&self) -> u32 {
        // SAFETY: the table is open.
        unsafe { u32::from((*self.heap).rd_node.relNode) }
    }

    /// The version of the current row.
    pub fn version(&self) -> RowVersion {
        // SAFETY: rows of a heap table come in slots with a buffer, whose tuple is there until the next `advance`; its writer's id stays
        // when it is frozen.
        unsafe {
            let tuple = (*self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).base.tuple;
            let place = (*tuple).t_self;
            RowVersion {
                block: u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo),
                offset: place.ip_posid,
                writer: u32::from((*(*tuple).t_data).t_choice.t_heap.t_xmin),
            }
        }
    }

    /// Column `attribute`, if it is a uuid.
    pub fn uuid(&self, attribute: i16) -> Option<[u8; 16]> {
        // SAFETY: uuids are by reference: 16 bytes. The column's type is checked.
        unsafe {
            let attributes = (*(*self.slot).tts_tupleDescriptor).attrs.as_ptr();
            let ty = (*attributes.add(attribute as usize - 1)).atttypid;
            if ty != pg_sys::UUIDOID {
                return None;
            }
            self.get(attribute).map(|d| *d.cast_mut_ptr::<[u8; 16]>())
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
            if let Some(snapshot) = self.registered {
                pg_sys::UnregisterSnapshot(snapshot);
            }
        }
    }
}
