//! A queue pair, reliable and connected.

use std::io;
use std::ptr::null_mut;
use std::sync::Arc;

use rdma_sys::{
    bind_mw_t, ibv_access_flags, ibv_ah_attr, ibv_mr, ibv_mtu, ibv_mw, ibv_mw_bind_info, ibv_qp,
    ibv_qp_attr, ibv_qp_attr_mask as Mask, ibv_qp_init_attr, ibv_qp_state, ibv_qp_type,
    ibv_recv_wr, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode, rdma_t,
};

use super::completion::CompletionQueue;
use super::device::refused;
use super::domain::Domain;
use super::library::{Handle, Plain};
use crate::transport::rdma::{QpAddress, RailError};

/// Time to wait for an answer before a packet is sent again, as a power of two of 4.096
/// microseconds, and how often it is sent again. 67 ms and 6 times: a silent peer is given up after
/// half a second to two, as devices take the time.
pub(super) const PATIENCE: (u8, u8) = (14, 6);
/// The same for soft-RoCE: 537 ms and 4 times, 2.7 s. Its clock does not stand still while answers
/// arrive, so what waits behind a few MiB is asked for again and again where the time is short. It
/// takes the 7 times that are the most for "for ever" (both seen with `rdma_rxe` of Linux 6.1).
pub(super) const PATIENCE_SOFTWARE: (u8, u8) = (17, 4);
/// How often to wait for a peer that has no receive posted: not at all where nobody posts receives
/// and no request wants one, and for ever (7) where measurements do.
const RETRIES_NOT_READY: (u8, u8) = (0, 7);
/// How long a peer is to wait that found no receive posted, by the table of the specification: 0.01
/// and 0.64 ms.
const TIMER_NOT_READY: (u8, u8) = (1, 12);
/// Place in the table of partition keys: that of the default partition.
const PARTITION: u16 = 0;

// SAFETY: pointers and plain numbers.
unsafe impl Plain for ibv_qp_init_attr {}
// SAFETY: plain numbers, and structures of them.
unsafe impl Plain for ibv_qp_attr {}
// SAFETY: pointers, plain numbers and unions of both.
unsafe impl Plain for ibv_send_wr {}
// SAFETY: pointers and plain numbers.
unsafe impl Plain for ibv_recv_wr {}

/// Something to be done by a queue pair.
#[derive(Clone, Copy)]
pub(super) struct Request {
    /// Comes back with the completion.
    pub(super) number: u64,
    /// What.
    pub(super) work: Work,
}

/// What a queue pair can be asked for.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// READ of `len` bytes from the peer's `remote` to `local`.
    Read { local: u64, len: u32, lkey: u32, remote: u64, rkey: u32 },
    /// WRITE of `len` bytes from `local` to the peer's `remote`; only where that is measured.
    Write { local: u64, len: u32, lkey: u32, remote: u64, rkey: u32 },
    /// SEND of `len` bytes from `local`; only where that is measured.
    Send { local: u64, len: u32, lkey: u32 },
    /// Binds a window to a part of a region, with a new key.
    Bind { window: Handle<ibv_mw>, region: Handle<ibv_mr>, base: u64, len: u64, rkey: u32 },
    /// Frees the window that has this key.
    Invalidate { rkey: u32 },
}

/// What a queue pair has room for, and what its peer may do.
pub(super) struct Shape {
    /// Requests under way.
    pub(super) requests: usize,
    /// Receives that are posted.
    pub(super) receives: usize,
    /// Rights of the peer.
    pub(super) access: ibv_access_flags,
}

impl Shape {
    /// That of transfers: the peer may read, and nothing else ever.
    pub(super) fn of_transfers(requests: usize) -> Self {
        // No receive is ever posted, but some providers want room for one.
        Self { requests, receives: 1, access: ibv_access_flags::IBV_ACCESS_REMOTE_READ }
    }
}

/// A queue pair.
pub(super) struct QueuePair {
    raw: Handle<ibv_qp>,
    queue: Arc<CompletionQueue>,
    domain: Arc<Domain>,
    port: u8,
    psn: u32,
    destroyed: bool,
}

/// How a queue pair is connected.
pub(super) struct Connection {
    /// The peer's queue pair.
    pub(super) peer: QpAddress,
    /// The way there.
    pub(super) address: ibv_ah_attr,
    /// Largest payload of a packet.
    pub(super) mtu: ibv_mtu::Type,
    /// READs under way at once, each way.
    pub(super) reads: u8,
    /// When to send again and how often: `PATIENCE` or `PATIENCE_SOFTWARE`.
    pub(super) patience: (u8, u8),
    /// Whether requests want receives, which the peer posts.
    pub(super) receives: bool,
}

impl QueuePair {
    /// A queue pair that cannot be used before it is connected.
    pub(super) fn new(
        domain: &Arc<Domain>,
        queue: &Arc<CompletionQueue>,
        port: u8,
        shape: &Shape,
        psn: u32,
    ) -> Result<Self, RailError> {
        let mut attributes = ibv_qp_init_attr::zeroed();
        attributes.send_cq = queue.raw();
        attributes.recv_cq = queue.raw();
        attributes.qp_type = ibv_qp_type::IBV_QPT_RC;
        attributes.cap.max_send_wr = u32::try_from(shape.requests).unwrap_or(u32::MAX);
        attributes.cap.max_send_sge = 1;
        attributes.cap.max_recv_wr = u32::try_from(shape.receives).unwrap_or(u32::MAX);
        attributes.cap.max_recv_sge = 1;
        let library = domain.context.library;
        // SAFETY: a domain and a completion queue of one device, which the queue pair keeps.
        let raw = unsafe { (library.ibv_create_qp)(domain.raw(), &raw mut attributes) };
        let raw = Handle::new(raw).ok_or_else(|| {
            let what = format!("cannot make a queue pair at {}", domain.context.name());
            refused(what, &io::Error::last_os_error())
        })?;
        let (queue, domain) = (Arc::clone(queue), Arc::clone(domain));
        let pair = Self { raw, queue, domain, port, psn, destroyed: false };
        pair.begin(shape.access)?;
        Ok(pair)
    }

    /// The queue pair as its peer knows it.
    pub(super) fn address(&self) -> QpAddress {
        // SAFETY: a queue pair that exists; its number does not change.
        let number = unsafe { (*self.raw.raw()).qp_num };
        QpAddress { number, psn: self.psn }
    }

    fn begin(&self, access: ibv_access_flags) -> Result<(), RailError> {
        let mut attributes = ibv_qp_attr::zeroed();
        attributes.qp_state = ibv_qp_state::IBV_QPS_INIT;
        attributes.pkey_index = PARTITION;
        attributes.port_num = self.port;
        // All that a peer may ever do.
        attributes.qp_access_flags = access.0;
        let mask = Mask::IBV_QP_STATE
            | Mask::IBV_QP_PKEY_INDEX
            | Mask::IBV_QP_PORT
            | Mask::IBV_QP_ACCESS_FLAGS;
        self.modify(&mut attributes, mask, "set up a queue pair")
    }

    /// Connects the queue pair, both directions.
    pub(super) fn connect(&self, connection: &Connection) -> Result<(), RailError> {
        let of = |(without, with)| if connection.receives { with } else { without };
        let mut attributes = ibv_qp_attr::zeroed();
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTR;
        attributes.ah_attr = connection.address;
        attributes.path_mtu = connection.mtu;
        attributes.dest_qp_num = connection.peer.number;
        attributes.rq_psn = connection.peer.psn;
        attributes.max_dest_rd_atomic = connection.reads;
        // Is sent where a receive is missing.
        attributes.min_rnr_timer = of(TIMER_NOT_READY);
        let mask = Mask::IBV_QP_STATE
            | Mask::IBV_QP_AV
            | Mask::IBV_QP_PATH_MTU
            | Mask::IBV_QP_DEST_QPN
            | Mask::IBV_QP_RQ_PSN
            | Mask::IBV_QP_MAX_DEST_RD_ATOMIC
            | Mask::IBV_QP_MIN_RNR_TIMER;
        self.modify(&mut attributes, mask, "connect a queue pair (the peer's address)")?;
        let mut attributes = ibv_qp_attr::zeroed();
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTS;
        attributes.timeout = connection.patience.0;
        attributes.retry_cnt = connection.patience.1;
        attributes.rnr_retry = of(RETRIES_NOT_READY);
        attributes.sq_psn = self.psn;
        attributes.max_rd_atomic = connection.reads;
        let mask = Mask::IBV_QP_STATE
            | Mask::IBV_QP_TIMEOUT
            | Mask::IBV_QP_RETRY_CNT
            | Mask::IBV_QP_RNR_RETRY
            | Mask::IBV_QP_SQ_PSN
            | Mask::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(&mut attributes, mask, "connect a queue pair")
    }

    /// Makes the queue pair fail: it answers nothing more, and what was posted is flushed.
    pub(super) fn fail(&self) {
        let mut attributes = ibv_qp_attr::zeroed();
        attributes.qp_state = ibv_qp_state::IBV_QPS_ERR;
        // A queue pair that refuses is destroyed next all the same.
        let _ = self.modify(&mut attributes, Mask::IBV_QP_STATE, "stop a queue pair");
    }

    fn modify(
        &self,
        attributes: &mut ibv_qp_attr,
        mask: Mask,
        what: &str,
    ) -> Result<(), RailError> {
        let context = &self.domain.context;
        let mask = mask.0.cast_signed();
        // SAFETY: a queue pair that exists, and a structure of the right type.
        let code = unsafe { (context.library.ibv_modify_qp)(self.raw.raw(), attributes, mask) };
        if code == 0 {
            return Ok(());
        }
        let error = match code {
            1.. => io::Error::from_raw_os_error(code),
            _ => io::Error::last_os_error(),
        };
        Err(refused(format!("cannot {what} at {}", context.name()), &error))
    }

    /// Posts requests in order. Gives how many the device took, and its error if not all.
    ///
    /// # Safety
    /// The memory that a request names stays, and nobody else uses that of a READ, until the
    /// request has completed or the queue pair is destroyed.
    pub(super) unsafe fn post(&self, requests: &[Request]) -> (usize, Result<(), RailError>) {
        let context = &self.domain.context;
        let mut pieces: Vec<ibv_sge> = requests.iter().map(piece).collect();
        let mut chain: Vec<ibv_send_wr> =
            requests.iter().zip(&mut pieces).map(|(request, piece)| wr(request, piece)).collect();
        let first = chain.as_mut_ptr();
        for place in 1..chain.len() {
            let next = first.wrapping_add(place);
            if let Some(before) = chain.get_mut(place - 1) {
                before.next = next;
            }
        }
        let Some(post) = context.ops.post_send.filter(|_| !chain.is_empty()) else {
            return (0, Ok(()));
        };
        let mut bad: *mut ibv_send_wr = null_mut();
        let first = chain.as_mut_ptr();
        // SAFETY: a queue pair of the device that the function is of. The chain and its pieces
        // live until the call returns, and the caller keeps the memory.
        let code = unsafe { post(self.raw.raw(), first, &raw mut bad) };
        if code == 0 {
            return (requests.len(), Ok(()));
        }
        // Without a first one that was not taken, all may have been.
        let taken = (bad as usize).wrapping_sub(first as usize) / size_of::<ibv_send_wr>();
        let error = io::Error::from_raw_os_error(code.abs());
        let what = format!("{} did not take a request", context.name());
        (taken.min(requests.len()), Err(refused(what, &error)))
    }

    /// Posts a receive of up to `len` bytes into `local`.
    ///
    /// # Safety
    /// The memory stays, and nobody else uses it, until the receive has completed or the queue pair
    /// is destroyed.
    pub(super) unsafe fn receive(
        &self,
        number: u64,
        local: u64,
        len: u32,
        lkey: u32,
    ) -> Result<(), RailError> {
        let context = &self.domain.context;
        let mut piece = ibv_sge { addr: local, length: len, lkey };
        let mut wr = ibv_recv_wr::zeroed();
        (wr.wr_id, wr.sg_list, wr.num_sge) = (number, &raw mut piece, 1);
        let refuses = || RailError::new(format!("{} took no receive", context.name()));
        let post = context.ops.post_recv.ok_or_else(refuses)?;
        let mut bad: *mut ibv_recv_wr = null_mut();
        // SAFETY: a queue pair of the device that the function is of. The request and its piece
        // live until the call returns, and the caller keeps the memory.
        match unsafe { post(self.raw.raw(), &raw mut wr, &raw mut bad) } {
            0 => Ok(()),
            _ => Err(refuses()),
        }
    }

    /// Destroys the queue pair. After `true` the device touches no memory for it.
    pub(super) fn destroy(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        if std::mem::replace(&mut self.destroyed, true) {
            return true;
        }
        let context = &self.domain.context;
        // SAFETY: a queue pair that exists, destroyed once.
        let code = unsafe { (context.library.ibv_destroy_qp)(self.raw.raw()) };
        if code != 0 {
            // It lives on with what it uses.
            tracing::warn!(device = context.name(), code, "a queue pair stays behind");
            std::mem::forget((Arc::clone(&self.queue), Arc::clone(&self.domain)));
        }
        code == 0
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        self.end();
    }
}

fn piece(request: &Request) -> ibv_sge {
    match request.work {
        Work::Read { local, len, lkey, .. }
        | Work::Write { local, len, lkey, .. }
        | Work::Send { local, len, lkey } => ibv_sge { addr: local, length: len, lkey },
        Work::Bind { .. } | Work::Invalidate { .. } => ibv_sge { addr: 0, length: 0, lkey: 0 },
    }
}

fn wr(request: &Request, piece: &mut ibv_sge) -> ibv_send_wr {
    let mut wr = ibv_send_wr::zeroed();
    wr.wr_id = request.number;
    wr.send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
    match request.work {
        Work::Read { remote, rkey, .. } | Work::Write { remote, rkey, .. } => {
            wr.opcode = match request.work {
                Work::Write { .. } => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
                _ => ibv_wr_opcode::IBV_WR_RDMA_READ,
            };
            (wr.sg_list, wr.num_sge) = (piece, 1);
            wr.wr.rdma = rdma_t { remote_addr: remote, rkey };
        }
        Work::Send { .. } => {
            wr.opcode = ibv_wr_opcode::IBV_WR_SEND;
            (wr.sg_list, wr.num_sge) = (piece, 1);
        }
        Work::Bind { window, region, base, len, rkey } => {
            wr.opcode = ibv_wr_opcode::IBV_WR_BIND_MW;
            let bind_info = ibv_mw_bind_info {
                mr: region.raw(),
                addr: base,
                length: len,
                mw_access_flags: ibv_access_flags::IBV_ACCESS_REMOTE_READ.0,
            };
            wr.bind_mw_tso_union.bind_mw = bind_mw_t { mw: window.raw(), rkey, bind_info };
        }
        Work::Invalidate { rkey } => {
            wr.opcode = ibv_wr_opcode::IBV_WR_LOCAL_INV;
            wr.imm_data_invalidated_rkey_union.invalidated_rkey = rkey;
        }
    }
    wr
}
