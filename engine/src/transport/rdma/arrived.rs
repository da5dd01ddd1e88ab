//! What arrives over a session with rails: content that is carried, or waits to be pulled.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::driver::{Command, Commands};
use crate::buf::{Lease, Slab};
use crate::transport::{Incoming, Link, LinkError};

/// A data message that is carried, or waits to be pulled.
pub struct RdmaIncoming<L: Link> {
    content: Content<L>,
}

enum Content<L: Link> {
    Carried(L::Incoming, usize),
    Granted(Unread),
}

/// Content that the peer granted.
pub(super) struct Granted {
    pub(super) grant: u64,
    pub(super) rail: u8,
    pub(super) header: Bytes,
    pub(super) commands: Arc<Commands>,
    pub(super) slab: Slab,
}

/// A grant that goes back unless it is read.
struct Unread(Granted, bool);

impl Drop for Unread {
    fn drop(&mut self) {
        if !self.1 {
            self.0.commands.push(Command::Unread { grant: self.0.grant });
        }
    }
}

impl<L: Link> RdmaIncoming<L> {
    /// A message over the link below, whose header begins behind `skipped` bytes.
    pub(super) fn carried(inner: L::Incoming, skipped: usize) -> Self {
        Self { content: Content::Carried(inner, skipped) }
    }

    /// A message whose content is to be pulled.
    pub(super) fn granted(granted: Granted) -> Self {
        Self { content: Content::Granted(Unread(granted, false)) }
    }
}

impl<L: Link> Incoming for RdmaIncoming<L> {
    fn header(&self) -> &[u8] {
        match &self.content {
            Content::Carried(inner, skipped) => inner.header().get(*skipped..).unwrap_or_default(),
            Content::Granted(Unread(granted, _)) => &granted.header,
        }
    }

    fn path(&self) -> Option<u8> {
        match &self.content {
            Content::Carried(..) => None,
            Content::Granted(Unread(granted, _)) => Some(granted.rail),
        }
    }

    async fn read(self, lease: Lease) -> Result<(Lease, usize), LinkError> {
        let mut unread = match self.content {
            Content::Carried(inner, _) => return inner.read(lease).await,
            Content::Granted(unread) => unread,
        };
        let granted = &unread.0;
        if !granted.slab.holds(&lease) {
            let detail = "the lease is of a slab that no device knows".to_owned();
            return Err(LinkError::Protocol { detail });
        }
        let (done, read) = oneshot::channel();
        granted.commands.push(Command::Read { grant: granted.grant, lease, done });
        unread.1 = true;
        read.await.ok().flatten().ok_or(LinkError::Cut)
    }
}
