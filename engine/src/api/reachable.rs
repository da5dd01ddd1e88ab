//! Under which addresses others may reach this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::identity::ADDRESSES_MAX;

/// Addresses under which others may reach a socket bound to `listen`.
pub(super) fn reachable(listen: SocketAddr) -> Vec<String> {
    if !listen.ip().is_unspecified() {
        return vec![listen.to_string()];
    }
    // Connecting a UDP socket sends nothing; it only asks for the route (RFC 5737 address).
    let outward = UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:9").map(|()| socket))
        .and_then(|socket| socket.local_addr());
    let mut ips: Vec<IpAddr> = outward.ok().map(|a| a.ip()).into_iter().collect();
    ips.retain(|ip| !ip.is_unspecified());
    // Where no route leads out, or peers are on another network, the other interfaces count.
    let routes = std::fs::read_to_string("/proc/self/net/fib_trie").unwrap_or_default();
    for ip in own_addresses(&routes) {
        if !ips.contains(&ip) && ips.len() + 1 < ADDRESSES_MAX {
            ips.push(ip);
        }
    }
    if !ips.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        ips.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    ips.into_iter().map(|ip| SocketAddr::new(ip, listen.port()).to_string()).collect()
}

/// The addresses of this machine in the kernel's table of IPv4 routes (`/proc/net/fib_trie`), in
/// order, without those that mean nothing elsewhere.
fn own_addresses(routes: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in routes.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(ip) = last
            && !ip.is_loopback()
            && !ip.is_link_local()
            && !found.contains(&IpAddr::V4(ip))
        {
            found.push(IpAddr::V4(ip));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_names_interfaces_that_no_default_route_uses() {
        let routes = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.77.0.0/24 2 0 2
        |-- 10.77.0.0
           /24 link UNICAST
        |-- 10.77.0.1
           /32 host LOCAL
        |-- 10.77.0.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 169.254.3.4
        /32 host LOCAL
Local:
        |-- 10.77.0.1
           /32 host LOCAL
";
        assert_eq!(own_addresses(routes), [IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1))]);
        assert!(own_addresses("what this is nobody knows").is_empty());
    }
}
