//! A port that the sender of a greeting can carry content on by RDMA.

use super::DecodeError;
use super::messages::PortMsg;

/// Most ports in a greeting.
pub const PORTS_MAX: usize = 16;
/// Longest reason for offering no ports, in bytes.
pub const NO_RAILS_BYTES_MAX: usize = 200;
/// Longest name of a device, in bytes.
const DEVICE_BYTES_MAX: usize = 64;
/// Payload of a packet, smallest and largest, in bytes (InfiniBand specification, volume 1, 9.4.6).
const MTU_BYTES: (u16, u16) = (256, 4096);

/// A port of an RDMA device, as far as a peer has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The device's name at the sender: 1 to 64 printable ASCII characters.
    pub device: String,
    /// The port's number at the device, from 1.
    pub port: u8,
    /// Kind of network: 1 Ethernet, 2 InfiniBand; who does not know a number leaves the port out.
    pub fabric: u32,
    /// Its address, network byte order.
    pub gid: [u8; 16],
    /// Local identifier; 0 on Ethernet.
    pub lid: u16,
    /// Largest payload of a packet, in bytes: 256 to 4096.
    pub mtu: u16,
    /// Rate of the wire, in Mb/s; 0 if it is not known.
    pub rate_mbit: u32,
    /// READs that a queue pair of this port answers at once, at least 1.
    pub reads_max: u8,
}

impl Port {
    /// Whether peers take this port from a greeting.
    ///
    /// # Errors
    /// Names the field that they do not take.
    pub fn check(&self) -> Result<(), DecodeError> {
        let limit = DEVICE_BYTES_MAX as u64;
        super::packed::bounded("bytes of a device's name", self.device.len() as u64, limit)?;
        super::packed::bounded("mtu of a port", self.mtu.into(), MTU_BYTES.1.into())?;
        let named = !self.device.is_empty() && self.device.bytes().all(|c| c.is_ascii_graphic());
        let rules = [
            ("device of a port", named),
            ("number of a port", self.port > 0),
            ("mtu of a port", self.mtu >= MTU_BYTES.0),
            ("reads of a port", self.reads_max > 0),
        ];
        match rules.iter().find(|(_, kept)| !kept) {
            Some((field, _)) => Err(DecodeError::Field { field }),
            None => Ok(()),
        }
    }
}

impl From<Port> for PortMsg {
    fn from(port: Port) -> Self {
        Self {
            device: port.device,
            port: port.port.into(),
            fabric: port.fabric,
            gid: port.gid.to_vec().into(),
            lid: port.lid.into(),
            mtu: port.mtu.into(),
            rate_mbit: port.rate_mbit,
            reads_max: port.reads_max.into(),
        }
    }
}

impl TryFrom<PortMsg> for Port {
    type Error = DecodeError;

    fn try_from(msg: PortMsg) -> Result<Self, DecodeError> {
        let port = Self {
            device: msg.device,
            port: narrow("number of a port", msg.port)?,
            fabric: msg.fabric,
            gid: (&*msg.gid).try_into().map_err(|_| DecodeError::Field { field: "gid" })?,
            lid: narrow("lid of a port", msg.lid)?,
            mtu: narrow("mtu of a port", msg.mtu)?,
            rate_mbit: msg.rate_mbit,
            reads_max: narrow("reads of a port", msg.reads_max)?,
        };
        port.check()?;
        Ok(port)
    }
}

/// A number that must fit a smaller type.
fn narrow<T: TryFrom<u32>>(what: &'static str, value: u32) -> Result<T, DecodeError> {
    let limit = (1 << (8 * size_of::<T>())) - 1;
    T::try_from(value).map_err(|_| DecodeError::Limit { what, value: value.into(), limit })
}
