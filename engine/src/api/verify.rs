//! `verify`: what is published is read again from the medium and compared with its manifest.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use super::calls::local_error;
use super::engine::canonical;
use super::sources::nearest_root;
use super::{Error, Exit, VerifyReport};
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::base::{Digest, RelPath};
use crate::manifest::{EntryKind, ListHasher};
use crate::protocol::Failure;
use crate::runtime::manifest_file::{Listed, ManifestReader};
use crate::runtime::target::{Nested, describing};
use crate::storage::{File, Kind, Method, OsTree, Tree};

/// Differences that a report lists.
const LISTED_MAX: usize = 1000;

/// Verifies a local path below a root of ours.
pub(super) fn local(path: &Path, method: Method) -> Result<VerifyReport, Error> {
    let full = canonical(path)?;
    let (root, below) = nearest_root(&full);
    if !root.join(".portway").is_dir() {
        let message = format!("no manifest covers {}", path.display());
        return Err(Error::new("no-manifest", Exit::Failed, message)
            .hint("only what was pushed or pulled with portway has a manifest"));
    }
    let tree = OsTree::open_with(&root, method)
        .map_err(|e| Error::new("root", Exit::Failed, format!("{}: {e}", root.display())))?;
    let below = RelPath::from_typed(below.as_os_str().as_bytes())
        .map_err(|e| Error::new("usage", Exit::Usage, format!("{}: {e}", path.display())))?;
    published(&tree, &below).map_err(|failure| local_error(&failure))
}

/// Root digest of a published manifest, if it is whole.
pub(super) fn root_of(tree: &dyn Tree, manifest: &RelPath) -> Option<Digest> {
    let mut reader = ManifestReader::open(tree, manifest).ok()??;
    while reader.read().ok()?.is_some() {}
    reader.end().filter(|end| end.entries > 0).map(|end| end.root)
}

/// Verifies what a manifest says of `path`: its own, or that of a directory above it. What was published
/// below it later has a manifest of its own, which counts there.
pub(super) fn published(tree: &dyn Tree, path: &RelPath) -> Result<VerifyReport, Failure> {
    let begun = Instant::now();
    let mut base = path.clone();
    let reader = loop {
        if let Some(reader) = describing(tree, &base).map_err(|e| unread(&base, &e))? {
            break reader;
        }
        base = base
            .parent()
            .ok_or_else(|| Failure::new("no-manifest", format!("no manifest covers {path}")))?;
    };
    let nested = Nested::below(tree, &base).map_err(|e| unread(&base, &e))?;
    let report = VerifyReport::default();
    let mut verify = Verify { tree, path, nested, buffer: vec![0; CHUNK_BYTES_MAX], report };
    let root = verify.snapshot(reader, &base)?;
    let mut report = verify.report;
    report.root = root.map(|root| root.to_string()).unwrap_or_default();
    report.elapsed_s = begun.elapsed().as_secs_f64();
    Ok(report)
}

fn unread(path: &RelPath, error: &io::Error) -> Failure {
    crate::runtime::fatal("read the manifest of", path, error)
}

struct Verify<'a> {
    tree: &'a dyn Tree,
    /// What is verified, and what lies below it.
    path: &'a RelPath,
    nested: Nested,
    buffer: Vec<u8>,
    report: VerifyReport,
}

impl Verify<'_> {
    /// Verifies what this manifest says, and those that count below it; its root digest.
    fn snapshot(
        &mut self,
        mut reader: ManifestReader,
        base: &RelPath,
    ) -> Result<Option<Digest>, Failure> {
        let damaged = |_| Failure::new("manifest", format!("the manifest of {base} is damaged"));
        let mut passed: Option<RelPath> = None;
        while let Some(listed) = reader.read().map_err(damaged)? {
            let at = base.join_path(&listed.entry.path);
            let at = at.map_err(|e| Failure::new("unsafe-path", e.to_string()))?;
            let elsewhere = passed.as_ref().is_some_and(|passed| at.strip(passed).is_some());
            if elsewhere || at.strip(self.path).is_none() {
                continue;
            }
            let below = if at == *base { Ok(None) } else { self.nested.at(self.tree, &at) };
            if let Some(reader) = below.map_err(|e| unread(&at, &e))? {
                self.snapshot(reader, &at)?;
                passed = Some(at);
                continue;
            }
            self.entry(&at, &listed);
        }
        Ok(reader.end().map(|end| end.root))
    }

    fn entry(&mut self, at: &RelPath, listed: &Listed) {
        let report = &mut self.report;
        report.files += u64::from(listed.entry.is_file());
        if let Err(how) = check(self.tree, at, listed, &mut self.buffer, &mut report.bytes) {
            report.bad_total += 1;
            if report.bad.len() < LISTED_MAX {
                report.bad.push((at.to_string(), how));
            }
        }
    }
}

fn check(
    tree: &dyn Tree,
    at: &RelPath,
    listed: &Listed,
    buffer: &mut [u8],
    bytes: &mut u64,
) -> Result<(), String> {
    let meta = match tree.meta(at) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("missing".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    match (&listed.entry.kind, meta.kind) {
        (EntryKind::Dir, Kind::Dir) => Ok(()),
        (EntryKind::Symlink(text), Kind::Symlink) => {
            let same = tree.read_link(at).is_ok_and(|now| now == *text);
            if same { Ok(()) } else { Err("the link points elsewhere".to_owned()) }
        }
        (EntryKind::File { len, .. }, Kind::File) => {
            if meta.len != *len {
                return Err(format!("has {} bytes, should have {len}", meta.len));
            }
            let file = tree.open(at).map_err(|e| e.to_string())?;
            check_content(&*file, *len, listed, buffer, bytes)
        }
        (_, kind) => Err(format!("is a {kind} now")),
    }
}

/// Reads every chunk; what lies between chunks must be zeros, as a hole reads.
fn check_content(
    file: &dyn File,
    len: u64,
    listed: &Listed,
    buffer: &mut [u8],
    bytes: &mut u64,
) -> Result<(), String> {
    // What a cache holds says nothing about the medium.
    let _ = file.drop_cache();
    let mut list = ListHasher::default();
    let mut at = 0;
    for chunk in &listed.chunks {
        check_zeros(file, at, chunk.offset, buffer, bytes)?;
        let room = &mut buffer[..chunk.len as usize];
        let read = file.read_at(room, chunk.offset).map_err(|e| e.to_string())?;
        *bytes += read as u64;
        if Digest::of(&room[..read]) != chunk.digest {
            return Err(format!("differs in the {} bytes at {}", chunk.len, chunk.offset));
        }
        if !list.push(chunk) {
            return Err("its chunk list is damaged".to_owned());
        }
        at = chunk.end();
    }
    check_zeros(file, at, len, buffer, bytes)?;
    match listed.object {
        Some(object) if list.finish(len) == object.digest => Ok(()),
        _ => Err("its chunk list is damaged".to_owned()),
    }
}

fn check_zeros(
    file: &dyn File,
    mut at: u64,
    end: u64,
    buffer: &mut [u8],
    bytes: &mut u64,
) -> Result<(), String> {
    while at < end {
        // Holes are skipped, not read: a sparse file may be larger than any disk.
        let data = file.next_data(at).map_err(|e| e.to_string())?;
        let Some(data) = data.filter(|extent| extent.offset < end) else { return Ok(()) };
        at = data.offset;
        let want = (end - at).min(data.len).min(buffer.len() as u64) as usize;
        let read = file.read_at(&mut buffer[..want], at).map_err(|e| e.to_string())?;
        *bytes += read as u64;
        if read == 0 || buffer[..read].iter().any(|byte| *byte != 0) {
            return Err(format!("should be zeros at {at}"));
        }
        at += read as u64;
    }
    Ok(())
}
