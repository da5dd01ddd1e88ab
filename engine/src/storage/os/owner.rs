//! What this process may do with directories and files that may be somebody else's.

use rustix::fd::BorrowedFd;
use rustix::fs::{self, Access, AtFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

/// Whether names in the directory may be changed.
pub(super) fn may_write(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    match fs::accessat(dir, c".", access, AtFlags::EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether mode and times may be set of what has these properties.
pub(super) fn owns(stat: &Stat) -> bool {
    let may = |all: CapabilitySet| all.contains(CapabilitySet::FOWNER);
    stat.st_uid == geteuid().as_raw() || capabilities(None).is_ok_and(|of| may(of.effective))
}
