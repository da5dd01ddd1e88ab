//! What an earlier flow found on a path, and what a new one makes of it.
//!
//! Source: draft-ietf-tsvwg-careful-resume, "Convergence of Congestion Control from Retained State":
//! a flow whose path looks like a known one, and that has lost nothing so far, begins with half of
//! what the path carried before, spread over a round trip. If that is too much it loses what any
//! start loses that doubles once too often.

use std::sync::Arc;
use std::time::Duration;

use super::bbr::Bbr;
use super::congestion::Adaptive;
use super::session::{Member, Session, locked};

/// Share of what the path carried that is sent at once.
const SHARE: f64 = 0.5;
/// How much shorter or longer the round trip of the same path may be.
const RTT_FACTOR: f64 = 2.0;

/// A path as an earlier flow found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Bytes per second that it carried.
    pub bandwidth: u64,
    /// Its round trip without a queue.
    pub rtt: Duration,
}

impl Past {
    /// Bytes in flight to begin with, if the path of a flow with this round trip may be the same.
    pub(super) fn flight(&self, rtt: Duration) -> Option<u64> {
        let (then, now) = (self.rtt.as_secs_f64(), rtt.as_secs_f64());
        let alike = now <= then * RTT_FACTOR && then <= now * RTT_FACTOR;
        alike.then_some((SHARE * self.bandwidth as f64 * then.min(now)) as u64)
    }

    /// The path as what a session sent found it; `None` where too little was sent.
    pub(super) fn found(session: &Session) -> Option<Self> {
        let members = locked(&session.members);
        let (control, rest) = members.split_first()?;
        // Content is on the control connection where there is no other.
        let carriers = if rest.is_empty() { std::slice::from_ref(control) } else { rest };
        let of = |member: &Arc<Member>| {
            let followed = Adaptive::followed(&member.connection)?;
            followed.downcast::<Bbr>().ok().and_then(|bbr| bbr.found())
        };
        let found: Vec<Self> = carriers.iter().filter_map(of).collect();
        let rtt = found.iter().map(|past| past.rtt).min()?;
        Some(Self { bandwidth: found.iter().map(|past| past.bandwidth).sum(), rtt })
    }

    /// The part of one of `flows` that share the path.
    pub(super) fn of_one(self, flows: u64) -> Self {
        Self { bandwidth: self.bandwidth / flows.max(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_another_round_trip_is_another_path() {
        let past = Past { bandwidth: 1_000_000, rtt: Duration::from_millis(50) };
        let flight = |ms| past.flight(Duration::from_millis(ms));
        assert_eq!(
            [24, 25, 50, 100, 101].map(flight),
            [None, Some(12_500), Some(25_000), Some(25_000), None]
        );
    }
}
