//! Sessions over QUIC: TLS 1.3 with both ends known, several connections, bounded in everything.
//!
//! ```text
//! connection 0    first words | control channel (frames)   [data, only while there is no other]
//! connection 1..  first words | data messages, one stream each
//! ```
//!
//! A session begins with connection 0 and ends with it. The others come and go: a message that was
//! under way on a lost one goes again on another.

mod config;
mod bbr;
mod caps;
mod congestion;
mod control;
mod data;
mod dial;
mod error;
mod farewell;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gather;
mod gate;
mod link;
mod listen;
mod meter;
mod past;
mod preamble;
mod session;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;

pub use config::{CONNECTIONS_MAX, OutOfBounds, QuicConfig, QuicConfigError, QuicOptions};
pub use congestion::{Congestion, ParseCongestionError};
pub use data::QuicIncoming;
pub use dial::{dial, dial_ahead};
pub use link::QuicLink;
pub use listen::{BindError, QuicListener};
pub use past::Past;
pub use socket::SocketBuffers;
pub use tls::{ALPN, PeerCheck, QuicTls};
