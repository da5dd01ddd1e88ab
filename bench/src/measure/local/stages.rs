//! The CPU time of the stages that no transfer can do without, each on one thread.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Case, disk, memory, once};

/// Digest, read and write, ready to be measured again and again.
pub(crate) struct Stages {
    cases: [Case; 3],
    /// Holds the file until the end.
    _bed: disk::Bed,
}

impl Stages {
    /// Stages on this machine, with a file of about `bytes` in `dir`.
    pub(crate) fn new(dir: &Path, bytes: u64) -> Result<Self> {
        let in_cache = |case: &Case| case.stage == "digest" && case.name.ends_with("in cache");
        let digest = memory::cases().into_iter().find(in_cache).context("no digest to measure")?;
        let bed = disk::Bed::new(dir, bytes, 1, false)?;
        Ok(Self { cases: [digest, bed.read_cached(), bed.write_new()], _bed: bed })
    }

    /// What each is.
    pub(crate) fn names(&self) -> [String; 3] {
        self.cases.each_ref().map(|case| format!("{}, {}", case.stage, case.name))
    }

    /// One run of each, of so many seconds where a run has no end by itself, after one that does not
    /// count: CPU seconds of a gigabyte.
    pub(crate) fn cpu_s_per_gb(&self, time: Duration) -> Result<[f64; 3]> {
        let mut costs = [0.0; 3];
        for (case, cost) in self.cases.iter().zip(&mut costs) {
            let mut work = [(case.work)(0, 1)?];
            once(case, &mut work, time / 10)?;
            let sample = once(case, &mut work, time)?;
            *cost = sample.cpu_s / sample.bytes * 1e9;
        }
        Ok(costs)
    }
}
