//! A tree of everything that a file system allows and a mover forgets.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

use super::{Made, write};
use crate::rng::Rng;

/// Length of the file with holes.
const SPARSE_BYTES: u64 = 64 << 20;
/// Where its data lie, in units of 1 MiB; the rest, end included, is holes.
const SPARSE_ISLANDS: [u64; 3] = [0, 17, 40];
/// Length of the file that has two names.
const LINKED_BYTES: usize = 70_000;
/// Directories below one another.
const DEPTH: usize = 24;

/// Makes the tree in an empty directory.
pub(super) fn make(out: &Path, seed: u64) -> Result<Made> {
    let step = write::first_step(seed);
    let mut tree = Tree { rng: Rng::named(seed, "tree"), step, made: Made::default() };
    tree.sizes_and_modes(out)?;
    tree.names(out)?;
    tree.deep(out)?;
    tree.sparse(&out.join("sparse.bin"))?;
    links(out, step)?;
    tree.made.files += 2;
    tree.made.bytes += 2 * LINKED_BYTES as u64;
    rustix::fs::mkfifoat(CWD, out.join("fifo"), Mode::RUSR | Mode::WUSR).context("make a fifo")?;
    write::set_directory_times(out, step)?;
    old_times(out, step.cast_signed())?;
    // Last: nothing can be added to these afterwards.
    fs::set_permissions(out.join("dir-private"), Permissions::from_mode(0o700))?;
    fs::set_permissions(out.join("dir-read-only"), Permissions::from_mode(0o555))?;
    Ok(Made { new_bytes: tree.made.bytes, ..tree.made })
}

struct Tree {
    rng: Rng,
    /// Time of the first file.
    step: u64,
    made: Made,
}

impl Tree {
    fn file(&mut self, path: &Path, length: usize) -> Result<()> {
        let mut content = vec![0; length];
        self.rng.fill(&mut content);
        write::bytes(path, self.step + self.made.files, &content)?;
        self.made.files += 1;
        self.made.bytes += length as u64;
        Ok(())
    }

    fn sizes_and_modes(&mut self, out: &Path) -> Result<()> {
        for directory in ["dir-empty", "dir-private", "dir-read-only", "dir-of-empty"] {
            fs::create_dir(out.join(directory))?;
        }
        fs::create_dir(out.join("dir-of-empty/inner"))?;
        self.file(&out.join("dir-private/inside"), 10)?;
        self.file(&out.join("dir-read-only/inside"), 10)?;
        for length in [0, 1, 4095, 4096, 4097, 65_536, 2_097_151, 2_097_153] {
            self.file(&out.join(format!("length-{length}")), length)?;
        }
        self.file(&out.join("dir-of-empty/empty"), 0)?;
        for mode in [0o400, 0o444, 0o600, 0o640, 0o644, 0o664, 0o755, 0o777] {
            let path = out.join(format!("mode-{mode:o}"));
            self.file(&path, 100)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn names(&mut self, out: &Path) -> Result<()> {
        let directory = out.join("names");
        fs::create_dir(&directory)?;
        let long = [b'n'; 255];
        let mut long_wide = "ä".repeat(127).into_bytes();
        long_wide.push(b'x');
        let names: [&[u8]; 14] = [
            b"\xff\xfe not utf-8 \x80",
            b"new\nline",
            b"tab\tand \x1b[31mcolour",
            b"-rf",
            b"--json",
            b" space ",
            b"back\\slash",
            b"quote'\"`$(x)",
            b"colon:name",
            b"*?[glob]",
            b".hidden",
            b"...",
            &long,
            &long_wide,
        ];
        for name in names {
            self.file(&directory.join(OsStr::from_bytes(name)), 30)?;
        }
        let inner = directory.join(OsStr::from_bytes(b"dir \xc3\x28"));
        fs::create_dir(&inner)?;
        self.file(&inner.join("inside"), 30)
    }

    fn deep(&mut self, out: &Path) -> Result<()> {
        let mut path = out.join("deep");
        for level in 0..DEPTH {
            path.push(format!("level-{level}"));
        }
        fs::create_dir_all(&path)?;
        self.file(&path.join("bottom"), 1000)
    }

    fn sparse(&mut self, path: &Path) -> Result<()> {
        write::file(path, self.step, |file| {
            file.set_len(SPARSE_BYTES)?;
            let mut content = vec![0; 1 << 20];
            for island in SPARSE_ISLANDS {
                self.rng.fill(&mut content);
                file.write_all_at(&content, island << 20)?;
            }
            // Allocation is settled, so that it can be compared at once.
            Ok(file.sync_all()?)
        })?;
        self.made.files += 1;
        self.made.bytes += SPARSE_BYTES;
        Ok(())
    }
}

fn links(out: &Path, step: u64) -> Result<()> {
    let directory = out.join("links");
    fs::create_dir(&directory)?;
    write::bytes(&directory.join("original"), step, &vec![7; LINKED_BYTES])?;
    fs::hard_link(directory.join("original"), directory.join("hard-link"))?;
    symlink("original", directory.join("to-file"))?;
    symlink("../names", directory.join("to-dir"))?;
    symlink("../does/not/exist", directory.join("dangling"))?;
    symlink(OsStr::from_bytes(b"\xff\xfe"), directory.join("to-odd-name"))?;
    symlink("self", directory.join("self"))?;
    for link in ["to-file", "to-dir", "dangling", "to-odd-name", "self"] {
        set_times(&directory.join(link), 1_000_000_000, 1)?;
    }
    Ok(())
}

/// Times before 1970, at it, long ago, and after 2038.
fn old_times(out: &Path, step: i64) -> Result<()> {
    set_times(&out.join("mode-644"), step - 86_400, 500_000_000)?;
    set_times(&out.join("length-1"), step, 0)?;
    set_times(&out.join("length-4096"), step + 946_684_800, 999_999_999)?;
    set_times(&out.join("length-4097"), step + 4_102_444_800, 1)?;
    set_times(&out.join("fifo"), step + 1_000_000_000, 0)?;
    set_times(&out.join("dir-empty"), step + 86_400, 0)
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("set the time of {}", path.display()))
}
