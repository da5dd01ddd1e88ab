//! Records of manifests and journals, and the files that are made of them.

use std::sync::Arc;

use prost::Message;

use crate::base::{Digest, FileTime, RelPath, Stamp, TransferId};
use crate::journal::{Head, Inode, Journal, JournalError, Record, done_records};
use crate::manifest::fuzz::{Framed, Payloads, framed};
use crate::manifest::record::{self, Parsed, RECORD_BYTES_MAX, RECORD_HEAD_BYTES};
use crate::manifest::{
    ChunkRef, Entry, EntryKind, EntryMsg, LIST_CHUNKS_MAX, ListHasher, ManifestHead,
    ManifestRecord, Object, RootHasher, decode_list, encode_list,
};
use crate::runtime::manifest_file::{Listed, ManifestEnd, ManifestReader, ManifestWriter};
use crate::storage::{File, MemoryTree, Tree};

/// One record, its sum as it comes or as it should be.
pub(super) fn record(data: &[u8]) -> bool {
    let pushed = |payload: &[u8]| {
        let mut bytes = Vec::new();
        record::push(&mut bytes, payload);
        bytes
    };
    framed(
        data,
        pushed,
        |bytes| match record::parse(bytes) {
            Parsed::Record(payload, _) => Framed::Whole(pushed(payload)),
            Parsed::Short(want) => Framed::Short(want),
            Parsed::Damaged => Framed::Damaged,
        },
        RECORD_HEAD_BYTES + RECORD_BYTES_MAX,
    )
}

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    let mut whole = vec![0];
    record::push(&mut whole, b"payload");
    record::push(&mut whole, b"");
    vec![whole, b"\x01payload".to_vec()]
}

pub(super) fn entry(data: &[u8]) -> bool {
    let Ok(message) = EntryMsg::decode(data) else { return false };
    let Ok(entry) = Entry::try_from(message) else { return false };
    let again = EntryMsg::decode(&EntryMsg::from(&entry).encode_to_vec()[..]);
    assert_eq!(again.map(Entry::try_from), Ok(Ok(entry)));
    true
}

pub(super) fn entry_seeds() -> Vec<Vec<u8>> {
    entries().iter().map(|entry| EntryMsg::from(entry).encode_to_vec()).collect()
}

pub(super) fn chunk_list(data: &[u8]) -> bool {
    let Ok(chunks) = decode_list(data) else { return false };
    assert!(chunks.len() <= LIST_CHUNKS_MAX);
    assert!(chunks.iter().all(|chunk| chunk.len > 0 && chunk.end() > chunk.offset));
    assert_eq!(encode_list(&chunks), data);
    true
}

pub(super) fn chunk_list_seeds() -> Vec<Vec<u8>> {
    vec![encode_list(&chunks(3)), Vec::new()]
}

pub(super) fn manifest(data: &[u8]) -> bool {
    let Ok(record) = ManifestRecord::decode(data) else { return false };
    assert_eq!(ManifestRecord::decode(&record.encode()[..]), Ok(record));
    true
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    manifest_records().iter().map(ManifestRecord::encode).collect()
}

pub(super) fn journal(data: &[u8]) -> bool {
    let Ok(record) = Record::decode(data) else { return false };
    assert_eq!(Record::decode(&record.encode()), Ok(record));
    true
}

pub(super) fn journal_seeds() -> Vec<Vec<u8>> {
    journal_records().iter().map(Record::encode).collect()
}

/// A file of records. Its first byte says what follows: the file's bytes (0), or payloads, each after its
/// length u16 LE, of which the file is made with sums that are right (1).
fn packed<'a>(payloads: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut out = vec![1];
    for payload in payloads {
        out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        out.extend_from_slice(payload);
    }
    out
}

fn place(name: &str) -> RelPath {
    RelPath::from_typed(name.as_bytes()).unwrap_or_default()
}

fn tree_with(path: &RelPath, content: &[u8]) -> MemoryTree {
    let tree = MemoryTree::new(1);
    let file: Arc<dyn File> = tree.create(path).expect("an empty tree takes a file");
    file.write_at(content, 0).expect("a file without faults takes bytes");
    tree
}

const JOURNAL_MAGIC: &[u8; 8] = b"PWJRNL01";
const MANIFEST_MAGIC: &[u8; 8] = b"PWMANIF1";

/// A journal is replayed without a panic; what it says is finished can be read back; taking it up
/// cuts what cannot be read and keeps the rest; and then it takes records.
pub(super) fn journal_file(data: &[u8]) -> bool {
    let Some((&mode, rest)) = data.split_first() else { return false };
    let mut content = JOURNAL_MAGIC.to_vec();
    if mode == 0 {
        content = rest.to_vec();
    } else {
        Payloads(rest).for_each(|payload| record::push(&mut content, payload));
    }
    let (path, head) = (place("journal"), head());
    let tree = tree_with(&path, &content);
    let done: Vec<RelPath> = Payloads(rest)
        .filter_map(|payload| match Record::decode(payload) {
            Ok(Record::Done { entry, .. }) => Some(entry.path),
            _ => None,
        })
        .collect();
    let found = match Journal::replay(&tree, &path) {
        Err(JournalError::Newer { .. }) => {
            assert!(matches!(Journal::open(&tree, &path, &head), Err(JournalError::Newer { .. })));
            return false;
        }
        found => found.expect("memory does not fail"),
    };
    let finished = |journal: &Journal, replay: &crate::journal::Replay| -> Vec<Option<u64>> {
        let at = |path: &RelPath| {
            let position = replay.done_at(path)?;
            let object = journal.done(position).expect("what replay names is there");
            assert_eq!(object.entry.path, *path);
            Some(position)
        };
        done.iter().map(at).collect()
    };
    let accepted = found.is_some();
    let (old_head, old_finished) = match &found {
        None => (head.clone(), vec![None; done.len()]),
        Some((journal, replay)) => {
            assert!(replay.cut_bytes <= content.len() as u64);
            (replay.head.clone(), finished(journal, replay))
        }
    };
    let (mut journal, replay) = Journal::open(&tree, &path, &head).expect("it opens");
    assert_eq!(replay.head, old_head);
    assert_eq!(replay.is_empty(), found.is_none_or(|(_, replay)| replay.is_empty()));
    assert_eq!(finished(&journal, &replay), old_finished);
    let added = entries().pop().expect("there are entries");
    let positions = journal.append(&done_of(&added)).expect("it takes records");
    let (journal, replay) =
        Journal::replay(&tree, &path).expect("it is read").expect("it is there");
    assert_eq!(replay.cut_bytes, 0, "nothing was behind what was kept");
    assert_eq!(replay.done_at(&added.path), positions.first().copied());
    assert_eq!(journal.done(positions[0]).expect("it was added").chunks, chunks(3));
    for (path, old) in done.iter().zip(old_finished) {
        assert!(*path == added.path || replay.done_at(path) == old);
    }
    accepted
}

pub(super) fn journal_file_seeds() -> Vec<Vec<u8>> {
    let payloads = journal_seeds();
    let mut raw = vec![0];
    raw.extend_from_slice(JOURNAL_MAGIC);
    for payload in &payloads {
        record::push(&mut raw, payload);
    }
    let torn = raw[..raw.len() - 5].to_vec();
    vec![packed(&payloads), packed(&payloads[..3]), raw, torn]
}

/// A manifest is read without a panic, in order; one that is read to its end is written again and
/// reads the same. The end record of a file made of payloads says what is right.
pub(super) fn manifest_file(data: &[u8]) -> bool {
    let Some((&mode, rest)) = data.split_first() else { return false };
    let mut content = MANIFEST_MAGIC.to_vec();
    if mode == 0 {
        content = rest.to_vec();
    } else {
        let mut root = RootHasher::default();
        for payload in Payloads(rest) {
            match ManifestRecord::decode(payload) {
                Ok(ManifestRecord::Entry { entry, object, .. }) => {
                    root.push(&entry, object.map(|object| object.digest));
                    record::push(&mut content, payload);
                }
                Ok(ManifestRecord::End { .. }) => {
                    let (root, entries) = (root.finish(), root.entries());
                    let end = ManifestRecord::End { root, entries };
                    record::push(&mut content, &end.encode());
                }
                _ => record::push(&mut content, payload),
            }
        }
    }
    let (path, again) = (place("manifest"), place("again"));
    let tree = tree_with(&path, &content);
    let Some((source, target, listed, end)) = read(&tree, &path) else { return false };
    assert!(listed.is_sorted_by(|one, next| one.entry.path < next.entry.path));
    assert_eq!(end.entries, listed.len() as u64);
    let mut writer =
        ManifestWriter::create(&tree, &again, &source, &target).expect("a tree without faults");
    for one in &listed {
        writer.push(&one.entry, one.object, &one.chunks).expect("a tree without faults");
    }
    writer.finish(end.root, end.entries).expect("a tree without faults");
    assert_eq!(read(&tree, &again), Some((source, target, listed, end)));
    true
}

type Read = (String, RelPath, Vec<Listed>, ManifestEnd);

fn read(tree: &MemoryTree, path: &RelPath) -> Option<Read> {
    let mut reader = ManifestReader::open(tree, path).ok()?.expect("the file is there");
    let mut listed = Vec::new();
    while let Some(one) = reader.read().ok()? {
        listed.push(one);
    }
    Some((reader.source().to_owned(), reader.target().clone(), listed, reader.end()?))
}

pub(super) fn manifest_file_seeds() -> Vec<Vec<u8>> {
    let (tree, path) = (MemoryTree::new(1), place("manifest"));
    let payloads = manifest_seeds();
    let mut raw = vec![0];
    if let Ok(mut writer) = ManifestWriter::create(&tree, &path, "onprem", &place("models/m")) {
        let mut root = RootHasher::default();
        for entry in entries() {
            let (object, chunks) = content_of(&entry);
            root.push(&entry, object.map(|object| object.digest));
            writer.push(&entry, object, &chunks).expect("a tree without faults");
        }
        writer.finish(root.finish(), root.entries()).expect("a tree without faults");
        let file = tree.open(&path).expect("it was written");
        let mut content = vec![0; file.meta().expect("it is open").len as usize];
        file.read_at(&mut content, 0).expect("it is open");
        raw.extend(content);
    }
    vec![packed(&payloads), packed([&payloads[0], &payloads[payloads.len() - 1]]), raw]
}

fn head() -> Head {
    Head { transfer_id: TransferId(7), target: place("models/m"), source: "onprem".to_owned() }
}

fn chunks(count: u64) -> Vec<ChunkRef> {
    let chunk = |n| ChunkRef { offset: n * 10, len: 10, digest: Digest::of(&[n as u8]) };
    (0..count).map(chunk).collect()
}

fn entries() -> Vec<Entry> {
    let entry = |path, kind| Entry {
        path: place(path),
        kind,
        mode: 0o640,
        mtime: FileTime { secs: -5, nanos: 999 },
    };
    vec![
        entry("dir", EntryKind::Dir),
        entry("dir/link", EntryKind::Symlink(b"../x".to_vec())),
        entry("file", EntryKind::File { len: 30, stamp: Stamp([3; 16]) }),
    ]
}

/// The content of a file that has any.
fn content_of(entry: &Entry) -> (Option<Object>, Vec<ChunkRef>) {
    if !entry.is_file() {
        return (None, Vec::new());
    }
    let (mut list, chunks) = (ListHasher::default(), chunks(3));
    assert!(chunks.iter().all(|chunk| list.push(chunk)), "they rise");
    let object = Object { digest: list.finish(entry.len()), len: entry.len(), cutter: 3 };
    (Some(object), chunks)
}

fn done_of(entry: &Entry) -> Vec<Record> {
    let inode = Inode { ino: 9, ctime: FileTime { secs: 7, nanos: 8 }, len: entry.len() };
    let object = Object { digest: Digest::of(b"object"), len: entry.len(), cutter: 3 };
    done_records(entry, object, inode, &chunks(3))
}

fn manifest_records() -> Vec<ManifestRecord> {
    let mut records = vec![ManifestRecord::Head(ManifestHead {
        source: "onprem".to_owned(),
        target: place("models/m"),
        class: "restricted".parse().ok(),
    })];
    for entry in entries() {
        let (object, chunks) = content_of(&entry);
        let lists = u32::from(!chunks.is_empty());
        records.push(ManifestRecord::Entry { entry, object, lists });
        if lists > 0 {
            records.push(ManifestRecord::List(chunks));
        }
    }
    records.push(ManifestRecord::End { root: Digest::of(b"root"), entries: 3 });
    records
}

fn journal_records() -> Vec<Record> {
    let mut records = vec![Record::Head(head())];
    let mut file = entries().pop().expect("there are entries");
    for name in ["a", "a/b"] {
        file.path = place(name);
        records.extend(done_of(&file));
    }
    let (path, stamp) = (place("c"), Stamp([3; 16]));
    records.push(Record::Chunks { path, stamp, chunks: chunks(2) });
    records.push(Record::Publishing { root: Digest::of(b"root"), entries: 3 });
    records
}
