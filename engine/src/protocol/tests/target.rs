//! The target against a hand-made source.

use super::*;
use crate::base::limits::ENTRY_WINDOW;
use crate::protocol::{
    Checked, CommitJob, Failure, Finding, PlaceResult, Stop, Target, TargetAction, TargetEnd,
    TargetInput, Task,
};
use crate::wire::{Bitmap, DataHeader, Frame, Known, Numbers, PieceRange, Verdict};

/// A target and the actions that it has asked for and that nobody looked at yet.
struct Bench {
    target: Target,
    now: Instant,
    actions: Vec<TargetAction>,
}

impl Bench {
    fn new(credit: u64) -> Self {
        Self { target: Target::new(Task::Receive, credit), now: T0, actions: Vec::new() }
    }

    fn tell(&mut self, input: TargetInput) -> &mut Self {
        self.target.handle(input, self.now);
        self.actions.extend(std::iter::from_fn(|| self.target.poll_action()));
        self
    }

    fn frame(&mut self, frame: Frame) -> &mut Self {
        self.tell(TargetInput::Frame(frame))
    }

    /// Announces entries as the first and only ones, all of which are needed.
    fn announce(&mut self, entries: &[Entry]) -> &mut Self {
        self.frame(Frame::Entries { first: 0, entries: entries.to_vec() });
        let count = entries.len() as u32;
        self.frame(Frame::EntriesEnd { entries: count, skipped: 0 });
        let files = (0..count).zip(entries).filter(|(_, e)| e.is_file());
        self.tell(TargetInput::Checked(files.map(|(seq, _)| (seq, Checked::Need)).collect()))
    }

    fn offer(&mut self, run: u64, pieces: &[Piece], ends: &[End]) -> &mut Self {
        self.frame(Frame::Offer { run, pieces: pieces.to_vec(), ends: ends.to_vec() })
    }

    /// Answers a `Resolve` of the run: the piece at each index is `finding`.
    fn resolved(&mut self, run: u64, indices: &[usize], finding: Finding) -> &mut Self {
        let found = indices.iter().map(|i| (*i, Ok(finding))).collect();
        self.tell(TargetInput::Resolved { run, found })
    }

    /// Brings the pieces at `indices`, `bytes` in all.
    fn data(&mut self, run: u64, indices: &[usize], bytes: usize) -> &mut Self {
        let last = indices.iter().max().map_or(0, |i| i + 1);
        let header = DataHeader::of(run, (0..last).map(|i| indices.contains(&i)));
        self.tell(TargetInput::Data { ticket: run, header, bytes })
    }

    fn placed(&mut self, run: u64, indices: &[usize], result: &PlaceResult) -> &mut Self {
        let results = indices.iter().map(|i| (*i, result.clone())).collect();
        self.tell(TargetInput::Placed { run, results })
    }

    fn later(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.plus_ms(ms);
        self.tell(TargetInput::Tick)
    }

    /// The commit that was asked for.
    fn commit(&mut self) -> CommitJob {
        let at = self.actions.iter().position(|a| matches!(a, TargetAction::Commit(_)));
        match at.map(|at| self.actions.remove(at)) {
            Some(TargetAction::Commit(job)) => job,
            other => panic!("no commit but {other:?}: {:?}", self.actions),
        }
    }

    fn committed(&mut self, job: &CommitJob) -> &mut Self {
        let done = job.objects.iter().map(|o| (o.seq, o.round, Ok(()))).collect();
        self.tell(TargetInput::Committed(done))
    }

    fn commit_fails(&mut self, job: &CommitJob) -> &mut Self {
        let failed = |o: &crate::protocol::CommitObject| {
            (o.seq, o.round, Err(Failure::new("sync-failed", "no")))
        };
        self.tell(TargetInput::Committed(job.objects.iter().map(failed).collect()))
    }

    /// Frames that were sent since the last look; everything else is dropped.
    fn sent(&mut self) -> Vec<Frame> {
        let sent = self.actions.drain(..).filter_map(|action| match action {
            TargetAction::Send(frame) => Some(frame),
            _ => None,
        });
        sent.collect()
    }

    fn wants(&mut self) -> Vec<(u64, Bitmap)> {
        let want = |frame| match frame {
            Frame::Want { run, wanted } => Some((run, wanted)),
            _ => None,
        };
        self.sent().into_iter().filter_map(want).collect()
    }

    /// What was asked for again.
    fn agains(&mut self) -> Vec<(u64, Vec<Piece>)> {
        let again = |frame| match frame {
            Frame::Again { run, pieces } => Some((run, pieces)),
            _ => None,
        };
        self.sent().into_iter().filter_map(again).collect()
    }

    fn stop(&self) -> Option<&Stop> {
        self.actions.iter().find_map(|action| match action {
            TargetAction::End(TargetEnd::Stopped(stop)) => Some(stop),
            _ => None,
        })
    }

    fn violation(&self) -> Option<&str> {
        match self.stop() {
            Some(Stop::Violation(failure)) => Some(&failure.detail),
            _ => None,
        }
    }
}

/// One file of two pieces, both resolved as missing and wanted.
fn two_wanted() -> (Bench, [Piece; 2]) {
    let pieces = [piece(0, 0, 0, 10, "a"), piece(0, 0, 10, 10, "b")];
    let mut bench = Bench::new(1 << 20);
    bench.announce(&[file("f", 20)]).offer(0, &pieces, &[end(0, 0, 20, &pieces)]);
    bench.resolved(0, &[0, 1], Finding::Missing);
    assert_eq!(bench.wants(), [(0, Bitmap::of([true, true].into_iter()))]);
    (bench, pieces)
}

#[test]
fn a_restart_of_an_object_that_failed_here_meanwhile_is_passed_over() {
    let mut bench = Bench::new(1 << 20);
    bench.announce(&[file("a", 20), file("b", 1)]);
    bench.offer(0, &[piece(0, 0, 0, 10, "x")], &[]);
    let found = vec![(0, Err(Failure::new("io", "cannot write")))];
    bench.tell(TargetInput::Resolved { run: 0, found });
    let restart = |round| Frame::Restart { seq: 0, round, entry: stamped("a", 20, round as u8) };
    bench.frame(restart(1)).frame(restart(2));
    assert_eq!(bench.violation(), None);

    let mut bench = Bench::new(1 << 20);
    bench.announce(&[file("a", 1), file("b", 20)]);
    bench.offer(0, &[piece(1, 0, 0, 10, "x")], &[]);
    let found = vec![(0, Err(Failure::new("io", "cannot write")))];
    bench.tell(TargetInput::Resolved { run: 0, found });
    let restart = |round| Frame::Restart { seq: 1, round, entry: stamped("b", 20, round as u8) };
    bench.frame(restart(1)).frame(restart(2));
    assert_eq!(bench.violation(), None, "it failed and is not settled");
}

#[test]
fn a_run_whose_pieces_are_looked_for_again_before_its_answer_is_answered_once() {
    // Credit for one piece at a time: the third run waits for credit behind the second, and for the
    // chunk of the first.
    let mut bench = Bench::new(10);
    let (a, b) = (piece(0, 0, 0, 10, "same"), piece(1, 0, 0, 10, "between"));
    let c = [piece(2, 0, 0, 10, "same"), piece(2, 0, 10, 10, "other")];
    bench.announce(&[file("a", 10), file("b", 10), file("c", 20)]);
    bench.offer(0, &[a], &[end(0, 0, 10, &[a])]).resolved(0, &[0], Finding::Missing);
    bench.offer(1, &[b], &[end(1, 0, 10, &[b])]).resolved(1, &[0], Finding::Missing);
    bench.offer(2, &c, &[end(2, 0, 20, &c)]).resolved(2, &[0, 1], Finding::Missing);
    bench.data(0, &[0], 10).placed(0, &[0], &PlaceResult::Placed).later(1000);
    let job = bench.commit();
    bench.committed(&job).resolved(2, &[0], Finding::Deduplicated);
    bench.data(1, &[0], 10).placed(1, &[0], &PlaceResult::Placed).later(1000);
    let job = bench.commit();
    bench.committed(&job).data(2, &[1], 10).later(1000);
    let answered: Vec<u64> = bench.wants().iter().map(|(run, _)| *run).collect();
    assert_eq!(answered, [0, 1, 2]);
}

#[test]
fn an_object_is_not_finished_while_the_source_still_reads_a_part_of_it_again() {
    let (mut bench, pieces) = two_wanted();
    bench.data(0, &[0, 1], 20);
    bench.placed(0, &[0], &PlaceResult::Placed).placed(0, &[1], &PlaceResult::Wrong);
    let first = bench.agains();
    assert_eq!(first[0].1, [pieces[1]]);
    bench.later(1000);
    let job = bench.commit();
    bench.commit_fails(&job);
    let second = bench.agains();
    assert_eq!(second[0].1, pieces);
    bench.data(second[0].0, &[0, 1], 20).placed(second[0].0, &[0, 1], &PlaceResult::Placed);
    bench.later(1000);
    let job = bench.commit();
    assert!(job.objects[0].finish.is_none(), "the first request may still end in a restart");
    bench.committed(&job).data(first[0].0, &[0], 10).later(1000);
    assert!(bench.commit().objects[0].finish.is_some());
}

#[test]
fn a_failed_object_that_only_looked_for_a_chunk_does_not_disturb_who_waits_for_it() {
    let mut bench = Bench::new(1 << 20);
    let same = |seq| piece(seq, 0, 0, 10, "same");
    bench.announce(&[file("a", 10), file("b", 10), file("c", 10)]);
    for run in 0..3 {
        bench.offer(run, &[same(run as u32)], &[]);
    }
    bench.resolved(0, &[0], Finding::Missing).resolved(1, &[0], Finding::Missing);
    bench.actions.clear();
    bench.frame(Frame::Failed { seq: 2, code: "io".to_owned(), detail: String::new() });
    let looks = bench.actions.iter().any(|a| matches!(a, TargetAction::Resolve { .. }));
    assert!(!looks, "{:?}", bench.actions);
}

#[test]
fn a_directory_or_link_never_fails_alone() {
    let mut bench = Bench::new(1 << 20);
    bench.announce(&[file("a", 1), dir("d"), file("d/f", 10)]);
    bench.frame(Frame::Failed { seq: 1, code: "io".to_owned(), detail: String::new() });
    // An entry below a directory that is not published could not be either.
    assert!(bench.violation().is_some());
}

#[test]
fn nothing_is_published_before_the_last_check_is_done() {
    let mut bench = Bench::new(1 << 20);
    bench.frame(Frame::Entries { first: 0, entries: vec![dir("d")] });
    bench.frame(Frame::EntriesEnd { entries: 1, skipped: 0 });
    let mut root = crate::manifest::RootHasher::default();
    root.push(&dir("d"), None);
    bench.frame(Frame::Root { root: root.finish(), failed: 0 });
    let publishes = |bench: &Bench| {
        bench.actions.iter().filter(|a| matches!(a, TargetAction::Publish { .. })).count()
    };
    assert_eq!(publishes(&bench), 0);
    bench.tell(TargetInput::Checked(Vec::new()));
    assert_eq!(publishes(&bench), 1);
}

/// What a target must take for a violation, after the entries `d`, `d/f` (20 bytes) and `g` (10
/// bytes) were announced and needed.
#[test]
fn frames_that_break_the_protocol_end_the_session() {
    let [a, b] = [piece(1, 0, 0, 10, "a"), piece(1, 0, 10, 10, "b")];
    let whole = end(1, 0, 20, &[a, b]);
    let entries = |first, names: &[&str]| Frame::Entries {
        first,
        entries: names.iter().map(|name| file(name, 1)).collect(),
    };
    let offer = |run, pieces: &[Piece], ends: &[End]| Frame::Offer {
        run,
        pieces: pieces.to_vec(),
        ends: ends.to_vec(),
    };
    let restart = |seq, round, entry| Frame::Restart { seq, round, entry };
    let root = Frame::Root { root: Digest::default(), failed: 0 };
    let verdict = Verdict { seq: 1, known: Known::Need };
    let cases: Vec<(&str, Vec<Frame>)> = vec![
        ("entries out of turn", vec![entries(4, &["h"])]),
        ("entries out of order", vec![entries(3, &["e"])]),
        ("the same entry twice", vec![entries(3, &["g"])]),
        ("an entry below no directory", vec![entries(3, &["x/y"])]),
        ("an entry below a file", vec![entries(3, &["g/y"])]),
        ("an entry below a directory that is past", vec![entries(3, &["h", "d/z"])]),
        ("entries after their end", vec![ends(3), entries(3, &["h"])]),
        ("another number of entries", vec![ends(4)]),
        ("two ends", vec![ends(3), ends(3)]),
        ("a root before the end", vec![root]),
        ("a run twice", vec![offer(0, &[a], &[]), offer(0, &[b], &[])]),
        ("a run of our own numbers", vec![offer(1 << 63, &[a], &[])]),
        ("a piece of nothing", vec![offer(0, &[piece(9, 0, 0, 1, "x")], &[])]),
        ("a piece of a directory", vec![offer(0, &[piece(1, 0, 0, 0, "x")], &[])]),
        ("a piece of a reading to come", vec![offer(0, &[piece(1, 1, 0, 1, "x")], &[])]),
        ("a piece that passes the end", vec![offer(0, &[piece(1, 0, 15, 6, "x")], &[])]),
        ("a piece past all numbers", vec![offer(0, &[piece(1, 0, u64::MAX, 6, "x")], &[])]),
        ("an empty piece", vec![offer(0, &[piece(1, 0, 3, 0, "x")], &[])]),
        ("pieces that overlap", vec![offer(0, &[a, piece(1, 0, 9, 2, "x")], &[])]),
        ("pieces that go back", vec![offer(0, &[b], &[]), offer(1, &[a], &[])]),
        ("the end of nothing", vec![offer(0, &[], &[end(9, 0, 0, &[])])]),
        ("an end without its pieces", vec![offer(0, &[a], &[whole])]),
        ("an end of another length", vec![offer(0, &[a, b], &[end(1, 0, 21, &[a, b])])]),
        ("two ends of an object", vec![offer(0, &[a, b], &[whole, whole])]),
        (
            "a piece after the end",
            vec![offer(0, &[a], &[end(1, 0, 20, &[a])]), offer(1, &[b], &[])],
        ),
        ("a restart of nothing", vec![restart(9, 1, file("x", 1))]),
        ("a restart that skips a reading", vec![restart(1, 2, file("d/f", 1))]),
        ("a restart that repeats one", vec![restart(1, 0, file("d/f", 1))]),
        ("a restart as another path", vec![restart(1, 1, file("d/x", 1))]),
        ("a restart as a directory", vec![restart(1, 1, dir("d/f"))]),
        (
            "a failure of nothing",
            vec![Frame::Failed { seq: 9, code: String::new(), detail: String::new() }],
        ),
        ("verdicts", vec![Frame::Verdicts(vec![verdict])]),
        ("an answer", vec![Frame::Want { run: 0, wanted: Bitmap::default() }]),
        ("a request", vec![Frame::Again { run: 0, pieces: vec![a] }]),
        ("settled", vec![Frame::Settled { below: 0, numbers: Numbers::default() }]),
    ];
    for (what, frames) in cases {
        let mut bench = Bench::new(1 << 20);
        let announced = [dir("d"), file("d/f", 20), file("g", 10)];
        bench.frame(Frame::Entries { first: 0, entries: announced.to_vec() });
        bench.tell(TargetInput::Checked(vec![(1, Checked::Need), (2, Checked::Need)]));
        let last = frames.len() - 1;
        for (n, frame) in frames.into_iter().enumerate() {
            assert_eq!(bench.violation(), None, "{what}: before frame {n}");
            bench.frame(frame);
            assert_eq!(bench.violation().is_some(), n == last, "{what}: frame {n}");
        }
        // It is told why, once, and nothing follows.
        let refusals = bench.sent().iter().filter(|f| matches!(f, Frame::Refuse { .. })).count();
        assert_eq!(refusals, 1, "{what}");
        bench.later(1000).offer(77, &[a], &[]);
        assert!(bench.actions.is_empty(), "{what}: {:?}", bench.actions);
    }
}

fn ends(entries: u32) -> Frame {
    Frame::EntriesEnd { entries, skipped: 0 }
}

#[test]
fn a_single_file_has_no_entries_beside_it() {
    let mut bench = Bench::new(1 << 20);
    bench.frame(Frame::Entries { first: 0, entries: vec![file("", 1), file("a", 1)] });
    assert!(bench.violation().is_some());
}

#[test]
fn more_unsettled_entries_than_the_window_holds_end_the_session() {
    let mut bench = Bench::new(1 << 20);
    let mut first = 0;
    while bench.violation().is_none() {
        assert!(first <= ENTRY_WINDOW as u32 + 1024);
        let entries = (first..first + 1024).map(|n| file(&format!("{n:08}"), 1)).collect();
        bench.frame(Frame::Entries { first, entries });
        first += 1024;
    }
    assert!(first > ENTRY_WINDOW as u32);
}

#[test]
fn content_of_another_length_than_its_pieces_ends_the_session() {
    for bytes in [0, 19, 21] {
        let (mut bench, _) = two_wanted();
        bench.data(0, &[0, 1], bytes);
        assert!(bench.violation().is_some(), "{bytes}");
        assert!(bench.actions.iter().any(|a| matches!(a, TargetAction::Drop { .. })));
    }
    let (mut bench, _) = two_wanted();
    let ranges = vec![PieceRange { first: 1, count: 2 }];
    let header = DataHeader { run: 0, ranges, coded: None, basis: None };
    bench.tell(TargetInput::Data { ticket: 0, header, bytes: 10 });
    assert!(bench.violation().is_some(), "a piece that the run does not have");
}

#[test]
fn content_that_nobody_wants_is_dropped_and_counted() {
    let (mut bench, _) = two_wanted();
    bench.data(99, &[0], 7);
    assert_eq!(bench.target.numbers().discarded, 7, "of an unknown run");
    bench.data(0, &[0], 10).data(0, &[0], 10);
    assert_eq!(bench.target.numbers().discarded, 17, "twice");
    bench.placed(0, &[0], &PlaceResult::Placed).data(0, &[0, 1], 20);
    assert_eq!(bench.target.numbers().discarded, 27, "in part");
    bench.placed(0, &[1], &PlaceResult::Placed);
    assert_eq!(bench.target.numbers().sent, 20);
    assert_eq!(bench.violation(), None);
}

#[test]
fn a_wrong_basis_is_forgiven_once_and_not_in_what_is_asked_for_again() {
    let (mut bench, _) = two_wanted();
    let wrong = PlaceResult::WrongBasis;
    bench.data(0, &[0, 1], 20).placed(0, &[0, 1], &wrong);
    let mut counted = 0;
    while bench.violation().is_none() {
        let (run, _) = bench.agains().pop().expect("asked for again");
        bench.data(run, &[0], 10).placed(run, &[0], &wrong);
        counted += 1;
        assert!(counted <= 3, "it would go on for ever");
    }
    assert_eq!(counted, 3, "the first two did not count");
}

#[test]
fn wrong_content_is_asked_for_again_and_given_up_after_a_while() {
    let (mut bench, pieces) = two_wanted();
    bench.data(0, &[0, 1], 20).placed(0, &[0, 1], &PlaceResult::Wrong);
    let again = bench.agains();
    let asked: Vec<Piece> = again.iter().flat_map(|(_, pieces)| pieces.clone()).collect();
    assert!(pieces.iter().all(|piece| asked.contains(piece)), "{asked:?}");
    assert_eq!(bench.target.numbers(), Numbers { discarded: 20, ..Numbers::default() });
    bench.data(again[0].0, &[0], 10).placed(again[0].0, &[0], &PlaceResult::Wrong);
    assert!(bench.violation().unwrap().contains("digest"));
}

#[test]
fn a_link_that_leaves_the_snapshot_fails_alone() {
    let mut bench = Bench::new(1 << 20);
    bench.announce(&[link("a", "../x"), link("b", "c"), file("f", 0)]);
    let failed =
        |f: &Frame| matches!(f, Frame::Failed { seq: 0, code, .. } if code == "unsafe-link");
    assert!(bench.sent().iter().any(failed));
    assert_eq!(bench.target.failed(), 1);
}

#[test]
fn what_is_too_deep_for_the_target_fails_alone() {
    let mut bench = Bench::new(1 << 20);
    bench.target.bound_depth(2);
    let deep = [dir("d/d/d"), file("d/d/d/f", 0), link("d/d/l", "f")];
    bench.announce(&[&[dir("d"), dir("d/d")], &deep[..], &[file("d/f", 0)]].concat());
    let failed = bench.sent().into_iter().filter_map(|frame| match frame {
        Frame::Failed { seq, code, .. } => Some((seq, code)),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed, [2, 3, 4].map(|seq| (seq, "path-too-deep".to_owned())));
    assert_eq!(bench.target.failed(), 3);
    assert_eq!(bench.violation(), None);
}

#[test]
fn a_restart_while_pieces_are_under_way_forgets_them_and_their_credit() {
    let (mut bench, _) = two_wanted();
    bench.data(0, &[0, 1], 20).placed(0, &[0], &PlaceResult::Placed);
    assert_eq!(bench.target.outstanding(), 20);
    bench.frame(Frame::Restart { seq: 0, round: 1, entry: stamped("f", 10, 1) });
    assert!(bench.actions.iter().any(|a| matches!(a, TargetAction::Reset { round: 1, .. })));
    // The other piece was being placed: it comes back and does not count.
    bench.placed(0, &[1], &PlaceResult::Placed);
    assert_eq!(bench.target.outstanding(), 0);
    assert_eq!((bench.target.numbers().sent, bench.target.found().1), (0, 10));
    // What was offered of the old reading is passed over, the new one is taken.
    let new = piece(0, 1, 0, 10, "new");
    bench.offer(1, &[piece(0, 0, 0, 10, "old")], &[]).offer(2, &[new], &[end(0, 1, 10, &[new])]);
    bench.resolved(2, &[0], Finding::Missing).data(2, &[0], 10);
    bench.placed(2, &[0], &PlaceResult::Placed);
    let job = bench.commit();
    assert_eq!((job.objects[0].round, job.objects[0].finish.is_some()), (1, true));
    bench.committed(&job);
    let numbers = bench.target.numbers();
    assert_eq!((numbers.files, numbers.sent, bench.target.outstanding()), (1, 10, 0));
    assert_eq!(bench.violation(), None);
}

/// However late the answer comes, and whether or not the rest of the run is still open.
#[test]
fn content_that_is_being_placed_when_its_object_ends_counts_as_discarded() {
    for placed_before in [&[][..], &[0]] {
        for fails in [false, true] {
            let (mut bench, _) = two_wanted();
            bench.data(0, &[0, 1], 20).placed(0, placed_before, &PlaceResult::Placed);
            let rest: Vec<usize> = (placed_before.len()..2).collect();
            if fails {
                let failure = Failure::new("io", "cannot write");
                bench.placed(0, &rest, &PlaceResult::Failed(failure));
            } else {
                bench.frame(Frame::Restart { seq: 0, round: 1, entry: stamped("f", 10, 1) });
                bench.placed(0, &rest, &PlaceResult::Placed);
            }
            let expected = Numbers { discarded: 20, ..Numbers::default() };
            let numbers = bench.target.numbers();
            assert_eq!(numbers, expected, "{placed_before:?}, fails: {fails}");
        }
    }
}

#[test]
fn who_waits_for_a_chunk_of_an_object_that_fails_asks_for_it() {
    let mut bench = Bench::new(1 << 20);
    let same = |seq| piece(seq, 0, 0, 10, "same");
    bench.announce(&[file("a", 10), file("b", 10)]);
    bench.offer(0, &[same(0)], &[end(0, 0, 10, &[same(0)])]);
    bench.offer(1, &[same(1)], &[end(1, 0, 10, &[same(1)])]);
    bench.resolved(0, &[0], Finding::Missing).resolved(1, &[0], Finding::Missing);
    let none = Bitmap::of([false].into_iter());
    assert_eq!(bench.wants()[1], (1, none), "it is under way already");
    bench.data(0, &[0], 10);
    let failure = Failure::new("io", "cannot write");
    bench.placed(0, &[0], &PlaceResult::Failed(failure)).resolved(1, &[0], Finding::Missing);
    let again = bench.agains();
    assert_eq!(again[0].1, [same(1)]);
    bench.data(again[0].0, &[0], 10).placed(again[0].0, &[0], &PlaceResult::Placed);
    let job = bench.commit();
    bench.committed(&job);
    let numbers = bench.target.numbers();
    assert_eq!((numbers.files, numbers.sent), (1, 10));
}

#[test]
fn an_object_whose_sync_failed_is_written_anew_and_fails_at_the_third_time() {
    let (mut bench, pieces) = two_wanted();
    bench.data(0, &[0, 1], 20).placed(0, &[0, 1], &PlaceResult::Placed);
    for time in 0..3 {
        let job = bench.commit();
        bench.commit_fails(&job);
        assert_eq!(bench.target.outstanding(), if time < 2 { 20 } else { 0 });
        assert_eq!(bench.target.numbers().sent, 0);
        if time == 2 {
            break;
        }
        assert!(bench.actions.iter().any(|a| matches!(a, TargetAction::Reset { round: 0, .. })));
        let (run, asked) = bench.agains().remove(0);
        assert_eq!(asked, pieces);
        bench.data(run, &[0, 1], 20).placed(run, &[0, 1], &PlaceResult::Placed);
    }
    assert!(bench.sent().iter().any(|f| matches!(f, Frame::Failed { seq: 0, .. })));
    assert_eq!(bench.target.numbers().discarded, 60);
}

#[test]
fn no_more_is_wanted_than_the_credit_and_it_comes_back_with_the_commit() {
    let mut bench = Bench::new(25);
    let entries: Vec<Entry> = (0..9).map(|n| file(&format!("{n}"), 10)).collect();
    bench.announce(&entries);
    let mut answered = Vec::new();
    for seq in 0..9 {
        let one = piece(seq, 0, 0, 10, &format!("{seq}"));
        bench.offer(seq.into(), &[one], &[end(seq, 0, 10, &[one])]);
        bench.resolved(seq.into(), &[0], Finding::Missing);
        answered.extend(bench.wants());
    }
    let mut seen = 0;
    while bench.target.numbers().files < 9 {
        assert!(bench.target.outstanding() <= 25);
        for (run, _) in std::mem::take(&mut answered) {
            seen += 1;
            bench.data(run, &[0], 10).placed(run, &[0], &PlaceResult::Placed);
        }
        bench.later(1000);
        let job = bench.commit();
        bench.committed(&job);
        answered = bench.wants();
    }
    assert_eq!((seen, bench.target.outstanding()), (9, 0));
}

#[test]
fn a_run_larger_than_the_credit_moves_alone() {
    let mut bench = Bench::new(5);
    let one = piece(0, 0, 0, 10, "x");
    bench.announce(&[file("f", 10)]).offer(0, &[one], &[]).resolved(0, &[0], Finding::Missing);
    assert_eq!(bench.wants().len(), 1);
}

#[test]
fn a_root_that_differs_is_never_published() {
    let mut bench = Bench::new(1 << 20);
    bench.announce(&[file("f", 0)]).offer(0, &[], &[end(0, 0, 0, &[])]);
    let job = bench.commit();
    bench.committed(&job).frame(Frame::Root { root: Digest::of(b"another"), failed: 0 });
    assert!(bench.violation().unwrap().contains("root"));
    assert!(!bench.actions.iter().any(|a| matches!(a, TargetAction::Publish { .. })));
}

#[test]
fn nothing_is_published_if_every_file_failed() {
    let mut bench = Bench::new(1 << 20);
    bench.announce(&[dir(""), file("f", 1)]);
    bench.frame(Frame::Failed { seq: 1, code: "io".to_owned(), detail: "no".to_owned() });
    let mut root = crate::manifest::RootHasher::default();
    root.push(&dir(""), None);
    bench.frame(Frame::Root { root: root.finish(), failed: 1 });
    let Some(Stop::Violation(failure)) = bench.stop() else { panic!("{:?}", bench.actions) };
    assert_eq!(failure.code, "nothing-to-publish");
}

#[test]
fn a_plan_counts_what_would_move_and_asks_for_nothing() {
    let mut bench = Bench::new(1 << 20);
    bench.target = Target::new(Task::Plan, 1 << 20);
    let pieces = [piece(1, 0, 0, 10, "a"), piece(1, 0, 10, 10, "b"), piece(1, 0, 20, 5, "c")];
    bench.frame(Frame::Entries { first: 0, entries: vec![file("a", 7), file("b", 30)] });
    bench.frame(ends(2));
    let known = object(7, &[piece(0, 0, 0, 7, "a")]);
    let answers = vec![(0, Checked::Published(known)), (1, Checked::Need)];
    bench.tell(TargetInput::Checked(answers));
    bench.offer(0, &pieces, &[end(1, 0, 30, &pieces)]);
    let findings = [Finding::Missing, Finding::Deduplicated, Finding::Resumed];
    let found = findings.into_iter().map(Ok).enumerate().collect();
    bench.tell(TargetInput::Resolved { run: 0, found });
    let numbers = Numbers { files: 2, sent: 10, deduplicated: 22, resumed: 5, discarded: 0 };
    assert_eq!(bench.target.numbers(), numbers, "the last five bytes are a hole");
    let asked = |a: &TargetAction| {
        matches!(
            a,
            TargetAction::Commit(_) | TargetAction::Settle(_) | TargetAction::Publish { .. }
        )
    };
    assert!(!bench.actions.iter().any(asked), "{:?}", bench.actions);
    // What is missing is shown, so that the source can tell how small it gets; it does not come.
    assert_eq!(bench.wants(), [(0, Bitmap::of([true, false, false].into_iter()))]);
}

#[test]
fn a_root_counts_once_both_ends_know_the_same_failures() {
    let publishes = |bench: &Bench| {
        bench.actions.iter().any(|action| matches!(action, TargetAction::Publish { .. }))
    };
    let root = |entries: &[Entry]| {
        let mut root = crate::manifest::RootHasher::default();
        for entry in entries {
            root.push(entry, Some(end(0, 0, 0, &[]).object.digest));
        }
        root.finish()
    };
    let both = [file("f", 0), file("g", 0)];
    let mut bench = Bench::new(1 << 20);
    bench.announce(&both).offer(0, &[], &[end(0, 0, 0, &[]), end(1, 0, 0, &[])]);
    // It comes ahead of what is still to be made durable.
    bench.frame(Frame::Root { root: root(&both), failed: 0 });
    let job = bench.commit();
    for _ in 0..3 {
        assert_eq!((publishes(&bench), bench.violation()), (false, None));
        let job = job.objects.iter().map(|o| {
            let bad = (o.seq == 0).then(|| Failure::new("sync-failed", "no"));
            (o.seq, o.round, bad.map_or(Ok(()), Err))
        });
        bench.tell(TargetInput::Committed(job.collect()));
    }
    bench.frame(Frame::Failed { seq: 0, code: "io".to_owned(), detail: String::new() });
    assert_eq!(
        (publishes(&bench), bench.violation()),
        (false, None),
        "the source knows no failure"
    );
    bench.frame(Frame::Root { root: root(&both[1..]), failed: 1 });
    assert!(publishes(&bench), "{:?}", bench.actions);

    // One that knows more failures than there are is wrong.
    let mut bench = Bench::new(1 << 20);
    bench.announce(&both[..1]).offer(0, &[], &[end(0, 0, 0, &[])]);
    let job = bench.commit();
    bench.committed(&job).frame(Frame::Root { root: root(&[]), failed: 1 });
    assert!(bench.violation().unwrap().contains("root"));
}
