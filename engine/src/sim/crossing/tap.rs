//! A wire that somebody listens to.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::base::limits::LEASE_BYTES;
use crate::transport::{DATA_HEADER_BYTES_MAX, Link, LinkError, MemoryIncoming, Peer, WireMeter};

/// What each block of content ends with.
const MARK: [u8; 8] = *b"\xc4nary\xf1\x0b\x99";
/// Bytes of a block.
const BLOCK: usize = 16;

/// Content that can be told wherever a part of it appears.
pub(super) fn content(canary: u64) -> Vec<u8> {
    let blocks = 3 + (canary.wrapping_mul(0x9e37_79b9) >> 7) as usize % 40;
    (0..blocks).flat_map(|_| canary.to_le_bytes().into_iter().chain(MARK)).collect()
}

/// The canaries in some bytes, wherever they begin.
pub(super) fn canaries(bytes: &[u8]) -> BTreeSet<u64> {
    let marks = bytes.windows(BLOCK).filter(|window| window[8..] == MARK);
    marks.map(|window| u64::from_le_bytes(window[..8].try_into().unwrap_or_default())).collect()
}

/// One end of a session, whose data messages go to whoever listens.
#[derive(Clone)]
pub(super) struct Tap {
    peer: Peer,
    heard: Arc<Mutex<Vec<Bytes>>>,
}

impl Tap {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, heard: Arc::default() }
    }

    /// Content that went over the wire since it was asked last.
    pub(super) fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Link for Tap {
    type Incoming = MemoryIncoming;
    const HEADER_BYTES_MAX: usize = DATA_HEADER_BYTES_MAX;

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn name(&self) -> &'static str {
        "tap"
    }

    async fn send(&self, _frame: Bytes) -> Result<(), LinkError> {
        Ok(())
    }

    async fn recv(&self) -> Result<Bytes, LinkError> {
        Err(LinkError::Local)
    }

    async fn send_data(&self, _header: Bytes, content: Vec<Bytes>) -> Result<(), LinkError> {
        debug_assert!(content.iter().map(Bytes::len).sum::<usize>() <= LEASE_BYTES);
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(content.concat().into());
        Ok(())
    }

    async fn recv_data(&self) -> Result<MemoryIncoming, LinkError> {
        Err(LinkError::Local)
    }

    fn meter(&self) -> WireMeter {
        WireMeter::default()
    }

    async fn close(&self, _reason: &str) {}
}
