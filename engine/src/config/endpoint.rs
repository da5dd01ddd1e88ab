//! Where a node listens, as people write it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Longest DNS name in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// `ADDR:PORT` or `HOST:PORT`, with IPv6 addresses in brackets. The port is never 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// An IP address.
    Address(SocketAddr),
    /// A DNS name and a port, to be resolved when it is dialled.
    Host(String, u16),
}

/// The text is not `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an address is ADDR:PORT or HOST:PORT, IPv6 addresses in brackets, port 1 to 65535")]
pub struct ParseEndpointError;

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err(ParseEndpointError)
            } else {
                Ok(Self::Address(address))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(ParseEndpointError)?;
        let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0);
        // Digits and dots alone are an address that was mistyped, not a name.
        let name = host.bytes().any(|c| c.is_ascii_alphabetic());
        let plain = host.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.' || c == b'-');
        let edges = host.starts_with(['.', '-']) || host.ends_with('-') || host.contains("..");
        match port {
            Some(port) if name && plain && !edges && host.len() <= HOST_BYTES_MAX => {
                Ok(Self::Host(host.to_owned(), port))
            }
            _ => Err(ParseEndpointError),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_or_names_with_a_port() {
        for good in ["10.0.0.2:7717", "[::1]:1", "gpu-01.rack.example:7717", "localhost:65535"] {
            assert_eq!(good.parse::<Endpoint>().map(|e| e.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "::1:1",
            "10.0.0:1",
            "1.2.3.4:0",
            "a_b:1",
            "-a:1",
            "a b:1",
        ] {
            assert_eq!(bad.parse::<Endpoint>(), Err(ParseEndpointError), "{bad:?}");
        }
    }
}
