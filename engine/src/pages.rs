//! Memory of long vectors and large tables on large pages: with them most lookups at random find the page's address in the processor,
//! 2 MiB are filled with one fault instead of 512, and let go as fast. What grows is moved by its page tables, not copied.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, which is told that large pages are wanted for allocations of some megabytes; longer ones are mappings of their
/// own, aligned with large pages. The system may ignore the wish; then pages are small.
pub struct LargePages;

/// Bytes of an allocation for which large pages pay.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;
/// Bytes of an allocation that is a mapping of its own. The system's allocator keeps smaller ones for the next use, which spares clearing.
#[cfg(target_os = "linux")]
const OWN: usize = 32 << 20;
/// Bytes of a large page.
#[cfg(target_os = "linux")]
const PAGE: usize = 2 << 20;

#[cfg(not(target_os = "linux"))]
// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[cfg(target_os = "linux")]
// SAFETY: which allocator an allocation is from follows from its layout; each fulfils the contract by itself.
unsafe impl GlobalAlloc for LargePages {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_own(layout) {
            return mapping::make(layout.size());
        }
        // SAFETY: the caller's promises are the same.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    // SAFETY: as of the whole: the same layout leads to the same allocator.
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_own(layout) {
            return mapping::make(layout.size());
        }
        // SAFETY: the caller's promises are the same.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    // SAFETY: as of the whole: the same layout leads to the same allocator.
    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if is_own(layout) {
            // SAFETY: `at` is a mapping for this size, and nobody uses it any more.
            return unsafe { mapping::end(at, layout.size()) };
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(at, layout) }
    }

    // SAFETY: as of the whole: the same layout leads to the same allocator.
    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` is one, too.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_own(layout), is_own(new)) {
            // SAFETY: the caller's promises are the same.
            (false, false) => advised(unsafe { System.realloc(at, layout, size) }, size),
            // SAFETY: `at` is a mapping for this size.
            (true, true) => unsafe { mapping::resize(at, layout.size(), size) },
            // SAFETY: both are allocations, apart from each other, of at least as many bytes as are copied.
            _ => unsafe {
                let made = self.alloc(new);
                if !made.is_null() {
                    made.copy_from_nonoverlapping(at, layout.size().min(size));
                    self.dealloc(at, layout);
                }
                made
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn is_own(layout: Layout) -> bool {
    layout.size() >= OWN && layout.align() <= PAGE
}

/// `at`, null or an allocation of `size` bytes of the system's allocator.
#[cfg(target_os = "linux")]
#[inline]
fn advised(at: *mut u8, size: usize) -> *mut u8 {
    if size >= LARGE && !at.is_null() {
        mapping::advise(at, size);
    }
    at
}

#[cfg(target_os = "linux")]
mod mapping {
    use std::ptr::null_mut;

    use super::PAGE;

    /// Bytes of the largest of the usual pages.
    const SMALL: usize = 64 << 10;

    /// Bytes that a mapping for `size` bytes has. No overflow: a layout's size fits in `isize`.
    fn length(size: usize) -> usize {
        size.next_multiple_of(SMALL)
    }

    /// Addresses for `length` bytes, aligned with large pages, without memory; null: there are none.
    fn place(length: usize) -> *mut u8 {
        let whole = length + PAGE;
        // SAFETY: a new mapping, at an address that the system chooses.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                whole,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return null_mut();
        }
        let before = start.addr().next_multiple_of(PAGE) - start.addr();
        let (before, after) = (before, PAGE - before);
        // SAFETY: parts of the new mapping at its start and end, which nothing uses.
        unsafe {
            let placed = start.cast::<u8>().add(before);
            if before > 0 {
                libc::munmap(start, before);
            }
            if after > 0 {
                libc::munmap(placed.add(length).cast(), after);
            }
            placed
        }
    }

    /// Asks for large pages inside of an allocation.
    pub fn advise(at: *mut u8, size: usize) {
        let before = at.addr().next_multiple_of(SMALL) - at.addr();
        // SAFETY: the range is inside of the allocation, and the advice changes no content.
        unsafe { libc::madvise(at.add(before).cast(), (size - before) / SMALL * SMALL, libc::MADV_HUGEPAGE) };
    }

    /// `size` zero bytes; null: there is no memory.
    pub fn make(size: usize) -> *mut u8 {
        let length = length(size);
        let placed = place(length);
        if placed.is_null() {
            return placed;
        }
        // SAFETY: the range was placed for this, and nothing else uses it.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let made = libc::mmap(placed.cast(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if made == libc::MAP_FAILED {
                // The place may be another thread's by now.
                return null_mut();
            }
            libc::madvise(made, length, libc::MADV_HUGEPAGE);
            made.cast()
        }
    }

    /// # Safety
    /// `at` came from here for `size` bytes, and is used no more.
    pub unsafe fn end(at: *mut u8, size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(at.cast(), length(size)) };
    }

    /// The mapping with `new` bytes, perhaps at another address; null: there is no memory, and nothing changed.
    ///
    /// # Safety
    /// `at` came from here for `old` bytes.
    pub unsafe fn resize(at: *mut u8, old: usize, new: usize) -> *mut u8 {
        let (old, new) = (length(old), length(new));
        // SAFETY: the whole mapping, which stays where it is.
        let resized = unsafe { libc::mremap(at.cast(), old, new, 0) };
        if resized != libc::MAP_FAILED {
            return resized.cast();
        }
        let placed = place(new);
        if placed.is_null() {
            return placed;
        }
        // SAFETY: the whole mapping goes to addresses that were placed for it.
        unsafe {
            let moved = libc::mremap(at.cast(), old, new, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, placed);
            // If it failed, the place may be another thread's by now.
            if moved == libc::MAP_FAILED { null_mut() } else { moved.cast() }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn contents_stay_when_allocations_grow_and_shrink() {
        let sizes = [1, LARGE + 3, OWN - 1, OWN, OWN + 1, 3 * OWN + 5, 40 * OWN, 2 * OWN, OWN, OWN - 1, 100];
        for align in [1, 8, 64] {
            let layout = |size| Layout::from_size_align(size, align).unwrap();
            // SAFETY: each allocation is used within its size and given back once.
            unsafe {
                let mut at = LargePages.alloc_zeroed(layout(sizes[0]));
                at.write(7);
                for pair in sizes.windows(2) {
                    at = LargePages.realloc(at, layout(pair[0]), pair[1]);
                    assert!(!at.is_null() && at.addr() % align == 0);
                    assert_eq!(at.read(), 7);
                    let (marked, end) = (pair[0].min(pair[1]) - 1, at.add(pair[1] - 1));
                    assert!(
                        pair[0] == 1
                            || marked == 0
                            || pair[1] < pair[0]
                            || at.add(marked).read() == (pair[0] % 251) as u8
                    );
                    end.write((pair[1] % 251) as u8);
                }
                LargePages.dealloc(at, layout(sizes[sizes.len() - 1]));
                let zeros = LargePages.alloc_zeroed(layout(2 * OWN));
                assert!(std::slice::from_raw_parts(zeros, 2 * OWN).iter().all(|byte| *byte == 0));
                LargePages.dealloc(zeros, layout(2 * OWN));
            }
        }
    }

    #[test]
    fn what_is_impossible_is_refused() {
        let layout = Layout::from_size_align(isize::MAX as usize / 2, 8).unwrap();
        // SAFETY: nothing is allocated.
        assert!(unsafe { LargePages.alloc(layout) }.is_null());
    }
}
