//! Caps on what a session sends: its content is held back, what else it sends is counted.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::session::locked;
use crate::transport::Paces;

/// What waits in buffers of a session that yields to others, in bytes, and how often that is looked at:
/// enough for some gigabits per second.
const UNSENT_BYTES_MAX: u64 = 1 << 20;
const UNSENT_LOOK: Duration = Duration::from_millis(1);

/// The caps of a session.
#[derive(Default)]
pub(super) struct Caps {
    paces: OnceLock<Paces>,
    /// Messages that wait for their turn.
    waiting: AtomicUsize,
    /// What the session may have sent by now, in bytes of the wire; `None` before the first one.
    booked: Mutex<Option<u64>>,
    /// What the session will have sent when all that was handed over has left, in bytes.
    handed: Mutex<u64>,
}

impl Caps {
    /// Sets them, once.
    pub(super) fn set(&self, paces: Paces) {
        let _ = self.paces.set(paces);
    }

    pub(super) fn paces(&self) -> &Paces {
        static NONE: OnceLock<Paces> = OnceLock::new();
        self.paces.get().unwrap_or_else(|| NONE.get_or_init(Paces::default))
    }

    /// Whether a cap holds content back now.
    pub(super) fn holds(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// No cap holds now: what is sent meanwhile is not paid for later.
    pub(super) fn rest(&self) {
        *locked(&self.booked) = None;
    }

    /// Where a cap may begin at any time, returns when little waits to leave of what was handed over
    /// before these `bytes`: what waits in buffers no cap can hold. `sent` tells what the session has sent.
    pub(super) async fn keep_little_waiting(&self, bytes: u64, sent: impl Fn() -> u64) {
        if self.paces().is_empty() {
            return;
        }
        loop {
            let now = sent();
            {
                let mut handed = locked(&self.handed);
                *handed = (*handed).max(now);
                if *handed - now <= UNSENT_BYTES_MAX {
                    *handed += bytes;
                    return;
                }
            }
            tokio::time::sleep(UNSENT_LOOK).await;
        }
    }

    /// Returns when `bytes` of content may leave; `sent` is what the session has sent, in all.
    pub(super) async fn pass(&self, bytes: u64, sent: u64) {
        let due = owed(&mut locked(&self.booked), bytes, sent);
        self.waiting.fetch_add(1, Relaxed);
        let _waits = Waits(&self.waiting);
        self.paces().pass(due).await;
    }
}

/// Books `bytes` of content, and what was sent without having been booked: headers, probes, what
/// was sent again, and what lay in buffers when the cap began. Of that as much at a time as there is
/// content: all of it at once would wait at a rate that may be another one soon.
fn owed(booked: &mut Option<u64>, bytes: u64, sent: u64) -> u64 {
    let before = booked.get_or_insert(sent);
    let owed = bytes + sent.saturating_sub(*before).min(bytes);
    *before += owed;
    owed
}

/// Counts a message as waiting for as long as this lives.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_without_a_booking_is_paid_for_next() {
        let (mut booked, mut sent, mut paid) = (None, 5000, 0);
        for _ in 0..100 {
            paid += owed(&mut booked, 1000, sent);
            sent += 1250;
        }
        assert_eq!(paid, (sent - 5000) - 250, "all but what the last one took besides");
        // What still waits in buffers was booked, and is not paid for again when it leaves.
        assert_eq!(owed(&mut booked, 10_000, sent), 10_250);
        assert_eq!(owed(&mut booked, 1000, sent + 10_000), 1000);
    }

    #[test]
    fn what_lay_in_buffers_when_a_cap_began_is_paid_for_by_and_by() {
        let (mut booked, mut sent) = (Some(0), 5000);
        let mut paid = Vec::new();
        for _ in 0..8 {
            paid.push(owed(&mut booked, 1000, sent));
            sent += 1000;
        }
        assert_eq!(paid, [2000, 2000, 2000, 2000, 2000, 1000, 1000, 1000]);
    }
}
