//! Manifest files: written once in canonical order, read in the same order.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::OBJECTS_MAX;
use crate::base::{Class, Digest, RelPath};
use crate::manifest::record::{self, MAGIC_BYTES};
use crate::manifest::{
    ChunkRef, Entry, EntryKind, LIST_CHUNKS_MAX, ListHasher, ManifestHead, ManifestRecord, Object,
    RootHasher, put_entry, put_list,
};
use crate::storage::records::RecordReader;
use crate::storage::{File, Tree};

const MAGIC: &[u8; MAGIC_BYTES] = b"PWMANIF1";
/// Bytes that are written, and read, at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes that are read at first where the head alone is wanted.
const HEAD_BYTES: usize = 4 << 10;

/// Writes a manifest.
pub struct ManifestWriter {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
    /// Until the first entry.
    head: Option<ManifestHead>,
}

impl ManifestWriter {
    /// Begins the manifest of a snapshot from the node `source` that will be published at `target`;
    /// whatever was at `path` goes.
    pub fn create(
        tree: &dyn Tree,
        path: &RelPath,
        source: &str,
        target: &RelPath,
    ) -> io::Result<Self> {
        match tree.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let head = ManifestHead { source: source.to_owned(), target: target.clone(), class: None };
        let (at, buffer, head) = (0, MAGIC.to_vec(), Some(head));
        Ok(Self { file: tree.create(path)?, at, buffer, head })
    }

    /// The snapshot is of this class; false, and nothing, after the first entry.
    pub fn class(&mut self, class: Class) -> bool {
        let Some(head) = &mut self.head else { return false };
        head.class = Some(class);
        true
    }

    /// Appends an entry, and a file's chunk list.
    pub fn push(
        &mut self,
        entry: &Entry,
        object: Option<Object>,
        chunks: &[ChunkRef],
    ) -> io::Result<()> {
        let lists = chunks.len().div_ceil(LIST_CHUNKS_MAX) as u32;
        self.record(|out| put_entry(out, entry, object.as_ref(), lists))?;
        for part in chunks.chunks(LIST_CHUNKS_MAX) {
            self.record(|out| put_list(out, part))?;
        }
        Ok(())
    }

    /// Appends the records of an entry as another manifest has them, see [`ManifestReader::records`].
    pub fn push_records(&mut self, records: &[u8]) -> io::Result<()> {
        self.append(|buffer| buffer.extend_from_slice(records))
    }

    /// Ends the manifest and makes it durable.
    pub fn finish(&mut self, root: Digest, entries: u64) -> io::Result<()> {
        self.record(|out| ManifestRecord::End { root, entries }.put(out))?;
        self.flush()?;
        self.file.sync()
    }

    fn record(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.append(|buffer| record::push_with(buffer, put))
    }

    fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        if let Some(head) = self.head.take() {
            record::push_with(&mut self.buffer, |out| ManifestRecord::Head(head).put(out));
        }
        put(&mut self.buffer);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// An entry as a manifest file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub entry: Entry,
    /// Content of a file.
    pub object: Option<Object>,
    /// Its chunk list.
    pub chunks: Vec<ChunkRef>,
}

/// How a manifest's entries end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestEnd {
    /// The root digest that is written there, equal to the one over the entries.
    pub root: Digest,
    /// Number of entries.
    pub entries: u64,
}

/// Reads a manifest in order. Damage shows as an error of the kind `InvalidData`.
pub struct ManifestReader {
    file: Arc<dyn File>,
    reader: RecordReader,
    /// Position of the records that were read last.
    read_at: u64,
    head: ManifestHead,
    last: Option<RelPath>,
    root: RootHasher,
    end: Option<ManifestEnd>,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the manifest is damaged")
}

impl ManifestReader {
    /// Opens the manifest at `path`; `None` if there is none.
    pub fn open(tree: &dyn Tree, path: &RelPath) -> io::Result<Option<Self>> {
        Self::open_with(tree, path, BUFFER_BYTES)
    }

    fn open_with(tree: &dyn Tree, path: &RelPath, buffer: usize) -> io::Result<Option<Self>> {
        let file = match tree.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut reader = RecordReader::new(Arc::clone(&file), 0, buffer);
        if !reader.magic(MAGIC)? {
            return Err(damaged());
        }
        let Some(ManifestRecord::Head(head)) = record_of(&mut reader)? else {
            return Err(damaged());
        };
        let (root, read_at) = (RootHasher::default(), reader.position());
        Ok(Some(Self { file, reader, read_at, head, last: None, root, end: None }))
    }

    /// The node that the snapshot came from.
    pub fn source(&self) -> &str {
        &self.head.source
    }

    /// Where the snapshot is published, below the root.
    pub fn target(&self) -> &RelPath {
        &self.head.target
    }

    /// The class of the snapshot, if it is not the node's default.
    pub fn class(&self) -> Option<&Class> {
        self.head.class.as_ref()
    }

    /// The manifest's own file.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The next entry, or `None` at the end; then [`ManifestReader::end`] tells the root.
    pub fn read(&mut self) -> io::Result<Option<Listed>> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.read_at = self.reader.position();
        match record_of(&mut self.reader)? {
            Some(ManifestRecord::Entry { entry, object, lists }) => {
                let after = self.last.as_ref().is_none_or(|last| *last < entry.path);
                if !after || self.root.entries() >= u64::from(OBJECTS_MAX) {
                    return Err(damaged());
                }
                let mut chunks = Vec::new();
                for _ in 0..lists {
                    let Some(ManifestRecord::List(part)) = record_of(&mut self.reader)? else {
                        return Err(damaged());
                    };
                    chunks.extend(part);
                }
                if object.is_some_and(|object| !is_list_of(object, &chunks)) {
                    return Err(damaged());
                }
                self.root.push(&entry, object.map(|o| o.digest));
                self.last = Some(entry.path.clone());
                Ok(Some(Listed { entry, object, chunks }))
            }
            Some(ManifestRecord::End { root, entries }) => {
                if root != self.root.finish() || entries != self.root.entries() {
                    return Err(damaged());
                }
                self.end = Some(ManifestEnd { root, entries });
                Ok(None)
            }
            _ => Err(damaged()),
        }
    }

    /// The records of the entry that was read last, as they are in the file; `None` where they are not
    /// at hand any more.
    pub fn records(&self) -> Option<Bytes> {
        self.reader.since(self.read_at)
    }

    /// Root and count, once everything was read.
    pub fn end(&self) -> Option<ManifestEnd> {
        self.end
    }
}

/// What the manifest at `path` says first; `None` if there is none.
pub fn read_head(tree: &dyn Tree, path: &RelPath) -> io::Result<Option<ManifestHead>> {
    Ok(ManifestReader::open_with(tree, path, HEAD_BYTES)?.map(|reader| reader.head))
}

/// Whether the chunks rise without overlap and have the object's digest.
fn is_list_of(object: Object, chunks: &[ChunkRef]) -> bool {
    let mut list = ListHasher::default();
    chunks.iter().all(|chunk| list.push(chunk))
        && list.end() <= object.len
        && list.finish(object.len) == object.digest
}

fn record_of(reader: &mut RecordReader) -> io::Result<Option<ManifestRecord>> {
    let Some((_, payload)) = reader.read()? else { return Ok(None) };
    ManifestRecord::decode(payload).map(Some).map_err(|_| damaged())
}

/// Where a canonical order leaves directories: gives those that end before `path`.
///
/// Their modes and times are set when they are left, because work below them changes both.
#[derive(Default)]
pub struct DirStack(Vec<Entry>);

impl DirStack {
    /// Directories that are left when `path` comes next, innermost first.
    pub fn leave(&mut self, path: &RelPath) -> Vec<Entry> {
        let mut left = Vec::new();
        while let Some(top) = self.0.pop_if(|top| path.strip(&top.path).is_none()) {
            left.push(top);
        }
        left
    }

    /// Enters a directory.
    pub fn enter(&mut self, entry: &Entry) {
        debug_assert_eq!(entry.kind, EntryKind::Dir, "only directories are entered");
        self.0.push(entry.clone());
    }

    /// All that are left at the end, innermost first.
    pub fn leave_all(self) -> impl Iterator<Item = Entry> {
        self.0.into_iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FileTime;
    use crate::storage::memory::MemoryTree;

    fn read_with(chunks: &[ChunkRef], listed: &[ChunkRef]) -> io::Result<Option<Listed>> {
        let (tree, path) = (MemoryTree::new(1), RelPath::from_bytes(b"m").unwrap());
        let mut list = ListHasher::default();
        assert!(chunks.iter().all(|chunk| list.push(chunk)));
        let len = list.end();
        let object = Object { digest: list.finish(len), len, cutter: 1 };
        let kind = EntryKind::File { len, stamp: crate::base::Stamp::default() };
        let entry = Entry { path: RelPath::root(), kind, mode: 0o644, mtime: FileTime::default() };
        let mut writer = ManifestWriter::create(&tree, &path, "n", &RelPath::root()).unwrap();
        writer.push(&entry, Some(object), listed).unwrap();
        writer.finish(Digest::default(), 1).unwrap();
        ManifestReader::open(&tree, &path).unwrap().unwrap().read()
    }

    #[test]
    fn a_chunk_list_that_is_not_the_objects_is_damage() {
        let chunk = |offset, byte| ChunkRef { offset, len: 10, digest: Digest([byte; 32]) };
        let right = [chunk(0, 1), chunk(10, 2)];
        assert_eq!(read_with(&right, &right).unwrap().unwrap().chunks, right);
        for wrong in [
            vec![chunk(0, 1)],
            vec![chunk(10, 2), chunk(0, 1)],
            vec![chunk(0, 1), chunk(5, 2)],
            vec![chunk(0, 1), chunk(10, 3)],
            vec![chunk(0, 1), chunk(10, 2), chunk(20, 3)],
        ] {
            let error = read_with(&right, &wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
    }

    #[test]
    fn records_that_another_manifest_has_make_the_same_file() {
        let (tree, [one, other]) = (
            MemoryTree::new(1),
            ["one", "other"].map(|p| RelPath::from_bytes(p.as_bytes()).unwrap()),
        );
        let mut writer = ManifestWriter::create(&tree, &one, "n", &RelPath::root()).unwrap();
        for i in 0..50_u32 {
            let mut list = ListHasher::default();
            let len = 10 * u64::from(i % 7);
            let chunk =
                |n: u64| ChunkRef { offset: 10 * n, len: 10, digest: Digest([i as u8; 32]) };
            let chunks: Vec<ChunkRef> = (0..len / 10).map(chunk).collect();
            assert!(chunks.iter().all(|chunk| list.push(chunk)));
            let object = Object { digest: list.finish(len), len, cutter: 1 };
            let kind = EntryKind::File { len, stamp: crate::base::Stamp::default() };
            let path = RelPath::from_bytes(format!("{i:02}").as_bytes()).unwrap();
            let entry = Entry { path, kind, mode: 0o644, mtime: FileTime::default() };
            writer.push(&entry, Some(object), &chunks).unwrap();
        }
        writer.finish(Digest::default(), 50).unwrap();
        // Small buffers split what belongs together.
        for (buffer, copies) in [(0, 1..50), (300, 1..50), (BUFFER_BYTES, 50..51)] {
            let mut reader = ManifestReader::open_with(&tree, &one, buffer).unwrap().unwrap();
            let mut writer = ManifestWriter::create(&tree, &other, "n", &RelPath::root()).unwrap();
            let mut copied = 0;
            for _ in 0..50 {
                let listed = reader.read().unwrap().unwrap();
                if let Some(records) = reader.records() {
                    copied += 1;
                    writer.push_records(&records).unwrap();
                } else {
                    writer.push(&listed.entry, listed.object, &listed.chunks).unwrap();
                }
            }
            writer.finish(Digest::default(), 50).unwrap();
            assert!(copies.contains(&copied), "{copied} with a buffer of {buffer}");
            let bytes = |path| {
                let file = tree.open(path).unwrap();
                let mut bytes = vec![0; file.meta().unwrap().len as usize];
                assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
                bytes
            };
            assert_eq!(bytes(&one), bytes(&other));
        }
    }
}
