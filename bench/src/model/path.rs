//! What a path carries: the physics of one link and of one session over it, with the reasons.

use portway::cost::path;

use super::share::{Lane, Network};
use super::unit::{ByteRate, LinkRate, Share, Size, Time};
use super::workload::{Flow, LinkOption, NodeLimits, Workload};

/// `limits.window_mib` as it is by default.
const WINDOW: Size = Size(33_554_432.0);
/// CPU seconds that a receiver spends on 10^9 bytes, the busier end (README: 3.3 s for 2 GiB).
const CPU_S_PER_GB: f64 = 1.54;
/// Files per second (README: a million files of 4 KiB in 82 s).
const FILES_PER_S: f64 = 12_000.0;

/// A stage that every byte passes on a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stage {
    /// Its name in results of `local`.
    pub(crate) name: &'static str,
    /// What the whole node does of it.
    pub(crate) rate: ByteRate,
}

/// Rates of one node that a measurement or the README says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Engine {
    /// CPU seconds that the busier end spends on 10^9 bytes.
    pub(crate) cpu_s_per_gb: f64,
    /// The slowest stage of a node by itself, where it was measured.
    pub(crate) stage: Option<Stage>,
}

impl Default for Engine {
    fn default() -> Self {
        Self { cpu_s_per_gb: CPU_S_PER_GB, stage: None }
    }
}

/// Something that bounds the rate of one session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    /// Bytes of content on the wire per second.
    pub(crate) rate: f64,
    /// What it is, with its numbers.
    pub(crate) why: String,
}

/// One link, as content sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// Rate of IP packets in bits per second.
    pub(crate) rate: LinkRate,
    /// Round trip.
    pub(crate) rtt: Time,
    /// Share of packets that is lost.
    pub(crate) loss: f64,
    /// Part of a packet that is content.
    pub(crate) content: f64,
    /// Part of the link that packets fill.
    pub(crate) fill: f64,
}

impl Link {
    /// One link of an option.
    pub(crate) fn of(option: &LinkOption) -> Self {
        Self {
            rate: option.rate,
            rtt: option.rtt,
            loss: option.loss(),
            content: path::content_share(option.mtu),
            fill: path::fill(option.loss()),
        }
    }

    /// Bytes of content per second.
    pub(crate) fn usable(&self) -> f64 {
        self.rate.bytes() * self.content * self.fill
    }

    /// Bytes on the link for one of content: headers, and what is lost is sent again.
    pub(crate) fn sent(&self) -> f64 {
        (1.0 + self.loss) / self.content
    }

    /// What must be under way to fill the link, in bytes: rate times round trip.
    pub(crate) fn product(&self) -> Size {
        Size(self.rate.bytes() * self.rtt.0)
    }

    /// Why a link of its rate carries what it does.
    pub(crate) fn why(&self) -> String {
        format!(
            "a link of {} carries {} of content: {} of each packet (the rest is headers), and packets \
             fill {} of it at {} loss",
            self.rate,
            LinkRate::of_bytes(self.usable()),
            Share(self.content),
            Share(self.fill),
            Share(self.loss),
        )
    }
}

/// What bounds a session of a flow on the nodes themselves, the tightest first.
pub(crate) fn node_limits(flow: &Flow, node: &NodeLimits, engine: Engine) -> Vec<Limit> {
    // Disks and processors handle all of it, the wire only what is new.
    let wire = flow.wire_share();
    let whole = |what: &str, rate: f64| Limit {
        rate: rate * wire,
        why: format!("{what} {}, of all its bytes", ByteRate(rate)),
    };
    let mut limits = Vec::new();
    if let Some(rate) = node.disk_read {
        limits.push(whole("the source's disk reads", rate.0));
    }
    if let Some(rate) = node.disk_write {
        limits.push(whole("the target's disk writes", rate.0));
    }
    if let Some(cores) = node.cores {
        let rate = f64::from(cores) / engine.cpu_s_per_gb * 1e9;
        let spent = engine.cpu_s_per_gb;
        limits.push(whole(&format!("{cores} processors at {spent} s for a GB handle"), rate));
    }
    if let Some(stage) = engine.stage {
        limits.push(whole(
            &format!("`{}`, the slowest measured stage, has", stage.name),
            stage.rate.0,
        ));
    }
    if flow.files > 1 {
        let rate = flow.size.0 / flow.files as f64 * FILES_PER_S;
        limits.push(whole(&format!("{FILES_PER_S} files a second are"), rate));
    }
    if let Some(rate) = node.nic {
        limits.push(Limit { rate: rate.bytes(), why: format!("a node's port has {rate}") });
    }
    if let Some(rate) = node.pcie {
        limits.push(Limit { rate: rate.0, why: format!("the port's PCIe slot has {rate}") });
    }
    limits.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    limits
}

/// What bounds a session of a flow over a link, the tightest first.
pub(crate) fn session_limits(
    flow: &Flow,
    workload: &Workload,
    engine: Engine,
    link: &Link,
) -> Vec<Limit> {
    let mut limits = node_limits(flow, &workload.node, engine);
    let window = workload.node.window.unwrap_or(WINDOW);
    if link.rtt.0 > 0.0 {
        let rate = window.0 / link.rtt.0;
        let why = format!(
            "a window of {window} in a round trip of {} is {}",
            link.rtt,
            LinkRate::of_bytes(rate)
        );
        limits.push(Limit { rate, why });
    }
    let rate = link.usable();
    limits.push(Limit {
        rate,
        why: format!("one link carries {} of content", LinkRate::of_bytes(rate)),
    });
    limits.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    limits
}

/// The network of `links` equal links with `spare` of each kept free.
pub(crate) fn network<'a>(
    workload: &'a Workload,
    engine: Engine,
    link: &Link,
    links: u32,
    spare: f64,
) -> Network<'a> {
    let derated = Link { rate: LinkRate(link.rate.0 / (1.0 + spare)), ..*link };
    let lane = |flow: &'a Flow| {
        let limits = session_limits(flow, workload, engine, &derated);
        let session_max = limits.first().map_or(f64::INFINITY, |limit| limit.rate);
        Lane {
            hours: flow.hours(),
            sessions: flow.nodes as f64,
            session_max,
            start_s: path::start_s(link.rtt.0, session_max),
        }
    };
    Network {
        capacity: derated.usable() * f64::from(links),
        lanes: workload.flows.iter().map(lane).collect(),
        growth: 1.0,
    }
}

/// A network of any capacity between the nodes, without a round trip: what is asked of any link.
pub(crate) fn ideal(workload: &Workload, engine: Engine, capacity: f64) -> Network<'_> {
    let lane = |flow| {
        let limits = node_limits(flow, &workload.node, engine);
        let session_max = limits.first().map_or(f64::INFINITY, |limit| limit.rate);
        Lane { hours: flow.hours(), sessions: flow.nodes as f64, session_max, start_s: 0.0 }
    };
    Network { capacity, lanes: workload.flows.iter().map(lane).collect(), growth: 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(rate: f64, rtt: f64, loss: f64, mtu: u32) -> Link {
        let text = format!(
            "name = 'x'\nkind = 'dedicated'\nrate = '{rate} Gb/s'\nrtt = '{rtt} ms'\n\
             loss = '{loss} %'\nmtu = {mtu}\nbilling = 'flat'\n"
        );
        Link::of(&toml_edit::de::from_str(&text).unwrap())
    }

    #[test]
    fn a_link_carries_what_was_measured() {
        // docs/transports.md: 2 GiB over 1 Gb/s and 50 ms had 0.902, 0.898 and 0.873 of the link,
        // 512 MiB 0.816, 0.811 and about 0.78.
        for (loss, large, small) in [(0.0, 0.902, 0.816), (0.1, 0.898, 0.811), (1.0, 0.873, 0.78)] {
            let link = link(1.0, 50.0, loss, 1500);
            for (bytes, measured) in [(2_147_483_648.0, large), (536_870_912.0, small)] {
                let wall = bytes / link.usable() + path::start_s(link.rtt.0, link.usable());
                let share = bytes * 8.0 / wall / 1e9;
                assert!((share - measured).abs() < 0.02, "{loss} %: {share}, not {measured}");
            }
        }
        // docs/encoding.md: 512 MiB over 200 Mb/s and 20 ms in 23.13 s.
        let link = link(0.2, 20.0, 0.0, 1500);
        let wall = 536_870_912.0 / link.usable() + path::start_s(link.rtt.0, link.usable());
        assert!((wall - 23.13).abs() < 0.5, "{wall}");
    }

    #[test]
    fn larger_packets_have_less_overhead() {
        let small = link(1.0, 50.0, 0.0, 1500);
        let jumbo = link(1.0, 50.0, 0.0, 9000);
        assert!((small.sent() - 1.043).abs() < 1e-3, "{}", small.sent());
        assert!(jumbo.usable() > small.usable() * 1.03);
        let most = link(1.0, 50.0, 0.0, 65_000);
        assert!((most.content - jumbo.content).abs() < 1e-12);
    }
}
