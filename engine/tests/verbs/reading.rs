//! What is read is what was there.

use std::sync::Arc;
use std::time::Instant;

use portway::base::limits::LEASE_BYTES;
use portway::transport::rdma::{Rail, Read, Sink};

use crate::side::{UNTOUCHED, connect, ready, sides, with_sides};

#[test]
fn reads_of_all_sizes_bring_what_is_in_the_window() {
    with_sides(2, |kind, a, b| {
        let content = b.content(3);
        let window = b.open_window(1, vec![content.slice(0..LEASE_BYTES)]);
        assert_eq!(window.base, content.as_ptr() as u64);
        for (at, len) in [
            (0, 1),
            (1, 7),
            (4095, 4096),
            (4096, 4097),
            (777, 65_536),
            (1 << 20, 1 << 20),
            (LEASE_BYTES - 1, 1),
            (0, LEASE_BYTES),
        ] {
            let (done, sink) = a.read(1, window.base + at as u64, window.rkey, len);
            assert_eq!(done.result, Ok(()), "{kind:?} {at} {len}");
            assert!(sink[..len] == content[at..at + len], "{kind:?} {at} {len}");
            assert!(sink[len..].iter().all(|byte| *byte == UNTOUCHED));
        }
        b.close_window(window);
    });
}

#[test]
fn many_reads_at_once_fill_the_room_and_no_more() {
    with_sides(2, |kind, a, b| {
        let content = b.content(5);
        let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
        let room = a.rail.room(0);
        let piece = LEASE_BYTES / room;
        let sink = Sink::new(a.lease(UNTOUCHED));
        let read = |place: usize| Read {
            remote: window.base + (place * piece) as u64,
            rkey: window.rkey,
            sink: Arc::clone(&sink),
            at: place * piece,
            len: piece,
        };
        for place in 0..room {
            assert_eq!(a.rail.room(0), room - place);
            a.rail.read(0, place as u64, read(place)).unwrap();
        }
        assert_eq!((a.rail.room(0), a.rail.room(1), a.rail.room(2)), (0, room, 0));
        assert!(a.rail.read(0, 0, read(0)).is_err(), "no room");
        assert!(a.rail.read(2, 0, read(0)).is_err(), "no such queue pair");
        a.rail.ring().unwrap();
        let mut done = a.wait(room);
        done.sort_by_key(|done| done.tag);
        assert!(done.iter().all(|done| done.result.is_ok()), "{kind:?}: {done:?}");
        assert!(done.iter().map(|done| done.tag).eq(0..room as u64));
        assert!(Sink::into_lease(sink).unwrap()[..] == content[..]);
        assert_eq!(a.rail.room(0), room);
    });
}

#[test]
fn a_window_over_parts_of_a_lease_can_be_read_from_its_lowest_byte() {
    with_sides(1, |_, a, b| {
        let content = b.content(9);
        let parts = vec![content.slice(9000..9100), content.slice(5000..6000)];
        let window = b.open_window(0, parts);
        assert_eq!(window.base, content.as_ptr() as u64 + 5000);
        let (done, sink) = a.read(0, window.base, window.rkey, 4100);
        assert_eq!(done.result, Ok(()));
        assert!(sink[..1000] == content[5000..6000] && sink[4000..4100] == content[9000..9100]);
    });
}

#[test]
fn an_armed_rail_wakes_up_at_the_next_completion() {
    with_sides(1, |kind, a, b| {
        let content = b.content(1);
        let window = b.open_window(0, vec![content.slice(0..4096)]);
        // A window that opens wakes up as well, and also where it opens at once.
        b.rail.arm().unwrap();
        b.rail.poll(&mut Vec::new()).unwrap();
        assert!(!ready(&b.rail, 20));
        b.rail.open_window(0, 99, vec![content.slice(0..4096)]).unwrap();
        b.rail.ring().unwrap();
        assert!(ready(&b.rail, 10_000), "{kind:?}");
        assert_eq!(b.wait(1)[0].tag, 99);
        for round in 0..5 {
            a.rail.arm().unwrap();
            let mut done = Vec::new();
            a.rail.poll(&mut done).unwrap();
            assert!(done.is_empty() && !ready(&a.rail, 20), "{kind:?} {round}: nothing was posted");
            let sink = Sink::new(a.lease(UNTOUCHED));
            let read = Read { remote: window.base, rkey: window.rkey, sink, at: 0, len: 4096 };
            a.rail.read(0, round, read).unwrap();
            a.rail.ring().unwrap();
            assert!(ready(&a.rail, 10_000), "{kind:?} {round}: a completion wakes up");
            assert_eq!(a.wait(1)[0].tag, round);
        }
    });
}

/// Prints figures; fails only if content is wrong.
#[test]
fn rate_of_reads_of_a_mebibyte() {
    with_sides(2, |kind, a, b| {
        let (content, piece) = (b.content(7), 1 << 20);
        let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
        let other = b.open_window(1, vec![content.slice(0..LEASE_BYTES)]);
        let sinks: Vec<_> = (0..8).map(|_| Sink::new(a.lease(UNTOUCHED))).collect();
        let begun = Instant::now();
        let count: usize = 64;
        for round in 0..count / 16 {
            for n in 0..16 {
                let (window, sink) = ([window, other][n % 2], Arc::clone(&sinks[n / 2]));
                let at = n % 2 * piece;
                let remote = window.base + at as u64;
                let read = Read { remote, rkey: window.rkey, sink, at, len: piece };
                a.rail.read(n % 2, (round * 16 + n) as u64, read).unwrap();
            }
            a.rail.ring().unwrap();
            assert!(a.wait(16).iter().all(|done| done.result.is_ok()));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let rate = count as f64 * piece as f64 / seconds / 1e6;
        println!("{kind:?}: {count} READs of 1 MiB in {seconds:.2} s, {rate:.1} MB/s");
        let begun = Instant::now();
        for _ in 0..100 {
            let window = b.open_window(0, vec![content.slice(0..LEASE_BYTES)]);
            b.close_window(window);
        }
        let each = begun.elapsed() / 100;
        println!("{kind:?}: {each:?} to open and close a window of 2 MiB");
        for sink in sinks {
            assert!(Sink::into_lease(sink).unwrap()[..] == content[..]);
        }
    });
}

#[test]
fn what_is_wrong_with_a_request_is_said_before_it_is_posted() {
    let Some((mut a, mut b)) = sides(1) else { return };
    let content = b.content(1);
    let window = b.open_window(0, vec![content.slice(0..4096)]);
    let foreign = Sink::new(b.lease(0));
    let own = Sink::new(a.lease(0));
    let read = |sink: &Arc<Sink>, at, len| Read {
        remote: window.base,
        rkey: window.rkey,
        sink: Arc::clone(sink),
        at,
        len,
    };
    assert!(a.rail.read(0, 1, read(&foreign, 0, 1)).is_err(), "a lease of another slab");
    assert!(a.rail.read(0, 1, read(&own, LEASE_BYTES - 1, 2)).is_err(), "beyond the lease");
    assert!(a.rail.read(0, 1, read(&own, usize::MAX, 2)).is_err());
    assert!(a.rail.read(0, 1, read(&own, 0, 0)).is_err(), "nothing");
    assert!(b.rail.open_window(7, 1, vec![content.slice(0..1)]).is_err());
    assert!(b.rail.open_window(0, 1, vec![]).is_err());
    assert!(b.rail.close_window(1, window.id + 1).is_err());
    b.close_window(window);
    assert!(b.rail.close_window(1, window.id).is_err(), "it is closed");
    let pairs = a.rail.create(1).unwrap();
    assert!(a.rail.read(0, 1, read(&own, 0, 1)).is_err(), "not connected");
    assert!(a.rail.connect(&b.port, &[pairs[0], pairs[0]]).is_err(), "another number");
    connect(&mut a, &mut b, 1);
    assert_eq!(Arc::strong_count(&own), 1);
}
