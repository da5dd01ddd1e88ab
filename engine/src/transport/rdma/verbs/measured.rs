//! A port of a device that is open to be measured: READ, WRITE and SEND between memory that nothing
//! else uses.
//!
//! Transfers never use it: here a peer can write, to the lease of each queue pair and nowhere else.

use std::sync::Arc;

use rdma_sys::{ibv_access_flags, ibv_wc_status};

use super::address::{address, path_mtu};
use super::completion::{Channel, CompletionQueue, Done};
use super::device::{Context, Limits};
use super::domain::Domain;
use super::pair::{Connection, PATIENCE, PATIENCE_SOFTWARE, QueuePair, Request, Shape, Work};
use super::rail::{PSN, random};
use super::region::{Region, Use};
use super::status::status_words;
use crate::buf::{Lease, Slab};
use crate::transport::rdma::{Endpoint, Operation, Plan, PortInfo, QpAddress, RailError, Role};

/// Sets apart the numbers of receives: the rest of a number is the place of the queue pair.
const RECEIVE: u64 = 1 << 32;

/// Receives that are posted in a queue pair, at least: as perftest has them. Twice the messages under
/// way would do if the processor were always there to post the next one.
const RECEIVES_MIN: usize = 512;

/// A queue pair with its memory.
///
/// Fields are dropped in this order: the device has let go of the lease before it goes back.
struct Line {
    qp: QueuePair,
    region: Region,
    /// Nobody looks at it before the queue pair is gone.
    lease: Lease,
    /// Address of the first byte of the lease.
    base: u64,
    /// The peer's memory.
    remote: Option<Endpoint>,
}

/// A port that is open to be measured.
pub struct MeasuredPort {
    lines: Vec<Line>,
    plan: Option<(Plan, Role)>,
    queue: Option<Arc<CompletionQueue>>,
    channel: Arc<Channel>,
    domain: Arc<Domain>,
    context: Arc<Context>,
    slab: Slab,
    port: PortInfo,
    limits: Limits,
    patience: (u8, u8),
}

impl MeasuredPort {
    /// Opens a port; see [`SystemVerbs::open_measured`](super::SystemVerbs::open_measured).
    pub(super) fn open(
        context: Arc<Context>,
        port: &PortInfo,
        slab: &Slab,
        software: bool,
    ) -> Result<Self, RailError> {
        Ok(Self {
            lines: Vec::new(),
            plan: None,
            queue: None,
            channel: Channel::new(&context)?,
            domain: Domain::new(&context)?,
            limits: context.limits()?,
            context,
            slab: slab.clone(),
            port: port.clone(),
            patience: if software { PATIENCE_SOFTWARE } else { PATIENCE },
        })
    }

    /// Makes the queue pairs of a plan, each with a lease of the slab that `fill` gives its content.
    /// Those that were there are destroyed first.
    ///
    /// # Errors
    /// The plan is out of bounds or more than the device has, the slab has too few leases, or the
    /// device refuses.
    pub fn create(
        &mut self,
        plan: &Plan,
        role: Role,
        fill: impl Fn(&mut [u8]),
    ) -> Result<Vec<Endpoint>, RailError> {
        self.destroy();
        plan.check()?;
        let name = self.context.name();
        // Completions of what is sent, or received.
        let shape = shape(plan, role);
        let room = shape.requests.max(shape.receives);
        let entries = plan.queue_pairs * room;
        if room > self.limits.requests || entries > self.limits.completions {
            let text = format!("{name} has no room for so many messages under way");
            return Err(RailError::new(text));
        }
        let queue = CompletionQueue::new(&self.channel, entries)?;
        for _ in 0..plan.queue_pairs {
            let lease = self.slab.try_lease();
            let mut lease = lease.ok_or_else(|| RailError::new("the slab has too few leases"))?;
            lease.align_to(0);
            fill(&mut lease);
            let start = lease.as_ptr() as usize;
            let range = start..start + lease.len();
            let region = Region::new(&self.domain, &self.slab, range, memory(plan, role))?;
            let qp = QueuePair::new(&self.domain, &queue, self.port.port, &shape, random()? & PSN)?;
            self.lines.push(Line { qp, region, lease, base: start as u64, remote: None });
        }
        self.queue = Some(queue);
        self.plan = Some((*plan, role));
        let endpoint = |line: &Line| Endpoint {
            pair: line.qp.address(),
            base: line.base,
            rkey: line.region.rkey(),
        };
        Ok(self.lines.iter().map(endpoint).collect())
    }

    /// Connects the queue pairs to those of the peer's port, one to one. The end that answers a SEND
    /// is ready to receive when this returns.
    ///
    /// # Errors
    /// The device refuses the address, or the numbers of queue pairs differ.
    pub fn connect(&mut self, peer: &PortInfo, endpoints: &[Endpoint]) -> Result<(), RailError> {
        let Some((plan, role)) = self.plan.filter(|_| endpoints.len() == self.lines.len()) else {
            return Err(RailError::new("both ends of a measurement need as many queue pairs"));
        };
        let reads = self.port.reads_max.min(peer.reads_max).min(self.limits.reads);
        let (address, mtu) = (address(&self.port, peer)?, path_mtu(&self.port, peer)?);
        let (patience, receives) = (self.patience, plan.operation == Operation::Send);
        for (line, there) in self.lines.iter_mut().zip(endpoints) {
            let pair = QpAddress { number: there.pair.number & PSN, psn: there.pair.psn & PSN };
            let connection = Connection { peer: pair, address, mtu, reads, patience, receives };
            line.qp.connect(&connection)?;
            line.remote = Some(*there);
        }
        if receives && role == Role::Answers {
            for pair in 0..self.lines.len() {
                (0..receives_of(&plan)).try_for_each(|_| self.receive(pair))?;
            }
        }
        Ok(())
    }

    /// Posts one message of the plan, and tells the device at once. There may be as many under way
    /// as the plan's depth.
    ///
    /// # Errors
    /// There is no such queue pair, it is not connected, or the device refuses.
    pub fn post(&mut self, pair: usize) -> Result<(), RailError> {
        let line = self.lines.get(pair);
        let (Some(line), Some((plan, Role::Asks))) = (line, self.plan) else {
            return Err(RailError::new(format!("there is no queue pair {pair} that asks")));
        };
        let Some(Endpoint { base: remote, rkey, .. }) = line.remote else {
            return Err(RailError::new(format!("queue pair {pair} is not connected")));
        };
        let (local, len, lkey) = (line.base, plan.bytes as u32, line.region.lkey());
        let work = match plan.operation {
            Operation::Read => Work::Read { local, len, lkey, remote, rkey },
            Operation::Write => Work::Write { local, len, lkey, remote, rkey },
            Operation::Send => Work::Send { local, len, lkey },
        };
        // SAFETY: the line keeps its lease until the queue pair is gone.
        unsafe { line.qp.post(&[Request { number: pair as u64, work }]) }.1
    }

    fn receive(&self, pair: usize) -> Result<(), RailError> {
        let (Some(line), Some((plan, _))) = (self.lines.get(pair), self.plan) else {
            return Err(RailError::new(format!("there is no queue pair {pair}")));
        };
        let number = RECEIVE | pair as u64;
        // SAFETY: the line keeps its lease until the queue pair is gone.
        unsafe { line.qp.receive(number, line.base, plan.bytes as u32, line.region.lkey()) }
    }

    /// Calls `each` with the queue pair of every message that is over since the last call; a receive
    /// is posted again.
    ///
    /// # Errors
    /// A message failed, or the completion queue did.
    pub fn poll(&mut self, mut each: impl FnMut(usize)) -> Result<(), RailError> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let mut result = Ok(());
        queue.poll(|Done { number, status, vendor }| {
            let pair = (number & !RECEIVE) as usize;
            if status != ibv_wc_status::IBV_WC_SUCCESS {
                result = Err(RailError::new(status_words(status, vendor)));
                return;
            }
            if number & RECEIVE != 0
                && let Err(error) = self.receive(pair)
            {
                result = Err(error);
            }
            each(pair);
        })?;
        result
    }

    /// Destroys the queue pairs; gives the memory of each, which no device touches any more. A queue
    /// pair that the device keeps has its memory for good, and is left out.
    pub fn destroy(&mut self) -> Vec<Lease> {
        self.lines.iter().for_each(|line| line.qp.fail());
        let mut leases = Vec::new();
        for Line { qp, mut region, lease, .. } in self.lines.drain(..) {
            if qp.destroy() && region.deregister().is_ok() {
                leases.push(lease);
            } else {
                std::mem::forget((region, lease));
            }
        }
        (self.queue, self.plan) = (None, None);
        leases
    }
}

impl Drop for MeasuredPort {
    fn drop(&mut self) {
        self.destroy();
    }
}

/// What the memory of a queue pair is for.
fn memory(plan: &Plan, role: Role) -> Use {
    match (role, plan.operation) {
        (Role::Asks, _) | (_, Operation::Send) => Use::Local,
        (Role::Answers, Operation::Read) => Use::RemoteRead,
        (Role::Answers, Operation::Write) => Use::Measured,
    }
}

/// Receives that are posted in a queue pair.
fn receives_of(plan: &Plan) -> usize {
    RECEIVES_MIN.max(2 * plan.depth)
}

/// Room of a queue pair, and what its peer may do.
fn shape(plan: &Plan, role: Role) -> Shape {
    let none = ibv_access_flags(0);
    let (requests, receives, access) = match (role, plan.operation) {
        (Role::Asks, _) => (plan.depth, 1, none),
        (Role::Answers, Operation::Read) => (1, 1, ibv_access_flags::IBV_ACCESS_REMOTE_READ),
        (Role::Answers, Operation::Write) => (1, 1, ibv_access_flags::IBV_ACCESS_REMOTE_WRITE),
        (Role::Answers, Operation::Send) => (1, receives_of(plan), none),
    };
    Shape { requests, receives, access }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The audit of rights: a peer may do what is measured, and nothing to the end that asks.
    #[test]
    fn a_peer_has_the_right_that_is_measured_and_no_other() {
        let plan = |operation| Plan { operation, queue_pairs: 1, depth: 8, bytes: 1 };
        for (operation, rights, what_for) in [
            (Operation::Read, ibv_access_flags::IBV_ACCESS_REMOTE_READ.0, Use::RemoteRead),
            (Operation::Write, ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0, Use::Measured),
            (Operation::Send, 0, Use::Local),
        ] {
            let plan = plan(operation);
            assert_eq!(shape(&plan, Role::Answers).access.0, rights);
            assert_eq!(memory(&plan, Role::Answers), what_for);
            assert_eq!(shape(&plan, Role::Asks).access.0, 0);
            assert_eq!(memory(&plan, Role::Asks), Use::Local);
        }
        assert_eq!(shape(&plan(Operation::Send), Role::Answers).receives, 512);
    }
}
