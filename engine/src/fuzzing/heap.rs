//! An allocator that counts what a thread holds, so that a bound on memory can be tried. It is the
//! allocator of fuzzers and of this crate's unit tests.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // Past the end of a thread there is nobody to ask.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

/// What `work` gives, and the most bytes that it held at a time, of what it took itself.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    PEAK.set(0);
    let given = work();
    (given, PEAK.get().unsigned_abs())
}

// SAFETY: every call goes to the system's allocator as it came, and its answer back; the counting
// beside it takes no memory, as the counters are constants that need no drop.
#[expect(unsafe_code, reason = "an allocator is unsafe to be one")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // For a moment there may be both.
        count(bytes.cast_signed());
        count(layout.size().cast_signed().wrapping_neg());
        // SAFETY: `old` came from the system's allocator by way of this one, with this layout.
        unsafe { System.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(layout.size().cast_signed().wrapping_neg());
        // SAFETY: `old` came from the system's allocator by way of this one, with this layout.
        unsafe { System.dealloc(old, layout) }
    }
}
