//! What a session's connections have sent and received.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::session::{Session, locked};
use crate::cost::path;
use crate::transport::WireMeter;

impl Session {
    /// Where the peer's control connection comes from. IPv4 may be shown as IPv6 by a socket of both.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        let members = locked(&self.members);
        let mut remote = members.first()?.connection.remote_address();
        remote.set_ip(remote.ip().to_canonical());
        Some(remote)
    }

    /// Of all its connections, those that ended too.
    pub(super) fn meter(&self) -> WireMeter {
        let mut meter = WireMeter::default();
        let mut busiest = None;
        let mut shortest: Option<Duration> = None;
        for member in locked(&self.members).iter() {
            let stats = member.connection.stats();
            let ((sent, received), (out, back)) = match &member.dialled {
                // A socket of one's own counts also what came before the connection was there.
                Some((_, counters)) => {
                    ((counters.sent(), counters.received()), counters.datagrams())
                }
                None => {
                    let (out, back) = (&stats.udp_tx, &stats.udp_rx);
                    ((out.bytes, back.bytes), (out.datagrams, back.datagrams))
                }
            };
            let headers = headers_bytes(member.connection.remote_address().ip());
            meter.sent += sent;
            meter.received += received;
            meter.ip_sent += sent + out * headers;
            meter.ip_received += received + back * headers;
            meter.lost_packets += stats.path.lost_packets;
            let least = stats.path.min_rtt;
            shortest = Some(shortest.map_or(least, |shortest| shortest.min(least)));
            let rank = (member.is_live(), sent + received);
            if busiest.is_none_or(|best| rank > best) {
                busiest = Some(rank);
                meter.rtt_us = stats.path.rtt.as_micros() as u64;
                meter.mtu = stats.path.current_mtu;
            }
        }
        meter.rtt_min_us = shortest.map_or(0, |rtt| rtt.as_micros() as u64);
        meter
    }
}

/// Bytes of the headers of IP and UDP to this address.
fn headers_bytes(peer: IpAddr) -> u64 {
    match peer.to_canonical() {
        IpAddr::V4(_) => path::HEADERS_V4_BYTES,
        IpAddr::V6(_) => path::HEADERS_V6_BYTES,
    }
}
