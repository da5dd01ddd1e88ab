//! What the rows, entries and runs of this module promise; `crate::fuzzing` lists them.

use std::sync::Arc;

use super::buffer::Buffer;
use super::entry::{ENTRY_BYTES, Entry, Spot};
use super::rows::{Block, BlockReader};
use super::run::{HEADER_BYTES, Header, Run};
use super::writer::RunWriter;
use crate::base::{Digest, RelPath};
use crate::storage::{File, MemoryTree, Tree};

/// Most files of a block that are looked at.
const FILES_MAX: u32 = 64;

/// What decodes encodes to the same bytes.
pub(crate) fn entry(data: &[u8]) -> bool {
    let Some((bytes, _)) = data.split_first_chunk::<ENTRY_BYTES>() else { return false };
    let Some(entry) = Entry::decode(bytes) else { return false };
    assert_eq!(entry.encode(), *bytes, "there is one form of an entry");
    true
}

fn entries() -> Vec<Entry> {
    let first = Spot { base: 1, file: 300, offset: 1 << 40, len: 2 << 20 };
    let last = Spot { base: u32::MAX, file: u32::MAX, offset: u64::MAX >> 1, len: u32::MAX };
    [first, last, Spot::forgotten(7)].map(|spot| Entry { key: 1 << 100, spot }).into()
}

pub(crate) fn entry_seeds() -> Vec<Vec<u8>> {
    entries().iter().map(|entry| entry.encode().to_vec()).collect()
}

/// A run that opens finds only keys that are asked for, takes no more memory than it is long, and
/// never panics. The bytes are taken for the entries and hints of the header at their front, so
/// that damage gets past the digests.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((bytes, rest)) = data.split_first_chunk::<HEADER_BYTES>() else { return false };
    let Some(mut header) = Header::decode(bytes) else { return false };
    let hints = (header.hints_offset() as usize).saturating_sub(HEADER_BYTES);
    header.hints_digest = Digest::of(rest.get(hints..).unwrap_or_default());
    let file = file_of(&[&header.encode(), rest].concat());
    let Some(run) = file.and_then(|file| Run::open(0, file, header.seal()).ok()) else {
        return false;
    };
    let keys: Vec<(u128, usize)> = rest
        .as_chunks::<ENTRY_BYTES>()
        .0
        .iter()
        .take(64)
        .map(|bytes| Entry::decode_unchecked(bytes).key)
        .chain([0, u128::MAX])
        .zip(0..)
        .collect();
    run.find(&keys, &mut |number, _| assert!(number < keys.len())).is_ok()
}

pub(crate) fn run_seeds() -> Vec<Vec<u8>> {
    let mut buffer = Buffer::default();
    for n in 0..40_u32 {
        let key = Digest::of(&n.to_le_bytes()).short();
        buffer.put(key, Spot { base: 1, file: n, offset: n.into(), len: 9 });
        buffer.put(
            key,
            if n % 3 == 0 {
                Spot::forgotten(2)
            } else {
                Spot { base: 2, file: n, offset: 7, len: 9 }
            },
        );
    }
    written(&buffer).into_iter().collect()
}

fn written(buffer: &Buffer) -> Option<Vec<u8>> {
    let file = file_of(&[])?;
    let mut writer = RunWriter::new(0, Arc::clone(&file), buffer.len() as u64).ok()?;
    for entry in buffer.entries() {
        writer.push(&entry.encode(), entry.spot.is_forgotten()).ok()?;
    }
    let run = writer.finish().ok()??;
    let mut bytes = vec![0; run.header.file_bytes() as usize];
    file.read_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

fn file_of(content: &[u8]) -> Option<Arc<dyn File>> {
    let tree = MemoryTree::new(0);
    let file = tree.create(&RelPath::from_bytes(b"run").ok()?).ok()?;
    file.write_at(content, 0).ok()?;
    Some(file)
}

/// Whatever paths a block gives, a block of these paths gives the same.
pub(crate) fn block(data: &[u8]) -> bool {
    let Some(mut reader) = BlockReader::new(data.into()) else { return false };
    let paths: Vec<RelPath> =
        (0..FILES_MAX).map_while(|nth| RelPath::from_bytes(reader.path(nth)?).ok()).collect();
    let mut block = Block::default();
    for path in &paths {
        block.push(path);
    }
    let mut again = BlockReader::new(block.encode().into());
    for (nth, path) in paths.iter().enumerate() {
        let same = again.as_mut().and_then(|again| again.path(nth as u32));
        assert_eq!(same, Some(path.as_bytes()));
    }
    assert!(again.is_some_and(|mut again| again.path(block.files).is_none()));
    !paths.is_empty()
}

pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let block_of = |names: &[&str]| {
        let mut block = Block::default();
        for name in names {
            block.push(&RelPath::from_typed(name.as_bytes()).unwrap_or_default());
        }
        block.encode()
    };
    vec![
        block_of(&["a", "a/b", "a/bc", "z"]),
        block_of(&[&"deep/".repeat(60), "model-00001.safetensors", "model-00002.safetensors"]),
        block_of(&[""]),
    ]
}
