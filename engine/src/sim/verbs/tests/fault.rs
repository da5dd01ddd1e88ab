//! Each fault by itself, at the occasion that a test chose.

use super::*;

/// A pair with a window over these bytes at queue pair 0, after which the fault comes first.
fn struck(faults: &[SimFault], bytes: &[u8]) -> (Pair, Window) {
    let mut pair = Pair::new(20, SimVerbsConfig::default());
    let window = pair.window(0, bytes);
    for fault in faults {
        pair.fabric.inject(*fault);
    }
    (pair, window)
}

fn bits_that_differ(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
}

#[test]
fn a_read_fails_in_each_way_and_the_rest_is_flushed() {
    let cases = [
        (SimFault::RetryExceeded, "transport retry exceeded", 40, false),
        (SimFault::NotReady, "RNR retry exceeded", 40, false),
        (SimFault::RemoteAccess, "remote access error", 0, true),
        (SimFault::LocalProtection, "local protection error", 0, false),
        (SimFault::Flushed, "work request flushed", 0, false),
    ];
    for (fault, what, ticks, at_peer) in cases {
        for partial in [false, true] {
            let (mut pair, window) = struck(&[fault], &[5; 4096]);
            if partial {
                pair.fabric.inject(SimFault::Partial);
            }
            let sink = pair.sink();
            pair.reader.read(0, 1, read_of(window, &sink, 0, 4096)).expect("taken");
            pair.reader.read(0, 2, read_of(window, &sink, 0, 4096)).expect("taken");
            let before = pair.fabric.stats().ticks;
            assert_eq!(pair.of_reader(2), [failed(1, what), failed(2, "work request flushed")]);
            assert!(pair.fabric.stats().ticks - before >= ticks, "{fault:?}");
            assert_eq!(pair.source.trouble().is_some(), at_peer, "{fault:?}");
            let written = sink.lease().iter().take_while(|byte| **byte == 5).count();
            assert_eq!((1..4096).contains(&written), partial, "{fault:?}: {written}");
            let stats = pair.fabric.stats();
            assert_eq!((stats.fault(fault), stats.reads), (1, 0));
            assert!(stats.failed.get(what).copied() > Some(0));
        }
    }
}

#[test]
fn a_payload_is_altered_before_its_completion_or_between_it_and_the_poll() {
    for fault in [SimFault::AlteredBefore, SimFault::AlteredAfter] {
        let (mut pair, window) = struck(&[fault], &[5; 64]);
        let sink = pair.sink();
        pair.reader.read(0, 1, read_of(window, &sink, 0, 64)).expect("taken");
        pair.reader.ring().expect("rung");
        pair.fabric.tick(50);
        let at_completion = bits_that_differ(&sink.lease()[..64], &[5; 64]);
        assert_eq!(at_completion, u32::from(fault == SimFault::AlteredBefore));
        assert_eq!(pair.of_reader(1), [ok(1)]);
        let lease = Sink::into_lease(sink).expect("alone");
        assert_eq!(bits_that_differ(&lease[..64], &[5; 64]), 1, "{fault:?}");
        assert!(lease[64..].iter().all(|byte| *byte == 0), "only what was read");
    }
}

#[test]
fn a_short_read_says_that_it_succeeded() {
    let (mut pair, window) = struck(&[SimFault::Short], &[5; 4096]);
    let (result, got) = pair.read(0, window, 0, 4096);
    assert_eq!(result, Ok(()));
    let written = got.iter().take_while(|byte| **byte == 5).count();
    assert!(written < 4096 && got[written..].iter().all(|byte| *byte == 0), "{written}");
}

#[test]
fn a_late_completion_holds_up_its_own_queue_pair_only() {
    let (mut pair, window) = struck(&[SimFault::Late], &[5; 8]);
    let other = pair.window(1, &[6; 8]);
    pair.fabric.inject(SimFault::Late);
    let sink = pair.sink();
    for (queue_pair, tag, window) in [(0, 1, window), (0, 2, window), (1, 3, other)] {
        pair.reader.read(queue_pair, tag, read_of(window, &sink, 0, 8)).expect("taken");
        pair.reader.ring().expect("rung");
        pair.fabric.tick(9);
    }
    assert_eq!(pair.of_reader(3), [ok(3), ok(1), ok(2)]);
}

#[test]
fn a_lost_completion_keeps_its_memory_until_the_queue_pairs_are_gone() {
    let (mut pair, window) = struck(&[SimFault::Lost], &[5; 8]);
    let sink = pair.sink();
    for tag in [1, 2] {
        pair.reader.read(0, tag, read_of(window, &sink, 0, 8)).expect("taken");
    }
    assert_eq!(pair.of_reader(2), [ok(2)]);
    assert_eq!(pair.reader.room(0), 63);
    assert_eq!(pair.fabric.stats().sinks_held, 1);
    assert_eq!(Arc::strong_count(&sink), 2);
    pair.reader.destroy();
    assert_eq!(Arc::strong_count(&sink), 1);
}

#[test]
fn a_completion_comes_twice_and_an_old_tag_comes_back() {
    let (mut pair, window) = struck(&[SimFault::Duplicate], &[5; 8]);
    let sink = pair.sink();
    pair.reader.read(0, 77, read_of(window, &sink, 0, 8)).expect("taken");
    assert_eq!(pair.of_reader(2), [ok(77), ok(77)]);
    assert_eq!(pair.reader.room(0), 64);
    pair.connect(2).expect("connected");
    let window = pair.window(0, &[5; 8]);
    pair.fabric.inject(SimFault::Stale);
    pair.reader.read(0, 78, read_of(window, &sink, 0, 8)).expect("taken");
    assert_eq!(pair.of_reader(2), [ok(78), ok(77)]);
}

#[test]
fn completions_overtake_those_of_other_queue_pairs_and_never_their_own() {
    let config = SimVerbsConfig::default().with(SimFault::Reordered, 10_000);
    let mut pair = Pair::new(21, config);
    let windows = [0, 1].map(|queue_pair| pair.window(queue_pair, &[1; 8]));
    let sink = pair.sink();
    for tag in 0..20 {
        let queue_pair = tag as usize % 2;
        let read = read_of(windows[queue_pair], &sink, 0, 8);
        pair.reader.read(queue_pair, tag, read).expect("taken");
    }
    pair.reader.ring().expect("rung");
    pair.fabric.tick(400);
    let tags: Vec<u64> = pair.of_reader(20).iter().map(|done| done.tag).collect();
    for queue_pair in 0..2 {
        let own: Vec<u64> = tags.iter().copied().filter(|tag| tag % 2 == queue_pair).collect();
        assert!(own.is_sorted() && own.len() == 10, "{tags:?}");
    }
}

#[test]
fn a_completion_queue_that_overflows_is_broken_until_it_is_made_anew() {
    let by_fault = Pair::new(22, SimVerbsConfig::default());
    by_fault.fabric.inject(SimFault::Overrun);
    let config = SimVerbsConfig { completion_depth: Some(2), ..SimVerbsConfig::default() };
    for mut pair in [by_fault, Pair::new(22, config)] {
        let content = pair.content(&[1; 8]);
        for tag in 0..3 {
            pair.source.open_window(0, tag, vec![content.clone()]).expect("taken");
        }
        drop(content);
        pair.source.ring().expect("rung");
        pair.fabric.tick(100);
        for _ in 0..2 {
            assert!(pair.source.poll(&mut Vec::new()).is_err());
        }
        let trouble = pair.source.trouble().expect("an event");
        assert!(trouble.what.contains("overflowed"), "{trouble}");
        assert_eq!((pair.source.trouble(), pair.source_slab.leases_out()), (None, 1));
        pair.connect(2).expect("connected");
        assert_eq!(pair.source_slab.leases_out(), 0);
        let window = pair.window(0, &[2; 8]);
        assert_eq!(pair.read(0, window, 0, 8).1, [2; 8]);
    }
}

#[test]
fn calls_are_refused() {
    let calls = [SimFault::OpenRefused, SimFault::CreateRefused, SimFault::ConnectRefused];
    for fault in calls {
        for occasion in 0..2 {
            let config = SimVerbsConfig::default().at(fault, occasion);
            assert!(Pair::try_new(23, config).is_err(), "{fault:?} {occasion}");
        }
    }
    let (mut pair, window) = struck(&[], &[5; 8]);
    let sink = pair.sink();
    let read = read_of(window, &sink, 0, 8);
    for _ in 0..3 {
        pair.fabric.inject(SimFault::PostRefused);
    }
    assert!(pair.reader.read(0, 1, read.clone()).is_err());
    assert!(pair.source.open_window(0, 2, vec![pair.content(&[1])]).is_err());
    assert!(pair.source.close_window(3, window.id).is_err());
    assert_eq!((pair.source_slab.leases_out(), Arc::strong_count(&sink)), (1, 2));
    pair.fabric.inject(SimFault::RingRefused);
    pair.reader.read(0, 1, read).expect("taken");
    assert!(pair.reader.ring().is_err());
    assert_eq!(pair.of_reader(1), [ok(1)]);
}

#[test]
fn a_port_flaps_and_a_queue_pair_breaks_by_itself() {
    let (mut pair, window) = struck(&[], &[5; 8]);
    for _ in 0..8 {
        pair.fabric.inject(SimFault::PortFlap);
    }
    pair.fabric.tick(8);
    let troubles = [pair.reader.trouble(), pair.source.trouble()];
    assert!(troubles.iter().flatten().count() > 0, "one of four ports is this one");
    pair.fabric.calm();
    assert!(pair.reader.is_up() && pair.source.is_up());
    assert_eq!(pair.read(0, window, 0, 8), (Ok(()), vec![5; 8]));
    for _ in 0..40 {
        pair.fabric.inject(SimFault::QueuePairBroken);
    }
    pair.fabric.tick(40);
    let trouble = pair.source.trouble().expect("an event");
    assert!(trouble.what.ends_with(" broke"), "{trouble}");
    pair.source.open_window(0, 1, vec![pair.content(&[1])]).expect("taken");
    assert_eq!(pair.of_source(1), [failed(1, "work request flushed")]);
}
