//! The rival in the tests: CUBIC (RFC 9438), which most TCP senders use.

use std::time::Instant;

/// Multiplicative decrease, and growth in segments per second cubed (RFC 9438, sections 4.6 and 5).
const BETA: f64 = 0.7;
const C: f64 = 0.4;

/// The window of one flow.
pub(super) struct Cubic {
    mtu: f64,
    window: f64,
    threshold: f64,
    before: f64,
    began: Option<Instant>,
    recovery: Option<Instant>,
    rtt: f64,
    /// What Reno would have (section 4.3).
    reno: f64,
}

impl Cubic {
    pub(super) fn new(mtu: u16) -> Self {
        let mtu = f64::from(mtu);
        let window = 10.0 * mtu;
        Self {
            mtu,
            window,
            threshold: f64::INFINITY,
            before: 0.0,
            began: None,
            recovery: None,
            rtt: 0.1,
            reno: window,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    pub(super) fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.rtt = (now - sent).as_secs_f64();
        if self.recovery.is_some_and(|since| sent <= since) {
            return;
        }
        if self.window < self.threshold {
            self.window += bytes as f64;
            return;
        }
        let began = *self.began.get_or_insert(now);
        let t = (now - began).as_secs_f64();
        let k = ((self.before * (1.0 - BETA)) / self.mtu / C).cbrt();
        let target = (C * (t + self.rtt - k).powi(3)).mul_add(self.mtu, self.before);
        let alpha = 3.0 * (1.0 - BETA) / (1.0 + BETA);
        self.reno += alpha * self.mtu * bytes as f64 / self.window;
        let target = target.clamp(self.window, 1.5 * self.window);
        self.window += (target - self.window) / self.window * bytes as f64;
        self.window = self.window.max(self.reno);
    }

    pub(super) fn on_loss(&mut self, now: Instant, sent: Instant) {
        if self.recovery.is_some_and(|since| sent <= since) {
            return;
        }
        self.recovery = Some(now);
        self.began = None;
        self.before =
            if self.window < self.before { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(2.0 * self.mtu);
        self.threshold = self.window;
        self.reno = self.window;
    }
}
