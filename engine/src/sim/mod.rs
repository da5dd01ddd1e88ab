//! The whole engine in one thread, with a clock that jumps and everything going wrong by a seed.
//!
//! A seed makes a source tree, a script of transfers, and their faults: sessions that are lost,
//! data that arrives late, twice, in another order or with a wrong byte, processes that are killed
//! between any two calls to their disk, power losses that keep a part of what was not synced, disks
//! that fail, own files with flipped bits, files that change while they are read. The machines, the files of both sides,
//! journal, index and manifests are the real ones. The same seed always does the same.

pub mod crossing;
mod oracle;
pub(crate) mod process;
pub(crate) mod rng;
mod script;
mod sessions;
mod sides;
pub mod verbs;
pub(crate) mod workload;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use crate::base::Digest;
use crate::protocol::PlantedMachine;
use crate::runtime::target::Planted;

pub use script::run;

/// Defects that are planted to prove that the simulation notices them; all off by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// In the target's files.
    pub store: Planted,
    /// In the target's machine.
    pub machine: PlantedMachine,
}

/// Which kinds of faults a transfer meets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Faults {
    network: bool,
    corruption: bool,
    kills: bool,
    power: bool,
    disk: bool,
    changes: bool,
    rot: bool,
}

impl Faults {
    fn any(self) -> bool {
        self != Self::default()
    }
}

/// What happened, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events of the simulation.
    pub events: u64,
    /// Sessions that were begun.
    pub sessions: u64,
    /// Transfers that came to an end.
    pub transfers: u64,
    /// Content bytes that crossed the network.
    pub bytes_sent: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Adds the numbers of another seed.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.sessions += other.sessions;
        self.transfers += other.transfers;
        self.bytes_sent += other.bytes_sent;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

/// What a seed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The numbers.
    pub tally: Tally,
    /// A digest over everything that happened, in order; equal for equal seeds.
    pub trace: Digest,
}

/// Something that must hold did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// Events until then.
    pub events: u64,
    /// Which transfer of the script.
    pub step: &'static str,
    /// What was wrong.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, events, step, detail } = self;
        write!(f, "seed {seed}, event {events}, {step}: {detail}")
    }
}
