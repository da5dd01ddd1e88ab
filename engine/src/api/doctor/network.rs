//! Checks of sockets and interfaces.

use std::io;

use socket2::{Domain, Socket, Type};

use super::{System, finding, read_number};
use crate::api::{Finding, Level};
use crate::base::human;

/// What IPv6 needs every link to carry, in bytes (RFC 8200, section 5); QUIC needs slightly less.
const MTU_MIN: u64 = 1280;
/// The usual frame of an Ethernet without jumbo frames, in bytes.
const MTU_ETHERNET: u64 = 1500;
/// Most interfaces that one finding lists.
const INTERFACES_MAX: usize = 16;

/// Small UDP buffers drop datagrams before the program sees them.
pub(super) fn udp_buffers(wanted_bytes: u64) -> Finding {
    match granted(wanted_bytes) {
        Ok((receive, send)) => judge_buffers(wanted_bytes, receive, send),
        Err(error) => {
            let fix = "allow this user to open UDP sockets";
            finding("udp-buffers", Level::Fail, format!("no UDP socket can be made: {error}"), fix)
        }
    }
}

/// Bytes that the system grants to receive and to send.
fn granted(wanted_bytes: u64) -> io::Result<(u64, u64)> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let wanted = usize::try_from(wanted_bytes).unwrap_or(usize::MAX);
    socket.set_recv_buffer_size(wanted)?;
    socket.set_send_buffer_size(wanted)?;
    // Linux tells twice of what was asked: half is for its own bookkeeping (socket(7)).
    let share = if cfg!(target_os = "linux") { 2 } else { 1 };
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    Ok(((receive / share) as u64, (send / share) as u64))
}

pub(super) fn judge_buffers(wanted: u64, receive: u64, send: u64) -> Finding {
    let text = format!(
        "{} to receive and {} to send are granted, {} are wanted",
        human::bytes(receive),
        human::bytes(send),
        human::bytes(wanted)
    );
    if receive >= wanted && send >= wanted {
        return finding("udp-buffers", Level::Ok, text, "");
    }
    let fix = format!(
        "sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}; to keep it, write both \
         lines to /etc/sysctl.d/90-portway.conf"
    );
    finding("udp-buffers", Level::Warn, text, fix)
}

/// UDP segmentation offload came with Linux 4.18.
pub(super) fn gso(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (4, 18) {
        finding("gso", Level::Ok, format!("kernel {release} cuts large UDP sends itself"), "")
    } else {
        let text = format!("kernel {release} sends UDP datagrams one by one");
        finding("gso", Level::Warn, text, "use Linux 4.18 or newer")
    }
}

/// Frames of the interfaces that are up.
pub(super) fn mtu(system: &System) -> Finding {
    let Ok(dir) = std::fs::read_dir(system.sys.join("class/net")) else {
        return finding("mtu", Level::Ok, "not checked: the system tells of no interfaces", "");
    };
    let mut interfaces: Vec<(String, u64)> = dir
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != "lo")
        .filter(|entry| {
            let state = std::fs::read_to_string(entry.path().join("operstate"));
            state.is_ok_and(|state| matches!(state.trim(), "up" | "unknown"))
        })
        .filter_map(|entry| {
            let mtu = read_number(&entry.path().join("mtu"))?;
            Some((human::escaped(entry.file_name().as_encoded_bytes()), mtu))
        })
        .collect();
    interfaces.sort();
    judge_mtu(&interfaces)
}

pub(super) fn judge_mtu(interfaces: &[(String, u64)]) -> Finding {
    if interfaces.is_empty() {
        return finding(
            "mtu",
            Level::Warn,
            "no network interface is up",
            "ip link set dev NAME up",
        );
    }
    let shown: Vec<String> =
        interfaces.iter().take(INTERFACES_MAX).map(|(name, mtu)| format!("{name} {mtu}")).collect();
    let text = shown.join(", ");
    if let Some((name, _)) = interfaces.iter().find(|(_, mtu)| *mtu < MTU_MIN) {
        let fix = format!("ip link set dev {name} mtu {MTU_ETHERNET}");
        return finding("mtu", Level::Warn, format!("{text}; QUIC needs {MTU_MIN}"), fix);
    }
    let jumbo = interfaces.iter().any(|(_, mtu)| *mtu > MTU_ETHERNET);
    let fix = if jumbo {
        ""
    } else {
        "where every hop carries them, jumbo frames save CPU: ip link set dev NAME mtu 9000"
    };
    finding("mtu", Level::Ok, text, fix)
}
