//! A peer with a valid certificate that keeps to no rule: refused, and nothing becomes visible.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::items_after_statements,
    clippy::default_trait_access,
    clippy::needless_for_each,
    reason = "a test that cannot set up its scene fails, and reads top down"
)]

mod common;
#[path = "hostile/server.rs"]
mod server;

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::raw::{self, ending, hello, next, open, send};
use common::{Pair, fingerprint, noise, write};
use portway::base::limits::{ENTRIES_PER_FRAME_MAX, ENTRY_WINDOW, OBJECT_BYTES_MAX};
use portway::base::{Digest, FileTime, RelPath, Seq, Stamp};
use portway::manifest::{ChunkRef, Entry, EntryKind, ListHasher, Object};
use portway::transport::Link;
use portway::transport::quic::QuicLink;
use portway::wire::{DataHeader, End, Frame, Piece};

async fn connect(pair: &Pair) -> QuicLink {
    raw::connect(&pair.onprem.home, pair.cloud.address).await
}

async fn greeted(pair: &Pair) -> QuicLink {
    raw::greeted(&pair.onprem.home, pair.cloud.address).await
}

async fn opened(pair: &Pair, path: &str) -> QuicLink {
    raw::opened(&pair.onprem.home, pair.cloud.address, path).await
}

fn rel(path: &str) -> RelPath {
    RelPath::from_bytes(path.as_bytes()).unwrap()
}

async fn wait_for(link: &QuicLink, name: &str) -> Frame {
    loop {
        match next(link).await {
            Ok(frame) if frame.name() == name => return frame,
            Ok(Frame::Refuse { code, detail, .. }) => panic!("no {name}, but {code}: {detail}"),
            Ok(_) => {}
            Err(error) => panic!("no {name}, but {error}"),
        }
    }
}

/// The node still does its work, and nothing but that work is to be seen.
async fn unharmed(pair: &Pair) {
    let source = pair.path("good");
    if !source.exists() {
        write(&source.join("a/b"), &noise(1, 100_000));
        write(&source.join("c"), b"c");
    }
    let outcome = pair.push(&source, "good").await.expect("a good push");
    assert!(outcome.verified && outcome.failed.is_empty());
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("good")));
    let mut seen: Vec<_> =
        fs::read_dir(&pair.cloud.root).unwrap().map(|e| e.unwrap().file_name()).collect();
    seen.sort();
    assert_eq!(seen, [".portway", "good"]);
    for outside in ["outside", "x", "etc"] {
        assert!(!pair.path(outside).exists());
    }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: rel(path), kind, mode: 0o644, mtime: FileTime { secs: 1, nanos: 2 } }
}

fn dir(path: &str) -> Entry {
    entry(path, EntryKind::Dir)
}

fn file(path: &str, len: u64) -> Entry {
    entry(path, EntryKind::File { len, stamp: Stamp([3; 16]) })
}

fn link(path: &str, text: &str) -> Entry {
    entry(path, EntryKind::Symlink(text.as_bytes().to_vec()))
}

fn entries(first: Seq, entries: Vec<Entry>) -> Frame {
    Frame::Entries { first, entries }
}

fn piece(seq: Seq, offset: u64, len: u32) -> Piece {
    Piece { seq, round: 0, offset, len, digest: Digest::of(&noise(offset, len as usize)) }
}

fn offer(run: u64, pieces: &[Piece]) -> Frame {
    Frame::Offer { run, pieces: pieces.to_vec(), ends: Vec::new() }
}

fn end(seq: Seq, pieces: &[Piece], len: u64) -> End {
    let mut list = ListHasher::default();
    for Piece { offset, len, digest, .. } in pieces {
        let _ = list.push(&ChunkRef { offset: *offset, len: *len, digest: *digest });
    }
    End { seq, round: 0, object: Object { digest: list.finish(len), len, cutter: 0 } }
}

/// What to say to a target, and a part of the words with which it has to end the session.
type Case = (&'static str, Vec<Frame>);

/// Says these frames to a target; the first verdicts are waited for before the first offer.
/// Returns how the target ended the session.
async fn say(link: &QuicLink, frames: Vec<Frame>) -> String {
    let mut waited = false;
    for frame in frames {
        if frame.name() == "offer" && !waited {
            wait_for(link, "verdicts").await;
            waited = true;
        }
        send(link, frame).await;
    }
    let how = ending(link).await;
    link.close("over").await;
    how
}

/// The beginning of what is said, for a failing test.
fn shown(frames: &[Frame]) -> String {
    format!("{frames:?}").chars().take(400).collect()
}

async fn refused(pair: &Pair, cases: Vec<Case>) {
    for (expected, frames) in cases {
        let shown = shown(&frames);
        let how = say(&opened(pair, "evil/tree").await, frames).await;
        assert!(how.contains(expected), "expected {expected:?}, got {how:?} for {shown}");
    }
    unharmed(pair).await;
}

/// Paths that no `RelPath` can hold.
fn bad_paths() -> Vec<String> {
    let deep = "d/".repeat(300) + "f";
    let paths = [
        "..",
        "../outside",
        "a/../../outside",
        "/etc/x",
        "a//b",
        "a/",
        "./a",
        "a/.",
        "a/..",
        "nul\0name",
        "/",
        &deep,
    ];
    paths.map(str::to_owned).to_vec()
}

/// A frame over `bad`, as raw bytes: made for a sound path of the same length, whose place the bad
/// one takes.
fn with_path(bad: &str, frame: impl FnOnce(&str) -> Frame) -> Bytes {
    let sound: Vec<u8> = (1..=bad.len()).map(|i| if i % 99 == 0 { b'/' } else { b'q' }).collect();
    let sound = String::from_utf8(sound).unwrap();
    let mut raw = frame(&sound).encode().to_vec();
    let at = raw.windows(sound.len()).position(|w| w == sound.as_bytes()).unwrap();
    raw[at..at + bad.len()].copy_from_slice(bad.as_bytes());
    Bytes::from(raw)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_paths_that_no_path_type_can_hold_are_refused_as_raw_bytes() {
    let pair = Pair::new().await;
    for bad in bad_paths() {
        let link = greeted(&pair).await;
        link.send(with_path(&bad, open)).await.unwrap();
        let how = ending(&link).await;
        assert!(how.contains("path"), "open {bad:?}: {how}");

        let link = opened(&pair, "evil").await;
        link.send(with_path(&bad, |sound| entries(0, vec![file(sound, 1)]))).await.unwrap();
        let how = ending(&link).await;
        assert!(how.contains("path"), "entry {bad:?}: {how}");
    }
    for own in [".portway", ".portway/x", ".portway/staging/journal"] {
        let link = greeted(&pair).await;
        send(&link, open(own)).await;
        let how = ending(&link).await;
        assert!(how.starts_with("unsafe-path"), "{own}: {how}");
    }
    unharmed(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_a_tree_pushed_over_the_root_cannot_reach_portways_own_files() {
    let pair = Pair::new().await;
    let link = opened(&pair, "").await;
    send(&link, entries(0, vec![dir(""), dir(".portway"), file(".portway/index.redb", 0)])).await;
    let how = ending(&link).await;
    assert!(how.starts_with("unsafe-path"), "{how}");
    unharmed(&pair).await;
}

/// Entries out of order, twice, too many, or below what is no directory.
fn bad_entries() -> Vec<Case> {
    let many = (0..=ENTRIES_PER_FRAME_MAX).map(|i| file(&format!("{i:05}"), 1)).collect();
    let flood = (0..=ENTRY_WINDOW / 1000).map(|part| {
        let first = part * 1000;
        entries(first as Seq, (first..first + 1000).map(|i| file(&format!("{i:05}"), 1)).collect())
    });
    let huge = |name: &str| file(name, OBJECT_BYTES_MAX);
    vec![
        ("canonical order", vec![entries(0, vec![dir(""), file("b", 1), file("a", 1)])]),
        ("canonical order", vec![entries(0, vec![file("a", 1), file("a", 1)])]),
        ("canonical order", vec![entries(0, vec![dir("a"), file("a", 1)])]),
        ("not announced", vec![entries(0, vec![dir(""), link("l", "x"), file("l/f", 1)])]),
        ("not announced", vec![entries(0, vec![dir(""), file("a", 1), file("a/b", 1)])]),
        ("not announced", vec![entries(0, vec![dir(""), file("x/y", 1)])]),
        ("not announced", vec![entries(0, vec![dir("d"), file("d/e/f", 1)])]),
        ("single file", vec![entries(0, vec![file("", 1), file("x", 1)])]),
        ("single file", vec![entries(0, vec![link("", "y"), file("x", 1)])]),
        ("out of turn", vec![entries(5, vec![file("a", 1)])]),
        ("out of turn", vec![entries(0, vec![file("a", 1)]), entries(0, vec![file("b", 1)])]),
        (
            "number of entries",
            vec![
                entries(0, vec![file("a", 1)]),
                Frame::EntriesEnd { entries: u32::MAX, skipped: u64::MAX },
            ],
        ),
        ("entries", vec![entries(0, many)]),
        ("unsettled", flood.collect()),
        ("more content than", vec![entries(0, vec![huge("a"), huge("b"), huge("c")])]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f34_f35_entries_out_of_order_twice_or_below_what_is_no_directory_are_refused() {
    refused(&Pair::new().await, bad_entries()).await;
}

/// Offers that overlap, pass the end, or lie.
fn bad_offers() -> Vec<Case> {
    let one = || entries(0, vec![dir(""), file("f", 1000)]);
    let (a, b) = (piece(1, 0, 600), piece(1, 600, 400));
    let lie = |ends: End| Frame::Offer { run: 0, pieces: vec![a, b], ends: vec![ends] };
    let mut later = a;
    later.round = 7;
    vec![
        ("overlaps", vec![one(), offer(0, &[a, piece(1, 500, 100)])]),
        ("overlaps", vec![one(), offer(0, &[a]), offer(1, &[a])]),
        ("overlaps", vec![one(), offer(0, &[b, a])]),
        ("passes its end", vec![one(), offer(0, &[piece(1, 600, 401)])]),
        ("", vec![one(), offer(0, &[Piece { offset: u64::MAX, ..a }])]),
        ("", vec![one(), offer(0, &[Piece { len: 0, ..a }])]),
        ("", vec![one(), offer(0, &[Piece { len: u32::MAX, ..a }])]),
        ("unknown", vec![one(), offer(0, &[piece(9, 0, 10)])]),
        ("out of turn", vec![one(), offer(0, &[later])]),
        ("offered twice", vec![one(), offer(0, &[a]), offer(0, &[b])]),
        ("offered twice", vec![one(), offer(u64::MAX, &[a])]),
        ("does not end", vec![one(), lie(end(1, &[a], 1000))]),
        ("does not end", vec![one(), lie(end(1, &[a, b], 999))]),
        ("unknown", vec![one(), lie(end(9, &[a, b], 1000))]),
        ("out of turn", vec![one(), lie(end(1, &[a, b], 1000)), offer(1, &[a])]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_f34_offers_that_overlap_pass_the_end_or_lie_are_refused() {
    refused(&Pair::new().await, bad_offers()).await;
}

/// Frames that are not for a target, or not at this time.
fn bad_frames() -> Vec<Case> {
    let root = Frame::Root { root: Digest::of(b"x"), failed: 0 };
    let failed = |seq| Frame::Failed { seq, code: "x".to_owned(), detail: "y".to_owned() };
    let restart = |seq, round, entry| Frame::Restart { seq, round, entry };
    let one = || entries(0, vec![dir(""), dir("d"), file("d/f", 10)]);
    vec![
        ("not for a target", vec![open("other")]),
        ("not for a target", vec![hello()]),
        ("not for a target", vec![Frame::Want { run: 0, wanted: Default::default() }]),
        ("not for a target", vec![Frame::Verdicts(Vec::new())]),
        (
            "not for a target",
            vec![Frame::Call { method: "list".to_owned(), body: Bytes::from_static(b"{}") }],
        ),
        ("before its time", vec![root.clone()]),
        ("before its time", vec![one(), root]),
        ("unknown", vec![failed(3)]),
        ("not a file", vec![entries(0, vec![file("a", 1), dir("d"), file("d/f", 1)]), failed(1)]),
        ("cannot be started over", vec![restart(3, 1, file("a", 1))]),
        ("wrongly", vec![one(), offer(0, &[piece(2, 0, 5)]), restart(2, 9, file("d/f", 10))]),
        ("wrongly", vec![one(), offer(0, &[piece(2, 0, 5)]), restart(2, 1, file("z", 10))]),
        ("wrongly", vec![one(), offer(0, &[piece(2, 0, 5)]), restart(2, 1, dir("d/f"))]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_frames_that_are_not_for_a_target_end_the_session() {
    refused(&Pair::new().await, bad_frames()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_a_link_that_leaves_the_tree_fails_alone_and_is_never_made() {
    let pair = Pair::new().await;
    for text in ["../../outside", "/etc/passwd", "a/../../x", ".."] {
        let session = opened(&pair, "evil").await;
        send(&session, entries(0, vec![dir(""), link("l", text)])).await;
        match wait_for(&session, "failed").await {
            Frame::Failed { seq, code, .. } => assert_eq!((seq, &*code), (1, "unsafe-link")),
            other => panic!("{other:?}"),
        }
        session.close("over").await;
    }
    unharmed(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f34_nothing_may_follow_a_single_file_even_when_it_is_settled() {
    let pair = Pair::new().await;
    let session = opened(&pair, "evil").await;
    send(&session, entries(0, vec![file("", 0)])).await;
    wait_for(&session, "verdicts").await;
    send(&session, Frame::Offer { run: 0, pieces: Vec::new(), ends: vec![end(0, &[], 0)] }).await;
    loop {
        if let Frame::Settled { below: 1, .. } = wait_for(&session, "settled").await {
            break;
        }
    }
    send(&session, entries(1, vec![file("x", 0)])).await;
    let how = ending(&session).await;
    assert!(how.contains("single file"), "{how}");
    unharmed(&pair).await;
}

/// Sends another content than its digest says whenever a target asks; returns the code with which
/// it refuses in the end, and how often it asked.
async fn send_wrong_content(session: &QuicLink) -> (String, u32) {
    send(session, entries(0, vec![dir(""), file("f", 1000)])).await;
    wait_for(session, "verdicts").await;
    let all = [piece(1, 0, 1000)];
    let ends = vec![end(1, &all, 1000)];
    send(session, Frame::Offer { run: 0, pieces: all.to_vec(), ends }).await;
    let wrong = Bytes::from(noise(77, 1000));
    let mut asked = 0;
    let how = loop {
        let run = match next(session).await {
            Ok(Frame::Want { run, wanted }) if wanted.bit(0) => run,
            Ok(Frame::Again { run, pieces }) if pieces == all => run,
            Ok(Frame::Refuse { code, .. }) => break code,
            Ok(Frame::Published(published)) => panic!("{published:?}"),
            Ok(_) => continue,
            Err(error) => break error.to_string(),
        };
        asked += 1;
        let header = DataHeader::of(run, [true]);
        session.send_data(header.encode(), vec![wrong.clone()]).await.unwrap();
    };
    (how, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_content_with_another_digest_three_times_ends_the_session() {
    let pair = Pair::new().await;
    let session = opened(&pair, "evil").await;
    let (how, asked) = send_wrong_content(&session).await;
    assert_eq!((how.as_str(), asked), ("wrong-content", 3));
    unharmed(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_content_nobody_asked_for_is_dropped_and_of_another_length_refused() {
    let pair = Pair::new().await;
    let session = opened(&pair, "evil").await;
    send(&session, entries(0, vec![dir(""), file("f", 1000)])).await;
    wait_for(&session, "verdicts").await;
    // Runs that do not exist, before and after an offer.
    for run in [0, 5, u64::MAX] {
        let content = Bytes::from(noise(1, 5000));
        session.send_data(DataHeader::of(run, [true]).encode(), vec![content]).await.unwrap();
    }
    send(&session, Frame::EntriesEnd { entries: 2, skipped: 0 }).await;
    let all = [piece(1, 0, 1000)];
    send(&session, Frame::Offer { run: 9, pieces: all.to_vec(), ends: Vec::new() }).await;
    wait_for(&session, "want").await;
    let short = Bytes::from(noise(0, 999));
    session.send_data(DataHeader::of(9, [true]).encode(), vec![short]).await.unwrap();
    let how = ending(&session).await;
    assert!(how.contains("length of its pieces"), "{how}");

    // A piece that the run does not have; a header that is none.
    for header in [DataHeader::of(9, [false, true]).encode(), Bytes::from_static(b"\xff\xff\xff")] {
        let session = opened(&pair, "evil").await;
        send(&session, entries(0, vec![dir(""), file("f", 1000)])).await;
        wait_for(&session, "verdicts").await;
        send(&session, offer(9, &all)).await;
        wait_for(&session, "want").await;
        let _ = session.send_data(header, vec![Bytes::from(noise(0, 1000))]).await;
        let how = ending(&session).await;
        assert!(how.contains("header") || how.contains("length of its pieces"), "{how}");
    }
    unharmed(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_a_root_over_other_content_publishes_nothing() {
    let pair = Pair::new().await;
    let frames = vec![
        entries(0, vec![dir(""), dir("d")]),
        Frame::EntriesEnd { entries: 2, skipped: 0 },
        Frame::Root { root: Digest::of(b"another"), failed: 0 },
    ];
    refused(&pair, vec![("root-mismatch", frames)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f34_garbage_instead_of_frames_ends_the_session() {
    let pair = Pair::new().await;
    for garbage in
        [&b""[..], b"\xff", &noise(1, 100), &noise(2, 200_000), &[0x12, 0xff, 0xff, 0xff]]
    {
        let session = connect(&pair).await;
        let _ = session.send(Bytes::copy_from_slice(garbage)).await;
        ending(&session).await;

        let session = greeted(&pair).await;
        let _ = session.send(Bytes::copy_from_slice(garbage)).await;
        ending(&session).await;

        let session = opened(&pair, "evil").await;
        let _ = session.send(Bytes::copy_from_slice(garbage)).await;
        ending(&session).await;
    }
    unharmed(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f32_silence_and_trickling_after_the_handshake_have_an_absolute_deadline() {
    let pair = Pair::new().await;
    let (silent, slow) = (connect(&pair).await, connect(&pair).await);
    let began = Instant::now();
    let trickle = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        send(&slow, hello()).await;
        ending(&slow).await
    };
    let (one, other) = tokio::join!(ending(&silent), trickle);
    assert!(one.contains("in time") && other.contains("in time"), "{one}; {other}");
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
    unharmed(&pair).await;
}
