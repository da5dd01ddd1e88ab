//! What the two ends of a measurement say to each other: JSON in the frames of the control channel.
//! Content goes in data messages beside it.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use portway::base::limits::LEASE_BYTES;
use portway::transport::quic::SocketBuffers;
use portway::transport::{Link, LinkError};
use serde::{Deserialize, Serialize};

use super::rdma;
use crate::result::Machine;
use crate::rng::Rng;

/// Version of what is said here. Both ends must have the same.
const VERSION: u32 = 2;

/// A question of the end that measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(super) enum Ask {
    /// The first one: who are you?
    Hello {
        /// Version of the asking end.
        version: u32,
    },
    /// How much has arrived?
    Count,
    /// Nothing but an answer.
    Ping {
        /// Comes back.
        number: u64,
    },
    /// About RDMA.
    Rdma(rdma::Ask),
}

/// An answer of the end that serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub(super) enum Answer {
    /// To `Hello`.
    Hello {
        /// Version of the serving end.
        version: u32,
        /// What it runs on.
        machine: Machine,
        /// Its UDP buffers.
        buffers: Buffers,
    },
    /// To `Count`.
    Count(Count),
    /// To `Ping`.
    Ping {
        /// As it was asked.
        number: u64,
    },
    /// To `Rdma`.
    Rdma(rdma::Answer),
}

/// What has arrived so far, and what it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Count {
    /// Content in bytes.
    pub(super) bytes: u64,
    /// Messages whose content was compared.
    pub(super) compared: u64,
    /// Messages whose content was not what was sent.
    pub(super) wrong: u64,
    /// When the last of it came whole, in seconds by the clock of the serving end.
    pub(super) at_s: f64,
    /// CPU seconds of the serving process.
    pub(super) cpu_s: f64,
}

/// UDP buffers of a socket, as far as the system grants what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Buffers {
    /// Bytes asked for, each direction.
    pub(super) asked: u64,
    /// Bytes to receive.
    pub(super) receive: u64,
    /// Bytes to send.
    pub(super) send: u64,
}

impl From<SocketBuffers> for Buffers {
    fn from(buffers: SocketBuffers) -> Self {
        Self {
            asked: buffers.asked as u64,
            receive: buffers.receive as u64,
            send: buffers.send as u64,
        }
    }
}

/// The content of every data message.
pub(super) fn content() -> Bytes {
    let mut content = vec![0; LEASE_BYTES];
    Rng::named(1, "link").fill(&mut content);
    content.into()
}

/// Sends a question or an answer.
pub(super) async fn say<L: Link>(link: &L, words: &impl Serialize) -> Result<(), LinkError> {
    let text = serde_json::to_vec(words);
    let text = text.map_err(|e| LinkError::Protocol { detail: e.to_string() })?;
    link.send(text.into()).await
}

/// Reads a question or an answer.
pub(super) fn heard<T: for<'a> Deserialize<'a>>(frame: &[u8]) -> Result<T, LinkError> {
    serde_json::from_slice(frame)
        .map_err(|e| LinkError::Protocol { detail: format!("not the words of portway-bench: {e}") })
}

/// The first words of the end that measures; returns what the other one runs on.
pub(super) async fn greet<L: Link>(link: &L, label: &str) -> Result<(Machine, Buffers)> {
    let hint = "hint: `portway-bench serve` must run there, of the same version";
    let answered = async {
        say(link, &Ask::Hello { version: VERSION }).await?;
        heard(&link.recv().await?)
    };
    let answer = answered.await.with_context(|| format!("{label} does not measure\n{hint}"))?;
    match answer {
        Answer::Hello { version, machine, buffers } => {
            ensure!(version == VERSION, "{label} speaks version {version}, not {VERSION}\n{hint}");
            Ok((machine, buffers))
        }
        other => bail!("{label} answered with {other:?}\n{hint}"),
    }
}

/// The answer to a question, by an end that counted `count`, has these buffers, and lends by `lend`
/// what RDMA needs.
pub(super) fn answer(
    ask: &Ask,
    count: impl FnOnce() -> Count,
    buffers: Buffers,
    lend: impl FnOnce(&rdma::Ask) -> rdma::Answer,
) -> Answer {
    match ask {
        Ask::Hello { .. } => Answer::Hello { version: VERSION, machine: Machine::here(), buffers },
        Ask::Count => Answer::Count(count()),
        Ask::Ping { number } => Answer::Ping { number: *number },
        Ask::Rdma(ask) => Answer::Rdma(lend(ask)),
    }
}
