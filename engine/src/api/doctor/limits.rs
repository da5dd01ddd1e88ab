//! Checks of what the system lets this process have.

use std::io;

use rustix::process::{Resource, getrlimit};

use super::{System, finding, read_number};
use crate::api::{Finding, Level};
use crate::base::human;

/// Descriptors that a busy node wants: sockets, files under way, the index.
const OPEN_FILES_WANTED: u64 = 4096;

/// What the rings of `io_uring` may take; Linux before 5.12 counts them as locked memory.
const RINGS_BYTES: u64 = 1 << 20;

/// The number of the capability to lock memory without a limit (capabilities(7)).
const CAP_IPC_LOCK: u32 = 14;

/// Open files of one process.
pub(super) fn open_files() -> Finding {
    judge_open_files(getrlimit(Resource::Nofile).current)
}

pub(super) fn judge_open_files(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < OPEN_FILES_WANTED => finding(
            "fd-limit",
            Level::Warn,
            format!("{} open files are allowed", human::count(limit)),
            format!(
                "ulimit -n {OPEN_FILES_WANTED}, or LimitNOFILE={OPEN_FILES_WANTED} in the unit"
            ),
        ),
        Some(limit) => {
            let text = format!("{} open files are allowed", human::count(limit));
            finding("fd-limit", Level::Ok, text, "")
        }
        None => finding("fd-limit", Level::Ok, "open files are not limited", ""),
    }
}

/// Memory that may be locked: the slab, for each rail that is open, and the rings of `io_uring` on
/// older kernels.
pub(super) fn locked_memory(slab_bytes: u64, rdma: bool, system: &System) -> Finding {
    let limit = getrlimit(Resource::Memlock).current;
    let status = std::fs::read_to_string(system.proc.join("self/status")).unwrap_or_default();
    judge_locked_memory(limit.filter(|_| !may_lock_all(&status)), slab_bytes, rdma)
}

/// Whether `/proc/self/status` shows the capability that frees a process of the limit.
pub(super) fn may_lock_all(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.unwrap_or(0) >> CAP_IPC_LOCK & 1 == 1
}

/// `rdma` says whether content can go by RDMA here.
pub(super) fn judge_locked_memory(limit: Option<u64>, slab_bytes: u64, rdma: bool) -> Finding {
    let Some(limit) = limit else {
        return finding("memlock", Level::Ok, "locked memory is not limited", "");
    };
    let text =
        format!("{} may be locked, the slab has {}", human::bytes(limit), human::bytes(slab_bytes));
    let fix = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit; root is exempt";
    if rdma && limit < slab_bytes {
        let text = format!("{text}: RDMA locks it once for each rail that is open");
        finding("memlock", Level::Warn, text, fix)
    } else if limit < RINGS_BYTES {
        let text = format!("{text}: before Linux 5.12 that is too little for io_uring");
        finding("memlock", Level::Warn, text, fix)
    } else if rdma {
        let text = format!("{text}: RDMA locks it once for each rail that is open");
        finding("memlock", Level::Ok, text, fix)
    } else {
        finding("memlock", Level::Ok, text, "")
    }
}

/// Whether the kernel gives this process an `io_uring`.
pub(super) fn uring(probe: &dyn Fn() -> io::Result<()>, system: &System) -> Finding {
    let disabled = read_number(&system.proc.join("sys/kernel/io_uring_disabled"));
    judge_uring(probe(), disabled)
}

pub(super) fn judge_uring(probed: io::Result<()>, disabled: Option<u64>) -> Finding {
    let Err(error) = probed else {
        return finding("io-uring", Level::Ok, "the kernel allows it", "");
    };
    // kernel.io_uring_disabled: 0 for all, 1 for a group, 2 for nobody (Linux 6.6).
    let fix = match disabled {
        Some(1) => "sysctl -w kernel.io_uring_disabled=0, or set kernel.io_uring_group",
        Some(2) => "sysctl -w kernel.io_uring_disabled=0",
        Some(_) => "allow the io_uring calls in the container's seccomp profile",
        None => "use Linux 5.6 or newer",
    };
    let text = format!("not available ({error}); only storage.backend = \"uring\" needs it");
    finding("io-uring", Level::Ok, text, fix)
}
