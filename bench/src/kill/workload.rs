//! What the kill loop moves: each workload has the version that is pushed and one that was before.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::data::{self, Kind};

/// Two versions of one tree with the same names.
#[derive(Debug)]
pub(super) struct Workload {
    /// Name of its directory.
    pub(super) name: &'static str,
    /// The version before.
    pub(super) old: PathBuf,
    /// The version that is moved.
    pub(super) new: PathBuf,
}

/// Makes all workloads below a directory.
pub(super) fn make_all(root: &Path, bytes: u64) -> Result<Vec<Workload>> {
    // Shards of 256 KiB make up half of the checkpoint's size, files of 4 KiB a tenth.
    let shards = (bytes / 2 / (256 << 10)).max(2);
    let small = (bytes / 10 / (4 << 10)).max(10);
    let sets = [
        ("ckpt", (Kind::Ckpt, 1), (Kind::CkptNext, 1), bytes, 4),
        ("shards", (Kind::Shards, 1), (Kind::Shards, 2), 0, shards),
        ("small", (Kind::Small, 1), (Kind::Small, 2), 0, small),
        ("tree", (Kind::Tree, 1), (Kind::Tree, 2), 0, 0),
    ];
    let mut workloads = Vec::new();
    for (name, old, new, bytes, files) in sets {
        let home = root.join(name);
        let workload = Workload { name, old: home.join("old"), new: home.join("new") };
        data::simple(old.0, workload.old.clone(), bytes, files, old.1)?;
        data::simple(new.0, workload.new.clone(), bytes, files, new.1)?;
        workloads.push(workload);
    }
    Ok(workloads)
}
