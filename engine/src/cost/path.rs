//! What a path makes of content: headers, what packets fill of a link, and the start of a transfer.
//!
//! `portway-bench size` and `portway plan` compute with the same numbers. All were measured.

/// Bytes of a packet that are not content: IPv4 and UDP 28, QUIC's header and tag, and Portway's
/// frames and control messages. From the least that was measured (`docs/transports.md`): 1.043 bytes
/// sent for one of content, in packets of 1,480 bytes.
pub const OVERHEAD_BYTES: f64 = 61.0;
/// Bytes of the headers of IPv4 and UDP.
pub const HEADERS_V4_BYTES: u64 = 28;
/// Bytes of the headers of IPv6 and UDP.
pub const HEADERS_V6_BYTES: u64 = 48;
/// How far below the largest packet the search for it ends (`docs/encoding.md`: UDP payloads of 1,452
/// bytes where 1,472 would fit).
const MTU_SEARCH_BYTES: f64 = 20.0;
/// Largest packet that Portway tries (`quic.mtu_max` of 8,952 bytes, and headers).
const PACKET_BYTES_MAX: f64 = 8980.0;
/// How much of the link packets fill, by the share that is lost. From whole pushes of 512 MiB and 2 GiB
/// over 1 Gb/s and 50 ms (`docs/transports.md`): the difference of the two, so without the start.
const FILL: [(f64, f64); 3] = [(0.0, 0.974), (0.001, 0.972), (0.01, 0.948)];
/// Round trips of a push until the first content is under way and from the last of it to the end
/// (`docs/transports.md`).
const START_ROUND_TRIPS: f64 = 10.0;
/// The first flight: 100 packets of 1,200 bytes (`docs/transports.md`).
const FIRST_FLIGHT_BYTES: f64 = 120e3;

/// Part of a packet that is content, where packets may have `mtu` bytes.
pub fn content_share(mtu: u32) -> f64 {
    share_of((f64::from(mtu) - MTU_SEARCH_BYTES).min(PACKET_BYTES_MAX))
}

fn share_of(packet: f64) -> f64 {
    (packet - OVERHEAD_BYTES) / packet
}

/// Bytes of IP packets that carry `content` in datagrams with `payload` bytes each.
pub fn wire_bytes(content: u64, payload: u16) -> u64 {
    let packet = f64::from(payload.max(1200)) + HEADERS_V4_BYTES as f64;
    (content as f64 / share_of(packet)).ceil() as u64
}

/// Part of a link that packets fill, by the share of them that is lost. Between the measured points,
/// a straight line.
pub fn fill(loss: f64) -> f64 {
    let after = FILL.iter().position(|(at, _)| *at >= loss).unwrap_or(FILL.len() - 1);
    let ((from, low), (to, high)) = (FILL[after.saturating_sub(1)], FILL[after]);
    if to > from { low + (high - low) * (loss - from) / (to - from) } else { high }
}

/// Seconds of a transfer in which it does not move at `rate` (bytes per second) yet, for a round trip
/// of `rtt_s`: its round trips, and the doublings from the first flight up to what must be under way.
/// These carry about one round trip's worth.
pub fn start_s(rtt_s: f64, rate: f64) -> f64 {
    let doublings = (rate * rtt_s / FIRST_FLIGHT_BYTES).log2().max(1.0);
    rtt_s * (START_ROUND_TRIPS + doublings - 1.0)
}

/// Seconds that `wire` bytes take over a link that passes `rate` bytes per second.
pub fn transfer_s(wire: u64, rate: f64, rtt_s: f64) -> f64 {
    wire as f64 / (rate * fill(0.0)).max(1.0) + start_s(rtt_s, rate)
}
