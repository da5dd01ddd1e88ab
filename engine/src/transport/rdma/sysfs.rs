//! What Linux tells about RDMA devices under `/sys`, and which of their ports can carry content.
//!
//! Everything here is reading small files; no device is opened.

mod gid;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use self::gid::{choose, gids};
use super::Fabric;
use crate::base::human;

pub use gid::{Chosen, Gid, GidKind};

/// Most devices that are looked at, and ports of one of them.
const DEVICES_MAX: usize = 64;
/// Bytes of a RoCE v2 packet that Linux reserves for headers: GRH 40, UDP 8, BTH 12, XRC 4,
/// atomic 28, ICRC 4 (`iboe_get_mtu` in `include/rdma/ib_addr.h`).
const ROCE_HEADER_BYTES: u32 = 96;
/// Payloads that a path can have, in bytes.
const PAYLOADS: [u16; 5] = [4096, 2048, 1024, 512, 256];

/// Where a Linux system tells about itself.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// Something found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What was found.
    pub finding: String,
    /// What helps.
    pub fix: String,
}

impl Remark {
    /// A remark in these words.
    pub fn new(finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { finding: finding.into(), fix: fix.into() }
    }
}

/// All RDMA devices of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Why there is no device at all.
    pub obstacle: Option<Remark>,
    /// The devices by name.
    pub devices: Vec<Device>,
}

/// An RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name, such as `mlx5_0`.
    pub name: String,
    /// The memory node that it is at.
    pub numa: Option<u16>,
    /// Its device file's name under `/dev/infiniband`.
    pub uverbs: Option<String>,
    /// Whether it is done in software, without an adapter behind it: soft-RoCE.
    pub software: bool,
    /// Why none of its ports can be used.
    pub obstacle: Option<Remark>,
    /// The ports by number.
    pub ports: Vec<Port>,
}

/// A port of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Number at the device, from 1.
    pub number: u8,
    /// The port's state as the kernel names it: `ACTIVE`, `DOWN`.
    pub state: String,
    /// What the port is on.
    pub fabric: Fabric,
    /// Local identifier; 0 on Ethernet.
    pub lid: u16,
    /// Rate of the wire in Mb/s; 0 if unknown.
    pub rate_mbit: u32,
    /// The GID table without empty entries.
    pub gids: Vec<Gid>,
    /// The address that was chosen, if one serves.
    pub chosen: Option<Chosen>,
    /// The network interface of the chosen address; only on Ethernet.
    pub interface: Option<Interface>,
    /// Largest payload of a packet in bytes, as the interface's MTU allows; 0 if only the device
    /// itself knows.
    pub mtu: u16,
    /// Why the port cannot be used.
    pub obstacle: Option<Remark>,
    /// What would make it better.
    pub advice: Option<Remark>,
}

/// A network interface under a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its state as the kernel names it: `up`, `down`.
    pub state: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

impl Survey {
    /// Why no port can be used, in the words of the first thing in the way.
    pub fn first_obstacle(self) -> Option<Remark> {
        let of_devices = self.devices.into_iter().flat_map(|device| {
            let ports = device.ports.into_iter().filter_map(|port| port.obstacle);
            device.obstacle.into_iter().chain(ports)
        });
        self.obstacle.into_iter().chain(of_devices).next()
    }
}

/// Looks at all devices.
pub fn survey(roots: &Roots) -> Survey {
    let class = roots.sys.join("class/infiniband");
    let names = names(&class);
    let obstacle = if !class.is_dir() {
        Some(Remark::new(
            "this kernel has no RDMA: there is no /sys/class/infiniband",
            "load the adapter's driver (modprobe mlx5_ib, for one), or go on with QUIC",
        ))
    } else if names.is_empty() {
        Some(Remark::new("there is no RDMA device", "load the adapter's driver, if there is one"))
    } else {
        None
    };
    let devices = names.into_iter().take(DEVICES_MAX).map(|name| device(roots, name)).collect();
    Survey { obstacle, devices }
}

fn device(roots: &Roots, name: String) -> Device {
    let path = roots.sys.join("class/infiniband").join(&name);
    let numbers = names(&path.join("ports"));
    let numbers = numbers.iter().filter_map(|number| number.parse().ok()).filter(|n| *n != 0);
    let mut ports: Vec<Port> = numbers.map(|number| port(roots, &path, number)).collect();
    ports.sort_by_key(|port| port.number);
    ports.truncate(DEVICES_MAX);
    let verbs = roots.sys.join("class/infiniband_verbs");
    let uverbs = names(&verbs)
        .into_iter()
        .find(|file| text(&verbs.join(file).join("ibdev")).as_deref() == Some(&name));
    let obstacle = not_a_channel_adapter(&path).or_else(|| out_of_reach(roots, uverbs.as_deref()));
    let numa = text(&path.join("device/numa_node")).and_then(|node| node.parse().ok());
    let software = is_software(roots, &name);
    Device { name, numa, uverbs, software, obstacle, ports }
}

/// Whether a device is done in software: it has no device of a bus behind it.
pub(super) fn is_software(roots: &Roots, name: &str) -> bool {
    !roots.sys.join("class/infiniband").join(name).join("device").exists()
}

/// Devices that speak something else than RoCE or InfiniBand.
fn not_a_channel_adapter(path: &Path) -> Option<Remark> {
    let kind = text(&path.join("node_type"))?;
    // Node types of `enum rdma_node_type`: 1 is a channel adapter, 4 an iWARP adapter.
    let (number, words) = kind.split_once(':').unwrap_or((&kind, ""));
    let what = match number.trim() {
        "1" => return None,
        "4" => "an iWARP adapter, whose reads would need memory that is writable from outside",
        _ => "neither a RoCE nor an InfiniBand adapter",
    };
    let words = human::escaped(words.trim().as_bytes());
    Some(Remark::new(
        format!("the device is {what} (node type {words})"),
        "none: content goes by QUIC there",
    ))
}

/// Why a program cannot talk to the device.
fn out_of_reach(roots: &Roots, uverbs: Option<&str>) -> Option<Remark> {
    let Some(uverbs) = uverbs else {
        return Some(Remark::new(
            "the kernel gives programs no access to the device: ib_uverbs is not loaded",
            "modprobe ib_uverbs",
        ));
    };
    let file = roots.dev.join("infiniband").join(uverbs);
    match access(&file, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => None,
        Err(rustix::io::Errno::NOENT) => Some(Remark::new(
            format!("{} is missing", file.display()),
            "give the container the device file (--device=/dev/infiniband), or run udev",
        )),
        Err(error) => Some(Remark::new(
            format!("{} cannot be opened: {}", file.display(), std::io::Error::from(error)),
            "allow this user to read and write it: udev rule with MODE=\"0666\", or its group",
        )),
    }
}

fn port(roots: &Roots, device: &Path, number: u8) -> Port {
    let path = device.join("ports").join(number.to_string());
    let state = text(&path.join("state")).unwrap_or_default();
    let state = state.split_once(':').map_or(state.as_str(), |(_, word)| word).trim().to_owned();
    let fabric = match text(&path.join("link_layer")).as_deref() {
        Some("InfiniBand") => Fabric::InfiniBand,
        _ => Fabric::Ethernet,
    };
    let gids = gids(&path);
    let chosen = choose(fabric, &gids);
    let interface = chosen.as_ref().and_then(|chosen| {
        let gid = gids.iter().find(|gid| gid.index == chosen.index)?;
        interface(roots, gid.interface.as_deref()?)
    });
    let mtu = match (fabric, &interface) {
        (Fabric::Ethernet, Some(interface)) => payload(interface.mtu),
        _ => 0,
    };
    let mut port = Port {
        number,
        state,
        fabric,
        lid: text(&path.join("lid")).and_then(|lid| hex(&lid)).unwrap_or(0),
        rate_mbit: text(&path.join("rate")).and_then(|rate| rate_mbit(&rate)).unwrap_or(0),
        gids,
        chosen,
        interface,
        mtu,
        obstacle: None,
        advice: None,
    };
    port.obstacle = unusable(&port);
    port.advice = advice(&port);
    port
}

fn unusable(port: &Port) -> Option<Remark> {
    if port.state != "ACTIVE" {
        let fix = match (port.fabric, port.state.as_str()) {
            (Fabric::Ethernet, _) => "check the cable and bring the interface up: ip link set up",
            (Fabric::InfiniBand, "INIT") => "start a subnet manager: the port waits for one",
            (Fabric::InfiniBand, _) => "check the cable and the switch's port",
        };
        let state = human::escaped(port.state.as_bytes());
        return Some(Remark::new(format!("the port is {state}, not ACTIVE"), fix));
    }
    if port.chosen.is_none() {
        return Some(match port.fabric {
            Fabric::Ethernet => Remark::new(
                "the port has no RoCE v2 address",
                "give its network interface an IP address; for mlx5, cma_roce_mode 2",
            ),
            Fabric::InfiniBand => Remark::new("the port has no address", "start a subnet manager"),
        });
    }
    match &port.interface {
        Some(interface) if port.fabric == Fabric::Ethernet && port.mtu == 0 => {
            let (name, mtu) = (human::escaped(interface.name.as_bytes()), interface.mtu);
            Some(Remark::new(
                format!("the MTU of {name} is {mtu} bytes, too little for RoCE"),
                format!("ip link set {name} mtu 9000, as on the switch and at the peer"),
            ))
        }
        _ => None,
    }
}

fn advice(port: &Port) -> Option<Remark> {
    let interface = port.interface.as_ref()?;
    if port.mtu == 0 || port.mtu >= PAYLOADS[0] {
        return None;
    }
    let name = human::escaped(interface.name.as_bytes());
    Some(Remark::new(
        format!("packets carry {} of 4096 bytes: the MTU of {name} is {}", port.mtu, interface.mtu),
        format!("ip link set {name} mtu 9000, if switch and peer do the same"),
    ))
}

fn interface(roots: &Roots, name: &str) -> Option<Interface> {
    // A name is one component of a path, as the kernel gives it.
    if name.is_empty() || name.contains('/') || name == ".." {
        return None;
    }
    let path = roots.sys.join("class/net").join(name);
    let state = text(&path.join("operstate"))?;
    let mtu = text(&path.join("mtu"))?.parse().ok()?;
    Some(Interface { name: name.to_owned(), state, mtu })
}

/// Largest payload of a RoCE packet on an interface with this MTU; 0 if none fits.
fn payload(mtu: u32) -> u16 {
    let room = mtu.saturating_sub(ROCE_HEADER_BYTES);
    PAYLOADS.into_iter().find(|payload| u32::from(*payload) <= room).unwrap_or(0)
}

/// `100 Gb/sec (4X EDR)` and `2.5 Gb/sec (1X SDR)`.
fn rate_mbit(text: &str) -> Option<u32> {
    let (number, _) = text.split_once(" Gb/sec")?;
    let gbit: f64 = number.trim().parse().ok()?;
    (0.0..1e6).contains(&gbit).then(|| (gbit * 1000.0).round() as u32)
}

fn hex(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A small file's text without the blanks at its ends; `None` also if it is empty.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Names in a directory, sorted.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
