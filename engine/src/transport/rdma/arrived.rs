//! What arrives over a session with rails: content that is carried, or waits to be pulled.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::driver::{Command, Commands};
use super::message::Grant;
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
    pub(super) grant: Grant,
    pub(super) commands: Arc<Commands>,
    pub(super) slab: Slab,
}

/// A grant that goes back unless it is read.
struct Unread(Option<Granted>);

impl Drop for Unread {
    fn drop(&mut self) {
        if let Some(Granted { grant, commands, .. }) = self.0.take() {
            commands.push(Command::Unread { grant });
        }
    }
}

/// Most grants of the peer that are not done, and how far their numbers may lie apart.
const GRANTS_MAX: usize = 4096;

/// Numbers of grants that were taken: all below `below`, and those in `above`.
#[derive(Default)]
pub(super) struct Seen {
    below: u64,
    above: BTreeSet<u64>,
}

impl Seen {
    /// Whether the number is new; `None` if it is too far ahead.
    pub(super) fn take(&mut self, number: u64) -> Option<bool> {
        // Numbers begin at 1.
        let number = number.checked_sub(1)?;
        if number >= self.below + GRANTS_MAX as u64 {
            return None;
        }
        if number < self.below || !self.above.insert(number) {
            return Some(false);
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        Some(true)
    }
}

impl<L: Link> RdmaIncoming<L> {
    /// A message over the link below, whose header begins behind `skipped` bytes.
    pub(super) fn carried(inner: L::Incoming, skipped: usize) -> Self {
        Self { content: Content::Carried(inner, skipped) }
    }

    /// A message whose content is to be pulled.
    pub(super) fn granted(granted: Granted) -> Self {
        Self { content: Content::Granted(Unread(Some(granted))) }
    }
}

impl<L: Link> Incoming for RdmaIncoming<L> {
    fn header(&self) -> &[u8] {
        match &self.content {
            Content::Carried(inner, skipped) => inner.header().get(*skipped..).unwrap_or_default(),
            Content::Granted(Unread(granted)) => {
                granted.as_ref().map_or(&[], |granted| &granted.grant.header)
            }
        }
    }

    fn path(&self) -> Option<u8> {
        match &self.content {
            Content::Carried(..) => None,
            Content::Granted(Unread(granted)) => granted.as_ref().map(|it| it.grant.rail),
        }
    }

    async fn read(self, lease: Lease) -> Result<(Lease, usize), LinkError> {
        let mut unread = match self.content {
            Content::Carried(inner, _) => return inner.read(lease).await,
            Content::Granted(unread) => unread,
        };
        if !unread.0.as_ref().is_some_and(|granted| granted.slab.holds(&lease)) {
            let detail = "the lease is of a slab that no device knows".to_owned();
            return Err(LinkError::Protocol { detail });
        }
        let Some(Granted { grant, commands, .. }) = unread.0.take() else {
            return Err(LinkError::Cut);
        };
        let (done, read) = oneshot::channel();
        commands.push(Command::Read { grant, lease, done });
        read.await.ok().flatten().ok_or(LinkError::Cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_counts_once_in_any_order() {
        let mut seen = Seen::default();
        assert_eq!(
            [2, 1, 2, 1, 3].map(|n| seen.take(n)),
            [true, true, false, false, true].map(Some)
        );
        assert_eq!((seen.below, seen.above.len()), (3, 0));
        assert_eq!((seen.take(0), seen.take(4 + GRANTS_MAX as u64)), (None, None));
        assert_eq!(seen.take(3 + GRANTS_MAX as u64), Some(true));
    }
}
