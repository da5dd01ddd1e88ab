//! Whole transfers by the real drivers, run over each transport.

mod coding;
mod scene;

use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::sync::Semaphore;

use self::coding::{
    content_that_does_not_decode_ends_the_session,
    content_that_gets_smaller_does_and_arrives_as_it_was,
};
use self::scene::{
    CREDIT, Memory, Quic, Rdma, RealVerbs, Scene, Transport, bytes_read, in_time, path, until,
};
use super::target::run_with_credit;
use super::{Lost, run_source};
use crate::base::limits::LEASE_BYTES;
use crate::base::{Digest, FileTime, Stamp};
use crate::manifest::{Entry, EntryKind};
use crate::protocol::{SourceEnd, Stop, TargetEnd, Task};
use crate::sim::verbs::{SimFabric, SimVerbsConfig};
use crate::storage::Tree;
use crate::storage::memory::{Fault, Op};
use crate::transport::tests::every_transport;
use crate::transport::{Link, LinkError};
use crate::wire::{Bitmap, Frame, Numbers};

const MIB: u64 = 1 << 20;
/// More data messages than any session has.
const ALL: usize = 1 << 20;

async fn an_empty_tree_arrives_as_an_empty_directory<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let (published, sent) = scene.push("run").await;
    assert_eq!((published.numbers, sent), (Numbers::default(), 0));
    assert_eq!(scene.picture_of_target("run").len(), 1);
    scene.survives_a_power_loss("run");
}

async fn what_the_rails_of_a_link_carried_is_on_the_meter<T: Transport>() {
    let scene = Scene::<T>::new().await;
    scene.file("a", 1, 3 << 20);
    let ends = scene.transport.session().await;
    let session = scene.begin(ends, "run", Semaphore::MAX_PERMITS);
    let meter = std::sync::Arc::clone(&session.source.meter);
    let (_, sent) = session.published().await;
    let rails = meter.snapshot().rails;
    assert_eq!(rails.iter().map(|rail| rail.bytes).collect::<Vec<_>>(), [sent]);
    assert!(sent >= 3 << 20);
}

async fn a_directory_that_is_too_deep_for_the_target_fails_alone<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let deep = format!("src/{}", ["d"; 250].join("/"));
    crate::storage::mkdir_all(&scene.source.tree, &path(&deep)).expect("directories");
    scene.file("f", 1, 1000);
    let ends = scene.transport.session().await;
    match scene.begin(ends, "a/b/c/d/e/f/run", Semaphore::MAX_PERMITS).ended().await {
        (Ok(SourceEnd::Published(told, failed)), Ok(TargetEnd::Published(published, too)), _) => {
            assert_eq!(told, published);
            assert_eq!(failed.len(), 1);
            assert_eq!(failed[0].failure.code, "path-too-deep");
            assert_eq!(failed[0].path, ["d"; 250].join("/"));
            assert_eq!(too.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.picture_of_target("a/b/c/d/e/f/run").len(), 2 + 249);
}

/// Sizes around every bound that reading, packing and cutting have; holes, links, modes, names.
fn every_kind_of_object<T: Transport>(scene: &Scene<T>) {
    let sizes = [0, 1, 4095, 4097, 262_144, 262_145, LEASE_BYTES - 1, LEASE_BYTES, 5_000_003];
    for (seed, len) in (1..).zip(sizes) {
        scene.file(&format!("sizes/{len}"), seed, len);
    }
    for seed in 100..200 {
        scene.file(&format!("small/{seed}"), seed, 100 + seed as usize);
    }
    let tree = &scene.source.tree;
    for (at, len, data) in [("front", 3 * MIB, 2 * MIB), ("back", 3 * MIB, 0), ("all", MIB, MIB)] {
        let file = tree.create(&path(&format!("src/{at}"))).expect("a file");
        if data < len {
            file.write_at(&[7; 5000], data).expect("data");
        }
        file.set_len(len).expect("a hole");
    }
    for (text, at) in [("sizes/0", "src/latest"), ("nowhere", "src/small/dangling")] {
        tree.symlink(text.as_bytes(), &path(at)).expect("a link");
    }
    let (odd, late) = (path("src/od\u{7}d \u{fc}"), FileTime { secs: -5, nanos: 999_999_999 });
    tree.mkdir(&odd).expect("a directory");
    tree.set_meta(&odd, 0o750, late).expect("mode and time");
}

async fn every_kind_of_object_arrives_and_a_second_push_neither_reads_nor_sends<T: Transport>() {
    let scene = Scene::<T>::new().await;
    every_kind_of_object(&scene);
    let (first, _) = scene.push("run").await;
    assert_eq!((first.numbers.files, first.numbers.discarded), (112, 0));
    for name in ["front", "back", "all"] {
        let meta = scene.target.tree.meta(&path(&format!("run/{name}"))).expect("a file");
        assert!(meta.allocated < meta.len, "{name} has no hole: {meta:?}");
    }
    let read = || (bytes_read(&scene.source.tree, "src"), bytes_read(&scene.target.tree, "run"));
    let before = read();
    let (second, sent) = scene.push("run").await;
    assert_eq!((second.root, sent), (first.root, 0));
    assert_eq!(second.numbers.deduplicated, scene.total());
    // Comparing the pictures in `push` has read either side once.
    let after = read();
    let total = scene.total();
    assert_eq!((after.0 - before.0, after.1 - before.1), (total, total));
    scene.survives_a_power_loss("run");
}

async fn chunks_that_are_there_under_other_names_are_not_sent<T: Transport>() {
    let scene = Scene::<T>::new().await;
    scene.file("old/weights", 1, 3_000_000);
    for seed in 10..40 {
        scene.file(&format!("old/{seed}"), seed, 20_000);
    }
    let (first, sent) = scene.push("one").await;
    assert_eq!(sent, first.numbers.sent);
    assert_eq!(sent, scene.total());

    let tree = &scene.source.tree;
    tree.rename(&path("src/old"), &path("src/new"), false).expect("a rename");
    scene.file("copy", 1, 3_000_000);
    scene.file("fresh", 2, 500_000);
    let (second, sent) = scene.push("two").await;
    assert_eq!(sent, 500_000, "{:?}", second.numbers);
    assert_eq!(second.numbers.deduplicated, scene.total() - 500_000);
    scene.survives_a_power_loss("two");
}

async fn a_cut_costs_at_most_the_credit_and_shows_nothing_of_what_came<T: Transport>() {
    let scene = Scene::<T>::new().await;
    scene.file("changes", 1, 300_000);
    scene.file("stays", 2, 300_000);
    scene.push("run").await;
    let old = scene.picture_of_target("run");

    scene.file("changes", 3, 16 << 20);
    let doomed = scene.begin(scene.transport.doomed().await, "run", ALL);
    until(|| doomed.source.meter.bytes_sent.value() > 0).await;
    let (source, target, sent_at_cut) = doomed.ended().await;
    assert!(matches!(source, Err(Lost::Link(_))), "{source:?}");
    assert!(matches!(target, Err(Lost::Link(_))), "{target:?}");
    assert_eq!(scene.picture_of_target("run"), old);
    scene.leases_are_back().await;

    let (resumed, sent) = scene.push("run").await;
    assert!(resumed.numbers.resumed > 0, "{:?}", resumed.numbers);
    assert!(sent_at_cut + sent <= (16 << 20) + CREDIT, "{sent_at_cut} and {sent} bytes");
    scene.survives_a_power_loss("run");
}

async fn a_file_that_changes_while_it_is_read_arrives_as_one_version<T: Transport>() {
    let scene = Scene::<T>::new().await;
    scene.file("wild", 1, 10 << 20);
    scene.file("calm", 2, 100_000);
    // Nothing is received, so the source stands still before it has read all of the file.
    let session = scene.begin(scene.transport.session().await, "run", 0);
    let wild = path("src/wild");
    until(|| scene.source.tree.bytes_read(&wild).is_ok_and(|bytes| bytes >= 4 << 20)).await;
    let file = scene.source.tree.open_rw(&wild).expect("a file");
    file.write_at(&[1; 5000], 1 << 20).expect("a change of what was read");
    file.write_at(&[2; 5000], 9 << 20).expect("a change of what was not");
    session.permit(ALL);
    let (published, _) = session.published().await;
    let Numbers { files, sent, deduplicated, resumed, discarded } = published.numbers;
    assert_eq!((files, sent + deduplicated, resumed), (2, scene.total(), 0));
    assert!(discarded > 0, "content that came for the first version does not count");
    scene.survives_a_power_loss("run");
}

async fn a_receiver_that_rests_bounds_what_is_read_and_sent_ahead<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let total = 16 * MIB;
    scene.file("large", 1, total as usize);
    let session = scene.begin(scene.transport.session().await, "run", 0);
    until(|| session.sent() > CREDIT / 2).await;
    for messages in 0..5 {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let sent = session.sent();
            let here = session.target.meter.bytes_sent.value();
            assert!(sent <= here + CREDIT, "{sent} bytes sent, {here} received");
            // Beyond what was sent: four runs that are held, and what was cut off the last one.
            let read = bytes_read(&scene.source.tree, "src");
            let ahead = session.sent() + 5 * LEASE_BYTES as u64;
            assert!(read <= ahead, "{read} bytes read, {sent} sent, after {messages} messages");
        }
        session.permit(1);
    }
    session.permit(ALL);
    let (published, sent) = session.published().await;
    assert_eq!((published.numbers.sent, sent), (total, total));
    scene.survives_a_power_loss("run");
}

/// A session in whose middle `stop` is called: three messages of six or so have come.
async fn stopped<T: Transport>(
    scene: &Scene<T>,
    stop: impl FnOnce(&scene::Session),
) -> (Result<SourceEnd, Lost>, Result<TargetEnd, Lost>) {
    scene.file("large", 1, 12 << 20);
    let session = scene.begin(scene.transport.session().await, "run", 3);
    until(|| session.target.meter.bytes_sent.value() > 4 * MIB).await;
    let meter = std::sync::Arc::clone(&session.target.meter);
    stop(&session);
    let (source, target, _) = session.ended().await;
    assert_eq!(scene.picture_of_target("run"), Vec::<String>::new());
    scene.leases_are_back().await;
    // All that had come was made durable before the drivers ended, and is not sent again.
    let (resumed, sent) = scene.push("run").await;
    assert_eq!(resumed.numbers.resumed, meter.bytes_sent.value());
    assert_eq!(sent, scene.total() - resumed.numbers.resumed);
    (source, target)
}

async fn a_source_that_is_told_to_stop_leaves_what_arrived_to_be_resumed<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let (source, target) = stopped(&scene, |session| {
        session.source.stop.send_replace(true);
    })
    .await;
    assert!(matches!(source, Err(Lost::Cancelled)), "{source:?}");
    assert!(matches!(target, Err(Lost::Link(LinkError::Closed { .. }))), "{target:?}");
    scene.survives_a_power_loss("run");
}

async fn a_target_that_is_told_to_stop_makes_durable_what_arrived_and_says_so<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let (source, target) = stopped(&scene, |session| {
        session.target.stop.send_replace(true);
    })
    .await;
    assert!(matches!(target, Err(Lost::Cancelled)), "{target:?}");
    match source {
        Ok(SourceEnd::Stopped(Stop::Refused { failure, retry: true })) => {
            assert_eq!(failure.code, "stopping");
        }
        other => panic!("{other:?}"),
    }
    scene.survives_a_power_loss("run");
}

/// Frames until the link ends; the refusal's code if there was one.
async fn refusal<L: Link>(link: &L) -> Option<String> {
    while let Ok(bytes) = in_time(link.recv()).await {
        if let Ok(Frame::Refuse { code, .. }) = Frame::decode(&bytes) {
            return Some(code);
        }
    }
    None
}

async fn a_peer_that_breaks_the_protocol_is_refused<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let file = |path: &str| Entry {
        path: scene::path(path),
        kind: EntryKind::File { len: 1, stamp: Stamp([0; 16]) },
        mode: 0o644,
        mtime: FileTime::default(),
    };
    let root = Frame::Root { root: Digest::of(b""), failed: 0 };
    let want = Frame::Want { run: 9, wanted: Bitmap::of([true].into_iter()) };
    let twice = Frame::Entries { first: 0, entries: vec![file("a"), file("a")] };
    for frame in [root.clone(), want.clone(), twice] {
        let (peer, link) = scene.transport.session().await;
        let (context, _stop) = scene.context(link.clone());
        let running = run_with_credit(context, scene.store("run"), Task::Receive, CREDIT);
        peer.send(frame.encode()).await.expect("sent");
        let driven = async {
            let ended = in_time(running).await;
            // A link that is only dropped need not deliver what was sent last.
            link.close("over").await;
            ended
        };
        let (ended, code) = tokio::join!(driven, refusal(&peer));
        match ended {
            Ok(TargetEnd::Stopped(Stop::Violation(failure))) => {
                assert_eq!(Some(failure.code), code, "{frame:?}");
            }
            other => panic!("{frame:?}: {other:?}"),
        }
    }
    for frame in [root, want] {
        let (link, peer) = scene.transport.session().await;
        let (context, _stop) = scene.context(link.clone());
        let running = run_source(context, scene.source_files(), false, None);
        peer.send(frame.encode()).await.expect("sent");
        let ended = in_time(running).await;
        assert!(matches!(ended, Ok(SourceEnd::Stopped(Stop::Violation(_)))), "{ended:?}");
    }
    for garbage in [&b""[..], b"\xff", &[0x12, 0xff, 0xff, 0xff]] {
        let (peer, link) = scene.transport.session().await;
        let (context, _stop) = scene.context(link);
        let running = run_with_credit(context, scene.store("run"), Task::Receive, CREDIT);
        peer.send(Bytes::copy_from_slice(garbage)).await.expect("sent");
        let ended = in_time(running).await;
        assert!(matches!(ended, Err(Lost::Link(LinkError::Protocol { .. }))), "{ended:?}");
    }
    assert_eq!(scene.picture_of_target("run"), Vec::<String>::new());
    scene.leases_are_back().await;
    scene.push("run").await;
}

/// A panic without the words that a real one prints.
fn panic_quietly(_: &crate::storage::MemoryTree) {
    std::panic::resume_unwind(Box::new("a planted panic"));
}

async fn f46_a_panic_ends_its_own_transfer_and_the_next_session_goes_on<T: Transport>() {
    let scene = Scene::<T>::new().await;
    scene.file("large", 1, 3 << 20);
    for seed in 2..12 {
        scene.file(&format!("d/{seed}"), seed, 9_000);
    }
    let mut panics = 0;
    for calls in [1, 6, 25, 60] {
        for at_target in [true, false] {
            let to = format!("run-{calls}-{at_target}");
            let victim = if at_target { &scene.target.life } else { &scene.source.life };
            let ends = scene.transport.session().await;
            let session = scene.begin_after(ends, &to, ALL, || {
                victim.hook_in(calls, Box::new(panic_quietly));
            });
            let (source, target, _) = session.ended().await;
            victim.calm();
            scene.leases_are_back().await;
            let broken = |stop: &Stop| matches!(stop, Stop::Local(f) if f.code == "internal");
            match (&source, &target) {
                (Ok(SourceEnd::Published(..)), Ok(TargetEnd::Published(..))) => continue,
                (_, Ok(TargetEnd::Stopped(stop))) if at_target => assert!(broken(stop), "{stop:?}"),
                (Ok(SourceEnd::Stopped(stop)), Err(Lost::Link(_))) if !at_target => {
                    assert!(broken(stop), "{stop:?}");
                }
                other => panic!("{to}: {other:?}"),
            }
            panics += 1;
            let shown = scene.picture_of_target(&to);
            assert!(shown.is_empty() || shown == scene.picture_of_source(), "{to}: {shown:?}");
            scene.push(&to).await;
        }
    }
    assert_eq!(panics, 8, "a session did not meet its panic");
}

async fn f37_a_call_without_descriptors_ends_the_session_and_fails_no_object<T: Transport>() {
    let scene = Scene::<T>::new().await;
    scene.file("large", 1, 3 << 20);
    for seed in 2..12 {
        scene.file(&format!("d/{seed}"), seed, 9_000);
    }
    let mut ended_early = 0;
    let (source, target) = (&scene.source.life, &scene.target.life);
    let faults = [
        (source, Op::List, 1),
        (source, Op::Open, 0),
        (source, Op::Open, 7),
        (target, Op::Create, 0),
        (target, Op::Create, 5),
        (target, Op::Mkdir, 0),
        (target, Op::SyncDir, 0),
        (target, Op::SyncAll, 0),
        (target, Op::Rename, 0),
    ];
    for (number, &(victim, op, after)) in faults.iter().enumerate() {
        let to = format!("run-{number}");
        let ends = scene.transport.session().await;
        let session = scene.begin_after(ends, &to, ALL, || {
            victim.add_fault(Fault { op, after, errno: Errno::MFILE });
        });
        let early = |stop: &Stop| matches!(stop, Stop::Local(f) if f.is_no_descriptors());
        match session.ended().await {
            (Ok(SourceEnd::Published(_, failed)), Ok(TargetEnd::Published(..)), _) => {
                assert!(failed.is_empty(), "{op:?}: {failed:?}");
            }
            (Ok(SourceEnd::Stopped(stop)), Err(Lost::Link(_)), _) if early(&stop) => {
                ended_early += 1;
            }
            (
                Ok(SourceEnd::Stopped(Stop::Refused { failure, retry: true })),
                Ok(TargetEnd::Stopped(stop)),
                _,
            ) if early(&stop) && failure.is_no_descriptors() => ended_early += 1,
            other => panic!("{op:?} after {after}: {other:?}"),
        }
        victim.calm();
        let shown = scene.picture_of_target(&to);
        assert!(shown.is_empty() || shown == scene.picture_of_source(), "{op:?}: {shown:?}");
        scene.push(&to).await;
    }
    assert_eq!(ended_early, faults.len(), "a session did not meet its fault");
}

/// Every seed gives the devices faults of its own; how many of them there are is in
/// `RAILS_TRANSFERS`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_rails_that_fail_nothing_wrong_is_ever_published() {
    let count = std::env::var("RAILS_TRANSFERS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let mut faults = 0;
    for seed in 0..count {
        let scene = Scene::<Rdma>::new().await;
        let fabric = SimFabric::new(seed, SimVerbsConfig::cruel());
        scene.transport.set(fabric.clone());
        scene.file("weights", seed, 3_000_000 + seed as usize);
        for small in 0..20 {
            scene.file(&format!("small/{small}"), seed * 100 + small, 30_000);
        }
        // Too much altered content ends a session, and its user tries again.
        let mut sessions = 0;
        while let (Ok(SourceEnd::Stopped(why)), ..) =
            scene.begin(scene.transport.session().await, "run", ALL).ended().await
        {
            assert!(
                matches!(&why, Stop::Refused { failure, .. } if failure.code == "wrong-content")
            );
            assert!(scene.picture_of_target("run").is_empty());
            sessions += 1;
            assert!(sessions < 20, "seed {seed} never ends");
        }
        assert!(scene.picture_of_target("run") == scene.picture_of_source(), "seed {seed}");
        faults += fabric.stats().faults.values().sum::<u64>();
        assert_eq!(fabric.stats().bytes_outside, 0);
    }
    assert!(faults > count, "{faults} faults in {count} transfers");
    println!("{count} transfers, {faults} faults");
}

every_transport! {
    an_empty_tree_arrives_as_an_empty_directory,
    what_the_rails_of_a_link_carried_is_on_the_meter,
    a_directory_that_is_too_deep_for_the_target_fails_alone,
    every_kind_of_object_arrives_and_a_second_push_neither_reads_nor_sends,
    chunks_that_are_there_under_other_names_are_not_sent,
    a_cut_costs_at_most_the_credit_and_shows_nothing_of_what_came,
    a_file_that_changes_while_it_is_read_arrives_as_one_version,
    a_receiver_that_rests_bounds_what_is_read_and_sent_ahead,
    a_source_that_is_told_to_stop_leaves_what_arrived_to_be_resumed,
    a_target_that_is_told_to_stop_makes_durable_what_arrived_and_says_so,
    a_peer_that_breaks_the_protocol_is_refused,
    content_that_does_not_decode_ends_the_session,
    content_that_gets_smaller_does_and_arrives_as_it_was,
    f37_a_call_without_descriptors_ends_the_session_and_fails_no_object,
    f46_a_panic_ends_its_own_transfer_and_the_next_session_goes_on,
}
