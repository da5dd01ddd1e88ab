//! Random histories at the border, and an independent word on what may cross in them.
//!
//! Four nodes at three sites, private and public, have datasets with labels. Files are pushed, pulled
//! and read in part; labels are set, raised and lowered by hand, policies and roles change, grants end,
//! files are renamed, linked and replaced, links are cut, processes killed, powers fail, and what was
//! broken off goes on: between transfers, and between any two steps of one. Borders, ways, policies,
//! logs, machines and files are the real ones; homes are directories, trees and logs are in memory.
//!
//! Each content is a canary. A tap hears every message between sites. What may cross is told by the
//! model: its own books of files, labels, roles and laws, in plain Rust. It also says what a target may
//! tell a source to have, and that the logs have every byte. The same seed does the same.

mod events;
mod frames;
mod history;
mod law;
mod model;
mod node;
mod pump;
mod session;
mod tap;
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use super::Violation;
use world::World;

/// What happened, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Histories.
    pub histories: u64,
    /// Sessions, inside sites too.
    pub sessions: u64,
    /// Sessions between sites that both ends let in.
    pub crossings: u64,
    /// Of those, the ones that published.
    pub published: u64,
    /// Sessions between sites that were denied.
    pub denied: u64,
    /// Of those, the ones that the model would have let in.
    pub stricter: u64,
    /// Messages with content between sites.
    pub messages: u64,
    /// Canaries in them.
    pub canaries: u64,
    /// Pieces that were offered between sites and wanted.
    pub wanted: u64,
    /// Pieces that were offered between sites and found.
    pub found: u64,
    /// Other events by kind.
    pub events: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn event(&mut self, kind: &'static str) {
        *self.events.entry(kind).or_default() += 1;
    }

    /// Adds the numbers of others.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.sessions += other.sessions;
        self.crossings += other.crossings;
        self.published += other.published;
        self.denied += other.denied;
        self.stricter += other.stricter;
        self.messages += other.messages;
        self.canaries += other.canaries;
        self.wanted += other.wanted;
        self.found += other.found;
        for (kind, count) in &other.events {
            *self.events.entry(kind).or_default() += count;
        }
    }
}

/// A world for one history after the other.
pub struct Crossings(World);

impl Crossings {
    /// A world whose homes are in `dir`, which is empty.
    ///
    /// # Errors
    /// The homes cannot be made; the text says why.
    pub fn open(dir: &Path) -> Result<Self, String> {
        World::open(dir).map(Self)
    }

    /// Runs the history of a seed; the numbers of all so far are added up.
    ///
    /// # Errors
    /// The first thing that did not hold.
    pub fn run(&mut self, seed: u64) -> Result<(), Violation> {
        let mut step = "set up";
        let result = self.0.history(seed, &mut step);
        self.0.tally.histories += 1;
        result.map_err(|detail| Violation { seed, events: self.0.tally.sessions, step, detail })
    }

    /// The numbers of all histories so far.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }
}
