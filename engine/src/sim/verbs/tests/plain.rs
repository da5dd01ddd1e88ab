//! Devices in good health, and peers that ask for what is not theirs.

use super::*;

const FLUSHED: &str = "work request flushed";
const RETRY: &str = "transport retry exceeded";
const ACCESS: &str = "remote access error";

#[test]
fn reads_arrive_whole_and_complete_in_order() {
    let mut pair = Pair::new(1, SimVerbsConfig::default());
    let bytes: Vec<u8> = (0..=255).collect();
    let window = pair.window(0, &bytes);
    let sink = pair.sink();
    for tag in 0..16 {
        let place = 15 - tag as usize;
        let read = Read { at: place * 16, ..read_of(window, &sink, place as u64 * 16, 16) };
        pair.reader.read(0, tag, read).expect("taken");
    }
    assert_eq!(pair.of_reader(16), (0..16).map(ok).collect::<Vec<_>>());
    assert_eq!(Sink::into_lease(sink).expect("alone")[..256], bytes);
    assert_eq!(pair.source.trouble(), None);
    let stats = pair.fabric.stats();
    assert_eq!((stats.reads, stats.read_bytes, stats.gap_bytes), (16, 256, 0));
}

/// Makes something wrong of a READ that is right; gives the queue pair to post it to.
type Change = fn(&mut Pair, Window, Read) -> (usize, Read);

#[test]
fn a_window_is_exact_and_every_other_read_breaks_both_ends() {
    let bytes = [7; 64];
    let cases: [(&str, Change); 7] = [
        ("another key", |_, _, read| (0, Read { rkey: read.rkey ^ 1, ..read })),
        ("a byte before", |_, _, read| (0, Read { remote: read.remote - 1, ..read })),
        ("a byte behind", |_, _, read| (0, Read { remote: read.remote + 1, ..read })),
        ("a byte more", |_, _, read| (0, Read { len: 65, ..read })),
        ("the end of memory", |_, _, read| (0, Read { remote: u64::MAX - 3, ..read })),
        ("another queue pair", |_, _, read| (1, read)),
        ("a closed window", |pair, window, read| {
            pair.source.close_window(901, window.id).expect("taken");
            assert_eq!(pair.of_source(1), [ok(901)]);
            (0, read)
        }),
    ];
    for (case, change) in cases {
        let mut pair = Pair::new(2, SimVerbsConfig::default());
        let window = pair.window(0, &bytes);
        let whole = pair.read(0, window, 0, 64);
        assert_eq!(whole, (Ok(()), bytes.to_vec()));
        let sink = pair.sink();
        let (queue_pair, read) = change(&mut pair, window, read_of(window, &sink, 0, 64));
        let other = Read { sink: pair.sink(), ..read.clone() };
        pair.reader.read(queue_pair, 1, read).expect("taken");
        pair.reader.read(queue_pair, 2, other).expect("taken");
        assert_eq!(pair.of_reader(2), [failed(1, ACCESS), failed(2, FLUSHED)], "{case}");
        assert!(sink.lease()[..80].iter().all(|byte| *byte == 0), "{case}");
        let trouble = pair.source.trouble().expect("an event");
        assert!(trouble.what.contains("refused its peer's access"), "{case}: {trouble}");
        assert_eq!(pair.source.trouble(), None);
        let again = vec![pair.content(&bytes)];
        pair.source.open_window(queue_pair, 902, again).expect("taken");
        assert_eq!(pair.of_source(1), [failed(902, FLUSHED)], "{case}");
        let stats = pair.fabric.stats();
        assert_eq!((stats.reads, stats.reads_refused, stats.bytes_outside), (1, 1, 0), "{case}");
    }
}

#[test]
fn a_window_of_many_parts_is_read_by_address() {
    let mut pair = Pair::new(3, SimVerbsConfig::default());
    let lease = pair.content(&[[1; 8], [2; 8], [3; 8], [4; 8]].concat());
    // Not in order, and without the third.
    let content = vec![lease.slice(24..32), Bytes::new(), lease.slice(0..8), lease.slice(8..16)];
    let window = pair.source.open_window(1, 5, content).expect("taken");
    assert_eq!(pair.of_source(1), [ok(5)]);
    let (result, got) = pair.read(1, window, 4, 28);
    assert_eq!(result, Ok(()));
    assert_eq!((&got[..4], &got[4..12], &got[20..]), (&[1; 4][..], &[2; 8][..], &[4; 8][..]));
    assert_eq!(got[12..20], [0xdb; 8], "no byte of what lies between");
    assert_eq!(pair.fabric.stats().gap_bytes, 8);
}

#[test]
fn windows_take_only_content_of_one_lease_of_the_slab() {
    let mut pair = Pair::new(4, SimVerbsConfig { windows_max: 1, ..SimVerbsConfig::default() });
    let (one, other) = (pair.content(&[1; 8]), pair.content(&[2; 8]));
    let foreign = Bytes::from(vec![3; 8]);
    let mut refused = |content, why: &str| {
        let error = pair.source.open_window(0, 1, content).expect_err("refused");
        assert!(error.what.contains(why), "{error}");
    };
    refused(vec![foreign], "not in the slab");
    refused(vec![one.clone(), other], "more than one lease");
    refused(vec![Bytes::new()], "without content");
    let window = pair.source.open_window(0, 1, vec![one.clone()]).expect("taken");
    let error = pair.source.open_window(0, 1, vec![one]).expect_err("one is the most");
    assert!(error.what.contains("no more windows"), "{error}");
    pair.source.close_window(2, window.id).expect("taken");
    assert!(pair.source.close_window(3, window.id).is_err(), "closed once");
    assert_eq!(pair.of_source(2), [ok(1), ok(2)]);
    assert!(pair.source.close_window(3, window.id).is_err());
}

#[test]
fn memory_is_held_until_its_completion_is_polled() {
    let mut pair = Pair::new(5, SimVerbsConfig::default());
    let window = pair.window(0, &[9; 32]);
    assert_eq!(pair.source_slab.leases_out(), 1);
    let sink = pair.sink();
    pair.reader.read(0, 1, read_of(window, &sink, 0, 32)).expect("taken");
    drop(sink);
    pair.reader.ring().expect("rung");
    pair.fabric.tick(100);
    pair.source.close_window(2, window.id).expect("taken");
    pair.source.ring().expect("rung");
    pair.fabric.tick(100);
    assert_eq!((pair.reader_slab.leases_out(), pair.source_slab.leases_out()), (1, 1));
    let stats = pair.fabric.stats();
    assert_eq!((stats.windows_open, stats.contents_held, stats.sinks_held), (0, 1, 1));
    assert_eq!((pair.of_reader(1), pair.of_source(1)), (vec![ok(1)], vec![ok(2)]));
    assert_eq!((pair.reader_slab.leases_out(), pair.source_slab.leases_out()), (0, 0));

    let window = pair.window(1, &[9; 32]);
    let sink = pair.sink();
    pair.reader.read(1, 3, read_of(window, &sink, 0, 32)).expect("taken");
    drop(sink);
    pair.reader.destroy();
    drop(pair.source);
    assert_eq!((pair.reader_slab.leases_out(), pair.source_slab.leases_out()), (0, 0));
    let stats = pair.fabric.stats();
    assert_eq!((stats.windows_open, stats.contents_held, stats.sinks_held), (0, 0, 0));
    assert!(completions(&mut pair.reader, 1).is_empty(), "nothing completes any more");
}

#[test]
fn queue_pairs_take_work_only_when_connected_and_only_so_much() {
    let mut pair = Pair::new(6, SimVerbsConfig { send_depth: 3, ..SimVerbsConfig::default() });
    let window = pair.window(0, &[1; 8]);
    let sink = pair.sink();
    let read = read_of(window, &sink, 0, 8);
    for room in [3, 2, 1] {
        assert_eq!(pair.reader.room(0), room);
        pair.reader.read(0, room as u64, read.clone()).expect("taken");
    }
    assert_eq!((pair.reader.room(0), pair.reader.room(1), pair.reader.room(2)), (0, 3, 0));
    let error = pair.reader.read(0, 9, read.clone()).expect_err("full");
    assert!(error.what.contains("full"), "{error}");
    assert!(pair.reader.read(2, 9, read.clone()).is_err(), "no such queue pair");
    assert_eq!(pair.of_reader(3), [ok(3), ok(2), ok(1)]);
    assert_eq!(pair.reader.room(0), 3);
    assert!(pair.reader.read(0, 9, Read { at: usize::MAX, ..read.clone() }).is_err());

    let theirs = pair.source.create(2).expect("made");
    assert!(pair.source.open_window(0, 9, vec![pair.content(&[1])]).is_err(), "not connected");
    assert!(pair.reader.connect(&pair.ports[1], &theirs).is_err(), "connected before");
    pair.reader.create(3).expect("made");
    let error = pair.reader.connect(&pair.ports[1], &theirs).expect_err("three and two");
    assert_eq!(error.what, "3 queue pairs here, 2 at the peer");
    let nowhere = PortInfo { gid: [1; 16], ..pair.ports[1].clone() };
    pair.reader.create(2).expect("made");
    assert!(pair.reader.connect(&nowhere, &theirs).is_err());
}

#[test]
fn a_sink_outside_of_the_slab_is_a_local_error() {
    let mut pair = Pair::new(7, SimVerbsConfig::default());
    let window = pair.window(0, &[1; 8]);
    let other = Slab::new(0);
    let sink = Sink::new(other.try_lease().expect("a lease"));
    pair.reader.read(0, 1, read_of(window, &sink, 0, 8)).expect("taken");
    assert_eq!(pair.of_reader(1), [failed(1, "local protection error")]);
    assert_eq!(sink.lease()[..8], [0; 8]);
    assert_eq!(pair.source.trouble(), None, "nothing of the peer's");
}

#[test]
fn a_peer_that_made_new_queue_pairs_answers_nobody_old() {
    let mut pair = Pair::new(8, SimVerbsConfig::default());
    let window = pair.window(0, &[1; 8]);
    // The peer comes back and connects to the numbers it knows, which still wait for the old ones.
    let known = pair.source.create(2).expect("made");
    let sink = pair.sink();
    pair.reader.read(0, 1, read_of(window, &sink, 0, 8)).expect("taken");
    assert_eq!(pair.of_reader(1), [failed(1, RETRY)]);
    // The number is right and the packets are of another time.
    let mut mine = pair.reader.create(2).expect("made");
    mine[0].psn ^= 1;
    pair.reader.connect(&pair.ports[1], &known).expect("connected");
    pair.source.connect(&pair.ports[0], &mine).expect("connected");
    let windows = [0, 1].map(|queue_pair| pair.window(queue_pair, &[queue_pair as u8; 8]));
    pair.reader.read(0, 2, read_of(windows[0], &sink, 0, 8)).expect("taken");
    pair.reader.read(1, 3, read_of(windows[1], &sink, 0, 8)).expect("taken");
    assert_eq!(pair.of_reader(2), [ok(3), failed(2, RETRY)]);
}

#[test]
fn a_port_that_is_down_is_seen_at_its_end_and_felt_at_the_other() {
    let mut pair = Pair::new(9, SimVerbsConfig { retry_ticks: 50, ..SimVerbsConfig::default() });
    let window = pair.window(0, &[1; 8]);
    assert!(!pair.fabric.set_port(&named("s"), 2, false), "no such port");
    assert!(pair.fabric.set_port(&named("s"), 1, false));
    assert!(!pair.source.is_up() && pair.reader.is_up());
    let trouble = pair.source.trouble().expect("an event");
    assert_eq!(trouble.what, "port sim1/1 went down");
    assert_eq!((pair.source.trouble(), pair.reader.trouble()), (None, None));
    let verbs = pair.fabric.node(&named("s"), 9);
    assert_eq!(verbs.ports().len(), 1, "the other one");

    let sink = pair.sink();
    pair.reader.read(0, 1, read_of(window, &sink, 0, 8)).expect("taken");
    pair.reader.ring().expect("rung");
    pair.fabric.tick(40);
    assert!(pair.fabric.set_port(&named("s"), 1, true));
    assert_eq!(pair.of_reader(1), [ok(1)], "it came back before the last try");

    assert!(pair.fabric.set_port(&named("r"), 0, false));
    pair.reader.read(0, 2, read_of(window, &sink, 0, 8)).expect("taken");
    pair.reader.read(0, 3, read_of(window, &sink, 0, 8)).expect("taken");
    let before = pair.fabric.stats().ticks;
    assert_eq!(pair.of_reader(2), [failed(2, RETRY), failed(3, FLUSHED)]);
    assert!(pair.fabric.stats().ticks - before >= 50);
    assert!(pair.reader.trouble().is_some());

    assert!(pair.fabric.set_port(&named("r"), 0, true));
    pair.connect(2).expect("connected");
    let window = pair.window(0, &[6; 8]);
    assert_eq!(pair.read(0, window, 0, 8), (Ok(()), vec![6; 8]));
}

#[test]
fn keys_of_closed_windows_do_not_come_back() {
    let mut pair = Pair::new(10, SimVerbsConfig::default());
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let window = pair.window(0, &[1; 8]);
        assert!(keys.insert(window.rkey));
        pair.source.close_window(1, window.id).expect("taken");
        assert_eq!(pair.of_source(1), [ok(1)]);
    }
    assert_eq!(pair.source_slab.leases_out(), 0);
}

#[test]
fn a_wake_up_comes_for_a_completion_after_arming() {
    let config = SimVerbsConfig {
        descriptors: true,
        work_ticks: (0, 0),
        completion_ticks: (0, 0),
        ..SimVerbsConfig::default()
    };
    let mut pair = Pair::new(11, config.at(SimFault::MissedWakeUp, 1));
    let bell = pair.reader.bells.as_ref().expect("descriptors").completion.clone();
    let rings = move || rustix::io::read(&bell.0, &mut [0; 8]).is_ok();
    assert_eq!(pair.reader.descriptors().len(), 2);
    let window = pair.window(0, &[1; 8]);
    let sink = pair.sink();
    let mut results = Vec::new();
    for arm in [false, true, true, true] {
        if arm {
            pair.reader.arm().expect("armed");
        }
        pair.reader.read(0, 1, read_of(window, &sink, 0, 8)).expect("taken");
        pair.reader.ring().expect("rung");
        results.push(rings());
        assert_eq!(pair.of_reader(1), [ok(1)]);
    }
    assert_eq!(results, [false, true, false, true], "the second wake-up is missed");
    let event = pair.reader.bells.as_ref().expect("descriptors").event.clone();
    assert!(rustix::io::read(&event.0, &mut [0; 8]).is_err());
    assert!(pair.fabric.set_port(&named("r"), 0, false));
    assert!(rustix::io::read(&event.0, &mut [0; 8]).is_ok());
}
