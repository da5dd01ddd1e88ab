//! How the sending rate adapts to the path.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quinn::Connection;
use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use super::bbr::BbrConfig;
use super::past::Past;

/// A path whose round trip is shorter is within one building: its queues are short, it loses
/// little at random, and a model of its rate is coarser than what its losses tell.
const SHORT_PATH: Duration = Duration::from_millis(2);

/// Congestion control of what this node sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// `cubic` once a round trip was shorter than 2 ms, `bbr` until then.
    #[default]
    Auto,
    /// Loss-based (RFC 9438): fair to others; a loss rate of 0.1 % on a long path stalls it.
    Cubic,
    /// Model-based (BBR version 3): keeps its rate through random loss, and the queue short.
    Bbr,
}

/// Congestion control is `auto`, `cubic` or `bbr`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("congestion control is 'auto', 'cubic' or 'bbr'")]
pub struct ParseCongestionError;

impl FromStr for Congestion {
    type Err = ParseCongestionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cubic" => Ok(Self::Cubic),
            "bbr" => Ok(Self::Bbr),
            _ => Err(ParseCongestionError),
        }
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        })
    }
}

impl Congestion {
    /// Builds controllers for paths; `past` is what is known of the path, if it is one.
    pub(super) fn factory(self, past: Option<Past>) -> Arc<dyn ControllerFactory + Send + Sync> {
        let long = || Arc::new(BbrConfig { past });
        Arc::new(match self {
            Self::Auto => AdaptiveConfig { first: long(), short: Some(Arc::default()) },
            Self::Cubic => AdaptiveConfig { first: Arc::<CubicConfig>::default(), short: None },
            Self::Bbr => AdaptiveConfig { first: long(), short: None },
        })
    }
}

struct AdaptiveConfig {
    first: Arc<dyn ControllerFactory + Send + Sync>,
    short: Option<Arc<CubicConfig>>,
}

impl ControllerFactory for AdaptiveConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.first).build(now, mtu);
        Box::new(Adaptive { inner, short: self.short.clone(), mtu, closing: Arc::default() })
    }
}

/// A controller that gives way to another once the path proves to be short, and opens its window for the
/// end of the connection.
pub(super) struct Adaptive {
    inner: Box<dyn Controller>,
    /// Builds the other one; it is gone when that was done.
    short: Option<Arc<CubicConfig>>,
    mtu: u16,
    /// What all clones know: the connection is being closed.
    closing: Arc<AtomicBool>,
}

/// Closes a connection. While content waits for a full window, quinn lets the close wait for it too, and
/// a closed connection hears of no room: so the window opens first.
pub(super) fn close(connection: &Connection, code: quinn::VarInt, reason: &[u8]) {
    if let Some(adaptive) = Adaptive::of(connection) {
        adaptive.closing.store(true, Relaxed);
    }
    connection.close(code, reason);
}

impl Adaptive {
    /// A copy of what a connection has on its path.
    fn of(connection: &Connection) -> Option<Box<Self>> {
        connection.congestion_state().into_any().downcast().ok()
    }

    /// The controller that a connection follows now.
    pub(super) fn followed(connection: &Connection) -> Option<Box<dyn Any>> {
        Self::of(connection).map(|adaptive| adaptive.inner.into_any())
    }

    fn measured(&mut self, now: Instant, rtt: Duration) {
        if rtt < SHORT_PATH
            && let Some(short) = self.short.take()
        {
            self.inner = short.build(now, self.mtu);
        }
    }
}

impl Controller for Adaptive {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.measured(now, rtt.min());
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.closing.load(Relaxed) { u64::MAX } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (short, mtu, closing) = (self.short.clone(), self.mtu, Arc::clone(&self.closing));
        Box::new(Self { inner: self.inner.clone_box(), short, mtu, closing })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use quinn::congestion::Cubic;

    use super::super::bbr::Bbr;
    use super::*;

    fn auto() -> Adaptive {
        let built = Congestion::Auto.factory(None).build(Instant::now(), 1200);
        *built.into_any().downcast().expect("it adapts")
    }

    #[test]
    fn a_long_path_keeps_the_model_and_a_short_one_takes_losses() {
        let (mut long, now) = (auto(), Instant::now());
        long.measured(now, Duration::from_millis(30));
        assert!(long.inner.clone_box().into_any().is::<Bbr>());
        long.measured(now, Duration::from_micros(300));
        long.on_mtu_update(8952);
        assert!(long.inner.into_any().is::<Cubic>());
    }

    #[test]
    fn what_was_chosen_stays() {
        let (mut path, now) = (auto(), Instant::now());
        path.measured(now, Duration::from_micros(300));
        let window = path.window();
        path.on_congestion_event(now, now, false, 1200);
        assert!(path.window() < window);
        let less = path.window();
        path.measured(now, Duration::from_micros(200));
        assert_eq!(path.window(), less, "it does not begin anew");
    }

    #[test]
    fn names_are_read_back() {
        for congestion in [Congestion::Auto, Congestion::Cubic, Congestion::Bbr] {
            assert_eq!(congestion.to_string().parse(), Ok(congestion));
        }
        assert_eq!("reno".parse::<Congestion>(), Err(ParseCongestionError));
    }
}
