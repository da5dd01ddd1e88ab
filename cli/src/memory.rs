//! How the system's allocator is set up.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "only the C library can set its allocator up")
)]

/// Heaps that threads share.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: std::ffi::c_int = 2;

/// Files are worked on by dozens of threads. The GNU allocator would keep a heap for every few of
/// them, and each keeps the memory of its busiest moment: after a million small files twice as much
/// as is in use. Threads that allocate often have caches of their own, so this costs no time.
#[cfg(target_env = "gnu")]
pub(crate) fn share_heaps() {
    // SAFETY: the call changes a number inside the allocator, under its lock, and takes no pointer.
    // It returns 0 if it is not supported, which is as good as not asking.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
}

/// Other allocators are taken as they are.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn share_heaps() {}
