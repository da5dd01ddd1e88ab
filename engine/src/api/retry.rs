//! Reconnecting: when to try again, when to give up.

use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::connect::{Greet, Session};
use super::engine::Engine;
use super::path::Transport;
use super::{Error, Exit, TransferOptions, TransportChoice};
use crate::metrics::{Phase, TransferMeter};
use crate::transport::Link;

/// How long a peer that was never reached is tried.
const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// Pauses between attempts: the first, and the longest.
const PAUSE_MS: (u64, u64) = (200, 10_000);

/// Why an attempt ended.
pub(super) enum Miss {
    /// The peer did not greet: it might as well not have been reached.
    Unheard(Error),
    /// Trying again may help.
    Again(Error),
    /// It will not.
    Final(Error),
}

impl Miss {
    /// What an error here means: a lack of descriptors passes.
    pub(super) fn of(error: Error) -> Self {
        if error.code == "no-descriptors" { Self::Again(error) } else { Self::Final(error) }
    }
}

/// What one session gave.
pub(super) type Attempt<T> = Result<T, Miss>;

/// Dials again and again, with growing pauses, until the time is over.
pub(super) struct Retry<'a> {
    engine: &'a Engine,
    node: &'a super::NodeAddress,
    meter: &'a TransferMeter,
    cancel: watch::Receiver<bool>,
    patience: Duration,
    end: Instant,
    pause_ms: u64,
    choice: TransportChoice,
    greet: Greet,
    /// The link to take.
    link: Option<String>,
    /// When the session began whose peer was not heard yet.
    unheard: Option<Instant>,
    /// A session was usable: what is in the way later may pass.
    begun: bool,
    /// A certificate of the last session ended: if there is none newer, that is why.
    over: Option<Error>,
}

impl<'a> Retry<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        node: &'a super::NodeAddress,
        options: &TransferOptions,
        meter: &'a TransferMeter,
        cancel: watch::Receiver<bool>,
    ) -> Self {
        let patience_s = options.retry_s.unwrap_or(engine.0.config.settings.retry.max_s);
        let patience = Duration::from_secs(patience_s);
        let end = Instant::now() + FIRST_CONTACT.min(patience);
        let (pause_ms, choice, begun) = (PAUSE_MS.0, options.transport, false);
        let (over, link) = (None, options.link.clone());
        let (greet, unheard) = (Greet::Wait, None);
        Self {
            engine,
            node,
            meter,
            cancel,
            patience,
            end,
            pause_ms,
            choice,
            greet,
            link,
            unheard,
            begun,
            over,
        }
    }

    /// Sessions between sites begin before the peer was heard; an attempt hears it, or tells that it
    /// did not.
    pub(super) fn ahead(mut self) -> Self {
        self.greet = Greet::Ahead;
        self
    }

    /// The peer of the present session was heard: what is in the way later may pass.
    fn heard(&mut self) {
        if let Some(began) = self.unheard.take() {
            self.end = began + self.patience;
            self.begun = true;
        }
    }

    /// A session with the node.
    pub(super) async fn connect(&mut self) -> Result<Session, Error> {
        loop {
            self.meter.set_phase(Phase::Connecting, "");
            let at = (self.node, self.link.as_deref());
            let connected = tokio::select! {
                () = stopped(&mut self.cancel) => return Err(interrupted()),
                connected = self.engine.connect_by(at, self.greet) => connected,
            };
            match connected {
                Ok(mut session) => {
                    self.meter.set_peer(session.link.peer().node.as_str());
                    self.unheard = Some(Instant::now());
                    if session.heard {
                        self.end = Instant::now() + self.patience;
                    }
                    match self.engine.path(&session, self.choice) {
                        Ok(path) => {
                            let transport = path.transport.as_str();
                            tracing::info!(transport, why = path.reason, "content has a path");
                            if session.heard {
                                self.heard();
                            }
                            if path.transport == Transport::Rdma {
                                session.take_rails(&self.engine.0);
                            }
                            self.meter.set_transport(session.link.name());
                            return Ok(session);
                        }
                        Err(error) => {
                            session.link.close("there is no path for content").await;
                            if !self.begun {
                                return Err(error);
                            }
                            self.pause(Miss::Again(error)).await?;
                        }
                    }
                }
                Err(error) if is_final(&error) => {
                    return Err(self.over.take().unwrap_or(error));
                }
                Err(error) => self.pause(Miss::Again(error)).await?,
            }
        }
    }

    /// Waits before the next attempt, if one may help.
    pub(super) async fn pause(&mut self, miss: Miss) -> Result<(), Error> {
        let error = match miss {
            Miss::Final(error) => return Err(error),
            Miss::Unheard(error) if is_final(&error) => {
                return Err(self.over.take().unwrap_or(error));
            }
            Miss::Again(_) | Miss::Unheard(_) if *self.cancel.borrow() => return Err(interrupted()),
            Miss::Unheard(error) => error,
            Miss::Again(error) => {
                self.heard();
                error
            }
        };
        self.over = (error.code == "expired").then(|| error.clone());
        let pause = jittered(self.pause_ms);
        if Instant::now() + pause >= self.end {
            return Err(error);
        }
        tracing::warn!(%error, pause_ms = self.pause_ms, "the transfer waits and tries again");
        self.meter.set_phase(Phase::Connecting, &error.to_string());
        self.meter.reconnects.add(1);
        tokio::select! {
            () = stopped(&mut self.cancel) => return Err(interrupted()),
            () = tokio::time::sleep(pause) => {}
        }
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS.1);
        Ok(())
    }
}

/// Whether dialling again does not help.
fn is_final(error: &Error) -> bool {
    matches!(error.exit, Exit::Refused | Exit::Usage)
}

/// Waits until a transfer is told to stop.
pub(super) async fn stopped(cancel: &mut watch::Receiver<bool>) {
    if cancel.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// This end was told to stop.
pub(super) fn interrupted() -> Error {
    Error::new("interrupted", Exit::Interrupted, "interrupted; nothing is lost")
        .hint("the same command goes on where this one ended")
}

/// Up to a fifth more or less, so that many nodes do not come back at once.
fn jittered(ms: u64) -> Duration {
    let mut byte = [128];
    let _ = SystemRandom::new().fill(&mut byte);
    Duration::from_millis(ms * (205 + u64::from(byte[0]) * 102 / 255) / 256)
}
