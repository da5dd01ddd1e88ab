//! What the rows of this module promise; `crate::fuzzing` lists them.

use super::PLACES_MAX;
use super::rows::{Block, Spot, Spots};
use crate::base::RelPath;

/// Most files of a block that are looked at; finding one reads all before it.
const FILES_MAX: u32 = 64;

pub(crate) fn spots(data: &[u8]) -> bool {
    let Some(spots) = Spots::decode(data) else { return false };
    assert!((1..=PLACES_MAX).contains(&spots.iter().count()));
    let mut again = Vec::new();
    spots.encode(&mut again);
    assert!(again.len() <= data.len(), "numbers are written in their shortest form");
    assert_eq!(Spots::decode(&again), Some(spots));
    true
}

pub(crate) fn spots_seeds() -> Vec<Vec<u8>> {
    let first = Spot { base: 1, file: 300, offset: 1 << 40, len: 2 << 20 };
    let last = Spot { base: u32::MAX, file: u32::MAX, offset: u64::MAX, len: u32::MAX };
    [Spots { first, second: None }, Spots { first: last, second: Some(first) }]
        .map(|spots| {
            let mut bytes = Vec::new();
            spots.encode(&mut bytes);
            bytes
        })
        .into()
}

/// Whatever paths a block gives, a block of these paths gives the same.
pub(crate) fn block(data: &[u8]) -> bool {
    let _ = Block::path(data, u32::MAX);
    let paths: Vec<RelPath> = (0..FILES_MAX).map_while(|nth| Block::path(data, nth)).collect();
    let mut block = Block::default();
    for path in &paths {
        block.push(path);
    }
    for (nth, path) in paths.iter().enumerate() {
        assert_eq!(Block::path(&block.bytes, nth as u32).as_ref(), Some(path));
    }
    assert_eq!(Block::path(&block.bytes, block.files), None);
    !paths.is_empty()
}

pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let block_of = |names: &[&str]| {
        let mut block = Block::default();
        for name in names {
            block.push(&RelPath::from_typed(name.as_bytes()).unwrap_or_default());
        }
        block.bytes
    };
    vec![
        block_of(&["a", "a/b", "a/bc", "z"]),
        block_of(&[&"deep/".repeat(60), "model-00001.safetensors", "model-00002.safetensors"]),
        block_of(&[""]),
    ]
}
