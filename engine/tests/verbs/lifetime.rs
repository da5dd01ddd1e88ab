//! Memory stays while a device may touch it, and comes back after that.

use std::process::Command;
use std::time::{Duration, Instant};

use portway::base::limits::LEASE_BYTES;
use portway::transport::rdma::{Rail, Read, Sink, Window};

use crate::side::{Side, UNTOUCHED, connect, sides, with_sides};

#[test]
fn a_window_holds_its_content_until_it_is_closed() {
    with_sides(1, |kind, _, b| {
        let content = b.content(2);
        let window = b.open_window(0, vec![content.slice(0..10), content.slice(100..200)]);
        drop(content);
        assert_eq!(b.slab.leases_out(), 1, "{kind:?}");
        b.close_window(window);
        assert_eq!(b.slab.leases_out(), 0, "{kind:?}");
        let content = b.content(2);
        b.open_window(0, vec![content.slice(0..10)]);
        drop(content);
        assert_eq!(b.slab.leases_out(), 1);
        b.rail.destroy();
        assert_eq!(b.slab.leases_out(), 0, "{kind:?}: destroyed with an open window");
    });
}

#[test]
fn many_windows_are_open_at_once_and_keys_differ() {
    with_sides(1, |_, a, b| {
        let content = b.content(2);
        let mut keys = Vec::new();
        for _ in 0..10 {
            let windows: Vec<_> = (0..16)
                .map(|n| (n, b.open_window(0, vec![content.slice(n * 5000..n * 5000 + 4096)])))
                .collect();
            for (n, window) in &windows {
                let (done, sink) = a.read(0, window.base, window.rkey, 4096);
                assert_eq!(done.result, Ok(()));
                assert!(sink[..4096] == content[n * 5000..n * 5000 + 4096]);
            }
            keys.extend(windows.iter().map(|(_, window)| window.rkey));
            for (_, window) in windows {
                b.close_window(window);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 160);
    });
}

#[test]
fn a_rail_destroyed_with_reads_under_way_gives_all_leases_back_untouched_after() {
    with_sides(2, |kind, a, b| {
        let content = b.content(2);
        for round in 0..5 {
            let window = b.open_window(round % 2, vec![content.slice(0..LEASE_BYTES)]);
            for tag in 0..16 {
                let sink = Sink::new(a.lease(UNTOUCHED));
                let (remote, rkey) = (window.base, window.rkey);
                let read = Read { remote, rkey, sink, at: 0, len: LEASE_BYTES };
                a.rail.read(round % 2, tag, read).unwrap();
            }
            assert_eq!(a.slab.leases_out(), 16);
            a.rail.ring().unwrap();
            std::thread::sleep(Duration::from_millis(10 * round as u64));
            assert_eq!(a.slab.leases_out(), 16, "{kind:?}: the rail holds them");
            let begun = Instant::now();
            a.rail.destroy();
            println!("{kind:?}: destroyed in {:?}", begun.elapsed());
            assert_eq!(a.slab.leases_out(), 0, "{kind:?}");
            let leases: Vec<_> = (0..16).map(|_| a.lease(0x11)).collect();
            std::thread::sleep(Duration::from_millis(200));
            assert!(leases.iter().all(|lease| lease.iter().all(|byte| *byte == 0x11)));
            let mut done = Vec::new();
            a.rail.poll(&mut done).unwrap();
            assert_eq!(done, [], "what was posted never completes");
            connect(a, b, 2);
        }
    });
}

#[test]
fn a_reader_outlives_a_peer_that_destroys_its_rail() {
    with_sides(1, |kind, a, b| {
        let content = b.content(2);
        let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
        drop(content);
        for tag in 0..8 {
            let sink = Sink::new(a.lease(UNTOUCHED));
            let (remote, rkey) = (window.base, window.rkey);
            let read = Read { remote, rkey, sink, at: 0, len: LEASE_BYTES };
            a.rail.read(0, tag, read).unwrap();
        }
        a.rail.ring().unwrap();
        b.rail.destroy();
        assert_eq!(b.slab.leases_out(), 0);
        let begun = Instant::now();
        let done = a.wait(8);
        let failed = done.iter().find_map(|done| done.result.as_ref().err());
        println!("{kind:?}: {:?} until {failed:?}", begun.elapsed());
        assert!(failed.is_some());
        assert_eq!(a.slab.leases_out(), 0);
        // The same rails carry again.
        connect(a, b, 1);
        let content = b.content(4);
        let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
        let (done, sink) = a.read(0, window.base, window.rkey, LEASE_BYTES);
        assert_eq!(done.result, Ok(()));
        assert!(sink[..] == content[..]);
    });
}

#[test]
fn a_rail_is_connected_again_many_times() {
    with_sides(4, |_, a, b| {
        for round in 0..20 {
            let content = b.content(round);
            let window = b.open_window(3, vec![content.slice(0..LEASE_BYTES)]);
            let wrong = if round % 2 == 0 { 0 } else { 0x100 };
            let (done, _) = a.read(3, window.base, window.rkey ^ wrong, 4096);
            assert_eq!(done.result.is_ok(), wrong == 0);
            connect(a, b, 4 + usize::from(round) % 3);
        }
    });
}

/// The commands that do something to the wire and undo it.
struct Wire {
    undo: String,
}

impl Wire {
    /// Runs the command named by `PORTWAY_TEST_RDMA_{what}`; dropping runs that of `undo`. `None`,
    /// and a line that says so, without commands.
    fn hurt(what: &str, undo: &str) -> Option<Self> {
        let [what, undo] = [what, undo].map(|name| format!("PORTWAY_TEST_RDMA_{name}"));
        let (Ok(command), Ok(undo)) = (std::env::var(&what), std::env::var(&undo)) else {
            println!("SKIPPED: {what} and {undo} are not set");
            return None;
        };
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
        Some(Self { undo })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let status = Command::new("sh").args(["-c", &self.undo]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} failed", self.undo);
    }
}

/// Posts READs of a whole lease.
fn post(a: &mut Side, window: Window, count: u64) {
    for tag in 0..count {
        let sink = Sink::new(a.lease(UNTOUCHED));
        let (remote, rkey) = (window.base, window.rkey);
        let read = Read { remote, rkey, sink, at: 0, len: LEASE_BYTES };
        a.rail.read(0, tag, read).unwrap();
    }
    a.rail.ring().unwrap();
}

fn works(a: &mut Side, b: &mut Side) {
    let begun = Instant::now();
    while !a.rail.is_up() || !b.rail.is_up() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a port stays down");
        std::thread::sleep(Duration::from_millis(20));
    }
    connect(a, b, 1);
    let content = b.content(77);
    let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
    let (done, sink) = a.read(0, window.base, window.rkey, LEASE_BYTES);
    assert_eq!(done.result, Ok(()));
    assert!(sink[..] == content[..]);
}

#[test]
fn a_port_that_loses_its_wire_is_trouble() {
    let Some((mut a, mut b)) = sides(1) else { return };
    assert!(a.rail.is_up() && a.rail.trouble().is_none());
    let content = b.content(2);
    let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
    post(&mut a, window, 8);
    let Some(wire) = Wire::hurt("UNPLUG", "PLUG") else { return };
    let begun = Instant::now();
    let trouble = loop {
        if let Some(trouble) = a.rail.trouble() {
            break trouble;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no event");
        std::thread::sleep(Duration::from_millis(5));
    };
    println!("{:?} after the wire was lost: {trouble}", begun.elapsed());
    assert!(trouble.what.contains("the port went down"));
    assert!(!a.rail.is_up());
    let mut done = Vec::new();
    while begun.elapsed() < Duration::from_secs(8) && done.len() < 8 {
        a.rail.poll(&mut done).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{} of 8 READs came back after {:?}: {done:?}", done.len(), begun.elapsed());
    a.rail.destroy();
    assert_eq!(a.slab.leases_out(), 0);
    drop(wire);
    works(&mut a, &mut b);
}

#[test]
fn a_peer_that_does_not_answer_fails_reads_within_seconds() {
    let Some((mut a, mut b)) = sides(1) else { return };
    let content = b.content(2);
    let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
    let Some(wire) = Wire::hurt("CUT", "MEND") else { return };
    let begun = Instant::now();
    post(&mut a, window, 4);
    let done = a.wait(4);
    let error = done.iter().find_map(|done| done.result.clone().err()).unwrap();
    println!("{:?} until a READ failed: {error}", begun.elapsed());
    assert!(error.what.contains("UDP 4791"), "{error}");
    assert!(done.iter().all(|done| done.result.is_err()));
    assert_eq!(a.slab.leases_out(), 0);
    drop(wire);
    works(&mut a, &mut b);
}
