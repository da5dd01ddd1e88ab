//! What a session takes of the wire, as its link counts it.

use crate::cost::Tariff;
use crate::transport::WireMeter;

/// Tells what a session's link has sent and received so far.
pub(super) type ReadWire = Box<dyn Fn() -> WireMeter + Send>;

/// The wire of one session, and how much of it is in the log.
pub(super) struct Wire {
    read: ReadWire,
    /// What this node pays for what it sends.
    tariff: Option<Tariff>,
    /// Bytes sent and received that are recorded.
    told: (u64, u64),
}

impl Wire {
    /// The wire that `read` tells of, none of it recorded yet.
    pub(super) fn new(read: ReadWire, tariff: Option<Tariff>) -> Self {
        Self { read, tariff, told: (0, 0) }
    }

    /// Bytes of IP packets sent and received so far.
    pub(super) fn now(&self) -> (u64, u64) {
        let meter = (self.read)();
        (meter.ip_sent, meter.ip_received)
    }

    /// Bytes sent and received that are recorded.
    pub(super) fn told(&self) -> (u64, u64) {
        self.told
    }

    /// Bytes sent and received since the last call, and what they are paid by; `None` for nothing.
    pub(super) fn take(&mut self) -> Option<(u64, u64, Option<Tariff>)> {
        let now = self.now();
        // A session of several connections may count one that ended a little later.
        let (sent, received) =
            (now.0.saturating_sub(self.told.0), now.1.saturating_sub(self.told.1));
        self.told = (self.told.0 + sent, self.told.1 + received);
        (sent > 0 || received > 0).then_some((sent, received, self.tariff))
    }
}
