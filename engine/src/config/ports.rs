//! Which ports of RDMA devices are meant, as people write it.

use std::fmt;
use std::str::FromStr;

use toml_edit::Value;

use super::setting::{Raw, Rule, Setting, Wrong, quoted};

/// Longest name of a device in bytes; the kernel's own bound is one less (`IB_DEVICE_NAME_MAX`).
const DEVICE_BYTES_MAX: usize = 64;
/// Most entries of a list.
const PORTS_MAX: usize = 64;

/// A device of RDMA, or one port of it: `mlx5_0` or `mlx5_0/1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// The device's name, 1 to 64 bytes.
    pub device: String,
    /// The port's number from 1; `None` means every port of the device.
    pub port: Option<u8>,
}

impl PortName {
    /// Whether this port of this device is meant.
    pub fn names(&self, device: &str, port: u8) -> bool {
        self.device == device && self.port.is_none_or(|number| number == port)
    }
}

/// The text is neither `DEVICE` nor `DEVICE/PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a port is DEVICE or DEVICE/PORT, such as mlx5_0 or mlx5_0/1")]
pub struct ParsePortNameError;

impl FromStr for PortName {
    type Err = ParsePortNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (device, port) = match text.split_once('/') {
            None => (text, None),
            Some((device, port)) => {
                let digits = port.bytes().all(|c| c.is_ascii_digit());
                let number = port.parse().ok().filter(|number| digits && *number > 0);
                (device, Some(number.ok_or(ParsePortNameError)?))
            }
        };
        let plain = device
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':'));
        if plain && (1..=DEVICE_BYTES_MAX).contains(&device.len()) {
            Ok(Self { device: device.to_owned(), port })
        } else {
            Err(ParsePortNameError)
        }
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}/{port}", self.device),
            None => f.write_str(&self.device),
        }
    }
}

/// A list in the file, or words between commas in a variable or flag; none of them is fine.
impl Setting for Vec<PortName> {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        let list: Option<Self> = match raw {
            Raw::Toml { value: Value::Array(list), .. } => {
                list.iter().map(|one| one.as_str()?.parse().ok()).collect()
            }
            other => match other.text() {
                Some("") => Some(Self::new()),
                Some(text) => text.split(',').map(|one| one.trim().parse().ok()).collect(),
                None => None,
            },
        };
        list.filter(|list| list.len() <= PORTS_MAX).ok_or_else(|| raw.wrong(rule))
    }

    fn toml(&self) -> Option<String> {
        let list: Vec<String> = self.iter().map(|port| quoted(&port.to_string())).collect();
        Some(format!("[{}]", list.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_device_with_or_without_a_number() {
        for good in ["mlx5_0", "mlx5_0/1", "rocep3s0f0/255", "rxe-a.b:c"] {
            assert_eq!(good.parse::<PortName>().map(|p| p.to_string()), Ok(good.to_owned()));
        }
        let long = "m".repeat(65);
        for bad in ["", "/1", "a/", "a/0", "a/256", "a/+1", "a/1/2", "a b", "a\n", "ä", &long] {
            assert_eq!(bad.parse::<PortName>(), Err(ParsePortNameError), "{bad:?}");
        }
    }

    #[test]
    fn a_device_means_all_its_ports_and_a_port_only_itself() {
        let name = |text: &str| text.parse::<PortName>().expect("a port");
        assert!(name("mlx5_0").names("mlx5_0", 1) && name("mlx5_0").names("mlx5_0", 2));
        assert!(name("mlx5_0/2").names("mlx5_0", 2) && !name("mlx5_0/2").names("mlx5_0", 1));
        assert!(!name("mlx5_0").names("mlx5_01", 1));
    }
}
