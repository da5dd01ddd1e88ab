//! Finding again what is there: walks a tree and indexes every file that is not known yet.
//!
//! Which files are known, how they are cut and when to scan are the caller's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BaseId, FileChunks, Index, IndexError};
use crate::base::{Digest, RelPath};
use crate::storage::{File, Kind, Meta, Tree};

/// The directory below a root that holds the node's own state; no part of the content.
pub const STATE_DIR: &[u8] = b".portway";
/// Chunks that are gathered before they go into the index in one transaction. More would gain
/// little speed and leave the table's pages half empty (`docs/index.md`).
const BATCH_CHUNKS: usize = 1024;
/// Bytes of paths that are gathered at most.
const BATCH_PATH_BYTES: usize = 1 << 20;
/// Batches between two flushes: what a crash in the middle of a scan costs at most.
const FLUSH_BATCHES: u32 = 256;

/// Takes a chunk's digest, offset and bytes.
pub type Emit<'a> = dyn FnMut(Digest, u64, u32) + 'a;
/// Reads a file, with a buffer of one lease, cuts it and emits its chunks. A cutter that watches
/// the scan's `stop` flag may return any error once it is set.
pub type Cut<'a> = dyn FnMut(&Arc<dyn File>, &Meta, &mut Emit<'_>) -> io::Result<()> + 'a;

/// A walk over a tree, sorted and depth first, that indexes files under a base for the root.
///
/// Memory is bounded by the largest directories on one way down and a batch of chunks.
pub struct Scan<'a> {
    /// What to walk; [`STATE_DIR`] is left out.
    pub tree: &'a dyn Tree,
    /// Takes the chunks.
    pub index: &'a Index,
    /// Whether the regular file at this path, with this `lstat`, needs no indexing.
    pub known: &'a mut dyn FnMut(&RelPath, &Meta) -> bool,
    /// Cuts a file.
    pub cut: &'a mut Cut<'a>,
    /// Ends the walk early when set.
    pub stop: &'a AtomicBool,
}

/// What a scan did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Files that were read and indexed.
    pub files: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes in those.
    pub bytes: u64,
    /// Files that were known.
    pub known: u64,
    /// Files and directories that could not be read, or not to their end.
    pub failed: u64,
    /// Whether the scan was stopped before its end.
    pub stopped: bool,
}

impl Scan<'_> {
    /// Runs the scan to its end, or until it is stopped, and flushes the index.
    ///
    /// # Errors
    /// The index fails. A file or directory that fails is skipped and counted.
    pub fn run(mut self) -> Result<Scanned, IndexError> {
        let base = self.index.add_base(&RelPath::root())?;
        let mut batch = Batch::new(self.index, base);
        let mut done = Scanned::default();
        let mut open = Vec::new();
        open.extend(self.list(RelPath::root(), &mut done));
        while let Some((dir, names)) = open.last_mut() {
            if self.stop.load(Ordering::Relaxed) {
                done.stopped = true;
                break;
            }
            let Some((name, kind)) = names.next() else {
                open.pop();
                continue;
            };
            if dir.is_root() && name == STATE_DIR {
                continue;
            }
            // Below the deepest path that has a name there is nothing to serve.
            let Ok(path) = dir.join(&name) else {
                done.failed += 1;
                continue;
            };
            match self.look(&path, kind) {
                Ok((Kind::Dir, _)) => open.extend(self.list(path, &mut done)),
                Ok((Kind::File, Some(meta))) => self.file(path, &meta, &mut batch, &mut done)?,
                Ok(_) => {}
                Err(_) => done.failed += 1,
            }
        }
        batch.insert()?;
        self.index.flush()?;
        Ok(done)
    }

    /// What is at `path`, with its `lstat` unless the listing told that it is no file.
    fn look(&self, path: &RelPath, kind: Option<Kind>) -> io::Result<(Kind, Option<Meta>)> {
        match kind {
            None | Some(Kind::File) => self.tree.meta(path).map(|meta| (meta.kind, Some(meta))),
            Some(kind) => Ok((kind, None)),
        }
    }

    fn list(&self, dir: RelPath, done: &mut Scanned) -> Option<(RelPath, Names)> {
        let Ok(mut names) = self.tree.list(&dir) else {
            done.failed += 1;
            return None;
        };
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Some((dir, names.into_iter()))
    }

    fn file(
        &mut self,
        path: RelPath,
        meta: &Meta,
        batch: &mut Batch<'_>,
        done: &mut Scanned,
    ) -> Result<(), IndexError> {
        if (self.known)(&path, meta) {
            done.known += 1;
            return Ok(());
        }
        batch.begin(path);
        let cut = self.tree.open(batch.path()).and_then(|file| {
            (self.cut)(&file, meta, &mut |digest, offset, len| {
                batch.push(digest, offset, len);
                done.chunks += 1;
                done.bytes += u64::from(len);
            })
        });
        match cut {
            Ok(()) => done.files += 1,
            Err(_) if self.stop.load(Ordering::Relaxed) => done.stopped = true,
            // What was cut so far stays: every place is verified before it counts.
            Err(_) => done.failed += 1,
        }
        batch.end()
    }
}

type Names = std::vec::IntoIter<(Vec<u8>, Option<Kind>)>;

/// Chunks on their way into the index.
struct Batch<'a> {
    index: &'a Index,
    base: BaseId,
    chunks: Vec<(Digest, u64, u32)>,
    /// Each file's path and its first chunk in `chunks`.
    files: Vec<(RelPath, usize)>,
    path_bytes: usize,
    inserted: u32,
    /// The first failure of the index in the middle of a file.
    failed: Option<IndexError>,
}

impl<'a> Batch<'a> {
    fn new(index: &'a Index, base: BaseId) -> Self {
        let chunks = Vec::with_capacity(BATCH_CHUNKS);
        Self { index, base, chunks, files: Vec::new(), path_bytes: 0, inserted: 0, failed: None }
    }

    fn begin(&mut self, path: RelPath) {
        self.path_bytes += path.as_bytes().len();
        self.files.push((path, self.chunks.len()));
    }

    /// The path of the file that was begun last.
    fn path(&self) -> &RelPath {
        &self.files[self.files.len() - 1].0
    }

    fn push(&mut self, digest: Digest, offset: u64, len: u32) {
        if self.failed.is_some() {
            return;
        }
        self.chunks.push((digest, offset, len));
        if self.chunks.len() >= BATCH_CHUNKS {
            let path = self.path().clone();
            self.failed = self.insert().err();
            self.begin(path);
        }
    }

    fn end(&mut self) -> Result<(), IndexError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.path_bytes >= BATCH_PATH_BYTES { self.insert() } else { Ok(()) }
    }

    fn insert(&mut self) -> Result<(), IndexError> {
        let ends = self.files.iter().skip(1).map(|(_, start)| *start).chain([self.chunks.len()]);
        let files: Vec<FileChunks<'_>> = self
            .files
            .iter()
            .zip(ends)
            .map(|((path, start), end)| FileChunks {
                path: path.clone(),
                chunks: &self.chunks[*start..end],
            })
            .collect();
        self.index.insert(self.base, &files)?;
        self.chunks.clear();
        self.files.clear();
        self.path_bytes = 0;
        self.inserted += 1;
        if self.inserted.is_multiple_of(FLUSH_BATCHES) { self.index.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::fake::{MemTree, path};

    /// One chunk for each line.
    fn cut_lines(file: &Arc<dyn File>, meta: &Meta, emit: &mut Emit<'_>) -> io::Result<()> {
        let mut content = vec![0; meta.len as usize];
        file.read_at(&mut content, 0)?;
        let mut offset = 0;
        for line in content.split_inclusive(|&byte| byte == b'\n') {
            if line == b"bad\n" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            emit(Digest::of(line), offset, line.len() as u32);
            offset += line.len() as u64;
        }
        Ok(())
    }

    fn index(tree: &Arc<MemTree>) -> Index {
        Index::open(Arc::clone(tree) as _, &path(".portway/index.redb")).unwrap().0
    }

    fn found(index: &Index, line: &[u8]) -> Option<RelPath> {
        index.find(&[Digest::of(line)]).unwrap().remove(0).pop().map(|place| place.path)
    }

    #[test]
    fn a_scan_indexes_what_is_unknown_and_goes_on_after_a_failure() {
        let tree: Arc<MemTree> = Arc::default();
        tree.put("b/two", b"2\n3\n");
        tree.put("b/.portway/x", b"deeper\n");
        tree.put("b-", b"known\n");
        tree.put("a", b"1\nbad\n4\n");
        tree.put("c/empty", b"");
        tree.put(".portway/staging/x", b"state\n");
        tree.symlink(b"a", &path("link")).unwrap();
        let index = index(&tree);
        let mut asked = Vec::new();
        let done = Scan {
            tree: &*tree,
            index: &index,
            known: &mut |at, _| {
                asked.push(at.clone());
                *at == path("b-")
            },
            cut: &mut cut_lines,
            stop: &AtomicBool::new(false),
        }
        .run()
        .unwrap();
        let expected =
            Scanned { files: 3, chunks: 4, bytes: 13, known: 1, failed: 1, stopped: false };
        assert_eq!(done, expected);
        assert_eq!(asked, ["a", "b/.portway/x", "b/two", "b-", "c/empty"].map(path));
        assert_eq!(found(&index, b"1\n"), Some(path("a")));
        assert_eq!(found(&index, b"3\n"), Some(path("b/two")));
        assert_eq!(found(&index, b"deeper\n"), Some(path("b/.portway/x")));
        assert_eq!(found(&index, b"state\n"), None);
        assert_eq!(found(&index, b"known\n"), None);
    }

    #[test]
    fn a_file_of_more_chunks_than_a_batch_is_indexed_whole() {
        let tree: Arc<MemTree> = Arc::default();
        let lines: Vec<String> = (0..BATCH_CHUNKS * 2 + 10).map(|n| format!("{n}\n")).collect();
        tree.put("d/big", lines.concat().as_bytes());
        tree.put("d/next", b"next\n");
        let index = index(&tree);
        let stop = AtomicBool::new(false);
        let scan = Scan {
            tree: &*tree,
            index: &index,
            known: &mut |_, _| false,
            cut: &mut cut_lines,
            stop: &stop,
        };
        assert_eq!(scan.run().unwrap().chunks, lines.len() as u64 + 1);
        for line in &lines {
            assert_eq!(found(&index, line.as_bytes()), Some(path("d/big")));
        }
        assert_eq!(found(&index, b"next\n"), Some(path("d/next")));
    }

    #[test]
    fn a_stopped_scan_keeps_what_it_had() {
        let tree: Arc<MemTree> = Arc::default();
        for name in ["a", "b", "c"] {
            tree.put(&format!("d/{name}"), format!("{name}\n").as_bytes());
        }
        let index = index(&tree);
        let stop = AtomicBool::new(false);
        let mut cut = |file: &Arc<dyn File>, meta: &Meta, emit: &mut Emit<'_>| {
            cut_lines(file, meta, emit)?;
            if found(&index, b"a\n").is_none() {
                stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        let scan = Scan {
            tree: &*tree,
            index: &index,
            known: &mut |_, _| false,
            cut: &mut cut,
            stop: &stop,
        };
        let done = scan.run().unwrap();
        assert!(done.stopped && done.files == 1, "{done:?}");
        assert_eq!(found(&index, b"a\n"), Some(path("d/a")));
        assert_eq!(found(&index, b"b\n"), None);
    }

    #[test]
    fn a_scan_ends_when_the_index_fails() {
        let tree: Arc<MemTree> = Arc::default();
        tree.put("a", b"1\n");
        let index = index(&tree);
        tree.file(&path(".portway/index.redb")).unwrap().fail_after(3, io::ErrorKind::Other);
        let stop = AtomicBool::new(false);
        let scan = Scan {
            tree: &*tree,
            index: &index,
            known: &mut |_, _| false,
            cut: &mut cut_lines,
            stop: &stop,
        };
        assert!(scan.run().is_err());
        assert!(index.is_broken());
    }
}
