//! QUIC options, their bounds, and what they mean in quinn's words.

use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac::{self, HMAC_SHA256};

use super::congestion::Congestion;
use super::past::Past;
use crate::base::limits::LEASE_BYTES;
use crate::transport::CARRIER_HEADER_BYTES_MAX;

/// Most connections of one session.
pub const CONNECTIONS_MAX: usize = 16;

/// Smallest datagram payload that every QUIC path must carry (RFC 9000, section 14).
const MTU_MIN: u16 = 1200;
/// Largest UDP payload over IPv4.
const MTU_LIMIT: u16 = 65_507;
/// Receive window of one stream, in bytes: a whole data message fits, so a reader that takes
/// messages one by one never waits a round trip in the middle of one.
const STREAM_WINDOW_BYTES: usize = LEASE_BYTES + CARRIER_HEADER_BYTES_MAX + 4096;
/// Window of the control connection where data has connections of its own, in bytes.
const CONTROL_WINDOW_BYTES: usize = 4 << 20;
/// TLS handshake bytes that may wait for reassembly, in bytes: room for a certificate chain.
const CRYPTO_BUFFER_BYTES: usize = 64 << 10;

/// What may be set about QUIC, before it is checked.
///
/// Worst-case memory of an endpoint is about `sessions_max` times (`window_bytes` to receive and
/// as much to send, of which the latter is leases that the slab already bounds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicOptions {
    /// Connections of a session that this end opens; 1 to [`CONNECTIONS_MAX`]. With two or more,
    /// the first one carries control frames alone, so that data never stands in their way.
    pub connections: usize,
    /// Bytes that the peer may send ahead of the reader, over all connections of a session; the
    /// same bound holds for what is sent and not acknowledged.
    pub window_bytes: usize,
    /// Largest UDP payload that MTU discovery tries, in bytes. Discovery starts at 1200.
    pub mtu_max: u16,
    /// Congestion control of what this end sends.
    pub congestion: Congestion,
    /// Silence after which a connection is dead, in milliseconds.
    pub idle_ms: u64,
    /// Silence after which a sign of life is asked for, in milliseconds.
    pub keep_alive_ms: u64,
    /// Time from the first packet to a session or an attached connection, in milliseconds. It is
    /// absolute: a peer that trickles bytes does not extend it.
    pub handshake_ms: u64,
    /// Kernel buffer asked for, per socket and direction, in bytes; the system may grant less.
    pub socket_buffer_bytes: usize,
    /// Sessions a listener holds at a time.
    pub sessions_max: usize,
    /// Connections a listener holds at a time, whatever their state.
    pub connections_max: usize,
    /// Handshakes a listener works on at a time.
    pub half_open_max: usize,
    /// Handshakes under way above which a listener asks newcomers to prove their address (Retry).
    pub retry_above: usize,
    /// Data messages on the way per connection and direction.
    pub data_streams_max: u32,
    /// Whether the kernel may cut one large send into datagrams (UDP segmentation offload).
    pub gso: bool,
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            connections: 2,
            window_bytes: 32 << 20,
            mtu_max: 8952,
            congestion: Congestion::default(),
            idle_ms: 10_000,
            keep_alive_ms: 1_000,
            handshake_ms: 5_000,
            socket_buffer_bytes: 4 << 20,
            sessions_max: 64,
            connections_max: 256,
            half_open_max: 256,
            retry_above: 32,
            data_streams_max: 256,
            gso: true,
        }
    }
}

/// One option that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {value}, must be {min} to {max}")]
pub struct OutOfBounds {
    /// The option's name.
    pub option: &'static str,
    /// What it was set to.
    pub value: u64,
    /// Smallest value allowed.
    pub min: u64,
    /// Largest value allowed.
    pub max: u64,
}

/// QUIC options that cannot be used, all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct QuicConfigError {
    /// Every option out of its bounds, in the order of [`QuicOptions`].
    pub mistakes: Vec<OutOfBounds>,
}

/// Checked QUIC options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicConfig {
    options: QuicOptions,
    /// What is known of the path to the peer.
    past: Option<Past>,
}

impl Default for QuicConfig {
    /// The default options, which are within their bounds (a test says so).
    fn default() -> Self {
        Self { options: QuicOptions::default(), past: None }
    }
}

impl QuicConfig {
    /// Checks the options.
    ///
    /// # Errors
    /// Names every option that is out of its bounds.
    pub fn new(options: QuicOptions) -> Result<Self, QuicConfigError> {
        let o = &options;
        let data_connections = o.connections.saturating_sub(1).clamp(1, CONNECTIONS_MAX);
        let window_min = CONTROL_WINDOW_BYTES + data_connections * STREAM_WINDOW_BYTES;
        let bounds: [(&'static str, u64, u64, u64); 12] = [
            ("connections", o.connections as u64, 1, CONNECTIONS_MAX as u64),
            ("window_bytes", o.window_bytes as u64, window_min as u64, 1 << 30),
            ("mtu_max", o.mtu_max.into(), MTU_MIN.into(), MTU_LIMIT.into()),
            ("idle_ms", o.idle_ms, 100, 600_000),
            ("keep_alive_ms", o.keep_alive_ms, 10, (o.idle_ms / 2).max(10)),
            ("handshake_ms", o.handshake_ms, 50, 60_000),
            ("socket_buffer_bytes", o.socket_buffer_bytes as u64, 64 << 10, 256 << 20),
            ("sessions_max", o.sessions_max as u64, 1, 4096),
            ("connections_max", o.connections_max as u64, 1, 65_536),
            ("half_open_max", o.half_open_max as u64, 1, 65_536),
            ("retry_above", o.retry_above as u64, 0, 65_536),
            ("data_streams_max", o.data_streams_max.into(), 1, 4096),
        ];
        let mistakes: Vec<_> = bounds
            .into_iter()
            .filter(|(_, value, min, max)| !(min..=max).contains(&value))
            .map(|(option, value, min, max)| OutOfBounds { option, value, min, max })
            .collect();
        if mistakes.is_empty() {
            Ok(Self { options, past: None })
        } else {
            Err(QuicConfigError { mistakes })
        }
    }

    /// The options.
    pub fn options(&self) -> &QuicOptions {
        &self.options
    }

    /// The same for a path of which this is known.
    pub fn after(&self, past: Option<Past>) -> Self {
        Self { options: self.options.clone(), past }
    }

    /// What is known of the path, for connection `index` out of `count`: nothing for one that
    /// carries control frames alone.
    pub(super) fn past(&self, index: u8, count: u8) -> Option<Past> {
        match (index, count) {
            (_, 0 | 1) => self.past,
            (0, _) => None,
            _ => self.past.map(|past| past.of_one(u64::from(count) - 1)),
        }
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.options.idle_ms)
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.options.handshake_ms)
    }

    /// The window of connection `index` out of `count`, in bytes.
    pub(super) fn window_bytes(&self, index: usize, count: usize) -> u32 {
        let window = match (index, count) {
            (_, 0 | 1) => self.options.window_bytes,
            (0, _) => CONTROL_WINDOW_BYTES,
            (_, count) => (self.options.window_bytes - CONTROL_WINDOW_BYTES) / (count - 1),
        };
        u32::try_from(window).unwrap_or(u32::MAX)
    }

    /// Every limit of a connection with the given window, set explicitly: quinn's own defaults
    /// leave the receive window without a bound.
    pub(super) fn transport(
        &self,
        window_bytes: u32,
        bidi_streams: u32,
        past: Option<Past>,
    ) -> Arc<TransportConfig> {
        let o = &self.options;
        let mut t = TransportConfig::default();
        t.max_concurrent_bidi_streams(bidi_streams.into())
            .max_concurrent_uni_streams(o.data_streams_max.into())
            .stream_receive_window((STREAM_WINDOW_BYTES as u32).into())
            .receive_window(window_bytes.into())
            .send_window(window_bytes.into())
            // Messages one after the other: each is whole sooner, and readers take whole ones.
            .send_fairness(false)
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(o.idle_ms as u32))))
            .keep_alive_interval(Some(Duration::from_millis(o.keep_alive_ms)))
            .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            .initial_mtu(MTU_MIN)
            .min_mtu(MTU_MIN)
            .enable_segmentation_offload(o.gso)
            .congestion_controller_factory(o.congestion.factory(past));
        let discovery = (o.mtu_max > MTU_MIN).then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(o.mtu_max);
            discovery
        });
        t.mtu_discovery_config(discovery);
        Arc::new(t)
    }

    pub(super) fn endpoint(&self, reset_key: Option<&[u8; 32]>) -> EndpointConfig {
        let mut endpoint = reset_key.map_or_else(EndpointConfig::default, |key| {
            let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(HMAC_SHA256, key)));
            // Its own connection IDs are what a restarted node answers by a reset.
            let ids = blake3::derive_key("portway 2026-11 connection IDs", key);
            let ids = u64::from_le_bytes(ids.first_chunk().copied().unwrap_or_default());
            endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
            endpoint
        });
        // The bounds of `mtu_max` are inside those of quinn, so this cannot be refused; were it,
        // quinn's own default of 1472 would stand.
        let _ = endpoint.max_udp_payload_size(self.options.mtu_max.max(1472));
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_options_are_within_their_bounds() {
        assert_eq!(QuicConfig::new(QuicOptions::default()), Ok(QuicConfig::default()));
    }

    #[test]
    fn every_option_out_of_bounds_is_named_at_once() {
        let options = QuicOptions {
            connections: 0,
            mtu_max: 500,
            keep_alive_ms: 9_000,
            half_open_max: 0,
            ..QuicOptions::default()
        };
        let error = QuicConfig::new(options).expect_err("four mistakes");
        let named: Vec<_> = error.mistakes.iter().map(|mistake| mistake.option).collect();
        assert_eq!(named, ["connections", "mtu_max", "keep_alive_ms", "half_open_max"]);
    }

    #[test]
    fn windows_of_a_session_add_up_to_no_more_than_its_window() {
        for connections in 1..=CONNECTIONS_MAX {
            let options =
                QuicOptions { connections, window_bytes: 64 << 20, ..QuicOptions::default() };
            let config = QuicConfig::new(options).expect("in bounds");
            let windows = (0..connections).map(|i| config.window_bytes(i, connections));
            let total: u64 = windows.map(u64::from).sum();
            assert!(total <= 64 << 20, "{connections}: {total}");
        }
    }
}
