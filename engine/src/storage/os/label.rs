//! Labels of files and directories: an extended attribute each, which stays with the inode through
//! renames and hard links, and goes along where a copy keeps attributes (`cp -a`, `rsync -X`).

use std::io;
use std::os::fd::AsRawFd;

use rustix::fd::BorrowedFd;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, lgetxattr, lsetxattr};
use rustix::io::Errno;

/// The attribute that holds a label.
const NAME: &str = "user.portway.class";
/// Longest label that is read, in bytes; a class is shorter.
const LABEL_BYTES_MAX: usize = 255;

/// What the system answered. A file without one, or on a file system that keeps none, has none; a
/// longer one is no class, and says so.
fn answer(
    read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Option<Vec<u8>>> {
    let mut label = [0; LABEL_BYTES_MAX];
    match read(&mut label) {
        Ok(len) => Ok(Some(label[..len.min(LABEL_BYTES_MAX)].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The label of what is open.
pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    answer(|label| fgetxattr(fd, NAME, label))
}

/// Gives what is open a label.
pub(super) fn set(fd: BorrowedFd<'_>, label: &[u8]) -> io::Result<()> {
    Ok(fsetxattr(fd, NAME, label, XattrFlags::empty())?)
}

/// The label of `name` in a directory; a link is not followed.
pub(super) fn at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    answer(|label| lgetxattr(path(dir, name), NAME, label))
}

/// Gives `name` in a directory a label; a link is not followed.
pub(super) fn set_at(dir: BorrowedFd<'_>, name: &[u8], label: &[u8]) -> io::Result<()> {
    Ok(lsetxattr(path(dir, name), NAME, label, XattrFlags::empty())?)
}

/// There is no call for attributes relative to a directory before Linux 6.13.
fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
}
