//! Making one thing scarce for a process: a disk's rate, or a share of one processor.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Where control groups of block devices are (cgroup v1; Linux,
/// Documentation/admin-guide/cgroup-v1/blkio-controller.rst).
const BLKIO: &str = "/sys/fs/cgroup/blkio";

/// A limit on how fast processes read and write a disk; gone when dropped.
pub(super) struct SlowDisk {
    group: PathBuf,
}

impl SlowDisk {
    /// Lets whoever joins read and write the disk below `dir` with so many bytes a second.
    pub(super) fn new(dir: &Path, bytes_per_s: u64) -> Result<Self> {
        ensure!(
            Path::new(BLKIO).join("cgroup.procs").exists(),
            "no control groups of block devices at {BLKIO}\nhint: slow disks need cgroup v1 and \
             root; --kinds leaves them out"
        );
        let device = disk_of(dir)?;
        let group = Path::new(BLKIO).join(format!("portway-bench-{}", std::process::id()));
        let made = Self { group: group.clone() };
        std::fs::create_dir_all(&group).context("make a control group")?;
        for direction in ["read", "write"] {
            let file = group.join(format!("blkio.throttle.{direction}_bps_device"));
            let rule = format!("{device} {bytes_per_s}");
            std::fs::write(&file, rule).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(made)
    }

    /// A process and its threads join.
    pub(super) fn join(&self, pid: u32) -> Result<()> {
        std::fs::write(self.group.join("cgroup.procs"), pid.to_string()).context("join the group")
    }

    /// A command that joins before it begins.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let join = r#"echo $$ > "$0" && exec "$@""#;
        command.args(["-c", join]).arg(self.group.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // Whoever is left in it goes back to the parent; a group in use cannot be removed.
        let left = std::fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            let _ = std::fs::write(Path::new(BLKIO).join("cgroup.procs"), pid);
        }
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Major and minor number of the whole disk that a directory lies on.
fn disk_of(dir: &Path) -> Result<String> {
    let device = std::fs::metadata(dir)?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let link = PathBuf::from("/sys/dev/block").join(&number);
    ensure!(
        link.exists(),
        "{} lies on no block device\nhint: --work takes a directory on a disk",
        dir.display()
    );
    // A partition's limits are those of its disk.
    if link.join("partition").exists() {
        let disk = std::fs::canonicalize(&link)?;
        let disk = disk.parent().context("a partition without a disk")?.join("dev");
        return Ok(std::fs::read_to_string(disk)?.trim().to_owned());
    }
    Ok(number)
}

/// Threads that keep one processor busy; they end when dropped.
pub(super) struct BusyProcessor {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The processor that is kept busy.
const PROCESSOR: usize = 0;

impl BusyProcessor {
    /// So many threads that each want all of one processor.
    pub(super) fn new(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |stop: Arc<AtomicBool>| {
            let mut set = CpuSet::new();
            set.set(PROCESSOR);
            // Without it, the thread is anywhere, and the case shows that.
            let _ = sched_setaffinity(None, &set);
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        };
        let threads = (0..threads)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || spin(stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Binds a process and all its threads to that processor.
    pub(super) fn bind(pid: u32) -> Result<()> {
        let mask = PROCESSOR.to_string();
        let mut command = Command::new("taskset");
        let output = command.args(["--all-tasks", "--cpu-list", "--pid", &mask]);
        let output = output.arg(pid.to_string()).output().context("taskset (util-linux)")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// A command that is bound to that processor from its beginning.
    pub(super) fn command(program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &PROCESSOR.to_string()]).arg(program);
        command
    }
}

impl Drop for BusyProcessor {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
