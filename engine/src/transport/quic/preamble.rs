//! The first words on every connection: which session it belongs to.
//!
//! ```text
//! client                                         server
//!   magic "PWAY" | version u16 | index u8 | count u8 | token 16 B   -->
//!                                  <--   magic "PWAY" | version u16
//! ```
//!
//! On connection 0 the client may go on before it was welcomed: the server reads in order.
//!
//! Both travel on the connection's first bidirectional stream, little endian. On connection 0 that
//! stream goes on as the control channel; on the others it ends there.

use bytes::Bytes;
use quinn::{RecvStream, SendStream};

use super::config::{CONNECTIONS_MAX, QuicConfig};
use super::error::{read_error, write_error};
use crate::transport::LinkError;

/// Names a session between the connections that make it up. It is a secret of the two ends.
pub(super) type Token = [u8; 16];

const MAGIC: [u8; 4] = *b"PWAY";
const VERSION: u16 = 1;
const PREAMBLE_BYTES: usize = 24;
pub(super) const REPLY_BYTES: usize = 6;

/// What a client says first on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preamble {
    /// Which connection of the session this is; 0 carries the control channel.
    pub(super) index: u8,
    /// How many connections the session is going to have.
    pub(super) count: u8,
    /// Which session.
    pub(super) token: Token,
}

impl Preamble {
    pub(super) fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let mut out = [0; PREAMBLE_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6] = self.index;
        out[7] = self.count;
        out[8..].copy_from_slice(&self.token);
        out
    }

    pub(super) fn decode(bytes: &[u8; PREAMBLE_BYTES]) -> Result<Self, LinkError> {
        let mut head = [0; REPLY_BYTES];
        head.copy_from_slice(&bytes[..REPLY_BYTES]);
        check_head(head)?;
        let (index, count) = (bytes[6], bytes[7]);
        if index >= count || usize::from(count) > CONNECTIONS_MAX {
            let detail = format!("connection {index} of {count}, at most {CONNECTIONS_MAX}");
            return Err(LinkError::Protocol { detail });
        }
        let mut token = Token::default();
        token.copy_from_slice(&bytes[8..]);
        Ok(Self { index, count, token })
    }
}

pub(super) fn check_head(head: [u8; REPLY_BYTES]) -> Result<(), LinkError> {
    if head[..4] != MAGIC {
        return Err(LinkError::Protocol { detail: "the peer is no Portway node".to_owned() });
    }
    let version = u16::from_le_bytes([head[4], head[5]]);
    if version != VERSION {
        let detail = format!("session version {version}, this node speaks {VERSION}");
        return Err(LinkError::Protocol { detail });
    }
    Ok(())
}

/// Says `preamble` on a fresh stream.
pub(super) async fn say(
    send: &mut SendStream,
    preamble: &Preamble,
    config: &QuicConfig,
) -> Result<(), LinkError> {
    send.write_all(&preamble.encode()).await.map_err(|e| write_error(e, config.idle()))
}

/// Says `preamble` on a fresh stream and waits for the server's welcome.
pub(super) async fn introduce(
    (send, recv): &mut (SendStream, RecvStream),
    preamble: &Preamble,
    config: &QuicConfig,
) -> Result<(), LinkError> {
    say(send, preamble, config).await?;
    let mut reply = [0; REPLY_BYTES];
    recv.read_exact(&mut reply).await.map_err(|e| read_error(e, config.idle()))?;
    check_head(reply)
}

/// Reads what a client says first.
pub(super) async fn listen(
    recv: &mut RecvStream,
    config: &QuicConfig,
) -> Result<Preamble, LinkError> {
    let mut bytes = [0; PREAMBLE_BYTES];
    recv.read_exact(&mut bytes).await.map_err(|e| read_error(e, config.idle()))?;
    Preamble::decode(&bytes)
}

/// What a server answers.
pub(super) fn welcome() -> Bytes {
    let mut reply = [0; REPLY_BYTES];
    reply[..4].copy_from_slice(&MAGIC);
    reply[4..].copy_from_slice(&VERSION.to_le_bytes());
    Bytes::copy_from_slice(&reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_survives_its_bytes() {
        let preamble = Preamble { index: 1, count: 2, token: [7; 16] };
        assert_eq!(Preamble::decode(&preamble.encode()).ok(), Some(preamble));
    }

    #[test]
    fn strange_preambles_are_refused() {
        let good = Preamble { index: 1, count: 2, token: [7; 16] }.encode();
        for (place, byte) in [(0, b'X'), (4, 9), (6, 2), (7, 0), (7, 17)] {
            let mut bad = good;
            bad[place] = byte;
            assert!(Preamble::decode(&bad).is_err(), "{place} {byte}");
        }
    }
}
