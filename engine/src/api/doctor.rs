//! What `doctor` looks at on this machine: each check says what it found and what to do about it.

mod disk;
mod gpu;
mod limits;
mod network;
mod rdma;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use rdma::RdmaChecks;

use super::{Finding, Level};
use crate::base::human;
use crate::gpu::{GpuError, GpuInfo};

/// When this version was written, in seconds since 1970, rounded down (2026-01-01): no clock can be
/// before it.
const WRITTEN_S: u64 = 1_767_225_600;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// What the local checks need to know.
pub struct LocalChecks<'a> {
    /// The time now.
    pub now: SystemTime,
    /// When the node's certificate begins and ends to be valid, if there is one.
    pub certificate: Option<(SystemTime, SystemTime)>,
    /// The directory that is or will be served.
    pub root: Option<&'a Path>,
    /// Size of the slab in bytes.
    pub slab_bytes: u64,
    /// UDP buffer that is asked for, per socket and direction, in bytes.
    pub socket_buffer_bytes: u64,
    /// Tries to set up an `io_uring`.
    pub probe_uring: &'a dyn Fn() -> io::Result<()>,
    /// RDMA devices, and whether they may be used.
    pub rdma: RdmaChecks<'a>,
    /// GPUs, or why there are none.
    pub gpus: Result<Vec<GpuInfo>, GpuError>,
    /// Where the system tells about itself.
    pub system: System,
}

/// The directories in which a Linux system tells about itself.
#[derive(Debug, Clone)]
pub struct System {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/run`.
    pub run: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), run: "/run".into() }
    }
}

/// Runs every local check. Calls block for a few milliseconds.
pub fn local(checks: &LocalChecks<'_>) -> Vec<Finding> {
    let mut findings = vec![
        clock(checks.now, checks.certificate),
        clock_sync(&checks.system),
        network::udp_buffers(checks.socket_buffer_bytes),
        network::gso(&rustix::system::uname().release().to_string_lossy()),
        network::mtu(&checks.system),
        limits::open_files(),
        limits::locked_memory(checks.slab_bytes, checks.rdma.usable(), &checks.system),
        limits::uring(checks.probe_uring, &checks.system),
        disk::root(checks.root),
    ];
    findings.extend(rdma::rdma(&checks.rdma, &checks.system));
    findings.extend(gpu::gpus(&checks.gpus, &checks.system));
    findings
}

fn finding(
    check: &str,
    level: Level,
    finding: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding { check: check.to_owned(), level, finding: finding.into(), fix: fix.into() }
}

/// Certificates are only as good as the clock.
fn clock(now: SystemTime, certificate: Option<(SystemTime, SystemTime)>) -> Finding {
    const SET: &str = "set the clock and keep it set, for example: timedatectl set-ntp true";
    let say = |level, text: String, fix: &str| finding("clock", level, text, fix);
    let away = |later: SystemTime, earlier: SystemTime| {
        let seconds = later.duration_since(earlier).unwrap_or_default().as_secs();
        if seconds < 2 * DAY_S {
            human::seconds(seconds as f64)
        } else {
            format!("{} days", human::count(seconds / DAY_S))
        }
    };
    if now < UNIX_EPOCH + Duration::from_secs(WRITTEN_S) {
        let text = "the clock is before the time when this version of portway was written";
        return say(Level::Fail, text.to_owned(), SET);
    }
    match certificate {
        Some((begins, _)) if now < begins => {
            let text = format!(
                "the clock is {} before this node's certificate becomes valid",
                away(begins, now)
            );
            say(Level::Fail, text, SET)
        }
        Some((_, ends)) if ends <= now => {
            let text = format!("this node's certificate ended {} ago", away(now, ends));
            say(Level::Fail, text, "have a new certificate signed: portway invite, portway join")
        }
        Some((_, ends)) => {
            let text =
                format!("plausible; the node's certificate is valid for {}", away(ends, now));
            say(Level::Ok, text, "")
        }
        None => say(Level::Ok, "plausible; there is no certificate to compare with".to_owned(), ""),
    }
}

/// Only systemd-timesyncd leaves a mark that can be read without asking the kernel for more rights.
fn clock_sync(system: &System) -> Finding {
    let mark = system.run.join("systemd/timesync/synchronized");
    let text = if mark.exists() {
        "kept by systemd-timesyncd"
    } else {
        "not checked: no mark of systemd-timesyncd; other NTP clients leave none"
    };
    finding("clock-sync", Level::Ok, text, "")
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
