//! The source against a hand-made target.

use super::*;
use crate::base::limits::{ENTRY_WINDOW, LEASE_BYTES, RUN_PIECES_MAX};
use crate::protocol::{
    Changed, Failure, ReadDone, ReadJob, Source, SourceAction, SourceEnd, SourceInput, Stop,
};
use crate::wire::{Bitmap, Frame, Known, Numbers, Published, Verdict};

/// A source and the actions that it has asked for and that nobody looked at yet.
struct Bench {
    source: Source,
    actions: Vec<SourceAction>,
}

impl Bench {
    fn new(runs_max: usize) -> Self {
        let mut bench = Self { source: Source::new(runs_max, false), actions: Vec::new() };
        bench.take();
        bench
    }

    fn take(&mut self) {
        self.actions.extend(std::iter::from_fn(|| self.source.poll_action()));
    }

    fn tell(&mut self, input: SourceInput) -> &mut Self {
        self.source.handle(input);
        self.take();
        self
    }

    fn frame(&mut self, frame: Frame) -> &mut Self {
        self.tell(SourceInput::Frame(frame))
    }

    /// Scans these entries, all of which the target needs.
    fn scan(&mut self, entries: &[Entry]) -> &mut Self {
        let files = (0..).zip(entries).filter(|(_, entry)| entry.is_file());
        let verdicts = files.map(|(seq, _)| Verdict { seq, known: Known::Need }).collect();
        self.tell(SourceInput::Scanned { entries: entries.to_vec(), skipped: 0, done: true });
        self.frame(Frame::Verdicts(verdicts))
    }

    fn reads(&mut self) -> Vec<(u64, ReadJob)> {
        let mut reads = Vec::new();
        self.actions.retain(|action| match action {
            SourceAction::Read { run, job } => {
                reads.push((*run, job.clone()));
                false
            }
            _ => true,
        });
        reads
    }

    fn read(&mut self, run: u64, pieces: &[Piece], ends: &[End]) -> &mut Self {
        let (pieces, ends) = (pieces.to_vec(), ends.to_vec());
        self.tell(SourceInput::Read(ReadDone { run, pieces, ends, ..ReadDone::default() }))
    }

    fn want(&mut self, run: u64, wanted: &[bool]) -> &mut Self {
        self.frame(Frame::Want { run, wanted: Bitmap::of(wanted.iter().copied()) })
    }

    fn sent(&mut self) -> Vec<Frame> {
        let sent = self.actions.drain(..).filter_map(|action| match action {
            SourceAction::Send(frame) => Some(frame),
            _ => None,
        });
        sent.collect()
    }

    fn end(&self) -> Option<&SourceEnd> {
        self.actions.iter().find_map(|action| match action {
            SourceAction::End(end) => Some(end),
            _ => None,
        })
    }

    fn violation(&self) -> Option<&str> {
        match self.end() {
            Some(SourceEnd::Stopped(Stop::Violation(failure))) => Some(&failure.detail),
            _ => None,
        }
    }
}

fn need(seq: Seq) -> Frame {
    Frame::Verdicts(vec![Verdict { seq, known: Known::Need }])
}

fn have(seq: Seq, len: u64) -> Frame {
    let known = Known::Have(object(len, &[]));
    Frame::Verdicts(vec![Verdict { seq, known }])
}

fn settled(below: Seq) -> Frame {
    Frame::Settled { below, numbers: Numbers::default() }
}

#[test]
fn frames_that_break_the_protocol_end_the_session() {
    let one = piece(1, 0, 0, 10, "a");
    let want = |run| Frame::Want { run, wanted: Bitmap::of([true].into_iter()) };
    let again = |pieces: &[Piece]| Frame::Again { run: 1 << 63, pieces: pieces.to_vec() };
    let published = |root| Frame::Published(Published { root, numbers: Numbers::default() });
    let ahead = root(&[
        (&dir("d"), None),
        (&file("d/f", 10), Some(end(1, 0, 10, &[one]).object.digest)),
        (&file("g", 5), Some(object(5, &[]).digest)),
    ]);
    let cases: Vec<(&str, Vec<Frame>)> = vec![
        ("a verdict on nothing", vec![need(9)]),
        ("a verdict on a directory", vec![need(0)]),
        ("two verdicts", vec![have(2, 5), need(2)]),
        ("a verdict on what is being read", vec![need(1)]),
        ("another length", vec![have(2, 6)]),
        ("an answer about no run", vec![want(7)]),
        ("two answers", vec![want(0), want(0)]),
        ("an empty request", vec![again(&[])]),
        ("a request that mixes objects", vec![again(&[one, piece(2, 0, 0, 5, "x")])]),
        ("a request that mixes readings", vec![again(&[one, piece(1, 1, 0, 5, "x")])]),
        ("settled beyond the end", vec![settled(4)]),
        ("settled before it was known", vec![settled(3)]),
        ("another root", vec![published(Digest::of(b"another"))]),
        ("published before its end", vec![have(2, 5), published(ahead)]),
        ("an offer", vec![Frame::Offer { run: 0, pieces: Vec::new(), ends: Vec::new() }]),
        ("entries", vec![Frame::EntriesEnd { entries: 0, skipped: 0 }]),
    ];
    for (what, frames) in cases {
        let mut bench = Bench::new(4);
        let entries = vec![dir("d"), file("d/f", 10), file("g", 5)];
        bench.tell(SourceInput::Scanned { entries, skipped: 0, done: true }).frame(need(1));
        let (run, _) = bench.reads().remove(0);
        bench.read(run, &[one], &[end(1, 0, 10, &[one])]);
        let last = frames.len() - 1;
        for (n, frame) in frames.into_iter().enumerate() {
            assert_eq!(bench.violation(), None, "{what}: before frame {n}");
            bench.frame(frame);
            assert_eq!(bench.violation().is_some(), n == last, "{what}: frame {n}");
        }
        bench.actions.clear();
        bench.frame(need(2));
        assert!(bench.actions.is_empty(), "{what}: {:?}", bench.actions);
    }
}

#[test]
fn pieces_are_offered_and_sent_as_they_are_wanted_and_the_root_follows() {
    let pieces = [piece(1, 0, 0, 4, "a"), piece(1, 0, 4, 6, "b")];
    let mut bench = Bench::new(4);
    bench.scan(&[dir(""), file("f", 10)]);
    let (run, job) = bench.reads().remove(0);
    assert_eq!(job, ReadJob::Pack(vec![(1, 0, file("f", 10))]));
    let end = end(1, 0, 10, &pieces);
    bench.read(run, &pieces, &[end]).want(run, &[false, true]);
    let sends =
        |a: &SourceAction| matches!(a, SourceAction::SendData(header) if header.pieces().eq([1]));
    assert!(bench.actions.iter().any(sends));
    bench.tell(SourceInput::Sent { run }).frame(settled(2));
    let root = root(&[(&dir(""), None), (&file("f", 10), Some(end.object.digest))]);
    assert_eq!(bench.sent().last(), Some(&Frame::Root { root, failed: 0 }));
    let published = Published { root, numbers: Numbers { files: 1, ..Numbers::default() } };
    bench.frame(Frame::Published(published.clone()));
    assert_eq!(bench.end(), Some(&SourceEnd::Published(published, Vec::new())));
}

#[test]
fn a_run_of_which_nothing_is_wanted_is_forgotten() {
    let one = piece(0, 0, 0, 10, "a");
    let mut bench = Bench::new(1);
    bench.scan(&[file("f", 10), file("g", 3 << 20)]);
    let (run, _) = bench.reads().remove(0);
    bench.read(run, &[one], &[end(0, 0, 10, &[one])]);
    assert!(bench.reads().is_empty(), "one run is all there may be");
    bench.want(run, &[false]);
    assert!(bench.actions.iter().any(|a| matches!(a, SourceAction::Forget(r) if *r == run)));
    assert_eq!(bench.reads().len(), 1);
}

#[test]
fn a_plan_sends_no_content() {
    let one = piece(0, 0, 0, 10, "a");
    let mut bench = Bench { source: Source::new(4, true), actions: Vec::new() };
    bench.take();
    bench.scan(&[file("f", 10)]);
    let (run, _) = bench.reads().remove(0);
    bench.read(run, &[one], &[end(0, 0, 10, &[one])]).want(run, &[true]);
    assert!(!bench.actions.iter().any(|a| matches!(a, SourceAction::SendData(_))));
    let [.., SourceAction::Probe(header), SourceAction::Forget(forgotten)] = &bench.actions[..]
    else {
        panic!("{:?}", bench.actions)
    };
    assert!(*forgotten == run && header.pieces().eq([0]), "what would be sent is looked at");
}

#[test]
fn an_object_that_keeps_changing_is_read_three_times_and_fails() {
    let mut bench = Bench::new(4);
    bench.scan(&[file("f", 10), file("g", 1)]);
    let mut rounds = Vec::new();
    for stamp in 1..=3 {
        let mut jobs = bench.reads();
        jobs.retain(|(_, job)| match job {
            ReadJob::Pack(files) => files[0].0 == 0,
            ReadJob::Next(seq, ..) => *seq == 0,
        });
        let (run, _) = jobs.remove(0);
        let entry = stamped("f", 10 + u64::from(stamp), stamp);
        let changed = vec![Changed { seq: 0, round: u32::from(stamp) - 1, entry: entry.clone() }];
        bench.tell(SourceInput::Read(ReadDone { run, changed, ..ReadDone::default() }));
        let restarts = bench.actions.iter().filter_map(|action| match action {
            SourceAction::Send(Frame::Restart { round, entry: now, .. }) => {
                assert_eq!(*now, entry);
                Some(*round)
            }
            _ => None,
        });
        rounds.extend(restarts.collect::<Vec<_>>());
        bench.actions.retain(|a| !matches!(a, SourceAction::Send(Frame::Restart { .. })));
    }
    assert_eq!(rounds, [1, 2]);
    let failed =
        |f: &Frame| matches!(f, Frame::Failed { seq: 0, code, .. } if code == "source-changed");
    assert!(bench.sent().iter().any(failed));
    assert_eq!(bench.source.failed(), 1);
}

#[test]
fn a_push_that_is_all_or_nothing_ends_at_the_first_failure_and_sends_no_root() {
    let mut bench = Bench { source: Source::new(4, false).publish_whole(), actions: Vec::new() };
    bench.take();
    bench.scan(&[file("f", 5 << 20), file("g", 1)]);
    let failed = Frame::Failed { seq: 0, code: "io".to_owned(), detail: "torn".to_owned() };
    bench.frame(failed);
    let Some(SourceEnd::Stopped(Stop::Local(failure))) = bench.end() else {
        panic!("it goes on: {:?}", bench.end());
    };
    assert_eq!(*failure, Failure::incomplete("f", "torn"));
    assert!(!bench.sent().iter().any(|frame| matches!(frame, Frame::Root { .. })));
}

#[test]
fn what_was_read_of_an_object_that_failed_meanwhile_is_offered_and_its_reader_closed() {
    let mut bench = Bench::new(4);
    bench.scan(&[file("f", 5 << 20)]);
    let (run, job) = bench.reads().remove(0);
    assert_eq!(job, ReadJob::Next(0, 0, file("f", 5 << 20)));
    let failed = Frame::Failed { seq: 0, code: "io".to_owned(), detail: String::new() };
    bench.frame(failed).frame(settled(1));
    bench.actions.clear();
    let pieces = vec![piece(0, 0, 0, 10, "a")];
    let more = Some((0, 0));
    bench.tell(SourceInput::Read(ReadDone { run, pieces, more, ..ReadDone::default() }));
    assert!(bench.actions.iter().any(|a| matches!(a, SourceAction::Close { seq: 0, round: 0 })));
    assert!(bench.sent().iter().any(|f| matches!(f, Frame::Offer { .. })), "a run keeps its shape");
    assert!(bench.reads().is_empty());
}

#[test]
fn a_request_for_an_earlier_reading_is_passed_over() {
    let one = piece(0, 0, 0, 10, "a");
    let mut bench = Bench::new(4);
    bench.scan(&[file("f", 10)]);
    let (run, _) = bench.reads().remove(0);
    bench.read(run, &[one], &[end(0, 0, 10, &[one])]);
    let request = |round| Frame::Again { run: 1 << 63, pieces: vec![Piece { round, ..one }] };
    bench.frame(request(0));
    assert!(bench.actions.iter().any(|a| matches!(a, SourceAction::ReadAgain { .. })));
    let entry = stamped("f", 12, 1);
    let changed = Some(Changed { seq: 0, round: 0, entry });
    bench.tell(SourceInput::ReadAgain { run: 1 << 63, changed, failed: None });
    assert!(bench.sent().iter().any(|f| matches!(f, Frame::Restart { round: 1, .. })));
    bench.frame(request(0));
    assert!(!bench.actions.iter().any(|a| matches!(a, SourceAction::ReadAgain { .. })));
    let failed = Some((0, Failure::new("io", "cannot read")));
    bench.tell(SourceInput::ReadAgain { run: 1 << 63, changed: None, failed });
    assert_eq!(bench.source.failed(), 1);
}

#[test]
fn small_files_travel_packed_within_a_lease_and_the_pieces_of_a_run() {
    let mut bench = Bench::new(64);
    let mut entries: Vec<Entry> = (0..1000).map(|n| file(&format!("a{n:04}"), 1)).collect();
    entries.extend((0..24).map(|n| file(&format!("b{n:04}"), 256 << 10)));
    bench.scan(&entries);
    let mut packed = 0;
    let mut reads = bench.reads();
    while let Some((run, job)) = reads.pop() {
        let ReadJob::Pack(files) = job else { panic!("{job:?}") };
        packed += files.len();
        let bytes: u64 = files.iter().map(|(_, _, entry)| entry.len()).sum();
        assert!(bytes <= LEASE_BYTES as u64);
        let pieces: u64 = files.iter().map(|(_, _, entry)| entry.len() / 4096 + 1).sum();
        assert!(pieces <= RUN_PIECES_MAX as u64);
        bench.read(run, &[piece(0, 0, 0, 1, "x")], &[]);
        reads.extend(bench.reads());
    }
    assert_eq!(packed, entries.len());
}

#[test]
fn the_scan_stays_within_the_window_until_objects_settle() {
    let mut bench = Bench::new(4);
    let mut scanned = 0;
    while let Some(at) = bench.actions.iter().position(|a| matches!(a, SourceAction::Scan(_))) {
        let SourceAction::Scan(max) = bench.actions.remove(at) else { panic!() };
        let entries = (scanned..scanned + max).map(|n| file(&format!("{n:08}"), 0)).collect();
        scanned += max;
        bench.tell(SourceInput::Scanned { entries, skipped: 0, done: false });
        assert!(scanned <= ENTRY_WINDOW);
    }
    let known = Known::Have(object(0, &[]));
    let verdicts = (0..1024).map(|seq| Verdict { seq, known }).collect();
    bench.frame(Frame::Verdicts(verdicts)).frame(settled(1024));
    assert!(bench.actions.iter().any(|a| matches!(a, SourceAction::Scan(_))));
}

#[test]
fn a_refusal_ends_the_session_and_says_whether_to_come_back() {
    for retry in [true, false] {
        let mut bench = Bench::new(4);
        let (code, detail) = ("no-space".to_owned(), "the disk is full".to_owned());
        let failure = Failure::new(&code, &*detail);
        bench.frame(Frame::Refuse { code, detail, retry });
        let stop = Stop::Refused { failure, retry };
        assert_eq!(bench.end(), Some(&SourceEnd::Stopped(stop)));
    }
}

/// The root over these entries.
fn root(entries: &[(&Entry, Option<Digest>)]) -> Digest {
    let mut root = crate::manifest::RootHasher::default();
    for (entry, digest) in entries {
        root.push(entry, *digest);
    }
    root.finish()
}

#[test]
fn the_root_comes_as_soon_as_all_is_read_and_anew_when_something_changes() {
    let roots = |bench: &mut Bench| -> Vec<(Digest, u64)> {
        let sent = bench.sent().into_iter();
        sent.filter_map(|frame| match frame {
            Frame::Root { root, failed } => Some((root, failed)),
            _ => None,
        })
        .collect()
    };
    let [a, b] = [piece(0, 0, 0, 4, "a"), piece(1, 0, 0, 6, "b")];
    let mut bench = Bench { source: Source::new(4, false).packing(1), actions: Vec::new() };
    bench.scan(&[file("f", 4), file("g", 6)]);
    let (run, _) = bench.reads().remove(0);
    let (first, second) = (end(0, 0, 4, &[a]), end(1, 0, 6, &[b]));
    bench.read(run, &[a], &[first]);
    assert_eq!(roots(&mut bench), [], "something is unread");
    bench.read(run + 1, &[b], &[second]);
    let digest = |end: &End| Some(end.object.digest);
    let both = root(&[(&file("f", 4), digest(&first)), (&file("g", 6), digest(&second))]);
    assert_eq!(roots(&mut bench), [(both, 0)], "nothing is settled yet");

    bench.frame(Frame::Failed { seq: 0, code: "io".to_owned(), detail: "no".to_owned() });
    let one = root(&[(&file("g", 6), digest(&second))]);
    assert_eq!(roots(&mut bench), [(one, 1)], "the target failed one");
    bench.frame(Frame::Again { run: 1 << 63, pieces: vec![b] });
    let changed = Changed { seq: 1, round: 0, entry: file("g", 7) };
    bench.tell(SourceInput::ReadAgain { run: 1 << 63, changed: Some(changed), failed: None });
    let (run, _) = bench.reads().remove(0);
    assert_eq!(roots(&mut bench), [], "it is read anew");
    let c = piece(1, 1, 0, 7, "c");
    let third = end(1, 1, 7, &[c]);
    bench.read(run, &[c], &[third]);
    let last = root(&[(&file("g", 7), digest(&third))]);
    assert_eq!(roots(&mut bench), [(last, 1)]);
    bench.frame(settled(2));
    assert_eq!(roots(&mut bench), [], "it was told");
    let published = Published { root: last, numbers: Numbers { files: 1, ..Numbers::default() } };
    bench.frame(Frame::Published(published));
    assert!(matches!(bench.end(), Some(SourceEnd::Published(_, failed)) if failed.len() == 1));
}

#[test]
fn a_target_that_needs_all_is_offered_it_without_waiting() {
    let source = Source::new(4, false).fresh(true);
    let mut bench = Bench { source, actions: Vec::new() };
    let entries = vec![dir("d"), file("d/f", 10)];
    bench.tell(SourceInput::Scanned { entries, skipped: 0, done: true });
    assert_eq!(bench.reads().len(), 1, "no verdict was given");
    bench.frame(need(1)).frame(need(1));
    assert_eq!(bench.violation(), None);
    bench.frame(have(1, 10));
    assert!(bench.violation().is_some(), "something else was said");
}
