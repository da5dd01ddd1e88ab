//! Driving a source: scan, read, offer and send, side by side.

mod telling;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::coding::{Coding, Plain};
use super::estimate::Estimate;
use super::held::{Held, Paths};
use super::{
    Broken, Context, FrameSender, Lost, Ordered, STRAGGLERS, Watch, cancelled, denial,
    ends_payment, is_denial, look, panicked, spawn_guard, spawn_input, spawn_receiver,
    update_meter,
};
use crate::base::limits::{LEASE_BYTES, RUNS_MAX};
use crate::base::{Class, RelPath, Seq};
use crate::border::SendError;
use crate::manifest::Entry;
use crate::metrics::{Phase, Stage};
use crate::protocol::{
    Failure, OWN_RUN, ReadDone, ReadJob, Source, SourceAction, SourceEnd, SourceInput,
};
use crate::runtime::effort::Effort;
use crate::runtime::shares::Direction;
use crate::runtime::source::SourceFiles;
use crate::transport::{Link, LinkError};
use crate::wire::{DataHeader, Frame, Piece};

/// Runs that are held beyond those that are being sent, where answers come at once.
const RUNS_AHEAD_NEAR: usize = 12;
/// How long a failed send waits for the control channel to tell why.
const UNSENDABLE: Duration = Duration::from_secs(2);

enum Input {
    Frame(Result<Frame, LinkError>),
    Machine(SourceInput),
    Read(ReadDone, Held),
    ReadAgain(SourceInput, u64, Held),
    Sent(u64),
    /// Whether what tells of content may still be sent.
    Asked(Result<(), Failure>),
    /// Nothing more is paid for, and what was has landed.
    Landed(Failure),
    /// No connection takes content any more.
    Unsendable(LinkError),
}

impl Broken for Input {
    fn broken(failure: Failure) -> Self {
        Self::Machine(SourceInput::Broken(failure))
    }
}

struct Driver<L: Link> {
    context: Context<L>,
    files: Arc<SourceFiles>,
    plan: Option<Arc<Estimate>>,
    machine: Source,
    frames: FrameSender,
    scans: Ordered<usize>,
    inputs: mpsc::Sender<Input>,
    held: HashMap<u64, Held>,
    sends: Arc<Semaphore>,
    /// Messages that are being sent.
    sending: usize,
    /// Paths of files that were read and are not settled, where what leaves is recorded.
    unsettled: BTreeMap<Seq, RelPath>,
    coding: Arc<Coding>,
    /// Reading again takes memory of its own, one lease at a time: the slab may be full of runs
    /// that wait for what is to be read again.
    rereads: Arc<Semaphore>,
    /// The class that the target knows of.
    told: Class,
    /// Frames that wait for the border's word, in order.
    withheld: Vec<Frame>,
    /// Tasks that touch files; they are waited for.
    work: JoinSet<()>,
    /// Tasks that wait for the link; they are dropped.
    net: JoinSet<()>,
}

/// Runs a source over an opened session until the transfer ends there. A `fresh` target needs all of it.
/// With `plan` it sends no content and shows there what it would send.
pub async fn run_source<L: Link>(
    context: Context<L>,
    files: Arc<SourceFiles>,
    fresh: bool,
    plan: Option<Arc<Estimate>>,
) -> Result<SourceEnd, Lost> {
    let (inputs, mut arrived) = mpsc::channel(super::INPUTS_MAX);
    let (mut work, mut net) = (JoinSet::new(), JoinSet::new());
    let frames = FrameSender::spawn(&context.link);
    let last = |frame: &Frame| matches!(frame, Frame::Published(_) | Frame::Refuse { .. });
    spawn_receiver(&context.link, inputs.clone(), &mut net, last, Input::Frame);
    spawn_guard(&context, &inputs, &mut net);
    let stages = Arc::clone(files.stages());
    let watch = Watch::spawn(&context, Direction::Out, &stages, &mut net);
    let scanned = Arc::clone(&files);
    let scans = Ordered::spawn(inputs.clone(), &mut work, move |max| {
        Some(Input::Machine(match scanned.scan(max) {
            Ok(found) => SourceInput::Scanned {
                entries: found.entries,
                skipped: found.skipped,
                done: found.done,
            },
            Err(failure) => SourceInput::Broken(failure),
        }))
    });
    let sends_max = context.link.sends_max();
    // What is read long before it is sent has left the processor's caches.
    let near = !context.link.meter().is_far();
    let runs_max = if near { RUNS_AHEAD_NEAR + sends_max } else { RUNS_MAX };
    let machine = Source::new(runs_max.min(context.slab.leases() / 2).max(2), plan.is_some());
    let machine = machine.fresh(fresh);
    let machine = if files.is_whole() { machine.publish_whole() } else { machine };
    context.meter.set_phase(Phase::Moving, "");
    let told = context.way.class();
    let coding = Arc::new(Coding::new(Arc::clone(&context.codecs), context.compress, stages));
    let mut driver = Driver {
        context,
        files,
        plan,
        machine,
        frames,
        scans,
        inputs,
        held: HashMap::new(),
        sends: Arc::new(Semaphore::new(sends_max)),
        sending: 0,
        unsettled: BTreeMap::new(),
        coding,
        rereads: Arc::new(Semaphore::new(1)),
        told,
        withheld: Vec::new(),
        work,
        net,
    };
    let mut cancel = driver.context.cancel.clone();
    let result = loop {
        if let Some(end) = driver.act() {
            break Ok(end);
        }
        let input = tokio::select! {
            () = cancelled(&mut cancel) => break Err(Lost::Cancelled),
            input = arrived.recv() => input,
        };
        if let Err(lost) = driver.take(input) {
            break Err(lost);
        }
    };
    if let Ok(SourceEnd::Published(..)) = &result {
        driver.await_stragglers(&mut arrived).await;
    }
    drop(arrived);
    driver.finish(&watch).await;
    result
}

impl<L: Link> Driver<L> {
    /// Does what the machine asks for; returns how the transfer ended, if it did.
    fn act(&mut self) -> Option<SourceEnd> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                SourceAction::Send(frame) => self.send(frame),
                SourceAction::Scan(max) => self.scans.send(max),
                SourceAction::Read { run, job } => {
                    let (files, slab) = (Arc::clone(&self.files), self.context.slab.clone());
                    let paths = self.paths(&job);
                    spawn_input(&mut self.work, &self.inputs, async move {
                        let waiting = Effort::wait(files.stages(), Stage::Memory);
                        let mut lease = slab.lease().await;
                        drop(waiting);
                        let work = move || {
                            let done = files.read(run, &job, &mut lease);
                            let bytes: usize = done.pieces.iter().map(|p| p.len as usize).sum();
                            let content = lease.freeze().slice(0..bytes);
                            let held = Held::new(content, &done.pieces, &paths);
                            Input::Read(done, held)
                        };
                        let done = tokio::task::spawn_blocking(work).await;
                        done.unwrap_or_else(|_| Input::broken(panicked()))
                    });
                }
                SourceAction::ReadAgain { run, pieces, entry } => {
                    let (files, turn) = (Arc::clone(&self.files), Arc::clone(&self.rereads));
                    spawn_input(&mut self.work, &self.inputs, async move {
                        let turn = turn.acquire_owned().await;
                        let work = move || {
                            let _turn = turn;
                            read_again(&files, run, &pieces, &entry)
                        };
                        let done = tokio::task::spawn_blocking(work).await;
                        done.unwrap_or_else(|_| Input::broken(panicked()))
                    });
                }
                SourceAction::SendData(header) => self.send_content(header),
                SourceAction::Probe(header) => self.probe(&header),
                SourceAction::Forget(run) => drop(self.held.remove(&run)),
                SourceAction::Close { seq, round } => self.files.close(seq, round),
                SourceAction::End(end) => return Some(end),
            }
        }
        None
    }

    /// A plan looks how small content gets.
    fn probe(&self, header: &DataHeader) {
        let seen = self.plan.as_ref().zip(self.held.get(&header.run));
        let _ = seen.map(|(plan, held)| plan.see(held.slices(header)));
    }

    /// Paths of the objects of a job, where they are recorded.
    fn paths(&mut self, job: &ReadJob) -> Paths {
        let path = |seq: &Seq, entry: &Entry| (*seq, entry.path.clone());
        let paths = match job {
            _ if !self.context.way.crosses() => return Paths::new(),
            ReadJob::Pack(files) => files.iter().map(|(seq, _, entry)| path(seq, entry)).collect(),
            ReadJob::Next(seq, _, entry) => Paths::from([path(seq, entry)]),
        };
        self.unsettled.extend(paths.iter().map(|(seq, path)| (*seq, path.clone())));
        paths
    }

    /// Objects below this number are settled: no more of them leaves.
    fn settled(&mut self, below: Seq) {
        self.files.bases_settled(below);
        let rest = self.unsettled.split_off(&below);
        let last = std::mem::replace(&mut self.unsettled, rest).pop_last();
        if let Some((_, path)) = last {
            self.context.way.settled(&path);
        }
    }

    fn send_content(&mut self, header: DataHeader) {
        let run = header.run;
        let Some(held) = self.held.remove(&run) else { return };
        let (link, sends) = (self.context.link.clone(), Arc::clone(&self.sends));
        let way = Arc::clone(&self.context.way);
        let (inputs, coding) = (self.inputs.clone(), Arc::clone(&self.coding));
        let stages = Arc::clone(self.files.stages());
        // What is asked for again may be so because the basis is another one there.
        let difference = (run & OWN_RUN == 0).then(|| held.places(&header));
        let difference = difference.and_then(|places| self.files.difference(&places));
        self.sending += 1;
        self.net.spawn(async move {
            let (content, extents) = (held.slices(&header), held.extents(&header));
            let plain = Plain { content, difference, near: held.near };
            drop((held.bytes, held.origins));
            let (header, content, _sending) = coding.ready(&link, header, plain).await;
            let _turn = sends.acquire_owned().await;
            let sending = Effort::wait(&stages, Stage::Send);
            let bytes = content.iter().map(Bytes::len).sum();
            let sent = way.send(&link, (header.encode(), content), &extents).await;
            sending.done(bytes);
            let input = match sent {
                Ok(()) => Input::Sent(run),
                Err(SendError::Denied(denied)) => Input::broken(denial(&denied)),
                Err(SendError::Link(error)) => {
                    // The control channel mostly knows better why, and says so by itself.
                    tokio::time::sleep(UNSENDABLE).await;
                    Input::Unsendable(error)
                }
            };
            let _ = inputs.send(input).await;
        });
    }

    /// Hands an input to the machine.
    fn take(&mut self, input: Option<Input>) -> Result<(), Lost> {
        // Finished tasks are reaped as we go, or their sets would grow.
        while self.work.try_join_next().is_some() {}
        while self.net.try_join_next().is_some() {}
        let input = match input {
            None => return Err(Lost::Cancelled),
            Some(Input::Frame(Err(error)) | Input::Unsendable(error)) => {
                return Err(Lost::Link(error));
            }
            Some(Input::Frame(Ok(Frame::Bases(bases)))) if self.files.has_earlier() => {
                for file in bases {
                    if let Some(entry) = self.machine.entry(file.seq) {
                        self.files.basis_told(entry, file);
                    }
                }
                return Ok(());
            }
            Some(Input::Frame(Ok(Frame::Near { run, sums }))) => {
                // What was forgotten meanwhile is not sent.
                let held = self.held.get_mut(&run);
                let _ = held.map(|held| held.near = Some(sums));
                return Ok(());
            }
            Some(Input::Frame(Ok(frame))) => {
                match &frame {
                    Frame::Settled { below, .. } => self.settled(*below),
                    Frame::Again { pieces, .. } => {
                        for piece in pieces {
                            self.files.no_basis(piece.seq);
                        }
                    }
                    _ => {}
                }
                SourceInput::Frame(frame)
            }
            Some(Input::Machine(SourceInput::Broken(why))) if ends_payment(&why) => {
                self.land(why);
                return Ok(());
            }
            Some(Input::Machine(input)) => input,
            Some(Input::Landed(why)) => SourceInput::Broken(why),
            Some(Input::Asked(Ok(()))) => {
                self.release();
                return Ok(());
            }
            Some(Input::Asked(Err(failure))) => {
                self.withheld.clear();
                return self.take(Some(Input::broken(failure)));
            }
            Some(Input::Sent(run)) => {
                self.sending = self.sending.saturating_sub(1);
                SourceInput::Sent { run }
            }
            Some(Input::Read(done, held)) => {
                match done.failed.iter().find(|(_, failure)| is_denial(failure)) {
                    // One object of a class that may not move is enough: all is of that class.
                    Some((_, denied)) => return self.take(Some(Input::broken(denied.clone()))),
                    None => {
                        self.held.insert(done.run, held);
                        SourceInput::Read(done)
                    }
                }
            }
            Some(Input::ReadAgain(input, run, held)) => {
                self.held.insert(run, held);
                input
            }
        };
        self.machine.handle(input);
        let (machine, meter) = (&self.machine, &self.context.meter);
        update_meter(meter, machine.found(), machine.numbers(), machine.failed());
        meter.skipped.set(self.files.skipped_total());
        Ok(())
    }

    /// Content of objects that failed or started over may be leaving still: what was noted is sent,
    /// so that both ends count it.
    async fn await_stragglers(&mut self, arrived: &mut mpsc::Receiver<Input>) {
        let end = tokio::time::Instant::now() + STRAGGLERS;
        while self.sending > 0 && self.context.way.crosses() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                input = arrived.recv() => match input {
                    Some(Input::Sent(_)) => self.sending -= 1,
                    Some(Input::Unsendable(_)) | None => return,
                    Some(_) => {}
                },
            }
        }
    }

    async fn finish(mut self, watch: &Mutex<Watch<L>>) {
        self.frames.flush().await;
        look(watch);
        self.net.abort_all();
        self.work.abort_all();
        while self.work.join_next().await.is_some() {}
    }
}

fn read_again(files: &SourceFiles, run: u64, pieces: &[Piece], entry: &Entry) -> Input {
    let mut buffer = vec![0; LEASE_BYTES];
    match files.read_again(pieces, entry, &mut buffer) {
        Ok(bytes) => {
            buffer.truncate(bytes);
            let paths = pieces.iter().map(|piece| (piece.seq, entry.path.clone())).collect();
            let held = Held::new(buffer.into(), pieces, &paths);
            let input = SourceInput::ReadAgain { run, changed: None, failed: None };
            Input::ReadAgain(input, run, held)
        }
        Err(Ok(changed)) => {
            let changed = Some(changed);
            Input::Machine(SourceInput::ReadAgain { run, changed, failed: None })
        }
        Err(Err((_, denied))) if is_denial(&denied) => Input::broken(denied),
        Err(Err(failed)) => {
            let failed: Option<(Seq, Failure)> = Some(failed);
            Input::Machine(SourceInput::ReadAgain { run, changed: None, failed })
        }
    }
}
