//! Filling the index in the background: from manifests first, then by reading what no manifest
//! covers.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::manifest_file::ManifestReader;
use super::root::Root;
use super::target::manifests_path;
use crate::base::limits::LEASE_BYTES;
use crate::base::{Digest, RelPath};
use crate::chunk::{Cuts, Cutter};
use crate::index::scan::{Emit, Scan};
use crate::storage::{File, Meta};

/// Chunks of the index that are merged between two looks at the flag to stop: some ten
/// milliseconds of work.
const MERGED_AT_ONCE: usize = 64 << 10;
/// How long the scan rests while transfers run: they find less again meanwhile, but a short one has
/// the machine to itself, and a long one, or a root that is never idle, does not hold the scan up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether a transfer runs.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Indexes what is under the root and not known yet; ends early when `stop` is set.
///
/// A file counts as known if the index has been told of it and it has not changed since: those that
/// a manifest covers are not read. Everything the index says is verified before use, so a file that
/// changes meanwhile does no harm.
pub fn index_root(root: &Root, stop: &AtomicBool) {
    let known_chunks = root.index.stats().map_or(0, |stats| stats.chunks);
    let rests = Rests { root, stop, since: Cell::default() };
    let covered = covered_paths(&rests, known_chunks == 0);
    if stop.load(Relaxed) {
        return;
    }
    let mut known = |path: &RelPath, _: &Meta| covered.contains(&key(path));
    let mut cut = |file: &Arc<dyn File>, meta: &Meta, emit: &mut Emit<'_>| {
        cut_file(&**file, meta, &rests, emit)
    };
    let scan =
        Scan { tree: &*root.tree, index: &root.index, known: &mut known, cut: &mut cut, stop };
    match scan.run() {
        Ok(scanned) => tracing::debug!(?scanned, "indexed what was under the root"),
        Err(error) => tracing::info!(%error, "the index is not filled from what is there"),
    }
    // What was inserted has left merges behind; none is waited for by a transfer here.
    while rests.go_on() && matches!(root.index.tend(MERGED_AT_ONCE), Ok(false)) {}
    let _ = root.index.flush();
}

/// Sixteen bytes stand for a path, so that a million of them fit in a few ten MB.
fn key(path: &RelPath) -> u128 {
    Digest::of(path.as_bytes()).short()
}

/// Rests while transfers run, for a while.
struct Rests<'a> {
    root: &'a Root,
    stop: &'a AtomicBool,
    /// Since when the root is in use without a break.
    since: Cell<Option<Instant>>,
}

impl Rests<'_> {
    /// Returns when no transfer runs, or has run for longer than [`PATIENCE`]; whether to go on.
    fn go_on(&self) -> bool {
        while !self.stop.load(Relaxed) {
            if !self.root.is_in_use() {
                self.since.set(None);
                return true;
            }
            let since = self.since.get().unwrap_or_else(Instant::now);
            self.since.set(Some(since));
            if since.elapsed() > PATIENCE {
                return true;
            }
            thread::sleep(LOOK_AGAIN);
        }
        false
    }
}

/// Paths that manifests cover; their chunks go into an index that lost them.
fn covered_paths(rests: &Rests<'_>, fill: bool) -> HashSet<u128> {
    let root = rests.root;
    let mut covered = HashSet::new();
    let manifests = manifests_path();
    for (name, _) in root.tree.list(&manifests).unwrap_or_default() {
        let Ok(path) = manifests.join(&name) else { continue };
        let Ok(Some(mut reader)) = ManifestReader::open(&*root.tree, &path) else { continue };
        let target = reader.target().clone();
        let mut paths = Vec::new();
        while let Ok(Some(listed)) = reader.read() {
            if !rests.go_on() {
                return covered;
            }
            paths.extend(target.join_path(&listed.entry.path).ok().map(|path| key(&path)));
        }
        if reader.end().is_none() {
            // A damaged manifest covers nothing: its files are read.
            continue;
        }
        covered.extend(paths);
        if fill {
            super::target::index_published(&*root.tree, &root.index, &target);
        }
    }
    covered
}

/// Cuts a file as a source would.
fn cut_file(
    file: &dyn File,
    meta: &Meta,
    rests: &Rests<'_>,
    emit: &mut Emit<'_>,
) -> io::Result<()> {
    let mut buffer = vec![0; LEASE_BYTES];
    let mut cuts = None;
    let mut at = 0;
    while let Some(extent) = file.next_data(at)? {
        at = extent.offset;
        let end = (extent.offset + extent.len).min(meta.len);
        while at < end {
            if !rests.go_on() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let want = (end - at).min(LEASE_BYTES as u64) as usize;
            let read = file.read_at(&mut buffer[..want], at)?;
            if read < want {
                return Ok(());
            }
            let cuts = cuts.get_or_insert_with(|| {
                // The name is not at hand here; safetensors files are known by their beginning.
                let cutter = Cutter::choose(b"x.safetensors", meta.len, &buffer[..read]);
                Cuts::new(cutter, meta.len)
            });
            let mut cut = 0;
            while let Some(len) =
                cuts.next(at + cut as u64, &buffer[cut..read], at + read as u64 == end)
            {
                emit(Digest::of(&buffer[cut..cut + len]), at + cut as u64, len as u32);
                cut += len;
            }
            if cut == 0 {
                return Ok(());
            }
            at += cut as u64;
        }
        if at >= meta.len {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Method;

    #[test]
    fn a_scan_rests_while_a_transfer_runs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("shard"), vec![7; 100_000]).unwrap();
        let root = Root::open(dir.path(), Method::default()).unwrap();
        let chunks = || root.index.stats().unwrap().chunks;
        let path = RelPath::from_typed(b"shard").unwrap();
        let (stop, reading) = (AtomicBool::new(false), root.readers.begin(&path));
        thread::scope(|threads| {
            let scan = threads.spawn(|| index_root(&root, &stop));
            thread::sleep(20 * LOOK_AGAIN);
            assert!(chunks() == 0 && !scan.is_finished(), "a reader has the machine to itself");
            drop(reading);
            scan.join().unwrap();
        });
        assert_ne!(chunks(), 0);
        let (stop, _reading) = (AtomicBool::new(true), root.readers.begin(&path));
        index_root(&root, &stop);
    }
}
