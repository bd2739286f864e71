//! How much memory a parser asks for.
//!
//! A length in the input is a claim. A parser that makes a buffer of a claimed
//! size before it has seen so many bytes lets three bytes cost gigabytes, and no
//! test notices, because memory that is never touched is free here. So this counts
//! what is asked for.
// The one place of this crate that implements an allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread has asked for and not returned. Negative when it
    /// returns what was there before it counted.
    static ALIVE: Cell<isize> = const { Cell::new(0) };
    /// The most that were alive at once.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no such variables any more.
    let _ = ALIVE.try_with(|alive| {
        alive.set(alive.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(alive.get())));
    });
}

// SAFETY: every call is handed to the system's allocator with the same arguments;
// counting neither allocates nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above; the memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above; the memory came from `System`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// What `work` returns, if it never had more than `fixed` bytes and `factor` times
/// the input's length alive at once.
pub(crate) fn bounded<T>(
    input: &[u8],
    fixed: usize,
    factor: usize,
    work: impl FnOnce(&[u8]) -> T,
) -> T {
    let before = ALIVE.get();
    PEAK.set(before);
    let done = work(input);
    let used = PEAK.get() - before;
    let limit = (fixed + factor * input.len()).cast_signed();
    assert!(
        used <= limit,
        "{} bytes of input took {used} bytes of memory, more than {limit}",
        input.len()
    );
    done
}
