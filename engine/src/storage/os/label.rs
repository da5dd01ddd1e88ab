//! Labels of files and directories: an extended attribute each, which stays with the inode through
//! renames and hard links, and goes along where a copy keeps attributes (`cp -a`, `rsync -X`).

mod relative;

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fd::BorrowedFd;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, lgetxattr, lsetxattr};
use rustix::io::Errno;

/// The attribute that holds a label.
const NAME: &CStr = c"user.portway.class";
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
    answer(|label| match relative::get(dir, name, label) {
        Some(read) => read,
        None => lgetxattr(path(dir, name), NAME, label),
    })
}

/// Gives `name` in a directory a label; a link is not followed.
pub(super) fn set_at(dir: BorrowedFd<'_>, name: &[u8], label: &[u8]) -> io::Result<()> {
    Ok(lsetxattr(path(dir, name), NAME, label, XattrFlags::empty())?)
}

/// A way to a name in a directory for calls that take none relative to it.
fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn both_ways_to_a_name_in_a_directory_find_the_same_label() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("none"), b"").unwrap();
        std::fs::write(at("long"), b"").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("dir", at("link")).unwrap();
        let longest = "n".repeat(255);
        std::fs::write(at(&longest), b"").unwrap();
        let held = std::fs::File::open(dir.path()).unwrap();
        let held = held.as_fd();
        set_at(held, b"dir", b"restricted").unwrap();
        set_at(held, longest.as_bytes(), b"internal").unwrap();
        set_at(held, b"long", &[b'c'; LABEL_BYTES_MAX + 1]).unwrap();
        let told = |found: io::Result<_>| found.map_err(|error| error.raw_os_error());
        let found = |name: &str| told(super::at(held, name.as_bytes()));
        for name in ["none", "dir", "link", "long", "absent", &longest, &"n".repeat(256)] {
            let by_path = |label: &mut [u8]| lgetxattr(path(held, name.as_bytes()), NAME, label);
            assert_eq!(found(name), told(answer(by_path)), "{name}");
        }
        assert_eq!(found("dir"), Ok(Some(b"restricted".to_vec())));
        assert_eq!(found("link"), Ok(None), "a link is not followed");
        assert!(found("absent").is_err() && found("long").is_err());
    }
}
