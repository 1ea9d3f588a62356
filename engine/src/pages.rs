//! Large pages for tables that are looked up at random: with them most lookups find the page's address in the processor, and
//! filling a table takes one fault for 2 MiB instead of 512. The latter holds for long vectors too.

/// Bytes of a table for which it pays.
const LARGE: usize = 4 << 20;

/// Asks the system to keep a table that was not touched yet on large pages. It may ignore that.
pub(crate) fn prefer_large<T>(table: &[T]) {
    advise(table.as_ptr().cast(), size_of_val(table));
}

/// The same of a vector's room. Vectors that grow to hundreds of megabytes are filled, and let go, many times faster.
pub(crate) fn prefer_large_room<T>(values: &Vec<T>) {
    advise(values.as_ptr().cast(), values.capacity() * size_of::<T>());
}

/// Bytes up to which what grows is copied, as an allocator may do anyway; what is longer the system moves, which leaves it on small pages.
const COPIED: usize = 64 << 20;

/// Gives a vector room for `capacity` elements in all, on large pages where that pays.
pub(crate) fn grow_room<T>(values: &mut Vec<T>, capacity: usize) {
    if capacity * size_of::<T>() >= LARGE && values.capacity() * size_of::<T>() < COPIED {
        let mut grown = Vec::with_capacity(capacity);
        prefer_large_room(&grown);
        grown.append(values);
        *values = grown;
    } else {
        values.reserve_exact(capacity.saturating_sub(values.len()));
        prefer_large_room(values);
    }
}

/// `bytes` from `table` on are one allocation.
fn advise(table: *const u8, bytes: usize) {
    if bytes < LARGE {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = table.addr();
        let skipped = start.next_multiple_of(PAGE) - start;
        let length = (bytes - skipped) / PAGE * PAGE;
        // SAFETY: the range is inside of the table, and the advice changes no content.
        unsafe {
            libc::madvise(table.cast_mut().byte_add(skipped).cast(), length, libc::MADV_HUGEPAGE);
        }
    }
}

/// Makes room for `more` elements, on large pages where that pays.
pub(crate) fn reserve<T>(vector: &mut Vec<T>, more: usize) {
    if vector.capacity() - vector.len() < more {
        vector.reserve(more);
        prefer_large(vector.spare_capacity_mut());
    }
}

/// Appends elements to a vector that may become long.
pub(crate) fn extend<T: Copy>(vector: &mut Vec<T>, elements: &[T]) {
    reserve(vector, elements.len());
    vector.extend_from_slice(elements);
}
