//! Nothing can be read but through an open window (T6). Each try that is refused ends its queue
//! pair, so the rails are connected again after it.

use portway::base::limits::LEASE_BYTES;
use portway::transport::rdma::sysfs::{Roots, survey};
use portway::transport::rdma::{Rail, WindowKind};

use crate::side::{Side, connect, devices, untouched, with_sides, with_sides_of};

/// Reads and expects a refusal, no byte, and that the rails can be connected again.
fn refused(a: &mut Side, b: &mut Side, queue_pair: usize, remote: u64, rkey: u32, len: usize) {
    let (done, sink) = a.read(queue_pair, remote, rkey, len);
    let what = format!("{remote:#x} {len} {rkey:#x}");
    assert!(untouched(&sink), "{what}: bytes arrived ({:?})", done.result);
    let error = done.result.expect_err(&what);
    assert!(error.what.contains("remote access error"), "{what}: {error}");
    connect(a, b, 2);
}

/// Calls `each` for the kinds of windows that keep their range at these devices.
fn with_tight_windows(each: impl Fn(WindowKind, &mut Side, &mut Side)) {
    with_sides_of(2, None, &each);
    with_sides_of(2, Some(WindowKind::Registered), &each);
}

/// Soft-RoCE opens the whole region behind a memory window (`check_rkey` of `rdma_rxe` in Linux 6.1
/// compares a READ with the region only), so it must not be given any.
#[test]
fn soft_roce_is_not_trusted_with_memory_windows() {
    let Some(names) = devices() else { return };
    let survey = survey(&Roots::default());
    if !survey.devices.iter().any(|device| device.name == names[0] && device.software) {
        println!("SKIPPED: {names:?} are not soft-RoCE");
        return;
    }
    with_sides_of(2, None, |kind, _, _| assert_eq!(kind, WindowKind::Registered));
    with_sides_of(2, Some(WindowKind::Bound), |_, a, b| {
        let content = b.content(2);
        let window = b.open_window(0, vec![content.slice(4096..8192)]);
        let (done, sink) = a.read(0, window.base - 1, window.rkey, 1);
        let arrived = !untouched(&sink);
        println!("a byte before a bound window: {:?}, arrived: {arrived}", done.result);
    });
}

#[test]
fn a_read_outside_the_window_is_refused() {
    with_tight_windows(|_, a, b| {
        let content = b.content(2);
        let page = 4096;
        for (start, len) in [(5 * page, 3 * page), (1000, 500), (0, LEASE_BYTES)] {
            let first = content.as_ptr() as u64;
            let (begin, end) = (first + start as u64, first + (start + len) as u64);
            for (remote, count) in [
                (begin - 1, 1),
                (begin - 1, len),
                (end, 1),
                (end - 1, 2),
                (begin, len + 1),
                (begin - 64 * 1024, 4096),
                (end + 64 * 1024, 4096),
            ] {
                let window = b.open_window(0, vec![content.slice(start..start + len)]);
                let (done, sink) = a.read(0, window.base, window.rkey, 1);
                assert_eq!((done.result, sink[0]), (Ok(()), content[start]));
                drop(sink);
                if count <= LEASE_BYTES {
                    refused(a, b, 0, remote, window.rkey, count);
                }
            }
        }
    });
}

#[test]
fn a_closed_window_cannot_be_read_nor_with_a_guessed_key() {
    with_sides(2, |_, a, b| {
        let content = b.content(2);
        let whole = || vec![content.slice(0..LEASE_BYTES)];
        let window = b.open_window(0, whole());
        b.close_window(window);
        refused(a, b, 0, window.base, window.rkey, 4096);
        // A key that was closed stays dead when others are opened after it.
        let old = b.open_window(0, whole());
        b.close_window(old);
        let new = b.open_window(0, whole());
        assert_ne!(new.rkey, old.rkey);
        refused(a, b, 0, old.base, old.rkey, 4096);
        for flip in [1, 2, 0x80, 0x100, 0x1_0000, 0x8000_0000, u32::MAX] {
            let window = b.open_window(0, whole());
            refused(a, b, 0, window.base, window.rkey ^ flip, 4096);
        }
        for guess in [0, 1, 0x100, u32::MAX] {
            b.open_window(0, whole());
            refused(a, b, 0, content.as_ptr() as u64, guess, 4096);
        }
    });
}

#[test]
fn memory_of_the_slab_that_was_never_opened_cannot_be_read() {
    with_tight_windows(|_, a, b| {
        let (secret, open) = (b.content(1), b.content(2));
        let window = b.open_window(0, vec![open.slice(0..LEASE_BYTES)]);
        // With the key of a window over another lease.
        refused(a, b, 0, secret.as_ptr() as u64, window.rkey, 4096);
        let slab = b.slab.range();
        let window = b.open_window(0, vec![open.slice(0..LEASE_BYTES)]);
        refused(a, b, 0, slab.start as u64, window.rkey, 64);
        // Without any window: every key near those that the device has given out.
        for key in 0..64_u32 {
            let rkey = (window.rkey & !0xff).wrapping_sub((key / 8) << 8) | key;
            refused(a, b, 0, secret.as_ptr() as u64, rkey, 4096);
        }
    });
}

#[test]
fn a_bound_window_belongs_to_its_queue_pair() {
    with_sides(2, |kind, a, b| {
        if kind == WindowKind::Registered {
            return;
        }
        let content = b.content(2);
        let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
        refused(a, b, 1, window.base, window.rkey, 4096);
    });
}

#[test]
fn the_key_of_one_peers_rail_opens_nothing_at_anothers() {
    with_sides(2, |_, a, b| {
        let content = b.content(2);
        let window = b.open_window(0, vec![content.slice(0..4096)]);
        // The other way round: `a` has opened nothing, and has a domain of its own.
        refused(b, a, 0, window.base, window.rkey, 4096);
        let own = a.content(1);
        println!("what the refusing side is told: {:?}", a.rail.trouble());
        refused(b, a, 0, own.as_ptr() as u64, window.rkey, 4096);
    });
}
