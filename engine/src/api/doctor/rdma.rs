//! Checks of RDMA devices and their ports.

use super::{System, finding};
use crate::api::{Finding, Level};
use crate::base::human;
use crate::config::RdmaSection;
use crate::transport::rdma::Fabric;
use crate::transport::rdma::sysfs::{Device, Gid, Port, Remark, Survey};

/// Most addresses of a table that one finding lists.
const GIDS_SHOWN_MAX: usize = 8;
/// Most devices and ports that one finding lists.
const NAMES_MAX: usize = 16;

/// What the checks of RDMA need to know.
pub struct RdmaChecks<'a> {
    /// Whether this build can use RDMA devices.
    pub built: bool,
    /// What people set.
    pub settings: &'a RdmaSection,
    /// What the system tells of its devices.
    pub survey: Survey,
    /// Why the library that talks to devices cannot be used, if it cannot.
    pub library: Option<Remark>,
}

impl RdmaChecks<'_> {
    /// Why devices stay unused whatever state they are in.
    fn unused(&self) -> Option<(&'static str, &'static str)> {
        if !self.built {
            Some(("this build has no RDMA", "build with the feature rdma, which is on by default"))
        } else if !self.settings.enabled {
            Some(("rdma.enabled is false", "rdma.enabled = true lets them be used"))
        } else if !self.settings.plaintext {
            Some(("rdma.plaintext is false, and RDMA does not encrypt", ""))
        } else {
            None
        }
    }

    fn named(&self, device: &Device, port: &Port) -> bool {
        let names = &self.settings.devices;
        names.is_empty() || names.iter().any(|name| name.names(&device.name, port.number))
    }

    fn ports(&self) -> impl Iterator<Item = (&Device, &Port)> {
        self.survey.devices.iter().flat_map(|device| device.ports.iter().map(move |p| (device, p)))
    }

    /// Whether content can go by RDMA from and to this machine.
    pub(super) fn usable(&self) -> bool {
        let works = |(device, port): (&Device, &Port)| {
            device.obstacle.is_none() && port.obstacle.is_none() && self.named(device, port)
        };
        self.unused().is_none() && self.library.is_none() && self.ports().any(works)
    }
}

/// Everything about RDMA: one calm line where there is none.
pub(super) fn rdma(checks: &RdmaChecks<'_>, system: &System) -> Vec<Finding> {
    let survey = &checks.survey;
    if survey.devices.is_empty() {
        return vec![none(survey.obstacle.as_ref(), system)];
    }
    if let Some((why, note)) = checks.unused() {
        let names = listed(survey.devices.iter().map(|device| device.name.clone()));
        let text = format!("{why}: {names} stay unused, QUIC carries all");
        return vec![finding("rdma", Level::Ok, text, note)];
    }
    let mut findings = Vec::new();
    if let Some(remark) = &checks.library {
        findings.push(warning("rdma", &remark.finding, &remark.fix));
    }
    for device in &survey.devices {
        devices(checks, device, &mut findings);
    }
    findings.extend(strangers(checks));
    findings
}

fn warning(check: &str, text: &str, fix: &str) -> Finding {
    finding(check, Level::Warn, text, fix)
}

/// There is no device. An adapter without a driver is worth a note.
fn none(obstacle: Option<&Remark>, system: &System) -> Finding {
    let why = obstacle.map_or("", |remark| remark.finding.as_str());
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let text = format!("no RDMA device{why}; QUIC carries all");
    let note = match (adapter(system), obstacle) {
        (Some(adapter), Some(remark)) => {
            format!("there is an adapter at {adapter}: {}", remark.fix)
        }
        _ => String::new(),
    };
    finding("rdma", Level::Ok, text, note)
}

/// The PCI address of an adapter that its driver could make an RDMA device of.
fn adapter(system: &System) -> Option<String> {
    let devices = std::fs::read_dir(system.sys.join("bus/pci/devices")).ok()?;
    let mut found: Vec<String> = devices
        .filter_map(Result::ok)
        .filter(|device| {
            let read = |name| std::fs::read_to_string(device.path().join(name)).unwrap_or_default();
            // An InfiniBand controller by its class (PCI code 02 07), or whatever Mellanox makes.
            read("class").starts_with("0x0207") || read("vendor").trim() == "0x15b3"
        })
        .map(|device| human::escaped(device.file_name().as_encoded_bytes()))
        .collect();
    found.sort();
    found.into_iter().next()
}

fn devices(checks: &RdmaChecks<'_>, device: &Device, findings: &mut Vec<Finding>) {
    let name = human::escaped(device.name.as_bytes());
    let named: Vec<&Port> = device.ports.iter().filter(|port| checks.named(device, port)).collect();
    if named.is_empty() {
        let text = match device.ports.len() {
            0 => format!("{name} has no port"),
            _ => format!("{name} stays unused: rdma.devices does not name it"),
        };
        findings.push(finding("rdma", Level::Ok, text, ""));
        return;
    }
    if let Some(remark) = &device.obstacle {
        findings.push(warning("rdma", &format!("{name}: {}", remark.finding), &remark.fix));
    }
    for port in named {
        ports(device, &format!("{name}/{}", port.number), port, findings);
    }
}

fn ports(device: &Device, name: &str, port: &Port, findings: &mut Vec<Finding>) {
    let text = format!("{name}: {}", described(device, port));
    if let Some(remark) = &port.obstacle {
        findings.push(warning("rdma", &format!("{text}: {}", remark.finding), &remark.fix));
    } else {
        findings.push(finding("rdma", Level::Ok, text, ""));
    }
    if !port.gids.is_empty() {
        findings.push(finding("rdma-gids", Level::Ok, format!("{name}: {}", table(port)), ""));
    }
    if let Some(remark) = &port.advice {
        findings.push(warning("rdma-mtu", &format!("{name}: {}", remark.finding), &remark.fix));
    }
}

/// State, network, rate, interface, packets, place: `ACTIVE, Ethernet, 100 Gb/s, ens1 (up, MTU
/// 9000), packets of 4096 bytes, memory node 0`.
fn described(device: &Device, port: &Port) -> String {
    let fabric = match port.fabric {
        Fabric::Ethernet => "Ethernet",
        Fabric::InfiniBand => "InfiniBand",
    };
    let mut parts = vec![human::escaped(port.state.as_bytes()), fabric.to_owned()];
    match port.rate_mbit {
        0 => {}
        rate if rate % 1000 == 0 => parts.push(format!("{} Gb/s", rate / 1000)),
        rate => parts.push(format!("{:.1} Gb/s", f64::from(rate) / 1000.0)),
    }
    if let Some(interface) = &port.interface {
        let name = human::escaped(interface.name.as_bytes());
        let state = human::escaped(interface.state.as_bytes());
        parts.push(format!("{name} ({state}, MTU {})", interface.mtu));
    }
    if port.lid > 0 {
        parts.push(format!("LID {}", port.lid));
    }
    if port.mtu > 0 {
        parts.push(format!("packets of {} bytes", port.mtu));
    }
    if let Some(node) = device.numa {
        parts.push(format!("memory node {node}"));
    }
    if device.software {
        parts.push("done in software".to_owned());
    }
    parts.join(", ")
}

/// The table of addresses, the chosen one first.
fn table(port: &Port) -> String {
    let (chosen, others): (Vec<&Gid>, Vec<&Gid>) = port
        .gids
        .iter()
        .partition(|gid| port.chosen.as_ref().is_some_and(|chosen| chosen.index == gid.index));
    let mut text = match (&port.chosen, chosen.first()) {
        (Some(why), Some(gid)) => format!("takes {gid}, {}", why.why),
        _ => "takes none".to_owned(),
    };
    let shown: Vec<String> = others.iter().take(GIDS_SHOWN_MAX).map(ToString::to_string).collect();
    if !shown.is_empty() {
        text = format!("{text}; not {}", shown.join(", "));
    }
    match others.len().saturating_sub(GIDS_SHOWN_MAX) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Ports that people named and the machine does not have.
fn strangers(checks: &RdmaChecks<'_>) -> Option<Finding> {
    let there = |name: &&crate::config::PortName| {
        !checks.ports().any(|(device, port)| name.names(&device.name, port.number))
    };
    let missing: Vec<String> =
        checks.settings.devices.iter().filter(there).map(ToString::to_string).collect();
    if missing.is_empty() {
        return None;
    }
    let known = listed(checks.ports().map(|(d, p)| format!("{}/{}", d.name, p.number)));
    let text = format!("rdma.devices names {}, which this machine does not have", listed(missing));
    Some(warning("rdma", &text, &format!("correct rdma.devices: there are {known}")))
}

fn listed(names: impl IntoIterator<Item = String>) -> String {
    let mut names: Vec<String> = names.into_iter().collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let text = human::escaped(names.join(", ").as_bytes());
    if more > 0 { format!("{text} and {more} more") } else { text }
}

#[cfg(test)]
mod tests;
