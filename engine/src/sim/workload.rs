//! Source trees and what happens to them, and every version that a path ever had.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::process::Hook;
use super::rng::Rng;
use crate::base::{Digest, FileTime, RelPath};
use crate::storage::{Kind, MemoryTree, Tree, mkdir_all};

/// What a name was at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    File { content: Digest, len: u64, mode: u32, mtime: FileTime },
    Link(Vec<u8>),
    Dir,
}

/// Everything that each path of the snapshot ever was, oldest first.
#[derive(Clone, Default)]
pub(super) struct Versions(Arc<Mutex<BTreeMap<RelPath, Vec<Version>>>>);

impl Versions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RelPath, Vec<Version>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, path: RelPath, version: Version) {
        let mut all = self.all();
        let known = all.entry(path).or_default();
        if !known.contains(&version) {
            known.push(version);
        }
    }

    pub(super) fn has(&self, path: &RelPath, version: &Version) -> bool {
        self.all().get(path).is_some_and(|known| known.contains(version))
    }
}

/// What is at `path` of `tree` now.
pub(crate) fn look(tree: &MemoryTree, path: &RelPath) -> io::Result<Version> {
    let meta = tree.meta(path)?;
    Ok(match meta.kind {
        Kind::Symlink => Version::Link(tree.read_link(path)?),
        Kind::Dir => Version::Dir,
        _ => Version::File {
            content: Digest::of(&content(tree, path)?),
            len: meta.len,
            mode: meta.mode & 0o777,
            mtime: meta.mtime,
        },
    })
}

/// All bytes of the file at `path`.
pub(super) fn content(tree: &MemoryTree, path: &RelPath) -> io::Result<Vec<u8>> {
    let file = tree.open(path)?;
    let mut bytes = vec![0; file.meta()?.len as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Paths at and below `top` in canonical order, with their kinds.
pub(crate) fn walk(tree: &MemoryTree, top: &RelPath) -> io::Result<Vec<(RelPath, Kind)>> {
    let mut found = Vec::new();
    let mut todo = vec![top.clone()];
    while let Some(path) = todo.pop() {
        let kind = tree.meta(&path)?.kind;
        if kind == Kind::Dir {
            let mut names: Vec<Vec<u8>> =
                tree.list(&path)?.into_iter().map(|(name, _)| name).collect();
            names.sort_unstable_by(|a, b| b.cmp(a));
            for name in names {
                if !(path.is_root() && name == crate::runtime::OWN_DIR) {
                    todo.push(path.join(&name).map_err(io::Error::other)?);
                }
            }
        }
        found.push((path, kind));
    }
    Ok(found)
}

/// One source tree that a seed made.
pub(super) struct Workload {
    pub(super) tree: MemoryTree,
    /// Where each source lies in the tree, and its place in the snapshot.
    pub(super) roots: Vec<(RelPath, RelPath)>,
    pub(super) versions: Versions,
    contents: Vec<Vec<u8>>,
    dirs: Vec<RelPath>,
    large: bool,
    names: u32,
}

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).unwrap_or_default()
}

impl Workload {
    /// A tree below `src` of another tree.
    pub(super) fn build(rng: &mut Rng) -> io::Result<Self> {
        let mut made = Self {
            tree: MemoryTree::new(rng.next()),
            roots: vec![(path("src"), RelPath::root())],
            versions: Versions::default(),
            contents: Vec::new(),
            dirs: vec![path("src")],
            large: rng.chance(12),
            names: 0,
        };
        mkdir_all(&made.tree, &path("src"))?;
        if rng.chance(10) {
            let one = path("src/one.bin");
            made.write_file(rng, &one)?;
            made.roots = vec![(one, RelPath::root())];
            made.note_all()?;
            return Ok(made);
        }
        if rng.chance(10) {
            made.roots = vec![(path("src/a"), path("a")), (path("src/b"), path("deep"))];
            made.dirs = vec![path("src/a"), path("src/b")];
        }
        for dir in ["src/a", "src/a/b", "src/c-d", "src/empty", "src/a-1"] {
            let dir = path(dir);
            let below = made.dirs.iter().any(|top| dir.strip(top).is_some());
            if made.dirs.contains(&dir) || (below && rng.chance(60)) {
                mkdir_all(&made.tree, &dir)?;
                if !made.dirs.contains(&dir) && !dir.as_bytes().ends_with(b"empty") {
                    made.dirs.push(dir);
                }
            }
        }
        for (source, _) in made.roots.clone() {
            mkdir_all(&made.tree, &source)?;
        }
        let many = if rng.chance(10) { 120 } else { 14 };
        for _ in 0..rng.between(1, many) {
            made.add_file(rng)?;
        }
        for _ in 0..rng.below(3) {
            made.add_link(rng)?;
        }
        for dir in made.dirs.clone() {
            let mode = [0o755, 0o700, 0o775, 0o555][rng.below(4) as usize];
            let mtime = old_time(rng);
            made.tree.set_meta(&dir, mode, mtime)?;
        }
        made.note_all()?;
        Ok(made)
    }

    /// Where a path of the source tree lies in the snapshot.
    pub(super) fn placed(&self, at: &RelPath) -> Option<RelPath> {
        self.roots.iter().find_map(|(source, place)| place.join_path(&at.strip(source)?).ok())
    }

    /// Paths of the source tree that are in the snapshot, in canonical order of the snapshot.
    pub(super) fn listing(&self) -> io::Result<Vec<(RelPath, Kind)>> {
        let mut all = Vec::new();
        for (source, _) in &self.roots {
            if self.tree.meta(source).is_ok() {
                all.extend(walk(&self.tree, source)?);
            }
        }
        Ok(all)
    }

    fn files(&self) -> io::Result<Vec<RelPath>> {
        let all = self.listing()?.into_iter();
        Ok(all.filter(|(_, kind)| *kind == Kind::File).map(|(path, _)| path).collect())
    }

    /// Content bytes of all files.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        self.files()?.iter().map(|path| Ok(self.tree.meta(path)?.len)).sum()
    }

    /// Content bytes that were read of all files so far.
    pub(super) fn bytes_read(&self) -> io::Result<u64> {
        self.files()?.iter().map(|path| self.tree.bytes_read(path)).sum()
    }

    fn note(&self, at: &RelPath) -> io::Result<()> {
        if let Some(placed) = self.placed(at) {
            self.versions.add(placed, look(&self.tree, at)?);
        }
        Ok(())
    }

    fn note_all(&self) -> io::Result<()> {
        self.listing()?.iter().try_for_each(|(path, _)| self.note(path))
    }

    fn new_name(&mut self, rng: &mut Rng, suffix: &[u8]) -> Option<RelPath> {
        self.names += 1;
        let mut name = match rng.below(6) {
            0 => format!("-{} ", self.names).into_bytes(),
            1 => [&b"\xff\xfe"[..], self.names.to_string().as_bytes()].concat(),
            _ => format!("f{}", self.names).into_bytes(),
        };
        name.extend_from_slice(suffix);
        rng.pick(&self.dirs)?.join(&name).ok()
    }

    fn add_file(&mut self, rng: &mut Rng) -> io::Result<()> {
        let suffix: &[u8] = if rng.chance(20) { b".safetensors" } else { b"" };
        let Some(path) = self.new_name(rng, suffix) else { return Ok(()) };
        self.write_file(rng, &path)
    }

    fn add_link(&mut self, rng: &mut Rng) -> io::Result<()> {
        let Some(path) = self.new_name(rng, b".link") else { return Ok(()) };
        self.tree.symlink(format!("to/{}", rng.below(9)).as_bytes(), &path)?;
        self.note(&path)
    }

    /// Writes a new file; sometimes with holes.
    fn write_file(&mut self, rng: &mut Rng, at: &RelPath) -> io::Result<()> {
        let bytes = self.new_content(rng, at);
        let file = self.tree.create(at)?;
        let sparse = rng.chance(15);
        for (n, part) in (0_u64..).zip(bytes.chunks(32 << 10)) {
            // Holes are pages that were never written; the data lies a few blocks apart.
            let offset = if sparse { n * (160 << 10) } else { n * (32 << 10) };
            file.write_at(part, offset)?;
        }
        if sparse {
            let end = file.meta()?.len;
            file.set_len(end + rng.spread(1 << 20))?;
        }
        file.set_meta(
            [0o644, 0o600, 0o755, 0o444][rng.below(4) as usize],
            if rng.chance(80) { old_time(rng) } else { file.meta()?.mtime },
        )?;
        self.note(at)
    }

    fn new_content(&mut self, rng: &mut Rng, at: &RelPath) -> Vec<u8> {
        if rng.chance(25)
            && let Some(known) = rng.pick(&self.contents)
        {
            // The same again, or most of it at another place.
            let known = known.clone();
            let more = if rng.chance(50) { 0 } else { rng.spread(5000) as usize };
            let mut bytes = rng.bytes(more);
            bytes.extend(known);
            return bytes;
        }
        let len = match rng.below(10) {
            0 => 0,
            1..=3 => rng.spread(4 << 10),
            4..=6 => rng.spread(70 << 10),
            7 if self.large => rng.between(2 << 20, 5 << 20),
            _ => rng.spread(300 << 10),
        };
        let bytes = if at.as_bytes().ends_with(b".safetensors") {
            tensors(rng, len as usize)
        } else if rng.chance(5) {
            vec![0; len as usize]
        } else {
            rng.bytes(len as usize)
        };
        if self.contents.len() < 6 && !bytes.is_empty() {
            self.contents.push(bytes.clone());
        }
        bytes
    }

    /// Changes the source between two transfers.
    pub(super) fn change(&mut self, rng: &mut Rng) -> io::Result<()> {
        let single = self.roots.iter().any(|(source, _)| source == &path("src/one.bin"));
        for _ in 0..rng.between(1, 5) {
            let files = self.files()?;
            let Some(at) = rng.pick(&files).cloned() else { break };
            match rng.below(if single { 3 } else { 9 }) {
                0..=2 => edit(rng, &self.tree, &at)?,
                3 => self.tree.unlink(&at)?,
                4 => {
                    let to = self.new_name(rng, b"").unwrap_or_default();
                    self.tree.rename(&at, &to, false)?;
                }
                5 => {
                    self.tree.unlink(&at)?;
                    self.tree.mkdir(&at)?;
                    self.tree.set_meta(&at, 0o755, old_time(rng))?;
                    self.dirs.push(at);
                }
                6 => self.add_link(rng)?,
                _ => self.add_file(rng)?,
            }
        }
        self.note_all()
    }

    /// A change of one file at a moment when a transfer reads it.
    pub(super) fn sudden_change(&self, rng: &mut Rng) -> io::Result<Option<Hook>> {
        let files = self.files()?;
        let Some(at) = rng.pick(&files).cloned() else { return Ok(None) };
        let mut rng = Rng::new(rng.next());
        let (versions, placed) = (self.versions.clone(), self.placed(&at));
        // Without its only file there is no source to come back to.
        let may_go = self.roots.iter().all(|(source, _)| *source != at);
        Ok(Some(Box::new(move |tree: &MemoryTree| {
            // The file may be gone by now, which is a change too.
            let done = match rng.below(12) {
                0 if may_go => tree.unlink(&at),
                1 => replace(&mut rng, tree, &at),
                _ => edit(&mut rng, tree, &at),
            };
            if let (Ok(()), Some(placed), Ok(version)) = (done, placed, look(tree, &at)) {
                versions.add(placed, version);
            }
        })))
    }
}

fn old_time(rng: &mut Rng) -> FileTime {
    FileTime {
        secs: 1_500_000_000 + rng.below(1000).cast_signed(),
        nanos: rng.below(1_000_000_000) as u32,
    }
}

/// Changes a file in place: its bytes, length, mode or time.
fn edit(rng: &mut Rng, tree: &MemoryTree, at: &RelPath) -> io::Result<()> {
    let file = tree.open_rw(at)?;
    let meta = file.meta()?;
    match rng.below(6) {
        0 => file.set_len(rng.below(meta.len + 1)),
        1 => file.write_at(&rng.bytes(5000), meta.len),
        2 => file.set_meta(0o640, meta.mtime),
        3 => file.set_meta(meta.mode, old_time(rng)),
        4 => {
            // The time is set back, as a tool that hides its traces does.
            file.write_at(&rng.bytes(100), rng.below(meta.len + 1))?;
            file.set_meta(meta.mode, meta.mtime)
        }
        _ => {
            let len = rng.spread(meta.len + 1) as usize + 1;
            file.write_at(&rng.bytes(len), rng.below(meta.len + 1))
        }
    }
}

/// Puts another file in the place of one.
fn replace(rng: &mut Rng, tree: &MemoryTree, at: &RelPath) -> io::Result<()> {
    let other = path("other");
    let len = rng.spread(100 << 10) as usize;
    tree.create(&other)?.write_at(&rng.bytes(len), 0)?;
    tree.rename(&other, at, true)
}

/// A safetensors file of a few tensors.
fn tensors(rng: &mut Rng, len: usize) -> Vec<u8> {
    let count = rng.between(1, 4) as usize;
    let each = len / count / 4;
    let mut entries = Vec::new();
    for n in 0..count {
        let (first, end) = (n * each * 4, (n + 1) * each * 4);
        entries.push(format!(
            "\"t{n}\":{{\"dtype\":\"F32\",\"shape\":[{each}],\"data_offsets\":[{first},{end}]}}"
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend(rng.bytes(count * each * 4));
    bytes
}
