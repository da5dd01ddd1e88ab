//! One session step by step: both machines with their files, what is on the wire between them, and what
//! the model says of each message.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::events::Abort;
use super::session::{Ended, Plan};
use super::tap::{Tap, canaries};
use super::world::World;
use crate::base::{Class, Extent, Instant, RelPath, Seq, TransferId};
use crate::border::{SendError, Way};
use crate::manifest::Entry;
use crate::protocol::{
    CommitJob, PlacePiece, ReadJob, SettledObject, Source, SourceAction, SourceEnd, SourceInput,
    Target, TargetAction, TargetEnd, TargetInput, Task,
};
use crate::runtime::source::SourceFiles;
use crate::runtime::target::TargetStore;
use crate::runtime::{denial, is_denial};
use crate::wire::{DataHeader, Frame, Piece};

/// Most steps of one session.
const STEPS_MAX: u32 = 20_000;
/// Content that may be wanted and not durable.
const CREDIT_BYTES: u64 = 1 << 20;

/// The real things at both ends.
pub(super) struct Sides {
    pub(super) out: Arc<Way>,
    pub(super) into: Arc<Way>,
    pub(super) store: Arc<TargetStore>,
    pub(super) files: Arc<SourceFiles>,
}

/// Something that is under way.
pub(super) enum Work {
    ToTarget(Frame),
    ToSource(Frame),
    Data(Bytes, Vec<u8>),
    Scan(usize),
    Read(u64, ReadJob),
    ReadAgain(u64, Vec<Piece>, Entry),
    Check(Seq, Vec<Entry>),
    Resolve(u64, Vec<(usize, Piece)>),
    Place(u64, u64, Vec<PlacePiece>),
    Commit(CommitJob),
    Settle(Vec<SettledObject>),
    Publish(crate::base::Digest, u64),
}

impl Work {
    /// What is in one lane is done in order.
    fn lane(&self) -> usize {
        match self {
            Self::ToTarget(_) => 0,
            Self::ToSource(_) => 1,
            Self::Data(..) => 2,
            Self::Scan(_) => 3,
            Self::Read(..) | Self::ReadAgain(..) => 4,
            Self::Check(..) => 5,
            Self::Resolve(..) | Self::Place(..) => 6,
            Self::Commit(_) | Self::Settle(_) | Self::Publish(..) => 7,
        }
    }
}

pub(super) struct Pump<'a> {
    pub(super) world: &'a mut World,
    pub(super) plan: &'a Plan,
    pub(super) sides: Sides,
    pub(super) tap: Tap,
    pub(super) id: TransferId,
    /// The class of the dataset at the source, by all that the border was told of.
    pub(super) class: u8,
    /// The class that the target knows of.
    pub(super) known: u8,
    /// The class before a label was raised that the border of the source did not look at since.
    pub(super) unseen: Option<u8>,
    pub(super) told: Class,
    pub(super) source: Source,
    pub(super) target: Target,
    pub(super) lanes: [VecDeque<Work>; 8],
    pub(super) held: HashMap<u64, (Vec<Piece>, Vec<u8>)>,
    pub(super) arrived: HashMap<u64, Vec<u8>>,
    pub(super) tickets: u64,
    pub(super) paths: Vec<RelPath>,
    pub(super) offers: BTreeMap<u64, Vec<Piece>>,
    /// Contents that were wanted in this session.
    pub(super) wanted: BTreeSet<u64>,
    pub(super) now: Instant,
    pub(super) source_end: Option<SourceEnd>,
    pub(super) target_end: Option<TargetEnd>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        world: &'a mut World,
        plan: &'a Plan,
        sides: Sides,
        tap: Tap,
        (id, class): (TransferId, u8),
    ) -> Self {
        let pack = world.rng.between(1, 3) as usize;
        let source = Source::new(world.rng.between(1, 4) as usize, false).packing(pack);
        let source = source.fresh(sides.store.is_fresh());
        Self {
            plan,
            told: sides.out.class(),
            sides,
            tap,
            id,
            class,
            known: class,
            unseen: None,
            source,
            target: Target::new(Task::Receive, CREDIT_BYTES),
            lanes: Default::default(),
            held: HashMap::new(),
            arrived: HashMap::new(),
            tickets: 0,
            paths: Vec::new(),
            offers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            now: Instant(0),
            source_end: None,
            target_end: None,
            world,
        }
    }

    pub(super) fn run(mut self) -> Result<Ended, String> {
        self.pump_source()?;
        self.pump_target()?;
        for _ in 0..STEPS_MAX {
            if self.plan.rough && self.world.rng.chance(7) {
                let (plan, class) = (self.plan, self.class);
                let abort = self.world.meanwhile((plan.source, plan.target), &plan.from)?;
                // `portway label` tells the border; nothing else that changes a class does. Until it looks,
                // what was raised may be replaced again.
                if self.world.take_relabelled() && self.unseen.is_none() {
                    self.unseen = Some(class);
                }
                if let Some(before) = self.unseen {
                    self.class = before.max(self.world.model.dataset(plan.source, &plan.from));
                }
                if let Some(abort) = abort {
                    return self.aborted(abort);
                }
            }
            let waiting: Vec<usize> = (0..8).filter(|&lane| !self.lanes[lane].is_empty()).collect();
            match self.world.rng.pick(&waiting).copied() {
                Some(lane) => self.step(lane)?,
                None => match self.target.deadline().filter(|_| self.target_end.is_none()) {
                    Some(at) => {
                        self.now = at.max(self.now);
                        self.target_in(TargetInput::Tick)?;
                    }
                    None => return self.ended(),
                },
            }
        }
        Err("a session does not end".to_owned())
    }

    /// The session is over; a target that lives makes durable what it has, or not in time.
    fn aborted(mut self, abort: Abort) -> Result<Ended, String> {
        if abort == Abort::Cut && self.world.rng.chance(50) {
            for lane in 0..5 {
                self.lanes[lane].clear();
            }
            self.now = self.now.plus_ms(10_000);
            self.target_in(TargetInput::Tick)?;
            while let Some(lane) = (5..8).find(|&lane| !self.lanes[lane].is_empty()) {
                self.step(lane)?;
            }
        }
        Ok(Ended::Aborted(abort))
    }

    pub(super) fn add(&mut self, work: Work) {
        self.lanes[work.lane()].push_back(work);
    }

    fn step(&mut self, lane: usize) -> Result<(), String> {
        // What is scanned or read is looked at.
        if matches!(lane, 3 | 4) {
            self.unseen = None;
        }
        // Messages overtake each other, and so do reads and what is placed.
        let len = self.lanes[lane].len() as u64;
        let at = if matches!(lane, 2 | 4 | 6) { self.world.rng.below(len) as usize } else { 0 };
        let Some(work) = self.lanes[lane].remove(at) else { return Ok(()) };
        let (files, store) = (Arc::clone(&self.sides.files), Arc::clone(&self.sides.store));
        match work {
            Work::ToSource(frame) => self.source_in(SourceInput::Frame(frame)),
            Work::ToTarget(Frame::Class(class)) => match store.take_class(&self.sides.into, &class)
            {
                Ok(()) => {
                    self.known = self.known.max(self.class);
                    Ok(())
                }
                Err(denied) => self.target_in(TargetInput::Broken(denial(&denied))),
            },
            Work::ToTarget(frame) => self.target_in(TargetInput::Frame(frame)),
            Work::Data(header, content) => {
                let header = DataHeader::decode(&header).map_err(|e| e.to_string())?;
                let (ticket, bytes) = (self.tickets, content.len());
                self.tickets += 1;
                self.arrived.insert(ticket, content);
                self.target_in(TargetInput::Data { ticket, header, bytes })
            }
            Work::Scan(max) => {
                let input = match files.scan(max) {
                    Ok(found) => {
                        self.paths.extend(found.entries.iter().map(|entry| entry.path.clone()));
                        let (entries, skipped, done) = (found.entries, found.skipped, found.done);
                        SourceInput::Scanned { entries, skipped, done }
                    }
                    Err(failure) => SourceInput::Broken(failure),
                };
                self.source_in(input)
            }
            Work::Read(run, job) => {
                let done = files.read(run, &job, &mut self.world.scratch);
                if let Some((_, denied)) = done.failed.iter().find(|it| is_denial(&it.1)) {
                    return self.source_in(SourceInput::Broken(denied.clone()));
                }
                let bytes: usize = done.pieces.iter().map(|piece| piece.len as usize).sum();
                let content = self.world.scratch[..bytes].to_vec();
                self.held.insert(run, (done.pieces.clone(), content));
                self.source_in(SourceInput::Read(done))
            }
            Work::ReadAgain(run, pieces, entry) => {
                let read = files.read_again(&pieces, &entry, &mut self.world.scratch);
                let input = match read {
                    Ok(bytes) => {
                        let content = self.world.scratch[..bytes].to_vec();
                        self.held.insert(run, (pieces, content));
                        SourceInput::ReadAgain { run, changed: None, failed: None }
                    }
                    Err(Ok(it)) => SourceInput::ReadAgain { run, changed: Some(it), failed: None },
                    Err(Err((_, it))) if is_denial(&it) => SourceInput::Broken(it),
                    Err(Err(it)) => SourceInput::ReadAgain { run, changed: None, failed: Some(it) },
                };
                self.source_in(input)
            }
            Work::Check(first, entries) => {
                self.target_in(TargetInput::Checked(store.check(first, &entries)))
            }
            Work::Resolve(run, pieces) => self.target_in(match store.resolve(&pieces) {
                Ok(found) => TargetInput::Resolved { run, found },
                Err(failure) => TargetInput::Broken(failure),
            }),
            Work::Place(ticket, run, pieces) => self.place(ticket, run, &pieces),
            Work::Commit(job) => {
                store.add_to_index(&job);
                self.target_in(match store.commit(&job) {
                    Ok(done) => TargetInput::Committed(done),
                    Err(failure) => TargetInput::Broken(failure),
                })
            }
            Work::Settle(objects) => match store.settle(&objects) {
                Ok(()) => Ok(()),
                Err(failure) => self.target_in(TargetInput::Broken(failure)),
            },
            Work::Publish(root, entries) => {
                self.target_in(TargetInput::Published(store.publish(root, entries)))
            }
        }
    }

    fn place(&mut self, ticket: u64, run: u64, pieces: &[PlacePiece]) -> Result<(), String> {
        let content = self.arrived.remove(&ticket).unwrap_or_default();
        let extents = self.extents(pieces.iter().map(|it| &it.piece));
        let came = self.world.runtime.block_on(self.sides.into.arrived(&extents));
        if let Err(denied) = came {
            return self.target_in(TargetInput::Broken(denial(&denied)));
        }
        let plan = self.plan;
        if plan.crosses() && !self.world.permits(plan.target, plan.asked(self.known)) {
            return Err(format!("{plan:?}, of class {}, is taken and denied", self.known));
        }
        for canary in canaries(&content) {
            self.world.got.insert((plan.source, plan.target, plan.to.clone(), canary));
        }
        self.target_in(match self.sides.store.place(pieces, &content) {
            Ok(results) => TargetInput::Placed { run, results },
            Err(failure) => TargetInput::Broken(failure),
        })
    }

    fn extents<'b>(&self, pieces: impl Iterator<Item = &'b Piece>) -> Vec<(RelPath, Extent)> {
        let extent = |piece: &Piece| Extent { offset: piece.offset, len: piece.len.into() };
        let path = |piece: &Piece| self.paths.get(piece.seq as usize).cloned();
        pieces.filter_map(|piece| Some((path(piece)?, extent(piece)))).collect()
    }

    fn source_in(&mut self, input: SourceInput) -> Result<(), String> {
        self.source.handle(input);
        self.pump_source()
    }

    fn target_in(&mut self, input: TargetInput) -> Result<(), String> {
        self.target.handle(input, self.now);
        self.pump_target()
    }

    fn pump_source(&mut self) -> Result<(), String> {
        while let Some(action) = self.source.poll_action() {
            match action {
                SourceAction::Send(frame) => self.told(frame)?,
                SourceAction::Scan(max) => self.add(Work::Scan(max)),
                SourceAction::Read { run, job } => self.add(Work::Read(run, job)),
                SourceAction::ReadAgain { run, pieces, entry } => {
                    self.add(Work::ReadAgain(run, pieces, entry));
                }
                SourceAction::SendData(header) => self.send(&header)?,
                SourceAction::Probe(_) => {}
                SourceAction::Forget(run) => drop(self.held.remove(&run)),
                SourceAction::Close { seq, round } => self.sides.files.close(seq, round),
                SourceAction::End(end) => self.source_end = Some(end),
            }
        }
        Ok(())
    }

    fn send(&mut self, header: &DataHeader) -> Result<(), String> {
        let run = header.run;
        let Some((pieces, bytes)) = self.held.remove(&run) else {
            return Err(format!("run {run} is sent and not held"));
        };
        let mut ends = Vec::with_capacity(pieces.len());
        let mut at = 0;
        for piece in &pieces {
            ends.push(at..at + piece.len as usize);
            at += piece.len as usize;
        }
        let sent: Vec<usize> = header.pieces().collect();
        let content: Vec<u8> = sent.iter().flat_map(|&i| bytes[ends[i].clone()].to_vec()).collect();
        let extents = self.extents(sent.iter().map(|&i| &pieces[i]));
        let message = (header.encode(), vec![Bytes::from(content.clone())]);
        let way = Arc::clone(&self.sides.out);
        self.unseen = None;
        let result = self.world.runtime.block_on(way.send(&self.tap, message, &extents));
        for heard in self.tap.take() {
            if self.plan.crosses() {
                let moved = self.world.moved.entry((self.plan.source, self.id.0)).or_default();
                moved.bytes += heard.len() as u64;
                self.world.crossed(self.plan, self.class, &heard)?;
            }
        }
        match result {
            Ok(()) => {
                self.add(Work::Data(header.encode(), content));
                self.source_in(SourceInput::Sent { run })
            }
            Err(SendError::Denied(denied)) => self.source_in(SourceInput::Broken(denial(&denied))),
            Err(SendError::Link(error)) => Err(error.to_string()),
        }
    }

    fn pump_target(&mut self) -> Result<(), String> {
        while let Some(action) = self.target.poll_action() {
            match action {
                TargetAction::Send(frame) => self.answered(frame)?,
                TargetAction::Check { first, entries } if self.sides.store.is_fresh() => {
                    let answers = self.sides.store.check(first, &entries);
                    self.target.handle(TargetInput::Checked(answers), self.now);
                }
                TargetAction::Check { first, entries } => self.add(Work::Check(first, entries)),
                TargetAction::Resolve { run, pieces } => self.add(Work::Resolve(run, pieces)),
                TargetAction::Place { ticket, run, pieces } => {
                    self.add(Work::Place(ticket, run, pieces));
                }
                TargetAction::Drop { ticket } => drop(self.arrived.remove(&ticket)),
                TargetAction::Reset { seq, round, entry } => {
                    self.sides.store.reset(seq, round, &entry);
                }
                TargetAction::Commit(job) => self.add(Work::Commit(job)),
                TargetAction::Settle(objects) => self.add(Work::Settle(objects)),
                TargetAction::Publish { root, entries } => self.add(Work::Publish(root, entries)),
                TargetAction::End(end) => self.target_end = Some(end),
            }
        }
        Ok(())
    }
}
