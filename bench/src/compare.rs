//! Compares two trees by content and metadata: the judge that believes nobody's digests.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

/// Bytes read at a time from each side.
const BUFFER_BYTES: usize = 256 << 10;
/// Differences that are printed; all are counted.
const PRINT_MAX: usize = 50;
/// Allocation may differ by this much whatever the file's size: extents are rounded up.
const ALLOCATION_SLACK_BYTES: u64 = 64 << 10;

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The tree as it should be
    a: PathBuf,
    /// The tree to judge
    b: PathBuf,
    /// Compare modes, modification times and the allocation of sparse files too
    #[arg(long)]
    meta: bool,
    /// Leave pipes, sockets and devices out, which no mover is asked to make
    #[arg(long)]
    skip_special: bool,
}

/// What is compared beside names, types and content.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Modes, times to the nanosecond, allocation of sparse files.
    pub(crate) meta: bool,
    /// Pipes, sockets and devices are left out.
    pub(crate) skip_special: bool,
}

/// Compares and prints; false if there are differences.
pub(crate) fn run(args: &CompareArgs) -> Result<bool> {
    let options = Options { meta: args.meta, skip_special: args.skip_special };
    for root in [&args.a, &args.b] {
        anyhow::ensure!(metadata(root)?.is_some(), "there is no {}", shown(root));
    }
    let differences = trees(&args.a, &args.b, options)?;
    for difference in differences.iter().take(PRINT_MAX) {
        println!("{difference}");
    }
    if differences.len() > PRINT_MAX {
        println!("... {} differences in all", differences.len());
    }
    Ok(differences.is_empty())
}

/// All differences between two trees, a line each, paths escaped. The tree to judge may be missing,
/// which is a difference; the tree as it should be may not.
pub(crate) fn trees(a: &Path, b: &Path, options: Options) -> Result<Vec<String>> {
    anyhow::ensure!(metadata(a)?.is_some(), "there is no {}", shown(a));
    let mut walk = Walk { a, b, options, differences: Vec::new() };
    walk.entry(Path::new(""))?;
    Ok(walk.differences)
}

/// Whether two files hold the same bytes; where both have a hole, nothing is read.
pub(crate) fn same_content(a: &File, b: &File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut at = 0;
    loop {
        at = next_data(a, at)?.min(next_data(b, at)?);
        if at == u64::MAX {
            return Ok(true);
        }
        let count = read_full_at(a, &mut left, at)?;
        if read_full_at(b, &mut right, at)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
}

/// The first byte at or after `at` that is in no hole; `u64::MAX` if there is none.
fn next_data(file: &File, at: u64) -> std::io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(at) => Ok(at),
        Err(rustix::io::Errno::NXIO) => Ok(u64::MAX),
        Err(error) => Err(error.into()),
    }
}

/// A path for people: bytes that are not printable ASCII are escaped.
pub(crate) fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return ".".to_owned();
    }
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

struct Walk<'a> {
    a: &'a Path,
    b: &'a Path,
    options: Options,
    differences: Vec<String>,
}

impl Walk<'_> {
    fn differs(&mut self, path: &Path, how: impl std::fmt::Display) {
        self.differences.push(format!("{}: {how}", shown(path)));
    }

    fn entry(&mut self, path: &Path) -> Result<()> {
        let (left, right) = (place(self.a, path), place(self.b, path));
        let (a, b) = (metadata(&left)?, metadata(&right)?);
        let special = |meta: &Option<Metadata>| meta.as_ref().is_none_or(|m| kind(m) == "special");
        if self.options.skip_special && special(&a) && special(&b) {
            return Ok(());
        }
        let (a, b) = match (a, b) {
            (None, None) => return Ok(()),
            (Some(_), None) => {
                self.differs(path, "missing");
                return Ok(());
            }
            (None, Some(_)) => {
                self.differs(path, "not expected");
                return Ok(());
            }
            (Some(a), Some(b)) => (a, b),
        };
        if kind(&a) != kind(&b) {
            self.differs(path, format_args!("is a {}, should be a {}", kind(&b), kind(&a)));
            return Ok(());
        }
        if a.is_symlink() {
            if std::fs::read_link(&left)? != std::fs::read_link(&right)? {
                self.differs(path, "link text differs");
            }
        } else if a.is_file() {
            self.content(path, &a, &b)?;
        }
        if self.options.meta {
            self.meta(path, &a, &b);
        }
        if a.is_dir() {
            let names: BTreeSet<OsString> = names(&left)?.chain(names(&right)?).collect();
            for name in names {
                self.entry(&path.join(name))?;
            }
        }
        Ok(())
    }

    fn content(&mut self, path: &Path, a: &Metadata, b: &Metadata) -> Result<()> {
        if a.len() != b.len() {
            self.differs(path, format_args!("has {} bytes, should have {}", b.len(), a.len()));
            return Ok(());
        }
        let (left, right) = (place(self.a, path), place(self.b, path));
        let open = |path: &Path| File::open(path).with_context(|| format!("open {}", shown(path)));
        if !same_content(&open(&left)?, &open(&right)?)? {
            self.differs(path, "content differs");
        }
        Ok(())
    }

    fn meta(&mut self, path: &Path, a: &Metadata, b: &Metadata) {
        if !a.is_symlink() && a.mode() != b.mode() {
            let bits = |meta: &Metadata| meta.mode() & 0o7777;
            self.differs(path, format_args!("mode {:o}, should be {:o}", bits(b), bits(a)));
        }
        if (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
            let (s, ns) = (b.mtime(), b.mtime_nsec());
            let (should_s, should_ns) = (a.mtime(), a.mtime_nsec());
            self.differs(
                path,
                format_args!("mtime {s} s {ns} ns, not {should_s} s {should_ns} ns"),
            );
        }
        let (left, right) = (a.blocks() * 512, b.blocks() * 512);
        let sparse = a.is_file() && left < a.len();
        if sparse && left.abs_diff(right) > (left / 100).max(ALLOCATION_SLACK_BYTES) {
            self.differs(path, format_args!("{right} bytes allocated, should be {left}"));
        }
    }
}

/// `root` itself for the empty path: joining it would add a slash and follow a link.
fn place(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look at {}", shown(path))),
    }
}

fn names(directory: &Path) -> Result<impl Iterator<Item = OsString>> {
    let entries: std::io::Result<Vec<OsString>> = std::fs::read_dir(directory)
        .with_context(|| format!("list {}", shown(directory)))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    Ok(entries?.into_iter())
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() || kind.is_socket() => "special",
        () if kind.is_block_device() || kind.is_char_device() => "special",
        () => "unknown",
    }
}

fn read_full_at(source: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
