//! `getxattrat`, which Linux has since 6.13: an attribute of a name in an open directory. A way through
//! `/proc/self/fd` takes twice as long.
#![allow(unsafe_code, reason = "no crate has this call")]

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use super::NAME;
use crate::base::limits::COMPONENT_BYTES_MAX;

/// The number of the call: one for all processors (`include/uapi/asm-generic/unistd.h`).
const GETXATTRAT: libc::c_long = 464;
/// Longest name in a directory, in bytes, and the NUL behind it.
const FILE_NAME_BYTES: usize = COMPONENT_BYTES_MAX + 1;

/// `struct xattr_args` (`include/uapi/linux/xattr.h`).
#[repr(C, align(8))]
struct Args {
    value: u64,
    size: u32,
    flags: u32,
}

/// Whether the call is missing, or forbidden by a filter: it is not tried again then.
static MISSING: AtomicBool = AtomicBool::new(false);

/// Reads the label of `name` in a directory, no link followed; `None` where the call is not to be had.
pub(super) fn get(
    dir: BorrowedFd<'_>,
    name: &[u8],
    label: &mut [u8],
) -> Option<rustix::io::Result<usize>> {
    let mut path = [0; FILE_NAME_BYTES];
    if MISSING.load(Ordering::Relaxed) || name.len() >= FILE_NAME_BYTES {
        return None;
    }
    path[..name.len()].copy_from_slice(name);
    let size = u32::try_from(label.len()).unwrap_or(u32::MAX);
    let args = Args { value: label.as_mut_ptr() as u64, size, flags: 0 };
    // SAFETY: `path` and `NAME` end with a NUL, `args` is what the call takes and says how long it is,
    // and the system writes no more than `size` bytes at `value`, which `label` has.
    let read = unsafe {
        libc::syscall(
            GETXATTRAT,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            NAME.as_ptr(),
            &raw const args,
            size_of::<Args>(),
        )
    };
    if let Ok(bytes) = usize::try_from(read) {
        return Some(Ok(bytes));
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        // No attribute of this kind is refused to a reader with `PERM`; a filter of calls does that.
        Errno::NOSYS | Errno::PERM => {
            MISSING.store(true, Ordering::Relaxed);
            None
        }
        error => Some(Err(error)),
    }
}
