//! Driving a target: receive, verify, place, commit and publish.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::arrivals::spawn_data_receiver;
use super::expected::Expected;
use super::landing::Landing;
use super::ledger::LedgerJob;
use super::placing::{place, resolve};
use super::{
    Broken, Context, FrameSender, Lost, MachineClock, Ordered, STRAGGLERS, Watch, cancelled,
    denial, look, spawn_guard, spawn_receiver, spawn_work, update_meter,
};
use crate::base::Seq;
use crate::base::limits::COMMIT_MS;
use crate::buf::Lease;
use crate::manifest::Entry;
use crate::metrics::Phase;
use crate::protocol::{Checked, Failure, Stop, Target, TargetAction, TargetEnd, TargetInput, Task};
use crate::runtime::shares::Direction;
use crate::runtime::target::TargetStore;
use crate::transport::{Link, LinkError};
use crate::wire::{DataHeader, Frame};

/// Content that may be wanted and not yet durable, in bytes: what a crash costs at most, less what
/// the last commit had under way.
pub(super) const CREDIT_BYTES: u64 = 48 << 20;
/// Longest that a session which lost its link goes on to make durable what it has.
const DRAIN: Duration = Duration::from_secs(20);

/// What a data message brought.
pub(super) struct Content {
    pub(super) lease: Lease,
    pub(super) bytes: usize,
    /// The path that it took, if the link has several.
    pub(super) path: Option<u8>,
    /// It came as a difference, and is wrong if the basis is another one.
    pub(super) difference: bool,
}

pub(super) enum Input {
    Frame(Result<Frame, LinkError>),
    Data(DataHeader, Content),
    Machine(TargetInput),
    /// A data message was cut short: it comes again on another connection, or the link ends.
    Cut,
    /// A data message made no sense.
    Lost(LinkError),
}

impl Broken for Input {
    fn broken(failure: Failure) -> Self {
        Self::Machine(TargetInput::Broken(failure))
    }
}

struct Driver<L: Link> {
    context: Context<L>,
    store: Arc<TargetStore>,
    machine: Target,
    clock: MachineClock,
    frames: FrameSender,
    /// Hands on what the source says.
    receiver: AbortHandle,
    checks: Ordered<(Seq, Vec<Entry>)>,
    ledger: Ordered<LedgerJob>,
    inputs: mpsc::Sender<Input>,
    held: HashMap<u64, Content>,
    /// What is to arrive, where that is recorded.
    expected: Expected,
    landing: Landing,
    next_ticket: u64,
    /// Answers that are still to come from files.
    awaited: usize,
    /// What the source said when it gave up, and whether to try again.
    refused: Option<(Failure, bool)>,
    work: JoinSet<()>,
    net: JoinSet<()>,
}

/// Runs a target over an opened session until the transfer ends there.
///
/// When the link is lost, or this end is told to stop, what has arrived is made durable first.
pub async fn run_target<L: Link>(
    context: Context<L>,
    store: Arc<TargetStore>,
    task: Task,
) -> Result<TargetEnd, Lost> {
    run_with_credit(context, store, task, CREDIT_BYTES).await
}

/// As [`run_target`], with at most `credit_bytes` wanted and not yet durable.
pub(super) async fn run_with_credit<L: Link>(
    context: Context<L>,
    store: Arc<TargetStore>,
    task: Task,
    credit_bytes: u64,
) -> Result<TargetEnd, Lost> {
    let (inputs, mut arrived) = mpsc::channel(super::INPUTS_MAX);
    let (mut work, mut net) = (JoinSet::new(), JoinSet::new());
    let frames = FrameSender::spawn(&context.link);
    let last = |_: &Frame| false;
    let receiver = spawn_receiver(&context.link, inputs.clone(), &mut net, last, Input::Frame);
    spawn_guard(&context, &inputs, &mut net);
    let landing = Landing::default();
    spawn_data_receiver(&context, (&landing, &store), &inputs, &mut net);
    let watch = Watch::spawn(&context, Direction::In, store.stages(), &mut net);
    let checked = Arc::clone(&store);
    let checks = Ordered::spawn(inputs.clone(), &mut work, move |(first, entries): (_, Vec<_>)| {
        Some(Input::Machine(TargetInput::Checked(checked.check(first, &entries))))
    });
    let kept = Arc::clone(&store);
    let ledger = Ordered::spawn(inputs.clone(), &mut work, move |job: LedgerJob| {
        job.run(&kept).map(Input::Machine)
    });
    context.meter.set_phase(Phase::Moving, "");
    let expected = Expected::new(context.way.crosses());
    let mut machine = Target::new(task, credit_bytes);
    machine.bound_depth(store.depth_max());
    let mut driver = Driver {
        context,
        store,
        machine,
        clock: MachineClock::start(),
        frames,
        receiver,
        checks,
        ledger,
        inputs,
        held: HashMap::new(),
        expected,
        landing,
        next_ticket: 0,
        awaited: 0,
        refused: None,
        work,
        net,
    };
    let mut cancel = driver.context.cancel.clone();
    let mut drained = None;
    let result = loop {
        if let Some(end) = driver.act() {
            break Ok(end);
        }
        let timer = driver.machine.deadline().map(|at| driver.clock.sleep_until(at));
        if driver.refused.is_some() && drained.is_none() {
            drained = Some(tokio::time::Instant::now() + DRAIN);
        }
        let input = tokio::select! {
            () = cancelled(&mut cancel) => break Err(Lost::Cancelled),
            () = sleep_until(drained) => break Err(Lost::Cancelled),
            () = sleep_until(timer) => Some(Input::Machine(TargetInput::Tick)),
            input = arrived.recv() => input,
        };
        if let Err(lost) = driver.take(input) {
            break Err(lost);
        }
    };
    match &result {
        Err(_) => driver.drain(&mut arrived).await,
        Ok(TargetEnd::Published(..)) => driver.await_stragglers(&mut arrived).await,
        Ok(TargetEnd::Stopped(_)) => {}
    }
    drop(arrived);
    let refused = driver.refused.take();
    driver.finish(&watch).await;
    match refused {
        Some((failure, retry)) => Ok(TargetEnd::Stopped(Stop::Refused { failure, retry })),
        None => result,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl<L: Link> Driver<L> {
    /// Does what the machine asks for; returns how the transfer ended, if it did.
    fn act(&mut self) -> Option<TargetEnd> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                TargetAction::Send(frame) => {
                    self.expected.asked(&frame);
                    self.frames.send(&frame);
                }
                TargetAction::Check { first, entries } => {
                    self.expected.announced(first, &entries);
                    if self.store.is_fresh() {
                        // Nothing is looked up, and the source offers without waiting for it.
                        let checked = self.store.check(first, &entries);
                        self.tell_bases(&checked);
                        self.machine.handle(TargetInput::Checked(checked), self.clock.now());
                        continue;
                    }
                    self.awaited += 1;
                    self.checks.send((first, entries));
                }
                TargetAction::Resolve { run, pieces } => {
                    self.awaited += 1;
                    self.landing.note(run, &pieces);
                    let (store, frames) = (Arc::clone(&self.store), self.frames.handle());
                    let near = self.context.link.wants_encoding();
                    spawn_work(&mut self.work, &self.inputs, move || {
                        Input::Machine(resolve(&store, (run, &pieces), near.then_some(&frames)))
                    });
                }
                TargetAction::Place { ticket, run, pieces } => {
                    let Some(content) = self.held.remove(&ticket) else { continue };
                    self.awaited += 1;
                    let (store, link) = (Arc::clone(&self.store), self.context.link.clone());
                    spawn_work(&mut self.work, &self.inputs, move || {
                        Input::Machine(match place(&store, &link, &pieces, &content) {
                            Ok(results) => TargetInput::Placed { run, results },
                            Err(failure) => TargetInput::Broken(failure),
                        })
                    });
                }
                TargetAction::Drop { ticket } => drop(self.held.remove(&ticket)),
                TargetAction::Reset { seq, round, entry } => self.store.reset(seq, round, &entry),
                TargetAction::Commit(job) => {
                    self.awaited += 1;
                    self.ledger.send(LedgerJob::Commit(job));
                }
                TargetAction::Settle(objects) => {
                    let last = objects.last().map(|last| last.seq);
                    if let Some(path) = last.and_then(|last| self.expected.settled(last)) {
                        self.context.way.settled(&path);
                    }
                    self.ledger.send(LedgerJob::Settle(objects));
                }
                TargetAction::Publish { root, entries } => {
                    // What the source says next is no business of the machine.
                    self.receiver.abort();
                    self.context.meter.set_phase(Phase::Publishing, "");
                    self.awaited += 1;
                    self.ledger.send(LedgerJob::Publish(root, entries));
                }
                TargetAction::End(end) => return Some(end),
            }
        }
        None
    }

    /// Says what is here of earlier versions of what is needed.
    fn tell_bases(&self, checked: &[(Seq, Checked)]) {
        let bases = self.store.bases(checked);
        if !bases.is_empty() {
            self.frames.send(&Frame::Bases(bases));
        }
    }

    /// Records content that arrived, and that it may go on coming.
    fn record(&mut self, header: &DataHeader) {
        let Some(rest) = self.context.way.takes(&self.expected.arrived(header)) else { return };
        let inputs = self.inputs.clone();
        self.work.spawn(async move {
            if let Err(denied) = rest.await {
                let _ = inputs.send(Input::broken(denial(&denied))).await;
            }
        });
    }

    /// Hands an input to the machine.
    fn take(&mut self, input: Option<Input>) -> Result<(), Lost> {
        while self.work.try_join_next().is_some() {}
        while self.net.try_join_next().is_some() {}
        let input = match input {
            None => return Err(Lost::Cancelled),
            Some(Input::Frame(Err(error)) | Input::Lost(error)) => return Err(Lost::Link(error)),
            Some(Input::Cut) => return Ok(()),
            Some(Input::Frame(Ok(Frame::Refuse { code, detail, retry }))) => {
                // It ends as with a link that is lost, which follows: what was sent before may come
                // later, and what has arrived is made durable.
                self.refused.get_or_insert((Failure { code, detail }, retry));
                return Ok(());
            }
            Some(Input::Frame(Ok(Frame::Class(class)))) => {
                match self.store.take_class(&self.context.way, &class) {
                    Ok(()) => return Ok(()),
                    Err(denied) => TargetInput::Broken(denial(&denied)),
                }
            }
            Some(Input::Frame(Ok(frame))) => {
                self.expected.heard(&frame);
                TargetInput::Frame(frame)
            }
            Some(Input::Data(header, content)) => {
                self.record(&header);
                let (ticket, bytes) = (self.next_ticket, content.bytes);
                self.next_ticket += 1;
                self.held.insert(ticket, content);
                TargetInput::Data { ticket, header, bytes }
            }
            Some(Input::Machine(input)) => {
                if let TargetInput::Checked(checked) = &input {
                    self.tell_bases(checked);
                }
                if !matches!(input, TargetInput::Tick) {
                    self.awaited = self.awaited.saturating_sub(1);
                }
                input
            }
        };
        self.machine.handle(input, self.clock.now());
        let machine = &self.machine;
        let (found, numbers) = (machine.found(), machine.numbers());
        update_meter(&self.context.meter, found, numbers, machine.failed());
        Ok(())
    }

    /// The link is gone: what was received is placed and committed, so that it need not come again.
    async fn drain(&mut self, arrived: &mut mpsc::Receiver<Input>) {
        self.net.abort_all();
        let end = tokio::time::Instant::now() + DRAIN;
        loop {
            let far = self.clock.now().plus_ms(10 * COMMIT_MS);
            self.machine.handle(TargetInput::Tick, far);
            if self.act().is_some() || self.awaited == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                input = arrived.recv() => match input {
                    Some(input @ (Input::Machine(_) | Input::Data(..))) => {
                        if self.take(Some(input)).is_err() {
                            return;
                        }
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    /// Content that was asked for and then not needed, of objects that failed or started over, may be
    /// under way still: it left, so it is counted.
    async fn await_stragglers(&mut self, arrived: &mut mpsc::Receiver<Input>) {
        let end = tokio::time::Instant::now() + STRAGGLERS;
        while !self.expected.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                input = arrived.recv() => match input {
                    Some(Input::Data(header, _)) => self.record(&header),
                    Some(Input::Lost(_)) | None => return,
                    Some(Input::Frame(_) | Input::Machine(_) | Input::Cut) => {}
                },
            }
        }
    }

    /// Waits until the files are left alone: someone else may open the staging area next.
    async fn finish(self, watch: &Mutex<Watch<L>>) {
        let Self { frames, checks, ledger, inputs, mut work, mut net, .. } = self;
        frames.flush().await;
        look(watch);
        net.abort_all();
        // Queues end when nobody can add to them; what was begun is finished.
        drop((checks, ledger, inputs));
        while work.join_next().await.is_some() {}
    }
}
