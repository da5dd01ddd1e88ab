//! Writing many files quickly, each with a fixed modification time.

use std::fs::{File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

/// Bytes made and written at a time: fits the second-level cache.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;
/// Modification time of the first file of a set: 2024-01-01, in seconds since 1970.
const FIRST_MTIME_S: u64 = 1_704_067_200;
/// Seconds of a day.
pub(crate) const DAY_S: u64 = 86_400;

/// Runs `job` for every item on all cores and returns the first error.
pub(crate) fn parallel<T: Sync>(items: &[T], job: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            job(item)?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // A scope joins the rest by itself if one has failed.
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a writer panicked")))
    })
}

/// First time of a seed's files: sets of different seeds must not look alike by size and time.
pub(crate) fn first_step(seed: u64) -> u64 {
    seed.wrapping_sub(1) % 10_000 * DAY_S
}

/// Writes one file from pieces and sets its time.
pub(crate) fn file(
    path: &Path,
    step: u64,
    body: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    body(&mut file).with_context(|| format!("write {}", path.display()))?;
    set_time(&file, step)
}

/// Writes one file of bytes that are at hand.
pub(crate) fn bytes(path: &Path, step: u64, content: &[u8]) -> Result<()> {
    file(path, step, |file| Ok(file.write_all(content)?))
}

/// Gives a file or directory the fixed time number `step`, in seconds; its nanoseconds are not zero.
pub(crate) fn set_time(file: &File, step: u64) -> Result<()> {
    let time = Duration::new(FIRST_MTIME_S + step, 123_456_789);
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + time))?;
    Ok(())
}

/// Gives all directories below `root`, and `root`, the same fixed time.
pub(crate) fn set_directory_times(root: &Path, step: u64) -> Result<()> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_directory_times(&entry.path(), step)?;
        }
    }
    set_time(&File::open(root)?, step)
}
