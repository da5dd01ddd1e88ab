//! Renaming without replacing, also where the file system has no such call.

use rustix::fd::BorrowedFd;
use rustix::fs::{self, AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;

/// A name in a held directory.
pub(super) type At<'a> = (BorrowedFd<'a>, &'a [u8]);

/// Renames `from` to `to`; `EXIST` if `to` exists, decided by the file system.
pub(super) fn without_replacing(from: At<'_>, to: At<'_>) -> rustix::io::Result<()> {
    match fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // The file system, or a kernel before 3.15, does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => in_two_steps(from, to),
        other => other,
    }
}

/// The same by calls that every file system has; each leaves an existing name alone.
///
/// A file or link gets its second name, which fails if that exists, and then loses its first. A
/// crash between the two leaves both names, never none. A directory cannot have two names: the
/// new name is taken by an empty directory, which the rename then replaces; all that others can
/// lose by it is an empty directory that they put there in between.
pub(super) fn in_two_steps(from: At<'_>, to: At<'_>) -> rustix::io::Result<()> {
    let stat = fs::statat(from.0, from.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?;
        return fs::unlinkat(from.0, from.1, AtFlags::empty());
    }
    fs::mkdirat(to.0, to.1, Mode::RWXU)?;
    let renamed = fs::renameat(from.0, from.1, to.0, to.1);
    if renamed.is_err() {
        // The error to tell is that of the rename; this one only tidies up.
        let _ = fs::unlinkat(to.0, to.1, AtFlags::REMOVEDIR);
    }
    renamed
}
