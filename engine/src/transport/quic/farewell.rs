//! The end of a session, by the end that has nothing more to say.

use std::time::Duration;

use quinn::{Connection, Endpoint};
use tokio::time::{sleep, timeout};

use super::error::{Code, clipped};
use super::session::{Session, locked};

/// Longest that a close waits until the peer has everything that was sent before.
const DELIVERY_MS: u64 = 2_000;
/// Longest that a close waits until the peer knows of it.
const FAREWELL_MS: u64 = 1_000;
/// How often is looked whether the peer has answered the end of a connection.
const ANSWER_LOOK: Duration = Duration::from_millis(1);

impl Session {
    /// Waits until the peer has all content that was sent, or nothing more can be delivered.
    pub(super) async fn delivered(&self) {
        let mut undelivered = self.undelivered.subscribe();
        let _ = undelivered.wait_for(|count| *count == 0).await;
    }

    /// Delivers what was sent, within a bound, and closes with a reason.
    pub(super) async fn close(&self, reason: &str) {
        drop(locked(&self.frames_out).take());
        let writer = locked(&self.writer).take();
        let delivered = async {
            if let Some(writer) = writer {
                let _ = writer.await;
            }
            self.delivered().await;
        };
        tokio::select! {
            _ = timeout(Duration::from_millis(DELIVERY_MS), delivered) => {}
            _ = self.fate.control.closed() => {}
        }
        self.close_all(Code::Done, clipped(reason));
        let dialled: Vec<(Connection, Endpoint)> = locked(&self.members)
            .iter()
            .filter_map(|it| Some((it.connection.clone(), it.dialled.as_ref()?.0.clone())))
            .collect();
        // The peer answers the end of a connection with its own. A lost one is said again as long
        // as the peer sends: three timeouts long, then the connection is idle.
        let answered = async {
            let silent = |(connection, _): &(Connection, _)| {
                connection.stats().frame_rx.connection_close == 0
            };
            while dialled.iter().any(silent) {
                sleep(ANSWER_LOOK).await;
            }
        };
        let idle = async {
            for (_, endpoint) in &dialled {
                endpoint.wait_idle().await;
            }
        };
        let farewell = async {
            tokio::select! {
                () = answered => {}
                () = idle => {}
            }
        };
        let _ = timeout(Duration::from_millis(FAREWELL_MS), farewell).await;
    }
}
