//! What quinn's errors mean to a session.

use std::time::Duration;

use quinn::{ConnectionError, ReadExactError, TransportErrorCode, VarInt, WriteError};

use crate::base::human::escaped;
use crate::transport::LinkError;

/// Most bytes of a reason that are sent or shown.
const REASON_BYTES_MAX: usize = 256;

/// Close codes: which kind of end a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The session is over.
    Done = 0,
    /// One side's identity was refused.
    Refused = 1,
    /// A message broke the protocol or a limit.
    Protocol = 2,
    /// There is no room for another session.
    Busy = 3,
    /// The session did not begin in time.
    Late = 4,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// The bytes of a reason that travel in a close frame.
pub(super) fn clipped(reason: &str) -> &[u8] {
    &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

fn shown(reason: &[u8]) -> String {
    escaped(&reason[..reason.len().min(REASON_BYTES_MAX)])
}

/// What the end of a connection means; `idle` is the limit that a timeout passed.
pub(super) fn link_error(error: &ConnectionError, idle: Duration) -> LinkError {
    match error {
        ConnectionError::TimedOut => LinkError::TimedOut { idle },
        ConnectionError::LocallyClosed => LinkError::Local,
        ConnectionError::ApplicationClosed(close) => {
            let reason = shown(&close.reason);
            match close.error_code.into_inner() {
                1 => LinkError::Refused { detail: reason },
                2 => LinkError::Protocol { detail: format!("the peer says: {reason}") },
                _ => LinkError::Closed { reason },
            }
        }
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => LinkError::Refused { detail: their_alert(alert) },
            None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                LinkError::Closed { reason: "it takes no more connections now".to_owned() }
            }
            // How QUIC says "closed" while the handshake is not over.
            None if close.error_code == TransportErrorCode::APPLICATION_ERROR => {
                LinkError::Closed { reason: "it gave the handshake up".to_owned() }
            }
            None => LinkError::Protocol {
                detail: format!("the peer says: {}, {}", close.error_code, shown(&close.reason)),
            },
        },
        ConnectionError::TransportError(error) => match alert(error.code) {
            Some(alert) => {
                LinkError::Refused { detail: our_alert(alert, &shown(error.reason.as_bytes())) }
            }
            None => LinkError::Protocol { detail: shown(error.to_string().as_bytes()) },
        },
        ConnectionError::Reset => {
            LinkError::Closed { reason: "it no longer knows the session".to_owned() }
        }
        ConnectionError::VersionMismatch => {
            LinkError::Protocol { detail: "the peer speaks no QUIC version 1".to_owned() }
        }
        ConnectionError::CidsExhausted => {
            LinkError::Protocol { detail: "connection ids are exhausted".to_owned() }
        }
    }
}

/// The TLS alert in a QUIC error code (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then_some(code as u8)
}

/// An alert that the peer raised against this node (RFC 8446, section 6).
fn their_alert(alert: u8) -> String {
    match alert {
        116 => "the peer requires a certificate of its trust domain".to_owned(),
        42 | 43 | 46 | 48 | 49 => "the peer does not trust this node's certificate".to_owned(),
        44 => "the peer says that this node's certificate was revoked".to_owned(),
        45 => "the peer says that this node's certificate is expired or not yet valid".to_owned(),
        51 => "the peer says that this node's signature does not match its key".to_owned(),
        120 => "the peer does not speak this protocol".to_owned(),
        other => format!("the peer raised TLS alert {other}"),
    }
}

/// An alert that this node raised against the peer, with the checker's words.
fn our_alert(alert: u8, words: &str) -> String {
    match alert {
        116 => "the peer showed no certificate".to_owned(),
        120 => "the peer does not speak this protocol".to_owned(),
        _ => {
            // So rustls begins what the verifier of a node says.
            let words = words.strip_prefix("other error: ").unwrap_or(words);
            format!("the peer's certificate or handshake was not accepted: {words}")
        }
    }
}

/// What a failed read of a fixed-size part means.
pub(super) fn read_error(error: ReadExactError, idle: Duration) -> LinkError {
    match error {
        ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error)) => {
            link_error(&error, idle)
        }
        ReadExactError::FinishedEarly(_) | ReadExactError::ReadError(_) => cut_short(),
    }
}

/// The first words of a session did not come whole.
pub(super) fn cut_short() -> LinkError {
    LinkError::Protocol { detail: "the session's first words were cut short".to_owned() }
}

/// What a failed write of the session's first words means.
pub(super) fn write_error(error: WriteError, idle: Duration) -> LinkError {
    match error {
        WriteError::ConnectionLost(error) => link_error(&error, idle),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            LinkError::Protocol { detail: "the peer does not read the session's words".to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_certificate_is_told_in_words_on_both_sides() {
        let idle = Duration::from_secs(1);
        let code = TransportErrorCode::crypto(116);
        let ours = ConnectionError::TransportError(code.into());
        assert_eq!(
            link_error(&ours, idle).to_string(),
            "identity refused: the peer showed no certificate"
        );
        let theirs = their_alert(116);
        assert_eq!(theirs, "the peer requires a certificate of its trust domain");
    }

    #[test]
    fn reasons_are_clipped_at_a_character_and_escaped() {
        let long = "\u{e4}".repeat(300);
        assert_eq!(clipped(&long).len(), REASON_BYTES_MAX);
        assert_eq!(shown(b"a\nb"), "a\\x0ab");
    }
}
