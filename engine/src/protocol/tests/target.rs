//! The target against a hand-made source.

use super::*;
use crate::protocol::{
    Checked, CommitJob, Failure, Finding, PlaceResult, Stop, Target, TargetAction, TargetEnd,
    TargetInput, Task,
};
use crate::wire::{Bitmap, DataHeader, Frame};

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
    bench.frame(Frame::Root { root: root.finish() });
    let publishes = |bench: &Bench| {
        bench.actions.iter().filter(|a| matches!(a, TargetAction::Publish { .. })).count()
    };
    assert_eq!(publishes(&bench), 0);
    bench.tell(TargetInput::Checked(Vec::new()));
    assert_eq!(publishes(&bench), 1);
}
